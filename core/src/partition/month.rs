//! Calendar months of UTC and their bounds.

use std::fmt;

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, Utc};

use super::PartitionError;

/// A month of UTC, of the years 1 to 9999. Ordered by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month {
    year: i32,
    month: u32,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
}

const MONTHS_A_YEAR: i32 = 12;

impl Month {
    /// Makes the month `month` (1 to 12) of year `year` (1 to 9999).
    ///
    /// # Errors
    /// [`PartitionError::NoSuchMonth`].
    pub fn new(year: i32, month: u32) -> Result<Self, PartitionError> {
        let no_such_month = PartitionError::NoSuchMonth { year, month };
        if !(1..=9999).contains(&year) {
            return Err(no_such_month);
        }
        let start =
            |year, month| NaiveDate::from_ymd_opt(year, month, 1).map(|day| day.and_time(NaiveTime::MIN).and_utc());
        let following = if month == 12 { start(year + 1, 1) } else { start(year, month + 1) };
        match (start(year, month), following) {
            (Some(from), Some(to)) => Ok(Self { year, month, from, to }),
            _ => Err(no_such_month),
        }
    }

    /// Returns the month that contains an instant.
    ///
    /// # Errors
    /// [`PartitionError::NoSuchMonth`] outside the years 1 to 9999.
    pub fn of(at: DateTime<Utc>) -> Result<Self, PartitionError> {
        Self::new(at.year(), at.month())
    }

    /// Returns the bounds of all months together.
    ///
    /// # Errors
    /// None: both months exist.
    pub fn all() -> Result<(DateTime<Utc>, DateTime<Utc>), PartitionError> {
        Ok((Self::new(1, 1)?.from, Self::new(9999, 12)?.to))
    }

    /// Returns the year.
    #[must_use]
    pub const fn year(self) -> i32 {
        self.year
    }

    /// Returns the month of the year, 1 to 12.
    #[must_use]
    pub const fn month(self) -> u32 {
        self.month
    }

    /// Returns its first instant.
    #[must_use]
    pub const fn from(self) -> DateTime<Utc> {
        self.from
    }

    /// Returns the first instant after it.
    #[must_use]
    pub const fn to(self) -> DateTime<Utc> {
        self.to
    }

    /// Returns the next month, `None` after 9999.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        self.offset(1)
    }

    /// Returns the previous month, `None` before year 1.
    #[must_use]
    pub fn prev(self) -> Option<Self> {
        self.offset(-1)
    }

    /// Returns the month `months` later, or earlier if negative; `None` outside the years 1 to
    /// 9999.
    #[must_use]
    pub fn offset(self, months: i32) -> Option<Self> {
        let index = self.index().checked_add(months)?;
        let month = u32::try_from(index.rem_euclid(MONTHS_A_YEAR)).ok()? + 1;
        Self::new(index.div_euclid(MONTHS_A_YEAR), month).ok()
    }

    /// Returns the number of months from this one to `later`, negative if `later` is earlier.
    #[must_use]
    pub fn months_until(self, later: Self) -> i32 {
        later.index() - self.index()
    }

    /// Counts months since the beginning of year 0; the range of years keeps it small.
    fn index(self) -> i32 {
        let month = i32::try_from(self.month).unwrap_or(1);
        self.year * MONTHS_A_YEAR + month - 1
    }
}

/// Prints a month like names of partitions: `2024_01`.
impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}_{:02}", self.year, self.month)
    }
}
