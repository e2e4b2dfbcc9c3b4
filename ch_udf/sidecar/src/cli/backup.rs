//! `arx-sidecar backup check`: proves that a backup restores.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use chrono::DateTime;
use clap::{Args, Subcommand};
use indicatif::HumanBytes;

use super::CommandError;
use super::output::print_line;
use crate::backup::{self, Report, Request};
use crate::error::Chain;
use crate::escape::{Inline, JsonText};
use crate::settings::Settings;

#[derive(Debug, Subcommand)]
pub(super) enum BackupCommand {
    /// Restore a backup of pgBackRest into a scratch folder, start it, check it, and remove it
    Check(CheckArgs),
}

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Configuration of pgBackRest [default: that of pgBackRest]
    #[arg(long = "pgbackrest-config", value_name = "FILE")]
    pgbackrest_config: Option<PathBuf>,
    #[arg(long, value_name = "NAME", default_value = "arx")]
    stanza: String,
    /// The backup [default: the latest]
    #[arg(long, value_name = "LABEL")]
    set: Option<String>,
    /// Folder for the scratch folder, with room for the database
    #[arg(long, value_name = "FOLDER", default_value_os_t = std::env::temp_dir())]
    folder: PathBuf,
    /// Folder of pg_ctl [default: that of Debian for the version of the backup]
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
    /// Program pgbackrest
    #[arg(long, value_name = "PROGRAM", default_value = "pgbackrest")]
    pgbackrest: PathBuf,
    /// Superuser of the restored databases
    #[arg(long, value_name = "ROLE", default_value = "postgres")]
    user: String,
    /// Minutes that recovery may take
    #[arg(long, value_name = "MINUTES", default_value_t = 720, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    patience: u64,
    /// Record the outcome in PostgreSQL, where health_check() shows it
    #[arg(long)]
    record: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

impl BackupCommand {
    pub(super) async fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let Self::Check(args) = self;
        let CheckArgs { json, record, .. } = args;
        let request = args.request();
        let outcome = backup::check(&request).await;
        let recorded = if record { backup::record(settings, &request.stanza, &outcome).await } else { Ok(()) };
        if let (Err(_), Err(error)) = (&outcome, &recorded) {
            tracing::warn!(error = %Chain(error), "the outcome is not recorded");
        }
        let report = outcome?;
        if json {
            print_line(JsonText(as_json(&report)))?;
        } else {
            print_line(message(&report))?;
        }
        recorded?;
        Ok(ExitCode::SUCCESS)
    }
}

impl CheckArgs {
    fn request(self) -> Request {
        Request {
            pgbackrest: self.pgbackrest,
            config: self.pgbackrest_config,
            stanza: self.stanza,
            label: self.set,
            programs: self.programs,
            folder: self.folder,
            user: self.user,
            patience: Duration::from_secs(self.patience * 60),
        }
    }
}

fn taken(report: &Report) -> String {
    DateTime::from_timestamp(report.taken, 0).unwrap_or_default().to_rfc3339()
}

fn message(report: &Report) -> String {
    let segment = report.last_segment.as_deref().map(|name| format!(", replayed to WAL {name}")).unwrap_or_default();
    let mut text = format!(
        "backup {} ({}, {}) restores: {} in {:.1} s{segment}, checked in {:.1} s",
        Inline(&report.label),
        Inline(&report.kind),
        taken(report),
        HumanBytes(report.bytes),
        report.restore.as_secs_f64(),
        report.elapsed.saturating_sub(report.restore).as_secs_f64()
    );
    for database in &report.databases {
        let [transactions, internal, tokens] = database.rows;
        let relations = match database.relations {
            Some(count) => format!("amcheck has read {count} tables and indexes"),
            None => "amcheck is not installed".to_owned(),
        };
        text.push_str(&format!(
            "\n  database {}: {transactions} transactions, {internal} internal transfers, {tokens} token transfers; the \
             graph equals SQL; {relations}",
            Inline(&database.name)
        ));
    }
    text
}

fn as_json(report: &Report) -> String {
    let databases: Vec<serde_json::Value> = report
        .databases
        .iter()
        .map(|database| {
            let [transactions, internal, tokens] = database.rows;
            serde_json::json!({
                "name": database.name,
                "transactions": transactions,
                "internal_transfers": internal,
                "token_transfers": tokens,
                "graph_comparisons": database.graphs,
                "relations_checked": database.relations,
            })
        })
        .collect();
    serde_json::json!({
        "label": report.label,
        "type": report.kind,
        "taken": taken(report),
        "bytes": report.bytes,
        "last_wal": report.last_segment,
        "restore_seconds": report.restore.as_secs_f64(),
        "seconds": report.elapsed.as_secs_f64(),
        "databases": databases,
    })
    .to_string()
}
