//! What moves through the feed: plain values without behaviour of any server.

use chrono::{DateTime, Datelike, Months, NaiveDate, NaiveTime, Utc};
use ethnum::U256;

use super::columns::OptionalValues;

/// Microseconds in an hour.
pub(super) const HOUR_MICROS: i64 = 3_600_000_000;

/// A month of UTC: what ClickHouse keeps together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Month {
    first: i64,
    last: i64,
}

impl Month {
    /// That of a time in microseconds since 1970. Times beyond all calendars are of the first or
    /// the last month there is.
    #[must_use]
    pub(super) fn of(micros: i64) -> Self {
        let beyond = if micros < 0 { DateTime::<Utc>::MIN_UTC } else { DateTime::<Utc>::MAX_UTC };
        let day = DateTime::from_timestamp_micros(micros).unwrap_or(beyond).date_naive();
        let start_of = |day: NaiveDate| day.and_time(NaiveTime::MIN).and_utc().timestamp_micros();
        let first = day.with_day(1).unwrap_or(day);
        Self {
            first: first.pred_opt().map_or(i64::MIN, |_| start_of(first)),
            last: first.checked_add_months(Months::new(1)).map_or(i64::MAX, |next| start_of(next) - 1),
        }
    }

    /// Whether a time is of it. Finding that out is cheap, finding a time's month is not.
    #[must_use]
    pub(super) const fn contains(&self, micros: i64) -> bool {
        self.first <= micros && micros <= self.last
    }
}

/// Who puts an event into the aggregates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Counted {
    /// The views of the sink, as it arrives: it is new.
    ByView,
    /// The repair of what it touches: it was there before in another form, or may have been.
    ByRepair,
    /// Nobody: what aggregates show of it has not changed.
    Already,
    /// A rebuild of everything that is derived, as after a first load.
    ByRebuild,
}

/// A transaction as it is now, or (when `deleted`) the key of one that is no longer there. Borrowed
/// from the rows it came in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event<'a> {
    /// Microseconds since 1970, UTC.
    pub event_time: i64,
    /// Network.
    pub network: &'a str,
    /// Hash.
    pub tx_hash: &'a str,
    /// Block.
    pub block_number: u64,
    /// Sender.
    pub from_address: &'a str,
    /// Receiver; none for a contract creation.
    pub to_address: Option<&'a str>,
    /// Units of 10⁻¹⁸ coin.
    pub value: i128,
    /// Values of the optional columns.
    pub optional: OptionalValues,
    /// `pending`, `confirmed` or `failed`.
    pub status: &'a str,
    /// A JSON object.
    pub metadata: Option<&'a str>,
    /// Tokens that moved with it.
    pub transfers: Vec<Transfer<'a>>,
    /// Values of the source's further columns, in their order.
    pub further: Vec<Value<'a>>,
    /// Who puts it into the aggregates.
    pub counted: Counted,
    /// A tombstone: only network, hash, time, sender and receiver mean something.
    pub deleted: bool,
}

impl<'a> Event<'a> {
    /// Returns the event of a tombstone; other events set the remaining fields.
    pub(crate) fn of_key(
        event_time: i64,
        network: &'a str,
        tx_hash: &'a str,
        from_address: &'a str,
        to_address: Option<&'a str>,
    ) -> Self {
        Self {
            event_time,
            network,
            tx_hash,
            from_address,
            to_address,
            block_number: 0,
            value: 0,
            optional: OptionalValues::default(),
            status: "confirmed",
            metadata: None,
            transfers: Vec::new(),
            further: Vec::new(),
            counted: Counted::ByRepair,
            deleted: true,
        }
    }
}

/// A token transfer of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transfer<'a> {
    /// Place in the block's log.
    pub log_index: u32,
    /// The token's contract.
    pub token: &'a str,
    /// Sender.
    pub from: &'a str,
    /// Receiver.
    pub to: &'a str,
    /// Raw units.
    pub amount: U256,
    /// Units of 10⁻² dollar.
    pub value_usd: Option<i128>,
}

/// A column of the source that the sink does not know by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FurtherColumn {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: ValueKind,
}

/// What a further column holds; each may be NULL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ValueKind {
    /// `smallint`.
    Int16,
    /// `integer`.
    Int32,
    /// `bigint`.
    Int64,
    /// `real`.
    Float32,
    /// `double precision`.
    Float64,
    /// `boolean`.
    Bool,
    /// Any other type, as text.
    Text,
}

impl ValueKind {
    /// Bytes of a value; none where they differ.
    #[must_use]
    pub(crate) const fn width(self) -> Option<usize> {
        match self {
            Self::Text => None,
            Self::Bool => Some(1),
            Self::Int16 => Some(2),
            Self::Int32 | Self::Float32 => Some(4),
            Self::Int64 | Self::Float64 => Some(8),
        }
    }
}

/// A value of a further column: its bytes, the least significant first for numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// NULL.
    Null,
    /// A number or a boolean.
    Fixed([u8; 8], usize),
    /// A text.
    Text(&'a str),
}

/// Rows as they came from the source.
pub(crate) trait Rows: Send + Sync {
    /// How many.
    fn len(&self) -> usize;

    /// Whether there are none: the stage is at its end.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Shows each row in turn.
    ///
    /// # Errors
    /// The first row that cannot be shown, or that `look` refuses.
    fn each(
        &self,
        look: &mut dyn FnMut(&Event<'_>) -> Result<(), crate::error::SidecarError>,
    ) -> Result<(), crate::error::SidecarError>;
}

/// An hour of a network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Hour {
    /// Network.
    pub network: String,
    /// Hours since 1970, UTC.
    pub hours: i64,
}

/// Where a source stands: a snapshot, and what tells whether two snapshots of it can be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    /// `pg_snapshot` as text.
    pub position: String,
    /// Moves when rows came or went that no row trigger saw.
    pub epoch: i64,
    /// Identity of the cluster.
    pub system_identifier: i64,
    /// Timeline of the cluster.
    pub timeline: i32,
    /// Name of the database.
    pub database: String,
}

impl Mark {
    /// Identity of the source in the sink.
    #[must_use]
    pub(crate) fn source(&self) -> String {
        format!("{}/{}", self.system_identifier, self.database)
    }

    /// Whether positions of both can be compared.
    #[must_use]
    pub(crate) fn is_of_same_source(&self, other: &Self) -> bool {
        self.epoch == other.epoch
            && self.system_identifier == other.system_identifier
            && self.timeline == other.timeline
            && self.database == other.database
    }
}

/// What PostgreSQL remembers of the feed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Stored {
    /// Up to where everything is in the sink.
    pub mark: Option<Mark>,
    /// Number of the last attempt.
    pub attempt: u64,
    /// Number of the last attempt that was confirmed.
    pub confirmed: u64,
    /// A first load that has begun and is not complete.
    pub load: Option<FirstLoad>,
}

/// A first load: everything there was at its mark, chunk by chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FirstLoad {
    /// The attempt that began it; its rows bear the version of that attempt, whoever finishes it.
    pub attempt: u64,
    /// The snapshot that is loaded.
    pub mark: Mark,
    /// Chunks that are not in the sink yet.
    pub pending: Vec<Chunk>,
    /// Rows of the chunks that are.
    pub rows: u64,
}

/// What is loaded together: as many parts of tables as make one insert of the usual size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Its number in the load.
    pub number: i32,
    /// The parts.
    pub spans: Vec<Span>,
}

/// Blocks of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    /// The table.
    pub relation: u32,
    /// The file that the table was in: another one has its rows in other blocks.
    pub file: u32,
    /// First block.
    pub first_block: i64,
    /// First block that is no longer part of it; the end of the table if absent.
    pub end_block: Option<i64>,
}

/// What is read from the source next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Keys of rows that were updated or deleted since this snapshot.
    FormerSelves(String),
    /// Rows as they are now, that became visible or got or lost token transfers since this
    /// snapshot.
    Changed(String),
    /// Rows of the hours that were asked for.
    Reloaded,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_begins_with_its_first_instant_and_ends_with_its_last() {
        let micros = |text: &str| DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros();
        let february = Month::of(micros("2024-02-17T12:00:00Z"));
        for (time, is_within) in [
            ("2024-01-31T23:59:59.999999Z", false),
            ("2024-02-01T00:00:00Z", true),
            ("2024-02-29T23:59:59.999999Z", true),
            ("2024-03-01T00:00:00Z", false),
        ] {
            assert_eq!(february.contains(micros(time)), is_within, "{time}");
            assert_eq!(Month::of(micros(time)) == february, is_within, "{time}");
        }
        assert!(Month::of(0) < february && Month::of(-1) < Month::of(0));
        for time in [i64::MIN, i64::MIN + 1, 0, i64::MAX - 1, i64::MAX] {
            assert!(Month::of(time).contains(time), "{time}");
        }
        assert!(Month::of(i64::MAX).contains(i64::MAX - 1));
    }
}
