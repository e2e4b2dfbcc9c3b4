//! Rows and commands of others: stamps that rows bring along, publishers, and DDL on tables that
//! are not ours.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use arx_stack::{Database, Stack, StackOptions};

const ROWS: &str = "INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST');
    SELECT arx.ensure_partitions('arx.transactions', '2024-01-01', '2024-02-15');
    INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, status)
    SELECT 'testnet', 'a' || n, n, '2024-01-01'::timestamptz + n * interval '1 hour', 'hub', 'w' || n % 7, 1, 'confirmed'
      FROM generate_series(1, 50) AS n;";

/// Plain SQL, the graph, the profile and the statistics agree on the rows of a wallet.
fn assert_agree(database: &Database<'_>, rows: usize) {
    database.query("SELECT arx.refresh_wallet_profiles(), arx.refresh_daily_stats()").unwrap();
    let agree = database
        .query(
            "SELECT (SELECT count(*) FROM arx.transactions WHERE from_address = 'hub'),
                    (SELECT transfers FROM arx.wallet_reach('hub', 'testnet', 1) WHERE depth = 1),
                    (SELECT transaction_count FROM arx.wallet_profiles WHERE wallet_address = 'hub'),
                    (SELECT sum(tx_count) FROM arx.daily_transaction_stats)",
        )
        .unwrap();
    assert_eq!(agree, format!("{rows}|{rows}|{rows}|{rows}"));
    assert_eq!(database.query("SELECT count(*) FROM arx.verify_graph() WHERE NOT equal").unwrap(), "0");
    assert_ne!(database.query("SELECT outcome FROM arx.refresh_graph()").unwrap(), "built");
    assert_eq!(database.query("SELECT count(*) FROM arx.verify_graph() WHERE NOT equal").unwrap(), "0");
}

#[test]
fn a_row_counts_from_when_it_arrives_whatever_stamp_it_brings() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("strangers_stamps").unwrap();
    database.query(ROWS).unwrap();
    database
        .query(
            "CREATE TABLE public.staging (LIKE arx.transactions INCLUDING ALL);
             INSERT INTO public.staging (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, status)
             SELECT 'testnet', 's' || n, n, '2024-01-20'::timestamptz + n * interval '1 minute', 'hub', 'w1', 2, 'confirmed'
               FROM generate_series(1, 5) AS n",
        )
        .unwrap();
    assert_agree(&database, 50);
    // Every column is copied, the stamp included.
    database.query("INSERT INTO arx.transactions SELECT * FROM public.staging").unwrap();
    assert_agree(&database, 55);
    // Stamps of the past and of the future, by INSERT, by COPY, and under replication.
    for (number, stamp) in ["3", "4000000000"].into_iter().enumerate() {
        let columns = "network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, ingest_xid";
        database
            .query(&format!(
                "INSERT INTO arx.transactions ({columns}) VALUES ('testnet', 'i{number}', 1, '2024-01-21', 'hub', 'w1', 1, '{stamp}')"
            ))
            .unwrap();
        assert_agree(&database, 56 + number * 3);
        let copy = format!(
            "COPY arx.transactions ({columns}) FROM PROGRAM 'echo testnet,c{number},1,2024-01-21,hub,w1,1,{stamp}' CSV"
        );
        database.query(&copy).unwrap();
        assert_agree(&database, 57 + number * 3);
        database
            .query(&format!(
                "SET session_replication_role = replica;
                 INSERT INTO arx.transactions ({columns}) VALUES ('testnet', 'r{number}', 1, '2024-01-21', 'hub', 'w1', 1, '{stamp}')"
            ))
            .unwrap();
        assert_agree(&database, 58 + number * 3);
    }
    database
        .query("SET session_replication_role = replica; DELETE FROM arx.transactions WHERE tx_hash = 'r0'")
        .unwrap();
    assert_agree(&database, 60);
    // A table that comes with its rows, some from another cluster.
    database
        .query(
            "CREATE TABLE public.archive (LIKE arx.transactions INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
             INSERT INTO public.archive SELECT * FROM public.staging;
             UPDATE public.archive SET \"timestamp\" = '2031-01-01', ingest_xid = CASE WHEN tx_hash = 's1' THEN '5000000000' ELSE '3' END::xid8;
             ALTER TABLE arx.transactions ATTACH PARTITION public.archive FOR VALUES FROM ('2031-01-01') TO ('2031-02-01')",
        )
        .unwrap();
    let future = "SELECT count(*) FROM arx.transactions WHERE ingest_xid > pg_current_xact_id()";
    assert_eq!(database.query(future).unwrap(), "0");
    database.query("SELECT outcome FROM arx.refresh_graph()").unwrap();
    assert_agree(&database, 65);
    database.query("UPDATE arx.transactions SET value = 3 WHERE tx_hash = 's1'").unwrap();
    assert_agree(&database, 65);
}

#[test]
fn a_subscriber_sees_what_a_publisher_sends() {
    let stack =
        Stack::start(&StackOptions { settings: vec!["wal_level = logical".to_owned()], durable: false }).unwrap();
    let (source, target) = (stack.database("publisher").unwrap(), stack.database("subscriber").unwrap());
    source.query(ROWS).unwrap();
    source
        .query("CREATE PUBLICATION rows FOR TABLE arx.transactions WITH (publish_via_partition_root = true)")
        .unwrap();
    source.query("SELECT pg_create_logical_replication_slot('rows', 'pgoutput')").unwrap();
    target.query("INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST')").unwrap();
    let connection = source.connection();
    target
        .query(&format!(
            "CREATE SUBSCRIPTION rows CONNECTION '{connection}' PUBLICATION rows WITH (create_slot = false)"
        ))
        .unwrap();
    let wait_for = |rows: &str| {
        let arrived = arx_stack::process::wait_until(std::time::Duration::from_secs(30), || {
            Ok(target.query("SELECT count(*) FROM arx.transactions")? == rows)
        });
        assert!(arrived.unwrap(), "{rows} rows did not arrive");
    };
    wait_for("50");
    assert_agree(&target, 50);
    // It is stamped there before a job runs here, and applied here after it.
    target.query("ALTER SUBSCRIPTION rows DISABLE").unwrap();
    source
        .query(
            "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value)
             VALUES ('testnet', 'late', 99, '2024-01-09', 'hub', 'w1', 1)",
        )
        .unwrap();
    target.query("SELECT pg_current_xact_id()").unwrap();
    assert_agree(&target, 50);
    target.query("ALTER SUBSCRIPTION rows ENABLE").unwrap();
    wait_for("51");
    assert_agree(&target, 51);
    source.query("DELETE FROM arx.transactions WHERE tx_hash = 'a7'").unwrap();
    wait_for("50");
    assert_agree(&target, 50);
    target.query("DROP SUBSCRIPTION rows").unwrap();
}

#[test]
fn only_what_changes_rows_or_columns_is_an_event() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("strangers_events").unwrap();
    database.query(ROWS).unwrap();
    database.query("CREATE ROLE strangers_owner").ok();
    let epoch = || database.query("SELECT arx.current_graph_epoch()").unwrap().parse::<i64>().unwrap();
    let before = epoch();
    for tuning in [
        "ALTER TABLE arx.transactions ALTER COLUMN from_address SET STATISTICS 500",
        "ALTER TABLE arx.transactions_2024_01 SET (autovacuum_vacuum_scale_factor = 0.05, fillfactor = 90)",
        "ALTER TABLE arx.transactions_2024_01 OWNER TO strangers_owner",
        "ALTER TABLE arx.transactions_2024_01 RENAME TO january",
        "CREATE INDEX ON arx.transactions (block_number)",
        "COMMENT ON TABLE arx.transactions IS 'ours'",
        "VACUUM FULL arx.january",
        "CREATE TRIGGER own AFTER INSERT ON arx.transactions FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "ALTER TABLE arx.transactions ENABLE ROW LEVEL SECURITY",
        "CREATE TABLE arx.may PARTITION OF arx.transactions FOR VALUES FROM ('2024-05-01') TO ('2024-06-01')",
        // The trigger of a stranger with the name of ours, and tables with the names of ours.
        "CREATE TEMP TABLE t (x int);
         CREATE TRIGGER arx_raise_epoch BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
         DROP TABLE t",
        "CREATE TABLE public.transactions (\"timestamp\" timestamptz) PARTITION BY RANGE (\"timestamp\");
         CREATE TABLE public.transactions_default PARTITION OF public.transactions DEFAULT;
         TRUNCATE public.transactions; DROP TABLE public.transactions",
    ] {
        database.query(tuning).unwrap();
        assert_eq!(epoch(), before, "{tuning}");
    }
    let mut last = before;
    for event in [
        "TRUNCATE arx.may",
        "ALTER TABLE arx.transactions DETACH PARTITION arx.may",
        "ALTER TABLE arx.transactions ATTACH PARTITION arx.may FOR VALUES FROM ('2024-05-01') TO ('2024-06-01')",
        "TRUNCATE arx.may",
        "DROP TABLE arx.may",
        "ALTER TABLE arx.transactions ADD COLUMN note text",
        "ALTER TABLE arx.transactions DISABLE TRIGGER arx_log_change",
        "ALTER TABLE arx.transactions ENABLE ALWAYS TRIGGER arx_log_change",
        "TRUNCATE arx.transactions",
        "DROP TABLE arx.january",
    ] {
        database.query(event).unwrap();
        assert!(epoch() > last, "{event}");
        last = epoch();
    }
    // A table that is no partition any more is not ours.
    database
        .query(
            "CREATE TABLE arx.june PARTITION OF arx.transactions FOR VALUES FROM ('2024-06-01') TO ('2024-07-01');
             ALTER TABLE arx.transactions DETACH PARTITION arx.june",
        )
        .unwrap();
    last = epoch();
    database.query("TRUNCATE arx.june; DROP TABLE arx.june").unwrap();
    assert_eq!(epoch(), last);
}

#[test]
fn unlogged_partitions_are_refused() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("strangers_unlogged").unwrap();
    database.query(ROWS).unwrap();
    for unlogged in [
        "CREATE UNLOGGED TABLE arx.may PARTITION OF arx.transactions FOR VALUES FROM ('2024-05-01') TO ('2024-06-01')",
        "CREATE UNLOGGED TABLE public.may (LIKE arx.transactions INCLUDING ALL);
         ALTER TABLE arx.transactions ATTACH PARTITION public.may FOR VALUES FROM ('2024-05-01') TO ('2024-06-01')",
        "ALTER TABLE arx.transactions_2024_01 SET UNLOGGED",
    ] {
        let error = database.query(unlogged).unwrap_err().to_string();
        assert!(error.contains("must not be unlogged"), "{error}");
    }
}

#[test]
fn ddl_of_others_neither_waits_for_ours_nor_locks_it() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("strangers_locks").unwrap();
    database.query(ROWS).unwrap();
    let others =
        "BEGIN; CREATE TEMP TABLE t (x int); CREATE TABLE public.own (x int); ALTER TABLE public.own ADD COLUMN y int;
        SELECT count(*) FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation
         WHERE l.pid = pg_backend_pid() AND c.relnamespace = 'arx'::regnamespace AND c.relname <> 'tracked_partitions'
           AND c.relname NOT LIKE 'tracked%';
        ROLLBACK";
    assert_eq!(database.query(others).unwrap(), "0");
    // While a session holds the tables exclusively, strangers go on.
    let mut holder = database.psql().args(["-A", "-t"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut session = holder.stdin.take().unwrap();
    writeln!(session, "BEGIN; LOCK TABLE arx.transactions IN ACCESS EXCLUSIVE MODE; SELECT 'locked';").unwrap();
    let mut answer = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut answer).unwrap();
    assert_eq!(answer.trim(), "locked");
    database.query(&format!("SET statement_timeout = '5s'; {others}")).unwrap();
    drop(session);
    holder.wait().unwrap();
    // And with the schema under another name.
    database
        .query(
            "ALTER SCHEMA arx RENAME TO away; CREATE TABLE public.other (x int); DROP TABLE public.other;
             ALTER SCHEMA away RENAME TO arx",
        )
        .unwrap();
    assert_agree(&database, 50);
}

#[test]
fn the_trigger_functions_lend_no_rights_and_log_no_rows_of_others() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("strangers_triggers").unwrap();
    database.query(ROWS).unwrap();
    database
        .query(
            "CREATE ROLE strangers_operator LOGIN IN ROLE arx_operator;
             CREATE ROLE strangers_tables LOGIN IN ROLE arx_operator;
             GRANT CREATE ON SCHEMA public TO strangers_operator, strangers_tables;
             ALTER TABLE arx.transactions OWNER TO strangers_tables;
             ALTER TABLE arx.transactions_default OWNER TO strangers_tables;
             ALTER TABLE arx.transactions_2024_01 OWNER TO strangers_tables;
             ALTER TABLE arx.transactions_2024_02 OWNER TO strangers_tables",
        )
        .unwrap();
    let as_role = |role: &str, sql: &str| database.query(&format!("SET SESSION AUTHORIZATION {role}; {sql}"));
    // A cast of the operator's own would run where a value is coerced.
    let cast = |role: &str| {
        format!(
            "CREATE TYPE public.t_{role} AS (a int);
             CREATE FUNCTION public.cast_{role}(public.t_{role}) RETURNS text LANGUAGE plpgsql
                 AS 'BEGIN EXECUTE ''ALTER ROLE {role} SUPERUSER''; RETURN ''x''; END';
             CREATE CAST (public.t_{role} AS text) WITH FUNCTION public.cast_{role}(public.t_{role}) AS ASSIGNMENT;"
        )
    };
    as_role("strangers_operator", &cast("strangers_operator")).unwrap();
    for (table, function) in [
        ("forged", "log_label_change()"),
        ("forged", "log_label_meaning()"),
        ("networks", "log_label_meaning()"),
        ("forged", "log_transaction_change('transactions')"),
        ("forged", "log_transaction_change('token_transfers')"),
    ] {
        let refused = as_role(
            "strangers_operator",
            &format!(
                "CREATE TEMP TABLE {table} (network public.t_strangers_operator, address text);
                 CREATE TRIGGER q AFTER UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION arx.{function};
                 INSERT INTO {table} VALUES (row(1)::public.t_strangers_operator, 'a');
                 UPDATE {table} SET address = 'b'"
            ),
        );
        assert!(refused.is_err(), "{table} {function}");
    }
    // A table with the shape of ours is not ours.
    let forged = as_role(
        "strangers_operator",
        "CREATE TEMP TABLE copy (LIKE arx.transactions INCLUDING ALL);
         CREATE TRIGGER q AFTER DELETE ON copy FOR EACH ROW EXECUTE FUNCTION arx.log_transaction_change('transactions');
         INSERT INTO copy SELECT * FROM arx.transactions WHERE tx_hash = 'a3';
         DELETE FROM copy",
    );
    assert!(forged.unwrap_err().to_string().contains("works on the tables of arx alone"));
    assert_agree(&database, 50);
    // The owner of the table may change the type of a column to one with such a cast.
    as_role("strangers_tables", &cast("strangers_tables")).unwrap();
    let altered = as_role(
        "strangers_tables",
        "ALTER TABLE arx.transactions DROP CONSTRAINT transactions_transaction_index_check,
             ALTER transaction_index TYPE public.t_strangers_tables USING row(1)::public.t_strangers_tables;
         DELETE FROM arx.transactions WHERE tx_hash = 'a4'",
    );
    let refused = altered.unwrap_err().to_string();
    assert!(refused.contains("has type"), "{refused}");
    let superusers = "SELECT count(*) FROM pg_roles WHERE rolsuper AND rolname LIKE 'strangers%'";
    assert_eq!(database.query(superusers).unwrap(), "0");
}

#[test]
fn a_trigger_of_a_user_cannot_keep_a_false_stamp() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("strangers_stamping").unwrap();
    database.query(ROWS).unwrap();
    database
        .query(
            "CREATE FUNCTION public.backdate() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.ingest_xid := 3; RETURN NEW; END';
             CREATE TRIGGER zzz BEFORE INSERT ON arx.transactions FOR EACH ROW EXECUTE FUNCTION public.backdate()",
        )
        .unwrap();
    assert_agree(&database, 50);
    let insert =
        "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value)
                  VALUES ('testnet', 'late', 99, '2024-01-09', 'hub', 'w1', 1)";
    database.query(insert).unwrap();
    assert_agree(&database, 51);
    database
        .query("CREATE TRIGGER zzzz BEFORE UPDATE ON arx.transactions FOR EACH ROW EXECUTE FUNCTION public.backdate()")
        .unwrap();
    let refused =
        database.query("UPDATE arx.transactions SET value = 2 WHERE tx_hash = 'late'").unwrap_err().to_string();
    assert!(refused.contains("keeps the stamp of another transaction"), "{refused}");
    assert_agree(&database, 51);
}
