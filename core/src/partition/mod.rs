//! Range partitions: plans from a policy and the existing partitions.
//!
//! A plan is a value: the steps to take, in order, each with its reason. Nothing here executes a
//! plan or knows SQL; the extension shows plans and executes them. Planning again after a plan was
//! executed gives an empty plan.
//!
//! - **Ranges:** the cells of a [`Grid`]: calendar units of a time zone, or ranges of integers.
//!   Upper bounds are exclusive.
//! - **Created:** the current cell, the following [`Policy::premake`] cells, and every cell that
//!   has rows in the default partition. A name that is taken is replaced by another one. A cell
//!   that another partition covers in part is reported, and the others are created.
//! - **Quarantined:** rows in the default partition whose time cannot be true, if the policy says
//!   so: earlier than [`Policy::earliest`], or more than [`MAX_AHEAD`] cells later than the last
//!   one made ahead.
//! - **Left:** rows in the default partition that no cell can hold ([`Misfits`]).
//! - **Moved** to another tablespace: partitions that have reached an age.
//! - **Retired:** partitions that ended [`Policy::retention`] before the current cell began, or
//!   earlier. The default partition is never touched. A partition that is neither a cell nor has a
//!   name given by [`partition_name`] is reported instead.
//!
//! ```
//! use arx_core::partition::{Action, Axis, Grid, Inventory, Policy, Waiting, plan};
//!
//! let grid = Grid::parse(Axis::Timestamp, "1 month", "UTC")?;
//! let now = grid.key(chrono::DateTime::from_timestamp(1_706_000_000, 0).ok_or("out of range")?);
//! let policy = Policy { premake: 1, ..Policy::new("transactions", grid) };
//! let steps = plan(&policy, &Inventory::default(), now, &Waiting::default())?;
//! assert!(steps.iter().all(|step| step.action == Action::Create));
//! assert_eq!(steps[1].partition, "transactions_2024_02");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod grid;
mod interval;
mod names;
mod plan;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

pub use grid::{Axis, Cell, Grid, Key};
pub use interval::Interval;
pub use names::{MAX_NAME_BYTES, free_name, network_partition_name, part_name, partition_name, quarantine_name};
pub use plan::{MAX_AHEAD, MAX_COVER, MAX_PREMAKE, cover, is_expired, latest, plan};

/// Treatment of partitions older than the retention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RetentionMode {
    /// The partition becomes a separate table and keeps its rows.
    #[default]
    Detach,
    /// The partition is removed with its rows.
    Drop,
    /// The partition becomes a separate table in another schema, tablespace, or both.
    Move,
    /// The partition becomes a separate table once its rows are in an archive elsewhere.
    Archive,
}

impl RetentionMode {
    /// `detach`, `drop`, `move` or `archive`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.action().as_str()
    }

    /// Returns the action that retires a partition.
    #[must_use]
    pub const fn action(self) -> Action {
        match self {
            Self::Detach => Action::Detach,
            Self::Drop => Action::Drop,
            Self::Move => Action::Move,
            Self::Archive => Action::Archive,
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
        let modes = [Self::Detach, Self::Drop, Self::Move, Self::Archive];
        let mode = modes.into_iter().find(|mode| mode.as_str() == text);
        mode.ok_or_else(|| PartitionError::UnknownRetentionMode { text: text.to_owned() })
    }
}

/// Policy of a table that is partitioned by range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Bare name of the partitioned table, without schema and quotes; partitions are named after
    /// it.
    pub relation: String,
    /// Ranges of the partitions.
    pub grid: Grid,
    /// Number of cells created ahead of the current one, at most [`MAX_PREMAKE`].
    pub premake: u32,
    /// Age kept before the current cell; `None` keeps everything.
    pub retention: Option<Interval>,
    /// Treatment of older partitions.
    pub retention_mode: RetentionMode,
    /// Ages from which partitions are in a tablespace; the greatest age that applies decides.
    pub tablespaces: Vec<(Interval, String)>,
    /// True if rows whose time cannot be true are quarantined.
    pub quarantine: bool,
    /// First key that can be true.
    pub earliest: Option<Key>,
}

impl Policy {
    /// Makes the policy that keeps everything and makes nothing ahead.
    #[must_use]
    pub fn new(relation: impl Into<String>, grid: Grid) -> Self {
        Self {
            relation: relation.into(),
            grid,
            premake: 0,
            retention: None,
            retention_mode: RetentionMode::default(),
            tablespaces: Vec::new(),
            quarantine: false,
            earliest: None,
        }
    }
}

/// Rows that belong in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bounds {
    /// Rows that belong in no other partition.
    Default,
    /// Rows from `from` up to, not including, `to`.
    Range {
        /// First key, `None` for MINVALUE.
        from: Option<Key>,
        /// Key after the last, `None` for MAXVALUE.
        to: Option<Key>,
    },
}

impl Bounds {
    /// Returns the bounds of a cell.
    #[must_use]
    pub const fn cell(cell: Cell) -> Self {
        Self::range(Some(cell.from()), Some(cell.to()))
    }

    /// Returns the bounds of a range. `Key::MIN` and `Key::MAX` mean unbounded.
    #[must_use]
    pub const fn range(from: Option<Key>, to: Option<Key>) -> Self {
        let from = match from {
            Some(Key::MIN) => None,
            from => from,
        };
        let to = match to {
            Some(Key::MAX) => None,
            to => to,
        };
        Self::Range { from, to }
    }

    /// Prints the bounds as SQL has them.
    #[must_use]
    pub fn print(&self, grid: &Grid) -> String {
        match self {
            Self::Default => "DEFAULT".to_owned(),
            Self::Range { from, to } => {
                let (from, to) = (from.unwrap_or(Key::MIN), to.unwrap_or(Key::MAX));
                format!("FROM {} TO {}", grid.print_bound(from), grid.print_bound(to))
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
    /// Its tablespace, `None` for the one of the database.
    pub tablespace: Option<String>,
    /// True if an interrupted DETACH CONCURRENTLY has left it half detached.
    pub is_pending: bool,
}

impl Existing {
    /// Makes a partition in the default tablespace.
    #[must_use]
    pub fn new(id: u32, name: impl Into<String>, bounds: Bounds) -> Self {
        Self { id, name: name.into(), bounds, tablespace: None, is_pending: false }
    }
}

/// Partitions of a table, and the names that a new one cannot have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inventory {
    /// Existing partitions.
    pub partitions: Vec<Existing>,
    /// Names that are in use where new partitions are created.
    pub taken: BTreeSet<String>,
}

/// Rows in the default partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Waiting {
    /// A key of every cell that has rows there.
    pub keys: Vec<Key>,
    /// Rows that get no partition.
    pub misfits: Option<Misfits>,
    /// Number of rows whose key is null.
    pub without_key: u64,
}

/// Rows in the default partition that get no partition: their time is infinite or outside the years
/// 1 to 9999, or cannot be true by a policy that quarantines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfits {
    /// Number of rows.
    pub count: u64,
    /// Network and hash of the first one, unless they are hidden from the reader or do not exist.
    pub first: Option<(String, String)>,
}

impl Misfits {
    /// Describes the rows by what is wrong with their time.
    fn describe(&self, fault: &str) -> String {
        let rows = if self.count == 1 { "row has" } else { "rows have" };
        let first = self.first.as_ref();
        let first = first.map(|(network, hash)| format!(": the first is {hash} of network {network}"));
        format!("{} {rows} a time {fault}{}", self.count, first.unwrap_or_default())
    }
}

impl fmt::Display for Misfits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe("outside the years 1 to 9999; correct or delete them"))
    }
}

/// Effect of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Creates a partition, and moves its rows out of the default partition.
    Create,
    /// Moves rows whose time cannot be true out of the table.
    Quarantine,
    /// Moves a partition to another tablespace.
    SetTablespace,
    /// Makes a partition a separate table.
    Detach,
    /// Completes an interrupted DETACH CONCURRENTLY.
    Finalize,
    /// Removes a partition with its rows.
    Drop,
    /// Makes a partition a separate table in another schema or tablespace.
    Move,
    /// Makes a partition a separate table once its rows are in an archive.
    Archive,
    /// Nothing: something stays as it is, and needs a decision.
    Leave,
    /// Nothing: a partition cannot be created because another one is in the way.
    Blocked,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 10] = [
        Self::Create,
        Self::Quarantine,
        Self::SetTablespace,
        Self::Detach,
        Self::Finalize,
        Self::Drop,
        Self::Move,
        Self::Archive,
        Self::Leave,
        Self::Blocked,
    ];

    /// Returns its name in lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Quarantine => "quarantine",
            Self::SetTablespace => "set tablespace",
            Self::Detach => "detach",
            Self::Finalize => "finalize",
            Self::Drop => "drop",
            Self::Move => "move",
            Self::Archive => "archive",
            Self::Leave => "leave",
            Self::Blocked => "blocked",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanStep {
    /// Effect of the step.
    pub action: Action,
    /// Bare name of the partition, not quoted.
    pub partition: String,
    /// Identity of the partition; `None` for one that this plan creates.
    pub existing: Option<u32>,
    /// First key of its range, `None` without a limit.
    pub from: Option<Key>,
    /// Key after its range, `None` without a limit.
    pub to: Option<Key>,
    /// True if the default partition holds rows of it, or may do so.
    pub has_rows: bool,
    /// Tablespace that [`Action::SetTablespace`] moves to.
    pub tablespace: Option<String>,
    /// Reason for the step, for the operator.
    pub reason: String,
}

/// An invalid policy, range or partition.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PartitionError {
    /// The key lies outside the years 1 to 9999, or at the end of the integers.
    #[error("no partition can hold {key}; expected a time of the years 1 to 9999, or a smaller integer")]
    NoCell {
        /// The key as text.
        key: String,
    },
    /// The last cell has no next one.
    #[error("no partition can be created after {name}: the last year is 9999")]
    NoNextCell {
        /// End of the name of the last partition.
        name: String,
    },
    /// The text is not an interval.
    #[error("interval {text:?} of partitions is invalid; expected {expected}")]
    Interval {
        /// The text.
        text: String,
        /// Examples.
        expected: &'static str,
    },
    /// The interval is empty.
    #[error("interval {text:?} of partitions is zero; expected a greater one")]
    IntervalZero {
        /// The text.
        text: String,
    },
    /// The interval has no fixed place in the calendar.
    #[error("interval {text:?} of partitions mixes months with days or hours; expected one of them")]
    IntervalMixed {
        /// The text.
        text: String,
    },
    /// A day is the least for dates.
    #[error("interval {interval} is too short for a column of dates; expected at least 1 day")]
    IntervalTooShort {
        /// The interval.
        interval: Interval,
    },
    /// The time zone does not exist.
    #[error("time zone {zone:?} is unknown; expected a name such as UTC or Europe/Berlin")]
    UnknownZone {
        /// The name.
        zone: String,
    },
    /// The text is not a retention mode.
    #[error("retention mode {text:?} is unknown; expected detach, drop, move or archive")]
    UnknownRetentionMode {
        /// The text.
        text: String,
    },
    /// The policy names no table.
    #[error("partition policy names no table; give the name of a partitioned table")]
    NoRelation,
    /// The policy creates too many partitions ahead.
    #[error("policy of table {relation:?} creates {premake} partitions ahead; expected at most {limit}")]
    PremakeTooLarge {
        /// The table.
        relation: String,
        /// Number of partitions ahead.
        premake: u32,
        /// Maximum.
        limit: u32,
    },
    /// A required cell is partly covered by another partition.
    #[error(
        "{noun} {name} of table {relation:?} is partly covered by partition {partition:?} ({bounds}); \
         detach that partition, or create it again with bounds of a whole {noun}"
    )]
    PartlyCovered {
        /// Noun for a cell: month, range.
        noun: &'static str,
        /// End of the name of the required partition.
        name: String,
        /// The table.
        relation: String,
        /// The partition in the way.
        partition: String,
        /// Its bounds.
        bounds: String,
    },
    /// The range ends before it begins.
    #[error("range to cover begins at {from} and ends earlier, at {to}; exchange the two")]
    RangeReversed {
        /// The beginning.
        from: String,
        /// The end.
        to: String,
    },
    /// The range has more cells than one call creates.
    #[error(
        "range from {from} to {to} needs {cells} partitions; expected at most {limit}, so check the range or split it"
    )]
    RangeTooLong {
        /// The beginning.
        from: String,
        /// The end.
        to: String,
        /// Number of cells in the range.
        cells: u64,
        /// Maximum.
        limit: u64,
    },
}

#[cfg(test)]
mod tests;
