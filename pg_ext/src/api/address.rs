//! Addresses and networks.

use arx_core::address::{Address, Network};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::error::SqlError;
use crate::spi;

fn parse(address: &str, network: &str) -> Result<Address, SqlError> {
    Ok(Address::parse(address, &Network::parse(network)?)?)
}

#[pg_extern(immutable, strict, parallel_safe)]
pub(crate) fn normalize_network(network: &str) -> Result<String, ErrorReport> {
    Ok(Network::parse(network).map_err(SqlError::from)?.name().to_owned())
}

#[pg_extern(immutable, strict, parallel_safe)]
pub(crate) fn network_family(network: &str) -> Result<&'static str, ErrorReport> {
    Ok(Network::parse(network).map_err(SqlError::from)?.family().as_str())
}

#[pg_extern(immutable, strict, parallel_safe)]
pub(crate) fn normalize_address(address: &str, network: &str) -> Result<String, ErrorReport> {
    Ok(parse(address, network)?.into_string())
}

#[pg_extern(immutable, strict, parallel_safe)]
pub(crate) fn is_valid_address(address: &str, network: &str) -> Result<bool, ErrorReport> {
    let network = Network::parse(network).map_err(SqlError::from)?;
    Ok(Address::parse(address, &network).is_ok())
}

#[pg_extern(immutable, strict, parallel_safe)]
pub(crate) fn checksum_address(address: &str, network: &str) -> Result<String, ErrorReport> {
    let address = parse(address, network)?;
    Ok(address.to_checksum().unwrap_or_else(|| address.into_string()))
}

#[pg_extern(immutable, parallel_safe)]
pub(crate) fn require_address(address: Option<&str>, network: Option<&str>) -> Result<String, ErrorReport> {
    let address = address.ok_or_else(|| SqlError::null_argument("address"))?;
    let network = network.ok_or_else(|| SqlError::null_argument("network"))?;
    Ok(parse(address, network)?.into_string())
}

#[pg_extern(stable, parallel_safe)]
pub(crate) fn registered_network(network: Option<&str>) -> Result<String, ErrorReport> {
    let network = network.ok_or_else(|| SqlError::null_argument("network"))?;
    Ok(spi::registered_network(network)?.name().to_owned())
}
