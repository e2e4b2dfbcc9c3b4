//! Other users of the machine, of its network and of Redis learn no password from the sidecar, hold
//! up no feed, and control no terminal and no file. A reader of its output may leave.

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use arx_stack::process::{run, wait_until};
use arx_stack::{Database, Stack};
use arx_tests::daemon::{Daemon, LIMIT, get_text, sidecar};
use arx_tests::redis::{identity, redis_of};

const PASSWORD: &str = "tops3cret";
const WALLET: &str = "0x0000000000000000000000000000000000000abc";

/// A command of bash, in which `$0` is the sidecar.
fn in_shell(database: &Database<'_>, script: &str) -> Command {
    let sidecar = database.sidecar().unwrap();
    let mut command = Command::new("bash");
    command.args(["-c", script]).arg(sidecar.get_program());
    for (name, value) in sidecar.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

#[test]
fn no_output_contains_a_password() {
    let database = Stack::shared().unwrap().database("doors_secrets").unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let syntax = scratch.path().join("syntax.toml");
    std::fs::write(&syntax, format!("clickhouse_password = \"{PASSWORD}\n")).unwrap();
    let kind = scratch.path().join("kind.toml");
    std::fs::write(&kind, format!("clickhouse_url = ['{PASSWORD}']\n")).unwrap();
    let file = scratch.path().join("password");
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let connection = database.connection();
    let (syntax, kind, file) = (syntax.display(), kind.display(), file.display());
    // Each is wrong in some way, or reaches no server.
    let cases: Vec<(String, String)> = [
        ("ARX_POSTGRES_URL", format!("host=/nonexistent password = {PASSWORD}")),
        ("ARX_POSTGRES_URL", format!(r"host=/nonexistent password='a\'{PASSWORD}'")),
        ("ARX_POSTGRES_URL", format!(r"host=/nonexistent password=a\ {PASSWORD}")),
        ("ARX_POSTGRES_URL", format!("postgresql://u:a/{PASSWORD}@127.0.0.1:1/x")),
        ("ARX_POSTGRES_URL", format!("postgresql://u:a@{PASSWORD}@127.0.0.1:1/x")),
        ("ARX_POSTGRES_URL", format!("postgresql://u@127.0.0.1:1/x?PASSWORD={PASSWORD}")),
        ("ARX_POSTGRES_URL", format!("postgresql://u@127.0.0.1:1/x?password=a&password={PASSWORD}")),
        ("ARX_POSTGRES_URL", format!("{connection} password='{PASSWORD}")),
        ("ARX_REDIS_URL", format!("redis+unix:///nonexistent/r?pass={PASSWORD}")),
        ("ARX_REDIS_URL", format!("redis://:a/{PASSWORD}@127.0.0.1:1")),
        ("ARX_REDIS_URL", format!("redis://:{PASSWORD}@127.0.0.1:1")),
        ("ARX_CLICKHOUSE_URL", format!("http://u:{PASSWORD}@127.0.0.1:1")),
        ("ARX_CLICKHOUSE_URL", format!("http://127.0.0.1:1/?password={PASSWORD}")),
        ("ARX_CLICKHOUSE_SHARDS", format!("http://127.0.0.1:1,{PASSWORD}")),
        ("PGPASSWORD", PASSWORD.to_owned()),
        ("ARX_REDIS_PASSWORD_FILE", file.to_string()),
        ("ARX_CLICKHOUSE_PASSWORD", PASSWORD.to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    for (name, value) in &cases {
        for arguments in [&["status", "-vv"][..], &["sync", "-vv"], &["run", "-vv"], &["profile", WALLET], &["--help"]]
        {
            if arguments[0] == "run" && !["ARX_POSTGRES_URL", "ARX_REDIS_URL"].contains(&name.as_str()) {
                // It starts, and would not end.
                continue;
            }
            let mut command = database.sidecar().unwrap();
            command.env(name, value).args(arguments).stdin(Stdio::null());
            let output = command.output().unwrap();
            let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert!(!text.contains(PASSWORD), "{name}={value} {arguments:?}: {text}");
        }
    }
    for (config, place) in [(syntax, "line 1, column"), (kind, "clickhouse_url")] {
        let (output, text) = sidecar(&database, &[], &["--config", &config.to_string(), "status"]);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(place) && !text.contains(PASSWORD), "{text}");
    }
    let flag = format!("redis://:{PASSWORD}@127.0.0.1:1");
    let (_, text) = sidecar(&database, &[], &["status", "--redis", &flag]);
    assert!(text.contains("visible to all users") && !text.contains(PASSWORD), "{text}");
}

#[test]
fn the_health_page_of_a_failing_feed_contains_no_password() {
    let database = Stack::shared().unwrap().database("doors_health").unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let mut command = database.sidecar().unwrap();
    let read = format!("host=/nonexistent password = {PASSWORD} user=reader dbname=x");
    command.env("ARX_POSTGRES_READ_URL", read).args(["run", "-vv"]);
    let daemon = Daemon::spawn(command, scratch.path().join("log"));
    let address = daemon.address();
    let mut page = String::new();
    let fails = || {
        page = get_text(address, "/healthz");
        Ok(page.contains("/nonexistent"))
    };
    assert!(wait_until(LIMIT, fails).unwrap(), "{}", daemon.log());
    assert!(page.contains("host=/nonexistent user=reader dbname=x"), "{page}");
    assert!(!page.contains(PASSWORD) && !daemon.log().contains(PASSWORD), "{page}");
}

#[test]
fn a_flood_of_half_requests_stops_neither_the_feed_nor_the_health_page() {
    let database = Stack::shared().unwrap().database("doors_flood").unwrap();
    let scratch = tempfile::tempdir().unwrap();
    // Neither the soft nor the hard limit leaves room for the clients' connections.
    let command = in_shell(&database, r#"ulimit -n 320 && exec "$0" run"#);
    let daemon = Daemon::spawn(command, scratch.path().join("log"));
    let address = daemon.address();
    let half = || {
        let mut stream = TcpStream::connect(address).unwrap();
        // A connection that the daemon has closed again does not take the text.
        let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost:");
        stream
    };
    let halves: Vec<TcpStream> = (0..600).map(|_| half()).collect();
    database
        .query(&format!(
            "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, value)
             VALUES ('ethereum', '0x1', 1, '2024-01-01', '{WALLET}', 1)"
        ))
        .unwrap();
    let written = || Ok(database.query("SELECT sum(transaction_count) FROM arx.hourly_volume")? == "1");
    assert!(wait_until(LIMIT, written).unwrap(), "{}", daemon.log());
    let page = get_text(address, "/healthz");
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert!(!daemon.log().contains("Too many open files"), "{}", daemon.log());
    drop(halves);
}

#[test]
fn keys_of_a_wrong_type_stop_no_annotation() {
    let database = Stack::shared().unwrap().database("doors_types").unwrap();
    let wallets: Vec<String> = (1..=40).map(|number| format!("0x{number:040x}")).collect();
    let annotate = |wallet: &String, note: &str| {
        let (output, text) = sidecar(&database, &[], &["annotate", wallet, &format!("{{\"note\": \"{note}\"}}")]);
        assert!(output.status.success(), "{text}");
    };
    let scratch = tempfile::tempdir().unwrap();
    // Before the daemon runs: a stream, an identity and a list of dead letters.
    let identity = identity(&database);
    redis_of(&database, &["SET", &format!("arx:{identity}:{{w00}}:writes"), "x"]);
    redis_of(&database, &["LPUSH", &format!("arx:{identity}:{{w01}}:writes"), "x"]);
    redis_of(&database, &["SET", &format!("arx:{identity}:{{w02}}:dead"), "x"]);
    let (_, status) = sidecar(&database, &[], &["status"]);
    assert!(status.contains("wrong type"), "{status}");
    let daemon = Daemon::start(&database, &[], scratch.path());
    let address = daemon.address();
    let applied = |note: &str| {
        let count = format!(
            "SELECT count(*) FROM arx.wallet_profiles WHERE analytics_profile ->> 'note' = '{note}' AND network_type = 'ethereum'"
        );
        let all = || Ok(database.query(&count)? == wallets.len().to_string());
        assert!(wait_until(LIMIT, all).unwrap(), "{note}: {}", daemon.log());
    };
    for wallet in &wallets {
        annotate(wallet, "first");
    }
    applied("first");
    // While it runs: cached profiles and a stream.
    for wallet in &wallets {
        let key = format!("arx:{identity}:{{ethereum:{wallet}}}:profile");
        redis_of(&database, &["DEL", &key]);
        redis_of(&database, &["SET", &key, "x"]);
        // The reader gets the truth from PostgreSQL.
        let (output, text) = sidecar(&database, &[], &["profile", wallet]);
        assert!(output.status.success() && text.contains("first"), "{text}");
    }
    redis_of(&database, &["DEL", &format!("arx:{identity}:{{w03}}:writes")]);
    redis_of(&database, &["SADD", &format!("arx:{identity}:{{w03}}:writes"), "x"]);
    for wallet in &wallets {
        annotate(wallet, "second");
    }
    applied("second");
    let aside = redis_of(&database, &["KEYS", "*:aside:*"]);
    assert!(aside.lines().count() >= 4, "{aside}");
    let counted = || {
        let page = get_text(address, "/metrics");
        let line = page.lines().find_map(|line| line.strip_prefix("arx_cache_keys_set_aside_total "));
        Ok(line.and_then(|count| count.trim().parse::<u64>().ok()).is_some_and(|count| count >= 3))
    };
    assert!(wait_until(LIMIT, counted).unwrap(), "{}", get_text(address, "/metrics"));
}

#[test]
fn annotations_and_cached_profiles_cannot_control_a_terminal() {
    let database = Stack::shared().unwrap().database("doors_terminal").unwrap();
    let escape = "\u{1b}[31mred\u{9b}2J\u{202e}";
    let insert = database.query(&format!(
        "INSERT INTO arx.wallet_profiles (wallet_address, network_type, analytics_profile)
         VALUES ('{WALLET}', 'ethereum', jsonb_build_object(U&'\\001b[31mred\\009b2J\\202e', U&'\\009bvalue\\202e'))"
    ));
    insert.unwrap();
    // The first answer comes from the database, the second from the cache.
    for arguments in [&["profile", WALLET][..], &["profile", WALLET], &["profile", WALLET, "--json"]] {
        let (output, text) = sidecar(&database, &[], arguments);
        assert!(output.status.success(), "{text}");
        assert!(text.contains("red") && text.contains("value"), "{text}");
        assert!(!text.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{text:?}");
    }
    // An address that is an argument comes back in the error.
    let (_, text) = sidecar(&database, &[], &["profile", escape]);
    assert!(text.contains("red") && !text.contains('\u{1b}') && !text.contains('\u{9b}'), "{text:?}");
}

/// A pipe whose reader has gone.
fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[test]
fn commands_end_quietly_when_the_reader_of_their_output_has_gone() {
    let database = Stack::shared().unwrap().database("doors_pipes").unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("one.csv").display().to_string();
    let header = "hash,block_number,from_address,to_address,value,block_timestamp\n";
    std::fs::write(&file, format!("{header}0x{:064x},1,{WALLET},{WALLET},5,1704067200\n", 1)).unwrap();
    let with_closed_output = |arguments: &[&str]| {
        let mut command = database.sidecar().unwrap();
        command.args(arguments).stdin(Stdio::null()).stdout(closed_pipe());
        let output = command.output().unwrap();
        (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for arguments in [
        // The history is recorded, although no one reads the report.
        &["import", "transactions", &file, "--complete-network"][..],
        &["import", "transactions", &file, "--again", "--json"],
        &["tune"],
        &["tune", "--json"],
        &["status"],
        &["check"],
        &["check", "--format", "prometheus"],
        &["check", "--format", "json"],
        &["profile", WALLET],
        &["profile", WALLET, "--json"],
        &["annotate", WALLET, r#"{"note": "x"}"#],
        &["cache", "stats"],
        &["cache", "flush"],
        &["maintain"],
        &["maintain", "--dry-run"],
        &["maintain-indexes", "--dry-run"],
        &["export-series", "--network", "ethereum"],
        &["risk-score", "--transactions", &file],
    ] {
        let (status, text) = with_closed_output(arguments);
        assert_eq!(status.signal(), Some(13), "{arguments:?}: {status}: {text}");
        assert!(!text.contains("panicked") && !text.contains("arx-sidecar: "), "{arguments:?}: {text}");
    }
    let recorded = "SELECT count(*) FROM arx.transactions AS t, arx.history_coverage AS c WHERE t.network = c.network";
    assert_eq!(database.query(recorded).unwrap(), "1");
    // Another fault of the output is an error.
    let mut command = database.sidecar().unwrap();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = command.args(["tune", "--json"]).stdout(full).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("cannot write to standard output: No space left on device"), "{text}");
}

#[test]
fn a_log_that_no_one_reads_ends_nothing() {
    let database = Stack::shared().unwrap().database("doors_log").unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let mut command = database.sidecar().unwrap();
    let output = command.args(["status", "-vv"]).stderr(closed_pipe()).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("PostgreSQL"), "{output:?}");
    let mut command = database.sidecar().unwrap();
    let output = command.args(["profile", "none"]).stderr(closed_pipe()).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{output:?}");
    // The shell ends the reader of the log, and then becomes the daemon.
    let command = in_shell(&database, r#"exec 2> >(true); wait $!; exec "$0" run -v"#);
    let _daemon = Daemon::spawn(command, scratch.path().join("log"));
    database
        .query(&format!(
            "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, value)
             VALUES ('ethereum', '0x1', 1, '2024-01-01', '{WALLET}', 1)"
        ))
        .unwrap();
    let is_fed = || Ok(database.query("SELECT sum(transaction_count) FROM arx.hourly_volume")? == "1");
    assert!(wait_until(LIMIT, is_fed).unwrap());
}

#[test]
fn an_import_touches_no_file_but_its_own() {
    let database = Stack::shared().unwrap().database("doors_rejects").unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("drop.csv");
    let header = "hash,block_number,from_address,to_address,value,block_timestamp\n";
    std::fs::write(&file, format!("{header};touch {}/planted;#\n", scratch.path().display())).unwrap();
    let import = |arguments: &[&str]| {
        let mut command = database.sidecar().unwrap();
        command.args(["import", "transactions", "drop.csv", "--again"]).args(arguments).current_dir(scratch.path());
        let output = command.stdin(Stdio::null()).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let path = |name: &str| scratch.path().join(name);
    std::fs::write(path("precious"), "precious\n").unwrap();
    symlink(path("precious"), path("drop.csv.rejects")).unwrap();
    for arguments in [&[][..], &["--rejects", "precious"]] {
        let (code, text) = import(arguments);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("--rejects"), "{text}");
    }
    assert_eq!(std::fs::read_to_string(path("precious")).unwrap(), "precious\n");
    std::fs::remove_file(path("drop.csv.rejects")).unwrap();
    let (code, text) = import(&[]);
    assert_eq!(code, Some(2), "{text}");
    let rejects = path("drop.csv.rejects");
    assert_eq!(std::fs::metadata(&rejects).unwrap().permissions().mode() & 0o777, 0o600);
    run(Command::new("bash").arg("-c").arg(". ./drop.csv.rejects; true").current_dir(scratch.path())).unwrap();
    assert!(!path("planted").exists());
    // Without a reject, no file appears.
    std::fs::write(&file, header).unwrap();
    let (code, text) = import(&["--rejects", "none"]);
    assert_eq!((code, path("none").exists()), (Some(2), false), "{text}");
}

#[test]
fn an_error_of_the_database_shows_no_value_of_a_row() {
    let database = Stack::shared().unwrap().database("doors_values").unwrap();
    database
        .query(&format!(
            "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, value)
             VALUES ('ethereum', '0x1', 1, '2024-01-01', '{WALLET}', 424242);
             ALTER TABLE arx.hourly_volume ADD CONSTRAINT small CHECK (total_volume < 1000)"
        ))
        .unwrap();
    let (output, text) = sidecar(&database, &[], &["sync", "-vv"]);
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("violates check constraint \"small\""), "{text}");
    assert!(!text.contains("424242"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_without_rights_cannot_take_the_duties_of_a_sidecar() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("door_duties").unwrap();
    database
        .query(
            "CREATE ROLE door_stranger LOGIN; CREATE ROLE door_reader LOGIN IN ROLE arx_reader;
             CREATE ROLE door_operator LOGIN IN ROLE arx_operator; CREATE ROLE door_feeder LOGIN IN ROLE arx_feeder",
        )
        .unwrap();
    for (role, call) in [
        ("door_stranger", "SELECT arx.take_duty('feed')"),
        ("door_stranger", "SELECT arx.take_import('x')"),
        ("door_reader", "SELECT arx.take_import('x')"),
        ("door_operator", "SELECT arx.take_duty('feed')"),
        ("door_feeder", "SELECT arx.hold_duty('feed')"),
        ("door_feeder", "UPDATE arx.duties SET pid = 1"),
        ("door_feeder", "SELECT * FROM arx.duties FOR UPDATE"),
    ] {
        let client = database.connect_as(role).await.unwrap();
        let error = client.batch_execute(call).await.unwrap_err();
        assert_eq!(error.code(), Some(&tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE), "{role}: {call}");
    }
    // The locks that the sidecar once used, taken by a stranger.
    let stranger = database.connect_as("door_stranger").await.unwrap();
    stranger.batch_execute("SELECT pg_advisory_lock(6386296, duty) FROM generate_series(1, 4) AS duty").await.unwrap();
    // One session has a duty until it ends, and no other can take it.
    let take = "SELECT arx.take_duty('volumes'), arx.take_import('file')";
    let (one, two) =
        (database.connect_as("door_feeder").await.unwrap(), database.connect_as("door_feeder").await.unwrap());
    let taken = async |client: &tokio_postgres::Client| {
        let row = client.query_one(take, &[]).await.unwrap();
        (row.get::<_, bool>(0), row.get::<_, bool>(1))
    };
    assert_eq!(taken(&one).await, (true, true));
    assert_eq!(taken(&one).await, (true, true));
    assert_eq!(taken(&two).await, (false, false));
    let held = "SELECT string_agg(duty, ',' ORDER BY duty) FROM arx.held_duties()";
    let reader = database.connect_as("door_reader").await.unwrap();
    assert_eq!(reader.query_one(held, &[]).await.unwrap().get::<_, String>(0), "import file,volumes");
    let unknown = two.query_one("SELECT arx.take_duty('rest')", &[]).await.unwrap_err();
    assert_eq!(unknown.code(), Some(&tokio_postgres::error::SqlState::INVALID_PARAMETER_VALUE));
    drop(one);
    let freed = wait_until(LIMIT, || Ok(database.query("SELECT count(*) FROM arx.held_duties()")? == "0"));
    assert!(freed.unwrap());
    assert_eq!(taken(&two).await, (true, true));
    // Of many at a time, one gets it.
    drop(two);
    assert!(wait_until(LIMIT, || Ok(database.query("SELECT count(*) FROM arx.held_duties()")? == "0")).unwrap());
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(database.connect_as("door_feeder").await.unwrap());
    }
    let all: Vec<_> = clients
        .into_iter()
        .map(|client| {
            tokio::spawn(async move {
                let row = client.query_one("SELECT arx.take_duty('feed')", &[]).await.unwrap();
                (row.get::<_, bool>(0), client)
            })
        })
        .collect();
    let (mut winners, mut open) = (0, Vec::new());
    for one in all {
        let (taken, client) = one.await.unwrap();
        winners += i32::from(taken);
        open.push(client);
    }
    assert_eq!(winners, 1);
}
