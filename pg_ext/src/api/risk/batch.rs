//! Many wallets: their scores, features and distribution, and the wallets that a change affects.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arx_core::graph::WalletId;
use arx_core::risk::features::{Coverage, FeatureRow, LabelSufficiency, PREFETCH};
use arx_core::risk::scorecard::{BoundScorecard, Points, is_not_covered};
use arx_core::risk::{
    CoverageConflict, Judgement, Override, Reason, RiskState, WalletFacts, affected_wallets, heaviest_reasons, judge,
    topic_reasons,
};
use pgrx::JsonB;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde::Serialize;

use super::scorer::{ResolvedWallet, Scorer};
use super::wallet::score_numeric;
use crate::api::call::call;
use crate::api::label_index::LabelIndex;
use crate::api::row::sql_row;
use crate::arguments::{TextArray, optional_limit, registered_network, required};
use crate::error::{SqlError, or_report};
use crate::graph_store::{AssetScope, Interrupts, current};
use crate::memory::reserve;
use crate::numeric::SqlNumeric;
use crate::spi::{labels_changed, networks};

/// Number of wallets from which on counting the contacts of all wallets first pays for itself.
const PREPARE_FROM: usize = 50;

/// Resolves addresses, each once, in the order given.
fn resolve_all(scorer: &Scorer, addresses: &[Option<&str>]) -> Result<Vec<ResolvedWallet>, SqlError> {
    let (mut seen, mut wallets) = (HashSet::new(), Vec::new());
    reserve(&mut seen, addresses.len())?;
    reserve(&mut wallets, addresses.len())?;
    for address in addresses {
        let wallet = scorer.resolve_text(required("an element of addresses", *address)?)?;
        if seen.insert(wallet.address.clone()) {
            wallets.push(wallet);
        }
    }
    Ok(wallets)
}

/// Makes the rows of items lazily, one block of items at a time.
fn in_blocks<T, R>(
    items: Vec<T>,
    mut rows_of: impl FnMut(&[T]) -> Result<Vec<R>, SqlError>,
) -> impl Iterator<Item = R> {
    let (mut next, mut rows) = (0, Vec::new().into_iter());
    std::iter::from_fn(move || {
        loop {
            if let Some(row) = rows.next() {
                return Some(row);
            }
            let block = items.get(next..(next + PREFETCH).min(items.len())).filter(|block| !block.is_empty())?;
            next += block.len();
            rows = or_report(rows_of(block)).into_iter();
        }
    })
}

sql_row! {
    struct ScoreRow {
        address: String,
        score: SqlNumeric,
        probability: Option<f64>,
        band: String,
        state: String,
        coverage: f64,
        model_version: String,
        reason: Option<String>,
    }
}

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::type_complexity)]
fn score_wallets(
    addresses: Option<TextArray<'_>>,
    network: Option<&str>,
    as_of: default!(Option<TimestampWithTimeZone>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(address, String),
            name!(score, SqlNumeric),
            name!(probability, Option<f64>),
            name!(band, String),
            name!(state, String),
            name!(coverage, f64),
            name!(model_version, String),
            name!(reason, Option<String>),
        ),
    >,
    ErrorReport,
> {
    call(|| {
        let rows = judge_each(addresses, network, as_of, |wallet, _, scorecard, judgement| {
            let Judgement { score, probability, band, state, coverage, missing } = judgement;
            Ok(ScoreRow {
                address: wallet.address.clone(),
                score: score_numeric(score),
                probability,
                band: band.to_owned(),
                state: state.as_str().to_owned(),
                coverage,
                model_version: scorecard.scorecard().version().to_owned(),
                reason: missing,
            })
        })?;
        Ok(TableIterator::new(rows.map(ScoreRow::into_row)))
    })
}

/// Judges wallets, and makes their rows lazily.
fn judge_each<R, F>(
    addresses: Option<TextArray<'_>>,
    network: Option<&str>,
    as_of: Option<TimestampWithTimeZone>,
    row_of: F,
) -> Result<impl Iterator<Item = R> + use<R, F>, SqlError>
where
    F: Fn(&ResolvedWallet, &WalletFacts<'_>, &BoundScorecard, Judgement<'_>) -> Result<R, SqlError>,
{
    let addresses = required("addresses", addresses)?.elements("addresses")?;
    let mut scorer = Scorer::new(registered_network(network)?, as_of)?;
    let wallets = resolve_all(&scorer, &addresses)?;
    if wallets.len() >= PREPARE_FROM {
        scorer.prepare_for_many()?;
    }
    let (labels, overrides) = (scorer.own_labels(&wallets)?, scorer.overrides()?);
    let (scorecard, calibration) = (scorer.scorecard()?, scorer.calibration());
    Ok(in_blocks(wallets, move |block| {
        let ids: Vec<WalletId> = block.iter().filter_map(|wallet| wallet.id).collect();
        let mut features = scorer.features_of(&ids)?.into_iter();
        let rows = block.iter().map(|wallet| {
            let features = wallet.id.and_then(|_| features.next().flatten());
            let known = WalletFacts {
                label: labels.get(&wallet.address),
                override_: overrides.get(&wallet.address),
                features: features.as_ref().map(|(row, coverage)| (row, *coverage)),
            };
            row_of(wallet, &known, &scorecard, judge(&scorecard, &known, &calibration))
        });
        rows.collect()
    }))
}

sql_row! {
    struct ExplainedRow {
        address: String,
        score: SqlNumeric,
        probability: Option<f64>,
        band: String,
        state: String,
        coverage: f64,
        model_version: String,
        factors: JsonB,
        reasons: JsonB,
        reason: Option<String>,
    }
}

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::type_complexity)]
fn explain_wallets(
    addresses: Option<TextArray<'_>>,
    network: Option<&str>,
    as_of: default!(Option<TimestampWithTimeZone>, "NULL"),
    max_factors: default!(Option<i32>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(address, String),
            name!(score, SqlNumeric),
            name!(probability, Option<f64>),
            name!(band, String),
            name!(state, String),
            name!(coverage, f64),
            name!(model_version, String),
            name!(factors, JsonB),
            name!(reasons, JsonB),
            name!(reason, Option<String>),
        ),
    >,
    ErrorReport,
> {
    call(|| {
        let rows = explain_each(addresses, network, as_of, max_factors)?.map(|wallet| ExplainedRow {
            factors: JsonB(made(serde_json::to_value(&wallet.factors))),
            reasons: JsonB(made(serde_json::to_value(&wallet.reasons))),
            address: wallet.address,
            score: wallet.score,
            probability: wallet.probability,
            band: wallet.band,
            state: wallet.state,
            coverage: wallet.coverage,
            model_version: wallet.model_version,
            reason: wallet.missing,
        });
        Ok(TableIterator::new(rows.map(ExplainedRow::into_row)))
    })
}

sql_row! {
    struct ExplanationRow {
        address: String,
        score: SqlNumeric,
        probability: Option<f64>,
        band: String,
        state: String,
        coverage: f64,
        model_version: String,
        factors: String,
        reasons: String,
    }
}

/// Returns what [`explain_wallets`] does, at the present, for a caller who passes it on: to make
/// `jsonb` of factors and reasons and to print it again takes longer than to compute them.
#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::type_complexity)]
fn wallet_explanations(
    addresses: Option<TextArray<'_>>,
    network: Option<&str>,
    max_factors: default!(Option<i32>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(address, String),
            name!(score, SqlNumeric),
            name!(probability, Option<f64>),
            name!(band, String),
            name!(state, String),
            name!(coverage, f64),
            name!(model_version, String),
            name!(factors, String),
            name!(reasons, String),
        ),
    >,
    ErrorReport,
> {
    call(|| {
        let rows = explain_each(addresses, network, None, max_factors)?.map(|wallet| ExplanationRow {
            factors: made(serde_json::to_string(&wallet.factors)),
            reasons: made(serde_json::to_string(&wallet.reasons)),
            address: wallet.address,
            score: wallet.score,
            probability: wallet.probability,
            band: wallet.band,
            state: wallet.state,
            coverage: wallet.coverage,
            model_version: wallet.model_version,
        });
        Ok(TableIterator::new(rows.map(ExplanationRow::into_row)))
    })
}

/// A wallet's score with its factors and reasons.
struct Explained {
    address: String,
    score: SqlNumeric,
    probability: Option<f64>,
    band: String,
    state: String,
    coverage: f64,
    model_version: String,
    factors: Vec<Reason>,
    reasons: Vec<FamilyReason>,
    missing: Option<String>,
}

/// The part of a score of one family, as JSON shows it.
#[derive(Serialize)]
struct FamilyReason {
    family: &'static str,
    points: Points,
    reason: String,
    factors: Vec<String>,
}

/// Returns what was made of factors or reasons, or raises the error.
fn made<J>(json: serde_json::Result<J>) -> J {
    or_report(json.map_err(|error| SqlError::corrupt(format!("could not convert factors to JSON: {error}"))))
}

/// Explains wallets lazily.
fn explain_each(
    addresses: Option<TextArray<'_>>,
    network: Option<&str>,
    as_of: Option<TimestampWithTimeZone>,
    max_factors: Option<i32>,
) -> Result<impl Iterator<Item = Explained> + use<>, SqlError> {
    let limit = optional_limit("max_factors", max_factors)?.unwrap_or(u64::MAX);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    judge_each(addresses, network, as_of, move |wallet, known, scorecard, judgement| {
        let Judgement { score, probability, band, state, coverage, missing } = judgement;
        let reasons = topic_reasons(scorecard, known).into_iter().map(|reason| FamilyReason {
            family: reason.topic.name(),
            points: reason.points,
            reason: reason.sentence,
            factors: reason.factors,
        });
        Ok(Explained {
            address: wallet.address.clone(),
            score: score_numeric(score),
            probability,
            band: band.to_owned(),
            state: state.as_str().to_owned(),
            coverage,
            model_version: scorecard.scorecard().version().to_owned(),
            factors: heaviest_reasons(scorecard, known, limit),
            reasons: reasons.collect(),
            missing,
        })
    })
}

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::type_complexity)]
fn feature_vectors(
    network: Option<&str>,
    addresses: default!(Option<TextArray<'_>>, "NULL"),
    as_of: default!(Option<TimestampWithTimeZone>, "NULL"),
) -> Result<TableIterator<'static, (name!(address, String), name!(features, Vec<Option<f64>>))>, ErrorReport> {
    call(|| {
        let mut scorer = Scorer::new(registered_network(network)?, as_of)?;
        let wallets: Vec<WalletId> = match addresses {
            Some(addresses) => {
                resolve_all(&scorer, &addresses.elements("addresses")?)?.iter().filter_map(|wallet| wallet.id).collect()
            }
            None => scorer.wallets(),
        };
        if wallets.len() >= PREPARE_FROM {
            scorer.prepare_for_many()?;
        }
        Ok(TableIterator::new(in_blocks(wallets, move |block| {
            let mut rows = Vec::with_capacity(block.len());
            let features = scorer.features_of(block)?;
            let graph = scorer.handle.graph();
            for (wallet, features) in block.iter().zip(features) {
                let Some((row, _)) = features else { continue };
                let is_value = |value: &f64| !value.is_nan() || is_not_covered(*value);
                let values = row.iter().map(|value| is_value(value).then_some(*value)).collect();
                rows.push((graph.address(*wallet)?.to_owned(), values));
            }
            Ok(rows)
        })))
    })
}

sql_row! {
    struct DistributionRow {
        band: String,
        state: String,
        wallets: i64,
        mean_score: AnyNumeric,
        share: f64,
    }
}

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::type_complexity)]
fn risk_distribution(
    network: Option<&str>,
    model_version: default!(Option<&str>, "NULL"),
    as_of: default!(Option<TimestampWithTimeZone>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(band, String),
            name!(state, String),
            name!(wallets, i64),
            name!(mean_score, AnyNumeric),
            name!(share, f64),
        ),
    >,
    ErrorReport,
> {
    call(|| {
        let scorer = Scorer::new(registered_network(network)?, as_of)?;
        Ok(TableIterator::new(distribution(scorer, model_version)?.into_iter().map(DistributionRow::into_row)))
    })
}

/// Number of wallets and sum of scores in tenths.
#[derive(Default)]
struct ScoreGroup {
    wallets: i64,
    tenths: i64,
}

fn distribution(mut scorer: Scorer, version: Option<&str>) -> Result<Vec<DistributionRow>, SqlError> {
    type Groups<'s> = BTreeMap<(i32, &'s str, RiskState), ScoreGroup>;
    let (scorecard, calibration) = (scorer.scorecard_or_active(version)?, scorer.calibration());
    let overrides = scorer.overrides()?;
    let mut overridden: HashMap<WalletId, &Override> = HashMap::new();
    for (address, override_) in &overrides {
        if let Some(wallet) = scorer.handle.graph().wallet(scorer.network.name(), address)? {
            overridden.insert(wallet, override_);
        }
    }
    let (labels, handle) = (Arc::clone(&scorer.labels), scorer.handle.clone());
    let (graph, labels, scorecard) = (handle.graph(), &*labels, &*scorecard);
    let bands = calibration.bands(scorecard.scorecard());
    let of_threads = scorer.fold_all(|groups: &mut Groups<'_>, wallet, seen: Option<(&FeatureRow, Coverage)>| {
        let (label, decided) = (labels.of(wallet), overridden.get(&wallet).copied());
        if seen.is_none() && label.is_none() && decided.is_none() && !graph.is_active(wallet) {
            // Its transactions have been removed.
            return;
        }
        let judged = judge(scorecard, &WalletFacts { label, override_: decided, features: seen }, &calibration);
        let order = bands.iter().find(|(_, band)| *band == judged.band).map_or(0, |(from, _)| from.tenths());
        let group = groups.entry((order, judged.band, judged.state)).or_default();
        group.wallets += 1;
        group.tenths += i64::from(judged.score.tenths());
    })?;
    let mut groups = Groups::new();
    for (key, part) in of_threads.into_iter().flatten() {
        let group = groups.entry(key).or_default();
        group.wallets += part.wallets;
        group.tenths += part.tenths;
    }
    let total: i64 = groups.values().map(|group| group.wallets).sum();
    let rows = groups.into_iter().map(|((_, band, state), ScoreGroup { wallets, tenths })| {
        let mean = AnyNumeric::from(tenths) / AnyNumeric::from(wallets * 10);
        DistributionRow {
            band: band.to_owned(),
            state: state.as_str().to_owned(),
            wallets,
            mean_score: mean.rescale::<12, 1>().map(AnyNumeric::from).unwrap_or_default(),
            share: wallets as f64 / total as f64,
        }
    });
    Ok(rows.collect())
}

sql_row! {
    struct ConflictRow {
        address: String,
        received: SqlNumeric,
        sent: SqlNumeric,
        reason: String,
    }
}

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::type_complexity)]
fn coverage_conflicts(
    network: Option<&str>,
) -> Result<
    TableIterator<
        'static,
        (name!(address, String), name!(received, SqlNumeric), name!(sent, SqlNumeric), name!(reason, String)),
    >,
    ErrorReport,
> {
    call(|| {
        let rows = conflicts(&Scorer::new(registered_network(network)?, None)?)?;
        Ok(TableIterator::new(rows.into_iter().map(ConflictRow::into_row)))
    })
}

fn conflicts(scorer: &Scorer) -> Result<Vec<ConflictRow>, SqlError> {
    let graph = scorer.handle.graph();
    let conflicts = arx_core::risk::coverage_conflicts(&graph, scorer.wallets(), scorer.histories(), &mut Interrupts)?;
    let mut rows = Vec::new();
    for CoverageConflict { wallet, received, sent } in conflicts {
        rows.push(ConflictRow {
            address: graph.address(wallet)?.to_owned(),
            received: SqlNumeric { value: received, scale: 18 },
            sent: SqlNumeric { value: sent, scale: 18 },
            reason: "it sends more than it received, so its history is not complete".to_owned(),
        });
    }
    rows.sort_unstable_by(|a, b| a.address.cmp(&b.address));
    Ok(rows)
}

#[pg_extern(stable, parallel_restricted)]
fn risk_basis() -> Result<String, ErrorReport> {
    call(|| Ok(sufficient_labels()?))
}

/// Lists the networks with enough illicit or service labels for zero exposure to mean something.
fn sufficient_labels() -> Result<String, SqlError> {
    let handle = current(AssetScope::Native)?;
    let mut sufficient = Vec::new();
    for network in networks()? {
        if handle.graph().network_id(network.name()).is_none() {
            // A network without transfers has no exposure.
            continue;
        }
        let labels = LabelIndex::open(&handle, &network, None, labels_changed)?;
        let LabelSufficiency { illicit, services } =
            LabelSufficiency::measure(&handle.graph(), None, labels.labelled(), &mut Interrupts)?;
        if illicit || services {
            sufficient.push(format!("{} {illicit} {services}", network.name()));
        }
    }
    Ok(sufficient.join(", "))
}

#[pg_extern(stable, parallel_restricted)]
fn wallets_near(
    network: Option<&str>,
    touched: Option<TextArray<'_>>,
    relabelled: Option<TextArray<'_>>,
) -> Result<SetOfIterator<'static, String>, ErrorReport> {
    call(|| Ok(SetOfIterator::new(affected_addresses(network, touched, relabelled)?)))
}

fn affected_addresses(
    network: Option<&str>,
    touched: Option<TextArray<'_>>,
    relabelled: Option<TextArray<'_>>,
) -> Result<Vec<String>, SqlError> {
    let network = registered_network(network)?;
    let handle = current(AssetScope::Native)?;
    let graph = handle.graph();
    let wallets = |name: &str, addresses: Option<TextArray<'_>>| -> Result<Vec<WalletId>, SqlError> {
        let addresses = addresses.map(|addresses| addresses.elements(name)).transpose()?;
        let mut wallets = Vec::new();
        for address in addresses.unwrap_or_default().into_iter().flatten() {
            wallets.extend(graph.wallet(network.name(), address)?);
        }
        Ok(wallets)
    };
    let (touched, relabelled) = (wallets("touched", touched)?, wallets("relabelled", relabelled)?);
    let affected = affected_wallets(&graph, &touched, &relabelled, &mut Interrupts)?;
    affected.into_iter().map(|wallet| Ok(graph.address(wallet)?.to_owned())).collect()
}
