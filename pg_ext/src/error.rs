//! Errors in SQL: SQLSTATE, message, detail and hint, in PostgreSQL's message style.
//!
//! Every error of the domain has one exhaustive match here. Externs return
//! `Result<_, ErrorReport>`, and convert to it from [`SqlError`] by `?`: any other error type would
//! be reported as 22000.

use arx_core::address::AddressError;
use arx_core::alert::AlertError;
use arx_core::alert::condition::ConditionError;
use arx_core::amount::AmountError;
use arx_core::analytics::RequestError;
use arx_core::graph::match_paths::PathPatternError;
use arx_core::graph::patterns::PatternError;
use arx_core::graph::{Damaged, OptionsError, SearchError};
use arx_core::partition::PartitionError;
use arx_core::risk::CalibrationError;
use arx_core::risk::features::ExtractError;
use arx_core::risk::fit::FitError;
use arx_core::risk::scorecard::ScorecardError;
use arx_core::risk::study::StudyError;
use arx_core::risk::training::TrainingError;
use arx_pgwire::PgWireError;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::spi::SpiError;

use crate::graph_store::reject_damage;

/// An error as the client will see it.
#[derive(Debug, Clone)]
pub(crate) struct SqlError {
    code: PgSqlErrorCode,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
}

impl SqlError {
    fn new(code: PgSqlErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), detail: None, hint: None }
    }

    /// Adds the cause.
    pub(crate) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds a way out.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn null_argument(argument: &str) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED, format!("{argument} must not be null"))
    }

    pub(crate) fn unregistered_network(network: &str) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, format!("network \"{network}\" is not registered"))
            .hint("See arx.networks; SELECT arx.add_network(name, family) adds one, where family is evm, bitcoin, tron, solana or opaque.")
    }

    /// The catalog or a table of the extension holds an impossible value.
    pub(crate) fn corrupt(message: impl Into<String>) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, message)
    }

    /// An argument has an invalid value.
    pub(crate) fn argument(message: impl Into<String>) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message)
    }

    /// An object does not exist.
    pub(crate) fn undefined_object(message: impl Into<String>) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, message)
    }

    /// A name is taken.
    pub(crate) fn duplicate(message: impl Into<String>) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT, message)
    }

    /// The database is not in the state that the call requires.
    pub(crate) fn state(message: impl Into<String>) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, message)
    }

    /// The operating system reported an error. `action` completes "could not …".
    pub(crate) fn io(action: &str, error: &std::io::Error) -> Self {
        let code = match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => PgSqlErrorCode::ERRCODE_DISK_FULL,
            std::io::ErrorKind::OutOfMemory => PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY,
            _ => PgSqlErrorCode::ERRCODE_IO_ERROR,
        };
        Self::new(code, format!("could not {action}: {error}"))
    }

    /// A file of the graph is not as it was written.
    pub(crate) fn damaged_file(message: impl Into<String>) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, message)
            .hint("Call the function again: it uses no file that is damaged.")
    }

    /// Returns true if the system lacks room, or the right to write a file.
    pub(crate) fn is_shortage(&self) -> bool {
        matches!(
            self.code,
            PgSqlErrorCode::ERRCODE_DISK_FULL
                | PgSqlErrorCode::ERRCODE_IO_ERROR
                | PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY
                | PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED
        )
    }

    /// Reports the error as a warning.
    pub(crate) fn warn(self) {
        ErrorReport::from(self).report(PgLogLevel::WARNING);
    }

    /// A limit of memory or of the graph's ids is exceeded.
    pub(crate) fn limit(message: impl Into<String>) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, message)
    }

    /// Returns true if a limit was met, as by [`SqlError::limit`].
    pub(crate) fn is_limit(&self) -> bool {
        self.code == PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED
    }

    /// A number does not fit into its type.
    pub(crate) fn out_of_range(message: impl Into<String>) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, message)
    }

    /// The system has no memory left.
    pub(crate) fn out_of_memory(elements: usize) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY, "out of memory")
            .detail(format!("A request for {elements} elements failed."))
    }

    /// The caller lacks SELECT on a table of the graph.
    pub(crate) fn no_select(relation: &str) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, format!("permission denied for table {relation}"))
            .detail(format!("The graph holds every row of arx.{relation}, so the caller needs SELECT on the table."))
    }

    /// Row-level security would hide rows of the graph from the caller.
    pub(crate) fn row_security(relation: &str) -> Self {
        Self::new(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("row-level security of table arx.{relation} applies to the caller"),
        )
        .detail("An answer without the rows that the policies hide would be partial.")
        .hint("Call the function as a role to which the policies do not apply.")
    }

    /// A table of users is missing. `cause` is the server's message.
    pub(crate) fn no_tables(cause: &str) -> Self {
        Self::state("the tables of arx do not exist")
            .detail(format!("The server reports: {cause}."))
            .hint("Run SELECT * FROM arx.create_tables().")
    }

    /// An object that ARX would create exists, and is something else.
    pub(crate) fn object_kind(name: &str, actual: &str, needed: &str, owner: &str) -> Self {
        Self::new(
            PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
            format!("{name} must be of kind \"{needed}\", but is of kind \"{actual}\""),
        )
        .detail(format!("It belongs to role {owner}."))
        .hint("Rename or drop it, and call arx.create_tables() again.")
    }

    /// An object that ARX would create exists, and belongs to another role.
    pub(crate) fn foreign_object(kind: &str, name: &str, owner: &str) -> Self {
        Self::privilege(format!("{kind} {name} belongs to role {owner}"))
            .detail("Objects of several owners are not mixed: each may run code as the others.")
            .hint(format!(
                "Run SET ROLE {owner} and call arx.create_tables() again, or drop the object or change its owner."
            ))
    }

    /// The default partition that ARX would create exists, and belongs to another table.
    pub(crate) fn partition_of_another(partition: &str, parent: &str, actual: Option<&str>) -> Self {
        let belongs = match actual {
            Some(actual) => format!("is a partition of {actual}"),
            None => "is no partition".to_owned(),
        };
        Self::state(format!("table {partition} {belongs}, but must be one of {parent}, which does not exist"))
            .hint(format!("Rename {partition}, or name its parent {parent}, and call arx.create_tables() again."))
    }

    /// A column that ARX reads has another type than it had.
    pub(crate) fn column_type(column: &str, actual: &str, expected: &str) -> Self {
        Self::new(
            PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
            format!("column \"{column}\" has type {actual}, but ARX reads {expected}"),
        )
        .detail("The type of a column of ARX's tables has been changed.")
        .hint("Change it back by ALTER TABLE … ALTER COLUMN … TYPE.")
    }

    /// The database cannot hold ARX.
    pub(crate) fn encoding(encoding: &str) -> Self {
        Self::new(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!("arx requires a database with encoding UTF8, not {encoding}"),
        )
        .hint("Create one by CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0.")
    }

    /// The function must not follow a write in its transaction.
    pub(crate) fn has_written(function: &str) -> Self {
        Self::new(
            PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION,
            format!("{function} cannot run in a transaction that has written"),
        )
        .detail("Other sessions would see changes that are not committed.")
        .hint("Commit the transaction first.")
    }

    /// A lock was not granted in time; `holders` are the processes that used the relation when the
    /// wait began.
    pub(crate) fn locked(relation: &str, holders: &[String]) -> Self {
        let error = Self::new(PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE, format!("table {relation} is in use"))
            .hint("Call the function again later.");
        if holders.is_empty() { error } else { error.detail(format!("Used by {}.", holders.join(", "))) }
    }

    /// A role lacks a right.
    pub(crate) fn privilege(message: impl Into<String>) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, message)
    }

    pub(crate) fn infinite_time() -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_DATETIME_FIELD_OVERFLOW, "timestamp must be finite")
            .hint("Specify a timestamp between the years 1 and 9999.")
    }

    pub(crate) fn no_policy(relation: &str) -> Self {
        Self::new(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("relation \"{relation}\" has no partition policy"),
        )
        .hint("Relations with a policy are listed in arx.partition_policies.")
    }
}

impl From<SqlError> for ErrorReport {
    fn from(error: SqlError) -> Self {
        let mut report = Self::new(error.code, error.message, "arx");
        if let Some(detail) = error.detail {
            report = report.set_detail(detail);
        }
        if let Some(hint) = error.hint {
            report = report.set_hint(hint);
        }
        report
    }
}

/// Raises an error where none can be returned: in the iterators of set-returning functions.
pub(crate) fn or_report<T>(result: Result<T, SqlError>) -> T {
    // Rows that were read from a damaged file are not given either.
    match result.and_then(|value| reject_damage().map(|()| value)) {
        Ok(value) => value,
        Err(error) => {
            ErrorReport::from(error).report(PgLogLevel::ERROR);
            unreachable!("reporting an error does not return")
        }
    }
}

impl From<AddressError> for SqlError {
    fn from(error: AddressError) -> Self {
        // Each variant is an invalid argument, and its message names what is valid.
        Self::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, error.to_string())
    }
}

impl From<RequestError> for SqlError {
    fn from(error: RequestError) -> Self {
        let message = error.to_string();
        match error {
            RequestError::UnknownQuery { .. } => {
                Self::new(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, message).hint("See arx.query_catalogue().")
            }
            RequestError::UnknownParameter { .. }
            | RequestError::Missing { .. }
            | RequestError::Repeated { .. }
            | RequestError::Value { .. }
            | RequestError::Reversed { .. } => Self::argument(message),
            RequestError::Long { .. } => Self::limit(message),
            RequestError::Range { .. } => Self::argument(message).hint("Ask for several ranges."),
            RequestError::Address(error) => error.into(),
        }
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
                .hint("Reduce max_depth or max_nodes, or raise arx.graph_work_mem."),
            SearchError::WholeGraph { .. } => {
                Self::new(PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, message).hint("Raise arx.graph_work_mem.")
            }
            SearchError::PatternMemory { .. } => Self::new(PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, message)
                .hint("Narrow window, since or until, reduce max_findings, or raise arx.graph_work_mem."),
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
                .hint("Only methods deposit and funding merge wallets."),
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
        // Each variant is an invalid argument, and its message names what is valid.
        Self::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, error.to_string()).hint("See arx.pattern_types().")
    }
}

impl From<PathPatternError> for SqlError {
    fn from(error: PathPatternError) -> Self {
        // Each variant is an invalid argument.
        let invalid = Self::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, error.to_string());
        match error {
            PathPatternError::Name { valid, .. } => invalid.hint(format!("Valid names are {valid}.")),
            _ => invalid.hint("A pattern looks like: illicit -> unlabelled{1,4} -> exchange"),
        }
    }
}

impl From<Damaged> for SqlError {
    fn from(error: Damaged) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, error.to_string())
            .hint("Run SELECT * FROM arx.refresh_graph(rebuild => true) to rebuild the graph from the tables.")
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

impl From<CalibrationError> for SqlError {
    fn from(error: CalibrationError) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, error.to_string()).hint("See arx.risk_calibration.")
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

impl From<ConditionError> for SqlError {
    fn from(error: ConditionError) -> Self {
        let advice = error.advice.clone();
        let reported = Self::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, error.to_string());
        match advice {
            Some(advice) => reported.hint(advice),
            None => reported.hint("See the conditions of the rules that ship in arx.wallet_alert_rules."),
        }
    }
}

impl From<SpiError> for SqlError {
    fn from(error: SpiError) -> Self {
        // PostgreSQL raises errors of the statement itself. Those that arrive here are bugs in our
        // use of SPI.
        Self::new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, error.to_string())
    }
}
