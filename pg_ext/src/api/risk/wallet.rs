//! One wallet: its score, the reasons, and what proves them.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use arx_core::graph::{Graph, MemoryBudget, U256};
use arx_core::risk::features::{Coverage, FEATURES, Row};
use arx_core::risk::scorecard::Score;
use arx_core::risk::{Dossier, Evidence, Judgement, Known, Override, OwnLabel, Reason, judge, reasons, shown};
use pgrx::JsonB;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::scorer::{Found, Scorer, scorecard_in_use};
use crate::convert::Wallet;
use crate::error::SqlError;
use crate::graph_store::Interrupts;
use crate::guc;
use crate::numeric::SqlNumeric;
use crate::spi::{Sought, transfer_hashes};

/// A score as a `numeric` with one decimal.
pub fn score(score: Score) -> SqlNumeric {
    SqlNumeric { value: U256::from(score.tenths()), scale: 1 }
}

/// All that is known of one wallet.
struct Subject {
    scorer: Scorer,
    found: Found,
    label: Option<OwnLabel>,
    decided: Option<Override>,
    seen: Option<(Row, Coverage)>,
}

impl Subject {
    fn new(wallet: Wallet, at: Option<TimestampWithTimeZone>) -> Result<Self, SqlError> {
        let mut scorer = Scorer::new(wallet.network, at)?;
        let found = scorer.find(wallet.address.as_str())?;
        let label = scorer.own_labels(std::slice::from_ref(&found))?.remove(&found.address);
        let decided = scorer.overrides(Some(&found.address))?.remove(&found.address);
        let seen = match found.wallet {
            Some(wallet) => scorer.look(wallet)?,
            None => None,
        };
        Ok(Self { scorer, found, label, decided, seen })
    }

    fn known(&self) -> Known<'_> {
        Known {
            label: self.label.as_ref(),
            decided: self.decided.as_ref(),
            seen: self.seen.as_ref().map(|(row, coverage)| (row, *coverage)),
        }
    }
}

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::type_complexity)]
fn wallet_risk(
    address: Option<&str>,
    network: Option<&str>,
    as_of: default!(Option<TimestampWithTimeZone>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(address, String),
            name!(network, String),
            name!(score, SqlNumeric),
            name!(probability, Option<f64>),
            name!(band, String),
            name!(state, String),
            name!(coverage, f64),
            name!(model_version, String),
            name!(factors, JsonB),
        ),
    >,
    ErrorReport,
> {
    let subject = Subject::new(Wallet::parse(address, network)?, as_of)?;
    let scorecard = scorecard_in_use()?;
    let Judgement { score: of, probability, band, state, coverage } = judge(&scorecard, &subject.known());
    let factors = serde_json::to_value(reasons(&scorecard, &subject.known()))
        .map_err(|error| SqlError::corrupt(format!("factors cannot be written as JSON: {error}")))?;
    Ok(TableIterator::once((
        subject.found.address.clone(),
        subject.scorer.network.name().to_owned(),
        score(of),
        probability,
        band.to_owned(),
        state.as_str().to_owned(),
        coverage,
        scorecard.scorecard().version().to_owned(),
        JsonB(factors),
    )))
}

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::type_complexity)]
fn risk_factors(
    address: Option<&str>,
    network: Option<&str>,
    as_of: default!(Option<TimestampWithTimeZone>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(factor, String),
            name!(points, AnyNumeric),
            name!(value, String),
            name!(compares_to, String),
            name!(detail, String),
            name!(tx_hashes, Vec<Option<String>>),
            name!(counterparties, Vec<String>),
        ),
    >,
    ErrorReport,
> {
    let subject = Subject::new(Wallet::parse(address, network)?, as_of)?;
    let scorecard = scorecard_in_use()?;
    let reasons = reasons(&scorecard, &subject.known());
    let proofs = subject.proofs(&reasons)?;
    let rows = reasons.into_iter().zip(proofs).map(|(reason, (hashes, counterparties))| {
        let points = AnyNumeric::try_from(reason.points.to_string().as_str())
            .map_err(|error| SqlError::corrupt(format!("points are no number: {error}")))?;
        Ok((reason.factor, points, reason.value, reason.compares_to, reason.detail, hashes, counterparties))
    });
    Ok(TableIterator::new(rows.collect::<Result<Vec<_>, SqlError>>()?))
}

/// Hashes of transactions, and counterparties.
type Proof = (Vec<Option<String>>, Vec<String>);

impl Subject {
    /// What proves each reason.
    fn proofs(&self, reasons: &[Reason]) -> Result<Vec<Proof>, SqlError> {
        let Some(wallet) = self.found.wallet.filter(|_| self.seen.is_some()) else {
            return Ok(vec![Proof::default(); reasons.len()]);
        };
        let graph = self.scorer.ready.graph();
        let memory = MemoryBudget::new(guc::graph_work_mem());
        let dossier = Dossier::gather(graph, wallet, self.scorer.until(), &memory, &mut Interrupts)?;
        let (mut evidence, mut sought) = (Vec::new(), Vec::new());
        // a transfer that proves several values is looked up once: of two that are alike each would get another hash
        let mut places: HashMap<u64, usize> = HashMap::new();
        for reason in reasons {
            let mut of_reason = Evidence::default();
            for proof in &reason.proofs {
                let found = dossier.proof(*proof, self.scorer.book.labelled(), &mut Interrupts)?;
                for number in found.transfers {
                    if !of_reason.transfers.contains(&number) {
                        of_reason.transfers.push(number);
                    }
                    if let Entry::Vacant(place) = places.entry(number) {
                        place.insert(sought.len());
                        sought.push(sought_by(&graph, number)?);
                    }
                }
                of_reason.counterparties.extend(found.counterparties);
            }
            let mut seen = HashSet::new();
            of_reason.counterparties.retain(|peer| seen.insert(*peer));
            evidence.push(of_reason);
        }
        let hashes = transfer_hashes(&self.scorer.network, &sought)?;
        evidence
            .into_iter()
            .map(|one| {
                let hash = |number| places.get(number).and_then(|place| hashes.get(*place)).cloned().flatten();
                let of_reason = one.transfers.iter().map(hash).collect();
                let peers = one.counterparties.iter().map(|peer| graph.address(*peer).map(str::to_owned));
                Ok((of_reason, peers.collect::<Result<Vec<String>, _>>()?))
            })
            .collect()
    }
}

fn sought_by(graph: &Graph<'_>, number: u64) -> Result<Sought, SqlError> {
    let transfer = graph.transfer(number)?;
    Ok(Sought::sent(graph, graph.sender(number)?, &transfer)?)
}

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::type_complexity)]
fn wallet_features(
    address: Option<&str>,
    network: Option<&str>,
    as_of: default!(Option<TimestampWithTimeZone>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (name!(feature, String), name!(value, Option<f64>), name!(shown, String), name!(formula, String)),
    >,
    ErrorReport,
> {
    let subject = Subject::new(Wallet::parse(address, network)?, as_of)?;
    let row = subject.seen.map(|(row, _)| row.to_vec()).unwrap_or_default();
    let rows = FEATURES.iter().zip(row).map(|(feature, value)| {
        let known = (!value.is_nan()).then_some(value);
        (feature.name.to_owned(), known, shown(value, feature.unit), feature.formula.to_owned())
    });
    Ok(TableIterator::new(rows.collect::<Vec<_>>()))
}
