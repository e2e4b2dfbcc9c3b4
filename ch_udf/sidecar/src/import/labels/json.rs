//! Label lists in JSON: arrays of addresses or objects, objects by address, objects with such lists
//! in them, one object a line, and the entities of OpenSanctions.

use std::fmt;

use arx_core::address::{Currency, Network};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::error::RecordError;
use super::formats::{Reading, Sink};
use super::record::{Columns, Field, Record, StatedColumn};
use crate::import::ImportError;

/// Members that hold a list and do not name what is in it.
const CONTAINERS: [&str; 14] = [
    "data",
    "results",
    "result",
    "items",
    "addresses",
    "address",
    "labels",
    "wallets",
    "list",
    "blacklist",
    "entries",
    "rows",
    "tags",
    "records",
];

/// Reads a document, or several one after the other. Elements are read one at a time.
pub(super) fn json(reading: &mut Reading<'_>, sink: &mut dyn Sink) -> Result<(), ImportError> {
    let file = reading.file.to_owned();
    let columns = reading.columns.to_vec();
    let mut walker = Walker { columns: &columns, sink, number: 0, failure: None };
    let mut deserializer = serde_json::Deserializer::from_reader(&mut reading.content);
    loop {
        let document = Document { walker: &mut walker };
        let outcome = document.deserialize(&mut deserializer);
        if let Some(failure) = walker.failure.take() {
            return Err(failure);
        }
        if let Err(error) = outcome {
            if error.is_eof() && error.line() > 0 && walker.number == 0 || !error.is_eof() {
                return Err(ImportError::LabelList { file, message: format!("invalid JSON: {error}") });
            }
            // serde reports the end of the text where another document may begin.
            if deserializer.end().is_ok() {
                return Ok(());
            }
            let message = format!("the JSON ends in the middle: {error}");
            return Err(ImportError::LabelList { file, message });
        }
        if deserializer.end().is_ok() {
            return Ok(());
        }
    }
}

struct Walker<'a, 'b> {
    columns: &'a [StatedColumn],
    sink: &'b mut dyn Sink,
    number: u64,
    /// Error of the sink, which serde's errors cannot carry.
    failure: Option<ImportError>,
}

impl Walker<'_, '_> {
    /// Passes one value on. `defaults` are fields of the object around it, `name` is its key there.
    fn value(&mut self, value: &Value, defaults: &[(Field, String)], name: Option<&str>) -> Result<(), ImportError> {
        match value {
            Value::String(text) => {
                self.number += 1;
                let mut record = Record::new(self.number, value);
                defaults.iter().for_each(|(field, text)| record.set(*field, text.clone()));
                if let Some(name) = name {
                    record.set(Field::Label, name.to_owned());
                }
                record.set(Field::Address, text.clone());
                self.sink.record(record)
            }
            Value::Array(elements) => elements.iter().try_for_each(|element| self.value(element, defaults, name)),
            Value::Object(object) => self.object(object, value, defaults, name),
            Value::Null => Ok(()),
            Value::Bool(_) | Value::Number(_) => {
                self.number += 1;
                let fault = RecordError::Malformed("an element is neither an address nor an object".to_owned());
                self.sink.malformed(self.number, value, fault)
            }
        }
    }

    fn object(
        &mut self,
        object: &Map<String, Value>,
        whole: &Value,
        defaults: &[(Field, String)],
        name: Option<&str>,
    ) -> Result<(), ImportError> {
        if let (Some(Value::String(schema)), Some(Value::Object(properties))) =
            (object.get("schema"), object.get("properties"))
        {
            return self.entity(schema, properties, object, whole);
        }
        let names: Vec<&str> = object.keys().map(String::as_str).collect();
        let columns = Columns::assign(&names, self.columns);
        let member = |field: Field| columns.indexes[field.index()].and_then(|index| object.get(names[index]));
        // An object is a record if its address is a text or texts.
        let addresses = member(Field::Address).map(texts).unwrap_or_default();
        let is_list = addresses.len() > 1 || member(Field::Address).is_some_and(Value::is_array);
        if addresses.is_empty() && member(Field::Address).is_none_or(|value| !value.is_string()) {
            return self.container(object, defaults);
        }
        self.number += 1;
        columns.unused.iter().for_each(|index| self.sink.unused(names[*index]));
        for address in addresses {
            let mut record = Record::new(self.number, whole);
            for (field, text) in defaults {
                record.set(*field, text.clone());
            }
            if let Some(name) = name.filter(|_| is_list) {
                record.set(Field::Label, name.to_owned());
            }
            self.fill(&mut record, &columns, &names, object);
            record.values[Field::Address.index()] =
                Some(address.into()).filter(|text: &std::borrow::Cow<'_, str>| !text.is_empty());
            self.sink.record(record)?;
        }
        Ok(())
    }

    fn fill<'v>(&self, record: &mut Record<'v>, columns: &Columns, names: &[&str], object: &'v Map<String, Value>) {
        for (index, field) in (0..).zip(super::record::ALL) {
            let Some(name) = columns.indexes[index].map(|column| names[column]) else { continue };
            let Some(value) = object.get(name) else { continue };
            let several = matches!(field, Field::Category | Field::Abuse);
            let words = texts(value);
            let text = if several { words.join("|") } else { words.into_iter().next().unwrap_or_default() };
            let is_chain_id = field == Field::Network && !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            record.set(field, if is_chain_id { format!("eip155:{text}") } else { text });
        }
    }

    /// An object that is no record: by address, or with lists in its members.
    fn container(&mut self, object: &Map<String, Value>, defaults: &[(Field, String)]) -> Result<(), ImportError> {
        let names: Vec<&str> = object.keys().map(String::as_str).collect();
        let columns = Columns::assign(&names, self.columns);
        let (mut inherited, mut read) = (defaults.to_vec(), Vec::new());
        for (index, field) in (0..).zip(super::record::ALL) {
            if let Some(name) = columns.indexes[index].map(|column| names[column])
                && let Some(Value::String(text)) = object.get(name)
                && field != Field::Address
            {
                inherited.push((field, text.clone()));
                read.push(name);
            }
        }
        for (key, value) in object.iter().filter(|(key, _)| !read.contains(&key.as_str())) {
            self.member(key, value, &inherited)?;
        }
        Ok(())
    }

    /// A member of an object that is no record.
    fn member(&mut self, key: &str, value: &Value, defaults: &[(Field, String)]) -> Result<(), ImportError> {
        let is_container = CONTAINERS.contains(&key.to_ascii_lowercase().as_str());
        match value {
            Value::Array(_) if is_container => self.value(value, defaults, None),
            // Addresses by network.
            Value::Array(_) if is_network(key) => {
                let network = (Field::Currency, key.to_owned());
                self.value(value, &[defaults, &[network]].concat(), None)
            }
            Value::Array(_) => self.value(value, defaults, Some(key)),
            Value::Object(inner) if is_container || !self.sink.is_address(key) => {
                self.object(inner, value, defaults, None)
            }
            _ if self.sink.is_address(key) => self.by_address(key, value, defaults),
            _ => {
                self.sink.unused(key);
                Ok(())
            }
        }
    }

    /// `"0x…": "label"` or `"0x…": {…}`.
    fn by_address(&mut self, key: &str, value: &Value, defaults: &[(Field, String)]) -> Result<(), ImportError> {
        self.number += 1;
        let mut record = Record::new(self.number, value);
        defaults.iter().for_each(|(field, text)| record.set(*field, text.clone()));
        match value {
            Value::Object(object) => {
                let names: Vec<&str> = object.keys().map(String::as_str).collect();
                let columns = Columns::assign(&names, self.columns);
                columns.unused.iter().for_each(|index| self.sink.unused(names[*index]));
                self.fill(&mut record, &columns, &names, object);
            }
            Value::String(text) => record.set(Field::Label, text.clone()),
            _ => {}
        }
        record.set(Field::Address, key.to_owned());
        self.sink.record(record)
    }

    /// An entity of OpenSanctions: a wallet, or a holder with wallets nested in it.
    fn entity(
        &mut self,
        schema: &str,
        properties: &Map<String, Value>,
        entity: &Map<String, Value>,
        whole: &Value,
    ) -> Result<(), ImportError> {
        let property = |name: &str| properties.get(name).map(texts).unwrap_or_default();
        let datasets = entity.get("datasets").map(texts).unwrap_or_default();
        if schema == "CryptoWallet" {
            self.number += 1;
            for address in property("publicKey") {
                let mut record = Record::new(self.number, whole);
                record.set(Field::Address, address);
                record.set(Field::Currency, property("currency").into_iter().next().unwrap_or_default());
                record.set(Field::Category, property("topics").join("|"));
                let name = property("name").into_iter().chain(entity.get("caption").map(texts).unwrap_or_default());
                record.set(Field::Label, name.into_iter().next().unwrap_or_default());
                record.set(Field::Source, datasets.first().cloned().unwrap_or_default());
                record.set(Field::ValidFrom, property("createdAt").into_iter().next().unwrap_or_default());
                self.sink.record(record)?;
            }
            return Ok(());
        }
        let wallets = properties.get("cryptoWallets").and_then(Value::as_array).cloned().unwrap_or_default();
        if wallets.is_empty() {
            self.sink.skip("entry without an address");
        }
        for mut wallet in wallets {
            // The wallet is what its holder is.
            if let Some(inner) = wallet.get_mut("properties").and_then(Value::as_object_mut) {
                for name in ["topics", "name"] {
                    if !inner.contains_key(name)
                        && let Some(value) = properties.get(name)
                    {
                        inner.insert(name.to_owned(), value.clone());
                    }
                }
            }
            if wallet.get("datasets").is_none() {
                wallet["datasets"] = datasets.clone().into();
            }
            self.value(&wallet, &[], None)?;
        }
        Ok(())
    }
}

/// Returns true for the name of a network or the symbol of a coin.
fn is_network(key: &str) -> bool {
    Network::parse_written(key).is_ok_and(|network| network.is_listed()) || Currency::parse(key).is_some()
}

/// Returns the texts of a value: of a text or number itself, of an array those of its elements.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Number(number) => vec![number.to_string()],
        Value::Bool(flag) => vec![flag.to_string()],
        Value::Array(elements) => elements.iter().filter(|element| !element.is_object()).flat_map(texts).collect(),
        Value::Null | Value::Object(_) => Vec::new(),
    }
}

/// A document whose elements are passed on while it is read.
struct Document<'a, 'b, 'c> {
    walker: &'a mut Walker<'b, 'c>,
}

impl<'de> DeserializeSeed<'de> for Document<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Document<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array or an object")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(value) = elements.next_element::<Value>()? {
            if let Err(failure) = self.walker.value(&value, &[], None) {
                self.walker.failure = Some(failure);
                return Err(serde::de::Error::custom("stopped"));
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let mut rest = Map::new();
        while let Some((key, value)) = members.next_entry::<String, Value>()? {
            // Lists by address may be long; everything else is read as a whole.
            if rest.is_empty() && self.walker.sink.is_address(&key) {
                if let Err(failure) = self.walker.member(&key, &value, &[]) {
                    self.walker.failure = Some(failure);
                    return Err(serde::de::Error::custom("stopped"));
                }
            } else {
                rest.insert(key, value);
            }
        }
        if !rest.is_empty() {
            let whole = Value::Object(rest);
            if let Err(failure) = self.walker.value(&whole, &[], None) {
                self.walker.failure = Some(failure);
                return Err(serde::de::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}
