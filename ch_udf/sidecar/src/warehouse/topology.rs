//! The servers of the warehouse: the entry, and one per shard of a cluster.

use clickhouse::Client;

use super::aggregates::ValidGenerations;
use super::shape::{ClusterConfiguration, Shape};
use crate::error::{Doing, SidecarError};
use crate::servers::clickhouse::{ClickHouseServer, connect};
use crate::servers::engine::STORAGE_POLICY;
use crate::servers::supervisor::Supervisor;
use crate::settings::Settings;

/// A single ClickHouse server or a cluster.
#[derive(Clone)]
pub(crate) struct Topology {
    /// The server that receives queries and inserts.
    pub entry: Client,
    /// One server per shard; only the entry without a cluster.
    pub shards: Vec<Client>,
    pub shape: Shape,
}

impl Topology {
    /// Reads the valid generations of the aggregates; on a cluster, the highest of any shard.
    pub(crate) async fn valid_generations(&self) -> Result<ValidGenerations, SidecarError> {
        let query = format!("SELECT max(generation), max(floor) FROM aggregate_generations{}", self.shape.local());
        let mut valid_generations = ValidGenerations::default();
        for shard in &self.shards {
            let (generation, floor): (u64, u64) =
                shard.query(&query).fetch_one().await.doing("read which aggregates are valid")?;
            valid_generations = ValidGenerations {
                generation: valid_generations.generation.max(generation),
                floor: valid_generations.floor.max(floor),
            };
        }
        Ok(valid_generations)
    }

    /// Connects to every server in the settings.
    pub(crate) async fn connect(settings: &Settings, supervisor: &Supervisor) -> Result<Self, SidecarError> {
        let server = supervisor.server();
        let entry = connect(server).await?;
        let mut shards = Vec::with_capacity(settings.clickhouse_shards.len().max(1));
        for url in &settings.clickhouse_shards {
            shards.push(connect(&ClickHouseServer::at(url, settings)).await?.client);
        }
        if shards.is_empty() {
            shards.push(entry.client.clone());
        }
        let shape = Self::shape(settings, supervisor.is_embedded());
        let mut client = entry.client;
        if shape.is_replicated() {
            // The feed writes through the entry and reads from `shards`, and vice versa: both must
            // use the first replica.
            client =
                client.with_setting("load_balancing", "in_order").with_setting("distributed_replica_error_cap", "0");
        }
        Ok(Self { entry: client, shards, shape })
    }

    /// Describes the tables as the server of the settings shows them, without connecting to shards.
    pub(crate) fn of_server(settings: &Settings, entry: Client, is_embedded: bool) -> Self {
        let shards = vec![entry.clone()];
        Self { entry, shards, shape: Self::shape(settings, is_embedded) }
    }

    fn shape(settings: &Settings, is_embedded: bool) -> Shape {
        let cluster = settings.clickhouse_cluster.clone();
        Shape {
            database: settings.clickhouse_database.clone(),
            cluster: cluster.map(|name| ClusterConfiguration { name, replicated: settings.clickhouse_replicated }),
            storage_policy: settings
                .clickhouse_storage_policy
                .clone()
                .or_else(|| is_embedded.then(|| STORAGE_POLICY.to_owned())),
            delete_after_days: settings.clickhouse_delete_after_days,
        }
    }

    /// Returns the servers that DDL runs on: `ON CLUSTER` reaches every server, otherwise each
    /// shard runs it.
    #[must_use]
    pub(crate) fn ddl_servers(&self) -> &[Client] {
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
