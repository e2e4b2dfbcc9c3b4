//! Which form the tables take: on one server, or on a cluster with or without replicas. Owns what follows from the form for names and
//! engines; the tables themselves are [`super::schema`]'s.

/// A cluster as its servers know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Its name in `remote_servers`.
    pub name: String,
    /// Whether shards have replicas: `Replicated` engines, and DDL by `ON CLUSTER`. Needs ClickHouse Keeper. Without, the statements
    /// are run on each shard.
    pub replicated: bool,
}

/// Which form the tables take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// The database.
    pub database: String,
    /// The cluster, if it is no single server.
    pub cluster: Option<Cluster>,
    /// Storage policy with the volumes `hot`, `warm` and `cold`.
    pub storage_policy: Option<String>,
    /// Days after which ClickHouse deletes what it holds; never if absent.
    pub delete_after_days: Option<u32>,
}

impl Shape {
    /// What follows the name of a table that lives on one shard.
    #[must_use]
    pub fn local(&self) -> &'static str {
        if self.cluster.is_some() { "_local" } else { "" }
    }

    /// What DDL says so that every server of the cluster hears it.
    pub(super) fn on_cluster(&self) -> String {
        match &self.cluster {
            Some(cluster) if cluster.replicated => format!(" ON CLUSTER {}", cluster.name),
            Some(_) | None => String::new(),
        }
    }

    /// Whether shards have replicas.
    #[must_use]
    pub fn is_replicated(&self) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| cluster.replicated)
    }
}
