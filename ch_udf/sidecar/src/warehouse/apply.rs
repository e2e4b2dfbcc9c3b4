//! Creates and migrates the tables. Owns the comparison with the tables that exist, and the choice
//! of servers for each statement.

use std::fmt;

use clickhouse::Client;

use super::aggregates::AGGREGATES;
use super::schema::{SCHEMA_VERSION, statements};
use super::topology::Topology;
use crate::error::{Doing, SidecarError};

/// The result of a migration, or its plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Applied {
    /// Version before the migration; 0 without tables.
    pub previous: u32,
    pub statements: Vec<String>,
    /// Number of servers that run each statement.
    pub servers: usize,
    /// The statements were not run.
    pub dry_run: bool,
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.statements.is_empty() {
            return writeln!(f, "nothing to do: the tables are of version {SCHEMA_VERSION}");
        }
        if self.dry_run {
            for statement in &self.statements {
                writeln!(f, "{statement};\n")?;
            }
            return Ok(());
        }
        let previous = if self.previous == 0 { "none".to_owned() } else { format!("version {}", self.previous) };
        let (count, servers) = (self.statements.len(), self.servers);
        writeln!(
            f,
            "tables made: version {SCHEMA_VERSION} (there was {previous}); {count} statements on {servers} server(s)"
        )
    }
}

/// Creates the missing tables, or plans it.
pub(crate) async fn apply(topology: &Topology, dry_run: bool) -> Result<Applied, SidecarError> {
    let servers = topology.ddl_servers();
    let mut previous = SCHEMA_VERSION;
    let mut is_unversioned = false;
    for server in servers {
        let (version, unversioned) = read_version(server, &topology.shape.database).await?;
        previous = previous.min(version);
        is_unversioned |= unversioned;
        if version > SCHEMA_VERSION {
            return Err(SidecarError::Configuration {
                detail: format!(
                    "the tables in ClickHouse are of version {version}, this arx-sidecar supports version {SCHEMA_VERSION}; use a newer one"
                ),
            });
        }
    }
    if previous == SCHEMA_VERSION {
        return Ok(Applied { previous, statements: Vec::new(), servers: servers.len(), dry_run });
    }
    let mut plan = Vec::new();
    if is_unversioned {
        // Tables from before there were versions hold no data that PostgreSQL does not have: the
        // feed starts over.
        let database = &topology.shape.database;
        plan.extend(
            ["transaction_events", "feed_marks"].map(|table| format!("DROP TABLE IF EXISTS {database}.{table} SYNC")),
        );
    }
    if (1..3).contains(&previous) {
        // Version 3 identifies a source by the oid of its database. Earlier marks have its name, so
        // the feed starts over.
        plan.push(topology.shape.drop_table("feed_marks"));
    }
    if (1..5).contains(&previous) {
        // Version 5 reads the activity of wallets from the events.
        plan.extend(topology.shape.drop_wallet_states());
    }
    plan.extend(statements(&topology.shape)?);
    if previous == 1 {
        // Version 2 settles volumes. Earlier data has to be settled once, below any version that
        // the feed settles.
        plan.extend(AGGREGATES.iter().flat_map(|aggregate| aggregate.settle(&topology.shape, None, None, 1)));
    }
    plan.push(format!("INSERT INTO {}.schema_versions (version) VALUES ({SCHEMA_VERSION})", topology.shape.database));
    if !dry_run {
        for statement in &plan {
            for server in servers {
                run(server, statement).await?;
            }
        }
    }
    Ok(Applied { previous, statements: plan, servers: servers.len(), dry_run })
}

/// Runs [`apply`], and logs the result.
pub(crate) async fn ensure(topology: &Topology) -> Result<(), SidecarError> {
    let applied = apply(topology, false).await?;
    if !applied.statements.is_empty() {
        tracing::info!(
            statements = applied.statements.len(),
            version = SCHEMA_VERSION,
            "made the tables in ClickHouse"
        );
    }
    Ok(())
}

async fn run(server: &Client, statement: &str) -> Result<(), SidecarError> {
    // Braces of parametrised views are not parameters of this request.
    server.clone().with_database("default").query_raw(statement).execute().await.doing("create the tables")
}

/// Returns the version of the tables, and whether there are tables without one.
async fn read_version(server: &Client, database: &str) -> Result<(u32, bool), SidecarError> {
    let server = server.clone().with_database("default");
    let tables: Vec<String> = server
        .query(
            "SELECT name FROM system.tables WHERE database = ? AND name IN ('schema_versions', 'transaction_events')",
        )
        .bind(database)
        .fetch_all()
        .await
        .doing("create the tables")?;
    if !tables.iter().any(|name| name == "schema_versions") {
        return Ok((0, !tables.is_empty()));
    }
    let version = server.query(&format!("SELECT max(version) FROM {database}.schema_versions")).fetch_one().await;
    Ok((version.doing("create the tables")?, false))
}
