//! Measures ARX side by side with its peers and writes the report.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use arx_bench::data::{Source, prepare};
use arx_bench::{import, machine, report, wallet_history};
use arx_tests::{Stack, StackOptions, programs};
use clap::Parser;

#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// Folder with transactions_slim.csv.gz and nodes.csv.gz [default: a data set beside the workspace, else the sample]
    #[arg(long, env = "DATA")]
    data: Option<PathBuf>,
    /// Rows of a loading run
    #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(u64).range(1..))]
    rows: u64,
    /// Runs of a fast case
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Runs of a slow case
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    slow_runs: u16,
    /// Only the cases whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// Where the report for programs goes
    #[arg(long, default_value = "target/bench/report.json")]
    json: PathBuf,
    /// Where the report for people goes
    #[arg(long, default_value = "bench/REPORT.md")]
    markdown: PathBuf,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<()> {
    let source = Source::find(arguments.data.as_deref(), &programs::workspace())?;
    // Durable, for that is how both sides are used.
    let stack = Stack::start(&StackOptions { durable: true, ..StackOptions::default() })?;
    let wanted = |case: &str| case.contains(&arguments.only);
    let mut measurements = Vec::new();

    if wanted("import.copy.vs_psql_copy") {
        eprintln!("preparing {} rows of {}", arguments.rows, source.name());
        let folder = stack.folder().join("data");
        std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let data = prepare(&source, arguments.rows, &folder)?;
        eprintln!("import.copy.vs_psql_copy");
        measurements.push(import::measure(&stack, &source, &data, arguments.slow_runs.into())?);
    }
    if wanted("wallet_history.vs_or_query") {
        eprintln!("wallet_history.vs_or_query");
        measurements.push(wallet_history::measure(&stack, &source, arguments.runs.into()).await?);
    }

    let version = stack.bare_database("version")?.query("SHOW server_version")?;
    report::write(&arguments.json, &arguments.markdown, &machine::description(&version), &measurements)?;
    for one in &measurements {
        println!("{}: ours {:.3}, peer {:.3} {}, ratio {:.2}", one.case, one.ours, one.peer, one.unit, one.ratio);
    }
    Ok(())
}
