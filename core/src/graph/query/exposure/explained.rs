//! The exposure of one wallet with paths, by a trace: its lines are the ends of the haircut trace
//! of the wallet's transfers, to the last unit.

use std::collections::BTreeMap;

use super::flow::direct;
use super::{Direct, Exposure, ExposureTerms, Marks, Part};
use crate::graph::budget::{Interrupt, Pace};
use crate::graph::query::trace::{
    End, EndedAmount, Flow, Shortfall, Stops, TaintMethod, Terms, Trace, TraceOrigin, trace,
};
use crate::graph::types::{U256, WalletId};
use crate::graph::view::basket::Unvalued;
use crate::graph::view::graph::Graph;

/// Funds that paths of one length carried between a wallet and a labelled one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedPart {
    /// The labelled wallet.
    pub wallet: WalletId,
    /// Number of transfers between.
    pub hops: u32,
    /// Amount, in units of the asset.
    pub value: U256,
    /// Numbers of the transfers of the path that carried the most, in the order of time.
    pub path: Vec<u64>,
}

/// The exposure of one wallet, with paths and remainders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedExposure {
    /// The wallet.
    pub wallet: WalletId,
    /// All transfers that it received or sent within the window, except to itself.
    pub total: Direct,
    /// Transfers with labelled wallets, by wallet.
    pub direct: Vec<(WalletId, Direct)>,
    /// Parts at labelled wallets, by address and hops.
    pub parts: Vec<ExplainedPart>,
    /// Ends at wallets without a label, and limits.
    pub remainders: Vec<EndedAmount>,
    /// Labelled wallets to which funds came in an order that was inferred.
    pub inferred: Vec<WalletId>,
    /// Wallets that sent more than they are known to have received.
    pub shortfalls: Vec<Shortfall>,
    /// Assets that a basket has no value for.
    pub unvalued: Vec<Unvalued>,
    /// Limits that cut funds, with the amounts that they cut.
    pub cuts: Vec<(End, U256)>,
}

/// Tracing stops at every labelled wallet.
struct AtMarks<'m, M>(&'m mut M);

impl<M: Marks> Stops for AtMarks<'_, M> {
    type Error = M::Error;

    fn prepare(&mut self, graph: &Graph<'_>, wallets: &[WalletId]) -> Result<(), M::Error> {
        self.0.prepare(graph, wallets)
    }

    fn stops_at(&self, wallet: WalletId) -> bool {
        self.0.mark(wallet).is_some()
    }
}

/// Computes the exposure of a wallet with paths. O(n log n) in the transfers of the wallets that
/// its funds passed through. Limits on time and memory cut the answer short and are among its
/// [`cuts`](ExplainedExposure::cuts).
///
/// # Errors
/// [`SearchError::Memory`](crate::graph::SearchError::Memory) when the wallet's own transfers do
/// not fit, [`SearchError::ValueOverflow`](crate::graph::SearchError::ValueOverflow),
/// [`SearchError::Damaged`](crate::graph::SearchError::Damaged), and the errors of `marks`.
pub fn explain<M: Marks, W: Interrupt>(
    graph: &Graph<'_>,
    wallet: WalletId,
    terms: &ExposureTerms,
    marks: &mut M,
    interrupt: &mut W,
) -> Result<ExplainedExposure, M::Error> {
    let Some((total, by_peer)) = direct(graph, wallet, terms, marks, &mut Pace::new(interrupt))? else {
        return Ok(ExplainedExposure {
            wallet,
            total: Direct::default(),
            direct: Vec::new(),
            parts: Vec::new(),
            remainders: Vec::new(),
            inferred: Vec::new(),
            shortfalls: Vec::new(),
            unvalued: Vec::new(),
            cuts: vec![(End::Time, U256::ZERO)],
        });
    };
    let trace_terms = Terms {
        flow: terms.flow,
        method: TaintMethod::Haircut,
        assets: terms.assets,
        since: terms.since,
        until: terms.until,
        max_hops: terms.max_hops,
        min_value: None,
        max_fan_out: terms.max_fan_out,
        max_wallets: None,
        min_share: 0,
        late_steps: 0,
        follows_before_since: true,
        paths: true,
        memory: terms.memory,
    };
    let traced = trace(graph, &TraceOrigin::Wallet(wallet), &trace_terms, &mut AtMarks(marks), interrupt)?;
    let direct = by_peer.into_iter().filter(|(peer, _)| *peer != wallet && marks.mark(*peer).is_some()).collect();
    Ok(ExplainedExposure::of_trace(wallet, terms.flow, total, direct, traced))
}

impl ExplainedExposure {
    fn of_trace(wallet: WalletId, flow: Flow, total: Direct, direct: Vec<(WalletId, Direct)>, traced: Trace) -> Self {
        let cuts = traced.cuts();
        let sum = |sums: &[(_, U256)]| sums.iter().fold(U256::ZERO, |sum, (_, amount)| sum.saturating_add(*amount));
        let cuts = cuts.iter().map(|(end, sums)| (*end, sum(sums))).collect();
        let (at_stops, remainders) = traced.ends.into_iter().partition::<Vec<_>, _>(|end| end.end == End::Stop);
        let inferred = at_stops.into_iter().filter(|end| end.inferred).filter_map(|end| end.wallet).collect();
        let parts = traced.stopped.into_iter().map(|part| {
            let mut path = part.path;
            if flow == Flow::Backward {
                path.reverse();
            }
            ExplainedPart { wallet: part.wallet, hops: part.hops, value: part.amount, path }
        });
        Self {
            wallet,
            total,
            direct,
            parts: parts.collect(),
            remainders,
            inferred,
            shortfalls: traced.shortfalls,
            unvalued: traced.unvalued,
            cuts,
        }
    }

    /// Returns the parts as a search for many wallets reports them.
    pub(super) fn by_mark(&self, mark: impl Fn(WalletId) -> Option<u32>) -> Vec<Exposure> {
        let mut sums: BTreeMap<(Part, u32), f64> = BTreeMap::new();
        for part in &self.parts {
            if let Some(mark) = mark(part.wallet) {
                *sums.entry((Part::Mark(mark), part.hops)).or_default() += part.value.as_f64();
            }
        }
        for end in &self.remainders {
            let part = match end.end {
                End::TraceOrigin => Part::Own,
                End::FanOut => Part::FanOut,
                End::Hops => Part::Hops,
                _ => continue,
            };
            *sums.entry((part, 0)).or_default() += end.amount.as_f64();
        }
        sums.into_iter().map(|((part, hops), value)| Exposure { part, hops, value }).collect()
    }
}
