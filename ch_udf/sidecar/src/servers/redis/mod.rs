//! Connecting to Redis: one server, the primary that sentinels name, or a cluster. Owns the check
//! of the servers' version, and subscriptions.

mod link;

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, PushInfo, PushKind,
    TlsCertificates, TlsMode, from_redis_value,
};
use secrecy::ExposeSecret;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::tls::problem::{SettingNames, TlsProblem};
use super::tls::{ClientTls, FileError, provider, read_pem};
use crate::error::{Doing, SidecarError};
use crate::settings::{ClusterNodes, RedisAddress, RedisUrl, Sentinels, Settings};
pub(crate) use link::Link;

const SERVER: &str = "Redis";

/// The oldest supported server: XAUTOCLAIM came with 6.2.
const NEEDED: ((u32, u32), &str) = ((6, 2), "6.2");

/// The oldest supported nodes of a cluster: sharded messages came with 7.0.
const NEEDED_IN_CLUSTER: ((u32, u32), &str) = ((7, 0), "7.0");

const NAMES: SettingNames = SettingNames { roots: "redis_root_file", certificate: "redis_certificate_file" };

/// Time limit for a connection and its handshake.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// Time limit for the sentinels to name the server.
const SENTINEL_LIMIT: Duration = Duration::from_secs(10);

/// Time limit for a reply.
const REPLY_LIMIT: Duration = Duration::from_secs(10);

/// Attempts at a command in a cluster, of which each may be redirected.
const ATTEMPTS: u32 = 8;

/// Pauses between them, in milliseconds.
const ATTEMPT_PAUSES: (u64, u64) = (20, 300);

/// Time after which a subscription without a message is made again.
const SILENCE_LIMIT: Duration = Duration::from_secs(5);

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
    pub(crate) link: Link,
    pub(crate) facts: Facts,
    /// Version of the server; of a cluster, of its oldest node.
    pub(crate) version: String,
    /// `maxmemory-policy`: what the server does when its memory is full.
    pub(crate) eviction: String,
}

/// The servers that take writes, and what they say about themselves: one, or several of a cluster.
#[derive(Debug, Clone)]
pub(crate) struct Facts(Vec<(String, HashMap<String, String>)>);

impl Facts {
    /// Returns the addresses of the servers, for [`Link::ask`].
    pub(crate) fn addresses(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(address, _)| address.as_str())
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter_map(move |(_, facts)| facts.get(name)).map(String::as_str)
    }

    /// Returns the sum of a number over the servers.
    pub(crate) fn sum(&self, name: &str) -> Option<u64> {
        self.all(name).map(|text| text.parse::<u64>().ok()).sum()
    }

    /// Returns the policy of eviction; of several, the one that accepted writes are least safe
    /// under.
    pub(crate) fn eviction(&self) -> String {
        let worst = self.all("maxmemory_policy").max_by_key(|policy| policy.starts_with("allkeys"));
        worst.unwrap_or("unknown").to_owned()
    }

    /// Returns whether a server has a replica.
    pub(crate) fn have_replicas(&self) -> bool {
        self.all("connected_slaves").any(|count| count != "0")
    }

    /// Returns the marks of the servers, joined by commas. A server has another mark after a
    /// restart, or when it took the place of another one.
    pub(crate) fn marks(&self) -> String {
        let mark = |(_, facts): &(String, HashMap<String, String>)| {
            let fact = |name| facts.get(name).map_or("unknown", String::as_str);
            format!("{}.{}", fact("run_id"), fact("master_replid"))
        };
        let mut marks: Vec<String> = self.0.iter().map(mark).collect();
        marks.sort_unstable();
        marks.join(",")
    }

    fn version(&self) -> &str {
        self.all("redis_version").min_by_key(|version| super::major_and_minor(version)).unwrap_or("unknown")
    }
}

/// Connects, and checks that the server is new enough.
///
/// # Errors
/// [`SidecarError::Configuration`] for a malformed URL, or one that names a node of a cluster as
/// if it were a server; [`SidecarError::Unreachable`], [`SidecarError::Tls`],
/// [`SidecarError::TlsFile`], [`SidecarError::UnsupportedVersion`].
pub(crate) async fn connect(settings: &Settings, endpoint: Endpoint) -> Result<Connection, SidecarError> {
    let url = endpoint.url(settings);
    let (mut link, needed) = match url.parsed()? {
        RedisAddress::Cluster(nodes) => {
            let builder = cluster_builder(&nodes, url, settings)?;
            match open_cluster(builder.build(), url).await {
                Ok(connection) => (Link::Cluster(connection), NEEDED_IN_CLUSTER),
                Err(error) => return Err(explained_by_nodes(&nodes, url, settings, error).await),
            }
        }
        RedisAddress::Server(_) | RedisAddress::Sentinels(_) => {
            let config = ConnectionManagerConfig::new()
                .set_number_of_retries(1)
                .set_connection_timeout(Some(CONNECT_LIMIT))
                .set_response_timeout(Some(REPLY_LIMIT));
            let client = client_of(settings, url).await?;
            match ConnectionManager::new_with_config(client, config).await {
                Ok(manager) => (Link::Server(manager), NEEDED),
                Err(source) => return Err(explained(url, source).await),
            }
        }
    };
    let facts = information(&mut link, "check the version").await?;
    let version = facts.version().to_owned();
    if super::major_and_minor(&version) < needed.0 {
        return Err(SidecarError::UnsupportedVersion {
            server: SERVER,
            address: url.to_string(),
            found: version,
            needed: needed.1,
        });
    }
    if !link.is_cluster() && facts.all("cluster_enabled").any(|enabled| enabled == "1") {
        return Err(SidecarError::Configuration {
            detail: format!("Redis at {url} is a node of a cluster; the URL of a cluster begins with redis+cluster"),
        });
    }
    let eviction = facts.eviction();
    Ok(Connection { link, facts, version, eviction })
}

/// Connects to the nodes of a cluster.
async fn open_cluster(
    client: redis::RedisResult<ClusterClient>,
    url: &RedisUrl,
) -> Result<redis::cluster_async::ClusterConnection, SidecarError> {
    let client = client.doing("prepare the connection")?;
    let connecting = tokio::time::timeout(SENTINEL_LIMIT, client.get_async_connection());
    match connecting.await {
        Ok(connection) => connection.map_err(|source| failure(url, source)),
        Err(elapsed) => {
            Err(SidecarError::Unreachable { server: SERVER, address: url.to_string(), source: Box::new(elapsed) })
        }
    }
}

/// Reads what the servers say about themselves.
///
/// # Errors
/// [`SidecarError::Redis`].
pub(crate) async fn information(link: &mut Link, doing: &'static str) -> Result<Facts, SidecarError> {
    link.information().await.map(Facts).doing(doing)
}

/// Messages of a channel.
pub(crate) enum Subscription {
    Server(redis::aio::PubSub),
    /// A channel of a cluster has a slot, as a key has, and its messages stay on the slot's node.
    Cluster {
        _connection: redis::cluster_async::ClusterConnection,
        pushes: UnboundedReceiver<PushInfo>,
    },
}

impl Subscription {
    /// Returns the next message, or `None` when some may have been missed: then it is time to
    /// subscribe again.
    pub(crate) async fn next(&mut self) -> Option<String> {
        tokio::time::timeout(SILENCE_LIMIT, self.receive()).await.ok().flatten()
    }

    async fn receive(&mut self) -> Option<String> {
        match self {
            Self::Server(subscription) => {
                let message = subscription.on_message().next().await?;
                Some(message.get_payload().unwrap_or_default())
            }
            Self::Cluster { pushes, .. } => loop {
                let PushInfo { kind, data } = pushes.recv().await?;
                match kind {
                    PushKind::SMessage => {
                        return Some(
                            data.into_iter().nth(1).and_then(|text| from_redis_value(text).ok()).unwrap_or_default(),
                        );
                    }
                    // A node was lost, or the slot moved away.
                    PushKind::Disconnection | PushKind::SUnsubscribe => return None,
                    _ => {}
                }
            },
        }
    }
}

/// Opens a connection that receives messages.
///
/// # Errors
/// Errors of [`connect`].
pub(crate) async fn subscribe(
    settings: &Settings,
    endpoint: Endpoint,
    channel: &str,
) -> Result<Subscription, SidecarError> {
    let url = endpoint.url(settings);
    if let RedisAddress::Cluster(nodes) = url.parsed()? {
        let (sender, pushes) = unbounded_channel();
        let builder = cluster_builder(&nodes, url, settings)?;
        let client = builder.use_protocol(ProtocolVersion::RESP3).push_sender(sender).build();
        let mut connection = open_cluster(client, url).await?;
        connection.ssubscribe(channel).await.map_err(|source| failure(url, source))?;
        return Ok(Subscription::Cluster { _connection: connection, pushes });
    }
    let client = client_of(settings, url).await?;
    let subscribing = async {
        let mut subscription = client.get_async_pubsub().await?;
        subscription.subscribe(channel).await?;
        Ok(Subscription::Server(subscription))
    };
    match tokio::time::timeout(CONNECT_LIMIT, subscribing).await {
        Ok(subscribed) => subscribed.map_err(|source| failure(url, source)),
        Err(elapsed) => {
            Err(SidecarError::Unreachable { server: SERVER, address: url.to_string(), source: Box::new(elapsed) })
        }
    }
}

/// Returns the command that sends a message to the subscribers of a channel.
pub(crate) fn publish(link: &Link, channel: &str, message: &str) -> redis::Cmd {
    let name = if link.is_cluster() { "SPUBLISH" } else { "PUBLISH" };
    redis::cmd(name).arg(channel).arg(message).to_owned()
}

/// Prepares the connections to a cluster.
fn cluster_builder(
    nodes: &ClusterNodes,
    url: &RedisUrl,
    settings: &Settings,
) -> Result<ClusterClientBuilder, SidecarError> {
    let addresses = nodes.hosts.iter().cloned().map(|(host, port)| match nodes.has_tls {
        true => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
        false => ConnectionAddr::Tcp(host, port),
    });
    let mut builder = ClusterClientBuilder::new(addresses)
        .connection_timeout(CONNECT_LIMIT)
        .response_timeout(REPLY_LIMIT)
        .retries(ATTEMPTS)
        .min_retry_wait(ATTEMPT_PAUSES.0)
        .max_retry_wait(ATTEMPT_PAUSES.1);
    if nodes.has_tls {
        builder = builder.tls(TlsMode::Secure).certs(certificates(url, &settings.redis_tls())?);
    }
    if let Some(user) = &nodes.user {
        builder = builder.username(user);
    }
    if let Some(password) = &nodes.password {
        builder = builder.password(password.expose_secret());
    }
    Ok(builder)
}

async fn client_of(settings: &Settings, url: &RedisUrl) -> Result<redis::Client, SidecarError> {
    match url.parsed()? {
        RedisAddress::Server(information) => client(information, url, &settings.redis_tls()),
        RedisAddress::Cluster(_) => {
            let detail = format!("{url} is a cluster, and not one server");
            Err(SidecarError::Configuration { detail })
        }
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

/// Explains why a cluster cannot be reached with TLS. Its client states the errors of nodes as
/// texts, so the nodes of the URL are tried one by one: then the failed check is known.
async fn explained_by_nodes(
    nodes: &ClusterNodes,
    url: &RedisUrl,
    settings: &Settings,
    error: SidecarError,
) -> SidecarError {
    if !nodes.has_tls || !matches!(error, SidecarError::Unreachable { .. } | SidecarError::Redis { .. }) {
        return error;
    }
    for (host, port) in nodes.hosts.iter().cloned() {
        let address = ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None };
        let Ok(information) = address.into_connection_info() else { continue };
        let Ok(client) = client(information, url, &settings.redis_tls()) else { continue };
        let connected = tokio::time::timeout(CONNECT_LIMIT, client.get_multiplexed_async_connection()).await;
        if let Ok(Err(source)) = connected
            && let explained @ SidecarError::Tls { .. } = failure(url, source)
        {
            return explained;
        }
    }
    error
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
