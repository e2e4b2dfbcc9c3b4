//! Rows and commands of others: stamps that rows bring along, publishers, and DDL on tables that
//! are not ours.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use arx_stack::{Database, Stack, StackOptions};
use tokio_postgres::Client;

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
        .query("CREATE PUBLICATION rows FOR TABLE arx.transactions, arx.address_labels WITH (publish_via_partition_root = true)")
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
    // Labels, too: a subscriber checks no foreign keys, and applies TRUNCATE.
    let state = "SELECT risk_state FROM arx.wallet_profiles WHERE wallet_address = 'w1'";
    target.query("CALL arx.refresh_risk_scores()").unwrap();
    assert_ne!(target.query(state).unwrap(), "labelled");
    let labels = |count: &str| {
        let arrived = arx_stack::process::wait_until(std::time::Duration::from_secs(30), || {
            Ok(target.query("SELECT count(*) FROM arx.address_labels")? == count)
        });
        assert!(arrived.unwrap(), "{count} labels did not arrive");
        target.query("CALL arx.refresh_risk_scores()").unwrap();
        target.query(state).unwrap()
    };
    source
        .query(
            "INSERT INTO arx.address_labels (network, address, category, severity, source)
             VALUES ('testnet', 'w1', 'scam', 'high', 'test')",
        )
        .unwrap();
    assert_eq!(labels("1"), "labelled");
    source.query("TRUNCATE arx.address_labels").unwrap();
    assert_ne!(labels("0"), "labelled");
    target.query("DROP SUBSCRIPTION rows").unwrap();
}

/// The scores of all wallets, as sessions compute them.
const SCORES: &str = "SELECT string_agg(concat_ws(' ', s.address, s.score, s.state), ',' ORDER BY s.address)
    FROM arx.score_wallets(ARRAY['hub', 'w0', 'w1', 'w2', 'w3', 'w4', 'w5', 'w6'], 'testnet') AS s";

const LABELS: &str = "INSERT INTO arx.address_labels (network, address, category, severity, source)
    VALUES ('testnet', 'w1', 'scam', 'high', 'test'), ('testnet', 'w2', 'exchange', 'none', 'test');
    CREATE TABLE public.kept AS SELECT * FROM arx.address_labels;";

/// A warm session, a new one and the job agree on the scores, which are returned.
async fn assert_scores(database: &Database<'_>, warm: &Client) -> String {
    let expected = database.query(SCORES).unwrap();
    let of_warm: String = warm.query_one(SCORES, &[]).await.unwrap().get(0);
    assert_eq!(of_warm, expected, "the warm session");
    database.query("CALL arx.refresh_risk_scores()").unwrap();
    let stored =
        "SELECT string_agg(concat_ws(' ', wallet_address, risk_score, risk_state), ',' ORDER BY wallet_address)
                    FROM arx.wallet_profiles";
    assert_eq!(database.query(stored).unwrap(), expected, "the job");
    expected
}

#[tokio::test]
async fn labels_and_overrides_that_change_unseen_are_noticed() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("strangers_labels").unwrap();
    database.query(ROWS).unwrap();
    database.query(LABELS).unwrap();
    let warm = database.connect().await.unwrap();
    let mut last = assert_scores(&database, &warm).await;
    let labels = "arx.address_labels (network, address, category, severity, source)";
    for (number, change) in [
        "TRUNCATE arx.address_labels".to_owned(),
        format!("SET session_replication_role = replica; INSERT INTO {labels} VALUES ('testnet', 'w1', 'scam', 'high', 'a')"),
        "SET session_replication_role = replica; DELETE FROM arx.address_labels".to_owned(),
        // While ARX's triggers were disabled, and with the stamps of another cluster.
        format!(
            "ALTER TABLE arx.address_labels DISABLE TRIGGER ALL; INSERT INTO {labels} VALUES ('testnet', 'w1', 'scam', 'high', 'b');
             UPDATE arx.address_labels SET ingest_xid = '3'; ALTER TABLE arx.address_labels ENABLE TRIGGER ALL"
        ),
        "ALTER TABLE arx.address_labels DISABLE TRIGGER arx_log_change; DELETE FROM arx.address_labels;
         ALTER TABLE arx.address_labels ENABLE ALWAYS TRIGGER arx_log_change"
            .to_owned(),
        format!(
            "ALTER TABLE arx.address_labels DISABLE TRIGGER ALL;
             INSERT INTO {labels} VALUES ('testnet', 'w3', 'scam', 'high', 'c');
             UPDATE arx.address_labels SET ingest_xid = '4000000000'; ALTER TABLE arx.address_labels ENABLE TRIGGER ALL"
        ),
        // Another value of the same type.
        "DROP VIEW arx.current_labels;
         ALTER TABLE arx.address_labels ALTER category TYPE text USING 'exchange';
         SELECT FROM arx.create_tables()"
            .to_owned(),
        // One table from a backup.
        "DROP TABLE arx.address_labels CASCADE; SELECT FROM arx.create_tables();
         INSERT INTO arx.address_labels OVERRIDING SYSTEM VALUE SELECT * FROM public.kept"
            .to_owned(),
        "DROP TABLE arx.address_labels CASCADE; CREATE TABLE arx.address_labels AS SELECT * FROM public.kept WHERE address = 'w2';
         CREATE VIEW arx.current_labels AS SELECT l.*, c.kind FROM arx.address_labels AS l JOIN arx.label_categories AS c USING (category)"
            .to_owned(),
        // A partition of a table that its owner has partitioned.
        "DROP TABLE arx.address_labels CASCADE; DROP VIEW IF EXISTS arx.current_labels;
         CREATE TABLE arx.address_labels (LIKE public.kept) PARTITION BY LIST (network);
         CREATE TABLE arx.labels_default PARTITION OF arx.address_labels DEFAULT;
         ALTER TABLE arx.address_labels ALTER ingest_xid SET DEFAULT pg_current_xact_id();
         SELECT FROM arx.create_tables(); INSERT INTO arx.address_labels SELECT * FROM public.kept WHERE address = 'w1'"
            .to_owned(),
        "UPDATE arx.address_labels SET address = 'w4'".to_owned(),
        "TRUNCATE arx.labels_default".to_owned(),
        "CREATE TABLE arx.moved (LIKE arx.address_labels INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
         INSERT INTO arx.moved SELECT * FROM public.kept;
         ALTER TABLE arx.address_labels ATTACH PARTITION arx.moved FOR VALUES IN ('testnet')"
            .to_owned(),
        "ALTER TABLE arx.address_labels DETACH PARTITION arx.moved".to_owned(),
        "ALTER TABLE arx.address_labels RENAME TO former; ALTER TABLE arx.moved RENAME TO address_labels; SELECT FROM arx.create_tables()"
            .to_owned(),
        // The meaning of categories, and a category that is younger than its labels.
        "SET session_replication_role = replica; UPDATE arx.label_categories SET kind = 'neutral' WHERE category = 'scam'".to_owned(),
        "ALTER TABLE arx.label_categories DISABLE TRIGGER ALL; UPDATE arx.label_categories SET kind = 'illicit' WHERE category = 'scam';
         ALTER TABLE arx.label_categories ENABLE TRIGGER ALL"
            .to_owned(),
        "SET session_replication_role = replica; DELETE FROM arx.label_categories WHERE category = 'scam'".to_owned(),
        "INSERT INTO arx.label_categories (category, kind, severity, description) VALUES ('scam', 'illicit', 'high', '')".to_owned(),
        // Overrides.
        "SELECT arx.override_risk('w5', 'testnet', 12.5, 'reviewed', now() + interval '1 day')".to_owned(),
        "UPDATE arx.risk_overrides SET address = 'w6'".to_owned(),
        "DELETE FROM arx.risk_overrides".to_owned(),
        "ALTER TABLE arx.risk_overrides DISABLE TRIGGER ALL;
         INSERT INTO arx.risk_overrides (network, address, score, reason, expires_at, ingest_xid)
         VALUES ('testnet', 'w5', 7, 'reviewed', now() + interval '1 day', '3');
         ALTER TABLE arx.risk_overrides ENABLE TRIGGER ALL"
            .to_owned(),
        "TRUNCATE arx.risk_overrides".to_owned(),
    ]
    .into_iter()
    .enumerate()
    {
        database.query(&change).unwrap_or_else(|error| panic!("{change}: {error:#}"));
        println!("{number}: {change}");
        let now = assert_scores(&database, &warm).await;
        assert_ne!(now, last, "{change}");
        last = now;
    }
    let future = "SELECT (SELECT count(*) FROM arx.address_labels WHERE ingest_xid > pg_current_xact_id())
                       + (SELECT count(*) FROM arx.risk_overrides WHERE ingest_xid > pg_current_xact_id())";
    assert_eq!(database.query(future).unwrap(), "0");
    // TRUNCATE takes effect for older snapshots as well.
    warm.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await.unwrap();
    database.query("TRUNCATE arx.address_labels").unwrap();
    let cold = database.query(SCORES).unwrap();
    assert_eq!(warm.query_one(SCORES, &[]).await.unwrap().get::<_, String>(0), cold);
    warm.batch_execute("ROLLBACK").await.unwrap();
}

#[tokio::test]
async fn tuning_of_the_tables_of_labels_makes_no_one_start_over() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("strangers_label_events").unwrap();
    database.query(ROWS).unwrap();
    let events = || database.query("SELECT count(*) FROM arx.label_changes WHERE network IS NULL").unwrap();
    let before = events();
    for tuning in [
        "ALTER TABLE arx.address_labels SET (fillfactor = 90)",
        "CREATE INDEX ON arx.address_labels (source)",
        "ALTER TABLE arx.risk_overrides ENABLE ROW LEVEL SECURITY",
        "CREATE TABLE public.address_labels (x int); ALTER TABLE public.address_labels ADD y int; DROP TABLE public.address_labels",
        "VACUUM FULL arx.address_labels",
        "UPDATE arx.networks SET native_decimals = 9 WHERE network = 'testnet'",
    ] {
        database.query(tuning).unwrap();
        assert_eq!(events(), before, "{tuning}");
    }
    let error = database.query("ALTER TABLE arx.address_labels SET UNLOGGED").unwrap_err().to_string();
    assert!(error.contains("must not be unlogged"), "{error}");
}

#[tokio::test]
async fn a_table_without_its_triggers_makes_every_refresh_start_over() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("strangers_unwatched").unwrap();
    database.query(ROWS).unwrap();
    database.query(LABELS).unwrap();
    let warm = database.connect().await.unwrap();
    assert_scores(&database, &warm).await;
    database.query("DROP TRIGGER arx_log_change ON arx.address_labels").unwrap();
    database.query("CALL arx.refresh_risk_scores()").unwrap();
    database.query("DELETE FROM arx.address_labels WHERE address = 'w1'").unwrap();
    let warned = database.psql().args(["-c", "CALL arx.refresh_risk_scores()"]).output().unwrap();
    let warning = String::from_utf8_lossy(&warned.stderr).into_owned();
    assert!(warning.contains("changes of arx.address_labels are not seen"), "{warning}");
    assert!(warning.contains("arx.create_tables()"), "{warning}");
    assert_scores(&database, &warm).await;
    database.query("SELECT FROM arx.create_tables()").unwrap();
    database.query("CALL arx.refresh_risk_scores()").unwrap();
    let quiet = database.psql().args(["-c", "CALL arx.refresh_risk_scores()"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&quiet.stderr).contains("not seen"));
    // The same holds for the tables of transfers.
    assert_agree(&database, 50);
    database
        .query(
            "DROP TRIGGER arx_log_change ON arx.transactions; SELECT arx.refresh_wallet_profiles();
             DELETE FROM arx.transactions WHERE tx_hash = 'a9'",
        )
        .unwrap();
    database.query("SELECT arx.refresh_wallet_profiles()").unwrap();
    let profile = "SELECT transaction_count FROM arx.wallet_profiles WHERE wallet_address = 'hub'";
    assert_eq!(database.query(profile).unwrap(), "49");
}

#[tokio::test]
async fn events_stay_few_and_the_epoch_only_rises() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("strangers_epochs").unwrap();
    database.query(ROWS).unwrap();
    let epoch = || database.query("SELECT arx.current_graph_epoch()").unwrap().parse::<i64>().unwrap();
    let rows = || database.query("SELECT count(*) FROM arx.graph_epoch").unwrap().parse::<i64>().unwrap();
    let row =
        "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value)
               VALUES ('testnet', 'late', 99, '2024-01-09', 'hub', 'w1', 1)";
    let before = epoch();
    for (commands, events) in [
        ("TRUNCATE arx.transactions".to_owned(), 1),
        ("TRUNCATE arx.transactions, arx.token_transfers".to_owned(), 2),
        ("TRUNCATE arx.transactions_2024_01, arx.transactions_2024_02".to_owned(), 2),
        (format!("BEGIN; TRUNCATE arx.transactions; {row}; TRUNCATE arx.transactions_2024_01; COMMIT"), 2),
        (
            "BEGIN; TRUNCATE arx.transactions; SAVEPOINT s; TRUNCATE arx.transactions_2024_01; ROLLBACK TO s; COMMIT"
                .to_owned(),
            1,
        ),
    ] {
        let before = epoch();
        database.query(&commands).unwrap();
        assert_eq!(epoch() - before, events, "{commands}");
    }
    // One commits late, one keeps its snapshot.
    let (late, old) = (database.connect().await.unwrap(), database.connect().await.unwrap());
    late.batch_execute("BEGIN; TRUNCATE arx.token_transfers").await.unwrap();
    let many = format!("DO $$ BEGIN FOR n IN 1..300 LOOP {row}; TRUNCATE arx.transactions_2024_01; END LOOP; END $$");
    database.query(&many).unwrap();
    let all = epoch();
    assert_eq!(all, before + 8 + 300);
    old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await.unwrap();
    let seen = "SELECT arx.current_graph_epoch()";
    assert_eq!(old.query_one(seen, &[]).await.unwrap().get::<_, i64>(0), all);
    assert!(rows() > 300);
    database.query("SELECT arx.refresh_daily_stats(), arx.refresh_wallet_profiles()").unwrap();
    assert_eq!((epoch(), rows()), (all, 100));
    assert_eq!(old.query_one(seen, &[]).await.unwrap().get::<_, i64>(0), all);
    late.batch_execute("COMMIT").await.unwrap();
    assert_eq!(epoch(), all + 1);
    assert_eq!(old.query_one(seen, &[]).await.unwrap().get::<_, i64>(0), all);
    old.batch_execute("COMMIT").await.unwrap();
    // A job of a transaction with one snapshot leaves the rows alone.
    database.query(&many).unwrap();
    old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT arx.refresh_daily_stats(); COMMIT").await.unwrap();
    assert_eq!((epoch(), rows()), (all + 301, 401));
    // The graph is not built again because of it.
    database.query("SELECT outcome FROM arx.refresh_graph()").unwrap();
    database.query("SELECT arx.refresh_daily_stats()").unwrap();
    assert_eq!((epoch(), rows()), (all + 301, 100));
    assert_eq!(database.query("SELECT outcome FROM arx.refresh_graph()").unwrap(), "current");
}

#[test]
fn only_what_changes_rows_or_columns_is_an_event() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("strangers_events").unwrap();
    database.query(ROWS).unwrap();
    database.query("CREATE ROLE strangers_owner IN ROLE arx_operator").ok();
    let epoch = || database.query("SELECT arx.current_graph_epoch()").unwrap().parse::<i64>().unwrap();
    database.query("CREATE FUNCTION arx.own() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'").unwrap();
    let before = epoch();
    for tuning in [
        "SET session_replication_role = replica; CREATE TABLE public.p (x int); ALTER TABLE public.p ADD y int;
         DROP TABLE public.p",
        "CREATE SCHEMA s CREATE TABLE t (x int); ALTER TABLE s.t ALTER x TYPE bigint USING x * 2; DROP SCHEMA s CASCADE",
        "CREATE TRIGGER own_too AFTER UPDATE ON arx.transactions EXECUTE FUNCTION arx.own();
         ALTER TABLE arx.transactions REPLICA IDENTITY DEFAULT",
        "DROP TRIGGER own_too ON arx.transactions",
        "ALTER TABLE arx.transactions ALTER COLUMN from_address SET STATISTICS 500",
        "ALTER TABLE arx.transactions_2024_01 SET (autovacuum_vacuum_scale_factor = 0.05, fillfactor = 90)",
        "ALTER TABLE arx.transactions_2024_01 OWNER TO strangers_owner",
        "ALTER TABLE arx.transactions_2024_01 RENAME TO january",
        "CREATE INDEX ON arx.transactions (block_number)",
        "COMMENT ON TABLE arx.transactions IS 'ours'",
        "VACUUM FULL arx.january",
        "CREATE TRIGGER own AFTER INSERT ON arx.transactions FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "ALTER TABLE arx.transactions ENABLE ROW LEVEL SECURITY",
        // Columns of users, which have no values in the rows that are there.
        "ALTER TABLE arx.transactions ADD COLUMN note text",
        "ALTER TABLE arx.transactions DROP COLUMN note, ADD COLUMN note text",
        "SET session_replication_role = replica; ALTER TABLE arx.transactions DROP COLUMN note",
        "CREATE TYPE arx.own_type AS ENUM ('a'); ALTER TABLE arx.transactions ADD COLUMN kind arx.own_type;
         DROP TYPE arx.own_type CASCADE",
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
    let enabled = "SELECT string_agg(DISTINCT format('%s%s', tgname, tgenabled), ',') FROM pg_trigger
                     WHERE tgrelid IN (SELECT relid FROM arx.tracked_partitions)
                       AND tgname IN ('arx_log_change', 'arx_stamp', 'own')";
    assert_eq!(database.query(enabled).unwrap(), "arx_log_changeA,arx_stampA,ownO");
    let mut last = before;
    // A column that consumers read has another meaning under its name.
    database
        .query(
            "ALTER TABLE arx.transactions RENAME COLUMN gas_used TO gas; ALTER TABLE arx.transactions RENAME COLUMN gas TO gas_used",
        )
        .unwrap();
    assert!(epoch() > last);
    last = epoch();
    for event in [
        // The feed carries the default of rows that were not written.
        "ALTER TABLE arx.transactions ADD COLUMN origin text DEFAULT 'node'",
        "TRUNCATE arx.may",
        "ALTER TABLE arx.transactions DETACH PARTITION arx.may",
        "ALTER TABLE arx.transactions ATTACH PARTITION arx.may FOR VALUES FROM ('2024-05-01') TO ('2024-06-01')",
        "TRUNCATE arx.may",
        "DROP TABLE arx.may",
        "ALTER TABLE arx.transactions DISABLE TRIGGER arx_log_change",
        "ALTER TABLE arx.transactions ENABLE ALWAYS TRIGGER arx_log_change",
        "ALTER TABLE arx.transactions_2024_02 DISABLE TRIGGER ALL",
        "ALTER TABLE arx.transactions_2024_02 ENABLE TRIGGER ALL",
        "ALTER TABLE arx.token_transfers ALTER amount TYPE numeric(78,0) USING amount * 10",
        "SET session_replication_role = replica; ALTER TABLE arx.token_transfers ALTER amount TYPE numeric(78,0) USING amount * 10",
        "CREATE OR REPLACE TRIGGER arx_log_change AFTER UPDATE OR DELETE ON arx.transactions FOR EACH ROW WHEN (false)
            EXECUTE FUNCTION arx.log_transaction_change('transactions')",
        "CREATE OR REPLACE TRIGGER arx_log_change AFTER UPDATE OR DELETE ON arx.transactions FOR EACH ROW
            EXECUTE FUNCTION arx.log_transaction_change('token_transfers')",
        "CREATE OR REPLACE TRIGGER arx_log_change AFTER DELETE ON arx.transactions FOR EACH ROW
            EXECUTE FUNCTION arx.log_transaction_change('transactions')",
        "CREATE OR REPLACE TRIGGER arx_log_change AFTER DELETE ON arx.transactions FOR EACH ROW EXECUTE FUNCTION arx.own()",
        "CREATE OR REPLACE TRIGGER arx_log_change AFTER UPDATE OR DELETE ON arx.transactions FOR EACH ROW
            EXECUTE FUNCTION arx.log_transaction_change('transactions')",
        "DROP TRIGGER arx_stamp ON arx.transactions",
        "SET session_replication_role = replica; DROP TRIGGER arx_log_change ON arx.token_transfers",
        "TRUNCATE arx.transactions",
        "DROP TABLE arx.january",
    ] {
        database.query(event).unwrap();
        assert!(epoch() > last, "{event}");
        last = epoch();
    }
    // Ours are always enabled, also after a replacement; those of others stay as they are.
    assert_eq!(database.query(enabled).unwrap(), "arx_log_changeA,arx_stampA,ownO");
    // A new partition of another schema is empty, and watched.
    database
        .query("CREATE SCHEMA s CREATE TABLE p PARTITION OF arx.transactions FOR VALUES FROM ('2024-08-01') TO ('2024-09-01')")
        .unwrap();
    assert_eq!(epoch(), last);
    for event in ["TRUNCATE s.p", "ALTER SCHEMA s RENAME TO z; ALTER INDEX z.p RENAME TO q; DROP SCHEMA z CASCADE"] {
        database.query(event).unwrap();
        assert!(epoch() > last, "{event}");
        last = epoch();
    }
    // Events name the table and the range that they concern.
    database
        .query(
            "SELECT arx.ensure_partitions('arx.token_transfers', '2024-03-01', '2024-03-31');
             TRUNCATE arx.token_transfers_2024_03;
             CREATE TABLE arx.hashed PARTITION OF arx.transactions FOR VALUES FROM ('2024-11-01') TO ('2024-12-01')
                 PARTITION BY HASH (tx_hash);
             CREATE TABLE arx.hashed_0 PARTITION OF arx.hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);
             TRUNCATE arx.hashed_0; TRUNCATE arx.transactions_default; DROP TABLE arx.hashed",
        )
        .unwrap();
    let ranges = "SELECT string_agg(concat_ws(' ', reason, root, to_char(range_from AT TIME ZONE 'UTC', 'YYYY-MM'),
                                             to_char(range_to AT TIME ZONE 'UTC', 'YYYY-MM')), ',' ORDER BY line)
                    FROM (SELECT DISTINCT ON (reason, root, range_from) *, epoch_id AS line FROM arx.graph_epoch
                           WHERE epoch_id > (SELECT max(epoch_id) FROM arx.graph_epoch WHERE relation = 'z.q')) AS e";
    assert_eq!(
        database.query(ranges).unwrap(),
        "truncate token_transfers 2024-03 2024-04,truncate transactions 2024-11 2024-12,truncate transactions,\
         drop transactions 2024-11 2024-12"
    );
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
fn missing_truncate_triggers_are_made_again() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("strangers_watch").unwrap();
    database.query(ROWS).unwrap();
    let epoch = || database.query("SELECT arx.current_graph_epoch()").unwrap().parse::<i64>().unwrap();
    let unwatched = "SELECT count(*) FROM arx.partitions_now() AS p WHERE NOT EXISTS (
        SELECT FROM pg_trigger AS t WHERE t.tgrelid = p.relid AND t.tgfoid = 'arx.raise_graph_epoch'::regproc AND t.tgenabled = 'A')";
    // As pg_upgrade leaves them out.
    let lose = "ALTER EVENT TRIGGER arx_watch_partition_drops DISABLE;
        DO $$ DECLARE t record; BEGIN
            FOR t IN SELECT tgname, tgrelid::regclass AS table FROM pg_trigger WHERE tgfoid = 'arx.raise_graph_epoch'::regproc
            LOOP EXECUTE format('DROP TRIGGER %I ON %s', t.tgname, t.table); END LOOP;
        END $$;
        ALTER EVENT TRIGGER arx_watch_partition_drops ENABLE ALWAYS";
    database
        .query("CREATE TABLE arx.unseen PARTITION OF arx.transactions FOR VALUES FROM ('2031-01-01') TO ('2031-02-01')")
        .unwrap();
    // Without its trigger, a table that still has its file was not emptied.
    database.query(lose).unwrap();
    let unchanged = epoch();
    database.query("SELECT arx.refresh_wallet_profiles()").unwrap();
    assert_eq!(database.query(unwatched).unwrap(), "0");
    assert_eq!(epoch(), unchanged);
    for repair in [
        "SELECT arx.refresh_wallet_profiles()",
        "CREATE TABLE arx.may PARTITION OF arx.transactions FOR VALUES FROM ('2024-05-01') TO ('2024-06-01')",
        "DROP TABLE arx.may",
    ] {
        assert_agree(&database, 50);
        database.query(lose).unwrap();
        assert_ne!(database.query(unwatched).unwrap(), "0");
        database.query("TRUNCATE arx.unseen").unwrap();
        let before = epoch();
        database.query(repair).unwrap();
        assert_eq!(database.query(unwatched).unwrap(), "0", "{repair}");
        assert!(epoch() > before, "{repair}");
        // The triggers are as they were: the next command finds no change.
        let last = epoch();
        database.query("ALTER TABLE arx.transactions ALTER COLUMN from_address SET STATISTICS 500").unwrap();
        assert_eq!(epoch(), last, "{repair}");
    }
    // A trigger that is dropped in sight of the event trigger is made again at once.
    let before = epoch();
    database
        .query(&lose.replace("arx_watch_partition_drops DISABLE", "arx_watch_partition_drops ENABLE ALWAYS"))
        .unwrap();
    assert_eq!(database.query(unwatched).unwrap(), "0");
    assert_eq!(epoch(), before);
    let error = "SELECT arx.watch_truncate(%, 'arx.raise_graph_epoch()'::regprocedure)";
    for (call, message) in [
        ("SELECT arx.watch_truncate(0, 0)".to_owned(), "function must be arx.raise_graph_epoch()"),
        (
            "SELECT arx.watch_truncate('arx.transactions'::regclass, 'arx.stamp_row()'::regprocedure)".to_owned(),
            "function must be arx.raise_graph_epoch()",
        ),
        (error.replace('%', "0"), "table with oid 0 does not exist"),
        (error.replace('%', "'arx.transaction_changes'::regclass"), "is not a table"),
    ] {
        let error = database.query(&call).unwrap_err().to_string();
        assert!(error.contains(message), "{call}: {error}");
    }
    assert_eq!(database.query("SELECT 1").unwrap(), "1");
}

#[test]
fn values_computed_again_are_an_event_and_stamped() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("strangers_rewrites").unwrap();
    database.query(ROWS).unwrap();
    assert_agree(&database, 50);
    database
        .query(
            "DROP TRIGGER arx_restamp ON arx.transactions;
             ALTER TABLE arx.transactions ALTER ingest_xid TYPE xid8 USING '5000000000'::xid8;
             SELECT FROM arx.create_tables()",
        )
        .unwrap();
    let future = "SELECT count(*) FROM arx.transactions WHERE ingest_xid > pg_current_xact_id()";
    assert_eq!(database.query(future).unwrap(), "0");
    assert_agree(&database, 50);
    database.query("DROP VIEW arx.wallet_rankings; ALTER TABLE arx.transactions ALTER value TYPE numeric(38,18) USING value * 2").unwrap();
    let stale = "SELECT count(*) FROM arx.verify_graph() WHERE NOT equal";
    assert_eq!(database.query(stale).unwrap(), "0");
    database.query("SELECT arx.refresh_wallet_profiles()").unwrap();
    let profile = "SELECT total_volume::int FROM arx.wallet_profiles WHERE wallet_address = 'hub'";
    assert_eq!(database.query(profile).unwrap(), "100");
    let reasons = "SELECT count(*) > 0 FROM arx.graph_epoch WHERE reason = 'rewrite'";
    assert_eq!(database.query(reasons).unwrap(), "t");
}

#[test]
fn unlogged_and_foreign_partitions_are_refused() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("strangers_unlogged").unwrap();
    database.query(ROWS).unwrap();
    for unlogged in [
        "CREATE UNLOGGED TABLE arx.may PARTITION OF arx.transactions FOR VALUES FROM ('2024-05-01') TO ('2024-06-01')",
        "CREATE UNLOGGED TABLE public.may (LIKE arx.transactions INCLUDING ALL);
         ALTER TABLE arx.transactions ATTACH PARTITION public.may FOR VALUES FROM ('2024-05-01') TO ('2024-06-01')",
        "ALTER TABLE arx.transactions_2024_01 SET UNLOGGED",
        "CREATE SCHEMA s CREATE UNLOGGED TABLE p PARTITION OF arx.transactions FOR VALUES FROM ('2024-05-01') TO ('2024-06-01')",
        "SET session_replication_role = replica; ALTER TABLE arx.transactions_2024_01 SET UNLOGGED",
    ] {
        let error = database.query(unlogged).unwrap_err().to_string();
        assert!(error.contains("must not be unlogged"), "{error}");
    }
    // A table with a primary key has no foreign partitions.
    database
        .query(
            "CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER elsewhere FOREIGN DATA WRAPPER nothing;
             ALTER TABLE arx.transactions DROP CONSTRAINT transactions_pkey",
        )
        .unwrap();
    let foreign = "CREATE FOREIGN TABLE arx.may PARTITION OF arx.transactions FOR VALUES FROM ('2024-05-01') TO ('2024-06-01') SERVER elsewhere";
    let error = database.query(foreign).unwrap_err().to_string();
    assert!(error.contains("must not be a foreign table"), "{error}");
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
    // ARX stamps the row without the triggers of users.
    database.query("UPDATE arx.transactions SET value = 2 WHERE tx_hash = 'late'").unwrap();
    assert_agree(&database, 51);
    database.query("ALTER TABLE arx.transactions ENABLE ALWAYS TRIGGER zzzz").unwrap();
    let refused =
        database.query("UPDATE arx.transactions SET value = 3 WHERE tx_hash = 'late'").unwrap_err().to_string();
    assert!(refused.contains("keeps the stamp of another transaction"), "{refused}");
    database.query("ALTER TABLE arx.transactions ENABLE TRIGGER zzzz").unwrap();
    assert_agree(&database, 51);
}

/// Triggers of a user that change values, count rows, and forbid changes.
const OWN_TRIGGERS: &str = "
    CREATE TABLE public.seen (what text);
    CREATE FUNCTION public.round_up() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.value := ceil(NEW.value) + 1; RETURN NEW; END $$;
    CREATE FUNCTION public.raise_profile() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.analytics_profile := '{\"seen\": true}'; RETURN NEW; END $$;
    CREATE FUNCTION public.forbid() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'append only'; END $$;
    CREATE FUNCTION public.see() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO public.seen VALUES (TG_OP); RETURN NULL; END $$;
    CREATE TRIGGER a_round BEFORE INSERT ON arx.transactions FOR EACH ROW EXECUTE FUNCTION public.round_up();
    CREATE TRIGGER b_forbid BEFORE UPDATE OR DELETE ON arx.transactions FOR EACH ROW EXECUTE FUNCTION public.forbid();
    CREATE TRIGGER c_see AFTER INSERT OR UPDATE OR DELETE ON arx.transactions FOR EACH ROW EXECUTE FUNCTION public.see();
    CREATE TRIGGER d_forbid BEFORE DELETE ON arx.transactions_default FOR EACH ROW EXECUTE FUNCTION public.forbid();
    CREATE TRIGGER a_raise BEFORE INSERT ON arx.wallet_profiles FOR EACH ROW EXECUTE FUNCTION public.raise_profile();
    CREATE TRIGGER b_forbid BEFORE DELETE ON arx.wallet_profiles FOR EACH ROW EXECUTE FUNCTION public.forbid();";

#[test]
fn rows_that_arx_moves_or_stamps_pass_the_triggers_of_users_unchanged() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("strangers_moves").unwrap();
    database.query(ROWS).unwrap();
    database
        .query(
            "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value)
             SELECT 'testnet', 'm' || n, n, '2024-05-01'::timestamptz + n * interval '1 hour', 'hub', 'w' || n % 7, n * 0.1
               FROM generate_series(1, 50) AS n",
        )
        .unwrap();
    assert_agree(&database, 100);
    database.query(OWN_TRIGGERS).unwrap();
    let content = || {
        database
            .query(
                "SELECT (SELECT md5(string_agg(t::text, ',' ORDER BY tx_hash)) FROM arx.transactions AS t),
                        (SELECT md5(string_agg(p::text, ',' ORDER BY wallet_address)) FROM arx.wallet_profiles AS p),
                        (SELECT count(*) FROM public.seen), arx.current_graph_epoch()",
            )
            .unwrap()
    };
    let before = content();
    assert_eq!(
        database.query("SELECT arx.ensure_partitions('arx.transactions', '2024-05-01', '2024-05-31')").unwrap(),
        "1"
    );
    assert_eq!(database.query("SELECT count(*) FROM arx.transactions_2024_05").unwrap(), "50");
    assert_eq!(
        database.query("SELECT sum(moved_rows) > 0 FROM arx.create_hash_partitions(partitions => 3)").unwrap(),
        "t"
    );
    assert_eq!(content(), before);
    assert_eq!(database.query("SELECT count(*) FROM arx.verify_graph() WHERE NOT equal").unwrap(), "0");
    // Nor does a trigger that is always enabled see rows that move.
    let late =
        "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value)
                VALUES ('testnet', 'n1', 1, '2024-07-01', 'hub', 'w1', 1.5)";
    database.query(&format!("{late}; ALTER TABLE arx.transactions ENABLE ALWAYS TRIGGER a_round")).unwrap();
    let before = content();
    database.query("SELECT arx.ensure_partitions('arx.transactions', '2024-07-01', '2024-07-31')").unwrap();
    assert_eq!(content(), before);
    database.query("ALTER TABLE arx.transactions ENABLE TRIGGER a_round").unwrap();
    assert_eq!(database.query("SELECT value::real FROM arx.transactions_2024_07").unwrap(), "3");
    // Rows of a staging table are stamped, although no UPDATE is allowed.
    database
        .query(
            "CREATE TABLE public.staging (LIKE arx.transactions INCLUDING ALL);
             INSERT INTO public.staging SELECT * FROM arx.transactions WHERE tx_hash = 'a1';
             UPDATE public.staging SET tx_hash = 'staged', ingest_xid = '3';
             INSERT INTO arx.transactions SELECT * FROM public.staging",
        )
        .unwrap();
    assert_agree(&database, 102);
}
