//! Questions with known answers: `arx-udf --self-test` asks them of this program, and the check
//! after an installation asks them of ClickHouse. The expected answers come from the domain,
//! without the byte formats.

use arx_core::address::{Address, Network};
use arx_core::behaviour::{Activity, WalletType};
use arx_core::risk::features::{Coverage, FeatureRow, NAMES};
use arx_core::risk::scorecard::{is_not_covered, not_covered};
use arx_core::risk::{Calibration, WalletFacts, judge, reasons};

use crate::functions::{Function, code};
use crate::models::{Models, UdfError};
use crate::protocol::{put_length, put_text};

/// A question with its answer.
#[derive(Debug, Clone)]
pub struct Vector {
    pub function: Function,
    /// The question as an SQL expression.
    pub sql: String,
    /// The question in RowBinary.
    pub row: Vec<u8>,
    /// The answer as text.
    pub expected: String,
}

/// Text of a NULL answer.
pub const NULL: &str = "NULL";

impl Vector {
    /// Asks this program, and returns the answer as text.
    ///
    /// # Errors
    /// [`UdfError::Serve`].
    pub(crate) fn ask(&self, models: &Models) -> Result<String, UdfError> {
        let question = [b"1\n", self.row.as_slice()].concat();
        let mut answer = Vec::new();
        models.answer(self.function, question.as_slice(), &mut answer)?;
        Ok(answer_text(self.function, &answer))
    }

    /// Returns whether an answer is the expected one. Numbers are compared as numbers: they have
    /// several spellings.
    #[must_use]
    pub fn matches(&self, answer: &str) -> bool {
        match (answer.parse::<f64>(), self.expected.parse::<f64>()) {
            (Ok(answer), Ok(expected)) => answer.to_bits() == expected.to_bits(),
            _ => answer == self.expected,
        }
    }
}

/// Converts an answer in RowBinary to text.
fn answer_text(function: Function, answer: &[u8]) -> String {
    let malformed = || format!("malformed answer: {answer:?}");
    match (function, answer) {
        (Function::RiskScore | Function::RiskProbability | Function::RiskBand | Function::NormalizeAddress, [1]) => {
            NULL.to_owned()
        }
        (Function::RiskScore, [0, a, b, c, d]) => {
            let tenths = i32::from_le_bytes([*a, *b, *c, *d]);
            format!("{}.{}", tenths / 10, tenths % 10)
        }
        (Function::RiskProbability, [0, value @ ..]) => {
            value.try_into().map_or_else(|_| malformed(), |bytes| f64::from_le_bytes(bytes).to_string())
        }
        (Function::NormalizeAddress | Function::RiskBand, [0, text @ ..]) => string(text).unwrap_or_else(malformed),
        (Function::RiskExplain, text) => string(text).unwrap_or_else(malformed),
        (Function::WalletType, [answer]) => {
            let class = WalletType::ALL.into_iter().find(|class| code(*class).to_le_bytes() == [*answer]);
            class.map_or_else(malformed, |class| class.as_str().to_owned())
        }
        (Function::AddressValid, [valid]) => valid.to_string(),
        _ => malformed(),
    }
}

/// Parses bytes that hold exactly one `String`.
fn string(bytes: &[u8]) -> Option<String> {
    let length_bytes = 1 + bytes.iter().position(|byte| *byte < 0x80)?;
    let text = str::from_utf8(bytes.get(length_bytes..)?).ok()?;
    let mut encoded = Vec::new();
    put_text(&mut encoded, text.as_bytes());
    (encoded == bytes).then(|| text.to_owned())
}

/// Returns all vectors, ordered by function.
///
/// # Errors
/// [`UdfError::Scorecard`] for a scorecard over other features.
pub fn known_answers(models: &Models) -> Result<Vec<Vector>, UdfError> {
    let mut all = Vec::new();
    for function in [Function::RiskScore, Function::RiskExplain] {
        for row in rows() {
            all.push(features_vector(models, function, row.as_ref(), None)?);
        }
    }
    // Every network with a calibration of its own, one without, and none.
    let calibrated = models.calibrations.networks().map(Some);
    let networks: Vec<Option<&str>> = calibrated.chain([Some("ETH"), Some("no network"), None]).collect();
    for function in [Function::RiskProbability, Function::RiskBand] {
        for (row, network) in rows().iter().flat_map(|row| networks.iter().map(move |network| (row, *network))) {
            all.push(features_vector(models, function, row.as_ref(), Some(network))?);
        }
    }
    for activity in activities() {
        all.push(activity_vector(models, &activity));
    }
    for function in [Function::NormalizeAddress, Function::AddressValid] {
        all.extend(ADDRESSES.iter().map(|(address, network)| address_vector(function, *address, *network)));
    }
    Ok(all)
}

/// Rows of features: of an unknown wallet, all undefined, all zero, values of many sizes with gaps,
/// and the same with some that are not covered, defined and undefined ones.
fn rows() -> [Option<FeatureRow>; 5] {
    let mut mixed = [f64::NAN; NAMES.len()];
    for (value, number) in mixed.iter_mut().zip(0_u32..) {
        if number % 5 != 3 {
            *value = f64::from(number * 37 % 101) / f64::from(1_u32 << (number % 9));
        }
    }
    let mut partial = mixed;
    partial.iter_mut().step_by(4).for_each(|value| *value = not_covered(*value));
    [None, Some([f64::NAN; NAMES.len()]), Some([0.0; NAMES.len()]), Some(mixed), Some(partial)]
}

/// Appends a row of features in RowBinary; undefined features are NULL, or NaN if they are not
/// covered.
pub(crate) fn put_features(bytes: &mut Vec<u8>, row: Option<&[f64]>) {
    let row = row.unwrap_or_default();
    put_length(bytes, row.len());
    for value in row {
        put_nullable(bytes, (!value.is_nan() || is_not_covered(*value)).then_some(value.to_le_bytes()));
    }
}

fn put_nullable<const N: usize>(bytes: &mut Vec<u8>, value: Option<[u8; N]>) {
    bytes.push(u8::from(value.is_none()));
    bytes.extend(value.into_iter().flatten());
}

/// Makes a question about a row of features, and about a network if the function takes one.
fn features_vector(
    models: &Models,
    function: Function,
    row: Option<&FeatureRow>,
    network: Option<Option<&str>>,
) -> Result<Vector, UdfError> {
    let calibration = match network {
        Some(name) => name.and_then(|name| Network::parse(name).ok()).map(|own| models.calibrations.of(own.name())),
        None => Some(Calibration::default()),
    };
    let bound = models.scorecard.bind(&NAMES)?;
    let known = WalletFacts { features: row.map(|row| (row, Coverage::FULL)), ..WalletFacts::default() };
    let judged = calibration.map(|calibration| judge(&bound, &known, &calibration));
    let expected = match (function, judged) {
        (_, None) => NULL.to_owned(),
        (Function::RiskProbability, Some(judged)) => {
            judged.probability.map_or_else(|| NULL.to_owned(), |value| value.to_string())
        }
        (Function::RiskBand, Some(judged)) => judged.band.to_owned(),
        (Function::RiskExplain, _) => serde_json::to_string(&reasons(&bound, &known))?,
        (_, Some(judged)) => judged.score.to_string(),
    };
    let mut bytes = Vec::new();
    put_features(&mut bytes, row.map(FeatureRow::as_slice));
    if let Some(network) = network {
        put_optional_text(&mut bytes, network);
    }
    let literal = |value: &f64| match value {
        value if value.is_nan() => if is_not_covered(*value) { "nan" } else { NULL }.to_owned(),
        value => format!("{value:?}"),
    };
    let values: Vec<String> = row.map_or_else(Vec::new, |row| row.iter().map(literal).collect());
    // An array of NULLs alone has no type in SQL.
    let network = network.map_or_else(String::new, |name| format!(", {}", text_literal(name)));
    let sql = format!("{}(CAST([{}], 'Array(Nullable(Float64))'){network})", function.sql_name(), values.join(", "));
    Ok(Vector { function, sql, row: bytes, expected })
}

fn activities() -> [Activity; 5] {
    const COIN: i128 = 1_000_000_000_000_000_000;
    let trader = Activity {
        transactions: 101,
        volume: Some(101 * COIN),
        priced: None,
        mean_gas_price: Some(60e9),
        recipients: 51,
    };
    [
        Activity { volume: Some(101 * 10_000 * COIN + 1), ..trader },
        trader,
        Activity { mean_gas_price: Some(20e9), ..trader },
        Activity { volume: None, mean_gas_price: None, recipients: 50, ..trader },
        Activity::default(),
    ]
}

fn activity_vector(models: &Models, activity: &Activity) -> Vector {
    let Activity { transactions, volume, mean_gas_price, recipients, priced: _ } = *activity;
    let mut row = transactions.to_le_bytes().to_vec();
    put_nullable(&mut row, volume.map(i128::to_le_bytes));
    put_nullable(&mut row, mean_gas_price.map(f64::to_le_bytes));
    row.extend(recipients.to_le_bytes());
    let decimal = |units: i128| format!("toDecimal128('{}', 18)", coins(units));
    let sql = format!(
        "{}({transactions}, {}, {}, {recipients})",
        Function::WalletType.sql_name(),
        volume.map_or_else(|| NULL.to_owned(), decimal),
        mean_gas_price.map_or_else(|| NULL.to_owned(), |price| format!("{price:?}")),
    );
    let expected = models.thresholds.classify(activity).as_str().to_owned();
    Vector { function: Function::WalletType, sql, row, expected }
}

/// Formats units of 10⁻¹⁸ as a decimal number.
fn coins(units: i128) -> String {
    let units = format!("{units:019}");
    let (whole, fraction) = units.split_at(units.len() - 18);
    format!("{whole}.{fraction}")
}

/// Addresses with networks: valid, invalid and missing.
const ADDRESSES: [(Option<&str>, Option<&str>); 9] = [
    (Some("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"), Some("ETH")),
    (Some("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD"), Some("ethereum")),
    (Some("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"), Some("bitcoin")),
    (Some("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5"), Some("bitcoin")),
    (Some("blanks in it"), Some("dogecoin")),
    (Some("anything"), Some("a-network-of-its-own")),
    (Some("anything"), Some("no network")),
    (None, Some("ethereum")),
    (Some("anything"), None),
];

fn address_vector(function: Function, address: Option<&str>, network: Option<&str>) -> Vector {
    let pair = address.zip(network).and_then(|(address, network)| Some((address, Network::parse(network).ok()?)));
    let expected = match function {
        Function::AddressValid => {
            let is_valid = pair.is_some_and(|(address, network)| Address::is_valid(address, &network) == Some(true));
            u8::from(is_valid).to_string()
        }
        _ => {
            let parsed = pair.and_then(|(address, network)| Address::parse(address, &network).ok());
            parsed.map_or_else(|| NULL.to_owned(), Address::into_string)
        }
    };
    let mut row = Vec::new();
    put_optional_text(&mut row, address);
    put_optional_text(&mut row, network);
    let sql = format!("{}({}, {})", function.sql_name(), text_literal(address), text_literal(network));
    Vector { function, sql, row, expected }
}

/// Appends a `Nullable(String)`.
fn put_optional_text(row: &mut Vec<u8>, text: Option<&str>) {
    row.push(u8::from(text.is_none()));
    if let Some(text) = text {
        put_text(row, text.as_bytes());
    }
}

/// Names of networks and the addresses here contain nothing that SQL would have to escape.
fn text_literal(text: Option<&str>) -> String {
    text.map_or_else(|| NULL.to_owned(), |text| format!("'{text}'"))
}
