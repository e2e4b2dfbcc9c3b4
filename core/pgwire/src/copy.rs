//! `COPY … (FORMAT binary)`: a header, tuples, a trailer. A tuple is a 16-bit count of fields, then
//! each field's 32-bit length, -1 for NULL, and its bytes. All numbers are big-endian.

use ethnum::U256;

use crate::numeric::{MAX_WIRE_BYTES, Uint256, encode_wire};
use crate::{EPOCH_UNIX_MICROS, PgWireError};

/// The first bytes of binary COPY data; flags and the length of an extension follow.
pub const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// Signature, no flags, no extension: all that precedes the first tuple.
pub const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// A tuple of -1 fields, after the last tuple.
pub const TRAILER: &[u8] = &(-1_i16).to_be_bytes();

/// Returns the length of the header that `data` begins with, 0 if it begins with none.
#[must_use]
pub fn header_length(data: &[u8]) -> usize {
    if data.starts_with(SIGNATURE) { HEADER.len().min(data.len()) } else { 0 }
}

/// Encoder of tuples, without [`HEADER`] and [`TRAILER`].
#[derive(Debug, Default)]
pub struct TupleBuffer {
    bytes: Vec<u8>,
}

impl TupleBuffer {
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes) }
    }

    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The tuples encoded so far.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes encoded so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Begins a tuple of `columns` columns.
    pub fn begin(&mut self, columns: i16) {
        self.bytes.extend_from_slice(&columns.to_be_bytes());
    }

    pub fn null(&mut self) {
        self.bytes.extend_from_slice(&(-1_i32).to_be_bytes());
    }

    /// Appends a `text`, `varchar` or enum value.
    pub fn text(&mut self, value: &str) {
        self.length(value.len());
        self.bytes.extend_from_slice(value.as_bytes());
    }

    pub fn optional_text(&mut self, value: Option<&str>) {
        match value {
            Some(value) => self.text(value),
            None => self.null(),
        }
    }

    /// Appends an `integer`.
    pub fn int4(&mut self, value: i32) {
        self.length(4);
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// Appends a `bigint`.
    pub fn int8(&mut self, value: i64) {
        self.length(8);
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// Appends a `timestamptz`.
    pub fn timestamp(&mut self, unix_seconds: i64) {
        self.int8(unix_seconds.saturating_mul(1_000_000).saturating_sub(EPOCH_UNIX_MICROS));
    }

    /// Appends a `jsonb` document.
    pub fn jsonb(&mut self, document: &str) {
        self.length(document.len().saturating_add(1));
        self.bytes.push(1);
        self.bytes.extend_from_slice(document.as_bytes());
    }

    /// Appends a `numeric` with `scale` decimals, from units of 10^-`scale`.
    pub fn numeric(&mut self, units: U256, scale: u32) {
        let mut raw = [0; MAX_WIRE_BYTES];
        let length = encode_wire(units, scale, &mut raw);
        self.length(length);
        self.bytes.extend_from_slice(&raw[..length]);
    }

    /// Appends a `numeric` without decimals.
    pub fn uint256(&mut self, value: Uint256<'_>) {
        let mut raw = [0; MAX_WIRE_BYTES];
        let length = value.encode_wire(&mut raw);
        self.length(length);
        self.bytes.extend_from_slice(&raw[..length]);
    }

    /// Appends the length before a value. PostgreSQL holds no value of 1 GiB or more, so a larger
    /// one is refused there.
    fn length(&mut self, length: usize) {
        let length = i32::try_from(length).unwrap_or(i32::MAX);
        self.bytes.extend_from_slice(&length.to_be_bytes());
    }
}

/// Decoder of one tuple's fields, taken one after the other. Nothing is copied.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Begins at the first field of a tuple.
    ///
    /// # Errors
    /// [`PgWireError::Truncated`].
    pub fn of_tuple(tuple: &'a [u8]) -> Result<Self, PgWireError> {
        let rest = tuple.get(2..).ok_or(PgWireError::Truncated)?;
        Ok(Self { rest })
    }

    /// Returns the bytes that follow the fields taken so far.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Takes a field's bytes, `None` for NULL.
    ///
    /// # Errors
    /// [`PgWireError::Truncated`].
    #[inline]
    pub fn nullable(&mut self) -> Result<Option<&'a [u8]>, PgWireError> {
        // NULL has the length -1.
        let Ok(length) = usize::try_from(i32::from_be_bytes(take_array(&mut self.rest)?)) else { return Ok(None) };
        take(&mut self.rest, length).map(Some)
    }

    /// Takes a field's bytes.
    ///
    /// # Errors
    /// [`PgWireError::Truncated`], [`PgWireError::UnexpectedNull`].
    #[inline]
    pub fn required(&mut self) -> Result<&'a [u8], PgWireError> {
        self.nullable()?.ok_or(PgWireError::UnexpectedNull)
    }

    /// Takes a text.
    ///
    /// # Errors
    /// The errors of [`Fields::required`], and [`PgWireError::NotUtf8`].
    pub fn text(&mut self) -> Result<&'a str, PgWireError> {
        text(self.required()?)
    }

    /// Takes a text or NULL.
    ///
    /// # Errors
    /// The errors of [`Fields::nullable`], and [`PgWireError::NotUtf8`].
    pub fn optional_text(&mut self) -> Result<Option<&'a str>, PgWireError> {
        self.nullable()?.map(text).transpose()
    }

    /// Takes a `smallint`.
    ///
    /// # Errors
    /// The errors of [`Fields::required`], and [`PgWireError::WrongLength`].
    pub fn int2(&mut self) -> Result<i16, PgWireError> {
        int2(self.required()?)
    }

    /// Takes a `bigint` or a `timestamptz`.
    ///
    /// # Errors
    /// The errors of [`Fields::required`], and [`PgWireError::WrongLength`].
    pub fn int8(&mut self) -> Result<i64, PgWireError> {
        int8(self.required()?)
    }

    /// Takes an `integer` or NULL.
    ///
    /// # Errors
    /// The errors of [`Fields::nullable`], and [`PgWireError::WrongLength`].
    pub fn optional_int4(&mut self) -> Result<Option<i32>, PgWireError> {
        self.nullable()?.map(int4).transpose()
    }

    /// Takes a `bigint` or NULL.
    ///
    /// # Errors
    /// The errors of [`Fields::nullable`], and [`PgWireError::WrongLength`].
    pub fn optional_int8(&mut self) -> Result<Option<i64>, PgWireError> {
        self.nullable()?.map(int8).transpose()
    }

    /// Takes an array of one dimension; NULL is an empty one.
    ///
    /// # Errors
    /// [`PgWireError::Truncated`].
    pub fn array(&mut self) -> Result<Vec<Option<&'a [u8]>>, PgWireError> {
        let Some(mut raw) = self.nullable()? else { return Ok(Vec::new()) };
        let dimensions = i32::from_be_bytes(take_array(&mut raw)?);
        let _flags_and_type: [u8; 8] = take_array(&mut raw)?;
        if dimensions == 0 {
            return Ok(Vec::new());
        }
        let count = i32::from_be_bytes(take_array(&mut raw)?);
        let _lower_bound: [u8; 4] = take_array(&mut raw)?;
        let mut elements = Self { rest: raw };
        (0..count).map(|_| elements.nullable()).collect()
    }
}

/// Decodes a `smallint`.
///
/// # Errors
/// [`PgWireError::WrongLength`].
pub fn int2(raw: &[u8]) -> Result<i16, PgWireError> {
    raw.try_into().map(i16::from_be_bytes).map_err(|_| PgWireError::WrongLength)
}

/// Decodes an `integer`.
///
/// # Errors
/// [`PgWireError::WrongLength`].
pub fn int4(raw: &[u8]) -> Result<i32, PgWireError> {
    raw.try_into().map(i32::from_be_bytes).map_err(|_| PgWireError::WrongLength)
}

/// Decodes a `bigint`, or a `timestamptz` as microseconds since PostgreSQL's epoch.
///
/// # Errors
/// [`PgWireError::WrongLength`].
pub fn int8(raw: &[u8]) -> Result<i64, PgWireError> {
    raw.try_into().map(i64::from_be_bytes).map_err(|_| PgWireError::WrongLength)
}

/// Decodes a text of a database in UTF8.
///
/// # Errors
/// [`PgWireError::NotUtf8`].
pub fn text(raw: &[u8]) -> Result<&str, PgWireError> {
    std::str::from_utf8(raw).map_err(|_| PgWireError::NotUtf8)
}

#[inline]
fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], PgWireError> {
    let (taken, left) = rest.split_at_checked(count).ok_or(PgWireError::Truncated)?;
    *rest = left;
    Ok(taken)
}

#[inline]
fn take_array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], PgWireError> {
    let (taken, left) = rest.split_first_chunk().ok_or(PgWireError::Truncated)?;
    *rest = left;
    Ok(*taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_tuple_has_the_bytes_of_copy() {
        let mut buffer = TupleBuffer::default();
        buffer.begin(7);
        buffer.text("ab");
        buffer.null();
        buffer.int4(1);
        buffer.int8(-1);
        buffer.jsonb("{}");
        buffer.numeric(U256::new(15), 1);
        buffer.uint256(Uint256::parse("70000").unwrap());
        let expected: &[&[u8]] = &[
            &[0, 7],
            &[0, 0, 0, 2, b'a', b'b'],
            &[0xff; 4],
            &[0, 0, 0, 4, 0, 0, 0, 1],
            &[0, 0, 0, 8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0, 0, 0, 3, 1, b'{', b'}'],
            &[0, 0, 0, 12, 0, 2, 0, 0, 0, 0, 0, 1, 0, 1, 0x13, 0x88],
            &[0, 0, 0, 10, 0, 1, 0, 1, 0, 0, 0, 0, 0, 7],
        ];
        assert_eq!(buffer.len(), expected.concat().len());
        assert_eq!(buffer.into_bytes(), expected.concat());
    }

    #[test]
    fn the_first_instant_of_2000_is_zero() {
        let mut buffer = TupleBuffer::default();
        buffer.timestamp(946_684_800);
        assert_eq!(buffer.into_bytes(), [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_header_is_recognised_even_when_it_is_cut_short() {
        assert_eq!(header_length(HEADER), HEADER.len());
        assert_eq!(header_length(&[HEADER, &[0, 1]].concat()), HEADER.len());
        assert_eq!(header_length(SIGNATURE), SIGNATURE.len());
        assert_eq!(header_length(&SIGNATURE[..4]), 0);
        assert_eq!(header_length(TRAILER), 0);
        assert!(HEADER.starts_with(SIGNATURE) && HEADER.len() == SIGNATURE.len() + 8);
    }

    #[test]
    fn arrays_are_read_with_their_nulls() {
        let words = |words: &[i32]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
        let field = |array: Vec<u8>| [&[0, 1][..], &words(&[array.len() as i32]), &array].concat();
        let two = field(words(&[1, 1, 23, 2, 1, 4, 7, -1]));
        let elements = Fields::of_tuple(&two).unwrap().array().unwrap();
        assert_eq!(elements, [Some(&[0, 0, 0, 7][..]), None]);
        assert!(Fields::of_tuple(&field(words(&[0, 0, 23]))).unwrap().array().unwrap().is_empty());
        let cut = field(words(&[1, 1, 23, i32::MAX, 1, 4, 7]));
        assert_eq!(Fields::of_tuple(&cut).unwrap().array(), Err(PgWireError::Truncated));
    }

    proptest! {
        #[test]
        fn encoded_tuples_are_decoded(text: String, number: i64, absent: bool) {
            let mut buffer = TupleBuffer::with_capacity(64);
            buffer.begin(4);
            buffer.text(&text);
            buffer.optional_text((!absent).then_some(text.as_str()));
            buffer.int8(number);
            buffer.int4(5);
            let bytes = buffer.into_bytes();
            let mut fields = Fields::of_tuple(&bytes).unwrap();
            prop_assert_eq!(fields.text(), Ok(text.as_str()));
            prop_assert_eq!(fields.optional_text(), Ok((!absent).then_some(text.as_str())));
            prop_assert_eq!(fields.int8(), Ok(number));
            prop_assert_eq!(fields.optional_int4(), Ok(Some(5)));
            prop_assert_eq!(fields.nullable(), Err(PgWireError::Truncated));
        }

        #[test]
        fn no_tuple_leads_to_a_panic(tuple in prop::collection::vec(any::<u8>(), 0..80)) {
            let Ok(mut fields) = Fields::of_tuple(&tuple) else { return Ok(()) };
            let _ = header_length(&tuple);
            let _ = fields.clone().array();
            while fields.nullable().is_ok() {}
        }
    }
}
