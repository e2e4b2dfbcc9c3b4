//! What proves a feature's value: the wallet's own transfers, and with whom.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::features::{Enough, ExtractError, Labelled, MOST_TRANSFERS, Proof, Scene, Surroundings};
use crate::graph::{
    AssetSelection, EdgeFilter, Graph, Interrupt, MemoryBudget, Side, Status, Transfer, U256, WalletId,
};

/// Transfers and counterparties shown for a proof.
pub const MOST_SHOWN: usize = 3;

/// Counterparties whose surroundings are looked at for a proof, the largest.
const MOST_LOOKED_AT: usize = 500;

/// A few transfers that prove a value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Numbers of transfers, those that weigh most first.
    pub transfers: Vec<u64>,
    /// Those they were made with, in the same order, each once.
    pub counterparties: Vec<WalletId>,
}

/// The transfers of one wallet, to be asked for proofs.
#[derive(Debug)]
pub struct Dossier<'g> {
    graph: Graph<'g>,
    wallet: WalletId,
    until: Option<i64>,
    /// With others, in the order of time.
    transfers: Vec<(Side, Transfer)>,
    /// Payments that failed.
    failed: Vec<(Side, Transfer)>,
}

impl<'g> Dossier<'g> {
    /// Gathers a wallet's transfers before a time. O(n log n).
    ///
    /// # Errors
    /// [`ExtractError`].
    pub fn gather(
        graph: Graph<'g>,
        wallet: WalletId,
        until: Option<i64>,
        memory: &MemoryBudget,
        interrupt: &mut impl Interrupt,
    ) -> Result<Self, ExtractError> {
        let transfers = |side| graph.transfer_count(wallet, side).min(MOST_TRANSFERS);
        if memory.left() < (transfers(Side::In) + transfers(Side::Out)) * size_of::<(Side, Transfer)>() {
            return Err(ExtractError::Memory { budget: memory.limit() });
        }
        let filter = EdgeFilter { include_failed: true, ..EdgeFilter::history(AssetSelection::Native, until) };
        let (mut transfers, mut failed) = (Vec::new(), Vec::new());
        for side in [Side::In, Side::Out] {
            let mut steps = 0_usize;
            graph.counted_transfers(wallet, side, &filter, |transfer| -> Result<(), ExtractError> {
                steps += 1;
                if steps.is_multiple_of(1 << 13) && interrupt.should_stop() {
                    return Err(ExtractError::Stopped);
                }
                if steps > MOST_TRANSFERS || transfer.peer.is_none_or(|peer| peer == wallet) {
                    return Ok(());
                }
                if transfer.status != Status::Failed {
                    transfers.push((side, transfer));
                } else if side == Side::Out {
                    failed.push((side, transfer));
                }
                Ok(())
            })?;
        }
        transfers.sort_by_key(|(_, one)| (one.time, one.position));
        Ok(Self { graph, wallet, until, transfers, failed })
    }

    /// What proves a value of this kind.
    ///
    /// # Errors
    /// [`ExtractError`].
    pub fn proof(
        &self,
        proof: Proof,
        labelled: &Labelled,
        interrupt: &mut impl Interrupt,
    ) -> Result<Evidence, ExtractError> {
        let of_side = |wanted: Side| self.transfers.iter().filter(move |(side, _)| *side == wanted);
        Ok(match proof {
            Proof::Received => self.largest(of_side(Side::In)),
            Proof::Sent => self.largest(of_side(Side::Out)),
            Proof::Both => self.largest(self.transfers.iter()),
            Proof::CommonReceived => self.common(Side::In),
            Proof::CommonSent => self.common(Side::Out),
            Proof::Failed => self.shown(self.failed.iter().take(MOST_SHOWN)),
            Proof::Times => self.times(),
            Proof::IllicitSenders => self
                .largest(of_side(Side::In).filter(|(_, one)| one.peer.is_some_and(|peer| labelled.is_illicit(peer)))),
            Proof::IllicitReceivers => self
                .largest(of_side(Side::Out).filter(|(_, one)| one.peer.is_some_and(|peer| labelled.is_illicit(peer)))),
            Proof::Services => self.largest(
                self.transfers.iter().filter(|(_, one)| one.peer.is_some_and(|peer| labelled.is_service(peer))),
            ),
            Proof::SendersNearIllicit => self.near_illicit(Side::In, labelled, interrupt)?,
            Proof::ReceiversNearIllicit => self.near_illicit(Side::Out, labelled, interrupt)?,
        })
    }

    /// The order in which transfers are shown that weigh the same: wallets' numbers mean nothing.
    fn place(&self, one: &Transfer) -> (i64, super::super::graph::Position, u64) {
        (one.time, one.position, one.peer.map_or(0, |peer| self.graph.order(peer)))
    }

    fn largest<'t>(&self, transfers: impl Iterator<Item = &'t (Side, Transfer)>) -> Evidence {
        let mut kept: Vec<&(Side, Transfer)> = Vec::with_capacity(MOST_SHOWN + 1);
        for one in transfers {
            let key = |one: &(Side, Transfer)| (Reverse(one.1.value), self.place(&one.1));
            let at = kept.partition_point(|kept| key(kept) <= key(one));
            if at < MOST_SHOWN {
                kept.insert(at, one);
                kept.truncate(MOST_SHOWN);
            }
        }
        self.shown(kept.into_iter())
    }

    fn common(&self, wanted: Side) -> Evidence {
        let of_side = || self.transfers.iter().filter(|(side, _)| *side == wanted);
        let mut counts: BTreeMap<U256, usize> = BTreeMap::new();
        for (_, one) in of_side() {
            *counts.entry(one.value).or_default() += 1;
        }
        // of several, the largest amount
        let common = counts.into_iter().max_by_key(|(value, count)| (*count, *value)).map(|(value, _)| value);
        self.shown(of_side().filter(|(_, one)| Some(one.value) == common).take(MOST_SHOWN))
    }

    /// The first and the last, and the one that ended the longest pause.
    fn times(&self) -> Evidence {
        let pause = self
            .transfers
            .windows(2)
            .max_by_key(|two| (two[1].1.time.saturating_sub(two[0].1.time), Reverse(two[1].1.time)));
        let after = pause.and_then(|two| two.last());
        let mut shown: Vec<&(Side, Transfer)> = Vec::with_capacity(MOST_SHOWN);
        for one in [self.transfers.first(), after, self.transfers.last()].into_iter().flatten() {
            if shown.iter().all(|other| other.1.number != one.1.number) {
                shown.push(one);
            }
        }
        self.shown(shown.into_iter())
    }

    fn near_illicit(
        &self,
        wanted: Side,
        labelled: &Labelled,
        interrupt: &mut impl Interrupt,
    ) -> Result<Evidence, ExtractError> {
        let mut largest: BTreeMap<WalletId, &(Side, Transfer)> = BTreeMap::new();
        for one in self.transfers.iter().filter(|(side, _)| *side == wanted) {
            let Some(peer) = one.1.peer else { continue };
            let kept = largest.entry(peer).or_insert(one);
            if one.1.value > kept.1.value {
                *kept = one;
            }
        }
        let mut peers: Vec<(WalletId, &(Side, Transfer))> = largest.into_iter().collect();
        peers.sort_by_key(|(peer, one)| (Reverse(one.1.value), self.graph.order(*peer)));
        // only contacts are asked about: whether labels are enough does not matter
        let scene = Scene { graph: &self.graph, until: self.until, labelled, enough: Enough::default() };
        let (mut found, mut pace) = (Vec::new(), 0);
        for (peer, one) in peers.into_iter().take(MOST_LOOKED_AT) {
            let contacts = Surroundings::Asked.of(&scene, peer, self.wallet, interrupt, &mut pace)?;
            if contacts.illicit_senders > 0 || contacts.illicit_receivers > 0 {
                found.push(one);
                if found.len() == MOST_SHOWN {
                    break;
                }
            }
        }
        Ok(self.shown(found.into_iter()))
    }

    fn shown<'t>(&self, transfers: impl Iterator<Item = &'t (Side, Transfer)>) -> Evidence {
        let mut evidence = Evidence::default();
        for (_, one) in transfers {
            evidence.transfers.push(one.number);
            if let Some(peer) = one.peer
                && !evidence.counterparties.contains(&peer)
            {
                evidence.counterparties.push(peer);
            }
        }
        evidence
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Uninterrupted;
    use crate::graph::test_graph::{Sent, TestGraph};
    use crate::label::LabelKind;

    fn sent(from: u32, to: u32, time: i64, value: u128) -> Sent {
        Sent { time, ..Sent::coins(from, to, value) }
    }

    #[test]
    fn proofs_are_the_transfers_that_weigh_most() {
        let rows = [
            sent(1, 0, 0, 10),
            sent(2, 0, 1, 30),
            sent(3, 0, 2, 20),
            sent(4, 0, 9, 20),
            sent(0, 5, 10, 70),
            sent(0, 6, 11, 1),
            sent(6, 2, 12, 1),
            sent(7, 0, 13, 5),
        ];
        let graph = TestGraph::with_failed(&rows, |row| row == 5, 3);
        let mut labelled = Labelled::new(graph.graph().wallets(), &mut MemoryBudget::new(1 << 20)).unwrap();
        labelled.mark(graph.wallet(2), LabelKind::Illicit);
        let memory = MemoryBudget::new(1 << 20);
        let small = MemoryBudget::new(100);
        assert!(Dossier::gather(graph.graph(), graph.wallet(0), None, &small, &mut Uninterrupted).is_err());
        let dossier = Dossier::gather(graph.graph(), graph.wallet(0), None, &memory, &mut Uninterrupted).unwrap();
        let proof = |proof| {
            let found = dossier.proof(proof, &labelled, &mut Uninterrupted).unwrap();
            assert!(found.transfers.len() <= MOST_SHOWN && found.counterparties.len() <= found.transfers.len());
            found.counterparties.iter().map(|peer| graph.number(*peer)).collect::<Vec<u32>>()
        };
        assert_eq!(proof(Proof::Received), [2, 3, 4], "of two that weigh the same the earlier first");
        assert_eq!(proof(Proof::Sent), [5]);
        assert_eq!(proof(Proof::Both), [5, 2, 3]);
        assert_eq!(proof(Proof::CommonReceived), [3, 4]);
        assert_eq!(proof(Proof::Failed), [6]);
        assert_eq!(proof(Proof::Times), [1, 4, 7], "the first, the one after the longest pause, the last");
        assert_eq!(proof(Proof::IllicitSenders), [2]);
        assert_eq!(proof(Proof::Services), [0; 0]);
        assert_eq!(proof(Proof::ReceiversNearIllicit), [0; 0], "an attempt that failed is no payment");

        let before = Dossier::gather(graph.graph(), graph.wallet(0), Some(1), &memory, &mut Uninterrupted).unwrap();
        let found = before.proof(Proof::Received, &labelled, &mut Uninterrupted).unwrap();
        assert_eq!(found.counterparties, [graph.wallet(1)], "nothing of later is known");
    }
}
