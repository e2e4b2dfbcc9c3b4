//! The format of a graph file: a header, then sections, each an array of one type at a multiple of
//! 64 bytes.
//!
//! Numbers are in the byte order of the machine, which is little-endian. The header carries a
//! checksum of itself, checked on every opening, and one of all sections, checked by
//! [`super::Base::verify`].

use std::ops::Range;

use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::graph::budget::Interrupt;
use crate::graph::error::Damaged;

const MAGIC: [u8; 8] = *b"ARXGRAPH";

/// Incremented whenever a section changes its meaning.
const VERSION: u32 = 6;

/// Size of the header; the first section follows.
pub(crate) const HEADER_BYTES: usize = 1024;

const ALIGNMENT: usize = 64;

/// Bytes hashed between two cancellation checks; under a millisecond.
const HASHED_PER_CHECK: usize = 1 << 22;

/// The sections of a file, in order. Arrays called "offsets" have one entry more than there are
/// wallets (or names): the entries of number `n` go from offset `n` to offset `n + 1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Section {
    /// [`Meta`] as JSON.
    Meta,
    /// Addresses of wallets: text, offsets (`u64`), networks (`u16`), hash table (`u64`). Number 0
    /// stands for the missing sender of rewards and has no address.
    WalletText,
    WalletTextOffsets,
    WalletNetworks,
    WalletSlots,
    /// Per wallet, the number of wallets with a lower address (`u32`); and the wallets in the order
    /// of addresses.
    WalletRank,
    WalletByRank,
    /// Addresses of tokens, as those of wallets. Number 0 stands for native coins and has no
    /// address.
    TokenText,
    TokenTextOffsets,
    TokenNetworks,
    TokenSlots,
    /// Offsets (`u32`) of the transfers that each wallet sent, ordered by time and position.
    OutOffsets,
    /// Per transfer: receiver (`u32`), time (`i64`), packed value (`u64`), asset and status
    /// (`u32`), packed position (`u64`).
    OutPeer,
    OutTime,
    OutValue,
    OutKind,
    OutPosition,
    /// Offsets (`u32`) of the receipts of each wallet in the same order; per receipt, the sender
    /// and the number of the transfer.
    InOffsets,
    InPeer,
    InTransfer,
    /// Offsets (`u32`) of the pairs of each sender, ordered by asset and receiver, and the end of
    /// its pairs in the native coin. A pair is the sum of what one wallet sent another in one
    /// asset, without failed transfers.
    PairOffsets,
    PairNativeEnd,
    /// Per pair: receiver (`u32`), asset (`u32`), number of transfers (`u32`), packed sum (`u64`),
    /// first and last time (`i64`).
    PairPeer,
    PairAsset,
    PairCount,
    PairValue,
    PairFirst,
    PairLast,
    /// The pairs of each receiver, ordered by asset and sender: offsets and native ends as above,
    /// then the sender and the number of each pair.
    InPairOffsets,
    InPairNativeEnd,
    InPairPeer,
    InPairNumber,
    /// Values and positions that do not fit into eight bytes.
    Values128,
    Values256,
    Positions,
}

/// Number of sections.
pub(crate) const SECTIONS: usize = Section::Positions as usize + 1;

/// Cost of keeping a graph current since it was built from the tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upkeep {
    /// Bytes of merged files and of segments that were written before this one.
    pub written: u64,
    /// Changes since the build that the graph holds.
    pub changes: u64,
    /// The file or segment was written to hold changes, and not by the build.
    pub holds_changes: bool,
}

/// Origin of a graph. A reader compares it with its own server, database, and snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// Identifier of the database cluster.
    pub system_identifier: u64,
    /// Timeline of the cluster.
    pub timeline: u32,
    /// Oid of the database.
    pub database: u32,
    /// Oid of the table that counts epochs, which differs after DROP and CREATE EXTENSION.
    pub relation: u32,
    /// Counter of changes that no snapshot reveals.
    pub epoch: i64,
    /// Snapshot in which the counter was read, as text: it sees the changes that are counted.
    pub epoch_snapshot: String,
    /// Generation of the graph, one more than that of its predecessor.
    pub generation: u64,
    /// Time of the build, in microseconds of the caller's epoch.
    pub built_at: i64,
    /// Duration of the build in milliseconds.
    pub build_millis: u64,
    /// Boot of the machine that wrote the file.
    pub boot_id: [u8; 16],
    /// Snapshot of the contents, as text (`xmin:xmax:xip,…`): the graph holds every row that it
    /// sees.
    pub snapshot: String,
    /// Cost of keeping it current.
    pub upkeep: Upkeep,
}

/// Contents of the first section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub provenance: Provenance,
    /// Seed of the hash tables of names.
    pub names_seed: u64,
    /// Names of networks in the order of their ids.
    pub networks: Vec<String>,
    pub native_transfers: u64,
}

#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct FileHeader {
    magic: [u8; 8],
    version: u32,
    sections: u32,
    length: u64,
    /// Checksum of the checksums of all sections.
    body_checksum: u64,
    /// Offset and length of each section in bytes.
    table: [[u64; 2]; SECTIONS],
    /// Checksum of all fields above.
    checksum: u64,
}

const HEADER_FITS: () = assert!(size_of::<FileHeader>() <= HEADER_BYTES);

/// Offset and length of every section.
#[derive(Debug, Clone)]
pub(crate) struct SectionTable([[usize; 2]; SECTIONS]);

impl SectionTable {
    /// Reads and checks a header.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Damaged> {
        let () = HEADER_FITS;
        let damaged = |what| Damaged { what };
        let head = bytes.get(..size_of::<FileHeader>()).ok_or(damaged("file is too short"))?;
        let header: FileHeader = bytemuck::try_pod_read_unaligned(head).map_err(|_| damaged("file is too short"))?;
        if header.magic != MAGIC {
            return Err(damaged("not a graph file"));
        }
        if header.version != VERSION || header.sections as usize != SECTIONS {
            return Err(damaged("unsupported format version"));
        }
        if header.checksum != xxh3_64(&head[..size_of::<FileHeader>() - 8]) {
            return Err(damaged("wrong checksum of the header"));
        }
        if bytes.get(head.len()..HEADER_BYTES).is_none_or(|padding| padding.iter().any(|byte| *byte != 0)) {
            return Err(damaged("padding of the header is not zero"));
        }
        if header.length != bytes.len() as u64 {
            return Err(damaged("length of the file does not match its header"));
        }
        let mut table = [[0, 0]; SECTIONS];
        for (entry, [offset, length]) in table.iter_mut().zip(header.table) {
            let end = offset.checked_add(length).ok_or(damaged("section out of range"))?;
            if end > header.length || offset % ALIGNMENT as u64 != 0 {
                return Err(damaged("section out of range"));
            }
            // Both are at most the length of a slice.
            *entry = [offset as usize, length as usize];
        }
        Ok(Self(table))
    }

    /// Checks the checksum of all sections, and that the gaps between them are zero.
    pub(crate) fn verify_body(&self, bytes: &[u8], interrupt: &mut impl Interrupt) -> Result<(), Damaged> {
        let damaged = Damaged { what: "wrong checksum of the file" };
        let head = bytes.get(..size_of::<FileHeader>()).ok_or(damaged)?;
        let header: FileHeader = bytemuck::try_pod_read_unaligned(head).map_err(|_| damaged)?;
        let mut hashes = [0; SECTIONS];
        let mut end = HEADER_BYTES;
        for (hash, [offset, length]) in hashes.iter_mut().zip(self.0) {
            let gap = bytes.get(end..offset).ok_or(damaged)?;
            if gap.iter().any(|byte| *byte != 0) {
                return Err(Damaged { what: "padding between sections is not zero" });
            }
            end = offset + length;
            *hash = checksum(bytes.get(offset..end).ok_or(damaged)?, interrupt);
        }
        let rest = bytes.get(end..).ok_or(damaged)?;
        if rest.len() >= ALIGNMENT || rest.iter().any(|byte| *byte != 0) {
            return Err(Damaged { what: "padding after the sections is not zero" });
        }
        if header.body_checksum == xxh3_64(bytemuck::bytes_of(&hashes)) { Ok(()) } else { Err(damaged) }
    }

    /// Returns the array of a section, empty if its bytes are not a whole number of elements. The
    /// lengths of all arrays are checked when a file is opened.
    pub(crate) fn slice<'a, T: bytemuck::AnyBitPattern>(&self, bytes: &'a [u8], section: Section) -> &'a [T] {
        let [offset, length] = self.0[section as usize];
        bytes.get(offset..offset + length).and_then(|bytes| bytemuck::try_cast_slice(bytes).ok()).unwrap_or(&[])
    }

    /// Returns the size of a section in bytes.
    pub(crate) const fn bytes(&self, section: Section) -> usize {
        self.0[section as usize][1]
    }
}

fn checksum(body: &[u8], interrupt: &mut impl Interrupt) -> u64 {
    let mut hasher = Xxh3::new();
    for chunk in body.chunks(HASHED_PER_CHECK) {
        interrupt.should_stop();
        hasher.update(chunk);
    }
    hasher.digest()
}

/// Layout of a file that is to be written.
#[derive(Debug, Clone)]
pub(crate) struct FileLayout {
    table: [[u64; 2]; SECTIONS],
    length: usize,
}

impl FileLayout {
    /// Lays out sections of the given sizes in bytes one after the other.
    pub(crate) fn new(sizes: &[usize; SECTIONS]) -> Self {
        let mut table = [[0, 0]; SECTIONS];
        let mut length = HEADER_BYTES;
        for (entry, size) in table.iter_mut().zip(sizes) {
            *entry = [length as u64, *size as u64];
            length += size.next_multiple_of(ALIGNMENT);
        }
        Self { table, length }
    }

    /// Returns the length of the file.
    pub(crate) const fn length(&self) -> usize {
        self.length
    }

    pub(crate) fn range(&self, section: Section) -> Range<usize> {
        // Both were a `usize` in `new`.
        let [offset, length] = self.table[section as usize].map(|number| number as usize);
        offset..offset + length
    }

    /// Returns the header, given the checksums of the sections.
    pub(crate) fn header(&self, checksums: &[u64; SECTIONS]) -> Vec<u8> {
        let mut header = FileHeader {
            magic: MAGIC,
            version: VERSION,
            sections: SECTIONS as u32,
            length: self.length as u64,
            body_checksum: xxh3_64(bytemuck::bytes_of(checksums)),
            table: self.table,
            checksum: 0,
        };
        let covered = size_of::<FileHeader>() - 8;
        header.checksum = xxh3_64(&bytemuck::bytes_of(&header)[..covered]);
        bytemuck::bytes_of(&header).to_vec()
    }
}
