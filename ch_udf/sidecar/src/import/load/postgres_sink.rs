//! Loads chunks into PostgreSQL by COPY BINARY. Owns every statement of the import: directly into
//! the table, or through a temporary table where rows may exist already.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use arx_pgwire::copy;
use bytes::Bytes;
use futures_util::SinkExt;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use super::loader::{ChunkSink, Loaded, Progress};
use crate::import::error::{ImportError, LineError};
use crate::import::parse::target::Target;
use crate::import::parse::transfers;
use crate::import::read::chunk::{Chunk, Month, Reject};

/// Bytes per CopyData message: large enough to make messages negligible, small enough for sending
/// and inserting to overlap.
const MESSAGE_BYTES: usize = 256 * 1024;

/// Temporary table for rows that may exist already or lack their time.
const STAGING: &str = "pg_temp.arx_import_rows";

/// Times that the import asks for partitions while a long query, such as a first load of the feed,
/// uses the table. The server waits a few seconds each time.
const PARTITION_TRIES: u32 = 20;
const PARTITION_PAUSE: Duration = Duration::from_secs(3);

/// A connection that loads one source.
pub(crate) struct PostgresSink {
    client: Client,
    target: Target,
    /// Key in `arx.import_progress`; none for standard input.
    source: Option<String>,
    /// Display name for messages.
    file: String,
    /// Load through the temporary table, because some rows exist already.
    staged: bool,
    has_staging: bool,
    months: BTreeSet<Month>,
    lines_done: u64,
}

impl PostgresSink {
    /// `may_repeat` is true if rows of the source may exist already.
    pub(crate) fn new(
        client: Client,
        target: Target,
        source: Option<String>,
        file: String,
        may_repeat: bool,
        lines_done: u64,
    ) -> Self {
        let staged = may_repeat || target.needs_staging();
        Self { client, target, source, file, staged, has_staging: false, months: BTreeSet::new(), lines_done }
    }

    /// Makes commits asynchronous. A crash of the server may lose the last chunks together with
    /// their progress, so the import still continues after the last durable row.
    /// [`ChunkSink::finish`] waits for everything to be durable.
    pub(crate) async fn relax_commits(&self) -> Result<(), ImportError> {
        self.batch("set the session up for lines", "SET synchronous_commit = off").await
    }

    fn database_error(&self, doing: &str, source: tokio_postgres::Error) -> ImportError {
        ImportError::Database { context: format!("cannot {doing} of {}", self.file), source }
    }

    async fn execute(&self, doing: &str, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64, ImportError> {
        self.client.execute(sql, params).await.map_err(|source| self.database_error(doing, source))
    }

    async fn batch(&self, doing: &str, sql: &str) -> Result<(), ImportError> {
        self.client.batch_execute(sql).await.map_err(|source| self.database_error(doing, source))
    }

    /// Creates partitions for months that are new to this import, one call per run of consecutive
    /// months, so that a gap in time creates none.
    async fn ensure_partitions(&mut self, months: &BTreeSet<Month>, tries: u32) -> Result<(), ImportError> {
        let new: Vec<Month> = months.difference(&self.months).copied().collect();
        let sql = format!(
            "SELECT arx.ensure_partitions('{}'::pg_catalog.regclass, $1::text::timestamptz, $2::text::timestamptz)",
            self.target.table()
        );
        for run in new.chunk_by(|a, b| a.next() == *b) {
            if let [first, .., last] | [first @ last] = run {
                self.create_partitions(&sql, &[first.first_day(), last.first_day()], tries).await?;
            }
        }
        self.months.extend(new);
        Ok(())
    }

    /// Creates the partitions from one month to another. If the table is in use, it is tried again.
    async fn create_partitions(&self, sql: &str, months: &[String; 2], tries: u32) -> Result<(), ImportError> {
        let [first, last] = months;
        for _ in 1..tries {
            match self.client.execute(sql, &[first, last]).await {
                Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                    tracing::info!("waiting to make partitions for {}: the table is in use", self.file);
                    tokio::time::sleep(PARTITION_PAUSE).await;
                }
                Err(error) => return Err(self.database_error("make the partitions for the months", error)),
                Ok(_) => return Ok(()),
            }
        }
        self.execute("make the partitions for the months", sql, &[first, last]).await?;
        Ok(())
    }

    /// Copies tuples into a table.
    async fn copy(&self, table: &str, columns: &str, tuples: &Bytes) -> Result<u64, tokio_postgres::Error> {
        let sql = format!("COPY {table} ({columns}) FROM STDIN (FORMAT binary)");
        let mut sink = pin!(self.client.copy_in(&sql).await?);
        sink.as_mut().feed(Bytes::from_static(copy::HEADER)).await?;
        let mut rest = tuples.clone();
        while !rest.is_empty() {
            let part = rest.split_to(rest.len().min(MESSAGE_BYTES));
            sink.as_mut().feed(part).await?;
        }
        sink.as_mut().feed(Bytes::from_static(copy::TRAILER)).await?;
        sink.as_mut().finish().await
    }

    /// Loads directly into the table. Returns `None` and loads nothing when a row exists already.
    async fn load_directly(&self, chunk: &Chunk) -> Result<Option<Loaded>, ImportError> {
        self.batch("begin a transaction for lines", "BEGIN").await?;
        match self.copy(self.target.table(), self.target.columns(), &chunk.tuples).await {
            Ok(imported) => Ok(Some(Loaded { imported, ..Loaded::default() })),
            Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
                self.batch("roll back lines", "ROLLBACK").await?;
                Ok(None)
            }
            Err(error) => Err(self.copy_error(chunk, error).await),
        }
    }

    /// Rolls back and returns an error that names the lines.
    async fn copy_error(&self, chunk: &Chunk, source: tokio_postgres::Error) -> ImportError {
        let context = format!("cannot load lines {} to {} of {}", self.lines_done + 1, chunk.lines_done, self.file);
        if let Err(error) = self.client.batch_execute("ROLLBACK").await {
            tracing::debug!(%error, "roll back");
        }
        ImportError::Database { context, source }
    }

    /// Creates the temporary table once per connection.
    async fn ensure_staging(&mut self) -> Result<(), ImportError> {
        if self.has_staging {
            return Ok(());
        }
        let line_number = match self.target {
            Target::UndatedTransfers => "0::bigint AS line_number, ",
            Target::Transactions | Target::Transfers | Target::Labels => "",
        };
        let sql = format!(
            "CREATE TEMPORARY TABLE arx_import_rows ON COMMIT DELETE ROWS AS SELECT {line_number}{} FROM {} WITH NO DATA",
            self.target.columns(),
            self.target.table()
        );
        self.batch("make a temporary table for lines", &sql).await?;
        self.has_staging = true;
        Ok(())
    }

    /// Loads through the temporary table; existing rows stay unchanged.
    async fn load_staged(&mut self, chunk: &Chunk) -> Result<Loaded, ImportError> {
        self.ensure_staging().await?;
        self.batch("begin a transaction for lines", "BEGIN").await?;
        let undated = self.target == Target::UndatedTransfers;
        let columns =
            if undated { format!("line_number, {}", transfers::COLUMNS) } else { self.target.columns().into() };
        let mut rows = match self.copy(STAGING, &columns, &chunk.tuples).await {
            Ok(rows) => rows,
            Err(error) => return Err(self.copy_error(chunk, error).await),
        };
        let mut rejects = Vec::new();
        if undated {
            rejects = self.date_transfers(chunk).await?;
            rows = rows.saturating_sub(u64::try_from(rejects.len()).unwrap_or(u64::MAX));
        }
        let columns = self.target.columns();
        let sql = format!(
            "INSERT INTO {} ({columns}) SELECT {columns} FROM {STAGING} ON CONFLICT DO NOTHING",
            self.target.table()
        );
        let imported = match self.client.execute(&sql, &[]).await {
            Ok(imported) => imported,
            Err(error) => return Err(self.copy_error(chunk, error).await),
        };
        Ok(Loaded { imported, present: rows.saturating_sub(imported), rejects })
    }

    /// Sets the time of staged transfers from their transactions and rejects those without one.
    async fn date_transfers(&mut self, chunk: &Chunk) -> Result<Vec<Reject>, ImportError> {
        self.batch("analyze the token transfers", &format!("ANALYZE {STAGING}")).await?;
        // Where a reorganisation left a hash twice, the transaction in the transfer's own block
        // decides.
        let dating = format!(
            "UPDATE {STAGING} AS s SET \"timestamp\" = dated.\"timestamp\" \
               FROM (SELECT DISTINCT ON (r.line_number) r.line_number, t.\"timestamp\" \
                       FROM {STAGING} AS r JOIN arx.transactions AS t USING (network, tx_hash) \
                      WHERE r.\"timestamp\" IS NULL \
                      ORDER BY r.line_number, t.block_number = r.block_number DESC, t.\"timestamp\" DESC) AS dated \
              WHERE dated.line_number = s.line_number"
        );
        self.execute("find the transactions of the token transfers", &dating, &[]).await?;
        let doing = "find the token transfers without a transaction";
        let missing = format!("DELETE FROM {STAGING} WHERE \"timestamp\" IS NULL RETURNING line_number, tx_hash");
        let missing = self.client.query(&missing, &[]).await.map_err(|source| self.database_error(doing, source))?;
        let mut rejects = Vec::with_capacity(missing.len());
        for row in missing {
            let line = u64::try_from(row.get::<_, i64>(0)).unwrap_or_default();
            let reason = LineError::UnknownTransaction { tx_hash: row.get(1) }.to_string();
            rejects.push(Reject { line, reason, text: chunk.line_text(line).to_owned() });
        }
        rejects.sort_by_key(|reject| reject.line);
        let doing = "find the months of the token transfers";
        let months = format!(
            "SELECT DISTINCT extract(year FROM \"timestamp\" AT TIME ZONE 'UTC')::int, \
                             extract(month FROM \"timestamp\" AT TIME ZONE 'UTC')::int FROM {STAGING}"
        );
        let months = self.client.query(&months, &[]).await.map_err(|source| self.database_error(doing, source))?;
        let months = months.iter().map(|row| Month::new(row.get(0), row.get(1))).collect();
        // A failure ends the transaction, so there is no second try.
        self.ensure_partitions(&months, 1).await?;
        Ok(rejects)
    }
}

impl ChunkSink for PostgresSink {
    async fn load(&mut self, chunk: &Chunk) -> Result<Loaded, ImportError> {
        if chunk.rows == 0 {
            self.batch("begin a transaction for lines", "BEGIN").await?;
            return Ok(Loaded::default());
        }
        // Before the transaction, because creating a partition locks the whole table until commit.
        self.ensure_partitions(&chunk.months, PARTITION_TRIES).await?;
        if !self.staged {
            if let Some(loaded) = self.load_directly(chunk).await? {
                return Ok(loaded);
            }
            self.staged = true;
        }
        self.load_staged(chunk).await
    }

    async fn commit(&mut self, step: &Progress) -> Result<(), ImportError> {
        if let Some(source) = &self.source {
            let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
            let sql = "UPDATE arx.import_progress SET lines_done = $2, rows_imported = rows_imported + $3, \
                       rows_present = rows_present + $4, rows_rejected = rows_rejected + $5, updated_at = now() \
                       WHERE source = $1";
            let counts = [step.lines_done, step.imported, step.present, step.rejected].map(number);
            self.execute("store the progress", sql, &[source, &counts[0], &counts[1], &counts[2], &counts[3]]).await?;
        }
        self.batch("commit lines", "COMMIT").await?;
        self.lines_done = step.lines_done;
        Ok(())
    }

    async fn roll_back(&mut self) -> Result<(), ImportError> {
        self.batch("roll back lines", "ROLLBACK").await
    }

    async fn finish(&mut self, lines_done: u64) -> Result<(), ImportError> {
        // The write-ahead log is sequential: once this commit is durable, so are all before it.
        self.batch("set the session up for the end", "SET synchronous_commit = on").await?;
        let Some(source) = &self.source else {
            let flush = "SELECT pg_catalog.pg_logical_emit_message(true, 'arx', 'import')";
            return self.batch("wait for the disk at the end", flush).await;
        };
        let lines_done = i64::try_from(lines_done).unwrap_or(i64::MAX);
        let sql =
            "UPDATE arx.import_progress SET lines_done = $2, finished = true, updated_at = now() WHERE source = $1";
        self.execute("note the end", sql, &[source, &lines_done]).await?;
        Ok(())
    }
}
