//! Parses a label list into rows of `arx.address_labels`: CSV with a network in every line, and two
//! words, category and abuse, that `arx_core::label` maps to one of ARX's categories.

use std::collections::HashMap;

use arx_core::address::Network;
use arx_core::amount::{Amount, COIN_SCALE};
use arx_core::label;
use arx_pgwire::copy::TupleBuffer;

use super::csv_line::{Header, Splitter};
use super::values::{Parsed, RowParser, parse_address, plain_text, required, shorten};
use crate::import::error::{ImportError, LineError};

/// Columns of a tuple, in order.
pub(crate) const COLUMNS: &str = "network, address, category, severity, label, source, confidence";

/// Number of [`COLUMNS`].
const COLUMN_COUNT: i16 = 7;

/// Required columns of a label list.
const REQUIRED: [&str; 6] = ["network", "address", "category", "abuse", "label", "source"];

/// Optional columns.
const OPTIONAL: [&str; 2] = ["severity", "confidence"];

/// Label and source share one index entry of at most about 2,700 bytes with the address (at most
/// 256).
const MAX_LABEL_BYTES: usize = 1000;

const MAX_SOURCE_BYTES: usize = 1000;

/// Units of 10⁻¹⁸ per thousandth, the precision of `confidence`.
const THOUSANDTH: i128 = 1_000_000_000_000_000;

/// Networks and categories of the database.
#[derive(Debug, Clone, Default)]
pub(crate) struct Vocabulary {
    pub(crate) networks: HashMap<String, Network>,
    words: label::Vocabulary,
    /// Severity by category, from `arx.label_categories`.
    severities: HashMap<String, String>,
}

impl Vocabulary {
    /// `categories` are name, kind and severity.
    pub(crate) fn new<'a>(
        networks: HashMap<String, Network>,
        categories: impl Iterator<Item = (&'a str, &'a str, &'a str)> + Clone,
    ) -> Self {
        let severities = categories.clone().map(|(name, _, severity)| (name.to_owned(), severity.to_owned())).collect();
        let words = label::Vocabulary::new(categories.map(|(name, kind, severity)| {
            (name, kind.parse().unwrap_or(label::LabelKind::Neutral), severity.parse().unwrap_or_default())
        }));
        Self { networks, words, severities }
    }

    /// Vocabulary of one network with the shipped categories alone.
    pub(crate) fn shipped(network: &Network) -> Self {
        let networks = HashMap::from([(network.name().to_owned(), network.clone())]);
        Self::new(networks, label::CATEGORIES.iter().map(|c| (c.name, c.kind.as_str(), c.severity.as_str())))
    }
}

/// A validated row.
pub(crate) struct LabelRow<'a> {
    pub(crate) network: &'a str,
    pub(crate) address: &'a str,
    /// A category of the database.
    pub(crate) category: &'a str,
    pub(crate) severity: &'a str,
    /// Name given by the source; may be empty.
    pub(crate) label: &'a str,
    pub(crate) source: &'a str,
    pub(crate) confidence: u128,
}

impl LabelRow<'_> {
    /// Encodes the row in the order of [`COLUMNS`].
    fn encode(&self, out: &mut TupleBuffer) {
        out.begin(COLUMN_COUNT);
        for text in [self.network, self.address, self.category, self.severity, self.label, self.source] {
            out.text(text);
        }
        out.numeric(self.confidence.into(), COIN_SCALE);
    }
}

/// A label list as CSV.
pub(crate) struct CsvLabels {
    vocabulary: Vocabulary,
    header: Header,
    splitter: Splitter,
    networks: HashMap<String, Network>,
}

impl CsvLabels {
    pub(crate) fn new(vocabulary: Vocabulary, file: &str, header: &[u8]) -> Result<Self, ImportError> {
        let header = Header::parse(file, header, &REQUIRED, &OPTIONAL)?;
        Ok(Self { vocabulary, header, splitter: Splitter::default(), networks: HashMap::new() })
    }
}

/// Returns the network of a line, which must be registered in the database.
fn known_network<'a>(
    parsed: &'a mut HashMap<String, Network>,
    registered: &HashMap<String, Network>,
    text: &str,
) -> Result<&'a Network, LineError> {
    if !parsed.contains_key(text) {
        let network = Network::parse(text)
            .map_err(|error| LineError::Address { column: "network", message: error.to_string() })?;
        let Some(network) = registered.get(network.name()) else {
            return Err(LineError::UnknownNetwork { network: text.to_owned() });
        };
        parsed.insert(text.to_owned(), network.clone());
    }
    parsed.get(text).ok_or_else(|| LineError::UnknownNetwork { network: text.to_owned() })
}

/// Returns the category of a line and its default severity.
fn category<'a>(
    vocabulary: &'a Vocabulary,
    category: Option<&str>,
    abuse: Option<&str>,
    text: &str,
) -> Result<(&'a str, &'a str), LineError> {
    let mapped = vocabulary.words.classify(category.unwrap_or_default(), abuse.unwrap_or_default(), text).category;
    match vocabulary.severities.get_key_value(&mapped) {
        Some((category, severity)) => Ok((category, severity)),
        None => Err(LineError::NotOneOf {
            column: "category",
            text: shorten(&mapped),
            allowed: "the categories in arx.label_categories",
        }),
    }
}

/// Checks the length of a text.
fn bounded<'a>(column: &'static str, text: &'a str, limit: usize) -> Result<&'a str, LineError> {
    if text.len() > limit { Err(LineError::TextTooLong { column, limit }) } else { plain_text(column, text) }
}

/// Parses a confidence above 0 and up to 1, with at most three decimals; 1 if absent.
fn confidence(text: Option<&str>) -> Result<u128, LineError> {
    let Some(text) = text else { return Ok(arx_core::amount::SCALE.unsigned_abs()) };
    let column = "confidence";
    let units = Amount::from_coins(text).map_err(|source| LineError::Amount { column, source })?.units();
    if units <= 0 || units > arx_core::amount::SCALE || units % THOUSANDTH != 0 {
        return Err(LineError::OutOfRange {
            column,
            text: shorten(text),
            limits: "above 0, up to 1, at most 3 decimals",
        });
    }
    Ok(units.unsigned_abs())
}

impl CsvLabels {
    /// Calls `with` with the row of a line.
    pub(crate) fn row<T>(&mut self, line: &str, with: impl FnOnce(LabelRow<'_>) -> T) -> Result<T, LineError> {
        let [network, address, own, abuse, label, source, severity, certainty] =
            self.header.columns(&mut self.splitter, line)?;
        let network = known_network(&mut self.networks, &self.vocabulary.networks, required("network", network)?)?;
        let address = parse_address("address", required("address", address)?, network)?;
        let label = bounded("label", label.unwrap_or_default(), MAX_LABEL_BYTES)?;
        let (category, usual) = category(&self.vocabulary, own, abuse, label)?;
        let source = bounded("source", required("source", source)?, MAX_SOURCE_BYTES)?;
        let severity = match severity {
            None => usual,
            Some(named) if label::Severity::ALL.iter().any(|severity| severity.as_str() == named) => named,
            Some(other) => {
                let allowed = "none, low, medium, high, severe";
                return Err(LineError::NotOneOf { column: "severity", text: shorten(other), allowed });
            }
        };
        let confidence = confidence(certainty)?;
        let (network, address) = (network.name(), address.as_str());
        Ok(with(LabelRow { network, address, category, severity, label, source, confidence }))
    }
}

impl RowParser for CsvLabels {
    fn parse(&mut self, _number: u64, line: &str, out: &mut TupleBuffer) -> Result<Parsed, LineError> {
        self.row(line, |row| row.encode(out))?;
        Ok(Parsed::Row { unix_seconds: None })
    }
}

#[cfg(test)]
mod tests {
    use super::super::decode;
    use super::*;

    const ALICE: &str = "0xae2fc483527b8ef99eb5d9b44875f005ba1fae13";

    fn parser(header: &str) -> CsvLabels {
        let categories = [
            ("exchange", "service", "none"),
            ("ransomware", "illicit", "severe"),
            ("unknown", "neutral", "none"),
            ("our_own", "neutral", "low"),
        ];
        let networks = HashMap::from([("ethereum".to_owned(), Network::parse("ethereum").unwrap())]);
        let vocabulary = Vocabulary::new(networks, categories.into_iter());
        CsvLabels::new(vocabulary, "l.csv", header.as_bytes()).unwrap()
    }

    fn row(parser: &mut CsvLabels, line: &str) -> Result<Vec<String>, String> {
        let mut out = TupleBuffer::default();
        let parsed = parser.parse(2, line, &mut out).map_err(|error| error.to_string());
        let rows = decode::tuples(&out.into_bytes());
        parsed.map(|_| {
            let mut texts: Vec<_> =
                rows[0][..6].iter().map(|v| String::from_utf8(v.clone().unwrap()).unwrap()).collect();
            texts.push(decode::numeric(rows[0][6].as_ref().unwrap()));
            texts
        })
    }

    #[test]
    fn two_words_become_one_category_with_its_severity() {
        let mut parser = parser("network,address,category,abuse,label,source");
        let found = row(&mut parser, &format!("ETH,{ALICE},,ransomware,\"Locky, the\",x/y.yaml")).unwrap();
        let expected = ["ethereum", ALICE, "ransomware", "severe", "Locky, the", "x/y.yaml", "1.000000000000000000"];
        assert_eq!(found, expected);
        assert_eq!(row(&mut parser, &format!("ETH,{ALICE},our_own,,,x")).unwrap()[2..4], ["our_own", "low"]);
    }

    #[test]
    fn severity_and_confidence_may_be_given() {
        let mut parser = parser("confidence,severity,network,address,category,abuse,label,source");
        let found = row(&mut parser, &format!("0.25,high,eth,{ALICE},exchange,,K,x")).unwrap();
        assert_eq!((found[3].as_str(), found[6].as_str()), ("high", "0.250000000000000000"));
        for bad in ["0,high", "1.001,high", "0.1234,high", "-1,high", "1,dire"] {
            let value = bad.split(',').find(|v| !["high", "1"].contains(v)).unwrap();
            let error = row(&mut parser, &format!("{bad},eth,{ALICE},exchange,,K,x")).unwrap_err();
            assert!(error.contains(value), "{error}");
        }
    }

    #[test]
    fn an_unregistered_network_error_shows_how_to_add_it() {
        let mut parser = parser("network,address,category,abuse,label,source");
        let error = row(&mut parser, "XVG,DAbc,exchange,,K,x").unwrap_err();
        assert!(error.starts_with("network \"XVG\" is not in arx.networks: SELECT arx.add_network('xvg'"), "{error}");
        let error = row(&mut parser, &format!("eth,{ALICE},exchange,,K,")).unwrap_err();
        assert_eq!(error, "column source is empty");
    }
}
