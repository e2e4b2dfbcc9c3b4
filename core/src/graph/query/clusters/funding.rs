//! Evidence by first funds: wallets that received their first funds from the same wallet in quick
//! succession belong together.
//!
//! The first funds of a wallet are its first transfer that counts, with a value above zero, from
//! another wallet, regardless of the start of the time window. The first funds from one funder, by
//! time, form rows: at most `window` passes from one to the next. A row of at least `min_wallets`
//! merges each wallet with the next one, unless the funder is a service, a hub, or the first funder
//! of more than `max_wallets` wallets. Services and hubs are in no row. The funder does not join
//! the cluster: it may belong to someone else.
//!
//! Confidence: the share of the funder's receivers that are in the row, times `1 - gap / (2
//! window)`: a funder that only funds new wallets, at one time, runs a farm.

use std::collections::HashSet;

use super::deposit::PeerIndex;
use super::options::FundingOptions;
use super::{ClusterScope, MergeEvidence, Verdict};
use crate::graph::budget::MemoryBudget;
use crate::graph::budget::{Halt, Interrupt};
use crate::graph::budget::{Pace, Stop};
use crate::graph::error::SearchError;
use crate::graph::file::sorting::sort_with_room;
use crate::graph::query::adjacency::{reserve, step};
use crate::graph::types::U256;
use crate::graph::types::{Side, WalletId};
use crate::graph::view::filter::EdgeFilter;

/// First funds of a wallet.
#[derive(Debug, Clone, Copy)]
struct FirstFunds {
    funder: WalletId,
    time: i64,
    wallet: WalletId,
}

/// Collects the evidence of all rows. O(wallets log wallets) and the transfers of funders, with
/// some 60 bytes a wallet.
pub(super) fn evidence<W: Interrupt>(
    scope: &ClusterScope<'_, '_>,
    options: &FundingOptions,
    memory: &mut MemoryBudget,
    pace: &mut Pace<'_, W>,
) -> Result<(Vec<MergeEvidence>, Option<Halt>), SearchError> {
    let mut peers = PeerIndex::new(scope, options.max_peers, memory)?;
    let (mut first, mut merges) = (Vec::new(), Vec::new());
    let read = read_first(scope, &peers, &mut first, memory, pace);
    let mut halted = Stop::halt(read)?;
    reserve(memory, size_of::<FirstFunds>() * first.len(), first.len())?;
    sort_with_room(&mut first, pace.interrupt(), |a, b| {
        (a.funder, a.time)
            .cmp(&(b.funder, b.time))
            .then_with(|| scope.graph.order(a.wallet).cmp(&scope.graph.order(b.wallet)))
    });
    if halted.is_none() {
        let mut rows = FunderRows { scope, options, peers: &mut peers, merges: &mut merges, receivers: HashSet::new() };
        let mut outcome = Ok(());
        for funded in first.chunk_by(|a, b| a.funder == b.funder) {
            outcome = rows.collect(funded, memory, pace);
            if outcome.is_err() {
                break;
            }
        }
        halted = Stop::halt(outcome)?;
    }
    Ok((merges, halted))
}

/// End of a scan of a wallet's receipts.
enum ReceiptScanEnd {
    Found(WalletId, i64),
    Stop(Stop),
}

impl<E: Into<Stop>> From<E> for ReceiptScanEnd {
    fn from(stop: E) -> Self {
        Self::Stop(stop.into())
    }
}

fn read_first<W: Interrupt>(
    scope: &ClusterScope<'_, '_>,
    peers: &PeerIndex,
    first: &mut Vec<FirstFunds>,
    memory: &mut MemoryBudget,
    pace: &mut Pace<'_, W>,
) -> Result<(), Stop> {
    let graph = scope.graph;
    let filter = EdgeFilter { since: None, ..scope.filter };
    for wallet in graph.wallet_ids().filter(|wallet| graph.is_of(*wallet, scope.network)) {
        step(pace)?;
        if peers.is_service(wallet) {
            continue;
        }
        let scan = graph.counted_transfers(wallet, Side::In, &filter, |transfer| -> Result<(), ReceiptScanEnd> {
            step(pace)?;
            match transfer.peer.filter(|peer| *peer != wallet && transfer.value > U256::ZERO) {
                Some(peer) => Err(ReceiptScanEnd::Found(peer, transfer.time)),
                None => Ok(()),
            }
        });
        let (funder, time) = match scan {
            Ok(()) => continue,
            Err(ReceiptScanEnd::Found(funder, time)) => (funder, time),
            Err(ReceiptScanEnd::Stop(stop)) => return Err(stop),
        };
        if scope.filter.since.is_some_and(|since| time < since) || peers.is_service(funder) {
            continue;
        }
        if first.len() == first.capacity() {
            reserve(memory, size_of::<FirstFunds>() * first.len().max(4), first.len())?;
        }
        first.push(FirstFunds { funder, time, wallet });
    }
    Ok(())
}

struct FunderRows<'a, 'q, 'g> {
    scope: &'a ClusterScope<'q, 'g>,
    options: &'a FundingOptions,
    peers: &'a mut PeerIndex,
    merges: &'a mut Vec<MergeEvidence>,
    /// Buffer to count the receivers of a funder.
    receivers: HashSet<WalletId>,
}

impl FunderRows<'_, '_, '_> {
    /// Collects the rows of one funder.
    fn collect<W: Interrupt>(
        &mut self,
        funded: &[FirstFunds],
        memory: &mut MemoryBudget,
        pace: &mut Pace<'_, W>,
    ) -> Result<(), Stop> {
        step(pace)?;
        let Some(funder) = funded.first().map(|receipt| receipt.funder) else { return Ok(()) };
        let (least, most) = (self.options.min_wallets, self.options.max_wallets);
        if funded.len() < least || funded.len() > most || self.peers.is_hub(self.scope, funder, pace)? {
            return Ok(());
        }
        let mut eligible = Vec::with_capacity(funded.len());
        for receipt in funded {
            if !self.peers.is_hub(self.scope, receipt.wallet, pace)? {
                eligible.push(*receipt);
            }
        }
        let receivers = self.count_receivers(funder, pace)?;
        let window = self.options.window;
        for row in eligible.chunk_by(|a, b| b.time.saturating_sub(a.time) <= window).filter(|row| row.len() >= least) {
            let share = row.len() as f64 / receivers as f64;
            for pair in row.windows(2) {
                let [receipt, next] = pair else { continue };
                let gap = next.time.saturating_sub(receipt.time) as f64;
                if self.merges.len() == self.merges.capacity() {
                    reserve(memory, size_of::<MergeEvidence>() * self.merges.len().max(4), self.merges.len())?;
                }
                self.merges.push(MergeEvidence {
                    wallet: receipt.wallet,
                    merged_with: next.wallet,
                    via: funder,
                    service: None,
                    first: receipt.time,
                    last: next.time,
                    confidence: share * (1.0 - gap / (2.0 * window as f64)),
                    verdict: Verdict::Accepted { joined: false },
                });
            }
        }
        Ok(())
    }

    /// Counts the wallets that a funder ever sent to: few, because it is not a hub.
    fn count_receivers<W: Interrupt>(&mut self, funder: WalletId, pace: &mut Pace<'_, W>) -> Result<usize, Stop> {
        let receivers = &mut self.receivers;
        receivers.clear();
        let filter = EdgeFilter { since: None, ..self.scope.filter };
        self.scope.graph.receivers(funder, &filter, |peer| -> Result<(), Stop> {
            if let Some(peer) = peer.filter(|peer| *peer != funder) {
                receivers.insert(peer);
            }
            step(pace)
        })?;
        Ok(receivers.len().max(1))
    }
}
