//! Networks: `arx.wallet_profiles` is partitioned by network, and a network's partition by hash of
//! the address.

use std::collections::BTreeSet;

use arx_core::address::Network;
use arx_core::partition::{free_name, network_partition_name};
use pgrx::prelude::*;

use super::super::for_each_row;
use super::rows::{OF_NETWORK, any, move_rows, require_moved};
use super::steps::{attach_default, create_parts, created, detach, run_composed};
use super::{Parent, lock_partitions, relation_name, require_create, require_same_owner};
use crate::error::SqlError;
use crate::owner::{as_owner_of, lock_exclusively, with_lock_timeout};
use crate::snapshot;

/// A network whose profiles have been split.
pub(crate) struct Split {
    pub(crate) network: Option<String>,
    /// Qualified name of the network's partition.
    pub(crate) partition: String,
    pub(crate) moved_rows: i64,
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
        if network.is_some() {
            return Err(SqlError::argument("only arx.wallet_profiles has networks"));
        }
        return split_table(relation, parts);
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
const RENAME: &str = "SELECT format('ALTER TABLE %s RENAME TO %I', $1::regclass, $2)";
const DROP: &str = "SELECT format('DROP TABLE %s', $1::regclass)";

/// The partition that holds the rows of the network is detached, and its rows move to the new one,
/// all in one transaction. Only that partition is dropped, by its OID.
fn split(parent: &Parent, network: String, parts: u32) -> Result<Option<Split>, SqlError> {
    if present(parent, &network)?.is_some_and(|present| present.parts == i64::from(parts)) {
        return Ok(None);
    }
    lock_exclusively(&[parent.oid])?;
    let present = present(parent, &network)?;
    let source = present.as_ref().map(|present| present.oid).or(parent.default);
    if let Some(source) = source {
        lock_exclusively(&[source])?;
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
        create_parts(parent, partition, &name, parts)?;
        let target = relation_name(partition)?;
        let moved_rows = match moving {
            Some(source) => {
                let name = relation_name(source)?;
                let network = [network.as_str().into()];
                let moved = move_rows(parent.oid, (source, &name), (partition, &target), OF_NETWORK, &network)?;
                require_moved(&name, OF_NETWORK, &network)?;
                moved
            }
            None => 0,
        };
        match (&present, moving) {
            (Some(present), _) => run_composed(DROP, &[present.oid.into()])?,
            (None, Some(default)) => attach_default(parent, default)?,
            (None, None) => {}
        }
        Ok(Some(Split { network: Some(network), partition: target, moved_rows }))
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

const STRATEGY: &str = "
SELECT pg_has_role(c.relowner, 'USAGE'), p.partstrat::text
  FROM pg_class AS c LEFT JOIN pg_partitioned_table AS p ON p.partrelid = c.oid
 WHERE c.oid = $1";
const PARTS: &str = "
SELECT i.inhrelid, (regexp_match(pg_get_expr(c.relpartbound, 0), 'modulus (\\d+)'))[1]::bigint
  FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
 WHERE i.inhparent = $1
 ORDER BY 1";

/// Creates the partitions of a table that is partitioned by hash. One that has another number of
/// partitions gets this number, and its rows move.
fn split_table(relation: pg_sys::Oid, parts: u32) -> Result<Vec<Split>, SqlError> {
    let name = relation_name(relation)?;
    let (mut may_change, mut strategy) = (false, None);
    for_each_row(STRATEGY, &[relation.into()], |row| {
        (may_change, strategy) = (row.required(1)?, row.optional::<String>(2)?);
        Ok(())
    })?;
    if strategy.as_deref() != Some("h") {
        return Err(SqlError::argument(format!("table {name} is not partitioned by hash")).hint(
            "Create it with PARTITION BY HASH. arx.wallet_profiles is split by network, then by wallet_address.",
        ));
    }
    if !may_change {
        return Err(SqlError::privilege(format!("must be a member of the role that owns {name}")));
    }
    lock_partitions()?;
    with_lock_timeout(|| {
        let parent = Parent::of(relation)?;
        let mut present: Vec<(pg_sys::Oid, i64)> = Vec::new();
        for_each_row(PARTS, &[relation.into()], |row| {
            present.push((row.required(1)?, row.required(2)?));
            Ok(())
        })?;
        let is_complete = present.len() == parts as usize;
        if is_complete && present.iter().all(|(_, modulus)| *modulus == i64::from(parts)) {
            return Ok(Vec::new());
        }
        let locked: Vec<_> = std::iter::once(relation).chain(present.iter().map(|(oid, _)| *oid)).collect();
        lock_exclusively(&locked)?;
        as_owner_of(relation, || {
            require_create(&parent)?;
            let mut taken = parent.taken_names()?;
            for &(former, _) in &present {
                require_same_owner(&parent, former)?;
                detach(&parent, former)?;
                free_names(&parent, former, &format!("{}_former", parent.name), &mut taken)?;
            }
            create_parts(&parent, relation, &parent.name, parts)?;
            let mut moved_rows = 0;
            for (former, _) in present {
                let source = relation_name(former)?;
                moved_rows += move_rows(relation, (former, &source), (relation, &name), "true", &[])?;
                require_moved(&source, "true", &[])?;
                run_composed(DROP, &[former.into()])?;
            }
            Ok(vec![Split { network: None, partition: name.clone(), moved_rows }])
        })
    })
}
