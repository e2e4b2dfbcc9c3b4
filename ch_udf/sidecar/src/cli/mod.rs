//! The command line of `arx-sidecar`: its arguments, and which module does what they ask. Results go to standard output.

mod maintain_indexes;
mod status;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::cache::{Annotation, ProfileCache, WalletKey, lookup};
use crate::functions::ClickHouseCommand;
use crate::import::ImportArgs;
use crate::settings::{Environment, Overrides, ServerUrl, Settings};

/// Carries ARX data between files, PostgreSQL, ClickHouse and Redis.
#[derive(Debug, Parser)]
#[command(name = "arx-sidecar", version)]
pub struct Cli {
    /// What applies to every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What applies to every command.
#[derive(Debug, Args)]
pub struct GlobalArgs {
    /// Settings as TOML; the environment and flags win over it
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// PostgreSQL: URL or key=value pairs [env: ARX_POSTGRES_URL] [default: host=/var/run/postgresql dbname=postgres]
    #[arg(long, global = true, value_name = "URL")]
    pub postgres: Option<String>,
    /// ClickHouse's HTTP URL [env: ARX_CLICKHOUSE_URL] [default: an embedded engine in the data directory]
    #[arg(long, global = true, value_name = "URL")]
    pub clickhouse: Option<String>,
    /// User of that ClickHouse [env: ARX_CLICKHOUSE_USER; password: ARX_CLICKHOUSE_PASSWORD]
    #[arg(long, global = true, value_name = "NAME")]
    pub clickhouse_user: Option<String>,
    /// Redis URL [env: ARX_REDIS_URL] [default: redis://127.0.0.1:6379]
    #[arg(long, global = true, value_name = "URL")]
    pub redis: Option<String>,
    /// Folder of the embedded engine [env: ARX_DATA_DIR] [default: ./arx-data]
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where `run` serves /healthz and /metrics: host:port (port 0 takes a free one) or none [env: ARX_LISTEN]
    /// [default: 127.0.0.1:9187]
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Form of the log on standard error
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Log more; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object a line
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Import files into PostgreSQL
    Import(ImportArgs),
    /// Carry what is new into ClickHouse and hourly volumes back, once
    Sync,
    /// Keep ClickHouse and PostgreSQL in step until told to stop
    Run,
    /// Compare ClickHouse with PostgreSQL by network and hour: counts, exact sums, checksums, aggregates
    Verify(crate::verify::VerifyArgs),
    /// Show a wallet's profile, from the cache if it is there
    Profile(ProfileArgs),
    /// Put the keys of a JSON object into a wallet's analytics_profile, by way of Redis
    Annotate(AnnotateArgs),
    /// Run what arx.index_maintenance_plan() proposes
    MaintainIndexes {
        /// Only print the statements
        #[arg(long)]
        dry_run: bool,
    },
    /// Fit a risk scorecard on wallets in files, the same bit for bit every time
    RiskFit(crate::models::FitArgs),
    /// Score every wallet in files as PostgreSQL would that holds the same, into a CSV
    RiskScore(crate::models::ScoreArgs),
    /// Write a page about the risk model in use and a draft: how good they are, what adds to a score, what would change
    RiskReport(crate::models::report::ReportArgs),
    /// Set ClickHouse up
    #[command(subcommand, name = "clickhouse")]
    ClickHouse(ClickHouseCommand),
    /// Show the servers and what flows between them
    Status,
}

/// Which wallet, and how to show it.
#[derive(Debug, Args)]
pub struct ProfileArgs {
    /// The wallet
    pub address: String,
    /// Its network
    #[arg(long, default_value = "ethereum")]
    pub network: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Which wallet, and what to note.
#[derive(Debug, Args)]
pub struct AnnotateArgs {
    /// The wallet
    pub address: String,
    /// A JSON object, such as '{"note": "reviewed"}'
    #[arg(value_name = "JSON")]
    pub annotation: String,
    /// Its network
    #[arg(long, default_value = "ethereum")]
    pub network: String,
}

impl GlobalArgs {
    /// The settings that these flags, the environment and the file make together.
    ///
    /// # Errors
    /// See [`Settings::load`].
    pub fn settings(&self) -> Result<Settings, crate::error::SidecarError> {
        let flags = Overrides {
            postgres_url: self.postgres.clone().map(ServerUrl::new),
            clickhouse_url: self.clickhouse.clone().map(ServerUrl::new),
            clickhouse_user: self.clickhouse_user.clone(),
            redis_url: self.redis.clone().map(ServerUrl::new),
            data_dir: self.data_dir.clone(),
            listen: self.listen.clone(),
        };
        let environment = Environment::read(|name| std::env::var(name).ok());
        Settings::load(self.config.as_deref(), &environment, &flags)
    }
}

/// Does what the command says; returns whether all went well.
///
/// # Errors
/// The first one, ready to be shown.
pub async fn execute(command: Command, settings: &Settings) -> Result<bool, Failure> {
    match command {
        Command::Import(arguments) => {
            let report = crate::import::run(arguments.command, settings.postgres_url.expose()).await?;
            println!("{report}");
        }
        Command::Sync => {
            let crate::daemon::Round { pass, written } = crate::daemon::sync_once(settings).await?;
            let what = if pass.full { "loaded anew" } else { "carried" };
            let reloaded =
                if pass.reloaded == 0 { String::new() } else { format!(", {} hours loaded again", pass.reloaded) };
            println!(
                "{what}: {} rows, {} taken back{reloaded}, in {:.2} s; written back: {} hours, {} wallets",
                pass.rows,
                pass.tombstones,
                pass.elapsed.as_secs_f64(),
                written.hours,
                written.wallets
            );
        }
        Command::Verify(arguments) => {
            let verified = crate::verify::run(&arguments, settings).await?;
            print!("{verified}");
            return Ok(verified.is_well());
        }
        Command::Run => crate::daemon::run(settings).await?,
        Command::Profile(arguments) => {
            let key = WalletKey::parse(&arguments.address, &arguments.network)?;
            let found = lookup(settings, &key).await?;
            let micros = u64::try_from(found.elapsed.as_micros()).unwrap_or(u64::MAX);
            if arguments.json {
                let shown = serde_json::json!({
                    "profile": found.profile, "source": found.origin, "latency_microseconds": micros,
                });
                println!("{shown}");
            } else {
                println!("{}source        {} in {}", found.profile, found.origin, latency(micros));
            }
        }
        Command::Annotate(arguments) => {
            let key = WalletKey::parse(&arguments.address, &arguments.network)?;
            let annotation = Annotation::parse(&arguments.annotation)?;
            let cache = ProfileCache::connect(&settings.redis_url, settings.profile_ttl_seconds).await?;
            let id = cache.annotate(&key, &annotation).await?;
            println!("queued as {id} in {}; a running `arx-sidecar run` writes it to PostgreSQL", key.writes());
        }
        Command::MaintainIndexes { dry_run } => {
            let steps = maintain_indexes::maintain_indexes(&settings.postgres_url, dry_run).await?;
            if steps.is_empty() {
                println!("no index needs maintenance");
            }
            let mut well = true;
            for step in steps {
                match step.outcome {
                    None => println!("{};", step.statement.trim_end_matches(';')),
                    Some(Ok(elapsed)) => println!("done in {:.2} s: {}", elapsed.as_secs_f64(), step.statement),
                    Some(Err(error)) => {
                        well = false;
                        println!("FAILED: {} ({})", step.statement, crate::error::Chain(&error));
                    }
                }
            }
            return Ok(well);
        }
        Command::RiskFit(arguments) => println!("{}", arguments.run()?),
        Command::RiskScore(arguments) => {
            if let Some(said) = arguments.run()? {
                println!("{said}");
            }
        }
        Command::RiskReport(arguments) => println!("{}", arguments.run(&settings.postgres_url).await?),
        Command::ClickHouse(ClickHouseCommand::Apply { dry_run }) => {
            let applied = crate::servers::engine::Supervisor::during(settings, async |supervisor| {
                let topology = crate::warehouse::Topology::connect(settings, supervisor).await?;
                crate::warehouse::apply(&topology, dry_run).await
            });
            print!("{}", applied.await?);
        }
        Command::ClickHouse(ClickHouseCommand::InstallUdfs(arguments)) => {
            let installed = crate::functions::install(&arguments, settings).await?;
            print!("{installed}");
            return Ok(installed.is_well());
        }
        Command::Status => {
            let (screen, well) = status::report(settings).await;
            print!("{screen}");
            return Ok(well);
        }
    }
    Ok(true)
}

/// Whatever a command may fail with.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

fn latency(micros: u64) -> String {
    if micros < 1_000 { format!("{micros} µs") } else { format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_may_follow_the_command() {
        let cli = Cli::parse_from(["arx-sidecar", "sync", "--redis", "redis://x", "-vv"]);
        assert_eq!(cli.global.redis.as_deref(), Some("redis://x"));
        assert_eq!(cli.global.verbose, 2);
    }

    #[test]
    fn latencies_are_readable() {
        assert_eq!(latency(412), "412 µs");
        assert_eq!(latency(3_456), "3.4 ms");
    }
}
