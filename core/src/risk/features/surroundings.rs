//! Who the counterparties deal with.

use super::ExtractError;
use super::contacts::{Contacts, contacts_of, each_contact};
use super::labelled::{Enough, Labelled};
use crate::graph::{Graph, Interrupt, MemoryBudget, Side, WalletId};

/// What is looked at: a graph up to a time, and who is labelled in it.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'s> {
    /// The graph.
    pub graph: &'s Graph<'s>,
    /// Nothing that is not before this.
    pub until: Option<i64>,
    /// The labels.
    pub labelled: &'s Labelled,
    /// Whether there are enough of them.
    pub enough: Enough,
}

impl<'s> Scene<'s> {
    /// With enough labels or not, as they are counted.
    ///
    /// # Errors
    /// Those of [`Enough::of`].
    pub fn new(
        graph: &'s Graph<'s>,
        until: Option<i64>,
        labelled: &'s Labelled,
        interrupt: &mut impl Interrupt,
    ) -> Result<Self, ExtractError> {
        Ok(Self { graph, until, labelled, enough: Enough::of(graph, until, labelled, interrupt)? })
    }
}

/// Where contacts are found out.
#[derive(Debug)]
pub enum Surroundings {
    /// When they are asked for: for few wallets.
    Asked,
    /// For all wallets before.
    Table(Vec<Contacts>),
}

impl Surroundings {
    /// Counts the contacts of every wallet. O(pairs).
    ///
    /// # Errors
    /// [`ExtractError::Memory`].
    pub fn of_all(
        scene: &Scene<'_>,
        memory: &mut MemoryBudget,
        interrupt: &mut impl Interrupt,
    ) -> Result<Self, ExtractError> {
        let Scene { graph, until, labelled, .. } = *scene;
        let wallets = graph.wallets();
        if !memory.take(wallets as usize * size_of::<Contacts>()) {
            return Err(ExtractError::Memory { budget: memory.limit() });
        }
        let mut pace = 0;
        let mut table = vec![Contacts::default(); wallets as usize];
        for (wallet, contacts) in graph.wallet_ids().zip(&mut table) {
            *contacts = contacts_of(graph, wallet, until, interrupt, &mut pace)?;
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
        Ok(Self::Table(table))
    }

    /// The contacts of a counterparty, without the wallet that asks where that is labelled itself: what is told of a wallet must not come
    /// from its own label.
    pub(in crate::risk) fn of(
        &self,
        scene: &Scene<'_>,
        peer: WalletId,
        asking: WalletId,
        interrupt: &mut impl Interrupt,
        pace: &mut usize,
    ) -> Result<Contacts, ExtractError> {
        let Scene { graph, until, labelled, .. } = *scene;
        if let Self::Table(table) = self
            && !labelled.is_illicit(asking)
        {
            return Ok(table.get(peer.index()).copied().unwrap_or_default());
        }
        let mut contacts = contacts_of(graph, peer, until, interrupt, pace)?;
        if !contacts.is_hub() && !labelled.illicit().is_empty() {
            let mut illicit = |side| -> Result<u32, ExtractError> {
                let mut found = 0;
                each_contact(graph, peer, side, until, interrupt, pace, |other| {
                    found += u32::from(labelled.is_illicit(other) && other != asking);
                })?;
                Ok(found)
            };
            (contacts.illicit_senders, contacts.illicit_receivers) = (illicit(Side::In)?, illicit(Side::Out)?);
        }
        Ok(contacts)
    }
}
