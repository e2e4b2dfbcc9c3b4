//! Whatever only reads answers on a hot standby as on its primary; whatever writes says that it cannot.

// helpers of tests fail as tests do
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use arx_stack::account::Account;
use arx_stack::process::{run, wait_until};
use arx_stack::{Database, Stack, StackOptions};

const READS: [&str; 33] = [
    "SELECT target, depth FROM arx.wallet_connections('a', 'testnet')",
    "SELECT depth, wallets, total_value FROM arx.wallet_reach('c', 'testnet', direction => 'in')",
    "SELECT step, from_address, tx_hashes FROM arx.shortest_path('a', 'c', 'testnet')",
    "SELECT arx.wallet_graph_dot('b', 'testnet')",
    "SELECT hop, to_address, tx_hash, tainted_amount FROM arx.trace_funds('a', 'testnet')",
    "SELECT address, ended_at, amount FROM arx.trace_summary('c', 'testnet', direction => 'backward')",
    "SELECT direction, exposure, category, value, tx_hashes FROM arx.wallet_exposure('b', 'testnet')",
    "SELECT finding_id, wallets FROM arx.detect_patterns('cycle', '7 days', 'testnet')",
    "SELECT cluster, members FROM arx.wallet_clusters('testnet', 'weak')",
    "SELECT count(*) FROM arx.cluster_merges('testnet', 'funding')",
    "SELECT count(*) FROM arx.cluster_labels('testnet')",
    "SELECT rank, wallet, round(score::numeric, 9) FROM arx.wallet_centrality('testnet')",
    "SELECT address, illicit_share_in FROM arx.screen_wallets('{a,b,c}', 'testnet')",
    "SELECT count(*) FROM arx.verify_graph() WHERE NOT equal",
    "SELECT score, state, factors FROM arx.wallet_risk('b', 'testnet')",
    "SELECT * FROM arx.risk_factors('a', 'testnet')",
    "SELECT tx_hash FROM arx.wallet_history('b', 'testnet')",
    "SELECT action, partition FROM arx.partition_plan('arx.transactions')",
    "SELECT wallet_address, volume_rank FROM arx.wallet_rankings ORDER BY 1",
    "SELECT partition FROM arx.partition_status ORDER BY 1",
    "SELECT index_name FROM arx.index_maintenance_plan()",
    "SELECT arx.registered_network('ETH'), arx.normalize_address('0x00000000000000000000000000000000000000AA', 'ETH')",
    "SELECT count(*) FROM arx.changed_transactions('1:1:')",
    "SELECT count(*) FROM arx.changed_labels('1:1:')",
    "SELECT address, score, state FROM arx.score_wallets('{a,b,c}', 'testnet') ORDER BY address",
    "SELECT band, state, wallets, mean_score FROM arx.risk_distribution('testnet')",
    "SELECT feature, value FROM arx.wallet_features('b', 'testnet')",
    "SELECT address, features FROM arx.feature_vectors('testnet', as_of => '2024-01-01 12:00') ORDER BY address",
    "SELECT count(*) FROM arx.risk_features()",
    "SELECT arx.risk_basis(), arx.active_risk_model()",
    "SELECT arx.wallets_near('testnet', '{a}', '{c}') AS wallet ORDER BY wallet",
    "SELECT score, state FROM arx.risk_history('a', 'testnet')",
    "SELECT version, state FROM arx.risk_models",
];

#[test]
fn a_hot_standby_answers_what_the_primary_answers() {
    let stack = Stack::start(&StackOptions::default()).unwrap();
    let primary = stack.database("standby").unwrap();
    primary
        .query(
            "INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST');
             INSERT INTO arx.address_labels (network, address, category, severity, source) VALUES ('testnet', 'a', 'scam', 'high', 'x');
             INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value)
             VALUES ('testnet', 't1', 1, '2024-01-01', 'a', 'b', 1), ('testnet', 't2', 2, '2024-01-02', 'b', 'c', 2);
             SELECT arx.refresh_wallet_profiles()",
        )
        .unwrap();
    primary.query("CALL arx.refresh_risk_scores()").unwrap();
    primary.query("SELECT outcome FROM arx.refresh_graph()").unwrap();

    let account = Account::current().unwrap();
    let (data, socket) = (stack.folder().join("standby"), stack.folder().join("standby-run"));
    account.create_folder(&data).unwrap();
    account.create_folder(&socket).unwrap();
    let program = |name: &str| account.command(stack.cluster().program(name).get_program());
    let host = stack.cluster().host();
    let mut copy = program("pg_basebackup");
    run(copy.arg("-h").arg(host).args(["-U", "postgres", "-R", "--no-sync", "-c", "fast", "-D"]).arg(&data)).unwrap();
    // the graph's files are no part of a backup
    assert!(stack.folder().join("pg/data/pgsql_tmp_arx").exists() && !data.join("pgsql_tmp_arx").exists());
    let mut server = program("postgres");
    server.arg("-D").arg(&data).args(["-c", &format!("unix_socket_directories={}", socket.display())]);
    let pid = stack.start_server("standby", &server).unwrap();
    let ask = |sql: &str| {
        let mut psql = stack.cluster().program("psql");
        psql.env("PGHOST", &socket).env("PGDATABASE", primary.name());
        run(psql.args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql])).map(|text| text.trim_end().to_owned())
    };
    let ready = wait_until(Duration::from_secs(60), || {
        assert!(stack.ended(pid).is_none(), "the standby ended");
        Ok(ask("SELECT pg_is_in_recovery()").is_ok_and(|answer| answer == "t"))
    });
    assert!(ready.unwrap(), "the standby did not answer");

    for sql in READS {
        assert_eq!(ask(sql).unwrap(), primary.query(sql).unwrap(), "{sql}");
    }
    assert_eq!(ask("SELECT replication_lag_seconds >= 0 FROM arx.performance_dashboard").unwrap(), "t");
    assert_eq!(ask("SELECT count(*) >= 0 FROM arx.check_performance_alerts()").unwrap(), "t");
    let refused = ask("SELECT arx.refresh_wallet_profiles()").unwrap_err().to_string();
    assert!(refused.contains("read-only transaction"), "{refused}");

    feed_from_the_standby(&primary, &socket, &ask);

    // what arrives after the standby's file was built is laid over; a file of another timeline is not used
    let count = "SELECT sum(wallets), sum(total_value) FROM arx.wallet_reach('a', 'testnet', 5)";
    primary.query(&insert("t3", "c", "d")).unwrap();
    let caught_up = wait_until(Duration::from_secs(60), || Ok(ask(count)? == primary.query(count)?)).unwrap();
    assert!(caught_up, "the standby does not see the new row: {:?}", ask(count));
    let refreshed = "SELECT outcome, transfers FROM arx.refresh_graph()";
    assert_eq!(ask(refreshed).unwrap(), "merged|3");
    assert_eq!(ask("SELECT pg_promote()").unwrap(), "t");
    primary.query(&insert("lost", "d", "x")).unwrap();
    ask(&insert("t4", "d", "e")).unwrap();
    assert_eq!(ask(count).unwrap(), "5|6.000000000000000000");
    assert_eq!(ask("SELECT count(*) FROM arx.verify_graph() WHERE NOT equal").unwrap(), "0");
}

fn insert(hash: &str, from: &str, to: &str) -> String {
    format!(
        "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value)
         VALUES ('testnet', '{hash}', 3, '2024-01-03', '{from}', '{to}', 1.5)"
    )
}

/// ClickHouse is fed from what the standby shows: a transaction that began before others and commits after them is not missed.
fn feed_from_the_standby(primary: &Database<'_>, socket: &Path, ask: &dyn Fn(&str) -> anyhow::Result<String>) {
    let read_url = format!("host={} port=5432 user=postgres dbname={}", socket.display(), primary.name());
    let sidecar = |arguments: &[&str]| {
        let mut command = primary.sidecar().unwrap();
        run(command.env("ARX_POSTGRES_READ_URL", &read_url).args(arguments)).unwrap()
    };
    let fed = "SELECT COALESCE(sum(transaction_count), 0) FROM arx.hourly_volume WHERE network = 'feed'";
    let insert = |hash: &str| insert(hash, "f", "g").replace("'testnet'", "'feed'");
    let seen = |sql: &str| {
        let seen = wait_until(Duration::from_secs(60), || Ok(ask(sql)? == primary.query(sql)?));
        assert!(seen.unwrap(), "the standby does not see what the primary sees: {sql}");
    };
    let count = "SELECT count(*) FROM arx.transactions";
    let mut late = primary.psql().stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut input = late.stdin.take().unwrap();
    writeln!(input, "BEGIN; {};", insert("late")).unwrap();
    let open =
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND datname = current_database()";
    assert!(wait_until(Duration::from_secs(30), || Ok(primary.query(open)? == "1")).unwrap());
    primary.query(&insert("early")).unwrap();
    seen(count);
    sidecar(&["sync"]);
    writeln!(input, "COMMIT;").unwrap();
    drop(input);
    assert!(late.wait().unwrap().success());
    primary.query("DELETE FROM arx.transactions WHERE tx_hash = 'early'").unwrap();
    primary.query(&insert("third")).unwrap();
    seen(count);
    sidecar(&["sync"]);
    assert_eq!(primary.query(fed).unwrap(), "2");
    seen("SELECT position::text FROM arx.feed_positions WHERE consumer = 'clickhouse'");
    let verified = sidecar(&["verify"]);
    assert!(verified.contains("both sides are the same") && !verified.contains("left out"), "{verified}");
    primary.query("DELETE FROM arx.transactions WHERE network = 'feed'").unwrap();
    seen(count);
}
