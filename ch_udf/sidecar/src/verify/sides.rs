//! What each side says of an hour. Owns the checksum, which both compute from the same text.

use std::collections::{BTreeMap, BTreeSet};

use clickhouse::Row;
use serde::Deserialize;

use super::VerifyArgs;
use crate::error::SidecarError;
use crate::feed::{Hour, Mark, PostgresSource, Source, visible_since};
use crate::warehouse::Topology;

/// What an hour holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Content {
    pub count: u64,
    /// Sum of the values, with 18 decimals; empty where there is nothing.
    pub sum: String,
    /// Sum of the first 60 bits of each row's MD5; empty where there is nothing.
    pub checksum: String,
}

/// Days to compare, as hours since 1970; the last is not part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    first: i64,
    end: i64,
}

impl Range {
    pub(super) fn new(arguments: &VerifyArgs, delete_after_days: Option<u32>) -> Result<Self, SidecarError> {
        let hours = |date: chrono::NaiveDate| date.signed_duration_since(chrono::NaiveDate::default()).num_hours();
        // what ClickHouse deletes by age it deletes when it comes to it: a day of grace
        let kept = delete_after_days.map_or(0, |days| {
            chrono::Utc::now().timestamp().div_euclid(3_600) - (i64::from(days) - 1).saturating_mul(24)
        });
        let range = Self {
            first: arguments.since.map_or(0, hours).max(kept),
            end: arguments.until.map_or(i64::from(u32::MAX / 3_600), |date| hours(date) + 24),
        };
        if range.first >= range.end {
            return Err(SidecarError::Input {
                detail: "--since is after --until, or before what ClickHouse keeps: nothing is to be compared".into(),
            });
        }
        Ok(range)
    }
}

/// What PostgreSQL holds.
pub(super) struct InPostgres {
    pub content: BTreeMap<Hour, Content>,
    /// Hours in which something changed since the feed's position.
    pub moving: BTreeSet<Hour>,
    pub orphans: u64,
}

/// What ClickHouse holds.
pub(super) struct InClickHouse {
    pub content: BTreeMap<Hour, Content>,
    /// Hours whose aggregates are not what their transactions come to.
    pub wrong_aggregates: BTreeSet<Hour>,
}

/// The feed's position, if what changed since can be told.
pub(super) async fn position(source: &mut PostgresSource) -> Result<String, SidecarError> {
    let mark = source.open().await?;
    let rows = source
        .query(
            "SELECT position::text, epoch, system_identifier, timeline, current_database()::text FROM arx.feed_positions \
              WHERE consumer = 'clickhouse' AND position IS NOT NULL",
            &[],
        )
        .await?;
    source.close().await?;
    let row = rows.first().ok_or_else(|| SidecarError::Input {
        detail: "nothing was fed to ClickHouse yet; `arx-sidecar sync` does it once, `arx-sidecar run` for as long as it runs".into(),
    })?;
    let stored = Mark {
        position: row.get(0),
        epoch: row.get(1),
        system_identifier: row.get(2),
        timeline: row.get(3),
        database: row.get(4),
    };
    if stored.is_of_same_source(&mark) {
        return Ok(stored.position);
    }
    Err(SidecarError::Input {
        detail: "partitions were truncated, attached or dropped, or the database was restored, since ClickHouse was fed; the next \
                 `arx-sidecar sync` loads everything anew: verify after it"
            .into(),
    })
}

const IN_POSTGRES: &str = "SELECT t.network, (extract(epoch FROM t.\"timestamp\") * 1000000)::bigint / 3600000000 AS hours, \
        count(*), sum(t.value)::text, \
        sum(('x' || left(md5(concat_ws('|', t.tx_hash, t.block_number, coalesce(t.transaction_index::text, '-'), t.from_address, \
            coalesce(t.to_address, '-'), t.value::text, coalesce(t.value_usd::text, '-'), coalesce(t.gas_used::text, '-'), \
            coalesce(t.gas_price::text, '-'), t.status::text, (extract(epoch FROM t.\"timestamp\") * 1000000)::bigint, \
            coalesce(x.transfers, ''))), 15))::bit(60)::bigint)::text \
   FROM arx.transactions AS t \
   LEFT JOIN (SELECT x.network, x.tx_hash, x.\"timestamp\", \
                     string_agg(concat_ws(':', x.log_index, x.token_address, x.from_address, x.to_address, x.amount, \
                                          coalesce(x.value_usd::text, '-')), ',' ORDER BY x.log_index) AS transfers \
                FROM arx.token_transfers AS x \
               WHERE x.\"timestamp\" >= to_timestamp($1::bigint * 3600::float8) AND x.\"timestamp\" < to_timestamp($2::bigint * 3600::float8) \
               GROUP BY x.network, x.tx_hash, x.\"timestamp\") AS x \
     ON x.network = t.network AND x.tx_hash = t.tx_hash AND x.\"timestamp\" = t.\"timestamp\" \
  WHERE t.\"timestamp\" >= to_timestamp($1::bigint * 3600::float8) AND t.\"timestamp\" < to_timestamp($2::bigint * 3600::float8) \
  GROUP BY 1, 2";

const ORPHANS: &str = "SELECT count(*) FROM arx.token_transfers AS x WHERE NOT EXISTS (SELECT FROM arx.transactions AS t \
        WHERE t.network = x.network AND t.tx_hash = x.tx_hash AND t.\"timestamp\" = x.\"timestamp\") \
    AND x.\"timestamp\" >= to_timestamp($1::bigint * 3600::float8) AND x.\"timestamp\" < to_timestamp($2::bigint * 3600::float8)";

pub(super) async fn postgres(
    source: &mut PostgresSource,
    range: &Range,
    position: &str,
) -> Result<InPostgres, SidecarError> {
    let mark = source.open().await?;
    let bounds: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&range.first, &range.end];
    let mut content = BTreeMap::new();
    for row in source.query(IN_POSTGRES, &bounds).await? {
        let hour = Hour { network: row.get(0), hours: row.get(1) };
        let count: i64 = row.get(2);
        let count = u64::try_from(count).unwrap_or_default();
        content.insert(hour, Content { count, sum: row.get(3), checksum: row.get(4) });
    }
    let hours = "(extract(epoch FROM \"timestamp\") * 1000000)::bigint / 3600000000";
    let changed = visible_since("ingest_xid", position, &mark.position)?;
    let logged = visible_since("changed_xid", position, &mark.position)?;
    // on a standby some of what is visible is left to the next pass
    let later = |column: &str| format!("({column} >= pg_snapshot_xmax('{0}'::pg_snapshot))", mark.position);
    let moving = format!(
        "SELECT network, {hours} FROM arx.transactions WHERE {changed} OR {} \
         UNION SELECT network, {hours} FROM arx.token_transfers WHERE {changed} OR {} \
         UNION SELECT network, {hours} FROM arx.transaction_changes WHERE {logged} OR {}",
        later("ingest_xid"),
        later("ingest_xid"),
        later("changed_xid"),
    );
    let moving = source.query(&moving, &[]).await?;
    let moving = moving.iter().map(|row| Hour { network: row.get(0), hours: row.get(1) }).collect();
    let orphans = source.query(ORPHANS, &bounds).await?;
    let orphans: i64 = orphans.first().map_or(0, |row| row.get(0));
    source.close().await?;
    Ok(InPostgres { content, moving, orphans: u64::try_from(orphans).unwrap_or_default() })
}

#[derive(Row, Deserialize)]
struct HourRow {
    network: String,
    hours: i64,
    count: u64,
    sum: String,
    volume: String,
    checksum: String,
}

#[derive(Row, Deserialize)]
struct AggregateRow {
    network: String,
    hours: i64,
    count: u64,
    volume: String,
}

#[derive(Row, Deserialize)]
struct DayRow {
    network: String,
    days: i64,
}

const IN_CLICKHOUSE: &str = "SELECT network, toInt64(intDiv(toUnixTimestamp64Micro(event_time), 3600000000)) AS hours, count() AS count, \
        toDecimalString(sum(toDecimal256(value, 18)), 18) AS sum, \
        toDecimalString(sumIf(toDecimal256(value, 18), status != 'failed'), 18) AS volume, \
        toString(sum(toUInt128(intDiv(reinterpretAsUInt64(reverse(substring(MD5(concat(tx_hash, '|', toString(block_number), '|', \
            ifNull(toString(transaction_index), '-'), '|', from_address, '|', ifNull(to_address, '-'), '|', \
            toDecimalString(value, 18), '|', ifNull(toDecimalString(value_usd, 2), '-'), '|', ifNull(toString(gas_used), '-'), '|', \
            ifNull(toString(gas_price), '-'), '|', status, '|', toString(toUnixTimestamp64Micro(event_time)), '|', \
            arrayStringConcat(arrayMap((i, t, f, o, a, u) -> concat(toString(i), ':', t, ':', f, ':', o, ':', toString(a), ':', \
                ifNull(toDecimalString(u, 2), '-')), token_transfers.log_index, token_transfers.token, token_transfers.from, \
                token_transfers.to, token_transfers.amount, token_transfers.value_usd), ','))), 1, 8))), 16)))) AS checksum \
   FROM transaction_events FINAL \
  WHERE event_time >= fromUnixTimestamp64Second(?, 'UTC') AND event_time < fromUnixTimestamp64Second(?, 'UTC') \
  GROUP BY network, hours";

const AGGREGATES: &str = "SELECT network, toInt64(intDiv(toUnixTimestamp(hour), 3600)) AS hours, transaction_count AS count, \
        toDecimalString(total_volume, 18) AS volume FROM hourly_volume \
  WHERE hour >= fromUnixTimestamp(?) AND hour < fromUnixTimestamp(?)";

/// Days on which daily volume, wallet activity or edges do not add up to the transactions of the day.
const WRONG_DAYS: &str = "SELECT network, toInt64(toRelativeDayNum(day)) AS days FROM ( \
      SELECT network, toDate(event_time) AS day, toInt64(count()) AS n, toInt64(countIf(isNotNull(to_address))) AS with_receiver, \
             sumIf(toDecimal256(value, 18), status != 'failed') AS volume, \
             sumIf(toDecimal256(value, 18), status != 'failed' AND isNotNull(to_address)) AS received \
        FROM transaction_events FINAL GROUP BY network, day \
      UNION ALL SELECT network, day, -toInt64(transaction_count), 0, -total_volume, toDecimal256(0, 18) FROM daily_volume \
      UNION ALL SELECT network, day, 0, -toInt64(sum(edge_weight)), toDecimal256(0, 18), -sum(total_value) FROM wallet_edges \
                 GROUP BY network, day \
   ) WHERE day >= toDate(fromUnixTimestamp(?)) AND day <= toDate(fromUnixTimestamp(?)) \
   GROUP BY network, day HAVING sum(n) != 0 OR sum(with_receiver) != 0 OR sum(volume) != 0 OR sum(received) != 0 \
  UNION DISTINCT SELECT network, toInt64(toRelativeDayNum(day)) AS days FROM ( \
      SELECT network, toDate(event_time) AS day, toInt64(count()) AS n, toInt64(countIf(isNotNull(to_address))) AS with_receiver, \
             sumIf(toDecimal256(value, 18), status != 'failed') AS volume, \
             sumIf(toDecimal256(value, 18), status != 'failed' AND isNotNull(to_address)) AS received \
        FROM transaction_events FINAL GROUP BY network, day \
      UNION ALL SELECT network, day, -toInt64(sum(sent_count)), -toInt64(sum(received_count)), -sum(total_sent), -sum(total_received) \
                  FROM wallet_activity GROUP BY network, day \
   ) WHERE day >= toDate(fromUnixTimestamp(?)) AND day <= toDate(fromUnixTimestamp(?)) \
   GROUP BY network, day HAVING sum(n) != 0 OR sum(with_receiver) != 0 OR sum(volume) != 0 OR sum(received) != 0";

pub(super) async fn clickhouse(topology: &Topology, range: &Range) -> Result<InClickHouse, SidecarError> {
    let failed = |source| SidecarError::ClickHouse { doing: "compare transactions", source };
    let client = topology.entry.clone().with_setting("do_not_merge_across_partitions_select_final", "1");
    let (first, end) = (range.first.saturating_mul(3_600), range.end.saturating_mul(3_600).min(i64::from(u32::MAX)));
    let rows: Vec<HourRow> = client.query(IN_CLICKHOUSE).bind(first).bind(end).fetch_all().await.map_err(failed)?;
    let mut content = BTreeMap::new();
    let mut expected = BTreeMap::new();
    for row in rows {
        let hour = Hour { network: row.network, hours: row.hours };
        expected.insert(hour.clone(), (row.count, row.volume));
        content.insert(hour, Content { count: row.count, sum: row.sum, checksum: row.checksum });
    }
    let aggregates: Vec<AggregateRow> =
        client.query(AGGREGATES).bind(first).bind(end).fetch_all().await.map_err(failed)?;
    let mut wrong_aggregates = BTreeSet::new();
    for row in aggregates {
        let hour = Hour { network: row.network, hours: row.hours };
        if expected.remove(&hour) != Some((row.count, row.volume)) {
            wrong_aggregates.insert(hour);
        }
    }
    // what is left has no aggregate at all
    wrong_aggregates.extend(expected.into_keys());
    let days = client.query(WRONG_DAYS).bind(first).bind(end - 1).bind(first).bind(end - 1);
    for row in days.fetch_all::<DayRow>().await.map_err(failed)? {
        let of_day = row.days * 24..row.days * 24 + 24;
        let within = Hour { network: row.network.clone(), hours: of_day.start };
        let until = Hour { network: row.network, hours: of_day.end };
        wrong_aggregates.extend(content.range(within..until).map(|(hour, _)| hour.clone()));
    }
    Ok(InClickHouse { content, wrong_aggregates })
}
