//! What can go wrong in the sidecar, what kind of trouble it is, and the one table that says what to do about each kind.
//! Errors carry values; whoever handles an error logs it, once.

use std::path::{Path, PathBuf};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use thiserror::Error;
use tokio_postgres::error::SqlState;

/// A failure of the sidecar.
#[derive(Debug, Error)]
pub enum SidecarError {
    /// A setting is missing or wrong.
    #[error("{detail}")]
    Configuration {
        /// Which one, and what to do.
        detail: String,
    },
    /// An argument of a command is wrong.
    #[error("{detail}")]
    Input {
        /// Which one, and what to do.
        detail: String,
    },
    /// A server does not answer.
    #[error("{server} at {address} does not answer; check that it runs and that the URL is right")]
    Unreachable {
        /// Which server.
        server: &'static str,
        /// Where, without secrets.
        address: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A server is too old.
    #[error("{server} at {address} has version {found}; {needed} or newer is needed")]
    UnsupportedVersion {
        /// Which server.
        server: &'static str,
        /// Where, without secrets.
        address: String,
        /// Its version.
        found: String,
        /// The oldest version that works.
        needed: &'static str,
    },
    /// The database lacks the extension.
    #[error("extension arx is not installed in database \"{database}\": run CREATE EXTENSION arx")]
    ExtensionMissing {
        /// The database.
        database: String,
    },
    /// PostgreSQL refused or was lost.
    #[error("{doing} in PostgreSQL")]
    Postgres {
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: tokio_postgres::Error,
    },
    /// ClickHouse refused or was lost.
    #[error("{doing} in ClickHouse")]
    ClickHouse {
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: clickhouse::error::Error,
    },
    /// Redis refused or was lost.
    #[error("{doing} in Redis")]
    Redis {
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: redis::RedisError,
    },
    /// A stored value does not fit where it has to go.
    #[error("{network} transaction {tx_hash}: {column} {value} does not fit {target}; correct the row")]
    ValueOutOfRange {
        /// Network of the row.
        network: String,
        /// Hash of the row.
        tx_hash: String,
        /// Column of the row.
        column: &'static str,
        /// The value.
        value: String,
        /// Type that cannot hold it.
        target: &'static str,
    },
    /// A server's answer is not what the protocol says.
    #[error("{detail}")]
    Protocol {
        /// What is wrong with it.
        detail: String,
    },
    /// A table was rewritten or dropped while it was loaded block by block.
    #[error("the table with oid {relation} was rewritten or dropped during the first load; the load starts afresh")]
    Rewritten {
        /// The table.
        relation: u32,
    },
    /// Somebody else does this already.
    #[error("another sidecar {doing} for this database")]
    Taken {
        /// What it does.
        doing: &'static str,
    },
    /// A write-behind stream is full because nobody applies it.
    #[error("write-behind stream {stream} holds {length} entries; start `arx-sidecar run` to apply them")]
    StreamFull {
        /// The stream.
        stream: String,
        /// Its length.
        length: u64,
    },
    /// What was confirmed is not what is stored: another process moved the feed.
    #[error("the feed was moved by another process during attempt {attempt}")]
    Overtaken {
        /// The attempt that lost.
        attempt: u64,
    },
    /// libchdb was not found.
    #[error("libchdb.so was not found (looked for {}); run the project's install script or set ARX_LIBCHDB", list(.looked))]
    EngineLibraryMissing {
        /// Where it was looked for.
        looked: Vec<PathBuf>,
    },
    /// libchdb was found and cannot be used.
    #[error("{path} cannot be used as the ClickHouse engine")]
    EngineLibrary {
        /// The library.
        path: PathBuf,
        /// Why.
        #[source]
        source: libloading::Error,
    },
    /// Two engines on one folder.
    #[error("{folder} is in use by another ClickHouse engine (code 76); stop it or choose another folder")]
    EngineBusy {
        /// The folder.
        folder: PathBuf,
    },
    /// The engine did not start, or ended.
    #[error("the embedded ClickHouse engine failed: {detail}")]
    EngineFailed {
        /// What it said.
        detail: String,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address}; choose another port, or 0 for a free one")]
    PortTaken {
        /// `host:port`.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file or folder.
    #[error("{doing} {path}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// Something that should be JSON is not.
    #[error("{doing}")]
    Json {
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: serde_json::Error,
    },
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// What kind of trouble an error is; decides what is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A connection or a server went away; it may come back by itself.
    Transient,
    /// Somebody else is in the way, or the server is overloaded; waiting helps.
    Busy,
    /// The data does not fit; a person must correct it.
    BadData,
    /// Settings or installation are wrong; a person must correct them.
    Configuration,
    /// The same request will fail again.
    Permanent,
}

impl ErrorKind {
    /// The retry policy: delays between tries, or `None` when trying again is of no use.
    #[must_use]
    pub fn retry_policy(self) -> Option<ExponentialBuilder> {
        let policy = ExponentialBuilder::new().with_jitter();
        match self {
            // 0.1, 0.2, … 5 s, eight tries: some 15 s, as long as a restart of a server takes
            Self::Transient => Some(
                policy
                    .with_min_delay(Duration::from_millis(100))
                    .with_max_delay(Duration::from_secs(5))
                    .with_max_times(8),
            ),
            // a server that merges or a lock that is held needs seconds, not milliseconds
            Self::Busy => Some(
                policy.with_min_delay(Duration::from_secs(1)).with_max_delay(Duration::from_secs(10)).with_max_times(5),
            ),
            Self::BadData | Self::Configuration | Self::Permanent => None,
        }
    }
}

impl SidecarError {
    /// An error about a file or folder.
    #[must_use]
    pub fn io(doing: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { doing, path: path.to_owned(), source }
    }

    /// An error of a system call.
    #[must_use]
    pub fn system(doing: &'static str, errno: nix::errno::Errno) -> Self {
        Self::EngineFailed { detail: format!("cannot {doing}: {errno}") }
    }

    /// What kind of trouble this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Configuration { .. }
            | Self::Input { .. }
            | Self::UnsupportedVersion { .. }
            | Self::ExtensionMissing { .. }
            | Self::EngineLibraryMissing { .. }
            | Self::EngineLibrary { .. } => ErrorKind::Configuration,
            Self::Unreachable { .. } | Self::EngineFailed { .. } | Self::PortTaken { .. } => ErrorKind::Transient,
            Self::Rewritten { .. }
            | Self::Taken { .. }
            | Self::StreamFull { .. }
            | Self::Overtaken { .. }
            | Self::EngineBusy { .. } => ErrorKind::Busy,
            Self::ValueOutOfRange { .. } => ErrorKind::BadData,
            Self::Postgres { source, .. } => postgres_kind(source),
            Self::ClickHouse { source, .. } => clickhouse_kind(source),
            Self::Redis { source, .. } => redis_kind(source),
            Self::Protocol { .. } | Self::Io { .. } | Self::Json { .. } => ErrorKind::Permanent,
        }
    }
}

fn postgres_kind(error: &tokio_postgres::Error) -> ErrorKind {
    let Some(state) = error.code() else {
        // without a code the failure is the connection's (or a conversion of ours, which has no I/O error beneath)
        return if error.is_closed() || has_io_error(error) { ErrorKind::Transient } else { ErrorKind::Permanent };
    };
    let busy = [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED, SqlState::LOCK_NOT_AVAILABLE];
    if busy.contains(state) || state.code().starts_with("53") {
        return ErrorKind::Busy;
    }
    let shutdown = [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW];
    if shutdown.contains(state) || state.code().starts_with("08") {
        return ErrorKind::Transient;
    }
    match state.code().get(..2) {
        Some("22" | "23") => ErrorKind::BadData,
        Some("28" | "3D" | "42") => ErrorKind::Configuration,
        _ => ErrorKind::Permanent,
    }
}

fn has_io_error(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut current = Some(error);
    while let Some(error) = current {
        if error.is::<std::io::Error>() {
            return true;
        }
        current = error.source();
    }
    false
}

fn clickhouse_kind(error: &clickhouse::error::Error) -> ErrorKind {
    use clickhouse::error::Error;
    match error {
        Error::Network(_) | Error::TimedOut => ErrorKind::Transient,
        // 159 timeout, 202 too many queries, 210 network, 236 aborted, 241 memory limit, 243 disk full, 252 too many parts,
        // 394 cancelled
        Error::BadResponse(text) => match clickhouse_code(text) {
            Some(159 | 202 | 241 | 243 | 252) => ErrorKind::Busy,
            Some(210 | 236 | 394) => ErrorKind::Transient,
            Some(192..=195 | 497 | 516) => ErrorKind::Configuration,
            Some(_) | None => ErrorKind::Permanent,
        },
        _ => ErrorKind::Permanent,
    }
}

/// The number in `Code: 60. DB::Exception: …`.
fn clickhouse_code(text: &str) -> Option<u32> {
    let digits = text.split("Code: ").nth(1)?;
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn redis_kind(error: &redis::RedisError) -> ErrorKind {
    if error.is_io_error() || error.is_connection_dropped() || error.is_timeout() {
        return ErrorKind::Transient;
    }
    match error.code() {
        Some("BUSY" | "LOADING" | "TRYAGAIN" | "MASTERDOWN" | "CLUSTERDOWN" | "OOM" | "READONLY") => ErrorKind::Busy,
        Some("NOAUTH" | "WRONGPASS" | "NOPERM") => ErrorKind::Configuration,
        Some(_) | None => ErrorKind::Permanent,
    }
}

/// Delays between tries of one piece of work, by what went wrong last.
#[derive(Debug, Default)]
pub struct Retrier {
    waiting: Option<(ErrorKind, ExponentialBackoff)>,
}

impl Retrier {
    /// How long to wait before the next try; `None` when the error's policy gives up (or never tries again).
    pub fn delay(&mut self, error: &SidecarError) -> Option<Duration> {
        let kind = error.kind();
        if self.waiting.as_ref().is_none_or(|(same, _)| *same != kind) {
            self.waiting = kind.retry_policy().map(|policy| (kind, policy.build()));
        }
        self.waiting.as_mut()?.1.next()
    }

    /// Forgets what went wrong, after a success.
    pub fn reset(&mut self) {
        self.waiting = None;
    }
}

/// An error with its causes on one line.
#[derive(Debug)]
pub struct Chain<'a>(pub &'a (dyn std::error::Error + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trouble_that_passes_is_tried_again() {
        assert!(ErrorKind::Transient.retry_policy().is_some());
        assert!(ErrorKind::Busy.retry_policy().is_some());
        for kind in [ErrorKind::BadData, ErrorKind::Configuration, ErrorKind::Permanent] {
            assert!(kind.retry_policy().is_none(), "{kind:?}");
        }
    }

    #[test]
    fn clickhouse_answers_are_told_apart_by_code() {
        let answer = |text: &str| clickhouse_kind(&clickhouse::error::Error::BadResponse(text.into()));
        assert_eq!(answer("Code: 252. DB::Exception: Too many parts"), ErrorKind::Busy);
        assert_eq!(answer("Code: 516. DB::Exception: Authentication failed"), ErrorKind::Configuration);
        assert_eq!(answer("Code: 62. DB::Exception: Syntax error"), ErrorKind::Permanent);
        assert_eq!(answer("nothing known"), ErrorKind::Permanent);
    }

    #[test]
    fn a_passing_failure_is_tried_again_for_a_while_and_a_lasting_one_never() {
        let mut retrier = Retrier::default();
        let busy = SidecarError::Taken { doing: "feeds" };
        let delays: Vec<_> = std::iter::from_fn(|| retrier.delay(&busy)).collect();
        assert_eq!(delays.len(), 5);
        assert!(delays.iter().all(|delay| (1.0..=20.0).contains(&delay.as_secs_f64())), "{delays:?}");
        retrier.reset();
        assert!(retrier.delay(&busy).is_some());
        assert_eq!(retrier.delay(&SidecarError::ExtensionMissing { database: "x".into() }), None);
    }
}
