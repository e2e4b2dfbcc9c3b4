//! From a file to PostgreSQL, to ClickHouse and back, with real servers: every side holds the same
//! data.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use arx_stack::clickhouse::ClickHouse;
use arx_stack::process::{run, wait_until};
use arx_stack::{Database, Stack};
use arx_tests::fixtures::{TESTNET, import_sample};

/// Volumes computed by PostgreSQL.
const EXPECTED: &str = "SELECT network, date_trunc('hour', \"timestamp\", 'UTC') AS hour, count(*) AS n,
    coalesce(sum(value) FILTER (WHERE status <> 'failed'), 0) AS volume, count(DISTINCT from_address) AS senders,
    count(DISTINCT to_address) AS receivers FROM arx.transactions GROUP BY 1, 2";
/// Volumes that the sidecar has written back.
const WRITTEN: &str =
    "SELECT network, hour, transaction_count, total_volume, unique_senders, unique_receivers FROM arx.hourly_volume";

/// Returns the number of rows that differ between both.
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
    // TRUNCATE fires no row trigger.
    database.query("TRUNCATE arx.transactions_2018_01").unwrap();
    assert!(succeed(&database, &["sync"]).contains("fed: 0 rows, 0 tombstones, 1 ranges of partitions reloaded"));
    assert_eq!(differences(&database), "0");
    database.query("TRUNCATE arx.transactions").unwrap();
    succeed(&database, &["sync"]);
    assert_eq!(database.query("SELECT count(*) FROM arx.hourly_volume").unwrap(), "0");
}

#[test]
fn partitions_that_come_and_go_cost_clickhouse_their_own_rows() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("movement_ranges").unwrap();
    let clickhouse = ClickHouse::start(stack, &database).unwrap();
    database.query("SELECT arx.ensure_partitions('arx.transactions', '2024-03-01', '2024-06-30')").unwrap();
    database.query("SELECT arx.ensure_partitions('arx.internal_transfers', '2024-03-01', '2024-06-30')").unwrap();
    database.query("SELECT arx.ensure_partitions('arx.token_transfers', '2024-03-01', '2024-06-30')").unwrap();
    let rows = |prefix: &str, month: &str| {
        format!(
            "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value)
             SELECT 'ethereum', '{prefix}' || n, n, timestamptz '{month}' + n * interval '1 hour', 'a', 'b' || n % 3, n
               FROM generate_series(1, 50) AS n;
             INSERT INTO arx.internal_transfers
                 (network, tx_hash, position, is_ordered, block_number, \"timestamp\", from_address, to_address, value, kind)
             SELECT 'ethereum', '{prefix}' || n, 0, true, n, timestamptz '{month}' + n * interval '1 hour', 'b', 'c', 1, 'call'
               FROM generate_series(1, 50) AS n;
             INSERT INTO arx.token_transfers
                 (network, tx_hash, log_index, block_number, \"timestamp\", token_address, from_address, to_address, amount)
             SELECT 'ethereum', '{prefix}' || n, 0, n, timestamptz '{month}' + n * interval '1 hour', 'token', 'a', 'b', 5
               FROM generate_series(1, 50) AS n;"
        )
    };
    for (prefix, month) in [("p", "2024-03-01"), ("q", "2024-04-01"), ("r", "2024-05-01")] {
        database.query(&rows(prefix, month)).unwrap();
    }
    assert!(succeed(&database, &["sync"]).contains("loaded everything"));
    let held = |expected: &str| {
        let counts = "SELECT countIf(leg = 0), countIf(leg > 0), sum(length(token_transfers.log_index))
                        FROM arx.transaction_events FINAL";
        assert_eq!(clickhouse.query(counts).unwrap(), expected);
        let verified = succeed(&database, &["verify"]);
        assert!(verified.contains("both sides are the same"), "{verified}");
    };
    held("150\t150\t150");
    let ranges = |statements: &str, expected: &str| {
        database.query(statements).unwrap();
        // Hours of these partitions are changing, the others are the same.
        assert!(sidecar(&database, &["verify"]).status.success());
        let report = succeed(&database, &["sync"]);
        assert!(report.contains(expected), "{statements}: {report}");
    };
    ranges(
        "ALTER TABLE arx.transactions DETACH PARTITION arx.transactions_2024_04",
        "fed: 0 rows, 0 tombstones, 1 ranges",
    );
    held("100\t150\t100");
    // Rows of another month in the same pass.
    let statements = format!(
        "ALTER TABLE arx.internal_transfers DETACH PARTITION arx.internal_transfers_2024_03;
         TRUNCATE arx.token_transfers_2024_05; {}",
        rows("s", "2024-06-01")
    );
    ranges(&statements, "fed: 150 rows, 0 tombstones, 2 ranges");
    held("150\t150\t100");
    // Attached again with a change of a row, an event of its own each.
    ranges(
        "UPDATE arx.transactions_2024_04 SET value = value + 1 WHERE tx_hash = 'q7';
         ALTER TABLE arx.transactions ATTACH PARTITION arx.transactions_2024_04
               FOR VALUES FROM ('2024-04-01') TO ('2024-05-01');
         ALTER TABLE arx.internal_transfers ATTACH PARTITION arx.internal_transfers_2024_03
               FOR VALUES FROM ('2024-03-01') TO ('2024-04-01');
         DROP TABLE arx.transactions_2024_05",
        "2 ranges",
    );
    held("150\t200\t150");
    // Tables without a range of times.
    database.query("TRUNCATE arx.transactions, arx.internal_transfers, arx.token_transfers").unwrap();
    let refused = sidecar(&database, &["verify"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("loads everything again"), "{refused:?}");
    assert!(succeed(&database, &["sync"]).contains("loaded everything: 0 rows"));
    held("0\t0\t0");
}

#[test]
fn a_partition_that_maintenance_detached_comes_back_in_graph_and_clickhouse() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("movement_attach").unwrap();
    let clickhouse = ClickHouse::start(stack, &database).unwrap();
    database
        .query(&format!(
            "{TESTNET} SELECT arx.ensure_partitions('arx.transactions', '2024-03-01', '2024-04-30');
             INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value)
             SELECT 'testnet', 'm' || n, n, timestamptz '2024-03-01' + n * interval '1 day', 'w' || n, 'w' || n + 1, 1
               FROM generate_series(1, 50) AS n"
        ))
        .unwrap();
    database.query("SELECT arx.refresh_graph()").unwrap();
    assert!(succeed(&database, &["sync"]).contains("loaded everything: 50 rows"));
    let reach = "SELECT coalesce(sum(wallets), 0) FROM arx.wallet_reach('w1', 'testnet', 9)";
    let held = |rows: &str| {
        assert_eq!(clickhouse.query("SELECT count() FROM arx.transaction_events FINAL").unwrap(), rows);
        assert_eq!(database.query("SELECT count(*) FROM arx.verify_graph() WHERE NOT equal").unwrap(), "0");
        assert!(succeed(&database, &["verify"]).contains("both sides are the same"));
        database.query(reach).unwrap()
    };
    assert_eq!(held("50"), "10");
    database
        .query(
            "SELECT FROM arx.manage_partitions('arx.transactions', '1 month', retention => '12 months');
             SELECT FROM arx.run_partition_maintenance('arx.transactions')",
        )
        .unwrap();
    let detached = "SELECT count(*) FROM arx.partition_events WHERE action = 'detach' AND outcome = 'done'";
    assert_eq!(database.query(detached).unwrap(), "2");
    succeed(&database, &["sync"]);
    assert_eq!(held("0"), "0");
    for partition in ["arx.transactions_2024_04", "arx.transactions_2024_03"] {
        database.query(&format!("SELECT arx.attach_partition('{partition}')")).unwrap();
        succeed(&database, &["sync"]);
    }
    assert_eq!(held("50"), "10");
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
fn a_killed_feed_leaves_neither_gaps_nor_duplicates() {
    let database = Stack::shared().unwrap().database("movement_kill").unwrap();
    import_sample(&database);
    for round in 1..=6_u64 {
        let mut feed = database.sidecar().unwrap();
        let mut child =
            feed.arg("sync").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let has_begun = format!(
            "SELECT coalesce(max(attempt), 0) >= {round} FROM arx.feed_positions WHERE consumer = 'clickhouse'"
        );
        // Kill it when it has recorded its attempt, then a little later each time.
        wait_until(Duration::from_secs(30), || Ok(database.query(&has_begun)? == "t" || child.try_wait()?.is_some()))
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
fn an_import_is_repeatable_and_reports_bad_lines() {
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
        let import = sidecar(&database, &arguments);
        assert_eq!(import.status.code(), Some(2), "not every line was imported: {import:?}");
        assert_eq!(
            database.query("SELECT count(*), sum(value) FROM arx.transactions").unwrap(),
            "3|3.000000000000000000"
        );
    }
    let rejected = std::fs::read_to_string(rejects).unwrap();
    let lines: Vec<&str> = rejected.lines().skip(1).filter_map(|line| line.split('\t').next()).collect();
    assert_eq!(lines, ["4", "5", "6"], "{rejected}");
    assert!(rejected.contains("0xnotanaddress") && rejected.contains("-5"), "{rejected}");

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
    // Without a sidecar that keeps the cache in step, nothing in it is proved to be true.
    for _ in 0..2 {
        let profile = succeed(&database, &["profile", &wallet, "--json"]);
        assert!(profile.contains("\"source\":\"database\""), "{profile}");
    }
    succeed(&database, &["annotate", &wallet, "{\"case\": 42}"]);
    // An accepted annotation is visible before PostgreSQL has it.
    assert!(succeed(&database, &["profile", &wallet]).contains("case: 42"));
    let mut daemon = database.sidecar().unwrap();
    let mut daemon =
        daemon.arg("run").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let cached = || Ok(succeed(&database, &["profile", &wallet, "--json"]).contains("\"source\":\"cache\""));
    let cached = wait_until(Duration::from_secs(60), cached);
    let stored =
        format!("SELECT analytics_profile ->> 'case' FROM arx.wallet_profiles WHERE wallet_address = '{wallet}'");
    let arrived = wait_until(Duration::from_secs(60), || Ok(database.query(&stored)? == "42"));
    run(Command::new("kill").args(["-TERM", &daemon.id().to_string()])).unwrap();
    assert!(daemon.wait().unwrap().success(), "the daemon did not stop gracefully");
    assert!(cached.unwrap(), "the profile was not cached");
    assert!(arrived.unwrap(), "the annotation did not arrive");
    let bad = sidecar(&database, &["annotate", &wallet, "not json"]);
    assert_ne!(bad.status.code(), Some(0));
    let malformed = sidecar(&database, &["profile", "0x12"]);
    assert_eq!(malformed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&malformed.stderr).contains("0x12"), "{malformed:?}");
}

#[test]
fn errors_name_the_server_that_is_down() {
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

/// Returns the statement that inserts transactions of polygon, one an hour.
fn insert(from: u32, count: u32) -> String {
    format!(
        "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, status)
         SELECT 'polygon', 'p' || n, n, timestamptz '2024-03-01' + n * interval '1 hour', 'a' || n % 3, 'b' || n % 5, n, 'confirmed'
           FROM generate_series({from}, {from} + {count} - 1) AS n;"
    )
}

#[test]
fn token_transfers_and_new_columns_are_carried() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("movement_tokens").unwrap();
    let clickhouse = ClickHouse::start(stack, &database).unwrap();
    let transfer = |row: u32, log_index: u32, amount: &str| {
        format!(
            "INSERT INTO arx.token_transfers (network, tx_hash, log_index, block_number, \"timestamp\", token_address, from_address,
                 to_address, amount, value_usd)
             VALUES ('polygon', 'p{row}', {log_index}, {row}, timestamptz '2024-03-01' + {row} * interval '1 hour', 'tok', 'x', 'y', {amount},
                     CASE WHEN {log_index} = 1 THEN 12.34 END);"
        )
    };
    let huge = "115792089237316195423570985008687907853269984665640564039457584007913129639935";
    database.query(&[insert(0, 10), transfer(3, 1, huge), transfer(3, 0, "7")].concat()).unwrap();
    database.query("UPDATE arx.transactions SET metadata = '[1, {\"a\": 2}]' WHERE tx_hash = 'p4'").unwrap();
    database.query("UPDATE arx.transactions SET metadata = '{\"source\": \"x\\u00e4\"}' WHERE tx_hash = 'p5'").unwrap();
    succeed(&database, &["sync"]);
    let held = "SELECT token_transfers.log_index, token_transfers.token, token_transfers.amount, token_transfers.value_usd \
                  FROM arx.transaction_events FINAL WHERE tx_hash = 'p3'";
    assert_eq!(clickhouse.query(held).unwrap(), format!("[0,1]\t['tok','tok']\t[7,{huge}]\t[NULL,12.34]"));
    let metadata = "SELECT metadata.value::String, metadata.source::String FROM arx.transaction_events FINAL \
                     WHERE tx_hash IN ('p4', 'p5') ORDER BY tx_hash";
    let metadata = clickhouse.query(metadata).unwrap();
    assert!(metadata.contains('1') && metadata.contains("xä"), "{metadata}");

    // A transfer that arrives after its transaction, a deleted one, and one without a transaction.
    database.query(&[transfer(6, 2, "9"), transfer(77, 0, "5")].concat()).unwrap();
    database.query("DELETE FROM arx.token_transfers WHERE tx_hash = 'p3' AND log_index = 0").unwrap();
    succeed(&database, &["sync"]);
    assert_eq!(clickhouse.query(held).unwrap(), format!("[1]\t['tok']\t[{huge}]\t[12.34]"));
    let amounts = "SELECT arraySum(token_transfers.amount) FROM arx.transaction_events FINAL WHERE tx_hash = 'p6'";
    assert_eq!(clickhouse.query(amounts).unwrap(), "9");
    let counts = "SELECT sum(transaction_count), sum(total_volume) FROM arx.hourly_volume";
    assert_eq!(clickhouse.query(counts).unwrap(), "10\t45", "transfers change no aggregate of native coins");
    let verified = succeed(&database, &["verify"]);
    assert!(verified.contains("1 token transfers wait for their transaction"), "{verified}");

    database
        .query("ALTER TABLE arx.transactions ADD COLUMN chain_id integer DEFAULT 137, ADD COLUMN \"a note\" text")
        .unwrap();
    database.query("UPDATE arx.transactions SET \"a note\" = 'seen', chain_id = -2 WHERE tx_hash = 'p7'").unwrap();
    succeed(&database, &["sync"]);
    let added = "SELECT chain_id, `a note`, count() FROM arx.transaction_events FINAL GROUP BY ALL ORDER BY ALL";
    assert_eq!(clickhouse.query(added).unwrap(), "-2\tseen\t1\n137\t\\N\t9");
    database.query(&insert(10, 1)).unwrap();
    succeed(&database, &["sync"]);
    assert_eq!(clickhouse.query(added).unwrap(), "-2\tseen\t1\n137\t\\N\t10");
    // A column with another type in ClickHouse is an error.
    // Types that sums and ranges need, and a name that ClickHouse uses itself.
    database
        .query(
            "SET DateStyle = 'German';
             ALTER TABLE arx.transactions ADD COLUMN fee numeric(30,8), ADD COLUMN seen_at timestamptz,
                 ADD COLUMN local timestamp, ADD COLUMN day date, ADD COLUMN version integer,
                 ADD COLUMN doubled numeric(38,18) GENERATED ALWAYS AS (value * 2) STORED;
             UPDATE arx.transactions
                SET fee = -12.5, seen_at = '2024-03-31 03:30+02', local = '2024-01-01', day = '1969-12-31', version = 4
              WHERE tx_hash = 'p7'",
        )
        .unwrap();
    succeed(&database, &["sync"]);
    let typed =
        "SELECT sum(fee), max(toUnixTimestamp64Micro(seen_at)), max(toUnixTimestamp64Micro(local)), min(toInt32(day)),
                        max(pg_version), count(doubled) FROM arx.transaction_events FINAL";
    assert_eq!(clickhouse.query(typed).unwrap(), "-12.5\t1711848600000000\t1704067200000000\t-1\t4\t11");
    database.query("ALTER TABLE arx.transactions ALTER COLUMN chain_id TYPE text").unwrap();
    let failed = sidecar(&database, &["sync"]);
    let error = String::from_utf8_lossy(&failed.stderr);
    assert!(!failed.status.success() && error.contains("chain_id") && error.contains("Nullable(Int32)"), "{error}");
}

/// Volumes with internal transfers, pairs of wallets and activity, as PostgreSQL computes them.
const LEGS: &str = "WITH legs AS (
    SELECT network, \"timestamp\", from_address, to_address, CASE WHEN status = 'failed' THEN 0 ELSE value END AS value, 1 AS n
      FROM arx.transactions
    UNION ALL
    SELECT network, \"timestamp\", from_address, to_address, CASE WHEN succeeded IS FALSE THEN 0 ELSE value END, 0
      FROM arx.internal_transfers)";

/// Compares the aggregates of ClickHouse with the tables of PostgreSQL.
fn assert_legs_are_counted(database: &Database<'_>, clickhouse: &ClickHouse) {
    let plain = |sql: &str| database.query(&format!("{LEGS} {sql}")).unwrap();
    let counted = |sql: &str| clickhouse.query(sql).unwrap().replace('\t', "|");
    let volumes = "extract(epoch FROM date_trunc('hour', \"timestamp\", 'UTC'))::bigint AS hour, sum(n), sum(value)::float8, \
                   count(DISTINCT from_address), count(DISTINCT to_address)";
    assert_eq!(
        counted(
            "SELECT toUnixTimestamp(hour), transaction_count, total_volume::Float64, unique_senders, unique_receivers \
               FROM arx.hourly_volume ORDER BY hour"
        ),
        plain(&format!("SELECT {volumes} FROM legs GROUP BY 1 HAVING sum(n) > 0 OR sum(value) > 0 ORDER BY 1")),
    );
    assert_eq!(
        counted(
            "SELECT from_address, to_address, sum(edge_weight), sum(total_value)::Float64 FROM arx.wallet_edges \
              GROUP BY 1, 2 ORDER BY 1, 2"
        ),
        plain(
            "SELECT from_address, to_address, count(*), sum(value)::float8 FROM legs \
              WHERE from_address IS NOT NULL AND to_address IS NOT NULL GROUP BY 1, 2 \
              ORDER BY from_address COLLATE \"C\", to_address COLLATE \"C\""
        ),
    );
    assert_eq!(
        counted(
            "SELECT wallet, sum(sent_count), sum(received_count), sum(total_sent)::Float64, sum(total_received)::Float64 \
               FROM arx.wallet_activity GROUP BY 1 ORDER BY 1"
        ),
        plain(
            "SELECT wallet, count(*) FILTER (WHERE sent), count(*) FILTER (WHERE NOT sent), \
                    coalesce(sum(value) FILTER (WHERE sent), 0)::float8, coalesce(sum(value) FILTER (WHERE NOT sent), 0)::float8 \
               FROM (SELECT from_address AS wallet, value, true AS sent FROM legs \
                     UNION ALL SELECT to_address, value, false FROM legs) AS w \
              WHERE wallet IS NOT NULL GROUP BY 1 ORDER BY wallet COLLATE \"C\""
        ),
    );
    let verified = succeed(database, &["verify"]);
    assert!(verified.contains("both sides are the same"), "{verified}");
    // The hours that are written back, too.
    assert_eq!(
        database
            .query("SELECT sum(transaction_count), sum(total_volume)::float8, count(*) FROM arx.hourly_volume")
            .unwrap(),
        plain(
            "SELECT sum(h.n), sum(h.value)::float8, count(*) FROM (SELECT sum(n) AS n, sum(value) AS value FROM legs \
              GROUP BY date_trunc('hour', \"timestamp\", 'UTC') HAVING sum(n) > 0 OR sum(value) > 0) AS h"
        )
    );
}

#[test]
fn internal_transfers_are_carried_and_counted() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("movement_internal").unwrap();
    let clickhouse = ClickHouse::start(stack, &database).unwrap();
    let leg = |row: u32, position: u32, from: &str, to: &str, value: &str, succeeded: &str| {
        format!(
            "INSERT INTO arx.internal_transfers (network, tx_hash, position, block_number, \"timestamp\", from_address, to_address,
                 value, kind, succeeded, is_ordered)
             VALUES ('polygon', 'p{row}', {position}, {row}, timestamptz '2024-03-01' + {row} * interval '1 hour', {from}, {to}, {value},
                     'call', {succeeded}, {position} <> 9);"
        )
    };
    // In a first load: with a transaction, of a reward, a burn, one that failed, and one without a
    // transaction.
    let first = [
        insert(0, 10),
        leg(3, 0, "'b1'", "'c1'", "5", "true"),
        leg(3, 1, "'c1'", "'c2'", "4.000000000000000001", "NULL"),
        leg(3, 9, "'c2'", "NULL", "1", "true"),
        leg(4, 0, "'b1'", "'c1'", "70", "false"),
        leg(50, 0, "NULL", "'miner'", "2", "true"),
    ];
    database.query(&first.concat()).unwrap();
    succeed(&database, &["sync"]);
    assert_legs_are_counted(&database, &clickhouse);
    let held = "SELECT leg, kind, is_ordered, from_address, to_address, value, status FROM arx.transaction_events FINAL \
                 WHERE tx_hash IN ('p3', 'p50') ORDER BY tx_hash, leg";
    assert_eq!(
        clickhouse.query(held).unwrap(),
        "0\ttransaction\ttrue\ta0\tb3\t3\tconfirmed\n1\tcall\ttrue\tb1\tc1\t5\tconfirmed\n\
         2\tcall\ttrue\tc1\tc2\t4.000000000000000001\tunknown\n10\tcall\tfalse\tc2\t\\N\t1\tconfirmed\n\
         1\tcall\ttrue\t\tminer\t2\tconfirmed"
    );
    let nested = "SELECT tx_hash, from_address, internal_transfers.position, internal_transfers.`to`, internal_transfers.value \
                    FROM arx.nested_transactions WHERE tx_hash IN ('p3', 'p50') ORDER BY tx_hash";
    assert_eq!(
        clickhouse.query(nested).unwrap(),
        "p3\ta0\t[0,1,9]\t['c1','c2',NULL]\t[5,4.000000000000000001,1]\np50\t\\N\t[0]\t['miner']\t[2]"
    );
    // In passes: new, changed in key and value, deleted, deleted and written again.
    let changes = [
        leg(5, 0, "'b2'", "'c3'", "8", "true"),
        insert(20, 3),
        leg(21, 0, "'miner'", "'c1'", "1", "true"),
        "UPDATE arx.internal_transfers SET from_address = 'd1', succeeded = true WHERE tx_hash = 'p4';".to_owned(),
        "UPDATE arx.internal_transfers SET to_address = 'd2', value = 6 WHERE tx_hash = 'p3' AND position = 0;"
            .to_owned(),
        "UPDATE arx.internal_transfers SET position = 4 WHERE tx_hash = 'p3' AND position = 1;".to_owned(),
        "DELETE FROM arx.internal_transfers WHERE tx_hash = 'p50';".to_owned(),
        "DELETE FROM arx.transactions WHERE tx_hash = 'p3';".to_owned(),
    ];
    database.query(&changes.concat()).unwrap();
    succeed(&database, &["sync"]);
    assert_legs_are_counted(&database, &clickhouse);
    database.query(&leg(50, 0, "NULL", "'miner'", "3", "true")).unwrap();
    database.query("UPDATE arx.transactions SET value = value + 1 WHERE tx_hash = 'p5'").unwrap();
    succeed(&database, &["sync"]);
    assert_legs_are_counted(&database, &clickhouse);
    // One that ClickHouse cannot hold is set aside; the rest goes on.
    database.query("ALTER TABLE arx.internal_transfers DROP CONSTRAINT internal_transfers_value_usd_check").unwrap();
    database.query(&[leg(6, 0, "'b1'", "'c1'", "1", "true"), leg(6, 1, "'c1'", "'c4'", "1", "true")].concat()).unwrap();
    database
        .query("UPDATE arx.internal_transfers SET value_usd = 'NaN' WHERE tx_hash = 'p6' AND position = 1")
        .unwrap();
    succeed(&database, &["sync"]);
    let rejects = "SELECT relation, tx_hash, log_index FROM arx.feed_rejects";
    assert_eq!(database.query(rejects).unwrap(), "internal_transfers|p6|1");
    let held = "SELECT leg FROM arx.transaction_events FINAL WHERE tx_hash = 'p6' ORDER BY leg";
    assert_eq!(clickhouse.query(held).unwrap(), "0\n1");
    assert!(succeed(&database, &["verify"]).contains("both sides are the same"));
    database.query("UPDATE arx.internal_transfers SET value_usd = 1.5 WHERE tx_hash = 'p6'").unwrap();
    succeed(&database, &["sync"]);
    assert_eq!(database.query(rejects).unwrap(), "");
    assert_legs_are_counted(&database, &clickhouse);
    // TRUNCATE fires no row trigger.
    database.query("TRUNCATE arx.internal_transfers").unwrap();
    succeed(&database, &["sync"]);
    assert_legs_are_counted(&database, &clickhouse);
}

#[test]
fn verify_finds_and_repairs_changes_that_bypassed_the_feed() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("movement_verify").unwrap();
    let clickhouse = ClickHouse::start(stack, &database).unwrap();
    let unfed = sidecar(&database, &["verify"]);
    assert!(
        !unfed.status.success() && String::from_utf8_lossy(&unfed.stderr).contains("arx-sidecar sync"),
        "{unfed:?}"
    );
    database.query(&insert(0, 200)).unwrap();
    succeed(&database, &["sync"]);
    assert!(succeed(&database, &["verify"]).contains("200 hours compared"));
    // Nothing changed since. A merge changes files, and no content.
    let again = succeed(&database, &["verify"]);
    assert!(again.contains("200 of them are in ClickHouse as they were at the last comparison"), "{again}");
    assert!(again.contains("both sides are the same"), "{again}");
    clickhouse.query("OPTIMIZE TABLE arx.transaction_events FINAL").unwrap();
    assert!(!succeed(&database, &["verify"]).contains("at the last comparison"));
    assert!(!succeed(&database, &["verify", "--full"]).contains("at the last comparison"));
    let status = succeed(&database, &["status"]);
    for line in [
        "ClickHouse is in sync with PostgreSQL",
        "transaction_events: 200 transactions",
        "aggregates: 200 hours, 9 days",
    ] {
        assert!(status.contains(line), "{status}");
    }
    database.query(&insert(200, 1)).unwrap();
    assert!(succeed(&database, &["status"]).contains("transactions wait to be fed"));
    database.query("DELETE FROM arx.transactions WHERE tx_hash = 'p200'").unwrap();
    succeed(&database, &["sync"]);
    clickhouse
        .query("ALTER TABLE arx.transaction_events DELETE WHERE tx_hash = 'p9' SETTINGS mutations_sync = 2")
        .unwrap();
    clickhouse
        .query(
            "INSERT INTO arx.transaction_events (event_time, network, tx_hash, from_address, value, status, version) \
             VALUES ('2024-03-05 00:30:00', 'polygon', 'ghost', 'a', 5, 'confirmed', 1)",
        )
        .unwrap();
    // The same count and sum with another receiver.
    clickhouse
        .query("ALTER TABLE arx.transaction_events UPDATE to_address = 'thief' WHERE tx_hash = 'p50' SETTINGS mutations_sync = 2")
        .unwrap();
    clickhouse.query("TRUNCATE TABLE arx.daily_volume_settled").unwrap();
    let found = sidecar(&database, &["verify"]);
    let report = String::from_utf8_lossy(&found.stdout).into_owned();
    assert_eq!(found.status.code(), Some(1), "{report}");
    for line in ["the number of transactions differs", "200 hours differ"] {
        assert!(report.contains(line), "{report}");
    }
    let narrow = sidecar(&database, &["verify", "--since", "2024-03-03", "--until", "2024-03-03"]);
    assert!(String::from_utf8_lossy(&narrow.stdout).contains("checksums differ"), "{narrow:?}");
    let repaired = succeed(&database, &["verify", "--repair"]);
    assert!(repaired.contains("200 hours differed and were reloaded") && repaired.contains("the same"), "{repaired}");
    assert_eq!(
        clickhouse.query("SELECT count() FROM arx.transaction_events FINAL WHERE tx_hash = 'ghost'").unwrap(),
        "0"
    );
    assert_eq!(clickhouse.query("SELECT sum(edge_weight) FROM arx.wallet_edges").unwrap(), "200");
    assert_eq!(differences(&database), "0");
}

#[test]
fn behaviour_of_wallets_follows_their_transactions_and_the_thresholds() {
    let database = Stack::shared().unwrap().database("movement_behaviour").unwrap();
    let class = |wallet: &str| {
        let query = format!("SELECT class, sent_count FROM arx.wallet_behaviour WHERE wallet_address = '{wallet}'");
        database.query(&query).unwrap()
    };
    let send = |wallet: &str, day: &str, count: u32, value: &str, gas: &str, receivers: u32, usd: &str| {
        let insert = format!(
            "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, value_usd,
                 gas_price, status)
             SELECT 'polygon', '{wallet}' || '{day}' || n, n, timestamptz '{day}' + n * interval '1 second', '{wallet}',
                    'r' || n % {receivers}, {value}, {usd}, {gas}, 'confirmed' FROM generate_series(1, {count}) AS n"
        );
        database.query(&insert).unwrap();
    };
    send("whale", "2024-05-01", 2, "10001", "1", 1, "NULL");
    send("poor", "2024-05-01", 2, "10001", "1", 1, "0.5");
    send("rich", "2024-05-01", 2, "1", "1", 1, "1000001");
    send("trader", "2024-05-10", 101, "1", "60e9", 2, "NULL");
    send("distributor", "2024-05-10", 60, "1", "1", 51, "NULL");
    send("regular", "2024-05-03", 3, "1", "1", 1, "NULL");
    succeed(&database, &["sync"]);
    let classes = |expected: [&str; 6]| {
        for (wallet, expected) in ["whale", "poor", "rich", "trader", "distributor", "regular"].iter().zip(expected) {
            assert_eq!(class(wallet), expected, "{wallet}");
        }
    };
    classes(["whale|2", "regular|2", "whale|2", "trader|101", "distributor|60", "regular|3"]);

    // A later day moves the period, and earlier transactions no longer determine the class.
    send("regular", "2024-06-01", 1, "1", "1", 1, "NULL");
    succeed(&database, &["sync"]);
    classes(["regular|2", "regular|2", "regular|2", "trader|101", "distributor|60", "regular|4"]);
    // A user's thresholds override the shipped ones, and apply to every wallet at once.
    database
        .query(
            "INSERT INTO arx.behaviour_thresholds (network, period_days, whale_mean_coins) VALUES ('polygon', NULL, 0)",
        )
        .unwrap();
    succeed(&database, &["sync"]);
    classes(["whale|2", "regular|2", "whale|2", "whale|101", "whale|60", "whale|4"]);
    database.query("DELETE FROM arx.transactions WHERE from_address = 'whale'").unwrap();
    succeed(&database, &["sync"]);
    assert_eq!(class("whale"), "");
    let idle = succeed(&database, &["sync"]);
    assert!(idle.contains("written back: 0 hours, 0 wallets"), "{idle}");
}

#[test]
fn a_pass_does_not_wait_for_the_write_back() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("movement_beside").unwrap();
    database.query(&insert(1, 10)).unwrap();
    let mut command = database.sidecar().unwrap();
    command.env("ARX_WRITE_BACK_SECONDS", "1").env("ARX_BEHAVIOUR_SECONDS", "1").arg("run");
    let mut daemon = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let within = |shown: &str, expected: &str| {
        wait_until(Duration::from_secs(60), || Ok(database.query(shown)? == expected)).is_ok_and(|arrived| arrived)
    };
    let judged = "SELECT count(*) FROM arx.wallet_behaviour";
    let volumes = "SELECT sum(transaction_count) FROM arx.hourly_volume";
    let first = within(judged, "8") && within(volumes, "10");

    let (held, released) = std::thread::scope(|threads| {
        threads.spawn(|| {
            // Ends with an error, because its session is terminated.
            let lock = "BEGIN; LOCK TABLE arx.wallet_behaviour IN EXCLUSIVE MODE; SELECT pg_sleep(600)";
            assert!(database.query(lock).is_err());
        });
        let locks = "SELECT count(*) FROM pg_locks WHERE relation = 'arx.wallet_behaviour'::regclass AND granted AND mode = 'ExclusiveLock'";
        let is_locked = within(locks, "1");
        database
            .query("INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value) \
                    VALUES ('polygon', 'beside', 1, '2024-03-02', 'late', 'b1', 1)")
            .unwrap();
        // The write-back of wallets waits for the lock. Volumes and later passes do not wait for
        // it.
        let waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'arx.wallet_behaviour'::regclass AND NOT granted";
        let is_waiting = within(waiting, "1");
        database.query(&insert(100, 5)).unwrap();
        let arrived = within(volumes, "16");
        let released = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query LIKE '%pg_sleep(600)%'";
        let released = database.query(released).unwrap() == "t";
        (is_locked && is_waiting && arrived, released)
    });
    let last = within(judged, "9");
    run(Command::new("kill").args(["-TERM", &daemon.id().to_string()])).unwrap();
    assert!(daemon.wait().unwrap().success(), "the daemon did not stop gracefully");
    assert_eq!((first, held, released, last), (true, true, true, true));
}

#[test]
fn daily_statistics_come_from_clickhouse_when_configured() {
    let database = Stack::shared().unwrap().database("movement_days").unwrap();
    import_sample(&database);
    let settings = database.data_folder().join("arx.toml");
    std::fs::write(&settings, "write_back_daily = true\n").unwrap();
    succeed(&database, &["sync", "--config", settings.to_str().unwrap()]);
    let of_day = "SELECT date, network, tx_count, volume, avg_gas::numeric(40, 6), min_gas, max_gas, unique_senders, unique_receivers
                    FROM arx.daily_transaction_stats";
    let sources = "SELECT DISTINCT source FROM arx.daily_transaction_stats";
    assert_eq!(database.query(sources).unwrap(), "clickhouse");
    database.query(&format!("CREATE TABLE before AS {of_day}; SELECT arx.refresh_daily_stats()")).unwrap();
    assert_eq!(database.query(sources).unwrap(), "postgresql");
    let differing = format!(
        "SELECT count(*) FROM ((SELECT * FROM before EXCEPT {of_day}) UNION ALL ({of_day} EXCEPT SELECT * FROM before)) AS d"
    );
    assert_eq!(database.query(&differing).unwrap(), "0");
    assert_eq!(database.query("SELECT count(*) > 500 FROM before").unwrap(), "t");
}

#[test]
fn an_embedded_engine_with_unversioned_tables_is_rebuilt() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("movement_migrate").unwrap();
    let clickhouse = ClickHouse::start(stack, &database).unwrap();
    clickhouse.query("CREATE DATABASE arx").unwrap();
    clickhouse
        .query("CREATE TABLE arx.transaction_events (event_time DateTime64(6), version UInt64) ENGINE = MergeTree ORDER BY version")
        .unwrap();
    let plan = succeed(&database, &["clickhouse", "apply", "--dry-run"]);
    assert!(plan.contains("DROP TABLE IF EXISTS arx.transaction_events"), "{plan}");
    assert!(plan.contains("CREATE MATERIALIZED VIEW"), "{plan}");
    assert_eq!(clickhouse.query("SELECT count() FROM system.tables WHERE database = 'arx'").unwrap(), "1", "a dry run");
    database.query(&insert(0, 5)).unwrap();
    succeed(&database, &["sync"]);
    assert_eq!(clickhouse.query("SELECT count() FROM arx.transaction_events FINAL").unwrap(), "5");
    assert!(succeed(&database, &["clickhouse", "apply"]).contains("nothing to do"));
    clickhouse.query("INSERT INTO arx.schema_versions (version) VALUES (999)").unwrap();
    let newer = sidecar(&database, &["sync"]);
    assert!(!newer.status.success() && String::from_utf8_lossy(&newer.stderr).contains("999"), "{newer:?}");
}

#[test]
fn a_full_load_hides_replaced_rows_before_their_files_are_removed() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("movement_replaced").unwrap();
    let clickhouse = ClickHouse::start(stack, &database).unwrap();
    database.query(&insert(0, 100)).unwrap();
    succeed(&database, &["sync"]);
    // Without merges, nothing is removed in the background.
    clickhouse.query("SYSTEM STOP MERGES").unwrap();
    database.query("DELETE FROM arx.transactions WHERE tx_hash = 'p1'").unwrap();
    database.query("UPDATE arx.transactions SET to_address = 'other' WHERE tx_hash = 'p2'").unwrap();
    succeed(&database, &["sync"]);
    database.query("TRUNCATE arx.transactions").unwrap();
    database.query(&insert(50, 10)).unwrap();
    assert!(succeed(&database, &["sync"]).contains("loaded everything: 10 rows"));
    let held = "SELECT (SELECT count() FROM arx.received_transactions FINAL),
                       (SELECT countIf(isNotNull(to_address)) FROM arx.transaction_events FINAL),
                       (SELECT sum(received_count) FROM arx.wallet_activity), (SELECT sum(transaction_count) FROM arx.daily_volume)";
    assert_eq!(clickhouse.query(held).unwrap(), "10\t10\t10\t10");
    succeed(&database, &["verify"]);
    // The files with the tombstones of earlier passes may be removed first.
    for (table, key) in [("transaction_events", "from_address"), ("received_transactions", "to_address")] {
        let shown = format!(
            "SELECT countIf(NOT is_hidden) FROM
             (SELECT argMax(is_deleted, version) AS is_hidden FROM arx.{table}
               WHERE NOT (is_deleted = 1 AND version < (SELECT 2 * max(floor) FROM arx.aggregate_generations))
               GROUP BY network, {key}, event_time, tx_hash)"
        );
        assert_eq!(clickhouse.query(&shown).unwrap(), "10", "{table}");
    }
}

#[test]
fn tables_of_the_first_version_are_migrated_with_their_rows() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("movement_upgrade").unwrap();
    let clickhouse = ClickHouse::start(stack, &database).unwrap();
    database.query(&insert(0, 100)).unwrap();
    succeed(&database, &["sync"]);
    database.query("DELETE FROM arx.transactions WHERE tx_hash < 'p2'").unwrap();
    succeed(&database, &["sync"]);
    let shown = "SELECT * FROM (SELECT 'hour' AS kind, * FROM arx.hourly_volume
                                UNION ALL SELECT 'day', * REPLACE (toDateTime(day, 'UTC') AS day) FROM arx.daily_volume) ORDER BY ALL";
    let before = clickhouse.query(shown).unwrap();
    assert!(before.lines().count() > 80, "{before}");
    for kind in ["hourly", "daily"] {
        clickhouse.query(&format!("DROP TABLE arx.{kind}_volume_settled SYNC")).unwrap();
    }
    clickhouse.query("TRUNCATE TABLE arx.schema_versions").unwrap();
    clickhouse.query("INSERT INTO arx.schema_versions (version) VALUES (1)").unwrap();
    let report = succeed(&database, &["clickhouse", "apply"]);
    assert!(report.contains("there was version 1"), "{report}");
    assert_eq!(clickhouse.query(shown).unwrap(), before);
    assert!(succeed(&database, &["clickhouse", "apply"]).contains("nothing to do"));
    database.query(&insert(100, 10)).unwrap();
    succeed(&database, &["sync"]);
    assert_eq!(differences(&database), "0");
    succeed(&database, &["verify"]);
}
