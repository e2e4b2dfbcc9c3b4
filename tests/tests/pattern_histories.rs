//! After any history of inserts, updates, deletes and refreshes by several sessions, the kept
//! findings are those that a search of all transactions finds.

use std::cell::Cell;

use arx_stack::{Database, Stack};
use arx_tests::history::{self, History, Payment, Step, WRITERS};
use proptest::prelude::*;

const HISTORIES: u32 = 6;
const STEPS: usize = 60;

/// Kept searches: pattern, asset, window, options. Among eight wallets, each pattern occurs within
/// hours.
const KEPT: [(&str, &str, &str, &str); 10] = [
    ("cycle", "native", "6 hours", r#"{"min_length": 2, "tolerance": 0.5, "min_focus": 0}"#),
    ("cycle", history::TOKEN, "6 hours", r#"{"tolerance": 1}"#),
    ("fan_out", "native", "6 hours", r#"{"min_fan": 2}"#),
    ("scatter_gather", "native", "8 hours", r#"{"min_fan": 2}"#),
    ("gather_scatter", "native", "6 hours", r#"{"min_fan": 2}"#),
    ("stack", "native", "1 day", "{}"),
    ("random_walk", "native", "8 hours", r#"{"min_length": 2, "tolerance": 0.5}"#),
    ("pass_through", "native", "4 hours", r#"{"tolerance": 0.3}"#),
    ("dormant_awakened", "native", "6 hours", r#"{"min_silence_days": 1, "lookback_days": 3, "min_share": 0.2}"#),
    ("wash_trading", "native", "6 hours", r#"{"min_rounds": 1, "tolerance": 0.5}"#),
];

/// Returns payments between the first wallets within ten hours.
fn payments(wallets: u8, count: usize) -> impl Strategy<Value = Vec<Payment>> {
    let payment = (0..wallets, 0..wallets, 0..10_u16, 1..9_u8);
    (0..1_400_u16, prop::collection::vec(payment, 4..count)).prop_map(|(hour, payments)| {
        let at = |(from, to, after, value)| Payment { from, to, value, hour: Some(hour + after) };
        payments.into_iter().map(at).collect()
    })
}

/// Statements on a few rows.
fn statements() -> impl Strategy<Value = String> {
    let change = prop_oneof![
        Just("value = value + 1"),
        Just("status = 'failed'"),
        Just("status = 'confirmed'"),
        Just("\"timestamp\" = \"timestamp\" + interval '5 hours'"),
        Just("\"timestamp\" = \"timestamp\" - interval '20 days'"),
        Just("to_address = 'w7'"),
    ];
    let some_rows =
        || any::<u8>().prop_map(|row| format!("block_number % 97 IN ({}, {})", row % 97, u32::from(row) * 3 % 97));
    prop_oneof![
        4 => (change, some_rows()).prop_map(|(change, rows)| {
            format!("UPDATE arx.transactions SET {change} WHERE {rows}")
        }),
        4 => some_rows().prop_map(|rows| format!("DELETE FROM arx.transactions WHERE {rows}")),
        1 => some_rows().prop_map(|rows| format!("DELETE FROM arx.token_transfers WHERE {rows}")),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let writer = || 0..WRITERS;
    let step = prop_oneof![
        3 => writer().prop_map(Step::Begin),
        3 => writer().prop_map(Step::Commit),
        1 => writer().prop_map(Step::Rollback),
        9 => (writer(), payments(8, 40)).prop_map(|(writer, payments)| Step::Pay(writer, payments)),
        2 => (writer(), payments(5, 20)).prop_map(|(writer, payments)| Step::PayTokens(writer, payments)),
        9 => (writer(), statements()).prop_map(|(writer, sql)| Step::Run(writer, sql)),
        1 => Just(Step::Truncate("transactions_2024_02")),
        1 => Just(Step::Merge),
        6 => Just(Step::Refresh),
    ];
    prop::collection::vec(step, STEPS)
}

/// Refreshes every kept search, compares, and refreshes again, which must change nothing. Returns
/// the number of findings.
async fn refresh_and_compare(history: &mut History) -> Result<i64, TestCaseError> {
    history.log("refresh");
    let (reader, log) = (&history.reader, &history.writers.log);
    let mut findings = 0;
    for (pattern, asset, window, options) in KEPT {
        let arguments = format!("'{pattern}', '{window}', 'testnet', asset => '{asset}', options => '{options}'");
        let refresh = format!("SELECT inserted, updated, removed FROM arx.refresh_patterns({arguments})");
        reader.query_one(&refresh, &[]).await.map_err(|error| TestCaseError::fail(format!("{error:?}")))?;
        let columns = "finding_id, strength, center, wallets, tx_hashes, transfers, total_value, first_seen, last_seen, \
                       details";
        let compare = format!(
            "WITH kept AS (
                 SELECT {columns} FROM arx.pattern_findings
                  WHERE pattern = '{pattern}' AND asset = '{asset}' AND \"window\" = '{window}' AND options = '{options}'
             ), expected AS (
                 SELECT {columns} FROM arx.detect_patterns({arguments}, max_findings => NULL)
             )
             SELECT (SELECT count(*) FROM kept), (SELECT count(*) FROM (TABLE kept EXCEPT TABLE expected) AS d),
                    (SELECT count(*) FROM (TABLE expected EXCEPT TABLE kept) AS d)"
        );
        let row = reader.query_one(&compare, &[]).await.unwrap();
        let (kept, stale, missing): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
        findings += kept;
        prop_assert_eq!((stale, missing), (0, 0), "{} of {} findings of {}\n{}", pattern, kept, asset, log);
        let row = reader.query_one(&refresh, &[]).await.unwrap();
        let written: (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
        prop_assert_eq!(written, (0, 0, 0), "{} was written again\n{}", pattern, log);
    }
    Ok(findings)
}

async fn play(database: &Database<'_>, steps: &[Step], findings: &Cell<i64>) -> Result<(), TestCaseError> {
    let refresh = async |history: &mut History| {
        findings.set(findings.get() + refresh_and_compare(history).await?);
        Ok(())
    };
    History::start(database).await.play(steps, refresh).await
}

#[test]
fn after_any_history_kept_findings_are_those_of_a_full_search() {
    let stack = Stack::shared().unwrap();
    let findings = Cell::new(0);
    let play = async |steps: &[Step]| play(&stack.database("pattern_histories").unwrap(), steps, &findings).await;
    history::check(HISTORIES, 20, &steps(), play, || findings.get() >= 2_000);
    println!("{} findings compared", findings.get());
}
