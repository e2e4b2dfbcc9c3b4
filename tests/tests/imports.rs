//! Files of others into PostgreSQL: what a file says is stored, what it does not say is unknown,
//! and every line is accounted for.

use std::process::Stdio;

use arx_stack::{Database, Stack, programs};
use serde_json::Value;
use tempfile::TempDir;

/// A database and a folder of files.
struct Desk<'a> {
    database: Database<'a>,
    folder: TempDir,
}

/// Exit code and report of an import, or its error.
struct Outcome {
    code: Option<i32>,
    report: Value,
    error: String,
}

impl Outcome {
    fn count(&self, name: &str) -> u64 {
        self.report[name].as_u64().unwrap_or_else(|| panic!("{name} in {} {}", self.report, self.error))
    }

    /// Imported, updated, unchanged and rejected rows.
    fn counts(&self) -> [u64; 4] {
        let rejected = self.report["rejected"].as_object().into_iter().flatten();
        let rejected = rejected.map(|(_, count)| count.as_u64().unwrap()).sum();
        [self.count("imported"), self.count("updated"), self.count("unchanged"), rejected]
    }
}

impl Desk<'_> {
    fn new(name: &str) -> Desk<'static> {
        Desk { database: Stack::shared().unwrap().database(name).unwrap(), folder: tempfile::tempdir().unwrap() }
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.folder.path().join(name), content).unwrap();
    }

    /// Imports from the folder.
    fn import(&self, arguments: &[&str]) -> Outcome {
        let mut command = self.database.sidecar().unwrap();
        command.arg("import").args(arguments).arg("--json").current_dir(self.folder.path()).stdin(Stdio::null());
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Outcome {
            code: output.status.code(),
            report: text.lines().last().map_or(Value::Null, |line| serde_json::from_str(line).unwrap()),
            error: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Writes and imports a file of transactions.
    fn load(&self, name: &str, content: &str, options: &[&str]) -> Outcome {
        self.write(name, content);
        self.import(&[&["transactions", name, "--again"], options].concat())
    }

    fn query(&self, sql: &str) -> String {
        self.database.query(sql).unwrap()
    }

    /// Has the server log the plans of all statements in this database, with numbers of rows.
    fn log_plans(&self) {
        let set = |setting: &str| self.query(&format!("ALTER DATABASE {} SET {setting}", self.database.name()));
        set("session_preload_libraries = 'auto_explain'");
        for setting in ["log_min_duration = 0", "log_analyze = on", "log_timing = off", "log_format = 'json'"] {
            set(&format!("auto_explain.{setting}"));
        }
    }

    /// Returns the number of rows that the logged statements have read, passed on and compared.
    fn rows_in_plans(&self) -> f64 {
        let log = std::fs::read(Stack::shared().unwrap().cluster().log()).unwrap();
        let log = String::from_utf8_lossy(&log);
        let of_database = format!("] {} LOG:  duration: ", self.database.name());
        let plans = log.split("\n2").filter(|entry| entry.contains(&of_database)).filter_map(|entry| {
            let (_, plan) = entry.split_once("plan:\n")?;
            Some(serde_json::Deserializer::from_str(plan).into_iter::<Value>().next().unwrap().unwrap())
        });
        plans.map(|plan| rows_in(&plan["Plan"])).sum()
    }

    fn rejects(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(format!("{name}.rejects"))).unwrap_or_default()
    }
}

/// Rows of a node of a plan and of those below it: what left it and what its conditions removed,
/// each time that it ran.
fn rows_in(node: &Value) -> f64 {
    let number = |name: &str| node[name].as_f64().unwrap_or_default();
    let removed: f64 = ["Filter", "Join Filter", "Index Recheck"]
        .map(|condition| number(&format!("Rows Removed by {condition}")))
        .iter()
        .sum();
    let below: f64 = node["Plans"].as_array().into_iter().flatten().map(rows_in).sum();
    (number("Actual Rows") + removed) * number("Actual Loops") + below
}

fn hash(number: u64) -> String {
    format!("0x{number:064x}")
}

fn wallet(number: u64) -> String {
    format!("0x{number:040x}")
}

const HEADER: &str = "hash,block_number,from_address,to_address,value,block_timestamp";

/// A line of [`HEADER`]: the transaction, block and time of the same number.
fn line(tx: u64, block: u64, from: u64, to: u64, value: &str) -> String {
    format!("{},{block},{},{},{value},{}", hash(tx), wallet(from), wallet(to), 1_700_000_000 + block * 12)
}

const ALL: &str =
    "SELECT right(tx_hash, 2), block_number, value::float8, status, gas_used FROM arx.transactions ORDER BY tx_hash";

#[test]
fn a_file_that_knows_more_updates_and_one_that_contradicts_is_rejected() {
    let desk = Desk::new("imports_identity");
    let plain = format!("{HEADER}\n{}\n{}\n", line(1, 10, 1, 2, "5"), line(2, 10, 2, 3, "6"));
    let first = desk.load("plain.csv", &plain, &[]);
    assert_eq!(
        (first.code, first.counts(), first.count("without_status")),
        (Some(0), [2, 0, 0, 0], 2),
        "{}",
        first.error
    );
    assert_eq!(desk.query("SELECT DISTINCT status FROM arx.transactions"), "unknown");

    let joined = format!(
        "{HEADER},receipt_status,receipt_gas_used\n{},1,21000\n{},0,30000\n",
        line(1, 10, 1, 2, "5"),
        line(2, 10, 2, 3, "6")
    );
    assert_eq!(desk.load("joined.csv", &joined, &[]).counts(), [0, 2, 0, 0]);
    let known = desk.query(ALL);
    assert_eq!(known, "01|10|5e-18|confirmed|21000\n02|10|6e-18|failed|30000");
    assert_eq!(desk.load("joined.csv", &joined, &[]).counts(), [0, 0, 2, 0]);

    let less = desk.load("plain.csv", &plain, &[]);
    assert_eq!((less.code, less.counts(), less.count("less")), (Some(0), [0, 0, 2, 0], 2));
    for (other, column) in [
        (line(1, 10, 9, 2, "5"), "from_address"),
        (line(1, 10, 1, 9, "5"), "to_address"),
        (line(1, 10, 1, 2, "55"), "value"),
    ] {
        let other = desk.load("other.csv", &format!("{HEADER}\n{other}\n"), &[]);
        assert_eq!((other.code, other.counts()), (Some(2), [0, 0, 0, 1]));
        assert!(desk.rejects("other.csv").contains(column), "{}", desk.rejects("other.csv"));
    }
    let status = format!("{HEADER},receipt_status\n{},0\n", line(1, 10, 1, 2, "5"));
    assert_eq!(desk.load("status.csv", &status, &[]).counts(), [0, 0, 0, 1]);
    assert_eq!(desk.query(ALL), known);
}

#[test]
fn receipts_tell_failed_transactions_and_created_contracts() {
    let desk = Desk::new("imports_receipts");
    let receipts = format!(
        "transaction_hash,block_number,status,gas_used,contract_address,effective_gas_price\n{},10,1,21000,{},7\n{},10,0,9,,\n",
        hash(1),
        wallet(0xc0de),
        hash(2)
    );
    let early = desk.load("receipts.csv", &receipts, &[]);
    assert_eq!((early.code, early.counts()), (Some(2), [0, 0, 0, 2]), "{}", early.error);
    assert!(desk.rejects("receipts.csv").contains("import transactions first"));

    let creation = line(1, 10, 1, 2, "5").replace(&wallet(2), "");
    desk.load("plain.csv", &format!("{HEADER}\n{creation}\n{}\n", line(2, 10, 2, 3, "6")), &[]);
    assert_eq!(desk.load("receipts.csv", &receipts, &[]).counts(), [0, 2, 0, 0]);
    assert_eq!(
        desk.query("SELECT to_address, gas_price, status, metadata ->> 'contract_address' FROM arx.transactions ORDER BY tx_hash"),
        format!("{0}|7|confirmed|{0}\n{1}||failed|", wallet(0xc0de), wallet(3))
    );
    assert_eq!(desk.load("receipts.csv", &receipts, &[]).counts(), [0, 0, 2, 0]);
}

#[test]
fn one_hash_is_one_transaction_and_moves_with_its_block() {
    let desk = Desk::new("imports_reorganised");
    let both = format!("{HEADER}\n{}\n{}\n", line(1, 10, 1, 2, "5"), line(1, 11, 1, 2, "5"));
    let first = desk.load("both.csv", &both, &[]);
    assert_eq!((first.code, first.counts(), first.count("moved")), (Some(0), [1, 1, 0, 0], 1), "{}", first.error);
    assert_eq!(
        desk.query("SELECT count(*), max(block_number), sum(value) * 1e18 FROM arx.transactions"),
        "1|11|5.000000000000000000"
    );

    // Across files, across the end of a month, and back to a lower block.
    desk.query(&format!(
        "INSERT INTO arx.token_transfers (network, tx_hash, log_index, block_number, \"timestamp\", token_address, from_address, to_address, amount)
         SELECT network, tx_hash, 0, block_number, \"timestamp\", '{0}', '{0}', '{0}', 1 FROM arx.transactions",
        wallet(7)
    ));
    let later = format!("{HEADER}\n{}\n", line(1, 300_000, 1, 2, "5"));
    assert_eq!(desk.load("later.csv", &later, &[]).counts(), [0, 1, 0, 0]);
    assert_eq!(desk.query("SELECT count(*) FROM arx.token_transfers"), "0", "its logs were of the former block");
    assert_eq!(desk.load("again.csv", &format!("{HEADER}\n{}\n", line(1, 9, 1, 2, "5")), &[]).counts(), [0, 1, 0, 0]);
    assert_eq!(desk.query("SELECT count(*), max(block_number) FROM arx.transactions"), "1|9");

    // A block that comes again takes the transactions of the former one with it.
    let block = |hash: &str, lines: &[String]| {
        let lines: String = lines.iter().map(|line| format!("{line},{hash}\n")).collect();
        format!("{HEADER},block_hash\n{lines}")
    };
    desk.load("a.csv", &block("0xaa", &[line(5, 50, 1, 2, "1"), line(6, 50, 1, 2, "2")]), &[]);
    let other =
        desk.load("b.csv", &block("0xbb", &[line(6, 50, 1, 2, "2"), line(7, 50, 1, 2, "3")]), &["--replace-blocks"]);
    assert_eq!((other.code, other.counts(), other.count("removed")), (Some(0), [1, 1, 0, 0], 1), "{}", other.error);
    assert_eq!(desk.query("SELECT string_agg(right(tx_hash, 2) || block_hash, ' ' ORDER BY tx_hash) FROM arx.transactions WHERE block_number = 50"), "060xbb 070xbb");
}

#[test]
fn lines_of_one_transaction_contradict_or_are_its_legs() {
    let desk = Desk::new("imports_edges");
    let two = format!("{HEADER}\n{}\n{}\n{}\n", line(1, 10, 1, 2, "5"), line(1, 10, 1, 3, "6"), line(2, 10, 1, 2, "1"));
    let account = desk.load("two.csv", &two, &[]);
    assert_eq!((account.code, account.counts()), (Some(2), [1, 0, 0, 2]), "a transaction is rejected whole");
    assert!(desk.rejects("two.csv").contains("--edges"));
    assert_eq!(desk.load("two.csv", &two, &["--edges"]).counts(), [2, 0, 1, 0]);
    assert_eq!(
        desk.query("SELECT position, is_ordered, kind, value * 1e18, succeeded FROM arx.internal_transfers"),
        "0|f|edge|6.000000000000000000|"
    );

    let (a, b, c) = (
        "1A9rUSBVpB4L29qy37ghpZupCcjSH45CJt",
        "12QMuBxm3yfweYZfxRDw92H8JABFGEJhny",
        "3Fp4xbhd1PeNvWq5EuQJy2m1THaAnTFwSb",
    );
    let edge = |tx: &str, from: &str, to: &str, value: u64| format!("{tx},700,{from},{to},{value},1683029999\n");
    let bitcoin = |lines: &[String]| format!("{HEADER}\n{}", lines.concat());
    // Two equal legs follow each other; one that comes again elsewhere is the same.
    let lines =
        [edge("aa", a, b, 3), edge("aa", a, b, 3), edge("aa", a, c, 4), edge("bb", b, c, 6), edge("aa", a, c, 4)];
    let first = desk.load("bitcoin.csv", &bitcoin(&lines), &["--network", "bitcoin"]);
    assert_eq!((first.code, first.counts()), (Some(0), [4, 0, 1, 0]), "{}", first.error);
    let total = "SELECT sum(value) * 1e8 FROM (SELECT value FROM arx.transactions WHERE network = 'bitcoin'
                 UNION ALL SELECT value FROM arx.internal_transfers WHERE network = 'bitcoin') AS v";
    assert_eq!(desk.query(total), "16.000000000000000000");
    assert_eq!(desk.load("bitcoin.csv", &bitcoin(&lines), &["--network", "bitcoin"]).counts(), [0, 0, 5, 0]);
    let more = [edge("aa", c, b, 9), edge("aa", a, c, 4)];
    assert_eq!(desk.load("more.csv", &bitcoin(&more), &["--network", "bitcoin"]).counts(), [1, 0, 1, 0]);
    assert_eq!(desk.query(total), "25.000000000000000000");
    // A bad line takes its transaction with it, and no other.
    let bad = [edge("cc", a, b, 1), edge("cc", a, "no address", 2), edge("dd", a, b, 1)];
    let bad = desk.load("bad.csv", &bitcoin(&bad), &["--network", "bitcoin"]);
    assert_eq!((bad.code, bad.counts()), (Some(2), [1, 0, 0, 2]));
    assert_eq!(desk.query("SELECT count(*) FROM arx.transactions WHERE tx_hash = 'cc'"), "0");
}

#[test]
fn an_amount_in_the_wrong_unit_stops_the_import_and_takes_it_back() {
    let desk = Desk::new("imports_units");
    // More lines than one database transaction takes.
    let many: String = (0..60_000).map(|n| line(n, n % 900, 1, 2, "3") + "\n").collect();
    let text = format!("{HEADER}\n{many}{}\n", line(70_000, 5, 1, 2, "1.5"));
    let stopped = desk.load("coins.csv", &text, &[]);
    assert_eq!(stopped.code, Some(1));
    assert!(stopped.error.contains("--unit coin") && stopped.error.contains("line 60002"), "{}", stopped.error);
    assert_eq!(desk.query("SELECT count(*) FROM arx.transactions"), "0");
    let coins = format!("{HEADER}\n{}\n{}\n", line(1, 5, 1, 2, "1.5"), line(2, 5, 1, 2, "40"));
    assert_eq!(desk.load("few.csv", &coins, &["--unit", "coin"]).counts(), [2, 0, 0, 0]);
    assert_eq!(desk.query("SELECT sum(value) FROM arx.transactions"), "41.500000000000000000");
    let floats = format!("{HEADER}\n{}\n{}\n", line(3, 5, 1, 2, "2.5e+18"), line(4, 5, 1, 2, "7.1234567891e+20"));
    let floats = desk.load("floats.csv", &floats, &[]);
    assert_eq!((floats.code, floats.counts()), (Some(2), [1, 0, 0, 1]));
    assert!(desk.rejects("floats.csv").contains("lost digits"));
}

#[test]
fn traces_are_legs_in_the_order_of_the_calls() {
    let desk = Desk::new("imports_traces");
    let header =
        "block_number,transaction_hash,from_address,to_address,value,trace_type,call_type,trace_address,error,status";
    let trace = |tx: u64, from: u64, to: u64, value: u64, kind: &str, path: &str, error: &str| {
        let (kind, call) = kind.split_once(' ').unwrap_or((kind, ""));
        let status = u8::from(error.is_empty());
        format!("10,{},{},{},{value},{kind},{call},\"{path}\",{error},{status}\n", hash(tx), wallet(from), wallet(to))
    };
    let lines = [
        trace(1, 1, 2, 5, "call call", "", ""),
        trace(1, 2, 3, 7, "call call", "1", ""),
        trace(1, 2, 4, 8, "call call", "0", ""),
        trace(1, 4, 5, 9, "call call", "0,2", ""),
        trace(1, 2, 6, 9, "call delegatecall", "2", ""),
        trace(1, 2, 6, 0, "call call", "3", "Reverted"),
        // Reverted with its caller, though it says nothing.
        trace(1, 6, 7, 1, "call call", "3,0", "").replace(",,1\n", ",,\n"),
        format!("10,,,{},2000000000000000000,reward,,,,1\n", wallet(9)),
    ];
    let text = format!("{header}\n{}", lines.concat());
    assert_eq!(desk.load("traces.csv", &text, &[]).code, Some(2), "without the transaction nothing has a time");
    desk.load("plain.csv", &format!("{HEADER}\n{}\n", line(1, 10, 1, 2, "5")), &[]);
    let first = desk.load("traces.csv", &text, &[]);
    assert_eq!((first.code, first.counts(), first.count("no_value")), (Some(0), [4, 0, 0, 0], 4), "{}", first.error);
    let legs = "SELECT right(coalesce(from_address, '-'), 1), right(to_address, 1), is_ordered, kind, succeeded
                  FROM arx.internal_transfers ORDER BY tx_hash, position";
    let ordered = "2|4|t|call|t\n4|5|t|call|t\n2|3|t|call|t\n-|9|t|reward|t";
    assert_eq!(desk.query(legs), ordered);
    assert_eq!(desk.load("traces.csv", &text, &[]).counts(), [0, 0, 4, 0]);

    // A part before the whole gives the same in the end.
    desk.query("DELETE FROM arx.internal_transfers");
    let part = format!("{header}\n{}", lines[3]);
    assert_eq!(desk.load("part.csv", &part, &[]).counts(), [1, 0, 0, 0]);
    assert_eq!(desk.load("traces.csv", &text, &[]).counts(), [3, 0, 1, 0]);
    assert_eq!(desk.query(legs), ordered);
    assert_eq!(desk.load("part.csv", &part, &[]).counts(), [0, 0, 1, 0]);

    // The failure of a transaction is known later.
    desk.load("receipts.csv", &format!("transaction_hash,block_number,status\n{},10,0\n", hash(1)), &[]);
    assert_eq!(desk.query("SELECT count(*) FROM arx.internal_transfers WHERE NOT succeeded"), "3");
}

#[test]
fn answers_of_explorers_are_read_as_arrays_and_lines() {
    let desk = Desk::new("imports_explorer");
    let internal = |tx: u64, to: u64| {
        format!(
            r#"{{"blockNumber": "10", "timeStamp": "1700000120", "hash": "{}", "from": "{}", "to": "{}", "value": "7",
            "contractAddress": "", "input": "", "type": "call", "gas": "1", "gasUsed": "0", "traceId": "0_{to}", "isError": "0", "errCode": ""}}"#,
            hash(tx),
            wallet(1),
            wallet(to)
        )
    };
    let answer = format!(r#"{{"status": "1", "message": "OK", "result": [{}, {}]}}"#, internal(1, 2), internal(1, 3));
    let first = desk.load("internal.json", &answer, &[]);
    assert_eq!((first.code, first.counts()), (Some(0), [2, 0, 0, 0]), "{}", first.error);
    let lines = [internal(1, 2), internal(1, 3)].map(|line| line.replace('\n', " ")).join("\n");
    assert_eq!(desk.load("lines.json", &lines, &[]).counts(), [0, 0, 2, 0]);

    let typed: String = [r#", "type": "0x2""#, r#", "type": 2"#, r#", "type": "legacy""#, ""]
        .iter()
        .zip(1..)
        .map(|(kind, tx)| {
            format!(
                r#"{{"hash": "{}", "block_number": 5, "from_address": "{}", "to_address": "{}", "value": "1", "block_timestamp": 1700000060{kind}}}"#,
                hash(tx),
                wallet(1),
                wallet(2)
            ) + "\n"
        })
        .collect();
    let typed = desk.load("typed.json", &typed, &[]);
    assert_eq!((typed.code, typed.counts()), (Some(0), [4, 0, 0, 0]), "a type is no reason to skip: {}", typed.error);
    let mixed = format!("{{\"type\": \"block\", \"miner\": \"\"}}\n{}", r#"{"type": "log"}"#);
    let mixed = desk.load("mixed.json", &mixed, &[]);
    assert_eq!((mixed.code, mixed.report["skipped"].to_string().as_str()), (Some(2), r#"{"block":1,"log":1}"#));

    let wallet_csv = format!(
        "\"Transaction Hash\",\"Blockno\",\"UnixTimestamp\",\"DateTime (UTC)\",\"From\",\"To\",\"ContractAddress\",\"Value_IN(ETH)\",\"Value_OUT(ETH)\",\"Status\",\"ErrCode\",\"Method\"\n\
         \"{}\",\"20\",\"1700000240\",\"\",\"{}\",\"{}\",\"\",\"1.5\",\"0\",\"\",\"\",\"Transfer\"\n",
        hash(20),
        wallet(1),
        wallet(2)
    );
    let export = desk.load("export.csv", &wallet_csv, &[]);
    assert_eq!((export.code, export.counts()), (Some(0), [1, 0, 0, 0]), "{}", export.error);
    assert_eq!(export.report["unused_columns"].to_string(), r#"["Method"]"#);
    assert_eq!(
        desk.query(&format!("SELECT value, status FROM arx.transactions WHERE tx_hash = '{}'", hash(20))),
        "1.500000000000000000|confirmed"
    );
    let mapped = format!("Id,Height,Sender,Receiver,Wei,When\n{}\n", line(30, 3, 1, 2, "5"));
    let names = [
        "Id=hash",
        "Height=block_number",
        "Sender=from_address",
        "Receiver=to_address",
        "Wei=value",
        "When=block_timestamp",
    ];
    let names: Vec<&str> = names.iter().flat_map(|name| ["--map", name]).collect();
    assert_eq!(desk.load("mapped.csv", &mapped, &names).counts(), [1, 0, 0, 0]);
}

#[test]
fn token_transfers_are_compared_and_ids_are_no_amounts() {
    let desk = Desk::new("imports_tokens");
    let header = "token_address,from_address,to_address,value,transaction_hash,log_index,block_number,block_timestamp";
    let transfer = |value: &str, log: u64, block: u64| {
        format!(
            "{},{},{},{value},{},{log},{block},{}\n",
            wallet(7),
            wallet(1),
            wallet(2),
            hash(1),
            1_700_000_000 + block
        )
    };
    let load = |name: &str, text: String, options: &[&str]| {
        desk.write(name, text);
        desk.import(&[&["token-transfers", name, "--again"], options].concat())
    };
    let id = "64855325985663894930836489220226401318767699022689309206020046035013068781522";
    let text = format!("{header}\n{}{}", transfer(id, 0, 10), transfer("7", 1, 10));
    let unstated = load("nft.csv", text.clone(), &[]);
    assert_eq!(
        (unstated.code, unstated.counts()),
        (Some(2), [0, 0, 0, 2]),
        "7 may be an id as well: {}",
        unstated.error
    );
    assert!(desk.rejects("nft.csv").contains("--erc721"));
    assert_eq!(load("nft.csv", text.clone(), &["--erc721", &wallet(7)]).counts(), [2, 0, 0, 0]);
    assert_eq!(
        desk.query("SELECT amount, token_id FROM arx.token_transfers ORDER BY log_index"),
        format!("1|{id}\n1|7")
    );
    assert_eq!(load("nft.csv", text, &["--erc721", &wallet(7)]).counts(), [0, 0, 2, 0]);
    let other = load("other.csv", format!("{header}\n{}", transfer("8", 1, 10)), &[]);
    assert_eq!((other.code, other.counts()), (Some(2), [0, 0, 0, 1]));
    let moved = load("moved.csv", format!("{header}\n{}", transfer("8", 1, 12)), &[]);
    assert_eq!((moved.code, moved.counts(), moved.count("moved")), (Some(0), [0, 1, 0, 0], 1));
    assert_eq!(desk.query("SELECT block_number, log_index, amount FROM arx.token_transfers"), "12|1|8");

    // Without a log index a transfer is placed at the end, until a file knows its place.
    let api = format!(
        r#"[{{"blockNumber": "20", "timeStamp": "1700000020", "hash": "{}", "from": "{}", "to": "{}", "value": "5", "contractAddress": "{}", "tokenDecimal": "6"}}]"#,
        hash(2),
        wallet(1),
        wallet(2),
        wallet(7)
    );
    assert_eq!(load("api.json", api.clone(), &[]).counts(), [1, 0, 0, 0]);
    assert_eq!(load("api.json", api.clone(), &[]).counts(), [0, 0, 1, 0]);
    let placed = format!("{header}\n{}", transfer("5", 3, 20).replace(&hash(1), &hash(2)));
    assert_eq!(load("placed.csv", placed, &[]).counts(), [0, 1, 0, 0]);
    assert_eq!(load("api.json", api, &[]).counts(), [0, 0, 1, 0]);
    assert_eq!(desk.query(&format!("SELECT log_index FROM arx.token_transfers WHERE tx_hash = '{}'", hash(2))), "3");
}

#[test]
fn many_files_are_imported_in_turn_and_a_check_writes_nothing() {
    let desk = Desk::new("imports_files");
    let part = |n: u64| format!("{HEADER}\n{}\n", line(n, n, 1, 2, "5"));
    for n in 1..=3 {
        desk.write(&format!("part-{n}.csv"), part(n));
    }
    let check = desk.import(&["transactions", "part-*.csv", "--check"]);
    assert_eq!((check.code, check.counts()), (Some(0), [1, 0, 0, 0]), "{}", check.error);
    assert_eq!(desk.query("SELECT count(*) FROM arx.transactions"), "0");
    assert_eq!(desk.query("SELECT count(*) FROM arx.import_progress"), "0");
    assert_eq!(desk.import(&["transactions", "part-*.csv"]).code, Some(0));
    assert_eq!(desk.query("SELECT count(*) FROM arx.transactions"), "3");
    assert_eq!(desk.import(&["transactions", "none-*.csv"]).code, Some(1));
    // Put together, the header comes again.
    let all = desk.load("all.csv", &[part(4), part(5)].concat(), &[]);
    assert_eq!((all.code, all.counts(), all.count("headers")), (Some(0), [2, 0, 0, 0], 1), "{}", all.error);
    let tokens = desk.load("tokens.csv", "token_address,from_address,to_address,value\n", &[]);
    assert_eq!(tokens.code, Some(1));
    assert!(tokens.error.contains("token-transfers"), "{}", tokens.error);
}

#[test]
fn every_command_of_the_import_guide_accounts_for_every_line() {
    let desk = Desk::new("imports_guide");
    let workspace = programs::workspace();
    let guide = std::fs::read_to_string(workspace.join("docs/import.md")).unwrap();
    let commands: Vec<&str> = guide.lines().filter_map(|line| line.strip_prefix("arx-sidecar ")).collect();
    for entry in std::fs::read_dir(workspace.join("samples/formats")).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        // Label lists have a guide of their own.
        if entry.file_type().unwrap().is_file() && name != "README.md" {
            assert!(commands.iter().any(|command| command.ends_with(&format!("/{name}"))), "no command reads {name}");
        }
    }
    for again in [false, true] {
        for command in &commands {
            let mut sidecar = desk.database.sidecar().unwrap();
            sidecar.args(command.split(' ')).arg("--json").args(again.then_some("--again")).current_dir(&workspace);
            let output = sidecar.stdin(Stdio::null()).output().unwrap();
            let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert_eq!(output.status.code(), Some(0), "{command}: {text}");
            let report: Value = serde_json::from_str(text.trim()).unwrap();
            let new = report["imported"].as_u64().unwrap() + report["updated"].as_u64().unwrap();
            assert_eq!(new == 0, again, "{command}: {text}");
        }
    }
    assert_eq!(
        desk.query("SELECT network, count(*), sum(value) FROM arx.transactions WHERE status = 'confirmed' GROUP BY 1 ORDER BY 1"),
        "bitcoin|2|0.000550000000000000\nethereum|6|1254.540000000000000000\ngnosis|1|12.500000000000000000"
    );
}

#[test]
fn complete_histories_are_recorded_when_every_line_is_imported() {
    let desk = Desk::new("imports_coverage");
    desk.write("wallets.txt", format!("{}\n\n{}\n", wallet(1), wallet(2).to_uppercase().replace("0X", "0x")));
    desk.write("bad.txt", "nowhere\n");
    let good = format!("{HEADER}\n{}\n{}\n", line(1, 10, 1, 2, "5"), line(2, 20, 1, 2, "5"));
    let recorded = "SELECT address, extract(epoch FROM from_time)::bigint, extract(epoch FROM to_time)::bigint FROM arx.history_coverage ORDER BY address";
    assert_eq!(desk.load("good.csv", &good, &["--complete-for", "bad.txt"]).code, Some(1));
    assert_eq!(desk.query("SELECT count(*) FROM arx.transactions"), "0", "an invalid list is found before the import");
    assert_eq!(desk.load("bad.csv", &format!("{good}x\n"), &["--complete-network"]).code, Some(2));
    assert_eq!(desk.load("good.csv", &good, &["--complete-network", "--check"]).code, Some(0));
    assert_eq!(desk.query(recorded), "");
    assert_eq!(desk.load("good.csv", &good, &["--complete-network"]).code, Some(0));
    assert_eq!(desk.query(recorded), "|1700000120|1700000241");
    assert_eq!(desk.load("good.csv", &good, &["--complete-for", "wallets.txt"]).code, Some(0));
    assert_eq!(desk.query(recorded), format!("{}||\n{}||\n|1700000120|1700000241", wallet(1), wallet(2)));
}

#[test]
fn units_networks_and_outcomes_are_what_the_file_states() {
    let desk = Desk::new("imports_statements");
    let export = format!(
        "\"Transaction Hash\",\"Status\",\"Method\",\"Blockno\",\"DateTime (UTC)\",\"From\",\"To\",\"Amount\",\"Value (USD)\",\"Txn Fee\"\n\
         \"{}\",\"Success\",\"Transfer\",\"70\",\"2023-11-15 01:02:03\",\"{}\",\"{}\",\"1,250.5 ETH\",\"$2,313,425.00\",\"0.0004\"\n",
        hash(1),
        wallet(1),
        wallet(2)
    );
    let export = desk.load("export.csv", &export, &[]);
    assert_eq!((export.code, export.counts()), (Some(0), [1, 0, 0, 0]), "{}", export.error);
    assert_eq!(export.report["unused_columns"].to_string(), r#"["Method","Value (USD)","Txn Fee"]"#);
    assert_eq!(desk.query("SELECT value, status FROM arx.transactions"), "1250.500000000000000000|confirmed");
    let dollars = format!("{}\n{}\n", HEADER.replace("value", "Value (USD)"), line(2, 71, 1, 2, "3"));
    let dollars = desk.load("dollars.csv", &dollars, &[]);
    assert!(dollars.code == Some(1) && dollars.error.contains("column value"), "{}", dollars.error);
    let other = format!("{}\n{}\n", HEADER.replace("value", "Value (BNB)"), line(2, 71, 1, 2, "3"));
    assert!(desk.load("other.csv", &other, &[]).error.contains("--network"));
    assert_eq!(desk.load("other.csv", &other, &["--network", "bsc"]).counts(), [1, 0, 0, 0]);
    let scientific = format!("{HEADER}\n{}\n", line(2, 71, 1, 2, "4.56789E+17"));
    assert_eq!(desk.load("sheet.csv", &scientific, &[]).counts(), [0, 0, 0, 1]);

    let mixed = format!(
        "{HEADER},chain_id,isError\n{},1,0\n{},56,0\n{},1,failed\n",
        line(3, 72, 1, 2, "1"),
        line(4, 72, 1, 2, "1"),
        line(5, 72, 1, 2, "1")
    );
    let mixed = desk.load("mixed.csv", &mixed, &[]);
    assert_eq!((mixed.code, mixed.counts()), (Some(2), [2, 0, 0, 1]), "{}", mixed.error);
    assert!(desk.rejects("mixed.csv").contains("chain_id"));
    assert_eq!(
        desk.query(
            "SELECT string_agg(status::text, ' ' ORDER BY tx_hash) FROM arx.transactions WHERE block_number = 72"
        ),
        "confirmed failed"
    );
}

#[test]
fn no_row_between_answers_is_passed_over() {
    let desk = Desk::new("imports_between");
    let row = |tx: u64, more: &str| {
        format!(
            r#"{{"hash": "{}", "block_number": 5, "from": "{}", "to": "{}", "value": "1", "timestamp": 1700000060{more}}}"#,
            hash(tx),
            wallet(1),
            wallet(2)
        )
    };
    let text = format!(
        "[{}]\n{}\n{{\"status\": \"0\", \"message\": \"NOTOK\", \"result\": \"Max rate limit reached\"}}\n\
         {{\"status\": \"1\", \"message\": \"OK\", \"result\": [{}]}}\n",
        row(1, ""),
        row(2, ""),
        row(3, "")
    );
    let mixed = desk.load("mixed.json", &text, &[]);
    assert_eq!((mixed.code, mixed.counts()), (Some(2), [3, 0, 0, 1]), "{}", mixed.error);
    assert!(desk.rejects("mixed.json").contains("rate limit"));
    let lines = format!("{}\n{}\n[{}]\n", row(4, r#", "nonce": 1"#), row(5, r#", "data": []"#), row(6, ""));
    let lines = desk.load("lines.json", &lines, &[]);
    assert_eq!((lines.code, lines.counts()), (Some(2), [2, 0, 0, 1]), "an array among lines is rejected");
    assert_eq!(lines.report["unused_columns"].to_string(), r#"["nonce"]"#);
    let busy = desk.load("busy.json", "{\"status\": \"0\", \"message\": \"NOTOK\", \"result\": \"busy\"}\n", &[]);
    assert!(busy.code == Some(1) && busy.error.contains("fetch the page again"), "{}", busy.error);

    let plain = format!("{HEADER}\n{}\n", line(9, 9, 1, 2, "5"));
    let unix = desk.load("cr.csv", &plain.replace('\n', "\r"), &[]);
    assert!(unix.code == Some(1) && unix.error.contains("CR alone"), "{}", unix.error);
    let column = desk.load("map.csv", &plain, &["--map", "vaule=value"]);
    assert!(column.code == Some(1) && column.error.contains("vaule"), "{}", column.error);
    let field = format!("{HEADER},note\n{},x\n", line(9, 9, 1, 2, "5"));
    let field = desk.load("field.csv", &field, &["--map", "note=remark"]);
    assert!(field.code == Some(1) && field.error.contains("remark"), "{}", field.error);
}

#[test]
fn the_value_of_a_call_is_not_lost_with_its_transaction() {
    let desk = Desk::new("imports_roots");
    let header =
        "block_number,transaction_hash,from_address,to_address,value,trace_type,trace_address,status,block_timestamp";
    let trace = |from: u64, to: u64, path: &str| {
        format!("10,{},{},{},7,call,\"{path}\",1,1700000120\n", hash(1), wallet(from), wallet(to))
    };
    let text = format!("{header}\n{}{}", trace(1, 2, ""), trace(2, 3, "0"));
    let alone = desk.load("traces.csv", &text, &[]);
    assert_eq!((alone.code, alone.counts()), (Some(2), [1, 0, 0, 1]), "{}", alone.error);
    assert!(desk.rejects("traces.csv").contains("import transactions first"));
    desk.load("plain.csv", &format!("{HEADER}\n{}\n", line(1, 10, 1, 2, "7")), &[]);
    let both = desk.load("traces.csv", &text, &[]);
    assert_eq!((both.code, both.counts(), both.count("no_value")), (Some(0), [0, 0, 1, 0], 1), "{}", both.error);
    let unknown = text.replace("trace_address", "depth");
    assert!(desk.load("depth.csv", &unknown, &[]).error.contains("trace_address"));

    let reward = format!("{header}\n11,,,,5,reward,,1,1700000132\n11,,,{},5,reward,,1,1700000132\n", wallet(4));
    assert_eq!(desk.load("rewards.csv", &reward, &[]).counts(), [1, 0, 0, 1], "a reward without a receiver");
}

#[test]
fn scripts_and_spellings_of_hashes_count_once_and_under_their_name() {
    let desk = Desk::new("imports_scripts");
    let bitcoin = |hash: &str, index: u64, inputs: &str, outputs: &str| {
        format!(
            r#"{{"type": "transaction", "hash": "{hash}", "block_number": 7, "block_timestamp": 1683029999, "index": {index},
            "is_coinbase": {}, "inputs": [{inputs}], "outputs": [{outputs}]}}"#,
            inputs.is_empty()
        )
        .replace('\n', " ")
            + "\n"
    };
    let (first, second) = ("c0".repeat(32), "d1".repeat(32));
    let script = r#"{"addresses": ["nonstandard77ee"], "value": 500}"#;
    let nameless = r#"{"addresses": [], "value": 9}"#;
    let wallet = r#"{"addresses": ["1A9rUSBVpB4L29qy37ghpZupCcjSH45CJt"], "value": 480}"#;
    let text = bitcoin(&first, 0, "", &format!("{script},{nameless}")) + &bitcoin(&second, 1, script, wallet);
    let network = ["--network", "bitcoin"];
    let loaded = desk.load("blocks.json", &text, &network);
    assert_eq!((loaded.code, loaded.counts()), (Some(0), [3, 0, 0, 0]), "{}", loaded.error);
    assert!(loaded.report["notes"].to_string().ends_with(":1}"), "{}", loaded.report);
    assert_eq!(
        desk.query("SELECT from_address FROM arx.transactions UNION ALL SELECT to_address FROM arx.internal_transfers WHERE kind = 'coinbase'"),
        "nonstandard77ee\nnonstandard77ee"
    );
    let upper = text.replace(&first, &first.to_uppercase()).replace(&second, &second.to_uppercase());
    assert_eq!(desk.load("upper.json", &upper, &network).counts(), [0, 0, 3, 0]);
    let lost = bitcoin(&"e2".repeat(32), 2, "", nameless);
    let lost = desk.load("lost.json", &lost, &network);
    assert_eq!((lost.code, lost.counts()), (Some(2), [0, 0, 0, 1]), "{}", lost.error);
}

#[test]
fn values_that_may_be_token_ids_are_counted() {
    let desk = Desk::new("imports_assumed");
    let header = "token_address,from_address,to_address,value,transaction_hash,log_index,block_number,block_timestamp";
    let text = format!("{header}\n{},{},{},8817,{},0,10,1700000120\n", wallet(7), wallet(1), wallet(2), hash(1));
    desk.write("tokens.csv", text);
    let assumed = desk.import(&["token-transfers", "tokens.csv"]);
    assert_eq!((assumed.code, assumed.counts()), (Some(0), [1, 0, 0, 0]), "{}", assumed.error);
    let notes = assumed.report["notes"].as_object().unwrap();
    assert!(notes.iter().any(|(note, count)| note.contains("--erc721") && count == 1), "{}", assumed.report);
    let stated = desk.import(&["token-transfers", "tokens.csv", "--again", "--erc20", &wallet(7)]);
    assert_eq!((stated.counts(), stated.report["notes"].to_string().as_str()), ([0, 0, 1, 0], "{}"));
}

#[test]
fn kinds_of_tokens_in_the_database_need_no_option() {
    let desk = Desk::new("imports_kinds");
    let header = "token_address,from_address,to_address,value,transaction_hash,log_index,block_number,block_timestamp";
    let line = |token: u64, log: u64| {
        format!("{},{},{},8817,{},{log},10,1700000120\n", wallet(token), wallet(1), wallet(2), hash(1))
    };
    desk.query(&format!(
        "INSERT INTO arx.tokens (network, token_address, kind) VALUES ('ethereum', '{}', 'nft'), ('ethereum', '{}', 'fungible')",
        wallet(7),
        wallet(8)
    ));
    desk.write("tokens.csv", format!("{header}\n{}{}{}", line(7, 0), line(8, 1), line(9, 2)));
    let loaded = desk.import(&["token-transfers", "tokens.csv"]);
    assert_eq!((loaded.code, loaded.counts()), (Some(0), [3, 0, 0, 0]), "{}", loaded.error);
    // Only the third contract is unknown.
    assert!(loaded.report["notes"].as_object().unwrap().values().any(|count| count == 1), "{}", loaded.report);
    let amounts = "SELECT amount, token_id FROM arx.token_transfers ORDER BY log_index";
    assert_eq!(desk.query(amounts), "1|8817\n8817|\n8817|");
}

/// Lines of ethereum-etl's traces: transaction, sender, receiver, value, path, status.
fn calls(lines: &[(u64, u64, u64, u64, &str, &str)]) -> String {
    let header =
        "block_number,transaction_hash,from_address,to_address,value,trace_type,call_type,trace_address,status";
    let line = |&(tx, from, to, value, path, status): &(u64, u64, u64, u64, &str, &str)| {
        format!("10,{},{},{},{value},call,call,\"{path}\",{status}\n", hash(tx), wallet(from), wallet(to))
    };
    format!("{header}\n{}", lines.iter().map(line).collect::<String>())
}

/// Legs in their order: receiver, value in wei, path, whether the order is known, success.
const CALLS: &str =
    "SELECT right(tx_hash, 1), right(to_address, 1), (value * 1e18)::bigint, trace_path, is_ordered, succeeded
                       FROM arx.internal_transfers ORDER BY tx_hash, position";

#[test]
fn the_path_of_a_call_is_its_identity() {
    let desk = Desk::new("imports_paths");
    desk.load("plain.csv", &format!("{HEADER}\n{}\n{}\n", line(1, 10, 1, 2, "5"), line(2, 10, 1, 2, "5")), &[]);
    // Equal calls with other paths, a repeated line, and one path with two contents.
    let apart = calls(&[(1, 2, 3, 7, "0", "1"), (2, 2, 3, 7, "0", "1"), (1, 2, 3, 7, "1", "1")]);
    let first = desk.load("apart.csv", &apart, &[]);
    assert_eq!((first.code, first.counts()), (Some(0), [3, 0, 0, 0]), "{}", first.error);
    let twice = calls(&[(1, 2, 3, 7, "1", "1"), (1, 2, 3, 7, "1", "1")]);
    assert_eq!(desk.load("twice.csv", &twice, &[]).counts(), [0, 0, 2, 0]);
    let both = desk.load("both.csv", &calls(&[(2, 2, 4, 5, "3", "1"), (2, 2, 4, 6, "3", "1")]), &[]);
    assert_eq!((both.code, both.counts()), (Some(2), [0, 0, 0, 2]));
    assert!(desk.rejects("both.csv").contains("trace address 3"), "{}", desk.rejects("both.csv"));
    let other = desk.load("other.csv", &calls(&[(2, 2, 4, 7, "0", "1")]), &[]);
    assert_eq!(other.counts(), [0, 0, 0, 1]);
    assert!(desk.rejects("other.csv").contains("is stored as"), "{}", desk.rejects("other.csv"));
    assert_eq!(desk.query(CALLS), "1|3|7|0|t|t\n1|3|7|1|t|t\n2|3|7|0|t|t");

    // Parts of a transaction give the same in either order, and a stored leg keeps its price.
    let parts = [
        calls(&[(1, 2, 4, 8, "1", "1")]),
        calls(&[(1, 2, 3, 8, "0", "1"), (1, 4, 5, 8, "1,2", "1"), (1, 2, 6, 8, "10", "1")]),
    ];
    for order in [[0, 1], [1, 0]] {
        desk.query("DELETE FROM arx.internal_transfers");
        desk.load("part.csv", &parts[order[0]], &[]);
        desk.query("UPDATE arx.internal_transfers SET value_usd = 3");
        desk.load("part.csv", &parts[order[1]], &[]);
        assert_eq!(desk.query(CALLS), "1|3|8|0|t|t\n1|4|8|1|t|t\n1|5|8|1,2|t|t\n1|6|8|10|t|t");
        let priced = desk.query("SELECT count(value_usd) FROM arx.internal_transfers");
        assert_eq!(priced, if order[0] == 0 { "1" } else { "3" });
    }
    // A list without paths, then the traces of the same calls.
    desk.query("DELETE FROM arx.internal_transfers");
    let pathless = parts[1].replace("trace_address", "note").replace("trace_type", "type");
    assert_eq!(desk.load("pathless.csv", &pathless, &["--kind", "internal"]).counts(), [3, 0, 0, 0]);
    assert_eq!(desk.query("SELECT bool_or(is_ordered) FROM arx.internal_transfers"), "f");
    assert_eq!(desk.load("part.csv", &parts[1], &[]).counts(), [0, 3, 0, 0]);
    assert_eq!(desk.query(CALLS), "1|3|8|0|t|t\n1|5|8|1,2|t|t\n1|6|8|10|t|t");
}

#[test]
fn a_file_that_knows_of_failures_takes_stored_calls_along() {
    let desk = Desk::new("imports_failures");
    desk.load("plain.csv", &format!("{HEADER}\n{}\n{}\n", line(1, 10, 1, 2, "5"), line(2, 10, 1, 2, "5")), &[]);
    let unknown =
        calls(&[(1, 2, 3, 7, "0", ""), (1, 3, 4, 7, "0,1", ""), (2, 2, 3, 7, "0", "")]).replace(",status", ",note");
    assert_eq!(desk.load("unknown.csv", &unknown, &[]).counts(), [3, 0, 0, 0]);
    assert_eq!(desk.query("SELECT count(succeeded) FROM arx.internal_transfers"), "0");
    let known = desk.load("known.csv", &calls(&[(1, 2, 3, 7, "0", "0"), (2, 2, 3, 7, "0", "1")]), &[]);
    assert_eq!((known.code, known.counts()), (Some(0), [0, 2, 0, 0]), "{}", known.error);
    assert_eq!(desk.query(CALLS), "1|3|7|0|t|f\n1|4|7|0,1|t|f\n2|3|7|0|t|t");
    // A failed root is a failed transaction; a call that succeeded cannot fail.
    let contradiction = desk.load("fails.csv", &calls(&[(2, 2, 3, 7, "0", "0")]), &[]);
    assert_eq!((contradiction.code, contradiction.counts()), (Some(2), [0, 0, 0, 1]));
    assert_eq!(desk.load("root.csv", &calls(&[(2, 1, 2, 5, "", "0")]), &[]).counts(), [0, 1, 0, 0]);
    assert_eq!(desk.query(CALLS), "1|3|7|0|t|f\n1|4|7|0,1|t|f\n2|3|7|0|t|f");
    assert_eq!(desk.query("SELECT status FROM arx.transactions ORDER BY tx_hash"), "unknown\nfailed");
}

/// A transaction of bitcoin-etl, of block 7: the hash of its block, senders, receivers.
fn coins(tx: &str, block: &str, inputs: &[(&str, u64)], outputs: &[(&str, u64)]) -> String {
    let list = |coins: &[(&str, u64)]| {
        let coins: Vec<String> = coins
            .iter()
            .map(|(address, value)| format!(r#"{{"addresses": ["{address}"], "value": {value}}}"#))
            .collect();
        coins.join(", ")
    };
    format!(
        r#"{{"hash": "{tx}", "block_number": 7, "block_hash": "{block}", "block_timestamp": 1683029999, "is_coinbase": {}, "inputs": [{}], "outputs": [{}]}}"#,
        inputs.is_empty(),
        list(inputs),
        list(outputs)
    ) + "\n"
}

#[test]
fn a_transaction_with_inputs_and_outputs_is_one_however_often_it_comes() {
    let desk = Desk::new("imports_whole");
    let (a, b, c) = (
        "1A9rUSBVpB4L29qy37ghpZupCcjSH45CJt",
        "12QMuBxm3yfweYZfxRDw92H8JABFGEJhny",
        "3Fp4xbhd1PeNvWq5EuQJy2m1THaAnTFwSb",
    );
    let network = ["--network", "bitcoin"];
    let one = coins("aa", "b1", &[(a, 60), (b, 50)], &[(c, 100)]);
    let total = "SELECT count(*), sum(value) * 1e8 FROM (SELECT value FROM arx.transactions UNION ALL SELECT value FROM arx.internal_transfers) AS v";
    for text in [[one.clone(), one.clone()].concat(), one.clone()] {
        let loaded = desk.load("adjacent.json", &text, &network);
        assert_eq!(loaded.code, Some(0), "{}", loaded.error);
        assert_eq!(desk.query(total), "4|110.000000000000000000");
    }
    let other = coins("cc", "b1", &[(a, 60)], &[(c, 50)]) + &coins("cc", "b1", &[(a, 60)], &[(c, 40)]);
    let other = desk.load("other.json", &other, &network);
    assert_eq!((other.code, other.count("imported")), (Some(2), 0));

    // Another block at the same height takes coinbase and transactions of the former along.
    desk.load("former.json", &(coins("f1", "b1", &[], &[(b, 9)]) + &coins("f2", "b1", &[(a, 5)], &[(b, 5)])), &network);
    let new = coins("f3", "b2", &[], &[(c, 8)]) + &coins("aa", "b2", &[(a, 60), (b, 50)], &[(c, 100)]);
    let new = desk.load("new.json", &new, &[&network[..], &["--replace-blocks"]].concat());
    assert_eq!((new.code, new.count("removed")), (Some(0), 2), "{}", new.error);
    let hashes = "SELECT string_agg(DISTINCT tx_hash || ' ' || block_hash, ',') FROM (SELECT tx_hash, block_hash FROM arx.transactions
                    UNION ALL SELECT tx_hash, block_hash FROM arx.internal_transfers) AS h";
    assert_eq!(desk.query(hashes), "aa b2,f3 b2");
}

/// Rows that plans may touch for each line of a file. A comparison of each line with each other
/// touches as many as the file has lines.
const MAX_ROWS: f64 = 1_000.0;

#[test]
fn many_movements_are_compared_by_work_that_grows_with_their_number() {
    let desk = Desk::new("imports_many");
    desk.log_plans();
    let transactions: String = (0..2_000).map(|n| line(n, 10, 1, 2, "1") + "\n").collect();
    desk.load("plain.csv", &format!("{HEADER}\n{transactions}"), &[]);
    let paths: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    let lines: Vec<_> = (0..2_000)
        .flat_map(|tx| paths.iter().map(move |path| (tx, 2, 3, 7, path.as_str(), if path == "7" { "0" } else { "1" })))
        .collect();
    let first = desk.load("many.csv", &calls(&lines), &[]);
    assert_eq!((first.code, first.counts()), (Some(0), [38_000, 0, 0, 0]), "{}", first.error);
    assert_eq!(desk.load("many.csv", &calls(&lines), &[]).counts(), [0, 0, 38_000, 0]);
    let rows = desk.rows_in_plans();
    assert!((80_000.0..80_000.0 * MAX_ROWS).contains(&rows), "{rows} rows for 80000 lines");

    // One transaction with hundreds of inputs and outputs.
    let many: Vec<(String, u64)> = (0..250).map(|n| (wallet(n), 100_000)).collect();
    let many: Vec<(&str, u64)> = many.iter().map(|(address, value)| (address.as_str(), *value)).collect();
    let large = coins(&hash(9_999), "b3", &many, &many).replace("block_number\": 7", "block_number\": 8");
    let options = ["--network", "ethereum", "--kind", "utxo"];
    let first = desk.load("large.json", &large, &options);
    assert_eq!((first.code, first.count("imported")), (Some(0), 62_500), "{}", first.error);
    let again = desk.load("large.json", &large, &options);
    assert_eq!((again.count("imported"), again.count("unchanged")), (0, 62_500), "{}", again.error);
    let rows = desk.rows_in_plans() - rows;
    assert!((125_000.0..125_000.0 * MAX_ROWS).contains(&rows), "{rows} rows for 125000 movements");
}

#[test]
fn shards_of_edges_give_the_same_in_either_order() {
    let desk = Desk::new("imports_edge_shards");
    let edge = |to: u64, status: &str| format!("{},{status}\n", line(1, 10, 1, to, "5"));
    let file = |lines: &[String]| format!("{HEADER},receipt_status\n{}", lines.concat());
    for order in [["", "0"], ["0", ""]] {
        desk.query("DELETE FROM arx.internal_transfers; DELETE FROM arx.transactions");
        for (to, status) in (2..).zip(order) {
            let loaded = desk.load("shard.csv", &file(&[edge(to, status)]), &["--edges"]);
            assert_eq!((loaded.code, loaded.count("imported")), (Some(0), 1), "{}", loaded.error);
        }
        assert_eq!(desk.query("SELECT status FROM arx.transactions"), "failed");
        assert_eq!(desk.query("SELECT succeeded FROM arx.internal_transfers"), "f");
    }
}

#[test]
fn both_sides_of_a_fork_in_one_file_leave_the_last_one() {
    let desk = Desk::new("imports_forks");
    let text: String = [(1, "0xaa"), (2, "0xaa"), (1, "0xbb"), (3, "0xbb")]
        .map(|(tx, block)| format!("{},{block}\n", line(tx, 50, 1, 2, "5")))
        .concat();
    let both = desk.load("fork.csv", &format!("{HEADER},block_hash\n{text}"), &["--replace-blocks"]);
    assert_eq!((both.code, both.count("removed")), (Some(0), 1), "{}", both.error);
    assert_eq!(
        desk.query("SELECT string_agg(right(tx_hash, 1) || block_hash, ' ' ORDER BY tx_hash) FROM arx.transactions"),
        "10xbb 30xbb"
    );
}

#[test]
fn other_options_or_content_are_another_import() {
    let desk = Desk::new("imports_options");
    let text = |last: &str| {
        let many: String = (0..9_000).map(|n| line(n, 10, 1, 2, "3") + "\n").collect();
        format!("{HEADER}\n{many}{}\n", line(9_000, 10, 1, 2, last))
    };
    desk.write("a.csv", text("4"));
    let import = |options: &[&str]| desk.import(&[&["transactions", "a.csv"], options].concat());
    assert_eq!(import(&[]).counts(), [9_001, 0, 0, 0]);
    assert_eq!(import(&[]).report["already_finished"].to_string(), "true");
    assert_eq!(import(&["--unit", "coin"]).counts()[3], 9_001, "coins contradict what is stored");
    desk.write("a.csv", text("5"));
    assert_eq!(import(&[]).counts(), [0, 0, 9_000, 1], "the content differs behind its first MiB");
}

#[test]
fn a_transfer_belongs_to_the_block_of_its_transaction() {
    let desk = Desk::new("imports_token_blocks");
    let header = "token_address,from_address,to_address,value,transaction_hash,log_index,block_number,block_timestamp";
    let transfer = |tx: u64, log: u64, block: u64| {
        format!("{},{},{},7,{},{log},{block},{}", wallet(7), wallet(1), wallet(2), hash(tx), 1_700_000_000 + block * 12)
    };
    let load = |name: &str, text: String| {
        desk.write(name, text);
        desk.import(&["token-transfers", name, "--again"])
    };
    desk.load("plain.csv", &format!("{HEADER}\n{}\n", line(1, 10, 1, 2, "5")), &[]);
    desk.write("first.csv", format!("{header}\n{}\n{}\n", transfer(1, 0, 10), transfer(1, 1, 11)));
    let first = desk.import(&["token-transfers", "first.csv"]);
    assert_eq!((first.code, first.counts()), (Some(2), [1, 0, 0, 1]), "{}", first.error);
    assert!(desk.rejects("first.csv").contains("stored in block 10"), "{}", desk.rejects("first.csv"));
    let failed = load("failed.csv", format!("{header},status\n{},0\n{},1\n", transfer(2, 0, 20), transfer(3, 0, 20)));
    assert_eq!((failed.code, failed.counts(), failed.count("no_value")), (Some(0), [1, 0, 0, 0], 1));

    // A list that was put together from itself has its transfers once; equal neighbours are two.
    let header = header.replace(",log_index", "");
    let unplaced = |tx: u64| transfer(tx, 0, 30).replace(",0,30,", ",30,") + "\n";
    let part = [unplaced(4), unplaced(4), unplaced(5)].concat();
    let twice = load("twice.csv", format!("{header}\n{part}{part}"));
    assert_eq!(twice.counts(), [3, 0, 3, 0], "{} {}", twice.error, desk.rejects("twice.csv"));
    assert_eq!(load("twice.csv", format!("{header}\n{part}{part}")).counts(), [0, 0, 6, 0]);
}

#[test]
fn transfers_of_a_transaction_have_log_indexes_all_or_none() {
    let desk = Desk::new("imports_log_indexes");
    let header = "token_address,from_address,to_address,value,transaction_hash,log_index,block_number,block_timestamp";
    let transfer = |tx: u64, log: &str, amount: u64| {
        let (token, from, to, time) = (wallet(7), wallet(1), wallet(2), 1_700_000_000 + tx);
        format!("{token},{from},{to},{amount},{},{log},{tx},{time}\n", hash(tx))
    };
    let some = [
        transfer(1, "", 5),
        transfer(1, "", 6),
        transfer(2, "0", 7),
        transfer(2, "1", 8),
        transfer(3, "4", 9),
        transfer(3, "", 10),
    ]
    .concat();
    let load = |name: &str, text: &str| {
        desk.write(name, format!("{header}\n{text}"));
        desk.import(&["token-transfers", name, "--erc20", "all", "--again"])
    };
    let first = load("some.csv", &some);
    assert_eq!((first.code, first.counts()), (Some(2), [4, 0, 0, 2]), "{}", first.error);
    let rejects = desk.rejects("some.csv");
    assert!(rejects.contains("have a log_index and some do not") && rejects.contains(&hash(3)), "{rejects}");
    let stored = "SELECT log_index, amount FROM arx.token_transfers ORDER BY block_number, log_index";
    assert_eq!(desk.query(stored), "1000000000|5\n1000000001|6\n0|7\n1|8");
    assert_eq!(load("some.csv", &some).counts(), [0, 0, 4, 2]);

    // However far away they are, in either order, and in a check.
    let others: String = (100..10_600).map(|tx| transfer(tx, "3", tx)).collect();
    for (name, pair) in [("far.csv", ["4", ""]), ("before.csv", ["", "4"])] {
        desk.query("DELETE FROM arx.token_transfers");
        let [one, other] = pair.map(|log| transfer(3, log, 9));
        let loaded = load(name, &format!("{one}{others}{other}"));
        assert_eq!((loaded.code, loaded.counts()), (Some(2), [10_500, 0, 0, 2]), "{}", loaded.error);
        assert_eq!(desk.query(&format!("SELECT count(*) FROM arx.token_transfers WHERE tx_hash = '{}'", hash(3))), "0");
    }
    desk.query("DELETE FROM arx.token_transfers");
    desk.write("some.csv", format!("{header}\n{some}"));
    let checked = desk.import(&["token-transfers", "some.csv", "--erc20", "all", "--check"]);
    assert_eq!((checked.code, checked.counts()), (Some(2), [4, 0, 0, 2]), "{}", checked.error);
}

#[test]
fn an_import_whose_disk_is_full_leaves_whole_parts_and_continues() {
    let desk = Desk::new("imports_full_disk");
    let lines: String = (1..=30_000).map(|n| line(n, n, 1, 2, "5") + "\n").collect();
    desk.write("many.csv", format!("{HEADER}\n{lines}"));
    desk.query(
        "CREATE FUNCTION public.full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF NEW.block_number > 25000 THEN
                 RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';
             END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER full_disk BEFORE INSERT ON arx.transactions FOR EACH ROW EXECUTE FUNCTION public.full_disk()",
    );
    let full = desk.import(&["transactions", "many.csv"]);
    assert_eq!(full.code, Some(1), "{}", full.error);
    assert!(full.error.contains("make room for PostgreSQL, and run the same command again"), "{}", full.error);
    // The parts before it are stored, each with its progress.
    let stored = desk.query("SELECT count(*), max(block_number) FROM arx.transactions");
    assert_eq!(desk.query("SELECT lines_done - 1, lines_done - 1 FROM arx.import_progress"), stored);
    desk.query("DROP TRIGGER full_disk ON arx.transactions");
    let rest = desk.import(&["transactions", "many.csv"]);
    assert_eq!(rest.code, Some(0), "{}", rest.error);
    assert_eq!(desk.query("SELECT count(*), count(DISTINCT tx_hash) FROM arx.transactions"), "30000|30000");

    // A line that cannot be listed is not left out either.
    desk.write("bad.csv", format!("{HEADER}\n{}\n{}\n", line(50_001, 9, 1, 2, "5"), line(50_002, 9, 1, 2, "x")));
    let full = desk.import(&["transactions", "bad.csv", "--rejects", "/dev/full"]);
    assert_eq!(full.code, Some(1), "{}", full.error);
    assert!(full.error.contains("cannot write the rejects file /dev/full"), "{}", full.error);
    assert_eq!(desk.query("SELECT count(*) FROM arx.transactions WHERE block_number = 9"), "1");
    let again = desk.import(&["transactions", "bad.csv"]);
    assert_eq!((again.code, again.counts()), (Some(2), [1, 0, 0, 1]), "{}", again.error);
}

#[test]
fn token_transfers_of_a_failed_transaction_move_nothing_whichever_comes_first() {
    let desk = Desk::new("imports_void_transfers");
    let header = "token_address,from_address,to_address,value,transaction_hash,log_index,block_number,block_timestamp";
    let transfer = |tx: u64, log: u64| {
        let (token, from, to, time) = (wallet(7), wallet(1), wallet(2), 1_700_000_000 + 10 * 12);
        format!("{token},{from},{to},7,{},{log},10,{time}\n", hash(tx))
    };
    let stated = |status: [u64; 2]| {
        let row = |tx: u64, status| format!("{},{status}\n", line(tx, 10, 1, 7, "0"));
        format!("{HEADER},receipt_status\n{}{}", row(1, status[0]), row(2, status[1]))
    };
    let tokens = |name: &str, text: &str| {
        desk.write(name, format!("{header}\n{text}"));
        desk.import(&["token-transfers", name, "--erc20", "all", "--again"])
    };
    let moved = "SELECT (SELECT string_agg(right(tx_hash, 1) || ':' || log_index, ' ' ORDER BY tx_hash, log_index)
                           FROM arx.token_transfers),
                        (SELECT count(*) FROM arx.void_token_transfers)";
    assert_eq!(desk.load("first.csv", &stated([0, 1]), &[]).counts(), [2, 0, 0, 0]);
    let text = [transfer(1, 0), transfer(1, 1), transfer(2, 2)].concat();
    desk.write("tokens.csv", format!("{header}\n{text}"));
    let checked = desk.import(&["token-transfers", "tokens.csv", "--erc20", "all", "--check"]);
    assert_eq!((checked.counts(), checked.count("no_value")), ([1, 0, 0, 0], 2), "{}", checked.error);
    let loaded = tokens("tokens.csv", &text);
    assert_eq!((loaded.code, loaded.counts()), (Some(0), [1, 0, 0, 0]), "{}", loaded.error);
    assert_eq!(loaded.count("no_value"), 2);
    assert_eq!(desk.query(moved), "2:2|2");
    // The same through rows that are compared.
    let again = tokens("tokens.csv", &text);
    assert_eq!((again.counts(), again.count("no_value")), ([0, 0, 1, 0], 2), "{}", again.error);
    assert_eq!(desk.query(moved), "2:2|2");
    // Another statement about the status takes them out, and back.
    desk.query("UPDATE arx.transactions SET status = 'unknown'");
    assert_eq!(desk.query(moved), "1:0 1:1 2:2|0");
    assert_eq!(desk.load("later.csv", &stated([1, 0]), &[]).counts(), [0, 2, 0, 0]);
    assert_eq!(desk.query(moved), "1:0 1:1|1");
}

#[test]
fn a_bad_line_takes_its_transaction_along_however_far_away_it_is() {
    let desk = Desk::new("imports_far_lines");
    let others: String = (10..52_010).map(|n| line(n, n % 900, 1, 2, "3") + "\n").collect();
    let near = line(1, 10, 1, 2, "5") + "\n";
    let far = line(1, 10, 1, 2, "5").replace(&wallet(2), "no address") + "\n";
    for (name, text) in [("far.csv", [&near, &others, &far]), ("before.csv", [&far, &others, &near])] {
        desk.query("DELETE FROM arx.transactions");
        let text = format!("{HEADER}\n{}", text.map(String::as_str).concat());
        let loaded = desk.load(name, &text, &["--edges"]);
        assert_eq!((loaded.code, loaded.counts()), (Some(2), [52_000, 0, 0, 2]), "{}", loaded.error);
        assert_eq!(desk.query(&format!("SELECT count(*) FROM arx.transactions WHERE tx_hash = '{}'", hash(1))), "0");
    }
}

#[test]
fn another_gas_price_contradicts_the_offered_one_and_is_counted_next_to_the_paid_one() {
    let desk = Desk::new("imports_prices");
    let priced = |price: u64| format!("{HEADER},gas_price\n{},{price}\n", line(1, 10, 1, 2, "5"));
    assert_eq!(desk.load("first.csv", &priced(7), &[]).counts(), [1, 0, 0, 0]);
    let other = desk.load("other.csv", &priced(8), &[]);
    assert_eq!((other.code, other.counts()), (Some(2), [0, 0, 0, 1]));
    assert!(desk.rejects("other.csv").contains("is stored with gas_price 7"), "{}", desk.rejects("other.csv"));

    let receipt = "transaction_hash,block_number,status,gas_used,effective_gas_price\n";
    let paid = desk.load("paid.csv", &format!("{receipt}{},10,1,21000,6\n", hash(1)), &[]);
    assert_eq!((paid.code, paid.counts()), (Some(0), [0, 1, 0, 0]), "{}", paid.error);
    let again = desk.load("first.csv", &priced(7), &[]);
    assert_eq!((again.code, again.counts()), (Some(0), [0, 0, 1, 0]));
    let notes = again.report["notes"].as_object().unwrap();
    assert!(notes.iter().any(|(note, count)| note.contains("another gas price") && count == 1), "{}", again.report);
    assert_eq!(desk.query("SELECT gas_price FROM arx.transactions"), "6");

    let edges = |price: u64| {
        let lines = [line(2, 10, 1, 2, "5"), line(2, 10, 1, 3, "6")];
        format!("{HEADER},gas_price\n{},7\n{},{price}\n", lines[0], lines[1])
    };
    let differ = desk.load("edges.csv", &edges(8), &["--edges"]);
    assert_eq!((differ.code, differ.counts()), (Some(2), [0, 0, 0, 2]));
    assert_eq!(desk.load("edges.csv", &edges(7), &["--edges"]).counts(), [2, 0, 0, 0]);
    let later = desk.load("edge.csv", &priced(9).replace(&hash(1), &hash(2)), &["--edges"]);
    assert_eq!((later.code, later.counts()), (Some(2), [0, 0, 0, 1]));
}

#[test]
fn addresses_of_an_unknown_format_are_stored_as_they_are_and_counted() {
    let desk = Desk::new("imports_opaque");
    let text = format!("{HEADER}\nabc,1,addr1SENDER,addr1RECEIVER,5,1700000000\n");
    let first = desk.load("opaque.csv", &text, &["--network", "algorand"]);
    assert_eq!((first.code, first.counts()), (Some(0), [1, 0, 0, 0]), "{}", first.error);
    let notes = first.report["notes"].as_object().unwrap();
    assert!(notes.iter().any(|(note, count)| note.contains("not checked") && count == 1), "{}", first.report);
    assert_eq!(desk.query("SELECT from_address FROM arx.transactions"), "addr1SENDER");
    assert!(
        desk.load("plain.csv", &format!("{HEADER}\n{}\n", line(1, 10, 1, 2, "5")), &[]).report["notes"]
            .as_object()
            .unwrap()
            .is_empty()
    );
}

#[test]
fn ids_in_one_file_make_values_of_the_contract_in_another_doubtful() {
    let desk = Desk::new("imports_late_ids");
    let transfer = |tx: u64, value: &str, id: &str| {
        let time = 1_700_000_000 + tx;
        format!("{},{},{},{value},{},0,{tx},{time},{id}\n", wallet(7), wallet(1), wallet(2), hash(tx))
    };
    let header = "token_address,from_address,to_address,value,transaction_hash,log_index,block_number,block_timestamp";
    let load = |name: &str, lines: &str, options: &[&str]| {
        desk.write(name, format!("{header},token_id\n{lines}"));
        desk.import(&[&["token-transfers", name, "--again"], options].concat())
    };
    assert_eq!(load("ids.csv", &transfer(1, "1", "55"), &[]).counts(), [1, 0, 0, 0]);
    let values = load("values.csv", &(transfer(1, "55", "") + &transfer(2, "56", "")), &[]);
    assert_eq!((values.code, values.counts()), (Some(2), [0, 0, 1, 1]), "{}", values.report);
    assert!(desk.rejects("values.csv").contains("--erc721"), "{}", desk.rejects("values.csv"));
    let stated = load("values.csv", &transfer(2, "56", ""), &["--erc721", &wallet(7)]);
    assert_eq!((stated.code, stated.counts()), (Some(0), [1, 0, 0, 0]), "{}", stated.report);

    desk.query("TRUNCATE arx.token_transfers");
    assert_eq!(load("values.csv", &transfer(1, "55", ""), &["--erc20", &wallet(7)]).counts(), [1, 0, 0, 0]);
    let ids = load("ids.csv", &transfer(2, "1", "56"), &[]);
    assert_eq!((ids.code, ids.counts()), (Some(0), [1, 0, 0, 0]), "{}", ids.report);
    let notes = ids.report["notes"].as_object().unwrap();
    assert!(notes.iter().any(|(note, count)| note.contains("have none") && count == 1), "{}", ids.report);
    assert_eq!(desk.query("SELECT amount, token_id FROM arx.token_transfers ORDER BY tx_hash"), "55|\n1|56");
}

#[test]
fn traces_of_a_node_and_rows_with_nested_addresses_are_read() {
    let desk = Desk::new("imports_nested");
    desk.load("plain.csv", &format!("{HEADER}\n{}\n", line(1, 10, 1, 2, "0")), &[]);
    let trace = |kind: &str, action: &str, more: &str| {
        format!(
            r#"{{"type": "{kind}", "action": {{{action}}}, "blockNumber": 10, "transactionPosition": 4,
                 "transactionHash": "{}", {more}}}"#,
            hash(1)
        )
    };
    let call = |from: u64, to: u64, value: &str| {
        format!(r#""callType": "call", "from": "{}", "to": "{}", "value": "{value}""#, wallet(from), wallet(to))
    };
    let end = format!(r#""address": "{}", "refundAddress": "{}", "balance": "0x4""#, wallet(4), wallet(5));
    let reward = format!(r#""author": "{}", "rewardType": "block", "value": "0x1bc16d674ec80000""#, wallet(9));
    let traces = [
        trace("call", &call(1, 2, "0x0"), r#""result": {"gasUsed": "0x1", "output": "0x"}, "traceAddress": []"#),
        trace("call", &call(2, 3, "0x2386f26fc10000"), r#""result": {"output": "0x"}, "traceAddress": [0]"#),
        trace("call", &call(2, 6, "0x5"), r#""error": "Reverted", "traceAddress": [1]"#),
        trace("suicide", &end, r#""result": null, "traceAddress": [2]"#),
        trace("reward", &reward, r#""result": null, "traceAddress": []"#).replace(&hash(1), ""),
    ];
    let answer = format!(r#"{{"jsonrpc": "2.0", "id": 1, "result": [{}]}}"#, traces[..4].join(","));
    let loaded = desk.load("trace.json", &answer, &[]);
    assert_eq!(
        (loaded.code, loaded.counts(), loaded.count("no_value")),
        (Some(0), [2, 0, 0, 0], 2),
        "{}",
        loaded.error
    );
    let legs = "SELECT right(from_address, 1), right(to_address, 1), value * 1e18::numeric, kind, trace_path, succeeded
                  FROM arx.internal_transfers ORDER BY position";
    let legs = desk.query(legs).replace(".000000000000000000", "");
    assert_eq!(legs, "2|3|10000000000000000|call|0|t\n4|5|4|selfdestruct|2|t");
    // What a trace does not tell is not taken for nothing.
    let unknown = trace("call", &call(2, 3, "0x1").replace("value", "amount_moved"), r#""traceAddress": [3]"#);
    let unknown = desk.load("unknown.json", &format!("[{unknown}]"), &[]);
    assert_eq!((unknown.code, unknown.counts()), (Some(2), [0, 0, 0, 1]), "{}", unknown.error);
    assert!(desk.rejects("unknown.json").contains("column value is empty"));

    let page = format!(
        r#"{{"items": [{{"hash": "{}", "block_number": 20, "timestamp": "2023-11-15T01:02:03.000000Z", "status": "ok",
             "from": {{"hash": "{}", "is_contract": false}}, "to": {{"hash": "{}"}}, "value": "3", "result": "success"}}],
             "next_page_params": null}}"#,
        hash(2),
        wallet(7),
        wallet(8)
    );
    let page = desk.load("page.json", &page, &[]);
    assert_eq!((page.code, page.counts()), (Some(0), [1, 0, 0, 0]), "{}", page.error);
    let block = desk.load("block.json", r#"{"jsonrpc": "2.0", "result": {"number": "0x5", "transactions": []}}"#, &[]);
    assert!(block.code == Some(1) && block.error.contains("lacks the column hash"), "{}", block.error);
}

#[test]
fn a_second_header_does_not_change_the_meaning_of_columns() {
    let desk = Desk::new("imports_headers");
    let swapped = HEADER.replace("from_address,to_address", "to_address,from_address");
    let text = format!("{HEADER}\n{}\n{swapped}\n{}\n", line(1, 10, 1, 2, "5"), line(2, 11, 4, 3, "5"));
    let stopped = desk.load("both.csv", &text, &[]);
    assert!(stopped.code == Some(1) && stopped.error.contains("line 3: another header"), "{}", stopped.error);
    assert_eq!(desk.query("SELECT right(from_address, 1), right(to_address, 1) FROM arx.transactions"), "1|2");
    // The same columns in another spelling are the same header.
    let same = format!(
        "{HEADER}\n{}\n\"{}\"\n{}\n",
        line(1, 10, 1, 2, "5"),
        HEADER.replace(',', "\",\"").to_uppercase(),
        line(2, 11, 3, 4, "5")
    );
    let same = desk.load("same.csv", &same, &[]);
    assert_eq!((same.code, same.counts()), (Some(0), [1, 0, 1, 0]), "{}", same.error);
}

#[test]
fn values_of_data_frames_are_read_exactly_or_questioned() {
    let desk = Desk::new("imports_frames");
    let header = format!("{HEADER},transaction_index,gas_price,receipt_status");
    let row = |tx: u64, value: &str, time: &str, rest: &str| {
        format!("{}, 10 ,{},{},{value},{time},{rest}\n", hash(tx), wallet(1), wallet(2))
    };
    let text = format!(
        "{header}\n{}{}{}",
        row(1, "2e18", "1700000120000", "NaN,NaN,NaN"),
        row(2, "2000000000000000000.0", "1700000120000000", "3,<NA>,1.0"),
        row(3, "0.0", "1700000120.0", "None,7,True")
    );
    let frames = desk.load("frames.csv", &text, &[]);
    assert_eq!((frames.code, frames.counts()), (Some(0), [3, 0, 0, 0]), "{}", frames.error);
    let all = "SELECT value::float8, extract(epoch FROM timestamp)::int8, transaction_index, gas_price, status
                 FROM arx.transactions ORDER BY tx_hash";
    assert_eq!(desk.query(all), "2|1700000120|||unknown\n2|1700000120|3||confirmed\n0|1700000120||7|confirmed");
    // Two coins, or two of the smallest unit: the file does not tell.
    let coins = format!("{HEADER}\n{}\n{}\n", line(8, 20, 1, 2, "2.0"), line(9, 21, 1, 2, "40.0"));
    let unknown = desk.load("coins.csv", &coins, &[]);
    assert!(unknown.code == Some(1) && unknown.error.contains("--unit base"), "{}", unknown.error);
    assert_eq!(desk.load("coins.csv", &coins, &["--unit", "coin"]).counts(), [2, 0, 0, 0]);
    assert_eq!(desk.query("SELECT sum(value)::float8 FROM arx.transactions WHERE block_number > 15"), "42");
    let archive = [&[b'a'; 257][..], b"ustar  ", &[0; 600]].concat();
    desk.write("files.tar", archive);
    assert!(desk.import(&["transactions", "files.tar"]).error.contains("tar archive"));
    let cut = desk.load("cut.csv", format!("{HEADER}\n{}", line(7, 30, 1, 2, "5")).trim_end(), &[]);
    assert_eq!((cut.code, cut.counts()), (Some(0), [1, 0, 0, 0]));
    assert!(cut.report.to_string().contains("no line end"), "{}", cut.report);
}

#[test]
fn token_transfers_of_one_file_may_lack_what_others_have() {
    let desk = Desk::new("imports_uneven");
    let row = |tx: u64, more: &str| {
        format!(
            r#"{{"hash": "{}", "blockNumber": "9", "timeStamp": "1700000108", "from": "{}", "to": "{}",
                 "contractAddress": "{}", "value": "5", "tokenDecimal": "6"{more}}}"#,
            hash(tx),
            wallet(1),
            wallet(2),
            wallet(99)
        )
    };
    desk.write("uneven.json", format!("[{}, {}]", row(1, r#", "logIndex": "4""#), row(2, "")));
    let uneven = desk.import(&["token-transfers", "uneven.json"]);
    assert_eq!((uneven.code, uneven.counts()), (Some(0), [2, 0, 0, 0]), "{}", uneven.error);
    let header = "transaction_hash,log_index,block_number,block_timestamp,token_address,from_address,to_address,value";
    let line = |tx: u64, index: &str| {
        format!("{},{index},10,1700000120,{},{},{},5\n", hash(tx), wallet(99), wallet(1), wallet(2))
    };
    desk.write("empty.csv", format!("{header}\n{}{}", line(3, "7"), line(4, "")));
    let empty = desk.import(&["token-transfers", "empty.csv", "--erc20", "all"]);
    assert_eq!((empty.code, empty.counts()), (Some(0), [2, 0, 0, 0]), "{}", empty.error);
    assert_eq!(
        desk.query("SELECT string_agg(log_index::text, ' ' ORDER BY log_index) FROM arx.token_transfers"),
        "4 7 1000000000 1000000000"
    );
}
