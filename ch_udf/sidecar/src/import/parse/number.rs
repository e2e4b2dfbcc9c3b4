//! Numbers as data frames, warehouses and nodes write them: `1.5e+18`, `21000.0`, `0x5208`,
//! `1,500,000`. A number is read exactly or not at all.

use std::borrow::Cow;

use ethnum::U256;

/// Significant decimal digits that survive a double in both directions.
const DOUBLE_DIGITS: usize = 15;

/// A double holds every whole number whose odd part is at most this.
const DOUBLE_MANTISSA: u64 = 1 << 53;

/// Digits that `%g`, `%e` and statistics programs write before an exponent, from six on, as a
/// rounded number has them.
const ROUNDED_DIGITS: usize = 6;

/// Digits that a spreadsheet writes before `E+18`: its format `0.00E+00` has three.
const SPREADSHEET_DIGITS: usize = 3;

/// Longest decimal expansion that is made: 2²⁵⁶ has 78 digits.
const MAX_DIGITS: usize = 78;

/// The reason why a text is not an exact number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NumberFault {
    /// Not a number in any known notation.
    NotANumber,
    /// Digits after the point that are not zero, where a whole number is expected.
    Fraction,
    /// Written by a program that keeps a few digits, with a value that it may have rounded.
    LostDigits,
    /// One comma: it may separate thousands or decimals.
    Ambiguous,
    /// A decimal comma, or points between thousands: a point in another line may mean either.
    DecimalComma,
    /// More digits than any column holds.
    TooLarge,
}

/// `digits` · 10^`exponent`, as written.
struct Decimal {
    negative: bool,
    digits: String,
    exponent: i64,
    /// Has a point or an exponent, as a number that has passed through a double.
    is_float: bool,
    /// Has an exponent, and enough digits before it that the number may be rounded.
    may_be_rounded: bool,
}

/// Returns the decimal digits of a whole number, with a leading `-` if it is negative.
///
/// # Errors
/// Every [`NumberFault`].
pub(crate) fn whole(text: &str) -> Result<Cow<'_, str>, NumberFault> {
    scaled(text, 0)
}

/// Returns the digits of a number in units of 10^-`decimals`: `1.5` with 18 decimals is
/// `1500000000000000000`.
///
/// # Errors Every [`NumberFault`]; [`NumberFault::Fraction`] for more than `decimals` digits after
/// the point.
pub(crate) fn scaled(text: &str, decimals: u32) -> Result<Cow<'_, str>, NumberFault> {
    let plain = text.strip_prefix('-').unwrap_or(text);
    if decimals == 0 && !plain.is_empty() && plain.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(Cow::Borrowed(text));
    }
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        if !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(NumberFault::NotANumber);
        }
        let value = U256::from_str_radix(hex, 16).map_err(|_| NumberFault::NotANumber)?;
        // A node writes whole units; coins in hexadecimal do not exist.
        return if decimals == 0 { Ok(Cow::Owned(value.to_string())) } else { Err(NumberFault::NotANumber) };
    }
    let mut number = parse(text)?;
    if number.is_float && number.digits.len() > DOUBLE_DIGITS && (decimals == 0 || text.contains(['e', 'E'])) {
        // `1500000000000000000.0` is round; `1234567890123456768.0` is what a double made of a
        // number.
        return Err(NumberFault::LostDigits);
    }
    number.exponent += i64::from(decimals);
    if number.may_be_rounded && number.exponent > 0 {
        // `1.23457E+18` is every number that a spreadsheet shows with six digits.
        return Err(NumberFault::LostDigits);
    }
    while number.exponent < 0 {
        match number.digits.pop() {
            Some('0') => number.exponent += 1,
            None => number.exponent = 0,
            Some(_) => return Err(NumberFault::Fraction),
        }
    }
    if number.digits.is_empty() {
        return Ok(Cow::Borrowed("0"));
    }
    let zeros = usize::try_from(number.exponent).map_err(|_| NumberFault::TooLarge)?;
    if number.digits.len() + zeros > MAX_DIGITS {
        return Err(NumberFault::TooLarge);
    }
    let digits = format!("{}{}", number.digits, "0".repeat(zeros));
    if number.is_float && decimals == 0 && !is_a_double(&digits) {
        return Err(NumberFault::LostDigits);
    }
    Ok(Cow::Owned(if number.negative { format!("-{digits}") } else { digits }))
}

/// Returns true if a double holds the whole number exactly.
fn is_a_double(digits: &str) -> bool {
    match digits.parse::<U256>() {
        Ok(value) if value > U256::ZERO => value >> value.trailing_zeros() <= U256::from(DOUBLE_MANTISSA),
        Ok(_) => true,
        Err(_) => false,
    }
}

/// Parses `[-]digits[.digits][e[+-]digits]`, the digits before the point possibly grouped.
fn parse(text: &str) -> Result<Decimal, NumberFault> {
    let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, power) = match rest.split_once(['e', 'E']) {
        Some((mantissa, power)) => (mantissa, Some(power)),
        None => (rest, None),
    };
    let exponent = match power {
        None => 0,
        Some(power) => {
            let digits = power.strip_prefix(['+', '-']).unwrap_or(power);
            if digits.is_empty() || digits.len() > 4 || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(NumberFault::NotANumber);
            }
            power.parse::<i64>().map_err(|_| NumberFault::NotANumber)?
        }
    };
    if power.is_none() && has_decimal_comma(mantissa) {
        return Err(NumberFault::DecimalComma);
    }
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let before = ungrouped(before, mantissa.contains('.'))?;
    let is_number = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit());
    if before.is_empty() && after.is_empty() || !is_number(&before) || !is_number(after) {
        return Err(NumberFault::NotANumber);
    }
    let all = format!("{before}{after}");
    let digits = all.trim_start_matches('0').trim_end_matches('0');
    let written = all.trim_start_matches('0').len();
    let kept = if rest.contains('E') { SPREADSHEET_DIGITS } else { ROUNDED_DIGITS };
    let dropped = all.len() - all.trim_end_matches('0').len();
    let length = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    Ok(Decimal {
        negative,
        digits: digits.to_owned(),
        exponent: exponent - length(after.len()) + length(dropped),
        is_float: power.is_some() || mantissa.contains('.'),
        may_be_rounded: power.is_some() && written >= kept,
    })
}

/// Returns true for `1,5`, `0,500`, `1.234,56` and `1.500.000`, but not for `1,500`.
fn has_decimal_comma(text: &str) -> bool {
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let (before, after) = text.split_once(',').map_or((text, None), |(before, after)| (before, Some(after)));
    let mut groups = before.split('.');
    let first = groups.next().unwrap_or_default();
    let groups: Vec<&str> = groups.collect();
    let are_thousands =
        (1..=3).contains(&first.len()) && groups.iter().all(|group| group.len() == 3 && is_number(group));
    if !is_number(first) || !are_thousands && !groups.is_empty() || after.is_some_and(|digits| !is_number(digits)) {
        return false;
    }
    match after {
        None => groups.len() >= 2,
        Some(after) => !groups.is_empty() || after.len() != 3 || first.len() > 3 || first.starts_with('0'),
    }
}

/// Removes separators of thousands.
fn ungrouped(digits: &str, has_point: bool) -> Result<Cow<'_, str>, NumberFault> {
    if !digits.contains(',') {
        return Ok(Cow::Borrowed(digits));
    }
    let groups: Vec<&str> = digits.split(',').collect();
    let well_formed = matches!(groups.first(), Some(first) if (1..=3).contains(&first.len()))
        && groups.iter().skip(1).all(|group| group.len() == 3);
    match groups.len() {
        _ if !well_formed => Err(NumberFault::NotANumber),
        2 if !has_point => Err(NumberFault::Ambiguous),
        _ => Ok(Cow::Owned(groups.concat())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn whole_numbers_are_read_exactly_in_every_notation() {
        for (text, expected) in [
            ("21000", "21000"),
            ("21000.0", "21000"),
            ("2.5e+18", "2500000000000000000"),
            ("1E18", "1000000000000000000"),
            ("2.5E+18", "2500000000000000000"),
            ("1.23457E+05", "123457"),
            ("1.23E+02", "123"),
            ("2500000000000000000.0", "2500000000000000000"),
            ("0x22b1c8c1227a0000", "2500000000000000000"),
            ("2,500,000,000,000,000,000", "2500000000000000000"),
            ("0.0", "0"),
            ("0e0", "0"),
            ("-5", "-5"),
            ("1.20e1", "12"),
        ] {
            assert_eq!(whole(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_decimal_comma_is_no_separator_of_thousands() {
        for text in ["1,5", "0,25", "0,500", "1.234,56", "1.234,567", "-1.500.000", "1234,567", "1,2345"] {
            assert_eq!(whole(text), Err(NumberFault::DecimalComma), "{text}");
            assert_eq!(scaled(text, 18), Err(NumberFault::DecimalComma), "{text}");
        }
        for (text, fault) in [
            ("1,500", NumberFault::Ambiguous),
            ("1.5.5", NumberFault::NotANumber),
            ("1.500.00", NumberFault::NotANumber),
            ("1,500,00", NumberFault::NotANumber),
            ("1,", NumberFault::NotANumber),
            (",5", NumberFault::NotANumber),
            ("1,5x", NumberFault::NotANumber),
            ("1.500", NumberFault::Fraction),
        ] {
            assert_eq!(scaled(text, 0), Err(fault), "{text}");
        }
        assert_eq!(scaled("1,500.25", 2).as_deref(), Ok("150025"));
        assert_eq!(scaled("1,500,000", 0).as_deref(), Ok("1500000"));
        assert_eq!(scaled("1.500", 3).as_deref(), Ok("1500"));
    }

    #[test]
    fn a_number_that_may_have_lost_digits_is_refused() {
        for (text, fault) in [
            ("7.1234567891e+20", NumberFault::LostDigits),
            ("1234567890123456768.0", NumberFault::LostDigits),
            ("1.5", NumberFault::Fraction),
            ("1e-3", NumberFault::Fraction),
            ("1.23457E+18", NumberFault::LostDigits),
            ("1.23E+18", NumberFault::LostDigits),
            ("2.50E+18", NumberFault::LostDigits),
            ("1.234568e+18", NumberFault::LostDigits),
            ("1.500000e+18", NumberFault::LostDigits),
            ("1.23456789012346E+18", NumberFault::LostDigits),
            ("0x+ff", NumberFault::NotANumber),
            ("0x-1", NumberFault::NotANumber),
            ("1,500", NumberFault::Ambiguous),
            ("1,50,000", NumberFault::NotANumber),
            ("", NumberFault::NotANumber),
            (".", NumberFault::NotANumber),
            ("nan", NumberFault::NotANumber),
            ("0x", NumberFault::NotANumber),
            ("1e99", NumberFault::TooLarge),
            ("1e", NumberFault::NotANumber),
        ] {
            assert_eq!(whole(text), Err(fault), "{text}");
        }
    }

    #[test]
    fn coins_become_units() {
        for (text, decimals, expected) in [
            ("1.5", 18, Ok("1500000000000000000")),
            ("40", 8, Ok("4000000000")),
            ("1,234.25", 2, Ok("123425")),
            ("1e-05", 18, Ok("10000000000000")),
            ("0.30000000000000004", 18, Ok("300000000000000040")),
            ("0.123456789", 8, Err(NumberFault::Fraction)),
            ("1.2345678901234567e+1", 18, Err(NumberFault::LostDigits)),
            ("1.23457E-05", 18, Err(NumberFault::LostDigits)),
            ("1.234567e-12", 18, Ok("1234567")),
        ] {
            assert_eq!(scaled(text, decimals).as_deref(), expected.as_ref().map(|digits| *digits), "{text}");
        }
    }

    proptest! {
        #[test]
        fn doubles_of_fifteen_digits_survive(digits in 1_u64..1_000_000_000_000_000, zeros in 0_usize..4) {
            let plain = format!("{digits}{}", "0".repeat(zeros));
            match whole(&format!("{plain}.0")) {
                Ok(read) => prop_assert_eq!(read, plain),
                Err(fault) => prop_assert_eq!(fault, NumberFault::LostDigits),
            }
        }

        #[test]
        fn no_text_panics(text in "[-+0-9.,eExX]{0,40}", decimals in 0_u32..19) {
            let _ = scaled(&text, decimals);
        }
    }
}
