//! How time grows with size, as the report has it: what is measured at each size, and what the reader is told.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

/// Transfers of the smallest size.
pub const SMALLEST: u64 = 250_000;

/// What was measured at one size.
#[derive(Debug, Clone, Serialize)]
pub struct Point {
    /// Transfers in the table.
    pub transfers: u64,
    /// Wallets in the graph.
    pub wallets: i64,
    /// Median milliseconds of a search to depth 3 from the busiest sender of the newest copy.
    pub reach_ms: f64,
    /// Wallets that it found.
    pub reached: i64,
    /// Median milliseconds of a build.
    pub build_ms: f64,
    /// Median milliseconds of a refresh after 10,000 new rows.
    pub refresh_ms: f64,
    /// Size of the file.
    pub file_bytes: i64,
}

/// What was run, for the reader of the report.
pub const SETTING: &str = "The dense graph at a size of 250,000 transfers among 25,000 wallets, put beside itself 2, 4, … times \
    with relabelled wallets; a transfer's target lies in its own copy or an earlier one, so that a search from the newest copy \
    meets all of them. Search: `wallet_reach` to depth 3, with transfers and values, from the newest copy's busiest sender, over \
    the client, median of 20 calls. Build and refresh (after 10,000 new rows): medians of 3. The table has 24 months and, so that \
    loading stays short, none of its indexes but the one on `ingest_xid`.";

/// Writes the points for programs.
///
/// # Errors
/// When the file cannot be written.
pub fn write_json(path: &Path, points: &[Point]) -> Result<()> {
    let text = serde_json::to_string_pretty(points).context("write the growth as JSON")?;
    std::fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))
}
