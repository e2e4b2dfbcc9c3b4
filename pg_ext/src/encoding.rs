//! The encoding of the database, which must be UTF-8.
//!
//! ARX hands text of the server to Rust as `str`, which must be UTF-8. In a database of another
//! encoding the server's text is not.

#![allow(unsafe_code, reason = "reads the encoding of the database")]

use pgrx::pg_sys;

use crate::error::SqlError;

/// Rejects a database that is not encoded in UTF-8. Without a database, as in the postmaster that
/// preloads the library, there is nothing to reject.
pub(crate) fn require_utf8() -> Result<(), SqlError> {
    // SAFETY: Reads variables of this process, which are set once.
    unsafe {
        let utf8 = pg_sys::pg_enc::PG_UTF8 as i32;
        if pg_sys::MyDatabaseId == pg_sys::InvalidOid || pg_sys::GetDatabaseEncoding() == utf8 {
            return Ok(());
        }
        let name = std::ffi::CStr::from_ptr(pg_sys::GetDatabaseEncodingName());
        Err(SqlError::encoding(&name.to_string_lossy()))
    }
}
