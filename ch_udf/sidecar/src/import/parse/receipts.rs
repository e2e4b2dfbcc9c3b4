//! Parses receipts into rows of `arx.transactions` that know what a receipt states alone.

use arx_core::address::Address;
use arx_pgwire::copy::TupleBuffer;

use super::csv_line::{self, Header, Splitter};
use super::fields::{Column, JsonRow, Mapping};
use super::json::JsonText;
use super::transactions::{
    CHAIN_ID_NAMES, COLUMN_COUNT, NETWORK_NAMES, RowStatus, Units, block_hash_of, header_units, key_units,
    optional_int4, optional_int8, other_kind, status,
};
use super::values::{Context, INTEGER_LIMITS, Parsed, RowParser, optional_bigint, whole, without_nulls};
use crate::import::error::{ImportError, LineError};

/// Number of [`RECEIPT_FIELDS`].
const RECEIPT_FIELD_COUNT: usize = 11;

/// Indexes in [`RECEIPT_FIELDS`].
const RECEIPT_PRICE: usize = 5;
const RECEIPT_TYPE: usize = 8;

/// Columns of receipts. Hash and one of status, gas and contract are required.
const RECEIPT_FIELDS: [Column; RECEIPT_FIELD_COUNT] = [
    Column { name: "transaction_hash", names: &["transactionhash", "hash", "txhash"] },
    Column { name: "block_number", names: &["blocknumber"] },
    Column { name: "transaction_index", names: &["transactionindex"] },
    Column { name: "status", names: &["status", "receiptstatus"] },
    Column { name: "gas_used", names: &["gasused", "receiptgasused"] },
    Column { name: "effective_gas_price", names: &["effectivegasprice", "receipteffectivegasprice"] },
    Column { name: "contract_address", names: &["contractaddress", "receiptcontractaddress"] },
    Column { name: "block_hash", names: &["blockhash"] },
    Column { name: "type", names: &["type"] },
    Column { name: "network", names: NETWORK_NAMES },
    Column { name: "chain_id", names: CHAIN_ID_NAMES },
];

/// Encodes a receipt in the order of [`COLUMNS`]: what it does not know is NULL.
fn encode_receipt(
    context: &Context,
    units: &Units<RECEIPT_FIELD_COUNT>,
    texts: [Option<&str>; RECEIPT_FIELD_COUNT],
    out: &mut TupleBuffer,
) -> Result<RowStatus, LineError> {
    let [hash, block_number, index, status_text, gas_used, gas_price, contract, block_hash, _type, network, chain_id] =
        without_nulls(texts, &[1, 2, 3, 4, 5, 6, 7]);
    context.check_network(network, chain_id)?;
    let tx_hash = context.hash("transaction_hash", hash)?;
    let block_number = optional_bigint("block_number", block_number)?;
    let index = index.map(|text| whole("transaction_index", text, INTEGER_LIMITS)).transpose()?;
    let status = status_text.map_or(Ok(RowStatus::Unknown), |text| status("status", text))?;
    let gas_used = optional_bigint("gas_used", gas_used)?;
    let gas_price = context.optional_price(units[RECEIPT_PRICE], "effective_gas_price", gas_price)?;
    let contract = context.optional_address("contract_address", contract)?;
    let block_hash = block_hash.map(block_hash_of).transpose()?;
    out.begin(COLUMN_COUNT);
    out.text(context.network());
    out.text(&tx_hash);
    optional_int8(block_number, out);
    optional_int4(index, out);
    out.null();
    out.null();
    out.optional_text(contract.as_ref().map(Address::as_str));
    out.null();
    optional_int8(gas_used, out);
    optional_int8(gas_price, out);
    out.text(status.name());
    match contract {
        Some(contract) => out.jsonb(&serde_json::json!({ "contract_address": contract.as_str() }).to_string()),
        None => out.null(),
    }
    out.optional_text(block_hash.as_deref());
    Ok(status)
}

/// Receipts as CSV.
pub(crate) struct CsvReceipts {
    context: Context,
    units: Units<RECEIPT_FIELD_COUNT>,
    header: Header,
    splitter: Splitter,
    no_status: bool,
}

impl CsvReceipts {
    pub(crate) fn new(context: Context, file: &str, header: &[u8], mappings: &[Mapping]) -> Result<Self, ImportError> {
        let found = csv_line::shown(header);
        let header = Header::find(file, header, &RECEIPT_FIELDS, mappings)?;
        if !header.has(0) {
            let missing = vec!["transaction_hash"];
            return Err(ImportError::MissingColumns { file: file.to_owned(), missing, found });
        }
        let units = header_units(&context, file, &header, &[RECEIPT_PRICE])?;
        Ok(Self { context, units, header, splitter: Splitter::default(), no_status: false })
    }
}

impl RowParser for CsvReceipts {
    fn parse(&mut self, _number: u64, line: &str, out: &mut TupleBuffer) -> Result<Parsed, LineError> {
        let texts = self.header.columns(&mut self.splitter, line)?;
        self.no_status = encode_receipt(&self.context, &self.units, texts, out)? == RowStatus::Unknown;
        Ok(Parsed::Row { unix_seconds: None })
    }

    fn columns(&self) -> &[Column] {
        &RECEIPT_FIELDS
    }

    fn lacks_status(&self) -> bool {
        self.no_status
    }

    fn unused_columns(&self) -> &[String] {
        self.header.unused()
    }
}

/// Receipts as JSON objects.
pub(crate) struct JsonReceipts {
    context: Context,
    mappings: Vec<Mapping>,
    no_status: bool,
}

impl JsonReceipts {
    pub(crate) fn new(context: Context, mappings: Vec<Mapping>) -> Self {
        Self { context, mappings, no_status: false }
    }
}

impl RowParser for JsonReceipts {
    fn parse(&mut self, _number: u64, line: &str, out: &mut TupleBuffer) -> Result<Parsed, LineError> {
        let row: JsonRow<'_, RECEIPT_FIELD_COUNT> = JsonRow::parse(line, &RECEIPT_FIELDS, &self.mappings)?;
        let texts = row.texts()?;
        let texts = texts.each_ref().map(JsonText::get);
        let kinds = ["block", "log", "token_transfer", "trace", "contract", "token", "transaction"];
        if let Some(kind) = other_kind(texts[RECEIPT_TYPE], &kinds) {
            return Ok(Parsed::Skipped(kind));
        }
        let units = key_units(&self.context, &row, &RECEIPT_FIELDS, &[RECEIPT_PRICE])?;
        self.no_status = encode_receipt(&self.context, &units, texts, out)? == RowStatus::Unknown;
        Ok(Parsed::Row { unix_seconds: None })
    }

    fn columns(&self) -> &[Column] {
        &RECEIPT_FIELDS
    }

    fn lacks_status(&self) -> bool {
        self.no_status
    }
}

#[cfg(test)]
mod tests {
    use super::super::decode;
    use super::super::values::fixtures::ethereum;
    use super::*;

    const HASH: &str = "0xeb107a40ba73a50c79a9f2026e902d758d1c5e5e211f7a7db1b294f88f118dd0";
    const BOB: &str = "0x6b75d8af000000e20b7a7ddf000ba900b4009a80";

    #[test]
    fn receipts_know_what_they_state_alone() {
        let header = b"transaction_hash,block_number,status,gas_used,contract_address,root";
        let mut parser = CsvReceipts::new(ethereum(), "f.csv", header, &[]).unwrap();
        let mut out = TupleBuffer::default();
        parser.parse(2, &format!("{HASH},5,0.0,21000.0,{BOB},"), &mut out).unwrap();
        let row = decode::tuples(&out.into_bytes()).remove(0);
        let text = |column: usize| std::str::from_utf8(row[column].as_ref().unwrap()).unwrap();
        assert_eq!((row[4].clone(), row[5].clone(), row[7].clone()), (None, None, None));
        assert_eq!((text(6), text(10)), (BOB, "failed"));
        assert_eq!(row[8], Some(21_000_i64.to_be_bytes().to_vec()));
        assert_eq!(parser.unused_columns(), ["root"]);
    }
}
