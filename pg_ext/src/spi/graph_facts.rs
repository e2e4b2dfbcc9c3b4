//! Facts that the graph does not hold: hashes of transactions, labels and scores of wallets.

use std::cmp::Reverse;
use std::collections::HashMap;

use arx_core::address::Network;
use arx_core::graph::dot::Description;
use pgrx::prelude::*;

use super::graph::Table;
use super::keyed_rows::{Columns, OpenTable, PartitionAt};
use super::labels::label_kind;
use super::stream::ColumnType::{Enum, Integer, Long, Text, Time};
use super::stream::{Argument, Layout, PreparedQuery, with_memory_context};
use crate::error::SqlError;
use crate::snapshot::relation;
use crate::time::from_micros;

/// A step between two wallets, with the times of its transfers.
pub(crate) struct StepTimes {
    pub(crate) from: String,
    pub(crate) to: String,
    /// Times in order, each with the number of its transfers.
    pub(crate) times: Vec<(i64, usize)>,
}

/// Tables and conditions that select transactions.
pub(crate) struct TransactionSources<'a> {
    pub(crate) native: bool,
    pub(crate) tokens: bool,
    /// Restricts tokens to one.
    pub(crate) token: Option<&'a str>,
    pub(crate) min_value: Option<AnyNumeric>,
    pub(crate) include_failed: bool,
}

/// Times at most this far apart, in microseconds, are looked up together: a query opens all
/// partitions between its first and its last time, and to open one that is not needed takes about
/// half as long as another query.
const LARGEST_GAP: i64 = 45 * 86_400 * 1_000_000;

/// Columns of a transaction of a step: the step, time, block, position in the block or its log, and
/// hash. What is unknown is -1.
const FOUND: Layout = &[Integer, Time, Long, Integer, Text];

// A query for each table: those of a UNION ALL would open every partition. OFFSET keeps each step a
// search of its own, by the partition of its time.
thread_local! {
    static TRANSACTIONS: PreparedQuery = const { PreparedQuery::new(c"
SELECT s.ordinal, s.at, t.block_number, t.position, t.tx_hash
  FROM unnest($1::integer[], $2::text[], $3::text[], $4::timestamptz[]) AS s (ordinal, sender, receiver, at)
 CROSS JOIN LATERAL (
    SELECT x.tx_hash, coalesce(x.block_number, -1)::bigint AS block_number,
           coalesce(x.transaction_index, -1)::integer AS position
      FROM arx.transactions AS x
     WHERE x.from_address = s.sender AND x.network = $5 AND x.\"timestamp\" = s.at AND x.to_address = s.receiver
       AND x.\"timestamp\" BETWEEN $8 AND $9
       AND ($6::numeric IS NULL OR x.value >= $6) AND ($7::boolean OR x.status <> 'failed') OFFSET 0) AS t",
        FOUND) };

    static INTERNAL_TRANSFERS: PreparedQuery = const { PreparedQuery::new(c"
SELECT s.ordinal, s.at, t.block_number, t.position, t.tx_hash
  FROM unnest($1::integer[], $2::text[], $3::text[], $4::timestamptz[]) AS s (ordinal, sender, receiver, at)
 CROSS JOIN LATERAL (
    SELECT x.tx_hash, coalesce(x.block_number, -1)::bigint AS block_number,
           coalesce(x.transaction_index, -1)::integer AS position
      FROM arx.internal_transfers AS x
     WHERE x.from_address = s.sender AND x.network = $5 AND x.\"timestamp\" = s.at AND x.to_address = s.receiver
       AND x.\"timestamp\" BETWEEN $8 AND $9
       AND ($6::numeric IS NULL OR x.value >= $6) AND ($7::boolean OR x.succeeded IS NOT FALSE) OFFSET 0) AS t",
        FOUND) };

    static TOKEN_TRANSFERS: PreparedQuery = const { PreparedQuery::new(c"
SELECT s.ordinal, s.at, t.block_number, t.position, t.tx_hash
  FROM unnest($1::integer[], $2::text[], $3::text[], $4::timestamptz[]) AS s (ordinal, sender, receiver, at)
 CROSS JOIN LATERAL (
    SELECT x.tx_hash, coalesce(x.block_number, -1)::bigint AS block_number, x.log_index::integer AS position
      FROM arx.token_transfers AS x
     WHERE x.from_address = s.sender AND x.network = $5 AND x.\"timestamp\" = s.at AND x.to_address = s.receiver
       AND x.\"timestamp\" BETWEEN $8 AND $9
       AND ($6::numeric IS NULL OR x.amount >= $6) AND ($7::text IS NULL OR x.token_address = $7) OFFSET 0) AS t",
        FOUND) };

    // The row of current_labels.
    static DESCRIPTIONS: PreparedQuery = const { PreparedQuery::new(c"
SELECT s.address, nullif(l.label, ''), l.category, l.kind, round(p.risk_score)::integer
  FROM unnest($1::integer[], $2::text[]) AS s (ordinal, address)
  LEFT JOIN LATERAL (
        SELECT l.label, l.category, c.kind
          FROM arx.address_labels AS l
          JOIN arx.label_categories AS c USING (category)
         WHERE l.address = s.address AND l.network = $3 AND l.valid_from <= now() AND l.valid_to > now()
         ORDER BY arx.label_rank(l.category, c.kind, l.severity::text, l.confidence), l.source, l.label_id
         LIMIT 1) AS l ON true
  LEFT JOIN arx.wallet_profiles AS p
    ON p.wallet_address = s.address AND p.network_type = $3 AND p.risk_state <> 'unknown'
 ORDER BY s.ordinal", &[Text, Text, Text, Text, Integer]) };
}

/// Wallets described at a time.
const BATCH: usize = 5_000;

/// Returns the hashes of the transactions of each step: the latest first, each once, native coins
/// before tokens.
pub(crate) fn step_transactions(
    network: &Network,
    steps: &[StepTimes],
    sources: &TransactionSources<'_>,
) -> Result<Vec<Vec<String>>, SqlError> {
    let times = (0..).zip(steps).flat_map(|(step, of)| of.times.iter().map(move |at| (step, of, *at)));
    let mut times: Vec<StepTime<'_>> =
        times.map(|(step, of, (time, transfers))| StepTime { step, of, time, transfers }).collect();
    times.sort_by_key(|at| at.time);
    let parts: Vec<&[StepTime<'_>]> =
        times.chunk_by(|one, next| next.time.saturating_sub(one.time) <= LARGEST_GAP).collect();
    let mut found = Vec::new();
    for part in parts.iter().filter(|_| sources.native) {
        let before = found.len();
        if is_found_by_index(network, part, sources, &mut found)? {
            continue;
        }
        found.truncate(before);
        let arguments = arguments(network, part, sources, Argument::of(sources.include_failed))?;
        TRANSACTIONS.with(|query| find(query, &arguments, &mut found))?;
        // The graph has a transfer for each transaction, and for each internal transfer.
        if !are_all_found(part, found.get(before..).unwrap_or_default()) {
            INTERNAL_TRANSFERS.with(|query| find(query, &arguments, &mut found))?;
        }
    }
    let mut hashes: Vec<Vec<String>> = steps.iter().map(|_| Vec::new()).collect();
    add_hashes(std::mem::take(&mut found), &mut hashes);
    for part in parts.iter().filter(|_| sources.tokens) {
        let arguments = arguments(network, part, sources, Argument::of(sources.token))?;
        TOKEN_TRANSFERS.with(|query| find(query, &arguments, &mut found))?;
    }
    add_hashes(found, &mut hashes);
    Ok(hashes)
}

/// A time of a step, with the number of its transfers.
struct StepTime<'a> {
    step: i32,
    of: &'a StepTimes,
    time: i64,
    transfers: usize,
}

/// Columns by which an index finds the transactions of a step, and those that are read.
const KEYS: Columns = Columns { names: &[c"from_address", c"network", c"timestamp"], types: &[Text, Text, Time] };
const READ: Columns = Columns {
    names: &[c"to_address", c"block_number", c"transaction_index", c"tx_hash", c"status"],
    types: &[Text, Long, Integer, Text, Enum],
};

/// Times of a part that are looked up without a query, at some 5 µs each.
const FEW_TIMES: usize = 16;

/// Does what [`TRANSACTIONS`] does, without a query. Returns false unless that has found as many
/// transactions as the graph has transfers. No more can be in the partitions of their times: others
/// are not searched, and if these are not the ones, fewer are found.
fn is_found_by_index(
    network: &Network,
    part: &[StepTime<'_>],
    sources: &TransactionSources<'_>,
    found: &mut Vec<FoundTransaction>,
) -> Result<bool, SqlError> {
    if part.len() > FEW_TIMES || sources.min_value.is_some() {
        return Ok(false);
    }
    let before = found.len();
    let root = relation(Table::Transactions.bare_name());
    for at in part {
        let Some(root) = OpenTable::open(root) else { return Ok(false) };
        let PartitionAt::Table(table) = root.partition_at(c"timestamp", at.time) else { return Ok(false) };
        let keys = [at.of.from.as_str().into_datum(), network.name().into_datum(), Some(pg_sys::Datum::from(at.time))];
        let Some(keys) = keys.into_iter().collect::<Option<Vec<_>>>() else { return Ok(false) };
        let was_read = table.rows_with(KEYS, &keys, READ, |slot| {
            let is_counted = sources.include_failed || slot.label(4)?.to_bytes() != b"failed";
            if is_counted && slot.optional_text(0)? == Some(at.of.to.as_str()) {
                let latest = (at.time, slot.optional_long(1)?.unwrap_or(-1), slot.integer(2)?.unwrap_or(-1));
                found.push((at.step, Reverse(latest), slot.text(3)?.to_owned()));
            }
            Ok(())
        })?;
        if !was_read {
            return Ok(false);
        }
    }
    Ok(are_all_found(part, found.get(before..).unwrap_or_default()))
}

/// Returns true if every time of every step has as many transactions as the graph has transfers.
fn are_all_found(part: &[StepTime<'_>], found: &[FoundTransaction]) -> bool {
    let mut left: HashMap<(i32, i64), usize> = part.iter().map(|at| ((at.step, at.time), at.transfers)).collect();
    for (step, Reverse((time, ..)), _) in found {
        if let Some(transfers) = left.get_mut(&(*step, *time)) {
            *transfers = transfers.saturating_sub(1);
        }
    }
    left.values().all(|transfers| *transfers == 0)
}

fn arguments(
    network: &Network,
    part: &[StepTime<'_>],
    sources: &TransactionSources<'_>,
    last: Argument,
) -> Result<[Argument; 9], SqlError> {
    let times = part.iter().map(|at| from_micros(at.time)).collect::<Result<Vec<_>, _>>()?;
    Ok([
        Argument::of(part.iter().map(|at| at.step).collect::<Vec<_>>()),
        Argument::of(part.iter().map(|at| at.of.from.as_str()).collect::<Vec<_>>()),
        Argument::of(part.iter().map(|at| at.of.to.as_str()).collect::<Vec<_>>()),
        Argument::of(times),
        Argument::of(network.name()),
        Argument::of(sources.min_value.clone()),
        last,
        Argument::time(part.first().map(|at| at.time).unwrap_or_default()),
        Argument::time(part.last().map(|at| at.time).unwrap_or_default()),
    ])
}

/// A transaction of a step: the step, then what orders its transactions, latest first.
type FoundTransaction = (i32, Reverse<(i64, i64, i32)>, String);

fn find(query: &PreparedQuery, arguments: &[Argument], found: &mut Vec<FoundTransaction>) -> Result<(), SqlError> {
    query.stream(arguments, |slot| {
        let latest = (slot.long(1)?, slot.long(2)?, slot.integer(3)?.unwrap_or(-1));
        found.push((slot.integer(0)?.unwrap_or_default(), Reverse(latest), slot.text(4)?.to_owned()));
        Ok(())
    })
}

/// Adds the hashes of transactions to those of their steps, each once.
fn add_hashes(mut found: Vec<FoundTransaction>, hashes: &mut [Vec<String>]) {
    found.sort_unstable();
    for (index, _, hash) in found {
        let of_step = usize::try_from(index).ok().and_then(|index| hashes.get_mut(index));
        if let Some(of_step) = of_step.filter(|hashes| !hashes.contains(&hash)) {
            of_step.push(hash);
        }
    }
}

/// Returns the label and score of each wallet, in the order given.
pub(crate) fn describe_wallets(network: &Network, addresses: &[String]) -> Result<Vec<Description>, SqlError> {
    let mut descriptions = Vec::with_capacity(addresses.len());
    for batch in addresses.chunks(BATCH) {
        // The arguments of a batch are freed with it.
        with_memory_context(|| {
            // Indices are below BATCH.
            let indices: Vec<i32> = (0..batch.len() as i32).collect();
            let arguments = [Argument::of(indices), Argument::of(batch.to_vec()), Argument::of(network.name())];
            DESCRIPTIONS.with(|query| {
                query.stream(&arguments, |slot| {
                    check_for_interrupts!();
                    let owned = |text: Option<&str>| text.map(str::to_owned);
                    descriptions.push(Description {
                        address: slot.text(0)?.to_owned(),
                        label: owned(slot.optional_text(1)?),
                        category: owned(slot.optional_text(2)?),
                        kind: slot.optional_text(3)?.map(label_kind).transpose()?,
                        risk: slot.integer(4)?.and_then(|risk| u8::try_from(risk).ok()),
                    });
                    Ok(())
                })
            })
        })?;
    }
    Ok(descriptions)
}
