//! Validation of options: a JSON object with checked keys and values.
//!
//! Owns the checks alone. The keys and their defaults belong to the queries.

use serde_json::{Map, Value};
use thiserror::Error;

/// An invalid option.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OptionsError {
    /// A name is not one of the valid ones.
    #[error("{what} must be {valid}, not \"{name}\"")]
    Choice {
        /// Noun for the thing that is named.
        what: &'static str,
        /// Value that was given.
        name: String,
        /// Valid names.
        valid: &'static str,
    },
    /// The options are not a JSON object.
    #[error("options must be a JSON object, not {value}")]
    NotAnObject {
        /// Value that was given.
        value: String,
    },
    /// A key is unknown.
    #[error("option \"{key}\" is unknown: {taker} takes {}", list(.valid))]
    Unknown {
        /// Value that was given.
        key: String,
        /// Name of the method that takes the options.
        taker: &'static str,
        /// Valid keys.
        valid: &'static [&'static str],
    },
    /// A value has the wrong type, or is out of range.
    #[error("option \"{key}\" must be {expected}, not {value}")]
    Value {
        /// Key of the value.
        key: &'static str,
        /// Description of valid values.
        expected: String,
        /// Value that was given.
        value: String,
    },
    /// Values of several assets cannot be compared.
    #[error("method {method} needs a single asset: values of several cannot be compared")]
    SeveralAssets {
        /// Name of the method.
        method: &'static str,
    },
    /// Components have no merges: they follow from the graph alone.
    #[error("method {method} has no merges to explain: its clusters are components of the graph")]
    NoMerges {
        /// Name of the method.
        method: &'static str,
    },
}

fn list(valid: &[&str]) -> String {
    if valid.is_empty() { "none".to_owned() } else { valid.join(", ") }
}

/// A JSON object whose keys are all valid.
pub(in crate::graph) struct Options<'a>(&'a Map<String, Value>);

impl<'a> Options<'a> {
    pub(crate) fn new(
        taker: &'static str,
        value: &'a Value,
        valid: &'static [&'static str],
    ) -> Result<Self, OptionsError> {
        let object = value.as_object().ok_or_else(|| OptionsError::NotAnObject { value: value.to_string() })?;
        match object.keys().find(|key| !valid.contains(&key.as_str())) {
            Some(key) => Err(OptionsError::Unknown { key: key.clone(), taker, valid }),
            None => Ok(Self(object)),
        }
    }

    /// Returns an integer option.
    pub(crate) fn whole(&self, key: &'static str, default: u64, min: u64, max: u64) -> Result<u64, OptionsError> {
        let Some(value) = self.0.get(key) else { return Ok(default) };
        value.as_u64().filter(|number| (min..=max).contains(number)).ok_or_else(|| OptionsError::Value {
            key,
            expected: format!("a whole number from {min} to {max}"),
            value: value.to_string(),
        })
    }

    /// Returns a number option.
    pub(crate) fn number(&self, key: &'static str, default: f64, min: f64, max: f64) -> Result<f64, OptionsError> {
        let Some(value) = self.0.get(key) else { return Ok(default) };
        value.as_f64().filter(|number| (min..=max).contains(number)).ok_or_else(|| OptionsError::Value {
            key,
            expected: format!("a number from {min} to {max}"),
            value: value.to_string(),
        })
    }

    /// Returns a boolean option.
    pub(crate) fn flag(&self, key: &'static str, default: bool) -> Result<bool, OptionsError> {
        let Some(value) = self.0.get(key) else { return Ok(default) };
        value.as_bool().ok_or_else(|| OptionsError::Value {
            key,
            expected: "true or false".to_owned(),
            value: value.to_string(),
        })
    }

    /// Returns the index of an option among `names`, ignoring case; 0 by default.
    pub(crate) fn choice(&self, key: &'static str, names: &[&str]) -> Result<usize, OptionsError> {
        let Some(value) = self.0.get(key) else { return Ok(0) };
        let index = value.as_str().and_then(|name| names.iter().position(|valid| valid.eq_ignore_ascii_case(name)));
        index.ok_or_else(|| OptionsError::Value { key, expected: names.join(" or "), value: value.to_string() })
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
