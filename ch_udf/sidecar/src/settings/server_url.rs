//! Addresses of servers. Owns the rule that neither a password nor the text of an address is ever
//! printed: output shows the parts that the server's client has parsed, without secrets.

use std::fmt;
use std::marker::PhantomData;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio_postgres::config::Host;
use url::Url;

use crate::error::SidecarError;

/// A kind of server, with the form of its addresses.
pub(crate) trait ServerKind {
    /// Address as the server's client takes it.
    type Parsed;

    /// Description of valid addresses.
    const FORMS: &'static str;

    fn parse(text: &str) -> Option<Self::Parsed>;
    /// Formats the parts of an address that are no secrets.
    fn show(parsed: &Self::Parsed) -> String;
    fn has_password(parsed: &Self::Parsed) -> bool;
    fn with_password(parsed: Self::Parsed, password: &str) -> Self::Parsed;
}

/// Address of a server, with its password if there is one.
pub(crate) struct ServerUrl<K> {
    text: SecretString,
    /// Password from another source.
    password: Option<SecretString>,
    shown: String,
    kind: PhantomData<K>,
}

pub(crate) type PostgresUrl = ServerUrl<Postgres>;
pub(crate) type ClickHouseUrl = ServerUrl<ClickHouse>;
pub(crate) type RedisUrl = ServerUrl<Redis>;

/// An address that cannot be parsed. It may contain a password, so it is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a valid address (its text is not shown, because it may contain a password); expected {forms}")]
pub(crate) struct InvalidUrl {
    forms: &'static str,
}

impl<K: ServerKind> ServerUrl<K> {
    /// Parses an address as a user gives it.
    ///
    /// # Errors
    /// [`InvalidUrl`].
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidUrl> {
        let parsed = K::parse(text).ok_or(InvalidUrl { forms: K::FORMS })?;
        Ok(Self { text: text.into(), password: None, shown: K::show(&parsed), kind: PhantomData })
    }

    /// Takes an address of the source code.
    pub(super) fn known(text: &'static str) -> Self {
        let shown = K::parse(text).map(|parsed| K::show(&parsed)).unwrap_or_default();
        Self { text: text.into(), password: None, shown, kind: PhantomData }
    }

    /// Returns the address for the server's client, with its password.
    ///
    /// # Errors
    /// [`SidecarError::Configuration`]; none for an address that was parsed before.
    pub(crate) fn parsed(&self) -> Result<K::Parsed, SidecarError> {
        let parsed = K::parse(self.text.expose_secret())
            .ok_or_else(|| SidecarError::Configuration { detail: InvalidUrl { forms: K::FORMS }.to_string() })?;
        Ok(match &self.password {
            Some(password) => K::with_password(parsed, password.expose_secret()),
            None => parsed,
        })
    }

    /// Returns whether the text contains a password.
    pub(crate) fn has_password(&self) -> bool {
        K::parse(self.text.expose_secret()).is_some_and(|parsed| K::has_password(&parsed))
    }

    /// Adds a password, unless the text contains one.
    pub(super) fn add_password(&mut self, password: Option<SecretString>) {
        if !self.has_password() {
            self.password = password;
        }
    }
}

impl ServerUrl<ClickHouse> {
    /// Returns the user and the password in the address.
    pub(crate) fn credentials(&self) -> (Option<String>, Option<SecretString>) {
        let Ok(url) = self.parsed() else { return (None, None) };
        let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        let user = (!url.username().is_empty()).then(|| decode(url.username()));
        (user, url.password().map(|password| decode(password).into()))
    }

    /// Returns the address for ClickHouse's client, which takes user and password separately.
    pub(crate) fn without_credentials(&self) -> String {
        let Ok(mut url) = self.parsed() else { return self.to_string() };
        // Only a URL without a host rejects these.
        let _ = url.set_username("").and_then(|()| url.set_password(None));
        url.as_str().trim_end_matches('/').to_owned()
    }
}

impl<K> Clone for ServerUrl<K> {
    fn clone(&self) -> Self {
        let (text, password, shown) = (self.text.clone(), self.password.clone(), self.shown.clone());
        Self { text, password, shown, kind: PhantomData }
    }
}

impl<K> fmt::Display for ServerUrl<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl<K> fmt::Debug for ServerUrl<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.shown)
    }
}

impl<K> Serialize for ServerUrl<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.shown)
    }
}

impl<'de, K: ServerKind> Deserialize<'de> for ServerUrl<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = SecretString::deserialize(deserializer)?;
        Self::parse(text.expose_secret()).map_err(serde::de::Error::custom)
    }
}

/// PostgreSQL: a URL or libpq's `key=value` pairs.
pub(crate) struct Postgres;

impl ServerKind for Postgres {
    type Parsed = tokio_postgres::Config;

    const FORMS: &'static str = "postgresql://USER@HOST:PORT/DATABASE, with special characters as %40, or pairs such \
                                 as host=HOST port=5432 user=USER dbname=DATABASE, with values that contain spaces in \
                                 single quotes";

    fn parse(text: &str) -> Option<tokio_postgres::Config> {
        let config: tokio_postgres::Config = text.parse().ok()?;
        // An unescaped @ in a password makes the rest of the password a part of the host.
        let is_name = |host: &Host| !matches!(host, Host::Tcp(name) if name.contains(['@', '/', ' ']));
        config.get_hosts().iter().all(is_name).then_some(config)
    }

    fn show(config: &tokio_postgres::Config) -> String {
        let hosts = config.get_hosts().iter().map(|host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        });
        let numbers = config.get_hostaddrs().iter().map(ToString::to_string);
        let ports = config.get_ports().iter().map(ToString::to_string);
        let list = |values: Vec<String>| (!values.is_empty()).then(|| values.join(","));
        let parts = [
            ("host", list(hosts.collect())),
            ("hostaddr", list(numbers.collect())),
            ("port", list(ports.collect())),
            ("user", config.get_user().map(str::to_owned)),
            ("dbname", config.get_dbname().map(str::to_owned)),
        ];
        let pairs = parts.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?)));
        pairs.collect::<Vec<_>>().join(" ")
    }

    fn has_password(config: &tokio_postgres::Config) -> bool {
        config.get_password().is_some()
    }

    fn with_password(mut config: tokio_postgres::Config, password: &str) -> tokio_postgres::Config {
        config.password(password);
        config
    }
}

/// The HTTP interface of ClickHouse.
pub(crate) struct ClickHouse;

impl ServerKind for ClickHouse {
    type Parsed = Url;

    const FORMS: &'static str = "a ClickHouse HTTP URL such as http://localhost:8123, without a query; name the user \
                                 with clickhouse_user and the password with clickhouse_password_file";

    fn parse(text: &str) -> Option<Url> {
        let url = Url::parse(text).ok()?;
        let is_server = matches!(url.scheme(), "http" | "https") && url.has_host();
        (is_server && url.query().is_none() && url.fragment().is_none()).then_some(url)
    }

    fn show(url: &Url) -> String {
        let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
        format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default())
    }

    fn has_password(url: &Url) -> bool {
        url.password().is_some()
    }

    fn with_password(mut url: Url, password: &str) -> Url {
        // Only a URL without a host rejects a password.
        let _ = url.set_password(Some(password));
        url
    }
}

/// Redis.
pub(crate) struct Redis;

impl ServerKind for Redis {
    type Parsed = ConnectionInfo;

    const FORMS: &'static str = "redis://HOST:PORT/DATABASE or redis+unix:///PATH?db=DATABASE, with special characters \
                                 of a password as %40";

    fn parse(text: &str) -> Option<ConnectionInfo> {
        text.into_connection_info().ok()
    }

    fn show(information: &ConnectionInfo) -> String {
        let user = information.redis_settings().username().map_or_else(String::new, |user| format!("{user}@"));
        let database = information.redis_settings().db();
        let (scheme, separator) = match information.addr() {
            ConnectionAddr::Unix(_) => ("redis+unix", "?db="),
            ConnectionAddr::TcpTls { .. } => ("rediss", "/"),
            _ => ("redis", "/"),
        };
        let database = if database == 0 { String::new() } else { format!("{separator}{database}") };
        format!("{scheme}://{user}{}{database}", information.addr())
    }

    fn has_password(information: &ConnectionInfo) -> bool {
        information.redis_settings().password().is_some()
    }

    fn with_password(information: ConnectionInfo, password: &str) -> ConnectionInfo {
        let settings = information.redis_settings().clone().set_password(password);
        information.set_redis_settings(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_by_their_parts() {
        let shown = |text: &str| PostgresUrl::parse(text).unwrap().to_string();
        assert_eq!(shown("postgresql://ann@db/x"), "host=db port=5432 user=ann dbname=x");
        assert_eq!(shown("postgresql://a:1,b:2/x?password=s3cret"), "host=a,b port=1,2 dbname=x");
        assert_eq!(shown("host=/tmp dbname='a b'"), "host=/tmp dbname=a b");
        let shown = |text: &str| RedisUrl::parse(text).unwrap().to_string();
        assert_eq!(shown("redis://ann:pw@h:1/2"), "redis://ann@h:1/2");
        assert_eq!(shown("redis+unix:///tmp/r?db=3&pass=s3cret"), "redis+unix:///tmp/r?db=3");
        let shown = |text: &str| ClickHouseUrl::parse(text).unwrap().to_string();
        assert_eq!(shown("http://ann:pw@h:8123/"), "http://h:8123");
        assert_eq!(shown("http://h"), "http://h");
    }

    /// A password in every form that a client accepts, or a user may think it does.
    const POSTGRES: [&str; 14] = [
        "postgresql://u:s3cr3t@h/x",
        "postgresql://u:a/s3cr3t@h",
        "postgresql://u:a?s3cr3t@h",
        "postgresql://u:a@s3cr3t@h/x",
        "postgresql://u@h/x?PASSWORD=s3cr3t",
        "postgresql://u@h/x?password=a&password=s3cr3t",
        "postgresql://u:s3cr3t@a:1,b:2/x",
        "host=h password = s3cr3t",
        r"host=h password='a\'s3cr3t' dbname=x",
        r"host=h password=a\ s3cr3t dbname=x",
        "host=h password='s3cr3t",
        "host=h password=a s3cr3t",
        "host=h PASSWORD=s3cr3t",
        "s3cr3t",
    ];
    const REDIS: [&str; 6] = [
        "redis://:s3cr3t@h",
        "redis://:a/s3cr3t@h",
        "redis://u:a#s3cr3t@h:1/0",
        "redis+unix:///tmp/r?pass=s3cr3t",
        "redis+unix:///tmp/r?db=s3cr3t",
        "s3cr3t",
    ];
    const CLICKHOUSE: [&str; 6] = [
        "http://u:s3cr3t@h:8123",
        "http://u:a/s3cr3t@h",
        "http://h/?password=s3cr3t",
        "http://h/#s3cr3t",
        "ftp://u:s3cr3t@h",
        "s3cr3t",
    ];

    fn print<K: ServerKind>(text: &str) -> String {
        match ServerUrl::<K>::parse(text) {
            Ok(url) => format!("{url} {url:?} {}", serde_json::to_string(&url).unwrap()),
            Err(error) => format!("{error} {error:?}"),
        }
    }

    #[test]
    fn no_form_of_a_password_is_printed() {
        for text in POSTGRES {
            assert!(!print::<Postgres>(text).contains("s3cr3t"), "{text}: {}", print::<Postgres>(text));
        }
        for text in REDIS {
            assert!(!print::<Redis>(text).contains("s3cr3t"), "{text}: {}", print::<Redis>(text));
        }
        for text in CLICKHOUSE {
            assert!(!print::<ClickHouse>(text).contains("s3cr3t"), "{text}: {}", print::<ClickHouse>(text));
        }
    }

    #[test]
    fn the_password_of_the_text_wins() {
        let mut url = PostgresUrl::parse("host=h password=inside").unwrap();
        url.add_password(Some("outside".into()));
        assert_eq!(url.parsed().unwrap().get_password(), Some(&b"inside"[..]));
        let mut url = PostgresUrl::parse("host=h").unwrap();
        url.add_password(Some("outside".into()));
        assert_eq!(url.parsed().unwrap().get_password(), Some(&b"outside"[..]));
        let mut url = RedisUrl::parse("redis://h").unwrap();
        url.add_password(Some("outside".into()));
        assert_eq!(url.parsed().unwrap().redis_settings().password(), Some("outside"));
    }
}
