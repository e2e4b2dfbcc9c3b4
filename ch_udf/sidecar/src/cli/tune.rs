//! `arx-sidecar tune`: settings of PostgreSQL for its machine, with their reasons.

use std::process::ExitCode;

use clap::Args;
use indicatif::HumanBytes;

use super::CommandError;
use super::output::{print, print_line};
use crate::escape::{Inline, JsonText, Lines};
use crate::settings::Settings;
use crate::tune::{self, Disk, Stated, Tuning};

/// Arguments of `arx-sidecar tune`.
#[derive(Debug, Args)]
pub(super) struct TuneArgs {
    /// Memory for PostgreSQL, such as 16GB [default: that of this machine]
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    memory: Option<u64>,
    /// Processors for PostgreSQL [default: those of this machine]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=4096))]
    processors: Option<u32>,
    /// Kind of the disk [default: that of the data directory]
    #[arg(long, value_enum)]
    disk: Option<Disk>,
    /// Connections that clients need without a pooler [default: by the processors]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(10..=10_000))]
    connections: Option<u32>,
    /// Run the statements, as a superuser, and reload the settings
    #[arg(long)]
    apply: bool,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

fn memory(text: &str) -> Result<u64, String> {
    let units = [("kB", 1_u64 << 10), ("MB", 1 << 20), ("GB", 1 << 30), ("TB", 1 << 40)];
    let parsed =
        units.iter().find_map(|(unit, bytes)| text.strip_suffix(unit)?.trim().parse::<u64>().ok()?.checked_mul(*bytes));
    parsed
        .filter(|bytes| *bytes >= 128 << 20)
        .ok_or_else(|| format!("{text:?} must be a whole number of MB or GB, at least 128MB"))
}

impl TuneArgs {
    pub(super) async fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let Self { memory, processors, disk, connections, apply, json } = self;
        let tuning = tune::run(Stated { memory, processors, disk, connections }, apply, settings).await?;
        if json {
            print_line(JsonText(as_json(&tuning, apply)))?;
        } else {
            print(Lines(text(&tuning, apply)))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Formats the statements as a script, with the reasons as comments.
fn text(tuning: &Tuning, is_applied: bool) -> String {
    let machine = &tuning.machine;
    let mut lines = vec![format!(
        "-- for {} of memory, {} processors, {}",
        HumanBytes(machine.memory),
        machine.processors,
        machine.disk.name()
    )];
    let (changed, same): (Vec<_>, Vec<_>) = tuning.settings.iter().partition(|advice| advice.is_changed);
    for advice in &changed {
        let restart = if advice.needs_restart { "; needs a restart" } else { "" };
        lines.push(String::new());
        let current = if advice.current.is_empty() { "empty" } else { &advice.current };
        lines.push(format!("-- {}; now {}{restart}", advice.reason, Inline(current)));
        lines.push(advice.statement());
    }
    let names: Vec<&str> = same.iter().map(|advice| advice.name).collect();
    if !names.is_empty() {
        lines.push(String::new());
        lines.push(format!("-- set so already: {}", names.join(", ")));
    }
    lines.push(String::new());
    lines.push("-- pgbouncer.ini, section [pgbouncer]:".to_owned());
    for (name, value, reason) in &tuning.pgbouncer {
        lines.push(format!("--   {name} = {value}"));
        lines.push(format!("--     ; {}", reason.split_whitespace().collect::<Vec<_>>().join(" ")));
    }
    lines.push(String::new());
    lines.push(
        match (is_applied, changed.iter().any(|advice| advice.needs_restart)) {
            (false, _) => "-- Nothing is applied: run the statements as a superuser, then SELECT pg_reload_conf().",
            (true, true) => "-- Applied and reloaded; the settings that need a restart wait for it.",
            (true, false) => "-- Applied and reloaded.",
        }
        .to_owned(),
    );
    lines.join("\n") + "\n"
}

fn as_json(tuning: &Tuning, is_applied: bool) -> String {
    let settings: Vec<serde_json::Value> = tuning
        .settings
        .iter()
        .map(|advice| {
            serde_json::json!({
                "name": advice.name,
                "value": advice.value,
                "current": advice.current,
                "changed": advice.is_changed,
                "restart": advice.needs_restart,
                "reason": advice.reason,
                "statement": advice.statement(),
            })
        })
        .collect();
    let pgbouncer: Vec<serde_json::Value> = tuning
        .pgbouncer
        .iter()
        .map(|(name, value, reason)| serde_json::json!({"name": name, "value": value, "reason": reason}))
        .collect();
    let machine = &tuning.machine;
    serde_json::json!({
        "machine": {"memory": machine.memory, "processors": machine.processors, "disk": machine.disk.name()},
        "applied": is_applied,
        "settings": settings,
        "pgbouncer": pgbouncer,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::memory;

    #[test]
    fn a_size_has_a_unit() {
        assert_eq!(memory("16GB"), Ok(16 << 30));
        assert_eq!(memory("512 MB"), Ok(512 << 20));
        for wrong in ["16", "GB", "-1GB", "1MB", "99999999999999TB", "1.5GB"] {
            assert!(memory(wrong).is_err(), "{wrong}");
        }
    }
}
