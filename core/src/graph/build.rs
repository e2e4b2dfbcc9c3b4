//! Transfers in any order -> the file of a graph.
//!
//! Rows are kept packed in scratch memory as they come (40 bytes each). Then they are ordered by time and position, dealt out to
//! their senders, and each sender's are summed up by receiver and asset. O(n log n) where rows come in no order, O(n) where
//! they come by time.

use std::cmp::Ordering;
use std::collections::HashMap;

use bytemuck::{Pod, Zeroable};

use super::base::{NOBODY, STATUS_SHIFT};
use super::format::{Layout, Meta, Provenance, SECTIONS, Section};
use super::names::{MOST, NamesBuilder};
use super::packed::{BEYOND, WidePosition, WideSlices, WideTables, pack_position, pack_value};
use super::scratch::{BuildError, Column, Scratch};
use super::search::{Damaged, Watch};
use super::sorting::sort_watched;
use super::transfer::{TransferRow, U256};

/// Assets have 30 bits.
const MOST_ASSETS: u32 = (1 << STATUS_SHIFT) - 1;

/// Steps between two looks at the watch.
pub(super) const STEPS: usize = 1 << 16;

/// A transfer, packed.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Packed {
    pub time: i64,
    pub value: u64,
    pub position: u64,
    pub from: u32,
    pub to: u32,
    pub kind: u32,
    padding: u32,
}

/// What one wallet sent another in one asset.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Pair {
    pub first: i64,
    pub last: i64,
    pub value: u64,
    pub peer: u32,
    pub asset: u32,
    pub count: u32,
    padding: u32,
}

/// The tables beside the packed numbers, growing.
pub(super) struct WideColumns<'s, S: Scratch> {
    scratch: &'s S,
    columns: &'s mut WideStore<S>,
}

pub(super) struct WideStore<S: Scratch> {
    values_128: Column<S, [u64; 2]>,
    values_256: Column<S, [u64; 4]>,
    positions: Column<S, WidePosition>,
}

impl<S: Scratch> Default for WideStore<S> {
    fn default() -> Self {
        Self { values_128: Column::default(), values_256: Column::default(), positions: Column::default() }
    }
}

impl<S: Scratch> WideStore<S> {
    pub fn from(scratch: &S, wide: &WideSlices<'_>) -> Result<Self, S::Error> {
        let mut store = Self::default();
        store.values_128.extend(scratch, wide.values_128)?;
        store.values_256.extend(scratch, wide.values_256)?;
        store.positions.extend(scratch, wide.positions)?;
        Ok(store)
    }

    pub fn slices(&self) -> WideSlices<'_> {
        WideSlices {
            values_128: self.values_128.as_slice(),
            values_256: self.values_256.as_slice(),
            positions: self.positions.as_slice(),
        }
    }

    pub fn growing<'s>(&'s mut self, scratch: &'s S) -> WideColumns<'s, S> {
        WideColumns { scratch, columns: self }
    }

    pub fn sizes(&self, bytes: &mut [usize; SECTIONS]) {
        bytes[Section::Values128 as usize] = self.values_128.len() * 16;
        bytes[Section::Values256 as usize] = self.values_256.len() * 32;
        bytes[Section::Positions as usize] = self.positions.len() * size_of::<WidePosition>();
    }

    pub fn write(&self, layout: &Layout, out: &mut [u8]) {
        layout.section(out, Section::Values128).copy_from_slice(self.values_128.as_slice());
        layout.section(out, Section::Values256).copy_from_slice(self.values_256.as_slice());
        layout.section(out, Section::Positions).copy_from_slice(self.positions.as_slice());
    }
}

impl<S: Scratch> WideTables for WideColumns<'_, S> {
    type Error = S::Error;

    fn push_128(&mut self, value: [u64; 2]) -> Result<u64, S::Error> {
        self.columns.values_128.push(self.scratch, value)?;
        Ok(self.columns.values_128.len() as u64 - 1)
    }

    fn push_256(&mut self, value: [u64; 4]) -> Result<u64, S::Error> {
        self.columns.values_256.push(self.scratch, value)?;
        Ok(self.columns.values_256.len() as u64 - 1)
    }

    fn push_position(&mut self, position: WidePosition) -> Result<u64, S::Error> {
        self.columns.positions.push(self.scratch, position)?;
        Ok(self.columns.positions.len() as u64 - 1)
    }
}

/// Adds up what becomes one pair.
#[derive(Debug, Clone, Copy)]
pub(super) struct PairSum {
    pub count: u32,
    pub first: i64,
    pub last: i64,
    /// `None` beyond 256 bits.
    pub value: Option<U256>,
}

impl PairSum {
    pub const EMPTY: Self = Self { count: 0, first: i64::MAX, last: i64::MIN, value: Some(U256::ZERO) };

    pub fn add(&mut self, time: i64, value: U256) {
        self.count += 1;
        self.first = self.first.min(time);
        self.last = self.last.max(time);
        self.value = self.value.and_then(|sum| sum.checked_add(value));
    }

    pub fn join(&mut self, other: &Self) {
        self.count += other.count;
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.value = self.value.zip(other.value).and_then(|(sum, more)| sum.checked_add(more));
    }

    pub fn pack<T: WideTables>(&self, peer: u32, asset: u32, tables: &mut T) -> Result<Pair, T::Error> {
        let value = match self.value {
            Some(sum) => pack_value(sum, tables)?,
            None => BEYOND,
        };
        Ok(Pair { first: self.first, last: self.last, value, peer, asset, count: self.count, padding: 0 })
    }
}

/// Takes rows, and builds the graph of them.
pub struct Builder<S: Scratch> {
    scratch: S,
    networks: Vec<String>,
    network_numbers: HashMap<String, u16>,
    wallets: NamesBuilder<S>,
    tokens: NamesBuilder<S>,
    rows: Column<S, Packed>,
    wide: WideStore<S>,
    native: u64,
}

impl<S: Scratch> Builder<S> {
    /// Without any row.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn new(scratch: S) -> Result<Self, BuildError<S::Error>> {
        let wallets = NamesBuilder::new(&scratch).map_err(BuildError::Scratch)?;
        let mut tokens = NamesBuilder::new(&scratch).map_err(BuildError::Scratch)?;
        // number 0 is the native coin: no network has this number
        tokens.number(&scratch, u16::MAX, "").map_err(BuildError::Scratch)?;
        Ok(Self {
            scratch,
            networks: Vec::new(),
            network_numbers: HashMap::new(),
            wallets,
            tokens,
            rows: Column::default(),
            wide: WideStore::default(),
            native: 0,
        })
    }

    /// Rows taken.
    #[must_use]
    pub fn transfers(&self) -> u64 {
        self.rows.len() as u64
    }

    /// Takes a row.
    ///
    /// # Errors
    /// When there is no memory, or more of something than the file's numbers can count.
    pub fn push(&mut self, row: &TransferRow<'_>) -> Result<(), BuildError<S::Error>> {
        let network = self.network(row.network)?;
        let from = self.wallet(network, row.from)?;
        let to = match row.to {
            Some(to) => self.wallet(network, to)?,
            None => NOBODY,
        };
        let asset = match row.token {
            Some(token) => {
                let number = self.tokens.number(&self.scratch, network, token).map_err(BuildError::Scratch)?;
                number
                    .filter(|number| *number <= MOST_ASSETS)
                    .ok_or(BuildError::TooMany { what: "tokens", limit: u64::from(MOST_ASSETS) })?
            }
            None => {
                self.native += 1;
                super::NATIVE
            }
        };
        if self.rows.len() as u64 >= MOST {
            return Err(BuildError::TooMany { what: "transfers", limit: MOST });
        }
        let mut tables = self.wide.growing(&self.scratch);
        let value = pack_value(row.value, &mut tables).map_err(BuildError::Scratch)?;
        let position = pack_position(row.position, &mut tables).map_err(BuildError::Scratch)?;
        let kind = asset | (row.status as u32) << STATUS_SHIFT;
        let packed = Packed { time: row.time, value, position, from, to, kind, padding: 0 };
        self.rows.push(&self.scratch, packed).map_err(BuildError::Scratch)
    }

    fn network(&mut self, name: &str) -> Result<u16, BuildError<S::Error>> {
        if let Some(number) = self.network_numbers.get(name) {
            return Ok(*number);
        }
        let limit = u16::MAX - 1;
        let number = u16::try_from(self.networks.len()).ok().filter(|number| *number < limit);
        let number = number.ok_or(BuildError::TooMany { what: "networks", limit: u64::from(limit) })?;
        self.networks.push(name.to_owned());
        self.network_numbers.insert(name.to_owned(), number);
        Ok(number)
    }

    fn wallet(&mut self, network: u16, address: &str) -> Result<u32, BuildError<S::Error>> {
        self.wallets
            .number(&self.scratch, network, address)
            .map_err(BuildError::Scratch)?
            .ok_or(BuildError::TooMany { what: "wallets", limit: MOST })
    }

    /// Orders and sums up everything taken.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn finish<W: Watch>(self, watch: &mut W) -> Result<Plan<S>, BuildError<S::Error>> {
        let Self { scratch, networks, wallets, tokens, rows, mut wide, native, .. } = self;
        let count = wallets.names().len();
        let by_time = by_time(&scratch, rows.as_slice(), &wide.slices(), watch).map_err(BuildError::Scratch)?;
        let mut offsets = Column::<S, u32>::zeroed(&scratch, count + 1).map_err(BuildError::Scratch)?;
        tally(offsets.as_mut_slice(), rows.as_slice().iter().map(|row| row.from), watch);
        // dealt out to senders, each sender's by time
        let mut sorted = Column::<S, Packed>::zeroed(&scratch, rows.len()).map_err(BuildError::Scratch)?;
        let mut place_of = Column::<S, u32>::zeroed(&scratch, rows.len()).map_err(BuildError::Scratch)?;
        let mut cursors = Column::<S, u32>::default();
        cursors.extend(&scratch, offsets.as_slice()).map_err(BuildError::Scratch)?;
        {
            let (rows, sorted) = (rows.as_slice(), sorted.as_mut_slice());
            let (cursors, place_of) = (cursors.as_mut_slice(), place_of.as_mut_slice());
            for (step, (place, key)) in place_of.iter_mut().zip(by_time.as_slice()).enumerate() {
                if step % STEPS == 0 {
                    watch.expired();
                }
                let row = rows[key.row as usize];
                let cursor = &mut cursors[row.from as usize];
                sorted[*cursor as usize] = row;
                *place = *cursor;
                *cursor += 1;
            }
        }
        let pairs = pairs(&scratch, sorted.as_slice(), offsets.as_slice(), &mut wide, watch)?;
        Ok(Plan { scratch, networks, wallets, tokens, sorted, offsets, place_of, pairs, wide, native })
    }
}

/// A row's time, and which one it is.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct TimeKey {
    time: i64,
    row: u32,
    padding: u32,
}

fn by_time<S: Scratch>(
    scratch: &S,
    rows: &[Packed],
    wide: &WideSlices<'_>,
    watch: &mut impl Watch,
) -> Result<Column<S, TimeKey>, S::Error> {
    let mut keys = Column::<S, TimeKey>::zeroed(scratch, rows.len())?;
    for (number, (key, row)) in (0..).zip(keys.as_mut_slice().iter_mut().zip(rows)) {
        *key = TimeKey { time: row.time, row: number, padding: 0 };
    }
    let mut room = Column::<S, TimeKey>::zeroed(scratch, rows.len())?;
    sort_watched(keys.as_mut_slice(), room.as_mut_slice(), watch, |a, b| {
        a.time.cmp(&b.time).then_with(|| {
            let (a, b) = (rows[a.row as usize].position, rows[b.row as usize].position);
            if a == b { Ordering::Equal } else { compare_positions(a, b, wide) }
        })
    });
    Ok(keys)
}

/// Positions that cannot be read are not before any other; those of a builder can all be read.
pub(super) fn compare_positions(a: u64, b: u64, wide: &WideSlices<'_>) -> Ordering {
    match (wide.position(a), wide.position(b)) {
        (Ok(a), Ok(b)) => a.cmp(&b),
        _ => Ordering::Equal,
    }
}

/// Offsets from how often each number comes.
pub(super) fn tally(offsets: &mut [u32], numbers: impl Iterator<Item = u32>, watch: &mut impl Watch) {
    for (step, number) in numbers.enumerate() {
        if step % STEPS == 0 {
            watch.expired();
        }
        offsets[number as usize + 1] += 1;
    }
    let mut sum = 0;
    for offset in offsets {
        sum += *offset;
        *offset = sum;
    }
}

struct Pairs<S: Scratch> {
    offsets: Column<S, u32>,
    native_end: Column<S, u32>,
    rows: Column<S, Pair>,
}

/// Sums up each sender's transfers by asset and receiver.
fn pairs<S: Scratch>(
    scratch: &S,
    sorted: &[Packed],
    offsets: &[u32],
    wide: &mut WideStore<S>,
    watch: &mut impl Watch,
) -> Result<Pairs<S>, BuildError<S::Error>> {
    let mut pairs =
        Pairs { offsets: Column::default(), native_end: Column::default(), rows: Column::<S, Pair>::default() };
    pairs.offsets.push(scratch, 0).map_err(BuildError::Scratch)?;
    let mut keys: Vec<(u64, u32)> = Vec::new();
    let mut steps = 0;
    for bounds in offsets.windows(2) {
        let [start, end] = [bounds[0] as usize, bounds[1] as usize];
        steps += 1 + end - start;
        if steps >= STEPS {
            steps = 0;
            watch.expired();
        }
        keys.clear();
        keys.extend((0..).zip(&sorted[start..end]).filter(|(_, row)| row.to != NOBODY).map(|(number, row)| {
            let asset = row.kind & MOST_ASSETS;
            ((u64::from(asset) << 32) | u64::from(row.to), number)
        }));
        keys.sort_unstable();
        let mut native_end = None;
        for group in keys.chunk_by(|a, b| a.0 == b.0) {
            let (asset, peer) = ((group[0].0 >> 32) as u32, group[0].0 as u32);
            if asset != super::NATIVE && native_end.is_none() {
                native_end = Some(pairs.rows.len() as u32);
            }
            let mut sum = PairSum::EMPTY;
            for (_, number) in group {
                let row = &sorted[start + *number as usize];
                sum.add(row.time, wide.slices().value(row.value)?);
            }
            let pair = sum.pack(peer, asset, &mut wide.growing(scratch)).map_err(BuildError::Scratch)?;
            pairs.rows.push(scratch, pair).map_err(BuildError::Scratch)?;
        }
        let end = pairs.rows.len() as u32;
        pairs.native_end.push(scratch, native_end.unwrap_or(end)).map_err(BuildError::Scratch)?;
        pairs.offsets.push(scratch, end).map_err(BuildError::Scratch)?;
    }
    Ok(pairs)
}

/// A graph that is ready to be written.
pub struct Plan<S: Scratch> {
    scratch: S,
    networks: Vec<String>,
    wallets: NamesBuilder<S>,
    tokens: NamesBuilder<S>,
    sorted: Column<S, Packed>,
    offsets: Column<S, u32>,
    /// By time: where the transfer is among its sender's.
    place_of: Column<S, u32>,
    pairs: Pairs<S>,
    wide: WideStore<S>,
    native: u64,
}

impl<S: Scratch> Plan<S> {
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
        let receipts = self.sorted.as_slice().iter().filter(|row| row.to != NOBODY).count();
        sizes_of_names(&mut sizes, &self.wallets, &self.tokens);
        sizes_of_arrays(&mut sizes, self.wallets.names().len(), self.sorted.len(), receipts, self.pairs.rows.len());
        self.wide.sizes(&mut sizes);
        Ok(Layout::new(&sizes))
    }

    /// Writes the file into `out`, which has [`Plan::size`] zeroed bytes.
    ///
    /// # Errors
    /// When there is no memory, or `out` has another size.
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
        write_names(&layout, out, &self.wallets, &self.tokens);
        write_ranks(&self.scratch, &layout, out, &self.wallets, watch).map_err(BuildError::Scratch)?;
        self.wide.write(&layout, out);
        layout.section(out, Section::OutOffsets).copy_from_slice(self.offsets.as_slice());
        layout.section(out, Section::PairOffsets).copy_from_slice(self.pairs.offsets.as_slice());
        layout.section(out, Section::PairNativeEnd).copy_from_slice(self.pairs.native_end.as_slice());
        let sorted = self.sorted.as_slice();
        fill(layout.section(out, Section::OutPeer), sorted, watch, |row| row.to);
        fill(layout.section(out, Section::OutTime), sorted, watch, |row| row.time);
        fill(layout.section(out, Section::OutValue), sorted, watch, |row| row.value);
        fill(layout.section(out, Section::OutKind), sorted, watch, |row| row.kind);
        fill(layout.section(out, Section::OutPosition), sorted, watch, |row| row.position);
        write_pairs(&layout, out, self.pairs.rows.as_slice(), watch);
        self.write_receipts(&layout, out, watch).map_err(BuildError::Scratch)?;
        write_in_pairs(&self.scratch, &layout, out, watch).map_err(BuildError::Scratch)?;
        layout.seal(out, watch);
        Ok(())
    }

    fn write_receipts(&self, layout: &Layout, out: &mut [u8], watch: &mut impl Watch) -> Result<(), S::Error> {
        let sorted = self.sorted.as_slice();
        let receivers = sorted.iter().map(|row| row.to).filter(|to| *to != NOBODY);
        tally(layout.section(out, Section::InOffsets), receivers, watch);
        let mut cursors = Column::<S, u32>::default();
        cursors.extend(&self.scratch, layout.section(out, Section::InOffsets))?;
        let mut sections = layout.split(out);
        let (peers, numbers) = two(&mut sections, Section::InPeer, Section::InTransfer);
        let cursors = cursors.as_mut_slice();
        for (step, place) in self.place_of.as_slice().iter().enumerate() {
            if step % STEPS == 0 {
                watch.expired();
            }
            let row = &sorted[*place as usize];
            if row.to != NOBODY {
                let cursor = &mut cursors[row.to as usize];
                peers[*cursor as usize] = row.from;
                numbers[*cursor as usize] = *place;
                *cursor += 1;
            }
        }
        Ok(())
    }
}

/// Two sections of `u32` at once; the first comes before the second in the file.
pub(super) fn two<'a>(
    sections: &'a mut [&mut [u8]; SECTIONS],
    first: Section,
    second: Section,
) -> (&'a mut [u32], &'a mut [u32]) {
    let (before, from_second) = sections.split_at_mut(second as usize);
    (bytemuck::cast_slice_mut(before[first as usize]), bytemuck::cast_slice_mut(from_second[0]))
}

pub(super) fn fill<T: Copy, R>(out: &mut [T], rows: &[R], watch: &mut impl Watch, field: impl Fn(&R) -> T) {
    for (out, rows) in out.chunks_mut(STEPS).zip(rows.chunks(STEPS)) {
        watch.expired();
        for (out, row) in out.iter_mut().zip(rows) {
            *out = field(row);
        }
    }
}

pub(super) fn write_pairs(layout: &Layout, out: &mut [u8], pairs: &[Pair], watch: &mut impl Watch) {
    fill(layout.section(out, Section::PairPeer), pairs, watch, |pair| pair.peer);
    fill(layout.section(out, Section::PairAsset), pairs, watch, |pair| pair.asset);
    fill(layout.section(out, Section::PairCount), pairs, watch, |pair| pair.count);
    fill(layout.section(out, Section::PairValue), pairs, watch, |pair| pair.value);
    fill(layout.section(out, Section::PairFirst), pairs, watch, |pair| pair.first);
    fill(layout.section(out, Section::PairLast), pairs, watch, |pair| pair.last);
}

/// The pairs of the file by receiver: those of the native coin first, then by asset; among one asset by sender.
pub(super) fn write_in_pairs<S: Scratch>(
    scratch: &S,
    layout: &Layout,
    out: &mut [u8],
    watch: &mut impl Watch,
) -> Result<(), S::Error> {
    let mut sections = layout.split(out);
    let (pairs, rest) = sections.split_at_mut(Section::InPairOffsets as usize);
    let of = |section: Section| bytemuck::cast_slice::<u8, u32>(pairs[section as usize]);
    let (offsets, native_ends) = (of(Section::PairOffsets), of(Section::PairNativeEnd));
    let (peers, assets) = (of(Section::PairPeer), of(Section::PairAsset));
    let [in_offsets, in_ends, in_peers, in_numbers, ..] = rest else { return Ok(()) };
    let in_offsets: &mut [u32] = bytemuck::cast_slice_mut(in_offsets);
    let in_ends: &mut [u32] = bytemuck::cast_slice_mut(in_ends);
    let in_peers: &mut [u32] = bytemuck::cast_slice_mut(in_peers);
    let in_numbers: &mut [u32] = bytemuck::cast_slice_mut(in_numbers);
    tally(in_offsets, peers.iter().copied(), watch);
    let mut cursors = Column::<S, u32>::default();
    cursors.extend(scratch, in_offsets)?;
    let cursors = cursors.as_mut_slice();
    let mut steps = 0;
    for native in [true, false] {
        for (wallet, bounds) in (0..).zip(offsets.windows(2)) {
            let end = native_ends[wallet as usize];
            let range = if native { bounds[0]..end } else { end..bounds[1] };
            steps += 1 + range.len();
            if steps >= STEPS {
                steps = 0;
                watch.expired();
            }
            for number in range {
                let cursor = &mut cursors[peers[number as usize] as usize];
                in_peers[*cursor as usize] = wallet;
                in_numbers[*cursor as usize] = number;
                *cursor += 1;
            }
        }
        if native {
            in_ends.copy_from_slice(&cursors[..in_ends.len()]);
        }
    }
    // tokens came by sender, and go by asset
    for (bounds, end) in in_offsets.windows(2).zip(in_ends) {
        let range = *end as usize..bounds[1] as usize;
        if range.len() > 1 {
            steps += range.len();
            let mut keys: Vec<(u32, u32, u32)> =
                range.clone().map(|i| (assets[in_numbers[i] as usize], in_peers[i], in_numbers[i])).collect();
            keys.sort_unstable();
            for (i, (_, peer, number)) in range.zip(keys) {
                in_peers[i] = peer;
                in_numbers[i] = number;
            }
        }
        if steps >= STEPS {
            steps = 0;
            watch.expired();
        }
    }
    Ok(())
}

pub(super) fn meta_bytes<E: std::error::Error>(
    provenance: &Provenance,
    networks: &[String],
    native_transfers: u64,
) -> Result<Vec<u8>, BuildError<E>> {
    let meta = Meta { provenance: provenance.clone(), networks: networks.to_vec(), native_transfers };
    serde_json::to_vec(&meta).map_err(|_| Damaged { what: "provenance cannot be written" }.into())
}

/// Room for the metadata, however long the build takes: that is known only when it is written.
pub(super) fn meta_room<E: std::error::Error>(
    provenance: &Provenance,
    networks: &[String],
    native_transfers: u64,
) -> Result<usize, BuildError<E>> {
    let longest = Provenance { build_millis: u64::MAX, ..provenance.clone() };
    Ok(meta_bytes(&longest, networks, native_transfers)?.len())
}

/// JSON may end in blanks.
pub(super) fn write_meta<E: std::error::Error>(
    layout: &Layout,
    out: &mut [u8],
    meta: &[u8],
) -> Result<(), BuildError<E>> {
    let section: &mut [u8] = layout.section(out, Section::Meta);
    section.fill(b' ');
    let room = section.get_mut(..meta.len()).ok_or(Damaged { what: "provenance has grown" })?;
    room.copy_from_slice(meta);
    Ok(())
}

pub(super) fn sizes_of_names<S: Scratch>(
    sizes: &mut [usize; SECTIONS],
    wallets: &NamesBuilder<S>,
    tokens: &NamesBuilder<S>,
) {
    use Section as N;
    let sections = [
        (wallets.names(), [N::WalletText, N::WalletPlaces, N::WalletNetworks, N::WalletSlots]),
        (tokens.names(), [N::TokenText, N::TokenPlaces, N::TokenNetworks, N::TokenSlots]),
    ];
    for (names, [text, places, networks, slots]) in sections {
        sizes[text as usize] = names.text.len();
        sizes[places as usize] = names.places.len() * 8;
        sizes[networks as usize] = names.networks.len() * 2;
        sizes[slots as usize] = names.slots.len() * 8;
    }
}

pub(super) fn sizes_of_arrays(
    sizes: &mut [usize; SECTIONS],
    wallets: usize,
    transfers: usize,
    receipts: usize,
    pairs: usize,
) {
    use Section as N;
    for section in [N::OutOffsets, N::InOffsets, N::PairOffsets, N::InPairOffsets] {
        sizes[section as usize] = (wallets + 1) * 4;
    }
    for section in [N::WalletRank, N::WalletByRank, N::PairNativeEnd, N::InPairNativeEnd] {
        sizes[section as usize] = wallets * 4;
    }
    for section in [N::OutPeer, N::OutKind] {
        sizes[section as usize] = transfers * 4;
    }
    for section in [N::OutTime, N::OutValue, N::OutPosition] {
        sizes[section as usize] = transfers * 8;
    }
    for section in [N::InPeer, N::InTransfer] {
        sizes[section as usize] = receipts * 4;
    }
    for section in [N::PairPeer, N::PairAsset, N::PairCount, N::InPairPeer, N::InPairNumber] {
        sizes[section as usize] = pairs * 4;
    }
    for section in [N::PairValue, N::PairFirst, N::PairLast] {
        sizes[section as usize] = pairs * 8;
    }
}

pub(super) fn write_names<S: Scratch>(
    layout: &Layout,
    out: &mut [u8],
    wallets: &NamesBuilder<S>,
    tokens: &NamesBuilder<S>,
) {
    use Section as N;
    let sections = [
        (wallets.names(), [N::WalletText, N::WalletPlaces, N::WalletNetworks, N::WalletSlots]),
        (tokens.names(), [N::TokenText, N::TokenPlaces, N::TokenNetworks, N::TokenSlots]),
    ];
    for (names, [text, places, networks, slots]) in sections {
        layout.section(out, text).copy_from_slice(names.text);
        layout.section(out, places).copy_from_slice(names.places);
        layout.section(out, networks).copy_from_slice(names.networks);
        layout.section(out, slots).copy_from_slice(names.slots);
    }
}

/// The first bytes of an address, and whose they are: most comparisons end there.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct RankKey {
    prefix: [u64; 2],
    wallet: u32,
    padding: u32,
}

fn write_ranks<S: Scratch>(
    scratch: &S,
    layout: &Layout,
    out: &mut [u8],
    wallets: &NamesBuilder<S>,
    watch: &mut impl Watch,
) -> Result<(), S::Error> {
    let names = wallets.names();
    let mut keys = Column::<S, RankKey>::zeroed(scratch, names.len())?;
    for (wallet, key) in (0..).zip(keys.as_mut_slice()) {
        let text = names.bytes(wallet).unwrap_or_default();
        let mut prefix = [0; 16];
        let known = text.len().min(16);
        prefix[..known].copy_from_slice(&text[..known]);
        let [high, low] = bytemuck::cast::<_, [[u8; 8]; 2]>(prefix);
        *key = RankKey { prefix: [u64::from_be_bytes(high), u64::from_be_bytes(low)], wallet, padding: 0 };
    }
    let mut room = Column::<S, RankKey>::zeroed(scratch, names.len())?;
    sort_watched(keys.as_mut_slice(), room.as_mut_slice(), watch, |a, b| {
        a.prefix.cmp(&b.prefix).then_with(|| {
            let text = |wallet: u32| (names.bytes(wallet).unwrap_or_default(), names.networks[wallet as usize]);
            text(a.wallet).cmp(&text(b.wallet))
        })
    });
    for (place, key) in layout.section::<u32>(out, Section::WalletByRank).iter_mut().zip(keys.as_slice()) {
        *place = key.wallet;
    }
    let ranks: &mut [u32] = layout.section(out, Section::WalletRank);
    for (rank, key) in (0..).zip(keys.as_slice()) {
        ranks[key.wallet as usize] = rank;
    }
    Ok(())
}
