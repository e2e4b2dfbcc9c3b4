use proptest::prelude::*;

use super::*;

fn datum(units: U256, scale: u32) -> Vec<u8> {
    let mut body = [0; MAX_DATUM_BYTES];
    let length = encode_datum(units, scale, &mut body);
    body[..length].to_vec()
}

fn wire(units: U256, scale: u32) -> Vec<u8> {
    let mut raw = [0; MAX_WIRE_BYTES];
    let length = encode_wire(units, scale, &mut raw);
    raw[..length].to_vec()
}

fn uint256(text: &str) -> Vec<u8> {
    let mut raw = [0; MAX_WIRE_BYTES];
    let length = Uint256::parse(text).unwrap().encode_wire(&mut raw);
    raw[..length].to_vec()
}

fn words(words: &[u16], to_bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    words.iter().flat_map(|word| to_bytes(*word)).collect()
}

/// Decodes with plain arithmetic: the value as a decimal number, as PostgreSQL prints it.
fn printed(raw: &[u8]) -> String {
    let words: Vec<i16> = raw.chunks(2).map(|word| i16::from_be_bytes([word[0], word[1]])).collect();
    let (count, weight, sign, scale) = (words[0], words[1], words[2], words[3]);
    let digits = &words[4..];
    assert_eq!((usize::try_from(count).unwrap(), sign), (digits.len(), 0));
    assert!(digits.iter().all(|digit| (0..10_000).contains(digit)));
    assert!(digits.first() != Some(&0) && digits.last() != Some(&0), "zeros are left: {digits:?}");
    let at = |index: i16| usize::try_from(index).ok().and_then(|index| digits.get(index)).copied().unwrap_or(0);
    let whole: String = (0..=weight).map(|index| format!("{:04}", at(index))).collect();
    let whole = format!("{:0>1}", whole.trim_start_matches('0'));
    if scale == 0 {
        return whole;
    }
    let fraction: String = (0..scale / 4 + 1).map(|index| format!("{:04}", at(weight + 1 + index))).collect();
    format!("{whole}.{}", &fraction[..usize::try_from(scale).unwrap()])
}

#[test]
fn stored_values_of_the_server_are_decoded() {
    // 1.5 with 18 decimals: weight 0, digits 1 and 5000.
    let body = words(&[DATUM_SHORT | (18 << 7), 1, 5_000], u16::to_le_bytes);
    assert_eq!(decode_datum(&body, 18), Ok(U256::new(1_500_000_000_000_000_000)));
    assert_eq!(datum(U256::new(1_500_000_000_000_000_000), 18), body);
    // The long form: 20000 without decimals, weight 1.
    let body = words(&[0, 1, 2], u16::to_le_bytes);
    assert_eq!(decode_datum(&body, 0), Ok(U256::new(20_000)));
    assert_eq!(decode_datum(&body, 18), Ok(U256::new(20_000 * 10_u128.pow(18))));
}

#[test]
fn stored_values_that_are_not_amounts_are_refused() {
    let decode = |header: u16| decode_datum(&words(&[header, 1], u16::to_le_bytes), 0);
    assert_eq!(decode(DATUM_SHORT | DATUM_SHORT_NEGATIVE), Err(PgWireError::Negative));
    assert_eq!(decode(DATUM_SHORT | DATUM_SHORT_WEIGHT_SIGN | 0x3f), Err(PgWireError::TooFine));
    assert_eq!(decode(DATUM_SHORT | 0x3f), Err(TOO_LARGE));
    assert_eq!(decode_datum(&DATUM_SPECIAL.to_le_bytes(), 0), Err(PgWireError::NotFinite));
    assert_eq!(decode_datum(&[], 0), Err(PgWireError::MalformedNumeric));
}

#[test]
fn one_and_a_half_coins_has_the_bytes_of_numeric_send() {
    // SELECT numeric_send(1.500000000000000000::numeric(38,18))
    assert_eq!(wire(U256::new(1_500_000_000_000_000_000), 18), [0, 2, 0, 0, 0, 0, 0, 18, 0, 1, 0x13, 0x88]);
    // SELECT numeric_send(0.000000000000000001::numeric(38,18))
    assert_eq!(wire(U256::ONE, 18), [0, 1, 0xff, 0xfb, 0, 0, 0, 18, 0, 100]);
    assert_eq!(wire(U256::ZERO, 18), [0, 0, 0, 0, 0, 0, 0, 18]);
}

#[test]
fn sent_amounts_are_whole_and_have_256_bits() {
    assert_eq!(decode_wire(&[0, 0, 0, 0, 0, 0, 0, 0], 0), Ok(U256::ZERO));
    assert_eq!(decode_wire(&[0, 1, 0, 1, 0, 0, 0, 0, 0, 7], 0), Ok(U256::new(70_000)));
    // 0.0001, -7, 10^80, NaN, and a digit above 9999
    assert_eq!(decode_wire(&[0, 1, 0xff, 0xff, 0, 0, 0, 4, 0, 1], 0), Err(PgWireError::TooFine));
    assert_eq!(decode_wire(&[0, 1, 0, 0, 0x40, 0, 0, 0, 0, 7], 0), Err(PgWireError::Negative));
    assert_eq!(decode_wire(&[0, 1, 0, 20, 0, 0, 0, 0, 0, 1], 0), Err(TOO_LARGE));
    assert_eq!(decode_wire(&[0, 0, 0, 0, 0xc0, 0, 0, 0], 0), Err(PgWireError::NotFinite));
    assert_eq!(decode_wire(&[0, 1, 0, 0, 0, 0, 0, 0, 0x27, 0x10], 0), Err(PgWireError::MalformedNumeric));
}

#[test]
fn sent_values_that_do_not_fit_are_errors() {
    let too_large = Err(PgWireError::TooLarge { max: "2^127 - 1" });
    // 1e40, then 1e-20, then NaN, then a value that is cut short
    assert_eq!(decode_wire_signed(&[0, 1, 0, 10, 0, 0, 0, 0, 0, 1], 18), too_large);
    assert_eq!(decode_wire_signed(&[0, 1, 0xff, 0xfb, 0, 0, 0, 20, 0, 1], 18), Err(PgWireError::TooFine));
    assert_eq!(decode_wire_signed(&[0, 0, 0, 0, 0xc0, 0, 0, 0], 18), Err(PgWireError::NotFinite));
    assert_eq!(decode_wire_signed(&[0, 1, 0, 0, 0, 0, 0, 0], 18), Err(PgWireError::MalformedNumeric));
    assert_eq!(decode_wire_signed(&[0, 0, 0, 0, 0, 0, 0, 0], 18), Ok(0));
    // 12.34 dollars: digits 12 and 3400
    assert_eq!(decode_wire_signed(&[0, 2, 0, 0, 0, 0, 0, 2, 0, 12, 0x0d, 0x48], 2), Ok(1234));
    assert_eq!(decode_wire_signed(&[0, 2, 0, 0, 0x40, 0, 0, 2, 0, 12, 0x0d, 0x48], 2), Ok(-1234));
}

#[test]
fn uint256_ends_at_256_bits() {
    let largest = std::str::from_utf8(MAX_UINT256).unwrap();
    assert_eq!(printed(&uint256(largest)), largest);
    assert_eq!(Uint256::parse(&format!("{}6", &largest[..77])), Err(TOO_LARGE));
    assert_eq!(Uint256::parse(&format!("1{}", "0".repeat(78))), Err(TOO_LARGE));
    assert_eq!(Uint256::parse("-5"), Err(PgWireError::Negative));
    for text in ["1e5", "", "-", "-x", "1.0"] {
        assert_eq!(Uint256::parse(text), Err(PgWireError::NotAnInteger), "{text}");
    }
    assert_eq!(printed(&uint256("0")), "0");
    assert_eq!(printed(&uint256("0000120000")), "120000");
    assert_eq!(Uint256::parse("0000120000").unwrap().to_string(), "120000");
    assert_eq!(Uint256::parse("00").unwrap().to_string(), "0");
}

prop_compose! {
    /// Numbers of every size, many of which end with zeros.
    fn numbers()(high: u128, low: u128, shift in 0_u32..256, zeros in 0_u32..39) -> U256 {
        let value = U256::from_words(high, low) >> shift;
        value.checked_mul(U256::new(10_u128.pow(zeros))).unwrap_or(value)
    }
}

proptest! {
    #[test]
    fn both_framings_decode_to_what_was_encoded(units in numbers(), scale in 0..=MAX_SCALE) {
        prop_assert_eq!(decode_datum(&datum(units, scale), scale), Ok(units));
        prop_assert_eq!(decode_wire(&wire(units, scale), scale), Ok(units));
        let mut negative = wire(units, scale);
        negative[4] = 0x40;
        match i128::try_from(units) {
            Ok(units) => {
                prop_assert_eq!(decode_wire_signed(&wire(units.unsigned_abs().into(), scale), scale), Ok(units));
                prop_assert_eq!(decode_wire_signed(&negative, scale), Ok(-units));
            }
            Err(_) => {
                let too_large = PgWireError::TooLarge { max: "2^127 - 1" };
                prop_assert_eq!(decode_wire_signed(&negative, scale), Err(too_large));
            }
        }
    }

    #[test]
    fn both_framings_hold_the_same_digits(units in numbers(), scale in 0..=MAX_SCALE) {
        let (stored, sent) = (datum(units, scale), wire(units, scale));
        let stored: Vec<u16> = stored[2..].chunks(2).map(|word| u16::from_le_bytes([word[0], word[1]])).collect();
        let sent: Vec<u16> = sent[8..].chunks(2).map(|word| u16::from_be_bytes([word[0], word[1]])).collect();
        prop_assert_eq!(stored, sent);
    }

    #[test]
    fn what_is_sent_prints_as_a_decimal_number(units in numbers(), scale in 0_u32..=30) {
        let digits = format!("{:0>width$}", units.to_string(), width = scale as usize + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale as usize);
        let expected = if scale == 0 { whole.to_owned() } else { format!("{whole}.{fraction}") };
        prop_assert_eq!(printed(&wire(units, scale)), expected);
    }

    #[test]
    fn digits_are_encoded_like_the_number_that_they_spell(units in numbers(), zeros in 0_usize..4) {
        prop_assert_eq!(uint256(&format!("{}{units}", "0".repeat(zeros))), wire(units, 0));
    }

    #[test]
    fn few_digits_have_the_value_of_many(digits in prop::collection::vec(0_u16..10_000, 0..10), weight in -8_i64..20, scale in 0_u32..40) {
        let slow = large_magnitude(digits.iter().copied(), 4 * weight + i64::from(scale));
        prop_assert_eq!(magnitude(digits.iter().copied(), weight, scale), slow);
    }

    #[test]
    fn no_bytes_lead_to_a_panic(raw in prop::collection::vec(any::<u8>(), 0..80), scale in prop_oneof![0_u32..80, any::<u32>()]) {
        let _ = decode_datum(&raw, scale);
        let _ = decode_wire(&raw, scale);
        let _ = decode_wire_signed(&raw, scale);
    }

    #[test]
    fn no_wire_header_leads_to_a_panic(weight: i16, digits in prop::collection::vec(any::<u16>(), 0..40), scale: u32) {
        let header = [digits.len() as u16, weight.cast_unsigned(), 0, 0];
        let raw = words(&[&header, &digits[..]].concat(), u16::to_be_bytes);
        let _ = decode_wire(&raw, scale);
        let _ = decode_wire_signed(&raw, scale);
    }

    #[test]
    fn any_number_is_encoded_at_any_scale(units in numbers(), scale: u32) {
        prop_assert_eq!(datum(units, scale), datum(units, scale.min(MAX_SCALE)));
    }
}
