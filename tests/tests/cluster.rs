//! Three engines that are the shards of a cluster answer like a single engine after any change in
//! PostgreSQL. The statements of the replicated form and the shipped configuration files are
//! checked as far as engines without ClickHouse Keeper allow.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use arx_sidecar::warehouse::{ClusterConfiguration, Shape, statements};
use arx_stack::clickhouse::ClickHouse;
use arx_stack::process::{run, wait_until};
use arx_stack::{Database, Stack, programs};
use arx_tests::fixtures;

/// Every table and view for analysts, row by row. Versions differ between attempts and are left
/// out.
const ANSWERS: [(&str, &str); 7] = [
    (
        "transaction_events",
        "SELECT * EXCEPT (version, is_deleted, counted, generation, fed_at) FROM arx.transaction_events FINAL ORDER BY network, tx_hash, event_time",
    ),
    (
        "received_transactions",
        "SELECT * EXCEPT (version, is_deleted, counted, fed_at) FROM arx.received_transactions FINAL ORDER BY network, tx_hash, event_time, to_address",
    ),
    ("hourly_volume", "SELECT * FROM arx.hourly_volume ORDER BY ALL"),
    ("daily_volume", "SELECT * FROM arx.daily_volume ORDER BY ALL"),
    ("wallet_activity", "SELECT * FROM arx.wallet_activity ORDER BY ALL"),
    ("wallet_edges", "SELECT * FROM arx.wallet_edges ORDER BY ALL"),
    ("wallet_behaviour", "SELECT * FROM arx.wallet_behaviour(since = '2017-12-15', until = '2018-02-10') ORDER BY ALL"),
];

/// Sums over all shards, which each shard computes for its own rows. The settings are those of the
/// sidecar for replicas.
const TOTALS: &str = "
    SELECT count(), sum(value), sum(value_usd), uniqExact(from_address), uniqExact(to_address), min(event_time), max(event_time),
           groupBitXor(cityHash64(network, tx_hash, event_time, from_address, ifNull(to_address, ''), value, status, block_number,
                                  toString(metadata), toString(token_transfers.amount)))
      FROM arx.transaction_events FINAL
  SETTINGS load_balancing = 'in_order', distributed_replica_error_cap = 0";

/// Results in PostgreSQL that the sidecar writes back.
const WRITTEN_BACK: [(&str, &str); 2] = [
    (
        "arx.hourly_volume",
        "SELECT network, hour, transaction_count, total_volume, unique_senders, unique_receivers FROM arx.hourly_volume ORDER BY 1, 2",
    ),
    (
        "arx.wallet_behaviour",
        "SELECT to_jsonb(b) - 'refreshed_at' FROM arx.wallet_behaviour AS b ORDER BY network_type, wallet_address",
    ),
];

/// Changes within a shard, and changes that move rows to another shard.
const CHANGES: &str = r#"
    UPDATE arx.transactions SET value = value + 1, value_usd = 5
     WHERE tx_hash IN (SELECT tx_hash FROM arx.transactions ORDER BY tx_hash LIMIT 50);
    UPDATE arx.transactions AS t SET from_address = t.to_address, to_address = t.from_address
      FROM (SELECT network, tx_hash FROM arx.transactions WHERE to_address IS NOT NULL ORDER BY tx_hash OFFSET 200 LIMIT 60) AS chosen
     WHERE t.network = chosen.network AND t.tx_hash = chosen.tx_hash;
    UPDATE arx.transactions SET to_address = '0x' || repeat('7', 40)
     WHERE tx_hash IN (SELECT tx_hash FROM arx.transactions ORDER BY tx_hash OFFSET 300 LIMIT 40);
    UPDATE arx.transactions SET "timestamp" = "timestamp" + interval '40 days'
     WHERE tx_hash IN (SELECT tx_hash FROM arx.transactions ORDER BY tx_hash OFFSET 100 LIMIT 20);
    UPDATE arx.transactions SET metadata = '{"seen": {"by": [1, 2]}}', status = 'failed'
     WHERE tx_hash IN (SELECT tx_hash FROM arx.transactions ORDER BY tx_hash OFFSET 400 LIMIT 20);
    DELETE FROM arx.transactions WHERE tx_hash IN (SELECT tx_hash FROM arx.transactions ORDER BY tx_hash DESC LIMIT 50);
    INSERT INTO arx.transactions
           (network, tx_hash, block_number, "timestamp", from_address, to_address, value, value_usd, gas_price, status)
    SELECT 'ethereum', 'new' || n, n, timestamptz '2018-01-20 00:00Z' + n * interval '7 minutes', '0x' || lpad(n::text, 40, '0'),
           CASE WHEN n % 3 > 0 THEN '0x' || lpad((n % 9)::text, 40, '0') END, n * 0.000000000000000001, n, n, 'confirmed'
      FROM generate_series(1, 300) AS n;
    INSERT INTO arx.token_transfers (network, tx_hash, log_index, block_number, "timestamp", token_address, from_address, to_address, amount)
    SELECT network, tx_hash, 1, block_number, "timestamp", '0x' || repeat('a', 40), from_address, '0x' || repeat('b', 40), block_number + 1
      FROM arx.transactions WHERE tx_hash LIKE 'new%'"#;

/// Imports the sample and keeps five months of it, because a step costs a few statements for each
/// month, shard and aggregate.
fn import_five_months(database: &Database<'_>) {
    fixtures::import(database, &["transactions"], &fixtures::sample("transactions.csv.gz"));
    let other_months =
        "DELETE FROM arx.transactions WHERE \"timestamp\" < '2017-11-01' OR \"timestamp\" >= '2018-04-01'";
    database.query(other_months).unwrap();
    assert_eq!(database.query("SELECT count(*) > 5000 FROM arx.transactions").unwrap(), "t");
}

/// Shards and a single engine, each with the database that feeds it. Both databases are the same.
struct Pair<'a> {
    shards: [ClickHouse; 3],
    sharded: Database<'a>,
    settings: PathBuf,
    single: ClickHouse,
    plain: Database<'a>,
}

impl<'a> Pair<'a> {
    fn start(stack: &'a Stack, name: &str) -> Self {
        let (sharded, plain) = (stack.database(name).unwrap(), stack.database(&format!("{name}_single")).unwrap());
        import_five_months(&sharded);
        import_five_months(&plain);
        let shards = ClickHouse::start_shards(stack, name).unwrap();
        let single = ClickHouse::start(stack, &plain).unwrap();
        let settings = sharded.data_folder().join("arx-sidecar.toml");
        let urls = shards.each_ref().map(ClickHouse::url);
        let text = format!(
            "clickhouse_url = {:?}\nclickhouse_user = 'arx'\nclickhouse_password = {:?}\nclickhouse_cluster = '{name}'\n\
             clickhouse_replicated = false\nclickhouse_shards = {urls:?}\nclickhouse_storage_policy = 'arx_tiered'\n\
             feed_chunk_rows = 2000\n",
            urls[0],
            shards[0].password()
        );
        std::fs::write(&settings, text).unwrap();
        Self { shards, sharded, settings, single, plain }
    }

    fn feed_shards(&self) -> Command {
        let mut sidecar = self.sharded.sidecar().unwrap();
        sidecar.arg("--config").arg(&self.settings).arg("sync");
        sidecar
    }

    fn sync(&self) {
        run(&mut self.feed_shards()).unwrap();
        run(self.plain.sidecar().unwrap().arg("sync")).unwrap();
    }

    /// Runs a statement in both databases.
    fn change(&self, sql: &str) {
        self.sharded.query(sql).unwrap();
        self.plain.query(sql).unwrap();
    }

    /// Compares every answer of each shard, and the results that were written back, with the single
    /// engine's.
    fn assert_same(&self, when: &str) {
        for (name, query) in ANSWERS.into_iter().chain([("totals", TOTALS)]) {
            let expected = self.single.query(query).unwrap();
            assert!(name == "totals" || expected.lines().count() > 100, "{when}: {name} has too few rows to compare");
            for (number, shard) in self.shards.iter().enumerate() {
                assert_equal(
                    &format!("{when}: {name} from shard {}", number + 1),
                    &shard.query(query).unwrap(),
                    &expected,
                );
            }
        }
        for (name, query) in WRITTEN_BACK {
            let expected = self.plain.query(query).unwrap();
            assert!(expected.lines().count() > 100, "{when}: {name} has too few rows to compare");
            assert_equal(&format!("{when}: {name}"), &self.sharded.query(query).unwrap(), &expected);
        }
    }

    /// Checks that each shard holds some of the senders, with all their transactions.
    fn assert_spread(&self) {
        let mut shard_of = BTreeMap::new();
        for (number, shard) in self.shards.iter().enumerate() {
            let senders = "SELECT DISTINCT network, from_address FROM arx.transaction_events_local FINAL";
            let senders = shard.query(senders).unwrap();
            assert!(senders.lines().count() > 100, "shard {} has {} senders", number + 1, senders.lines().count());
            for sender in senders.lines() {
                let other = shard_of.insert(sender.to_owned(), number);
                assert_eq!(other, None, "{sender} is on two shards");
            }
            // Aggregates are on the shard of their transactions.
            let states = "SELECT sum(transactions) = (SELECT count() FROM arx.transaction_events_local FINAL) FROM arx.daily_volume_current_local";
            assert_eq!(shard.query(states).unwrap(), "1", "shard {}", number + 1);
        }
    }
}

/// Fails with the lines that differ, instead of all.
fn assert_equal(subject: &str, actual: &str, expected: &str) {
    if actual == expected {
        return;
    }
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let (actual, expected) = (lines(actual), lines(expected));
    let examples = |lines: &BTreeSet<String>, without: &BTreeSet<String>| {
        let lines: Vec<&String> = lines.difference(without).collect();
        format!("{} lines, such as {:#?}", lines.len(), &lines[..lines.len().min(3)])
    };
    panic!("{subject}: unexpected are {}; missing are {}", examples(&actual, &expected), examples(&expected, &actual));
}

#[test]
fn three_shards_answer_like_one_engine() {
    let pair = Pair::start(Stack::shared().unwrap(), "arx_three");
    pair.sync();
    pair.assert_same("after the first load");
    pair.assert_spread();
    pair.change(CHANGES);
    pair.sync();
    pair.assert_same("after changes");
    pair.assert_spread();
    // A column that ClickHouse does not have yet.
    pair.change(
        "ALTER TABLE arx.transactions ADD COLUMN bridge text;
         UPDATE arx.transactions SET bridge = 'b' || block_number % 3 WHERE \"timestamp\" >= '2018-02-01' AND \"timestamp\" < '2018-03-01'",
    );
    pair.sync();
    pair.assert_same("after a column was added");
    // TRUNCATE fires no row trigger.
    pair.change("TRUNCATE arx.transactions_2018_01");
    pair.sync();
    pair.assert_same("after a month was truncated");
    pair.assert_spread();
}

#[test]
fn a_killed_feed_of_shards_leaves_neither_gaps_nor_duplicates() {
    let pair = Pair::start(Stack::shared().unwrap(), "arx_killed");
    for round in 1..=5_u64 {
        let mut feed = pair.feed_shards();
        let mut child = feed.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let has_begun = format!(
            "SELECT coalesce(max(attempt), 0) >= {round} FROM arx.feed_positions WHERE consumer = 'clickhouse'"
        );
        wait_until(Duration::from_secs(30), || {
            Ok(pair.sharded.query(&has_begun)? == "t" || child.try_wait()?.is_some())
        })
        .unwrap();
        // Kill it a little later each time.
        std::thread::sleep(Duration::from_millis(60 * (round - 1)));
        child.kill().unwrap();
        child.wait().unwrap();
        pair.change(&format!(
            "UPDATE arx.transactions SET value = value + 1 WHERE block_number % 7 = {round} AND block_number % 3 = 0;
             UPDATE arx.transactions SET from_address = '0x' || lpad('{round}', 40, 'c') WHERE block_number % 97 = {round};
             DELETE FROM arx.transactions WHERE block_number % 101 = {round}"
        ));
    }
    pair.sync();
    pair.assert_same("after five feeds were killed");
    pair.assert_spread();
}

/// Returns the text of a file of `config/clickhouse`.
fn configuration(name: &str) -> String {
    std::fs::read_to_string(programs::workspace().join("config/clickhouse").join(name)).unwrap()
}

/// Starts an engine with the shipped configuration files. Only the folders of the disks differ.
fn configured_engine(stack: &Stack, name: &str) -> ClickHouse {
    let disks = stack.folder().join(format!("{name}-disks"));
    let storage = configuration("storage.xml").replace("/var/lib/", &format!("{}/", disks.display()));
    let [cluster, keeper, macros] = ["cluster.xml", "keeper.xml", "macros.xml"].map(configuration);
    let files = [
        ("config.d/cluster.xml", cluster.as_str()),
        ("config.d/keeper.xml", &keeper),
        ("config.d/macros.xml", &macros),
        ("config.d/storage.xml", &storage),
    ];
    ClickHouse::start_with(stack, name, &files).unwrap()
}

#[test]
fn a_server_reads_the_configuration_files() {
    let engine = configured_engine(Stack::shared().unwrap(), "arx_configured");
    let servers =
        "SELECT shard_num, replica_num, host_name, port FROM system.clusters WHERE cluster = 'arx' ORDER BY 1, 2";
    assert_eq!(
        engine.query(servers).unwrap(),
        "1\t1\tclickhouse-1-1\t9000\n1\t2\tclickhouse-1-2\t9000\n2\t1\tclickhouse-2-1\t9000\n\
         2\t2\tclickhouse-2-2\t9000\n3\t1\tclickhouse-3-1\t9000\n3\t2\tclickhouse-3-2\t9000"
    );
    let macros = "SELECT macro, substitution FROM system.macros ORDER BY macro";
    assert_eq!(engine.query(macros).unwrap(), "replica\tclickhouse-1-1\nshard\t1");
    let volumes = "SELECT volume_name, disks, move_factor > 0.05 FROM system.storage_policies WHERE policy_name = 'arx_tiered' \
                   ORDER BY volume_priority";
    assert_eq!(engine.query(volumes).unwrap(), "hot\t['default']\t1\nwarm\t['arx_warm']\t1\ncold\t['arx_cold']\t1");
    let disks = "SELECT count() FROM system.disks WHERE path LIKE '%arx_configured-disks/clickhouse-%'";
    assert_eq!(engine.query(disks).unwrap(), "2");
}

/// Returns the form of the tables for the cluster of `config/clickhouse`.
fn replicated() -> Shape {
    Shape {
        database: "arx".into(),
        cluster: Some(ClusterConfiguration { name: "arx".into(), replicated: true }),
        storage_policy: Some("arx_tiered".into()),
        delete_after_days: Some(2_557),
    }
}

/// The engine has no Keeper. It rejects `ON CLUSTER` and the creation of a `Replicated` table with
/// specific errors. It attaches such a table read-only, which checks all of its definition except
/// the path in Keeper.
#[test]
fn an_engine_without_keeper_accepts_the_replicated_definitions() {
    let engine = configured_engine(Stack::shared().unwrap(), "arx_replicated");
    let rejection = |statement: &str| engine.query(statement).expect_err(statement).to_string();
    let mut replicas = 0;
    for (number, statement) in statements(&replicated()).unwrap().iter().enumerate() {
        engine.query(&format!("EXPLAIN AST {statement}")).unwrap_or_else(|error| panic!("{error}: {statement}"));
        assert!(
            rejection(statement).contains("Replicated DDL queries are disabled. (QUERY_IS_PROHIBITED)"),
            "{statement}"
        );
        let mut local = statement.replace(" ON CLUSTER arx", "");
        if local.starts_with("CREATE DATABASE") {
            local.push_str(" ENGINE = Atomic");
        }
        if local.contains("ENGINE = Replicated") {
            // ON CLUSTER gives all replicas one UUID, which is part of their path in Keeper.
            let uuid = format!(" UUID '00000000-0000-4000-8000-{number:012}'");
            let end = local.find("\n(").or_else(|| local.find(" (")).unwrap();
            local.insert_str(end, &uuid);
            let error = rejection(&local);
            assert!(error.contains("Code: 999") && error.contains("KEEPER_EXCEPTION"), "{error}: {local}");
            local = local.replacen("CREATE TABLE", "ATTACH TABLE", 1);
            replicas += 1;
        }
        engine.query(&local).unwrap_or_else(|error| panic!("{error}: {local}"));
    }
    let attached = engine
        .query(
            "SELECT count(), countIf(is_readonly), uniqExact(zookeeper_path), countIf(zookeeper_path LIKE '/clickhouse/tables/%/1'),
                    countIf(replica_name = 'clickhouse-1-1')
               FROM system.replicas WHERE database = 'arx'",
        )
        .unwrap();
    assert_eq!(attached, [replicas; 5].map(|count: u32| count.to_string()).join("\t"));
    let over_shards = "SELECT count() FROM system.tables WHERE database = 'arx' AND engine = 'Distributed'";
    assert_eq!(engine.query(over_shards).unwrap(), "7");
    let shape = replicated();
    for statement in shape.add_column("bridge", "Nullable(String)").iter().chain(&shape.sync_replicas()) {
        engine.query(&format!("EXPLAIN AST {statement}")).unwrap_or_else(|error| panic!("{error}: {statement}"));
    }
    // The syntax of these definitions is valid, but the engine rejects their content.
    let table = |columns: &str, ttl: &str, settings: &str| {
        format!(
            "ATTACH TABLE arx.wrong UUID '00000000-0000-4000-8000-999999999999' (a DateTime, v UInt64, d UInt8)
             ENGINE = ReplicatedReplacingMergeTree({columns}) ORDER BY a TTL {ttl} SETTINGS {settings}"
        )
    };
    let (good, tiered) = ("a + INTERVAL 9 DAY TO VOLUME 'cold'", "storage_policy = 'arx_tiered'");
    for (statement, reason) in [
        (table("v, nothing", good, tiered), "nothing"),
        (table("v, d", "a + INTERVAL 9 DAY TO VOLUME 'tepid'", tiered), "tepid"),
        (table("v, d", good, "storage_policy = 'unheard'"), "unheard"),
        (table("v, d", good, "replicated_deduplication = 1"), "UNKNOWN_SETTING"),
    ] {
        let error = rejection(&statement);
        assert!(error.contains(reason), "{error}");
    }
    engine.query(&table("v, d", good, tiered)).unwrap();
    let error = rejection("INSERT INTO arx.wrong VALUES (1, 1, 0)");
    assert!(error.contains("Code: 667") && error.contains("NOT_INITIALIZED"), "{error}");
}
