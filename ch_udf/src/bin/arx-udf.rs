//! Answers ARX's functions for ClickHouse.

use std::process::ExitCode;

use arx_sidecar::error::Chain;
use arx_sidecar::udf::close_inherited;
use arx_sidecar::udf::program::{Arguments, run};
use clap::Parser;

fn main() -> ExitCode {
    close_inherited();
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("arx-udf: {}", Chain(&error));
            ExitCode::FAILURE
        }
    }
}
