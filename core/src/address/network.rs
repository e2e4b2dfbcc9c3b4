//! Names of networks: canonical names, their aliases, and the family that determines the format of
//! addresses.
//!
//! Canonical names are those of the table `arx.networks`. Aliases are ticker symbols (SLIP-44's and
//! exchanges'), common long forms, and CAIP-2 chain ids: `eip155:<chain id>` for any EVM chain,
//! `bip122:<genesis block>` and `solana:<genesis hash>` for the main networks. Any other
//! well-formed name is an unlisted network, whose addresses are opaque text unless its user states
//! their family ([`Network::with_family`]).
//!
//! The symbol of an asset is not the name of a network: [`Currency`] lists the symbols that stand
//! for one network, its native coin, and those of tokens, which stand for none.

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
    /// Encodings of Bitcoin with other prefixes, of which one has changed.
    Litecoin,
    /// CashAddr and base58check.
    #[serde(rename = "bitcoin_cash")]
    BitcoinCash,
    /// Base58check of 0x41 and 20 bytes, or their hex.
    Tron,
    /// Base58 of 32 bytes.
    Solana,
    /// Base58check in the alphabet of the XRP Ledger.
    Ripple,
    /// Any text.
    Opaque,
}

impl NetworkFamily {
    /// Returns whether a transaction without a receiver may create a contract.
    #[must_use]
    pub const fn has_contracts(self) -> bool {
        !matches!(self, Self::Bitcoin | Self::Litecoin | Self::BitcoinCash | Self::Ripple)
    }

    /// Every family.
    pub const ALL: [Self; 8] = [
        Self::Evm,
        Self::Bitcoin,
        Self::Litecoin,
        Self::BitcoinCash,
        Self::Tron,
        Self::Solana,
        Self::Ripple,
        Self::Opaque,
    ];

    /// The name in SQL: `evm`, `bitcoin`, `litecoin`, `bitcoin_cash`, `tron`, `solana`, `ripple`,
    /// `opaque`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Evm => "evm",
            Self::Bitcoin => "bitcoin",
            Self::Litecoin => "litecoin",
            Self::BitcoinCash => "bitcoin_cash",
            Self::Tron => "tron",
            Self::Solana => "solana",
            Self::Ripple => "ripple",
            Self::Opaque => "opaque",
        }
    }
}

impl FromStr for NetworkFamily {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let family = Self::ALL.into_iter().find(|family| family.as_str().eq_ignore_ascii_case(text));
        family.ok_or_else(|| AddressError::UnknownFamily { family: text.to_owned() })
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

use NetworkFamily::{Bitcoin, BitcoinCash, Evm, Litecoin, Opaque, Ripple, Solana, Tron};

/// Networks that every database has.
const SHIPPED: &[ListedNetwork] = &[
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
    ("avalanche", Evm, &["avax", "avax-c", "avalanche-c", "avalanche_c", "avalanche-c-chain", "eip155:43114"]),
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
    ("bitcoin-cash", BitcoinCash, &["bch", "bitcoincash", "bitcoin_cash"]),
    ("bitcoin-sv", Bitcoin, &["bsv", "bitcoinsv", "bitcoin_sv"]),
    ("bitcoin-gold", Bitcoin, &["btg", "bitcoingold", "bitcoin_gold"]),
    ("verge", Bitcoin, &["xvg"]),
    ("dogecoin", Bitcoin, &["doge"]),
    ("zcash", Bitcoin, &["zec"]),
    ("dash", Bitcoin, &[]),
    ("monero", Opaque, &["xmr"]),
    ("ripple", Ripple, &["xrp", "xrpl", "xrp-ledger"]),
    ("cardano", Opaque, &["ada"]),
    ("stellar", Opaque, &["xlm"]),
    ("eos", Opaque, &[]),
    ("polkadot", Opaque, &["dot"]),
    ("algorand", Opaque, &["algo"]),
    ("cosmos", Opaque, &["atom", "cosmoshub", "cosmos-hub", "cosmos:cosmoshub-4"]),
    ("tezos", Opaque, &["xtz"]),
    ("binance-beacon", Opaque, &["bep2", "bnb-beacon", "binance-beacon-chain"]),
];

/// Networks whose family ARX knows, and that a database has once a user adds them.
const NOT_SHIPPED: &[ListedNetwork] = &[
    ("blast", Evm, &["eip155:81457"]),
    ("mantle", Evm, &["mnt", "eip155:5000"]),
    ("ronin", Evm, &["ron", "eip155:2020"]),
    ("sonic", Evm, &["eip155:146"]),
    ("berachain", Evm, &["bera", "eip155:80094"]),
    ("unichain", Evm, &["eip155:130"]),
    ("opbnb", Evm, &["eip155:204"]),
    ("moonbeam", Evm, &["glmr", "eip155:1284"]),
    ("moonriver", Evm, &["movr", "eip155:1285"]),
    ("polygon-zkevm", Evm, &["polygon_zkevm", "zkevm", "eip155:1101"]),
    ("arbitrum-nova", Evm, &["arbitrum_nova", "eip155:42170"]),
    ("goerli", Evm, &["eth-goerli", "eip155:5"]),
    ("xdc", Evm, &["xdc-network", "xinfin", "eip155:50"]),
    ("rootstock", Evm, &["rsk", "rbtc", "eip155:30"]),
    ("rootstock-testnet", Evm, &["rsk-testnet", "eip155:31"]),
    ("harmony", Evm, &["eip155:1666600000"]),
    ("kava", Evm, &["eip155:2222"]),
    ("metis", Evm, &["eip155:1088"]),
    ("manta", Evm, &["manta-pacific", "eip155:169"]),
    ("mode", Evm, &["eip155:34443"]),
    ("world-chain", Evm, &["worldchain", "eip155:480"]),
    ("zora", Evm, &["eip155:7777777"]),
    ("taiko", Evm, &["eip155:167000"]),
    ("ink", Evm, &["eip155:57073"]),
    ("hyperevm", Evm, &["hyperliquid-evm", "eip155:999"]),
    ("kaia", Evm, &["klaytn", "klay", "eip155:8217"]),
    ("aurora", Evm, &["eip155:1313161554"]),
    ("boba", Evm, &["eip155:288"]),
    ("pulsechain", Evm, &["pls", "eip155:369"]),
    ("filecoin-evm", Evm, &["fevm", "eip155:314"]),
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
        if let Some(&(canonical, family, _)) = SHIPPED.iter().chain(NOT_SHIPPED).find(is_named) {
            return Ok(Self { name: Cow::Borrowed(canonical), family });
        }
        let family = match name.strip_prefix("eip155:") {
            None => Opaque,
            Some(id) if is_chain_id(id) => Evm,
            Some(_) => return Err(AddressError::ChainId { network: text.to_owned() }),
        };
        Ok(Self { name: Cow::Owned(name), family })
    }

    /// Parses a network's name as people write it: `Arbitrum One`, `OP Mainnet`, `ERC-20`. A text
    /// that names no listed network in this way is parsed as it is.
    ///
    /// # Errors
    /// The errors of [`Network::parse`].
    pub fn parse_written(text: &str) -> Result<Self, AddressError> {
        let lower = text.trim().to_lowercase();
        let words: Vec<&str> = lower.split([' ', '_', '-']).filter(|word| !word.is_empty()).collect();
        let whole = words.as_slice();
        let short = match whole {
            [rest @ .., "mainnet" | "network" | "chain"] if !rest.is_empty() => rest,
            _ => whole,
        };
        let written = [whole, short].into_iter().flat_map(|words| ["-", ""].map(|between| words.join(between)));
        let listed = written.filter_map(|name| Self::parse(&name).ok()).find(Self::is_listed);
        listed.map_or_else(|| Self::parse(text), Ok)
    }

    /// Parses a network's name whose user states the family of its addresses. A listed network has
    /// the family that ARX lists.
    ///
    /// # Errors
    /// The errors of [`Network::parse`], [`AddressError::ListedFamily`], and
    /// [`AddressError::UnknownFamily`] for a family that belongs to listed networks alone.
    pub fn with_family(text: &str, family: NetworkFamily) -> Result<Self, AddressError> {
        let network = Self::parse(text)?;
        if network.family == family {
            return Ok(network);
        }
        if network.is_listed() || network.family != Opaque {
            return Err(AddressError::ListedFamily {
                network: network.name.into_owned(),
                listed: network.family.as_str(),
                stated: family.as_str(),
            });
        }
        match family {
            Evm | Bitcoin | Tron | Solana | Opaque => Ok(Self { family, ..network }),
            Litecoin | BitcoinCash | Ripple => Err(AddressError::UnknownFamily { family: family.as_str().to_owned() }),
        }
    }

    /// Returns true if ARX lists the network, and so knows its family.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        matches!(self.name, Cow::Borrowed(_))
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

    /// Returns the canonical names of the networks that every database has, with their families.
    pub fn known() -> impl Iterator<Item = (&'static str, NetworkFamily)> {
        SHIPPED.iter().map(|&(name, family, _)| (name, family))
    }
}

/// Meaning of the symbol of an asset for the network of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Currency {
    /// The native coin of one network, named here.
    Native(&'static str),
    /// A token or coin that exists on several networks: the address decides.
    Anywhere,
}

/// Native coins with their networks. Coins that are native on several networks stand for the one
/// that the public lists mean: ETH is Ethereum's.
const NATIVE: &[(&str, &str)] = &[
    ("BTC", "bitcoin"),
    ("XBT", "bitcoin"),
    ("ETH", "ethereum"),
    ("ETC", "ethereum-classic"),
    ("LTC", "litecoin"),
    ("BCH", "bitcoin-cash"),
    ("BSV", "bitcoin-sv"),
    ("BTG", "bitcoin-gold"),
    ("XVG", "verge"),
    ("DOGE", "dogecoin"),
    ("DASH", "dash"),
    ("ZEC", "zcash"),
    ("XMR", "monero"),
    ("XRP", "ripple"),
    ("TRX", "tron"),
    ("SOL", "solana"),
    ("ADA", "cardano"),
    ("XLM", "stellar"),
    ("EOS", "eos"),
    ("DOT", "polkadot"),
    ("ALGO", "algorand"),
    ("ATOM", "cosmos"),
    ("XTZ", "tezos"),
    ("MATIC", "polygon"),
    ("POL", "polygon"),
    ("AVAX", "avalanche"),
    ("FTM", "fantom"),
    ("XDAI", "gnosis"),
    ("CELO", "celo"),
    ("CRO", "cronos"),
    // Written for the networks themselves in OFAC's list.
    ("ARB", "arbitrum"),
    ("BSC", "bsc"),
];

/// Tokens of public lists, and BNB, which is native on two networks.
const ANYWHERE: &[&str] = &[
    "USDT",
    "USDC",
    "DAI",
    "TUSD",
    "BUSD",
    "USDD",
    "USDE",
    "USDP",
    "PAX",
    "GUSD",
    "PYUSD",
    "FDUSD",
    "USDJ",
    "USD1",
    "EURC",
    "EURT",
    "EURS",
    "XAUT",
    "PAXG",
    "WETH",
    "WBTC",
    "WBNB",
    "WTRX",
    "STETH",
    "WSTETH",
    "SHIB",
    "LINK",
    "UNI",
    "LEO",
    "PEPE",
    "MKR",
    "AAVE",
    "CRV",
    "LUSD",
    "FRAX",
    "USDT20",
    "USDT-ERC20",
    "USDT-TRC20",
    "HUSD",
    "RENBTC",
    "BNB",
];

impl Currency {
    /// Returns the meaning of a symbol in any case, `None` if ARX does not know it.
    #[must_use]
    pub fn parse(symbol: &str) -> Option<Self> {
        let native = NATIVE.iter().find(|(name, _)| name.eq_ignore_ascii_case(symbol));
        let anywhere = || ANYWHERE.iter().any(|name| name.eq_ignore_ascii_case(symbol)).then_some(Self::Anywhere);
        native.map(|(_, network)| Self::Native(network)).or_else(anywhere)
    }

    /// Returns true for the symbol of a token. BNB is also a name of its network.
    #[must_use]
    pub fn is_token(symbol: &str) -> bool {
        Self::parse(symbol) == Some(Self::Anywhere) && !symbol.eq_ignore_ascii_case("BNB")
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
    fn symbols_stand_for_listed_networks_and_tokens_for_none() {
        for (symbol, network) in NATIVE {
            assert_eq!(Currency::parse(&symbol.to_lowercase()), Some(Currency::Native(network)));
            assert!(Network::parse(network).unwrap().is_listed(), "{network}");
        }
        for symbol in ANYWHERE {
            assert_eq!(Currency::parse(symbol), Some(Currency::Anywhere));
            assert!(*symbol == "BNB" || !Network::parse(symbol).unwrap().is_listed(), "{symbol} names a network");
        }
        assert!(Currency::is_token("usdt") && !Currency::is_token("bnb") && !Currency::is_token("ETH"));
        assert_eq!(Currency::parse("QUUX"), None);
    }

    #[test]
    fn the_family_of_an_unlisted_network_is_what_its_user_states() {
        let stated = |name, family| Network::with_family(name, family).map(|network| network.family());
        assert_eq!(stated("my-rollup", Evm), Ok(Evm));
        assert_eq!(stated("my-coin", Bitcoin), Ok(Bitcoin));
        assert_eq!(stated("eth", Evm), Ok(Evm));
        assert!(matches!(stated("eth", Bitcoin), Err(AddressError::ListedFamily { listed: "evm", .. })));
        assert!(matches!(stated("eip155:9999999", Opaque), Err(AddressError::ListedFamily { .. })));
        assert!(matches!(stated("my-coin", Litecoin), Err(AddressError::UnknownFamily { .. })));
        for family in NetworkFamily::ALL {
            assert_eq!(family.as_str().to_uppercase().parse(), Ok(family));
            assert_eq!(serde_json::to_string(&family).unwrap(), format!("\"{family}\""));
        }
        assert!("ethereum".parse::<NetworkFamily>().is_err());
    }

    #[test]
    fn names_are_read_as_people_write_them() {
        for (text, name) in [
            ("Arbitrum One", "arbitrum"),
            ("OP Mainnet", "optimism"),
            ("Polygon PoS", "polygon"),
            ("Avalanche C-Chain", "avalanche"),
            ("Ethereum Classic", "ethereum-classic"),
            ("Bitcoin Cash", "bitcoin-cash"),
            ("ERC-20", "ethereum"),
            ("TRC-20", "tron"),
            (" BNB Smart Chain ", "bsc"),
            ("Ethereum Mainnet", "ethereum"),
            ("Ronin Network", "ronin"),
            ("Bitcoin_Testnet", "bitcoin-testnet"),
            ("my-rollup", "my-rollup"),
        ] {
            assert_eq!(Network::parse_written(text).unwrap().name(), name, "{text}");
        }
        assert!(Network::parse_written("Chain").is_ok_and(|network| !network.is_listed()));
        assert!(Network::parse_written("Some Other Chain").is_err() && Network::parse_written("").is_err());
    }

    #[test]
    fn no_name_stands_for_two_networks_and_every_alias_is_reached() {
        let mut seen = std::collections::BTreeSet::new();
        for &(canonical, _, aliases) in SHIPPED.iter().chain(NOT_SHIPPED) {
            for name in aliases.iter().chain([&canonical]) {
                assert!(seen.insert(*name), "{name} is listed twice");
                assert_eq!(Network::parse(name).unwrap().name(), canonical);
            }
        }
    }
}
