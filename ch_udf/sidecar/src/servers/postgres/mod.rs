//! Choosing and connecting to PostgreSQL: every connection of the sidecar is made here. Owns the
//! settings of a session, the duties of sidecars, and the checks of the server's version and of the
//! extension.

mod pooler;
mod route;

use tokio_postgres::{CancelToken, Client};

use crate::error::{Doing, SidecarError};
use crate::settings::{PostgresUrl, SessionAttributes, Settings};
use route::Route;

/// The oldest supported server: ARX uses partition and snapshot functions of PostgreSQL 15.
const NEEDED: i32 = 150_000;

/// Time limit for a lock. Work that exceeds it is tried again.
pub(crate) const LOCK_TIMEOUT: &str = "SET lock_timeout = '60s'";

/// Settings of every session, regardless of the defaults of the database and of the role. With this
/// path, no operator or function of another schema can replace one of PostgreSQL's. Rows that
/// policies hide are an error instead of a silent difference. Compiling a query over many
/// partitions takes longer than running it. Version 17 has one more time-out.
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
    SET jit = off;
    SELECT set_config('transaction_timeout', '0', false)
     WHERE current_setting('server_version_num')::int >= 170000";

/// Work that only one sidecar does for a database at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Duty {
    Feed,
    WriteBehind,
    Volumes,
    Behaviour,
    Cache,
    Schedules,
}

impl Duty {
    /// Name in `arx.duties`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Feed => "feed",
            Self::WriteBehind => "write-behind",
            Self::Volumes => "volumes",
            Self::Behaviour => "behaviour",
            Self::Cache => "cache",
            Self::Schedules => "schedules",
        }
    }

    const fn doing(self) -> &'static str {
        match self {
            Self::Feed => "feeds ClickHouse",
            Self::WriteBehind => "applies the write-behind streams",
            Self::Volumes => "writes volumes back",
            Self::Behaviour => "writes the behaviour of wallets back",
            Self::Cache => "keeps the cached profiles",
            Self::Schedules => "runs the schedules",
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
    pub(crate) server: Server,
}

/// The server of a connection. Of several hosts, it stays the same one.
pub(crate) struct Server {
    route: Route,
    token: CancelToken,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Server").field(&self.route).finish()
    }
}

impl Server {
    /// Opens another session on this server.
    ///
    /// # Errors
    /// [`SidecarError::Unreachable`], [`SidecarError::Tls`], [`SidecarError::Postgres`].
    pub(crate) async fn connect(&self) -> Result<Client, SidecarError> {
        set_up(pooler::connect_alone(&self.route).await?).await
    }

    /// Asks the server to cancel the statement that the connection runs.
    ///
    /// # Errors
    /// Errors of the connection.
    pub(crate) async fn cancel(&self) -> Result<(), tokio_postgres::Error> {
        self.route.cancel(&self.token).await
    }
}

/// Address of PostgreSQL, with the property that its session needs unless the address states one.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    url: PostgresUrl,
    attributes: SessionAttributes,
}

impl Source {
    /// The database that the sidecar writes to. Of several hosts, it is the one that takes writes.
    pub(crate) fn written(settings: &Settings) -> Self {
        Self { url: settings.postgres_url.clone(), attributes: SessionAttributes::ReadWrite }
    }

    /// The database whether or not it takes writes: a standby can be asked about itself.
    pub(crate) fn any(settings: &Settings) -> Self {
        Self { url: settings.postgres_url.clone(), attributes: SessionAttributes::Any }
    }

    /// The database that transactions are read from, which may be a standby.
    pub(crate) fn read(settings: &Settings) -> Self {
        match &settings.postgres_read_url {
            Some(url) => Self { url: url.clone(), attributes: SessionAttributes::Any },
            None => Self::written(settings),
        }
    }
}

/// Connects to the database that the sidecar writes to.
///
/// # Errors
/// See [`connect_to`].
pub(crate) async fn connect(settings: &Settings) -> Result<Connection, SidecarError> {
    connect_to(&Source::written(settings)).await
}

/// Connects, and checks that the server is new enough and has the extension and its tables.
///
/// # Errors
/// [`SidecarError::Configuration`] for a malformed URL, [`SidecarError::Unreachable`],
/// [`SidecarError::Tls`], [`SidecarError::WrongSession`], [`SidecarError::Hosts`],
/// [`SidecarError::SharedSession`], [`SidecarError::UnsupportedVersion`],
/// [`SidecarError::ExtensionMissing`], [`SidecarError::TablesMissing`].
pub(crate) async fn connect_to(source: &Source) -> Result<Connection, SidecarError> {
    let connection = connect_to_extension(source).await?;
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
pub(crate) async fn connect_to_extension(source: &Source) -> Result<Connection, SidecarError> {
    let (client, route) = route::connect(&source.url, source.attributes).await?;
    let client = set_up(client).await?;
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
            address: route.to_string(),
            found: version,
            needed: "15",
        });
    }
    let Some(extension) = row.get::<_, Option<String>>(3) else {
        return Err(SidecarError::ExtensionMissing { database });
    };
    let server = Server { token: client.cancel_token(), route };
    Ok(Connection { client, version, database, extension, server })
}

/// Sets a session up.
async fn set_up(client: Client) -> Result<Client, SidecarError> {
    let doing = "set the session up";
    client.batch_execute(SESSION).await.doing(doing)?;
    client.batch_execute(LOCK_TIMEOUT).await.doing(doing)?;
    Ok(client)
}
