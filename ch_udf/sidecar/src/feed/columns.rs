//! Columns of `arx.transactions` that the feed carries by name.
//!
//! One row of `optional_columns!` declares a column for all of its users: the SELECT, the decoder
//! of COPY rows, the encoder of ClickHouse's Native format, and the texts that `verify` compares. A
//! column that is neither in [`REQUIRED`] nor declared there travels as an extra column.

use arx_pgwire::copy;
use arx_pgwire::numeric::decode_wire_signed;
use bytes::{BufMut, BytesMut};

use super::model::RowError;

/// Columns with a meaning of their own in the feed.
const REQUIRED: [&str; 11] = [
    "network",
    "tx_hash",
    "block_number",
    "timestamp",
    "from_address",
    "to_address",
    "value",
    "status",
    "metadata",
    "ingest_xid",
    // Only shows which block an import replaces.
    "block_hash",
];

/// Returns the names of all columns that the feed carries by name.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    REQUIRED.into_iter().chain(OPTIONAL.iter().map(|column| column.name))
}

/// Decimals of an amount in dollars.
pub(crate) const DOLLAR_SCALE: u32 = 2;

/// Units of an amount in dollars that `Decimal(20, 2)` cannot hold any more.
const DOLLAR_END: u128 = 10_u128.pow(20);

/// Decodes a signed `numeric` of `scale` decimals that has fewer units than `end`.
pub(super) fn decode_units(raw: &[u8], scale: u32, end: u128, column: &str, target: &str) -> Result<i128, RowError> {
    match decode_wire_signed(raw, scale) {
        Ok(units) if units.unsigned_abs() < end => Ok(units),
        Ok(_) => Err(RowError::out_of_range(column, "(the number is too large)", target)),
        Err(error) => Err(RowError::out_of_range(column, format_args!("({error})"), target)),
    }
}

/// Decodes an amount in dollars.
pub(super) fn decode_dollars(raw: &[u8], column: &str) -> Result<i128, RowError> {
    decode_units(raw, DOLLAR_SCALE, DOLLAR_END, column, Dollars::CLICKHOUSE)
}

/// Type of an optional column on both sides.
pub(crate) trait ColumnType {
    type Value: Copy + Default;
    /// Type in ClickHouse, which is nullable there.
    const CLICKHOUSE: &'static str;
    /// Bytes of a value in ClickHouse.
    const WIDTH: usize;

    /// Decodes PostgreSQL's binary form.
    fn decode(raw: &[u8], column: &str) -> Result<Self::Value, RowError>;

    /// Appends ClickHouse's binary form.
    fn encode(to: &mut BytesMut, value: Self::Value);

    /// Expression of ClickHouse that equals `column::text` of PostgreSQL.
    fn clickhouse_text(column: &str) -> String;
}

/// A non-negative `integer`.
pub(crate) enum Integer {}

impl ColumnType for Integer {
    type Value = u32;
    const CLICKHOUSE: &'static str = "UInt32";
    const WIDTH: usize = 4;

    fn decode(raw: &[u8], column: &str) -> Result<u32, RowError> {
        let value = copy::int4(raw)?;
        u32::try_from(value).map_err(|_| RowError::out_of_range(column, value, Self::CLICKHOUSE))
    }

    fn encode(to: &mut BytesMut, value: u32) {
        to.put_u32_le(value);
    }

    fn clickhouse_text(column: &str) -> String {
        format!("toString({column})")
    }
}

/// A non-negative `bigint`.
pub(crate) enum BigInt {}

impl ColumnType for BigInt {
    type Value = u64;
    const CLICKHOUSE: &'static str = "UInt64";
    const WIDTH: usize = 8;

    fn decode(raw: &[u8], column: &str) -> Result<u64, RowError> {
        let value = copy::int8(raw)?;
        u64::try_from(value).map_err(|_| RowError::out_of_range(column, value, Self::CLICKHOUSE))
    }

    fn encode(to: &mut BytesMut, value: u64) {
        to.put_u64_le(value);
    }

    fn clickhouse_text(column: &str) -> String {
        format!("toString({column})")
    }
}

/// A `numeric(20, 2)`, in units of 10⁻² dollar.
pub(crate) enum Dollars {}

impl ColumnType for Dollars {
    type Value = i128;
    const CLICKHOUSE: &'static str = "Decimal(20, 2)";
    const WIDTH: usize = 16;

    fn decode(raw: &[u8], column: &str) -> Result<i128, RowError> {
        decode_dollars(raw, column)
    }

    fn encode(to: &mut BytesMut, value: i128) {
        to.put_i128_le(value);
    }

    fn clickhouse_text(column: &str) -> String {
        format!("toDecimalString({column}, {DOLLAR_SCALE})")
    }
}

/// Facts about an optional column that do not depend on a row.
pub(crate) struct OptionalColumn {
    pub(crate) name: &'static str,
    /// Type in ClickHouse, which is nullable there.
    pub(crate) clickhouse_type: &'static str,
    /// Bytes of a value in ClickHouse.
    pub(crate) width: usize,
    clickhouse_text: fn(&str) -> String,
}

impl OptionalColumn {
    /// Returns whether internal transfers have the column, too.
    pub(crate) fn is_of_internal_transfers(&self) -> bool {
        !matches!(self.name, "gas_used" | "gas_price")
    }

    /// Text of the column of transaction `t` in PostgreSQL, `-` for NULL.
    pub(crate) fn postgres_text(&self) -> String {
        format!("coalesce(t.{}::text, '-')", self.name)
    }

    /// The same text in ClickHouse.
    pub(crate) fn clickhouse_text(&self) -> String {
        format!("ifNull({}, '-')", (self.clickhouse_text)(self.name))
    }
}

macro_rules! optional_columns {
    ($($name:ident: $column_type:ty),+ $(,)?) => {
        /// Values of the optional columns of one row.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub(crate) struct OptionalValues {
            $(pub $name: Option<<$column_type as ColumnType>::Value>),+
        }

        /// The optional columns, in the order of [`OptionalValues`].
        pub(crate) const OPTIONAL: &[OptionalColumn] = &[
            $(OptionalColumn {
                name: stringify!($name),
                clickhouse_type: <$column_type as ColumnType>::CLICKHOUSE,
                width: <$column_type as ColumnType>::WIDTH,
                clickhouse_text: <$column_type as ColumnType>::clickhouse_text,
            }),+
        ];

        impl OptionalValues {
            /// Decodes the columns in the order of [`OPTIONAL`]. `next` returns the bytes of the
            /// next field.
            pub(super) fn decode<'a>(
                mut next: impl FnMut() -> Result<Option<&'a [u8]>, RowError>,
            ) -> Result<Self, RowError> {
                Ok(Self {
                    $($name: match next()? {
                        Some(raw) => Some(<$column_type as ColumnType>::decode(raw, stringify!($name))?),
                        None => None,
                    }),+
                })
            }

            /// Calls `each` with the index of every column, its NULL flag, and a writer of its
            /// value.
            pub(super) fn encode(&self, mut each: impl FnMut(usize, bool, &dyn Fn(&mut BytesMut))) {
                let mut index = 0;
                $(
                    each(index, self.$name.is_none(), &|to| {
                        <$column_type as ColumnType>::encode(to, self.$name.unwrap_or_default());
                    });
                    index += 1;
                )+
                debug_assert_eq!(index, OPTIONAL.len());
            }
        }
    };
}

optional_columns! {
    transaction_index: Integer,
    value_usd: Dollars,
    gas_used: BigInt,
    gas_price: BigInt,
}
