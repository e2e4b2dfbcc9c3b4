//! The graph under load, cut off, killed and damaged: never an error, never a wrong answer, nothing left behind.

// helpers of tests fail as tests do
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arx_stack::process::wait_until;
use arx_stack::{Database, Stack, StackOptions};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

const LIMIT: Duration = Duration::from_secs(60);

/// How long the eight clients are at it.
const LOAD: Duration = Duration::from_secs(60);

/// Wallets, so that they meet.
const WALLETS: u64 = 300;

/// What `wallet_reach` says and what plain SQL says of the same wallet in the same snapshot: how many rows differ.
const DIFFERENCES: &str = "
WITH RECURSIVE edges AS MATERIALIZED (
    SELECT from_address AS a, to_address AS b, value FROM arx.transactions WHERE network = 'testnet'
), reached AS (
    SELECT $1::text AS wallet, 0 AS depth
    UNION SELECT e.b, r.depth + 1 FROM reached AS r JOIN edges AS e ON e.a = r.wallet WHERE r.depth < 2
), nearest AS (SELECT wallet, min(depth) AS depth FROM reached GROUP BY wallet),
expected AS (
    SELECT n.depth, count(DISTINCT n.wallet) AS wallets, count(*) AS transfers, sum(e.value) AS total_value
      FROM nearest AS n JOIN edges AS e ON e.b = n.wallet JOIN nearest AS p ON p.wallet = e.a AND p.depth = n.depth - 1
     GROUP BY n.depth
), graph AS MATERIALIZED (
    SELECT depth, wallets, transfers, total_value FROM arx.wallet_reach($1, 'testnet', 2) WHERE depth > 0
)
SELECT (SELECT count(*) FROM (SELECT * FROM expected EXCEPT ALL SELECT * FROM graph) AS d)
     + (SELECT count(*) FROM (SELECT * FROM graph EXCEPT ALL SELECT * FROM expected) AS d)";

fn filled<'a>(stack: &'a Stack, name: &str, rows: u32) -> Database<'a> {
    let database = stack.database(name).unwrap();
    database
        .query(&format!(
            "INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST');
             SELECT arx.ensure_partitions('arx.transactions', '2024-01-01', '2024-12-31');
             INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value)
             SELECT 'testnet', 't' || n, n, '2024-01-01'::timestamptz + (n % 360) * interval '1 day',
                    'w' || n * 7919 % {WALLETS}, 'w' || n * 104729 / 13 % {WALLETS}, n
               FROM generate_series(1::bigint, {rows}) AS n"
        ))
        .unwrap();
    database
}

/// The folder of the database's graph.
fn graph_folder(stack: &Stack, database: &Database<'_>) -> PathBuf {
    let oid = database.query("SELECT oid FROM pg_database WHERE datname = current_database()").unwrap();
    stack.folder().join("pg/data/pgsql_tmp_arx").join(oid)
}

fn files(folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_string_lossy().ends_with(suffix)).collect()
}

async fn differences(client: &Client, wallet: u64) -> i64 {
    client.query_one(DIFFERENCES, &[&format!("w{wallet}")]).await.unwrap().get(0)
}

#[tokio::test]
async fn eight_clients_that_read_write_and_refresh_get_no_error_and_no_wrong_answer() {
    let stack = Stack::shared().unwrap();
    let database = filled(stack, "graph_load", 2_000);
    let counts: Arc<[AtomicU64; 3]> = Arc::default();
    let end = Instant::now() + LOAD;
    let mut clients = Vec::new();
    for number in 0..8_u64 {
        let client = database.connect().await.unwrap();
        client.batch_execute("SET arx.graph_delta_limit = 200").await.unwrap();
        let counts = Arc::clone(&counts);
        clients.push(tokio::spawn(async move {
            let (mut random, mut row) = (fastrand::Rng::with_seed(number), 0_u64);
            let count = |what: usize| counts[what].fetch_add(1, Ordering::Relaxed);
            while Instant::now() < end {
                let (from, to) = (random.u64(..WALLETS), random.u64(..WALLETS));
                let dice = random.u64(..100);
                if dice < 50 {
                    assert_eq!(differences(&client, from).await, 0, "client {number}, wallet {from}");
                    count(0);
                } else if dice < 90 {
                    row += 1;
                    let insert = "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, \
                                  to_address, value) VALUES ('testnet', $1, 1, '2024-06-01', $2, $3, 1)";
                    let hash = format!("c{number}-{row}");
                    client.execute(insert, &[&hash, &format!("w{from}"), &format!("w{to}")]).await.unwrap();
                    count(1);
                } else if dice < 95 {
                    // its own rows, so that nobody waits for anybody
                    let delete = "DELETE FROM arx.transactions WHERE tx_hash = $1";
                    client.execute(delete, &[&format!("c{number}-{}", random.u64(..=row))]).await.unwrap();
                    count(1);
                } else {
                    client.query("SELECT outcome FROM arx.refresh_graph($1)", &[&(dice == 99)]).await.unwrap();
                    count(2);
                }
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    let [reads, writes, refreshes] = [0, 1, 2].map(|what| counts[what].load(Ordering::Relaxed));
    println!("{reads} reads, {writes} writes, {refreshes} refreshes");
    assert!(reads > 0 && writes > 0 && refreshes > 0, "{reads} {writes} {refreshes}");
    assert_eq!(database.query("SELECT count(*) FROM arx.verify_graph() WHERE NOT equal").unwrap(), "0");
    database.query("SELECT outcome FROM arx.refresh_graph()").unwrap();
    let folder = graph_folder(stack, &database);
    assert_eq!(files(&folder, ".tmp"), Vec::<PathBuf>::new());
    // nobody needs an older one any more, but for one that may just have come
    assert!((1..=2).contains(&files(&folder, ".graph").len()), "{:?}", files(&folder, ".graph"));
}

#[tokio::test]
async fn a_cancelled_build_or_search_ends_at_once_and_leaves_nothing_behind() {
    let stack = Stack::shared().unwrap();
    let database = filled(stack, "graph_cancel", 60_000);
    let client = database.connect().await.unwrap();
    let mut cancelled = 0;
    for round in 0..30 {
        let timeout = 1 + round * 2;
        client.batch_execute(&format!("SET statement_timeout = '{timeout}ms'")).await.unwrap();
        for sql in [
            "SELECT outcome FROM arx.refresh_graph(true)",
            "SELECT count(*) FROM arx.wallet_connections('w1', 'testnet', 32, 'both')",
        ] {
            match client.query(sql, &[]).await {
                Ok(_) => {}
                Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED) => cancelled += 1,
                Err(error) => panic!("{sql}: {error:?}"),
            }
        }
        client.batch_execute("SET statement_timeout = 0").await.unwrap();
        assert_eq!(differences(&client, round % WALLETS).await, 0);
    }
    assert!(cancelled > 0);
    assert_eq!(files(&graph_folder(stack, &database), ".tmp"), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_builder_that_is_killed_leaves_a_server_that_recovers_and_a_graph_that_is_right() {
    let stack = Stack::start(&StackOptions { durable: true, ..StackOptions::default() }).unwrap();
    let database = filled(&stack, "graph_killed", 60_000);
    database.query("SELECT outcome FROM arx.refresh_graph()").unwrap();
    let folder = graph_folder(&stack, &database);
    for round in 0..3 {
        let (builder, witness) = (database.connect().await.unwrap(), database.connect().await.unwrap());
        let pid: i32 = builder.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        let build = tokio::spawn(async move { builder.query("SELECT arx.refresh_graph(true)", &[]).await.is_err() });
        // it is at its file, or done already
        while files(&folder, ".tmp").is_empty() && !build.is_finished() {
            tokio::task::yield_now().await;
        }
        arx_stack::process::run(std::process::Command::new("kill").args(["-KILL", &pid.to_string()])).ok();
        build.await.unwrap();
        // the server ends every session before it recovers
        while witness.query("SELECT 1", &[]).await.is_ok() {
            tokio::task::yield_now().await;
        }
        let ready = wait_until(LIMIT, || Ok(database.query("SELECT 1").is_ok())).unwrap();
        assert!(ready, "the server did not come back");
        let client = database.connect().await.unwrap();
        client.execute("UPDATE arx.transactions SET value = value + 1 WHERE tx_hash = 't5'", &[]).await.unwrap();
        assert_eq!(differences(&client, round).await, 0);
        assert_eq!(database.query("SELECT count(*) FROM arx.verify_graph() WHERE NOT equal").unwrap(), "0");
    }
    // whoever builds next sweeps up
    database.query("SELECT outcome FROM arx.refresh_graph(true)").unwrap();
    assert_eq!(files(&folder, ".tmp"), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_file_that_is_damaged_foreign_or_gone_is_built_anew() {
    let stack = Stack::shared().unwrap();
    let database = filled(stack, "graph_damaged", 1_000);
    let folder = graph_folder(stack, &database);
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 4] = [
        ("header", |file| overwrite(file, |bytes| bytes[100] ^= 1)),
        ("cut short", |file| overwrite(file, |bytes| bytes.truncate(bytes.len() / 2))),
        ("empty", |file| overwrite(file, Vec::clear)),
        ("folder gone", |file| std::fs::remove_dir_all(file.parent().unwrap()).unwrap()),
    ];
    for (what, damage) in damages {
        database.query("SELECT outcome FROM arx.refresh_graph()").unwrap();
        // one that has the file mapped goes on with what it has, or with the new one
        let before = database.connect().await.unwrap();
        assert_eq!(differences(&before, 1).await, 0, "{what}");
        let found = files(&folder, ".graph");
        damage(found.last().unwrap());
        let after = database.connect().await.unwrap();
        after.execute("UPDATE arx.transactions SET value = value + 1 WHERE tx_hash = 't7'", &[]).await.unwrap();
        for wallet in 0..20 {
            assert_eq!(differences(&after, wallet).await, 0, "{what}");
            assert_eq!(differences(&before, wallet).await, 0, "{what}");
        }
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &std::fs::metadata(files(&folder, ".graph").first().unwrap()).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partition_maintenance_waits_for_a_reader_of_both_tables_and_not_he_for_it() {
    let stack = Stack::shared().unwrap();
    // a build of the graph that has read one table, and one that has begun to
    let openings = ["SELECT count(*) FROM arx.transactions", "LOCK TABLE ONLY arx.transactions IN ACCESS SHARE MODE"];
    for (number, opening) in openings.into_iter().enumerate() {
        let database = stack.database(&format!("graph_locks_{number}")).unwrap();
        let (reader, maintainer) = (database.connect().await.unwrap(), database.connect().await.unwrap());
        reader.batch_execute(&format!("BEGIN; {opening}")).await.unwrap();
        let maintenance = tokio::spawn(async move {
            maintainer.query("SELECT count(*) FROM arx.run_partition_maintenance()", &[]).await.map(|rows| rows.len())
        });
        let waits =
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        assert!(wait_until(LIMIT, || Ok(database.query(waits)? == "1")).unwrap(), "maintenance does not wait");
        let rest = "SELECT count(*) FROM arx.transactions; SELECT count(*) FROM arx.token_transfers; COMMIT";
        reader.batch_execute(rest).await.unwrap();
        assert_eq!(maintenance.await.unwrap().unwrap(), 1);
    }
}

/// Writes another file in the place of one: the mapped one stays as it was, as with any other way a file is replaced.
fn overwrite(file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(file).unwrap();
    let permissions = std::fs::metadata(file).unwrap();
    change(&mut bytes);
    let aside = file.with_extension("aside");
    std::fs::write(&aside, bytes).unwrap();
    std::fs::set_permissions(&aside, permissions.permissions()).unwrap();
    let (owner, group) =
        (std::os::unix::fs::MetadataExt::uid(&permissions), std::os::unix::fs::MetadataExt::gid(&permissions));
    std::os::unix::fs::chown(&aside, Some(owner), Some(group)).unwrap();
    std::fs::rename(aside, file).unwrap();
}
