//! Settings: defaults, then a TOML file, then the environment (`ARX_*`), then command line flags;
//! the later layer wins. Owns names, defaults and limits.

mod layers;
mod passwords;
mod server_url;
mod types;

use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::Figment;
use figment::error::Kind;
use figment::providers::{Format, Serialized, Toml};
use figment::value::Dict;
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{DoingTo, SidecarError};
pub(crate) use layers::Environment;
pub(crate) use layers::Overrides;
use passwords::read_password;
pub(crate) use server_url::{ClickHouseUrl, PostgresUrl};
pub(crate) use server_url::{RedisUrl, ServerUrl};
pub(crate) use types::Listen;

/// Declares the settings: each with its meaning, which documents list, its type and its default.
macro_rules! settings {
    ($(
        $(#[doc = $meaning:literal])+
        $(#[serde($serde:meta)])?
        $name:ident: $type:ty = $default:expr;
    )+) => {
        /// The settings of the sidecar. `Serialize` lists them with their defaults; it never writes
        /// a secret.
        #[derive(Debug, Clone, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct Settings {
            $($(#[doc = $meaning])+ $(#[serde($serde)])? pub(crate) $name: $type,)+
        }

        impl Default for Settings {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        const MEANINGS: &[(&str, &str)] = &[$((stringify!($name), concat!($($meaning),+)),)+];
    };
}

settings! {
    /// PostgreSQL: a URL or libpq's `key=value` pairs
    postgres_url: PostgresUrl = ServerUrl::known("host=/var/run/postgresql dbname=postgres");
    /// PostgreSQL to read transactions from, such as a hot standby; without it `postgres_url`
    postgres_read_url: Option<PostgresUrl> = None;
    /// file with the password for both; without it `PGPASSWORD`, or libpq's password file
    /// (`PGPASSFILE`, `~/.pgpass`)
    postgres_password_file: Option<PathBuf> = None;
    /// HTTP interface of ClickHouse; without it the sidecar starts and supervises the embedded
    /// engine
    clickhouse_url: Option<ClickHouseUrl> = None;
    /// database in ClickHouse
    clickhouse_database: String = "arx".into();
    /// user in the ClickHouse of `clickhouse_url`
    clickhouse_user: String = "default".into();
    /// password of that user
    #[serde(serialize_with = "omit_secret")]
    clickhouse_password: Option<SecretString> = None;
    /// file with that password
    clickhouse_password_file: Option<PathBuf> = None;
    /// name of the ClickHouse cluster that holds the tables; without it a single server
    clickhouse_cluster: Option<String> = None;
    /// true if the cluster's shards have replicas (`Replicated` engines, DDL by `ON CLUSTER`)
    clickhouse_replicated: bool = true;
    /// HTTP interface of one server of each shard of the cluster
    clickhouse_shards: Vec<ClickHouseUrl> = Vec::new();
    /// storage policy with the volumes hot, warm and cold; the embedded engine has one
    clickhouse_storage_policy: Option<String> = None;
    /// days after which ClickHouse deletes data (the specification's 7 years are 2557); without it
    /// never
    #[serde(deserialize_with = "days_or_text")]
    clickhouse_delete_after_days: Option<u32> = None;
    /// true if ClickHouse syncs its files before a position is confirmed (privilege
    /// `SYSTEM SYNC FILE CACHE`); false for storage that needs no sync, such as object storage
    clickhouse_sync: bool = true;
    /// identity of the database whose tables in ClickHouse this one may replace, as the error names
    /// it; has no effect on tables of any other
    clickhouse_take_over_from: Option<String> = None;
    /// Redis
    redis_url: RedisUrl = ServerUrl::known("redis://127.0.0.1:6379");
    /// file with the password for Redis
    redis_password_file: Option<PathBuf> = None;
    /// directory of the embedded engine
    data_dir: PathBuf = PathBuf::from("./arx-data");
    /// `host:port` of `/metrics` and `/healthz`, or `none`
    listen: String = "127.0.0.1:9187".into();
    /// time from the beginning of a feed pass to that of the next while there are rows to feed
    feed_interval_milliseconds: u64 = 700;
    /// the same while there is nothing to feed; at least `feed_interval_milliseconds`
    feed_idle_milliseconds: u64 = 700;
    /// rows of a chunk of the feed, at most 1,000,000
    feed_chunk_rows: u32 = 200_000;
    /// connections that read in parallel during a first load, 1 to 64; each needs about 150 MB
    feed_load_workers: u32 = (processors() + 1).clamp(2, 8);
    /// time between two write-backs of volumes into PostgreSQL
    write_back_seconds: u64 = 5;
    /// time between two write-backs of the behaviour of wallets
    behaviour_seconds: u64 = 60;
    /// true if `arx.daily_transaction_stats` comes from ClickHouse; otherwise the database computes
    /// it
    write_back_daily: bool = false;
    /// lifetime of a cached profile, plus or minus a tenth; at least 10
    profile_ttl_seconds: u64 = 300;
}

/// A setting as documents list it.
#[derive(Debug, Clone)]
pub struct SettingReference {
    /// Key in the TOML file.
    pub name: &'static str,
    /// Default as text; empty without one.
    pub default: String,
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
    MEANINGS
        .iter()
        .map(|(name, meaning)| SettingReference { name, default: default(name), meaning: meaning.trim_start() })
        .collect()
}

fn omit_secret<S: Serializer>(_: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_none()
}

/// Reads a number of days, also from text: the default is absent, so the environment cannot know
/// the type.
fn days_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Days {
        Number(u32),
        Text(String),
    }
    match Option::<Days>::deserialize(deserializer)? {
        None => Ok(None),
        Some(Days::Number(days)) => Ok(Some(days)),
        Some(Days::Text(text)) => text.parse().map(Some).map_err(serde::de::Error::custom),
    }
}

/// Describes an error by the setting and, if a file gives it, the file. The value of a setting that
/// may contain a password is left out.
fn describe(error: &figment::Error, file: Option<&Path>) -> String {
    let setting = error.path.join(".");
    let is_secret = ["_url", "_password", "clickhouse_shards"].iter().any(|part| setting.contains(part));
    let problem = match &error.kind {
        Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) if is_secret => {
            format!("invalid value, expected {expected}")
        }
        kind => kind.to_string(),
    };
    let setting = if setting.is_empty() { String::new() } else { format!(" for {setting}") };
    let is_of_file = error.metadata.as_ref().is_some_and(|metadata| metadata.name.starts_with("TOML"));
    let file = file.filter(|_| is_of_file).map(|path| format!(" in {}", path.display())).unwrap_or_default();
    format!("settings: {problem}{setting}{file}")
}

/// Reads a file of settings. An error of its syntax names the place, never the text, which may be a
/// password.
fn read_file(path: &Path) -> Result<String, SidecarError> {
    let invalid = |detail| SidecarError::Configuration { detail };
    if !path.is_file() {
        return Err(invalid(format!("configuration file {} does not exist", path.display())));
    }
    let text = std::fs::read_to_string(path).doing_to("read", path)?;
    if let Err(error) = Toml::from_str::<Dict>(&text) {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|character| *character != '\n').count() + 1;
        return Err(invalid(format!("{} is not valid TOML at line {line}, column {column}", path.display())));
    }
    Ok(text)
}

fn processors() -> u32 {
    std::thread::available_parallelism().ok().and_then(|count| u32::try_from(count.get()).ok()).unwrap_or(2)
}

impl Settings {
    /// Merges the layers: defaults, `file`, `environment`, `flags`.
    ///
    /// # Errors
    /// [`SidecarError::Configuration`] naming the file, the key or the value.
    pub(crate) fn load(
        file: Option<&Path>,
        environment: &Environment,
        flags: &Overrides,
    ) -> Result<Self, SidecarError> {
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if let Some(file) = file {
            figment = figment.merge(Toml::string(&read_file(file)?));
        }
        let mut settings: Self = figment
            .merge(Serialized::defaults(&environment.settings))
            .merge(Serialized::defaults(flags.layer()))
            .extract()
            .map_err(|error| SidecarError::Configuration { detail: describe(&error, file) })?;
        settings.check().map_err(|detail| SidecarError::Configuration { detail })?;
        settings.add_passwords(environment)?;
        Ok(settings)
    }

    /// Adds passwords that the addresses do not contain.
    fn add_passwords(&mut self, environment: &Environment) -> Result<(), SidecarError> {
        let read = |setting: &str, file: &Option<PathBuf>| {
            file.as_deref().map(|file| read_password(setting, file)).transpose()
        };
        let postgres = read("postgres_password_file", &self.postgres_password_file)?;
        for url in [&mut self.postgres_url].into_iter().chain(&mut self.postgres_read_url) {
            let password = match &postgres {
                Some(password) => Some(password.clone()),
                None => environment.libpq.password_for(&url.parsed()?)?,
            };
            url.add_password(password);
        }
        if self.clickhouse_password.is_none() {
            self.clickhouse_password = read("clickhouse_password_file", &self.clickhouse_password_file)?;
        }
        self.redis_url.add_password(read("redis_password_file", &self.redis_password_file)?);
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        self.check_clickhouse()?;
        if self.feed_interval_milliseconds == 0 || self.feed_idle_milliseconds < self.feed_interval_milliseconds {
            return Err(format!(
                "feed_interval_milliseconds {} must be at least 1 and at most feed_idle_milliseconds {}",
                self.feed_interval_milliseconds, self.feed_idle_milliseconds
            ));
        }
        if !(1..=64).contains(&self.feed_load_workers) {
            return Err(format!("feed_load_workers {} must be between 1 and 64", self.feed_load_workers));
        }
        if !(1..=1_000_000).contains(&self.feed_chunk_rows) {
            return Err(format!("feed_chunk_rows {} must be between 1 and 1000000", self.feed_chunk_rows));
        }
        if self.profile_ttl_seconds < 10 {
            return Err(format!("profile_ttl_seconds {} must be at least 10", self.profile_ttl_seconds));
        }
        if self.listen != "none"
            && self.listen.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok()).is_none()
        {
            return Err(format!("listen {:?} must be host:port or none", self.listen));
        }
        Ok(())
    }

    fn check_clickhouse(&self) -> Result<(), String> {
        // These names become part of SQL statements.
        let names = [
            ("clickhouse_database", Some(&self.clickhouse_database)),
            ("clickhouse_cluster", self.clickhouse_cluster.as_ref()),
            ("clickhouse_storage_policy", self.clickhouse_storage_policy.as_ref()),
        ];
        for (setting, name) in names.into_iter().filter_map(|(setting, name)| Some((setting, name?))) {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || !name.chars().all(is_plain) || name.starts_with(|c: char| c.is_ascii_digit()) {
                return Err(format!("{setting} {name:?} must be a plain name (letters, digits, underscore)"));
            }
        }
        if self.clickhouse_cluster.is_some() == self.clickhouse_shards.is_empty() {
            return Err(
                "clickhouse_cluster and clickhouse_shards need each other: the cluster's name, and the URL of \
                        one server of each shard"
                    .into(),
            );
        }
        if self.clickhouse_cluster.is_some() && self.clickhouse_url.is_none() {
            return Err("clickhouse_cluster needs clickhouse_url, the server that runs the queries".into());
        }
        if self.clickhouse_delete_after_days == Some(0) {
            return Err("clickhouse_delete_after_days 0 would delete everything; leave it out to delete nothing".into());
        }
        Ok(())
    }

    pub(crate) fn listen(&self) -> Listen {
        if self.listen == "none" { Listen::Off } else { Listen::On(self.listen.clone()) }
    }

    pub(crate) fn feed_interval(&self) -> Duration {
        Duration::from_millis(self.feed_interval_milliseconds)
    }

    pub(crate) fn feed_idle(&self) -> Duration {
        Duration::from_millis(self.feed_idle_milliseconds)
    }

    pub(crate) fn write_back_interval(&self) -> Duration {
        Duration::from_secs(self.write_back_seconds)
    }

    pub(crate) fn behaviour_interval(&self) -> Duration {
        Duration::from_secs(self.behaviour_seconds)
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_password_is_neither_printed_nor_serialized() {
        let settings = Settings { clickhouse_password: Some("tops3cret".into()), ..Settings::default() };
        assert!(!format!("{settings:?}").contains("tops3cret"));
        assert!(!serde_json::to_string(&settings).unwrap().contains("tops3cret"));
    }

    #[test]
    fn later_layers_win() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("arx.toml");
        std::fs::write(&file, "redis_url = 'redis://file'\nlisten = 'none'\nclickhouse_user = 'file'\n").unwrap();
        let environment = Environment::read(|name| {
            let value = match name {
                "ARX_REDIS_URL" => "redis://environment",
                "ARX_CLICKHOUSE_USER" => "environment",
                "ARX_CLICKHOUSE_PASSWORD" => "012345",
                "ARX_CLICKHOUSE_URL" => "http://a",
                "ARX_CLICKHOUSE_CLUSTER" => "three",
                "ARX_CLICKHOUSE_SHARDS" => "http://a, http://b",
                "ARX_CLICKHOUSE_REPLICATED" => "false",
                "ARX_CLICKHOUSE_DELETE_AFTER_DAYS" => "2557",
                "ARX_FEED_CHUNK_ROWS" => "1000",
                "ARX_LISTEN" => "",
                _ => return None,
            };
            Some(value.to_owned())
        });
        let flags = Overrides { redis_url: Some("redis://flag".into()), ..Overrides::default() };
        let settings = Settings::load(Some(&file), &environment, &flags).unwrap();
        assert_eq!(settings.redis_url.to_string(), "redis://flag:6379");
        assert_eq!(settings.clickhouse_user, "environment");
        assert_eq!(settings.clickhouse_password.unwrap().expose_secret(), "012345");
        assert_eq!(settings.listen, "none");
        assert_eq!(settings.clickhouse_database, "arx");
        let shards: Vec<String> = settings.clickhouse_shards.iter().map(ToString::to_string).collect();
        assert_eq!(shards, ["http://a", "http://b"]);
        assert!(!settings.clickhouse_replicated);
        assert_eq!((settings.clickhouse_delete_after_days, settings.feed_chunk_rows), (Some(2_557), 1_000));
    }

    #[test]
    fn the_environment_is_asked_for_every_setting() {
        let variables = std::cell::RefCell::new(Vec::new());
        Environment::read(|name| {
            variables.borrow_mut().push(name.to_owned());
            None
        });
        let variables = variables.into_inner();
        assert_eq!(variables.len(), 31, "settings, and four variables of libpq");
        for name in ["ARX_POSTGRES_URL", "ARX_POSTGRES_READ_URL", "ARX_CLICKHOUSE_PASSWORD", "ARX_WRITE_BACK_DAILY"] {
            assert!(variables.iter().any(|variable| variable == name), "{name}");
        }
    }

    #[test]
    fn invalid_settings_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("arx.toml");
        let load = |text: &str| {
            std::fs::write(&file, text).unwrap();
            Settings::load(Some(&file), &Environment::default(), &Overrides::default()).unwrap_err().to_string()
        };
        assert!(load("redis = 'x'").contains("redis"));
        assert!(load("clickhouse_database = 'a;b'").contains("a;b"));
        assert!(load("listen = 'here'").contains("here"));
        assert!(load("feed_chunk_rows = 0").contains("feed_chunk_rows"));
        let missing = folder.path().join("missing.toml");
        let error = Settings::load(Some(&missing), &Environment::default(), &Overrides::default()).unwrap_err();
        assert!(error.to_string().contains("missing.toml"));
        for (name, value) in
            [("ARX_FEED_CHUNK_ROWS", "-5"), ("ARX_FEED_IDLE_MILLISECONDS", "abc"), ("ARX_LISTEN", "nowhere")]
        {
            let environment = Environment::read(|variable| (variable == name).then(|| value.to_owned()));
            let error = Settings::load(None, &environment, &Overrides::default()).unwrap_err().to_string();
            assert!(error.contains(value), "{error}");
        }
    }

    #[test]
    fn errors_of_secret_settings_name_the_setting_and_the_place_only() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("arx.toml");
        let load = |text: &str| {
            std::fs::write(&file, text).unwrap();
            let error = Settings::load(Some(&file), &Environment::default(), &Overrides::default()).unwrap_err();
            assert!(!format!("{error} {error:?} {}", crate::error::Chain(&error)).contains("5301337"), "{error:?}");
            error.to_string()
        };
        let syntax = load("listen = 'none'\nclickhouse_password = \"5301337\nredis_url = 'redis://h'\n");
        assert!(syntax.contains("arx.toml") && syntax.contains("line 2, column "), "{syntax}");
        assert!(load("clickhouse_password 5301337").contains("line 1, column 2"), "the place of the error");
        assert!(load("clickhouse_password = 5301337").contains("clickhouse_password in"), "the type of a value");
        assert!(load("redis_url = 5301337").contains("redis_url"));
        assert!(load("postgres_url = 'host=h PASSWORD=5301337'").contains("postgres_url"));
        assert!(load("clickhouse_url = 'ftp://u:5301337@h'").contains("http://localhost:8123"));
        assert!(
            load("clickhouse_cluster = 'c'\nclickhouse_shards = ['http://h/?password=5301337']").contains("shards.0")
        );
    }

    #[test]
    fn passwords_come_from_files_and_from_the_variables_of_libpq() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let files = [
            ("ARX_CLICKHOUSE_PASSWORD_FILE", file("clickhouse", "for clickhouse\n")),
            ("ARX_REDIS_PASSWORD_FILE", file("redis", "for redis\n")),
            ("ARX_POSTGRES_READ_URL", "host=standby password=own".to_owned()),
            ("PGPASSWORD", "of libpq".to_owned()),
        ];
        let load = |more: &[(&str, String)]| {
            let environment = Environment::read(|name| {
                let value = files.iter().chain(more).find(|(variable, _)| *variable == name);
                value.map(|(_, value)| value.clone())
            });
            Settings::load(None, &environment, &Overrides::default()).unwrap()
        };
        let postgres = |url: &PostgresUrl| url.parsed().unwrap().get_password().map(<[u8]>::to_vec);
        let settings = load(&[]);
        assert_eq!(postgres(&settings.postgres_url).as_deref(), Some(&b"of libpq"[..]));
        assert_eq!(postgres(settings.postgres_read_url.as_ref().unwrap()).as_deref(), Some(&b"own"[..]));
        assert_eq!(settings.redis_url.parsed().unwrap().redis_settings().password(), Some("for redis"));
        assert_eq!(settings.clickhouse_password.as_ref().unwrap().expose_secret(), "for clickhouse");
        let shown = format!("{settings:?} {}", serde_json::to_string(&settings).unwrap());
        assert!(
            !["of libpq", "own", "for redis", "for clickhouse"].iter().any(|secret| shown.contains(secret)),
            "{shown}"
        );
        let settings = load(&[("ARX_POSTGRES_PASSWORD_FILE", file("postgres", "of a file"))]);
        assert_eq!(postgres(&settings.postgres_url).as_deref(), Some(&b"of a file"[..]));
    }
}
