//! Order-independent digests of transfers: counts, sums, and a hash of every field.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::Xxh3;

use crate::graph::budget::Interrupt;
use crate::graph::error::Damaged;
use crate::graph::types::{AssetId, Side, TransferRow, U256};
use crate::graph::view::graph::Graph;

/// Wallets between two cancellation checks.
const WALLETS_PER_CHECK: usize = 1 << 12;

/// The native coin of a network, or its tokens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// Canonical name of the network.
    pub network: String,
    /// True for token transfers, false for the native coin.
    pub tokens: bool,
}

/// Digest of a group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Digest {
    /// Number of transfers.
    pub transfers: u64,
    /// Sum of values modulo 2^256: units of 10^-18 coins for the native coin, raw units of any
    /// token.
    pub value: U256,
    /// Sum of the hashes of all fields, modulo 2^64.
    pub hash: u64,
}

/// Digests by group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Digests(BTreeMap<Group, Digest>);

impl Digests {
    /// Adds a transfer.
    pub fn add(&mut self, row: &TransferRow<'_>) {
        let group = Group { network: row.network.to_owned(), tokens: row.token.is_some() };
        let digest = self.0.entry(group).or_default();
        digest.transfers += 1;
        digest.value = digest.value.wrapping_add(row.value);
        digest.hash = digest.hash.wrapping_add(hash(row));
    }

    /// Adds every transfer of a graph. O(transfers).
    ///
    /// # Errors
    /// When the graph is damaged.
    pub fn add_graph(&mut self, graph: &Graph<'_>, interrupt: &mut impl Interrupt) -> Result<(), Damaged> {
        for wallet in graph.wallet_ids() {
            if wallet.index() % WALLETS_PER_CHECK == 0 {
                interrupt.should_stop();
            }
            let from = wallet.some().map(|wallet| graph.address(wallet)).transpose()?;
            graph.transfers(wallet, Side::Out, |transfer| -> Result<(), Damaged> {
                let to = transfer.peer.map(|peer| graph.address(peer)).transpose()?;
                let network = graph.network(wallet.some().or(transfer.peer).unwrap_or(wallet))?;
                let token = if transfer.asset == AssetId::NATIVE { None } else { Some(graph.token(transfer.asset)?) };
                let (time, value) = (transfer.time, transfer.value);
                let (position, status) = (transfer.position, transfer.status);
                self.add(&TransferRow { network, from, to, token, time, value, position, status });
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Returns the groups of both collections, each with its digest in `self` and in `other`.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Vec<(Group, Digest, Digest)> {
        let mut groups: Vec<&Group> = self.0.keys().chain(other.0.keys()).collect();
        groups.sort_unstable();
        groups.dedup();
        let digest = |digests: &Self, group| digests.0.get(group).copied().unwrap_or_default();
        groups.into_iter().map(|group| (group.clone(), digest(self, group), digest(other, group))).collect()
    }
}

fn hash(row: &TransferRow<'_>) -> u64 {
    let mut hasher = Xxh3::new();
    let mut text = |text: Option<&str>| {
        // UTF-8 text never contains the byte 0xff, which stands for a missing text.
        hasher.update(text.map_or(&[0xff], str::as_bytes));
        hasher.update(&[0xfe]);
    };
    text(Some(row.network));
    text(row.from);
    text(row.to);
    text(row.token);
    let (high, low) = row.value.into_words();
    let index = |index: Option<u32>| index.map_or(u64::MAX, u64::from).to_le_bytes();
    hasher.update(&row.time.to_le_bytes());
    hasher.update(&high.to_le_bytes());
    hasher.update(&low.to_le_bytes());
    hasher.update(&row.position.block.to_le_bytes());
    hasher.update(&index(row.position.transaction_index));
    hasher.update(&index(row.position.log_index));
    hasher.update(&[row.status as u8]);
    hasher.digest()
}
