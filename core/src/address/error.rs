//! Errors of network names and addresses, with the values that an operator needs to correct them.

use std::borrow::Cow;

use thiserror::Error;

/// Longest part of a bad address or name that a message repeats, in characters.
const EXCERPT_CHARACTERS: usize = 128;

fn excerpt(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(EXCERPT_CHARACTERS) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
    }
}

/// An invalid network name or address. Messages cut addresses and names after 128 characters.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AddressError {
    /// The name of the network is empty.
    #[error("network name is empty; expected a name such as ethereum, bitcoin or eip155:1")]
    EmptyNetwork,
    /// The name of the network is too long.
    #[error("network name {shown:?} has {bytes} bytes; expected at most {limit}", shown = excerpt(.network))]
    NetworkTooLong {
        /// The name.
        network: String,
        /// Length of the text.
        bytes: usize,
        /// Longest length allowed.
        limit: usize,
    },
    /// The name of the network has a character that is not allowed.
    #[error(
        "network name {shown:?} has {character:?} at position {position}; \
         expected a letter or digit, then letters, digits or any of : . _ - (such as ethereum or eip155:1), without blanks",
        shown = excerpt(.network)
    )]
    NetworkCharacter {
        /// The name.
        network: String,
        /// The character.
        character: char,
        /// Position of the character, from 1.
        position: usize,
    },
    /// `eip155:` is not followed by a chain id.
    #[error(
        "network name {shown:?} is not a chain id of CAIP-2; expected eip155: and a positive decimal number without leading zeros",
        shown = excerpt(.network)
    )]
    ChainId {
        /// The name.
        network: String,
    },
    /// A network that ARX lists has a family of its own.
    #[error("network {network} has addresses of family {listed}, not {stated}; leave the family out")]
    ListedFamily {
        /// Canonical name.
        network: String,
        /// Family that ARX lists.
        listed: &'static str,
        /// Family that was stated.
        stated: &'static str,
    },
    /// A family that does not exist or has no meaning for a network that ARX does not list.
    #[error("family {shown:?} is unknown; expected evm, bitcoin, tron, solana or opaque", shown = excerpt(.family))]
    UnknownFamily {
        /// The text.
        family: String,
    },
    /// The name of the network is the ticker symbol of a token.
    #[error("{ticker:?} is the symbol of a token, which exists on several networks; name the network itself")]
    TokenTicker {
        /// The name.
        ticker: String,
    },
    /// The address is empty.
    #[error("address is empty; expected an address of network {network}")]
    Empty {
        /// Network that the address was parsed for.
        network: String,
    },
    /// The address is too long.
    #[error("address {shown:?} has {bytes} bytes; expected at most {limit}", shown = excerpt(.address))]
    TooLong {
        /// The address.
        address: String,
        /// Length of the text.
        bytes: usize,
        /// Longest length allowed.
        limit: usize,
    },
    /// The address begins or ends with white space.
    #[error("address {shown:?} begins or ends with white space; remove it", shown = excerpt(.address))]
    SurroundingWhitespace {
        /// The address.
        address: String,
    },
    /// A character outside the encoding's alphabet.
    #[error(
        "address {shown:?} has {character:?} at position {position}; network {network} allows only {expected}",
        shown = excerpt(.address)
    )]
    BadCharacter {
        /// The address.
        address: String,
        /// Network that the address was parsed for.
        network: String,
        /// The character.
        character: char,
        /// Position of the character, from 1.
        position: usize,
        /// Characters that are allowed.
        expected: &'static str,
    },
    /// The address is too short or too long for its encoding.
    #[error("address {shown:?} has {found} {unit}; network {network} expects {expected}", shown = excerpt(.address))]
    WrongLength {
        /// The address.
        address: String,
        /// Network that the address was parsed for.
        network: String,
        /// Length of the value.
        found: usize,
        /// Unit of the length: `hex digits`, `bytes when decoded`.
        unit: &'static str,
        /// Length that is expected.
        expected: &'static str,
    },
    /// The address does not begin with a prefix of the network.
    #[error("address {shown:?} begins with {found:?}; network {network} expects {expected}", shown = excerpt(.address))]
    WrongPrefix {
        /// The address.
        address: String,
        /// Network that the address was parsed for.
        network: String,
        /// Prefix of the address.
        found: String,
        /// Prefixes that are expected.
        expected: &'static str,
    },
    /// Mixed case that does not fit EIP-55: a digit was mistyped, or the case was lost in part.
    #[error(
        "address {shown:?} fails its EIP-55 checksum; expected {expected} if its digits are right, or all lower case",
        shown = excerpt(.address)
    )]
    Eip55 {
        /// The address.
        address: String,
        /// The same digits in the right case.
        expected: String,
    },
    /// The checksum inside a base58check or bech32 text does not hold.
    #[error(
        "address {shown:?} fails its {encoding} checksum; a character is wrong, missing or moved",
        shown = excerpt(.address)
    )]
    BadChecksum {
        /// The address.
        address: String,
        /// The encoding.
        encoding: &'static str,
    },
    /// The checksum holds, but the version byte belongs to another network.
    #[error(
        "address {shown:?} has version {version}; network {network} expects {expected}",
        shown = excerpt(.address)
    )]
    WrongVersion {
        /// The address.
        address: String,
        /// Network that the address was parsed for.
        network: String,
        /// Version of the address in hex, such as `0x05`.
        version: String,
        /// Version bytes that are expected.
        expected: &'static str,
    },
    /// The address is well-formed on another network.
    #[error(
        "address {shown:?} is not of network {network}: it is well-formed on {belongs_to}; correct one of the two",
        shown = excerpt(.address)
    )]
    WrongNetwork {
        /// The address.
        address: String,
        /// Network that the address was parsed for.
        network: String,
        /// A network where it is valid.
        belongs_to: &'static str,
    },
    /// Segwit in upper and lower case at once, which BIP 173 forbids.
    #[error(
        "address {shown:?} mixes upper and lower case; a segwit address is written in one case",
        shown = excerpt(.address)
    )]
    MixedCase {
        /// The address.
        address: String,
    },
    /// Bech32 where BIP 350 demands bech32m, or the other way round.
    #[error(
        "address {shown:?} has a checksum of the wrong kind; witness version {version} takes {expected} (BIP 350)",
        shown = excerpt(.address)
    )]
    WrongChecksumKind {
        /// The address.
        address: String,
        /// The witness version.
        version: u8,
        /// Encoding that is expected.
        expected: &'static str,
    },
    /// A witness version above 16, or none.
    #[error(
        "address {shown:?} has no valid witness version; expected 0 to 16, the first character after the prefix",
        shown = excerpt(.address)
    )]
    WitnessVersion {
        /// The address.
        address: String,
    },
    /// A witness program of a length that BIP 141 forbids.
    #[error(
        "address {shown:?} has a witness program of {bytes} bytes; \
         expected 20 or 32 in version 0 and 2 to 40 in later versions, and this is version {version}",
        shown = excerpt(.address)
    )]
    WitnessLength {
        /// The address.
        address: String,
        /// The witness version.
        version: u8,
        /// Length of the value.
        bytes: usize,
    },
    /// The bits that fill up the last group are too many or not zero.
    #[error(
        "address {shown:?} is not padded as BIP 173 demands; expected at most 4 bits, all zero",
        shown = excerpt(.address)
    )]
    Padding {
        /// The address.
        address: String,
    },
}
