//! Requests: a question with its arguments, checked.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{Days, NaiveDate};
use serde_json::Value;
use thiserror::Error;

use super::catalogue::{CATALOGUE, Parameter, Query, query};
use crate::address::{Address, AddressError, Network};

/// Longest range in days: ten years.
pub const MAX_DAYS: i64 = 3660;

/// Largest number of rows that may be asked for.
pub const MAX_LIMIT: u32 = 1000;

const DEFAULT_LIMIT: u32 = 20;
const DEFAULT_DAYS: u64 = 30;

/// Highest age that may be asked for: 30 days, in seconds.
const MAX_AGE: f64 = 2_592_000.0;

/// Longest value of a parameter in bytes. A snapshot lists the transactions in progress.
const MAX_BYTES: usize = 64 * 1024;

/// Bytes of a value that an error shows.
const SHOWN: usize = 60;

/// A question with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The question.
    pub query: &'static Query,
    /// Values of its parameters.
    pub arguments: Arguments,
    /// Demands on the answer.
    pub wanted: Wanted,
}

/// Values of parameters. Those that a question does not take are `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    /// The network.
    pub network: Network,
    /// The wallet.
    pub address: Option<Address>,
    /// The token.
    pub token: Option<Address>,
    /// First day, and the day after the last one.
    pub range: Option<(NaiveDate, NaiveDate)>,
    /// Number of rows.
    pub limit: Option<u32>,
}

impl Arguments {
    /// Days of the range; `None` for a question without one.
    #[must_use]
    pub fn days(&self) -> Option<i64> {
        self.range.map(|(from, to)| (to - from).num_days())
    }
}

/// Demands of the client on the answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// No approximation, and the numbers of one snapshot.
    pub exact: bool,
    /// Highest age.
    pub max_age: Option<Duration>,
    /// Text of a snapshot that the answer must not be older than. It is not checked here.
    pub not_older_than: Option<String>,
}

/// A request that cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RequestError {
    /// There is no such question.
    #[error("unknown query {name:?}; queries are {}", list(.names))]
    UnknownQuery {
        /// The name.
        name: String,
        /// Names of all questions.
        names: Vec<&'static str>,
    },
    /// The question has no such parameter.
    #[error("query {query} has no parameter {name:?}; it takes {}", list(.names))]
    UnknownParameter {
        /// The question.
        query: &'static str,
        /// The parameter.
        name: String,
        /// Names of its parameters and of the demands.
        names: Vec<&'static str>,
    },
    /// A required parameter is missing.
    #[error("query {query} needs parameter {name}: {about}")]
    Missing {
        /// The question.
        query: &'static str,
        /// The parameter.
        name: &'static str,
        /// Meaning of the parameter.
        about: &'static str,
    },
    /// A parameter occurs twice.
    #[error("parameter {name} is given more than once")]
    Repeated {
        /// The parameter.
        name: String,
    },
    /// A value has another type, or is out of bounds.
    #[error("invalid value {value:?} for parameter {name}: {expected}")]
    Value {
        /// The parameter.
        name: &'static str,
        /// Type and bounds.
        expected: &'static str,
        /// The value, or its beginning.
        value: String,
    },
    /// A value is too long.
    #[error("parameter {name} has {bytes} bytes; at most {MAX_BYTES} are allowed")]
    Long {
        /// The parameter.
        name: String,
        /// Its length.
        bytes: usize,
    },
    /// The range ends before it begins.
    #[error("the range is reversed or empty: from {from}, to {to}")]
    Reversed {
        /// First day.
        from: NaiveDate,
        /// Day after the last one.
        to: NaiveDate,
    },
    /// The range is too long.
    #[error("the range from {from} to {to} has {days} days; at most {MAX_DAYS} are allowed")]
    Range {
        /// First day.
        from: NaiveDate,
        /// Day after the last one.
        to: NaiveDate,
        /// Its length.
        days: i64,
    },
    /// A wallet, a token or a network is malformed.
    #[error(transparent)]
    Address(#[from] AddressError),
}

fn list(names: &[&str]) -> String {
    names.join(", ")
}

fn shown(value: &str) -> String {
    value.char_indices().take_while(|(at, _)| *at < SHOWN).map(|(_, character)| character).collect()
}

/// Names of the demands.
const DEMANDS: [&str; 3] = ["exact", "max_age", "not_older_than"];

impl Request {
    /// Checks the name of a question and its parameters. Values are texts, as in a URL, or scalars
    /// of JSON. `today` is the present day (UTC). `network` looks a network up.
    ///
    /// # Errors
    /// [`RequestError`], or the error of `network`.
    pub fn parse<E: From<RequestError>>(
        name: &str,
        parameters: impl IntoIterator<Item = (String, Value)>,
        today: NaiveDate,
        network: impl FnOnce(&str) -> Result<Network, E>,
    ) -> Result<Self, E> {
        let query = query(name).ok_or_else(|| RequestError::UnknownQuery {
            name: shown(name),
            names: CATALOGUE.iter().map(|query| query.name).collect(),
        })?;
        let given = Given::collect(query, parameters)?;
        let network = match given.text(Parameter::Network) {
            Some(text) => network(text)?,
            None => return Err(given.missing(Parameter::Network).into()),
        };
        let takes = |parameter: Parameter| query.parameters.contains(&parameter);
        let parse = |text: &str| Address::parse(text, &network).map_err(RequestError::from);
        let address = given.text(Parameter::Address).map(parse).transpose()?;
        if takes(Parameter::Address) && address.is_none() {
            return Err(given.missing(Parameter::Address).into());
        }
        let token = given.text(Parameter::Token).map(parse).transpose()?;
        let range = if takes(Parameter::From) { Some(given.range(today)?) } else { None };
        let limit = if takes(Parameter::Limit) { Some(given.limit()?) } else { None };
        let wanted = given.wanted()?;
        Ok(Self { query, arguments: Arguments { network, address, token, range, limit }, wanted })
    }
}

/// Texts of the parameters that were given.
struct Given {
    query: &'static Query,
    values: Vec<(&'static str, String)>,
}

impl Given {
    fn collect(
        query: &'static Query,
        parameters: impl IntoIterator<Item = (String, Value)>,
    ) -> Result<Self, RequestError> {
        let known: Vec<&'static str> =
            query.parameters.iter().map(|parameter| parameter.name()).chain(DEMANDS).collect();
        let (mut values, mut seen) = (Vec::new(), BTreeSet::new());
        for (name, value) in parameters {
            let Some(known) = known.iter().find(|known| **known == name) else {
                return Err(RequestError::UnknownParameter { query: query.name, name: shown(&name), names: known });
            };
            if !seen.insert(*known) {
                return Err(RequestError::Repeated { name });
            }
            let text = match value {
                Value::String(text) => text,
                Value::Number(number) => number.to_string(),
                Value::Bool(is_true) => is_true.to_string(),
                other @ (Value::Null | Value::Array(_) | Value::Object(_)) => {
                    let value = shown(&other.to_string());
                    return Err(RequestError::Value { name: known, expected: "a text, a number or a boolean", value });
                }
            };
            if text.len() > MAX_BYTES {
                return Err(RequestError::Long { name, bytes: text.len() });
            }
            values.push((*known, text));
        }
        Ok(Self { query, values })
    }

    fn named(&self, name: &str) -> Option<&str> {
        self.values.iter().find(|(known, _)| *known == name).map(|(_, text)| text.as_str())
    }

    fn text(&self, parameter: Parameter) -> Option<&str> {
        self.named(parameter.name())
    }

    fn missing(&self, parameter: Parameter) -> RequestError {
        RequestError::Missing { query: self.query.name, name: parameter.name(), about: parameter.about() }
    }

    fn invalid(parameter: Parameter, value: &str) -> RequestError {
        RequestError::Value { name: parameter.name(), expected: parameter.about(), value: shown(value) }
    }

    fn day(&self, parameter: Parameter) -> Result<Option<NaiveDate>, RequestError> {
        let Some(text) = self.text(parameter) else { return Ok(None) };
        let is_written = |byte: u8| byte.is_ascii_digit() || byte == b'-';
        let day = (text.len() == 10 && text.bytes().all(is_written))
            .then(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok())
            .flatten();
        day.map(Some).ok_or_else(|| Self::invalid(parameter, text))
    }

    /// The range. Its days are those that every store can hold.
    fn range(&self, today: NaiveDate) -> Result<(NaiveDate, NaiveDate), RequestError> {
        let tomorrow = today.checked_add_days(Days::new(1)).unwrap_or(today);
        let to = self.day(Parameter::To)?.unwrap_or(tomorrow);
        let before = to.checked_sub_days(Days::new(DEFAULT_DAYS)).unwrap_or(to);
        let from = self.day(Parameter::From)?.unwrap_or(before);
        if from >= to {
            return Err(RequestError::Reversed { from, to });
        }
        let days = (to - from).num_days();
        if days > MAX_DAYS {
            return Err(RequestError::Range { from, to, days });
        }
        let limits = (NaiveDate::from_ymd_opt(1970, 1, 1), NaiveDate::from_ymd_opt(2106, 1, 1));
        for (parameter, day) in [(Parameter::From, from), (Parameter::To, to)] {
            if Some(day) < limits.0 || Some(day) > limits.1 {
                return Err(Self::invalid(parameter, &day.to_string()));
            }
        }
        Ok((from, to))
    }

    fn limit(&self) -> Result<u32, RequestError> {
        let Some(text) = self.text(Parameter::Limit) else { return Ok(DEFAULT_LIMIT) };
        let limit = text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
        limit.ok_or_else(|| Self::invalid(Parameter::Limit, text))
    }

    fn wanted(&self) -> Result<Wanted, RequestError> {
        let invalid = |name, expected, text: &str| RequestError::Value { name, expected, value: shown(text) };
        let exact = match self.named("exact") {
            None | Some("false") => false,
            Some("true") => true,
            Some(text) => return Err(invalid("exact", "true or false", text)),
        };
        let seconds = |text: &str| {
            let seconds = text.parse::<f64>().ok().filter(|seconds| (0.0..=MAX_AGE).contains(seconds));
            seconds.ok_or_else(|| invalid("max_age", "a number of seconds from 0 to 2592000", text))
        };
        let max_age = self.named("max_age").map(seconds).transpose()?.map(Duration::from_secs_f64);
        Ok(Wanted { exact, max_age, not_older_than: self.named("not_older_than").map(str::to_owned) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WALLET: &str = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";

    fn today() -> NaiveDate {
        NaiveDate::from_ymd_opt(2024, 3, 10).unwrap()
    }

    fn parse(name: &str, parameters: &[(&str, &str)]) -> Result<Request, RequestError> {
        let parameters =
            parameters.iter().map(|(name, value)| ((*name).to_owned(), Value::String((*value).to_owned())));
        Request::parse(name, parameters, today(), |text| Ok(Network::parse(text)?))
    }

    fn problem(name: &str, parameters: &[(&str, &str)]) -> String {
        parse(name, parameters).unwrap_err().to_string()
    }

    #[test]
    fn arguments_have_types_defaults_and_one_spelling() {
        let request = parse("top_counterparties", &[("network", "ETH"), ("address", WALLET)]).unwrap();
        let arguments = &request.arguments;
        assert_eq!(arguments.network.name(), "ethereum");
        assert_eq!(arguments.address.as_ref().unwrap().as_str(), WALLET.to_lowercase());
        let day = |text: &str| text.parse::<NaiveDate>().unwrap();
        assert_eq!(arguments.range, Some((day("2024-02-10"), day("2024-03-11"))));
        assert_eq!((arguments.limit, arguments.days()), (Some(20), Some(30)));
        assert_eq!(request.wanted, Wanted::default());
        let request = parse(
            "network_totals",
            &[("network", "ethereum"), ("to", "2018-01-01"), ("max_age", "0.5"), ("exact", "true")],
        )
        .unwrap();
        assert_eq!(request.arguments.range, Some((day("2017-12-02"), day("2018-01-01"))));
        assert_eq!(request.wanted.max_age, Some(Duration::from_millis(500)));
        assert!(request.wanted.exact && request.arguments.limit.is_none());
    }

    #[test]
    fn wrong_requests_are_named() {
        let network = ("network", "ethereum");
        assert!(problem("passwords", &[]).contains("largest_transfers, network_totals"));
        assert!(problem("network_totals", &[]).contains("needs parameter network"));
        assert!(problem("wallet_activity", &[network]).contains("needs parameter address"));
        assert!(problem("network_totals", &[network, ("limit", "5")]).contains("network, from, to, exact"));
        assert!(problem("network_totals", &[network, network]).contains("more than once"));
        assert!(problem("top_wallets", &[network, ("limit", "0")]).contains("1 to 1000"));
        assert!(problem("top_wallets", &[network, ("limit", "1e3")]).contains("\"1e3\""));
        assert!(problem("top_wallets", &[network, ("from", "2024-3-1")]).contains("first day"));
        assert!(problem("top_wallets", &[network, ("from", "+024-03-01")]).contains("first day"));
        assert!(problem("top_wallets", &[network, ("from", "2024-02-30")]).contains("2024-02-30"));
        assert!(problem("top_wallets", &[network, ("from", "2024-03-11")]).contains("reversed"));
        assert!(problem("top_wallets", &[network, ("from", "1924-03-11")]).contains("3660"));
        assert!(problem("top_wallets", &[network, ("from", "1960-01-01"), ("to", "1961-01-01")]).contains("1970"));
        assert!(problem("top_wallets", &[network, ("exact", "yes")]).contains("true or false"));
        for age in ["-1", "NaN", "inf", "2592001", ""] {
            assert!(problem("top_wallets", &[network, ("max_age", age)]).contains("2592000"), "{age}");
        }
        assert!(problem("wallet_activity", &[network, ("address", "0x12")]).contains("0x12"));
        let long = "x".repeat(MAX_BYTES + 1);
        assert!(problem("wallet_activity", &[network, ("address", &long)]).len() < 200);
        let list = [("network".to_owned(), serde_json::json!(["ethereum"]))];
        let error = Request::parse("top_wallets", list, today(), |text| Ok::<_, RequestError>(Network::parse(text)?));
        assert!(error.unwrap_err().to_string().contains("a text, a number"));
    }

    proptest! {
        #[test]
        fn no_text_is_accepted_as_another_value(name in "[a-z_]{0,12}", key in "\\PC{0,12}", value in "\\PC{0,80}") {
            for query in CATALOGUE.iter().map(|query| query.name).chain([name.as_str()]) {
                let _ = parse(query, &[("network", &value), (&key, &value)]);
                let given = [("network", "ethereum"), ("address", WALLET), ("from", "2024-01-01"), (&key, &value)];
                if let Ok(request) = parse(query, &given) {
                    prop_assert!(query == request.query.name);
                    let limit = request.arguments.limit.unwrap_or(1);
                    prop_assert!((1..=MAX_LIMIT).contains(&limit));
                }
            }
        }
    }
}
