//! One side of a comparison: a prepared statement and the questions it is asked, warm, over a connection of its own settings.

use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use arx_stack::Database;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use crate::timing::{in_turn_async, median, millis};

/// Both sides alike. JIT compilation gains nothing here and costs a plan over many partitions seconds. Working memory as much
/// as `arx.graph_work_mem` is by default. No run hangs forever.
const SETTINGS: &str = "SET jit = off; SET work_mem = '256MB'; SET statement_timeout = '5min'";

/// The parameters of one call.
pub type Question = Vec<Box<dyn ToSql + Sync>>;

/// A session with the settings of both sides, and those in `more`.
///
/// # Errors
/// When the connection or a setting is refused.
pub async fn session(database: &Database<'_>, more: &str) -> Result<Rc<Client>> {
    let client = database.connect().await?;
    client.batch_execute(&format!("{SETTINGS}; {more}")).await.context("set up the session")?;
    Ok(Rc::new(client))
}

/// A statement and its questions.
pub struct Side {
    client: Rc<Client>,
    statement: Statement,
    questions: Vec<Question>,
    calls: usize,
}

impl Side {
    /// Asks every question `calls` times a run.
    ///
    /// # Errors
    /// When the statement cannot be prepared.
    pub async fn prepare(client: &Rc<Client>, sql: &str, questions: Vec<Question>, calls: usize) -> Result<Self> {
        let statement = client.prepare(sql).await.with_context(|| format!("prepare {sql}"))?;
        Ok(Self { client: Rc::clone(client), statement, questions, calls })
    }

    /// Every question's answer, read row by row. Warms the caches.
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

    /// One run: milliseconds a call. Of each question the median of its calls; of several questions the mean.
    ///
    /// # Errors
    /// When a call fails.
    pub async fn run(&self) -> Result<f64> {
        self.run_after(async || Ok(())).await
    }

    /// A run that does something, untimed, before every call.
    ///
    /// # Errors
    /// When a call fails, or what comes before it.
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

/// Holds a side's answers against ours.
///
/// # Errors
/// When a call fails, or an answer differs.
pub async fn ensure_same<T: PartialEq>(
    side: &Side,
    expected: &[Vec<T>],
    read: impl Fn(&Row) -> Result<T>,
) -> Result<()> {
    let answers = side.answers(read).await.context("ask the peer")?;
    ensure!(answers.len() == expected.len(), "the peer was asked something else");
    for (number, (ours, peers)) in expected.iter().zip(&answers).enumerate() {
        let (our_rows, peer_rows) = (ours.len(), peers.len());
        ensure!(ours == peers, "ours ({our_rows} rows) and the peer ({peer_rows}) disagree on question {number}");
    }
    Ok(())
}

/// A recursive query as a peer: in the planner's own plan, which is what a user gets, and as far as planner settings help it.
pub struct Recursive {
    own: Side,
    hashing: Side,
}

impl Recursive {
    /// Prepares both.
    ///
    /// # Errors
    /// When the statement cannot be prepared.
    pub async fn prepare(database: &Database<'_>, sql: &str, questions: impl Fn() -> Vec<Question>) -> Result<Self> {
        let (planner, no_loops) = (session(database, "").await?, session(database, "SET enable_nestloop = off").await?);
        Ok(Self {
            own: Side::prepare(&planner, sql, questions(), 1).await?,
            hashing: Side::prepare(&no_loops, sql, questions(), 1).await?,
        })
    }

    /// Compares the answers, then measures: the medians of ours and of the planner's own plan, in turn, and a sentence about
    /// the peer without nested loops.
    ///
    /// # Errors
    /// When a call fails, or an answer differs.
    pub async fn against<T: PartialEq>(
        &self,
        ours: &Side,
        expected: &[Vec<T>],
        read: impl Fn(&Row) -> Result<T>,
        runs: usize,
    ) -> Result<((f64, f64), String)> {
        ensure_same(&self.own, expected, &read).await?;
        ensure_same(&self.hashing, expected, &read).await?;
        let medians = in_turn_async(runs, async |_| ours.run().await, async |_| self.own.run().await).await?;
        let hashing = self.hashing.run().await?;
        let sentence = format!(
            "The peer runs in the planner's own plan; with `enable_nestloop = off` it takes {hashing:.0} ms: against that the ratio \
             is {:.1}.",
            hashing / medians.0
        );
        Ok((medians, sentence))
    }
}
