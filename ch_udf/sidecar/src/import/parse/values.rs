//! Parses text into column values: one function per kind of column, each with an error that names
//! column and value. Knows no table's layout.

use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;

use arx_core::address::{Address, Currency, Network, NetworkFamily};
use arx_core::amount::{Amount, AmountError, COIN_SCALE};
use arx_pgwire::PgWireError;
use arx_pgwire::copy::TupleBuffer;
use arx_pgwire::numeric::Uint256;
use chrono::{DateTime, NaiveDateTime};

use super::fields::Column;
use super::number::{self, NumberFault};
use crate::import::error::LineError;

/// 2009-01-01: Bitcoin's first block is of 2009-01-03, and no chain is older.
const EARLIEST_UNIX_SECONDS: i64 = 1_230_768_000;

/// Miners' clocks may run ahead; more than a day is an error of the file.
const LATEST_AHEAD_SECONDS: i64 = 86_400;

/// Numbers of up to as many digits may be amounts of coins, whatever the coin's decimals.
const FEWEST_DIGITS: usize = 6;

/// Words that data frames and databases write for a value that is not there.
const NULLS: [&str; 9] = ["nan", "none", "null", "na", "n/a", "<na>", "nat", "nil", "\\n"];

/// A hash is part of a primary key, whose index entry must stay far below 2,700 bytes.
const MAX_HASH_BYTES: usize = 200;

/// Outcome of parsing one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// A row was encoded.
    Row {
        /// Time, if the line has one.
        unix_seconds: Option<i64>,
    },
    /// Rows were encoded: the legs of one transaction.
    Rows {
        unix_seconds: Option<i64>,
        /// Their number.
        count: u32,
    },
    /// The line moves nothing, such as a call without value.
    Nothing,
    /// The line is of another kind, in a mixed stream.
    Skipped(OtherKind),
}

/// Kinds of lines in a mixed stream that another import takes, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OtherKind(pub(crate) &'static str);

/// Parses lines of one format into rows of one table.
pub(crate) trait RowParser: Send {
    /// Appends the row of line `number` to `out`; after an error `out` is unchanged.
    fn parse(&mut self, number: u64, line: &str, out: &mut TupleBuffer) -> Result<Parsed, LineError>;

    /// Returns the transaction that a line names, unchecked; `None` where lines stand alone.
    fn transaction<'a>(&'a mut self, _line: &'a str) -> Option<Cow<'a, str>> {
        None
    }

    /// Returns true if a parsed row has no status.
    fn lacks_status(&self) -> bool {
        false
    }

    /// Returns true if amounts of the native coin are read as smallest units.
    fn takes_base_units(&self) -> bool {
        false
    }

    /// Names of columns that are not read.
    fn unused_columns(&self) -> &[String] {
        &[]
    }

    /// Columns that are read, if they have several names.
    fn columns(&self) -> &[Column] {
        &[]
    }

    /// A fact about the line parsed last that the report counts, and its count.
    fn note(&self) -> Option<(&'static str, u64)> {
        None
    }
}

/// The unit of a file's amounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Unit {
    /// The coin's smallest unit, such as wei or satoshi
    #[default]
    Base,
    /// Whole coins, such as ether
    Coin,
    /// 10⁹ smallest units, such as gwei
    #[value(skip)]
    Giga,
}

/// Decimals of [`Unit::Giga`].
const GIGA_DECIMALS: u32 = 9;

/// Networks whose transactions have several inputs and outputs, and no status: one that is in a
/// block has succeeded.
const UTXO_NETWORKS: [&str; 7] = ["bitcoin-cash", "bitcoin-sv", "dogecoin", "zcash", "dash", "cardano", "monero"];

/// Network of a file and upper bound of its times.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    network: Network,
    decimals: u32,
    latest: i64,
    unit: Option<Unit>,
    /// Symbol of the coin, if it is known.
    coin: Option<String>,
}

impl Context {
    /// `decimals` are those of the network's coin.
    pub(crate) fn new(network: Network, decimals: u32, now_unix_seconds: i64) -> Self {
        let latest = now_unix_seconds.saturating_add(LATEST_AHEAD_SECONDS);
        Self { network, decimals, latest, unit: None, coin: None }
    }

    /// States the unit of amounts of the native coin.
    pub(crate) fn with_unit(self, unit: Option<Unit>) -> Self {
        Self { unit, ..self }
    }

    /// Sets the symbol of the native coin.
    pub(crate) fn with_coin(self, symbol: String) -> Self {
        Self { coin: Some(symbol), ..self }
    }

    pub(crate) fn registered(&self) -> &Network {
        &self.network
    }

    /// The coin's smallest unit, in units of 10⁻¹⁸.
    pub(crate) fn smallest_unit(&self) -> u128 {
        10_u128.pow(COIN_SCALE.saturating_sub(self.decimals))
    }

    /// The unit of amounts of the native coin: the smallest, unless another is stated.
    pub(crate) fn unit(&self) -> Unit {
        self.unit.unwrap_or_default()
    }

    /// The unit that the user has stated.
    pub(crate) fn stated_unit(&self) -> Option<Unit> {
        self.unit
    }

    /// Returns true for a symbol or name of the native coin.
    pub(crate) fn is_coin(&self, symbol: &str) -> bool {
        let is_network = |name: &str| name == self.network.name();
        let Some(coin) = &self.coin else {
            return !matches!(Currency::parse(symbol), Some(Currency::Native(network)) if !is_network(network));
        };
        coin.eq_ignore_ascii_case(symbol)
            || matches!(Currency::parse(symbol), Some(Currency::Native(network)) if is_network(network))
            || Network::parse(symbol).is_ok_and(|network| is_network(network.name()))
            || coin == "ETH" && ["ether", "ethers"].contains(&symbol.to_lowercase().as_str())
    }

    /// Returns the unit of the native coin that a word names, such as `ETH`, `wei` or `Gwei`.
    pub(crate) fn named_unit(&self, word: &str) -> Option<Unit> {
        let lower = word.trim().to_lowercase();
        match (lower.as_str(), self.network.family()) {
            ("wei", NetworkFamily::Evm | NetworkFamily::Opaque)
            | ("lamport" | "lamports", NetworkFamily::Solana)
            | ("sun", NetworkFamily::Tron)
            | ("drop" | "drops", NetworkFamily::Ripple)
            | ("base" | "base unit" | "base units" | "smallest unit" | "smallest units", _) => Some(Unit::Base),
            ("sat" | "sats" | "satoshi" | "satoshis", _) if self.is_utxo() => Some(Unit::Base),
            ("gwei" | "shannon", NetworkFamily::Evm | NetworkFamily::Opaque) => Some(Unit::Giga),
            ("coin" | "coins" | "native", _) => Some(Unit::Coin),
            (symbol, _) => self.is_coin(symbol).then_some(Unit::Coin),
        }
    }

    /// Returns the unit that the text of a column names.
    pub(crate) fn unit_of(&self, column: &'static str, text: Option<&str>) -> Result<Option<Unit>, LineError> {
        let Some(text) = text else { return Ok(None) };
        let unknown = || LineError::UnitName { column, text: shorten(text), network: self.network().to_owned() };
        self.named_unit(text).map(Some).ok_or_else(unknown)
    }

    /// Divides an amount such as `0.5 ETH` into its number and its unit.
    pub(crate) fn own_unit<'a>(
        &self,
        column: &'static str,
        text: &'a str,
    ) -> Result<(&'a str, Option<Unit>), LineError> {
        match text.rsplit_once(' ') {
            Some((number, word)) if word.starts_with(char::is_alphabetic) => {
                Ok((number.trim_end(), self.unit_of(column, Some(word))?))
            }
            _ => Ok((text, None)),
        }
    }

    /// Checks that a line is of the network: by a name, by a chain id, or both.
    pub(crate) fn check_network(&self, name: Option<&str>, chain_id: Option<&str>) -> Result<(), LineError> {
        let by_name = name.map(|text| ("network", text));
        for (column, text) in by_name.into_iter().chain(chain_id.map(|text| ("chain_id", text))) {
            if !self.is_network(text) {
                return Err(LineError::OtherNetwork {
                    column,
                    text: shorten(text),
                    network: self.network().to_owned(),
                });
            }
        }
        Ok(())
    }

    /// Returns true if a name or chain id may be that of the network.
    fn is_network(&self, text: &str) -> bool {
        if let Ok(id) = number::whole(text) {
            let named = Network::parse(&format!("eip155:{id}"));
            // The chain id of a network that ARX does not list may be any that it does not list.
            return named.is_ok_and(|named| {
                named.name() == self.network()
                    || !named.is_listed() && !self.network.is_listed() && !self.network().starts_with("eip155:")
            });
        }
        text.trim().eq_ignore_ascii_case("mainnet")
            || Network::parse_written(text).is_ok_and(|named| named.name() == self.network())
    }

    /// Returns true if transactions of the network have inputs and outputs.
    pub(crate) fn is_utxo(&self) -> bool {
        matches!(self.network.family(), NetworkFamily::Bitcoin | NetworkFamily::Litecoin)
            || UTXO_NETWORKS.contains(&self.network.name())
    }

    pub(crate) fn network(&self) -> &str {
        self.network.name()
    }

    /// Parses a required address into its normal form.
    pub(crate) fn address(&self, column: &'static str, text: Option<&str>) -> Result<Address, LineError> {
        parse_address(column, required(column, text)?, &self.network)
    }

    /// Parses an optional address into its normal form.
    pub(crate) fn optional_address(
        &self,
        column: &'static str,
        text: Option<&str>,
    ) -> Result<Option<Address>, LineError> {
        text.map(|text| parse_address(column, text, &self.network)).transpose()
    }

    /// Returns a hash of digits in the case in which its network writes it; where letters of
    /// both cases are digits, as on Solana, it is unchanged.
    fn hash_in_one_case<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let is_hex = text.bytes().all(|b| b.is_ascii_hexdigit());
        let is_folded = is_hex && (self.is_utxo() || text.len() == 64);
        match self.network.family() {
            NetworkFamily::Ripple if is_folded => Cow::Owned(text.to_ascii_uppercase()),
            NetworkFamily::Ripple | NetworkFamily::Solana => Cow::Borrowed(text),
            _ if is_folded && text.bytes().any(|b| b.is_ascii_uppercase()) => Cow::Owned(text.to_ascii_lowercase()),
            _ => Cow::Borrowed(text),
        }
    }

    /// Checks a transaction hash: on EVM networks `0x` and 64 hexadecimal digits, lower-cased;
    /// elsewhere any text, of which hexadecimal digits have one case.
    pub(crate) fn hash<'a>(&self, column: &'static str, text: Option<&'a str>) -> Result<Cow<'a, str>, LineError> {
        let text = required(column, text)?;
        let bad = || LineError::Hash { column, text: shorten(text), network: self.network().to_owned() };
        if self.network.family() != NetworkFamily::Evm {
            let plain = text.len() <= MAX_HASH_BYTES && text.bytes().all(|b| b.is_ascii_graphic());
            return if plain { Ok(self.hash_in_one_case(text)) } else { Err(bad()) };
        }
        // Name of a transaction from a source without hashes (the two-file form).
        if text
            .strip_prefix("tx:")
            .is_some_and(|id| !id.is_empty() && id.len() <= 20 && id.bytes().all(|b| b.is_ascii_digit()))
        {
            return Ok(Cow::Borrowed(text));
        }
        let digits = text.strip_prefix("0x").ok_or_else(bad)?;
        // The common case, without a branch for each digit.
        let lower_hex = |b: u8| b.is_ascii_digit() | matches!(b, b'a'..=b'f');
        if digits.len() == 64 && digits.bytes().fold(true, |all, b| all & lower_hex(b)) {
            return Ok(Cow::Borrowed(text));
        }
        if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad());
        }
        if digits.bytes().any(|b| b.is_ascii_uppercase()) {
            return Ok(Cow::Owned(text.to_ascii_lowercase()));
        }
        Ok(Cow::Borrowed(text))
    }

    /// Parses a required amount of the native coin, given in the file's unit, into units of 10⁻¹⁸.
    pub(crate) fn amount(&self, column: &'static str, text: Option<&str>) -> Result<u128, LineError> {
        self.amount_in(self.unit(), column, text)
    }

    /// Parses an optional gas price, given in `unit`, into smallest units.
    pub(crate) fn optional_price(
        &self,
        unit: Option<Unit>,
        column: &'static str,
        text: Option<&str>,
    ) -> Result<Option<i64>, LineError> {
        let Some(text) = text else { return Ok(None) };
        let (text, own) = self.own_unit(column, text)?;
        let decimals = match own.or(unit).unwrap_or_default() {
            Unit::Base => return optional_bigint(column, Some(text)),
            Unit::Giga => GIGA_DECIMALS,
            Unit::Coin => self.decimals,
        };
        let digits = number::scaled(text, decimals).map_err(|fault| match fault {
            NumberFault::Fraction => LineError::NotAnInteger { column, text: shorten(text) },
            _ => LineError::of_number(fault, column, text),
        })?;
        optional_bigint(column, Some(&digits))
    }

    /// Parses a required amount of the native coin in the stated unit, or else in `default`. Where
    /// nothing states that amounts are smallest units, one with a decimal point must be so large
    /// that it is no amount of coins.
    pub(crate) fn amount_or(
        &self,
        stated: Option<Unit>,
        default: Unit,
        column: &'static str,
        text: Option<&str>,
    ) -> Result<u128, LineError> {
        let is_assumed = stated.is_none() && self.unit.is_none() && default == Unit::Base;
        match text.filter(|text| is_assumed && memchr::memchr2(b'.', b'e', text.as_bytes()).is_some()) {
            Some(text) if number::whole(text).is_ok_and(|digits| self.may_be_coins(&digits)) => {
                Err(LineError::CoinsOrUnits { column, text: shorten(text) })
            }
            _ => self.amount_in(stated.unwrap_or(default), column, text),
        }
    }

    /// Returns true for so few smallest units that the same number of coins is likelier.
    fn may_be_coins(&self, digits: &str) -> bool {
        let zeros = usize::try_from(self.decimals * 2 / 3).unwrap_or_default();
        self.decimals > 0 && digits != "0" && digits.len() <= zeros.max(FEWEST_DIGITS)
    }

    /// Parses a required amount of the native coin, given in `unit` unless it states its own, into
    /// units of 10⁻¹⁸.
    pub(crate) fn amount_in(&self, unit: Unit, column: &'static str, text: Option<&str>) -> Result<u128, LineError> {
        let (text, own) = self.own_unit(column, required(column, text)?)?;
        let unit = own.unwrap_or(unit);
        let digits = match unit {
            Unit::Base => number::whole(text),
            Unit::Coin => number::scaled(text, self.decimals),
            Unit::Giga => number::scaled(text, GIGA_DECIMALS),
        };
        let digits = digits.map_err(|fault| match (fault, unit) {
            (NumberFault::Fraction, Unit::Coin | Unit::Giga) => LineError::Amount {
                column,
                source: AmountError::OutOfRange { text: shorten(text), decimals: self.decimals },
            },
            (NumberFault::NotANumber, _) => {
                LineError::Amount { column, source: AmountError::NotANumber { text: shorten(text) } }
            }
            _ => LineError::of_number(fault, column, text),
        })?;
        Amount::from_smallest_units(&digits, self.decimals)
            .map(|amount| amount.units().unsigned_abs())
            .map_err(|source| LineError::Amount { column, source })
    }

    /// Parses the time of a line: a column of times, and one that states that it is in UTC. If both
    /// are times, they must agree.
    pub(crate) fn stated_time(&self, time: Option<&str>, date_time: Option<&str>) -> Result<i64, LineError> {
        let utc = |text: &str| {
            let zoned = if text.len() == "2023-05-02 12:19:59".len() { format!("{text} UTC") } else { text.to_owned() };
            self.time("datetime_utc", Some(&zoned))
        };
        match (time, date_time) {
            (None, Some(text)) => utc(text),
            (Some(one), Some(other)) => match (self.time("block_timestamp", time)?, utc(other)) {
                (seconds, Ok(others)) if others != seconds => {
                    Err(LineError::two_values("block_timestamp, datetime_utc", one, other))
                }
                (seconds, _) => Ok(seconds),
            },
            (time, None) => self.time("block_timestamp", time),
        }
    }

    /// Parses a required time into unix seconds.
    pub(crate) fn time(&self, column: &'static str, text: Option<&str>) -> Result<i64, LineError> {
        let text = required(column, text)?;
        let seconds = match number::whole(text).ok().and_then(|digits| digits.parse().ok()) {
            Some(number) => in_seconds(number),
            None => parse_utc(text).ok_or_else(|| LineError::Time { column, text: shorten(text) })?,
        };
        if !(EARLIEST_UNIX_SECONDS..=self.latest).contains(&seconds) {
            let limits = "from 2009-01-01 up to now";
            return Err(LineError::OutOfRange { column, text: shorten(text), limits });
        }
        Ok(seconds)
    }
}

/// Returns the seconds of a time in seconds, or in milli-, micro- or nanoseconds, which are numbers
/// beyond the year 5000 as seconds.
fn in_seconds(number: i64) -> i64 {
    match number {
        100_000_000_000..100_000_000_000_000 => number / 1000,
        100_000_000_000_000..100_000_000_000_000_000 => number / 1_000_000,
        100_000_000_000_000_000.. => number / 1_000_000_000,
        _ => number,
    }
}

/// Removes what stands for no value from the columns at `indexes`.
pub(crate) fn without_nulls<'a, const N: usize>(
    mut texts: [Option<&'a str>; N],
    indexes: &[usize],
) -> [Option<&'a str>; N] {
    let is_null = |text: &&str| text.len() <= 4 && NULLS.iter().any(|null| null.eq_ignore_ascii_case(text));
    for index in indexes {
        if let Some(slot) = texts.get_mut(*index) {
            *slot = slot.filter(|text| !is_null(text));
        }
    }
    texts
}

/// Parses an address of a network.
pub(crate) fn parse_address(column: &'static str, text: &str, network: &Network) -> Result<Address, LineError> {
    let address = Address::parse(text, network).map_err(|e| LineError::Address { column, message: e.to_string() })?;
    plain_text(column, address.as_str())?;
    Ok(address)
}

/// Returns a value that must be present.
pub(crate) fn required<'a>(column: &'static str, text: Option<&'a str>) -> Result<&'a str, LineError> {
    text.ok_or(LineError::Empty { column })
}

/// Parses a whole number from zero up to the maximum of `T`.
pub(crate) fn whole<T>(column: &'static str, text: &str, limits: &'static str) -> Result<T, LineError>
where
    T: FromStr + Default + PartialOrd + Display,
{
    let digits = number::whole(text).map_err(|fault| match fault {
        NumberFault::Fraction => LineError::NotAnInteger { column, text: shorten(text) },
        _ => LineError::of_number(fault, column, text),
    })?;
    match digits.parse::<T>() {
        Ok(number) if number >= T::default() => Ok(number),
        _ => Err(LineError::OutOfRange { column, text: shorten(text), limits }),
    }
}

/// Range of a non-negative `bigint`.
pub(crate) const BIGINT_LIMITS: &str = "0 to 9223372036854775807";

/// Range of a non-negative `integer`.
pub(crate) const INTEGER_LIMITS: &str = "0 to 2147483647";

/// Parses a required non-negative `bigint`.
pub(crate) fn bigint(column: &'static str, text: Option<&str>) -> Result<i64, LineError> {
    whole(column, required(column, text)?, BIGINT_LIMITS)
}

/// Parses an optional non-negative `bigint`.
pub(crate) fn optional_bigint(column: &'static str, text: Option<&str>) -> Result<Option<i64>, LineError> {
    text.map(|text| whole(column, text, BIGINT_LIMITS)).transpose()
}

/// Returns the digits of a required amount of a token, in raw units.
pub(crate) fn raw_units<'a>(column: &'static str, text: Option<&'a str>) -> Result<Cow<'a, str>, LineError> {
    let text = required(column, text)?;
    number::whole(text).map_err(|fault| LineError::of_number(fault, column, text))
}

/// Parses digits into a number below 2²⁵⁶.
pub(crate) fn uint256<'a>(column: &'static str, digits: &'a str) -> Result<Uint256<'a>, LineError> {
    Uint256::parse(digits).map_err(|error| match error {
        PgWireError::NotAnInteger => LineError::NotAnInteger { column, text: shorten(digits) },
        _ => LineError::OutOfRange { column, text: shorten(digits), limits: "0 to 2^256 - 1" },
    })
}

/// Parses a flag, `0` or `1`; an absent one is false.
pub(crate) fn flag(column: &'static str, text: Option<&str>) -> Result<bool, LineError> {
    match text {
        None | Some("0" | "0.0" | "0x0" | "false" | "False" | "FALSE") => Ok(false),
        Some("1" | "1.0" | "0x1" | "true" | "True" | "TRUE") => Ok(true),
        Some(other) => Err(LineError::NotOneOf { column, text: shorten(other), allowed: "0, 1" }),
    }
}

/// Returns true for a flag or word of failure, false for one of success.
pub(crate) fn has_failed(column: &'static str, text: &str) -> Result<bool, LineError> {
    let lower = text.trim().to_ascii_lowercase();
    match lower.as_str() {
        "0" | "0.0" | "0x0" | "false" | "f" | "no" | "n" | "ok" | "success" | "successful" | "succeeded"
        | "confirmed" | "none" => Ok(false),
        "1" | "1.0" | "0x1" | "true" | "t" | "yes" | "y" => Ok(true),
        _ if ["error", "fail", "revert"].iter().any(|word| lower.starts_with(word)) => Ok(true),
        _ => Err(LineError::NotOneOf { column, text: shorten(text), allowed: "0, 1" }),
    }
}

/// Returns true if the code or text of an error says that there was one.
pub(crate) fn is_error(text: &str) -> bool {
    !["0", "0x0", "none", "null", "nan", "false", "ok", "success", "no error"]
        .contains(&text.trim().to_ascii_lowercase().as_str())
}

/// Rejects NUL, which PostgreSQL's `text` cannot hold.
pub(crate) fn plain_text<'a>(column: &'static str, text: &'a str) -> Result<&'a str, LineError> {
    if memchr::memchr(0, text.as_bytes()).is_some() { Err(LineError::NulCharacter { column }) } else { Ok(text) }
}

/// Shortens a value for a message to 120 characters.
pub(crate) fn shorten(text: &str) -> String {
    if text.chars().count() <= 120 {
        return text.to_owned();
    }
    text.chars().take(117).chain("...".chars()).collect()
}

/// Parses `YYYY-MM-DD HH:MM:SS UTC` and similar formats; a time without a zone is ambiguous and
/// refused.
fn parse_utc(text: &str) -> Option<i64> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp());
    }
    let local =
        text.strip_suffix(" UTC").or_else(|| text.strip_suffix("+00:00")).or_else(|| text.strip_suffix("+00"))?;
    NaiveDateTime::parse_from_str(local, "%Y-%m-%d %H:%M:%S%.f").ok().map(|time| time.and_utc().timestamp())
}

#[cfg(test)]
pub(crate) mod fixtures {
    use super::*;

    /// Ethereum at the end of 2026.
    pub(crate) fn ethereum() -> Context {
        Context::new(Network::parse("ethereum").unwrap(), 18, 1_798_000_000).with_coin("ETH".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::fixtures::ethereum;
    use super::*;

    #[test]
    fn times_are_unix_seconds_or_have_a_zone() {
        let context = ethereum();
        for text in ["1683029999", "2023-05-02 12:19:59 UTC", "2023-05-02T12:19:59Z", "2023-05-02 12:19:59+00:00"] {
            assert_eq!(context.time("block_timestamp", Some(text)), Ok(1_683_029_999), "{text}");
        }
        let error = context.time("block_timestamp", Some("2023-05-02 12:19:59")).unwrap_err();
        assert!(error.to_string().contains("\"2023-05-02 12:19:59\" is neither"), "{error}");
        for text in ["1683029999000", "1683029999999999", "1683029999000000000", "1683029999.0"] {
            assert_eq!(context.time("block_timestamp", Some(text)), Ok(1_683_029_999), "{text}");
        }
        for text in ["0", "-1", "168302", "99999999999", "1798086401", "1798086401000", "9007199254740993000"] {
            let error = context.time("block_timestamp", Some(text)).unwrap_err();
            assert!(matches!(error, LineError::OutOfRange { .. }), "{text}: {error}");
        }
    }

    #[test]
    fn hashes_are_checked_on_evm_networks_only() {
        let context = ethereum();
        let upper = format!("0x{}", "AB".repeat(32));
        assert_eq!(context.hash("hash", Some(&upper)).unwrap(), upper.to_lowercase());
        assert_eq!(context.hash("hash", Some("tx:17")).unwrap(), "tx:17");
        for bad in ["0x12", "ab", "tx:", "tx:1a", "tx"] {
            assert!(matches!(context.hash("hash", Some(bad)), Err(LineError::Hash { .. })), "{bad}");
        }
        let bitcoin = Context::new(Network::parse("bitcoin").unwrap(), 8, 0);
        assert_eq!(bitcoin.hash("hash", Some("abc")).unwrap(), "abc");
        assert!(bitcoin.hash("hash", Some("a\0b")).is_err());
        assert!(bitcoin.hash("hash", None).is_err());
    }

    #[test]
    fn hexadecimal_hashes_have_one_case_and_others_keep_theirs() {
        let hash = |network: &str, text: &str| {
            let context = Context::new(Network::parse(network).unwrap(), 8, 0);
            context.hash("hash", Some(text)).unwrap().into_owned()
        };
        let upper = "AB".repeat(32);
        for network in ["bitcoin", "dogecoin", "tron", "zcash"] {
            assert_eq!(hash(network, &upper), upper.to_lowercase(), "{network}");
        }
        assert_eq!(hash("ripple", &upper.to_lowercase()), upper);
        assert_eq!(hash("solana", &upper), upper);
        assert_eq!(hash("bitcoin", "AbZ"), "AbZ");
    }

    #[test]
    fn units_are_those_of_the_network() {
        let context = |network: &str, coin: &str| {
            Context::new(Network::parse(network).unwrap(), 18, 0).with_coin(coin.to_owned())
        };
        let (ethereum, bsc, base) = (ethereum(), context("bsc", "BNB"), context("base", "ETH"));
        for (word, unit) in [
            ("ETH", Some(Unit::Coin)),
            ("ether", Some(Unit::Coin)),
            ("Wei", Some(Unit::Base)),
            ("gwei", Some(Unit::Giga)),
            ("BNB", None),
            ("USDT", None),
            ("satoshi", None),
            ("x", None),
        ] {
            assert_eq!(ethereum.named_unit(word), unit, "{word}");
        }
        assert_eq!([bsc.named_unit("bnb"), bsc.named_unit("eth")], [Some(Unit::Coin), None]);
        assert_eq!(base.named_unit("ETH"), Some(Unit::Coin));
        let bitcoin = context("bitcoin", "BTC");
        assert_eq!([bitcoin.named_unit("sats"), bitcoin.named_unit("XBT")], [Some(Unit::Base), Some(Unit::Coin)]);
        assert_eq!(ethereum.amount_in(Unit::Base, "value", Some("0.5 ETH")), Ok(500_000_000_000_000_000));
        assert_eq!(ethereum.amount_in(Unit::Coin, "value", Some("7 wei")), Ok(7));
        assert_eq!(ethereum.optional_price(Some(Unit::Giga), "gas_price", Some("30.5")), Ok(Some(30_500_000_000)));
        assert!(matches!(ethereum.amount_in(Unit::Base, "value", Some("5 BNB")), Err(LineError::UnitName { .. })));
    }

    #[test]
    fn a_small_amount_with_a_point_may_be_coins() {
        let bitcoin = Context::new(Network::parse("bitcoin").unwrap(), 8, 0);
        let assumed = |context: &Context, text| context.amount_or(None, Unit::Base, "value", Some(text));
        for (context, text) in [(&ethereum(), "3.0"), (&ethereum(), "40.000"), (&ethereum(), "2e3"), (&bitcoin, "7.0")]
        {
            let error = assumed(context, text).unwrap_err();
            assert!(error.questions_all_amounts().is_some() && error.to_string().contains("--unit base"), "{error}");
            assert!(context.amount_or(Some(Unit::Base), Unit::Base, "value", Some(text)).is_ok());
        }
        for (text, units) in [("0.0", 0), ("3", 3), ("2500000000000000000.0", 2_500_000_000_000_000_000)] {
            assert_eq!(assumed(&ethereum(), text), Ok(units), "{text}");
        }
        assert_eq!(assumed(&bitcoin, "150000000.0"), Ok(1_500_000_000_000_000_000));
        let stated = ethereum().with_unit(Some(Unit::Base));
        assert_eq!(assumed(&stated, "3.0"), Ok(3));
    }

    #[test]
    fn words_for_a_missing_value_are_left_out() {
        let texts = [Some("NaN"), Some("<NA>"), Some("\\N"), Some("none"), Some("0"), Some("null"), None];
        assert_eq!(without_nulls(texts, &[0, 1, 2, 3, 4, 6]), [None, None, None, None, Some("0"), Some("null"), None]);
    }

    #[test]
    fn lines_of_other_networks_are_named() {
        let context = |network: &str| Context::new(Network::parse(network).unwrap(), 18, 0);
        let fits = |network: &str, text: &str| context(network).check_network(None, Some(text)).is_ok();
        for (network, text, expected) in [
            ("ethereum", "1", true),
            ("ethereum", "0x1", true),
            ("ethereum", "Ethereum Mainnet", true),
            ("ethereum", "eip155:1", true),
            ("ethereum", "mainnet", true),
            ("ethereum", "56", false),
            ("ethereum", "0x38", false),
            ("ethereum", "bsc", false),
            ("ethereum", "anything", false),
            ("bsc", "BNB Smart Chain", true),
            ("my-rollup", "424242", true),
            ("my-rollup", "1", false),
            ("eip155:424242", "424242", true),
            ("eip155:424242", "424243", false),
        ] {
            assert_eq!(fits(network, text), expected, "{text} on {network}");
        }
    }

    #[test]
    fn words_of_failure_are_not_success() {
        for (text, failed) in [("1", true), ("failed", true), ("Error", true), ("0", false), ("ok", false)] {
            assert_eq!(has_failed("is_error", text), Ok(failed), "{text}");
        }
        assert!(has_failed("is_error", "perhaps").is_err());
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        let error = bigint("gas_price", Some("9223372036854775808")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "column gas_price: 9223372036854775808 is out of range (0 to 9223372036854775807)"
        );
        assert!(matches!(bigint("gas_price", Some("-1")), Err(LineError::OutOfRange { .. })));
        assert!(matches!(bigint("gas_price", Some("1.5")), Err(LineError::NotAnInteger { .. })));
        assert!(matches!(ethereum().amount("value", Some("-5")), Err(LineError::Amount { .. })));
        let error = ethereum().amount("value", Some(&"9".repeat(39))).unwrap_err().to_string();
        assert!(error.contains(&"9".repeat(39)) && error.contains("out of range"), "{error}");
    }
}
