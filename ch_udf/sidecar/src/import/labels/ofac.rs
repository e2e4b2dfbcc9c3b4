//! OFAC's lists in XML: `sdn.xml` with addresses as identity documents, and `sdn_advanced.xml` with
//! addresses as features, whose types and dates of entry stand elsewhere in the file.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use super::formats::{OFAC_CATEGORY, OFAC_SOURCE, Reading, Sink};
use super::record::{Field, Record};
use super::text::OFAC_MARK;
use crate::import::ImportError;

/// An address of an entry.
struct Found {
    number: u64,
    profile: String,
    symbol: String,
    address: String,
    name: String,
}

/// The part of the open entry that has been read.
#[derive(Default)]
struct Entry {
    profile: String,
    name: Vec<String>,
    has_primary_name: bool,
    /// Symbols and addresses.
    addresses: Vec<(String, String)>,
}

#[derive(Default)]
struct List {
    path: Vec<String>,
    text: String,
    /// Attributes of the elements that are open.
    attributes: Vec<HashMap<String, String>>,
    /// Symbol by the id of a type of feature.
    symbols: HashMap<String, String>,
    entry: Entry,
    id_type: String,
    found: Vec<Found>,
    entries: u64,
    without: u64,
    /// Date of entry by profile.
    dates: HashMap<String, String>,
    date: [String; 3],
}

/// Reads either form. Rows are passed on at the end, because the dates of entry come last.
pub(super) fn ofac_xml(reading: &mut Reading<'_>, sink: &mut dyn Sink) -> Result<(), ImportError> {
    let file = reading.file.to_owned();
    sink.default_source(OFAC_SOURCE);
    let mut list = List::default();
    let mut reader = Reader::from_reader(BufReader::new(&mut reading.content as &mut dyn BufRead));
    let mut buffer = Vec::new();
    loop {
        let fault = |error: &dyn std::fmt::Display| ImportError::LabelList {
            file: file.clone(),
            message: format!("invalid XML: {error}"),
        };
        buffer.clear();
        match reader.read_event_into(&mut buffer).map_err(|error| fault(&error))? {
            Event::Start(start) => list.open(&start),
            Event::Empty(start) => {
                list.open(&start);
                list.close();
            }
            Event::Text(text) => list.text.push_str(&text.xml10_content()),
            Event::CData(text) => list.text.push_str(&text.xml10_content()),
            Event::GeneralRef(reference) => {
                let name = reference.xml10_content();
                let resolved = reference.resolve_char_ref().ok().flatten().map(String::from);
                let named = || quick_xml::escape::resolve_predefined_entity(&name).map(str::to_owned);
                list.text.push_str(&resolved.or_else(named).unwrap_or_default());
            }
            Event::End(_) => list.close(),
            Event::Eof if list.path.is_empty() => break,
            Event::Eof => return Err(fault(&"it ends in the middle")),
            _ => {}
        }
    }
    if list.entries == 0 {
        let message = "has no entries of OFAC's sdn.xml or sdn_advanced.xml".to_owned();
        return Err(ImportError::LabelList { file, message });
    }
    for _ in 0..list.without {
        sink.skip("entry without an address");
    }
    for found in &list.found {
        let shown = format!("{}: {} {}", found.name, found.symbol, found.address);
        let mut record = Record::new(found.number, &shown);
        record.set(Field::Address, found.address.as_str());
        record.set(Field::Currency, found.symbol.as_str());
        record.set(Field::Label, found.name.as_str());
        if let Some(date) = list.dates.get(&found.profile) {
            record.set(Field::ValidFrom, date.as_str());
        }
        record.set(Field::Category, OFAC_CATEGORY);
        sink.record(record)?;
    }
    Ok(())
}

/// Returns the symbol of `Digital Currency Address - XBT`.
fn symbol(text: &str) -> Option<String> {
    text.trim().strip_prefix(OFAC_MARK).map(|symbol| symbol.trim().to_owned())
}

impl List {
    fn open(&mut self, start: &BytesStart<'_>) {
        let attributes = start.attributes().flatten().filter_map(|attribute| {
            let value = attribute.normalized_value(XmlVersion::Implicit1_0).ok()?.into_owned();
            Some((attribute.key.local_name().as_ref().to_owned(), value))
        });
        let attributes: HashMap<String, String> = attributes.collect();
        self.path.push(start.local_name().as_ref().to_owned());
        self.text.clear();
        let attribute = |name: &str| attributes.get(name).cloned().unwrap_or_default();
        match self.path.last().map(String::as_str) {
            Some("sdnEntry" | "DistinctParty") => self.entry = Entry::default(),
            Some("Profile") => self.entry.profile = attribute("ID"),
            Some("Alias") if attribute("Primary") == "true" && !self.entry.has_primary_name => {
                self.entry.name.clear();
            }
            _ => {}
        }
        self.attributes.push(attributes);
    }

    fn attribute(&self, element: &str, name: &str) -> String {
        let place = self.path.iter().rposition(|open| open == element);
        place.and_then(|place| self.attributes.get(place)?.get(name).cloned()).unwrap_or_default()
    }

    fn is_within(&self, element: &str) -> bool {
        self.path.iter().any(|open| open == element)
    }

    fn close(&mut self) {
        let text = std::mem::take(&mut self.text).trim().to_owned();
        let element = self.path.last().cloned().unwrap_or_default();
        match element.as_str() {
            // Both forms.
            "sdnEntry" | "DistinctParty" => self.end_entry(),
            // sdn.xml
            "lastName" | "firstName" if !self.is_within("akaList") && self.is_within("sdnEntry") => {
                if element == "firstName" { self.entry.name.insert(0, text) } else { self.entry.name.push(text) }
            }
            "idType" => self.id_type = text,
            "idNumber" => {
                if let Some(symbol) = symbol(&self.id_type) {
                    self.entry.addresses.push((symbol, text));
                }
            }
            "id" => self.id_type.clear(),
            // sdn_advanced.xml
            "FeatureType" => {
                if let Some(symbol) = symbol(&text) {
                    self.symbols.insert(self.attribute("FeatureType", "ID"), symbol);
                }
            }
            "NamePartValue" if !self.entry.has_primary_name && self.attribute("Alias", "Primary") == "true" => {
                self.entry.name.push(text);
            }
            "Alias" if self.attribute("Alias", "Primary") == "true" => self.entry.has_primary_name = true,
            "VersionDetail" => {
                if let Some(symbol) = self.symbols.get(&self.attribute("Feature", "FeatureTypeID"))
                    && !text.is_empty()
                {
                    self.entry.addresses.push((symbol.clone(), text));
                }
            }
            "Year" if self.is_within("EntryEvent") => self.date[0] = text,
            "Month" if self.is_within("EntryEvent") => self.date[1] = text,
            "Day" if self.is_within("EntryEvent") => self.date[2] = text,
            "EntryEvent" => {
                let [year, month, day] = std::mem::take(&mut self.date);
                let date = format!("{year:0>4}-{month:0>2}-{day:0>2}");
                let profile = self.attribute("SanctionsEntry", "ProfileID");
                let known = self.dates.entry(profile).or_insert_with(|| date.clone());
                if date < *known {
                    *known = date;
                }
            }
            _ => {}
        }
        self.path.pop();
        self.attributes.pop();
    }

    fn end_entry(&mut self) {
        self.entries += 1;
        let Entry { profile, name, addresses, .. } = std::mem::take(&mut self.entry);
        if addresses.is_empty() {
            self.without += 1;
        }
        let name = name.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join(" ");
        let number = self.entries;
        self.found.extend(addresses.into_iter().map(|(symbol, address)| Found {
            number,
            profile: profile.clone(),
            symbol,
            address,
            name: name.clone(),
        }));
    }
}
