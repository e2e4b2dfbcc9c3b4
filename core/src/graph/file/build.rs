//! Builds a graph file from transfers in any order.
//!
//! Rows are packed into scratch memory as they arrive (40 bytes each). Then they are sorted by time
//! and position, distributed to their senders, and summed up by receiver and asset. O(n log n) for
//! rows in random order, O(n) for rows in the order of time.

use std::cmp::Ordering;
use std::collections::HashMap;

use bytemuck::{Pod, Zeroable};

use crate::graph::budget::Interrupt;
use crate::graph::error::BuildError;
use crate::graph::file::format::{Provenance, Section};
use crate::graph::file::names::{Extended, MAX_NAMES, NamesBuilder};
use crate::graph::file::packed::{MAX_ASSET, TransferKind, WideSlices, pack_position, pack_value};
use crate::graph::file::rows::{ELEMENTS_PER_CHECK, PackedPair, PackedTransfer, PairSum, compare_positions, tally};
use crate::graph::file::scratch::{Column, Scratch};
use crate::graph::file::sections::{FilePlan, InEntry, write_in_entries, write_pairs, write_ranks, write_transfers};
use crate::graph::file::sorting::sort_interruptibly;
use crate::graph::file::wide::WideStore;
use crate::graph::file::writer::{FileWriter, Sink};
use crate::graph::types::{AssetId, NetworkId, Source, Status, TransferRow, WalletId};

/// Collects rows, and builds a graph from them.
pub struct Builder<S: Scratch> {
    scratch: S,
    networks: Vec<String>,
    network_ids: HashMap<String, NetworkId>,
    wallets: NamesBuilder<S>,
    tokens: NamesBuilder<S>,
    rows: Column<S, PackedTransfer>,
    wide: WideStore<S>,
    native_transfers: u64,
}

impl<S: Scratch> Builder<S> {
    /// Creates a builder without rows. `seed` is that of the hash tables of names: random, where
    /// names come from others.
    ///
    /// # Errors
    /// When there is not enough memory.
    pub fn new(scratch: S, seed: u64) -> Result<Self, BuildError<S::Error>> {
        let mut wallets = NamesBuilder::new(&scratch, seed).map_err(BuildError::Scratch)?;
        let mut tokens = NamesBuilder::new(&scratch, seed).map_err(BuildError::Scratch)?;
        // Number 0 stands for a missing sender, and for the native coin; no network has this id.
        for names in [&mut wallets, &mut tokens] {
            names.number(&scratch, NetworkId::new(u16::MAX), "").map_err(BuildError::Scratch)?;
        }
        Ok(Self {
            scratch,
            networks: Vec::new(),
            network_ids: HashMap::new(),
            wallets,
            tokens,
            rows: Column::default(),
            wide: WideStore::default(),
            native_transfers: 0,
        })
    }

    /// Returns the number of rows.
    #[must_use]
    pub const fn transfers(&self) -> u64 {
        self.rows.len() as u64
    }

    /// Adds a row.
    ///
    /// # Errors
    /// When there is not enough memory, or more of something than its ids can count.
    pub fn push(&mut self, row: &TransferRow<'_>) -> Result<(), BuildError<S::Error>> {
        self.push_from(row.source(), row)
    }

    /// Adds a row of a table; one with a token is always a token transfer.
    ///
    /// # Errors
    /// The errors of [`Self::push`].
    pub fn push_from(&mut self, source: Source, row: &TransferRow<'_>) -> Result<(), BuildError<S::Error>> {
        let network = self.network(row.network)?;
        let from = match row.from {
            Some(from) => self.wallet(network, from)?,
            None => WalletId::NO_SENDER,
        };
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
                self.native_transfers += 1;
                AssetId::NATIVE
            }
        };
        if self.rows.len() as u64 >= MAX_NAMES {
            return Err(BuildError::TooMany { what: "transfers", limit: MAX_NAMES });
        }
        let mut tables = self.wide.growing(&self.scratch);
        let value = pack_value(row.value, &mut tables).map_err(BuildError::Scratch)?;
        let position = pack_position(row.position, &mut tables).map_err(BuildError::Scratch)?;
        let kind = TransferKind::new(asset, source, row.status);
        let packed = PackedTransfer::new(row.time, value, position, from, to, kind);
        self.rows.push(&self.scratch, packed).map_err(BuildError::Scratch)
    }

    fn network(&mut self, name: &str) -> Result<NetworkId, BuildError<S::Error>> {
        if let Some(network) = self.network_ids.get(name) {
            return Ok(*network);
        }
        let limit = u16::MAX - 1;
        let number = u16::try_from(self.networks.len()).ok().filter(|number| *number < limit);
        let number = number.ok_or(BuildError::TooMany { what: "networks", limit: u64::from(limit) })?;
        let network = NetworkId::new(number);
        self.networks.push(name.to_owned());
        self.network_ids.insert(name.to_owned(), network);
        Ok(network)
    }

    fn wallet(&mut self, network: NetworkId, address: &str) -> Result<WalletId, BuildError<S::Error>> {
        self.wallets
            .number(&self.scratch, network, address)
            .map_err(BuildError::Scratch)?
            .map(WalletId::new)
            .ok_or(BuildError::TooMany { what: "wallets", limit: MAX_NAMES })
    }

    /// Sorts and sums up all rows.
    ///
    /// # Errors
    /// When there is not enough memory.
    pub fn finish<W: Interrupt>(self, interrupt: &mut W) -> Result<BuildPlan<S>, BuildError<S::Error>> {
        let Self { scratch, networks, wallets, tokens, rows, mut wide, native_transfers, .. } = self;
        let count = wallets.names().len();
        let by_time = by_time(&scratch, rows.as_slice(), &wide.slices(), interrupt).map_err(BuildError::Scratch)?;
        let mut offsets = Column::<S, u32>::zeroed(&scratch, count + 1).map_err(BuildError::Scratch)?;
        tally(offsets.as_mut_slice(), rows.as_slice().iter().map(|row| row.from), interrupt);
        // Distribute the rows to their senders, each sender's in the order of time.
        let mut sorted = Column::<S, PackedTransfer>::zeroed(&scratch, rows.len()).map_err(BuildError::Scratch)?;
        let mut numbers = Column::<S, u32>::zeroed(&scratch, rows.len()).map_err(BuildError::Scratch)?;
        let mut cursors = Column::<S, u32>::default();
        cursors.extend(&scratch, offsets.as_slice()).map_err(BuildError::Scratch)?;
        {
            let (rows, sorted) = (rows.as_slice(), sorted.as_mut_slice());
            let (cursors, numbers) = (cursors.as_mut_slice(), numbers.as_mut_slice());
            for (step, (number, key)) in numbers.iter_mut().zip(by_time.as_slice()).enumerate() {
                if step % ELEMENTS_PER_CHECK == 0 {
                    interrupt.should_stop();
                }
                let row = rows[key.row as usize];
                let cursor = &mut cursors[row.from.index()];
                sorted[*cursor as usize] = row;
                *number = *cursor;
                *cursor += 1;
            }
        }
        let pairs = pairs(&scratch, sorted.as_slice(), offsets.as_slice(), &mut wide, interrupt)?;
        Ok(BuildPlan { scratch, networks, wallets, tokens, sorted, offsets, numbers, pairs, wide, native_transfers })
    }
}

/// Time and index of a row.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct TimeKey {
    time: i64,
    row: u32,
    padding: u32,
}

fn by_time<S: Scratch>(
    scratch: &S,
    rows: &[PackedTransfer],
    wide: &WideSlices<'_>,
    interrupt: &mut impl Interrupt,
) -> Result<Column<S, TimeKey>, S::Error> {
    let mut keys = Column::<S, TimeKey>::zeroed(scratch, rows.len())?;
    for (index, (key, row)) in (0..).zip(keys.as_mut_slice().iter_mut().zip(rows)) {
        if (index as usize).is_multiple_of(ELEMENTS_PER_CHECK) {
            interrupt.should_stop();
        }
        *key = TimeKey { time: row.time, row: index, padding: 0 };
    }
    let mut room = Column::<S, TimeKey>::zeroed(scratch, rows.len())?;
    sort_interruptibly(keys.as_mut_slice(), room.as_mut_slice(), interrupt, |a, b| {
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
    rows: Column<S, PackedPair>,
}

/// Sums up the transfers of each sender by asset and receiver: those that did not fail.
fn pairs<S: Scratch>(
    scratch: &S,
    sorted: &[PackedTransfer],
    offsets: &[u32],
    wide: &mut WideStore<S>,
    interrupt: &mut impl Interrupt,
) -> Result<Pairs<S>, BuildError<S::Error>> {
    let mut pairs = Pairs { offsets: Column::default(), native_end: Column::default(), rows: Column::default() };
    pairs.offsets.push(scratch, 0).map_err(BuildError::Scratch)?;
    let mut keys: Vec<(u64, u32)> = Vec::new();
    let mut steps = 0;
    for (sender, bounds) in (0..).map(WalletId::new).zip(offsets.windows(2)) {
        let [start, end] = [bounds[0] as usize, bounds[1] as usize];
        // A missing sender has no edges.
        let start = if sender == WalletId::NO_SENDER { end } else { start };
        steps += 1 + end - start;
        if steps >= ELEMENTS_PER_CHECK {
            steps = 0;
            interrupt.should_stop();
        }
        keys.clear();
        keys.extend(
            (0..)
                .zip(&sorted[start..end])
                .filter(|(_, row)| row.to != WalletId::NONE && row.kind.status() != Status::Failed)
                .map(|(index, row)| ((u64::from(row.kind.asset().get()) << 32) | u64::from(row.to.get()), index)),
        );
        keys.sort_unstable();
        let mut native_end = None;
        for group in keys.chunk_by(|a, b| a.0 == b.0) {
            let (asset, peer) = (AssetId::new((group[0].0 >> 32) as u32), WalletId::new(group[0].0 as u32));
            if asset != AssetId::NATIVE && native_end.is_none() {
                native_end = Some(pairs.rows.len() as u32);
            }
            let mut sum = PairSum::EMPTY;
            for (_, index) in group {
                let row = &sorted[start + *index as usize];
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
pub struct BuildPlan<S: Scratch> {
    scratch: S,
    networks: Vec<String>,
    wallets: NamesBuilder<S>,
    tokens: NamesBuilder<S>,
    sorted: Column<S, PackedTransfer>,
    offsets: Column<S, u32>,
    /// In the order of time, the index of each transfer in `sorted`.
    numbers: Column<S, u32>,
    pairs: Pairs<S>,
    wide: WideStore<S>,
    native_transfers: u64,
}

impl<S: Scratch> BuildPlan<S> {
    /// Writes the file.
    ///
    /// # Errors
    /// When there is not enough memory, or the file cannot be written.
    pub fn write<W: Interrupt, K: Sink<Error = S::Error>>(
        &self,
        provenance: &Provenance,
        sink: &K,
        interrupt: &mut W,
    ) -> Result<(), BuildError<S::Error>> {
        let sorted = self.sorted.as_slice();
        let mut receipts = 0;
        for chunk in sorted.chunks(ELEMENTS_PER_CHECK) {
            interrupt.should_stop();
            receipts += chunk.iter().filter(|transfer| transfer.to != WalletId::NONE).count();
        }
        let plan = FilePlan {
            networks: &self.networks,
            wallets: Extended::new(self.wallets.names(), &[]),
            tokens: Extended::new(self.tokens.names(), &[]),
            wide: &self.wide,
            native_transfers: self.native_transfers,
            transfers: sorted.len(),
            receipts,
            pairs: self.pairs.rows.len(),
        };
        let mut file = plan.begin(&self.scratch, provenance, sink, interrupt)?;
        write_ranks(&self.scratch, &mut file, &self.wallets, interrupt)?;
        write_transfers(&mut file, self.offsets.as_slice(), sorted, interrupt)?;
        self.write_receipts(&mut file, interrupt)?;
        let (offsets, native_ends) = (self.pairs.offsets.as_slice(), self.pairs.native_end.as_slice());
        write_pairs(&self.scratch, &mut file, self.pairs.rows.as_slice(), offsets, native_ends, interrupt)?;
        file.seal()
    }

    fn write_receipts<K: Sink<Error = S::Error>>(
        &self,
        file: &mut FileWriter<'_, K>,
        interrupt: &mut impl Interrupt,
    ) -> Result<(), BuildError<S::Error>> {
        let sorted = self.sorted.as_slice();
        let mut offsets = Column::<S, u32>::zeroed(&self.scratch, self.offsets.len()).map_err(BuildError::Scratch)?;
        let receivers = sorted.iter().map(|transfer| transfer.to).filter(|to| *to != WalletId::NONE);
        tally(offsets.as_mut_slice(), receivers, interrupt);
        file.write(Section::InOffsets, offsets.as_slice(), interrupt)?;
        let receipts = offsets.as_slice().last().map_or(0, |end| *end as usize);
        let mut entries = Column::<S, InEntry>::zeroed(&self.scratch, receipts).map_err(BuildError::Scratch)?;
        let (cursors, entries) = (offsets.as_mut_slice(), entries.as_mut_slice());
        for (step, number) in self.numbers.as_slice().iter().enumerate() {
            if step % ELEMENTS_PER_CHECK == 0 {
                interrupt.should_stop();
            }
            let transfer = &sorted[*number as usize];
            if transfer.to != WalletId::NONE {
                let cursor = &mut cursors[transfer.to.index()];
                entries[*cursor as usize] = InEntry { sender: transfer.from, number: *number };
                *cursor += 1;
            }
        }
        write_in_entries(file, [Section::InPeer, Section::InTransfer], entries, interrupt)
    }
}
