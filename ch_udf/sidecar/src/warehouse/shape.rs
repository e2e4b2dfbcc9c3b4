//! The form of the tables: on one server, or on a cluster with or without replicas. Owns its
//! consequences for names and engines; the tables themselves belong to [`super::schema`].

/// A cluster in the configuration of its servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterConfiguration {
    /// Name in `remote_servers`.
    pub name: String,
    /// Shards have replicas: engines are `Replicated`, and DDL runs `ON CLUSTER`. Needs ClickHouse
    /// Keeper. Without replicas the statements run on each shard.
    pub replicated: bool,
}

/// Parameters of the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    pub database: String,
    /// The cluster; `None` for a single server.
    pub cluster: Option<ClusterConfiguration>,
    /// Storage policy with the volumes `hot`, `warm` and `cold`.
    pub storage_policy: Option<String>,
    /// Days after which ClickHouse deletes its data; `None` keeps it.
    pub delete_after_days: Option<u32>,
}

impl Shape {
    /// Returns the suffix of the names of tables that exist on each shard.
    #[must_use]
    pub fn local(&self) -> &'static str {
        if self.cluster.is_some() { "_local" } else { "" }
    }

    /// Returns the clause that has every server of the cluster run a statement.
    pub(super) fn on_cluster(&self) -> String {
        match &self.cluster {
            Some(cluster) if cluster.replicated => format!(" ON CLUSTER {}", cluster.name),
            Some(_) | None => String::new(),
        }
    }

    #[must_use]
    pub fn is_replicated(&self) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| cluster.replicated)
    }
}
