//! Upkeep by the sidecar: archives of partitions, work that cannot run inside a function, and
//! schedules without pg_cron. What jobs read that follow changes.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use arx_stack::process::{run, wait_until};
use arx_stack::{Database, Stack};
use arx_tests::fixtures::TESTNET;

const LIMIT: Duration = Duration::from_secs(60);

fn succeed(database: &Database<'_>, arguments: &[&str]) -> String {
    run(database.sidecar().unwrap().args(arguments)).unwrap()
}

/// Returns the output of a command that fails.
fn fail(database: &Database<'_>, arguments: &[&str]) -> String {
    let output = database.sidecar().unwrap().args(arguments).stdin(Stdio::null()).output().unwrap();
    assert!(!output.status.success(), "{output:?}");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A sidecar that runs until the test ends.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Everything but the stamps, which are those of the transaction that restores a row.
const CONTENT: &str = "
SELECT count(*), md5(string_agg(md5((to_jsonb(t) - 'ingest_xid')::text), ',' ORDER BY tx_hash COLLATE \"C\"))
  FROM arx.transactions AS t WHERE \"timestamp\" < '2016-01-01'";

#[test]
fn a_partition_is_archived_compared_and_detached_and_comes_back() {
    let database = Stack::shared().unwrap().database("upkeep_archive").unwrap();
    database
        .query(
            "SELECT arx.ensure_partitions('arx.transactions', '2015-01-01', '2015-02-28');
             INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value,
                                           gas_price, status, metadata)
             SELECT 'ethereum', 'old' || n, n, '2015-01-05'::timestamptz + n * interval '1 hour 1 microsecond', 'a', 'b',
                    n / 7.0, 9007199254740993, CASE n % 3 WHEN 0 THEN 'failed' ELSE 'confirmed' END::arx.tx_status_enum,
                    jsonb_build_object('value', 'a \"quoted\" text' || chr(10), 'n', n)
               FROM generate_series(1, 500) AS n;
             UPDATE arx.transactions SET to_address = NULL WHERE tx_hash = 'old7';
             INSERT INTO arx.partition_policies (relation, premake, retention, retention_mode)
             VALUES ('arx.transactions', 1, '7 years', 'archive')",
        )
        .unwrap();
    let before = database.query(CONTENT).unwrap();
    assert!(before.starts_with("500|"), "{before}");

    // Maintenance says what is due, and detaches nothing that is not archived.
    let steps = "SELECT action, partition, done, error FROM arx.run_partition_maintenance('arx.transactions')
                  WHERE action = 'archive' ORDER BY 2";
    assert_eq!(
        database.query(steps).unwrap(),
        "archive|arx.transactions_2015_01|f|\narchive|arx.transactions_2015_02|f|"
    );
    let by_hand =
        "SELECT arx.partition_step('arx.transactions', s.action, s.name, s.partition_oid, s.key_from, s.key_to, NULL)
                     FROM arx.planned_steps('arx.transactions') AS s WHERE s.action = 'archive'";
    let refused = database.query(by_hand).unwrap_err().to_string();
    assert!(refused.contains("arx.transactions_2015_01 is not archived yet"), "{refused}");
    let changed =
        "SELECT arx.archive_partition('arx.transactions_2015_01', gen_random_uuid(), 'x', 500, 0, 0, 'another')";
    let refused = database.query(changed).unwrap_err().to_string();
    assert!(refused.contains("have changed since they were copied"), "{refused}");

    let due = succeed(&database, &["maintain", "--dry-run"]);
    assert!(due.contains("-- archive arx.transactions_2015_01"), "{due}");
    let done = succeed(&database, &["maintain"]);
    assert!(done.contains("archive arx.transactions_2015_01") && !done.contains("FAILED"), "{done}");
    let archived = "SELECT relation, partition, rows, amount = (SELECT sum(n / 7.0::numeric(38,18)) FROM generate_series(1, 500) AS n) OR rows = 0
                      FROM arx.archived_ranges ORDER BY partition";
    let listed = database.query(archived).unwrap();
    assert!(listed.contains("arx.transactions|arx.transactions_2015_01|500|"), "{listed}");
    assert!(listed.contains("arx.transactions|arx.transactions_2015_02|0|t"), "{listed}");
    assert_eq!(database.query("SELECT count(*) FROM arx.transactions").unwrap(), "0");
    assert_eq!(database.query("SELECT count(*) FROM arx.transactions_2015_01").unwrap(), "500");
    assert_eq!(succeed(&database, &["maintain"]).trim(), "nothing is due");

    // The table may be dropped: the archive brings its rows back, all of them or none.
    let id = database.query("SELECT archive_id FROM arx.archived_ranges WHERE rows > 0").unwrap();
    database.query("DROP TABLE arx.transactions_2015_01").unwrap();
    let conflict = "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value)
                    SELECT 'ethereum', 'old400', 1, '2015-01-05'::timestamptz + 400 * interval '1 hour 1 microsecond', 'x', 'y', 1";
    database.query(conflict).unwrap();
    fail(&database, &["restore-archive", &id]);
    assert_eq!(database.query("SELECT count(*) FROM arx.transactions").unwrap(), "1");
    database.query("DELETE FROM arx.transactions").unwrap();
    assert_eq!(succeed(&database, &["restore-archive", &id]).trim(), "restored 500 rows");
    assert_eq!(database.query(CONTENT).unwrap(), before);
    let again = fail(&database, &["restore-archive", &id]);
    assert!(again.contains("again already"), "{again}");
    let unknown = fail(&database, &["restore-archive", "00000000-0000-0000-0000-000000000000"]);
    assert!(unknown.contains("has no archive"), "{unknown}");
}

#[test]
fn an_archived_partition_that_still_exists_is_attached_again() {
    let database = Stack::shared().unwrap().database("upkeep_attach").unwrap();
    // A table of a user, by integers, with rows that have no amount.
    database
        .query(
            "CREATE TABLE public.events (id bigint PRIMARY KEY, at timestamptz, note text, raw bytea) PARTITION BY RANGE (id);
             SELECT count(*) FROM arx.manage_partitions('public.events', '100', premake => 0, retention => '100',
                                                        retention_action => 'archive');
             SELECT arx.ensure_integer_partitions('public.events', 0, 399);
             INSERT INTO public.events SELECT n, '2024-01-01', repeat('x', n), decode(md5(n::text), 'hex')
               FROM generate_series(0, 399) AS n",
        )
        .unwrap();
    let done = succeed(&database, &["maintain"]);
    assert!(done.contains("archive public.events_p0") && done.contains("archive public.events_p100"), "{done}");
    assert_eq!(database.query("SELECT min(id), count(*) FROM public.events").unwrap(), "200|200");
    assert_eq!(database.query("SELECT arx.attach_partition('public.events_p100')").unwrap(), "FROM 100 TO 200");
    assert_eq!(database.query("SELECT min(id), count(*) FROM public.events").unwrap(), "100|300");
    let listed = "SELECT partition, bounds, rows, attached_at IS NOT NULL FROM arx.archived_ranges ORDER BY 1";
    assert_eq!(
        database.query(listed).unwrap(),
        "public.events_p0|FROM 0 TO 100|100|f\npublic.events_p100|FROM 100 TO 200|100|t"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_without_a_default_are_detached_behind_a_reader_and_interruptions_are_resumed() {
    let database = Stack::shared().unwrap().database("upkeep_queue").unwrap();
    database
        .query(
            "CREATE TABLE public.logs (at timestamptz NOT NULL, line text) PARTITION BY RANGE (at);
             SELECT count(*) FROM arx.manage_partitions('public.logs', '1 month', premake => 0, retention => '1 year');
             SELECT arx.ensure_partitions('public.logs', '2020-01-01', '2020-01-31'), arx.ensure_partitions('public.logs', now(), now());
             INSERT INTO public.logs VALUES ('2020-01-05', 'old'), (now(), 'new');
             CREATE INDEX idx_transactions_spare_ccnew ON arx.transactions_default (block_number);
             UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'arx.idx_transactions_spare_ccnew'::regclass",
        )
        .unwrap();
    let mut reader = database.connect().await.unwrap();
    let report = reader.transaction().await.unwrap();
    report.query("SELECT count(*) FROM public.logs", &[]).await.unwrap();
    let running = Running::start(database.sidecar().unwrap().args(["maintain"]));
    let state = "SELECT string_agg(kind || ' ' || state, ',' ORDER BY task_id) FROM arx.maintenance_queue";
    let detaching = || Ok(database.query(state)? == "drop index done,detach running");
    assert!(wait_until(LIMIT, detaching).unwrap(), "{}", database.query(state).unwrap());
    // Nothing waits for it.
    let writer = database.connect().await.unwrap();
    writer
        .batch_execute("SET statement_timeout = '5s'; INSERT INTO public.logs VALUES (now(), 'newer')")
        .await
        .unwrap();
    // The sidecar is killed; its session ends with the statement, or is ended.
    drop(running);
    let sessions = "SELECT count(pg_terminate_backend(q.pid)) FROM arx.maintenance_queue AS q
                      JOIN pg_stat_activity AS a ON a.pid = q.pid AND a.backend_start = q.backend_start WHERE q.state = 'running'";
    database.query(sessions).unwrap();
    let gone = "SELECT count(*) FROM arx.maintenance_queue AS q JOIN pg_stat_activity AS a USING (pid) WHERE q.state = 'running'";
    assert!(wait_until(LIMIT, || Ok(database.query(gone)? == "0")).unwrap());
    report.commit().await.unwrap();
    // Half detached, it is completed by maintenance; the task has nothing to do any more.
    database.query("CALL arx.maintain_partitions('public.logs')").unwrap();
    let after = succeed(&database, &["maintain"]);
    assert!(after.contains("detach public.logs_2020_01"), "{after}");
    assert_eq!(database.query("SELECT count(*) FROM public.logs").unwrap(), "2");
    assert_eq!(database.query("SELECT count(*) FROM public.logs_2020_01").unwrap(), "1");
    assert_eq!(
        database.query("SELECT count(*) FROM arx.maintenance_queue WHERE state IN ('waiting', 'running')").unwrap(),
        "0"
    );
    assert_eq!(database.query("SELECT to_regclass('arx.idx_transactions_spare_ccnew') IS NULL").unwrap(), "t");
    let bounds = database.query("SELECT arx.attach_partition('public.logs_2020_01')").unwrap();
    assert_eq!(bounds, "FROM 2020-01-01 00:00:00+00 TO 2020-02-01 00:00:00+00");
}

#[test]
fn schedules_run_without_pg_cron_and_their_outcome_is_recorded() {
    let database = Stack::shared().unwrap().database("upkeep_schedules").unwrap();
    database
        .query(
            "CREATE TABLE public.ticks (at timestamptz DEFAULT clock_timestamp());
             DELETE FROM arx.schedules;
             INSERT INTO arx.schedules (job, schedule, command) VALUES
                 ('tick', '1 second', 'INSERT INTO public.ticks DEFAULT VALUES'),
                 ('broken', '1 second', 'SELECT 1 / 0'),
                 ('yearly', '0 0 1 1 *', 'SELECT 1'),
                 ('nonsense', 'now and then', 'SELECT 1')",
        )
        .unwrap();
    let _running = Running::start(database.sidecar().unwrap().args(["maintain", "--schedules"]));
    let history =
        "SELECT string_agg(DISTINCT job || ' ' || outcome, ',' ORDER BY job || ' ' || outcome) FROM arx.job_history()
                    WHERE outcome <> 'running'";
    let ran = || Ok(database.query(history)? == "broken failed,tick succeeded");
    assert!(wait_until(LIMIT, ran).unwrap(), "{}", database.query(history).unwrap());
    let message = "SELECT message, duration >= '0' FROM arx.job_history() WHERE outcome = 'failed' LIMIT 1";
    assert!(database.query(message).unwrap().contains("division by zero"), "{}", database.query(message).unwrap());
    assert!(wait_until(LIMIT, || Ok(database.query("SELECT count(*) >= 3 FROM public.ticks")? == "t")).unwrap());
    let second = fail(&database, &["maintain", "--schedules"]);
    assert!(second.contains("another sidecar runs the schedules"), "{second}");
    // Commands run with the rights of the table's owner, and of no other role.
    database
        .query("CREATE ROLE upkeep_other IN ROLE arx_operator; ALTER TABLE arx.schedules OWNER TO upkeep_other")
        .unwrap();
    let other = fail(&database, &["maintain", "--schedules"]);
    assert!(other.contains("run as their owner upkeep_other"), "{other}");
    database
        .query("REASSIGN OWNED BY upkeep_other TO CURRENT_USER; DROP OWNED BY upkeep_other; DROP ROLE upkeep_other")
        .unwrap();
}

/// Jobs that follow changes, and what a cache asks at each pass; and whether scores are behind
/// them, for which a session reads all labels once.
const FOLLOWERS: [(&str, bool); 7] = [
    ("SELECT arx.refresh_wallet_profiles()", false),
    ("SELECT arx.refresh_daily_stats()", false),
    ("SELECT arx.refresh_hourly_stats()", false),
    ("SELECT arx.queue_risk_changes()", true),
    ("SELECT count(*) FROM arx.check_wallet_alerts()", false),
    ("SELECT count(*) FROM arx.rescreen_watchlists()", true),
    ("SELECT count(*) FROM arx.changed_profiles(pg_current_snapshot(), now())", true),
];

#[test]
fn what_follows_changes_reads_as_many_rows_as_have_changed() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("followers").unwrap();
    let transfers = |hash: &str, count: u32, start: &str| {
        format!(
            "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value)
             SELECT 'testnet', '{hash}' || n, n, timestamptz '{start}' + n * interval '1 minute', 'w' || n,
                    'w' || n * 13 % 30011, 1 FROM generate_series(1, {count}) AS n"
        )
    };
    database
        .query(&format!(
            "{TESTNET} SELECT arx.ensure_partitions('arx.transactions', '2024-01-01', '2024-03-31'); {}",
            transfers("old", 30_000, "2024-01-05")
        ))
        .unwrap();
    for (follower, _) in FOLLOWERS {
        database.query(follower).unwrap();
    }
    database
        .query(
            "INSERT INTO arx.address_labels (network, address, category, severity, source, label)
             SELECT 'testnet', 'w' || n, 'exchange', 'low', 'test', 'x' FROM generate_series(20000, 30000) AS n;
             INSERT INTO arx.watchlists (watchlist, network, address) SELECT 'all', 'testnet', 'w' || n FROM generate_series(20000, 30000) AS n",
        )
        .unwrap();
    for (follower, _) in FOLLOWERS {
        database.query(follower).unwrap();
    }
    database.query("CALL arx.refresh_risk_scores()").unwrap();
    database.query("VACUUM ANALYZE").unwrap();
    let reads = "SELECT string_agg(format('%s: %s', relid::regclass, rows), ', ')
                   FROM (SELECT relid, seq_tup_read + coalesce(idx_tup_fetch, 0) AS rows
                           FROM pg_stat_xact_all_tables WHERE schemaname = 'arx') AS t WHERE rows > 2000";
    for changes in ["SELECT 1", &transfers("new", 3, "2024-03-05")] {
        database.query(changes).unwrap();
        for (follower, scores) in FOLLOWERS {
            let but_labels = if scores { " AND relid <> 'arx.address_labels'::regclass" } else { "" };
            let answer = database.query(&format!("BEGIN; {follower}; {reads}{but_labels}; COMMIT")).unwrap();
            let of_tables = answer.lines().nth(1).unwrap_or_default();
            assert_eq!(of_tables, "", "{follower} after {changes}");
        }
    }
}
