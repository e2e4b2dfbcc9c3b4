//! Whatever is inserted, updated, deleted and refreshed, by several sessions, in whatever order: kept findings are those that a look
//! at everything finds.

// helpers of tests fail as tests do
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use arx_stack::{Database, Stack};
use arx_tests::writers::Writers;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};
use tokio_postgres::Client;

/// Histories of so many steps.
const HISTORIES: u32 = 6;
const STEPS: usize = 60;

/// Sessions that write; another one refreshes.
const WRITERS: usize = 3;

/// What is kept: pattern, asset, window, options. In a crowd of eight all of them are found within hours.
const KEPT: [(&str, &str, &str, &str); 10] = [
    ("cycle", "native", "6 hours", r#"{"min_length": 2, "tolerance": 0.5, "min_focus": 0}"#),
    ("cycle", "usd", "6 hours", r#"{"tolerance": 1}"#),
    ("fan_out", "native", "6 hours", r#"{"min_fan": 2}"#),
    ("scatter_gather", "native", "8 hours", r#"{"min_fan": 2}"#),
    ("gather_scatter", "native", "6 hours", r#"{"min_fan": 2}"#),
    ("stack", "native", "1 day", "{}"),
    ("random_walk", "native", "8 hours", r#"{"min_length": 2, "tolerance": 0.5}"#),
    ("pass_through", "native", "4 hours", r#"{"tolerance": 0.3}"#),
    ("dormant_awakened", "native", "6 hours", r#"{"min_silence_days": 1, "lookback_days": 3, "min_share": 0.2}"#),
    ("wash_trading", "native", "6 hours", r#"{"min_rounds": 1, "tolerance": 0.5}"#),
];

#[derive(Debug, Clone)]
enum Step {
    Begin(usize),
    Commit(usize),
    Rollback(usize),
    /// Payments around an hour: sender, receiver, how long after, value.
    Pay(usize, u16, Vec<(u8, u8, u8, u8)>),
    PayTokens(usize, u16, Vec<(u8, u8, u8)>),
    Change(usize, &'static str, u8),
    Delete(usize, u8),
    DeleteTokens(usize, u8),
    Truncate,
    Merge,
    Refresh,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let writer = 0..WRITERS;
    let hour = 0..1_400_u16;
    let payment = (0..8_u8, 0..8_u8, 0..10_u8, 1..9_u8);
    let tokens = (0..5_u8, 0..5_u8, 0..10_u8);
    let set = prop_oneof![
        Just("value = value + 1"),
        Just("status = 'failed'"),
        Just("status = 'confirmed'"),
        Just("\"timestamp\" = \"timestamp\" + interval '5 hours'"),
        Just("\"timestamp\" = \"timestamp\" - interval '20 days'"),
        Just("to_address = 'w7'"),
    ];
    let step = prop_oneof![
        3 => writer.clone().prop_map(Step::Begin),
        3 => writer.clone().prop_map(Step::Commit),
        1 => writer.clone().prop_map(Step::Rollback),
        9 => (writer.clone(), hour.clone(), prop::collection::vec(payment, 4..40)).prop_map(|(w, h, p)| Step::Pay(w, h, p)),
        2 => (writer.clone(), hour, prop::collection::vec(tokens, 4..20)).prop_map(|(w, h, p)| Step::PayTokens(w, h, p)),
        4 => (writer.clone(), set, any::<u8>()).prop_map(|(w, set, row)| Step::Change(w, set, row)),
        4 => (writer.clone(), any::<u8>()).prop_map(|(w, row)| Step::Delete(w, row)),
        1 => (writer, any::<u8>()).prop_map(|(w, row)| Step::DeleteTokens(w, row)),
        1 => Just(Step::Truncate),
        1 => Just(Step::Merge),
        6 => Just(Step::Refresh),
    ];
    prop::collection::vec(step, STEPS)
}

struct History {
    writers: Writers,
    reader: Client,
    rows: u32,
    findings: i64,
}

impl History {
    async fn start(database: &Database<'_>) -> Self {
        let prepare = "INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST');
                       SELECT arx.ensure_partitions('arx.transactions', '2024-01-01', '2024-03-31')";
        database.query(prepare).unwrap();
        let writers = Writers::open(database, WRITERS).await.unwrap();
        let reader = database.connect().await.unwrap();
        reader.batch_execute("SET statement_timeout = '60s'").await.unwrap();
        Self { writers, reader, rows: 0, findings: 0 }
    }

    async fn run(&mut self, writer: usize, sql: &str) {
        self.writers.run(writer, sql).await.unwrap();
    }

    async fn end(&mut self, writer: usize, how: &str) {
        self.writers.end(writer, how).await.unwrap();
    }

    fn some_rows(row: u8) -> String {
        format!("block_number % 97 IN ({}, {})", row % 97, u32::from(row) * 3 % 97)
    }

    async fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Begin(writer) => self.writers.begin(*writer).await.unwrap(),
            Step::Commit(writer) => self.end(*writer, "COMMIT").await,
            Step::Rollback(writer) => self.end(*writer, "ROLLBACK").await,
            Step::Pay(writer, hour, payments) => {
                let mut values = Vec::new();
                for (from, to, after, value) in payments {
                    self.rows += 1;
                    let (number, hour) = (self.rows, i64::from(*hour) + i64::from(*after));
                    values.push(format!(
                        "('testnet', 't{number}', {number}, timestamptz '2024-01-02' + {hour} * interval '1 hour', 'w{from}', 'w{to}', \
                         {value}, 'confirmed')"
                    ));
                }
                let sql = "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, \
                           value, status) VALUES ";
                self.run(*writer, &(sql.to_owned() + &values.join(", "))).await;
            }
            Step::PayTokens(writer, hour, payments) => {
                let mut values = Vec::new();
                for (from, to, after) in payments {
                    self.rows += 1;
                    let (number, hour) = (self.rows, i64::from(*hour) + i64::from(*after));
                    values.push(format!(
                        "('testnet', 't{number}', 0, {number}, timestamptz '2024-01-02' + {hour} * interval '1 hour', 'usd', 'w{from}', \
                         'w{to}', {number})"
                    ));
                }
                let sql = "INSERT INTO arx.token_transfers (network, tx_hash, log_index, block_number, \"timestamp\", token_address, \
                           from_address, to_address, amount) VALUES ";
                self.run(*writer, &(sql.to_owned() + &values.join(", "))).await;
            }
            Step::Change(writer, set, row) => {
                let of = Self::some_rows(*row);
                self.run(*writer, &format!("UPDATE arx.transactions SET {set} WHERE {of}")).await;
            }
            Step::Delete(writer, row) => {
                let of = Self::some_rows(*row);
                self.run(*writer, &format!("DELETE FROM arx.transactions WHERE {of}")).await;
            }
            Step::DeleteTokens(writer, row) => {
                let of = Self::some_rows(*row);
                self.run(*writer, &format!("DELETE FROM arx.token_transfers WHERE {of}")).await;
            }
            // the reader would wait for whoever has truncated and not committed
            Step::Truncate => {
                self.end(0, "COMMIT").await;
                self.run(0, "TRUNCATE arx.transactions_2024_02").await;
            }
            Step::Merge => self.run(1, "SELECT outcome FROM arx.refresh_graph()").await,
            Step::Refresh => self.refresh().await?,
        }
        Ok(())
    }

    async fn refresh(&mut self) -> Result<(), TestCaseError> {
        self.writers.told.push_str("refresh;\n");
        for (pattern, asset, window, options) in KEPT {
            let arguments = format!("'{pattern}', '{window}', 'testnet', asset => '{asset}', options => '{options}'");
            let refresh = format!("SELECT inserted, updated, removed FROM arx.refresh_patterns({arguments})");
            self.reader.query_one(&refresh, &[]).await.map_err(|error| TestCaseError::fail(format!("{error:?}")))?;
            let compare = format!(
                "WITH kept AS (
                     SELECT finding_id, strength, center, wallets, tx_hashes, transfers, total_value, first_seen, last_seen, details
                       FROM arx.pattern_findings
                      WHERE pattern = '{pattern}' AND asset = '{asset}' AND \"window\" = '{window}' AND options = '{options}'
                 ), found AS (
                     SELECT finding_id, strength, center, wallets, tx_hashes, transfers, total_value, first_seen, last_seen, details
                       FROM arx.detect_patterns({arguments}, max_findings => NULL)
                 )
                 SELECT (SELECT count(*) FROM kept), (SELECT count(*) FROM (TABLE kept EXCEPT TABLE found) AS d),
                        (SELECT count(*) FROM (TABLE found EXCEPT TABLE kept) AS d)"
            );
            let row = self.reader.query_one(&compare, &[]).await.unwrap();
            let (kept, stale, missing): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
            self.findings += kept;
            prop_assert_eq!(
                (stale, missing),
                (0, 0),
                "{} of {} findings of {}\n{}",
                pattern,
                kept,
                asset,
                self.writers.told
            );
            let again = self.reader.query_one(&refresh, &[]).await.unwrap();
            let written: (i64, i64, i64) = (again.get(0), again.get(1), again.get(2));
            prop_assert_eq!(written, (0, 0, 0), "{} written once more\n{}", pattern, self.writers.told);
        }
        Ok(())
    }
}

async fn play(stack: &Stack, steps: &[Step], findings: &std::cell::Cell<i64>) -> Result<(), TestCaseError> {
    let database = stack.database("pattern_histories").unwrap();
    let mut history = History::start(&database).await;
    for step in steps {
        history.take(step).await?;
    }
    for writer in 0..WRITERS {
        history.end(writer, "COMMIT").await;
    }
    history.refresh().await?;
    findings.set(findings.get() + history.findings);
    Ok(())
}

#[test]
fn kept_findings_are_what_a_look_at_everything_finds_after_any_history() {
    let stack = Stack::shared().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let findings = std::cell::Cell::new(0);
    // a failure is made smaller by a few tries only: each plays a history on a fresh database
    let config = Config { cases: HISTORIES, max_shrink_iters: 20, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&steps(), |steps| runtime.block_on(play(stack, &steps, &findings)));
    match result {
        Ok(()) => {}
        // the commands say more than the steps that made them
        Err(TestError::Fail(reason, _)) => panic!("{reason}"),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
    println!("{} findings compared", findings.get());
    assert!(findings.get() >= 2_000, "{}", findings.get());
}
