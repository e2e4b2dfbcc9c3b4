//! The settings as documents list them.

use super::{DECLARED, Settings};
use crate::settings::layers::flag_of;

/// A setting as documents list it.
#[derive(Debug, Clone)]
pub struct SettingReference {
    /// Key in the TOML file.
    pub name: &'static str,
    /// Unit of a number; empty for other values.
    pub unit: &'static str,
    /// Default as text; empty without one.
    pub default: String,
    /// Values that are possible.
    pub range: String,
    /// Flag that sets it, if there is one. The file and the environment set every setting.
    pub flag: Option<String>,
    /// When a change takes effect.
    pub effect: &'static str,
    /// Meaning, without a full stop.
    pub meaning: &'static str,
}

/// Returns every setting with its default and its meaning.
#[must_use]
pub fn reference() -> Vec<SettingReference> {
    let defaults = serde_json::to_value(Settings::default()).unwrap_or_default();
    let default = |name: &str| match name {
        // It depends on the machine.
        "feed_load_workers" => "processors + 1, from 2 to 8".to_owned(),
        _ => match defaults.get(name) {
            None | Some(serde_json::Value::Null) => String::new(),
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(serde_json::Value::Array(list)) if list.is_empty() => String::new(),
            Some(value) => value.to_string(),
        },
    };
    DECLARED
        .iter()
        .map(|(name, meaning, values)| SettingReference {
            name,
            unit: values.unit(),
            default: default(name),
            range: values.range(),
            flag: flag_of(name),
            effect: effect(name),
            meaning: meaning.trim_start(),
        })
        .collect()
}

/// Settings are read once, at the start. The content of files of TLS and of tokens is read again.
fn effect(name: &str) -> &'static str {
    match name {
        "listen_certificate_file" | "listen_key_file" | "listen_token_file" => "a restart; content: at once",
        _ if ["_root_file", "_certificate_file", "_key_file"].iter().any(|end| name.ends_with(end)) => {
            "a restart; content: the next connection"
        }
        _ => "a restart",
    }
}
