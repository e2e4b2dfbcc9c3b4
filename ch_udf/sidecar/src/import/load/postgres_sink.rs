//! Loads chunks into PostgreSQL by COPY BINARY: directly into the table where no row can exist
//! already, several chunks at once (`lanes`); otherwise through a temporary table, whose rows meet
//! the stored ones by the statements of `sql`.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use arx_pgwire::copy;
use bytes::Bytes;
use futures_util::SinkExt;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use super::lanes::Lanes;
use super::loader::{ChunkSink, Loaded, Start, Step};
use super::sql;
use crate::import::error::ImportError;
use crate::import::parse::target::Target;
use crate::import::read::chunk::{Chunk, Month, Reject};

/// Bytes per CopyData message: large enough to make messages negligible, small enough for sending
/// and inserting to overlap.
const MESSAGE_BYTES: usize = 256 * 1024;

/// Stores the progress after a chunk: the source, its lines, and rows by outcome.
const STORE_PROGRESS: &str = "UPDATE arx.import_progress SET lines_done = $2, rows_imported = rows_imported + $3, \
    rows_present = rows_present + $4, rows_rejected = rows_rejected + $5, updated_at = now() WHERE source = $1";

/// Note about rows whose price differs from the stored one, which may be the one that was paid.
const OTHER_PRICE: &str = "rows with another gas price than the stored one, which stays";

/// Note about ids that come after values of the same contract.
const LATE_IDS: &str = "token transfers with ids, of contracts whose stored transfers have none (import their files again, \
                        with --erc721)";

/// Temporary table for rows that may exist already or lack their time.
const STAGING: &str = "pg_temp.arx_import_rows";

/// Times that a chunk is loaded while another session inserts the same rows.
const CONFLICT_TRIES: u32 = 10;
const CONFLICTS: [SqlState; 2] = [SqlState::UNIQUE_VIOLATION, SqlState::T_R_DEADLOCK_DETECTED];

/// Times that the import asks for partitions while a long query, such as a first load of the feed,
/// uses the table. The server waits a few seconds each time.
const PARTITION_TRIES: u32 = 20;
const PARTITION_PAUSE: Duration = Duration::from_secs(3);

/// Tables of rows that an import takes back, their names in the log of changes, and the condition
/// by which a logged row is the same.
const OWN_TABLES: [(&str, &str, &str); 3] = [
    ("arx.transactions", "transactions", "true"),
    ("arx.internal_transfers", "internal_transfers", "c.log_index = t.position"),
    ("arx.token_transfers", "token_transfers", "c.log_index = t.log_index"),
];

/// A connection that loads one source.
pub(crate) struct PostgresSink {
    client: Client,
    target: Target,
    /// Key in `arx.import_progress`; none for standard input.
    source: Option<String>,
    network: String,
    /// Display name for messages.
    file: String,
    mode: Mode,
    /// Load directly into the table: no row of the network was there at the start.
    direct: bool,
    has_staging: bool,
    months: BTreeSet<Month>,
    lines_done: u64,
    /// Lines that were done at the start.
    lines_before: u64,
    /// The transactions of this run, by which its rows can be taken back.
    committed: Vec<String>,
    /// The transaction of the open chunk.
    current: Option<String>,
    /// Transfers of the open chunk with ids, of contracts whose stored transfers have none.
    late_ids: u64,
    /// Token transfers of this run lack the log index, or have it.
    log_indexes: LogIndexes,
    /// Chunks that are loaded at once.
    lanes: Lanes,
}

/// Log indexes of the token transfers of a run.
#[derive(Debug, Clone, Copy)]
struct LogIndexes {
    some_lack: bool,
    some_have: bool,
    /// A transaction had transfers of both kinds, and was rejected.
    is_mixed: bool,
}

/// Rules of loading.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Mode {
    /// Nothing is committed: all chunks are loaded in one transaction, which is rolled back.
    pub(crate) check: bool,
    /// Transactions of a block that came again with another hash are removed.
    pub(crate) replace_blocks: bool,
    /// Rows of the source or of its network may exist already.
    pub(crate) may_repeat: bool,
    /// The user has stated what the values of token transfers are.
    pub(crate) states_tokens: bool,
}

impl PostgresSink {
    pub(crate) fn new(
        client: Client,
        lanes: Lanes,
        target: Target,
        (source, network): (Option<String>, String),
        file: String,
        mode: Mode,
        lines_done: u64,
    ) -> Self {
        // Whether the transaction of a token transfer has failed shows when the row is stored.
        let is_checked = mode.check && matches!(target, Target::Transfers { .. });
        let direct = target.may_load_directly() && !mode.replace_blocks && !mode.may_repeat && !is_checked;
        Self {
            client,
            target,
            source,
            network,
            file,
            mode,
            direct,
            has_staging: false,
            months: BTreeSet::new(),
            lines_done,
            lines_before: lines_done,
            committed: Vec::new(),
            current: None,
            late_ids: 0,
            log_indexes: LogIndexes { some_lack: false, some_have: direct, is_mixed: false },
            lanes,
        }
    }

    /// Makes commits asynchronous. A crash of the server may lose the last chunks together with
    /// their progress, so the import still continues after the last durable row.
    /// [`ChunkSink::finish`] waits for everything to be durable.
    pub(crate) async fn relax_commits(&self) -> Result<(), ImportError> {
        // Compiling a plan over many partitions takes longer than running it.
        self.batch("set the session up for lines", "SET synchronous_commit = off; SET jit = off").await
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

    /// Returns true if months that are new to this import have no partitions. Asks for all months
    /// up to now at once: files are ordered by time.
    async fn lacks_partitions(&mut self, months: &BTreeSet<Month>) -> Result<bool, ImportError> {
        let (Some(first), Some(last)) =
            (months.difference(&self.months).next().copied(), months.difference(&self.months).last().copied())
        else {
            return Ok(false);
        };
        let sql = "SELECT extract(year FROM m.month)::int, extract(month FROM m.month)::int \
                     FROM (SELECT generate_series(p.range_from AT TIME ZONE 'UTC', \
                                                  p.range_to AT TIME ZONE 'UTC' - interval '1 second', '1 month') AS month \
                             FROM arx.partition_cover($1::text::regclass, $2::text::timestamptz, $3::text::timestamptz) AS p) AS m";
        let last = last.max(Month::now());
        let missing = match self.client.query(sql, &[&self.target.table(), &first.first_day(), &last.first_day()]).await
        {
            Ok(missing) => missing,
            // Another session is about to change the table, and waits for the chunks before this
            // one.
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => return Ok(true),
            Err(error) => return Err(self.database_error("look for the partitions of the months", error)),
        };
        let missing: BTreeSet<Month> = missing.iter().map(|row| Month::new(row.get(0), row.get(1))).collect();
        let asked = std::iter::successors(Some(first), |month| Some(month.next()));
        let asked = asked.take_while(|month| *month <= last);
        self.months.extend(asked.filter(|month| !missing.contains(month)));
        Ok(!months.is_subset(&self.months))
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
        copy(&self.client, &copy_statement(table, columns), tuples).await
    }

    /// Begins the transaction of a chunk.
    async fn begin(&mut self) -> Result<(), ImportError> {
        if self.mode.check && self.current.is_some() {
            return Ok(());
        }
        self.batch("begin a transaction for lines", "BEGIN").await?;
        let doing = "name the transaction for lines";
        let sql = "SELECT pg_catalog.pg_current_xact_id()::text";
        let row = self.client.query_one(sql, &[]).await.map_err(|source| self.database_error(doing, source))?;
        self.current = Some(row.get(0));
        Ok(())
    }

    /// Loads directly into the table. Returns `None` and loads nothing when a row exists already,
    /// or another session inserts the same rows.
    async fn load_directly(&mut self, chunk: &Chunk) -> Result<Option<Loaded>, ImportError> {
        self.begin().await?;
        match self.copy(self.target.table(), self.target.columns(), &chunk.tuples).await {
            Ok(imported) => Ok(Some(Loaded { imported, ..Loaded::default() }.of_rows(chunk.rows))),
            Err(error) if error.code().is_some_and(|code| CONFLICTS.contains(code)) => {
                self.roll_back().await?;
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

    /// Creates the temporary tables once per connection.
    async fn ensure_staging(&mut self) -> Result<(), ImportError> {
        if !self.has_staging {
            self.batch("make temporary tables for lines", &sql::create(self.target)).await?;
            self.has_staging = true;
        }
        Ok(())
    }

    /// Loads through the temporary table.
    async fn load_staged(&mut self, chunk: &Chunk) -> Result<Loaded, ImportError> {
        self.ensure_staging().await?;
        self.begin().await?;
        match self.stage(chunk).await {
            Ok(loaded) => Ok(loaded),
            Err(StageError::Database(source)) => Err(self.copy_error(chunk, source).await),
            Err(StageError::Import(error)) => Err(error),
        }
    }

    /// Copies a chunk into the temporary table and applies its rows.
    async fn stage(&mut self, chunk: &Chunk) -> Result<Loaded, StageError> {
        if self.mode.check {
            self.client.batch_execute(sql::EMPTY).await?;
        }
        let columns = match self.target {
            Target::Edges { .. } => format!("{}, kind", self.target.columns()),
            target => target.columns().to_owned(),
        };
        self.copy(STAGING, &columns, &chunk.tuples).await?;
        self.client.batch_execute("ANALYZE pg_temp.arx_import_rows").await?;
        self.late_ids = 0;
        let mut retracted = self.retract_broken(chunk).await?;
        if self.target.keeps_together() || self.log_indexes.is_mixed {
            self.client.execute(sql::REJECT_BROKEN, &[]).await?;
        }
        if matches!(self.target, Target::Transfers { .. }) {
            retracted += self.reject_mixed(chunk).await?;
        }
        let replaced = self.apply(chunk).await?;
        let loaded = self.outcome(chunk, replaced).await?;
        Ok(Loaded { retracted, ..loaded })
    }

    /// Notes the transactions that rejected lines of the chunk name, and deletes those of their
    /// rows that earlier chunks of this run have inserted. Returns the number of rows.
    async fn retract_broken(&self, chunk: &Chunk) -> Result<u64, StageError> {
        if chunk.broken.is_empty() {
            return Ok(0);
        }
        let hashes: Vec<&str> = chunk.broken.keys().map(String::as_str).collect();
        let lines: Vec<i64> = chunk.broken.values().map(|line| i64::try_from(*line).unwrap_or(i64::MAX)).collect();
        self.client.execute(sql::NOTE_BROKEN, &[&hashes, &lines]).await?;
        self.retract(&hashes).await
    }

    /// Rejects transactions of which some token transfers have a log index and some do not, also
    /// those of earlier chunks of this run. Returns the number of rows deleted.
    async fn reject_mixed(&mut self, chunk: &Chunk) -> Result<u64, StageError> {
        let row = self.client.query_one(sql::LOG_INDEXES, &[]).await?;
        self.log_indexes.some_lack |= row.get::<_, bool>(0);
        self.log_indexes.some_have |= row.get::<_, bool>(1);
        if !(self.log_indexes.some_lack && self.log_indexes.some_have) {
            return Ok(0);
        }
        let writers: Vec<&String> = self.committed.iter().chain(&self.current).collect();
        let mixed = self.client.query(sql::REJECT_MIXED, &[&writers]).await?;
        if mixed.is_empty() {
            return Ok(0);
        }
        self.log_indexes.is_mixed = true;
        let hashes: Vec<String> = mixed.iter().map(|row| row.get(0)).collect();
        let folded: Vec<String> = hashes.iter().map(|hash| hash.to_lowercase()).collect();
        let line = |first: i64| chunk.line_of_row(usize::try_from(first).unwrap_or(usize::MAX)).0;
        let lines: Vec<i64> = mixed.iter().map(|row| i64::try_from(line(row.get(1))).unwrap_or(i64::MAX)).collect();
        self.client.execute(sql::NOTE_BROKEN, &[&folded, &lines]).await?;
        self.retract(&hashes.iter().map(String::as_str).collect::<Vec<_>>()).await
    }

    /// Deletes the rows of transactions that earlier chunks of this run have inserted. Returns
    /// their number.
    async fn retract(&self, hashes: &[&str]) -> Result<u64, StageError> {
        let writers: Vec<&String> = self.committed.iter().chain(&self.current).collect();
        let mut retracted = 0;
        for (table, relation, position) in OWN_TABLES {
            let sql = format!(
                "{} AND t.network = $2 AND t.tx_hash = ANY ($3::text[])",
                sql::take_back(table, relation, position)
            );
            retracted += self.client.execute(&sql, &[&writers, &self.network, &hashes]).await?;
        }
        Ok(retracted)
    }

    /// Applies the staged rows. Returns the number of transactions that were removed with their
    /// blocks.
    async fn apply(&mut self, chunk: &Chunk) -> Result<u64, StageError> {
        let mut replaced = 0;
        match self.target {
            Target::Transactions { effective_prices } => {
                self.client.batch_execute(sql::VERSIONS).await?;
                self.apply_versions(false, effective_prices).await?;
                replaced = self.replace_blocks().await?;
            }
            Target::Receipts => {
                self.client.batch_execute(sql::VERSIONS).await?;
                self.apply_versions(true, true).await?;
            }
            Target::Edges { whole } => {
                if whole {
                    let lines: Vec<i64> =
                        chunk.lines_of_rows().map(|line| i64::try_from(line).unwrap_or(i64::MAX)).collect();
                    self.client.execute(sql::NUMBER_LINES, &[&lines]).await?;
                    self.client.batch_execute(sql::WHOLE_LINES).await?;
                }
                self.client.batch_execute(&sql::edges(whole)).await?;
                replaced = self.replace_blocks().await?;
            }
            Target::Legs => {
                self.client.batch_execute(sql::HASHES).await?;
                self.client.batch_execute(sql::FOUND).await?;
                self.client.batch_execute(sql::LEGS_ROOTS).await?;
                self.client.batch_execute(&sql::legs_dates()).await?;
                self.found_months(chunk).await?;
                self.client.batch_execute(&sql::legs()).await?;
            }
            Target::Transfers { .. } => {
                self.client.batch_execute(sql::HASHES).await?;
                self.client.batch_execute(sql::FOUND).await?;
                self.client.batch_execute(&sql::transfers_dates()).await?;
                self.found_months(chunk).await?;
                self.client.batch_execute(&sql::transfers_compare(self.mode.states_tokens)).await?;
                let late: i64 = self.client.query_one(&sql::late_ids(), &[]).await?.get(0);
                self.late_ids = u64::try_from(late).unwrap_or_default();
                self.client.batch_execute(&sql::transfers_insert()).await?;
            }
        }
        Ok(replaced)
    }

    /// Removes transactions of blocks that the chunk has with another hash, where that is asked
    /// for. Returns their number.
    async fn replace_blocks(&self) -> Result<u64, StageError> {
        if !self.mode.replace_blocks {
            return Ok(0);
        }
        let count: i64 = self.client.query_one(sql::REPLACE_BLOCKS, &[]).await?.get(0);
        Ok(u64::try_from(count).unwrap_or_default())
    }

    /// Applies the versions of each transaction in the order of their lines.
    async fn apply_versions(&self, receipts: bool, effective_prices: bool) -> Result<(), StageError> {
        let versions: Option<i32> = self.client.query_one(sql::LAST_VERSION, &[]).await?.get(0);
        let apply = sql::apply_transactions(effective_prices);
        for version in 1..=versions.unwrap_or_default().min(sql::MAX_VERSIONS) {
            self.client.execute(sql::MATCH_TRANSACTIONS, &[&version, &receipts, &effective_prices]).await?;
            self.client.batch_execute(&apply).await?;
        }
        self.client.batch_execute(sql::REJECT_REPEATED).await?;
        Ok(())
    }

    /// Creates the partitions of rows that took their time from the database.
    async fn found_months(&mut self, chunk: &Chunk) -> Result<(), StageError> {
        if self.mode.check {
            return Ok(());
        }
        let months = self.client.query(sql::MONTHS, &[]).await?;
        let months: BTreeSet<Month> = months.iter().map(|row| Month::new(row.get(0), row.get(1))).collect();
        if months.is_subset(&chunk.months) {
            return Ok(());
        }
        // A failure ends the transaction, so there is no second try.
        Ok(self.ensure_partitions(&months, 1).await?)
    }

    /// Reads the outcome of each row.
    async fn outcome(&self, chunk: &Chunk, replaced: u64) -> Result<Loaded, StageError> {
        let mut loaded = Loaded { replaced, ..Loaded::default() };
        for row in self.client.query(sql::OUTCOMES, &[]).await? {
            let (outcome, count): (Option<String>, i64) = (row.get(0), row.get(1));
            let count = u64::try_from(count).unwrap_or_default();
            match outcome.as_deref() {
                Some("imported") => loaded.imported += count,
                Some("updated") => loaded.updated += count,
                Some("moved") => {
                    loaded.updated += count;
                    loaded.moved += count;
                }
                Some("unchanged") => loaded.unchanged += count,
                Some("less") => {
                    loaded.unchanged += count;
                    loaded.less += count;
                }
                Some("other price") => {
                    loaded.unchanged += count;
                    *loaded.notes.entry(OTHER_PRICE).or_default() += count;
                }
                Some("nothing") => loaded.nothing += count,
                // Rejected rows are listed below.
                _ => {}
            }
        }
        if self.late_ids > 0 {
            loaded.notes.insert(LATE_IDS, self.late_ids);
        }
        for row in self.client.query(sql::REJECTED, &[]).await? {
            let (number, reason): (i64, Option<String>) = (row.get(0), row.get(1));
            let (line, text) = chunk.line_of_row(usize::try_from(number).unwrap_or(usize::MAX));
            let reason = reason.unwrap_or_default();
            let (kind, reason) = reason.split_once('|').unwrap_or(("other", &reason));
            // The rows of a line are its legs, and share its reason.
            if loaded.rejects.last().is_none_or(|reject: &Reject| reject.line != line) {
                loaded.rejects.push(Reject { line, reason: reason.to_owned(), kind: kind.to_owned(), text });
            }
        }
        Ok(loaded)
    }

    async fn rolled_back(&mut self) -> Result<(), ImportError> {
        self.current = None;
        self.batch("roll back lines", "ROLLBACK").await
    }
}

/// Returns the statement by which tuples are copied into a table.
fn copy_statement(table: &str, columns: &str) -> String {
    format!("COPY {table} ({columns}) FROM STDIN (FORMAT binary)")
}

/// Copies tuples by a statement.
pub(super) async fn copy(client: &Client, statement: &str, tuples: &Bytes) -> Result<u64, tokio_postgres::Error> {
    let mut sink = pin!(client.copy_in(statement).await?);
    sink.as_mut().feed(Bytes::from_static(copy::HEADER)).await?;
    let mut rest = tuples.clone();
    while !rest.is_empty() {
        let part = rest.split_to(rest.len().min(MESSAGE_BYTES));
        sink.as_mut().feed(part).await?;
    }
    sink.as_mut().feed(Bytes::from_static(copy::TRAILER)).await?;
    sink.as_mut().finish().await
}

/// An error of a staged chunk.
enum StageError {
    /// A statement failed, and the transaction with it.
    Database(tokio_postgres::Error),
    Import(ImportError),
}

impl From<tokio_postgres::Error> for StageError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error)
    }
}

impl From<ImportError> for StageError {
    fn from(error: ImportError) -> Self {
        Self::Import(error)
    }
}

impl ChunkSink for PostgresSink {
    fn lanes(&self) -> usize {
        if self.direct && !self.mode.check { self.lanes.count().max(1) } else { 1 }
    }

    async fn start(&mut self, chunk: &Chunk) -> Result<Start, ImportError> {
        if self.mode.check
            || !self.direct
            || chunk.repeats
            || chunk.lacks_key
            || chunk.rows == 0
            || self.lanes.count() < 2
        {
            return Ok(Start::Alone);
        }
        // A new partition locks the whole table, which the chunks that are being loaded use.
        if self.lacks_partitions(&chunk.months).await? {
            if !self.lanes.is_idle() {
                return Ok(Start::Later);
            }
            self.ensure_partitions(&chunk.months, PARTITION_TRIES).await?;
        }
        let statement = copy_statement(self.target.table(), self.target.columns());
        if self.lanes.start(statement, chunk).await {
            return Ok(Start::Started);
        }
        Ok(Start::Later)
    }

    async fn started(&mut self) -> Result<Option<Loaded>, ImportError> {
        match self.lanes.loaded().await {
            // Whether rows exist already shows when the chunks are loaded one by one.
            Ok(rows) => Ok(rows.map(|imported| Loaded { imported, ..Loaded::default() })),
            Err((source, lines)) => {
                let context = format!("cannot load lines {} to {lines} of {}", self.lines_done + 1, self.file);
                Err(ImportError::Database { context, source })
            }
        }
    }

    async fn load(&mut self, chunk: &Chunk) -> Result<Loaded, ImportError> {
        self.lanes.roll_back_failed().await;
        if self.direct && self.mode.check {
            if chunk.repeats || chunk.lacks_key {
                return Err(ImportError::Repeats);
            }
            return Ok(Loaded { imported: chunk.rows, ..Loaded::default() });
        }
        if chunk.rows == 0 && chunk.broken.is_empty() {
            self.begin().await?;
            return Ok(Loaded::default());
        }
        // Before the transaction, because creating a partition locks the whole table until commit.
        // A check leaves its rows in the default partition, from which they are rolled back.
        if !self.mode.check {
            self.ensure_partitions(&chunk.months, PARTITION_TRIES).await?;
        }
        // Later rows of its transactions may have the key that its rows lack.
        self.direct &= !chunk.lacks_key;
        if self.direct && !chunk.repeats {
            if let Some(loaded) = self.load_directly(chunk).await? {
                return Ok(loaded);
            }
            self.direct = false;
        }
        for _ in 1..CONFLICT_TRIES {
            match self.load_staged(chunk).await {
                // Another session has inserted the same rows meanwhile, which are seen now, or it
                // is inserting them in another order.
                Err(ImportError::Database { source, .. })
                    if source.code().is_some_and(|code| CONFLICTS.contains(code)) && !self.mode.check =>
                {
                    tracing::debug!(code = source.code().map(SqlState::code), "load once more");
                }
                loaded => return loaded,
            }
        }
        self.load_staged(chunk).await
    }

    async fn commit(&mut self, step: &Step) -> Result<(), ImportError> {
        if self.mode.check {
            return Ok(());
        }
        let (client, transaction) = match self.lanes.take_loaded() {
            Some((client, transaction)) => (Some(client), Some(transaction)),
            None => (None, self.current.take()),
        };
        let client = client.as_deref().unwrap_or(&self.client);
        let failed = |doing: &str| {
            let context = format!("cannot {doing} of {}", self.file);
            move |source| ImportError::Database { context, source }
        };
        if let Some(source) = &self.source {
            let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
            let (imported, rejected) = (number(step.tally.imported), number(step.rejected()));
            let (present, retracted) = (number(step.tally.updated + step.tally.unchanged), number(step.retracted));
            let (imported, rejected) = (imported - retracted, rejected + retracted);
            let lines_done = number(step.lines_done);
            let parameters: [&(dyn ToSql + Sync); 5] = [source, &lines_done, &imported, &present, &rejected];
            client.execute(STORE_PROGRESS, &parameters).await.map_err(failed("store the progress"))?;
        }
        client.batch_execute("COMMIT").await.map_err(failed("commit lines"))?;
        self.committed.extend(transaction);
        self.lines_done = step.lines_done;
        Ok(())
    }

    async fn roll_back(&mut self) -> Result<(), ImportError> {
        self.rolled_back().await
    }

    async fn take_back(&mut self) -> Result<u64, ImportError> {
        if self.mode.check || self.committed.is_empty() {
            return Ok(0);
        }
        self.batch("begin a transaction", "BEGIN").await?;
        let mut taken = 0;
        for (table, relation, position) in OWN_TABLES {
            taken +=
                self.execute("take rows back", &sql::take_back(table, relation, position), &[&self.committed]).await?;
        }
        if let Some(source) = &self.source {
            let lines = i64::try_from(self.lines_before).unwrap_or(i64::MAX);
            let sql = "UPDATE arx.import_progress SET lines_done = $2, rows_imported = 0, rows_present = 0, \
                       rows_rejected = 0, updated_at = now() WHERE source = $1";
            self.execute("store the progress", sql, &[source, &lines]).await?;
        }
        self.batch("commit", "COMMIT").await?;
        self.committed.clear();
        Ok(taken)
    }

    async fn finish(&mut self, lines_done: u64) -> Result<(), ImportError> {
        if self.mode.check {
            return if self.current.is_some() { self.rolled_back().await } else { Ok(()) };
        }
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
