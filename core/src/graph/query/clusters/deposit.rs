//! Evidence by deposit addresses: the senders to an address that a service assigned to one customer
//! are that customer.
//!
//! A wallet is a deposit address if
//! - it is not a service itself, and sent to exactly one service;
//! - at least `forward_share` of the received funds can be matched to funds forwarded to the
//!   service, not before they arrived and not later than `max_delay` after, each coin once;
//! - it sent at most the rest elsewhere: `1 - forward_share` of the received funds;
//! - at most `max_senders` wallets sent to it.
//!
//! Each sender that is neither a service nor a hub, and sent to at most `max_deposits` deposit
//! addresses, is merged with it. Confidence: the matched share, times `(f + 1) / (f + 2)` for `f`
//! transfers to the service, times `1 - (n - 1) / max_senders` for `n` senders. A wallet whose sums
//! exceed 256 bits is no evidence.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::options::{DepositOptions, ONE};
use super::{ClusterScope, MergeEvidence, Verdict};
use crate::graph::budget::MemoryBudget;
use crate::graph::budget::{Halt, Interrupt};
use crate::graph::budget::{Pace, Stop};
use crate::graph::error::SearchError;
use crate::graph::query::adjacency::{reserve, step};
use crate::graph::types::U256;
use crate::graph::types::{Side, WalletId};

/// Collects the evidence of all deposit addresses. O(transfers of services and of their senders),
/// with seven bytes a wallet.
pub(super) fn evidence<W: Interrupt>(
    scope: &ClusterScope<'_, '_>,
    options: &DepositOptions,
    memory: &mut MemoryBudget,
    pace: &mut Pace<'_, W>,
) -> Result<(Vec<MergeEvidence>, Option<Halt>), SearchError> {
    let mut merges = Vec::new();
    let mut peers = PeerIndex::new(scope, options.max_peers, memory)?;
    let scan = collect(scope, options, &mut peers, &mut merges, memory, pace);
    let halted = Stop::halt(scan)?;
    // The marks of peers are no longer needed.
    let mut deposits = peers.seen;
    deposits.fill(0);
    for merge in &merges {
        let _ = step(pace);
        if let Some(count) = deposits.get_mut(merge.wallet.index()) {
            *count += 1;
        }
    }
    merges.retain(|merge| {
        let _ = step(pace);
        deposits.get(merge.wallet.index()).is_some_and(|count| *count as usize <= options.max_deposits)
    });
    Ok((merges, halted))
}

fn collect<W: Interrupt>(
    scope: &ClusterScope<'_, '_>,
    options: &DepositOptions,
    peers: &mut PeerIndex,
    merges: &mut Vec<MergeEvidence>,
    memory: &mut MemoryBudget,
    pace: &mut Pace<'_, W>,
) -> Result<(), Stop> {
    let graph = scope.graph;
    let mut candidate = vec![false; graph.wallets() as usize];
    for service in scope.question.services.iter().filter(|service| graph.is_of(**service, scope.network)) {
        graph.counted_transfers(*service, Side::In, &scope.filter, |transfer| -> Result<(), Stop> {
            if let Some(mark) = transfer.peer.and_then(|peer| candidate.get_mut(peer.index())) {
                *mark = true;
            }
            step(pace)
        })?;
    }
    let marked = graph.wallet_ids().zip(&candidate).filter(|(_, marked)| **marked).map(|(wallet, _)| wallet);
    for wallet in marked.filter(|wallet| graph.is_of(*wallet, scope.network)) {
        step(pace)?;
        if peers.is_service(wallet) {
            continue;
        }
        let Some(forwarded) = Forwarded::read(scope, wallet, peers, memory, pace)? else { continue };
        let Some(deposits) = deposits(scope, options, wallet, &forwarded, pace)? else { continue };
        let forwards = forwarded.forwards.len() as f64;
        let certainty = deposits.share * (forwards + 1.0) / (forwards + 2.0);
        let crowd = (deposits.senders.len() - 1) as f64 / options.max_senders as f64;
        for (sender, (first, last)) in deposits.senders {
            if peers.is_service(sender) || peers.is_hub(scope, sender, pace)? {
                continue;
            }
            if merges.len() == merges.capacity() {
                reserve(memory, size_of::<MergeEvidence>() * merges.len().max(4), merges.len())?;
            }
            merges.push(MergeEvidence {
                wallet: sender,
                merged_with: wallet,
                via: wallet,
                service: Some(forwarded.service),
                first,
                last,
                confidence: certainty * (1.0 - crowd),
                verdict: Verdict::Accepted { joined: false },
            });
        }
    }
    Ok(())
}

/// Funds that a wallet sent.
struct Forwarded {
    service: WalletId,
    /// Transfers to the service, by time.
    forwards: Vec<(i64, U256)>,
    /// Sum of the other transfers.
    elsewhere: U256,
}

impl Forwarded {
    /// Reads the sent funds. Returns `None` if they went to several services or none, or their sum
    /// overflows.
    fn read<W: Interrupt>(
        scope: &ClusterScope<'_, '_>,
        wallet: WalletId,
        peers: &PeerIndex,
        memory: &MemoryBudget,
        pace: &mut Pace<'_, W>,
    ) -> Result<Option<Self>, Stop> {
        let mut to: Option<WalletId> = None;
        let mut elsewhere = U256::ZERO;
        let mut forwards = Vec::new();
        // Given back when the wallet is done.
        let mut memory = *memory;
        let read = scope.graph.counted_transfers(wallet, Side::Out, &scope.filter, |transfer| -> Result<(), ScanEnd> {
            step(pace)?;
            let Some(peer) = transfer.peer.filter(|peer| *peer != wallet && transfer.value > U256::ZERO) else {
                return Ok(());
            };
            if peers.is_service(peer) {
                if *to.get_or_insert(peer) != peer {
                    return Err(ScanEnd::Done);
                }
                if forwards.len() == forwards.capacity() {
                    reserve(&mut memory, 2 * size_of::<(i64, U256)>() * forwards.len().max(4), 0)?;
                }
                forwards.push((transfer.time, transfer.value));
            } else {
                elsewhere = elsewhere.checked_add(transfer.value).ok_or(ScanEnd::Done)?;
            }
            Ok(())
        });
        match read {
            Ok(()) => Ok(to.map(|service| Self { service, forwards, elsewhere })),
            Err(ScanEnd::Done) => Ok(None),
            Err(ScanEnd::Stop(stop)) => Err(stop),
        }
    }
}

/// Funds that a deposit address received.
struct Deposits {
    /// Times of the first and the last transfer, by sender.
    senders: HashMap<WalletId, (i64, i64)>,
    /// Share that was forwarded in time.
    share: f64,
}

/// Reads the received funds. Returns `None` if the wallet is not a deposit address.
fn deposits<W: Interrupt>(
    scope: &ClusterScope<'_, '_>,
    options: &DepositOptions,
    wallet: WalletId,
    forwarded: &Forwarded,
    pace: &mut Pace<'_, W>,
) -> Result<Option<Deposits>, Stop> {
    let mut senders: HashMap<WalletId, (i64, i64)> = HashMap::new();
    let (mut received, mut matched) = (U256::ZERO, U256::ZERO);
    let mut next = 0;
    let mut left = forwarded.forwards.first().map_or(U256::ZERO, |(_, value)| *value);
    let read = scope.graph.counted_transfers(wallet, Side::In, &scope.filter, |transfer| -> Result<(), ScanEnd> {
        step(pace)?;
        let Some(peer) = transfer.peer.filter(|peer| *peer != wallet && transfer.value > U256::ZERO) else {
            return Ok(());
        };
        let (_, last) = senders.entry(peer).or_insert((transfer.time, transfer.time));
        *last = transfer.time;
        if senders.len() > options.max_senders {
            return Err(ScanEnd::Done);
        }
        received = received.checked_add(transfer.value).ok_or(ScanEnd::Done)?;
        // Receipts and forwards are both in the order of time: the earliest remaining forward is
        // the best match for a receipt, and one that is too early for it is too early for all later
        // receipts.
        let mut open = transfer.value;
        while let Some((time, _)) = forwarded.forwards.get(next) {
            step(pace)?;
            if *time >= transfer.time && left > U256::ZERO {
                if *time > transfer.time.saturating_add(options.max_delay) {
                    break;
                }
                let taken = open.min(left);
                // At most the received sum.
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
        Err(ScanEnd::Done) => return Ok(None),
        Err(ScanEnd::Stop(stop)) => return Err(stop),
    }
    let kept = ONE - options.forward_share;
    let passes = !senders.is_empty()
        && is_share(matched, received, options.forward_share)
        && is_rest(forwarded.elsewhere, received, kept);
    Ok(passes.then(|| Deposits { senders, share: ratio(matched, received) }))
}

/// Reports whether a part is at least that many millionths of a whole.
fn is_share(part: U256, whole: U256, millionths: u64) -> bool {
    compare(part, ONE, whole, millionths) != Ordering::Less
}

/// Reports whether a part is at most that many millionths of a whole.
fn is_rest(part: U256, whole: U256, millionths: u64) -> bool {
    compare(part, ONE, whole, millionths) != Ordering::Greater
}

/// Compares two products. Beyond 2^236, the lowest 20 bits are ignored.
fn compare(left: U256, by: u64, right: U256, times: u64) -> Ordering {
    match (left.checked_mul(U256::from(by)), right.checked_mul(U256::from(times))) {
        (Some(left), Some(right)) => left.cmp(&right),
        _ => {
            let product = |value: U256, by: u64| -> U256 { (value >> 20_u32) * U256::from(by) };
            product(left, by).cmp(&product(right, times))
        }
    }
}

/// Returns a ratio for confidences, not for sums.
fn ratio(part: U256, whole: U256) -> f64 {
    if whole == U256::ZERO { 0.0 } else { part.as_f64() / whole.as_f64() }
}

/// End of a scan of a wallet's transfers.
enum ScanEnd {
    /// The result is known.
    Done,
    Stop(Stop),
}

impl<E: Into<Stop>> From<E> for ScanEnd {
    fn from(stop: E) -> Self {
        Self::Stop(stop.into())
    }
}

/// Services and hubs. Hubs are wallets with more peers, in either direction, than evidence may
/// have.
pub(super) struct PeerIndex {
    is_service: Vec<bool>,
    /// 0: unknown. 1: not a hub. 2: a hub.
    hubs: Vec<u8>,
    /// The wallet, plus one, for which a peer was last counted.
    seen: Vec<u32>,
    most: usize,
}

impl PeerIndex {
    pub(super) fn new(
        scope: &ClusterScope<'_, '_>,
        most: usize,
        memory: &mut MemoryBudget,
    ) -> Result<Self, SearchError> {
        let wallets = scope.graph.wallets() as usize;
        reserve(memory, 7 * wallets, wallets)?;
        let mut is_service = vec![false; wallets];
        for service in scope.question.services {
            if let Some(mark) = is_service.get_mut(service.index()) {
                *mark = true;
            }
        }
        Ok(Self { is_service, hubs: vec![0; wallets], seen: vec![0; wallets], most })
    }

    pub(super) fn is_service(&self, wallet: WalletId) -> bool {
        self.is_service.get(wallet.index()).copied().unwrap_or(false)
    }

    /// Counts peers as far as necessary, and caches the result.
    pub(super) fn is_hub<W: Interrupt>(
        &mut self,
        scope: &ClusterScope<'_, '_>,
        wallet: WalletId,
        pace: &mut Pace<'_, W>,
    ) -> Result<bool, Stop> {
        let graph = scope.graph;
        match self.hubs.get(wallet.index()) {
            Some(0) => {}
            state => return Ok(state == Some(&2)),
        }
        let (mut count, most) = (0, self.most);
        let mut is_hub = false;
        if graph.degree(wallet, Side::Out) + graph.degree(wallet, Side::In) > most {
            let own_mark = wallet.get() + 1;
            for side in [Side::Out, Side::In] {
                let seen = &mut self.seen;
                let counted = graph.counted_transfers(wallet, side, &scope.filter, |transfer| -> Result<(), ScanEnd> {
                    step(pace)?;
                    let peer = transfer.peer.filter(|peer| *peer != wallet);
                    if let Some(mark) =
                        peer.and_then(|peer| seen.get_mut(peer.index())).filter(|mark| **mark != own_mark)
                    {
                        *mark = own_mark;
                        count += 1;
                        if count > most {
                            return Err(ScanEnd::Done);
                        }
                    }
                    Ok(())
                });
                match counted {
                    Ok(()) => {}
                    Err(ScanEnd::Done) => is_hub = true,
                    Err(ScanEnd::Stop(stop)) => return Err(stop),
                }
            }
        }
        if let Some(state) = self.hubs.get_mut(wallet.index()) {
            *state = 1 + u8::from(is_hub);
        }
        Ok(is_hub)
    }
}
