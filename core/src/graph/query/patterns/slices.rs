//! Slices of time, each small enough to be indexed for searching.
//!
//! Time is divided into tiles as long as a window, from the epoch on. The slice of a tile contains
//! the transfers of that tile and of the next one (and of the previous one, for patterns that need
//! it): every window that begins in the tile lies in it. As many tiles as fit into the memory limit
//! are read from the graph at a time.

use super::finding::Member;
use super::{Run, no_room};
use crate::graph::budget::Interrupt;
use crate::graph::budget::Stop;
use crate::graph::file::sorting::sort_interruptibly;
use crate::graph::types::{Side, WalletId};
use crate::graph::view::filter::EdgeFilter;

/// Bytes of a transfer while it is read, sorted and indexed.
const COST: usize = 2 * size_of::<Member>() + 2 * size_of::<(u64, u32)>() + size_of::<Pair>() + 6 * size_of::<u32>();

/// Rows indexed between two cancellation checks.
const ROWS_PER_CHECK: usize = 1 << 15;

/// Number of parts of time in which transfers are counted, to find how many tiles fit.
const PARTS: usize = 1 << 12;

/// Transfers from one wallet to another within a slice.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair {
    /// Sender and receiver, by number in the slice.
    pub from: u32,
    pub to: u32,
    /// Range of its transfers in [`Slice::by_pair`].
    start: u32,
    end: u32,
}

/// The transfers around a tile.
pub(super) struct Slice<'s> {
    pub tile: i64,
    /// Transfers by time, then by wallets and value.
    pub rows: &'s [Member],
    /// Wallets of the slice, by number in the slice.
    pub wallets: Vec<WalletId>,
    /// Pairs by sender, then receiver.
    pub pairs: Vec<Pair>,
    by_pair: Vec<u32>,
    /// Start of the pairs of each sender.
    pair_starts: Vec<u32>,
    /// Pairs by receiver, then sender.
    in_pairs: Vec<u32>,
    in_starts: Vec<u32>,
    /// Rows by sender, then time, and by receiver.
    sent: Vec<u32>,
    sent_starts: Vec<u32>,
    received: Vec<u32>,
    received_starts: Vec<u32>,
    /// Sender and receiver of each row.
    ends: Vec<(u32, u32)>,
}

fn part<'a, T>(starts: &[u32], all: &'a [T], wallet: u32) -> &'a [T] {
    let bound = |index: u32| starts.get(index as usize).map_or(all.len(), |start| *start as usize);
    all.get(bound(wallet)..bound(wallet + 1)).unwrap_or_default()
}

impl Slice<'_> {
    /// Returns the pairs in which a wallet sends.
    pub(super) fn pairs_from(&self, wallet: u32) -> &[Pair] {
        part(&self.pair_starts, &self.pairs, wallet)
    }

    /// Returns the index of the first of these pairs.
    pub(super) fn first_pair(&self, wallet: u32) -> usize {
        self.pair_starts.get(wallet as usize).map_or(self.pairs.len(), |start| *start as usize)
    }

    /// Returns the indexes of the pairs in which a wallet receives.
    pub(super) fn pairs_to(&self, wallet: u32) -> &[u32] {
        part(&self.in_starts, &self.in_pairs, wallet)
    }

    /// Returns the rows of a pair by time.
    pub(super) fn rows_of(&self, pair: &Pair) -> &[u32] {
        self.by_pair.get(pair.start as usize..pair.end as usize).unwrap_or_default()
    }

    /// Returns the rows that a wallet sent, by time.
    pub(super) fn sent(&self, wallet: u32) -> &[u32] {
        part(&self.sent_starts, &self.sent, wallet)
    }

    /// Returns the rows that a wallet received, by time.
    pub(super) fn received(&self, wallet: u32) -> &[u32] {
        part(&self.received_starts, &self.received, wallet)
    }

    /// Returns sender and receiver of a row.
    pub(super) fn ends(&self, row: u32) -> (u32, u32) {
        self.ends[row as usize]
    }

    pub(super) fn row(&self, row: u32) -> &Member {
        &self.rows[row as usize]
    }

    /// Returns those of the rows that lie within an inclusive range of time.
    pub(super) fn between<'r>(&self, rows: &'r [u32], from: i64, until: i64) -> &'r [u32] {
        let start = rows.partition_point(|row| self.row(*row).time < from);
        let length = rows[start..].partition_point(|row| self.row(*row).time <= until);
        &rows[start..start + length]
    }

    pub(super) fn wallet(&self, local: u32) -> WalletId {
        self.wallets[local as usize]
    }
}

/// Calls `each` for the slice of every tile with transfers, by time. `tile` is the length of a tile
/// in microseconds.
pub(super) fn for_each<'r, 'g, W: Interrupt>(
    run: &mut Run<'r, 'g, W>,
    tile: i64,
    before: i64,
    mut each: impl FnMut(&mut Run<'r, 'g, W>, &Slice<'_>) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let senders = senders(run)?;
    let mut places = run.places()?;
    let capacity = run.room.left() / 2 / COST;
    for (first, last) in chunks(run, &senders, tile, before, capacity)? {
        let filter =
            within(&run.filter, (first - before).saturating_mul(tile), last.saturating_add(2).saturating_mul(tile));
        let rows = read(run, &senders, &filter, capacity)?;
        let booked = rows.len() * COST;
        run.book(booked)?;
        let (mut now, mut start, mut middle, mut end) = (first, 0, 0, 0);
        loop {
            let bound = |tiles: i64| now.saturating_add(tiles).saturating_mul(tile);
            let pass = |index: &mut usize, limit: i64| {
                *index += rows[*index..].partition_point(|row| row.time < limit);
            };
            pass(&mut middle, bound(0));
            let Some(next) = rows.get(middle).map(|row| row.time.div_euclid(tile)) else { break };
            if next > last {
                break;
            }
            if next > now {
                now = next;
                continue;
            }
            pass(&mut start, bound(-before));
            pass(&mut end, bound(2));
            let slice = lay_out(run, now, &rows[start..end], &mut places)?;
            each(run, &slice)?;
            slice
                .wallets
                .iter()
                .filter_map(|wallet| places.get_mut(wallet.index()).map(|local| *local = 0))
                .for_each(drop);
            now += 1;
        }
        run.room.give(booked);
    }
    Ok(())
}

/// Returns the wallets of the network that have sent anything.
fn senders<W: Interrupt>(run: &mut Run<'_, '_, W>) -> Result<Vec<WalletId>, Stop> {
    run.book(run.graph.wallets() as usize * size_of::<WalletId>())?;
    let mut senders = Vec::new();
    for wallet in run.graph.wallet_ids() {
        run.step(0)?;
        if run.graph.transfer_count(wallet, Side::Out) > 0 && run.graph.network(wallet)? == run.scope.network {
            senders.push(wallet);
        }
    }
    Ok(senders)
}

fn within(filter: &EdgeFilter, since: i64, until: i64) -> EdgeFilter {
    EdgeFilter { since: filter.since.max(Some(since)), until: filter.until.map(|end| end.min(until)), ..*filter }
}

/// Returns ranges of tiles, first and last, whose transfers fit.
fn chunks<W: Interrupt>(
    run: &mut Run<'_, '_, W>,
    senders: &[WalletId],
    tile: i64,
    before: i64,
    capacity: usize,
) -> Result<Vec<(i64, i64)>, Stop> {
    let (mut count, mut first, mut last) = (0_usize, i64::MAX, i64::MIN);
    let filter = run.filter;
    each_row(run, senders, &filter, |row| {
        count += 1;
        (first, last) = (first.min(row.time), last.max(row.time));
        Ok(())
    })?;
    if count == 0 {
        return Ok(Vec::new());
    }
    let tile_of = |time: i64| time.div_euclid(tile);
    if count <= capacity {
        return Ok(vec![(tile_of(first), tile_of(last))]);
    }
    // Whole tiles.
    let tiles = tile_of(last).saturating_sub(tile_of(first)) / PARTS as i64 + 1;
    let origin = tile_of(first);
    let mut counts = vec![0_usize; PARTS + 1];
    each_row(run, senders, &filter, |row| {
        let index = (tile_of(row.time) - origin) / tiles;
        if let Some(count) = usize::try_from(index).ok().and_then(|index| counts.get_mut(index)) {
            *count += 1;
        }
        Ok(())
    })?;
    // In addition to the parts themselves, the previous and the next one contain tiles that are
    // examined.
    let around = |from: usize, to: usize| {
        counts[from.saturating_sub(before.min(1) as usize)..(to + 1).min(counts.len())].iter().sum::<usize>()
    };
    let mut chunks = Vec::new();
    let mut from = 0;
    while from < counts.len() {
        let mut to = from + 1;
        while to < counts.len() && around(from, to + 1) <= capacity {
            to += 1;
        }
        if around(from, to) > capacity {
            return Err(no_room(&run.room, run.strongest.found.len()).into());
        }
        let bound = |part: usize| origin.saturating_add((part as i64).saturating_mul(tiles));
        chunks.push((bound(from), bound(to) - 1));
        from = to;
    }
    Ok(chunks)
}

fn each_row<W: Interrupt>(
    run: &mut Run<'_, '_, W>,
    senders: &[WalletId],
    filter: &EdgeFilter,
    mut each: impl FnMut(Member) -> Result<(), Stop>,
) -> Result<(), Stop> {
    for from in senders {
        run.step(0)?;
        let (graph, pace) = (run.graph, &mut run.pace);
        graph.counted_transfers(*from, Side::Out, filter, |transfer| -> Result<(), Stop> {
            if let Some(to) = transfer.peer.filter(|to| to != from) {
                each(Member { time: transfer.time, number: transfer.number, from: *from, to, value: transfer.value })?;
            }
            pace.step(0).map_or(Ok(()), |halt| Err(Stop::Halt(halt)))
        })?;
    }
    Ok(())
}

fn read<W: Interrupt>(
    run: &mut Run<'_, '_, W>,
    senders: &[WalletId],
    filter: &EdgeFilter,
    capacity: usize,
) -> Result<Vec<Member>, Stop> {
    let mut rows = Vec::new();
    let error = no_room(&run.room, run.strongest.found.len());
    each_row(run, senders, filter, |row| {
        if rows.len() >= capacity {
            return Err(error.clone().into());
        }
        rows.push(row);
        Ok(())
    })?;
    if let Some(first) = rows.first().copied() {
        let mut room = vec![first; rows.len()];
        let graph = run.graph;
        sort_interruptibly(&mut rows, &mut room, run.pace.interrupt(), |a, b| super::finding::compare(graph, a, b));
    }
    run.step(rows.len())?;
    Ok(rows)
}

fn lay_out<'s, W: Interrupt>(
    run: &mut Run<'_, '_, W>,
    tile: i64,
    rows: &'s [Member],
    places: &mut [u32],
) -> Result<Slice<'s>, Stop> {
    let mut wallets: Vec<WalletId> = Vec::new();
    let mut local = |wallet: WalletId| -> u32 {
        let Some(entry) = places.get_mut(wallet.index()) else { return 0 };
        if *entry == 0 {
            wallets.push(wallet);
            *entry = wallets.len() as u32;
        }
        *entry - 1
    };
    let mut ends: Vec<(u32, u32)> = Vec::with_capacity(rows.len());
    for rows in rows.chunks(ROWS_PER_CHECK) {
        ends.extend(rows.iter().map(|row| (local(row.from), local(row.to))));
        run.step(rows.len())?;
    }
    let mut keyed: Vec<(u64, u32)> =
        (0..).zip(&ends).map(|(row, (from, to))| ((u64::from(*from) << 32) | u64::from(*to), row)).collect();
    let mut room = vec![(0, 0); keyed.len()];
    sort_interruptibly(&mut keyed, &mut room, run.pace.interrupt(), |a, b| a.0.cmp(&b.0));
    drop(room);
    run.step(keyed.len())?;
    let mut pairs: Vec<Pair> = Vec::new();
    let mut by_pair = Vec::with_capacity(keyed.len());
    for (index, (key, row)) in (0..).zip(&keyed) {
        let (from, to) = ((key >> 32) as u32, *key as u32);
        match pairs.last_mut().filter(|last| (last.from, last.to) == (from, to)) {
            Some(last) => last.end = index + 1,
            None => pairs.push(Pair { from, to, start: index, end: index + 1 }),
        }
        by_pair.push(*row);
    }
    drop(keyed);
    let count = wallets.len();
    let numbers = |length: usize| 0..length as u32;
    let (pair_starts, _) = grouped(count, numbers(pairs.len()), |pair| pairs[pair as usize].from);
    run.step(rows.len())?;
    let (in_starts, in_pairs) = grouped(count, numbers(pairs.len()), |pair| pairs[pair as usize].to);
    run.step(rows.len())?;
    let (sent_starts, sent) = grouped(count, numbers(rows.len()), |row| ends[row as usize].0);
    run.step(rows.len())?;
    let (received_starts, received) = grouped(count, numbers(rows.len()), |row| ends[row as usize].1);
    run.step(rows.len())?;
    Ok(Slice {
        tile,
        rows,
        wallets,
        pairs,
        by_pair,
        pair_starts,
        in_pairs,
        in_starts,
        sent,
        sent_starts,
        received,
        received_starts,
        ends,
    })
}

/// Sorts numbers by group, stably, and returns the start of each group. O(n + groups).
fn grouped(
    groups: usize,
    numbers: impl Iterator<Item = u32> + Clone,
    group: impl Fn(u32) -> u32,
) -> (Vec<u32>, Vec<u32>) {
    let mut starts = vec![0_u32; groups + 1];
    let mut count = 0_usize;
    for number in numbers.clone() {
        starts[group(number) as usize + 1] += 1;
        count += 1;
    }
    for index in 0..groups {
        starts[index + 1] += starts[index];
    }
    let mut next = starts.clone();
    let mut all = vec![0; count];
    for number in numbers {
        let cursor = &mut next[group(number) as usize];
        all[*cursor as usize] = number;
        *cursor += 1;
    }
    (starts, all)
}
