//! Outcome and block of internal transfers that do not state them: those of their transactions. The
//! failure of a transaction is that of all of them.

use super::logs::LogValue;
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

    // Without a lock: a transfer that states its own success costs one lookup.
    static IS_FAILED: PreparedQuery = const { PreparedQuery::new(c"
SELECT EXISTS (SELECT FROM arx.transactions AS t
                WHERE t.network = $1 AND t.tx_hash = $2 AND t.\"timestamp\" = $3 AND t.status = 'failed')", &[Bool]) };

    // Shared with other sessions that store transfers of the transaction. A session that stores the
    // transaction deletes the row, waits for them, and then finds their transfers.
    static LOCK_AWAITED: PreparedQuery = const { PreparedQuery::new(c"
SELECT true FROM arx.awaited_transactions AS a
 WHERE a.network = $1 AND a.tx_hash = $2 AND a.\"timestamp\" = $3
   FOR SHARE", &[Bool]) };

    static AWAIT: PreparedQuery = const { PreparedQuery::new(c"
INSERT INTO arx.awaited_transactions (network, tx_hash, \"timestamp\") VALUES ($1, $2, $3)", &[]) };

    static ANY_AWAITED: PreparedQuery = const { PreparedQuery::new(c"
SELECT EXISTS (SELECT FROM arx.awaited_transactions)", &[Bool]) };

    static IS_AWAITED: PreparedQuery = const { PreparedQuery::new(c"
SELECT EXISTS (SELECT FROM arx.awaited_transactions AS a
                WHERE a.network = $1 AND a.tx_hash = $2 AND a.\"timestamp\" = $3)", &[Bool]) };

    static STOP_AWAITING: PreparedQuery = const { PreparedQuery::new(c"
DELETE FROM arx.awaited_transactions AS a WHERE a.network = $1 AND a.tx_hash = $2 AND a.\"timestamp\" = $3", &[]) };

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

fn arguments(key: &TransactionKey) -> [Argument; 3] {
    key.map(Argument::from)
}

/// Returns a transaction, and locks it against changes by others until the end of this transaction.
pub(crate) fn stored_transaction(key: &TransactionKey) -> Result<Option<StoredTransaction>, SqlError> {
    let mut stored = None;
    STORED.with(|query| {
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

/// Returns true if a transaction is stored and has failed.
pub(crate) fn is_failed(key: &TransactionKey) -> Result<bool, SqlError> {
    let mut failed = false;
    IS_FAILED
        .with(|query| query.stream_latest(&arguments(key), |slot| slot.is_true(0).map(|is_true| failed = is_true)))?;
    Ok(failed)
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
    let mut any = false;
    ANY_AWAITED.with(|query| query.stream_latest(&[], |slot| slot.is_true(0).map(|is_true| any = is_true)))?;
    Ok(any)
}

/// Returns true if internal transfers waited for a transaction, which they do no longer.
pub(crate) fn stop_awaiting(key: &TransactionKey) -> Result<bool, SqlError> {
    let mut is_awaited = false;
    IS_AWAITED.with(|query| {
        query.stream_latest(&arguments(key), |slot| slot.is_true(0).map(|is_true| is_awaited = is_true))
    })?;
    if is_awaited {
        STOP_AWAITING.with(|query| query.execute(&arguments(key)))?;
    }
    Ok(is_awaited)
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
    let mut is_incomplete = false;
    IS_INCOMPLETE
        .with(|query| query.stream_latest(&arguments, |slot| slot.is_true(0).map(|is_true| is_incomplete = is_true)))?;
    if is_incomplete { COMPLETE.with(|query| query.execute(&arguments)) } else { Ok(()) }
}
