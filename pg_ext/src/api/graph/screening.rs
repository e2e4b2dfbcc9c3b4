//! Exposure of thousands of wallets in one call.

use std::collections::BTreeSet;

use arx_core::address::Address;
use arx_core::graph::exposure::{Marks, exposures, whole_units};
use arx_core::graph::screening::{FlowSummary, ScreenedWallet, ScreeningCategory};
use arx_core::graph::trace::{End, Flow, Shortfall, ShortfallScope, own_shortfall};
use arx_core::graph::{EdgeFilter, Halt, Interrupt, MemoryBudget, SearchError, Side, Unvalued, WalletId};
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::exposure::{ExposureLimits, ExposureRequest, fewer_hops};
use super::labels::{LabelledSearchError, StopLabels};
use super::request::{Scope, ScopeArguments, unvalued_reason};
use super::trace::{percentage, shortfall_reason};
use crate::api::call::call;
use crate::api::row::sql_row;
use crate::arguments::{TextArray, registered_network, required};
use crate::error::{SqlError, or_report};
use crate::guc;
use crate::memory::reserve;
use crate::numeric::SqlNumeric;
use crate::time::from_micros;

sql_row! {
    struct ScreeningRow {
        address: Option<String>,
        known: bool,
        category: Option<String>,
        kind: Option<String>,
        received: Option<SqlNumeric>,
        sent: Option<SqlNumeric>,
        sanctions_in: Option<SqlNumeric>,
        sanctions_out: Option<SqlNumeric>,
        illicit_direct_in: Option<SqlNumeric>,
        illicit_direct_out: Option<SqlNumeric>,
        illicit_share_in: Option<f64>,
        illicit_share_out: Option<f64>,
        service_share_in: Option<f64>,
        service_share_out: Option<f64>,
        unresolved_share_in: Option<f64>,
        unresolved_share_out: Option<f64>,
        worst_category: Option<String>,
        nearest_hop: Option<i32>,
        complete: bool,
        reason: Option<String>,
        shortfall: Option<SqlNumeric>,
        shortfall_since: Option<TimestampWithTimeZone>,
    }
}

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::type_complexity, clippy::too_many_arguments)]
fn screen_wallets(
    addresses: Option<TextArray<'_>>,
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
            name!(address, Option<String>),
            name!(known, bool),
            name!(category, Option<String>),
            name!(kind, Option<String>),
            name!(received, Option<SqlNumeric>),
            name!(sent, Option<SqlNumeric>),
            name!(sanctions_in, Option<SqlNumeric>),
            name!(sanctions_out, Option<SqlNumeric>),
            name!(illicit_direct_in, Option<SqlNumeric>),
            name!(illicit_direct_out, Option<SqlNumeric>),
            name!(illicit_share_in, Option<f64>),
            name!(illicit_share_out, Option<f64>),
            name!(service_share_in, Option<f64>),
            name!(service_share_out, Option<f64>),
            name!(unresolved_share_in, Option<f64>),
            name!(unresolved_share_out, Option<f64>),
            name!(worst_category, Option<String>),
            name!(nearest_hop, Option<i32>),
            name!(complete, bool),
            name!(reason, Option<String>),
            name!(shortfall, Option<SqlNumeric>),
            name!(shortfall_since, Option<TimestampWithTimeZone>),
        ),
    >,
    ErrorReport,
> {
    call(|| {
        let addresses = required("addresses", addresses)?.elements("addresses")?;
        let network = registered_network(network)?;
        let limits = ExposureLimits { direction, max_hops, max_fan_out };
        let scope = ScopeArguments { asset, since, until, min_value: None, include_failed: Some(false), max_time };
        let request = ExposureRequest::parse(network, limits, scope)?;
        let screening = Screening::new(request, &addresses)?;
        let rows = (0..screening.subjects.len()).map(move |index| or_report(screening.row(index)).into_row());
        Ok(TableIterator::new(rows))
    })
}

/// A requested address and the outcome for it.
struct ScreenedAddress {
    address: Option<String>,
    outcome: ScreeningOutcome,
}

enum ScreeningOutcome {
    /// Index into the screened wallets.
    Wallet(usize),
    NoTransaction,
    Malformed(String),
}

/// A wallet that is screened.
struct Candidate {
    wallet: WalletId,
    /// Mark of the wallet's own label.
    own_mark: Option<u32>,
    screened: ScreenedWallet,
    /// The shortfall of the wallet itself, once it has been looked for.
    shortfall: Option<Option<Shortfall>>,
    /// Reasons for an incomplete result.
    reasons: BTreeSet<String>,
}

/// Returns the limits that cut funds, with the share of the total that each cut, and missing
/// history.
fn cut(summary: &FlowSummary, flow: Flow) -> Vec<String> {
    let moved = if flow == Flow::Backward { "received" } else { "sent" };
    let share = |part: f64| summary.share(part).filter(|share| *share > 0.0).map(percentage);
    let fan_out = share(summary.unresolved);
    let hops = share(summary.beyond);
    let passes = "shortfall: a wallet between it and a label sent more than it is known to have received";
    let reasons = [
        summary.passes_shortfall.then(|| passes.to_owned()),
        fan_out.map(|share| format!("{}: {share} of {moved} funds not followed", End::FanOut.name(flow))),
        hops.map(|share| format!("{}: up to {share} of {moved} funds not followed", End::Hops.name(flow))),
    ];
    reasons.into_iter().flatten().collect()
}

/// Screening of the wallets of one call.
struct Screening {
    request: ExposureRequest,
    labels: StopLabels,
    subjects: Vec<ScreenedAddress>,
    candidates: Vec<Candidate>,
}

impl Screening {
    fn new(request: ExposureRequest, addresses: &[Option<&str>]) -> Result<Self, SqlError> {
        let labels = StopLabels::open(&request.scope.handle, &request.scope.network)?;
        let (mut subjects, mut candidates) = (Vec::new(), Vec::new());
        reserve(&mut subjects, addresses.len())?;
        reserve(&mut candidates, addresses.len())?;
        let mut screening = Self { request, labels, subjects, candidates };
        for address in addresses {
            check_for_interrupts!();
            screening.add(*address)?;
        }
        screening.mark_candidates()?;
        let all: Vec<usize> = (0..screening.candidates.len()).collect();
        for (_, flow) in screening.request.flows() {
            screening.screen(&all, flow, screening.request.max_hops)?;
        }
        screening.examine_histories()?;
        Ok(screening)
    }

    /// Finds what the histories of the candidates themselves lack.
    fn examine_histories(&mut self) -> Result<(), SqlError> {
        let scope = &self.request.scope;
        let (graph, mut deadline) = (scope.graph(), scope.deadline);
        let memory = MemoryBudget::new(guc::graph_work_mem());
        let EdgeFilter { assets, since, until, .. } = scope.filter;
        let history = ShortfallScope { assets, since, until, memory };
        let sides = self.request.flows().into_iter().map(|(_, flow)| match flow {
            Flow::Backward => Side::In,
            Flow::Forward => Side::Out,
        });
        let sides: Vec<Side> = sides.collect();
        for candidate in &mut self.candidates {
            if deadline.should_stop() {
                candidate.reasons.insert(Halt::Time.name().to_owned());
                continue;
            }
            if candidate.shortfall.is_none() {
                match own_shortfall(&graph, candidate.wallet, &history, &mut deadline) {
                    Ok(shortfall) => candidate.shortfall = Some(shortfall),
                    Err(SearchError::Memory { .. }) => {
                        candidate.reasons.insert(End::Memory.name(Flow::Forward).to_owned());
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            candidate.reasons.extend(shortfall_reason(candidate.shortfall.flatten().as_slice()));
            let mut unvalued: Vec<Unvalued> = Vec::new();
            for side in &sides {
                graph.unvalued(candidate.wallet, *side, &scope.filter, |more| -> Result<(), SqlError> {
                    match unvalued.iter_mut().find(|of_asset| of_asset.asset == more.asset) {
                        Some(of_asset) => of_asset.add(&more),
                        None => unvalued.push(more),
                    }
                    Ok(())
                })?;
            }
            candidate.reasons.extend(unvalued_reason(&unvalued));
            if candidate.reasons.is_empty() {
                candidate.reasons.extend(scope.unknown_history(candidate.wallet)?);
            }
        }
        Ok(())
    }

    fn add(&mut self, address: Option<&str>) -> Result<(), SqlError> {
        let Scope { handle, network, .. } = &self.request.scope;
        let Some(text) = address else {
            let outcome = ScreeningOutcome::Malformed("address is null".to_owned());
            self.subjects.push(ScreenedAddress { address: None, outcome });
            return Ok(());
        };
        let (address, outcome) = match Address::parse(text, network) {
            Err(error) => (text.to_owned(), ScreeningOutcome::Malformed(error.to_string())),
            Ok(address) => {
                let graph = handle.graph();
                let wallet = graph.wallet(network.name(), address.as_str())?.filter(|wallet| graph.is_active(*wallet));
                let outcome = match wallet {
                    None => ScreeningOutcome::NoTransaction,
                    Some(wallet) => {
                        let (screened, reasons) = (ScreenedWallet::default(), BTreeSet::new());
                        self.candidates.push(Candidate { wallet, own_mark: None, screened, shortfall: None, reasons });
                        ScreeningOutcome::Wallet(self.candidates.len() - 1)
                    }
                };
                (address.into_string(), outcome)
            }
        };
        self.subjects.push(ScreenedAddress { address: Some(address), outcome });
        Ok(())
    }

    /// Notes the candidates' own labels, which are read together.
    fn mark_candidates(&mut self) -> Result<(), SqlError> {
        let wallets: Vec<WalletId> = self.candidates.iter().map(|candidate| candidate.wallet).collect();
        self.labels.prepare(&self.request.scope.graph(), &wallets)?;
        for candidate in &mut self.candidates {
            candidate.own_mark = self.labels.mark(candidate.wallet);
        }
        Ok(())
    }

    /// Screens candidates together. If memory does not suffice, screens each half on its own, and a
    /// single candidate over fewer hops.
    fn screen(&mut self, indices: &[usize], flow: Flow, max_hops: u32) -> Result<(), SqlError> {
        if indices.is_empty() {
            return Ok(());
        }
        let candidates = indices.iter().filter_map(|index| self.candidates.get(*index));
        let wallets: Vec<WalletId> = candidates.map(|candidate| candidate.wallet).collect();
        let terms = self.request.terms(flow, max_hops);
        let (graph, mut deadline) = (self.request.scope.graph(), self.request.scope.deadline);
        let answer = match exposures(&graph, &wallets, &terms, &mut self.labels, &mut deadline) {
            Ok(answer) => answer,
            Err(LabelledSearchError::Search(SearchError::Memory { .. })) if indices.len() > 1 => {
                let (first, second) = indices.split_at(indices.len() / 2);
                self.screen(first, flow, max_hops)?;
                return self.screen(second, flow, max_hops);
            }
            Err(LabelledSearchError::Search(SearchError::Memory { .. })) if max_hops > 0 => {
                return self.screen(indices, flow, max_hops - 1);
            }
            Err(error) => return Err(error.into()),
        };
        let fewer = (max_hops < self.request.max_hops).then(|| fewer_hops(max_hops));
        let reason = answer.halted.map(|halt| halt.name().to_owned()).or(fewer);
        let traced = answer.halted.is_none() && max_hops > 0;
        for (index, exposed) in indices.iter().zip(&answer.found) {
            let summary = FlowSummary::new(exposed, &self.labels.categories, traced);
            if let Some(candidate) = self.candidates.get_mut(*index) {
                let reasons = reason.iter().cloned().chain(cut(&summary, flow));
                candidate.reasons.extend(reasons);
                candidate.shortfall = candidate.shortfall.or(exposed.own_shortfall);
                match flow {
                    Flow::Backward => candidate.screened.received = Some(summary),
                    Flow::Forward => candidate.screened.sent = Some(summary),
                }
            }
        }
        Ok(())
    }

    fn row(&self, index: usize) -> Result<ScreeningRow, SqlError> {
        let subject = self.subjects.get(index);
        let ScreenedAddress { address, outcome } =
            subject.ok_or_else(|| SqlError::corrupt("a screened wallet is missing"))?;
        let candidate = match outcome {
            ScreeningOutcome::Wallet(index) => self.candidates.get(*index),
            ScreeningOutcome::NoTransaction | ScreeningOutcome::Malformed(_) => None,
        };
        let (complete, reason) = match outcome {
            ScreeningOutcome::Wallet(_) => {
                let reasons = candidate.into_iter().flat_map(|candidate| &candidate.reasons);
                let reason = reasons.map(String::as_str).collect::<Vec<&str>>().join("; ");
                (reason.is_empty(), (!reason.is_empty()).then_some(reason))
            }
            ScreeningOutcome::NoTransaction => {
                let (complete, reason) = self.request.scope.no_transaction(address.as_deref().unwrap_or_default())?;
                (complete, Some(reason))
            }
            ScreeningOutcome::Malformed(reason) => (false, Some(reason.clone())),
        };
        let screened = candidate.map(|candidate| &candidate.screened);
        let received = screened.and_then(|screened| screened.received.as_ref());
        let sent = screened.and_then(|screened| screened.sent.as_ref());
        let value = |value| self.request.scope.value(value);
        let share =
            |flow: Option<&FlowSummary>, part: fn(&FlowSummary) -> f64| flow.and_then(|flow| flow.share(part(flow)));
        let own = candidate.and_then(|candidate| self.category(candidate.own_mark));
        let worst = screened.and_then(|screened| self.category(screened.worst_mark()));
        Ok(ScreeningRow {
            address: address.clone(),
            known: candidate.is_some(),
            category: own.map(|category| category.name.clone()),
            kind: own.map(|category| category.kind.as_str().to_owned()),
            received: received.and_then(|flow| value(flow.total)),
            sent: sent.and_then(|flow| value(flow.total)),
            sanctions_in: received.and_then(|flow| value(whole_units(flow.sanctions))),
            sanctions_out: sent.and_then(|flow| value(whole_units(flow.sanctions))),
            illicit_direct_in: received.and_then(|flow| value(flow.illicit_direct)),
            illicit_direct_out: sent.and_then(|flow| value(flow.illicit_direct)),
            illicit_share_in: share(received, |flow| flow.illicit),
            illicit_share_out: share(sent, |flow| flow.illicit),
            service_share_in: share(received, |flow| flow.services),
            service_share_out: share(sent, |flow| flow.services),
            unresolved_share_in: share(received, |flow| flow.unresolved),
            unresolved_share_out: share(sent, |flow| flow.unresolved),
            worst_category: worst.map(|category| category.name.clone()),
            nearest_hop: screened.and_then(ScreenedWallet::nearest_hop).map(u32::cast_signed),
            complete,
            reason,
            shortfall: candidate
                .and_then(|candidate| candidate.shortfall.flatten())
                .and_then(|shortfall| value(shortfall.amount)),
            shortfall_since: candidate
                .and_then(|candidate| candidate.shortfall.flatten())
                .map(|shortfall| from_micros(shortfall.first))
                .transpose()?,
        })
    }

    fn category(&self, mark: Option<u32>) -> Option<&ScreeningCategory> {
        self.labels.categories.get(mark? as usize)
    }
}
