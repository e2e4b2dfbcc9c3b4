//! The tables of users: their definitions, and the creation of those that are missing.
//!
//! Each file of `sql/postgres/tables/` is a list of statements. A statement that creates an object
//! is followed by those that belong to it: comments, privileges, rows that ARX ships. All of them
//! run if the object does not exist, none of them otherwise. So a table keeps what its users have
//! made of it.

use std::sync::LazyLock;

use pgrx::prelude::*;

use super::{for_each_row, is_true, run, value};
use crate::error::SqlError;
use crate::moving::without_user_triggers;

/// In the order in which the objects depend on each other.
const FILES: [&str; 9] = [
    include_str!("../../../sql/postgres/tables/10_networks.sql"),
    include_str!("../../../sql/postgres/tables/11_labels.sql"),
    include_str!("../../../sql/postgres/tables/12_assets.sql"),
    include_str!("../../../sql/postgres/tables/20_transactions.sql"),
    include_str!("../../../sql/postgres/tables/30_wallets.sql"),
    include_str!("../../../sql/postgres/tables/40_analysis.sql"),
    include_str!("../../../sql/postgres/tables/50_risk.sql"),
    include_str!("../../../sql/postgres/tables/60_upkeep.sql"),
    include_str!("../../../sql/postgres/tables/70_alerts.sql"),
];

/// An object that a statement creates. Names are qualified, except for parts of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Object {
    Type(&'static str),
    Table(&'static str),
    /// The default partition of a table.
    Partition(&'static str, &'static str),
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
            Self::Table(_) | Self::Partition(..) => "table",
            Self::View(_) => "view",
            Self::Index(_) => "index",
            Self::Column(..) => "column",
            Self::Constraint(..) => "constraint",
            Self::Trigger(..) => "trigger",
        }
    }

    pub(crate) fn name(self) -> String {
        match self {
            Self::Type(name) | Self::Table(name) | Self::Partition(name, _) | Self::View(name) => name.to_owned(),
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
            ["CREATE", "TABLE", name, "PARTITION", "OF", parent, ..] => Some(Self::Partition(name, parent)),
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

    /// Returns what has the name of the object, or `None`.
    fn found(self) -> Result<Option<Found>, SqlError> {
        match self {
            Self::Type(name) => Found::by(TYPE, bare(name)),
            Self::Table(name) | Self::View(name) | Self::Index(name) => Found::by(RELATION, bare(name)),
            // Users may have renamed it.
            Self::Partition(name, parent) => match Found::by(DEFAULT_PARTITION, bare(parent))? {
                Some(found) => Ok(Some(found)),
                None => Found::by(RELATION, bare(name)),
            },
            Self::Column(table, name) => self.part(
                "SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute AS a
                                 WHERE a.attrelid = pg_catalog.to_regclass($1) AND a.attname = $2 AND NOT a.attisdropped)",
                table,
                name,
            ),
            Self::Constraint(table, name) => self.part(
                "SELECT EXISTS (SELECT FROM pg_catalog.pg_constraint AS c
                                 WHERE c.conrelid = pg_catalog.to_regclass($1) AND c.conname = $2)",
                table,
                name,
            ),
            Self::Trigger(table, name) => self.part(
                "SELECT EXISTS (SELECT FROM pg_catalog.pg_trigger AS t
                                 WHERE t.tgrelid = pg_catalog.to_regclass($1) AND t.tgname = $2)",
                table,
                name,
            ),
        }
    }

    /// Looks for a part of a table, which belongs to whom the table belongs to.
    fn part(self, query: &str, table: &str, name: &str) -> Result<Option<Found>, SqlError> {
        let exists = is_true(query, &[table.into(), name.into()])?;
        Ok(exists.then(|| Found { kind: self.needed().to_owned(), owner: String::new(), is_foreign: false }))
    }

    /// Returns the kind that an existing object must have, as `RELATION` and `TYPE` name it.
    const fn needed(self) -> &'static str {
        match self {
            Self::Type(_) => "enum type",
            other => other.kind(),
        }
    }
}

/// Returns a name without its schema, which is always `arx`.
fn bare(name: &str) -> &str {
    name.strip_prefix("arx.").unwrap_or(name)
}

/// An existing object.
struct Found {
    kind: String,
    /// Quoted.
    owner: String,
    /// Belongs to a role that is neither the caller nor a superuser: its code is not to be run.
    is_foreign: bool,
}

impl Found {
    fn by(query: &str, name: &str) -> Result<Option<Self>, SqlError> {
        let mut found = None;
        for_each_row(query, &[name.into()], |row| {
            found = Some(Self { kind: row.required(1)?, owner: row.required(2)?, is_foreign: row.required(3)? });
            Ok(())
        })?;
        Ok(found)
    }
}

/// Selects kind, owner, and whether the owner is neither the caller nor a superuser.
macro_rules! relation_query {
    ($condition:literal) => {
        concat!(
            "
SELECT CASE WHEN c.relkind IN ('r', 'p') THEN 'table' WHEN c.relkind = 'v' THEN 'view'
            WHEN c.relkind IN ('i', 'I') THEN 'index' WHEN c.relkind = 'm' THEN 'materialized view'
            WHEN c.relkind = 'f' THEN 'foreign table' WHEN c.relkind = 'S' THEN 'sequence'
            ELSE 'composite type' END,
       pg_catalog.quote_ident(r.rolname), NOT r.rolsuper AND r.rolname <> current_user
  FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_roles AS r ON r.oid = c.relowner
 WHERE ",
            $condition
        )
    };
}

const RELATION: &str =
    relation_query!("c.relname = $1::pg_catalog.name AND c.relnamespace = 'arx'::pg_catalog.regnamespace");

const DEFAULT_PARTITION: &str = relation_query!(
    "c.oid = (SELECT p.partdefid
             FROM pg_catalog.pg_partitioned_table AS p JOIN pg_catalog.pg_class AS t ON t.oid = p.partrelid
            WHERE t.relname = $1::pg_catalog.name AND t.relnamespace = 'arx'::pg_catalog.regnamespace)"
);

const TYPE: &str = "
SELECT CASE t.typtype WHEN 'e' THEN 'enum type' WHEN 'd' THEN 'domain' WHEN 'c' THEN 'composite type'
                      WHEN 'r' THEN 'range type' WHEN 'm' THEN 'multirange type' ELSE 'base type' END,
       pg_catalog.quote_ident(r.rolname), NOT r.rolsuper AND r.rolname <> current_user
  FROM pg_catalog.pg_type AS t JOIN pg_catalog.pg_roles AS r ON r.oid = t.typowner
 WHERE t.typname = $1::pg_catalog.name AND t.typnamespace = 'arx'::pg_catalog.regnamespace";

const PARENT: &str = "
SELECT i.inhparent::pg_catalog.regclass::pg_catalog.text
  FROM pg_catalog.pg_inherits AS i WHERE i.inhrelid = pg_catalog.to_regclass($1)";

/// State of all objects before anything is created.
struct Survey {
    missing: Vec<Object>,
    /// An object of another role, and the role.
    foreign: Option<(Object, String)>,
}

impl Survey {
    /// Looks for all objects, and rejects those that are not what ARX needs.
    fn take() -> Result<Self, SqlError> {
        let mut survey = Self { missing: Vec::new(), foreign: None };
        for object in statements().filter_map(Object::created_by) {
            let Some(found) = object.found()? else {
                survey.missing.push(object);
                continue;
            };
            if found.kind != object.needed() {
                return Err(SqlError::object_kind(&object.name(), &found.kind, object.needed(), &found.owner));
            }
            if let Object::Partition(name, parent) = object
                && survey.missing.contains(&Object::Table(parent))
            {
                return Err(SqlError::partition_of_another(
                    name,
                    parent,
                    value::<String>(PARENT, &[name.into()])?.as_deref(),
                ));
            }
            if found.is_foreign && survey.foreign.is_none() {
                survey.foreign = Some((object, found.owner));
            }
        }
        Ok(survey)
    }

    /// Rejects objects of several owners, and a caller who may create none.
    fn require_rights(&self) -> Result<(), SqlError> {
        if let Some((object, owner)) = &self.foreign {
            return Err(SqlError::foreign_object(object.kind(), &object.name(), owner));
        }
        if is_true("SELECT pg_catalog.has_schema_privilege('arx', 'CREATE')", &[])? {
            return Ok(());
        }
        let role = value::<String>("SELECT pg_catalog.quote_ident(current_user)", &[])?.unwrap_or_default();
        Err(SqlError::privilege("permission denied to create tables in schema arx")
            .hint(format!("Run GRANT CREATE ON SCHEMA arx TO {role}.")))
    }
}

fn statements() -> impl Iterator<Item = &'static str> {
    FILES.iter().flat_map(|file| file.split_inclusive(";\n"))
}

/// Returns the names of the tables that `create_tables` creates, without their schema.
pub(crate) fn table_names() -> impl Iterator<Item = &'static str> {
    static NAMES: LazyLock<Vec<&str>> = LazyLock::new(|| {
        let table = |statement| match Object::created_by(statement)? {
            Object::Table(name) => Some(bare(name)),
            _ => None,
        };
        statements().filter_map(table).collect()
    });
    NAMES.iter().copied()
}

/// Returns true if `create_tables` creates a table or view of this name.
pub(super) fn is_table_of_users(name: &str) -> bool {
    statements().filter_map(Object::created_by).any(|object| match object {
        Object::Table(table) | Object::View(table) | Object::Partition(table, _) => table == name,
        _ => false,
    })
}

/// Creates the objects that do not exist, as the caller. Returns them in the order of creation.
///
/// Statements name objects that exist already, such as the type of a column, and so may run the
/// code of their owners. So nothing is created while objects of others exist.
pub(crate) fn create_tables() -> Result<Vec<Object>, SqlError> {
    if Survey::take()?.missing.is_empty() {
        return Ok(Vec::new());
    }
    // A concurrent call waits, and then has nothing left to do.
    run("SELECT arx.lock_job('tables')", &[])?;
    let survey = Survey::take()?;
    if survey.missing.is_empty() {
        return Ok(Vec::new());
    }
    survey.require_rights()?;
    let mut is_missing = false;
    for statement in statements() {
        if let Some(object) = Object::created_by(statement) {
            is_missing = survey.missing.contains(&object);
        }
        if is_missing && !statement.trim().is_empty() {
            check_for_interrupts!();
            run(statement, &[])?;
        }
    }
    Ok(survey.missing)
}

/// Returns true if a table has an internal trigger of a function for some events of statements. An
/// error unless the table exists and the function is the expected one: the server does not check
/// what makes an internal trigger.
pub(crate) fn has_statement_trigger(
    table: pg_sys::Oid,
    function: pg_sys::Oid,
    expected: &str,
    events: u32,
) -> Result<bool, SqlError> {
    if !is_true("SELECT $1 = pg_catalog.to_regprocedure($2)", &[function.into(), expected.into()])? {
        return Err(SqlError::argument(format!(
            "function must be {expected}, and not the one with oid {}",
            function.to_u32()
        )));
    }
    let mut kind = None;
    for_each_row("SELECT c.relkind::text FROM pg_catalog.pg_class AS c WHERE c.oid = $1", &[table.into()], |row| {
        kind = row.optional::<String>(1)?;
        Ok(())
    })?;
    match kind.as_deref() {
        Some("r" | "p") => is_true(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_trigger AS t
                             WHERE t.tgrelid = $1 AND t.tgfoid = $2 AND t.tgisinternal AND t.tgtype & $3 = $3)",
            &[table.into(), function.into(), events.cast_signed().into()],
        ),
        Some(_) => Err(SqlError::argument(format!("relation with oid {} is not a table", table.to_u32()))),
        None => Err(SqlError::undefined_object(format!("table with oid {} does not exist", table.to_u32()))),
    }
}

/// Returns the statement that stamps the rows of a table whose stamps lie in the future, or `None`
/// if there are no such rows, or the table has no stamps. An index answers the search.
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
    Ok(i64::try_from(without_user_triggers(|| run(statement, &[]))?).unwrap_or(i64::MAX))
}

/// The search and the update. They name the table, which a parameter cannot do; the server quotes
/// the name.
const RESTAMP: &str = "
SELECT pg_catalog.format('SELECT EXISTS (SELECT FROM ONLY %s AS t WHERE %s)', $1::pg_catalog.regclass, f.condition),
       pg_catalog.format('UPDATE ONLY %s AS t SET ingest_xid = pg_catalog.pg_current_xact_id() WHERE %s',
                         $1::pg_catalog.regclass, f.condition)
  FROM (SELECT pg_catalog.format('t.ingest_xid >= %L::pg_catalog.xid8 AND t.ingest_xid <> %L::pg_catalog.xid8',
                                 pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot()),
                                 coalesce(pg_catalog.pg_current_xact_id_if_assigned(), '0'))) AS f (condition)
 WHERE EXISTS (SELECT FROM pg_catalog.pg_attribute AS a
                WHERE a.attrelid = $1 AND a.attname = 'ingest_xid' AND NOT a.attisdropped)";
