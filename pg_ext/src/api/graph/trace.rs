//! Traces of funds: where money went, and where it came from.

use std::collections::{BTreeMap, HashSet};

use arx_core::address::Network;
use arx_core::graph::exposure::Heading;
use arx_core::graph::trace::{
    End, EndedAmount, Flow, SentTransfer, Shortfall, TaintMethod, Terms, Trace, TraceOrigin, TraceStep, trace,
};
use arx_core::graph::{
    AssetId, AssetSelection, EdgeFilter, Graph, MemoryBudget, Side, Status, Transfer, U256, Unvalued, WalletId,
};
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::labels::LabelCache;
use super::request::{NO_PRICE, Scope, ScopeArguments, unvalued_name, unvalued_reason};
use crate::api::call::call;
use crate::api::row::sql_row;
use crate::arguments::{TextArray, Wallet, optional_limit, registered_network, required};
use crate::error::{SqlError, or_report};
use crate::guc;
use crate::numeric::SqlNumeric;
use crate::spi::{TransferHashes, TransferKey, transfers_of};
use crate::time::from_micros;

/// Rows made at a time.
const ROWS_PER_BATCH: usize = 1_000;

/// Transfers that are followed once less than `min_share` is moving; they take some tens of
/// milliseconds.
const LATE_STEPS: usize = 10_000;

/// Larger than any trace can use.
const MAX_HOPS: i32 = 1_000;

sql_row! {
    #[derive(Default)]
    struct TraceStepRow {
        hop: Option<i32>,
        from_address: Option<String>,
        to_address: Option<String>,
        tx_hash: Option<String>,
        timestamp: Option<TimestampWithTimeZone>,
        asset: Option<String>,
        amount: Option<SqlNumeric>,
        tainted_amount: Option<SqlNumeric>,
        share: Option<f64>,
        ended_at: Option<String>,
        complete: bool,
        reason: Option<String>,
        order_inferred: bool,
        shortfall: Option<SqlNumeric>,
    }
}

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::type_complexity, clippy::too_many_arguments)]
fn trace_funds(
    address: Option<&str>,
    network: Option<&str>,
    tx_hashes: default!(Option<TextArray<'_>>, "NULL"),
    direction: default!(Option<&str>, "'forward'"),
    method: default!(Option<&str>, "'haircut'"),
    max_hops: default!(Option<i32>, 20),
    since: default!(Option<TimestampWithTimeZone>, "NULL"),
    until: default!(Option<TimestampWithTimeZone>, "NULL"),
    asset: default!(Option<&str>, "'native'"),
    min_value: default!(Option<AnyNumeric>, "NULL"),
    max_fan_out: default!(Option<i64>, 100000),
    stop_at_services: default!(Option<bool>, true),
    max_nodes: default!(Option<i64>, 100000),
    max_time: default!(Option<Interval>, "NULL"),
    min_share: default!(Option<f64>, 0.01),
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
            name!(order_inferred, bool),
            name!(shortfall, Option<SqlNumeric>),
        ),
    >,
    ErrorReport,
> {
    call(|| {
        let scope = ScopeArguments { asset, since, until, min_value, include_failed: Some(false), max_time };
        let limits = TraceLimits { max_hops, max_fan_out, max_nodes, min_share };
        let arguments =
            TraceArguments { address, network, tx_hashes, direction, method, limits, stop_at_services, scope };
        let mut traced = match TraceRequest::parse(arguments)?.answer()? {
            TraceOutcome::Traced(traced) => traced,
            TraceOutcome::Nothing { complete, reason } => {
                let row = TraceStepRow { complete, reason: Some(reason), ..TraceStepRow::default() };
                return Ok(TableIterator::once(row.into_row()));
            }
        };
        let mut rows = or_report(traced.shortfall_rows());
        rows.extend(or_report(traced.unvalued_rows()));
        let steps = (0..traced.trace.steps.len())
            .step_by(ROWS_PER_BATCH)
            .flat_map(move |start| or_report(traced.step_rows(start)).into_iter().map(TraceStepRow::into_row));
        Ok(TableIterator::new(steps.chain(rows.into_iter().map(TraceStepRow::into_row))))
    })
}

sql_row! {
    #[derive(Default)]
    struct EndRow {
        address: Option<String>,
        ended_at: Option<String>,
        category: Option<String>,
        label: Option<String>,
        asset: Option<String>,
        amount: Option<SqlNumeric>,
        share: Option<f64>,
        transfers: Option<i64>,
        nearest_hop: Option<i32>,
        first_seen: Option<TimestampWithTimeZone>,
        last_seen: Option<TimestampWithTimeZone>,
        complete: bool,
        reason: Option<String>,
        order_inferred: bool,
        shortfall: Option<SqlNumeric>,
    }
}

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::type_complexity, clippy::too_many_arguments)]
fn trace_summary(
    address: Option<&str>,
    network: Option<&str>,
    tx_hashes: default!(Option<TextArray<'_>>, "NULL"),
    direction: default!(Option<&str>, "'forward'"),
    method: default!(Option<&str>, "'haircut'"),
    max_hops: default!(Option<i32>, 20),
    since: default!(Option<TimestampWithTimeZone>, "NULL"),
    until: default!(Option<TimestampWithTimeZone>, "NULL"),
    asset: default!(Option<&str>, "'native'"),
    min_value: default!(Option<AnyNumeric>, "NULL"),
    max_fan_out: default!(Option<i64>, 100000),
    stop_at_services: default!(Option<bool>, true),
    max_nodes: default!(Option<i64>, 100000),
    max_time: default!(Option<Interval>, "NULL"),
    min_share: default!(Option<f64>, 0.01),
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
            name!(order_inferred, bool),
            name!(shortfall, Option<SqlNumeric>),
        ),
    >,
    ErrorReport,
> {
    call(|| {
        let scope = ScopeArguments { asset, since, until, min_value, include_failed: Some(false), max_time };
        let limits = TraceLimits { max_hops, max_fan_out, max_nodes, min_share };
        let arguments =
            TraceArguments { address, network, tx_hashes, direction, method, limits, stop_at_services, scope };
        let traced = match TraceRequest::parse(arguments)?.answer()? {
            TraceOutcome::Traced(traced) => traced.with_labels_of_ends()?,
            TraceOutcome::Nothing { complete, reason } => {
                let row = EndRow { complete, reason: Some(reason), ..EndRow::default() };
                return Ok(TableIterator::once(row.into_row()));
            }
        };
        let (ends, shortfalls) = (traced.trace.ends.len(), traced.trace.shortfalls.len());
        let rows = (0..ends + shortfalls + traced.trace.unvalued.len()).filter_map(move |index| {
            let trace = &traced.trace;
            let row = match (trace.ends.get(index), trace.shortfalls.get(index.saturating_sub(ends))) {
                (Some(end), _) => traced.end_row(end),
                (None, Some(shortfall)) => traced.shortfall_row(shortfall),
                (None, None) => traced.unvalued_row(trace.unvalued.get(index - ends - shortfalls)?),
            };
            Some(or_report(row).into_row())
        });
        Ok(TableIterator::new(rows))
    })
}

/// Arguments of a trace, as given.
struct TraceArguments<'a> {
    address: Option<&'a str>,
    network: Option<&'a str>,
    tx_hashes: Option<TextArray<'a>>,
    direction: Option<&'a str>,
    method: Option<&'a str>,
    limits: TraceLimits,
    stop_at_services: Option<bool>,
    scope: ScopeArguments<'a>,
}

struct TraceLimits {
    max_hops: Option<i32>,
    max_fan_out: Option<i64>,
    max_nodes: Option<i64>,
    min_share: Option<f64>,
}

/// The start of a trace.
enum TraceStart {
    Wallet(Wallet),
    Transactions(Vec<String>),
}

impl TraceStart {
    fn parse(address: Option<&str>, network: Option<&str>, tx_hashes: Option<TextArray<'_>>) -> Result<Self, SqlError> {
        match (address, tx_hashes) {
            (Some(_), Some(_)) => Err(SqlError::argument("address and tx_hashes must not both be specified")),
            (None, None) => Err(SqlError::null_argument("address")
                .hint("To trace transactions instead, specify tx_hashes => ARRAY['...'].")),
            (address, None) => Ok(Self::Wallet(Wallet::parse(address, network)?)),
            (None, Some(hashes)) => {
                let hashes: Option<Vec<&str>> = hashes.elements("tx_hashes")?.into_iter().collect();
                let hashes = hashes.ok_or_else(|| SqlError::argument("tx_hashes must not contain null"))?;
                if hashes.is_empty() {
                    return Err(SqlError::argument("tx_hashes must name at least one transaction"));
                }
                Ok(Self::Transactions(hashes.into_iter().map(str::to_owned).collect()))
            }
        }
    }
}

struct TraceRequest {
    start: TraceStart,
    scope: Scope,
    flow: Flow,
    method: TaintMethod,
    max_hops: u32,
    max_fan_out: Option<u64>,
    max_wallets: Option<u64>,
    /// In millionths.
    min_share: u32,
    stop_at_services: bool,
}

/// The answer to a request.
enum TraceOutcome {
    Traced(Box<Traced>),
    /// Nothing was to be followed.
    Nothing {
        complete: bool,
        reason: String,
    },
}

/// A trace, with the labels of the wallets at which it stopped.
struct Traced {
    request: TraceRequest,
    labels: LabelCache,
    trace: Trace,
    hashes: TransferHashes,
    /// Reason for an incomplete trace.
    reason: Option<String>,
}

impl TraceRequest {
    fn parse(arguments: TraceArguments<'_>) -> Result<Self, SqlError> {
        let start = TraceStart::parse(arguments.address, arguments.network, arguments.tx_hashes)?;
        let network = match &start {
            TraceStart::Wallet(wallet) => wallet.network.clone(),
            TraceStart::Transactions(_) => registered_network(arguments.network)?,
        };
        let flow = parse_flow(arguments.direction)?;
        let method = parse_method(arguments.method)?;
        let max_hops = parse_max_hops(arguments.limits.max_hops)?;
        let stop_at_services = required("stop_at_services", arguments.stop_at_services)?;
        let max_fan_out = optional_limit("max_fan_out", arguments.limits.max_fan_out)?;
        let max_wallets = optional_limit("max_nodes", arguments.limits.max_nodes)?;
        let min_share = parse_min_share(arguments.limits.min_share)?;
        let scope = Scope::parse_for_funds(network, arguments.scope)?;
        Ok(Self { start, scope, flow, method, max_hops, max_fan_out, max_wallets, min_share, stop_at_services })
    }

    fn answer(self) -> Result<TraceOutcome, SqlError> {
        let mut hashes = TransferHashes::new(&self.scope.network);
        let mut without_value = 0;
        let origin = match &self.start {
            TraceStart::Wallet(wallet) => match self.scope.resolve(wallet)? {
                Some(wallet) => TraceOrigin::Wallet(wallet),
                None => {
                    let (complete, reason) = self.scope.no_transaction(wallet.address.as_str())?;
                    return Ok(TraceOutcome::Nothing { complete, reason });
                }
            },
            TraceStart::Transactions(named) => {
                let mut transfers = self.transfers_of(named, &mut hashes)?;
                without_value = self.show_in_basket(&mut transfers)?;
                TraceOrigin::Transfers(transfers)
            }
        };
        let mut labels = LabelCache::new(&self.scope.network, self.stop_at_services);
        let mut deadline = self.scope.deadline;
        let trace = trace(&self.scope.graph(), &origin, &self.terms(), &mut labels, &mut deadline)?;
        let mut reasons = cut_reasons(&trace.cuts(), &trace.origin, self.method, self.flow);
        if trace.steps.is_empty() && reasons.is_empty() {
            reasons.push(match self.flow {
                Flow::Forward => "wallet sent nothing of the asset in the window".to_owned(),
                Flow::Backward => "wallet received nothing of the asset in the window".to_owned(),
            });
            if trace.shortfalls.is_empty() && trace.unvalued.is_empty() {
                let unknown = match &origin {
                    TraceOrigin::Wallet(wallet) => self.scope.unknown_history(*wallet)?,
                    TraceOrigin::Transfers(_) => None,
                };
                let complete = unknown.is_none();
                return Ok(TraceOutcome::Nothing { complete, reason: unknown.unwrap_or_else(|| reasons.concat()) });
            }
        }
        reasons.extend(shortfall_reason(&trace.shortfalls));
        reasons.extend(unvalued_reason(&trace.unvalued));
        if without_value > 0 {
            reasons.push(format!("{NO_PRICE}: {without_value} transfers of the named transactions not followed"));
        }
        let reason = (!reasons.is_empty()).then(|| reasons.join("; "));
        if trace.steps.is_empty() && trace.shortfalls.is_empty() && trace.unvalued.is_empty() {
            return Ok(TraceOutcome::Nothing { complete: false, reason: reason.unwrap_or_default() });
        }
        Ok(TraceOutcome::Traced(Box::new(Traced { request: self, labels, trace, hashes, reason })))
    }

    fn terms(&self) -> Terms {
        let filter = self.scope.filter;
        Terms {
            flow: self.flow,
            method: self.method,
            assets: filter.assets,
            since: filter.since,
            until: filter.until,
            max_hops: self.max_hops,
            min_value: filter.min_value,
            max_fan_out: self.max_fan_out,
            max_wallets: self.max_wallets,
            min_share: self.min_share,
            late_steps: LATE_STEPS,
            follows_before_since: false,
            paths: false,
            memory: MemoryBudget::new(guc::graph_work_mem()),
        }
    }

    /// Shows transfers in the unit of several assets that are followed as one. Removes the others,
    /// and returns their number.
    fn show_in_basket(&self, transfers: &mut Vec<SentTransfer>) -> Result<usize, SqlError> {
        if !self.scope.has_basket() {
            return Ok(0);
        }
        let (graph, named) = (self.scope.graph(), transfers.len());
        let shown = |sent: &SentTransfer| {
            let transfer = graph.in_basket(sent.from.unwrap_or(WalletId::NO_SENDER), sent.transfer)?;
            Some(SentTransfer { transfer, ..*sent })
        };
        *transfers = transfers.iter().filter_map(shown).collect();
        if transfers.is_empty() {
            return Err(SqlError::argument("the named transactions moved nothing of the asset that has a value")
                .hint("Deposits into the contract of a wrapped coin move nothing; see also arx.price_coverage()."));
        }
        Ok(named - transfers.len())
    }

    /// Returns the transfers of the asset in the named transactions.
    fn transfers_of(&self, hashes: &[String], named: &mut TransferHashes) -> Result<Vec<SentTransfer>, SqlError> {
        let (scope, network) = (&self.scope, &self.scope.network);
        let graph = scope.handle.graph();
        let filter = scope.filter;
        let (mut rows, mut moving) = (Vec::new(), HashSet::new());
        transfers_of(network, hashes, scope.may_include_tokens(), |hash, key| {
            let asset = match &key.token {
                None => Some(AssetId::NATIVE),
                Some(token) => graph.asset(network.name(), token)?,
            };
            // A token that the graph does not have yet counts among several, but is not the one
            // that was named.
            let several = !filter.assets.is_single() || scope.has_basket();
            let counts = asset.map_or(several, |asset| scope.has_basket() || filter.assets.contains(asset));
            if counts && key.value > U256::ZERO && key.status != Status::Failed {
                let early = filter.since.is_some_and(|since| key.time < since);
                if early || filter.until.is_some_and(|until| key.time >= until) {
                    return Err(SqlError::argument(format!(
                        "transaction \"{hash}\" is outside the window from since to until"
                    )));
                }
                moving.insert(hash.to_owned());
                rows.push((hash.to_owned(), key));
            }
            Ok(())
        })?;
        if let Some(idle) = hashes.iter().find(|hash| !moving.contains(*hash)) {
            return Err(SqlError::argument(format!(
                "transaction \"{idle}\" moved nothing of the asset on network {}",
                network.name()
            ))
            .detail("The transaction does not exist, has failed, or moved another asset.")
            .hint("See arx.transactions, arx.internal_transfers and arx.token_transfers."));
        }
        transfers_behind(&graph, network, rows, named)
    }
}

impl Traced {
    /// Reads the labels of all wallets where funds ended, also where no label stopped the trace.
    fn with_labels_of_ends(mut self: Box<Self>) -> Result<Box<Self>, SqlError> {
        let lacking = self.trace.shortfalls.iter().map(|shortfall| shortfall.wallet);
        let wallets: Vec<_> = self.trace.ends.iter().filter_map(|end| end.wallet).chain(lacking).collect();
        self.labels.look_up(&self.request.scope.handle.graph(), &wallets)?;
        Ok(self)
    }

    fn end_row(&self, end: &EndedAmount) -> Result<EndRow, SqlError> {
        let scope = &self.request.scope;
        let graph = scope.handle.graph();
        let label = end.wallet.and_then(|wallet| self.labels.of(wallet));
        // Poison has no total of which amounts would be shares.
        let has_total = self.request.method != TaintMethod::Poison;
        let total = self.trace.origin.iter().find(|(asset, _)| *asset == end.asset && has_total);
        Ok(EndRow {
            address: end.wallet.map(|wallet| graph.address(wallet).map(str::to_owned)).transpose()?,
            ended_at: Some(self.name_of(end.end, end.wallet)?.to_owned()),
            category: label.map(|label| label.category.clone()),
            label: label.map(|label| label.label.clone()).filter(|label| !label.is_empty()),
            asset: Some(scope.unit_name(end.asset)?),
            amount: Some(scope.value_of(end.asset, end.amount)),
            share: total.map(|(_, total)| end.amount.as_f64() / total.as_f64()),
            transfers: Some(end.transfers.cast_signed()),
            nearest_hop: Some(end.hop.cast_signed()),
            first_seen: Some(from_micros(end.first)?),
            last_seen: Some(from_micros(end.last)?),
            complete: self.reason.is_none(),
            reason: self.reason.clone(),
            order_inferred: end.inferred,
            shortfall: None,
        })
    }

    /// Names a wallet that sent more than it is known to have received. Its shortfall is no part of
    /// the origin's amount.
    fn shortfall_row(&self, shortfall: &Shortfall) -> Result<EndRow, SqlError> {
        let scope = &self.request.scope;
        let label = self.labels.of(shortfall.wallet);
        Ok(EndRow {
            address: Some(scope.handle.graph().address(shortfall.wallet)?.to_owned()),
            ended_at: Some(SHORTFALL.to_owned()),
            category: label.map(|label| label.category.clone()),
            label: label.map(|label| label.label.clone()).filter(|label| !label.is_empty()),
            asset: Some(scope.unit_name(shortfall.asset)?),
            amount: Some(scope.value_of(shortfall.asset, U256::ZERO)),
            share: Some(0.0),
            transfers: Some(shortfall.transfers.cast_signed()),
            nearest_hop: Some(shortfall.hop.cast_signed()),
            first_seen: Some(from_micros(shortfall.first)?),
            last_seen: Some(from_micros(shortfall.last)?),
            complete: self.reason.is_none(),
            reason: self.reason.clone(),
            order_inferred: false,
            shortfall: Some(scope.value_of(shortfall.asset, shortfall.amount)),
        })
    }

    /// Names an asset that has no price, or NFTs. They are no part of the origin's amount.
    fn unvalued_row(&self, unvalued: &Unvalued) -> Result<EndRow, SqlError> {
        Ok(EndRow {
            ended_at: Some(unvalued_name(unvalued).to_owned()),
            asset: Some(self.request.scope.asset_name(unvalued.asset)?),
            transfers: Some(unvalued.transfers.cast_signed()),
            first_seen: Some(from_micros(unvalued.first)?),
            last_seen: Some(from_micros(unvalued.last)?),
            complete: self.reason.is_none(),
            reason: self.reason.clone(),
            ..EndRow::default()
        })
    }

    fn unvalued_rows(&self) -> Result<Vec<TraceStepRow>, SqlError> {
        let row = |unvalued: &Unvalued| {
            Ok(TraceStepRow {
                timestamp: Some(from_micros(unvalued.first)?),
                asset: Some(self.request.scope.asset_name(unvalued.asset)?),
                ended_at: Some(unvalued_name(unvalued).to_owned()),
                complete: self.reason.is_none(),
                reason: self.reason.clone(),
                ..TraceStepRow::default()
            })
        };
        self.trace.unvalued.iter().map(row).collect()
    }

    fn shortfall_rows(&self) -> Result<Vec<TraceStepRow>, SqlError> {
        let scope = &self.request.scope;
        let row = |shortfall: &Shortfall| {
            Ok(TraceStepRow {
                hop: Some(shortfall.hop.cast_signed()),
                from_address: Some(scope.handle.graph().address(shortfall.wallet)?.to_owned()),
                timestamp: Some(from_micros(shortfall.first)?),
                asset: Some(scope.unit_name(shortfall.asset)?),
                amount: Some(scope.value_of(shortfall.asset, U256::ZERO)),
                tainted_amount: Some(scope.value_of(shortfall.asset, U256::ZERO)),
                share: Some(0.0),
                ended_at: Some(SHORTFALL.to_owned()),
                complete: self.reason.is_none(),
                reason: self.reason.clone(),
                shortfall: Some(scope.value_of(shortfall.asset, shortfall.amount)),
                ..TraceStepRow::default()
            })
        };
        self.trace.shortfalls.iter().map(row).collect()
    }

    /// Returns the rows of a batch of steps.
    fn step_rows(&mut self, start: usize) -> Result<Vec<TraceStepRow>, SqlError> {
        let end = self.trace.steps.len().min(start + ROWS_PER_BATCH);
        let steps = self.trace.steps.get(start..end).unwrap_or_default();
        let scope = &self.request.scope;
        let graph = scope.handle.graph();
        // As the tables have them, and not in a common unit.
        let stored = steps.iter().map(|step| graph.transfer(step.number)).collect::<Result<Vec<Transfer>, _>>()?;
        let key = |(step, transfer): (&TraceStep, &Transfer)| TransferKey::sent(&graph, step.from, transfer);
        let keys = steps.iter().zip(&stored).map(key).collect::<Result<Vec<TransferKey>, _>>()?;
        let hashes = self.hashes.of(&keys)?;
        let rows = steps.iter().zip(&stored).zip(keys).zip(hashes).map(|(((step, transfer), key), tx_hash)| {
            Ok(TraceStepRow {
                hop: Some(step.hop.cast_signed()),
                from_address: key.from,
                to_address: key.to,
                tx_hash,
                timestamp: Some(from_micros(step.time)?),
                asset: Some(scope.asset_name(transfer.asset)?),
                amount: Some(scope.value_of(step.asset, step.amount)),
                tainted_amount: Some(scope.value_of(step.asset, step.tainted)),
                share: Some(step.tainted.as_f64() / step.amount.as_f64()),
                ended_at: step.end.map(|end| self.end_name(step, end)).transpose()?,
                complete: self.reason.is_none(),
                reason: self.reason.clone(),
                order_inferred: step.inferred,
                shortfall: None,
            })
        });
        rows.collect()
    }

    /// Names the end of a step, at a service with its category.
    fn end_name(&self, step: &TraceStep, end: End) -> Result<String, SqlError> {
        let arrived = if self.request.flow == Flow::Forward { step.to } else { step.from };
        let label = arrived.and_then(|wallet| self.labels.of(wallet));
        match label.and_then(|label| label.custody.as_deref()) {
            Some(category) if end == End::Stop => Ok(format!("service: {category}")),
            _ => self.name_of(end, arrived).map(str::to_owned),
        }
    }

    /// Names an end at a wallet. Funds that the contract of a token holds may have gone on as that
    /// token.
    fn name_of(&self, end: End, wallet: Option<WalletId>) -> Result<&'static str, SqlError> {
        let TraceRequest { scope, flow, .. } = &self.request;
        if end == End::Held
            && *flow == Flow::Forward
            && let Some(wallet) = wallet
            && scope.is_token_contract(wallet)?
        {
            return Ok(Heading::TokenContract.name());
        }
        Ok(on_network(end, &scope.network).name(*flow))
    }
}

/// Sender and time of transfers.
type Sending = (Option<String>, i64);

/// Returns the graph's transfers behind rows of the tables, each once, and names their
/// transactions. Of several transfers with equal keys, any may be that of a row.
fn transfers_behind(
    graph: &Graph<'_>,
    network: &Network,
    rows: Vec<(String, TransferKey)>,
    named: &mut TransferHashes,
) -> Result<Vec<SentTransfer>, SqlError> {
    // Transfers of one sender at one time are read together.
    let mut moments: BTreeMap<Sending, Vec<(String, TransferKey)>> = BTreeMap::new();
    for (hash, row) in rows {
        moments.entry((row.from.clone(), row.time)).or_default().push((hash, row));
    }
    let mut transfers = Vec::new();
    for ((sender, time), mut rows) in moments {
        check_for_interrupts!();
        let from = match &sender {
            Some(sender) => graph.wallet(network.name(), sender)?,
            None => Some(WalletId::NO_SENDER),
        };
        if let Some(from) = from {
            let (since, until) = (Some(time), time.checked_add(1));
            let moment = EdgeFilter { assets: AssetSelection::All, since, until, ..EdgeFilter::default() };
            graph.counted_transfers(from, Side::Out, &moment, |transfer| -> Result<(), SqlError> {
                check_for_interrupts!();
                let key = TransferKey::sent(graph, from.some(), &transfer)?;
                if let Some(index) = rows.iter().position(|(_, row)| *row == key) {
                    let (hash, _) = rows.swap_remove(index);
                    named.reserve(&key, &hash);
                    transfers.push(SentTransfer { from: from.some(), transfer });
                }
                Ok(())
            })?;
        }
        if let Some((hash, _)) = rows.first() {
            return Err(SqlError::argument(format!("transaction \"{hash}\" is not in the graph yet"))
                .detail("arx.graph_freshness is base, and the graph's file is older than the transaction.")
                .hint("Run SELECT * FROM arx.refresh_graph() to bring the graph up to date."));
        }
    }
    Ok(transfers)
}

/// Returns the end as the network has it: where there are no contracts, funds without a receiver
/// were burned or paid as a fee.
const fn on_network(end: End, network: &Network) -> End {
    if matches!(end, End::Contract) && !network.family().has_contracts() { End::Burned } else { end }
}

/// Name of the rows of wallets that sent more than they are known to have received.
pub(crate) const SHORTFALL: &str = "shortfall";

/// Returns the limits that cut funds, with the share of the origin that each cut. Poison has no
/// total, and shares of several assets cannot be added.
fn cut_reasons(
    cuts: &[(End, Vec<(AssetId, U256)>)],
    origin: &[(AssetId, U256)],
    method: TaintMethod,
    flow: Flow,
) -> Vec<String> {
    let reason = |(end, amounts): &(End, Vec<(AssetId, U256)>)| match (origin, amounts.as_slice()) {
        ([(_, total)], [(_, amount)]) if method != TaintMethod::Poison => cut_reason(*end, flow, *amount, *total),
        _ => end.name(flow).to_owned(),
    };
    cuts.iter().map(reason).collect()
}

/// Returns the name of a limit with the share that it cut.
pub(crate) fn cut_reason(end: End, flow: Flow, amount: U256, total: U256) -> String {
    format!("{}: {} not followed", end.name(flow), percentage(amount.as_f64() / total.as_f64()))
}

/// Formats a share above zero.
pub(crate) fn percentage(share: f64) -> String {
    if share < 0.0001 { "less than 0.01 %".to_owned() } else { format!("{:.2} %", 100.0 * share) }
}

/// Returns the reason of a result whose funds passed through wallets with a shortfall.
pub(crate) fn shortfall_reason(shortfalls: &[Shortfall]) -> Option<String> {
    match shortfalls.len() {
        0 => None,
        1 => Some("shortfall: a wallet sent more than it is known to have received".to_owned()),
        wallets => Some(format!("shortfall: {wallets} wallets sent more than they are known to have received")),
    }
}

/// Returns a share in millionths, rounded up, so that a share above zero is one.
fn parse_min_share(share: Option<f64>) -> Result<u32, SqlError> {
    let share = share.unwrap_or(0.0);
    if (0.0..1.0).contains(&share) {
        return Ok((share * 1_000_000.0).ceil() as u32);
    }
    Err(SqlError::argument(format!("min_share must be at least 0 and less than 1, not {share}")))
}

fn parse_flow(direction: Option<&str>) -> Result<Flow, SqlError> {
    let direction = required("direction", direction)?;
    match direction.to_ascii_lowercase().as_str() {
        "forward" => Ok(Flow::Forward),
        "backward" => Ok(Flow::Backward),
        _ => Err(SqlError::argument(format!("direction must be forward or backward, not \"{direction}\""))),
    }
}

fn parse_method(name: Option<&str>) -> Result<TaintMethod, SqlError> {
    let name = required("method", name)?;
    TaintMethod::ALL.into_iter().find(|method| method.name().eq_ignore_ascii_case(name)).ok_or_else(|| {
        SqlError::argument(format!("method must be poison, haircut, fifo, lifo or tiho, not \"{name}\""))
    })
}

fn parse_max_hops(hops: Option<i32>) -> Result<u32, SqlError> {
    let hops = required("max_hops", hops)?;
    u32::try_from(hops)
        .ok()
        .filter(|_| (1..=MAX_HOPS).contains(&hops))
        .ok_or_else(|| SqlError::argument(format!("max_hops must be between 1 and {MAX_HOPS}, not {hops}")))
}
