//! Turns records into labels: one spelling of the address, a network and a category of the
//! database.

use std::collections::{BTreeMap, HashMap};

use arx_core::address::{Address, AddressError, Currency, Network, NetworkFamily, network_of_address};
use arx_core::amount::{Amount, COIN_SCALE, SCALE};
use arx_core::label::{self, Classified, LabelKind, Severity};
use arx_pgwire::copy::TupleBuffer;
use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime};

use super::error::RecordError;
use super::record::{Field, Record};
use crate::import::ImportError;

/// Label and source share one index entry of at most about 2,700 bytes with the address (at most
/// 256).
const MAX_TEXT_BYTES: usize = 1000;

/// Units of 10⁻¹⁸ per thousandth, the precision of `confidence`.
const THOUSANDTH: i128 = 1_000_000_000_000_000;

/// Words of GraphSense for the confidence of a tag, in thousandths.
const CONFIDENCE_WORDS: [(&str, i128); 12] = [
    ("override", 1000),
    ("ownership", 1000),
    ("manual_transaction", 900),
    ("service_api", 700),
    ("authority_data", 600),
    ("trusted_provider", 500),
    ("service_data", 500),
    ("forensic", 500),
    ("untrusted_transaction", 400),
    ("web_crawl", 200),
    ("heuristic", 100),
    ("unknown", 5),
];

/// Columns of a staged tuple.
const COLUMN_COUNT: i16 = 11;

/// Statements of the user about a list, in addition to its own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Defaults {
    pub(crate) network: Option<String>,
    pub(crate) category: Option<String>,
    pub(crate) source: Option<String>,
    /// Category by word.
    pub(crate) words: Vec<(String, String)>,
    /// Network by a list's own name for it.
    pub(crate) networks: Vec<(String, String)>,
    /// The network follows from an address that is on another one than the list says.
    pub(crate) network_by_address: bool,
    /// The highest confidence of the list.
    pub(crate) confidence_scale: Option<u32>,
}

/// Networks and categories of a database.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub(crate) networks: HashMap<String, Network>,
    /// Name, kind and severity.
    pub(crate) categories: Vec<(String, LabelKind, Severity)>,
}

impl Facts {
    /// Facts of a database with one network and the shipped categories.
    pub(crate) fn shipped(network: &Network) -> Self {
        let categories = label::CATEGORIES.iter().map(|c| (c.name.to_owned(), c.kind, c.severity));
        Self {
            networks: HashMap::from([(network.name().to_owned(), network.clone())]),
            categories: categories.collect(),
        }
    }
}

/// A validated label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LabelRow<'a> {
    pub(crate) network: &'a str,
    pub(crate) address: &'a str,
    /// A category of the database.
    pub(crate) category: &'a str,
    pub(crate) severity: Severity,
    /// Name given by the source; may be empty.
    pub(crate) label: &'a str,
    pub(crate) source: &'a str,
    /// Units of 10⁻¹⁸.
    pub(crate) confidence: u128,
    /// Unix seconds; `None` where the list states none.
    pub(crate) valid_from: Option<i64>,
    pub(crate) valid_to: Option<i64>,
}

impl LabelRow<'_> {
    /// Encodes the row for the staging table.
    pub(super) fn encode(&self, id: i64, line: u64, out: &mut TupleBuffer) {
        out.begin(COLUMN_COUNT);
        out.int8(id);
        out.int8(i64::try_from(line).unwrap_or(i64::MAX));
        let severity = self.severity.as_str();
        for text in [self.network, self.address, self.category, severity, self.label, self.source] {
            out.text(text);
        }
        out.numeric(self.confidence.into(), COIN_SCALE);
        for time in [self.valid_from, self.valid_to] {
            match time {
                Some(seconds) => out.timestamp(seconds),
                None => out.null(),
            }
        }
    }
}

/// Notes that are taken while records are resolved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Notes {
    /// Labels by word that no one knows.
    pub(crate) unknown_words: BTreeMap<String, u64>,
    /// Labels whose words of category and abuse are empty.
    pub(crate) without_category: u64,
    /// Labels by network that followed from the address: `USDT: tron`.
    pub(crate) networks_by_address: BTreeMap<String, u64>,
    /// Labels by network whose addresses have a format that ARX does not know.
    pub(crate) unchecked: BTreeMap<String, u64>,
    /// A record had a field for its category.
    pub(super) has_category: bool,
}

pub(super) struct Resolver {
    facts: Facts,
    vocabulary: label::Vocabulary,
    severities: HashMap<String, Severity>,
    defaults: Defaults,
    /// Networks by the list's names.
    named: HashMap<String, Network>,
    classified: HashMap<String, Classified>,
    pub(super) notes: Notes,
}

/// Origin of the network of an address.
enum NetworkOf {
    Stated(Network),
    /// By its encoding, because this symbol names no network.
    Address(String),
}

impl Resolver {
    /// # Errors
    /// A mapped word, category or network that does not exist.
    pub(super) fn new(facts: Facts, defaults: Defaults, file: &str) -> Result<Self, ImportError> {
        let fault = |message: String| ImportError::LabelList { file: file.to_owned(), message };
        let mut vocabulary = label::Vocabulary::new(
            facts.categories.iter().map(|(name, kind, severity)| (name.as_str(), *kind, *severity)),
        );
        for (word, category) in &defaults.words {
            vocabulary.map(word, category).map_err(|error| fault(format!("--map {word}={category}: {error}")))?;
        }
        if let Some(category) = &defaults.category
            && !vocabulary.classify(category, "", "").unknown.is_empty()
        {
            return Err(fault(format!("--category {category}: the word is unknown; see arx.label_categories")));
        }
        let severities = facts.categories.iter().map(|(name, _, severity)| (name.clone(), *severity)).collect();
        let mut resolver = Self {
            facts,
            vocabulary,
            severities,
            defaults,
            named: HashMap::new(),
            classified: HashMap::new(),
            notes: Notes::default(),
        };
        let stated = resolver.defaults.networks.clone();
        for (name, network) in stated {
            let network = resolver.registered(&network).map_err(|error| fault(error.to_string()))?;
            resolver.named.insert(name.to_ascii_lowercase(), network);
        }
        if let Some(network) = resolver.defaults.network.clone() {
            resolver.registered(&network).map_err(|error| fault(error.to_string()))?;
        }
        Ok(resolver)
    }

    /// Returns a network of the database by its name.
    fn registered(&self, name: &str) -> Result<Network, RecordError> {
        let network = Network::parse_written(name).map_err(|error| RecordError::Network(error.to_string()))?;
        self.facts.networks.get(network.name()).cloned().ok_or_else(|| {
            let message = ImportError::UnknownNetwork { network: name.to_owned() }.to_string();
            RecordError::Network(message)
        })
    }

    /// Sets the source of a list that does not state it itself, unless the user has stated one.
    pub(super) fn default_source(&mut self, source: &str) {
        self.defaults.source.get_or_insert_with(|| source.to_owned());
    }

    /// Returns true if the user has stated the network of the list.
    pub(super) const fn has_network(&self) -> bool {
        self.defaults.network.is_some()
    }

    /// Returns true if a text is an address on the stated network, or by its encoding.
    pub(super) fn is_address(&self, text: &str) -> bool {
        let stated = self.defaults.network.as_deref().and_then(|name| self.registered(name).ok());
        network_of_address(text).is_some()
            || stated.is_some_and(|network| Address::is_valid(text, &network) == Some(true))
    }

    /// Calls `with` with the label of a record.
    pub(super) fn row<T>(
        &mut self,
        record: &Record<'_>,
        with: impl FnOnce(LabelRow<'_>) -> T,
    ) -> Result<T, RecordError> {
        let blank = |c: char| c.is_whitespace() || matches!(c, '\u{200b}' | '\u{2060}' | '\u{feff}');
        let text = record.get(Field::Address).map(|text| text.trim_matches(blank));
        let text = text.filter(|text| !text.is_empty()).ok_or(RecordError::Empty("address"))?;
        let (network, address) = self.place(record, text)?;
        let label = bounded("label", record.get(Field::Label).unwrap_or_default())?;
        if record.get(Field::Source).is_none() && self.defaults.source.is_none() {
            return Err(RecordError::NoSource);
        }
        let confidence = self.confidence(record.get(Field::Confidence))?;
        let valid_from = date("valid_from", record.get(Field::ValidFrom))?;
        let valid_to = date("valid_to", record.get(Field::ValidTo))?;
        if valid_from.zip(valid_to).is_some_and(|(from, to)| from >= to) {
            return Err(RecordError::Period);
        }
        let stated = record
            .get(Field::Severity)
            .map(|text| text.parse::<Severity>().map_err(|_| RecordError::Severity(shorten(text))));
        let stated = stated.transpose()?;
        let Classified { category, unknown } = self.classify(record, label);
        self.note_words(record, &unknown);
        if network.family() == NetworkFamily::Opaque {
            *self.notes.unchecked.entry(network.name().to_owned()).or_default() += 1;
        }
        let source = record.get(Field::Source).or(self.defaults.source.as_deref());
        let source = bounded("source", source.unwrap_or_default())?;
        let severity = stated.or_else(|| self.severities.get(&category).copied()).unwrap_or_default();
        let (network, address) = (network.name(), address.as_str());
        let category = category.as_str();
        Ok(with(LabelRow { network, address, category, severity, label, source, confidence, valid_from, valid_to }))
    }

    /// Returns network and address of a record.
    fn place(&mut self, record: &Record<'_>, text: &str) -> Result<(Network, Address), RecordError> {
        let (symbol, stated) = match self.network(record)? {
            NetworkOf::Address(symbol) => (symbol, None),
            NetworkOf::Stated(network) => match Address::parse(text, &network) {
                Ok(address) => return Ok((network, address)),
                Err(error) if !self.defaults.network_by_address => return Err(of_address(&error)),
                Err(error) => (network.name().to_owned(), Some(error)),
            },
        };
        // BNB is the coin of a network, and a token of others.
        let named = Network::parse(&symbol).ok().filter(|network| stated.is_none() && network.is_listed());
        let named = named.filter(|network| Address::is_valid(text, network) == Some(true));
        let Some(network) = named.or_else(|| network_of_address(text)) else {
            return Err(match stated {
                Some(error) => of_address(&error),
                None => {
                    let symbol = if symbol.is_empty() { "NAME".to_owned() } else { symbol };
                    RecordError::NetworkOfAddress { address: shorten(text), symbol }
                }
            });
        };
        let network = self.registered(network.name())?;
        let address = Address::parse(text, &network).map_err(|error| of_address(&error))?;
        let from = if symbol.is_empty() { "not stated".to_owned() } else { shorten(&symbol) };
        *self.notes.networks_by_address.entry(format!("{from}: {network}")).or_default() += 1;
        Ok((network, address))
    }

    fn network(&mut self, record: &Record<'_>) -> Result<NetworkOf, RecordError> {
        let (text, is_currency) = match (record.get(Field::Network), record.get(Field::Currency)) {
            (Some(network), _) => (network, false),
            (None, Some(currency)) => (currency, true),
            (None, None) => match &self.defaults.network {
                Some(name) => (name.as_str(), false),
                None if self.defaults.network_by_address => return Ok(NetworkOf::Address(String::new())),
                None => return Err(RecordError::NoNetwork),
            },
        };
        let key = text.to_ascii_lowercase();
        if let Some(network) = self.named.get(&key) {
            return Ok(NetworkOf::Stated(network.clone()));
        }
        if Currency::is_token(text) || (is_currency && Currency::parse(text) == Some(Currency::Anywhere)) {
            return Ok(NetworkOf::Address(text.to_owned()));
        }
        let network = match Currency::parse(text).filter(|_| is_currency) {
            Some(Currency::Native(name)) => self.registered(name)?,
            // A list may write the network's name where others write the symbol.
            _ if is_currency && !Network::parse_written(text).is_ok_and(|network| network.is_listed()) => {
                return Err(RecordError::Currency(shorten(text)));
            }
            _ => self.registered(text)?,
        };
        self.named.insert(key, network.clone());
        Ok(NetworkOf::Stated(network))
    }

    fn classify(&mut self, record: &Record<'_>, label: &str) -> Classified {
        let stated = record.get(Field::Category);
        let abuse = record.get(Field::Abuse).unwrap_or_default();
        let category = match (stated, &self.defaults.category) {
            (Some(words), _) => words,
            (None, Some(default)) if abuse.is_empty() => default,
            _ => "",
        };
        let key = format!("{category}\u{0}{abuse}");
        if !self.classified.contains_key(&key) {
            self.classified.insert(key.clone(), self.vocabulary.classify(category, abuse, ""));
        }
        let classified = self.classified.get(&key).cloned();
        match classified {
            Some(classified) if classified.category != label::UNKNOWN && classified.category != "other" => classified,
            // The text of the label may name a list or a market.
            _ => self.vocabulary.classify(category, abuse, label),
        }
    }

    fn note_words(&mut self, record: &Record<'_>, unknown: &[String]) {
        self.notes.has_category |= record.has_category || self.defaults.category.is_some();
        if record.get(Field::Category).is_none()
            && record.get(Field::Abuse).is_none()
            && self.defaults.category.is_none()
        {
            self.notes.without_category += 1;
        }
        for word in unknown {
            *self.notes.unknown_words.entry(shorten(word)).or_default() += 1;
        }
    }

    /// Parses a confidence: up to 1, a percentage, of the stated scale, or a word.
    fn confidence(&self, text: Option<&str>) -> Result<u128, RecordError> {
        let Some(text) = text.map(str::trim) else { return Ok(SCALE.unsigned_abs()) };
        let fault = || RecordError::Confidence(shorten(text));
        if let Some((_, thousandths)) = CONFIDENCE_WORDS.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)) {
            return Ok((thousandths * THOUSANDTH).unsigned_abs());
        }
        let (number, scale) = match text.strip_suffix('%') {
            Some(number) => (number.trim_end(), 100),
            None => (text, self.defaults.confidence_scale.unwrap_or(1)),
        };
        let units = Amount::from_coins(number).map_err(|_| fault())?.units() / i128::from(scale.max(1));
        if units <= 0 || units > SCALE {
            return Err(fault());
        }
        let thousandths = (units + THOUSANDTH / 2) / THOUSANDTH;
        Ok((thousandths.max(1) * THOUSANDTH).unsigned_abs())
    }
}

fn of_address(error: &AddressError) -> RecordError {
    RecordError::Address(error.to_string())
}

/// Checks the length of a text.
fn bounded<'a>(field: &'static str, text: &'a str) -> Result<&'a str, RecordError> {
    if text.len() > MAX_TEXT_BYTES {
        Err(RecordError::TooLong { field, limit: MAX_TEXT_BYTES })
    } else if text.contains('\0') {
        Err(RecordError::Nul { field })
    } else {
        Ok(text.trim())
    }
}

/// Shortens a value for a message to 120 characters.
pub(super) fn shorten(text: &str) -> String {
    if text.chars().count() <= 120 { text.to_owned() } else { text.chars().take(117).chain("...".chars()).collect() }
}

/// Parses a date or a time in UTC. `infinity` and `-infinity` are absent.
pub(super) fn date(field: &'static str, text: Option<&str>) -> Result<Option<i64>, RecordError> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else { return Ok(None) };
    if matches!(text, "infinity" | "-infinity") {
        return Ok(None);
    }
    let seconds = parse_time(text).ok_or_else(|| RecordError::Date { field, text: shorten(text) })?;
    Ok(Some(seconds))
}

/// Unix seconds before this number are taken for something else, such as a year.
const EARLIEST_SECONDS: i64 = 100_000_000;
const LATEST_SECONDS: i64 = 9_999_999_999;

fn parse_time(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<i64>() {
        return (EARLIEST_SECONDS..=LATEST_SECONDS).contains(&seconds).then_some(seconds);
    }
    if let Ok(day) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Some(day.and_time(NaiveTime::MIN).and_utc().timestamp());
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp());
    }
    let local = text.strip_suffix(" UTC").or_else(|| text.strip_suffix("+00:00")).or_else(|| text.strip_suffix("+00"));
    let local = local.unwrap_or(text);
    ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(local, format).ok())
        .map(|time| time.and_utc().timestamp())
}
