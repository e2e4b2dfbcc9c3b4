//! One side of a comparison: a prepared statement with its parameters, on a warm connection.

use std::fmt::Debug;
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use arx_stack::Database;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use crate::timing::{in_turn_async, median, millis};

/// Settings of both sides. JIT compilation has no benefit here and takes seconds for a plan over
/// many partitions. The memory is the default of `arx.graph_work_mem`.
const SETTINGS: &str = "SET jit = off; SET work_mem = '256MB'; SET statement_timeout = '5min'";

/// Parameters of a call.
pub type Question = Vec<Box<dyn ToSql + Sync>>;

/// Opens a session with the settings of both sides and those in `more`.
///
/// # Errors
/// When the connection or a setting is rejected.
pub async fn session(database: &Database<'_>, more: &str) -> Result<Rc<Client>> {
    let client = database.connect().await?;
    client.batch_execute(&format!("{SETTINGS}; {more}")).await.context("set up the session")?;
    Ok(Rc::new(client))
}

/// A statement with its parameters.
pub struct StatementSide {
    client: Rc<Client>,
    statement: Statement,
    questions: Vec<Question>,
    calls: usize,
}

impl StatementSide {
    /// Prepares a statement. A run calls it `calls` times with each of the `questions`.
    ///
    /// # Errors
    /// When the statement cannot be prepared.
    pub async fn prepare(client: &Rc<Client>, sql: &str, questions: Vec<Question>, calls: usize) -> Result<Self> {
        let statement = client.prepare(sql).await.with_context(|| format!("prepare {sql}"))?;
        Ok(Self { client: Rc::clone(client), statement, questions, calls })
    }

    /// Returns the rows of every question. This also warms the caches.
    ///
    /// # Errors
    /// When a call fails or a row cannot be read.
    pub async fn answers<T>(&self, read: impl Fn(&Row) -> Result<T>) -> Result<Vec<Vec<T>>> {
        let mut answers = Vec::new();
        for question in &self.questions {
            let rows = self.ask(question).await?;
            answers.push(rows.iter().map(&read).collect::<Result<Vec<T>>>()?);
        }
        Ok(answers)
    }

    /// Runs every question and returns the milliseconds per call: the mean over questions of the
    /// median of their calls.
    ///
    /// # Errors
    /// When a call fails.
    pub async fn run(&self) -> Result<f64> {
        self.run_after(async || Ok(())).await
    }

    /// [`Self::run`] with an action before every call, which is not timed.
    ///
    /// # Errors
    /// When a call or an action fails.
    pub async fn run_after(&self, mut before: impl AsyncFnMut() -> Result<()>) -> Result<f64> {
        let mut sum = 0.0;
        for question in &self.questions {
            let mut times = Vec::with_capacity(self.calls);
            for _ in 0..self.calls {
                before().await?;
                let start = Instant::now();
                self.ask(question).await?;
                times.push(millis(start));
            }
            sum += median(&times)?;
        }
        Ok(sum / self.questions.len() as f64)
    }

    async fn ask(&self, question: &Question) -> Result<Vec<Row>> {
        let parameters: Vec<&(dyn ToSql + Sync)> = question.iter().map(AsRef::as_ref).collect();
        self.client.query(&self.statement, &parameters).await.context("run a call")
    }
}

/// Compares a side's answers with ours.
///
/// # Errors
/// When a call fails, or an answer differs.
pub async fn ensure_same<T: PartialEq + Debug>(
    side: &StatementSide,
    expected: &[Vec<T>],
    read: impl Fn(&Row) -> Result<T>,
) -> Result<()> {
    let answers = side.answers(read).await.context("call the peer")?;
    ensure!(answers.len() == expected.len(), "the sides have different questions");
    for (number, (ours, peers)) in expected.iter().zip(&answers).enumerate() {
        let (our_rows, peer_rows) = (ours.len(), peers.len());
        if let Some(row) = (0..our_rows.max(peer_rows)).find(|row| ours.get(*row) != peers.get(*row)) {
            bail!(
                "the answers of ours ({our_rows} rows) and of the peer ({peer_rows} rows) to question {number} differ, first \
                 in row {row}: {:?} and {:?}",
                ours.get(row),
                peers.get(row)
            );
        }
    }
    Ok(())
}

/// A recursive query as a peer: with the planner's default plan, which a user gets, and without
/// nested loops.
pub struct Recursive {
    default_plan: StatementSide,
    without_loops: StatementSide,
}

impl Recursive {
    /// Prepares both sessions.
    ///
    /// # Errors
    /// When the statement cannot be prepared.
    pub async fn prepare(database: &Database<'_>, sql: &str, questions: impl Fn() -> Vec<Question>) -> Result<Self> {
        let (default_plan, without_loops) =
            (session(database, "").await?, session(database, "SET enable_nestloop = off").await?);
        Ok(Self {
            default_plan: StatementSide::prepare(&default_plan, sql, questions(), 1).await?,
            without_loops: StatementSide::prepare(&without_loops, sql, questions(), 1).await?,
        })
    }

    /// Compares the answers, then measures. Returns the medians of ours and of the default plan, in
    /// turn, and a sentence on the peer without nested loops.
    ///
    /// # Errors
    /// When a call fails, or an answer differs.
    pub async fn against<T: PartialEq + Debug>(
        &self,
        ours: &StatementSide,
        expected: &[Vec<T>],
        read: impl Fn(&Row) -> Result<T>,
        runs: usize,
    ) -> Result<((f64, f64), String)> {
        ensure_same(&self.default_plan, expected, &read).await?;
        ensure_same(&self.without_loops, expected, &read).await?;
        let medians = in_turn_async(runs, async |_| ours.run().await, async |_| self.default_plan.run().await).await?;
        let without_loops = self.without_loops.run().await?;
        let sentence = format!(
            "The peer uses the planner's default plan; with `enable_nestloop = off` it takes {without_loops:.0} ms, which \
             gives a ratio of {:.1}.",
            without_loops / medians.0
        );
        Ok((medians, sentence))
    }
}
