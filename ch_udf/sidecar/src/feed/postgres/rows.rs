//! Decodes rows of `arx.transactions` in the form of `COPY … (FORMAT binary)`. Owns the columns
//! that are read, their order, and the conversion of bytes to an event, which copies nothing. It
//! must not send anything.

use std::ops::Range;
use std::sync::Arc;

use arx_core::amount::COIN_SCALE;
use arx_pgwire::copy::{self, Fields, TRAILER};
use arx_pgwire::numeric::decode_wire;
use arx_pgwire::{EPOCH_UNIX_MICROS, PgWireError};
use bytes::{Buf, Bytes};

use super::super::columns::{OPTIONAL, OptionalValues, decode_dollars, decode_units};
use super::super::metadata;
use super::super::model::{
    CountedBy, Event, ExtraColumn, HOUR_MICROS, Month, Rejected, RowError, RowPart, Rows, Transfer, Value, ValueKind,
};
use crate::error::SidecarError;

/// First hour that a `DateTime` cannot hold: 2106-02-07 06:00.
const END_HOUR: i64 = 4_294_965_600_000_000 / HOUR_MICROS;

/// Units of a value that `Decimal(38, 18)` cannot hold any more.
const VALUE_END: u128 = 10_u128.pow(38);

/// Key of a transaction `t`, which is all that a tombstone has.
const KEY: &str = "t.\"timestamp\", t.network, t.tx_hash, t.from_address, t.to_address";

/// Further required columns of a transaction `t`.
const REQUIRED_COLUMNS: &str = "t.block_number, t.value, t.status::text, \
    (CASE WHEN t.metadata IS NULL OR jsonb_typeof(t.metadata) = 'object' THEN t.metadata \
          ELSE jsonb_build_object('value', t.metadata) END)::text";

/// Fields of [`KEY`].
const KEY_FIELDS: usize = 5;

/// Token transfers of a transaction `t`, as arrays.
const TRANSFERS: &str = "LEFT JOIN LATERAL (SELECT array_agg(x.log_index ORDER BY x.log_index) AS log_index, \
        array_agg(x.token_address ORDER BY x.log_index) AS token, array_agg(x.from_address ORDER BY x.log_index) AS sender, \
        array_agg(x.to_address ORDER BY x.log_index) AS receiver, array_agg(x.amount ORDER BY x.log_index) AS amount, \
        array_agg(x.value_usd ORDER BY x.log_index) AS usd \
      FROM arx.token_transfers AS x \
     WHERE x.network = t.network AND x.tx_hash = t.tx_hash AND x.\"timestamp\" = t.\"timestamp\") AS x ON true";

const TRANSFER_COLUMNS: &str = ", x.log_index, x.token, x.sender, x.receiver, x.amount, x.usd";

/// The same columns of a row without token transfers.
const NO_TRANSFERS: &str =
    ", NULL::integer[], NULL::text[], NULL::text[], NULL::text[], NULL::numeric[], NULL::numeric[]";

/// Columns of a row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Layout {
    /// Only the key of a former row.
    pub tombstones: bool,
    /// Without the step that counts the row: a rebuild counts all of them.
    pub uncounted: bool,
    /// With token transfers; false if the database has none.
    pub transfers: bool,
    /// With the leg of a row; false if the database has no internal transfers.
    pub legs: bool,
    /// Columns that the feed does not carry by name.
    pub extra_columns: Vec<ExtraColumn>,
}

/// Quotes an identifier.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Layout {
    /// Returns the SELECT of transactions. `from` names them `t`; `counted_by` is an expression
    /// with the value 0 (view), 1 (repair) or 2 (no step), ignored where the rows are uncounted.
    pub(super) fn select(&self, from: &str, counted_by: &str, condition: &str) -> String {
        let optional = OPTIONAL.iter().fold(String::new(), |text, column| text + ", t." + column.name);
        let extra_columns = self.extra_columns.iter().fold(String::new(), |mut text, column| {
            let cast = match column.kind {
                ValueKind::Text => "::text",
                ValueKind::Timestamp => "::timestamptz",
                _ => "",
            };
            text.push_str(&format!(", t.{}{cast}", quoted(&column.name)));
            text
        });
        let (columns, join) = if self.transfers { (TRANSFER_COLUMNS, TRANSFERS) } else { ("", "") };
        let counted_by = self.counted_by(counted_by);
        let leg = if self.legs { ", 0::bigint, 'transaction'::text, true" } else { "" };
        format!(
            "SELECT {KEY}{leg}, {REQUIRED_COLUMNS}{optional}{counted_by}{extra_columns}{columns} FROM {from} {join} \
             WHERE {condition}"
        )
    }

    fn counted_by(&self, expression: &str) -> String {
        if self.uncounted { String::new() } else { format!(", ({expression})::int2") }
    }

    /// Returns the SELECT of internal transfers in the same columns, as [`Self::select`] does of
    /// transactions.
    pub(super) fn select_internal(&self, from: &str, counted_by: &str, condition: &str) -> String {
        let optional = OPTIONAL.iter().fold(String::new(), |text, column| {
            if column.is_of_internal_transfers() { text + ", t." + column.name } else { text + ", NULL::bigint" }
        });
        let extra_columns = self
            .extra_columns
            .iter()
            .fold(String::new(), |text, column| text + ", NULL::" + column.kind.postgres_type());
        let columns = if self.transfers { NO_TRANSFERS } else { "" };
        let counted_by = self.counted_by(counted_by);
        format!(
            "SELECT t.\"timestamp\", t.network, t.tx_hash, coalesce(t.from_address, ''), t.to_address, \
             t.position::bigint + 1, t.kind, t.is_ordered, coalesce(t.block_number, 0), t.value, \
             CASE t.succeeded WHEN true THEN 'confirmed' WHEN false THEN 'failed' ELSE 'unknown' END, NULL::text\
             {optional}{counted_by}{extra_columns}{columns} FROM {from} WHERE {condition}"
        )
    }

    /// Returns the SELECT of the keys of former transactions and internal transfers from
    /// `arx.transaction_changes`.
    pub(super) fn select_former(condition: &str) -> String {
        format!(
            "SELECT \"timestamp\", network, tx_hash, coalesce(from_address, ''), to_address, \
                    CASE relation WHEN 'internal_transfers' THEN log_index::bigint + 1 ELSE 0 END \
               FROM arx.transaction_changes WHERE relation IN ('transactions', 'internal_transfers') AND {condition}"
        )
    }
}

/// Rows of one layout, as received.
#[derive(Debug)]
pub(crate) struct PostgresRows {
    layout: Arc<Layout>,
    rows: Vec<Row>,
    /// Networks, in the order of arrival and, once sorted, in their own.
    networks: Vec<Bytes>,
    /// Months, likewise.
    months: Vec<Month>,
}

/// A message with its sort key, which is extracted while the message is in the cache.
#[derive(Debug)]
struct Row {
    /// Index into `months`.
    month: u32,
    /// Index into `networks`.
    network: u32,
    /// First bytes of the sender.
    sender: u128,
    time: i64,
    /// First bytes of the hash.
    tx_hash: u128,
    message: Bytes,
}

impl PostgresRows {
    pub(super) fn new(layout: Arc<Layout>, capacity: usize) -> Self {
        Self { layout, rows: Vec::with_capacity(capacity), networks: Vec::new(), months: Vec::new() }
    }

    /// Adds a message of the copy stream. Returns the size of its row, 0 without a row.
    pub(super) fn push(&mut self, mut message: Bytes) -> usize {
        message.advance(copy::header_length(&message));
        if message.len() < TRAILER.len() || message.starts_with(TRAILER) {
            return 0;
        }
        let size = message.len();
        // The sort key of a malformed row does not matter: decoding reports it.
        let SortKey { network, sender, time, tx_hash } = SortKey::of(&message).unwrap_or_default();
        let network = index_of(&mut self.networks, |value| value == network, || message.slice_ref(network));
        let micros = time.saturating_add(EPOCH_UNIX_MICROS);
        let month = index_of(&mut self.months, |month| month.contains(micros), || Month::of(micros));
        self.rows.push(Row { month, network, sender: prefix(sender), time, tx_hash: prefix(tx_hash), message });
        size
    }

    /// Sorts the rows as ClickHouse does: by month, network, sender, time and hash. ClickHouse
    /// needs several times as long for it. Prefixes stand for whole texts: where two wallets share
    /// one, ClickHouse sorts again.
    pub(super) fn sort(&mut self) {
        let (months, networks) = (ranks(&self.months), ranks(&self.networks));
        for row in &mut self.rows {
            (row.month, row.network) = (months[row.month as usize], networks[row.network as usize]);
        }
        self.months.sort_unstable();
        self.networks.sort_unstable();
        self.rows.sort_unstable_by_key(|row| (row.month, row.network, row.sender, row.time, row.tx_hash));
    }
}

/// Returns the index of a value, which is usually one of the last, or appends it.
fn index_of<T>(values: &mut Vec<T>, matches: impl Fn(&T) -> bool, make: impl FnOnce() -> T) -> u32 {
    let index = values.iter().rposition(matches).unwrap_or_else(|| {
        values.push(make());
        values.len() - 1
    });
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// Returns the rank of each value.
fn ranks<T: Ord>(values: &[T]) -> Vec<u32> {
    values.iter().map(|value| values.iter().map(|other| u32::from(other < value)).sum()).collect()
}

/// Fields of a row that it is sorted by, in this order.
#[derive(Default)]
struct SortKey<'a> {
    network: &'a [u8],
    sender: &'a [u8],
    time: i64,
    tx_hash: &'a [u8],
}

impl<'a> SortKey<'a> {
    fn of(row: &'a [u8]) -> Result<Self, PgWireError> {
        let mut fields = Fields::of_tuple(row)?;
        let time = fields.int8()?;
        let (network, tx_hash) = (fields.required()?, fields.required()?);
        Ok(Self { network, sender: fields.required()?, time, tx_hash })
    }

    /// Reports a row of the transaction.
    fn rejected(&self, part: RowPart, reason: String) -> Rejected {
        Rejected { network: self.network.into(), tx_hash: self.tx_hash.into(), time: self.time, part, reason }
    }
}

/// Returns the first bytes of a text as a number; numbers compare as the texts do.
fn prefix(text: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    let length = text.len().min(bytes.len());
    bytes[..length].copy_from_slice(&text[..length]);
    u128::from_be_bytes(bytes)
}

impl Rows for PostgresRows {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn for_each(
        &self,
        visit: &mut dyn FnMut(&Event<'_>) -> Result<(), SidecarError>,
    ) -> Result<Vec<Rejected>, SidecarError> {
        let mut rejected = Vec::new();
        for rows in self.rows.chunks(PREFETCH_ROWS) {
            std::hint::black_box(prefetch(rows));
            for row in rows {
                match decode(&self.layout, &row.message, &mut rejected) {
                    Ok(event) => visit(&event)?,
                    Err(RowError::Malformed { reason }) => return Err(malformed(&reason)),
                    Err(RowError::Unfit { .. }) if self.layout.tombstones => {}
                    Err(RowError::Unfit { reason }) => {
                        rejected.push(SortKey::of(&row.message)?.rejected(part(&self.layout, &row.message)?, reason));
                    }
                }
            }
        }
        Ok(rejected)
    }
}

/// Rows whose bytes are prefetched before the first of them is decoded.
const PREFETCH_ROWS: usize = 16;

/// Bytes of a cache line.
const CACHE_LINE: usize = 64;

/// Reads every cache line of some rows, which are scattered in memory once they are sorted. These
/// independent reads overlap in memory; those of decoding wait for each other.
fn prefetch(rows: &[Row]) -> u8 {
    rows.iter().flat_map(|row| row.message.iter().step_by(CACHE_LINE)).fold(0, |sum, byte| sum ^ byte)
}

fn malformed(reason: &str) -> SidecarError {
    SidecarError::Protocol { detail: format!("PostgreSQL sent a malformed row: {reason}") }
}

impl From<PgWireError> for SidecarError {
    fn from(error: PgWireError) -> Self {
        malformed(&error.to_string())
    }
}

/// Returns the part of a transaction that a row is.
fn part(layout: &Layout, row: &[u8]) -> Result<RowPart, PgWireError> {
    if !layout.legs {
        return Ok(RowPart::Transaction);
    }
    let mut fields = Fields::of_tuple(row)?;
    for _ in 0..KEY_FIELDS {
        fields.nullable()?;
    }
    // Positions of internal transfers are integers.
    Ok(match i32::try_from(fields.int8()? - 1) {
        Ok(position @ 0..) => RowPart::Internal(position),
        _ => RowPart::Transaction,
    })
}

/// Decodes a row. Token transfers that the sink cannot hold are left out, and added to `rejected`.
fn decode<'a>(layout: &Layout, row: &'a [u8], rejected: &mut Vec<Rejected>) -> Result<Event<'a>, RowError> {
    let mut fields = Fields::of_tuple(row)?;
    let event_time = fields.int8()?.saturating_add(EPOCH_UNIX_MICROS);
    let (network, tx_hash) = (fields.text()?, fields.text()?);
    if !(0..END_HOUR).contains(&event_time.div_euclid(HOUR_MICROS)) {
        return Err(RowError::Unfit { reason: "timestamp does not fit DateTime (1970 to 2106)".into() });
    }
    let mut event = Event::of_key(event_time, network, tx_hash, fields.text()?, fields.optional_text()?);
    if layout.tombstones || layout.legs {
        let leg = fields.int8()?;
        event.leg = u32::try_from(leg).map_err(|_| RowError::out_of_range("position", leg, "UInt32"))?;
    }
    if layout.tombstones {
        return Ok(event);
    }
    if layout.legs {
        event.kind = fields.text()?;
        event.is_ordered = fields.required()? == [1];
    }
    event.deleted = false;
    let block_number = fields.int8()?;
    event.block_number =
        u64::try_from(block_number).map_err(|_| RowError::out_of_range("block_number", block_number, "UInt64"))?;
    event.value = decode_units(fields.required()?, COIN_SCALE, VALUE_END, "value", "Decimal(38, 18)")?;
    event.status = fields.text()?;
    event.metadata = fields.optional_text()?.map(metadata::document);
    event.optional = OptionalValues::decode(|| Ok(fields.nullable()?))?;
    event.counted_by = if layout.uncounted {
        CountedBy::Rebuild
    } else {
        match fields.int2()? {
            0 => CountedBy::View,
            1 => CountedBy::Repair,
            _ => CountedBy::NoOne,
        }
    };
    if !layout.extra_columns.is_empty() {
        event.extra_values = layout
            .extra_columns
            .iter()
            .map(|column| extra_value(column, fields.nullable()?))
            .collect::<Result<_, RowError>>()?;
    }
    if layout.transfers {
        event.transfers = transfers(&mut fields, row, rejected)?;
    }
    Ok(event)
}

/// Days and microseconds since 1970 that `Date32` and `DateTime64` hold: the years 1900 to 2299.
const DAYS: Range<i64> = -25_567..120_530;
const DAY_MICROS: i64 = 24 * HOUR_MICROS;

/// Days from 1970 to 2000, from which PostgreSQL counts.
const EPOCH_UNIX_DAYS: i64 = 10_957;

fn extra_value<'a>(column: &ExtraColumn, raw: Option<&'a [u8]>) -> Result<Value<'a>, RowError> {
    let Some(raw) = raw else { return Ok(Value::Null) };
    let Some(width) = column.kind.width() else { return Ok(Value::Text(copy::text(raw)?)) };
    let unfit =
        |target: &str| RowError::Unfit { reason: format!("{} does not fit {target} (1900 to 2299)", column.name) };
    let value: i128 = match column.kind {
        ValueKind::Decimal(scale) => {
            decode_units(raw, scale.into(), VALUE_END, &column.name, &format!("Decimal(38, {scale})"))?
        }
        // `infinity` is the largest number.
        ValueKind::Timestamp => {
            let micros = copy::int8(raw)?.saturating_add(EPOCH_UNIX_MICROS);
            let fits = DAYS.contains(&micros.div_euclid(DAY_MICROS));
            if fits { micros.into() } else { return Err(unfit("DateTime64")) }
        }
        ValueKind::Date => {
            let days = i64::from(copy::int4(raw)?) + EPOCH_UNIX_DAYS;
            if DAYS.contains(&days) { days.into() } else { return Err(unfit("Date32")) }
        }
        _ => {
            if raw.len() != width {
                return Err(RowError::Malformed { reason: "an extra column has changed its type".into() });
            }
            let mut bytes = [0; 16];
            // PostgreSQL sends big-endian numbers.
            for (to, from) in bytes.iter_mut().zip(raw.iter().rev()) {
                *to = *from;
            }
            return Ok(Value::Fixed(bytes, width));
        }
    };
    Ok(Value::Fixed(value.to_le_bytes(), width))
}

fn transfers<'a>(
    fields: &mut Fields<'a>,
    row: &[u8],
    rejected: &mut Vec<Rejected>,
) -> Result<Vec<Transfer<'a>>, RowError> {
    let log_indexes = fields.array()?;
    let (tokens, senders, receivers) = (fields.array()?, fields.array()?, fields.array()?);
    let (amounts, values) = (fields.array()?, fields.array()?);
    let missing = || RowError::Malformed { reason: "arrays of token transfers differ in length".into() };
    let at = |array: &[Option<&'a [u8]>], index: usize| array.get(index).copied().flatten().ok_or_else(missing);
    let transfer = |index: usize, log_index: i32| -> Result<Transfer<'a>, RowError> {
        Ok(Transfer {
            log_index: u32::try_from(log_index)
                .map_err(|_| RowError::out_of_range("log_index", log_index, "UInt32"))?,
            token: copy::text(at(&tokens, index)?)?,
            from: copy::text(at(&senders, index)?)?,
            to: copy::text(at(&receivers, index)?)?,
            amount: decode_wire(at(&amounts, index)?, 0)
                .map_err(|error| RowError::out_of_range("amount", format_args!("({error})"), "UInt256"))?,
            value_usd: values
                .get(index)
                .ok_or_else(missing)?
                .map(|raw| decode_dollars(raw, "value_usd"))
                .transpose()?,
        })
    };
    let mut transfers = Vec::with_capacity(log_indexes.len());
    for index in 0..log_indexes.len() {
        let log_index = copy::int4(at(&log_indexes, index)?)?;
        match transfer(index, log_index) {
            Ok(transfer) => transfers.push(transfer),
            Err(RowError::Unfit { reason }) => {
                rejected.push(SortKey::of(row)?.rejected(RowPart::Token(log_index), reason))
            }
            Err(error) => return Err(error),
        }
    }
    Ok(transfers)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn malformed_rows_are_errors(row in proptest::collection::vec(any::<u8>(), 0..200), flags in 0_u8..16) {
            let layout = Layout {
                tombstones: flags & 1 == 1,
                transfers: flags & 2 == 2,
                uncounted: flags & 4 == 4,
                legs: flags & 8 == 8,
                extra_columns: vec![ExtraColumn { name: "x".into(), kind: ValueKind::Int32 }],
            };
            let _ = (decode(&layout, &row, &mut Vec::new()), part(&layout, &row));
        }
    }

    /// Returns a former row in the form of COPY.
    fn former(time: i64, network: &str, tx_hash: &str, sender: &str) -> Bytes {
        let mut row = 6_i16.to_be_bytes().to_vec();
        let fields = [&time.to_be_bytes()[..], network.as_bytes(), tx_hash.as_bytes(), sender.as_bytes()];
        for field in fields {
            row.extend(i32::try_from(field.len()).unwrap().to_be_bytes());
            row.extend(field);
        }
        row.extend((-1_i32).to_be_bytes());
        row.extend(8_i32.to_be_bytes());
        row.extend(0_i64.to_be_bytes());
        row.into()
    }

    #[test]
    fn rows_are_sorted_in_clickhouse_order() {
        let layout = Layout { tombstones: true, ..Layout::default() };
        let mut rows = PostgresRows::new(Arc::new(layout), 0);
        let sorted = [
            (9, "bitcoin", "h", "bc1"),
            (2, "ethereum", "0x9", "0x000000000000000000a"),
            (3, "ethereum", "0x1", "0x000000000000000000a"),
            (3, "ethereum", "0x2", "0x000000000000000000a"),
            (1, "ethereum", "0x0", "0x1"),
            (1, "polygon", "0x0", "0x0"),
            // February comes after all of January.
            (40 * 24 * HOUR_MICROS, "bitcoin", "a", "bc1"),
        ];
        for index in [6, 5, 3, 4, 0, 2, 1] {
            let (time, network, tx_hash, sender) = sorted[index];
            assert!(rows.push(former(time, network, tx_hash, sender)) > 0);
        }
        rows.push(Bytes::from_static(&[0, 5, 0]));
        rows.sort();
        let mut seen = Vec::new();
        let outcome = rows.for_each(&mut |event| {
            seen.push((event.network.to_owned(), event.tx_hash.to_owned(), event.from_address.to_owned()));
            Ok(())
        });
        assert!(outcome.is_err(), "the malformed row is reported");
        rows.rows.retain(|row| row.message.len() > 3);
        seen.clear();
        rows.for_each(&mut |event| {
            seen.push((event.network.to_owned(), event.tx_hash.to_owned(), event.from_address.to_owned()));
            Ok(())
        })
        .unwrap();
        let expected: Vec<_> = sorted
            .iter()
            .map(|(_, network, hash, sender)| (network.to_string(), hash.to_string(), sender.to_string()))
            .collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn times_days_and_decimals_are_values_of_their_kind() {
        let value = |kind, raw: &[u8]| {
            let column = ExtraColumn { name: "x".into(), kind };
            extra_value(&column, Some(raw)).map(|value| match value {
                Value::Fixed(bytes, width) => (i128::from_le_bytes(bytes), width),
                other => panic!("{other:?}"),
            })
        };
        assert_eq!(value(ValueKind::Timestamp, &0_i64.to_be_bytes()), Ok((i128::from(EPOCH_UNIX_MICROS), 8)));
        assert_eq!(value(ValueKind::Date, &(-10_958_i32).to_be_bytes()), Ok((-1, 4)));
        // -1.5 in base 10,000: two digits, weight 0, negative, scale 1.
        let numeric: Vec<u8> = [2_i16, 0, 0x4000, 1, 1, 5000].into_iter().flat_map(i16::to_be_bytes).collect();
        assert_eq!(value(ValueKind::Decimal(8), &numeric), Ok((-150_000_000, 16)));
        for (kind, raw) in [
            (ValueKind::Timestamp, &i64::MAX.to_be_bytes()[..]),
            (ValueKind::Timestamp, &i64::MIN.to_be_bytes()[..]),
            (ValueKind::Date, &i32::MAX.to_be_bytes()[..]),
            (ValueKind::Date, &(-73_000_i32).to_be_bytes()[..]),
        ] {
            assert!(matches!(value(kind, raw), Err(RowError::Unfit { .. })), "{kind:?}");
        }
        assert!(value(ValueKind::Int32, &[0, 1]).is_err());
    }

    #[test]
    fn names_of_extra_columns_are_quoted() {
        let extra_columns = vec![ExtraColumn { name: "a\" b".into(), kind: ValueKind::Text }];
        let text = Layout { extra_columns, ..Layout::default() }.select("arx.transactions AS t", "0", "true");
        assert!(text.contains(", t.\"a\"\" b\"::text"), "{text}");
    }

    #[test]
    fn header_and_trailer_of_a_copy_are_not_rows() {
        let mut rows = PostgresRows::new(Arc::default(), 0);
        let head: Vec<u8> = [copy::HEADER, &[0, 1, 0, 0, 0, 0]].concat();
        assert_eq!(rows.push(head.into()), 6);
        assert_eq!(rows.push(Bytes::from_static(&[0xff, 0xff])), 0);
        assert_eq!(rows.len(), 1);
    }
}
