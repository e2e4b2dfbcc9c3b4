//! The first k paths without loops: Yen (Finding the K shortest loopless paths in a network, 1971),
//! with Lawler's partition (1972), by which no path is found twice.
//!
//! Every path is the first of a set: the paths that share its beginning up to one wallet and do not
//! continue from there to certain others. Once it is taken, the rest of the set splits into one
//! such set per later wallet.

use std::collections::BTreeMap;

use super::{Length, PathSearch, PathTask, Route};
use crate::graph::budget::{Halt, Interrupt, MemoryBudget, Pace};
use crate::graph::error::SearchError;
use crate::graph::query::visited::book;
use crate::graph::types::WalletId;
use crate::graph::view::graph::Graph;

/// The question: both ends, the maximum of hops, and the number of paths.
pub(super) struct RankingTerms {
    pub source: WalletId,
    pub target: WalletId,
    pub max_hops: u32,
    pub paths: usize,
}

/// A path that is the first of its set.
struct CandidatePath {
    route: Route,
    /// Paths of the set share the wallets up to this index,
    branch: usize,
    /// and do not continue to these.
    not_next: Vec<WalletId>,
}

/// Distinct candidates in the order of paths.
struct CandidatePool<'g> {
    graph: &'g Graph<'g>,
    max_hops: u32,
    ordered: BTreeMap<(Length, Vec<u64>), CandidatePath>,
}

impl CandidatePool<'_> {
    /// Adds a candidate, and keeps the first `wanted`.
    fn add(&mut self, candidate: CandidatePath, wanted: usize, memory: &mut MemoryBudget) -> Result<(), SearchError> {
        let order: Vec<u64> = candidate.route.wallets.iter().map(|wallet| self.graph.order(*wallet)).collect();
        let along = order.len() * (size_of::<WalletId>() + 2 * size_of::<u64>());
        let bytes = size_of::<CandidatePath>() + along + size_of_val(candidate.not_next.as_slice());
        self.ordered.insert((candidate.route.length(), order), candidate);
        if self.ordered.len() > wanted {
            self.ordered.pop_last();
            return Ok(());
        }
        book(memory, bytes, self.max_hops, self.ordered.len())
    }

    /// Returns the maximum length of a path that can still be among the first `wanted`.
    fn longest(&self, wanted: usize) -> Option<Length> {
        self.ordered.last_key_value().filter(|_| self.ordered.len() >= wanted).map(|(key, _)| key.0)
    }
}

/// Returns the first paths in the order of paths.
pub(super) fn ranked<S: PathSearch, W: Interrupt>(
    graph: &Graph<'_>,
    search: &mut S,
    ends: &RankingTerms,
    memory: &mut MemoryBudget,
    pace: &mut Pace<'_, W>,
) -> Result<(Vec<Route>, Option<Halt>), SearchError> {
    let mut pool = CandidatePool { graph, max_hops: ends.max_hops, ordered: BTreeMap::new() };
    let none = Length { cost: 0, hops: 0 };
    let (source, target, max_hops) = (ends.source, ends.target, ends.max_hops);
    let whole = PathTask { source, target, start: none, max_hops, longest: None, banned: &[], not_first: &[] };
    let first = search.search(&whole, *memory, pace)?;
    let mut halted = first.halted;
    if let Some(route) = first.route {
        pool.add(CandidatePath { route, branch: 0, not_next: Vec::new() }, ends.paths, memory)?;
    }
    let mut routes = Vec::new();
    while let Some((_, next)) = pool.ordered.pop_first() {
        let wanted = ends.paths - routes.len() - 1;
        let route = next.route;
        for at in next.branch..route.wallets.len() - 1 {
            if wanted == 0 || halted.is_some() {
                break;
            }
            let (banned, source, onwards) = (&route.wallets[..at], route.wallets[at], route.wallets[at + 1]);
            let mut not_first = if at == next.branch { next.not_next.clone() } else { Vec::new() };
            not_first.push(onwards);
            let start = Length { cost: route.costs[at], hops: at as u32 };
            let longest = pool.longest(wanted);
            let task = PathTask { source, start, longest, banned, not_first: &not_first, ..whole };
            let outcome = search.search(&task, *memory, pace)?;
            halted = outcome.halted;
            if let Some(rest) = outcome.route {
                let wallets = [banned, &rest.wallets].concat();
                let costs = [&route.costs[..at], &rest.costs].concat();
                let route = Route { wallets, costs };
                pool.add(CandidatePath { route, branch: at, not_next: not_first }, wanted, memory)?;
            }
        }
        routes.push(route);
        if wanted == 0 {
            break;
        }
    }
    Ok((routes, halted))
}
