//! Compares ClickHouse with PostgreSQL hour by hour, and reloads hours that differ.
//!
//! Owns what is compared, and which hours may differ for the moment. Works while a daemon runs: an
//! hour with changes since the feed's position is still changing, not wrong. ClickHouse is read
//! first and PostgreSQL afterwards, so rows that the daemon fed in between count as changes.
//!
//! Hours in which both sides were the same are kept, with what ClickHouse's files were like
//! (`kept`). The next comparison reads what changed since on either side. If that differs,
//! everything is read before it is reported.

mod kept;
mod sides;
mod sql;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::error::{Doing, SidecarError};
use crate::feed::{FeedSession, Hour, PostgresSource, Source as _, SourcePosition, Standing, foreign, read_standing};
use crate::servers::postgres;
use crate::servers::supervisor::Supervisor;
use crate::settings::Settings;
use crate::warehouse::{self, Topology};
use crate::write_back::write_all;
use kept::Kept;
use sides::{HourContent, HourRange};

/// Time limit for a running daemon to reload hours.
const RELOAD_LIMIT: Duration = Duration::from_secs(120);

/// Comparisons before hours are reported as still changing.
const MAX_COMPARISONS: u32 = 3;

/// Days to compare (UTC), the last included.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct VerifiedDays {
    /// The first day; the first with transactions when absent.
    pub(crate) since: Option<chrono::NaiveDate>,
    /// The last day; the last with transactions when absent.
    pub(crate) until: Option<chrono::NaiveDate>,
}

/// An hour that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) hour: Hour,
    /// Transactions in PostgreSQL.
    pub(crate) in_postgres: u64,
    /// Transactions in ClickHouse.
    pub(crate) in_clickhouse: u64,
    pub(crate) reason: &'static str,
}

/// Result of a comparison.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verified {
    /// Hours that were compared.
    pub(crate) hours: usize,
    /// Transactions of these hours in PostgreSQL.
    pub(crate) transactions: u64,
    pub(crate) differences: Vec<Difference>,
    /// Hours that were left out because they are changing.
    pub(crate) changing: usize,
    /// Token transfers whose transaction is not in PostgreSQL: they are fed together with it.
    pub(crate) orphans: u64,
    /// Rows of PostgreSQL that ClickHouse cannot hold.
    pub(crate) set_aside: u64,
    /// Hours that were reloaded.
    pub(crate) reloaded: usize,
    /// Compared hours that were not read, because they are as they were at the last comparison.
    pub(crate) unchanged: usize,
}

/// The way to compare.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Comparison {
    /// Read every hour of both sides.
    pub(crate) is_full: bool,
    /// Reload hours that differ.
    pub(crate) repairs: bool,
}

impl Verified {
    /// Returns whether both sides are equal.
    pub(crate) fn is_equal(&self) -> bool {
        self.differences.is_empty()
    }
}

/// Compares both sides, and reloads hours that differ if the comparison `repairs`.
///
/// # Errors
/// [`SidecarError::Input`] when nothing was fed yet, or a full load is due; those of the servers.
pub(crate) async fn run(
    days: VerifiedDays,
    comparison: Comparison,
    settings: &Settings,
) -> Result<Verified, SidecarError> {
    let is_full = comparison.is_full;
    let range = HourRange::new(days, settings.clickhouse_delete_after_days)?;
    Supervisor::during(settings, async |supervisor| {
        let mut verified = compare(settings, supervisor, &range, is_full).await?;
        if comparison.repairs && !verified.differences.is_empty() {
            let hours: Vec<Hour> = verified.differences.iter().map(|difference| difference.hour.clone()).collect();
            reload(settings, supervisor, &hours).await?;
            verified = compare(settings, supervisor, &range, is_full).await?;
            verified.reloaded = hours.len();
        }
        Ok(verified)
    })
    .await
}

/// Repeats the comparison while hours are changing.
async fn compare(
    settings: &Settings,
    supervisor: &Supervisor,
    range: &HourRange,
    is_full: bool,
) -> Result<Verified, SidecarError> {
    let topology = Topology::connect(settings, supervisor).await?;
    warehouse::ensure(&topology).await?;
    let mut verified = compare_once(settings, &topology, range, is_full).await?;
    for _ in 1..MAX_COMPARISONS {
        if verified.changing == 0 {
            break;
        }
        tokio::time::sleep(settings.feed_idle()).await;
        verified = compare_once(settings, &topology, range, is_full).await?;
    }
    Ok(verified)
}

async fn compare_once(
    settings: &Settings,
    topology: &Topology,
    range: &HourRange,
    is_full: bool,
) -> Result<Verified, SidecarError> {
    let mut client = postgres::connect(settings).await?.client;
    let mut source = PostgresSource::connect(&postgres::Source::read(settings)).await?;
    match read_standing(&client, topology).await? {
        Standing::Own | Standing::Upgraded => {}
        Standing::Foreign { owner } => return Err(foreign(&owner, &source.open().await?)),
        Standing::WentBack { .. } | Standing::Replaced { .. } => {
            return Err(SidecarError::Input {
                detail: "ClickHouse was fed by a later state of this database, or by the database that it replaced; \
                         the next `arx-sidecar sync` loads everything again: verify after it"
                    .into(),
            });
        }
    }
    let position = sides::position(&mut source).await?;
    // On a cluster, each replica has other files.
    let is_single = topology.shape.cluster.is_none();
    let former = if is_single { Kept::read(&client).await? } else { None };
    let kept = former.as_ref().filter(|_| !is_full);
    let now = Comparing { topology, range, position: &position };
    let mut compared = match kept {
        Some(kept) => now.read(&mut source, Some(kept)).await?.filter(|compared| compared.verified.is_equal()),
        None => None,
    };
    if compared.is_none() {
        compared = now.read(&mut source, None).await?;
    }
    let Compared { verified, next } =
        compared.ok_or_else(|| SidecarError::Protocol { detail: "PostgreSQL was not read as a whole".into() })?;
    if is_single && range.is_everything() {
        Kept::replace(former.as_ref(), &mut client, &next).await?;
    }
    Ok(verified)
}

/// Input of a comparison.
struct Comparing<'a> {
    topology: &'a Topology,
    range: &'a HourRange,
    position: &'a SourcePosition,
}

/// Result of a comparison, and what to keep of it.
struct Compared {
    verified: Verified,
    next: Kept,
}

impl Comparing<'_> {
    /// Compares everything, or what changed since the last comparison. Returns `None` if that is
    /// not known.
    async fn read(&self, source: &mut PostgresSource, kept: Option<&Kept>) -> Result<Option<Compared>, SidecarError> {
        let Self { topology, range, position } = *self;
        // The files are read before their contents: what comes in between is read again next time.
        let parts = if topology.shape.cluster.is_none() { kept::parts(topology).await? } else { BTreeMap::new() };
        let months = kept.map(|kept| kept.changed_months(&parts));
        let mut clickhouse = match &months {
            Some(months) if months.is_empty() => BTreeMap::new(),
            months => sides::clickhouse(topology, range, months.as_ref()).await?,
        };
        let mut unchanged = 0;
        if let (Some(kept), Some(months)) = (kept, &months) {
            let same = kept
                .hours
                .iter()
                .filter(|(hour, _)| range.contains(hour.hours) && !months.contains(&kept::month(hour.hours)));
            let same = same.filter_map(|(hour, counted)| Some((hour.clone(), counted.clone()?)));
            let before = clickhouse.len();
            clickhouse.extend(same);
            unchanged = clickhouse.len() - before;
        }
        let wrong_aggregates = sides::wrong_aggregates(topology, range, &clickhouse).await?;
        let Some(mut postgres) = sides::postgres(source, range, position, kept).await? else { return Ok(None) };
        let is_changing = |hour: &&Hour| postgres.changing_ranges.iter().any(|range| range.touches(hour.hours));
        let hours = postgres.content.keys().chain(clickhouse.keys());
        let in_ranges: Vec<Hour> = hours.filter(is_changing).cloned().collect();
        postgres.changing.extend(in_ranges);

        let mut verified = Verified {
            orphans: postgres.orphans.values().sum(),
            unchanged,
            set_aside: postgres.set_aside,
            changing: postgres.changing.len(),
            ..Verified::default()
        };
        let hours: BTreeSet<&Hour> = postgres.content.keys().chain(clickhouse.keys()).collect();
        let mut next = BTreeMap::new();
        for hour in hours {
            if postgres.changing.contains(hour) {
                continue;
            }
            let counted = clickhouse.get(hour);
            let in_postgres = postgres.content.get(hour).unwrap_or(&EMPTY);
            let in_clickhouse = counted.map_or(&EMPTY, |counted| &counted.content);
            verified.hours += 1;
            verified.transactions += in_postgres.count;
            let reason = if in_postgres.count != in_clickhouse.count {
                Some("the number of transactions differs")
            } else if in_postgres.sum != in_clickhouse.sum {
                Some("the sums of values differ")
            } else if in_postgres.checksum != in_clickhouse.checksum {
                Some("the checksums differ")
            } else if wrong_aggregates.contains(hour) {
                Some("the aggregates differ from the transactions")
            } else {
                None
            };
            next.insert(hour.clone(), counted.filter(|_| reason.is_none()).cloned());
            if let Some(reason) = reason {
                verified.differences.push(Difference {
                    hour: hour.clone(),
                    in_postgres: in_postgres.count,
                    in_clickhouse: in_clickhouse.count,
                    reason,
                });
            }
        }
        let next = Kept { position: position.clone(), parts, hours: next, orphans: postgres.orphans };
        Ok(Some(Compared { verified, next }))
    }
}

/// The content of an hour without rows.
static EMPTY: HourContent = HourContent { count: 0, sum: String::new(), checksum: String::new() };

/// Requests a reload of hours, and waits for it: by a pass of this process, or of the daemon that
/// feeds.
async fn reload(settings: &Settings, supervisor: &Supervisor, hours: &[Hour]) -> Result<(), SidecarError> {
    let doing = "request a reload of hours";
    let client = postgres::connect(settings).await?.client;
    let (networks, starts): (Vec<&str>, Vec<i64>) =
        hours.iter().map(|hour| (hour.network.as_str(), hour.hours)).unzip();
    client.execute(sql::REQUEST_RELOADS, &[&networks, &starts]).await.doing(doing)?;
    let started = Instant::now();
    loop {
        match FeedSession::open(settings, supervisor).await {
            Ok(mut feed) => {
                feed.pass(settings).await?;
                write_all(&feed.topology(), settings).await?;
            }
            Err(SidecarError::Taken { .. }) => {}
            Err(error) => return Err(error),
        }
        let row = client.query_one(sql::REQUESTED_RELOADS, &[]).await.doing(doing)?;
        let left: i64 = row.get(0);
        if left == 0 {
            return Ok(());
        }
        if started.elapsed() > RELOAD_LIMIT {
            return Err(SidecarError::Input {
                detail: format!(
                    "{left} hours of arx.feed_reloads were not reloaded within {} s; see the log of the feed",
                    RELOAD_LIMIT.as_secs()
                ),
            });
        }
        tokio::time::sleep(settings.feed_idle()).await;
    }
}
