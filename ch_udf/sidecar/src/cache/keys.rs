//! Names of keys. Everything about a wallet and the stream of its pending writes share a hash tag, so that one script may touch
//! them together, on one node as on Redis Cluster; 16 tags spread the wallets over the nodes.

use arx_core::address::{Address, AddressError, Network};

use crate::error::SidecarError;

/// How many hash tags there are.
pub const SHARDS: u16 = 16;

/// A wallet, and its keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WalletKey {
    /// Canonical name of the network.
    pub network: String,
    /// Normalised address.
    pub address: String,
    shard: u16,
}

impl WalletKey {
    /// Normalises what a person typed.
    ///
    /// # Errors
    /// [`SidecarError::Input`] naming the address or the network.
    pub fn parse(address: &str, network: &str) -> Result<Self, SidecarError> {
        let wrong = |error: AddressError| SidecarError::Input { detail: error.to_string() };
        let network = Network::parse(network).map_err(wrong)?;
        let address = Address::parse(address, &network).map_err(wrong)?;
        let name = network.name().to_owned();
        let shard = crc16(format!("{name}:{address}").as_bytes()) % SHARDS;
        Ok(Self { network: name, address: address.into_string(), shard })
    }

    /// The cached profile: a hash with `version`, `body` (JSON) and pending annotations as `a:<key>`.
    #[must_use]
    pub fn profile(&self) -> String {
        format!("arx:{{p{:02}}}:profile:{}:{}", self.shard, self.network, self.address)
    }

    /// Held by the one who reads the profile from PostgreSQL.
    #[must_use]
    pub fn lock(&self) -> String {
        format!("arx:{{p{:02}}}:lock:{}:{}", self.shard, self.network, self.address)
    }

    /// The stream of writes that wait for PostgreSQL.
    #[must_use]
    pub fn writes(&self) -> String {
        shard_keys(self.shard).writes
    }
}

/// The keys of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardKeys {
    /// Short name, such as `p07`.
    pub name: String,
    /// Stream of writes that wait for PostgreSQL.
    pub writes: String,
    /// Stream of writes that PostgreSQL cannot take.
    pub dead: String,
    /// Identity of the stream: made once, lost with it.
    pub identity: String,
}

/// The keys of one shard.
#[must_use]
pub fn shard_keys(shard: u16) -> ShardKeys {
    let key = |name: &str| format!("arx:{{p{shard:02}}}:{name}");
    ShardKeys { name: format!("p{shard:02}"), writes: key("writes"), dead: key("dead"), identity: key("identity") }
}

/// CRC-16/XMODEM, the checksum of Redis Cluster.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(
            crc ^ (u16::from(*byte) << 8),
            |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_redis_cluster() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
    }

    #[test]
    fn every_key_of_a_wallet_has_the_tag_of_its_stream() {
        let key = WalletKey::parse("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "ETH").unwrap();
        assert_eq!((key.network.as_str(), &key.address[..4]), ("ethereum", "0x5a"));
        let tag = |key: &str| key[key.find('{').unwrap()..=key.find('}').unwrap()].to_owned();
        assert_eq!(tag(&key.profile()), tag(&key.writes()));
        assert_eq!(tag(&key.profile()), tag(&key.lock()));
        assert!(key.profile().ends_with(":profile:ethereum:0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed"));
    }

    #[test]
    fn a_malformed_address_is_named() {
        let error = WalletKey::parse("0x12", "ethereum").unwrap_err();
        assert!(error.to_string().contains("0x12"), "{error}");
    }
}
