//! Choosing and connecting to PostgreSQL. Owns the application name, the advisory locks, and the
//! checks of the server's version and of the extension.

use tokio_postgres::{Client, Config, NoTls};

use crate::error::{Doing, SidecarError};
use crate::settings::{ServerUrl, Settings};

/// The oldest supported server: ARX uses partition and snapshot functions of PostgreSQL 15.
const NEEDED: i32 = 150_000;

/// Name of this program in `pg_stat_activity`.
const APPLICATION_NAME: &str = "arx-sidecar";

/// First key of ARX's advisory locks ("arx" in ASCII); the second is the [`Duty`].
pub(crate) const LOCK_SPACE: i32 = 0x0061_7278;

/// Work that only one sidecar does for a database at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Duty {
    Feed = 1,
    WriteBehind = 2,
    Volumes = 3,
    Behaviour = 4,
}

impl Duty {
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
        let row = client
            .query_one("SELECT pg_try_advisory_lock($1, $2)", &[&LOCK_SPACE, &(self as i32)])
            .await
            .doing("take the lock of a duty")?;
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
pub(crate) fn read_url(settings: &Settings) -> &ServerUrl {
    settings.postgres_read_url.as_ref().unwrap_or(&settings.postgres_url)
}

/// Connects, and checks that the server is new enough and has the extension.
///
/// # Errors
/// [`SidecarError::Configuration`] for a malformed URL, [`SidecarError::Unreachable`],
/// [`SidecarError::UnsupportedVersion`], [`SidecarError::ExtensionMissing`].
pub(crate) async fn connect_to(url: &ServerUrl) -> Result<Connection, SidecarError> {
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
    let Some(extension) = row.get::<_, Option<String>>(3) else {
        return Err(SidecarError::ExtensionMissing { database });
    };
    Ok(Connection { client, version, database, extension })
}

async fn open(url: &ServerUrl) -> Result<Client, SidecarError> {
    let mut config: Config = url.expose().parse().map_err(|error: tokio_postgres::Error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        SidecarError::Configuration { detail: format!("PostgreSQL URL {url} cannot be read: {error}{cause}") }
    })?;
    config.application_name(APPLICATION_NAME);
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
