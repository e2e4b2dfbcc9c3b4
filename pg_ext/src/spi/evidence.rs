//! Hashes of the transactions behind transfers that were found in the graph, which does not hold them.

use std::collections::HashMap;

use arx_core::address::Network;
use arx_core::amount::COIN_SCALE;
use arx_core::graph::{AssetId, Damaged, Graph, Position, Status, Transfer, TransferRow, U256, WalletId};
use pgrx::prelude::*;

use super::stream::{Argument, KeptQuery, Slot, in_memory_of_its_own};
use crate::error::SqlError;

/// Transfers asked about at a time.
const BATCH: usize = 5_000;

/// A transfer whose transaction is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sought {
    pub from: String,
    /// `None` for the creation of a contract.
    pub to: Option<String>,
    /// `None` for the native coin.
    pub token: Option<String>,
    pub time: i64,
    pub value: U256,
    pub position: Position,
    pub status: Status,
}

impl Sought {
    /// A transfer that a wallet sent.
    pub fn sent(graph: &Graph<'_>, from: WalletId, transfer: &Transfer) -> Result<Self, Damaged> {
        let native = transfer.asset == AssetId::NATIVE;
        Ok(Self {
            from: graph.address(from)?.to_owned(),
            to: transfer.peer.map(|peer| graph.address(peer)).transpose()?.map(str::to_owned),
            token: if native { None } else { Some(graph.token(transfer.asset)?.to_owned()) },
            time: transfer.time,
            value: transfer.value,
            position: transfer.position,
            status: transfer.status,
        })
    }
}

impl From<&TransferRow<'_>> for Sought {
    fn from(row: &TransferRow<'_>) -> Self {
        let TransferRow { from, to, token, time, value, position, status, .. } = *row;
        let (to, token) = (to.map(str::to_owned), token.map(str::to_owned));
        Self { from: from.to_owned(), to, token, time, value, position, status }
    }
}

thread_local! {
    static NATIVE_HASHES: KeptQuery = const { KeptQuery::new(c"
SELECT s.place, x.tx_hash, x.block_number, x.transaction_index,
       CASE x.status WHEN 'pending' THEN 0 WHEN 'confirmed' THEN 1 ELSE 2 END, x.value
  FROM unnest($1::integer[], $2::text[], $3::text[], $4::timestamptz[]) AS s (place, sender, receiver, at)
  JOIN arx.transactions AS x
    ON x.from_address = s.sender AND x.network = $5 AND x.\"timestamp\" = s.at AND x.to_address IS NOT DISTINCT FROM s.receiver
 ORDER BY s.place, x.tx_hash") };

    static TOKEN_HASHES: KeptQuery = const { KeptQuery::new(c"
SELECT s.place, x.tx_hash, x.block_number, x.log_index, 1, x.amount, x.token_address
  FROM unnest($1::integer[], $2::text[], $3::text[], $4::timestamptz[]) AS s (place, sender, receiver, at)
  JOIN arx.token_transfers AS x
    ON x.from_address = s.sender AND x.network = $5 AND x.\"timestamp\" = s.at AND x.to_address = s.receiver
 ORDER BY s.place, x.tx_hash, x.log_index") };
}

/// The hash of each transfer's transaction, in their order; `None` where the table has it no more. Transfers that nothing tells
/// apart get different hashes while there are any.
pub fn transfer_hashes(network: &Network, sought: &[Sought]) -> Result<Vec<Option<String>>, SqlError> {
    let mut hashes = vec![None; sought.len()];
    for (number, batch) in sought.chunks(BATCH).enumerate() {
        let found = &mut hashes[number * BATCH..];
        for (query, native) in [(&NATIVE_HASHES, true), (&TOKEN_HASHES, false)] {
            if batch.iter().any(|one| one.token.is_none() == native) {
                in_memory_of_its_own(|| query.with(|query| look_up(query, native, network, batch, found)))?;
            }
        }
    }
    Ok(hashes)
}

fn look_up(
    query: &KeptQuery,
    native: bool,
    network: &Network,
    batch: &[Sought],
    found: &mut [Option<String>],
) -> Result<(), SqlError> {
    // what happened between two wallets at one time is found together
    let mut moments: HashMap<(&str, Option<&str>, i64), Vec<usize>> = HashMap::new();
    for (place, one) in batch.iter().enumerate().filter(|(_, one)| one.token.is_none() == native) {
        moments.entry((&one.from, one.to.as_deref(), one.time)).or_default().push(place);
    }
    let (mut places, mut senders, mut receivers, mut times) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for ((sender, receiver, time), of_moment) in &moments {
        // a batch has few places
        places.push(of_moment[0] as i32);
        senders.push(*sender);
        receivers.push(*receiver);
        times.push(TimestampWithTimeZone::try_from(*time).map_err(|_| SqlError::infinite_time())?);
    }
    let arguments = [
        Argument::of(places),
        Argument::of(senders),
        Argument::of(receivers),
        Argument::of(times),
        Argument::of(network.name()),
    ];
    let by_first: HashMap<usize, &Vec<usize>> = moments.values().map(|places| (places[0], places)).collect();
    query.stream(&arguments, |slot| {
        let row = Behind::read(slot, native)?;
        let Some(places) = by_first.get(&row.place) else { return Ok(()) };
        let open = places.iter().find(|place| found[**place].is_none() && row.is(&batch[**place]));
        if let Some(place) = open {
            found[*place] = Some(row.hash.to_owned());
        }
        Ok(())
    })
}

/// A row behind a transfer.
struct Behind<'a> {
    place: usize,
    hash: &'a str,
    token: Option<&'a str>,
    value: U256,
    position: Position,
    failed: bool,
}

impl<'a> Behind<'a> {
    fn read(slot: Slot<'a>, native: bool) -> Result<Self, SqlError> {
        let index = slot.integer(3)?.map(i32::cast_unsigned);
        let block = slot.long(2)?.cast_unsigned();
        Ok(Self {
            place: usize::try_from(slot.integer(0)?.unwrap_or_default()).unwrap_or_default(),
            hash: slot.text(1)?,
            token: if native { None } else { Some(slot.text(6)?) },
            value: slot.amount(5, if native { COIN_SCALE } else { 0 })?,
            position: Position {
                block,
                transaction_index: index.filter(|_| native),
                log_index: index.filter(|_| !native),
            },
            failed: slot.integer(4)? == Some(2),
        })
    }

    fn is(&self, sought: &Sought) -> bool {
        self.value == sought.value
            && self.position == sought.position
            && self.token == sought.token.as_deref()
            && self.failed == (sought.status == Status::Failed)
    }
}
