//! The functions: what each is called, takes and answers. What they compute is [`arx_core`]'s, so that PostgreSQL says the same.

use std::io::Read;

use arx_core::address::{Address, MAX_ADDRESS_BYTES, MAX_NETWORK_BYTES, Network};
use arx_core::behaviour::{Activity, Thresholds, WalletType};
use arx_core::risk::features::{Coverage, NAMES, Row};
use arx_core::risk::scorecard::{BoundScorecard, Running, Score};
use arx_core::risk::{Known, reasons};
use clap::ValueEnum;

use crate::protocol::{Damage, Input, RowFunction, put_text};

/// A function of `arx-udf`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub enum Function {
    /// The risk score of a row of features
    RiskScore,
    /// The probability of being illicit of a row of features
    RiskProbability,
    /// The reasons for the risk score of a row of features
    RiskExplain,
    /// How a wallet behaves
    WalletType,
    /// The normalised spelling of an address
    NormalizeAddress,
    /// Whether an address is valid on a network
    AddressValid,
}

const FEATURES: &[(&str, &str)] = &[("features", "Array(Nullable(Float64))")];
const ADDRESS: &[(&str, &str)] = &[("address", "Nullable(String)"), ("network", "Nullable(String)")];
const ACTIVITY: &[(&str, &str)] = &[
    ("transactions", "UInt64"),
    ("volume", "Nullable(Decimal(38, 18))"),
    ("mean_gas_price", "Nullable(Float64)"),
    ("recipients", "UInt64"),
];

impl Function {
    /// Its name as an argument of `arx-udf`.
    #[must_use]
    pub const fn command(self) -> &'static str {
        match self {
            Self::RiskScore => "risk-score",
            Self::RiskProbability => "risk-probability",
            Self::RiskExplain => "risk-explain",
            Self::WalletType => "wallet-type",
            Self::NormalizeAddress => "normalize-address",
            Self::AddressValid => "address-valid",
        }
    }

    /// Its name in ClickHouse.
    #[must_use]
    pub const fn sql_name(self) -> &'static str {
        match self {
            Self::RiskScore => "arxRiskScore",
            Self::RiskProbability => "arxRiskProbability",
            Self::RiskExplain => "arxRiskExplain",
            Self::WalletType => "arxWalletType",
            Self::NormalizeAddress => "arxNormalizeAddress",
            Self::AddressValid => "arxAddressValid",
        }
    }

    /// Names and ClickHouse types of its arguments.
    #[must_use]
    pub const fn arguments(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::RiskScore | Self::RiskProbability | Self::RiskExplain => FEATURES,
            Self::WalletType => ACTIVITY,
            Self::NormalizeAddress | Self::AddressValid => ADDRESS,
        }
    }

    /// The ClickHouse type of its answer.
    #[must_use]
    pub const fn return_type(self) -> &'static str {
        match self {
            Self::RiskScore => "Nullable(Decimal(4, 1))",
            Self::RiskProbability => "Nullable(Float64)",
            Self::RiskExplain => "String",
            Self::WalletType => WALLET_TYPE,
            Self::NormalizeAddress => "Nullable(String)",
            Self::AddressValid => "UInt8",
        }
    }

    /// Whether it looks at a scorecard.
    #[must_use]
    pub const fn needs_scorecard(self) -> bool {
        matches!(self, Self::RiskScore | Self::RiskProbability | Self::RiskExplain)
    }
}

const ARRAY: &str = "an array of features";

/// The most bytes that the elements of a row take: a byte for whether there is a value, and the value.
const WIDEST: usize = NAMES.len() * 9;

/// Reads a row of features and calls `each` with the places and values of those that are defined; `false` for an empty array, of a wallet
/// of which nothing is known.
#[inline]
fn features<R: Read>(input: &mut Input<R>, each: impl FnMut(usize, f64)) -> Result<bool, Damage> {
    let found = input.length(ARRAY)?;
    if found == 0 {
        return Ok(false);
    }
    if found != NAMES.len() as u64 {
        return Err(Damage::Features { found, needed: NAMES.len() });
    }
    match input.at_hand().get(..WIDEST) {
        Some(bytes) => {
            let read = elements(bytes, each)?;
            input.consume(read);
        }
        None => elements_that_come(input, each)?,
    }
    Ok(true)
}

const FEATURE: &str = "a feature";

/// Near the end of what has arrived: no more may come before this row is answered.
#[cold]
fn elements_that_come<R: Read>(input: &mut Input<R>, mut each: impl FnMut(usize, f64)) -> Result<(), Damage> {
    for place in 0..NAMES.len() {
        if input.is_some(FEATURE)? {
            let value = input.f64(FEATURE)?;
            if !value.is_nan() {
                each(place, value);
            }
        }
    }
    Ok(())
}

/// Reads the elements from bytes that are enough for the widest row; returns how many they took. Wallets are undefined in much the same
/// features: a branch that is guessed right is twice as fast as arithmetic that every next place has to wait for.
#[inline]
fn elements(bytes: &[u8], mut each: impl FnMut(usize, f64)) -> Result<usize, Damage> {
    let mut at = 0;
    for place in 0..NAMES.len() {
        // always there: `at` grows by nine at most
        let [null, value @ ..] = bytes.get(at..).and_then(<[u8]>::first_chunk::<9>).copied().unwrap_or([1; 9]);
        if null == 0 {
            at += 9;
            let value = f64::from_le_bytes(value);
            if !value.is_nan() {
                each(place, value);
            }
        } else if null == 1 {
            at += 1;
        } else {
            return Err(Damage::Null { what: FEATURE, found: null });
        }
    }
    Ok(at)
}

/// `arxRiskScore`: the score in tenths, 50.0 where nothing is known.
#[derive(Debug)]
pub struct RiskScore {
    scorecard: BoundScorecard,
    row: Running,
}

impl RiskScore {
    /// By this scorecard.
    #[must_use]
    pub fn new(scorecard: BoundScorecard) -> Self {
        Self { scorecard, row: Running::default() }
    }

    /// The score of the next row, or that nothing is known: each value is scored as it is read.
    #[inline]
    fn next<R: Read>(&mut self, input: &mut Input<R>) -> Result<Option<Score>, Damage> {
        let Self { scorecard, row } = self;
        scorecard.begin(row);
        let is_known = features(input, |place, value| scorecard.put(row, place, value))?;
        Ok(is_known.then(|| scorecard.end(row).score))
    }
}

impl RowFunction for RiskScore {
    #[inline]
    fn row<R: Read>(&mut self, input: &mut Input<R>, answers: &mut Vec<u8>) -> Result<(), Damage> {
        let score = self.next(input)?.unwrap_or(Score::UNKNOWN);
        let [a, b, c, d] = i32::from(score.tenths()).to_le_bytes();
        answers.extend_from_slice(&[0, a, b, c, d]);
        Ok(())
    }
}

/// `arxRiskProbability`: the probability of being illicit, NULL where nothing is known.
#[derive(Debug)]
pub struct RiskProbability(RiskScore);

impl RiskProbability {
    /// By this scorecard.
    #[must_use]
    pub fn new(scorecard: BoundScorecard) -> Self {
        Self(RiskScore::new(scorecard))
    }
}

impl RowFunction for RiskProbability {
    fn row<R: Read>(&mut self, input: &mut Input<R>, answers: &mut Vec<u8>) -> Result<(), Damage> {
        match self.0.next(input)? {
            Some(score) => {
                answers.push(0);
                answers.extend_from_slice(&self.0.scorecard.scorecard().probability(score).to_le_bytes());
            }
            None => answers.push(1),
        }
        Ok(())
    }
}

/// `arxRiskExplain`: the reasons as a JSON array; their points add up to the score.
#[derive(Debug)]
pub struct RiskExplain {
    scorecard: BoundScorecard,
    row: Row,
    json: Vec<u8>,
}

impl RiskExplain {
    /// By this scorecard.
    #[must_use]
    pub const fn new(scorecard: BoundScorecard) -> Self {
        Self { scorecard, row: [f64::NAN; NAMES.len()], json: Vec::new() }
    }
}

impl RowFunction for RiskExplain {
    fn row<R: Read>(&mut self, input: &mut Input<R>, answers: &mut Vec<u8>) -> Result<(), Damage> {
        self.row.fill(f64::NAN);
        let row = &mut self.row;
        let is_known = features(input, |place, value| {
            if let Some(at) = row.get_mut(place) {
                *at = value;
            }
        })?;
        let known = Known { seen: is_known.then_some((&self.row, Coverage::FULL)), ..Known::default() };
        self.json.clear();
        serde_json::to_writer(&mut self.json, &reasons(&self.scorecard, &known))?;
        put_text(answers, &self.json);
        Ok(())
    }
}

/// The answers of `arxWalletType`. They sort as their names do, and 0 is among them: ClickHouse puts it into the rows that a branch leaves
/// out, and refuses an enumeration that lacks it.
const WALLET_TYPE: &str = "Enum8('distributor' = -1, 'regular' = 0, 'trader' = 1, 'whale' = 2)";

/// The number of a class in [`WALLET_TYPE`].
pub(super) const fn code(class: WalletType) -> i8 {
    match class {
        WalletType::Distributor => -1,
        WalletType::Regular => 0,
        WalletType::Trader => 1,
        WalletType::Whale => 2,
    }
}

/// `arxWalletType`: whale, trader, distributor or regular.
#[derive(Debug)]
pub struct WalletTypes(pub Thresholds);

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

/// An address and its network, as they are read. One byte more than the longest that is valid tells that it is too long.
#[derive(Debug, Default)]
struct Pair {
    address: Vec<u8>,
    network: Vec<u8>,
}

impl Pair {
    /// The address, if there is one and it is valid on a network that there may be.
    fn read<R: Read>(&mut self, input: &mut Input<R>) -> Result<Option<Address>, Damage> {
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
        Ok(Network::parse(network).ok().and_then(|network| Address::parse(address, &network).ok()))
    }
}

/// `arxNormalizeAddress`: the one spelling of an address, NULL where it is not valid or not there.
#[derive(Debug, Default)]
pub struct NormalizeAddress(Pair);

impl RowFunction for NormalizeAddress {
    fn row<R: Read>(&mut self, input: &mut Input<R>, answers: &mut Vec<u8>) -> Result<(), Damage> {
        match self.0.read(input)? {
            Some(address) => {
                answers.push(0);
                put_text(answers, address.as_str().as_bytes());
            }
            None => answers.push(1),
        }
        Ok(())
    }
}

/// `arxAddressValid`: 1 for an address that is valid on the network, else 0: NULL is none either.
#[derive(Debug, Default)]
pub struct AddressValid(Pair);

impl RowFunction for AddressValid {
    fn row<R: Read>(&mut self, input: &mut Input<R>, answers: &mut Vec<u8>) -> Result<(), Damage> {
        let valid = self.0.read(input)?.is_some();
        answers.push(u8::from(valid));
        Ok(())
    }
}
