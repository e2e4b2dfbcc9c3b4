//! The graph under load, cancelled, killed and damaged gives no error and no wrong answer, and
//! leaves nothing behind.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arx_stack::process::wait_until;
use arx_stack::{Database, Stack, StackOptions};
use arx_tests::fixtures::TESTNET;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

const LIMIT: Duration = Duration::from_secs(60);

/// Duration of the load by eight clients.
const LOAD: Duration = Duration::from_secs(60);

/// Number of wallets, small enough for the clients to touch the same ones.
const WALLETS: u64 = 300;

/// Compares `wallet_reach` with plain SQL for one wallet in one snapshot. Returns the number of
/// rows that differ.
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
            "{TESTNET}
             SELECT arx.ensure_partitions('arx.transactions', '2024-01-01', '2024-12-31');
             INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value)
             SELECT 'testnet', 't' || n, n, '2024-01-01'::timestamptz + (n % 360) * interval '1 day',
                    'w' || n * 7919 % {WALLETS}, 'w' || n * 104729 / 13 % {WALLETS}, n
               FROM generate_series(1::bigint, {rows}) AS n"
        ))
        .unwrap();
    database
}

/// Returns the folder of the database's graph files.
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
async fn concurrent_reads_writes_and_refreshes_give_no_error_and_no_wrong_answer() {
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
            let count = |action: usize| counts[action].fetch_add(1, Ordering::Relaxed);
            while Instant::now() < end {
                let (from, to) = (random.u64(..WALLETS), random.u64(..WALLETS));
                let action = random.u64(..100);
                if action < 50 {
                    assert_eq!(differences(&client, from).await, 0, "client {number}, wallet {from}");
                    count(0);
                } else if action < 90 {
                    row += 1;
                    let insert = "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, \
                                  to_address, value) VALUES ('testnet', $1, 1, '2024-06-01', $2, $3, 1)";
                    let hash = format!("c{number}-{row}");
                    client.execute(insert, &[&hash, &format!("w{from}"), &format!("w{to}")]).await.unwrap();
                    count(1);
                } else if action < 95 {
                    // Each client deletes its own rows, so that clients do not wait for each other.
                    let delete = "DELETE FROM arx.transactions WHERE tx_hash = $1";
                    client.execute(delete, &[&format!("c{number}-{}", random.u64(..=row))]).await.unwrap();
                    count(1);
                } else {
                    client.query("SELECT outcome FROM arx.refresh_graph($1)", &[&(action == 99)]).await.unwrap();
                    count(2);
                }
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    let [reads, writes, refreshes] = [0, 1, 2].map(|action| counts[action].load(Ordering::Relaxed));
    println!("{reads} reads, {writes} writes, {refreshes} refreshes");
    assert!(reads > 0 && writes > 0 && refreshes > 0, "{reads} {writes} {refreshes}");
    assert_eq!(database.query("SELECT count(*) FROM arx.verify_graph() WHERE NOT equal").unwrap(), "0");
    database.query("SELECT outcome FROM arx.refresh_graph()").unwrap();
    let folder = graph_folder(stack, &database);
    assert_eq!(files(&folder, ".tmp"), Vec::<PathBuf>::new());
    // Older files are no longer needed, except one that has just been replaced.
    assert!((1..=2).contains(&files(&folder, ".graph").len()), "{:?}", files(&folder, ".graph"));
}

#[tokio::test]
async fn a_cancelled_build_or_search_ends_at_once_and_leaves_no_files() {
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
async fn after_a_killed_build_the_server_recovers_with_a_correct_graph() {
    let stack = Stack::start(&StackOptions { durable: true, ..StackOptions::default() }).unwrap();
    let database = filled(&stack, "graph_killed", 60_000);
    database.query("SELECT outcome FROM arx.refresh_graph()").unwrap();
    let folder = graph_folder(&stack, &database);
    for round in 0..3 {
        let (builder, witness) = (database.connect().await.unwrap(), database.connect().await.unwrap());
        let pid: i32 = builder.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        let build = tokio::spawn(async move { builder.query("SELECT arx.refresh_graph(true)", &[]).await.is_err() });
        // Wait until the build writes its file or has ended.
        while files(&folder, ".tmp").is_empty() && !build.is_finished() {
            tokio::task::yield_now().await;
        }
        arx_stack::process::run(std::process::Command::new("kill").args(["-KILL", &pid.to_string()])).ok();
        build.await.unwrap();
        // The server ends every session before it recovers.
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
    // The next build removes unfinished files.
    database.query("SELECT outcome FROM arx.refresh_graph(true)").unwrap();
    assert_eq!(files(&folder, ".tmp"), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_damaged_or_missing_file_is_rebuilt() {
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
    for (kind, damage) in damages {
        database.query("SELECT outcome FROM arx.refresh_graph()").unwrap();
        // A session that has mapped the file continues with it, or with the new one.
        let before = database.connect().await.unwrap();
        assert_eq!(differences(&before, 1).await, 0, "{kind}");
        damage(files(&folder, ".graph").last().unwrap());
        let after = database.connect().await.unwrap();
        after.execute("UPDATE arx.transactions SET value = value + 1 WHERE tx_hash = 't7'", &[]).await.unwrap();
        for wallet in 0..20 {
            assert_eq!(differences(&after, wallet).await, 0, "{kind}");
            assert_eq!(differences(&before, wallet).await, 0, "{kind}");
        }
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &std::fs::metadata(files(&folder, ".graph").first().unwrap()).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partition_maintenance_waits_for_readers_and_never_blocks_them() {
    let stack = Stack::shared().unwrap();
    // A build of the graph that has read one of the tables, and a build that has locked it.
    let openings = ["SELECT count(*) FROM arx.transactions", "LOCK TABLE ONLY arx.transactions IN ACCESS SHARE MODE"];
    for (number, opening) in openings.into_iter().enumerate() {
        let database = stack.database(&format!("graph_locks_{number}")).unwrap();
        let (reader, maintainer) = (database.connect().await.unwrap(), database.connect().await.unwrap());
        reader.batch_execute(&format!("BEGIN; {opening}")).await.unwrap();
        let maintenance = tokio::spawn(async move {
            maintainer.query("SELECT count(*) FROM arx.run_partition_maintenance()", &[]).await.map(|rows| rows.len())
        });
        let waiting =
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        assert!(wait_until(LIMIT, || Ok(database.query(waiting)? == "1")).unwrap(), "maintenance does not wait");
        let remaining = "SELECT count(*) FROM arx.transactions; SELECT count(*) FROM arx.token_transfers; COMMIT";
        reader.batch_execute(remaining).await.unwrap();
        assert_eq!(maintenance.await.unwrap().unwrap(), 1);
    }
}

/// Replaces a file by a changed copy. Sessions that have mapped the original keep it.
fn overwrite(file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(file).unwrap();
    let permissions = std::fs::metadata(file).unwrap();
    change(&mut bytes);
    let copy = file.with_extension("copy");
    std::fs::write(&copy, bytes).unwrap();
    std::fs::set_permissions(&copy, permissions.permissions()).unwrap();
    let (owner, group) =
        (std::os::unix::fs::MetadataExt::uid(&permissions), std::os::unix::fs::MetadataExt::gid(&permissions));
    std::os::unix::fs::chown(&copy, Some(owner), Some(group)).unwrap();
    std::fs::rename(copy, file).unwrap();
}
