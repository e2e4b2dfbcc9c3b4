//! Laundering patterns in time: transfer patterns that are typical of hiding the origin of money.
//!
//! Owns the definition of each pattern, its detection and the strength of findings, but not their
//! storage.
//!
//! Common to all patterns:
//!
//! - Transfers of one asset on one network count, between two different wallets, with a value above
//!   zero ([`PatternKind::AddressPoisoning`] also counts those of zero), that did not fail, at a
//!   finite time.
//! - The transfers of a finding lie within a window: at most [`Pattern::window`] passes from the
//!   first to the last. Of overlapping windows of one subject, one is reported: see `windows`.
//! - A finding and its contents depend only on the transfers within [`Pattern::horizon`] of its
//!   first transfer. So findings can be updated by searching near changed transfers, and a large
//!   graph can be searched piece by piece.
//! - Findings do not depend on the numbers that a graph assigns to wallets and transfers: the same
//!   transfers give the same findings.
//! - The strength is a dimensionless number from 0 to 1, which ranks findings of the same pattern.
//!
//! Patterns of a single wallet and its transfers are detected wallet by wallet (`fans`, `flows`,
//! `dormant`, `poisoning`), those of several wallets in slices of time (`slices`: `cycles`,
//! `relays`, `layers`, `chains`).

mod bands;
mod catalog;
mod chains;
mod circuits;
mod cycles;
mod dormant;
mod fans;
mod finding;
mod flows;
mod layers;
mod options;
mod poisoning;
mod relays;
mod slices;
mod windows;

pub use catalog::{OptionRange, OptionType, PATTERN_TYPES, PatternKind, PatternType};
pub use finding::{Finding, Member};
pub use options::{Pattern, PatternError};

use finding::{FindingDraft, Named, Strongest, no_room};

use crate::graph::budget::MemoryBudget;
use crate::graph::budget::{Halt, Interrupt};
use crate::graph::budget::{Pace, Stop};
use crate::graph::error::SearchError;
use crate::graph::types::U256;
use crate::graph::types::{Side, WalletId};
use crate::graph::view::filter::EdgeFilter;
use crate::graph::view::graph::Graph;

/// Scope and limits of a search.
#[derive(Debug, Clone, Copy)]
pub struct PatternScope<'s> {
    /// Canonical name of the network.
    pub network: &'s str,
    /// Name of the asset, a part of the identity of findings.
    pub asset: &'s str,
    /// Transfers that a finding may consist of, of a single asset. A wallet's past is also read
    /// before `since`.
    pub filter: EdgeFilter,
    /// Decimals of the asset's amounts.
    pub scale: u32,
    /// Restricts findings to those with this wallet as a member.
    pub wallet: Option<WalletId>,
    /// Maximum number of findings; the strongest are kept.
    pub max_findings: Option<usize>,
    /// Memory for the search and its findings.
    pub memory: MemoryBudget,
}

/// Result of a search.
#[derive(Debug, Clone, PartialEq)]
pub struct Detected {
    /// Findings, strongest first, then earliest first, then by address of the central wallet.
    pub findings: Vec<Finding>,
    /// The time limit was reached.
    pub out_of_time: bool,
    /// There are more findings than the maximum.
    pub more: bool,
    /// Number of times that a wallet was not passed through, because it has more transfers or
    /// counterparties than `max_fan`.
    pub passed_over: u64,
}

impl Detected {
    /// Returns the limits that may have hidden findings, if any.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        let mut reasons = Vec::new();
        if self.out_of_time {
            reasons.push(Halt::Time.name().to_owned());
        }
        if self.more {
            reasons.push("max_findings reached".to_owned());
        }
        if self.passed_over > 0 {
            reasons.push(format!("max_fan reached {} times", self.passed_over));
        }
        (!reasons.is_empty()).then(|| reasons.join(", "))
    }
}

/// Searches for a pattern. Time and memory depend on the pattern: see its module.
///
/// # Errors
/// [`SearchError::SeveralAssets`], [`SearchError::PatternMemory`], [`SearchError::Damaged`].
pub fn detect<W: Interrupt>(
    graph: &Graph<'_>,
    pattern: &Pattern,
    scope: &PatternScope<'_>,
    interrupt: &mut W,
) -> Result<Detected, SearchError> {
    if !scope.filter.assets.is_single() {
        return Err(SearchError::SeveralAssets);
    }
    let mut run = Run::new(graph, pattern, scope, interrupt);
    let outcome = match pattern.kind() {
        PatternKind::FanOut => fans::fan(&mut run, Side::Out),
        PatternKind::FanIn => fans::fan(&mut run, Side::In),
        PatternKind::GatherScatter => fans::gather_scatter(&mut run),
        PatternKind::PassThrough => flows::pass_through(&mut run),
        PatternKind::Structuring => flows::structuring(&mut run),
        PatternKind::DormantAwakened => dormant::awakened(&mut run),
        PatternKind::AddressPoisoning => poisoning::poisoning(&mut run),
        PatternKind::Cycle => cycles::cycles(&mut run),
        PatternKind::WashTrading => cycles::wash_trading(&mut run),
        PatternKind::ScatterGather => relays::scatter_gather(&mut run),
        PatternKind::Bipartite => layers::bipartite(&mut run),
        PatternKind::Stack => layers::stack(&mut run),
        PatternKind::RandomWalk => chains::random_walk(&mut run),
        PatternKind::PeelingChain => chains::peeling_chain(&mut run),
    };
    let out_of_time = Stop::halt(outcome)?.is_some();
    let Run { mut room, mut strongest, passed_over, mut pace, .. } = run;
    strongest.shrink(graph, &mut room, pace.interrupt());
    Ok(Detected { findings: strongest.found, out_of_time, more: strongest.cut, passed_over })
}

/// A search in progress.
struct Run<'r, 'g, W> {
    graph: &'r Graph<'g>,
    pattern: &'r Pattern,
    scope: &'r PatternScope<'r>,
    named: Named<'r>,
    /// Transfers that count: at a finite time, with a value above zero.
    filter: EdgeFilter,
    pace: Pace<'r, W>,
    room: MemoryBudget,
    strongest: Strongest,
    passed_over: u64,
}

/// A transfer of a wallet.
#[derive(Debug, Clone, Copy)]
struct Moved {
    time: i64,
    number: u64,
    peer: WalletId,
    value: U256,
}

impl Moved {
    const fn sent(&self, from: WalletId) -> Member {
        Member { time: self.time, number: self.number, from, to: self.peer, value: self.value }
    }

    const fn received(&self, to: WalletId) -> Member {
        Member { time: self.time, number: self.number, from: self.peer, to, value: self.value }
    }

    const fn on(&self, side: Side, wallet: WalletId) -> Member {
        match side {
            Side::Out => self.sent(wallet),
            Side::In => self.received(wallet),
        }
    }
}

impl<'r, 'g, W: Interrupt> Run<'r, 'g, W> {
    fn new(graph: &'r Graph<'g>, pattern: &'r Pattern, scope: &'r PatternScope<'r>, interrupt: &'r mut W) -> Self {
        let least = scope.filter.min_value.unwrap_or(U256::ZERO).max(U256::ONE);
        let filter = EdgeFilter {
            // Neither infinity lies within a window.
            since: Some(scope.filter.since.unwrap_or(i64::MIN).max(i64::MIN + 1)),
            until: Some(scope.filter.until.unwrap_or(i64::MAX)),
            min_value: Some(least),
            min_transfers: 1,
            include_failed: false,
            ..scope.filter
        };
        Self {
            graph,
            pattern,
            scope,
            named: Named { pattern: pattern.name(), network: scope.network, asset: scope.asset },
            filter,
            pace: Pace::new(interrupt),
            room: MemoryBudget::new(scope.memory.left()),
            strongest: Strongest::new(scope.max_findings, scope.wallet),
            passed_over: 0,
        }
    }

    const fn window(&self) -> i64 {
        self.pattern.window()
    }

    /// Counts steps, and ends the search when the time limit is reached.
    #[inline]
    fn step(&mut self, steps: usize) -> Result<(), Stop> {
        self.pace.step(steps).map_or(Ok(()), |halt| Err(Stop::Halt(halt)))
    }

    /// Books bytes.
    fn book(&mut self, bytes: usize) -> Result<(), Stop> {
        if self.room.take(bytes) { Ok(()) } else { Err(no_room(&self.room, self.strongest.found.len()).into()) }
    }

    /// A place for every wallet, all zero, booked.
    fn places(&mut self) -> Result<Vec<u32>, Stop> {
        let wallets = self.graph.wallets() as usize;
        self.book(wallets * size_of::<u32>())?;
        Ok(vec![0; wallets])
    }

    /// Wallets that a finding can be about if it is about a wallet and its own counterparties.
    fn centers(&mut self) -> Result<Vec<WalletId>, Stop> {
        let mut centers = Vec::new();
        let Some(wallet) = self.scope.wallet else {
            self.book(self.graph.wallets() as usize * size_of::<WalletId>())?;
            for wallet in self.graph.wallet_ids() {
                self.step(0)?;
                if self.graph.network(wallet)? == self.scope.network {
                    centers.push(wallet);
                }
            }
            return Ok(centers);
        };
        centers.push(wallet);
        for side in [Side::Out, Side::In] {
            let (graph, pace) = (self.graph, &mut self.pace);
            graph.transfers(wallet, side, |transfer| -> Result<(), Stop> {
                centers.extend(transfer.peer);
                pace.step(0).map_or(Ok(()), |halt| Err(Stop::Halt(halt)))
            })?;
        }
        self.book(centers.len() * size_of::<WalletId>())?;
        centers.sort_unstable();
        centers.dedup();
        Ok(centers)
    }

    /// Loads a wallet's transfers with others by time, and replaces the contents of `into`.
    fn load(&mut self, wallet: WalletId, side: Side, filter: &EdgeFilter, into: &mut Vec<Moved>) -> Result<(), Stop> {
        let grown = into.capacity();
        into.clear();
        let (graph, pace, left) = (self.graph, &mut self.pace, self.room.left() / size_of::<Moved>());
        graph.counted_transfers(wallet, side, filter, |transfer| -> Result<(), Stop> {
            if let Some(peer) = transfer.peer.filter(|peer| *peer != wallet) {
                // A growing vector briefly exists twice.
                if into.len() >= grown && 3 * (into.len() - grown) > left {
                    return Err(SearchError::PatternMemory {
                        budget: self.room.limit(),
                        findings: self.strongest.found.len(),
                    }
                    .into());
                }
                into.push(Moved { time: transfer.time, number: transfer.number, peer, value: transfer.value });
            }
            pace.step(0).map_or(Ok(()), |halt| Err(Stop::Halt(halt)))
        })?;
        self.book((into.capacity() - grown) * size_of::<Moved>())
    }

    /// Makes a finding of a draft, and books its bytes.
    fn finding(&mut self, draft: FindingDraft) -> Result<Finding, Stop> {
        self.step(draft.transfers.len())?;
        let finding = Finding::new(self.graph, &self.named, draft, self.pace.interrupt())?;
        self.book(finding.bytes())?;
        Ok(finding)
    }

    fn keep(&mut self, finding: Finding) {
        self.strongest.add(finding, self.graph, &mut self.room, self.pace.interrupt());
    }

    /// Makes a finding of a draft, and keeps it.
    fn report(&mut self, draft: FindingDraft) -> Result<(), Stop> {
        let finding = self.finding(draft)?;
        self.keep(finding);
        Ok(())
    }
}

/// Returns hours, rounded to a hundredth.
fn hours(micros: i64) -> f64 {
    (micros as f64 / 3_600_000_000.0 * 100.0).round() / 100.0
}

/// Rounds a number to four decimals.
fn rounded(number: f64) -> f64 {
    (number * 1e4).round() / 1e4
}

/// Returns the inclusive end of a window that begins at `start`.
const fn end_of(start: i64, window: i64) -> i64 {
    start.saturating_add(window)
}

/// Makes the details of a finding.
macro_rules! details {
    ($($name:literal: $value:expr),* $(,)?) => {{
        let mut details = serde_json::Map::new();
        $(details.insert($name.to_owned(), serde_json::Value::from($value));)*
        details
    }};
}
use details;

#[cfg(test)]
mod tests;
