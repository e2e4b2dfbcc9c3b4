//! PostgreSQL's binary COPY format: one tuple at a time into a byte buffer. Owns the encodings of the columns that the importer
//! loads (text, integers, timestamps, `numeric`, `jsonb`); it knows no table and validates nothing but the range of a `uint256`.

use std::fmt;

/// What precedes the first tuple: signature, flags, length of the header's extension.
pub(crate) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// What follows the last tuple.
pub(crate) const TRAILER: &[u8] = &(-1_i16).to_be_bytes();

/// Microseconds from 1970-01-01 to 2000-01-01, PostgreSQL's epoch.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// 2²⁵⁶ − 1.
const MAX_UINT256: &[u8] = b"115792089237316195423570985008687907853269984665640564039457584007913129639935";

/// Units of 10⁻¹⁸ in one coin.
const SCALE: u128 = 1_000_000_000_000_000_000;

/// Why a text is no `uint256`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Uint256Error {
    /// Something else than digits.
    NotAnInteger,
    /// Below zero.
    Negative,
    /// Above 2²⁵⁶ − 1.
    TooLarge,
}

/// Decimal digits of a number from 0 to 2²⁵⁶ − 1, without leading zeros (zero is empty).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Uint256<'a>(&'a [u8]);

impl<'a> Uint256<'a> {
    /// From a whole decimal number.
    pub(crate) fn parse(text: &'a str) -> Result<Self, Uint256Error> {
        let bytes = text.as_bytes();
        if let Some(rest) = bytes.strip_prefix(b"-")
            && !rest.is_empty()
            && rest.iter().all(u8::is_ascii_digit)
        {
            return Err(Uint256Error::Negative);
        }
        if bytes.is_empty() || !bytes.iter().all(u8::is_ascii_digit) {
            return Err(Uint256Error::NotAnInteger);
        }
        let zeros = bytes.iter().take_while(|b| **b == b'0').count();
        let digits = &bytes[zeros..];
        let too_large = digits.len() > MAX_UINT256.len() || (digits.len() == MAX_UINT256.len() && digits > MAX_UINT256);
        if too_large { Err(Uint256Error::TooLarge) } else { Ok(Self(digits)) }
    }
}

impl fmt::Display for Uint256<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("0") } else { self.0.iter().try_for_each(|b| write!(f, "{}", *b as char)) }
    }
}

/// Encoded tuples, without [`HEADER`] and [`TRAILER`].
#[derive(Debug, Default)]
pub(crate) struct TupleBuffer {
    bytes: Vec<u8>,
}

impl TupleBuffer {
    /// An empty buffer with room for `bytes`.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes) }
    }

    /// The encoded tuples.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Bytes encoded so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Begins a tuple of `columns` columns.
    pub(crate) fn begin(&mut self, columns: i16) {
        self.bytes.extend_from_slice(&columns.to_be_bytes());
    }

    /// NULL.
    pub(crate) fn null(&mut self) {
        self.bytes.extend_from_slice(&(-1_i32).to_be_bytes());
    }

    /// A `text`, `varchar` or enum value.
    pub(crate) fn text(&mut self, value: &str) {
        self.sized(value.len());
        self.bytes.extend_from_slice(value.as_bytes());
    }

    /// A `text` value or NULL.
    pub(crate) fn optional_text(&mut self, value: Option<&str>) {
        match value {
            Some(value) => self.text(value),
            None => self.null(),
        }
    }

    /// An `integer`.
    pub(crate) fn int4(&mut self, value: i32) {
        self.sized(4);
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// A `bigint`.
    pub(crate) fn int8(&mut self, value: i64) {
        self.sized(8);
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// A `timestamptz`, from seconds since 1970.
    pub(crate) fn timestamp(&mut self, unix_seconds: i64) {
        self.int8(unix_seconds.saturating_mul(1_000_000).saturating_sub(POSTGRES_EPOCH_MICROS));
    }

    /// A `jsonb` document.
    pub(crate) fn jsonb(&mut self, document: &str) {
        self.sized(document.len().saturating_add(1));
        self.bytes.push(1);
        self.bytes.extend_from_slice(document.as_bytes());
    }

    /// A `numeric` with 18 decimals, from units of 10⁻¹⁸ (absolute: the importer knows no negative amount).
    pub(crate) fn amount(&mut self, units: u128) {
        // Groups of four digits do not divide 18 decimals: two zeros are put behind them, which makes five groups.
        let (mut whole, mut fraction) = (units / SCALE, (units % SCALE) * 100);
        let mut groups = [0_i16; 10 + 5];
        let mut at = groups.len();
        for _ in 0..5 {
            at -= 1;
            groups[at] = group(fraction);
            fraction /= 10_000;
        }
        let point = at;
        while whole > 0 {
            at -= 1;
            groups[at] = group(whole);
            whole /= 10_000;
        }
        self.numeric(&groups[at..], point - at, 18);
    }

    /// A `numeric` without decimals, from its digits.
    pub(crate) fn uint256(&mut self, value: Uint256<'_>) {
        let mut groups = [0_i16; 20];
        let count = value.0.len().div_ceil(4);
        for (slot, digits) in groups[..count].iter_mut().rev().zip(value.0.rchunks(4)) {
            *slot = digits.iter().fold(0, |sum, digit| sum * 10 + i16::from(*digit - b'0'));
        }
        self.numeric(&groups[..count], count, 0);
    }

    /// `numeric_send`'s form: base-10000 groups of which `whole` stand before the point, stripped of zeros at both ends.
    fn numeric(&mut self, groups: &[i16], whole: usize, scale: i16) {
        let leading = groups.iter().take_while(|g| **g == 0).count();
        let trailing = groups[leading..].iter().rev().take_while(|g| **g == 0).count();
        let digits = &groups[leading..groups.len() - trailing];
        let weight = if digits.is_empty() { 0 } else { small(whole) - small(leading) - 1 };
        self.sized(8 + 2 * digits.len());
        for field in [small(digits.len()), weight, 0, scale] {
            self.bytes.extend_from_slice(&field.to_be_bytes());
        }
        for digit in digits {
            self.bytes.extend_from_slice(&digit.to_be_bytes());
        }
    }

    /// The length before a value. A line is at most 64 MiB long, so its values fit.
    fn sized(&mut self, length: usize) {
        let length = i32::try_from(length).unwrap_or(i32::MAX);
        self.bytes.extend_from_slice(&length.to_be_bytes());
    }
}

/// The lowest four digits.
fn group(number: u128) -> i16 {
    i16::try_from(number % 10_000).unwrap_or_default()
}

/// A count of groups: at most 20.
fn small(count: usize) -> i16 {
    i16::try_from(count).unwrap_or(i16::MAX)
}

/// Reads tuples back: what tests check the encoder and the pipeline with.
#[cfg(test)]
pub(crate) mod decode {
    /// The columns of each tuple; `None` is NULL.
    pub(crate) fn tuples(mut bytes: &[u8]) -> Vec<Vec<Option<Vec<u8>>>> {
        let mut rows = Vec::new();
        while !bytes.is_empty() {
            let columns = i16::from_be_bytes([bytes[0], bytes[1]]);
            bytes = &bytes[2..];
            let mut row = Vec::new();
            for _ in 0..columns {
                let length = i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                bytes = &bytes[4..];
                if length < 0 {
                    row.push(None);
                } else {
                    let (value, rest) = bytes.split_at(usize::try_from(length).unwrap());
                    row.push(Some(value.to_vec()));
                    bytes = rest;
                }
            }
            rows.push(row);
        }
        rows
    }

    /// A `numeric` as PostgreSQL prints it.
    pub(crate) fn numeric(value: &[u8]) -> String {
        let words: Vec<i16> = value.chunks(2).map(|w| i16::from_be_bytes([w[0], w[1]])).collect();
        let (count, weight, sign, scale) = (words[0], words[1], words[2], words[3]);
        assert_eq!(usize::try_from(count).unwrap(), words.len() - 4);
        assert_eq!(sign, 0);
        let digits = &words[4..];
        assert!(digits.iter().all(|d| (0..10_000).contains(d)));
        assert!(digits.first() != Some(&0) && digits.last() != Some(&0), "not stripped: {digits:?}");
        let at = |i: i16| usize::try_from(i).ok().and_then(|i| digits.get(i)).copied().unwrap_or(0);
        let mut whole: String = (0..=weight).map(|i| format!("{:04}", at(i))).collect();
        whole = whole.trim_start_matches('0').to_owned();
        if whole.is_empty() {
            whole.push('0');
        }
        if scale == 0 {
            return whole;
        }
        let fraction: String = (0..scale.div_euclid(4) + 1).map(|i| format!("{:04}", at(weight + 1 + i))).collect();
        format!("{whole}.{}", &fraction[..usize::try_from(scale).unwrap()])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn amount(units: u128) -> Vec<u8> {
        let mut buffer = TupleBuffer::default();
        buffer.amount(units);
        buffer.into_bytes()[4..].to_vec()
    }

    fn uint256(text: &str) -> String {
        let mut buffer = TupleBuffer::default();
        buffer.uint256(Uint256::parse(text).unwrap());
        decode::numeric(&buffer.into_bytes()[4..])
    }

    #[test]
    fn one_and_a_half_coins_has_the_bytes_of_numeric_send() {
        // SELECT numeric_send(1.500000000000000000::numeric(38,18))
        assert_eq!(amount(1_500_000_000_000_000_000), [0, 2, 0, 0, 0, 0, 0, 18, 0, 1, 0x13, 0x88]);
        // SELECT numeric_send(0.000000000000000001::numeric(38,18))
        assert_eq!(amount(1), [0, 1, 0xff, 0xfb, 0, 0, 0, 18, 0, 100]);
        assert_eq!(amount(0), [0, 0, 0, 0, 0, 0, 0, 18]);
    }

    #[test]
    fn uint256_ends_where_the_chain_ends() {
        let largest = std::str::from_utf8(MAX_UINT256).unwrap();
        assert_eq!(uint256(largest), largest);
        let above = format!("{}6", &largest[..77]);
        assert_eq!(Uint256::parse(&above), Err(Uint256Error::TooLarge));
        assert_eq!(Uint256::parse(&format!("1{}", "0".repeat(78))), Err(Uint256Error::TooLarge));
        assert_eq!(Uint256::parse("-5"), Err(Uint256Error::Negative));
        assert_eq!(Uint256::parse("1e5"), Err(Uint256Error::NotAnInteger));
        assert_eq!(Uint256::parse(""), Err(Uint256Error::NotAnInteger));
        assert_eq!(uint256("0"), "0");
        assert_eq!(uint256("0000120000"), "120000");
    }

    #[test]
    fn the_first_instant_of_2000_is_zero() {
        let mut buffer = TupleBuffer::default();
        buffer.timestamp(946_684_800);
        assert_eq!(buffer.into_bytes(), [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    proptest! {
        #[test]
        fn amounts_read_back_as_they_were(units in 0..=arx_core::amount::MAX_UNITS) {
            let units = units.unsigned_abs();
            let expected = format!("{}.{:018}", units / SCALE, units % SCALE);
            prop_assert_eq!(decode::numeric(&amount(units)), expected);
        }

        #[test]
        fn digits_read_back_as_they_were(text in "[1-9][0-9]{0,76}") {
            prop_assert_eq!(uint256(&text), text);
        }
    }
}
