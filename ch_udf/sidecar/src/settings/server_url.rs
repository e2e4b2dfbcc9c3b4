//! Addresses of ClickHouse and Redis. Owns the rule that neither a password nor the text of an
//! address is ever printed: output shows the parts that the server's client has parsed, without
//! secrets.

use std::fmt;
use std::marker::PhantomData;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
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
    /// Returns whether the address asks for TLS.
    fn has_tls(parsed: &Self::Parsed) -> bool;
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

    /// Returns whether the address asks for TLS.
    pub(crate) fn has_tls(&self) -> bool {
        K::parse(self.text.expose_secret()).is_some_and(|parsed| K::has_tls(&parsed))
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

    fn has_tls(url: &Url) -> bool {
        url.scheme() == "https"
    }

    fn with_password(mut url: Url, password: &str) -> Url {
        // Only a URL without a host rejects a password.
        let _ = url.set_password(Some(password));
        url
    }
}

/// Redis.
pub(crate) struct Redis;

/// One server, sentinels that know it, or a cluster.
#[derive(Debug, Clone)]
pub(crate) enum RedisAddress {
    Server(ConnectionInfo),
    Sentinels(Sentinels),
    Cluster(ClusterNodes),
}

/// Some nodes of a cluster, which know the others.
#[derive(Clone)]
pub(crate) struct ClusterNodes {
    /// Names and ports.
    pub(crate) hosts: Vec<(String, u16)>,
    pub(crate) has_tls: bool,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<SecretString>,
}

impl fmt::Debug for ClusterNodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterNodes").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

impl ClusterNodes {
    const DEFAULT_PORT: u16 = 6379;

    /// Parses `redis+cluster://[[USER]:PASSWORD@]HOST[:PORT],…`.
    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let has_tls = match scheme {
            "redis+cluster" => false,
            "rediss+cluster" => true,
            _ => return None,
        };
        let Login { user, password, rest } = Login::parse(rest)?;
        let hosts = rest.strip_suffix('/').unwrap_or(rest);
        // A cluster has no numbered databases, and anything else belongs to a password that was not
        // escaped.
        if hosts.contains(['/', '@', '?', '#', ' ']) {
            return None;
        }
        let hosts = hosts.split(',').map(|text| host(text, Self::DEFAULT_PORT)).collect::<Option<Vec<_>>>()?;
        Some(Self { hosts, has_tls, user, password })
    }

    fn show(&self) -> String {
        let scheme = if self.has_tls { "rediss+cluster" } else { "redis+cluster" };
        let user = self.user.as_ref().map_or_else(String::new, |user| format!("{user}@"));
        let hosts: Vec<String> = self.hosts.iter().map(|(name, port)| format!("{name}:{port}")).collect();
        format!("{scheme}://{user}{}", hosts.join(","))
    }
}

/// User and password before the hosts of an address.
struct Login<'a> {
    user: Option<String>,
    password: Option<SecretString>,
    rest: &'a str,
}

impl<'a> Login<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let decode = |text: &str| Some(percent_encoding::percent_decode_str(text).decode_utf8().ok()?.into_owned());
        let present = |text: &str| if text.is_empty() { Some(None) } else { decode(text).map(Some) };
        let (login, rest) = text.split_once('@').map_or((None, text), |(login, rest)| (Some(login), rest));
        let (user, password) = login.map_or(("", ""), |login| login.split_once(':').unwrap_or((login, "")));
        Some(Self { user: present(user)?, password: present(password)?.map(SecretString::from), rest })
    }
}

/// Parses `HOST[:PORT]`, with the number of an address of IPv6 in brackets.
fn host(text: &str, default_port: u16) -> Option<(String, u16)> {
    let (name, port) = match text.strip_prefix('[') {
        Some(number) => {
            let (number, port) = number.split_once(']')?;
            (number, port.strip_prefix(':'))
        }
        None => text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port))),
    };
    let port = port.map_or(Some(default_port), |port| port.parse().ok())?;
    (!name.is_empty() && !name.contains(':'))
        .then(|| (name.to_owned(), port))
        .or_else(|| name.parse::<std::net::Ipv6Addr>().is_ok().then(|| (name.to_owned(), port)))
}

/// Sentinels, and the service whose primary they name.
#[derive(Clone)]
pub(crate) struct Sentinels {
    /// Names and ports.
    pub(crate) hosts: Vec<(String, u16)>,
    pub(crate) service: String,
    pub(crate) database: i64,
    pub(crate) has_tls: bool,
    /// User and password in Redis itself.
    pub(crate) user: Option<String>,
    pub(crate) password: Option<SecretString>,
}

impl fmt::Debug for Sentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sentinels").field("hosts", &self.hosts).field("service", &self.service).finish_non_exhaustive()
    }
}

impl Sentinels {
    const DEFAULT_PORT: u16 = 26379;

    /// Parses `redis+sentinel://[[USER]:PASSWORD@]HOST[:PORT],…/SERVICE[/DATABASE]`.
    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let has_tls = match scheme {
            "redis+sentinel" => false,
            "rediss+sentinel" => true,
            _ => return None,
        };
        let Login { user, password, rest } = Login::parse(rest)?;
        let mut parts = rest.split('/');
        let hosts = parts.next()?.split(',').map(|text| host(text, Self::DEFAULT_PORT)).collect::<Option<Vec<_>>>()?;
        let service = percent_encoding::percent_decode_str(parts.next()?).decode_utf8().ok()?.into_owned();
        let service = Some(service).filter(|service| !service.is_empty())?;
        let database = match parts.next() {
            None | Some("") => 0,
            Some(number) => number.parse().ok().filter(|number| *number >= 0)?,
        };
        // Anything else belongs to a password that was not escaped.
        let is_plain = |text: &str| !text.contains(['@', '?', '#', ' ']);
        if parts.next().is_some() || !is_plain(rest) {
            return None;
        }
        Some(Self { hosts, service, database, has_tls, user, password })
    }

    fn show(&self) -> String {
        let scheme = if self.has_tls { "rediss+sentinel" } else { "redis+sentinel" };
        let user = self.user.as_ref().map_or_else(String::new, |user| format!("{user}@"));
        let hosts: Vec<String> = self.hosts.iter().map(|(name, port)| format!("{name}:{port}")).collect();
        let database = if self.database == 0 { String::new() } else { format!("/{}", self.database) };
        format!("{scheme}://{user}{}/{}{database}", hosts.join(","), self.service)
    }
}

impl ServerKind for Redis {
    type Parsed = RedisAddress;

    const FORMS: &'static str = "redis://HOST:PORT/DATABASE, redis+unix:///PATH?db=DATABASE, \
                                 redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DATABASE, \
                                 redis+cluster://HOST:PORT,HOST:PORT, or with TLS rediss://, rediss+sentinel:// or \
                                 rediss+cluster://, with special characters of a password as %40";

    fn parse(text: &str) -> Option<RedisAddress> {
        if let Some(sentinels) = Sentinels::parse(text) {
            return Some(RedisAddress::Sentinels(sentinels));
        }
        if let Some(nodes) = ClusterNodes::parse(text) {
            return Some(RedisAddress::Cluster(nodes));
        }
        // A certificate is always verified: there is no `#insecure`.
        let is_verified =
            |information: &ConnectionInfo| !matches!(information.addr(), ConnectionAddr::TcpTls { insecure: true, .. });
        text.into_connection_info().ok().filter(is_verified).map(RedisAddress::Server)
    }

    fn show(address: &RedisAddress) -> String {
        let information = match address {
            RedisAddress::Server(information) => information,
            RedisAddress::Sentinels(sentinels) => return sentinels.show(),
            RedisAddress::Cluster(nodes) => return nodes.show(),
        };
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

    fn has_password(address: &RedisAddress) -> bool {
        match address {
            RedisAddress::Server(information) => information.redis_settings().password().is_some(),
            RedisAddress::Sentinels(sentinels) => sentinels.password.is_some(),
            RedisAddress::Cluster(nodes) => nodes.password.is_some(),
        }
    }

    fn has_tls(address: &RedisAddress) -> bool {
        match address {
            RedisAddress::Server(information) => matches!(information.addr(), ConnectionAddr::TcpTls { .. }),
            RedisAddress::Sentinels(sentinels) => sentinels.has_tls,
            RedisAddress::Cluster(nodes) => nodes.has_tls,
        }
    }

    fn with_password(address: RedisAddress, password: &str) -> RedisAddress {
        match address {
            RedisAddress::Server(information) => {
                let settings = information.redis_settings().clone().set_password(password);
                RedisAddress::Server(information.set_redis_settings(settings))
            }
            RedisAddress::Sentinels(sentinels) => {
                RedisAddress::Sentinels(Sentinels { password: Some(password.into()), ..sentinels })
            }
            RedisAddress::Cluster(nodes) => {
                RedisAddress::Cluster(ClusterNodes { password: Some(password.into()), ..nodes })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_by_their_parts() {
        let shown = |text: &str| RedisUrl::parse(text).unwrap().to_string();
        assert_eq!(shown("redis://ann:pw@h:1/2"), "redis://ann@h:1/2");
        assert_eq!(shown("redis+unix:///tmp/r?db=3&pass=s3cret"), "redis+unix:///tmp/r?db=3");
        assert_eq!(shown("redis+sentinel://ann:pw@a,b:1/main/2"), "redis+sentinel://ann@a:26379,b:1/main/2");
        assert_eq!(shown("rediss+sentinel://[::1]:7/main"), "rediss+sentinel://::1:7/main");
        assert_eq!(shown("redis+cluster://ann:pw@a,b:1"), "redis+cluster://ann@a:6379,b:1");
        assert_eq!(shown("rediss+cluster://[::1]:7,c/"), "rediss+cluster://::1:7,c:6379");
        let shown = |text: &str| ClickHouseUrl::parse(text).unwrap().to_string();
        assert_eq!(shown("http://ann:pw@h:8123/"), "http://h:8123");
        assert_eq!(shown("http://h"), "http://h");
    }

    /// A password in every form that a client accepts, or a user may think it does.
    const REDIS: [&str; 16] = [
        "redis+cluster://:s3cr3t@h,i",
        "redis+cluster://u:a/s3cr3t@h",
        "redis+cluster://u:a@s3cr3t@h",
        "redis+cluster://h/s3cr3t",
        "redis+cluster://h?password=s3cr3t",
        "redis+sentinel://:s3cr3t@h/main",
        "redis+sentinel://u:a/s3cr3t@h/main",
        "redis+sentinel://u:a@s3cr3t@h/main",
        "redis+sentinel://h/main?password=s3cr3t",
        "redis+sentinel://h:s3cr3t/main",
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
        for text in REDIS {
            assert!(!print::<Redis>(text).contains("s3cr3t"), "{text}: {}", print::<Redis>(text));
        }
        for text in CLICKHOUSE {
            assert!(!print::<ClickHouse>(text).contains("s3cr3t"), "{text}: {}", print::<ClickHouse>(text));
        }
    }

    #[test]
    fn sentinels_need_a_service() {
        for text in ["redis+sentinel://h", "redis+sentinel://h/", "redis+sentinel:///main", "redis+sentinel://h/main/x"]
        {
            assert!(RedisUrl::parse(text).is_err(), "{text}");
        }
        let parsed = RedisUrl::parse("rediss+sentinel://:a%40b@h/my%20main/3").unwrap().parsed().unwrap();
        let RedisAddress::Sentinels(found) = parsed else { panic!("{parsed:?}") };
        assert_eq!((&*found.service, found.database, found.has_tls), ("my main", 3, true));
        assert_eq!(found.password.unwrap().expose_secret(), "a@b");
    }

    fn password(url: &RedisUrl) -> Option<String> {
        match url.parsed().unwrap() {
            RedisAddress::Server(server) => server.redis_settings().password().map(str::to_owned),
            RedisAddress::Sentinels(sentinels) => {
                sentinels.password.map(|password| password.expose_secret().to_owned())
            }
            RedisAddress::Cluster(nodes) => nodes.password.map(|password| password.expose_secret().to_owned()),
        }
    }

    #[test]
    fn the_password_of_the_text_wins() {
        let mut url = RedisUrl::parse("redis://:inside@h").unwrap();
        url.add_password(Some("outside".into()));
        assert_eq!(password(&url).as_deref(), Some("inside"));
        let mut url = RedisUrl::parse("redis://h").unwrap();
        url.add_password(Some("outside".into()));
        assert_eq!(password(&url).as_deref(), Some("outside"));
    }
}
