//! Rows in default partitions, and moving them. Everything here runs as the owner of the tables.
//!
//! Names of relations are quoted.

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;

use super::super::{is_true, run, value};
use crate::error::SqlError;
use crate::moving::without_user_triggers;

/// Rows of a month or of any range of time.
pub(super) const IN_RANGE: &str = "\"timestamp\" >= $1 AND \"timestamp\" < $2";
/// Rows of a network.
pub(super) const OF_NETWORK: &str = "network_type = $1";

/// Returns the query for the months of the rows within a range of time.
pub(super) fn months(table: &str) -> String {
    format!("SELECT DISTINCT date_trunc('month', \"timestamp\", 'UTC') FROM {table} WHERE {IN_RANGE}")
}

/// Returns the query for the number of rows outside a range of time, and the first of them. It
/// gives no row if all rows are inside.
pub(super) fn misfits(table: &str) -> String {
    format!(
        "SELECT count(*) OVER (), network::text, tx_hash::text FROM {table} WHERE NOT ({IN_RANGE}) \
         ORDER BY \"timestamp\", network, tx_hash LIMIT 1"
    )
}

/// Returns true if a table has rows that meet a condition.
pub(super) fn any(table: &str, condition: &str, arguments: &[DatumWithOid<'_>]) -> Result<bool, SqlError> {
    is_true(&format!("SELECT EXISTS (SELECT FROM {table} WHERE {condition})"), arguments)
}

const COLUMNS: &str = "
SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum)
  FROM pg_attribute AS a
 WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''";

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
/// number. They keep their stamps and identities; generated columns are computed again. It is an
/// error if a trigger that is always enabled changes a row, or keeps it from being moved.
pub(super) fn move_rows(
    parent: pg_sys::Oid,
    (source_oid, source): (pg_sys::Oid, &str),
    (target_oid, target): (pg_sys::Oid, &str),
    condition: &str,
    arguments: &[DatumWithOid<'_>],
) -> Result<usize, SqlError> {
    let columns: Option<String> = value(COLUMNS, &[parent.into()])?;
    let columns = columns.ok_or_else(|| SqlError::state(format!("table {source} has no columns")))?;
    let inserted = without_user_triggers(|| {
        run(
            &format!(
                "INSERT INTO {target} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {source} WHERE {condition}"
            ),
            arguments,
        )
    })?;
    if let Some(trigger) = value::<String>(ALWAYS, &[source_oid.into(), target_oid.into()])?
        && is_true(
            &format!(
                "SELECT EXISTS (SELECT ROW({columns})::text FROM {source} WHERE {condition} \
                                EXCEPT ALL SELECT ROW({columns})::text FROM {target})"
            ),
            arguments,
        )?
    {
        let message = format!("rows that were moved from {source} to {target} have other values there");
        return Err(SqlError::state(message).hint(format!(
            "Trigger {trigger} fires always. ALTER TABLE … ENABLE TRIGGER lets rows be moved without it."
        )));
    }
    let deleted = without_user_triggers(|| run(&format!("DELETE FROM {source} WHERE {condition}"), arguments))?;
    if inserted != deleted {
        let message = format!("{inserted} of {deleted} rows could be moved from {source} to {target}");
        return Err(SqlError::state(message)
            .hint("A trigger of the table or of a partition that is always enabled prevents moving rows."));
    }
    Ok(inserted)
}
