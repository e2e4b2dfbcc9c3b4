//! Cheapest paths between two wallets.
//!
//! Owns what a step costs, which of two paths comes first, and the searches for them; never what is behind a step.
//!
//! - `hops`: fewest hops, by breadth-first search from both ends.
//! - `weighted`: cheapest within a number of hops, by labels; `potential`: what lets it know where the target lies.
//! - `ranking`: the next ones after the first, over either search.
//! - `steps`: what was transferred along a path.

mod cost;
mod hops;
mod potential;
mod ranking;
mod steps;
mod weighted;

use crate::graph::budget::MemoryBudget;
use crate::graph::budget::{Halt, Interrupt};
use crate::graph::budget::{Pace, SearchLimits, Stop};
use crate::graph::error::SearchError;
use crate::graph::query::visited::book;
use crate::graph::types::U256;
use crate::graph::types::{AssetId, Direction, WalletId};
use crate::graph::view::filter::EdgeFilter;
use crate::graph::view::graph::Graph;

use hops::Bidirectional;
use steps::Describe;
use weighted::Labelling;

/// The most paths that may be asked for: each one after the first costs up to as many searches as it has hops.
const MAX_PATHS: i32 = 100;

/// What makes a path cheap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Weight {
    /// Few steps: each costs 1.
    Hops,
    /// A large share of the funds: a step costs -ln(share), where share is its value over all that the wallet that is left sent
    /// (for [`Direction::In`] received, for [`Direction::Both`] both) in transfers that count, what it sent itself included. Shares
    /// along a path multiply, as in the haircut method of taint analysis (Möser, Böhme, Breuker: Towards Risk Scoring of Bitcoin
    /// Transactions, 2014), so exp(-cost) of a path is the share of the source's funds that took it. A step without value is not
    /// taken. Costs are multiples of 2^-40.
    Value,
    /// Recent steps: each costs the days from its last transfer to `now`; none if it is later, at most 2^58 microseconds.
    Recency {
        /// Microseconds since the epoch of the graph's times.
        now: i64,
    },
}

/// What one wallet of a path sent the other, as far as it counts.
///
/// Sender and receiver are as transferred: a step that is walked against the direction of its transfers has the wallet it leaves
/// as `to`. Where both ways may be walked and both wallets sent each other something, it is the cheaper of the two, and of equally
/// cheap ones the one that goes along with the path.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// The sender.
    pub from: WalletId,
    /// The receiver.
    pub to: WalletId,
    /// Transfers.
    pub transfers: u64,
    /// Their sum; zero for several assets.
    pub value: U256,
    /// Time of the first.
    pub first: i64,
    /// Time of the last.
    pub last: i64,
    /// The asset; `None` for several.
    pub asset: Option<AssetId>,
    /// What the step costs.
    pub cost: f64,
}

/// A way from one wallet to another.
#[derive(Debug, Clone, PartialEq)]
pub struct Path {
    /// From the source to the target, each once.
    pub wallets: Vec<WalletId>,
    /// Between each of them and the next.
    pub steps: Vec<Step>,
    /// Of all steps together.
    pub cost: f64,
}

/// The paths that were found.
#[derive(Debug, Clone, PartialEq)]
pub struct Paths {
    /// By cost, then hops, then the addresses along the path.
    pub found: Vec<Path>,
    /// Why the search stopped early, if it did. Then there may be cheaper paths than those found, and paths where none was found.
    pub halted: Option<Halt>,
}

/// The `k` cheapest paths from `source` to `target` that visit no wallet twice and have at most `limits.max_depth` steps; fewer, if
/// there are no more. By cost, then hops, then addresses along the path, so the same graph always gives the same paths. From a
/// wallet to itself there is one path, without steps. `limits.max_wallets` holds for each of the searches that several paths take.
///
/// The path of fewest hops takes O(edges of the two halves looked at). By weight, one path takes O(h e log(h n)) for `h` hops, `n`
/// wallets and `e` edges within reach: to keep to the limit exactly, a wallet may be visited once for every number of hops. Each
/// path after the first takes at most one more search for every step of it.
///
/// # Errors
/// [`SearchError::Depth`], [`SearchError::Paths`], [`SearchError::SeveralAssets`] for [`Weight::Value`] without a single asset,
/// [`SearchError::Memory`], [`SearchError::ValueOverflow`], [`SearchError::Damaged`].
#[expect(clippy::too_many_arguments, reason = "each is a thing of its own that callers name")]
pub fn shortest_paths<W: Interrupt>(
    graph: &Graph<'_>,
    source: WalletId,
    target: WalletId,
    direction: Direction,
    filter: &EdgeFilter,
    weight: Weight,
    k: i32,
    limits: &SearchLimits,
    interrupt: &mut W,
) -> Result<Paths, SearchError> {
    let max_hops = limits.depth()?;
    if !(1..=MAX_PATHS).contains(&k) {
        return Err(SearchError::Paths { k, limit: MAX_PATHS });
    }
    if weight == Weight::Value && !filter.assets.is_single() {
        return Err(SearchError::SeveralAssets);
    }
    if source == target {
        return Ok(Paths { found: vec![Path { wallets: vec![source], steps: Vec::new(), cost: 0.0 }], halted: None });
    }
    let mut memory = limits.memory;
    let mut pace = Pace::new(interrupt);
    let terms = Terms { graph, direction, filter, max_wallets: limits.max_wallets.unwrap_or(u64::MAX) };
    let ends = ranking::Ends { source, target, max_hops, paths: k.unsigned_abs() as usize };
    let (routes, halted) = if weight == Weight::Hops {
        let mut search = Bidirectional::new(terms, &mut memory);
        ranking::ranked(graph, &mut search, &ends, &mut memory, &mut pace)?
    } else {
        let mut search = Labelling::new(terms, weight, &mut memory);
        match search.look_back(&ends, &mut memory, &mut pace)? {
            None => ranking::ranked(graph, &mut search, &ends, &mut memory, &mut pace)?,
            halted => (Vec::new(), halted),
        }
    };
    let steps = Describe { graph, direction, filter, weight };
    let mut found = Vec::with_capacity(routes.len());
    for route in routes {
        let room = route.wallets.len() * (size_of::<WalletId>() + size_of::<Step>());
        book(&mut memory, room, max_hops, route.wallets.len())?;
        let cost = cost::shown(weight, route.length().cost);
        found.push(Path { steps: steps.along(&route.wallets, &mut pace)?, wallets: route.wallets, cost });
    }
    Ok(Paths { found, halted })
}

/// What all searches of one call share.
struct Terms<'g> {
    graph: &'g Graph<'g>,
    direction: Direction,
    filter: &'g EdgeFilter,
    max_wallets: u64,
}

/// What orders paths before addresses do. Costs are whole numbers (see `cost`), so sums are exact and ties are ties.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Length {
    cost: u64,
    hops: u32,
}

/// One search among others: a path from `source` to `target` that continues one.
#[derive(Debug, Clone, Copy)]
struct Task<'t> {
    source: WalletId,
    target: WalletId,
    /// Of the path that is continued.
    start: Length,
    /// Of the whole path.
    max_hops: u32,
    /// Longer paths are of no use.
    longest: Option<Length>,
    /// Wallets not to visit.
    banned: &'t [WalletId],
    /// Wallets not to go to from the source.
    not_first: &'t [WalletId],
}

/// Wallets along a path, and what the path to each of them costs.
#[derive(Debug, Clone)]
struct Route {
    wallets: Vec<WalletId>,
    costs: Vec<u64>,
}

impl Route {
    fn length(&self) -> Length {
        let hops = self.wallets.len().saturating_sub(1) as u32;
        Length { cost: self.costs.last().copied().unwrap_or(0), hops }
    }
}

/// What a search found.
struct Outcome {
    /// The first path there is in the order of paths, or, if the search was halted, one that need not be the first.
    route: Option<Route>,
    halted: Option<Halt>,
}

/// A search for the first path in the order of paths.
trait Search {
    /// Searches with at most the memory left, which is free again afterwards.
    fn search<W: Interrupt>(
        &mut self,
        task: &Task<'_>,
        memory: MemoryBudget,
        pace: &mut Pace<'_, W>,
    ) -> Result<Outcome, SearchError>;
}

/// The direction in which the same steps are walked from the other end.
const fn reversed(direction: Direction) -> Direction {
    match direction {
        Direction::Out => Direction::In,
        Direction::In => Direction::Out,
        Direction::Both => Direction::Both,
    }
}

/// What looking at a wallet's edges costs.
fn degree(graph: &Graph<'_>, wallet: WalletId, direction: Direction) -> usize {
    direction.sides().iter().map(|side| graph.degree(wallet, *side)).sum()
}

#[cfg(test)]
mod tests;
