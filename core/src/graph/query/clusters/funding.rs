//! Evidence by first funds: wallets that one wallet filled one after the other, before anybody else did, are its owner's.
//!
//! The first funds of a wallet are the first transfer that counts, of more than nothing, from another wallet; the beginning of a
//! time window does not make later ones first. Those of one funder, by time, fall into rows: from one to the next passes no more
//! than `window`. A row of at least `min_wallets` merges each wallet with the next one, unless the funder is a service, a hub, or
//! funded more than `max_wallets` wallets first. Services and hubs are in no row. The funder does not join: he may be a friend.
//!
//! Confidence: of the wallets that the funder ever sent to, the share that is in the row, times `1 - gap / (2 window)`: someone who
//! fills nothing but new wallets, at one go, runs a farm.

use std::collections::HashSet;

use super::deposit::Peers;
use super::options::FundingOptions;
use super::{Asked, Merge, Verdict};
use crate::graph::budget::MemoryBudget;
use crate::graph::budget::{Halt, Interrupt};
use crate::graph::budget::{Pace, Stop};
use crate::graph::error::SearchError;
use crate::graph::file::sorting::sort_with_room;
use crate::graph::query::adjacency::{reserve, step};
use crate::graph::types::U256;
use crate::graph::types::{Side, WalletId};
use crate::graph::view::filter::EdgeFilter;

/// A wallet's first funds.
#[derive(Debug, Clone, Copy)]
struct First {
    funder: WalletId,
    time: i64,
    wallet: WalletId,
}

/// The evidence of all rows. O(wallets log wallets) and the transfers of funders, with some 60 bytes a wallet.
pub(super) fn evidence<W: Interrupt>(
    asked: &Asked<'_, '_>,
    options: &FundingOptions,
    memory: &mut MemoryBudget,
    pace: &mut Pace<'_, W>,
) -> Result<(Vec<Merge>, Option<Halt>), SearchError> {
    let mut peers = Peers::new(asked, options.max_peers, memory)?;
    let (mut first, mut found) = (Vec::new(), Vec::new());
    let read = read_first(asked, &peers, &mut first, memory, pace);
    let mut halted = Stop::halt(read)?;
    reserve(memory, size_of::<First>() * first.len(), first.len())?;
    sort_with_room(&mut first, pace.interrupt(), |a, b| {
        (a.funder, a.time)
            .cmp(&(b.funder, b.time))
            .then_with(|| asked.graph.order(a.wallet).cmp(&asked.graph.order(b.wallet)))
    });
    if halted.is_none() {
        let mut rows = Rows { asked, options, peers: &mut peers, found: &mut found, receivers: HashSet::new() };
        let mut looked = Ok(());
        for funded in first.chunk_by(|a, b| a.funder == b.funder) {
            looked = rows.look_at(funded, memory, pace);
            if looked.is_err() {
                break;
            }
        }
        halted = Stop::halt(looked)?;
    }
    Ok((found, halted))
}

/// What ends the look at a wallet's receipts.
enum Ended {
    Found(WalletId, i64),
    Stop(Stop),
}

impl<E: Into<Stop>> From<E> for Ended {
    fn from(stop: E) -> Self {
        Self::Stop(stop.into())
    }
}

fn read_first<W: Interrupt>(
    asked: &Asked<'_, '_>,
    peers: &Peers,
    first: &mut Vec<First>,
    memory: &mut MemoryBudget,
    pace: &mut Pace<'_, W>,
) -> Result<(), Stop> {
    let graph = asked.graph;
    let filter = EdgeFilter { since: None, ..asked.filter };
    for wallet in graph.wallet_ids().filter(|wallet| graph.is_of(*wallet, asked.network)) {
        step(pace)?;
        if peers.is_service(wallet) {
            continue;
        }
        let looked = graph.counted_transfers(wallet, Side::In, &filter, |transfer| -> Result<(), Ended> {
            step(pace)?;
            match transfer.peer.filter(|peer| *peer != wallet && transfer.value > U256::ZERO) {
                Some(peer) => Err(Ended::Found(peer, transfer.time)),
                None => Ok(()),
            }
        });
        let (funder, time) = match looked {
            Ok(()) => continue,
            Err(Ended::Found(funder, time)) => (funder, time),
            Err(Ended::Stop(stop)) => return Err(stop),
        };
        if asked.filter.since.is_some_and(|since| time < since) || peers.is_service(funder) {
            continue;
        }
        if first.len() == first.capacity() {
            reserve(memory, size_of::<First>() * first.len().max(4), first.len())?;
        }
        first.push(First { funder, time, wallet });
    }
    Ok(())
}

struct Rows<'a, 'q, 'g> {
    asked: &'a Asked<'q, 'g>,
    options: &'a FundingOptions,
    peers: &'a mut Peers,
    found: &'a mut Vec<Merge>,
    /// Receivers of a funder, to be counted.
    receivers: HashSet<WalletId>,
}

impl Rows<'_, '_, '_> {
    /// The rows of one funder.
    fn look_at<W: Interrupt>(
        &mut self,
        funded: &[First],
        memory: &mut MemoryBudget,
        pace: &mut Pace<'_, W>,
    ) -> Result<(), Stop> {
        step(pace)?;
        let Some(funder) = funded.first().map(|one| one.funder) else { return Ok(()) };
        let (least, most) = (self.options.min_wallets, self.options.max_wallets);
        if funded.len() < least || funded.len() > most || self.peers.is_hub(self.asked, funder, pace)? {
            return Ok(());
        }
        let mut ours = Vec::with_capacity(funded.len());
        for one in funded {
            if !self.peers.is_hub(self.asked, one.wallet, pace)? {
                ours.push(*one);
            }
        }
        let receivers = self.count_receivers(funder, pace)?;
        let window = self.options.window;
        for row in ours.chunk_by(|a, b| b.time.saturating_sub(a.time) <= window).filter(|row| row.len() >= least) {
            let share = row.len() as f64 / receivers as f64;
            for pair in row.windows(2) {
                let [one, next] = pair else { continue };
                let gap = next.time.saturating_sub(one.time) as f64;
                if self.found.len() == self.found.capacity() {
                    reserve(memory, size_of::<Merge>() * self.found.len().max(4), self.found.len())?;
                }
                self.found.push(Merge {
                    wallet: one.wallet,
                    merged_with: next.wallet,
                    via: funder,
                    service: None,
                    first: one.time,
                    last: next.time,
                    confidence: share * (1.0 - gap / (2.0 * window as f64)),
                    verdict: Verdict::Accepted { joined: false },
                });
            }
        }
        Ok(())
    }

    /// How many other wallets a funder, who is no hub, ever sent to: few.
    fn count_receivers<W: Interrupt>(&mut self, funder: WalletId, pace: &mut Pace<'_, W>) -> Result<usize, Stop> {
        let receivers = &mut self.receivers;
        receivers.clear();
        let filter = EdgeFilter { since: None, ..self.asked.filter };
        self.asked.graph.receivers(funder, &filter, |peer| -> Result<(), Stop> {
            if let Some(peer) = peer.filter(|peer| *peer != funder) {
                receivers.insert(peer);
            }
            step(pace)
        })?;
        Ok(receivers.len().max(1))
    }
}
