//! Reading the nodes file of the two-file form.

use std::io::BufRead;

use arx_core::address::Network;

use super::input::{Line, Lines, OpenedSource};
use crate::import::error::ImportError;
use crate::import::parse::graph::{Nodes, NodesParser};

/// Reads a nodes file whole.
///
/// # Errors
/// Errors of reading and of its header.
pub(crate) fn read_nodes(source: OpenedSource, network: &Network) -> Result<Nodes, ImportError> {
    let file = source.name;
    let mut lines = Lines::new(source.content);
    let Some(header) = next_line(&mut lines, &file)? else { return Err(ImportError::Empty { file }) };
    let mut parser = NodesParser::new(&file, &header, network)?;
    while let Some(line) = next_line(&mut lines, &file)? {
        parser.line(lines.number(), &line);
    }
    Ok(parser.finish())
}

/// Returns the bytes of the next line. The file is read whole before anything is imported, so
/// damage ends the import.
fn next_line<R: BufRead>(lines: &mut Lines<R>, file: &str) -> Result<Option<Vec<u8>>, ImportError> {
    match lines.next_line() {
        Ok(Some(Line::Whole(line) | Line::Unfinished(line) | Line::TooLong(line))) => Ok(Some(line.to_vec())),
        Ok(None) => Ok(None),
        Err(source) => Err(ImportError::Read { file: file.to_owned(), source }),
    }
}
