//! Values that move through the feed, independent of any server.

use std::borrow::Cow;

use arx_pgwire::PgWireError;
use chrono::{DateTime, Datelike, Months, NaiveDate, NaiveTime, Utc};
use ethnum::U256;

use super::columns::OptionalValues;
use super::standing::Remembered;
use crate::error::SidecarError;

/// Microseconds in an hour.
pub(super) const HOUR_MICROS: i64 = 3_600_000_000;

/// A month in UTC, which is a partition in ClickHouse.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Month {
    first: i64,
    last: i64,
}

impl Month {
    /// Returns the month of a time in microseconds since 1970. Times outside the calendar belong to
    /// the first or the last month.
    #[must_use]
    pub(super) fn of(micros: i64) -> Self {
        let limit = if micros < 0 { DateTime::<Utc>::MIN_UTC } else { DateTime::<Utc>::MAX_UTC };
        let day = DateTime::from_timestamp_micros(micros).unwrap_or(limit).date_naive();
        let start_of = |day: NaiveDate| day.and_time(NaiveTime::MIN).and_utc().timestamp_micros();
        let first = day.with_day(1).unwrap_or(day);
        Self {
            first: first.pred_opt().map_or(i64::MIN, |_| start_of(first)),
            last: first.checked_add_months(Months::new(1)).map_or(i64::MAX, |next| start_of(next) - 1),
        }
    }

    /// Returns whether a time belongs to the month. This is cheap; computing the month of a time is
    /// not.
    #[must_use]
    pub(super) const fn contains(&self, micros: i64) -> bool {
        self.first <= micros && micros <= self.last
    }
}

/// The step that adds an event to the aggregates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum CountedBy {
    /// The views of the sink as it arrives: the event is new.
    View,
    /// The repair of its buckets: the event exists, or may exist, in another form.
    Repair,
    /// None: the aggregates do not change.
    NoOne,
    /// A rebuild of everything derived, as after a first load.
    Rebuild,
}

/// A transaction or an internal transfer in its current form or, if `deleted`, the key of a former
/// one. Borrows from the rows that contain it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event<'a> {
    /// Microseconds since 1970, UTC.
    pub event_time: i64,
    pub network: &'a str,
    pub tx_hash: &'a str,
    /// 0 for the value of the transaction itself; one more than its position for an internal
    /// transfer.
    pub leg: u32,
    pub block_number: u64,
    /// Empty for a reward.
    pub from_address: &'a str,
    /// `None` for a contract creation or a burn.
    pub to_address: Option<&'a str>,
    /// Units of 10⁻¹⁸ coin.
    pub value: i128,
    pub optional: OptionalValues,
    /// `pending`, `confirmed`, `failed` or `unknown`.
    pub status: &'a str,
    /// `transaction`, or the kind of an internal transfer.
    pub kind: &'a str,
    /// False for an internal transfer whose order within its transaction is unknown.
    pub is_ordered: bool,
    /// A JSON object.
    pub metadata: Option<Cow<'a, str>>,
    /// Token transfers of the transaction.
    pub transfers: Vec<Transfer<'a>>,
    /// Values of the extra columns, in their order.
    pub extra_values: Vec<Value<'a>>,
    pub counted_by: CountedBy,
    /// A tombstone: only network, hash, leg, time, sender and receiver are meaningful.
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
            leg: 0,
            from_address,
            to_address,
            block_number: 0,
            value: 0,
            optional: OptionalValues::default(),
            status: "confirmed",
            kind: TRANSACTION,
            is_ordered: true,
            metadata: None,
            transfers: Vec::new(),
            extra_values: Vec::new(),
            counted_by: CountedBy::Repair,
            deleted: true,
        }
    }
}

/// A token transfer of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transfer<'a> {
    /// Position in the block's log.
    pub log_index: u32,
    /// Contract of the token.
    pub token: &'a str,
    pub from: &'a str,
    pub to: &'a str,
    /// Raw units.
    pub amount: U256,
    /// Units of 10⁻² dollar.
    pub value_usd: Option<i128>,
}

/// A column of the source that the feed does not carry by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExtraColumn {
    pub name: String,
    /// Type of its values.
    pub kind: ValueKind,
}

/// Type of an extra column. Values may be NULL.
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
    /// `timestamptz`, and `timestamp` as one in UTC: microseconds.
    Timestamp,
    /// `date`: days.
    Date,
    /// `numeric` of at most 38 digits, with its scale.
    Decimal(u8),
    /// Any other type, as text.
    Text,
}

impl ValueKind {
    /// Returns the name of the type in PostgreSQL.
    #[must_use]
    pub(crate) const fn postgres_type(self) -> &'static str {
        match self {
            Self::Int16 => "smallint",
            Self::Int32 => "integer",
            Self::Int64 => "bigint",
            Self::Float32 => "real",
            Self::Float64 => "double precision",
            Self::Bool => "boolean",
            Self::Timestamp => "timestamptz",
            Self::Date => "date",
            Self::Decimal(_) => "numeric",
            Self::Text => "text",
        }
    }

    /// Returns the bytes of a value; `None` where they vary.
    #[must_use]
    pub(crate) const fn width(self) -> Option<usize> {
        match self {
            Self::Text => None,
            Self::Bool => Some(1),
            Self::Int16 => Some(2),
            Self::Int32 | Self::Float32 | Self::Date => Some(4),
            Self::Int64 | Self::Float64 | Self::Timestamp => Some(8),
            Self::Decimal(_) => Some(16),
        }
    }
}

/// A value of an extra column: its bytes, for numbers in little-endian order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Null,
    /// Bytes, and the number of those in use.
    Fixed([u8; 16], usize),
    Text(&'a str),
}

/// Kind of an event that is a transaction.
pub(crate) const TRANSACTION: &str = "transaction";

/// The row of a transaction that is set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowPart {
    /// The transaction itself.
    Transaction,
    /// Its internal transfer at a position.
    Internal(i32),
    /// Its token transfer at a position in the block's log.
    Token(i32),
}

impl RowPart {
    /// Returns the position of a part of a transaction.
    pub(crate) const fn position(self) -> Option<i32> {
        match self {
            Self::Transaction => None,
            Self::Internal(position) | Self::Token(position) => Some(position),
        }
    }
}

/// A row that the sink cannot hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rejected {
    /// Network and hash of the transaction, as the source sent them.
    pub network: Vec<u8>,
    pub tx_hash: Vec<u8>,
    /// Time of the transaction, in the units of the source.
    pub time: i64,
    pub part: RowPart,
    /// Column that does not fit, and the type that it does not fit.
    pub reason: String,
}

/// The reason why a row does not become an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RowError {
    /// The sink cannot hold the row.
    Unfit { reason: String },
    /// The row is not in the form that was agreed on.
    Malformed { reason: String },
}

impl RowError {
    /// Reports a value that the named type of ClickHouse cannot hold.
    pub(super) fn out_of_range(column: &str, value: impl std::fmt::Display, target: &str) -> Self {
        Self::Unfit { reason: format!("{column} {value} does not fit {target}") }
    }
}

impl From<PgWireError> for RowError {
    fn from(error: PgWireError) -> Self {
        match error {
            PgWireError::NotUtf8 => Self::Unfit { reason: "a text is not UTF-8".into() },
            error => Self::Malformed { reason: error.to_string() },
        }
    }
}

/// Rows in the form in which the source received them.
pub(crate) trait Rows: Send + Sync {
    fn len(&self) -> usize;

    /// Returns whether there are no rows, which means the end of the stage.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Passes each row that the sink can hold to `visit`, and returns the others. A tombstone that
    /// the sink cannot hold is left out: its row never reached the sink.
    ///
    /// # Errors
    /// Errors of decoding a row and of `visit`; the rows after it are skipped.
    fn for_each(
        &self,
        visit: &mut dyn FnMut(&Event<'_>) -> Result<(), SidecarError>,
    ) -> Result<Vec<Rejected>, SidecarError>;
}

/// An hour of a network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Hour {
    pub network: String,
    /// Hours since 1970, UTC.
    pub hours: i64,
}

/// A table of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum SourceTable {
    Transactions,
    InternalTransfers,
    TokenTransfers,
}

impl SourceTable {
    /// Returns the table of this name in the schema.
    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::Transactions, Self::InternalTransfers, Self::TokenTransfers]
            .into_iter()
            .find(|table| table.name() == name)
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Transactions => "transactions",
            Self::InternalTransfers => "internal_transfers",
            Self::TokenTransfers => "token_transfers",
        }
    }
}

/// Times of a table in which rows came or went without a trace of each row, as with a partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TableRange {
    pub table: SourceTable,
    /// Microseconds since 1970; the first time of all if absent.
    pub from: Option<i64>,
    /// End of the times, exclusive; none if absent.
    pub until: Option<i64>,
}

impl TableRange {
    #[cfg(test)]
    pub(crate) fn contains(&self, micros: i64) -> bool {
        self.from.is_none_or(|from| micros >= from) && self.until.is_none_or(|until| micros < until)
    }

    /// Returns true if some time of the hour is within the range.
    pub(crate) fn touches(&self, hours: i64) -> bool {
        let first = hours.saturating_mul(HOUR_MICROS);
        self.from.is_none_or(|from| first.saturating_add(HOUR_MICROS) > from)
            && self.until.is_none_or(|until| first < until)
    }

    /// Returns the same times of the same tables as ranges that do not overlap.
    pub(crate) fn disjoint(mut ranges: Vec<Self>) -> Vec<Self> {
        // An absent start sorts first.
        ranges.sort_unstable();
        let mut joined: Vec<Self> = Vec::new();
        for range in ranges {
            match joined.last_mut() {
                Some(last)
                    if last.table == range.table
                        && last.until.is_none_or(|until| range.from.is_none_or(|from| from <= until)) =>
                {
                    last.until = last.until.zip(range.until).map(|(one, other)| one.max(other));
                }
                _ => joined.push(range),
            }
        }
        joined
    }
}

/// A position of a source: a snapshot, and the identity that shows whether two snapshots are
/// comparable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourcePosition {
    /// `pg_snapshot` in its text form.
    pub snapshot: String,
    /// Number of events: changes of rows that fire no row trigger.
    pub epoch: i64,
    /// Identifier of the database cluster.
    pub system_identifier: i64,
    pub timeline: i32,
    pub database_oid: u32,
    /// Name of the database, which may change.
    pub database: String,
}

impl SourcePosition {
    /// Returns the name of the source in the sink.
    #[must_use]
    pub(crate) fn source_id(&self) -> String {
        format!("{}/{}", self.system_identifier, self.database_oid)
    }

    /// Returns whether the snapshots of both positions are comparable.
    ///
    /// The timeline may differ: an attempt is in the log of its database before the sink sees
    /// anything of it, and with it all transactions of its snapshot. So a server that was promoted
    /// and knows each attempt that the sink has seen holds all that was fed.
    #[must_use]
    pub(crate) const fn is_comparable_with(&self, other: &Self) -> bool {
        self.system_identifier == other.system_identifier && self.database_oid == other.database_oid
    }

    /// Returns whether the other position may be one of the same database after `pg_upgrade`, which
    /// changes the system identifier and keeps oids and the numbers of transactions.
    #[must_use]
    pub(crate) const fn may_be_upgraded_to(&self, other: &Self) -> bool {
        self.system_identifier != other.system_identifier && self.database_oid == other.database_oid
    }
}

/// State of the feed in PostgreSQL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct FeedState {
    /// Position up to which the sink has all rows.
    pub position: Option<SourcePosition>,
    pub attempt: u64,
    /// The last attempt that was confirmed.
    pub confirmed: u64,
    /// Rows that are set aside.
    pub set_aside: u64,
    /// A load that has begun and is not complete.
    pub load: Option<FirstLoad>,
}

impl FeedState {
    /// Returns what a database at this position remembers about its feed.
    pub(super) fn remembered(&self, position: &SourcePosition) -> Remembered {
        let stored = self.position.as_ref().or(self.load.as_ref().map(|load| &load.position));
        let former = stored.filter(|stored| {
            stored.database_oid == position.database_oid && stored.system_identifier != position.system_identifier
        });
        Remembered { attempt: self.attempt, former_id: former.map(SourcePosition::source_id) }
    }
}

/// A full load of a snapshot, chunk by chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FirstLoad {
    /// The attempt that began the load. All of its rows have the version of that attempt, even if
    /// another attempt completes the load.
    pub attempt: u64,
    /// Position of the snapshot that is loaded.
    pub position: SourcePosition,
    /// Chunks that the sink does not have yet.
    pub pending: Vec<Chunk>,
    /// Rows of the chunks that the sink has.
    pub rows: u64,
}

/// Parts of tables that are loaded together: as many as make one insert of the usual size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Number within the load.
    pub number: i32,
    pub spans: Vec<Span>,
}

/// A range of blocks of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    pub relation: u32,
    /// File of the table when the load was planned: in another file, rows are in other blocks.
    pub file: u32,
    pub first_block: i64,
    /// End of the range, exclusive; the end of the table if absent.
    pub end_block: Option<i64>,
}

/// A set of rows to read from the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Keys of rows that were updated or deleted since this snapshot.
    FormerRows(String),
    /// Rows that became visible, or got or lost token transfers, since this snapshot.
    Changed(String),
    /// Rows of the hours that are to be loaded again.
    Reloaded,
    /// Rows of these times, or for token transfers the transactions that have them.
    Ranges(Vec<TableRange>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_overlap_are_joined_for_each_table() {
        use SourceTable::{InternalTransfers, Transactions};
        let range = |table, from, until| TableRange { table, from, until };
        let joined = TableRange::disjoint(vec![
            range(Transactions, Some(50), Some(60)),
            range(InternalTransfers, Some(5), Some(9)),
            range(Transactions, Some(10), Some(20)),
            range(Transactions, Some(15), Some(17)),
            range(Transactions, Some(20), Some(30)),
            range(InternalTransfers, None, Some(6)),
            range(InternalTransfers, Some(40), None),
            range(InternalTransfers, Some(70), Some(80)),
        ]);
        let expected = [
            range(Transactions, Some(10), Some(30)),
            range(Transactions, Some(50), Some(60)),
            range(InternalTransfers, None, Some(9)),
            range(InternalTransfers, Some(40), None),
        ];
        assert_eq!(joined, expected);
        for (micros, is_within) in [(9, false), (10, true), (29, true), (30, false)] {
            assert_eq!(joined[0].contains(micros), is_within, "{micros}");
        }
        let day = range(Transactions, Some(24 * HOUR_MICROS), Some(48 * HOUR_MICROS));
        for (hours, is_touched) in [(23, false), (24, true), (47, true), (48, false)] {
            assert_eq!(day.touches(hours), is_touched, "{hours}");
        }
        assert!(range(Transactions, Some(HOUR_MICROS / 2), None).touches(0));
    }

    #[test]
    fn months_contain_their_first_and_last_microsecond() {
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
