//! Random histories: several sessions change the tables of the network `testnet` in any order, and
//! from time to time one session refreshes something derived from them. The test checks the derived
//! data after each refresh, and shows the statements of a history that fails. What a history
//! contains besides the steps here is up to the test.

use std::fmt::Debug;

use arx_stack::Database;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};
use tokio_postgres::Client;

use crate::fixtures::TESTNET;
use crate::writers::Writers;

/// Rounds of histories that [`check`] plays at most.
const MAX_ROUNDS: u32 = 3;

/// Sessions that write. Another one refreshes.
pub const WRITERS: usize = 3;

/// Columns of the rows of [`payment`].
pub const PAY: &str = "INSERT INTO arx.transactions (network, tx_hash, block_number, \"timestamp\", from_address, to_address, \
                       value, status) VALUES ";

/// Columns of the rows of [`token_payment`].
pub const PAY_TOKENS: &str = "INSERT INTO arx.token_transfers (network, tx_hash, log_index, block_number, \"timestamp\", \
                              token_address, from_address, to_address, amount) VALUES ";

/// Token of every [`token_payment`].
pub const TOKEN: &str = "usd";

/// One step of a history. Numbers are indexes of writers.
#[derive(Debug, Clone)]
pub enum Step {
    Begin(usize),
    Commit(usize),
    Rollback(usize),
    Pay(usize, Vec<Payment>),
    PayTokens(usize, Vec<Payment>),
    /// Runs any other statement.
    Run(usize, String),
    /// Empties a table or partition, after the writer has committed: the refreshing session would
    /// wait for it otherwise.
    Truncate(&'static str),
    /// Merges the graph's overlay into a new base.
    Merge,
    /// Runs a statement in the session that refreshes.
    RunReader(&'static str),
    /// Refreshes the derived data and checks them.
    Refresh,
}

/// A payment between two wallets, which are called `w0`, `w1` and so on.
#[derive(Debug, Clone)]
pub struct Payment {
    pub from: u8,
    pub to: u8,
    pub value: u8,
    /// Hours since 2024-01-02; by default the payment's number in its history.
    pub hour: Option<u16>,
}

/// Returns the row of a payment. Its number makes the transaction's hash and block.
#[must_use]
pub fn payment(number: u32, hour: u32, from: &str, to: &str, value: u8) -> String {
    format!(
        "('testnet', 't{number}', {number}, timestamptz '2024-01-02' + {hour} * interval '1 hour', '{from}', '{to}', \
         {value}, 'confirmed')"
    )
}

/// Returns the row of a payment in tokens.
#[must_use]
pub fn token_payment(number: u32, hour: u32, from: &str, to: &str, amount: u8) -> String {
    format!(
        "('testnet', 'k{number}', 0, {number}, timestamptz '2024-01-02' + {hour} * interval '1 hour', '{TOKEN}', '{from}', \
         '{to}', {amount})"
    )
}

/// The sessions of a history that is being played.
#[derive(Debug)]
pub struct History {
    pub writers: Writers,
    /// Session that refreshes.
    pub reader: Client,
    rows: u32,
}

impl History {
    /// Prepares a database for payments from 2024-01-01 to 2024-03-31, and opens the sessions.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn start(database: &Database<'_>) -> Self {
        database
            .query(&format!("{TESTNET} SELECT arx.ensure_partitions('arx.transactions', '2024-01-01', '2024-03-31')"))
            .unwrap();
        let writers = Writers::open(database, WRITERS).await.unwrap();
        let reader = database.connect().await.unwrap();
        reader.batch_execute("SET statement_timeout = '60s'").await.unwrap();
        Self { writers, reader, rows: 0 }
    }

    /// Plays the steps and, at the end, commits what is open. `refresh` runs at every
    /// [`Step::Refresh`] and once at the end.
    ///
    /// # Errors
    /// The first error of `refresh`.
    ///
    /// # Panics
    /// When a session breaks. Statements that the server rejects are part of a history.
    pub async fn play(
        &mut self,
        steps: &[Step],
        refresh: impl AsyncFn(&mut Self) -> Result<(), TestCaseError>,
    ) -> Result<(), TestCaseError> {
        for step in steps {
            match step {
                Step::Refresh => refresh(self).await?,
                step => self.take(step).await,
            }
        }
        self.writers.commit_all().await.unwrap();
        refresh(self).await
    }

    async fn take(&mut self, step: &Step) {
        match step {
            Step::Begin(writer) => self.writers.begin(*writer).await.unwrap(),
            Step::Commit(writer) => self.writers.end(*writer, "COMMIT").await.unwrap(),
            Step::Rollback(writer) => self.writers.end(*writer, "ROLLBACK").await.unwrap(),
            Step::Pay(writer, payments) => self.insert(*writer, PAY, payments, payment).await,
            Step::PayTokens(writer, payments) => self.insert(*writer, PAY_TOKENS, payments, token_payment).await,
            Step::Run(writer, sql) => self.run(*writer, sql).await,
            Step::Truncate(table) => {
                self.writers.end(0, "COMMIT").await.unwrap();
                self.run(0, &format!("TRUNCATE arx.{table}")).await;
            }
            Step::Merge => self.run(1, "SELECT outcome FROM arx.refresh_graph()").await,
            Step::RunReader(sql) => {
                self.log(sql);
                self.reader.batch_execute(sql).await.unwrap();
            }
            Step::Refresh => {}
        }
    }

    async fn insert(
        &mut self,
        writer: usize,
        into: &str,
        payments: &[Payment],
        row: fn(u32, u32, &str, &str, u8) -> String,
    ) {
        let mut rows = Vec::new();
        for Payment { from, to, value, hour } in payments {
            self.rows += 1;
            let hour = hour.map_or(self.rows, u32::from);
            rows.push(row(self.rows, hour, &format!("w{from}"), &format!("w{to}"), *value));
        }
        self.run(writer, &(into.to_owned() + &rows.join(", "))).await;
    }

    async fn run(&mut self, writer: usize, sql: &str) {
        self.writers.run(writer, sql).await.unwrap();
    }

    /// Adds a line to the log of statements.
    pub fn log(&mut self, line: &str) {
        self.writers.log.push_str(line);
        self.writers.log.push_str(";\n");
    }
}

/// Plays random histories, each in its own call of `play`, in rounds until they are `enough`: if
/// hardly anything happens in them, they prove nothing, and what happens is random. A failure is
/// simplified in a few attempts only, because each plays a history on a fresh database.
///
/// # Panics
/// With the first failure, and if three rounds are not enough.
pub fn check<S: Debug>(
    histories: u32,
    max_shrink_iters: u32,
    steps: &impl Strategy<Value = Vec<S>>,
    play: impl AsyncFn(&[S]) -> Result<(), TestCaseError>,
    enough: impl Fn() -> bool,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = Config { cases: histories, max_shrink_iters, failure_persistence: None, ..Config::default() };
    for _ in 0..MAX_ROUNDS {
        match TestRunner::new(config.clone()).run(steps, |steps| runtime.block_on(play(&steps))) {
            Ok(()) if enough() => return,
            Ok(()) => {}
            // The statements in the reason say more than the steps that made them.
            Err(TestError::Fail(reason, _) | TestError::Abort(reason)) => panic!("{reason}"),
        }
    }
    panic!("hardly anything happens in these histories: {} are not enough", histories * MAX_ROUNDS);
}
