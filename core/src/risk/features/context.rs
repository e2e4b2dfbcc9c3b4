//! Context of an extraction besides the wallet's own transfers: labels, and the contacts of the
//! counterparties.

use super::ExtractError;
use super::contacts::{Contacts, count_contacts, each_contact};
use super::histories::HistoryCoverage;
use super::labelled::{LabelSufficiency, LabelledWallets};
use crate::graph::{Graph, Interrupt, MemoryBudget, Side, WalletId};

/// A graph up to a time, and its labelled wallets.
#[derive(Debug, Clone, Copy)]
pub struct ExtractContext<'c> {
    /// The graph.
    pub graph: &'c Graph<'c>,
    /// Transfers at or after this time, in microseconds, are ignored.
    pub until: Option<i64>,
    /// Labelled wallets of the graph.
    pub labelled: &'c LabelledWallets,
    /// Classes with enough labels for zero exposure to be evidence.
    pub sufficiency: LabelSufficiency,
    /// Histories that are complete.
    pub histories: &'c HistoryCoverage,
}

impl<'c> ExtractContext<'c> {
    /// Makes a context, and measures whether the labels suffice.
    ///
    /// # Errors
    /// The errors of [`LabelSufficiency::measure`].
    pub fn new(
        graph: &'c Graph<'c>,
        until: Option<i64>,
        labelled: &'c LabelledWallets,
        histories: &'c HistoryCoverage,
        interrupt: &mut impl Interrupt,
    ) -> Result<Self, ExtractError> {
        let sufficiency = LabelSufficiency::measure(graph, until, labelled, interrupt)?;
        Ok(Self { graph, until, labelled, sufficiency, histories })
    }
}

/// Source of the counterparties' contacts.
#[derive(Debug)]
pub enum ContactCounts {
    /// Counted when they are needed: for few wallets.
    OnDemand,
    /// Counted in advance, by wallet id: for many wallets.
    Precomputed(Vec<Contacts>),
}

impl ContactCounts {
    /// Counts the contacts of every wallet. O(pairs of wallets with a transfer).
    ///
    /// # Errors
    /// [`ExtractError`].
    pub fn precompute(
        context: &ExtractContext<'_>,
        memory: &mut MemoryBudget,
        interrupt: &mut impl Interrupt,
    ) -> Result<Self, ExtractError> {
        let ExtractContext { graph, until, labelled, .. } = *context;
        let wallets = graph.wallets() as usize;
        if !memory.take(wallets * size_of::<Contacts>()) {
            return Err(ExtractError::Memory { budget: memory.limit() });
        }
        let mut pace = 0;
        let mut table = vec![Contacts::default(); wallets];
        for (wallet, contacts) in graph.wallet_ids().zip(&mut table) {
            *contacts = count_contacts(graph, wallet, until, interrupt, &mut pace)?;
        }
        for illicit in labelled.illicit() {
            for side in [Side::Out, Side::In] {
                each_contact(graph, *illicit, side, until, interrupt, &mut pace, |peer| {
                    if let Some(contacts) = table.get_mut(peer.index())
                        && !contacts.is_hub()
                    {
                        match side {
                            Side::Out => contacts.illicit_senders += 1,
                            Side::In => contacts.illicit_receivers += 1,
                        }
                    }
                })?;
            }
        }
        Ok(Self::Precomputed(table))
    }

    /// Returns the contacts of a counterparty of `wallet`. The label of `wallet` itself does not
    /// count: its features must not depend on its own label.
    pub(in crate::risk) fn of_counterparty(
        &self,
        context: &ExtractContext<'_>,
        counterparty: WalletId,
        wallet: WalletId,
        interrupt: &mut impl Interrupt,
        pace: &mut usize,
    ) -> Result<Contacts, ExtractError> {
        let ExtractContext { graph, until, labelled, .. } = *context;
        if let Self::Precomputed(table) = self
            && !labelled.is_illicit(wallet)
        {
            return Ok(table.get(counterparty.index()).copied().unwrap_or_default());
        }
        let mut contacts = count_contacts(graph, counterparty, until, interrupt, pace)?;
        if !contacts.is_hub() && !labelled.illicit().is_empty() {
            let mut count_illicit = |side| -> Result<u32, ExtractError> {
                let mut illicit = 0;
                each_contact(graph, counterparty, side, until, interrupt, pace, |contact| {
                    illicit += u32::from(labelled.is_illicit(contact) && contact != wallet);
                })?;
                Ok(illicit)
            };
            contacts.illicit_senders = count_illicit(Side::In)?;
            contacts.illicit_receivers = count_illicit(Side::Out)?;
        }
        Ok(contacts)
    }
}
