//! Services, exclusions and labels that clustering takes into account, of one network.

use arx_core::address::Network;

use super::stream::ColumnType::{Integer, Text};
use super::stream::{Argument, PreparedQuery};
use crate::error::SqlError;

/// Two wallets that a user keeps in separate clusters.
#[derive(Debug, Clone)]
pub(crate) struct Exclusion {
    pub(crate) wallet_a: String,
    pub(crate) wallet_b: String,
    pub(crate) reason: String,
    pub(crate) created_by: String,
}

/// A label that other wallets of its cluster may inherit.
#[derive(Debug, Clone)]
pub(crate) struct ClusterLabel {
    pub(crate) address: String,
    pub(crate) category: String,
    pub(crate) kind: String,
    pub(crate) severity: String,
    pub(crate) label: String,
    /// In thousandths, up to 1,000.
    pub(crate) confidence: i32,
}

thread_local! {
    // An illicit service is still a service.
    static SERVICES: PreparedQuery = const { PreparedQuery::new(c"
SELECT l.address
  FROM arx.address_labels AS l
  JOIN arx.label_categories AS c USING (category)
 WHERE l.network = $1 AND c.kind = 'service' AND l.valid_from <= now() AND l.valid_to > now()", &[Text]) };

    static EXCLUSIONS: PreparedQuery = const { PreparedQuery::new(c"
SELECT e.wallet_a, e.wallet_b, e.reason, e.created_by
  FROM arx.cluster_exclusions AS e
 WHERE e.network = $1
 ORDER BY e.wallet_a, e.wallet_b", &[Text, Text, Text, Text]) };

    // The rows of current_labels.
    static LABELS: PreparedQuery = const { PreparedQuery::new(c"
SELECT l.address, l.category, l.kind, l.severity::text, l.label, (l.confidence * 1000)::integer
  FROM (SELECT DISTINCT ON (l.address) l.address, l.category, c.kind, l.severity, l.label, l.confidence
          FROM arx.address_labels AS l
          JOIN arx.label_categories AS c USING (category)
         WHERE l.network = $1 AND l.valid_from <= now() AND l.valid_to > now()
         ORDER BY l.address, arx.label_rank(l.category, c.kind, l.severity::text, l.confidence), l.source,
                  l.label_id) AS l
 WHERE l.kind <> 'service'
 ORDER BY l.category, l.address", &[Text, Text, Text, Text, Text, Integer]) };
}

/// Calls `each` with the address of every service, once for each of its labels.
pub(crate) fn services(network: &Network, mut each: impl FnMut(&str) -> Result<(), SqlError>) -> Result<(), SqlError> {
    SERVICES.with(|query| query.stream(&[Argument::of(network.name())], |slot| each(slot.text(0)?)))
}

/// Returns all exclusions by address.
pub(crate) fn exclusions(network: &Network) -> Result<Vec<Exclusion>, SqlError> {
    let mut exclusions = Vec::new();
    EXCLUSIONS.with(|query| {
        query.stream(&[Argument::of(network.name())], |slot| {
            exclusions.push(Exclusion {
                wallet_a: slot.text(0)?.to_owned(),
                wallet_b: slot.text(1)?.to_owned(),
                reason: slot.text(2)?.to_owned(),
                created_by: slot.text(3)?.to_owned(),
            });
            Ok(())
        })
    })?;
    Ok(exclusions)
}

/// Calls `each` with every label in force that is not a service's, by category and address.
pub(crate) fn cluster_labels(
    network: &Network,
    mut each: impl FnMut(ClusterLabel) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    LABELS.with(|query| {
        query.stream(&[Argument::of(network.name())], |slot| {
            each(ClusterLabel {
                address: slot.text(0)?.to_owned(),
                category: slot.text(1)?.to_owned(),
                kind: slot.text(2)?.to_owned(),
                severity: slot.text(3)?.to_owned(),
                label: slot.text(4)?.to_owned(),
                confidence: slot.integer(5)?.unwrap_or_default(),
            })
        })
    })
}
