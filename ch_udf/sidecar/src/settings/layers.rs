//! Layers over the defaults: environment variables and command line flags.

use std::convert::Infallible;
use std::path::PathBuf;

use clap::Args;
use figment::Figment;
use figment::providers::Serialized;
use figment::value::{Dict, Value};
use secrecy::{ExposeSecret, SecretString};

use super::Settings;
use super::postgres::{Libpq, PostgresUrl};
use super::server_url::{ClickHouse, Redis, ServerKind, ServerUrl};

/// Settings that flags may override; an absent one leaves the layers below as they are.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Overrides {
    /// PostgreSQL: URL or key=value pairs [env: ARX_POSTGRES_URL, and libpq's PG*] [default:
    /// host=/var/run/postgresql dbname=postgres]
    #[arg(long = "postgres", global = true, value_name = "URL", value_parser = secret)]
    pub postgres_url: Option<SecretString>,
    /// ClickHouse's HTTP URL [env: ARX_CLICKHOUSE_URL] [default: an embedded engine in the data
    /// directory]
    #[arg(long = "clickhouse", global = true, value_name = "URL", value_parser = secret)]
    pub clickhouse_url: Option<SecretString>,
    /// User of that ClickHouse [env: ARX_CLICKHOUSE_USER; password: ARX_CLICKHOUSE_PASSWORD or the
    /// file ARX_CLICKHOUSE_PASSWORD_FILE]
    #[arg(long, global = true, value_name = "NAME")]
    pub clickhouse_user: Option<String>,
    /// Redis URL [env: ARX_REDIS_URL] [default: redis://127.0.0.1:6379]
    #[arg(long = "redis", global = true, value_name = "URL", value_parser = secret)]
    pub redis_url: Option<SecretString>,
    /// Folder of the embedded engine [env: ARX_DATA_DIR] [default: ./arx-data]
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address of /healthz and /metrics of `run`: host:port (port 0 takes a free one) or none [env:
    /// ARX_LISTEN] [default: 127.0.0.1:9187]
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub listen: Option<String>,
}

fn secret(text: &str) -> Result<SecretString, Infallible> {
    Ok(text.into())
}

impl Overrides {
    /// Returns the given settings as a layer.
    pub(super) fn layer(&self) -> Dict {
        let secret = |text: &Option<SecretString>| text.as_ref().map(|text| text.expose_secret().to_owned());
        let values = [
            ("postgres_url", secret(&self.postgres_url)),
            ("clickhouse_url", secret(&self.clickhouse_url)),
            ("clickhouse_user", self.clickhouse_user.clone()),
            ("redis_url", secret(&self.redis_url)),
            ("data_dir", self.data_dir.as_ref().map(|path| path.to_string_lossy().into_owned())),
            ("listen", self.listen.clone()),
        ];
        values.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?)))).collect()
    }

    /// Returns the flags that contain a password. Other users can read it in the list of processes.
    pub(crate) fn flags_with_passwords(&self) -> Vec<&'static str> {
        let has = |flag, value: &Option<SecretString>, has_password: fn(&str) -> bool| {
            value.as_ref().is_some_and(|text| has_password(text.expose_secret())).then_some(flag)
        };
        let flags = [
            has("--postgres", &self.postgres_url, |text| PostgresUrl::parse(text).is_ok_and(|url| url.has_password())),
            has("--clickhouse", &self.clickhouse_url, has_password::<ClickHouse>),
            has("--redis", &self.redis_url, has_password::<Redis>),
        ];
        flags.into_iter().flatten().collect()
    }
}

fn has_password<K: ServerKind>(text: &str) -> bool {
    ServerUrl::<K>::parse(text).is_ok_and(|url| url.has_password())
}

/// Returns the flag that sets a setting, if there is one.
pub(super) fn flag_of(name: &str) -> Option<String> {
    let command = Overrides::augment_args(clap::Command::new("settings"));
    let argument = command.get_arguments().find(|argument| argument.get_id() == name)?;
    argument.get_long().map(|flag| format!("--{flag}"))
}

/// Settings that the environment gives: each in the variable `ARX_` and its name in upper case. The
/// variables of libpq say what the address of PostgreSQL leaves open.
#[derive(Clone, Default)]
pub(crate) struct Environment {
    pub(super) settings: Dict,
    pub(super) libpq: Libpq,
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment").field("settings", &self.settings.keys()).finish_non_exhaustive()
    }
}

impl Environment {
    /// Reads every setting with a function that looks up a variable. Empty variables count as
    /// absent.
    pub(crate) fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let present = |name: &str| variable(name).filter(|text| !text.is_empty());
        let layer = defaults().into_iter().filter_map(|(name, default)| {
            let text = present(&format!("ARX_{}", name.to_uppercase()))?;
            Some((name, typed_as(&default, text)))
        });
        Self { settings: layer.collect(), libpq: Libpq::read(present) }
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
