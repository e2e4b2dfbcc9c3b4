//! Names of keys. Each begins with the identity of the database, so that databases may share a
//! Redis. The keys of a wallet's profile have the wallet as their hash tag, so that a script
//! touches one slot and a cluster shares the load; a stream of writes shares its tag with the
//! pending writes of its wallets.

use std::fmt;

use arx_core::address::{Address, AddressError, Network};
use uuid::Uuid;

use crate::error::SidecarError;

/// Number of streams of writes.
pub(crate) const SHARDS: u16 = 16;

/// A database: its cluster, its timeline and its oid. Snapshots of one identity are comparable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity(String);

impl Identity {
    pub(crate) fn new(system: i64, timeline: i32, database: u32) -> Self {
        Self(format!("{:x}.{timeline}.{database}", system.cast_unsigned()))
    }

    /// Lease of the follower: see [`Watermark`](super::watermark::Watermark).
    pub(super) fn watermark(&self) -> String {
        format!("arx:{self}:{{state}}:watermark")
    }

    /// The point that the follower has reached, for its successor.
    pub(super) fn position(&self) -> String {
        format!("arx:{self}:{{state}}:position")
    }

    /// Progress of a fill.
    pub(super) fn fill(&self) -> String {
        format!("arx:{self}:{{state}}:fill")
    }

    /// Channel of changes, for caches in processes.
    pub(super) fn changes(&self) -> String {
        format!("arx:{self}:{{state}}:changes")
    }

    /// Events for subscribers that may be late.
    pub(super) fn events(&self) -> String {
        format!("arx:{self}:{{state}}:events")
    }

    /// Kept answer of an analytics query, by the hash of its parameters.
    pub(crate) fn result(&self, query: &str, hash: &str) -> String {
        format!("arx:{self}:{{q:{query}:{hash}}}:result")
    }

    /// Pattern of the keys of all profiles.
    pub(super) fn profiles(&self) -> String {
        format!("arx:{self}:{{*}}:profile")
    }

    /// Pattern of all keys.
    pub(super) fn everything(&self) -> String {
        format!("arx:{self}:*")
    }

    /// Returns the wallet of a key of a profile.
    pub(super) fn wallet_of(&self, key: &str) -> Option<WalletKey> {
        let rest = key.strip_prefix("arx:")?.strip_prefix(&self.0)?.strip_prefix(":{")?;
        let (network, address) = rest.strip_suffix("}:profile")?.split_once(':')?;
        WalletKey::parse(address, network).ok().filter(|wallet| wallet.address == address)
    }

    /// Returns whether a key belongs to a stream of writes.
    pub(super) fn is_of_stream(&self, key: &str) -> bool {
        let rest = key.strip_prefix("arx:").and_then(|rest| rest.strip_prefix(&self.0));
        let shard = rest.and_then(|rest| rest.strip_prefix(":{w")).and_then(|rest| rest.split_once("}:"));
        shard.is_some_and(|(shard, _)| shard.len() == 2 && shard.bytes().all(|byte| byte.is_ascii_digit()))
    }

    /// Keys of the stream that takes the writes of a wallet.
    pub(crate) fn shard_of(&self, wallet: &WalletKey) -> ShardKeys {
        self.shard(crc16(format!("{}:{}", wallet.network, wallet.address).as_bytes()) % SHARDS)
    }

    /// Keys of the stream that takes the logins of a user.
    pub(super) fn shard_of_user(&self, user: Uuid) -> ShardKeys {
        self.shard(crc16(user.as_bytes()) % SHARDS)
    }

    /// Key of the sessions of a user: a hash with the digest of each token.
    pub(super) fn sessions_of(&self, user: Uuid) -> String {
        format!("{}:{user}", self.shard_of_user(user).sessions)
    }

    pub(crate) fn shard(&self, shard: u16) -> ShardKeys {
        let key = |name: &str| format!("arx:{self}:{{w{shard:02}}}:{name}");
        ShardKeys { writes: key("writes"), dead: key("dead"), pending: key("pending"), sessions: key("sessions") }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A wallet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WalletKey {
    /// Canonical name of the network.
    pub network: String,
    /// Normalised address.
    pub address: String,
}

impl WalletKey {
    /// Normalises an address and a network as a user types them.
    ///
    /// # Errors
    /// [`SidecarError::Input`] naming the address or the network.
    pub fn parse(address: &str, network: &str) -> Result<Self, SidecarError> {
        let invalid = |error: AddressError| SidecarError::Input { detail: error.to_string() };
        let network = Network::parse(network).map_err(invalid)?;
        let address = Address::parse(address, &network).map_err(invalid)?;
        Ok(Self { network: network.name().to_owned(), address: address.into_string() })
    }

    /// Key of the cached profile: a hash with `height`, `snapshot`, `body` (JSON) and `cost`. One
    /// with a `height` alone marks that the profile changed.
    pub(super) fn profile(&self, identity: &Identity) -> String {
        format!("arx:{identity}:{{{}:{}}}:profile", self.network, self.address)
    }

    /// Key of the lock that the reader of the profile from PostgreSQL holds.
    pub(super) fn lock(&self, identity: &Identity) -> String {
        format!("arx:{identity}:{{{}:{}}}:lock", self.network, self.address)
    }

    /// Key of the writes that PostgreSQL has not applied yet: a hash with values as `a:<name>`, and
    /// labels as `l:<key>`, and the key of the latest write of each as `w:a:<name>` or `w:l:<key>`.
    pub(super) fn pending(&self, identity: &Identity) -> String {
        format!("{}:{}:{}", identity.shard_of(self).pending, self.network, self.address)
    }
}

/// The keys of a stream of writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShardKeys {
    /// Stream of writes that are queued for PostgreSQL.
    pub(crate) writes: String,
    /// Stream of writes that PostgreSQL rejects.
    pub(crate) dead: String,
    /// First part of the keys of pending writes.
    pending: String,
    /// First part of the keys of sessions.
    sessions: String,
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

    fn tag(key: &str) -> &str {
        &key[key.find('{').unwrap()..=key.find('}').unwrap()]
    }

    #[test]
    fn the_checksum_matches_redis_cluster() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
    }

    #[test]
    fn keys_that_one_script_uses_share_a_tag() {
        let identity = Identity::new(-1, 3, 16_384);
        let key = WalletKey::parse("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "ETH").unwrap();
        assert_eq!((key.network.as_str(), &key.address[..4]), ("ethereum", "0x5a"));
        assert_eq!(tag(&key.profile(&identity)), tag(&key.lock(&identity)));
        assert_eq!(tag(&key.pending(&identity)), tag(&identity.shard_of(&key).writes));
        assert_eq!(
            key.profile(&identity),
            "arx:ffffffffffffffff.3.16384:{ethereum:0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed}:profile"
        );
        assert_eq!(identity.wallet_of(&key.profile(&identity)), Some(key));
    }

    #[test]
    fn keys_of_other_databases_and_garbage_name_no_wallet() {
        let (identity, other) = (Identity::new(1, 1, 5), Identity::new(1, 1, 6));
        let key = WalletKey::parse("0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed", "ethereum").unwrap();
        assert_ne!(key.profile(&identity), key.profile(&other));
        for garbage in [
            key.profile(&other),
            format!("arx:{identity}:{{ethereum}}:profile"),
            format!("arx:{identity}:{{ethereum:0xZZ}}:profile"),
            format!("arx:{identity}:{{ethereum:0x5AAEB6053f3e94c9b9a09f33669435e7ef1beaed}}:profile"),
            key.lock(&identity),
        ] {
            assert_eq!(identity.wallet_of(&garbage), None, "{garbage}");
        }
    }

    #[test]
    fn only_keys_of_streams_hold_accepted_writes() {
        let identity = Identity::new(1, 1, 5);
        let wallet = WalletKey { network: "w07".into(), address: "a".into() };
        assert!(identity.is_of_stream(&identity.shard(7).writes) && identity.is_of_stream(&wallet.pending(&identity)));
        assert!(!identity.is_of_stream(&wallet.profile(&identity)) && !identity.is_of_stream(&identity.watermark()));
    }

    #[test]
    fn the_error_names_a_malformed_address() {
        let error = WalletKey::parse("0x12", "ethereum").unwrap_err();
        assert!(error.to_string().contains("0x12"), "{error}");
    }
}
