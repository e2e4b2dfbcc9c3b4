//! A wallet's neighbourhood as a drawing.

use std::collections::HashMap;

use arx_core::graph::dot::{Description, Unit, render};
use arx_core::graph::{WalletId, neighbourhood};
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::question::{Arguments, Question, Scope, ScopeArguments};
use crate::convert::Wallet;
use crate::error::SqlError;
use crate::spi::describe_wallets;

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::too_many_arguments)]
fn wallet_graph_dot(
    address: Option<&str>,
    network: Option<&str>,
    max_depth: default!(Option<i32>, 2),
    direction: default!(Option<&str>, "'both'"),
    asset: default!(Option<&str>, "'native'"),
    since: default!(Option<TimestampWithTimeZone>, "NULL"),
    until: default!(Option<TimestampWithTimeZone>, "NULL"),
    min_value: default!(Option<AnyNumeric>, "NULL"),
    min_strength: default!(Option<i64>, 1),
    fold_above: default!(Option<i32>, 8),
    include_failed: default!(Option<bool>, true),
    max_nodes: default!(Option<i64>, 100),
    max_time: default!(Option<Interval>, "NULL"),
) -> Result<String, ErrorReport> {
    let wallet = Wallet::parse(address, network)?;
    let fold_above = fold_above.ok_or_else(|| SqlError::null_argument("fold_above"))?;
    let fold_above = usize::try_from(fold_above)
        .ok()
        .filter(|most| *most >= 1)
        .ok_or_else(|| SqlError::argument(format!("fold_above must be at least 1, not {fold_above}")))?;
    let scope = ScopeArguments { asset, since, until, min_value, include_failed, max_time };
    let arguments = Arguments { scope, max_depth, direction, min_strength, max_nodes };
    let mut question = Question::parse(wallet.network.clone(), arguments)?;
    let Some(source) = question.scope.known(&wallet)? else {
        return Ok("// wallet has no transaction\ndigraph arx {\n}\n".to_owned());
    };
    let found = {
        let Question { scope: Scope { ready, filter, deadline, .. }, direction, limits } = &mut question;
        let graph = ready.graph();
        neighbourhood(&graph, source, *direction, filter, fold_above, limits, deadline).map_err(SqlError::from)?
    };
    let graph = question.scope.ready.graph();
    let mut addresses = Vec::with_capacity(found.wallets.len());
    for shown in &found.wallets {
        addresses.push(graph.address(shown.wallet).map_err(SqlError::from)?.to_owned());
    }
    let descriptions = describe_wallets(&wallet.network, &addresses)?;
    let numbers = found.wallets.iter().map(|shown| shown.wallet);
    let known: HashMap<WalletId, Description> = numbers.zip(descriptions).collect();
    let describe = |wallet| {
        check_for_interrupts!();
        known.get(&wallet).cloned().unwrap_or_default()
    };
    let unit = question.scope.unit()?;
    let unit = unit.as_ref().map(|(name, decimals)| Unit { name, decimals: *decimals });
    Ok(render(&found, describe, unit))
}
