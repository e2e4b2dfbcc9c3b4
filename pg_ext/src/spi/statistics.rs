//! Tables with stale statistics, and analyzing them as their owner: ANALYZE evaluates expressions
//! of indexes and of extended statistics, which are the owner's code.

use pgrx::prelude::*;

use super::{for_each_row, relation_name, run};
use crate::error::SqlError;
use crate::owner::as_owner_of;

/// Tables of schema `arx`, partitioned ones first. Autovacuum never analyzes those: the last column
/// says whether a partition has changed.
const TABLES: &str = "
SELECT c.oid, c.relkind = 'p', coalesce(s.n_mod_since_analyze, 0), c.reltuples,
       s.last_analyze IS NULL AND s.last_autoanalyze IS NULL,
       c.relkind = 'p' AND EXISTS (
           SELECT FROM pg_catalog.pg_partition_tree(c.oid) AS t
             JOIN pg_catalog.pg_stat_all_tables AS l ON l.relid = t.relid
            WHERE t.isleaf AND l.n_mod_since_analyze > 0)
  FROM pg_catalog.pg_class AS c
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_stat_all_tables AS s ON s.relid = c.oid
 WHERE n.nspname = 'arx' AND c.relkind IN ('r', 'p')
 ORDER BY c.relkind = 'r', c.relname";

/// Analyzes the tables whose statistics are stale. Returns their qualified names, each with the
/// reason.
pub(crate) fn analyze_stale_tables() -> Result<Vec<(String, String)>, SqlError> {
    let mut stale = Vec::new();
    for_each_row(TABLES, &[], |row| {
        let (table, is_partitioned) = (row.required::<pg_sys::Oid>(1)?, row.required(2)?);
        let (changed, rows) = (row.required::<i64>(3)?, f64::from(row.required::<f32>(4)?.max(0.0)));
        let reason = if is_partitioned {
            row.required::<bool>(6)?.then(|| "partitions changed".to_owned())
        } else if changed as f64 > 50.0 + 0.1 * rows {
            // A table is stale after changes to 50 rows plus a tenth of its rows.
            Some(format!("{changed} rows changed since the last analyze"))
        } else {
            (row.required(5)? && changed > 0).then(|| "never analyzed".to_owned())
        };
        stale.extend(reason.map(|reason| (table, reason)));
        Ok(())
    })?;
    let mut analyzed = Vec::with_capacity(stale.len());
    for (table, reason) in stale {
        let name = relation_name(table)?;
        as_owner_of(table, || run(&format!("ANALYZE {name}"), &[]))?;
        analyzed.push((name, reason));
    }
    Ok(analyzed)
}
