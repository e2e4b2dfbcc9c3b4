//! `arx.slow_queries()` over the real pg_stat_statements, which has to be loaded with the server,
//! and the settings and hints that the guide names for single slow queries.

use arx_stack::process::run;
use arx_stack::{Stack, StackOptions, programs};
use arx_tests::fixtures::TESTNET;

#[test]
fn slow_queries_are_normalised_counted_and_shown_by_database() {
    let settings = vec!["shared_preload_libraries = 'pg_stat_statements'".to_owned()];
    let stack = Stack::start(&StackOptions { durable: false, settings }).unwrap();
    let database = stack.database("slow").unwrap();
    let missing = database.query("SELECT * FROM arx.slow_queries()").unwrap_err();
    assert!(format!("{missing:#}").contains("pg_stat_statements is not installed"), "{missing:#}");
    // In a schema that is not on the search path.
    database.query("CREATE SCHEMA stats; CREATE EXTENSION pg_stat_statements SCHEMA stats").unwrap();
    database.query("CREATE ROLE analyst; GRANT arx_reader TO analyst").unwrap();
    database.query("SELECT stats.pg_stat_statements_reset()").unwrap();
    for number in 1..=3 {
        database
            .query(&format!("SELECT count(*), pg_sleep(0.02) FROM generate_series(1, {number}) AS slow_one"))
            .unwrap();
        database.query(&format!("SELECT {number} AS fast_one FROM generate_series(1, 5)")).unwrap();
    }
    let shown = |columns: &str, filter: &str| {
        database.query(&format!("SELECT {columns} FROM arx.slow_queries(100) AS s WHERE s.query ~ '{filter}'")).unwrap()
    };
    // Constants are parameters, so three calls are one query.
    assert_eq!(shown("calls, rows, role", "slow_one"), "3|3|postgres");
    assert_eq!(shown("calls, rows", "fast_one"), "3|15");
    assert!(shown("query", "slow_one").contains("generate_series($"), "{}", shown("query", "slow_one"));
    assert_eq!(shown("mean_time >= 20, round((total_time - 3 * mean_time)::numeric, 3)", "slow_one"), "t|0.000");
    assert_eq!(shown("share_percent > 0 AND share_percent <= 100", "slow_one"), "t");
    // The slowest come first; of another database none is shown; min_calls leaves single ones out.
    let order =
        "SELECT bool_and(o.ordered) FROM (SELECT s.mean_time <= lag(s.mean_time, 1, 'infinity') OVER () AS ordered
                                                   FROM arx.slow_queries(100) AS s) AS o";
    assert_eq!(database.query(order).unwrap(), "t");
    let other = stack.database("slow_other").unwrap();
    other.query("SELECT 1 AS elsewhere").unwrap();
    assert_eq!(shown("count(*)", "elsewhere"), "0");
    let seldom = |least: u32| format!("SELECT count(*) FROM arx.slow_queries(100, {least}) AS s WHERE s.calls < 3");
    assert_ne!(database.query(&seldom(1)).unwrap(), "0");
    assert_eq!(database.query(&seldom(3)).unwrap(), "0");
    // A reader sees the numbers, and the texts of others only with pg_read_all_stats.
    let text = "SET ROLE analyst; SELECT count(*) FROM arx.slow_queries(100) AS s WHERE s.query ~ 'slow_one'";
    database.query("GRANT USAGE ON SCHEMA stats TO analyst").unwrap();
    assert_eq!(database.query(text).unwrap().lines().last(), Some("0"));
    database.query("GRANT pg_read_all_stats TO analyst").unwrap();
    assert_eq!(database.query(text).unwrap().lines().last(), Some("1"));
}

/// Two wallets with all transactions of three months: an index does not pay for them.
const ROWS: &str = "
SELECT arx.ensure_partitions('arx.transactions', '2024-01-01', '2024-04-01');
INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value)
SELECT 'testnet', 't' || n, n, timestamptz '2024-01-01' + n * interval '2 hours', 'a' || n % 2, 'b', 1
  FROM generate_series(1, 1000) AS n;
ANALYZE arx.transactions;";

#[test]
fn the_settings_and_the_hint_of_the_guide_choose_the_plan() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("hints").unwrap();
    database.query(TESTNET).unwrap();
    database.query(ROWS).unwrap();
    let query = "SELECT value FROM arx.transactions AS t WHERE t.from_address = 'a1' AND t.network = 'testnet' \
                 AND t.\"timestamp\" < '2024-03-01'";
    let scans = |before: &[&str], hint: &str| {
        let mut psql = database.psql();
        psql.args(before.iter().flat_map(|sql| ["-c", sql]));
        let plan = run(psql.args(["-At", "-c", &format!("EXPLAIN (COSTS off) {hint} {query}")])).unwrap();
        assert!(!plan.contains("2024_03"), "later partitions are not read: {plan}");
        let scans = plan.lines().filter(|line| line.contains(" Scan ")).map(str::trim_start);
        scans.map(|line| line.trim_start_matches("->").trim_start().to_owned()).collect::<Vec<_>>()
    };
    let reads_table = |scans: &[String]| scans.iter().any(|scan| scan.starts_with("Seq Scan on transactions_2024"));
    let reads_index = |scans: &[String]| {
        !reads_table(scans)
            && scans.iter().filter(|scan| scan.contains("Index Scan") && scan.contains("from_addr")).count() >= 2
    };
    let plain = scans(&[], "");
    assert!(reads_table(&plain), "{plain:?}");
    let set = scans(&["BEGIN", "SET LOCAL enable_seqscan = off"], "");
    assert!(reads_index(&set), "{set:?}");

    // Debian has pg_hint_plan for PostgreSQL 17 and later.
    let guide = std::fs::read_to_string(programs::workspace().join("docs/operations.md")).unwrap();
    let start = guide.find("/*+ ").expect("the guide has a hint");
    let hint = &guide[start..][..guide[start..].find("*/").unwrap() + 2];
    let version: u32 = database.query("SHOW server_version_num").unwrap().parse().unwrap();
    if version >= 170_000 {
        let hinted = scans(&["LOAD 'pg_hint_plan'"], hint);
        assert!(reads_index(&hinted), "{hint}: {hinted:?}");
    } else {
        // Without the library, it is a comment.
        assert_eq!(scans(&[], hint), plain);
    }
}
