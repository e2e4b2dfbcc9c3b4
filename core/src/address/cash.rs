//! Addresses of Bitcoin Cash: CashAddr with or without its prefix, and the two older forms in
//! base58check, all of one wallet.
//!
//! CashAddr is base32 in the alphabet of bech32 with a 40-bit BCH code over the prefix and the
//! data. The version byte holds a type (0 public key hash, 1 script hash, and with 2 added the same
//! wallet able to receive tokens) and the length of the hash. Source: the CashAddr specification
//! of bitcoincash.org and CHIP-2022-02 (tokens).

use super::base58;
use super::check_characters;
use super::error::AddressError;

const PREFIX: &str = "bitcoincash";
const ALPHABET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const GENERATORS: [u64; 5] = [0x98f2_bc8e61, 0x79b7_6d99e2, 0xf33e_5fb3c4, 0xae2e_abe2a8, 0x1e4f_43e470];
const CHECKSUM_CHARACTERS: usize = 8;

/// Version bytes of the older forms with their type in CashAddr: Bitcoin's, then BitPay's.
const OLDER_VERSIONS: [(u8, u8); 4] = [(0x00, 0), (0x05, 1), (0x1c, 0), (0x28, 1)];

/// Lengths of hashes in bytes by the last three bits of the version.
const HASH_BYTES: [usize; 8] = [20, 24, 28, 32, 40, 48, 56, 64];

/// Returns the address in CashAddr with its prefix, in lower case.
pub(super) fn normalise(text: &str, network: &str) -> Result<String, AddressError> {
    let (prefix, data) = text.split_once(':').map_or((None, text), |(prefix, data)| (Some(prefix), data));
    if let Some(found) = prefix.filter(|prefix| !prefix.eq_ignore_ascii_case(PREFIX)) {
        return Err(AddressError::WrongPrefix {
            address: text.to_owned(),
            network: network.to_owned(),
            found: format!("{found}:"),
            expected: "bitcoincash:, q, p, z, 1 or 3",
        });
    }
    let first = data.chars().next().unwrap_or_default().to_ascii_lowercase();
    if prefix.is_none() && !matches!(first, 'q' | 'p' | 'z' | 'r') {
        return older(text, network);
    }
    cash(text, data, network)
}

/// Converts base58check.
fn older(text: &str, network: &str) -> Result<String, AddressError> {
    let (version, hash) = base58::decode_checked(text, network, 1)?;
    let kind = OLDER_VERSIONS.iter().find(|(older, _)| version == [*older]).map(|(_, kind)| *kind);
    kind.map(|kind| encode(kind, &hash)).ok_or_else(|| AddressError::WrongVersion {
        address: text.to_owned(),
        network: network.to_owned(),
        version: base58::hex(&version),
        expected: "0x00 or 0x05 (an address that begins with 1 or 3)",
    })
}

fn cash(text: &str, data: &str, network: &str) -> Result<String, AddressError> {
    let address = || text.to_owned();
    if data.bytes().any(|b| b.is_ascii_uppercase()) && data.bytes().any(|b| b.is_ascii_lowercase()) {
        return Err(AddressError::MixedCase { address: address() });
    }
    let lower = data.to_ascii_lowercase();
    let in_alphabet = |c: char| u8::try_from(c).is_ok_and(|b| ALPHABET.contains(&b));
    check_characters(&lower, network, "characters of CashAddr (no 1, b, i and o)", in_alphabet)?;
    let values: Vec<u8> = lower.bytes().filter_map(value_of).collect();
    if checksum(values.iter().copied()) != 0 {
        return Err(AddressError::BadChecksum { address: address(), encoding: "CashAddr" });
    }
    let wrong_length = |found| AddressError::WrongLength {
        address: address(),
        network: network.to_owned(),
        found,
        unit: "bytes when decoded from CashAddr",
        expected: "a version and a hash of 20 or 32 bytes",
    };
    let payload = values.get(..values.len().saturating_sub(CHECKSUM_CHARACTERS)).unwrap_or_default();
    let bytes = to_bytes(payload).ok_or_else(|| AddressError::Padding { address: address() })?;
    let Some((version, hash)) = bytes.split_first() else { return Err(wrong_length(0)) };
    let kind = version >> 3;
    if kind > 3 || HASH_BYTES.get(usize::from(version & 7)) != Some(&hash.len()) || !matches!(hash.len(), 20 | 32) {
        return Err(wrong_length(bytes.len()));
    }
    // The types with tokens are the same wallets.
    Ok(encode(kind & 1, hash))
}

fn value_of(character: u8) -> Option<u8> {
    ALPHABET.iter().position(|of| *of == character).and_then(|value| u8::try_from(value).ok())
}

fn encode(kind: u8, hash: &[u8]) -> String {
    let length = HASH_BYTES.iter().position(|bytes| *bytes == hash.len()).unwrap_or_default();
    let version = kind << 3 | u8::try_from(length).unwrap_or_default();
    let mut values = to_values(&[&[version], hash].concat());
    let check = checksum(values.iter().copied().chain([0; CHECKSUM_CHARACTERS]));
    values.extend((0..CHECKSUM_CHARACTERS).map(|i| u8::try_from(check >> (5 * (7 - i)) & 31).unwrap_or_default()));
    let characters = values.iter().map(|value| char::from(ALPHABET[usize::from(value & 31)]));
    format!("{PREFIX}:").chars().chain(characters).collect()
}

/// Regroups bytes into 5 bits each, padded with zeros.
fn to_values(bytes: &[u8]) -> Vec<u8> {
    let (mut values, mut buffer, mut bits) = (Vec::new(), 0_u16, 0);
    for byte in bytes {
        buffer = (buffer << 8 | u16::from(*byte)) & 0x0fff;
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            values.push(u8::try_from(buffer >> bits & 31).unwrap_or_default());
        }
    }
    if bits > 0 {
        values.push(u8::try_from(buffer << (5 - bits) & 31).unwrap_or_default());
    }
    values
}

/// Regroups 5 bits each into bytes; `None` if the padding has more than 4 bits or is not zero.
fn to_bytes(values: &[u8]) -> Option<Vec<u8>> {
    let (mut bytes, mut buffer, mut bits) = (Vec::new(), 0_u16, 0);
    for value in values {
        buffer = (buffer << 5 | u16::from(*value)) & 0x0fff;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(buffer >> bits & 0xff).ok()?);
        }
    }
    (bits < 5 && buffer & ((1 << bits) - 1) == 0).then_some(bytes)
}

/// The remainder of prefix and data; zero if the data end in their checksum.
fn checksum(values: impl Iterator<Item = u8>) -> u64 {
    let prefix = PREFIX.bytes().map(|b| b & 31).chain([0]);
    let remainder = prefix.chain(values).fold(1_u64, |remainder, value| {
        let top = remainder >> 35;
        let shifted = (remainder & 0x07_ffff_ffff) << 5 ^ u64::from(value);
        let set = GENERATORS.iter().enumerate().filter(|(bit, _)| top >> bit & 1 == 1);
        set.fold(shifted, |shifted, (_, generator)| shifted ^ generator)
    });
    remainder ^ 1
}
