//! The formats of label lists: their detection by content, and what their readers share.

use std::fmt::Display;
use std::io::{BufRead, Cursor, Read};

use clap::ValueEnum;

use super::error::RecordError;
use super::record::{Record, StatedColumn};
use super::{free_text, json, ofac, tagpack, text};
use crate::import::ImportError;

/// Bytes by which a format is detected.
const HEAD_BYTES: u64 = 64 * 1024;

/// The format of a label list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LabelFormat {
    /// Separated by commas, semicolons, tabs or bars, with a header
    Csv,
    /// An array, an object, or one object a line
    Json,
    /// A tag pack of GraphSense, in YAML
    Tagpack,
    /// OFAC's sdn.xml or sdn_advanced.xml
    OfacXml,
    /// OFAC's sdn.csv
    OfacCsv,
    /// Sanctions lists of the EU, the UK and the UN, with addresses in their remarks: CSV or XML
    FreeText,
    /// One address a line
    Plain,
}

/// A list that is read.
pub(super) struct Reading<'a> {
    pub(super) file: &'a str,
    pub(super) content: Box<dyn BufRead + Send>,
    pub(super) columns: &'a [StatedColumn],
}

/// Takes what a reader finds. Errors end the import.
pub(super) trait Sink {
    fn record(&mut self, record: Record<'_>) -> Result<(), ImportError>;
    /// Takes a line or element that is no record.
    fn malformed(&mut self, number: u64, text: &dyn Display, fault: RecordError) -> Result<(), ImportError>;
    /// Counts a line of a kind that holds no label.
    fn skip(&mut self, kind: &'static str);
    /// Notes a column that nothing is read from.
    fn unused(&mut self, column: &str);
    /// Takes the source of a list that does not state it itself, unless the user does.
    fn default_source(&mut self, source: &str);
    /// Returns true if a text is an address on the stated network or on one of known encoding.
    fn is_address(&self, text: &str) -> bool;
    /// Returns true if the user has stated the network of the list.
    fn is_stated(&self) -> bool;
}

/// The source of OFAC's own files, unless the user states another.
pub(super) const OFAC_SOURCE: &str = "OFAC SDN";

/// The category of every entry of OFAC's own files.
pub(super) const OFAC_CATEGORY: &str = "ofac sdn";

/// Reads a list into a sink.
pub(super) fn read(
    mut reading: Reading<'_>,
    format: Option<LabelFormat>,
    sink: &mut dyn Sink,
) -> Result<(), ImportError> {
    let mut head = Vec::new();
    let file = reading.file;
    let read_error = |source| ImportError::Read { file: file.to_owned(), source };
    (&mut reading.content).take(HEAD_BYTES).read_to_end(&mut head).map_err(read_error)?;
    let bytes = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&head).to_vec();
    let shown = String::from_utf8_lossy(&bytes).into_owned();
    let first = shown.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned();
    if first.is_empty() {
        return Err(ImportError::Empty { file: file.to_owned() });
    }
    let rest = std::mem::replace(&mut reading.content, Box::new(std::io::empty()));
    reading.content = Box::new(std::io::BufReader::new(Cursor::new(bytes).chain(rest)));
    let delimiter = text::delimiter(&first, reading.columns);
    match format.unwrap_or_else(|| detect(&shown, &first, delimiter, sink)) {
        LabelFormat::Json => json::json(&mut reading, sink),
        LabelFormat::Tagpack => tagpack::tagpack(&mut reading, sink),
        LabelFormat::OfacXml => ofac::ofac_xml(&mut reading, sink),
        LabelFormat::OfacCsv => text::ofac_csv(&mut reading, sink),
        LabelFormat::FreeText if first.starts_with('<') => free_text::xml(&mut reading, &shown, sink),
        LabelFormat::FreeText => {
            let delimiter = shown.lines().find_map(free_text::has_text).unwrap_or(b',');
            free_text::csv(&mut reading, delimiter, sink)
        }
        LabelFormat::Csv => match delimiter {
            Some(delimiter) => text::csv(&mut reading, delimiter, sink),
            None => Err(ImportError::LabelList {
                file: file.to_owned(),
                message: format!(
                    "has no column for addresses (name it by --column address=COLUMN); its header is: {}",
                    first.chars().take(200).collect::<String>()
                ),
            }),
        },
        LabelFormat::Plain => text::plain(&mut reading, sink),
    }
}

fn detect(head: &str, first: &str, delimiter: Option<u8>, sink: &dyn Sink) -> LabelFormat {
    match first.chars().next() {
        Some('<') if free_text::is_known_xml(head) => return LabelFormat::FreeText,
        Some('<') => return LabelFormat::OfacXml,
        Some('[' | '{') => return LabelFormat::Json,
        _ => {}
    }
    if delimiter.is_some() {
        return LabelFormat::Csv;
    }
    let fields: Vec<&str> = first.split(',').collect();
    let begins_with_number = fields.first().is_some_and(|id| !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()));
    if fields.len() >= 12 && begins_with_number && first.contains("-0-") {
        return LabelFormat::OfacCsv;
    }
    // The UK's list has its date in a line before the header.
    if head.lines().take(2).any(|line| free_text::has_text(line).is_some()) {
        return LabelFormat::FreeText;
    }
    let content = head.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut content = content.filter(|line| *line != "---" && !line.starts_with("//"));
    let line = content.next().map(text::without_comment).unwrap_or_default();
    let key = line.split_once(':').filter(|(_, value)| value.is_empty() || value.starts_with(' '));
    if key.is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')) {
        return LabelFormat::Tagpack;
    }
    let is_single = !line.contains([',', ';', '\t', ' ', '|']);
    if is_single || sink.is_address(line) { LabelFormat::Plain } else { LabelFormat::Csv }
}
