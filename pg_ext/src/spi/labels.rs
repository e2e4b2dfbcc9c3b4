//! Labels in force, and the words of the label tables.

use arx_core::address::Network;
use arx_core::graph::exposure::PartyLabel;
use arx_core::label::{LabelKind, Severity};

use super::stream::ColumnType::{Integer, Text};
use super::stream::{Argument, PreparedQuery, Slot, with_memory_context};
use crate::error::SqlError;

/// Addresses looked up at a time.
const BATCH: usize = 5_000;

/// Heaviest label of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WalletLabel {
    pub(crate) category: String,
    pub(crate) kind: LabelKind,
    pub(crate) severity: Severity,
    /// Empty if the source gives no text.
    pub(crate) label: String,
    /// Category that makes the address a custodian of others' funds, also when another label is
    /// heavier: a sanctioned mixer is still a mixer. Only [`labels_of`] reads it.
    pub(crate) custody: Option<String>,
}

impl WalletLabel {
    pub(crate) fn party(&self) -> PartyLabel<'_> {
        PartyLabel { category: &self.category, kind: self.kind, severity: self.severity }
    }
}

thread_local! {
    // The row of current_labels. Queries read the tables: the view may belong to another role.
    static OF_ADDRESSES: PreparedQuery = const { PreparedQuery::new(c"
SELECT s.ordinal, l.category, l.kind, l.severity::text, l.label,
       (SELECT a.category
          FROM arx.address_labels AS a JOIN arx.label_categories AS k USING (category)
         WHERE a.address = s.address AND a.network = $3 AND k.kind = 'service' AND a.valid_from <= now() AND a.valid_to > now()
         ORDER BY k.severity DESC, a.category LIMIT 1)
  FROM unnest($1::integer[], $2::text[]) AS s (ordinal, address)
 CROSS JOIN LATERAL (
        SELECT l.category, c.kind, l.severity, l.label
          FROM arx.address_labels AS l
          JOIN arx.label_categories AS c USING (category)
         WHERE l.address = s.address AND l.network = $3 AND l.valid_from <= now() AND l.valid_to > now()
         ORDER BY arx.label_rank(l.category, c.kind, l.severity::text, l.confidence), l.source, l.label_id
         LIMIT 1) AS l",
        &[Integer, Text, Text, Text, Text, Text]) };
}

thread_local! {
    static CATEGORIES: PreparedQuery = const { PreparedQuery::with_any_plan(c"
SELECT c.category, c.kind FROM arx.label_categories AS c ORDER BY c.category", &[Text, Text]) };

    static CATEGORIES_OF: PreparedQuery = const { PreparedQuery::new(c"
SELECT s.ordinal, l.category
  FROM unnest($1::integer[], $2::text[]) AS s (ordinal, address)
  JOIN arx.address_labels AS l
    ON l.address = s.address AND l.network = $3 AND l.valid_from <= now() AND l.valid_to > now()
  JOIN arx.label_categories AS c USING (category)
 ORDER BY s.ordinal, arx.label_rank(l.category, c.kind, l.severity::text, l.confidence), l.source, l.label_id", &[Integer, Text]) };

    static WITH_CATEGORIES: PreparedQuery = const { PreparedQuery::with_any_plan(c"
SELECT DISTINCT l.address
  FROM arx.address_labels AS l
 WHERE l.network = $1 AND l.category = ANY ($2) AND l.valid_from <= now() AND l.valid_to > now()
 ORDER BY l.address", &[Text]) };
}

/// Returns every category with its kind.
pub(crate) fn label_categories() -> Result<Vec<(String, LabelKind)>, SqlError> {
    let mut categories = Vec::new();
    CATEGORIES.with(|query| {
        query.stream(&[], |slot| {
            categories.push((slot.text(0)?.to_owned(), label_kind(slot.text(1)?)?));
            Ok(())
        })
    })?;
    Ok(categories)
}

/// Calls `each` with the index of every labelled address and each of its categories, the heaviest
/// first.
pub(crate) fn categories_of(
    network: &Network,
    addresses: &[&str],
    mut each: impl FnMut(usize, &str) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    for (number, batch) in addresses.chunks(BATCH).enumerate() {
        // The arguments of a batch are freed with it.
        with_memory_context(|| {
            // Indices are below BATCH.
            let indices: Vec<i32> = (0..batch.len() as i32).collect();
            let arguments = [Argument::of(indices), Argument::of(batch.to_vec()), Argument::of(network.name())];
            CATEGORIES_OF.with(|query| {
                query.stream(&arguments, |slot| {
                    let index = usize::try_from(slot.integer(0)?.unwrap_or_default()).unwrap_or_default();
                    each(number * BATCH + index, slot.text(1)?)
                })
            })
        })?;
    }
    Ok(())
}

/// Calls `each` with the address of every wallet that has a label of one of the categories.
pub(crate) fn with_categories(
    network: &Network,
    categories: &[&str],
    mut each: impl FnMut(&str) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    let arguments = [Argument::of(network.name()), Argument::of(categories.to_vec())];
    WITH_CATEGORIES.with(|query| query.stream(&arguments, |slot| each(slot.text(0)?)))
}

/// Parses a kind of `label_categories`.
pub(crate) fn label_kind(text: &str) -> Result<LabelKind, SqlError> {
    text.parse().map_err(|_| SqlError::corrupt(format!("label kind \"{text}\" is unknown")))
}

/// Parses a `label_severity_enum`.
pub(crate) fn label_severity(text: &str) -> Result<Severity, SqlError> {
    text.parse().map_err(|_| SqlError::corrupt(format!("label severity \"{text}\" is unknown")))
}

fn wallet_label(slot: Slot<'_>, custody: Option<&str>) -> Result<WalletLabel, SqlError> {
    Ok(WalletLabel {
        custody: custody.map(str::to_owned),
        category: slot.text(1)?.to_owned(),
        kind: label_kind(slot.text(2)?)?,
        severity: label_severity(slot.text(3)?)?,
        label: slot.text(4)?.to_owned(),
    })
}

/// Calls `each` with the index and label of every labelled address.
pub(crate) fn labels_of(
    network: &Network,
    addresses: &[&str],
    mut each: impl FnMut(usize, WalletLabel) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    for (number, batch) in addresses.chunks(BATCH).enumerate() {
        // The arguments of a batch are freed with it.
        with_memory_context(|| {
            // Indices are below BATCH.
            let indices: Vec<i32> = (0..batch.len() as i32).collect();
            let arguments = [Argument::of(indices), Argument::of(batch.to_vec()), Argument::of(network.name())];
            OF_ADDRESSES.with(|query| {
                query.stream(&arguments, |slot| {
                    let index = usize::try_from(slot.integer(0)?.unwrap_or_default()).unwrap_or_default();
                    each(number * BATCH + index, wallet_label(slot, slot.optional_text(5)?)?)
                })
            })
        })?;
    }
    Ok(())
}
