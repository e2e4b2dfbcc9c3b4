//! `feed.freshness_p99`: from COMMIT in PostgreSQL until ClickHouse shows the rows.

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
use crate::graph::dense::{COLUMNS, Transfers};
use crate::graph::load::copy_text;
use crate::graph::side::session;
use crate::report::Measurement;

/// The case.
pub const CASE: &str = "feed.freshness_p99";

/// Seconds that the specification's readers wait at most.
const TARGET: f64 = 1.0;

/// A batch is a COPY and a transaction of its own: 5,000 rows a second for 20 seconds.
const BATCH: u64 = 500;
const BATCHES: u64 = 200;
const EVERY: Duration = Duration::from_millis(100);
const WALLETS: u32 = 3_000;

/// Between two looks: what a measured time may be too long by.
const LOOK: Duration = Duration::from_millis(4);

/// The rows of a table without reading it. Batches come one after the other, so that the number tells which are in.
const SHOWN: &str = "SELECT count() FROM arx.transaction_events";

/// How many rows ClickHouse showed, and since when.
type Sighting = (Instant, u64);

/// The measurement.
///
/// # Errors
/// When rows are lost, doubled or changed on the way, or do not come.
pub async fn measure(stack: &Stack) -> Result<Measurement> {
    let database = stack.database("freshness")?;
    ensure_this_month(&database)?;
    let engine = ClickHouse::start(stack, &database)?;
    let daemon = Daemon::start(stack, &database)?;
    let client = session(&database, "").await?;

    let mut transfers = Transfers::new(17, WALLETS);
    let is_over = Arc::new(AtomicBool::new(false));
    let (watched, until) = (engine.clone(), Arc::clone(&is_over));
    let watcher = std::thread::spawn(move || watch(&watched, &until));
    let committed = write(&client, &mut transfers).await;
    let arrived = wait_until(LIMIT, || Ok(engine.query(SHOWN)? == (BATCH * BATCHES).to_string()));
    is_over.store(true, Ordering::Release);
    let sightings = watcher.join().map_err(|_| anyhow!("whoever watched ClickHouse panicked"))??;
    let committed = committed?;
    ensure!(arrived?, "not all rows arrived within {LIMIT:?}");
    daemon.stop()?;

    let of_postgres =
        database.query("SELECT count(*), count(DISTINCT tx_hash), trim_scale(sum(value)) FROM arx.transactions")?;
    let of_clickhouse =
        engine.query("SELECT count(), uniqExact(tx_hash), sum(value) FROM arx.transaction_events FINAL")?;
    ensure!(
        of_postgres.replace('|', "\t") == of_clickhouse,
        "{of_postgres} in PostgreSQL became {of_clickhouse} in ClickHouse"
    );

    let mut waits = waits(&committed, &sightings)?;
    waits.sort_by(f64::total_cmp);
    let took = committed.last().zip(committed.first()).map_or(0.0, |(last, first)| (*last - *first).as_secs_f64());
    let setting = format!(
        "`arx-sidecar run` with its default settings and the embedded engine on the same machine; a connection commits {BATCH} rows every {} ms, \
         {BATCHES} times ({:.0} rows/s were reached), blocks of now, {WALLETS} wallets. Of each batch the time from the end of its COMMIT until \
         ClickHouse shows its rows, looked for every {} ms over an open connection. Median {:.3} s, 99 of 100 within {:.3} s, the \
         longest {:.3} s.",
        EVERY.as_millis(),
        (BATCH * (BATCHES - 1)) as f64 / took,
        LOOK.as_millis(),
        at(&waits, 0.5)?,
        at(&waits, 0.99)?,
        at(&waits, 1.0)?,
    );
    let medians = (at(&waits, 0.99)?, TARGET);
    database.drop_now()?;
    Ok(Measurement::new(CASE, medians, "s", false).against("the target of 1 s", setting))
}

/// When each batch was committed.
async fn write(client: &tokio_postgres::Client, transfers: &mut Transfers) -> Result<Vec<Instant>> {
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

/// Rows of a batch in `COPY`'s text format. The batch is the block.
fn text(transfers: &mut Transfers, batch: u64) -> Bytes {
    let now = chrono::DateTime::<chrono::Utc>::from(std::time::SystemTime::now())
        .format("%Y-%m-%d %H:%M:%S%.6f+00")
        .to_string();
    let mut text = String::new();
    for one in transfers.take(BATCH as usize) {
        let (coins, rest) = (one.wei / 1_000_000_000_000_000_000, one.wei % 1_000_000_000_000_000_000);
        // writing to a String cannot fail
        let _ = writeln!(
            text,
            "ethereum\t0x{:064x}\t{batch}\t{}\t{now}\t0x{:040x}\t0x{:040x}\t{coins}.{rest:018}\t21000\t20000000000\tconfirmed",
            one.sequence,
            one.sequence % BATCH,
            one.source,
            one.target,
        );
    }
    text.into()
}

/// Looks at ClickHouse until it is over, and once more then.
fn watch(engine: &ClickHouse, is_over: &AtomicBool) -> Result<Vec<Sighting>> {
    let mut sightings: Vec<Sighting> = Vec::new();
    loop {
        let is_last = is_over.load(Ordering::Acquire);
        let rows = engine.query(SHOWN)?.parse().context("count the rows that ClickHouse shows")?;
        if sightings.last().is_none_or(|(_, before)| *before != rows) {
            sightings.push((Instant::now(), rows));
        }
        if is_last {
            return Ok(sightings);
        }
        std::thread::sleep(LOOK);
    }
}

/// Of each batch, seconds from its commit until its last row was shown. Whoever sees it before the writer knows that it is committed
/// waits for nothing.
fn waits(committed: &[Instant], sightings: &[Sighting]) -> Result<Vec<f64>> {
    let seen = |batch: usize| {
        let rows = BATCH * (batch as u64 + 1);
        sightings.iter().find(|(_, shown)| *shown >= rows).map(|(when, _)| *when)
    };
    committed
        .iter()
        .enumerate()
        .map(|(batch, committed)| {
            let seen = seen(batch).with_context(|| format!("nobody saw batch {batch}"))?;
            Ok(seen.saturating_duration_since(*committed).as_secs_f64())
        })
        .collect()
}

/// The value that a share of all does not exceed, by nearest rank.
fn at(sorted: &[f64], share: f64) -> Result<f64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().context("nothing was measured")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_waits_until_its_last_row_is_shown() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let sightings = [(after(0), 0), (after(150), BATCH + 1), (after(400), 3 * BATCH)];
        let waits = waits(&[after(0), after(100), after(500)], &sightings).unwrap();
        assert_eq!(waits, [0.15, 0.3, 0.0]);
        assert!(super::waits(&[after(0)], &sightings[..1]).is_err());
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let sorted: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(at(&sorted, 0.99).unwrap(), 198.0);
        assert_eq!(at(&sorted, 0.5).unwrap(), 100.0);
        assert_eq!(at(&sorted, 1.0).unwrap(), 200.0);
        assert!(at(&[], 0.5).is_err());
    }
}
