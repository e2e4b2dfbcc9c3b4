//! Names of keys. All keys of a wallet and the stream of its pending writes share a hash tag, so
//! that one script may use them together, on one node as on Redis Cluster. 16 tags spread the
//! wallets over the nodes.

use arx_core::address::{Address, AddressError, Network};

use crate::error::SidecarError;

/// Number of hash tags.
pub(crate) const SHARDS: u16 = 16;

/// A wallet with its keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct WalletKey {
    /// Canonical name of the network.
    pub(crate) network: String,
    /// Normalised address.
    pub(crate) address: String,
    shard: u16,
}

impl WalletKey {
    /// Normalises an address and a network as a user types them.
    ///
    /// # Errors
    /// [`SidecarError::Input`] naming the address or the network.
    pub(crate) fn parse(address: &str, network: &str) -> Result<Self, SidecarError> {
        let invalid = |error: AddressError| SidecarError::Input { detail: error.to_string() };
        let network = Network::parse(network).map_err(invalid)?;
        let address = Address::parse(address, &network).map_err(invalid)?;
        let name = network.name().to_owned();
        let shard = crc16(format!("{name}:{address}").as_bytes()) % SHARDS;
        Ok(Self { network: name, address: address.into_string(), shard })
    }

    /// Key of the cached profile: a hash with `version`, `body` (JSON) and pending annotations as
    /// `a:<key>`.
    pub(super) fn profile(&self) -> String {
        format!("arx:{{p{:02}}}:profile:{}:{}", self.shard, self.network, self.address)
    }

    /// Key of the lock that the reader of the profile from PostgreSQL holds.
    pub(super) fn lock(&self) -> String {
        format!("arx:{{p{:02}}}:lock:{}:{}", self.shard, self.network, self.address)
    }

    /// Key of the stream of writes that are queued for PostgreSQL.
    pub(crate) fn writes(&self) -> String {
        shard_keys(self.shard).writes
    }
}

/// The keys of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShardKeys {
    /// Short name, such as `p07`.
    pub(super) name: String,
    /// Stream of writes that are queued for PostgreSQL.
    pub(crate) writes: String,
    /// Stream of writes that PostgreSQL rejects.
    pub(crate) dead: String,
    /// Identity of the stream: created once, and lost with it.
    pub(super) identity: String,
}

pub(crate) fn shard_keys(shard: u16) -> ShardKeys {
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
    fn the_checksum_matches_redis_cluster() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
    }

    #[test]
    fn all_keys_of_a_wallet_share_the_tag_of_its_stream() {
        let key = WalletKey::parse("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "ETH").unwrap();
        assert_eq!((key.network.as_str(), &key.address[..4]), ("ethereum", "0x5a"));
        let tag = |key: &str| key[key.find('{').unwrap()..=key.find('}').unwrap()].to_owned();
        assert_eq!(tag(&key.profile()), tag(&key.writes()));
        assert_eq!(tag(&key.profile()), tag(&key.lock()));
        assert!(key.profile().ends_with(":profile:ethereum:0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed"));
    }

    #[test]
    fn the_error_names_a_malformed_address() {
        let error = WalletKey::parse("0x12", "ethereum").unwrap_err();
        assert!(error.to_string().contains("0x12"), "{error}");
    }
}
