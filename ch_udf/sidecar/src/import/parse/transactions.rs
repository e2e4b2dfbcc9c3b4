//! Parses ethereum-etl's transactions, CSV or JSON lines, into rows of `arx.transactions`.

use arx_core::address::Address;
use arx_core::amount::COIN_SCALE;
use arx_pgwire::copy::TupleBuffer;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::csv_line::{Header, Splitter};
use super::json::{self, JsonText};
use super::values::{Context, INTEGER_LIMITS, Parsed, RowParser, bigint, optional_bigint, whole};
use crate::import::error::{ImportError, LineError};

/// Columns of a tuple, in order.
pub(crate) const COLUMNS: &str = "network, tx_hash, block_number, transaction_index, \"timestamp\", from_address, to_address, \
                                  value, gas_used, gas_price, status, metadata";

/// Number of [`COLUMNS`].
const COLUMN_COUNT: i16 = 12;

/// Required columns.
const REQUIRED: [&str; 6] = ["hash", "block_number", "from_address", "to_address", "value", "block_timestamp"];

/// Optional columns.
const OPTIONAL: [&str; 6] = [
    "transaction_index",
    "gas_price",
    "receipt_gas_used",
    "receipt_effective_gas_price",
    "receipt_status",
    "receipt_contract_address",
];

/// A validated row.
#[derive(Default)]
pub(crate) struct TransactionRow<'a> {
    /// Hash, or another name unique within the network.
    pub(crate) tx_hash: &'a str,
    /// Height of its block.
    pub(crate) block_number: i64,
    /// Position in the block.
    pub(crate) transaction_index: Option<i32>,
    /// Time of its block.
    pub(crate) unix_seconds: i64,
    pub(crate) from: &'a str,
    /// Receiver, normalised; `None` for a contract creation.
    pub(crate) to: Option<&'a str>,
    /// Value in units of 10⁻¹⁸ coin.
    pub(crate) units: u128,
    pub(crate) gas_used: Option<i64>,
    /// Gas price in the coin's smallest units.
    pub(crate) gas_price: Option<i64>,
    /// True if the transaction was reverted.
    pub(crate) failed: bool,
    pub(crate) metadata: Option<&'a str>,
}

impl TransactionRow<'_> {
    /// Encodes the row in the order of [`COLUMNS`].
    pub(crate) fn encode(&self, network: &str, out: &mut TupleBuffer) {
        out.begin(COLUMN_COUNT);
        out.text(network);
        out.text(self.tx_hash);
        out.int8(self.block_number);
        match self.transaction_index {
            Some(index) => out.int4(index),
            None => out.null(),
        }
        out.timestamp(self.unix_seconds);
        out.text(self.from);
        out.optional_text(self.to);
        out.numeric(self.units.into(), COIN_SCALE);
        for number in [self.gas_used, self.gas_price] {
            match number {
                Some(number) => out.int8(number),
                None => out.null(),
            }
        }
        out.text(if self.failed { "failed" } else { "confirmed" });
        match self.metadata {
            Some(document) => out.jsonb(document),
            None => out.null(),
        }
    }
}

/// Values of a line in the order of [`REQUIRED`] and [`OPTIONAL`], from CSV or JSON.
type Texts<'a> = [Option<&'a str>; 12];

/// Validates the values of a line and calls `with` with the row.
fn checked<T>(context: &Context, texts: Texts<'_>, with: impl FnOnce(TransactionRow<'_>) -> T) -> Result<T, LineError> {
    let [hash, block_number, from, to, value, time, index, gas_price, gas_used, effective_price, status, contract] =
        texts;
    let tx_hash = context.hash("hash", hash)?;
    let from = context.address("from_address", from)?;
    let to = context.optional_address("to_address", to)?;
    let contract = context.optional_address("receipt_contract_address", contract)?;
    let metadata = contract.map(|contract| serde_json::json!({ "contract_address": contract.as_str() }).to_string());
    let gas_price = match effective_price {
        Some(_) => optional_bigint("receipt_effective_gas_price", effective_price)?,
        None => optional_bigint("gas_price", gas_price)?,
    };
    let failed = match status {
        None | Some("1") => false,
        Some("0") => true,
        Some(text) => {
            return Err(LineError::NotOneOf { column: "receipt_status", text: text.to_owned(), allowed: "0, 1" });
        }
    };
    let unix_seconds = context.time("block_timestamp", time)?;
    Ok(with(TransactionRow {
        tx_hash: &tx_hash,
        block_number: bigint("block_number", block_number)?,
        transaction_index: index.map(|text| whole("transaction_index", text, INTEGER_LIMITS)).transpose()?,
        unix_seconds,
        from: from.as_str(),
        to: to.as_ref().map(Address::as_str),
        units: context.amount("value", value)?,
        gas_used: optional_bigint("receipt_gas_used", gas_used)?,
        gas_price,
        failed,
        metadata: metadata.as_deref(),
    }))
}

fn encoded(context: &Context, row: &TransactionRow<'_>, out: &mut TupleBuffer) -> Parsed {
    row.encode(context.network(), out);
    Parsed::Row { unix_seconds: Some(row.unix_seconds) }
}

pub(crate) struct CsvTransactions {
    context: Context,
    header: Header,
    splitter: Splitter,
}

impl CsvTransactions {
    pub(crate) fn new(context: Context, file: &str, header: &[u8]) -> Result<Self, ImportError> {
        let header = Header::parse(file, header, &REQUIRED, &OPTIONAL)?;
        Ok(Self { context, header, splitter: Splitter::default() })
    }

    /// Calls `with` with the row of a line.
    pub(crate) fn row<T>(&mut self, line: &str, with: impl FnOnce(TransactionRow<'_>) -> T) -> Result<T, LineError> {
        checked(&self.context, self.header.columns(&mut self.splitter, line)?, with)
    }
}

impl RowParser for CsvTransactions {
    fn parse(&mut self, _number: u64, line: &str, out: &mut TupleBuffer) -> Result<Parsed, LineError> {
        let texts = self.header.columns(&mut self.splitter, line)?;
        checked(&self.context, texts, |row| encoded(&self.context, &row, out))
    }
}

/// Fields of a JSON line, unparsed: a value in wei may exceed every integer type.
#[derive(Deserialize)]
struct JsonTransaction<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    hash: Option<&'a RawValue>,
    #[serde(borrow)]
    block_number: Option<&'a RawValue>,
    #[serde(borrow)]
    from_address: Option<&'a RawValue>,
    #[serde(borrow)]
    to_address: Option<&'a RawValue>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    #[serde(borrow)]
    block_timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    transaction_index: Option<&'a RawValue>,
    #[serde(borrow)]
    gas_price: Option<&'a RawValue>,
    #[serde(borrow)]
    receipt_gas_used: Option<&'a RawValue>,
    #[serde(borrow)]
    receipt_effective_gas_price: Option<&'a RawValue>,
    #[serde(borrow)]
    receipt_status: Option<&'a RawValue>,
    #[serde(borrow)]
    receipt_contract_address: Option<&'a RawValue>,
}

/// Transactions as JSON lines; lines of another `type` are skipped.
pub(crate) struct JsonTransactions {
    context: Context,
}

impl JsonTransactions {
    pub(crate) fn new(context: Context) -> Self {
        Self { context }
    }
}

impl JsonTransactions {
    /// Calls `with` with the row of a line; `None` for a line of another type.
    pub(crate) fn row<T>(
        &self,
        line: &str,
        with: impl FnOnce(TransactionRow<'_>) -> T,
    ) -> Result<Option<T>, LineError> {
        let fields: JsonTransaction<'_> = json::parse(line)?;
        if !json::is_kind(fields.kind, "transaction")? {
            return Ok(None);
        }
        let texts = [
            JsonText::of(fields.hash)?,
            JsonText::of(fields.block_number)?,
            JsonText::of(fields.from_address)?,
            JsonText::of(fields.to_address)?,
            JsonText::of(fields.value)?,
            JsonText::of(fields.block_timestamp)?,
            JsonText::of(fields.transaction_index)?,
            JsonText::of(fields.gas_price)?,
            JsonText::of(fields.receipt_gas_used)?,
            JsonText::of(fields.receipt_effective_gas_price)?,
            JsonText::of(fields.receipt_status)?,
            JsonText::of(fields.receipt_contract_address)?,
        ];
        checked(&self.context, texts.each_ref().map(JsonText::get), with).map(Some)
    }
}

impl RowParser for JsonTransactions {
    fn parse(&mut self, _number: u64, line: &str, out: &mut TupleBuffer) -> Result<Parsed, LineError> {
        let parsed = self.row(line, |row| encoded(&self.context, &row, out))?;
        Ok(parsed.unwrap_or(Parsed::Skipped))
    }
}

#[cfg(test)]
mod tests {
    use super::super::decode;
    use super::super::values::fixtures::ethereum;
    use super::*;

    const HASH: &str = "0xeb107a40ba73a50c79a9f2026e902d758d1c5e5e211f7a7db1b294f88f118dd0";
    const ALICE: &str = "0xae2fc483527b8ef99eb5d9b44875f005ba1fae13";
    const BOB: &str = "0x6b75d8af000000e20b7a7ddf000ba900b4009a80";

    fn parse(parser: &mut dyn RowParser, line: &str) -> Result<Vec<Option<Vec<u8>>>, LineError> {
        let mut out = TupleBuffer::default();
        let parsed = parser.parse(2, line, &mut out);
        let mut rows = decode::tuples(&out.into_bytes());
        match parsed {
            Ok(_) => Ok(rows.pop().unwrap_or_default()),
            Err(error) => {
                assert!(rows.is_empty(), "a rejected line left a row");
                Err(error)
            }
        }
    }

    fn text(row: &[Option<Vec<u8>>], column: usize) -> &str {
        std::str::from_utf8(row[column].as_ref().unwrap()).unwrap()
    }

    #[test]
    fn a_streamed_json_line_becomes_a_row() {
        let line = format!(
            r#"{{"type": "transaction", "hash": "{HASH}", "nonce": 1, "transaction_index": 3, "from_address": "{ALICE}",
            "to_address": "{BOB}", "value": 7400000000000000000000, "gas_price": 5, "input": "0x", "block_timestamp":
            1683029999, "block_number": 17173049, "receipt_gas_used": 21000, "receipt_contract_address": null,
            "receipt_status": 0, "receipt_effective_gas_price": 7}}"#
        );
        let row = parse(&mut JsonTransactions::new(ethereum()), &line).unwrap();
        assert_eq!(text(&row, 0), "ethereum");
        assert_eq!(text(&row, 1), HASH);
        assert_eq!(row[3], Some(3_i32.to_be_bytes().to_vec()));
        assert_eq!((text(&row, 5), text(&row, 6)), (ALICE, BOB));
        assert_eq!(decode::numeric(row[7].as_ref().unwrap()), "7400.000000000000000000");
        assert_eq!(row[8], Some(21_000_i64.to_be_bytes().to_vec()));
        assert_eq!(row[9], Some(7_i64.to_be_bytes().to_vec()));
        assert_eq!(text(&row, 10), "failed");
        assert_eq!(row[11], None);
    }

    #[test]
    fn other_types_are_skipped_and_broken_json_is_not() {
        let mut parser = JsonTransactions::new(ethereum());
        let mut out = TupleBuffer::default();
        assert_eq!(parser.parse(1, r#"{"type": "log", "value": [1]}"#, &mut out), Ok(Parsed::Skipped));
        assert!(matches!(parser.parse(1, r#"{"type": "transaction", "ha"#, &mut out), Err(LineError::Json { .. })));
        assert_eq!(parser.parse(1, "{}", &mut out), Err(LineError::Empty { column: "hash" }));
        assert_eq!(out.len(), 0);
    }

    #[test]
    fn a_contract_creation_has_no_receiver() {
        let header = b"value,to_address,from_address,block_timestamp,block_number,hash,receipt_contract_address";
        let mut parser = CsvTransactions::new(ethereum(), "f.csv", header).unwrap();
        let row = parse(&mut parser, &format!("1,,{ALICE},1683029999,5,{HASH},{BOB}")).unwrap();
        assert_eq!(row[6], None);
        assert_eq!(decode::numeric(row[7].as_ref().unwrap()), "0.000000000000000001");
        assert_eq!(text(&row, 10), "confirmed");
        assert_eq!(row[11].as_ref().unwrap()[0], 1);
        assert_eq!(&text(&row, 11)[1..], format!(r#"{{"contract_address":"{BOB}"}}"#));
    }

    #[test]
    fn errors_name_each_invalid_value() {
        let header = b"hash,block_number,from_address,to_address,value,block_timestamp,gas_price,receipt_status";
        let mut parser = CsvTransactions::new(ethereum(), "f.csv", header).unwrap();
        let good = format!("{HASH},5,{ALICE},{BOB},1,1683029999,1,1");
        assert!(parse(&mut parser, &good).is_ok());
        for (old, new, expected) in [
            (",1,1683029999", ",-1,1683029999", "negative"),
            (",1,1683029999", ",1e21,1683029999", "1e21"),
            (",1,1683029999", ",100000000000000000000000000000000000000,1683029999", "out of range"),
            (BOB, "0x12", "0x12"),
            ("1683029999,1,1", "1683029999,9223372036854775808,1", "gas_price"),
            ("1683029999,1,1", "1683029999,1,2", "receipt_status"),
            (",5,", ",-5,", "block_number"),
            (",5,", ",,", "column block_number is empty"),
        ] {
            let error = parse(&mut parser, &good.replacen(old, new, 1)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error} does not name {expected}");
        }
    }
}
