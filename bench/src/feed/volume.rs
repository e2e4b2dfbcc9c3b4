//! `aggregates.hourly_volume.vs_postgres_group_by`: a year of volumes by day, as the feed settled them, against a GROUP BY over the rows.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::warehouse::Warehouse;
use crate::graph::side::session;
use crate::graph::{CALLS, Runs};
use crate::report::Measurement;
use crate::sets::Real;
use crate::timing::{in_turn_async, median, millis};

/// The case.
pub const CASE: &str = "aggregates.hourly_volume.vs_postgres_group_by";

const OURS: &str = "SELECT network, day, transaction_count, total_volume, unique_senders FROM arx.daily_volume \
     WHERE day >= '2017-07-01' AND day < '2018-07-01' ORDER BY network, day";

const PEER: &str = "SELECT network, ((\"timestamp\" AT TIME ZONE 'UTC')::date)::text AS day, count(*), \
         coalesce(trim_scale(sum(value) FILTER (WHERE status <> 'failed')), 0)::text, count(DISTINCT from_address) \
     FROM arx.transactions WHERE \"timestamp\" >= '2017-07-01 00:00:00+00' AND \"timestamp\" < '2018-07-01 00:00:00+00' \
     GROUP BY 1, 2 ORDER BY 1, 2";

/// By how much of itself a distinct count may be off: ClickHouse's `uniq` is approximate.
const TOLERANCE: f64 = 0.01;

/// A day of a network.
#[derive(Debug, PartialEq)]
struct Day {
    /// What is the same on both sides: network, day, transactions, volume.
    exact: (String, String, i64, String),
    senders: i64,
}

/// The measurement.
///
/// # Errors
/// When a side fails, or the two disagree.
pub async fn measure(warehouse: &Warehouse<'_>, real: &Real<'_>, runs: Runs) -> Result<Measurement> {
    warehouse.load(true)?;
    warehouse.settle()?;
    let client = session(&real.database, "").await?;
    let peer = client.prepare(PEER).await.context("prepare the GROUP BY")?;
    let engine = &warehouse.engine;

    let rows = client.query(&peer, &[]).await.context("ask PostgreSQL")?;
    let peers: Vec<Day> = rows
        .iter()
        .map(|row| Day { exact: (row.get(0), row.get(1), row.get(2), row.get(3)), senders: row.get(4) })
        .collect();
    let ours = engine.query(OURS)?.lines().map(day).collect::<Result<Vec<_>>>()?;
    ensure!(!peers.is_empty(), "PostgreSQL holds no transaction of the year");
    ensure!(ours.len() == peers.len(), "{} days in ClickHouse, {} in PostgreSQL", ours.len(), peers.len());
    for (ours, peer) in ours.iter().zip(&peers) {
        ensure!(ours.exact == peer.exact, "{ours:?} in ClickHouse, {peer:?} in PostgreSQL");
        let off = (ours.senders - peer.senders).abs() as f64 / peer.senders as f64;
        ensure!(off <= TOLERANCE, "{ours:?} in ClickHouse, {peer:?} in PostgreSQL");
    }

    let medians = in_turn_async(
        runs.slow,
        async |_| {
            let mut times = Vec::with_capacity(CALLS);
            for _ in 0..CALLS {
                let start = Instant::now();
                engine.query(OURS)?;
                times.push(millis(start));
            }
            median(&times)
        },
        async |_| {
            let start = Instant::now();
            client.query(&peer, &[]).await.context("ask PostgreSQL")?;
            Ok(millis(start))
        },
    )
    .await?;
    let setting = format!(
        "transactions, volume and distinct senders by network and day of a year, {} days of {}, warm; {} runs, of ours {CALLS} calls each. Ours reads \
         what the feed settled with the last pass (`daily_volume` in ClickHouse); the peer groups the rows. Counts and sums are the same, distinct counts within \
         one percent.",
        peers.len(),
        real.name,
        runs.slow
    );
    Ok(Measurement::new(CASE, medians, "ms", false).against("GROUP BY in PostgreSQL", setting))
}

fn day(line: &str) -> Result<Day> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [network, day, transactions, volume, senders] = fields[..] else { anyhow::bail!("ClickHouse says {line:?}") };
    let count = |text: &str| text.parse().with_context(|| format!("read the number {text:?}"));
    Ok(Day { exact: (network.into(), day.into(), count(transactions)?, volume.into()), senders: count(senders)? })
}
