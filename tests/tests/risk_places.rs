//! A wallet's score is the same in PostgreSQL and out of the files that were imported there, bit for bit.

// helpers of tests fail as tests do
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Stdio;

use arx_stack::process::run;
use arx_stack::{Database, Stack, programs};

/// Every wallet with a transaction, as the server scores it.
const SCORES: &str = "
SELECT s.address, s.score, coalesce(s.probability::text, ''), s.band, s.state, s.coverage::text
  FROM arx.score_wallets(ARRAY(SELECT t.from_address FROM arx.transactions AS t WHERE t.network = 'ethereum'
                               UNION SELECT t.to_address FROM arx.transactions AS t
                                      WHERE t.network = 'ethereum' AND t.to_address IS NOT NULL), 'ethereum') AS s";

const FEATURES: &str =
    "SELECT v.address, array_to_string(v.features, ',', '') FROM arx.feature_vectors('ethereum') AS v";

fn sample(file: &str) -> String {
    programs::workspace().join("samples/ethereum").join(file).display().to_string()
}

fn import(database: &Database<'_>, kind: &str, file: &str) {
    std::fs::create_dir_all(database.data_folder()).unwrap();
    let rejects = database.data_folder().join(format!("{kind}.rejects"));
    run(database.sidecar().unwrap().args(["import", kind, file, "--rejects", rejects.to_str().unwrap()])).unwrap();
}

/// The lines of `risk-score` by address, without it.
fn scored(database: &Database<'_>, arguments: &[&str]) -> BTreeMap<String, Vec<String>> {
    let mut command = database.sidecar().unwrap();
    command.args(["risk-score", "--transactions", &sample("transactions.csv.gz")]).args(arguments).stdin(Stdio::null());
    let text = run(&mut command).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[1..].is_sorted(), "in the order of addresses");
    let line = |line: &&str| {
        let (address, rest) = line.split_once(',').unwrap();
        (address.to_owned(), rest.split(',').map(str::to_owned).collect())
    };
    lines[1..].iter().map(line).collect()
}

/// The bits of a number as it is written.
fn bits(text: &str) -> Option<u64> {
    (!text.is_empty()).then(|| text.parse::<f64>().unwrap().to_bits())
}

/// What differs between the server's scores and those from files.
fn differences(database: &Database<'_>, lines: &BTreeMap<String, Vec<String>>) -> String {
    let mut differences = String::new();
    let told = database.query(SCORES).unwrap();
    let mut wallets = 0;
    for row in told.lines() {
        wallets += 1;
        let server: Vec<&str> = row.split('|').collect();
        let Some(file) = lines.get(server[0]) else {
            writeln!(differences, "{} is in no file", server[0]).unwrap();
            continue;
        };
        let same = server[1] == file[0]
            && bits(server[2]) == bits(&file[1])
            && server[3..5] == [&*file[2], &*file[3]]
            && bits(server[5]) == bits(&file[4]);
        if !same {
            writeln!(differences, "{row} is not {file:?}").unwrap();
        }
    }
    assert_eq!(wallets, lines.len(), "as many wallets on both sides");
    differences
}

#[test]
fn scores_out_of_files_are_those_of_the_server() {
    let database = Stack::shared().unwrap().database("risk_places").unwrap();
    import(&database, "transactions", &sample("transactions.csv.gz"));
    let lines = scored(&database, &[]);
    assert!(lines.len() > 7_000);
    assert_eq!(differences(&database, &lines), "", "without labels");

    // several labels of one wallet, some with a severity or a confidence of their own
    let more = database.data_folder().join("labels.csv");
    let wallets: Vec<&String> = lines.keys().step_by(700).collect();
    let mut list = "network,address,category,abuse,label,source,severity,confidence\n".to_owned();
    for (wallet, number) in wallets.iter().zip(0..) {
        for (category, severity, confidence) in [
            ("exchange", "", ""),
            ("phishing", "low", "0.5"),
            ("phishing", "medium", "0.4"),
            ("sanctions", "none", "0.1"),
        ]
        .iter()
        .take(1 + number % 4)
        {
            writeln!(list, "ETH,{wallet},{category},,L{severity},made up,{severity},{confidence}").unwrap();
        }
    }
    std::fs::write(&more, &list).unwrap();
    import(&database, "labels", more.to_str().unwrap());
    let lines = scored(&database, &["--labels", more.to_str().unwrap()]);
    assert_eq!(lines.values().filter(|line| line[3] == "labelled").count(), wallets.len());
    assert_eq!(differences(&database, &lines), "", "with a few labels, severities and confidences of their own");

    database.query("DELETE FROM arx.address_labels").unwrap();
    import(&database, "labels", &sample("labels.csv.gz"));
    assert_ne!(differences(&database, &scored(&database, &[])), "", "labels matter");
    let lines = scored(&database, &["--labels", &sample("labels.csv.gz"), "--features"]);
    for state in ["labelled", "scored", "partial", "unknown"] {
        // the sample has no wallet of which only a part is looked at
        assert_eq!(lines.values().any(|line| line[3] == state), state != "partial", "{state}");
    }
    assert_eq!(differences(&database, &lines), "", "with the labels of the sample");

    let vectors = database.query(FEATURES).unwrap();
    assert!(vectors.lines().count() > 7_000);
    for row in vectors.lines() {
        let (address, features) = row.split_once('|').unwrap();
        let server: Vec<Option<u64>> = features.split(',').map(bits).collect();
        let file: Vec<Option<u64>> = lines[address][5..].iter().map(|text| bits(text)).collect();
        assert_eq!(server, file, "features of {address}");
    }
}
