//! From a file to PostgreSQL to ClickHouse and back, with real servers: what arrives equals what was sent.

// helpers of tests fail as tests do
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use arx_tests::process::{run, wait_until};
use arx_tests::{Database, Stack, programs};

/// What the feed should have written, computed by PostgreSQL itself.
const EXPECTED: &str = "SELECT network, date_trunc('hour', \"timestamp\", 'UTC') AS hour, count(*) AS n,
    coalesce(sum(value) FILTER (WHERE status <> 'failed'), 0) AS volume, count(DISTINCT from_address) AS senders,
    count(DISTINCT to_address) AS receivers FROM arx.transactions GROUP BY 1, 2";
const WRITTEN: &str =
    "SELECT network, hour, transaction_count, total_volume, unique_senders, unique_receivers FROM arx.hourly_volume";

fn differences(database: &Database<'_>) -> String {
    database
        .query(&format!(
            "SELECT count(*) FROM (({EXPECTED} EXCEPT {WRITTEN}) UNION ALL ({WRITTEN} EXCEPT {EXPECTED})) AS d"
        ))
        .unwrap()
}

fn sidecar(database: &Database<'_>, arguments: &[&str]) -> Output {
    database.sidecar().unwrap().args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn succeed(database: &Database<'_>, arguments: &[&str]) -> String {
    run(database.sidecar().unwrap().args(arguments)).unwrap()
}

fn import_sample(database: &Database<'_>) {
    let folder = programs::workspace().join("samples/ethereum");
    for (kind, file) in [("transactions", "transactions.csv.gz"), ("labels", "labels.csv.gz")] {
        let rejects = database.data_folder().join(format!("{kind}.rejects"));
        std::fs::create_dir_all(database.data_folder()).unwrap();
        let path = folder.join(file);
        succeed(database, &["import", kind, path.to_str().unwrap(), "--rejects", rejects.to_str().unwrap()]);
    }
}

#[test]
fn clickhouse_follows_inserts_updates_deletes_and_truncates() {
    let database = Stack::shared().unwrap().database("movement_feed").unwrap();
    import_sample(&database);
    assert_eq!(database.query("SELECT count(*) > 15000 FROM arx.transactions").unwrap(), "t");
    succeed(&database, &["sync"]);
    assert_eq!(differences(&database), "0");
    database
        .query(
            "UPDATE arx.transactions SET value = value + 1 WHERE tx_hash IN (SELECT tx_hash FROM arx.transactions ORDER BY tx_hash LIMIT 50);
             DELETE FROM arx.transactions WHERE tx_hash IN (SELECT tx_hash FROM arx.transactions ORDER BY tx_hash DESC LIMIT 50);
             UPDATE arx.transactions SET \"timestamp\" = \"timestamp\" + interval '40 days'
              WHERE tx_hash IN (SELECT tx_hash FROM arx.transactions ORDER BY tx_hash OFFSET 100 LIMIT 20);
             INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, status)
             SELECT 'ethereum', 'new' || n, n, '2019-01-01', '0x' || lpad(n::text, 40, '0'), NULL, 0.000000000000000001, 'confirmed'
               FROM generate_series(1, 100) AS n",
        )
        .unwrap();
    succeed(&database, &["sync"]);
    assert_eq!(differences(&database), "0");
    // no row trigger sees this
    database.query("TRUNCATE arx.transactions_2018_01").unwrap();
    succeed(&database, &["sync"]);
    assert_eq!(differences(&database), "0");
    database.query("TRUNCATE arx.transactions").unwrap();
    succeed(&database, &["sync"]);
    assert_eq!(database.query("SELECT count(*) FROM arx.hourly_volume").unwrap(), "0");
}

#[test]
fn a_transaction_that_commits_late_is_not_missed() {
    let database = Stack::shared().unwrap().database("movement_late").unwrap();
    let insert = |hash: &str| {
        format!(
            "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value)
             VALUES ('ethereum', '{hash}', 1, '2024-01-01', '0x{:040}', '0x{:040}', 1);",
            1, 2
        )
    };
    let mut late = database.psql().stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut input = late.stdin.take().unwrap();
    writeln!(input, "BEGIN; {}", insert("late")).unwrap();
    let open =
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND datname = current_database()";
    assert!(wait_until(Duration::from_secs(30), || Ok(database.query(open)? == "1")).unwrap());
    database.query(&insert("early")).unwrap();
    succeed(&database, &["sync"]);
    assert_eq!(database.query("SELECT sum(transaction_count) FROM arx.hourly_volume").unwrap(), "1");
    writeln!(input, "COMMIT;").unwrap();
    drop(input);
    assert!(late.wait().unwrap().success());
    succeed(&database, &["sync"]);
    assert_eq!(database.query("SELECT sum(transaction_count) FROM arx.hourly_volume").unwrap(), "2");
}

#[test]
fn a_killed_feed_leaves_neither_gaps_nor_doubles() {
    let database = Stack::shared().unwrap().database("movement_kill").unwrap();
    import_sample(&database);
    for round in 1..=6_u64 {
        let mut feed = database.sidecar().unwrap();
        let mut child =
            feed.arg("sync").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let tries = format!(
            "SELECT coalesce(max(attempt), 0) >= {round} FROM arx.feed_positions WHERE consumer = 'clickhouse'"
        );
        // at its intent, then a little further each time
        wait_until(Duration::from_secs(30), || Ok(database.query(&tries)? == "t" || child.try_wait()?.is_some()))
            .unwrap();
        std::thread::sleep(Duration::from_millis(40 * (round - 1)));
        child.kill().unwrap();
        child.wait().unwrap();
        database
            .query(&format!(
                "UPDATE arx.transactions SET value = value + 1 WHERE block_number % 7 = {round} AND block_number % 3 = 0;
                 DELETE FROM arx.transactions WHERE block_number % 101 = {round}"
            ))
            .unwrap();
    }
    succeed(&database, &["sync"]);
    assert_eq!(differences(&database), "0");
}

#[test]
fn an_import_may_be_repeated_and_bad_lines_are_told_apart() {
    let database = Stack::shared().unwrap().database("movement_import").unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("etl.csv");
    let good = |n: usize| format!("0x{n:064x},{n},0x{:040x},0x{:040x},1000000000000000000,1700000000\n", n, n + 1);
    let header = "hash,block_number,from_address,to_address,value,block_timestamp\n";
    let text = format!(
        "{header}{}{}0xbad,2,0xnotanaddress,,5,1700000000\n0xneg,3,0x{:040x},,-5,1700000000\nshort,line\n{}",
        good(1),
        good(2),
        7,
        good(3)
    );
    std::fs::write(&file, text).unwrap();
    let rejects = scratch.path().join("etl.rejects");
    let (file, rejects) = (file.to_str().unwrap(), rejects.to_str().unwrap());
    for flags in [&[][..], &["--again"][..]] {
        let arguments = [&["import", "transactions", file, "--rejects", rejects], flags].concat();
        succeed(&database, &arguments);
        assert_eq!(
            database.query("SELECT count(*), sum(value) FROM arx.transactions").unwrap(),
            "3|3.000000000000000000"
        );
    }
    let told = std::fs::read_to_string(rejects).unwrap();
    let lines: Vec<&str> = told.lines().filter_map(|line| line.split('\t').next()).collect();
    assert_eq!(lines, ["4", "5", "6"], "{told}");
    assert!(told.contains("0xnotanaddress") && told.contains("-5"), "{told}");

    let strict = sidecar(&database, &["import", "transactions", file, "--again", "--strict"]);
    assert_eq!(strict.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&strict.stderr).contains("line 4"), "{strict:?}");
    let unknown = sidecar(&database, &["import", "transactions", file, "--network", "nowhere"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("nowhere"), "{unknown:?}");
    let empty = scratch.path().join("empty.csv");
    std::fs::write(&empty, "").unwrap();
    let nothing = sidecar(&database, &["import", "transactions", empty.to_str().unwrap()]);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("empty"), "{nothing:?}");
    let usage = sidecar(&database, &["import", "no-such-kind"]);
    assert_eq!(usage.status.code(), Some(2));
}

#[test]
fn profiles_come_from_the_cache_and_annotations_reach_postgresql() {
    let database = Stack::shared().unwrap().database("movement_profile").unwrap();
    let (wallet, peer) = (format!("0x{:040x}", 0xabc), format!("0x{:040x}", 0xdef));
    database
        .query(&format!(
            "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value)
             VALUES ('ethereum', 't1', 1, '2024-01-01', '{wallet}', '{peer}', 2);
             SELECT arx.refresh_wallet_profiles()"
        ))
        .unwrap();
    database.query("CALL arx.refresh_risk_scores()").unwrap();
    let first = succeed(&database, &["profile", &wallet, "--json"]);
    let second = succeed(&database, &["profile", &wallet, "--json"]);
    assert!(first.contains("database"), "{first}");
    assert!(second.contains("cache"), "{second}");
    succeed(&database, &["annotate", &wallet, "{\"case\": 42}"]);
    let mut daemon = database.sidecar().unwrap();
    let mut daemon =
        daemon.arg("run").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let stored =
        format!("SELECT analytics_profile ->> 'case' FROM arx.wallet_profiles WHERE wallet_address = '{wallet}'");
    let arrived = wait_until(Duration::from_secs(60), || Ok(database.query(&stored)? == "42"));
    run(Command::new("kill").args(["-TERM", &daemon.id().to_string()])).unwrap();
    assert!(daemon.wait().unwrap().success(), "the daemon did not stop gracefully");
    assert!(arrived.unwrap(), "the annotation did not arrive");
    let bad = sidecar(&database, &["annotate", &wallet, "not json"]);
    assert_ne!(bad.status.code(), Some(0));
    let malformed = sidecar(&database, &["profile", "0x12"]);
    assert_eq!(malformed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&malformed.stderr).contains("0x12"), "{malformed:?}");
}

#[test]
fn servers_that_are_down_are_named() {
    let database = Stack::shared().unwrap().database("movement_down").unwrap();
    let refused = database
        .sidecar()
        .unwrap()
        .env("ARX_POSTGRES_URL", "host=/nonexistent dbname=postgres user=postgres")
        .arg("status")
        .output()
        .unwrap();
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("PostgreSQL")
            || String::from_utf8_lossy(&refused.stdout).contains("PostgreSQL"),
        "{refused:?}"
    );
    let bare = Stack::shared().unwrap().bare_database("movement_bare").unwrap();
    let missing = sidecar(&bare, &["sync"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("CREATE EXTENSION arx"), "{missing:?}");
}
