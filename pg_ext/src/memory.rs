//! Memory of Rust in a backend: a failed allocation ends the statement or the session, never the
//! cluster.
//!
//! By default, Rust aborts the process when an allocation fails, and PostgreSQL then restarts every
//! session. What takes its place has two levels:
//!
//! - Allocations whose size an argument decides are made by [`reserve`]. If one fails, the
//!   statement fails with 53200, as with the server's own `palloc`.
//! - Any other allocation that fails ends the session by a FATAL error with the same SQLSTATE. An
//!   ERROR would have to leave the Rust frames that wait for the memory. That cannot be done: an
//!   allocator must not unwind ([`GlobalAlloc`] says so, and the compiler relies on it: calls of it
//!   have no landing pads), `longjmp` over frames with destructors is undefined, and the hook
//!   of the standard library for this case is unstable. FATAL leaves no frame. It runs the server's
//!   callbacks on top of the stack and exits the process, exactly as `pg_terminate_backend` does
//!   at a cancellation check within the same functions.
//!
//! A thread of an extractor must not call the server. One that gets no memory says so and waits for
//! the backend's own thread, which polls for interrupts until all threads are done and then ends
//! the session.

#![allow(unsafe_code, reason = "implements an allocator, and raises an error without allocating")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::time::Duration;

use nix::libc;
use pgrx::pg_sys;

use crate::error::SqlError;

struct Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// Size of an allocation that failed in another thread; 0 if none did.
static FAILED_IN_THREAD: AtomicUsize = AtomicUsize::new(0);

/// Role of a thread when an allocation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// A thread of an extractor: waits for the backend's thread.
    Wait,
    /// The backend's thread: ends the session.
    EndSession,
    /// The caller handles it.
    Report,
}

thread_local! {
    // Neither is allocated nor has a destructor, so that an allocator may use it.
    static ON_FAILURE: Cell<Failure> = const { Cell::new(Failure::Wait) };
}

/// Bytes set aside for the end of a session: an error that finds no memory for its own handling
/// raises another, and the fifth restarts the cluster.
const RESERVE_BYTES: usize = 2 << 20;

/// Memory set aside, never touched; null once it is given up.
static RESERVED: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

/// Makes this thread the backend's own. A forked process inherits it from the postmaster's.
pub(crate) fn register() {
    ON_FAILURE.set(Failure::EndSession);
    // SAFETY: Maps new pages.
    let memory = unsafe {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        libc::mmap(std::ptr::null_mut(), RESERVE_BYTES, access, kind, -1, 0)
    };
    if memory != libc::MAP_FAILED {
        RESERVED.store(memory, Ordering::Release);
    }
}

/// Free memory that a backend keeps at the end of its heap, and that it asks the system for at a
/// time.
const KEPT_BYTES: c_int = 64 << 20;
const STEP_BYTES: c_int = 4 << 20;

/// Keeps the heap of the backend from shrinking and growing with each call. By default glibc gives
/// back whatever exceeds 128 kB, and the plan of a query over a hundred partitions takes
/// megabytes: each call faults some 400 pages in again, which is most of its time.
pub(crate) fn keep_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: Sets parameters of the allocator. Setting one ends the adaptation of the threshold
    // above which memory is mapped, so that is set as well.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES);
        libc::mallopt(libc::M_TOP_PAD, STEP_BYTES);
        libc::mallopt(libc::M_MMAP_THRESHOLD, STEP_BYTES);
    }
}

/// Returns true in the backend's own thread, which alone may call the server.
pub(crate) fn is_backend_thread() -> bool {
    ON_FAILURE.get() != Failure::Wait
}

fn give_up_reserve() {
    let memory = RESERVED.swap(std::ptr::null_mut(), Ordering::AcqRel);
    if !memory.is_null() {
        // SAFETY: Mapped by `register`, and never used.
        unsafe { libc::munmap(memory, RESERVE_BYTES) };
    }
}

// SAFETY: Every call goes to the system's allocator with the same arguments. What happens on a
// failure returns null, as an allocator may, or does not return.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: As the caller promises.
        checked(unsafe { System.alloc(layout) }, layout.size())
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: As the caller promises.
        checked(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    #[inline]
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: As the caller promises.
        checked(unsafe { System.realloc(memory, layout, size) }, size)
    }

    #[inline]
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: As the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[inline]
fn checked(memory: *mut u8, size: usize) -> *mut u8 {
    if memory.is_null() { failed(size) } else { memory }
}

#[cold]
fn failed(size: usize) -> *mut u8 {
    match ON_FAILURE.get() {
        Failure::Report => std::ptr::null_mut(),
        Failure::EndSession => end_session(size),
        Failure::Wait => {
            FAILED_IN_THREAD.store(size.max(1), Ordering::Release);
            loop {
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    }
}

/// Ends the session if a thread has failed to allocate. The backend's thread calls it while it
/// waits for others.
pub(crate) fn check_threads() {
    let size = FAILED_IN_THREAD.load(Ordering::Acquire);
    if size > 0 {
        end_session(size);
    }
}

// pgrx raises errors from values that it allocates.
unsafe extern "C-unwind" {
    fn errstart(level: c_int, domain: *const c_char) -> bool;
    fn errcode(code: c_int) -> c_int;
    fn errmsg_internal(format: *const c_char, ...) -> c_int;
    fn errdetail_internal(format: *const c_char, ...) -> c_int;
    fn errfinish(file: *const c_char, line: c_int, function: *const c_char);
}

/// Raises FATAL from what the server has reserved for errors, without allocating.
fn end_session(size: usize) -> ! {
    // A failure while the process exits has no way out but this one.
    ON_FAILURE.set(Failure::Report);
    give_up_reserve();
    // SAFETY: The backend's own thread. Formats end with NUL and have the arguments that they name.
    // No frame above this one is left: an error of this level exits the process.
    unsafe {
        if errstart(pg_sys::FATAL as c_int, std::ptr::null()) {
            errcode(pgrx::PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY as c_int);
            errmsg_internal(c"out of memory".as_ptr());
            errdetail_internal(c"ARX failed on a request of %zu bytes.".as_ptr(), size);
            errfinish(c"memory.rs".as_ptr(), 0, c"end_session".as_ptr());
        }
    }
    std::process::abort()
}

/// A collection that an argument sizes.
pub(crate) trait Reserve {
    /// Reserves room for more elements. Returns false if that fails.
    fn try_reserve(&mut self, more: usize) -> bool;
}

impl<T> Reserve for Vec<T> {
    fn try_reserve(&mut self, more: usize) -> bool {
        self.try_reserve_exact(more).is_ok()
    }
}

impl<T: Eq + std::hash::Hash> Reserve for std::collections::HashSet<T> {
    fn try_reserve(&mut self, more: usize) -> bool {
        self.try_reserve(more).is_ok()
    }
}

/// Reserves room for more elements of a collection; if that fails, the statement fails.
pub(crate) fn reserve(collection: &mut impl Reserve, more: usize) -> Result<(), SqlError> {
    let before = ON_FAILURE.replace(Failure::Report);
    let reserved = collection.try_reserve(more);
    ON_FAILURE.set(before);
    if reserved { Ok(()) } else { Err(SqlError::out_of_memory(more)) }
}
