//! Transfers in the caller's snapshot, and facts about their tables.

use std::ffi::CStr;

use arx_core::amount::COIN_SCALE;
use arx_core::graph::{Position, Snapshot, Source, Status, TransferRow};
use pgrx::pg_sys;

use super::stream::ColumnType::{Bool, Integer, Long, Numeric, Text, Time, Xid};
use super::stream::{Argument, Layout, PreparedQuery, Slot, stream_once, stream_once_with};
use crate::error::SqlError;
use crate::snapshot::{Caller, with_latest_snapshot};

/// A table of transfers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    Transactions,
    InternalTransfers,
    TokenTransfers,
}

/// The number of changes of partitions, and the snapshot in which they were counted.
#[derive(Debug, Clone)]
pub(crate) struct Epoch {
    pub(crate) number: i64,
    pub(crate) seen: Snapshot,
}

/// A change of partitions.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) raised_by: u64,
    /// Rows that may differ: a table, and the times from the first to before the second. `None` for
    /// all rows.
    pub(crate) rows: Option<(Table, std::ops::Range<i64>)>,
}

impl Table {
    /// Returns the table as the graph names it.
    pub(crate) const fn source(self) -> Source {
        match self {
            Self::Transactions => Source::Transactions,
            Self::InternalTransfers => Source::InternalTransfers,
            Self::TokenTransfers => Source::TokenTransfers,
        }
    }

    /// Every table, in the order in which readers of several lock them: otherwise maintenance and a
    /// build of the graph could deadlock.
    pub(crate) const ALL: [Self; 3] = [Self::Transactions, Self::InternalTransfers, Self::TokenTransfers];

    /// The tables of the native coin.
    pub(crate) const NATIVE: [Self; 2] = [Self::Transactions, Self::InternalTransfers];

    /// Returns the name of the table in the schema `arx`.
    pub(crate) const fn bare_name(self) -> &'static CStr {
        match self {
            Self::Transactions => c"transactions",
            Self::InternalTransfers => c"internal_transfers",
            Self::TokenTransfers => c"token_transfers",
        }
    }
}

/// Columns of a transaction: network, sender, receiver, time, value, block, index, and status.
pub(super) const TRANSACTION: Layout = &[Text, Text, Text, Time, Numeric, Long, Integer, Integer];

/// Columns of an internal transfer: as above, then its position among those of its transaction.
pub(super) const INTERNAL_TRANSFER: Layout = &[Text, Text, Text, Time, Numeric, Long, Integer, Integer, Integer];

/// Columns of a token transfer: as those of a transaction, with the token in place of the status.
pub(super) const TOKEN_TRANSFER: Layout = &[Text, Text, Text, Time, Numeric, Long, Integer, Text];

const EVERY_TRANSACTION: Layout = &[Text, Text, Text, Time, Numeric, Long, Integer, Integer, Xid];
const EVERY_INTERNAL_TRANSFER: Layout = &[Text, Text, Text, Time, Numeric, Long, Integer, Integer, Integer, Xid];
const EVERY_TOKEN_TRANSFER: Layout = &[Text, Text, Text, Time, Numeric, Long, Integer, Text, Xid];

const TRANSACTIONS_BETWEEN: &CStr = c"
SELECT t.network, t.from_address, t.to_address, t.\"timestamp\", t.value::numeric, t.block_number::bigint, t.transaction_index::integer,
       CASE t.status WHEN 'pending' THEN 0 WHEN 'confirmed' THEN 1 WHEN 'unknown' THEN 3 ELSE 2 END
  FROM arx.transactions AS t
 WHERE t.\"timestamp\" >= $1 AND t.\"timestamp\" < $2";

const INTERNAL_TRANSFERS_BETWEEN: &CStr = c"
SELECT t.network, t.from_address, t.to_address, t.\"timestamp\", t.value::numeric, coalesce(t.block_number, 9223372036854775807)::bigint,
       t.transaction_index::integer, CASE t.succeeded WHEN true THEN 1 WHEN false THEN 2 ELSE 3 END,
       CASE WHEN t.is_ordered THEN t.position::integer END
  FROM arx.internal_transfers AS t
 WHERE t.\"timestamp\" >= $1 AND t.\"timestamp\" < $2";

const TOKEN_TRANSFERS_BETWEEN: &CStr = c"
SELECT t.network, t.from_address, t.to_address, t.\"timestamp\", t.amount::numeric, t.block_number::bigint, t.log_index::integer,
       t.token_address
  FROM arx.token_transfers AS t
 WHERE t.\"timestamp\" >= $1 AND t.\"timestamp\" < $2";

const ALL_TRANSACTIONS: &CStr = c"
SELECT t.network, t.from_address, t.to_address, t.\"timestamp\", t.value::numeric, t.block_number::bigint, t.transaction_index::integer,
       CASE t.status WHEN 'pending' THEN 0 WHEN 'confirmed' THEN 1 WHEN 'unknown' THEN 3 ELSE 2 END, t.ingest_xid
  FROM arx.transactions AS t";

const ALL_INTERNAL_TRANSFERS: &CStr = c"
SELECT t.network, t.from_address, t.to_address, t.\"timestamp\", t.value::numeric, coalesce(t.block_number, 9223372036854775807)::bigint,
       t.transaction_index::integer, CASE t.succeeded WHEN true THEN 1 WHEN false THEN 2 ELSE 3 END,
       CASE WHEN t.is_ordered THEN t.position::integer END, t.ingest_xid
  FROM arx.internal_transfers AS t";

const ALL_TOKEN_TRANSFERS: &CStr = c"
SELECT t.network, t.from_address, t.to_address, t.\"timestamp\", t.amount::numeric, t.block_number::bigint, t.log_index::integer,
       t.token_address, t.ingest_xid
  FROM arx.token_transfers AS t";

thread_local! {
    static NEW_TRANSACTIONS: PreparedQuery = const { PreparedQuery::new(c"
SELECT t.network, t.from_address, t.to_address, t.\"timestamp\", t.value::numeric, t.block_number::bigint, t.transaction_index::integer,
       CASE t.status WHEN 'pending' THEN 0 WHEN 'confirmed' THEN 1 WHEN 'unknown' THEN 3 ELSE 2 END
  FROM arx.transactions AS t
 WHERE arx.is_new_since(t.ingest_xid, $1)", TRANSACTION) };

    static NEW_INTERNAL_TRANSFERS: PreparedQuery = const { PreparedQuery::new(c"
SELECT t.network, t.from_address, t.to_address, t.\"timestamp\", t.value::numeric, coalesce(t.block_number, 9223372036854775807)::bigint,
       t.transaction_index::integer, CASE t.succeeded WHEN true THEN 1 WHEN false THEN 2 ELSE 3 END,
       CASE WHEN t.is_ordered THEN t.position::integer END
  FROM arx.internal_transfers AS t
 WHERE arx.is_new_since(t.ingest_xid, $1)", INTERNAL_TRANSFER) };

    static NEW_TOKEN_TRANSFERS: PreparedQuery = const { PreparedQuery::new(c"
SELECT t.network, t.from_address, t.to_address, t.\"timestamp\", t.amount::numeric, t.block_number::bigint, t.log_index::integer,
       t.token_address
  FROM arx.token_transfers AS t
 WHERE arx.is_new_since(t.ingest_xid, $1)", TOKEN_TRANSFER) };

    // A row that was written and changed again since the snapshot was never visible in it.
    static FORMER_TRANSACTIONS: PreparedQuery = const { PreparedQuery::new(c"
SELECT c.network, c.from_address, c.to_address, c.\"timestamp\", c.value, c.block_number, c.transaction_index,
       CASE c.status WHEN 'pending' THEN 0 WHEN 'confirmed' THEN 1 WHEN 'unknown' THEN 3 ELSE 2 END
  FROM arx.transaction_changes AS c
 WHERE arx.is_new_since(c.changed_xid, $1) AND pg_catalog.pg_visible_in_snapshot(c.former_xid, $1)
   AND c.relation = 'transactions'", TRANSACTION) };

    static FORMER_INTERNAL_TRANSFERS: PreparedQuery = const { PreparedQuery::new(c"
SELECT c.network, c.from_address, c.to_address, c.\"timestamp\", c.value, coalesce(c.block_number, 9223372036854775807)::bigint, c.transaction_index,
       CASE c.status WHEN 'confirmed' THEN 1 WHEN 'failed' THEN 2 ELSE 3 END, CASE WHEN c.is_ordered THEN c.log_index END
  FROM arx.transaction_changes AS c
 WHERE arx.is_new_since(c.changed_xid, $1) AND pg_catalog.pg_visible_in_snapshot(c.former_xid, $1)
   AND c.relation = 'internal_transfers'", INTERNAL_TRANSFER) };

    static FORMER_TOKEN_TRANSFERS: PreparedQuery = const { PreparedQuery::new(c"
SELECT c.network, c.from_address, c.to_address, c.\"timestamp\", c.value, c.block_number, c.log_index, c.asset
  FROM arx.transaction_changes AS c
 WHERE arx.is_new_since(c.changed_xid, $1) AND pg_catalog.pg_visible_in_snapshot(c.former_xid, $1)
   AND c.relation = 'token_transfers'", TOKEN_TRANSFER) };

    static EPOCH: PreparedQuery = const {
        PreparedQuery::new(c"
SELECT (SELECT pg_catalog.count(*) FROM arx.graph_epoch) + (SELECT p.epochs FROM arx.pruned_epochs AS p)", &[Long]) };

    static CHANGES_BEFORE: PreparedQuery = const {
        PreparedQuery::new(c"SELECT p.changes_before FROM arx.pruned_epochs AS p", &[Xid]) };

    static EVENTS: PreparedQuery = const { PreparedQuery::new(c"
SELECT e.raised_xid, e.range_from IS NOT NULL, coalesce(e.root, ''), coalesce(e.range_from, '-infinity'),
       coalesce(e.range_to, 'infinity')
  FROM arx.graph_epoch AS e
 WHERE arx.is_new_since(e.raised_xid, $1)", &[Xid, Bool, Text, Time, Time]) };

    static FOREIGN_CHANGES: PreparedQuery = const { PreparedQuery::new(c"
SELECT EXISTS (SELECT FROM arx.transaction_changes AS c
                WHERE c.changed_xid >= $1::text::xid8 AND c.changed_xid <> $2::text::xid8)", &[Bool]) };

    static ESTIMATE: PreparedQuery = const { PreparedQuery::with_any_plan(c"
SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint
  FROM (SELECT relid FROM pg_partition_tree('arx.transactions') WHERE isleaf
        UNION ALL SELECT relid FROM pg_partition_tree('arx.internal_transfers') WHERE isleaf
        UNION ALL SELECT relid FROM pg_partition_tree('arx.token_transfers') WHERE isleaf) AS t
  JOIN pg_class AS c ON c.oid = t.relid", &[Long]) };

    // Extensions that apply rows of other servers without the triggers of statements.
    static IS_SUBSCRIBER: PreparedQuery = const { PreparedQuery::new(c"
SELECT EXISTS (SELECT FROM pg_catalog.pg_subscription_rel)
    OR EXISTS (SELECT FROM pg_catalog.pg_extension AS e WHERE e.extname IN ('pglogical', 'bdr'))", &[Bool]) };

    static NOTE_WRITER: PreparedQuery = const { PreparedQuery::new(c"
SELECT coalesce(pg_catalog.to_regprocedure('arx.note_writer()')::oid::bigint, 0)", &[Long]) };

    static EXISTS_DATABASE: PreparedQuery = const { PreparedQuery::new(c"
SELECT EXISTS (SELECT FROM pg_catalog.pg_database AS d WHERE d.oid = $1)", &[Bool]) };

    static OWN_ID: PreparedQuery = const { PreparedQuery::new(c"SELECT pg_catalog.pg_current_xact_id()", &[Xid]) };

    static MARK: PreparedQuery = const { PreparedQuery::new(c"
SELECT pg_catalog.pg_logical_emit_message(true, 'arx', 'graph')::text", &[Text]) };

    static NATIVE_ASSET: PreparedQuery = const { PreparedQuery::new(c"
SELECT n.native_asset FROM arx.networks AS n WHERE n.network = $1", &[Text]) };
}

/// Calls `each` for every row of a table, with the id of the transaction that wrote it.
pub(crate) fn every_row(
    table: Table,
    mut each: impl FnMut(&TransferRow<'_>, u64) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    let (query, layout) = match table {
        Table::Transactions => (ALL_TRANSACTIONS, EVERY_TRANSACTION),
        Table::InternalTransfers => (ALL_INTERNAL_TRANSFERS, EVERY_INTERNAL_TRANSFER),
        Table::TokenTransfers => (ALL_TOKEN_TRANSFERS, EVERY_TOKEN_TRANSFER),
    };
    let stamp = layout.len() - 1;
    stream_once(query, layout, |slot| each(&row(table, slot)?, slot.long(stamp)?.cast_unsigned()))
}

/// Calls `each` for every row of a table from one time to before another.
pub(crate) fn rows_between(
    table: Table,
    times: &std::ops::Range<i64>,
    mut each: impl FnMut(&TransferRow<'_>) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    let (query, layout) = match table {
        Table::Transactions => (TRANSACTIONS_BETWEEN, TRANSACTION),
        Table::InternalTransfers => (INTERNAL_TRANSFERS_BETWEEN, INTERNAL_TRANSFER),
        Table::TokenTransfers => (TOKEN_TRANSFERS_BETWEEN, TOKEN_TRANSFER),
    };
    let bounds = [Argument::time(times.start), Argument::time(times.end)];
    stream_once_with(query, layout, &bounds, |slot| each(&row(table, slot)?))
}

/// Calls `each` for every row that has become visible since a snapshot.
pub(crate) fn new_rows(
    table: Table,
    since: &Snapshot,
    mut each: impl FnMut(&TransferRow<'_>) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    let query = match table {
        Table::Transactions => &NEW_TRANSACTIONS,
        Table::InternalTransfers => &NEW_INTERNAL_TRANSFERS,
        Table::TokenTransfers => &NEW_TOKEN_TRANSFERS,
    };
    query.with(|query| query.stream(&[Argument::snapshot(since)?], |slot| each(&row(table, slot)?)))
}

/// Calls `each` for the former version of every row that a snapshot saw and that has been changed
/// since.
pub(crate) fn former_rows(
    table: Table,
    since: &Snapshot,
    mut each: impl FnMut(&TransferRow<'_>) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    let query = match table {
        Table::Transactions => &FORMER_TRANSACTIONS,
        Table::InternalTransfers => &FORMER_INTERNAL_TRANSFERS,
        Table::TokenTransfers => &FORMER_TOKEN_TRANSFERS,
    };
    query.with(|query| query.stream(&[Argument::snapshot(since)?], |slot| each(&row(table, slot)?)))
}

/// Reads a transfer from the first columns of a query: network, sender, receiver, time, value,
/// block, index, and status or token; of an internal transfer also its position. A block of 0 is
/// unknown.
pub(super) fn row<'a>(table: Table, slot: Slot<'a>) -> Result<TransferRow<'a>, SqlError> {
    let index = slot.integer(6)?.map(i32::cast_unsigned);
    let (value, position, token, status) = match table {
        Table::Transactions => {
            let position = Position { block: block(slot)?, transaction_index: index, log_index: None };
            (slot.amount(4, COIN_SCALE)?, position, None, status(slot.integer(7)?))
        }
        Table::InternalTransfers => {
            let log_index = slot.integer(8)?.map(i32::cast_unsigned);
            let position = Position { block: block(slot)?, transaction_index: index, log_index };
            (slot.amount(4, COIN_SCALE)?, position, None, status(slot.integer(7)?))
        }
        Table::TokenTransfers => {
            let position = Position { block: block(slot)?, transaction_index: None, log_index: index };
            (slot.amount(4, 0)?, position, Some(slot.text(7)?), Status::Confirmed)
        }
    };
    Ok(TransferRow {
        network: slot.text(0)?,
        from: slot.optional_text(1)?,
        to: slot.optional_text(2)?,
        token,
        time: slot.long(3)?,
        value,
        position,
        status,
    })
}

/// Reads the status of a row from its code.
pub(super) const fn status(code: Option<i32>) -> Status {
    match code {
        Some(0) => Status::Pending,
        Some(1) => Status::Confirmed,
        Some(3) => Status::Unknown,
        _ => Status::Failed,
    }
}

fn block(slot: Slot<'_>) -> Result<u64, SqlError> {
    Ok(slot.long(5)?.cast_unsigned())
}

/// Returns the current epoch, independent of the caller's snapshot: TRUNCATE and changes of
/// partitions take effect for all transactions at once.
pub(crate) fn latest_epoch() -> Result<i64, SqlError> {
    let mut epoch = 0;
    with_latest_snapshot(|| EPOCH.with(|query| query.stream(&[], |slot| slot.long(0).map(|count| epoch = count))))?;
    Ok(epoch)
}

/// Returns the transaction before which changes were pruned: a snapshot must see all earlier ones
/// to be followed.
pub(crate) fn changes_before() -> Result<u64, SqlError> {
    let mut before = 0;
    with_latest_snapshot(|| {
        CHANGES_BEFORE.with(|query| query.stream(&[], |slot| slot.long(0).map(|xid| before = xid.cast_unsigned())))
    })?;
    Ok(before)
}

/// Reads the current epoch, as [`latest_epoch`] does.
pub(crate) fn read_epoch() -> Result<Epoch, SqlError> {
    with_latest_snapshot(|| {
        let mut number = 0;
        EPOCH.with(|query| query.stream(&[], |slot| slot.long(0).map(|count| number = count)))?;
        Ok(Epoch { number, seen: Caller::current()?.snapshot })
    })
}

/// Reads the current epoch, and the events since another one. An event that was pruned is missing.
pub(crate) fn events_since(epoch: &Epoch) -> Result<(Epoch, Vec<Event>), SqlError> {
    with_latest_snapshot(|| {
        let mut number = 0;
        EPOCH.with(|query| query.stream(&[], |slot| slot.long(0).map(|count| number = count)))?;
        let mut events = Vec::new();
        EVENTS.with(|query| {
            query.stream(&[Argument::snapshot(&epoch.seen)?], |slot| {
                let (is_bounded, root) = (slot.is_true(1)?, slot.text(2)?);
                let table = Table::ALL.into_iter().find(|table| table.bare_name().to_bytes() == root.as_bytes());
                let times = slot.long(3)?..slot.long(4)?;
                let rows = table.filter(|_| is_bounded).map(|table| (table, times));
                events.push(Event { raised_by: slot.long(0)?.cast_unsigned(), rows });
                Ok(())
            })
        })?;
        Ok((Epoch { number, seen: Caller::current()?.snapshot }, events))
    })
}

/// Returns true if changes bear ids of transactions that have not begun: those of another cluster.
pub(crate) fn foreign_changes(next: u64, own: Option<u64>) -> Result<bool, SqlError> {
    let arguments = [Argument::of(next.to_string()), Argument::of(own.unwrap_or(0).to_string())];
    FOREIGN_CHANGES.with(|query| query.is_true(&arguments))
}

/// Returns true if another server's rows are applied in this database, past the triggers of
/// statements.
pub(crate) fn is_subscriber() -> Result<bool, SqlError> {
    with_latest_snapshot(|| IS_SUBSCRIBER.with(|query| query.is_true(&[])))
}

/// Returns the OID of `arx.note_writer()`, or 0.
pub(crate) fn note_writer_function() -> Result<u32, SqlError> {
    let mut function = 0;
    NOTE_WRITER.with(|query| {
        query.stream(&[], |slot| {
            function = u32::try_from(slot.long(0)?).unwrap_or(0);
            Ok(())
        })
    })?;
    Ok(function)
}

/// Estimates the number of rows of all tables.
pub(crate) fn estimated_rows() -> Result<i64, SqlError> {
    let mut rows = 0;
    ESTIMATE.with(|query| query.stream(&[], |slot| slot.long(0).map(|estimate| rows = estimate)))?;
    Ok(rows)
}

pub(crate) fn database_exists(database: u32) -> Result<bool, SqlError> {
    // A database that was created after the caller's snapshot exists, too.
    with_latest_snapshot(|| EXISTS_DATABASE.with(|query| query.is_true(&[Argument::of(pg_sys::Oid::from(database))])))
}

/// Writes this transaction's id to the write-ahead log and waits until it is on disk, with all that
/// precedes it: after a crash the server will not assign a lower id again, nor forget a commit that
/// was visible.
pub(crate) fn mark_log() -> Result<(), SqlError> {
    for query in [&OWN_ID, &MARK] {
        query.with(|query| query.stream(&[], |_| Ok(())))?;
    }
    // SAFETY: Waits for the log up to the end of this backend's last record.
    #[allow(unsafe_code, reason = "SPI has no call that flushes the log")]
    unsafe {
        pg_sys::XLogFlush(pg_sys::XactLastRecEnd)
    };
    Ok(())
}

/// Returns the name of the native coin of a registered network.
pub(crate) fn native_asset(network: &str) -> Result<String, SqlError> {
    let mut asset = None;
    NATIVE_ASSET.with(|query| {
        query.stream(&[Argument::of(network)], |slot| {
            asset = Some(slot.text(0)?.to_owned());
            Ok(())
        })
    })?;
    asset.ok_or_else(|| SqlError::unregistered_network(network))
}
