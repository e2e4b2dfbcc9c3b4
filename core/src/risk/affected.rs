//! Wallets whose features a change may have altered: the rule by which stored scores are refreshed.
//!
//! A transfer changes the features of both its wallets, and the contacts that their counterparties
//! see. A label is seen by the counterparties of its wallet and, through them, by theirs; features
//! do not see labels through hubs, so neither does this rule.

use std::collections::HashSet;

use super::features::{ExtractError, count_contacts};
use crate::graph::{EdgeFilter, Graph, Interrupt, Side, WalletId};

/// Returns the wallets that are affected when the transfers of the `touched` wallets or the labels
/// of the `relabelled` wallets have changed, in the order of their ids. O(edges of these wallets,
/// and of the counterparties of the relabelled ones that are not hubs).
///
/// # Errors
/// [`ExtractError::Stopped`] when the interrupt asks for it, [`ExtractError::Damaged`].
pub fn affected_wallets(
    graph: &Graph<'_>,
    touched: &[WalletId],
    relabelled: &[WalletId],
    interrupt: &mut impl Interrupt,
) -> Result<Vec<WalletId>, ExtractError> {
    let mut affected = Affected { graph, is_affected: vec![false; graph.wallets() as usize] };
    for wallet in touched {
        affected.add(*wallet);
        for counterparty in affected.counterparties(*wallet, interrupt)? {
            affected.add(counterparty);
        }
    }
    let mut seen_through = HashSet::new();
    for wallet in relabelled {
        affected.add(*wallet);
        seen_through.extend(affected.counterparties(*wallet, interrupt)?);
    }
    let mut pace = 0;
    for wallet in seen_through {
        affected.add(wallet);
        if count_contacts(graph, wallet, None, interrupt, &mut pace)?.is_hub() {
            continue;
        }
        for counterparty in affected.counterparties(wallet, interrupt)? {
            affected.add(counterparty);
        }
    }
    Ok(graph.wallet_ids().zip(affected.is_affected).filter_map(|(wallet, is)| is.then_some(wallet)).collect())
}

struct Affected<'g> {
    graph: &'g Graph<'g>,
    /// By wallet id.
    is_affected: Vec<bool>,
}

impl Affected<'_> {
    fn add(&mut self, wallet: WalletId) {
        if let Some(is_affected) = self.is_affected.get_mut(wallet.index()) {
            *is_affected = true;
        }
    }

    /// Returns everyone a wallet ever had a transfer with, in any asset.
    fn counterparties(&self, wallet: WalletId, interrupt: &mut impl Interrupt) -> Result<Vec<WalletId>, ExtractError> {
        if interrupt.should_stop() {
            return Err(ExtractError::Stopped);
        }
        let mut counterparties = Vec::new();
        for side in [Side::In, Side::Out] {
            self.graph.edges(wallet, side, &EdgeFilter::default(), |edge| -> Result<(), ExtractError> {
                counterparties.push(edge.peer);
                Ok(())
            })?;
        }
        Ok(counterparties)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::features::{
        ContactCounts, ExtractContext, Extractor, HUB_CONTACTS, HistoryCoverage, LabelSufficiency, LabelledWallets,
    };
    use super::*;
    use crate::graph::test_graph::{Sent, TestGraph};
    use crate::graph::{MemoryBudget, Uninterrupted};
    use crate::label::LabelKind;

    const WALLETS: u32 = 10;

    fn affected(graph: &TestGraph, touched: &[u32], relabelled: &[u32]) -> Vec<u32> {
        let ids = |numbers: &[u32]| -> Vec<WalletId> { numbers.iter().map(|number| graph.wallet(*number)).collect() };
        let ids = affected_wallets(&graph.graph(), &ids(touched), &ids(relabelled), &mut Uninterrupted).unwrap();
        let mut numbers: Vec<u32> = ids.into_iter().map(|wallet| graph.number(wallet)).collect();
        numbers.sort_unstable();
        numbers
    }

    /// A chain: 0 pays 1, 1 pays 2, 2 pays 3, 3 pays 4.
    fn chain() -> TestGraph {
        TestGraph::new(&(0..4).map(|from| Sent::coins(from, from + 1, 1)).collect::<Vec<_>>(), 2)
    }

    #[test]
    fn transfers_affect_a_wallet_and_its_counterparties() {
        assert_eq!(affected(&chain(), &[2], &[]), [1, 2, 3]);
        assert_eq!(affected(&chain(), &[0, 4], &[]), [0, 1, 3, 4]);
        assert_eq!(affected(&chain(), &[], &[]), [0; 0]);
    }

    #[test]
    fn a_label_is_seen_through_counterparties() {
        assert_eq!(affected(&chain(), &[], &[0]), [0, 1, 2]);
        assert_eq!(affected(&chain(), &[], &[2]), [0, 1, 2, 3, 4]);
        assert_eq!(affected(&chain(), &[0], &[4]), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_label_is_not_seen_through_a_hub() {
        // Wallet 0 pays 1, which pays 2. With the others, which pay 1 and are paid by it, there are
        // just enough contacts for a hub; without the last payment there is one too few.
        let others = 3..3 + (HUB_CONTACTS - 2) / 2;
        let exchanged = others.flat_map(|other| [Sent::coins(other, 1, 1), Sent::coins(1, other, 1)]);
        let rows: Vec<Sent> = [Sent::coins(0, 1, 1), Sent::coins(1, 2, 1)].into_iter().chain(exchanged).collect();
        let (hub, almost) = (TestGraph::new(&rows, 0), TestGraph::new(&rows[..rows.len() - 1], 0));
        assert_eq!(affected(&hub, &[], &[0]), [0, 1]);
        let everyone: Vec<u32> = (0..3 + (HUB_CONTACTS - 2) / 2).collect();
        assert_eq!(affected(&almost, &[], &[0]), everyone);
    }

    #[test]
    fn an_interrupt_stops_the_search() {
        struct Stop;
        impl Interrupt for Stop {
            fn should_stop(&mut self) -> bool {
                true
            }
        }
        let graph = chain();
        let stopped = affected_wallets(&graph.graph(), &[graph.wallet(1)], &[], &mut Stop);
        assert_eq!(stopped.unwrap_err(), ExtractError::Stopped);
    }

    /// The bits of every feature of a wallet; `None` if it has no transfers.
    fn features(graph: &TestGraph, wallet: u32, illicit: &[u32]) -> Option<Vec<u64>> {
        let view = graph.graph();
        if graph.wallet(wallet).get() >= view.wallets() {
            return None;
        }
        let mut labelled = LabelledWallets::new(view.wallets(), &mut MemoryBudget::new(1 << 20)).unwrap();
        illicit.iter().for_each(|number| labelled.mark(graph.wallet(*number), LabelKind::Illicit));
        // The labels suffice before and after: only the change of one label is of interest.
        let sufficiency = LabelSufficiency { illicit: true, services: true };
        let histories = HistoryCoverage::default();
        let context =
            ExtractContext { graph: &view, until: None, labelled: &labelled, sufficiency, histories: &histories };
        let wallet = graph.wallet(wallet);
        let extracted =
            Extractor::default().extract(&context, wallet, &ContactCounts::OnDemand, &mut Uninterrupted).unwrap();
        extracted.map(|(row, _)| row.iter().map(|value| value.to_bits()).collect())
    }

    fn transfers() -> impl Strategy<Value = Vec<Sent>> {
        let transfer = (0..WALLETS, 0..WALLETS, 0_i64..50, 0_u128..4);
        prop::collection::vec(
            transfer.prop_map(|(from, to, time, value)| Sent { time, ..Sent::coins(from, to, value) }),
            1..30,
        )
    }

    proptest! {
        #[test]
        fn only_affected_wallets_change_with_a_label(rows in transfers(), relabelled in 0..WALLETS, other in 0..WALLETS) {
            let graph = TestGraph::new(&rows, 5);
            prop_assume!(graph.wallet(relabelled).get() < graph.graph().wallets() && other != relabelled);
            let affected = affected(&graph, &[], &[relabelled]);
            for wallet in (0..WALLETS).filter(|wallet| !affected.contains(wallet)) {
                let (before, after) = (features(&graph, wallet, &[other]), features(&graph, wallet, &[other, relabelled]));
                prop_assert_eq!(before, after, "wallet {} is not affected", wallet);
            }
        }

        #[test]
        fn only_affected_wallets_change_with_a_transfer(
            rows in transfers(), (from, to) in (0..WALLETS, 0..WALLETS), illicit in 0..WALLETS,
        ) {
            let before = TestGraph::new(&rows, 5);
            let more: Vec<Sent> = rows.iter().cloned().chain([Sent { time: 25, ..Sent::coins(from, to, 3) }]).collect();
            let after = TestGraph::new(&more, 6);
            let affected = affected(&after, &[from, to], &[]);
            for wallet in (0..WALLETS).filter(|wallet| !affected.contains(wallet)) {
                let (before, after) = (features(&before, wallet, &[illicit]), features(&after, wallet, &[illicit]));
                prop_assert_eq!(before, after, "wallet {} is not affected", wallet);
            }
        }
    }
}
