//! The committed results and the page that shows them: `bench/results.json` and
//! `docs/benchmarks.md`.
//!
//! Owns merging a run into earlier results, and rendering. It measures nothing.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::growth::{self, Point};
use crate::plot;
use crate::report::{Measurement, Results};
use crate::scale;

/// Longest line of prose.
const WIDTH: usize = 100;

/// Facts that tell one machine from another.
const IDENTITY: [&str; 3] = ["processor", "cores", "memory"];

/// The results of one or several runs. Each case was run on one machine, ours and the peer's; other
/// cases may have been run on others.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Record {
    /// Machines of the results.
    pub machines: Vec<Machine>,
    /// Measured cases.
    pub cases: Vec<Case>,
    /// Growth of time with size.
    pub growth: Option<Growth>,
}

/// A machine and the versions on it when it was last used.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Machine {
    /// Name in the tables: `A`, `B` and so on.
    pub name: String,
    /// Facts as (name, value) pairs.
    pub facts: Vec<(String, String)>,
}

/// One measured case.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Case {
    /// Day of the measurement.
    pub date: String,
    /// Name of the machine.
    pub machine: String,
    /// The two medians.
    #[serde(flatten)]
    pub measurement: Measurement,
    /// Description of what was run.
    pub setting: String,
}

/// Measured growth.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Growth {
    /// Day of the measurement.
    pub date: String,
    /// Name of the machine.
    pub machine: String,
    /// One point for each size.
    pub points: Vec<Point>,
}

impl Record {
    /// Reads the results of earlier runs; a file that does not exist holds none.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("read {} as results", path.display()))
    }

    /// Takes the results of a run on a machine with these facts. Earlier results of the same cases
    /// are replaced.
    pub fn merge(&mut self, facts: &[(&str, String)], results: &Results) {
        let (date, facts): (Vec<_>, Vec<_>) = facts.iter().cloned().partition(|(name, _)| *name == "date");
        let date = date.into_iter().map(|(_, value)| value).next().unwrap_or_default();
        let facts = facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let machine = self.machine(facts);
        for measurement in &results.measurements {
            let (setting, machine) = (measurement.setting.clone(), machine.clone());
            let case = Case { date: date.clone(), machine, measurement: measurement.clone(), setting };
            match self.cases.iter_mut().find(|earlier| earlier.measurement.case == measurement.case) {
                Some(earlier) => *earlier = case,
                None => self.cases.push(case),
            }
        }
        if !results.growth.is_empty() {
            self.growth = Some(Growth { date, machine, points: results.growth.clone() });
        }
        let used: Vec<&String> = self
            .cases
            .iter()
            .map(|case| &case.machine)
            .chain(self.growth.iter().map(|growth| &growth.machine))
            .collect();
        self.machines.retain(|machine| used.contains(&&machine.name));
    }

    /// Returns the name of the machine with these facts, which replace those that it had before.
    fn machine(&mut self, facts: Vec<(String, String)>) -> String {
        if let Some(known) = self.machines.iter_mut().find(|known| identity(&known.facts) == identity(&facts)) {
            known.facts = facts;
            return known.name.clone();
        }
        let is_free = |name: &String| !self.machines.iter().any(|known| known.name == *name);
        let name = ('A'..='Z').map(String::from).find(is_free).unwrap_or_else(|| "?".to_owned());
        self.machines.push(Machine { name: name.clone(), facts });
        name
    }

    /// Writes the results, the page, and the picture of the growth next to the page.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, results: &Path, page: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("write the results as JSON")?;
        std::fs::write(results, text + "\n").with_context(|| format!("write {}", results.display()))?;
        if let Some(growth) = &self.growth {
            plot::write_svg(&page.with_file_name("growth.svg"), &growth.points)?;
            let scale = page.with_file_name("scale.md");
            // A run of the benchmark with few points, or with another page, has no model.
            if scale.exists() && growth.points.len() >= 3 {
                scale::update(&scale, &growth.date, &growth.points)?;
            }
        }
        std::fs::write(page, self.page()?).with_context(|| format!("write {}", page.display()))
    }

    /// Renders the page.
    ///
    /// # Errors
    /// When a number cannot be formatted.
    pub fn page(&self) -> Result<String> {
        let mut text = String::from("# Benchmarks\n\n");
        text += &wrapped(
            "`make bench` writes this page. Each case runs ARX and a peer in turn on the same rows and the same server; the \
             table shows medians. A ratio above 1 means that ARX is better. Both sides of a case ran on the same machine, \
             which the last column names.",
            "",
        );
        text += "\n| case | ARX | peer | unit | ratio | machine |\n|---|---:|---:|---|---:|---|\n";
        for Case { measurement, machine, .. } in &self.cases {
            let better = if measurement.higher_is_better { "higher is better" } else { "lower is better" };
            writeln!(
                text,
                "| `{}` | {} | {} | {}, {better} | {} | {machine} |",
                measurement.case,
                rounded(measurement.ours),
                rounded(measurement.peer),
                measurement.unit,
                ratio(measurement.ratio)
            )?;
        }
        if let Some(growth) = &self.growth {
            growth_section(&mut text, growth)?;
        }
        text += "\n## What was run\n\n";
        for Case { date, measurement, setting, .. } in &self.cases {
            let item = format!("`{}` against {}, {date}: {setting}", measurement.case, measurement.peer_name);
            text += &wrapped(&item, "- ");
        }
        for Machine { name, facts } in &self.machines {
            writeln!(text, "\n## Machine {name}\n\n| | |\n|---|---|")?;
            for (fact, value) in facts {
                writeln!(text, "| {fact} | {value} |")?;
            }
        }
        Ok(text)
    }
}

fn identity(facts: &[(String, String)]) -> Vec<&(String, String)> {
    facts.iter().filter(|(name, _)| IDENTITY.contains(&name.as_str())).collect()
}

fn growth_section(text: &mut String, Growth { date, machine, points }: &Growth) -> Result<()> {
    text.push_str(
        "\n## Growth with size\n\n![Time over transfers, both axes logarithmic](growth.svg)\n\n| transfers | wallets | reach \
         depth 3, ms | wallets reached | full build, s | refresh of 10,000 rows, s | file, MB \
         |\n|---:|---:|---:|---:|---:|---:|---:|\n",
    );
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
    text.push('\n');
    text.push_str(&wrapped(&format!("{} Measured on {date}, machine {machine}.", growth::SETTING), ""));
    Ok(())
}

/// Returns a paragraph or a list item in lines of at most [`WIDTH`] columns.
fn wrapped(text: &str, bullet: &str) -> String {
    let indent = " ".repeat(bullet.len());
    let options = textwrap::Options::new(WIDTH)
        .initial_indent(bullet)
        .subsequent_indent(&indent)
        .break_words(false)
        .word_separator(textwrap::WordSeparator::AsciiSpace)
        .word_splitter(textwrap::WordSplitter::NoHyphenation)
        .wrap_algorithm(textwrap::WrapAlgorithm::FirstFit);
    textwrap::fill(text, options) + "\n"
}

/// Two decimals; whole numbers above a hundred; three decimals below a tenth.
fn ratio(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value < 0.1 => format!("{value:.3}"),
        value => format!("{value:.2}"),
    }
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

    const COMMITTED: &str = include_str!("../results.json");
    const PAGE: &str = include_str!("../../docs/benchmarks.md");

    fn machine(cores: &str) -> Vec<(&'static str, String)> {
        vec![("date", "2026-01-01".into()), ("cores", cores.into())]
    }

    fn results(case: &str, ours: f64) -> Results {
        let measurement = Measurement::new(case, (ours, 12.0), "ms", false).against("C", "one row".into());
        let mut results = Results::default();
        results.measurements.push(measurement);
        results
    }

    #[test]
    fn the_page_shows_the_committed_results() {
        let record: Record = serde_json::from_str(COMMITTED).unwrap();
        assert_eq!(record.page().unwrap(), PAGE, "`make bench` or `arx-bench --render` writes docs/benchmarks.md");
    }

    #[test]
    fn a_case_has_a_row_and_a_description() {
        let mut record = Record::default();
        record.merge(&machine("2"), &results("a.b.vs_c", 0.5));
        let text = record.page().unwrap();
        assert!(text.contains("| `a.b.vs_c` | 0.500 | 12.0 | ms, lower is better | 24.00 | A |"), "{text}");
        assert!(text.contains("- `a.b.vs_c` against C, 2026-01-01: one row"), "{text}");
        assert!(text.contains("| cores | 2 |"), "{text}");
        assert!(!text.contains("Growth"), "{text}");
    }

    #[test]
    fn a_later_run_replaces_its_own_cases() {
        let mut record = Record::default();
        record.merge(&machine("2"), &results("a", 1.0));
        record.merge(&machine("2"), &results("b", 2.0));
        record.merge(&machine("2"), &results("a", 3.0));
        let medians: Vec<f64> = record.cases.iter().map(|case| case.measurement.ours).collect();
        assert_eq!(medians, [3.0, 2.0]);
    }

    #[test]
    fn each_case_names_its_machine() {
        let mut record = Record::default();
        record.merge(&machine("2"), &results("a", 1.0));
        record.merge(&machine("4"), &results("b", 2.0));
        let machines: Vec<&str> = record.cases.iter().map(|case| case.machine.as_str()).collect();
        assert_eq!(machines, ["A", "B"]);
        let text = record.page().unwrap();
        assert!(text.contains("## Machine A") && text.contains("## Machine B"), "{text}");
        record.merge(&machine("4"), &results("a", 3.0));
        let names: Vec<&str> = record.machines.iter().map(|machine| machine.name.as_str()).collect();
        assert_eq!(names, ["B"], "a machine without results");
    }

    #[test]
    fn growth_is_a_table_and_a_picture() {
        let point = Point {
            transfers: 250_000,
            wallets: 25_000,
            reach_ms: 1.5,
            reached: 20_000,
            build_ms: 300.0,
            refresh_ms: 45.0,
            file_bytes: 14_000_000,
        };
        let mut record = Record::default();
        let mut results = Results::default();
        results.growth.push(point);
        record.merge(&machine("2"), &results);
        let text = record.page().unwrap();
        assert!(text.contains("](growth.svg)"));
        assert!(text.contains("| 250000 | 25000 | 1.50 | 20000 | 0.300 | 0.045 | 14.0 |"), "{text}");
    }

    #[test]
    fn prose_wraps() {
        let mut results = results("a", 1.0);
        results.measurements[0].setting = "word ".repeat(100);
        let mut record = Record::default();
        record.merge(&machine("2"), &results);
        let text = record.page().unwrap();
        assert!(text.lines().all(|line| line.starts_with('|') || line.chars().count() <= WIDTH), "{text}");
    }
}
