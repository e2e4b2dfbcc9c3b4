//! The command line of `arx-udf`. ClickHouse starts one process for each member of a function's
//! pool, and talks to it through pipes.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use clap::Parser;
use nix::fcntl::{FcntlArg, fcntl};

use crate::functions::Function;
use crate::models::{Models, UdfError};
use crate::protocol::BUFFER;
use crate::vectors::known_answers;

/// Answers an ARX function for ClickHouse: chunks of RowBinary on standard input, one answer per
/// row on standard output.
#[derive(Debug, Parser)]
#[command(name = "arx-udf", version)]
pub struct Arguments {
    /// The function
    #[arg(value_enum, required_unless_present = "self_test")]
    function: Option<Function>,
    /// Scorecard as JSON [default: the compiled-in one]
    #[arg(long, value_name = "FILE", env = "ARX_UDF_SCORECARD")]
    scorecard: Option<PathBuf>,
    /// Prevalence and bands of networks as JSON [default: those of the scorecard, and 1 %]
    #[arg(long, value_name = "FILE", env = "ARX_UDF_CALIBRATION")]
    calibration: Option<PathBuf>,
    /// Thresholds of wallet types as JSON [default: the compiled-in ones]
    #[arg(long, value_name = "FILE", env = "ARX_UDF_THRESHOLDS")]
    thresholds: Option<PathBuf>,
    /// Paths of files are relative to the folder of this program
    #[arg(long)]
    beside: bool,
    /// Ask every function (or this one) questions with known answers, and report wrong answers
    #[arg(long)]
    self_test: bool,
    /// Ignored: a new value makes ClickHouse restart the program
    #[arg(long, hide = true)]
    revision: Option<String>,
}

/// Runs the command line.
///
/// # Errors
/// Every [`UdfError`].
pub fn run(arguments: &Arguments) -> Result<(), UdfError> {
    let read = |path: &Option<PathBuf>| path.as_deref().map(|path| read(path, arguments.beside)).transpose();
    let (scorecard, calibration) = (read(&arguments.scorecard)?, read(&arguments.calibration)?);
    let thresholds = read(&arguments.thresholds)?;
    let models = Models::from_json(scorecard.as_deref(), calibration.as_deref(), thresholds.as_deref())?;
    if arguments.self_test {
        return self_test(&models, arguments.function);
    }
    let function = arguments.function.ok_or(UdfError::NoFunction)?;
    // Bypasses the standard library's buffers, which are small and search for line ends.
    let file = |fd: std::os::fd::BorrowedFd<'_>| {
        // A larger pipe is faster; failing to enlarge it is harmless.
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

/// Prints a line for each function.
fn self_test(models: &Models, only: Option<Function>) -> Result<(), UdfError> {
    let (mut asked, mut wrong) = (0, 0);
    for vectors in known_answers(models)?.chunk_by(|a, b| a.function == b.function) {
        let Some(function) = vectors.first().map(|vector| vector.function) else { continue };
        if only.is_some_and(|only| only != function) {
            continue;
        }
        let mut faults = Vec::new();
        for vector in vectors {
            asked += 1;
            let answer = vector.ask(models)?;
            if !vector.matches(&answer) {
                faults.push(format!("{} is {answer}, not {}", vector.sql, vector.expected));
            }
        }
        wrong += faults.len();
        let outcome = if faults.is_empty() { "ok".to_owned() } else { format!("WRONG: {}", faults.join("; ")) };
        // Without a reader, the result is left.
        let _ = writeln!(std::io::stdout(), "{} ({} answers): {outcome}", function.sql_name(), vectors.len());
    }
    if wrong > 0 { Err(UdfError::SelfTest { wrong, asked }) } else { Ok(()) }
}
