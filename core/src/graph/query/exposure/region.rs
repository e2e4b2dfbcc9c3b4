//! The region of a search: wallets that the funds of the requested wallets may have come from or
//! gone to.

use crate::graph::SearchError;
use std::cell::RefCell;

use super::shares::ASKED;
use super::{ExposureTerms, Marks};
use crate::graph::budget::MemoryBudget;
use crate::graph::budget::Pace;
use crate::graph::budget::{Halt, Interrupt};
use crate::graph::query::fan_out::has_more_peers;
use crate::graph::query::visited::{Visited, book};
use crate::graph::types::U256;
use crate::graph::types::WalletId;
use crate::graph::view::filter::EdgeFilter;
use crate::graph::view::graph::Graph;

/// Wallets in a batch of look-ups, which takes some tens of milliseconds.
const LOOKUP_BATCH: usize = 2_000;

/// Transfers between two cancellation checks.
pub(super) const TRANSFERS_PER_CHECK: usize = 1 << 12;

/// Treatment of funds at a wallet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Funds are followed.
    Open,
    /// Funds end here: the wallet is labelled.
    Marked(u32),
    /// Funds end here: the wallet has too many counterparties.
    Hub,
    /// Funds end here: the maximum number of hops is reached.
    Edge,
}

/// A wallet of the region.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reached {
    pub wallet: WalletId,
    /// Minimum number of transfers to a requested wallet.
    pub depth: u32,
    pub standing: Standing,
    /// Number of its label.
    pub mark: Option<u32>,
    /// The composition of its balance is tracked.
    pub kept: bool,
    /// Bit `h` is set if `h` transfers through wallets at which funds do not end lead from here to
    /// one that has more transfers.
    pub walks: u32,
}

/// Wallets whose transfers matter.
pub(super) struct Region {
    pub places: Visited,
    pub wallets: Vec<Reached>,
}

/// Searches outwards by levels. Returns `None` if the time limit was reached.
pub(super) fn search<M: Marks, W: Interrupt>(
    graph: &Graph<'_>,
    asked: &[WalletId],
    terms: &ExposureTerms,
    marks: &mut M,
    memory: &mut MemoryBudget,
    pace: &mut Pace<'_, W>,
) -> Result<Option<Region>, M::Error> {
    let mut region = Region { places: Visited::new(graph.wallets(), memory), wallets: Vec::new() };
    let (side, filter) = (terms.flow.side(), EdgeFilter::history(terms.assets, terms.until));
    for wallet in asked {
        region.reach(*wallet, 0, memory)?;
    }
    // Pairs with transfers, needed to exclude wallets that no labelled wallet leads to.
    let mut contacts: Vec<(u32, WalletId)> = Vec::new();
    let mut start = 0;
    for depth in 0..=terms.max_hops {
        let level: Vec<WalletId> = region.wallets[start..].iter().map(|reached| reached.wallet).collect();
        for batch in level.chunks(LOOKUP_BATCH) {
            marks.prepare(graph, batch)?;
            if pace.interrupt().should_stop() {
                return Ok(None);
            }
        }
        let end = region.wallets.len();
        for index in start..end {
            let Some(reached) = region.wallets.get(index).copied() else { break };
            let standing = if let Some(mark) = marks.mark(reached.wallet) {
                // A requested wallet is distinguished from others with the label, to recognise its
                // own funds.
                Standing::Marked(if depth == 0 { ASKED + index as u32 } else { mark })
            } else if depth == terms.max_hops && depth > 0 {
                Standing::Edge
            } else if let Some(most) = terms.max_fan_out
                && has_more_peers(graph, reached.wallet, side, &filter, most, pace)?
            {
                Standing::Hub
            } else {
                Standing::Open
            };
            // Requested wallets are always passed through.
            let kept = depth == 0 || standing == Standing::Open;
            if let Some(entry) = region.wallets.get_mut(index) {
                let goes_on = graph.transfer_count(reached.wallet, side) > 0 && marks.mark(reached.wallet).is_none();
                let walks = u32::from(goes_on);
                *entry = Reached { standing, kept, mark: marks.mark(reached.wallet), walks, ..reached };
            }
            if !kept || depth == terms.max_hops {
                continue;
            }
            let mut examined = 0_usize;
            let shared = RefCell::new((&mut region, &mut *memory));
            let mut is_full = false;
            let new = |peer: Option<WalletId>| {
                examined += 1;
                if examined.is_multiple_of(TRANSFERS_PER_CHECK) {
                    pace.interrupt().should_stop();
                }
                let Some(peer) = peer else { return false };
                let contact = (index as u32, peer);
                if contacts.last() != Some(&contact) {
                    if contacts.len() == contacts.capacity() {
                        let more = contacts.len().max(16);
                        is_full |= !shared.borrow_mut().1.take(more * size_of::<(u32, WalletId)>());
                        if is_full {
                            return false;
                        }
                        contacts.reserve_exact(more);
                    }
                    contacts.push(contact);
                }
                shared.borrow().0.places.get(peer).is_none()
            };
            graph.counted_transfers_with(
                reached.wallet,
                side,
                &filter,
                new,
                |transfer| -> Result<(), SearchError> {
                    match transfer.peer {
                        Some(peer) if transfer.value > U256::ZERO => {
                            let (region, memory) = &mut *shared.borrow_mut();
                            region.reach(peer, depth + 1, memory)
                        }
                        _ => Ok(()),
                    }
                },
            )?;
            if is_full {
                let wallets = region.wallets.len();
                return Err(SearchError::Memory { budget: memory.limit(), depth, wallets }.into());
            }
            if let Some(Halt::Time) = pace.step(examined) {
                return Ok(None);
            }
        }
        start = end;
        if start == region.wallets.len() {
            break;
        }
    }
    region.count_walks(&contacts, terms.max_hops, pace);
    region.exclude_unlabelled(&contacts, terms.max_hops, pace);
    Ok(Some(region))
}

impl Region {
    /// Determines over how many transfers funds may go on from each wallet, regardless of time.
    fn count_walks<W: Interrupt>(&mut self, contacts: &[(u32, WalletId)], max_hops: u32, pace: &mut Pace<'_, W>) {
        for hop in 0..max_hops {
            for (index, peer) in contacts {
                pace.step(0);
                let other = self.places.get(*peer).and_then(|other| self.wallets.get(other as usize));
                let goes_on = other.is_some_and(|other| other.mark.is_none() && other.walks >> hop & 1 == 1);
                if let Some(own) = self.wallets.get_mut(*index as usize).filter(|_| goes_on) {
                    own.walks |= 2 << hop;
                }
            }
        }
    }

    /// Tracks only the balances of wallets that a labelled wallet or a hub leads to, because others
    /// are not reported.
    fn exclude_unlabelled<W: Interrupt>(
        &mut self,
        contacts: &[(u32, WalletId)],
        max_hops: u32,
        pace: &mut Pace<'_, W>,
    ) {
        let labelled = |reached: &Reached| matches!(reached.standing, Standing::Marked(_) | Standing::Hub);
        // Wallets whose funds are reported, and wallets that these lead to.
        let reported: Vec<bool> = self.wallets.iter().map(labelled).collect();
        let mut led_to = vec![false; reported.len()];
        for _ in 0..max_hops {
            let mut changed = false;
            for (index, peer) in contacts {
                pace.step(0);
                let other = self.places.get(*peer).map(|other| other as usize);
                let leads =
                    other.is_some_and(|other| reported.get(other) == Some(&true) || led_to.get(other) == Some(&true));
                if let Some(own) = led_to.get_mut(*index as usize).filter(|own| leads && !**own) {
                    *own = true;
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
        for (reached, led_to) in self.wallets.iter_mut().zip(led_to) {
            reached.kept &= led_to;
        }
    }

    #[inline]
    pub(super) fn keeps(&self, wallet: WalletId) -> bool {
        let index = self.places.get(wallet);
        index.and_then(|index| self.wallets.get(index as usize)).is_some_and(|reached| reached.kept)
    }

    fn reach(&mut self, wallet: WalletId, depth: u32, memory: &mut MemoryBudget) -> Result<(), SearchError> {
        if self.places.get(wallet).is_none() {
            let index = self.wallets.len();
            book(memory, size_of::<Reached>() + self.places.cost(), depth, index)?;
            self.places.insert(wallet, index as u32);
            self.wallets.push(Reached { wallet, depth, standing: Standing::Edge, mark: None, kept: false, walks: 0 });
        }
        Ok(())
    }
}
