//! A graph as its file has it: opened in constant time, read in place.

use std::ops::{Deref, Range};

use crate::graph::budget::Interrupt;
use crate::graph::error::Damaged;
use crate::graph::file::format::{Meta, Places, Provenance, Section};
use crate::graph::file::names::Names;
use crate::graph::file::packed::{BEYOND, TransferKind, WideSlices};
use crate::graph::types::{AssetId, Side, WalletId};

/// An opened graph file. `B` are its bytes: mapped, or in memory.
#[derive(Debug, Clone)]
pub struct Base<B> {
    bytes: B,
    places: Places,
    meta: Meta,
}

impl<B: Deref<Target = [u8]>> Base<B> {
    /// Opens a file: its header, its sections' sizes and its provenance are checked.
    ///
    /// # Errors
    /// When something does not hold together.
    pub fn open(bytes: B) -> Result<Self, Damaged> {
        let places = Places::read(&bytes)?;
        let meta: Meta = serde_json::from_slice(places.slice(&bytes, Section::Meta))
            .map_err(|_| Damaged { what: "provenance cannot be read" })?;
        let base = Self { bytes, places, meta };
        base.sections().check_sizes()?;
        Ok(base)
    }

    /// Checks everything: the checksum, every name, every reference. O(file).
    ///
    /// # Errors
    /// When something does not hold together.
    pub fn verify(&self, interrupt: &mut impl Interrupt) -> Result<(), Damaged> {
        self.places.verify_body(&self.bytes, interrupt)?;
        self.sections().check_references(interrupt)
    }

    /// Where it comes from.
    #[must_use]
    pub const fn provenance(&self) -> &Provenance {
        &self.meta.provenance
    }

    /// Names of networks, by number.
    pub(in crate::graph) fn networks(&self) -> &[String] {
        &self.meta.networks
    }

    /// Transfers of native coins and tokens.
    #[must_use]
    pub fn transfers(&self) -> u64 {
        self.sections().out_peer.len() as u64
    }

    /// Transfers of native coins.
    #[must_use]
    pub const fn native_transfers(&self) -> u64 {
        self.meta.native_transfers
    }

    /// Pairs of wallets, by asset.
    #[must_use]
    pub fn pairs(&self) -> u64 {
        self.sections().pair_peer.len() as u64
    }

    /// Wallets.
    #[must_use]
    pub fn wallets(&self) -> u32 {
        self.sections().wallets.len() as u32
    }

    /// Bytes of the file.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of them for the addresses of wallets and tokens.
    #[must_use]
    pub fn dictionary_size(&self) -> usize {
        use Section as S;
        [S::WalletText, S::WalletPlaces, S::WalletNetworks, S::WalletSlots, S::WalletRank, S::WalletByRank]
            .into_iter()
            .chain([S::TokenText, S::TokenPlaces, S::TokenNetworks, S::TokenSlots])
            .map(|section| self.places.bytes(section))
            .sum()
    }

    /// The file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The arrays.
    pub(in crate::graph) fn sections(&self) -> Sections<'_> {
        Sections::of(&self.bytes, &self.places)
    }
}

/// The arrays of a file; see [`Section`] for what they hold.
#[derive(Debug, Clone, Copy)]
pub struct Sections<'a> {
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

/// From a wallet's entry to the next one's.
#[inline]
fn range(offsets: &[u32], wallet: WalletId) -> Range<usize> {
    let wallet = wallet.index();
    match offsets.get(wallet..wallet.saturating_add(2)) {
        Some([start, end]) => *start as usize..*end as usize,
        _ => 0..0,
    }
}

impl<'a> Sections<'a> {
    fn of(bytes: &'a [u8], places: &Places) -> Self {
        use Section as S;
        Self {
            wallets: Names {
                text: places.slice(bytes, S::WalletText),
                places: places.slice(bytes, S::WalletPlaces),
                networks: places.slice(bytes, S::WalletNetworks),
                slots: places.slice(bytes, S::WalletSlots),
            },
            rank: places.slice(bytes, S::WalletRank),
            by_rank: places.slice(bytes, S::WalletByRank),
            tokens: Names {
                text: places.slice(bytes, S::TokenText),
                places: places.slice(bytes, S::TokenPlaces),
                networks: places.slice(bytes, S::TokenNetworks),
                slots: places.slice(bytes, S::TokenSlots),
            },
            out_offsets: places.slice(bytes, S::OutOffsets),
            out_peer: places.slice(bytes, S::OutPeer),
            out_time: places.slice(bytes, S::OutTime),
            out_value: places.slice(bytes, S::OutValue),
            out_kind: places.slice(bytes, S::OutKind),
            out_position: places.slice(bytes, S::OutPosition),
            in_offsets: places.slice(bytes, S::InOffsets),
            in_peer: places.slice(bytes, S::InPeer),
            in_transfer: places.slice(bytes, S::InTransfer),
            pair_offsets: places.slice(bytes, S::PairOffsets),
            pair_native_end: places.slice(bytes, S::PairNativeEnd),
            pair_peer: places.slice(bytes, S::PairPeer),
            pair_asset: places.slice(bytes, S::PairAsset),
            pair_count: places.slice(bytes, S::PairCount),
            pair_value: places.slice(bytes, S::PairValue),
            pair_first: places.slice(bytes, S::PairFirst),
            pair_last: places.slice(bytes, S::PairLast),
            in_pair_offsets: places.slice(bytes, S::InPairOffsets),
            in_pair_native_end: places.slice(bytes, S::InPairNativeEnd),
            in_pair_peer: places.slice(bytes, S::InPairPeer),
            in_pair_number: places.slice(bytes, S::InPairNumber),
            wide: WideSlices {
                values_128: places.slice(bytes, S::Values128),
                values_256: places.slice(bytes, S::Values256),
                positions: places.slice(bytes, S::Positions),
            },
        }
    }

    /// The numbers of a wallet's entries among its transfers or receipts.
    pub fn transfers(&self, wallet: WalletId, side: Side) -> Range<usize> {
        range(if side == Side::Out { self.out_offsets } else { self.in_offsets }, wallet)
    }

    /// The numbers of a wallet's entries among the pairs of a side.
    #[inline]
    pub fn all_pairs(&self, wallet: WalletId, side: Side) -> Range<usize> {
        range(if side == Side::Out { self.pair_offsets } else { self.in_pair_offsets }, wallet)
    }

    /// The numbers of a wallet's entries among the pairs of a side, and the end of those of the native coin.
    pub fn pairs(&self, wallet: WalletId, side: Side) -> (Range<usize>, usize) {
        let ends = if side == Side::Out { self.pair_native_end } else { self.in_pair_native_end };
        let range = self.all_pairs(wallet, side);
        let end = ends.get(wallet.index()).map_or(range.start, |end| *end as usize);
        (range.clone(), end.clamp(range.start, range.end.max(range.start)))
    }

    /// The number of the transfer behind an entry of a side.
    pub fn transfer(&self, side: Side, entry: usize) -> Result<usize, Damaged> {
        match side {
            Side::Out => Ok(entry),
            Side::In => self
                .in_transfer
                .get(entry)
                .map(|number| *number as usize)
                .ok_or(Damaged { what: "receipt out of range" }),
        }
    }

    /// All arrays have the sizes that belong together.
    fn check_sizes(&self) -> Result<(), Damaged> {
        let wallets = self.wallets.len();
        let (transfers, receipts, pairs) = (self.out_peer.len(), self.in_peer.len(), self.pair_peer.len());
        let offsets = [self.out_offsets, self.in_offsets, self.pair_offsets, self.in_pair_offsets];
        let ends = [transfers, receipts, pairs, pairs];
        let together = [self.wallets, self.tokens]
            .iter()
            .all(|names| names.places.last().is_some_and(|end| *end == names.text.len() as u64))
            && self.wallets.places.len() == wallets + 1
            && self.wallets.slots.len().is_power_of_two()
            && self.tokens.places.len() == self.tokens.networks.len() + 1
            && self.tokens.slots.len().is_power_of_two()
            && self.by_rank.len() == wallets
            && [self.rank, self.pair_native_end, self.in_pair_native_end].iter().all(|one| one.len() == wallets)
            && offsets.iter().zip(ends).all(|(offsets, end)| {
                offsets.len() == wallets + 1 && offsets.last().is_some_and(|last| *last as usize == end)
            })
            && [self.out_time.len(), self.out_value.len(), self.out_kind.len(), self.out_position.len()]
                == [transfers; 4]
            && self.in_transfer.len() == receipts
            && [self.pair_asset.len(), self.pair_count.len(), self.pair_value.len()] == [pairs; 3]
            && [self.pair_first.len(), self.pair_last.len()] == [pairs; 2]
            && [self.in_pair_peer.len(), self.in_pair_number.len()] == [pairs; 2];
        if together { Ok(()) } else { Err(Damaged { what: "sections do not belong together" }) }
    }

    /// Every wallet's entries are within their array.
    pub fn check_offsets(&self, interrupt: &mut impl Interrupt) -> Result<(), Damaged> {
        for offsets in [self.out_offsets, self.in_offsets, self.pair_offsets, self.in_pair_offsets] {
            interrupt.should_stop();
            if offsets.first() != Some(&0) || !offsets.is_sorted() {
                return Err(Damaged { what: "offsets do not rise" });
            }
        }
        Ok(())
    }

    /// Checks that the pairs of a side name wallets, and that those of the native coin end within
    /// their wallet's.
    pub fn check_pairs(&self, side: Side, interrupt: &mut impl Interrupt) -> Result<(), Damaged> {
        let (offsets, native_ends, peers) = match side {
            Side::Out => (self.pair_offsets, self.pair_native_end, self.pair_peer),
            Side::In => (self.in_pair_offsets, self.in_pair_native_end, self.in_pair_peer),
        };
        interrupt.should_stop();
        let mut bounds = offsets.windows(2).zip(native_ends);
        if !bounds.all(|(bounds, end)| (bounds[0]..=bounds[1]).contains(end)) {
            return Err(Damaged { what: "pairs of the native coin end out of range" });
        }
        let wallets = self.wallets.len();
        let are_known = peers.iter().all(|peer| peer.index() < wallets);
        if are_known { Ok(()) } else { Err(Damaged { what: "wallet of a pair out of range" }) }
    }

    /// All numbers lead to something.
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
                return damaged("order of addresses");
            }
        }
        interrupt.should_stop();
        let below = |numbers: &[u32], end: usize| numbers.iter().all(|number| (*number as usize) < end);
        let all_known = self.out_peer.iter().all(|peer| peer.index() < wallets || *peer == WalletId::NONE)
            && self.in_peer.iter().all(|peer| peer.index() < wallets)
            && below(self.in_transfer, self.out_peer.len())
            && below(self.in_pair_number, self.pair_peer.len());
        if !all_known {
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
