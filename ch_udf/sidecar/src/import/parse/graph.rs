//! The two-file form: transactions whose addresses are numbers, and a nodes file that maps each
//! number to an address. The source has no hashes, so a transaction is named `tx:<tx_id>`.

use std::collections::HashMap;

use arx_core::address::{Address, Network};
use arx_pgwire::copy::TupleBuffer;

use super::csv_line::{Header, Splitter};
use super::transactions::{RowStatus, TransactionRow};
use super::values::{Context, Parsed, RowParser, bigint, flag, optional_bigint, parse_address, required, whole};
use crate::import::error::{ImportError, LineError};

/// Required columns of the transactions file.
const COLUMNS: [&str; 10] = [
    "tx_id",
    "block_number",
    "block_timestamp",
    "from_id",
    "to_id",
    "value_wei",
    "gas_price",
    "gas_used",
    "is_error",
    "is_call",
];

/// Columns of the nodes file.
const NODE_COLUMNS: [&str; 2] = ["node_id", "address"];

/// The node that pays the balances of the genesis block.
const GENESIS: &str = "genesis";

/// Address of [`GENESIS`] in the database: explorers show payments of the genesis block from the
/// zero address.
const ZERO_ADDRESS: &str = "0x0000000000000000000000000000000000000000";

const ID_LIMITS: &str = "0 to 18446744073709551615";

/// Address of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Address(Address),
    /// No address: as a receiver, the contract that the transaction creates.
    Nameless,
    /// An invalid address and its error.
    Bad(String),
}

/// Nodes by number.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    by_id: HashMap<u64, Node>,
    /// Numbers of invalid lines.
    pub(crate) bad_lines: Vec<u64>,
}

/// Parses the lines of a nodes file.
pub(crate) struct NodesParser {
    header: Header,
    splitter: Splitter,
    network: Network,
    nodes: Nodes,
}

impl NodesParser {
    /// For the file with this header line.
    pub(crate) fn new(file: &str, header: &[u8], network: &Network) -> Result<Self, ImportError> {
        let header = Header::parse(file, header, &NODE_COLUMNS, &[])?;
        Ok(Self { header, splitter: Splitter::default(), network: network.clone(), nodes: Nodes::default() })
    }

    /// Adds a line. An invalid one is recorded in `bad_lines`.
    pub(crate) fn line(&mut self, number: u64, line: &[u8]) {
        if !line.is_empty() && self.nodes.add(&self.header, &mut self.splitter, line, &self.network).is_err() {
            self.nodes.bad_lines.push(number);
        }
    }

    pub(crate) fn finish(self) -> Nodes {
        self.nodes
    }
}

impl Nodes {
    /// Adds one line.
    fn add(
        &mut self,
        header: &Header,
        splitter: &mut Splitter,
        line: &[u8],
        network: &Network,
    ) -> Result<(), LineError> {
        let text = std::str::from_utf8(line).map_err(|e| LineError::InvalidUtf8 { position: e.valid_up_to() + 1 })?;
        let [id, address] = header.columns(splitter, text)?;
        let id: u64 = whole("node_id", required("node_id", id)?, ID_LIMITS)?;
        let node = match address {
            None => Node::Nameless,
            Some(text) => {
                let text = if text == GENESIS { ZERO_ADDRESS } else { text };
                match parse_address("address", text, network) {
                    Ok(address) => Node::Address(address),
                    Err(error) => Node::Bad(error.to_string()),
                }
            }
        };
        if let Some(earlier) = self.by_id.insert(id, node.clone())
            && earlier != node
        {
            self.by_id.insert(id, Node::Bad("the nodes file gives it two addresses".to_owned()));
        }
        Ok(())
    }

    /// Returns the address of a node; none for a nameless one.
    fn address(&self, column: &'static str, text: &str) -> Result<Option<&str>, LineError> {
        let id: u64 = whole(column, text, ID_LIMITS)?;
        match self.by_id.get(&id) {
            Some(Node::Address(address)) => Ok(Some(address.as_str())),
            Some(Node::Nameless) => Ok(None),
            Some(Node::Bad(message)) => Err(LineError::BadNode { column, id, message: message.clone() }),
            None => Err(LineError::UnknownNode { column, id }),
        }
    }

    /// Returns the address of a sender, which must exist.
    fn sender(&self, column: &'static str, text: &str) -> Result<&str, LineError> {
        self.address(column, text)?.ok_or_else(|| LineError::NamelessNode { column, id: text.to_owned() })
    }
}

/// Transactions of the two-file form.
pub(crate) struct GraphTransactions {
    context: Context,
    header: Header,
    splitter: Splitter,
    nodes: Nodes,
    name: String,
}

impl GraphTransactions {
    pub(crate) fn new(context: Context, nodes: Nodes, file: &str, header: &[u8]) -> Result<Self, ImportError> {
        let header = Header::parse(file, header, &COLUMNS, &[])?;
        Ok(Self { context, header, splitter: Splitter::default(), nodes, name: String::new() })
    }
}

impl GraphTransactions {
    /// Returns the row of a line, valid until the next call.
    pub(crate) fn row(&mut self, line: &str) -> Result<TransactionRow<'_>, LineError> {
        let [id, block_number, time, from, to, value, gas_price, gas_used, is_error, is_call] =
            self.header.columns(&mut self.splitter, line)?;
        let id: u64 = whole("tx_id", required("tx_id", id)?, ID_LIMITS)?;
        self.name.clear();
        self.name.push_str("tx:");
        self.name.push_str(&id.to_string());
        Ok(TransactionRow {
            tx_hash: &self.name,
            block_number: bigint("block_number", block_number)?,
            unix_seconds: self.context.time("block_timestamp", time)?,
            from: self.nodes.sender("from_id", required("from_id", from)?)?,
            to: to.map(|to| self.nodes.address("to_id", to)).transpose()?.flatten(),
            units: self.context.amount("value_wei", value)?,
            gas_used: optional_bigint("gas_used", gas_used)?,
            gas_price: optional_bigint("gas_price", gas_price)?,
            status: if flag("is_error", is_error)? { RowStatus::Failed } else { RowStatus::Confirmed },
            metadata: flag("is_call", is_call)?.then_some(r#"{"is_call": true}"#),
            ..TransactionRow::default()
        })
    }
}

impl RowParser for GraphTransactions {
    fn parse(&mut self, _number: u64, line: &str, out: &mut TupleBuffer) -> Result<Parsed, LineError> {
        let network = self.context.network().to_owned();
        let row = self.row(line)?;
        let unix_seconds = row.unix_seconds;
        row.encode(&network, out);
        Ok(Parsed::Row { unix_seconds: Some(unix_seconds) })
    }
}

#[cfg(test)]
mod tests {
    use super::super::decode;
    use super::super::values::fixtures::ethereum;
    use super::*;

    const ALICE: &str = "0xae2fc483527b8ef99eb5d9b44875f005ba1fae13";

    fn nodes(content: &'static str) -> Nodes {
        let mut lines = content.lines().zip(1_u64..);
        let (header, _) = lines.next().unwrap();
        let network = Network::parse("ethereum").unwrap();
        let mut parser = NodesParser::new("nodes.csv", header.as_bytes(), &network).unwrap();
        lines.for_each(|(line, number)| parser.line(number, line.as_bytes()));
        parser.finish()
    }

    #[test]
    fn numbers_become_addresses_and_unknown_numbers_are_rejected() {
        let nodes =
            nodes("node_id,address\n0,genesis\n7,0xae2fc483527b8ef99eb5d9b44875f005ba1fae13\n8,\nx,y\n9,0x6b75\n");
        assert_eq!(nodes.bad_lines, [5]);
        let header = COLUMNS.join(",");
        let mut parser = GraphTransactions::new(ethereum(), nodes, "t.csv", header.as_bytes()).unwrap();
        let mut out = TupleBuffer::default();
        parser.parse(2, "12,0,1438269973,0,7,5000000000000000000,1,2,1,1", &mut out).unwrap();
        parser.parse(3, "13,0,1438269973,7,,5,1,2,0,0", &mut out).unwrap();
        parser.parse(4, "14,0,1438269973,7,8,5,1,2,0,0", &mut out).unwrap();
        let rows = decode::tuples(&out.into_bytes());
        let text = |row: usize, column: usize| String::from_utf8(rows[row][column].clone().unwrap()).unwrap();
        assert_eq!((text(0, 1), text(0, 5), text(0, 6)), ("tx:12".into(), ZERO_ADDRESS.into(), ALICE.into()));
        assert_eq!((text(0, 10), text(1, 10)), ("failed".into(), "confirmed".into()));
        assert_eq!(&text(0, 11)[1..], r#"{"is_call": true}"#);
        assert_eq!((rows[1][6].clone(), rows[1][11].clone()), (None, None));
        assert_eq!(rows[2][6], None, "a nameless receiver is the contract being created");

        let mut out = TupleBuffer::default();
        for (line, expected) in [
            ("12,0,1438269973,0,5,1,1,2,1,1", "column to_id: node 5 is not in the nodes file"),
            (
                "12,0,1438269973,8,7,1,1,2,1,1",
                "column from_id: node 8 has no address, and only a receiver may have none",
            ),
            ("12,0,1438269973,,7,1,1,2,1,1", "column from_id is empty"),
            ("12,0,1438269973,0,7,1,1,2,2,1", "column is_error: \"2\" must be one of 0, 1"),
        ] {
            assert_eq!(parser.parse(4, line, &mut out).unwrap_err().to_string(), expected);
        }
        assert_eq!(out.len(), 0);
    }

    #[test]
    fn a_node_with_two_addresses_is_invalid() {
        let nodes = nodes(
            "address,node_id\n0xae2fc483527b8ef99eb5d9b44875f005ba1fae13,7\n0x6b75d8af000000e20b7a7ddf000ba900b4009a80,7\n",
        );
        let error = nodes.address("from_id", "7").unwrap_err().to_string();
        assert!(error.contains("two addresses"), "{error}");
    }
}
