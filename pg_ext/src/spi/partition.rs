//! Policies, partitions, and months that wait in default partitions.

use arx_core::partition::{Bounds, Existing, Month, Policy};
use chrono::{DateTime, Utc};

use super::for_each_row;
use crate::error::SqlError;
use crate::time::{finite_instant, instant};

const POLICY: &str = "
SELECT p.premake, p.retention_months, p.retention_mode, pg_catalog.now()
  FROM arx.partition_policies AS p
 WHERE p.relation = $1
 ORDER BY p.builtin
 LIMIT 1";

const PARTITIONS: &str = "
SELECT pg_catalog.split_part(s.partition, '.', 2), s.is_default, s.range_from, s.range_to
  FROM arx.partition_status AS s
 WHERE s.relation = $1";

const WAITING_TRANSACTIONS: &str = "
SELECT DISTINCT pg_catalog.date_trunc('month', t.\"timestamp\", 'UTC') FROM ONLY arx.transactions_default AS t";

const WAITING_TOKEN_TRANSFERS: &str = "
SELECT DISTINCT pg_catalog.date_trunc('month', t.\"timestamp\", 'UTC') FROM ONLY arx.token_transfers_default AS t";

/// Input of a plan.
pub(crate) struct PartitionState {
    pub(crate) policy: Policy,
    pub(crate) existing: Vec<Existing>,
    pub(crate) now: DateTime<Utc>,
    pub(crate) waiting: Vec<Month>,
}

/// Reads the policy and the partitions of a relation. One without a row in `arx.partition_policies`
/// is an error.
pub(crate) fn partition_state(relation: &str) -> Result<PartitionState, SqlError> {
    let waiting_query = match relation {
        "arx.transactions" => WAITING_TRANSACTIONS,
        "arx.token_transfers" => WAITING_TOKEN_TRANSFERS,
        _ => return Err(SqlError::no_policy(relation)),
    };
    let name = relation.strip_prefix("arx.").unwrap_or(relation);
    let mut policy = None;
    for_each_row(POLICY, &[relation.into()], |row| {
        let read = Policy {
            relation: name.to_owned(),
            premake: row.required::<i32>(1)?.unsigned_abs(),
            retention: row.optional::<i32>(2)?.map(i32::unsigned_abs),
            retention_mode: row.required::<String>(3)?.parse()?,
        };
        policy = Some((read, instant(row.required(4)?)?));
        Ok(())
    })?;
    let (policy, now) = policy.ok_or_else(|| SqlError::no_policy(relation))?;
    let mut existing = Vec::new();
    for_each_row(PARTITIONS, &[relation.into()], |row| {
        let bounds = if row.required::<bool>(2)? {
            Bounds::Default
        } else {
            let from = finite_instant(row.required(3)?)?;
            Bounds::Range { from, to: finite_instant(row.required(4)?)? }
        };
        existing.push(Existing { name: row.required(1)?, bounds });
        Ok(())
    })?;
    let mut waiting = Vec::new();
    for_each_row(waiting_query, &[], |row| {
        waiting.push(Month::of(instant(row.required(1)?)?)?);
        Ok(())
    })?;
    Ok(PartitionState { policy, existing, now, waiting })
}
