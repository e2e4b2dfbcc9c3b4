//! The command line of `arx-udf`, which ClickHouse starts once for each member of a function's pool and feeds through pipes.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use clap::Parser;
use nix::fcntl::{FcntlArg, fcntl};

use crate::functions::Function;
use crate::models::{Models, UdfError};
use crate::protocol::BUFFER;
use crate::vectors;

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
