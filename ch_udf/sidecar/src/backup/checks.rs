//! The checks of a restored server: rows can be read, the graph answers as plain SQL does, and no
//! index or table is damaged.

use std::path::Path;

use tokio_postgres::{Client, NoTls};

use super::failed;
use crate::error::{Doing, SidecarError};

/// A checked database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) name: String,
    /// Rows of transactions, internal transfers and token transfers.
    pub(crate) rows: [i64; 3],
    /// Networks whose graph was compared with SQL.
    pub(crate) graphs: i64,
    /// Tables and indexes that amcheck has read; `None` where it is not installed.
    pub(crate) relations: Option<i64>,
}

const DATABASES: &str = "SELECT datname::text FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1";

const ROWS: &str = "
SELECT (SELECT count(*) FROM arx.transactions), (SELECT count(*) FROM arx.internal_transfers),
       (SELECT count(*) FROM arx.token_transfers)";

const GRAPH: &str = "SELECT count(*), count(*) FILTER (WHERE NOT v.equal) FROM arx.verify_graph() AS v";

/// Damage of tables and B-tree indexes of the schema, as `verify_heapam()` lists it; an index that
/// is damaged is an error.
const DAMAGE: &str = "
SELECT c.oid::regclass::text, h.msg
  FROM pg_class AS c, LATERAL public.verify_heapam(c.oid::regclass) AS h
 WHERE c.relnamespace = 'arx'::regnamespace AND c.relkind IN ('r', 'm') AND c.relpersistence = 'p' LIMIT 1";
const INDEXES: &str = "
SELECT count(public.bt_index_check(i.indexrelid::regclass)::text)
  FROM pg_index AS i
  JOIN pg_class AS c ON c.oid = i.indexrelid
  JOIN pg_am AS a ON a.oid = c.relam AND a.amname = 'btree'
 WHERE c.relnamespace = 'arx'::regnamespace AND c.relkind = 'i' AND c.relpersistence = 'p' AND i.indisvalid";
const RELATIONS: &str = "
SELECT count(*) FROM pg_class AS c
 WHERE c.relnamespace = 'arx'::regnamespace AND c.relkind IN ('r', 'm', 'i') AND c.relpersistence = 'p'";

/// Checks every database that has the extension.
///
/// # Errors
/// [`SidecarError::Input`] for damage, and where no database has the extension;
/// [`SidecarError::Postgres`].
pub(super) async fn run(socket: &Path, user: &str) -> Result<Vec<Checked>, SidecarError> {
    let first = connect(socket, user, "template1").await?;
    let names = first.query(DATABASES, &[]).await.doing("list the restored databases")?;
    drop(first);
    let mut checked = Vec::new();
    for row in names {
        let name: String = row.get(0);
        let client = connect(socket, user, &name).await?;
        let installed = "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'arx')
                            AND to_regclass('arx.transactions') IS NOT NULL";
        if client.query_one(installed, &[]).await.doing("look for the extension")?.get(0) {
            checked.push(check(&client, name).await?);
        }
    }
    if checked.is_empty() {
        return Err(failed("the backup has no database with the extension arx and its tables"));
    }
    Ok(checked)
}

async fn check(client: &Client, name: String) -> Result<Checked, SidecarError> {
    let rows = client.query_one(ROWS, &[]).await.doing("read the restored tables")?;
    let rows = [rows.get(0), rows.get(1), rows.get(2)];
    // A backup leaves the graph's file out.
    client.query("SELECT arx.refresh_graph()", &[]).await.doing("build the restored graph")?;
    let graph = client.query_one(GRAPH, &[]).await.doing("compare the restored graph with SQL")?;
    let (graphs, unequal): (i64, i64) = (graph.get(0), graph.get(1));
    if unequal > 0 {
        return Err(failed(format!(
            "database \"{name}\": the graph differs from SQL in {unequal} of {graphs} comparisons"
        )));
    }
    let available = "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'amcheck')";
    let relations = if client.query_one(available, &[]).await.doing("look for amcheck")?.get(0) {
        let create = "DROP EXTENSION IF EXISTS amcheck; CREATE EXTENSION amcheck SCHEMA public";
        client.batch_execute(create).await.doing("install amcheck in the restored database")?;
        if let Some(damage) = client.query_opt(DAMAGE, &[]).await.doing("check the restored tables")? {
            let (table, message): (String, String) = (damage.get(0), damage.get(1));
            return Err(failed(format!("database \"{name}\": {table} is damaged: {message}")));
        }
        client.query_one(INDEXES, &[]).await.doing("check the restored indexes")?;
        Some(client.query_one(RELATIONS, &[]).await.doing("count what was checked")?.get(0))
    } else {
        None
    };
    Ok(Checked { name, rows, graphs, relations })
}

async fn connect(socket: &Path, user: &str, database: &str) -> Result<Client, SidecarError> {
    let mut config = tokio_postgres::Config::new();
    config.host_path(socket).port(5432).user(user).dbname(database).application_name("arx-sidecar backup check");
    let (client, connection) = config.connect(NoTls).await.doing("connect to the restored server")?;
    // It ends with the client; its error is that of the client's next call.
    tokio::spawn(async move { drop(connection.await) });
    let settings =
        "SET search_path = pg_catalog, pg_temp; SET statement_timeout = 0; SET row_security = off; SET jit = off";
    client.batch_execute(settings).await.doing("set the session up")?;
    Ok(client)
}
