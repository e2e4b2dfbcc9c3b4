//! A lower bound for a search: breadth-first over distinct pairs in the memory of this process,
//! without SQL, privileges, snapshots and amounts. Users have nothing like it; ours is compared
//! with the bound.

use std::ops::Range;

/// Distinct pairs by source: the targets of wallet `w` are `targets[offsets[w]..offsets[w + 1]]`.
#[derive(Debug, Clone)]
pub struct Csr {
    offsets: Vec<u32>,
    targets: Vec<u32>,
}

impl Csr {
    /// Builds the graph from (source, target) pairs, which may repeat. O(n log n).
    #[must_use]
    pub fn new(wallets: u32, mut pairs: Vec<(u32, u32)>) -> Self {
        pairs.sort_unstable();
        pairs.dedup();
        let mut offsets = vec![0_u32; wallets as usize + 1];
        for (source, _) in &pairs {
            offsets[*source as usize + 1] += 1;
        }
        for wallet in 1..offsets.len() {
            offsets[wallet] += offsets[wallet - 1];
        }
        Self { offsets, targets: pairs.into_iter().map(|(_, target)| target).collect() }
    }

    #[must_use]
    pub fn wallets(&self) -> u32 {
        (self.offsets.len() - 1) as u32
    }

    /// Returns each pair once, ordered by source and target.
    pub fn pairs(&self) -> impl Iterator<Item = (u32, u32)> {
        (0..self.wallets())
            .flat_map(|source| self.targets[self.range(source)].iter().map(move |target| (source, *target)))
    }

    fn range(&self, wallet: u32) -> Range<usize> {
        self.offsets[wallet as usize] as usize..self.offsets[wallet as usize + 1] as usize
    }

    /// Counts wallets by their smallest number of hops from `source`, which is at depth 0. Returns
    /// (depth, wallets) without empty depths. O(wallets + visited pairs).
    #[must_use]
    pub fn reach(&self, source: u32, max_depth: u32) -> Vec<(i32, i64)> {
        let mut visited = vec![false; self.wallets() as usize];
        visited[source as usize] = true;
        let mut levels = vec![(0, 1)];
        let mut frontier = vec![source];
        for depth in 1..=max_depth {
            let mut next = Vec::new();
            for wallet in frontier {
                for target in &self.targets[self.range(wallet)] {
                    if !std::mem::replace(&mut visited[*target as usize], true) {
                        next.push(*target);
                    }
                }
            }
            if next.is_empty() {
                break;
            }
            levels.push((depth.cast_signed(), next.len() as i64));
            frontier = next;
        }
        levels
    }

    /// Returns the smallest number of hops from `source` to `target`.
    #[must_use]
    pub fn distance(&self, source: u32, target: u32) -> Option<u32> {
        let mut visited = vec![false; self.wallets() as usize];
        visited[source as usize] = true;
        let mut frontier = vec![source];
        let mut depth = 0;
        while !frontier.is_empty() {
            if frontier.contains(&target) {
                return Some(depth);
            }
            let mut next = Vec::new();
            for wallet in frontier {
                for peer in &self.targets[self.range(wallet)] {
                    if !std::mem::replace(&mut visited[*peer as usize], true) {
                        next.push(*peer);
                    }
                }
            }
            frontier = next;
            depth += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 0 → 1 → 2 → 3 → 0 and 0 → 2, with a repeated pair and a loop at 1. Wallet 4 is isolated.
    fn graph() -> Csr {
        Csr::new(5, vec![(0, 1), (1, 2), (2, 3), (3, 0), (0, 2), (0, 1), (1, 1)])
    }

    #[test]
    fn a_wallet_counts_once_at_its_smallest_depth() {
        assert_eq!(graph().reach(0, 3), [(0, 1), (1, 2), (2, 1)]);
        assert_eq!(graph().reach(0, 1), [(0, 1), (1, 2)]);
        assert_eq!(graph().reach(3, 3), [(0, 1), (1, 1), (2, 2)]);
        assert_eq!(graph().reach(4, 3), [(0, 1)]);
    }

    #[test]
    fn pairs_are_distinct() {
        assert_eq!(graph().pairs().collect::<Vec<_>>(), [(0, 1), (0, 2), (1, 1), (1, 2), (2, 3), (3, 0)]);
    }

    #[test]
    fn distances_count_hops_and_are_absent_without_a_path() {
        assert_eq!(graph().distance(0, 3), Some(2));
        assert_eq!(graph().distance(1, 0), Some(3));
        assert_eq!(graph().distance(2, 2), Some(0));
        assert_eq!(graph().distance(0, 4), None);
    }
}
