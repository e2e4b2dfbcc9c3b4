//! Parts of decisions: a condition means the same as a path over facts and as an expression over
//! rows, and a session that keeps labels answers as a new one does, whatever happens to the labels.

use arx_stack::{Database, Stack};
use arx_tests::fixtures::TESTNET;
use fastrand::Rng;
use serde_json::{Value, json};
use tokio_postgres::Client;

const NUMBERS: [&str; 4] = ["amount", "amount_usd", "sum_24h", "count_1h"];
const TEXTS: [&str; 3] = ["asset", "wallet_category", "counterparty_category"];
const FLAGS: [&str; 2] = ["wallet_watched", "counterparty_watched"];
const WORDS: [&str; 4] = ["native", "scam", "it's \"quoted\" \\", "ünïcode\n"];

/// Values that round in binary, that do not fit into 64 bits, and that differ in their last digit.
const VALUES: [&str; 8] = [
    "0",
    "0.1",
    "-7.50",
    "10000",
    "9007199254740993",
    "9007199254740992",
    "115792089237316195423570985008687907853269984665640564039457584007913129639935",
    "0.000000000000000001",
];

fn one<'a>(rng: &mut Rng, of: &[&'a str]) -> &'a str {
    of.get(rng.usize(..of.len())).copied().unwrap_or_default()
}

fn condition(rng: &mut Rng, depth: u32) -> Value {
    match rng.u32(if depth == 0 { 3 } else { 0 }..12) {
        0 => json!({"not": condition(rng, depth - 1)}),
        1 => json!({"all": [condition(rng, depth - 1), condition(rng, depth - 1)]}),
        2 => json!({"any": [condition(rng, depth - 1), condition(rng, depth - 1)]}),
        3 => json!({"fact": one(rng, &NUMBERS), "op": one(rng, &["known", "unknown"])}),
        4 => json!({"fact": one(rng, &TEXTS), "op": one(rng, &["known", "unknown"])}),
        5 => json!({"fact": one(rng, &TEXTS), "op": one(rng, &["=", "<>"]), "value": one(rng, &WORDS)}),
        6 => json!({"fact": one(rng, &TEXTS), "op": "in", "value": [one(rng, &WORDS), one(rng, &WORDS)]}),
        7 => json!({"fact": one(rng, &TEXTS), "op": one(rng, &["=", "<>"]), "than": one(rng, &TEXTS)}),
        8 => json!({"fact": one(rng, &FLAGS), "op": one(rng, &["=", "<>"]), "value": rng.bool()}),
        9 => json!({"fact": one(rng, &NUMBERS), "op": "between", "value": [one(rng, &VALUES), one(rng, &VALUES)]}),
        10 => json!({"fact": one(rng, &NUMBERS), "op": one(rng, &["<", ">="]), "than": one(rng, &NUMBERS),
                     "times": one(rng, &["1", "-2.5", "0.1"]).parse::<f64>().unwrap()}),
        _ => json!({"fact": one(rng, &NUMBERS), "op": one(rng, &["=", "<>", "<", "<=", ">", ">="]),
                    "value": one(rng, &VALUES)}),
    }
}

/// Facts as a text, because a number of JSON keeps its digits only there. Some are missing or null.
fn facts(rng: &mut Rng) -> String {
    let mut members = Vec::new();
    for name in NUMBERS.into_iter().chain(TEXTS).chain(FLAGS) {
        let value = match rng.u32(..6) {
            0 => continue,
            1 => "null".to_owned(),
            _ if NUMBERS.contains(&name) => one(rng, &VALUES).to_owned(),
            _ if TEXTS.contains(&name) => Value::from(one(rng, &WORDS)).to_string(),
            _ => rng.bool().to_string(),
        };
        members.push(format!("\"{name}\": {value}"));
    }
    format!("{{{}}}", members.join(", "))
}

#[tokio::test]
async fn a_condition_means_the_same_as_a_path_and_as_an_expression() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("condition_paths").unwrap();
    let client = database.connect().await.unwrap();
    let mut rng = Rng::with_seed(26);
    let documents: Vec<String> = (0..60).map(|_| facts(&mut rng)).collect();
    let columns: String = client.query_one("SELECT arx.alert_fact_columns()", &[]).await.unwrap().get(0);
    let (mut held, mut differing) = (0, Vec::new());
    for _ in 0..150 {
        let condition = condition(&mut rng, 3);
        let compiled = client
            .query_one(
                "SELECT expression, numbers, texts FROM arx.compile_alert_condition($1, 'f', 0, 0)",
                &[&condition],
            )
            .await
            .unwrap();
        let expression: String = compiled.get(0);
        let (numbers, texts): (Vec<String>, Vec<String>) = (compiled.get(1), compiled.get(2));
        let sql = format!(
            "SELECT count(*) FILTER (WHERE by_row), count(*) FILTER (WHERE by_row <> by_path)
               FROM (SELECT coalesce({expression}, false) AS by_row,
                            coalesce(jsonb_path_match(d.facts::jsonb, (arx.alert_condition_parts($4))[1]::jsonpath, '{{}}', true), false) AS by_path
                       FROM unnest($3::text[]) AS d (facts), jsonb_to_record(d.facts::jsonb) AS f ({columns})) AS s"
        )
        .replace("($1)[", "($1::text[]::numeric[])[")
        .replace("($2)[", "($2::text[])[");
        // Parameters that no comparison names have types, too.
        let sql = format!("WITH typed AS (SELECT $1::text[], $2::text[]) {sql}");
        let row = client.query_one(&sql, &[&numbers, &texts, &documents, &condition]).await.unwrap();
        held += row.get::<_, i64>(0);
        if row.get::<_, i64>(1) > 0 {
            differing.push(condition);
        }
    }
    assert_eq!(differing, Vec::<Value>::new());
    assert!((800..8_000).contains(&held), "{held} of 9000 conditions held");
}

const WALLETS: usize = 12;

const TRANSFERS: &str = "INSERT INTO arx.transactions
        (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, status)
    SELECT 'testnet', 'h' || n, n, timestamptz '2024-01-01' + n * interval '1 minute',
           'w' || n * 7 % 12, 'w' || (n * n + 1) % 12, 1 + n % 5, 'confirmed' FROM generate_series(1, 60) AS n";

const SCREENED: &str = "SELECT coalesce(string_agg(s::text, ' ' ORDER BY s.address), '')
    FROM arx.screen_wallets(ARRAY(SELECT 'w' || n FROM generate_series(0, 11) AS n), 'testnet') AS s";

async fn answer(client: &Client) -> String {
    client.query_one(SCREENED, &[]).await.unwrap().get(0)
}

/// The answer of a session that keeps nothing.
async fn answer_of_new_session(database: &Database<'_>, setting: &str) -> String {
    let client = database.connect().await.unwrap();
    client.batch_execute(setting).await.unwrap();
    answer(&client).await
}

fn change(rng: &mut Rng) -> String {
    let address = format!("w{}", rng.usize(..WALLETS));
    let category = one(rng, &["scam", "exchange", "sanctions", "mixer", "test_kind"]);
    match rng.u32(..9) {
        0 | 1 => format!(
            "INSERT INTO arx.address_labels (network, address, category, severity, source)
             VALUES ('testnet', '{address}', '{category}', 'high', 'source {}') ON CONFLICT DO NOTHING",
            rng.u32(..4)
        ),
        2 => format!("DELETE FROM arx.address_labels WHERE address = '{address}'"),
        3 => format!("UPDATE arx.address_labels SET category = '{category}' WHERE address = '{address}' AND source = 'source 1'"),
        4 => format!("UPDATE arx.address_labels SET valid_to = now() + interval '1 day' WHERE address = '{address}'"),
        5 => format!("UPDATE arx.address_labels SET valid_to = now() WHERE address = '{address}' AND valid_from < now()"),
        6 => format!(
            "UPDATE arx.label_categories SET kind = '{}' WHERE category = 'test_kind'",
            one(rng, &["illicit", "service", "neutral"])
        ),
        7 => format!(
            "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, status)
             VALUES ('testnet', 'n{}', 99, '2024-01-02', '{address}', 'w{}', 2, 'confirmed')",
            rng.u32(..),
            rng.usize(..WALLETS)
        ),
        _ => "TRUNCATE arx.address_labels".to_owned(),
    }
}

#[tokio::test]
async fn a_session_that_keeps_labels_answers_as_a_new_one() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("kept_labels").unwrap();
    database.query(&format!("{TESTNET} {TRANSFERS}")).unwrap();
    database
        .query(
            "INSERT INTO arx.label_categories (category, kind, severity, description) VALUES ('test_kind', 'illicit', 'high', 'changes')",
        )
        .unwrap();
    let (keeping, writer) = (database.connect().await.unwrap(), database.connect().await.unwrap());
    let mut rng = Rng::with_seed(86);
    let mut answers = std::collections::BTreeSet::new();
    for round in 0..40 {
        let changes: Vec<String> = (0..rng.usize(1..4)).map(|_| change(&mut rng)).collect();
        let outcome = one(&mut rng, &["COMMIT", "COMMIT", "ROLLBACK", "ROLLBACK TO SAVEPOINT s; COMMIT"]);
        if rng.bool() {
            // In the session itself, which sees its own changes until it takes them back.
            keeping.batch_execute("BEGIN; SAVEPOINT s").await.unwrap();
            keeping.batch_execute(&changes.join(";")).await.unwrap();
            answers.insert(answer(&keeping).await);
            keeping.batch_execute(outcome).await.unwrap();
        } else {
            writer.batch_execute(&format!("BEGIN; SAVEPOINT s; {}", changes.join(";"))).await.unwrap();
            if !changes.iter().any(|change| change.starts_with("TRUNCATE")) {
                // Others do not see what is not committed.
                let before = answer_of_new_session(&database, "").await;
                assert_eq!(answer(&keeping).await, before, "round {round}, before {outcome} of {changes:?}");
            }
            writer.batch_execute(outcome).await.unwrap();
        }
        let expected = answer_of_new_session(&database, "").await;
        assert_eq!(answer(&keeping).await, expected, "round {round}, {outcome} of {changes:?}");
        answers.insert(expected);
    }
    assert!(answers.len() > 12, "the labels change {} answers", answers.len());
}

#[tokio::test]
async fn labels_that_are_not_kept_give_the_same_answers() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("labels_as_met").unwrap();
    database.query(&format!("{TESTNET} {TRANSFERS}")).unwrap();
    database
        .query(
            "INSERT INTO arx.address_labels (network, address, category, severity, source)
             SELECT 'testnet', 'w' || n, (ARRAY['scam', 'exchange', 'sanctions'])[n % 3 + 1], 'high', 'list' FROM generate_series(0, 8) AS n;
             -- Labels of wallets that the graph has, and that no path reaches.
             INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, value, status)
             SELECT 'testnet', 'a' || n, n, '2024-01-01', 'a' || n, 'b' || n, 1, 'confirmed' FROM generate_series(1, 6000) AS n;
             INSERT INTO arx.address_labels (network, address, category, severity, source)
             SELECT 'testnet', 'a' || n, 'scam', 'high', 'list' FROM generate_series(1, 6000) AS n",
        )
        .unwrap();
    database.query("SELECT transfers FROM arx.refresh_graph()").unwrap();
    let all = answer_of_new_session(&database, "").await;
    assert!(all.contains("sanctions") && all.contains("exchange"), "{all}");
    // The labels need more than this, and the search needs less.
    assert_eq!(answer_of_new_session(&database, "SET arx.graph_work_mem = '1MB'").await, all);
}
