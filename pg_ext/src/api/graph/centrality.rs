//! Who matters in a network.

use arx_core::graph::MemoryBudget;
use arx_core::graph::centrality::{Centrality, CentralityQuestion, Effort, Measure, Wanted, centrality};
use pgrx::JsonB;
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::{Value, json};

use super::question::{Scope, ScopeArguments, at_least_one};
use crate::convert::Wallet;
use crate::error::SqlError;
use crate::guc;
use crate::spi::registered_network;

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::type_complexity, clippy::too_many_arguments)]
fn wallet_centrality(
    network: Option<&str>,
    measure: default!(Option<&str>, "'pagerank'"),
    top: default!(Option<i32>, 100),
    wallet: default!(Option<&str>, "NULL"),
    since: default!(Option<TimestampWithTimeZone>, "NULL"),
    until: default!(Option<TimestampWithTimeZone>, "NULL"),
    asset: default!(Option<&str>, "'native'"),
    min_value: default!(Option<AnyNumeric>, "NULL"),
    options: default!(Option<JsonB>, "'{}'"),
    max_time: default!(Option<Interval>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(wallet, String),
            name!(measure, String),
            name!(score, f64),
            name!(rank, i64),
            name!(in_degree, i64),
            name!(out_degree, i64),
            name!(details, JsonB),
            name!(complete, bool),
            name!(reason, Option<String>),
        ),
    >,
    ErrorReport,
> {
    let required = SqlError::null_argument;
    let of_network = registered_network(network.ok_or_else(|| required("network"))?)?;
    let options = options.ok_or_else(|| required("options"))?;
    let measure = Measure::parse(measure.ok_or_else(|| required("measure"))?, &options.0).map_err(SqlError::from)?;
    let top = at_least_one("top", i64::from(top.ok_or_else(|| required("top"))?))?;
    let asked = wallet.map(|wallet| Wallet::parse_argument("wallet", Some(wallet), network)).transpose()?;
    let scope = ScopeArguments { asset, since, until, min_value, include_failed: Some(false), max_time };
    let mut scope = Scope::parse(of_network, scope)?;
    let wanted = match &asked {
        Some(wallet) => match scope.known(wallet)? {
            Some(wallet) => Wanted::Wallet(wallet),
            None => return Ok(TableIterator::empty()),
        },
        // of an integer
        None => Wanted::Top(top as usize),
    };
    let answer = {
        let Scope { ready, network, filter, deadline, .. } = &mut scope;
        let question = CentralityQuestion {
            network: network.name(),
            measure,
            filter: *filter,
            wanted,
            memory: MemoryBudget::new(guc::graph_work_mem()),
        };
        centrality(&ready.graph(), &question, deadline).map_err(SqlError::from)?
    };
    match (answer.halted, asked) {
        _ if !answer.found.is_empty() => {}
        (Some(halt), _) => notice!("the search stopped early: {}", halt.name()),
        (None, Some(wallet)) => notice!("wallet {} has no transfer that counts", wallet.address.as_str()),
        (None, None) => {}
    }
    let (details, reason) = (details(&answer), answer.shortfall().map(str::to_owned));
    let graph = scope.ready.graph();
    let mut rows = Vec::with_capacity(answer.found.len());
    for one in &answer.found {
        rows.push((
            graph.address(one.wallet).map_err(SqlError::from)?.to_owned(),
            measure.name().to_owned(),
            one.score,
            one.rank.cast_signed(),
            i64::from(one.in_degree),
            i64::from(one.out_degree),
            JsonB(details.clone()),
            reason.is_none(),
            reason.clone(),
        ));
    }
    Ok(TableIterator::new(rows))
}

/// How the scores came about.
fn details(answer: &Centrality) -> Value {
    let (wallets, pairs) = (answer.wallets, answer.pairs);
    match answer.effort {
        Effort::Counted => json!({"wallets": wallets, "pairs": pairs}),
        Effort::Iterated { rounds, change, converged } => {
            json!({"wallets": wallets, "pairs": pairs, "iterations": rounds, "change": change, "converged": converged})
        }
        Effort::Sampled { pivots } => json!({"wallets": wallets, "pairs": pairs, "pivots": pivots}),
    }
}
