//! `feed.freshness_p99`: time from COMMIT in PostgreSQL until ClickHouse shows the rows.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use arx_stack::Stack;
use arx_stack::clickhouse::ClickHouse;
use arx_stack::process::wait_until;
use bytes::Bytes;

use super::daemon::{Daemon, LIMIT, ensure_this_month};
use crate::graph::dense::{COLUMNS, DenseTransfers};
use crate::graph::load::copy_text;
use crate::graph::side::session;
use crate::report::Measurement;

pub const CASE: &str = "feed.freshness_p99";

/// Longest delay in seconds that the specification allows.
const TARGET: f64 = 1.0;

/// Each batch is one COPY in one transaction: 5,000 rows a second for 20 seconds.
const BATCH: u64 = 500;
const BATCHES: u64 = 200;
const EVERY: Duration = Duration::from_millis(100);
const WALLETS: u32 = 3_000;

/// Polling interval, and so the largest error of a measured time.
const POLL: Duration = Duration::from_millis(4);

/// Counts the rows without reading the table. Batches arrive in order, so that the count shows
/// which have arrived.
const COUNT: &str = "SELECT count() FROM arx.transaction_events";

/// A row count, and when ClickHouse first showed it.
type Sighting = (Instant, u64);

/// Runs the measurement.
///
/// # Errors
/// When rows are lost, duplicated or changed on the way, or do not arrive.
pub async fn measure(stack: &Stack) -> Result<Measurement> {
    let database = stack.database("freshness")?;
    ensure_this_month(&database)?;
    let engine = ClickHouse::start(stack, &database)?;
    let daemon = Daemon::start(stack, &database)?;
    let client = session(&database, "").await?;

    let mut transfers = DenseTransfers::new(17, WALLETS);
    let is_over = Arc::new(AtomicBool::new(false));
    let (polled, until) = (engine.clone(), Arc::clone(&is_over));
    let watcher = std::thread::spawn(move || poll(&polled, &until));
    let committed = write(&client, &mut transfers).await;
    let arrived = wait_until(LIMIT, || Ok(engine.query(COUNT)? == (BATCH * BATCHES).to_string()));
    is_over.store(true, Ordering::Release);
    let sightings = watcher.join().map_err(|_| anyhow!("the thread that polls ClickHouse panicked"))??;
    let committed = committed?;
    ensure!(arrived?, "not all rows arrived within {LIMIT:?}");
    daemon.stop()?;

    let in_postgres =
        database.query("SELECT count(*), count(DISTINCT tx_hash), trim_scale(sum(value)) FROM arx.transactions")?;
    let in_clickhouse =
        engine.query("SELECT count(), uniqExact(tx_hash), sum(value) FROM arx.transaction_events FINAL")?;
    ensure!(
        in_postgres.replace('|', "\t") == in_clickhouse,
        "PostgreSQL has {in_postgres}, ClickHouse has {in_clickhouse}"
    );

    let mut delays = delays(&committed, &sightings)?;
    delays.sort_by(f64::total_cmp);
    let duration = committed.last().zip(committed.first()).map_or(0.0, |(last, first)| (*last - *first).as_secs_f64());
    let setting = format!(
        "`arx-sidecar run` with default settings and the embedded engine on the same machine; one connection commits \
         {BATCH} rows every {} ms, {BATCHES} times ({:.0} rows/s were reached), current block times, {WALLETS} wallets. \
         The time of a batch is from the end of its COMMIT until ClickHouse shows its rows, polled every {} ms over an \
         open connection. Median {:.3} s, 99th percentile {:.3} s, maximum {:.3} s.",
        EVERY.as_millis(),
        (BATCH * (BATCHES - 1)) as f64 / duration,
        POLL.as_millis(),
        percentile(&delays, 0.5)?,
        percentile(&delays, 0.99)?,
        percentile(&delays, 1.0)?,
    );
    let medians = (percentile(&delays, 0.99)?, TARGET);
    database.drop_now()?;
    Ok(Measurement::new(CASE, medians, "s", false).against("the target of 1 s", setting))
}

/// Commits the batches. Returns the time of each commit.
async fn write(client: &tokio_postgres::Client, transfers: &mut DenseTransfers) -> Result<Vec<Instant>> {
    let into = format!("arx.transactions ({COLUMNS})");
    let mut committed = Vec::new();
    let start = Instant::now();
    for batch in 0..BATCHES {
        let rows = text(transfers, batch);
        tokio::time::sleep_until((start + EVERY * u32::try_from(batch)?).into()).await;
        copy_text(client, &into, std::iter::once(rows)).await?;
        committed.push(Instant::now());
    }
    Ok(committed)
}

/// Returns the rows of a batch in the text format of `COPY`. The batch number is the block number.
fn text(transfers: &mut DenseTransfers, batch: u64) -> Bytes {
    let now = chrono::DateTime::<chrono::Utc>::from(std::time::SystemTime::now())
        .format("%Y-%m-%d %H:%M:%S%.6f+00")
        .to_string();
    let mut text = String::new();
    for transfer in transfers.take(BATCH as usize) {
        let (coins, rest) = (transfer.wei / 1_000_000_000_000_000_000, transfer.wei % 1_000_000_000_000_000_000);
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "ethereum\t0x{:064x}\t{batch}\t{}\t{now}\t0x{:040x}\t0x{:040x}\t{coins}.{rest:018}\t21000\t20000000000\tconfirmed",
            transfer.sequence,
            transfer.sequence % BATCH,
            transfer.source,
            transfer.target,
        );
    }
    text.into()
}

/// Polls ClickHouse until the end, and once more after it.
fn poll(engine: &ClickHouse, is_over: &AtomicBool) -> Result<Vec<Sighting>> {
    let mut sightings: Vec<Sighting> = Vec::new();
    loop {
        let is_last = is_over.load(Ordering::Acquire);
        let rows = engine.query(COUNT)?.parse().context("count the rows that ClickHouse shows")?;
        if sightings.last().is_none_or(|(_, before)| *before != rows) {
            sightings.push((Instant::now(), rows));
        }
        if is_last {
            return Ok(sightings);
        }
        std::thread::sleep(POLL);
    }
}

/// Returns the seconds from each batch's commit until its last row was shown. The delay is zero if
/// that was before the writer received the confirmation of the commit.
fn delays(committed: &[Instant], sightings: &[Sighting]) -> Result<Vec<f64>> {
    let shown_at = |batch: usize| {
        let rows = BATCH * (batch as u64 + 1);
        sightings.iter().find(|(_, shown)| *shown >= rows).map(|(when, _)| *when)
    };
    committed
        .iter()
        .enumerate()
        .map(|(batch, committed)| {
            let shown = shown_at(batch).with_context(|| format!("batch {batch} was never shown"))?;
            Ok(shown.saturating_duration_since(*committed).as_secs_f64())
        })
        .collect()
}

/// Returns a percentile by nearest rank.
fn percentile(sorted: &[f64], share: f64) -> Result<f64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().context("nothing was measured")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_of_a_batch_ends_when_its_last_row_is_shown() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let sightings = [(after(0), 0), (after(150), BATCH + 1), (after(400), 3 * BATCH)];
        let delays = delays(&[after(0), after(100), after(500)], &sightings).unwrap();
        assert_eq!(delays, [0.15, 0.3, 0.0]);
        assert!(super::delays(&[after(0)], &sightings[..1]).is_err());
    }

    #[test]
    fn percentiles_are_measured_values() {
        let sorted: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(percentile(&sorted, 0.99).unwrap(), 198.0);
        assert_eq!(percentile(&sorted, 0.5).unwrap(), 100.0);
        assert_eq!(percentile(&sorted, 1.0).unwrap(), 200.0);
        assert!(percentile(&[], 0.5).is_err());
    }
}
