//! Connecting to ClickHouse and creating ARX's tables there. Owns the check of the version and the order of the DDL; the DDL
//! itself is in `sql/clickhouse`.

use clickhouse::Client;

use crate::engine::Warehouse;
use crate::error::SidecarError;

/// The statements of `sql/clickhouse`, in order. `{database}` stands for the configured database.
const DDL: [&str; 2] = [
    include_str!("../../sql/clickhouse/01_transaction_events.sql"),
    include_str!("../../sql/clickhouse/02_feed_marks.sql"),
];

/// Oldest server that works: `do_not_merge_across_partitions_select_final` and `FINAL` over `is_deleted` need 24.
const NEEDED: (u32, &str) = (24, "24.1");

/// A client of the configured database, and the server's version.
#[derive(Clone)]
pub struct Connection {
    /// Runs queries in the configured database.
    pub client: Client,
    /// The server's version.
    pub version: String,
}

/// Connects and checks that the server is new enough.
///
/// # Errors
/// [`SidecarError::Unreachable`], [`SidecarError::UnsupportedVersion`], [`SidecarError::ClickHouse`] for a refused login.
pub async fn connect(warehouse: &Warehouse) -> Result<Connection, SidecarError> {
    let address = crate::config::ServerUrl::new(warehouse.url.clone()).to_string();
    let mut client = Client::default().with_url(&warehouse.url).with_user(&warehouse.user);
    if let Some(password) = &warehouse.password {
        client = client.with_password(password.expose());
    }
    let version: String = client.query("SELECT version()").fetch_one().await.map_err(|source| match source {
        clickhouse::error::Error::Network(_) | clickhouse::error::Error::TimedOut => {
            SidecarError::Unreachable { server: "ClickHouse", address: address.clone(), source: Box::new(source) }
        }
        _ => SidecarError::ClickHouse { doing: "check the version", source },
    })?;
    let major: u32 = version.split('.').next().and_then(|text| text.parse().ok()).unwrap_or(0);
    if major < NEEDED.0 {
        return Err(SidecarError::UnsupportedVersion {
            server: "ClickHouse",
            address,
            found: version,
            needed: NEEDED.1,
        });
    }
    Ok(Connection { client: client.with_database(&warehouse.database), version })
}

/// Creates the database and the tables that are missing.
///
/// # Errors
/// [`SidecarError::ClickHouse`].
pub async fn create_tables(client: &Client, database: &str) -> Result<(), SidecarError> {
    let run = async |statement: &str| {
        client
            .clone()
            .with_database("default")
            .query_raw(statement)
            .execute()
            .await
            .map_err(|source| SidecarError::ClickHouse { doing: "create the tables", source })
    };
    run(&format!("CREATE DATABASE IF NOT EXISTS {database}")).await?;
    for statement in DDL {
        run(&statement.replace("{database}", database)).await?;
    }
    Ok(())
}
