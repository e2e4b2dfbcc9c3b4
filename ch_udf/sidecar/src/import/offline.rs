//! Rows of files without a database: the same rows that an import would load.

use std::collections::HashSet;
use std::io::BufRead;
use std::path::Path;

use arx_core::address::Network;
use sha2::{Digest, Sha256};

use super::error::{ImportError, LineError};
use super::labels::{self, LabelRow};
use super::parse::graph::GraphTransactions;
use super::parse::transactions::{CsvTransactions, JsonTransactions, TransactionRow};
use super::parse::values::Context;
use super::read::chunk::broken;
use super::read::input::{self, Line, Lines};
use super::read::nodes::read_nodes;
use super::read::reader::{detected_format, first_line};
use super::request::Format;

/// Files of transactions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TransactionFiles<'a> {
    pub(crate) transactions: &'a Path,
    /// Nodes file; none where transactions contain addresses.
    pub(crate) nodes: Option<&'a Path>,
    pub(crate) network: &'a Network,
    /// Decimals of the network's coin.
    pub(crate) decimals: u32,
    /// Upper bound of the times in a file.
    pub(crate) now_unix_seconds: i64,
}

/// A parser of any format.
enum Parser {
    Graph(Box<GraphTransactions>),
    Csv(CsvTransactions),
    Json(JsonTransactions),
}

impl Parser {
    /// Calls `with` with the row of a line, if it is a transaction.
    fn row<T>(&mut self, line: &str, with: impl FnOnce(TransactionRow<'_>) -> T) -> Result<Option<T>, LineError> {
        match self {
            Self::Graph(parser) => parser.row(line).map(|row| Some(with(row))),
            Self::Csv(parser) => parser.row(line, with).map(Some),
            Self::Json(parser) => Ok(parser.row(line, with)?.ok()),
        }
    }
}

/// Calls `each` with every transaction that an import would load into an empty database;
/// repetitions are skipped. Returns the number of lines that an import would reject. Needs 16 bytes
/// per transaction.
///
/// # Errors
/// Errors of reading the files and of their headers; errors of `each`, which end the reading.
pub(crate) fn each_transaction<E: From<ImportError>>(
    files: &TransactionFiles<'_>,
    mut each: impl FnMut(TransactionRow<'_>) -> Result<(), E>,
) -> Result<u64, E> {
    let nodes = files.nodes.map(|nodes| read_nodes(input::open(nodes)?, files.network)).transpose()?;
    let source = input::open(files.transactions)?;
    let file = source.name;
    let mut lines = Lines::detect(source.content).map_err(|source| ImportError::Read { file: file.clone(), source })?;
    let first = first_line(&file, &mut lines)?;
    let context = Context::new(files.network.clone(), files.decimals, files.now_unix_seconds);
    let edges = context.is_utxo();
    let mut parser = match (nodes, detected_format(&file, &first)?) {
        (Some(nodes), _) => Parser::Graph(Box::new(GraphTransactions::new(context, nodes, &file, &first)?)),
        (None, Format::Csv) => Parser::Csv(CsvTransactions::new(context, &file, &first, false, &[])?),
        (None, Format::Json) => Parser::Json(JsonTransactions::new(context, false, Vec::new())),
    };
    let first = matches!(parser, Parser::Json(_)).then_some(&*first);
    let mut seen = HashSet::new();
    each_line(&file, &mut lines, first, |line| {
        let done = parser.row(line, |row| {
            // On a network with inputs and outputs several lines may name one transaction.
            let fingerprint = if edges {
                let units = row.units.to_string();
                fingerprint(&[row.tx_hash, row.from, row.to.unwrap_or_default(), &units])
            } else {
                fingerprint(&[row.tx_hash])
            };
            if seen.insert(fingerprint) { each(row) } else { Ok(()) }
        })?;
        Ok(done.unwrap_or(Ok(())))
    })
}

/// Calls `each` with every label of a network that an import would load into an empty database with
/// the shipped categories. Returns the number of lines that an import would reject, other networks
/// excluded.
///
/// # Errors
/// Errors of reading the file and of its header; errors of `each`, which end the reading.
pub(crate) fn each_label<E: From<ImportError>>(
    path: &Path,
    network: &Network,
    mut each: impl FnMut(LabelRow<'_>) -> Result<(), E>,
) -> Result<u64, E> {
    let mut seen = HashSet::new();
    labels::each_row(path, network, &mut |row| {
        // The key of a label within one network, without its time.
        let key = [row.address, row.category, row.source, row.label];
        if seen.insert(fingerprint(&key)) { each(row) } else { Ok(()) }
    })
}

/// Returns a 16-byte hash of texts.
fn fingerprint(texts: &[&str]) -> [u8; 16] {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update(text.len().to_le_bytes());
        hash.update(text);
    }
    let mut short = [0; 16];
    for (byte, of_hash) in short.iter_mut().zip(hash.finalize()) {
        *byte = of_hash;
    }
    short
}

/// Calls `take` with the first line, if there is one, and all that follow; returns the number of
/// rejected lines.
fn each_line<E: From<ImportError>>(
    file: &str,
    lines: &mut Lines<Box<dyn BufRead + Send>>,
    first: Option<&[u8]>,
    mut take: impl FnMut(&str) -> Result<Result<(), E>, LineError>,
) -> Result<u64, E> {
    let mut rejected = 0;
    let mut whole = |line: &[u8], rejected: &mut u64| {
        let done = std::str::from_utf8(line)
            .map_err(|error| LineError::InvalidUtf8 { position: error.valid_up_to() + 1 })
            .and_then(&mut take);
        done.unwrap_or_else(|_| {
            *rejected += 1;
            Ok(())
        })
    };
    if let Some(line) = first {
        whole(line, &mut rejected)?;
    }
    loop {
        let number = lines.number();
        match lines.next_line().map_err(|error| broken(file, number, error))? {
            None => return Ok(rejected),
            Some(Line::Whole(line) | Line::Unfinished(line)) if line.is_empty() => {}
            Some(Line::Whole(line) | Line::Unfinished(line)) => whole(line, &mut rejected)?,
            Some(Line::TooLong(_)) => rejected += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: &str = "0xae2fc483527b8ef99eb5d9b44875f005ba1fae13";
    const BOB: &str = "0x6b75d8af000000e20b7a7ddf000ba900b4009a80";

    /// Names of the transactions that are read, and how many lines were not.
    fn read(transactions: &str, nodes: Option<&str>) -> (Vec<String>, u64) {
        let folder = tempfile::tempdir().unwrap();
        let (path, nodes_path) = (folder.path().join("t"), folder.path().join("n"));
        std::fs::write(&path, transactions).unwrap();
        std::fs::write(&nodes_path, nodes.unwrap_or_default()).unwrap();
        let network = Network::parse("ethereum").unwrap();
        let files = TransactionFiles {
            transactions: &path,
            nodes: nodes.map(|_| &*nodes_path),
            network: &network,
            decimals: 18,
            now_unix_seconds: 1_600_000_000,
        };
        let mut names = Vec::new();
        let rejected = each_transaction(&files, |row| -> Result<(), ImportError> {
            names.push(format!("{} {} {}", row.tx_hash, row.from == ALICE, row.to == Some(BOB)));
            Ok(())
        });
        (names, rejected.unwrap())
    }

    #[test]
    fn every_form_gives_the_rows_that_an_import_would_load() {
        let expected = (vec!["tx:1 true true".to_owned(), "tx:2 true false".to_owned()], 1);
        let csv = format!(
            "hash,block_number,from_address,to_address,value,block_timestamp\ntx:1,1,{ALICE},{BOB},5,1500000000\n\n\
             tx:2,1,{ALICE},,5,1500000000\ntx:1,9,{BOB},{ALICE},7,1500000000\ntx:3,1,{ALICE},{BOB},5,1900000000\n"
        );
        assert_eq!(read(&csv, None), expected, "CSV");
        let json = |number: u32, to: &str, time: u32| {
            format!(
                "{{\"type\": \"transaction\", \"hash\": \"tx:{number}\", \"block_number\": 1, \"from_address\": \"{ALICE}\", \
                 \"to_address\": {to}, \"value\": 5, \"block_timestamp\": {time}}}\n"
            )
        };
        let bob = format!("\"{BOB}\"");
        let lines = json(1, &bob, 1_500_000_000)
            + "{\"type\": \"block\"}\n"
            + &json(2, "null", 1_500_000_000)
            + &json(1, "null", 1_500_000_000)
            + &json(3, &bob, 1_900_000_000);
        assert_eq!(read(&lines, None), expected, "JSON lines, the first of which is a row");
        let nodes = format!("node_id,address\n0,{ALICE}\n1,{BOB}\n");
        let graph = "tx_id,block_number,block_timestamp,from_id,to_id,value_wei,gas_price,gas_used,is_error,is_call\n\
                     1,1,1500000000,0,1,5,1,1,0,0\n2,1,1500000000,0,,5,1,1,0,0\n1,1,1500000000,1,0,5,1,1,0,0\n3,1,1500000000,0,7,5,1,1,0,0\n";
        assert_eq!(read(graph, Some(&nodes)), expected, "two files");
    }
}
