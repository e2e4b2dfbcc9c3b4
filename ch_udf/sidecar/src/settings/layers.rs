//! Layers over the defaults: environment variables and command line flags.

use std::path::PathBuf;

use clap::Args;
use figment::Figment;
use figment::providers::Serialized;
use figment::value::{Dict, Value};
use serde::Serialize;

use super::Settings;
use super::types::ServerUrl;

/// Settings that flags may override; an absent one leaves the layers below as they are.
#[derive(Debug, Clone, Default, Args, Serialize)]
pub(crate) struct Overrides {
    /// PostgreSQL: URL or key=value pairs [env: ARX_POSTGRES_URL] [default:
    /// host=/var/run/postgresql dbname=postgres]
    #[arg(long = "postgres", global = true, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres_url: Option<ServerUrl>,
    /// ClickHouse's HTTP URL [env: ARX_CLICKHOUSE_URL] [default: an embedded engine in the data
    /// directory]
    #[arg(long = "clickhouse", global = true, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clickhouse_url: Option<ServerUrl>,
    /// User of that ClickHouse [env: ARX_CLICKHOUSE_USER; password: ARX_CLICKHOUSE_PASSWORD]
    #[arg(long, global = true, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clickhouse_user: Option<String>,
    /// Redis URL [env: ARX_REDIS_URL] [default: redis://127.0.0.1:6379]
    #[arg(long = "redis", global = true, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis_url: Option<ServerUrl>,
    /// Folder of the embedded engine [env: ARX_DATA_DIR] [default: ./arx-data]
    #[arg(long, global = true, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// Address of /healthz and /metrics of `run`: host:port (port 0 takes a free one) or none [env:
    /// ARX_LISTEN] [default: 127.0.0.1:9187]
    #[arg(long, global = true, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
}

/// Settings that the environment gives: each in the variable `ARX_` and its name in upper case.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment(pub(super) Dict);

impl Environment {
    /// Reads every setting with a function that looks up a variable. Empty variables count as
    /// absent.
    pub(crate) fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let layer = defaults().into_iter().filter_map(|(name, default)| {
            let text = variable(&format!("ARX_{}", name.to_uppercase())).filter(|text| !text.is_empty())?;
            Some((name, typed_as(&default, text)))
        });
        Self(layer.collect())
    }
}

/// Returns every setting with its default value.
pub(super) fn defaults() -> Dict {
    // The defaults are plain values: reading them back cannot fail.
    Figment::from(Serialized::defaults(Settings::default())).extract().unwrap_or_default()
}

/// Types a variable as its setting's default is typed; text that does not parse stays text and
/// fails with the setting's name. A text setting stays text: figment's own provider would read a
/// password of digits as a number.
fn typed_as(default: &Value, text: String) -> Value {
    match default {
        Value::Num(..) => text.parse::<u64>().map_or_else(|_| Value::from(text), Value::from),
        Value::Bool(..) => text.parse::<bool>().map_or_else(|_| Value::from(text), Value::from),
        Value::Array(..) => Value::from(text.split(',').map(str::trim).collect::<Vec<_>>()),
        Value::String(..) | Value::Char(..) | Value::Empty(..) | Value::Dict(..) => Value::from(text),
    }
}
