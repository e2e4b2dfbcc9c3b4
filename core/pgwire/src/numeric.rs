//! PostgreSQL's `numeric` (`src/backend/utils/adt/numeric.c`): digits to the base 10,000, most
//! significant first, and the weight of the first one.
//!
//! Two framings hold the same digits. The *datum* form is what follows the length of a stored
//! value: a header of two or four bytes in the byte order of the machine, little-endian here. The
//! *wire* form is what `numeric_send` sends: four 16-bit numbers (digit count, weight, sign,
//! display scale), big-endian.
//!
//! Values are integers in units of 10^-`scale`. Nothing is rounded: a value that does not fit is an
//! error.

use std::fmt;

use ethnum::U256;

use crate::PgWireError;

const BASE: u128 = 10_000;
const MAX_DIGIT: u16 = 9_999;

const DATUM_SPECIAL: u16 = 0xc000;
const DATUM_SHORT: u16 = 0x8000;
const DATUM_SHORT_NEGATIVE: u16 = 0x2000;
const DATUM_SHORT_SCALE_SHIFT: u16 = 7;
const DATUM_SHORT_WEIGHT_SIGN: u16 = 0x0040;
const DATUM_SHORT_WEIGHT: u16 = 0x003f;
const DATUM_LONG_NEGATIVE: u16 = 0x4000;

const WIRE_POSITIVE: u16 = 0x0000;
const WIRE_NEGATIVE: u16 = 0x4000;
const WIRE_NAN: u16 = 0xc000;
const WIRE_INFINITY: u16 = 0xd000;
const WIRE_NEGATIVE_INFINITY: u16 = 0xf000;

/// Largest scale that is encoded, the largest of a short datum header. The encoders clamp a larger
/// one to it.
pub const MAX_SCALE: u32 = 63;

/// A number below 2^256 has 78 decimal digits, which fall into at most 21 base-10000 digits.
const MAX_DIGITS: usize = 25;

/// Size of the longest body that [`encode_datum`] writes.
pub const MAX_DATUM_BYTES: usize = 2 + 2 * MAX_DIGITS;

/// Size of the longest value that [`encode_wire`] writes.
pub const MAX_WIRE_BYTES: usize = 8 + 2 * MAX_DIGITS;

const TOO_LARGE: PgWireError = PgWireError::TooLarge { max: "2^256 - 1" };

/// 2^256 - 1.
const MAX_UINT256: &[u8] = b"115792089237316195423570985008687907853269984665640564039457584007913129639935";

const POWERS_OF_TEN: [u128; 39] = {
    let mut powers = [1; 39];
    let mut exponent = 1;
    while exponent < powers.len() {
        powers[exponent] = powers[exponent - 1] * 10;
        exponent += 1;
    }
    powers
};

/// Decodes the datum form of a number from zero up.
///
/// # Errors
/// [`PgWireError`], for a value that is malformed, not finite, negative, too large or too fine.
pub fn decode_datum(body: &[u8], scale: u32) -> Result<U256, PgWireError> {
    let (words, _) = body.as_chunks::<2>();
    let (&header, words) = words.split_first().ok_or(PgWireError::MalformedNumeric)?;
    let header = u16::from_le_bytes(header);
    let (negative, weight, digits) = match header & DATUM_SPECIAL {
        DATUM_SPECIAL => return Err(PgWireError::NotFinite),
        DATUM_SHORT => {
            let low = i64::from(header & DATUM_SHORT_WEIGHT);
            let weight = if header & DATUM_SHORT_WEIGHT_SIGN == 0 { low } else { low - 64 };
            (header & DATUM_SHORT_NEGATIVE != 0, weight, words)
        }
        sign => {
            let (&weight, digits) = words.split_first().ok_or(PgWireError::MalformedNumeric)?;
            (sign == DATUM_LONG_NEGATIVE, i64::from(i16::from_le_bytes(weight)), digits)
        }
    };
    if negative && !digits.is_empty() {
        return Err(PgWireError::Negative);
    }
    magnitude(digits.iter().map(|digit| u16::from_le_bytes(*digit)), weight, scale)
}

/// Decodes the wire form of a number from zero up.
///
/// # Errors
/// [`PgWireError`], for a value that is malformed, not finite, negative, too large or too fine.
pub fn decode_wire(raw: &[u8], scale: u32) -> Result<U256, PgWireError> {
    let number = WireNumber::parse(raw)?;
    if number.negative && !number.digits.is_empty() { Err(PgWireError::Negative) } else { number.magnitude(scale) }
}

/// Decodes the wire form of a number of either sign.
///
/// # Errors
/// [`PgWireError`], for a value that is malformed, not finite, too large or too fine.
pub fn decode_wire_signed(raw: &[u8], scale: u32) -> Result<i128, PgWireError> {
    let number = WireNumber::parse(raw)?;
    let too_large = PgWireError::TooLarge { max: "2^127 - 1" };
    let magnitude = number.magnitude(scale).map_err(|error| if error == TOO_LARGE { too_large } else { error })?;
    let units = i128::try_from(magnitude).map_err(|_| too_large)?;
    Ok(if number.negative { -units } else { units })
}

struct WireNumber<'a> {
    negative: bool,
    weight: i16,
    digits: &'a [[u8; 2]],
}

impl<'a> WireNumber<'a> {
    fn parse(raw: &'a [u8]) -> Result<Self, PgWireError> {
        let (words, []) = raw.as_chunks::<2>() else { return Err(PgWireError::MalformedNumeric) };
        let [count, weight, sign, _scale, digits @ ..] = words else { return Err(PgWireError::MalformedNumeric) };
        let negative = match u16::from_be_bytes(*sign) {
            WIRE_POSITIVE => false,
            WIRE_NEGATIVE => true,
            WIRE_NAN | WIRE_INFINITY | WIRE_NEGATIVE_INFINITY => return Err(PgWireError::NotFinite),
            _ => return Err(PgWireError::MalformedNumeric),
        };
        if usize::from(u16::from_be_bytes(*count)) != digits.len() {
            return Err(PgWireError::MalformedNumeric);
        }
        Ok(Self { negative, weight: i16::from_be_bytes(*weight), digits })
    }

    fn magnitude(&self, scale: u32) -> Result<U256, PgWireError> {
        let digits = self.digits.iter().map(|digit| u16::from_be_bytes(*digit));
        magnitude(digits, i64::from(self.weight), scale)
    }
}

/// Adds digits up, of which the first counts 10^(4 * `weight` + `scale`) units.
#[inline]
fn magnitude(digits: impl ExactSizeIterator<Item = u16> + Clone, weight: i64, scale: u32) -> Result<U256, PgWireError> {
    let first_exponent = 4 * weight + i64::from(scale);
    // Nine digits are below 10^36, and a u128 holds 3.4 * 10^38: nearly every amount ends here.
    if digits.len() <= 9 {
        let (mut mantissa, mut largest) = (0_u128, 0);
        for digit in digits.clone() {
            mantissa = mantissa * BASE + u128::from(digit);
            largest = largest.max(digit);
        }
        if largest > MAX_DIGIT {
            return Err(PgWireError::MalformedNumeric);
        }
        let exponent = first_exponent + 4 - 4 * digits.len() as i64;
        let power = usize::try_from(exponent.unsigned_abs()).ok().and_then(|index| POWERS_OF_TEN.get(index));
        if mantissa == 0 {
            return Ok(U256::ZERO);
        }
        if exponent < 0 {
            let whole =
                power.map(|power| (mantissa / power, power)).filter(|(units, power)| units * *power == mantissa);
            return whole.map(|(units, _)| U256::new(units)).ok_or(PgWireError::TooFine);
        }
        if let Some(units) = power.and_then(|power| mantissa.checked_mul(*power)) {
            return Ok(U256::new(units));
        }
    }
    large_magnitude(digits, first_exponent)
}

/// [`magnitude`] of any number of digits.
#[cold]
fn large_magnitude(digits: impl Iterator<Item = u16>, first_exponent: i64) -> Result<U256, PgWireError> {
    let mut units = U256::ZERO;
    // Each digit counts 10^exponent units.
    let mut exponent = first_exponent;
    for digit in digits {
        if digit > MAX_DIGIT {
            return Err(PgWireError::MalformedNumeric);
        }
        let (factor, addend) = match exponent {
            0.. => (BASE, digit),
            -3..=-1 => {
                let divisor = 10_u16.pow(exponent.unsigned_abs() as u32);
                if digit % divisor != 0 {
                    return Err(PgWireError::TooFine);
                }
                (BASE / u128::from(divisor), digit / divisor)
            }
            _ if digit != 0 => return Err(PgWireError::TooFine),
            _ => (1, 0),
        };
        let product = units.checked_mul(U256::new(factor)).ok_or(TOO_LARGE)?;
        units = product.checked_add(U256::from(addend)).ok_or(TOO_LARGE)?;
        exponent -= 4;
    }
    let omitted_zeros = exponent + 4;
    if omitted_zeros <= 0 || units == U256::ZERO {
        return Ok(units);
    }
    let power = u32::try_from(omitted_zeros).ok().and_then(|exponent| U256::new(10).checked_pow(exponent));
    power.and_then(|power| units.checked_mul(power)).ok_or(TOO_LARGE)
}

/// Encodes the datum form, with `scale` decimals; returns its length.
#[must_use]
pub fn encode_datum(units: U256, scale: u32, body: &mut [u8; MAX_DATUM_BYTES]) -> usize {
    let number = Digits::from_units(units, scale);
    let sign = if number.weight < 0 { DATUM_SHORT_WEIGHT_SIGN } else { 0 };
    let weight = number.weight.cast_unsigned() & DATUM_SHORT_WEIGHT;
    let header = DATUM_SHORT | (number.scale << DATUM_SHORT_SCALE_SHIFT) | sign | weight;
    write_words(body, [header], number.trimmed(), u16::to_le_bytes)
}

/// Encodes the wire form, with `scale` decimals; returns its length.
#[inline]
#[must_use]
pub fn encode_wire(units: U256, scale: u32, raw: &mut [u8; MAX_WIRE_BYTES]) -> usize {
    Digits::from_units(units, scale).write_wire(raw)
}

/// Decimal digits of a number from 0 to 2^256 - 1, without leading zeros (zero is empty).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uint256<'a>(&'a [u8]);

impl<'a> Uint256<'a> {
    /// Parses a whole decimal number.
    ///
    /// # Errors
    /// [`PgWireError::NotAnInteger`], [`PgWireError::Negative`], [`PgWireError::TooLarge`].
    pub fn parse(text: &'a str) -> Result<Self, PgWireError> {
        let bytes = text.as_bytes();
        let all_digits = |bytes: &[u8]| !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit);
        if bytes.strip_prefix(b"-").is_some_and(all_digits) {
            return Err(PgWireError::Negative);
        }
        if !all_digits(bytes) {
            return Err(PgWireError::NotAnInteger);
        }
        let zeros = bytes.iter().take_while(|byte| **byte == b'0').count();
        let digits = &bytes[zeros..];
        let too_large = digits.len() > MAX_UINT256.len() || (digits.len() == MAX_UINT256.len() && digits > MAX_UINT256);
        if too_large { Err(TOO_LARGE) } else { Ok(Self(digits)) }
    }

    /// Encodes the wire form, without decimals; returns its length. The digits are grouped as they
    /// are, without arithmetic.
    #[inline]
    #[must_use]
    pub fn encode_wire(self, raw: &mut [u8; MAX_WIRE_BYTES]) -> usize {
        Digits::from_decimal(self).write_wire(raw)
    }
}

impl fmt::Display for Uint256<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("0") } else { self.0.iter().try_for_each(|b| write!(f, "{}", *b as char)) }
    }
}

/// Base-10000 digits to encode.
struct Digits {
    /// Most significant first, at the end of the array.
    digits: [u16; MAX_DIGITS],
    /// Bounds of the digits without the zeros at both ends.
    start: usize,
    end: usize,
    weight: i16,
    scale: u16,
}

impl Digits {
    #[inline]
    fn from_units(units: U256, scale: u32) -> Self {
        let scale = scale.min(MAX_SCALE);
        let mut digits = [0; MAX_DIGITS];
        // Decimals that the last digit after the point holds, as a power of ten, and the zeros that
        // fill it up.
        let (held, padding) = [(10_000, 1), (10, 1_000), (100, 100), (1_000, 10)][scale as usize % 4];
        let mut start = MAX_DIGITS;
        let mut prepend = |digit: u64| {
            start -= 1;
            digits[start] = digit as u16;
        };
        let mut rest = match u128::try_from(units) {
            Ok(units) => {
                prepend((units % held) as u64 * padding);
                units / held
            }
            Err(_) => {
                let mut rest = units / U256::new(held);
                prepend((units % U256::new(held)).as_u64() * padding);
                while rest > U256::new(u128::MAX) {
                    prepend((rest % U256::new(BASE)).as_u64());
                    rest /= U256::new(BASE);
                }
                rest.as_u128()
            }
        };
        while rest > u128::from(u64::MAX) {
            prepend((rest % BASE) as u64);
            rest /= BASE;
        }
        let mut rest = rest as u64;
        while rest > 0 {
            prepend(rest % BASE as u64);
            rest /= BASE as u64;
        }
        Self::trim(digits, start, scale)
    }

    #[inline]
    fn from_decimal(number: Uint256<'_>) -> Self {
        let mut digits = [0; MAX_DIGITS];
        let groups = number.0.rchunks(4);
        let start = MAX_DIGITS - groups.len();
        for (slot, decimals) in digits.iter_mut().rev().zip(groups) {
            *slot = decimals.iter().fold(0, |sum, decimal| sum * 10 + u16::from(*decimal - b'0'));
        }
        Self::trim(digits, start, 0)
    }

    /// The digit at `start` is not zero; zero has no digits.
    #[inline]
    fn trim(digits: [u16; MAX_DIGITS], start: usize, scale: u32) -> Self {
        let used = &digits[start..];
        let trailing_zeros = used.iter().rev().take_while(|digit| **digit == 0).count();
        let count = used.len() - trailing_zeros;
        // At most 25 digits, of which up to 16 stand after the point.
        let weight = if count == 0 { 0 } else { used.len() as i16 - 1 - scale.div_ceil(4) as i16 };
        Self { digits, start, end: start + count, weight, scale: scale as u16 }
    }

    fn trimmed(&self) -> &[u16] {
        &self.digits[self.start..self.end]
    }

    #[inline]
    fn write_wire(&self, raw: &mut [u8; MAX_WIRE_BYTES]) -> usize {
        let digits = self.trimmed();
        let header = [digits.len() as u16, self.weight.cast_unsigned(), WIRE_POSITIVE, self.scale];
        write_words(raw, header, digits, u16::to_be_bytes)
    }
}

#[inline]
fn write_words<const N: usize>(
    out: &mut [u8],
    header: [u16; N],
    digits: &[u16],
    to_bytes: impl Fn(u16) -> [u8; 2],
) -> usize {
    let (slots, _) = out.as_chunks_mut::<2>();
    let (header_slots, digit_slots) = slots.split_at_mut(N);
    for (slot, word) in header_slots.iter_mut().zip(header) {
        *slot = to_bytes(word);
    }
    for (slot, digit) in digit_slots.iter_mut().zip(digits) {
        *slot = to_bytes(*digit);
    }
    2 * (N + digits.len())
}

#[cfg(test)]
mod tests;
