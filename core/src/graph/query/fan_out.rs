//! Counting the counterparties of a wallet up to a limit.

use std::collections::HashSet;

use crate::graph::budget::{Halt, Interrupt, Pace, Stop};
use crate::graph::error::SearchError;
use crate::graph::types::{Side, U256, WalletId};
use crate::graph::view::filter::EdgeFilter;
use crate::graph::view::graph::Graph;

/// Returns whether a wallet has more than `max_peers` counterparties on a side, by counted
/// transfers of value. O(transfers until the answer is known).
pub(crate) fn has_more_peers<W: Interrupt>(
    graph: &Graph<'_>,
    wallet: WalletId,
    side: Side,
    filter: &EdgeFilter,
    max_peers: u64,
    pace: &mut Pace<'_, W>,
) -> Result<bool, SearchError> {
    // The degree is an upper bound.
    if graph.degree(wallet, side) as u64 <= max_peers {
        return Ok(false);
    }
    let mut peers = HashSet::new();
    let result = graph.counted_transfers(wallet, side, filter, |transfer| -> Result<(), Stop> {
        pace.step(0);
        if let Some(peer) = transfer.peer
            && transfer.value > U256::ZERO
        {
            peers.insert(peer);
        }
        // Ends this loop alone, not the search.
        if peers.len() as u64 > max_peers { Err(Stop::Halt(Halt::Wallets)) } else { Ok(()) }
    });
    Ok(Stop::halt(result)?.is_some())
}
