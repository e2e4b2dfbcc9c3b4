//! Exports: files that come back as the same rows, one snapshot however often a run is interrupted,
//! and clear errors.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::process::{Command, Stdio};

use arx_stack::process::run;
use arx_stack::{Database, Stack, programs};
use serde_json::Value;

/// Transactions of three months: amounts at both ends of their range, a creation, and failed and
/// unknown outcomes; transfers of a token with 78 digits and of an NFT; calls of known and unknown
/// outcome; labels with quotes and line breaks.
const ROWS: &str = r#"
SELECT arx.ensure_partitions(t, '2024-01-01', '2024-04-01')
  FROM unnest('{arx.transactions,arx.internal_transfers,arx.token_transfers}'::regclass[]) AS t;
INSERT INTO arx.transactions (network, tx_hash, block_number, transaction_index, "timestamp", from_address, to_address,
                              value, gas_used, gas_price, status, metadata, block_hash)
SELECT 'ethereum', '0x' || lpad(to_hex(n), 64, '0'), n, CASE WHEN n % 4 > 0 THEN n END,
       '2024-01-01'::timestamptz + n * interval '5 hours', '0x' || lpad(to_hex(n % 7), 40, 'a'),
       '0x' || lpad(to_hex(n % 11), 40, 'b'), n * 1.5, 21000 + n, 1000000000,
       (ARRAY['confirmed', 'failed', 'unknown'])[1 + n % 3]::arx.tx_status_enum, NULL,
       CASE WHEN n % 5 > 0 THEN '0x' || lpad(to_hex(n), 64, 'c') END
  FROM generate_series(1, 400) AS n;
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value, status, metadata)
VALUES ('ethereum', '0x' || repeat('d', 64), 500, '2024-02-02', '0x' || repeat('1', 40), '0x' || repeat('e', 40),
        0.000000000000000001, 'confirmed', jsonb_build_object('contract_address', '0x' || repeat('e', 40))),
       ('ethereum', '0x' || repeat('e', 64), 501, '2024-02-03', '0x' || repeat('1', 40), NULL, 99999999999999999999, 'confirmed', NULL);
INSERT INTO arx.token_transfers (network, tx_hash, log_index, block_number, "timestamp", token_address, from_address,
                                 to_address, amount, token_id)
SELECT 'ethereum', '0x' || lpad(to_hex(n), 64, '0'), n, n, '2024-01-01'::timestamptz + n * interval '5 hours',
       '0x' || repeat('f', 40), '0x' || lpad(to_hex(n % 7), 40, 'a'), '0x' || lpad(to_hex(n % 11), 40, 'b'),
       CASE WHEN n % 2 = 0 THEN 115792089237316195423570985008687907853269984665640564039457584007913129639935 ELSE 1 END,
       CASE WHEN n % 2 = 1 THEN n END
  FROM generate_series(1, 50) AS n;
INSERT INTO arx.internal_transfers (network, tx_hash, position, block_number, transaction_index, "timestamp", from_address,
                                    to_address, value, kind, succeeded, trace_path)
SELECT 'ethereum', '0x' || lpad(to_hex(n), 64, '0'), 0, n, CASE WHEN n % 4 > 0 THEN n END,
       '2024-01-01'::timestamptz + n * interval '5 hours', '0x' || lpad(to_hex(n % 11), 40, 'b'),
       '0x' || lpad(to_hex(n % 7), 40, 'a'), 0.25, 'call', n % 3 = 0, '0,' || n
  FROM generate_series(3, 30, 3) AS n;
INSERT INTO arx.address_labels (network, address, category, severity, label, source)
VALUES ('ethereum', '0x' || lpad('1', 40, 'a'), 'exchange', 'none', E'The "First"\n<Exchange>, Ltd; ' || chr(1), 'test'),
       ('ethereum', '0x' || repeat('9', 40), 'scam', 'high', 'no transfers', 'test');
SELECT arx.refresh_wallet_profiles();
"#;

const FACTS: [&str; 3] = [
    r#"SELECT network, tx_hash, block_number, transaction_index, "timestamp", from_address, to_address, value, gas_used,
              gas_price, status, metadata, block_hash FROM arx.transactions ORDER BY tx_hash"#,
    r#"SELECT network, tx_hash, log_index, block_number, "timestamp", token_address, from_address, to_address, amount,
              token_id FROM arx.token_transfers ORDER BY tx_hash, log_index"#,
    r#"SELECT network, tx_hash, block_number, transaction_index, "timestamp", from_address, to_address, value, kind,
              succeeded, trace_path FROM arx.internal_transfers ORDER BY tx_hash, position"#,
];

/// Runs `arx-sidecar export FOLDER ARGUMENTS --json` and returns its report, or its message.
fn export(database: &Database<'_>, folder: &Path, arguments: &[&str]) -> Result<Value, String> {
    let mut command = database.sidecar().unwrap();
    outcome(command.arg("export").arg(folder).args(arguments).arg("--json"))
}

fn outcome(command: &mut Command) -> Result<Value, String> {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(serde_json::from_slice(&output.stdout).unwrap()) } else { Err(errors) }
}

fn filled<'a>(stack: &'a Stack, name: &str) -> Database<'a> {
    let database = stack.database(name).unwrap();
    database.query(ROWS).unwrap();
    database
}

fn manifest(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("manifest.json")).unwrap()).unwrap()
}

/// Files of an export's tables.
fn files(folder: &Path, table: &str) -> Vec<std::path::PathBuf> {
    let parts = manifest(folder);
    let parts = parts["parts"].as_array().unwrap().iter();
    parts
        .filter(|part| part["table"] == table && !part["done"]["sha256"].is_null())
        .map(|part| folder.join(part["file"].as_str().unwrap()))
        .collect()
}

#[test]
fn parquet_and_json_lines_come_back_as_the_same_rows() {
    let stack = Stack::shared().unwrap();
    let source = filled(stack, "export_source");
    let expected = FACTS.map(|sql| source.query(sql).unwrap());
    assert!(expected.iter().all(|rows| rows.lines().count() >= 10));
    for format in ["parquet", "jsonl"] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("export");
        let report = export(&source, &folder, &["--format", format]).unwrap();
        assert_eq!(report["already_complete"], false);
        for part in manifest(&folder)["parts"].as_array().unwrap() {
            let file = folder.join(part["file"].as_str().unwrap());
            if part["done"]["sha256"].is_null() {
                assert!(!file.exists(), "{part}");
                continue;
            }
            let sum = run(Command::new("sha256sum").arg(&file)).unwrap();
            assert_eq!(sum.split(' ').next(), part["done"]["sha256"].as_str(), "{part}");
        }
        assert!(files(&folder, "transactions").len() >= 3, "a file for each partition");
        let target = stack.database(&format!("export_{format}")).unwrap();
        let import = |arguments: &[&str], table: &str| {
            let mut command = target.sidecar().unwrap();
            command.arg("import").args(arguments).args(files(&folder, table));
            run(command.current_dir(folder.parent().unwrap()).stdin(Stdio::null())).unwrap();
        };
        import(&["transactions"], "transactions");
        import(&["transactions"], "internal_transfers");
        import(&["token-transfers", "--erc20", "all"], "token_transfers");
        for (sql, expected) in FACTS.iter().zip(&expected) {
            assert_eq!(&target.query(sql).unwrap(), expected, "{format}: {sql}");
        }
        if format == "jsonl" {
            import(&["labels"], "labels");
            let labels =
                "SELECT network, address, category, severity, label, source, confidence FROM arx.address_labels
                           WHERE label NOT LIKE '%Exchange%'";
            assert_eq!(target.query(labels).unwrap(), source.query(labels).unwrap());
            let wallets = std::fs::read_to_string(folder.join("wallets.jsonl")).unwrap();
            let first = format!("0x{}1", "a".repeat(39));
            let wallet = wallets.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            let wallet = wallet.into_iter().find(|wallet| wallet["address"] == first.as_str()).unwrap();
            assert_eq!(wallet["labels"][0]["label"], "The \"First\"\n<Exchange>, Ltd; \u{1}");
            assert_eq!(wallet["risk_score"], Value::Null, "a score that was never computed is unknown: {wallet}");
            let volume = source.query(&format!(
                "SELECT trim_scale(total_volume) FROM arx.wallet_profiles WHERE wallet_address = '{first}'"
            ));
            assert_eq!(wallet["total_volume"].as_str(), Some(volume.unwrap().as_str()));
        }
        // Nothing is left to do.
        assert_eq!(export(&source, &folder, &["--format", format]).unwrap()["already_complete"], true);
    }
}

/// Makes an export look as it does when it is interrupted before these parts.
fn interrupt(folder: &Path, is_lost: impl Fn(&str) -> bool) -> usize {
    let mut manifest = manifest(folder);
    let mut lost = 0;
    for part in manifest["parts"].as_array_mut().unwrap() {
        let file = part["file"].as_str().unwrap().to_owned();
        if is_lost(&file) && !part["done"]["sha256"].is_null() {
            std::fs::remove_file(folder.join(&file)).unwrap();
            std::fs::write(folder.join(format!("{file}.partial")), "half").unwrap();
            part["done"] = Value::Null;
            lost += 1;
        }
    }
    manifest["complete"] = false.into();
    std::fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
    lost
}

#[test]
fn an_interrupted_export_goes_on_in_its_snapshot_or_not_at_all() {
    let stack = Stack::shared().unwrap();
    let database = filled(stack, "export_again");
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("export");
    let arguments = ["--format", "jsonl", "--network", "ethereum"];
    let first = export(&database, &folder, &arguments).unwrap();
    let february = "transactions/20240201T000000Z-20240301T000000Z.jsonl";
    let before = std::fs::read_to_string(folder.join(february)).unwrap();
    let kept = folder.join("transactions/20240101T000000Z-20240201T000000Z.jsonl");
    let written = std::fs::metadata(&kept).unwrap().modified().unwrap();

    // Rows that arrive later belong to no part of it.
    let insert = |month: u32, name: &str| {
        database
            .query(&format!(
                "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value)
                 VALUES ('ethereum', '0x' || repeat('{name}', 64), 900, '2024-0{month}-15', '0x' || repeat('2', 40),
                         '0x' || repeat('3', 40), 1)"
            ))
            .unwrap();
    };
    insert(2, "7");
    assert_eq!(interrupt(&folder, |file| file == february), 1);
    let second = export(&database, &folder, &arguments).unwrap();
    assert_eq!((&second["rows"], &second["snapshot"]), (&first["rows"], &first["snapshot"]));
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&std::fs::read_to_string(folder.join(february)).unwrap()), sorted(&before));
    assert_eq!(std::fs::metadata(&kept).unwrap().modified().unwrap(), written, "a finished part is not written again");
    assert!(!folder.join(format!("{february}.partial")).exists());

    // A change of rows that are not exported yet cannot be undone; one of others does not matter.
    database.query("UPDATE arx.transactions SET gas_used = 5 WHERE tx_hash = '0x' || lpad('1', 64, '0')").unwrap();
    interrupt(&folder, |file| file == february);
    assert_eq!(export(&database, &folder, &arguments).unwrap()["rows"], first["rows"]);
    database.query("UPDATE arx.transactions SET gas_used = 5 WHERE block_number = 500").unwrap();
    interrupt(&folder, |file| file == february);
    let refused = export(&database, &folder, &arguments).unwrap_err();
    assert!(refused.contains("were changed or removed since") && refused.contains("--restart"), "{refused}");
    let third = export(&database, &folder, &[&arguments[..], &["--restart"]].concat()).unwrap();
    assert_eq!(third["rows"].as_u64(), first["rows"].as_u64().map(|rows| rows + 1));
    // Wallets have no history: without them, the export begins again.
    insert(3, "8");
    interrupt(&folder, |file| file == "wallets.jsonl");
    let fourth = export(&database, &folder, &arguments).unwrap();
    assert_eq!(fourth["rows"].as_u64(), first["rows"].as_u64().map(|rows| rows + 2));
}

#[test]
fn graphs_have_both_ends_of_every_edge() {
    let stack = Stack::shared().unwrap();
    let database = filled(stack, "export_graph");
    database
        .query(
            "INSERT INTO arx.internal_transfers (network, tx_hash, position, \"timestamp\", from_address, to_address, value, kind)
             VALUES ('ethereum', 'reward:9', 0, '2024-01-09', NULL, '0x' || repeat('5', 40), 2, 'reward')",
        )
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let neo4j = folder.path().join("neo4j");
    export(&database, &neo4j, &["--format", "neo4j"]).unwrap();
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    assert!(
        read(&neo4j.join("wallets-header.csv"))
            .starts_with(":ID,:LABEL,network:string,address:string,first_seen:datetime")
    );
    let header = read(&neo4j.join("transactions-header.csv"));
    assert!(header.starts_with(":START_ID,:END_ID,:TYPE,") && header.contains(",value:string,"), "{header}");
    // A label has a line break, after which no line of it looks like a node.
    let nodes = read(&neo4j.join("wallets.csv"));
    let records = nodes.lines().filter(|line| line.starts_with("ethereum:"));
    let ids: HashSet<&str> = records.map(|line| line.split(',').next().unwrap()).collect();
    assert_eq!(ids.len(), nodes.lines().filter(|line| line.starts_with("ethereum:")).count());
    assert!(ids.contains("ethereum:") && nodes.contains("ethereum:,Missing,"), "the missing end is a node");
    let mut edges = 0;
    for table in ["transactions", "internal_transfers", "token_transfers"] {
        let columns = read(&neo4j.join(format!("{table}-header.csv"))).trim().split(',').count();
        for file in files(&neo4j, table) {
            for line in read(&file).lines() {
                let fields: Vec<&str> = line.split(',').collect();
                assert!(fields.len() >= columns, "{line}");
                assert!(ids.contains(fields[0]) && ids.contains(fields[1]), "{line}");
                edges += 1;
            }
        }
    }
    let stored = "SELECT (SELECT count(*) FROM arx.transactions) + (SELECT count(*) FROM arx.internal_transfers)
                       + (SELECT count(*) FROM arx.token_transfers)";
    assert_eq!(edges.to_string(), database.query(stored).unwrap());

    let graphml = folder.path().join("graphml");
    export(&database, &graphml, &["--format", "graphml"]).unwrap();
    let text = read(&graphml.join("graph.graphml"));
    let count = |element: &str| text.matches(element).count();
    assert_eq!((count("<node "), count("<edge ")), (ids.len(), edges));
    assert!(text.contains("The &quot;First&quot;\n&lt;Exchange&gt;, Ltd; \\u{1}"), "texts are escaped");
    assert!(text.contains(">0.000000000000000001<") && text.ends_with("</graph>\n</graphml>\n"));
    let names: HashMap<&str, usize> = ["node", "edge"].map(|name| (name, count(&format!("</{name}>")))).into();
    assert_eq!(names["node"] + names["edge"], ids.len() + edges);
}

#[test]
fn a_filter_takes_a_network_a_time_and_a_neighbourhood() {
    let stack = Stack::shared().unwrap();
    let database = filled(stack, "export_filter");
    let folder = tempfile::tempdir().unwrap();
    let count = |name: &str, arguments: &[&str]| {
        let folder = folder.path().join(name);
        export(&database, &folder, &[&["--format", "jsonl"], arguments].concat()).unwrap();
        files(&folder, "transactions")
            .iter()
            .map(|file| std::fs::read_to_string(file).unwrap().lines().count())
            .sum::<usize>()
    };
    let stored = |condition: &str| -> usize {
        database.query(&format!("SELECT count(*) FROM arx.transactions WHERE {condition}")).unwrap().parse().unwrap()
    };
    assert_eq!(count("none", &["--network", "bitcoin"]), 0);
    assert_eq!(
        count("time", &["--from", "2024-01-15", "--until", "2024-02-10T05:00:00Z"]),
        stored("\"timestamp\" >= '2024-01-15 00:00+00' AND \"timestamp\" < '2024-02-10 05:00:00+00'")
    );
    let wallet = format!("0x{}", "1".repeat(40));
    let near = count("near", &["--network", "ethereum", "--wallet", &wallet]);
    assert_eq!(near, stored(&format!("from_address = '{wallet}'")));
    let wallets = std::fs::read_to_string(folder.path().join("near/neighbourhood.txt")).unwrap();
    assert_eq!(
        wallets.lines().collect::<HashSet<_>>(),
        [wallet, format!("0x{}", "e".repeat(40))].iter().map(String::as_str).collect()
    );
    // All others are connected with each other, by transactions or by tokens.
    let other = format!("0x{}1", "a".repeat(39));
    assert_eq!(count("far", &["--network", "ethereum", "--wallet", &other, "--depth", "3"]), 400);
}

#[test]
fn bad_requests_are_refused_and_leave_what_is_there() {
    let stack = Stack::shared().unwrap();
    let database = filled(stack, "export_bad");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("export");
    let refused = |arguments: &[&str]| export(&database, &path, arguments).unwrap_err();
    for (arguments, message) in [
        (&["--format", "jsonl", "--network", "atlantis"][..], "network \"atlantis\" does not exist"),
        (&["--format", "jsonl", "--from", "2024-02-01", "--until", "2024-01-01"], "the range is empty"),
        (&["--format", "jsonl", "--network", "ethereum", "--wallet", "0x12"], "0x12"),
        (&["--format", "excel"], "possible values: parquet, jsonl, neo4j, graphml"),
        (
            &["--format", "jsonl", "--network", "ethereum", "--network", "bitcoin", "--wallet", "x"],
            "exactly one --network",
        ),
    ] {
        let error = refused(arguments);
        assert!(error.contains(message), "{error}");
        assert!(!path.exists(), "{message}");
    }
    // No room: as a limit of the size of files gives it, without the signal.
    let sidecar = programs::sidecar().unwrap();
    let mut command = database.sidecar().unwrap();
    let script = "trap '' XFSZ; ulimit -f 16; exec \"$0\" \"$@\"";
    let mut limited = Command::new("bash");
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited.args(["-c", script]).arg(&sidecar).arg("export").arg(&path).args(["--format", "jsonl", "--json"]);
    let error = outcome(&mut limited).unwrap_err();
    assert!(error.contains("write") && error.contains("File too large"), "{error}");
    assert!(error.contains("run it again"), "{error}");
    let partial = run(Command::new("find").arg(&path).args(["-name", "*.partial"])).unwrap();
    assert_eq!(partial, "", "no part of a file is left");
    // The same export goes on, another one does not.
    let error = refused(&["--format", "parquet"]);
    assert!(error.contains("an export in another format"), "{error}");
    let error = refused(&["--format", "jsonl", "--network", "ethereum"]);
    assert!(error.contains("an export with another filter"), "{error}");
    assert_eq!(
        outcome(command.arg("export").arg(&path).args(["--format", "jsonl", "--json"])).unwrap()["already_complete"],
        false
    );
    let other = filled(stack, "export_other");
    let error = export(&other, &path, &["--format", "jsonl"]).unwrap_err();
    assert!(error.contains("an export of another database"), "{error}");
    std::fs::write(folder.path().join("letter"), "dear").unwrap();
    let error = export(&database, folder.path(), &["--format", "jsonl"]).unwrap_err();
    assert!(error.contains("no manifest.json"), "{error}");
}
