//! Paths that money could have taken: each hop at or after the one before.
//!
//! Owns reach, connections and paths in which consecutive transfers follow each other, with at most
//! `max_gap` microseconds between them. The order is that of time, block, transaction and position
//! within the transaction. Where it is unknown, a transfer may follow another, and a result that
//! rests on that says so (`order_inferred`).
//!
//! - A path is a sequence of transfers; it may visit a wallet twice, which can only help where a
//!   gap limits how long funds rest.
//! - [`Side::Out`] follows funds to their receivers; [`Side::In`] follows them back to their
//!   senders, each hop at or before the one before.
//! - Single transfers are followed, so [`EdgeFilter::min_transfers`] does not apply.

mod moments;
mod search;

use std::cmp::Reverse;

use crate::graph::budget::{Halt, Interrupt, SearchLimits, Stop};
use crate::graph::error::SearchError;
use crate::graph::query::connections::{ConnectedWallet, Connections, ranked};
use crate::graph::query::reach::{Level, Reach, add};
use crate::graph::query::visited::book;
use crate::graph::types::{Side, Status, U256, WalletId};
use crate::graph::view::filter::EdgeFilter;
use crate::graph::view::graph::Graph;
use crate::graph::view::transfers::Transfer;
pub(in crate::graph::query) use moments::{AssetClass, Key, Place};
use search::{InTimeSearch, Used};

/// Way in which a wallet is reached in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// Time of the first transfer by which funds can reach the wallet within the depth; backward,
    /// time of the last one by which it can have sent them.
    pub at: i64,
    /// Every path with the smallest number of hops needs an order of transfers that is unknown.
    pub order_inferred: bool,
}

/// A hop of a path in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimedHop {
    /// Sender.
    pub from: WalletId,
    /// The transfer as seen from its sender.
    pub transfer: Transfer,
}

/// Result of [`path`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimedPath {
    /// Hops from the source to the target; `None` if there is no path within the limits.
    pub hops: Option<Vec<TimedHop>>,
    /// The path needs an order of transfers that is unknown.
    pub order_inferred: bool,
    /// Limit at which the search stopped, if it did. There may then be a path, or a better one.
    pub halted: Option<Halt>,
}

/// Returns the amount that a transfer moves.
fn moved(transfer: &Transfer) -> U256 {
    if transfer.status == Status::Failed { U256::ZERO } else { transfer.value }
}

/// Counts the wallets that funds can reach in time, by the smallest number of hops, with the
/// transfers that reach them with that number of hops and their value. O(e log e) in the transfers
/// on the way, with at least 80 bytes per wallet found.
///
/// # Errors
/// [`SearchError::Depth`], [`SearchError::Memory`], [`SearchError::ValueOverflow`],
/// [`SearchError::Damaged`].
pub fn reach<W: Interrupt>(
    graph: &Graph<'_>,
    source: WalletId,
    side: Side,
    filter: &EdgeFilter,
    max_gap: Option<i64>,
    limits: &SearchLimits,
    interrupt: &mut W,
) -> Result<Reach, SearchError> {
    let mut search = InTimeSearch::new(graph, source, side, filter, max_gap, limits, interrupt)?;
    let level = |depth| Level { depth, wallets: 1, transfers: 0, value: U256::ZERO, order_inferred: false };
    let mut reach = Reach { levels: vec![level(0)], halted: None };
    let with_value = filter.assets.is_single();
    while reach.halted.is_none() && search.has_more() {
        let before = search.wallets.len();
        let mut level = level(search.depth + 1);
        let outcome = search.next_level(&mut |wallet, used, _| {
            if wallet.depth == level.depth {
                level.transfers += 1;
                if with_value {
                    level.value = add(level.value, moved(used.transfer))?;
                }
            }
            Ok(0)
        });
        reach.halted = Stop::halt(outcome)?;
        let found = search.wallets.get(before..).unwrap_or_default();
        level.wallets = found.len() as u64;
        level.order_inferred = found.iter().any(|wallet| !wallet.is_certain);
        // A level without new wallets may reach known ones at other times.
        if level.wallets > 0 {
            reach.levels.push(level);
        }
    }
    Ok(reach)
}

/// Consecutive transfers from one wallet to another.
#[derive(Debug, Clone, Copy)]
struct Run {
    from: WalletId,
    transfers: u64,
}

/// Returns the wallets that funds can reach in time, each once at its smallest number of hops, with
/// the transfers that reach it with that number of hops; of each depth the `top` wallets with the
/// most of them. The source itself is not returned.
///
/// # Errors
/// The same as of [`reach`].
#[expect(clippy::too_many_arguments, reason = "callers name each of them")]
pub fn connections<W: Interrupt>(
    graph: &Graph<'_>,
    source: WalletId,
    side: Side,
    filter: &EdgeFilter,
    max_gap: Option<i64>,
    top: Option<usize>,
    limits: &SearchLimits,
    interrupt: &mut W,
) -> Result<Connections, SearchError> {
    let mut search = InTimeSearch::new(graph, source, side, filter, max_gap, limits, interrupt)?;
    let with_value = filter.assets.is_single();
    let mut answer = Connections { wallets: Vec::new(), halted: None };
    while answer.halted.is_none() && search.has_more() {
        let (before, depth) = (search.wallets.len(), search.depth + 1);
        let mut level: Vec<ConnectedWallet> = Vec::new();
        let mut runs: Vec<Run> = Vec::new();
        let outcome = search.next_level(&mut |wallet, used, memory| {
            if wallet.depth != depth {
                return Ok(0);
            }
            let index = used.to.saturating_sub(before);
            if index == level.len() {
                book(memory, size_of::<ConnectedWallet>() + size_of::<Run>(), depth, index)?;
                level.push(ConnectedWallet::found(wallet.wallet, depth, used.transfer.time, used.from));
                runs.push(Run { from: used.from, transfers: 0 });
            }
            let (Some(connection), Some(run)) = (level.get_mut(index), runs.get_mut(index)) else { return Ok(0) };
            // Transfers of one sender come together.
            if run.from != used.from {
                *run = Run { from: used.from, transfers: 0 };
            }
            run.transfers += 1;
            let value = if with_value { moved(used.transfer) } else { U256::ZERO };
            connection.add(graph, used.transfer.time, value, (run.from, run.transfers))?;
            Ok(0)
        });
        answer.halted = Stop::halt(outcome)?;
        answer.wallets.extend(ranked(graph, level, top, search.pace.interrupt()));
    }
    for connection in &mut answer.wallets {
        let _ = search.pace.step(0);
        let wallet = search.index(connection.wallet).and_then(|index| search.wallets.get(index));
        connection.in_time = wallet.map(|wallet| Reached {
            at: if side == Side::Out { wallet.reached } else { !wallet.reached },
            order_inferred: !wallet.is_certain,
        });
    }
    Ok(answer)
}

/// A transfer on the way, with the one before it.
struct PathEntry {
    number: u64,
    before: Option<u32>,
}

/// Returns a path in time from `source` to `target` with the fewest hops, of several one that
/// arrives first. A wallet has a path to itself, without hops.
///
/// # Errors
/// The same as of [`reach`].
#[expect(clippy::too_many_arguments, reason = "callers name each of them")]
pub fn path<W: Interrupt>(
    graph: &Graph<'_>,
    source: WalletId,
    target: WalletId,
    side: Side,
    filter: &EdgeFilter,
    max_gap: Option<i64>,
    limits: &SearchLimits,
    interrupt: &mut W,
) -> Result<TimedPath, SearchError> {
    let mut search = InTimeSearch::new(graph, source, side, filter, max_gap, limits, interrupt)?;
    let mut path = TimedPath { hops: None, order_inferred: false, halted: None };
    if source == target {
        path.hops = Some(Vec::new());
        return Ok(path);
    }
    let mut entries: Vec<PathEntry> = Vec::new();
    let mut best = None;
    while path.halted.is_none() && best.is_none() && search.has_more() {
        let (depth, max_depth) = (search.depth + 1, search.max_depth);
        let outcome = search.next_level(&mut |wallet, used, memory| {
            let is_target = wallet.wallet == target;
            if !is_target && depth == max_depth {
                return Ok(0);
            }
            let entry = entries.len() as u32;
            book(memory, size_of::<PathEntry>(), depth, entries.len())?;
            entries.push(PathEntry { number: used.transfer.number, before: used.before });
            if is_target {
                let arrival = arrival(graph, used, side);
                if best.as_ref().is_none_or(|(earliest, _, _)| arrival < *earliest) {
                    best = Some((arrival, entry, used.inferred));
                }
            }
            Ok(entry)
        });
        path.halted = Stop::halt(outcome)?;
    }
    let Some((_, last, order_inferred)) = best else { return Ok(path) };
    path.order_inferred = order_inferred;
    let mut hops = Vec::new();
    let mut entry = entries.get(last as usize);
    while let Some(PathEntry { number, before }) = entry {
        let transfer = graph.transfer(*number)?;
        let from = graph.sender(*number)?.unwrap_or(WalletId::NO_SENDER);
        hops.push(TimedHop { from, transfer });
        entry = before.and_then(|before| entries.get(before as usize));
    }
    hops.reverse();
    path.hops = Some(hops);
    Ok(path)
}

/// Orders arrivals at the target: earliest first, then those whose order is known, then by the
/// address of the wallet before.
fn arrival(graph: &Graph<'_>, used: &Used<'_>, side: Side) -> impl Ord + use<> {
    let class = AssetClass::of_asset(used.transfer.asset);
    let place = Place::among(used.transfer, class, side);
    (place.earliest, used.inferred, graph.order(used.from), Reverse(moved(used.transfer)))
}

#[cfg(test)]
mod tests;
