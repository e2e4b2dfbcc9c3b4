//! Maintenance of partitions waits briefly for a lock, and a role without rights cannot stop it.

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
    let maintenance = maintainer.query("SELECT count(*) FROM arx.run_partition_maintenance()", &[]);
    let row = insert("t1", "a", "b", 1.0);
    let (maintained, written) = tokio::join!(maintenance, writer.batch_execute(&row));
    let error = maintained.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code(), &SqlState::LOCK_NOT_AVAILABLE, "{error:?}");
    assert!(error.message().contains("arx.transactions"), "{error:?}");
    assert_eq!(error.detail(), Some(format!("Used by process {pid}.").as_str()));
    written.unwrap();
    assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
    // A shorter setting of the caller decides, and stays as it is.
    maintainer.batch_execute("SET lock_timeout = '20ms'").await.unwrap();
    let begun = Instant::now();
    maintainer.query("SELECT count(*) FROM arx.run_partition_maintenance()", &[]).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let setting: String = maintainer.query_one("SHOW lock_timeout", &[]).await.unwrap().get(0);
    assert_eq!(setting, "20ms");
    reading.commit().await.unwrap();
    let months: i64 =
        maintainer.query_one("SELECT count(*) FROM arx.run_partition_maintenance()", &[]).await.unwrap().get(0);
    assert!(months > 0);
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
