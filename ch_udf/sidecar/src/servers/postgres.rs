//! Connecting to PostgreSQL. Owns the application name, the check of the server's version and of the extension; what is asked
//! of the database belongs to the modules that ask.

use tokio_postgres::{Client, Config, NoTls};

use crate::error::SidecarError;
use crate::settings::ServerUrl;

/// Oldest server that works: `uuid`, partition and snapshot functions that ARX uses are those of PostgreSQL 15.
const NEEDED: i32 = 150_000;

/// How this program shows up in `pg_stat_activity`.
pub const APPLICATION_NAME: &str = "arx-sidecar";

/// First key of ARX's advisory locks ("arx" in ASCII); the second is the [`Duty`].
pub const LOCK_SPACE: i32 = 0x0061_7278;

/// What one sidecar alone does for a database at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Feeding ClickHouse.
    Feed = 1,
    /// Applying the streams in Redis.
    WriteBehind = 2,
    /// Writing volumes back.
    Volumes = 3,
    /// Writing the behaviour of wallets back.
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

    /// Takes it on, for as long as the connection lives.
    ///
    /// # Errors
    /// [`SidecarError::Taken`] while another sidecar has it, [`SidecarError::Postgres`].
    pub async fn take_on(self, client: &Client) -> Result<(), SidecarError> {
        let row = client
            .query_one("SELECT pg_try_advisory_lock($1, $2)", &[&LOCK_SPACE, &(self as i32)])
            .await
            .map_err(|source| SidecarError::Postgres { doing: "take a duty's lock", source })?;
        if row.get(0) { Ok(()) } else { Err(SidecarError::Taken { doing: self.doing() }) }
    }
}

/// A connection, and what is on its other end.
#[derive(Debug)]
pub struct Connection {
    /// Runs statements; the connection closes when it is dropped.
    pub client: Client,
    /// The server's version, such as `15.20`.
    pub version: String,
    /// The database connected to.
    pub database: String,
    /// Version of the extension `arx` in it.
    pub extension: String,
}

/// Connects, and checks that the server is new enough and has the extension.
///
/// # Errors
/// [`SidecarError::Configuration`] for a malformed URL, [`SidecarError::Unreachable`], [`SidecarError::UnsupportedVersion`],
/// [`SidecarError::ExtensionMissing`].
pub async fn connect(url: &ServerUrl) -> Result<Connection, SidecarError> {
    let mut config: Config = url.expose().parse().map_err(|error: tokio_postgres::Error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        SidecarError::Configuration { detail: format!("PostgreSQL URL {url} cannot be read: {error}{cause}") }
    })?;
    config.application_name(APPLICATION_NAME);
    let unreachable = |source: tokio_postgres::Error| SidecarError::Unreachable {
        server: "PostgreSQL",
        address: url.to_string(),
        source: Box::new(source),
    };
    let (client, connection) = config.connect(NoTls).await.map_err(|error| {
        // a server that answers with an error (wrong password, no such database) is not one that is down
        if error.code().is_some() {
            SidecarError::Postgres { doing: "connect", source: error }
        } else {
            unreachable(error)
        }
    })?;
    tokio::spawn(async move {
        // Whoever waits for an answer gets the same error and handles it.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to PostgreSQL ended");
        }
    });
    let doing = "check the version";
    let row = client
        .query_one(
            "SELECT current_setting('server_version_num')::int, current_setting('server_version'), current_database()::text, \
                    (SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'arx')",
            &[],
        )
        .await
        .map_err(|source| SidecarError::Postgres { doing, source })?;
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
