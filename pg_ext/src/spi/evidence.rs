//! Hashes of the transactions behind transfers of the graph, which does not hold them.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};

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
#[derive(Debug, Clone)]
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
    /// Number in the graph; `None` for a row of a table. Distinguishes equal transfers.
    number: Option<u64>,
}

/// Contents of a key.
type Contents<'a> = (Option<&'a str>, Option<&'a str>, Option<&'a str>, i64, U256, Position, bool);

impl TransferKey {
    fn contents(&self) -> Contents<'_> {
        let failed = self.status == Status::Failed;
        let [from, to, token] = [&self.from, &self.to, &self.token].map(|text| text.as_deref());
        (from, to, token, self.time, self.value, self.position, failed)
    }
}

/// Keys are equal if their contents are.
impl PartialEq for TransferKey {
    fn eq(&self, other: &Self) -> bool {
        self.contents() == other.contents()
    }
}

impl Eq for TransferKey {}

impl Hash for TransferKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.contents().hash(state);
    }
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
            number: Some(transfer.number),
        })
    }
}

impl From<&TransferRow<'_>> for TransferKey {
    fn from(row: &TransferRow<'_>) -> Self {
        let TransferRow { from, to, token, time, value, position, status, .. } = *row;
        let [from, to, token] = [from, to, token].map(|text| text.map(str::to_owned));
        Self { from, to, token, time, value, position, status, number: None }
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
SELECT l.ordinal, l.tx_hash, coalesce(l.block_number, 9223372036854775807)::bigint, l.transaction_index::integer,
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
/// Equal transfers get different hashes as long as there are any.
pub(crate) fn transfer_hashes(network: &Network, keys: &[TransferKey]) -> Result<Vec<Option<String>>, SqlError> {
    TransferHashes::new(network).of(keys)
}

/// Hashes of the transactions behind transfers. Of several equal transfers, each keeps its own.
pub(crate) struct TransferHashes {
    network: Network,
    /// Hashes by number, of transfers that have equals.
    named: HashMap<u64, String>,
    /// Hashes that equal transfers have.
    taken: HashMap<TransferKey, Vec<String>>,
}

impl TransferHashes {
    pub(crate) fn new(network: &Network) -> Self {
        Self { network: network.clone(), named: HashMap::new(), taken: HashMap::new() }
    }

    /// Names the transaction of a transfer.
    pub(crate) fn reserve(&mut self, key: &TransferKey, hash: &str) {
        if let Some(number) = key.number {
            self.named.insert(number, hash.to_owned());
            self.taken.entry(key.clone()).or_default().push(hash.to_owned());
        }
    }

    /// Returns the hash of the transaction of each transfer; `None` where the table has it no more.
    pub(crate) fn of(&mut self, keys: &[TransferKey]) -> Result<Vec<Option<String>>, SqlError> {
        // A transfer may be listed several times.
        let mut hashes = vec![None; keys.len()];
        let mut firsts: HashMap<u64, usize> = HashMap::new();
        let mut groups: HashMap<&TransferKey, Vec<usize>> = HashMap::new();
        for (index, key) in keys.iter().enumerate() {
            if let Some(hash) = key.number.and_then(|number| self.named.get(&number)) {
                hashes[index] = Some(hash.clone());
            } else if key.number.is_none_or(|number| *firsts.entry(number).or_insert(index) == index) {
                groups.entry(key).or_default().push(index);
            }
        }
        let mut groups: Vec<(&TransferKey, Vec<usize>)> = groups.into_iter().collect();
        groups.iter_mut().for_each(|(_, indices)| indices.sort_by_key(|index| keys[*index].number));
        for groups in groups.chunks(BATCH) {
            let candidates = self.candidates(groups)?;
            for ((key, indices), candidates) in groups.iter().zip(candidates) {
                let have_equals = candidates.len() > 1;
                let mut free = self.free(key, candidates).into_iter();
                for index in indices {
                    let Some(hash) = free.next() else { break };
                    if let Some(number) = keys[*index].number.filter(|_| have_equals) {
                        self.named.insert(number, hash.clone());
                        self.taken.entry((*key).clone()).or_default().push(hash.clone());
                    }
                    hashes[*index] = Some(hash);
                }
            }
        }
        for (index, key) in keys.iter().enumerate().filter(|(_, key)| key.number.is_some()) {
            if let Some(first) = key.number.and_then(|number| firsts.get(&number)).filter(|first| **first != index) {
                hashes[index] = hashes[*first].clone();
            }
        }
        Ok(hashes)
    }

    /// Returns those of the hashes of equal transfers that none of them has.
    fn free(&self, key: &TransferKey, mut candidates: Vec<String>) -> Vec<String> {
        for taken in self.taken.get(key).into_iter().flatten() {
            if let Some(index) = candidates.iter().position(|candidate| candidate == taken) {
                candidates.remove(index);
            }
        }
        candidates
    }

    /// Returns the hashes of all rows with the contents of each group, in a fixed order.
    fn candidates(&self, groups: &[(&TransferKey, Vec<usize>)]) -> Result<Vec<Vec<String>>, SqlError> {
        let mut candidates = vec![Vec::new(); groups.len()];
        let sources = [
            (&NATIVE_HASHES, Table::Transactions),
            (&INTERNAL_HASHES, Table::InternalTransfers),
            (&TOKEN_HASHES, Table::TokenTransfers),
        ];
        for (query, table) in sources {
            let is_native = table != Table::TokenTransfers;
            let wanted = |(key, indices): &(&TransferKey, Vec<usize>), found: &Vec<String>| {
                let taken = self.taken.get(*key).map_or(0, Vec::len);
                key.token.is_none() == is_native && found.len() < indices.len() + taken
            };
            let wanted: Vec<usize> =
                (0..groups.len()).filter(|index| wanted(&groups[*index], &candidates[*index])).collect();
            if !wanted.is_empty() {
                let keys: Vec<(usize, &TransferKey)> =
                    wanted.into_iter().map(|index| (index, groups[index].0)).collect();
                with_memory_context(|| {
                    query.with(|query| look_up(query, table, &self.network, &keys, &mut candidates))
                })?;
            }
        }
        Ok(candidates)
    }
}

/// Sender, receiver and time of transfers.
type Moment<'a> = (Option<&'a str>, Option<&'a str>, i64);

/// Adds the hashes of a table's rows to the candidates of each key.
fn look_up(
    query: &PreparedQuery,
    table: Table,
    network: &Network,
    keys: &[(usize, &TransferKey)],
    candidates: &mut [Vec<String>],
) -> Result<(), SqlError> {
    // Transfers between two wallets at one time are looked up together.
    let mut moments: HashMap<Moment<'_>, Vec<usize>> = HashMap::new();
    for (place, (_, key)) in keys.iter().enumerate() {
        moments.entry((key.from.as_deref(), key.to.as_deref(), key.time)).or_default().push(place);
    }
    let (mut firsts, mut senders, mut receivers, mut times) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for ((sender, receiver, time), of_moment) in &moments {
        // Places are below BATCH.
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
    let by_first: HashMap<usize, &Vec<usize>> = moments.values().map(|places| (places[0], places)).collect();
    query.stream(&arguments, |slot| {
        let row = HashRow::read(slot, table)?;
        let Some(places) = by_first.get(&row.first) else { return Ok(()) };
        if let Some(place) = places.iter().find(|place| row.matches(keys[**place].1)) {
            candidates[keys[*place].0].push(row.hash.to_owned());
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
