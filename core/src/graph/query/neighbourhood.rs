//! The wallets around a wallet, few enough for a drawing.

use std::cmp::Reverse;

use crate::graph::budget::{Halt, Interrupt, MemoryBudget, Pace, SearchLimits};
use crate::graph::error::SearchError;
use crate::graph::file::sorting::sort_with_room;
use crate::graph::query::reach::add;
use crate::graph::query::visited::{Visited, book};
use crate::graph::types::{Direction, Side, U256, WalletId};
use crate::graph::view::filter::EdgeFilter;
use crate::graph::view::graph::Graph;

/// Peers from which on a sort checks for cancellation.
const MANY: usize = 1 << 14;

/// Peers of a wallet that a drawing leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoldedPeers {
    /// Number of peers.
    pub wallets: u64,
    /// Counted transfers between the wallet and these peers.
    pub transfers: u64,
}

/// A wallet of a drawing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShownWallet {
    /// The wallet.
    pub wallet: WalletId,
    /// Smallest number of hops from the source through wallets that are shown.
    pub depth: u32,
    /// Its peers that are not shown, if it has too many.
    pub folded: Option<FoldedPeers>,
}

/// Counted transfers from one wallet of a drawing to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PairFlow {
    /// The sender.
    pub from: WalletId,
    /// The receiver.
    pub to: WalletId,
    /// Number of transfers.
    pub transfers: u64,
    /// Sum of their values; zero for several assets.
    pub value: U256,
}

/// Result of [`neighbourhood`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbourhood {
    /// The wallet in the middle.
    pub source: WalletId,
    /// Direction in which transfers were followed.
    pub direction: Direction,
    /// The source, then the others by depth; those found from the same wallet by transfers with it
    /// (most first), then by address.
    pub wallets: Vec<ShownWallet>,
    /// Flows between these wallets, by sender and receiver in the order of `wallets`.
    pub flows: Vec<PairFlow>,
    /// Limit at which the search stopped, if it did. After [`Halt::Time`] flows may be missing,
    /// too.
    pub halted: Option<Halt>,
}

/// Returns the wallets around `source`, at most `limits.max_depth` hops away, and the flows between
/// them. If a wallet has more than `fold_above` peers that are not shown yet, only the `fold_above`
/// peers with the most transfers (then by address) are shown and expanded; the others are counted.
/// O(edges of the wallets shown), and a sort of each wallet's peers.
///
/// # Errors
/// [`SearchError::Depth`], [`SearchError::Memory`], [`SearchError::ValueOverflow`],
/// [`SearchError::Damaged`].
pub fn neighbourhood<W: Interrupt>(
    graph: &Graph<'_>,
    source: WalletId,
    direction: Direction,
    filter: &EdgeFilter,
    fold_above: usize,
    limits: &SearchLimits,
    interrupt: &mut W,
) -> Result<Neighbourhood, SearchError> {
    let max_depth = limits.depth()?;
    let mut memory = limits.memory;
    let mut visited = Visited::new(graph.wallets(), &mut memory);
    visited.insert(source, 0);
    let max_wallets = limits.max_wallets.unwrap_or(u64::MAX);
    let mut search = NeighbourSearch { graph, direction, filter, memory, visited, pace: Pace::new(interrupt) };
    let mut wallets = vec![ShownWallet { wallet: source, depth: 0, folded: None }];
    let mut folding = Vec::new();
    let mut halted = None;
    let mut next = 0;
    while let Some(shown) = wallets.get(next).copied()
        && shown.depth < max_depth
        && halted.is_none()
    {
        let (mut peers, late) = search.unseen_peers(shown, wallets.len())?;
        halted = late;
        if peers.len() > fold_above {
            folding.push(next);
            keep_strongest(&mut peers, fold_above, |peer| graph.order(peer.wallet));
        }
        search.sort(&mut peers, |peer| (Reverse(peer.transfers), graph.order(peer.wallet)));
        for peer in peers {
            if wallets.len() as u64 >= max_wallets {
                halted = Some(Halt::Wallets);
                if folding.last() != Some(&next) {
                    folding.push(next);
                }
                break;
            }
            let bytes = size_of::<ShownWallet>() + search.visited.cost();
            book(&mut search.memory, bytes, shown.depth + 1, wallets.len())?;
            search.visited.insert(peer.wallet, wallets.len() as u32);
            wallets.push(ShownWallet { wallet: peer.wallet, depth: shown.depth + 1, folded: None });
        }
        next += 1;
    }
    // A peer that one wallet folds may have been shown as the peer of another.
    for index in folding {
        let Some(shown) = wallets.get(index).copied() else { continue };
        let (peers, late) = search.unseen_peers(shown, wallets.len())?;
        halted = halted.or(late);
        let transfers = peers.iter().map(|peer| peer.transfers).sum();
        if let Some(shown) = wallets.get_mut(index).filter(|_| !peers.is_empty()) {
            shown.folded = Some(FoldedPeers { wallets: peers.len() as u64, transfers });
        }
    }
    let (flows, late) = search.flows(&wallets)?;
    Ok(Neighbourhood { source, direction, wallets, flows, halted: halted.or(late) })
}

/// A counterparty of a wallet.
#[derive(Debug, Clone, Copy)]
struct Peer {
    wallet: WalletId,
    transfers: u64,
}

fn keep_strongest(peers: &mut Vec<Peer>, count: usize, order: impl Fn(&Peer) -> u64) {
    if count > 0 && count < peers.len() {
        peers.select_nth_unstable_by_key(count - 1, |peer| (Reverse(peer.transfers), order(peer)));
    }
    peers.truncate(count);
}

struct NeighbourSearch<'s, W> {
    graph: &'s Graph<'s>,
    direction: Direction,
    filter: &'s EdgeFilter,
    memory: MemoryBudget,
    /// Indexes of the wallets that are shown.
    visited: Visited,
    pace: Pace<'s, W>,
}

impl<W: Interrupt> NeighbourSearch<'_, W> {
    /// Returns the distinct peers of a wallet that are not shown.
    fn unseen_peers(&mut self, shown: ShownWallet, wallets: usize) -> Result<(Vec<Peer>, Option<Halt>), SearchError> {
        let mut peers: Vec<Peer> = Vec::new();
        let mut halted = None;
        // The list is freed before the next one is made, so its bytes are not kept booked.
        let mut memory = self.memory;
        for side in self.direction.sides() {
            let degree = self.graph.degree(shown.wallet, *side);
            book(&mut memory, degree * size_of::<Peer>(), shown.depth, wallets)?;
            self.graph.edges(shown.wallet, *side, self.filter, |edge| -> Result<(), SearchError> {
                if self.visited.get(edge.peer).is_none() {
                    peers.push(Peer { wallet: edge.peer, transfers: edge.transfers });
                }
                Ok(())
            })?;
            halted = halted.or(self.pace.step(degree));
        }
        self.sort(&mut peers, |peer| peer.wallet);
        peers.dedup_by(|again, first| {
            let same = again.wallet == first.wallet;
            if same {
                first.transfers += again.transfers;
            }
            same
        });
        Ok((peers, halted))
    }

    fn sort<K: Ord>(&mut self, peers: &mut [Peer], key: impl Fn(&Peer) -> K) {
        if peers.len() > MANY {
            sort_with_room(peers, self.pace.interrupt(), |a, b| key(a).cmp(&key(b)));
        } else {
            peers.sort_by_key(key);
        }
    }

    /// Returns the flows between wallets that are shown.
    fn flows(&mut self, wallets: &[ShownWallet]) -> Result<(Vec<PairFlow>, Option<Halt>), SearchError> {
        let mut flows: Vec<PairFlow> = Vec::new();
        for shown in wallets {
            let from = shown.wallet;
            // Edges of one pair in several assets are not adjacent.
            let mut own: Vec<(u32, PairFlow)> = Vec::new();
            self.graph.edges(from, Side::Out, self.filter, |edge| -> Result<(), SearchError> {
                if let Some(index) = self.visited.get(edge.peer) {
                    book(&mut self.memory, size_of::<(u32, PairFlow)>(), shown.depth, wallets.len())?;
                    own.push((index, PairFlow { from, to: edge.peer, transfers: edge.transfers, value: edge.value }));
                }
                Ok(())
            })?;
            own.sort_by_key(|(index, _)| *index);
            for (_, flow) in own {
                match flows.last_mut().filter(|last| (last.from, last.to) == (flow.from, flow.to)) {
                    Some(last) => {
                        last.transfers += flow.transfers;
                        last.value = add(last.value, flow.value)?;
                    }
                    None => flows.push(flow),
                }
            }
            let late = self.pace.step(self.graph.degree(from, Side::Out));
            if late.is_some() {
                return Ok((flows, late));
            }
        }
        Ok((flows, None))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::graph::test_graph::{Patience, Sent, TestGraph, limits, name};
    use crate::graph::{AssetSelection, Uninterrupted};

    fn rows() -> impl Strategy<Value = Vec<Sent>> {
        let row = (0..10_u32, 0..10_u32, 0..2_u32, 0..9_i64, 0..50_u128);
        let row = row.prop_map(|(from, to, token, time, value)| Sent { from, to, token, time, value });
        prop::collection::vec(row, 1..60)
    }

    /// Wallets and transfers left out, by wallet.
    type Counts = BTreeMap<u32, (u64, u64)>;

    /// The same, from the rows.
    fn expected(
        rows: &[Sent],
        direction: Direction,
        fold_above: usize,
        max_depth: u32,
        most: usize,
    ) -> (Vec<(u32, u32)>, Counts) {
        let peers = |wallet: u32| -> BTreeMap<u32, u64> {
            let mut peers = BTreeMap::new();
            for row in rows {
                if direction != Direction::In && row.from == wallet {
                    *peers.entry(row.to).or_default() += 1;
                }
                if direction != Direction::Out && row.to == wallet {
                    *peers.entry(row.from).or_default() += 1;
                }
            }
            peers
        };
        let mut shown = vec![(rows[0].from, 0)];
        let mut folding = BTreeSet::new();
        let mut next = 0;
        'all: while next < shown.len() && shown[next].1 < max_depth {
            let (wallet, depth) = shown[next];
            let mut unseen: Vec<_> =
                peers(wallet).into_iter().filter(|one| shown.iter().all(|known| known.0 != one.0)).collect();
            unseen.sort_by_key(|(peer, transfers)| (Reverse(*transfers), name(*peer)));
            if unseen.len() > fold_above {
                folding.insert(wallet);
                unseen.truncate(fold_above);
            }
            for (peer, _) in unseen {
                if shown.len() >= most {
                    folding.insert(wallet);
                    break 'all;
                }
                shown.push((peer, depth + 1));
            }
            next += 1;
        }
        let mut folded = BTreeMap::new();
        for wallet in folding {
            let unseen = peers(wallet).into_iter().filter(|one| shown.iter().all(|known| known.0 != one.0));
            let sum = unseen.fold((0, 0), |sum, one| (sum.0 + 1, sum.1 + one.1));
            if sum.0 > 0 {
                folded.insert(wallet, sum);
            }
        }
        (shown, folded)
    }

    proptest! {
        #[test]
        fn the_strongest_peers_are_shown_and_the_rest_is_counted(
            rows in rows(),
            laid_over in 0_usize..30,
            direction in prop_oneof![Just(Direction::Out), Just(Direction::In), Just(Direction::Both)],
            fold_above in prop_oneof![0_usize..4, Just(usize::MAX)],
            depth in 1_u32..5,
            most in prop::option::of(1_u64..10),
        ) {
            let test = TestGraph::new(&rows, laid_over);
            let graph = test.graph();
            let filter = EdgeFilter { assets: AssetSelection::All, ..EdgeFilter::default() };
            let bounds = SearchLimits { max_wallets: most, ..limits(depth as i32) };
            let source = test.wallet(rows[0].from);
            let look = |filter: &EdgeFilter| {
                neighbourhood(&graph, source, direction, filter, fold_above, &bounds, &mut Uninterrupted).unwrap()
            };
            let found = look(&filter);
            prop_assert_eq!(&found, &look(&filter));
            let most = most.map_or(usize::MAX, |most| most as usize);
            let (shown, folded) = expected(&rows, direction, fold_above, depth, most);
            prop_assert_eq!(found.wallets.iter().map(|one| (test.number(one.wallet), one.depth)).collect::<Vec<_>>(), shown.clone());
            let counted = found.wallets.iter().filter_map(|one| Some((test.number(one.wallet), one.folded?)));
            prop_assert_eq!(counted.map(|(wallet, one)| (wallet, (one.wallets, one.transfers))).collect::<BTreeMap<_, _>>(), folded);
            if found.halted.is_some() {
                prop_assert_eq!((found.halted, found.wallets.len()), (Some(Halt::Wallets), most));
            }

            // Values are those of one asset.
            let native = look(&EdgeFilter::default());
            for (found, coins_only) in [(&found, false), (&native, true)] {
                let among: Vec<u32> = found.wallets.iter().map(|one| test.number(one.wallet)).collect();
                let mut flows: BTreeMap<(usize, usize), (u64, u128)> = BTreeMap::new();
                for row in rows.iter().filter(|row| !coins_only || row.token == 0) {
                    let place = |wallet| among.iter().position(|one| *one == wallet);
                    if let (Some(from), Some(to)) = (place(row.from), place(row.to)) {
                        let sum = flows.entry((from, to)).or_default();
                        *sum = (sum.0 + 1, sum.1 + if coins_only { row.value } else { 0 });
                    }
                }
                let drawn = found.flows.iter().map(|flow| (test.number(flow.from), test.number(flow.to), flow.transfers, flow.value));
                let expected = flows.into_iter().map(|((from, to), sum)| (among[from], among[to], sum.0, U256::new(sum.1)));
                prop_assert_eq!(drawn.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_hub_is_folded_and_not_expanded() {
        let mut rows: Vec<Sent> =
            (1..500).flat_map(|peer| [Sent::coins(0, peer, 1), Sent::coins(peer, 500 + peer, 1)]).collect();
        rows.extend([Sent::coins(0, 77, 1), Sent::coins(0, 99, 1), Sent::coins(0, 99, 1)]);
        let test = TestGraph::new(&rows, 3);
        let source = test.wallet(0);
        let found = neighbourhood(
            &test.graph(),
            source,
            Direction::Out,
            &EdgeFilter::default(),
            2,
            &limits(2),
            &mut Uninterrupted,
        )
        .unwrap();
        let numbers: Vec<u32> = found.wallets.iter().map(|one| test.number(one.wallet)).collect();
        assert_eq!(numbers, [0, 99, 77, 599, 577]);
        assert_eq!(found.wallets[0].folded, Some(FoldedPeers { wallets: 497, transfers: 497 }));
        assert_eq!((found.flows.len(), found.halted), (4, None));
    }

    #[test]
    fn limits_end_the_search() {
        let rows: Vec<Sent> = (1..500).map(|peer| Sent::coins(0, peer, 1)).collect();
        let test = TestGraph::new(&rows, 0);
        let look = |limits: &SearchLimits, interrupt: &mut Patience| {
            neighbourhood(&test.graph(), test.wallet(0), Direction::Out, &EdgeFilter::default(), 100, limits, interrupt)
        };
        let tight = SearchLimits { memory: MemoryBudget::new(10_000), ..limits(1) };
        assert!(matches!(look(&tight, &mut Patience(9)), Err(SearchError::Memory { .. })));
        assert!(matches!(look(&limits(0), &mut Patience(9)), Err(SearchError::Depth { .. })));
        assert_eq!(look(&limits(1), &mut Patience(1)).unwrap().halted, Some(Halt::Time));
        assert_eq!(look(&limits(1), &mut Patience(9)).unwrap().wallets.len(), 101);
    }
}
