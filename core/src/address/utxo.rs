//! Addresses of the Bitcoin family: base58check hashes and, where a chain has them, segwit
//! programs.
//!
//! Version bytes and prefixes come from `chainparams.cpp` of each chain's reference node. Segwit is
//! BIP 173 (bech32, witness version 0) as amended by BIP 350 (bech32m from version 1 on); program
//! lengths are BIP 141. Regtest (`bcrt`) is not a public network; Litecoin's MWEB addresses
//! (`ltcmweb`) and the shielded ones of Zcash never appear in a public transaction graph: all are
//! rejected. The versions and the prefix of a network that a user adds to the family are unknown:
//! the checksums alone are verified there.

use bech32::primitives::decode::{CheckedHrpstring, SegwitHrpstring, UncheckedHrpstring};
use bech32::{Bech32, Bech32m};

use super::base58;
use super::check_characters;
use super::error::AddressError;

struct UtxoChain {
    name: &'static str,
    /// Segwit's human-readable part; empty on a chain without segwit.
    prefix: &'static str,
    public_key_hash: &'static [u8],
    script_hash: &'static [u8],
    /// A former version of script hashes, abandoned because another chain uses it; normalised to
    /// `script_hash`.
    former_script_hash: Option<&'static [u8]>,
    versions: &'static str,
    expected_prefix: &'static str,
}

const CHAINS: [UtxoChain; 10] = [
    UtxoChain {
        name: "bitcoin",
        prefix: "bc",
        public_key_hash: &[0x00],
        script_hash: &[0x05],
        former_script_hash: None,
        versions: "0x00 or 0x05 (an address that begins with 1 or 3)",
        expected_prefix: "bc1, 1 or 3",
    },
    UtxoChain {
        name: "bitcoin-testnet",
        prefix: "tb",
        public_key_hash: &[0x6f],
        script_hash: &[0xc4],
        former_script_hash: None,
        versions: "0x6f or 0xc4 (an address that begins with m, n or 2)",
        expected_prefix: "tb1, m, n or 2",
    },
    UtxoChain {
        name: "litecoin",
        prefix: "ltc",
        public_key_hash: &[0x30],
        script_hash: &[0x32],
        former_script_hash: Some(&[0x05]),
        versions: "0x30, 0x32 or 0x05 (an address that begins with L, M or 3)",
        expected_prefix: "ltc1, L, M or 3",
    },
    UtxoChain {
        name: "litecoin-testnet",
        prefix: "tltc",
        public_key_hash: &[0x6f],
        script_hash: &[0x3a],
        former_script_hash: Some(&[0xc4]),
        versions: "0x6f, 0x3a or 0xc4 (an address that begins with m, n, Q or 2)",
        expected_prefix: "tltc1, m, n, Q or 2",
    },
    UtxoChain {
        name: "bitcoin-sv",
        prefix: "",
        public_key_hash: &[0x00],
        script_hash: &[0x05],
        former_script_hash: None,
        versions: "0x00 or 0x05 (an address that begins with 1 or 3)",
        expected_prefix: "1 or 3",
    },
    UtxoChain {
        name: "bitcoin-gold",
        prefix: "btg",
        public_key_hash: &[0x26],
        script_hash: &[0x17],
        former_script_hash: None,
        versions: "0x26 or 0x17 (an address that begins with G or A)",
        expected_prefix: "btg1, G or A",
    },
    UtxoChain {
        name: "dogecoin",
        prefix: "",
        public_key_hash: &[0x1e],
        script_hash: &[0x16],
        former_script_hash: None,
        versions: "0x1e or 0x16 (an address that begins with D, 9 or A)",
        expected_prefix: "D, 9 or A",
    },
    UtxoChain {
        name: "dash",
        prefix: "",
        public_key_hash: &[0x4c],
        script_hash: &[0x10],
        former_script_hash: None,
        versions: "0x4c or 0x10 (an address that begins with X or 7)",
        expected_prefix: "X or 7",
    },
    UtxoChain {
        name: "zcash",
        prefix: "",
        public_key_hash: &[0x1c, 0xb8],
        script_hash: &[0x1c, 0xbd],
        former_script_hash: None,
        versions: "0x1cb8 or 0x1cbd (an address that begins with t1 or t3)",
        expected_prefix: "t1 or t3",
    },
    UtxoChain {
        name: "verge",
        prefix: "",
        public_key_hash: &[0x1e],
        script_hash: &[0x21],
        former_script_hash: None,
        versions: "0x1e or 0x21 (an address that begins with D or E)",
        expected_prefix: "D or E",
    },
];

/// Longest text that the checksum protects (BIP 173), in characters.
const MAX_SEGWIT_CHARACTERS: usize = 90;
const MAX_WITNESS_VERSION: u8 = 16;

/// Normalises an address of `network`.
pub(super) fn normalise(text: &str, network: &str) -> Result<String, AddressError> {
    let Some(chain) = CHAINS.iter().find(|chain| chain.name == network) else {
        return of_any_chain(text, network);
    };
    if !is_segwit(text, chain) {
        return base58check(text, chain);
    }
    // In mixed case the prefix may also begin a base58 address, such as LTC1…, whose checksum
    // holds.
    segwit(text, chain.prefix, chain.name, chain.expected_prefix)
        .or_else(|error| base58check(text, chain).map_err(|_| error))
}

/// Normalises an address of a chain whose versions and prefix are unknown.
fn of_any_chain(text: &str, network: &str) -> Result<String, AddressError> {
    let prefix = text.rsplit_once('1').map(|(prefix, _)| prefix.to_ascii_lowercase());
    if let Some(prefix) = prefix.filter(|_| SegwitHrpstring::new(text).is_ok()) {
        return segwit(text, &prefix, network, "the network's prefix and 1");
    }
    let is_checked = |bytes| base58::decode_checked(text, network, bytes);
    is_checked(1).or_else(|error| is_checked(2).map_err(|_| error)).map(|_| text.to_owned())
}

/// Matches texts with the chain's own prefix, and valid segwit texts of other chains, so that the
/// error names the prefix.
fn is_segwit(text: &str, chain: &UtxoChain) -> bool {
    let prefix = text.get(..chain.prefix.len());
    let own = !chain.prefix.is_empty()
        && prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(chain.prefix))
        && text.as_bytes().get(chain.prefix.len()) == Some(&b'1');
    own || (text.len() <= MAX_SEGWIT_CHARACTERS && SegwitHrpstring::new(text).is_ok())
}

fn base58check(text: &str, chain: &UtxoChain) -> Result<String, AddressError> {
    let (version, payload) = base58::decode_checked(text, chain.name, chain.public_key_hash.len())?;
    if version == chain.public_key_hash || version == chain.script_hash {
        return Ok(text.to_owned());
    }
    if chain.former_script_hash.is_some_and(|former| version == former) {
        return Ok(base58::encode_checked(chain.script_hash, &payload));
    }
    Err(AddressError::WrongVersion {
        address: text.to_owned(),
        network: chain.name.to_owned(),
        version: base58::hex(&version),
        expected: chain.versions,
    })
}

/// Normalises a segwit text with a human-readable part in lower case.
fn segwit(text: &str, prefix: &str, network: &str, expected: &'static str) -> Result<String, AddressError> {
    let address = || text.to_owned();
    if text.len() > MAX_SEGWIT_CHARACTERS {
        return Err(AddressError::TooLong { address: address(), bytes: text.len(), limit: MAX_SEGWIT_CHARACTERS });
    }
    if text.bytes().any(|b| b.is_ascii_uppercase()) && text.bytes().any(|b| b.is_ascii_lowercase()) {
        return Err(AddressError::MixedCase { address: address() });
    }
    check_characters(text, network, "letters and digits", |c| c.is_ascii_alphanumeric())?;
    let wrong_prefix = || AddressError::WrongPrefix {
        address: address(),
        network: network.to_owned(),
        found: text.rsplit_once('1').map_or_else(String::new, |(prefix, _)| format!("{prefix}1")),
        expected,
    };
    // Checked before the checksum, so that the error names the character and its position.
    let data_starts = text.rfind('1').ok_or_else(wrong_prefix)? + 1;
    let in_alphabet = |b: u8| b.is_ascii_alphanumeric() && !matches!(b.to_ascii_lowercase(), b'1' | b'b' | b'i' | b'o');
    if let Some(index) = text.bytes().skip(data_starts).position(|b| !in_alphabet(b)) {
        return Err(AddressError::BadCharacter {
            address: address(),
            network: network.to_owned(),
            character: text[data_starts + index..].chars().next().unwrap_or_default(),
            position: data_starts + index + 1,
            expected: "bech32 characters after the prefix (no 1, b, i and o)",
        });
    }
    let parsed = UncheckedHrpstring::new(text).map_err(|_| wrong_prefix())?;
    if parsed.hrp().to_lowercase() != prefix {
        return Err(wrong_prefix());
    }
    let program = checked(&parsed, text)?;
    if program.validate_segwit_padding().is_err() {
        return Err(AddressError::Padding { address: address() });
    }
    let version = witness_version(&parsed, text)?;
    let bytes = program.byte_iter().count();
    let fits = if version == 0 { bytes == 20 || bytes == 32 } else { (2..=40).contains(&bytes) };
    if !fits {
        return Err(AddressError::WitnessLength { address: address(), version, bytes });
    }
    Ok(text.to_ascii_lowercase())
}

fn witness_version(parsed: &UncheckedHrpstring<'_>, text: &str) -> Result<u8, AddressError> {
    let version = parsed.witness_version().map(|version| version.to_u8());
    version
        .filter(|&version| version <= MAX_WITNESS_VERSION)
        .ok_or_else(|| AddressError::WitnessVersion { address: text.to_owned() })
}

/// Returns the witness program if the checksum holds and is of the kind that the version requires.
fn checked<'s>(parsed: &UncheckedHrpstring<'s>, text: &'s str) -> Result<CheckedHrpstring<'s>, AddressError> {
    let address = || text.to_owned();
    let (bech32, bech32m) = (parsed.has_valid_checksum::<Bech32>(), parsed.has_valid_checksum::<Bech32m>());
    if !bech32 && !bech32m {
        return Err(AddressError::BadChecksum { address: address(), encoding: "bech32" });
    }
    let version = witness_version(parsed, text)?;
    let expected = if version == 0 { "bech32" } else { "bech32m" };
    if bech32 != (version == 0) {
        return Err(AddressError::WrongChecksumKind { address: address(), version, expected });
    }
    let bad_checksum = |_| AddressError::BadChecksum { address: address(), encoding: expected };
    let mut program = if version == 0 {
        CheckedHrpstring::new::<Bech32>(text).map_err(bad_checksum)?
    } else {
        CheckedHrpstring::new::<Bech32m>(text).map_err(bad_checksum)?
    };
    // With an empty data part, a checksum character stands at the position of the version.
    program.remove_witness_version().ok_or_else(|| AddressError::WitnessVersion { address: address() })?;
    Ok(program)
}
