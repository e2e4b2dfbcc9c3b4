//! Transactions of the two-file form for those who want rows and no database.

use std::path::Path;

use arx_core::address::Network;

use super::error::{ImportError, LineError};
use super::graph::{GraphTransactions, Nodes};
use super::input::{self, Line, Lines};
use super::transactions::TransactionRow;
use super::values::Context;

/// Calls `each` for every transaction of a file that an import would take; returns how many lines it would reject.
///
/// # Errors
/// Those of reading the files and of their headers; what `each` reports, which ends it.
pub(crate) fn each_transaction<E: From<ImportError>>(
    transactions: &Path,
    nodes: &Path,
    network: &Network,
    decimals: u32,
    now_unix_seconds: i64,
    mut each: impl FnMut(TransactionRow<'_>) -> Result<(), E>,
) -> Result<u64, E> {
    let nodes = Nodes::read(input::open(nodes)?, network)?;
    let source = input::open(transactions)?;
    let file = source.name;
    let read_error = |source| ImportError::Read { file: file.clone(), source };
    let mut lines = Lines::new(source.content);
    let header = match lines.next_line().map_err(read_error)? {
        Some(Line::Whole(line) | Line::Unfinished(line)) => line.to_vec(),
        Some(Line::TooLong(_)) | None => return Err(ImportError::Empty { file }.into()),
    };
    let context = Context::new(network.clone(), decimals, now_unix_seconds);
    let mut parser = GraphTransactions::new(context, nodes, &file, &header)?;
    let mut rejected = 0;
    while let Some(line) = lines.next_line().map_err(read_error)? {
        let row = match line {
            Line::Whole(line) | Line::Unfinished(line) if line.is_empty() => continue,
            Line::Whole(line) | Line::Unfinished(line) => std::str::from_utf8(line)
                .map_err(|error| LineError::InvalidUtf8 { position: error.valid_up_to() + 1 })
                .and_then(|line| parser.row(line)),
            Line::TooLong(_) => {
                rejected += 1;
                continue;
            }
        };
        match row {
            Ok(row) => each(row)?,
            Err(_) => rejected += 1,
        }
    }
    Ok(rejected)
}
