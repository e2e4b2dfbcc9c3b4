//! The sections that a new file and a merged one have in common, and how they are written.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};

use crate::graph::budget::Interrupt;
use crate::graph::error::BuildError;
use crate::graph::error::Damaged;
use crate::graph::file::base::Sections;
use crate::graph::file::format::{Meta, Provenance, SECTIONS, Section};
use crate::graph::file::names::{Extended, NamesBuilder};
use crate::graph::file::packed::TransferKind;
use crate::graph::file::rows::{Packed, Pair, STEPS, tally};
use crate::graph::file::scratch::{Column, Scratch};
use crate::graph::file::sorting::sort_watched;
use crate::graph::file::writer::{FileWriter, SectionWriter, Sink};
use crate::graph::types::{AssetId, WalletId};

/// Sections of a dictionary: text, places, networks, slots.
pub type NameSections = [Section; 4];

/// Those of the wallets' addresses.
pub const WALLET_NAMES: NameSections =
    [Section::WalletText, Section::WalletPlaces, Section::WalletNetworks, Section::WalletSlots];

/// Those of the tokens' addresses.
pub const TOKEN_NAMES: NameSections =
    [Section::TokenText, Section::TokenPlaces, Section::TokenNetworks, Section::TokenSlots];

/// The first section.
pub fn meta_bytes<E: std::error::Error>(
    provenance: &Provenance,
    networks: &[String],
    native_transfers: u64,
) -> Result<Vec<u8>, BuildError<E>> {
    let meta = Meta { provenance: provenance.clone(), networks: networks.to_vec(), native_transfers };
    serde_json::to_vec(&meta).map_err(|_| Damaged { what: "provenance cannot be written" }.into())
}

/// Bytes of all sections but the tables of what is wide. The first names are the wallets'.
pub fn sizes(
    meta: &[u8],
    names: &[(Extended<'_>, NameSections); 2],
    transfers: usize,
    receipts: usize,
    pairs: usize,
) -> [usize; SECTIONS] {
    use Section as S;
    let mut sizes = [0; SECTIONS];
    sizes[S::Meta as usize] = meta.len();
    for (names, sections) in names {
        for (section, bytes) in sections.iter().zip(names.sizes()) {
            sizes[*section as usize] = bytes;
        }
    }
    let wallets = names[0].0.len();
    for section in [S::OutOffsets, S::InOffsets, S::PairOffsets, S::InPairOffsets] {
        sizes[section as usize] = (wallets + 1) * 4;
    }
    for section in [S::WalletRank, S::WalletByRank, S::PairNativeEnd, S::InPairNativeEnd] {
        sizes[section as usize] = wallets * 4;
    }
    for section in [S::OutPeer, S::OutKind] {
        sizes[section as usize] = transfers * 4;
    }
    for section in [S::OutTime, S::OutValue, S::OutPosition] {
        sizes[section as usize] = transfers * 8;
    }
    for section in [S::InPeer, S::InTransfer] {
        sizes[section as usize] = receipts * 4;
    }
    for section in [S::PairPeer, S::PairAsset, S::PairCount, S::InPairPeer, S::InPairNumber] {
        sizes[section as usize] = pairs * 4;
    }
    for section in [S::PairValue, S::PairFirst, S::PairLast] {
        sizes[section as usize] = pairs * 8;
    }
    sizes
}

/// Writes dictionaries.
pub fn write_names<S: Scratch, K: Sink<Error = S::Error>>(
    scratch: &S,
    file: &mut FileWriter<'_, K>,
    names: &[(Extended<'_>, NameSections); 2],
    interrupt: &mut impl Interrupt,
) -> Result<(), BuildError<K::Error>> {
    for (names, [text, places, networks, slots]) in names {
        names.write_text(file, *text, interrupt)?;
        names.write_places(file, *places, interrupt)?;
        names.write_networks(file, *networks, interrupt)?;
        names.write_slots(scratch, file, *slots, interrupt)?;
    }
    Ok(())
}

/// The first bytes of an address, and whose they are: most comparisons end there.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct RankKey {
    prefix: [u64; 2],
    wallet: WalletId,
    padding: u32,
}

/// Orders the wallets by address, and writes the order. O(wallets log wallets).
pub fn write_ranks<S: Scratch, K: Sink<Error = S::Error>>(
    scratch: &S,
    file: &mut FileWriter<'_, K>,
    wallets: &NamesBuilder<S>,
    interrupt: &mut impl Interrupt,
) -> Result<(), BuildError<S::Error>> {
    let names = wallets.names();
    let mut keys = Column::<S, RankKey>::zeroed(scratch, names.len()).map_err(BuildError::Scratch)?;
    for (wallet, key) in (0..).map(WalletId::new).zip(keys.as_mut_slice()) {
        if wallet.index().is_multiple_of(STEPS) {
            interrupt.should_stop();
        }
        let text = names.bytes(wallet.get()).unwrap_or_default();
        let mut prefix = [0; 16];
        let known = text.len().min(16);
        prefix[..known].copy_from_slice(&text[..known]);
        let [high, low] = bytemuck::cast::<_, [[u8; 8]; 2]>(prefix);
        *key = RankKey { prefix: [u64::from_be_bytes(high), u64::from_be_bytes(low)], wallet, padding: 0 };
    }
    let mut room = Column::<S, RankKey>::zeroed(scratch, names.len()).map_err(BuildError::Scratch)?;
    sort_watched(keys.as_mut_slice(), room.as_mut_slice(), interrupt, |a, b| {
        a.prefix.cmp(&b.prefix).then_with(|| {
            let text =
                |wallet: WalletId| (names.bytes(wallet.get()).unwrap_or_default(), names.networks[wallet.index()]);
            text(a.wallet).cmp(&text(b.wallet))
        })
    });
    write_order(scratch, file, keys.as_slice().iter().map(|key| key.wallet), names.len(), interrupt)
}

/// Writes wallets in the order of their addresses, and of each its place in that order.
pub fn write_order<S: Scratch, K: Sink<Error = S::Error>>(
    scratch: &S,
    file: &mut FileWriter<'_, K>,
    by_rank: impl Iterator<Item = WalletId>,
    wallets: usize,
    interrupt: &mut impl Interrupt,
) -> Result<(), BuildError<S::Error>> {
    let mut ranks = Column::<S, u32>::zeroed(scratch, wallets).map_err(BuildError::Scratch)?;
    let mut out = file.open(Section::WalletByRank);
    for (rank, wallet) in (0..).zip(by_rank) {
        if (rank as usize).is_multiple_of(STEPS) {
            interrupt.should_stop();
        }
        if let Some(place) = ranks.as_mut_slice().get_mut(wallet.index()) {
            *place = rank;
        }
        out.push(wallet)?;
    }
    file.close(out)?;
    file.write(Section::WalletRank, ranks.as_slice(), interrupt)
}

/// The sections of transfers, side by side.
pub struct TransferWriter<'w, K: Sink> {
    pub peers: SectionWriter<'w, K, WalletId>,
    pub times: SectionWriter<'w, K, i64>,
    pub values: SectionWriter<'w, K, u64>,
    pub kinds: SectionWriter<'w, K, TransferKind>,
    pub positions: SectionWriter<'w, K, u64>,
}

impl<'w, K: Sink> TransferWriter<'w, K> {
    pub fn open(file: &FileWriter<'w, K>) -> Self {
        Self {
            peers: file.open(Section::OutPeer),
            times: file.open(Section::OutTime),
            values: file.open(Section::OutValue),
            kinds: file.open(Section::OutKind),
            positions: file.open(Section::OutPosition),
        }
    }

    #[inline]
    pub fn push(&mut self, row: &Packed) -> Result<(), BuildError<K::Error>> {
        self.peers.push(row.to)?;
        self.times.push(row.time)?;
        self.values.push(row.value)?;
        self.kinds.push(row.kind)?;
        self.positions.push(row.position)
    }

    /// Copies transfers of a base.
    pub fn copy(&mut self, base: &Sections<'_>, transfers: Range<usize>) -> Result<(), BuildError<K::Error>> {
        self.peers.extend(&base.out_peer[transfers.clone()])?;
        self.times.extend(&base.out_time[transfers.clone()])?;
        self.values.extend(&base.out_value[transfers.clone()])?;
        self.kinds.extend(&base.out_kind[transfers.clone()])?;
        self.positions.extend(&base.out_position[transfers])
    }

    pub fn close(self, file: &mut FileWriter<'w, K>) -> Result<(), BuildError<K::Error>> {
        file.close(self.peers)?;
        file.close(self.times)?;
        file.close(self.values)?;
        file.close(self.kinds)?;
        file.close(self.positions)
    }
}

/// The sections of pairs, side by side.
pub struct PairWriter<'w, K: Sink> {
    pub peers: SectionWriter<'w, K, WalletId>,
    pub assets: SectionWriter<'w, K, AssetId>,
    pub counts: SectionWriter<'w, K, u32>,
    pub values: SectionWriter<'w, K, u64>,
    pub firsts: SectionWriter<'w, K, i64>,
    pub lasts: SectionWriter<'w, K, i64>,
}

impl<'w, K: Sink> PairWriter<'w, K> {
    pub fn open(file: &FileWriter<'w, K>) -> Self {
        Self {
            peers: file.open(Section::PairPeer),
            assets: file.open(Section::PairAsset),
            counts: file.open(Section::PairCount),
            values: file.open(Section::PairValue),
            firsts: file.open(Section::PairFirst),
            lasts: file.open(Section::PairLast),
        }
    }

    #[inline]
    pub fn push(&mut self, pair: &Pair) -> Result<(), BuildError<K::Error>> {
        self.peers.push(pair.peer)?;
        self.assets.push(pair.asset)?;
        self.counts.push(pair.count)?;
        self.values.push(pair.value)?;
        self.firsts.push(pair.first)?;
        self.lasts.push(pair.last)
    }

    /// Copies pairs of a base.
    pub fn copy(&mut self, base: &Sections<'_>, pairs: Range<usize>) -> Result<(), BuildError<K::Error>> {
        self.peers.extend(&base.pair_peer[pairs.clone()])?;
        self.assets.extend(&base.pair_asset[pairs.clone()])?;
        self.counts.extend(&base.pair_count[pairs.clone()])?;
        self.values.extend(&base.pair_value[pairs.clone()])?;
        self.firsts.extend(&base.pair_first[pairs.clone()])?;
        self.lasts.extend(&base.pair_last[pairs])
    }

    pub fn close(self, file: &mut FileWriter<'w, K>) -> Result<(), BuildError<K::Error>> {
        file.close(self.peers)?;
        file.close(self.assets)?;
        file.close(self.counts)?;
        file.close(self.values)?;
        file.close(self.firsts)?;
        file.close(self.lasts)
    }
}

/// What the receiver's side of a pair needs of it.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct PairSide {
    pub peer: WalletId,
    pub asset: AssetId,
}

/// An entry of the receiver's side: the sender, and the number of its transfer or pair.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Dealt {
    pub sender: WalletId,
    pub number: u32,
}

/// Writes the pairs by receiver: those of the native coin first, then by asset; among one asset by sender.
pub fn write_in_pairs<S: Scratch, K: Sink<Error = S::Error>>(
    scratch: &S,
    file: &mut FileWriter<'_, K>,
    offsets: &[u32],
    native_ends: &[u32],
    pairs: &[PairSide],
    interrupt: &mut impl Interrupt,
) -> Result<(), BuildError<S::Error>> {
    let mut in_offsets = Column::<S, u32>::zeroed(scratch, offsets.len()).map_err(BuildError::Scratch)?;
    tally(in_offsets.as_mut_slice(), pairs.iter().map(|pair| pair.peer), interrupt);
    let mut cursors = Column::<S, u32>::default();
    cursors.extend(scratch, in_offsets.as_slice()).map_err(BuildError::Scratch)?;
    let mut in_ends = Column::<S, u32>::zeroed(scratch, native_ends.len()).map_err(BuildError::Scratch)?;
    let mut dealt = Column::<S, Dealt>::zeroed(scratch, pairs.len()).map_err(BuildError::Scratch)?;
    let (dealt_to, cursors) = (dealt.as_mut_slice(), cursors.as_mut_slice());
    let mut steps = 0;
    for native in [true, false] {
        for (wallet, bounds) in (0..).map(WalletId::new).zip(offsets.windows(2)) {
            let end = native_ends[wallet.index()];
            let range = if native { bounds[0]..end } else { end..bounds[1] };
            steps += 1 + range.len();
            if steps >= STEPS {
                steps = 0;
                interrupt.should_stop();
            }
            for number in range {
                let cursor = &mut cursors[pairs[number as usize].peer.index()];
                dealt_to[*cursor as usize] = Dealt { sender: wallet, number };
                *cursor += 1;
            }
        }
        if native {
            let ends = in_ends.as_mut_slice();
            ends.copy_from_slice(&cursors[..ends.len()]);
        }
    }
    // tokens came by sender, and go by asset
    for (bounds, end) in in_offsets.as_slice().windows(2).zip(in_ends.as_slice()) {
        let tokens = &mut dealt_to[*end as usize..bounds[1] as usize];
        if tokens.len() > 1 {
            steps += tokens.len();
            tokens.sort_unstable_by_key(|entry| (pairs[entry.number as usize].asset, entry.sender, entry.number));
        }
        if steps >= STEPS {
            steps = 0;
            interrupt.should_stop();
        }
    }
    file.write(Section::InPairOffsets, in_offsets.as_slice(), interrupt)?;
    file.write(Section::InPairNativeEnd, in_ends.as_slice(), interrupt)?;
    write_dealt(file, [Section::InPairPeer, Section::InPairNumber], dealt.as_slice(), interrupt)
}

/// Writes what was dealt out to receivers, the sender and a number of each, into two sections.
pub fn write_dealt<K: Sink>(
    file: &mut FileWriter<'_, K>,
    sections: [Section; 2],
    dealt: &[Dealt],
    interrupt: &mut impl Interrupt,
) -> Result<(), BuildError<K::Error>> {
    let (mut peers, mut numbers) = (file.open(sections[0]), file.open(sections[1]));
    for dealt in dealt.chunks(STEPS) {
        interrupt.should_stop();
        for entry in dealt {
            peers.push(entry.sender)?;
            numbers.push(entry.number)?;
        }
    }
    file.close(peers)?;
    file.close(numbers)
}
