//! Base58 and base58check, and the two networks whose addresses consist of them: Tron and Solana.
//!
//! Base58check is a version byte, a payload and the first 4 bytes of the double SHA-256 of both, in
//! Bitcoin's alphabet.

use super::check_characters;
use super::error::AddressError;

/// A version byte and a 20-byte hash.
const CHECKED_BYTES: usize = 21;
const CHECKSUM_BYTES: usize = 4;
const ALPHABET: &str = "base58 characters (digits and letters without 0, O, I and l)";

/// Tron's version byte on its main network; it makes addresses begin with `T`.
const TRON_VERSION: u8 = 0x41;
/// An Ed25519 public key, or an address derived from a program.
const SOLANA_BYTES: usize = 32;

fn decode(text: &str, network: &str) -> Result<Vec<u8>, AddressError> {
    let in_alphabet = |c: char| c.is_ascii_alphanumeric() && !matches!(c, '0' | 'O' | 'I' | 'l');
    check_characters(text, network, ALPHABET, in_alphabet)?;
    // Only the alphabet can make decoding fail, and it has just been checked.
    bs58::decode(text)
        .into_vec()
        .map_err(|_| AddressError::BadChecksum { address: text.to_owned(), encoding: "base58" })
}

/// Returns the version byte and the 20-byte payload of a base58check text whose checksum holds.
pub(super) fn decode_checked(text: &str, network: &str) -> Result<(u8, Vec<u8>), AddressError> {
    let bytes = decode(text, network)?;
    if bytes.len() != CHECKED_BYTES + CHECKSUM_BYTES {
        return Err(AddressError::WrongLength {
            address: text.to_owned(),
            network: network.to_owned(),
            found: bytes.len(),
            unit: "bytes when decoded from base58",
            expected: "25: a version, a 20-byte hash and a 4-byte checksum",
        });
    }
    let bad_checksum = || AddressError::BadChecksum { address: text.to_owned(), encoding: "base58check" };
    let checked = bs58::decode(text).with_check(None).into_vec().map_err(|_| bad_checksum())?;
    let (version, payload) = checked.split_first().ok_or_else(bad_checksum)?;
    Ok((*version, payload.to_vec()))
}

pub(super) fn encode_checked(version: u8, payload: &[u8]) -> String {
    bs58::encode(payload).with_check_version(version).into_string()
}

pub(super) fn normalise_tron(text: &str, network: &str) -> Result<String, AddressError> {
    match decode_checked(text, network)? {
        (TRON_VERSION, _) => Ok(text.to_owned()),
        (version, _) => Err(AddressError::WrongVersion {
            address: text.to_owned(),
            network: network.to_owned(),
            version,
            expected: "0x41 (an address that begins with T)",
        }),
    }
}

pub(super) fn normalise_solana(text: &str, network: &str) -> Result<String, AddressError> {
    let bytes = decode(text, network)?;
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
