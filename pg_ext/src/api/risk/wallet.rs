//! One wallet: its score, the reasons for it, and the evidence for the reasons.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use arx_core::graph::{Graph, MemoryBudget, U256};
use arx_core::risk::features::{Coverage, EvidenceKind, FEATURES, FeatureRow};
use arx_core::risk::scorecard::{Points, Score, without_mark};
use arx_core::risk::{
    Evidence, EvidenceIndex, Judgement, Override, OwnLabel, Reason, TopicReason, WalletFacts, format_value, judge,
    reasons, topic_reasons,
};
use pgrx::JsonB;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::scorer::{ResolvedWallet, Scorer};
use crate::api::call::call;
use crate::api::row::sql_row;
use crate::arguments::Wallet;
use crate::error::SqlError;
use crate::graph_store::Interrupts;
use crate::guc;
use crate::numeric::SqlNumeric;
use crate::spi::{TransferKey, transfer_hashes};

/// Converts a score to a `numeric` with one decimal.
pub(crate) fn score_numeric(score: Score) -> SqlNumeric {
    SqlNumeric { value: U256::from(score.tenths()), scale: 1 }
}

/// A wallet with everything that its score depends on.
struct RiskSubject {
    scorer: Scorer,
    wallet: ResolvedWallet,
    label: Option<OwnLabel>,
    override_: Option<Override>,
    features: Option<(FeatureRow, Coverage)>,
}

impl RiskSubject {
    fn read(address: Option<&str>, network: Option<&str>, at: Option<TimestampWithTimeZone>) -> Result<Self, SqlError> {
        let Wallet { address, network } = Wallet::parse(address, network)?;
        let mut scorer = Scorer::with_override_of(network, Some(address.as_str()), at)?;
        let wallet = scorer.resolve(&address)?;
        let label = scorer.own_labels(std::slice::from_ref(&wallet))?.remove(&wallet.address);
        let override_ = scorer.take_override();
        let features = match wallet.id {
            Some(id) => scorer.features(id)?,
            None => None,
        };
        Ok(Self { scorer, wallet, label, override_, features })
    }

    fn known(&self) -> WalletFacts<'_> {
        WalletFacts {
            label: self.label.as_ref(),
            override_: self.override_.as_ref(),
            features: self.features.as_ref().map(|(row, coverage)| (row, *coverage)),
        }
    }
}

sql_row! {
    struct RiskRow {
        address: String,
        network: String,
        score: SqlNumeric,
        probability: Option<f64>,
        band: String,
        state: String,
        coverage: f64,
        model_version: String,
        factors: JsonB,
        reason: Option<String>,
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
            name!(reason, Option<String>),
        ),
    >,
    ErrorReport,
> {
    call(|| Ok(TableIterator::once(RiskSubject::read(address, network, as_of)?.risk()?.into_row())))
}

sql_row! {
    struct FactorRow {
        factor: String,
        points: AnyNumeric,
        value: String,
        compares_to: String,
        detail: String,
        tx_hashes: Vec<Option<String>>,
        counterparties: Vec<String>,
    }
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
    call(|| {
        let rows = RiskSubject::read(address, network, as_of)?.factors()?;
        Ok(TableIterator::new(rows.into_iter().map(FactorRow::into_row)))
    })
}

sql_row! {
    struct ReasonRow {
        family: String,
        points: AnyNumeric,
        reason: String,
        factors: Vec<String>,
        tx_hashes: Vec<Option<String>>,
        counterparties: Vec<String>,
    }
}

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::type_complexity)]
fn risk_reasons(
    address: Option<&str>,
    network: Option<&str>,
    as_of: default!(Option<TimestampWithTimeZone>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(family, String),
            name!(points, AnyNumeric),
            name!(reason, String),
            name!(factors, Vec<String>),
            name!(tx_hashes, Vec<Option<String>>),
            name!(counterparties, Vec<String>),
        ),
    >,
    ErrorReport,
> {
    call(|| {
        let rows = RiskSubject::read(address, network, as_of)?.reasons()?;
        Ok(TableIterator::new(rows.into_iter().map(ReasonRow::into_row)))
    })
}

/// Converts points to a `numeric` with one decimal.
fn points_numeric(points: Points) -> Result<AnyNumeric, SqlError> {
    AnyNumeric::try_from(points.to_string().as_str())
        .map_err(|error| SqlError::corrupt(format!("could not convert points to numeric: {error}")))
}

/// Hashes of transactions, and addresses of counterparties.
type NamedEvidence = (Vec<Option<String>>, Vec<String>);

impl RiskSubject {
    fn risk(&self) -> Result<RiskRow, SqlError> {
        let scorecard = self.scorer.scorecard()?;
        let Judgement { score, probability, band, state, coverage, missing } =
            judge(&scorecard, &self.known(), &self.scorer.calibration());
        let factors = serde_json::to_value(reasons(&scorecard, &self.known()))
            .map_err(|error| SqlError::corrupt(format!("could not convert factors to JSON: {error}")))?;
        Ok(RiskRow {
            address: self.wallet.address.clone(),
            network: self.scorer.network.name().to_owned(),
            score: score_numeric(score),
            probability,
            band: band.to_owned(),
            state: state.as_str().to_owned(),
            coverage,
            model_version: scorecard.scorecard().version().to_owned(),
            factors: JsonB(factors),
            reason: missing,
        })
    }

    fn factors(&self) -> Result<Vec<FactorRow>, SqlError> {
        let reasons = reasons(&*self.scorer.scorecard()?, &self.known());
        let evidence = self.evidence(reasons.iter().map(|reason| reason.evidence.as_slice()))?;
        let rows = reasons.into_iter().zip(evidence).map(|(reason, (tx_hashes, counterparties))| {
            let Reason { factor, points, value, compares_to, detail, .. } = reason;
            let points = points_numeric(points)?;
            Ok(FactorRow { factor, points, value, compares_to, detail, tx_hashes, counterparties })
        });
        rows.collect()
    }

    fn reasons(&self) -> Result<Vec<ReasonRow>, SqlError> {
        let reasons = topic_reasons(&*self.scorer.scorecard()?, &self.known());
        let evidence = self.evidence(reasons.iter().map(|reason| reason.evidence.as_slice()))?;
        let rows = reasons.into_iter().zip(evidence).map(|(reason, (tx_hashes, counterparties))| {
            let TopicReason { topic, points, sentence, factors, .. } = reason;
            Ok(ReasonRow {
                family: topic.name().to_owned(),
                points: points_numeric(points)?,
                reason: sentence,
                factors,
                tx_hashes,
                counterparties,
            })
        });
        rows.collect()
    }

    /// Returns the evidence for each reason, given the kinds of each.
    fn evidence<'k>(
        &self,
        reasons: impl ExactSizeIterator<Item = &'k [EvidenceKind]>,
    ) -> Result<Vec<NamedEvidence>, SqlError> {
        let Some(wallet) = self.wallet.id.filter(|_| self.features.is_some()) else {
            return Ok(vec![NamedEvidence::default(); reasons.len()]);
        };
        let graph = self.scorer.handle.graph();
        let memory = MemoryBudget::new(guc::graph_work_mem());
        let index = EvidenceIndex::build(graph, wallet, self.scorer.until(), &memory, &mut Interrupts)?;
        let (mut evidence, mut keys) = (Vec::new(), Vec::new());
        // A transfer that proves several values is looked up once: twice, it would be taken for two
        // transfers with equal keys.
        let mut indices: HashMap<u64, usize> = HashMap::new();
        for kinds in reasons {
            let mut of_reason = Evidence::default();
            for kind in kinds {
                let Evidence { transfers, counterparties, .. } =
                    index.evidence(*kind, self.scorer.labels.labelled(), &mut Interrupts)?;
                for number in transfers {
                    if !of_reason.transfers.contains(&number) {
                        of_reason.transfers.push(number);
                    }
                    if let Entry::Vacant(vacant) = indices.entry(number) {
                        vacant.insert(keys.len());
                        keys.push(key_of(&graph, number)?);
                    }
                }
                of_reason.counterparties.extend(counterparties);
            }
            let mut seen = HashSet::new();
            of_reason.counterparties.retain(|peer| seen.insert(*peer));
            evidence.push(of_reason);
        }
        let hashes = transfer_hashes(&self.scorer.network, &keys)?;
        let hash = |number: &u64| indices.get(number).and_then(|index| hashes.get(*index)).cloned().flatten();
        let named = evidence.into_iter().map(|of_reason| {
            let peers = of_reason.counterparties.iter().map(|peer| graph.address(*peer).map(str::to_owned));
            Ok((of_reason.transfers.iter().map(hash).collect(), peers.collect::<Result<Vec<String>, _>>()?))
        });
        named.collect()
    }
}

fn key_of(graph: &Graph<'_>, number: u64) -> Result<TransferKey, SqlError> {
    let transfer = graph.transfer(number)?;
    Ok(TransferKey::sent(graph, graph.sender(number)?, &transfer)?)
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
    call(|| {
        let subject = RiskSubject::read(address, network, as_of)?;
        let row = subject.features.map(|(row, _)| row.to_vec()).unwrap_or_default();
        let rows = FEATURES.iter().zip(row).map(|(feature, value)| {
            let itself = without_mark(value);
            let defined = (!itself.is_nan()).then_some(itself);
            (feature.name.to_owned(), defined, format_value(value, feature.unit), feature.formula.to_owned())
        });
        Ok(TableIterator::new(rows.collect::<Vec<_>>()))
    })
}
