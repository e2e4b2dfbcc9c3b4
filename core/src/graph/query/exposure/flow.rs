//! The flow of shares along transfers, in the order of time.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::explained::explain;
use super::region::{Reached, Region, Standing, TRANSFERS_PER_CHECK, search};
use super::shares::{ASKED, NOWHERE, Share, ShareKey, Shares};
use super::{Direct, Exposed, Exposure, ExposureTerms, Exposures, Marks, Part};
use crate::graph::SearchError;
use crate::graph::budget::MemoryBudget;
use crate::graph::budget::Pace;
use crate::graph::budget::{Halt, Interrupt};
use crate::graph::file::sorting::sort_with_room;
use crate::graph::query::ties::{Tie, TieRanks};
use crate::graph::query::trace::{End, Flow, Moment, Shortfall, single_asset};
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
        let Some((total, by_peer)) = direct(graph, *wallet, terms, marks, &mut pace)? else {
            let total = |wallet: &WalletId| Exposed::unexamined(*wallet);
            found.extend(asked.iter().skip(found.len()).map(total));
            return Ok(Exposures { found, halted: Some(Halt::Time) });
        };
        let direct = by_mark(by_peer, marks)?;
        found.push(Exposed { total, direct, ..Exposed::unexamined(*wallet) });
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
        origins: vec![Origins::default(); region.wallets.len()],
        lacking: vec![None; distinct.len()],
        moved: Vec::new(),
        room: Vec::new(),
        left: memory.left(),
    };
    let bytes = size_of::<Shares>() + size_of::<HashMap<ShareKey, f64>>() + size_of::<U256>() + size_of::<Origins>();
    if !memory.take(region.wallets.len() * bytes) {
        return Err(mixing.out_of_memory().into());
    }
    mixing.left = memory.left();
    let halted = mixing.run(passing, &mut pace)?;
    if halted.is_some() {
        return Ok(Exposures { found, halted });
    }
    for exposed in &mut found {
        let Some(index) = region.places.get(exposed.wallet) else { continue };
        if region.wallets.get(index as usize).is_some_and(|own| own.kept) {
            exposed.own_shortfall = mixing.lacking.get(index as usize).copied();
        }
        exposed.passes_shortfall = mixing.origins.get(index as usize).is_some_and(|origins| origins.passes_shortfall);
        exposed.parts = if mixing.may_include_own_funds(index as usize, graph, &mut pace)? {
            // Shares do not record which wallets funds passed through.
            let explained = explain(graph, exposed.wallet, terms, marks, pace.interrupt())?;
            match explained.cuts.iter().find(|(end, _)| matches!(end, End::Time | End::Memory)) {
                Some((End::Time, _)) => return Ok(Exposures { found, halted: Some(Halt::Time) }),
                Some(_) => return Err(mixing.out_of_memory().into()),
                None => explained.by_mark(|wallet| marks.mark(wallet)),
            }
        } else {
            mixing.parts(index as usize, exposed.total.value)
        };
    }
    Ok(Exposures { found, halted: None })
}

/// Sums the transfers of a wallet, in total and by counterparty, whose labels are then announced.
/// Returns `None` if the time limit was reached.
#[allow(clippy::type_complexity)]
pub(super) fn direct<M: Marks, W: Interrupt>(
    graph: &Graph<'_>,
    wallet: WalletId,
    terms: &ExposureTerms,
    marks: &mut M,
    pace: &mut Pace<'_, W>,
) -> Result<Option<(Direct, BTreeMap<WalletId, Direct>)>, M::Error> {
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
    Ok(Some((total, by_peer)))
}

/// Sums the transfers with labelled counterparties by label.
fn by_mark<M: Marks>(by_peer: BTreeMap<WalletId, Direct>, marks: &M) -> Result<Vec<(Part, Direct)>, SearchError> {
    let mut direct = BTreeMap::<Part, Direct>::new();
    for (peer, sum) in by_peer {
        if let Some(mark) = marks.mark(peer) {
            let total = direct.entry(Part::Mark(mark)).or_default();
            total.value = total.value.checked_add(sum.value).ok_or(SearchError::ValueOverflow)?;
            total.transfers += sum.transfers;
        }
    }
    Ok(direct.into_iter().collect())
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

/// Sorts transfers of the same time as a trace does, independently of the requested wallets.
fn order_ties<W: Interrupt>(
    graph: &Graph<'_>,
    region: &Region,
    passing: &mut [Passing],
    pace: &mut Pace<'_, W>,
) -> Result<(), SearchError> {
    let mut ranks = TieRanks::default();
    for simultaneous in passing.chunk_by_mut(|previous, next| previous.time == next.time) {
        if simultaneous.len() == 1 || (simultaneous.len() <= MAX_CHECKED_TIES && !share_a_wallet(region, simultaneous))
        {
            continue;
        }
        let mut keyed = Vec::new();
        for entry in simultaneous.iter() {
            pace.step(1);
            let transfer = graph.transfer(entry.number)?;
            let from = match region.wallets.get(entry.from as usize) {
                Some(reached) => Some(reached.wallet),
                None => graph.sender(entry.number)?,
            };
            keyed.push(Simultaneous { moment: Moment::of(graph, from, &transfer), from, entry: *entry });
        }
        sort_with_room(&mut keyed, pace.interrupt(), |left, right| left.moment.cmp(&right.moment));
        for tied in keyed.chunk_by_mut(|left, right| left.moment.is_tied(&right.moment)) {
            rank(graph, region, tied, &mut ranks, pace)?;
        }
        for (slot, sorted) in simultaneous.iter_mut().zip(keyed) {
            *slot = sorted.entry;
        }
    }
    Ok(())
}

/// One of several transfers of the same time.
#[derive(Debug, Clone, Copy)]
struct Simultaneous {
    moment: Moment,
    from: Option<WalletId>,
    entry: Passing,
}

/// Orders the transfers of a tie by the ranks of their senders, if a tracked wallet received and
/// sent in it.
fn rank<W: Interrupt>(
    graph: &Graph<'_>,
    region: &Region,
    tied: &mut [Simultaneous],
    ranks: &mut TieRanks,
    pace: &mut Pace<'_, W>,
) -> Result<(), SearchError> {
    let others = || tied.iter().filter(|one| one.entry.from != one.entry.to);
    let received: HashSet<u32> = others().map(|one| one.entry.to).collect();
    let kept = |place: &u32| region.wallets.get(*place as usize).is_some_and(|reached| reached.kept);
    let both: HashSet<u32> =
        tied.iter().map(|one| one.entry.from).filter(|from| received.contains(from) && kept(from)).collect();
    if tied.len() == 1 || both.is_empty() {
        return Ok(());
    }
    for one in tied.iter_mut() {
        if let Some(from) = one.from.filter(|_| both.contains(&one.entry.from) || both.contains(&one.entry.to)) {
            let tie = Tie::new(graph.transfer(one.entry.number)?.asset, one.moment.time, one.moment.position);
            one.moment.rank = ranks.rank(graph, from, tie, pace)?;
        }
    }
    sort_with_room(tied, pace.interrupt(), |left, right| left.moment.cmp(&right.moment));
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

/// Funds that may have reached a wallet, in bits: bit `h` stands for labels `h` transfers away.
#[derive(Debug, Clone, Copy, Default)]
struct Origins {
    labels: u32,
    /// The labels whose funds passed through a wallet with a shortfall.
    lacking: u32,
    /// The wallet sent more than it is known to have received.
    lacks: bool,
    /// Funds of the wallet's own transfers within the window passed through one with a shortfall.
    passes_shortfall: bool,
}

/// Balances and their composition.
struct Mixing<'r> {
    terms: &'r ExposureTerms,
    region: &'r Region,
    /// Composition of the balance of each wallet of the region; empty for wallets that are not
    /// tracked.
    kept: Vec<Shares>,
    /// Amounts, not shares, of the requested wallets.
    sums: Vec<HashMap<ShareKey, f64>>,
    /// Funds that may have reached each wallet of the region.
    origins: Vec<Origins>,
    /// Shortfalls of the requested wallets, if they are tracked.
    lacking: Vec<Option<Shortfall>>,
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
                self.raise_balance(from, transfer, within(transfer.time), &mut balances);
                continue;
            }
            let counts = within(transfer.time);
            let mut held = 1.0;
            if let Some(balance) = balances.get_mut(from) {
                if *balance < transfer.amount {
                    self.note_lacking(from, transfer.amount - *balance, transfer.time, counts);
                }
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

    /// Raises a balance to at least the amount of a transfer to oneself; the difference is of
    /// unknown source.
    fn raise_balance(&mut self, index: usize, transfer: &Passing, counts: bool, balances: &mut [U256]) {
        let amount = transfer.amount;
        let Some(balance) = balances.get_mut(index).filter(|balance| **balance < amount) else { return };
        let before = std::mem::replace(balance, amount);
        if let Some(kept) = self.kept.get_mut(index).filter(|_| self.terms.flow == Flow::Backward) {
            kept.keep(ratio(before, amount));
        }
        self.note_lacking(index, amount - before, transfer.time, counts);
    }

    /// Notes that a wallet lacked funds for a transfer.
    fn note_lacking(&mut self, index: usize, amount: U256, time: i64, counts: bool) {
        if let Some(origins) = self.origins.get_mut(index) {
            origins.lacks = true;
        }
        let Some((sum, own)) = self.lacking.get_mut(index).zip(self.region.wallets.get(index)) else { return };
        if counts {
            let asset = single_asset(self.terms.assets);
            let none = Shortfall {
                wallet: own.wallet,
                asset,
                amount: U256::ZERO,
                hop: 0,
                transfers: 0,
                first: time,
                last: time,
            };
            let sum = sum.get_or_insert(none);
            sum.amount = sum.amount.saturating_add(amount);
            sum.transfers += 1;
            sum.last = time;
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
        self.note_origins(from, to, counts);
        self.compose(from, part, &here);
        let mut processed = self.moved.len();
        let mut grown = 0;
        if counts && let Some(sum) = self.sums.get_mut(to as usize) {
            let (before, amount) = (sum.len(), transfer.amount.as_f64());
            for share in &self.moved {
                *sum.entry(share.key).or_default() += share.share * amount;
            }
            grown += sum.len() - before;
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

    /// Notes that funds of labels may have passed through a wallet with a shortfall. Nothing leaves
    /// again, so this is an upper bound.
    fn note_origins(&mut self, from: u32, to: u32, counts: bool) {
        let Some(there) = self.region.wallets.get(from as usize) else { return };
        let (labels, lacking) = match there.standing {
            Standing::Marked(_) => (1, 0),
            Standing::Open => {
                let origins = self.origins.get(from as usize).copied().unwrap_or_default();
                (origins.labels, origins.lacking | if origins.lacks { origins.labels } else { 0 })
            }
            Standing::Hub | Standing::Edge => return,
        };
        let within_hops = (2_u32 << self.terms.max_hops) - 1;
        if let Some(here) = self.origins.get_mut(to as usize) {
            here.labels |= (labels << 1) & within_hops;
            let lacking = (lacking << 1) & within_hops;
            here.lacking |= lacking;
            here.passes_shortfall |= counts && lacking > 0;
        }
    }

    /// Determines the composition of a transfer for the wallet `here`.
    fn compose(&mut self, from: u32, part: f64, here: &Reached) {
        let most = self.terms.max_hops - here.depth;
        self.moved.clear();
        let single = |key| Share { key, share: 1.0 };
        let Some(there) = self.region.wallets.get(from as usize).filter(|_| most > 0) else { return };
        match there.standing {
            Standing::Marked(number) => self.moved.push(single(ShareKey::of(number))),
            Standing::Hub => self.moved.push(single(ShareKey::hub())),
            Standing::Open if there.kept => {
                for share in self.kept.get(from as usize).into_iter().flat_map(Shares::iter) {
                    if let Some(key) = share.key.further(most) {
                        self.moved.push(Share { key, share: share.share * part });
                    }
                }
            }
            Standing::Open | Standing::Edge => {}
        }
    }

    /// Reports whether the parts of a requested wallet may include funds that passed through the
    /// wallet itself before, which are its own and not those of a label.
    fn may_include_own_funds<W: Interrupt>(
        &self,
        index: usize,
        graph: &Graph<'_>,
        pace: &mut Pace<'_, W>,
    ) -> Result<bool, SearchError> {
        let (Some(own), Some(sums)) = (self.region.wallets.get(index), self.sums.get(index)) else { return Ok(false) };
        let found = || sums.keys();
        // Funds return over two transfers at least, and came from the same label before.
        let nearest = |number: u32| found().filter(|key| key.number() == number).map(|key| key.hops()).min();
        let doubtful = match own.standing {
            Standing::Marked(_) => false,
            // Others take it for a hub, too.
            Standing::Hub => found().any(|key| key.is_hub() && key.hops() > 1),
            Standing::Open | Standing::Edge => {
                found().any(|key| nearest(key.number()).is_some_and(|nearest| nearest + 2 <= key.hops()))
            }
        };
        if !doubtful || self.terms.max_hops > 3 || own.standing == Standing::Hub {
            return Ok(doubtful);
        }
        self.passes_funds_back(own.wallet, graph, pace)
    }

    /// Reports whether funds of a label can have passed through a wallet to a counterparty and
    /// directly back. Forward, time runs backward.
    fn passes_funds_back<W: Interrupt>(
        &self,
        wallet: WalletId,
        graph: &Graph<'_>,
        pace: &mut Pace<'_, W>,
    ) -> Result<bool, SearchError> {
        let filter = EdgeFilter::history(self.terms.assets, self.terms.until);
        let (near, far) = match self.terms.flow {
            Flow::Backward => (Side::In, Side::Out),
            Flow::Forward => (Side::Out, Side::In),
        };
        let clock = |transfer: &Transfer| if near == Side::In { transfer.time } else { !transfer.time };
        let standing = |peer: WalletId| {
            let index = self.region.places.get(peer)?;
            self.region.wallets.get(index as usize).map(|reached| reached.standing)
        };
        let (mut since, mut last) = (i64::MAX, HashMap::<WalletId, i64>::new());
        graph.counted_transfers(wallet, near, &filter, |transfer| -> Result<(), SearchError> {
            pace.step(0);
            let Some(peer) = transfer.peer.filter(|peer| *peer != wallet && transfer.value > U256::ZERO) else {
                return Ok(());
            };
            match standing(peer) {
                Some(Standing::Marked(_) | Standing::Hub) => since = since.min(clock(&transfer)),
                Some(Standing::Open) => {
                    let time = last.entry(peer).or_insert(i64::MIN);
                    *time = (*time).max(clock(&transfer));
                }
                Some(Standing::Edge) | None => {}
            }
            Ok(())
        })?;
        let mut passes = false;
        graph.counted_transfers(wallet, far, &filter, |transfer| -> Result<(), SearchError> {
            pace.step(0);
            let time = clock(&transfer);
            passes |= time >= since
                && transfer.value > U256::ZERO
                && transfer.peer.and_then(|peer| last.get(&peer)).is_some_and(|last| *last >= time);
            Ok(())
        })?;
        Ok(passes)
    }

    /// Returns the parts of a requested wallet, by label and hops.
    fn parts(&self, index: usize, total: U256) -> Vec<Exposure> {
        let max_hops = self.terms.max_hops;
        let sums = self.sums.get(index).into_iter().flatten();
        let mut sums: Vec<(ShareKey, f64)> = sums.map(|(key, value)| (*key, *value)).collect();
        sums.sort_unstable_by_key(|(key, _)| *key);
        let part = |(key, value): (ShareKey, f64)| {
            let number = key.number();
            let part = match number.checked_sub(ASKED) {
                // Where funds have made the last hop, it does not matter what more they could do.
                _ if key.is_hub() && key.hops() >= max_hops => return None,
                _ if key.is_hub() => Part::FanOut,
                Some(other) if other as usize == index => Part::Own,
                Some(other) => Part::Mark(self.region.wallets.get(other as usize)?.mark?),
                None => Part::Mark(number),
            };
            Some(Exposure { part, hops: key.hops(), value })
        };
        let mut parts: Vec<Exposure> = sums.into_iter().filter_map(part).collect();
        if self.region.wallets.get(index).is_some_and(|own| own.walks >> max_hops & 1 == 1) {
            let known: f64 = parts.iter().map(|part| part.value).sum();
            let value = total.as_f64() - known;
            if value > f64::EPSILON * total.as_f64() {
                parts.push(Exposure { part: Part::Hops, hops: 0, value });
            }
        }
        parts
    }
}

/// Returns the ratio of two amounts, at most 1.
fn ratio(part: U256, whole: U256) -> f64 {
    if part >= whole { 1.0 } else { part.as_f64() / whole.as_f64() }
}
