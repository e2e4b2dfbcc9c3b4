//! Measures ARX side by side with its peers and writes the report.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use arx_bench::data::{DataSource, PreparedData, prepare};
use arx_bench::graph::{Runs, growth};
use arx_bench::page::Record;
use arx_bench::report::{Measurement, Results};
use arx_bench::sets::Sets;
use arx_bench::{
    alerts, backup, cache, export, feed, graph, import, labels, machine, money, parquet, partition, questions, report,
    restore, risk, router, shapes, wallet_history,
};
use arx_stack::{Stack, StackOptions, programs};
use clap::Parser;

/// Settings of the server beyond those of every stack.
const SETTINGS: [&str; 1] = ["shared_buffers = '2GB'"];

#[derive(Parser)]
#[command(version, about)]
struct BenchArguments {
    /// Folder with transactions_slim.csv.gz and nodes.csv.gz [default: a data set next to the
    /// workspace, else the sample]
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
    /// Largest graph of the growth measurement, which doubles from 250,000 transfers
    #[arg(long, default_value_t = 8_000_000, value_parser = clap::value_parser!(u64).range(250_000..))]
    growth_max: u64,
    /// Run only cases whose name contains one of these texts
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// File of the report for programs
    #[arg(long, default_value = "target/bench/report.json")]
    json: PathBuf,
    /// File of the committed results; this run replaces its cases in it
    #[arg(long, default_value = "bench/results.json")]
    results: PathBuf,
    /// Page that shows the committed results
    #[arg(long, default_value = "docs/benchmarks.md")]
    page: PathBuf,
    /// Measure nothing: only write the page from the committed results
    #[arg(long)]
    render: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(&BenchArguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &BenchArguments) -> Result<()> {
    let mut record = Record::read(&arguments.results)?;
    if arguments.render {
        return record.write(&arguments.results, &arguments.page);
    }
    let source = DataSource::find(arguments.data.as_deref(), &programs::workspace())?;
    // Durable, because both sides are used so, and with the share of memory of a dedicated server.
    let settings = SETTINGS.iter().map(ToString::to_string).collect();
    let stack = Stack::start(&StackOptions { durable: true, settings })?;
    let wanted = |case: &str| arguments.only.is_empty() || arguments.only.iter().any(|part| case.contains(part));
    let runs = Runs { fast: arguments.runs.into(), slow: arguments.slow_runs.into() };
    let mut results = Results::default();

    for case in [import::COPY, parquet::SPEED] {
        if wanted(case) {
            eprintln!("{case}");
            results.add(case, imports(case, &stack, &source, arguments));
        }
    }
    if wanted(parquet::MEMORY) {
        eprintln!("{}", parquet::MEMORY);
        results.add(parquet::MEMORY, parquet::memory(&stack));
    }
    if wanted(labels::CASE) {
        eprintln!("{}", labels::CASE);
        results.add(labels::CASE, labels::measure(&stack, runs.slow));
    }
    if wanted("restore.dump_restore.vs_plain_tables") {
        eprintln!("restore.dump_restore.vs_plain_tables");
        results.add("restore.dump_restore.vs_plain_tables", restores(&stack, &source, arguments));
    }
    if wanted(backup::CASE) {
        eprintln!("{}", backup::CASE);
        results.add(backup::CASE, backup::measure(&source, &SETTINGS, arguments.rows, runs.slow));
    }
    let mut sets = Sets::new(&stack, &source);
    if wanted("search.fragment.vs_ilike") {
        eprintln!("search.fragment.vs_ilike");
        let measured = async { questions::search(sets.labelled().await?, runs.fast).await }.await;
        results.add("search.fragment.vs_ilike", measured);
    }
    if wanted("timeseries.year_by_day.vs_raw_group_by") {
        eprintln!("timeseries.year_by_day.vs_raw_group_by");
        let measured = async { questions::year_by_day(sets.real().await?, runs.fast).await }.await;
        results.add("timeseries.year_by_day.vs_raw_group_by", measured);
    }
    if wanted("wallet_history.vs_or_query") {
        eprintln!("wallet_history.vs_or_query");
        let measured = async { wallet_history::measure(sets.real().await?, runs.fast).await }.await;
        results.add("wallet_history.vs_or_query", measured);
    }
    if wanted(export::CASE) {
        eprintln!("{}", export::CASE);
        let measured = async { export::measure(sets.real().await?, stack.folder(), runs.slow) }.await;
        results.add(export::CASE, measured);
    }
    money::measure(&mut sets, runs, &wanted, &mut results).await;
    risk::measure(&mut sets, runs, &wanted, &mut results).await;
    shapes::measure(&mut sets, runs, &wanted, &mut results).await;
    graph::measure(&mut sets, runs, &wanted, &mut results).await?;
    partition::measure(&stack, runs, &wanted, &mut results).await;
    feed::measure(&source, &SETTINGS, runs, &wanted, &mut results).await;
    cache::measure(&stack, &wanted, &mut results).await;
    alerts::measure(&stack, arguments.rows, runs, &wanted, &mut results).await;
    if wanted(router::CASE) {
        eprintln!("{}", router::CASE);
        results.add(router::CASE, router::measure(&stack));
    }
    if wanted("graph.growth") {
        eprintln!("graph.growth");
        match growth::measure(&stack, arguments.growth_max).await {
            Ok(points) => {
                results.measurements.extend(growth::refresh_ratio(&points));
                results.growth = points;
            }
            Err(error) => results.failed("graph.growth", &error),
        }
    }

    let version = stack.bare_database("version")?.query("SHOW server_version")?;
    let mut machine = machine::description(&version);
    machine.push(("server settings", SETTINGS.join(", ")));
    report::write(&arguments.json, &results)?;
    record.merge(&machine, &results);
    record.write(&arguments.results, &arguments.page)?;
    for result in &results.measurements {
        let (case, unit) = (&result.case, &result.unit);
        println!("{case}: ours {:.3}, peer {:.3} {unit}, ratio {:.2}", result.ours, result.peer, result.ratio);
    }
    results.ensure_complete()
}

fn imports(case: &str, stack: &Stack, source: &DataSource, arguments: &BenchArguments) -> Result<Measurement> {
    let data = prepared(stack, source, arguments)?;
    if case == parquet::SPEED {
        return parquet::measure(stack, source, &data, arguments.slow_runs.into());
    }
    import::measure(stack, source, &data, arguments.slow_runs.into())
}

fn restores(stack: &Stack, source: &DataSource, arguments: &BenchArguments) -> Result<Measurement> {
    let data = prepared(stack, source, arguments)?;
    restore::measure(stack, source, &data, arguments.slow_runs.into())
}

/// Writes the first rows of the data into files in the stack's folder.
fn prepared(stack: &Stack, source: &DataSource, arguments: &BenchArguments) -> Result<PreparedData> {
    eprintln!("  preparing {} rows of {}", arguments.rows, source.name());
    let folder = stack.folder().join("data");
    std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    prepare(source, arguments.rows, &folder)
}
