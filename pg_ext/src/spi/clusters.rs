//! What clusters are made with and kept from: services, exclusions and labels, of one network.

use arx_core::address::Network;

use super::stream::{Argument, KeptQuery};
use crate::error::SqlError;

/// Two wallets that somebody keeps apart.
#[derive(Debug, Clone)]
pub struct Exclusion {
    pub wallet_a: String,
    pub wallet_b: String,
    pub reason: String,
    pub created_by: String,
}

/// A label that may be passed on.
#[derive(Debug, Clone)]
pub struct ClusterLabel {
    pub address: String,
    pub category: String,
    pub kind: String,
    pub severity: String,
    pub label: String,
    /// Up to 1, in thousandths.
    pub confidence: i32,
}

thread_local! {
    // a service that is illicit, too, is still a service
    static SERVICES: KeptQuery = const { KeptQuery::new(c"
SELECT l.address
  FROM arx.address_labels AS l
  JOIN arx.label_categories AS c USING (category)
 WHERE l.network = $1 AND c.kind = 'service' AND l.valid_from <= now() AND l.valid_to > now()") };

    static EXCLUSIONS: KeptQuery = const { KeptQuery::new(c"
SELECT e.wallet_a, e.wallet_b, e.reason, e.created_by
  FROM arx.cluster_exclusions AS e
 WHERE e.network = $1
 ORDER BY e.wallet_a, e.wallet_b") };

    static LABELS: KeptQuery = const { KeptQuery::new(c"
SELECT l.address, l.category, l.kind, l.severity::text, l.label, (l.confidence * 1000)::integer
  FROM arx.current_labels AS l
 WHERE l.network = $1 AND l.kind <> 'service'
 ORDER BY l.category, l.address") };
}

/// Calls `each` with the address of every service; with one that has several labels several times.
pub fn services(network: &Network, mut each: impl FnMut(&str) -> Result<(), SqlError>) -> Result<(), SqlError> {
    SERVICES.with(|query| query.stream(&[Argument::of(network.name())], |slot| each(slot.text(0)?)))
}

/// All pairs that are kept apart, by address.
pub fn exclusions(network: &Network) -> Result<Vec<Exclusion>, SqlError> {
    let mut found = Vec::new();
    EXCLUSIONS.with(|query| {
        query.stream(&[Argument::of(network.name())], |slot| {
            found.push(Exclusion {
                wallet_a: slot.text(0)?.to_owned(),
                wallet_b: slot.text(1)?.to_owned(),
                reason: slot.text(2)?.to_owned(),
                created_by: slot.text(3)?.to_owned(),
            });
            Ok(())
        })
    })?;
    Ok(found)
}

/// Calls `each` with every label in force that is no service's, by category and address.
pub fn cluster_labels(
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
