//! The grid of a table: the ranges that its partitions have.
//!
//! Keys are integers: microseconds since 1970 for columns of times and dates, otherwise the value
//! of the column. A grid divides all keys into cells without gap and overlap.

use chrono::{DateTime, Datelike, Days, LocalResult, Months, NaiveDate, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

use super::{Interval, PartitionError};

/// A value of the partition key: microseconds since 1970, or the integer in the column.
pub type Key = i64;

const MONTHS_A_YEAR: i64 = 12;
const MICROS_A_MINUTE: i64 = 60_000_000;
/// Monday, 5 January 1970, in days since 1970.
const FIRST_MONDAY: i64 = 4;
/// No time zone is changed by more.
const MAX_GAP: TimeDelta = TimeDelta::hours(48);
const GAP_STEP: TimeDelta = TimeDelta::minutes(15);

/// Meaning of the values of a partition key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Axis {
    /// A column of type timestamptz.
    Timestamp,
    /// A column of type timestamp: times of the clock of a zone, as if they were in UTC.
    Local,
    /// A column of type date: days of a zone.
    Date,
    /// An integer that counts seconds since 1970.
    Seconds,
    /// An integer that counts milliseconds since 1970.
    Milliseconds,
    /// Any integer.
    Number,
}

impl Axis {
    /// Returns the microseconds of a unit of the key, `None` if it is not a time.
    const fn micros(self) -> Option<i64> {
        match self {
            Self::Timestamp | Self::Local | Self::Date => Some(1),
            Self::Milliseconds => Some(1_000),
            Self::Seconds => Some(1_000_000),
            Self::Number => None,
        }
    }
}

/// One range of a grid, and its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell {
    index: i64,
    from: Key,
    to: Key,
}

impl Cell {
    /// Returns its first key.
    #[must_use]
    pub const fn from(self) -> Key {
        self.from
    }

    /// Returns the first key after it.
    #[must_use]
    pub const fn to(self) -> Key {
        self.to
    }

    /// Returns true if this is the last cell of the column's type.
    #[must_use]
    pub const fn is_last(self) -> bool {
        self.to == Key::MAX
    }
}

/// The ranges that partitions of a table have. Cells of calendar units begin at midnight of the
/// time zone; weeks begin on Monday, hours at full hours of UTC. Cells at the ends of the column's
/// type have no bound there: see [`Grid::within`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Grid {
    axis: Axis,
    interval: Interval,
    zone: Tz,
    /// The zone whose clock the column shows.
    clock: Tz,
    /// The least and the greatest key that the column can hold.
    extent: (Key, Key),
}

impl Grid {
    /// Parses the width of partitions and a time zone by its IANA name.
    ///
    /// # Errors
    /// The errors of [`Interval`], [`PartitionError::UnknownZone`], and
    /// [`PartitionError::IntervalTooShort`] for dates and less than a day.
    pub fn parse(axis: Axis, interval: &str, zone: &str) -> Result<Self, PartitionError> {
        let interval = if axis == Axis::Number { Interval::number(interval)? } else { Interval::time(interval)? };
        let zone: Tz = zone.parse().map_err(|_| PartitionError::UnknownZone { zone: zone.to_owned() })?;
        if axis == Axis::Date && matches!(interval, Interval::Minutes(_)) {
            return Err(PartitionError::IntervalTooShort { interval });
        }
        // Keys that are times of a clock are divided as that clock shows them.
        let (zone, clock) = match axis {
            Axis::Timestamp | Axis::Seconds | Axis::Milliseconds => (zone, Tz::UTC),
            Axis::Local | Axis::Date | Axis::Number => (Tz::UTC, zone),
        };
        Ok(Self { axis, interval, zone, clock, extent: (Key::MIN, Key::MAX) })
    }

    /// Limits the keys to those of a narrower integer type, both included. A cell that reaches
    /// beyond them begins at [`Key::MIN`], or ends at [`Key::MAX`]: it has no bound there.
    #[must_use]
    pub const fn within(self, least: Key, greatest: Key) -> Self {
        Self { extent: (least, greatest), ..self }
    }

    /// Returns the least and the greatest key that the column can hold.
    #[must_use]
    pub const fn extent(&self) -> (Key, Key) {
        self.extent
    }

    /// Parses an age on the axis of the grid.
    ///
    /// # Errors
    /// The errors of [`Interval`].
    pub fn age(&self, text: &str) -> Result<Interval, PartitionError> {
        if self.axis == Axis::Number { Interval::number(text) } else { Interval::time(text) }
    }

    /// Returns the meaning of the keys.
    #[must_use]
    pub const fn axis(&self) -> Axis {
        self.axis
    }

    /// Returns the width of a cell.
    #[must_use]
    pub const fn interval(&self) -> Interval {
        self.interval
    }

    /// Returns the cell of a key.
    ///
    /// # Errors
    /// [`PartitionError::NoCell`] for times outside the years 1 to 9999, and at the ends of the
    /// integers.
    pub fn cell(&self, key: Key) -> Result<Cell, PartitionError> {
        self.find_cell(key).ok_or_else(|| PartitionError::NoCell { key: self.print(key) })
    }

    /// Returns the cell after another one, `None` after the last.
    #[must_use]
    pub fn next(&self, cell: Cell) -> Option<Cell> {
        if cell.is_last() { None } else { self.find_cell(cell.to) }
    }

    /// Returns the key that lies an age before a cell. `None` is before every key.
    #[must_use]
    pub fn before(&self, cell: Cell, age: Interval) -> Option<Key> {
        let time = self.axis.micros().and_then(|_| self.time(cell.from));
        match (age, time) {
            (Interval::Number(width), None) => cell.from.checked_sub(width),
            (Interval::Months(months), Some(time)) => {
                self.midnight(self.local(time).checked_sub_months(Months::new(months))?)
            }
            (Interval::Days(days), Some(time)) => {
                self.midnight(self.local(time).checked_sub_days(Days::new(u64::from(days)))?)
            }
            (Interval::Minutes(minutes), Some(time)) => {
                self.key_of(time.checked_sub_signed(TimeDelta::minutes(i64::from(minutes)))?)
            }
            (Interval::Number(_), Some(_)) | (_, None) => None,
        }
    }

    /// Returns true if a range is exactly one cell.
    #[must_use]
    pub fn is_cell(&self, from: Key, to: Key) -> bool {
        self.find_cell(from.max(self.extent.0)).is_some_and(|cell| (cell.from, cell.to) == (from, to))
    }

    /// Returns the number of cells from that of one key to that of another.
    ///
    /// # Errors
    /// [`PartitionError::NoCell`].
    pub fn count(&self, from: Key, to: Key) -> Result<u64, PartitionError> {
        let (first, last) = (self.cell(from)?, self.cell(to)?);
        Ok(u64::try_from(last.index.saturating_sub(first.index)).unwrap_or(0).saturating_add(1))
    }

    /// Returns the key of an instant, `None` if keys are no times.
    #[must_use]
    pub fn key(&self, instant: DateTime<Utc>) -> Option<Key> {
        self.key_of(instant.with_timezone(&self.clock).naive_local().and_utc())
    }

    fn key_of(&self, time: DateTime<Utc>) -> Option<Key> {
        self.axis.micros().map(|unit| time.timestamp_micros().div_euclid(unit))
    }

    /// Returns the time of a key, of a clock as if it were UTC; `None` if keys are no times or the
    /// time cannot be computed with.
    #[must_use]
    pub fn time(&self, key: Key) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_micros(key.checked_mul(self.axis.micros()?)?)
    }

    /// Prints a key for people and for SQL: a time of UTC as `2024-01-01 00:00:00+00`, others as
    /// the column has them.
    #[must_use]
    pub fn print(&self, key: Key) -> String {
        match (self.axis, self.time(key)) {
            // Not %Y, which puts a sign before years of five digits.
            (Axis::Timestamp, Some(time)) => format!("{:04}{}", time.year(), time.format("-%m-%d %H:%M:%S%.f+00")),
            (Axis::Local, Some(time)) => format!("{:04}{}", time.year(), time.format("-%m-%d %H:%M:%S%.f")),
            (Axis::Date, Some(time)) => format!("{:04}{}", time.year(), time.format("-%m-%d")),
            _ => key.to_string(),
        }
    }

    /// Prints a bound: as [`Self::print`] does, or as SQL calls the ends of all keys.
    #[must_use]
    pub fn print_bound(&self, key: Key) -> String {
        match key {
            Key::MIN => "MINVALUE".to_owned(),
            Key::MAX => "MAXVALUE".to_owned(),
            key => self.print(key),
        }
    }

    /// Returns the end of the name of a cell's partition: `2024_01`, `2024_q1`, `2024_w05`,
    /// `2024_01_31`, `p1000000`.
    #[must_use]
    pub fn suffix(&self, cell: Cell) -> String {
        let (year, month) = (self.first_day(cell.index), |day: NaiveDate| day.month());
        match (self.interval, year) {
            (Interval::Months(months), Some(day)) if months % 12 == 0 => format!("{:04}", day.year()),
            (Interval::Months(3), Some(day)) => format!("{:04}_q{}", day.year(), day.month0() / 3 + 1),
            (Interval::Months(_), Some(day)) => format!("{:04}_{:02}", day.year(), month(day)),
            (Interval::Days(7), Some(day)) => {
                let week = day.iso_week();
                format!("{:04}_w{:02}", week.year(), week.week())
            }
            (Interval::Days(_), Some(day)) => format!("{:04}_{:02}_{:02}", day.year(), month(day), day.day()),
            (Interval::Minutes(_), _) => {
                self.time(cell.from).map_or_else(String::new, |time| time.format("%Y_%m_%d_%H%M").to_string())
            }
            _ if cell.from == Key::MIN => "min".to_owned(),
            _ if cell.from < 0 => format!("m{}", cell.from.unsigned_abs()),
            _ => format!("p{}", cell.from),
        }
    }

    fn find_cell(&self, key: Key) -> Option<Cell> {
        let (least, greatest) = self.extent;
        if key < least || key > greatest {
            return None;
        }
        let cell = match self.interval {
            Interval::Number(width) => number_cell(key, width),
            _ => self.time_cell(key)?,
        };
        let from = if cell.from < least { Key::MIN } else { cell.from };
        let to = if cell.to > greatest { Key::MAX } else { cell.to };
        Some(Cell { from, to, ..cell })
    }

    fn time_cell(&self, key: Key) -> Option<Cell> {
        let mut index = self.near_index(key)?;
        // Where a clock is turned back over midnight, the local date of an instant is not that of
        // its cell.
        while self.start(index)? > key {
            index = index.checked_sub(1)?;
        }
        loop {
            let to = self.start(index.checked_add(1)?)?;
            if key < to {
                return Some(Cell { index, from: self.start(index)?, to });
            }
            index += 1;
        }
    }

    /// Returns the number of the cell of a key, or of a neighbour.
    fn near_index(&self, key: Key) -> Option<i64> {
        let time = self.time(key).filter(|time| (1..=9999).contains(&time.year()))?;
        let day = self.local(time);
        match self.interval {
            Interval::Months(months) => {
                let month = i64::from(day.year()) * MONTHS_A_YEAR + i64::from(day.month0());
                Some(month.div_euclid(i64::from(months)))
            }
            Interval::Days(days) => Some((days_since_1970(day) - first_of(days)).div_euclid(i64::from(days))),
            Interval::Minutes(minutes) => {
                Some(time.timestamp_micros().div_euclid(i64::from(minutes) * MICROS_A_MINUTE))
            }
            Interval::Number(_) => None,
        }
    }

    /// Returns the first key of a cell.
    fn start(&self, index: i64) -> Option<Key> {
        match self.interval {
            Interval::Number(_) => None,
            Interval::Minutes(minutes) => {
                let micros = index.checked_mul(i64::from(minutes) * MICROS_A_MINUTE)?;
                self.key_of(DateTime::from_timestamp_micros(micros)?)
            }
            Interval::Months(_) | Interval::Days(_) => self.midnight(self.first_day(index)?),
        }
    }

    /// Returns the first day of a cell of whole days.
    fn first_day(&self, index: i64) -> Option<NaiveDate> {
        match self.interval {
            Interval::Months(months) => {
                let month = index.checked_mul(i64::from(months))?;
                let number = u32::try_from(month.rem_euclid(MONTHS_A_YEAR)).ok()? + 1;
                NaiveDate::from_ymd_opt(i32::try_from(month.div_euclid(MONTHS_A_YEAR)).ok()?, number, 1)
            }
            Interval::Days(days) => {
                let day = index.checked_mul(i64::from(days))?.checked_add(first_of(days))?;
                DateTime::UNIX_EPOCH.date_naive().checked_add_signed(TimeDelta::try_days(day)?)
            }
            Interval::Minutes(_) | Interval::Number(_) => None,
        }
    }

    fn local(&self, time: DateTime<Utc>) -> NaiveDate {
        time.with_timezone(&self.zone).date_naive()
    }

    /// Returns the first instant of a day. Where the clock skips midnight, it is the end of the
    /// gap.
    fn midnight(&self, day: NaiveDate) -> Option<Key> {
        let mut local = day.and_time(NaiveTime::MIN);
        let end = local.checked_add_signed(MAX_GAP)?;
        while local < end {
            match self.zone.from_local_datetime(&local) {
                LocalResult::Single(time) | LocalResult::Ambiguous(time, _) => return self.key_of(time.to_utc()),
                LocalResult::None => local = local.checked_add_signed(GAP_STEP)?,
            }
        }
        None
    }
}

/// Returns the range of integers that holds a key. Ranges at the ends of the integers are shorter.
const fn number_cell(key: Key, width: i64) -> Cell {
    let index = key.div_euclid(width);
    let from = match index.checked_mul(width) {
        Some(from) => from,
        None => Key::MIN,
    };
    let to = match index.saturating_add(1).checked_mul(width) {
        Some(to) => to,
        None => Key::MAX,
    };
    Cell { index, from, to }
}

fn days_since_1970(day: NaiveDate) -> i64 {
    day.signed_duration_since(DateTime::UNIX_EPOCH.date_naive()).num_days()
}

/// Returns the first day of some cell, in days since 1970.
const fn first_of(days: u32) -> i64 {
    if days.is_multiple_of(7) { FIRST_MONDAY } else { 0 }
}
