//! The statements of the feed in PostgreSQL.

use chrono::DateTime;

use super::super::model::TableRange;
use crate::error::SidecarError;

/// Gives back the triggers that an upgrade of PostgreSQL leaves out, and notes what may have gone
/// unseen without them.
pub(super) const WATCH: &str = "SELECT arx.watch_truncates(is_refresh => false)";

/// The position of the snapshot, the identity of the database, and the columns that are not in
/// `$1`. A standby does not know the running transactions: those that started after the oldest one
/// wait for the next pass, and so do their events.
pub(super) const SOURCE_POSITION: &str = "
    SELECT CASE WHEN pg_is_in_recovery()
                THEN pg_snapshot_xmin(pg_current_snapshot())::text || ':' ||
                     pg_snapshot_xmin(pg_current_snapshot())::text || ':'
                ELSE pg_current_snapshot()::text END,
           arx.current_graph_epoch()
           - CASE WHEN pg_is_in_recovery()
                  THEN (SELECT count(*) FROM arx.graph_epoch AS e
                         WHERE e.raised_xid >= pg_snapshot_xmin(pg_current_snapshot()))
                  ELSE 0 END,
           (SELECT system_identifier FROM pg_control_system()),
           CASE WHEN pg_is_in_recovery() THEN (SELECT timeline_id FROM pg_control_checkpoint())
                ELSE ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int END,
           current_database()::text,
           (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute AS a
             WHERE a.attrelid = 'arx.transactions'::regclass AND a.attnum > 0 AND NOT a.attisdropped
               AND a.attname <> ALL ($1)),
           (SELECT array_agg(format_type(a.atttypid, a.atttypmod) ORDER BY a.attnum) FROM pg_attribute AS a
             WHERE a.attrelid = 'arx.transactions'::regclass AND a.attnum > 0 AND NOT a.attisdropped
               AND a.attname <> ALL ($1)),
           EXISTS (SELECT FROM arx.token_transfers),
           (SELECT oid FROM pg_database WHERE datname = current_database()),
           EXISTS (SELECT FROM arx.internal_transfers)";

/// The identity of the database, the latest attempt of the feed `$1`, and the system in which it
/// was made, if that was another one: `pg_upgrade` keeps the rows.
pub(super) const IDENTITY: &str = "
    SELECT (SELECT system_identifier FROM pg_control_system()), (SELECT timeline_id FROM pg_control_checkpoint()),
           d.oid, d.datname::text,
           COALESCE((SELECT attempt FROM arx.feed_positions WHERE consumer = $1), 0),
           (SELECT f.system_identifier
              FROM (SELECT p.system_identifier, p.database_oid, 1 AS rank FROM arx.feed_positions AS p
                     WHERE p.consumer = $1 AND p.system_identifier IS NOT NULL
                    UNION ALL
                    SELECT l.system_identifier, l.database_oid, 2 FROM arx.feed_loads AS l WHERE l.consumer = $1
                     ORDER BY rank LIMIT 1) AS f
             WHERE f.database_oid = d.oid AND f.system_identifier <> (SELECT system_identifier FROM pg_control_system()))
      FROM pg_database AS d WHERE d.datname = current_database()";

/// The partitions of a first load with their files and sizes in blocks.
pub(super) const CHUNKS: &str = "
    SELECT c.oid, COALESCE(pg_relation_filenode(c.oid), 0::oid),
           CASE WHEN c.relkind = 'r' THEN pg_relation_size(c.oid) / current_setting('block_size')::bigint ELSE 0 END
      FROM (SELECT * FROM pg_partition_tree('arx.transactions')
            UNION ALL SELECT * FROM pg_partition_tree('arx.internal_transfers')) AS t
      JOIN pg_class AS c ON c.oid = t.relid
     WHERE t.isleaf ORDER BY c.oid";

/// Names of tables by oid, in the given order, quoted and qualified, with whether they hold
/// internal transfers; NULL for a dropped table.
pub(super) const NAMES: &str = "
    SELECT c.oid::regclass::text,
           EXISTS (SELECT FROM pg_partition_ancestors(c.oid) AS a
                    WHERE a.relid = 'arx.internal_transfers'::regclass)
      FROM unnest($1::oid[]) WITH ORDINALITY AS r (relation, n)
      LEFT JOIN pg_class AS c ON c.oid = r.relation ORDER BY r.n";

/// Files of tables by oid, in the given order.
pub(super) const FILES: &str = "
    SELECT COALESCE(pg_relation_filenode(r.relation::regclass), 0::oid)
      FROM unnest($1::oid[]) WITH ORDINALITY AS r (relation, n) ORDER BY r.n";

pub(super) const EXPORT_SNAPSHOT: &str = "SELECT pg_export_snapshot()";

pub(super) const RELOADS: &str =
    "SELECT network, extract(epoch FROM hour)::bigint / 3600 FROM arx.feed_reloads ORDER BY 1, 2";

/// Transactions of the hours to reload.
pub(super) const RELOADED_TRANSACTIONS: &str = r#"
    arx.feed_reloads AS r JOIN arx.transactions AS t
    ON t.network = r.network AND t."timestamp" >= r.hour AND t."timestamp" < r.hour + interval '1 hour'"#;

/// Internal transfers of these hours.
pub(super) const RELOADED_INTERNAL_TRANSFERS: &str = r#"
    arx.feed_reloads AS r JOIN arx.internal_transfers AS t
    ON t.network = r.network AND t."timestamp" >= r.hour AND t."timestamp" < r.hour + interval '1 hour'"#;

/// The stored position of the feed `$1`; NULL if it is ahead of this server, which then never
/// reached it.
pub(super) const STORED: &str = "
    SELECT CASE WHEN pg_snapshot_xmax(position) <= pg_snapshot_xmax(pg_current_snapshot()) THEN position::text END,
           attempt, confirmed, epoch, system_identifier, timeline, current_database()::text,
           (SELECT count(*) FROM arx.feed_rejects AS r WHERE r.consumer = p.consumer), database_oid
      FROM arx.feed_positions AS p WHERE consumer = $1";

/// The first load of the feed `$1`, if one is under way.
pub(super) const LOAD: &str = "
    SELECT l.attempt, l.position::text, l.epoch, l.system_identifier, l.timeline,
           (SELECT COALESCE(sum(c.rows_loaded), 0)::bigint FROM arx.feed_chunks AS c WHERE c.consumer = l.consumer),
           l.database_oid
      FROM arx.feed_loads AS l
     WHERE l.consumer = $1 AND pg_snapshot_xmax(l.position) <= pg_snapshot_xmax(pg_current_snapshot())";

pub(super) const PENDING_CHUNKS: &str = "
    SELECT chunk, relations, files, first_blocks, end_blocks FROM arx.feed_chunks
     WHERE consumer = $1 AND rows_loaded IS NULL ORDER BY chunk";

pub(super) const BEGIN_ATTEMPT: &str = "
    INSERT INTO arx.feed_positions AS p (consumer, attempt) VALUES ($1, $2::bigint + 1)
    ON CONFLICT (consumer) DO UPDATE SET attempt = greatest(p.attempt, $2::bigint) + 1
    RETURNING attempt";

pub(super) const DELETE_LOAD: &str = "DELETE FROM arx.feed_loads WHERE consumer = $1";

pub(super) const INSERT_LOAD: &str = "
    INSERT INTO arx.feed_loads (consumer, attempt, position, epoch, system_identifier, timeline, database_oid)
    VALUES ($1, $2, $3::text::pg_snapshot, $4, $5, $6, $7)";

pub(super) const INSERT_CHUNKS: &str = "
    INSERT INTO arx.feed_chunks (consumer, chunk, relations, files, first_blocks, end_blocks)
    SELECT $1, s.chunk, array_agg(s.relation ORDER BY s.n), array_agg(s.file ORDER BY s.n),
           array_agg(s.first_block ORDER BY s.n), array_agg(s.end_block ORDER BY s.n)
      FROM unnest($2::integer[], $3::oid[], $4::oid[], $5::bigint[], $6::bigint[]) WITH ORDINALITY
           AS s (chunk, relation, file, first_block, end_block, n)
     GROUP BY s.chunk";

pub(super) const LOAD_SNAPSHOT: &str = "SELECT position::text FROM arx.feed_loads WHERE consumer = $1";

/// Stores transactions as set aside: `$1` is the feed, `$2` to `$6` are the keys and reasons, `$7`
/// is the snapshot in which their versions are visible. Keys are bytes: a database without an
/// encoding holds texts that are not UTF-8.
pub(super) const REJECT_TRANSACTIONS: &str = r#"
    INSERT INTO arx.feed_rejects AS r (consumer, relation, network, tx_hash, log_index, "timestamp", reason, stamp)
    SELECT DISTINCT ON (t.network, t.tx_hash, t."timestamp")
           $1::text, 'transactions', t.network, t.tx_hash, NULL::integer, t."timestamp", k.reason, t.ingest_xid
      FROM unnest($2::bytea[], $3::bytea[], $4::timestamptz[], $5::integer[], $6::text[])
           AS k (network, tx_hash, "timestamp", log_index, reason)
      CROSS JOIN (SELECT CASE getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END AS name) AS e
      JOIN arx.transactions AS t
        ON t.network = convert_from(k.network, e.name) AND t.tx_hash = convert_from(k.tx_hash, e.name)
           AND t."timestamp" = k."timestamp" AND pg_visible_in_snapshot(t.ingest_xid, $7::text::pg_snapshot)
    ON CONFLICT (consumer, relation, network, tx_hash, log_index, "timestamp")
       DO UPDATE SET reason = excluded.reason, stamp = excluded.stamp"#;

/// Returns the same statement for the rows of a table that a transaction has several of, by the
/// column that keeps them apart.
pub(super) fn reject_parts(table: &'static str, position: &'static str) -> String {
    format!(
        r#"
    INSERT INTO arx.feed_rejects AS r (consumer, relation, network, tx_hash, log_index, "timestamp", reason, stamp)
    SELECT DISTINCT ON (x.network, x.tx_hash, x.{position}, x."timestamp")
           $1::text, '{table}', x.network, x.tx_hash, x.{position}, x."timestamp", k.reason, x.ingest_xid
      FROM unnest($2::bytea[], $3::bytea[], $4::timestamptz[], $5::integer[], $6::text[])
           AS k (network, tx_hash, "timestamp", position, reason)
      CROSS JOIN (SELECT CASE getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END AS name) AS e
      JOIN arx.{table} AS x
        ON x.network = convert_from(k.network, e.name) AND x.tx_hash = convert_from(k.tx_hash, e.name)
           AND x.{position} = k.position AND x."timestamp" = k."timestamp"
           AND pg_visible_in_snapshot(x.ingest_xid, $7::text::pg_snapshot)
    ON CONFLICT (consumer, relation, network, tx_hash, log_index, "timestamp")
       DO UPDATE SET reason = excluded.reason, stamp = excluded.stamp"#
    )
}

pub(super) const DELETE_REJECTS: &str = "DELETE FROM arx.feed_rejects WHERE consumer = $1";

pub(super) const DELETE_REJECTS_OF_HOURS: &str = r#"
    DELETE FROM arx.feed_rejects AS r USING unnest($2::text[], $3::bigint[]) AS t (network, hours)
     WHERE r.consumer = $1 AND r.network = t.network
       AND r."timestamp" >= to_timestamp(t.hours * 3600::float8)
       AND r."timestamp" < to_timestamp((t.hours + 1) * 3600::float8)"#;

/// Removes what was set aside of ranges of tables: their names are `$2`, their times `$3` and `$4`
/// in microseconds since 1970, NULL for no limit. Transactions are read with their token transfers.
pub(super) const DELETE_REJECTS_OF_RANGES: &str = r#"
    DELETE FROM arx.feed_rejects AS r USING unnest($2::text[], $3::bigint[], $4::bigint[]) AS t (root, first, until)
     WHERE r.consumer = $1 AND (r.relation = 'internal_transfers') = (t.root = 'internal_transfers')
       AND (t.first IS NULL OR r."timestamp" >= timestamptz 'epoch' + t.first * interval '1 microsecond')
       AND (t.until IS NULL OR r."timestamp" < timestamptz 'epoch' + t.until * interval '1 microsecond')"#;

/// Removes the versions that were replaced or deleted since the snapshot `$2`.
pub(super) const DELETE_REPLACED_REJECTS: &str = r#"
    DELETE FROM arx.feed_rejects AS r USING arx.transaction_changes AS c
     WHERE r.consumer = $1 AND arx.is_new_since(c.changed_xid, $2::text::pg_snapshot) AND c.relation = r.relation
       AND c.network = r.network AND c.tx_hash = r.tx_hash AND c.log_index IS NOT DISTINCT FROM r.log_index
       AND c."timestamp" = r."timestamp" AND c.former_xid = r.stamp"#;

pub(super) const COUNT_REJECTS: &str = "SELECT count(*) FROM arx.feed_rejects WHERE consumer = $1";

pub(super) const FINISH_CHUNK: &str = "UPDATE arx.feed_chunks SET rows_loaded = $3 WHERE consumer = $1 AND chunk = $2";

/// Moves the position, unless another process has begun a later attempt.
pub(super) const CONFIRM: &str = "
    UPDATE arx.feed_positions
       SET position = $3::text::pg_snapshot, epoch = $4, system_identifier = $5, timeline = $6, database_oid = $9,
           rows_total = CASE WHEN $7 THEN 0 ELSE rows_total END + $8, confirmed = $2, updated_at = now()
     WHERE consumer = $1 AND attempt = $2";

pub(super) const DELETE_RELOADS: &str = "
    DELETE FROM arx.feed_reloads AS r USING unnest($1::text[], $2::bigint[]) AS t (network, hours)
     WHERE r.network = t.network AND r.hour = to_timestamp(t.hours * 3600::float8)";

/// Returns the query for the events between two snapshots: the table, whether its times are known,
/// and the times in microseconds since 1970. Times that few calendars reach are as no limit.
///
/// # Errors
/// [`SidecarError::Configuration`] for a malformed snapshot.
pub(super) fn events(since: &str, until: &str) -> Result<String, SidecarError> {
    let raised = visible_since("e.raised_xid", since, until)?;
    let micros = |column: &str| {
        format!(
            "CASE WHEN e.{column} BETWEEN timestamptz '0002-01-01 00:00:00+00' AND timestamptz '9998-01-01 00:00:00+00' \
                  THEN (extract(epoch FROM e.{column}) * 1000000)::bigint END"
        )
    };
    let (from, until) = (micros("range_from"), micros("range_to"));
    Ok(format!("SELECT e.root, e.range_from IS NOT NULL, {from}, {until} FROM arx.graph_epoch AS e WHERE {raised}"))
}

/// Returns the query for whether a transaction of an event since a snapshot still holds its locks,
/// and whether this is a standby, which shows no such locks.
///
/// # Errors
/// [`SidecarError::Configuration`] for a malformed snapshot.
pub(super) fn unsettled_events(since: &str) -> Result<String, SidecarError> {
    let raised = new_since("e.raised_xid", &snapshot_literal(since)?);
    Ok(format!(
        "SELECT EXISTS (SELECT FROM arx.graph_epoch AS e
                          JOIN pg_locks AS l ON l.locktype = 'transactionid' AND l.granted
                                            AND l.transactionid = e.raised_xid::xid
                         WHERE {raised}),
                pg_is_in_recovery()"
    ))
}

/// True if the partitions of ranges have more than half of the rows, and many: `$1` are the tables,
/// `$2` and `$3` are the times in microseconds since 1970, NULL for no limit.
pub(super) const IS_MOST: &str = "
    WITH ranges AS (
        SELECT r.root, timestamptz 'epoch' + r.first * interval '1 microsecond' AS range_from,
               timestamptz 'epoch' + r.until * interval '1 microsecond' AS range_to
          FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS r (root, first, until)
    ), leaves AS (
        SELECT greatest(c.reltuples, 0) AS size,
               EXISTS (SELECT FROM ranges AS r
                        WHERE r.root IN (t.root, CASE t.root WHEN 'transactions' THEN 'token_transfers' END)
                          AND (r.range_from IS NULL OR t.range_to IS NULL OR r.range_from < t.range_to)
                          AND (r.range_to IS NULL OR t.range_from IS NULL OR r.range_to > t.range_from)) AS is_within
          FROM arx.tracked_partitions AS t JOIN pg_class AS c ON c.oid = t.relid
         WHERE t.root IN ('transactions', 'internal_transfers') AND c.relkind = 'r'
    )
    SELECT coalesce(sum(l.size) FILTER (WHERE l.is_within) > 100000
                    AND sum(l.size) FILTER (WHERE l.is_within) > sum(l.size) / 2, false)
      FROM leaves AS l";

/// Returns the condition that a row of a table is within a range, to be added to another one.
pub(crate) fn within(table: &str, range: &TableRange) -> String {
    let mut condition = String::new();
    for (limit, operator) in [(range.from, ">="), (range.until, "<")] {
        if let Some(time) = limit.and_then(DateTime::from_timestamp_micros) {
            let time = time.format("%Y-%m-%d %H:%M:%S%.6f+00");
            condition.push_str(&format!(" AND {table}.\"timestamp\" {operator} '{time}'::timestamptz"));
        }
    }
    condition
}

/// Returns the query for whether anything became visible between two snapshots.
///
/// # Errors
/// [`SidecarError::Configuration`] for a malformed snapshot.
pub(super) fn has_changes(since: &str, until: &str) -> Result<String, SidecarError> {
    let ingested = visible_since("t.ingest_xid", since, until)?;
    let changed = visible_since("c.changed_xid", since, until)?;
    Ok(format!(
        "SELECT EXISTS (SELECT FROM arx.transactions AS t WHERE {ingested})
             OR EXISTS (SELECT FROM arx.transaction_changes AS c WHERE {changed})
             OR EXISTS (SELECT FROM arx.internal_transfers AS t WHERE {ingested})
             OR EXISTS (SELECT FROM arx.token_transfers AS t WHERE {ingested})"
    ))
}

/// Renders a snapshot as a literal: COPY takes no parameters.
///
/// # Errors
/// [`SidecarError::Configuration`] for a malformed snapshot.
pub(super) fn snapshot_literal(snapshot: &str) -> Result<String, SidecarError> {
    if snapshot.is_empty() || !snapshot.bytes().all(|byte| byte.is_ascii_digit() || byte == b':' || byte == b',') {
        return Err(SidecarError::Configuration {
            detail: format!("arx.feed_positions contains a malformed snapshot: {snapshot:?}"),
        });
    }
    Ok(format!("'{snapshot}'::pg_snapshot"))
}

/// Returns the condition that a row became visible after a snapshot. `column` holds the row's
/// transaction; both arguments are SQL expressions.
pub(crate) fn new_since(column: &str, snapshot: &str) -> String {
    format!("arx.is_new_since({column}, {snapshot})")
}

/// Returns the condition that a row became visible after the snapshot `since`, and is visible in
/// `until`.
///
/// # Errors
/// [`SidecarError::Configuration`] for a malformed snapshot.
pub(crate) fn visible_since(column: &str, since: &str, until: &str) -> Result<String, SidecarError> {
    let (since, until) = (snapshot_literal(since)?, snapshot_literal(until)?);
    Ok(format!("{} AND pg_visible_in_snapshot({column}, {until})", new_since(column, &since)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_snapshots_are_rejected() {
        assert!(visible_since("ingest_xid", "10:20:11,12", "10:21:").unwrap().contains("'10:20:11,12'"));
        assert!(visible_since("ingest_xid", "10:20:", "10:21:").is_ok());
        assert!(visible_since("ingest_xid", "1'; DROP", "10:21:").is_err());
        assert!(visible_since("ingest_xid", "10:20:", "").is_err());
    }
}
