//! Kinds of files of transactions, recognised by the names of their columns.

use clap::ValueEnum;

use super::csv_line;
use super::fields::{self, Mapping};
use crate::import::error::ImportError;
use crate::import::request::{FileOptions, Format};

/// The kind of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Transactions,
    Receipts,
    Traces,
    /// Internal transactions as explorers export them.
    Internal,
    /// Transactions with inputs and outputs.
    Utxo,
    /// A kind that another import takes, or none: its name and the way on.
    Other(&'static str, &'static str),
}

/// A kind that the user states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StatedKind {
    /// One line a transaction
    Transactions,
    /// Status, gas and contract of transactions
    Receipts,
    /// Traces of ethereum-etl
    Traces,
    /// Internal transactions of an explorer
    Internal,
    /// bitcoin-etl's transactions with inputs and outputs
    Utxo,
}

impl From<StatedKind> for Kind {
    fn from(stated: StatedKind) -> Self {
        match stated {
            StatedKind::Transactions => Self::Transactions,
            StatedKind::Receipts => Self::Receipts,
            StatedKind::Traces => Self::Traces,
            StatedKind::Internal => Self::Internal,
            StatedKind::Utxo => Self::Utxo,
        }
    }
}

/// Returns the folded names of the columns of a CSV header, or the keys of a JSON object. A type of
/// a mixed stream is a name of its own, `type:block`.
///
/// # Errors
/// [`ImportError::Format`].
pub(crate) fn names(
    file: &str,
    first: &[u8],
    format: Format,
    mappings: &[Mapping],
) -> Result<Vec<String>, ImportError> {
    let names = match format {
        Format::Csv => csv_line::names(file, first)?.1,
        Format::Json => fields::keys(&String::from_utf8_lossy(first)),
    };
    let mut folded = fields::folded(&names.iter().map(String::as_str).collect::<Vec<_>>(), mappings);
    if format == Format::Json
        && let Ok(object) = serde_json::from_slice::<serde_json::Value>(first)
        && let Some(text) = object.get("type").and_then(|value| value.as_str())
    {
        folded.push(format!("type:{text}"));
    }
    Ok(folded)
}

/// Recognises a kind. A file of no other kind is one of transactions, whose missing columns an
/// error names.
pub(crate) fn detect(names: &[String]) -> Kind {
    let has = |name: &str| names.iter().any(|found| found == name);
    let has_any = |of: &[&str]| of.iter().any(|name| has(name));
    let is_node_trace = has("traceaddress") && has_any(&["actionfrom", "actionaddress", "actionauthor"]);
    if has_any(&["tracetype", "actiontype"]) || is_node_trace {
        return Kind::Traces;
    }
    // A mixed stream begins with any of its kinds.
    if ["block", "log", "token_transfer", "contract", "token"].iter().any(|kind| has(&format!("type:{kind}"))) {
        return Kind::Transactions;
    }
    if has("inputs") && has("outputs") {
        return Kind::Utxo;
    }
    if has("vin") && has("vout") {
        let advice = "import the output of bitcoin-etl, or a list of edges";
        return Kind::Other("transactions whose inputs name no amounts of their own", advice);
    }
    // An answer without rows: an array of them would have been read as lines.
    if has("message") && has("result") && !has_any(&["hash", "transactionhash"]) {
        return Kind::Other("an error of an explorer", "fetch the page again");
    }
    if has_any(&[
        "tokenaddress",
        "tokencontractaddress",
        "tokenid",
        "tokenvalue",
        "tokensymbol",
        "tokenstransferred",
        "erc20",
        "erc721",
    ]) {
        return Kind::Other("token transfers", "use `arx-sidecar import token-transfers`");
    }
    if has_any(&["topics", "topic0"]) {
        return Kind::Other("logs", "import token transfers that were extracted from them");
    }
    if has("miner") && !has("fromaddress") {
        return Kind::Other("blocks", "import their transactions");
    }
    let is_internal = has("txto")
        || has("parenttxfrom")
        || has("calltype")
        || has("type") && has("traceid")
        || ["call", "create", "create2", "suicide", "selfdestruct"].iter().any(|kind| has(&format!("type:{kind}")))
        || has("type") && has_any(&["iserror", "errcode"]) && !has_any(&["gasprice", "nonce", "txnfee", "fee"]);
    if is_internal {
        return Kind::Internal;
    }
    let has_value = has_any(&["value", "valuein", "valuestring", "valuebinary", "amount"]);
    if !has_value && has_any(&["status", "receiptstatus", "gasused", "receiptgasused", "cumulativegasused"]) {
        return Kind::Receipts;
    }
    Kind::Transactions
}

/// Requires a stated unit where exports of the same name have been in both.
///
/// # Errors
/// [`ImportError::UnknownUnit`].
pub(crate) fn check_unit(file: &str, kind: Kind, names: &[String], options: &FileOptions) -> Result<(), ImportError> {
    let has = |name: &str| names.iter().any(|found| found == name);
    // Blockscout has written wei and coins under the same header.
    let is_blockscout = has("value") && (has("txdateopeningprice") || has("currentprice") || has("blockindex"));
    if is_blockscout && options.unit.is_none() && matches!(kind, Kind::Transactions | Kind::Internal) {
        return Err(ImportError::UnknownUnit { file: file.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(header: &str) -> Kind {
        detect(&names("f", header.as_bytes(), Format::Csv, &[]).unwrap())
    }

    #[test]
    fn kinds_are_recognised_by_their_columns() {
        for (header, expected) in [
            ("hash,nonce,block_number,from_address,to_address,value,block_timestamp", Kind::Transactions),
            (
                "transaction_hash,transaction_index,block_hash,block_number,gas_used,contract_address,status",
                Kind::Receipts,
            ),
            ("transaction_hash,from_address,to_address,value,trace_type,trace_address", Kind::Traces),
            ("\"Txhash\",\"Blockno\",\"From\",\"TxTo\",\"Value_IN(ETH)\",\"Value_OUT(ETH)\",\"Type\"", Kind::Internal),
            (
                "\"Transaction Hash\",\"Blockno\",\"From\",\"To\",\"Value_IN(BNB)\",\"Value_OUT(BNB)\",\"Status\",\"ErrCode\"",
                Kind::Transactions,
            ),
        ] {
            assert_eq!(kind(header), expected, "{header}");
        }
        assert!(matches!(
            kind("token_address,from_address,to_address,value,log_index"),
            Kind::Other("token transfers", _)
        ));
        assert!(matches!(kind("number,hash,miner,timestamp"), Kind::Other("blocks", _)));
    }

    #[test]
    fn a_type_in_json_is_not_always_a_kind() {
        let kind = |line: &str| detect(&names("f", line.as_bytes(), Format::Json, &[]).unwrap());
        assert_eq!(
            kind(r#"{"hash": "", "type": "call", "isError": "0", "traceId": "0", "value": "1"}"#),
            Kind::Internal
        );
        assert_eq!(kind(r#"{"hash": "", "type": "call", "traceId": "0", "value": "1"}"#), Kind::Internal);
        assert_eq!(kind(r#"{"hash": "", "type": "create", "value": "1", "gas": "1"}"#), Kind::Internal);
        assert!(matches!(kind(r#"{"status": "0", "message": "NOTOK", "result": "busy"}"#), Kind::Other(..)));
        assert_eq!(kind(r#"{"hash": "", "type": "0x2", "from_address": "", "value": 1}"#), Kind::Transactions);
        assert_eq!(kind(r#"{"type": "block", "miner": "", "hash": ""}"#), Kind::Transactions);
        assert_eq!(kind(r#"{"hash": "", "inputs": [], "outputs": []}"#), Kind::Utxo);
        assert_eq!(kind(r#"{"hash": "", "isError": "0", "gasPrice": "1", "value": "1"}"#), Kind::Transactions);
    }
}
