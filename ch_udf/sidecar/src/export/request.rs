//! The request of an export, and its division into parts.

use std::path::PathBuf;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::manifest::Part;
use super::tables::{FACTS, Table};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// Columns with types, compressed by Zstandard
    Parquet,
    /// One JSON object a line; amounts are texts
    Jsonl,
    /// CSV with the headers of neo4j-admin database import
    Neo4j,
    /// One file with all nodes and edges
    Graphml,
}

/// The rows that are exported.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Filter {
    /// Names of networks; empty for all of them.
    pub(crate) networks: Vec<String>,
    /// Times of transfers, in microseconds since 1970, the latter excluded.
    pub(crate) from: Option<i64>,
    pub(crate) until: Option<i64>,
    /// Transfers between the wallets that are up to `depth` transfers away from this one.
    pub(crate) wallet: Option<String>,
    pub(crate) depth: u32,
}

#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) folder: PathBuf,
    pub(crate) format: Format,
    pub(crate) filter: Filter,
    /// Parts that are written at a time.
    pub(crate) jobs: usize,
    /// Removes an unfinished export from the folder and starts over.
    pub(crate) restart: bool,
}

/// Times in microseconds since 1970, the end excluded; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Range {
    pub(crate) from: Option<i64>,
    pub(crate) until: Option<i64>,
}

impl Range {
    fn name(self) -> String {
        let shown = |micros: Option<i64>, none: &str| {
            micros.and_then(chrono::DateTime::from_timestamp_micros).map_or_else(
                || none.to_owned(),
                |time| {
                    let text = time.format("%Y%m%dT%H%M%S").to_string();
                    match time.timestamp_subsec_micros() {
                        0 => format!("{text}Z"),
                        micros => format!("{text}.{micros:06}Z"),
                    }
                },
            )
        };
        format!("{}-{}", shown(self.from, "start"), shown(self.until, "end"))
    }
}

/// Divides a range at the bounds of partitions, given in ascending order.
fn ranges(whole: Range, bounds: &[i64]) -> Vec<Range> {
    let is_within =
        |bound: i64| whole.from.is_none_or(|from| bound > from) && whole.until.is_none_or(|until| bound < until);
    let mut ranges = Vec::new();
    let mut from = whole.from;
    for bound in bounds.iter().copied().filter(|bound| is_within(*bound)) {
        ranges.push(Range { from, until: Some(bound) });
        from = Some(bound);
    }
    ranges.push(Range { from, until: whole.until });
    ranges
}

/// Returns the parts of an export. Those that only its own snapshot can answer come first.
pub(super) fn parts(format: Format, filter: &Filter, bounds: &[i64]) -> Vec<Part> {
    let whole = Range { from: filter.from, until: filter.until };
    let part = |table: Table, range: Range, file: String| Part { table, range, file, done: None };
    match format {
        Format::Graphml => vec![part(Table::Graph, whole, "graph.graphml".to_owned())],
        Format::Parquet | Format::Jsonl | Format::Neo4j => {
            let extension = match format {
                Format::Parquet => "parquet",
                Format::Jsonl => "jsonl",
                _ => "csv",
            };
            let mut parts = vec![part(Table::Wallets, whole, format!("wallets.{extension}"))];
            if format != Format::Neo4j {
                parts.push(part(Table::Labels, whole, format!("labels.{extension}")));
            }
            for range in ranges(whole, bounds) {
                for table in FACTS {
                    parts.push(part(table, range, format!("{}/{}.{extension}", table.name(), range.name())));
                }
            }
            parts
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_meet_and_cover_everything() {
        let range = |from, until| Range { from, until };
        assert_eq!(ranges(Range::default(), &[]), [Range::default()]);
        assert_eq!(
            ranges(Range::default(), &[10, 20]),
            [range(None, Some(10)), range(Some(10), Some(20)), range(Some(20), None)]
        );
        assert_eq!(
            ranges(range(Some(10), Some(15)), &[5, 10, 12, 15, 20]),
            [range(Some(10), Some(12)), range(Some(12), Some(15))]
        );
    }

    #[test]
    fn parts_that_only_the_snapshot_answers_come_first() {
        let parts = parts(Format::Parquet, &Filter::default(), &[1_704_067_200_000_000]);
        let files: Vec<&str> = parts.iter().map(|part| part.file.as_str()).collect();
        assert_eq!(files[..3], ["wallets.parquet", "labels.parquet", "transactions/start-20240101T000000Z.parquet"]);
        assert!(files.contains(&"token_transfers/20240101T000000Z-end.parquet"));
        assert_eq!(files.len(), 8);
    }
}
