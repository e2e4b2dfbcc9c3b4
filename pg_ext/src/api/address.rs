//! Addresses and networks.

use arx_core::address::{Address, Network};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::call::call;
use crate::arguments;
use crate::error::SqlError;

fn parse_network(network: &str) -> Result<Network, SqlError> {
    Ok(Network::parse(network)?)
}

fn parse_address(address: &str, network: &str) -> Result<Address, SqlError> {
    Ok(Address::parse(address, &parse_network(network)?)?)
}

#[pg_extern(immutable, strict, parallel_safe)]
pub(crate) fn normalize_network(network: &str) -> Result<String, ErrorReport> {
    Ok(parse_network(network)?.name().to_owned())
}

#[pg_extern(immutable, strict, parallel_safe)]
pub(crate) fn network_family(network: &str) -> Result<&'static str, ErrorReport> {
    Ok(parse_network(network)?.family().as_str())
}

#[pg_extern(immutable, strict, parallel_safe)]
pub(crate) fn normalize_address(address: &str, network: &str) -> Result<String, ErrorReport> {
    Ok(parse_address(address, network)?.into_string())
}

#[pg_extern(immutable, strict, parallel_safe)]
pub(crate) fn is_valid_address(address: &str, network: &str) -> Result<bool, ErrorReport> {
    Ok(Address::parse(address, &parse_network(network)?).is_ok())
}

#[pg_extern(immutable, strict, parallel_safe)]
pub(crate) fn checksum_address(address: &str, network: &str) -> Result<String, ErrorReport> {
    let address = parse_address(address, network)?;
    Ok(address.to_checksum().unwrap_or_else(|| address.into_string()))
}

#[pg_extern(immutable, parallel_safe)]
pub(crate) fn require_address(address: Option<&str>, network: Option<&str>) -> Result<String, ErrorReport> {
    let address = arguments::required("address", address)?;
    let network = arguments::required("network", network)?;
    Ok(parse_address(address, network)?.into_string())
}

#[pg_extern(stable, parallel_safe)]
pub(crate) fn registered_network(network: Option<&str>) -> Result<String, ErrorReport> {
    call(|| Ok(arguments::registered_network(network)?.name().to_owned()))
}
