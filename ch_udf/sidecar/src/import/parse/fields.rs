//! Columns of files by meaning: each column of an import lists the names under which programs
//! write it, in CSV headers and as JSON keys. Names are compared without case and punctuation. A
//! unit in parentheses is kept; a currency of states makes another column of it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::json::JsonText;
use super::number;
use crate::import::error::LineError;

/// Columns whose names are the same fact in every format, so that two of them must agree.
const AGREEING: [&str; 5] = ["hash", "transaction_hash", "from_address", "to_address", "block_number"];

/// Objects of which a node's trace consists: the keys within them are columns, as `action_from`.
const PARTS: [&str; 2] = ["action", "result"];

/// Currencies in which explorers add what a value was worth.
const FIAT: [&str; 12] = ["usd", "eur", "gbp", "jpy", "cny", "krw", "inr", "chf", "cad", "aud", "rub", "brl"];

/// A column of an import.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    /// Name in messages and in `--map`.
    pub(crate) name: &'static str,
    /// Folded names in files, the preferred one first.
    pub(crate) names: &'static [&'static str],
}

impl Column {
    /// Returns true if two columns of this meaning in one file must agree.
    pub(crate) fn must_agree(&self) -> bool {
        AGREEING.contains(&self.name)
    }

    /// Returns true for a folded name of the column.
    fn is_named(&self, name: &str) -> bool {
        self.names.contains(&name)
    }
}

/// Returns true if two values of one fact are the same.
pub(crate) fn agree(one: &str, other: &str) -> bool {
    let number = |text| number::whole(text).ok();
    one.eq_ignore_ascii_case(other) || number(one).is_some() && number(one) == number(other)
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

impl Mapping {
    /// Returns the first mapping to a field that no column has.
    pub(crate) fn unknown<'m>(mappings: &'m [Self], columns: &[Column]) -> Option<&'m Self> {
        mappings.iter().find(|mapping| !columns.iter().any(|column| column.is_named(&mapping.field)))
    }

    /// Returns the mapped columns that are not among `names`.
    pub(crate) fn absent<'m>(mappings: &'m [Self], names: &'m [String]) -> impl Iterator<Item = &'m str> {
        mappings.iter().map(|mapping| mapping.column.as_str()).filter(|column| !names.iter().any(|name| name == column))
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}={}", self.column, self.field)
    }
}

/// The name of a column in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    /// Lower case, letters and digits only.
    pub(crate) folded: String,
    /// The text in parentheses, which may be a unit: `eth` of `Value_IN(ETH)`.
    pub(crate) unit: Option<String>,
}

impl Name {
    /// Reads a name, or its meaning by `--map`, which states no unit.
    pub(crate) fn of(name: &str, mappings: &[Mapping]) -> Self {
        if let Some(mapping) = mappings.iter().find(|mapping| mapping.column == name) {
            return Self { folded: mapping.field.clone(), unit: None };
        }
        if !name.contains('(') {
            let folded = name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
            return Self { folded, unit: None };
        }
        let lower = name.to_lowercase();
        let (head, rest) = lower.split_once('(').unwrap_or((&lower, ""));
        let (inner, tail) = rest.split_once(')').unwrap_or((rest, ""));
        let letters = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).collect::<String>();
        let word = if inner.contains('$') { "usd".to_owned() } else { letters(inner) };
        // A time zone and a currency make another column.
        let is_name = word.starts_with("utc") || FIAT.contains(&word.as_str());
        let kept = if word.starts_with("utc") { "utc" } else { &word };
        let folded = format!("{}{}{}", letters(head), if is_name { kept } else { "" }, letters(tail));
        Self { folded, unit: Some(inner.trim().to_owned()).filter(|unit| !is_name && !unit.is_empty()) }
    }
}

/// Folds a name: lower case, letters and digits only, without a unit in parentheses.
pub(crate) fn fold(name: &str) -> String {
    Name::of(name, &[]).folded
}

/// Returns the folded names of a file's columns, renamed by `--map`.
pub(crate) fn folded(names: &[&str], mappings: &[Mapping]) -> Vec<String> {
    names.iter().map(|name| Name::of(name, mappings).folded).collect()
}

/// Returns the keys of a JSON object that no column has.
pub(crate) fn unused_keys(line: &str, columns: &[Column], mappings: &[Mapping]) -> Vec<String> {
    let is_unused = |key: &String| {
        let name = Name::of(key, mappings).folded;
        !columns.iter().any(|column| column.is_named(&name))
    };
    keys(line).into_iter().filter(is_unused).collect()
}

/// A JSON object as the values of columns.
pub(crate) struct JsonRow<'a, const N: usize> {
    values: [Option<&'a RawValue>; N],
    /// Units that the keys state.
    units: [Option<String>; N],
    /// Further values of columns whose values must agree.
    others: Vec<(usize, &'a RawValue)>,
    names: [&'static str; N],
    /// Some columns are within an object of their own.
    has_parts: bool,
}

impl<'a, const N: usize> JsonRow<'a, N> {
    /// Reads one object.
    ///
    /// # Errors
    /// [`LineError::Json`], also for a key that occurs twice.
    pub(crate) fn parse(line: &'a str, columns: &[Column; N], mappings: &[Mapping]) -> Result<Self, LineError> {
        let mut deserializer = serde_json::Deserializer::from_str(line);
        let invalid = |error: serde_json::Error| LineError::Json { message: error.to_string() };
        let row = Row { columns, mappings }.deserialize(&mut deserializer).map_err(invalid)?;
        deserializer.end().map_err(invalid)?;
        Ok(row)
    }

    /// Returns true if the object has a key of the column, even with null.
    pub(crate) fn has(&self, index: usize) -> bool {
        self.values.get(index).is_some_and(Option::is_some)
    }

    /// Returns true for a trace of a node, whose columns are in an object of their own.
    pub(crate) const fn has_parts(&self) -> bool {
        self.has_parts
    }

    /// Returns the unit that the key of a column states.
    pub(crate) fn unit(&self, index: usize) -> Option<&str> {
        self.units.get(index)?.as_deref()
    }

    /// Returns the texts of the values.
    ///
    /// # Errors
    /// [`LineError::Json`] for an invalid escape, [`LineError::Contradiction`] for two values of
    /// one fact.
    pub(crate) fn texts(&self) -> Result<[JsonText<'a>; N], LineError> {
        let mut texts = [const { JsonText::NULL }; N];
        for ((text, value), name) in texts.iter_mut().zip(self.values).zip(self.names) {
            *text = if name.ends_with("address") { JsonText::of_party(value)? } else { JsonText::of(value)? };
        }
        for (index, value) in &self.others {
            let (Some(text), Some(name)) = (texts.get_mut(*index), self.names.get(*index)) else { continue };
            let other =
                if name.ends_with("address") { JsonText::of_party(Some(value))? } else { JsonText::of(Some(value))? };
            match (text.get(), other.get()) {
                (None, Some(_)) => *text = other,
                (Some(one), Some(other)) if !agree(one, other) => return Err(LineError::two_values(name, one, other)),
                _ => {}
            }
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
    type Value = JsonRow<'de, N>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Row<'_, N> {
    type Value = JsonRow<'de, N>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let names = self.columns.each_ref().map(|column| column.name);
        let row =
            JsonRow { values: [None; N], units: [const { None }; N], others: Vec::new(), names, has_parts: false };
        let mut found = Found { columns: self.columns, ranks: [usize::MAX; N], row };
        while let Some(Key(key)) = map.next_key::<Key<'de>>()? {
            let value: &'de RawValue = map.next_value()?;
            let name = Name::of(&key, self.mappings);
            if PARTS.contains(&name.folded.as_str()) && value.get().starts_with('{') {
                found.row.has_parts |= name.folded == PARTS[0];
                let mut part = serde_json::Deserializer::from_str(value.get());
                let values = Part { name: &name.folded, mappings: self.mappings, found: &mut found };
                values.deserialize(&mut part).map_err(serde::de::Error::custom)?;
                continue;
            }
            found.take(&key, name, value)?;
        }
        Ok(found.row)
    }
}

/// The columns that an object has shown.
struct Found<'c, 'de, const N: usize> {
    columns: &'c [Column; N],
    /// Places of the names that were read among those of their columns.
    ranks: [usize; N],
    row: JsonRow<'de, N>,
}

impl<'de, const N: usize> Found<'_, 'de, N> {
    /// Takes the value of a key, if a column has its name.
    fn take<E: serde::de::Error>(&mut self, key: &str, name: Name, value: &'de RawValue) -> Result<(), E> {
        for (index, column) in self.columns.iter().enumerate() {
            let Some(position) = column.names.iter().position(|known| *known == name.folded) else { continue };
            let row = &mut self.row;
            let (slot, unit, rank) = (&mut row.values[index], &mut row.units[index], &mut self.ranks[index]);
            if position == *rank {
                return Err(E::custom(format_args!("key {key:?} occurs twice")));
            }
            let mut value = Some(value);
            if position < *rank {
                *rank = position;
                *unit = name.unit;
                std::mem::swap(slot, &mut value);
            }
            if let Some(value) = value.filter(|_| column.must_agree()) {
                row.others.push((index, value));
            }
            break;
        }
        Ok(())
    }
}

/// Deserializes an object within an object, whose name stands before the names of its keys.
struct Part<'p, 'c, 'de, const N: usize> {
    name: &'p str,
    mappings: &'p [Mapping],
    found: &'p mut Found<'c, 'de, N>,
}

impl<'de, const N: usize> DeserializeSeed<'de> for Part<'_, '_, 'de, N> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Part<'_, '_, 'de, N> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = map.next_key::<Key<'de>>()? {
            let value: &'de RawValue = map.next_value()?;
            let name = Name::of(&format!("{}_{key}", self.name), self.mappings);
            self.found.take(&key, name, value)?;
        }
        Ok(())
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

/// Returns the keys of a JSON object, those of a node's trace with the name of their part; none if
/// it is not an object.
pub(crate) fn keys(line: &str) -> Vec<String> {
    let object = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(line).unwrap_or_default();
    let names = object.into_iter().flat_map(|(key, value)| match value {
        serde_json::Value::Object(part) if PARTS.contains(&key.as_str()) => {
            part.into_iter().map(|(inner, _)| format!("{key}_{inner}")).collect()
        }
        _ => vec![key],
    });
    names.collect()
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
            ("Value (USD)", "valueusd"),
            ("Value ($)", "valueusd"),
            ("Value (ETH) of it", "valueofit"),
        ] {
            assert_eq!(fold(name), folded);
        }
        let mapping: Mapping = "Height=block_number".parse().unwrap();
        assert_eq!(folded(&["Height", "x"], &[mapping]), ["blocknumber", "x"]);
        assert!("Height".parse::<Mapping>().is_err());
    }

    #[test]
    fn a_unit_in_parentheses_is_kept_unless_the_column_is_mapped() {
        let unit = |name: &str| Name::of(name, &["Worth (X)=value".parse().unwrap()]).unit;
        assert_eq!(unit("Value_IN(ETH)").as_deref(), Some("eth"));
        assert_eq!(unit("Gas Price ( Gwei )").as_deref(), Some("gwei"));
        assert_eq!(
            [unit("Value (USD)"), unit("DateTime (UTC)"), unit("Worth (X)"), unit("value()")],
            [const { None }; 4]
        );
        let row = JsonRow::parse(r#"{"Value_IN(Gwei)": 1}"#, &COLUMNS, &[]).unwrap();
        assert_eq!((row.unit(0), row.unit(1)), (None, Some("gwei")));
    }

    #[test]
    fn keys_within_a_trace_of_a_node_are_columns() {
        let columns = [Column { name: "to_address", names: &["toaddress", "actionto"] }, COLUMNS[0]];
        let line = r#"{"action": {"to": "b", "value": "0x1"}, "blockNumber": 5, "result": {"output": "0x"}}"#;
        let row = JsonRow::parse(line, &columns, &[]).unwrap();
        assert!(row.has_parts() && row.has(0));
        assert_eq!(row.texts().unwrap().each_ref().map(JsonText::get), [Some("b"), Some("5")]);
        assert_eq!(unused_keys(line, &columns, &[]), ["action_value", "result_output"]);
        let plain = JsonRow::parse(r#"{"result": "success", "toAddress": null}"#, &columns, &[]).unwrap();
        assert!(!plain.has_parts());
        assert!(JsonRow::parse(r#"{"action": {"to": 1, "to": 2}}"#, &columns, &[]).is_err());
    }

    #[test]
    fn an_address_may_be_in_an_object() {
        let columns = [Column { name: "from_address", names: &["from"] }, COLUMNS[0]];
        let text = |line: &str| {
            let row = JsonRow::parse(line, &columns, &[]).unwrap();
            row.texts().map(|texts| texts[0].get().map(str::to_owned)).map_err(|error| error.to_string())
        };
        assert_eq!(text(r#"{"from": {"hash": "0x12", "is_contract": true}}"#), Ok(Some("0x12".to_owned())));
        assert_eq!(text(r#"{"from": {"address": "0x34"}}"#), Ok(Some("0x34".to_owned())));
        assert_eq!(text(r#"{"from": null}"#), Ok(None));
        assert!(text(r#"{"from": {"name": "x"}}"#).unwrap_err().contains("from_address"));
    }

    #[test]
    fn names_of_one_fact_must_agree() {
        let texts = |line: &str| {
            let row = JsonRow::parse(line, &COLUMNS, &[]).unwrap();
            row.texts().map(|texts| texts[0].get().map(str::to_owned)).map_err(|error| error.to_string())
        };
        assert_eq!(texts(r#"{"blockNo": "0x10", "block_number": 16}"#), Ok(Some("16".to_owned())));
        assert_eq!(texts(r#"{"blockNo": 3, "block_number": null}"#), Ok(Some("3".to_owned())));
        assert!(texts(r#"{"blockNo": 1, "block_number": 2}"#).unwrap_err().contains("contradict"));
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
