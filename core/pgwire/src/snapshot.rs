//! The text of a `pg_snapshot`: `xmin:xmax:xip,…`.

use std::fmt;
use std::str::FromStr;

use crate::PgWireError;

/// Fields of a `pg_snapshot`. What they mean is left to the reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgSnapshot {
    pub xmin: u64,
    pub xmax: u64,
    /// Transactions from `xmin` to below `xmax` that were in progress.
    pub in_progress: Vec<u64>,
}

impl fmt::Display for PgSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.xmin, self.xmax)?;
        for (index, xid) in self.in_progress.iter().enumerate() {
            write!(f, "{}{xid}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl FromStr for PgSnapshot {
    type Err = PgWireError;

    fn from_str(text: &str) -> Result<Self, PgWireError> {
        let malformed = PgWireError::MalformedSnapshot;
        let number = |text: &str| text.parse::<u64>().map_err(|_| malformed);
        let mut parts = text.split(':');
        let (Some(xmin), Some(xmax), Some(list), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed);
        };
        let in_progress = list.split(',').filter(|xid| !xid.is_empty()).map(number).collect::<Result<Vec<_>, _>>()?;
        let (xmin, xmax) = (number(xmin)?, number(xmax)?);
        if xmin > xmax || in_progress.iter().any(|xid| *xid < xmin || *xid >= xmax) {
            return Err(malformed);
        }
        Ok(Self { xmin, xmax, in_progress })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_is_postgresqls() {
        let snapshot: PgSnapshot = "10:20:10,14,15".parse().unwrap();
        assert_eq!(snapshot, PgSnapshot { xmin: 10, xmax: 20, in_progress: vec![10, 14, 15] });
        assert_eq!(snapshot.to_string(), "10:20:10,14,15");
        assert_eq!("5:5:".parse::<PgSnapshot>().unwrap().to_string(), "5:5:");
        for bad in ["", "1:2", "2:1:", "1:2:3", "a:b:", "1:2:1:", "1:5:9"] {
            assert_eq!(bad.parse::<PgSnapshot>(), Err(PgWireError::MalformedSnapshot), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_snapshot_is_parsed_as_it_was_printed(xmin in 0_u64.., more in prop::collection::vec(0_u64..50, 0..6)) {
            let xmin = xmin >> 1;
            let in_progress: Vec<u64> = more.iter().map(|offset| xmin + offset).collect();
            let snapshot = PgSnapshot { xmin, xmax: xmin + 50, in_progress };
            prop_assert_eq!(snapshot.to_string().parse(), Ok(snapshot));
        }

        #[test]
        fn no_text_leads_to_a_panic(text in "[0-9:,a]{0,30}") {
            let _ = text.parse::<PgSnapshot>();
        }
    }
}
