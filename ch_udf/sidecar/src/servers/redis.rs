//! Connecting to Redis: one server, or the primary that sentinels name. Owns the check of the
//! server's version.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{ClientTlsConfig, ConnectionAddr, ConnectionInfo, TlsCertificates, TlsMode};
use secrecy::ExposeSecret;

use super::tls::problem::{SettingNames, TlsProblem};
use super::tls::{ClientTls, FileError, provider, read_pem};
use crate::error::{Doing, SidecarError};
use crate::settings::{RedisAddress, RedisUrl, Sentinels, Settings};

const SERVER: &str = "Redis";

/// The oldest supported server: XAUTOCLAIM came with 6.2.
const NEEDED: ((u32, u32), &str) = ((6, 2), "6.2");

const NAMES: SettingNames = SettingNames { roots: "redis_root_file", certificate: "redis_certificate_file" };

/// Time limit for a connection and its handshake.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// Time limit for the sentinels to name the server.
const SENTINEL_LIMIT: Duration = Duration::from_secs(10);

/// Time limit for a reply.
const REPLY_LIMIT: Duration = Duration::from_secs(10);

/// A Redis of the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// Holds cached values, which may be evicted.
    Cache,
    /// Holds accepted writes, which may not.
    Streams,
}

impl Endpoint {
    /// Address of the endpoint.
    pub(crate) fn url(self, settings: &Settings) -> &RedisUrl {
        match (self, &settings.redis_streams_url) {
            (Self::Streams, Some(url)) => url,
            (Self::Cache | Self::Streams, _) => &settings.redis_url,
        }
    }
}

/// A connection to Redis, with facts about the server.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) manager: ConnectionManager,
    pub(crate) version: String,
    /// `maxmemory-policy`: what the server does when its memory is full.
    pub(crate) eviction: String,
    /// Number of replicas that are connected.
    pub(crate) replicas: u32,
}

/// Connects, and checks that the server is new enough.
///
/// # Errors
/// [`SidecarError::Configuration`] for a malformed URL, [`SidecarError::Unreachable`],
/// [`SidecarError::Tls`], [`SidecarError::TlsFile`], [`SidecarError::UnsupportedVersion`].
pub(crate) async fn connect(settings: &Settings, endpoint: Endpoint) -> Result<Connection, SidecarError> {
    let url = endpoint.url(settings);
    let client = client_of(settings, url).await?;
    let config = ConnectionManagerConfig::new()
        .set_number_of_retries(1)
        .set_connection_timeout(Some(CONNECT_LIMIT))
        .set_response_timeout(Some(REPLY_LIMIT));
    let connecting = ConnectionManager::new_with_config(client, config);
    let mut manager = match connecting.await {
        Ok(manager) => manager,
        Err(source) => return Err(explained(url, source).await),
    };
    let information = information(&mut manager, "check the version").await?;
    let version = information.get("redis_version").cloned().unwrap_or_else(|| "unknown".into());
    if super::major_and_minor(&version) < NEEDED.0 {
        return Err(SidecarError::UnsupportedVersion {
            server: SERVER,
            address: url.to_string(),
            found: version,
            needed: NEEDED.1,
        });
    }
    let eviction = information.get("maxmemory_policy").cloned().unwrap_or_else(|| "unknown".into());
    let replicas = information.get("connected_slaves").and_then(|count| count.parse().ok()).unwrap_or(0);
    Ok(Connection { manager, version, eviction, replicas })
}

/// Reads what the server says about itself.
///
/// # Errors
/// [`SidecarError::Redis`].
pub(crate) async fn information(
    manager: &mut ConnectionManager,
    doing: &'static str,
) -> Result<HashMap<String, String>, SidecarError> {
    let text: String = redis::cmd("INFO").query_async(manager).await.doing(doing)?;
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    Ok(lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
}

/// Opens a connection that receives messages.
///
/// # Errors
/// Errors of [`connect`].
pub(crate) async fn subscribe(
    settings: &Settings,
    endpoint: Endpoint,
    channel: &str,
) -> Result<redis::aio::PubSub, SidecarError> {
    let url = endpoint.url(settings);
    let client = client_of(settings, url).await?;
    let subscribing = async {
        let mut subscription = client.get_async_pubsub().await?;
        subscription.subscribe(channel).await?;
        Ok(subscription)
    };
    match tokio::time::timeout(CONNECT_LIMIT, subscribing).await {
        Ok(subscribed) => subscribed.map_err(|source| failure(url, source)),
        Err(elapsed) => {
            Err(SidecarError::Unreachable { server: SERVER, address: url.to_string(), source: Box::new(elapsed) })
        }
    }
}

async fn client_of(settings: &Settings, url: &RedisUrl) -> Result<redis::Client, SidecarError> {
    match url.parsed()? {
        RedisAddress::Server(information) => client(information, url, &settings.redis_tls()),
        RedisAddress::Sentinels(sentinels) => {
            let naming = tokio::time::timeout(SENTINEL_LIMIT, primary(sentinels, url, settings));
            naming.await.map_err(|_| SidecarError::Unreachable {
                server: SERVER,
                address: url.to_string(),
                source: format!("the sentinels named no server within {SENTINEL_LIMIT:?}").into(),
            })?
        }
    }
}

/// Asks the sentinels for the server that takes writes.
async fn primary(sentinels: Sentinels, url: &RedisUrl, settings: &Settings) -> Result<redis::Client, SidecarError> {
    let doing = "ask the sentinels";
    let Sentinels { hosts, service, database, has_tls, user, password } = sentinels;
    let address = |(host, port): (String, u16)| match has_tls {
        true => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
        false => ConnectionAddr::Tcp(host, port),
    };
    let addresses: Vec<ConnectionAddr> = hosts.into_iter().map(address).collect();
    let mut builder = SentinelClientBuilder::new(addresses, service, SentinelServerType::Master)
        .doing(doing)?
        .set_client_to_redis_db(database);
    if has_tls {
        let certificates = certificates(url, &settings.redis_tls())?;
        builder = builder
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_redis_certificates(certificates.clone())
            .set_client_to_sentinel_certificates(certificates);
    }
    if let Some(user) = user {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = password {
        builder = builder.set_client_to_redis_password(password.expose_secret());
    }
    if let Some(password) = settings.sentinel_password()? {
        builder = builder.set_client_to_sentinel_password(password.expose_secret());
    }
    let mut client = builder.build().doing(doing)?;
    client.async_get_client().await.map_err(|source| failure(url, source))
}

/// Prepares the connection to one server.
fn client(information: ConnectionInfo, url: &RedisUrl, tls: &ClientTls) -> Result<redis::Client, SidecarError> {
    let doing = "prepare the connection";
    if url.has_tls() {
        redis::Client::build_with_tls(information, certificates(url, tls)?).doing(doing)
    } else {
        redis::Client::open(information).doing(doing)
    }
}

/// Reads the files of TLS. They are checked by the same rules as for all other servers, and then
/// given to Redis' client, which takes their text.
fn certificates(url: &RedisUrl, tls: &ClientTls) -> Result<TlsCertificates, SidecarError> {
    let unusable = |source: FileError| SidecarError::TlsFile {
        server: SERVER,
        address: url.to_string(),
        source: Box::new(source),
    };
    // Redis' client asks for the default of the process.
    let _ = provider();
    tls.config().map_err(unusable)?;
    let read = |what, path: &Path| read_pem(what, path).map(|text| text.expose_secret().to_vec()).map_err(unusable);
    let client_tls = match &tls.identity {
        None => None,
        Some(identity) => Some(ClientTlsConfig {
            client_cert: read("certificate", &identity.certificate)?,
            client_key: read("key", &identity.key)?,
        }),
    };
    let root_cert = tls.roots_file().map(|path| read("root certificate", path)).transpose()?;
    Ok(TlsCertificates { client_tls, root_cert })
}

/// Explains a failed connection. Redis without TLS waits for the end of a line that no handshake
/// contains, so that it seems to be down.
async fn explained(url: &RedisUrl, source: redis::RedisError) -> SidecarError {
    if source.is_timeout()
        && let Ok(RedisAddress::Server(information)) = url.parsed()
        && let ConnectionAddr::TcpTls { host, port, .. } = information.addr()
    {
        let accepted =
            tokio::time::timeout(CONNECT_LIMIT, tokio::net::TcpStream::connect((host.as_str(), *port))).await;
        if matches!(accepted, Ok(Ok(_))) {
            let detail = TlsProblem::Silent.explain(NAMES);
            return SidecarError::Tls { server: SERVER, address: url.to_string(), detail };
        }
    }
    failure(url, source)
}

fn failure(url: &RedisUrl, source: redis::RedisError) -> SidecarError {
    let (server, address) = (SERVER, url.to_string());
    let problem = url.has_tls().then(|| TlsProblem::of_handshake(&source)).flatten();
    match problem {
        Some(problem) => SidecarError::Tls { server, address, detail: problem.explain(NAMES) },
        None if !url.has_tls() && (has_ended(&source) || TlsProblem::is_expected_by(&source)) => {
            let source = format!("{source}; if the server expects TLS, the URL begins with rediss").into();
            SidecarError::Unreachable { server, address, source }
        }
        None if source.is_io_error() || source.is_timeout() => {
            SidecarError::Unreachable { server, address, source: Box::new(source) }
        }
        None => SidecarError::Redis { doing: "connect", source },
    }
}

/// Returns whether the client's driver says, without a cause, that the server ended the connection.
fn has_ended(error: &redis::RedisError) -> bool {
    error.is_connection_dropped() && std::error::Error::source(error).is_none()
}
