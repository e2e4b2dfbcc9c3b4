//! Memory that is a file, or might have been one. Owns the mapping; the files are `folder`'s.

use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};

use arx_core::graph::Scratch;
use memmap2::{Mmap, MmapMut};

use super::folder::Folder;

/// A graph's file, for reading.
#[derive(Debug)]
pub struct Mapped(Mmap);

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// Maps a file for reading.
pub fn read(file: &File) -> io::Result<Mapped> {
    // SAFETY: graph files are written before they get their name, and from then on only unlinked, by the server's own account.
    unsafe { Mmap::map(file) }.map(Mapped)
}

/// Maps a new file of `length` bytes for writing. Its room on disk is taken first: a full disk is an error here, and no signal
/// later.
pub fn create(file: &File, length: usize) -> io::Result<MmapMut> {
    reserve(file, length)?;
    // SAFETY: nobody else knows this file.
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

/// For file systems that cannot reserve.
fn fill(mut file: &File, length: u64) -> io::Result<()> {
    let zeros = [0_u8; 1 << 16];
    let mut left = length;
    while left > 0 {
        let piece = left.min(zeros.len() as u64);
        io::Write::write_all(&mut file, &zeros[..piece as usize])?;
        left -= piece;
    }
    Ok(())
}

/// Where a build works: in memory of its own up to a limit, then in files without a name.
#[derive(Debug)]
pub struct Workspace {
    folder: Folder,
    limit: usize,
    used: AtomicUsize,
}

impl Workspace {
    /// With so many bytes of memory.
    pub const fn new(folder: Folder, limit: usize) -> Self {
        Self { folder, limit, used: AtomicUsize::new(0) }
    }
}

/// A piece of a workspace.
#[derive(Debug)]
pub struct Piece(MmapMut);

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Piece {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Scratch for Workspace {
    type Buffer = Piece;
    type Error = io::Error;

    fn allocate(&self, bytes: usize) -> io::Result<Piece> {
        let bytes = bytes.max(1);
        // what is given back is not counted: pieces grow, so that is at most as much again
        if self.used.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.limit {
            return MmapMut::map_anon(bytes).map(Piece);
        }
        create(&self.folder.nameless()?, bytes).map(Piece)
    }
}
