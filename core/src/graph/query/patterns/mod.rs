//! Laundering patterns in time: who does with money what people do who hide where it comes from.
//!
//! Owns what each pattern is, how it is found and how strong a finding is; never where findings are kept.
//!
//! What all have in common:
//!
//! - Transfers of one asset on one network count, between two different wallets, of more than nothing
//!   ([`Kind::AddressPoisoning`] is about those of nothing, too), that did not fail, at a finite time.
//! - The transfers of a finding lie within a window: from the first to the last passes at most [`Pattern::window`]. Of overlapping
//!   windows of one subject one is reported: see `windows`.
//! - Whether something is a finding, and what it consists of, is decided by the transfers within [`Pattern::horizon`] of its first
//!   transfer. So findings can be brought up to date by looking near what has changed, and a large graph can be searched piece by
//!   piece.
//! - Nothing depends on the numbers that a graph gives to wallets and transfers: the same transfers give the same findings.
//! - A strength is a number from 0 to 1 without a dimension, to rank findings of one pattern by.
//!
//! Patterns of one wallet and its own transfers are found wallet by wallet (`fans`, `flows`, `dormant`, `poisoning`), those of
//! several wallets in slices of time (`slices`: `cycles`, `relays`, `layers`, `chains`).

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

pub use catalog::{Kind, OptionType, PATTERN_TYPES, PatternType, Range};
pub use finding::{Finding, Member};
pub use options::{Pattern, PatternError};

use finding::{Draft, Named, Strongest, no_room};

use crate::graph::budget::MemoryBudget;
use crate::graph::budget::{Halt, Interrupt};
use crate::graph::budget::{Pace, Stop};
use crate::graph::error::SearchError;
use crate::graph::types::U256;
use crate::graph::types::{Side, WalletId};
use crate::graph::view::filter::EdgeFilter;
use crate::graph::view::graph::Graph;

/// Where patterns are looked for.
#[derive(Debug, Clone, Copy)]
pub struct PatternScope<'s> {
    /// Canonical name of the network.
    pub network: &'s str,
    /// What the asset is called: part of what identifies a finding.
    pub asset: &'s str,
    /// Which transfers a finding may consist of: of one asset. A wallet's past is looked at beyond `since`.
    pub filter: EdgeFilter,
    /// Decimal places of the asset's amounts.
    pub scale: u32,
    /// Findings that this wallet is a member of.
    pub wallet: Option<WalletId>,
    /// So many at most, the strongest.
    pub max_findings: Option<usize>,
    /// Memory for the search and what is found.
    pub memory: MemoryBudget,
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Detected {
    /// The strongest first; of equal strength the earliest, then by the address of the wallet that they are about.
    pub findings: Vec<Finding>,
    /// Whether the time allowed was used up.
    pub out_of_time: bool,
    /// Whether there are more findings than were asked for.
    pub more: bool,
    /// How often a wallet was not passed through because it has more transfers or counterparties than `max_fan`.
    pub passed_over: u64,
}

impl Detected {
    /// Why there may be more, if there may.
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

/// Looks for a pattern. Time and memory depend on the pattern: see its module.
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
    let looked = match pattern.kind() {
        Kind::FanOut => fans::fan(&mut run, Side::Out),
        Kind::FanIn => fans::fan(&mut run, Side::In),
        Kind::GatherScatter => fans::gather_scatter(&mut run),
        Kind::PassThrough => flows::pass_through(&mut run),
        Kind::Structuring => flows::structuring(&mut run),
        Kind::DormantAwakened => dormant::awakened(&mut run),
        Kind::AddressPoisoning => poisoning::poisoning(&mut run),
        Kind::Cycle => cycles::cycles(&mut run),
        Kind::WashTrading => cycles::wash_trading(&mut run),
        Kind::ScatterGather => relays::scatter_gather(&mut run),
        Kind::Bipartite => layers::bipartite(&mut run),
        Kind::Stack => layers::stack(&mut run),
        Kind::RandomWalk => chains::random_walk(&mut run),
        Kind::PeelingChain => chains::peeling_chain(&mut run),
    };
    let out_of_time = Stop::halt(looked)?.is_some();
    let Run { mut room, mut strongest, passed_over, mut pace, .. } = run;
    strongest.shrink(graph, &mut room, pace.interrupt());
    Ok(Detected { findings: strongest.found, out_of_time, more: strongest.cut, passed_over })
}

/// A search under way.
struct Run<'r, 'g, W> {
    graph: &'r Graph<'g>,
    pattern: &'r Pattern,
    scope: &'r PatternScope<'r>,
    named: Named<'r>,
    /// What counts: at a finite time, more than nothing.
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
            // neither infinity is a time within a window
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

    /// After so many steps: ends the search if its time is used up.
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

    /// A wallet's transfers with others by time, in place of those that were there.
    fn load(&mut self, wallet: WalletId, side: Side, filter: &EdgeFilter, into: &mut Vec<Moved>) -> Result<(), Stop> {
        let grown = into.capacity();
        into.clear();
        let (graph, pace, left) = (self.graph, &mut self.pace, self.room.left() / size_of::<Moved>());
        graph.counted_transfers(wallet, side, filter, |transfer| -> Result<(), Stop> {
            if let Some(peer) = transfer.peer.filter(|peer| *peer != wallet) {
                // a vector that grows has the old one beside it
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

    /// A finding of what its detector has, its bytes booked.
    fn finding(&mut self, draft: Draft) -> Result<Finding, Stop> {
        self.step(draft.transfers.len())?;
        let finding = Finding::new(self.graph, &self.named, draft, self.pace.interrupt())?;
        self.book(finding.bytes())?;
        Ok(finding)
    }

    /// Reports a finding.
    fn keep(&mut self, finding: Finding) {
        self.strongest.add(finding, self.graph, &mut self.room, self.pace.interrupt());
    }

    /// Reports what was found.
    fn report(&mut self, draft: Draft) -> Result<(), Stop> {
        let finding = self.finding(draft)?;
        self.keep(finding);
        Ok(())
    }
}

/// Hours, to a hundredth.
fn hours(micros: i64) -> f64 {
    (micros as f64 / 3_600_000_000.0 * 100.0).round() / 100.0
}

/// A number to four places.
fn rounded(number: f64) -> f64 {
    (number * 1e4).round() / 1e4
}

/// The end of a window that begins at a time, inclusive.
const fn end_of(start: i64, window: i64) -> i64 {
    start.saturating_add(window)
}

/// Details of a finding.
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
