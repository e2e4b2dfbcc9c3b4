//! The feed's state in PostgreSQL. Owns the lock that keeps two feeds of one database apart.

use tokio_postgres::Client;

use super::super::model::{Chunk, FirstLoad, Mark, Span, Stored};
use super::super::ports::{Confirmation, Ledger};
use crate::error::SidecarError;
use crate::servers::postgres::Duty;

/// Name of this feed in `arx.feed_positions`.
pub(crate) const CONSUMER: &str = "clickhouse";

/// State of the feed, on the connection that holds its lock: whoever loses the connection can confirm nothing.
#[derive(Debug)]
pub struct PostgresLedger {
    client: Client,
}

impl PostgresLedger {
    /// Takes the feed's lock.
    ///
    /// # Errors
    /// [`SidecarError::Taken`] while another sidecar feeds from this database.
    pub async fn acquire(client: Client) -> Result<Self, SidecarError> {
        // An intent that is stored is stored for good: what a snapshot before it showed is, too.
        client
            .batch_execute("SET synchronous_commit = on")
            .await
            .map_err(|source| SidecarError::Postgres { doing: "set up the feed's connection", source })?;
        Duty::Feed.take_on(&client).await?;
        Ok(Self { client })
    }

    async fn load(&self, database: String) -> Result<Option<FirstLoad>, SidecarError> {
        let failed = |source| SidecarError::Postgres { doing: "read the first load", source };
        let found = self
            .client
            .query_opt(
                "SELECT l.attempt, l.position::text, l.epoch, l.system_identifier, l.timeline, \
                        (SELECT COALESCE(sum(c.rows_loaded), 0)::bigint FROM arx.feed_chunks AS c WHERE c.consumer = l.consumer) \
                   FROM arx.feed_loads AS l WHERE l.consumer = $1",
                &[&CONSUMER],
            )
            .await
            .map_err(failed)?;
        let Some(row) = found else { return Ok(None) };
        let chunks = self
            .client
            .query(
                "SELECT chunk, relations, files, first_blocks, end_blocks FROM arx.feed_chunks \
                  WHERE consumer = $1 AND rows_loaded IS NULL ORDER BY chunk",
                &[&CONSUMER],
            )
            .await
            .map_err(failed)?;
        let pending = chunks
            .iter()
            .map(|row| {
                let files: (Vec<u32>, Vec<u32>) = (row.get(1), row.get(2));
                let blocks: (Vec<i64>, Vec<Option<i64>>) = (row.get(3), row.get(4));
                let spans = files.0.into_iter().zip(files.1).zip(blocks.0.into_iter().zip(blocks.1));
                let span =
                    |((relation, file), (first_block, end_block))| Span { relation, file, first_block, end_block };
                Chunk { number: row.get(0), spans: spans.map(span).collect() }
            })
            .collect();
        let mark = Mark {
            position: row.get(1),
            epoch: row.get(2),
            system_identifier: row.get(3),
            timeline: row.get(4),
            database,
        };
        Ok(Some(FirstLoad { attempt: unsigned(row.get(0)), mark, pending, rows: unsigned(row.get(5)) }))
    }
}

pub(crate) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Ledger for PostgresLedger {
    async fn stored(&mut self) -> Result<Stored, SidecarError> {
        let row = self
            .client
            .query_opt(
                "SELECT position::text, attempt, confirmed, epoch, system_identifier, timeline, current_database()::text \
                   FROM arx.feed_positions WHERE consumer = $1",
                &[&CONSUMER],
            )
            .await
            .map_err(|source| SidecarError::Postgres { doing: "read the feed's position", source })?;
        let Some(row) = row else { return Ok(Stored::default()) };
        let database: String = row.get(6);
        let at: (Option<String>, Option<i64>, Option<i64>, Option<i32>) =
            (row.get(0), row.get(3), row.get(4), row.get(5));
        let mark = match at {
            (Some(position), Some(epoch), Some(system_identifier), Some(timeline)) => {
                Some(Mark { position, epoch, system_identifier, timeline, database: database.clone() })
            }
            _ => None,
        };
        let load = self.load(database).await?;
        Ok(Stored { mark, attempt: unsigned(row.get(1)), confirmed: unsigned(row.get(2)), load })
    }

    async fn begin(&mut self, floor: u64) -> Result<u64, SidecarError> {
        let row = self
            .client
            .query_one(
                "INSERT INTO arx.feed_positions AS p (consumer, attempt) VALUES ($1, $2::bigint + 1) \
                 ON CONFLICT (consumer) DO UPDATE SET attempt = greatest(p.attempt, $2::bigint) + 1 RETURNING attempt",
                &[&CONSUMER, &signed(floor)],
            )
            .await
            .map_err(|source| SidecarError::Postgres { doing: "store the feed's intent", source })?;
        Ok(unsigned(row.get(0)))
    }

    async fn begin_load(&mut self, load: &FirstLoad) -> Result<(), SidecarError> {
        let failed = |source| SidecarError::Postgres { doing: "store the plan of the first load", source };
        let transaction = self.client.transaction().await.map_err(failed)?;
        transaction.execute("DELETE FROM arx.feed_loads WHERE consumer = $1", &[&CONSUMER]).await.map_err(failed)?;
        let mark = &load.mark;
        transaction
            .execute(
                "INSERT INTO arx.feed_loads (consumer, attempt, position, epoch, system_identifier, timeline) \
                 VALUES ($1, $2, $3::text::pg_snapshot, $4, $5, $6)",
                &[
                    &CONSUMER,
                    &signed(load.attempt),
                    &mark.position,
                    &mark.epoch,
                    &mark.system_identifier,
                    &mark.timeline,
                ],
            )
            .await
            .map_err(failed)?;
        let spans = || load.pending.iter().flat_map(|chunk| chunk.spans.iter().map(|span| (chunk.number, span)));
        let numbers: Vec<i32> = spans().map(|(number, _)| number).collect();
        let relations: Vec<u32> = spans().map(|(_, span)| span.relation).collect();
        let files: Vec<u32> = spans().map(|(_, span)| span.file).collect();
        let firsts: Vec<i64> = spans().map(|(_, span)| span.first_block).collect();
        let ends: Vec<Option<i64>> = spans().map(|(_, span)| span.end_block).collect();
        transaction
            .execute(
                "INSERT INTO arx.feed_chunks (consumer, chunk, relations, files, first_blocks, end_blocks) \
                 SELECT $1, s.chunk, array_agg(s.relation ORDER BY s.n), array_agg(s.file ORDER BY s.n), \
                        array_agg(s.first_block ORDER BY s.n), array_agg(s.end_block ORDER BY s.n) \
                   FROM unnest($2::integer[], $3::oid[], $4::oid[], $5::bigint[], $6::bigint[]) WITH ORDINALITY \
                     AS s (chunk, relation, file, first_block, end_block, n) GROUP BY s.chunk",
                &[&CONSUMER, &numbers, &relations, &files, &firsts, &ends],
            )
            .await
            .map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }

    async fn chunk_done(&mut self, chunk: &Chunk, rows: u64) -> Result<(), SidecarError> {
        let failed = |source| SidecarError::Postgres { doing: "store that a chunk is loaded", source };
        let transaction = self.client.transaction().await.map_err(failed)?;
        // A chunk that a crash forgets is loaded again; waiting for the disk would stop all readers.
        transaction.batch_execute("SET LOCAL synchronous_commit = off").await.map_err(failed)?;
        let done = "UPDATE arx.feed_chunks SET rows_loaded = $3 WHERE consumer = $1 AND chunk = $2";
        transaction.execute(done, &[&CONSUMER, &chunk.number, &signed(rows)]).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }

    async fn drop_load(&mut self) -> Result<(), SidecarError> {
        self.client
            .execute("DELETE FROM arx.feed_loads WHERE consumer = $1", &[&CONSUMER])
            .await
            .map(drop)
            .map_err(|source| SidecarError::Postgres { doing: "forget the first load", source })
    }

    async fn confirm(&mut self, confirmation: &Confirmation) -> Result<(), SidecarError> {
        let failed = |source| SidecarError::Postgres { doing: "confirm the feed's position", source };
        let transaction = self.client.transaction().await.map_err(failed)?;
        let mark = &confirmation.mark;
        let moved = transaction
            .execute(
                "UPDATE arx.feed_positions SET position = $3::text::pg_snapshot, epoch = $4, system_identifier = $5, \
                        timeline = $6, rows_total = CASE WHEN $7 THEN 0 ELSE rows_total END + $8, confirmed = $2, \
                        updated_at = now() \
                  WHERE consumer = $1 AND attempt = $2",
                &[
                    &CONSUMER,
                    &signed(confirmation.attempt),
                    &mark.position,
                    &mark.epoch,
                    &mark.system_identifier,
                    &mark.timeline,
                    &confirmation.full,
                    &signed(confirmation.rows),
                ],
            )
            .await
            .map_err(failed)?;
        if moved != 1 {
            return Err(SidecarError::Overtaken { attempt: confirmation.attempt });
        }
        if confirmation.full {
            transaction
                .execute("DELETE FROM arx.feed_loads WHERE consumer = $1", &[&CONSUMER])
                .await
                .map_err(failed)?;
        }
        if !confirmation.reloaded.is_empty() {
            let (networks, starts): (Vec<&str>, Vec<i64>) =
                confirmation.reloaded.iter().map(|hour| (hour.network.as_str(), hour.hours)).unzip();
            transaction
                .execute(
                    "DELETE FROM arx.feed_reloads AS r USING unnest($1::text[], $2::bigint[]) AS t (network, hours) \
                      WHERE r.network = t.network AND r.hour = to_timestamp(t.hours * 3600::float8)",
                    &[&networks, &starts],
                )
                .await
                .map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)
    }
}
