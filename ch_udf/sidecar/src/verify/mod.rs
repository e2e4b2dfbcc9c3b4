//! `arx-sidecar verify`: whether ClickHouse holds what PostgreSQL holds, hour by hour, and loading the hours again that differ.
//!
//! Owns what is compared and which hours may differ for the moment. Works beside a running daemon: an hour in which something changed
//! since the feed's position is under way, not wrong. ClickHouse is asked first and PostgreSQL afterwards, so whatever the daemon
//! fed in between is known to have changed.

mod sides;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use clap::Args;

use crate::daemon::Feed;
use crate::error::SidecarError;
use crate::feed::{Hour, PostgresSource};
use crate::servers::engine::Supervisor;
use crate::servers::postgres;
use crate::settings::Settings;
use crate::warehouse::{self, Topology};
use sides::{Content, Range};

/// Differing hours that are shown.
const SHOWN: usize = 20;

/// How long a running daemon may take to load hours again.
const PATIENCE: Duration = Duration::from_secs(120);

/// Looks at hours that something changed in, before it is said that they are still under way.
const LOOKS: u32 = 3;

/// What to compare.
#[derive(Debug, Clone, Default, Args)]
pub struct VerifyArgs {
    /// First day to compare (UTC) [default: the first there is]
    #[arg(long, value_name = "DATE")]
    pub since: Option<chrono::NaiveDate>,
    /// Last day to compare (UTC) [default: the last there is]
    #[arg(long, value_name = "DATE")]
    pub until: Option<chrono::NaiveDate>,
    /// Load the hours again that differ
    #[arg(long)]
    pub repair: bool,
}

/// An hour that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Which hour.
    pub hour: Hour,
    /// Transactions in PostgreSQL.
    pub in_postgres: u64,
    /// Transactions in ClickHouse.
    pub in_clickhouse: u64,
    /// What differs.
    pub what: &'static str,
}

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Hours that were compared.
    pub hours: usize,
    /// Transactions in them, in PostgreSQL.
    pub transactions: u64,
    /// Hours that differ.
    pub differences: Vec<Difference>,
    /// Hours in which something changed meanwhile.
    pub moving: usize,
    /// Token transfers whose transaction PostgreSQL does not hold: they are carried when it does.
    pub orphans: u64,
    /// Hours that were loaded again.
    pub repaired: usize,
}

impl Verified {
    /// Whether both sides are the same.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.differences.is_empty()
    }
}

/// An hour as people write it.
fn shown(hour: &Hour) -> String {
    let moment = chrono::DateTime::from_timestamp(hour.hours.saturating_mul(3_600), 0);
    moment.map_or_else(|| format!("hour {}", hour.hours), |moment| moment.format("%Y-%m-%d %H:%M").to_string())
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} hours compared, {} transactions in PostgreSQL", self.hours, self.transactions)?;
        if self.repaired > 0 {
            writeln!(f, "{} hours differed and were loaded again", self.repaired)?;
        }
        for difference in self.differences.iter().take(SHOWN) {
            let Difference { hour, in_postgres, in_clickhouse, what } = difference;
            writeln!(
                f,
                "DIFFERS  {} {}: {in_postgres} in PostgreSQL, {in_clickhouse} in ClickHouse ({what})",
                hour.network,
                shown(hour)
            )?;
        }
        if self.differences.len() > SHOWN {
            writeln!(f, "... and {} more hours", self.differences.len() - SHOWN)?;
        }
        if self.moving > 0 {
            writeln!(
                f,
                "{} hours are changing and were left out; run verify again, or when there is less going on",
                self.moving
            )?;
        }
        if self.orphans > 0 {
            writeln!(f, "{} token transfers wait for their transaction, which PostgreSQL does not hold", self.orphans)?;
        }
        if self.is_well() {
            writeln!(f, "both sides are the same: counts, exact sums, checksums, aggregates")
        } else {
            writeln!(f, "{} hours differ; `arx-sidecar verify --repair` loads them again", self.differences.len())
        }
    }
}

/// Compares, and loads again if asked to.
///
/// # Errors
/// [`SidecarError::Input`] when nothing was fed yet, or everything is about to be loaded anew; whatever a server refuses.
pub async fn run(arguments: &VerifyArgs, settings: &Settings) -> Result<Verified, SidecarError> {
    let range = Range::new(arguments, settings.clickhouse_delete_after_days)?;
    Supervisor::during(settings, async |supervisor| {
        let mut verified = compare(settings, supervisor, &range).await?;
        if arguments.repair && !verified.differences.is_empty() {
            let hours: Vec<Hour> = verified.differences.iter().map(|difference| difference.hour.clone()).collect();
            load_again(settings, supervisor, &hours).await?;
            verified = compare(settings, supervisor, &range).await?;
            verified.repaired = hours.len();
        }
        Ok(verified)
    })
    .await
}

/// Compares until nothing but what differs is left, or what changes does not come to rest.
async fn compare(settings: &Settings, supervisor: &Supervisor, range: &Range) -> Result<Verified, SidecarError> {
    let topology = Topology::connect(settings, supervisor).await?;
    warehouse::ensure(&topology).await?;
    let mut verified = look(settings, &topology, range).await?;
    for _ in 1..LOOKS {
        if verified.moving == 0 {
            break;
        }
        tokio::time::sleep(settings.feed_idle()).await;
        verified = look(settings, &topology, range).await?;
    }
    Ok(verified)
}

async fn look(settings: &Settings, topology: &Topology, range: &Range) -> Result<Verified, SidecarError> {
    let read_from = settings.postgres_read_url.as_ref().unwrap_or(&settings.postgres_url);
    let mut source = PostgresSource::connect(read_from).await?;
    let position = sides::position(&mut source).await?;
    let clickhouse = sides::clickhouse(topology, range).await?;
    let postgres = sides::postgres(&mut source, range, &position).await?;

    let mut verified = Verified { orphans: postgres.orphans, moving: postgres.moving.len(), ..Verified::default() };
    let hours: BTreeSet<&Hour> = postgres.content.keys().chain(clickhouse.content.keys()).collect();
    for hour in hours {
        if postgres.moving.contains(hour) {
            continue;
        }
        let (here, there) = (content(&postgres.content, hour), content(&clickhouse.content, hour));
        verified.hours += 1;
        verified.transactions += here.count;
        let what = if here.count != there.count {
            Some("transactions are missing or too many")
        } else if here.sum != there.sum {
            Some("sums of values differ")
        } else if here.checksum != there.checksum {
            Some("checksums differ: other values")
        } else if clickhouse.wrong_aggregates.contains(hour) {
            Some("aggregates are not those of the transactions")
        } else {
            None
        };
        if let Some(what) = what {
            let difference =
                Difference { hour: hour.clone(), in_postgres: here.count, in_clickhouse: there.count, what };
            verified.differences.push(difference);
        }
    }
    Ok(verified)
}

fn content<'a>(of: &'a BTreeMap<Hour, Content>, hour: &Hour) -> &'a Content {
    static NOTHING: Content = Content { count: 0, sum: String::new(), checksum: String::new() };
    of.get(hour).unwrap_or(&NOTHING)
}

/// Puts hours on the list, and has them loaded: by a pass of our own, or by the daemon that feeds.
async fn load_again(settings: &Settings, supervisor: &Supervisor, hours: &[Hour]) -> Result<(), SidecarError> {
    let failed = |source| SidecarError::Postgres { doing: "ask for hours to be loaded again", source };
    let client = postgres::connect(&settings.postgres_url).await?.client;
    let (networks, starts): (Vec<&str>, Vec<i64>) =
        hours.iter().map(|hour| (hour.network.as_str(), hour.hours)).unzip();
    client
        .execute(
            "INSERT INTO arx.feed_reloads (network, hour) \
             SELECT t.network, to_timestamp(t.hours * 3600::float8) FROM unnest($1::text[], $2::bigint[]) AS t (network, hours) \
             ON CONFLICT DO NOTHING",
            &[&networks, &starts],
        )
        .await
        .map_err(failed)?;
    let started = Instant::now();
    loop {
        match Feed::open(settings, supervisor).await {
            Ok(mut feed) => {
                feed.pass(settings).await?;
                feed.write_back(settings).await?;
            }
            Err(SidecarError::Taken { .. }) => {}
            Err(error) => return Err(error),
        }
        let row = client.query_one("SELECT count(*) FROM arx.feed_reloads", &[]).await.map_err(failed)?;
        let left: i64 = row.get(0);
        if left == 0 {
            return Ok(());
        }
        if started.elapsed() > PATIENCE {
            return Err(SidecarError::Input {
                detail: format!(
                    "{left} hours are on the list of arx.feed_reloads and were not loaded within {} s; see what the feed says",
                    PATIENCE.as_secs()
                ),
            });
        }
        tokio::time::sleep(settings.feed_idle()).await;
    }
}
