//! Wallet addresses: parsing, validation and normalisation by network.
//!
//! Owns the formats of well-formed addresses and their spelling in ARX; it does not know whether
//! anyone holds the key of an address. One wallet has one spelling: [`Address::parse`] returns the
//! same text for every accepted spelling of an address, and tables, files and caches are keyed by
//! that text.
//!
//! | family | accepted | normalised to | source |
//! |---|---|---|---|
//! | EVM | `0x` or `0X` and 40 hex digits; in mixed case the checksum must hold (on Rootstock that of EIP-55 or EIP-1191); ICAP (`XE…`); on XDC also `xdc…`, on Ronin `ronin:…` | `0x` and lower case | EIP-55, EIP-1191, ICAP |
//! | Bitcoin | base58check (to public key hash, to script hash) with the versions of the chain; bech32 and bech32m where it has segwit | segwit in lower case | BIP 13, 173, 350; `chainparams.cpp` of each chain |
//! | Litecoin | the same with Litecoin's prefixes | script hashes in their present form (`M…`, not `3…`) | Litecoin Core's `chainparams.cpp` |
//! | Bitcoin Cash | CashAddr with or without `bitcoincash:`, in one case, also able to receive tokens; Bitcoin's and BitPay's base58check | CashAddr with its prefix | CashAddr, CHIP-2022-02 |
//! | Tron | base58check of 0x41 and 20 bytes, or their hex (`41…`, `0x41…`) | base58check | Tron's documentation of accounts |
//! | Solana | base58 of 32 bytes | as is | Solana's documentation of accounts |
//! | Ripple | base58check in its own alphabet | as is | XRP Ledger's documentation of addresses |
//! | opaque | 1 to 256 bytes without blanks or control characters, whose format no one has checked | `0x` and hex digits, and valid bech32, in lower case; all else as is | |
//!
//! Nothing is trimmed: an address with surrounding blanks comes from a file that is read wrongly,
//! and is an error.
//!
//! ```
//! use arx_core::address::{Address, Network};
//!
//! let ethereum = Network::parse("ETH")?;
//! let address = Address::parse("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", &ethereum)?;
//! assert_eq!(address.as_str(), "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed");
//! let checksummed = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
//! assert_eq!(address.to_checksum().as_deref(), Some(checksummed));
//! # Ok::<(), arx_core::address::AddressError>(())
//! ```

mod base58;
mod cash;
mod error;
mod evm;
mod network;
mod utxo;

use std::fmt;

use serde::Serialize;

pub use error::AddressError;
pub use network::{Currency, MAX_NETWORK_BYTES, Network, NetworkFamily};

/// Longest address that is accepted, in bytes. The longest in use (Cardano's Byron era) has some
/// 110.
pub const MAX_ADDRESS_BYTES: usize = 256;

/// An address that is valid on the network it was parsed for, in its normalised spelling.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Address(String);

impl Address {
    /// Validates `text` as an address of `network` and normalises it. Linear in the length of the
    /// text for EVM and opaque networks, quadratic (and bounded by [`MAX_ADDRESS_BYTES`]) where
    /// base58 is decoded.
    ///
    /// # Errors
    /// Every [`AddressError`] of addresses. [`AddressError::WrongNetwork`] names another network on
    /// which the address is well-formed.
    pub fn parse(text: &str, network: &Network) -> Result<Self, AddressError> {
        // The common case: an address that is normalised already.
        if network.family() == NetworkFamily::Evm && evm::digits(text).is_some() {
            return Ok(Self(text.to_owned()));
        }
        check_text(text, network)?;
        match by_family(text, network.family(), network.name()) {
            Ok(normalised) => Ok(Self(normalised)),
            Err(error) => Err(elsewhere(text, network).unwrap_or(error)),
        }
    }

    /// Returns the normalised text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the normalised text, owned.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }

    /// Returns the EIP-55 spelling of an EVM address, `None` for any other.
    #[must_use]
    pub fn to_checksum(&self) -> Option<String> {
        evm::digits(&self.0).map(evm::to_checksum)
    }

    /// Returns the spelling with the checksum that wallets of an EVM network write: EIP-1191 on
    /// Rootstock, EIP-55 elsewhere. `None` on other networks.
    #[must_use]
    pub fn to_checksum_of(&self, network: &Network) -> Option<String> {
        let digits = evm::digits(&self.0).filter(|_| network.family() == NetworkFamily::Evm);
        digits.map(|digits| evm::to_checksum_of(digits, network.name()))
    }

    /// Returns whether `text` is an address of `network`; `None` on networks whose addresses ARX
    /// cannot check, unless the text is an address on none.
    #[must_use]
    pub fn is_valid(text: &str, network: &Network) -> Option<bool> {
        match Self::parse(text, network) {
            Err(_) => Some(false),
            Ok(_) => (network.family() != NetworkFamily::Opaque).then_some(true),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Address {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.0
    }
}

/// Rejects texts that are invalid on every network: empty or too long, with white space or
/// invisible characters.
fn check_text(text: &str, network: &Network) -> Result<(), AddressError> {
    if text.is_empty() {
        return Err(AddressError::Empty { network: network.name().to_owned() });
    }
    if text.starts_with(char::is_whitespace) || text.ends_with(char::is_whitespace) {
        return Err(AddressError::SurroundingWhitespace { address: text.to_owned() });
    }
    if text.len() > MAX_ADDRESS_BYTES {
        return Err(AddressError::TooLong { address: text.to_owned(), bytes: text.len(), limit: MAX_ADDRESS_BYTES });
    }
    check_characters(text, network.name(), "visible characters without blanks", |c| {
        !c.is_whitespace() && !c.is_control() && !is_invisible(c)
    })
}

/// Matches zero-width characters and direction marks, which make different addresses appear equal.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Rejects a text at its first character that is not allowed.
fn check_characters(
    text: &str,
    network: &str,
    expected: &'static str,
    allowed: impl Fn(char) -> bool,
) -> Result<(), AddressError> {
    match text.chars().enumerate().find(|&(_, c)| !allowed(c)) {
        None => Ok(()),
        Some((index, character)) => Err(AddressError::BadCharacter {
            address: text.to_owned(),
            network: network.to_owned(),
            character,
            position: index + 1,
            expected,
        }),
    }
}

fn by_family(text: &str, family: NetworkFamily, network: &str) -> Result<String, AddressError> {
    match family {
        NetworkFamily::Evm => evm::normalise(text, network),
        NetworkFamily::Bitcoin | NetworkFamily::Litecoin => utxo::normalise(text, network),
        NetworkFamily::BitcoinCash => cash::normalise(text, network),
        NetworkFamily::Tron => base58::normalise_tron(text, network),
        NetworkFamily::Solana => base58::normalise_solana(text, network),
        NetworkFamily::Ripple => base58::normalise_ripple(text, network),
        NetworkFamily::Opaque => Ok(opaque(text)),
    }
}

/// Folds the encodings that have no case by definition, hex and bech32, so that an address has one
/// spelling also where its format is unknown.
fn opaque(text: &str) -> String {
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let is_hex = hex.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit()));
    let is_bech32 = || bech32::decode(text).is_ok();
    if is_hex || (text.bytes().any(|b| b.is_ascii_uppercase()) && is_bech32()) {
        text.to_ascii_lowercase()
    } else {
        text.to_owned()
    }
}

/// Networks on which an invalid address is tried, the strictest encodings first.
const ELSEWHERE: [(NetworkFamily, &str); 13] = [
    (NetworkFamily::Evm, "ethereum"),
    (NetworkFamily::Bitcoin, "bitcoin"),
    (NetworkFamily::Bitcoin, "bitcoin-testnet"),
    (NetworkFamily::Litecoin, "litecoin"),
    (NetworkFamily::Litecoin, "litecoin-testnet"),
    (NetworkFamily::BitcoinCash, "bitcoin-cash"),
    (NetworkFamily::Tron, "tron"),
    (NetworkFamily::Bitcoin, "dogecoin"),
    (NetworkFamily::Bitcoin, "dash"),
    (NetworkFamily::Bitcoin, "zcash"),
    (NetworkFamily::Bitcoin, "bitcoin-gold"),
    (NetworkFamily::Ripple, "ripple"),
    (NetworkFamily::Solana, "solana"),
];

/// Returns the error that names a network on which `text` is valid, if one exists.
fn elsewhere(text: &str, network: &Network) -> Option<AddressError> {
    let same =
        |family, name: &str| name == network.name() || (family == NetworkFamily::Evm && network.family() == family);
    ELSEWHERE
        .iter()
        .filter(|&&(family, name)| !same(family, name))
        .find(|&&(family, name)| by_family(text, family, name).is_ok())
        .map(|&(_, name)| AddressError::WrongNetwork {
            address: text.to_owned(),
            network: network.name().to_owned(),
            belongs_to: name,
        })
}

/// Returns the main network on which a text is an address, by its encoding: `0x…` is Ethereum's,
/// whose addresses other EVM networks share. `None` if it is an address on none of those whose
/// encoding ARX knows.
#[must_use]
pub fn network_of_address(text: &str) -> Option<Network> {
    check_text(text, &Network::parse("ethereum").ok()?).ok()?;
    let of = ELSEWHERE.iter().filter(|(_, name)| !name.ends_with("testnet"));
    let mut valid = of.filter(|&&(family, name)| by_family(text, family, name).is_ok());
    valid.next().and_then(|(_, name)| Network::parse(name).ok())
}

#[cfg(test)]
mod tests;
