//! The functions: their names, types and answers. The results come from [`arx_core`], so PostgreSQL
//! returns the same ones.

use std::io::Read;

use arx_core::address::{Address, MAX_ADDRESS_BYTES, MAX_NETWORK_BYTES, Network};
use arx_core::behaviour::{Activity, Thresholds, WalletType};
use arx_core::risk::features::{Coverage, FeatureRow, NAMES};
use arx_core::risk::scorecard::{BoundScorecard, NOT_COVERED, PartialScore, Score, ScoreTotal};
use arx_core::risk::{Calibration, Calibrations, WalletFacts, reasons};
use clap::ValueEnum;

use crate::protocol::{Damage, Input, RowFunction, put_text};

/// A function of `arx-udf`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub enum Function {
    /// The risk score of a row of features
    RiskScore,
    /// The probability of being illicit of a row of features
    RiskProbability,
    /// The band of the risk score of a row of features
    RiskBand,
    /// The reasons for the risk score of a row of features
    RiskExplain,
    /// The type of a wallet by its behaviour
    WalletType,
    /// The normalised spelling of an address
    NormalizeAddress,
    /// The validity of an address on a network
    AddressValid,
}

const FEATURES: &[(&str, &str)] = &[("features", "Array(Nullable(Float64))")];
const FEATURES_AND_NETWORK: &[(&str, &str)] =
    &[("features", "Array(Nullable(Float64))"), ("network", "Nullable(String)")];
const ADDRESS: &[(&str, &str)] = &[("address", "Nullable(String)"), ("network", "Nullable(String)")];
const ACTIVITY: &[(&str, &str)] = &[
    ("transactions", "UInt64"),
    ("volume", "Nullable(Decimal(38, 18))"),
    ("mean_gas_price", "Nullable(Float64)"),
    ("recipients", "UInt64"),
];

impl Function {
    /// Returns the name as an argument of `arx-udf`.
    #[must_use]
    pub const fn command(self) -> &'static str {
        match self {
            Self::RiskScore => "risk-score",
            Self::RiskProbability => "risk-probability",
            Self::RiskBand => "risk-band",
            Self::RiskExplain => "risk-explain",
            Self::WalletType => "wallet-type",
            Self::NormalizeAddress => "normalize-address",
            Self::AddressValid => "address-valid",
        }
    }

    /// Returns the name in ClickHouse.
    #[must_use]
    pub const fn sql_name(self) -> &'static str {
        match self {
            Self::RiskScore => "arxRiskScore",
            Self::RiskProbability => "arxRiskProbability",
            Self::RiskBand => "arxRiskBand",
            Self::RiskExplain => "arxRiskExplain",
            Self::WalletType => "arxWalletType",
            Self::NormalizeAddress => "arxNormalizeAddress",
            Self::AddressValid => "arxAddressValid",
        }
    }

    /// Returns names and ClickHouse types of the arguments.
    #[must_use]
    pub const fn arguments(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::RiskScore | Self::RiskExplain => FEATURES,
            Self::RiskProbability | Self::RiskBand => FEATURES_AND_NETWORK,
            Self::WalletType => ACTIVITY,
            Self::NormalizeAddress | Self::AddressValid => ADDRESS,
        }
    }

    /// Returns the ClickHouse type of the answer.
    #[must_use]
    pub const fn return_type(self) -> &'static str {
        match self {
            Self::RiskScore => "Nullable(Decimal(4, 1))",
            Self::RiskProbability => "Nullable(Float64)",
            Self::RiskExplain => "String",
            Self::WalletType => WALLET_TYPE,
            Self::NormalizeAddress | Self::RiskBand => "Nullable(String)",
            Self::AddressValid => "UInt8",
        }
    }

    /// Returns whether the function applies a scorecard.
    #[must_use]
    pub const fn needs_scorecard(self) -> bool {
        matches!(self, Self::RiskScore | Self::RiskProbability | Self::RiskBand | Self::RiskExplain)
    }

    /// Returns whether the function applies the calibration of a network.
    #[must_use]
    pub const fn needs_calibration(self) -> bool {
        matches!(self, Self::RiskProbability | Self::RiskBand)
    }
}

const ARRAY: &str = "an array of features";

/// Bytes of the longest row: one NULL flag and one value for each feature.
const MAX_ROW_BYTES: usize = NAMES.len() * 9;

/// Reads a row of features, and calls `each` with the index and value of each that is not NULL.
/// NULL is undefined, NaN is [`NOT_COVERED`], and other values keep their mark. Returns `false` for
/// an empty array: an unknown wallet.
#[inline]
fn features<R: Read>(input: &mut Input<R>, each: impl FnMut(usize, f64)) -> Result<bool, Damage> {
    let count = input.length(ARRAY)?;
    if count == 0 {
        return Ok(false);
    }
    if count != NAMES.len() as u64 {
        return Err(Damage::Features { found: count, needed: NAMES.len() });
    }
    match input.buffered().get(..MAX_ROW_BYTES) {
        Some(bytes) => {
            let length = features_of(bytes, each)?;
            input.consume(length);
        }
        None => features_one_by_one(input, each)?,
    }
    Ok(true)
}

const FEATURE: &str = "a feature";

/// Reads features near the end of the buffered input. ClickHouse may send nothing more before this
/// row is answered, so no more bytes are read than the row has.
#[cold]
fn features_one_by_one<R: Read>(input: &mut Input<R>, mut each: impl FnMut(usize, f64)) -> Result<(), Damage> {
    for index in 0..NAMES.len() {
        if input.is_some(FEATURE)? {
            each(index, covered(input.f64(FEATURE)?));
        }
    }
    Ok(())
}

/// Returns a value, or [`NOT_COVERED`] for any NaN: other programs do not keep its bits.
#[inline]
const fn covered(value: f64) -> f64 {
    if value.is_nan() { NOT_COVERED } else { value }
}

/// Reads features from bytes that are enough for the longest row, and returns the length of this
/// row. Wallets mostly lack the same features: a well-predicted branch is twice as fast as
/// arithmetic on which the position of every later feature depends.
#[inline]
fn features_of(bytes: &[u8], mut each: impl FnMut(usize, f64)) -> Result<usize, Damage> {
    let mut offset = 0;
    for index in 0..NAMES.len() {
        // The bytes always suffice: `offset` grows by at most nine.
        let [null, value @ ..] = bytes.get(offset..).and_then(<[u8]>::first_chunk::<9>).copied().unwrap_or([1; 9]);
        if null == 0 {
            offset += 9;
            each(index, covered(f64::from_le_bytes(value)));
        } else if null == 1 {
            offset += 1;
        } else {
            return Err(Damage::Null { what: FEATURE, found: null });
        }
    }
    Ok(offset)
}

/// `arxRiskScore`: the score in tenths, 50.0 for an unknown wallet.
#[derive(Debug)]
pub(crate) struct RiskScore {
    scorecard: BoundScorecard,
    row: PartialScore,
}

impl RiskScore {
    pub(crate) fn new(scorecard: BoundScorecard) -> Self {
        Self { scorecard, row: PartialScore::default() }
    }

    /// Scores the next row while reading it; `None` for an unknown wallet.
    #[inline]
    fn next<R: Read>(&mut self, input: &mut Input<R>) -> Result<Option<ScoreTotal>, Damage> {
        let Self { scorecard, row } = self;
        scorecard.begin(row);
        let is_known = features(input, |index, value| scorecard.put(row, index, value))?;
        Ok(is_known.then(|| scorecard.end(row)))
    }
}

impl RowFunction for RiskScore {
    #[inline]
    fn row<R: Read>(&mut self, input: &mut Input<R>, answers: &mut Vec<u8>) -> Result<(), Damage> {
        let score = self.next(input)?.map_or(Score::UNKNOWN, |total| total.score);
        let [a, b, c, d] = i32::from(score.tenths()).to_le_bytes();
        answers.extend_from_slice(&[0, a, b, c, d]);
        Ok(())
    }
}

/// A network as it is read, and its calibration. Rows mostly name the network of the row before.
#[derive(Debug)]
struct NetworkCalibration {
    calibrations: Calibrations,
    name: Vec<u8>,
    last: Vec<u8>,
    /// Calibration of `last`; `None` if that is not the name of a network.
    calibration: Option<Calibration>,
}

impl NetworkCalibration {
    const fn new(calibrations: Calibrations) -> Self {
        Self { calibrations, name: Vec::new(), last: Vec::new(), calibration: None }
    }

    /// Reads a network, and returns its calibration; `None` for NULL and for an invalid name.
    fn read<R: Read>(&mut self, input: &mut Input<R>) -> Result<Option<Calibration>, Damage> {
        const NETWORK: &str = "a network";
        if !input.is_some(NETWORK)? {
            return Ok(None);
        }
        // Cut one byte above the longest valid name, so that it stays invalid.
        input.text(NETWORK, MAX_NETWORK_BYTES + 1, &mut self.name)?;
        if self.name != self.last {
            self.last.clone_from(&self.name);
            let network = str::from_utf8(&self.last).ok().and_then(|name| Network::parse(name).ok());
            self.calibration = network.map(|network| self.calibrations.of(network.name()));
        }
        Ok(self.calibration)
    }
}

/// `arxRiskProbability`: the probability of being illicit among the wallets of a network, NULL for
/// an unknown wallet, and without a network.
#[derive(Debug)]
pub(crate) struct RiskProbability {
    score: RiskScore,
    network: NetworkCalibration,
}

impl RiskProbability {
    pub(crate) fn new(scorecard: BoundScorecard, calibrations: Calibrations) -> Self {
        Self { score: RiskScore::new(scorecard), network: NetworkCalibration::new(calibrations) }
    }
}

impl RowFunction for RiskProbability {
    fn row<R: Read>(&mut self, input: &mut Input<R>, answers: &mut Vec<u8>) -> Result<(), Damage> {
        let total = self.score.next(input)?;
        match total.zip(self.network.read(input)?) {
            Some((total, calibration)) => {
                answers.push(0);
                let probability = calibration.probability(&self.score.scorecard, &total);
                answers.extend_from_slice(&probability.to_le_bytes());
            }
            None => answers.push(1),
        }
        Ok(())
    }
}

/// `arxRiskBand`: the band of the score in a network, NULL without a network.
#[derive(Debug)]
pub(crate) struct RiskBand {
    score: RiskScore,
    network: NetworkCalibration,
}

impl RiskBand {
    pub(crate) fn new(scorecard: BoundScorecard, calibrations: Calibrations) -> Self {
        Self { score: RiskScore::new(scorecard), network: NetworkCalibration::new(calibrations) }
    }
}

impl RowFunction for RiskBand {
    fn row<R: Read>(&mut self, input: &mut Input<R>, answers: &mut Vec<u8>) -> Result<(), Damage> {
        let score = self.score.next(input)?.map_or(Score::UNKNOWN, |total| total.score);
        match self.network.read(input)? {
            Some(calibration) => {
                answers.push(0);
                put_text(answers, calibration.band(self.score.scorecard.scorecard(), score).as_bytes());
            }
            None => answers.push(1),
        }
        Ok(())
    }
}

/// `arxRiskExplain`: the reasons as a JSON array; their points add up to the score.
#[derive(Debug)]
pub(crate) struct RiskExplain {
    scorecard: BoundScorecard,
    row: FeatureRow,
    json: Vec<u8>,
}

impl RiskExplain {
    pub(crate) const fn new(scorecard: BoundScorecard) -> Self {
        Self { scorecard, row: [f64::NAN; NAMES.len()], json: Vec::new() }
    }
}

impl RowFunction for RiskExplain {
    fn row<R: Read>(&mut self, input: &mut Input<R>, answers: &mut Vec<u8>) -> Result<(), Damage> {
        self.row.fill(f64::NAN);
        let row = &mut self.row;
        let is_known = features(input, |index, value| {
            if let Some(feature) = row.get_mut(index) {
                *feature = value;
            }
        })?;
        let known = WalletFacts { features: is_known.then_some((&self.row, Coverage::FULL)), ..WalletFacts::default() };
        self.json.clear();
        serde_json::to_writer(&mut self.json, &reasons(&self.scorecard, &known))?;
        put_text(answers, &self.json);
        Ok(())
    }
}

/// The answers of `arxWalletType`, which sort like their names. One of them must be 0: ClickHouse
/// writes it into rows that a branch skips, and rejects an enumeration without it.
const WALLET_TYPE: &str = "Enum8('distributor' = -1, 'regular' = 0, 'trader' = 1, 'whale' = 2)";

/// Returns the number of a class in [`WALLET_TYPE`].
pub(crate) const fn code(class: WalletType) -> i8 {
    match class {
        WalletType::Distributor => -1,
        WalletType::Regular => 0,
        WalletType::Trader => 1,
        WalletType::Whale => 2,
    }
}

/// `arxWalletType`: whale, trader, distributor or regular.
#[derive(Debug)]
pub(crate) struct WalletTypes(pub(crate) Thresholds);

impl RowFunction for WalletTypes {
    #[inline]
    fn row<R: Read>(&mut self, input: &mut Input<R>, answers: &mut Vec<u8>) -> Result<(), Damage> {
        const VOLUME: &str = "volume";
        const PRICE: &str = "mean_gas_price";
        let activity = Activity {
            priced: None,
            transactions: input.u64("transactions")?,
            volume: if input.is_some(VOLUME)? { Some(input.i128(VOLUME)?) } else { None },
            mean_gas_price: if input.is_some(PRICE)? { Some(input.f64(PRICE)?) } else { None },
            recipients: input.u64("recipients")?,
        };
        answers.extend_from_slice(&code(self.0.classify(&activity)).to_le_bytes());
        Ok(())
    }
}

/// An address and its network as they are read: each is cut one byte above the longest valid one,
/// so that it stays invalid.
#[derive(Debug, Default)]
struct AddressAndNetwork {
    address: Vec<u8>,
    network: Vec<u8>,
}

impl AddressAndNetwork {
    /// Reads the pair; `None` unless both are given and the network has a valid name.
    fn read<R: Read>(&mut self, input: &mut Input<R>) -> Result<Option<(&str, Network)>, Damage> {
        const ADDRESS: &str = "an address";
        const NETWORK: &str = "a network";
        let has_address = input.is_some(ADDRESS)?;
        if has_address {
            input.text(ADDRESS, MAX_ADDRESS_BYTES + 1, &mut self.address)?;
        }
        let has_network = input.is_some(NETWORK)?;
        if has_network {
            input.text(NETWORK, MAX_NETWORK_BYTES + 1, &mut self.network)?;
        }
        let (true, Ok(address), Ok(network)) =
            (has_address && has_network, str::from_utf8(&self.address), str::from_utf8(&self.network))
        else {
            return Ok(None);
        };
        Ok(Network::parse(network).ok().map(|network| (address, network)))
    }
}

/// `arxNormalizeAddress`: the canonical spelling of an address, NULL for an invalid or missing one.
#[derive(Debug, Default)]
pub(crate) struct NormalizeAddress(AddressAndNetwork);

impl RowFunction for NormalizeAddress {
    fn row<R: Read>(&mut self, input: &mut Input<R>, answers: &mut Vec<u8>) -> Result<(), Damage> {
        let pair = self.0.read(input)?;
        match pair.and_then(|(address, network)| Address::parse(address, &network).ok()) {
            Some(address) => {
                answers.push(0);
                put_text(answers, address.as_str().as_bytes());
            }
            None => answers.push(1),
        }
        Ok(())
    }
}

/// `arxAddressValid`: 1 for an address that is valid on the network, else 0, also for NULL and
/// where the format of the network's addresses is unknown.
#[derive(Debug, Default)]
pub(crate) struct AddressValid(AddressAndNetwork);

impl RowFunction for AddressValid {
    fn row<R: Read>(&mut self, input: &mut Input<R>, answers: &mut Vec<u8>) -> Result<(), Damage> {
        let pair = self.0.read(input)?;
        let is_valid = pair.is_some_and(|(address, network)| Address::is_valid(address, &network) == Some(true));
        answers.push(u8::from(is_valid));
        Ok(())
    }
}
