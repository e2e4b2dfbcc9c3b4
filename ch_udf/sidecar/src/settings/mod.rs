//! Settings: defaults, then a TOML file, then the environment (`ARX_*`), then command line flags; the later wins. Owns names,
//! defaults and the rule that no password is ever printed.

mod environment;
mod types;

use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::Figment;
use figment::providers::{Format, Serialized, Toml};
use serde::{Deserialize, Serialize};

use crate::error::SidecarError;
pub use environment::{Environment, Overrides};
pub use types::{Listen, Secret, ServerUrl};

/// The settings of the sidecar. [`reference`] describes each of them.
#[allow(missing_docs)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub postgres_url: ServerUrl,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres_read_url: Option<ServerUrl>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clickhouse_url: Option<ServerUrl>,
    pub clickhouse_database: String,
    pub clickhouse_user: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clickhouse_password: Option<Secret>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clickhouse_cluster: Option<String>,
    pub clickhouse_replicated: bool,
    pub clickhouse_shards: Vec<ServerUrl>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clickhouse_storage_policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clickhouse_delete_after_days: Option<u32>,
    pub redis_url: ServerUrl,
    pub data_dir: PathBuf,
    pub listen: String,
    pub feed_interval_milliseconds: u64,
    pub feed_idle_milliseconds: u64,
    pub feed_chunk_rows: u32,
    pub feed_load_workers: u32,
    pub write_back_seconds: u64,
    pub behaviour_seconds: u64,
    pub write_back_daily: bool,
    pub profile_ttl_seconds: u64,
}

/// A setting as documents list it.
#[derive(Debug, Clone)]
pub struct SettingReference {
    /// Key in the TOML file.
    pub name: &'static str,
    /// Default as text; empty if there is none.
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
            None => String::new(),
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(serde_json::Value::Array(list)) if list.is_empty() => String::new(),
            Some(value) => value.to_string(),
        },
    };
    let setting = |setting: &environment::Setting| SettingReference {
        name: setting.name,
        default: default(setting.name),
        meaning: setting.meaning,
    };
    environment::SETTINGS.iter().map(setting).collect()
}

/// Processors that this program may use.
fn processors() -> u32 {
    std::thread::available_parallelism().ok().and_then(|count| u32::try_from(count.get()).ok()).unwrap_or(2)
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            postgres_url: ServerUrl::new("host=/var/run/postgresql dbname=postgres"),
            postgres_read_url: None,
            clickhouse_url: None,
            clickhouse_database: "arx".into(),
            clickhouse_user: "default".into(),
            clickhouse_password: None,
            clickhouse_cluster: None,
            clickhouse_replicated: true,
            clickhouse_shards: Vec::new(),
            clickhouse_storage_policy: None,
            clickhouse_delete_after_days: None,
            redis_url: ServerUrl::new("redis://127.0.0.1:6379"),
            data_dir: PathBuf::from("./arx-data"),
            listen: "127.0.0.1:9187".into(),
            feed_interval_milliseconds: 700,
            feed_idle_milliseconds: 700,
            feed_chunk_rows: 200_000,
            feed_load_workers: (processors() + 1).clamp(2, 8),
            write_back_seconds: 5,
            behaviour_seconds: 60,
            write_back_daily: false,
            profile_ttl_seconds: 300,
        }
    }
}

impl Settings {
    /// Merges all sources: defaults, `file`, `environment`, `flags`.
    ///
    /// # Errors
    /// [`SidecarError::Configuration`] naming the file, the key or the value.
    pub fn load(file: Option<&Path>, environment: &Environment, flags: &Overrides) -> Result<Self, SidecarError> {
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if let Some(file) = file {
            if !file.is_file() {
                return Err(SidecarError::Configuration {
                    detail: format!("configuration file {} does not exist", file.display()),
                });
            }
            figment = figment.merge(Toml::file_exact(file));
        }
        let settings: Self = figment
            .merge(Serialized::defaults(&environment.0))
            .merge(Serialized::defaults(flags))
            .extract()
            .map_err(|error| SidecarError::Configuration { detail: format!("settings: {error}") })?;
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), SidecarError> {
        let wrong = |detail: String| Err(SidecarError::Configuration { detail });
        // these become part of statements
        let names = [
            ("clickhouse_database", Some(&self.clickhouse_database)),
            ("clickhouse_cluster", self.clickhouse_cluster.as_ref()),
            ("clickhouse_storage_policy", self.clickhouse_storage_policy.as_ref()),
        ];
        for (setting, name) in names.into_iter().filter_map(|(setting, name)| Some((setting, name?))) {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || !name.chars().all(plain) || name.starts_with(|c: char| c.is_ascii_digit()) {
                return wrong(format!("{setting} {name:?} must be a plain name (letters, digits, underscore)"));
            }
        }
        for url in self.clickhouse_url.iter().chain(&self.clickhouse_shards) {
            if !["http://", "https://"].iter().any(|scheme| url.expose().starts_with(scheme)) {
                return wrong(format!(
                    "{:?} is no URL of ClickHouse's HTTP interface, such as http://localhost:8123",
                    url.to_string()
                ));
            }
        }
        if self.clickhouse_cluster.is_some() == self.clickhouse_shards.is_empty() {
            return wrong(
                "clickhouse_cluster and clickhouse_shards go together: the cluster's name, and the URL of one server of each shard"
                    .into(),
            );
        }
        if self.clickhouse_cluster.is_some() && self.clickhouse_url.is_none() {
            return wrong("clickhouse_cluster needs clickhouse_url, the server that is asked".into());
        }
        if self.clickhouse_delete_after_days == Some(0) {
            return wrong(
                "clickhouse_delete_after_days 0 would delete everything; leave it out to delete nothing".into(),
            );
        }
        if self.feed_interval_milliseconds == 0 || self.feed_idle_milliseconds < self.feed_interval_milliseconds {
            return wrong(format!(
                "feed_interval_milliseconds {} must be at least 1 and at most feed_idle_milliseconds {}",
                self.feed_interval_milliseconds, self.feed_idle_milliseconds
            ));
        }
        if !(1..=64).contains(&self.feed_load_workers) {
            return wrong(format!("feed_load_workers {} must be between 1 and 64", self.feed_load_workers));
        }
        if !(1..=1_000_000).contains(&self.feed_chunk_rows) {
            return wrong(format!("feed_chunk_rows {} must be between 1 and 1000000", self.feed_chunk_rows));
        }
        if self.profile_ttl_seconds < 10 {
            return wrong(format!("profile_ttl_seconds {} must be at least 10", self.profile_ttl_seconds));
        }
        if self.listen != "none"
            && self.listen.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok()).is_none()
        {
            return wrong(format!("listen {:?} must be host:port or none", self.listen));
        }
        Ok(())
    }

    /// Where to serve `/metrics` and `/healthz`.
    #[must_use]
    pub fn listen(&self) -> Listen {
        if self.listen == "none" { Listen::Off } else { Listen::On(self.listen.clone()) }
    }

    /// From the beginning of a feed pass to that of the next, while there is something to feed.
    #[must_use]
    pub fn feed_interval(&self) -> Duration {
        Duration::from_millis(self.feed_interval_milliseconds)
    }

    /// Time between two times that volumes are written back.
    #[must_use]
    pub fn write_back(&self) -> Duration {
        Duration::from_secs(self.write_back_seconds)
    }

    /// Time between two times that the behaviour of wallets is written back.
    #[must_use]
    pub fn behaviour(&self) -> Duration {
        Duration::from_secs(self.behaviour_seconds)
    }

    /// Longest pause between feed passes.
    #[must_use]
    pub fn feed_idle(&self) -> Duration {
        Duration::from_millis(self.feed_idle_milliseconds)
    }
}

#[cfg(test)]
mod tests {
    use super::environment::{Kind, SETTINGS};
    use super::*;

    #[test]
    fn passwords_are_not_printed() {
        let shown = |text: &str| ServerUrl::new(text).to_string();
        assert_eq!(shown("postgresql://ann:s3c@ret@db/x"), "postgresql://ann:***@db/x");
        assert_eq!(shown("redis://:pw@h:1/0"), "redis://:***@h:1/0");
        assert_eq!(shown("http://h/?password=x&a=b"), "http://h/?password=***&a=b");
        assert_eq!(shown("host=/tmp password='a b' user=u"), "host=/tmp password=*** user=u");
        assert_eq!(shown("host=/tmp password=ab"), "host=/tmp password=***");
        assert_eq!(shown("host=/tmp"), "host=/tmp");
        let settings = Settings { clickhouse_password: Some(Secret::new("tops3cret")), ..Settings::default() };
        assert!(!format!("{settings:?}").contains("tops3cret"));
    }

    #[test]
    fn later_sources_win() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("arx.toml");
        std::fs::write(&file, "redis_url = 'redis://file'\nlisten = 'none'\nclickhouse_user = 'file'\n").unwrap();
        let environment = Environment::read(|name| {
            let value = match name {
                "ARX_REDIS_URL" => "redis://environment",
                "ARX_CLICKHOUSE_USER" => "environment",
                "ARX_CLICKHOUSE_PASSWORD" => "12345",
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
        let flags = Overrides { redis_url: Some(ServerUrl::new("redis://flag")), ..Overrides::default() };
        let settings = Settings::load(Some(&file), &environment, &flags).unwrap();
        assert_eq!(settings.redis_url.expose(), "redis://flag");
        assert_eq!(settings.clickhouse_user, "environment");
        assert_eq!(settings.clickhouse_password, Some(Secret::new("12345")));
        assert_eq!(settings.listen(), Listen::Off);
        assert_eq!(settings.clickhouse_database, "arx");
        let shards: Vec<&str> = settings.clickhouse_shards.iter().map(ServerUrl::expose).collect();
        assert_eq!(shards, ["http://a", "http://b"]);
        assert!(!settings.clickhouse_replicated);
        assert_eq!((settings.clickhouse_delete_after_days, settings.feed_chunk_rows), (Some(2_557), 1_000));
    }

    #[test]
    fn the_environment_knows_every_setting() {
        let text = || Some("x".to_owned());
        let all = Settings {
            postgres_read_url: text().map(ServerUrl::new),
            clickhouse_url: text().map(ServerUrl::new),
            clickhouse_password: text().map(Secret::new),
            clickhouse_cluster: text(),
            clickhouse_storage_policy: text(),
            clickhouse_delete_after_days: Some(1),
            ..Settings::default()
        };
        let all = serde_json::to_value(&all).unwrap();
        let mut names: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
        names.sort_unstable();
        assert_eq!(all.as_object().unwrap().keys().collect::<Vec<_>>(), names);
        for setting in SETTINGS {
            let is_text = all[setting.name].is_string();
            assert_eq!(setting.kind == Kind::Text, is_text, "{}", setting.name);
        }
    }

    #[test]
    fn wrong_settings_are_named() {
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
            [("ARX_FEED_CHUNK_ROWS", "-5"), ("ARX_FEED_IDLE_MILLISECONDS", "abc"), ("ARX_CLICKHOUSE_URL", "ftp://h")]
        {
            let environment = Environment::read(|asked| (asked == name).then(|| value.to_owned()));
            let error = Settings::load(None, &environment, &Overrides::default()).unwrap_err().to_string();
            assert!(error.contains(value), "{error}");
        }
    }
}
