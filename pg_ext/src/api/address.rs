//! Addresses and networks. The format of the addresses of a network that ARX does not list is what
//! `arx.networks` states.

use arx_core::address::{Address, AddressError, Currency, Network, NetworkFamily};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::call::call;
use crate::arguments;
use crate::error::SqlError;
use crate::spi;

/// Returns a network, registered or not. Tables are read only for one that ARX does not list.
fn parse_network(name: &str) -> Result<Network, ErrorReport> {
    let network = Network::parse(name).map_err(SqlError::from)?;
    if network.is_listed() || network.family() != NetworkFamily::Opaque {
        return Ok(network);
    }
    call(|| Ok(spi::unlisted_network(network)?))
}

fn parse_address(address: &str, network: &str) -> Result<Address, ErrorReport> {
    Ok(Address::parse(address, &parse_network(network)?).map_err(SqlError::from)?)
}

#[pg_extern(immutable, strict, parallel_safe)]
pub(crate) fn normalize_network(network: &str) -> Result<String, ErrorReport> {
    Ok(Network::parse(network).map_err(SqlError::from)?.name().to_owned())
}

/// Family of a network that ARX lists, or `opaque`: for the generated column of `arx.networks`.
#[pg_extern(immutable, strict, parallel_safe)]
pub(crate) fn listed_network_family(network: &str) -> Result<&'static str, ErrorReport> {
    Ok(Network::parse(network).map_err(SqlError::from)?.family().as_str())
}

/// Checks a network and its family before they are added, and returns the family.
#[pg_extern(immutable, strict, parallel_safe)]
pub(crate) fn require_network_family(network: &str, family: &str) -> Result<&'static str, ErrorReport> {
    let check = || {
        if Currency::is_token(network) {
            return Err(AddressError::TokenTicker { ticker: network.to_owned() });
        }
        Ok(Network::with_family(network, family.parse::<NetworkFamily>()?)?.family().as_str())
    };
    Ok(check().map_err(SqlError::from)?)
}

#[pg_extern(stable, strict, parallel_safe)]
pub(crate) fn network_family(network: &str) -> Result<&'static str, ErrorReport> {
    Ok(parse_network(network)?.family().as_str())
}

#[pg_extern(stable, strict, parallel_safe)]
pub(crate) fn normalize_address(address: &str, network: &str) -> Result<String, ErrorReport> {
    Ok(parse_address(address, network)?.into_string())
}

#[pg_extern(stable, strict, parallel_safe)]
pub(crate) fn is_valid_address(address: &str, network: &str) -> Result<Option<bool>, ErrorReport> {
    Ok(Address::is_valid(address, &parse_network(network)?))
}

#[pg_extern(stable, strict, parallel_safe)]
pub(crate) fn checksum_address(address: &str, network: &str) -> Result<String, ErrorReport> {
    let network = parse_network(network)?;
    let address = Address::parse(address, &network).map_err(SqlError::from)?;
    Ok(address.to_checksum_of(&network).unwrap_or_else(|| address.into_string()))
}

#[pg_extern(stable, parallel_safe)]
pub(crate) fn require_address(address: Option<&str>, network: Option<&str>) -> Result<String, ErrorReport> {
    let address = arguments::required("address", address)?;
    let network = arguments::required("network", network)?;
    parse_address(address, network).map(Address::into_string)
}

#[pg_extern(stable, parallel_safe)]
pub(crate) fn registered_network(network: Option<&str>) -> Result<String, ErrorReport> {
    call(|| Ok(arguments::registered_network(network)?.name().to_owned()))
}
