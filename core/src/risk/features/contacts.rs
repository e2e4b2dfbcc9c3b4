//! Whom a wallet deals with, whoever is labelled.

use super::ExtractError;
use crate::graph::{EdgeFilter, Graph, Interrupt, Side, WalletId};

/// With so many contacts a wallet is a hub: those who deal with it have nothing in common.
pub const HUB: u32 = 1000;

/// Edges between two looks at the interrupt.
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

/// Whom a wallet deals with before a time, whoever is labelled. `pace` is kept from one wallet to the next, so that the watch is looked at
/// however many there are.
///
/// # Errors
/// [`ExtractError::Stopped`], [`ExtractError::Damaged`].
pub fn contacts_of(
    graph: &Graph<'_>,
    wallet: WalletId,
    until: Option<i64>,
    interrupt: &mut impl Interrupt,
    pace: &mut usize,
) -> Result<Contacts, ExtractError> {
    Ok(Contacts {
        fan_in: count(graph, wallet, Side::In, until, interrupt, pace)?,
        fan_out: count(graph, wallet, Side::Out, until, interrupt, pace)?,
        ..Contacts::default()
    })
}

/// Every contact there ever was, before a time. A transfer to itself is no contact.
pub(super) fn each_contact(
    graph: &Graph<'_>,
    wallet: WalletId,
    side: Side,
    until: Option<i64>,
    interrupt: &mut impl Interrupt,
    pace: &mut usize,
    mut each: impl FnMut(WalletId),
) -> Result<(), ExtractError> {
    let filter = EdgeFilter::default();
    step(pace, graph.degree(wallet, side), interrupt)?;
    if until.is_none()
        && let Some(plain) = graph.plain_edges(wallet, side, &filter, false)
    {
        plain.peers.iter().filter(|peer| **peer != wallet).for_each(|peer| each(*peer));
        return Ok(());
    }
    graph.edges(wallet, side, &filter, |edge| -> Result<(), ExtractError> {
        step(pace, 1, interrupt)?;
        // a sum beyond 256 bits comes as a second edge without transfers
        if edge.transfers > 0 && edge.peer != wallet && until.is_none_or(|until| edge.first < until) {
            each(edge.peer);
        }
        Ok(())
    })
}

fn count(
    graph: &Graph<'_>,
    wallet: WalletId,
    side: Side,
    until: Option<i64>,
    interrupt: &mut impl Interrupt,
    pace: &mut usize,
) -> Result<u32, ExtractError> {
    if until.is_none()
        && let Some(plain) = graph.plain_edges(wallet, side, &EdgeFilter::default(), false)
    {
        step(pace, 0, interrupt)?;
        let others = plain.peers.iter().filter(|peer| **peer != wallet).count();
        return Ok(u32::try_from(others).unwrap_or(u32::MAX));
    }
    let mut found = 0_u32;
    each_contact(graph, wallet, side, until, interrupt, pace, |_| found = found.saturating_add(1))?;
    Ok(found)
}

/// Looks at the watch now and then.
pub(super) fn step(pace: &mut usize, edges: usize, interrupt: &mut impl Interrupt) -> Result<(), ExtractError> {
    *pace += edges + 1;
    if *pace < STEPS {
        return Ok(());
    }
    *pace = 0;
    if interrupt.should_stop() { Err(ExtractError::Stopped) } else { Ok(()) }
}
