//! File descriptors that a function's process inherits. ClickHouse leaves its sockets open in the
//! processes that it starts: a client whose connection ClickHouse closes would wait until the
//! function's pool ends.
#![allow(unsafe_code)]

/// Closes everything but standard input, output and error. Call it before opening anything.
pub fn close_inherited() {
    // SAFETY: the process has just started, so no value owns a descriptor above 2. On an error (a
    // kernel before 5.9) they stay open.
    let _ = unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
}
