//! `arx-sidecar clickhouse`: sets ClickHouse up.

use std::fmt;
use std::process::ExitCode;

use super::output::print;
use super::{CommandError, exit_code};
use crate::escape::Lines;
use crate::functions::{InstallOptions, Installed, Serving, install};
use crate::servers::supervisor::Supervisor;
use crate::settings::Settings;
use crate::warehouse::{self, Topology};

#[derive(Debug, clap::Subcommand)]
pub(super) enum ClickHouseCommand {
    /// Create the missing tables and views, on a single server or a cluster
    Apply {
        /// Only print the statements
        #[arg(long)]
        dry_run: bool,
    },
    /// Install ARX's functions, with the risk model that the database uses
    InstallUdfs(InstallOptions),
}

impl ClickHouseCommand {
    pub(super) async fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        match self {
            Self::Apply { dry_run } => {
                let applied = Supervisor::during(settings, async |supervisor| {
                    let topology = Topology::connect(settings, supervisor).await?;
                    warehouse::apply(&topology, dry_run).await
                });
                let statements = applied.await?;
                print(Lines(statements))?;
                Ok(ExitCode::SUCCESS)
            }
            Self::InstallUdfs(options) => {
                let installed = install(&options, settings).await?;
                print(Lines(InstalledScreen(&installed)))?;
                Ok(exit_code(installed.is_ok()))
            }
        }
    }
}

struct InstalledScreen<'a>(&'a Installed);

impl fmt::Display for InstalledScreen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Installed { model, files, description, serving } = self.0;
        writeln!(f, "risk model {model}")?;
        for (path, outcome) in files {
            writeln!(f, "{:<17} {}", outcome.as_str(), path.display())?;
        }
        if let Some(description) = description {
            write!(f, "\n{description}")?;
        }
        match serving {
            Serving::NotChecked => Ok(()),
            Serving::ClickHouseNotRunning => {
                writeln!(f, "ClickHouse is not running: the functions were not checked, and load when it starts")
            }
            Serving::Failed(reason) => writeln!(f, "ClickHouse does not serve the functions: {reason}"),
            Serving::Correct { version, answers } => {
                writeln!(f, "ClickHouse {version} serves the functions: {answers} answers, all as expected")
            }
        }
    }
}
