//! CSV, separated by commas, tabs, semicolons or bars, one line at a time: the header, which gives
//! the index of each column, and the fields of a line. A record never spans lines. Rows of Parquet
//! are lines, too, whose texts stand between separators.

use std::ops::Range;

use super::fields::{self, Column, Mapping, Name};
use crate::import::error::{ImportError, LineError};

/// Separates the texts of a row of Parquet: the unit separator of ASCII, which no name and no
/// number has.
pub(crate) const SEPARATOR: u8 = 0x1f;

/// The columns of an import and their indexes in the file.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    /// Names of the columns of the file.
    names: Vec<String>,
    /// The byte between two fields.
    separator: u8,
    /// Index of each requested column, `None` for an absent optional one.
    indexes: Vec<Option<usize>>,
    /// Names of columns that the import does not read.
    unused: Vec<String>,
    /// Units that the names of requested columns state, with those names.
    units: Vec<Option<(String, String)>>,
    /// Further columns of a requested one, whose values must agree: its index, its name and theirs.
    others: Vec<(usize, &'static str, usize)>,
}

impl Header {
    /// Finds `required` and then `optional` columns in a header line, in any order.
    ///
    /// # Errors
    /// [`ImportError::MissingColumns`], [`ImportError::DuplicateColumn`], [`ImportError::Format`].
    pub(crate) fn parse(
        file: &str,
        line: &[u8],
        required: &[&'static str],
        optional: &[&'static str],
    ) -> Result<Self, ImportError> {
        let (separator, names) = names(file, line)?;
        let mut indexes = Vec::with_capacity(required.len() + optional.len());
        for wanted in required.iter().chain(optional) {
            let mut matches = names.iter().enumerate().filter(|(_, name)| *name == wanted).map(|(index, _)| index);
            indexes.push(matches.next());
            if matches.next().is_some() {
                return Err(ImportError::DuplicateColumn { file: file.to_owned(), column: (*wanted).to_owned() });
            }
        }
        let missing: Vec<_> =
            required.iter().zip(&indexes).filter(|(_, index)| index.is_none()).map(|(name, _)| *name).collect();
        if !missing.is_empty() {
            return Err(ImportError::MissingColumns { file: file.to_owned(), missing, found: shown(line) });
        }
        let unused = unused(&names, &indexes);
        Ok(Self { names, separator, indexes, unused, units: Vec::new(), others: Vec::new() })
    }

    /// Finds columns by any of their names. All may be absent.
    ///
    /// # Errors
    /// [`ImportError::DuplicateColumn`], [`ImportError::Mapping`], [`ImportError::Format`].
    pub(crate) fn find(file: &str, line: &[u8], columns: &[Column], mappings: &[Mapping]) -> Result<Self, ImportError> {
        let (separator, names) = names(file, line)?;
        if let Some(column) = Mapping::absent(mappings, &names).next() {
            let message = format!("--map names the column {column:?}, which its header does not have");
            return Err(ImportError::Mapping { file: file.to_owned(), message });
        }
        let parsed: Vec<Name> = names.iter().map(|name| Name::of(name, mappings)).collect();
        let folded: Vec<&str> = parsed.iter().map(|name| name.folded.as_str()).collect();
        let mut indexes = Vec::with_capacity(columns.len());
        let (mut units, mut others) = (Vec::with_capacity(columns.len()), Vec::new());
        for (wanted, column) in columns.iter().enumerate() {
            let position = |known: &&'static str| folded.iter().position(|name| name == known);
            let found = column.names.iter().find_map(position);
            if let Some(index) = found
                && folded.iter().skip(index + 1).any(|name| *name == folded[index])
            {
                return Err(ImportError::DuplicateColumn { file: file.to_owned(), column: names[index].clone() });
            }
            if column.must_agree() {
                let positions = column.names.iter().filter_map(position).filter(|index| Some(*index) != found);
                others.extend(positions.map(|index| (wanted, column.name, index)));
            }
            units.push(found.and_then(|index| Some((names[index].clone(), parsed[index].unit.clone()?))));
            indexes.push(found);
        }
        let mut read = indexes.clone();
        read.extend(others.iter().map(|(.., index)| Some(*index)));
        let unused = unused(&names, &read);
        Ok(Self { names, separator, indexes, unused, units, others })
    }

    /// Returns true if the file has the column that was requested at `index`.
    pub(crate) fn has(&self, index: usize) -> bool {
        self.indexes.get(index).is_some_and(Option::is_some)
    }

    /// Does not read a requested column, and reports it as unused: another one has its fact.
    pub(crate) fn disregard(&mut self, index: usize) {
        let position = self.indexes.get_mut(index).and_then(Option::take);
        self.unused.extend(position.and_then(|position| self.names.get(position)).cloned());
        if let Some(unit) = self.units.get_mut(index) {
            *unit = None;
        }
    }

    /// Returns the name in the file of a requested column, and the unit that it states.
    pub(crate) fn unit(&self, index: usize) -> Option<(&str, &str)> {
        self.units.get(index)?.as_ref().map(|(name, unit)| (name.as_str(), unit.as_str()))
    }

    /// Names of columns that the import does not read.
    pub(crate) fn unused(&self) -> &[String] {
        &self.unused
    }

    /// Returns one requested column of a line; nothing if the line is malformed or the column
    /// empty.
    pub(crate) fn value<'a>(&self, splitter: &'a mut Splitter, line: &'a str, index: usize) -> Option<&'a str> {
        let index = self.indexes.get(index).copied().flatten()?;
        let fields = splitter.split(line, self.separator).ok()?;
        Some(fields.get(index)).filter(|text| !text.is_empty())
    }

    /// Returns the requested columns of a line, in the order requested; an empty field is `None`.
    ///
    /// # Errors
    /// [`LineError::ColumnCount`], [`LineError::OpenQuote`], [`LineError::Contradiction`].
    pub(crate) fn columns<'a, const N: usize>(
        &self,
        splitter: &'a mut Splitter,
        line: &'a str,
    ) -> Result<[Option<&'a str>; N], LineError> {
        let fields = splitter.split(line, self.separator)?;
        if fields.len() != self.names.len() {
            return Err(LineError::ColumnCount { found: fields.len(), expected: self.names.len() });
        }
        let mut columns = [None; N];
        for (slot, index) in columns.iter_mut().zip(&self.indexes) {
            *slot = index.map(|index| fields.get(index)).filter(|text| !text.is_empty());
        }
        for (wanted, name, index) in &self.others {
            let other = fields.get(*index);
            let Some(slot) = columns.get_mut(*wanted).filter(|_| !other.is_empty()) else { continue };
            match *slot {
                Some(one) if !fields::agree(one, other) => return Err(LineError::two_values(name, one, other)),
                _ => *slot = slot.or(Some(other)),
            }
        }
        Ok(columns)
    }
}

/// Returns a header line as messages show it.
pub(crate) fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    text.chars().map(|c| if c == char::from(SEPARATOR) { ',' } else { c }).take(500).collect()
}

/// The relation of a line to the header of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeated {
    /// Not a header.
    No,
    /// The same columns in the same order.
    Same,
    /// Other columns, or another order.
    Other,
}

/// Columns that a line must share with the header to be one.
const SHARED_NAMES: usize = 3;

/// Compares an invalid line with the header of its file.
pub(crate) fn repeats(header: &[u8], line: &[u8]) -> Repeated {
    let folded = |line: &[u8]| {
        let names = names("", line).map(|(_, names)| names).unwrap_or_default();
        names.iter().map(|name| fields::fold(name)).collect::<Vec<_>>()
    };
    let (expected, found) = (folded(header), folded(line));
    if expected == found {
        return Repeated::Same;
    }
    let shared = found.iter().filter(|name| !name.is_empty() && expected.contains(name)).count();
    let is_data = |name: &String| !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit());
    if shared >= SHARED_NAMES && !found.iter().any(is_data) { Repeated::Other } else { Repeated::No }
}

/// Returns the separator of a header line and the names of its columns.
///
/// # Errors
/// [`ImportError::Format`].
pub(crate) fn names(file: &str, line: &[u8]) -> Result<(u8, Vec<String>), ImportError> {
    let format = || ImportError::Format {
        file: file.to_owned(),
        expected: "CSV with a header, or JSON",
        begins: shown(line).chars().take(40).collect(),
    };
    let text = std::str::from_utf8(line).map_err(|_| format())?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let has = |separator: &u8| memchr::memchr(*separator, line).is_some();
    let separator = [SEPARATOR, b',', b'\t', b';', b'|'].into_iter().find(has).unwrap_or(b',');
    let mut splitter = Splitter::default();
    let fields = splitter.split(text, separator).map_err(|_| format())?;
    let names = (0..fields.len()).map(|i| fields.get(i).trim().to_owned()).collect();
    Ok((separator, names))
}

/// Returns the names of columns without an index.
fn unused(names: &[String], indexes: &[Option<usize>]) -> Vec<String> {
    let is_unused = |(index, _): &(usize, &String)| !indexes.contains(&Some(*index));
    names.iter().enumerate().filter(is_unused).map(|(_, name)| name.clone()).collect()
}

/// Splits lines into fields; reuses its buffers.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    ranges: Vec<Range<usize>>,
    record: csv::StringRecord,
}

/// The fields of one line.
pub(crate) enum CsvFields<'a> {
    /// No field is quoted: fields are slices of the line.
    Plain(&'a str, &'a [Range<usize>]),
    /// Some fields are quoted.
    Quoted(&'a csv::StringRecord),
}

impl<'a> CsvFields<'a> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Plain(_, ranges) => ranges.len(),
            Self::Quoted(record) => record.len(),
        }
    }

    /// Returns a field; empty beyond the last. Blanks around one that is not quoted are no part of
    /// it.
    pub(crate) fn get(&self, index: usize) -> &'a str {
        match self {
            Self::Plain(line, ranges) => {
                ranges.get(index).and_then(|range| line.get(range.clone())).unwrap_or_default().trim_ascii()
            }
            Self::Quoted(record) => record.get(index).unwrap_or_default(),
        }
    }
}

impl Splitter {
    /// The fields of a line. Those of Parquet are not quoted.
    ///
    /// # Errors
    /// [`LineError::OpenQuote`].
    pub(crate) fn split<'a>(&'a mut self, line: &'a str, separator: u8) -> Result<CsvFields<'a>, LineError> {
        if separator != SEPARATOR && memchr::memchr(b'"', line.as_bytes()).is_some() {
            return self.split_quoted(line, separator);
        }
        self.ranges.clear();
        let mut start = 0;
        for end in memchr::memchr_iter(separator, line.as_bytes()) {
            self.ranges.push(start..end);
            start = end + 1;
        }
        self.ranges.push(start..line.len());
        Ok(CsvFields::Plain(line, &self.ranges))
    }

    /// The rare case, by the csv crate. An odd number of quotes means an unclosed one.
    fn split_quoted<'a>(&'a mut self, line: &str, separator: u8) -> Result<CsvFields<'a>, LineError> {
        if memchr::memchr_iter(b'"', line.as_bytes()).count() % 2 == 1 {
            return Err(LineError::OpenQuote);
        }
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(separator)
            .from_reader(line.as_bytes());
        match reader.read_record(&mut self.record) {
            Ok(true) => Ok(CsvFields::Quoted(&self.record)),
            _ => Err(LineError::OpenQuote),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_in_any_order_and_unquoted() {
        let header = Header::parse("f.csv", b"\xef\xbb\xbfc,a,extra,b", &["a", "b", "c"], &["d"]).unwrap();
        let mut splitter = Splitter::default();
        let found: [_; 4] = header.columns(&mut splitter, "3,1,x,2").unwrap();
        assert_eq!(found, [Some("1"), Some("2"), Some("3"), None]);
        let found: [_; 4] = header.columns(&mut splitter, r#""a ""b"", c",,"",2"#).unwrap();
        assert_eq!(found, [None, Some("2"), Some(r#"a "b", c"#), None]);
    }

    #[test]
    fn the_header_shows_the_separator() {
        for line in ["b;a", "b\ta", "b|a"] {
            let separator = &line[1..2];
            let header = Header::parse("f.csv", line.as_bytes(), &["a", "b"], &[]).unwrap();
            let mut splitter = Splitter::default();
            let row = format!("\"1,5{separator}\"{separator}2,5");
            let found: [_; 2] = header.columns(&mut splitter, &row).unwrap();
            assert_eq!(found, [Some("2,5"), Some(&*format!("1,5{separator}"))]);
        }
        assert_eq!(shown(b"a\x1fb"), "a,b");
    }

    #[test]
    fn two_columns_of_one_fact_must_agree_and_mapped_columns_exist() {
        let columns = [Column { name: "from_address", names: &["fromaddress", "from"] }];
        let header = Header::find("f.csv", b"from,from_address,x", &columns, &[]).unwrap();
        let mut splitter = Splitter::default();
        assert_eq!(header.unused(), ["x"]);
        let mut read = |line: &str| {
            header.columns::<1>(&mut splitter, line).map(|found| found[0].map(str::to_owned)).map_err(|e| e.to_string())
        };
        assert_eq!(read("A,a,"), Ok(Some("a".to_owned())));
        assert_eq!(read("b,,"), Ok(Some("b".to_owned())));
        assert!(read("a,b,").unwrap_err().contains("from_address"));
        let mapping = ["fro=from_address".parse().unwrap()];
        let error = Header::find("f.csv", b"from", &columns, &mapping).unwrap_err();
        assert!(error.to_string().contains("\"fro\""), "{error}");
    }

    #[test]
    fn another_header_within_a_file_is_recognised() {
        let header = b"hash,from_address,to_address,value,memo";
        for (line, expected) in [
            ("HASH,\"From Address\",to_address,Value,Memo", Repeated::Same),
            ("hash,to_address,from_address,value,memo", Repeated::Other),
            ("value,hash,to_address", Repeated::Other),
            ("0x12,hash,value,to_address,15", Repeated::No),
            ("0x12,a,b,1,value", Repeated::No),
            ("", Repeated::No),
        ] {
            assert_eq!(repeats(header, line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn blanks_around_a_field_are_no_part_of_it() {
        let header = Header::parse("f.csv", b"a, b", &["a", "b"], &[]).unwrap();
        let mut splitter = Splitter::default();
        assert_eq!(header.columns::<2>(&mut splitter, " 1 ,\t2").unwrap(), [Some("1"), Some("2")]);
        assert_eq!(header.columns::<2>(&mut splitter, "1, ").unwrap(), [Some("1"), None]);
    }

    #[test]
    fn errors_of_lines_name_the_fault() {
        let header = Header::parse("f.csv", b"a,b", &["a", "b"], &[]).unwrap();
        let mut splitter = Splitter::default();
        let error = header.columns::<2>(&mut splitter, "1,2,3").unwrap_err();
        assert_eq!(error.to_string(), "3 columns where the header has 2");
        assert_eq!(header.columns::<2>(&mut splitter, "\"1,2").unwrap_err(), LineError::OpenQuote);
    }

    #[test]
    fn a_header_without_the_columns_names_them_all_and_itself() {
        let error = Header::parse("f.csv", b"hash,nonce", &["hash", "value", "block_number"], &[]).unwrap_err();
        let expected = "f.csv lacks the columns value, block_number; its header is: hash,nonce (--map COLUMN=FIELD names \
                        the column of a field)";
        assert_eq!(error.to_string(), expected);
        let error = Header::parse("f.csv", b"hash,hash", &["hash"], &[]).unwrap_err();
        assert_eq!(error.to_string(), "f.csv names the column \"hash\" twice in its header");
        assert!(matches!(Header::parse("f.csv", b"\xff\xfe", &["hash"], &[]), Err(ImportError::Format { .. })));
    }
}
