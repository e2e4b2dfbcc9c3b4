//! Transfers of transactions that the caller names by hash.

use arx_core::address::Network;

use super::evidence::TransferKey;
use super::graph::{Table, row};
use super::stream::ColumnType::{Integer, Long, Numeric, Text, Time};
use super::stream::{Argument, PreparedQuery, with_memory_context};
use crate::error::SqlError;

/// Transactions looked up at a time. pgrx does not survive that the server lacks memory for the
/// array of an argument that is much larger.
const BATCH: usize = 5_000;

thread_local! {
    static NATIVE: PreparedQuery = const { PreparedQuery::new(c"
SELECT x.network, x.from_address, x.to_address, x.\"timestamp\", x.value::numeric, x.block_number::bigint, x.transaction_index::integer,
       CASE x.status WHEN 'pending' THEN 0 WHEN 'confirmed' THEN 1 WHEN 'unknown' THEN 3 ELSE 2 END, x.tx_hash
  FROM arx.transactions AS x WHERE x.network = $1 AND x.tx_hash = ANY ($2::text[])",
        &[Text, Text, Text, Time, Numeric, Long, Integer, Integer, Text]) };

    static INTERNAL: PreparedQuery = const { PreparedQuery::new(c"
SELECT x.network, x.from_address, x.to_address, x.\"timestamp\", x.value::numeric, coalesce(x.block_number, 9223372036854775807)::bigint,
       x.transaction_index::integer, CASE x.succeeded WHEN true THEN 1 WHEN false THEN 2 ELSE 3 END,
       CASE WHEN x.is_ordered THEN x.position::integer END, x.tx_hash
  FROM arx.internal_transfers AS x WHERE x.network = $1 AND x.tx_hash = ANY ($2::text[])",
        &[Text, Text, Text, Time, Numeric, Long, Integer, Integer, Integer, Text]) };

    static TOKENS: PreparedQuery = const { PreparedQuery::new(c"
SELECT x.network, x.from_address, x.to_address, x.\"timestamp\", x.amount::numeric, x.block_number::bigint, x.log_index::integer,
       x.token_address, x.tx_hash
  FROM arx.token_transfers AS x WHERE x.network = $1 AND x.tx_hash = ANY ($2::text[])",
        &[Text, Text, Text, Time, Numeric, Long, Integer, Text, Text]) };
}

/// Calls `each` with the hash and key of every transfer of some transactions: of native coins, and
/// with `with_tokens` of tokens.
pub(crate) fn transfers_of(
    network: &Network,
    hashes: &[String],
    with_tokens: bool,
    mut each: impl FnMut(&str, TransferKey) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    let mut distinct: Vec<&str> = hashes.iter().map(String::as_str).collect();
    distinct.sort_unstable();
    distinct.dedup();
    for batch in distinct.chunks(BATCH) {
        // The arguments of a batch are freed with it.
        with_memory_context(|| {
            let arguments = [Argument::of(network.name()), Argument::of(batch.to_vec())];
            let mut read = |table: Table, hash: usize, query: &PreparedQuery| {
                query.stream(&arguments, |slot| each(slot.text(hash)?, TransferKey::from(&row(table, slot)?)))
            };
            NATIVE.with(|query| read(Table::Transactions, 8, query))?;
            INTERNAL.with(|query| read(Table::InternalTransfers, 9, query))?;
            if with_tokens { TOKENS.with(|query| read(Table::TokenTransfers, 8, query)) } else { Ok(()) }
        })?;
    }
    Ok(())
}
