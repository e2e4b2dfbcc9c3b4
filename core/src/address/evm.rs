//! Addresses of EVM chains: 20 bytes in hexadecimal, with the optional checksum of EIP-55 in the
//! case of the letters.
//!
//! EIP-55: the digits in lower case are hashed with Keccak-256 as ASCII; a letter is upper case
//! where the hash's hex digit at the same position is 8 or more. Texts in one case carry no
//! checksum and are accepted.

use sha3::{Digest, Keccak256};

use super::error::AddressError;

const HEX_DIGITS: usize = 40;

/// Returns the 40 digits after `0x` if `text` is a normalised EVM address.
pub(super) fn digits(text: &str) -> Option<&str> {
    let digits = text.strip_prefix("0x")?;
    let lower_hex = |b: u8| b.is_ascii_digit() || matches!(b, b'a'..=b'f');
    (digits.len() == HEX_DIGITS && digits.bytes().all(lower_hex)).then_some(digits)
}

/// Returns the EIP-55 spelling, with `0x`, of 40 hex digits in lower case.
pub(super) fn to_checksum(digits: &str) -> String {
    let hash = Keccak256::digest(digits.as_bytes());
    let nibbles = hash.iter().flat_map(|byte| [byte >> 4, byte & 0x0f]);
    let cased = digits.chars().zip(nibbles).map(|(c, nibble)| if nibble >= 8 { c.to_ascii_uppercase() } else { c });
    "0x".chars().chain(cased).collect()
}

/// Returns the address in lower case, with `0x`.
pub(super) fn normalise(text: &str, network: &str) -> Result<String, AddressError> {
    let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) else {
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
            position: index + 3,
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
    if mixed {
        let expected = to_checksum(&lower);
        if expected[2..] != *digits {
            return Err(AddressError::Eip55 { address: text.to_owned(), expected });
        }
    }
    Ok(format!("0x{lower}"))
}
