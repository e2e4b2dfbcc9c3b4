//! Errors of the sidecar. They carry values; the caller that handles an error logs it, once. What
//! is done about each kind is in [`retry`](crate::retry).

use std::path::{Path, PathBuf};

use thiserror::Error;
use tokio_postgres::error::DbError;

/// A failure of the sidecar.
#[derive(Debug, Error)]
pub enum SidecarError {
    /// A setting is missing or wrong.
    #[error("{detail}")]
    Configuration { detail: String },
    /// An argument of a command is wrong.
    #[error("{detail}")]
    Input { detail: String },
    #[error("{server} at {address} does not answer; check that it runs and that the URL is right")]
    Unreachable {
        server: &'static str,
        /// Without secrets.
        address: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is no TLS with the server, and the address does not allow to do without.
    #[error("no TLS with {server} at {address}: {detail}")]
    Tls {
        server: &'static str,
        /// Without secrets.
        address: String,
        /// The check that failed, with advice.
        detail: String,
    },
    /// A certificate or a key of a setting cannot be used.
    #[error("TLS with {server} at {address}")]
    TlsFile {
        server: &'static str,
        /// Without secrets.
        address: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A server answers, and is not one that the address asks for.
    #[error("PostgreSQL at {address} is {found}; target_session_attrs is {wanted}")]
    WrongSession {
        /// Without secrets.
        address: String,
        found: &'static str,
        wanted: &'static str,
    },
    /// No host of a list can be used.
    #[error("none of the hosts of {address} can be used: {}", each(.errors))]
    Hosts {
        /// Without secrets.
        address: String,
        errors: Vec<SidecarError>,
    },
    #[error("{server} at {address} has version {found}; {needed} or newer is needed")]
    UnsupportedVersion {
        server: &'static str,
        /// Without secrets.
        address: String,
        found: String,
        needed: &'static str,
    },
    /// A pooler gives the session to other clients between statements.
    #[error(
        "PostgreSQL at {address} is reached through a connection pooler in transaction or statement mode, in which \
         the sidecar would lose its locks and its session; connect directly or use session pooling (the SQL functions \
         of ARX work through the pooler)"
    )]
    SharedSession {
        /// Without secrets.
        address: String,
    },
    #[error("extension arx is not installed in database \"{database}\": run CREATE EXTENSION arx")]
    ExtensionMissing { database: String },
    #[error("database \"{database}\" does not have the tables of arx: run SELECT * FROM arx.create_tables()")]
    TablesMissing { database: String },
    /// PostgreSQL rejected a statement, or the connection was lost.
    #[error("{doing} in PostgreSQL")]
    Postgres {
        doing: &'static str,
        #[source]
        source: tokio_postgres::Error,
    },
    /// ClickHouse rejected a statement, or the connection was lost.
    #[error("{doing} in ClickHouse")]
    ClickHouse {
        doing: &'static str,
        #[source]
        source: clickhouse::error::Error,
    },
    /// Redis rejected a command, or the connection was lost.
    #[error("{doing} in Redis")]
    Redis {
        doing: &'static str,
        #[source]
        source: redis::RedisError,
    },
    /// A server's answer breaks its protocol.
    #[error("{detail}")]
    Protocol { detail: String },
    #[error("the table with oid {relation} was rewritten or dropped during the first load; the load starts again")]
    Rewritten { relation: u32 },
    #[error("another sidecar {doing} for this database")]
    Taken { doing: &'static str },
    /// Another database has fed the tables in ClickHouse.
    #[error(
        "the tables in ClickHouse hold the transactions of database \"{owner}\" ({owner_id}), not of \"{database}\" \
         ({source_id}); choose another clickhouse_database, or replace them on purpose with \
         clickhouse_take_over_from = \"{owner_id}\""
    )]
    ForeignTables {
        owner: String,
        /// Identity of the other database.
        owner_id: String,
        database: String,
        /// Identity of this database.
        source_id: String,
    },
    #[error("write-behind stream {stream} holds {length} entries; start `arx-sidecar run` to apply them")]
    StreamFull { stream: String, length: u64 },
    /// Redis may evict writes that it has accepted.
    #[error(
        "Redis at {address} has maxmemory-policy {policy}, which evicts accepted writes; set volatile-lru or noeviction \
         there, or name a Redis without eviction in redis_streams_url"
    )]
    EvictsWrites {
        /// Without secrets.
        address: String,
        policy: String,
    },
    #[error(
        "{holders} replicas of Redis at {address} have confirmed the write, and {wanted} must (write_replicas); it may be \
         applied, and is not guaranteed to be"
    )]
    NotReplicated {
        /// Without secrets.
        address: String,
        /// Replicas that have the write.
        holders: u32,
        wanted: u32,
    },
    /// Readers wait for a session of PostgreSQL.
    #[error("all {sessions} sessions that read profiles from PostgreSQL are busy; try again later")]
    Overloaded { sessions: usize },
    #[error("PostgreSQL is database {found} now, not {wanted}; connect again")]
    OtherDatabase { found: String, wanted: String },
    /// The confirmed position is not the stored one.
    #[error("the feed was moved by another process during attempt {attempt}")]
    Overtaken {
        /// The attempt that lost.
        attempt: u64,
    },
    #[error("libchdb.so was not found in {}; run the project's install script or set ARX_LIBCHDB", list(.searched))]
    EngineLibraryMissing { searched: Vec<PathBuf> },
    #[error("{path} cannot be used as the ClickHouse engine")]
    EngineLibrary {
        path: PathBuf,
        #[source]
        source: libloading::Error,
    },
    #[error("{folder} is in use by another ClickHouse engine (code 76); stop it or choose another folder")]
    EngineBusy { folder: PathBuf },
    #[error("the embedded ClickHouse engine failed: {detail}")]
    EngineFailed { detail: String },
    #[error("cannot listen on {address}; choose another port, or 0 for a free one")]
    PortTaken {
        /// `host:port`.
        address: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{doing} {path}")]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{doing}")]
    Json {
        doing: &'static str,
        #[source]
        source: serde_json::Error,
    },
}

fn each(errors: &[SidecarError]) -> String {
    errors.iter().map(|error| Chain(error).to_string()).collect::<Vec<_>>().join("; ")
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// An error of a library that becomes a [`SidecarError`] once the failed operation is named.
pub(crate) trait Failure {
    fn into_sidecar_error(self, doing: &'static str) -> SidecarError;
}

impl Failure for tokio_postgres::Error {
    fn into_sidecar_error(self, doing: &'static str) -> SidecarError {
        SidecarError::Postgres { doing, source: self }
    }
}

impl Failure for clickhouse::error::Error {
    fn into_sidecar_error(self, doing: &'static str) -> SidecarError {
        SidecarError::ClickHouse { doing, source: self }
    }
}

impl Failure for redis::RedisError {
    fn into_sidecar_error(self, doing: &'static str) -> SidecarError {
        SidecarError::Redis { doing, source: self }
    }
}

impl Failure for serde_json::Error {
    fn into_sidecar_error(self, doing: &'static str) -> SidecarError {
        SidecarError::Json { doing, source: self }
    }
}

/// Failed system calls: only the embedded engine makes any.
impl Failure for nix::errno::Errno {
    fn into_sidecar_error(self, doing: &'static str) -> SidecarError {
        SidecarError::EngineFailed { detail: format!("cannot {doing}: {self}") }
    }
}

/// Names the operation that failed: `client.execute(sql, &[]).await.doing("store the position")?`.
pub(crate) trait Doing<T> {
    fn doing(self, doing: &'static str) -> Result<T, SidecarError>;
}

impl<T, E: Failure> Doing<T> for Result<T, E> {
    fn doing(self, doing: &'static str) -> Result<T, SidecarError> {
        self.map_err(|error| error.into_sidecar_error(doing))
    }
}

/// Names the operation and the file: `fs::read(path).doing_to("read", path)?`.
pub(crate) trait DoingTo<T> {
    fn doing_to(self, doing: &'static str, path: impl AsRef<Path>) -> Result<T, SidecarError>;
}

impl<T> DoingTo<T> for std::io::Result<T> {
    fn doing_to(self, doing: &'static str, path: impl AsRef<Path>) -> Result<T, SidecarError> {
        self.map_err(|source| SidecarError::Io { doing, path: path.as_ref().to_owned(), source })
    }
}

/// Displays an error and its causes on one line, without the values of rows that PostgreSQL adds to
/// its own.
#[derive(Debug)]
pub struct Chain<'a>(pub &'a (dyn std::error::Error + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = self.0.to_string();
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let shown = match error.downcast_ref::<DbError>() {
                Some(error) => format!("{}: {}", error.severity(), WithoutValues(error)),
                None => error.to_string(),
            };
            // Some messages quote their cause.
            if !text.contains(&shown) {
                text = format!("{text}: {shown}");
            }
            cause = error.source();
        }
        f.write_str(&text)
    }
}

/// Displays the message, the detail and the hint of PostgreSQL. The detail of a violated constraint
/// (class 23) and of a wrong value (class 22) contains the row, and is left out: a reader of logs
/// or of `/healthz` need not be a reader of the tables.
pub(crate) struct WithoutValues<'a>(pub(crate) &'a DbError);

impl std::fmt::Display for WithoutValues<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.message())?;
        let has_values = ["22", "23"].iter().any(|class| self.0.code().code().starts_with(class));
        let detail = self.0.detail().filter(|_| !has_values);
        for (name, part) in [("detail", detail), ("hint", self.0.hint())] {
            if let Some(part) = part {
                write!(f, "; {name}: {part}")?;
            }
        }
        Ok(())
    }
}
