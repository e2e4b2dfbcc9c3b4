//! What flags and environment variables say.

use std::path::PathBuf;

use figment::value::{Dict, Value};
use serde::Serialize;

use super::types::ServerUrl;

/// Settings given by flags; what is absent stays as it was.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Overrides {
    /// See [`Settings::postgres_url`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres_url: Option<ServerUrl>,
    /// See [`Settings::clickhouse_url`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clickhouse_url: Option<ServerUrl>,
    /// See [`Settings::clickhouse_user`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clickhouse_user: Option<String>,
    /// See [`Settings::redis_url`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis_url: Option<ServerUrl>,
    /// See [`Settings::data_dir`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// See [`Settings::listen`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
}

/// How the value of an environment variable is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// As it is: a password of digits is no number.
    Text,
    /// Texts between commas.
    Texts,
    /// As TOML reads it.
    Value,
}

/// Every setting, and how the environment gives it: `ARX_` and its name in upper case.
pub(super) const SETTINGS: [(&str, Kind); 22] = [
    ("postgres_url", Kind::Text),
    ("postgres_read_url", Kind::Text),
    ("clickhouse_url", Kind::Text),
    ("clickhouse_database", Kind::Text),
    ("clickhouse_user", Kind::Text),
    ("clickhouse_password", Kind::Text),
    ("clickhouse_cluster", Kind::Text),
    ("clickhouse_replicated", Kind::Value),
    ("clickhouse_shards", Kind::Texts),
    ("clickhouse_storage_policy", Kind::Text),
    ("clickhouse_delete_after_days", Kind::Value),
    ("redis_url", Kind::Text),
    ("data_dir", Kind::Text),
    ("listen", Kind::Text),
    ("feed_interval_milliseconds", Kind::Value),
    ("feed_idle_milliseconds", Kind::Value),
    ("feed_chunk_rows", Kind::Value),
    ("feed_load_workers", Kind::Value),
    ("write_back_seconds", Kind::Value),
    ("behaviour_seconds", Kind::Value),
    ("write_back_daily", Kind::Value),
    ("profile_ttl_seconds", Kind::Value),
];

/// What the environment says.
#[derive(Debug, Clone, Default)]
pub struct Environment(pub(super) Dict);

impl Environment {
    /// By a function that looks a variable up. An empty variable says nothing.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let given = SETTINGS.iter().filter_map(|(name, kind)| {
            let text = variable(&format!("ARX_{}", name.to_uppercase())).filter(|text| !text.is_empty())?;
            let value = match kind {
                Kind::Text => Value::from(text),
                Kind::Texts => Value::from(text.split(',').map(str::trim).collect::<Vec<_>>()),
                Kind::Value => text.parse().unwrap_or_else(|never: std::convert::Infallible| match never {}),
            };
            Some(((*name).to_owned(), value))
        });
        Self(given.collect())
    }
}
