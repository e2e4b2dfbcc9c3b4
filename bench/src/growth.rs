//! Growth of times with size in the report: the measured values, and their description.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Number of transfers of the smallest size.
pub const SMALLEST: u64 = 250_000;

/// Measured values at one size.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Point {
    pub transfers: u64,
    pub wallets: i64,
    /// Median milliseconds of a search to depth 3 from the busiest sender of the newest copy.
    pub reach_ms: f64,
    /// Wallets reached by that search.
    pub reached: i64,
    /// Median milliseconds of a build.
    pub build_ms: f64,
    /// Median milliseconds of a refresh after 10,000 new rows.
    pub refresh_ms: f64,
    pub file_bytes: i64,
}

/// Description of the measurement in the report.
pub const SETTING: &str = "The dense graph with 250,000 transfers among 25,000 wallets, and 2, 4, … copies of it with renumbered \
    wallets; a transfer's target is in its own copy or an earlier one, so that a search from the newest copy reaches all of them. \
    Search: `wallet_reach` to depth 3, with transfers and values, from the busiest sender of the newest copy, measured by the client, \
    median of 20 calls. Build and refresh (after 10,000 new rows): medians of 3. The table has 24 months and, to keep loading short, \
    only the index on `ingest_xid`.";

/// Writes the points as JSON.
///
/// # Errors
/// When the file cannot be written.
pub fn write_json(path: &Path, points: &[Point]) -> Result<()> {
    let text = serde_json::to_string_pretty(points).context("write the growth as JSON")?;
    std::fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))
}
