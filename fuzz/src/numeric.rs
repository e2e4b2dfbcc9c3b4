//! PostgreSQL's `numeric`, as it is stored and as it is sent.

use arx_core::graph::U256;
use arx_pgwire::numeric::{
    MAX_DATUM_BYTES, MAX_WIRE_BYTES, Uint256, decode_datum, decode_wire, decode_wire_signed, encode_datum, encode_wire,
};

/// Scales of amounts: none, dollars, coins, and the largest one that a target has.
const SCALES: [u32; 4] = [0, 2, 18, 38];

/// Decodes a value in every form. One that is accepted must survive being encoded and decoded
/// again, in either form.
pub fn numeric(data: &[u8]) {
    for scale in SCALES {
        for decoded in [decode_wire(data, scale), decode_datum(data, scale)].into_iter().flatten() {
            assert_round_trip(decoded, scale);
        }
        if let Ok(signed) = decode_wire_signed(data, scale) {
            let unsigned = decode_wire(data, scale);
            match u128::try_from(signed) {
                // Zero may have the sign of a negative number.
                Ok(0) => {}
                Ok(value) => assert_eq!(unsigned, Ok(U256::new(value))),
                Err(_) => assert!(unsigned.is_err()),
            }
        }
    }
    let integer = std::str::from_utf8(data).ok().and_then(|text| Uint256::parse(text).ok().zip(Some(text)));
    if let Some((integer, text)) = integer {
        let mut wire = [0; MAX_WIRE_BYTES];
        let length = integer.encode_wire(&mut wire);
        let value = decode_wire(&wire[..length], 0).unwrap();
        assert_eq!(Ok(value), U256::from_str_radix(text, 10));
    }
}

fn assert_round_trip(units: U256, scale: u32) {
    let (mut wire, mut datum) = ([0; MAX_WIRE_BYTES], [0; MAX_DATUM_BYTES]);
    let (wire_length, datum_length) = (encode_wire(units, scale, &mut wire), encode_datum(units, scale, &mut datum));
    assert_eq!(decode_wire(&wire[..wire_length], scale), Ok(units));
    assert_eq!(decode_datum(&datum[..datum_length], scale), Ok(units));
}
