//! Maintenance of partitions waits briefly for a lock, moves rows while others read and write, and
//! a role without rights cannot stop it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arx_stack::Stack;
use arx_tests::fixtures::{TESTNET, import, insert, sample};
use tokio_postgres::error::SqlState;

/// Longer than maintenance waits for a lock, and shorter than the reader of the test reads.
const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn maintenance_gives_up_behind_a_long_reader_and_names_it() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("partition_locks").unwrap();
    database
        .query(&format!("{TESTNET} SELECT arx.ensure_partitions('arx.transactions', '2024-01-01', '2024-01-31')"))
        .unwrap();
    let mut reader = database.connect().await.unwrap();
    let reading = reader.transaction().await.unwrap();
    reading.query("SELECT count(*) FROM arx.transactions", &[]).await.unwrap();
    let pid: i32 = reading.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let maintainer = database.connect().await.unwrap();
    maintainer.batch_execute("SET lock_timeout = '10min'").await.unwrap();
    let writer = database.connect().await.unwrap();
    let begun = Instant::now();
    let maintenance = maintainer.query("SELECT relation, done, error FROM arx.run_partition_maintenance()", &[]);
    let writes = async {
        let mut longest = Duration::ZERO;
        for number in 0..60 {
            let begun = Instant::now();
            writer.batch_execute(&insert(&format!("t{number}"), "a", "b", 1.0)).await.unwrap();
            longest = longest.max(begun.elapsed());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        longest
    };
    let (steps, longest) = tokio::join!(maintenance, writes);
    let steps = steps.unwrap();
    assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
    // An attempt lasts 100 ms.
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    // The table in use is named with its user; the other tables are done.
    for step in &steps {
        let (relation, done): (String, bool) = (step.get(0), step.get(1));
        assert_eq!(done, relation != "arx.transactions", "{relation}");
        if !done {
            let error: String = step.get(2);
            assert!(error.contains("table arx.transactions is in use"), "{error}");
            assert!(error.contains(&format!("process {pid}")), "{error}");
        }
    }
    assert!(steps.iter().any(|step| !step.get::<_, bool>(1)) && steps.iter().any(|step| step.get::<_, bool>(1)));
    // A call that cannot do its work otherwise fails. A shorter setting of the caller decides, and
    // stays as it is.
    maintainer.batch_execute("SET lock_timeout = '20ms'").await.unwrap();
    let begun = Instant::now();
    let ensure = "SELECT arx.ensure_partitions('arx.transactions', '2024-02-01', '2024-02-01')";
    let error = maintainer.query(ensure, &[]).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::LOCK_NOT_AVAILABLE), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let setting: String = maintainer.query_one("SHOW lock_timeout", &[]).await.unwrap().get(0);
    assert_eq!(setting, "20ms");
    reading.commit().await.unwrap();
    maintainer.batch_execute("CALL arx.maintain_partitions()").await.unwrap();
    let missing = database.query("SELECT count(*) FROM arx.run_partition_maintenance(dry_run => true)").unwrap();
    assert_eq!(missing, "0");
}

/// Rows of three months that wait in the default partition.
const WAITING_ROWS: &str = "
    INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value)
    SELECT 'testnet', 'w' || n, n, '2023-01-10'::timestamptz + n % 3 * interval '1 month', 'a', 'b', 1
      FROM generate_series(1, 3000) AS n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_reader_sees_each_row_once_while_the_default_partition_is_drained() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("partition_drain").unwrap();
    database.query(&format!("{TESTNET} {WAITING_ROWS}")).unwrap();
    let before = database.query("SELECT arx.current_graph_epoch()").unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    // Statements of their own, a transaction with one snapshot, and a reader of one month.
    let readers = [
        ("", "SELECT count(*), count(DISTINCT tx_hash) FROM arx.transactions WHERE tx_hash LIKE 'w%'", 3000),
        (
            "BEGIN ISOLATION LEVEL REPEATABLE READ",
            "SELECT count(*), count(DISTINCT tx_hash) FROM arx.transactions WHERE tx_hash LIKE 'w%'",
            3000,
        ),
        (
            "",
            "SELECT count(*), count(DISTINCT tx_hash) FROM arx.transactions
               WHERE \"timestamp\" >= '2023-02-01' AND \"timestamp\" < '2023-03-01' AND tx_hash LIKE 'w%'",
            1000,
        ),
    ];
    for (begin, query, expected) in readers {
        let (client, done) = (database.connect().await.unwrap(), Arc::clone(&done));
        tasks.push(tokio::spawn(async move {
            let mut counted = 0_u32;
            while !done.load(Ordering::Relaxed) || counted == 0 {
                if !begin.is_empty() {
                    client.batch_execute(begin).await.unwrap();
                }
                let row = client.query_one(query, &[]).await.unwrap();
                assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (expected, expected), "{begin} {query}");
                if !begin.is_empty() {
                    client.batch_execute("COMMIT").await.unwrap();
                }
                counted += 1;
            }
            counted
        }));
    }
    // A writer adds rows of the same months meanwhile.
    let (writer, writing) = (database.connect().await.unwrap(), Arc::clone(&done));
    let writer = tokio::spawn(async move {
        let mut written = 0_u32;
        while !writing.load(Ordering::Relaxed) || written == 0 {
            let row = format!(
                "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value)
                 VALUES ('testnet', 'late{written}', 1, '2023-02-20', 'a', 'b', 1)"
            );
            writer.batch_execute(&row).await.unwrap();
            written += 1;
        }
        written
    });
    let drainer = database.connect().await.unwrap();
    drainer.batch_execute("CALL arx.drain_default_partitions('arx.transactions')").await.unwrap();
    done.store(true, Ordering::Relaxed);
    for task in tasks {
        assert!(task.await.unwrap() > 0);
    }
    let written = writer.await.unwrap();
    let state = "SELECT (SELECT count(*) FROM ONLY arx.transactions_default), count(*) FROM arx.transactions";
    assert_eq!(database.query(state).unwrap(), format!("0|{}", 3000 + written));
    // The rows are the same for every consumer.
    assert_eq!(database.query("SELECT arx.current_graph_epoch()").unwrap(), before);
    assert_eq!(database.query("SELECT count(*) FROM arx.transaction_changes").unwrap(), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_runners_at_once_do_the_work_once() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("partition_runners").unwrap();
    let (first, second) = (database.connect().await.unwrap(), database.connect().await.unwrap());
    let call = "CALL arx.maintain_partitions()";
    let (first, second) = tokio::join!(first.batch_execute(call), second.batch_execute(call));
    first.unwrap();
    second.unwrap();
    let failed = "SELECT action, partition, error FROM arx.partition_events WHERE outcome = 'failed'";
    assert_eq!(database.query(failed).unwrap(), "");
    let partitions = "SELECT count(*) FROM arx.partition_status WHERE NOT is_default";
    assert_eq!(database.query(partitions).unwrap(), "12");
}

#[tokio::test]
async fn a_stranger_cannot_stop_maintenance_and_two_calls_do_not_collide() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("partition_job").unwrap();
    let role = format!("stranger_{}", database.name());
    database.query(&format!("CREATE ROLE {role} LOGIN")).unwrap();
    let stranger = database.connect_as(&role).await.unwrap();
    stranger.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(hashtext('arx.partitions'))").await.unwrap();
    for statement in ["SELECT arx.lock_job('partitions')", "SELECT job FROM arx.job_locks FOR UPDATE"] {
        let other = database.connect_as(&role).await.unwrap();
        let error = other.batch_execute(statement).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{statement}");
    }
    let create = "SELECT arx.ensure_partitions('arx.transactions', '2024-01-01', '2024-12-31')";
    let (first, second) = (database.connect().await.unwrap(), database.connect().await.unwrap());
    let (first, second) = tokio::join!(first.query_one(create, &[]), second.query_one(create, &[]));
    let created = first.unwrap().get::<_, i32>(0) + second.unwrap().get::<_, i32>(0);
    assert_eq!(created, 12);
    drop(stranger);
    database.query(&format!("DROP ROLE {role}")).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_waits_for_a_long_reader_without_blocking_others() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("partition_import").unwrap();
    let reader = database.connect().await.unwrap();
    reader.batch_execute("BEGIN; SELECT count(*) FROM arx.transactions").await.unwrap();
    std::thread::scope(|scope| {
        let importing = scope.spawn(|| import(&database, &["transactions"], &sample("transactions.csv.gz")));
        // Longer than the server waits for a lock.
        std::thread::sleep(Duration::from_secs(5));
        assert!(!importing.is_finished());
        assert_eq!(database.query("SELECT count(*) FROM arx.transactions").unwrap(), "0");
        database.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction' AND datname = current_database()").unwrap();
        importing.join().unwrap();
    });
    let rows = "SELECT count(*) > 0 FROM arx.transactions WHERE tableoid <> 'arx.transactions_default'::regclass";
    assert_eq!(database.query(rows).unwrap(), "t");
}

/// A writer's own account of a table: it adds, changes and deletes rows until it is stopped, and
/// returns the number and the sum of the rows that must be there, and its longest wait.
async fn account(client: tokio_postgres::Client, stop: Arc<AtomicBool>) -> (i64, i64, Duration) {
    let (mut rows, mut sum, mut longest) = (20_000_i64, 0_i64, Duration::ZERO);
    let mut number = 0_i64;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let old = number * 7 % 20_000 + 1;
        let statement = match number % 3 {
            0 => format!("INSERT INTO public.moves VALUES ({}, '2024-05-05', {number})", 1_000_000 + number),
            1 => format!("UPDATE public.moves SET n = n + {number} WHERE id = {old} AND n >= 0"),
            _ => format!("DELETE FROM public.moves WHERE id = {} AND n = {}", 1_000_000 + number - 2, number - 2),
        };
        let begun = Instant::now();
        let changed = i64::try_from(client.execute(&statement, &[]).await.unwrap()).unwrap();
        longest = longest.max(begun.elapsed());
        match number % 3 {
            0 => (rows, sum) = (rows + changed, sum + number * changed),
            1 => sum += number * changed,
            _ => (rows, sum) = (rows - changed, sum - (number - 2) * changed),
        }
    }
    (rows, sum, longest)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_is_partitioned_and_back_while_others_write() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("partition_convert").unwrap();
    database
        .query(
            "CREATE TABLE public.moves (id bigint, at timestamptz, n bigint NOT NULL, PRIMARY KEY (id, at));
             INSERT INTO public.moves SELECT i, '2024-01-01'::timestamptz + i % 6 * interval '1 month', 0
               FROM generate_series(1, 20000) AS i",
        )
        .unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn(account(database.connect().await.unwrap(), Arc::clone(&stop)));
    let client = database.connect().await.unwrap();
    client.batch_execute("SELECT arx.convert_table('public.moves', 'at', '1 month')").await.unwrap();
    client.batch_execute("CALL arx.drain_default_partitions('public.moves')").await.unwrap();
    let state = "SELECT (SELECT count(*) FROM ONLY public.moves_default), count(*) FILTER (WHERE NOT is_default) >= 6
                   FROM arx.partition_status WHERE relation = 'public.moves'";
    assert_eq!(database.query(state).unwrap(), "0|t");
    client.batch_execute("CALL arx.unpartition_table('public.moves', 500)").await.unwrap();
    stop.store(true, Ordering::Relaxed);
    let (rows, sum, longest) = writer.await.unwrap();
    assert_eq!(database.query("SELECT count(*), sum(n) FROM public.moves").unwrap(), format!("{rows}|{sum}"));
    assert_eq!(database.query("SELECT relkind FROM pg_class WHERE oid = 'public.moves'::regclass").unwrap(), "r");
    assert!(longest < Duration::from_secs(5), "{longest:?}");
}
