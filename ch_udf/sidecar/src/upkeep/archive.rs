//! Archives of partitions: rows are copied to ClickHouse as JSON, compared there by number, sum and
//! checksum, and only then listed in `arx.archived_ranges` and detached, in one transaction.
//!
//! The copy is read in one snapshot without a lock. Under a lock against changes, a fingerprint of
//! the rows shows that the copy is still the content. An interrupted archive is listed nowhere; its
//! rows are removed by a later run.

use std::pin::pin;
use std::time::Duration;

use clickhouse::Row;
use futures_util::StreamExt;
use serde::Serialize;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, IsolationLevel};

use crate::error::{Doing, SidecarError};
use crate::feed::identify;
use crate::servers::postgres;
use crate::servers::supervisor::Supervisor;
use crate::settings::Settings;
use crate::warehouse::Topology;

const COPYING: &str = "copy a partition to the archive";
const COMPARING: &str = "compare an archive";
const RESTORING: &str = "restore an archive";

/// Rows of one insert.
const INSERT_ROWS: u64 = 100_000;
/// Rows that one statement restores.
const RESTORE_ROWS: usize = 5_000;
/// Copies that are made while rows change in between.
const MAX_COPIES: u32 = 3;
/// Attempts to lock the table for the end of an archive, and the pause between them.
const MAX_ATTEMPTS: u32 = 60;
const ATTEMPT_PAUSE: Duration = Duration::from_secs(1);

const QUERIES: &str = "SELECT q.rows, q.digest, q.fingerprint FROM arx.archive_queries($1::oid::regclass) AS q";
const COMPLETE: &str =
    "SELECT arx.archive_partition($1::oid::regclass, $2::text::uuid, $3, $4, $5::text::numeric, $6::text::numeric, $7)";
const ARCHIVES: &str = "SELECT archive_id::text FROM arx.archived_ranges";
/// The parts of the sum, which no integer of ClickHouse holds as a whole.
const IS_SUM: &str = "
SELECT $1::text::numeric * 1e38 + $2::text::numeric + $3::text::numeric * 1e-38 = $4::text::numeric";

#[derive(Row, Serialize)]
struct ArchivedRow<'a> {
    archive_id: &'a str,
    source: &'a str,
    number: u64,
    row: &'a str,
    amount: Option<&'a str>,
}

/// The content of a partition, as PostgreSQL computes it.
struct Digest {
    rows: i64,
    amount: String,
    checksum: String,
    fingerprint: String,
}

/// Archives a partition by its OID, and has it detached.
///
/// # Errors
/// [`SidecarError::Input`] when the copy differs, or rows keep changing; those of the servers.
pub(super) async fn archive(client: &mut Client, settings: &Settings, partition: u32) -> Result<(), SidecarError> {
    Supervisor::during(settings, async |supervisor| {
        let topology = Topology::connect(settings, supervisor).await?;
        let shelf = Shelf::open(&topology).await?;
        let source = identify(client).await?.0.source_id();
        shelf.remove_leftovers(client, &source).await?;
        for _ in 0..MAX_COPIES {
            let row = client.query_one("SELECT gen_random_uuid()::text", &[]).await.doing(COPYING)?;
            let archive_id: String = row.get(0);
            let digest = shelf.copy(client, partition, &archive_id, &source).await?;
            shelf.compare(client, &archive_id, &digest).await?;
            if complete(client, partition, &archive_id, &source, &digest).await? {
                return Ok(());
            }
            shelf.remove(&archive_id).await?;
        }
        Err(SidecarError::Input {
            detail: "rows of the partition changed while they were archived; try again when there is less load".into(),
        })
    })
    .await
}

/// Lists the archive and has the partition detached. Returns false if rows have changed since they
/// were copied.
async fn complete(
    client: &Client,
    partition: u32,
    archive_id: &str,
    source: &str,
    digest: &Digest,
) -> Result<bool, SidecarError> {
    let Digest { rows, amount, checksum, fingerprint } = digest;
    for attempt in 1.. {
        match client.execute(COMPLETE, &[&partition, &archive_id, &source, rows, amount, checksum, fingerprint]).await {
            Ok(_) => break,
            Err(error) if error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE) => return Ok(false),
            // Others use the table; nothing is locked meanwhile.
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) && attempt < MAX_ATTEMPTS => {
                tokio::time::sleep(ATTEMPT_PAUSE).await;
            }
            Err(error) => return Err(error).doing("detach an archived partition"),
        }
    }
    Ok(true)
}

/// The table of archived rows.
struct Shelf {
    server: clickhouse::Client,
    /// Name of the table on that server.
    table: String,
    topology: Topology,
}

impl Shelf {
    async fn open(topology: &Topology) -> Result<Self, SidecarError> {
        for server in topology.ddl_servers() {
            let server = server.clone().with_database("default");
            for statement in topology.shape.create_archive() {
                server.query_raw(&statement).execute().await.doing("create the table of archives")?;
            }
        }
        let table = format!("archived_rows{}", topology.shape.local());
        let server = topology.shards.first().unwrap_or(&topology.entry).clone();
        Ok(Self { server, table, topology: topology.clone() })
    }

    /// Copies the rows of a partition as one snapshot shows them.
    async fn copy(
        &self,
        client: &mut Client,
        partition: u32,
        archive_id: &str,
        source: &str,
    ) -> Result<Digest, SidecarError> {
        let snapshot = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
        let transaction = snapshot.start().await.doing(COPYING)?;
        let row = transaction.query_one(QUERIES, &[&partition]).await.doing(COPYING)?;
        let (rows, digest, fingerprint): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        let fingerprint: String = transaction.query_one(&fingerprint, &[]).await.doing(COPYING)?.get(0);
        let row = transaction.query_one(&digest, &[]).await.doing(COPYING)?;
        let digest = Digest { rows: row.get(0), amount: row.get(1), checksum: row.get(2), fingerprint };
        let mut stream = pin!(transaction.query_raw(&rows, Vec::<String>::new()).await.doing(COPYING)?);
        let mut insert = None;
        let mut number = 0;
        while let Some(row) = stream.next().await {
            let row = row.doing(COPYING)?;
            let mut open = match insert.take() {
                Some(open) => open,
                None => self.server.insert::<ArchivedRow<'_>>(&self.table).await.doing(COPYING)?,
            };
            let archived = ArchivedRow { archive_id, source, number, row: row.get(0), amount: row.get(1) };
            open.write(&archived).await.doing(COPYING)?;
            number += 1;
            if number % INSERT_ROWS == 0 {
                open.end().await.doing(COPYING)?;
            } else {
                insert = Some(open);
            }
        }
        if let Some(open) = insert {
            open.end().await.doing(COPYING)?;
        }
        transaction.commit().await.doing(COPYING)?;
        Ok(digest)
    }

    /// Compares what ClickHouse has stored with what PostgreSQL has computed.
    async fn compare(&self, client: &Client, archive_id: &str, digest: &Digest) -> Result<(), SidecarError> {
        let query = format!(
            "WITH replaceOne(assumeNotNull(amount), '-', '') AS digits, splitByChar('.', digits)[1] AS whole, \
                  rightPad(splitByChar('.', digits)[2], 38, '0') AS fraction, \
                  if(startsWith(assumeNotNull(amount), '-'), -1, 1) AS sign \
             SELECT count(), \
                    toString(sum(sign * toInt256OrZero(substring(whole, 1, greatest(length(whole) - 38, 0))))), \
                    toString(sum(sign * toInt256OrZero(substring(whole, greatest(length(whole) - 37, 1))))), \
                    toString(sum(sign * toInt256OrZero(fraction))), \
                    toString(sum(toInt128(reinterpretAsInt64(reverse(substring(MD5(row), 1, 8)))))) \
               FROM {} WHERE archive_id = ?",
            self.table
        );
        let stored: (u64, String, String, String, String) =
            self.server.query(&query).bind(archive_id).fetch_one().await.doing(COMPARING)?;
        let (rows, high, low, fraction, checksum) = stored;
        let is_sum = client.query_one(IS_SUM, &[&high, &low, &fraction, &digest.amount]).await.doing(COMPARING)?;
        let fault = if i64::try_from(rows) != Ok(digest.rows) {
            "number of rows"
        } else if !is_sum.get::<_, bool>(0) {
            "sum of amounts"
        } else if checksum != digest.checksum {
            "checksum"
        } else {
            return Ok(());
        };
        self.remove(archive_id).await?;
        Err(SidecarError::Input {
            detail: format!("the {fault} of the archive differs from PostgreSQL; the partition stays as it is"),
        })
    }

    async fn remove(&self, archive_id: &str) -> Result<(), SidecarError> {
        let statement = self.topology.shape.remove_archive(archive_id);
        self.server.query_raw(&statement).execute().await.doing("remove an archive that is not listed")
    }

    /// Removes rows of archives that were interrupted more than a day ago.
    async fn remove_leftovers(&self, client: &Client, source: &str) -> Result<(), SidecarError> {
        let doing = "look for archives that are not listed";
        let rows = client.query(ARCHIVES, &[]).await.doing(doing)?;
        let listed: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let query = format!(
            "SELECT archive_id FROM {} WHERE source = ? GROUP BY archive_id HAVING max(archived_at) < now() - 86400",
            self.table
        );
        let stored: Vec<String> = self.server.query(&query).bind(source).fetch_all().await.doing(doing)?;
        for archive_id in stored.iter().filter(|archive_id| !listed.contains(archive_id)) {
            self.remove(archive_id).await?;
        }
        Ok(())
    }
}

/// Inserts the rows of an archive into its table again, and returns their number. It is one
/// transaction, so all of them are there or none.
///
/// # Errors
/// [`SidecarError::Input`] for an unknown archive or one that is incomplete; those of the servers.
pub(crate) async fn restore(settings: &Settings, archive_id: &str) -> Result<u64, SidecarError> {
    let mut client = postgres::connect(settings).await?.client;
    Supervisor::during(settings, async |supervisor| {
        let topology = Topology::connect(settings, supervisor).await?;
        let shelf = Shelf::open(&topology).await?;
        let transaction = client.transaction().await.doing(RESTORING)?;
        let listed = "SELECT relation, rows, attached_at IS NOT NULL, restored_at IS NOT NULL FROM arx.archived_ranges
                       WHERE archive_id::text = $1 FOR UPDATE";
        let row = transaction.query_opt(listed, &[&archive_id]).await.doing(RESTORING)?;
        let unfit = |detail: String| SidecarError::Input { detail };
        let Some(row) = row else { return Err(unfit(format!("arx.archived_ranges has no archive {archive_id}"))) };
        let (relation, expected): (String, i64) = (row.get(0), row.get(1));
        if row.get(2) || row.get(3) {
            return Err(unfit(format!("the rows of archive {archive_id} are in {relation} again already")));
        }
        let query = format!("SELECT row FROM {} WHERE archive_id = ? ORDER BY number", shelf.table);
        let mut cursor = shelf.server.query(&query).bind(archive_id).fetch::<String>().doing(RESTORING)?;
        let mut restored = 0_i64;
        let mut rows = Vec::with_capacity(RESTORE_ROWS);
        loop {
            let next = cursor.next().await.doing(RESTORING)?;
            let is_last = next.is_none();
            rows.extend(next);
            if rows.len() == RESTORE_ROWS || (is_last && !rows.is_empty()) {
                let insert = "SELECT arx.restore_archived_rows($1::text::regclass, $2)";
                restored += transaction.query_one(insert, &[&relation, &rows]).await.doing(RESTORING)?.get::<_, i64>(0);
                rows.clear();
            }
            if is_last {
                break;
            }
        }
        if restored != expected {
            return Err(unfit(format!("archive {archive_id} has {restored} rows instead of {expected}")));
        }
        let mark = "UPDATE arx.archived_ranges SET restored_at = now() WHERE archive_id::text = $1";
        transaction.execute(mark, &[&archive_id]).await.doing(RESTORING)?;
        transaction.commit().await.doing(RESTORING)?;
        Ok(restored.unsigned_abs())
    })
    .await
}
