//! Parses movements of the native coin within transactions into rows of `arx.internal_transfers`:
//! ethereum-etl's traces, and internal transactions as explorers export them.
//!
//! A line becomes a leg if it moves value. The root call is the transaction itself, which loading
//! looks up; delegatecall, staticcall and callcode move nothing between accounts. Failed calls are
//! encoded as such, because their calls have failed with them, which loading sees.

use std::borrow::Cow;

use arx_core::address::Address;
use arx_core::amount::COIN_SCALE;
use arx_pgwire::copy::TupleBuffer;

use super::csv_line::{self, Header, Splitter};
use super::fields::{Column, JsonRow, Mapping};
use super::json::JsonText;
use super::transactions::{
    ASSET_NAMES, CHAIN_ID_NAMES, NETWORK_NAMES, RowStatus, UNIT_NAMES, Units, agreed, check_coin, header_units,
    key_units, optional_int4, optional_int8, other_kind, status, value_in_or_out,
};
use super::values::{
    self, Context, INTEGER_LIMITS, Parsed, RowParser, Unit, has_failed, optional_bigint, required, shorten, whole,
    without_nulls,
};
use crate::import::error::{ImportError, LineError};

/// Columns of a tuple, in order. `path` is the trace address, `failed` is 0, 1, or NULL where
/// it is unknown.
pub(crate) const COLUMNS: &str = "network, tx_hash, block_number, transaction_index, \"timestamp\", from_address, to_address, \
                                  value, kind, path, failed";

/// Number of [`COLUMNS`].
const COLUMN_COUNT: i16 = 11;

/// Number of [`FIELDS`].
const FIELD_COUNT: usize = 24;

/// Columns of files.
const FIELDS: [Column; FIELD_COUNT] = [
    Column { name: "transaction_hash", names: &["transactionhash", "hash", "txhash"] },
    Column { name: "block_number", names: &["blocknumber", "blockno"] },
    Column { name: "transaction_index", names: &["transactionindex", "txindex", "transactionposition"] },
    Column { name: "from_address", names: &["fromaddress", "actionfrom", "from", "actionaddress"] },
    Column {
        name: "to_address",
        names: &["toaddress", "txto", "actionto", "to", "actionrefundaddress", "actionauthor"],
    },
    Column { name: "value", names: &["value", "actionvalue", "actionbalance"] },
    Column { name: "value_in", names: &["valuein"] },
    Column { name: "value_out", names: &["valueout"] },
    Column { name: "block_timestamp", names: &["blocktimestamp", "unixtimestamp", "timestamp"] },
    Column { name: "datetime_utc", names: &["datetimeutc"] },
    Column { name: "trace_type", names: &["tracetype", "actiontype"] },
    Column { name: "type", names: &["type"] },
    Column { name: "call_type", names: &["calltype", "actioncalltype"] },
    Column { name: "trace_address", names: &["traceaddress", "traceid"] },
    Column { name: "error", names: &["error"] },
    Column { name: "status", names: &["status", "success"] },
    Column { name: "is_error", names: &["iserror"] },
    Column { name: "err_code", names: &["errcode"] },
    Column { name: "contract_address", names: &["contractaddress", "resultaddress", "createdcontract"] },
    Column { name: "trace_id", names: &["traceid"] },
    Column { name: "network", names: NETWORK_NAMES },
    Column { name: "chain_id", names: CHAIN_ID_NAMES },
    Column { name: "unit", names: UNIT_NAMES },
    Column { name: "asset", names: ASSET_NAMES },
];

/// Indexes in [`FIELDS`].
const HASH: usize = 0;
const BLOCK: usize = 1;
const VALUE: usize = 5;
const VALUE_IN: usize = 6;
const VALUE_OUT: usize = 7;
const TRACE_TYPE: usize = 10;
const TYPE: usize = 11;
const PATH: usize = 13;

/// Columns whose names may state a unit.
const AMOUNTS: [usize; 3] = [VALUE, VALUE_IN, VALUE_OUT];

/// Columns that may be without a value.
const OPTIONAL: [usize; 4] = [1, 2, 12, 15];

/// Columns that say which calls failed.
const OUTCOMES: [usize; 4] = [14, 15, 16, 17];

/// Time of Ethereum's first block.
const ETHEREUM_GENESIS: i64 = 1_438_269_973;

/// Types that ethereum-etl writes for other items of a stream.
const OTHER_KINDS: [&str; 6] = ["block", "log", "token_transfer", "contract", "token", "transaction"];

/// Values of a line in the order of [`FIELDS`].
type Texts<'a> = [Option<&'a str>; FIELD_COUNT];

/// Encodes the lines of one file.
struct LegEncoder {
    context: Context,
    unit: Unit,
    /// Units that the names of columns state.
    units: Units<FIELD_COUNT>,
    /// Traces of whole transactions: the call without an address is the transaction itself.
    is_trace: bool,
    /// The status is an error flag.
    explorer_status: bool,
    /// The file, or the object, says which calls failed.
    has_outcome: bool,
    /// The file, or the object, has trace addresses.
    has_path: bool,
    /// The file, or the object, has a column of values.
    has_value: bool,
}

impl LegEncoder {
    /// Validates the values of a line and encodes its leg.
    fn encode(&self, texts: Texts<'_>, out: &mut TupleBuffer) -> Result<Parsed, LineError> {
        let [
            hash,
            block_number,
            index,
            from,
            to,
            value,
            value_in,
            value_out,
            time,
            date_time,
            trace_type,
            type_text,
            call_type,
            path,
            error,
            status_text,
            is_error,
            error_code,
            contract,
            _trace_id,
            network,
            chain_id,
            unit,
            asset,
        ] = without_nulls(texts, &OPTIONAL);
        let context = &self.context;
        check_coin(context, network, chain_id, asset)?;
        let kind = leg_kind(trace_type.or(type_text), call_type)?;
        let by_error = |text: Option<&str>| text.filter(|text| values::is_error(text)).map(|_| true);
        let by_status = match status_text {
            None => None,
            // Etherscan's column is 0 for success.
            Some("0") if self.explorer_status => Some(false),
            Some("1") if self.explorer_status && by_error(error_code).is_none() => {
                let allowed = "0, or accompanied by an error code";
                return Err(LineError::NotOneOf { column: "status", text: "1".to_owned(), allowed });
            }
            Some("1") if self.explorer_status => Some(true),
            Some(text) => Some(status("status", text)? == RowStatus::Failed),
        };
        let by_flag = is_error.map(|text| has_failed("is_error", text)).transpose()?;
        let stated = agreed([by_flag, by_status, by_error(error), by_error(error_code)]).map_err(|()| {
            let texts = [status_text, is_error, error, error_code].map(Option::unwrap_or_default);
            let columns = "status, is_error, error, err_code";
            LineError::Contradiction { columns, text: shorten(&texts.join(", ")) }
        })?;
        let outcome = stated.or(self.has_outcome.then_some(false));
        let failed = outcome == Some(true);
        if self.is_trace && !self.has_path && matches!(kind, "call" | "create" | "selfdestruct") {
            return Err(LineError::Empty { column: "trace_address" });
        }
        let path = if self.is_trace {
            Some(trace_path(path)?)
        } else {
            path.map(|text| trace_path(Some(text))).transpose()?
        };
        let unit = context.unit_of("unit", unit)?.or(self.units[VALUE]);
        let units = match (value, value_in, value_out) {
            (None, None, None) if !self.has_value && !failed && !kind.is_empty() => {
                return Err(LineError::Empty { column: "value" });
            }
            (None, None, None) => 0,
            (Some(_), ..) => context.amount_or(unit, self.unit, "value", value)?,
            (None, value_in, value_out) => {
                value_in_or_out(context, [self.units[VALUE_IN], self.units[VALUE_OUT]], value_in, value_out)?
            }
        };
        if !failed && (units == 0 || kind.is_empty()) {
            return Ok(Parsed::Nothing);
        }
        let minted = matches!(kind, "reward" | "genesis");
        let block_number = optional_bigint("block_number", block_number)?;
        let tx_hash = match (hash, block_number, kind) {
            (None, Some(number), "reward") => Cow::Owned(format!("reward:{number}")),
            (None, _, "genesis") => Cow::Borrowed("genesis"),
            _ => context.hash("transaction_hash", hash)?,
        };
        let from = context.optional_address("from_address", from)?;
        if from.is_none() && !minted {
            return Err(LineError::Empty { column: "from_address" });
        }
        let to = context.optional_address("to_address", to)?;
        let contract = context.optional_address("contract_address", contract)?;
        if from.is_none() && to.is_none() {
            return Err(LineError::Empty { column: "to_address" });
        }
        let unix_seconds = match (time, date_time) {
            // The genesis block has no time of its own in traces.
            (None, None) if kind == "genesis" && context.network() == "ethereum" => Some(ETHEREUM_GENESIS),
            (None, None) => None,
            (time, date_time) => Some(context.stated_time(time, date_time)?),
        };
        let index = index.map(|text| whole("transaction_index", text, INTEGER_LIMITS)).transpose()?;
        out.begin(COLUMN_COUNT);
        out.text(context.network());
        out.text(&tx_hash);
        optional_int8(block_number, out);
        optional_int4(index, out);
        match unix_seconds {
            Some(seconds) => out.timestamp(seconds),
            None => out.null(),
        }
        out.optional_text(from.as_ref().map(Address::as_str));
        out.optional_text(to.as_ref().or(contract.as_ref()).map(Address::as_str));
        out.numeric(units.into(), COIN_SCALE);
        out.text(if kind.is_empty() { "call" } else { kind });
        out.optional_text(path.as_deref());
        optional_int4(outcome.map(i32::from), out);
        Ok(Parsed::Row { unix_seconds })
    }
}

/// Returns the kind of a leg; empty for a call that moves nothing between accounts.
fn leg_kind(kind: Option<&str>, call_type: Option<&str>) -> Result<&'static str, LineError> {
    let text = required("trace_type", kind)?;
    let lower = text.to_ascii_lowercase();
    Ok(match lower.split('_').next().unwrap_or_default() {
        "call" => match call_type.map(str::to_ascii_lowercase).as_deref() {
            None | Some("call") => "call",
            _ => "",
        },
        "delegatecall" | "staticcall" | "callcode" => "",
        "create" | "create2" => "create",
        "suicide" | "selfdestruct" | "self-destruct" => "selfdestruct",
        "reward" => "reward",
        "genesis" => "genesis",
        // Transfers of the consensus layer and of forks.
        "daofork" => "fork",
        _ => {
            let allowed = "call, create, suicide, reward, genesis, daofork";
            return Err(LineError::NotOneOf { column: "trace_type", text: shorten(text), allowed });
        }
    })
}

/// Returns a trace address as numbers with commas: `0,1`; empty for the root.
fn trace_path(text: Option<&str>) -> Result<String, LineError> {
    let text = text.unwrap_or_default().trim_matches(['[', ']', ' ']);
    if text.is_empty() {
        return Ok(String::new());
    }
    let parts: Vec<&str> = text.split([',', '_']).map(str::trim).collect();
    let is_number = |part: &&str| !part.is_empty() && part.len() <= 9 && part.bytes().all(|b| b.is_ascii_digit());
    if parts.iter().all(is_number) && parts.len() <= 1100 {
        Ok(parts.join(","))
    } else {
        let allowed = "numbers with commas";
        Err(LineError::NotOneOf { column: "trace_address", text: shorten(text), allowed })
    }
}

/// Legs as CSV.
pub(crate) struct CsvLegs {
    rows: LegEncoder,
    header: Header,
    splitter: Splitter,
}

impl CsvLegs {
    pub(crate) fn new(context: Context, file: &str, line: &[u8], mappings: &[Mapping]) -> Result<Self, ImportError> {
        let mut header = Header::find(file, line, &FIELDS, mappings)?;
        let is_trace = header.has(TRACE_TYPE);
        let explorer_status = header.has(VALUE_IN);
        let has_both = header.has(VALUE_IN) && header.has(VALUE_OUT);
        if header.has(VALUE) || !has_both {
            header.disregard(VALUE_IN);
            header.disregard(VALUE_OUT);
        }
        let required = [
            (HASH, header.has(HASH)),
            (BLOCK, header.has(BLOCK)),
            (VALUE, header.has(VALUE) || has_both),
            (TYPE, is_trace || header.has(TYPE)),
            // Without it the call that is the transaction itself looks like every other call.
            (PATH, !is_trace || header.has(PATH)),
        ];
        let missing: Vec<_> =
            required.into_iter().filter(|(_, found)| !found).map(|(index, _)| FIELDS[index].name).collect();
        if !missing.is_empty() {
            let found = csv_line::shown(line);
            return Err(ImportError::MissingColumns { file: file.to_owned(), missing, found });
        }
        let unit = if header.has(VALUE_IN) { Unit::Coin } else { context.unit() };
        let has_outcome = OUTCOMES.iter().any(|index| header.has(*index));
        let units = header_units(&context, file, &header, &AMOUNTS)?;
        let (has_path, has_value) = (true, true);
        let rows = LegEncoder { context, unit, units, is_trace, explorer_status, has_outcome, has_path, has_value };
        Ok(Self { rows, header, splitter: Splitter::default() })
    }
}

impl RowParser for CsvLegs {
    fn parse(&mut self, _number: u64, line: &str, out: &mut TupleBuffer) -> Result<Parsed, LineError> {
        self.rows.encode(self.header.columns(&mut self.splitter, line)?, out)
    }

    fn transaction<'a>(&'a mut self, line: &'a str) -> Option<Cow<'a, str>> {
        self.header.value(&mut self.splitter, line, HASH).map(Cow::Borrowed)
    }

    fn takes_base_units(&self) -> bool {
        self.rows.unit == Unit::Base && self.rows.units[VALUE].is_none()
    }

    fn columns(&self) -> &[Column] {
        &FIELDS
    }

    fn unused_columns(&self) -> &[String] {
        self.header.unused()
    }
}

/// Legs as JSON objects.
pub(crate) struct JsonLegs {
    rows: LegEncoder,
    mappings: Vec<Mapping>,
}

impl JsonLegs {
    /// `is_trace` is true for ethereum-etl's traces, false for an explorer's internal transactions.
    pub(crate) fn new(context: Context, is_trace: bool, mappings: Vec<Mapping>) -> Self {
        let unit = context.unit();
        let units = [None; FIELD_COUNT];
        let (explorer_status, has_outcome, has_path, has_value) = (false, false, false, false);
        let rows = LegEncoder { context, unit, units, is_trace, explorer_status, has_outcome, has_path, has_value };
        Self { rows, mappings }
    }
}

impl RowParser for JsonLegs {
    fn parse(&mut self, _number: u64, line: &str, out: &mut TupleBuffer) -> Result<Parsed, LineError> {
        let row: JsonRow<'_, FIELD_COUNT> = JsonRow::parse(line, &FIELDS, &self.mappings)?;
        let texts = row.texts()?;
        let mut texts = texts.each_ref().map(JsonText::get);
        if self.rows.is_trace {
            if let Some(kind) = other_kind(texts[TYPE], &OTHER_KINDS) {
                return Ok(Parsed::Skipped(kind));
            }
            // Nodes write the type of a trace where streams write that of their items.
            if texts[TRACE_TYPE].is_some() {
                texts[TYPE] = None;
            }
        }
        // An object states for itself what a header states for a file. A node's trace that has
        // failed has an error, and every other one has none.
        self.rows.has_outcome = row.has_parts() || OUTCOMES.iter().any(|index| row.has(*index));
        self.rows.has_value = [VALUE, VALUE_IN, VALUE_OUT].iter().any(|index| row.has(*index));
        self.rows.has_path = row.has(PATH);
        self.rows.explorer_status = row.has(VALUE_IN) || row.has(VALUE_OUT);
        self.rows.units = key_units(&self.rows.context, &row, &FIELDS, &AMOUNTS)?;
        self.rows.encode(texts, out)
    }

    fn columns(&self) -> &[Column] {
        &FIELDS
    }

    fn transaction<'a>(&'a mut self, line: &'a str) -> Option<Cow<'a, str>> {
        let row: JsonRow<'_, 1> = JsonRow::parse(line, &[FIELDS[HASH]], &self.mappings).ok()?;
        let [hash] = row.texts().ok()?;
        hash.get().map(|hash| Cow::Owned(hash.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::decode;
    use super::super::values::fixtures::ethereum;
    use super::*;

    const ALICE: &str = "0xae2fc483527b8ef99eb5d9b44875f005ba1fae13";
    const BOB: &str = "0x6b75d8af000000e20b7a7ddf000ba900b4009a80";
    const HEADER: &[u8] =
        b"block_number,transaction_hash,from_address,to_address,value,trace_type,call_type,trace_address,error,status";

    fn legs(lines: &[String]) -> Vec<Result<(String, String, String, bool), String>> {
        let mut parser = CsvLegs::new(ethereum(), "f.csv", HEADER, &[]).unwrap();
        let parse = |line: &String| {
            let mut out = TupleBuffer::default();
            match parser.parse(2, line, &mut out) {
                Ok(Parsed::Nothing) => Err("nothing".to_owned()),
                Ok(_) => {
                    let row = decode::tuples(&out.into_bytes()).remove(0);
                    let text = |column: usize| {
                        row[column].as_ref().map(|v| String::from_utf8(v.clone()).unwrap()).unwrap_or("-".into())
                    };
                    Ok((text(1), text(8), text(9), row[10] == Some(1_i32.to_be_bytes().to_vec())))
                }
                Err(error) => Err(error.to_string()),
            }
        };
        lines.iter().map(parse).collect()
    }

    #[test]
    fn calls_that_move_value_are_legs_and_others_are_not() {
        let hash = format!("0x{}", "7".repeat(64));
        let line = |kind: &str, call: &str, value: &str, path: &str, error: &str, status: &str| {
            format!("5,{hash},{ALICE},{BOB},{value},{kind},{call},\"{path}\",{error},{status}")
        };
        let found = legs(&[
            line("call", "call", "5", "", "", "1"),
            line("call", "call", "5", "0,12", "", "1"),
            line("call", "call", "0", "1", "", "1"),
            line("call", "delegatecall", "5", "1", "", "1"),
            line("call", "callcode", "5", "1", "", "1"),
            line("create", "", "5", "2", "", "1"),
            line("suicide", "", "5", "3", "", "1"),
            line("call", "call", "0", "4", "Reverted", "0"),
            line("call", "call", "5", "x", "", "1"),
            line("teleport", "", "5", "6", "", "1"),
        ]);
        let leg = |kind: &str, path: &str, failed| Ok((hash.clone(), kind.to_owned(), path.to_owned(), failed));
        assert_eq!(found[0], leg("call", "", false), "loading knows whether the transaction is there");
        assert_eq!(found[1], leg("call", "0,12", false));
        for nothing in &found[2..5] {
            assert_eq!(*nothing, Err("nothing".into()));
        }
        assert_eq!(found[5], leg("create", "2", false));
        assert_eq!(found[6], leg("selfdestruct", "3", false));
        assert_eq!(found[7], leg("call", "4", true), "a failed call reverts its calls");
        assert!(found[8].as_ref().unwrap_err().contains("trace_address"));
        assert!(found[9].as_ref().unwrap_err().contains("teleport"));
    }

    #[test]
    fn traces_without_addresses_are_refused() {
        let header = b"block_number,transaction_hash,from_address,to_address,value,trace_type,status";
        let error = CsvLegs::new(ethereum(), "f.csv", header, &[]).map(drop).unwrap_err().to_string();
        assert!(error.contains("trace_address"), "{error}");
        let line = |more: &str| {
            format!(
                r#"{{"block_number": 5, "transaction_hash": "0x{}", "from_address": "{ALICE}", "to_address": "{BOB}",
                "value": 7, "trace_type": "call"{more}}}"#,
                "7".repeat(64)
            )
        };
        let parse = |line: &str| {
            let mut out = TupleBuffer::default();
            let parsed = JsonLegs::new(ethereum(), true, Vec::new()).parse(1, line, &mut out);
            parsed.map(|_| decode::tuples(&out.into_bytes()).remove(0)).map_err(|error| error.to_string())
        };
        assert!(parse(&line("")).unwrap_err().contains("trace_address"));
        assert_eq!(parse(&line(r#", "trace_address": [0, 1]"#)).unwrap()[10], None, "no outcome is stated");
        let failed = |more: &str| parse(&line(&format!(r#", "trace_address": [0]{more}"#))).map(|row| row[10].clone());
        let flag = |failed: i32| Ok(Some(failed.to_be_bytes().to_vec()));
        assert_eq!(failed(r#", "error": null"#), flag(0));
        assert_eq!(failed(r#", "isError": "failed""#), flag(1));
        assert_eq!(failed(r#", "isError": "0", "errCode": """#), flag(0));
        assert!(failed(r#", "status": 1, "error": "out of gas""#).unwrap_err().contains("contradict"));
    }

    #[test]
    fn a_leg_has_an_end() {
        let found = legs(&["17,,,,2000000000000000000,reward,,,,1".to_owned()]);
        assert!(found[0].as_ref().unwrap_err().contains("to_address"));
    }

    #[test]
    fn rewards_are_named_after_their_block() {
        let found = legs(&[format!("17,,,{BOB},2000000000000000000,reward,,,,1")]);
        assert_eq!(found[0], Ok(("reward:17".into(), "reward".into(), String::new(), false)));
    }
}
