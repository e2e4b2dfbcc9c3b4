//! Ways to a server: which of the hosts of an address, and with TLS or without. Owns the meaning of
//! `sslmode` and `target_session_attrs`, which are libpq's.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use secrecy::ExposeSecret;
use tokio_postgres::config::{SslMode as Negotiated, SslNegotiation};
use tokio_postgres::{CancelToken, Client, Config, NoTls, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::pooler::connect_alone;
use crate::error::{Chain, Doing, SidecarError};
use crate::servers::tls::problem::{SettingNames, TlsProblem};
use crate::settings::{ConnectOptions, Host, PostgresUrl, SessionAttributes, SslMode};

const SERVER: &str = "PostgreSQL";

/// Name of this program in `pg_stat_activity`.
const APPLICATION_NAME: &str = "arx-sidecar";

const NAMES: SettingNames = SettingNames { roots: "sslrootcert", certificate: "sslcert and sslkey" };

/// Text of tokio-postgres where the server answers that it has no TLS.
const NO_TLS: &str = "server does not support TLS";

/// A way to one server.
#[derive(Clone)]
pub(super) struct Route {
    config: Config,
    /// `None`: a socket of this machine, or a connection without TLS.
    tls: Option<MakeRustlsConnect>,
    /// Without secrets.
    address: String,
    limit: Option<std::time::Duration>,
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Route({:?})", self.address)
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

impl Route {
    fn new(
        url: &PostgresUrl,
        options: &ConnectOptions,
        index: usize,
        host: &Host,
        with_tls: bool,
    ) -> Result<Self, SidecarError> {
        let mut config = Config::new();
        config.host(&host.name).port(host.port).application_name(APPLICATION_NAME);
        config.connect_timeout(options.socket_limit).ssl_negotiation(options.negotiation);
        if let Some(number) = host.number {
            config.hostaddr(number);
        }
        if let Some(user) = &options.user {
            config.user(user);
        }
        if let Some(database) = &options.database {
            config.dbname(database);
        }
        if let Some(text) = &options.options {
            config.options(text);
        }
        if let Some(password) = url.password(index) {
            config.password(password.expose_secret());
        }
        match &options.keep_alive {
            None => {
                config.keepalives(false);
            }
            Some(probes) => {
                config.keepalives_idle(probes.idle).keepalives_interval(probes.interval);
                config.keepalives_retries(probes.count);
            }
        }
        if let Some(limit) = options.user_timeout {
            config.tcp_user_timeout(limit);
        }
        let shown = |name: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!(" {name}={value}")).unwrap_or_default()
        };
        let address = format!("{host}{}{}", shown("user", &options.user), shown("dbname", &options.database));
        let tls = if with_tls {
            let mut tls = options.tls.config().map_err(|source| SidecarError::TlsFile {
                server: SERVER,
                address: address.clone(),
                source: Box::new(source),
            })?;
            tls.alpn_protocols = vec![b"postgresql".to_vec()];
            config.ssl_mode(Negotiated::Require).channel_binding(options.binding);
            Some(MakeRustlsConnect::new(tls))
        } else {
            config.ssl_mode(Negotiated::Disable);
            // Without TLS there is nothing to bind to.
            config.channel_binding(options.binding);
            None
        };
        Ok(Self { config, tls, address, limit: options.limit })
    }

    /// Connects. `more` are further options of the server's command line.
    ///
    /// # Errors
    /// [`SidecarError::Unreachable`], [`SidecarError::Tls`], [`SidecarError::Postgres`].
    pub(super) async fn connect(&self, more: Option<&str>) -> Result<Client, SidecarError> {
        let mut config = self.config.clone();
        if let Some(more) = more {
            config.options(format!("{} {more}", config.get_options().unwrap_or_default()).trim_start());
        }
        let connecting = async {
            match &self.tls {
                Some(tls) => config.connect(tls.clone()).await.map(|(client, connection)| {
                    keep(connection);
                    client
                }),
                None => config.connect(NoTls).await.map(|(client, connection)| {
                    keep(connection);
                    client
                }),
            }
        };
        let outcome = match self.limit {
            None => connecting.await,
            Some(limit) => tokio::time::timeout(limit, connecting).await.map_err(|_| {
                let source = format!("no answer within connect_timeout = {} s", limit.as_secs());
                SidecarError::Unreachable { server: SERVER, address: self.address.clone(), source: source.into() }
            })?,
        };
        outcome.map_err(|error| self.failure(error))
    }

    fn failure(&self, error: tokio_postgres::Error) -> SidecarError {
        // A server that answers with an error (wrong password, no such database) is not down.
        if error.code().is_some() {
            return SidecarError::Postgres { doing: "connect", source: error };
        }
        let has_no_tls = std::error::Error::source(&error).is_some_and(|source| source.to_string() == NO_TLS);
        let is_direct = self.tls.is_some() && self.config.get_ssl_negotiation() == SslNegotiation::Direct;
        let problem = match TlsProblem::of(&error) {
            _ if has_no_tls => Some(TlsProblem::Plain),
            None if is_direct && TlsProblem::is_end(&error) => Some(TlsProblem::NotDirect),
            problem => problem,
        };
        let (server, address) = (SERVER, self.address.clone());
        match problem {
            Some(problem) => SidecarError::Tls { server, address, detail: problem.explain(NAMES) },
            None if is_about_login(&error) => SidecarError::Postgres { doing: "connect", source: error },
            None => SidecarError::Unreachable { server, address, source: Box::new(error) },
        }
    }

    /// Asks the server to cancel what a connection by this route does.
    ///
    /// # Errors
    /// Errors of the connection.
    pub(super) async fn cancel(&self, token: &CancelToken) -> Result<(), tokio_postgres::Error> {
        match &self.tls {
            Some(tls) => token.cancel_query(tls.clone()).await,
            None => token.cancel_query(NoTls).await,
        }
    }
}

/// Returns whether the server was reached, and the login failed on this side: no password, or no
/// channel binding.
fn is_about_login(error: &tokio_postgres::Error) -> bool {
    let text = error.to_string();
    text.starts_with("authentication error") || text.starts_with("invalid configuration")
}

/// Runs a connection until its client is dropped.
fn keep<S, T>(connection: tokio_postgres::Connection<S, T>)
where
    tokio_postgres::Connection<S, T>: Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static,
{
    tokio::spawn(async move {
        // The caller that waits for an answer gets the same error and handles it.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to PostgreSQL ended");
        }
    });
}

/// Connects to the first host that has the property that the address states, or, where it states
/// none and names several hosts, `attributes`.
///
/// # Errors
/// [`SidecarError::Hosts`] for several hosts, otherwise the error of the one.
pub(super) async fn connect(url: &PostgresUrl, attributes: SessionAttributes) -> Result<(Client, Route), SidecarError> {
    let options = url.options()?;
    let several = options.hosts.len() > 1;
    let wanted = options.attributes.unwrap_or(if several { attributes } else { SessionAttributes::Any });
    let mut order: Vec<usize> = (0..options.hosts.len()).collect();
    if options.is_random {
        fastrand::shuffle(&mut order);
    }
    let rounds: &[SessionAttributes] = match wanted {
        SessionAttributes::PreferStandby => &[SessionAttributes::Standby, SessionAttributes::Any],
        ref wanted => std::slice::from_ref(wanted),
    };
    let mut errors = Vec::new();
    for round in rounds {
        errors.clear();
        for index in &order {
            let Some(host) = options.hosts.get(*index) else { continue };
            match connect_to_host(url, &options, *index, host, *round).await {
                Ok(connected) => return Ok(connected),
                Err(error) => errors.push(error),
            }
        }
    }
    match (errors.pop(), errors.is_empty()) {
        (Some(error), true) => Err(error),
        (last, _) => {
            errors.extend(last);
            Err(SidecarError::Hosts { address: url.to_string(), errors })
        }
    }
}

/// Connects to the first address of a host that can be used. The time limit concerns each of them,
/// as for libpq, and so does `wanted`: any of them may be the primary.
async fn connect_to_host(
    url: &PostgresUrl,
    options: &ConnectOptions,
    index: usize,
    host: &Host,
    wanted: SessionAttributes,
) -> Result<(Client, Route), SidecarError> {
    connect_to_first(url, options, index, &addresses(host, options).await?, wanted).await
}

async fn connect_to_first(
    url: &PostgresUrl,
    options: &ConnectOptions,
    index: usize,
    addresses: &[Host],
    wanted: SessionAttributes,
) -> Result<(Client, Route), SidecarError> {
    let mut reason = None;
    for address in addresses {
        match connect_to_address(url, options, index, address, wanted).await {
            Ok(connected) => return Ok(connected),
            // The reason of a server that answered is worth more.
            Err(SidecarError::Unreachable { .. }) if reason.is_some() => {}
            Err(error) => reason = Some(error),
        }
    }
    Err(reason.unwrap_or_else(|| SidecarError::Configuration { detail: format!("{url} names no host") }))
}

/// Returns a host once for each of its addresses.
async fn addresses(host: &Host, options: &ConnectOptions) -> Result<Vec<Host>, SidecarError> {
    if host.is_socket() || host.number.is_some() {
        return Ok(vec![host.clone()]);
    }
    let unreachable = |source| SidecarError::Unreachable { server: SERVER, address: host.to_string(), source };
    let looking = tokio::net::lookup_host((host.name.as_str(), host.port));
    let found = match tokio::time::timeout(options.socket_limit, looking).await {
        Ok(found) => found.map_err(|error| unreachable(error.into()))?,
        Err(elapsed) => return Err(unreachable(elapsed.into())),
    };
    let mut addresses: Vec<Host> = found.map(|address| Host { number: Some(address.ip()), ..host.clone() }).collect();
    if options.is_random {
        fastrand::shuffle(&mut addresses);
    }
    Ok(addresses)
}

/// Connects to one address, in the ways that `sslmode` allows.
async fn connect_to_address(
    url: &PostgresUrl,
    options: &ConnectOptions,
    index: usize,
    host: &Host,
    wanted: SessionAttributes,
) -> Result<(Client, Route), SidecarError> {
    let ways: &[bool] = match options.mode {
        // As for libpq, no TLS within the machine's own sockets.
        _ if host.is_socket() => &[false],
        SslMode::Disable => &[false],
        SslMode::Allow => &[false, true],
        SslMode::Prefer => &[true, false],
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[true],
    };
    let mut first = None;
    for with_tls in ways {
        let route = match Route::new(url, options, index, host, *with_tls) {
            Ok(route) => route,
            // Files that cannot be used are never ignored, not even by `prefer`.
            Err(error) => return Err(first.unwrap_or(error)),
        };
        match connect_alone(&route).await {
            Ok(client) => {
                check_session(&client, &route, wanted).await?;
                if !with_tls && let Some(reason) = &first {
                    report_plain(&route, reason);
                }
                return Ok((client, route));
            }
            Err(error) if is_about_tls(&error) && first.is_none() => first = Some(error),
            // The server's own reason is worth more than that of the other way.
            Err(error) => {
                return Err(match first {
                    Some(first @ SidecarError::Postgres { .. }) => first,
                    _ => error,
                });
            }
        }
    }
    Err(first.unwrap_or_else(|| SidecarError::Configuration { detail: format!("{url} names no host") }))
}

/// Returns whether the other way, with TLS or without, may work: the handshake failed, or the
/// server rejected the login, for example because no line of `pg_hba.conf` fits.
fn is_about_tls(error: &SidecarError) -> bool {
    match error {
        SidecarError::Tls { .. } => true,
        SidecarError::Postgres { source, .. } => {
            source.code().is_some_and(|state| state.code().starts_with("28") || state.code().starts_with("08"))
        }
        _ => false,
    }
}

/// Reports, once for each server, that a connection with `sslmode=prefer` has no TLS.
fn report_plain(route: &Route, reason: &SidecarError) {
    static REPORTED: Mutex<Option<HashSet<String>>> = Mutex::new(None);
    let mut reported = REPORTED.lock().unwrap_or_else(PoisonError::into_inner);
    if reported.get_or_insert_default().insert(route.address.clone()) {
        tracing::warn!(
            address = %route.address,
            reason = %Chain(reason),
            "connected without TLS, which sslmode=prefer allows; set sslmode=require or verify-full to forbid it"
        );
    }
}

/// Checks that a session has the wanted property.
async fn check_session(client: &Client, route: &Route, wanted: SessionAttributes) -> Result<(), SidecarError> {
    if wanted == SessionAttributes::Any {
        return Ok(());
    }
    let query = "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('transaction_read_only')";
    let messages = client.simple_query(query).await.doing("look for the primary")?;
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let is = |index: usize, text: &str| row.and_then(|row| row.get(index)) == Some(text);
    let (is_standby, is_read_only) = (is(0, "t"), is(1, "on"));
    let fits = match wanted {
        SessionAttributes::Any | SessionAttributes::PreferStandby => true,
        SessionAttributes::ReadWrite => !is_read_only,
        SessionAttributes::ReadOnly => is_read_only,
        SessionAttributes::Primary => !is_standby,
        SessionAttributes::Standby => is_standby,
    };
    if fits {
        return Ok(());
    }
    let found = match (is_standby, is_read_only) {
        (true, _) => "a standby",
        (false, true) => "read-only",
        (false, false) => "a primary that takes writes",
    };
    Err(SidecarError::WrongSession { address: route.address.clone(), found, wanted: wanted.name() })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Starts a server that answers every connection with these bytes, or with none at all.
    async fn start(answer: &'static [u8]) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(answer).await;
                open.push(stream);
            }
        });
        port
    }

    /// The error of a server that is starting.
    const STARTS: &[u8] = b"E\0\0\0\x1dSFATAL\0C57P03\0Mstarting\0\0";

    fn options(text: &str) -> (PostgresUrl, ConnectOptions) {
        let url = PostgresUrl::parse(text).unwrap();
        let options = url.options().unwrap();
        (url, options)
    }

    fn address(port: u16) -> Host {
        Host { name: "db.test".into(), number: Some([127, 0, 0, 1].into()), port }
    }

    #[tokio::test]
    async fn every_address_of_a_host_has_its_own_time_limit() {
        let (url, options) = options("host=db.test user=me sslmode=disable connect_timeout=2");
        let (silent, starting) = (start(b"").await, start(STARTS).await);
        let started = Instant::now();
        let addresses = [address(silent), address(starting), address(silent)];
        let error = connect_to_first(&url, &options, 0, &addresses, SessionAttributes::Any).await.unwrap_err();
        assert!(matches!(&error, SidecarError::Postgres { .. }), "{error}");
        assert!(started.elapsed() > 2 * options.limit.unwrap(), "the last address was tried, too");
    }

    #[tokio::test]
    async fn a_name_is_looked_up_and_numbers_and_sockets_are_not() {
        let (_, options) = options("host=h");
        let found = addresses(&Host { name: "localhost".into(), number: None, port: 7 }, &options).await.unwrap();
        assert!(!found.is_empty());
        for host in &found {
            assert!(host.number.is_some_and(|number| number.is_loopback()), "{host:?}");
            assert_eq!((&*host.name, host.port), ("localhost", 7));
        }
        for host in [address(7), Host { name: "/tmp".into(), number: None, port: 7 }] {
            assert_eq!(addresses(&host, &options).await.unwrap(), [host]);
        }
        let missing = Host { name: "missing.invalid".into(), number: None, port: 7 };
        let error = addresses(&missing, &options).await.unwrap_err();
        assert!(matches!(&error, SidecarError::Unreachable { .. }), "{error}");
    }
}
