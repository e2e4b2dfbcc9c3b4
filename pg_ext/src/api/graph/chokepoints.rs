//! Wallets that every path from a wallet to others must cross.

use arx_core::graph::chokepoints::{Chokepoints, chokepoints};
use arx_core::graph::{Direction, Side};
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::request::{NO_TRANSACTION, ScopeArguments, Traversal, TraversalArguments, reason};
use crate::api::call::call;
use crate::api::row::sql_row;
use crate::arguments::{TextArray, Wallet, direction as parse_direction};
use crate::error::SqlError;
use crate::spi::{label_categories, labels_of, with_categories};

sql_row! {
    #[derive(Default)]
    struct ChokepointRow {
        wallet: Option<String>,
        depth: Option<i32>,
        targets: Option<i64>,
        reached_targets: i64,
        category: Option<String>,
        complete: bool,
        reason: Option<String>,
    }
}

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::type_complexity, clippy::too_many_arguments)]
fn wallet_chokepoints(
    source: Option<&str>,
    targets: Option<TextArray<'_>>,
    network: Option<&str>,
    category: default!(Option<&str>, "NULL"),
    max_depth: default!(Option<i32>, 6),
    direction: default!(Option<&str>, "'out'"),
    asset: default!(Option<&str>, "'native'"),
    since: default!(Option<TimestampWithTimeZone>, "NULL"),
    until: default!(Option<TimestampWithTimeZone>, "NULL"),
    min_value: default!(Option<AnyNumeric>, "NULL"),
    min_strength: default!(Option<i64>, 1),
    include_failed: default!(Option<bool>, false),
    max_nodes: default!(Option<i64>, 100000),
    max_time: default!(Option<Interval>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(wallet, Option<String>),
            name!(depth, Option<i32>),
            name!(targets, Option<i64>),
            name!(reached_targets, i64),
            name!(category, Option<String>),
            name!(complete, bool),
            name!(reason, Option<String>),
        ),
    >,
    ErrorReport,
> {
    call(|| {
        let source = Wallet::parse_named("source", source, network)?;
        let side = match parse_direction(direction)? {
            Direction::Out => Side::Out,
            Direction::In => Side::In,
            Direction::Both => return Err(SqlError::argument("direction must be out or in, not both").into()),
        };
        let targets = Targets::parse(targets, category, &source)?;
        let scope = ScopeArguments { asset, since, until, min_value, include_failed, max_time };
        let arguments = TraversalArguments { scope, max_depth, direction, min_strength, max_nodes };
        let traversal = Traversal::parse(source.network.clone(), arguments)?;
        let rows = ChokepointRequest { traversal, source, targets, side }.rows()?;
        Ok(TableIterator::new(rows.into_iter().map(ChokepointRow::into_row)))
    })
}

/// Wallets that paths lead to.
enum Targets {
    Wallets(Vec<Wallet>),
    /// Every wallet with a label of the category.
    Category(String),
}

impl Targets {
    fn parse(targets: Option<TextArray<'_>>, category: Option<&str>, source: &Wallet) -> Result<Self, SqlError> {
        match (targets, category) {
            (Some(targets), None) => {
                let mut wallets = Vec::new();
                for target in targets.elements("targets")? {
                    wallets.push(source.parse_other("targets", target)?);
                }
                if wallets.is_empty() {
                    return Err(SqlError::argument("targets must not be empty"));
                }
                Ok(Self::Wallets(wallets))
            }
            (None, Some(category)) => {
                let known = label_categories()?;
                match known.iter().find(|(known, _)| known.eq_ignore_ascii_case(category)) {
                    Some((known, _)) => Ok(Self::Category(known.clone())),
                    None => {
                        let names: Vec<&str> = known.iter().map(|(known, _)| known.as_str()).collect();
                        Err(SqlError::argument(format!("category \"{category}\" is not in arx.label_categories"))
                            .hint(format!("Categories are {}.", names.join(", "))))
                    }
                }
            }
            (None, None) => Err(SqlError::argument("targets or category must be given")),
            (Some(_), Some(_)) => Err(SqlError::argument("targets and category must not both be given")),
        }
    }
}

struct ChokepointRequest {
    traversal: Traversal,
    source: Wallet,
    targets: Targets,
    side: Side,
}

impl ChokepointRequest {
    fn rows(&self) -> Result<Vec<ChokepointRow>, SqlError> {
        let Traversal { scope, limits, .. } = &self.traversal;
        let none = |complete, reached_targets, reason: String| {
            Ok(vec![ChokepointRow { reached_targets, complete, reason: Some(reason), ..ChokepointRow::default() }])
        };
        let Some(source) = scope.resolve(&self.source)? else { return none(true, 0, NO_TRANSACTION.to_owned()) };
        let (graph, network) = (scope.handle.graph(), &scope.network);
        let mut targets = Vec::new();
        match &self.targets {
            Targets::Wallets(wallets) => {
                for wallet in wallets {
                    targets.extend(scope.resolve(wallet)?);
                }
            }
            Targets::Category(category) => with_categories(network, &[category], |address| {
                targets.extend(graph.wallet(network.name(), address)?);
                Ok(())
            })?,
        }
        let mut deadline = scope.deadline;
        let filter = &scope.filter;
        let answer = chokepoints(&graph, source, &targets, self.side, filter, limits, &mut deadline)?;
        let Chokepoints { found, reached, halted } = answer;
        let reached = reached.cast_signed();
        if let Some(reason) = reason(halted) {
            return none(false, 0, reason);
        }
        if reached == 0 {
            return none(true, 0, format!("no target is connected within {} hops", limits.max_depth));
        }
        if found.is_empty() {
            return none(true, reached, "no wallet is on every path to a target".to_owned());
        }
        let addresses = found.iter().map(|one| graph.address(one.wallet)).collect::<Result<Vec<&str>, _>>()?;
        let mut categories: Vec<Option<String>> = vec![None; found.len()];
        labels_of(network, &addresses, |index, label| {
            if let Some(category) = categories.get_mut(index) {
                *category = Some(label.category);
            }
            Ok(())
        })?;
        let mut rows = Vec::with_capacity(found.len());
        for ((chokepoint, address), category) in found.iter().zip(addresses).zip(categories) {
            rows.push(ChokepointRow {
                wallet: Some(address.to_owned()),
                // Depths up to 32, and counts of wallets.
                depth: Some(chokepoint.depth.cast_signed()),
                targets: Some(chokepoint.targets.cast_signed()),
                reached_targets: reached,
                category,
                complete: true,
                reason: None,
            });
        }
        Ok(rows)
    }
}
