//! Results of a run, and `report.json`, the report for programs. The page for people is `page`.

use std::path::Path;

use anyhow::{Context, Error, Result, bail};
use serde::{Deserialize, Serialize};

use crate::growth::{self, Point};

/// A measured case.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measurement {
    /// Name, such as `area.subject.vs_peer`.
    pub case: String,
    /// Median of ARX.
    pub ours: f64,
    /// Median of the peer.
    pub peer: f64,
    /// Description of the peer.
    pub peer_name: String,
    /// Unit of both medians.
    pub unit: String,
    /// Factor by which ARX is better: above 1 it is better, in any unit.
    pub ratio: f64,
    /// True if a higher median is better.
    pub higher_is_better: bool,
    /// Description of what was run.
    #[serde(skip)]
    pub setting: String,
}

impl Measurement {
    /// Compares the two medians.
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

    /// Names the peer and describes what was run.
    #[must_use]
    pub fn against(mut self, peer_name: &str, setting: String) -> Self {
        self.peer_name = peer_name.to_owned();
        self.setting = setting;
        self
    }
}

/// Results of a run. A case that fails leaves the others.
#[derive(Debug, Default)]
pub struct Results {
    /// Measured cases.
    pub measurements: Vec<Measurement>,
    /// Growth of time with size, if it was measured.
    pub growth: Vec<Point>,
    failures: Vec<String>,
}

impl Results {
    /// Keeps a case, or the reason why it failed.
    pub fn add(&mut self, case: &str, measured: Result<Measurement>) {
        match measured {
            Ok(measurement) => self.measurements.push(measurement),
            Err(error) => self.failed(case, &error),
        }
    }

    /// Keeps the reason why a case failed.
    pub fn failed(&mut self, case: &str, error: &Error) {
        eprintln!("  {case} failed: {error:#}");
        self.failures.push(format!("{case}: {error:#}"));
    }

    /// # Errors
    /// When something could not be measured.
    pub fn ensure_complete(&self) -> Result<()> {
        if !self.failures.is_empty() {
            bail!("some cases failed:\n{}", self.failures.join("\n"));
        }
        Ok(())
    }
}

/// Reports cases for which there is no data. They are no failures, and earlier results of them
/// stay.
pub fn leave_out<'a>(cases: impl Iterator<Item = &'a str>, why: &str) {
    for case in cases {
        eprintln!("{case}: left out, {why}");
    }
}

/// Writes the report for programs, and `growth.json` next to it where growth was measured.
///
/// # Errors
/// When a file cannot be written.
pub fn write(path: &Path, results: &Results) -> Result<()> {
    let text = serde_json::to_string_pretty(&results.measurements).context("write the report as JSON")?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    std::fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))?;
    if !results.growth.is_empty() {
        growth::write_json(&path.with_file_name("growth.json"), &results.growth)?;
    }
    Ok(())
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
    fn a_failed_case_leaves_the_others() {
        let mut results = Results::default();
        results.add("a", Ok(Measurement::new("a", (1.0, 2.0), "ms", false)));
        results.add("b", Err(anyhow::anyhow!("no answer")));
        assert_eq!(results.measurements.len(), 1);
        assert!(results.ensure_complete().unwrap_err().to_string().contains("b: no answer"));
    }
}
