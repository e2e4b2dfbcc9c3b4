//! Addresses of EVM chains: 20 bytes in hexadecimal, with an optional checksum in the case of the
//! letters, or in ICAP.
//!
//! EIP-55: the digits in lower case are hashed with Keccak-256 as ASCII; a letter is upper case
//! where the hash's hex digit at the same position is 8 or more. Texts in one case carry no
//! checksum and are accepted. EIP-1191, which Rootstock uses, hashes the chain id, `0x` and the
//! digits; both spellings are in use there and are accepted. ICAP is an IBAN of country `XE` whose
//! account is the number of the address in base 36. XDC writes `xdc` for `0x`, Ronin `ronin:`.

use ethnum::U256;
use sha3::{Digest, Keccak256};

use super::error::AddressError;

const HEX_DIGITS: usize = 40;

/// Networks whose wallets write checksums of EIP-1191, with their chain ids.
const CHAIN_CHECKSUMS: [(&str, &str); 2] = [("rootstock", "30"), ("rootstock-testnet", "31")];

/// Prefixes that networks write for `0x`.
const OWN_PREFIXES: [(&str, &str); 2] = [("xdc", "xdc"), ("ronin", "ronin:")];

/// Returns the 40 digits after `0x` if `text` is a normalised EVM address.
pub(super) fn digits(text: &str) -> Option<&str> {
    let digits = text.strip_prefix("0x")?;
    let lower_hex = |b: u8| b.is_ascii_digit() | matches!(b, b'a'..=b'f');
    // Without a branch for each digit.
    (digits.len() == HEX_DIGITS && digits.bytes().fold(true, |all, b| all & lower_hex(b))).then_some(digits)
}

/// Returns the EIP-55 spelling, with `0x`, of 40 hex digits in lower case.
pub(super) fn to_checksum(digits: &str) -> String {
    cased(digits, digits.as_bytes())
}

/// Returns the spelling that wallets of a network write: EIP-1191 on Rootstock, EIP-55 elsewhere.
pub(super) fn to_checksum_of(digits: &str, network: &str) -> String {
    match chain_checksum(network) {
        Some(chain) => cased(digits, format!("{chain}0x{digits}").as_bytes()),
        None => to_checksum(digits),
    }
}

fn chain_checksum(network: &str) -> Option<&'static str> {
    CHAIN_CHECKSUMS.iter().find(|(name, _)| *name == network).map(|(_, chain)| *chain)
}

fn cased(digits: &str, hashed: &[u8]) -> String {
    let hash = Keccak256::digest(hashed);
    let nibbles = hash.iter().flat_map(|byte| [byte >> 4, byte & 0x0f]);
    let cased = digits.chars().zip(nibbles).map(|(c, nibble)| if nibble >= 8 { c.to_ascii_uppercase() } else { c });
    "0x".chars().chain(cased).collect()
}

/// Returns the address in lower case, with `0x`.
pub(super) fn normalise(text: &str, network: &str) -> Result<String, AddressError> {
    let prefix = text.get(..2).unwrap_or_default();
    if prefix.eq_ignore_ascii_case("xe") {
        return icap(text, network);
    }
    let own = OWN_PREFIXES.iter().find(|(name, _)| *name == network).map(|(_, prefix)| *prefix);
    let own = own.and_then(|own| {
        let start = text.get(..own.len()).filter(|start| start.eq_ignore_ascii_case(own))?;
        text.strip_prefix(start)
    });
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let Some(digits) = hex.or(own) else {
        return Err(AddressError::WrongPrefix {
            address: text.to_owned(),
            network: network.to_owned(),
            found: text.chars().take(2).collect(),
            expected: "0x and 40 hex digits",
        });
    };
    if let Some((index, character)) = digits.chars().enumerate().find(|(_, c)| !c.is_ascii_hexdigit()) {
        return Err(AddressError::BadCharacter {
            address: text.to_owned(),
            network: network.to_owned(),
            character,
            position: text.len() - digits.len() + index + 1,
            expected: "hex digits after 0x",
        });
    }
    if digits.len() != HEX_DIGITS {
        return Err(AddressError::WrongLength {
            address: text.to_owned(),
            network: network.to_owned(),
            found: digits.len(),
            unit: "hex digits",
            expected: "40 after 0x",
        });
    }
    let lower = digits.to_ascii_lowercase();
    let mixed = digits.bytes().any(|b| b.is_ascii_uppercase()) && digits.bytes().any(|b| b.is_ascii_lowercase());
    if mixed && to_checksum(&lower)[2..] != *digits && to_checksum_of(&lower, network)[2..] != *digits {
        return Err(AddressError::Eip55 { address: text.to_owned(), expected: to_checksum_of(&lower, network) });
    }
    Ok(format!("0x{lower}"))
}

/// Converts ICAP: `XE`, two check digits as in an IBAN, and 30 or 31 characters in base 36. The
/// short form, which names an account at an institution, is no address.
fn icap(text: &str, network: &str) -> Result<String, AddressError> {
    const COUNTRY_AND_CHECK: usize = 4;
    let upper = text.to_ascii_uppercase();
    if let Some((index, character)) = text.chars().enumerate().find(|(_, c)| !c.is_ascii_alphanumeric()) {
        return Err(AddressError::BadCharacter {
            address: text.to_owned(),
            network: network.to_owned(),
            character,
            position: index + 1,
            expected: "letters and digits in an ICAP address",
        });
    }
    let wrong_length = || AddressError::WrongLength {
        address: text.to_owned(),
        network: network.to_owned(),
        found: text.len(),
        unit: "characters",
        expected: "34 or 35 in an ICAP address, whose account has 160 bits",
    };
    if !matches!(upper.len(), 34 | 35) {
        return Err(wrong_length());
    }
    let (head, account) = upper.split_at(COUNTRY_AND_CHECK);
    // ISO 13616: the number that the account and then the head spell has the remainder 1 by 97.
    let remainder = account.chars().chain(head.chars()).fold(0, |remainder, c| {
        let value = c.to_digit(36).unwrap_or_default();
        (remainder * if value > 9 { 100 } else { 10 } + value) % 97
    });
    if remainder != 1 {
        return Err(AddressError::BadChecksum { address: text.to_owned(), encoding: "ICAP" });
    }
    let number = U256::from_str_radix(account, 36).map_err(|_| wrong_length())?;
    if number >> 160 != U256::ZERO {
        return Err(wrong_length());
    }
    Ok(format!("0x{number:040x}"))
}
