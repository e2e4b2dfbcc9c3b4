//! Transfers of transactions that were named.

use arx_core::address::Network;
use arx_core::graph::decimal::COIN_SCALE;
use arx_core::graph::{Position, Status};

use super::evidence::Sought;
use super::stream::{Argument, KeptQuery, Slot};
use crate::error::SqlError;

thread_local! {
    static NATIVE: KeptQuery = const { KeptQuery::new(c"
SELECT x.tx_hash, x.from_address, x.to_address, x.\"timestamp\", x.value, x.block_number, x.transaction_index,
       CASE x.status WHEN 'pending' THEN 0 WHEN 'confirmed' THEN 1 ELSE 2 END
  FROM arx.transactions AS x WHERE x.network = $1 AND x.tx_hash = ANY ($2::text[])") };

    static TOKENS: KeptQuery = const { KeptQuery::new(c"
SELECT x.tx_hash, x.from_address, x.to_address, x.\"timestamp\", x.amount, x.block_number, x.log_index, x.token_address
  FROM arx.token_transfers AS x WHERE x.network = $1 AND x.tx_hash = ANY ($2::text[])") };
}

/// Calls `each` with a hash and a transfer for every transfer of some transactions: of native coins, and `with_tokens` of tokens.
pub fn transfers_of(
    network: &Network,
    hashes: &[String],
    with_tokens: bool,
    mut each: impl FnMut(&str, Sought) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    let arguments = [Argument::of(network.name()), Argument::of(hashes.to_vec())];
    NATIVE.with(|query| query.stream(&arguments, |slot| each(slot.text(0)?, transfer(slot, true)?)))?;
    if with_tokens {
        TOKENS.with(|query| query.stream(&arguments, |slot| each(slot.text(0)?, transfer(slot, false)?)))?;
    }
    Ok(())
}

fn transfer(slot: Slot<'_>, native: bool) -> Result<Sought, SqlError> {
    let index = slot.integer(6)?.map(i32::cast_unsigned);
    let status = match native {
        false => Status::Confirmed,
        true => match slot.integer(7)? {
            Some(0) => Status::Pending,
            Some(1) => Status::Confirmed,
            _ => Status::Failed,
        },
    };
    Ok(Sought {
        from: slot.text(1)?.to_owned(),
        to: slot.optional_text(2)?.map(str::to_owned),
        token: if native { None } else { Some(slot.text(7)?.to_owned()) },
        time: slot.long(3)?,
        value: slot.amount(4, if native { COIN_SCALE } else { 0 })?,
        position: Position {
            block: slot.long(5)?.cast_unsigned(),
            transaction_index: index.filter(|_| native),
            log_index: index.filter(|_| !native),
        },
        status,
    })
}
