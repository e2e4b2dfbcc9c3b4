//! The servers of the warehouse: the one that is asked, and the shards if it is a cluster.

use clickhouse::Client;

use super::aggregates::Valid;
use super::shape::{Cluster, Shape};
use crate::error::{Doing, SidecarError};
use crate::servers::clickhouse::{ClickHouseServer, connect};
use crate::servers::engine::STORAGE_POLICY;
use crate::servers::supervisor::Supervisor;
use crate::settings::Settings;

/// A ClickHouse, whatever it consists of.
#[derive(Clone)]
pub(crate) struct Topology {
    /// The server that is asked and fed.
    pub entry: Client,
    /// One server of each shard; the entry alone if it is no cluster.
    pub shards: Vec<Client>,
    /// Which form the tables take.
    pub shape: Shape,
}

impl Topology {
    /// Which states of the aggregates count, on the shard that is furthest.
    ///
    /// # Errors
    /// [`SidecarError::ClickHouse`].
    pub(crate) async fn valid(&self) -> Result<Valid, SidecarError> {
        let query = format!("SELECT max(generation), max(floor) FROM aggregate_generations{}", self.shape.local());
        let mut valid = Valid::default();
        for shard in &self.shards {
            let (generation, floor): (u64, u64) =
                shard.query(&query).fetch_one().await.doing("read which aggregates are valid")?;
            valid = Valid { generation: valid.generation.max(generation), floor: valid.floor.max(floor) };
        }
        Ok(valid)
    }

    /// Connects to whatever the settings name, every shard of it.
    ///
    /// # Errors
    /// As [`connect`], for the first server that does not answer.
    pub(crate) async fn connect(settings: &Settings, supervisor: &Supervisor) -> Result<Self, SidecarError> {
        let server = supervisor.server();
        let entry = connect(server).await?;
        let mut shards = Vec::with_capacity(settings.clickhouse_shards.len().max(1));
        for url in &settings.clickhouse_shards {
            shards.push(connect(&ClickHouseServer { url: url.expose().to_owned(), ..server.clone() }).await?.client);
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
            // What the feed writes through the entry it reads from `shards`, and the other way
            // round: both are to be the first replica.
            client =
                client.with_setting("load_balancing", "in_order").with_setting("distributed_replica_error_cap", "0");
        }
        Ok(Self { entry: client, shards, shape })
    }

    /// Where DDL runs: `ON CLUSTER` carries it to every server, otherwise each shard is told.
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
