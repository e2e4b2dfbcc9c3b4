//! `arx.slow_queries()` over the real pg_stat_statements, which has to be loaded with the server.

use arx_stack::{Stack, StackOptions};

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
