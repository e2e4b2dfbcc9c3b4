//! Synchronous replication: commits that wait for a standby, a standby and its slot that health
//! reports, and a promotion in the middle of writes, which the sidecar follows without loss.

use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arx_stack::process::{run, wait_until};
use arx_stack::{Database, Stack, StackOptions};
use arx_tests::daemon::{Daemon, LIMIT};
use arx_tests::fixtures::{TESTNET, insert};
use arx_tests::replica::{Replica, wait_for};

/// Changes a setting of a server, which reads it again.
fn set(query: impl Fn(&str) -> anyhow::Result<String>, name: &str, value: &str) {
    query(&format!("ALTER SYSTEM SET {name} = '{}'", value.replace('\'', "''"))).unwrap();
    query("SELECT pg_reload_conf()").unwrap();
}

/// Starts a standby named `near`, and makes commits of the primary wait for it.
fn synchronous<'a>(stack: &'a Stack, primary: &Database<'_>) -> Replica<'a> {
    primary.query("SELECT pg_create_physical_replication_slot('near', true)").unwrap();
    let standby = Replica::copy(stack, "near", primary, &["-R", "--no-sync", "--slot", "near"]).unwrap();
    let settings = ["cluster_name=near", "wal_receiver_status_interval=1s", "wal_retrieve_retry_interval=200ms"];
    standby.start(&settings.map(str::to_owned)).unwrap();
    set(|sql| primary.query(sql), "synchronous_standby_names", "near");
    let state = "SELECT string_agg(sync_state, ',') FROM pg_stat_replication WHERE application_name = 'near'";
    wait_for(|sql| primary.query(sql), state, "sync");
    standby
}

/// Starts a statement in a session of its own.
fn start(database: &Database<'_>, sql: &str) -> Child {
    let mut psql = database.psql();
    psql.args(["-c", sql]).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
}

/// Sessions that wait for a synchronous standby.
const WAITING: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND backend_type = 'client backend'";

#[test]
fn a_commit_waits_for_its_synchronous_standby_and_health_names_one_that_is_gone() {
    let stack = Stack::start(&StackOptions::default()).unwrap();
    let primary = stack.database("synchronous").unwrap();
    primary.query(TESTNET).unwrap();
    primary.query("INSERT INTO arx.alert_thresholds (rule, warning) VALUES ('slot_wal', 2e6)").unwrap();
    let standby = synchronous(&stack, &primary);
    let on_primary = |sql: &str| primary.query(sql);
    let health = "SELECT string_agg(name || ' ' || severity, ', ' ORDER BY name) FROM arx.health_check() \
                  WHERE name IN ('sync_standby', 'slot_inactive', 'slot_wal')";
    wait_for(on_primary, health, "slot_inactive ok, slot_wal ok, sync_standby ok");

    // A commit that waits until the standby has replayed it can be read there at once.
    let count = "SELECT count(*) FROM arx.transactions";
    primary.query(&format!("SET synchronous_commit = remote_apply; {}", insert("t1", "w1", "w2", 1.5))).unwrap();
    assert_eq!(standby.query(count).unwrap(), "1");
    standby.query("SELECT pg_wal_replay_pause()").unwrap();
    let mut waiting =
        start(&primary, &format!("SET synchronous_commit = remote_apply; {}", insert("t2", "w2", "w3", 1.5)));
    wait_for(on_primary, WAITING, "1");
    assert_eq!((primary.query(count).unwrap().as_str(), waiting.try_wait().unwrap()), ("1", None));
    standby.query("SELECT pg_wal_replay_resume()").unwrap();
    assert!(waiting.wait().unwrap().success());
    assert_eq!(standby.query(count).unwrap(), "2");

    // The standby is gone: commits wait, reading does not, and health says why. The slot holds the
    // log that the standby will need.
    let conninfo = standby.query("SHOW primary_conninfo").unwrap();
    set(|sql| standby.query(sql), "primary_conninfo", "host=/nowhere");
    wait_for(on_primary, "SELECT count(*) FROM pg_stat_replication", "0");
    let log = "SET synchronous_commit = local; SELECT count(pg_logical_emit_message(false, 'log', repeat('x', 100000))) \
               FROM generate_series(1, 40)";
    primary.query(log).unwrap();
    let mut waiting = start(&primary, &insert("t3", "w3", "w4", 1.5));
    wait_for(on_primary, WAITING, "1");
    assert_eq!(primary.query(health).unwrap(), "slot_inactive warning, slot_wal warning, sync_standby critical");
    let reported =
        "SELECT value || ' ' || cause || ' ' || statement FROM arx.health_check() WHERE name = 'sync_standby'";
    let reported = primary.query(reported).unwrap();
    assert!(
        reported.starts_with("1 commits wait for a synchronous standby that is gone")
            && reported.contains("0 of 1 are connected, synchronous_standby_names is 'near'")
            && reported.ends_with("ALTER SYSTEM SET synchronous_standby_names = ''; SELECT pg_reload_conf();"),
        "{reported}"
    );
    let held = "SELECT object, value > 2e6, statement FROM arx.health_check() WHERE name = 'slot_wal'";
    assert_eq!(primary.query(held).unwrap(), "near|t|SELECT pg_drop_replication_slot('near');");
    assert_eq!((primary.query(count).unwrap().as_str(), waiting.try_wait().unwrap()), ("2", None));

    // It comes back, reads what the slot has kept, and the commit ends.
    set(|sql| standby.query(sql), "primary_conninfo", &conninfo);
    assert!(waiting.wait().unwrap().success());
    wait_for(|sql| standby.query(sql), count, "3");
    wait_for(on_primary, health, "slot_inactive ok, slot_wal ok, sync_standby ok");

    // One of two is enough for a quorum, and not where both are needed.
    let synchronous =
        "SELECT coalesce(value::text, 'none') || ' ' || severity FROM arx.health_check() WHERE name = 'sync_standby'";
    for (names, expected) in [
        ("ANY 1 (far, near)", "0 ok"),
        ("far, near", "0 ok"),
        ("2 (far, near)", "1 critical"),
        ("FIRST 2(near, far)", "1 critical"),
        ("any 3 (*)", "2 critical"),
        ("", "none ok"),
    ] {
        set(on_primary, "synchronous_standby_names", names);
        wait_for(on_primary, synchronous, expected);
    }
}

/// A transaction of its own, by number.
fn row(number: usize) -> String {
    format!(
        "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, status)
         VALUES ('ethereum', '0x{number}', {number}, '2024-01-01', '0x{:040}', '0x{:040}', 1, 'confirmed')",
        number % 3,
        number % 5
    )
}

#[test]
fn a_promotion_in_the_middle_of_writes_loses_nothing_that_was_committed() {
    let stack = Stack::start(&StackOptions::default()).unwrap();
    let primary = stack.database("load").unwrap();
    let standby = synchronous(&stack, &primary);
    // The daemon and the writers know both servers, and nothing of what happens to them.
    let hosts = format!("{},{}", stack.cluster().host().display(), standby.socket().display());
    let url = format!("host={hosts} user=postgres dbname={}", primary.name());
    let daemon = Daemon::start(&primary, &[("ARX_POSTGRES_URL", &url)], stack.folder());
    let writable = format!("{url} target_session_attrs=read-write connect_timeout=5");
    let (next, committed, is_over) = (AtomicUsize::new(1), Mutex::new(Vec::new()), AtomicBool::new(false));
    let write = || {
        while !is_over.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let mut psql = primary.psql();
            // The last address counts.
            psql.args(["-d", &writable, "-c", &row(number)]);
            if psql.stdin(Stdio::null()).output().unwrap().status.success() {
                committed.lock().unwrap().push(number);
            }
        }
    };
    let count = "SELECT count(*) FROM arx.transactions";
    let fed = "SELECT coalesce(sum(transaction_count), 0) FROM arx.hourly_volume";
    let number = |answer: anyhow::Result<String>| answer.ok().and_then(|text| text.parse().ok()).unwrap_or(0_usize);
    std::thread::scope(|scope| {
        // The writers end with this scope, however it ends.
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let over = Over(&is_over);
        for _ in 0..2 {
            scope.spawn(write);
        }
        let is_fed = || Ok(number(primary.query(fed)) >= 10);
        assert!(wait_until(LIMIT, is_fed).unwrap(), "nothing was fed: {}", daemon.log());
        let cluster = stack.cluster();
        let mut stop = cluster.account().command(cluster.program("pg_ctl").get_program());
        run(stop.args(["stop", "-m", "immediate", "-D"]).arg(cluster.data())).unwrap();
        let before = committed.lock().unwrap().len();
        assert!(before >= 10, "{before} rows were written");
        assert_eq!(standby.query("SELECT pg_promote()").unwrap(), "t");
        let goes_on = || Ok(committed.lock().unwrap().len() >= before + 10);
        assert!(wait_until(LIMIT, goes_on).unwrap(), "the writers do not find the new primary");
        drop(over);
    });

    // What was reported as committed is there, once. Of a statement whose end was not reported, the
    // row may be there, too.
    let committed = committed.into_inner().unwrap();
    let hashes: Vec<String> = committed.iter().map(|number| format!("'0x{number}'")).collect();
    let kept = format!("{count} WHERE tx_hash IN ({})", hashes.join(", "));
    assert_eq!(number(standby.query(&kept)), committed.len());
    let stored = standby.query(count).unwrap();
    assert_eq!(standby.query("SELECT count(DISTINCT tx_hash) FROM arx.transactions").unwrap(), stored);
    let all_fed = || Ok(standby.query(fed)? == stored);
    assert!(wait_until(LIMIT, all_fed).unwrap(), "{stored} rows are stored; {}", daemon.log());
    drop(daemon);
    let mut command = primary.sidecar().unwrap();
    let verified = run(command.env("ARX_POSTGRES_URL", &url).arg("verify").stdin(Stdio::null())).unwrap();
    assert!(verified.contains("both sides are the same"), "{verified}");
}
