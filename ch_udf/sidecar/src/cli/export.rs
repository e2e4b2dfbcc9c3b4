//! `arx-sidecar export`: PostgreSQL into files.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use clap::Args;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

use super::CommandError;
use super::import_labels::edition;
use super::output::print_line;
use crate::error::SidecarError;
use crate::escape::{Inline, JsonText};
use crate::export::{self, Filter, Format, Progress, Report, Request};
use crate::settings::Settings;

/// Interval of log lines without a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Arguments of `arx-sidecar export`.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// A new or empty folder, or that of an interrupted export, which is then continued
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    #[arg(long, value_enum)]
    format: Format,
    /// Only this network; may be repeated
    #[arg(long = "network", value_name = "NETWORK")]
    networks: Vec<String>,
    /// Only transfers from this time on, YYYY-MM-DD or with time and zone
    #[arg(long, value_name = "TIME", value_parser = edition)]
    from: Option<DateTime<Utc>>,
    /// Only transfers before this time
    #[arg(long, value_name = "TIME", value_parser = edition)]
    until: Option<DateTime<Utc>>,
    /// Only the neighbourhood of this wallet, on one network
    #[arg(long, value_name = "ADDRESS", requires = "networks")]
    wallet: Option<String>,
    /// Largest number of transfers between the wallet and others of its neighbourhood
    #[arg(long, value_name = "NUMBER", default_value_t = 1, requires = "wallet",
          value_parser = clap::value_parser!(u32).range(1..=6))]
    depth: u32,
    /// Files that are written at a time [default: the processors of this machine, at most 4]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: Option<u16>,
    /// Remove the files of the export that the folder holds, and begin again
    #[arg(long)]
    restart: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

impl ExportArgs {
    pub(super) async fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let (json, folder) = (self.json, self.folder.display().to_string());
        let mut meter = Meter::new(folder.clone());
        let result = export::run(self.request()?, settings, |progress| meter.show(progress)).await;
        meter.clear();
        if let Err(SidecarError::Io { .. } | SidecarError::Postgres { .. }) = &result {
            tracing::info!(folder, "the export is not complete; run it again to write the parts that are missing");
        }
        let report = result?;
        if json {
            print_line(JsonText(as_json(&folder, &report)))?;
        } else {
            print_line(message(&folder, &report))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn request(self) -> Result<Request, SidecarError> {
        let micros = |time: Option<DateTime<Utc>>| time.map(|time| time.timestamp_micros());
        let (from, until) = (micros(self.from), micros(self.until));
        if let (Some(from), Some(until)) = (self.from, self.until)
            && from >= until
        {
            let detail = format!("the range is empty: it begins with {from} and ends before {until}");
            return Err(SidecarError::Input { detail });
        }
        if self.wallet.is_some() && self.networks.len() != 1 {
            let detail = "the neighbourhood of a wallet needs exactly one --network".to_owned();
            return Err(SidecarError::Input { detail });
        }
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let depth = if self.wallet.is_some() { self.depth } else { 0 };
        Ok(Request {
            folder: self.folder,
            format: self.format,
            filter: Filter { networks: self.networks, from, until, wallet: self.wallet, depth },
            jobs: self.jobs.map_or(processors.min(4), usize::from),
            restart: self.restart,
        })
    }
}

/// Progress: a bar on a terminal, a log line every ten seconds elsewhere.
struct Meter {
    folder: String,
    started: Instant,
    last_line: Instant,
    bar: Option<ProgressBar>,
}

impl Meter {
    fn new(folder: String) -> Self {
        let now = Instant::now();
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            // The template is constant; indicatif's default serves if it does not parse.
            if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} parts, {msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self { folder, started: now, last_line: now, bar }
    }

    fn show(&mut self, progress: Progress) {
        let Progress { rows, parts, of } = progress;
        let rate = crate::import::rate(rows, self.started.elapsed());
        if let Some(bar) = &self.bar {
            bar.set_length(of as u64);
            bar.set_position(parts as u64);
            bar.set_message(format!("{} rows, {}/s", HumanCount(rows), HumanCount(rate)));
        } else if self.last_line.elapsed() >= LINE_INTERVAL {
            self.last_line = Instant::now();
            tracing::info!(folder = self.folder, rows, rows_per_second = rate, parts, of, "exporting");
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn message(folder: &str, report: &Report) -> String {
    let (rows, files, bytes) = (report.rows, report.files, HumanBytes(report.bytes));
    let folder = Inline(folder);
    if report.already_complete {
        return format!("{folder}: complete already, {rows} rows in {files} files, {bytes}");
    }
    let kept = match report.kept {
        0 => String::new(),
        kept => format!(", {kept} parts of an earlier run"),
    };
    format!("{folder}: {rows} rows in {files} files{kept}, {bytes}, in {:.1} s", report.elapsed.as_secs_f64())
}

fn as_json(folder: &str, report: &Report) -> String {
    serde_json::json!({
        "folder": folder,
        "already_complete": report.already_complete,
        "rows": report.rows,
        "files": report.files,
        "bytes": report.bytes,
        "kept_parts": report.kept,
        "snapshot": report.snapshot,
        "seconds": report.elapsed.as_secs_f64(),
    })
    .to_string()
}
