//! Labels in PostgreSQL: staging, comparison with the labels that exist, and the changes. Owns
//! every statement of a label import, and its transaction.
//!
//! A label of a list and one of the table are the same if network, address, category, source and
//! text are. A list names a label as of now: a label that is in force stays, one that had ended
//! begins again at the date of the edition, and its earlier period remains.

use std::pin::pin;

use arx_pgwire::copy;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::SinkExt;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use super::error::RecordError;
use crate::import::ImportError;

/// Bytes per CopyData message.
const MESSAGE_BYTES: usize = 256 * 1024;

const STAGING: &str = "\
CREATE TEMPORARY TABLE arx_label_rows (
    id bigint NOT NULL, line bigint NOT NULL, network text NOT NULL, address text NOT NULL, category text NOT NULL,
    severity arx.label_severity_enum NOT NULL, label text NOT NULL, source text NOT NULL,
    confidence numeric(4,3) NOT NULL, valid_from timestamptz, valid_to timestamptz) ON COMMIT DROP";

const STAGING_COLUMNS: &str =
    "id, line, network, address, category, severity, label, source, confidence, valid_from, valid_to";

/// Sources of the list, and whether they had labels before.
const SOURCES: &str = "\
CREATE TEMPORARY TABLE arx_label_sources (source text NOT NULL, had_labels boolean NOT NULL) ON COMMIT DROP";

const FILL_SOURCES: &str = "\
INSERT INTO pg_temp.arx_label_sources
SELECT s.source, EXISTS (SELECT FROM arx.address_labels AS l WHERE l.source = s.source)
  FROM (SELECT r.source FROM pg_temp.arx_label_rows AS r UNION SELECT $1::text WHERE $1 IS NOT NULL) AS s";

/// A later record of the same label is removed; `same` is false if it says something else.
const REPETITIONS: &str = "\
WITH repeated AS (
    SELECT min(r.id) AS first, r.network, r.address, r.category, r.source, r.label, r.valid_to IS NULL AS is_open,
           CASE WHEN r.valid_to IS NOT NULL THEN coalesce(r.valid_from, '-infinity') END AS began
      FROM pg_temp.arx_label_rows AS r
     GROUP BY r.network, r.address, r.category, r.source, r.label, 7, 8
    HAVING count(*) > 1)
DELETE FROM pg_temp.arx_label_rows AS r
 USING repeated AS g JOIN pg_temp.arx_label_rows AS f ON f.id = g.first
 WHERE r.id <> g.first AND r.network = g.network AND r.address = g.address AND r.category = g.category
   AND r.source = g.source AND r.label = g.label AND (r.valid_to IS NULL) = g.is_open
   AND CASE WHEN r.valid_to IS NOT NULL THEN coalesce(r.valid_from, '-infinity') END IS NOT DISTINCT FROM g.began
RETURNING r.line, f.line, r.address,
          (r.severity, r.confidence, r.valid_from, r.valid_to)
              IS NOT DISTINCT FROM (f.severity, f.confidence, f.valid_from, f.valid_to)";

const PLAN: &str = "\
CREATE TEMPORARY TABLE arx_label_plan (
    network text, address text, category text, severity arx.label_severity_enum, label text, source text,
    confidence numeric(4,3), open_id bigint, is_again boolean, valid_from timestamptz, valid_to timestamptz)
ON COMMIT DROP";

/// $1: date of the edition, $2: the list is a whole one.
const FILL_PLAN: &str = "\
INSERT INTO pg_temp.arx_label_plan
SELECT r.network, r.address, r.category, r.severity, r.label, r.source, r.confidence, o.label_id,
       o.label_id IS NULL AND p.ended IS NOT NULL,
       CASE WHEN o.label_id IS NOT NULL
            THEN CASE WHEN r.valid_from IS NULL OR p.ended IS NOT NULL THEN o.valid_from ELSE r.valid_from END
            WHEN p.ended IS NOT NULL THEN greatest($1, coalesce(r.valid_from, '-infinity'))
            WHEN r.valid_from IS NOT NULL THEN r.valid_from
            WHEN $2 AND s.had_labels AND r.valid_to IS NULL THEN $1
            ELSE '-infinity' END,
       coalesce(r.valid_to, o.valid_to, 'infinity')
  FROM pg_temp.arx_label_rows AS r
  JOIN pg_temp.arx_label_sources AS s USING (source)
  LEFT JOIN LATERAL (
       SELECT l.label_id, l.valid_from, l.valid_to
         FROM arx.address_labels AS l
        WHERE l.network = r.network AND l.address = r.address AND l.category = r.category AND l.source = r.source
          AND l.label = r.label
          AND CASE WHEN r.valid_to IS NULL THEN l.valid_to > $1
                   WHEN r.valid_from IS NULL THEN l.valid_to > $1 OR l.valid_to = r.valid_to
                   ELSE l.valid_from = r.valid_from OR (l.valid_from = '-infinity' AND l.valid_to > $1) END
        ORDER BY l.valid_from DESC LIMIT 1) AS o ON s.had_labels
  LEFT JOIN LATERAL (
       SELECT max(l.valid_to) AS ended
         FROM arx.address_labels AS l
        WHERE l.network = r.network AND l.address = r.address AND l.category = r.category AND l.source = r.source
          AND l.label = r.label AND l.valid_to <= $1) AS p ON s.had_labels AND r.valid_to IS NULL";

const UPDATE: &str = "\
UPDATE arx.address_labels AS l
   SET severity = p.severity, confidence = p.confidence, valid_from = p.valid_from, valid_to = p.valid_to
  FROM pg_temp.arx_label_plan AS p
 WHERE l.label_id = p.open_id
   AND (l.severity, l.confidence, l.valid_from, l.valid_to)
       IS DISTINCT FROM (p.severity, p.confidence, p.valid_from, p.valid_to)";

/// Labels in force of the sources that the list does not name, except at the given addresses.
const GONE: &str = "\
  FROM pg_temp.arx_label_sources AS s
 WHERE l.source = s.source AND l.valid_to > $1 AND l.address <> ALL ($2::text[])
   AND NOT EXISTS (SELECT FROM pg_temp.arx_label_plan AS p WHERE p.open_id = l.label_id)";

const INSERT: &str = "\
INSERT INTO arx.address_labels (network, address, category, severity, label, source, confidence, valid_from, valid_to)
SELECT p.network, p.address, p.category, p.severity, p.label, p.source, p.confidence, p.valid_from, p.valid_to
  FROM pg_temp.arx_label_plan AS p
 WHERE p.open_id IS NULL";

/// Without labels of these sources there is nothing to compare.
const INSERT_ALL: &str = "\
INSERT INTO arx.address_labels (network, address, category, severity, label, source, confidence, valid_from, valid_to)
SELECT r.network, r.address, r.category, r.severity, r.label, r.source, r.confidence,
       coalesce(r.valid_from, '-infinity'), coalesce(r.valid_to, 'infinity')
  FROM pg_temp.arx_label_rows AS r";

/// The edition that a list is.
#[derive(Debug, Clone)]
pub(super) struct Edition {
    /// Its date; now when absent.
    pub(super) at: Option<DateTime<Utc>>,
    /// It names everything that its sources name.
    pub(super) is_full: bool,
    /// A source that it has even if it names nothing.
    pub(super) source: Option<String>,
}

/// Labels by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) added: u64,
    /// Had ended, and begin again.
    pub(crate) reopened: u64,
    pub(crate) updated: u64,
    /// Labels that the table holds as the list says, and records that repeat another.
    pub(crate) unchanged: u64,
    /// No longer on the list.
    pub(crate) closed: u64,
}

/// A rejected record: its line, the fault, and its address.
type Contradiction = (u64, RecordError, String);

pub(super) struct LabelStore {
    client: Client,
    file: String,
    edition: Edition,
    at: DateTime<Utc>,
    repeated: u64,
}

impl LabelStore {
    /// Begins the transaction of an import. One import of labels runs at a time.
    pub(super) async fn begin(client: Client, file: String, edition: Edition) -> Result<Self, ImportError> {
        let at = edition.at.unwrap_or_default();
        let mut store = Self { client, file, edition, at, repeated: 0 };
        store.batch("begin the import", "SET lock_timeout = '5s'; BEGIN; SET LOCAL jit = off").await?;
        let lock = "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('arx import of labels', 0))";
        if let Err(error) = store.client.execute(lock, &[]).await {
            return Err(if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) {
                ImportError::Busy { file: store.file }
            } else {
                store.error("lock the labels", error)
            });
        }
        store.batch("begin the import", crate::servers::postgres::LOCK_TIMEOUT).await?;
        if store.edition.at.is_none() {
            let now = store.client.query_one("SELECT pg_catalog.now()", &[]).await;
            store.at = now.map_err(|source| store.error("read the time", source))?.get(0);
        }
        for (doing, sql) in [("stage", STAGING), ("stage", SOURCES), ("compare", PLAN)] {
            store.batch(&format!("make a temporary table to {doing} the labels"), sql).await?;
        }
        Ok(store)
    }

    fn error(&self, doing: &str, source: tokio_postgres::Error) -> ImportError {
        ImportError::Database { context: format!("cannot {doing} of {}", self.file), source }
    }

    async fn batch(&self, doing: &str, sql: &str) -> Result<(), ImportError> {
        self.client.batch_execute(sql).await.map_err(|source| self.error(doing, source))
    }

    async fn execute(&self, doing: &str, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64, ImportError> {
        self.client.execute(sql, params).await.map_err(|source| self.error(doing, source))
    }

    async fn number(&self, doing: &str, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64, ImportError> {
        let row = self.client.query_one(sql, params).await.map_err(|source| self.error(doing, source))?;
        Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or_default())
    }

    /// Copies tuples into the staging table.
    pub(super) async fn copy(&self, tuples: Vec<u8>) -> Result<(), ImportError> {
        if tuples.is_empty() {
            return Ok(());
        }
        self.try_copy(tuples.into()).await.map_err(|source| self.error("stage the labels", source))
    }

    async fn try_copy(&self, mut tuples: Bytes) -> Result<(), tokio_postgres::Error> {
        let sql = format!("COPY pg_temp.arx_label_rows ({STAGING_COLUMNS}) FROM STDIN (FORMAT binary)");
        let mut sink = pin!(self.client.copy_in(&sql).await?);
        sink.as_mut().feed(Bytes::from_static(copy::HEADER)).await?;
        while !tuples.is_empty() {
            let part = tuples.split_to(tuples.len().min(MESSAGE_BYTES));
            sink.as_mut().feed(part).await?;
        }
        sink.as_mut().feed(Bytes::from_static(copy::TRAILER)).await?;
        sink.as_mut().finish().await?;
        Ok(())
    }

    /// Removes records that repeat an earlier one, and returns those that contradict it.
    pub(super) async fn remove_repetitions(&mut self) -> Result<Vec<Contradiction>, ImportError> {
        self.batch("analyze the labels", "ANALYZE pg_temp.arx_label_rows").await?;
        let doing = "find repetitions among the labels";
        let rows = self.client.query(REPETITIONS, &[]).await.map_err(|source| self.error(doing, source))?;
        let mut contradictions = Vec::new();
        for row in rows {
            if row.get(3) {
                self.repeated += 1;
                continue;
            }
            let (line, first): (i64, i64) = (row.get(0), row.get(1));
            let fault = RecordError::Contradiction(format!("line {first}"));
            contradictions.push((u64::try_from(line).unwrap_or_default(), fault, row.get(2)));
        }
        contradictions.sort_by_key(|(line, _, _)| *line);
        Ok(contradictions)
    }

    /// Compares the staged labels with those that exist, and changes these. Labels that a whole
    /// list does not name any more end, except at the addresses of `kept`; without `kept` none
    /// ends.
    pub(super) async fn merge(&self, kept: Option<&[String]>) -> Result<Changes, ImportError> {
        let compare = "compare the labels";
        self.execute(compare, FILL_SOURCES, &[&self.edition.source]).await?;
        let count = "SELECT count(*) FROM pg_temp.arx_label_rows";
        let rows = self.number(compare, count, &[]).await?;
        if rows == 0 && self.edition.is_full {
            let message = "no label of the list can be imported: nothing is closed".to_owned();
            return Err(ImportError::LabelList { file: self.file.clone(), message });
        }
        let known = "SELECT count(*) FROM pg_temp.arx_label_sources AS s WHERE s.had_labels";
        if self.number(compare, known, &[]).await? == 0 {
            let added = self.execute("add the labels", INSERT_ALL, &[]).await?;
            return Ok(Changes { added, unchanged: self.repeated, ..Changes::default() });
        }
        self.execute(compare, FILL_PLAN, &[&self.at, &self.edition.is_full]).await?;
        self.batch(compare, "ANALYZE pg_temp.arx_label_plan").await?;
        let matched = "SELECT count(*) FROM pg_temp.arx_label_plan AS p WHERE p.open_id IS NOT NULL";
        let matched = self.number(compare, matched, &[]).await?;
        let reopened = "SELECT count(*) FROM pg_temp.arx_label_plan AS p WHERE p.is_again";
        let reopened = self.number(compare, reopened, &[]).await?;
        let closed = match kept {
            Some(kept) => self.close(kept).await?,
            None => 0,
        };
        let updated = self.execute("update the labels", UPDATE, &[]).await?;
        let inserted = self.execute("add the labels", INSERT, &[]).await?;
        Ok(Changes {
            added: inserted.saturating_sub(reopened),
            reopened,
            updated,
            unchanged: matched.saturating_sub(updated) + self.repeated,
            closed,
        })
    }

    /// Ends the labels that the list does not name any more at the date of the edition.
    async fn close(&self, kept: &[String]) -> Result<u64, ImportError> {
        let params: &[&(dyn ToSql + Sync)] = &[&self.at, &kept];
        let later = format!(
            "SELECT count(*) FROM (SELECT l.label_id FROM arx.address_labels AS l CROSS JOIN LATERAL (SELECT {gone}) AS g \
              WHERE l.valid_from >= $1) AS later",
            gone = GONE.replacen("FROM", "1 FROM", 1)
        );
        let later = self.number("find the labels that are gone", &later, params).await?;
        if later > 0 {
            let message = format!(
                "{later} labels that are gone from the list began at or after {}, the date of this edition: \
                 state its date by --edition",
                self.at.format("%Y-%m-%d %H:%M:%S UTC")
            );
            return Err(ImportError::LabelList { file: self.file.clone(), message });
        }
        let close = format!("UPDATE arx.address_labels AS l SET valid_to = $1 {GONE}");
        self.execute("close the labels", &close, params).await
    }

    pub(super) async fn commit(&self) -> Result<(), ImportError> {
        self.batch("commit the labels", "COMMIT").await
    }

    pub(super) async fn roll_back(&self) -> Result<(), ImportError> {
        self.batch("undo the check", "ROLLBACK").await
    }
}
