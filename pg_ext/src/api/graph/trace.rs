//! Where money went, and where it came from.

use std::collections::{BTreeMap, HashSet};

use arx_core::address::Network;
use arx_core::graph::trace::{End, Ended, Flow, Method, Origin, Sent, Step, Terms, Trace, trace};
use arx_core::graph::{
    AssetId, AssetSelection, EdgeFilter, Graph, MemoryBudget, Side, Status, Transfer, U256, WalletId,
};
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::labels::LabelCache;
use super::question::{Scope, ScopeArguments, at_least_one, or_report, time};
use crate::convert::Wallet;
use crate::error::SqlError;
use crate::guc;
use crate::numeric::SqlNumeric;
use crate::spi::{Sought, transfer_hashes, transfers_of};

/// Rows made at a time.
const ROWS: usize = 1_000;

/// Transfers that can be told apart on no known chain take fewer.
const MAX_HOPS: i32 = 1_000;

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::type_complexity, clippy::too_many_arguments)]
fn trace_funds(
    address: Option<&str>,
    network: Option<&str>,
    tx_hashes: default!(Option<Vec<Option<String>>>, "NULL"),
    direction: default!(Option<&str>, "'forward'"),
    method: default!(Option<&str>, "'haircut'"),
    max_hops: default!(Option<i32>, 5),
    since: default!(Option<TimestampWithTimeZone>, "NULL"),
    until: default!(Option<TimestampWithTimeZone>, "NULL"),
    asset: default!(Option<&str>, "'native'"),
    min_value: default!(Option<AnyNumeric>, "NULL"),
    max_fan_out: default!(Option<i64>, 1000),
    stop_at_services: default!(Option<bool>, true),
    max_nodes: default!(Option<i64>, 10000),
    max_time: default!(Option<Interval>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(hop, Option<i32>),
            name!(from_address, Option<String>),
            name!(to_address, Option<String>),
            name!(tx_hash, Option<String>),
            name!(timestamp, Option<TimestampWithTimeZone>),
            name!(asset, Option<String>),
            name!(amount, Option<SqlNumeric>),
            name!(tainted_amount, Option<SqlNumeric>),
            name!(share, Option<f64>),
            name!(ended_at, Option<String>),
            name!(complete, bool),
            name!(reason, Option<String>),
        ),
    >,
    ErrorReport,
> {
    let arguments = Arguments {
        tx_hashes,
        direction,
        method,
        max_hops,
        scope: ScopeArguments { asset, since, until, min_value, include_failed: Some(false), max_time },
        max_fan_out,
        stop_at_services,
        max_nodes,
    };
    let asked = Asked::parse(address, network, arguments)?;
    let Answer { asked, labels, trace, nothing } = asked.answer()?;
    if let Some(nothing) = nothing {
        let complete = trace.cut.is_none();
        let row = (None, None, None, None, None, None, None, None, None, None, complete, Some(nothing));
        return Ok(TableIterator::once(row));
    }
    let reason = trace.cut.map(|cut| cut.name(asked.flow).to_owned());
    let rows = (0..trace.steps.len()).step_by(ROWS).flat_map(move |start| {
        let end = trace.steps.len().min(start + ROWS);
        or_report(asked.rows(&trace.steps[start..end], &labels, reason.as_deref()))
    });
    Ok(TableIterator::new(rows))
}

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::type_complexity, clippy::too_many_arguments)]
fn trace_summary(
    address: Option<&str>,
    network: Option<&str>,
    tx_hashes: default!(Option<Vec<Option<String>>>, "NULL"),
    direction: default!(Option<&str>, "'forward'"),
    method: default!(Option<&str>, "'haircut'"),
    max_hops: default!(Option<i32>, 5),
    since: default!(Option<TimestampWithTimeZone>, "NULL"),
    until: default!(Option<TimestampWithTimeZone>, "NULL"),
    asset: default!(Option<&str>, "'native'"),
    min_value: default!(Option<AnyNumeric>, "NULL"),
    max_fan_out: default!(Option<i64>, 1000),
    stop_at_services: default!(Option<bool>, true),
    max_nodes: default!(Option<i64>, 10000),
    max_time: default!(Option<Interval>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(address, Option<String>),
            name!(ended_at, Option<String>),
            name!(category, Option<String>),
            name!(label, Option<String>),
            name!(asset, Option<String>),
            name!(amount, Option<SqlNumeric>),
            name!(share, Option<f64>),
            name!(transfers, Option<i64>),
            name!(nearest_hop, Option<i32>),
            name!(first_seen, Option<TimestampWithTimeZone>),
            name!(last_seen, Option<TimestampWithTimeZone>),
            name!(complete, bool),
            name!(reason, Option<String>),
        ),
    >,
    ErrorReport,
> {
    let arguments = Arguments {
        tx_hashes,
        direction,
        method,
        max_hops,
        scope: ScopeArguments { asset, since, until, min_value, include_failed: Some(false), max_time },
        max_fan_out,
        stop_at_services,
        max_nodes,
    };
    let asked = Asked::parse(address, network, arguments)?;
    let Answer { asked, mut labels, trace, nothing } = asked.answer()?;
    if let Some(nothing) = nothing {
        let complete = trace.cut.is_none();
        let row = (None, None, None, None, None, None, None, None, None, None, None, complete, Some(nothing));
        return Ok(TableIterator::once(row));
    }
    let reason = trace.cut.map(|cut| cut.name(asked.flow).to_owned());
    // labels are told wherever funds ended, not only where they made tracing stop
    let wallets: Vec<WalletId> = trace.ends.iter().filter_map(|end| end.wallet).collect();
    labels.look_up(&asked.scope.ready.graph(), &wallets)?;
    let rows = trace.ends.into_iter().map(move |ended| {
        let Ended { wallet, asset, end, amount, hop, transfers, first, last } = ended;
        let known = wallet.and_then(|wallet| labels.of(wallet));
        let row = || -> Result<_, SqlError> {
            let graph = asked.scope.ready.graph();
            let total = trace.origin.iter().find(|(one, _)| *one == asset).map(|(_, total)| total.as_f64());
            Ok((
                wallet.map(|wallet| graph.address(wallet).map(str::to_owned)).transpose()?,
                Some(end.name(asked.flow).to_owned()),
                known.map(|known| known.category.clone()),
                known.map(|known| known.label.clone()).filter(|label| !label.is_empty()),
                Some(asked.scope.asset_name(asset)?),
                Some(Scope::value_of(asset, amount)),
                // poison has no whole that these would be parts of
                total.filter(|_| asked.method != Method::Poison).map(|total| amount.as_f64() / total),
                Some(transfers.cast_signed()),
                Some(hop.cast_signed()),
                Some(time(first)?),
                Some(time(last)?),
                reason.is_none(),
                reason.clone(),
            ))
        };
        or_report(row())
    });
    Ok(TableIterator::new(rows))
}

/// Arguments as they come.
struct Arguments<'a> {
    tx_hashes: Option<Vec<Option<String>>>,
    direction: Option<&'a str>,
    method: Option<&'a str>,
    max_hops: Option<i32>,
    scope: ScopeArguments<'a>,
    max_fan_out: Option<i64>,
    stop_at_services: Option<bool>,
    max_nodes: Option<i64>,
}

/// What a trace begins with.
enum Beginning {
    Wallet(Wallet),
    Transactions(Vec<String>),
}

/// A trace that is asked for.
struct Asked {
    beginning: Beginning,
    scope: Scope,
    flow: Flow,
    method: Method,
    max_hops: u32,
    max_fan_out: Option<u64>,
    max_wallets: Option<u64>,
    stops: bool,
}

/// A trace, with what is known of the wallets at which it stopped.
struct Answer {
    asked: Asked,
    labels: LabelCache,
    trace: Trace,
    /// Why there is nothing to be followed.
    nothing: Option<String>,
}

impl Asked {
    fn parse(address: Option<&str>, network: Option<&str>, arguments: Arguments<'_>) -> Result<Self, SqlError> {
        let required = SqlError::null_argument;
        let beginning = match (address, arguments.tx_hashes) {
            (Some(_), Some(_)) => {
                return Err(SqlError::argument("a trace begins with an address or with tx_hashes, not with both"));
            }
            (None, None) => {
                return Err(required("address").hint("Or name transactions: tx_hashes => ARRAY['...']."));
            }
            (address, None) => Beginning::Wallet(Wallet::parse(address, network)?),
            (None, Some(hashes)) => {
                let hashes: Option<Vec<String>> = hashes.into_iter().collect();
                let hashes = hashes.ok_or_else(|| SqlError::argument("tx_hashes must not hold a null"))?;
                if hashes.is_empty() {
                    return Err(SqlError::argument("tx_hashes must name at least one transaction"));
                }
                Beginning::Transactions(hashes)
            }
        };
        let network = match &beginning {
            Beginning::Wallet(wallet) => wallet.network.clone(),
            Beginning::Transactions(_) => crate::spi::registered_network(network.ok_or_else(|| required("network"))?)?,
        };
        let flow = parse_flow(arguments.direction.ok_or_else(|| required("direction"))?)?;
        let method = parse_method(arguments.method.ok_or_else(|| required("method"))?)?;
        let max_hops = parse_hops(arguments.max_hops.ok_or_else(|| required("max_hops"))?)?;
        let stops = arguments.stop_at_services.ok_or_else(|| required("stop_at_services"))?;
        let max_fan_out = arguments.max_fan_out.map(|most| at_least_one("max_fan_out", most)).transpose()?;
        let max_wallets = arguments.max_nodes.map(|most| at_least_one("max_nodes", most)).transpose()?;
        let scope = Scope::parse(network, arguments.scope)?;
        Ok(Self { beginning, scope, flow, method, max_hops, max_fan_out, max_wallets, stops })
    }

    fn answer(mut self) -> Result<Answer, SqlError> {
        let mut labels = LabelCache::new(&self.scope.network, self.stops);
        let origin = match &self.beginning {
            Beginning::Wallet(wallet) => self.scope.known(wallet)?.map(Origin::Wallet),
            Beginning::Transactions(hashes) => Some(Origin::Transfers(self.named(hashes)?)),
        };
        let Some(origin) = origin else {
            let trace = Trace { steps: Vec::new(), ends: Vec::new(), origin: Vec::new(), cut: None };
            return Ok(Answer { asked: self, labels, trace, nothing: Some("wallet has no transaction".to_owned()) });
        };
        let filter = self.scope.filter;
        let terms = Terms {
            flow: self.flow,
            method: self.method,
            assets: filter.assets,
            since: filter.since,
            until: filter.until,
            max_hops: self.max_hops,
            min_value: filter.min_value,
            max_fan_out: self.max_fan_out,
            max_wallets: self.max_wallets,
            memory: MemoryBudget::new(guc::graph_work_mem()),
        };
        let trace = {
            let Scope { ready, deadline, .. } = &mut self.scope;
            trace(&ready.graph(), &origin, &terms, &mut labels, deadline)?
        };
        let nothing = trace.steps.is_empty().then(|| match (trace.cut, self.flow) {
            (Some(cut), _) => cut.name(self.flow).to_owned(),
            (None, Flow::Forward) => "wallet sent nothing of the asset in the window".to_owned(),
            (None, Flow::Backward) => "wallet received nothing of the asset in the window".to_owned(),
        });
        Ok(Answer { asked: self, labels, trace, nothing })
    }

    /// The transfers of transactions that were named.
    fn named(&self, hashes: &[String]) -> Result<Vec<Sent>, SqlError> {
        let (scope, network) = (&self.scope, &self.scope.network);
        let graph = scope.ready.graph();
        let filter = scope.filter;
        let (mut sought, mut moving) = (Vec::new(), HashSet::new());
        transfers_of(network, hashes, scope.has_tokens(), |hash, transfer| {
            let asset = match &transfer.token {
                None => Some(AssetId::NATIVE),
                Some(token) => graph.asset(network.name(), token)?,
            };
            // a token that the graph does not have yet may be among several, it is not the one that was named
            let counts = asset.map_or(!filter.assets.is_single(), |asset| filter.assets.contains(asset));
            if counts && transfer.value > U256::ZERO && transfer.status != Status::Failed {
                let early = filter.since.is_some_and(|since| transfer.time < since);
                if early || filter.until.is_some_and(|until| transfer.time >= until) {
                    return Err(SqlError::argument(format!("transaction \"{hash}\" is outside of since and until")));
                }
                moving.insert(hash.to_owned());
                sought.push((hash.to_owned(), transfer));
            }
            Ok(())
        })?;
        if let Some(idle) = hashes.iter().find(|hash| !moving.contains(*hash)) {
            return Err(SqlError::argument(format!(
                "transaction \"{idle}\" moved nothing of the asset on network {}",
                network.name()
            ))
            .hint(
                "It is unknown, it failed, or it is about another asset: see arx.transactions and arx.token_transfers.",
            ));
        }
        behind(&graph, network, sought)
    }

    /// Rows of some steps.
    #[allow(clippy::type_complexity)]
    fn rows(
        &self,
        steps: &[Step],
        labels: &LabelCache,
        reason: Option<&str>,
    ) -> Result<
        Vec<(
            Option<i32>,
            Option<String>,
            Option<String>,
            Option<String>,
            Option<TimestampWithTimeZone>,
            Option<String>,
            Option<SqlNumeric>,
            Option<SqlNumeric>,
            Option<f64>,
            Option<String>,
            bool,
            Option<String>,
        )>,
        SqlError,
    > {
        let graph = self.scope.ready.graph();
        let sought = steps.iter().map(|step| {
            let Step { from, to, asset, time, position, status, amount, number, .. } = *step;
            Sought::sent(&graph, from, &Transfer { number, peer: to, asset, time, value: amount, position, status })
        });
        let sought = sought.collect::<Result<Vec<Sought>, _>>()?;
        let hashes = transfer_hashes(&self.scope.network, &sought)?;
        let rows = steps.iter().zip(sought).zip(hashes).map(|((step, transfer), hash)| {
            let arrived = if self.flow == Flow::Forward { step.to } else { Some(step.from) };
            let category = arrived.and_then(|wallet| labels.of(wallet)).and_then(|known| known.custody.as_deref());
            let ended = step.end.map(|end| match category {
                Some(category) if end == End::Stop => format!("service: {category}"),
                _ => end.name(self.flow).to_owned(),
            });
            Ok((
                Some(step.hop.cast_signed()),
                Some(transfer.from),
                transfer.to,
                hash,
                Some(time(step.time)?),
                Some(self.scope.asset_name(step.asset)?),
                Some(Scope::value_of(step.asset, step.amount)),
                Some(Scope::value_of(step.asset, step.tainted)),
                Some(step.tainted.as_f64() / step.amount.as_f64()),
                ended,
                reason.is_none(),
                reason.map(str::to_owned),
            ))
        });
        rows.collect()
    }
}

/// The transfers of the graph behind rows. Of those that nothing tells apart one is as good as another, once.
fn behind(graph: &Graph<'_>, network: &Network, rows: Vec<(String, Sought)>) -> Result<Vec<Sent>, SqlError> {
    // what a wallet sent at one time is looked at together
    let mut moments: BTreeMap<(String, i64), Vec<(String, Sought)>> = BTreeMap::new();
    for (hash, row) in rows {
        moments.entry((row.from.clone(), row.time)).or_default().push((hash, row));
    }
    let mut found = Vec::new();
    for ((sender, time), mut rows) in moments {
        check_for_interrupts!();
        if let Some(from) = graph.wallet(network.name(), &sender)? {
            let (since, until) = (Some(time), time.checked_add(1));
            let moment = EdgeFilter { assets: AssetSelection::All, since, until, ..EdgeFilter::default() };
            graph.counted_transfers(from, Side::Out, &moment, |transfer| -> Result<(), SqlError> {
                check_for_interrupts!();
                let one = Sought::sent(graph, from, &transfer)?;
                if let Some(place) = rows.iter().position(|(_, row)| *row == one) {
                    rows.swap_remove(place);
                    found.push(Sent { from, transfer });
                }
                Ok(())
            })?;
        }
        if let Some((hash, _)) = rows.first() {
            return Err(SqlError::argument(format!("transaction \"{hash}\" is not in the graph yet"))
                .hint("arx.graph_freshness is base: SELECT * FROM arx.refresh_graph() brings the graph up to date."));
        }
    }
    Ok(found)
}

fn parse_flow(name: &str) -> Result<Flow, SqlError> {
    match name.to_ascii_lowercase().as_str() {
        "forward" => Ok(Flow::Forward),
        "backward" => Ok(Flow::Backward),
        _ => Err(SqlError::argument(format!("direction must be forward or backward, not \"{name}\""))),
    }
}

fn parse_method(name: &str) -> Result<Method, SqlError> {
    let found = Method::ALL.into_iter().find(|method| method.name().eq_ignore_ascii_case(name));
    found.ok_or_else(|| {
        SqlError::argument(format!("method must be poison, haircut, fifo, lifo or tiho, not \"{name}\""))
    })
}

fn parse_hops(hops: i32) -> Result<u32, SqlError> {
    u32::try_from(hops)
        .ok()
        .filter(|_| (1..=MAX_HOPS).contains(&hops))
        .ok_or_else(|| SqlError::argument(format!("max_hops must be between 1 and {MAX_HOPS}, not {hops}")))
}
