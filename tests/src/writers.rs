//! Sessions that write in a random history, and what they were told to do. What a history is made of is the test's.

use std::fmt::Write;

use anyhow::{Context, Result};
use tokio_postgres::Client;

use arx_stack::Database;

/// Sessions, each within a transaction or not.
#[derive(Debug)]
pub struct Writers {
    sessions: Vec<(Client, bool)>,
    /// Every command so far, a line each.
    pub told: String,
}

impl Writers {
    /// Opens so many sessions; none waits long for a lock.
    ///
    /// # Errors
    /// When the server refuses one.
    pub async fn open(database: &Database<'_>, sessions: usize) -> Result<Self> {
        let mut writers = Self { sessions: Vec::with_capacity(sessions), told: String::new() };
        for _ in 0..sessions {
            let client = database.connect().await?;
            client.batch_execute("SET lock_timeout = '50ms'").await.context("set a writer up")?;
            writers.sessions.push((client, false));
        }
        Ok(writers)
    }

    /// Begins a transaction, where there is none.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn begin(&mut self, writer: usize) -> Result<()> {
        if !self.sessions[writer].1 {
            self.run(writer, "BEGIN").await?;
            self.sessions[writer].1 = true;
        }
        Ok(())
    }

    /// Runs a command. What is refused (a lock, a key) ends a transaction.
    ///
    /// # Errors
    /// When a transaction that failed cannot be ended.
    pub async fn run(&mut self, writer: usize, sql: &str) -> Result<()> {
        let (client, open) = &mut self.sessions[writer];
        let refused = client.batch_execute(sql).await.is_err();
        if refused && *open {
            client.batch_execute("ROLLBACK").await.context("end a transaction that failed")?;
            *open = false;
        }
        writeln!(self.told, "{writer}: {sql};{}", if refused { " -- refused" } else { "" })?;
        Ok(())
    }

    /// Ends a transaction, where there is one, by COMMIT or ROLLBACK.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn end(&mut self, writer: usize, how: &str) -> Result<()> {
        if self.sessions[writer].1 {
            self.run(writer, how).await?;
            self.sessions[writer].1 = false;
        }
        Ok(())
    }
}
