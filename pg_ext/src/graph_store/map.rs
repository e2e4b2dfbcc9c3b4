//! Mapped memory: graph files, and the workspace of a build. `folder` owns the files.

#![allow(unsafe_code, reason = "maps files into memory")]

use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arx_core::graph::{Scratch, Sink};
use memmap2::{Advice, Mmap, MmapMut, RemapOptions};

use super::folder::Folder;

/// A graph file, mapped for reading.
#[derive(Debug)]
pub(crate) struct Mapped(Mmap);

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

pub(crate) fn read(file: &File) -> io::Result<Mapped> {
    // SAFETY: Graph files are written before they are named, and from then on only unlinked, by the
    // server's own account.
    unsafe { Mmap::map(file) }.map(Mapped)
}

/// A graph file that is being written.
#[derive(Debug)]
pub(crate) struct Output<'f>(pub(crate) &'f File);

impl Sink for Output<'_> {
    type Error = io::Error;

    fn begin(&self, length: usize) -> io::Result<()> {
        self.0.set_len(length as u64)
    }

    fn write_at(&self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset as u64)
    }
}

/// Allocations from this size on request huge pages, which cause fewer page faults.
const HUGE_PAGES_FROM: usize = 2 << 20;

fn allocate_memory(bytes: usize) -> io::Result<MmapMut> {
    let map = MmapMut::map_anon(bytes.max(1))?;
    if bytes >= HUGE_PAGES_FROM {
        // A kernel without huge pages gives small ones.
        drop(map.advise(Advice::HugePage));
    }
    Ok(map)
}

/// Maps a new file of `length` bytes for writing. Its disk space is reserved first, so that a full
/// disk is an error here and not a signal later.
fn create(file: &File, length: usize) -> io::Result<MmapMut> {
    reserve(file, length)?;
    // SAFETY: No one else has this file open.
    unsafe { MmapMut::map_mut(file) }
}

fn reserve(file: &File, length: usize) -> io::Result<()> {
    let length = length as u64;
    file.set_len(length)?;
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, length.max(1)) {
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => fill(file, length),
        other => other.map_err(io::Error::from),
    }
}

/// Reserves space on file systems without `fallocate`.
fn fill(mut file: &File, length: u64) -> io::Result<()> {
    let zeros = [0_u8; 1 << 16];
    let mut left = length;
    while left > 0 {
        let count = left.min(zeros.len() as u64);
        io::Write::write_all(&mut file, &zeros[..count as usize])?;
        left -= count;
    }
    Ok(())
}

/// Memory of a build: anonymous up to a limit, then in unnamed files.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    folder: Folder,
    limit: usize,
    used: Arc<AtomicUsize>,
}

impl Workspace {
    /// Creates a workspace that takes at most `limit` bytes of anonymous memory.
    pub(crate) fn new(folder: Folder, limit: usize) -> Self {
        Self { folder, limit, used: Arc::default() }
    }

    /// Allocates anonymous memory, unless that exceeds the limit.
    fn anonymous(&self, bytes: usize) -> io::Result<Option<Allocation>> {
        let used = Arc::clone(&self.used);
        if used.fetch_add(bytes, Ordering::Relaxed) + bytes > self.limit {
            used.fetch_sub(bytes, Ordering::Relaxed);
            return Ok(None);
        }
        let allocation = |map| Some(Allocation { map, booked: bytes, used: Arc::clone(&used) });
        allocate_memory(bytes).map(allocation).inspect_err(|_| {
            used.fetch_sub(bytes, Ordering::Relaxed);
        })
    }
}

/// Part of a workspace. Dropping it returns its memory.
#[derive(Debug)]
pub(crate) struct Allocation {
    map: MmapMut,
    /// Bytes counted towards the limit; 0 for a file.
    booked: usize,
    used: Arc<AtomicUsize>,
}

impl Drop for Allocation {
    fn drop(&mut self) {
        self.used.fetch_sub(self.booked, Ordering::Relaxed);
    }
}

impl Deref for Allocation {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

impl DerefMut for Allocation {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.map
    }
}

impl Scratch for Workspace {
    type Buffer = Allocation;
    type Error = io::Error;

    fn allocate(&self, bytes: usize) -> io::Result<Allocation> {
        let bytes = bytes.max(1);
        if let Some(allocation) = self.anonymous(bytes)? {
            return Ok(allocation);
        }
        let map = create(&self.folder.unnamed()?, bytes)?;
        Ok(Allocation { map, booked: 0, used: Arc::clone(&self.used) })
    }

    /// Anonymous memory moves with its pages, without a copy; that of a file is copied.
    fn grow(&self, mut allocation: Allocation, bytes: usize) -> io::Result<Allocation> {
        let more = bytes.saturating_sub(allocation.booked);
        let fits = allocation.booked > 0 && self.used.fetch_add(more, Ordering::Relaxed) + more <= self.limit;
        if fits {
            allocation.booked += more;
            // SAFETY: The allocation is taken by value, so no reference into it exists, and what is
            // behind its old end is anonymous memory.
            unsafe { allocation.map.remap(bytes, RemapOptions::new().may_move(true)) }?;
            return Ok(allocation);
        }
        if allocation.booked > 0 {
            self.used.fetch_sub(more, Ordering::Relaxed);
        }
        let mut larger = self.allocate(bytes)?;
        larger[..allocation.len()].copy_from_slice(&allocation);
        Ok(larger)
    }
}
