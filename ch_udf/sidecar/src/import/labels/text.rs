//! Lists of lines: CSV with a header, OFAC's CSV without one, and plain lists of addresses.

use std::fmt::Display;

use super::error::RecordError;
use super::formats::{Reading, Sink};
use super::record::{Columns, Field, Record};
use crate::import::ImportError;
use crate::import::read::chunk::broken;
use crate::import::read::input::{Line, Lines};

/// Splits a line at a delimiter; quotes as in RFC 4180. A record never spans lines.
pub(super) fn split(line: &str, delimiter: u8) -> Result<Vec<std::borrow::Cow<'_, str>>, RecordError> {
    if memchr::memchr(b'"', line.as_bytes()).is_none() {
        return Ok(line.split(char::from(delimiter)).map(Into::into).collect());
    }
    if memchr::memchr_iter(b'"', line.as_bytes()).count() % 2 == 1 {
        return Err(RecordError::Malformed("a quoted field is not closed on its line".to_owned()));
    }
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(line.as_bytes());
    let mut record = csv::StringRecord::new();
    match reader.read_record(&mut record) {
        Ok(true) => Ok(record.iter().map(|field| field.to_owned().into()).collect()),
        _ => Err(RecordError::Malformed("the line is not CSV".to_owned())),
    }
}

/// Calls `each` with number and text of every line that is not blank.
pub(super) fn each_line(
    reading: &mut Reading<'_>,
    sink: &mut dyn Sink,
    mut each: impl FnMut(&mut dyn Sink, u64, &str) -> Result<(), ImportError>,
) -> Result<(), ImportError> {
    let mut lines = Lines::new(&mut reading.content);
    loop {
        let before = lines.number();
        let line = match lines.next_line() {
            Ok(Some(line)) => line,
            Ok(None) => return Ok(()),
            Err(error) => return Err(broken(reading.file, before, error)),
        };
        let number = before + 1;
        let (Line::Whole(bytes) | Line::Unfinished(bytes) | Line::TooLong(bytes)) = line;
        let bytes = if number == 1 { bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes) } else { bytes };
        match std::str::from_utf8(bytes) {
            _ if matches!(line, Line::TooLong(_)) => {
                sink.malformed(number, &"", RecordError::Malformed("the line is too long".to_owned()))?;
            }
            Ok(text) if text.trim().is_empty() => {}
            Ok(text) => each(sink, number, text)?,
            Err(error) => {
                let place = error.valid_up_to() + 1;
                let fault = RecordError::Malformed(format!("invalid UTF-8 at byte {place}"));
                sink.malformed(number, &String::from_utf8_lossy(bytes), fault)?;
            }
        }
    }
}

/// Returns the delimiter by which a header has a column for addresses.
pub(super) fn delimiter(header: &str, reading_columns: &[super::record::StatedColumn]) -> Option<u8> {
    [b',', b';', b'\t', b'|'].into_iter().find(|delimiter| {
        let names = split(header, *delimiter).unwrap_or_default();
        Columns::assign(&names, reading_columns).has(Field::Address)
    })
}

/// Reads CSV with a header.
pub(super) fn csv(reading: &mut Reading<'_>, delimiter: u8, sink: &mut dyn Sink) -> Result<(), ImportError> {
    let file = reading.file.to_owned();
    let stated = reading.columns.to_vec();
    let mut header: Option<(Columns, usize, String)> = None;
    each_line(reading, sink, |sink, number, line| {
        let Some((columns, width, header_line)) = &header else {
            let fields = split(line, delimiter).unwrap_or_default();
            let names: Vec<String> = fields.iter().map(|name| name.trim().to_owned()).collect();
            if let Some(name) = names.iter().enumerate().find_map(|(i, name)| names[..i].contains(name).then_some(name))
            {
                return Err(ImportError::DuplicateColumn { file: file.clone(), column: name.clone() });
            }
            if let Some(missing) = stated.iter().find(|stated| !names.contains(&stated.column)) {
                let message = format!("has no column {:?}; its header is: {line}", missing.column);
                return Err(ImportError::LabelList { file: file.clone(), message });
            }
            let columns = Columns::assign(&names, &stated);
            columns.unused.iter().for_each(|index| sink.unused(&names[*index]));
            header = Some((columns, names.len(), line.to_owned()));
            return Ok(());
        };
        if line == header_line {
            sink.skip("repeated header");
            return Ok(());
        }
        let text: &dyn Display = &line;
        let fields = match split(line, delimiter) {
            Ok(fields) if fields.len() == *width => fields,
            Ok(fields) => {
                let message = format!("{} columns where the header has {width}", fields.len());
                return sink.malformed(number, text, RecordError::Malformed(message));
            }
            Err(error) => return sink.malformed(number, text, error),
        };
        let mut record = Record::new(number, text);
        record.has_category = columns.has(Field::Category) || columns.has(Field::Abuse);
        let mut fields: Vec<_> = fields.into_iter().map(Some).collect();
        for (value, index) in record.values.iter_mut().zip(&columns.indexes) {
            *value = index.and_then(|index| fields[index].take()).filter(|value| !value.is_empty());
        }
        sink.record(record)
    })?;
    if header.is_none() { Err(ImportError::Empty { file: reading.file.to_owned() }) } else { Ok(()) }
}

/// Returns a line of a plain list up to the comment that follows the address.
pub(super) fn without_comment(line: &str) -> &str {
    let comment = line.find(" #").or_else(|| line.find("\t#"));
    comment.and_then(|place| line.get(..place)).unwrap_or(line).trim_end()
}

/// Reads one address a line. Lines that begin with `#` or `//` are comments, and so is what follows
/// a blank and `#`.
pub(super) fn plain(reading: &mut Reading<'_>, sink: &mut dyn Sink) -> Result<(), ImportError> {
    each_line(reading, sink, |sink, number, line| {
        let trimmed = line.trim();
        if trimmed.starts_with('#') || trimmed.starts_with("//") {
            sink.skip("comment");
            return Ok(());
        }
        let mut record = Record::new(number, &line);
        record.set(Field::Address, without_comment(trimmed));
        sink.record(record)
    })
}

/// The words before the symbol and the address in OFAC's lists.
pub(super) const OFAC_MARK: &str = "Digital Currency Address - ";

/// Reads OFAC's `sdn.csv`: no header, the name second, addresses in the remarks.
pub(super) fn ofac_csv(reading: &mut Reading<'_>, sink: &mut dyn Sink) -> Result<(), ImportError> {
    sink.default_source(super::formats::OFAC_SOURCE);
    each_line(reading, sink, |sink, number, line| {
        if line.trim() == "\u{1a}" {
            return Ok(());
        }
        let fields = match split(line, b',') {
            Ok(fields) => fields,
            Err(error) => return sink.malformed(number, &line, error),
        };
        let name = fields.get(1).map(|name| name.trim().to_owned()).unwrap_or_default();
        let mut found = false;
        for field in &fields {
            for part in field.split(OFAC_MARK).skip(1) {
                found = true;
                let mut words = part.split([' ', ';', ',']).filter(|word| !word.is_empty());
                let mut record = Record::new(number, &line);
                record.set(Field::Currency, words.next().unwrap_or_default().to_owned());
                record.set(Field::Address, words.next().unwrap_or_default().trim_end_matches('.').to_owned());
                record.set(Field::Label, name.clone());
                record.set(Field::Category, super::formats::OFAC_CATEGORY);
                sink.record(record)?;
            }
        }
        if !found {
            sink.skip("entry without an address");
        }
        Ok(())
    })
}
