//! Neighbourhood of a wallet as a drawing in the DOT language.

use std::collections::HashMap;

use arx_core::graph::dot::{Unit, render};
use arx_core::graph::neighbourhood;
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::request::{NO_TRANSACTION, ScopeArguments, Traversal, TraversalArguments};
use crate::api::call::call;
use crate::arguments::{Wallet, at_least_one};
use crate::error::SqlError;
use crate::graph_store::Interrupts;
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
    include_failed: default!(Option<bool>, false),
    max_nodes: default!(Option<i64>, 100),
    max_time: default!(Option<Interval>, "NULL"),
) -> Result<String, ErrorReport> {
    call(|| {
        let wallet = Wallet::parse(address, network)?;
        let fold_above = at_least_one("fold_above", fold_above)?;
        let scope = ScopeArguments { asset, since, until, min_value, include_failed, max_time };
        let arguments = TraversalArguments { scope, max_depth, direction, min_strength, max_nodes };
        let traversal = Traversal::parse(wallet.network.clone(), arguments)?;
        Ok(traversal.draw(&wallet, fold_above)?)
    })
}

impl Traversal {
    fn draw(&self, wallet: &Wallet, fold_above: u64) -> Result<String, SqlError> {
        let Some(source) = self.scope.resolve(wallet)? else {
            return Ok(format!("// {NO_TRANSACTION}\ndigraph arx {{\n}}\n"));
        };
        let fold_above = usize::try_from(fold_above).unwrap_or(usize::MAX);
        let (graph, mut deadline) = (self.scope.handle.graph(), self.scope.deadline);
        let filter = &self.scope.filter;
        let shown = neighbourhood(&graph, source, self.direction, filter, fold_above, &self.limits, &mut deadline)?;
        let mut addresses = Vec::with_capacity(shown.wallets.len());
        for wallet in &shown.wallets {
            addresses.push(graph.address(wallet.wallet)?.to_owned());
        }
        let wallets = shown.wallets.iter().map(|shown| shown.wallet);
        let descriptions: HashMap<_, _> = wallets.zip(describe_wallets(&wallet.network, &addresses)?).collect();
        let describe = |wallet| descriptions.get(&wallet).cloned().unwrap_or_default();
        let unit = self.scope.unit()?;
        let unit = unit.as_ref().map(|(name, decimals)| Unit { name, decimals: *decimals });
        Ok(render(&shown, describe, unit, &mut Interrupts))
    }
}
