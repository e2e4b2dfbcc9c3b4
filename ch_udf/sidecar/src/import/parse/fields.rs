//! Columns of files by meaning: each column of an import lists the names under which programs
//! write it, in CSV headers and as JSON keys. Names are compared without case, punctuation and
//! units.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::json::JsonText;
use crate::import::error::LineError;

/// A column of an import.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    /// Name in messages and in `--map`.
    pub(crate) name: &'static str,
    /// Folded names in files, the preferred one first.
    pub(crate) names: &'static [&'static str],
}

/// `--map COLUMN=FIELD`: a column of the file and the name that it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mapping {
    column: String,
    field: String,
}

impl std::str::FromStr for Mapping {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.rsplit_once('=') {
            Some((column, field)) if !column.is_empty() && !field.is_empty() => {
                Ok(Self { column: column.to_owned(), field: fold(field) })
            }
            _ => Err(format!("{text:?} must be COLUMN=FIELD")),
        }
    }
}

/// Folds a name: lower case, letters and digits only, without a unit in parentheses.
pub(crate) fn fold(name: &str) -> String {
    let lower = name.to_lowercase();
    let (head, unit) = lower.split_once('(').unwrap_or((&lower, ""));
    let zone = if unit.starts_with("utc") { "utc" } else { "" };
    head.chars().filter(|c| c.is_alphanumeric()).chain(zone.chars()).collect()
}

/// Returns the folded names of a file's columns, renamed by `--map`.
pub(crate) fn folded(names: &[&str], mappings: &[Mapping]) -> Vec<String> {
    let mapped = |name: &str| mappings.iter().find(|mapping| mapping.column == name).map(|m| m.field.clone());
    names.iter().map(|name| mapped(name).unwrap_or_else(|| fold(name))).collect()
}

/// A JSON object as the values of columns.
pub(crate) struct JsonRow<'a, const N: usize> {
    values: [Option<&'a RawValue>; N],
}

impl<'a, const N: usize> JsonRow<'a, N> {
    /// Reads one object.
    ///
    /// # Errors
    /// [`LineError::Json`], also for a key that occurs twice.
    pub(crate) fn parse(line: &'a str, columns: &[Column; N], mappings: &[Mapping]) -> Result<Self, LineError> {
        let mut deserializer = serde_json::Deserializer::from_str(line);
        let invalid = |error: serde_json::Error| LineError::Json { message: error.to_string() };
        let values = Row { columns, mappings }.deserialize(&mut deserializer).map_err(invalid)?;
        deserializer.end().map_err(invalid)?;
        Ok(Self { values })
    }

    /// Returns the texts of the values.
    ///
    /// # Errors
    /// [`LineError::Json`] for an invalid escape.
    pub(crate) fn texts(&self) -> Result<[JsonText<'a>; N], LineError> {
        let mut texts = [const { JsonText::NULL }; N];
        for (text, value) in texts.iter_mut().zip(self.values) {
            *text = JsonText::of(value)?;
        }
        Ok(texts)
    }
}

/// Deserializes one object into the values of columns.
struct Row<'c, const N: usize> {
    columns: &'c [Column; N],
    mappings: &'c [Mapping],
}

impl<'de, const N: usize> DeserializeSeed<'de> for Row<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Row<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = [None; N];
        let mut ranks = [usize::MAX; N];
        while let Some(Key(key)) = map.next_key::<Key<'de>>()? {
            let value: &'de RawValue = map.next_value()?;
            let name = match self.mappings.iter().find(|mapping| mapping.column == key) {
                Some(mapping) => mapping.field.clone(),
                None => fold(&key),
            };
            for ((column, slot), rank) in self.columns.iter().zip(&mut values).zip(&mut ranks) {
                let Some(position) = column.names.iter().position(|known| *known == name) else { continue };
                if position == *rank {
                    return Err(serde::de::Error::custom(format_args!("key {key:?} occurs twice")));
                }
                if position < *rank {
                    (*slot, *rank) = (Some(value), position);
                }
                break;
            }
        }
        Ok(values)
    }
}

/// A key, borrowed unless it has escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Returns the keys of a JSON object; none if it is not one.
pub(crate) fn keys(line: &str) -> Vec<String> {
    serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(line)
        .map(|object| object.keys().cloned().collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 2] = [
        Column { name: "block_number", names: &["blocknumber", "blockno"] },
        Column { name: "value_in", names: &["valuein"] },
    ];

    #[test]
    fn names_are_compared_without_case_punctuation_and_unit() {
        for (name, folded) in [
            ("block_number", "blocknumber"),
            ("blockNumber", "blocknumber"),
            ("Value_IN(ETH)", "valuein"),
            ("DateTime (UTC)", "datetimeutc"),
            ("DateTime", "datetime"),
        ] {
            assert_eq!(fold(name), folded);
        }
        let mapping: Mapping = "Height=block_number".parse().unwrap();
        assert_eq!(folded(&["Height", "x"], &[mapping]), ["blocknumber", "x"]);
        assert!("Height".parse::<Mapping>().is_err());
    }

    #[test]
    fn the_preferred_name_of_a_key_wins_and_repetition_is_an_error() {
        let value = |line: &str| {
            JsonRow::parse(line, &COLUMNS, &[]).map(|row| row.values[0].map(|value| value.get().to_owned()))
        };
        assert_eq!(value(r#"{"blockNo": 1, "block_number": 2}"#), Ok(Some("2".to_owned())));
        assert_eq!(value(r#"{"block_number": 2, "blockNo": 1}"#), Ok(Some("2".to_owned())));
        assert_eq!(value(r#"{"\u0062lockNo": 1}"#), Ok(Some("1".to_owned())));
        assert!(value(r#"{"blockNo": 1, "blockno": 2}"#).is_err());
        assert!(value("[1]").is_err());
        assert!(value(r#"{"blockNo": 1} x"#).is_err());
    }
}
