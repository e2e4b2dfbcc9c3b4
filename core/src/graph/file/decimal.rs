//! Exact decimals as base-10000 digits, the form that PostgreSQL keeps `numeric` in (`src/backend/utils/adt/numeric.c`): a
//! header of two or four bytes, then digits of two bytes, most significant first.

use thiserror::Error;

use crate::graph::types::U256;

const SPECIAL: u16 = 0xc000;
const SHORT: u16 = 0x8000;
const SHORT_NEGATIVE: u16 = 0x2000;
const SHORT_SCALE_SHIFT: u16 = 7;
const SHORT_WEIGHT_SIGN: u16 = 0x0040;
const SHORT_WEIGHT: u16 = 0x003f;
const LONG_NEGATIVE: u16 = 0x4000;

/// The longest body that [`encode`] writes: header, 20 digits before the point (2^256 has 78 decimals) and 5 behind it.
pub const LONGEST: usize = 2 + 2 * 25;

/// Decimals behind the point of a native coin.
pub const COIN_SCALE: u32 = 18;

/// A number that is no amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecimalError {
    /// NaN or an infinity.
    #[error("value is not a finite number")]
    NotFinite,
    /// Below zero.
    #[error("value is negative")]
    Negative,
    /// Beyond 256 bits.
    #[error("value is out of range: at most 2^256 - 1 units")]
    TooLarge,
    /// More digits behind the point than the unit has.
    #[error("value has more decimals than its unit")]
    TooFine,
    /// No number at all.
    #[error("value cannot be read")]
    Malformed,
}

/// Reads a number in units of 10^-`scale`.
///
/// # Errors
/// For what is no amount.
pub fn decode(body: &[u8], scale: u32) -> Result<U256, DecimalError> {
    let word = |at: usize| match body.get(at..at + 2) {
        Some(&[low, high]) => Ok(u16::from_le_bytes([low, high])),
        _ => Err(DecimalError::Malformed),
    };
    let header = word(0)?;
    let (negative, weight, digits) = match header & SPECIAL {
        SPECIAL => return Err(DecimalError::NotFinite),
        SHORT => {
            let low = i32::from(header & SHORT_WEIGHT);
            let weight = if header & SHORT_WEIGHT_SIGN == 0 { low } else { low - 64 };
            (header & SHORT_NEGATIVE != 0, weight, &body[2..])
        }
        sign => (sign == LONG_NEGATIVE, i32::from(word(2)?.cast_signed()), body.get(4..).unwrap_or_default()),
    };
    let digits = digits.chunks_exact(2).map(|digit| u16::from_le_bytes([digit[0], digit[1]]));
    let count = i32::try_from(digits.len()).map_err(|_| DecimalError::TooLarge)?;
    if count == 0 {
        return Ok(U256::ZERO);
    }
    if negative {
        return Err(DecimalError::Negative);
    }
    // 9 digits are below 10^36, and a u128 holds 3.4 * 10^38: nearly every amount ends here
    let exponent = 4 * (weight - count + 1) + scale.cast_signed();
    if count <= 9 && exponent >= 0 {
        let mantissa = digits.clone().fold(0_u128, |sum, digit| sum * 10_000 + u128::from(digit));
        let factor = 10_u128.checked_pow(exponent.unsigned_abs());
        if let Some(value) = factor.and_then(|factor| mantissa.checked_mul(factor)) {
            return Ok(U256::new(value));
        }
    }
    let mut value = U256::ZERO;
    for (exponent, digit) in (0..count).map(|place| 4 * (weight - place) + scale.cast_signed()).zip(digits) {
        let digit = u64::from(digit);
        let part = match u32::try_from(exponent) {
            _ if digit == 0 => U256::ZERO,
            Ok(exponent) => {
                let power = ten_to(exponent).ok_or(DecimalError::TooLarge)?;
                power.checked_mul(U256::from(digit)).ok_or(DecimalError::TooLarge)?
            }
            Err(_) => match 10_u64.checked_pow(exponent.unsigned_abs()) {
                Some(power) if digit % power == 0 => U256::from(digit / power),
                _ => return Err(DecimalError::TooFine),
            },
        };
        value = value.checked_add(part).ok_or(DecimalError::TooLarge)?;
    }
    Ok(value)
}

fn ten_to(exponent: u32) -> Option<U256> {
    match 10_u128.checked_pow(exponent) {
        Some(power) => Some(U256::new(power)),
        None => U256::new(10).checked_pow(exponent),
    }
}

/// Writes a number of units of 10^-`scale`, where `scale` is 0 or 18, with that many decimals; returns how many bytes.
#[must_use]
pub fn encode(value: U256, scale: u32, body: &mut [u8; LONGEST]) -> usize {
    // base-10000 digits, least significant first
    let mut digits = [0_u16; 32];
    let mut count = 0;
    let mut push = |digit: u16| {
        digits[count] = digit;
        count += 1;
    };
    let mut whole = value;
    let mut behind = 0;
    if scale > 0 {
        let unit = 10_u128.pow(scale);
        let (quotient, mut rest) = match u128::try_from(value) {
            Ok(small) => (U256::new(small / unit), small % unit),
            Err(_) => (value / U256::new(unit), (value % U256::new(unit)).as_u128()),
        };
        whole = quotient;
        behind = scale.div_ceil(4);
        rest *= 10_u128.pow(behind * 4 - scale);
        for _ in 0..behind {
            push((rest % 10_000) as u16);
            rest /= 10_000;
        }
    }
    while let (high, low) = whole.into_words()
        && high != 0
    {
        let _ = low;
        push((whole % U256::new(10_000)).as_u16());
        whole /= U256::new(10_000);
    }
    let mut small = whole.as_u128();
    while small > 0 {
        push((small % 10_000) as u16);
        small /= 10_000;
    }
    let used = &digits[..count];
    let last = used.iter().rposition(|digit| *digit != 0);
    let first = used.iter().position(|digit| *digit != 0);
    let (weight, used) = match (first, last) {
        (Some(first), Some(last)) => (last as i32 - behind.cast_signed(), &used[first..=last]),
        _ => (0, &used[..0]),
    };
    let sign = if weight < 0 { SHORT_WEIGHT_SIGN } else { 0 };
    // the weight is from -5 to 19
    let header = SHORT | ((scale as u16) << SHORT_SCALE_SHIFT) | sign | (weight as u16 & SHORT_WEIGHT);
    body[..2].copy_from_slice(&header.to_le_bytes());
    for (room, digit) in body[2..].chunks_exact_mut(2).zip(used.iter().rev()) {
        room.copy_from_slice(&digit.to_le_bytes());
    }
    2 + 2 * used.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_bodies_are_read() {
        // 1.5 with dscale 18, as the server keeps it: weight 0, digits 1 and 5000
        let body = [&(SHORT | (18 << 7)).to_le_bytes()[..], &1_u16.to_le_bytes(), &5_000_u16.to_le_bytes()].concat();
        assert_eq!(decode(&body, 18), Ok(U256::new(1_500_000_000_000_000_000)));
        // the long form: 20000 with dscale 0, weight 1
        let body = [0_u16.to_le_bytes(), 1_u16.to_le_bytes(), 2_u16.to_le_bytes()].concat();
        assert_eq!(decode(&body, 0), Ok(U256::new(20_000)));
        assert_eq!(decode(&body, 18), Ok(U256::new(20_000 * 10_u128.pow(18))));
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        let negative = [&(SHORT | SHORT_NEGATIVE).to_le_bytes()[..], &1_u16.to_le_bytes()].concat();
        assert_eq!(decode(&negative, 0), Err(DecimalError::Negative));
        assert_eq!(decode(&SPECIAL.to_le_bytes(), 0), Err(DecimalError::NotFinite));
        let fine = [&(SHORT | SHORT_WEIGHT_SIGN | 0x3f).to_le_bytes()[..], &1_u16.to_le_bytes()].concat();
        assert_eq!(decode(&fine, 0), Err(DecimalError::TooFine));
        assert_eq!(decode(&[], 0), Err(DecimalError::Malformed));
        let huge = [&(SHORT | 0x3f).to_le_bytes()[..], &1_u16.to_le_bytes()].concat();
        assert_eq!(decode(&huge, 0), Err(DecimalError::TooLarge));
    }

    proptest! {
        #[test]
        fn every_amount_comes_back(high: u128, low: u128, shift in 0_u32..256, zeros in 0_u32..20, coins: bool) {
            let mut value = U256::from_words(high, low) >> shift;
            if let Some(round) = value.checked_mul(U256::new(10_u128.pow(zeros))) {
                value = round;
            }
            let scale = if coins { COIN_SCALE } else { 0 };
            let mut body = [0; LONGEST];
            let length = encode(value, scale, &mut body);
            prop_assert_eq!(decode(&body[..length], scale), Ok(value));
        }

        #[test]
        fn no_body_leads_to_a_panic(body in prop::collection::vec(any::<u8>(), 0..80), coins: bool) {
            let _ = decode(&body, if coins { COIN_SCALE } else { 0 });
        }
    }
}
