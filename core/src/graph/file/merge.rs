//! A base and the changes since -> the file of a new base, without looking at any table.
//!
//! Wallets keep their numbers, new ones come behind. What belongs to wallets without a change is copied in runs; receipts name
//! transfers by number, so those are moved along. O(file), at the speed of copying.

use std::collections::{BTreeMap, HashMap};
use std::ops::{Deref, Range};

use bytemuck::Zeroable;

use crate::graph::budget::Interrupt;
use crate::graph::error::BuildError;
use crate::graph::error::Damaged;
use crate::graph::file::base::{Base, Sections};
use crate::graph::file::build::WideStore;
use crate::graph::file::format::{Provenance, Section};
use crate::graph::file::names::{Extended, MOST};
use crate::graph::file::overlay::Overlay;
use crate::graph::file::packed::{TransferKind, pack_position, pack_value};
use crate::graph::file::rows::{Packed, Pair, PairSum, STEPS, compare_positions};
use crate::graph::file::scratch::{Column, Scratch};
use crate::graph::file::sections::{
    NameSections, PairSide, PairWriter, TOKEN_NAMES, TransferWriter, WALLET_NAMES, meta_bytes, sizes, write_in_pairs,
    write_names, write_order,
};
use crate::graph::file::writer::{FileWriter, SectionWriter, Sink};
use crate::graph::types::{AssetId, Side, WalletId, WalletIds};

const OUT_OF_RANGE: Damaged = Damaged { what: "number out of range" };

/// A base and an overlay, ready to be written as one.
pub struct Merge<'m, S: Scratch> {
    scratch: S,
    base: Sections<'m>,
    overlay: &'m Overlay,
    networks: Vec<String>,
    wallets: Extended<'m>,
    tokens: Extended<'m>,
    wide: WideStore<S>,
    /// By number of the added transfer; zeros for one that is gone again.
    added: Vec<Packed>,
    /// Pairs of the wallets whose sent transfers changed.
    pairs: HashMap<WalletId, Vec<PairPiece>>,
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
    pub fn plan<B: Deref<Target = [u8]>, W: Interrupt>(
        scratch: S,
        base: &'m Base<B>,
        overlay: &'m Overlay,
        interrupt: &mut W,
    ) -> Result<Self, BuildError<S::Error>> {
        let networks = base.networks().iter().chain(overlay.new_networks()).cloned().collect();
        let mut native = base.native_transfers();
        let base = base.sections();
        base.check_offsets(interrupt)?;
        base.check_pairs(Side::Out, interrupt)?;
        let wallets = Extended::new(base.wallets, overlay.new_wallets());
        let tokens = Extended::new(base.tokens, overlay.new_tokens());
        if wallets.len() as u64 > MOST {
            return Err(BuildError::TooMany { what: "wallets", limit: MOST });
        }
        let mut wide = WideStore::from(&scratch, &base.wide).map_err(BuildError::Scratch)?;
        let mut added = vec![Packed::zeroed(); overlay.numbers()];
        let (mut transfers, mut receipts) = (base.out_peer.len(), base.in_peer.len());
        for (number, one) in overlay.all_added() {
            let mut tables = wide.growing(&scratch);
            let value = pack_value(one.value, &mut tables).map_err(BuildError::Scratch)?;
            let position = pack_position(one.position, &mut tables).map_err(BuildError::Scratch)?;
            let kind = TransferKind::new(one.asset, one.status);
            added[number as usize] = Packed::new(one.time, value, position, one.from, one.to, kind);
            transfers += 1;
            receipts += usize::from(one.to != WalletId::NONE);
            native += u64::from(one.asset == AssetId::NATIVE);
        }
        for number in overlay.all_removed() {
            let number = number as usize;
            let has_receiver = *base.out_peer.get(number).ok_or(OUT_OF_RANGE)? != WalletId::NONE;
            let is_native = base.out_kind[number].asset() == AssetId::NATIVE;
            transfers -= 1;
            receipts = receipts.checked_sub(usize::from(has_receiver)).ok_or(OUT_OF_RANGE)?;
            native = native.checked_sub(u64::from(is_native)).ok_or(OUT_OF_RANGE)?;
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
        let thinned = overlay.thinned_by_sender();
        for wallet in overlay.touched(Side::Out) {
            interrupt.should_stop();
            let pieces = merge.merged_pairs(wallet, thinned.get(&wallet).map_or(&[], Vec::as_slice))?;
            let before = merge.base.pairs(wallet, Side::Out).0.len();
            merge.pair_count = merge.pair_count + pieces.iter().map(PairPiece::len).sum::<usize>() - before;
            merge.pairs.insert(wallet, pieces);
        }
        Ok(merge)
    }

    /// A wallet's pairs by asset and receiver, with the changes. `thinned` are those of the base's that lost a transfer.
    fn merged_pairs(
        &mut self,
        wallet: WalletId,
        thinned: &[(AssetId, WalletId)],
    ) -> Result<Vec<PairPiece>, BuildError<S::Error>> {
        let base = &self.base;
        // what is left of pairs that lost a transfer, and what came, by asset and receiver
        let mut left: BTreeMap<(AssetId, WalletId), PairSum> =
            thinned.iter().map(|key| (*key, PairSum::EMPTY)).collect();
        if !left.is_empty() {
            for number in base.transfers(wallet, Side::Out) {
                let key = (base.out_kind[number].asset(), base.out_peer[number]);
                if let Some(sum) = left.get_mut(&key)
                    && !self.overlay.went(number as u32)
                {
                    sum.add(base.out_time[number], base.wide.value(base.out_value[number])?);
                }
            }
        }
        let mut changed: BTreeMap<(AssetId, WalletId), PairSum> =
            left.keys().map(|key| (*key, PairSum::EMPTY)).collect();
        for number in self.overlay.came(wallet, Side::Out) {
            if let Some(one) = self.overlay.added(*number).filter(|one| one.to != WalletId::NONE) {
                changed.entry((one.asset, one.to)).or_insert(PairSum::EMPTY).add(one.time, one.value);
            }
        }
        let range = base.pairs(wallet, Side::Out).0;
        let key_of = |number: usize| (base.pair_asset[number], base.pair_peer[number]);
        let mut pieces = Vec::with_capacity(2 * changed.len() + 1);
        let mut from = range.start;
        let mut tables = self.wide.growing(&self.scratch);
        for (key, mut sum) in changed {
            let to = first_from(from..range.end, |number| key_of(number) >= key);
            if from < to {
                pieces.push(PairPiece::Kept(from..to));
            }
            from = to;
            let mut former = 0;
            if to < range.end && key_of(to) == key {
                from += 1;
                former = base.pair_value[to];
                sum.join(&left.remove(&key).unwrap_or(PairSum {
                    count: base.pair_count[to],
                    first: base.pair_first[to],
                    last: base.pair_last[to],
                    // BEYOND cannot be read, and stays beyond
                    value: base.wide.value(base.pair_value[to]).ok(),
                }));
            }
            if sum.count > 0 {
                let (asset, peer) = key;
                pieces.push(PairPiece::New(sum.pack(peer, asset, former, &mut tables).map_err(BuildError::Scratch)?));
            }
        }
        if from < range.end {
            pieces.push(PairPiece::Kept(from..range.end));
        }
        Ok(pieces)
    }

    /// Both dictionaries.
    fn names(&self) -> [(Extended<'m>, NameSections); 2] {
        [(self.wallets, WALLET_NAMES), (self.tokens, TOKEN_NAMES)]
    }

    fn wallet_count(&self) -> usize {
        self.wallets.len()
    }

    /// Writes the file.
    ///
    /// # Errors
    /// When there is no memory or no place for the file, or the base does not hold together.
    pub fn write<W: Interrupt, K: Sink<Error = S::Error>>(
        &self,
        provenance: &Provenance,
        sink: &K,
        interrupt: &mut W,
    ) -> Result<(), BuildError<S::Error>> {
        let meta = meta_bytes(provenance, &self.networks, self.native)?;
        let names = self.names();
        let mut sizes = sizes(&meta, &names, self.transfers, self.receipts, self.pair_count);
        self.wide.sizes(&mut sizes);
        let mut file = FileWriter::begin(sink, &sizes)?;
        file.write(Section::Meta, &meta, interrupt)?;
        write_names(&self.scratch, &mut file, &names, interrupt)?;
        self.write_ranks(&mut file, interrupt)?;
        self.wide.write(&mut file, interrupt)?;
        let moved = self.write_transfers(&mut file, interrupt)?;
        self.write_receipts(&mut file, &moved, interrupt)?;
        drop(moved);
        self.write_pairs(&mut file, interrupt)?;
        file.seal()
    }

    fn write_ranks<K: Sink<Error = S::Error>>(
        &self,
        file: &mut FileWriter<'_, K>,
        interrupt: &mut impl Interrupt,
    ) -> Result<(), BuildError<S::Error>> {
        let known = self.base.by_rank;
        let mut new: Vec<(usize, u64, WalletId)> = (0..self.overlay.new_wallets().len())
            .map(|new| {
                let order = self.overlay.new_order(&self.base, new);
                (((order >> 32) as usize).min(known.len()), order, WalletId::new((known.len() + new) as u32))
            })
            .collect();
        new.sort_unstable();
        let mut new = new.into_iter().peekable();
        let mut at = 0;
        let by_rank = std::iter::from_fn(move || {
            if let Some((_, _, wallet)) = new.next_if(|(before, _, _)| *before <= at) {
                return Some(wallet);
            }
            let wallet = known.get(at).copied();
            at += 1;
            wallet
        });
        write_order(&self.scratch, file, by_rank, self.wallet_count(), interrupt)
    }

    /// Runs of wallets whose side did not change, and those between that did, in order: `(wallets, changed)`.
    fn runs(&self, side: Side) -> Vec<(Run, bool)> {
        let mut touched: Vec<WalletId> = self.overlay.touched(side).into_iter().collect();
        touched.sort_unstable();
        let mut runs = Vec::with_capacity(2 * touched.len() + 1);
        let mut from = WalletId::new(0);
        for wallet in touched {
            let next = wallet.get() + 1;
            runs.push((Run { start: from, end: wallet }, false));
            from = WalletId::new(next);
            runs.push((Run { start: wallet, end: from }, true));
        }
        runs.push((Run { start: from, end: WalletId::new(self.wallet_count() as u32) }, false));
        runs
    }

    /// The entries that the base has for a run of wallets; wallets it does not know have none.
    fn entries(&self, offsets: &[u32], wallets: &Run) -> Range<usize> {
        let at = |wallet: WalletId| offsets.get(wallet.index()).or(offsets.last()).map_or(0, |offset| *offset as usize);
        at(wallets.start)..at(wallets.end)
    }

    /// Calls `each` for a changed wallet's entries in order of time and position: runs of the base's, and added ones.
    fn merged<E: From<Damaged>>(
        &self,
        wallet: WalletId,
        side: Side,
        mut each: impl FnMut(Entries) -> Result<(), E>,
    ) -> Result<(), E> {
        let range = self.base.transfers(wallet, side);
        let lost = self.overlay.lost(wallet, side) > 0;
        let mut from = range.start;
        let kept = |from: usize, to: usize, each: &mut dyn FnMut(Entries) -> Result<(), E>| -> Result<(), E> {
            if !lost {
                return if from < to { each(Entries::Kept(from..to)) } else { Ok(()) };
            }
            for entry in from..to {
                if !self.overlay.went(self.base.transfer(side, entry)? as u32) {
                    each(Entries::Kept(entry..entry + 1))?;
                }
            }
            Ok(())
        };
        for number in self.overlay.came(wallet, side) {
            let new = &self.added[*number as usize];
            let to = self.first_after(side, from..range.end, new)?;
            kept(from, to, &mut each)?;
            each(Entries::Added(*number))?;
            from = to;
        }
        kept(from, range.end, &mut each)
    }

    /// The first of the base's entries that is later than an added transfer.
    fn first_after(&self, side: Side, range: Range<usize>, new: &Packed) -> Result<usize, Damaged> {
        let base = &self.base;
        let wide = self.wide.slices();
        let (mut low, mut high) = (range.start, range.end);
        while low < high {
            let middle = low + (high - low) / 2;
            let number = base.transfer(side, middle)?;
            let time = *base.out_time.get(number).ok_or(OUT_OF_RANGE)?;
            let later = new.time < time
                || (new.time == time && compare_positions(new.position, base.out_position[number], &wide).is_lt());
            if later {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Ok(low)
    }

    fn write_transfers<K: Sink<Error = S::Error>>(
        &self,
        file: &mut FileWriter<'_, K>,
        interrupt: &mut impl Interrupt,
    ) -> Result<Moved<S>, BuildError<S::Error>> {
        let base = &self.base;
        let wallets = self.wallet_count();
        let mut moved = Moved {
            by: Column::zeroed(&self.scratch, wallets).map_err(BuildError::Scratch)?,
            changed: Column::zeroed(&self.scratch, wallets.div_ceil(64)).map_err(BuildError::Scratch)?,
            places: Column::default(),
            added: vec![0; self.added.len()],
        };
        let (mut offsets, mut out) = (file.open::<u32>(Section::OutOffsets), TransferWriter::open(file));
        let mut to = 0;
        for (run, changed) in self.runs(Side::Out) {
            interrupt.should_stop();
            if changed {
                offsets.push(to)?;
                let start = base.transfers(run.start, Side::Out).start;
                let first_place = moved.places.len();
                moved.by.as_mut_slice()[run.start.index()] = (first_place as u32).wrapping_sub(start as u32);
                moved.changed.as_mut_slice()[run.start.index() / 64] |= 1 << (run.start.index() % 64);
                self.merged(run.start, Side::Out, |entries| -> Result<(), BuildError<S::Error>> {
                    match entries {
                        Entries::Kept(entries) => {
                            // those that went before it have no place
                            while moved.places.len() < first_place + entries.start - start {
                                moved.places.push(&self.scratch, 0).map_err(BuildError::Scratch)?;
                            }
                            for place in (to..).take(entries.len()) {
                                moved.places.push(&self.scratch, place).map_err(BuildError::Scratch)?;
                            }
                            to += entries.len() as u32;
                            out.copy(base, entries)
                        }
                        Entries::Added(number) => {
                            moved.added[number as usize] = to;
                            to += 1;
                            out.push(&self.added[number as usize])
                        }
                    }
                })?;
                continue;
            }
            let entries = self.entries(base.out_offsets, &run);
            let by = to.wrapping_sub(entries.start as u32);
            for wallet in run.wallets() {
                moved.by.as_mut_slice()[wallet.index()] = by;
                offsets.push(begin(base.out_offsets, wallet, entries.end).wrapping_add(by))?;
            }
            to += entries.len() as u32;
            for piece in pieces(entries) {
                interrupt.should_stop();
                out.copy(base, piece)?;
            }
        }
        offsets.push(to)?;
        file.close(offsets)?;
        out.close(file)?;
        Ok(moved)
    }

    fn write_receipts<K: Sink<Error = S::Error>>(
        &self,
        file: &mut FileWriter<'_, K>,
        moved: &Moved<S>,
        interrupt: &mut impl Interrupt,
    ) -> Result<(), BuildError<S::Error>> {
        let base = &self.base;
        let mut offsets = file.open::<u32>(Section::InOffsets);
        let (mut peers, mut numbers) = (file.open(Section::InPeer), file.open(Section::InTransfer));
        let mut to = 0_u32;
        for (run, changed) in self.runs(Side::In) {
            interrupt.should_stop();
            if changed {
                offsets.push(to)?;
                self.merged(run.start, Side::In, |entries| -> Result<(), BuildError<S::Error>> {
                    match entries {
                        Entries::Kept(entries) => {
                            to += entries.len() as u32;
                            peers.extend(&base.in_peer[entries.clone()])?;
                            moved.numbers(base, entries, &mut numbers)
                        }
                        Entries::Added(number) => {
                            to += 1;
                            peers.push(self.added[number as usize].from)?;
                            numbers.push(moved.added[number as usize])
                        }
                    }
                })?;
                continue;
            }
            let entries = self.entries(base.in_offsets, &run);
            let by = to.wrapping_sub(entries.start as u32);
            for wallet in run.wallets() {
                offsets.push(begin(base.in_offsets, wallet, entries.end).wrapping_add(by))?;
            }
            to += entries.len() as u32;
            for piece in pieces(entries) {
                interrupt.should_stop();
                peers.extend(&base.in_peer[piece.clone()])?;
                moved.numbers(base, piece, &mut numbers)?;
            }
        }
        offsets.push(to)?;
        file.close(offsets)?;
        file.close(peers)?;
        file.close(numbers)
    }

    fn write_pairs<K: Sink<Error = S::Error>>(
        &self,
        file: &mut FileWriter<'_, K>,
        interrupt: &mut impl Interrupt,
    ) -> Result<(), BuildError<S::Error>> {
        let base = &self.base;
        let wallets = self.wallet_count();
        let mut offsets = Column::<S, u32>::zeroed(&self.scratch, wallets + 1).map_err(BuildError::Scratch)?;
        let mut native_ends = Column::<S, u32>::zeroed(&self.scratch, wallets).map_err(BuildError::Scratch)?;
        let mut sides = Column::<S, PairSide>::zeroed(&self.scratch, self.pair_count).map_err(BuildError::Scratch)?;
        let (offsets, native_ends, side) = (offsets.as_mut_slice(), native_ends.as_mut_slice(), sides.as_mut_slice());
        let mut out = PairWriter::open(file);
        let mut to = 0;
        for (run, changed) in self.runs(Side::Out) {
            interrupt.should_stop();
            if changed {
                let wallet = run.start.index();
                offsets[wallet] = to as u32;
                let native_end = base.pairs(run.start, Side::Out).1;
                let mut native = 0;
                for piece in self.pairs.get(&run.start).map_or(&[][..], Vec::as_slice) {
                    match piece {
                        PairPiece::Kept(pairs) => {
                            native += pairs.end.min(native_end).saturating_sub(pairs.start);
                            copy_sides(base, pairs, &mut side[to..]);
                            out.copy(base, pairs.clone())?;
                        }
                        PairPiece::New(pair) => {
                            native += usize::from(pair.asset == AssetId::NATIVE);
                            side[to] = PairSide { peer: pair.peer, asset: pair.asset };
                            out.push(pair)?;
                        }
                    }
                    to += piece.len();
                }
                native_ends[wallet] = offsets[wallet] + native as u32;
                continue;
            }
            let entries = self.entries(base.pair_offsets, &run);
            let by = (to as u32).wrapping_sub(entries.start as u32);
            for wallet in run.wallets() {
                offsets[wallet.index()] = begin(base.pair_offsets, wallet, entries.end).wrapping_add(by);
                native_ends[wallet.index()] = begin(base.pair_native_end, wallet, entries.end).wrapping_add(by);
            }
            for piece in pieces(entries) {
                interrupt.should_stop();
                copy_sides(base, &piece, &mut side[to..]);
                to += piece.len();
                out.copy(base, piece)?;
            }
        }
        offsets[wallets] = to as u32;
        out.close(file)?;
        file.write(Section::PairOffsets, offsets, interrupt)?;
        file.write(Section::PairNativeEnd, native_ends, interrupt)?;
        write_in_pairs(&self.scratch, file, offsets, native_ends, sides.as_slice(), interrupt)
    }
}

/// Consecutive wallets.
#[derive(Debug, Clone, Copy)]
struct Run {
    start: WalletId,
    end: WalletId,
}

impl Run {
    const fn wallets(self) -> WalletIds {
        WalletIds::new(self.start.get(), self.end.get())
    }
}

/// What becomes of a wallet's pairs.
#[derive(Debug, Clone)]
enum PairPiece {
    /// Of the base, by number.
    Kept(Range<usize>),
    /// In the place of one of the base, or new.
    New(Pair),
}

impl PairPiece {
    const fn len(&self) -> usize {
        match self {
            Self::Kept(pairs) => pairs.end - pairs.start,
            Self::New(_) => 1,
        }
    }
}

fn copy_sides(base: &Sections<'_>, pairs: &Range<usize>, out: &mut [PairSide]) {
    let known = base.pair_peer[pairs.clone()].iter().zip(&base.pair_asset[pairs.clone()]);
    for (side, (peer, asset)) in out.iter_mut().zip(known) {
        *side = PairSide { peer: *peer, asset: *asset };
    }
}

/// The first number of a range for which something holds that holds for all that follow.
fn first_from(range: Range<usize>, holds: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (range.start, range.end);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

/// Where a wallet's entries begin in the base; at the end of the run for one that it does not know.
fn begin(offsets: &[u32], wallet: WalletId, end: usize) -> u32 {
    offsets.get(wallet.index()).copied().unwrap_or(end as u32)
}

/// Entries in pieces that are copied between two looks at the interrupt.
fn pieces(entries: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    entries.clone().step_by(STEPS).map(move |start| start..entries.end.min(start + STEPS))
}

#[derive(Debug, Clone)]
enum Entries {
    /// Of the base's side.
    Kept(Range<usize>),
    /// A number of the overlay.
    Added(u32),
}

/// Where the base's transfers have gone, and where added ones are.
struct Moved<S: Scratch> {
    /// By sender, to be added (wrapping) to its transfers' numbers: that is the new number, or for one that changed its place in
    /// `places`.
    by: Column<S, u32>,
    /// By sender, a bit for one that changed: all of them stay in the cache.
    changed: Column<S, u64>,
    /// Of transfers of senders that changed, the new numbers.
    places: Column<S, u32>,
    added: Vec<u32>,
}

impl<S: Scratch> Moved<S> {
    /// Writes the new numbers of receipts.
    fn numbers<K: Sink<Error = S::Error>>(
        &self,
        base: &Sections<'_>,
        receipts: Range<usize>,
        out: &mut SectionWriter<'_, K, u32>,
    ) -> Result<(), BuildError<S::Error>> {
        let (by, changed, places) = (self.by.as_slice(), self.changed.as_slice(), self.places.as_slice());
        for (peer, old) in base.in_peer[receipts.clone()].iter().zip(&base.in_transfer[receipts]) {
            let sender = peer.index();
            let moved = old.wrapping_add(*by.get(sender).ok_or(OUT_OF_RANGE)?);
            let has_changed = changed.get(sender / 64).is_some_and(|bits| bits >> (sender % 64) & 1 == 1);
            out.push(if has_changed { *places.get(moved as usize).ok_or(OUT_OF_RANGE)? } else { moved })?;
        }
        Ok(())
    }
}
