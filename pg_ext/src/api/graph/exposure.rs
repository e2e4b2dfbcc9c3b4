//! Exposure of a wallet to labelled wallets: where its funds came from and where they went.

use arx_core::address::Network;
use arx_core::graph::exposure::{Exposed, ExposureTerms, MAX_HOPS, Statement, StatementLine, exposures};
use arx_core::graph::trace::Flow;
use arx_core::graph::{Direction, MemoryBudget, SearchError, WalletId};
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::labels::{LabelCache, LabelledSearchError};
use super::request::{NO_TRANSACTION, Scope, ScopeArguments};
use crate::api::call::call;
use crate::api::row::sql_row;
use crate::arguments::{Wallet, direction, optional_limit, required};
use crate::error::SqlError;
use crate::guc;
use crate::numeric::SqlNumeric;
use crate::spi::{TransferKey, transfer_hashes};

sql_row! {
    #[derive(Default)]
    struct ExposureRow {
        direction: Option<String>,
        exposure: Option<String>,
        category: Option<String>,
        kind: Option<String>,
        severity: Option<String>,
        value: Option<SqlNumeric>,
        share: Option<f64>,
        nearest_hop: Option<i32>,
        wallets: Option<i64>,
        counterparty: Option<String>,
        label: Option<String>,
        path: Option<Vec<String>>,
        tx_hashes: Option<Vec<Option<String>>>,
        complete: bool,
        reason: Option<String>,
    }
}

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::type_complexity, clippy::too_many_arguments)]
fn wallet_exposure(
    address: Option<&str>,
    network: Option<&str>,
    direction: default!(Option<&str>, "'both'"),
    max_hops: default!(Option<i32>, 3),
    asset: default!(Option<&str>, "'native'"),
    since: default!(Option<TimestampWithTimeZone>, "NULL"),
    until: default!(Option<TimestampWithTimeZone>, "NULL"),
    max_fan_out: default!(Option<i64>, 1000),
    max_time: default!(Option<Interval>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(direction, Option<String>),
            name!(exposure, Option<String>),
            name!(category, Option<String>),
            name!(kind, Option<String>),
            name!(severity, Option<String>),
            name!(value, Option<SqlNumeric>),
            name!(share, Option<f64>),
            name!(nearest_hop, Option<i32>),
            name!(wallets, Option<i64>),
            name!(counterparty, Option<String>),
            name!(label, Option<String>),
            name!(path, Option<Vec<String>>),
            name!(tx_hashes, Option<Vec<Option<String>>>),
            name!(complete, bool),
            name!(reason, Option<String>),
        ),
    >,
    ErrorReport,
> {
    call(|| {
        let wallet = Wallet::parse(address, network)?;
        let limits = ExposureLimits { direction, max_hops, max_fan_out };
        let scope = ScopeArguments { asset, since, until, min_value: None, include_failed: Some(false), max_time };
        let request = ExposureRequest::parse(wallet.network.clone(), limits, scope)?;
        Ok(TableIterator::new(request.statements(&wallet)?.into_iter().map(ExposureRow::into_row)))
    })
}

/// Arguments that exposure and screening share, as given.
pub(crate) struct ExposureLimits<'a> {
    pub(crate) direction: Option<&'a str>,
    pub(crate) max_hops: Option<i32>,
    pub(crate) max_fan_out: Option<i64>,
}

/// A request for the exposure of one wallet or many.
pub(crate) struct ExposureRequest {
    pub(crate) scope: Scope,
    direction: Direction,
    pub(crate) max_hops: u32,
    max_fan_out: Option<u64>,
}

impl ExposureRequest {
    pub(crate) fn parse(
        network: Network,
        limits: ExposureLimits<'_>,
        scope: ScopeArguments<'_>,
    ) -> Result<Self, SqlError> {
        let direction = direction(limits.direction)?;
        let max_hops = required("max_hops", limits.max_hops)?;
        if !(1..=MAX_HOPS.cast_signed()).contains(&max_hops) {
            return Err(SqlError::argument(format!("max_hops must be between 1 and {MAX_HOPS}, not {max_hops}")));
        }
        let max_fan_out = optional_limit("max_fan_out", limits.max_fan_out)?;
        let scope = Scope::parse(network, scope)?;
        if !scope.filter.assets.is_single() {
            return Err(SqlError::argument("exposure requires a single asset")
                .detail("Values of several assets cannot be added up.")
                .hint("Specify native, the name of the native coin, or the address of a token."));
        }
        Ok(Self { scope, direction, max_hops: max_hops.unsigned_abs(), max_fan_out })
    }

    /// Returns the requested directions with their names in SQL.
    pub(crate) fn flows(&self) -> Vec<(&'static str, Flow)> {
        let (received, sent) = (("in", Flow::Backward), ("out", Flow::Forward));
        match self.direction {
            Direction::In => vec![received],
            Direction::Out => vec![sent],
            Direction::Both => vec![received, sent],
        }
    }

    pub(crate) fn terms(&self, flow: Flow, max_hops: u32, explained: bool) -> ExposureTerms {
        let filter = self.scope.filter;
        ExposureTerms {
            flow,
            assets: filter.assets,
            since: filter.since,
            until: filter.until,
            max_hops,
            max_fan_out: self.max_fan_out,
            explained,
            memory: MemoryBudget::new(guc::graph_work_mem()),
        }
    }

    fn statements(&self, wallet: &Wallet) -> Result<Vec<ExposureRow>, SqlError> {
        let Some(id) = self.scope.resolve(wallet)? else {
            let reason = Some(NO_TRANSACTION.to_owned());
            return Ok(vec![ExposureRow { complete: true, reason, ..ExposureRow::default() }]);
        };
        let mut labels = LabelCache::new(&wallet.network, true);
        let mut rows = Vec::new();
        for (direction, flow) in self.flows() {
            let (exposed, reason) = self.exposure(id, flow, &mut labels)?;
            let label_of = |wallet| labels.of(wallet).map(|label| label.party());
            let order = |wallet| self.scope.handle.graph().order(wallet);
            let statement = Statement::new(&exposed, flow, reason.is_some(), label_of, order);
            for line in &statement.lines {
                rows.push(self.row(direction, line, &labels, reason.clone())?);
            }
        }
        Ok(rows)
    }

    /// Computes an exposure with paths, over as many of the requested hops as memory allows.
    fn exposure(
        &self,
        wallet: WalletId,
        flow: Flow,
        labels: &mut LabelCache,
    ) -> Result<(Exposed, Option<String>), SqlError> {
        let mut hops = self.max_hops;
        loop {
            let terms = self.terms(flow, hops, true);
            let (graph, mut deadline) = (self.scope.handle.graph(), self.scope.deadline);
            match exposures(&graph, &[wallet], &terms, labels, &mut deadline) {
                Ok(mut answer) => {
                    let fewer = (hops < self.max_hops).then(|| fewer_hops(hops));
                    let reason = answer.halted.map(|halt| halt.name().to_owned()).or(fewer);
                    let exposed = answer.found.pop().ok_or_else(|| SqlError::corrupt("an exposure has no wallet"))?;
                    return Ok((exposed, reason));
                }
                Err(LabelledSearchError::Search(SearchError::Memory { .. })) if hops > 0 => hops -= 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn row(
        &self,
        direction: &str,
        line: &StatementLine<'_>,
        labels: &LabelCache,
        reason: Option<String>,
    ) -> Result<ExposureRow, SqlError> {
        let graph = self.scope.handle.graph();
        let (path, tx_hashes) = self.path(line.path)?.unzip();
        let label = line.counterparty.and_then(|wallet| labels.of(wallet)).map(|label| label.label.clone());
        Ok(ExposureRow {
            direction: Some(direction.to_owned()),
            exposure: Some(line.heading.name().to_owned()),
            category: line.label.map(|label| label.category.to_owned()),
            kind: line.label.map(|label| label.kind.as_str().to_owned()),
            severity: line.label.map(|label| label.severity.as_str().to_owned()),
            value: self.scope.value(line.value),
            share: line.share,
            nearest_hop: line.nearest_hop.map(u32::cast_signed),
            wallets: line.wallets.map(u64::cast_signed),
            counterparty: line.counterparty.map(|wallet| graph.address(wallet)).transpose()?.map(str::to_owned),
            label: label.filter(|label| !label.is_empty()),
            path,
            tx_hashes,
            complete: reason.is_none(),
            reason,
        })
    }

    /// Returns the addresses along a path, and the hashes of the transactions between them.
    #[allow(clippy::type_complexity)]
    fn path(&self, transfers: &[u64]) -> Result<Option<(Vec<String>, Vec<Option<String>>)>, SqlError> {
        if transfers.is_empty() {
            return Ok(None);
        }
        let graph = self.scope.handle.graph();
        let mut keys = Vec::with_capacity(transfers.len());
        for number in transfers {
            let transfer = graph.transfer(*number)?;
            keys.push(TransferKey::sent(&graph, graph.sender(*number)?, &transfer)?);
        }
        let hashes = transfer_hashes(&self.scope.network, &keys)?;
        let mut addresses: Vec<String> = keys.iter().filter_map(|key| key.from.clone()).collect();
        addresses.extend(keys.last().and_then(|key| key.to.clone()));
        Ok(Some((addresses, hashes)))
    }
}

/// Returns the reason of a result for which memory did not suffice.
pub(crate) fn fewer_hops(hops: u32) -> String {
    format!("graph_work_mem used up beyond max_hops {hops}")
}
