//! The database of an export: one snapshot in several sessions, what has changed since an earlier
//! one, and the wallets of a neighbourhood.

use tokio_postgres::Client;

use super::manifest::Part;
use super::request::Filter;
use super::tables::{FACTS, NETWORKS_SETTING, Table, WALLETS_SETTING, snapshot_literal};
use crate::error::{Doing, SidecarError};
use crate::feed::{identify, new_since};
use crate::servers::postgres::{self, Server, Source};
use crate::settings::Settings;

/// Wallets of one step of a neighbourhood.
const STEP_WALLETS: usize = 10_000;

/// Wallets of a neighbourhood.
const MAX_WALLETS: usize = 1_000_000;

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// One reader a session, which begins with the first block of a table: rows are in the same order
/// each time. A plan is used once, so compiling it does not pay.
const PLANS: &str =
    "SET LOCAL jit = off; SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL synchronize_seqscans = off";

/// A session whose transaction holds the snapshot of an export.
pub(super) struct Database {
    client: Client,
    server: Server,
    /// System identifier and OID.
    pub(super) source: String,
    /// Text of the snapshot; `None` on a standby, which does not know the running transactions.
    pub(super) snapshot: Option<String>,
    /// Name by which other sessions take it.
    exported: String,
}

impl Database {
    /// Connects and takes a snapshot.
    pub(super) async fn open(settings: &Settings) -> Result<Self, SidecarError> {
        let connection = postgres::connect_to(&Source::read(settings)).await?;
        let (client, server) = (connection.client, connection.server);
        let source = identify(&client).await?.0.source_id();
        let doing = "take a snapshot";
        client.batch_execute(BEGIN).await.doing(doing)?;
        let query =
            "SELECT CASE WHEN NOT pg_is_in_recovery() THEN pg_current_snapshot()::text END, pg_export_snapshot()";
        let row = client.query_one(query, &[]).await.doing(doing)?;
        Ok(Self { client, server, source, snapshot: row.get(0), exported: row.get(1) })
    }

    /// Opens another session with the same snapshot, in which the filter is set.
    pub(super) async fn session(&self, filter: &Filter, wallets: &[String]) -> Result<Client, SidecarError> {
        let client = self.server.connect().await?;
        let doing = "share the snapshot";
        // The server chose the name: hexadecimal digits and dashes.
        let begin = format!("{BEGIN}; SET TRANSACTION SNAPSHOT '{}'; {PLANS}", self.exported);
        client.batch_execute(&begin).await.doing(doing)?;
        for (name, values) in [(NETWORKS_SETTING, filter.networks.as_slice()), (WALLETS_SETTING, wallets)] {
            let set = "SELECT set_config($1, ($2::text[])::text, false) IS NULL";
            client.query_one(set, &[&name, &values]).await.doing(doing)?;
        }
        Ok(client)
    }

    /// Normalises the filter.
    ///
    /// # Errors
    /// [`SidecarError::Input`] for an unknown network or an address that is not one.
    pub(super) async fn check(&self, filter: &mut Filter) -> Result<(), SidecarError> {
        let doing = "check the filter";
        for network in &mut filter.networks {
            let known = "SELECT n.network FROM arx.networks AS n WHERE n.network = arx.normalize_network($1)";
            let row = self.client.query_opt(known, &[network]).await.doing(doing)?;
            let Some(row) = row else {
                let detail =
                    format!("network \"{network}\" does not exist in arx.networks; arx.add_network() adds one");
                return Err(SidecarError::Input { detail });
            };
            *network = row.get(0);
        }
        filter.networks.sort();
        filter.networks.dedup();
        if let (Some(wallet), Some(network)) = (&mut filter.wallet, filter.networks.first()) {
            let row = self.client.query_one("SELECT arx.require_address($1, $2)", &[wallet, network]).await;
            *wallet = row.doing("check the wallet")?.get(0);
        }
        Ok(())
    }

    /// Returns the bounds of the partitions, in microseconds since 1970.
    pub(super) async fn bounds(&self) -> Result<Vec<i64>, SidecarError> {
        let query = "
            SELECT DISTINCT (extract(epoch FROM b.bound) * 1000000)::bigint
              FROM arx.tracked_partitions AS t, unnest(ARRAY[t.range_from, t.range_to]) AS b (bound)
             WHERE t.root = ANY ($1) AND b.bound BETWEEN '1970-01-01 00:00+00' AND '10000-01-01 00:00+00'
             ORDER BY 1";
        let tables: Vec<&str> = FACTS.iter().map(|table| table.name()).collect();
        let rows = self.client.query(query, &[&tables]).await.doing("read the bounds of partitions")?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Returns the wallets up to `filter.depth` transfers away from a wallet, by any table.
    ///
    /// # Errors
    /// [`SidecarError::Input`] for more than a million.
    pub(super) async fn neighbourhood(&self, filter: &Filter) -> Result<Vec<String>, SidecarError> {
        let (Some(wallet), Some(network)) = (&filter.wallet, filter.networks.first()) else { return Ok(Vec::new()) };
        let sides = FACTS.iter().flat_map(|table| {
            [("from_address", "to_address"), ("to_address", "from_address")].map(|(near, far)| {
                format!(
                    "SELECT t.{far} AS address FROM unnest($2::text[]) AS f (address) \
                       JOIN arx.{} AS t ON t.{near} = f.address AND t.network = $1 \
                      WHERE t.\"timestamp\" >= coalesce(to_timestamp($3::bigint / 1000000.0), '-infinity') \
                        AND t.\"timestamp\" < coalesce(to_timestamp($4::bigint / 1000000.0), 'infinity')",
                    table.name()
                )
            })
        });
        let query = format!(
            "SELECT x.address FROM ({}) AS x WHERE x.address IS NOT NULL",
            sides.collect::<Vec<_>>().join(" UNION ")
        );
        let statement = self.client.prepare(&query).await.doing("read a neighbourhood")?;
        let mut wallets = std::collections::BTreeSet::from([wallet.clone()]);
        let mut step = vec![wallet.clone()];
        for _ in 0..filter.depth {
            let mut next = Vec::new();
            for near in step.chunks(STEP_WALLETS) {
                let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
                    [network, &near, &filter.from, &filter.until];
                for row in self.client.query(&statement, &parameters).await.doing("read a neighbourhood")? {
                    let address: String = row.get(0);
                    if wallets.insert(address.clone()) {
                        next.push(address);
                    }
                }
                if wallets.len() > MAX_WALLETS {
                    let (depth, detail) = (filter.depth, "choose a smaller depth or a shorter time");
                    let detail = format!("more than {MAX_WALLETS} wallets are within {depth} transfers; {detail}");
                    return Err(SidecarError::Input { detail });
                }
            }
            step = next;
        }
        Ok(wallets.into_iter().collect())
    }

    /// Returns the first of some parts whose rows this session cannot reduce to an earlier
    /// snapshot, because they were changed or removed since.
    ///
    /// # Errors
    /// [`SidecarError::Protocol`] for a malformed snapshot, [`SidecarError::Postgres`].
    pub(super) async fn first_changed<'a>(
        &self,
        parts: impl Iterator<Item = &'a Part>,
        snapshot: &str,
    ) -> Result<Option<&'a Part>, SidecarError> {
        let snapshot = snapshot_literal(snapshot)?;
        let within = |column: &str| {
            format!(
                "{column} >= coalesce(to_timestamp($2::bigint / 1000000.0), '-infinity') \
                 AND {column} < coalesce(to_timestamp($3::bigint / 1000000.0), 'infinity')"
            )
        };
        let query = format!(
            "SELECT EXISTS (SELECT FROM arx.transaction_changes AS c \
                             WHERE c.relation = $1 AND {} AND {}) \
                 OR EXISTS (SELECT FROM arx.graph_epoch AS e \
                             WHERE (e.root IS NULL OR e.root = $1) AND {} \
                               AND (e.range_from IS NULL \
                                    OR e.range_from < coalesce(to_timestamp($3::bigint / 1000000.0), 'infinity') \
                                       AND e.range_to > coalesce(to_timestamp($2::bigint / 1000000.0), '-infinity'))) \
                 OR EXISTS (SELECT FROM arx.pruned_epochs AS p WHERE p.changes_before > pg_snapshot_xmin({snapshot}))",
            within("c.\"timestamp\""),
            new_since("c.changed_xid", &snapshot),
            new_since("e.raised_xid", &snapshot),
        );
        let doing = "look for changes since the export began";
        let statement = self.client.prepare(&query).await.doing(doing)?;
        for part in parts {
            let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
                [&part.table.name(), &part.range.from, &part.range.until];
            if self.client.query_one(&statement, &parameters).await.doing(doing)?.get(0) {
                return Ok(Some(part));
            }
        }
        Ok(None)
    }
}

/// Returns whether a part can only be read in the export's own snapshot.
pub(super) fn needs_own_snapshot(table: Table) -> bool {
    !table.is_of_facts()
}
