//! Networks: `arx.wallet_profiles` is partitioned by network, and a network's partition by hash of
//! the address.

use std::collections::BTreeSet;

use arx_core::address::Network;
use arx_core::partition::{free_name, network_partition_name, part_name};
use pgrx::prelude::*;

use super::super::for_each_row;
use super::months::{attach_default, created, detach, run_composed};
use super::rows::{OF_NETWORK, any, move_rows};
use super::{Parent, lock_partitions, relation_name, require_create, require_same_owner};
use crate::error::SqlError;
use crate::owner::{as_owner_of, lock_exclusively, with_lock_timeout};
use crate::snapshot;

/// A network whose profiles have been split.
pub(crate) struct Split {
    pub(crate) network: String,
    /// Qualified name of the network's partition.
    pub(crate) partition: String,
    pub(crate) moved_rows: usize,
}

/// A network's present partition.
#[derive(PartialEq, Eq)]
struct Present {
    oid: pg_sys::Oid,
    /// Number of parts by hash; 0 if it is not split.
    parts: i64,
}

/// Splits the profiles of a network, or of every network with profiles, into parts by hash of the
/// address. A network that has this number of parts is left alone.
pub(crate) fn split_by_hash(
    relation: pg_sys::Oid,
    network: Option<&Network>,
    parts: u32,
) -> Result<Vec<Split>, SqlError> {
    if relation != snapshot::relation(c"wallet_profiles") {
        let name = relation_name(relation)?;
        return Err(SqlError::argument(format!("relation \"{name}\" cannot be partitioned by hash"))
            .hint("Only arx.wallet_profiles can be, by wallet_address."));
    }
    lock_partitions()?;
    with_lock_timeout(|| {
        let parent = Parent::of(relation)?;
        let networks = match network {
            Some(network) => vec![network.name().to_owned()],
            None => networks_with_profiles(&parent)?,
        };
        let splits = networks.into_iter().map(|network| split(&parent, network, parts));
        splits.filter_map(Result::transpose).collect()
    })
}

fn networks_with_profiles(parent: &Parent) -> Result<Vec<String>, SqlError> {
    let mut networks = Vec::new();
    as_owner_of(parent.oid, || {
        let table = relation_name(parent.oid)?;
        let query = format!("SELECT DISTINCT network_type::text FROM {table} ORDER BY 1");
        for_each_row(&query, &[], |row| {
            networks.push(row.required(1)?);
            Ok(())
        })
    })?;
    if networks.is_empty() {
        networks.push("ethereum".to_owned());
    }
    Ok(networks)
}

const CREATE: &str = "
SELECT format('CREATE TABLE %I.%I PARTITION OF %s FOR VALUES IN (%L) PARTITION BY HASH (wallet_address)', $1, $2,
              $3::regclass, $4)";
const CREATE_PART: &str = "
SELECT format('CREATE TABLE %I.%I PARTITION OF %s FOR VALUES WITH (MODULUS %s, REMAINDER %s)', $1, $2, $3::regclass, $4,
              $5)";
const RENAME: &str = "SELECT format('ALTER TABLE %s RENAME TO %I', $1::regclass, $2)";
const DROP: &str = "SELECT format('DROP TABLE %s', $1::regclass)";

/// The partition that holds the rows of the network is detached, and its rows move to the new one,
/// all in one transaction. Only that partition is dropped, by its OID.
fn split(parent: &Parent, network: String, parts: u32) -> Result<Option<Split>, SqlError> {
    if present(parent, &network)?.is_some_and(|present| present.parts == i64::from(parts)) {
        return Ok(None);
    }
    lock_exclusively(parent.oid)?;
    let present = present(parent, &network)?;
    let source = present.as_ref().map(|present| present.oid).or(parent.default);
    if let Some(source) = source {
        lock_exclusively(source)?;
    }
    let mut taken = parent.taken_names()?;
    as_owner_of(parent.oid, || {
        require_create(parent)?;
        let wanted = network_partition_name(&parent.name, &network);
        let mut moving = None;
        if let Some(source) = source {
            require_same_owner(parent, source)?;
            if present.is_some() || any(&relation_name(source)?, OF_NETWORK, &[network.as_str().into()])? {
                detach(parent, source)?;
                moving = Some(source);
            }
        }
        if let Some(present) = &present {
            free_names(parent, present.oid, &format!("{wanted}_former"), &mut taken)?;
        }
        let name = free_name(&wanted, &taken);
        let arguments =
            [parent.schema.as_str().into(), name.as_str().into(), parent.oid.into(), network.as_str().into()];
        run_composed(CREATE, &arguments)?;
        taken.insert(name.clone());
        let partition = created(parent, &name)?;
        for remainder in 0..parts {
            let part = free_name(&part_name(&name, remainder), &taken);
            let arguments = [
                parent.schema.as_str().into(),
                part.as_str().into(),
                partition.into(),
                i64::from(parts).into(),
                i64::from(remainder).into(),
            ];
            run_composed(CREATE_PART, &arguments)?;
            taken.insert(part);
        }
        let target = relation_name(partition)?;
        let moved_rows = match moving {
            Some(source) => {
                let name = relation_name(source)?;
                move_rows(parent.oid, (source, &name), (partition, &target), OF_NETWORK, &[network.as_str().into()])?
            }
            None => 0,
        };
        match (&present, moving) {
            (Some(present), _) => run_composed(DROP, &[present.oid.into()])?,
            (None, Some(default)) => attach_default(parent, default)?,
            (None, None) => {}
        }
        Ok(Some(Split { network, partition: target, moved_rows }))
    })
}

const PRESENT: &str = "
SELECT i.inhrelid, (SELECT pg_catalog.count(*) FROM pg_catalog.pg_inherits AS p WHERE p.inhparent = h.partrelid)
  FROM pg_catalog.pg_inherits AS i
  JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid
  LEFT JOIN pg_catalog.pg_partitioned_table AS h ON h.partrelid = c.oid AND h.partstrat = 'h'
 WHERE i.inhparent = $1
   AND pg_catalog.pg_get_expr(c.relpartbound, 0) = pg_catalog.format('FOR VALUES IN (%L)', $2)";

fn present(parent: &Parent, network: &str) -> Result<Option<Present>, SqlError> {
    let mut present = None;
    for_each_row(PRESENT, &[parent.oid.into(), network.into()], |row| {
        present = Some(Present { oid: row.required(1)?, parts: row.required(2)? });
        Ok(())
    })?;
    Ok(present)
}

const TREE: &str = "
SELECT c.oid, c.relname::text
  FROM pg_partition_tree($1::regclass) AS t
  JOIN pg_class AS c ON c.oid = t.relid
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname = $2::name";

/// Renames a partition and its parts, which are to be dropped, so that the new ones can have their
/// names.
fn free_names(
    parent: &Parent,
    partition: pg_sys::Oid,
    former: &str,
    taken: &mut BTreeSet<String>,
) -> Result<(), SqlError> {
    let mut tree: Vec<(pg_sys::Oid, String)> = Vec::new();
    for_each_row(TREE, &[partition.into(), parent.schema.as_str().into()], |row| {
        tree.push((row.required(1)?, row.required(2)?));
        Ok(())
    })?;
    for (relation, before) in tree {
        let name = free_name(former, taken);
        run_composed(RENAME, &[relation.into(), name.as_str().into()])?;
        taken.insert(name);
        taken.remove(&before);
    }
    Ok(())
}
