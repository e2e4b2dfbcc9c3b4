//! Hashes of the transactions behind transfers of the graph, which does not hold them.

use std::collections::HashMap;

use arx_core::address::Network;
use arx_core::amount::COIN_SCALE;
use arx_core::graph::{AssetId, Damaged, Graph, Position, Status, Transfer, TransferRow, U256, WalletId};

use super::graph::Table;
use super::stream::ColumnType::{Integer, Long, Numeric, Text};
use super::stream::{Argument, PreparedQuery, Slot, with_memory_context};
use crate::error::SqlError;
use crate::time::from_micros;

/// Transfers looked up at a time.
const BATCH: usize = 5_000;

/// Identifies a transfer by its contents, as the tables have them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TransferKey {
    /// `None` for a reward.
    pub(crate) from: Option<String>,
    /// `None` for the creation of a contract, or a burn.
    pub(crate) to: Option<String>,
    /// `None` for the native coin.
    pub(crate) token: Option<String>,
    pub(crate) time: i64,
    pub(crate) value: U256,
    pub(crate) position: Position,
    pub(crate) status: Status,
}

impl TransferKey {
    /// Returns the key of a transfer as seen from its sender.
    pub(crate) fn sent(graph: &Graph<'_>, from: Option<WalletId>, transfer: &Transfer) -> Result<Self, Damaged> {
        let native = transfer.asset == AssetId::NATIVE;
        Ok(Self {
            from: from.map(|from| graph.address(from)).transpose()?.map(str::to_owned),
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
        let [from, to, token] = [from, to, token].map(|text| text.map(str::to_owned));
        Self { from, to, token, time, value, position, status }
    }
}

thread_local! {
    static NATIVE_HASHES: PreparedQuery = const { PreparedQuery::new(c"
SELECT s.ordinal, x.tx_hash, x.block_number::bigint, x.transaction_index::integer,
       CASE x.status WHEN 'pending' THEN 0 WHEN 'confirmed' THEN 1 WHEN 'unknown' THEN 3 ELSE 2 END, x.value::numeric
  FROM unnest($1::integer[], $2::text[], $3::text[], $4::timestamptz[]) AS s (ordinal, sender, receiver, at)
  JOIN arx.transactions AS x
    ON x.from_address = s.sender AND x.network = $5 AND x.\"timestamp\" = s.at AND x.to_address IS NOT DISTINCT FROM s.receiver
 ORDER BY s.ordinal, x.tx_hash", &[Integer, Text, Long, Integer, Integer, Numeric]) };

    static INTERNAL_HASHES: PreparedQuery = const { PreparedQuery::new(c"
SELECT l.ordinal, l.tx_hash, coalesce(l.block_number, 0)::bigint, l.transaction_index::integer,
       CASE l.succeeded WHEN true THEN 1 WHEN false THEN 2 ELSE 3 END, l.value::numeric,
       CASE WHEN l.is_ordered THEN l.position::integer END
  FROM (
    SELECT s.ordinal, x.*
      FROM unnest($1::integer[], $2::text[], $3::text[], $4::timestamptz[]) AS s (ordinal, sender, receiver, at)
      JOIN arx.internal_transfers AS x
        ON x.from_address = s.sender AND x.network = $5 AND x.\"timestamp\" = s.at
           AND x.to_address IS NOT DISTINCT FROM s.receiver
    UNION ALL
    SELECT s.ordinal, x.*
      FROM unnest($1::integer[], $2::text[], $3::text[], $4::timestamptz[]) AS s (ordinal, sender, receiver, at)
      JOIN arx.internal_transfers AS x
        ON s.sender IS NULL AND x.from_address IS NULL AND x.network = $5 AND x.\"timestamp\" = s.at
           AND x.to_address = s.receiver) AS l
 ORDER BY l.ordinal, l.tx_hash, l.position", &[Integer, Text, Long, Integer, Integer, Numeric, Integer]) };

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
        let sources = [
            (&NATIVE_HASHES, Table::Transactions),
            (&INTERNAL_HASHES, Table::InternalTransfers),
            (&TOKEN_HASHES, Table::TokenTransfers),
        ];
        for (query, table) in sources {
            let is_native = table != Table::TokenTransfers;
            if keys.iter().zip(&*hashes).any(|(key, hash)| hash.is_none() && key.token.is_none() == is_native) {
                with_memory_context(|| query.with(|query| look_up(query, table, network, keys, hashes)))?;
            }
        }
    }
    Ok(hashes)
}

/// Sender, receiver and time of transfers.
type Moment<'a> = (Option<&'a str>, Option<&'a str>, i64);

fn look_up(
    query: &PreparedQuery,
    table: Table,
    network: &Network,
    keys: &[TransferKey],
    hashes: &mut [Option<String>],
) -> Result<(), SqlError> {
    // Transfers between two wallets at one time are looked up together.
    let mut moments: HashMap<Moment<'_>, Vec<usize>> = HashMap::new();
    let is_native = table != Table::TokenTransfers;
    let wanted = |index: usize, key: &TransferKey| hashes[index].is_none() && key.token.is_none() == is_native;
    for (index, key) in keys.iter().enumerate().filter(|(index, key)| wanted(*index, key)) {
        moments.entry((key.from.as_deref(), key.to.as_deref(), key.time)).or_default().push(index);
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
        let row = HashRow::read(slot, table)?;
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
    fn read(slot: Slot<'a>, table: Table) -> Result<Self, SqlError> {
        let index = slot.integer(3)?.map(i32::cast_unsigned);
        let block = slot.long(2)?.cast_unsigned();
        let (transaction_index, log_index) = match table {
            Table::Transactions => (index, None),
            Table::InternalTransfers => (index, slot.integer(6)?.map(i32::cast_unsigned)),
            Table::TokenTransfers => (None, index),
        };
        let is_token = table == Table::TokenTransfers;
        Ok(Self {
            first: usize::try_from(slot.integer(0)?.unwrap_or_default()).unwrap_or_default(),
            hash: slot.text(1)?,
            token: if is_token { Some(slot.text(6)?) } else { None },
            value: slot.amount(5, if is_token { 0 } else { COIN_SCALE })?,
            position: Position { block, transaction_index, log_index },
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
