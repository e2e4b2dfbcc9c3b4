//! Parses token transfers into rows of `arx.token_transfers`: ethereum-etl's files, exports and API
//! answers of block explorers. Values that a file lacks (time, block, log index) are found while
//! loading.
//!
//! A token id is not an amount: an NFT counts as 1, with its id in `token_id`.

use std::collections::HashSet;

use arx_core::address::Address;
use arx_pgwire::copy::TupleBuffer;
use ethnum::U256;

use super::csv_line::{self, Header, Splitter};
use super::fields::{Column, JsonRow, Mapping};
use super::json::JsonText;
use super::number;
use super::transactions::{
    CHAIN_ID_NAMES, NETWORK_NAMES, RowStatus, Units, header_units, optional_int4, optional_int8, other_kind, status,
};
use super::values::{
    Context, INTEGER_LIMITS, Parsed, RowParser, Unit, optional_bigint, raw_units, required, shorten, uint256, whole,
    without_nulls,
};
use crate::import::error::{ImportError, LineError};

/// Columns of a tuple, in order.
pub(crate) const COLUMNS: &str = "network, tx_hash, log_index, block_number, \"timestamp\", token_address, from_address, to_address, amount, token_id";

/// Number of [`COLUMNS`].
const COLUMN_COUNT: i16 = 10;

/// Number of [`FIELDS`].
const FIELD_COUNT: usize = 17;

/// Columns of files.
const FIELDS: [Column; FIELD_COUNT] = [
    Column {
        name: "token_address",
        names: &["tokenaddress", "tokencontractaddress", "contractaddress", "erc20", "erc721"],
    },
    Column { name: "from_address", names: &["fromaddress", "from"] },
    Column { name: "to_address", names: &["toaddress", "to"] },
    Column { name: "value", names: &["value", "valuestring", "valuebinary"] },
    Column { name: "transaction_hash", names: &["transactionhash", "hash", "txhash"] },
    Column { name: "log_index", names: &["logindex"] },
    Column { name: "block_number", names: &["blocknumber", "blockno"] },
    Column { name: TIME, names: &["blocktimestamp", "unixtimestamp", "timestamp"] },
    Column { name: "datetime_utc", names: &["datetimeutc"] },
    Column { name: "token_id", names: &["tokenid", "tokenidstring", "tokenidbinary"] },
    Column { name: "token_type", names: &["tokentype", "tokenstandard"] },
    Column { name: "token_value", names: &["tokenvalue", "tokenstransferred"] },
    Column { name: "token_decimals", names: &["tokendecimal", "tokendecimals"] },
    Column { name: "type", names: &["type"] },
    Column { name: "network", names: NETWORK_NAMES },
    Column { name: "chain_id", names: CHAIN_ID_NAMES },
    Column { name: "status", names: &["status", "receiptstatus", "txreceiptstatus"] },
];

/// Indexes in [`FIELDS`].
const VALUE: usize = 3;
const HASH: usize = 4;
const LOG_INDEX: usize = 5;
const BLOCK: usize = 6;
const ID: usize = 9;
const TOKEN_VALUE: usize = 11;
const TYPE: usize = 13;

/// Column of newer files.
const TIME: &str = "block_timestamp";

/// Types that ethereum-etl writes for other items of a stream.
const OTHER_KINDS: [&str; 6] = ["block", "log", "trace", "contract", "token", "transaction"];

/// A larger value is hardly an amount: 2^128 units are 3.4·10²⁰ tokens of 18 decimals.
const LARGEST_UNSTATED: U256 = U256::new(u128::MAX);

/// Statements of the user about the tokens of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TokenRules {
    /// Contracts whose values are amounts; `all` for every one.
    pub(crate) fungible: HashSet<String>,
    /// Contracts whose values are token ids; `all` for every one.
    pub(crate) nfts: HashSet<String>,
    /// Decimals of `token_value`.
    pub(crate) decimals: Option<u32>,
}

impl TokenRules {
    fn states(contracts: &HashSet<String>, token: &str) -> bool {
        contracts.contains(token) || contracts.contains("all")
    }
}

/// The report's word for values that may be token ids.
const ASSUMED: &str = "token transfers whose values are taken for amounts, because nothing states whether their \
                       contracts are NFTs (--erc721, --erc20)";

/// Encodes the rows of one file.
#[derive(Debug, Clone)]
struct TransferEncoder {
    context: Context,
    rules: TokenRules,
    /// Contracts of which the file has shown token ids.
    nfts: HashSet<String>,
    /// The value of the last line is taken for an amount, and nothing states that it is.
    assumed: bool,
    /// Rows are loaded as they are: each must have its block and time.
    is_whole: bool,
}

/// Values of a line in the order of [`FIELDS`].
type Texts<'a> = [Option<&'a str>; FIELD_COUNT];

impl TransferEncoder {
    fn new(context: Context, rules: TokenRules) -> Self {
        Self { context, rules, nfts: HashSet::new(), assumed: false, is_whole: false }
    }

    /// Validates and encodes the values of a line.
    fn encode(&mut self, texts: Texts<'_>, out: &mut TupleBuffer) -> Result<Parsed, LineError> {
        let [
            token,
            from,
            to,
            value,
            hash,
            log_index,
            block,
            time,
            date_time,
            id,
            standard,
            token_value,
            decimals,
            _type,
            network,
            chain_id,
            outcome,
        ] = without_nulls(texts, &[LOG_INDEX, BLOCK, ID]);
        self.assumed = false;
        let context = &self.context;
        context.check_network(network, chain_id)?;
        // The logs of a failed transaction do not exist.
        if let Some(text) = outcome
            && status("status", text)? == RowStatus::Failed
        {
            return Ok(Parsed::Nothing);
        }
        let tx_hash = context.hash("transaction_hash", hash)?;
        let log_index: Option<i32> = log_index.map(|text| whole("log_index", text, INTEGER_LIMITS)).transpose()?;
        let block_number = optional_bigint("block_number", block)?;
        let unix_seconds = match (time, date_time) {
            (None, None) => None,
            (time, date_time) => Some(context.stated_time(time, date_time)?),
        };
        if self.is_whole {
            required("block_number", block_number.map(|_| ""))?;
            required(TIME, unix_seconds.map(|_| ""))?;
        }
        let token = context.address("token_address", token)?;
        let from = context.address("from_address", from)?;
        let to = context.address("to_address", to)?;
        let (amount, id) = self.amount(&token, value, token_value, decimals, id, standard)?;
        out.begin(COLUMN_COUNT);
        out.text(self.context.network());
        out.text(&tx_hash);
        optional_int4(log_index, out);
        optional_int8(block_number, out);
        match unix_seconds {
            Some(seconds) => out.timestamp(seconds),
            None => out.null(),
        }
        out.text(token.as_str());
        out.text(from.as_str());
        out.text(to.as_str());
        out.numeric(amount, 0);
        match id {
            Some(id) => out.numeric(id, 0),
            None => out.null(),
        }
        Ok(Parsed::Row { unix_seconds })
    }

    /// Returns the amount in raw units, and the id of an NFT.
    fn amount(
        &mut self,
        token: &Address,
        value: Option<&str>,
        token_value: Option<&str>,
        decimals: Option<&str>,
        id: Option<&str>,
        standard: Option<&str>,
    ) -> Result<(U256, Option<U256>), LineError> {
        let standard = standard.map(|text| text.to_ascii_lowercase().replace(['-', '_', ' '], ""));
        let is_nft = standard.as_deref() == Some("erc721") || TokenRules::states(&self.rules.nfts, token.as_str());
        let id = id.map(|text| number_of("token_id", text)).transpose()?;
        if (is_nft || id.is_some()) && !self.nfts.contains(token.as_str()) {
            self.nfts.insert(token.as_str().to_owned());
        }
        match (value, token_value, id) {
            (Some(text), _, None) if is_nft => Ok((U256::ONE, Some(number_of("value", text)?))),
            (_, _, Some(id)) if is_nft => Ok((U256::ONE, Some(id))),
            (None, None, Some(id)) => Ok((U256::ONE, Some(id))),
            (Some(text), _, id) => {
                let amount = number_of("value", text).map_err(|error| match error {
                    LineError::Fraction { text, .. } => LineError::TokenFraction { text },
                    error => error,
                })?;
                let stated = id.is_some()
                    || standard.is_some()
                    || decimals.is_some()
                    || TokenRules::states(&self.rules.fungible, token.as_str());
                if !stated && amount > LARGEST_UNSTATED {
                    self.nfts.insert(token.as_str().to_owned());
                }
                self.assumed = !stated;
                if !stated && self.nfts.contains(token.as_str()) {
                    return Err(LineError::TokenId { text: shorten(text), token: token.as_str().to_owned() });
                }
                Ok((amount, id))
            }
            // An amount in tokens, whose decimals the export may not state.
            (None, Some(text), id) => {
                let decimals = match (self.rules.decimals, decimals) {
                    (Some(decimals), _) => decimals,
                    (None, Some(text)) => whole("token_decimals", text, "0 to 77")?,
                    (None, None) if id.is_some() => 0,
                    (None, None) => return Err(LineError::TokenDecimals { text: shorten(text) }),
                };
                let digits =
                    number::scaled(text, decimals).map_err(|fault| LineError::of_number(fault, "token_value", text))?;
                Ok((number_of("token_value", &digits)?, id))
            }
            (None, None, None) => Err(LineError::Empty { column: "value" }),
        }
    }
}

/// Parses a number below 2²⁵⁶.
fn number_of(column: &'static str, text: &str) -> Result<U256, LineError> {
    let digits = raw_units(column, Some(text))?;
    uint256(column, &digits)?;
    digits.parse().map_err(|_| LineError::NotAnInteger { column, text: shorten(text) })
}

/// Returns true if rows may lack a value that only the database has, judged by the first line: a
/// CSV header or the first object.
pub(crate) fn is_incomplete(names: &[String]) -> bool {
    let has = |index: usize| FIELDS[index].names.iter().any(|known| names.iter().any(|name| name == known));
    !(has(LOG_INDEX) && has(BLOCK) && (has(7) || has(8)))
}

/// Token transfers as CSV.
pub(crate) struct CsvTransfers {
    rows: TransferEncoder,
    header: Header,
    splitter: Splitter,
}

impl CsvTransfers {
    pub(crate) fn new(
        context: Context,
        rules: TokenRules,
        file: &str,
        line: &[u8],
        mappings: &[Mapping],
    ) -> Result<Self, ImportError> {
        let header = Header::find(file, line, &FIELDS, mappings)?;
        let is_present = |index| match index {
            VALUE => header.has(VALUE) || header.has(TOKEN_VALUE) || header.has(ID),
            index => header.has(index),
        };
        let missing: Vec<_> = (0..=HASH).filter(|index| !is_present(*index)).map(|index| FIELDS[index].name).collect();
        if !missing.is_empty() {
            let found = csv_line::shown(line);
            return Err(ImportError::MissingColumns { file: file.to_owned(), missing, found });
        }
        let units: Units<FIELD_COUNT> = header_units(&context, file, &header, &[VALUE])?;
        if let (Some(_), Some((column, _))) = (units[VALUE].filter(|unit| *unit != Unit::Base), header.unit(VALUE)) {
            let (file, column, network) = (file.to_owned(), column.to_owned(), "a token".to_owned());
            return Err(ImportError::ColumnUnit { file, column, network });
        }
        Ok(Self { rows: TransferEncoder::new(context, rules), header, splitter: Splitter::default() })
    }
}

impl CsvTransfers {
    /// States whether each line must have its block and time.
    pub(crate) fn of_whole_rows(mut self, is_whole: bool) -> Self {
        self.rows.is_whole = is_whole;
        self
    }
}

impl RowParser for CsvTransfers {
    fn parse(&mut self, _number: u64, line: &str, out: &mut TupleBuffer) -> Result<Parsed, LineError> {
        self.rows.encode(self.header.columns(&mut self.splitter, line)?, out)
    }

    fn unused_columns(&self) -> &[String] {
        self.header.unused()
    }

    fn columns(&self) -> &[Column] {
        &FIELDS
    }

    fn note(&self) -> Option<(&'static str, u64)> {
        self.rows.assumed.then_some((ASSUMED, 1))
    }
}

/// Token transfers as JSON objects; objects of another `type` are skipped.
pub(crate) struct JsonTransfers {
    rows: TransferEncoder,
    mappings: Vec<Mapping>,
}

impl JsonTransfers {
    pub(crate) fn new(context: Context, rules: TokenRules, mappings: Vec<Mapping>) -> Self {
        Self { rows: TransferEncoder::new(context, rules), mappings }
    }
}

impl JsonTransfers {
    /// States whether each object must have its block and time.
    pub(crate) fn of_whole_rows(mut self, is_whole: bool) -> Self {
        self.rows.is_whole = is_whole;
        self
    }
}

impl RowParser for JsonTransfers {
    fn parse(&mut self, _number: u64, line: &str, out: &mut TupleBuffer) -> Result<Parsed, LineError> {
        let row: JsonRow<'_, FIELD_COUNT> = JsonRow::parse(line, &FIELDS, &self.mappings)?;
        let texts = row.texts()?;
        let texts = texts.each_ref().map(JsonText::get);
        self.rows.assumed = false;
        if let Some(kind) = other_kind(texts[TYPE], &OTHER_KINDS) {
            return Ok(Parsed::Skipped(kind));
        }
        if let Some(unit) = row.unit(VALUE).filter(|unit| self.rows.context.named_unit(unit) != Some(Unit::Base)) {
            let (text, network) = (shorten(unit), "the token".to_owned());
            return Err(LineError::UnitName { column: "value", text, network });
        }
        self.rows.encode(texts, out)
    }

    fn columns(&self) -> &[Column] {
        &FIELDS
    }

    fn note(&self) -> Option<(&'static str, u64)> {
        self.rows.assumed.then_some((ASSUMED, 1))
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

    fn stated(fungible: bool) -> TokenRules {
        let all = HashSet::from(["all".to_owned()]);
        if fungible {
            TokenRules { fungible: all, ..TokenRules::default() }
        } else {
            TokenRules { nfts: all, ..TokenRules::default() }
        }
    }

    /// Amount and token id of a line.
    fn amount(rules: TokenRules, header: &str, line: &str) -> Result<(String, Option<String>), String> {
        let mut parser = CsvTransfers::new(ethereum(), rules, "f.csv", header.as_bytes(), &[]).unwrap();
        let mut out = TupleBuffer::default();
        parser.parse(7, line, &mut out).map_err(|error| {
            assert_eq!(out.len(), 0, "a rejected line left a row");
            error.to_string()
        })?;
        let row = decode::tuples(&out.into_bytes()).remove(0);
        Ok((decode::numeric(row[8].as_ref().unwrap()), row[9].as_deref().map(decode::numeric)))
    }

    const HEADER: &str = "block_number,token_address,from_address,to_address,value,transaction_hash,log_index";

    #[test]
    fn token_ids_are_not_amounts() {
        let line = |value: &str| format!("9,{TOKEN},{TOKEN},{TOKEN},{value},{HASH},4");
        assert_eq!(amount(stated(true), HEADER, &line(LARGEST)), Ok((LARGEST.to_owned(), None)));
        assert_eq!(amount(stated(false), HEADER, &line(LARGEST)), Ok(("1".to_owned(), Some(LARGEST.to_owned()))));
        assert_eq!(amount(stated(false), HEADER, &line("7")), Ok(("1".to_owned(), Some("7".to_owned()))));
        let error = amount(TokenRules::default(), HEADER, &line(LARGEST)).unwrap_err();
        assert!(error.contains("--erc721") && error.contains(TOKEN), "{error}");
        let header = format!("{HEADER},token_id,token_type");
        let line =
            |value: &str, id: &str, kind: &str| format!("9,{TOKEN},{TOKEN},{TOKEN},{value},{HASH},4,{id},{kind}");
        let rules = TokenRules::default;
        assert_eq!(amount(rules(), &header, &line("", "5", "")), Ok(("1".to_owned(), Some("5".to_owned()))));
        assert_eq!(amount(rules(), &header, &line("3", "5", "ERC-1155")), Ok(("3".to_owned(), Some("5".to_owned()))));
        assert_eq!(amount(rules(), &header, &line("9", "", "ERC-721")), Ok(("1".to_owned(), Some("9".to_owned()))));
    }

    #[test]
    fn a_value_without_the_id_that_its_contract_has_in_other_lines_is_doubtful() {
        let header = format!("{HEADER},token_id,token_type");
        let mut parser = CsvTransfers::new(ethereum(), TokenRules::default(), "f.csv", header.as_bytes(), &[]).unwrap();
        let mut parsed = |values: &str| {
            let line = format!("9,{TOKEN},{TOKEN},{TOKEN},{values}");
            parser.parse(7, &line, &mut TupleBuffer::default()).map(|_| ()).map_err(|error| error.kind())
        };
        assert_eq!(parsed(&format!("2,{HASH},4,,")), Ok(()));
        assert_eq!(parsed(&format!("1,{HASH},4,77,")), Ok(()));
        assert_eq!(parsed(&format!("2,{HASH},4,,")), Err("value: amount or token id".to_owned()));
        assert_eq!(parsed(&format!("2,{HASH},4,78,")), Ok(()));
        assert_eq!(parsed(&format!("2,{HASH},4,,ERC-1155")), Ok(()), "the line states what its value is");
    }

    #[test]
    fn values_of_unknown_meaning_are_counted_and_a_contract_with_ids_has_no_amounts() {
        let other = TOKEN.replace("c02a", "0000");
        let mut parser = CsvTransfers::new(ethereum(), TokenRules::default(), "f.csv", HEADER.as_bytes(), &[]).unwrap();
        let mut out = TupleBuffer::default();
        let mut note = |token: &str, value: &str| {
            let parsed = parser.parse(7, &format!("9,{token},{TOKEN},{TOKEN},{value},{HASH},4"), &mut out);
            parsed.map(|_| parser.note().map(|(_, count)| count)).map_err(|error| error.kind())
        };
        let id = Err("value: amount or token id".to_owned());
        assert_eq!(note(TOKEN, "8817"), Ok(Some(1)));
        assert_eq!(note(TOKEN, LARGEST), id);
        assert_eq!(note(TOKEN, "8817"), id, "another value of the contract is an id");
        assert_eq!(note(&other, "8817"), Ok(Some(1)));
        let mut parser = CsvTransfers::new(ethereum(), stated(true), "f.csv", HEADER.as_bytes(), &[]).unwrap();
        parser.parse(7, &format!("9,{TOKEN},{TOKEN},{TOKEN},8817,{HASH},4"), &mut out).unwrap();
        assert_eq!(parser.note(), None);
    }

    #[test]
    fn amounts_in_dollars_or_tokens_are_not_raw_values() {
        let header = "Txhash,UnixTimestamp,From,To,TokenValue,Value (USD),ContractAddress";
        let line = format!("{HASH},1683029999,{TOKEN},{TOKEN},1.5,3,{TOKEN}");
        assert!(amount(TokenRules::default(), header, &line).unwrap_err().contains("--token-decimals"));
        let rules = TokenRules { decimals: Some(6), ..TokenRules::default() };
        assert_eq!(amount(rules, header, &line), Ok(("1500000".to_owned(), None)));
        let header = header.replace("Value (USD)", "Value (ETH)");
        assert!(CsvTransfers::new(ethereum(), TokenRules::default(), "f.csv", header.as_bytes(), &[]).is_err());
    }

    #[test]
    fn a_fraction_among_raw_values_says_how_amounts_in_tokens_are_read() {
        let line = format!("9,{TOKEN},{TOKEN},{TOKEN},1.5,{HASH},4");
        let mut parser = CsvTransfers::new(ethereum(), stated(true), "f.csv", HEADER.as_bytes(), &[]).unwrap();
        let error = parser.parse(7, &line, &mut TupleBuffer::default()).unwrap_err();
        assert!(error.questions_all_amounts().unwrap().contains("--map value=token_value"), "{error}");
    }

    #[test]
    fn amounts_in_tokens_need_their_decimals() {
        let header = "Txhash,UnixTimestamp,From,To,TokenValue,ContractAddress";
        let line = format!("{HASH},1683029999,{TOKEN},{TOKEN},\"1,234.5\",{TOKEN}");
        assert!(amount(TokenRules::default(), header, &line).unwrap_err().contains("--token-decimals"));
        let rules = TokenRules { decimals: Some(6), ..TokenRules::default() };
        assert_eq!(amount(rules, header, &line), Ok(("1234500000".to_owned(), None)));
    }

    #[test]
    fn amounts_beyond_uint256_and_below_zero_are_named() {
        for bad in [format!("{LARGEST}0"), "-1".to_owned(), "1.5".to_owned()] {
            let error = amount(stated(true), HEADER, &format!("9,{TOKEN},{TOKEN},{TOKEN},{bad},{HASH},4")).unwrap_err();
            assert!(error.contains(&bad), "{error}");
        }
    }

    #[test]
    fn a_streamed_json_line_carries_its_time() {
        let line = format!(
            r#"{{"type": "token_transfer", "token_address": "{TOKEN}", "from_address": "{TOKEN}", "to_address": "{TOKEN}",
            "value": {LARGEST}, "transaction_hash": "{HASH}", "log_index": 0, "block_number": 17173049,
            "block_timestamp": 1683029999}}"#
        );
        let mut parser = JsonTransfers::new(ethereum(), stated(true), Vec::new());
        let mut out = TupleBuffer::default();
        assert_eq!(parser.parse(1, &line, &mut out), Ok(Parsed::Row { unix_seconds: Some(1_683_029_999) }));
        let row = decode::tuples(&out.into_bytes()).remove(0);
        assert_eq!(row.len(), 10);
        assert_eq!(decode::numeric(row[8].as_ref().unwrap()), LARGEST);
    }
}
