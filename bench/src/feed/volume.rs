//! `aggregates.hourly_volume.vs_postgres_group_by`: daily volumes of a year as the feed settled
//! them, compared with a GROUP BY over the rows.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::warehouse::Warehouse;
use crate::graph::side::session;
use crate::graph::{CALLS, Runs};
use crate::report::Measurement;
use crate::sets::Real;
use crate::timing::{in_turn_async, median, millis};

pub const CASE: &str = "aggregates.hourly_volume.vs_postgres_group_by";

const OURS: &str = "SELECT network, day, transaction_count, total_volume, unique_senders FROM arx.daily_volume \
     WHERE day >= '2017-07-01' AND day < '2018-07-01' ORDER BY network, day";

const PEER: &str = "SELECT network, ((\"timestamp\" AT TIME ZONE 'UTC')::date)::text AS day, count(*), \
         coalesce(trim_scale(sum(value) FILTER (WHERE status <> 'failed')), 0)::text, count(DISTINCT from_address) \
     FROM arx.transactions WHERE \"timestamp\" >= '2017-07-01 00:00:00+00' AND \"timestamp\" < '2018-07-01 00:00:00+00' \
     GROUP BY 1, 2 ORDER BY 1, 2";

/// Allowed relative error of a distinct count, because ClickHouse's `uniq` is approximate.
const TOLERANCE: f64 = 0.01;

/// Volumes of a network on a day.
#[derive(Debug, PartialEq)]
struct Day {
    /// Network, day, transactions and volume, which are equal on both sides.
    exact: (String, String, i64, String),
    senders: i64,
}

/// Runs the measurement.
///
/// # Errors
/// When a side fails, or the results differ.
pub async fn measure(warehouse: &Warehouse<'_>, real: &Real<'_>, runs: Runs) -> Result<Measurement> {
    warehouse.load(true)?;
    warehouse.settle()?;
    let client = session(&real.database, "").await?;
    let peer = client.prepare(PEER).await.context("prepare the GROUP BY")?;
    let engine = &warehouse.engine;

    let rows = client.query(&peer, &[]).await.context("run the GROUP BY")?;
    let peers: Vec<Day> = rows
        .iter()
        .map(|row| Day { exact: (row.get(0), row.get(1), row.get(2), row.get(3)), senders: row.get(4) })
        .collect();
    let ours = engine.query(OURS)?.lines().map(day).collect::<Result<Vec<_>>>()?;
    ensure!(!peers.is_empty(), "PostgreSQL has no transactions in the year");
    ensure!(ours.len() == peers.len(), "{} days in ClickHouse, {} in PostgreSQL", ours.len(), peers.len());
    for (ours, peer) in ours.iter().zip(&peers) {
        ensure!(ours.exact == peer.exact, "{ours:?} in ClickHouse, {peer:?} in PostgreSQL");
        let error = (ours.senders - peer.senders).abs() as f64 / peer.senders as f64;
        ensure!(error <= TOLERANCE, "{ours:?} in ClickHouse, {peer:?} in PostgreSQL");
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
            client.query(&peer, &[]).await.context("run the GROUP BY")?;
            Ok(millis(start))
        },
    )
    .await?;
    let setting = format!(
        "transactions, volume and distinct senders by network and day, {} days of {}, warm; {} runs, with {CALLS} calls \
         each for ours. Ours reads the volumes that the feed settled in its last pass (`daily_volume` in ClickHouse); the \
         peer groups the rows. Counts and sums are equal, distinct counts differ by at most one percent.",
        peers.len(),
        real.name,
        runs.slow
    );
    Ok(Measurement::new(CASE, medians, "ms", false).against("GROUP BY in PostgreSQL", setting))
}

fn day(line: &str) -> Result<Day> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [network, day, transactions, volume, senders] = fields[..] else {
        anyhow::bail!("ClickHouse returned {line:?}")
    };
    let count = |text: &str| text.parse().with_context(|| format!("parse the number {text:?}"));
    Ok(Day { exact: (network.into(), day.into(), count(transactions)?, volume.into()), senders: count(senders)? })
}
