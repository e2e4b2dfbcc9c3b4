//! Centrality of the wallets of a network.

use arx_core::graph::MemoryBudget;
use arx_core::graph::centrality::{Centrality, CentralityQuestion, Effort, Measure, Wanted, centrality};
use pgrx::JsonB;
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::{Value, json};

use super::request::{Scope, ScopeArguments, notice_if_stopped};
use crate::api::call::call;
use crate::api::row::sql_row;
use crate::arguments::{JsonArgument, Wallet, at_least_one, registered_network, required};
use crate::error::SqlError;
use crate::guc;

sql_row! {
    struct CentralityRow {
        wallet: String,
        measure: String,
        score: f64,
        rank: i64,
        in_degree: i64,
        out_degree: i64,
        details: JsonB,
        complete: bool,
        reason: Option<String>,
    }
}

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
    options: default!(Option<JsonArgument<'_>>, "'{}'"),
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
    call(|| {
        let registered = registered_network(network)?;
        let measure = parse_measure(measure, options)?;
        let top = at_least_one("top", top)?;
        let wallet = wallet.map(|wallet| Wallet::parse_named("wallet", Some(wallet), network)).transpose()?;
        let scope = ScopeArguments { asset, since, until, min_value, include_failed: Some(false), max_time };
        let request = CentralityRequest { measure, top, wallet, scope: Scope::parse(registered, scope)? };
        Ok(TableIterator::new(request.rows()?.into_iter().map(CentralityRow::into_row)))
    })
}

fn parse_measure(name: Option<&str>, options: Option<JsonArgument<'_>>) -> Result<Measure, SqlError> {
    let options = required("options", options)?.parse("options")?;
    Ok(Measure::parse(required("measure", name)?, &options)?)
}

struct CentralityRequest {
    scope: Scope,
    measure: Measure,
    top: u64,
    /// Restricts the answer to one wallet.
    wallet: Option<Wallet>,
}

impl CentralityRequest {
    fn rows(&self) -> Result<Vec<CentralityRow>, SqlError> {
        let wanted = match &self.wallet {
            Some(wallet) => match self.scope.resolve(wallet)? {
                Some(wallet) => Wanted::Wallet(wallet),
                None => return Ok(Vec::new()),
            },
            None => Wanted::Top(usize::try_from(self.top).unwrap_or(usize::MAX)),
        };
        let question = CentralityQuestion {
            network: self.scope.network.name(),
            measure: self.measure,
            filter: self.scope.filter,
            wanted,
            memory: MemoryBudget::new(guc::graph_work_mem()),
        };
        let (graph, mut deadline) = (self.scope.handle.graph(), self.scope.deadline);
        let answer = centrality(&graph, &question, &mut deadline)?;
        notice_if_stopped(answer.halted, answer.found.is_empty());
        if let (Some(wallet), None, true) = (&self.wallet, answer.halted, answer.found.is_empty()) {
            notice!("wallet {} has no transfer that counts", wallet.address.as_str());
        }
        let (details, reason) = (details(&answer), answer.shortfall().map(str::to_owned));
        let mut rows = Vec::with_capacity(answer.found.len());
        for ranked in &answer.found {
            rows.push(CentralityRow {
                wallet: graph.address(ranked.wallet)?.to_owned(),
                measure: self.measure.name().to_owned(),
                score: ranked.score,
                rank: ranked.rank.cast_signed(),
                in_degree: i64::from(ranked.in_degree),
                out_degree: i64::from(ranked.out_degree),
                details: JsonB(details.clone()),
                complete: reason.is_none(),
                reason: reason.clone(),
            });
        }
        Ok(rows)
    }
}

/// Returns the size of the graph that was ranked, and the effort that the measure took.
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
