//! Patterns with their settings, parsed and checked.

use serde_json::{Map, Value};
use thiserror::Error;

use super::catalog::{OptionRange, OptionType, PATTERN_TYPES, PatternKind, PatternType, find};
use crate::graph::types::U256;

/// Digits that a JSON number keeps when it is read as a float.
const EXACT_DIGITS: usize = 15;

/// An invalid pattern or option.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PatternError {
    /// The pattern is unknown.
    #[error("pattern \"{name}\" is unknown: it is one of {valid}")]
    Unknown {
        /// The given name.
        name: String,
        /// All valid names.
        valid: String,
    },
    /// The options are not an object.
    #[error("options must be a JSON object, not {value}")]
    NoObject {
        /// The given value.
        value: String,
    },
    /// The option is unknown.
    #[error("pattern {pattern} has no option \"{name}\": it has {valid}")]
    UnknownOption {
        /// The pattern.
        pattern: &'static str,
        /// The given name.
        name: String,
        /// All valid names.
        valid: String,
    },
    /// The value of an option is invalid.
    #[error("option {name} must be {expected}, not {value}")]
    Value {
        /// The option.
        name: &'static str,
        /// Valid values.
        expected: String,
        /// The given value.
        value: String,
    },
    /// The settings contradict each other.
    #[error("option {least} is {least_value}, more than {most}, which is {most_value}")]
    Order {
        /// The lower limit.
        least: &'static str,
        /// Its value.
        least_value: u64,
        /// The upper limit.
        most: &'static str,
        /// Its value.
        most_value: u64,
    },
    /// The window is empty.
    #[error("window must be greater than zero")]
    NoWindow,
    /// The window is longer than the silence before it.
    #[error("window must not be longer than min_silence_days, which is {days}")]
    WindowBeyondSilence {
        /// Days of silence.
        days: u64,
    },
}

/// A setting.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Setting {
    Count(u64),
    Ratio(f64),
    Flag(bool),
    Amount(Option<U256>),
}

/// A pattern with its settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Pattern {
    described: &'static PatternType,
    settings: Vec<(&'static OptionType, Setting)>,
    window: i64,
}

/// Microseconds of a day.
pub(super) const DAY: i64 = 86_400_000_000;

impl Pattern {
    /// Parses a pattern by name, with its options as JSON. The transfers of a finding lie within
    /// `window` microseconds of each other. Amounts are in units of 10^-`scale`.
    ///
    /// # Errors
    /// [`PatternError`].
    pub fn parse(name: &str, window: i64, options: &Value, scale: u32) -> Result<Self, PatternError> {
        let described = find(name).ok_or_else(|| PatternError::Unknown {
            name: name.to_owned(),
            valid: names(PATTERN_TYPES, |pattern_type| pattern_type.name),
        })?;
        let Value::Object(given) = options else { return Err(PatternError::NoObject { value: options.to_string() }) };
        if let Some(unknown) =
            given.keys().find(|key| described.options.iter().all(|option| option.name != key.as_str()))
        {
            return Err(PatternError::UnknownOption {
                pattern: described.name,
                name: unknown.clone(),
                valid: names(described.options, |option| option.name),
            });
        }
        let mut settings = Vec::with_capacity(described.options.len());
        for option in described.options {
            settings.push((option, option.read(given, scale)?));
        }
        let pattern = Self { described, settings, window };
        pattern.check()?;
        Ok(pattern)
    }

    fn check(&self) -> Result<(), PatternError> {
        if self.window <= 0 {
            return Err(PatternError::NoWindow);
        }
        if let (Some(least_value), Some(most_value)) = (self.find("min_length"), self.find("max_length"))
            && least_value > most_value
        {
            return Err(PatternError::Order { least: "min_length", least_value, most: "max_length", most_value });
        }
        if self.kind() == PatternKind::DormantAwakened {
            let days = self.count("min_silence_days");
            if self.window > self.days("min_silence_days") {
                return Err(PatternError::WindowBeyondSilence { days });
            }
            let most_value = self.count("lookback_days");
            if days >= most_value {
                let (least, most) = ("min_silence_days", "lookback_days");
                return Err(PatternError::Order { least, least_value: days, most, most_value });
            }
        }
        Ok(())
    }

    /// Returns the pattern.
    #[must_use]
    pub const fn kind(&self) -> PatternKind {
        self.described.kind
    }

    /// Returns its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.described.name
    }

    /// Returns the maximum time from the first transfer of a finding to its last, in microseconds.
    #[must_use]
    pub const fn window(&self) -> i64 {
        self.window
    }

    /// Returns the range before and after the first transfer of a finding, in microseconds, that
    /// determines it. Transfers outside the range do not affect the finding.
    #[must_use]
    pub fn horizon(&self) -> (i64, i64) {
        // The windows next to the finding's own, and the windows that decide about those.
        let near = self.window.saturating_mul(4);
        (near.saturating_add(self.lookback()), near)
    }

    /// Returns the range before a finding's first transfer in which the past is read, in
    /// microseconds.
    pub(super) fn lookback(&self) -> i64 {
        match self.kind() {
            PatternKind::DormantAwakened | PatternKind::AddressPoisoning => self.days("lookback_days"),
            _ => 0,
        }
    }

    fn setting(&self, name: &str) -> Option<Setting> {
        self.settings.iter().find(|(option, _)| option.name == name).map(|(_, setting)| *setting)
    }

    fn find(&self, name: &str) -> Option<u64> {
        match self.setting(name) {
            Some(Setting::Count(count)) => Some(count),
            _ => None,
        }
    }

    /// Returns a whole number. Detectors only read options of their pattern.
    pub(super) fn count(&self, name: &str) -> u64 {
        self.find(name).unwrap_or_default()
    }

    pub(super) fn size(&self, name: &str) -> usize {
        usize::try_from(self.count(name)).unwrap_or(usize::MAX)
    }

    pub(super) fn days(&self, name: &str) -> i64 {
        i64::try_from(self.count(name)).unwrap_or(i64::MAX).saturating_mul(DAY)
    }

    pub(super) fn ratio(&self, name: &str) -> f64 {
        match self.setting(name) {
            Some(Setting::Ratio(ratio)) => ratio,
            _ => 0.0,
        }
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        matches!(self.setting(name), Some(Setting::Flag(true)))
    }

    pub(super) fn amount(&self, name: &str) -> Option<U256> {
        match self.setting(name) {
            Some(Setting::Amount(amount)) => amount,
            _ => None,
        }
    }
}

fn names<T>(all: &[T], name: impl Fn(&T) -> &'static str) -> String {
    all.iter().map(name).collect::<Vec<_>>().join(", ")
}

impl OptionType {
    /// Returns the default as JSON.
    #[must_use]
    pub fn default(&self) -> Value {
        match self.range {
            OptionRange::Count { default, .. } => default.into(),
            OptionRange::Ratio { default, .. } => default.into(),
            OptionRange::Flag { default } => default.into(),
            OptionRange::Amount => Value::Null,
        }
    }

    /// Describes the valid values.
    #[must_use]
    pub fn expected(&self) -> String {
        match self.range {
            OptionRange::Count { min, max, .. } => format!("a whole number from {min} to {max}"),
            OptionRange::Ratio { min, max, .. } => format!("a number from {min} to {max}"),
            OptionRange::Flag { .. } => "true or false".to_owned(),
            OptionRange::Amount => {
                format!("null or an amount above 0, as text if it has more than {EXACT_DIGITS} digits")
            }
        }
    }

    fn read(&self, given: &Map<String, Value>, scale: u32) -> Result<Setting, PatternError> {
        let default = self.default();
        let value = given.get(self.name).unwrap_or(&default);
        let read = match self.range {
            OptionRange::Count { min, max, .. } => {
                value.as_u64().filter(|count| (min..=max).contains(count)).map(Setting::Count)
            }
            OptionRange::Ratio { min, max, .. } => {
                value.as_f64().filter(|ratio| (min..=max).contains(ratio)).map(Setting::Ratio)
            }
            OptionRange::Flag { .. } => value.as_bool().map(Setting::Flag),
            OptionRange::Amount => match value {
                Value::Null => Some(Setting::Amount(None)),
                Value::String(text) => units(text, scale).map(|units| Setting::Amount(Some(units))),
                Value::Number(number) => {
                    let text = number.to_string();
                    let exact = number.is_u64() || text.bytes().filter(u8::is_ascii_digit).count() <= EXACT_DIGITS;
                    units(&text, scale).filter(|_| exact).map(|units| Setting::Amount(Some(units)))
                }
                _ => None,
            },
        };
        let wrong = || PatternError::Value { name: self.name, expected: self.expected(), value: value.to_string() };
        read.ok_or_else(wrong)
    }
}

/// Parses a decimal number above 0 in units of 10^-`scale`.
fn units(text: &str, scale: u32) -> Option<U256> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction = fraction.trim_end_matches('0');
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let scale = scale as usize;
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > scale {
        return None;
    }
    let all = format!("{whole}{fraction:0<scale$}");
    all.parse().ok().filter(|units| *units > U256::ZERO)
}

/// Prints an amount of 10^-`scale` units as a decimal number.
pub(super) fn decimal(value: U256, scale: u32) -> String {
    let scale = scale as usize;
    let digits = format!("{value:0>width$}", width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(name: &str, options: &Value) -> Result<Pattern, PatternError> {
        Pattern::parse(name, DAY, options, 18)
    }

    #[test]
    fn every_default_is_within_its_range() {
        for one in PATTERN_TYPES {
            let pattern = parse(one.name, &json!({})).unwrap();
            assert_eq!((pattern.kind(), pattern.name()), (one.kind, one.name));
            let all: Map<String, Value> =
                one.options.iter().map(|option| (option.name.to_owned(), option.default())).collect();
            assert_eq!(parse(one.name, &Value::Object(all)).unwrap(), pattern);
        }
    }

    #[test]
    fn invalid_patterns_and_options_are_rejected_and_named() {
        let error = |name: &str, options: Value| parse(name, &options).unwrap_err().to_string();
        assert!(error("beauty", json!({})).contains("one of fan_out, fan_in, cycle"));
        assert_eq!(error("fan_out", json!([])), "options must be a JSON object, not []");
        assert_eq!(error("fan_out", json!({"fan": 2})), "pattern fan_out has no option \"fan\": it has min_fan");
        assert!(error("fan_out", json!({"min_fan": 1})).contains("from 2 to 1000000, not 1"));
        assert!(error("fan_out", json!({"min_fan": 2.5})).contains("not 2.5"));
        assert!(error("cycle", json!({"tolerance": 1.5})).contains("from 0 to 1, not 1.5"));
        assert!(error("cycle", json!({"ordered": "yes"})).contains("true or false"));
        assert!(error("cycle", json!({"min_length": 5, "max_length": 4})).contains("min_length is 5"));
        assert!(error("structuring", json!({"threshold": -1})).contains("threshold"));
        assert!(error("structuring", json!({"threshold": "1e3"})).contains("threshold"));
        assert!(error("structuring", json!({"threshold": 0})).contains("threshold"));
        assert_eq!(Pattern::parse("cycle", 0, &json!({}), 18).unwrap_err(), PatternError::NoWindow);
        let long = Pattern::parse("dormant_awakened", 200 * DAY, &json!({}), 18).unwrap_err();
        assert_eq!(long, PatternError::WindowBeyondSilence { days: 180 });
    }

    #[test]
    fn amounts_are_exact() {
        let threshold =
            |value: Value| parse("structuring", &json!({"threshold": value})).map(|one| one.amount("threshold"));
        assert_eq!(threshold(json!(10000)).unwrap(), Some(U256::new(10_000) * U256::new(10_u128.pow(18))));
        assert_eq!(threshold(json!(0.1)).unwrap(), Some(U256::new(10_u128.pow(17))));
        assert_eq!(threshold(json!("1.000000000000000001")).unwrap(), Some(U256::new(10_u128.pow(18) + 1)));
        assert!(threshold(json!("1.0000000000000000001")).is_err());
        assert!(threshold(json!(1.000_000_000_000_000_2)).is_err());
        for (value, text) in [(0_u128, "0"), (1, "0.001"), (1_500, "1.5"), (20_000, "20")] {
            assert_eq!(decimal(U256::new(value), 3), text);
        }
        assert_eq!(decimal(U256::new(20), 0), "20");
    }
}
