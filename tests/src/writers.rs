//! Sessions that write concurrently, and a log of their statements. A failed test shows the log.

use std::fmt::Write;

use anyhow::{Context, Result};
use arx_stack::Database;
use tokio_postgres::Client;

/// Sessions, each with or without an open transaction.
#[derive(Debug)]
pub struct Writers {
    sessions: Vec<(Client, bool)>,
    /// Every statement so far, one a line.
    pub log: String,
}

impl Writers {
    /// Opens sessions that wait at most 50 ms for a lock.
    ///
    /// # Errors
    /// When the server refuses a connection.
    pub async fn open(database: &Database<'_>, sessions: usize) -> Result<Self> {
        let mut writers = Self { sessions: Vec::with_capacity(sessions), log: String::new() };
        for _ in 0..sessions {
            let client = database.connect().await?;
            client.batch_execute("SET lock_timeout = '50ms'").await.context("set a writer up")?;
            writers.sessions.push((client, false));
        }
        Ok(writers)
    }

    /// Begins a transaction unless one is open.
    ///
    /// # Errors
    /// The errors of [`Self::run`].
    pub async fn begin(&mut self, writer: usize) -> Result<()> {
        if !self.sessions[writer].1 {
            self.run(writer, "BEGIN").await?;
            self.sessions[writer].1 = true;
        }
        Ok(())
    }

    /// Runs a statement. One that the server rejects (a lock, a duplicate key) ends the open
    /// transaction.
    ///
    /// # Errors
    /// When a failed transaction cannot be rolled back.
    pub async fn run(&mut self, writer: usize, sql: &str) -> Result<()> {
        let (client, is_open) = &mut self.sessions[writer];
        let is_rejected = client.batch_execute(sql).await.is_err();
        if is_rejected && *is_open {
            client.batch_execute("ROLLBACK").await.context("end a failed transaction")?;
            *is_open = false;
        }
        writeln!(self.log, "{writer}: {sql};{}", if is_rejected { " -- rejected" } else { "" })?;
        Ok(())
    }

    /// Ends the open transaction, if there is one, by `COMMIT` or `ROLLBACK`.
    ///
    /// # Errors
    /// The errors of [`Self::run`].
    pub async fn end(&mut self, writer: usize, command: &str) -> Result<()> {
        if self.sessions[writer].1 {
            self.run(writer, command).await?;
            self.sessions[writer].1 = false;
        }
        Ok(())
    }

    /// Commits every open transaction.
    ///
    /// # Errors
    /// The errors of [`Self::run`].
    pub async fn commit_all(&mut self) -> Result<()> {
        for writer in 0..self.sessions.len() {
            self.end(writer, "COMMIT").await?;
        }
        Ok(())
    }
}
