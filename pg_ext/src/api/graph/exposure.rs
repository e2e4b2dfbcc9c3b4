//! Exposure of a wallet to labelled wallets: where its funds came from and where they went.

use std::collections::HashSet;

use arx_core::address::Network;
use arx_core::graph::exposure::{
    ExplainedExposure, ExposureTerms, Heading, MAX_HOPS, Statement, StatementLine, explain,
};
use arx_core::graph::trace::{End, Flow, Shortfall};
use arx_core::graph::{AssetId, AssetSelection, Direction, MemoryBudget, U256, Unvalued, WalletId};
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::labels::LabelCache;
use super::request::{Scope, ScopeArguments, unvalued_name, unvalued_reason};
use super::trace::{SHORTFALL, cut_reason, shortfall_reason};
use crate::api::call::call;
use crate::api::row::sql_row;
use crate::arguments::{Wallet, direction, optional_limit, required};
use crate::error::SqlError;
use crate::guc;
use crate::memory::reserve;
use crate::numeric::SqlNumeric;
use crate::spi::{TransferHashes, TransferKey};
use crate::time::from_micros;

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
        order_inferred: bool,
        shortfall: Option<SqlNumeric>,
        shortfall_since: Option<TimestampWithTimeZone>,
        asset: Option<String>,
        transfers: Option<i64>,
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
            name!(order_inferred, bool),
            name!(shortfall, Option<SqlNumeric>),
            name!(shortfall_since, Option<TimestampWithTimeZone>),
            name!(asset, Option<String>),
            name!(transfers, Option<i64>),
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
        let scope = Scope::parse_for_funds(network, scope)?;
        if !scope.filter.assets.is_single() {
            return Err(SqlError::argument("exposure requires a single asset")
                .detail("Values of several assets cannot be added up.")
                .hint("Specify native, the name of the native coin, the address of a token, or usd for all priced assets."));
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

    pub(crate) fn terms(&self, flow: Flow, max_hops: u32) -> ExposureTerms {
        let filter = self.scope.filter;
        ExposureTerms {
            flow,
            assets: filter.assets,
            since: filter.since,
            until: filter.until,
            max_hops,
            max_fan_out: self.max_fan_out,
            memory: MemoryBudget::new(guc::graph_work_mem()),
        }
    }

    fn statements(&self, wallet: &Wallet) -> Result<Vec<ExposureRow>, SqlError> {
        let Some(id) = self.scope.resolve(wallet)? else {
            let (complete, reason) = self.scope.no_transaction(wallet.address.as_str())?;
            return Ok(vec![ExposureRow { complete, reason: Some(reason), ..ExposureRow::default() }]);
        };
        let mut labels = LabelCache::new(&wallet.network, true);
        let mut hashes = TransferHashes::new(&wallet.network);
        let graph = self.scope.handle.graph();
        let mut rows = Vec::new();
        for (direction, flow) in self.flows() {
            let exposed = self.exposure(id, flow, &mut labels)?;
            let lacking: Vec<WalletId> = exposed.shortfalls.iter().map(|shortfall| shortfall.wallet).collect();
            labels.look_up(&graph, &lacking)?;
            let reason = match incomplete(&exposed, flow) {
                None => self.scope.unknown_history(id)?,
                reason => reason,
            };
            let label_of = |wallet| labels.of(wallet).map(|label| label.party());
            let mut tokens = HashSet::new();
            for wallet in exposed.remainders.iter().filter(|end| end.end == End::Held).filter_map(|end| end.wallet) {
                if flow == Flow::Forward && self.scope.is_token_contract(wallet)? {
                    reserve(&mut tokens, 1)?;
                    tokens.insert(wallet);
                }
            }
            let order = |wallet| graph.order(wallet);
            let statement = Statement::new(&exposed, flow, label_of, order, |wallet| tokens.contains(&wallet));
            for line in &statement.lines {
                rows.push(self.row(direction, line, &labels, &mut hashes, reason.clone())?);
            }
            for shortfall in &exposed.shortfalls {
                rows.push(self.shortfall_row(direction, shortfall, &labels, reason.clone())?);
            }
            for unvalued in &exposed.unvalued {
                rows.push(self.unvalued_row(direction, unvalued, reason.clone())?);
            }
        }
        Ok(rows)
    }

    /// Computes an exposure with paths.
    fn exposure(&self, wallet: WalletId, flow: Flow, labels: &mut LabelCache) -> Result<ExplainedExposure, SqlError> {
        let (graph, mut deadline) = (self.scope.graph(), self.scope.deadline);
        Ok(explain(&graph, wallet, &self.terms(flow, self.max_hops), labels, &mut deadline)?)
    }

    fn shortfall_row(
        &self,
        direction: &str,
        shortfall: &Shortfall,
        labels: &LabelCache,
        reason: Option<String>,
    ) -> Result<ExposureRow, SqlError> {
        let label = labels.of(shortfall.wallet);
        Ok(ExposureRow {
            direction: Some(direction.to_owned()),
            exposure: Some(SHORTFALL.to_owned()),
            value: self.scope.value(U256::ZERO),
            share: Some(0.0),
            nearest_hop: Some(shortfall.hop.cast_signed()),
            wallets: Some(1),
            counterparty: Some(self.scope.handle.graph().address(shortfall.wallet)?.to_owned()),
            label: label.map(|label| label.label.clone()).filter(|label| !label.is_empty()),
            complete: reason.is_none(),
            reason,
            shortfall: self.scope.value(shortfall.amount),
            shortfall_since: Some(from_micros(shortfall.first)?),
            asset: Some(self.unit()?),
            transfers: Some(shortfall.transfers.cast_signed()),
            ..ExposureRow::default()
        })
    }

    /// Names an asset that has no price, or NFTs. They are no part of the total.
    fn unvalued_row(
        &self,
        direction: &str,
        unvalued: &Unvalued,
        reason: Option<String>,
    ) -> Result<ExposureRow, SqlError> {
        Ok(ExposureRow {
            direction: Some(direction.to_owned()),
            exposure: Some(unvalued_name(unvalued).to_owned()),
            complete: reason.is_none(),
            reason,
            asset: Some(self.scope.asset_name(unvalued.asset)?),
            transfers: Some(unvalued.transfers.cast_signed()),
            ..ExposureRow::default()
        })
    }

    /// Returns the name of the unit of values.
    fn unit(&self) -> Result<String, SqlError> {
        self.scope.unit_name(match self.scope.filter.assets {
            AssetSelection::Token(token) => token,
            AssetSelection::Native | AssetSelection::Tokens | AssetSelection::All => AssetId::NATIVE,
        })
    }

    fn row(
        &self,
        direction: &str,
        line: &StatementLine<'_>,
        labels: &LabelCache,
        hashes: &mut TransferHashes,
        reason: Option<String>,
    ) -> Result<ExposureRow, SqlError> {
        let graph = self.scope.handle.graph();
        let (path, tx_hashes) = self.path(line.path, hashes)?.unzip();
        let label = line.counterparty.and_then(|wallet| labels.of(wallet)).map(|label| label.label.clone());
        let has_contracts = self.scope.network.family().has_contracts();
        let heading = match line.heading {
            Heading::ContractCreation if !has_contracts => Heading::Burned,
            heading => heading,
        };
        Ok(ExposureRow {
            direction: Some(direction.to_owned()),
            exposure: Some(heading.name().to_owned()),
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
            order_inferred: line.inferred,
            shortfall: None,
            shortfall_since: None,
            asset: Some(self.unit()?),
            transfers: None,
        })
    }

    /// Returns the addresses along a path, and the hashes of the transactions between them.
    #[allow(clippy::type_complexity)]
    fn path(
        &self,
        transfers: &[u64],
        hashes: &mut TransferHashes,
    ) -> Result<Option<(Vec<String>, Vec<Option<String>>)>, SqlError> {
        if transfers.is_empty() {
            return Ok(None);
        }
        let graph = self.scope.handle.graph();
        let mut keys = Vec::with_capacity(transfers.len());
        for number in transfers {
            let transfer = graph.transfer(*number)?;
            keys.push(TransferKey::sent(&graph, graph.sender(*number)?, &transfer)?);
        }
        let hashes = hashes.of(&keys)?;
        let mut addresses: Vec<String> = keys.iter().filter_map(|key| key.from.clone()).collect();
        addresses.extend(keys.last().and_then(|key| key.to.clone()));
        Ok(Some((addresses, hashes)))
    }
}

/// Returns the reasons of an incomplete exposure.
fn incomplete(exposed: &ExplainedExposure, flow: Flow) -> Option<String> {
    let cut = |(end, amount): &(End, U256)| match exposed.total.value {
        total if *amount > U256::ZERO && total > U256::ZERO => cut_reason(*end, flow, *amount, total),
        _ => end.name(flow).to_owned(),
    };
    let missing = shortfall_reason(&exposed.shortfalls).into_iter().chain(unvalued_reason(&exposed.unvalued));
    let reasons: Vec<String> = exposed.cuts.iter().map(cut).chain(missing).collect();
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

/// Returns the reason of a result for which memory did not suffice.
pub(crate) fn fewer_hops(hops: u32) -> String {
    format!("graph_work_mem used up beyond max_hops {hops}")
}
