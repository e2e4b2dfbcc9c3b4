//! The command line of `arx-sidecar`: one file for each command, with its arguments and its output.
//! Results go to standard output, the log to standard error.

mod annotate;
mod backup;
mod cache;
mod check;
mod clickhouse;
mod deliver;
mod export;
mod export_series;
mod import;
mod import_labels;
mod label;
mod maintain;
mod maintain_indexes;
mod output;
mod profile;
mod risk_fit;
mod risk_report;
mod risk_score;
mod session;
mod status;
mod sync;
mod tune;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::error::{Chain, SidecarError};
use crate::escape::Lines;
use crate::settings::{Environment, Overrides, Settings};

/// Exit code for wrong settings, as for wrong arguments.
const USAGE_ERROR: u8 = 2;

/// Libraries that log values of rows or headers of requests below this level.
const TALKATIVE: [&str; 5] = ["tokio_postgres=warn", "hyper=warn", "hyper_util=warn", "clickhouse=warn", "redis=warn"];

/// Carries ARX data between files, PostgreSQL, ClickHouse and Redis.
#[derive(Debug, Parser)]
#[command(name = "arx-sidecar", version)]
pub struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

/// Arguments of every command.
#[derive(Debug, Args)]
struct GlobalArgs {
    /// Settings as TOML; the environment and flags override it
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    overrides: Overrides,
    /// Format of the log on standard error
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// Log more; twice for everything but values of rows
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object a line
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Import files into PostgreSQL
    Import(import::ImportArgs),
    /// Export transfers, wallets and labels of one snapshot: Parquet, JSON lines, CSV of Neo4j,
    /// GraphML
    Export(export::ExportArgs),
    /// Export a time series as InfluxDB's line protocol
    ExportSeries(export_series::SeriesArgs),
    /// Feed new rows to ClickHouse and write aggregates back, once; or fill a search engine
    Sync(sync::SyncArgs),
    /// Keep ClickHouse and PostgreSQL in sync until stopped
    Run,
    /// Compare ClickHouse with PostgreSQL by network and hour: counts, exact sums, checksums,
    /// aggregates
    Verify(verify::VerifyArgs),
    /// Print a wallet's profile, from the cache if it is there
    Profile(profile::ProfileArgs),
    /// Fill, compare, describe and empty the cached profiles
    #[command(subcommand)]
    Cache(cache::CacheCommand),
    /// Add the keys of a JSON object to a wallet's analytics_profile, through Redis
    Annotate(annotate::AnnotateArgs),
    /// Give a label to an address, through Redis
    Label(label::LabelArgs),
    /// Open, check and revoke sessions of users
    #[command(subcommand)]
    Session(session::SessionCommand),
    /// Do the upkeep that cannot run inside a function: indexes, DETACH CONCURRENTLY, archives; or
    /// run the schedules
    Maintain(maintain::MaintainArgs),
    /// Insert the rows of an archived partition into its table again
    RestoreArchive(maintain::RestoreArchiveArgs),
    /// Run the statements that arx.index_maintenance_plan() proposes
    MaintainIndexes(maintain_indexes::MaintainIndexesArgs),
    /// Fit a risk scorecard on wallets in files, with the same result bit for bit every time
    RiskFit(risk_fit::FitArgs),
    /// Score every wallet in files, as PostgreSQL would with the same rows, into a CSV
    RiskScore(risk_score::ScoreArgs),
    /// Write a page about the risk model in use and a draft: their quality, their factors, and what
    /// would change
    RiskReport(risk_report::ReportArgs),
    /// Set ClickHouse up
    #[command(subcommand, name = "clickhouse")]
    ClickHouse(clickhouse::ClickHouseCommand),
    /// Check the health of the database, with the exit codes of a Nagios plugin
    Check(check::CheckArgs),
    /// Prove that backups restore
    #[command(subcommand)]
    Backup(backup::BackupCommand),
    /// Compute settings of PostgreSQL for its machine, and explain them
    Tune(tune::TuneArgs),
    /// Send alerts about wallets to the destinations of arx.alert_destinations until stopped
    Deliver(deliver::DeliverArgs),
    /// Print the state of the servers and of the feed
    Status,
}

/// Any error that ends a command.
type CommandError = Box<dyn std::error::Error + Send + Sync>;

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(&cli.global);
    let settings = match cli.global.settings() {
        Ok(settings) => settings,
        Err(error) => return fail(&error, USAGE_ERROR.into()),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, ExitCode::FAILURE),
    };
    // The command runs on a worker, together with the tasks of its connections: from this thread
    // every wake-up would cross threads.
    let work = runtime.spawn(async move { cli.command.run(&settings).await });
    match runtime.block_on(work) {
        Ok(Ok(code)) => code,
        Ok(Err(error)) if output::is_closed(&*error) => output::end_as_closed(),
        Ok(Err(error)) => fail(&*error, ExitCode::FAILURE),
        Err(error) => fail(&error, ExitCode::FAILURE),
    }
}

fn fail(error: &(dyn std::error::Error + 'static), code: ExitCode) -> ExitCode {
    output::report(format_args!("arx-sidecar: {}", Lines(Chain(error))));
    code
}

/// Starts the log on standard error; `ARX_LOG` takes a filter such as `arx_sidecar=debug`.
fn start_log(global: &GlobalArgs) {
    let level = match global.verbose {
        0 => "warn,arx_sidecar=info",
        1 => "info,arx_sidecar=debug",
        _ => "trace",
    };
    let mut filter = EnvFilter::try_from_env("ARX_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    for library in TALKATIVE.iter().filter_map(|library| library.parse().ok()) {
        filter = filter.add_directive(library);
    }
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    // A log that no one reads any more is no reason to end: the library would report that on
    // standard error, and panic.
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(ansi)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    match global.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}

impl GlobalArgs {
    fn settings(&self) -> Result<Settings, SidecarError> {
        let environment = Environment::read(|name| std::env::var(name).ok());
        for flag in self.overrides.flags_with_passwords() {
            tracing::warn!(
                flag,
                "the password in this flag is visible to all users of this machine; keep it in a file \
                 (ARX_POSTGRES_PASSWORD_FILE, ARX_REDIS_PASSWORD_FILE, ~/.pgpass) or in the environment"
            );
        }
        Settings::load(self.config.as_deref(), &environment, &self.overrides)
    }
}

impl Command {
    async fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        match self {
            Self::Import(args) => args.run(settings).await,
            Self::Export(args) => args.run(settings).await,
            Self::ExportSeries(args) => args.run(settings).await,
            Self::Sync(args) => args.run(settings).await,
            Self::Run => {
                crate::daemon::run(settings).await?;
                Ok(ExitCode::SUCCESS)
            }
            Self::Verify(args) => args.run(settings).await,
            Self::Profile(args) => args.run(settings).await,
            Self::Cache(command) => command.run(settings).await,
            Self::Annotate(args) => args.run(settings).await,
            Self::Label(args) => args.run(settings).await,
            Self::Session(command) => command.run(settings).await,
            Self::Maintain(args) => args.run(settings).await,
            Self::RestoreArchive(args) => args.run(settings).await,
            Self::MaintainIndexes(args) => args.run(settings).await,
            Self::RiskFit(args) => args.run(),
            Self::RiskScore(args) => args.run(),
            Self::RiskReport(args) => args.run(settings).await,
            Self::ClickHouse(command) => command.run(settings).await,
            Self::Check(args) => args.run(settings).await,
            Self::Backup(command) => command.run(settings).await,
            Self::Tune(args) => args.run(settings).await,
            Self::Deliver(args) => args.run(settings).await,
            Self::Status => status::run(settings).await,
        }
    }
}

/// Returns the exit code of a command whose output says whether all went well.
fn exit_code(is_ok: bool) -> ExitCode {
    if is_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_may_follow_the_command() {
        let cli = Cli::parse_from(["arx-sidecar", "sync", "--redis", "redis://x", "-vv"]);
        assert_eq!(cli.global.overrides.redis_url.unwrap().expose_secret(), "redis://x");
        assert_eq!(cli.global.verbose, 2);
    }

    #[test]
    fn a_password_in_a_flag_is_reported_and_never_printed() {
        let cli = Cli::parse_from(["arx-sidecar", "sync", "--redis", "redis://:s3cr3t@x", "--postgres", "host=x"]);
        assert_eq!(cli.global.overrides.flags_with_passwords(), ["--redis"]);
        assert!(!format!("{cli:?}").contains("s3cr3t"), "{cli:?}");
    }
}
