//! Growth beyond what a machine measures: a model of the measured points, what it says of larger
//! graphs, and a stream of transfers of any number to try it. Writes the generated part of
//! `docs/scale.md`.

pub mod tiers;

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::graph::dense::{DenseTransfers, write_row};
use crate::growth::Point;
use tiers::{CURRENT, Policy, simulate};

const BEGIN: &str = "<!-- model: begin -->";
const END: &str = "<!-- model: end -->";

/// New transfers of a refresh.
const REFRESH_ROWS: u64 = 10_000;

/// Refreshes of a point of the growth measurement.
const MEASURED_REFRESHES: usize = 3;

/// Transfers of larger graphs.
const SIZES: [u64; 4] = [8_000_000, 100_000_000, 1_000_000_000, 10_000_000_000];

/// Refreshes of the simulation: 100 million new transfers.
const REFRESHES: usize = 10_000;

/// Transfers that one file numbers.
const MAX_TRANSFERS: u64 = u32::MAX as u64 - 2;

/// A line through measured points.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    pub start: f64,
    pub slope: f64,
}

impl Line {
    /// Fits a line that passes the points with the least sum of squared relative errors.
    #[must_use]
    pub fn through(points: &[(f64, f64)]) -> Option<Self> {
        let (mut w, mut wx, mut wy, mut wxx, mut wxy) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (x, y) in points {
            let weight = 1.0 / (y * y).max(f64::MIN_POSITIVE);
            w += weight;
            wx += weight * x;
            wy += weight * y;
            wxx += weight * x * x;
            wxy += weight * x * y;
        }
        let determinant = w.mul_add(wxx, -(wx * wx));
        if points.len() < 2 || determinant.abs() <= f64::EPSILON * w * wxx {
            return None;
        }
        let slope = w.mul_add(wxy, -(wx * wy)) / determinant;
        Some(Self { start: slope.mul_add(-wx, wy) / w, slope })
    }

    #[must_use]
    pub fn at(&self, x: f64) -> f64 {
        self.slope.mul_add(x, self.start)
    }

    /// Returns the largest relative error at the points.
    #[must_use]
    pub fn error(&self, points: &[(f64, f64)]) -> f64 {
        points.iter().map(|(x, y)| (self.at(*x) / y - 1.0).abs()).fold(0.0, f64::max)
    }
}

/// The model of the graph's file.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Bytes of the file for each transfer.
    pub row_bytes: f64,
    /// Milliseconds of a build over millions of transfers.
    pub build: Line,
    /// Milliseconds of a refresh over megabytes that it writes.
    pub refresh: Line,
    /// Largest relative error of the refreshes.
    pub refresh_error: f64,
    /// The policy that the measured refreshes followed.
    pub policy: Policy,
}

impl Model {
    /// Fits the model. Of the policies, the measured one is that whose bytes explain the times
    /// best.
    ///
    /// # Errors
    /// When there are too few points.
    pub fn fit(points: &[Point]) -> Result<Self> {
        ensure!(points.len() >= 3, "the growth has {} points, which are too few for a model", points.len());
        let row_bytes = points.iter().map(|point| point.file_bytes as f64 / point.transfers as f64).sum::<f64>()
            / points.len() as f64;
        let build: Vec<(f64, f64)> =
            points.iter().map(|point| (point.transfers as f64 / 1e6, point.build_ms)).collect();
        let build = Line::through(&build).context("the builds lie on no line")?;
        let mut best: Option<(Policy, Line, f64)> = None;
        for policy in [Policy::MergeAlways, CURRENT] {
            let refreshes: Vec<(f64, f64)> = points
                .iter()
                .map(|point| (refresh_megabytes(policy, point.transfers, row_bytes), point.refresh_ms))
                .collect();
            let Some(line) = Line::through(&refreshes).filter(|line| line.slope > 0.0) else { continue };
            let error = line.error(&refreshes);
            if best.as_ref().is_none_or(|(.., least)| error < *least) {
                best = Some((policy, line, error));
            }
        }
        let (policy, refresh, refresh_error) = best.context("no policy explains the refreshes")?;
        Ok(Self { row_bytes, build, refresh, refresh_error, policy })
    }
}

/// Returns the megabytes that a measured refresh writes.
fn refresh_megabytes(policy: Policy, transfers: u64, row_bytes: f64) -> f64 {
    simulate(policy, transfers, row_bytes, REFRESH_ROWS, MEASURED_REFRESHES).median() as f64 / 1e6
}

/// Renders the generated part of the document.
///
/// # Errors
/// When there are too few points.
pub fn render(date: &str, points: &[Point]) -> Result<String> {
    let model = Model::fit(points)?;
    let mut text = format!("Measured on {date}, and what the model says of the same sizes:\n\n");
    text += "| transfers | build, s | model | refresh, ms | model | file, MB | model |\n|---:|---:|---:|---:|---:|---:|---:|\n";
    for point in points {
        writeln!(
            text,
            "| {} | {:.2} | {:.2} | {:.0} | {:.0} | {:.0} | {:.0} |",
            point.transfers,
            point.build_ms / 1e3,
            model.build.at(point.transfers as f64 / 1e6) / 1e3,
            point.refresh_ms,
            model.refresh.at(refresh_megabytes(model.policy, point.transfers, model.row_bytes)),
            point.file_bytes as f64 / 1e6,
            point.transfers as f64 * model.row_bytes / 1e6,
        )?;
    }
    writeln!(
        text,
        "\nModel: a transfer takes {:.0} bytes; a build takes {:.2} s a million transfers;\na refresh takes {:.0} ms and \
         {:.2} ms a megabyte that it writes. Refreshes of these points\n{}; the model misses none of them by more than {:.0} %.\n",
        model.row_bytes,
        model.build.slope / 1e3,
        model.refresh.start.max(0.0),
        model.refresh.slope,
        match model.policy {
            Policy::MergeAlways => "merged each time",
            Policy::OneSegment { .. } | Policy::Tiers { .. } => "wrote delta segments",
        },
        model.refresh_error * 100.0
    )?;
    text += "| transfers | file, GB | files | build, h | build a file, h |\n|---:|---:|---:|---:|---:|\n";
    for size in SIZES {
        let files = size.div_ceil(MAX_TRANSFERS);
        let hours = |transfers: u64| model.build.at(transfers as f64 / 1e6) / 3.6e6;
        writeln!(
            text,
            "| {size} | {:.1} | {files} | {:.2} | {:.2} |",
            size as f64 * model.row_bytes / 1e9,
            hours(size),
            hours(size / files)
        )?;
    }
    writeln!(
        text,
        "\nBytes written for each byte of new transfers, over {REFRESHES} refreshes of {REFRESH_ROWS} transfers, the\nmedian and \
         the longest refresh, and what a session reads when it opens the last state:\n"
    )?;
    text += "| transfers | policy | written | median, ms | longest, s | session reads, MB |\n|---:|---|---:|---:|---:|---:|\n";
    let policies = [
        (CURRENT, "one segment (as it is)"),
        (Policy::MergeAlways, "a merge each time"),
        (Policy::OneSegment { share: 32, limit: u64::MAX }, "one segment, no limit of rows"),
        (Policy::Tiers { fanout: 8, share: 32 }, "tiers of 8"),
    ];
    for size in SIZES {
        for (policy, name) in policies {
            let written = simulate(policy, size.min(MAX_TRANSFERS), model.row_bytes, REFRESH_ROWS, REFRESHES);
            let millis = |bytes: u64| model.refresh.at(bytes as f64 / 1e6);
            writeln!(
                text,
                "| {size} | {name} | {:.0} | {:.0} | {:.1} | {:.1} |",
                written.amplification(),
                millis(written.median()),
                millis(written.largest()) / 1e3,
                written.read_by_session as f64 / 1e6
            )?;
        }
    }
    Ok(text)
}

/// Replaces the generated part of the document.
///
/// # Errors
/// When the file has no such part, or cannot be written.
pub fn update(page: &Path, date: &str, points: &[Point]) -> Result<()> {
    let text = std::fs::read_to_string(page).with_context(|| format!("read {}", page.display()))?;
    let text =
        replaced(&text, &render(date, points)?).with_context(|| format!("{} has no part {BEGIN}", page.display()))?;
    std::fs::write(page, text).with_context(|| format!("write {}", page.display()))
}

fn replaced(text: &str, region: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", region.trim()))
}

/// Writes transfers in the text format of `COPY`, with the columns of
/// [`COLUMNS`](crate::graph::dense::COLUMNS). Memory does not grow with their number.
///
/// # Errors
/// When the output cannot be written.
pub fn generate(out: &mut impl std::io::Write, transfers: u64, wallets: u32, seed: u64) -> Result<()> {
    let mut text = String::new();
    for transfer in DenseTransfers::new(seed, wallets).take(usize::try_from(transfers)?) {
        write_row(&mut text, &transfer, transfers);
        if text.len() >= 1 << 20 {
            out.write_all(text.as_bytes())?;
            text.clear();
        }
    }
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::Record;
    use std::path::PathBuf;

    fn workspace() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    #[test]
    fn the_model_reproduces_the_measured_points() {
        let record = Record::read(&workspace().join("bench/results.json")).unwrap();
        let growth = record.growth.unwrap();
        let model = Model::fit(&growth.points).unwrap();
        assert!(model.refresh_error < 0.35, "the refreshes are missed by {:.2}", model.refresh_error);
        assert!((60.0..150.0).contains(&model.row_bytes), "{} bytes a transfer", model.row_bytes);
        for point in &growth.points {
            let bytes = point.transfers as f64 * model.row_bytes;
            assert!((bytes / point.file_bytes as f64 - 1.0).abs() < 0.1, "{} transfers", point.transfers);
        }
    }

    #[test]
    fn the_document_follows_from_the_results() {
        let record = Record::read(&workspace().join("bench/results.json")).unwrap();
        let growth = record.growth.unwrap();
        let page = std::fs::read_to_string(workspace().join("docs/scale.md")).unwrap();
        let expected = replaced(&page, &render(&growth.date, &growth.points).unwrap()).unwrap();
        assert!(page == expected, "docs/scale.md is outdated: arx-bench --render writes it again");
    }

    #[test]
    fn a_stream_has_the_rows_that_were_asked_for() {
        let mut out = Vec::new();
        generate(&mut out, 1_000, 50, 3).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 1_000);
        assert!(lines.iter().all(|line| line.split('\t').count() == 11));
        let mut again = Vec::new();
        generate(&mut again, 1_000, 50, 3).unwrap();
        assert_eq!(again, text.as_bytes());
    }

    #[test]
    fn a_line_passes_its_points() {
        let line = Line::through(&[(1.0, 3.0), (2.0, 5.0), (10.0, 21.0)]).unwrap();
        assert!((line.start - 1.0).abs() < 1e-9 && (line.slope - 2.0).abs() < 1e-9, "{line:?}");
        assert!(Line::through(&[(1.0, 3.0)]).is_none());
    }
}
