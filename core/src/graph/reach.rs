//! How many wallets are within so many hops.

use super::error::SearchError;
use super::limits::{Pace, SearchLimits};
use super::search::{Direction, EdgeFilter, Halt, TransferGraph, Wallet, Watch};
use super::transfer::U256;
use super::visited::book;

/// What is at one depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// Hops from the source.
    pub depth: u32,
    /// Wallets whose smallest number of hops this is.
    pub wallets: u64,
    /// Transfers that count between the wallets of the depth before and these.
    pub transfers: u64,
    /// Their sum; zero for several assets.
    pub value: U256,
}

/// The wallets within reach, counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// From the source, depth 0, to the deepest depth that has wallets.
    pub levels: Vec<Level>,
    /// Why the search stopped early, if it did: the last level is not complete then.
    pub halted: Option<Halt>,
}

/// What stops the look at one wallet's edges.
enum Stop {
    Halt(Halt),
    Error(SearchError),
}

impl<E: Into<SearchError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// Counts wallets, transfers and value by depth: a breadth-first search. O(wallets + edges looked at), with five bytes a wallet.
///
/// # Errors
/// [`SearchError::Depth`], [`SearchError::Memory`], [`SearchError::ValueOverflow`], [`SearchError::Damaged`].
pub fn reach<G: TransferGraph, W: Watch>(
    graph: &G,
    source: Wallet,
    direction: Direction,
    filter: &EdgeFilter,
    limits: &SearchLimits,
    watch: &mut W,
) -> Result<Reach, SearchError> {
    let max_depth = limits.depth()?;
    let mut memory = limits.memory;
    // the depth at which a wallet was found, plus one
    book(&mut memory, graph.wallets() as usize / 2, 0, 1)?;
    let mut depths = vec![0_u8; graph.wallets() as usize];
    if let Some(own) = depths.get_mut(source as usize) {
        *own = 1;
    }
    let mut reach =
        Reach { levels: vec![Level { depth: 0, wallets: 1, transfers: 0, value: U256::ZERO }], halted: None };
    let mut frontier = vec![source];
    let mut pace = Pace::new(watch);
    let most = limits.max_wallets.unwrap_or(u64::MAX);
    let mut found = 1_u64;
    for depth in 1..=max_depth {
        let mark = (depth + 1) as u8;
        let mut next = Vec::new();
        let mut level = Level { depth, wallets: 0, transfers: 0, value: U256::ZERO };
        // most sums fit into 128 bits, where adding is cheap
        let mut low = 0_u128;
        'wallets: for wallet in frontier {
            for side in direction.sides() {
                let looked = graph.edges(wallet, *side, filter, |edge| -> Result<(), Stop> {
                    let Some(known) = depths.get_mut(edge.peer as usize) else { return Ok(()) };
                    if *known == 0 {
                        if found >= most {
                            return Err(Stop::Halt(Halt::Wallets));
                        }
                        *known = mark;
                        found += 1;
                        next.push(edge.peer);
                    } else if *known != mark {
                        return Ok(());
                    }
                    level.transfers += edge.transfers;
                    let (high, value) = edge.value.into_words();
                    match low.checked_add(value) {
                        Some(sum) if high == 0 => low = sum,
                        _ => level.value = add(level.value, edge.value)?,
                    }
                    Ok(())
                });
                let halted = match looked {
                    Ok(()) => pace.step(graph.degree(wallet, *side)),
                    Err(Stop::Halt(halt)) => Some(halt),
                    Err(Stop::Error(error)) => return Err(error),
                };
                if halted.is_some() {
                    reach.halted = halted;
                    break 'wallets;
                }
            }
        }
        level.wallets = next.len() as u64;
        level.value = add(level.value, U256::new(low))?;
        book(&mut memory, next.len() * size_of::<Wallet>(), depth, found as usize)?;
        if level.wallets > 0 {
            reach.levels.push(level);
        }
        if next.is_empty() || reach.halted.is_some() {
            break;
        }
        frontier = next;
    }
    Ok(reach)
}

pub(super) fn add(sum: U256, value: U256) -> Result<U256, SearchError> {
    sum.checked_add(value).ok_or(SearchError::ValueOverflow)
}
