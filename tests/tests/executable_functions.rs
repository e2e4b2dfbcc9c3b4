//! ARX's functions in ClickHouse return the results of PostgreSQL and of the sidecar on files, for
//! any active risk model, and recover from input that they reject. The data are the sample, or the
//! graph in the folder that `DATA` names.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use arx_stack::clickhouse::ClickHouse;
use arx_stack::process::run;
use arx_stack::{Database, Stack, programs};
use arx_tests::fixtures;
use serde_json::Value;

/// Wallets that the scorecard scores, with PostgreSQL's results, one object a line.
const SCORED: &str = "
    WITH vectors AS MATERIALIZED (SELECT address, features FROM arx.feature_vectors('ethereum')),
         scores AS MATERIALIZED (SELECT * FROM arx.score_wallets(ARRAY(SELECT address FROM vectors), 'ethereum'))
    SELECT json_build_object('address', address, 'features', features, 'score', score, 'probability', probability,
                             'band', band)
      FROM vectors JOIN scores USING (address) WHERE state IN ('scored', 'partial')";

/// Files that are imported, and scored by the sidecar.
struct Source {
    transactions: PathBuf,
    nodes: Option<PathBuf>,
    labels: PathBuf,
}

impl Source {
    fn find() -> Self {
        match std::env::var_os("DATA") {
            Some(folder) => {
                let folder = programs::workspace().join(folder);
                Self {
                    transactions: folder.join("transactions_slim.csv.gz"),
                    nodes: Some(folder.join("nodes.csv.gz")),
                    labels: folder.join("../labels/address_labels.csv.gz"),
                }
            }
            None => Self {
                transactions: fixtures::sample("transactions.csv.gz"),
                nodes: None,
                labels: fixtures::sample("labels.csv.gz"),
            },
        }
    }

    fn import(&self, database: &Database<'_>) {
        match &self.nodes {
            Some(nodes) => {
                let nodes = nodes.to_str().unwrap();
                fixtures::import(database, &["graph", "--nodes", nodes, "--transactions"], &self.transactions);
            }
            None => fixtures::import(database, &["transactions"], &self.transactions),
        }
        fixtures::import(database, &["labels"], &self.labels);
    }

    /// Scores the files with the sidecar and inserts the results into the table `from_files` of
    /// ClickHouse.
    fn score(&self, database: &Database<'_>, clickhouse: &ClickHouse) {
        let mut sidecar = database.sidecar().unwrap();
        sidecar.args(["risk-score", "--transactions"]).arg(&self.transactions).arg("--labels").arg(&self.labels);
        if let Some(nodes) = &self.nodes {
            sidecar.arg("--nodes").arg(nodes);
        }
        let lines = run(&mut sidecar).unwrap();
        clickhouse
            .query(
                "CREATE TABLE from_files (address String, score Decimal(4, 1), probability Nullable(Float64), band String, state String, coverage Float64)
                 ENGINE = MergeTree ORDER BY address",
            )
            .unwrap();
        clickhouse
            .query(&format!("INSERT INTO from_files SETTINGS precise_float_parsing = 1 FORMAT CSVWithNames\n{lines}"))
            .unwrap();
    }
}

/// Returns whether `arx-sidecar status` finds that the functions differ from the database.
fn differ_by_status(database: &Database<'_>) -> bool {
    let status = run(database.sidecar().unwrap().arg("status")).unwrap();
    let (same, other) = (status.contains("they answer as PostgreSQL does"), status.contains("install-udfs"));
    assert_ne!(same, other, "{status}");
    other
}

fn install(database: &Database<'_>, flags: &[&str]) -> String {
    run(database.sidecar().unwrap().args(["clickhouse", "install-udfs"]).args(flags)).unwrap()
}

/// Copies PostgreSQL's results into the table `scored` of ClickHouse. Returns the number of
/// wallets.
fn copy(database: &Database<'_>, clickhouse: &ClickHouse) -> usize {
    let scored = database.query(SCORED).unwrap();
    clickhouse.query("DROP TABLE IF EXISTS scored").unwrap();
    clickhouse
        .query(
            "CREATE TABLE scored (address String, features Array(Nullable(Float64)), score Decimal(4, 1), probability Float64, band String)
             ENGINE = MergeTree ORDER BY address",
        )
        .unwrap();
    // The fast parser of numbers may change the last bit.
    clickhouse
        .query(&format!("INSERT INTO scored SETTINGS precise_float_parsing = 1 FORMAT JSONEachRow\n{scored}"))
        .unwrap();
    scored.lines().count()
}

/// Returns the number of wallets that ClickHouse scores differently from PostgreSQL, and of all
/// wallets.
fn differing(clickhouse: &ClickHouse) -> String {
    let counts =
        "SELECT countIf(arxRiskScore(features) <> score OR arxRiskProbability(features, 'ethereum') <> probability
                                     OR arxRiskBand(features, 'eth') <> band), count() FROM scored";
    clickhouse.query(counts).unwrap()
}

#[test]
fn clickhouse_functions_return_the_results_of_postgresql() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("executable_functions").unwrap();
    let source = Source::find();
    source.import(&database);
    let functions = database.data_folder().join("clickhouse/functions");

    let dry = install(&database, &["--dry-run"]);
    assert!(dry.contains("would be written") && dry.contains("<name>arxRiskScore</name>"), "{dry}");
    assert!(!functions.exists());
    let before = install(&database, &[]);
    assert!(before.contains("ClickHouse is not running"), "{before}");
    // The engine loads the functions when it starts.
    let clickhouse = ClickHouse::start(stack, &database).unwrap();
    assert_eq!(clickhouse.query("SELECT arxRiskScore([])").unwrap(), "50");
    let again = install(&database, &[]);
    assert!(again.contains("serves the functions") && !again.contains("written"), "{again}");
    // The status reports on the tables, which a pass creates.
    run(database.sidecar().unwrap().arg("sync")).unwrap();
    assert!(!differ_by_status(&database));

    let wallets = copy(&database, &clickhouse);
    assert!(wallets > 1_000, "{wallets}");
    assert_eq!(differing(&clickhouse), format!("0\t{wallets}"));
    // The sidecar finds the same wallets, scores and probabilities in the files.
    source.score(&database, &clickhouse);
    let equal = "SELECT countIf(f.score = j.score AND f.probability = j.probability AND f.score = arxRiskScore(j.features)), count()
                   FROM (SELECT * FROM from_files WHERE state IN ('scored', 'partial')) AS f FULL JOIN scored AS j USING (address)";
    assert_eq!(clickhouse.query(equal).unwrap(), format!("{wallets}\t{wallets}"));
    assert_same_reasons(&database, &clickhouse);
    assert_same_addresses(&database, &clickhouse);
    assert_every_row_has_a_result(&clickhouse, 100_000 / wallets + 1, wallets);
    assert_errors_do_not_affect_the_next_query(&clickhouse);

    // After a change of the model, the processes that use the old one are replaced.
    database
        .query(
            "SELECT arx.import_risk_model(jsonb_set(jsonb_set(arx.default_risk_model(), '{version}', '\"other-1\"'), '{base}', '33.3'));
             SELECT arx.activate_risk_model('other-1')",
        )
        .unwrap();
    assert_eq!(differing(&clickhouse), format!("0\t{wallets}"), "nothing was installed yet");
    assert!(differ_by_status(&database));
    let other = install(&database, &[]);
    assert!(other.contains("risk model other-1") && other.contains("serves the functions"), "{other}");
    let changed = differing(&clickhouse);
    assert!(!changed.starts_with("0\t"), "{changed}");
    assert_eq!(copy(&database, &clickhouse), wallets);
    assert_eq!(differing(&clickhouse), format!("0\t{wallets}"));

    // The same after a change of the network's calibration.
    database
        .query(
            "INSERT INTO arx.risk_calibration (network, prevalence, medium_from, high_from, severe_from)
             VALUES ('ethereum', 0.0031, 30.5, 45, 50.5)",
        )
        .unwrap();
    copy(&database, &clickhouse);
    assert!(!differing(&clickhouse).starts_with("0\t"), "nothing was installed yet");
    assert!(differ_by_status(&database));
    assert!(install(&database, &[]).contains("serves the functions"));
    assert_eq!(differing(&clickhouse), format!("0\t{wallets}"));
    let others = "SELECT arxRiskProbability(features, 'ethereum') < arxRiskProbability(features, 'bitcoin'),
                         arxRiskProbability(features, NULL), arxRiskBand(features, '')
                    FROM scored ORDER BY address LIMIT 1";
    assert_eq!(clickhouse.query(others).unwrap(), "1\t\\N\t\\N");

    // The same after a change of the thresholds.
    let class = "SELECT arxWalletType(7, NULL, NULL, 8)";
    assert_eq!(clickhouse.query(class).unwrap(), "regular");
    database.query("INSERT INTO arx.behaviour_thresholds (distributor_recipients) VALUES (7)").unwrap();
    assert!(install(&database, &[]).contains("serves the functions"));
    assert_eq!(clickhouse.query(class).unwrap(), "distributor");
    assert!(!differ_by_status(&database));
}

fn assert_same_reasons(database: &Database<'_>, clickhouse: &ClickHouse) {
    let rows = clickhouse
        .query(
            "SELECT address, arxRiskExplain(features) FROM scored ORDER BY address LIMIT 40 FORMAT JSONCompactEachRow",
        )
        .unwrap();
    for line in rows.lines() {
        let row: [String; 2] = serde_json::from_str(line).unwrap();
        let [address, reasons] = row;
        let factors = database.query(&format!("SELECT factors FROM arx.wallet_risk('{address}', 'ethereum')")).unwrap();
        let (ours, theirs): (Value, Value) =
            (serde_json::from_str(&reasons).unwrap(), serde_json::from_str(&factors).unwrap());
        assert_eq!(ours, theirs, "{address}");
    }
}

fn assert_same_addresses(database: &Database<'_>, clickhouse: &ClickHouse) {
    let addresses = [
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD",
        "0X5AAEB6053F3E94C9B9A09F33669435E7EF1BEAED",
        "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4",
        "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
        "TJRyWwFs9wTFGZg3JbrVriFbNfCug5tDeC",
        " 0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed",
        "",
        "anything",
    ];
    let mut pairs = String::new();
    for address in addresses {
        for network in ["ethereum", "ETH", "btc", "tron", "solana", "eip155:4242", "another-network"] {
            let comma = if pairs.is_empty() { "" } else { ", " };
            write!(pairs, "{comma}('{address}', '{network}')").unwrap();
        }
    }
    let theirs = database
        .query(&format!(
            "SELECT string_agg(CASE WHEN arx.is_valid_address(a, n) IS NOT FALSE THEN arx.normalize_address(a, n) ELSE '-' END, ',' ORDER BY a COLLATE \"C\", n COLLATE \"C\")
               FROM (VALUES {pairs}) AS pair (a, n)"
        ))
        .unwrap();
    let ours = clickhouse
        .query(&format!(
            "SELECT arrayStringConcat(groupArray(ifNull(arxNormalizeAddress(a, n), if(arxAddressValid(a, n) = 0, '-', '?'))), ',')
               FROM (SELECT * FROM VALUES('a String, n String', {pairs}) ORDER BY a, n) SETTINGS max_threads = 1"
        ))
        .unwrap();
    assert_eq!(ours, theirs);
    assert_eq!(
        clickhouse
            .query(
                "SELECT arxNormalizeAddress(NULL, 'eth'), arxAddressValid(NULL, 'eth'), arxNormalizeAddress('x', '')"
            )
            .unwrap(),
        "\\N\t0\t\\N"
    );
}

/// Queries blocks of many rows of different kinds.
fn assert_every_row_has_a_result(clickhouse: &ClickHouse, times: usize, wallets: usize) {
    let rows = times * wallets;
    let query = format!(
        "SELECT count(), countIf(n % 7 = 0 AND s = 50), countIf(n % 7 > 0 AND s = score), countIf(p IS NULL), sum(length(toString(t))), sum(v)
           FROM (SELECT score, n, arxRiskScore(f) AS s, arxRiskProbability(f, 'ethereum') AS p,
                        arxWalletType(n, if(n % 3 = 0, NULL, toDecimal128(n, 18)), n::Float64, n) AS t,
                        arxAddressValid(if(n % 2 = 0, address, NULL), 'eth') AS v
                   FROM (SELECT address, score, n, if(n % 7 = 0, [], features) AS f FROM scored ARRAY JOIN range({times}) AS n))"
    );
    let answer = clickhouse.query(&query).unwrap();
    let (unknown, even) = (times.div_ceil(7) * wallets, times.div_ceil(2) * wallets);
    let types = (0..times).map(|n| if n > 50 { "distributor".len() } else { "regular".len() }).sum::<usize>() * wallets;
    assert_eq!(answer, format!("{rows}\t{unknown}\t{}\t{unknown}\t{types}\t{even}", rows - unknown));
    assert!(rows >= 100_000);
    // Classes sort by name, and a branch of an expression may skip rows.
    let branches = "SELECT groupArray(class) FROM (SELECT if(number = 0, 'none', arxWalletType(number, NULL, NULL, number)) AS class
                                                     FROM numbers(53) WHERE number IN (0, 1, 52) ORDER BY number)";
    assert_eq!(clickhouse.query(branches).unwrap(), "['none','regular','distributor']");
    let sorted = "SELECT arrayStringConcat(arraySort(groupUniqArray(c)), ',') FROM
                  (SELECT arxWalletType(101, toDecimal128(number % 3 * 1e6, 18), if(number % 3 = 1, 60e9, NULL), number) AS c FROM numbers(99))";
    assert_eq!(clickhouse.query(sorted).unwrap(), "distributor,regular,trader,whale");
}

fn assert_errors_do_not_affect_the_next_query(clickhouse: &ClickHouse) {
    for _ in 0..3 {
        let error =
            clickhouse.query("SELECT arxRiskScore(if(number = 70000, [1.], [])) FROM numbers(100000)").unwrap_err();
        assert!(error.to_string().contains("an array of 1 features, must have 72"), "{error}");
        assert_eq!(
            clickhouse.query("SELECT count(), sum(arxRiskScore([])) FROM numbers(100000)").unwrap(),
            "100000\t5000000"
        );
    }
}

#[test]
fn the_program_tests_itself_and_explains_damaged_input() {
    let program = programs::udf().unwrap();
    let report = run(Command::new(&program).arg("--self-test")).unwrap();
    assert_eq!(report.lines().filter(|line| line.ends_with(": ok")).count(), 7, "{report}");
    let scratch = tempfile::tempdir().unwrap();
    let broken = scratch.path().join("broken.json");
    std::fs::write(&broken, "{}").unwrap();
    let output = Command::new(&program).args(["risk-score", "--scorecard"]).arg(&broken).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("scorecard"), "{output:?}");
    for (input, reason) in
        [(&b"3\n\0\0"[..], "row 3 of 3: the input ends"), (b"1\n\x05", "row 1 of 1: an array of 5 features")]
    {
        let mut child = Command::new(&program)
            .arg("risk-score")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
        assert!(String::from_utf8_lossy(&output.stderr).contains(reason), "{output:?}");
    }
}
