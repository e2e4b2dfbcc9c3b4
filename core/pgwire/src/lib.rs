//! PostgreSQL's binary and text formats.
//!
//! | module | format |
//! |---|---|
//! | [`numeric`] | `numeric`, as it is stored and as it is sent |
//! | [`copy`] | `COPY … (FORMAT binary)`: header, tuples, trailer |
//! | [`snapshot`] | the text of a `pg_snapshot` |
//!
//! Pure functions on bytes: this crate does no I/O, and no input makes it panic. It knows neither
//! tables nor the domain, so that `arx-core` need not know PostgreSQL: the extension and the
//! sidecar translate between the two.

pub mod copy;
mod error;
pub mod numeric;
pub mod snapshot;

pub use error::PgWireError;

/// Microseconds from the Unix epoch to PostgreSQL's, 2000-01-01 00:00 UTC, which a `timestamptz`
/// counts from.
pub const EPOCH_UNIX_MICROS: i64 = 946_684_800_000_000;
