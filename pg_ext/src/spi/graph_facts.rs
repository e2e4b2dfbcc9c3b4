//! What the graph does not hold, about what was found in it: hashes of transactions, labels and scores of wallets.

use arx_core::address::Network;
use arx_core::graph::dot::Description;
use pgrx::prelude::*;

use super::stream::{Argument, KeptQuery};
use super::{Row, for_each_row};
use crate::convert;
use crate::error::SqlError;

/// A step between two wallets, and when its transfers were.
pub struct StepTimes {
    pub from: String,
    pub to: String,
    pub times: Vec<i64>,
}

/// Which transactions count.
pub struct TransactionSources<'a> {
    pub native: bool,
    pub tokens: bool,
    /// One token alone.
    pub token: Option<&'a str>,
    pub least: Option<AnyNumeric>,
    pub include_failed: bool,
}

thread_local! {
    static NATIVE: KeptQuery = const { KeptQuery::new(c"
SELECT s.place, t.tx_hash
  FROM unnest($1::integer[], $2::text[], $3::text[], $4::timestamptz[]) AS s (place, sender, receiver, at)
 CROSS JOIN LATERAL (
    SELECT x.tx_hash, x.block_number, x.transaction_index
      FROM arx.transactions AS x
     WHERE x.from_address = s.sender AND x.network = $5 AND x.\"timestamp\" = s.at AND x.to_address = s.receiver
       AND ($6::numeric IS NULL OR x.value >= $6) AND ($7::boolean OR x.status <> 'failed')) AS t
 ORDER BY s.place, s.at DESC, t.block_number DESC, t.transaction_index DESC NULLS LAST, t.tx_hash") };

    static TOKENS: KeptQuery = const { KeptQuery::new(c"
SELECT s.place, t.tx_hash
  FROM unnest($1::integer[], $2::text[], $3::text[], $4::timestamptz[]) AS s (place, sender, receiver, at)
 CROSS JOIN LATERAL (
    SELECT x.tx_hash, x.block_number, x.log_index
      FROM arx.token_transfers AS x
     WHERE x.from_address = s.sender AND x.network = $5 AND x.\"timestamp\" = s.at AND x.to_address = s.receiver
       AND ($6::numeric IS NULL OR x.amount >= $6) AND ($7::text IS NULL OR x.token_address = $7)) AS t
 ORDER BY s.place, s.at DESC, t.block_number DESC, t.log_index DESC, t.tx_hash") };
}

/// Of each step, the hashes of its transactions: latest first, each once, native coins before tokens.
pub fn step_transactions(
    network: &Network,
    steps: &[StepTimes],
    sources: &TransactionSources<'_>,
) -> Result<Vec<Vec<String>>, SqlError> {
    let mut places: Vec<i32> = Vec::new();
    let (mut senders, mut receivers, mut times) = (Vec::new(), Vec::new(), Vec::new());
    for (place, step) in (0..).zip(steps) {
        for time in &step.times {
            places.push(place);
            senders.push(step.from.as_str());
            receivers.push(step.to.as_str());
            times.push(TimestampWithTimeZone::try_from(*time).map_err(|_| SqlError::infinite_time())?);
        }
    }
    let mut hashes: Vec<Vec<String>> = steps.iter().map(|_| Vec::new()).collect();
    let arguments = |last: Argument| {
        [
            Argument::of(places.clone()),
            Argument::of(senders.clone()),
            Argument::of(receivers.clone()),
            Argument::of(times.clone()),
            Argument::of(network.name()),
            Argument::of(sources.least.clone()),
            last,
        ]
    };
    let mut read = |query: &KeptQuery, arguments: &[Argument]| {
        query.stream(arguments, |slot| {
            let (place, hash) = (slot.integer(0)?.unwrap_or_default(), slot.text(1)?);
            let of_step = usize::try_from(place).ok().and_then(|place| hashes.get_mut(place));
            if let Some(of_step) = of_step.filter(|known| !known.iter().any(|one| one == hash)) {
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

// LIMIT 1 is what the view gives anyway: it keeps the planner from sorting the labels of the whole network for a join.
const DESCRIPTIONS: &str = "
SELECT w.address, nullif(l.label, ''), l.category, l.kind, round(p.risk_score)::integer
  FROM unnest($1::text[]) WITH ORDINALITY AS w (address, place)
  LEFT JOIN LATERAL (SELECT c.label, c.category, c.kind FROM arx.current_labels AS c
                      WHERE c.address = w.address AND c.network = $2 LIMIT 1) AS l ON true
  LEFT JOIN arx.wallet_profiles AS p
    ON p.wallet_address = w.address AND p.network_type = $2 AND p.risk_state <> 'unknown'
 ORDER BY w.place";

/// What is known of each of some wallets, in their order.
pub fn describe_wallets(network: &Network, addresses: &[String]) -> Result<Vec<Description>, SqlError> {
    let mut known = Vec::with_capacity(addresses.len());
    for_each_row(DESCRIPTIONS, &[addresses.to_vec().into(), network.name().into()], |row: Row<'_, '_>| {
        let kind = row.optional::<String>(4)?;
        let risk = row.optional::<i32>(5)?;
        known.push(Description {
            address: row.required(1)?,
            label: row.optional(2)?,
            category: row.optional(3)?,
            kind: kind.map(|kind| convert::label_kind(&kind)).transpose()?,
            risk: risk.and_then(|risk| u8::try_from(risk).ok()),
        });
        Ok(())
    })?;
    Ok(known)
}
