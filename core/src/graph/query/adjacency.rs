//! The pairs of a network's wallets that transfers connect, copied into arrays that algorithms over the whole graph go through
//! again and again.
//!
//! Wallets are numbered anew here, as nodes, in the order of their addresses: what is computed from the arrays comes out the same,
//! to the last bit, whatever file the graph is read from.

use crate::graph::budget::MemoryBudget;
use crate::graph::budget::{Halt, Interrupt};
use crate::graph::budget::{Pace, Stop};
use crate::graph::error::SearchError;
use crate::graph::types::{NetworkId, WalletId};
use crate::graph::view::filter::EdgeFilter;
use crate::graph::view::graph::Graph;

/// For each node, some others: those of node `n` are from the `n`-th offset to the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::graph) struct Adjacency {
    offsets: Vec<u32>,
    peers: Vec<u32>,
    transfers: Vec<u32>,
}

/// A network's wallets that have a transfer that counts to or from a wallet, themselves included, and their pairs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::graph) struct Links {
    /// Of each node the wallet, by address.
    pub wallets: Vec<WalletId>,
    /// Receivers.
    pub out: Adjacency,
}

impl Adjacency {
    /// The peers of a node, each once, with how many transfers there are.
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

    /// The same pairs seen from the other end, by number. O(nodes + pairs).
    pub(crate) fn reversed<W: Interrupt>(
        &self,
        memory: &mut MemoryBudget,
        pace: &mut Pace<'_, W>,
    ) -> Result<Result<Self, Halt>, SearchError> {
        reserve(memory, 8 * self.nodes() + 8 * self.pairs(), self.nodes())?;
        let mut offsets = vec![0_u32; self.nodes() + 1];
        for peers in self.peers.chunks(CHUNK) {
            if let Some(halt) = pace.step(peers.len()) {
                return Ok(Err(halt));
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
                    return Ok(Err(halt));
                }
                for (peer, count) in from.iter().zip(counts) {
                    let place = &mut next[*peer as usize];
                    peers[*place as usize] = node as u32;
                    transfers[*place as usize] = *count;
                    *place += 1;
                }
            }
        }
        Ok(Ok(Self { offsets, peers, transfers }))
    }
}

/// Pairs between two looks at the interrupt, of one wallet.
pub(in crate::graph) const CHUNK: usize = 1 << 12;

/// Books memory for an algorithm over the whole graph.
pub(in crate::graph) fn reserve(memory: &mut MemoryBudget, bytes: usize, wallets: usize) -> Result<(), SearchError> {
    if memory.take(bytes) { Ok(()) } else { Err(SearchError::WholeGraph { budget: memory.limit(), wallets }) }
}

impl Links {
    /// Copies the pairs of a network by transfers that count. O(wallets + transfers), with twelve bytes a wallet of the graph while it
    /// runs, and eight a node and a pair for what it returns. Nothing, when time is used up before it is done.
    pub(crate) fn new<W: Interrupt>(
        graph: &Graph<'_>,
        network: NetworkId,
        filter: &EdgeFilter,
        memory: &mut MemoryBudget,
        pace: &mut Pace<'_, W>,
    ) -> Result<Result<Self, Halt>, SearchError> {
        let wallets = graph.wallets() as usize;
        reserve(memory, 12 * wallets, wallets)?;
        match Self::read(graph, network, filter, memory, pace) {
            Ok(links) => Ok(Ok(links)),
            Err(Stop::Halt(halt)) => Ok(Err(halt)),
            Err(Stop::Error(error)) => Err(error),
        }
    }

    fn read<W: Interrupt>(
        graph: &Graph<'_>,
        network: NetworkId,
        filter: &EdgeFilter,
        memory: &mut MemoryBudget,
        pace: &mut Pace<'_, W>,
    ) -> Result<Self, Stop> {
        // a wallet's node plus one
        let mut nodes = vec![0_u32; graph.wallets() as usize];
        for wallet in graph.wallet_ids().filter(|wallet| graph.is_of(*wallet, network)) {
            step(pace)?;
            let mut any = false;
            graph.receivers(wallet, filter, |peer| -> Result<(), Stop> {
                if let Some(node) = peer.and_then(|peer| nodes.get_mut(peer.index())) {
                    *node = 1;
                    any = true;
                }
                step(pace)
            })?;
            if any && let Some(node) = nodes.get_mut(wallet.index()) {
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
        // where a peer was put last: of this sender, if it is behind where his begin
        let mut places = vec![u32::MAX; connected.len()];
        let mut out = Adjacency { offsets: vec![0], peers: Vec::new(), transfers: Vec::new() };
        for wallet in &connected {
            let start = out.peers.len();
            graph.receivers(*wallet, filter, |peer| -> Result<(), Stop> {
                step(pace)?;
                let node = peer.and_then(|peer| nodes.get(peer.index())).and_then(|node| node.checked_sub(1));
                let Some(node) = node else { return Ok(()) };
                let Some(place) = places.get_mut(node as usize) else { return Ok(()) };
                match out.transfers.get_mut(*place as usize).filter(|_| *place as usize >= start) {
                    Some(count) => *count += 1,
                    None => {
                        *place = out.peers.len() as u32;
                        if out.peers.len() == out.peers.capacity() {
                            // both grow to twice their size
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

/// A step of a walk over the whole graph.
#[inline]
pub(in crate::graph) fn step<W: Interrupt>(pace: &mut Pace<'_, W>) -> Result<(), Stop> {
    match pace.step(0) {
        Some(halt) => Err(Stop::Halt(halt)),
        None => Ok(()),
    }
}
