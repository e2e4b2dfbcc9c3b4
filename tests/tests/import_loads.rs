//! Loading of imports: chunks at once and in order, next to other sessions, after kills; and checks
//! that load nothing.

use std::fmt::Write;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use arx_stack::process::wait_until;
use arx_stack::{Database, Stack};
use serde_json::Value;
use tempfile::TempDir;

const HEADER: &str = "hash,block_number,from_address,to_address,value,block_timestamp\n";

/// Rows of a file of several chunks.
const ROWS: u64 = 65_000;
const SECONDS_A_ROW: u64 = 200;

struct Desk {
    database: Database<'static>,
    folder: TempDir,
}

impl Desk {
    fn new(name: &str) -> Self {
        Self { database: Stack::shared().unwrap().database(name).unwrap(), folder: tempfile::tempdir().unwrap() }
    }

    fn write(&self, name: &str, rows: impl Iterator<Item = u64>) {
        let mut text = HEADER.to_owned();
        for row in rows {
            let (from, to) = (row % 1000, row % 777 + 5000);
            let time = 1_577_836_800 + row * SECONDS_A_ROW;
            writeln!(text, "0x{row:064x},{},0x{from:040x},0x{to:040x},{row},{time}", row / 10).unwrap();
        }
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.database.sidecar().unwrap();
        command.args(["import", "transactions", "--json"]).args(arguments).current_dir(self.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().unwrap()
    }

    fn query(&self, sql: &str) -> String {
        self.database.query(sql).unwrap()
    }

    /// Each row is there once, and the source is finished.
    fn assert_whole(&self) {
        let counts = "SELECT count(*), count(DISTINCT tx_hash), sum(value) * 1e18 FROM arx.transactions";
        assert_eq!(
            self.query(counts).replace(".000000000000000000", ""),
            format!("{ROWS}|{ROWS}|{}", ROWS * (ROWS - 1) / 2)
        );
    }
}

/// Waits for an import, and returns its report.
fn finish(child: Child) -> Value {
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{error}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn chunks_are_loaded_at_once_and_every_row_is_there_once() {
    let desk = Desk::new("loads_lanes");
    desk.write("a.csv", 0..ROWS);
    let report = finish(desk.start(&["a.csv"]));
    assert_eq!(report["imported"], ROWS);
    desk.assert_whole();
    assert_eq!(
        desk.query("SELECT lines_done, rows_imported, finished FROM arx.import_progress"),
        format!("{}|{ROWS}|t", ROWS + 1)
    );
    assert_eq!(desk.query("SELECT count(*) FROM arx.transactions_default"), "0");
    let chunks = desk.query("SELECT count(DISTINCT ingest_xid) FROM arx.transactions");
    assert_eq!(chunks, "7", "chunks of 10,000 rows, each in one transaction");
}

#[test]
fn two_imports_of_the_same_rows_in_opposite_order_end_with_each_row_once() {
    let desk = Desk::new("loads_overlap");
    desk.write("up.csv", 0..ROWS);
    desk.write("down.csv", (0..ROWS).rev());
    let imports = [desk.start(&["up.csv"]), desk.start(&["down.csv"])];
    let reports = imports.map(finish);
    let sum = |name: &str| reports.iter().map(|report| report[name].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("imported"), sum("unchanged")), (ROWS, ROWS), "{reports:?}");
    desk.assert_whole();
}

#[test]
fn an_import_that_is_killed_again_and_again_continues_until_each_row_is_there_once() {
    let desk = Desk::new("loads_killed");
    desk.write("a.csv", 0..ROWS);
    for round in 0..8_u64 {
        let mut child = desk.start(&["a.csv"]);
        std::thread::sleep(Duration::from_millis(150 + round * 190));
        child.kill().unwrap();
        child.wait().unwrap();
        // What is visible is a beginning of the file, as far as the progress says.
        let state = desk.query(
            "SELECT (SELECT count(*) FROM arx.transactions), coalesce((SELECT max(lines_done) FROM arx.import_progress), 0)",
        );
        let (rows, lines) = state.split_once('|').unwrap();
        let (rows, lines): (u64, u64) = (rows.parse().unwrap(), lines.parse().unwrap());
        assert!(rows + 1 == lines || rows + lines == 0 || rows == ROWS, "{rows} rows, {lines} lines");
    }
    finish(desk.start(&["a.csv"]));
    desk.assert_whole();
}

#[test]
fn a_stranger_that_holds_a_row_delays_an_import_and_does_not_stop_it() {
    let desk = Desk::new("loads_stranger");
    desk.write("a.csv", 0..ROWS);
    desk.query("SELECT arx.ensure_partitions('arx.transactions', '2020-01-01', '2020-07-01')");
    // A row of a later chunk.
    let row = 30_000_u64;
    let mut stranger = desk.database.psql();
    let time = 1_577_836_800 + row * SECONDS_A_ROW;
    let insert = format!(
        "BEGIN; INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, status) \
         VALUES ('ethereum', '0x{row:064x}', {}, to_timestamp({time}), '0x{:040x}', '0x{:040x}', {row} / 1e18, 'unknown'); \
         SELECT pg_sleep(8); COMMIT",
        row / 10,
        row % 1000,
        row % 777 + 5000
    );
    let mut stranger = stranger.args(["-c", &insert]).stdout(Stdio::null()).spawn().unwrap();
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()";
    assert!(wait_until(Duration::from_secs(20), || Ok(desk.query(waits) == "1")).unwrap());
    let report = finish(desk.start(&["a.csv"]));
    assert!(stranger.wait().unwrap().success());
    assert_eq!((report["imported"].as_u64(), report["unchanged"].as_u64()), (Some(ROWS - 1), Some(1)), "{report}");
    desk.assert_whole();
}

#[test]
fn a_role_with_one_connection_imports_chunk_by_chunk() {
    let desk = Desk::new("loads_narrow");
    desk.write("a.csv", 0..ROWS);
    desk.query("CREATE ROLE loads_narrow LOGIN CONNECTION LIMIT 1; GRANT arx_operator TO loads_narrow");
    let url =
        desk.database.connection().replace("postgres@", "loads_narrow@").replace("user=postgres", "user=loads_narrow");
    let mut command = desk.command(&["a.csv"]);
    command.env("ARX_POSTGRES_URL", url);
    let report = finish(command.spawn().unwrap());
    assert_eq!(report["imported"], ROWS);
    desk.assert_whole();
}

#[test]
fn a_check_of_a_network_without_rows_reports_what_the_import_does() {
    let desk = Desk::new("loads_check");
    // A row of the last chunk repeats one of the first.
    desk.write("a.csv", (0..ROWS).chain([7]));
    let check = finish(desk.start(&["a.csv", "--check"]));
    assert_eq!(desk.query("SELECT count(*) FROM arx.transactions"), "0");
    assert_eq!(desk.query("SELECT count(*) FROM arx.import_progress"), "0");
    let import = finish(desk.start(&["a.csv"]));
    for name in ["imported", "updated", "unchanged", "rejected", "complete"] {
        assert_eq!(check[name], import[name], "{name}");
    }
    assert_eq!((&import["imported"], &import["unchanged"]), (&Value::from(ROWS), &Value::from(1)));
    desk.assert_whole();
}

#[test]
fn calls_within_a_failed_call_are_passed_over_however_far_away_they_are() {
    let desk = Desk::new("loads_failed_call");
    desk.write("a.csv", 1..3);
    finish(desk.start(&["a.csv"]));
    let header =
        "block_number,transaction_hash,from_address,to_address,value,trace_type,call_type,trace_address,error\n";
    let call = |tx: u64, value: u64, kind: &str, path: &str, error: &str| {
        format!("0,0x{tx:064x},0x{tx:040x},0x{:040x},{value},call,{kind},\"{path}\",{error}\n", tx + 7)
    };
    // More lines than a chunk has, which move nothing.
    let far = call(2, 0, "staticcall", "1", "").repeat(51_000);
    let inner = call(1, 5, "call", "0,3,1", "") + &call(1, 6, "call", "1", "") + &call(2, 7, "call", "0", "");
    std::fs::write(
        desk.folder.path().join("calls.csv"),
        format!("{header}{}{far}{inner}", call(1, 0, "call", "0,3", "out of gas")),
    )
    .unwrap();
    let report = finish(desk.start(&["calls.csv"]));
    assert_eq!(report["imported"], 2, "{report}");
    let legs = "SELECT right(tx_hash, 1), trace_path FROM arx.internal_transfers ORDER BY 1, 2";
    assert_eq!(desk.query(legs), "1|1\n2|0");
}

#[test]
fn rows_of_a_file_that_does_not_match_its_checksum_are_taken_back() {
    let desk = Desk::new("loads_corrupt");
    desk.write("a.csv", 0..ROWS);
    assert!(Command::new("gzip").arg(desk.folder.path().join("a.csv")).status().unwrap().success());
    let path = desk.folder.path().join("a.csv.gz");
    let whole = std::fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    let checksum = damaged.len() - 8;
    damaged[checksum] ^= 1;
    std::fs::write(&path, damaged).unwrap();
    let output = desk.start(&["a.csv.gz"]).wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && error.contains("were taken back"), "{error}");
    assert_eq!(desk.query("SELECT count(*) FROM arx.transactions"), "0");
    std::fs::write(&path, whole).unwrap();
    finish(desk.start(&["a.csv.gz"]));
    desk.assert_whole();
}
