//! Settings: defaults, then a TOML file, then the environment (`ARX_*`), then command line flags;
//! the later layer wins. Owns names, defaults and limits.

mod layers;
mod postgres;
mod reference;
mod secret_files;
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
use crate::servers::tls::{ClientTls, Identity};
pub(crate) use layers::Environment;
pub(crate) use layers::Overrides;
pub(crate) use postgres::{ConnectOptions, Host, PostgresUrl, SessionAttributes, SslMode};
pub use reference::{SettingReference, reference};
use secret_files::read_password;
pub(crate) use secret_files::read_secret;
pub(crate) use server_url::{ClickHouseUrl, ClusterNodes, RedisAddress, RedisUrl, Sentinels, ServerUrl};
use types::Values;
pub(crate) use types::{CachePolicy, Listen};

/// Declares the settings: each with its meaning, which documents list, its type, its default and
/// its values.
macro_rules! settings {
    ($(
        $(#[doc = $meaning:literal])+
        $(#[serde($serde:meta)])?
        $name:ident: $type:ty = $default:expr, $values:expr;
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

        /// Name, meaning and values of each.
        const DECLARED: &[(&str, &str, Values)] = &[$((stringify!($name), concat!($($meaning),+), $values),)+];
    };
}

settings! {
    /// PostgreSQL that the sidecar writes to: a URL or libpq's `key=value` pairs
    postgres_url: PostgresUrl = PostgresUrl::known("host=/var/run/postgresql dbname=postgres"), Values::Text("address");
    /// PostgreSQL to read transactions from, such as a hot standby; without it `postgres_url`
    postgres_read_url: Option<PostgresUrl> = None, Values::Text("address");
    /// file with the password for both; without it `PGPASSWORD`, or libpq's password file
    /// (`PGPASSFILE`, `~/.pgpass`)
    postgres_password_file: Option<PathBuf> = None, Values::Text("file");
    /// HTTP interface of ClickHouse; without it the sidecar starts and supervises the embedded
    /// engine
    clickhouse_url: Option<ClickHouseUrl> = None, Values::Text("URL, `http` or `https`");
    /// database in ClickHouse
    clickhouse_database: String = "arx".into(), Values::Text("plain name");
    /// user in the ClickHouse of `clickhouse_url`
    clickhouse_user: String = "default".into(), Values::Text("name");
    /// password of that user
    #[serde(serialize_with = "omit_secret")]
    clickhouse_password: Option<SecretString> = None, Values::Text("text");
    /// file with that password
    clickhouse_password_file: Option<PathBuf> = None, Values::Text("file");
    /// certificates of the authorities that may have signed the servers' certificate; without it
    /// those of the operating system
    clickhouse_root_file: Option<PathBuf> = None, Values::Text("PEM file");
    /// certificate that the sidecar shows to ClickHouse
    clickhouse_certificate_file: Option<PathBuf> = None, Values::Text("PEM file");
    /// key of that certificate
    clickhouse_key_file: Option<PathBuf> = None, Values::Text("PEM file");
    /// name of the ClickHouse cluster that holds the tables; without it a single server
    clickhouse_cluster: Option<String> = None, Values::Text("plain name");
    /// true if the cluster's shards have replicas (`Replicated` engines, DDL by `ON CLUSTER`)
    clickhouse_replicated: bool = true, Values::Switch;
    /// HTTP interface of one server of each shard of the cluster
    clickhouse_shards: Vec<ClickHouseUrl> = Vec::new(), Values::Text("URLs, `http` or `https`");
    /// storage policy with the volumes hot, warm and cold; the embedded engine has one
    clickhouse_storage_policy: Option<String> = None, Values::Text("plain name");
    /// time after which ClickHouse deletes data (the specification's 7 years are 2557); without it
    /// never
    #[serde(deserialize_with = "number_or_text")]
    clickhouse_delete_after_days: Option<u32> = None, Values::number("days", 1, u32::MAX as u64);
    /// true if ClickHouse syncs its files before a position is confirmed (privilege
    /// `SYSTEM SYNC FILE CACHE`); false for storage that needs no sync, such as object storage
    clickhouse_sync: bool = true, Values::Switch;
    /// identity of the database whose tables in ClickHouse this one may replace, as the error names
    /// it; has no effect on tables of any other
    clickhouse_take_over_from: Option<String> = None, Values::Text("identity");
    /// Redis, sentinels that name the server that takes writes, or nodes of a cluster
    redis_url: RedisUrl = ServerUrl::known("redis://127.0.0.1:6379"), Values::Text("URL");
    /// Redis that holds accepted writes until PostgreSQL has applied them, without eviction;
    /// without it `redis_url`
    redis_streams_url: Option<RedisUrl> = None, Values::Text("URL");
    /// file with the password for Redis
    redis_password_file: Option<PathBuf> = None, Values::Text("file");
    /// file with the password for the sentinels, if they have one
    redis_sentinel_password_file: Option<PathBuf> = None, Values::Text("file");
    /// certificates of the authorities that may have signed the server's certificate; without it
    /// those of the operating system
    redis_root_file: Option<PathBuf> = None, Values::Text("PEM file");
    /// certificate that the sidecar shows to Redis
    redis_certificate_file: Option<PathBuf> = None, Values::Text("PEM file");
    /// key of that certificate
    redis_key_file: Option<PathBuf> = None, Values::Text("PEM file");
    /// directory of the embedded engine
    data_dir: PathBuf = PathBuf::from("./arx-data"), Values::Text("folder");
    /// address of `/metrics` and `/healthz`; port 0 takes a free one
    listen: String = "127.0.0.1:9187".into(), Values::Text("`host:port`, or `none`");
    /// certificate of that address, with its chain: the pages are served by HTTPS alone
    listen_certificate_file: Option<PathBuf> = None, Values::Text("PEM file");
    /// key of that certificate
    listen_key_file: Option<PathBuf> = None, Values::Text("PEM file");
    /// tokens, one a line: a request needs one of them as `Authorization: Bearer TOKEN`
    listen_token_file: Option<PathBuf> = None, Values::Text("file");
    /// time from the beginning of a feed pass to that of the next while there are rows to feed
    feed_interval_milliseconds: u64 = 700, Values::number("milliseconds", 1, u64::MAX);
    /// the same while there is nothing to feed; at least `feed_interval_milliseconds`
    feed_idle_milliseconds: u64 = 700, Values::number("milliseconds", 1, u64::MAX);
    /// rows of a chunk of the feed
    feed_chunk_rows: u32 = 200_000, Values::number("rows", 1, 1_000_000);
    /// connections that read in parallel during a first load; each needs about 150 MB
    feed_load_workers: u32 = (processors() + 1).clamp(2, 8), Values::number("connections", 1, 64);
    /// time between two write-backs of volumes into PostgreSQL
    write_back_seconds: u64 = 5, Values::number("seconds", 0, u64::MAX);
    /// time between two write-backs of the behaviour of wallets
    behaviour_seconds: u64 = 60, Values::number("seconds", 0, u64::MAX);
    /// true if `arx.daily_transaction_stats` comes from ClickHouse; otherwise the database computes
    /// it
    write_back_daily: bool = false, Values::Switch;
    /// true if annotations are accepted in Redis and applied to PostgreSQL; needs a Redis that does
    /// not evict them
    write_behind: bool = true, Values::Switch;
    /// replicas of Redis that must have a write before it is accepted; without it one, if a server
    /// has a replica when the sidecar connects
    #[serde(deserialize_with = "number_or_text")]
    write_replicas: Option<u32> = None, Values::number("replicas", 0, 100);
    /// time after which a session of a user ends that is not used
    session_ttl_seconds: u64 = 1800, Values::number("seconds", 1, 31_536_000);
    /// time after which a session ends in any case
    session_max_seconds: u64 = 604_800, Values::number("seconds", 1, 31_536_000);
    /// lifetime of a cached profile that no change replaces, plus or minus a tenth
    profile_ttl_seconds: u64 = 3600, Values::number("seconds", 10, 31_536_000);
    /// time between two looks for changed profiles
    cache_interval_milliseconds: u64 = 100, Values::number("milliseconds", 10, 1000);
    /// memory for profiles in the process that answers `/v1/wallets`
    cache_local_megabytes: u64 = 64, Values::number("megabytes", 0, 65_536);
    /// highest age of an answer of `/v1/query`, unless the request states another one
    query_max_age_seconds: u64 = 5, Values::number("seconds", 0, 2_592_000);
    /// time limit for an answer of `/v1/query`; a store that is slower than half of it is left for
    /// the next one
    query_timeout_milliseconds: u64 = 8000, Values::number("milliseconds", 100, 9000);
    /// memory for answers of `/v1/query` in this process
    query_cache_megabytes: u64 = 32, Values::number("megabytes", 0, 65_536);
    /// answer that leaves a full memory first: the one used longest ago, the one used least often,
    /// or, after `query_cache_seconds`, the one that came first
    query_cache_policy: CachePolicy = CachePolicy::Lru, Values::Text("`lru`, `lfu` or `fifo`");
    /// lifetime of an answer in memory since its last use (`fifo`: since it came), and in Redis
    query_cache_seconds: u64 = 300, Values::number("seconds", 1, 2_592_000);
}

fn omit_secret<S: Serializer>(_: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_none()
}

/// Reads a number, also from text: the default is absent, so the environment cannot know
/// the type.
fn number_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Plain(u32),
        Text(String),
    }
    match Option::<Number>::deserialize(deserializer)? {
        None => Ok(None),
        Some(Number::Plain(number)) => Ok(Some(number)),
        Some(Number::Text(text)) => text.parse().map(Some).map_err(serde::de::Error::custom),
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
        let mut given = Figment::new();
        if let Some(file) = file {
            given = given.merge(Toml::string(&read_file(file)?));
        }
        given = given.merge(Serialized::defaults(&environment.settings)).merge(Serialized::defaults(flags.layer()));
        let names_postgres = given.contains("postgres_url");
        let mut settings: Self = Figment::from(Serialized::defaults(Self::default()))
            .merge(given)
            .extract()
            .map_err(|error| SidecarError::Configuration { detail: describe(&error, file) })?;
        settings.check().map_err(|detail| SidecarError::Configuration { detail })?;
        settings.complete(environment, names_postgres)?;
        Ok(settings)
    }

    /// Adds passwords that the addresses do not contain, and what libpq's sources know of
    /// PostgreSQL.
    fn complete(&mut self, environment: &Environment, names_postgres: bool) -> Result<(), SidecarError> {
        let read = |setting: &str, file: &Option<PathBuf>| {
            file.as_deref().map(|file| read_password(setting, file)).transpose()
        };
        let password = read("postgres_password_file", &self.postgres_password_file)?;
        let (libpq, password) = (&environment.libpq, password.as_ref());
        self.postgres_url
            .complete(libpq, password, !names_postgres)
            .map_err(|error| of_setting("postgres_url", error))?;
        if let Some(url) = &mut self.postgres_read_url {
            url.complete(libpq, password, false).map_err(|error| of_setting("postgres_read_url", error))?;
        }
        if self.clickhouse_password.is_none() {
            self.clickhouse_password = read("clickhouse_password_file", &self.clickhouse_password_file)?;
        }
        let password = read("redis_password_file", &self.redis_password_file)?;
        if let Some(url) = &mut self.redis_streams_url {
            url.add_password(password.clone());
        }
        self.redis_url.add_password(password);
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        self.check_numbers()?;
        self.check_clickhouse()?;
        self.check_files()?;
        if self.feed_idle_milliseconds < self.feed_interval_milliseconds {
            return Err(format!(
                "feed_interval_milliseconds {} must be at most feed_idle_milliseconds {}",
                self.feed_interval_milliseconds, self.feed_idle_milliseconds
            ));
        }
        if self.listen != "none"
            && self.listen.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok()).is_none()
        {
            return Err(format!("listen {:?} must be host:port or none", self.listen));
        }
        Ok(())
    }

    /// Checks that numbers are in the ranges that documents list.
    fn check_numbers(&self) -> Result<(), String> {
        let numbers = serde_json::to_value(self).unwrap_or_default();
        for (name, _, values) in DECLARED {
            let Values::Number { least, most, .. } = *values else { continue };
            if let Some(number) = numbers.get(name).and_then(serde_json::Value::as_u64)
                && !(least..=most).contains(&number)
            {
                let range = values.range();
                return Err(format!("{name} {number} is out of range: it must be {range}"));
            }
        }
        Ok(())
    }

    /// Checks that certificates have keys, and that addresses without TLS have neither.
    fn check_files(&self) -> Result<(), String> {
        let pairs = [
            ("clickhouse", &self.clickhouse_certificate_file, &self.clickhouse_key_file),
            ("redis", &self.redis_certificate_file, &self.redis_key_file),
            ("listen", &self.listen_certificate_file, &self.listen_key_file),
        ];
        for (name, certificate, key) in pairs {
            if certificate.is_some() != key.is_some() {
                return Err(format!("{name}_certificate_file and {name}_key_file need each other"));
            }
        }
        let urls = self.clickhouse_url.iter().chain(&self.clickhouse_shards);
        let has_files = self.clickhouse_root_file.is_some() || self.clickhouse_certificate_file.is_some();
        if let Some(plain) = urls.into_iter().find(|url| has_files && !url.has_tls()) {
            return Err(format!(
                "{plain} has no TLS, but clickhouse_root_file or clickhouse_certificate_file is set; use https"
            ));
        }
        if has_files && self.clickhouse_url.is_none() {
            return Err("clickhouse_root_file and clickhouse_certificate_file need clickhouse_url".into());
        }
        let has_files = self.redis_root_file.is_some() || self.redis_certificate_file.is_some();
        let urls = [Some(&self.redis_url), self.redis_streams_url.as_ref()];
        if let Some(url) = urls.into_iter().flatten().find(|url| has_files && !url.has_tls()) {
            return Err(format!("{url} has no TLS, but redis_root_file or redis_certificate_file is set; use rediss"));
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
        Ok(())
    }

    /// TLS of ClickHouse.
    pub(crate) fn clickhouse_tls(&self) -> ClientTls {
        let identity = identity(&self.clickhouse_certificate_file, &self.clickhouse_key_file);
        ClientTls::verified(self.clickhouse_root_file.clone(), identity)
    }

    /// TLS of Redis.
    pub(crate) fn redis_tls(&self) -> ClientTls {
        let identity = identity(&self.redis_certificate_file, &self.redis_key_file);
        ClientTls::verified(self.redis_root_file.clone(), identity)
    }

    /// Reads the password for the sentinels.
    ///
    /// # Errors
    /// [`SidecarError::Configuration`], [`SidecarError::Io`].
    pub(crate) fn sentinel_password(&self) -> Result<Option<SecretString>, SidecarError> {
        let file = self.redis_sentinel_password_file.as_deref();
        file.map(|file| read_password("redis_sentinel_password_file", file)).transpose()
    }

    /// Certificate of `/metrics` and `/healthz`; without it they are served by plain HTTP.
    pub(crate) fn listen_identity(&self) -> Option<Identity> {
        identity(&self.listen_certificate_file, &self.listen_key_file)
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

    pub(crate) fn cache_interval(&self) -> Duration {
        Duration::from_millis(self.cache_interval_milliseconds)
    }

    pub(crate) fn write_back_interval(&self) -> Duration {
        Duration::from_secs(self.write_back_seconds)
    }

    pub(crate) fn behaviour_interval(&self) -> Duration {
        Duration::from_secs(self.behaviour_seconds)
    }
}

/// Names the setting of an address that cannot be used.
fn of_setting(name: &str, error: SidecarError) -> SidecarError {
    match error {
        SidecarError::Configuration { detail } => SidecarError::Configuration { detail: format!("{name}: {detail}") },
        error => error,
    }
}

fn identity(certificate: &Option<PathBuf>, key: &Option<PathBuf>) -> Option<Identity> {
    Some(Identity { certificate: certificate.clone()?, key: key.clone()?, is_strict: false })
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
        let (own, libpq): (Vec<_>, Vec<_>) = variables.iter().partition(|name| name.starts_with("ARX_"));
        assert_eq!(own.len(), DECLARED.len());
        assert!(
            ["PGHOST", "PGSERVICE", "PGSSLMODE", "PGPASSFILE"].iter().all(|name| libpq.iter().any(|it| it == name))
        );
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
        assert!(
            load("feed_chunk_rows = 0").contains("feed_chunk_rows 0 is out of range: it must be from 1 to 1000000")
        );
        assert!(load("feed_load_workers = 65").contains("feed_load_workers"));
        assert!(load("profile_ttl_seconds = 9").contains("from 10"));
        assert!(load("clickhouse_delete_after_days = 0").contains("from 1"));
        assert!(load("redis_root_file = 'r'").contains("rediss"));
        assert!(load("clickhouse_root_file = 'r'").contains("clickhouse_url"));
        assert!(load("clickhouse_url = 'http://h'\nclickhouse_root_file = 'r'").contains("https"));
        assert!(load("listen_certificate_file = 'c'").contains("listen_key_file"));
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

    fn redis_password(url: &RedisUrl) -> Option<String> {
        match url.parsed().unwrap() {
            RedisAddress::Server(server) => server.redis_settings().password().map(str::to_owned),
            RedisAddress::Sentinels(_) | RedisAddress::Cluster(_) => None,
        }
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
        let postgres = |url: &PostgresUrl| url.password(0).map(|password| password.expose_secret().to_owned());
        let settings = load(&[]);
        assert_eq!(postgres(&settings.postgres_url).as_deref(), Some("of libpq"));
        assert_eq!(postgres(settings.postgres_read_url.as_ref().unwrap()).as_deref(), Some("own"));
        assert_eq!(redis_password(&settings.redis_url).as_deref(), Some("for redis"));
        assert_eq!(settings.clickhouse_password.as_ref().unwrap().expose_secret(), "for clickhouse");
        let shown = format!("{settings:?} {}", serde_json::to_string(&settings).unwrap());
        assert!(
            !["of libpq", "own", "for redis", "for clickhouse"].iter().any(|secret| shown.contains(secret)),
            "{shown}"
        );
        let settings = load(&[("ARX_POSTGRES_PASSWORD_FILE", file("postgres", "of a file"))]);
        assert_eq!(postgres(&settings.postgres_url).as_deref(), Some("of a file"));
    }
    #[test]
    fn an_address_that_cannot_be_used_is_named_and_not_shown() {
        for (name, setting) in
            [("ARX_POSTGRES_URL", "postgres_url: "), ("ARX_POSTGRES_READ_URL", "postgres_read_url: ")]
        {
            let environment = Environment::read(|variable| {
                (variable == name).then(|| "postgresql://u:s3cr3t@h/x?sslmode=verify-ca".to_owned())
            });
            let error = Settings::load(None, &environment, &Overrides::default()).unwrap_err().to_string();
            assert!(error.contains(setting) && error.contains("sslrootcert must be"), "{error}");
            assert!(!error.contains("s3cr3t"), "{error}");
        }
    }
}
