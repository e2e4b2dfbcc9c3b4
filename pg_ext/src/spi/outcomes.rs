//! Outcome and block of internal transfers that do not state them: those of their transactions. The
//! failure of a transaction is that of all of them, and its token transfers do not exist.

use std::thread::LocalKey;

use super::logs::LogValue;
use super::session::{Access, connected};
use super::stream::ColumnType::{Bool, Integer, Long};
use super::stream::{Argument, PreparedQuery};
use crate::error::SqlError;

/// Identifies a transaction in a row of a trigger: network, hash and time.
pub(crate) type TransactionKey = [LogValue; 3];

/// A stored transaction, as far as its internal transfers depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoredTransaction {
    pub(crate) failed: bool,
    pub(crate) block_number: i64,
    pub(crate) transaction_index: Option<i32>,
}

thread_local! {
    // The lock makes a session that changes the transaction wait; it then finds the transfer.
    static STORED: PreparedQuery = const { PreparedQuery::new(c"
SELECT t.status = 'failed', t.block_number::bigint, t.transaction_index::integer
  FROM arx.transactions AS t
 WHERE t.network = $1 AND t.tx_hash = $2 AND t.\"timestamp\" = $3
   FOR SHARE", &[Bool, Long, Integer]) };

    // Without a lock: a session that stores the failure of a transaction would wait for all that
    // store its transfers, and two of them for each other.
    static PRESENT: PreparedQuery = const { PreparedQuery::new(c"
SELECT t.status = 'failed', t.block_number::bigint, t.transaction_index::integer
  FROM arx.transactions AS t
 WHERE t.network = $1 AND t.tx_hash = $2 AND t.\"timestamp\" = $3", &[Bool, Long, Integer]) };

    // Shared with other sessions that store transfers of the transaction. A session that stores the
    // transaction deletes the row, waits for them, and then finds their transfers.
    static LOCK_AWAITED: PreparedQuery = const { PreparedQuery::new(c"
SELECT true FROM arx.awaited_transactions AS a
 WHERE a.network = $1 AND a.tx_hash = $2 AND a.\"timestamp\" = $3 AND NOT a.is_stored
   FOR SHARE", &[Bool]) };

    static AWAIT: PreparedQuery = const { PreparedQuery::new(c"
INSERT INTO arx.awaited_transactions (network, tx_hash, \"timestamp\") VALUES ($1, $2, $3)", &[]) };

    static ANY_AWAITED: PreparedQuery = const { PreparedQuery::new(c"
SELECT EXISTS (SELECT FROM arx.awaited_transactions AS a WHERE NOT a.is_stored)", &[Bool]) };

    static IS_AWAITED: PreparedQuery = const { PreparedQuery::new(c"
SELECT EXISTS (SELECT FROM arx.awaited_transactions AS a
                WHERE a.network = $1 AND a.tx_hash = $2 AND a.\"timestamp\" = $3 AND NOT a.is_stored)", &[Bool]) };

    static STOP_AWAITING: PreparedQuery = const { PreparedQuery::new(c"
DELETE FROM arx.awaited_transactions AS a
 WHERE a.network = $1 AND a.tx_hash = $2 AND a.\"timestamp\" = $3 AND NOT a.is_stored", &[]) };

    // Sessions that are storing transfers of the transaction do not see its failure.
    static NOTE_FAILURE: PreparedQuery = const { PreparedQuery::new(c"
INSERT INTO arx.awaited_transactions (network, tx_hash, \"timestamp\", is_stored) VALUES ($1, $2, $3, true)", &[]) };

    static HAS_TOKEN_TRANSFERS: PreparedQuery = const { PreparedQuery::new(c"
SELECT EXISTS (SELECT FROM arx.token_transfers AS x
                WHERE x.network = $1 AND x.tx_hash = $2 AND x.\"timestamp\" = $3)", &[Bool]) };

    static VOID_TOKEN_TRANSFERS: PreparedQuery = const { PreparedQuery::new(c"
WITH void AS (
    DELETE FROM arx.token_transfers AS x WHERE x.network = $1 AND x.tx_hash = $2 AND x.\"timestamp\" = $3
    RETURNING x.network, x.tx_hash, x.log_index, x.\"timestamp\", to_jsonb(x) AS transfer
)
INSERT INTO arx.void_token_transfers AS v (network, tx_hash, log_index, \"timestamp\", transfer)
SELECT o.network, o.tx_hash, o.log_index, o.\"timestamp\", o.transfer FROM void AS o
    ON CONFLICT (network, tx_hash, log_index, \"timestamp\") DO UPDATE SET transfer = excluded.transfer", &[]) };

    static HAS_VOID_TRANSFERS: PreparedQuery = const { PreparedQuery::new(c"
SELECT EXISTS (SELECT FROM arx.void_token_transfers AS v
                WHERE v.network = $1 AND v.tx_hash = $2 AND v.\"timestamp\" = $3)", &[Bool]) };

    static DISCARD_VOID_TRANSFERS: PreparedQuery = const { PreparedQuery::new(c"
DELETE FROM arx.void_token_transfers AS v
 WHERE v.network = $1 AND v.tx_hash = $2 AND v.\"timestamp\" = $3", &[]) };

    // A query finds its partition when it starts; an update opens all of them, which takes ten
    // times as long. So rows are changed only if one needs it: $4 is true if the transaction
    // failed, and $5 and $6 are its block and index.
    static IS_INCOMPLETE: PreparedQuery = const { PreparedQuery::new(c"
SELECT EXISTS (
    SELECT FROM arx.internal_transfers AS i
     WHERE i.network = $1 AND i.tx_hash = $2 AND i.\"timestamp\" = $3
       AND (CASE WHEN i.outcome_inherited THEN NOT $4 ELSE i.succeeded IS NOT FALSE AND $4 END
            OR (i.block_number IS NULL OR i.block_inherited)
               AND (i.block_number, i.transaction_index) IS DISTINCT FROM ($5, coalesce($6, i.transaction_index))))",
        &[Bool]) };

    // What was inherited is unknown again, and the trigger of the table looks for it.
    static COMPLETE: PreparedQuery = const { PreparedQuery::new(c"
UPDATE arx.internal_transfers AS i
   SET succeeded = CASE WHEN i.outcome_inherited THEN NULL ELSE i.succeeded END,
       block_number = CASE WHEN i.block_inherited THEN NULL ELSE i.block_number END,
       transaction_index = CASE WHEN i.block_inherited THEN NULL ELSE i.transaction_index END
 WHERE i.network = $1 AND i.tx_hash = $2 AND i.\"timestamp\" = $3
   AND (CASE WHEN i.outcome_inherited THEN NOT $4 ELSE i.succeeded IS NOT FALSE AND $4 END
        OR (i.block_number IS NULL OR i.block_inherited)
           AND (i.block_number, i.transaction_index) IS DISTINCT FROM ($5, coalesce($6, i.transaction_index)))",
        &[]) };
}

/// Keeps a row of `arx.token_transfers`, as a value of its type, apart from them.
const SET_ASIDE: &str = "
INSERT INTO arx.void_token_transfers AS v (network, tx_hash, log_index, \"timestamp\", transfer)
SELECT $1, $2, $4, $3, to_jsonb($5)
    ON CONFLICT (network, tx_hash, log_index, \"timestamp\") DO UPDATE SET transfer = excluded.transfer";

/// Columns of `arx.token_transfers` that a row has to be given, also those of users.
const STORED_COLUMNS: &str = "
SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum), string_agg('r.' || quote_ident(a.attname), ', ' ORDER BY a.attnum)
  FROM pg_attribute AS a
 WHERE a.attrelid = 'arx.token_transfers'::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''";

fn arguments(key: &TransactionKey) -> [Argument; 3] {
    key.map(Argument::from)
}

/// Returns a transaction, and locks it against changes by others until the end of this transaction.
pub(crate) fn stored_transaction(key: &TransactionKey) -> Result<Option<StoredTransaction>, SqlError> {
    find(&STORED, key)
}

/// Returns a transaction as it is committed now.
pub(crate) fn present_transaction(key: &TransactionKey) -> Result<Option<StoredTransaction>, SqlError> {
    find(&PRESENT, key)
}

fn find(query: &'static LocalKey<PreparedQuery>, key: &TransactionKey) -> Result<Option<StoredTransaction>, SqlError> {
    let mut stored = None;
    query.with(|query| {
        query.stream_latest(&arguments(key), |slot| {
            stored = Some(StoredTransaction {
                failed: slot.is_true(0)?,
                block_number: slot.long(1)?,
                transaction_index: slot.integer(2)?,
            });
            Ok(())
        })
    })?;
    Ok(stored)
}

/// Records that internal transfers wait for a transaction.
pub(crate) fn await_transaction(key: &TransactionKey) -> Result<(), SqlError> {
    let arguments = arguments(key);
    let mut is_awaited = false;
    LOCK_AWAITED.with(|query| {
        query.stream_latest(&arguments, |_| {
            is_awaited = true;
            Ok(())
        })
    })?;
    if is_awaited { Ok(()) } else { AWAIT.with(|query| query.execute(&arguments)) }
}

/// Returns true if internal transfers wait for any transaction.
pub(crate) fn any_awaited() -> Result<bool, SqlError> {
    is_true(&ANY_AWAITED, &[])
}

/// Returns true if internal transfers waited for a transaction, which they do no longer.
pub(crate) fn stop_awaiting(key: &TransactionKey) -> Result<bool, SqlError> {
    let is_awaited = is_true(&IS_AWAITED, &arguments(key))?;
    if is_awaited {
        STOP_AWAITING.with(|query| query.execute(&arguments(key)))?;
    }
    Ok(is_awaited)
}

/// Records that a transaction has failed, for transfers that other sessions are storing.
pub(crate) fn note_failure(key: &TransactionKey) -> Result<(), SqlError> {
    NOTE_FAILURE.with(|query| query.execute(&arguments(key)))
}

/// Gives internal transfers outcome and block of their transaction, or of none, where they do not
/// have their own.
pub(crate) fn complete_internal_transfers(
    key: &TransactionKey,
    transaction: Option<StoredTransaction>,
) -> Result<(), SqlError> {
    let [network, hash, time] = arguments(key);
    let failed = Argument::of(transaction.is_some_and(|stored| stored.failed));
    let block = Argument::of(transaction.map(|stored| stored.block_number));
    let index = Argument::of(transaction.and_then(|stored| stored.transaction_index));
    let arguments = [network, hash, time, failed, block, index];
    if is_true(&IS_INCOMPLETE, &arguments)? { COMPLETE.with(|query| query.execute(&arguments)) } else { Ok(()) }
}

/// Takes the token transfers of a failed transaction out of their table.
pub(crate) fn void_token_transfers(key: &TransactionKey) -> Result<(), SqlError> {
    let arguments = arguments(key);
    if is_true(&HAS_TOKEN_TRANSFERS, &arguments)? {
        VOID_TOKEN_TRANSFERS.with(|query| query.execute(&arguments))?;
    }
    Ok(())
}

/// Keeps a token transfer of a failed transaction apart: its log index, and the row.
pub(crate) fn set_token_transfer_aside(key: &TransactionKey, index: LogValue, row: LogValue) -> Result<(), SqlError> {
    let [network, hash, time] = key.map(LogValue::argument);
    let arguments = [network, hash, time, index.argument(), row.argument()];
    connected(Access::Any, |client| {
        client.update(SET_ASIDE, None, &arguments)?;
        Ok(())
    })
}

/// Puts the token transfers of a transaction that has not failed back into their table.
pub(crate) fn restore_token_transfers(key: &TransactionKey) -> Result<(), SqlError> {
    if !is_true(&HAS_VOID_TRANSFERS, &arguments(key))? {
        return Ok(());
    }
    connected(Access::Any, |client| {
        let columns = client.select(STORED_COLUMNS, None, &[])?.first();
        let (Some(names), Some(values)) = (columns.get::<String>(1)?, columns.get::<String>(2)?) else {
            return Err(SqlError::corrupt("arx.token_transfers has no columns"));
        };
        // A foreign stamp would be replaced by an update of the row.
        let restore = format!(
            "WITH back AS (DELETE FROM arx.void_token_transfers AS v \
                            WHERE v.network = $1 AND v.tx_hash = $2 AND v.\"timestamp\" = $3 RETURNING v.transfer) \
             INSERT INTO arx.token_transfers ({names}) OVERRIDING SYSTEM VALUE \
             SELECT {values} FROM back AS b \
              CROSS JOIN LATERAL jsonb_populate_record(NULL::arx.token_transfers, b.transfer \
                    || jsonb_build_object('ingest_xid', pg_current_xact_id()::text)) AS r \
                 ON CONFLICT DO NOTHING"
        );
        client.update(restore.as_str(), None, &key.map(LogValue::argument))?;
        Ok(())
    })
}

/// Removes the token transfers that a failed transaction kept from their table.
pub(crate) fn discard_void_transfers(key: &TransactionKey) -> Result<(), SqlError> {
    let arguments = arguments(key);
    if is_true(&HAS_VOID_TRANSFERS, &arguments)? {
        DISCARD_VOID_TRANSFERS.with(|query| query.execute(&arguments))?;
    }
    Ok(())
}

/// Returns the answer of a query for one boolean, in a snapshot taken now.
fn is_true(query: &'static LocalKey<PreparedQuery>, arguments: &[Argument]) -> Result<bool, SqlError> {
    let mut answer = false;
    query.with(|query| query.stream_latest(arguments, |slot| slot.is_true(0).map(|is_true| answer = is_true)))?;
    Ok(answer)
}
