//! Connecting to ClickHouse: the server that is asked, and the shards if it is a cluster. Owns the check of the version.

use clickhouse::Client;

use super::aggregates::Valid;
use super::shape::{Cluster, Shape};
use crate::config::Settings;
use crate::engine::{STORAGE_POLICY, Supervisor, Warehouse};
use crate::error::SidecarError;

/// Oldest server that works: the `JSON` type is complete since 25.3.
const NEEDED: ((u32, u32), &str) = ((25, 3), "25.3");

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
    let mut numbers = version.split('.').map(|text| text.parse::<u32>().unwrap_or(0));
    if (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < NEEDED.0 {
        return Err(SidecarError::UnsupportedVersion {
            server: "ClickHouse",
            address,
            found: version,
            needed: NEEDED.1,
        });
    }
    if is_near(&warehouse.url) {
        // on one machine compressing costs more than copying
        client = client.with_compression(clickhouse::Compression::None);
    }
    Ok(Connection { client: client.with_database(&warehouse.database), version })
}

fn is_near(url: &str) -> bool {
    ["://127.", "://localhost", "://[::1]"].iter().any(|near| url.contains(near))
}

/// A ClickHouse, whatever it consists of.
#[derive(Clone)]
pub struct Topology {
    /// The server that is asked and fed.
    pub entry: Client,
    /// One server of each shard; the entry alone if it is no cluster.
    pub shards: Vec<Client>,
    /// Which form the tables take.
    pub shape: Shape,
    /// Version of the entry.
    pub version: String,
}

impl Topology {
    /// Which states of the aggregates count, on the shard that is furthest.
    ///
    /// # Errors
    /// [`SidecarError::ClickHouse`].
    pub async fn valid(&self) -> Result<Valid, SidecarError> {
        let query = format!("SELECT max(generation), max(floor) FROM aggregate_generations{}", self.shape.local());
        let mut valid = Valid::default();
        for shard in &self.shards {
            let failed = |source| SidecarError::ClickHouse { doing: "read which aggregates are valid", source };
            let (generation, floor): (u64, u64) = shard.query(&query).fetch_one().await.map_err(failed)?;
            valid = Valid { generation: valid.generation.max(generation), floor: valid.floor.max(floor) };
        }
        Ok(valid)
    }

    /// Connects to whatever the settings name, every shard of it.
    ///
    /// # Errors
    /// As [`connect`], for the first server that does not answer.
    pub async fn connect(settings: &Settings, supervisor: &Supervisor) -> Result<Self, SidecarError> {
        let warehouse = supervisor.warehouse();
        let entry = connect(warehouse).await?;
        let mut shards = Vec::with_capacity(settings.clickhouse_shards.len().max(1));
        for url in &settings.clickhouse_shards {
            shards.push(connect(&Warehouse { url: url.expose().to_owned(), ..warehouse.clone() }).await?.client);
        }
        if shards.is_empty() {
            shards.push(entry.client.clone());
        }
        let cluster = settings.clickhouse_cluster.clone();
        let shape = Shape {
            database: settings.clickhouse_database.clone(),
            cluster: cluster.map(|name| Cluster { name, replicated: settings.clickhouse_replicated }),
            storage_policy: settings
                .clickhouse_storage_policy
                .clone()
                .or_else(|| supervisor.is_embedded().then(|| STORAGE_POLICY.to_owned())),
            delete_after_days: settings.clickhouse_delete_after_days,
        };
        let mut client = entry.client;
        if shape.is_replicated() {
            // What the feed writes through the entry it reads from `shards`, and the other way round: both are to be the first replica.
            client =
                client.with_setting("load_balancing", "in_order").with_setting("distributed_replica_error_cap", "0");
        }
        Ok(Self { entry: client, shards, shape, version: entry.version })
    }

    /// Where DDL runs: `ON CLUSTER` carries it to every server, otherwise each shard is told.
    #[must_use]
    pub fn ddl_servers(&self) -> &[Client] {
        match &self.shape.cluster {
            Some(cluster) if cluster.replicated => std::slice::from_ref(&self.entry),
            Some(_) | None => &self.shards,
        }
    }
}

impl std::fmt::Debug for Topology {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Topology")
            .field("shape", &self.shape)
            .field("shards", &self.shards.len())
            .finish_non_exhaustive()
    }
}
