//! What can be wrong with a network's name or an address, with the values that an operator needs to mend it.

use thiserror::Error;

/// How much of a bad address or name an error repeats, in characters.
const EXCERPT_CHARACTERS: usize = 128;

/// `text`, cut where it is too long for a message.
pub(super) fn excerpt(text: &str) -> String {
    match text.char_indices().nth(EXCERPT_CHARACTERS) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// What is wrong with a network's name or with an address. Addresses and names are cut after 128 characters.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AddressError {
    /// The name of the network is empty.
    #[error("network name is empty; expected a name such as ethereum, bitcoin or eip155:1")]
    EmptyNetwork,
    /// The name of the network is longer than any.
    #[error("network name {network:?} has {bytes} bytes; expected at most {limit}")]
    NetworkTooLong {
        /// The name, cut.
        network: String,
        /// Its length.
        bytes: usize,
        /// The longest allowed.
        limit: usize,
    },
    /// The name of the network has a character that none has.
    #[error(
        "network name {network:?} has {character:?} at position {position}; \
         expected a letter or digit, then letters, digits or any of : . _ - (such as ethereum or eip155:1), without blanks"
    )]
    NetworkCharacter {
        /// The name, cut.
        network: String,
        /// The character.
        character: char,
        /// Its place in characters, from 1.
        position: usize,
    },
    /// `eip155:` is not followed by a chain id.
    #[error(
        "network name {network:?} is not a chain id of CAIP-2; expected eip155: and a positive decimal number without leading zeros"
    )]
    ChainId {
        /// The name.
        network: String,
    },
    /// No address at all.
    #[error("address is empty; expected an address of network {network}")]
    Empty {
        /// The network asked for.
        network: String,
    },
    /// Longer than any address.
    #[error("address {address:?} has {bytes} bytes; expected at most {limit}")]
    TooLong {
        /// The address, cut.
        address: String,
        /// Its length.
        bytes: usize,
        /// The longest allowed.
        limit: usize,
    },
    /// A blank in front or behind.
    #[error("address {address:?} begins or ends with white space; remove it")]
    SurroundingWhitespace {
        /// The address, cut.
        address: String,
    },
    /// A character outside the encoding's alphabet.
    #[error("address {address:?} has {character:?} at position {position}; network {network} allows only {expected}")]
    BadCharacter {
        /// The address, cut.
        address: String,
        /// The network asked for.
        network: String,
        /// The character.
        character: char,
        /// Its place in characters, from 1.
        position: usize,
        /// What the alphabet is.
        expected: &'static str,
    },
    /// Too short or too long for the encoding.
    #[error("address {address:?} has {found} {unit}; network {network} expects {expected}")]
    WrongLength {
        /// The address, cut.
        address: String,
        /// The network asked for.
        network: String,
        /// The length found.
        found: usize,
        /// What is counted: `hex digits`, `bytes when decoded`.
        unit: &'static str,
        /// The length expected.
        expected: &'static str,
    },
    /// Not the prefix that the network's addresses begin with.
    #[error("address {address:?} begins with {found:?}; network {network} expects {expected}")]
    WrongPrefix {
        /// The address, cut.
        address: String,
        /// The network asked for.
        network: String,
        /// The prefix found.
        found: String,
        /// The prefix expected.
        expected: &'static str,
    },
    /// Mixed case that does not fit EIP-55: a digit was mistyped, or the case was lost in part.
    #[error(
        "address {address:?} fails its EIP-55 checksum; expected {expected} if its digits are right, or all lower case"
    )]
    Eip55 {
        /// The address.
        address: String,
        /// The same digits in the right case.
        expected: String,
    },
    /// The checksum inside a base58check or bech32 text does not hold.
    #[error("address {address:?} fails its {encoding} checksum; a character is wrong, missing or moved")]
    BadChecksum {
        /// The address, cut.
        address: String,
        /// The encoding.
        encoding: &'static str,
    },
    /// A good base58check text whose version byte is not the network's.
    #[error("address {address:?} has version byte {version:#04x}; network {network} expects {expected}")]
    WrongVersion {
        /// The address, cut.
        address: String,
        /// The network asked for.
        network: String,
        /// The version byte found.
        version: u8,
        /// Those expected.
        expected: &'static str,
    },
    /// Well-formed, on another network.
    #[error(
        "address {address:?} is not of network {network}: it is well-formed on {belongs_to}; correct one of the two"
    )]
    WrongNetwork {
        /// The address, cut.
        address: String,
        /// The network asked for.
        network: String,
        /// A network where it is valid.
        belongs_to: &'static str,
    },
    /// Segwit in upper and lower case at once, which BIP 173 forbids.
    #[error("address {address:?} mixes upper and lower case; a segwit address is written in one case")]
    MixedCase {
        /// The address, cut.
        address: String,
    },
    /// Bech32 where BIP 350 demands bech32m, or the other way round.
    #[error(
        "address {address:?} has a checksum of the wrong kind; witness version {version} takes {expected} (BIP 350)"
    )]
    WrongChecksumKind {
        /// The address, cut.
        address: String,
        /// The witness version.
        version: u8,
        /// The encoding expected.
        expected: &'static str,
    },
    /// A witness version above 16, or none.
    #[error("address {address:?} has no valid witness version; expected 0 to 16, the first character after the prefix")]
    WitnessVersion {
        /// The address, cut.
        address: String,
    },
    /// A witness program of a length that BIP 141 forbids.
    #[error(
        "address {address:?} has a witness program of {bytes} bytes; \
         expected 20 or 32 in version 0 and 2 to 40 in later versions, and this is version {version}"
    )]
    WitnessLength {
        /// The address, cut.
        address: String,
        /// The witness version.
        version: u8,
        /// The length found.
        bytes: usize,
    },
    /// The bits that fill up the last group are too many or not zero.
    #[error("address {address:?} is not padded as BIP 173 demands; expected at most 4 bits, all zero")]
    Padding {
        /// The address, cut.
        address: String,
    },
}
