//! JSON lines. Values are kept as text, so that numbers beyond every integer type stay exact.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::import::error::LineError;

/// Reads one object.
///
/// # Errors
/// [`LineError::Json`].
pub(crate) fn parse<'a, T: Deserialize<'a>>(line: &'a str) -> Result<T, LineError> {
    serde_json::from_str(line).map_err(|error| LineError::Json { message: error.to_string() })
}

/// Text of a value: the content of a string, anything else as written; null and an empty string are
/// `None`.
#[derive(Debug)]
pub(crate) struct JsonText<'a>(Option<Cow<'a, str>>);

impl<'a> JsonText<'a> {
    /// No value.
    pub(crate) const NULL: Self = Self(None);

    /// Returns the text of a value.
    ///
    /// # Errors
    /// [`LineError::Json`] for an invalid escape.
    pub(crate) fn of(value: Option<&'a RawValue>) -> Result<Self, LineError> {
        let Some(raw) = value.map(RawValue::get) else { return Ok(Self(None)) };
        let text = match raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            Some(plain) if memchr::memchr(b'\\', plain.as_bytes()).is_none() => Cow::Borrowed(plain),
            Some(_) => Cow::Owned(parse::<String>(raw)?),
            None if raw == "null" => return Ok(Self(None)),
            None => Cow::Borrowed(raw),
        };
        Ok(Self(Some(text).filter(|text| !text.is_empty())))
    }

    /// Returns the text of a value, or of the address in an object, as Blockscout writes it.
    ///
    /// # Errors
    /// [`LineError::Json`] for an invalid escape, or an object without an address.
    pub(crate) fn of_party(value: Option<&'a RawValue>) -> Result<Self, LineError> {
        #[derive(Deserialize)]
        struct Party {
            #[serde(alias = "address", alias = "address_hash")]
            hash: String,
        }
        match value.map(RawValue::get) {
            Some(raw) if raw.starts_with('{') => {
                let fault = |_| LineError::Json { message: "from_address or to_address has no address".to_owned() };
                serde_json::from_str(raw).map(|Party { hash }| Self(Some(Cow::Owned(hash)))).map_err(fault)
            }
            _ => Self::of(value),
        }
    }

    /// The text, if there is one.
    pub(crate) fn get(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_digits_and_strings_lose_their_quotes() {
        let line = r#"{"a": 123456789012345678901234567890, "b": "x\u0041", "c": null, "d": "", "e": "plain"}"#;
        let fields: std::collections::HashMap<String, Box<RawValue>> = serde_json::from_str(line).unwrap();
        let text = |name: &str| JsonText::of(Some(&fields[name])).unwrap().get().map(str::to_owned);
        assert_eq!(text("a").as_deref(), Some("123456789012345678901234567890"));
        assert_eq!(text("b").as_deref(), Some("xA"));
        assert_eq!(text("c"), None);
        assert_eq!(text("d"), None);
        assert_eq!(text("e").as_deref(), Some("plain"));
    }
}
