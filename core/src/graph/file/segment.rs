//! Delta segments: an overlay as a small file, which other readers of its base take over.
//!
//! Writing one costs what has changed since the base, and not what the graph weighs. A segment
//! holds all changes since its base, so a reader needs the newest one alone. It is read into memory
//! and checked as a whole: its checksum, and every number against the base.

use std::ops::Deref;

use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::graph::error::Damaged;
use crate::graph::file::base::{Base, Sections};
use crate::graph::file::format::Provenance;
use crate::graph::file::overlay::{AddedTransfer, Overlay};
use crate::graph::types::{AssetId, NetworkId, Position, Side, Source, Status, U256, WalletId};

const MAGIC: [u8; 8] = *b"ARXDELTA";

/// Incremented whenever the format changes.
const VERSION: u64 = 1;

const DAMAGED: Damaged = Damaged { what: "delta segment contradicts itself or its base" };

#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    version: u64,
    description_bytes: u64,
    added: u64,
    removed: u64,
    /// Checksum of everything after the header.
    checksum: u64,
}

/// Description of a segment, as JSON.
#[derive(Serialize, Deserialize)]
struct Description {
    /// Provenance of the segment; its generation is that of the base.
    provenance: Provenance,
    networks: Vec<String>,
    wallets: Vec<(u16, String)>,
    tokens: Vec<(u16, String)>,
}

/// An added transfer.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct AddedRecord {
    from: u32,
    to: u32,
    asset: u32,
    source: u16,
    status: u16,
    time: i64,
    value: [u64; 4],
    block: u64,
    /// Indexes plus one; 0 if unknown.
    transaction_index: u64,
    log_index: u64,
}

/// Bytes of a change in a segment, without new names.
pub const CHANGE_BYTES: usize = size_of::<AddedRecord>();

impl AddedRecord {
    fn new(transfer: &AddedTransfer) -> Self {
        let (high, low) = transfer.value.into_words();
        let index = |index: Option<u32>| index.map_or(0, |index| u64::from(index) + 1);
        Self {
            from: transfer.from.get(),
            to: transfer.to.get(),
            asset: transfer.asset.get(),
            source: transfer.source as u16,
            status: transfer.status as u16,
            time: transfer.time,
            value: [low as u64, (low >> 64) as u64, high as u64, (high >> 64) as u64],
            block: transfer.position.block,
            transaction_index: index(transfer.position.transaction_index),
            log_index: index(transfer.position.log_index),
        }
    }

    /// Returns the transfer, if its numbers are below the ends of those of wallets and assets.
    fn transfer(&self, wallets: usize, assets: usize) -> Option<AddedTransfer> {
        let wallet = |number: u32| (number as usize) < wallets;
        let ends = wallet(self.from) && (wallet(self.to) || self.to == WalletId::NONE.get());
        let source = [Source::Transactions, Source::InternalTransfers, Source::TokenTransfers];
        let status = [Status::Pending, Status::Confirmed, Status::Failed, Status::Unknown];
        let source = *source.get(usize::from(self.source))?;
        let is_token = source == Source::TokenTransfers;
        if !ends || self.asset as usize >= assets || is_token != (self.asset != AssetId::NATIVE.get()) {
            return None;
        }
        let index = |index: u64| index.checked_sub(1).map(u32::try_from).transpose().ok();
        let word = |low: u64, high: u64| u128::from(low) | (u128::from(high) << 64);
        Some(AddedTransfer {
            from: WalletId::new(self.from),
            to: WalletId::new(self.to),
            asset: AssetId::new(self.asset),
            source,
            status: *status.get(usize::from(self.status))?,
            time: self.time,
            value: U256::from_words(word(self.value[2], self.value[3]), word(self.value[0], self.value[1])),
            position: Position {
                block: self.block,
                transaction_index: index(self.transaction_index)?,
                log_index: index(self.log_index)?,
            },
        })
    }
}

impl Overlay {
    /// Writes the changes as a segment. `provenance` is that of the changes; its generation is that
    /// of the base. O(changes).
    ///
    /// # Errors
    /// When the provenance cannot be written.
    pub fn to_segment(&self, provenance: &Provenance) -> Result<Vec<u8>, Damaged> {
        let names = |names: &[(NetworkId, Box<str>)]| {
            names.iter().map(|(network, name)| (network.get(), name.to_string())).collect()
        };
        let description = Description {
            provenance: provenance.clone(),
            networks: self.new_networks().to_vec(),
            wallets: names(self.new_wallets()),
            tokens: names(self.new_tokens()),
        };
        let mut description = serde_json::to_vec(&description).map_err(|_| DAMAGED)?;
        // JSON may end with spaces, and records begin at multiples of eight bytes.
        description.resize(description.len().next_multiple_of(8), b' ');
        let added: Vec<AddedRecord> = self.all_added().map(|(_, transfer)| AddedRecord::new(transfer)).collect();
        let mut removed: Vec<u32> = self.all_removed().collect();
        removed.sort_unstable();
        let mut bytes = vec![0; size_of::<Header>()];
        bytes.extend_from_slice(&description);
        bytes.extend_from_slice(bytemuck::cast_slice(&added));
        bytes.extend_from_slice(bytemuck::cast_slice(&removed));
        let header = Header {
            magic: MAGIC,
            version: VERSION,
            description_bytes: description.len() as u64,
            added: added.len() as u64,
            removed: removed.len() as u64,
            checksum: xxh3_64(&bytes[size_of::<Header>()..]),
        };
        bytes[..size_of::<Header>()].copy_from_slice(bytemuck::bytes_of(&header));
        Ok(bytes)
    }

    /// Reads the provenance of a segment alone, without checking the rest. O(names).
    ///
    /// # Errors
    /// When the segment is damaged.
    pub fn segment_provenance(bytes: &[u8]) -> Result<Provenance, Damaged> {
        let (header, body) = bytes.split_at_checked(size_of::<Header>()).ok_or(DAMAGED)?;
        let header: Header = bytemuck::pod_read_unaligned(header);
        let end = usize::try_from(header.description_bytes).map_err(|_| DAMAGED)?;
        let description = body.get(..end).ok_or(DAMAGED)?;
        serde_json::from_slice(description).map(|description: Description| description.provenance).map_err(|_| DAMAGED)
    }

    /// Reads a segment. Returns its provenance and the changes since the base. O(changes).
    ///
    /// # Errors
    /// When the segment is damaged, or not of this base.
    pub fn of_segment<B: Deref<Target = [u8]>>(base: &Base<B>, bytes: &[u8]) -> Result<(Provenance, Self), Damaged> {
        let (header, body) = bytes.split_at_checked(size_of::<Header>()).ok_or(DAMAGED)?;
        let header: Header = bytemuck::pod_read_unaligned(header);
        if header.magic != MAGIC || header.version != VERSION || header.checksum != xxh3_64(body) {
            return Err(DAMAGED);
        }
        let size = |count: u64, size: usize| usize::try_from(count).ok().and_then(|count| count.checked_mul(size));
        let (description, rest) =
            size(header.description_bytes, 1).and_then(|at| body.split_at_checked(at)).ok_or(DAMAGED)?;
        let added_bytes = size(header.added, size_of::<AddedRecord>()).ok_or(DAMAGED)?;
        let (added, removed) = rest.split_at_checked(added_bytes).ok_or(DAMAGED)?;
        if size(header.removed, size_of::<u32>()) != Some(removed.len()) {
            return Err(DAMAGED);
        }
        let description: Description = serde_json::from_slice(description).map_err(|_| DAMAGED)?;
        if description.provenance.generation != base.provenance().generation {
            return Err(DAMAGED);
        }
        let sections = base.sections();
        let mut overlay = Self::with_names(
            &sections,
            (base.networks().len(), description.networks),
            named(description.wallets),
            named(description.tokens),
        )?;
        let wallets = sections.wallets.len() + overlay.new_wallets().len();
        let assets = sections.tokens.len() + overlay.new_tokens().len();
        for record in added.chunks_exact(size_of::<AddedRecord>()) {
            let record: AddedRecord = bytemuck::pod_read_unaligned(record);
            overlay.insert(&record.transfer(wallets, assets).ok_or(DAMAGED)?)?;
        }
        for number in removed.chunks_exact(size_of::<u32>()) {
            let number: u32 = bytemuck::pod_read_unaligned(number);
            if overlay.is_removed(number) {
                return Err(DAMAGED);
            }
            overlay.remove_of_base(number, &transfer_of_base(&sections, number as usize)?);
        }
        Ok((description.provenance, overlay))
    }
}

fn named(names: Vec<(u16, String)>) -> Vec<(NetworkId, Box<str>)> {
    names.into_iter().map(|(network, name)| (NetworkId::new(network), name.into_boxed_str())).collect()
}

/// Returns a transfer of a base by its number. O(log wallets).
fn transfer_of_base(sections: &Sections<'_>, number: usize) -> Result<AddedTransfer, Damaged> {
    let after = sections.out_offsets.partition_point(|start| *start as usize <= number);
    let from = after.checked_sub(1).ok_or(DAMAGED)?;
    if !sections.transfers(WalletId::new(from as u32), Side::Out).contains(&number) {
        return Err(DAMAGED);
    }
    let kind = *sections.out_kind.get(number).ok_or(DAMAGED)?;
    Ok(AddedTransfer {
        from: WalletId::new(from as u32),
        to: sections.out_peer[number],
        asset: kind.asset(),
        source: kind.source(),
        status: kind.status(),
        time: sections.out_time[number],
        value: sections.wide.value(sections.out_value[number])?,
        position: sections.wide.position(sections.out_position[number])?,
    })
}
