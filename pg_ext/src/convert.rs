//! Arguments and columns into the domain's types.

use arx_core::address::{Address, Network};
use arx_core::label::{LabelKind, Severity};
use arx_pgwire::EPOCH_UNIX_MICROS;
use chrono::{DateTime, Utc};
use pgrx::datum::TimestampWithTimeZone;

use crate::error::SqlError;
use crate::spi;

/// A wallet of a registered network, from the two arguments that every wallet function has.
pub struct Wallet {
    pub address: Address,
    pub network: Network,
}

impl Wallet {
    /// Checks both: NULL, a malformed address and an unregistered network are errors that name the value.
    pub fn parse(address: Option<&str>, network: Option<&str>) -> Result<Self, SqlError> {
        Self::parse_argument("address", address, network)
    }

    /// The same, for an argument of another name.
    pub fn parse_argument(name: &str, address: Option<&str>, network: Option<&str>) -> Result<Self, SqlError> {
        let address = address.ok_or_else(|| SqlError::null_argument(name))?;
        let network = network.ok_or_else(|| SqlError::null_argument("network"))?;
        let network = spi::registered_network(network)?;
        let address = Address::parse(address, &network)?;
        Ok(Self { address, network })
    }
}

/// A kind of `label_categories`.
pub fn label_kind(text: &str) -> Result<LabelKind, SqlError> {
    text.parse().map_err(|_| SqlError::corrupt(format!("label kind \"{text}\" is unknown")))
}

/// A `label_severity_enum`, as text.
pub fn severity(text: &str) -> Result<Severity, SqlError> {
    text.parse().map_err(|_| SqlError::corrupt(format!("label severity \"{text}\" is unknown")))
}

/// A point in time; infinities are errors.
pub fn instant(timestamp: TimestampWithTimeZone) -> Result<DateTime<Utc>, SqlError> {
    finite_instant(timestamp)?.ok_or_else(SqlError::infinite_time)
}

/// A point in time, `None` for either infinity.
pub fn finite_instant(timestamp: TimestampWithTimeZone) -> Result<Option<DateTime<Utc>>, SqlError> {
    if timestamp.is_infinity() || timestamp.is_neg_infinity() {
        return Ok(None);
    }
    let micros = timestamp.into_inner().checked_add(EPOCH_UNIX_MICROS);
    micros.and_then(DateTime::from_timestamp_micros).map(Some).ok_or_else(SqlError::infinite_time)
}

/// The server's form of a point in time.
pub fn timestamp(instant: DateTime<Utc>) -> Result<TimestampWithTimeZone, SqlError> {
    let micros = instant.timestamp_micros().checked_sub(EPOCH_UNIX_MICROS);
    micros.and_then(|m| TimestampWithTimeZone::try_from(m).ok()).ok_or_else(SqlError::infinite_time)
}
