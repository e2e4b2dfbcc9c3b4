use arx_core::address::{Address, Network};

use super::{registered_network, required};
use crate::error::SqlError;

/// A wallet of a registered network.
pub(crate) struct Wallet {
    pub(crate) address: Address,
    pub(crate) network: Network,
}

impl Wallet {
    /// Parses the arguments `address` and `network`.
    pub(crate) fn parse(address: Option<&str>, network: Option<&str>) -> Result<Self, SqlError> {
        Self::parse_named("address", address, network)
    }

    /// Parses an address that is given by an argument of another name.
    pub(crate) fn parse_named(name: &str, address: Option<&str>, network: Option<&str>) -> Result<Self, SqlError> {
        let address = required(name, address)?;
        let network = registered_network(network)?;
        let address = Address::parse(address, &network)?;
        Ok(Self { address, network })
    }

    /// Parses another address of the same network.
    pub(crate) fn parse_other(&self, name: &str, address: Option<&str>) -> Result<Self, SqlError> {
        let address = Address::parse(required(name, address)?, &self.network)?;
        Ok(Self { address, network: self.network.clone() })
    }
}
