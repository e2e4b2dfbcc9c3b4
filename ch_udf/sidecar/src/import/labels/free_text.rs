//! Sanctions lists of the EU, the UK and the UN, which name addresses in their remarks: CSV and
//! XML.
//!
//! An address is taken only where it is certain: its network stands before it (`XBT: 1…`), is
//! stated by the user, or follows from an encoding that no other network shares. Any other text
//! that may be an address is rejected with its row, so that someone reads it. Rows that speak of
//! currencies and have no address are counted.

use std::io::{BufRead, BufReader};

use arx_core::address::{Currency, NetworkFamily, network_of_address};
use quick_xml::Reader;
use quick_xml::XmlVersion;
use quick_xml::events::Event;

use super::error::RecordError;
use super::formats::{Reading, Sink};
use super::record::{Field, Record, fold_name};
use super::text::{each_line, split};
use crate::import::ImportError;

/// Folded names of columns and elements with free text.
const TEXTS: [&str; 10] = [
    "otherinformation",
    "otherinfo",
    "remark",
    "remarks",
    "entityremark",
    "namealiasremark",
    "comments",
    "comments1",
    "statementofreasons",
    "uksanctionslistotherinformation",
];

/// Folded names of columns, elements and attributes with the name of an entry, the preferred one
/// first.
const NAMES: [&str; 9] = [
    "namealiaswholename",
    "wholename",
    "name6",
    "name",
    "names",
    "fullname",
    "primaryname",
    "firstname",
    "nameoriginalscript",
];

/// Elements of XML that are entries.
const ENTRIES: [&str; 5] = ["sanctionEntity", "INDIVIDUAL", "ENTITY", "Designation", "FinancialSanctionsTarget"];

/// Words of texts that speak of currencies.
const MENTIONS: [&str; 7] = [
    "cryptocurrency",
    "crypto currency",
    "virtual currency",
    "digital currency",
    "bitcoin",
    "wallet address",
    "ethereum",
];

/// Networks whose names are no words of other meaning.
const NETWORKS: [&str; 10] =
    ["bitcoin", "ethereum", "litecoin", "dogecoin", "monero", "ripple", "tron", "solana", "zcash", "cardano"];

/// Characters of the shortest address.
const SHORTEST: usize = 25;

/// Words before an address among which one may name its network.
const WORDS_BEFORE: usize = 3;

/// Sources by what a file shows at its beginning.
const SOURCES: [(&str, &str); 6] = [
    ("CONSOLIDATED_LIST", "UN Security Council"),
    ("sanctionEntity", "EU consolidated list"),
    ("EntityLogicalId", "EU consolidated list"),
    ("Entity_LogicalId", "EU consolidated list"),
    ("OFSI", "UK sanctions list"),
    ("Designation", "UK sanctions list"),
];

/// Category of the entries of these lists.
const CATEGORY: &str = "sanctions list";

/// Returns true if the header of a list without a column for addresses has free text.
pub(super) fn has_text(header: &str) -> Option<u8> {
    [b',', b';', b'\t', b'|'].into_iter().find(|delimiter| {
        let names = split(header, *delimiter).unwrap_or_default();
        names.len() > 1 && names.iter().any(|name| TEXTS.contains(&fold_name(name).as_str()))
    })
}

/// Returns true if XML is one of these lists.
pub(super) fn is_known_xml(head: &str) -> bool {
    ["<CONSOLIDATED_LIST", "<sanctionEntity", "<Designations", "<ArrayOfFinancialSanctionsTarget"]
        .iter()
        .any(|mark| head.contains(mark))
}

/// States the source of a list that shows it.
fn note_source(head: &str, sink: &mut dyn Sink) {
    if let Some((_, source)) = SOURCES.iter().find(|(mark, _)| head.contains(mark)) {
        sink.default_source(source);
    }
}

/// Reads CSV whose columns hold free text.
pub(super) fn csv(reading: &mut Reading<'_>, delimiter: u8, sink: &mut dyn Sink) -> Result<(), ImportError> {
    let file = reading.file.to_owned();
    let mut header: Option<Vec<String>> = None;
    each_line(reading, sink, |sink, number, line| {
        let fields = match split(line, delimiter) {
            Ok(fields) => fields,
            Err(error) => return sink.malformed(number, &line, error),
        };
        let Some(names) = &header else {
            let names: Vec<String> = fields.iter().map(|name| fold_name(name)).collect();
            // The UK's list has its date in a line before the header.
            if names.iter().any(|name| TEXTS.contains(&name.as_str())) {
                note_source(line, sink);
                header = Some(names);
            }
            return Ok(());
        };
        let place = |name: &str| names.iter().position(|folded| folded == name);
        let name =
            NAMES.iter().find_map(|name| place(name).and_then(|index| fields.get(index)).filter(|v| !v.is_empty()));
        let texts = fields.iter().map(|field| &**field);
        entry(number, line, name.map_or("", |name| &**name), texts, sink)
    })?;
    if header.is_some() {
        return Ok(());
    }
    let message = "has no column of remarks, such as Other Information".to_owned();
    Err(ImportError::LabelList { file, message })
}

/// Reads XML: each entry with the texts and attributes within it.
pub(super) fn xml(reading: &mut Reading<'_>, head: &str, sink: &mut dyn Sink) -> Result<(), ImportError> {
    note_source(head, sink);
    let file = reading.file.to_owned();
    let fault = |error: &dyn std::fmt::Display| ImportError::LabelList {
        file: file.clone(),
        message: format!("invalid XML: {error}"),
    };
    let mut reader = Reader::from_reader(BufReader::new(&mut reading.content as &mut dyn BufRead));
    let (mut buffer, mut path) = (Vec::new(), Vec::<String>::new());
    let mut number = 0;
    // The open entry: its depth, its texts, and the best name so far with its rank.
    let mut depth = None;
    let mut texts: Vec<String> = Vec::new();
    let mut name = (usize::MAX, String::new());
    loop {
        buffer.clear();
        let event = reader.read_event_into(&mut buffer).map_err(|error| fault(&error))?;
        let mut note = |key: &str, text: String, texts: &mut Vec<String>| {
            let key = fold_name(key);
            if let Some(rank) = NAMES.iter().position(|known| *known == key).filter(|rank| *rank < name.0) {
                name = (rank, text.clone());
            }
            texts.push(text);
        };
        match &event {
            Event::Start(start) | Event::Empty(start) => {
                let element = start.local_name().as_ref().to_owned();
                let is_empty = matches!(event, Event::Empty(_));
                if depth.is_none() && !is_empty && ENTRIES.contains(&element.as_str()) {
                    depth = Some(path.len());
                }
                if depth.is_some() {
                    for attribute in start.attributes().flatten() {
                        if let Ok(value) = attribute.normalized_value(XmlVersion::Implicit1_0) {
                            note(attribute.key.local_name().as_ref(), value.into_owned(), &mut texts);
                        }
                    }
                }
                if !is_empty {
                    path.push(element);
                }
            }
            Event::Text(text) if depth.is_some() => {
                let text = text.xml10_content().trim().to_owned();
                if !text.is_empty() {
                    note(path.last().map_or("", String::as_str), text, &mut texts);
                }
            }
            Event::CData(text) if depth.is_some() => {
                note(path.last().map_or("", String::as_str), text.xml10_content().into_owned(), &mut texts);
            }
            Event::End(_) => {
                path.pop();
                if depth == Some(path.len()) {
                    depth = None;
                    number += 1;
                    let texts = std::mem::take(&mut texts);
                    let (_, name) = std::mem::replace(&mut name, (usize::MAX, String::new()));
                    let shown = texts.join(" ");
                    entry(number, &shown, &name, texts.iter().map(String::as_str), sink)?;
                }
            }
            Event::Eof if path.is_empty() => break,
            Event::Eof => return Err(fault(&"it ends in the middle")),
            _ => {}
        }
    }
    if number == 0 {
        let message = "has no entries of a list of the EU, the UK or the UN".to_owned();
        return Err(ImportError::LabelList { file, message });
    }
    Ok(())
}

/// Passes the addresses of one entry on.
fn entry<'a>(
    number: u64,
    shown: &str,
    name: &str,
    texts: impl Iterator<Item = &'a str> + Clone,
    sink: &mut dyn Sink,
) -> Result<(), ImportError> {
    let mut found = false;
    let shown: &dyn std::fmt::Display = &shown;
    for candidate in texts.clone().flat_map(candidates) {
        found = true;
        let mut record = Record::new(number, shown);
        record.set(Field::Address, candidate.address);
        match candidate.network {
            NetworkOf::Symbol(symbol) => record.set(Field::Currency, symbol),
            NetworkOf::Name(network) => record.set(Field::Network, network),
            NetworkOf::Stated if sink.is_stated() => {}
            NetworkOf::Stated => {
                sink.malformed(number, shown, RecordError::AddressInText { address: candidate.address.to_owned() })?;
                continue;
            }
        }
        record.set(Field::Label, name);
        record.set(Field::Category, CATEGORY);
        sink.record(record)?;
    }
    if !found {
        let lower = texts.map(str::to_lowercase).collect::<Vec<_>>();
        let mentions = MENTIONS.iter().any(|word| lower.iter().any(|text| text.contains(*word)));
        sink.skip(if mentions {
            "entry that speaks of a currency, without an address"
        } else {
            "entry without an address"
        });
    }
    Ok(())
}

/// A text that may be an address.
#[derive(Debug, PartialEq, Eq)]
struct Candidate<'a> {
    address: &'a str,
    network: NetworkOf<'a>,
}

/// Origin of the network of a candidate.
#[derive(Debug, PartialEq, Eq)]
enum NetworkOf<'a> {
    /// A word before it.
    Symbol(&'a str),
    /// A word before it, or its encoding.
    Name(String),
    /// The user, or no one.
    Stated,
}

/// Finds what may be addresses in a text: a word of an address's form, and any word after the name
/// of a currency that is as long.
fn candidates(text: &str) -> Vec<Candidate<'_>> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == ':';
    let words: Vec<&str> = text.split(|c: char| !is_part(c)).filter(|word| !word.is_empty()).collect();
    let mut found = Vec::new();
    for (place, word) in words.iter().enumerate() {
        // `bitcoincash:q…` is one word, and `BTC:1…` two.
        let (before, address) = match word.rsplit_once(':') {
            Some((prefix, address))
                if !prefix.eq_ignore_ascii_case("bitcoincash") && !prefix.eq_ignore_ascii_case("bchtest") =>
            {
                (Some(prefix.trim_end_matches(':')), address)
            }
            _ => (None, word.trim_matches(':')),
        };
        if address.len() < SHORTEST || !address.bytes().any(|b| b.is_ascii_digit()) {
            continue;
        }
        let start = place.saturating_sub(WORDS_BEFORE);
        let earlier = words.get(start..place).unwrap_or_default().iter().rev().map(|word| word.trim_matches(':'));
        // An address in between has the name before it for itself, unless a list follows a name.
        let named = before.into_iter().chain(earlier.filter(|word| word.len() < SHORTEST)).find_map(network_of_word);
        let has_form = network_of_address(address).is_some()
            || address
                .strip_prefix("0x")
                .is_some_and(|hex| hex.len() == 40 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
        let network = match by_encoding(address) {
            NetworkOf::Stated => named.or(has_form.then_some(NetworkOf::Stated)),
            certain => Some(certain),
        };
        found.extend(network.map(|network| Candidate { address, network }));
    }
    found
}

/// Returns the network that a word names: a symbol or name of a coin, or a network.
fn network_of_word(word: &str) -> Option<NetworkOf<'_>> {
    let is_symbol = word.len() >= 3 && word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    if is_symbol && Currency::parse(word).is_some() {
        return Some(NetworkOf::Symbol(word));
    }
    let lower = word.to_lowercase();
    NETWORKS.contains(&lower.as_str()).then_some(NetworkOf::Name(lower))
}

/// Returns the network of an encoding that no other network shares, and that has a checksum.
fn by_encoding(address: &str) -> NetworkOf<'static> {
    let Some(network) = network_of_address(address) else { return NetworkOf::Stated };
    let lower = address.to_ascii_lowercase();
    let is_alone = matches!(network.family(), NetworkFamily::Tron | NetworkFamily::Ripple | NetworkFamily::BitcoinCash)
        || lower.starts_with("bc1")
        || lower.starts_with("ltc1");
    // Hexadecimal digits of Tron are those of many things.
    let is_plain_hex = lower.bytes().all(|b| b.is_ascii_hexdigit()) || lower.starts_with("0x");
    if is_alone && !is_plain_hex { NetworkOf::Name(network.name().to_owned()) } else { NetworkOf::Stated }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BITCOIN: &str = "1AGNa15ZQXAZUgFiqJ2i7Z2DPU2J6hW62i";
    const TRON: &str = "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t";
    const ETHEREUM: &str = "0xae2fc483527b8ef99eb5d9b44875f005ba1fae13";

    fn found(text: &str) -> Vec<String> {
        let shown = |candidate: Candidate<'_>| match candidate.network {
            NetworkOf::Symbol(symbol) => format!("{symbol} {}", candidate.address),
            NetworkOf::Name(name) => format!("{name} {}", candidate.address),
            NetworkOf::Stated => format!("? {}", candidate.address),
        };
        candidates(text).into_iter().map(shown).collect()
    }

    #[test]
    fn addresses_are_certain_by_a_word_before_them_or_by_their_encoding() {
        assert_eq!(found(&format!("Digital Currency Address - XBT {BITCOIN}; alt.")), [format!("XBT {BITCOIN}")]);
        assert_eq!(found(&format!("BTC:{BITCOIN}")), [format!("BTC {BITCOIN}")]);
        assert_eq!(found(&format!("Bitcoin address {BITCOIN}.")), [format!("bitcoin {BITCOIN}")]);
        assert_eq!(found(&format!("uses {TRON}, and others")), [format!("tron {TRON}")]);
        assert_eq!(found(&format!("(ETH) {ETHEREUM}")), [format!("ETH {ETHEREUM}")]);
    }

    #[test]
    fn other_texts_are_no_addresses_or_uncertain() {
        assert_eq!(found(&format!("uses {BITCOIN} and {ETHEREUM}")), [format!("? {BITCOIN}"), format!("? {ETHEREUM}")]);
        assert_eq!(found("Passport 41b7e6 of 1 January, Internationalisierung, +44 20 7946 0000"), [""; 0]);
        // A mistyped address after the name of its currency is not passed over.
        assert_eq!(found("XBT 1AGNa15ZQXAZUgFiqJ2i7Z2DPU2J6hW62j"), ["XBT 1AGNa15ZQXAZUgFiqJ2i7Z2DPU2J6hW62j"]);
    }
}
