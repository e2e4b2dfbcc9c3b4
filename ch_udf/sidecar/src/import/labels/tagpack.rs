//! Tag packs of GraphSense: YAML whose tags inherit the fields of the pack.

use std::fmt;
use std::io::Read;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::formats::{Reading, Sink};
use super::record::{Field, Record};
use crate::import::ImportError;

/// Larger packs are refused: YAML is read as a whole.
const MAX_BYTES: u64 = 256 << 20;

/// Fields of a pack or of a tag; texts as they are written, because `0x…` is a number in YAML.
#[derive(Debug, Default)]
struct Tag {
    values: Vec<(Field, String)>,
    address: Option<String>,
    tags: Vec<Tag>,
    unused: Vec<String>,
}

impl Tag {
    /// Adds a value; concepts and category are words of one level.
    fn push(&mut self, field: Field, text: String) {
        match self.values.iter_mut().find(|(other, _)| *other == field && field == Field::Category) {
            Some((_, words)) => *words = format!("{words}|{text}"),
            None => self.values.push((field, text)),
        }
    }
}

impl<'de> Deserialize<'de> for Tag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Tag;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the fields of a tag pack or of a tag")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Tag, A::Error> {
                let mut tag = Tag::default();
                while let Some(key) = members.next_key::<String>()? {
                    let field = match key.as_str() {
                        "address" => {
                            tag.address = members.next_value::<Option<String>>()?;
                            continue;
                        }
                        "tags" => {
                            tag.tags = members.next_value::<Option<Vec<Tag>>>()?.unwrap_or_default();
                            continue;
                        }
                        "concepts" => {
                            let words = members.next_value::<Option<Vec<String>>>()?.unwrap_or_default();
                            tag.push(Field::Category, words.join("|"));
                            continue;
                        }
                        "currency" => Field::Currency,
                        "network" => Field::Network,
                        "category" => Field::Category,
                        "abuse" => Field::Abuse,
                        "label" => Field::Label,
                        "source" => Field::Source,
                        "confidence" => Field::Confidence,
                        "valid_from" | "date" => Field::ValidFrom,
                        "valid_to" => Field::ValidTo,
                        _ => {
                            members.next_value::<IgnoredAny>()?;
                            tag.unused.push(key);
                            continue;
                        }
                    };
                    let text = members.next_value::<Option<String>>()?.unwrap_or_default();
                    tag.push(field, text);
                }
                Ok(tag)
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

/// Reads a tag pack.
pub(super) fn tagpack(reading: &mut Reading<'_>, sink: &mut dyn Sink) -> Result<(), ImportError> {
    let file = reading.file.to_owned();
    let fault = |message: String| ImportError::LabelList { file: file.clone(), message };
    let mut text = String::new();
    let read = (&mut reading.content).take(MAX_BYTES + 1).read_to_string(&mut text);
    let bytes = read.map_err(|source| ImportError::Read { file: file.clone(), source })?;
    if bytes as u64 > MAX_BYTES {
        return Err(fault(format!("a tag pack may have at most {} MB", MAX_BYTES >> 20)));
    }
    let mut options = serde_saphyr::Options::default();
    if let Some(budget) = &mut options.budget {
        // A tag has some 20 events. The text bounds the memory, since aliases are few.
        budget.max_events = 200_000_000;
        budget.max_nodes = 100_000_000;
        budget.max_total_scalar_bytes = usize::try_from(MAX_BYTES).unwrap_or(usize::MAX);
        budget.max_aliases = 1000;
        budget.max_anchors = 1000;
    }
    let pack: Tag = serde_saphyr::from_str_with_options(&text, options).map_err(|error| {
        fault(format!("is not a tag pack: {}", error.to_string().lines().next().unwrap_or_default()))
    })?;
    if pack.tags.is_empty() {
        return Err(fault("the tag pack has no tags".to_owned()));
    }
    pack.unused.iter().for_each(|name| sink.unused(name));
    for (number, tag) in (1..).zip(&pack.tags) {
        tag.unused.iter().for_each(|name| sink.unused(name));
        let shown = format!("tag {number}: {}", tag.address.as_deref().unwrap_or("no address"));
        let mut record = Record::new(number, &shown);
        for (field, value) in pack.values.iter().chain(&tag.values) {
            record.set(*field, value.as_str());
        }
        record.has_category = true;
        record.set(Field::Address, tag.address.as_deref().unwrap_or_default());
        sink.record(record)?;
    }
    Ok(())
}
