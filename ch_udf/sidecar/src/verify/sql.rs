//! The statements of the comparison. Both sides compute an hour's checksum from the same text:
//! [`postgres_hours`] and [`clickhouse_hours`] belong together.

use std::collections::BTreeSet;

use crate::error::SidecarError;
use crate::feed::{OPTIONAL, TableRange, visible_since, within};

/// The confirmed position of the feed, and the database that it was taken in.
pub(super) const POSITION: &str = "
    SELECT position::text, epoch, system_identifier, timeline, current_database()::text,
           COALESCE(database_oid, 0::oid)
      FROM arx.feed_positions
     WHERE consumer = 'clickhouse' AND position IS NOT NULL";

/// Returns the query for hours of transactions and internal transfers: `$1` and `$2` are hours
/// since 1970, the latter excluded. With `are_listed`, only the hours `$4` of the networks `$3`.
pub(super) fn postgres_hours(are_listed: bool) -> String {
    let (listed, transfers_of, with_transfers) = if are_listed {
        (
            r#"JOIN unnest($3::text[], $4::bigint[]) AS k (network, hours)
               ON t.network = k.network AND t."timestamp" >= to_timestamp(k.hours * 3600::float8)
                  AND t."timestamp" < to_timestamp((k.hours + 1) * 3600::float8)"#,
            r#"AND x.network = t.network AND x.tx_hash = t.tx_hash AND x."timestamp" = t."timestamp""#,
            "LATERAL",
        )
    } else {
        ("", "", "")
    };
    let optional = OPTIONAL.iter().fold(String::new(), |text, column| text + &column.postgres_text() + ", ");
    let optional_internal = OPTIONAL.iter().fold(String::new(), |text, column| {
        if column.is_of_internal_transfers() { text + &column.postgres_text() + ", " } else { text + "'-', " }
    });
    format!(
        r#"
    SELECT h.network, h.hours, count(*), sum(h.value)::text,
           sum(('x' || left(md5(h.text), 15))::bit(60)::bigint)::text
      FROM (
    SELECT t.network, (extract(epoch FROM t."timestamp") * 1000000)::bigint / 3600000000 AS hours, t.value,
           concat_ws('|', t.tx_hash, 0, 'transaction', t.block_number, t.from_address, coalesce(t.to_address, '-'),
                     t.value::text, {optional}t.status::text,
                     (extract(epoch FROM t."timestamp") * 1000000)::bigint, coalesce(x.transfers, '')) AS text
      FROM arx.transactions AS t {listed}
      LEFT JOIN {with_transfers} (SELECT x.network, x.tx_hash, x."timestamp",
                        string_agg(concat_ws(':', x.log_index, x.token_address, x.from_address, x.to_address,
                                             x.amount, coalesce(x.value_usd::text, '-')),
                                   ',' ORDER BY x.log_index) AS transfers
                   FROM arx.token_transfers AS x
                  WHERE x."timestamp" >= to_timestamp($1::bigint * 3600::float8)
                    AND x."timestamp" < to_timestamp($2::bigint * 3600::float8) {transfers_of}
                    AND NOT EXISTS (SELECT FROM arx.feed_rejects AS r
                                     WHERE r.consumer = 'clickhouse' AND r.relation = 'token_transfers'
                                       AND r.network = x.network AND r.tx_hash = x.tx_hash
                                       AND r.log_index = x.log_index AND r."timestamp" = x."timestamp"
                                       AND r.stamp = x.ingest_xid)
                  GROUP BY x.network, x.tx_hash, x."timestamp") AS x
        ON x.network = t.network AND x.tx_hash = t.tx_hash AND x."timestamp" = t."timestamp"
     WHERE t."timestamp" >= to_timestamp($1::bigint * 3600::float8)
       AND t."timestamp" < to_timestamp($2::bigint * 3600::float8)
       AND NOT EXISTS (SELECT FROM arx.feed_rejects AS r
                        WHERE r.consumer = 'clickhouse' AND r.relation = 'transactions' AND r.network = t.network
                          AND r.tx_hash = t.tx_hash AND r."timestamp" = t."timestamp" AND r.stamp = t.ingest_xid)
    UNION ALL
    SELECT t.network, (extract(epoch FROM t."timestamp") * 1000000)::bigint / 3600000000, t.value,
           concat_ws('|', t.tx_hash, t.position::bigint + 1, t.kind || CASE WHEN t.is_ordered THEN '' ELSE ' unordered' END,
                     coalesce(t.block_number, 0), coalesce(t.from_address, ''), coalesce(t.to_address, '-'),
                     t.value::text, {optional_internal}
                     CASE t.succeeded WHEN true THEN 'confirmed' WHEN false THEN 'failed' ELSE 'unknown' END,
                     (extract(epoch FROM t."timestamp") * 1000000)::bigint, '')
      FROM arx.internal_transfers AS t {listed}
     WHERE t."timestamp" >= to_timestamp($1::bigint * 3600::float8)
       AND t."timestamp" < to_timestamp($2::bigint * 3600::float8)
       AND NOT EXISTS (SELECT FROM arx.feed_rejects AS r
                        WHERE r.consumer = 'clickhouse' AND r.relation = 'internal_transfers' AND r.network = t.network
                          AND r.tx_hash = t.tx_hash AND r.log_index = t.position AND r."timestamp" = t."timestamp"
                          AND r.stamp = t.ingest_xid)) AS h
     GROUP BY 1, 2"#
    )
}

/// Returns the query for token transfers without a transaction by hour, in the same range and
/// hours.
pub(super) fn orphans(are_listed: bool) -> String {
    let listed = if are_listed {
        r#"JOIN unnest($3::text[], $4::bigint[]) AS k (network, hours)
           ON x.network = k.network AND x."timestamp" >= to_timestamp(k.hours * 3600::float8)
              AND x."timestamp" < to_timestamp((k.hours + 1) * 3600::float8)"#
    } else {
        ""
    };
    format!(
        r#"
    SELECT x.network, (extract(epoch FROM x."timestamp") * 1000000)::bigint / 3600000000, count(*)
      FROM arx.token_transfers AS x {listed}
     WHERE NOT EXISTS (SELECT FROM arx.transactions AS t
                        WHERE t.network = x.network AND t.tx_hash = x.tx_hash AND t."timestamp" = x."timestamp")
       AND x."timestamp" >= to_timestamp($1::bigint * 3600::float8)
       AND x."timestamp" < to_timestamp($2::bigint * 3600::float8)
     GROUP BY 1, 2"#
    )
}

/// Returns the query for the hours with changes that are not visible in `position`, whether they
/// are visible in `snapshot` or are left to a later pass, as on a standby.
///
/// # Errors
/// [`SidecarError::Configuration`] for a malformed snapshot.
pub(super) fn changing_hours(position: &str, snapshot: &str) -> Result<String, SidecarError> {
    let hour = r#"(extract(epoch FROM "timestamp") * 1000000)::bigint / 3600000000"#;
    let changed = |column: &str| -> Result<String, SidecarError> {
        let visible = visible_since(column, position, snapshot)?;
        // ClickHouse holds no infinite time.
        Ok(format!(
            "isfinite(\"timestamp\") AND ({visible} OR ({column} >= pg_snapshot_xmax('{snapshot}'::pg_snapshot)))"
        ))
    };
    let (ingested, logged) = (changed("ingest_xid")?, changed("changed_xid")?);
    Ok(format!(
        "SELECT network, {hour} FROM arx.transactions WHERE {ingested}
         UNION SELECT network, {hour} FROM arx.internal_transfers WHERE {ingested}
         UNION SELECT network, {hour} FROM arx.token_transfers WHERE {ingested}
         UNION SELECT network, {hour} FROM arx.transaction_changes WHERE {logged}"
    ))
}

/// Returns the query for the hours of rows within a range of a table.
pub(super) fn hours_within(range: &TableRange) -> String {
    let (table, within) = (range.table.name(), within("t", range));
    format!(
        r#"SELECT DISTINCT t.network, (extract(epoch FROM t."timestamp") * 1000000)::bigint / 3600000000
             FROM arx.{table} AS t WHERE isfinite(t."timestamp"){within}"#
    )
}

/// Rows that the feed has set aside. They are in no hour of either side.
pub(super) const SET_ASIDE: &str = "SELECT count(*) FROM arx.feed_rejects WHERE consumer = 'clickhouse'";

pub(super) const REQUEST_RELOADS: &str = "
    INSERT INTO arx.feed_reloads (network, hour)
    SELECT t.network, to_timestamp(t.hours * 3600::float8)
      FROM unnest($1::text[], $2::bigint[]) AS t (network, hours)
    ON CONFLICT DO NOTHING";

pub(super) const REQUESTED_RELOADS: &str = "SELECT count(*) FROM arx.feed_reloads";

/// Returns the query for hours of events in ClickHouse, between two times in seconds, the
/// latter excluded; of some months alone if given.
pub(super) fn clickhouse_hours(months: Option<&BTreeSet<u32>>) -> String {
    let of_months = months.map_or_else(String::new, |months| {
        let months: Vec<String> = months.iter().map(u32::to_string).collect();
        format!(" AND toYYYYMM(event_time) IN ({})", months.join(", "))
    });
    let optional = OPTIONAL.iter().fold(String::new(), |text, column| text + &column.clickhouse_text() + ", '|', ");
    format!("
    SELECT network, toInt64(intDiv(toUnixTimestamp64Micro(event_time), 3600000000)) AS hours, count() AS count,
           countIf(leg = 0) AS transactions,
           toDecimalString(sum(toDecimal256(value, 18)), 18) AS sum,
           toDecimalString(sumIf(toDecimal256(value, 18), status != 'failed'), 18) AS volume,
           toString(sum(toUInt128(intDiv(reinterpretAsUInt64(reverse(substring(MD5(concat(
               tx_hash, '|', toString(leg), '|', kind, if(is_ordered, '', ' unordered'), '|', toString(block_number), '|',
               from_address, '|', ifNull(to_address, '-'), '|',
               toDecimalString(value, 18), '|', {optional}status, '|', toString(toUnixTimestamp64Micro(event_time)), '|',
               arrayStringConcat(arrayMap(
                   (i, t, f, o, a, u) -> concat(toString(i), ':', t, ':', f, ':', o, ':', toString(a), ':',
                                                ifNull(toDecimalString(u, 2), '-')),
                   token_transfers.log_index, token_transfers.token, token_transfers.from, token_transfers.to,
                   token_transfers.amount, token_transfers.value_usd), ','))), 1, 8))), 16)))) AS checksum
      FROM transaction_events FINAL
     WHERE event_time >= fromUnixTimestamp64Second(?, 'UTC') AND event_time < fromUnixTimestamp64Second(?, 'UTC'){of_months}
     GROUP BY network, hours"
    )
}

/// Hourly volumes in the same range.
pub(super) const CLICKHOUSE_VOLUMES: &str = "
    SELECT network, toInt64(intDiv(toUnixTimestamp(hour), 3600)) AS number, transaction_count AS count,
           toDecimalString(total_volume, 18) AS volume
      FROM hourly_volume
     WHERE hour >= fromUnixTimestamp(?) AND hour < fromUnixTimestamp(?)";

/// Daily volumes between two times, both included.
pub(super) const CLICKHOUSE_DAYS: &str = "
    SELECT network, toInt64(toRelativeDayNum(day)) AS number, transaction_count AS count,
           toDecimalString(total_volume, 18) AS volume
      FROM daily_volume
     WHERE day >= toDate(fromUnixTimestamp(?)) AND day <= toDate(fromUnixTimestamp(?))";

/// A digest of the files of each month. Each insert, merge, mutation and removal changes it.
pub(super) const PARTS: &str = "
    SELECT toUInt32(partition) AS month,
           concat(toString(count()), '-', hex(groupBitXor(sipHash64(name, hash_of_all_files, rows)))) AS digest
      FROM system.parts
     WHERE active AND database = currentDatabase() AND table = 'transaction_events'
     GROUP BY month";

/// The last comparison of the feed, unless changes since then were pruned.
pub(super) const KEPT: &str = "
    SELECT v.position::text, v.epoch, v.system_identifier, v.timeline, current_database()::text, v.database_oid, v.parts,
           v.orphans
      FROM arx.feed_verified AS v, arx.pruned_epochs AS p
     WHERE v.consumer = 'clickhouse' AND pg_snapshot_xmin(v.position) >= p.changes_before
       AND pg_snapshot_xmax(v.position) <= pg_snapshot_xmax(pg_current_snapshot())";

pub(super) const KEPT_HOURS: &str = "
    SELECT network, hours, events, total::text, checksum::text, transactions, volume::text
      FROM arx.feed_verified_hours WHERE consumer = 'clickhouse'";

pub(super) const STORE_KEPT: &str = "
    INSERT INTO arx.feed_verified
           (consumer, position, epoch, system_identifier, timeline, database_oid, parts, orphans)
    VALUES ('clickhouse', $1::text::pg_snapshot, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (consumer) DO UPDATE
       SET position = excluded.position, epoch = excluded.epoch, system_identifier = excluded.system_identifier,
           timeline = excluded.timeline, database_oid = excluded.database_oid, parts = excluded.parts,
           orphans = excluded.orphans, verified_at = now()";

pub(super) const STORE_KEPT_HOURS: &str = "
    INSERT INTO arx.feed_verified_hours
           (consumer, network, hours, events, total, checksum, transactions, volume)
    SELECT 'clickhouse', t.network, t.hours, t.events, t.total::numeric, t.checksum::numeric, t.transactions,
           t.volume::numeric
      FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::text[])
           AS t (network, hours, events, total, checksum, transactions, volume)
    ON CONFLICT (consumer, network, hours) DO UPDATE
       SET events = excluded.events, total = excluded.total, checksum = excluded.checksum,
           transactions = excluded.transactions, volume = excluded.volume";

pub(super) const DELETE_ALL_KEPT_HOURS: &str = "DELETE FROM arx.feed_verified_hours WHERE consumer = 'clickhouse'";

pub(super) const DELETE_KEPT_HOURS: &str = "
    DELETE FROM arx.feed_verified_hours AS h USING unnest($1::text[], $2::bigint[]) AS t (network, hours)
     WHERE h.consumer = 'clickhouse' AND h.network = t.network AND h.hours = t.hours";
