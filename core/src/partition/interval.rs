//! Widths of partitions, and ages of rows.

use std::fmt;

use super::PartitionError;

const MINUTES_A_DAY: u64 = 24 * 60;
/// A century, in days.
const MAX_DAYS: u64 = 36_525;

/// The width of a partition, or an age. Always greater than zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Interval {
    /// Calendar months.
    Months(u32),
    /// Calendar days, which daylight saving time may make longer or shorter than 24 hours.
    Days(u32),
    /// Minutes, independent of time zones.
    Minutes(u32),
    /// A range of integers.
    Number(i64),
}

impl Interval {
    /// Parses a span of time: `1 month`, `quarter`, `weekly`, `1 year 6 mons`, `06:00:00`, and the
    /// other forms in which PostgreSQL prints an interval. At most a century.
    ///
    /// # Errors
    /// [`PartitionError::Interval`] if the text is not such a span,
    /// [`PartitionError::IntervalZero`], and [`PartitionError::IntervalMixed`] if it has both
    /// months and days or hours: such spans have no fixed place in the calendar.
    pub fn time(text: &str) -> Result<Self, PartitionError> {
        let unknown = || PartitionError::Interval { text: text.to_owned(), expected: "1 month, 1 week or 6 hours" };
        let (mut months, mut days, mut minutes) = (0_u64, 0_u64, 0_u64);
        let lower = text.to_lowercase();
        let mut words = lower.split_whitespace();
        let mut is_empty = true;
        while let Some(word) = words.next() {
            is_empty = false;
            if word.contains(':') {
                minutes = minutes.saturating_add(clock(word).ok_or_else(unknown)?);
                continue;
            }
            let (count, unit) = match word.parse::<u64>() {
                Ok(count) => (count, words.next().ok_or_else(unknown)?),
                Err(_) => (1, word),
            };
            let (sum, factor) = match unit.strip_suffix('s').unwrap_or(unit) {
                "minute" | "min" => (&mut minutes, 1),
                "hour" | "hourly" => (&mut minutes, 60),
                "day" | "daily" => (&mut days, 1),
                "week" | "weekly" => (&mut days, 7),
                "month" | "mon" | "monthly" => (&mut months, 1),
                "quarter" | "quarterly" => (&mut months, 3),
                "year" | "yearly" => (&mut months, 12),
                _ => return Err(unknown()),
            };
            *sum = count.checked_mul(factor).and_then(|more| sum.checked_add(more)).ok_or_else(unknown)?;
        }
        if is_empty {
            return Err(unknown());
        }
        let is_too_long = months > 1200 || days > MAX_DAYS || minutes > MAX_DAYS * MINUTES_A_DAY;
        let narrow = |number: u64| u32::try_from(number).map_err(|_| unknown());
        match (months, days, minutes) {
            _ if is_too_long => Err(unknown()),
            (0, 0, 0) => Err(PartitionError::IntervalZero { text: text.to_owned() }),
            (months, 0, 0) => Ok(Self::Months(narrow(months)?)),
            (0, days, 0) => Ok(Self::Days(narrow(days)?)),
            (0, days, minutes) => Ok(Self::Minutes(narrow(days * MINUTES_A_DAY + minutes)?)),
            _ => Err(PartitionError::IntervalMixed { text: text.to_owned() }),
        }
    }

    /// Parses a range of integers, such as `1000000`.
    ///
    /// # Errors
    /// [`PartitionError::Interval`], and [`PartitionError::IntervalZero`].
    pub fn number(text: &str) -> Result<Self, PartitionError> {
        match text.trim().parse::<i64>() {
            Ok(0) => Err(PartitionError::IntervalZero { text: text.to_owned() }),
            Ok(width) if width > 0 => Ok(Self::Number(width)),
            _ => {
                Err(PartitionError::Interval { text: text.to_owned(), expected: "a positive integer such as 1000000" })
            }
        }
    }

    /// Returns the noun for a partition of this width: `month`, `week`, `range`.
    #[must_use]
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Months(1) => "month",
            Self::Months(3) => "quarter",
            Self::Months(12) => "year",
            Self::Days(1) => "day",
            Self::Days(7) => "week",
            Self::Minutes(60) => "hour",
            Self::Number(_) => "range",
            Self::Months(_) | Self::Days(_) | Self::Minutes(_) => "period",
        }
    }
}

/// Parses `HH:MM` or `HH:MM:SS` without seconds, and returns minutes.
fn clock(text: &str) -> Option<u64> {
    let mut parts = text.split(':');
    let hours: u64 = parts.next()?.parse().ok()?;
    let minutes: u64 = parts.next()?.parse().ok().filter(|minutes| *minutes < 60)?;
    let is_whole = parts.next().is_none_or(|seconds| seconds.bytes().all(|digit| digit == b'0'));
    (is_whole && parts.next().is_none()).then(|| hours.checked_mul(60)?.checked_add(minutes))?
}

/// Prints an interval as [`Interval::time`] and [`Interval::number`] parse it.
impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, unit) = match *self {
            Self::Months(months) if months % 12 == 0 => (months / 12, "year"),
            Self::Months(months) => (months, "month"),
            Self::Days(days) if days % 7 == 0 => (days / 7, "week"),
            Self::Days(days) => (days, "day"),
            Self::Minutes(minutes) if minutes % 60 == 0 => (minutes / 60, "hour"),
            Self::Minutes(minutes) => (minutes, "minute"),
            Self::Number(width) => return write!(f, "{width}"),
        };
        write!(f, "{count} {unit}{}", if count == 1 { "" } else { "s" })
    }
}
