//! Texts of values, as the parsers of CSV and JSON read them.

use std::fmt::Write;

use ethnum::I256;

/// Length from which bytes of printable characters are a text: random bytes of that length are not
/// printable.
const TEXT_BYTES: usize = 20;

/// Appends a floating-point number whose type keeps `digits` of them, marked so that reading checks
/// whether some may be lost: with a point, or with an exponent where all digits are in use.
pub(super) fn float(plain: &str, digits: usize, out: &mut String) {
    let used =
        plain.trim_start_matches(['-', '0', '.']).trim_end_matches('0').replace('.', "").trim_end_matches('0').len();
    out.push_str(plain);
    match plain.contains('.') {
        _ if used > digits => out.push_str("e0"),
        true => {}
        false => out.push_str(".0"),
    }
}

/// Appends bytes as text if they are a number or name already, otherwise in hexadecimal: some
/// writers do not mark texts as such. No bytes are no value.
pub(super) fn text_or_hex(bytes: &[u8], out: &mut String) {
    match std::str::from_utf8(bytes) {
        Ok("") => {}
        Ok(text)
            if text.starts_with("0x")
                || text.bytes().all(|b| b.is_ascii_digit())
                || text.len() >= TEXT_BYTES && text.bytes().all(|b| b.is_ascii_graphic()) =>
        {
            out.push_str(text);
        }
        _ => hex(bytes, out),
    }
}

/// Appends bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8], out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
    out.reserve(2 + 2 * bytes.len());
    out.push_str("0x");
    for part in bytes.chunks(32) {
        let mut text = [0; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(part) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 0xf)]);
        }
        out.push_str(std::str::from_utf8(text.get(..2 * part.len()).unwrap_or_default()).unwrap_or_default());
    }
}

/// Appends a whole number.
pub(super) fn integer(value: impl itoa::Integer, out: &mut String) {
    out.push_str(itoa::Buffer::new().format(value));
}

/// Appends a day as `2023-05-02`, which is a date without a time.
pub(super) fn date(days: i32, out: &mut String) {
    match chrono::DateTime::from_timestamp(i64::from(days) * 86_400, 0) {
        Some(time) => out.extend([time.format("%Y-%m-%d").to_string()]),
        None => integer(days, out),
    }
}

/// Appends a decimal of big-endian bytes as digits, without a fraction of zeros.
pub(super) fn decimal(bytes: &[u8], scale: usize, out: &mut String) {
    let fill = if bytes.first().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
    // Longer values repeat the sign.
    let start = bytes.len().saturating_sub(32);
    let (signs, bytes) = bytes.split_at(start);
    let is_negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    if signs.iter().any(|byte| *byte != fill) || !signs.is_empty() && is_negative != (fill == 0xff) {
        let _ = write!(out, "a decimal of {} bytes", signs.len() + bytes.len());
        return;
    }
    let mut whole = [fill; 32];
    let start = whole.len() - bytes.len();
    whole.get_mut(start..).unwrap_or_default().copy_from_slice(bytes);
    let units = I256::from_be_bytes(whole);
    if units < I256::ZERO {
        out.push('-');
    }
    let start = out.len();
    match u128::try_from(units.unsigned_abs()) {
        Ok(digits) => integer(digits, out),
        Err(_) => {
            let _ = write!(out, "{}", units.unsigned_abs());
        }
    }
    if scale > 0 {
        let digits = out.split_off(start);
        let padded = format!("{digits:0>width$}", width = scale + 1);
        let (before, after) = padded.split_at(padded.len() - scale);
        let after = after.trim_end_matches('0');
        out.push_str(before);
        if !after.is_empty() {
            out.push('.');
            out.push_str(after);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl Fn(&mut String)) -> String {
        let mut text = String::new();
        write(&mut text);
        text
    }

    #[test]
    fn decimals_of_any_width_keep_their_digits() {
        let of = |bytes: &[u8], scale| text(|out| decimal(bytes, scale, out));
        assert_eq!(of(&[0x04, 0xd2], 0), "1234");
        assert_eq!(of(&[0x04, 0xd2], 3), "1.234");
        assert_eq!(of(&[0x04, 0xd2], 6), "0.001234");
        assert_eq!(of(&[0xff, 0x38], 1), "-20");
        assert_eq!(of(&[], 2), "0");
        // 10^75, a number of 76 digits.
        let wide = I256::from(10).pow(75).to_be_bytes();
        assert_eq!(of(&wide, 0), format!("1{}", "0".repeat(75)));
        assert_eq!(of(&[vec![0xff; 9], vec![0xfe]].concat(), 0), "-2");
        assert_eq!(of(&[vec![0; 8], wide.to_vec()].concat(), 75), "1");
        assert_eq!(of(&[vec![1], vec![0; 32]].concat(), 0), "a decimal of 33 bytes");
        assert_eq!(of(&[vec![0], vec![0xff; 32]].concat(), 0), "a decimal of 33 bytes");
    }

    #[test]
    fn bytes_are_text_where_they_cannot_be_anything_else() {
        let of = |bytes: &[u8]| text(|out| text_or_hex(bytes, out));
        assert_eq!(of(b"0xab"), "0xab");
        assert_eq!(of(b"1234"), "1234");
        assert_eq!(of(b"1BoatSLRHtKNngkdXEeobR76b53LETtpyT"), "1BoatSLRHtKNngkdXEeobR76b53LETtpyT");
        assert_eq!(of(b"abc"), "0x616263");
        assert_eq!(of(&[0xff; 20]), format!("0x{}", "ff".repeat(20)));
        let many: Vec<u8> = (0..=80).collect();
        let digits: String = many.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(of(&many), format!("0x{digits}"));
        assert_eq!(of(b""), "");
    }

    #[test]
    fn floats_are_marked_as_such() {
        let of = |plain: &str| text(|out| float(plain, 15, out));
        assert_eq!(of("2500000000000000000"), "2500000000000000000.0");
        assert_eq!(of("0.5"), "0.5");
        assert_eq!(of("1234567890123456800"), "1234567890123456800e0");
    }

    #[test]
    fn days_are_dates() {
        assert_eq!(text(|out| date(19_479, out)), "2023-05-02");
    }
}
