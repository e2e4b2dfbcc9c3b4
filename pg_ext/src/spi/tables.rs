//! The tables of users: their definitions, and the creation of those that are missing.
//!
//! Each file of `sql/postgres/tables/` is a list of statements. A statement that creates an object
//! is followed by those that belong to it: comments, privileges, rows that ARX ships. All of them
//! run if the object does not exist, none of them otherwise. So a table keeps what its users have
//! made of it.

use pgrx::prelude::*;

use super::{for_each_row, is_true, run};
use crate::error::SqlError;

/// In the order in which the objects depend on each other.
const FILES: [&str; 7] = [
    include_str!("../../../sql/postgres/tables/10_networks.sql"),
    include_str!("../../../sql/postgres/tables/11_labels.sql"),
    include_str!("../../../sql/postgres/tables/20_transactions.sql"),
    include_str!("../../../sql/postgres/tables/30_wallets.sql"),
    include_str!("../../../sql/postgres/tables/40_analysis.sql"),
    include_str!("../../../sql/postgres/tables/50_risk.sql"),
    include_str!("../../../sql/postgres/tables/60_upkeep.sql"),
];

/// An object that a statement creates. Names are qualified, except for parts of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Object {
    Type(&'static str),
    Table(&'static str),
    View(&'static str),
    /// Without its schema.
    Index(&'static str),
    Column(&'static str, &'static str),
    Constraint(&'static str, &'static str),
    Trigger(&'static str, &'static str),
}

impl Object {
    pub(crate) const fn kind(self) -> &'static str {
        match self {
            Self::Type(_) => "type",
            Self::Table(_) => "table",
            Self::View(_) => "view",
            Self::Index(_) => "index",
            Self::Column(..) => "column",
            Self::Constraint(..) => "constraint",
            Self::Trigger(..) => "trigger",
        }
    }

    pub(crate) fn name(self) -> String {
        match self {
            Self::Type(name) | Self::Table(name) | Self::View(name) => name.to_owned(),
            Self::Index(name) => format!("arx.{name}"),
            Self::Column(table, name) => format!("{table}.{name}"),
            Self::Constraint(table, name) | Self::Trigger(table, name) => format!("{name} on {table}"),
        }
    }

    /// Returns the object that a statement creates, or `None` for a statement that belongs to the
    /// object before it.
    fn created_by(statement: &'static str) -> Option<Self> {
        let words: Vec<&str> = statement
            .lines()
            .filter(|line| !line.trim_start().starts_with("--"))
            .flat_map(str::split_whitespace)
            .take(24)
            .collect();
        match *words.as_slice() {
            ["CREATE", "TYPE", name, ..] => Some(Self::Type(name)),
            ["CREATE", "TABLE", name, ..] => Some(Self::Table(name)),
            ["CREATE", "VIEW", name, ..] => Some(Self::View(name)),
            ["CREATE", "INDEX", name, ..] | ["CREATE", "UNIQUE", "INDEX", name, ..] => Some(Self::Index(name)),
            ["ALTER", "TABLE", table, "ADD", "COLUMN", name, ..] => Some(Self::Column(table, name)),
            ["ALTER", "TABLE", table, "ADD", "CONSTRAINT", name, ..] => Some(Self::Constraint(table, name)),
            ["CREATE", "TRIGGER", name, ref rest @ ..] => {
                let on = rest.iter().position(|word| *word == "ON")?;
                Some(Self::Trigger(rest.get(on + 1)?, name))
            }
            _ => None,
        }
    }

    fn exists(self) -> Result<bool, SqlError> {
        match self {
            Self::Type(name) => is_true("SELECT pg_catalog.to_regtype($1) IS NOT NULL", &[name.into()]),
            Self::Table(name) | Self::View(name) => {
                is_true("SELECT pg_catalog.to_regclass($1) IS NOT NULL", &[name.into()])
            }
            Self::Index(_) => is_true("SELECT pg_catalog.to_regclass($1) IS NOT NULL", &[self.name().into()]),
            Self::Column(table, name) => is_true(
                "SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute AS a
                                 WHERE a.attrelid = pg_catalog.to_regclass($1) AND a.attname = $2 AND NOT a.attisdropped)",
                &[table.into(), name.into()],
            ),
            Self::Constraint(table, name) => is_true(
                "SELECT EXISTS (SELECT FROM pg_catalog.pg_constraint AS c
                                 WHERE c.conrelid = pg_catalog.to_regclass($1) AND c.conname = $2)",
                &[table.into(), name.into()],
            ),
            Self::Trigger(table, name) => is_true(
                "SELECT EXISTS (SELECT FROM pg_catalog.pg_trigger AS t
                                 WHERE t.tgrelid = pg_catalog.to_regclass($1) AND t.tgname = $2)",
                &[table.into(), name.into()],
            ),
        }
    }
}

/// Creates the objects that do not exist, as the caller. Returns them in the order of creation.
pub(crate) fn create_tables() -> Result<Vec<Object>, SqlError> {
    let mut created = Vec::new();
    let mut is_missing = false;
    for statement in FILES.iter().flat_map(|file| file.split_inclusive(";\n")) {
        if let Some(object) = Object::created_by(statement) {
            is_missing = !object.exists()?;
            if is_missing {
                created.push(object);
            }
        }
        if is_missing && !statement.trim().is_empty() {
            check_for_interrupts!();
            run(statement, &[])?;
        }
    }
    Ok(created)
}

/// Returns true if a table has a trigger that calls a function.
pub(crate) fn has_trigger(table: pg_sys::Oid, function: pg_sys::Oid) -> Result<bool, SqlError> {
    is_true(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid = $1 AND t.tgfoid = $2)",
        &[table.into(), function.into()],
    )
}

/// Returns the statement that stamps the rows of a table whose stamps lie in the future, or `None`
/// if there are no such rows. An index answers the search.
pub(crate) fn restamping(table: pg_sys::Oid) -> Result<Option<String>, SqlError> {
    let (mut search, mut update) = (None, None);
    for_each_row(RESTAMP, &[table.into()], |row| {
        (search, update) = (row.optional::<String>(1)?, row.optional::<String>(2)?);
        Ok(())
    })?;
    let Some(search) = search else { return Ok(None) };
    Ok(if is_true(&search, &[])? { update } else { None })
}

/// Runs the statement of `restamping`. Returns the number of rows stamped.
pub(crate) fn restamp(statement: &str) -> Result<i64, SqlError> {
    Ok(i64::try_from(run(statement, &[])?).unwrap_or(i64::MAX))
}

/// The search and the update. They name the table, which a parameter cannot do; the server quotes
/// the name.
const RESTAMP: &str = "
SELECT pg_catalog.format('SELECT EXISTS (SELECT FROM ONLY %s AS t WHERE %s)', $1::pg_catalog.regclass, f.condition),
       pg_catalog.format('UPDATE ONLY %s AS t SET ingest_xid = pg_catalog.pg_current_xact_id() WHERE %s',
                         $1::pg_catalog.regclass, f.condition)
  FROM (SELECT pg_catalog.format('t.ingest_xid >= %L::pg_catalog.xid8 AND t.ingest_xid <> %L::pg_catalog.xid8',
                                 pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot()),
                                 coalesce(pg_catalog.pg_current_xact_id_if_assigned(), '0'))) AS f (condition)";
