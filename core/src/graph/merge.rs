//! A base and the changes since -> the file of a new base, without looking at any table.
//!
//! Wallets keep their numbers, new ones come behind. What belongs to wallets without a change is copied in runs; receipts name
//! transfers by number, so those are moved along. O(file), at the speed of copying.

use std::collections::HashMap;
use std::ops::{Deref, Range};

use super::base::{Base, NOBODY, STATUS_SHIFT, Sections};
use super::build::{
    Pair, PairSum, STEPS, WideStore, compare_positions, meta_bytes, meta_room, sizes_of_arrays, write_in_pairs,
    write_meta,
};
use super::format::{Layout, Provenance, SECTIONS, Section};
use super::names::{Extended, MOST};
use super::overlay::{Added, Overlay};
use super::packed::{pack_position, pack_value};
use super::scratch::{BuildError, Column, Scratch};
use super::search::{Damaged, Side, Watch};

const ASSET: u32 = (1 << STATUS_SHIFT) - 1;

const OUT_OF_RANGE: Damaged = Damaged { what: "number out of range" };

/// An added transfer, packed.
#[derive(Debug, Clone, Copy)]
struct PackedAdded {
    time: i64,
    value: u64,
    position: u64,
}

/// A base and an overlay, ready to be written as one.
pub struct Merge<'m, S: Scratch> {
    scratch: S,
    base: Sections<'m>,
    overlay: &'m Overlay,
    networks: Vec<String>,
    wallets: Extended<'m>,
    tokens: Extended<'m>,
    wide: WideStore<S>,
    /// By number of the added transfer.
    added: HashMap<u32, PackedAdded>,
    /// Pairs of the wallets whose sent transfers changed.
    pairs: HashMap<u32, Vec<Pair>>,
    transfers: usize,
    receipts: usize,
    pair_count: usize,
    native: u64,
}

impl<'m, S: Scratch> Merge<'m, S> {
    /// Sums up the pairs that changed.
    ///
    /// # Errors
    /// When there is no memory, or the base does not hold together.
    pub fn plan<B: Deref<Target = [u8]>, W: Watch>(
        scratch: S,
        base: &'m Base<B>,
        overlay: &'m Overlay,
        watch: &mut W,
    ) -> Result<Self, BuildError<S::Error>> {
        let networks = base.networks().iter().chain(overlay.new_networks()).cloned().collect();
        let mut native = base.native_transfers();
        let base = base.sections();
        let wallets = Extended::new(base.wallets, overlay.new_wallets());
        let tokens = Extended::new(base.tokens, overlay.new_tokens());
        if wallets.len() as u64 > MOST {
            return Err(BuildError::TooMany { what: "wallets", limit: MOST });
        }
        let mut wide = WideStore::from(&scratch, &base.wide).map_err(BuildError::Scratch)?;
        let mut added = HashMap::new();
        let (mut transfers, mut receipts) = (base.out_peer.len(), base.in_peer.len());
        for (number, one) in overlay.all_added() {
            let mut tables = wide.growing(&scratch);
            let value = pack_value(one.value, &mut tables).map_err(BuildError::Scratch)?;
            let position = pack_position(one.position, &mut tables).map_err(BuildError::Scratch)?;
            added.insert(number, PackedAdded { time: one.time, value, position });
            transfers += 1;
            receipts += usize::from(one.to != NOBODY);
            native += u64::from(one.asset == super::NATIVE);
        }
        for number in overlay.all_removed() {
            let number = number as usize;
            transfers -= 1;
            receipts -= usize::from(*base.out_peer.get(number).ok_or(OUT_OF_RANGE)? != NOBODY);
            native -= u64::from(base.out_kind[number] & ASSET == super::NATIVE);
        }
        if transfers as u64 > MOST {
            return Err(BuildError::TooMany { what: "transfers", limit: MOST });
        }
        let mut merge = Self {
            scratch,
            base,
            overlay,
            networks,
            wallets,
            tokens,
            wide,
            added,
            pairs: HashMap::new(),
            transfers,
            receipts,
            pair_count: base.pair_peer.len(),
            native,
        };
        for wallet in overlay.touched(Side::Out) {
            watch.expired();
            let pairs = merge.merged_pairs(wallet)?;
            let before = merge.base.pairs(wallet, Side::Out).0.len();
            merge.pair_count = merge.pair_count + pairs.len() - before;
            merge.pairs.insert(wallet, pairs);
        }
        Ok(merge)
    }

    /// A wallet's pairs by asset and receiver, with the changes.
    fn merged_pairs(&mut self, wallet: u32) -> Result<Vec<Pair>, BuildError<S::Error>> {
        let base = &self.base;
        let mut changed: HashMap<(u32, u32), PairSum> = HashMap::new();
        let mut count_again: HashMap<(u32, u32), PairSum> = HashMap::new();
        let mut pairs = Vec::new();
        let range = base.pairs(wallet, Side::Out).0;
        for number in range.clone() {
            let (asset, peer) = (base.pair_asset[number], base.pair_peer[number]);
            if self.overlay.is_thinned(wallet, peer, asset) {
                count_again.insert((asset, peer), PairSum::EMPTY);
            }
        }
        if !count_again.is_empty() {
            for number in base.transfers(wallet, Side::Out) {
                let peer = *base.out_peer.get(number).ok_or(OUT_OF_RANGE)?;
                if let Some(sum) = count_again.get_mut(&(base.out_kind[number] & ASSET, peer))
                    && !self.overlay.went(number as u32)
                {
                    sum.add(base.out_time[number], base.wide.value(base.out_value[number])?);
                }
            }
        }
        for number in self.overlay.came(wallet, Side::Out) {
            if let Some(one) = self.overlay.added(*number).filter(|one| one.to != NOBODY) {
                changed.entry((one.asset, one.to)).or_insert(PairSum::EMPTY).add(one.time, one.value);
            }
        }
        for number in range {
            let key = (base.pair_asset[number], base.pair_peer[number]);
            let known = PairSum {
                count: base.pair_count[number],
                first: base.pair_first[number],
                last: base.pair_last[number],
                // BEYOND cannot be read, and stays beyond
                value: base.wide.value(base.pair_value[number]).ok(),
            };
            let mut sum = count_again.remove(&key).unwrap_or(known);
            if let Some(more) = changed.remove(&key) {
                sum.join(&more);
            }
            if sum.count > 0 {
                pairs.push((key, sum));
            }
        }
        pairs.extend(changed);
        pairs.sort_unstable_by_key(|pair| pair.0);
        let mut tables = self.wide.growing(&self.scratch);
        let pack = |((asset, peer), sum): &((u32, u32), PairSum)| sum.pack(*peer, *asset, &mut tables);
        pairs.iter().map(pack).collect::<Result<_, _>>().map_err(BuildError::Scratch)
    }

    /// Bytes of the file, whatever the time that the build takes.
    ///
    /// # Errors
    /// When the provenance cannot be written as JSON.
    pub fn size(&self, provenance: &Provenance) -> Result<usize, BuildError<S::Error>> {
        Ok(self.layout(provenance)?.length())
    }

    fn layout(&self, provenance: &Provenance) -> Result<Layout, BuildError<S::Error>> {
        let mut sizes = [0; SECTIONS];
        sizes[Section::Meta as usize] = meta_room(provenance, &self.networks, self.native)?;
        for (names, sections) in self.names() {
            for (section, bytes) in sections.into_iter().zip(names.sizes()) {
                sizes[section as usize] = bytes;
            }
        }
        sizes_of_arrays(&mut sizes, self.wallet_count(), self.transfers, self.receipts, self.pair_count);
        self.wide.sizes(&mut sizes);
        Ok(Layout::new(&sizes))
    }

    /// Both dictionaries, with their sections: text, places, networks, slots.
    fn names(&self) -> [(Extended<'m>, [Section; 4]); 2] {
        use Section as S;
        [
            (self.wallets, [S::WalletText, S::WalletPlaces, S::WalletNetworks, S::WalletSlots]),
            (self.tokens, [S::TokenText, S::TokenPlaces, S::TokenNetworks, S::TokenSlots]),
        ]
    }

    fn wallet_count(&self) -> usize {
        self.wallets.len()
    }

    /// Writes the file into `out`, which has [`Merge::size`] zeroed bytes.
    ///
    /// # Errors
    /// When there is no memory, the base does not hold together, or `out` has another size.
    pub fn write<W: Watch>(
        &self,
        provenance: &Provenance,
        out: &mut [u8],
        watch: &mut W,
    ) -> Result<(), BuildError<S::Error>> {
        let layout = self.layout(provenance)?;
        if out.len() != layout.length() {
            return Err(Damaged { what: "room for the file has another size" }.into());
        }
        write_meta(&layout, out, &meta_bytes(provenance, &self.networks, self.native)?)?;
        for (names, [text, places, networks, slots]) in self.names() {
            watch.expired();
            names.write_text(layout.section(out, text));
            names.write_places(layout.section(out, places));
            names.write_networks(layout.section(out, networks));
            names.write_slots(layout.section(out, slots));
        }
        self.wide.write(&layout, out);
        self.write_ranks(&layout, out);
        let moved = self.write_transfers(&layout, out, watch)?;
        self.write_receipts(&layout, out, &moved, watch)?;
        self.write_pairs(&layout, out, watch)?;
        write_in_pairs(&self.scratch, &layout, out, watch).map_err(BuildError::Scratch)?;
        layout.seal(out, watch);
        Ok(())
    }

    fn write_ranks(&self, layout: &Layout, out: &mut [u8]) {
        let known = self.base.wallets.len();
        let mut new: Vec<(u64, u32)> = (0..self.overlay.new_wallets().len())
            .map(|new| (self.overlay.new_order(&self.base, new), (known + new) as u32))
            .collect();
        new.sort_unstable();
        let by_rank: &mut [u32] = layout.section(out, Section::WalletByRank);
        let (mut from, mut to) = (0, 0);
        for (order, wallet) in new {
            let before = ((order >> 32) as usize).min(known);
            by_rank[to..to + before - from].copy_from_slice(&self.base.by_rank[from..before]);
            to += before - from;
            from = before;
            by_rank[to] = wallet;
            to += 1;
        }
        by_rank[to..].copy_from_slice(&self.base.by_rank[from..]);
        let mut sections = layout.split(out);
        let (ranks, by_rank) = super::build::two(&mut sections, Section::WalletRank, Section::WalletByRank);
        for (rank, wallet) in (0..).zip(by_rank) {
            if let Some(place) = ranks.get_mut(*wallet as usize) {
                *place = rank;
            }
        }
    }

    /// Runs of wallets whose side did not change, and those between that did, in order: `(wallets, changed)`.
    fn runs(&self, side: Side) -> Vec<(Range<u32>, bool)> {
        let mut touched: Vec<u32> = self.overlay.touched(side).into_iter().collect();
        touched.sort_unstable();
        let mut runs = Vec::with_capacity(2 * touched.len() + 1);
        let mut from = 0;
        for wallet in touched {
            runs.push((from..wallet, false));
            runs.push((wallet..wallet + 1, true));
            from = wallet + 1;
        }
        runs.push((from..self.wallet_count() as u32, false));
        runs
    }

    /// The entries that the base has for a run of wallets; wallets it does not know have none.
    fn entries(&self, offsets: &[u32], wallets: &Range<u32>) -> Range<usize> {
        let at = |wallet: u32| offsets.get(wallet as usize).or(offsets.last()).map_or(0, |offset| *offset as usize);
        at(wallets.start)..at(wallets.end)
    }

    /// A changed wallet's entries: of the base, by number there, or added, in order of time and position.
    fn merged(&self, wallet: u32, side: Side) -> Result<Vec<Entry>, Damaged> {
        let base = &self.base;
        let range = base.transfers(wallet, side);
        let mut entries = Vec::with_capacity(range.len());
        let mut came = self.overlay.came(wallet, side).iter().copied().peekable();
        for entry in range {
            let number = base.transfer(side, entry)?;
            if self.overlay.went(number as u32) {
                continue;
            }
            let (time, position) =
                (*base.out_time.get(number).ok_or(OUT_OF_RANGE)?, *base.out_position.get(number).ok_or(OUT_OF_RANGE)?);
            let wide = self.wide.slices();
            let earlier = |new: &u32| {
                self.added.get(new).is_some_and(|new| {
                    new.time < time || (new.time == time && compare_positions(new.position, position, &wide).is_lt())
                })
            };
            while let Some(new) = came.next_if(earlier) {
                entries.push(Entry::Added(new));
            }
            entries.push(Entry::Kept(entry));
        }
        entries.extend(came.map(Entry::Added));
        Ok(entries)
    }

    fn write_transfers(
        &self,
        layout: &Layout,
        out: &mut [u8],
        watch: &mut impl Watch,
    ) -> Result<Moved<S>, BuildError<S::Error>> {
        let base = &self.base;
        let wallets = self.wallet_count();
        let mut moved = Moved {
            shift: Column::zeroed(&self.scratch, wallets).map_err(BuildError::Scratch)?,
            has_changed: Column::zeroed(&self.scratch, wallets).map_err(BuildError::Scratch)?,
            changed: HashMap::new(),
            added: HashMap::new(),
        };
        let mut sections = layout.split(out);
        let [offsets, peers, times, values, kinds, positions, ..] = &mut sections[Section::OutOffsets as usize..]
        else {
            return Ok(moved);
        };
        let offsets: &mut [u32] = bytemuck::cast_slice_mut(offsets);
        let peers: &mut [u32] = bytemuck::cast_slice_mut(peers);
        let times: &mut [i64] = bytemuck::cast_slice_mut(times);
        let values: &mut [u64] = bytemuck::cast_slice_mut(values);
        let kinds: &mut [u32] = bytemuck::cast_slice_mut(kinds);
        let positions: &mut [u64] = bytemuck::cast_slice_mut(positions);
        let (shift, has_changed) = (moved.shift.as_mut_slice(), moved.has_changed.as_mut_slice());
        let mut to = 0;
        for (run, changed) in self.runs(Side::Out) {
            watch.expired();
            if changed {
                let wallet = run.start;
                offsets[wallet as usize] = to as u32;
                has_changed[wallet as usize] = 1;
                let start = base.transfers(wallet, Side::Out).start;
                let mut places = vec![0; base.transfers(wallet, Side::Out).len()];
                for entry in self.merged(wallet, Side::Out)? {
                    match entry {
                        Entry::Kept(number) => {
                            places[number - start] = to as u32;
                            peers[to] = base.out_peer[number];
                            times[to] = base.out_time[number];
                            values[to] = base.out_value[number];
                            kinds[to] = base.out_kind[number];
                            positions[to] = base.out_position[number];
                        }
                        Entry::Added(number) => {
                            let (one, packed) = self.added_one(number)?;
                            moved.added.insert(number, to as u32);
                            peers[to] = one.to;
                            times[to] = packed.time;
                            values[to] = packed.value;
                            kinds[to] = one.asset | (one.status as u32) << STATUS_SHIFT;
                            positions[to] = packed.position;
                        }
                    }
                    to += 1;
                }
                moved.changed.insert(wallet, (start as u32, places));
                continue;
            }
            let entries = self.entries(base.out_offsets, &run);
            let by = (to as u32).wrapping_sub(entries.start as u32);
            for wallet in run {
                shift[wallet as usize] = by;
                let begin = base.out_offsets.get(wallet as usize).map_or(entries.end, |begin| *begin as usize);
                offsets[wallet as usize] = (begin as u32).wrapping_add(by);
            }
            for piece in pieces(entries) {
                watch.expired();
                let target = to..to + piece.len();
                peers[target.clone()].copy_from_slice(&base.out_peer[piece.clone()]);
                times[target.clone()].copy_from_slice(&base.out_time[piece.clone()]);
                values[target.clone()].copy_from_slice(&base.out_value[piece.clone()]);
                kinds[target.clone()].copy_from_slice(&base.out_kind[piece.clone()]);
                positions[target].copy_from_slice(&base.out_position[piece.clone()]);
                to += piece.len();
            }
        }
        offsets[wallets] = to as u32;
        Ok(moved)
    }

    fn added_one(&self, number: u32) -> Result<(&Added, &PackedAdded), Damaged> {
        self.overlay.added(number).zip(self.added.get(&number)).ok_or(OUT_OF_RANGE)
    }

    fn write_receipts(
        &self,
        layout: &Layout,
        out: &mut [u8],
        moved: &Moved<S>,
        watch: &mut impl Watch,
    ) -> Result<(), BuildError<S::Error>> {
        let base = &self.base;
        let mut sections = layout.split(out);
        let [offsets, peers, numbers, ..] = &mut sections[Section::InOffsets as usize..] else { return Ok(()) };
        let offsets: &mut [u32] = bytemuck::cast_slice_mut(offsets);
        let peers: &mut [u32] = bytemuck::cast_slice_mut(peers);
        let numbers: &mut [u32] = bytemuck::cast_slice_mut(numbers);
        let mut to = 0;
        for (run, changed) in self.runs(Side::In) {
            watch.expired();
            if changed {
                offsets[run.start as usize] = to as u32;
                for entry in self.merged(run.start, Side::In)? {
                    (peers[to], numbers[to]) = match entry {
                        Entry::Kept(entry) => {
                            let peer = base.in_peer[entry];
                            (peer, moved.number(peer, base.in_transfer[entry])?)
                        }
                        Entry::Added(number) => {
                            (self.added_one(number)?.0.from, *moved.added.get(&number).ok_or(OUT_OF_RANGE)?)
                        }
                    };
                    to += 1;
                }
                continue;
            }
            let entries = self.entries(base.in_offsets, &run);
            let by = (to as u32).wrapping_sub(entries.start as u32);
            for wallet in run {
                let begin = base.in_offsets.get(wallet as usize).map_or(entries.end, |begin| *begin as usize);
                offsets[wallet as usize] = (begin as u32).wrapping_add(by);
            }
            for piece in pieces(entries) {
                watch.expired();
                let target = to..to + piece.len();
                peers[target.clone()].copy_from_slice(&base.in_peer[piece.clone()]);
                let known = base.in_peer[piece.clone()].iter().zip(&base.in_transfer[piece.clone()]);
                for (number, (peer, old)) in numbers[target].iter_mut().zip(known) {
                    *number = moved.number(*peer, *old)?;
                }
                to += piece.len();
            }
        }
        offsets[self.wallet_count()] = to as u32;
        Ok(())
    }

    fn write_pairs(&self, layout: &Layout, out: &mut [u8], watch: &mut impl Watch) -> Result<(), BuildError<S::Error>> {
        let base = &self.base;
        let mut sections = layout.split(out);
        let [offsets, native_ends, peers, assets, counts, values, firsts, lasts, ..] =
            &mut sections[Section::PairOffsets as usize..]
        else {
            return Ok(());
        };
        let offsets: &mut [u32] = bytemuck::cast_slice_mut(offsets);
        let native_ends: &mut [u32] = bytemuck::cast_slice_mut(native_ends);
        let peers: &mut [u32] = bytemuck::cast_slice_mut(peers);
        let assets: &mut [u32] = bytemuck::cast_slice_mut(assets);
        let counts: &mut [u32] = bytemuck::cast_slice_mut(counts);
        let values: &mut [u64] = bytemuck::cast_slice_mut(values);
        let firsts: &mut [i64] = bytemuck::cast_slice_mut(firsts);
        let lasts: &mut [i64] = bytemuck::cast_slice_mut(lasts);
        let mut to = 0;
        for (run, changed) in self.runs(Side::Out) {
            watch.expired();
            if changed {
                let wallet = run.start as usize;
                let pairs = self.pairs.get(&run.start).map_or(&[][..], Vec::as_slice);
                offsets[wallet] = to as u32;
                native_ends[wallet] = (to + pairs.partition_point(|pair| pair.asset == super::NATIVE)) as u32;
                for pair in pairs {
                    peers[to] = pair.peer;
                    assets[to] = pair.asset;
                    counts[to] = pair.count;
                    values[to] = pair.value;
                    firsts[to] = pair.first;
                    lasts[to] = pair.last;
                    to += 1;
                }
                continue;
            }
            let entries = self.entries(base.pair_offsets, &run);
            let by = (to as u32).wrapping_sub(entries.start as u32);
            for wallet in run {
                let wallet = wallet as usize;
                let begin = base.pair_offsets.get(wallet).map_or(entries.end, |begin| *begin as usize);
                let native = base.pair_native_end.get(wallet).map_or(entries.end, |end| *end as usize);
                offsets[wallet] = (begin as u32).wrapping_add(by);
                native_ends[wallet] = (native as u32).wrapping_add(by);
            }
            for piece in pieces(entries) {
                watch.expired();
                let target = to..to + piece.len();
                peers[target.clone()].copy_from_slice(&base.pair_peer[piece.clone()]);
                assets[target.clone()].copy_from_slice(&base.pair_asset[piece.clone()]);
                counts[target.clone()].copy_from_slice(&base.pair_count[piece.clone()]);
                values[target.clone()].copy_from_slice(&base.pair_value[piece.clone()]);
                firsts[target.clone()].copy_from_slice(&base.pair_first[piece.clone()]);
                lasts[target].copy_from_slice(&base.pair_last[piece.clone()]);
                to += piece.len();
            }
        }
        offsets[self.wallet_count()] = to as u32;
        Ok(())
    }
}

/// Entries in pieces that are copied between two looks at the watch.
fn pieces(entries: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    entries.clone().step_by(STEPS).map(move |start| start..entries.end.min(start + STEPS))
}

#[derive(Debug, Clone, Copy)]
enum Entry {
    /// An entry of the base's side.
    Kept(usize),
    /// A number of the overlay.
    Added(u32),
}

/// Where the base's transfers have gone, and where added ones are.
struct Moved<S: Scratch> {
    /// By sender, to be added (wrapping) to its transfers' numbers, where the sender did not change.
    shift: Column<S, u32>,
    /// By sender, 1 where it did: most look-ups end here.
    has_changed: Column<S, u8>,
    /// Of senders that changed: their first number, and the new one of each.
    changed: HashMap<u32, (u32, Vec<u32>)>,
    added: HashMap<u32, u32>,
}

impl<S: Scratch> Moved<S> {
    fn number(&self, from: u32, old: u32) -> Result<u32, Damaged> {
        let sender = from as usize;
        if *self.has_changed.as_slice().get(sender).ok_or(OUT_OF_RANGE)? == 1 {
            let (start, places) = self.changed.get(&from).ok_or(OUT_OF_RANGE)?;
            let place = old.checked_sub(*start).and_then(|place| places.get(place as usize));
            return place.copied().ok_or(OUT_OF_RANGE);
        }
        Ok(old.wrapping_add(*self.shift.as_slice().get(sender).ok_or(OUT_OF_RANGE)?))
    }
}
