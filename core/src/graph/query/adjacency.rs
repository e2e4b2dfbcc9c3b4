//! The connected pairs of a network's wallets, copied into arrays for algorithms that read the
//! whole graph several times.
//!
//! Wallets are numbered as nodes in the order of their addresses, so that results are the same to
//! the last bit, whichever file the graph is read from.

use crate::graph::budget::{Interrupt, MemoryBudget, Pace, Stop};
use crate::graph::error::SearchError;
use crate::graph::types::{NetworkId, WalletId};
use crate::graph::view::filter::EdgeFilter;
use crate::graph::view::graph::Graph;

/// The peers of each node: those of node `n` lie from offset `n` to offset `n + 1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::graph) struct Adjacency {
    offsets: Vec<u32>,
    peers: Vec<u32>,
    transfers: Vec<u32>,
}

/// The wallets of a network that have a counted transfer to or from a wallet (which may be
/// themselves), and their pairs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::graph) struct Links {
    /// Wallet of each node, in the order of addresses.
    pub wallets: Vec<WalletId>,
    pub out: Adjacency,
}

impl Adjacency {
    /// Returns the distinct peers of a node, and the number of transfers with each.
    #[inline]
    pub(crate) fn of(&self, node: usize) -> (&[u32], &[u32]) {
        let (Some(start), Some(end)) = (self.offsets.get(node), self.offsets.get(node + 1)) else { return (&[], &[]) };
        let range = *start as usize..*end as usize;
        (self.peers.get(range.clone()).unwrap_or(&[]), self.transfers.get(range).unwrap_or(&[]))
    }

    pub(crate) fn nodes(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    pub(crate) fn pairs(&self) -> usize {
        self.peers.len()
    }

    /// Returns the same pairs seen from their other ends; the peers of a node are in ascending
    /// order. O(nodes + pairs).
    pub(crate) fn reversed<W: Interrupt>(
        &self,
        memory: &mut MemoryBudget,
        pace: &mut Pace<'_, W>,
    ) -> Result<Self, Stop> {
        reserve(memory, 8 * self.nodes() + 8 * self.pairs(), self.nodes())?;
        let mut offsets = vec![0_u32; self.nodes() + 1];
        for peers in self.peers.chunks(CHUNK) {
            if let Some(halt) = pace.step(peers.len()) {
                return Err(Stop::Halt(halt));
            }
            for peer in peers {
                offsets[*peer as usize + 1] += 1;
            }
        }
        for node in 1..offsets.len() {
            offsets[node] += offsets[node - 1];
        }
        let mut next = offsets.clone();
        let (mut peers, mut transfers) = (vec![0; self.pairs()], vec![0; self.pairs()]);
        for node in 0..self.nodes() {
            let (from, counts) = self.of(node);
            for (from, counts) in from.chunks(CHUNK).zip(counts.chunks(CHUNK)) {
                if let Some(halt) = pace.step(from.len()) {
                    return Err(Stop::Halt(halt));
                }
                for (peer, count) in from.iter().zip(counts) {
                    let index = &mut next[*peer as usize];
                    peers[*index as usize] = node as u32;
                    transfers[*index as usize] = *count;
                    *index += 1;
                }
            }
        }
        Ok(Self { offsets, peers, transfers })
    }
}

/// Pairs of a wallet processed between two cancellation checks.
pub(in crate::graph) const CHUNK: usize = 1 << 12;

/// Books memory for an algorithm over the whole graph.
pub(in crate::graph) fn reserve(memory: &mut MemoryBudget, bytes: usize, wallets: usize) -> Result<(), SearchError> {
    if memory.take(bytes) { Ok(()) } else { Err(SearchError::WholeGraph { budget: memory.limit(), wallets }) }
}

impl Links {
    /// Copies the pairs of a network that counted transfers connect. O(wallets + transfers), with
    /// twelve bytes per wallet of the graph while it runs, and eight bytes per node and per pair
    /// for the result.
    pub(crate) fn new<W: Interrupt>(
        graph: &Graph<'_>,
        network: NetworkId,
        filter: &EdgeFilter,
        memory: &mut MemoryBudget,
        pace: &mut Pace<'_, W>,
    ) -> Result<Self, Stop> {
        let wallets = graph.wallets() as usize;
        reserve(memory, 12 * wallets, wallets)?;
        // Node of each wallet plus one; 0 for a wallet without a node.
        let mut nodes = vec![0_u32; graph.wallets() as usize];
        for wallet in graph.wallet_ids().filter(|wallet| graph.is_of(*wallet, network)) {
            step(pace)?;
            let mut has_peers = false;
            graph.receivers(wallet, filter, |peer| -> Result<(), Stop> {
                if let Some(node) = peer.and_then(|peer| nodes.get_mut(peer.index())) {
                    *node = 1;
                    has_peers = true;
                }
                step(pace)
            })?;
            if has_peers && let Some(node) = nodes.get_mut(wallet.index()) {
                *node = 1;
            }
        }
        let mut connected = Vec::new();
        graph.by_address(network, |wallet| -> Result<(), Stop> {
            if let Some(node) = nodes.get_mut(wallet.index()).filter(|node| **node > 0) {
                connected.push(wallet);
                *node = connected.len() as u32;
            }
            step(pace)
        })?;
        reserve(memory, 16 * connected.len(), connected.len())?;
        // Index of the latest pair with each receiver; it is the current sender's if it is at least
        // `start`.
        let mut latest = vec![u32::MAX; connected.len()];
        let mut out = Adjacency { offsets: vec![0], peers: Vec::new(), transfers: Vec::new() };
        for wallet in &connected {
            let start = out.peers.len();
            graph.receivers(*wallet, filter, |peer| -> Result<(), Stop> {
                step(pace)?;
                let node = peer.and_then(|peer| nodes.get(peer.index())).and_then(|node| node.checked_sub(1));
                let Some(node) = node else { return Ok(()) };
                let Some(pair) = latest.get_mut(node as usize) else { return Ok(()) };
                match out.transfers.get_mut(*pair as usize).filter(|_| *pair as usize >= start) {
                    Some(count) => *count += 1,
                    None => {
                        *pair = out.peers.len() as u32;
                        if out.peers.len() == out.peers.capacity() {
                            // Both vectors double their capacity.
                            reserve(memory, 8 * out.peers.len().max(4), connected.len())?;
                        }
                        out.peers.push(node);
                        out.transfers.push(1);
                    }
                }
                Ok(())
            })?;
            out.offsets.push(out.peers.len() as u32);
        }
        Ok(Self { wallets: connected, out })
    }
}

/// Counts a step of an algorithm over the whole graph, and stops it when the time is used up.
#[inline]
pub(in crate::graph) fn step<W: Interrupt>(pace: &mut Pace<'_, W>) -> Result<(), Stop> {
    match pace.step(0) {
        Some(halt) => Err(Stop::Halt(halt)),
        None => Ok(()),
    }
}
