//! What an error looks like in SQL: SQLSTATE, message, detail and hint, in PostgreSQL's message style.
//!
//! Every domain error has one exhaustive match here. Externs return `Result<_, ErrorReport>` and get there by `?` from
//! [`SqlError`]: any other error type would be reported as 22000.

use arx_core::address::AddressError;
use arx_core::alert::AlertError;
use arx_core::amount::AmountError;
use arx_core::graph::patterns::PatternError;
use arx_core::graph::{Damaged, OptionsError, SearchError};
use arx_core::partition::PartitionError;
use arx_core::risk::features::ExtractError;
use arx_core::risk::fit::FitError;
use arx_core::risk::scorecard::ScorecardError;
use arx_core::risk::study::StudyError;
use arx_core::risk::training::TrainingError;
use arx_pgwire::PgWireError;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::spi::SpiError;

/// An error on its way to the client.
pub struct SqlError {
    code: PgSqlErrorCode,
    message: String,
    hint: Option<String>,
}

impl SqlError {
    fn new(code: PgSqlErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    /// Adds what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// An argument that must not be NULL.
    pub fn null_argument(argument: &str) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED, format!("{argument} must not be null"))
    }

    /// A network that `arx.networks` does not have.
    pub fn unregistered_network(network: &str) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, format!("network \"{network}\" is not registered"))
            .hint("See arx.networks; a new network is added by INSERT INTO arx.networks (network, native_asset).")
    }

    /// The catalog or a table of ours holds what it cannot hold.
    pub fn corrupt(what: impl Into<String>) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, what)
    }

    /// A value that an argument cannot have.
    pub fn argument(message: impl Into<String>) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message)
    }

    /// A name that is taken.
    pub fn duplicate(message: impl Into<String>) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT, message)
    }

    /// What cannot be done as things are.
    pub fn state(message: impl Into<String>) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, message)
    }

    /// Something of the system failed.
    pub fn io(doing: &str, error: &std::io::Error) -> Self {
        let code = match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => PgSqlErrorCode::ERRCODE_DISK_FULL,
            std::io::ErrorKind::OutOfMemory => PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY,
            _ => PgSqlErrorCode::ERRCODE_IO_ERROR,
        };
        Self::new(code, format!("could not {doing}: {error}"))
    }

    /// More than the graph's numbers can count.
    pub fn limit(message: impl Into<String>) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, message)
    }

    /// A caller without the right to read.
    pub fn no_select(relation: &str) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, format!("permission denied for table {relation}"))
            .hint(format!("The graph holds all of arx.{relation}: whoever asks it needs SELECT on the table."))
    }

    /// A caller who would see more than the table shows him.
    pub fn row_security(relation: &str) -> Self {
        Self::new(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("graph functions are refused: row-level security of table arx.{relation} applies to the caller"),
        )
        .hint("The graph holds every row. Ask as a role that the policies do not apply to.")
    }

    /// What must not follow a write in its transaction.
    pub fn has_written(function: &str) -> Self {
        Self::new(
            PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION,
            format!("{function} cannot run in a transaction that has written"),
        )
        .hint("Commit first: others must not see what is not committed.")
    }

    /// A point in time outside the calendar that partitions are made for.
    pub fn infinite_time() -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_DATETIME_FIELD_OVERFLOW, "timestamp must be finite")
            .hint("Give a point in time of the years 1 to 9999.")
    }

    /// A relation that no partition policy names.
    pub fn no_policy(relation: &str) -> Self {
        Self::new(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("relation \"{relation}\" has no partition policy"),
        )
        .hint("Relations with a policy are listed in arx.partition_policies.")
    }
}

impl From<SqlError> for ErrorReport {
    fn from(error: SqlError) -> Self {
        let report = Self::new(error.code, error.message, "arx");
        match error.hint {
            Some(hint) => report.set_hint(hint),
            None => report,
        }
    }
}

impl From<AddressError> for SqlError {
    fn from(error: AddressError) -> Self {
        // every variant is an argument with a bad value, and its message says what would be right
        Self::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, error.to_string())
    }
}

impl From<AmountError> for SqlError {
    fn from(error: AmountError) -> Self {
        let code = match error {
            AmountError::NotANumber { .. } => PgSqlErrorCode::ERRCODE_INVALID_TEXT_REPRESENTATION,
            AmountError::Negative { .. } | AmountError::OutOfRange { .. } | AmountError::SumOverflow => {
                PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE
            }
        };
        Self::new(code, error.to_string())
    }
}

impl From<SearchError> for SqlError {
    fn from(error: SearchError) -> Self {
        let message = error.to_string();
        match error {
            SearchError::Depth { .. } | SearchError::Paths { .. } | SearchError::SeveralAssets => {
                Self::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message)
            }
            SearchError::Memory { .. } => Self::new(PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, message)
                .hint("Search less deep, limit max_nodes, or raise arx.graph_work_mem."),
            SearchError::WholeGraph { .. } => {
                Self::new(PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, message).hint("Raise arx.graph_work_mem.")
            }
            SearchError::PatternMemory { .. } => Self::new(PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, message)
                .hint("Narrow the window, since and until, limit max_findings, or raise arx.graph_work_mem."),
            SearchError::ValueOverflow => Self::new(PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, message),
            SearchError::Damaged(damaged) => damaged.into(),
        }
    }
}

impl From<OptionsError> for SqlError {
    fn from(error: OptionsError) -> Self {
        let message = error.to_string();
        match error {
            OptionsError::NoMerges { .. } => Self::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message)
                .hint("Methods deposit and funding have merges."),
            OptionsError::Choice { .. }
            | OptionsError::NotAnObject { .. }
            | OptionsError::Unknown { .. }
            | OptionsError::Value { .. }
            | OptionsError::SeveralAssets { .. } => Self::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message),
        }
    }
}

impl From<PatternError> for SqlError {
    fn from(error: PatternError) -> Self {
        // every variant is an argument with a bad value, and its message says what would be right
        Self::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, error.to_string()).hint("See arx.pattern_types().")
    }
}

impl From<Damaged> for SqlError {
    fn from(error: Damaged) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, error.to_string())
            .hint("SELECT * FROM arx.refresh_graph(rebuild => true) builds it anew from the tables.")
    }
}

impl From<PgWireError> for SqlError {
    fn from(error: PgWireError) -> Self {
        let code = match error {
            PgWireError::NotFinite | PgWireError::Negative | PgWireError::TooLarge { .. } | PgWireError::TooFine => {
                PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE
            }
            PgWireError::NotAnInteger
            | PgWireError::MalformedNumeric
            | PgWireError::Truncated
            | PgWireError::UnexpectedNull
            | PgWireError::WrongLength
            | PgWireError::NotUtf8
            | PgWireError::MalformedSnapshot => PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
        };
        Self::new(code, error.to_string())
    }
}

impl From<ScorecardError> for SqlError {
    fn from(error: ScorecardError) -> Self {
        let message = match &error {
            ScorecardError::Json(source) => format!("{error}: {source}"),
            _ => error.to_string(),
        };
        Self::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message)
    }
}

impl From<ExtractError> for SqlError {
    fn from(error: ExtractError) -> Self {
        match error {
            ExtractError::Stopped => Self::new(PgSqlErrorCode::ERRCODE_QUERY_CANCELED, error.to_string()),
            ExtractError::Memory { .. } => Self::new(PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, error.to_string())
                .hint("Raise arx.graph_work_mem."),
            ExtractError::Damaged(damaged) => damaged.into(),
        }
    }
}

impl From<FitError> for SqlError {
    fn from(error: FitError) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, error.to_string())
    }
}

impl From<StudyError> for SqlError {
    fn from(error: StudyError) -> Self {
        match error {
            StudyError::Training(error) => error.into(),
            StudyError::Scorecard(error) => error.into(),
        }
    }
}

impl From<TrainingError> for SqlError {
    fn from(error: TrainingError) -> Self {
        match error {
            TrainingError::Extract(error) => error.into(),
            TrainingError::Fit(error) => error.into(),
        }
    }
}

impl From<PartitionError> for SqlError {
    fn from(error: PartitionError) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, error.to_string())
    }
}

impl From<AlertError> for SqlError {
    fn from(error: AlertError) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, error.to_string())
            .hint("See arx.effective_alert_rules.")
    }
}

impl From<SpiError> for SqlError {
    fn from(error: SpiError) -> Self {
        // errors of the statement itself never come here: PostgreSQL raises them. What does is a bug in our use of SPI.
        Self::new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, error.to_string())
    }
}
