//! Partitions by month: from a policy and what exists to a plan.
//!
//! A plan is a value: the steps to take, in order, each with its reason. Nothing here executes one or knows SQL; the extension
//! shows plans (`dry_run`) and carries them out. Planning what has been carried out gives an empty plan.
//!
//! - **Made ahead:** the current month and [`Policy::premake`] more, and every month that has rows in the default partition.
//! - **Retired:** partitions that ended [`Policy::retention`] months before the current month began, or earlier. The default
//!   partition is never touched, nor is a partition that is neither named like one of ARX's nor exactly a month.
//! - Months are months of UTC. Upper bounds are exclusive, as PostgreSQL's are.
//!
//! ```
//! use arx_core::partition::{Action, Policy, RetentionMode, plan};
//!
//! let now = chrono::DateTime::from_timestamp(1_706_000_000, 0).ok_or("out of range")?; // 2024-01-23
//! let policy = Policy { relation: "transactions".into(), premake: 1, retention: None, retention_mode: RetentionMode::Detach };
//! let steps = plan(&policy, &[], now, &[])?;
//! assert!(steps.iter().all(|step| step.action == Action::Create));
//! assert_eq!(steps[1].partition, "transactions_2024_02");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod month;
mod plan;

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use month::Month;
pub use plan::{MAX_COVER_MONTHS, MAX_NAME_BYTES, MAX_PREMAKE, cover, partition_name, plan};

/// What happens to a partition whose time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RetentionMode {
    /// It becomes a table of its own and keeps its rows.
    #[default]
    Detach,
    /// It is removed with its rows.
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

    /// The step that retires a partition.
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

/// How a table is partitioned by month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The partitioned table's bare name, without schema and quotes; partitions are named after it.
    pub relation: String,
    /// Months made ahead of the current one, at most [`MAX_PREMAKE`].
    pub premake: u32,
    /// Whole months kept before the current one; `None` keeps everything.
    pub retention: Option<u32>,
    /// What happens to older months.
    pub retention_mode: RetentionMode,
}

/// What rows a partition takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bounds {
    /// Those that no other partition takes.
    Default,
    /// Those from `from` up to, not including, `to`.
    Range {
        /// The first instant, `None` for MINVALUE.
        from: Option<DateTime<Utc>>,
        /// The instant after the last, `None` for MAXVALUE.
        to: Option<DateTime<Utc>>,
    },
}

impl Bounds {
    /// Exactly this month.
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

/// A partition that the table has.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Existing {
    /// Its bare name.
    pub name: String,
    /// What rows it takes.
    pub bounds: Bounds,
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Makes a partition; rows in the default partition that belong to it move into it.
    Create,
    /// Makes a partition a table of its own.
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
pub struct Step {
    /// What to do.
    pub action: Action,
    /// The partition's bare name, not quoted.
    pub partition: String,
    /// The first instant of its range.
    pub from: DateTime<Utc>,
    /// The instant after its range.
    pub to: DateTime<Utc>,
    /// Why, for the operator.
    pub reason: String,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PartitionError {
    /// Not a month of the years 1 to 9999.
    #[error("month {month} of year {year} does not exist; expected months 1 to 12 of years 1 to 9999")]
    NoSuchMonth {
        /// The year given.
        year: i32,
        /// The month given.
        month: u32,
    },
    /// No month ahead of this one can be named.
    #[error("no partition can be made after month {month}: years end at 9999")]
    NoNextMonth {
        /// The last month.
        month: Month,
    },
    /// Not a retention mode.
    #[error("retention mode {text:?} is unknown; expected detach or drop")]
    UnknownRetentionMode {
        /// What was given.
        text: String,
    },
    /// The policy names no table.
    #[error("partition policy names no table; give the name of a partitioned table")]
    NoRelation,
    /// More months ahead than anybody needs.
    #[error("policy of table {relation:?} makes {premake} months ahead; expected at most {limit}")]
    PremakeTooLarge {
        /// The table.
        relation: String,
        /// Months ahead.
        premake: u32,
        /// The most allowed.
        limit: u32,
    },
    /// A month is needed that another partition holds in part.
    #[error(
        "month {month} of table {relation:?} is partly covered by partition {partition:?} ({bounds}); \
         detach or re-create that partition with bounds of whole months"
    )]
    PartlyCovered {
        /// The table.
        relation: String,
        /// The month needed.
        month: Month,
        /// The partition in the way.
        partition: String,
        /// Its bounds.
        bounds: Bounds,
    },
    /// The name of a new partition is taken by a partition with other bounds.
    #[error(
        "partition {partition:?} of table {relation:?} exists with bounds {bounds}, not those of month {month}; rename it"
    )]
    NameTaken {
        /// The table.
        relation: String,
        /// The month needed.
        month: Month,
        /// The name.
        partition: String,
        /// The bounds of the partition that has it.
        bounds: Bounds,
    },
    /// A range that ends before it begins.
    #[error("range to cover begins {from} and ends {to}, before its beginning; exchange the two")]
    RangeReversed {
        /// The beginning.
        from: DateTime<Utc>,
        /// The end.
        to: DateTime<Utc>,
    },
    /// A range of more months than one call makes.
    #[error(
        "range from {from} to {to} spans {months} months; expected at most {limit}, so check the dates or split the range"
    )]
    RangeTooLong {
        /// The beginning.
        from: DateTime<Utc>,
        /// The end.
        to: DateTime<Utc>,
        /// Months in it.
        months: u32,
        /// The most allowed.
        limit: u32,
    },
}

#[cfg(test)]
mod tests;
