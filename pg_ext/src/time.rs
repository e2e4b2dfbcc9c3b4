//! Points in time: PostgreSQL's, in microseconds since 2000-01-01, and the domain's.

use std::time::SystemTime;

use arx_pgwire::EPOCH_UNIX_MICROS;
use chrono::{DateTime, Utc};
use pgrx::datum::TimestampWithTimeZone;

use crate::error::SqlError;

/// Converts a finite point in time.
pub(crate) fn instant(timestamp: TimestampWithTimeZone) -> Result<DateTime<Utc>, SqlError> {
    finite_instant(timestamp)?.ok_or_else(SqlError::infinite_time)
}

/// Converts a point in time; either infinity gives `None`.
pub(crate) fn finite_instant(timestamp: TimestampWithTimeZone) -> Result<Option<DateTime<Utc>>, SqlError> {
    if timestamp.is_infinity() || timestamp.is_neg_infinity() {
        return Ok(None);
    }
    let micros = timestamp.into_inner().checked_add(EPOCH_UNIX_MICROS);
    micros.and_then(DateTime::from_timestamp_micros).map(Some).ok_or_else(SqlError::infinite_time)
}

/// Converts a point in time of the domain.
pub(crate) fn from_instant(instant: DateTime<Utc>) -> Result<TimestampWithTimeZone, SqlError> {
    let micros = instant.timestamp_micros().checked_sub(EPOCH_UNIX_MICROS);
    from_micros(micros.ok_or_else(SqlError::infinite_time)?)
}

/// Converts a time of the graph, which counts as PostgreSQL does.
pub(crate) fn from_micros(micros: i64) -> Result<TimestampWithTimeZone, SqlError> {
    TimestampWithTimeZone::try_from(micros).map_err(|_| SqlError::infinite_time())
}

/// Returns the current time in PostgreSQL's microseconds.
pub(crate) fn now_micros() -> i64 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX) - EPOCH_UNIX_MICROS
}

/// Returns the time at which the transaction began, which is `now()` in SQL, in PostgreSQL's
/// microseconds.
pub(crate) fn transaction_time() -> i64 {
    // SAFETY: Reads a variable of this backend.
    #[allow(unsafe_code, reason = "reads a variable of the server")]
    unsafe {
        pgrx::pg_sys::GetCurrentTransactionStartTimestamp()
    }
}
