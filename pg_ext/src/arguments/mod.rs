//! Arguments that several SQL functions share, checked: an error names the argument and its value.

mod array;
mod datum;
mod json;
mod passed;
mod wallet;

use arx_core::address::Network;
use arx_core::graph::Direction;

use crate::error::SqlError;
use crate::spi;

pub(crate) use array::TextArray;
pub(crate) use json::JsonArgument;
pub(crate) use passed::{SnapshotArgument, TimesArgument};
pub(crate) use wallet::Wallet;

/// Rejects NULL.
pub(crate) fn required<T>(name: &str, argument: Option<T>) -> Result<T, SqlError> {
    argument.ok_or_else(|| SqlError::null_argument(name))
}

/// Parses a network and requires it to be registered.
pub(crate) fn registered_network(network: Option<&str>) -> Result<Network, SqlError> {
    spi::registered_network(required("network", network)?)
}

/// Rejects NULL and counts below one.
pub(crate) fn at_least_one(name: &str, count: Option<impl Into<i64>>) -> Result<u64, SqlError> {
    let count = required(name, count)?.into();
    u64::try_from(count)
        .ok()
        .filter(|count| *count >= 1)
        .ok_or_else(|| SqlError::argument(format!("{name} must be at least 1, not {count}")))
}

/// Rejects limits below one; NULL is no limit.
pub(crate) fn optional_limit(name: &str, limit: Option<impl Into<i64>>) -> Result<Option<u64>, SqlError> {
    limit.map(|limit| at_least_one(name, Some(limit))).transpose()
}

/// Rejects NULL and what is not within (0, 1].
pub(crate) fn fraction(name: &str, value: Option<f64>) -> Result<f64, SqlError> {
    let value = required(name, value)?;
    if value > 0.0 && value <= 1.0 {
        Ok(value)
    } else {
        Err(SqlError::argument(format!("{name} must be greater than 0 and at most 1, not {value}")))
    }
}

/// Parses the direction in which a search follows transfers.
pub(crate) fn direction(name: Option<&str>) -> Result<Direction, SqlError> {
    let name = required("direction", name)?;
    match name.to_ascii_lowercase().as_str() {
        "out" => Ok(Direction::Out),
        "in" => Ok(Direction::In),
        "both" => Ok(Direction::Both),
        _ => Err(SqlError::argument(format!("direction must be out, in or both, not \"{name}\""))),
    }
}
