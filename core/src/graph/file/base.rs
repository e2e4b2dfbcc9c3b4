//! A graph file: opened in constant time, read in place.

use std::ops::{Deref, Range};

use crate::graph::budget::Interrupt;
use crate::graph::error::Damaged;
use crate::graph::file::format::{Meta, Provenance, Section, SectionTable};
use crate::graph::file::names::Names;
use crate::graph::file::packed::{BEYOND, TransferKind, WideSlices};
use crate::graph::file::rows::PairSums;
use crate::graph::types::{AssetId, Side, Status, WalletId};

/// Transfers of a wallet that are read between two polls.
pub(crate) const POLL_INTERVAL: usize = 1 << 13;

/// An opened graph file. `B` holds its bytes: mapped, or in memory.
#[derive(Debug, Clone)]
pub struct Base<B> {
    bytes: B,
    table: SectionTable,
    meta: Meta,
}

impl<B: Deref<Target = [u8]>> Base<B> {
    /// Opens a file after checking its header, the sizes of its sections, and its provenance.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn open(bytes: B) -> Result<Self, Damaged> {
        let table = SectionTable::read(&bytes)?;
        let meta: Meta = serde_json::from_slice(table.slice(&bytes, Section::Meta))
            .map_err(|_| Damaged { what: "provenance cannot be read" })?;
        let base = Self { bytes, table, meta };
        base.sections().check_sizes()?;
        Ok(base)
    }

    /// Checks the whole file: its checksum, every name, and every reference. O(file).
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn verify(&self, interrupt: &mut impl Interrupt) -> Result<(), Damaged> {
        self.table.verify_body(&self.bytes, interrupt)?;
        self.sections().check_references(interrupt)
    }

    /// Returns the origin of the file.
    #[must_use]
    pub const fn provenance(&self) -> &Provenance {
        &self.meta.provenance
    }

    pub(crate) fn networks(&self) -> &[String] {
        &self.meta.networks
    }

    /// Returns the number of transfers of native coins and tokens.
    #[must_use]
    pub fn transfers(&self) -> u64 {
        self.sections().out_peer.len() as u64
    }

    /// Returns the number of transfers of native coins.
    #[must_use]
    pub const fn native_transfers(&self) -> u64 {
        self.meta.native_transfers
    }

    /// Returns the number of pairs: wallets connected by transfers of one asset in one direction.
    #[must_use]
    pub fn pairs(&self) -> u64 {
        self.sections().pair_peer.len() as u64
    }

    /// Returns the end of the ids of wallets, which are dense from 0. The first is
    /// [`WalletId::NO_SENDER`].
    #[must_use]
    pub fn wallets(&self) -> u32 {
        self.sections().wallets.len() as u32
    }

    /// Returns the size of the file in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the bytes of the file that addresses of wallets and tokens take.
    #[must_use]
    pub fn dictionary_size(&self) -> usize {
        use Section as S;
        [S::WalletText, S::WalletTextOffsets, S::WalletNetworks, S::WalletSlots, S::WalletRank, S::WalletByRank]
            .into_iter()
            .chain([S::TokenText, S::TokenTextOffsets, S::TokenNetworks, S::TokenSlots])
            .map(|section| self.table.bytes(section))
            .sum()
    }

    /// Returns what holds the bytes.
    #[must_use]
    pub const fn holder(&self) -> &B {
        &self.bytes
    }

    /// Returns the bytes of the file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn sections(&self) -> Sections<'_> {
        Sections::of(&self.bytes, &self.table, self.meta.names_seed)
    }
}

/// The arrays of a file; see [`Section`] for their contents.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sections<'a> {
    pub wallets: Names<'a>,
    pub rank: &'a [u32],
    pub by_rank: &'a [WalletId],
    pub tokens: Names<'a>,
    pub out_offsets: &'a [u32],
    pub out_peer: &'a [WalletId],
    pub out_time: &'a [i64],
    pub out_value: &'a [u64],
    pub out_kind: &'a [TransferKind],
    pub out_position: &'a [u64],
    pub in_offsets: &'a [u32],
    pub in_peer: &'a [WalletId],
    pub in_transfer: &'a [u32],
    pub pair_offsets: &'a [u32],
    pub pair_native_end: &'a [u32],
    pub pair_peer: &'a [WalletId],
    pub pair_asset: &'a [AssetId],
    pub pair_count: &'a [u32],
    pub pair_value: &'a [u64],
    pub pair_first: &'a [i64],
    pub pair_last: &'a [i64],
    pub in_pair_offsets: &'a [u32],
    pub in_pair_native_end: &'a [u32],
    pub in_pair_peer: &'a [WalletId],
    pub in_pair_number: &'a [u32],
    pub wide: WideSlices<'a>,
}

#[inline]
fn entries(offsets: &[u32], wallet: WalletId) -> Range<usize> {
    let wallet = wallet.index();
    match offsets.get(wallet..wallet.saturating_add(2)) {
        Some([start, end]) => *start as usize..*end as usize,
        _ => 0..0,
    }
}

impl<'a> Sections<'a> {
    fn of(bytes: &'a [u8], table: &SectionTable, seed: u64) -> Self {
        use Section as S;
        Self {
            wallets: Names {
                text: table.slice(bytes, S::WalletText),
                offsets: table.slice(bytes, S::WalletTextOffsets),
                networks: table.slice(bytes, S::WalletNetworks),
                slots: table.slice(bytes, S::WalletSlots),
                seed,
            },
            rank: table.slice(bytes, S::WalletRank),
            by_rank: table.slice(bytes, S::WalletByRank),
            tokens: Names {
                text: table.slice(bytes, S::TokenText),
                offsets: table.slice(bytes, S::TokenTextOffsets),
                networks: table.slice(bytes, S::TokenNetworks),
                slots: table.slice(bytes, S::TokenSlots),
                seed,
            },
            out_offsets: table.slice(bytes, S::OutOffsets),
            out_peer: table.slice(bytes, S::OutPeer),
            out_time: table.slice(bytes, S::OutTime),
            out_value: table.slice(bytes, S::OutValue),
            out_kind: table.slice(bytes, S::OutKind),
            out_position: table.slice(bytes, S::OutPosition),
            in_offsets: table.slice(bytes, S::InOffsets),
            in_peer: table.slice(bytes, S::InPeer),
            in_transfer: table.slice(bytes, S::InTransfer),
            pair_offsets: table.slice(bytes, S::PairOffsets),
            pair_native_end: table.slice(bytes, S::PairNativeEnd),
            pair_peer: table.slice(bytes, S::PairPeer),
            pair_asset: table.slice(bytes, S::PairAsset),
            pair_count: table.slice(bytes, S::PairCount),
            pair_value: table.slice(bytes, S::PairValue),
            pair_first: table.slice(bytes, S::PairFirst),
            pair_last: table.slice(bytes, S::PairLast),
            in_pair_offsets: table.slice(bytes, S::InPairOffsets),
            in_pair_native_end: table.slice(bytes, S::InPairNativeEnd),
            in_pair_peer: table.slice(bytes, S::InPairPeer),
            in_pair_number: table.slice(bytes, S::InPairNumber),
            wide: WideSlices {
                values_128: table.slice(bytes, S::Values128),
                values_256: table.slice(bytes, S::Values256),
                positions: table.slice(bytes, S::Positions),
            },
        }
    }

    /// Returns the entries of a wallet among the transfers or receipts.
    pub(crate) fn transfers(&self, wallet: WalletId, side: Side) -> Range<usize> {
        entries(if side == Side::Out { self.out_offsets } else { self.in_offsets }, wallet)
    }

    /// Returns the entries of a wallet among the pairs of a side.
    #[inline]
    pub(crate) fn all_pairs(&self, wallet: WalletId, side: Side) -> Range<usize> {
        entries(if side == Side::Out { self.pair_offsets } else { self.in_pair_offsets }, wallet)
    }

    /// Returns the entries of a wallet among the pairs of a side, and the end of the native coin's.
    pub(crate) fn pairs(&self, wallet: WalletId, side: Side) -> (Range<usize>, usize) {
        let ends = if side == Side::Out { self.pair_native_end } else { self.in_pair_native_end };
        let range = self.all_pairs(wallet, side);
        let end = ends.get(wallet.index()).map_or(range.start, |end| *end as usize);
        (range.clone(), end.clamp(range.start, range.end.max(range.start)))
    }

    /// Returns the number of the transfer behind an entry of a side.
    pub(crate) fn transfer(&self, side: Side, entry: usize) -> Result<usize, Damaged> {
        match side {
            Side::Out => Ok(entry),
            Side::In => self
                .in_transfer
                .get(entry)
                .map(|number| *number as usize)
                .ok_or(Damaged { what: "receipt out of range" }),
        }
    }

    /// Adds a wallet's transfers to the sums of their pairs, as far as `sums` has them, without
    /// those for which `is_left_out` holds. O(transfers of the wallet); `poll` is called now and
    /// then.
    pub(crate) fn sum_pairs(
        &self,
        wallet: WalletId,
        side: Side,
        sums: &mut PairSums,
        is_left_out: impl Fn(u32) -> bool,
        poll: &mut dyn FnMut(),
    ) -> Result<(), Damaged> {
        const OUT_OF_RANGE: Damaged = Damaged { what: "transfers of a pair out of range" };
        let peers = if side == Side::Out { self.out_peer } else { self.in_peer };
        for (step, entry) in self.transfers(wallet, side).enumerate() {
            if step % POLL_INTERVAL == POLL_INTERVAL - 1 {
                poll();
            }
            let peer = *peers.get(entry).ok_or(OUT_OF_RANGE)?;
            let number = self.transfer(side, entry)?;
            let kind = *self.out_kind.get(number).ok_or(OUT_OF_RANGE)?;
            if kind.status() != Status::Failed
                && let Some(sum) = sums.get_mut(&(kind.asset(), peer))
                && !is_left_out(number as u32)
            {
                sum.add(self.out_time[number], self.wide.value(self.out_value[number])?);
            }
        }
        Ok(())
    }

    /// Checks that the lengths of all arrays agree.
    fn check_sizes(&self) -> Result<(), Damaged> {
        let wallets = self.wallets.len();
        let (transfers, receipts, pairs) = (self.out_peer.len(), self.in_peer.len(), self.pair_peer.len());
        let offsets = [self.out_offsets, self.in_offsets, self.pair_offsets, self.in_pair_offsets];
        let ends = [transfers, receipts, pairs, pairs];
        let consistent = [self.wallets, self.tokens]
            .iter()
            .all(|names| names.offsets.last().is_some_and(|end| *end == names.text.len() as u64))
            && self.wallets.offsets.len() == wallets + 1
            && self.wallets.slots.len().is_power_of_two()
            && self.tokens.offsets.len() == self.tokens.networks.len() + 1
            && self.tokens.slots.len().is_power_of_two()
            && self.by_rank.len() == wallets
            && [self.rank, self.pair_native_end, self.in_pair_native_end].iter().all(|array| array.len() == wallets)
            && offsets.iter().zip(ends).all(|(offsets, end)| {
                offsets.len() == wallets + 1 && offsets.last().is_some_and(|last| *last as usize == end)
            })
            && [self.out_time.len(), self.out_value.len(), self.out_kind.len(), self.out_position.len()]
                == [transfers; 4]
            && self.in_transfer.len() == receipts
            && [self.pair_asset.len(), self.pair_count.len(), self.pair_value.len()] == [pairs; 3]
            && [self.pair_first.len(), self.pair_last.len()] == [pairs; 2]
            && [self.in_pair_peer.len(), self.in_pair_number.len()] == [pairs; 2];
        if consistent { Ok(()) } else { Err(Damaged { what: "lengths of sections do not agree" }) }
    }

    /// Checks that the entries of every wallet lie within their array.
    pub(crate) fn check_offsets(&self, interrupt: &mut impl Interrupt) -> Result<(), Damaged> {
        for offsets in [self.out_offsets, self.in_offsets, self.pair_offsets, self.in_pair_offsets] {
            interrupt.should_stop();
            if offsets.first() != Some(&0) || !offsets.is_sorted() {
                return Err(Damaged { what: "offsets are not in ascending order" });
            }
        }
        Ok(())
    }

    /// Checks that the pairs of a side name wallets, and that those of the native coin end within
    /// their wallet's.
    pub(crate) fn check_pairs(&self, side: Side, interrupt: &mut impl Interrupt) -> Result<(), Damaged> {
        let (offsets, native_ends, peers) = match side {
            Side::Out => (self.pair_offsets, self.pair_native_end, self.pair_peer),
            Side::In => (self.in_pair_offsets, self.in_pair_native_end, self.in_pair_peer),
        };
        interrupt.should_stop();
        let mut bounds = offsets.windows(2).zip(native_ends);
        if !bounds.all(|(bounds, end)| (bounds[0]..=bounds[1]).contains(end)) {
            return Err(Damaged { what: "end of native pairs out of range" });
        }
        let wallets = self.wallets.len();
        let in_range = peers.iter().all(|peer| peer.index() < wallets);
        if in_range { Ok(()) } else { Err(Damaged { what: "wallet of a pair out of range" }) }
    }

    /// Checks that every number refers to something that exists.
    fn check_references(&self, interrupt: &mut impl Interrupt) -> Result<(), Damaged> {
        let damaged = |what| Err(Damaged { what });
        let wallets = self.wallets.len();
        self.wallets.check()?;
        self.tokens.check()?;
        self.check_offsets(interrupt)?;
        self.check_pairs(Side::Out, interrupt)?;
        self.check_pairs(Side::In, interrupt)?;
        for (rank, wallet) in (0..).zip(self.by_rank) {
            if self.rank.get(wallet.index()) != Some(&rank) {
                return damaged("wrong order of addresses");
            }
        }
        interrupt.should_stop();
        let below = |numbers: &[u32], end: usize| numbers.iter().all(|number| (*number as usize) < end);
        let in_range = self.out_peer.iter().all(|peer| peer.index() < wallets || *peer == WalletId::NONE)
            && self.in_peer.iter().all(|peer| peer.index() < wallets)
            && below(self.in_transfer, self.out_peer.len())
            && below(self.in_pair_number, self.pair_peer.len());
        if !in_range {
            return damaged("wallet or transfer out of range");
        }
        for (value, position) in self.out_value.iter().zip(self.out_position) {
            self.wide.value(*value)?;
            self.wide.position(*position)?;
        }
        interrupt.should_stop();
        for value in self.pair_value.iter().filter(|value| **value != BEYOND) {
            self.wide.value(*value)?;
        }
        Ok(())
    }
}
