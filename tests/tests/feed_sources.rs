//! The feed and its source: rows that ClickHouse cannot hold, other databases, copies, and a
//! database that was put back to an earlier state.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use arx_stack::clickhouse::ClickHouse;
use arx_stack::process::{run, wait_until};
use arx_stack::{Database, Stack, StackOptions};
use arx_tests::replica::Replica;

/// Account without any rights, as on every Debian.
const OTHER_ACCOUNT: u32 = 65_534;

/// Returns the statement that inserts transactions of polygon, one an hour.
fn insert(prefix: &str, from: &str, count: u32, value: u32) -> String {
    format!(
        "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, status)
         SELECT 'polygon', '{prefix}' || n, n, timestamptz '{from}' + n * interval '1 hour', 'a' || n % 3, 'b' || n % 5,
                {value}, 'confirmed' FROM generate_series(1, {count}) AS n;"
    )
}

fn succeed(database: &Database<'_>, arguments: &[&str]) -> String {
    run(database.sidecar().unwrap().args(arguments)).unwrap()
}

/// Runs a command that must fail, and returns its message.
fn fail(mut command: Command, arguments: &[&str]) -> String {
    let output = command.args(arguments).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The volumes that were written back, and those of the transactions that ClickHouse can hold.
const VOLUMES: &str =
    "SELECT (SELECT sum(transaction_count) FROM arx.hourly_volume), (SELECT trim_scale(sum(total_volume)) FROM arx.hourly_volume),
    count(*), trim_scale(sum(value)) FROM arx.transactions AS t
    WHERE NOT EXISTS (SELECT FROM arx.feed_rejects AS r WHERE r.tx_hash = t.tx_hash AND r.relation = 'transactions')";

fn assert_written_back(database: &Database<'_>) {
    let volumes = database.query(VOLUMES).unwrap();
    let values: Vec<&str> = volumes.split('|').collect();
    assert_eq!(values[..2], values[2..], "written back, and in PostgreSQL");
}

const REJECTS: &str =
    "SELECT relation, tx_hash, log_index, split_part(reason, ' ', 1) FROM arx.feed_rejects ORDER BY tx_hash, log_index";

#[test]
fn rows_that_clickhouse_cannot_hold_are_set_aside_until_they_are_corrected() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("sources_misfits").unwrap();
    let clickhouse = ClickHouse::start(stack, &database).unwrap();
    database.query(&insert("first", "2024-01-01", 5, 1)).unwrap();
    let row = |hash: &str, time: &str, dollars: &str| {
        format!(
            "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, value_usd)
             VALUES ('polygon', '{hash}', 1, '{time}', 'a1', 'b1', 1, {dollars});"
        )
    };
    let transfer = |hash: &str, log_index: u32, dollars: &str| {
        format!(
            "INSERT INTO arx.token_transfers (network, tx_hash, log_index, block_number, \"timestamp\", token_address,
                 from_address, to_address, amount, value_usd)
             SELECT network, tx_hash, {log_index}, block_number, \"timestamp\", 'tok', 'x', 'y', 7, {dollars}
               FROM arx.transactions WHERE tx_hash = '{hash}';"
        )
    };
    // The owner may drop the constraints that keep such rows out.
    database
        .query(
            "ALTER TABLE arx.transactions DROP CONSTRAINT transactions_timestamp_check, DROP CONSTRAINT transactions_value_usd_check;
             ALTER TABLE arx.token_transfers DROP CONSTRAINT token_transfers_value_usd_check",
        )
        .unwrap();
    // In the first load.
    database.query(&[row("early", "1969-12-31", "NULL"), row("never", "infinity", "NULL")].concat()).unwrap();
    let report = succeed(&database, &["sync"]);
    assert!(report.starts_with("loaded everything: 5 rows"), "{report}");
    assert!(report.contains("; 2 rows that ClickHouse cannot hold are set aside in arx.feed_rejects"), "{report}");
    // In a pass, with good rows after them.
    database
        .query(
            &[
                row("late", "2200-01-01", "NULL"),
                row("nan", "2024-02-01", "'NaN'"),
                row("past", "-infinity", "NULL"),
                row("large", "2024-02-02", "NULL"),
                transfer("first1", 0, "'NaN'"),
                transfer("first1", 1, "12.5"),
                insert("good", "2024-03-01", 5, 1),
                "UPDATE arx.transactions SET metadata = '{\"wei\": 1000000000000000000000000000000}' WHERE tx_hash = 'large'"
                    .to_owned(),
            ]
            .concat(),
        )
        .unwrap();
    succeed(&database, &["sync"]);
    let expected = "transactions|early||timestamp\ntoken_transfers|first1|0|value_usd\ntransactions|late||timestamp\n\
                    transactions|nan||value_usd\ntransactions|never||timestamp\ntransactions|past||timestamp";
    assert_eq!(database.query(REJECTS).unwrap(), expected);
    assert_written_back(&database);
    let held = "SELECT metadata.text::String, token_transfers.log_index FROM arx.transaction_events FINAL \
                 WHERE tx_hash IN ('large', 'first1') ORDER BY tx_hash";
    let held = clickhouse.query(held).unwrap();
    assert!(held.contains("1000000000000000000000000000000") && held.contains("[1]"), "{held}");
    let status = succeed(&database, &["status"]);
    assert!(status.contains("degraded: 4 rows are set aside in arx.feed_rejects: timestamp does not fit"), "{status}");
    let verified = succeed(&database, &["verify"]);
    assert!(verified.contains("both sides are the same") && verified.contains("6 rows are set aside"), "{verified}");

    // A reload sets the same rows aside.
    database
        .query("INSERT INTO arx.feed_reloads (network, hour) SELECT DISTINCT network, date_trunc('hour', \"timestamp\", 'UTC') \
                  FROM arx.transactions WHERE \"timestamp\" BETWEEN '2024-01-01' AND '2024-02-01'")
        .unwrap();
    succeed(&database, &["sync"]);
    assert_eq!(database.query(REJECTS).unwrap(), expected);

    // Corrected, deleted, unfit in another way, gone before the pass, and fed before it became
    // unfit.
    database.query("UPDATE arx.transactions SET \"timestamp\" = '2024-01-07' WHERE tx_hash = 'late'").unwrap();
    database.query("DELETE FROM arx.transactions WHERE tx_hash IN ('never', 'past')").unwrap();
    database
        .query("UPDATE arx.transactions SET value_usd = NULL, \"timestamp\" = '1960-01-01' WHERE tx_hash = 'nan'")
        .unwrap();
    database.query("UPDATE arx.token_transfers SET value_usd = 3 WHERE log_index = 0").unwrap();
    database
        .query(&format!("{} DELETE FROM arx.transactions WHERE tx_hash = 'ghost'", row("ghost", "2200-01-01", "NULL")))
        .unwrap();
    database.query("UPDATE arx.transactions SET value_usd = 'NaN' WHERE tx_hash = 'good3'").unwrap();
    succeed(&database, &["sync"]);
    assert_eq!(
        database.query(REJECTS).unwrap(),
        "transactions|early||timestamp\ntransactions|good3||value_usd\ntransactions|nan||timestamp"
    );
    assert_written_back(&database);
    assert!(succeed(&database, &["verify"]).contains("both sides are the same"));
    database.query("DELETE FROM arx.transactions WHERE tx_hash IN ('early', 'good3', 'nan')").unwrap();
    succeed(&database, &["sync"]);
    assert_eq!(database.query(REJECTS).unwrap(), "");
    assert!(!succeed(&database, &["status"]).contains("degraded"));
    assert!(succeed(&database, &["verify"]).contains("both sides are the same"));
}

#[test]
fn another_database_is_refused_until_it_takes_the_tables_over_on_purpose() {
    let stack = Stack::shared().unwrap();
    let (production, staging) = (stack.database("sources_prod").unwrap(), stack.database("sources_stage").unwrap());
    let _engine = ClickHouse::start(stack, &production).unwrap();
    let at_production = |database: &Database<'_>| {
        let mut command = database.sidecar().unwrap();
        command.env("ARX_DATA_DIR", production.data_folder());
        command
    };
    production.query(&insert("p", "2024-01-01", 100, 1)).unwrap();
    staging.query(&insert("s", "2024-01-01", 20, 1000)).unwrap();
    succeed(&production, &["sync"]);
    let message = fail(at_production(&staging), &["sync"]);
    assert!(message.contains("sources_prod") && message.contains("clickhouse_take_over_from = "), "{message}");
    assert!(message.contains("another clickhouse_database"), "{message}");
    assert!(fail(at_production(&staging), &["verify"]).contains("sources_prod"));
    let status = run(at_production(&staging).arg("status")).unwrap();
    assert!(status.contains("foreign: ") && status.contains("sources_prod"), "{status}");
    // A wrong identity is no permission.
    let mut wrong = at_production(&staging);
    wrong.env("ARX_CLICKHOUSE_TAKE_OVER_FROM", "1/1");
    assert!(fail(wrong, &["sync"]).contains("sources_prod"));
    production.query(&insert("q", "2024-02-01", 5, 1)).unwrap();
    assert!(succeed(&production, &["sync"]).starts_with("fed: 5 rows"));
    assert_written_back(&production);

    let identity = "SELECT system_identifier || '/' || (SELECT oid FROM pg_database WHERE datname = current_database()) \
                      FROM pg_control_system()";
    let identity = production.query(identity).unwrap();
    let mut taken = at_production(&staging);
    taken.env("ARX_CLICKHOUSE_TAKE_OVER_FROM", &identity);
    assert!(run(taken.arg("sync")).unwrap().starts_with("loaded everything: 20 rows"));
    assert_written_back(&staging);
    // The displaced one notices, and its volumes stay its own.
    assert!(fail(production.sidecar().unwrap(), &["sync"]).contains("sources_stage"));
    assert_written_back(&production);
    // Another database in ClickHouse needs no permission.
    let mut apart = at_production(&production);
    assert!(run(apart.env("ARX_CLICKHOUSE_DATABASE", "apart").arg("sync")).unwrap().starts_with("loaded everything"));
    assert!(run(at_production(&staging).arg("verify")).unwrap().contains("both sides are the same"));
}

#[test]
fn a_copy_that_takes_the_place_of_its_original_is_loaded_again() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("sources_original").unwrap();
    let _engine = ClickHouse::start(stack, &database).unwrap();
    database.query(&insert("a", "2024-01-01", 50, 1)).unwrap();
    succeed(&database, &["sync"]);
    let _copy = stack.copy_of(&database, "sources_copy").unwrap();
    database.query(&insert("bad", "2024-01-01", 7, 1000)).unwrap();
    succeed(&database, &["sync"]);
    let elsewhere = stack.bare_database("sources_elsewhere").unwrap();
    elsewhere.query("DROP DATABASE sources_original WITH (FORCE)").unwrap();
    elsewhere.query("ALTER DATABASE sources_copy RENAME TO sources_original").unwrap();
    database.query(&insert("new", "2024-01-05", 3, 5)).unwrap();
    assert!(succeed(&database, &["status"]).contains("went back: "));
    assert!(succeed(&database, &["sync"]).starts_with("loaded everything: 53 rows"));
    assert_written_back(&database);
    assert!(succeed(&database, &["verify"]).contains("both sides are the same"));
    // Positions that this server never reached make no pass blind.
    database
        .query("UPDATE arx.feed_positions SET position = '4000000000:4000000000:' WHERE consumer = 'clickhouse'")
        .unwrap();
    database.query(&insert("more", "2024-01-09", 2, 5)).unwrap();
    assert!(succeed(&database, &["sync"]).starts_with("loaded everything: 55 rows"));
    // So does a feed that forgot everything.
    database.query("DELETE FROM arx.feed_positions").unwrap();
    assert!(succeed(&database, &["status"]).contains("went back: "));
    assert!(succeed(&database, &["sync"]).starts_with("loaded everything: 55 rows"));
    assert_written_back(&database);
}

#[test]
fn a_server_put_back_from_a_snapshot_of_its_disk_is_loaded_again() {
    let stack = Stack::start(&StackOptions { durable: true, ..StackOptions::default() }).unwrap();
    let database = stack.database("sources_disk").unwrap();
    let _engine = ClickHouse::start(&stack, &database).unwrap();
    database.query(&insert("a", "2024-01-01", 100, 1)).unwrap();
    succeed(&database, &["sync"]);
    let restored = Replica::copy(&stack, "put-back", &database, &[]).unwrap();
    // The lost future: new rows, and a higher version of an old one.
    database.query(&insert("lost", "2024-02-01", 30, 1)).unwrap();
    database.query("UPDATE arx.transactions SET value = 7 WHERE tx_hash = 'a9'").unwrap();
    succeed(&database, &["sync"]);
    succeed(&database, &["sync"]);
    let pid = restored.start(&[]).unwrap();
    let is_up = wait_until(Duration::from_secs(60), || {
        assert!(stack.ended(pid).is_none(), "the restored server ended");
        Ok(restored.query("SELECT pg_is_in_recovery()").is_ok_and(|answer| answer == "f"))
    });
    assert!(is_up.unwrap(), "the restored server did not start");
    restored.query(&insert("kept", "2024-03-01", 10, 1)).unwrap();
    restored.query("UPDATE arx.transactions SET value = 5 WHERE tx_hash = 'a9'").unwrap();
    let sidecar = || {
        let mut command = database.sidecar().unwrap();
        command.env("ARX_POSTGRES_URL", restored.connection());
        command
    };
    assert!(run(sidecar().arg("status")).unwrap().contains("went back: "));
    assert!(fail(sidecar(), &["verify"]).contains("loads everything again"));
    assert!(run(sidecar().arg("sync")).unwrap().starts_with("loaded everything: 110 rows"));
    assert!(run(sidecar().arg("verify")).unwrap().contains("both sides are the same"));
    restored.query(&insert("next", "2024-04-01", 3, 1)).unwrap();
    assert!(run(sidecar().arg("sync")).unwrap().starts_with("fed: 3 rows"));
    let volumes = restored.query(VOLUMES).unwrap();
    let values: Vec<&str> = volumes.split('|').collect();
    assert_eq!(values[..2], values[2..]);
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Sends a request to the engine as another account of this machine, where tests run as root.
fn request_as_another_account(port: u16, headers: &str, body: &str) -> String {
    let script = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{port}; \
         printf 'POST / HTTP/1.0\\r\\n{headers}Content-Length: {}\\r\\n\\r\\n{body}' >&3; cat <&3",
        body.len()
    );
    let mut command = Command::new("bash");
    command.args(["-c", &script]).current_dir("/");
    if is_root() {
        command.uid(OTHER_ACCOUNT).gid(OTHER_ACCOUNT);
    }
    String::from_utf8_lossy(&command.stdin(Stdio::null()).output().unwrap().stdout).into_owned()
}

#[test]
fn the_embedded_engine_answers_no_request_without_its_password() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("sources_door").unwrap();
    let clickhouse = ClickHouse::start(stack, &database).unwrap();
    let folder = database.data_folder().join("clickhouse");
    let endpoint: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(folder.join("endpoint.json")).unwrap()).unwrap();
    assert_eq!(endpoint.get("tcp_port"), None, "the native protocol is off");
    let port = u16::try_from(endpoint["http_port"].as_u64().unwrap()).unwrap();
    for headers in [
        "",
        "X-ClickHouse-User: default\r\n",
        "Authorization: Basic ZGVmYXVsdDo=\r\n",
        "X-ClickHouse-User: arx\r\n",
        "X-ClickHouse-User: arx\r\nX-ClickHouse-Key: 0123\r\n",
        "X-ClickHouse-User: arx\r\nAuthorization: Basic ZGVmYXVsdDo=\r\n",
    ] {
        for query in ["SELECT user()", "SYSTEM STOP LISTEN HTTP", "SELECT count() FROM system.numbers"] {
            let headers = headers.replace("\r\n", "\\r\\n");
            let answer = request_as_another_account(port, &headers, query);
            let is_refused = answer.contains(" 401 ") || answer.contains("AUTHENTICATION_FAILED");
            assert!(is_refused && !answer.contains(" 200 "), "{headers} {query}: {answer}");
        }
    }
    assert_eq!(clickhouse.query("SELECT user()").unwrap(), "arx", "it still listens");
    if is_root() {
        let mut cat = Command::new("cat");
        cat.arg(folder.join("password")).arg(folder.join("users.xml")).uid(OTHER_ACCOUNT).gid(OTHER_ACCOUNT);
        let read = cat.current_dir("/").output().unwrap();
        assert!(!read.status.success() && read.stdout.is_empty(), "another account reads the password");
    }
}

/// A daemon that was killed leaves its engine to end by itself, a moment later.
#[test]
fn a_folder_that_another_engine_is_about_to_leave_is_waited_for() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("sources_busy").unwrap();
    let folder = database.data_folder().join("clickhouse");
    run(database.sidecar().unwrap().arg("sync")).unwrap();
    let lock = std::fs::File::open(folder.join("engine.lock")).unwrap();
    lock.lock().unwrap();
    let mut command = database.sidecar().unwrap();
    let mut syncing = command.arg("sync").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let log = folder.join("engine.log");
    let is_refused = || Ok(std::fs::read_to_string(&log).is_ok_and(|log| log.contains("(code 76)")));
    assert!(wait_until(Duration::from_secs(30), is_refused).unwrap(), "the engine was not refused");
    drop(lock);
    assert!(syncing.wait().unwrap().success());
}
