//! Retry policies: the kind of each error, and the one table that gives each kind a policy.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio_postgres::error::SqlState;

use crate::error::SidecarError;

/// Class of an error; it decides whether the work is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ErrorKind {
    /// A connection or a server was lost; it may come back.
    Transient,
    /// Another process holds a lock, or the server is overloaded; waiting helps.
    Busy,
    /// The data does not fit; an operator must correct it.
    BadData,
    /// Settings or the installation are wrong; an operator must correct them.
    Configuration,
    /// The same request will fail again.
    Permanent,
}

impl ErrorKind {
    /// Returns the delays between attempts, or `None` for errors that are not retried.
    pub(crate) fn retry_policy(self) -> Option<ExponentialBuilder> {
        let policy = ExponentialBuilder::new().with_jitter();
        match self {
            // 0.1, 0.2, … 5 s, eight times: about 15 s, as long as a server takes to restart.
            Self::Transient => Some(
                policy
                    .with_min_delay(Duration::from_millis(100))
                    .with_max_delay(Duration::from_secs(5))
                    .with_max_times(8),
            ),
            // A merge or a held lock takes seconds, not milliseconds.
            Self::Busy => Some(
                policy.with_min_delay(Duration::from_secs(1)).with_max_delay(Duration::from_secs(10)).with_max_times(5),
            ),
            Self::BadData | Self::Configuration | Self::Permanent => None,
        }
    }
}

impl SidecarError {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Configuration { .. }
            | Self::Input { .. }
            | Self::UnsupportedVersion { .. }
            | Self::SharedSession { .. }
            | Self::ExtensionMissing { .. }
            | Self::ForeignTables { .. }
            | Self::TablesMissing { .. }
            | Self::EvictsWrites { .. }
            | Self::OtherDatabase { .. }
            | Self::EngineLibraryMissing { .. }
            | Self::EngineLibrary { .. } => ErrorKind::Configuration,
            // Certificates are replaced one after the other, and a standby may be promoted in a
            // moment.
            Self::Unreachable { .. }
            | Self::Tls { .. }
            | Self::TlsFile { .. }
            | Self::WrongSession { .. }
            | Self::EngineFailed { .. }
            | Self::PortTaken { .. } => ErrorKind::Transient,
            Self::Hosts { errors, .. } => errors
                .iter()
                .map(Self::kind)
                .find(|kind| kind.retry_policy().is_some())
                .unwrap_or(ErrorKind::Configuration),
            Self::Rewritten { .. }
            | Self::Taken { .. }
            | Self::StreamFull { .. }
            | Self::NotReplicated { .. }
            | Self::Overloaded { .. }
            | Self::Overtaken { .. }
            | Self::EngineBusy { .. } => ErrorKind::Busy,
            Self::Postgres { source, .. } => postgres_kind(source),
            Self::ClickHouse { source, .. } => clickhouse_kind(source),
            Self::Redis { source, .. } => redis_kind(source),
            Self::Protocol { .. } | Self::Io { .. } | Self::Json { .. } => ErrorKind::Permanent,
        }
    }

    /// Returns whether a server is down, or not the one that is needed. Commands report that at
    /// once; the daemon waits.
    pub(crate) fn is_about_the_server(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Tls { .. }
            | Self::TlsFile { .. }
            | Self::WrongSession { .. }
            | Self::Hosts { .. } => true,
            Self::Postgres { source, .. } => source.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION),
            _ => false,
        }
    }
}

fn postgres_kind(error: &tokio_postgres::Error) -> ErrorKind {
    let Some(state) = error.code() else {
        // Without a code, the connection failed, or a conversion on this side, which has no I/O
        // error among its causes.
        return if error.is_closed() || has_io_error(error) { ErrorKind::Transient } else { ErrorKind::Permanent };
    };
    let busy = [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED, SqlState::LOCK_NOT_AVAILABLE];
    if busy.contains(state) || state.code().starts_with("53") {
        return ErrorKind::Busy;
    }
    // A primary that became read-only has a successor.
    let shutdown = [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::READ_ONLY_SQL_TRANSACTION,
    ];
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
        // 159 timeout, 202 too many queries, 210 network, 236 aborted, 241 memory limit,
        // 243 disk full, 252 too many parts, 394 cancelled.
        Error::BadResponse(text) => match clickhouse_code(text) {
            Some(159 | 202 | 241 | 243 | 252) => ErrorKind::Busy,
            Some(210 | 236 | 394) => ErrorKind::Transient,
            Some(192..=195 | 497 | 516) => ErrorKind::Configuration,
            Some(_) | None => ErrorKind::Permanent,
        },
        _ => ErrorKind::Permanent,
    }
}

/// Returns the number in `Code: 60. DB::Exception: …`.
pub(crate) fn clickhouse_code(text: &str) -> Option<u32> {
    let digits = text.split("Code: ").nth(1)?;
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn redis_kind(error: &redis::RedisError) -> ErrorKind {
    let has_no_node = error.kind() == redis::ErrorKind::ClusterConnectionNotFound;
    if error.is_io_error() || error.is_connection_dropped() || error.is_timeout() || has_no_node {
        return ErrorKind::Transient;
    }
    // An error of a pipeline has those of its commands.
    let errors = error.clone().into_server_errors();
    let code = error.code().or_else(|| errors.as_ref()?.first().map(|(_, error)| error.code()));
    match code {
        // A slot is on its way to another node, or has no node until a replica takes it.
        Some("MOVED" | "ASK" | "TRYAGAIN" | "CLUSTERDOWN" | "MASTERDOWN") => ErrorKind::Transient,
        Some("BUSY" | "LOADING" | "OOM" | "READONLY" | "NOREPLICAS") => ErrorKind::Busy,
        Some("NOAUTH" | "WRONGPASS" | "NOPERM") => ErrorKind::Configuration,
        Some(_) | None => ErrorKind::Permanent,
    }
}

/// Delays between attempts at one piece of work; a new kind of error starts again with short
/// delays.
#[derive(Debug, Default)]
pub(crate) struct Retrier {
    waiting: Option<(ErrorKind, ExponentialBackoff)>,
}

impl Retrier {
    /// Returns the wait before the next attempt, or `None` when the policy of the error gives up.
    pub(crate) fn delay(&mut self, error: &SidecarError) -> Option<Duration> {
        let kind = error.kind();
        if self.waiting.as_ref().is_none_or(|(same, _)| *same != kind) {
            self.waiting = kind.retry_policy().map(|policy| (kind, policy.build()));
        }
        self.waiting.as_mut()?.1.next()
    }

    /// Starts again with short delays, after a success.
    pub(crate) fn reset(&mut self) {
        self.waiting = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_transient_and_busy_errors_are_retried() {
        assert!(ErrorKind::Transient.retry_policy().is_some());
        assert!(ErrorKind::Busy.retry_policy().is_some());
        for kind in [ErrorKind::BadData, ErrorKind::Configuration, ErrorKind::Permanent] {
            assert!(kind.retry_policy().is_none(), "{kind:?}");
        }
    }

    #[test]
    fn clickhouse_errors_are_classified_by_code() {
        let answer = |text: &str| clickhouse_kind(&clickhouse::error::Error::BadResponse(text.into()));
        assert_eq!(answer("Code: 252. DB::Exception: Too many parts"), ErrorKind::Busy);
        assert_eq!(answer("Code: 516. DB::Exception: Authentication failed"), ErrorKind::Configuration);
        assert_eq!(answer("Code: 62. DB::Exception: Syntax error"), ErrorKind::Permanent);
        assert_eq!(answer("nothing known"), ErrorKind::Permanent);
    }

    #[test]
    fn retries_are_bounded_and_reset_after_success() {
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
