//! The content of an hour on each side. Owns the checksum, which both sides compute from the same
//! text.

use std::collections::{BTreeMap, BTreeSet};

use clickhouse::Row;
use ethnum::I256;
use serde::Deserialize;

use super::kept::Kept;
use super::{VerifiedDays, sql};
use crate::error::{Doing, SidecarError};
use crate::feed::{Hour, PostgresSource, Source, SourcePosition, TableRange, unsigned};
use crate::warehouse::Topology;

/// Hours that are read one by one. Reading everything takes less than more of them would.
const MAX_CHANGED_HOURS: usize = 20_000;

/// The content of an hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HourContent {
    pub(super) count: u64,
    /// Sum of the values, with 18 decimals; empty for an empty hour.
    pub(super) sum: String,
    /// Sum of the first 60 bits of each row's MD5; empty for an empty hour.
    pub(super) checksum: String,
}

/// The content of an hour in ClickHouse, with what its aggregates must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CountedHour {
    pub(super) content: HourContent,
    pub(super) transactions: u64,
    /// Sum of the values of transfers that did not fail, with 18 decimals.
    pub(super) volume: String,
}

impl CountedHour {
    /// Returns true if the aggregates have the hour.
    fn is_counted(&self) -> bool {
        self.transactions > 0 || self.volume.bytes().any(|byte| (b'1'..=b'9').contains(&byte))
    }
}

/// Hours to compare, counted since 1970; the last is excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HourRange {
    first: i64,
    end: i64,
    /// The caller has chosen the days.
    is_restricted: bool,
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
            is_restricted: days.since.is_some() || days.until.is_some(),
        };
        if range.first >= range.end {
            return Err(SidecarError::Input {
                detail: "--since is after --until, or --until is older than the rows that ClickHouse keeps: there is nothing to compare".into(),
            });
        }
        Ok(range)
    }

    /// Returns the limits in seconds since 1970.
    fn seconds(&self) -> (i64, i64) {
        (self.first.saturating_mul(3_600), self.end.saturating_mul(3_600).min(i64::from(u32::MAX)))
    }

    /// Returns true if no hour that ClickHouse holds is left out.
    pub(super) const fn is_everything(&self) -> bool {
        !self.is_restricted
    }

    pub(super) const fn contains(&self, hours: i64) -> bool {
        self.first <= hours && hours < self.end
    }
}

/// The content of PostgreSQL.
pub(super) struct PostgresSide {
    pub(super) content: BTreeMap<Hour, HourContent>,
    /// Hours with changes since the feed's position.
    pub(super) changing: BTreeSet<Hour>,
    /// Times of partitions that changed since then.
    pub(super) changing_ranges: Vec<TableRange>,
    /// Token transfers without their transaction.
    pub(super) orphans: BTreeMap<Hour, u64>,
    pub(super) set_aside: u64,
}

/// Returns the feed's position.
///
/// # Errors
/// [`SidecarError::Input`] before the first pass, and when a full load is due.
pub(super) async fn position(source: &mut PostgresSource) -> Result<SourcePosition, SidecarError> {
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
        return Ok(stored);
    }
    Err(must_load())
}

/// Returns the error of a comparison before a full load.
fn must_load() -> SidecarError {
    SidecarError::Input {
        detail: "tables were truncated or altered, or the database was restored, since ClickHouse was fed; the next \
                 `arx-sidecar sync` loads everything again: verify after it"
            .into(),
    }
}

/// Reads PostgreSQL as of now; with `kept`, only the hours that changed since then. Returns `None`
/// if these are not known, or are too many.
pub(super) async fn postgres(
    source: &mut PostgresSource,
    range: &HourRange,
    position: &SourcePosition,
    kept: Option<&Kept>,
) -> Result<Option<PostgresSide>, SidecarError> {
    let current = source.open().await?;
    let changing_ranges = source.events(position).await?.ok_or_else(must_load)?;
    let changed = match kept {
        Some(kept) => {
            let Some(changed) = changed_hours(source, &current, kept).await? else { return Ok(None) };
            Some(changed)
        }
        None => None,
    };
    let mut content = BTreeMap::new();
    let mut orphans = BTreeMap::new();
    if let (Some(kept), Some(changed)) = (kept, &changed) {
        let unchanged = kept.hours.iter().filter(|(hour, _)| range.contains(hour.hours) && !changed.contains(*hour));
        content.extend(unchanged.filter_map(|(hour, counted)| Some((hour.clone(), counted.as_ref()?.content.clone()))));
        let unchanged = kept.orphans.iter().filter(|(hour, _)| range.contains(hour.hours) && !changed.contains(*hour));
        orphans.extend(unchanged.map(|(hour, count)| (hour.clone(), *count)));
    }
    let (networks, hours): (Vec<&str>, Vec<i64>) =
        changed.iter().flatten().map(|hour| (hour.network.as_str(), hour.hours)).unzip();
    let bounds: [&(dyn tokio_postgres::types::ToSql + Sync); 4] = [&range.first, &range.end, &networks, &hours];
    let bounds = if changed.is_some() { &bounds[..] } else { &bounds[..2] };
    if changed.as_ref().is_none_or(|changed| !changed.is_empty()) {
        for row in source.query(&sql::postgres_hours(changed.is_some()), bounds).await? {
            let hour = Hour { network: row.get(0), hours: row.get(1) };
            let count = unsigned(row.get(2));
            content.insert(hour, HourContent { count, sum: row.get(3), checksum: row.get(4) });
        }
        for row in source.query(&sql::orphans(changed.is_some()), bounds).await? {
            orphans.insert(Hour { network: row.get(0), hours: row.get(1) }, unsigned(row.get(2)));
        }
    }
    let changing = source.query(&sql::changing_hours(&position.snapshot, &current.snapshot)?, &[]).await?;
    let changing = changing.iter().map(|row| Hour { network: row.get(0), hours: row.get(1) }).collect();
    let set_aside = source.query(sql::SET_ASIDE, &[]).await?;
    let set_aside: i64 = set_aside.first().map_or(0, |row| row.get(0));
    source.close().await?;
    Ok(Some(PostgresSide { content, changing, changing_ranges, orphans, set_aside: unsigned(set_aside) }))
}

/// Returns the hours with changes since the last comparison, and those that differed then. `None`
/// if they are not known, or are too many.
async fn changed_hours(
    source: &mut PostgresSource,
    current: &SourcePosition,
    kept: &Kept,
) -> Result<Option<BTreeSet<Hour>>, SidecarError> {
    if !kept.position.is_comparable_with(current) && !kept.position.may_be_upgraded_to(current) {
        return Ok(None);
    }
    let Some(ranges) = source.events(&kept.position).await? else { return Ok(None) };
    let mut queries = vec![sql::changing_hours(&kept.position.snapshot, &current.snapshot)?];
    queries.extend(ranges.iter().map(sql::hours_within));
    let mut changed: BTreeSet<Hour> = kept.unknown().cloned().collect();
    for query in queries {
        let rows = source.query(&query, &[]).await?;
        changed.extend(rows.iter().map(|row| Hour { network: row.get(0), hours: row.get(1) }));
    }
    let in_ranges = |hour: &&Hour| ranges.iter().any(|range| range.touches(hour.hours));
    changed.extend(kept.hours.keys().filter(in_ranges).cloned());
    Ok((changed.len() <= MAX_CHANGED_HOURS).then_some(changed))
}

#[derive(Row, Deserialize)]
struct HourRow {
    network: String,
    hours: i64,
    count: u64,
    transactions: u64,
    sum: String,
    volume: String,
    checksum: String,
}

#[derive(Row, Deserialize)]
struct AggregateRow {
    network: String,
    /// Hours or days since 1970.
    number: i64,
    count: u64,
    volume: String,
}

/// Reads the content of ClickHouse, of some months alone if given.
pub(super) async fn clickhouse(
    topology: &Topology,
    range: &HourRange,
    months: Option<&BTreeSet<u32>>,
) -> Result<BTreeMap<Hour, CountedHour>, SidecarError> {
    let (first, end) = range.seconds();
    let query = reader(topology).query(&sql::clickhouse_hours(months)).bind(first).bind(end);
    let rows: Vec<HourRow> = query.fetch_all().await.doing("compare transactions")?;
    let counted = |HourRow { network, hours, count, transactions, sum, volume, checksum }| {
        let content = HourContent { count, sum, checksum };
        (Hour { network, hours }, CountedHour { content, transactions, volume })
    };
    Ok(rows.into_iter().map(counted).collect())
}

fn reader(topology: &Topology) -> clickhouse::Client {
    topology.entry.clone().with_setting("do_not_merge_across_partitions_select_final", "1")
}

/// Returns the hours whose aggregates do not match their transactions: the volumes of the hours, or
/// those of their days.
pub(super) async fn wrong_aggregates(
    topology: &Topology,
    range: &HourRange,
    hours: &BTreeMap<Hour, CountedHour>,
) -> Result<BTreeSet<Hour>, SidecarError> {
    let doing = "compare aggregates";
    let (first, end) = range.seconds();
    let client = reader(topology);
    let mut wrong = BTreeSet::new();
    let aggregates: Vec<AggregateRow> =
        client.query(sql::CLICKHOUSE_VOLUMES).bind(first).bind(end).fetch_all().await.doing(doing)?;
    let mut expected: BTreeMap<&Hour, (u64, &str)> = BTreeMap::new();
    let mut of_days: BTreeMap<(String, i64), (u64, I256)> = BTreeMap::new();
    for (hour, counted) in hours.iter().filter(|(_, counted)| counted.is_counted()) {
        expected.insert(hour, (counted.transactions, &counted.volume));
        let (transactions, volume) = of_days.entry((hour.network.clone(), hour.hours.div_euclid(24))).or_default();
        *transactions += counted.transactions;
        *volume += units(&counted.volume)?;
    }
    for row in aggregates {
        let hour = Hour { network: row.network, hours: row.number };
        if expected.remove(&hour) != Some((row.count, &*row.volume)) {
            wrong.insert(hour);
        }
    }
    // The remaining hours have no aggregate at all.
    wrong.extend(expected.into_keys().cloned());
    let days = client.query(sql::CLICKHOUSE_DAYS).bind(first).bind(end - 1);
    let mut wrong_days: BTreeSet<(String, i64)> = BTreeSet::new();
    for row in days.fetch_all::<AggregateRow>().await.doing(doing)? {
        let found = (row.count, units(&row.volume)?);
        let day = (row.network, row.number);
        if of_days.remove(&day) != Some(found) {
            wrong_days.insert(day);
        }
    }
    wrong_days.extend(of_days.into_keys());
    for (network, day) in wrong_days {
        let first_hour = Hour { network: network.clone(), hours: day * 24 };
        let end_hour = Hour { network, hours: day * 24 + 24 };
        wrong.extend(hours.range(first_hour..end_hour).map(|(hour, _)| hour.clone()));
    }
    Ok(wrong)
}

/// Returns a decimal with 18 digits after the point as units of the last one.
fn units(decimal: &str) -> Result<I256, SidecarError> {
    let digits: String = decimal.chars().filter(|character| *character != '.').collect();
    I256::from_str_radix(&digits, 10)
        .map_err(|error| SidecarError::Protocol { detail: format!("volume {decimal:?} is no decimal: {error}") })
}
