//! The flow of shares along transfers, in the order of time.

use std::collections::{BTreeMap, HashMap};

use super::region::{Reached, Region, Standing, TRANSFERS_PER_CHECK, search};
use super::shares::{ASKED, NOWHERE, Share, ShareKey, Shares};
use super::{Direct, Exposed, Exposure, ExposureTerms, Exposures, Marks, Part};
use crate::graph::SearchError;
use crate::graph::budget::MemoryBudget;
use crate::graph::budget::Pace;
use crate::graph::budget::{Halt, Interrupt};
use crate::graph::file::sorting::sort_with_room;
use crate::graph::query::trace::Flow;
use crate::graph::types::U256;
use crate::graph::types::{Side, WalletId};
use crate::graph::view::filter::EdgeFilter;
use crate::graph::view::graph::Graph;
use crate::graph::view::transfers::Transfer;

/// A transfer of the region.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Passing {
    time: i64,
    number: u64,
    amount: U256,
    /// Share of the sender's balance that leaves.
    leaves: f64,
    /// Indexes in the region, or none.
    from: u32,
    to: u32,
}

/// A step of a path.
#[derive(Debug, Clone, Copy)]
struct PathNode {
    number: u64,
    /// Next node towards the labelled wallet.
    next: u32,
}

/// Computes the exposure of wallets to labels. O(n log n) in the transfers of all wallets of the
/// region, and for each transfer the number of its sender's shares.
///
/// # Errors
/// [`SearchError::Memory`], [`SearchError::ValueOverflow`], [`SearchError::Damaged`], and the
/// errors of `marks`.
pub fn exposures<M: Marks, W: Interrupt>(
    graph: &Graph<'_>,
    asked: &[WalletId],
    terms: &ExposureTerms,
    marks: &mut M,
    interrupt: &mut W,
) -> Result<Exposures, M::Error> {
    let mut memory = terms.memory;
    let mut pace = Pace::new(interrupt);
    let mut found = Vec::with_capacity(asked.len());
    for wallet in asked {
        let Some(exposed) = direct(graph, *wallet, terms, marks, &mut pace)? else {
            let total = |wallet: &WalletId| Exposed::unexamined(*wallet);
            found.extend(asked.iter().skip(found.len()).map(total));
            return Ok(Exposures { found, halted: Some(Halt::Time) });
        };
        found.push(exposed);
    }
    if terms.max_hops == 0 {
        return Ok(Exposures { found, halted: None });
    }
    // A wallet may be requested twice.
    let mut distinct = asked.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let Some(region) = search(graph, &distinct, terms, marks, &mut memory, &mut pace)? else {
        return Ok(Exposures { found, halted: Some(Halt::Time) });
    };
    let Some(passing) = collect(graph, &region, terms, &mut memory, &mut pace)? else {
        return Ok(Exposures { found, halted: Some(Halt::Time) });
    };
    let mut mixing = Mixing {
        terms,
        kept: region.wallets.iter().map(|_| Shares::default()).collect(),
        region: &region,
        sums: distinct.iter().map(|_| HashMap::new()).collect(),
        nodes: Vec::new(),
        moved: Vec::new(),
        room: Vec::new(),
        left: memory.left(),
    };
    let bytes = size_of::<Shares>() + size_of::<HashMap<ShareKey, Share>>() + size_of::<U256>();
    if !memory.take(region.wallets.len() * bytes) {
        return Err(mixing.out_of_memory().into());
    }
    mixing.left = memory.left();
    let halted = mixing.run(passing, &mut pace)?;
    if halted.is_none() {
        for exposed in &mut found {
            if let Some(index) = region.places.get(exposed.wallet) {
                exposed.parts = mixing.parts(index as usize);
            }
        }
    }
    Ok(Exposures { found, halted })
}

/// Sums the transfers of a wallet. Returns `None` if the time limit was reached.
fn direct<M: Marks, W: Interrupt>(
    graph: &Graph<'_>,
    wallet: WalletId,
    terms: &ExposureTerms,
    marks: &mut M,
    pace: &mut Pace<'_, W>,
) -> Result<Option<Exposed>, M::Error> {
    let filter = EdgeFilter { since: terms.since, ..EdgeFilter::history(terms.assets, terms.until) };
    let (mut total, mut by_peer) = (Direct::default(), BTreeMap::<WalletId, Direct>::new());
    graph.counted_transfers(wallet, terms.flow.side(), &filter, |transfer| -> Result<(), SearchError> {
        pace.step(0);
        if transfer.peer == Some(wallet) || transfer.value == U256::ZERO {
            return Ok(());
        }
        let add = |sum: &mut Direct| -> Result<(), SearchError> {
            sum.value = sum.value.checked_add(transfer.value).ok_or(SearchError::ValueOverflow)?;
            sum.transfers += 1;
            Ok(())
        };
        add(&mut total)?;
        transfer.peer.map_or(Ok(()), |peer| add(by_peer.entry(peer).or_default()))
    })?;
    let peers: Vec<WalletId> = by_peer.keys().copied().collect();
    for batch in peers.chunks(TRANSFERS_PER_CHECK) {
        marks.prepare(graph, batch)?;
        // A wallet with few counterparties is always completed.
        if peers.len() > TRANSFERS_PER_CHECK && pace.interrupt().should_stop() {
            return Ok(None);
        }
    }
    let mut direct = BTreeMap::<Part, Direct>::new();
    for (peer, sum) in by_peer {
        if let Some(mark) = marks.mark(peer) {
            let part = if terms.explained { Part::Wallet(peer) } else { Part::Mark(mark) };
            let total = direct.entry(part).or_default();
            total.value = total.value.checked_add(sum.value).ok_or(SearchError::ValueOverflow)?;
            total.transfers += sum.transfers;
        }
    }
    Ok(Some(Exposed { wallet, total, direct: direct.into_iter().collect(), parts: Vec::new() }))
}

/// Collects all transfers of the wallets whose balances are tracked, in the order of time. Returns
/// `None` if the time limit was reached.
fn collect<W: Interrupt>(
    graph: &Graph<'_>,
    region: &Region,
    terms: &ExposureTerms,
    memory: &mut MemoryBudget,
    pace: &mut Pace<'_, W>,
) -> Result<Option<Vec<Passing>>, SearchError> {
    let kept = || region.wallets.iter().filter(|reached| reached.kept).map(|reached| reached.wallet);
    let count = |wallet| graph.transfer_count(wallet, Side::Out) + graph.transfer_count(wallet, Side::In);
    let filter = EdgeFilter::history(terms.assets, terms.until);
    let (budget, wallets, depth) = (memory.limit(), region.wallets.len(), terms.max_hops);
    // The list and its sorted copy; indexes are 32 bits wide.
    let most = (memory.left() / (2 * size_of::<Passing>() + 2 * size_of::<(i64, u32)>())).min(u32::MAX as usize);
    let mut passing: Vec<Passing> = Vec::new();
    passing.reserve_exact(kept().map(count).sum::<usize>().min(most));
    let mut examined = 0_usize;
    for (index, reached) in (0_u32..).zip(&region.wallets).filter(|(_, reached)| reached.kept) {
        for side in [Side::Out, Side::In] {
            let wanted = |peer: Option<WalletId>| {
                examined += 1;
                if examined.is_multiple_of(TRANSFERS_PER_CHECK) {
                    pace.interrupt().should_stop();
                }
                // A transfer between two tracked wallets is collected at the sender.
                side == Side::Out || !peer.is_some_and(|peer| region.keeps(peer))
            };
            let each = |transfer: Transfer| -> Result<(), SearchError> {
                if transfer.value == U256::ZERO {
                    return Ok(());
                }
                if passing.len() >= most {
                    return Err(SearchError::Memory { budget, depth, wallets });
                }
                let other = transfer.peer.and_then(|peer| region.places.get(peer)).unwrap_or(NOWHERE);
                let (from, to) = if side == Side::Out { (index, other) } else { (other, index) };
                let (time, number, amount) = (transfer.time, transfer.number, transfer.value);
                passing.push(Passing { time, number, amount, leaves: 0.0, from, to });
                Ok(())
            };
            graph.counted_transfers_with(reached.wallet, side, &filter, wanted, each)?;
            if let Some(Halt::Time) = pace.step(graph.transfer_count(reached.wallet, side)) {
                return Ok(None);
            }
        }
    }
    let mut passing = by_time(&passing, pace);
    memory.take(passing.len() * size_of::<Passing>());
    order_ties(graph, region, &mut passing, pace)?;
    Ok(Some(passing))
}

/// Sorts transfers by time, and by index where that is the same. Only short keys are moved.
fn by_time<W: Interrupt>(passing: &[Passing], pace: &mut Pace<'_, W>) -> Vec<Passing> {
    let mut places: Vec<(i64, u32)> = Vec::new();
    places.reserve_exact(passing.len());
    for (index, transfer) in (0_u32..).zip(passing) {
        pace.step(0);
        places.push((transfer.time, index));
    }
    sort_with_room(&mut places, pace.interrupt(), Ord::cmp);
    let mut ordered = Vec::new();
    ordered.reserve_exact(passing.len());
    for (_, index) in places {
        pace.step(0);
        ordered.extend(passing.get(index as usize));
    }
    ordered
}

/// Maximum number of simultaneous transfers for which it pays to check whether their order matters.
const MAX_CHECKED_TIES: usize = 16;

/// Sorts transfers of the same time by block and log, then by address, independently of the
/// requested wallets.
fn order_ties<W: Interrupt>(
    graph: &Graph<'_>,
    region: &Region,
    passing: &mut [Passing],
    pace: &mut Pace<'_, W>,
) -> Result<(), SearchError> {
    for tied in passing.chunk_by_mut(|previous, next| previous.time == next.time) {
        if tied.len() == 1 || (tied.len() <= MAX_CHECKED_TIES && !share_a_wallet(region, tied)) {
            continue;
        }
        let mut keyed = Vec::new();
        for entry in tied.iter() {
            pace.step(1);
            let transfer = graph.transfer(entry.number)?;
            let from = match region.wallets.get(entry.from as usize) {
                Some(reached) => Some(reached.wallet),
                None => graph.sender(entry.number)?,
            };
            let from = from.map(|from| graph.order(from));
            let to = transfer.peer.map_or(u64::MAX, |peer| graph.order(peer));
            keyed.push(((transfer.position, from, to, transfer.value, entry.number), *entry));
        }
        sort_with_room(&mut keyed, pace.interrupt(), |left, right| left.0.cmp(&right.0));
        for (slot, (_, sorted)) in tied.iter_mut().zip(keyed) {
            *slot = sorted;
        }
    }
    Ok(())
}

/// Reports whether a tracked wallet has several of the transfers; otherwise their order does not
/// matter.
fn share_a_wallet(region: &Region, tied: &[Passing]) -> bool {
    let kept = |index: u32| region.wallets.get(index as usize).is_some_and(|reached| reached.kept);
    let both = |left: &Passing, right: &Passing| {
        [left.from, left.to].into_iter().any(|wallet| (wallet == right.from || wallet == right.to) && kept(wallet))
    };
    tied.iter().enumerate().any(|(number, left)| tied.iter().skip(number + 1).any(|right| both(left, right)))
}

/// Balances and their composition.
struct Mixing<'r> {
    terms: &'r ExposureTerms,
    region: &'r Region,
    /// Composition of the balance of each wallet of the region; empty for wallets that are not
    /// tracked.
    kept: Vec<Shares>,
    /// Amounts, not shares, of the requested wallets.
    sums: Vec<HashMap<ShareKey, Share>>,
    nodes: Vec<PathNode>,
    /// Composition of the current transfer.
    moved: Vec<Share>,
    room: Vec<Share>,
    left: usize,
}

impl Mixing<'_> {
    fn out_of_memory(&self) -> SearchError {
        let (budget, wallets) = (self.terms.memory.limit(), self.region.wallets.len());
        SearchError::Memory { budget, depth: self.terms.max_hops, wallets }
    }

    fn run<W: Interrupt>(
        &mut self,
        mut passing: Vec<Passing>,
        pace: &mut Pace<'_, W>,
    ) -> Result<Option<Halt>, SearchError> {
        // Exact, so that nothing is left when all funds have gone.
        let mut balances = vec![U256::ZERO; self.region.wallets.len()];
        let within = |time: i64| self.terms.since.is_none_or(|since| time >= since);
        let backward = self.terms.flow == Flow::Backward;
        for transfer in &mut passing {
            if let Some(Halt::Time) = pace.step(0) {
                return Ok(Some(Halt::Time));
            }
            let (from, to) = (transfer.from as usize, transfer.to as usize);
            if from == to {
                // Moves nothing, but shows that the wallet had the funds.
                self.raise_balance(from, transfer.amount, &mut balances);
                continue;
            }
            let counts = within(transfer.time);
            let mut held = 1.0;
            if let Some(balance) = balances.get_mut(from) {
                held = ratio(*balance, transfer.amount);
                transfer.leaves = ratio(transfer.amount, *balance);
                *balance = balance.saturating_sub(transfer.amount);
            }
            let mut mixed = 1.0;
            if let Some(balance) = balances.get_mut(to) {
                // Beyond 256 bits, a balance stays at the maximum.
                *balance = balance.saturating_add(transfer.amount);
                mixed = ratio(transfer.amount, *balance);
            }
            if backward {
                let processed = self.pass(transfer, transfer.from, transfer.to, held, mixed, counts)?;
                if let Some(Halt::Time) = pace.step(processed) {
                    return Ok(Some(Halt::Time));
                }
            }
        }
        if !backward {
            for transfer in passing.iter().rev().filter(|transfer| transfer.from != transfer.to) {
                let processed =
                    self.pass(transfer, transfer.to, transfer.from, 1.0, transfer.leaves, within(transfer.time))?;
                if let Some(Halt::Time) = pace.step(processed) {
                    return Ok(Some(Halt::Time));
                }
            }
        }
        Ok(None)
    }

    /// Raises a balance to at least `amount`; the difference is of unknown source.
    fn raise_balance(&mut self, index: usize, amount: U256, balances: &mut [U256]) {
        if let (Some(balance), Some(kept)) = (balances.get_mut(index), self.kept.get_mut(index))
            && *balance < amount
        {
            if self.terms.flow == Flow::Backward {
                kept.keep(ratio(*balance, amount));
            }
            *balance = amount;
        }
    }

    /// Moves shares from one wallet to another: `part` of the shares there becomes the fraction
    /// `mixed` of the balance here. Returns the number of shares processed.
    fn pass(
        &mut self,
        transfer: &Passing,
        from: u32,
        to: u32,
        part: f64,
        mixed: f64,
        counts: bool,
    ) -> Result<usize, SearchError> {
        let Some(here) = self.region.wallets.get(to as usize).copied().filter(|here| here.kept) else { return Ok(0) };
        self.compose(transfer, from, part, &here)?;
        let mut processed = self.moved.len();
        let mut grown = 0;
        if counts && let Some(sum) = self.sums.get_mut(to as usize) {
            let (before, amount) = (sum.len(), transfer.amount.as_f64());
            for share in &self.moved {
                let whole = sum.entry(share.key).or_insert(Share { share: 0.0, most: -1.0, ..*share });
                whole.share += share.share * amount;
                if share.most > whole.most {
                    (whole.most, whole.path) = (share.most, share.path);
                }
            }
            grown += sum.len() - before;
        }
        // The rest is computed again at every further step.
        if self.moved.last().is_some_and(|last| last.key == ShareKey::REST) {
            self.moved.pop();
        }
        // The composition of labelled wallets and hubs is not needed.
        if here.standing == Standing::Open
            && let Some(kept) = self.kept.get_mut(to as usize)
        {
            kept.keep(1.0 - mixed);
            if !self.moved.is_empty() {
                kept.add(&self.moved, mixed, &mut self.room);
                processed += kept.len();
            }
            grown += kept.grown();
        }
        // A list that grows is copied into one of twice the size.
        let bytes = 2 * grown * size_of::<(ShareKey, Share)>();
        self.left = self.left.checked_sub(bytes).ok_or_else(|| self.out_of_memory())?;
        Ok(processed)
    }

    /// Determines the composition of a transfer for the wallet `here`.
    fn compose(&mut self, transfer: &Passing, from: u32, part: f64, here: &Reached) -> Result<(), SearchError> {
        let most = self.terms.max_hops - here.depth;
        let explained = self.terms.explained;
        self.moved.clear();
        let there = self.region.wallets.get(from as usize);
        let amount = transfer.amount.as_f64();
        let single = |key| Share { key, share: 1.0, most: amount, path: NOWHERE };
        match there.map_or(Standing::Edge, |there| there.standing) {
            Standing::Marked(number) if most > 0 => self.moved.push(single(ShareKey::of(number))),
            Standing::Open if most > 0 => {
                if let Some(shares) = self.kept.get(from as usize) {
                    let mut over = 0.0;
                    for share in shares.iter() {
                        let key = share.key.further(most);
                        let carried = share.share * part;
                        if key == ShareKey::OVER {
                            over += carried;
                        } else {
                            self.moved.push(Share { key, share: carried, most: carried * amount, path: share.path });
                        }
                    }
                    if explained && over > 0.0 {
                        self.moved.push(Share { share: over, ..single(ShareKey::OVER) });
                    }
                }
            }
            Standing::Hub if most > 0 => self.moved.push(single(ShareKey::hub())),
            _ if !explained => {}
            _ if there.is_some() => self.moved.push(single(ShareKey::OVER)),
            _ => self.moved.push(single(ShareKey::CONTRACT)),
        }
        if explained {
            let rest = 1.0 - self.moved.iter().map(|share| share.share).sum::<f64>();
            for share in &mut self.moved {
                self.nodes.push(PathNode { number: transfer.number, next: share.path });
                share.path = (self.nodes.len() - 1) as u32;
            }
            let bytes = 2 * self.moved.len() * size_of::<PathNode>();
            self.left = self.left.checked_sub(bytes).ok_or_else(|| self.out_of_memory())?;
            if rest > f64::EPSILON {
                self.moved.push(Share { share: rest, ..single(ShareKey::REST) });
            }
        }
        Ok(())
    }

    /// Returns the parts of a requested wallet, by label or wallet and hops.
    fn parts(&self, index: usize) -> Vec<Exposure> {
        let explained = self.terms.explained;
        let mut sums: Vec<Share> = self.sums.get(index).into_iter().flat_map(HashMap::values).copied().collect();
        sums.sort_unstable_by_key(|share| share.key);
        let wallet = self.region.wallets.get(index).map(|own| own.wallet);
        let part = |share: Share| {
            let (mut path, mut node) = (Vec::new(), share.path);
            while explained && let Some(step) = self.nodes.get(node as usize) {
                path.push(step.number);
                node = step.next;
            }
            if self.terms.flow == Flow::Backward {
                path.reverse();
            }
            let number = share.key.number();
            let part = match share.key.left_over() {
                Some(part) => part,
                None if explained && wallet == Some(WalletId::new(number)) => Part::Own,
                None if explained => Part::Wallet(WalletId::new(number)),
                None => match number.checked_sub(ASKED) {
                    Some(other) if other as usize == index => Part::Own,
                    Some(other) => {
                        let other = self.region.wallets.get(other as usize);
                        other.and_then(|other| other.mark).map_or(Part::Rest, Part::Mark)
                    }
                    None => Part::Mark(number),
                },
            };
            Exposure { part, hops: share.key.hops(), value: share.share, path }
        };
        sums.into_iter().map(part).collect()
    }
}

/// Returns the ratio of two amounts, at most 1.
fn ratio(part: U256, whole: U256) -> f64 {
    if part >= whole { 1.0 } else { part.as_f64() / whole.as_f64() }
}
