//! Options of a question, as they come: a JSON object whose keys and values are checked.
//!
//! Owns the checking alone. Which keys there are, and what they default to, is the questions'.

use serde_json::{Map, Value};
use thiserror::Error;

/// What is wrong with what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OptionsError {
    /// A name that is none of those there are.
    #[error("{what} must be {valid}, not \"{name}\"")]
    Choice {
        /// What it should name.
        what: &'static str,
        /// What was given.
        name: String,
        /// The names there are.
        valid: &'static str,
    },
    /// No object.
    #[error("options must be a JSON object, not {value}")]
    NotAnObject {
        /// What was given.
        value: String,
    },
    /// A key that nobody reads.
    #[error("option \"{key}\" is unknown: {of} takes {}", known(.valid))]
    Unknown {
        /// What was given.
        key: String,
        /// What the options are for.
        of: &'static str,
        /// The keys there are.
        valid: &'static [&'static str],
    },
    /// A value of the wrong type, or out of range.
    #[error("option \"{key}\" must be {expected}, not {value}")]
    Value {
        /// Of which key.
        key: &'static str,
        /// What would be right.
        expected: String,
        /// What was given.
        value: String,
    },
    /// Values of several assets cannot be compared.
    #[error("method {method} needs a single asset: values of several cannot be compared")]
    SeveralAssets {
        /// Which one.
        method: &'static str,
    },
    /// Components have no merges: they are facts.
    #[error("method {method} has no merges to explain: its clusters are components of the graph")]
    NoMerges {
        /// Which one.
        method: &'static str,
    },
}

fn known(valid: &[&str]) -> String {
    if valid.is_empty() { "none".to_owned() } else { valid.join(", ") }
}

/// An object whose keys are all known.
pub(in crate::graph) struct Options<'a>(&'a Map<String, Value>);

impl<'a> Options<'a> {
    pub(crate) fn new(
        of: &'static str,
        value: &'a Value,
        valid: &'static [&'static str],
    ) -> Result<Self, OptionsError> {
        let object = value.as_object().ok_or_else(|| OptionsError::NotAnObject { value: value.to_string() })?;
        match object.keys().find(|key| !valid.contains(&key.as_str())) {
            Some(key) => Err(OptionsError::Unknown { key: key.clone(), of, valid }),
            None => Ok(Self(object)),
        }
    }

    /// A whole number.
    pub(crate) fn whole(&self, key: &'static str, default: u64, least: u64, most: u64) -> Result<u64, OptionsError> {
        let Some(value) = self.0.get(key) else { return Ok(default) };
        value.as_u64().filter(|number| (least..=most).contains(number)).ok_or_else(|| OptionsError::Value {
            key,
            expected: format!("a whole number from {least} to {most}"),
            value: value.to_string(),
        })
    }

    /// A number.
    pub(crate) fn number(&self, key: &'static str, default: f64, least: f64, most: f64) -> Result<f64, OptionsError> {
        let Some(value) = self.0.get(key) else { return Ok(default) };
        value.as_f64().filter(|number| (least..=most).contains(number)).ok_or_else(|| OptionsError::Value {
            key,
            expected: format!("a number from {least} to {most}"),
            value: value.to_string(),
        })
    }

    /// Yes or no.
    pub(crate) fn flag(&self, key: &'static str, default: bool) -> Result<bool, OptionsError> {
        let Some(value) = self.0.get(key) else { return Ok(default) };
        value.as_bool().ok_or_else(|| OptionsError::Value {
            key,
            expected: "true or false".to_owned(),
            value: value.to_string(),
        })
    }

    /// One of some names, by its place; the first by default.
    pub(crate) fn choice(&self, key: &'static str, names: &[&str]) -> Result<usize, OptionsError> {
        let Some(value) = self.0.get(key) else { return Ok(0) };
        let place = value.as_str().and_then(|name| names.iter().position(|one| one.eq_ignore_ascii_case(name)));
        place.ok_or_else(|| OptionsError::Value { key, expected: names.join(" or "), value: value.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn unknown_keys_are_errors_that_list_the_known_ones() {
        let error = Options::new("pagerank", &json!({"dumping": 1}), &["damping", "tolerance"]).err().unwrap();
        assert_eq!(error.to_string(), "option \"dumping\" is unknown: pagerank takes damping, tolerance");
        let error = Options::new("weak", &json!({"x": 1}), &[]).err().unwrap();
        assert_eq!(error.to_string(), "option \"x\" is unknown: weak takes none");
        let error = Options::new("weak", &json!([1]), &[]).err().unwrap();
        assert_eq!(error.to_string(), "options must be a JSON object, not [1]");
    }

    #[test]
    fn values_are_checked() {
        let value = json!({"a": 3, "b": 0.5, "c": true, "d": "IN", "e": -1, "f": "x", "g": null});
        let options = Options::new("x", &value, &["a", "b", "c", "d", "e", "f", "g"]).unwrap();
        assert_eq!(options.whole("a", 1, 1, 5), Ok(3));
        assert_eq!(options.whole("z", 1, 1, 5), Ok(1));
        assert_eq!(options.number("b", 1.0, 0.0, 1.0), Ok(0.5));
        assert_eq!(options.flag("c", false), Ok(true));
        assert_eq!(options.choice("d", &["both", "in"]), Ok(1));
        let expected = "option \"e\" must be a whole number from 1 to 5, not -1";
        assert_eq!(options.whole("e", 1, 1, 5).unwrap_err().to_string(), expected);
        let expected = "option \"f\" must be a number from 0 to 1, not \"x\"";
        assert_eq!(options.number("f", 1.0, 0.0, 1.0).unwrap_err().to_string(), expected);
        assert!(options.whole("b", 1, 1, 5).is_err());
        assert!(options.whole("g", 1, 1, 5).is_err());
        assert!(options.flag("a", false).is_err());
        assert!(options.choice("a", &["both", "in"]).is_err());
    }
}
