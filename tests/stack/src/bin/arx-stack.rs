//! Starts, stops and shows PostgreSQL and Redis servers that are in one folder and outlive this
//! program, or runs a command with servers that end with it.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{self, ExitCode};

use anyhow::{Context, Result, bail};
use arx_stack::detached::{DATABASE, Detached};
use arx_stack::{Stack, StackOptions};
use clap::{Args, Parser, Subcommand};

#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the servers that do not run, create the database arx, and print connection settings
    Up {
        #[command(flatten)]
        folder: Folder,
        /// A line for postgresql.conf; may be repeated
        #[arg(long = "set", value_name = "LINE")]
        settings: Vec<String>,
        /// Leave the database without the extension
        #[arg(long)]
        bare: bool,
    },
    /// Stop the servers
    Down {
        #[command(flatten)]
        folder: Folder,
        /// Also remove the folder with all data
        #[arg(long)]
        remove: bool,
    },
    /// Show which servers answer; fails unless all do
    Status {
        #[command(flatten)]
        folder: Folder,
    },
    /// Run a command with private servers that end with it, and with PGHOST and ARX_* set
    With {
        /// Leave the database without the extension
        #[arg(long)]
        bare: bool,
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true)]
        command: Vec<OsString>,
    },
}

#[derive(Args)]
struct Folder {
    /// The folder of the servers
    #[arg(long)]
    dir: PathBuf,
}

fn main() -> ExitCode {
    match run(&Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            // Without a reader, the exit code is left.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<ExitCode> {
    match command {
        Command::Up { folder, settings, bare } => {
            let servers = Detached::at(&folder.dir)?;
            servers.up(settings, *bare)?;
            write!(io::stdout(), "{}", servers.environment())?;
        }
        Command::Down { folder, remove } => {
            if folder.dir.exists() {
                let servers = Detached::at(&folder.dir)?;
                if *remove { servers.remove() } else { servers.down() }?;
            }
        }
        Command::Status { folder } => {
            if !folder.dir.exists() {
                writeln!(io::stdout(), "{} does not exist", folder.dir.display())?;
                return Ok(ExitCode::FAILURE);
            }
            let status = Detached::at(&folder.dir)?.status();
            let word = |answers: bool| if answers { "answers" } else { "does not answer" };
            writeln!(io::stdout(), "PostgreSQL {}", word(status.postgres))?;
            writeln!(io::stdout(), "Redis {}", word(status.redis))?;
            if !(status.postgres && status.redis) {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::With { bare, command } => return run_with_servers(*bare, command),
    }
    Ok(ExitCode::SUCCESS)
}

fn run_with_servers(bare: bool, command: &[OsString]) -> Result<ExitCode> {
    let [program, arguments @ ..] = command else { bail!("no command was given") };
    let stack = Stack::start(&StackOptions::default())?;
    let database = if bare { stack.bare_database(DATABASE) } else { stack.database(DATABASE) }?;
    let status = process::Command::new(program)
        .args(arguments)
        .env("PGHOST", stack.cluster().host())
        .envs([("PGPORT", "5432"), ("PGUSER", "postgres"), ("PGDATABASE", DATABASE)])
        .env("ARX_POSTGRES_URL", database.connection())
        .env("ARX_REDIS_URL", database.redis_url())
        .env("ARX_DATA_DIR", database.data_folder())
        .status()
        .with_context(|| format!("start {}", program.display()))?;
    // A signal is a failure without a code.
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
