//! Every function of `arx_reader` answers on a hot standby as on its primary. Functions that write
//! report that they cannot.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use arx_stack::process::{run, wait_until};
use arx_stack::{Database, Stack, StackOptions};
use arx_tests::fixtures::{insert, insert_into};
use arx_tests::replica::Replica;
use arx_tests::surface::{calls, fill};

const LIMIT: Duration = Duration::from_secs(60);

/// Functions whose result depends on the server. They are called, and not compared.
const SERVER_DEPENDENT: [&str; 10] = [
    "check_performance_alerts",
    "graph_status",
    "health_check",
    "health_facts",
    "misplaced_rows",
    "partition_plan",
    "performance_facts",
    "requested_checkpoints",
    "server_measurements",
    "table_measurements",
];

/// Functions that reject the data of this test, with a part of the error.
const REJECTED: [(&str, &str); 3] = [
    ("evaluate_risk_model", "licit"),
    ("explain_advice", "a superuser may not plan"),
    ("slow_queries", "pg_stat_statements is not installed"),
];

/// Further queries: other arguments, relations, and a function of `arx_operator` that only reads.
const QUERIES: [&str; 10] = [
    "SELECT depth, wallets, total_value FROM arx.wallet_reach('w3', 'testnet', direction => 'in')",
    "SELECT target, depth, reached_at FROM arx.wallet_connections('w1', 'testnet', in_time => true)",
    "SELECT address, ended_at, amount FROM arx.trace_summary('w3', 'testnet', direction => 'backward')",
    "SELECT cluster, members FROM arx.wallet_clusters('testnet', 'weak')",
    "SELECT count(*) FROM arx.cluster_merges('testnet', 'funding')",
    "SELECT address, features FROM arx.feature_vectors('testnet', as_of => '2024-01-01 12:00')",
    "SELECT count(*) FROM arx.verify_graph() WHERE NOT equal",
    "SELECT wallet_address, volume_rank FROM arx.wallet_rankings",
    "SELECT partition FROM arx.partition_status",
    "SELECT version, state FROM arx.risk_models",
];

fn sorted(rows: &str) -> Vec<&str> {
    let mut rows: Vec<&str> = rows.lines().collect();
    rows.sort_unstable();
    rows
}

fn assert_same(standby: &Replica<'_>, primary: &Database<'_>, sql: &str) {
    let (ours, theirs) = (standby.query(sql).unwrap(), primary.query(sql).unwrap());
    assert_eq!(sorted(&ours), sorted(&theirs), "{sql}");
}

#[test]
fn a_hot_standby_answers_like_its_primary() {
    let stack = Stack::start(&StackOptions::default()).unwrap();
    let primary = stack.database("standby").unwrap();
    fill(&primary);

    let standby = Replica::copy(&stack, "standby", &primary, &["-R", "--no-sync"]).unwrap();
    let graph_files = "pgsql_tmp_arx";
    assert!(stack.folder().join("pg/data").join(graph_files).exists());
    assert!(!standby.data().join(graph_files).exists(), "a backup contains no graph files");
    let pid = standby.start(&[]).unwrap();
    let ready = wait_until(LIMIT, || {
        assert!(stack.ended(pid).is_none(), "the standby ended");
        Ok(standby.query("SELECT pg_is_in_recovery()").is_ok_and(|answer| answer == "t"))
    });
    assert!(ready.unwrap(), "the standby did not answer");

    let calls = calls(&primary);
    assert!(calls.len() > 50, "{calls:?}");
    for (function, sql) in &calls {
        if let Some((_, reason)) = REJECTED.iter().find(|(name, _)| name == function) {
            for error in [standby.query(sql).unwrap_err(), primary.query(sql).unwrap_err()] {
                assert!(error.to_string().contains(reason), "{sql}: {error}");
            }
        } else if SERVER_DEPENDENT.contains(&function.as_str()) {
            standby.query(sql).unwrap();
        } else {
            assert_same(&standby, &primary, sql);
        }
    }
    for sql in QUERIES {
        assert_same(&standby, &primary, sql);
    }
    assert_eq!(standby.query("SELECT replication_lag_seconds >= 0 FROM arx.performance_dashboard").unwrap(), "t");
    let error = standby.query("SELECT arx.refresh_wallet_profiles()").unwrap_err().to_string();
    assert!(error.contains("read-only transaction"), "{error}");

    feed_from_the_standby(&primary, &standby);

    // Rows that arrive after the standby built its file are in the overlay. A file of another
    // timeline is not used.
    let reach = "SELECT sum(wallets), sum(total_value) FROM arx.wallet_reach('w1', 'testnet', 5)";
    primary.query(&insert("t3", "w3", "w4", 1.5)).unwrap();
    wait_until_replayed(&standby, &primary, reach);
    assert_eq!(standby.query("SELECT outcome, transfers FROM arx.refresh_graph()").unwrap(), "merged|3");
    assert_eq!(standby.query("SELECT pg_promote()").unwrap(), "t");
    primary.query(&insert("lost", "w4", "x", 1.5)).unwrap();
    standby.query(&insert("t4", "w4", "w5", 1.5)).unwrap();
    assert_eq!(standby.query(reach).unwrap(), "5|6.000000000000000000");
    assert_eq!(standby.query("SELECT count(*) FROM arx.verify_graph() WHERE NOT equal").unwrap(), "0");
}

/// Waits until a query has the same result on both servers.
fn wait_until_replayed(standby: &Replica<'_>, primary: &Database<'_>, sql: &str) {
    let is_replayed = wait_until(LIMIT, || Ok(standby.query(sql)? == primary.query(sql)?));
    assert!(is_replayed.unwrap(), "the standby does not see what the primary sees: {sql}");
}

/// Feeds ClickHouse from the standby. A transaction that began before others and commits after them
/// is not missed.
fn feed_from_the_standby(primary: &Database<'_>, standby: &Replica<'_>) {
    let sidecar = |arguments: &[&str]| {
        let mut command = primary.sidecar().unwrap();
        run(command.env("ARX_POSTGRES_READ_URL", standby.connection()).args(arguments)).unwrap()
    };
    let insert = |hash: &str| insert_into("feed", hash, "f", "g", 1.5);
    let count = "SELECT count(*) FROM arx.transactions";
    let mut late = primary.psql().stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut input = late.stdin.take().unwrap();
    writeln!(input, "BEGIN; {}", insert("late")).unwrap();
    let open =
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND datname = current_database()";
    assert!(wait_until(LIMIT, || Ok(primary.query(open)? == "1")).unwrap());
    primary.query(&insert("early")).unwrap();
    wait_until_replayed(standby, primary, count);
    sidecar(&["sync"]);
    writeln!(input, "COMMIT;").unwrap();
    drop(input);
    assert!(late.wait().unwrap().success());
    primary.query("DELETE FROM arx.transactions WHERE tx_hash = 'early'").unwrap();
    primary.query(&insert("third")).unwrap();
    wait_until_replayed(standby, primary, count);
    sidecar(&["sync"]);
    let fed = "SELECT COALESCE(sum(transaction_count), 0) FROM arx.hourly_volume WHERE network = 'feed'";
    assert_eq!(primary.query(fed).unwrap(), "2");
    let position = "SELECT position::text FROM arx.feed_positions WHERE consumer = 'clickhouse'";
    wait_until_replayed(standby, primary, position);
    let verified = sidecar(&["verify"]);
    assert!(verified.contains("both sides are the same") && !verified.contains("left out"), "{verified}");
    primary.query("DELETE FROM arx.transactions WHERE network = 'feed'").unwrap();
    wait_until_replayed(standby, primary, count);
}
