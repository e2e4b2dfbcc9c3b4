//! The table of archived rows. It is created by the first archive and belongs to no version of the
//! other tables: no migration drops it.

use super::shape::Shape;

impl Shape {
    /// Returns the statements that create the table of archived rows on each shard. What is
    /// inserted is on disk before the insert ends, because its rows may exist nowhere else later.
    pub(crate) fn create_archive(&self) -> Vec<String> {
        let (database, local, on_cluster) = (&self.database, self.local(), self.on_cluster());
        let engine = if self.is_replicated() { "ReplicatedMergeTree" } else { "MergeTree" };
        let (ttl, policy) = match &self.storage_policy {
            Some(name) => {
                ("TTL archived_at + INTERVAL 1 HOUR TO VOLUME 'cold' ", format!(", storage_policy = '{name}'"))
            }
            None => ("", String::new()),
        };
        vec![
            format!("CREATE DATABASE IF NOT EXISTS {database}{on_cluster}"),
            format!(
                "CREATE TABLE IF NOT EXISTS {database}.archived_rows{local}{on_cluster} (\
                 archive_id String, source String, number UInt64, row String CODEC(ZSTD(9)), amount Nullable(String), \
                 archived_at DateTime('UTC') DEFAULT now()) \
                 ENGINE = {engine} PARTITION BY archive_id ORDER BY number {ttl}\
                 SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1{policy} \
                 COMMENT 'rows of partitions that arx-sidecar maintain has archived: see arx.archived_ranges in PostgreSQL'"
            ),
        ]
    }

    /// Returns the statement that removes the rows of an archive.
    pub(crate) fn remove_archive(&self, archive_id: &str) -> String {
        let (database, local, on_cluster) = (&self.database, self.local(), self.on_cluster());
        let archive_id: String = archive_id.chars().filter(|c| c.is_ascii_hexdigit() || *c == '-').collect();
        format!("ALTER TABLE {database}.archived_rows{local}{on_cluster} DROP PARTITION '{archive_id}'")
    }
}
