//! Hashes of the transactions behind transfers of the graph, which does not hold them.

use std::collections::HashMap;

use arx_core::address::Network;
use arx_core::amount::COIN_SCALE;
use arx_core::graph::{AssetId, Damaged, Graph, Position, Status, Transfer, TransferRow, U256, WalletId};

use super::stream::ColumnType::{Integer, Long, Numeric, Text};
use super::stream::{Argument, PreparedQuery, Slot, with_memory_context};
use crate::error::SqlError;
use crate::time::from_micros;

/// Transfers looked up at a time.
const BATCH: usize = 5_000;

/// Identifies a transfer by its contents, as the tables have them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TransferKey {
    pub(crate) from: String,
    /// `None` for the creation of a contract.
    pub(crate) to: Option<String>,
    /// `None` for the native coin.
    pub(crate) token: Option<String>,
    pub(crate) time: i64,
    pub(crate) value: U256,
    pub(crate) position: Position,
    pub(crate) status: Status,
}

impl TransferKey {
    /// Returns the key of a transfer that a wallet sent.
    pub(crate) fn sent(graph: &Graph<'_>, from: WalletId, transfer: &Transfer) -> Result<Self, Damaged> {
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

impl From<&TransferRow<'_>> for TransferKey {
    fn from(row: &TransferRow<'_>) -> Self {
        let TransferRow { from, to, token, time, value, position, status, .. } = *row;
        let (to, token) = (to.map(str::to_owned), token.map(str::to_owned));
        Self { from: from.to_owned(), to, token, time, value, position, status }
    }
}

thread_local! {
    static NATIVE_HASHES: PreparedQuery = const { PreparedQuery::new(c"
SELECT s.ordinal, x.tx_hash, x.block_number::bigint, x.transaction_index::integer,
       CASE x.status WHEN 'pending' THEN 0 WHEN 'confirmed' THEN 1 ELSE 2 END, x.value::numeric
  FROM unnest($1::integer[], $2::text[], $3::text[], $4::timestamptz[]) AS s (ordinal, sender, receiver, at)
  JOIN arx.transactions AS x
    ON x.from_address = s.sender AND x.network = $5 AND x.\"timestamp\" = s.at AND x.to_address IS NOT DISTINCT FROM s.receiver
 ORDER BY s.ordinal, x.tx_hash", &[Integer, Text, Long, Integer, Integer, Numeric]) };

    static TOKEN_HASHES: PreparedQuery = const { PreparedQuery::new(c"
SELECT s.ordinal, x.tx_hash, x.block_number::bigint, x.log_index::integer, 1, x.amount::numeric, x.token_address
  FROM unnest($1::integer[], $2::text[], $3::text[], $4::timestamptz[]) AS s (ordinal, sender, receiver, at)
  JOIN arx.token_transfers AS x
    ON x.from_address = s.sender AND x.network = $5 AND x.\"timestamp\" = s.at AND x.to_address = s.receiver
 ORDER BY s.ordinal, x.tx_hash, x.log_index", &[Integer, Text, Long, Integer, Integer, Numeric, Text]) };
}

/// Returns the hash of the transaction of each transfer; `None` where the table has it no more.
/// Transfers with equal keys get different hashes as long as there are any.
pub(crate) fn transfer_hashes(network: &Network, keys: &[TransferKey]) -> Result<Vec<Option<String>>, SqlError> {
    let mut hashes = vec![None; keys.len()];
    for (keys, hashes) in keys.chunks(BATCH).zip(hashes.chunks_mut(BATCH)) {
        for (query, native) in [(&NATIVE_HASHES, true), (&TOKEN_HASHES, false)] {
            if keys.iter().any(|key| key.token.is_none() == native) {
                with_memory_context(|| query.with(|query| look_up(query, native, network, keys, hashes)))?;
            }
        }
    }
    Ok(hashes)
}

fn look_up(
    query: &PreparedQuery,
    native: bool,
    network: &Network,
    keys: &[TransferKey],
    hashes: &mut [Option<String>],
) -> Result<(), SqlError> {
    // Transfers between two wallets at one time are looked up together.
    let mut moments: HashMap<(&str, Option<&str>, i64), Vec<usize>> = HashMap::new();
    for (index, key) in keys.iter().enumerate().filter(|(_, key)| key.token.is_none() == native) {
        moments.entry((&key.from, key.to.as_deref(), key.time)).or_default().push(index);
    }
    let (mut firsts, mut senders, mut receivers, mut times) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for ((sender, receiver, time), of_moment) in &moments {
        // Indices are below BATCH.
        firsts.push(of_moment[0] as i32);
        senders.push(*sender);
        receivers.push(*receiver);
        times.push(from_micros(*time)?);
    }
    let arguments = [
        Argument::of(firsts),
        Argument::of(senders),
        Argument::of(receivers),
        Argument::of(times),
        Argument::of(network.name()),
    ];
    let by_first: HashMap<usize, &Vec<usize>> = moments.values().map(|indices| (indices[0], indices)).collect();
    query.stream(&arguments, |slot| {
        let row = HashRow::read(slot, native)?;
        let Some(indices) = by_first.get(&row.first) else { return Ok(()) };
        let open = indices.iter().find(|index| hashes[**index].is_none() && row.matches(&keys[**index]));
        if let Some(index) = open {
            hashes[*index] = Some(row.hash.to_owned());
        }
        Ok(())
    })
}

/// A row of a hash query.
struct HashRow<'a> {
    /// Index of the first key of its moment.
    first: usize,
    hash: &'a str,
    token: Option<&'a str>,
    value: U256,
    position: Position,
    failed: bool,
}

impl<'a> HashRow<'a> {
    fn read(slot: Slot<'a>, native: bool) -> Result<Self, SqlError> {
        let index = slot.integer(3)?.map(i32::cast_unsigned);
        let block = slot.long(2)?.cast_unsigned();
        Ok(Self {
            first: usize::try_from(slot.integer(0)?.unwrap_or_default()).unwrap_or_default(),
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

    fn matches(&self, key: &TransferKey) -> bool {
        self.value == key.value
            && self.position == key.position
            && self.token == key.token.as_deref()
            && self.failed == (key.status == Status::Failed)
    }
}
