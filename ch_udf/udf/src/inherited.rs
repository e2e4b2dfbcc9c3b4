//! Open files that a function's process inherits. ClickHouse leaves its sockets open in the processes that it starts: a client whose
//! connection ClickHouse closes would wait for as long as a function's pool lives.
#![allow(unsafe_code)]

/// Closes everything but standard input, output and error. To be called before anything is opened.
pub fn close_inherited() {
    // SAFETY: the process has just begun: no value owns a descriptor above 2. An error (a kernel before 5.9) leaves them open.
    let _ = unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
}
