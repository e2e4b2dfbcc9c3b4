//! Cheapest paths between two wallets.
//!
//! Owns the cost of a step, the order of paths, and the searches; never the transfers behind a
//! step.
//!
//! - `hops`: fewest hops, by breadth-first search from both ends.
//! - `weighted`: the cheapest path within a number of hops, by labels; `potential`: lower bounds
//!   that guide it.
//! - `ranking`: the paths after the first one, on top of either search.
//! - `steps`: the transfers along a path.

mod cost;
mod hops;
mod potential;
mod ranking;
mod steps;
mod weighted;

use crate::graph::budget::{Halt, Interrupt, MemoryBudget, Pace, SearchLimits, Stop};
use crate::graph::error::SearchError;
use crate::graph::query::visited::book;
use crate::graph::types::{AssetId, Direction, U256, WalletId};
use crate::graph::view::filter::EdgeFilter;
use crate::graph::view::graph::Graph;

use hops::Bidirectional;
use steps::StepReader;
use weighted::Labelling;

/// Maximum number of paths. Each path after the first costs up to one search per hop.
const MAX_PATHS: i32 = 100;

/// Cost of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Weight {
    /// Each step costs 1: prefers few steps.
    Hops,
    /// A step costs -ln(share): prefers a large share of the funds. The share is the value of the
    /// step over everything that the wallet it leaves sent (for [`Direction::In`] received, for
    /// [`Direction::Both`] both) in counted transfers, including transfers to itself. Shares along
    /// a path multiply, as in the haircut method of taint analysis (Möser, Böhme, Breuker: Towards
    /// Risk Scoring of Bitcoin Transactions, 2014), so exp(-cost) of a path is the share of the
    /// source's funds that took it. A step without value is not taken. Costs are multiples of
    /// 2^-40.
    Value,
    /// A step costs the days from its last transfer to `now`, at most 2^58 microseconds; nothing if
    /// that transfer is later. Prefers recent steps.
    Recency {
        /// Reference time, in microseconds of the graph's epoch.
        now: i64,
    },
}

/// Counted transfers between two consecutive wallets of a path.
///
/// Sender and receiver are those of the transfers: a step that is walked against their direction
/// leaves the wallet `to`. If both directions may be walked and both wallets sent each other
/// something, the step is the cheaper of the two, and among equals the one in the direction of the
/// path.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PathStep {
    /// Sender of the transfers.
    pub from: WalletId,
    /// Receiver of the transfers.
    pub to: WalletId,
    /// Number of transfers.
    pub transfers: u64,
    /// Sum of their values; zero for several assets.
    pub value: U256,
    /// Time of the first transfer.
    pub first: i64,
    /// Time of the last transfer.
    pub last: i64,
    /// Asset of the transfers; `None` for several.
    pub asset: Option<AssetId>,
    /// Cost of the step.
    pub cost: f64,
}

/// A path from one wallet to another.
#[derive(Debug, Clone, PartialEq)]
pub struct Path {
    /// Distinct wallets from the source to the target.
    pub wallets: Vec<WalletId>,
    /// Step from each wallet to the next one.
    pub steps: Vec<PathStep>,
    /// Sum of the costs of all steps.
    pub cost: f64,
}

/// Result of [`shortest_paths`].
#[derive(Debug, Clone, PartialEq)]
pub struct Paths {
    /// Paths by cost, then hops, then the addresses along the path.
    pub paths: Vec<Path>,
    /// Limit at which the search stopped, if it did. There may then be more paths, and cheaper
    /// ones.
    pub halted: Option<Halt>,
}

/// Returns the `k` cheapest paths from `source` to `target` that visit no wallet twice and have at
/// most `limits.max_depth` steps; fewer, if there are no more. Paths are ordered by cost, then
/// hops, then addresses along the path, so the same graph always gives the same paths. A wallet has
/// one path to itself, without steps. `limits.max_wallets` applies to each of the searches that
/// several paths take.
///
/// The path of fewest hops takes O(edges read from the two ends). By weight, one path takes O(h e
/// log(h n)) for `h` hops, `n` wallets and `e` edges within reach: because of the exact limit, a
/// wallet may be visited once for every number of hops. Each path after the first takes at most one
/// more search per step.
///
/// # Errors
/// [`SearchError::Depth`], [`SearchError::Paths`], [`SearchError::SeveralAssets`] for
/// [`Weight::Value`] without a single asset, [`SearchError::Memory`],
/// [`SearchError::ValueOverflow`], [`SearchError::Damaged`].
#[expect(clippy::too_many_arguments, reason = "callers name each of them")]
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
        return Ok(Paths { paths: vec![Path { wallets: vec![source], steps: Vec::new(), cost: 0.0 }], halted: None });
    }
    let mut memory = limits.memory;
    let mut pace = Pace::new(interrupt);
    let terms = PathTerms { graph, direction, filter, max_wallets: limits.max_wallets.unwrap_or(u64::MAX) };
    let ends = ranking::RankingTerms { source, target, max_hops, paths: k.unsigned_abs() as usize };
    let (routes, halted) = if weight == Weight::Hops {
        let mut search = Bidirectional::new(terms, &mut memory);
        ranking::ranked(graph, &mut search, &ends, &mut memory, &mut pace)?
    } else {
        let mut search = Labelling::new(terms, weight, &mut memory);
        match search.compute_bounds(&ends, &mut memory, &mut pace)? {
            None => ranking::ranked(graph, &mut search, &ends, &mut memory, &mut pace)?,
            halted => (Vec::new(), halted),
        }
    };
    let steps = StepReader { graph, direction, filter, weight };
    let mut paths = Vec::with_capacity(routes.len());
    for route in routes {
        let bytes = route.wallets.len() * (size_of::<WalletId>() + size_of::<PathStep>());
        book(&mut memory, bytes, max_hops, route.wallets.len())?;
        let cost = cost::shown(weight, route.length().cost);
        paths.push(Path { steps: steps.along(&route.wallets, &mut pace)?, wallets: route.wallets, cost });
    }
    Ok(Paths { paths, halted })
}

/// Parameters that all searches of one call share.
struct PathTerms<'g> {
    graph: &'g Graph<'g>,
    direction: Direction,
    filter: &'g EdgeFilter,
    max_wallets: u64,
}

/// Orders paths before their addresses do. Costs are integers (see `cost`), so sums and ties are
/// exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Length {
    cost: u64,
    hops: u32,
}

/// One search of several: a path from `source` to `target` that continues a given path.
#[derive(Debug, Clone, Copy)]
struct PathTask<'t> {
    source: WalletId,
    target: WalletId,
    /// Length of the path that is continued.
    start: Length,
    /// Maximum hops of the whole path.
    max_hops: u32,
    /// Length beyond which a path is of no use.
    longest: Option<Length>,
    /// Wallets not to visit.
    banned: &'t [WalletId],
    /// Wallets that may not follow the source.
    not_first: &'t [WalletId],
}

/// Wallets along a path, with the cost of the path to each of them.
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

/// Result of a search.
struct PathOutcome {
    /// The first path in the order of paths; if the search was halted, not necessarily the first.
    route: Option<Route>,
    halted: Option<Halt>,
}

/// A search for the first path in the order of paths.
trait PathSearch {
    /// Searches within the memory left, and frees it afterwards.
    fn search<W: Interrupt>(
        &mut self,
        task: &PathTask<'_>,
        memory: MemoryBudget,
        pace: &mut Pace<'_, W>,
    ) -> Result<PathOutcome, SearchError>;
}

/// Returns the direction in which the same steps are walked from the other end.
const fn reversed(direction: Direction) -> Direction {
    match direction {
        Direction::Out => Direction::In,
        Direction::In => Direction::Out,
        Direction::Both => Direction::Both,
    }
}

/// Returns the cost of reading the edges of a wallet.
fn degree(graph: &Graph<'_>, wallet: WalletId, direction: Direction) -> usize {
    direction.sides().iter().map(|side| graph.degree(wallet, *side)).sum()
}

#[cfg(test)]
mod tests;
