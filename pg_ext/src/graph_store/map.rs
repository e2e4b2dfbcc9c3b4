//! Mapped memory: graph files, and the workspace of a build. `folder` owns the files.
//!
//! The kernel answers a read of a mapped page that has no file behind it any more, or that the disk
//! cannot return, by SIGBUS, which by default ends the process, and with it every session of the
//! cluster. Comparing the file's size first does not help: it may be truncated afterwards. So a
//! handler puts zeros in the place of the rest of the mapping and remembers that; the read goes on
//! with them. That is safe, because readers of a graph file check every number that they find in
//! it, as the fuzz tests show. The answer is wrong, and therefore never given: cancellation checks
//! and the end of every function ask for what the handler remembers ([`take_damage`]), and raise an
//! error. The handler makes system calls only, and touches atomics, so it may interrupt anything,
//! in any thread. After a SIGBUS elsewhere it puts the previous handler back, and the access
//! happens again. PostgreSQL installs no handler for this signal, and never blocks it.
//!
//! Reading files instead of mapping them would make each backend hold a copy, or cost a system call
//! for each of the millions of reads of a search.

#![allow(unsafe_code, reason = "maps files into memory")]

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use arx_core::graph::{Scratch, Sink};
use memmap2::{Advice, Mmap, MmapMut, RemapOptions};
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use super::folder::{Folder, reserve};

/// A graph file, mapped for reading.
#[derive(Debug)]
pub(crate) struct Mapped {
    // Guarded as long as it is mapped: fields are dropped in this order.
    map: Mmap,
    _guard: Guard,
    file: File,
}

impl Mapped {
    pub(crate) const fn file(&self) -> &File {
        &self.file
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

pub(crate) fn read(file: File) -> io::Result<Mapped> {
    // SAFETY: Graph files are written before they are named, and from then on only unlinked, by the
    // server's own account. If someone else changes one nevertheless, answers from it are refused
    // (`folder::Stamp`); if it is truncated, the guard supplies zeros.
    let map = unsafe { Mmap::map(&file) }?;
    let guard = Guard::new(&map)?;
    Ok(Mapped { map, _guard: guard, file })
}

/// Mappings that are guarded at a time: a backend uses a handful.
const MAX_MAPPINGS: usize = 256;

/// First and last address of each guarded mapping; 0 and 0 in a free slot.
static MAPPINGS: [(AtomicUsize, AtomicUsize); MAX_MAPPINGS] =
    [const { (AtomicUsize::new(0), AtomicUsize::new(0)) }; MAX_MAPPINGS];

/// Set by the handler.
static DAMAGED: AtomicBool = AtomicBool::new(false);

static PREVIOUS: OnceLock<SigAction> = OnceLock::new();
static PAGE: AtomicUsize = AtomicUsize::new(4096);

/// A mapping in which the handler supplies zeros for what cannot be read.
#[derive(Debug)]
pub(super) struct Guard(usize);

impl Guard {
    fn new(mapping: &[u8]) -> io::Result<Self> {
        Self::of(mapping.as_ptr() as usize, mapping.len())
    }

    /// Guards a mapping by its address and length.
    pub(super) fn of(start: usize, length: usize) -> io::Result<Self> {
        install_handler()?;
        let end = start + length;
        let slot = MAPPINGS
            .iter()
            .position(|(first, _)| first.compare_exchange(0, start, Ordering::AcqRel, Ordering::Relaxed).is_ok());
        let slot = slot.ok_or_else(|| io::Error::other("too many files are mapped"))?;
        MAPPINGS[slot].1.store(end, Ordering::Release);
        Ok(Self(slot))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let (start, end) = &MAPPINGS[self.0];
        end.store(0, Ordering::Release);
        start.store(0, Ordering::Release);
    }
}

/// Returns true if a part of a mapped file could not be read since the last call.
pub(crate) fn take_damage() -> bool {
    DAMAGED.load(Ordering::Acquire) && DAMAGED.swap(false, Ordering::AcqRel)
}

fn install_handler() -> io::Result<()> {
    if PREVIOUS.get().is_some() {
        return Ok(());
    }
    // SAFETY: Reads a constant of the system.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    PAGE.store(usize::try_from(page).map_err(io::Error::other)?, Ordering::Relaxed);
    let action =
        SigAction::new(SigHandler::SigAction(supply_zeros), SaFlags::SA_SIGINFO | SaFlags::SA_ONSTACK, SigSet::empty());
    // SAFETY: The handler may interrupt anything; see the comment of the module.
    let previous = unsafe { sigaction(Signal::SIGBUS, &action) }?;
    // Only the backend's thread maps files.
    let _ = PREVIOUS.set(previous);
    Ok(())
}

extern "C" fn supply_zeros(_signal: c_int, info: *mut libc::siginfo_t, _context: *mut c_void) {
    // SAFETY: The kernel passes the address of the access that failed. The pages from there on
    // belong to a mapping of this module, in which they are replaced. `errno` is kept.
    unsafe {
        let address = (*info).si_addr() as usize;
        let page = address - address % PAGE.load(Ordering::Relaxed);
        for (start, end) in &MAPPINGS {
            let end = end.load(Ordering::Acquire);
            if start.load(Ordering::Acquire) <= address && address < end {
                let errno = *libc::__errno_location();
                let zeros = libc::mmap(
                    page as *mut c_void,
                    end - page,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE,
                    -1,
                    0,
                );
                *libc::__errno_location() = errno;
                if zeros != libc::MAP_FAILED {
                    DAMAGED.store(true, Ordering::Release);
                    return;
                }
            }
        }
        match PREVIOUS.get() {
            Some(previous) => drop(sigaction(Signal::SIGBUS, previous)),
            None => libc::abort(),
        }
    }
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
fn create(file: &File, length: usize) -> io::Result<(MmapMut, Guard)> {
    reserve(file, length as u64)?;
    // SAFETY: No one else has this file open.
    let map = unsafe { MmapMut::map_mut(file) }?;
    let guard = Guard::new(&map)?;
    Ok((map, guard))
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
        let allocation = |map| Some(Allocation { map, _guard: None, booked: bytes, used: Arc::clone(&used) });
        allocate_memory(bytes).map(allocation).inspect_err(|_| {
            used.fetch_sub(bytes, Ordering::Relaxed);
        })
    }
}

/// Part of a workspace. Dropping it returns its memory.
#[derive(Debug)]
pub(crate) struct Allocation {
    map: MmapMut,
    /// Set if the memory is a file.
    _guard: Option<Guard>,
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
        let (map, guard) = create(&self.folder.unnamed()?, bytes)?;
        Ok(Allocation { map, _guard: Some(guard), booked: 0, used: Arc::clone(&self.used) })
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
