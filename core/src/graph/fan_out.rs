//! How many wallets a wallet deals with.

use std::collections::HashSet;

use super::error::SearchError;
use super::limits::{Pace, Stop};
use super::search::{EdgeFilter, Halt, Side, TransferGraph, Wallet, Watch};
use super::transfer::U256;
use super::view::Graph;

/// Whether a wallet has more counterparties on a side than so many, by transfers of value that count. O(transfers until that is clear).
pub fn has_more_peers<W: Watch>(
    graph: &Graph<'_>,
    wallet: Wallet,
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
