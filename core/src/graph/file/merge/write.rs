//! Writes a merged file: runs of the base's entries, and the changed ones between them.

use std::ops::Range;

use super::OUT_OF_RANGE;
use super::plan::{MergePlan, PairPiece};
use crate::graph::budget::Interrupt;
use crate::graph::error::{BuildError, Damaged};
use crate::graph::file::base::Sections;
use crate::graph::file::format::{Provenance, Section};
use crate::graph::file::rows::{ELEMENTS_PER_CHECK, PackedTransfer, compare_positions};
use crate::graph::file::scratch::{Column, Scratch};
use crate::graph::file::sections::{FilePlan, PairWriter, TransferWriter, write_order};
use crate::graph::file::writer::{FileWriter, SectionWriter, Sink};
use crate::graph::types::{AssetId, Side, WalletId, WalletIds};

impl<S: Scratch> MergePlan<'_, S> {
    /// Writes the file.
    ///
    /// # Errors
    /// When there is not enough memory, the file cannot be written, or the base is damaged.
    pub fn write<W: Interrupt, K: Sink<Error = S::Error>>(
        &self,
        provenance: &Provenance,
        sink: &K,
        interrupt: &mut W,
    ) -> Result<(), BuildError<S::Error>> {
        let plan = FilePlan {
            networks: &self.networks,
            wallets: self.wallets,
            tokens: self.tokens,
            wide: &self.wide,
            native_transfers: self.native_transfers,
            transfers: self.transfers,
            receipts: self.receipts,
            pairs: self.pair_count,
        };
        let mut file = plan.begin(&self.scratch, provenance, sink, interrupt)?;
        self.write_ranks(&mut file, interrupt)?;
        let renumbering = self.write_transfers(&mut file, interrupt)?;
        self.write_receipts(&mut file, &renumbering, interrupt)?;
        drop(renumbering);
        self.write_pairs(&mut file, interrupt)?;
        file.seal()
    }

    fn wallet_count(&self) -> usize {
        self.wallets.len()
    }

    fn write_ranks<K: Sink<Error = S::Error>>(
        &self,
        file: &mut FileWriter<'_, K>,
        interrupt: &mut impl Interrupt,
    ) -> Result<(), BuildError<S::Error>> {
        let old = self.base.by_rank;
        let mut new: Vec<(usize, u64, WalletId)> = (0..self.overlay.new_wallets().len())
            .map(|new| {
                let order = self.overlay.new_order(&self.base, new);
                (((order >> 32) as usize).min(old.len()), order, WalletId::new((old.len() + new) as u32))
            })
            .collect();
        new.sort_unstable();
        let mut new = new.into_iter().peekable();
        let mut rank = 0;
        let by_rank = std::iter::from_fn(move || {
            if let Some((_, _, wallet)) = new.next_if(|(before, _, _)| *before <= rank) {
                return Some(wallet);
            }
            let wallet = old.get(rank).copied();
            rank += 1;
            wallet
        });
        write_order(&self.scratch, file, by_rank, self.wallet_count(), interrupt)
    }

    /// Returns all wallets in order: runs without changes on a side, and single wallets with
    /// changes.
    fn runs(&self, side: Side) -> Vec<WalletRun> {
        let mut touched: Vec<WalletId> = self.overlay.touched(side).into_iter().collect();
        touched.sort_unstable();
        let mut runs = Vec::with_capacity(2 * touched.len() + 1);
        let mut from = 0;
        for wallet in touched {
            runs.push(WalletRun { start: from, end: wallet.get(), changed: false });
            from = wallet.get() + 1;
            runs.push(WalletRun { start: wallet.get(), end: from, changed: true });
        }
        runs.push(WalletRun { start: from, end: self.wallet_count() as u32, changed: false });
        runs
    }

    /// Calls `each` for the entries of a changed wallet by time and position: runs of the base's,
    /// and added ones.
    fn merged<E: From<Damaged>>(
        &self,
        wallet: WalletId,
        side: Side,
        mut each: impl FnMut(Entries) -> Result<(), E>,
    ) -> Result<(), E> {
        let range = self.base.transfers(wallet, side);
        let has_removals = self.overlay.removed_count(wallet, side) > 0;
        let mut from = range.start;
        let kept = |from: usize, to: usize, each: &mut dyn FnMut(Entries) -> Result<(), E>| -> Result<(), E> {
            if !has_removals {
                return if from < to { each(Entries::Kept(from..to)) } else { Ok(()) };
            }
            for entry in from..to {
                if !self.overlay.is_removed(self.base.transfer(side, entry)? as u32) {
                    each(Entries::Kept(entry..entry + 1))?;
                }
            }
            Ok(())
        };
        for number in self.overlay.added(wallet, side) {
            let new = &self.added[*number as usize];
            let to = self.first_after(side, from..range.end, new)?;
            kept(from, to, &mut each)?;
            each(Entries::Added(*number))?;
            from = to;
        }
        kept(from, range.end, &mut each)
    }

    /// Returns the first of the base's entries that is later than an added transfer.
    fn first_after(&self, side: Side, range: Range<usize>, new: &PackedTransfer) -> Result<usize, Damaged> {
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
    ) -> Result<Renumbering<S>, BuildError<S::Error>> {
        let base = &self.base;
        let wallets = self.wallet_count();
        let mut renumbering = Renumbering {
            shifts: Column::zeroed(&self.scratch, wallets).map_err(BuildError::Scratch)?,
            changed: Column::zeroed(&self.scratch, wallets.div_ceil(64)).map_err(BuildError::Scratch)?,
            numbers: Column::default(),
            added: vec![0; self.added.len()],
        };
        let (mut offsets, mut out) = (file.open::<u32>(Section::OutOffsets), TransferWriter::open(file));
        let mut to = 0;
        for run in self.runs(Side::Out) {
            interrupt.should_stop();
            if run.changed {
                let wallet = run.first();
                offsets.push(to)?;
                let start = base.transfers(wallet, Side::Out).start;
                let first_number = renumbering.numbers.len();
                renumbering.shifts.as_mut_slice()[wallet.index()] = (first_number as u32).wrapping_sub(start as u32);
                renumbering.changed.as_mut_slice()[wallet.index() / 64] |= 1 << (wallet.index() % 64);
                self.merged(wallet, Side::Out, |entries| -> Result<(), BuildError<S::Error>> {
                    match entries {
                        Entries::Kept(entries) => {
                            // Fill the gap that removed transfers leave.
                            while renumbering.numbers.len() < first_number + entries.start - start {
                                renumbering.numbers.push(&self.scratch, 0).map_err(BuildError::Scratch)?;
                            }
                            for number in (to..).take(entries.len()) {
                                renumbering.numbers.push(&self.scratch, number).map_err(BuildError::Scratch)?;
                            }
                            to += entries.len() as u32;
                            out.copy(base, entries)
                        }
                        Entries::Added(number) => {
                            renumbering.added[number as usize] = to;
                            to += 1;
                            out.push(&self.added[number as usize])
                        }
                    }
                })?;
                continue;
            }
            let entries = run.entries(base.out_offsets);
            let shift = to.wrapping_sub(entries.start as u32);
            for wallet in run.wallets() {
                renumbering.shifts.as_mut_slice()[wallet.index()] = shift;
                offsets.push(offset_of(base.out_offsets, wallet, entries.end).wrapping_add(shift))?;
            }
            to += entries.len() as u32;
            for chunk in chunks(entries) {
                interrupt.should_stop();
                out.copy(base, chunk)?;
            }
        }
        offsets.push(to)?;
        file.close(offsets)?;
        out.close(file)?;
        Ok(renumbering)
    }

    fn write_receipts<K: Sink<Error = S::Error>>(
        &self,
        file: &mut FileWriter<'_, K>,
        renumbering: &Renumbering<S>,
        interrupt: &mut impl Interrupt,
    ) -> Result<(), BuildError<S::Error>> {
        let base = &self.base;
        let mut offsets = file.open::<u32>(Section::InOffsets);
        let (mut senders, mut numbers) = (file.open(Section::InPeer), file.open(Section::InTransfer));
        let mut to = 0_u32;
        for run in self.runs(Side::In) {
            interrupt.should_stop();
            if run.changed {
                offsets.push(to)?;
                self.merged(run.first(), Side::In, |entries| -> Result<(), BuildError<S::Error>> {
                    match entries {
                        Entries::Kept(entries) => {
                            to += entries.len() as u32;
                            senders.extend(&base.in_peer[entries.clone()])?;
                            renumbering.write(base, entries, &mut numbers)
                        }
                        Entries::Added(number) => {
                            to += 1;
                            senders.push(self.added[number as usize].from)?;
                            numbers.push(renumbering.added[number as usize])
                        }
                    }
                })?;
                continue;
            }
            let entries = run.entries(base.in_offsets);
            let shift = to.wrapping_sub(entries.start as u32);
            for wallet in run.wallets() {
                offsets.push(offset_of(base.in_offsets, wallet, entries.end).wrapping_add(shift))?;
            }
            to += entries.len() as u32;
            for chunk in chunks(entries) {
                interrupt.should_stop();
                senders.extend(&base.in_peer[chunk.clone()])?;
                renumbering.write(base, chunk, &mut numbers)?;
            }
        }
        offsets.push(to)?;
        file.close(offsets)?;
        file.close(senders)?;
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
        let (offsets, native_ends) = (offsets.as_mut_slice(), native_ends.as_mut_slice());
        let mut out = PairWriter::open(&self.scratch, file, self.pair_count)?;
        for run in self.runs(Side::Out) {
            interrupt.should_stop();
            if run.changed {
                let wallet = run.first();
                offsets[wallet.index()] = out.written();
                let native_end = base.pairs(wallet, Side::Out).1;
                let mut native_pairs = 0;
                for piece in self.pairs.get(&wallet).map_or(&[][..], Vec::as_slice) {
                    match piece {
                        PairPiece::Kept(pairs) => {
                            native_pairs += pairs.end.min(native_end).saturating_sub(pairs.start);
                            out.copy(base, pairs.clone())?;
                        }
                        PairPiece::New(pair) => {
                            native_pairs += usize::from(pair.asset == AssetId::NATIVE);
                            out.extend(std::slice::from_ref(pair))?;
                        }
                    }
                }
                native_ends[wallet.index()] = offsets[wallet.index()] + native_pairs as u32;
                continue;
            }
            let entries = run.entries(base.pair_offsets);
            let shift = out.written().wrapping_sub(entries.start as u32);
            for wallet in run.wallets() {
                offsets[wallet.index()] = offset_of(base.pair_offsets, wallet, entries.end).wrapping_add(shift);
                native_ends[wallet.index()] = offset_of(base.pair_native_end, wallet, entries.end).wrapping_add(shift);
            }
            for chunk in chunks(entries) {
                interrupt.should_stop();
                out.copy(base, chunk)?;
            }
        }
        offsets[wallets] = out.written();
        out.close(&self.scratch, file, offsets, native_ends, interrupt)
    }
}

/// Consecutive wallets: any number of unchanged ones, or a single changed one.
#[derive(Debug, Clone, Copy)]
struct WalletRun {
    start: u32,
    end: u32,
    changed: bool,
}

impl WalletRun {
    const fn first(self) -> WalletId {
        WalletId::new(self.start)
    }

    const fn wallets(self) -> WalletIds {
        WalletIds::new(self.start, self.end)
    }

    /// Returns the entries that the base has for these wallets; new wallets have none.
    fn entries(self, offsets: &[u32]) -> Range<usize> {
        let offset = |wallet: u32| offsets.get(wallet as usize).or(offsets.last()).map_or(0, |offset| *offset as usize);
        offset(self.start)..offset(self.end)
    }
}

/// Entries of a changed wallet.
#[derive(Debug, Clone)]
enum Entries {
    /// Entries of the base.
    Kept(Range<usize>),
    /// Number of a transfer of the overlay.
    Added(u32),
}

/// Returns the offset of a wallet in the base; for a new wallet, the end of its run.
fn offset_of(offsets: &[u32], wallet: WalletId, end: usize) -> u32 {
    offsets.get(wallet.index()).copied().unwrap_or(end as u32)
}

/// Splits entries into pieces that are copied between two cancellation checks.
fn chunks(entries: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    entries.clone().step_by(ELEMENTS_PER_CHECK).map(move |start| start..entries.end.min(start + ELEMENTS_PER_CHECK))
}

/// New numbers of transfers.
struct Renumbering<S: Scratch> {
    /// By sender, a wrapping difference to the number of each of its transfers in the base. The
    /// result is the new number, or for a changed sender an index into `numbers`.
    shifts: Column<S, u32>,
    /// By sender, a bit for a changed one. Bits stay in the processor's cache.
    changed: Column<S, u64>,
    /// New numbers of the transfers of changed senders.
    numbers: Column<S, u32>,
    /// New numbers of the transfers of the overlay.
    added: Vec<u32>,
}

impl<S: Scratch> Renumbering<S> {
    /// Writes the new numbers of receipts.
    fn write<K: Sink<Error = S::Error>>(
        &self,
        base: &Sections<'_>,
        receipts: Range<usize>,
        out: &mut SectionWriter<'_, K, u32>,
    ) -> Result<(), BuildError<S::Error>> {
        let (shifts, changed, numbers) = (self.shifts.as_slice(), self.changed.as_slice(), self.numbers.as_slice());
        for (sender, number) in base.in_peer[receipts.clone()].iter().zip(&base.in_transfer[receipts]) {
            let sender = sender.index();
            let shifted = number.wrapping_add(*shifts.get(sender).ok_or(OUT_OF_RANGE)?);
            let has_changed = changed.get(sender / 64).is_some_and(|bits| bits >> (sender % 64) & 1 == 1);
            out.push(if has_changed { *numbers.get(shifted as usize).ok_or(OUT_OF_RANGE)? } else { shifted })?;
        }
        Ok(())
    }
}
