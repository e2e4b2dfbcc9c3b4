//! Generates transfers of any number, and prints the model of growth.

use std::io::{BufWriter, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use arx_bench::page::Record;
use arx_bench::scale;
use clap::Parser;

#[derive(Parser)]
#[command(version, about)]
enum ScaleArguments {
    /// Write transfers in the text format of COPY to the standard output
    Generate {
        /// Number of transfers
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
        transfers: u64,
        /// Number of wallets
        #[arg(long, value_parser = clap::value_parser!(u32).range(2..))]
        wallets: u32,
        /// Seed of the random numbers
        #[arg(long, default_value_t = 3)]
        seed: u64,
    },
    /// Print the model of the measured growth, and what it says of larger graphs
    Model {
        /// File of the committed results
        #[arg(long, default_value = "bench/results.json")]
        results: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(&ScaleArguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &ScaleArguments) -> Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    match arguments {
        ScaleArguments::Generate { transfers, wallets, seed } => {
            scale::generate(&mut out, *transfers, *wallets, *seed).context("write transfers")
        }
        ScaleArguments::Model { results } => {
            let growth = Record::read(results)?.growth.context("the results contain no growth")?;
            out.write_all(scale::render(&growth.date, &growth.points)?.as_bytes()).context("write the model")
        }
    }
}
