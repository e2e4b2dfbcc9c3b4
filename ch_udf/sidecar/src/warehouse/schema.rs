//! Renders the statements for tables and views from one set of templates, for a single server and
//! for a cluster.
//!
//! Owns the directives of the templates:
//! - `{database}`: name of the database
//! - `{local}`: suffix of the names of relations that exist on each shard
//! - `{on_cluster}`: the ON CLUSTER clause, if there is one
//! - `{replicated}`: prefix of the engine's name
//! - `{settings}`: settings of a table
//! - `{ttl COLUMN}`: rules for old data; `{ttl COLUMN ARRIVED}` also compresses it harder
//! - `{arriving AGGREGATE}`, `{valid AGGREGATE}`: see [`super::aggregates`]
//! - `{distributed NAME}`: a table over the shards, empty on a single server
//! - `{{` and `}}`: braces

use std::fmt::Write as _;

use super::aggregates::{AGGREGATES, Aggregate};
use super::shape::Shape;
use crate::error::SidecarError;

/// Version of the tables. It rises when the templates change tables that databases already have.
pub(super) const SCHEMA_VERSION: u32 = 5;

/// A file of `sql/clickhouse`.
struct Template {
    file: &'static str,
    text: &'static str,
    /// Directives that only this use of the file has. They are filled in first.
    substitutions: &'static [(&'static str, &'static str)],
}

impl Template {
    const fn new(file: &'static str, text: &'static str) -> Self {
        Self { file, text, substitutions: &[] }
    }

    const fn volume(substitutions: &'static [(&'static str, &'static str)]) -> Self {
        Self { file: "20_volume.sql", text: include_str!("../../../../sql/clickhouse/20_volume.sql"), substitutions }
    }
}

/// The templates, in the order in which they run.
const TEMPLATES: [Template; 8] = [
    Template::new("10_transaction_events.sql", include_str!("../../../../sql/clickhouse/10_transaction_events.sql")),
    Template::new("11_feed.sql", include_str!("../../../../sql/clickhouse/11_feed.sql")),
    Template::volume(&[("aggregate", "hourly_volume"), ("bucket", "hour"), ("bucket_type", "DateTime('UTC')")]),
    Template::volume(&[("aggregate", "daily_volume"), ("bucket", "day"), ("bucket_type", "Date")]),
    Template::new("90_cluster.sql", include_str!("../../../../sql/clickhouse/90_cluster.sql")),
    Template::new("91_nested_transactions.sql", include_str!("../../../../sql/clickhouse/91_nested_transactions.sql")),
    Template::new("92_wallet_activity.sql", include_str!("../../../../sql/clickhouse/92_wallet_activity.sql")),
    Template::new("93_wallet_edges.sql", include_str!("../../../../sql/clickhouse/93_wallet_edges.sql")),
];

/// Storage volumes, the age in days from which data belongs to them (90 days and 2 years by the
/// specification), and its ZSTD level there.
const TIERS: [(&str, u32, u32); 2] = [("warm", 90, 3), ("cold", 730, 9)];

/// Blocks per table whose deduplication tokens ClickHouse remembers: more than the chunks of a pass
/// that is repeated at once.
const DEDUPLICATION_WINDOW: u32 = 1_000;

/// Parts below this size keep all columns in one file: creating a file per column took a fifth of a
/// first load.
const WIDE_PART_BYTES: u64 = 256 << 20;

impl Shape {
    /// Returns the statements that add a column to the events, to be run like other DDL. The table
    /// over the shards comes last, so a column that it shows exists on every shard. `column` is
    /// already quoted.
    #[must_use]
    pub fn add_column(&self, column: &str, column_type: &str) -> Vec<String> {
        let (database, on_cluster) = (&self.database, self.on_cluster());
        let mut suffixes = vec![self.local()];
        suffixes.extend(self.cluster.as_ref().map(|_| ""));
        let add = |suffix: &&str| {
            format!(
                "ALTER TABLE {database}.transaction_events{suffix}{on_cluster} ADD COLUMN IF NOT EXISTS {column} {column_type}"
            )
        };
        suffixes.iter().map(add).collect()
    }

    /// Returns the statements that create missing views, which count transactions as they arrive.
    pub fn create_views(&self) -> Result<Vec<String>, SidecarError> {
        let mut created = statements(self)?;
        created.retain(|statement| statement.starts_with("CREATE MATERIALIZED VIEW"));
        Ok(created)
    }

    /// Returns the statements that drop the views. The states that they have written stay.
    #[must_use]
    pub fn drop_views(&self) -> Vec<String> {
        let (database, local, on_cluster) = (&self.database, self.local(), self.on_cluster());
        let names = AGGREGATES.iter().map(|aggregate| aggregate.name).chain(["received_transactions"]);
        names.map(|name| format!("DROP VIEW IF EXISTS {database}.{name}_mv{local}{on_cluster} SYNC")).collect()
    }

    /// Returns the statements that drop the states of wallets, which version 4 and earlier had:
    /// first the views that write and read them.
    pub(super) fn drop_wallet_states(&self) -> Vec<String> {
        let (database, local, on_cluster) = (&self.database, self.local(), self.on_cluster());
        let drop = |name: String| format!("DROP TABLE IF EXISTS {database}.{name}{on_cluster} SYNC");
        let mut statements = Vec::new();
        for name in ["wallet_activity", "wallet_edges"] {
            statements.push(drop(format!("{name}_mv{local}")));
            statements.push(drop(format!("{name}_current")));
            if self.cluster.is_some() {
                statements.push(drop(format!("{name}_current{local}")));
            }
            statements.push(drop(format!("{name}_states{local}")));
        }
        statements
    }

    /// Returns the statement that drops a table that exists on each shard.
    pub(super) fn drop_table(&self, name: &str) -> String {
        format!("DROP TABLE IF EXISTS {}.{name}{}{} SYNC", self.database, self.local(), self.on_cluster())
    }

    /// Returns the statements that bring a replica up to the others of its shard; none without
    /// replicas.
    #[must_use]
    pub fn sync_replicas(&self) -> Vec<String> {
        if !self.is_replicated() {
            return Vec::new();
        }
        let of_aggregates = AGGREGATES.iter().flat_map(Aggregate::tables);
        let tables =
            ["transaction_events", "received_transactions"].map(str::to_owned).into_iter().chain(of_aggregates);
        tables.map(|table| format!("SYSTEM SYNC REPLICA {}.{table}_local LIGHTWEIGHT", self.database)).collect()
    }

    /// Moves data between volumes as it ages, if there are volumes, and deletes it if configured.
    fn ttl(&self, column: &str) -> Vec<String> {
        let mut rules = Vec::new();
        if self.storage_policy.is_some() {
            for (volume, days, _) in TIERS {
                rules.push(format!("toDateTime({column}) + INTERVAL {days} DAY TO VOLUME '{volume}'"));
            }
        }
        if let Some(days) = self.delete_after_days {
            rules.push(format!("toDateTime({column}) + INTERVAL {days} DAY DELETE"));
        }
        rules
    }

    /// Compresses old data harder, but not as it arrives: ClickHouse would do it at once, and a
    /// first load of old transactions would take twice as long.
    fn recompression(column: &str, arrived: &str) -> Vec<String> {
        let rule = |(_, days, level)| {
            format!(
                "greatest(toDateTime({column}) + INTERVAL {days} DAY, {arrived} + INTERVAL 1 DAY) RECOMPRESS CODEC(ZSTD({level}))"
            )
        };
        TIERS.map(rule).to_vec()
    }

    fn settings(&self) -> String {
        let kind = if self.is_replicated() { "replicated" } else { "non_replicated" };
        let policy =
            self.storage_policy.as_ref().map_or_else(String::new, |name| format!(", storage_policy = '{name}'"));
        format!(
            "{kind}_deduplication_window = {DEDUPLICATION_WINDOW}, min_bytes_for_wide_part = {WIDE_PART_BYTES}{policy}"
        )
    }

    fn distributed(&self, name: &str) -> String {
        let Some(cluster) = &self.cluster else { return String::new() };
        // Transactions are stored on the shard of their sender, and their aggregates on the same
        // one. Merged states of all shards may be anywhere; a bucket is always on the same shard.
        let settled = name.strip_suffix("_settled").and_then(Aggregate::named);
        let key = match (name, settled) {
            ("transaction_events", _) => ", cityHash64(network, from_address)".to_owned(),
            (_, Some(aggregate)) => format!(", cityHash64({})", aggregate.bucket),
            (_, None) => String::new(),
        };
        let (database, on_cluster) = (&self.database, self.on_cluster());
        format!(
            "CREATE TABLE IF NOT EXISTS {database}.{name}{on_cluster} AS {database}.{name}_local\n\
             ENGINE = Distributed({}, {database}, {name}_local{key});",
            cluster.name
        )
    }

    fn resolve(&self, directive: &str) -> Option<String> {
        Some(match directive.split_once(' ') {
            None => match directive {
                "database" => self.database.clone(),
                "local" => self.local().to_owned(),
                "on_cluster" => self.on_cluster(),
                "replicated" => if self.is_replicated() { "Replicated" } else { "" }.to_owned(),
                "settings" => self.settings(),
                _ => return None,
            },
            Some(("ttl", columns)) => {
                let (column, arrived) =
                    columns.split_once(' ').map_or((columns, None), |(column, arrived)| (column, Some(arrived)));
                let mut rules = self.ttl(column);
                rules.extend(arrived.map_or_else(Vec::new, |arrived| Self::recompression(column, arrived)));
                if rules.is_empty() { String::new() } else { format!("TTL {}", rules.join(",\n    ")) }
            }
            Some(("distributed", name)) => self.distributed(name),
            Some(("arriving", name)) => Aggregate::named(name)?.arriving_events(self),
            Some(("valid", name)) => Aggregate::named(name)?.valid(self),
            Some(_) => return None,
        })
    }

    fn fill(&self, file: &str, template: &str) -> Result<String, SidecarError> {
        let invalid =
            |problem: &str| SidecarError::Configuration { detail: format!("sql/clickhouse/{file}: {problem}") };
        let mut text = String::with_capacity(template.len());
        let mut rest = template;
        while let Some(brace) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(brace);
            text.push_str(before);
            if from.starts_with("{{") || from.starts_with("}}") {
                text.push_str(&from[..1]);
                rest = &from[2..];
                continue;
            }
            let end = from.find('}').filter(|_| from.starts_with('{')).ok_or_else(|| invalid("unmatched brace"))?;
            let directive = &from[1..end];
            let value = self.resolve(directive).ok_or_else(|| invalid(&format!("unknown directive {directive:?}")))?;
            text.push_str(&value);
            rest = &from[end + 1..];
        }
        text.push_str(rest);
        Ok(text)
    }
}

/// Returns the statements that create all tables and views, in order, without comments.
///
/// # Errors
/// `SidecarError::Configuration` for an invalid template.
pub fn statements(shape: &Shape) -> Result<Vec<String>, SidecarError> {
    let (database, on_cluster) = (&shape.database, shape.on_cluster());
    let mut statements = vec![format!("CREATE DATABASE IF NOT EXISTS {database}{on_cluster}")];
    for Template { file, text, substitutions } in TEMPLATES {
        let substituted = substitutions
            .iter()
            .fold(without_comments(text), |text, (directive, value)| text.replace(&format!("{{{directive}}}"), value));
        let filled = shape.fill(file, &substituted)?;
        statements.extend(filled.split(";\n").map(str::trim).filter(|text| !text.is_empty()).map(without_semicolon));
    }
    statements.push(format!(
        "CREATE TABLE IF NOT EXISTS {database}.schema_versions{on_cluster} (version UInt32, applied_at DateTime('UTC') DEFAULT now())\n\
         ENGINE = {}MergeTree ORDER BY version COMMENT 'what arx-sidecar has made here'",
        if shape.is_replicated() { "Replicated" } else { "" }
    ));
    Ok(statements)
}

fn without_comments(template: &str) -> String {
    let mut text = String::with_capacity(template.len());
    for line in template.lines().filter(|line| !line.trim_start().starts_with("--")) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{line}");
    }
    text
}

fn without_semicolon(statement: &str) -> String {
    statement.trim_end_matches(';').to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::shape::ClusterConfiguration;
    use super::*;

    fn single() -> Shape {
        Shape { database: "arx".into(), cluster: None, storage_policy: None, delete_after_days: None }
    }

    #[test]
    fn a_single_server_gets_plain_engines_and_no_distributed_table() {
        let text = statements(&single()).unwrap().join(";\n");
        assert!(text.contains("ENGINE = ReplacingMergeTree(version, is_deleted)"), "{text}");
        for word in ["Replicated", "ON CLUSTER", "Distributed", "_local", "TO VOLUME", " DELETE"] {
            assert!(!text.contains(word), "{word} in {text}");
        }
        assert!(text.contains("{since:Date}"));
    }

    #[test]
    fn a_cluster_gets_replicated_tables_and_one_over_all_shards() {
        let cluster = ClusterConfiguration { name: "three".into(), replicated: true };
        let shape = Shape {
            cluster: Some(cluster),
            storage_policy: Some("arx_tiered".into()),
            delete_after_days: Some(2_557),
            ..single()
        };
        let created = statements(&shape).unwrap();
        let text = created.join(";\n");
        assert!(text.contains("transaction_events_local ON CLUSTER three"));
        assert!(text.contains("ENGINE = ReplicatedReplacingMergeTree(version, is_deleted)"));
        assert!(
            text.contains(
                "ENGINE = Distributed(three, arx, transaction_events_local, cityHash64(network, from_address))"
            )
        );
        assert!(text.contains("INTERVAL 730 DAY TO VOLUME 'cold'") && text.contains("INTERVAL 2557 DAY DELETE"));
        assert!(created.iter().all(|statement| statement.contains("ON CLUSTER three")), "{created:#?}");
        let plain = statements(&single()).unwrap().len();
        assert_eq!(created.len(), plain + 7, "one Distributed table for each relation that is read across shards");
    }

    #[test]
    fn a_column_is_added_on_every_server_and_to_the_table_over_the_shards_last() {
        assert_eq!(
            single().add_column("`a`", "String"),
            ["ALTER TABLE arx.transaction_events ADD COLUMN IF NOT EXISTS `a` String"]
        );
        let cluster =
            |replicated| Shape { cluster: Some(ClusterConfiguration { name: "three".into(), replicated }), ..single() };
        assert_eq!(
            cluster(true).add_column("`a`", "String"),
            [
                "ALTER TABLE arx.transaction_events_local ON CLUSTER three ADD COLUMN IF NOT EXISTS `a` String",
                "ALTER TABLE arx.transaction_events ON CLUSTER three ADD COLUMN IF NOT EXISTS `a` String",
            ]
        );
        assert_eq!(cluster(false).add_column("`a`", "String").len(), 2);
    }

    #[test]
    fn every_created_view_can_be_dropped() {
        let replicated =
            Shape { cluster: Some(ClusterConfiguration { name: "three".into(), replicated: true }), ..single() };
        for shape in [single(), replicated] {
            let name = |statement: &String, index| statement.split([' ', '\n']).nth(index).unwrap().to_owned();
            let mut created: Vec<String> =
                shape.create_views().unwrap().iter().map(|statement| name(statement, 6)).collect();
            let mut dropped: Vec<String> = shape.drop_views().iter().map(|statement| name(statement, 4)).collect();
            created.sort();
            dropped.sort();
            assert_eq!(created, dropped);
            assert_eq!(created.len(), 3);
        }
    }

    #[test]
    fn only_replicas_are_synchronised() {
        let cluster =
            |replicated| Shape { cluster: Some(ClusterConfiguration { name: "three".into(), replicated }), ..single() };
        assert!(single().sync_replicas().is_empty() && cluster(false).sync_replicas().is_empty());
        let created = statements(&cluster(true)).unwrap().join(";\n");
        let statements = cluster(true).sync_replicas();
        assert_eq!(statements.len(), 6);
        for statement in statements {
            let table = statement.split(' ').nth(3).unwrap();
            assert!(created.contains(&format!("CREATE TABLE IF NOT EXISTS {table} ON CLUSTER three")), "{statement}");
        }
    }

    #[test]
    fn an_invalid_template_is_named() {
        let error = single().fill("x.sql", "SELECT {nothing}").unwrap_err().to_string();
        assert!(error.contains("x.sql") && error.contains("nothing"), "{error}");
        assert!(single().fill("x.sql", "SELECT {database").is_err());
        assert!(single().fill("x.sql", "SELECT }").is_err());
    }
}
