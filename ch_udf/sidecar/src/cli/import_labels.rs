//! `arx-sidecar import labels`: label lists into PostgreSQL.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use clap::Args;

use super::CommandError;
use super::output::print_line;
use crate::escape::{Inline, JsonText, Lines};
use crate::import::labels::{self, Changes, Defaults, Field, LabelFormat, LabelReport, LabelRequest, StatedColumn};
use crate::settings::Settings;

/// Exit code of an import that did not account for every record.
const INCOMPLETE: u8 = 2;

/// Unknown words that a report names.
const MAX_WORDS: usize = 20;

/// Arguments of `arx-sidecar import labels`.
#[derive(Debug, Clone, Args)]
pub(super) struct LabelArgs {
    /// The list, or - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Format of the list [default: detected by its content]
    #[arg(long, value_enum)]
    format: Option<LabelFormat>,
    /// Network of addresses for which the list names none
    #[arg(long)]
    network: Option<String>,
    /// Category of addresses for which the list names none
    #[arg(long)]
    category: Option<String>,
    /// Source of a list that does not name it
    #[arg(long)]
    source: Option<String>,
    /// The word WORD of the list stands for a category; may be repeated
    #[arg(long = "map", value_name = "WORD=CATEGORY", value_parser = pair)]
    words: Vec<(String, String)>,
    /// The list writes NAME for a network; may be repeated
    #[arg(long = "map-network", value_name = "NAME=NETWORK", value_parser = pair)]
    networks: Vec<(String, String)>,
    /// The list has FIELD (address, network, currency, category, abuse, label, source, severity,
    /// confidence, valid_from, valid_to) in COLUMN; may be repeated
    #[arg(long = "column", value_name = "FIELD=COLUMN", value_parser = stated_column)]
    columns: Vec<StatedColumn>,
    /// Take the network from the address if the list names none, or one that the address is not on
    #[arg(long)]
    network_by_address: bool,
    /// Highest confidence of the list [default: 1]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    confidence_scale: Option<u32>,
    /// The list is everything that its source names: labels that are gone from it end
    #[arg(long)]
    full_list: bool,
    /// Date of this edition of the list, YYYY-MM-DD or with time and zone [default: now]
    #[arg(long, value_name = "DATE", value_parser = edition)]
    edition: Option<DateTime<Utc>>,
    /// File for rejected records: line or number, reason and record, the texts as JSON strings; at
    /// most 100,000 records and 64 MB [default: FILE.rejects in the current directory]
    #[arg(long, value_name = "REJECTS")]
    rejects: Option<PathBuf>,
    /// Stop at the first bad record, and refuse words that are unknown
    #[arg(long)]
    strict: bool,
    /// Report what an import would do, and write nothing
    #[arg(long)]
    check: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Without effect: a list may always be imported again
    #[arg(long, hide = true)]
    again: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let parts = text.rsplit_once('=').filter(|(left, right)| !left.trim().is_empty() && !right.trim().is_empty());
    let (left, right) = parts.ok_or_else(|| format!("{text:?} must be two names with = between them"))?;
    Ok((left.trim().to_owned(), right.trim().to_owned()))
}

fn stated_column(text: &str) -> Result<StatedColumn, String> {
    let (field, column) = text.split_once('=').unwrap_or((text, ""));
    let field = Field::of_name(field.trim()).ok_or_else(|| format!("{field:?} is not a field of a label"))?;
    if column.trim().is_empty() {
        return Err(format!("{text:?} names no column"));
    }
    Ok(StatedColumn { field, column: column.trim().to_owned() })
}

pub(super) fn edition(text: &str) -> Result<DateTime<Utc>, String> {
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").map(|day| day.and_time(NaiveTime::MIN).and_utc());
    let time = || DateTime::parse_from_rfc3339(text).map(|time| time.with_timezone(&Utc));
    day.or_else(|_| time()).map_err(|_| format!("{text:?} must be YYYY-MM-DD or YYYY-MM-DDTHH:MM:SSZ"))
}

impl LabelArgs {
    pub(super) async fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let json = self.json;
        let report = labels::run(self.request(), settings).await?;
        if json {
            print_line(JsonText(as_json(&report)))?;
        } else {
            print_line(Lines(message(&report)))?;
        }
        Ok(if report.is_complete() { ExitCode::SUCCESS } else { INCOMPLETE.into() })
    }

    fn request(self) -> LabelRequest {
        LabelRequest {
            file: self.file,
            format: self.format,
            defaults: Defaults {
                network: self.network,
                category: self.category,
                source: self.source,
                words: self.words,
                networks: self.networks,
                network_by_address: self.network_by_address,
                confidence_scale: self.confidence_scale,
            },
            columns: self.columns,
            rejects: self.rejects,
            strict: self.strict,
            check: self.check,
            full_list: self.full_list,
            edition: self.edition,
        }
    }
}

/// Formats counts by name, the largest first: `"foo" (3), "bar" (1)`.
fn words(counts: &BTreeMap<String, u64>) -> String {
    let mut counts: Vec<_> = counts.iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let mut shown: Vec<String> =
        counts.iter().take(MAX_WORDS).map(|(word, count)| format!("{word:?} ({count})")).collect();
    if counts.len() > MAX_WORDS {
        shown.push(format!("and {} more", counts.len() - MAX_WORDS));
    }
    shown.join(", ")
}

fn counts(counts: &BTreeMap<String, u64>) -> String {
    let list: Vec<String> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
    list.join(", ")
}

fn message(report: &LabelReport) -> String {
    let Changes { added, reopened, updated, unchanged, closed } = report.changes;
    let rejected: u64 = report.rejected.values().sum();
    let again = if reopened > 0 { format!(", {reopened} re-opened") } else { String::new() };
    let ended = if report.full_list || closed > 0 { format!(", {closed} closed") } else { String::new() };
    let mut lines = vec![format!(
        "{}: {}{added} labels imported{again}, {updated} updated, {unchanged} unchanged{ended}, {rejected} rejected in {:.1} s",
        Inline(&report.file),
        if report.check { "check, nothing is written: " } else { "" },
        report.elapsed.as_secs_f64(),
    )];
    let mut note = |condition: bool, text: String| {
        if condition {
            lines.push(format!("  {}", Inline(text)));
        }
    };
    let notes = &report.notes;
    note(
        !notes.unknown_words.is_empty(),
        format!(
            "unknown words, which give no standing (map them by --map WORD=CATEGORY): {}",
            words(&notes.unknown_words)
        ),
    );
    note(notes.without_category > 0, format!("without a category: {} labels", notes.without_category));
    note(
        !notes.networks_by_address.is_empty(),
        format!("networks that followed from the address: {}", words(&notes.networks_by_address)),
    );
    note(
        !notes.unchecked.is_empty(),
        format!("addresses not checked, because their format is not known: {}", words(&notes.unchecked)),
    );
    note(!report.skipped.is_empty(), format!("hold no label: {}", counts(&report.skipped)));
    note(!report.unused_columns.is_empty(), format!("columns not used: {}", report.unused_columns.join(", ")));
    note(rejected > 0, format!("rejected: {}", counts(&report.rejected)));
    if let Some(path) = &report.rejects {
        let unlisted = match report.unlisted {
            0 => String::new(),
            records => format!(", except for {records} more, for which the file has no room"),
        };
        note(true, format!("rejected records are in {}{unlisted}", path.display()));
    }
    note(report.not_closed.is_some(), report.not_closed.clone().unwrap_or_default());
    lines.join("\n")
}

/// Returns the report as a JSON object on one line.
fn as_json(report: &LabelReport) -> String {
    let Changes { added, reopened, updated, unchanged, closed } = report.changes;
    serde_json::json!({
        "file": report.file,
        "check": report.check,
        "full_list": report.full_list,
        "imported": added,
        "reopened": reopened,
        "updated": updated,
        "unchanged": unchanged,
        "closed": closed,
        "rejected": report.rejected,
        "skipped": report.skipped,
        "unknown_words": report.notes.unknown_words,
        "without_category": report.notes.without_category,
        "networks_by_address": report.notes.networks_by_address,
        "unchecked_addresses": report.notes.unchecked,
        "unused_columns": report.unused_columns,
        "not_closed": report.not_closed,
        "rejects_file": report.rejects.as_ref().map(|path| path.display().to_string()),
        "unlisted": report.unlisted,
        "complete": report.is_complete(),
        "seconds": report.elapsed.as_secs_f64(),
    })
    .to_string()
}
