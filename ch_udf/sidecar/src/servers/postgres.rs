//! Choosing and connecting to PostgreSQL: every connection of the sidecar is made here. Owns the
//! settings of a session, the duties of sidecars, and the checks of the server's version, of the
//! extension and for connection poolers.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use crate::error::{Doing, SidecarError};
use crate::settings::{PostgresUrl, Settings};

/// The oldest supported server: ARX uses partition and snapshot functions of PostgreSQL 15.
const NEEDED: i32 = 150_000;

/// Name of this program in `pg_stat_activity`.
const APPLICATION_NAME: &str = "arx-sidecar";

/// Time limit for a lock. Work that exceeds it is tried again.
pub(crate) const LOCK_TIMEOUT: &str = "SET lock_timeout = '60s'";

/// Settings of every session, regardless of the defaults of the database and of the role. With this
/// path, no operator or function of another schema can replace one of PostgreSQL's. Rows that
/// policies hide are an error instead of a silent difference. Compiling a query over many
/// partitions takes longer than running it.
const SESSION: &str = "
    SET search_path = pg_catalog, pg_temp;
    SET row_security = off;
    SET statement_timeout = 0;
    SET idle_in_transaction_session_timeout = 0;
    SET idle_session_timeout = 0;
    SET default_transaction_isolation = 'read committed';
    SET default_transaction_deferrable = off;
    SET DateStyle = 'ISO, YMD';
    SET IntervalStyle = 'postgres';
    SET TimeZone = 'UTC';
    SET extra_float_digits = 1;
    SET standard_conforming_strings = on;
    SET jit = off";

/// The process of the server, and the mark that a direct connection has been given.
const BACKEND: &str = "SELECT pg_catalog.pg_backend_pid(), pg_catalog.current_setting('arx_sidecar.mark', true)";

/// Time limit for an answer while looking for a pooler. A pooler delays a client that gets no
/// connection.
const PROBE_LIMIT: Duration = Duration::from_secs(5);

/// Attempts to get the session of another client from a pooler that hands out its connections in
/// turn.
const PROBES: u32 = 3;

/// Work that only one sidecar does for a database at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Duty {
    Feed,
    WriteBehind,
    Volumes,
    Behaviour,
}

impl Duty {
    /// Name in `arx.duties`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Feed => "feed",
            Self::WriteBehind => "write-behind",
            Self::Volumes => "volumes",
            Self::Behaviour => "behaviour",
        }
    }

    const fn doing(self) -> &'static str {
        match self {
            Self::Feed => "feeds ClickHouse",
            Self::WriteBehind => "applies the write-behind streams",
            Self::Volumes => "writes volumes back",
            Self::Behaviour => "writes the behaviour of wallets back",
        }
    }

    /// Takes the duty for as long as the connection lives.
    ///
    /// # Errors
    /// [`SidecarError::Taken`] while another sidecar has it, [`SidecarError::Postgres`].
    pub(crate) async fn acquire(self, client: &Client) -> Result<(), SidecarError> {
        let row = client.query_one("SELECT arx.take_duty($1)", &[&self.name()]).await.doing("take a duty")?;
        if row.get(0) { Ok(()) } else { Err(SidecarError::Taken { doing: self.doing() }) }
    }
}

/// A connection to PostgreSQL, with what it is connected to.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Runs statements; the connection closes when the client is dropped.
    pub(crate) client: Client,
    /// Version of the server, such as `15.20`.
    pub(crate) version: String,
    pub(crate) database: String,
    /// Version of the extension `arx`.
    pub(crate) extension: String,
}

/// Connects to the database that the sidecar writes to.
///
/// # Errors
/// See [`connect_to`].
pub(crate) async fn connect(settings: &Settings) -> Result<Connection, SidecarError> {
    connect_to(&settings.postgres_url).await
}

/// Returns the URL of the database that transactions are read from, which may be a standby.
pub(crate) fn read_url(settings: &Settings) -> &PostgresUrl {
    settings.postgres_read_url.as_ref().unwrap_or(&settings.postgres_url)
}

/// Connects, and checks that the server is new enough and has the extension and its tables.
///
/// # Errors
/// [`SidecarError::Configuration`] for a malformed URL, [`SidecarError::Unreachable`],
/// [`SidecarError::SharedSession`], [`SidecarError::UnsupportedVersion`],
/// [`SidecarError::ExtensionMissing`], [`SidecarError::TablesMissing`].
pub(crate) async fn connect_to(url: &PostgresUrl) -> Result<Connection, SidecarError> {
    let connection = connect_to_extension(url).await?;
    let tables = "SELECT pg_catalog.to_regclass('arx.transactions') IS NOT NULL";
    if !connection.client.query_one(tables, &[]).await.doing("look for the tables")?.get::<_, bool>(0) {
        return Err(SidecarError::TablesMissing { database: connection.database });
    }
    Ok(connection)
}

/// Connects, and checks that the server is new enough and has the extension, whose tables may still
/// have to be created.
///
/// # Errors
/// Errors of [`connect_to`], except for [`SidecarError::TablesMissing`].
pub(crate) async fn connect_to_extension(url: &PostgresUrl) -> Result<Connection, SidecarError> {
    let client = open(url).await?;
    let row = client
        .query_one(
            "SELECT current_setting('server_version_num')::int, current_setting('server_version'), \
                    current_database()::text, \
                    (SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'arx')",
            &[],
        )
        .await
        .doing("check the version")?;
    let (number, version, database): (i32, String, String) = (row.get(0), row.get(1), row.get(2));
    if number < NEEDED {
        return Err(SidecarError::UnsupportedVersion {
            server: "PostgreSQL",
            address: url.to_string(),
            found: version,
            needed: "15",
        });
    }
    if number >= 170_000 {
        client.batch_execute("SET transaction_timeout = 0").await.doing("set the session up")?;
    }
    let Some(extension) = row.get::<_, Option<String>>(3) else {
        return Err(SidecarError::ExtensionMissing { database });
    };
    Ok(Connection { client, version, database, extension })
}

/// Connects and sets the session up.
async fn open(url: &PostgresUrl) -> Result<Client, SidecarError> {
    let mut config = url.parsed()?;
    config.application_name(APPLICATION_NAME);
    let (client, is_direct) = connect_marked(&config, url).await?;
    if !is_direct && shares_sessions(&client, &config, url).await? {
        return Err(SidecarError::SharedSession { address: url.to_string() });
    }
    let doing = "set the session up";
    client.batch_execute(SESSION).await.doing(doing)?;
    client.batch_execute(LOCK_TIMEOUT).await.doing(doing)?;
    Ok(client)
}

/// Connects, and returns whether the session belongs to this connection alone: a mark in the
/// startup packet arrives in it. Poolers drop the mark or reject it.
async fn connect_marked(config: &Config, url: &PostgresUrl) -> Result<(Client, bool), SidecarError> {
    let mark = format!("{:016x}", RandomState::new().hash_one(()));
    let mut marked = config.clone();
    marked.options(format!("{} -c arx_sidecar.mark={mark}", config.get_options().unwrap_or_default()).trim_start());
    match connect_with(&marked, url).await {
        Ok(client) => {
            let (_, found) = backend(&client).await?;
            Ok((client, found.as_deref() == Some(mark.as_str())))
        }
        Err(SidecarError::Postgres { source, .. }) if rejects_options(&source) => {
            Ok((connect_with(config, url).await?, false))
        }
        Err(error) => Err(error),
    }
}

/// Returns whether a startup packet with `options` was rejected. Wrong passwords, missing databases
/// and servers without resources have codes of other classes.
fn rejects_options(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|state| ["08", "0A", "22", "42"].iter().any(|class| state.code().starts_with(class)))
}

/// Returns whether a pooler gives the session of this client to other clients between its
/// statements (transaction or statement pooling): another client gets the same one, or this client
/// loses it while another one is in a transaction.
async fn shares_sessions(client: &Client, config: &Config, url: &PostgresUrl) -> Result<bool, SidecarError> {
    let (own, _) = backend(client).await?;
    for _ in 0..PROBES {
        let other = connect_with(config, url).await?;
        let occupied = tokio::time::timeout(PROBE_LIMIT, async {
            other.batch_execute("BEGIN").await?;
            other.simple_query(BACKEND).await
        });
        match occupied.await {
            Ok(Ok(messages)) if process(&messages) == own => return Ok(true),
            // Without an answer, the clients of the pooler hold all its sessions.
            Ok(Ok(_)) | Err(_) => {}
            // Statement pooling rejects BEGIN.
            Ok(Err(error)) if rejects_options(&error) => return Ok(true),
            Ok(Err(error)) => return Err(error).doing("look for a connection pooler"),
        }
        match tokio::time::timeout(PROBE_LIMIT, backend(client)).await {
            Ok(answer) if answer.as_ref().is_ok_and(|(now, _)| *now == own) => {}
            Ok(answer) => return answer.map(|_| true),
            Err(_) => return Ok(true),
        }
    }
    Ok(false)
}

/// Returns the server's process of a session, and the mark in it. Uses no prepared statement, which
/// some poolers lose.
async fn backend(client: &Client) -> Result<(Option<String>, Option<String>), SidecarError> {
    let messages = client.simple_query(BACKEND).await.doing("look for a connection pooler")?;
    Ok((process(&messages), column(&messages, 1)))
}

fn process(messages: &[SimpleQueryMessage]) -> Option<String> {
    column(messages, 0)
}

fn column(messages: &[SimpleQueryMessage], index: usize) -> Option<String> {
    messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(index).map(str::to_owned),
        _ => None,
    })
}

async fn connect_with(config: &Config, url: &PostgresUrl) -> Result<Client, SidecarError> {
    let (client, connection) = config.connect(NoTls).await.map_err(|error| {
        // A server that answers with an error (wrong password, no such database) is not down.
        if error.code().is_some() {
            SidecarError::Postgres { doing: "connect", source: error }
        } else {
            SidecarError::Unreachable { server: "PostgreSQL", address: url.to_string(), source: Box::new(error) }
        }
    })?;
    tokio::spawn(async move {
        // The caller that waits for an answer gets the same error and handles it.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to PostgreSQL ended");
        }
    });
    Ok(client)
}
