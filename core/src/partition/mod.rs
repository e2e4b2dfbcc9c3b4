//! Partitions by month: plans from a policy and the existing partitions.
//!
//! A plan is a value: the steps to take, in order, each with its reason. Nothing here executes a
//! plan or knows SQL; the extension shows plans (`dry_run`) and executes them. Planning again after
//! a plan was executed gives an empty plan.
//!
//! - **Created:** the current month, the following [`Policy::premake`] months, and every month that
//!   has rows in the default partition. A name that is taken is replaced by another one.
//! - **Left:** rows in the default partition whose time no month can hold ([`Misfits`]).
//! - **Retired:** partitions that ended [`Policy::retention`] months before the current month
//!   began, or earlier. The default partition is never touched, nor is a partition that neither has
//!   a name given by [`partition_name`] nor spans exactly one month.
//! - Months are months of UTC. Upper bounds are exclusive.
//!
//! ```
//! use arx_core::partition::{Action, Inventory, Policy, RetentionMode, plan};
//!
//! let now = chrono::DateTime::from_timestamp(1_706_000_000, 0).ok_or("out of range")?;
//! let policy = Policy {
//!     relation: "transactions".into(),
//!     premake: 1,
//!     retention: None,
//!     retention_mode: RetentionMode::Detach,
//! };
//! let steps = plan(&policy, &Inventory::default(), now, &[])?;
//! assert!(steps.iter().all(|step| step.action == Action::Create));
//! assert_eq!(steps[1].partition, "transactions_2024_02");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod month;
mod names;
mod plan;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use month::Month;
pub use names::{MAX_NAME_BYTES, free_name, network_partition_name, part_name, partition_name};
pub use plan::{MAX_COVER_MONTHS, MAX_PREMAKE, cover, plan};

/// Treatment of partitions older than the retention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RetentionMode {
    /// The partition becomes a separate table and keeps its rows.
    #[default]
    Detach,
    /// The partition is removed with its rows.
    Drop,
}

impl RetentionMode {
    /// `detach` or `drop`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Detach => "detach",
            Self::Drop => "drop",
        }
    }

    /// Returns the action that retires a partition.
    #[must_use]
    pub const fn action(self) -> Action {
        match self {
            Self::Detach => Action::Detach,
            Self::Drop => Action::Drop,
        }
    }
}

impl fmt::Display for RetentionMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RetentionMode {
    type Err = PartitionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "detach" => Ok(Self::Detach),
            "drop" => Ok(Self::Drop),
            _ => Err(PartitionError::UnknownRetentionMode { text: text.to_owned() }),
        }
    }
}

/// Policy of a table that is partitioned by month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Bare name of the partitioned table, without schema and quotes; partitions are named after
    /// it.
    pub relation: String,
    /// Number of months created ahead of the current one, at most [`MAX_PREMAKE`].
    pub premake: u32,
    /// Number of whole months kept before the current one; `None` keeps everything.
    pub retention: Option<u32>,
    /// Treatment of older months.
    pub retention_mode: RetentionMode,
}

/// Rows that belong in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bounds {
    /// Rows that belong in no other partition.
    Default,
    /// Rows from `from` up to, not including, `to`.
    Range {
        /// First instant, `None` for MINVALUE.
        from: Option<DateTime<Utc>>,
        /// Instant after the last, `None` for MAXVALUE.
        to: Option<DateTime<Utc>>,
    },
}

impl Bounds {
    /// Returns the bounds of a month.
    #[must_use]
    pub const fn month(month: Month) -> Self {
        Self::Range { from: Some(month.from()), to: Some(month.to()) }
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("DEFAULT"),
            Self::Range { from, to } => {
                let text = |bound: &Option<DateTime<Utc>>, open: &str| {
                    bound.map_or_else(|| open.to_owned(), |b| b.to_rfc3339())
                };
                write!(f, "FROM {} TO {}", text(from, "MINVALUE"), text(to, "MAXVALUE"))
            }
        }
    }
}

/// An existing partition.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Existing {
    /// Identity: a partition keeps it when it gets another name or schema.
    pub id: u32,
    /// Bare name.
    pub name: String,
    /// Rows that belong in it.
    pub bounds: Bounds,
}

/// Partitions of a table, and the names that a new one cannot have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inventory {
    /// Existing partitions.
    pub partitions: Vec<Existing>,
    /// Names that are in use where new partitions are created.
    pub taken: BTreeSet<String>,
}

/// Rows in the default partition whose time no month can hold: infinite, or outside the years 1 to
/// 9999. They stay there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfits {
    /// Number of rows.
    pub count: u64,
    /// Network and hash of the first one, unless they are hidden from the reader.
    pub first: Option<(String, String)>,
}

impl fmt::Display for Misfits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = if self.count == 1 { "row has" } else { "rows have" };
        write!(f, "{} {rows} a time outside the years 1 to 9999; correct or delete them", self.count)?;
        match &self.first {
            Some((network, hash)) => write!(f, ": the first is {hash} of network {network}"),
            None => Ok(()),
        }
    }
}

/// Effect of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Creates a partition, and moves its rows out of the default partition.
    Create,
    /// Makes a partition a separate table.
    Detach,
    /// Removes a partition with its rows.
    Drop,
}

impl Action {
    /// `create`, `detach` or `drop`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Detach => "detach",
            Self::Drop => "drop",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlanStep {
    /// Effect of the step.
    pub action: Action,
    /// Bare name of the partition, not quoted.
    pub partition: String,
    /// Identity of the partition; `None` for one that this plan creates.
    pub existing: Option<u32>,
    /// First instant of its range.
    pub from: DateTime<Utc>,
    /// Instant after its range.
    pub to: DateTime<Utc>,
    /// Reason for the step, for the operator.
    pub reason: String,
}

/// An invalid policy, range or partition.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PartitionError {
    /// The month is not a month of the years 1 to 9999.
    #[error("month {month} of year {year} does not exist; expected months 1 to 12 of years 1 to 9999")]
    NoSuchMonth {
        /// The year.
        year: i32,
        /// The month.
        month: u32,
    },
    /// The month has no next one.
    #[error("no partition can be created after month {month}: the last year is 9999")]
    NoNextMonth {
        /// The last month.
        month: Month,
    },
    /// The text is not a retention mode.
    #[error("retention mode {text:?} is unknown; expected detach or drop")]
    UnknownRetentionMode {
        /// The text.
        text: String,
    },
    /// The policy names no table.
    #[error("partition policy names no table; give the name of a partitioned table")]
    NoRelation,
    /// The policy creates too many months ahead.
    #[error("policy of table {relation:?} creates {premake} months ahead; expected at most {limit}")]
    PremakeTooLarge {
        /// The table.
        relation: String,
        /// Number of months ahead.
        premake: u32,
        /// Maximum.
        limit: u32,
    },
    /// A required month is partly covered by another partition.
    #[error(
        "month {month} of table {relation:?} is partly covered by partition {partition:?} ({bounds}); \
         detach or re-create that partition with bounds of whole months"
    )]
    PartlyCovered {
        /// The table.
        relation: String,
        /// The required month.
        month: Month,
        /// The partition in the way.
        partition: String,
        /// Its bounds.
        bounds: Bounds,
    },
    /// The range ends before it begins.
    #[error("range to cover begins at {from} and ends earlier, at {to}; exchange the two")]
    RangeReversed {
        /// The beginning.
        from: DateTime<Utc>,
        /// The end.
        to: DateTime<Utc>,
    },
    /// The range has more months than one call creates.
    #[error(
        "range from {from} to {to} spans {months} months; expected at most {limit}, so check the dates or split the range"
    )]
    RangeTooLong {
        /// The beginning.
        from: DateTime<Utc>,
        /// The end.
        to: DateTime<Utc>,
        /// Number of months in the range.
        months: u32,
        /// Maximum.
        limit: u32,
    },
}

#[cfg(test)]
mod tests;
