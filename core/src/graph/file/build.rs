//! Transfers in any order -> the file of a graph.
//!
//! Rows are kept packed in scratch memory as they come (40 bytes each). Then they are ordered by time and position, dealt out to
//! their senders, and each sender's are summed up by receiver and asset. O(n log n) where rows come in no order, O(n) where
//! they come by time.

use std::cmp::Ordering;
use std::collections::HashMap;

use bytemuck::{Pod, Zeroable};

use crate::graph::budget::Interrupt;
use crate::graph::error::BuildError;
use crate::graph::file::format::{Provenance, SECTIONS, Section};
use crate::graph::file::names::{Extended, MOST, NamesBuilder};
use crate::graph::file::packed::{
    MAX_ASSET, TransferKind, WidePosition, WideSlices, WideTables, pack_position, pack_value,
};
use crate::graph::file::rows::{Packed, Pair, PairSum, STEPS, compare_positions, tally};
use crate::graph::file::scratch::{Column, Scratch};
use crate::graph::file::sections::{
    Dealt, PairSide, PairWriter, TOKEN_NAMES, TransferWriter, WALLET_NAMES, meta_bytes, sizes, write_dealt,
    write_in_pairs, write_names, write_ranks,
};
use crate::graph::file::sorting::sort_watched;
use crate::graph::file::writer::{FileWriter, Sink};
use crate::graph::types::{AssetId, NetworkId, TransferRow, WalletId};

/// The tables beside the packed numbers, growing.
pub(in crate::graph) struct WideColumns<'s, S: Scratch> {
    scratch: &'s S,
    columns: &'s mut WideStore<S>,
}

pub(in crate::graph) struct WideStore<S: Scratch> {
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

    pub fn write<K: Sink>(
        &self,
        file: &mut FileWriter<'_, K>,
        interrupt: &mut impl Interrupt,
    ) -> Result<(), BuildError<K::Error>> {
        file.write(Section::Values128, self.values_128.as_slice(), interrupt)?;
        file.write(Section::Values256, self.values_256.as_slice(), interrupt)?;
        file.write(Section::Positions, self.positions.as_slice(), interrupt)
    }
}

impl<S: Scratch> WideTables for WideColumns<'_, S> {
    type Error = S::Error;

    fn push_128(&mut self, value: [u64; 2]) -> Result<u64, S::Error> {
        self.columns.values_128.push(self.scratch, value)?;
        Ok(self.columns.values_128.len() as u64 - 1)
    }

    fn set_128(&mut self, place: u64, value: [u64; 2]) {
        if let Some(known) = self.columns.values_128.as_mut_slice().get_mut(place as usize) {
            *known = value;
        }
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

/// Takes rows, and builds the graph of them.
pub struct Builder<S: Scratch> {
    scratch: S,
    networks: Vec<String>,
    network_numbers: HashMap<String, NetworkId>,
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
        tokens.number(&scratch, NetworkId::new(u16::MAX), "").map_err(BuildError::Scratch)?;
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
            None => WalletId::NONE,
        };
        let asset = match row.token {
            Some(token) => {
                let number = self.tokens.number(&self.scratch, network, token).map_err(BuildError::Scratch)?;
                number
                    .filter(|number| *number <= MAX_ASSET)
                    .map(AssetId::new)
                    .ok_or(BuildError::TooMany { what: "tokens", limit: u64::from(MAX_ASSET) })?
            }
            None => {
                self.native += 1;
                AssetId::NATIVE
            }
        };
        if self.rows.len() as u64 >= MOST {
            return Err(BuildError::TooMany { what: "transfers", limit: MOST });
        }
        let mut tables = self.wide.growing(&self.scratch);
        let value = pack_value(row.value, &mut tables).map_err(BuildError::Scratch)?;
        let position = pack_position(row.position, &mut tables).map_err(BuildError::Scratch)?;
        let kind = TransferKind::new(asset, row.status);
        let packed = Packed::new(row.time, value, position, from, to, kind);
        self.rows.push(&self.scratch, packed).map_err(BuildError::Scratch)
    }

    fn network(&mut self, name: &str) -> Result<NetworkId, BuildError<S::Error>> {
        if let Some(number) = self.network_numbers.get(name) {
            return Ok(*number);
        }
        let limit = u16::MAX - 1;
        let number = u16::try_from(self.networks.len()).ok().filter(|number| *number < limit);
        let number = number.ok_or(BuildError::TooMany { what: "networks", limit: u64::from(limit) })?;
        let network = NetworkId::new(number);
        self.networks.push(name.to_owned());
        self.network_numbers.insert(name.to_owned(), network);
        Ok(network)
    }

    fn wallet(&mut self, network: NetworkId, address: &str) -> Result<WalletId, BuildError<S::Error>> {
        self.wallets
            .number(&self.scratch, network, address)
            .map_err(BuildError::Scratch)?
            .map(WalletId::new)
            .ok_or(BuildError::TooMany { what: "wallets", limit: MOST })
    }

    /// Orders and sums up everything taken.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn finish<W: Interrupt>(self, interrupt: &mut W) -> Result<Plan<S>, BuildError<S::Error>> {
        let Self { scratch, networks, wallets, tokens, rows, mut wide, native, .. } = self;
        let count = wallets.names().len();
        let by_time = by_time(&scratch, rows.as_slice(), &wide.slices(), interrupt).map_err(BuildError::Scratch)?;
        let mut offsets = Column::<S, u32>::zeroed(&scratch, count + 1).map_err(BuildError::Scratch)?;
        tally(offsets.as_mut_slice(), rows.as_slice().iter().map(|row| row.from), interrupt);
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
                    interrupt.should_stop();
                }
                let row = rows[key.row as usize];
                let cursor = &mut cursors[row.from.index()];
                sorted[*cursor as usize] = row;
                *place = *cursor;
                *cursor += 1;
            }
        }
        let pairs = pairs(&scratch, sorted.as_slice(), offsets.as_slice(), &mut wide, interrupt)?;
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
    interrupt: &mut impl Interrupt,
) -> Result<Column<S, TimeKey>, S::Error> {
    let mut keys = Column::<S, TimeKey>::zeroed(scratch, rows.len())?;
    for (number, (key, row)) in (0..).zip(keys.as_mut_slice().iter_mut().zip(rows)) {
        if (number as usize).is_multiple_of(STEPS) {
            interrupt.should_stop();
        }
        *key = TimeKey { time: row.time, row: number, padding: 0 };
    }
    let mut room = Column::<S, TimeKey>::zeroed(scratch, rows.len())?;
    sort_watched(keys.as_mut_slice(), room.as_mut_slice(), interrupt, |a, b| {
        a.time.cmp(&b.time).then_with(|| {
            let (a, b) = (rows[a.row as usize].position, rows[b.row as usize].position);
            if a == b { Ordering::Equal } else { compare_positions(a, b, wide) }
        })
    });
    Ok(keys)
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
    interrupt: &mut impl Interrupt,
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
            interrupt.should_stop();
        }
        keys.clear();
        keys.extend(
            (0..)
                .zip(&sorted[start..end])
                .filter(|(_, row)| row.to != WalletId::NONE)
                .map(|(number, row)| ((u64::from(row.kind.asset().get()) << 32) | u64::from(row.to.get()), number)),
        );
        keys.sort_unstable();
        let mut native_end = None;
        for group in keys.chunk_by(|a, b| a.0 == b.0) {
            let (asset, peer) = (AssetId::new((group[0].0 >> 32) as u32), WalletId::new(group[0].0 as u32));
            if asset != AssetId::NATIVE && native_end.is_none() {
                native_end = Some(pairs.rows.len() as u32);
            }
            let mut sum = PairSum::EMPTY;
            for (_, number) in group {
                let row = &sorted[start + *number as usize];
                sum.add(row.time, wide.slices().value(row.value)?);
            }
            let pair = sum.pack(peer, asset, 0, &mut wide.growing(scratch)).map_err(BuildError::Scratch)?;
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
    /// Writes the file.
    ///
    /// # Errors
    /// When there is no memory, or no place for the file.
    pub fn write<W: Interrupt, K: Sink<Error = S::Error>>(
        &self,
        provenance: &Provenance,
        sink: &K,
        interrupt: &mut W,
    ) -> Result<(), BuildError<S::Error>> {
        let meta = meta_bytes(provenance, &self.networks, self.native)?;
        let nothing = [];
        let names = [
            (Extended::new(self.wallets.names(), &nothing), WALLET_NAMES),
            (Extended::new(self.tokens.names(), &nothing), TOKEN_NAMES),
        ];
        let sorted = self.sorted.as_slice();
        let mut receipts = 0;
        for rows in sorted.chunks(STEPS) {
            interrupt.should_stop();
            receipts += rows.iter().filter(|row| row.to != WalletId::NONE).count();
        }
        let mut sizes = sizes(&meta, &names, sorted.len(), receipts, self.pairs.rows.len());
        self.wide.sizes(&mut sizes);
        let mut file = FileWriter::begin(sink, &sizes)?;
        file.write(Section::Meta, &meta, interrupt)?;
        write_names(&self.scratch, &mut file, &names, interrupt)?;
        write_ranks(&self.scratch, &mut file, &self.wallets, interrupt)?;
        self.wide.write(&mut file, interrupt)?;
        self.write_transfers(&mut file, interrupt)?;
        self.write_receipts(&mut file, interrupt)?;
        self.write_pairs(&mut file, interrupt)?;
        let pairs = self.pairs.rows.len();
        let mut sides = Column::<S, PairSide>::zeroed(&self.scratch, pairs).map_err(BuildError::Scratch)?;
        for (pair, side) in self.pairs.rows.as_slice().iter().zip(sides.as_mut_slice()) {
            *side = PairSide { peer: pair.peer, asset: pair.asset };
        }
        let (offsets, native_ends) = (self.pairs.offsets.as_slice(), self.pairs.native_end.as_slice());
        write_in_pairs(&self.scratch, &mut file, offsets, native_ends, sides.as_slice(), interrupt)?;
        file.seal()
    }

    fn write_transfers<K: Sink<Error = S::Error>>(
        &self,
        file: &mut FileWriter<'_, K>,
        interrupt: &mut impl Interrupt,
    ) -> Result<(), BuildError<S::Error>> {
        file.write(Section::OutOffsets, self.offsets.as_slice(), interrupt)?;
        let mut out = TransferWriter::open(file);
        for rows in self.sorted.as_slice().chunks(STEPS) {
            interrupt.should_stop();
            for row in rows {
                out.push(row)?;
            }
        }
        out.close(file)
    }

    fn write_receipts<K: Sink<Error = S::Error>>(
        &self,
        file: &mut FileWriter<'_, K>,
        interrupt: &mut impl Interrupt,
    ) -> Result<(), BuildError<S::Error>> {
        let sorted = self.sorted.as_slice();
        let mut offsets = Column::<S, u32>::zeroed(&self.scratch, self.offsets.len()).map_err(BuildError::Scratch)?;
        tally(offsets.as_mut_slice(), sorted.iter().map(|row| row.to).filter(|to| *to != WalletId::NONE), interrupt);
        file.write(Section::InOffsets, offsets.as_slice(), interrupt)?;
        let receipts = offsets.as_slice().last().map_or(0, |end| *end as usize);
        let mut dealt = Column::<S, Dealt>::zeroed(&self.scratch, receipts).map_err(BuildError::Scratch)?;
        let (cursors, dealt) = (offsets.as_mut_slice(), dealt.as_mut_slice());
        for (step, place) in self.place_of.as_slice().iter().enumerate() {
            if step % STEPS == 0 {
                interrupt.should_stop();
            }
            let row = &sorted[*place as usize];
            if row.to != WalletId::NONE {
                let cursor = &mut cursors[row.to.index()];
                dealt[*cursor as usize] = Dealt { sender: row.from, number: *place };
                *cursor += 1;
            }
        }
        write_dealt(file, [Section::InPeer, Section::InTransfer], dealt, interrupt)
    }

    fn write_pairs<K: Sink<Error = S::Error>>(
        &self,
        file: &mut FileWriter<'_, K>,
        interrupt: &mut impl Interrupt,
    ) -> Result<(), BuildError<S::Error>> {
        file.write(Section::PairOffsets, self.pairs.offsets.as_slice(), interrupt)?;
        file.write(Section::PairNativeEnd, self.pairs.native_end.as_slice(), interrupt)?;
        let mut out = PairWriter::open(file);
        for pairs in self.pairs.rows.as_slice().chunks(STEPS) {
            interrupt.should_stop();
            for pair in pairs {
                out.push(pair)?;
            }
        }
        out.close(file)
    }
}
