//! Sections that a new file and a merged one have in common, and how they are written.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};

use crate::graph::budget::Interrupt;
use crate::graph::error::{BuildError, Damaged};
use crate::graph::file::base::Sections;
use crate::graph::file::format::{Meta, Provenance, SECTIONS, Section};
use crate::graph::file::names::{Extended, NamesBuilder};
use crate::graph::file::packed::TransferKind;
use crate::graph::file::rows::{ELEMENTS_PER_CHECK, PackedPair, PackedTransfer, tally};
use crate::graph::file::scratch::{Column, Scratch};
use crate::graph::file::sorting::sort_interruptibly;
use crate::graph::file::wide::WideStore;
use crate::graph::file::writer::{FileWriter, SectionWriter, Sink};
use crate::graph::types::{AssetId, WalletId};

/// Sections of a dictionary: text, offsets, networks, slots.
type NameSections = [Section; 4];

const WALLET_NAMES: NameSections =
    [Section::WalletText, Section::WalletTextOffsets, Section::WalletNetworks, Section::WalletSlots];

const TOKEN_NAMES: NameSections =
    [Section::TokenText, Section::TokenTextOffsets, Section::TokenNetworks, Section::TokenSlots];

/// Contents and sizes of a file, as far as they are known before it is written.
pub(crate) struct FilePlan<'p, S: Scratch> {
    pub networks: &'p [String],
    pub wallets: Extended<'p>,
    pub tokens: Extended<'p>,
    pub wide: &'p WideStore<S>,
    pub native_transfers: u64,
    pub transfers: usize,
    pub receipts: usize,
    pub pairs: usize,
}

impl<S: Scratch> FilePlan<'_, S> {
    /// Begins the file, and writes provenance, names, and the tables of wide values.
    pub(crate) fn begin<'w, K: Sink<Error = S::Error>>(
        &self,
        scratch: &S,
        provenance: &Provenance,
        sink: &'w K,
        interrupt: &mut impl Interrupt,
    ) -> Result<FileWriter<'w, K>, BuildError<S::Error>> {
        let (networks, native_transfers) = (self.networks.to_vec(), self.native_transfers);
        let names_seed = self.wallets.seed();
        let meta = Meta { provenance: provenance.clone(), names_seed, networks, native_transfers };
        let meta = serde_json::to_vec(&meta).map_err(|_| Damaged { what: "provenance cannot be written" })?;
        let mut file = FileWriter::begin(sink, &self.sizes(&meta))?;
        file.write(Section::Meta, &meta, interrupt)?;
        for (names, [text, offsets, networks, slots]) in self.names() {
            names.write_text(&mut file, text, interrupt)?;
            names.write_offsets(&mut file, offsets, interrupt)?;
            names.write_networks(&mut file, networks, interrupt)?;
            names.write_slots(scratch, &mut file, slots, interrupt)?;
        }
        self.wide.write(&mut file, interrupt)?;
        Ok(file)
    }

    const fn names(&self) -> [(Extended<'_>, NameSections); 2] {
        [(self.wallets, WALLET_NAMES), (self.tokens, TOKEN_NAMES)]
    }

    /// Returns the sizes of all sections in bytes.
    fn sizes(&self, meta: &[u8]) -> [usize; SECTIONS] {
        use Section as S;
        let mut sizes = [0; SECTIONS];
        sizes[S::Meta as usize] = meta.len();
        for (names, sections) in self.names() {
            for (section, bytes) in sections.iter().zip(names.sizes()) {
                sizes[*section as usize] = bytes;
            }
        }
        let wallets = self.wallets.len();
        for section in [S::OutOffsets, S::InOffsets, S::PairOffsets, S::InPairOffsets] {
            sizes[section as usize] = (wallets + 1) * 4;
        }
        for section in [S::WalletRank, S::WalletByRank, S::PairNativeEnd, S::InPairNativeEnd] {
            sizes[section as usize] = wallets * 4;
        }
        for section in [S::OutPeer, S::OutKind] {
            sizes[section as usize] = self.transfers * 4;
        }
        for section in [S::OutTime, S::OutValue, S::OutPosition] {
            sizes[section as usize] = self.transfers * 8;
        }
        for section in [S::InPeer, S::InTransfer] {
            sizes[section as usize] = self.receipts * 4;
        }
        for section in [S::PairPeer, S::PairAsset, S::PairCount, S::InPairPeer, S::InPairNumber] {
            sizes[section as usize] = self.pairs * 4;
        }
        for section in [S::PairValue, S::PairFirst, S::PairLast] {
            sizes[section as usize] = self.pairs * 8;
        }
        self.wide.sizes(&mut sizes);
        sizes
    }
}

/// The first bytes of an address, which decide most comparisons, and its wallet.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct RankKey {
    prefix: [u64; 2],
    wallet: WalletId,
    padding: u32,
}

/// Orders the wallets by address, and writes the order. O(wallets log wallets).
pub(crate) fn write_ranks<S: Scratch, K: Sink<Error = S::Error>>(
    scratch: &S,
    file: &mut FileWriter<'_, K>,
    wallets: &NamesBuilder<S>,
    interrupt: &mut impl Interrupt,
) -> Result<(), BuildError<S::Error>> {
    let names = wallets.names();
    let mut keys = Column::<S, RankKey>::zeroed(scratch, names.len()).map_err(BuildError::Scratch)?;
    for (wallet, key) in (0..).map(WalletId::new).zip(keys.as_mut_slice()) {
        if wallet.index().is_multiple_of(ELEMENTS_PER_CHECK) {
            interrupt.should_stop();
        }
        let text = names.bytes(wallet.get()).unwrap_or_default();
        let mut prefix = [0; 16];
        let length = text.len().min(16);
        prefix[..length].copy_from_slice(&text[..length]);
        let [high, low] = bytemuck::cast::<_, [[u8; 8]; 2]>(prefix);
        *key = RankKey { prefix: [u64::from_be_bytes(high), u64::from_be_bytes(low)], wallet, padding: 0 };
    }
    let mut room = Column::<S, RankKey>::zeroed(scratch, names.len()).map_err(BuildError::Scratch)?;
    sort_interruptibly(keys.as_mut_slice(), room.as_mut_slice(), interrupt, |a, b| {
        a.prefix.cmp(&b.prefix).then_with(|| {
            let text =
                |wallet: WalletId| (names.bytes(wallet.get()).unwrap_or_default(), names.networks[wallet.index()]);
            text(a.wallet).cmp(&text(b.wallet))
        })
    });
    write_order(scratch, file, keys.as_slice().iter().map(|key| key.wallet), names.len(), interrupt)
}

/// Writes the wallets in the order of their addresses, and the rank of each wallet in that order.
pub(crate) fn write_order<S: Scratch, K: Sink<Error = S::Error>>(
    scratch: &S,
    file: &mut FileWriter<'_, K>,
    by_rank: impl Iterator<Item = WalletId>,
    wallets: usize,
    interrupt: &mut impl Interrupt,
) -> Result<(), BuildError<S::Error>> {
    let mut ranks = Column::<S, u32>::zeroed(scratch, wallets).map_err(BuildError::Scratch)?;
    let mut out = file.open(Section::WalletByRank);
    for (rank, wallet) in (0..).zip(by_rank) {
        if (rank as usize).is_multiple_of(ELEMENTS_PER_CHECK) {
            interrupt.should_stop();
        }
        if let Some(own_rank) = ranks.as_mut_slice().get_mut(wallet.index()) {
            *own_rank = rank;
        }
        out.push(wallet)?;
    }
    file.close(out)?;
    file.write(Section::WalletRank, ranks.as_slice(), interrupt)
}

/// Writes the sections of transfers in parallel.
pub(crate) struct TransferWriter<'w, K: Sink> {
    peers: SectionWriter<'w, K, WalletId>,
    times: SectionWriter<'w, K, i64>,
    values: SectionWriter<'w, K, u64>,
    kinds: SectionWriter<'w, K, TransferKind>,
    positions: SectionWriter<'w, K, u64>,
}

impl<'w, K: Sink> TransferWriter<'w, K> {
    pub(crate) fn open(file: &FileWriter<'w, K>) -> Self {
        Self {
            peers: file.open(Section::OutPeer),
            times: file.open(Section::OutTime),
            values: file.open(Section::OutValue),
            kinds: file.open(Section::OutKind),
            positions: file.open(Section::OutPosition),
        }
    }

    #[inline]
    pub(crate) fn push(&mut self, transfer: &PackedTransfer) -> Result<(), BuildError<K::Error>> {
        self.peers.push(transfer.to)?;
        self.times.push(transfer.time)?;
        self.values.push(transfer.value)?;
        self.kinds.push(transfer.kind)?;
        self.positions.push(transfer.position)
    }

    /// Copies transfers of a base.
    pub(crate) fn copy(&mut self, base: &Sections<'_>, transfers: Range<usize>) -> Result<(), BuildError<K::Error>> {
        self.peers.extend(&base.out_peer[transfers.clone()])?;
        self.times.extend(&base.out_time[transfers.clone()])?;
        self.values.extend(&base.out_value[transfers.clone()])?;
        self.kinds.extend(&base.out_kind[transfers.clone()])?;
        self.positions.extend(&base.out_position[transfers])
    }

    pub(crate) fn close(self, file: &mut FileWriter<'w, K>) -> Result<(), BuildError<K::Error>> {
        file.close(self.peers)?;
        file.close(self.times)?;
        file.close(self.values)?;
        file.close(self.kinds)?;
        file.close(self.positions)
    }
}

/// Writes all transfers of a file, which are sorted by sender, and the senders' offsets.
pub(crate) fn write_transfers<K: Sink>(
    file: &mut FileWriter<'_, K>,
    offsets: &[u32],
    transfers: &[PackedTransfer],
    interrupt: &mut impl Interrupt,
) -> Result<(), BuildError<K::Error>> {
    file.write(Section::OutOffsets, offsets, interrupt)?;
    let mut out = TransferWriter::open(file);
    for chunk in transfers.chunks(ELEMENTS_PER_CHECK) {
        interrupt.should_stop();
        for transfer in chunk {
            out.push(transfer)?;
        }
    }
    out.close(file)
}

/// Fields of a pair that its receiver's side needs.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct PairKey {
    peer: WalletId,
    asset: AssetId,
}

/// Writes the sections of pairs in parallel, and afterwards the receivers' side.
pub(crate) struct PairWriter<'w, S: Scratch, K: Sink<Error = S::Error>> {
    peers: SectionWriter<'w, K, WalletId>,
    assets: SectionWriter<'w, K, AssetId>,
    counts: SectionWriter<'w, K, u32>,
    values: SectionWriter<'w, K, u64>,
    firsts: SectionWriter<'w, K, i64>,
    lasts: SectionWriter<'w, K, i64>,
    keys: Column<S, PairKey>,
    written: usize,
}

impl<'w, S: Scratch, K: Sink<Error = S::Error>> PairWriter<'w, S, K> {
    /// Opens the sections of `pairs` pairs.
    pub(crate) fn open(scratch: &S, file: &FileWriter<'w, K>, pairs: usize) -> Result<Self, BuildError<S::Error>> {
        Ok(Self {
            peers: file.open(Section::PairPeer),
            assets: file.open(Section::PairAsset),
            counts: file.open(Section::PairCount),
            values: file.open(Section::PairValue),
            firsts: file.open(Section::PairFirst),
            lasts: file.open(Section::PairLast),
            keys: Column::zeroed(scratch, pairs).map_err(BuildError::Scratch)?,
            written: 0,
        })
    }

    /// Returns the number of pairs written so far.
    pub(crate) const fn written(&self) -> u32 {
        self.written as u32
    }

    pub(crate) fn extend(&mut self, pairs: &[PackedPair]) -> Result<(), BuildError<S::Error>> {
        let keys = &mut self.keys.as_mut_slice()[self.written..];
        for (key, pair) in keys.iter_mut().zip(pairs) {
            *key = PairKey { peer: pair.peer, asset: pair.asset };
        }
        self.written += pairs.len();
        for pair in pairs {
            self.peers.push(pair.peer)?;
            self.assets.push(pair.asset)?;
            self.counts.push(pair.count)?;
            self.values.push(pair.value)?;
            self.firsts.push(pair.first)?;
            self.lasts.push(pair.last)?;
        }
        Ok(())
    }

    /// Copies pairs of a base.
    pub(crate) fn copy(&mut self, base: &Sections<'_>, pairs: Range<usize>) -> Result<(), BuildError<S::Error>> {
        let (peers, assets) = (&base.pair_peer[pairs.clone()], &base.pair_asset[pairs.clone()]);
        let keys = &mut self.keys.as_mut_slice()[self.written..];
        for (key, (peer, asset)) in keys.iter_mut().zip(peers.iter().zip(assets)) {
            *key = PairKey { peer: *peer, asset: *asset };
        }
        self.written += pairs.len();
        self.peers.extend(peers)?;
        self.assets.extend(assets)?;
        self.counts.extend(&base.pair_count[pairs.clone()])?;
        self.values.extend(&base.pair_value[pairs.clone()])?;
        self.firsts.extend(&base.pair_first[pairs.clone()])?;
        self.lasts.extend(&base.pair_last[pairs])
    }

    /// Writes the senders' offsets and native ends, and the receivers' side.
    pub(crate) fn close(
        self,
        scratch: &S,
        file: &mut FileWriter<'w, K>,
        offsets: &[u32],
        native_ends: &[u32],
        interrupt: &mut impl Interrupt,
    ) -> Result<(), BuildError<S::Error>> {
        file.close(self.peers)?;
        file.close(self.assets)?;
        file.close(self.counts)?;
        file.close(self.values)?;
        file.close(self.firsts)?;
        file.close(self.lasts)?;
        file.write(Section::PairOffsets, offsets, interrupt)?;
        file.write(Section::PairNativeEnd, native_ends, interrupt)?;
        write_in_pairs(scratch, file, offsets, native_ends, self.keys.as_slice(), interrupt)
    }
}

/// Writes all pairs of a file, which are sorted by sender, with the senders' offsets and native
/// ends, and the receivers' side.
pub(crate) fn write_pairs<S: Scratch, K: Sink<Error = S::Error>>(
    scratch: &S,
    file: &mut FileWriter<'_, K>,
    pairs: &[PackedPair],
    offsets: &[u32],
    native_ends: &[u32],
    interrupt: &mut impl Interrupt,
) -> Result<(), BuildError<S::Error>> {
    let mut out = PairWriter::open(scratch, file, pairs.len())?;
    for chunk in pairs.chunks(ELEMENTS_PER_CHECK) {
        interrupt.should_stop();
        out.extend(chunk)?;
    }
    out.close(scratch, file, offsets, native_ends, interrupt)
}

/// Entry of a receiver: the sender, and the number of the sender's transfer or pair.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct InEntry {
    pub sender: WalletId,
    pub number: u32,
}

/// Writes the pairs of each receiver: those of the native coin first, then by asset; within an
/// asset by sender.
fn write_in_pairs<S: Scratch, K: Sink<Error = S::Error>>(
    scratch: &S,
    file: &mut FileWriter<'_, K>,
    offsets: &[u32],
    native_ends: &[u32],
    pairs: &[PairKey],
    interrupt: &mut impl Interrupt,
) -> Result<(), BuildError<S::Error>> {
    let mut in_offsets = Column::<S, u32>::zeroed(scratch, offsets.len()).map_err(BuildError::Scratch)?;
    tally(in_offsets.as_mut_slice(), pairs.iter().map(|pair| pair.peer), interrupt);
    let mut cursors = Column::<S, u32>::default();
    cursors.extend(scratch, in_offsets.as_slice()).map_err(BuildError::Scratch)?;
    let mut in_ends = Column::<S, u32>::zeroed(scratch, native_ends.len()).map_err(BuildError::Scratch)?;
    let mut entries = Column::<S, InEntry>::zeroed(scratch, pairs.len()).map_err(BuildError::Scratch)?;
    let (in_entries, cursors) = (entries.as_mut_slice(), cursors.as_mut_slice());
    let mut steps = 0;
    for native in [true, false] {
        for (wallet, bounds) in (0..).map(WalletId::new).zip(offsets.windows(2)) {
            let end = native_ends[wallet.index()];
            let range = if native { bounds[0]..end } else { end..bounds[1] };
            steps += 1 + range.len();
            if steps >= ELEMENTS_PER_CHECK {
                steps = 0;
                interrupt.should_stop();
            }
            for number in range {
                let cursor = &mut cursors[pairs[number as usize].peer.index()];
                in_entries[*cursor as usize] = InEntry { sender: wallet, number };
                *cursor += 1;
            }
        }
        if native {
            let ends = in_ends.as_mut_slice();
            ends.copy_from_slice(&cursors[..ends.len()]);
        }
    }
    // Token pairs were placed by sender; they are ordered by asset first.
    for (bounds, end) in in_offsets.as_slice().windows(2).zip(in_ends.as_slice()) {
        let tokens = &mut in_entries[*end as usize..bounds[1] as usize];
        if tokens.len() > 1 {
            steps += tokens.len();
            tokens.sort_unstable_by_key(|entry| (pairs[entry.number as usize].asset, entry.sender, entry.number));
        }
        if steps >= ELEMENTS_PER_CHECK {
            steps = 0;
            interrupt.should_stop();
        }
    }
    file.write(Section::InPairOffsets, in_offsets.as_slice(), interrupt)?;
    file.write(Section::InPairNativeEnd, in_ends.as_slice(), interrupt)?;
    write_in_entries(file, [Section::InPairPeer, Section::InPairNumber], entries.as_slice(), interrupt)
}

/// Writes the entries of receivers into two sections: senders and numbers.
pub(crate) fn write_in_entries<K: Sink>(
    file: &mut FileWriter<'_, K>,
    [senders, numbers]: [Section; 2],
    entries: &[InEntry],
    interrupt: &mut impl Interrupt,
) -> Result<(), BuildError<K::Error>> {
    let (mut senders, mut numbers) = (file.open(senders), file.open(numbers));
    for chunk in entries.chunks(ELEMENTS_PER_CHECK) {
        interrupt.should_stop();
        for entry in chunk {
            senders.push(entry.sender)?;
            numbers.push(entry.number)?;
        }
    }
    file.close(senders)?;
    file.close(numbers)
}
