//! A wallet's score in PostgreSQL equals the score that the sidecar computes from the imported
//! files, bit for bit.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Stdio;

use arx_stack::process::run;
use arx_stack::{Database, Stack};
use arx_tests::fixtures;

/// Scores of every wallet with a transaction.
const SCORES: &str = "
SELECT s.address, s.score, coalesce(s.probability::text, ''), s.band, s.state, s.coverage::text, coalesce(s.reason, '')
  FROM arx.score_wallets(ARRAY(SELECT t.from_address FROM arx.transactions AS t WHERE t.network = 'ethereum'
                               UNION SELECT t.to_address FROM arx.transactions AS t
                                      WHERE t.network = 'ethereum' AND t.to_address IS NOT NULL), 'ethereum') AS s";

const FEATURES: &str =
    "SELECT v.address, array_to_string(v.features, ',', '') FROM arx.feature_vectors('ethereum') AS v";

fn sample(file: &str) -> String {
    fixtures::sample(file).display().to_string()
}

/// Returns the fields of `risk-score` by address.
fn scored(database: &Database<'_>, arguments: &[&str]) -> BTreeMap<String, Vec<String>> {
    let mut command = database.sidecar().unwrap();
    command.args(["risk-score", "--transactions", &sample("transactions.csv.gz")]).args(arguments).stdin(Stdio::null());
    let text = run(&mut command).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[1..].is_sorted(), "the lines are in the order of addresses");
    let line = |line: &&str| {
        let (address, rest) = line.split_once(',').unwrap();
        (address.to_owned(), rest.split(',').map(str::to_owned).collect())
    };
    lines[1..].iter().map(line).collect()
}

/// Returns the bits of a number in text form.
fn bits(text: &str) -> Option<u64> {
    (!text.is_empty()).then(|| text.parse::<f64>().unwrap().to_bits())
}

/// Describes the differences between the server's scores and those from files.
fn differences(database: &Database<'_>, lines: &BTreeMap<String, Vec<String>>) -> String {
    let mut differences = String::new();
    let rows = database.query(SCORES).unwrap();
    let mut wallets = 0;
    for row in rows.lines() {
        wallets += 1;
        let server: Vec<&str> = row.split('|').collect();
        let Some(file) = lines.get(server[0]) else {
            writeln!(differences, "{} is not in the files", server[0]).unwrap();
            continue;
        };
        let same = server[1] == file[0]
            && bits(server[2]) == bits(&file[1])
            && server[3..5] == [&*file[2], &*file[3]]
            && bits(server[5]) == bits(&file[4])
            && Some(server[6]) == file.last().map(String::as_str);
        if !same {
            writeln!(differences, "{row} differs from {file:?}").unwrap();
        }
    }
    assert_eq!(wallets, lines.len(), "both sides have the same number of wallets");
    differences
}

#[test]
fn scores_from_files_equal_the_scores_of_the_server() {
    let database = Stack::shared().unwrap().database("risk_places").unwrap();
    fixtures::import(&database, &["transactions"], &fixtures::sample("transactions.csv.gz"));
    let lines = scored(&database, &[]);
    assert!(lines.len() > 7_000);
    assert_eq!(differences(&database, &lines), "", "without labels");

    // Several labels of one wallet, some with an explicit severity or confidence.
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
    fixtures::import(&database, &["labels"], &more);
    let lines = scored(&database, &["--labels", more.to_str().unwrap()]);
    assert_eq!(lines.values().filter(|line| line[3] == "labelled").count(), wallets.len());
    assert_eq!(differences(&database, &lines), "", "with a few labels, some with explicit severities and confidences");

    database.query("DELETE FROM arx.address_labels").unwrap();
    fixtures::import(&database, &["labels"], &fixtures::sample("labels.csv.gz"));
    assert_ne!(differences(&database, &scored(&database, &[])), "", "labels matter");
    let lines = scored(&database, &["--labels", &sample("labels.csv.gz"), "--features"]);
    for state in ["labelled", "scored", "partial", "unknown"] {
        assert!(lines.values().any(|line| line[3] == state), "{state}");
    }
    assert_eq!(differences(&database, &lines), "", "with the labels of the sample");

    // An ordinary wallet near an illicit one is not accused by what was not loaded.
    let judged: Vec<&Vec<String>> = lines.values().filter(|line| line[3] == "scored" || line[3] == "partial").collect();
    let alarming = judged.iter().filter(|line| line[2] == "high" || line[2] == "severe").count();
    assert!(alarming * 16 < judged.len(), "{alarming} of {} wallets are high or severe", judged.len());

    // Statements and calibration change both sides alike.
    database
        .query(
            "INSERT INTO arx.history_coverage (network, source) VALUES ('ethereum', 'test');
             INSERT INTO arx.risk_calibration (network, prevalence, medium_from, high_from, severe_from)
             VALUES ('ethereum', 0.2, 35, 55, 80.5)",
        )
        .unwrap();
    let stated = ["--complete-network", "--prevalence", "0.2", "--thresholds", "35,55,80.5"];
    let stated = scored(&database, &[&["--labels", &sample("labels.csv.gz")], stated.as_slice()].concat());
    assert_eq!(differences(&database, &stated), "", "with statements and calibration");
    assert!(stated.iter().any(|(address, line)| *line != lines[address]));
    database.query("DELETE FROM arx.history_coverage; DELETE FROM arx.risk_calibration").unwrap();

    let vectors = database.query(FEATURES).unwrap();
    assert!(vectors.lines().count() > 7_000);
    for row in vectors.lines() {
        let (address, features) = row.split_once('|').unwrap();
        let server: Vec<Option<u64>> = features.split(',').map(bits).collect();
        // The last field is the reason.
        let (_, fields) = lines[address].split_last().unwrap();
        let file: Vec<Option<u64>> = fields[5..].iter().map(|text| bits(text)).collect();
        assert_eq!(server, file, "features of {address}");
    }
}
