//! The sidecar's connections to PostgreSQL: settings of the database, objects of other users and
//! connection poolers change no result.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use arx_stack::account::Account;
use arx_stack::process::{run, wait_until};
use arx_stack::{Database, Stack, StackOptions, programs};
use arx_tests::fixtures::sample;
use arx_tests::surface::{calls, fill};

/// Twelve transactions between three wallets.
const ROWS: &str = r#"
    INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value, status)
    SELECT 'ethereum', '0x' || n, n, timestamptz '2024-01-01' + n * interval '1 hour', '0x' || lpad((n % 3)::text, 40, '0'),
           '0x' || lpad(((n + 1) % 3)::text, 40, '0'), 1, 'confirmed'
      FROM generate_series(1, 12) AS n"#;

const WALLET: &str = "0x0000000000000000000000000000000000000001";

fn outcome(database: &Database<'_>, connection: &str, arguments: &[&str]) -> (Output, String) {
    let mut command = database.sidecar().unwrap();
    command.env("ARX_POSTGRES_URL", connection).args(arguments).stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output, String::from_utf8_lossy(&text).into_owned())
}

fn succeed(database: &Database<'_>, arguments: &[&str]) -> String {
    let (output, text) = outcome(database, &database.connection(), arguments);
    assert!(output.status.success(), "{arguments:?}: {text}");
    text
}

#[test]
fn timeouts_of_the_database_do_not_end_the_work_of_the_sidecar() {
    let database = Stack::shared().unwrap().database("connections_timeouts").unwrap();
    database.query(ROWS).unwrap();
    // Each statement of a write-back takes longer than the database allows.
    database
        .query(
            "CREATE FUNCTION public.delay() RETURNS trigger LANGUAGE plpgsql AS
                 $$BEGIN PERFORM pg_catalog.pg_sleep(0.3); RETURN NULL; END$$;
             CREATE TRIGGER delay BEFORE INSERT ON arx.wallet_profiles EXECUTE FUNCTION public.delay();
             CREATE TRIGGER delay BEFORE INSERT ON arx.hourly_volume EXECUTE FUNCTION public.delay();
             CREATE TRIGGER delay BEFORE UPDATE ON arx.feed_positions EXECUTE FUNCTION public.delay();
             ALTER DATABASE connections_timeouts SET statement_timeout = '200ms';
             ALTER DATABASE connections_timeouts SET idle_in_transaction_session_timeout = '100ms';
             ALTER DATABASE connections_timeouts SET idle_session_timeout = '100ms';
             ALTER DATABASE connections_timeouts SET lock_timeout = '1ms'",
        )
        .unwrap();
    let text = succeed(&database, &["sync"]);
    assert!(text.contains("12 hours, 3 wallets"), "{text}");
    succeed(&database, &["verify"]);
}

#[test]
fn formats_and_zones_of_the_database_change_nothing_that_the_sidecar_writes() {
    let stack = Stack::shared().unwrap();
    let file = tempfile::NamedTempFile::with_suffix(".csv").unwrap();
    let line = |n: usize| format!("0x{n:064x},{n},{WALLET},0x{:040x},1000000000000000000,17000{n:02}000\n", n + 5);
    let text: String = (1..20).map(line).collect();
    std::fs::write(file.path(), format!("hash,block_number,from_address,to_address,value,block_timestamp\n{text}"))
        .unwrap();
    let import = |name: &str, settings: &[&str]| {
        let database = stack.database(name).unwrap();
        for setting in settings {
            database.query(&format!("ALTER DATABASE {name} SET {setting}")).unwrap();
        }
        succeed(&database, &["import", "transactions", file.path().to_str().unwrap()]);
        succeed(&database, &["sync"]);
        assert!(succeed(&database, &["verify"]).contains("both sides are the same"));
        let rows = database.query(
            "SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET search_path = pg_catalog;
             SELECT t.tableoid::regclass, t.\"timestamp\", t.value FROM arx.transactions AS t ORDER BY t.tx_hash;
             SELECT hour, transaction_count, total_volume FROM arx.hourly_volume ORDER BY hour;
             SELECT wallet_address, sent_count, total_sent, recipients, first_activity FROM arx.wallet_behaviour ORDER BY wallet_address",
        );
        rows.unwrap()
    };
    let plain = import("connections_plain", &[]);
    let altered = import(
        "connections_formats",
        &[
            "DateStyle = 'SQL, DMY'",
            "TimeZone = 'Pacific/Apia'",
            "IntervalStyle = 'sql_standard'",
            "standard_conforming_strings = off",
            "escape_string_warning = off",
            "extra_float_digits = -10",
            "default_transaction_isolation = 'serializable'",
        ],
    );
    assert!(plain.lines().count() > 40, "{plain}");
    assert_eq!(altered, plain);
}

#[test]
fn operators_of_other_users_are_never_used() {
    let database = Stack::shared().unwrap().database("connections_operators").unwrap();
    database.query(ROWS).unwrap();
    database.query("SELECT arx.refresh_wallet_profiles()").unwrap();
    // The first schema of the default search_path is the one named like the role. Operators for
    // argument types that pg_catalog serves by a conversion only win over those of pg_catalog.
    let operators =
        [("*", "numeric", "int4"), ("*", "int8", "float8"), ("=", "arx.tx_status_enum", "arx.tx_status_enum")];
    database.query("CREATE SCHEMA postgres").unwrap();
    for (number, (name, left, right)) in operators.iter().enumerate() {
        database
            .query(&format!(
                "CREATE FUNCTION postgres.hijack_{number}({left}, {right}) RETURNS numeric LANGUAGE plpgsql AS
                     $$BEGIN RAISE EXCEPTION 'hijacked'; END$$;
                 CREATE OPERATOR postgres.{name} (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = postgres.hijack_{number})"
            ))
            .unwrap();
    }
    let hijacked = database.query("SELECT 1.5::numeric * 2::int4").unwrap_err().to_string();
    assert!(hijacked.contains("hijacked"), "{hijacked}");
    succeed(&database, &["sync"]);
    database.query("DELETE FROM arx.transactions WHERE tx_hash = '0x3'").unwrap();
    succeed(&database, &["sync"]);
    succeed(&database, &["verify"]);
    succeed(&database, &["verify", "--repair"]);
    succeed(&database, &["status"]);
    let profile = succeed(&database, &["profile", WALLET]);
    assert!(profile.contains("risk"), "{profile}");
    succeed(&database, &["maintain-indexes", "--dry-run"]);
}

#[test]
fn the_sidecar_works_as_a_role_that_owns_the_tables_and_is_no_superuser() {
    let database = Stack::shared().unwrap().bare_database("connections_role").unwrap();
    let role = "connections_sidecar";
    database
        .query(&format!(
            "CREATE EXTENSION arx;
             CREATE ROLE {role} LOGIN IN ROLE arx_feeder;
             GRANT CREATE ON SCHEMA arx TO {role}"
        ))
        .unwrap();
    let connection = database.connection_as(role);
    let run_as_role = |arguments: &[&str]| {
        let (output, text) = outcome(&database, &connection, arguments);
        assert!(output.status.success(), "{arguments:?}: {text}");
        text
    };
    let transactions = sample("transactions.csv.gz").display().to_string();
    let labels = sample("labels.csv.gz").display().to_string();
    let scratch = tempfile::tempdir().unwrap();
    let rejects = scratch.path().join("rejects").display().to_string();
    run_as_role(&["import", "transactions", &transactions, "--rejects", &rejects]);
    run_as_role(&["import", "labels", &labels, "--rejects", &rejects]);
    let owner = "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'arx.transactions'::regclass";
    assert_eq!(database.query(owner).unwrap(), role);
    assert!(run_as_role(&["sync"]).contains("loaded everything"));
    database.query("DELETE FROM arx.transactions WHERE block_number % 97 = 0").unwrap();
    database.query("TRUNCATE arx.transactions_2018_01").unwrap();
    run_as_role(&["sync"]);
    assert!(run_as_role(&["verify"]).contains("both sides are the same"));
    assert!(run_as_role(&["status"]).contains("in sync"));
    let wallet = database.query("SELECT from_address FROM arx.transactions ORDER BY tx_hash LIMIT 1").unwrap();
    run_as_role(&["profile", &wallet]);
    run_as_role(&["maintain-indexes", "--dry-run"]);
    run_as_role(&["annotate", &wallet, "{\"note\": \"role\"}"]);
    let mut daemon = database.sidecar().unwrap();
    daemon.env("ARX_POSTGRES_URL", &connection).arg("run").stdin(Stdio::null());
    let mut daemon = daemon.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let stored =
        format!("SELECT analytics_profile ->> 'note' FROM arx.wallet_profiles WHERE wallet_address = '{wallet}'");
    let arrived = wait_until(Duration::from_secs(60), || Ok(database.query(&stored)? == "role"));
    run(Command::new("kill").args(["-TERM", &daemon.id().to_string()])).unwrap();
    daemon.wait().unwrap();
    assert!(arrived.unwrap(), "the annotation did not arrive");
}

/// Starts a pgbouncer in front of a database. Returns the folder of its socket, which is the host
/// of a connection.
fn start_pgbouncer(database: &Database<'_>, stack: &Stack, name: &str, options: &str) -> String {
    let account = Account::current().unwrap();
    let folder = stack.folder().join(name);
    account.create_folder(&folder).unwrap();
    let configuration = stack.folder().join(format!("{name}.ini"));
    let text = format!(
        "[databases]\n{} = host={} port=5432 user=postgres\n[pgbouncer]\nlisten_addr =\nlisten_port = 6432\n\
         unix_socket_dir = {}\nauth_type = any\nmax_client_conn = 200\n{options}\n",
        database.name(),
        stack.cluster().host().display(),
        folder.display()
    );
    std::fs::write(&configuration, text).unwrap();
    let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].into_iter().find(|path| Path::new(path).exists());
    let mut command = account.command(program.expect("pgbouncer is missing: run scripts/install-tools"));
    command.arg(&configuration);
    let pid = stack.start_server(name, &command).unwrap();
    let host = folder.display().to_string();
    let answers = || {
        let mut psql: Command = stack.cluster().program("psql");
        psql.args(["-X", "-q", "-At", "-h", &host, "-p", "6432", "-d", database.name(), "-c", "SELECT 1"]);
        assert_eq!(stack.ended(pid), None, "pgbouncer ended; see {name}.log");
        Ok(run(&mut psql).is_ok())
    };
    assert!(wait_until(Duration::from_secs(20), answers).unwrap(), "pgbouncer does not answer");
    host
}

/// Starts the pgbouncer of `config/pgbouncer` with the paths of this stack, and returns its host.
/// The pool hands its sessions out in turn, so that no client keeps one by chance.
fn start_configured_pgbouncer(database: &Database<'_>, stack: &Stack) -> String {
    let account = Account::current().unwrap();
    let folder = stack.folder().join("pgbouncer_configured");
    account.create_folder(&folder).unwrap();
    let text = std::fs::read_to_string(programs::workspace().join("config/pgbouncer/pgbouncer.ini")).unwrap();
    let server = format!("host={}", stack.cluster().host().display());
    let replacements = [
        ("host=/var/run/postgresql", server),
        ("dbname=arx ", format!("dbname={} ", database.name())),
        ("listen_addr = 127.0.0.1", "listen_addr =".to_owned()),
        ("unix_socket_dir = /var/run/pgbouncer", format!("unix_socket_dir = {}", folder.display())),
        ("auth_type = scram-sha-256", "auth_type = trust".to_owned()),
        (
            "auth_file = /etc/pgbouncer/userlist.txt",
            format!("auth_file = {}/users\nserver_round_robin = 1", folder.display()),
        ),
    ];
    let mut configured = text;
    for (from, to) in &replacements {
        assert!(configured.contains(from), "{from} is not in the configuration");
        configured = configured.replace(from, to);
    }
    std::fs::write(folder.join("users"), "\"postgres\" \"\"\n").unwrap();
    account.own(&folder.join("users")).unwrap();
    let file = stack.folder().join("pgbouncer_configured.ini");
    std::fs::write(&file, configured).unwrap();
    let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].into_iter().find(|path| Path::new(path).exists());
    let mut command = account.command(program.expect("pgbouncer is missing: run scripts/install-tools"));
    let pid = stack.start_server("pgbouncer_configured", command.arg(&file)).unwrap();
    let host = folder.display().to_string();
    let answers = || {
        assert_eq!(stack.ended(pid), None, "pgbouncer ended; see pgbouncer_configured.log");
        Ok(run(&mut pooled_psql(stack, &host, "SELECT 1")).is_ok())
    };
    assert!(wait_until(Duration::from_secs(20), answers).unwrap(), "pgbouncer does not answer");
    host
}

/// Runs SQL through the entry of SQL clients.
fn pooled_psql(stack: &Stack, host: &str, sql: &str) -> Command {
    let mut psql: Command = stack.cluster().program("psql");
    psql.args(["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-h", host, "-p", "6432", "-d", "arx", "-c", sql]);
    psql
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_function_works_through_the_configured_pooler() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("connections_surface").unwrap();
    fill(&database);
    let host = start_configured_pgbouncer(&database, stack);
    let pooled = |sql: &str| run(&mut pooled_psql(stack, &host, sql)).map(|text| text.trim_end().to_owned());
    // Clients at the same time need several sessions, which later clients then get in turn.
    let busy: Vec<_> = (0..4).map(|_| pooled_psql(stack, &host, "SELECT pg_sleep(0.3)").spawn().unwrap()).collect();
    for mut client in busy {
        assert!(client.wait().unwrap().success());
    }
    let processes: std::collections::BTreeSet<String> =
        (0..8).map(|_| pooled("SELECT pg_backend_pid()").unwrap()).collect();
    assert!(processes.len() > 1, "{processes:?}");
    let sorted = |text: String| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    let changing = [
        "check_performance_alerts",
        "disk_usage",
        "graph_status",
        "health_check",
        "health_facts",
        "health_metrics",
        "performance_facts",
        "server_measurements",
        "table_measurements",
    ];
    let calls = calls(&database);
    assert!(calls.len() > 50, "{}", calls.len());
    for (function, sql) in &calls {
        match (database.query(sql), pooled(sql)) {
            (Ok(_), Ok(_)) if changing.contains(&function.as_str()) => {}
            (Ok(direct), Ok(pooled)) => assert_eq!(sorted(pooled), sorted(direct), "{sql}"),
            (Err(direct), Err(pooled)) => {
                let message = |error: anyhow::Error| {
                    error
                        .to_string()
                        .lines()
                        .find_map(|line| line.split_once("ERROR:").map(|(_, text)| text.to_owned()))
                };
                assert_eq!(message(pooled), message(direct), "{sql}");
            }
            (direct, pooled) => panic!("{sql}: {direct:?} directly, {pooled:?} through the pooler"),
        }
    }
    // What changes state, with commits of its own, and in a transaction.
    database.query("INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value) VALUES ('testnet', 't3', 3, '2024-01-03', 'w3', 'w4', 3)").unwrap();
    for sql in [
        "SELECT arx.refresh_wallet_profiles()",
        "SELECT arx.refresh_daily_stats()",
        "SELECT * FROM arx.refresh_graph()",
        "CALL arx.refresh_risk_scores()",
        "SELECT * FROM arx.run_partition_maintenance()",
        "SELECT * FROM arx.manage_partitions('arx.transactions')",
        "SELECT arx.update_table_statistics()",
        "SELECT arx.record_performance_alerts()",
    ] {
        pooled(sql).unwrap();
    }
    assert_eq!(pooled("BEGIN; SELECT count(*) > 0 FROM arx.wallet_reach('w1', 'testnet', 3); COMMIT").unwrap(), "t");
    // A setting of a transaction reaches the calls in it, and no other client.
    let limited = "SELECT count(*) > 0 FROM arx.wallet_reach('w1', 'testnet', 3);
         BEGIN; SET LOCAL arx.graph_work_mem = '64kB'; SHOW arx.graph_work_mem; COMMIT; SHOW arx.graph_work_mem";
    assert_eq!(pooled(limited).unwrap(), "t\n64kB\n256MB");
    // Statements without a name need no session. Those with one are the pooler's matter.
    let text = format!("host={host} port=6432 user=postgres dbname=arx");
    let (client, connection) = tokio_postgres::connect(&text, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..8 {
        let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), tokio_postgres::types::Type); 1] =
            [(&"w1", tokio_postgres::types::Type::TEXT)];
        let rows =
            client.query_typed("SELECT count(*) FROM arx.wallet_connections($1, 'testnet', 2)", &parameters).await;
        assert!(rows.unwrap()[0].get::<_, i64>(0) > 0);
    }
    // The sidecar through both entries.
    let sidecar = |entry: &str, command: &str| {
        outcome(&database, &format!("host={host} port=6432 user=postgres dbname={entry}"), &[command])
    };
    let (output, text) = sidecar("arx", "sync");
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("connect directly or use session pooling"), "{text}");
    assert_eq!(database.query("SELECT count(*) FROM arx.feed_positions WHERE consumer = 'clickhouse'").unwrap(), "0");
    for command in ["sync", "verify", "status"] {
        let (output, text) = sidecar("arx_sidecar", command);
        assert!(output.status.success(), "{command}: {text}");
    }
}

#[test]
fn the_sidecar_connects_as_the_programs_of_libpq_do() {
    let stack = Stack::start_listening(&StackOptions::default()).unwrap();
    let database = stack.database("connections_libpq").unwrap();
    database.query("CREATE ROLE secret SUPERUSER LOGIN PASSWORD 'tops3cret'").unwrap();
    let hba = stack.cluster().data().join("pg_hba.conf");
    std::fs::write(&hba, "local all all trust\nhost all all all scram-sha-256\n").unwrap();
    stack.cluster().account().own(&hba).unwrap();
    stack.reload().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let port = stack.cluster().port().to_string();
    let file = |name: &str, text: &str| {
        let path = scratch.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    let passfile =
        file("pgpass", &format!("localhost:1:*:*:wrong\nlocalhost:{port}:connections_libpq:secret:tops3cret\n"));
    let wrong = file("wrong", &format!("localhost:{port}:*:*:n0ne\n"));
    let services =
        file("services", &format!("[mine]\nhost=localhost\nport={port}\nuser=secret\ndbname=connections_libpq\n"));
    let status = |variables: &[(&str, &str)]| {
        let mut command = database.sidecar().unwrap();
        command.env_remove("ARX_POSTGRES_URL").envs(variables.iter().copied()).arg("status").stdin(Stdio::null());
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(!text.contains("tops3cret") && !text.contains("n0ne"), "{text}");
        text
    };
    let up = "feed: never ran";
    let server =
        [("PGHOST", "localhost"), ("PGPORT", &*port), ("PGUSER", "secret"), ("PGDATABASE", "connections_libpq")];
    for (more, expected) in [
        (vec![("PGPASSFILE", &*passfile)], up),
        (vec![("PGPASSWORD", "tops3cret"), ("PGPASSFILE", &*wrong)], up),
        (vec![("PGPASSFILE", &*wrong)], "password authentication failed"),
        (vec![("PGSERVICEFILE", &*services), ("PGSERVICE", "other")], "service \"other\" of PostgreSQL is not defined"),
        (vec![("PGSSLMODE", "verify-ca")], "sslrootcert"),
        (vec![("PGREQUIREAUTH", "none")], "require_auth is not supported"),
    ] {
        let variables: Vec<_> = server.iter().copied().chain(more).collect();
        let text = status(&variables);
        assert!(text.contains(expected), "{variables:?}: {text}");
    }
    let service = [("ARX_POSTGRES_URL", "service=mine"), ("PGSERVICEFILE", &*services), ("PGPASSFILE", &*passfile)];
    let text = status(&service);
    assert!(text.contains(up) && text.contains("host=localhost"), "{text}");
    let url = format!(
        "postgresql://secret@localhost:{port}/connections_libpq?passfile={passfile}&connect_timeout=5&keepalives_idle=30"
    );
    assert!(status(&[("ARX_POSTGRES_URL", &url), ("PGHOST", "/nowhere")]).contains(up));
    // A host that swallows packets is left after the time limit.
    let started = std::time::Instant::now();
    let text = status(&[("ARX_POSTGRES_URL", "host=192.0.2.1 connect_timeout=2")]);
    assert!(text.contains("DOWN") && started.elapsed() < Duration::from_secs(20), "{text}");
}

#[test]
fn a_pooler_that_shares_sessions_is_recognised_by_every_command() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("connections_pooler").unwrap();
    database.query(ROWS).unwrap();
    let shared = [
        ("transaction", "pool_mode = transaction"),
        ("statement", "pool_mode = statement"),
        ("one", "pool_mode = transaction\ndefault_pool_size = 1"),
        ("in_turn", "pool_mode = transaction\nserver_round_robin = 1"),
        ("ignoring", "pool_mode = transaction\nignore_startup_parameters = options"),
    ];
    for (name, options) in shared {
        let host = start_pgbouncer(&database, stack, &format!("pgbouncer_{name}"), options);
        let connection = format!("host={host} port=6432 user=postgres dbname={}", database.name());
        let commands = if name == "transaction" { &["sync", "sync", "run", "verify", "status"][..] } else { &["sync"] };
        for command in commands {
            let (output, text) = outcome(&database, &connection, &[command]);
            assert_eq!(output.status.code(), Some(1), "{name}, {command}: {text}");
            assert!(text.contains("connect directly or use session pooling"), "{name}, {command}: {text}");
            assert!(!text.contains("PostgreSQL  DOWN"), "{name}, {command}: {text}");
        }
    }
    // Nothing was begun through the poolers.
    assert_eq!(database.query("SELECT count(*) FROM arx.feed_positions").unwrap(), "0");
}

#[test]
fn a_pooler_that_keeps_sessions_serves_the_sidecar() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("connections_sessions").unwrap();
    database.query(ROWS).unwrap();
    let host = start_pgbouncer(&database, stack, "pgbouncer_session", "pool_mode = session\ndefault_pool_size = 40");
    let connection = format!("host={host} port=6432 user=postgres dbname={}", database.name());
    for command in ["sync", "sync", "verify", "status"] {
        let (output, text) = outcome(&database, &connection, &[command]);
        assert!(output.status.success(), "{command}: {text}");
    }
    assert_eq!(database.query("SELECT sum(transaction_count) FROM arx.hourly_volume").unwrap(), "12");
}
