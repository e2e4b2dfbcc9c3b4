//! The extension under the hands of roles that are not its owner: no code of theirs runs, no row
//! that a policy hides shows, and nothing that they pass or change ends the server.

use std::collections::BTreeSet;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use arx_stack::process::run;
use arx_stack::{Database, Stack};
use arx_tests::fixtures::TESTNET;
use arx_tests::surface::arguments;
use tokio_postgres::error::SqlState;

/// Registers a network with 60 transfers between 12 wallets, of which two are labelled.
fn filled<'a>(stack: &'a Stack, name: &str) -> Database<'a> {
    let database = stack.database(name).unwrap();
    database
        .query(&format!(
            "{TESTNET}
             INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value)
             SELECT 'testnet', 't' || n, n, '2024-01-01'::timestamptz + n * interval '1 hour', 'w' || n % 12, 'w' || n * 5 % 11, n
               FROM generate_series(1, 60) AS n;
             INSERT INTO arx.token_transfers (network, tx_hash, block_number, log_index, \"timestamp\", token_address,
                                              from_address, to_address, amount)
             SELECT 'testnet', 't' || n, n, n, '2024-01-01'::timestamptz + n * interval '1 hour', 'token', 'w' || n % 12,
                    'w' || n * 5 % 11, n
               FROM generate_series(1, 60) AS n;
             INSERT INTO arx.address_labels (network, address, category, severity, label, source)
             VALUES ('testnet', 'w3', 'scam', 'high', 'secret investigation', 'test'),
                    ('testnet', 'w4', 'exchange', 'none', 'desk', 'test');"
        ))
        .unwrap();
    database
}

/// Calls of functions that read the tables and the graph.
const CALLS: &[&str] = &[
    "SELECT * FROM arx.wallet_exposure('w1', 'testnet')",
    "SELECT arx.wallet_graph_dot('w1', 'testnet')",
    "SELECT * FROM arx.screen_wallets(ARRAY['w1', 'w2'], 'testnet')",
    "SELECT * FROM arx.wallet_risk('w1', 'testnet')",
    "SELECT * FROM arx.risk_factors('w1', 'testnet')",
    "SELECT * FROM arx.score_wallets(ARRAY['w1', 'w2'], 'testnet')",
    "SELECT * FROM arx.wallet_reach('w1', 'testnet', asset => 'all')",
    "SELECT * FROM arx.trace_funds('w1', 'testnet', asset => 'tokens', min_value => NULL)",
    "SELECT * FROM arx.trace_funds(NULL, 'testnet', tx_hashes => ARRAY['t1', 't2'], asset => 'all')",
    "SELECT * FROM arx.shortest_path('w1', 'w2', 'testnet', asset => 'all')",
    "SELECT * FROM arx.shortest_path('w1', 'w2', 'testnet', asset => 'all', in_time => true)",
    "SELECT * FROM arx.wallet_chokepoints('w1', NULL, 'testnet', category => 'exchange')",
    "SELECT * FROM arx.match_paths('illicit -> any{1,3}', 'testnet', min_kept => 0.1)",
    "SELECT * FROM arx.wallet_clusters('testnet')",
    "SELECT * FROM arx.detect_patterns('cycle', '1 day', 'testnet')",
    "SELECT * FROM arx.verify_graph()",
    "SELECT * FROM arx.refresh_graph(true)",
];

fn code(error: &tokio_postgres::Error) -> SqlState {
    error.code().cloned().unwrap_or_else(|| panic!("the connection was lost: {error:?}"))
}

#[tokio::test]
async fn operators_of_a_schema_in_the_callers_path_never_run() {
    let stack = Stack::shared().unwrap();
    let database = filled(stack, "safety_path");
    database
        .query(
            "CREATE SCHEMA postgres;
             CREATE TABLE postgres.ran (what text);
             CREATE FUNCTION postgres.times(numeric, integer) RETURNS numeric LANGUAGE plpgsql AS
                $$ BEGIN INSERT INTO postgres.ran VALUES ('times'); RETURN 7; END $$;
             CREATE OPERATOR postgres.* (LEFTARG = numeric, RIGHTARG = integer, FUNCTION = postgres.times);
             CREATE FUNCTION postgres.equal(arx.tx_status_enum, arx.tx_status_enum) RETURNS boolean LANGUAGE plpgsql AS
                $$ BEGIN INSERT INTO postgres.ran VALUES ('equal'); RETURN false; END $$;
             CREATE OPERATOR postgres.= (LEFTARG = arx.tx_status_enum, RIGHTARG = arx.tx_status_enum, FUNCTION = postgres.equal);
             SELECT arx.override_risk('w1', 'testnet', 12.5, 'reviewed', now() + interval '1 day')",
        )
        .unwrap();
    let client = database.connect().await.unwrap();
    // The trap works: the superuser's path has the schema first.
    let trapped = client.query_one("SELECT (2.5::numeric * 2)::text", &[]).await.unwrap();
    assert_eq!(trapped.get::<_, String>(0), "7");
    client.execute("TRUNCATE postgres.ran", &[]).await.unwrap();
    for call in CALLS {
        client.query(*call, &[]).await.unwrap();
    }
    let score = client.query_one("SELECT score::text FROM arx.wallet_risk('w1', 'testnet')", &[]).await.unwrap();
    assert_eq!(score.get::<_, String>(0), "12.5");
    assert_eq!(database.query("SELECT count(*) FROM postgres.ran").unwrap(), "0");
    // The caller's settings are as before.
    let path = client.query_one("SELECT current_setting('search_path') || current_setting('row_security')", &[]);
    assert_eq!(path.await.unwrap().get::<_, String>(0), "\"$user\", publicon");
}

#[tokio::test]
async fn a_policy_that_hides_rows_is_an_error_and_never_a_partial_answer() {
    let stack = Stack::shared().unwrap();
    let database = filled(stack, "safety_policy");
    database
        .query(
            "DROP ROLE IF EXISTS safety_reader;
             CREATE ROLE safety_reader LOGIN IN ROLE arx_reader;
             SELECT arx.override_risk('w1', 'testnet', 12.5, 'reviewed', now() + interval '1 day')",
        )
        .unwrap();
    let client = database.connect_as("safety_reader").await.unwrap();
    let of_readers: Vec<&str> = CALLS.iter().copied().filter(|call| !call.contains("_graph(")).collect();
    for call in &of_readers {
        client.query(*call, &[]).await.unwrap();
    }
    // The session is warm: it has plans, a graph and labels.
    let cases: [(&str, &[&str]); 3] = [
        (
            "address_labels",
            &[
                "wallet_exposure",
                "wallet_graph_dot",
                "screen_wallets",
                "wallet_risk",
                "score_wallets",
                "match_paths",
                "wallet_chokepoints",
            ],
        ),
        ("risk_overrides", &["wallet_risk", "score_wallets"]),
        ("wallet_profiles", &["wallet_graph_dot"]),
    ];
    for (table, functions) in cases {
        database.query(&format!("ALTER TABLE arx.{table} ENABLE ROW LEVEL SECURITY")).unwrap();
        for function in functions {
            let call = CALLS.iter().find(|call| call.contains(function)).unwrap();
            let error = client.query(*call, &[]).await.expect_err(call);
            let message = error.as_db_error().unwrap().message();
            assert_eq!(code(&error), SqlState::INSUFFICIENT_PRIVILEGE, "{call}: {message}");
            assert!(message.contains(&format!("row-level security of table arx.{table}")), "{call}: {message}");
        }
        database.query(&format!("ALTER TABLE arx.{table} DISABLE ROW LEVEL SECURITY")).unwrap();
    }
    for call in &of_readers {
        client.query(*call, &[]).await.unwrap();
    }
}

#[test]
fn a_database_of_another_encoding_is_refused() {
    let stack = Stack::shared().unwrap();
    let database = stack.bare_database("safety_encodings").unwrap();
    for encoding in ["LATIN1", "SQL_ASCII", "EUC_JP"] {
        let name = format!("safety_{}", encoding.to_lowercase());
        database.query(&format!("DROP DATABASE IF EXISTS {name}")).unwrap();
        let create =
            format!("CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'");
        database.query(&create).unwrap();
        let error =
            run(database.psql().args(["-d", &name, "-v", "VERBOSITY=verbose", "-c", "CREATE EXTENSION arx CASCADE"]));
        let message = format!("{:#}", error.unwrap_err());
        assert!(message.contains("0A000") && message.contains("encoding UTF8"), "{message}");
        database.query(&format!("DROP DATABASE {name}")).unwrap();
    }
}

#[tokio::test]
async fn without_tables_a_function_says_how_to_create_them() {
    let stack = Stack::shared().unwrap();
    let database = stack.bare_database("safety_no_tables").unwrap();
    database.query("CREATE EXTENSION arx CASCADE").unwrap();
    let client = database.connect().await.unwrap();
    let upkeep = [
        "SELECT * FROM arx.manage_partitions()",
        "SELECT * FROM arx.run_partition_maintenance()",
        "SELECT * FROM arx.partition_plan(to_regclass('arx.transactions'))",
        "SELECT arx.ensure_partitions(to_regclass('arx.transactions'), '2024-01-01', '2024-02-01')",
        "SELECT * FROM arx.create_hash_partitions()",
        "SELECT * FROM arx.check_performance_alerts()",
        "SELECT arx.refresh_wallet_profiles()",
        "SELECT arx.refresh_daily_stats()",
        "SELECT * FROM arx.refresh_patterns()",
        "CALL arx.refresh_risk_scores()",
        "SELECT arx.apply_asset_prices('ethereum')",
        "SELECT arx.override_risk('w1', 'ethereum', 1, 'x', now() + interval '1 day')",
        "SELECT arx.exclude_cluster_merge('a', 'b', 'ethereum', 'x')",
        "SELECT arx.activate_risk_model('x')",
        "SELECT arx.active_risk_model()",
        "SELECT * FROM arx.wallet_history('w1', 'ethereum')",
        "SELECT * FROM arx.risk_history('w1', 'ethereum')",
        "SELECT * FROM arx.changed_transactions('1:1:')",
        "SELECT * FROM arx.changed_labels('1:1:')",
        "SELECT arx.record_performance_alerts()",
        "SELECT arx.schedule_owner()",
    ];
    for call in CALLS.iter().chain(&upkeep) {
        let error = client.query(*call, &[]).await.expect_err(call);
        let report = error.as_db_error().unwrap();
        assert_eq!(report.code(), &SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, "{call}: {report}");
        assert_eq!(report.message(), "the tables of arx do not exist", "{call}");
        assert_eq!(report.hint(), Some("Run SELECT * FROM arx.create_tables()."), "{call}");
    }
    client.batch_execute("SELECT * FROM arx.create_tables()").await.unwrap();
    client.query("SELECT * FROM arx.verify_graph()", &[]).await.unwrap();
}

/// Calls `create_tables()` as a role, which must fail, and returns the error as psql shows it.
fn refused(database: &Database<'_>, role: &str) -> String {
    let script = format!("SET ROLE {role}; SELECT count(*) FROM arx.create_tables()");
    let error = run(database.psql().args(["-v", "VERBOSITY=verbose", "-c", &script]));
    format!("{:#}", error.unwrap_err())
}

#[test]
fn leftovers_of_another_role_run_no_code_as_the_creator_of_tables() {
    let stack = Stack::shared().unwrap();
    let database = stack.bare_database("safety_leftovers").unwrap();
    database
        .query(
            "CREATE EXTENSION arx CASCADE;
             CREATE ROLE leftover_maker IN ROLE arx_operator;
             CREATE ROLE leftover_other IN ROLE arx_operator;
             GRANT CREATE ON SCHEMA arx TO leftover_maker, leftover_other;
             SET ROLE leftover_maker;
             CREATE TABLE arx.ran (as_role text);
             CREATE FUNCTION arx.evil(text) RETURNS boolean LANGUAGE plpgsql AS
                $$ BEGIN INSERT INTO arx.ran VALUES (current_user); RETURN true; END $$;
             CREATE DOMAIN arx.label_severity_enum AS text CHECK (arx.evil(value));
             RESET ROLE;
             GRANT ALL ON arx.ran TO PUBLIC",
        )
        .unwrap();
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'arx' AND tablename = 'label_categories'";
    for role in ["none", "leftover_other", "leftover_maker"] {
        let error = refused(&database, role);
        assert!(error.contains("42809") && error.contains("arx.label_severity_enum"), "{error}");
        assert!(error.contains("\"domain\"") && error.contains("leftover_maker"), "{error}");
    }
    assert_eq!(database.query("SELECT count(*) FROM arx.ran").unwrap(), "0");
    assert_eq!(database.query(tables).unwrap(), "0");
    // An enum type or a table of the right kind is still another role's.
    let replacements = [
        (
            "DROP DOMAIN arx.label_severity_enum; CREATE TYPE arx.label_severity_enum AS ENUM ('none', 'low', 'medium', 'high', 'severe')",
            "arx.label_severity_enum",
        ),
        (
            "DROP TYPE arx.label_severity_enum; CREATE TABLE arx.label_categories (category text PRIMARY KEY CHECK (arx.evil(category)))",
            "arx.label_categories",
        ),
        ("DROP TABLE arx.label_categories; CREATE VIEW arx.current_labels AS SELECT 1", "arx.current_labels"),
    ];
    for (replacement, name) in replacements {
        database.query(&format!("SET ROLE leftover_maker; {replacement}")).unwrap();
        for role in ["none", "leftover_other"] {
            let error = refused(&database, role);
            assert!(error.contains("42501") && error.contains(name), "{error}");
            assert!(error.contains("SET ROLE leftover_maker"), "{error}");
        }
    }
    assert_eq!(database.query("SELECT count(*) FROM arx.ran").unwrap(), "0");
    // Its owner may go on, and others may call the function when nothing is missing.
    database.query("SET ROLE leftover_maker; DROP VIEW arx.current_labels; SELECT arx.create_tables()").unwrap();
    assert_eq!(database.query("SELECT count(*) FROM arx.create_tables()").unwrap(), "0");
    database.query("DROP INDEX arx.idx_transactions_hash").unwrap();
    let error = refused(&database, "none");
    assert!(error.contains("42501") && error.contains("SET ROLE leftover_maker"), "{error}");
}

#[test]
fn operators_of_the_callers_path_are_not_written_into_the_tables() {
    let stack = Stack::shared().unwrap();
    let database = stack.bare_database("safety_operators").unwrap();
    database
        .query(
            "CREATE EXTENSION arx CASCADE;
             CREATE FUNCTION public.any_number(bigint, integer) RETURNS boolean LANGUAGE sql AS 'SELECT true';
             CREATE OPERATOR public.>= (LEFTARG = bigint, RIGHTARG = integer, FUNCTION = public.any_number);
             SET search_path = public, pg_catalog;
             SELECT arx.create_tables()",
        )
        .unwrap();
    let users = "SELECT count(*) FROM pg_depend WHERE refclassid = 'pg_operator'::regclass
                    AND refobjid = 'public.>=(bigint, integer)'::regoperator";
    assert_eq!(database.query(users).unwrap(), "0");
}

#[tokio::test]
async fn tables_are_created_once_by_who_may_create_them() {
    let stack = Stack::shared().unwrap();
    let database = stack.bare_database("safety_creators").unwrap();
    database.query("CREATE EXTENSION arx CASCADE; CREATE ROLE creator_without IN ROLE arx_operator").unwrap();
    let error = refused(&database, "creator_without");
    assert!(error.contains("42501") && error.contains("GRANT CREATE ON SCHEMA arx TO creator_without"), "{error}");
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(database.connect().await.unwrap());
    }
    let create = "SELECT count(*) FROM arx.create_tables()";
    let (a, b, c, d) = tokio::join!(
        clients[0].query_one(create, &[]),
        clients[1].query_one(create, &[]),
        clients[2].query_one(create, &[]),
        clients[3].query_one(create, &[]),
    );
    let mut counts: Vec<i64> = [a, b, c, d].into_iter().map(|row| row.unwrap().get(0)).collect();
    counts.sort_unstable();
    assert_eq!(counts[..3], [0, 0, 0]);
    assert!(counts[3] > 50, "{counts:?}");
    // A default partition may have any name, and stays with its parent.
    database.query("ALTER TABLE arx.token_transfers_default RENAME TO other_transfers").unwrap();
    assert_eq!(database.query(create).unwrap(), "0");
    database.query("ALTER TABLE arx.transactions RENAME TO old_transactions").unwrap();
    let error = refused(&database, "none");
    assert!(error.contains("55000") && error.contains("arx.transactions_default"), "{error}");
    assert!(error.contains("partition of arx.old_transactions") && error.contains("arx.transactions,"), "{error}");
    database.query("ALTER TABLE arx.old_transactions RENAME TO transactions").unwrap();
    assert_eq!(database.query(create).unwrap(), "0");
}

#[tokio::test]
async fn a_column_of_another_type_is_an_error_or_read_right() {
    let stack = Stack::shared().unwrap();
    let alterations = [
        ("ALTER TABLE arx.token_transfers ALTER amount TYPE bigint", true),
        ("ALTER TABLE arx.token_transfers ALTER amount TYPE text", false),
        ("ALTER TABLE arx.token_transfers ALTER token_address TYPE bigint USING 5", false),
        ("ALTER TABLE arx.token_transfers ALTER block_number TYPE integer", true),
        ("ALTER TABLE arx.token_transfers ALTER block_number TYPE text", false),
        ("ALTER TABLE arx.token_transfers ALTER log_index TYPE bigint", true),
        ("ALTER TABLE arx.token_transfers ALTER to_address TYPE varchar(80)", true),
        ("ALTER TABLE arx.token_transfers ALTER to_address TYPE bytea USING convert_to(to_address, 'UTF8')", false),
        ("ALTER TABLE arx.address_labels ALTER label TYPE bigint USING 7", false),
    ];
    let original = filled(stack, "safety_types");
    for (alteration, is_right) in alterations {
        let database = stack.copy_of(&original, "safety_types_altered").unwrap();
        let altered = database.query(&format!("SET session_replication_role = replica; {alteration}"));
        if let Err(error) = altered {
            // A view or index depends on the column: the server itself refuses.
            println!("{alteration}: {error:#}");
            continue;
        }
        let client = database.connect().await.unwrap();
        let mut codes = BTreeSet::new();
        for call in CALLS {
            match client.query(*call, &[]).await {
                Ok(_) => {}
                Err(error) => drop(codes.insert(code(&error).code().to_owned())),
            }
        }
        assert!(!client.is_closed(), "{alteration}");
        assert!(!codes.iter().any(|code| code.starts_with("XX")), "{alteration}: {codes:?}");
        assert!(codes.is_empty() || !is_right, "{alteration}: {codes:?}");
        assert!(!codes.is_empty() || is_right, "{alteration} is not noticed");
        let reach = "SELECT sum(total_value)::text FROM arx.wallet_reach('w1', 'testnet', 1, asset => 'token')";
        if is_right {
            let value: Option<String> = client.query_one(reach, &[]).await.unwrap().get(0);
            let expected = "SELECT sum(amount) FROM arx.token_transfers WHERE from_address = 'w1'";
            assert_eq!(value.unwrap_or_default(), database.query(expected).unwrap(), "{alteration}");
        }
    }
}

#[tokio::test]
async fn json_that_cannot_be_read_is_an_error_that_says_why() {
    let stack = Stack::shared().unwrap();
    let database = filled(stack, "safety_json");
    let client = database.connect().await.unwrap();
    let deep = format!("{}1{}", "[".repeat(300), "]".repeat(300));
    let long = format!("{{\"a\": \"{}\"}}", "x".repeat(2 << 20));
    let documents = [
        (deep.as_str(), SqlState::INVALID_PARAMETER_VALUE, "deeper than 127 levels"),
        ("{\"resolution\": 1e400}", SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "out of the range"),
        (long.as_str(), SqlState::PROGRAM_LIMIT_EXCEEDED, "at most 1048576 are allowed"),
    ];
    let calls = [
        "SELECT * FROM arx.wallet_clusters('testnet', options => $1::text::jsonb)",
        "SELECT * FROM arx.wallet_centrality('testnet', options => $1::text::jsonb)",
        "SELECT * FROM arx.detect_patterns('cycle', '1 day', 'testnet', options => $1::text::jsonb)",
        "SELECT arx.check_risk_model($1::text::jsonb)",
    ];
    for (document, expected, words) in documents {
        for call in calls {
            let error = client.query(call, &[&document]).await.expect_err(call);
            let message = error.as_db_error().unwrap().message().to_owned();
            assert_eq!(code(&error), expected, "{call}: {message}");
            assert!(message.contains(words), "{call}: {message}");
            assert_eq!(error.as_db_error().unwrap().detail().map(|detail| detail.contains("backtrace")), None);
        }
    }
}

#[tokio::test]
async fn an_array_beyond_the_memory_of_a_call_is_an_error_that_names_the_limit() {
    let stack = Stack::shared().unwrap();
    let database = filled(stack, "safety_arrays");
    let client = database.connect().await.unwrap();
    client.batch_execute("SET arx.graph_work_mem = '1MB'").await.unwrap();
    let many = "(SELECT array_agg('w' || n) FROM generate_series(1, 100000) AS n)";
    for call in [
        format!("SELECT * FROM arx.screen_wallets({many}, 'testnet')"),
        format!("SELECT * FROM arx.score_wallets({many}, 'testnet')"),
        format!("SELECT * FROM arx.feature_vectors('testnet', {many})"),
        format!("SELECT * FROM arx.trace_funds(NULL, 'testnet', tx_hashes => {many})"),
    ] {
        let error = client.query(&call, &[]).await.expect_err(&call);
        let message = error.as_db_error().unwrap().message();
        assert_eq!(code(&error), SqlState::PROGRAM_LIMIT_EXCEEDED, "{call}: {message}");
        assert!(message.contains("arx.graph_work_mem"), "{call}: {message}");
    }
}

/// Returns the address space of a process in bytes.
fn address_space(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmSize:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

#[tokio::test]
async fn a_backend_without_memory_ends_its_statement_or_session_and_not_the_cluster() {
    let stack = Stack::shared().unwrap();
    let database = filled(stack, "safety_memory");
    database
        .query(
            "CREATE TABLE public.many AS
             SELECT array_agg('0x' || lpad(to_hex(n), 40, '0')) AS addresses FROM generate_series(1, 1000000) AS n;
             ALTER TABLE public.many ALTER addresses SET STORAGE EXTERNAL",
        )
        .unwrap();
    let started = database.query("SELECT pg_postmaster_start_time()").unwrap();
    let witness = database.connect().await.unwrap();
    let calls = [
        "SELECT count(*) FROM public.many, arx.score_wallets(addresses, 'ethereum')",
        "SELECT count(*) FROM public.many, arx.screen_wallets(addresses, 'ethereum')",
        "SELECT count(*) FROM public.many, arx.trace_funds(NULL, 'ethereum', tx_hashes => addresses)",
    ];
    let mut from_arx = 0;
    for call in calls {
        for megabytes in [60, 100, 150, 200, 250, 300, 400] {
            let client = database.connect().await.unwrap();
            client.query("SELECT * FROM arx.wallet_risk('w1', 'testnet')", &[]).await.unwrap();
            let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
            let limit = address_space(pid) + (megabytes << 20);
            // The server's account may limit its own processes.
            let prlimit = format!("COPY (SELECT 1) TO PROGRAM 'cat > /dev/null; prlimit --pid {pid} --as={limit}'");
            client.batch_execute(&prlimit).await.unwrap();
            match client.query_one(call, &[]).await {
                Ok(_) => {}
                Err(error) => {
                    let report = error.as_db_error().unwrap_or_else(|| panic!("{call}, {megabytes} MB: {error:?}"));
                    let expected = [SqlState::OUT_OF_MEMORY, SqlState::INVALID_PARAMETER_VALUE];
                    assert!(expected.contains(report.code()), "{call}, {megabytes} MB: {report}");
                    let detail = report.detail().unwrap_or_default();
                    from_arx += i32::from(detail.contains("ARX") || detail.contains("elements"));
                }
            }
        }
    }
    assert!(from_arx > 0, "no allocation of ARX failed");
    // No session but those without memory has noticed.
    witness.query("SELECT 1", &[]).await.unwrap();
    assert_eq!(database.query("SELECT pg_postmaster_start_time()").unwrap(), started);
}

fn graph_folder(stack: &Stack, database: &Database<'_>) -> PathBuf {
    let oid = database.query("SELECT oid FROM pg_database WHERE datname = current_database()").unwrap();
    stack.folder().join("pg/data/pgsql_tmp_arx").join(oid)
}

/// Returns the graph files of a folder, oldest first.
fn graph_files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "graph"));
    files.sort();
    files
}

const REACHED: &str = "SELECT sum(transfers)::text, sum(total_value)::text FROM arx.wallet_reach('w1', 'testnet', 3)";

#[tokio::test]
async fn a_file_that_is_changed_or_cut_off_in_place_never_gives_a_wrong_answer() {
    let stack = Stack::shared().unwrap();
    let database = filled(stack, "safety_damage");
    let folder = graph_folder(stack, &database);
    let expected = database.query(REACHED).unwrap();
    let started = database.query("SELECT pg_postmaster_start_time()").unwrap();
    for round in 0..40_u64 {
        database.query("SELECT outcome FROM arx.refresh_graph(true)").unwrap();
        let warm = database.connect().await.unwrap();
        warm.query(REACHED, &[]).await.unwrap();
        let path = graph_files(&folder).pop().unwrap();
        let file = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let length = file.metadata().unwrap().len();
        if round % 4 == 0 {
            file.set_len(length * (round / 4) / 10).unwrap();
        } else {
            let offset = 1024 + (round * 7919) % (length - 1024);
            let mut byte = [0];
            file.read_exact_at(&mut byte, offset).unwrap();
            file.write_all_at(&[byte[0] ^ 16], offset).unwrap();
        }
        drop(file);
        let cold = database.connect().await.unwrap();
        for client in [warm, cold] {
            let row = client.query_one(REACHED, &[]).await.unwrap();
            assert_eq!(format!("{}|{}", row.get::<_, &str>(0), row.get::<_, &str>(1)), expected, "round {round}");
        }
    }
    assert_eq!(database.query("SELECT pg_postmaster_start_time()").unwrap(), started);
}

#[tokio::test]
async fn a_file_that_is_cut_off_during_a_call_is_an_error_and_the_server_lives() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("safety_cut").unwrap();
    database
        .query(&format!(
            "{TESTNET}
             INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value)
             SELECT 'testnet', 't' || n, n, '2024-01-01'::timestamptz + n * interval '1 second', 'w' || n * 7919 % 20000,
                    'w' || n * 104729 / 13 % 20000, n
               FROM generate_series(1::bigint, 60000) AS n"
        ))
        .unwrap();
    let folder = graph_folder(stack, &database);
    let started = database.query("SELECT pg_postmaster_start_time()").unwrap();
    let mut refused = 0;
    for round in 0..10 {
        database.query("SELECT outcome FROM arx.refresh_graph(true)").unwrap();
        let client = database.connect().await.unwrap();
        client.query(REACHED, &[]).await.unwrap();
        let path = graph_files(&folder).pop().unwrap();
        let slow = tokio::spawn(async move {
            let call = "SELECT count(*) FROM arx.feature_vectors('testnet')";
            (client.query_one(call, &[]).await.map(|row| row.get::<_, i64>(0)), client)
        });
        tokio::time::sleep(Duration::from_millis(5 + 10 * round)).await;
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(4096).unwrap();
        let (answer, client) = slow.await.unwrap();
        match answer {
            Ok(wallets) => assert_eq!(wallets, 20_000),
            Err(error) => {
                assert_eq!(code(&error), SqlState::DATA_CORRUPTED, "{error:?}");
                refused += 1;
            }
        }
        // The session goes on.
        client.query(REACHED, &[]).await.unwrap();
    }
    println!("{refused} of 10 calls met the damage");
    assert_eq!(database.query("SELECT pg_postmaster_start_time()").unwrap(), started);
}

#[tokio::test]
async fn a_pipe_or_link_in_the_place_of_a_file_is_an_error_that_names_it() {
    let stack = Stack::shared().unwrap();
    let database = filled(stack, "safety_planted");
    let folder = graph_folder(stack, &database);
    let expected = database.query(REACHED).unwrap();
    let planted = folder.join("base-999.graph");
    let precious = stack.folder().join("precious");
    type Plant = fn(&Path, &Path);
    let plants: [(&str, Plant); 3] = [
        ("pipe", |path, _| drop(run(Command::new("mkfifo").args(["-m", "600"]).arg(path)).unwrap())),
        ("symbolic link", |path, target| symlink(target, path).unwrap()),
        ("not a regular file", |path, _| std::fs::create_dir(path).unwrap()),
    ];
    for (kind, plant) in plants {
        std::fs::write(&precious, "precious").unwrap();
        plant(&planted, &precious);
        run(Command::new("chown").args(["-h", "--reference"]).arg(&folder).arg(&planted)).unwrap();
        let client = database.connect().await.unwrap();
        client.batch_execute("SET statement_timeout = '20s'").await.unwrap();
        let error = client.query(REACHED, &[]).await.expect_err(kind);
        let message = error.as_db_error().unwrap().message();
        assert!(message.contains("base-999.graph"), "{kind}: {message}");
        if planted.is_dir() {
            std::fs::remove_dir(&planted).unwrap()
        } else {
            std::fs::remove_file(&planted).unwrap()
        }
        assert_eq!(database.query(REACHED).unwrap(), expected);
    }
    // A link in the place of an unfinished file is not written through.
    let client = database.connect().await.unwrap();
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    for number in 0..20 {
        symlink(&precious, folder.join(format!("{pid}-{number}.tmp"))).unwrap();
    }
    client.query("SELECT outcome FROM arx.refresh_graph(true)", &[]).await.unwrap();
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "precious");
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_does_not_stop_readers() {
    let stack = Stack::shared().unwrap();
    let database = filled(stack, "safety_readonly");
    database.query("SELECT outcome FROM arx.refresh_graph()").unwrap();
    let folder = graph_folder(stack, &database);
    let more =
        "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value)
                SELECT 'testnet', 'm' || n, n, '2024-02-01', 'w1', 'w2', 1 FROM generate_series(1, 50) AS n";
    database.query(more).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o500)).unwrap();
    let client = database.connect().await.unwrap();
    client.batch_execute("SET arx.graph_delta_limit = 10").await.unwrap();
    for _ in 0..3 {
        let reached =
            client.query_one("SELECT transfers FROM arx.wallet_reach('w1', 'testnet', 1) WHERE depth = 1", &[]);
        let own =
            database.query("SELECT count(*) FROM arx.transactions WHERE from_address = 'w1' AND to_address <> 'w1'");
        assert_eq!(reached.await.unwrap().get::<_, i64>(0).to_string(), own.unwrap());
    }
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
}

#[tokio::test]
async fn truncated_and_dropped_data_leaves_no_file() {
    let stack = Stack::shared().unwrap();
    let database = filled(stack, "safety_old");
    let folder = graph_folder(stack, &database);
    database.query("SELECT outcome FROM arx.refresh_graph()").unwrap();
    let contents =
        |folder: &Path| graph_files(folder).iter().map(|file| std::fs::read(file).unwrap()).collect::<Vec<_>>();
    let before = contents(&folder);
    let client = database.connect().await.unwrap();
    client.batch_execute("SET arx.graph_freshness = base").await.unwrap();
    let reached = "SELECT count(*) FROM arx.wallet_reach('w1', 'testnet', 3)";
    let transfers = "SELECT coalesce(sum(transfers), 0)::bigint FROM arx.wallet_reach('w1', 'testnet', 3)";
    assert!(client.query_one(reached, &[]).await.unwrap().get::<_, i64>(0) > 1);
    database.query("TRUNCATE arx.transactions, arx.token_transfers").unwrap();
    assert_eq!(client.query_one(transfers, &[]).await.unwrap().get::<_, i64>(0), 0);
    let after = contents(&folder);
    assert!(before.iter().all(|file| !after.contains(file)), "a file holds rows that were truncated");
    // The folder of a dropped database goes with the next session that reads a graph.
    let other = filled(stack, "safety_dropped");
    other.query("SELECT outcome FROM arx.refresh_graph()").unwrap();
    let others = graph_folder(stack, &other);
    assert!(!graph_files(&others).is_empty());
    other.drop_now().unwrap();
    database.query(REACHED).unwrap();
    assert!(!others.exists());
}

#[tokio::test]
async fn a_large_drawing_hears_a_cancellation_at_once() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("safety_drawing").unwrap();
    database
        .query(&format!(
            "{TESTNET}
             INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value)
             SELECT 'testnet', 't' || n, n, '2024-01-01'::timestamptz + n * interval '1 second', 'w' || n * 7919 % 3000,
                    'w' || n * 104729 / 13 % 3000, n * 1.000000000000000001
               FROM generate_series(1::bigint, 200000) AS n"
        ))
        .unwrap();
    let client = database.connect().await.unwrap();
    let call = "SELECT length(arx.wallet_graph_dot('w1', 'testnet', 32, max_nodes => 100000, fold_above => 100000))";
    let whole = Instant::now();
    client.query(call, &[]).await.unwrap();
    let whole = whole.elapsed();
    let mut slowest = Duration::ZERO;
    for step in 1..8 {
        let timeout = (whole * step / 8).max(Duration::from_millis(1));
        client.batch_execute(&format!("SET statement_timeout = {}", timeout.as_millis())).await.unwrap();
        let begun = Instant::now();
        if client.query(call, &[]).await.is_err() {
            slowest = slowest.max(begun.elapsed().saturating_sub(timeout));
        }
    }
    assert!(slowest < Duration::from_millis(400), "a cancellation took {slowest:?} of {whole:?}");
}

/// Code that the owner of the tables plants wherever the server runs code of an owner. It notes the
/// role that runs it, and takes the rights of a superuser if it can.
const TRAPS: &str = r#"
    CREATE SCHEMA traps;
    CREATE TABLE traps.ran (as_role text, trap text);
    GRANT USAGE ON SCHEMA traps TO PUBLIC;
    GRANT ALL ON traps.ran TO PUBLIC;
    CREATE FUNCTION traps.owner() RETURNS text LANGUAGE sql AS
        $$ SELECT pg_get_userbyid(c.relowner) FROM pg_class AS c WHERE c.oid = 'traps.ran'::regclass $$;
    CREATE FUNCTION traps.spring(trap text) RETURNS boolean LANGUAGE plpgsql AS $$
    BEGIN
        BEGIN
            INSERT INTO traps.ran VALUES (current_user, trap);
        EXCEPTION WHEN read_only_sql_transaction THEN NULL; END;
        BEGIN
            EXECUTE 'RESET ROLE';
        EXCEPTION WHEN OTHERS THEN NULL; END;
        BEGIN
            EXECUTE 'ALTER ROLE ' || traps.owner() || ' SUPERUSER';
        EXCEPTION WHEN OTHERS THEN NULL; END;
        RETURN true;
    END $$;
    CREATE FUNCTION traps.hidden(trap text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
        $$ BEGIN RETURN traps.spring(trap); END $$;
    CREATE FUNCTION traps.on_row() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM traps.spring('row trigger'); RETURN coalesce(NEW, OLD); END $$;
    CREATE FUNCTION traps.on_statement() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM traps.spring('statement trigger'); RETURN NULL; END $$;
    CREATE FUNCTION traps.status_text(arx.tx_status_enum) RETURNS text LANGUAGE plpgsql IMMUTABLE AS
        $$ BEGIN PERFORM traps.spring('cast'); RETURN 'confirmed'; END $$;
    CREATE FUNCTION traps.severity_text(arx.label_severity_enum) RETURNS text LANGUAGE plpgsql IMMUTABLE AS
        $$ BEGIN PERFORM traps.spring('cast'); RETURN 'high'; END $$;
    CREATE CAST (arx.tx_status_enum AS text) WITH FUNCTION traps.status_text(arx.tx_status_enum) AS ASSIGNMENT;
    CREATE CAST (arx.label_severity_enum AS text) WITH FUNCTION traps.severity_text(arx.label_severity_enum) AS ASSIGNMENT;
    DO $$
    DECLARE
        name text;
    BEGIN
        FOR name IN SELECT c.oid::regclass FROM pg_class AS c
                     WHERE c.relnamespace = 'arx'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
                       AND c.relowner = current_user::regrole
        LOOP
            EXECUTE format('CREATE TRIGGER aaa_before BEFORE INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION traps.on_row()', name);
            EXECUTE format('CREATE TRIGGER aaa_after AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION traps.on_row()', name);
            EXECUTE format('CREATE TRIGGER aaa_statement AFTER INSERT OR UPDATE OR DELETE ON %s EXECUTE FUNCTION traps.on_statement()', name);
            EXECUTE format('ALTER TABLE %s ADD COLUMN trap_default boolean DEFAULT traps.spring(%L),
                                ADD COLUMN trap_generated boolean GENERATED ALWAYS AS (traps.hidden(%L)) STORED,
                                ADD CONSTRAINT trap_check CHECK (traps.hidden(%L))', name, 'default', 'generated', 'check');
            EXECUTE format('CREATE INDEX ON %s ((traps.hidden(%L))) WHERE traps.hidden(%L)', name, 'index', 'predicate');
            EXECUTE format('CREATE STATISTICS traps.%I ON (traps.hidden(%L)), trap_default FROM %s', name, 'statistics', name);
            EXECUTE format('CREATE POLICY trap ON %s USING (traps.spring(%L)) WITH CHECK (traps.spring(%L))', name, 'policy', 'policy');
            EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', name);
        END LOOP;
        FOR name IN SELECT c.oid::regclass FROM pg_class AS c
                     WHERE c.relnamespace = 'arx'::regnamespace AND c.relkind = 'v' AND c.relowner = current_user::regrole
        LOOP
            EXECUTE format('CREATE OR REPLACE VIEW %s AS SELECT v.* FROM (%s) AS v WHERE traps.spring(%L)', name,
                           rtrim(pg_get_viewdef(name::regclass), ';'), 'view');
        END LOOP;
    END $$;
    DELETE FROM traps.ran;
"#;

/// Functions of the extension that a client can call, with name and type of each parameter that has
/// no default.
const FUNCTIONS: &str = "
SELECT p.prokind, p.proname, p.oid, string_agg(a.name || ':' || format_type(a.type, NULL), ',' ORDER BY a.position)
  FROM pg_proc AS p
  JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
  JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'arx'
  LEFT JOIN LATERAL unnest(p.proargnames[:p.pronargs], p.proargtypes::oid[]) WITH ORDINALITY AS a (name, type, position)
         ON a.position <= p.pronargs - p.pronargdefaults
 WHERE p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype, 'language_handler'::regtype)
 GROUP BY p.oid, p.proname, p.prokind ORDER BY p.proname";

/// Functions that reject the arguments or the data of this test, with a part of the error.
const REJECTED: &[(&str, &str)] = &[
    ("apply_changes", "column \"key\" does not exist"),
    ("archive_partition", "have changed since they were copied"),
    ("attach_partition", "parent and bounds of arx.transactions_default are not known"),
    ("attach_range", "is already a partition"),
    ("begin_unpartition", "ARX needs its partitions"),
    ("claim_unpartition", "completed or stopped the conversion"),
    ("convert_table", "it is a table of ARX"),
    ("copy_partitions", "completed or stopped the conversion"),
    ("is_copied", "ARX needs its partitions"),
    ("put_copy_in_place", "completed or stopped the conversion"),
    ("put_parent_in_place", "it is not an ordinary table"),
    ("require_same_columns", "ARX needs its partitions"),
    ("require_unpartitionable", "ARX needs its partitions"),
    ("ensure_integer_partitions", "partitioned by time, not by integers"),
    ("finish_task", "not one that this session runs"),
    ("in_pg_cron", "pg_cron is not installed"),
    ("note_archive", "null value in column"),
    ("require_schedules_here", "run as their owner"),
    ("restore_archived_rows", "null value in column"),
    ("unpartition_table", "ARX needs its partitions"),
    ("begin_refresh", "only the functions of arx"),
    ("close_alert", "does not exist"),
    ("close_entry", "only the functions of arx"),
    ("extend_chain", "only the functions of arx"),
    ("finish_refresh", "has not begun"),
    ("discard_risk_model", "cannot be removed"),
    ("explain_advice", "a superuser may not plan"),
    ("evaluate_risk_model", "licit"),
    ("fit_risk_model", "already exists"),
    ("install_schedules", "pg_cron is not installed"),
    ("remove_schedules", "pg_cron is not installed"),
    ("require_pg_cron", "pg_cron is not installed"),
    ("plpgsql_as_owner_validator", "language validation function"),
    ("rollback_risk_model", "no risk model was active before"),
    ("slow_queries", "pg_stat_statements is not installed"),
];

/// Returns a call of each function of the extension, by name.
fn every_call(database: &Database<'_>) -> Vec<(String, String)> {
    let functions = database.query(FUNCTIONS).unwrap();
    let call = |line: &str| {
        let fields: Vec<&str> = line.split('|').collect();
        let verb = if fields[0] == "p" { "CALL" } else { "SELECT * FROM" };
        (fields[1].to_owned(), format!("{verb} arx.{}({})", fields[1], arguments(fields[1], fields[3])))
    };
    functions.lines().map(call).collect()
}

/// Creates a database whose tables belong to a role that has planted traps in them.
fn trapped<'a>(stack: &'a Stack, name: &str) -> Database<'a> {
    let database = stack.bare_database(name).unwrap();
    database
        .query(&format!(
            "CREATE EXTENSION arx CASCADE;
             DO $$ BEGIN CREATE ROLE {name}_owner IN ROLE arx_operator; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
             GRANT CREATE ON SCHEMA arx TO {name}_owner;
             GRANT CREATE ON DATABASE {name} TO {name}_owner;
             SET SESSION AUTHORIZATION {name}_owner;
             SELECT FROM arx.create_tables();
             {TESTNET}
             SELECT arx.ensure_partitions('arx.transactions', '2024-01-01', '2024-01-31');
             INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value)
             SELECT 'testnet', 't' || n, n, '2024-01-01'::timestamptz + n * interval '1 hour', 'w' || n % 12, 'w' || n * 5 % 11, n
               FROM generate_series(1, 60) AS n;
             INSERT INTO arx.token_transfers (network, tx_hash, block_number, log_index, \"timestamp\", token_address,
                                              from_address, to_address, amount)
             SELECT 'testnet', 't' || n, n, n, '2024-05-01'::timestamptz + n * interval '1 hour', 'token', 'w' || n % 12,
                    'w' || n * 5 % 11, n
               FROM generate_series(1, 60) AS n;
             INSERT INTO arx.address_labels (network, address, category, severity, label, source)
             VALUES ('testnet', 'w3', 'scam', 'high', 'x', 'test'), ('testnet', 'w4', 'exchange', 'none', 'desk', 'test');
             INSERT INTO arx.asset_prices (asset, priced_at, price_usd) VALUES ('TST', '2023-01-01', 3);
             SELECT FROM arx.check_wallet_alerts();
             SELECT FROM arx.screen_transfer('testnet', 'w1', 'w2', 'native', 1);
             {TRAPS}"
        ))
        .unwrap();
    database
}

/// No trap was run by another role than the owner, who is no superuser.
fn assert_harmless(database: &Database<'_>, after: &str) {
    let ran =
        database.query("SELECT DISTINCT as_role, trap FROM traps.ran WHERE as_role <> traps.owner() ORDER BY 1, 2");
    assert_eq!(ran.unwrap(), "", "{after}");
    assert_eq!(database.query("SELECT rolsuper FROM pg_roles WHERE rolname = traps.owner()").unwrap(), "f", "{after}");
}

#[test]
fn a_superuser_who_calls_every_function_runs_no_code_of_the_tables_owner() {
    let stack = Stack::shared().unwrap();
    let database = trapped(stack, "safety_traps");
    let calls = every_call(&database);
    assert!(calls.len() > 80, "{calls:?}");
    // Twice: the first calls fill what later ones read and change.
    let mut unexpected = Vec::new();
    for (function, call) in calls.iter().chain(&calls) {
        let reason = REJECTED.iter().find(|(name, _)| name == function).map(|(_, reason)| reason);
        match (database.query(call), reason) {
            (Ok(_), None) => {}
            (Err(error), Some(reason)) if error.to_string().contains(reason) => {}
            (Ok(_), Some(_)) => unexpected.push(format!("{call} was not rejected")),
            (Err(error), _) => unexpected.push(format!("{error:#}")),
        }
        assert_harmless(&database, call);
    }
    assert!(unexpected.is_empty(), "{unexpected:#?}");
    // The traps work: they ran as the owner, and every kind of them did.
    let kinds = "SELECT count(DISTINCT trap) FROM traps.ran WHERE trap NOT IN ('view', 'policy')";
    assert_eq!(database.query(kinds).unwrap(), "9");
    // The same for an operator, whose rights the owner must not gain when tables are changed.
    database
        .query("DO $$ BEGIN CREATE ROLE safety_operator IN ROLE arx_operator BYPASSRLS; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
        .unwrap();
    let as_operator =
        |call: &str| run(database.psql().args(["-c", "SET SESSION AUTHORIZATION safety_operator", "-c", call]));
    for call in [
        "SELECT arx.refresh_wallet_profiles()",
        "SELECT arx.refresh_daily_stats()",
        "SELECT arx.refresh_patterns()",
        "CALL arx.refresh_risk_scores()",
        "SELECT arx.apply_asset_prices('testnet', true)",
        "SELECT arx.record_performance_alerts()",
        "SELECT arx.override_risk('w1', 'testnet', 12.5, 'reviewed', now() + interval '1 day')",
        "SELECT arx.exclude_cluster_merge('w1', 'w2', 'testnet', 'apart')",
    ] {
        as_operator(call).unwrap_or_else(|error| panic!("{call}: {error:#}"));
        assert_harmless(&database, call);
    }
    // The author is the caller, and not the owner of the table.
    // A superuser who reads the tables directly would run the owner's code, as with any table.
    let authors = "SET SESSION AUTHORIZATION safety_traps_owner; SELECT (SELECT created_by FROM arx.risk_overrides ORDER BY override_id DESC LIMIT 1),
                          (SELECT created_by FROM arx.cluster_exclusions LIMIT 1)";
    assert_eq!(database.query(authors).unwrap(), "safety_operator|safety_operator");
    as_operator("SELECT arx.end_risk_override(max(override_id)) FROM arx.risk_overrides").unwrap();
    let ended = "SET SESSION AUTHORIZATION safety_traps_owner; SELECT ended_by FROM arx.risk_overrides ORDER BY override_id DESC LIMIT 1";
    assert_eq!(database.query(ended).unwrap(), "safety_operator");
    // A policy that hides rows from an operator is not avoided by working as the owner.
    database.query("ALTER ROLE safety_operator NOBYPASSRLS").unwrap();
    let error = as_operator("SELECT arx.refresh_wallet_profiles()").unwrap_err().to_string();
    assert!(error.contains("row-level security of table arx."), "{error}");
}

#[test]
fn a_view_in_the_place_of_a_table_is_never_read() {
    let stack = Stack::shared().unwrap();
    let database = trapped(stack, "safety_views");
    database.query("SELECT arx.refresh_wallet_profiles()").unwrap();
    let calls = every_call(&database);
    database
        .query(
            "DELETE FROM traps.ran;
             SET SESSION AUTHORIZATION safety_views_owner;
             DO $$ DECLARE name text; BEGIN
                 FOR name IN SELECT c.relname FROM pg_class AS c WHERE c.relnamespace = 'arx'::regnamespace
                               AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relowner = current_user::regrole
                 LOOP
                     EXECUTE format('ALTER TABLE arx.%I RENAME TO %I', name, 'hidden_' || name);
                     EXECUTE format('CREATE VIEW arx.%I AS SELECT * FROM arx.%I WHERE traps.spring(%L)', name, 'hidden_' || name, 'view');
                     EXECUTE format('GRANT SELECT ON arx.%I TO arx_reader', name);
                 END LOOP;
             END $$",
        )
        .unwrap();
    database
        .query("DO $$ BEGIN CREATE ROLE safety_viewer IN ROLE arx_operator; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
        .unwrap();
    for role in ["postgres", "safety_viewer"] {
        let mut refused = 0;
        for (_, call) in &calls {
            let call = format!("SET SESSION AUTHORIZATION {role}; {call}");
            refused += i32::from(
                database.query(&call).is_err_and(|error| error.to_string().contains("must be of kind \"table\"")),
            );
            assert_harmless(&database, &call);
        }
        assert!(refused > 40, "{refused}");
    }
}

#[test]
fn tables_of_several_roles_and_of_a_stranger_are_refused() {
    let stack = Stack::shared().unwrap();
    let database = filled(stack, "safety_several");
    database
        .query(
            "CREATE ROLE safety_one IN ROLE arx_operator; CREATE ROLE safety_two IN ROLE arx_operator; CREATE ROLE safety_none;
             ALTER TABLE arx.wallet_profiles OWNER TO safety_one",
        )
        .unwrap();
    database.query("SELECT arx.refresh_wallet_profiles()").unwrap();
    database.query("ALTER TABLE arx.transactions_default OWNER TO safety_two").unwrap();
    for call in ["SELECT arx.refresh_wallet_profiles()", "SELECT * FROM arx.wallet_risk('w1', 'testnet')"] {
        let error = database.query(call).unwrap_err().to_string();
        assert!(error.contains("belong to several roles: safety_one, safety_two"), "{call}: {error}");
    }
    database
        .query("ALTER TABLE arx.transactions_default OWNER TO postgres; ALTER TABLE arx.wallet_profiles OWNER TO safety_none")
        .unwrap();
    let error = database.query("SELECT arx.refresh_wallet_profiles()").unwrap_err().to_string();
    assert!(error.contains("safety_none") && error.contains("GRANT arx_operator TO safety_none"), "{error}");
    database.query("GRANT arx_operator TO safety_none; SELECT arx.refresh_wallet_profiles()").unwrap();
}

#[test]
fn a_refresh_cannot_be_finished_without_being_done() {
    let stack = Stack::shared().unwrap();
    let database = filled(stack, "safety_positions");
    database.query("SELECT arx.refresh_wallet_profiles()").unwrap();
    let call = "SET SESSION AUTHORIZATION safety_positions_operator;
                SELECT f.* FROM arx.begin_refresh('wallet_profiles') AS b, arx.finish_refresh('wallet_profiles', b.until, b.epoch, 0) AS f";
    database.query("CREATE ROLE safety_positions_operator IN ROLE arx_operator").unwrap();
    let error = database.query(call).unwrap_err().to_string();
    assert!(error.contains("only the functions of arx begin a refresh"), "{error}");
}
