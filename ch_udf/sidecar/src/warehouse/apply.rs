//! Making and migrating the tables. Owns what is compared with what is there, and where statements
//! run.

use std::fmt;

use clickhouse::Client;

use super::aggregates::AGGREGATES;
use super::schema::{SCHEMA_VERSION, statements};
use super::topology::Topology;
use crate::error::{Doing, SidecarError};

/// What was done, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Applied {
    /// Version found: 0 for none.
    pub found: u32,
    /// The statements, in order.
    pub statements: Vec<String>,
    /// Servers that each statement runs on.
    pub servers: usize,
    /// Whether they were only to be shown.
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
        let found = if self.found == 0 { "none".to_owned() } else { format!("version {}", self.found) };
        let (count, servers) = (self.statements.len(), self.servers);
        writeln!(
            f,
            "tables made: version {SCHEMA_VERSION} (there was {found}); {count} statements on {servers} server(s)"
        )
    }
}

/// Makes what is missing, or says what would be.
///
/// # Errors
/// [`SidecarError::ClickHouse`]; [`SidecarError::Configuration`] when the tables were made by a
/// newer sidecar.
pub(crate) async fn apply(topology: &Topology, dry_run: bool) -> Result<Applied, SidecarError> {
    let servers = topology.ddl_servers();
    let mut found = SCHEMA_VERSION;
    let mut old_shape = false;
    for server in servers {
        let (version, unversioned) = look(server, &topology.shape.database).await?;
        found = found.min(version);
        old_shape |= unversioned;
        if version > SCHEMA_VERSION {
            return Err(SidecarError::Configuration {
                detail: format!(
                    "the tables in ClickHouse are of version {version}, this arx-sidecar knows version {SCHEMA_VERSION}; use a newer one"
                ),
            });
        }
    }
    if found == SCHEMA_VERSION {
        return Ok(Applied { found, statements: Vec::new(), servers: servers.len(), dry_run });
    }
    let mut plan = Vec::new();
    if old_shape {
        // Tables from before there were versions hold nothing that PostgreSQL does not: the feed
        // starts afresh.
        let database = &topology.shape.database;
        plan.extend(
            ["transaction_events", "feed_marks"].map(|table| format!("DROP TABLE IF EXISTS {database}.{table} SYNC")),
        );
    }
    plan.extend(statements(&topology.shape)?);
    if found == 1 {
        // version 2 settles volumes: what was fed before has to be settled once, below anything
        // that the feed settles
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
    Ok(Applied { found, statements: plan, servers: servers.len(), dry_run })
}

/// [`apply`], for whoever needs the tables and has nothing to show.
///
/// # Errors
/// As [`apply`].
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
    // parametrised views hold `?`-less braces: nothing is bound
    server.clone().with_database("default").query_raw(statement).execute().await.doing("create the tables")
}

/// The version there is, and whether there are tables without one.
async fn look(server: &Client, database: &str) -> Result<(u32, bool), SidecarError> {
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
