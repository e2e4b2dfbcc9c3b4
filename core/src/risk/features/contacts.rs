//! Numbers of contacts of a wallet, regardless of labels.

use super::ExtractError;
use crate::graph::{EdgeFilter, Graph, Interrupt, Side, WalletId};

/// Number of contacts that makes a wallet a hub: its counterparties have nothing in common.
pub const HUB_CONTACTS: u32 = 1000;

/// Edges processed between two cancellation checks.
const EDGES_PER_CHECK: usize = 1 << 14;

/// Contacts of a wallet, without itself. A failed transfer makes a contact, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Contacts {
    /// Distinct senders to the wallet.
    pub fan_in: u32,
    /// Distinct receivers from the wallet.
    pub fan_out: u32,
    /// Senders labelled illicit; zero for a hub.
    pub illicit_senders: u32,
    /// Receivers labelled illicit; zero for a hub.
    pub illicit_receivers: u32,
}

impl Contacts {
    /// Returns `true` for a wallet with [`HUB_CONTACTS`] or more.
    pub const fn is_hub(&self) -> bool {
        self.fan_in.saturating_add(self.fan_out) >= HUB_CONTACTS
    }
}

/// Counts the contacts of a wallet before a time, without their labels. The caller keeps `pace`
/// from one wallet to the next, so that many small wallets are checked for cancellation as well.
///
/// # Errors
/// [`ExtractError::Stopped`], [`ExtractError::Damaged`].
pub fn count_contacts(
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

/// Calls `each` with every contact before a time. A transfer to the wallet itself makes no contact.
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
        // A sum beyond 256 bits is reported as a second edge without transfers.
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
    let mut contacts = 0_u32;
    each_contact(graph, wallet, side, until, interrupt, pace, |_| contacts = contacts.saturating_add(1))?;
    Ok(contacts)
}

/// Checks for cancellation every [`EDGES_PER_CHECK`] edges.
pub(super) fn step(pace: &mut usize, edges: usize, interrupt: &mut impl Interrupt) -> Result<(), ExtractError> {
    *pace += edges + 1;
    if *pace < EDGES_PER_CHECK {
        return Ok(());
    }
    *pace = 0;
    if interrupt.should_stop() { Err(ExtractError::Stopped) } else { Ok(()) }
}
