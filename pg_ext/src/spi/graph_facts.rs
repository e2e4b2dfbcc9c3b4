//! Facts that the graph does not hold: hashes of transactions, labels and scores of wallets.

use arx_core::address::Network;
use arx_core::graph::dot::Description;
use pgrx::prelude::*;

use super::labels::label_kind;
use super::stream::ColumnType::{Integer, Text};
use super::stream::{Argument, PreparedQuery, with_memory_context};
use crate::error::SqlError;
use crate::time::from_micros;

/// A step between two wallets, with the times of its transfers.
pub(crate) struct StepTimes {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) times: Vec<i64>,
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

thread_local! {
    static NATIVE: PreparedQuery = const { PreparedQuery::new(c"
SELECT s.ordinal, t.tx_hash
  FROM unnest($1::integer[], $2::text[], $3::text[], $4::timestamptz[]) AS s (ordinal, sender, receiver, at)
 CROSS JOIN LATERAL (
    SELECT x.tx_hash, x.block_number, x.transaction_index
      FROM arx.transactions AS x
     WHERE x.from_address = s.sender AND x.network = $5 AND x.\"timestamp\" = s.at AND x.to_address = s.receiver
       AND ($6::numeric IS NULL OR x.value >= $6) AND ($7::boolean OR x.status <> 'failed')
    UNION ALL
    SELECT x.tx_hash, x.block_number, x.transaction_index
      FROM arx.internal_transfers AS x
     WHERE x.from_address = s.sender AND x.network = $5 AND x.\"timestamp\" = s.at AND x.to_address = s.receiver
       AND ($6::numeric IS NULL OR x.value >= $6) AND ($7::boolean OR x.succeeded IS NOT FALSE)) AS t
 ORDER BY s.ordinal, s.at DESC, t.block_number DESC NULLS LAST, t.transaction_index DESC NULLS LAST, t.tx_hash",
        &[Integer, Text]) };

    static TOKENS: PreparedQuery = const { PreparedQuery::new(c"
SELECT s.ordinal, t.tx_hash
  FROM unnest($1::integer[], $2::text[], $3::text[], $4::timestamptz[]) AS s (ordinal, sender, receiver, at)
 CROSS JOIN LATERAL (
    SELECT x.tx_hash, x.block_number, x.log_index
      FROM arx.token_transfers AS x
     WHERE x.from_address = s.sender AND x.network = $5 AND x.\"timestamp\" = s.at AND x.to_address = s.receiver
       AND ($6::numeric IS NULL OR x.amount >= $6) AND ($7::text IS NULL OR x.token_address = $7)) AS t
 ORDER BY s.ordinal, s.at DESC, t.block_number DESC, t.log_index DESC, t.tx_hash", &[Integer, Text]) };

    // The row of current_labels.
    static DESCRIPTIONS: PreparedQuery = const { PreparedQuery::new(c"
SELECT s.address, nullif(l.label, ''), l.category, l.kind, round(p.risk_score)::integer
  FROM unnest($1::integer[], $2::text[]) AS s (ordinal, address)
  LEFT JOIN LATERAL (
        SELECT l.label, l.category, c.kind
          FROM arx.address_labels AS l
          JOIN arx.label_categories AS c USING (category)
         WHERE l.address = s.address AND l.network = $3 AND l.valid_from <= now() AND l.valid_to > now()
        ORDER BY l.category <> 'sanctions', array_position(ARRAY['illicit', 'service', 'neutral'], c.kind),
                 l.severity DESC, l.confidence DESC, l.source, l.label_id
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
    let mut indices: Vec<i32> = Vec::new();
    let (mut senders, mut receivers, mut times) = (Vec::new(), Vec::new(), Vec::new());
    for (index, step) in (0..).zip(steps) {
        for time in &step.times {
            indices.push(index);
            senders.push(step.from.as_str());
            receivers.push(step.to.as_str());
            times.push(from_micros(*time)?);
        }
    }
    let mut hashes: Vec<Vec<String>> = steps.iter().map(|_| Vec::new()).collect();
    let arguments = |last: Argument| {
        [
            Argument::of(indices.clone()),
            Argument::of(senders.clone()),
            Argument::of(receivers.clone()),
            Argument::of(times.clone()),
            Argument::of(network.name()),
            Argument::of(sources.min_value.clone()),
            last,
        ]
    };
    let mut read = |query: &PreparedQuery, arguments: &[Argument]| {
        query.stream(arguments, |slot| {
            let (index, hash) = (slot.integer(0)?.unwrap_or_default(), slot.text(1)?);
            let of_step = usize::try_from(index).ok().and_then(|index| hashes.get_mut(index));
            if let Some(of_step) = of_step.filter(|hashes| !hashes.iter().any(|other| other == hash)) {
                of_step.push(hash.to_owned());
            }
            Ok(())
        })
    };
    if sources.native {
        NATIVE.with(|query| read(query, &arguments(Argument::of(sources.include_failed))))?;
    }
    if sources.tokens {
        TOKENS.with(|query| read(query, &arguments(Argument::of(sources.token))))?;
    }
    Ok(hashes)
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
