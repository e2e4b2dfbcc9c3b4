//! Standard output and standard error of commands: no other place writes to them. `println!` ends
//! a process with a panic when the reader of a pipe has gone; here that is an error like any other,
//! and [`end_as_closed`] ends the process as it ends other programs. Contains the one call that
//! changes how a signal is handled.
#![allow(unsafe_code)]

use std::error::Error;
use std::fmt::Display;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::process::ExitCode;

use nix::sys::signal::{SigHandler, Signal, raise, signal};

/// Exit code of shells for a program that SIGPIPE ended.
const ENDED_BY_SIGPIPE: u8 = 128 + 13;

/// An error of standard output, inside an [`io::Error`] of the same kind.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
struct OutputError {
    source: io::Error,
}

/// Standard output, whose errors say so.
struct Output;

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stdout().write(bytes).map_err(named)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush().map_err(named)
    }
}

fn named(source: io::Error) -> io::Error {
    io::Error::new(source.kind(), OutputError { source })
}

/// Returns standard output for long results. The caller flushes it.
pub(super) fn buffered() -> impl Write + Send {
    BufWriter::new(Output)
}

/// Prints a text.
///
/// # Errors
/// Errors of standard output.
pub(super) fn print(text: impl Display) -> io::Result<()> {
    let mut out = buffered();
    write!(out, "{text}")?;
    out.flush()
}

/// Prints a text and a line break.
///
/// # Errors
/// Errors of standard output.
pub(super) fn print_line(text: impl Display) -> io::Result<()> {
    print(format_args!("{text}\n"))
}

/// Prints a line on standard error, if someone reads it.
pub(super) fn report(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Returns whether a command failed because the reader of its standard output has gone.
pub(super) fn is_closed(error: &(dyn Error + 'static)) -> bool {
    let is_closed_output = |error: &io::Error| {
        error.kind() == ErrorKind::BrokenPipe && error.get_ref().is_some_and(|inner| inner.is::<OutputError>())
    };
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(is_closed_output) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Ends this process by SIGPIPE. Rust's runtime ignores the signal, and so do the servers'
/// connections, which report a closed socket as an error; so it has its default only here.
pub(super) fn end_as_closed() -> ExitCode {
    // SAFETY: the default action runs no code of this process.
    if unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }.is_ok() {
        // An error leaves the exit code.
        let _ = raise(Signal::SIGPIPE);
    }
    ExitCode::from(ENDED_BY_SIGPIPE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Chain, SidecarError};

    #[test]
    fn only_a_closed_standard_output_ends_a_command_quietly() {
        let closed = || io::Error::from(ErrorKind::BrokenPipe);
        let wrapped = |source| SidecarError::Io { doing: "write", path: "the series".into(), source };
        assert!(is_closed(&named(closed())));
        assert!(is_closed(&wrapped(named(closed()))));
        assert!(!is_closed(&closed()), "of a socket");
        assert!(!is_closed(&wrapped(closed())));
        let full = named(io::Error::from(ErrorKind::StorageFull));
        assert!(!is_closed(&full));
        assert_eq!(Chain(&full).to_string(), "cannot write to standard output: no storage space");
    }
}
