//! Evidence by deposit addresses: whoever pays into an address of a service that was given to one customer is that customer.
//!
//! A wallet is a deposit address if
//! - it is no service itself, and what it sent to services went to one service alone;
//! - of what it received, at least `forward_share` can be matched to what it forwarded there, not before it came in and not later
//!   than `max_delay` after, each coin once;
//! - what it sent elsewhere is no more than the rest: `1 - forward_share` of what it received;
//! - no more than `max_senders` wallets sent to it.
//!
//! Each sender that is neither a service nor a hub, and sent to no more than `max_deposits` deposit addresses, is merged with it.
//! Confidence: the share that was matched, times `(f + 1) / (f + 2)` for `f` transfers to the service, times
//! `1 - (n - 1) / max_senders` for `n` senders. A wallet whose sums exceed 256 bits proves nothing.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::options::{DepositOptions, ONE};
use super::{Asked, Merge, Verdict};
use crate::graph::budget::MemoryBudget;
use crate::graph::budget::{Halt, Interrupt};
use crate::graph::budget::{Pace, Stop};
use crate::graph::error::SearchError;
use crate::graph::query::adjacency::{reserve, step};
use crate::graph::types::U256;
use crate::graph::types::{Side, WalletId};

/// The evidence of all deposit addresses. O(transfers of services and of whoever sent to them), with seven bytes a wallet.
pub(super) fn evidence<W: Interrupt>(
    asked: &Asked<'_, '_>,
    options: &DepositOptions,
    memory: &mut MemoryBudget,
    pace: &mut Pace<'_, W>,
) -> Result<(Vec<Merge>, Option<Halt>), SearchError> {
    let mut found = Vec::new();
    let mut peers = Peers::new(asked, options.max_peers, memory)?;
    let looked = look_at_all(asked, options, &mut peers, &mut found, memory, pace);
    let halted = Stop::halt(looked)?;
    // the marks of peers are not needed any more
    let mut deposits = peers.seen;
    deposits.fill(0);
    for merge in &found {
        let _ = step(pace);
        if let Some(count) = deposits.get_mut(merge.wallet.index()) {
            *count += 1;
        }
    }
    found.retain(|merge| {
        let _ = step(pace);
        deposits.get(merge.wallet.index()).is_some_and(|count| *count as usize <= options.max_deposits)
    });
    Ok((found, halted))
}

fn look_at_all<W: Interrupt>(
    asked: &Asked<'_, '_>,
    options: &DepositOptions,
    peers: &mut Peers,
    found: &mut Vec<Merge>,
    memory: &mut MemoryBudget,
    pace: &mut Pace<'_, W>,
) -> Result<(), Stop> {
    let graph = asked.graph;
    let mut candidate = vec![false; graph.wallets() as usize];
    for service in asked.question.services.iter().filter(|service| graph.is_of(**service, asked.network)) {
        graph.counted_transfers(*service, Side::In, &asked.filter, |transfer| -> Result<(), Stop> {
            if let Some(mark) = transfer.peer.and_then(|peer| candidate.get_mut(peer.index())) {
                *mark = true;
            }
            step(pace)
        })?;
    }
    let marked = graph.wallet_ids().zip(&candidate).filter(|(_, marked)| **marked).map(|(wallet, _)| wallet);
    for wallet in marked.filter(|wallet| graph.is_of(*wallet, asked.network)) {
        step(pace)?;
        if peers.is_service(wallet) {
            continue;
        }
        let Some(forwarded) = Forwarded::read(asked, wallet, peers, memory, pace)? else { continue };
        let Some(deposits) = deposits(asked, options, wallet, &forwarded, pace)? else { continue };
        let forwards = forwarded.forwards.len() as f64;
        let own = deposits.share * (forwards + 1.0) / (forwards + 2.0);
        let crowd = (deposits.senders.len() - 1) as f64 / options.max_senders as f64;
        for (sender, (first, last)) in deposits.senders {
            if peers.is_service(sender) || peers.is_hub(asked, sender, pace)? {
                continue;
            }
            if found.len() == found.capacity() {
                reserve(memory, size_of::<Merge>() * found.len().max(4), found.len())?;
            }
            found.push(Merge {
                wallet: sender,
                merged_with: wallet,
                via: wallet,
                service: Some(forwarded.service),
                first,
                last,
                confidence: own * (1.0 - crowd),
                verdict: Verdict::Accepted { joined: false },
            });
        }
    }
    Ok(())
}

/// What a wallet sent.
struct Forwarded {
    service: WalletId,
    /// To the service, by time.
    forwards: Vec<(i64, U256)>,
    /// To everybody else.
    elsewhere: U256,
}

impl Forwarded {
    /// Nothing if it went to several services or none, or cannot be counted.
    fn read<W: Interrupt>(
        asked: &Asked<'_, '_>,
        wallet: WalletId,
        peers: &Peers,
        memory: &MemoryBudget,
        pace: &mut Pace<'_, W>,
    ) -> Result<Option<Self>, Stop> {
        let mut to: Option<WalletId> = None;
        let mut elsewhere = U256::ZERO;
        let mut forwards = Vec::new();
        // given back when the wallet is done
        let mut memory = *memory;
        let read = asked.graph.counted_transfers(wallet, Side::Out, &asked.filter, |transfer| -> Result<(), Ended> {
            step(pace)?;
            let Some(peer) = transfer.peer.filter(|peer| *peer != wallet && transfer.value > U256::ZERO) else {
                return Ok(());
            };
            if peers.is_service(peer) {
                if *to.get_or_insert(peer) != peer {
                    return Err(Ended::Nothing);
                }
                if forwards.len() == forwards.capacity() {
                    reserve(&mut memory, 2 * size_of::<(i64, U256)>() * forwards.len().max(4), 0)?;
                }
                forwards.push((transfer.time, transfer.value));
            } else {
                elsewhere = elsewhere.checked_add(transfer.value).ok_or(Ended::Nothing)?;
            }
            Ok(())
        });
        match read {
            Ok(()) => Ok(to.map(|service| Self { service, forwards, elsewhere })),
            Err(Ended::Nothing) => Ok(None),
            Err(Ended::Stop(stop)) => Err(stop),
        }
    }
}

/// What came in.
struct Deposits {
    /// By sender, when the first and the last.
    senders: HashMap<WalletId, (i64, i64)>,
    /// How much of it was forwarded in time.
    share: f64,
}

/// Nothing if the wallet is no deposit address.
fn deposits<W: Interrupt>(
    asked: &Asked<'_, '_>,
    options: &DepositOptions,
    wallet: WalletId,
    forwarded: &Forwarded,
    pace: &mut Pace<'_, W>,
) -> Result<Option<Deposits>, Stop> {
    let mut senders: HashMap<WalletId, (i64, i64)> = HashMap::new();
    let (mut received, mut matched) = (U256::ZERO, U256::ZERO);
    let mut next = 0;
    let mut left = forwarded.forwards.first().map_or(U256::ZERO, |(_, value)| *value);
    let read = asked.graph.counted_transfers(wallet, Side::In, &asked.filter, |transfer| -> Result<(), Ended> {
        step(pace)?;
        let Some(peer) = transfer.peer.filter(|peer| *peer != wallet && transfer.value > U256::ZERO) else {
            return Ok(());
        };
        let (_, last) = senders.entry(peer).or_insert((transfer.time, transfer.time));
        *last = transfer.time;
        if senders.len() > options.max_senders {
            return Err(Ended::Nothing);
        }
        received = received.checked_add(transfer.value).ok_or(Ended::Nothing)?;
        // Receipts come by time, and so do the forwards each may be matched to: the earliest that is left is the best for it, and
        // one that is too early for it is too early for all that come.
        let mut open = transfer.value;
        while let Some((time, _)) = forwarded.forwards.get(next) {
            step(pace)?;
            if *time >= transfer.time && left > U256::ZERO {
                if *time > transfer.time.saturating_add(options.max_delay) {
                    break;
                }
                let taken = open.min(left);
                // no more than was received
                matched += taken;
                open -= taken;
                left -= taken;
                if left > U256::ZERO {
                    break;
                }
            }
            next += 1;
            left = forwarded.forwards.get(next).map_or(U256::ZERO, |(_, value)| *value);
        }
        Ok(())
    });
    match read {
        Ok(()) => {}
        Err(Ended::Nothing) => return Ok(None),
        Err(Ended::Stop(stop)) => return Err(stop),
    }
    let kept = ONE - options.forward_share;
    let passes = !senders.is_empty()
        && is_share(matched, received, options.forward_share)
        && is_rest(forwarded.elsewhere, received, kept);
    Ok(passes.then(|| Deposits { senders, share: ratio(matched, received) }))
}

/// Whether a part is at least so many millionths of a whole.
fn is_share(part: U256, whole: U256, millionths: u64) -> bool {
    compare(part, ONE, whole, millionths) != Ordering::Less
}

/// Whether a part is at most so many millionths of a whole.
fn is_rest(part: U256, whole: U256, millionths: u64) -> bool {
    compare(part, ONE, whole, millionths) != Ordering::Greater
}

/// Compares two products. Beyond 2^236, the lowest 20 bits decide nothing.
fn compare(one: U256, by: u64, other: U256, times: u64) -> Ordering {
    match (one.checked_mul(U256::from(by)), other.checked_mul(U256::from(times))) {
        (Some(one), Some(other)) => one.cmp(&other),
        _ => {
            let product = |value: U256, by: u64| -> U256 { (value >> 20_u32) * U256::from(by) };
            product(one, by).cmp(&product(other, times))
        }
    }
}

/// For how sure one is, not for sums.
fn ratio(part: U256, whole: U256) -> f64 {
    if whole == U256::ZERO { 0.0 } else { part.as_f64() / whole.as_f64() }
}

/// What ends the look at a wallet.
enum Ended {
    /// It is no deposit address.
    Nothing,
    Stop(Stop),
}

impl<E: Into<Stop>> From<E> for Ended {
    fn from(stop: E) -> Self {
        Self::Stop(stop.into())
    }
}

/// Which wallets are services, and which are hubs: those that have more other wallets at the ends of their transfers, either way,
/// than evidence may have.
pub(super) struct Peers {
    is_service: Vec<bool>,
    /// 0: not looked at. 1: not a hub. 2: a hub.
    hubs: Vec<u8>,
    /// The wallet, plus one, for which a peer was counted last.
    seen: Vec<u32>,
    most: usize,
}

impl Peers {
    pub fn new(asked: &Asked<'_, '_>, most: usize, memory: &mut MemoryBudget) -> Result<Self, SearchError> {
        let wallets = asked.graph.wallets() as usize;
        reserve(memory, 7 * wallets, wallets)?;
        let mut is_service = vec![false; wallets];
        for service in asked.question.services {
            if let Some(mark) = is_service.get_mut(service.index()) {
                *mark = true;
            }
        }
        Ok(Self { is_service, hubs: vec![0; wallets], seen: vec![0; wallets], most })
    }

    pub fn is_service(&self, wallet: WalletId) -> bool {
        self.is_service.get(wallet.index()).copied().unwrap_or(false)
    }

    /// Counts as far as needed, and remembers.
    pub fn is_hub<W: Interrupt>(
        &mut self,
        asked: &Asked<'_, '_>,
        wallet: WalletId,
        pace: &mut Pace<'_, W>,
    ) -> Result<bool, Stop> {
        let graph = asked.graph;
        match self.hubs.get(wallet.index()) {
            Some(0) => {}
            known => return Ok(known == Some(&2)),
        }
        let (mut count, most) = (0, self.most);
        let mut is_hub = false;
        if graph.degree(wallet, Side::Out) + graph.degree(wallet, Side::In) > most {
            let own_mark = wallet.get() + 1;
            for side in [Side::Out, Side::In] {
                let seen = &mut self.seen;
                let counted = graph.counted_transfers(wallet, side, &asked.filter, |transfer| -> Result<(), Ended> {
                    step(pace)?;
                    let peer = transfer.peer.filter(|peer| *peer != wallet);
                    if let Some(mark) =
                        peer.and_then(|peer| seen.get_mut(peer.index())).filter(|mark| **mark != own_mark)
                    {
                        *mark = own_mark;
                        count += 1;
                        if count > most {
                            return Err(Ended::Nothing);
                        }
                    }
                    Ok(())
                });
                match counted {
                    Ok(()) => {}
                    Err(Ended::Nothing) => is_hub = true,
                    Err(Ended::Stop(stop)) => return Err(stop),
                }
            }
        }
        if let Some(known) = self.hubs.get_mut(wallet.index()) {
            *known = 1 + u8::from(is_hub);
        }
        Ok(is_hub)
    }
}
