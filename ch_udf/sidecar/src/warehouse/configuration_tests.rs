//! Tests that the files of `config/clickhouse` agree with each other, with the settings, and with
//! the generated statements.

use std::collections::BTreeSet;
use std::path::Path;

use roxmltree::{Document, Node};

use super::schema::statements;
use super::shape::{ClusterConfiguration, Shape};
use crate::settings::{Environment, Overrides, Settings};

const CLUSTER: &str = include_str!("../../../../config/clickhouse/cluster.xml");
const KEEPER: &str = include_str!("../../../../config/clickhouse/keeper.xml");
const MACROS: &str = include_str!("../../../../config/clickhouse/macros.xml");
const STORAGE: &str = include_str!("../../../../config/clickhouse/storage.xml");

/// Returns the elements on a path below `clickhouse`.
fn elements_at<'a>(document: &'a Document<'_>, path: &[&str]) -> Vec<Node<'a, 'a>> {
    let root = document.root_element();
    assert_eq!(root.tag_name().name(), "clickhouse");
    path.iter().fold(vec![root], |nodes, name| {
        nodes.iter().flat_map(|node| node.children().filter(|child| child.has_tag_name(*name))).collect()
    })
}

fn text(node: Node<'_, '_>, name: &str) -> String {
    node.children().find(|child| child.has_tag_name(name)).and_then(|child| child.text()).unwrap_or_default().to_owned()
}

/// Returns the hosts of each shard.
fn hosts(document: &Document<'_>, cluster: &str) -> Vec<Vec<String>> {
    let shards = elements_at(document, &["remote_servers", cluster, "shard"]);
    let replicas = |shard: &Node<'_, '_>| {
        assert_eq!(text(*shard, "internal_replication"), "true");
        let replicas = shard.children().filter(|child| child.has_tag_name("replica"));
        replicas.map(|replica| text(replica, "host")).collect()
    };
    shards.iter().map(replicas).collect()
}

fn settings() -> Settings {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/clickhouse/arx-sidecar.toml");
    Settings::load(Some(&path), &Environment::default(), &Overrides::default()).unwrap()
}

fn elements<'a>(nodes: &[Node<'a, 'a>]) -> BTreeSet<&'a str> {
    let children = nodes.iter().flat_map(Node::children).filter(Node::is_element);
    children.map(|child| child.tag_name().name()).collect()
}

#[test]
fn three_shards_have_two_replicas_each_and_the_sidecar_uses_the_first() {
    let document = Document::parse(CLUSTER).unwrap();
    let settings = settings();
    let hosts = hosts(&document, settings.clickhouse_cluster.as_deref().unwrap());
    let expected =
        (1..=3).map(|shard| (1..=2).map(|replica| format!("clickhouse-{shard}-{replica}")).collect::<Vec<_>>());
    assert_eq!(hosts, expected.collect::<Vec<_>>());
    let first: Vec<String> = hosts.iter().map(|shard| format!("http://{}:8123", shard[0])).collect();
    let shards: Vec<String> = settings.clickhouse_shards.iter().map(ToString::to_string).collect();
    assert_eq!(shards, first);
    assert_eq!(settings.clickhouse_url.unwrap().to_string(), first[0]);
    assert!(settings.clickhouse_replicated);
    assert!(text(elements_at(&document, &["remote_servers", "arx"])[0], "secret").starts_with("REPLACE"));
}

#[test]
fn three_keepers_and_a_ddl_queue_are_configured() {
    let document = Document::parse(KEEPER).unwrap();
    let keepers: Vec<String> =
        elements_at(&document, &["zookeeper", "node"]).iter().map(|node| text(*node, "host")).collect();
    assert_eq!(keepers, ["keeper-1", "keeper-2", "keeper-3"]);
    assert_eq!(elements_at(&document, &["distributed_ddl", "path"])[0].text(), Some("/clickhouse/task_queue/ddl"));
}

#[test]
fn macros_name_the_shard_and_replica_of_a_server() {
    let document = Document::parse(MACROS).unwrap();
    let macros = elements_at(&document, &["macros"])[0];
    let (shard, replica) = (text(macros, "shard"), text(macros, "replica"));
    let servers = Document::parse(CLUSTER).unwrap();
    assert_eq!(hosts(&servers, "arx")[shard.parse::<usize>().unwrap() - 1][0], replica);
}

#[test]
fn the_storage_policy_has_all_volumes_and_deletion_comes_after_seven_years() {
    let document = Document::parse(STORAGE).unwrap();
    let settings = settings();
    let policy = settings.clickhouse_storage_policy.clone().unwrap();
    let volumes = elements_at(&document, &["storage_configuration", "policies", &policy, "volumes"]);
    let shape = Shape {
        database: settings.clickhouse_database,
        cluster: settings
            .clickhouse_cluster
            .map(|name| ClusterConfiguration { name, replicated: settings.clickhouse_replicated }),
        storage_policy: settings.clickhouse_storage_policy,
        delete_after_days: settings.clickhouse_delete_after_days,
    };
    let sql = statements(&shape).unwrap().join(";\n");
    let mut volume_names: BTreeSet<&str> =
        sql.split("TO VOLUME '").skip(1).filter_map(|rest| rest.split('\'').next()).collect();
    // Data starts on this volume.
    volume_names.insert("hot");
    assert_eq!(elements(&volumes), volume_names);
    let volume_disks = volumes[0].descendants().filter(|node| node.has_tag_name("disk")).filter_map(|node| node.text());
    let mut disks = elements(&elements_at(&document, &["storage_configuration", "disks"]));
    disks.insert("default");
    assert_eq!(volume_disks.collect::<BTreeSet<_>>(), disks);
    assert!(sql.contains(&format!("storage_policy = '{policy}'")));
    // Seven years, of which up to two have 366 days.
    assert!(sql.contains("INTERVAL 2557 DAY DELETE"));
}
