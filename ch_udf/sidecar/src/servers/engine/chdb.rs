//! The only calls into `libchdb`. Owns loading the library and the call of `query_stable_v2`, which
//! runs the whole engine and returns when the engine ends. It must not know what the arguments
//! mean.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_int, c_void};
use std::path::Path;

use libloading::{Library, Symbol};

use crate::error::SidecarError;

/// Result of `query_stable_v2` (chdb.h, `struct local_result_v2`).
#[repr(C)]
struct LocalResult {
    buffer: *mut c_char,
    length: usize,
    vector: *mut c_void,
    elapsed: f64,
    rows_read: u64,
    bytes_read: u64,
    error_message: *mut c_char,
}

type QueryStable = unsafe extern "C" fn(argc: c_int, argv: *mut *mut c_char) -> *mut LocalResult;

/// Loads the engine and runs it with these arguments. Returns when it ends, with its error message
/// if there is one.
///
/// # Errors
/// [`SidecarError::EngineLibrary`] when the library cannot be loaded or lacks the entry point,
/// [`SidecarError::Configuration`] for an argument with a NUL byte.
pub(super) fn run(library: &Path, arguments: &[String]) -> Result<Option<String>, SidecarError> {
    let unusable = |source: libloading::Error| SidecarError::EngineLibrary { path: library.to_owned(), source };
    let arguments = arguments
        .iter()
        .map(|argument| CString::new(argument.as_str()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| SidecarError::Configuration { detail: "an engine argument holds a NUL byte".into() })?;
    let count = c_int::try_from(arguments.len())
        .map_err(|_| SidecarError::Configuration { detail: "too many engine arguments".into() })?;
    let mut pointers: Vec<*mut c_char> = arguments.iter().map(|argument| argument.as_ptr().cast_mut()).collect();
    pointers.push(std::ptr::null_mut());

    // SAFETY: libchdb's initialisers are those of an ordinary C++ library. Nothing else in this
    // process depends on the state they set up, and the library is never unloaded (its threads may
    // outlive the call).
    let library: &'static Library = Box::leak(Box::new(unsafe { Library::new(library) }.map_err(unusable)?));
    // SAFETY: every version that exports this name has the signature of chdb.h.
    let query: Symbol<'static, QueryStable> = unsafe { library.get(b"query_stable_v2\0") }.map_err(unusable)?;
    // SAFETY: `pointers` holds `count` NUL-terminated strings and a closing null, as a C main
    // expects. `arguments` keeps the bytes alive for the whole call, and the engine copies what it
    // keeps.
    let result = unsafe { query(count, pointers.as_mut_ptr()) };
    if result.is_null() {
        return Ok(None);
    }
    // SAFETY: a non-null result points to a `local_result_v2` that the library does not touch until
    // `free_result_v2`, which is never called: the process ends after this.
    let message = unsafe { (*result).error_message };
    if message.is_null() {
        return Ok(None);
    }
    // SAFETY: a non-null message is a NUL-terminated string owned by the result above.
    let message = unsafe { std::ffi::CStr::from_ptr(message) };
    Ok(Some(message.to_string_lossy().into_owned()))
}

/// Ends the process at once, without running destructors of a library whose threads are still
/// running.
pub(super) fn leave(code: c_int) -> ! {
    // SAFETY: `_exit` takes any code, touches no memory of this process and does not return.
    unsafe { libc::_exit(code) }
}
