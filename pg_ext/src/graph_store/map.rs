//! Memory that is a file, or might have been one. Owns the mapping; the files are `folder`'s.

use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arx_core::graph::{Scratch, Sink};
use memmap2::{Advice, Mmap, MmapMut, RemapOptions};

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

/// A graph's file that is being written.
#[derive(Debug)]
pub struct Output<'f>(pub &'f File);

impl Sink for Output<'_> {
    type Error = io::Error;

    fn begin(&self, length: usize) -> io::Result<()> {
        self.0.set_len(length as u64)
    }

    fn write_at(&self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset as u64)
    }
}

/// From here on memory is worth being asked for in huge pages: fewer faults.
const HUGE: usize = 2 << 20;

fn memory(bytes: usize) -> io::Result<MmapMut> {
    let map = MmapMut::map_anon(bytes.max(1))?;
    if bytes >= HUGE {
        // a kernel that has none gives small ones
        drop(map.advise(Advice::HugePage));
    }
    Ok(map)
}

/// Maps a new file of `length` bytes for writing. Its room on disk is taken first: a full disk is an error here, and no signal
/// later.
fn create(file: &File, length: usize) -> io::Result<MmapMut> {
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
#[derive(Debug, Clone)]
pub struct Workspace {
    folder: Folder,
    limit: usize,
    used: Arc<AtomicUsize>,
}

impl Workspace {
    /// With so many bytes of memory.
    pub fn new(folder: Folder, limit: usize) -> Self {
        Self { folder, limit, used: Arc::default() }
    }

    /// Memory, if there is so much of it left.
    fn memory(&self, bytes: usize) -> io::Result<Option<Piece>> {
        let used = Arc::clone(&self.used);
        if used.fetch_add(bytes, Ordering::Relaxed) + bytes > self.limit {
            used.fetch_sub(bytes, Ordering::Relaxed);
            return Ok(None);
        }
        let piece = |map| Some(Piece { map, booked: bytes, used: Arc::clone(&used) });
        memory(bytes).map(piece).inspect_err(|_| {
            used.fetch_sub(bytes, Ordering::Relaxed);
        })
    }
}

/// A piece of a workspace; its memory goes back when it is dropped.
#[derive(Debug)]
pub struct Piece {
    map: MmapMut,
    booked: usize,
    used: Arc<AtomicUsize>,
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.used.fetch_sub(self.booked, Ordering::Relaxed);
    }
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

impl DerefMut for Piece {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.map
    }
}

impl Scratch for Workspace {
    type Buffer = Piece;
    type Error = io::Error;

    fn allocate(&self, bytes: usize) -> io::Result<Piece> {
        let bytes = bytes.max(1);
        if let Some(piece) = self.memory(bytes)? {
            return Ok(piece);
        }
        let map = create(&self.folder.nameless()?, bytes)?;
        Ok(Piece { map, booked: 0, used: Arc::clone(&self.used) })
    }

    /// Memory moves with its pages, without a copy; a file's are copied.
    fn grow(&self, mut piece: Piece, bytes: usize) -> io::Result<Piece> {
        let more = bytes.saturating_sub(piece.booked);
        let fits = piece.booked > 0 && self.used.fetch_add(more, Ordering::Relaxed) + more <= self.limit;
        if fits {
            piece.booked += more;
            // SAFETY: nobody else has a reference into the piece, which is taken by value; what is behind the old end is anonymous
            // memory of our own.
            unsafe { piece.map.remap(bytes, RemapOptions::new().may_move(true)) }?;
            return Ok(piece);
        }
        if piece.booked > 0 {
            self.used.fetch_sub(more, Ordering::Relaxed);
        }
        let mut larger = self.allocate(bytes)?;
        larger[..piece.len()].copy_from_slice(&piece);
        Ok(larger)
    }
}
