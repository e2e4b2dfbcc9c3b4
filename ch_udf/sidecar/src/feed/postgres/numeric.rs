//! PostgreSQL's binary `numeric` into an exact fixed-point integer. A value that does not fit is an error, never rounded.
//!
//! The wire format (src/backend/utils/adt/numeric.c, `numeric_send`): four 16-bit integers (number of digits, weight of the
//! first digit, sign, display scale), then digits to the base 10,000.

use ethnum::U256;
use thiserror::Error;

/// Why a `numeric` cannot be taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NumericError {
    /// The bytes are not a `numeric`.
    #[error("malformed binary numeric")]
    Malformed,
    /// `NaN` or an infinity.
    #[error("not a finite number")]
    NotFinite,
    /// Too large, or too many digits after the point.
    #[error("out of range")]
    OutOfRange,
}

/// The value in units of 10⁻ˢᶜᵃˡᵉ; scale is at most 18.
///
/// # Errors
/// [`NumericError`].
pub fn units_from_binary(raw: &[u8], scale: u32) -> Result<i128, NumericError> {
    let word = |index: usize| -> Result<u16, NumericError> {
        let bytes = raw.get(index * 2..index * 2 + 2).ok_or(NumericError::Malformed)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    };
    let digits = usize::from(word(0)?);
    let weight = i32::from(word(1)?.cast_signed());
    let negative = match word(2)? {
        0x0000 => false,
        0x4000 => true,
        0xC000 | 0xD000 | 0xF000 => return Err(NumericError::NotFinite),
        _ => return Err(NumericError::Malformed),
    };
    if raw.len() != 8 + digits * 2 {
        return Err(NumericError::Malformed);
    }
    let mut units = 0_i128;
    for index in 0..digits {
        let digit = i128::from(word(4 + index)?);
        if digit > 9999 {
            return Err(NumericError::Malformed);
        }
        if digit == 0 {
            continue;
        }
        let place = i32::try_from(index).map_err(|_| NumericError::OutOfRange)?;
        // the digit counts 10^exponent units
        let exponent = (weight - place) * 4 + i32::try_from(scale).map_err(|_| NumericError::OutOfRange)?;
        let part = if let Ok(exponent) = u32::try_from(exponent) {
            10_i128.checked_pow(exponent).and_then(|factor| factor.checked_mul(digit))
        } else {
            let divisor = 10_i128.pow(exponent.unsigned_abs().min(5));
            (digit % divisor == 0).then_some(digit / divisor)
        };
        units = part.and_then(|part| units.checked_add(part)).ok_or(NumericError::OutOfRange)?;
    }
    Ok(if negative { -units } else { units })
}

/// A whole amount of up to 256 bits, such as raw units of a token.
///
/// # Errors
/// [`NumericError`]; a fraction or a sign is out of range.
pub fn amount_from_binary(raw: &[u8]) -> Result<U256, NumericError> {
    let mut words = raw.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    let mut word = || words.next().ok_or(NumericError::Malformed);
    let (digits, weight, sign, _) = (word()?, word()?.cast_signed(), word()?, word()?);
    match sign {
        0x0000 => {}
        0x4000 => return Err(NumericError::OutOfRange),
        0xC000 | 0xD000 | 0xF000 => return Err(NumericError::NotFinite),
        _ => return Err(NumericError::Malformed),
    }
    if raw.len() != 8 + usize::from(digits) * 2 {
        return Err(NumericError::Malformed);
    }
    let mut amount = U256::ZERO;
    let mut exponent = i32::from(weight);
    for _ in 0..digits {
        let digit = word()?;
        if digit > 9999 {
            return Err(NumericError::Malformed);
        }
        if exponent < 0 {
            if digit != 0 {
                return Err(NumericError::OutOfRange);
            }
            continue;
        }
        let shifted = amount.checked_mul(U256::new(10_000));
        amount = shifted.and_then(|amount| amount.checked_add(U256::from(digit))).ok_or(NumericError::OutOfRange)?;
        exponent -= 1;
    }
    // digits that are not sent are zero; beyond 78 of them nothing but zero fits
    for _ in 0..=exponent {
        if amount == U256::ZERO {
            break;
        }
        amount = amount.checked_mul(U256::new(10_000)).ok_or(NumericError::OutOfRange)?;
    }
    Ok(amount)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `numeric_send` for `units` of 10^-18.
    fn encode(units: i128) -> Vec<u8> {
        let mut digits = Vec::new();
        // 18 decimals are not a whole number of base-10,000 digits: shift to 20
        let (mut whole, mut fraction) =
            (units.unsigned_abs() / 10_u128.pow(18), units.unsigned_abs() % 10_u128.pow(18));
        fraction *= 100;
        for _ in 0..5 {
            digits.insert(0, u16::try_from(fraction % 10_000).unwrap());
            fraction /= 10_000;
        }
        let mut weight = -1_i16;
        while whole > 0 {
            digits.insert(0, u16::try_from(whole % 10_000).unwrap());
            whole /= 10_000;
            weight += 1;
        }
        let sign = if units < 0 { 0x4000_u16 } else { 0 };
        let mut raw = Vec::new();
        for word in [u16::try_from(digits.len()).unwrap(), weight.cast_unsigned(), sign, 18] {
            raw.extend(word.to_be_bytes());
        }
        digits.iter().for_each(|digit| raw.extend(digit.to_be_bytes()));
        raw
    }

    proptest! {
        #[test]
        fn every_amount_survives(units in -(10_i128.pow(38) - 1)..10_i128.pow(38)) {
            prop_assert_eq!(units_from_binary(&encode(units), 18), Ok(units));
        }

        #[test]
        fn garbage_is_refused_without_a_panic(raw in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = units_from_binary(&raw, 18);
            let _ = amount_from_binary(&raw);
        }

        #[test]
        fn every_whole_amount_survives(high in any::<u128>(), low in any::<u128>(), zeros in 0_u16..8) {
            let amount = U256::from_words(high, low) >> (zeros * 32);
            let (mut digits, mut rest) = (Vec::new(), amount);
            while rest > U256::ZERO {
                digits.insert(0, (rest % U256::new(10_000)).as_u16());
                rest /= U256::new(10_000);
            }
            let weight = i16::try_from(digits.len()).unwrap() - 1;
            // as numeric_send does
            while digits.last() == Some(&0) {
                digits.pop();
            }
            let head = [u16::try_from(digits.len()).unwrap(), weight.cast_unsigned(), 0, 0];
            let raw: Vec<u8> = head.iter().chain(&digits).flat_map(|word| word.to_be_bytes()).collect();
            prop_assert_eq!(amount_from_binary(&raw), Ok(amount));
        }
    }

    #[test]
    fn an_amount_is_whole_and_has_256_bits() {
        assert_eq!(amount_from_binary(&[0, 0, 0, 0, 0, 0, 0, 0]), Ok(U256::ZERO));
        assert_eq!(amount_from_binary(&[0, 1, 0, 1, 0, 0, 0, 0, 0, 7]), Ok(U256::new(70_000)));
        // 0.0001, -7, 10^80, NaN
        assert_eq!(amount_from_binary(&[0, 1, 0xff, 0xff, 0, 0, 0, 4, 0, 1]), Err(NumericError::OutOfRange));
        assert_eq!(amount_from_binary(&[0, 1, 0, 0, 0x40, 0, 0, 0, 0, 7]), Err(NumericError::OutOfRange));
        assert_eq!(amount_from_binary(&[0, 1, 0, 20, 0, 0, 0, 0, 0, 1]), Err(NumericError::OutOfRange));
        assert_eq!(amount_from_binary(&[0, 0, 0, 0, 0xc0, 0, 0, 0]), Err(NumericError::NotFinite));
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        // 1e40, then 1e-20, then NaN, then a cut-off value
        assert_eq!(units_from_binary(&[0, 1, 0, 10, 0, 0, 0, 0, 0, 1], 18), Err(NumericError::OutOfRange));
        assert_eq!(units_from_binary(&[0, 1, 0xff, 0xfb, 0, 0, 0, 20, 0, 1], 18), Err(NumericError::OutOfRange));
        assert_eq!(units_from_binary(&[0, 0, 0, 0, 0xc0, 0, 0, 0], 18), Err(NumericError::NotFinite));
        assert_eq!(units_from_binary(&[0, 1, 0, 0, 0, 0, 0, 0], 18), Err(NumericError::Malformed));
        assert_eq!(units_from_binary(&[0, 0, 0, 0, 0, 0, 0, 0], 18), Ok(0));
        // 12.34 dollars: digits 12 and 3400
        assert_eq!(units_from_binary(&[0, 2, 0, 0, 0, 0, 0, 2, 0, 12, 0x0d, 0x48], 2), Ok(1234));
    }
}
