//! The search: transfers that follow each other in time, by the number of hops.
//!
//! Each level takes the transfers that the previous level made usable. A transfer into a wallet
//! makes those transfers of the wallet usable that do not come before it and not later than
//! `max_gap` after it. A transfer is used once, at the smallest number of hops, because the wallet
//! remembers the ranges of time in which its transfers have been used. So a search costs O(e log e)
//! in the transfers that it uses, and reads those of the same time as the end of a range again.

use crate::graph::budget::{Halt, Interrupt, MemoryBudget, Pace, SearchLimits, Stop};
use crate::graph::error::SearchError;
use crate::graph::file::sorting::sort_with_room;
use crate::graph::query::in_time::moments::{AssetClass, Key, Place, times};
use crate::graph::query::visited::{Visited, book};
use crate::graph::types::{Side, WalletId};
use crate::graph::view::filter::{AssetSelection, EdgeFilter};
use crate::graph::view::graph::Graph;
use crate::graph::view::transfers::Transfer;

/// Length from which a list is sorted with cancellation checks.
const LONG: usize = 1 << 14;

/// A wallet that was reached.
#[derive(Debug)]
pub(super) struct TimedWallet {
    pub wallet: WalletId,
    /// Smallest number of hops.
    pub depth: u32,
    /// Time of the first transfer that reaches it, in the direction of the search.
    pub reached: i64,
    /// It is reached with the smallest number of hops without an assumption about the order of
    /// transfers.
    pub is_certain: bool,
}

/// State of the transfers of a wallet in one class of assets.
#[derive(Debug)]
struct Slot {
    /// Ranges in which its transfers have been used, in order, each without its end.
    used: Vec<(Key, Key)>,
    /// Without a gap: the earliest place of an arrival, and the earliest of those latest places of
    /// arrivals whose order is known.
    earliest: Key,
    latest: Key,
}

/// A transfer that reached a wallet, as far as the transfers of one class that may follow need it.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    slot: u32,
    /// Entry of the caller.
    entry: u32,
    place: Place,
    /// An assumption about the order of transfers was made.
    inferred: bool,
}

/// A transfer on its way.
#[derive(Debug)]
pub(super) struct Used<'t> {
    pub transfer: &'t Transfer,
    /// The wallet that it leaves, in the direction of the search.
    pub from: WalletId,
    /// Number of the wallet that it reaches.
    pub to: usize,
    /// Entry of the transfer before it; `None` for a first one.
    pub before: Option<u32>,
    pub inferred: bool,
}

/// A search in progress.
pub(super) struct InTimeSearch<'s, W> {
    pub graph: &'s Graph<'s>,
    side: Side,
    filter: EdgeFilter,
    classes: Vec<(AssetClass, AssetSelection)>,
    max_gap: Option<i64>,
    max_wallets: u64,
    pub max_depth: u32,
    pub memory: MemoryBudget,
    pub pace: Pace<'s, W>,
    places: Visited,
    /// Wallets in the order in which they were found, the source first.
    pub wallets: Vec<TimedWallet>,
    slots: Vec<Slot>,
    arrivals: Vec<Arrival>,
    pub depth: u32,
}

impl<'s, W: Interrupt> InTimeSearch<'s, W> {
    pub(super) fn new(
        graph: &'s Graph<'s>,
        source: WalletId,
        side: Side,
        filter: &EdgeFilter,
        max_gap: Option<i64>,
        limits: &SearchLimits,
        interrupt: &'s mut W,
    ) -> Result<Self, SearchError> {
        let max_depth = limits.depth()?;
        let mut memory = limits.memory;
        let mut search = Self {
            graph,
            side,
            filter: *filter,
            classes: AssetClass::of(filter.assets),
            max_gap,
            max_wallets: limits.max_wallets.unwrap_or(u64::MAX),
            max_depth,
            places: Visited::new(graph.wallets(), &mut memory),
            memory,
            pace: Pace::new(interrupt),
            wallets: Vec::new(),
            slots: Vec::new(),
            arrivals: Vec::new(),
            depth: 0,
        };
        search.add(source)?;
        search.wallets[0].is_certain = true;
        for slot in 0..search.classes.len() as u32 {
            let place = Place { earliest: Key::FIRST, latest: Key::FIRST };
            search.arrivals.push(Arrival { slot, entry: u32::MAX, place, inferred: false });
        }
        Ok(search)
    }

    /// Returns the number of a wallet that was reached.
    pub(super) fn index(&self, wallet: WalletId) -> Option<usize> {
        self.places.get(wallet).map(|index| index as usize)
    }

    fn add(&mut self, wallet: WalletId) -> Result<usize, SearchError> {
        let bytes = size_of::<TimedWallet>() + self.places.cost() + self.classes.len() * size_of::<Slot>();
        let index = self.wallets.len();
        book(&mut self.memory, bytes, self.depth, index)?;
        self.places.insert(wallet, index as u32);
        self.wallets.push(TimedWallet { wallet, depth: self.depth, reached: i64::MAX, is_certain: false });
        for _ in &self.classes {
            self.slots.push(Slot { used: Vec::new(), earliest: Key::LAST, latest: Key::LAST });
        }
        Ok(index)
    }

    /// Reports whether another level can follow.
    pub(super) fn has_more(&self) -> bool {
        self.depth < self.max_depth && !self.arrivals.is_empty()
    }

    /// Uses the transfers of the next level. `each` returns the caller's entry of a transfer. After
    /// an error the level is incomplete.
    pub(super) fn next_level(
        &mut self,
        each: &mut impl FnMut(&TimedWallet, &Used<'_>, &mut MemoryBudget) -> Result<u32, Stop>,
    ) -> Result<(), Stop> {
        self.depth += 1;
        let mut arrivals = std::mem::take(&mut self.arrivals);
        let key = |arrival: &Arrival| (arrival.slot, arrival.place.earliest, arrival.place.latest, arrival.entry);
        self.sort(&mut arrivals, |a, b| key(a).cmp(&key(b)))?;
        let booked = arrivals.capacity() * size_of::<Arrival>();
        let mut certain = Vec::new();
        for group in arrivals.chunk_by(|a, b| a.slot == b.slot) {
            let reserved = group.len().saturating_sub(certain.capacity()) * size_of::<Arrival>();
            self.take(reserved)?;
            certain.clear();
            certain.reserve_exact(group.len());
            certain.extend(group.iter().filter(|arrival| !arrival.inferred).copied());
            self.sort(&mut certain, |a, b| a.place.latest.cmp(&b.place.latest))?;
            let ranges = self.new_ranges(group)?;
            for range in &ranges {
                self.use_range(*range, group, &certain, each)?;
            }
            self.memory.give(ranges.capacity() * size_of::<(Key, Key)>());
        }
        self.memory.give(booked + certain.capacity() * size_of::<Arrival>());
        Ok(())
    }

    fn take(&mut self, bytes: usize) -> Result<(), SearchError> {
        if self.memory.take(bytes) {
            return Ok(());
        }
        let (budget, depth, wallets) = (self.memory.limit(), self.depth, self.wallets.len());
        Err(SearchError::Memory { budget, depth, wallets })
    }

    fn sort(
        &mut self,
        arrivals: &mut [Arrival],
        compare: impl FnMut(&Arrival, &Arrival) -> std::cmp::Ordering,
    ) -> Result<(), SearchError> {
        if arrivals.len() < LONG {
            arrivals.sort_by(compare);
            return Ok(());
        }
        let bytes = size_of_val(arrivals);
        self.take(bytes)?;
        sort_with_room(arrivals, self.pace.interrupt(), compare);
        self.memory.give(bytes);
        Ok(())
    }

    /// Returns the end of the range that an arrival opens.
    fn end(&self, place: &Place) -> Key {
        match self.max_gap {
            // The first transfer may be at any time.
            Some(gap) if place.earliest != Key::FIRST => Key::after(place.earliest.time.saturating_add(gap)),
            _ => Key::LAST,
        }
    }

    /// Marks the ranges that the arrivals of a slot open as used, and returns their parts that were
    /// not.
    fn new_ranges(&mut self, group: &[Arrival]) -> Result<Vec<(Key, Key)>, Stop> {
        let Some(first) = group.first() else { return Ok(Vec::new()) };
        let mut opened: Vec<(Key, Key)> = Vec::new();
        for arrival in group {
            self.step()?;
            let (start, end) = (arrival.place.earliest, self.end(&arrival.place));
            match opened.last_mut().filter(|last| start <= last.1) {
                Some(last) => last.1 = last.1.max(end),
                None => {
                    self.grow(&mut opened)?;
                    opened.push((start, end));
                }
            }
        }
        let slot = first.slot as usize;
        let old = self.slots.get_mut(slot).map(|slot| std::mem::take(&mut slot.used)).unwrap_or_default();
        let mut new: Vec<(Key, Key)> = Vec::new();
        let mut used: Vec<(Key, Key)> = Vec::new();
        let mut old_ranges = old.iter().copied().peekable();
        let mut opened_ranges = opened.iter().copied().peekable();
        // Both lists in order of their starts, joined; what of an opened range no old one covers is
        // new.
        let mut before = old.iter().copied().peekable();
        for (mut start, end) in opened.iter().copied() {
            while let Some((from, to)) = before.peek().copied() {
                self.step()?;
                if to <= start {
                    before.next();
                    continue;
                }
                if from >= end {
                    break;
                }
                if from > start {
                    self.grow(&mut new)?;
                    new.push((start, from));
                }
                start = start.max(to);
                if to >= end {
                    break;
                }
                before.next();
            }
            if start < end {
                self.grow(&mut new)?;
                new.push((start, end));
            }
        }
        loop {
            self.step()?;
            let is_old = match (old_ranges.peek(), opened_ranges.peek()) {
                (None, None) => break,
                (Some(old), Some(opened)) => old.0 <= opened.0,
                (old, _) => old.is_some(),
            };
            let Some(range) = (if is_old { old_ranges.next() } else { opened_ranges.next() }) else { break };
            match used.last_mut().filter(|last| range.0 <= last.1) {
                Some(last) => last.1 = last.1.max(range.1),
                None => {
                    self.grow(&mut used)?;
                    used.push(range);
                }
            }
        }
        self.memory.give((old.capacity() + opened.capacity()) * size_of::<(Key, Key)>());
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.used = used;
        }
        Ok(new)
    }

    /// Books room for another range.
    fn grow(&mut self, ranges: &mut Vec<(Key, Key)>) -> Result<(), SearchError> {
        if ranges.len() == ranges.capacity() {
            let more = ranges.len().max(1);
            self.take(more * size_of::<(Key, Key)>())?;
            ranges.reserve_exact(more);
        }
        Ok(())
    }

    #[inline]
    fn step(&mut self) -> Result<(), Stop> {
        self.pace.step(0).map_or(Ok(()), |halt| Err(Stop::Halt(halt)))
    }

    fn use_range(
        &mut self,
        (start, end): (Key, Key),
        group: &[Arrival],
        certain: &[Arrival],
        each: &mut impl FnMut(&TimedWallet, &Used<'_>, &mut MemoryBudget) -> Result<u32, Stop>,
    ) -> Result<(), Stop> {
        let Some(slot) = group.first().map(|arrival| arrival.slot as usize) else { return Ok(()) };
        let (graph, side) = (self.graph, self.side);
        let (index, (class, assets)) = (slot / self.classes.len(), self.classes[slot % self.classes.len()]);
        let Some(from) = self.wallets.get(index).map(|from| from.wallet) else { return Ok(()) };
        let (first, last) = times(start, end, side);
        let since = self.filter.since.map_or(first, |since| since.max(first));
        let until = match (self.filter.until, last.checked_add(1)) {
            (Some(until), Some(last)) => Some(until.min(last)),
            (until, last) => until.or(last),
        };
        let filter = EdgeFilter { assets, since: Some(since), until, ..self.filter };
        graph.counted_transfers(from, side, &filter, |transfer| -> Result<(), Stop> {
            self.step()?;
            let place = Place::among(&transfer, class, side);
            let Some(peer) = transfer.peer.filter(|_| place.latest >= start && place.latest < end) else {
                return Ok(());
            };
            let (before, inferred) = self.before(&place, group, certain);
            self.reach(peer, &transfer, from, (before, inferred), each)
        })
    }

    /// Returns the entry of a transfer that may precede one, and whether their order is an
    /// assumption.
    fn before(&self, place: &Place, group: &[Arrival], certain: &[Arrival]) -> (Option<u32>, bool) {
        let entry = |arrival: &Arrival| (arrival.entry != u32::MAX).then_some(arrival.entry);
        let known = certain.partition_point(|arrival| arrival.place.latest < place.earliest);
        let known = known.checked_sub(1).and_then(|last| certain.get(last));
        // An origin is at no time.
        let origin = || certain.iter().find(|arrival| arrival.entry == u32::MAX);
        if let Some(arrival) = known.or_else(origin).filter(|arrival| place.earliest < self.end(&arrival.place)) {
            return (entry(arrival), false);
        }
        let possible = group.partition_point(|arrival| arrival.place.earliest <= place.latest);
        (possible.checked_sub(1).and_then(|last| group.get(last)).and_then(entry), true)
    }

    fn reach(
        &mut self,
        peer: WalletId,
        transfer: &Transfer,
        from: WalletId,
        (before, inferred): (Option<u32>, bool),
        each: &mut impl FnMut(&TimedWallet, &Used<'_>, &mut MemoryBudget) -> Result<u32, Stop>,
    ) -> Result<(), Stop> {
        let to = match self.index(peer) {
            Some(index) => index,
            None if self.wallets.len() as u64 >= self.max_wallets => return Err(Stop::Halt(Halt::Wallets)),
            None => self.add(peer)?,
        };
        let Some(wallet) = self.wallets.get_mut(to) else { return Ok(()) };
        let reached = if self.side == Side::Out { transfer.time } else { !transfer.time };
        wallet.reached = wallet.reached.min(reached);
        wallet.is_certain |= wallet.depth == self.depth && !inferred;
        let entry = each(wallet, &Used { transfer, from, to, before, inferred }, &mut self.memory)?;
        if self.depth < self.max_depth {
            for number in 0..self.classes.len() {
                let place = Place::among(transfer, self.classes[number].0, self.side);
                self.arrive(Arrival { slot: (to * self.classes.len() + number) as u32, entry, place, inferred })?;
            }
        }
        Ok(())
    }

    /// Keeps an arrival that may make transfers usable.
    fn arrive(&mut self, arrival: Arrival) -> Result<(), Stop> {
        let end = self.end(&arrival.place);
        let Place { earliest, latest } = arrival.place;
        let Some(slot) = self.slots.get_mut(arrival.slot as usize) else { return Ok(()) };
        if self.max_gap.is_none() {
            // Later arrivals open parts of the range of an earlier one.
            let is_certain = !arrival.inferred && latest < slot.latest;
            if earliest >= slot.earliest && !is_certain {
                return Ok(());
            }
            slot.earliest = slot.earliest.min(earliest);
            if !arrival.inferred {
                slot.latest = slot.latest.min(latest);
            }
        } else {
            let covering = slot.used.partition_point(|range| range.0 <= earliest).checked_sub(1);
            if covering.and_then(|index| slot.used.get(index)).is_some_and(|range| range.1 >= end) {
                return Ok(());
            }
        }
        if self.arrivals.len() == self.arrivals.capacity() {
            let more = self.arrivals.len().max(16);
            self.take(more * size_of::<Arrival>())?;
            self.arrivals.reserve_exact(more);
        }
        self.arrivals.push(arrival);
        Ok(())
    }
}
