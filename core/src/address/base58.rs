//! Base58 and base58check, and the networks whose addresses consist of them alone: Tron, Solana and
//! the XRP Ledger.
//!
//! Base58check is a version, a payload and the first 4 bytes of the double SHA-256 of both, in
//! Bitcoin's alphabet; the XRP Ledger has an alphabet of its own.

use super::check_characters;
use super::error::AddressError;

/// Bytes of a hash of a public key or of a script.
pub(super) const HASH_BYTES: usize = 20;
const CHECKSUM_BYTES: usize = 4;
const ALPHABET: &str = "base58 characters (digits and letters without 0, O, I and l)";

/// Tron's version byte on its main network; it makes addresses begin with `T`.
const TRON_VERSION: u8 = 0x41;
/// An Ed25519 public key, or an address derived from a program.
const SOLANA_BYTES: usize = 32;
/// Version byte of an account of the XRP Ledger; it makes addresses begin with `r`.
const RIPPLE_VERSION: u8 = 0x00;

fn decode(text: &str, network: &str, alphabet: &bs58::Alphabet) -> Result<Vec<u8>, AddressError> {
    let in_alphabet = |c: char| c.is_ascii_alphanumeric() && !matches!(c, '0' | 'O' | 'I' | 'l');
    check_characters(text, network, ALPHABET, in_alphabet)?;
    // Only the alphabet can make decoding fail, and it has just been checked.
    bs58::decode(text)
        .with_alphabet(alphabet)
        .into_vec()
        .map_err(|_| AddressError::BadChecksum { address: text.to_owned(), encoding: "base58" })
}

/// Returns version and 20-byte payload of a base58check text whose checksum holds. The version has
/// `version_bytes` bytes.
fn checked(
    text: &str,
    network: &str,
    version_bytes: usize,
    alphabet: &bs58::Alphabet,
) -> Result<(Vec<u8>, Vec<u8>), AddressError> {
    let bytes = decode(text, network, alphabet)?;
    if bytes.len() != version_bytes + HASH_BYTES + CHECKSUM_BYTES {
        return Err(AddressError::WrongLength {
            address: text.to_owned(),
            network: network.to_owned(),
            found: bytes.len(),
            unit: "bytes when decoded from base58",
            expected: if version_bytes == 2 {
                "26: a version of 2 bytes, a 20-byte hash and a 4-byte checksum"
            } else {
                "25: a version, a 20-byte hash and a 4-byte checksum"
            },
        });
    }
    let bad_checksum = || AddressError::BadChecksum { address: text.to_owned(), encoding: "base58check" };
    let decoder = bs58::decode(text).with_alphabet(alphabet).with_check(None);
    let mut version = decoder.into_vec().map_err(|_| bad_checksum())?;
    let payload = version.split_off(version_bytes.min(version.len()));
    Ok((version, payload))
}

/// Returns version and 20-byte payload of a base58check text in Bitcoin's alphabet.
pub(super) fn decode_checked(
    text: &str,
    network: &str,
    version_bytes: usize,
) -> Result<(Vec<u8>, Vec<u8>), AddressError> {
    checked(text, network, version_bytes, bs58::Alphabet::BITCOIN)
}

pub(super) fn encode_checked(version: &[u8], payload: &[u8]) -> String {
    bs58::encode([version, payload].concat()).with_check().into_string()
}

fn wrong_version(text: &str, network: &str, version: &[u8], expected: &'static str) -> AddressError {
    AddressError::WrongVersion {
        address: text.to_owned(),
        network: network.to_owned(),
        version: hex(version),
        expected,
    }
}

/// Formats a version as `0x05` or `0x1cb8`.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// Tron writes the same account as base58check and, in its protocol, as hex of version and hash.
pub(super) fn normalise_tron(text: &str, network: &str) -> Result<String, AddressError> {
    if let Some(bytes) = tron_hex(text) {
        return Ok(encode_checked(&bytes[..1], &bytes[1..]));
    }
    match decode_checked(text, network, 1)? {
        (version, _) if version == [TRON_VERSION] => Ok(text.to_owned()),
        (version, _) => Err(wrong_version(text, network, &version, "0x41 (an address that begins with T)")),
    }
}

/// Decodes `41` and 40 hex digits, with or without `0x`.
fn tron_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    if digits.len() != 2 * (HASH_BYTES + 1) || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let byte = |i: usize| u8::from_str_radix(digits.get(2 * i..2 * i + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..=HASH_BYTES).map(byte).collect();
    bytes.filter(|bytes| bytes.first() == Some(&TRON_VERSION))
}

pub(super) fn normalise_solana(text: &str, network: &str) -> Result<String, AddressError> {
    let bytes = decode(text, network, bs58::Alphabet::BITCOIN)?;
    if bytes.len() != SOLANA_BYTES {
        return Err(AddressError::WrongLength {
            address: text.to_owned(),
            network: network.to_owned(),
            found: bytes.len(),
            unit: "bytes when decoded from base58",
            expected: "32",
        });
    }
    Ok(text.to_owned())
}

pub(super) fn normalise_ripple(text: &str, network: &str) -> Result<String, AddressError> {
    match checked(text, network, 1, bs58::Alphabet::RIPPLE)? {
        (version, _) if version == [RIPPLE_VERSION] => Ok(text.to_owned()),
        (version, _) => Err(wrong_version(text, network, &version, "0x00 (an address that begins with r)")),
    }
}
