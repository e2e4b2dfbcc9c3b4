//! The answer of `arx.health_check()`, for `arx-sidecar check` and the metrics of the daemon.

use tokio_postgres::Client;

use crate::error::{Doing, SidecarError};

const HEALTH: &str = "SELECT name, object, value, threshold, severity, cause, statement FROM arx.health_check()";

/// Severity of a finding, from the best to the worst; the numbers are those of the gauge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    Ok = 0,
    Info = 1,
    Unknown = 2,
    Warning = 3,
    Critical = 4,
}

impl Severity {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Info => "info",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// A severity of a later version is not taken for health.
    fn parse(name: &str) -> Self {
        let all = [Self::Ok, Self::Info, Self::Warning, Self::Critical];
        all.into_iter().find(|severity| severity.name() == name).unwrap_or(Self::Unknown)
    }
}

/// A row of `arx.health_check()`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Finding {
    pub(crate) name: String,
    pub(crate) object: Option<String>,
    pub(crate) value: Option<f64>,
    pub(crate) threshold: Option<f64>,
    pub(crate) severity: Severity,
    pub(crate) cause: String,
    pub(crate) statement: Option<String>,
}

/// Runs the checks, the worst finding first.
///
/// # Errors
/// [`SidecarError::Postgres`].
pub(crate) async fn read_findings(client: &Client) -> Result<Vec<Finding>, SidecarError> {
    let rows = client.query(HEALTH, &[]).await.doing("check the health of the database")?;
    let finding = |row: &tokio_postgres::Row| Finding {
        name: row.get(0),
        object: row.get(1),
        value: row.get(2),
        threshold: row.get(3),
        severity: Severity::parse(row.get(4)),
        cause: row.get(5),
        statement: row.get(6),
    };
    Ok(rows.iter().map(finding).collect())
}
