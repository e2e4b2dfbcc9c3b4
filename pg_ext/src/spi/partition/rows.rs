//! Rows in default partitions, and moving them. Everything here runs as the owner of the tables.
//!
//! Names of relations are quoted.

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;

use super::super::{is_true, read_changed, run, value};
use crate::error::SqlError;
use crate::moving::without_user_triggers;

/// Rows of a network.
pub(super) const OF_NETWORK: &str = "network_type = $1";

/// Returns true if a table has rows that meet a condition.
pub(super) fn any(table: &str, condition: &str, arguments: &[DatumWithOid<'_>]) -> Result<bool, SqlError> {
    is_true(&format!("SELECT EXISTS (SELECT FROM {table} WHERE {condition})"), arguments)
}

const COLUMNS: &str = "
SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum)
  FROM pg_attribute AS a
 WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND (a.attgenerated = '' OR $2)";

/// Returns the list of all columns of a table.
pub(super) fn every_column(table: pg_sys::Oid) -> Result<String, SqlError> {
    columns(table, true)
}

/// Returns the list of the columns of a table that are not generated.
pub(super) fn stored_columns(table: pg_sys::Oid) -> Result<String, SqlError> {
    columns(table, false)
}

fn columns(table: pg_sys::Oid, with_generated: bool) -> Result<String, SqlError> {
    let columns: Option<String> = value(COLUMNS, &[table.into(), with_generated.into()])?;
    columns.ok_or_else(|| SqlError::state("the table has no columns"))
}

/// A trigger of a user that fires although triggers of users are off, on one of two tables.
const ALWAYS: &str = "
SELECT quote_ident(t.tgname) || ' of ' || t.tgrelid::regclass::text
  FROM pg_trigger AS t
 WHERE t.tgrelid IN ($1, $2) AND NOT t.tgisinternal AND t.tgenabled IN ('A', 'R')
   AND NOT EXISTS (SELECT FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
                    WHERE d.classid = 'pg_proc'::regclass AND d.objid = t.tgfoid AND d.deptype = 'e'
                      AND d.refclassid = 'pg_extension'::regclass AND e.extname = 'arx')
 ORDER BY 1 LIMIT 1";

/// Moves the rows that meet a condition into another table with the same columns, and returns their
/// number. They keep their stamps and identities; generated columns are computed again. Whatever
/// others do to a row meanwhile, it is moved as it is then. It is an error if a trigger that is
/// always enabled changes a row, or keeps it from being inserted.
pub(super) fn move_rows(
    parent: pg_sys::Oid,
    (source_oid, source): (pg_sys::Oid, &str),
    (target_oid, target): (pg_sys::Oid, &str),
    condition: &str,
    arguments: &[DatumWithOid<'_>],
) -> Result<i64, SqlError> {
    let columns = columns(parent, false)?;
    let trigger: Option<String> = value(ALWAYS, &[source_oid.into(), target_oid.into()])?;
    let changed = if trigger.is_some() {
        format!("EXISTS (SELECT ROW({columns})::text FROM moved EXCEPT ALL SELECT ROW({columns})::text FROM arrived)")
    } else {
        "false".to_owned()
    };
    let statement = format!(
        "WITH moved AS (DELETE FROM {source} WHERE {condition} RETURNING {columns}), \
              arrived AS (INSERT INTO {target} ({columns}) OVERRIDING SYSTEM VALUE \
                          SELECT {columns} FROM moved RETURNING {columns}) \
         SELECT (SELECT count(*) FROM moved), (SELECT count(*) FROM arrived), {changed}"
    );
    let (mut moved, mut arrived, mut is_changed) = (0, 0, false);
    without_user_triggers(|| {
        read_changed(&statement, arguments, |row| {
            (moved, arrived, is_changed) = (row.required(1)?, row.required(2)?, row.required(3)?);
            Ok(())
        })
    })?;
    let hint = trigger.map_or_else(String::new, |trigger| {
        format!("Trigger {trigger} fires always. ALTER TABLE … ENABLE TRIGGER lets rows be moved without it.")
    });
    if moved != arrived {
        let message = format!("{arrived} of {moved} rows could be moved from {source} to {target}");
        return Err(SqlError::state(message).hint(hint));
    }
    if is_changed {
        let message = format!("rows that were moved from {source} to {target} have other values there");
        return Err(SqlError::state(message).hint(hint));
    }
    Ok(moved)
}

/// Rows that were copied: those of transactions before `horizon`, which had ended then.
pub(super) struct Copied {
    rows: i64,
    horizon: i64,
}

impl Copied {
    /// Returns the condition for such a row. The transaction id of a row has 32 bits: one that lies
    /// more than half of their range before the horizon counts as later, and is moved later.
    fn condition(horizon: i64, xid: &str) -> String {
        format!("(({horizon} - {xid}) & 4294967295) BETWEEN 1 AND 2147483647")
    }
}

const HORIZON: &str = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint";

/// Copies the rows that meet a condition into another table with the same columns, without locking
/// them. Rows of transactions that are running or have just ended are left out.
pub(super) fn copy_rows(parent: pg_sys::Oid, source: &str, target: &str, condition: &str) -> Result<Copied, SqlError> {
    let columns = columns(parent, false)?;
    let horizon: Option<i64> = value(HORIZON, &[])?;
    let horizon = horizon.ok_or_else(|| SqlError::corrupt("a snapshot has no beginning"))?;
    let is_old = Copied::condition(horizon, "xmin::text::bigint");
    let copy = format!(
        "INSERT INTO {target} ({columns}) OVERRIDING SYSTEM VALUE \
         SELECT {columns} FROM {source} WHERE {condition} AND {is_old}"
    );
    let rows = without_user_triggers(|| run(&copy, &[]))?;
    Ok(Copied { rows: i64::try_from(rows).unwrap_or(i64::MAX), horizon })
}

/// Deletes the rows that were copied. `None` if one of them has been changed or deleted since; the
/// caller undoes it then. No one else can change rows meanwhile.
///
/// Rows of transactions before the horizon that exist now existed when they were copied, so they
/// are the same rows if their number is the same. Writers wait, so nothing is returned or sorted.
pub(super) fn replace_copied(source: &str, condition: &str, copied: &Copied) -> Result<Option<()>, SqlError> {
    let is_old = Copied::condition(copied.horizon, "xmin::text::bigint");
    let deleted = without_user_triggers(|| run(&format!("DELETE FROM {source} WHERE {condition} AND {is_old}"), &[]))?;
    Ok((i64::try_from(deleted) == Ok(copied.rows)).then_some(()))
}

/// Rejects rows that are left, after others cannot add any more.
pub(super) fn require_moved(source: &str, condition: &str, arguments: &[DatumWithOid<'_>]) -> Result<(), SqlError> {
    if !any(source, condition, arguments)? {
        return Ok(());
    }
    Err(SqlError::state(format!("not every row could be moved out of {source}")).hint(
        "A trigger that is always enabled prevents moving rows. ALTER TABLE … ENABLE TRIGGER lets them be moved.",
    ))
}
