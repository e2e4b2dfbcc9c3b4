//! Who the counterparties deal with.

use super::ExtractError;
use super::labelled::{Enough, Labelled};
use crate::graph::{EdgeFilter, Graph, MemoryBudget, Side, TransferGraph, Wallet, Watch};

/// With so many contacts a wallet is a hub: those who deal with it have nothing in common.
pub const HUB: u32 = 1000;

/// Edges between two looks at the watch.
const STEPS: usize = 1 << 14;

/// Whom a wallet deals with, itself not counted. A failed transfer is a contact, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Contacts {
    /// Distinct senders to it.
    pub fan_in: u32,
    /// Distinct receivers from it.
    pub fan_out: u32,
    /// Of its senders, those labelled illicit; none are counted at hubs.
    pub illicit_senders: u32,
    /// Of its receivers, those labelled illicit; none are counted at hubs.
    pub illicit_receivers: u32,
}

impl Contacts {
    /// Whether it is a hub.
    pub const fn is_hub(&self) -> bool {
        self.fan_in.saturating_add(self.fan_out) >= HUB
    }
}

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
        watch: &mut impl Watch,
    ) -> Result<Self, ExtractError> {
        Ok(Self { graph, until, labelled, enough: Enough::of(graph, until, labelled, watch)? })
    }
}

/// Whom a wallet deals with before a time, whoever is labelled.
///
/// # Errors
/// [`ExtractError::Stopped`], [`ExtractError::Damaged`].
pub fn contacts_of(
    graph: &Graph<'_>,
    wallet: Wallet,
    until: Option<i64>,
    watch: &mut impl Watch,
) -> Result<Contacts, ExtractError> {
    let mut pace = 0;
    Ok(Contacts {
        fan_in: count(graph, wallet, Side::In, until, watch, &mut pace)?,
        fan_out: count(graph, wallet, Side::Out, until, watch, &mut pace)?,
        ..Contacts::default()
    })
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
    pub fn of_all(scene: &Scene<'_>, memory: &mut MemoryBudget, watch: &mut impl Watch) -> Result<Self, ExtractError> {
        let Scene { graph, until, labelled, .. } = *scene;
        let wallets = graph.wallets();
        if !memory.take(wallets as usize * size_of::<Contacts>()) {
            return Err(ExtractError::Memory { budget: memory.limit() });
        }
        let mut pace = 0;
        let mut table = vec![Contacts::default(); wallets as usize];
        for (wallet, contacts) in (0..wallets).zip(&mut table) {
            contacts.fan_in = count(graph, wallet, Side::In, until, watch, &mut pace)?;
            contacts.fan_out = count(graph, wallet, Side::Out, until, watch, &mut pace)?;
        }
        for illicit in labelled.illicit() {
            for side in [Side::Out, Side::In] {
                each_contact(graph, *illicit, side, until, watch, &mut pace, |peer| {
                    if let Some(contacts) = table.get_mut(peer as usize)
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
        peer: Wallet,
        asking: Wallet,
        watch: &mut impl Watch,
        pace: &mut usize,
    ) -> Result<Contacts, ExtractError> {
        let Scene { graph, until, labelled, .. } = *scene;
        if let Self::Table(table) = self
            && !labelled.is_illicit(asking)
        {
            return Ok(table.get(peer as usize).copied().unwrap_or_default());
        }
        let mut contacts = Contacts {
            fan_in: count(graph, peer, Side::In, until, watch, pace)?,
            fan_out: count(graph, peer, Side::Out, until, watch, pace)?,
            ..Contacts::default()
        };
        if !contacts.is_hub() && !labelled.illicit().is_empty() {
            let mut illicit = |side| -> Result<u32, ExtractError> {
                let mut found = 0;
                each_contact(graph, peer, side, until, watch, pace, |other| {
                    found += u32::from(labelled.is_illicit(other) && other != asking);
                })?;
                Ok(found)
            };
            (contacts.illicit_senders, contacts.illicit_receivers) = (illicit(Side::In)?, illicit(Side::Out)?);
        }
        Ok(contacts)
    }
}

/// Every contact there ever was, before a time. A transfer to itself is no contact.
fn each_contact(
    graph: &Graph<'_>,
    wallet: Wallet,
    side: Side,
    until: Option<i64>,
    watch: &mut impl Watch,
    pace: &mut usize,
    mut each: impl FnMut(Wallet),
) -> Result<(), ExtractError> {
    let filter = EdgeFilter::default();
    step(pace, graph.degree(wallet, side), watch)?;
    if until.is_none()
        && let Some(plain) = graph.plain_edges(wallet, side, &filter, false)
    {
        plain.peers.iter().filter(|peer| **peer != wallet).for_each(|peer| each(*peer));
        return Ok(());
    }
    graph.edges(wallet, side, &filter, |edge| -> Result<(), ExtractError> {
        step(pace, 1, watch)?;
        // a sum beyond 256 bits comes as a second edge without transfers
        if edge.transfers > 0 && edge.peer != wallet && until.is_none_or(|until| edge.first < until) {
            each(edge.peer);
        }
        Ok(())
    })
}

fn count(
    graph: &Graph<'_>,
    wallet: Wallet,
    side: Side,
    until: Option<i64>,
    watch: &mut impl Watch,
    pace: &mut usize,
) -> Result<u32, ExtractError> {
    if until.is_none()
        && let Some(plain) = graph.plain_edges(wallet, side, &EdgeFilter::default(), false)
    {
        step(pace, 0, watch)?;
        let others = plain.peers.iter().filter(|peer| **peer != wallet).count();
        return Ok(u32::try_from(others).unwrap_or(u32::MAX));
    }
    let mut found = 0_u32;
    each_contact(graph, wallet, side, until, watch, pace, |_| found = found.saturating_add(1))?;
    Ok(found)
}

/// Looks at the watch now and then.
pub fn step(pace: &mut usize, edges: usize, watch: &mut impl Watch) -> Result<(), ExtractError> {
    *pace += edges + 1;
    if *pace < STEPS {
        return Ok(());
    }
    *pace = 0;
    if watch.expired() { Err(ExtractError::Stopped) } else { Ok(()) }
}
