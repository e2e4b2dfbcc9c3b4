//! How many wallets a wallet deals with.

use std::collections::HashSet;

use crate::graph::budget::{Halt, Interrupt};
use crate::graph::budget::{Pace, Stop};
use crate::graph::error::SearchError;
use crate::graph::types::U256;
use crate::graph::types::{Side, WalletId};
use crate::graph::view::filter::EdgeFilter;
use crate::graph::view::graph::Graph;

/// Whether a wallet has more counterparties on a side than so many, by transfers of value that count. O(transfers until that is clear).
pub fn has_more_peers<W: Interrupt>(
    graph: &Graph<'_>,
    wallet: WalletId,
    side: Side,
    filter: &EdgeFilter,
    most: u64,
    pace: &mut Pace<'_, W>,
) -> Result<bool, SearchError> {
    // there may be fewer than the degree says, never more
    if graph.degree(wallet, side) as u64 <= most {
        return Ok(false);
    }
    let mut peers = HashSet::new();
    let looked = graph.counted_transfers(wallet, side, filter, |transfer| -> Result<(), Stop> {
        pace.step(0);
        if let Some(peer) = transfer.peer
            && transfer.value > U256::ZERO
        {
            peers.insert(peer);
        }
        // no limit of the search: it only ends the look
        if peers.len() as u64 > most { Err(Stop::Halt(Halt::Wallets)) } else { Ok(()) }
    });
    Ok(Stop::halt(looked)?.is_some())
}
