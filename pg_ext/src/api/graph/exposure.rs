//! How much of a wallet's funds came from labelled wallets, and how much went there.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use arx_core::graph::exposure::{Direct, Exposed, Exposure, ExposureTerms, MOST_HOPS, Part, exposures, whole_units};
use arx_core::graph::trace::Flow;
use arx_core::graph::{Direction, MemoryBudget, SearchError, U256};
use arx_core::label::{LabelKind, SANCTIONS};
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::labels::{Labels, LookError};
use super::question::{Scope, ScopeArguments, at_least_one, parse_direction};
use crate::convert::Wallet;
use crate::error::SqlError;
use crate::guc;
use crate::numeric::SqlNumeric;
use crate::spi::{Known, Sought, transfer_hashes};

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
    let wallet = Wallet::parse(address, network)?;
    let limits = Limits { direction, max_hops, max_fan_out };
    let scope = ScopeArguments { asset, since, until, min_value: None, include_failed: Some(false), max_time };
    let mut asked = Asked::parse(wallet.network.clone(), limits, scope)?;
    let Some(number) = asked.scope.known(&wallet)? else {
        let nothing = Some("wallet has no transaction".to_owned());
        let row = (None, None, None, None, None, None, None, None, None, None, None, None, None, true, nothing);
        return Ok(TableIterator::once(row));
    };
    let mut labels = Labels::new(&wallet.network, true);
    let mut rows = Vec::new();
    for (name, flow) in asked.flows() {
        let (exposed, reason) = asked.explain(number, flow, &mut labels)?;
        let order = |wallet| asked.scope.ready.graph().order(wallet);
        for line in lines(&exposed, flow, &labels, order, reason.is_some()) {
            let path = asked.path(line.path)?;
            let (addresses, hashes) = path.unzip();
            let counterparty = line.counterparty.map(|one| asked.scope.ready.graph().address(one).map(str::to_owned));
            rows.push((
                Some(name.to_owned()),
                Some(line.exposure.to_owned()),
                line.known.map(|known| known.category.clone()),
                line.known.map(|known| known.kind.as_str().to_owned()),
                line.known.map(|known| known.severity.as_str().to_owned()),
                asked.scope.value(line.value),
                line.share,
                line.nearest_hop.map(u32::cast_signed),
                line.wallets,
                counterparty.transpose().map_err(SqlError::from)?,
                line.counterparty
                    .and_then(|one| labels.of(one))
                    .map(|one| one.label.clone())
                    .filter(|one| !one.is_empty()),
                addresses,
                hashes,
                reason.is_none(),
                reason.clone(),
            ));
        }
    }
    Ok(TableIterator::new(rows))
}

/// Limits as they come.
pub struct Limits<'a> {
    pub direction: Option<&'a str>,
    pub max_hops: Option<i32>,
    pub max_fan_out: Option<i64>,
}

/// What is asked about one wallet, or many.
pub struct Asked {
    pub scope: Scope,
    direction: Direction,
    pub max_hops: u32,
    max_fan_out: Option<u64>,
}

impl Asked {
    pub fn parse(
        network: arx_core::address::Network,
        limits: Limits<'_>,
        scope: ScopeArguments<'_>,
    ) -> Result<Self, SqlError> {
        let required = SqlError::null_argument;
        let direction = parse_direction(limits.direction.ok_or_else(|| required("direction"))?)?;
        let max_hops = limits.max_hops.ok_or_else(|| required("max_hops"))?;
        let most = MOST_HOPS.cast_signed();
        if !(1..=most).contains(&max_hops) {
            return Err(SqlError::argument(format!("max_hops must be between 1 and {most}, not {max_hops}")));
        }
        let max_fan_out = limits.max_fan_out.map(|most| at_least_one("max_fan_out", most)).transpose()?;
        let scope = Scope::parse(network, scope)?;
        if !scope.filter.assets.is_single() {
            return Err(SqlError::argument("exposure is that of one asset: values of several cannot be added up")
                .hint("asset is native, the native coin's name, or the address of a token."));
        }
        Ok(Self { scope, direction, max_hops: max_hops.unsigned_abs(), max_fan_out })
    }

    /// Which ways are asked for, by the names that directions have.
    pub fn flows(&self) -> Vec<(&'static str, Flow)> {
        let (received, sent) = (("in", Flow::Backward), ("out", Flow::Forward));
        match self.direction {
            Direction::In => vec![received],
            Direction::Out => vec![sent],
            Direction::Both => vec![received, sent],
        }
    }

    pub fn terms(&self, flow: Flow, max_hops: u32, explained: bool) -> ExposureTerms {
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

    /// As many hops of what was asked for as memory allows.
    fn explain(&mut self, wallet: u32, flow: Flow, labels: &mut Labels) -> Result<(Exposed, Option<String>), SqlError> {
        let mut hops = self.max_hops;
        loop {
            let terms = self.terms(flow, hops, true);
            let Scope { ready, deadline, .. } = &mut self.scope;
            match exposures(&ready.graph(), &[wallet], &terms, labels, deadline) {
                Ok(mut found) => {
                    let fewer = (hops < self.max_hops).then(|| fewer_hops(hops));
                    let reason = found.halted.map(|halt| halt.name().to_owned()).or(fewer);
                    let exposed = found.found.pop().ok_or_else(|| SqlError::corrupt("an exposure has no wallet"))?;
                    return Ok((exposed, reason));
                }
                Err(LookError::Search(SearchError::Memory { .. })) if hops > 0 => hops -= 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Addresses along a path, and the transactions between them.
    #[allow(clippy::type_complexity)]
    fn path(&self, transfers: &[u64]) -> Result<Option<(Vec<String>, Vec<Option<String>>)>, SqlError> {
        if transfers.is_empty() {
            return Ok(None);
        }
        let graph = self.scope.ready.graph();
        let mut sought = Vec::with_capacity(transfers.len());
        for number in transfers {
            let transfer = graph.transfer(*number)?;
            sought.push(Sought::sent(&graph, graph.sender(*number)?, &transfer)?);
        }
        let hashes = transfer_hashes(&self.scope.network, &sought)?;
        let mut addresses: Vec<String> = sought.iter().map(|one| one.from.clone()).collect();
        addresses.extend(sought.last().and_then(|one| one.to.clone()));
        Ok(Some((addresses, hashes)))
    }
}

/// Why there is less than was asked for.
pub fn fewer_hops(hops: u32) -> String {
    format!("graph_work_mem used up beyond max_hops {hops}")
}

/// A line of the answer about one direction.
struct Line<'a> {
    exposure: &'static str,
    known: Option<&'a Known>,
    value: U256,
    share: Option<f64>,
    nearest_hop: Option<u32>,
    wallets: Option<i64>,
    counterparty: Option<u32>,
    path: &'a [u64],
}

/// Parts of one category, some of them direct.
#[derive(Default)]
struct Sum<'a> {
    known: Option<&'a Known>,
    exact: U256,
    value: f64,
    nearest: Option<u32>,
    wallets: BTreeSet<u32>,
    strongest: Option<(&'a Exposure, u32)>,
}

impl<'a> Sum<'a> {
    /// Of several labels of one category, the gravest.
    fn know(&mut self, known: &'a Known) {
        if self.known.is_none_or(|gravest| known.severity > gravest.severity) {
            self.known = Some(known);
        }
    }
}

/// Direct and indirect exposure by category, sanctions first, then the illicit; then what is left over.
fn lines<'a>(
    exposed: &'a Exposed,
    flow: Flow,
    labels: &'a Labels,
    order: impl Fn(u32) -> u64,
    cut: bool,
) -> Vec<Line<'a>> {
    let total = exposed.total.value.as_f64();
    if exposed.total.transfers == 0 && !cut {
        let (value, path) = (U256::ZERO, [].as_slice());
        let (share, nearest_hop, wallets, counterparty) = (None, None, None, None);
        return vec![Line { exposure: "none", known: None, value, share, nearest_hop, wallets, counterparty, path }];
    }
    let mut sums = BTreeMap::<(bool, &str), Sum<'a>>::new();
    for (part, Direct { value, .. }) in &exposed.direct {
        let Part::Wallet(wallet) = part else { continue };
        let Some(known) = labels.of(*wallet) else { continue };
        let sum = sums.entry((false, &known.category)).or_default();
        // parts of a total that did not overflow
        sum.exact = sum.exact.saturating_add(*value);
        sum.know(known);
        sum.nearest = Some(1);
        sum.wallets.insert(*wallet);
    }
    let mut left_over = Vec::<(&'static str, f64)>::new();
    let mut leave = |name, value| match left_over.iter_mut().find(|(known, _)| *known == name) {
        Some((_, sum)) => *sum += value,
        None => left_over.push((name, value)),
    };
    for part in &exposed.parts {
        let wallet = match part.part {
            Part::Wallet(wallet) => wallet,
            // a labelled wallet is not exposed to itself
            Part::Own => {
                leave("own funds", part.value);
                continue;
            }
            Part::Contract => {
                leave("contract creation", part.value);
                continue;
            }
            Part::FanOut => {
                leave("max_fan_out exceeded", part.value);
                continue;
            }
            Part::Hops => {
                leave("max_hops reached", part.value);
                continue;
            }
            Part::Rest | Part::Mark(_) => {
                leave(if flow == Flow::Backward { "source unknown" } else { "unspent" }, part.value);
                continue;
            }
        };
        let Some(known) = labels.of(wallet) else { continue };
        let sum = sums.entry((part.hops > 1, &known.category)).or_default();
        sum.know(known);
        sum.value += part.value;
        sum.nearest = Some(sum.nearest.map_or(part.hops, |nearest| nearest.min(part.hops)));
        sum.wallets.insert(wallet);
        // of equals the nearest, then the first by address
        let rank = |part: &Exposure, wallet| (Reverse(part.hops), Reverse(order(wallet)));
        let stronger = |(known, other): (&Exposure, u32)| {
            part.value.total_cmp(&known.value).then_with(|| rank(part, wallet).cmp(&rank(known, other))).is_gt()
        };
        if sum.strongest.is_none_or(stronger) {
            sum.strongest = Some((part, wallet));
        }
    }
    let mut lines: Vec<Line<'a>> = sums
        .into_iter()
        .map(|((indirect, _), sum)| {
            let value = if indirect { whole_units(sum.value) } else { sum.exact };
            Line {
                exposure: if indirect { "indirect" } else { "direct" },
                known: sum.known,
                value,
                share: Some(if indirect { sum.value } else { value.as_f64() } / total),
                nearest_hop: sum.nearest,
                wallets: Some(sum.wallets.len() as i64),
                counterparty: sum
                    .strongest
                    .map(|(_, wallet)| wallet)
                    .or_else(|| sum.wallets.iter().copied().min_by_key(|one| order(*one))),
                path: sum.strongest.map_or([].as_slice(), |(strongest, _)| &strongest.path),
            }
        })
        .collect();
    let weight = |line: &Line<'_>| {
        let category = line.known.map_or("", |known| known.category.as_str());
        let illicit = line.known.is_some_and(|known| known.kind == LabelKind::Illicit);
        (category != SANCTIONS, !illicit, line.exposure == "indirect")
    };
    lines.sort_by(|one, other| weight(one).cmp(&weight(other)).then(other.value.cmp(&one.value)));
    if cut && left_over.is_empty() {
        // totals and direct parts were seen alone
        let direct: U256 = lines.iter().fold(U256::ZERO, |sum, line| sum.saturating_add(line.value));
        left_over.push(("not looked at", exposed.total.value.saturating_sub(direct).as_f64()));
    }
    // the last of what is left over makes the sum exact
    let mut left = lines.iter().fold(exposed.total.value, |left, line| left.saturating_sub(line.value));
    let last = left_over.len();
    for (number, (exposure, value)) in (1..).zip(left_over) {
        let (known, nearest_hop, wallets, counterparty, path) = (None, None, None, None, [].as_slice());
        let share = Some(value / total);
        let value = if number == last { left } else { whole_units(value).min(left) };
        left = left.saturating_sub(value);
        lines.push(Line { exposure, known, value, share, nearest_hop, wallets, counterparty, path });
    }
    lines
}
