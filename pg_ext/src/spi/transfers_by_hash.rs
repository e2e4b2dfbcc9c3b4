//! Transfers of transactions that the caller names by hash.

use arx_core::address::Network;

use super::evidence::TransferKey;
use super::graph::{Table, row};
use super::stream::{Argument, PreparedQuery};
use crate::error::SqlError;

thread_local! {
    static NATIVE: PreparedQuery = const { PreparedQuery::new(c"
SELECT x.network, x.from_address, x.to_address, x.\"timestamp\", x.value, x.block_number, x.transaction_index,
       CASE x.status WHEN 'pending' THEN 0 WHEN 'confirmed' THEN 1 ELSE 2 END, x.tx_hash
  FROM arx.transactions AS x WHERE x.network = $1 AND x.tx_hash = ANY ($2::text[])") };

    static TOKENS: PreparedQuery = const { PreparedQuery::new(c"
SELECT x.network, x.from_address, x.to_address, x.\"timestamp\", x.amount, x.block_number, x.log_index, x.token_address, x.tx_hash
  FROM arx.token_transfers AS x WHERE x.network = $1 AND x.tx_hash = ANY ($2::text[])") };
}

/// Calls `each` with the hash and key of every transfer of some transactions: of native coins, and
/// with `with_tokens` of tokens.
pub(crate) fn transfers_of(
    network: &Network,
    hashes: &[String],
    with_tokens: bool,
    mut each: impl FnMut(&str, TransferKey) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    let arguments = [Argument::of(network.name()), Argument::of(hashes.to_vec())];
    let mut read = |table: Table, query: &PreparedQuery| {
        query.stream(&arguments, |slot| each(slot.text(8)?, TransferKey::from(&row(table, slot)?)))
    };
    NATIVE.with(|query| read(Table::Transactions, query))?;
    if with_tokens { TOKENS.with(|query| read(Table::TokenTransfers, query)) } else { Ok(()) }
}
