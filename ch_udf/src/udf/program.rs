//! The command line of `arx-udf`, which ClickHouse starts once for each member of a function's pool and feeds through pipes.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use arx_core::behaviour::Thresholds;
use arx_core::risk::compiled_in;
use arx_core::risk::features::NAMES;
use arx_core::risk::scorecard::{Scorecard, ScorecardError};
use clap::Parser;
use nix::fcntl::{FcntlArg, fcntl};
use thiserror::Error;

use super::functions::{
    AddressValid, Function, NormalizeAddress, RiskExplain, RiskProbability, RiskScore, WalletTypes,
};
use super::protocol::{BUFFER, ServeError, serve};
use super::vectors;

/// Answers an ARX function for ClickHouse: chunks of RowBinary on standard input, one answer a row on standard output.
#[derive(Debug, Parser)]
#[command(name = "arx-udf", version)]
pub struct Arguments {
    /// The function
    #[arg(value_enum, required_unless_present = "self_test")]
    pub function: Option<Function>,
    /// Scorecard as JSON [default: the one compiled in]
    #[arg(long, value_name = "FILE", env = "ARX_UDF_SCORECARD")]
    pub scorecard: Option<PathBuf>,
    /// Thresholds of wallet types as JSON [default: those compiled in]
    #[arg(long, value_name = "FILE", env = "ARX_UDF_THRESHOLDS")]
    pub thresholds: Option<PathBuf>,
    /// The files are in the folder of this program
    #[arg(long)]
    pub beside: bool,
    /// Ask every function (or this one) what is known, and say whether it answers right
    #[arg(long)]
    pub self_test: bool,
    /// Not looked at: another value makes ClickHouse start the program anew
    #[arg(long, hide = true)]
    pub revision: Option<String>,
}

/// Why `arx-udf` cannot answer.
#[derive(Debug, Error)]
pub enum UdfError {
    /// A file cannot be read.
    #[error("read {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not a scorecard, or not one over the features of this version.
    #[error(transparent)]
    Scorecard(#[from] ScorecardError),
    /// Not thresholds.
    #[error("thresholds are not readable")]
    Thresholds(#[from] serde_json::Error),
    /// Standard input or output is closed.
    #[error("standard input and output are needed")]
    Streams(#[source] std::io::Error),
    /// The input is damaged or the output lost.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A function answers wrongly.
    #[error("{wrong} of {asked} answers are wrong")]
    SelfTest {
        /// Wrong answers.
        wrong: usize,
        /// Answers asked for.
        asked: usize,
    },
    /// No function was named.
    #[error("no function was named")]
    NoFunction,
}

/// What the functions judge by.
#[derive(Debug, Clone)]
pub struct Models {
    /// For risk.
    pub scorecard: Scorecard,
    /// For behaviour.
    pub thresholds: Thresholds,
}

impl Models {
    /// Those compiled in.
    ///
    /// # Errors
    /// None, as a test proves.
    pub fn compiled_in() -> Result<Self, UdfError> {
        Ok(Self { scorecard: compiled_in()?, thresholds: Thresholds::default() })
    }

    /// From their documents; what is not given is what is compiled in.
    ///
    /// # Errors
    /// [`UdfError::Scorecard`], [`UdfError::Thresholds`].
    pub fn from_json(scorecard: Option<&str>, thresholds: Option<&str>) -> Result<Self, UdfError> {
        let models = Self {
            scorecard: scorecard.map_or_else(compiled_in, Scorecard::from_json)?,
            thresholds: thresholds.map_or_else(|| Ok(Thresholds::default()), serde_json::from_str)?,
        };
        models.scorecard.bind(&NAMES)?;
        Ok(models)
    }

    /// Answers all that comes from `source`.
    ///
    /// # Errors
    /// [`UdfError::Serve`].
    pub fn answer<R: Read, W: Write>(&self, function: Function, source: R, sink: W) -> Result<(), UdfError> {
        let bound = || self.scorecard.bind(&NAMES);
        match function {
            Function::RiskScore => serve(&mut RiskScore::new(bound()?), source, sink)?,
            Function::RiskProbability => serve(&mut RiskProbability::new(bound()?), source, sink)?,
            Function::RiskExplain => serve(&mut RiskExplain::new(bound()?), source, sink)?,
            Function::WalletType => serve(&mut WalletTypes(self.thresholds), source, sink)?,
            Function::NormalizeAddress => serve(&mut NormalizeAddress::default(), source, sink)?,
            Function::AddressValid => serve(&mut AddressValid::default(), source, sink)?,
        }
        Ok(())
    }
}

/// Does what the command line says.
///
/// # Errors
/// [`UdfError`].
pub fn run(arguments: &Arguments) -> Result<(), UdfError> {
    let read = |path: &Option<PathBuf>| path.as_deref().map(|path| read(path, arguments.beside)).transpose();
    let (scorecard, thresholds) = (read(&arguments.scorecard)?, read(&arguments.thresholds)?);
    let models = Models::from_json(scorecard.as_deref(), thresholds.as_deref())?;
    if arguments.self_test {
        return self_test(&models, arguments.function);
    }
    let function = arguments.function.ok_or(UdfError::NoFunction)?;
    // The files themselves: the standard library's buffers are small, and look for ends of lines.
    let file = |fd: std::os::fd::BorrowedFd<'_>| {
        // As much at a time as the kernel allows; with less it works as well.
        let _ = fcntl(fd, FcntlArg::F_SETPIPE_SZ(BUFFER as libc::c_int));
        fd.try_clone_to_owned().map(File::from).map_err(UdfError::Streams)
    };
    models.answer(function, file(std::io::stdin().as_fd())?, file(std::io::stdout().as_fd())?)
}

fn read(path: &Path, beside: bool) -> Result<String, UdfError> {
    let failed = |source| UdfError::File { path: path.to_owned(), source };
    let folder = if beside { std::env::current_exe().map_err(failed)?.parent().map(Path::to_owned) } else { None };
    let path = folder.map_or_else(|| path.to_owned(), |folder| folder.join(path));
    std::fs::read_to_string(&path).map_err(|source| UdfError::File { path, source })
}

/// Says a line for each function.
fn self_test(models: &Models, only: Option<Function>) -> Result<(), UdfError> {
    let (mut asked, mut wrong) = (0, 0);
    for of_function in vectors::known(models)?.chunk_by(|a, b| a.function == b.function) {
        let Some(function) = of_function.first().map(|vector| vector.function) else { continue };
        if only.is_some_and(|only| only != function) {
            continue;
        }
        let mut faults = Vec::new();
        for vector in of_function {
            asked += 1;
            let answer = vector.ask(models)?;
            if !vector.is_right(&answer) {
                faults.push(format!("{} is {answer}, not {}", vector.sql, vector.expected));
            }
        }
        wrong += faults.len();
        let outcome = if faults.is_empty() { "ok".to_owned() } else { format!("WRONG: {}", faults.join("; ")) };
        println!("{} ({} answers): {outcome}", function.sql_name(), of_function.len());
    }
    if wrong > 0 { Err(UdfError::SelfTest { wrong, asked }) } else { Ok(()) }
}
