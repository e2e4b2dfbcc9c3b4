//! Exact amounts of a native coin: 18 decimals in an `i128`. Owns parsing, printing and checked
//! arithmetic; no float ever touches an amount, and an overflow is an error, never a wrap.

use std::fmt;

use thiserror::Error;

/// Decimals of a coin: amounts are kept in units of 10⁻¹⁸ coin.
pub const COIN_SCALE: u32 = 18;

/// Units of 10⁻¹⁸ coin in one coin.
pub const SCALE: i128 = 1_000_000_000_000_000_000;

/// Largest amount, of 38 digits: 10²⁰ coins less one unit.
pub const MAX_UNITS: i128 = 100_000_000_000_000_000_000_000_000_000_000_000_000 - 1;

/// An invalid amount.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AmountError {
    /// The text is not a plain decimal number.
    #[error("amount {text:?} is not a decimal number")]
    NotANumber {
        /// The text.
        text: String,
    },
    /// The amount is below zero.
    #[error("amount {text} is negative")]
    Negative {
        /// The text.
        text: String,
    },
    /// The amount has more digits than [`MAX_UNITS`] or more decimals than its unit.
    #[error("amount {text} is out of range: at most 20 digits before and {decimals} after the point")]
    OutOfRange {
        /// The text.
        text: String,
        /// Number of decimals allowed.
        decimals: u32,
    },
    /// A sum exceeds the range of the type.
    #[error("sum of amounts is out of range")]
    SumOverflow,
}

/// An amount of a native coin, in units of 10⁻¹⁸, from zero up to [`MAX_UNITS`] (sums may go
/// beyond, up to `i128::MAX`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Amount(i128);

impl Amount {
    /// No coins.
    pub const ZERO: Self = Self(0);

    /// Makes an amount from units of 10⁻¹⁸ coin (wei on Ethereum).
    ///
    /// # Errors
    /// [`AmountError::Negative`], [`AmountError::OutOfRange`].
    pub fn from_units(units: i128) -> Result<Self, AmountError> {
        if units < 0 {
            return Err(AmountError::Negative { text: units.to_string() });
        }
        if units > MAX_UNITS {
            return Err(AmountError::OutOfRange { text: units.to_string(), decimals: 18 });
        }
        Ok(Self(units))
    }

    /// Parses a whole number of a coin's smallest units, of which `decimals` digits stand after the
    /// point (18 on Ethereum, 8 on Bitcoin).
    ///
    /// # Errors
    /// Every [`AmountError`] except [`AmountError::SumOverflow`].
    pub fn from_smallest_units(text: &str, decimals: u32) -> Result<Self, AmountError> {
        let out_of_range = || AmountError::OutOfRange { text: text.to_owned(), decimals };
        let digits = check_digits(text)?;
        let shift = 18_u32.checked_sub(decimals).ok_or_else(out_of_range)?;
        let units: i128 = digits.parse().map_err(|_| out_of_range())?;
        let units = units.checked_mul(10_i128.pow(shift)).ok_or_else(out_of_range)?;
        Self::from_units(units).map_err(|_| out_of_range())
    }

    /// Parses decimal coins, such as `"1.5"`.
    ///
    /// # Errors
    /// Every [`AmountError`] except [`AmountError::SumOverflow`]. Digits after the 18th decimal
    /// must be zero.
    pub fn from_coins(text: &str) -> Result<Self, AmountError> {
        let out_of_range = || AmountError::OutOfRange { text: text.to_owned(), decimals: 18 };
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let whole = check_digits(whole)?;
        let fraction = if fraction.is_empty() { "" } else { check_digits(fraction)? };
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > 18 {
            return Err(out_of_range());
        }
        let whole: i128 = whole.parse().map_err(|_| out_of_range())?;
        let fraction: i128 = format!("{fraction:0<18}").parse().map_err(|_| out_of_range())?;
        let units = whole.checked_mul(SCALE).and_then(|w| w.checked_add(fraction)).ok_or_else(out_of_range)?;
        Self::from_units(units).map_err(|_| out_of_range())
    }

    /// Returns the units of 10⁻¹⁸ coin.
    #[must_use]
    pub const fn units(self) -> i128 {
        self.0
    }

    /// Returns the exact sum.
    ///
    /// # Errors
    /// [`AmountError::SumOverflow`] beyond `i128`.
    pub fn checked_add(self, other: Self) -> Result<Self, AmountError> {
        self.0.checked_add(other.0).map(Self).ok_or(AmountError::SumOverflow)
    }
}

/// Returns the text if it consists of digits.
fn check_digits(text: &str) -> Result<&str, AmountError> {
    if let Some(rest) = text.strip_prefix('-')
        && !rest.is_empty()
        && rest.bytes().all(|b| b.is_ascii_digit() || b == b'.')
    {
        return Err(AmountError::Negative { text: text.to_owned() });
    }
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(AmountError::NotANumber { text: text.to_owned() });
    }
    Ok(text)
}

/// Prints decimal coins without trailing zeros: `1.5`, `0`, `0.000000000000000001`.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let units = self.0.unsigned_abs();
        let scale = SCALE.unsigned_abs();
        let (whole, fraction) = (units / scale, units % scale);
        if fraction == 0 {
            return write!(f, "{sign}{whole}");
        }
        let fraction = format!("{fraction:018}");
        write!(f, "{sign}{whole}.{}", fraction.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wei_and_satoshi_become_coins() {
        assert_eq!(Amount::from_smallest_units("1500000000000000000", 18).unwrap().to_string(), "1.5");
        assert_eq!(Amount::from_smallest_units("1", 8).unwrap().to_string(), "0.00000001");
        assert_eq!(Amount::from_smallest_units("0", 18).unwrap(), Amount::ZERO);
    }

    #[test]
    fn bad_amounts_name_the_value() {
        let negative = Amount::from_smallest_units("-1", 18).unwrap_err();
        assert_eq!(negative, AmountError::Negative { text: "-1".into() });
        assert!(matches!(Amount::from_coins("1e3"), Err(AmountError::NotANumber { .. })));
        assert!(matches!(Amount::from_coins(""), Err(AmountError::NotANumber { .. })));
        assert!(matches!(Amount::from_coins("1.0000000000000000001"), Err(AmountError::OutOfRange { .. })));
        let too_large = "100000000000000000000000000000000000000";
        assert!(matches!(Amount::from_smallest_units(too_large, 18), Err(AmountError::OutOfRange { .. })));
        assert!(matches!(Amount::from_smallest_units("1", 19), Err(AmountError::OutOfRange { .. })));
    }

    #[test]
    fn a_sum_beyond_the_type_is_an_error() {
        let mut sum = Amount::from_units(MAX_UNITS).unwrap();
        let largest = sum;
        while let Ok(next) = sum.checked_add(largest) {
            sum = next;
        }
        assert_eq!(sum.checked_add(largest), Err(AmountError::SumOverflow));
    }

    proptest! {
        #[test]
        fn printing_and_parsing_are_inverse(units in 0..=MAX_UNITS) {
            let amount = Amount::from_units(units).unwrap();
            prop_assert_eq!(Amount::from_coins(&amount.to_string()).unwrap(), amount);
        }
    }
}
