//! Rows of `arx.transactions` as `COPY … (FORMAT binary)` gives them. Owns the columns that are
//! read, their order, and how bytes become an event; nothing is copied on the way. It must not send
//! anything.

use std::sync::Arc;

use arx_core::amount::COIN_SCALE;
use arx_pgwire::copy::{self, Fields, TRAILER};
use arx_pgwire::numeric::{decode_wire, decode_wire_signed};
use arx_pgwire::{EPOCH_UNIX_MICROS, PgWireError};
use bytes::{Buf, Bytes};

use super::super::columns::{DOLLAR_SCALE, OPTIONAL, OptionalValues};
use super::super::model::{Counted, Event, FurtherColumn, HOUR_MICROS, Month, Rows, Transfer, Value, ValueKind};
use crate::error::SidecarError;

/// 2106-02-07 06:00 is the first hour that a `DateTime` cannot hold.
const HOURS: i64 = 4_294_965_600_000_000 / HOUR_MICROS;

/// Required columns of a transaction `t`: those of a tombstone first, in the same order.
const REQUIRED_COLUMNS: &str = "t.\"timestamp\", t.network, t.tx_hash, t.from_address, t.to_address, \
    t.block_number, t.value, t.status, \
    (CASE WHEN t.metadata IS NULL OR jsonb_typeof(t.metadata) = 'object' THEN t.metadata \
          ELSE jsonb_build_object('value', t.metadata) END)::text";

/// Token transfers of a transaction `t`, as arrays.
const TRANSFERS: &str = "LEFT JOIN LATERAL (SELECT array_agg(x.log_index ORDER BY x.log_index) AS log_index, \
        array_agg(x.token_address ORDER BY x.log_index) AS token, array_agg(x.from_address ORDER BY x.log_index) AS sender, \
        array_agg(x.to_address ORDER BY x.log_index) AS receiver, array_agg(x.amount ORDER BY x.log_index) AS amount, \
        array_agg(x.value_usd ORDER BY x.log_index) AS usd \
      FROM arx.token_transfers AS x \
     WHERE x.network = t.network AND x.tx_hash = t.tx_hash AND x.\"timestamp\" = t.\"timestamp\") AS x ON true";

const TRANSFER_COLUMNS: &str = ", x.log_index, x.token, x.sender, x.receiver, x.amount, x.usd";

/// What a row consists of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Layout {
    /// Only the key of a former self.
    pub tombstones: bool,
    /// Without a word on who counts a row: a rebuild counts all of them.
    pub uncounted: bool,
    /// Whether there are token transfers at all.
    pub transfers: bool,
    /// Columns beside those that are known.
    pub further: Vec<FurtherColumn>,
}

/// `name` as an identifier.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Layout {
    /// `SELECT` of transactions; `from` names them `t`, `counted` is an expression of 0 (view), 1
    /// (repair) or 2 (already), left out where the rows are uncounted.
    pub(super) fn select(&self, from: &str, counted: &str, condition: &str) -> String {
        let optional = OPTIONAL.iter().fold(String::new(), |text, column| text + ", t." + column.name);
        let further = self.further.iter().fold(String::new(), |mut text, column| {
            let cast = if column.kind == ValueKind::Text { "::text" } else { "" };
            text.push_str(&format!(", t.{}{cast}", quoted(&column.name)));
            text
        });
        let (columns, join) = if self.transfers { (TRANSFER_COLUMNS, TRANSFERS) } else { ("", "") };
        let counted = if self.uncounted { String::new() } else { format!(", ({counted})::int2") };
        format!("SELECT {REQUIRED_COLUMNS}{optional}{counted}{further}{columns} FROM {from} {join} WHERE {condition}")
    }

    /// `SELECT` of the keys of former selves out of `arx.transaction_changes`.
    pub(super) fn select_former(condition: &str) -> String {
        format!(
            "SELECT \"timestamp\", network, tx_hash, from_address, to_address FROM arx.transaction_changes \
              WHERE relation = 'transactions' AND {condition}"
        )
    }
}

/// Rows of one layout, each as its message came.
#[derive(Debug)]
pub(crate) struct PostgresRows {
    layout: Arc<Layout>,
    rows: Vec<Row>,
    /// Networks in the order in which they came.
    networks: Vec<Bytes>,
    /// Months, too.
    months: Vec<Month>,
}

/// A message, and what it is sorted by, read while it is at hand.
#[derive(Debug)]
struct Row {
    /// Number of its month.
    month: u32,
    /// Number of its network.
    network: u32,
    /// The sender's first bytes.
    sender: u128,
    time: i64,
    /// The hash's first bytes.
    tx_hash: u128,
    message: Bytes,
}

impl PostgresRows {
    pub(super) fn new(layout: Arc<Layout>, capacity: usize) -> Self {
        Self { layout, rows: Vec::with_capacity(capacity), networks: Vec::new(), months: Vec::new() }
    }

    /// Takes a message of the copy stream over. Returns the bytes of the row, 0 if there was none
    /// in it.
    pub(super) fn push(&mut self, mut message: Bytes) -> usize {
        message.advance(copy::header_length(&message));
        if message.len() < TRAILER.len() || message.starts_with(TRAILER) {
            return 0;
        }
        let size = message.len();
        // where a row stands that cannot be read does not matter: whoever looks at it is told
        let Place { network, sender, time, tx_hash } = Place::of(&message).unwrap_or_default();
        let network = number_of(&mut self.networks, |known| known == network, || message.slice_ref(network));
        let micros = time.saturating_add(EPOCH_UNIX_MICROS);
        let month = number_of(&mut self.months, |known| known.contains(micros), || Month::of(micros));
        self.rows.push(Row { month, network, sender: beginning(sender), time, tx_hash: beginning(tx_hash), message });
        size
    }

    /// Puts the rows into the order in which ClickHouse keeps them: month, network, sender, time
    /// and hash. It needs several times as long for it. Beginnings of texts stand for the whole:
    /// where two wallets share one, ClickHouse sorts again.
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

/// The number of what is looked for, which is one of the last, or is put there.
fn number_of<T>(known: &mut Vec<T>, is_it: impl Fn(&T) -> bool, make: impl FnOnce() -> T) -> u32 {
    let place = known.iter().rposition(is_it).unwrap_or_else(|| {
        known.push(make());
        known.len() - 1
    });
    u32::try_from(place).unwrap_or(u32::MAX)
}

/// Places that all of them have in their order.
fn ranks<T: Ord>(of: &[T]) -> Vec<u32> {
    of.iter().map(|one| of.iter().map(|other| u32::from(other < one)).sum()).collect()
}

/// What a row is sorted by, in this order.
#[derive(Default)]
struct Place<'a> {
    network: &'a [u8],
    sender: &'a [u8],
    time: i64,
    tx_hash: &'a [u8],
}

impl<'a> Place<'a> {
    fn of(row: &'a [u8]) -> Result<Self, PgWireError> {
        let mut fields = Fields::of_tuple(row)?;
        let time = fields.int8()?;
        let (network, tx_hash) = (fields.required()?, fields.required()?);
        Ok(Self { network, sender: fields.required()?, time, tx_hash })
    }
}

/// The first bytes of a text, such that numbers are in the order of texts.
fn beginning(text: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    let length = text.len().min(bytes.len());
    bytes[..length].copy_from_slice(&text[..length]);
    u128::from_be_bytes(bytes)
}

impl Rows for PostgresRows {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn each(&self, look: &mut dyn FnMut(&Event<'_>) -> Result<(), SidecarError>) -> Result<(), SidecarError> {
        for rows in self.rows.chunks(AHEAD) {
            std::hint::black_box(fetched(rows));
            for row in rows {
                look(&decode(&self.layout, &row.message)?)?;
            }
        }
        Ok(())
    }
}

/// Rows whose bytes are fetched before the first of them is decoded.
const AHEAD: usize = 16;

/// Bytes that memory hands over at once.
const LINE: usize = 64;

/// Looks at every line of rows that lie scattered, as they do once they are sorted: memory answers
/// many questions at a time if none waits for the answer to another one, as those of decoding do.
fn fetched(rows: &[Row]) -> u8 {
    rows.iter().flat_map(|row| row.message.iter().step_by(LINE)).fold(0, |seen, byte| seen ^ byte)
}

fn malformed(what: &str) -> SidecarError {
    SidecarError::Protocol { detail: format!("PostgreSQL sent a row that cannot be read: {what}") }
}

impl From<PgWireError> for SidecarError {
    fn from(error: PgWireError) -> Self {
        malformed(&error.to_string())
    }
}

/// What is needed to say which row a value is of.
struct Key<'a> {
    network: &'a str,
    tx_hash: &'a str,
}

impl Key<'_> {
    fn out_of_range(&self, column: &'static str, value: impl Into<String>, target: &'static str) -> SidecarError {
        SidecarError::ValueOutOfRange {
            network: self.network.to_owned(),
            tx_hash: self.tx_hash.to_owned(),
            column,
            value: value.into(),
            target,
        }
    }

    fn whole(&self, value: i64, column: &'static str) -> Result<u64, SidecarError> {
        u64::try_from(value).map_err(|_| self.out_of_range(column, value.to_string(), "UInt64"))
    }

    fn exact(&self, raw: &[u8], scale: u32, column: &'static str, target: &'static str) -> Result<i128, SidecarError> {
        decode_wire_signed(raw, scale).map_err(|error| self.out_of_range(column, format!("({error})"), target))
    }
}

fn decode<'a>(layout: &Layout, row: &'a [u8]) -> Result<Event<'a>, SidecarError> {
    let mut fields = Fields::of_tuple(row)?;
    let event_time = fields.int8()?.saturating_add(EPOCH_UNIX_MICROS);
    let key = Key { network: fields.text()?, tx_hash: fields.text()? };
    if !(0..HOURS).contains(&event_time.div_euclid(HOUR_MICROS)) {
        let shown = format!("{event_time} µs since 1970");
        return Err(key.out_of_range("timestamp", shown, "DateTime (1970 to 2106)"));
    }
    let mut event = Event::of_key(event_time, key.network, key.tx_hash, fields.text()?, fields.optional_text()?);
    if layout.tombstones {
        return Ok(event);
    }
    event.deleted = false;
    event.block_number = key.whole(fields.int8()?, "block_number")?;
    event.value = key.exact(fields.required()?, COIN_SCALE, "value", "Decimal(38, 18)")?;
    event.status = fields.text()?;
    event.metadata = fields.optional_text()?;
    let out_of_range = |column, value, target| key.out_of_range(column, value, target);
    event.optional = OptionalValues::decode(|| Ok(fields.nullable()?), &out_of_range)?;
    event.counted = if layout.uncounted {
        Counted::ByRebuild
    } else {
        match fields.int2()? {
            0 => Counted::ByView,
            1 => Counted::ByRepair,
            _ => Counted::Already,
        }
    };
    if !layout.further.is_empty() {
        event.further =
            layout.further.iter().map(|column| further(column.kind, fields.nullable()?)).collect::<Result<_, _>>()?;
    }
    if layout.transfers {
        event.transfers = transfers(&mut fields, &key)?;
    }
    Ok(event)
}

fn further(kind: ValueKind, raw: Option<&[u8]>) -> Result<Value<'_>, SidecarError> {
    let Some(raw) = raw else { return Ok(Value::Null) };
    let Some(width) = kind.width() else { return Ok(Value::Text(copy::text(raw)?)) };
    if raw.len() != width {
        return Err(malformed("a further column has another type than it had"));
    }
    let mut bytes = [0; 8];
    // PostgreSQL sends the most significant byte first
    for (to, from) in bytes.iter_mut().zip(raw.iter().rev()) {
        *to = *from;
    }
    Ok(Value::Fixed(bytes, width))
}

fn transfers<'a>(fields: &mut Fields<'a>, key: &Key<'_>) -> Result<Vec<Transfer<'a>>, SidecarError> {
    let places = fields.array()?;
    let (tokens, senders, receivers) = (fields.array()?, fields.array()?, fields.array()?);
    let (amounts, values) = (fields.array()?, fields.array()?);
    let missing = || malformed("arrays of token transfers differ in length");
    let at = |array: &[Option<&'a [u8]>], index: usize| array.get(index).copied().flatten().ok_or_else(missing);
    (0..places.len())
        .map(|index| {
            let place = copy::int4(at(&places, index)?)?;
            let amount = decode_wire(at(&amounts, index)?, 0)
                .map_err(|error| key.out_of_range("token amount", format!("({error})"), "UInt256"))?;
            let usd = values.get(index).ok_or_else(missing)?;
            Ok(Transfer {
                log_index: u32::try_from(place)
                    .map_err(|_| key.out_of_range("log_index", place.to_string(), "UInt32"))?,
                token: copy::text(at(&tokens, index)?)?,
                from: copy::text(at(&senders, index)?)?,
                to: copy::text(at(&receivers, index)?)?,
                amount,
                value_usd: usd
                    .map(|raw| key.exact(raw, DOLLAR_SCALE, "value_usd of a token transfer", "Decimal(20, 2)"))
                    .transpose()?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn garbage_is_refused_without_a_panic(row in proptest::collection::vec(any::<u8>(), 0..200), flags in 0_u8..8) {
            let layout = Layout {
                tombstones: flags & 1 == 1,
                transfers: flags & 2 == 2,
                uncounted: flags & 4 == 4,
                further: vec![FurtherColumn { name: "x".into(), kind: ValueKind::Int32 }],
            };
            let _ = decode(&layout, &row);
        }
    }

    /// A row of former selves, as COPY sends it.
    fn former(time: i64, network: &str, tx_hash: &str, sender: &str) -> Bytes {
        let mut row = 5_i16.to_be_bytes().to_vec();
        let fields = [&time.to_be_bytes()[..], network.as_bytes(), tx_hash.as_bytes(), sender.as_bytes()];
        for field in fields {
            row.extend(i32::try_from(field.len()).unwrap().to_be_bytes());
            row.extend(field);
        }
        row.extend((-1_i32).to_be_bytes());
        row.into()
    }

    #[test]
    fn rows_come_in_the_order_in_which_clickhouse_keeps_them() {
        let layout = Layout { tombstones: true, ..Layout::default() };
        let mut rows = PostgresRows::new(Arc::new(layout), 0);
        let sorted = [
            (9, "bitcoin", "h", "bc1"),
            (2, "ethereum", "0x9", "0x000000000000000000a"),
            (3, "ethereum", "0x1", "0x000000000000000000a"),
            (3, "ethereum", "0x2", "0x000000000000000000a"),
            (1, "ethereum", "0x0", "0x1"),
            (1, "polygon", "0x0", "0x0"),
            // February comes after all of January
            (40 * 24 * HOUR_MICROS, "bitcoin", "a", "bc1"),
        ];
        for place in [6, 5, 3, 4, 0, 2, 1] {
            let (time, network, tx_hash, sender) = sorted[place];
            assert!(rows.push(former(time, network, tx_hash, sender)) > 0);
        }
        rows.push(Bytes::from_static(&[0, 5, 0]));
        rows.sort();
        let mut seen = Vec::new();
        let outcome = rows.each(&mut |event| {
            seen.push((event.network.to_owned(), event.tx_hash.to_owned(), event.from_address.to_owned()));
            Ok(())
        });
        assert!(outcome.is_err(), "the row that cannot be read is told of");
        rows.rows.retain(|row| row.message.len() > 3);
        seen.clear();
        rows.each(&mut |event| {
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
    fn names_of_further_columns_cannot_leave_their_quotes() {
        let further = vec![FurtherColumn { name: "a\" b".into(), kind: ValueKind::Text }];
        let text = Layout { further, ..Layout::default() }.select("arx.transactions AS t", "0", "true");
        assert!(text.contains(", t.\"a\"\" b\"::text"), "{text}");
    }

    #[test]
    fn the_head_and_the_end_of_a_copy_are_no_rows() {
        let mut rows = PostgresRows::new(Arc::default(), 0);
        let head: Vec<u8> = [copy::HEADER, &[0, 1, 0, 0, 0, 0]].concat();
        assert_eq!(rows.push(head.into()), 6);
        assert_eq!(rows.push(Bytes::from_static(&[0xff, 0xff])), 0);
        assert_eq!(rows.len(), 1);
    }
}
