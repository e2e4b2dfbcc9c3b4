//! Disjoint sets of wallets.

use crate::graph::types::{WalletId, WalletIds};

/// A forest in which each wallet points towards the root of its set. Paths are halved as they are
/// followed. Not petgraph's `UnionFind`, because roots must be the smallest member or chosen by the
/// caller.
///
/// Source: R. E. Tarjan, J. van Leeuwen, "Worst-case Analysis of Set Union Algorithms", J. ACM
/// 31(2), 1984.
#[derive(Debug, Clone)]
pub(super) struct DisjointSets {
    parents: Vec<WalletId>,
}

impl DisjointSets {
    /// Makes a set of each wallet.
    pub(super) fn new(wallets: u32) -> Self {
        Self { parents: WalletIds::new(0, wallets).collect() }
    }

    pub(super) fn wallet_ids(&self) -> WalletIds {
        WalletIds::new(0, self.parents.len() as u32)
    }

    /// Returns the root of a wallet's set.
    #[inline]
    pub(super) fn find(&mut self, wallet: WalletId) -> WalletId {
        let mut own = wallet;
        while let Some(parent) = self.parents.get(own.index()).copied().filter(|parent| *parent != own) {
            let next = self.parents.get(parent.index()).copied().unwrap_or(parent);
            if let Some(parent) = self.parents.get_mut(own.index()) {
                *parent = next;
            }
            own = next;
        }
        own
    }

    /// Puts a root below another.
    #[inline]
    pub(super) fn hang(&mut self, root: WalletId, below: WalletId) {
        if let Some(parent) = self.parents.get_mut(root.index()) {
            *parent = below;
        }
    }

    /// Joins two sets and returns the root, the smaller of the two: sets stay shallow without sizes
    /// when wallets come in ascending order.
    #[inline]
    pub(super) fn join(&mut self, root: WalletId, other: WalletId) -> WalletId {
        let (above, below) = (root.min(other), root.max(other));
        self.hang(below, above);
        above
    }

    /// Returns the root of each wallet, if paths are flat.
    pub(super) fn into_parents(self) -> Vec<WalletId> {
        self.parents
    }
}
