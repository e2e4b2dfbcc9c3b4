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

/// A setting: its name, the reading of its environment variable (`ARX_` and the name in upper case), and its meaning.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) meaning: &'static str,
}

const fn text(name: &'static str, meaning: &'static str) -> Setting {
    Setting { name, kind: Kind::Text, meaning }
}

const fn texts(name: &'static str, meaning: &'static str) -> Setting {
    Setting { name, kind: Kind::Texts, meaning }
}

const fn value(name: &'static str, meaning: &'static str) -> Setting {
    Setting { name, kind: Kind::Value, meaning }
}

pub(super) const SETTINGS: [Setting; 22] = [
    text("postgres_url", "PostgreSQL: a URL or libpq's `key=value` pairs"),
    text("postgres_read_url", "PostgreSQL to read transactions from, such as a hot standby; without it `postgres_url`"),
    text(
        "clickhouse_url",
        "HTTP interface of ClickHouse; without it the sidecar starts and supervises the embedded engine",
    ),
    text("clickhouse_database", "database in ClickHouse"),
    text("clickhouse_user", "user in the ClickHouse of `clickhouse_url`"),
    text("clickhouse_password", "password of that user"),
    text("clickhouse_cluster", "name of the ClickHouse cluster that holds the tables; without it a single server"),
    value(
        "clickhouse_replicated",
        "true if the cluster's shards have replicas (`Replicated` engines, DDL by `ON CLUSTER`)",
    ),
    texts("clickhouse_shards", "HTTP interface of one server of each shard of the cluster"),
    text(
        "clickhouse_storage_policy",
        "storage policy with the volumes hot, warm and cold; the embedded engine has one",
    ),
    value(
        "clickhouse_delete_after_days",
        "days after which ClickHouse deletes data (the specification's 7 years are 2557); without it never",
    ),
    text("redis_url", "Redis"),
    text("data_dir", "directory of the embedded engine"),
    text("listen", "`host:port` of `/metrics` and `/healthz`, or `none`"),
    value(
        "feed_interval_milliseconds",
        "time from the beginning of a feed pass to that of the next while there are rows to feed",
    ),
    value("feed_idle_milliseconds", "the same while there is nothing to feed; at least `feed_interval_milliseconds`"),
    value("feed_chunk_rows", "rows of a chunk of the feed, at most 1,000,000"),
    value(
        "feed_load_workers",
        "connections that read in parallel during a first load, 1 to 64; each needs about 150 MB",
    ),
    value("write_back_seconds", "time between two write-backs of volumes into PostgreSQL"),
    value("behaviour_seconds", "time between two write-backs of the behaviour of wallets"),
    value(
        "write_back_daily",
        "true if `arx.daily_transaction_stats` comes from ClickHouse; otherwise the database computes it",
    ),
    value("profile_ttl_seconds", "lifetime of a cached profile, plus or minus a tenth; at least 10"),
];

/// What the environment says.
#[derive(Debug, Clone, Default)]
pub struct Environment(pub(super) Dict);

impl Environment {
    /// By a function that looks a variable up. An empty variable says nothing.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let given = SETTINGS.iter().filter_map(|Setting { name, kind, .. }| {
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
