//! Evidence for the value of a feature: a few of the wallet's own transfers, and their
//! counterparties.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::features::{
    ContactCounts, EvidenceKind, ExtractContext, ExtractError, HistoryCoverage, LabelSufficiency, LabelledWallets,
    MAX_TRANSFERS,
};
use crate::graph::{
    AssetSelection, EdgeFilter, Graph, Interrupt, MemoryBudget, Position, Side, Status, Transfer, U256, WalletId,
};

/// Transfers and counterparties shown as evidence.
pub const MAX_EVIDENCE: usize = 3;

/// Counterparties whose contacts are examined for evidence, the largest first.
const MAX_EXAMINED: usize = 500;

/// Transfers read between two cancellation checks.
const TRANSFERS_PER_CHECK: usize = 1 << 13;

/// A few transfers that prove the value of a feature.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Numbers of the transfers in the graph, those that weigh most first.
    pub transfers: Vec<u64>,
    /// Counterparties of the transfers, in the same order, each once.
    pub counterparties: Vec<WalletId>,
}

/// The transfers of one wallet, from which evidence is selected.
#[derive(Debug)]
pub struct EvidenceIndex<'g> {
    graph: Graph<'g>,
    wallet: WalletId,
    until: Option<i64>,
    /// Transfers with others, in the order of time.
    transfers: Vec<(Side, Transfer)>,
    /// Payments that failed.
    failed: Vec<(Side, Transfer)>,
}

impl<'g> EvidenceIndex<'g> {
    /// Reads the transfers of a wallet before a time. O(n log n).
    ///
    /// # Errors
    /// [`ExtractError`].
    pub fn build(
        graph: Graph<'g>,
        wallet: WalletId,
        until: Option<i64>,
        memory: &MemoryBudget,
        interrupt: &mut impl Interrupt,
    ) -> Result<Self, ExtractError> {
        let count = |side| graph.transfer_count(wallet, side).min(MAX_TRANSFERS);
        if memory.left() < (count(Side::In) + count(Side::Out)) * size_of::<(Side, Transfer)>() {
            return Err(ExtractError::Memory { budget: memory.limit() });
        }
        let filter = EdgeFilter { include_failed: true, ..EdgeFilter::history(AssetSelection::Native, until) };
        let (mut transfers, mut failed) = (Vec::new(), Vec::new());
        for side in [Side::In, Side::Out] {
            let mut steps = 0_usize;
            graph.counted_transfers(wallet, side, &filter, |transfer| -> Result<(), ExtractError> {
                steps += 1;
                if steps.is_multiple_of(TRANSFERS_PER_CHECK) && interrupt.should_stop() {
                    return Err(ExtractError::Stopped);
                }
                if steps > MAX_TRANSFERS || transfer.peer.is_none_or(|peer| peer == wallet) {
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
        transfers.sort_by_key(|(_, transfer)| (transfer.time, transfer.position));
        Ok(Self { graph, wallet, until, transfers, failed })
    }

    /// Selects the evidence of a kind.
    ///
    /// # Errors
    /// [`ExtractError`].
    pub fn evidence(
        &self,
        kind: EvidenceKind,
        labelled: &LabelledWallets,
        interrupt: &mut impl Interrupt,
    ) -> Result<Evidence, ExtractError> {
        let is_illicit = |transfer: &Transfer| transfer.peer.is_some_and(|peer| labelled.is_illicit(peer));
        let is_service = |transfer: &Transfer| transfer.peer.is_some_and(|peer| labelled.is_service(peer));
        Ok(match kind {
            EvidenceKind::Received => self.largest(self.on_side(Side::In)),
            EvidenceKind::Sent => self.largest(self.on_side(Side::Out)),
            EvidenceKind::Both => self.largest(self.transfers.iter()),
            EvidenceKind::CommonReceived => self.most_common(Side::In),
            EvidenceKind::CommonSent => self.most_common(Side::Out),
            EvidenceKind::Failed => Evidence::of(self.failed.iter().take(MAX_EVIDENCE)),
            EvidenceKind::Times => self.times(),
            EvidenceKind::IllicitSenders => {
                self.largest(self.on_side(Side::In).filter(|(_, transfer)| is_illicit(transfer)))
            }
            EvidenceKind::IllicitReceivers => {
                self.largest(self.on_side(Side::Out).filter(|(_, transfer)| is_illicit(transfer)))
            }
            EvidenceKind::Services => self.largest(self.transfers.iter().filter(|(_, transfer)| is_service(transfer))),
            EvidenceKind::SendersNearIllicit => self.near_illicit(Side::In, labelled, interrupt)?,
            EvidenceKind::ReceiversNearIllicit => self.near_illicit(Side::Out, labelled, interrupt)?,
        })
    }

    fn on_side(&self, side: Side) -> impl Iterator<Item = &(Side, Transfer)> + Clone {
        self.transfers.iter().filter(move |(of_side, _)| *of_side == side)
    }

    /// Returns the order of transfers with the same weight. Ids of wallets depend on the graph, so
    /// they must not decide.
    fn order(&self, transfer: &Transfer) -> (i64, Position, u64) {
        (transfer.time, transfer.position, transfer.peer.map_or(0, |peer| self.graph.order(peer)))
    }

    fn largest<'t>(&self, transfers: impl Iterator<Item = &'t (Side, Transfer)>) -> Evidence {
        let mut largest: Vec<&(Side, Transfer)> = Vec::with_capacity(MAX_EVIDENCE + 1);
        for entry in transfers {
            let key = |(_, transfer): &(Side, Transfer)| (Reverse(transfer.value), self.order(transfer));
            let index = largest.partition_point(|kept| key(kept) <= key(entry));
            if index < MAX_EVIDENCE {
                largest.insert(index, entry);
                largest.truncate(MAX_EVIDENCE);
            }
        }
        Evidence::of(largest.into_iter())
    }

    /// Returns transfers of the most frequent value; of several such values, the largest.
    fn most_common(&self, side: Side) -> Evidence {
        let mut counts: BTreeMap<U256, usize> = BTreeMap::new();
        for (_, transfer) in self.on_side(side) {
            *counts.entry(transfer.value).or_default() += 1;
        }
        let common = counts.into_iter().max_by_key(|(value, count)| (*count, *value)).map(|(value, _)| value);
        Evidence::of(self.on_side(side).filter(|(_, transfer)| Some(transfer.value) == common).take(MAX_EVIDENCE))
    }

    /// Returns the first and the last transfer, and the one that ended the longest pause.
    fn times(&self) -> Evidence {
        let pause = self
            .transfers
            .windows(2)
            .max_by_key(|pair| (pair[1].1.time.saturating_sub(pair[0].1.time), Reverse(pair[1].1.time)));
        let after_pause = pause.and_then(|pair| pair.last());
        let mut selected: Vec<&(Side, Transfer)> = Vec::with_capacity(MAX_EVIDENCE);
        for entry in [self.transfers.first(), after_pause, self.transfers.last()].into_iter().flatten() {
            if selected.iter().all(|other| other.1.number != entry.1.number) {
                selected.push(entry);
            }
        }
        Evidence::of(selected.into_iter())
    }

    /// Returns the largest transfers with counterparties that pay illicit wallets or are paid by
    /// them.
    fn near_illicit(
        &self,
        side: Side,
        labelled: &LabelledWallets,
        interrupt: &mut impl Interrupt,
    ) -> Result<Evidence, ExtractError> {
        let mut largest: BTreeMap<WalletId, &(Side, Transfer)> = BTreeMap::new();
        for entry in self.on_side(side) {
            let Some(peer) = entry.1.peer else { continue };
            let kept = largest.entry(peer).or_insert(entry);
            if entry.1.value > kept.1.value {
                *kept = entry;
            }
        }
        let mut by_value: Vec<(WalletId, &(Side, Transfer))> = largest.into_iter().collect();
        by_value.sort_by_key(|(peer, entry)| (Reverse(entry.1.value), self.graph.order(*peer)));
        // Contacts do not depend on the sufficiency of labels or on histories.
        let sufficiency = LabelSufficiency::default();
        let histories = HistoryCoverage::default();
        let context =
            ExtractContext { graph: &self.graph, until: self.until, labelled, sufficiency, histories: &histories };
        let (mut selected, mut pace) = (Vec::new(), 0);
        for (peer, entry) in by_value.into_iter().take(MAX_EXAMINED) {
            let contacts =
                ContactCounts::OnDemand.of_counterparty(&context, peer, self.wallet, interrupt, &mut pace)?;
            if contacts.illicit_senders > 0 || contacts.illicit_receivers > 0 {
                selected.push(entry);
                if selected.len() == MAX_EVIDENCE {
                    break;
                }
            }
        }
        Ok(Evidence::of(selected.into_iter()))
    }
}

impl Evidence {
    fn of<'t>(transfers: impl Iterator<Item = &'t (Side, Transfer)>) -> Self {
        let mut evidence = Self::default();
        for (_, transfer) in transfers {
            evidence.transfers.push(transfer.number);
            if let Some(peer) = transfer.peer
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
    fn evidence_is_the_transfers_that_weigh_most() {
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
        let mut labelled = LabelledWallets::new(graph.graph().wallets(), &mut MemoryBudget::new(1 << 20)).unwrap();
        labelled.mark(graph.wallet(2), LabelKind::Illicit);
        let memory = MemoryBudget::new(1 << 20);
        let too_small = MemoryBudget::new(100);
        let build =
            |until, memory| EvidenceIndex::build(graph.graph(), graph.wallet(0), until, memory, &mut Uninterrupted);
        assert!(build(None, &too_small).is_err());
        let index = build(None, &memory).unwrap();
        let counterparties = |kind| {
            let evidence = index.evidence(kind, &labelled, &mut Uninterrupted).unwrap();
            assert!(evidence.transfers.len() <= MAX_EVIDENCE);
            assert!(evidence.counterparties.len() <= evidence.transfers.len());
            evidence.counterparties.iter().map(|peer| graph.number(*peer)).collect::<Vec<u32>>()
        };
        assert_eq!(counterparties(EvidenceKind::Received), [2, 3, 4], "of equal values the earlier one first");
        assert_eq!(counterparties(EvidenceKind::Sent), [5]);
        assert_eq!(counterparties(EvidenceKind::Both), [5, 2, 3]);
        assert_eq!(counterparties(EvidenceKind::CommonReceived), [3, 4]);
        assert_eq!(counterparties(EvidenceKind::Failed), [6]);
        assert_eq!(counterparties(EvidenceKind::Times), [1, 4, 7], "first, after the longest pause, last");
        assert_eq!(counterparties(EvidenceKind::IllicitSenders), [2]);
        assert_eq!(counterparties(EvidenceKind::Services), [0; 0]);
        assert_eq!(counterparties(EvidenceKind::ReceiversNearIllicit), [0; 0], "a failed attempt is no payment");

        let before = build(Some(1), &memory).unwrap();
        let evidence = before.evidence(EvidenceKind::Received, &labelled, &mut Uninterrupted).unwrap();
        assert_eq!(evidence.counterparties, [graph.wallet(1)], "later transfers are ignored");
    }
}
