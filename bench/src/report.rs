//! The report: `report.json` for programs, `REPORT.md` for readers.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Error, Result, bail};
use serde::Serialize;

use crate::growth::{self, Point};
use crate::plot;

/// Result of a case.
#[derive(Debug, Clone, Serialize)]
pub struct Measurement {
    /// Name of the form `area.subject.vs_peer`.
    pub case: String,
    /// Median of ours.
    pub ours: f64,
    /// Median of the peer.
    pub peer: f64,
    pub peer_name: String,
    /// Unit of both medians.
    pub unit: String,
    /// Above 1, ours is better, in either direction of the unit.
    pub ratio: f64,
    pub higher_is_better: bool,
    /// Description of the measurement.
    #[serde(skip)]
    pub setting: String,
}

impl Measurement {
    /// `medians` are those of ours and of the peer.
    #[must_use]
    pub fn new(case: &str, medians: (f64, f64), unit: &str, higher_is_better: bool) -> Self {
        let (ours, peer) = medians;
        let ratio = if higher_is_better { ours / peer } else { peer / ours };
        Self {
            case: case.to_owned(),
            ours,
            peer,
            peer_name: String::new(),
            unit: unit.to_owned(),
            ratio,
            higher_is_better,
            setting: String::new(),
        }
    }

    /// Adds the name of the peer and the description.
    #[must_use]
    pub fn against(mut self, peer_name: &str, setting: String) -> Self {
        self.peer_name = peer_name.to_owned();
        self.setting = setting;
        self
    }
}

/// Results of a run. A failed case does not affect the others.
#[derive(Debug, Default)]
pub struct Results {
    pub measurements: Vec<Measurement>,
    /// Growth of times with size, if measured.
    pub growth: Vec<Point>,
    failures: Vec<String>,
    left_out: Vec<String>,
}

impl Results {
    /// Adds the result or the error of a case.
    pub fn add(&mut self, case: &str, measured: Result<Measurement>) {
        match measured {
            Ok(measurement) => self.measurements.push(measurement),
            Err(error) => self.failed(case, &error),
        }
    }

    /// Adds the error of a case.
    pub fn failed(&mut self, case: &str, error: &Error) {
        eprintln!("  {case} failed: {error:#}");
        self.failures.push(format!("{case}: {error:#}"));
    }

    /// Adds cases that have no data.
    pub fn leave_out<'a>(&mut self, cases: impl Iterator<Item = &'a str>, reason: &str) {
        for case in cases {
            eprintln!("{case}: left out, {reason}");
            self.left_out.push(format!("`{case}`: left out, {reason}"));
        }
    }

    /// Fails when a case failed.
    ///
    /// # Errors
    /// The errors of all failed cases.
    pub fn ensure_complete(&self) -> Result<()> {
        if !self.failures.is_empty() {
            bail!("some cases failed:\n{}", self.failures.join("\n"));
        }
        Ok(())
    }
}

/// Writes both files, and next to them `growth.json` and `growth.svg` if growth was measured.
///
/// # Errors
/// When a file cannot be written.
pub fn write(json: &Path, markdown: &Path, machine: &[(&str, String)], results: &Results) -> Result<()> {
    let text = serde_json::to_string_pretty(&results.measurements).context("write the report as JSON")?;
    for folder in [json.parent(), markdown.parent()].into_iter().flatten() {
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    std::fs::write(json, text + "\n").with_context(|| format!("write {}", json.display()))?;
    if !results.growth.is_empty() {
        growth::write_json(&json.with_file_name("growth.json"), &results.growth)?;
        plot::write_svg(&markdown.with_file_name("growth.svg"), &results.growth)?;
    }
    std::fs::write(markdown, table(machine, results)?).with_context(|| format!("write {}", markdown.display()))
}

fn table(machine: &[(&str, String)], results: &Results) -> Result<String> {
    let mut text = String::from(
        "# Side by side\n\nWritten by `make bench`: medians of both sides, in turn on the same rows and the same server. A ratio above 1\n\
         means that ours is better.\n\n| case | ours | peer | unit | ratio |\n|---|---:|---:|---|---:|\n",
    );
    for result in &results.measurements {
        let better = if result.higher_is_better { "higher is better" } else { "lower is better" };
        writeln!(
            text,
            "| `{}` | {} | {} | {}, {better} | {} |",
            result.case,
            rounded(result.ours),
            rounded(result.peer),
            result.unit,
            ratio(result.ratio)
        )?;
    }
    growth_section(&mut text, &results.growth)?;
    text.push_str("\n## What was run\n");
    for result in &results.measurements {
        writeln!(text, "- `{}` against {}: {}", result.case, result.peer_name, result.setting)?;
    }
    for case in &results.left_out {
        writeln!(text, "- {case}.")?;
    }
    text.push_str("\n## Where\n| | |\n|---|---|\n");
    for (name, value) in machine {
        writeln!(text, "| {name} | {value} |")?;
    }
    Ok(text)
}

fn growth_section(text: &mut String, points: &[Point]) -> Result<()> {
    if points.is_empty() {
        return Ok(());
    }
    write!(
        text,
        "\n## How time grows\n![Time over transfers, both axes logarithmic](growth.svg)\n\n| transfers | wallets | reach depth 3, \
         ms | wallets reached | full build, s | refresh of 10,000 rows, s | file, MB |\n|---:|---:|---:|---:|---:|---:|---:|\n"
    )?;
    for point in points {
        writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} |",
            point.transfers,
            point.wallets,
            rounded(point.reach_ms),
            point.reached,
            rounded(point.build_ms / 1000.0),
            rounded(point.refresh_ms / 1000.0),
            rounded(point.file_bytes as f64 / 1e6),
        )?;
    }
    writeln!(text, "\n{}", growth::SETTING)?;
    Ok(())
}

/// Formats a ratio with two decimals, with none above a hundred, with three below a tenth.
fn ratio(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value < 0.1 => format!("{value:.3}"),
        value => format!("{value:.2}"),
    }
}

/// Formats a number with three significant digits, as an integer above a hundred.
fn rounded(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value >= 1.0 => format!("{value:.2}"),
        value => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_above_one_is_better_in_either_unit() {
        assert_eq!(Measurement::new("a", (10.0, 5.0), "rows/s", true).ratio, 2.0);
        assert_eq!(Measurement::new("b", (5.0, 10.0), "ms", false).ratio, 2.0);
    }

    #[test]
    fn the_report_names_case_peer_and_machine() {
        let measurement = Measurement::new("a.b.vs_c", (0.5, 12.0), "ms", false).against("C", "one row".into());
        let results = Results { measurements: vec![measurement], ..Results::default() };
        let text = table(&[("cores", "2".into())], &results).unwrap();
        assert!(text.contains("| `a.b.vs_c` | 0.500 | 12.0 | ms, lower is better | 24.00 |"), "{text}");
        assert!(text.contains("- `a.b.vs_c` against C: one row"));
        assert!(text.contains("| cores | 2 |"));
        assert!(!text.contains("How time grows"));
    }

    #[test]
    fn growth_has_a_table_and_a_chart() {
        let point = Point {
            transfers: 250_000,
            wallets: 25_000,
            reach_ms: 1.5,
            reached: 20_000,
            build_ms: 300.0,
            refresh_ms: 45.0,
            file_bytes: 14_000_000,
        };
        let text = table(&[], &Results { growth: vec![point], ..Results::default() }).unwrap();
        assert!(text.contains("](growth.svg)"));
        assert!(text.contains("| 250000 | 25000 | 1.50 | 20000 | 0.300 | 0.045 | 14.0 |"), "{text}");
    }

    #[test]
    fn a_failed_case_does_not_affect_the_others() {
        let mut results = Results::default();
        results.add("a", Ok(Measurement::new("a", (1.0, 2.0), "ms", false)));
        results.add("b", Err(anyhow::anyhow!("no answer")));
        assert_eq!(results.measurements.len(), 1);
        assert!(results.ensure_complete().unwrap_err().to_string().contains("b: no answer"));
    }

    #[test]
    fn a_case_without_data_is_listed_and_does_not_fail() {
        let mut results = Results::default();
        results.leave_out(["a.b"].into_iter(), "no data");
        assert!(table(&[], &results).unwrap().contains("- `a.b`: left out, no data."));
        results.ensure_complete().unwrap();
    }
}
