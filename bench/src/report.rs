//! The report: `report.json` for programs, `REPORT.md` for people.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

/// One case, measured.
#[derive(Debug, Clone, Serialize)]
pub struct Measurement {
    /// Its name, `area.what.vs_peer`.
    pub case: String,
    /// The median of ours.
    pub ours: f64,
    /// The median of the peer.
    pub peer: f64,
    /// What the peer is.
    pub peer_name: String,
    /// The unit of both medians.
    pub unit: String,
    /// How many times better ours is: above 1 ours is better, whatever the unit.
    pub ratio: f64,
    /// Whether a higher median is the better one.
    pub higher_is_better: bool,
    /// What was run, for the reader of the report.
    #[serde(skip)]
    pub setting: String,
}

impl Measurement {
    /// From the two medians.
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

    /// Names the peer and says what was run.
    #[must_use]
    pub fn against(mut self, peer_name: &str, setting: String) -> Self {
        self.peer_name = peer_name.to_owned();
        self.setting = setting;
        self
    }
}

/// Writes both files.
///
/// # Errors
/// When a file cannot be written.
pub fn write(json: &Path, markdown: &Path, machine: &[(&str, String)], measurements: &[Measurement]) -> Result<()> {
    let text = serde_json::to_string_pretty(measurements).context("write the report as JSON")?;
    if let Some(folder) = json.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    std::fs::write(json, text + "\n").with_context(|| format!("write {}", json.display()))?;
    std::fs::write(markdown, table(machine, measurements)?).with_context(|| format!("write {}", markdown.display()))
}

fn table(machine: &[(&str, String)], measurements: &[Measurement]) -> Result<String> {
    let mut text = String::from(
        "# Side by side\n\nWritten by `make bench`: medians, both sides in turn on the same rows and the same server. A ratio above 1\n\
         means that ours is better.\n\n| case | ours | peer | unit | ratio |\n|---|---:|---:|---|---:|\n",
    );
    for one in measurements {
        let better = if one.higher_is_better { "higher is better" } else { "lower is better" };
        writeln!(
            text,
            "| `{}` | {} | {} | {}, {better} | {:.2} |",
            one.case,
            rounded(one.ours),
            rounded(one.peer),
            one.unit,
            one.ratio
        )?;
    }
    text.push_str("\n## What was run\n");
    for one in measurements {
        writeln!(text, "- `{}` against {}: {}", one.case, one.peer_name, one.setting)?;
    }
    text.push_str("\n## Where\n| | |\n|---|---|\n");
    for (name, value) in machine {
        writeln!(text, "| {name} | {value} |")?;
    }
    Ok(text)
}

/// Three significant digits; whole numbers above a hundred.
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
    fn the_table_names_case_peer_and_machine() {
        let one = Measurement::new("a.b.vs_c", (0.5, 12.0), "ms", false).against("C", "one row".into());
        let text = table(&[("cores", "2".into())], &[one]).unwrap();
        assert!(text.contains("| `a.b.vs_c` | 0.500 | 12.0 | ms, lower is better | 24.00 |"), "{text}");
        assert!(text.contains("- `a.b.vs_c` against C: one row"));
        assert!(text.contains("| cores | 2 |"));
    }
}
