//! Many wallets: their scores, their features, how they spread, and whom a change concerns.

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use arx_core::address::Network;
use arx_core::graph::WalletId;
use arx_core::risk::features::{AHEAD, Coverage, Enough, Row};
use arx_core::risk::scorecard::Scorecard;
use arx_core::risk::{Judgement, Known, RiskState, affected_wallets, judge};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::book::Book;
use super::scorer::{Found, Scorer, scorecard_in_use, scorecard_of};
use super::wallet::score;
use crate::api::graph::question::or_report;
use crate::error::SqlError;
use crate::graph_store::{Interrupts, Need, current};
use crate::numeric::SqlNumeric;
use crate::spi::{networks, registered_network};

/// From so many wallets on it pays to count everybody's contacts before.
const MANY: usize = 50;

/// Wallets asked about, each once, in the order given.
fn found(scorer: &Scorer, addresses: &[Option<String>]) -> Result<Vec<Found>, SqlError> {
    let mut seen = HashSet::new();
    let mut all = Vec::with_capacity(addresses.len());
    for address in addresses {
        let address = address.as_deref().ok_or_else(|| SqlError::null_argument("an element of addresses"))?;
        let found = scorer.find(address)?;
        if seen.insert(found.address.clone()) {
            all.push(found);
        }
    }
    Ok(all)
}

/// Rows for items, found for a block of them at a time, when they are asked for.
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
            let block = items.get(next..(next + AHEAD).min(items.len())).filter(|block| !block.is_empty())?;
            next += block.len();
            rows = or_report(rows_of(block)).into_iter();
        }
    })
}

fn required_network(network: Option<&str>) -> Result<Network, SqlError> {
    registered_network(network.ok_or_else(|| SqlError::null_argument("network"))?)
}

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::type_complexity)]
fn score_wallets(
    addresses: Option<Vec<Option<String>>>,
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
        ),
    >,
    ErrorReport,
> {
    let addresses = addresses.ok_or_else(|| SqlError::null_argument("addresses"))?;
    let mut scorer = Scorer::new(required_network(network)?, as_of)?;
    let all = found(&scorer, &addresses)?;
    if all.len() >= MANY {
        scorer.prepare_for_many()?;
    }
    let (labels, decided) = (scorer.own_labels(&all)?, scorer.overrides(None)?);
    let scorecard = scorecard_in_use()?;
    Ok(TableIterator::new(in_blocks(all, move |block| {
        let wallets: Vec<WalletId> = block.iter().filter_map(|one| one.wallet).collect();
        let mut seen = scorer.seen(&wallets)?.into_iter();
        let rows = block.iter().map(|one| {
            let seen = one.wallet.and_then(|_| seen.next().flatten());
            let known = Known {
                label: labels.get(&one.address),
                decided: decided.get(&one.address),
                seen: seen.as_ref().map(|(row, coverage)| (row, *coverage)),
            };
            let Judgement { score: of, probability, band, state, coverage } = judge(&scorecard, &known);
            let version = scorecard.scorecard().version();
            let (band, state, version) = (band.to_owned(), state.as_str().to_owned(), version.to_owned());
            (one.address.clone(), score(of), probability, band, state, coverage, version)
        });
        Ok(rows.collect())
    })))
}

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::type_complexity)]
fn feature_vectors(
    network: Option<&str>,
    addresses: default!(Option<Vec<Option<String>>>, "NULL"),
    as_of: default!(Option<TimestampWithTimeZone>, "NULL"),
) -> Result<TableIterator<'static, (name!(address, String), name!(features, Vec<Option<f64>>))>, ErrorReport> {
    let mut scorer = Scorer::new(required_network(network)?, as_of)?;
    let wallets: Vec<WalletId> = match addresses {
        Some(addresses) => found(&scorer, &addresses)?.iter().filter_map(|one| one.wallet).collect(),
        None => scorer.wallets(),
    };
    if wallets.len() >= MANY {
        scorer.prepare_for_many()?;
    }
    Ok(TableIterator::new(in_blocks(wallets, move |block| {
        let mut rows = Vec::with_capacity(block.len());
        let seen = scorer.seen(block)?;
        let graph = scorer.ready.graph();
        for (wallet, seen) in block.iter().zip(seen) {
            let Some((row, _)) = seen else { continue };
            let values = row.iter().map(|value| (!value.is_nan()).then_some(*value)).collect();
            rows.push((graph.address(*wallet)?.to_owned(), values));
        }
        Ok(rows)
    })))
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
        (name!(band, String), name!(state, String), name!(wallets, i64), name!(mean_score, AnyNumeric)),
    >,
    ErrorReport,
> {
    let mut scorer = Scorer::new(required_network(network)?, as_of)?;
    let scorecard = match model_version {
        Some(version) => Rc::new(scorecard_of(version)?),
        None => scorecard_in_use()?,
    };
    let decided = scorer.overrides(None)?;
    let mut decided_wallets = std::collections::HashMap::new();
    for (address, one) in &decided {
        if let Some(wallet) = scorer.ready.graph().wallet(scorer.network.name(), address).map_err(SqlError::from)? {
            decided_wallets.insert(wallet, one);
        }
    }
    let (book, ready) = (Arc::clone(&scorer.book), scorer.ready.clone());
    let (graph, book, scorecard) = (ready.graph(), &*book, &*scorecard);
    type Groups<'s> = BTreeMap<(i32, &'s str, RiskState), (i64, i64)>;
    let found = scorer.look_at_all(|groups: &mut Groups<'_>, wallet, seen: Option<(&Row, Coverage)>| {
        let (label, decided) = (book.of(wallet), decided_wallets.get(&wallet).copied());
        if seen.is_none() && label.is_none() && decided.is_none() && !graph.is_active(wallet) {
            // its transactions are gone
            return;
        }
        let judged = judge(scorecard, &Known { label, decided, seen });
        let group =
            groups.entry((band_order(scorecard.scorecard(), judged.band), judged.band, judged.state)).or_default();
        group.0 += 1;
        group.1 += i64::from(judged.score.tenths());
    })?;
    let mut groups = Groups::new();
    for (key, (wallets, tenths)) in found.into_iter().flatten() {
        let group = groups.entry(key).or_default();
        group.0 += wallets;
        group.1 += tenths;
    }
    let rows = groups.into_iter().map(|((_, band, state), (wallets, tenths))| {
        let mean = AnyNumeric::from(tenths) / AnyNumeric::from(wallets * 10);
        (
            band.to_owned(),
            state.as_str().to_owned(),
            wallets,
            mean.rescale::<12, 1>().map(AnyNumeric::from).unwrap_or_default(),
        )
    });
    Ok(TableIterator::new(rows.collect::<Vec<_>>()))
}

/// Where a band is among the others: its lowest score, in tenths.
fn band_order(scorecard: &Scorecard, band: &str) -> i32 {
    scorecard.bands().iter().find(|one| one.band == band).map_or(0, |one| one.from.tenths())
}

#[pg_extern(stable, parallel_restricted)]
fn risk_basis() -> Result<String, ErrorReport> {
    let ready = current(Need::Native)?;
    let mut enough = Vec::new();
    for network in networks()? {
        if ready.graph().network_number(network.name()).is_none() {
            // nobody to be met
            continue;
        }
        let book = Book::open(&ready, &network, None)?;
        let Enough { illicit, services } =
            Enough::of(&ready.graph(), None, book.labelled(), &mut Interrupts).map_err(SqlError::from)?;
        if illicit || services {
            enough.push(format!("{} {illicit} {services}", network.name()));
        }
    }
    Ok(enough.join(", "))
}

#[pg_extern(stable, parallel_restricted)]
fn wallets_near(
    network: Option<&str>,
    touched: Option<Vec<Option<String>>>,
    relabelled: Option<Vec<Option<String>>>,
) -> Result<SetOfIterator<'static, String>, ErrorReport> {
    let network = required_network(network)?;
    let ready = current(Need::Native)?;
    let graph = ready.graph();
    let wallets = |addresses: Option<Vec<Option<String>>>| -> Result<Vec<WalletId>, SqlError> {
        let mut wallets = Vec::new();
        for address in addresses.unwrap_or_default().into_iter().flatten() {
            wallets.extend(graph.wallet(network.name(), &address)?);
        }
        Ok(wallets)
    };
    let (touched, relabelled) = (wallets(touched)?, wallets(relabelled)?);
    let affected = affected_wallets(&graph, &touched, &relabelled, &mut Interrupts).map_err(SqlError::from)?;
    let mut addresses = Vec::with_capacity(affected.len());
    for wallet in affected {
        addresses.push(graph.address(wallet).map_err(SqlError::from)?.to_owned());
    }
    Ok(SetOfIterator::new(addresses))
}
