//! The transactions of a database that a reader sees.

/// A point in the history of commits: transactions below `xmax` that are not in `in_progress` are
/// seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    xmax: u64,
    in_progress: Vec<u64>,
}

impl Snapshot {
    /// Makes a snapshot from the first number that was not yet assigned, and the numbers below it
    /// that were in progress, in any order.
    #[must_use]
    pub fn new(xmax: u64, mut in_progress: Vec<u64>) -> Self {
        in_progress.retain(|xid| *xid < xmax);
        in_progress.sort_unstable();
        in_progress.dedup();
        Self { xmax, in_progress }
    }

    /// Returns the number below which every transaction is seen.
    #[must_use]
    pub fn xmin(&self) -> u64 {
        self.in_progress.first().copied().unwrap_or(self.xmax)
    }

    /// Returns the number from which on no transaction is seen.
    #[must_use]
    pub const fn xmax(&self) -> u64 {
        self.xmax
    }

    /// Returns the transactions below `xmax` that are not seen, in ascending order.
    #[must_use]
    pub fn in_progress(&self) -> &[u64] {
        &self.in_progress
    }

    /// Reports whether a transaction that has committed is seen.
    #[must_use]
    pub fn sees(&self, xid: u64) -> bool {
        xid < self.xmax && self.in_progress.binary_search(&xid).is_err()
    }

    /// Reports whether everything that `other` sees is seen here, too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        // This snapshot sees no number from its own end to the other's: the other must not see one
        // either.
        let beyond = other.in_progress.iter().filter(|xid| **xid >= self.xmax).count() as u64;
        other.xmax.saturating_sub(self.xmax) == beyond && self.in_progress.iter().all(|xid| !other.sees(*xid))
    }

    /// Reports whether both see the same transactions.
    #[must_use]
    pub fn sees_same(&self, other: &Self) -> bool {
        self == other || (self.covers(other) && other.covers(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn snapshots() -> impl Strategy<Value = Snapshot> {
        (0_u64..20, prop::collection::vec(0_u64..20, 0..6)).prop_map(|(xmax, list)| Snapshot::new(xmax, list))
    }

    #[test]
    fn transactions_in_progress_and_later_ones_are_not_seen() {
        let snapshot = Snapshot::new(20, vec![15, 10, 14, 14, 20]);
        assert_eq!((snapshot.xmin(), snapshot.xmax(), snapshot.in_progress()), (10, 20, &[10, 14, 15][..]));
        assert!(snapshot.sees(9) && snapshot.sees(11) && !snapshot.sees(14) && !snapshot.sees(20));
        assert_eq!(Snapshot::new(5, vec![]).xmin(), 5);
    }

    proptest! {
        #[test]
        fn a_snapshot_covers_another_if_it_sees_all_that_the_other_sees(a in snapshots(), b in snapshots()) {
            let covers = (0..25).all(|xid| !b.sees(xid) || a.sees(xid));
            prop_assert_eq!(a.covers(&b), covers);
            prop_assert_eq!(a.sees_same(&b), (0..25).all(|xid| a.sees(xid) == b.sees(xid)));
        }
    }
}
