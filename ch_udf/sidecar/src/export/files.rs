//! The files of an export: each appears whole, by a rename, or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use arx_pgwire::copy::{Fields, TRAILER, header_length};
use bytes::Bytes;
use quick_xml::escape::escape;
use sha2::{Digest, Sha256};

use super::manifest::Done;
use super::parquet::ParquetSink;
use super::request::Format;
use super::tables::{FACTS, Kind, Table};
use crate::atomic_file;
use crate::error::{DoingTo, SidecarError};

const BUFFER_BYTES: usize = 1 << 20;

/// A file in the making. Dropped before its end, it is removed.
pub(super) struct PartFile {
    file: BufWriter<File>,
    hash: Sha256,
    bytes: u64,
    paths: Paths,
}

struct Paths {
    partial: PathBuf,
    whole: PathBuf,
}

impl Drop for Paths {
    fn drop(&mut self) {
        // Renamed, or unfinished: in the latter case the next run would replace it.
        let _ = std::fs::remove_file(&self.partial);
    }
}

impl PartFile {
    fn create(path: &Path) -> Result<Self, SidecarError> {
        if let Some(folder) = path.parent() {
            atomic_file::create_private_folder(folder).doing_to("create", folder)?;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let partial = path.with_file_name(partial(&name));
        let file = atomic_file::create_private(&partial).doing_to("create", &partial)?;
        Ok(Self {
            file: BufWriter::with_capacity(BUFFER_BYTES, file),
            hash: Sha256::new(),
            bytes: 0,
            paths: Paths { partial, whole: path.to_owned() },
        })
    }

    fn finish(mut self, rows: u64) -> io::Result<Written> {
        self.file.flush()?;
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        let digest = self.hash.finalize();
        let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Written { done: Done { rows, bytes: self.bytes, sha256: Some(sha256) }, file: Some((file, self.paths)) })
    }
}

/// A part with all of its rows, whose file has no name yet. Dropped, the file is removed.
pub(super) struct Written {
    done: Done,
    /// `None` for a part without rows.
    file: Option<(File, Paths)>,
}

impl Written {
    /// Makes the file durable, and gives it its name.
    ///
    /// # Errors
    /// [`SidecarError::Io`].
    pub(super) fn publish(self) -> Result<Done, SidecarError> {
        if let Some((file, paths)) = self.file {
            file.sync_all()
                .and_then(|()| std::fs::rename(&paths.partial, &paths.whole))
                .doing_to("write", &paths.whole)?;
        }
        Ok(self.done)
    }
}

impl Write for PartFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Returns the name of a file before it is whole.
pub(super) fn partial(name: &str) -> String {
    format!("{name}.partial")
}

/// Takes the messages of COPY, one a row, and writes a part.
pub(super) struct Sink {
    path: PathBuf,
    rows: u64,
    kind: SinkKind,
}

enum SinkKind {
    /// The messages are the lines.
    Lines(PartFile),
    Parquet(Box<ParquetSink>),
    Graph(Graph),
}

impl Sink {
    pub(super) fn create(format: Format, table: Table, path: &Path) -> Result<Self, SidecarError> {
        let file = PartFile::create(path)?;
        let kind = match format {
            Format::Jsonl | Format::Neo4j => SinkKind::Lines(file),
            Format::Parquet => {
                SinkKind::Parquet(Box::new(ParquetSink::create(file, table.columns()).doing_to("write", path)?))
            }
            Format::Graphml => SinkKind::Graph(Graph::create(file).doing_to("write", path)?),
        };
        Ok(Self { path: path.to_owned(), rows: 0, kind })
    }

    /// Writes the rows of some messages. `statement` is the number of their statement.
    ///
    /// # Errors
    /// [`SidecarError::Io`], also for malformed messages.
    pub(super) fn write(&mut self, statement: usize, messages: Vec<Bytes>) -> Result<(), SidecarError> {
        let rows = match &mut self.kind {
            SinkKind::Lines(file) => {
                messages.iter().try_for_each(|line| file.write_all(line)).map(|()| messages.len() as u64)
            }
            SinkKind::Parquet(sink) => tuples(messages).try_fold(0, |rows, tuple| sink.push(&tuple).map(|()| rows + 1)),
            SinkKind::Graph(graph) => {
                tuples(messages).try_fold(0, |rows, tuple| graph.push(statement, &tuple).map(|()| rows + 1))
            }
        };
        self.rows += rows.doing_to("write", &self.path)?;
        Ok(())
    }

    /// Ends the file; without rows, no file is left.
    ///
    /// # Errors
    /// [`SidecarError::Io`].
    pub(super) fn finish(self) -> Result<Written, SidecarError> {
        let (rows, path) = (self.rows, self.path);
        let file = match self.kind {
            SinkKind::Graph(graph) => graph.finish().doing_to("write", &path)?,
            _ if rows == 0 => return Ok(Written { done: Done { rows: 0, bytes: 0, sha256: None }, file: None }),
            SinkKind::Lines(file) => file,
            SinkKind::Parquet(sink) => sink.finish().doing_to("write", &path)?,
        };
        file.finish(rows).doing_to("write", &path)
    }
}

/// Returns the tuples of messages of COPY in binary form.
fn tuples(messages: Vec<Bytes>) -> impl Iterator<Item = Bytes> {
    messages.into_iter().filter_map(|message| {
        let tuple = message.slice(header_length(&message)..);
        (!tuple.is_empty() && !tuple.starts_with(TRAILER)).then_some(tuple)
    })
}

pub(super) fn malformed(error: arx_pgwire::PgWireError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// A document of GraphML: nodes by the first statement, edges by the others.
struct Graph {
    file: PartFile,
}

const GRAPH_HEAD: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="http://graphml.graphdrawing.org/xmlns http://graphml.graphdrawing.org/xmlns/1.0/graphml.xsd">
"#;

impl Graph {
    fn create(mut file: PartFile) -> io::Result<Self> {
        file.write_all(GRAPH_HEAD.as_bytes())?;
        for (prefix, element, table) in
            [("n", "node", Table::Wallets)].into_iter().chain((1..).zip(FACTS).map(|(number, table)| {
                let prefix = ["n", "t", "i", "k"].get(number).copied().unwrap_or_default();
                (prefix, "edge", table)
            }))
        {
            key(&mut file, prefix, 0, element, "kind", "string")?;
            for (number, column) in (1..).zip(table.columns()) {
                let kind = match column.kind {
                    Kind::Integer => "long",
                    Kind::Boolean => "boolean",
                    // Amounts are texts, because a double would round them.
                    _ => "string",
                };
                key(&mut file, prefix, number, element, column.name, kind)?;
            }
        }
        file.write_all(b"<graph edgedefault=\"directed\">\n")?;
        Ok(Self { file })
    }

    fn push(&mut self, statement: usize, tuple: &[u8]) -> io::Result<()> {
        let mut fields = Fields::of_tuple(tuple).map_err(malformed)?;
        let prefix = ["n", "t", "i", "k"].get(statement).copied().unwrap_or_default();
        let element = if statement == 0 { "node" } else { "edge" };
        if statement == 0 {
            write!(self.file, "<node id=\"{}\">", xml(fields.text().map_err(malformed)?))?;
        } else {
            let (source, target) = (fields.text().map_err(malformed)?, fields.text().map_err(malformed)?);
            write!(self.file, "<edge source=\"{}\" target=\"{}\">", xml(source), xml(target))?;
        }
        let mut number = 0;
        while !fields.rest().is_empty() {
            if let Some(text) = fields.optional_text().map_err(malformed)? {
                write!(self.file, "<data key=\"{prefix}{number}\">{}</data>", xml(text))?;
            }
            number += 1;
        }
        writeln!(self.file, "</{element}>")
    }

    fn finish(mut self) -> io::Result<PartFile> {
        self.file.write_all(b"</graph>\n</graphml>\n")?;
        Ok(self.file)
    }
}

fn key(file: &mut PartFile, prefix: &str, number: usize, element: &str, name: &str, kind: &str) -> io::Result<()> {
    writeln!(file, "<key id=\"{prefix}{number}\" for=\"{element}\" attr.name=\"{name}\" attr.type=\"{kind}\"/>")
}

/// Escapes a text. Characters that XML 1.0 cannot hold in any form are written as `\u{1}`.
fn xml(text: &str) -> String {
    let is_valid = |c: char| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{fffd}' | '\u{10000}'..);
    if text.chars().all(is_valid) {
        return escape(text).into_owned();
    }
    let shown = text.chars().fold(String::new(), |mut shown, c| {
        if is_valid(c) {
            shown.push(c)
        } else {
            shown.extend(c.escape_unicode())
        }
        shown
    });
    escape(&shown).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/part.csv");
        let mut sink = Sink::create(Format::Neo4j, Table::Transactions, &path).unwrap();
        sink.write(0, vec![Bytes::from_static(b"x\n")]).unwrap();
        drop(sink);
        assert_eq!(std::fs::read_dir(folder.path().join("a")).unwrap().count(), 0);
        let mut sink = Sink::create(Format::Neo4j, Table::Transactions, &path).unwrap();
        sink.write(0, vec![Bytes::from_static(b"x\n"), Bytes::from_static(b"y\n")]).unwrap();
        let written = sink.finish().unwrap();
        assert!(!path.exists(), "a file that is not durable has no name yet");
        let done = written.publish().unwrap();
        assert_eq!((done.rows, done.bytes), (2, 4));
        // As sha256sum prints it.
        let expected = "09834d488008f5f1ef589a2d7cedc52425bee9dd23b2212e4c1d673c5cbb54e4";
        assert_eq!(done.sha256.as_deref(), Some(expected));
        assert_eq!(std::fs::read(&path).unwrap(), b"x\ny\n");
        let empty = Sink::create(Format::Jsonl, Table::Transactions, &folder.path().join("none")).unwrap();
        assert_eq!(empty.finish().unwrap().publish().unwrap().sha256, None);
        let mut unpublished = Sink::create(Format::Jsonl, Table::Transactions, &folder.path().join("lost")).unwrap();
        unpublished.write(0, vec![Bytes::from_static(b"{}\n")]).unwrap();
        drop(unpublished.finish().unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn texts_are_valid_xml() {
        assert_eq!(xml("a<b>&\"c\" é"), "a&lt;b&gt;&amp;&quot;c&quot; é");
        assert_eq!(xml("a\u{1}b"), "a\\u{1}b");
    }
}
