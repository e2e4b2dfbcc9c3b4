//! Labels in force.

use arx_core::address::Network;
use arx_core::graph::exposure::PartyLabel;
use arx_core::label::{LabelKind, Severity};

use super::stream::{Argument, KeptQuery, Slot, in_memory_of_its_own};
use crate::convert;
use crate::error::SqlError;

/// Addresses asked about at a time.
const BATCH: usize = 5_000;

/// Heaviest label of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalletLabel {
    pub category: String,
    pub kind: LabelKind,
    pub severity: Severity,
    /// Empty if the source gives no text.
    pub label: String,
    /// Category that makes the address a custodian of others' funds, also when another label is
    /// heavier: a sanctioned mixer is still a mixer. Only [`labels_of`] reads it.
    pub custody: Option<String>,
}

impl WalletLabel {
    pub fn party(&self) -> PartyLabel<'_> {
        PartyLabel { category: &self.category, kind: self.kind, severity: self.severity }
    }
}

thread_local! {
    // LIMIT 1 is what the view gives anyway: it keeps the planner from sorting the labels of the whole network for a join
    static OF_ADDRESSES: KeptQuery = const { KeptQuery::new(c"
SELECT s.place, l.category, l.kind, l.severity::text, l.label,
       (SELECT a.category
          FROM arx.address_labels AS a JOIN arx.label_categories AS k USING (category)
         WHERE a.address = s.address AND a.network = $3 AND k.kind = 'service' AND a.valid_from <= now() AND a.valid_to > now()
         ORDER BY k.severity DESC, a.category LIMIT 1)
  FROM unnest($1::integer[], $2::text[]) AS s (place, address)
 CROSS JOIN LATERAL (SELECT c.category, c.kind, c.severity, c.label FROM arx.current_labels AS c
                      WHERE c.address = s.address AND c.network = $3 LIMIT 1) AS l") };

    // as current_labels has them, without sorting those that stop nothing
    static THAT_STOP: KeptQuery = const { KeptQuery::new(c"
SELECT s.address, s.category, s.kind, s.severity::text, s.label
  FROM (SELECT DISTINCT ON (l.address) l.address, l.category, c.kind, l.severity, l.label
          FROM arx.address_labels AS l
          JOIN arx.label_categories AS c USING (category)
         WHERE l.network = $1 AND c.kind IN ('illicit', 'service') AND l.valid_from <= now() AND l.valid_to > now()
         ORDER BY l.address, l.category <> 'sanctions', c.kind <> 'illicit', l.severity DESC, l.confidence DESC, l.source,
                  l.label_id) AS s
 ORDER BY s.category, s.address") };
}

fn wallet_label(slot: Slot<'_>, custody: Option<&str>) -> Result<WalletLabel, SqlError> {
    Ok(WalletLabel {
        custody: custody.map(str::to_owned),
        category: slot.text(1)?.to_owned(),
        kind: convert::label_kind(slot.text(2)?)?,
        severity: convert::severity(slot.text(3)?)?,
        label: slot.text(4)?.to_owned(),
    })
}

/// The labels of those addresses that have one, with their place among the addresses.
pub fn labels_of(
    network: &Network,
    addresses: &[&str],
    mut each: impl FnMut(usize, WalletLabel) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    for (number, batch) in addresses.chunks(BATCH).enumerate() {
        // what a batch is asked with goes with it
        in_memory_of_its_own(|| {
            // a batch has few places
            let places: Vec<i32> = (0..batch.len() as i32).collect();
            let arguments = [Argument::of(places), Argument::of(batch.to_vec()), Argument::of(network.name())];
            OF_ADDRESSES.with(|query| {
                query.stream(&arguments, |slot| {
                    let place = usize::try_from(slot.integer(0)?.unwrap_or_default()).unwrap_or_default();
                    each(number * BATCH + place, wallet_label(slot, slot.optional_text(5)?)?)
                })
            })
        })?;
    }
    Ok(())
}

/// Every illicit address and every service of a network.
pub fn labels_that_stop(
    network: &Network,
    mut each: impl FnMut(&str, WalletLabel) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    THAT_STOP.with(|query| {
        query.stream(&[Argument::of(network.name())], |slot| each(slot.text(0)?, wallet_label(slot, None)?))
    })
}
