//! The content of an hour on each side. Owns the checksum, which both sides compute from the same
//! text.

use std::collections::{BTreeMap, BTreeSet};

use clickhouse::Row;
use serde::Deserialize;

use super::{VerifiedDays, sql};
use crate::error::{Doing, SidecarError};
use crate::feed::{Hour, PostgresSource, Source, SourcePosition, unsigned};
use crate::warehouse::Topology;

/// The content of an hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HourContent {
    pub(super) count: u64,
    /// Sum of the values, with 18 decimals; empty for an empty hour.
    pub(super) sum: String,
    /// Sum of the first 60 bits of each row's MD5; empty for an empty hour.
    pub(super) checksum: String,
}

/// Hours to compare, counted since 1970; the last is excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HourRange {
    first: i64,
    end: i64,
}

impl HourRange {
    pub(super) fn new(days: VerifiedDays, delete_after_days: Option<u32>) -> Result<Self, SidecarError> {
        let hours = |date: chrono::NaiveDate| date.signed_duration_since(chrono::NaiveDate::default()).num_hours();
        // ClickHouse deletes old rows with some delay: allow a day.
        let kept = delete_after_days.map_or(0, |days| {
            chrono::Utc::now().timestamp().div_euclid(3_600) - (i64::from(days) - 1).saturating_mul(24)
        });
        let range = Self {
            first: days.since.map_or(0, hours).max(kept),
            end: days.until.map_or(i64::from(u32::MAX / 3_600), |date| hours(date) + 24),
        };
        if range.first >= range.end {
            return Err(SidecarError::Input {
                detail: "--since is after --until, or --until is older than the rows that ClickHouse keeps: there is nothing to compare".into(),
            });
        }
        Ok(range)
    }
}

/// The content of PostgreSQL.
pub(super) struct PostgresSide {
    pub(super) content: BTreeMap<Hour, HourContent>,
    /// Hours with changes since the feed's position.
    pub(super) changing: BTreeSet<Hour>,
    pub(super) orphans: u64,
    pub(super) set_aside: u64,
}

/// The content of ClickHouse.
pub(super) struct ClickHouseSide {
    pub(super) content: BTreeMap<Hour, HourContent>,
    /// Hours whose aggregates do not match their transactions.
    pub(super) wrong_aggregates: BTreeSet<Hour>,
}

/// Returns the feed's position.
///
/// # Errors
/// [`SidecarError::Input`] before the first pass, and when a full load is due.
pub(super) async fn position(source: &mut PostgresSource) -> Result<String, SidecarError> {
    let current = source.open().await?;
    let rows = source.query(sql::POSITION, &[]).await?;
    source.close().await?;
    let row = rows.first().ok_or_else(|| SidecarError::Input {
        detail: "nothing was fed to ClickHouse yet; run `arx-sidecar sync` once, or keep `arx-sidecar run` running"
            .into(),
    })?;
    let stored = SourcePosition {
        snapshot: row.get(0),
        epoch: row.get(1),
        system_identifier: row.get(2),
        timeline: row.get(3),
        database: row.get(4),
        database_oid: row.get(5),
    };
    if stored.is_comparable_with(&current) || stored.may_be_upgraded_to(&current) {
        return Ok(stored.snapshot);
    }
    Err(SidecarError::Input {
        detail:
            "partitions were truncated, attached or detached, or the database was restored, since ClickHouse was fed; \
                 the next `arx-sidecar sync` loads everything again: verify after it"
                .into(),
    })
}

pub(super) async fn postgres(
    source: &mut PostgresSource,
    range: &HourRange,
    position: &str,
) -> Result<PostgresSide, SidecarError> {
    let current = source.open().await?;
    let bounds: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&range.first, &range.end];
    let mut content = BTreeMap::new();
    for row in source.query(&sql::postgres_hours(), &bounds).await? {
        let hour = Hour { network: row.get(0), hours: row.get(1) };
        let count: i64 = row.get(2);
        let count = u64::try_from(count).unwrap_or_default();
        content.insert(hour, HourContent { count, sum: row.get(3), checksum: row.get(4) });
    }
    let changing = source.query(&sql::changing_hours(position, &current.snapshot)?, &[]).await?;
    let changing = changing.iter().map(|row| Hour { network: row.get(0), hours: row.get(1) }).collect();
    let orphans = source.query(sql::ORPHANS, &bounds).await?;
    let orphans: i64 = orphans.first().map_or(0, |row| row.get(0));
    let set_aside = source.query(sql::SET_ASIDE, &[]).await?;
    let set_aside: i64 = set_aside.first().map_or(0, |row| row.get(0));
    source.close().await?;
    let (orphans, set_aside) = (unsigned(orphans), unsigned(set_aside));
    Ok(PostgresSide { content, changing, orphans, set_aside })
}

#[derive(Row, Deserialize)]
struct HourRow {
    network: String,
    hours: i64,
    count: u64,
    transactions: u64,
    sum: String,
    volume: String,
    is_counted: bool,
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

pub(super) async fn clickhouse(topology: &Topology, range: &HourRange) -> Result<ClickHouseSide, SidecarError> {
    let doing = "compare transactions";
    let client = topology.entry.clone().with_setting("do_not_merge_across_partitions_select_final", "1");
    let (first, end) = (range.first.saturating_mul(3_600), range.end.saturating_mul(3_600).min(i64::from(u32::MAX)));
    let rows: Vec<HourRow> =
        client.query(&sql::clickhouse_hours()).bind(first).bind(end).fetch_all().await.doing(doing)?;
    let mut content = BTreeMap::new();
    let mut expected = BTreeMap::new();
    for row in rows {
        let hour = Hour { network: row.network, hours: row.hours };
        if row.is_counted {
            expected.insert(hour.clone(), (row.transactions, row.volume));
        }
        content.insert(hour, HourContent { count: row.count, sum: row.sum, checksum: row.checksum });
    }
    let aggregates: Vec<AggregateRow> =
        client.query(sql::CLICKHOUSE_VOLUMES).bind(first).bind(end).fetch_all().await.doing(doing)?;
    let mut wrong_aggregates = BTreeSet::new();
    for row in aggregates {
        let hour = Hour { network: row.network, hours: row.hours };
        if expected.remove(&hour) != Some((row.count, row.volume)) {
            wrong_aggregates.insert(hour);
        }
    }
    // The remaining hours have no aggregate at all.
    wrong_aggregates.extend(expected.into_keys());
    let days = client.query(sql::WRONG_DAYS).bind(first).bind(end - 1);
    for row in days.fetch_all::<DayRow>().await.doing(doing)? {
        let day = row.days * 24..row.days * 24 + 24;
        let first_hour = Hour { network: row.network.clone(), hours: day.start };
        let end_hour = Hour { network: row.network, hours: day.end };
        wrong_aggregates.extend(content.range(first_hour..end_hour).map(|(hour, _)| hour.clone()));
    }
    Ok(ClickHouseSide { content, wrong_aggregates })
}
