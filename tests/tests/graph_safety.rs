//! The graph under load, cancelled, killed and damaged gives no error and no wrong answer, and
//! leaves nothing behind.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    // A worker may still be merging.
    assert!(wait_until(LIMIT, || Ok(files(&folder, ".tmp").is_empty())).unwrap(), "{:?}", files(&folder, ".tmp"));
    // Older files are no longer needed, except one that has just been replaced.
    assert!((1..=2).contains(&files(&folder, ".graph").len()), "{:?}", files(&folder, ".graph"));
}

#[tokio::test]
async fn a_reader_whose_time_is_short_answers_while_a_worker_merges() {
    let stack = Stack::shared().unwrap();
    let database = filled(stack, "graph_worker", 150_000);
    database.query("SELECT outcome FROM arx.refresh_graph()").unwrap();
    database
        .query(
            "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value)
             SELECT 'testnet', 'm' || n, n, '2024-06-01', 'w1', 'w2', 1 FROM generate_series(1, 5000) AS n",
        )
        .unwrap();
    let client = database.connect().await.unwrap();
    let generation = "SELECT generation FROM arx.graph_status()";
    let before: i64 = client.query_one(generation, &[]).await.unwrap().get(0);
    // Far less than a merge takes.
    client.batch_execute("SET arx.graph_delta_limit = 100").await.unwrap();
    let reach = "SELECT sum(transfers)::bigint FROM arx.wallet_reach('w1', 'testnet', 1)";
    client.query_one(reach, &[]).await.unwrap();
    client.batch_execute("SET statement_timeout = '60ms'").await.unwrap();
    let end = Instant::now() + LIMIT;
    let mut answers = 0;
    loop {
        match client.query_one(reach, &[]).await {
            Ok(_) => answers += 1,
            // The machine is busy. Whether the session goes on is what counts.
            Err(error) => assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED), "{error:?}"),
        }
        client.batch_execute("SET statement_timeout = 0").await.unwrap();
        let now: i64 = client.query_one(generation, &[]).await.unwrap().get(0);
        client.batch_execute("SET statement_timeout = '60ms'").await.unwrap();
        if now > before && answers > 0 {
            break;
        }
        assert!(Instant::now() < end, "no worker has merged; {answers} answers");
    }
    client.batch_execute("SET statement_timeout = 0").await.unwrap();
    assert_eq!(differences(&client, 1).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_build_that_waits_for_a_locked_table_waits_for_that_lock() {
    let stack = Stack::shared().unwrap();
    let database = filled(stack, "graph_locked_table", 500);
    let (holder, builder) = (database.connect().await.unwrap(), database.connect().await.unwrap());
    holder.batch_execute("BEGIN; LOCK TABLE arx.token_transfers IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let process: i32 = builder.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let build = tokio::spawn(async move { differences(&builder, 1).await });
    let waiting = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {process} AND wait_event_type = 'Lock'");
    assert!(wait_until(LIMIT, || Ok(database.query(&waiting)? == "1")).unwrap(), "the build does not wait");
    let reader = database.connect().await.unwrap();
    let timeouts = format!("SET lock_timeout = '200ms'; SET statement_timeout = '{}s'", LIMIT.as_secs());
    reader.batch_execute(&timeouts).await.unwrap();
    let refused = reader.query_one(DIFFERENCES, &[&"w1"]).await.unwrap_err();
    assert_eq!(refused.code(), Some(&SqlState::LOCK_NOT_AVAILABLE), "{refused:?}");
    holder.batch_execute("COMMIT").await.unwrap();
    assert_eq!(build.await.unwrap(), 0);
    assert_eq!(differences(&reader, 1).await, 0);
}

#[tokio::test]
async fn pruned_changes_are_never_missed() {
    // Its own server: transactions of other databases keep changes as well.
    let stack = Stack::start(&StackOptions::default()).unwrap();
    let database = filled(&stack, "graph_pruned", 2_000);
    database.query("SELECT outcome FROM arx.refresh_graph()").unwrap();
    let client = database.connect().await.unwrap();
    assert_eq!(differences(&client, 1).await, 0);
    let update = "UPDATE arx.transactions SET value = value + 1 WHERE block_number % 5 = 0";
    let logged = "SELECT count(*) FROM arx.transaction_changes";
    database.query(update).unwrap();
    // The graph's file and a job need the log.
    assert_eq!(database.query("SELECT removed_rows, kept_for FROM arx.prune_changes()").unwrap(), "0|graph");
    database.query("SELECT arx.refresh_wallet_profiles()").unwrap();
    database.query(update).unwrap();
    database.query("SELECT outcome FROM arx.refresh_graph()").unwrap();
    assert_eq!(
        database.query("SELECT removed_rows, kept_for FROM arx.prune_changes()").unwrap(),
        "400|wallet_profiles"
    );
    assert_eq!(database.query(logged).unwrap(), "400");
    database.query("SELECT arx.refresh_wallet_profiles()").unwrap();
    assert_eq!(database.query("SELECT removed_rows FROM arx.prune_changes()").unwrap(), "400");
    assert_eq!(database.query(logged).unwrap(), "0");
    // A session that is behind what was pruned starts from the newest file.
    for wallet in 0..20 {
        assert_eq!(differences(&client, wallet).await, 0);
    }
    assert_eq!(database.query("SELECT count(*) FROM arx.verify_graph() WHERE NOT equal").unwrap(), "0");
}

#[tokio::test]
async fn few_changes_are_written_next_to_a_large_file_and_used_by_all() {
    let stack = Stack::shared().unwrap();
    let database = filled(stack, "graph_segments", 20_000);
    database.query("SELECT outcome FROM arx.refresh_graph()").unwrap();
    let folder = graph_folder(stack, &database);
    let change = |number: u32| {
        database
            .query(&format!(
                "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value)
                 SELECT 'testnet', 's{number}_' || n, n, '2024-06-01', 'w1', 'new' || n % 7, 1 FROM generate_series(1, 30) AS n;
                 UPDATE arx.transactions SET value = value + 1 WHERE block_number % 1000 = {number};
                 DELETE FROM arx.transactions WHERE tx_hash = 's{number}_3'"
            ))
            .unwrap();
    };
    let refresh =
        "SELECT outcome, generation, transfers = (SELECT count(*) FROM arx.transactions) FROM arx.refresh_graph()";
    let status = "SELECT state, generation, delta_rows FROM arx.graph_status()";
    let old = database.connect().await.unwrap();
    assert_eq!(differences(&old, 1).await, 0);
    for number in 1..=2 {
        change(number);
        assert_eq!(database.query(refresh).unwrap(), "appended|1|t");
        assert_eq!(database.query(refresh).unwrap(), "current|1|t");
        // A session without a base starts from file and segment, and one with a base goes on.
        assert_eq!(database.query(status).unwrap(), "current|1|0");
        let new = database.connect().await.unwrap();
        for wallet in 0..20 {
            assert_eq!(differences(&new, wallet).await, 0);
            assert_eq!(differences(&old, wallet).await, 0);
        }
        assert_eq!(database.query("SELECT count(*) FROM arx.verify_graph() WHERE NOT equal").unwrap(), "0");
    }
    assert_eq!(files(&folder, ".delta").len(), 1);
    // A session whose snapshot is older than the segment reads the base.
    old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await.unwrap();
    change(3);
    database.query(refresh).unwrap();
    assert_eq!(differences(&old, 1).await, 0);
    old.batch_execute("COMMIT").await.unwrap();
    // A damaged segment costs the reading of the tables.
    overwrite(&files(&folder, ".delta")[0], |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
    for wallet in 0..20 {
        assert_eq!(differences(&database.connect().await.unwrap(), wallet).await, 0);
    }
    change(4);
    assert_eq!(database.query(refresh).unwrap(), "appended|1|t");
    // More changes than a segment is for are merged, and the segment goes with its base.
    database.query("UPDATE arx.transactions SET value = value + 1 WHERE block_number % 3 = 0").unwrap();
    assert_eq!(database.query(refresh).unwrap(), "merged|2|t");
    assert!(
        wait_until(LIMIT, || {
            database.query("SELECT outcome FROM arx.refresh_graph(true)")?;
            Ok(files(&folder, ".delta").is_empty())
        })
        .unwrap()
    );
    assert_eq!(database.query("SELECT count(*) FROM arx.verify_graph() WHERE NOT equal").unwrap(), "0");
}

#[tokio::test]
async fn rows_of_tables_whose_triggers_are_disabled_are_seen() {
    let stack = Stack::shared().unwrap();
    let database = filled(stack, "graph_unnoted", 2_000);
    let client = database.connect().await.unwrap();
    assert_eq!(differences(&client, 1).await, 0);
    let mut row = 0;
    for ddl in [
        "ALTER TABLE arx.transactions_2024_02 DISABLE TRIGGER ALL",
        "ALTER TABLE arx.transactions DISABLE TRIGGER ALL",
        "ALTER TABLE arx.transactions ENABLE TRIGGER ALL",
        "DROP INDEX arx.idx_transactions_ingest",
    ] {
        database.query(ddl).unwrap();
        for target in ["transactions", "transactions_2024_02"] {
            row += 1;
            database
                .query(&format!(
                    "INSERT INTO arx.{target} (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value)
                     VALUES ('testnet', 'u{row}', 1, '2024-02-03', 'w1', 'unseen{row}', 1)"
                ))
                .unwrap();
            assert_eq!(differences(&client, 1).await, 0, "{ddl}, {target}");
        }
    }
}

#[tokio::test]
async fn a_session_with_other_work_gives_up_a_file_that_was_replaced() {
    let stack = Stack::shared().unwrap();
    let database = filled(stack, "graph_idle", 2_000);
    let client = database.connect().await.unwrap();
    assert_eq!(differences(&client, 1).await, 0);
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    database.query("SELECT outcome FROM arx.refresh_graph(true)").unwrap();
    let holds_old = || {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        maps.lines().any(|line| line.contains(".graph (deleted)"))
    };
    assert!(holds_old());
    let end = Instant::now() + LIMIT;
    while holds_old() {
        client.query("SELECT 1", &[]).await.unwrap();
        assert!(Instant::now() < end, "the session keeps a file that was replaced");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(differences(&client, 1).await, 0);
}

#[tokio::test]
async fn changes_of_partitions_are_taken_over_without_a_new_build() {
    let stack = Stack::shared().unwrap();
    let database = filled(stack, "graph_partitions", 20_000);
    database
        .query(
            "SELECT arx.ensure_partitions('arx.internal_transfers', '2024-01-01', '2024-12-31');
             INSERT INTO arx.internal_transfers (network, tx_hash, position, is_ordered, block_number, \"timestamp\",
                                                 from_address, to_address, value)
             SELECT network, tx_hash, 1, false, block_number, \"timestamp\", to_address, from_address, value
               FROM arx.transactions WHERE block_number % 3 = 0",
        )
        .unwrap();
    database.query("SELECT outcome FROM arx.refresh_graph()").unwrap();
    let (client, other) = (database.connect().await.unwrap(), database.connect().await.unwrap());
    let status = "SELECT generation, delta_rows FROM arx.graph_status()";
    let built: i64 = client.query_one(status, &[]).await.unwrap().get(0);
    let unequal = "SELECT count(*) FROM arx.verify_graph() WHERE NOT equal";
    for (event, takes_over) in [
        ("ALTER TABLE arx.transactions DETACH PARTITION arx.transactions_2024_03", true),
        (
            "ALTER TABLE arx.transactions ATTACH PARTITION arx.transactions_2024_03 FOR VALUES FROM ('2024-03-01') TO ('2024-04-01')",
            true,
        ),
        ("TRUNCATE arx.internal_transfers_2024_05", true),
        ("DROP TABLE arx.transactions_2024_07", true),
        ("ALTER TABLE arx.transactions ADD COLUMN note text", true),
        ("DELETE FROM arx.transactions WHERE block_number % 7 = 0; TRUNCATE arx.transactions_2024_08", true),
        ("TRUNCATE arx.transactions_default", false),
    ] {
        database.query(event).unwrap();
        for session in [&client, &other] {
            assert_eq!(session.query_one(unequal, &[]).await.unwrap().get::<_, i64>(0), 0, "{event}");
            session.query("SELECT * FROM arx.wallet_reach('w1', 'testnet', 2)", &[]).await.unwrap();
            let generation: i64 = session.query_one(status, &[]).await.unwrap().get(0);
            assert_eq!(generation == built, takes_over, "{event}");
        }
    }
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
async fn builders_that_are_ended_at_any_instant_harm_no_session() {
    const BUILDS: u64 = 60;
    let stack = Stack::shared().unwrap();
    let database = filled(stack, "graph_ended", 10_000);
    database.query("SELECT outcome FROM arx.refresh_graph()").unwrap();
    let (is_over, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut clients = Vec::new();
    for number in 0..8_u64 {
        let client = database.connect().await.unwrap();
        let (is_over, answers) = (Arc::clone(&is_over), Arc::clone(&answers));
        clients.push(tokio::spawn(async move {
            let (mut random, mut row) = (fastrand::Rng::with_seed(100 + number), 0_u64);
            while !is_over.load(Ordering::Acquire) {
                let (from, to) = (random.u64(..WALLETS), random.u64(..WALLETS));
                if random.bool() {
                    assert_eq!(differences(&client, from).await, 0, "client {number}, wallet {from}");
                    answers.fetch_add(1, Ordering::Relaxed);
                } else {
                    row += 1;
                    let insert = "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, \
                                  to_address, value) VALUES ('testnet', $1, 1, '2024-06-01', $2, $3, 1)";
                    let hash = format!("e{number}-{row}");
                    client.execute(insert, &[&hash, &format!("w{from}"), &format!("w{to}")]).await.unwrap();
                }
            }
        }));
    }
    let (watcher, mut random, mut ended) = (database.connect().await.unwrap(), fastrand::Rng::with_seed(9), 0_u64);
    for build in 0..BUILDS {
        let builder = database.connect().await.unwrap();
        let pid: i32 = builder.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        let is_full = build % 2 == 0;
        let running = tokio::spawn(async move {
            builder.query("SELECT outcome FROM arx.refresh_graph($1)", &[&is_full]).await.is_ok()
        });
        tokio::time::sleep(Duration::from_micros(random.u64(..100_000))).await;
        watcher.query("SELECT pg_terminate_backend($1)", &[&pid]).await.unwrap();
        ended += u64::from(!running.await.unwrap());
    }
    is_over.store(true, Ordering::Release);
    for client in clients {
        client.await.unwrap();
    }
    let answers = answers.load(Ordering::Relaxed);
    println!("{ended} of {BUILDS} builders were ended, {answers} answers");
    assert!(ended > 0 && answers > 0, "{ended} builders were ended, {answers} answers");
    assert_eq!(database.query("SELECT count(*) FROM arx.verify_graph() WHERE NOT equal").unwrap(), "0");
    database.query("SELECT outcome FROM arx.refresh_graph(true)").unwrap();
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
