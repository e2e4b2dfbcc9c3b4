//! What tells two collections of transfers apart, whatever their order: counts, sums, and a digest of every field.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::Xxh3;

use crate::graph::budget::Interrupt;
use crate::graph::error::Damaged;
use crate::graph::types::{AssetId, Side, TransferRow, U256};
use crate::graph::view::graph::Graph;

/// Wallets between two looks at the interrupt.
const WALLETS: usize = 1 << 12;

/// A network's native coin, or its tokens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// The network.
    pub network: String,
    /// Whether it is about tokens.
    pub tokens: bool,
}

/// What was counted of a group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Digest {
    /// Transfers.
    pub transfers: u64,
    /// Their sum modulo 2^256: of the native coin in units of 10^-18 coins, of tokens in raw units of whatever token.
    pub value: U256,
    /// The sum of the hashes of all fields, modulo 2^64.
    pub hash: u64,
}

/// Digests of groups, growing.
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

    /// Adds all that a graph holds. O(transfers).
    ///
    /// # Errors
    /// When the graph does not hold together.
    pub fn add_graph(&mut self, graph: &Graph<'_>, interrupt: &mut impl Interrupt) -> Result<(), Damaged> {
        for wallet in graph.wallet_ids() {
            if wallet.index() % WALLETS == 0 {
                interrupt.should_stop();
            }
            let (network, from) = (graph.network(wallet)?, graph.address(wallet)?);
            graph.transfers(wallet, Side::Out, |one| -> Result<(), Damaged> {
                let to = one.peer.map(|peer| graph.address(peer)).transpose()?;
                let token = if one.asset == AssetId::NATIVE { None } else { Some(graph.token(one.asset)?) };
                let (time, value, position, status) = (one.time, one.value, one.position, one.status);
                self.add(&TransferRow { network, from, to, token, time, value, position, status });
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The groups of both, with what each has of them.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Vec<(Group, Digest, Digest)> {
        let mut groups: Vec<&Group> = self.0.keys().chain(other.0.keys()).collect();
        groups.sort_unstable();
        groups.dedup();
        let of = |digests: &Self, group| digests.0.get(group).copied().unwrap_or_default();
        groups.into_iter().map(|group| (group.clone(), of(self, group), of(other, group))).collect()
    }
}

fn hash(row: &TransferRow<'_>) -> u64 {
    let mut hasher = Xxh3::new();
    let mut text = |text: Option<&str>| {
        // a text never holds the byte that stands for none
        hasher.update(text.map_or(&[0xff], str::as_bytes));
        hasher.update(&[0xfe]);
    };
    text(Some(row.network));
    text(Some(row.from));
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
