//! Parses transactions into rows of `arx.transactions`: ethereum-etl's files, exports
//! and API answers of block explorers, edge lists.

use std::borrow::Cow;

use arx_core::address::Address;
use arx_core::amount::COIN_SCALE;
use arx_pgwire::copy::TupleBuffer;

use super::csv_line::{self, Header, Splitter};
use super::fields::{Column, JsonRow, Mapping};
use super::json::JsonText;
use super::values::{
    Context, INTEGER_LIMITS, OtherKind, Parsed, RowParser, Unit, bigint, has_failed, is_error, optional_bigint,
    shorten, whole, without_nulls,
};
use crate::import::error::{ImportError, LineError};

/// Columns of a tuple, in order.
pub(crate) const COLUMNS: &str = "network, tx_hash, block_number, transaction_index, \"timestamp\", from_address, to_address, \
                                  value, gas_used, gas_price, status, metadata, block_hash";

/// Number of [`COLUMNS`].
pub(super) const COLUMN_COUNT: i16 = 13;

/// Number of [`FIELDS`].
const FIELD_COUNT: usize = 24;

/// Columns of files. The first six are required; `value_in`, `value_out` and `amount` stand for
/// `value`, and `datetime_utc` for `block_timestamp`.
pub(crate) const FIELDS: [Column; FIELD_COUNT] = [
    Column { name: "hash", names: &["hash", "transactionhash", "txhash", "txnhash", "txid"] },
    Column { name: "block_number", names: &["blocknumber", "blockno", "blockheight", "height"] },
    Column { name: "from_address", names: SENDER_NAMES },
    Column { name: "to_address", names: RECEIVER_NAMES },
    Column { name: "value", names: &["value", "valuestring", "valuebinary"] },
    Column { name: "block_timestamp", names: &["blocktimestamp", "unixtimestamp", "timestamp", "blocktime", "time"] },
    Column { name: "transaction_index", names: &["transactionindex", "txindex"] },
    Column { name: "gas_price", names: &["gasprice"] },
    Column { name: "receipt_gas_used", names: &["receiptgasused", "gasused"] },
    Column { name: "receipt_effective_gas_price", names: &["receipteffectivegasprice", "effectivegasprice"] },
    Column { name: "receipt_status", names: &["receiptstatus", "txreceiptstatus", "status", "success"] },
    Column {
        name: "receipt_contract_address",
        names: &["receiptcontractaddress", "contractaddress", "createdcontract"],
    },
    Column { name: "block_hash", names: &["blockhash"] },
    Column { name: "value_in", names: &["valuein"] },
    Column { name: "value_out", names: &["valueout"] },
    Column { name: "datetime_utc", names: &["datetimeutc"] },
    Column { name: "is_error", names: &["iserror"] },
    Column { name: "err_code", names: &["errcode"] },
    Column { name: "type", names: &["type"] },
    Column { name: "amount", names: &["amount"] },
    Column { name: "network", names: NETWORK_NAMES },
    Column { name: "chain_id", names: CHAIN_ID_NAMES },
    Column { name: "unit", names: UNIT_NAMES },
    Column { name: "asset", names: ASSET_NAMES },
];

/// Names of the ends of a movement.
const SENDER_NAMES: &[&str] = &["fromaddress", "from", "sender", "senderaddress", "inputaddress"];
const RECEIVER_NAMES: &[&str] =
    &["toaddress", "to", "receiver", "receiveraddress", "recipient", "recipientaddress", "outputaddress"];

/// Columns of which every kind of file may state its network, its unit and its coin.
pub(super) const NETWORK_NAMES: &[&str] = &["network", "chain", "blockchain", "networkname", "chainname"];
pub(super) const CHAIN_ID_NAMES: &[&str] = &["chainid", "networkid"];
pub(super) const UNIT_NAMES: &[&str] = &["unit", "valueunit", "amountunit"];
pub(super) const ASSET_NAMES: &[&str] = &["asset", "assetsymbol", "currency"];

/// Indexes in [`FIELDS`].
const HASH: usize = 0;
const VALUE: usize = 4;
const TIME: usize = 5;
const PRICE: usize = 7;
const EFFECTIVE_PRICE: usize = 9;
const STATUS: usize = 10;
const VALUE_IN: usize = 13;
const VALUE_OUT: usize = 14;
const DATE_TIME: usize = 15;
const ERROR_CODE: usize = 17;
const TYPE: usize = 18;
const AMOUNT: usize = 19;

/// Columns whose names may state a unit.
const AMOUNTS: [usize; 6] = [VALUE, PRICE, EFFECTIVE_PRICE, VALUE_IN, VALUE_OUT, AMOUNT];

/// Columns that may be without a value.
const OPTIONAL: [usize; 7] = [6, PRICE, 8, EFFECTIVE_PRICE, STATUS, 11, 12];

/// Types that ethereum-etl writes for other items of a stream.
const OTHER_KINDS: [&str; 6] = ["block", "log", "token_transfer", "trace", "contract", "token"];

/// Outcome of a transaction, as far as the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum RowStatus {
    #[default]
    Unknown,
    Confirmed,
    Failed,
}

impl RowStatus {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Confirmed => "confirmed",
            Self::Failed => "failed",
        }
    }
}

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
    /// Receiver, normalised: of a contract creation the contract, `None` if its address is unknown.
    pub(crate) to: Option<&'a str>,
    /// Value in units of 10⁻¹⁸ coin.
    pub(crate) units: u128,
    pub(crate) gas_used: Option<i64>,
    /// Gas price in the coin's smallest units.
    pub(crate) gas_price: Option<i64>,
    pub(crate) status: RowStatus,
    pub(crate) metadata: Option<&'a str>,
    pub(crate) block_hash: Option<&'a str>,
}

impl TransactionRow<'_> {
    /// Encodes the row in the order of [`COLUMNS`].
    pub(crate) fn encode(&self, network: &str, out: &mut TupleBuffer) {
        out.begin(COLUMN_COUNT);
        self.encode_fields(network, out);
    }

    /// Encodes the row followed by the kind of its leg.
    pub(crate) fn encode_leg(&self, network: &str, kind: &str, out: &mut TupleBuffer) {
        out.begin(COLUMN_COUNT + 1);
        self.encode_fields(network, out);
        out.text(kind);
    }

    fn encode_fields(&self, network: &str, out: &mut TupleBuffer) {
        out.text(network);
        out.text(self.tx_hash);
        out.int8(self.block_number);
        optional_int4(self.transaction_index, out);
        out.timestamp(self.unix_seconds);
        // A leg of a UTXO transaction may have no sender: newly mined coins.
        out.optional_text(Some(self.from).filter(|from| !from.is_empty()));
        out.optional_text(self.to);
        out.numeric(self.units.into(), COIN_SCALE);
        optional_int8(self.gas_used, out);
        optional_int8(self.gas_price, out);
        out.text(self.status.name());
        match self.metadata {
            Some(document) => out.jsonb(document),
            None => out.null(),
        }
        out.optional_text(self.block_hash);
    }
}

pub(crate) fn optional_int4(value: Option<i32>, out: &mut TupleBuffer) {
    match value {
        Some(value) => out.int4(value),
        None => out.null(),
    }
}

pub(crate) fn optional_int8(value: Option<i64>, out: &mut TupleBuffer) {
    match value {
        Some(value) => out.int8(value),
        None => out.null(),
    }
}

/// Values of a line in the order of [`FIELDS`], from CSV or JSON.
type Texts<'a> = [Option<&'a str>; FIELD_COUNT];

/// Units that the names of columns state, in the order of the columns.
pub(super) type Units<const N: usize> = [Option<Unit>; N];

/// Returns the units that the columns of amounts in a header state.
///
/// # Errors
/// [`ImportError::ColumnUnit`].
pub(super) fn header_units<const N: usize>(
    context: &Context,
    file: &str,
    header: &Header,
    amounts: &[usize],
) -> Result<Units<N>, ImportError> {
    let mut units = [None; N];
    for index in amounts {
        let (Some(slot), Some((column, word))) = (units.get_mut(*index), header.unit(*index)) else { continue };
        *slot = context.named_unit(word);
        if slot.is_none() {
            let (file, column, network) = (file.to_owned(), column.to_owned(), context.network().to_owned());
            return Err(ImportError::ColumnUnit { file, column, network });
        }
    }
    Ok(units)
}

/// Returns the units that the keys of amounts in an object state.
///
/// # Errors
/// [`LineError::UnitName`].
pub(super) fn key_units<const N: usize>(
    context: &Context,
    row: &JsonRow<'_, N>,
    columns: &[Column; N],
    amounts: &[usize],
) -> Result<Units<N>, LineError> {
    let mut units = [None; N];
    for index in amounts {
        let (Some(slot), Some(column)) = (units.get_mut(*index), columns.get(*index)) else { continue };
        *slot = context.unit_of(column.name, row.unit(*index))?;
    }
    Ok(units)
}

/// Checks the columns that state a network and a coin.
pub(super) fn check_coin(
    context: &Context,
    network: Option<&str>,
    chain_id: Option<&str>,
    asset: Option<&str>,
) -> Result<(), LineError> {
    context.check_network(network, chain_id)?;
    match asset {
        Some(text) if !context.is_coin(text) => {
            Err(LineError::UnitName { column: "asset", text: shorten(text), network: context.network().to_owned() })
        }
        _ => Ok(()),
    }
}

/// The shape of one file.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) context: Context,
    /// The unit of `value`.
    pub(crate) unit: Unit,
    /// Units that the names of columns state.
    units: Units<FIELD_COUNT>,
    /// Empty error columns mean success, as in exports of explorers.
    blank_is_success: bool,
    /// Lines are legs: several of them may name the same transaction.
    pub(crate) edges: bool,
}

impl Shape {
    fn new(context: Context, edges: bool, has: impl Fn(usize) -> bool) -> Self {
        let from_explorer = has(VALUE_IN);
        Self {
            unit: if from_explorer { Unit::Coin } else { context.unit() },
            blank_is_success: from_explorer && has(STATUS) && has(ERROR_CODE),
            edges: edges || context.is_utxo(),
            units: [None; FIELD_COUNT],
            context,
        }
    }
}

/// Reads a status, however it is written.
pub(crate) fn status(column: &'static str, text: &str) -> Result<RowStatus, LineError> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "1" | "1.0" | "0x1" | "true" | "t" | "success" | "successful" | "succeeded" | "confirmed" | "ok" => {
            RowStatus::Confirmed
        }
        "0" | "0.0" | "0x0" | "false" | "f" => RowStatus::Failed,
        lower if ["error", "fail", "revert"].iter().any(|word| lower.starts_with(word)) => RowStatus::Failed,
        _ => return Err(LineError::NotOneOf { column, text: shorten(text), allowed: "0, 1" }),
    })
}

/// Returns the outcome that a status, a flag of failure and the code of an error state together.
///
/// # Errors
/// [`LineError::Contradiction`] where one says success and another failure.
fn status_of(
    shape: &Shape,
    status_text: Option<&str>,
    flag: Option<&str>,
    code: Option<&str>,
) -> Result<RowStatus, LineError> {
    let stated = [
        status_text.map(|text| status("receipt_status", text)).transpose()?.map(|status| status == RowStatus::Failed),
        flag.map(|text| has_failed("is_error", text)).transpose()?,
        code.filter(|text| is_error(text)).map(|_| true),
    ];
    match agreed(stated) {
        Err(()) => {
            let texts = [status_text, flag, code].map(Option::unwrap_or_default);
            let columns = "receipt_status, is_error, err_code";
            Err(LineError::Contradiction { columns, text: shorten(&texts.join(", ")) })
        }
        Ok(Some(true)) => Ok(RowStatus::Failed),
        Ok(Some(false)) => Ok(RowStatus::Confirmed),
        Ok(None) if shape.context.is_utxo() || shape.blank_is_success => Ok(RowStatus::Confirmed),
        Ok(None) => Ok(RowStatus::Unknown),
    }
}

/// Returns what several statements of failure agree on.
pub(super) fn agreed<const N: usize>(stated: [Option<bool>; N]) -> Result<Option<bool>, ()> {
    let mut statements = stated.into_iter().flatten();
    let first = statements.next();
    if statements.all(|other| Some(other) == first) { Ok(first) } else { Err(()) }
}

/// Returns the value of a line of an explorer, which has one column for received and one for sent
/// coins, in units that their names may state.
pub(crate) fn value_in_or_out(
    context: &Context,
    units: [Option<Unit>; 2],
    value_in: Option<&str>,
    value_out: Option<&str>,
) -> Result<u128, LineError> {
    let amount = |unit: Option<Unit>, column, text: Option<&str>| {
        text.map_or(Ok(0), |_| context.amount_in(unit.unwrap_or(Unit::Coin), column, text))
    };
    let (received, sent) = (amount(units[0], "value_in", value_in)?, amount(units[1], "value_out", value_out)?);
    match (received, sent) {
        (units, 0) | (0, units) => Ok(units),
        (received, sent) if received == sent => Ok(sent),
        _ => Err(LineError::Contradiction {
            columns: "value_in, value_out",
            text: format!("{} and {}", value_in.unwrap_or_default(), value_out.unwrap_or_default()),
        }),
    }
}

/// Returns an amount whose column may be in any unit: that of the text, the line, the column or the
/// user.
fn amount_of_stated_unit(shape: &Shape, unit: Option<Unit>, text: &str) -> Result<u128, LineError> {
    let context = &shape.context;
    let unit = unit.or(shape.units[AMOUNT]).or(context.stated_unit());
    match (unit, context.own_unit("amount", text)?.1) {
        (None, None) => Err(LineError::NoUnit { column: "amount", text: shorten(text) }),
        (unit, _) => context.amount_in(unit.unwrap_or_default(), "amount", Some(text)),
    }
}

/// Validates the values of a line and calls `with` with the row.
fn checked<T>(shape: &Shape, texts: Texts<'_>, with: impl FnOnce(TransactionRow<'_>) -> T) -> Result<T, LineError> {
    let [
        hash,
        block_number,
        from,
        to,
        value,
        time,
        index,
        gas_price,
        gas_used,
        effective_price,
        status,
        contract,
        block_hash,
        value_in,
        value_out,
        date_time,
        is_error,
        error_code,
        _type,
        amount,
        network,
        chain_id,
        unit,
        asset,
    ] = without_nulls(texts, &OPTIONAL);
    let context = &shape.context;
    check_coin(context, network, chain_id, asset)?;
    let tx_hash = context.hash("hash", hash)?;
    let from = context.address("from_address", from)?;
    let to = context.optional_address("to_address", to)?;
    let contract = context.optional_address("receipt_contract_address", contract)?;
    let metadata =
        contract.as_ref().map(|contract| serde_json::json!({ "contract_address": contract.as_str() }).to_string());
    let units = &shape.units;
    let gas_price = match effective_price {
        Some(_) => context.optional_price(units[EFFECTIVE_PRICE], "receipt_effective_gas_price", effective_price)?,
        None => context.optional_price(units[PRICE], "gas_price", gas_price)?,
    };
    let unix_seconds = context.stated_time(time, date_time)?;
    let unit = context.unit_of("unit", unit)?;
    let units = match (value, value_in, value_out, amount) {
        (None, None, None, Some(text)) => amount_of_stated_unit(shape, unit, text)?,
        (None, None, None, None) | (Some(_), ..) => {
            context.amount_or(unit.or(units[VALUE]), shape.unit, "value", value)?
        }
        (None, value_in, value_out, _) => {
            value_in_or_out(context, [units[VALUE_IN], units[VALUE_OUT]], value_in, value_out)?
        }
    };
    let block_hash = block_hash.map(block_hash_of).transpose()?;
    Ok(with(TransactionRow {
        tx_hash: &tx_hash,
        block_number: bigint("block_number", block_number)?,
        transaction_index: index.map(|text| whole("transaction_index", text, INTEGER_LIMITS)).transpose()?,
        unix_seconds,
        from: from.as_str(),
        // A creation moves its value to the contract.
        to: to.as_ref().or(contract.as_ref()).map(Address::as_str),
        units,
        gas_used: optional_bigint("receipt_gas_used", gas_used)?,
        gas_price,
        status: status_of(shape, status, is_error, error_code)?,
        metadata: metadata.as_deref(),
        block_hash: block_hash.as_deref(),
    }))
}

/// Returns a block's hash in lower case.
pub(crate) fn block_hash_of(text: &str) -> Result<Cow<'_, str>, LineError> {
    let limit = 200;
    if text.len() > limit || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(LineError::TextTooLong { column: "block_hash", limit });
    }
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let is_hex = text.starts_with("0x") || digits.bytes().all(|b| b.is_ascii_hexdigit());
    Ok(if is_hex && text.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    })
}

fn encoded(shape: &Shape, row: &TransactionRow<'_>, out: &mut TupleBuffer) -> Parsed {
    if shape.edges {
        row.encode_leg(shape.context.network(), "edge", out);
    } else {
        row.encode(shape.context.network(), out);
    }
    Parsed::Row { unix_seconds: Some(row.unix_seconds) }
}

pub(crate) struct CsvTransactions {
    shape: Shape,
    header: Header,
    splitter: Splitter,
    no_status: bool,
}

impl CsvTransactions {
    pub(crate) fn new(
        context: Context,
        file: &str,
        header_line: &[u8],
        edges: bool,
        mappings: &[Mapping],
    ) -> Result<Self, ImportError> {
        let mut header = Header::find(file, header_line, &FIELDS, mappings)?;
        let has_both = header.has(VALUE_IN) && header.has(VALUE_OUT);
        let stand_ins: &[usize] = match (header.has(VALUE), has_both) {
            (true, _) => &[VALUE_IN, VALUE_OUT, AMOUNT],
            (false, true) => &[AMOUNT],
            (false, false) => &[VALUE_IN, VALUE_OUT],
        };
        stand_ins.iter().for_each(|index| header.disregard(*index));
        let is_present = |index| match index {
            VALUE => header.has(VALUE) || has_both || header.has(AMOUNT),
            TIME => header.has(TIME) || header.has(DATE_TIME),
            index => header.has(index),
        };
        let missing: Vec<&'static str> =
            FIELDS.iter().take(TIME + 1).enumerate().filter(|(i, _)| !is_present(*i)).map(|(_, c)| c.name).collect();
        if !missing.is_empty() {
            let found = csv_line::shown(header_line);
            return Err(ImportError::MissingColumns { file: file.to_owned(), missing, found });
        }
        let units = header_units(&context, file, &header, &AMOUNTS)?;
        let shape = Shape { units, ..Shape::new(context, edges, |index| header.has(index)) };
        Ok(Self { shape, header, splitter: Splitter::default(), no_status: false })
    }

    pub(crate) fn has_effective_prices(&self) -> bool {
        self.header.has(EFFECTIVE_PRICE)
    }

    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Calls `with` with the row of a line.
    pub(crate) fn row<T>(&mut self, line: &str, with: impl FnOnce(TransactionRow<'_>) -> T) -> Result<T, LineError> {
        checked(&self.shape, self.header.columns(&mut self.splitter, line)?, with)
    }
}

impl RowParser for CsvTransactions {
    fn parse(&mut self, _number: u64, line: &str, out: &mut TupleBuffer) -> Result<Parsed, LineError> {
        let texts = self.header.columns(&mut self.splitter, line)?;
        checked(&self.shape, texts, |row| {
            self.no_status = row.status == RowStatus::Unknown;
            encoded(&self.shape, &row, out)
        })
    }

    fn transaction<'a>(&'a mut self, line: &'a str) -> Option<Cow<'a, str>> {
        if !self.shape.edges {
            return None;
        }
        self.header.value(&mut self.splitter, line, HASH).map(Cow::Borrowed)
    }

    fn lacks_status(&self) -> bool {
        self.no_status
    }

    fn takes_base_units(&self) -> bool {
        self.shape.unit == Unit::Base && self.shape.units[VALUE].is_none() && self.header.has(VALUE)
    }

    fn columns(&self) -> &[Column] {
        &FIELDS
    }

    fn unused_columns(&self) -> &[String] {
        self.header.unused()
    }
}

/// Transactions as JSON objects; objects of another `type` are skipped.
pub(crate) struct JsonTransactions {
    shape: Shape,
    mappings: Vec<Mapping>,
    no_status: bool,
}

impl JsonTransactions {
    pub(crate) fn new(context: Context, edges: bool, mappings: Vec<Mapping>) -> Self {
        // Presence of a status is decided for each object.
        let shape = Shape::new(context, edges, |_| false);
        Self { shape, mappings, no_status: false }
    }

    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Calls `with` with the row of an object; the kind of an object of another type.
    pub(crate) fn row<T>(
        &self,
        line: &str,
        with: impl FnOnce(TransactionRow<'_>) -> T,
    ) -> Result<Result<T, OtherKind>, LineError> {
        let row: JsonRow<'_, FIELD_COUNT> = JsonRow::parse(line, &FIELDS, &self.mappings)?;
        let texts = row.texts()?;
        let texts = texts.each_ref().map(JsonText::get);
        if let Some(kind) = other_kind(texts[TYPE], &OTHER_KINDS) {
            return Ok(Err(kind));
        }
        if AMOUNTS.iter().all(|index| row.unit(*index).is_none()) {
            return checked(&self.shape, texts, with).map(Ok);
        }
        let units = key_units(&self.shape.context, &row, &FIELDS, &AMOUNTS)?;
        checked(&Shape { units, ..self.shape.clone() }, texts, with).map(Ok)
    }
}

/// Returns the kind of a line of a mixed stream, if it is one of `kinds`.
pub(crate) fn other_kind(text: Option<&str>, kinds: &[&'static str]) -> Option<OtherKind> {
    kinds.iter().find(|kind| text == Some(**kind)).map(|kind| OtherKind(kind))
}

impl RowParser for JsonTransactions {
    fn parse(&mut self, _number: u64, line: &str, out: &mut TupleBuffer) -> Result<Parsed, LineError> {
        let mut no_status = false;
        let parsed = self.row(line, |row| {
            no_status = row.status == RowStatus::Unknown;
            encoded(&self.shape, &row, out)
        })?;
        self.no_status = no_status;
        Ok(parsed.unwrap_or_else(Parsed::Skipped))
    }

    fn transaction<'a>(&'a mut self, line: &'a str) -> Option<Cow<'a, str>> {
        if !self.shape.edges {
            return None;
        }
        let row: JsonRow<'_, 1> = JsonRow::parse(line, &[FIELDS[HASH]], &self.mappings).ok()?;
        let [hash] = row.texts().ok()?;
        hash.get().map(|hash| Cow::Owned(hash.to_owned()))
    }

    fn lacks_status(&self) -> bool {
        self.no_status
    }

    fn columns(&self) -> &[Column] {
        &FIELDS
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
        let row = parse(&mut JsonTransactions::new(ethereum(), false, Vec::new()), &line).unwrap();
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
        let mut parser = JsonTransactions::new(ethereum(), false, Vec::new());
        let mut out = TupleBuffer::default();
        assert_eq!(
            parser.parse(1, r#"{"type": "log", "value": [1]}"#, &mut out),
            Ok(Parsed::Skipped(OtherKind("log")))
        );
        assert!(matches!(parser.parse(1, r#"{"type": "transaction", "ha"#, &mut out), Err(LineError::Json { .. })));
        assert_eq!(parser.parse(1, "{}", &mut out), Err(LineError::Empty { column: "hash" }));
        assert_eq!(out.len(), 0);
    }

    #[test]
    fn two_columns_of_times_agree() {
        let header = b"hash,block_number,from_address,to_address,value,UnixTimestamp,DateTime (UTC)";
        let mut parser = CsvTransactions::new(ethereum(), "f.csv", header, false, &[]).unwrap();
        let mut parsed = |time: &str, date_time: &str| {
            let line = format!("{HASH},5,{ALICE},{BOB},1,{time},{date_time}");
            parse(&mut parser, &line).map(|row| row[4].clone()).map_err(|error| error.kind())
        };
        let time = parsed("1683029999", "2023-05-02 12:19:59").unwrap();
        assert_eq!(parsed("", "2023-05-02 12:19:59"), Ok(time.clone()));
        assert_eq!(parsed("1683029999", "5/2/2023 12:19"), Ok(time.clone()), "one that is no time says nothing");
        assert_eq!(parsed("1683029999", ""), Ok(time));
        let contradiction = "block_timestamp, datetime_utc: contradiction".to_owned();
        assert_eq!(parsed("1683029999", "2023-05-02 14:19:59"), Err(contradiction));
    }

    #[test]
    fn a_second_column_of_amounts_is_reported_as_unused() {
        let parser = |amounts: &str| {
            let header = format!("hash,block_number,from_address,to_address,block_timestamp,{amounts}");
            CsvTransactions::new(ethereum(), "f.csv", header.as_bytes(), false, &[])
        };
        for (amounts, unused) in [
            ("value,amount", &["amount"][..]),
            ("value,Value_IN(BNB),Value_OUT(BNB)", &["Value_IN(BNB)", "Value_OUT(BNB)"]),
            ("Value_IN(ETH),Value_OUT(ETH),amount", &["amount"]),
            ("Value_IN(ETH),amount", &["Value_IN(ETH)"]),
            ("Value_IN(ETH),Value_OUT(ETH)", &[]),
        ] {
            assert_eq!(parser(amounts).unwrap().unused_columns(), unused, "{amounts}");
        }
        // Received coins alone would make what was sent a transaction of zero.
        for amounts in ["Value_IN(ETH)", "Value_OUT(ETH)"] {
            assert!(matches!(parser(amounts).map(|_| ()), Err(ImportError::MissingColumns { .. })), "{amounts}");
        }
    }

    #[test]
    fn a_contract_creation_moves_its_value_to_the_contract() {
        let header = b"value,to_address,from_address,block_timestamp,block_number,hash,receipt_contract_address";
        let mut parser = CsvTransactions::new(ethereum(), "f.csv", header, false, &[]).unwrap();
        let row = parse(&mut parser, &format!("1,,{ALICE},1683029999,5,{HASH},{BOB}")).unwrap();
        assert_eq!(text(&row, 6), BOB);
        assert_eq!(decode::numeric(row[7].as_ref().unwrap()), "0.000000000000000001");
        assert_eq!(text(&row, 10), "unknown", "a file without a status does not say that all is well");
        assert_eq!(row[11].as_ref().unwrap()[0], 1);
        assert_eq!(&text(&row, 11)[1..], format!(r#"{{"contract_address":"{BOB}"}}"#));
    }

    #[test]
    fn errors_name_each_invalid_value() {
        let header = b"hash,block_number,from_address,to_address,value,block_timestamp,gas_price,receipt_status";
        let mut parser = CsvTransactions::new(ethereum(), "f.csv", header, false, &[]).unwrap();
        let good = format!("{HASH},5,{ALICE},{BOB},1,1683029999,1,1");
        assert!(parse(&mut parser, &good).is_ok());
        for (old, new, expected) in [
            (",1,1683029999", ",-1,1683029999", "negative"),
            (",1,1683029999", ",1e21x,1683029999", "1e21x"),
            (",1,1683029999", ",7.1234567891e+20,1683029999", "lost digits"),
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

    #[test]
    fn units_in_names_and_texts_apply_and_dollars_are_no_amounts() {
        let open = |header: &str| CsvTransactions::new(ethereum(), "f.csv", header.as_bytes(), false, &[]);
        let value = |columns: &str, values: &str| {
            let header = format!("hash,block_number,from_address,to_address,block_timestamp,{columns}");
            let row = parse(&mut open(&header).unwrap(), &format!("{HASH},5,{ALICE},{BOB},1683029999,{values}"));
            row.map(|row| decode::numeric(row[7].as_ref().unwrap())).map_err(|error| error.to_string())
        };
        let coins = |text: &str| Ok(text.to_owned());
        assert_eq!(value("Value (ETH)", "3"), coins("3.000000000000000000"));
        assert_eq!(value("Value (Wei)", "3"), coins("0.000000000000000003"));
        assert_eq!(value("Value (Gwei)", "3"), coins("0.000000003000000000"));
        assert_eq!(value("Amount,Value (USD)", "0.5 ETH,925"), coins("0.500000000000000000"));
        assert_eq!(value("Amount (ETH),Value ($)", "0.5,925"), coins("0.500000000000000000"));
        assert_eq!(value("value,unit", "2,ether"), coins("2.000000000000000000"));
        assert!(value("amount", "5").unwrap_err().contains("--unit"));
        assert!(value("value,asset", "5,USDT").unwrap_err().contains("USDT"));
        for (columns, error) in
            [("Value (USD)", "lacks the column value"), ("Value_IN(BNB),Value_OUT(BNB),x", "--network")]
        {
            let header = format!("hash,block_number,from_address,to_address,block_timestamp,{columns}");
            let found = open(&header).map(drop).unwrap_err().to_string();
            assert!(found.contains(error), "{found}");
        }
        let priced = "hash,block_number,from_address,to_address,block_timestamp,value,Gas Price (Gwei)";
        let row = parse(&mut open(priced).unwrap(), &format!("{HASH},5,{ALICE},{BOB},1683029999,1,30.5")).unwrap();
        assert_eq!(row[9], Some(30_500_000_000_i64.to_be_bytes().to_vec()));
        let json = format!(
            r#"{{"hash": "{HASH}", "block_number": 5, "from": "{ALICE}", "to": "{BOB}", "timestamp": 1683029999, "Value (ETH)": 3}}"#
        );
        let row = parse(&mut JsonTransactions::new(ethereum(), false, Vec::new()), &json).unwrap();
        assert_eq!(decode::numeric(row[7].as_ref().unwrap()), "3.000000000000000000");
        let other = json.replace("\"from\"", "\"chainId\": \"0x38\", \"from\"");
        let error = parse(&mut JsonTransactions::new(ethereum(), false, Vec::new()), &other).unwrap_err();
        assert!(matches!(error, LineError::OtherNetwork { .. }), "{error}");
    }

    #[test]
    fn outcomes_are_words_and_flags_that_must_agree() {
        let header = b"hash,block_number,from_address,to_address,value,block_timestamp,status,isError,errCode";
        let mut parser = CsvTransactions::new(ethereum(), "f.csv", header, false, &[]).unwrap();
        let mut outcome = |texts: &str| {
            let row = parse(&mut parser, &format!("{HASH},5,{ALICE},{BOB},1,1683029999,{texts}"));
            row.map(|row| text(&row, 10).to_owned()).map_err(|error| error.kind())
        };
        for (texts, expected) in [
            (",failed,", "failed"),
            (",Error,", "failed"),
            (",ok,", "confirmed"),
            ("Succeeded,,", "confirmed"),
            ("reverted,,", "failed"),
            (",0,", "confirmed"),
            ("1,0,0", "confirmed"),
            ("0,1,out of gas", "failed"),
            (",,out of gas", "failed"),
            (",,", "unknown"),
        ] {
            assert_eq!(outcome(texts).as_deref(), Ok(expected), "{texts}");
        }
        for texts in ["0,0,", "1,1,", "1,,out of gas", ",0,reverted"] {
            assert!(outcome(texts).unwrap_err().contains("contradiction"), "{texts}");
        }
        assert!(outcome(",perhaps,").unwrap_err().contains("is_error"));
    }

    #[test]
    fn exports_of_explorers_are_read_in_coins() {
        let header = br#""Transaction Hash","Blockno","UnixTimestamp","DateTime (UTC)","From","To","ContractAddress","Value_IN(ETH)","Value_OUT(ETH)","Status","ErrCode""#;
        let mut parser = CsvTransactions::new(ethereum(), "f.csv", header, false, &[]).unwrap();
        let line = |received: &str, sent: &str, status: &str| {
            format!(
                r#""{HASH}","5","1683029999","2023-05-02 12:19:59","{ALICE}","{BOB}","","{received}","{sent}","{status}","""#
            )
        };
        let row = parse(&mut parser, &line("1,234.5", "0", "")).unwrap();
        assert_eq!(decode::numeric(row[7].as_ref().unwrap()), "1234.500000000000000000");
        assert_eq!(text(&row, 10), "confirmed");
        assert_eq!(text(&parse(&mut parser, &line("0", "0.75", "Error(0)")).unwrap(), 10), "failed");
        let error = parse(&mut parser, &line("1", "2", "")).unwrap_err().to_string();
        assert!(error.contains("contradict"), "{error}");
    }

    #[test]
    fn answers_of_explorers_are_read_in_smallest_units() {
        let line = format!(
            r#"{{"blockNumber": "5", "timeStamp": "1683029999", "hash": "{HASH}", "from": "{ALICE}", "to": "", "value": "7",
            "contractAddress": "{BOB}", "isError": "1", "txreceipt_status": "0", "gasPrice": "0x5", "blockHash": "0xAB",
            "type": "0x2"}}"#
        );
        let row = parse(&mut JsonTransactions::new(ethereum(), false, Vec::new()), &line).unwrap();
        assert_eq!((text(&row, 6), text(&row, 10), text(&row, 12)), (BOB, "failed", "0xab"));
        assert_eq!(row[9], Some(5_i64.to_be_bytes().to_vec()));
    }
}
