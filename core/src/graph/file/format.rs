//! The file of a graph: a header, then sections, each an array of one type that begins at a multiple of 64 bytes.
//!
//! Numbers are little-endian, as the machine has them. The header carries a checksum of itself, checked on every opening, and
//! one of all sections, checked by [`super::Base::verify`].

use std::ops::Range;

use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::graph::budget::Interrupt;
use crate::graph::error::Damaged;

const MAGIC: [u8; 8] = *b"ARXGRAPH";

/// Rises whenever a section changes its meaning.
const VERSION: u32 = 2;

/// The header's room; sections begin behind it.
pub const HEADER_BYTES: usize = 1024;

const ALIGNMENT: usize = 64;

/// Hashed between two looks at the interrupt: under a millisecond.
const HASHED_AT_ONCE: usize = 1 << 22;

/// What a section holds. `wallet`, `transfer` and `pair` are numbers; offsets have one entry more than there are wallets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Section {
    /// [`Meta`] as JSON.
    Meta,
    /// Addresses of wallets: text, `u64` places, `u16` networks, `u64` hash slots.
    WalletText,
    WalletPlaces,
    WalletNetworks,
    WalletSlots,
    /// `u32`: how many wallets come before this one by address; and the wallets in that order.
    WalletRank,
    WalletByRank,
    /// Addresses of tokens, as of wallets. Number 0 stands for native coins and has no address.
    TokenText,
    TokenPlaces,
    TokenNetworks,
    TokenSlots,
    /// `u32`: where a wallet's transfers begin, ordered by time and position.
    OutOffsets,
    /// Of each transfer: receiver `u32`, time `i64`, value `u64` (packed), asset and status `u32`, position `u64` (packed).
    OutPeer,
    OutTime,
    OutValue,
    OutKind,
    OutPosition,
    /// `u32`: where a wallet's receipts begin, in the same order; of each the sender and the number of the transfer.
    InOffsets,
    InPeer,
    InTransfer,
    /// `u32`: where a wallet's pairs (what it sent one wallet in one asset) begin, by asset and receiver; and where those of
    /// the native coin end.
    PairOffsets,
    PairNativeEnd,
    /// Of each pair: receiver `u32`, asset `u32`, transfers `u32`, sum `u64` (packed), first and last time `i64`.
    PairPeer,
    PairAsset,
    PairCount,
    PairValue,
    PairFirst,
    PairLast,
    /// The pairs by receiver, then asset and sender: offsets and ends as above, sender, number of the pair.
    InPairOffsets,
    InPairNativeEnd,
    InPairPeer,
    InPairNumber,
    /// Tables of what does not fit into eight bytes.
    Values128,
    Values256,
    Positions,
}

/// How many sections there are.
pub const SECTIONS: usize = Section::Positions as usize + 1;

/// Where a graph comes from: what a reader compares with where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The cluster.
    pub system_identifier: u64,
    /// Its timeline.
    pub timeline: u32,
    /// The database.
    pub database: u32,
    /// The table of transactions: another one after DROP and CREATE EXTENSION.
    pub relation: u32,
    /// The number that moves when rows came or went unseen.
    pub epoch: i64,
    /// One more than that of the graph before.
    pub generation: u64,
    /// When it was built, in the caller's microseconds.
    pub built_at: i64,
    /// How long that took.
    pub build_millis: u64,
    /// The run of the machine that wrote it.
    pub boot_id: [u8; 16],
    /// What it holds: everything this snapshot sees, as text (`xmin:xmax:xip,…`).
    pub snapshot: String,
}

/// The first section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Where the graph comes from.
    pub provenance: Provenance,
    /// Names of networks: their place is their number.
    pub networks: Vec<String>,
    /// Transfers of native coins.
    pub native_transfers: u64,
}

#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    version: u32,
    sections: u32,
    length: u64,
    /// Of the sections' checksums, in their order.
    body_checksum: u64,
    /// Offset and length in bytes.
    places: [[u64; 2]; SECTIONS],
    /// Of all before it.
    checksum: u64,
}

const HEADER_FITS: () = assert!(size_of::<Header>() <= HEADER_BYTES);

/// Where the sections are.
#[derive(Debug, Clone)]
pub struct Places([[usize; 2]; SECTIONS]);

impl Places {
    /// Reads and checks a header.
    pub fn read(bytes: &[u8]) -> Result<Self, Damaged> {
        let () = HEADER_FITS;
        let damaged = |what| Damaged { what };
        let head = bytes.get(..size_of::<Header>()).ok_or(damaged("file is too short"))?;
        let header: Header = bytemuck::try_pod_read_unaligned(head).map_err(|_| damaged("file is too short"))?;
        if header.magic != MAGIC {
            return Err(damaged("not a graph file"));
        }
        if header.version != VERSION || header.sections as usize != SECTIONS {
            return Err(damaged("another version of the format"));
        }
        if header.checksum != xxh3_64(&head[..size_of::<Header>() - 8]) {
            return Err(damaged("checksum of the header"));
        }
        if bytes.get(head.len()..HEADER_BYTES).is_none_or(|padding| padding.iter().any(|byte| *byte != 0)) {
            return Err(damaged("padding of the header"));
        }
        if header.length != bytes.len() as u64 {
            return Err(damaged("file is not as long as it was"));
        }
        let mut places = [[0, 0]; SECTIONS];
        for (place, [offset, length]) in places.iter_mut().zip(header.places) {
            let end = offset.checked_add(length).ok_or(damaged("section out of the file"))?;
            if end > header.length || offset % ALIGNMENT as u64 != 0 {
                return Err(damaged("section out of the file"));
            }
            // both are at most the length of a slice
            *place = [offset as usize, length as usize];
        }
        Ok(Self(places))
    }

    /// Whether what is behind the header is as it was written.
    pub fn verify_body(&self, bytes: &[u8], interrupt: &mut impl Interrupt) -> Result<(), Damaged> {
        let damaged = Damaged { what: "checksum of the file" };
        let head = bytes.get(..size_of::<Header>()).ok_or(damaged)?;
        let header: Header = bytemuck::try_pod_read_unaligned(head).map_err(|_| damaged)?;
        let mut hashes = [0; SECTIONS];
        let mut end = HEADER_BYTES;
        for (hash, [offset, length]) in hashes.iter_mut().zip(self.0) {
            let between = bytes.get(end..offset).ok_or(damaged)?;
            if between.iter().any(|byte| *byte != 0) {
                return Err(Damaged { what: "padding between sections" });
            }
            end = offset + length;
            *hash = checksum(bytes.get(offset..end).ok_or(damaged)?, interrupt);
        }
        let rest = bytes.get(end..).ok_or(damaged)?;
        if rest.len() >= ALIGNMENT || rest.iter().any(|byte| *byte != 0) {
            return Err(Damaged { what: "padding behind the sections" });
        }
        if header.body_checksum == xxh3_64(bytemuck::bytes_of(&hashes)) { Ok(()) } else { Err(damaged) }
    }

    /// A section's array. Sections that are no whole number of elements are found when the file is opened.
    pub fn slice<'a, T: bytemuck::AnyBitPattern>(&self, bytes: &'a [u8], section: Section) -> &'a [T] {
        let [offset, length] = self.0[section as usize];
        bytes.get(offset..offset + length).and_then(|bytes| bytemuck::try_cast_slice(bytes).ok()).unwrap_or(&[])
    }

    /// Bytes of a section.
    pub const fn bytes(&self, section: Section) -> usize {
        self.0[section as usize][1]
    }
}

fn checksum(body: &[u8], interrupt: &mut impl Interrupt) -> u64 {
    let mut hasher = Xxh3::new();
    for piece in body.chunks(HASHED_AT_ONCE) {
        interrupt.should_stop();
        hasher.update(piece);
    }
    hasher.digest()
}

/// The layout of a file to be written, from the bytes of each section.
#[derive(Debug, Clone)]
pub struct Layout {
    places: [[u64; 2]; SECTIONS],
    length: usize,
}

impl Layout {
    /// Sections one after the other.
    pub fn new(bytes: &[usize; SECTIONS]) -> Self {
        let mut places = [[0, 0]; SECTIONS];
        let mut length = HEADER_BYTES;
        for (place, bytes) in places.iter_mut().zip(bytes) {
            *place = [length as u64, *bytes as u64];
            length += bytes.next_multiple_of(ALIGNMENT);
        }
        Self { places, length }
    }

    /// The length of the file.
    pub const fn length(&self) -> usize {
        self.length
    }

    /// Where a section is.
    pub fn range(&self, section: Section) -> Range<usize> {
        // both were lengths in memory
        let [offset, length] = self.places[section as usize].map(|number| number as usize);
        offset..offset + length
    }

    /// The header, from the checksums of the sections.
    pub fn header(&self, hashes: &[u64; SECTIONS]) -> Vec<u8> {
        let mut header = Header {
            magic: MAGIC,
            version: VERSION,
            sections: SECTIONS as u32,
            length: self.length as u64,
            body_checksum: xxh3_64(bytemuck::bytes_of(hashes)),
            places: self.places,
            checksum: 0,
        };
        let covered = size_of::<Header>() - 8;
        header.checksum = xxh3_64(&bytemuck::bytes_of(&header)[..covered]);
        bytemuck::bytes_of(&header).to_vec()
    }
}
