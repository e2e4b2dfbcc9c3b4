//! The files of `config/clickhouse` fit each other, the settings, and the statements that are made for them.

use std::collections::BTreeSet;
use std::path::Path;

use roxmltree::{Document, Node};

use super::schema::statements;
use super::shape::{Cluster, Shape};
use crate::settings::{Environment, Overrides, Settings};

const CLUSTER: &str = include_str!("../../../../config/clickhouse/cluster.xml");
const KEEPER: &str = include_str!("../../../../config/clickhouse/keeper.xml");
const MACROS: &str = include_str!("../../../../config/clickhouse/macros.xml");
const STORAGE: &str = include_str!("../../../../config/clickhouse/storage.xml");

/// The elements on a path below `clickhouse`.
fn at<'a>(document: &'a Document<'_>, path: &[&str]) -> Vec<Node<'a, 'a>> {
    let root = document.root_element();
    assert_eq!(root.tag_name().name(), "clickhouse");
    path.iter().fold(vec![root], |nodes, name| {
        nodes.iter().flat_map(|node| node.children().filter(|child| child.has_tag_name(*name))).collect()
    })
}

fn text(node: Node<'_, '_>, name: &str) -> String {
    node.children().find(|child| child.has_tag_name(name)).and_then(|child| child.text()).unwrap_or_default().to_owned()
}

/// Hosts by shard.
fn hosts(document: &Document<'_>, cluster: &str) -> Vec<Vec<String>> {
    let shards = at(document, &["remote_servers", cluster, "shard"]);
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
fn three_shards_have_two_replicas_each_and_the_sidecar_is_told_of_the_first() {
    let document = Document::parse(CLUSTER).unwrap();
    let settings = settings();
    let hosts = hosts(&document, settings.clickhouse_cluster.as_deref().unwrap());
    let expected =
        (1..=3).map(|shard| (1..=2).map(|replica| format!("clickhouse-{shard}-{replica}")).collect::<Vec<_>>());
    assert_eq!(hosts, expected.collect::<Vec<_>>());
    let first: Vec<String> = hosts.iter().map(|shard| format!("http://{}:8123", shard[0])).collect();
    let named: Vec<&str> = settings.clickhouse_shards.iter().map(|url| url.expose()).collect();
    assert_eq!(named, first);
    assert_eq!(settings.clickhouse_url.unwrap().expose(), first[0]);
    assert!(settings.clickhouse_replicated);
    assert!(text(at(&document, &["remote_servers", "arx"])[0], "secret").starts_with("REPLACE"));
}

#[test]
fn three_keepers_are_named_and_a_queue_for_statements() {
    let document = Document::parse(KEEPER).unwrap();
    let keepers: Vec<String> = at(&document, &["zookeeper", "node"]).iter().map(|node| text(*node, "host")).collect();
    assert_eq!(keepers, ["keeper-1", "keeper-2", "keeper-3"]);
    assert_eq!(at(&document, &["distributed_ddl", "path"])[0].text(), Some("/clickhouse/task_queue/ddl"));
}

#[test]
fn a_server_says_which_replica_of_which_shard_it_is() {
    let document = Document::parse(MACROS).unwrap();
    let macros = at(&document, &["macros"])[0];
    let (shard, replica) = (text(macros, "shard"), text(macros, "replica"));
    let servers = Document::parse(CLUSTER).unwrap();
    assert_eq!(hosts(&servers, "arx")[shard.parse::<usize>().unwrap() - 1][0], replica);
}

#[test]
fn the_policy_has_the_volumes_that_data_moves_to_and_deletion_comes_after_seven_years() {
    let document = Document::parse(STORAGE).unwrap();
    let settings = settings();
    let policy = settings.clickhouse_storage_policy.clone().unwrap();
    let volumes = at(&document, &["storage_configuration", "policies", &policy, "volumes"]);
    let shape = Shape {
        database: settings.clickhouse_database,
        cluster: settings.clickhouse_cluster.map(|name| Cluster { name, replicated: settings.clickhouse_replicated }),
        storage_policy: settings.clickhouse_storage_policy,
        delete_after_days: settings.clickhouse_delete_after_days,
    };
    let made = statements(&shape).unwrap().join(";\n");
    let mut named: BTreeSet<&str> =
        made.split("TO VOLUME '").skip(1).filter_map(|rest| rest.split('\'').next()).collect();
    // where data begins
    named.insert("hot");
    assert_eq!(elements(&volumes), named);
    let of_volumes = volumes[0].descendants().filter(|node| node.has_tag_name("disk")).filter_map(|node| node.text());
    let mut disks = elements(&at(&document, &["storage_configuration", "disks"]));
    disks.insert("default");
    assert_eq!(of_volumes.collect::<BTreeSet<_>>(), disks);
    assert!(made.contains(&format!("storage_policy = '{policy}'")));
    // seven years, of which up to two have 366 days
    assert!(made.contains("INTERVAL 2557 DAY DELETE"));
}
