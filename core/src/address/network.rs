//! Names of networks: canonical names, their aliases, and the family that determines the format of
//! addresses.
//!
//! Canonical names are those of the table `arx.networks`. Aliases are ticker symbols (SLIP-44's and
//! exchanges'), common long forms, and CAIP-2 chain ids: `eip155:<chain id>` for any EVM chain,
//! `bip122:<genesis block>` and `solana:<genesis hash>` for the main networks. Any other
//! well-formed name is an unlisted network, whose addresses are opaque text.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::error::AddressError;

/// Longest name of a network, in bytes.
pub const MAX_NETWORK_BYTES: usize = 64;

/// Format of the addresses of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkFamily {
    /// 20 bytes in hex.
    Evm,
    /// Base58check, bech32, bech32m.
    Bitcoin,
    /// Encodings of Bitcoin with other prefixes.
    Litecoin,
    /// Base58check of 0x41 and 20 bytes.
    Tron,
    /// Base58 of 32 bytes.
    Solana,
    /// Any text.
    Opaque,
}

impl NetworkFamily {
    /// The name in SQL: `evm`, `bitcoin`, `litecoin`, `tron`, `solana`, `opaque`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Evm => "evm",
            Self::Bitcoin => "bitcoin",
            Self::Litecoin => "litecoin",
            Self::Tron => "tron",
            Self::Solana => "solana",
            Self::Opaque => "opaque",
        }
    }
}

impl fmt::Display for NetworkFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A network, by its canonical name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    name: Cow<'static, str>,
    family: NetworkFamily,
}

/// Canonical name, family, aliases.
type ListedNetwork = (&'static str, NetworkFamily, &'static [&'static str]);

use NetworkFamily::{Bitcoin, Evm, Litecoin, Opaque, Solana, Tron};

const KNOWN: &[ListedNetwork] = &[
    ("ethereum", Evm, &["eth", "ether", "ethereum-mainnet", "eth-mainnet", "erc20", "eip155:1"]),
    ("sepolia", Evm, &["eth-sepolia", "ethereum-sepolia", "eip155:11155111"]),
    ("holesky", Evm, &["eth-holesky", "ethereum-holesky", "eip155:17000"]),
    ("ethereum-classic", Evm, &["etc", "ethereumclassic", "ethereum_classic", "eip155:61"]),
    (
        "bsc",
        Evm,
        &["bnb", "bep20", "bnb-chain", "bnb-smart-chain", "binance-smart-chain", "binance_smart_chain", "eip155:56"],
    ),
    ("polygon", Evm, &["matic", "pol", "polygon-pos", "eip155:137"]),
    ("avalanche", Evm, &["avax", "avax-c", "avalanche-c", "avalanche-c-chain", "eip155:43114"]),
    ("arbitrum", Evm, &["arb", "arbitrum-one", "arbitrum_one", "eip155:42161"]),
    ("optimism", Evm, &["op", "op-mainnet", "eip155:10"]),
    ("base", Evm, &["base-mainnet", "eip155:8453"]),
    ("fantom", Evm, &["ftm", "fantom-opera", "eip155:250"]),
    ("gnosis", Evm, &["xdai", "gno", "gnosis-chain", "eip155:100"]),
    ("celo", Evm, &["eip155:42220"]),
    ("cronos", Evm, &["cro", "eip155:25"]),
    ("linea", Evm, &["eip155:59144"]),
    ("scroll", Evm, &["eip155:534352"]),
    ("zksync", Evm, &["zksync-era", "eip155:324"]),
    ("bitcoin", Bitcoin, &["btc", "xbt", "bitcoin-mainnet", "bip122:000000000019d6689c085ae165831e93"]),
    (
        "bitcoin-testnet",
        Bitcoin,
        &["btc-testnet", "bitcoin_testnet", "testnet3", "testnet4", "bip122:000000000933ea01ad0ee984209779ba"],
    ),
    ("litecoin", Litecoin, &["ltc", "litecoin-mainnet", "bip122:12a765e31ffd4059bada1e25190f6e98"]),
    ("litecoin-testnet", Litecoin, &["ltc-testnet", "tltc", "litecoin_testnet"]),
    ("tron", Tron, &["trx", "trc20"]),
    ("solana", Solana, &["sol", "solana-mainnet", "solana:5eykt4usfv8p8njdtrepy1vzqkqzkvdp"]),
    ("bitcoin-cash", Opaque, &["bch", "bitcoincash", "bitcoin_cash"]),
    ("bitcoin-sv", Opaque, &["bsv", "bitcoinsv", "bitcoin_sv"]),
    ("dogecoin", Opaque, &["doge"]),
    ("zcash", Opaque, &["zec"]),
    ("dash", Opaque, &[]),
    ("monero", Opaque, &["xmr"]),
    ("ripple", Opaque, &["xrp", "xrpl", "xrp-ledger"]),
    ("cardano", Opaque, &["ada"]),
    ("stellar", Opaque, &["xlm"]),
    ("eos", Opaque, &[]),
    ("polkadot", Opaque, &["dot"]),
    ("algorand", Opaque, &["algo"]),
    ("cosmos", Opaque, &["atom", "cosmoshub", "cosmos-hub", "cosmos:cosmoshub-4"]),
    ("tezos", Opaque, &["xtz"]),
    ("binance-beacon", Opaque, &["bep2", "bnb-beacon", "binance-beacon-chain"]),
];

impl Network {
    /// Parses a network's name in any case: canonical, alias, CAIP-2 or unlisted.
    ///
    /// # Errors
    /// [`AddressError::EmptyNetwork`], [`AddressError::NetworkTooLong`],
    /// [`AddressError::NetworkCharacter`], [`AddressError::ChainId`].
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() {
            return Err(AddressError::EmptyNetwork);
        }
        if text.len() > MAX_NETWORK_BYTES {
            return Err(AddressError::NetworkTooLong {
                network: text.to_owned(),
                bytes: text.len(),
                limit: MAX_NETWORK_BYTES,
            });
        }
        let allowed =
            |index: usize, c: char| c.is_ascii_alphanumeric() || (index > 0 && matches!(c, ':' | '.' | '_' | '-'));
        if let Some((index, character)) = text.chars().enumerate().find(|&(index, c)| !allowed(index, c)) {
            return Err(AddressError::NetworkCharacter { network: text.to_owned(), character, position: index + 1 });
        }
        let name = text.to_ascii_lowercase();
        let is_named =
            |&&(canonical, _, aliases): &&ListedNetwork| canonical == name || aliases.contains(&name.as_str());
        if let Some(&(canonical, family, _)) = KNOWN.iter().find(is_named) {
            return Ok(Self { name: Cow::Borrowed(canonical), family });
        }
        let family = match name.strip_prefix("eip155:") {
            None => Opaque,
            Some(id) if is_chain_id(id) => Evm,
            Some(_) => return Err(AddressError::ChainId { network: text.to_owned() }),
        };
        Ok(Self { name: Cow::Owned(name), family })
    }

    /// Returns the canonical name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the format of its addresses.
    #[must_use]
    pub const fn family(&self) -> NetworkFamily {
        self.family
    }

    /// Returns the canonical names of the listed networks, with their families.
    pub fn known() -> impl Iterator<Item = (&'static str, NetworkFamily)> {
        KNOWN.iter().map(|&(name, family, _)| (name, family))
    }
}

/// Checks a chain id. CAIP-2 allows 32 characters; EIP-155's chain id is a positive integer, and
/// one number has one spelling.
fn is_chain_id(id: &str) -> bool {
    (1..=32).contains(&id.len()) && !id.starts_with('0') && id.bytes().all(|b| b.is_ascii_digit())
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl FromStr for Network {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Network {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.name.into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_stands_for_two_networks_and_every_alias_is_reached() {
        let mut seen = std::collections::BTreeSet::new();
        for &(canonical, _, aliases) in KNOWN {
            for name in aliases.iter().chain([&canonical]) {
                assert!(seen.insert(*name), "{name} is listed twice");
                assert_eq!(Network::parse(name).unwrap().name(), canonical);
            }
        }
    }
}
