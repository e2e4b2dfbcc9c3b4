//! The age of values: heights of snapshots, and the watermark up to which the
//! follower has brought every change into the cache.

use std::collections::BTreeMap;

use arx_pgwire::snapshot::PgSnapshot;
use serde::{Deserialize, Serialize};

use crate::error::SidecarError;

/// Number of transactions that a snapshot takes for finished. On one server, the set of these only
/// grows, so of two snapshots the higher one sees everything that the other one sees, and equal
/// heights are equal sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Height(pub(crate) u64);

impl Height {
    /// Returns the height of a snapshot as PostgreSQL prints it.
    ///
    /// # Errors
    /// [`SidecarError::Input`] for anything else.
    pub(crate) fn of(snapshot: &str) -> Result<Self, SidecarError> {
        let parsed: PgSnapshot = snapshot.parse().map_err(|_| SidecarError::Input {
            detail: format!("snapshot {snapshot:?} must be a pg_snapshot such as 10:20:10,14"),
        })?;
        let mut in_progress = parsed.in_progress;
        in_progress.sort_unstable();
        in_progress.dedup();
        Ok(Self(parsed.xmax.saturating_sub(in_progress.len() as u64)))
    }
}

/// A snapshot up to which every change is in the cache. It is valid while its key lives, which the
/// follower renews: without it, cached values say nothing about the present.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Watermark {
    pub(crate) height: Height,
    pub(crate) snapshot: String,
    /// Values of a network below its height are out of date; `*` stands for all networks.
    pub(crate) floors: BTreeMap<String, Height>,
    /// Number of the follower, and of its passes: messages without a gap have seen every change.
    pub(crate) follower: i64,
    pub(crate) pass: u64,
    /// Marks of the nodes of a cluster that have all values; empty for one server, which the
    /// watermark is on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) nodes: Vec<String>,
}

/// Name of all networks in [`Watermark::floors`].
pub(crate) const ALL_NETWORKS: &str = "*";

impl Watermark {
    /// Returns whether a value of a network may be used.
    pub(crate) fn covers(&self, network: &str, value: Height) -> bool {
        [network, ALL_NETWORKS].iter().all(|name| self.floors.get(*name).is_none_or(|floor| value >= *floor))
    }

    /// Returns whether a value is true at a snapshot, or after it.
    pub(crate) fn reaches(&self, value: Height, wanted: Option<Height>) -> bool {
        wanted.is_none_or(|wanted| self.height.max(value) >= wanted)
    }
}

/// A message to caches in processes: the passes that it follows, and the wallets that changed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Changes {
    pub(crate) watermark: Watermark,
    /// Wallets as `network:address`.
    pub(crate) wallets: Vec<String>,
    /// True if a floor was raised.
    pub(crate) raised: bool,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn heights_count_finished_transactions() {
        assert_eq!(Height::of("10:20:10,14,15").unwrap(), Height(17));
        assert_eq!(Height::of("5:5:").unwrap(), Height(5));
        assert!(Height::of("x").unwrap_err().to_string().contains("pg_snapshot"));
    }

    #[test]
    fn floors_hold_for_their_network_and_for_all() {
        let floors = [("ethereum".to_owned(), Height(5)), (ALL_NETWORKS.to_owned(), Height(3))].into();
        let watermark =
            Watermark { height: Height(9), snapshot: "9:9:".into(), floors, follower: 1, pass: 1, nodes: Vec::new() };
        assert!(!watermark.covers("ethereum", Height(4)) && watermark.covers("ethereum", Height(5)));
        assert!(!watermark.covers("bitcoin", Height(2)) && watermark.covers("bitcoin", Height(3)));
        assert!(watermark.reaches(Height(1), Some(Height(9))) && !watermark.reaches(Height(1), Some(Height(10))));
        assert!(watermark.reaches(Height(12), Some(Height(10))) && watermark.reaches(Height(0), None));
    }

    proptest! {
        /// A server begins and ends transactions in any order; its snapshots are as PostgreSQL
        /// makes them.
        #[test]
        fn heights_order_the_snapshots_of_a_server(steps in prop::collection::vec((any::<bool>(), 0_usize..8), 1..80)) {
            let (mut next, mut running, mut latest_completed) = (100_u64, Vec::<u64>::new(), 99_u64);
            let mut earlier: Option<(Height, Vec<u64>)> = None;
            for (begins, which) in steps {
                if begins || running.is_empty() {
                    running.push(next);
                    next += 1;
                } else {
                    let ended = running.remove(which % running.len());
                    latest_completed = latest_completed.max(ended);
                }
                let xmax = latest_completed + 1;
                let in_progress: Vec<u64> = running.iter().copied().filter(|xid| *xid < xmax).collect();
                let xmin = running.iter().copied().min().unwrap_or(xmax).min(xmax);
                let height = Height::of(&PgSnapshot { xmin, xmax, in_progress: in_progress.clone() }.to_string()).unwrap();
                let seen: Vec<u64> = (100..xmax).filter(|xid| !in_progress.contains(xid)).collect();
                if let Some((former_height, former)) = &earlier {
                    prop_assert!(former.iter().all(|xid| seen.contains(xid)));
                    prop_assert_eq!(height.cmp(former_height), seen.len().cmp(&former.len()));
                }
                earlier = Some((height, seen));
            }
        }
    }
}
