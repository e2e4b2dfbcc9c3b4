//! The cost of a graph file that is kept current: the bytes that refreshes write, simulated by the
//! rules of a policy. It counts rows and runs no server.

/// Bytes of an added transfer in a delta segment: its record, and a share of new addresses.
pub const SEGMENT_ROW_BYTES: u64 = 90;

/// The way in which changes reach the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Each refresh merges its changes into a new file.
    MergeAlways,
    /// Each refresh writes all changes since the file as its one delta segment, as long as these
    /// are at most `limit`, and 1/`share` of the file's transfers; then it merges them.
    OneSegment { share: u64, limit: u64 },
    /// Each refresh appends a segment of its own; `fanout` segments of a tier become one of the
    /// next, and all are merged into the file when they exceed 1/`share` of it.
    Tiers { fanout: u64, share: u64 },
}

/// The policy of `pg_ext/src/graph_store`, with the default of `arx.graph_delta_limit`.
pub const CURRENT: Policy = Policy::OneSegment { share: 32, limit: 50_000 };

/// Bytes that a number of refreshes writes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Written {
    /// Bytes that each refresh writes.
    pub by_refresh: Vec<u64>,
    /// Bytes of the new rows themselves.
    pub new_bytes: u64,
    /// Bytes that a session reads into memory when it opens the last state: the segments.
    pub read_by_session: u64,
}

impl Written {
    /// Returns the bytes written for each byte of new rows.
    #[must_use]
    pub fn amplification(&self) -> f64 {
        self.by_refresh.iter().sum::<u64>() as f64 / self.new_bytes.max(1) as f64
    }

    /// Returns the median of the bytes that a refresh writes.
    #[must_use]
    pub fn median(&self) -> u64 {
        let mut sorted = self.by_refresh.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or(0)
    }

    /// Returns the most bytes that a refresh writes.
    #[must_use]
    pub fn largest(&self) -> u64 {
        self.by_refresh.iter().copied().max().unwrap_or(0)
    }
}

/// Simulates refreshes of `rows` new transfers each, of a file with `transfers` of `row_bytes`
/// each.
#[must_use]
pub fn simulate(policy: Policy, transfers: u64, row_bytes: f64, rows: u64, refreshes: usize) -> Written {
    let file_bytes = |transfers: u64| (transfers as f64 * row_bytes) as u64;
    let mut base = transfers;
    // Rows of the segments, by tier.
    let mut tiers: Vec<Vec<u64>> = vec![Vec::new()];
    let mut written = Written::default();
    for _ in 0..refreshes {
        let changes: u64 = tiers.iter().flatten().sum::<u64>() + rows;
        let fits = match policy {
            Policy::MergeAlways => false,
            Policy::OneSegment { share, limit } => changes <= limit && changes.saturating_mul(share) <= base,
            Policy::Tiers { share, .. } => changes.saturating_mul(share) <= base,
        };
        let bytes = if !fits {
            base += changes;
            tiers = vec![Vec::new()];
            file_bytes(base)
        } else if let Policy::Tiers { fanout, .. } = policy {
            append(&mut tiers, rows, fanout) * SEGMENT_ROW_BYTES
        } else {
            tiers = vec![vec![changes]];
            changes * SEGMENT_ROW_BYTES
        };
        written.by_refresh.push(bytes);
        written.new_bytes += rows * SEGMENT_ROW_BYTES;
    }
    written.read_by_session = tiers.iter().flatten().sum::<u64>() * SEGMENT_ROW_BYTES;
    written
}

/// Appends a segment to the first tier, and merges full tiers into the next one. Returns the rows
/// that this writes.
fn append(tiers: &mut Vec<Vec<u64>>, rows: u64, fanout: u64) -> u64 {
    let mut written = rows;
    let mut merged = rows;
    for tier in 0.. {
        if tier == tiers.len() {
            tiers.push(Vec::new());
        }
        tiers[tier].push(merged);
        if (tiers[tier].len() as u64) < fanout {
            break;
        }
        merged = tiers[tier].drain(..).sum();
        written += merged;
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: u64 = 10_000;

    #[test]
    fn a_merge_writes_the_whole_file_and_a_segment_what_changed() {
        let merged = simulate(Policy::MergeAlways, 1_000_000, 100.0, ROWS, 3);
        assert_eq!(merged.by_refresh, [101_000_000, 102_000_000, 103_000_000]);
        assert_eq!((merged.median(), merged.largest(), merged.read_by_session), (102_000_000, 103_000_000, 0));
        // 30,000 of a million are the most that a segment of 1/32 holds.
        let segments = simulate(CURRENT, 1_000_000, 100.0, ROWS, 5);
        let bytes = |rows: u64| rows * SEGMENT_ROW_BYTES;
        assert_eq!(segments.by_refresh, [bytes(10_000), bytes(20_000), bytes(30_000), 104_000_000, bytes(10_000)]);
        assert_eq!(segments.read_by_session, bytes(10_000));
    }

    #[test]
    fn tiers_write_each_row_once_a_tier() {
        let policy = Policy::Tiers { fanout: 4, share: 8 };
        let written = simulate(policy, 100_000_000, 100.0, ROWS, 64);
        // 64 segments: each row is written at first, and by three merges of tiers.
        assert!((written.amplification() - 4.0).abs() < 1e-9, "{}", written.amplification());
        assert_eq!(written.largest(), ROWS * SEGMENT_ROW_BYTES * (1 + 4 + 16 + 64));
        assert_eq!(written.read_by_session, 64 * ROWS * SEGMENT_ROW_BYTES);
        let always = simulate(Policy::MergeAlways, 100_000_000, 100.0, ROWS, 64);
        assert!(always.amplification() > 1_000.0 * written.amplification() / 4.0);
    }
}
