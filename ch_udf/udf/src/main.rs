//! Answers ARX's functions for ClickHouse.

#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::io::Write;
use std::process::ExitCode;

use arx_udf::{Arguments, close_inherited, run};
use clap::Parser;

fn main() -> ExitCode {
    close_inherited();
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without a reader, the exit code is left.
            let _ = writeln!(std::io::stderr(), "arx-udf: {:#}", anyhow::Error::from(error));
            ExitCode::FAILURE
        }
    }
}
