//! Choosing and connecting to ClickHouse: a configured server, or the embedded engine. Owns the
//! check of the server's version.

use std::time::Duration;

use clickhouse::Client;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use secrecy::{ExposeSecret, SecretString};

use super::engine::{Endpoint, EngineFolder, USER, answers};
use super::tls::ClientTls;
use super::tls::problem::{SettingNames, TlsProblem};
use crate::error::{Chain, Doing, SidecarError};
use crate::settings::{ClickHouseUrl, Settings};

/// The oldest supported server: the `JSON` type is complete since 25.3.
const NEEDED: ((u32, u32), &str) = ((25, 3), "25.3");

const SERVER: &str = "ClickHouse";

const NAMES: SettingNames = SettingNames { roots: "clickhouse_root_file", certificate: "clickhouse_certificate_file" };

/// Time limit for the first answer of a server, with the connection and the handshake before it.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Interval of probes of an idle connection, as for ClickHouse's client without TLS.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// Time after which an idle connection is closed; ClickHouse closes it after 3 s.
const IDLE_LIMIT: Duration = Duration::from_secs(2);

/// The ClickHouse that the settings name.
#[derive(Debug)]
pub(crate) enum Choice {
    Configured(ClickHouseServer),
    /// The embedded engine of this folder, running or not.
    Embedded(EngineFolder),
}

impl Choice {
    pub(crate) fn new(settings: &Settings) -> Self {
        match &settings.clickhouse_url {
            Some(url) => Self::Configured(ClickHouseServer::at(url, settings)),
            None => Self::Embedded(EngineFolder::new(settings.data_dir.join("clickhouse"))),
        }
    }

    /// Returns where ClickHouse answers now, or `None` for an embedded engine that does not run.
    /// Starts nothing.
    ///
    /// # Errors
    /// [`SidecarError::Io`] when the engine's password cannot be read.
    pub(crate) fn running(&self, settings: &Settings) -> Result<Option<ClickHouseServer>, SidecarError> {
        match self {
            Self::Configured(server) => Ok(Some(server.clone())),
            Self::Embedded(folder) => match folder.endpoint().filter(|endpoint| answers(endpoint.http_port)) {
                Some(endpoint) => ClickHouseServer::of_engine(folder, &endpoint, settings).map(Some),
                None => Ok(None),
            },
        }
    }
}

/// A ClickHouse to connect to.
#[derive(Debug, Clone)]
pub(crate) struct ClickHouseServer {
    /// The HTTP interface, without user and password.
    pub(crate) url: String,
    pub(crate) user: String,
    pub(crate) password: Option<SecretString>,
    /// The database that holds ARX's tables.
    pub(crate) database: String,
    /// `None` for a server without TLS.
    pub(crate) tls: Option<ClientTls>,
}

impl ClickHouseServer {
    /// Describes a configured server. A user and a password in the address take precedence.
    pub(crate) fn at(url: &ClickHouseUrl, settings: &Settings) -> Self {
        let (user, password) = url.credentials();
        Self {
            url: url.without_credentials(),
            user: user.unwrap_or_else(|| settings.clickhouse_user.clone()),
            password: password.or_else(|| settings.clickhouse_password.clone()),
            database: settings.clickhouse_database.clone(),
            tls: url.has_tls().then(|| settings.clickhouse_tls()),
        }
    }

    /// Describes an embedded engine that answers.
    pub(super) fn of_engine(
        folder: &EngineFolder,
        endpoint: &Endpoint,
        settings: &Settings,
    ) -> Result<Self, SidecarError> {
        let password = Some(folder.password()?.into());
        let database = settings.clickhouse_database.clone();
        Ok(Self { url: endpoint.url(), user: USER.into(), password, database, tls: None })
    }
}

/// A client of the configured database, and the server's version.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) client: Client,
    pub(crate) version: String,
}

/// Connects, and checks that the server is new enough.
///
/// # Errors
/// [`SidecarError::Unreachable`], [`SidecarError::Tls`], [`SidecarError::TlsFile`],
/// [`SidecarError::UnsupportedVersion`], [`SidecarError::ClickHouse`] for a rejected login.
pub(crate) async fn connect(server: &ClickHouseServer) -> Result<Connection, SidecarError> {
    let address = server.url.clone();
    let mut client = client(server)?.with_url(&server.url).with_user(&server.user);
    if let Some(password) = &server.password {
        client = client.with_password(password.expose_secret());
    }
    let answer = tokio::time::timeout(CONNECT_LIMIT, client.query("SELECT version()").fetch_one());
    let Ok(answer) = answer.await else {
        let source = format!("no answer within {} s", CONNECT_LIMIT.as_secs()).into();
        return Err(SidecarError::Unreachable { server: SERVER, address, source });
    };
    let version: String = match answer {
        Err(source @ (clickhouse::error::Error::Network(_) | clickhouse::error::Error::TimedOut)) => {
            let problem = server.tls.as_ref().and_then(|_| TlsProblem::of_handshake(&source));
            return Err(match problem {
                Some(problem) => SidecarError::Tls { server: SERVER, address, detail: problem.explain(NAMES) },
                None if server.tls.is_none() && TlsProblem::is_expected_by(&source) => {
                    let source = format!("{}; if the server expects TLS, the URL begins with https", Chain(&source));
                    SidecarError::Unreachable { server: SERVER, address, source: source.into() }
                }
                None => SidecarError::Unreachable { server: SERVER, address, source: Box::new(source) },
            });
        }
        answer => answer.doing("check the version")?,
    };
    if super::major_and_minor(&version) < NEEDED.0 {
        return Err(SidecarError::UnsupportedVersion { server: SERVER, address, found: version, needed: NEEDED.1 });
    }
    if is_local(&server.url) {
        // On one machine compressing costs more than copying.
        client = client.with_compression(clickhouse::Compression::None);
    }
    Ok(Connection { client: client.with_database(&server.database), version })
}

/// Returns a client without an address: one that speaks only TLS if the server's URL asks for it.
fn client(server: &ClickHouseServer) -> Result<Client, SidecarError> {
    let Some(tls) = &server.tls else { return Ok(Client::default()) };
    let config = tls.config().map_err(|source| SidecarError::TlsFile {
        server: SERVER,
        address: server.url.clone(),
        source: Box::new(source),
    })?;
    let mut connector = HttpConnector::new();
    connector.set_keepalive(Some(KEEP_ALIVE));
    connector.set_nodelay(true);
    connector.enforce_http(false);
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1().wrap_connector(connector);
    let client = HttpClient::builder(TokioExecutor::new()).pool_idle_timeout(IDLE_LIMIT).build(connector);
    Ok(Client::with_http_client(client))
}

fn is_local(url: &str) -> bool {
    ["://127.", "://localhost", "://[::1]"].iter().any(|local| url.contains(local))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_accepts_and_never_answers_is_given_up() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // The clock moves on while nothing else happens.
        tokio::time::pause();
        for (scheme, tls) in [("http", None), ("https", Some(ClientTls::verified(None, None)))] {
            let server = ClickHouseServer {
                url: format!("{scheme}://127.0.0.1:{port}"),
                user: USER.into(),
                password: None,
                database: "arx".into(),
                tls,
            };
            let error = connect(&server).await.err().unwrap();
            assert!(matches!(&error, SidecarError::Unreachable { .. }), "{error}");
            assert!(Chain(&error).to_string().contains("no answer within 10 s"), "{}", Chain(&error));
        }
    }
}
