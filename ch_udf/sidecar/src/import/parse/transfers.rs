//! Parses ethereum-etl's token transfers, CSV or JSON lines, into rows of `arx.token_transfers`.
//! Older CSV files have no time: the rows then take the time of their transaction while loading.

use arx_pgwire::copy::TupleBuffer;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::csv_line::{Header, Splitter};
use super::json::{self, JsonText};
use super::values::{Context, INTEGER_LIMITS, Parsed, RowParser, bigint, required, uint256, whole};
use crate::import::error::{ImportError, LineError};

/// Columns of a tuple, in order; a tuple without time begins with its line number.
pub(crate) const COLUMNS: &str =
    "network, tx_hash, log_index, block_number, \"timestamp\", token_address, from_address, to_address, amount";

/// Number of [`COLUMNS`].
const COLUMN_COUNT: i16 = 9;

/// Required columns.
const REQUIRED: [&str; 7] =
    ["token_address", "from_address", "to_address", "value", "transaction_hash", "log_index", "block_number"];

/// Optional columns.
const OPTIONAL: [&str; 1] = [TIME];

/// Column of newer files.
const TIME: &str = "block_timestamp";

/// Encodes the rows of one file.
#[derive(Debug, Clone)]
struct TransferEncoder {
    context: Context,
    dated: bool,
}

impl TransferEncoder {
    /// Validates and encodes the values of a line, in the order of [`REQUIRED`] and [`OPTIONAL`].
    fn encode(&self, number: u64, texts: [Option<&str>; 8], out: &mut TupleBuffer) -> Result<Parsed, LineError> {
        let [token, from, to, value, hash, log_index, block_number, time] = texts;
        let context = &self.context;
        let tx_hash = context.hash("transaction_hash", hash)?;
        let log_index: i32 = whole("log_index", required("log_index", log_index)?, INTEGER_LIMITS)?;
        let block_number = bigint("block_number", block_number)?;
        let unix_seconds = match time {
            None if !self.dated => None,
            text => Some(context.time(TIME, text)?),
        };
        let token = context.address("token_address", token)?;
        let from = context.address("from_address", from)?;
        let to = context.address("to_address", to)?;
        let amount = uint256("value", value)?;
        if self.dated {
            out.begin(COLUMN_COUNT);
        } else {
            out.begin(COLUMN_COUNT + 1);
            out.int8(i64::try_from(number).unwrap_or(i64::MAX));
        }
        out.text(context.network());
        out.text(&tx_hash);
        out.int4(log_index);
        out.int8(block_number);
        match unix_seconds {
            Some(seconds) => out.timestamp(seconds),
            None => out.null(),
        }
        out.text(token.as_str());
        out.text(from.as_str());
        out.text(to.as_str());
        out.uint256(amount);
        Ok(Parsed::Row { unix_seconds })
    }
}

/// Returns true if rows carry their time, judged by the first line: a CSV header or the first
/// object.
pub(crate) fn is_dated(first_line: &[u8]) -> bool {
    memchr::memmem::find(first_line, TIME.as_bytes()).is_some()
}

/// Token transfers as CSV.
pub(crate) struct CsvTransfers {
    rows: TransferEncoder,
    header: Header,
    splitter: Splitter,
}

impl CsvTransfers {
    pub(crate) fn new(context: Context, file: &str, header: &[u8]) -> Result<Self, ImportError> {
        let rows = TransferEncoder { context, dated: is_dated(header) };
        let header = Header::parse(file, header, &REQUIRED, &OPTIONAL)?;
        Ok(Self { rows, header, splitter: Splitter::default() })
    }
}

impl RowParser for CsvTransfers {
    fn parse(&mut self, number: u64, line: &str, out: &mut TupleBuffer) -> Result<Parsed, LineError> {
        self.rows.encode(number, self.header.columns(&mut self.splitter, line)?, out)
    }
}

/// Fields of a JSON line, unparsed.
#[derive(Deserialize)]
struct JsonTransfer<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    token_address: Option<&'a RawValue>,
    #[serde(borrow)]
    from_address: Option<&'a RawValue>,
    #[serde(borrow)]
    to_address: Option<&'a RawValue>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    #[serde(borrow)]
    transaction_hash: Option<&'a RawValue>,
    #[serde(borrow)]
    log_index: Option<&'a RawValue>,
    #[serde(borrow)]
    block_number: Option<&'a RawValue>,
    #[serde(borrow)]
    block_timestamp: Option<&'a RawValue>,
}

/// Token transfers as JSON lines; lines of another `type` are skipped.
pub(crate) struct JsonTransfers {
    rows: TransferEncoder,
}

impl JsonTransfers {
    pub(crate) fn new(context: Context, first_line: &[u8]) -> Self {
        Self { rows: TransferEncoder { context, dated: is_dated(first_line) } }
    }
}

impl RowParser for JsonTransfers {
    fn parse(&mut self, number: u64, line: &str, out: &mut TupleBuffer) -> Result<Parsed, LineError> {
        let fields: JsonTransfer<'_> = json::parse(line)?;
        if !json::is_kind(fields.kind, "token_transfer")? {
            return Ok(Parsed::Skipped);
        }
        let texts = [
            JsonText::of(fields.token_address)?,
            JsonText::of(fields.from_address)?,
            JsonText::of(fields.to_address)?,
            JsonText::of(fields.value)?,
            JsonText::of(fields.transaction_hash)?,
            JsonText::of(fields.log_index)?,
            JsonText::of(fields.block_number)?,
            JsonText::of(fields.block_timestamp)?,
        ];
        self.rows.encode(number, texts.each_ref().map(JsonText::get), out)
    }
}

#[cfg(test)]
mod tests {
    use super::super::decode;
    use super::super::values::fixtures::ethereum;
    use super::*;

    const HASH: &str = "0xeb107a40ba73a50c79a9f2026e902d758d1c5e5e211f7a7db1b294f88f118dd0";
    const TOKEN: &str = "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2";
    const LARGEST: &str = "115792089237316195423570985008687907853269984665640564039457584007913129639935";

    #[test]
    fn a_csv_without_time_gives_its_rows_their_line_number() {
        let header = b"block_number,token_address,from_address,to_address,value,transaction_hash,log_index";
        let mut parser = CsvTransfers::new(ethereum(), "f.csv", header).unwrap();
        let mut out = TupleBuffer::default();
        let line = format!("9,{TOKEN},{TOKEN},{TOKEN},{LARGEST},{HASH},4");
        assert_eq!(parser.parse(7, &line, &mut out), Ok(Parsed::Row { unix_seconds: None }));
        let row = decode::tuples(&out.into_bytes()).remove(0);
        assert_eq!(row[0], Some(7_i64.to_be_bytes().to_vec()));
        assert_eq!(row[5], None);
        assert_eq!(decode::numeric(row[9].as_ref().unwrap()), LARGEST);
    }

    #[test]
    fn amounts_beyond_uint256_and_below_zero_are_named() {
        let header = b"token_address,from_address,to_address,value,transaction_hash,log_index,block_number";
        let mut parser = CsvTransfers::new(ethereum(), "f.csv", header).unwrap();
        for bad in [format!("{LARGEST}0"), "-1".to_owned(), "1.5".to_owned()] {
            let mut out = TupleBuffer::default();
            let line = format!("{TOKEN},{TOKEN},{TOKEN},{bad},{HASH},4,9");
            let error = parser.parse(2, &line, &mut out).unwrap_err();
            assert!(error.to_string().contains(&bad), "{error}");
            assert_eq!(out.len(), 0);
        }
    }

    #[test]
    fn a_streamed_json_line_carries_its_time() {
        let line = format!(
            r#"{{"type": "token_transfer", "token_address": "{TOKEN}", "from_address": "{TOKEN}", "to_address": "{TOKEN}",
            "value": {LARGEST}, "transaction_hash": "{HASH}", "log_index": 0, "block_number": 17173049,
            "block_timestamp": 1683029999}}"#
        );
        let mut parser = JsonTransfers::new(ethereum(), line.as_bytes());
        let mut out = TupleBuffer::default();
        assert_eq!(parser.parse(1, &line, &mut out), Ok(Parsed::Row { unix_seconds: Some(1_683_029_999) }));
        let row = decode::tuples(&out.into_bytes()).remove(0);
        assert_eq!(row.len(), 9);
        assert_eq!(decode::numeric(row[8].as_ref().unwrap()), LARGEST);
    }
}
