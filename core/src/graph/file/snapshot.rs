//! Which transactions of the database a reader sees.

use std::fmt;
use std::str::FromStr;

use crate::graph::error::Damaged;

/// Transactions below `xmax` that are not in `in_progress` are seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    xmin: u64,
    xmax: u64,
    in_progress: Vec<u64>,
}

impl Snapshot {
    /// From the first number that was not given out and the numbers below it that were still in progress, in any order.
    #[must_use]
    pub fn new(xmax: u64, mut in_progress: Vec<u64>) -> Self {
        in_progress.retain(|xid| *xid < xmax);
        in_progress.sort_unstable();
        in_progress.dedup();
        let xmin = in_progress.first().copied().unwrap_or(xmax);
        Self { xmin, xmax, in_progress }
    }

    /// Everything below is seen.
    #[must_use]
    pub const fn xmin(&self) -> u64 {
        self.xmin
    }

    /// Nothing from here on is seen.
    #[must_use]
    pub const fn xmax(&self) -> u64 {
        self.xmax
    }

    /// Whether a transaction that has committed is seen.
    #[must_use]
    pub fn sees(&self, xid: u64) -> bool {
        xid < self.xmax && self.in_progress.binary_search(&xid).is_err()
    }

    /// Whether everything that `other` sees is seen here, too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        // Numbers from our end to theirs, which we do not see: they must not see them either.
        let beyond = other.in_progress.iter().filter(|xid| **xid >= self.xmax).count() as u64;
        other.xmax.saturating_sub(self.xmax) == beyond && self.in_progress.iter().all(|xid| !other.sees(*xid))
    }

    /// Whether both see the same.
    #[must_use]
    pub fn sees_same(&self, other: &Self) -> bool {
        self == other || (self.covers(other) && other.covers(self))
    }
}

/// As PostgreSQL writes its `pg_snapshot`.
impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.xmin, self.xmax)?;
        for (place, xid) in self.in_progress.iter().enumerate() {
            write!(f, "{}{xid}", if place == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl FromStr for Snapshot {
    type Err = Damaged;

    fn from_str(text: &str) -> Result<Self, Damaged> {
        let damaged = Damaged { what: "snapshot cannot be read" };
        let number = |text: &str| text.parse::<u64>().map_err(|_| damaged);
        let mut parts = text.split(':');
        let (Some(xmin), Some(xmax), Some(list), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(damaged);
        };
        let in_progress = list.split(',').filter(|xid| !xid.is_empty()).map(number).collect::<Result<Vec<_>, _>>()?;
        let (xmin, xmax) = (number(xmin)?, number(xmax)?);
        if xmin > xmax || in_progress.iter().any(|xid| *xid < xmin || *xid >= xmax) {
            return Err(damaged);
        }
        Ok(Self { xmin, ..Self::new(xmax, in_progress) })
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
    fn text_is_postgresqls() {
        let snapshot: Snapshot = "10:20:10,14,15".parse().unwrap();
        assert_eq!(snapshot.to_string(), "10:20:10,14,15");
        assert!(snapshot.sees(9) && snapshot.sees(11) && !snapshot.sees(14) && !snapshot.sees(20));
        assert_eq!("5:5:".parse::<Snapshot>().unwrap().to_string(), "5:5:");
        for bad in ["", "1:2", "2:1:", "1:2:3", "a:b:", "1:2:1:", "1:5:9"] {
            assert!(bad.parse::<Snapshot>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn covering_is_seeing_all_that_the_other_sees(a in snapshots(), b in snapshots()) {
            let covers = (0..25).all(|xid| !b.sees(xid) || a.sees(xid));
            prop_assert_eq!(a.covers(&b), covers);
            prop_assert_eq!(a.sees_same(&b), (0..25).all(|xid| a.sees(xid) == b.sees(xid)));
            prop_assert_eq!(&a.to_string().parse::<Snapshot>().unwrap(), &a);
        }
    }
}
