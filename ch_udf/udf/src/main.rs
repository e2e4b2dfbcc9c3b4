//! Answers ARX's functions for ClickHouse.

use std::process::ExitCode;

use arx_udf::{Arguments, close_inherited, run};
use clap::Parser;

fn main() -> ExitCode {
    close_inherited();
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("arx-udf: {:#}", anyhow::Error::from(error));
            ExitCode::FAILURE
        }
    }
}
