//! Growth of times with the size of the table, from 250,000 transfers to eight million.
//! The graph consists of copies of a dense graph with renumbered wallets: copy `c` of wallet `w` is
//! wallet `c · wallets + w`. A transfer of copy `c` goes to its target in a random copy from 0 to
//! `c`, so that the copies are connected: degrees stay the same, and a search from the newest copy
//! reaches all of them.

use anyhow::{Context, Result, ensure};
use arx_stack::Stack;

use super::dense::{DenseTransfer, DenseTransfers, address};
use super::side::{StatementSide, session};
use super::upkeep::{NEW_ROWS, refresh_graph};
use super::{CALLS, load};
use crate::growth::{Point, SMALLEST};
use crate::report::Measurement;
use crate::timing::median;

/// Size of the largest graph of the growth measurement.
const LARGEST: u64 = SMALLEST * 32;

const COPY_WALLETS: u32 = 25_000;
const SEED: u64 = 3;

/// Number of refreshes and builds at each size.
const REPEATS: usize = 3;

/// Drops the primary key and indexes that neither the graph nor this measurement uses. With them,
/// loading eight million rows takes minutes.
const DROP_INDEXES: &str = "ALTER TABLE arx.transactions DROP CONSTRAINT transactions_pkey; \
     DROP INDEX arx.idx_transactions_hash; DROP INDEX arx.idx_transactions_from_addr; DROP INDEX arx.idx_transactions_to_addr";

/// An infinite sequence of transfers of all copies.
struct Copies {
    random: fastrand::Rng,
    transfers: DenseTransfers,
    remaining: u64,
    copy: u32,
    sequence: u64,
}

impl Copies {
    fn new() -> Self {
        let transfers = DenseTransfers::new(SEED, COPY_WALLETS);
        Self { random: fastrand::Rng::with_seed(SEED + 1), transfers, remaining: SMALLEST, copy: 0, sequence: 0 }
    }
}

impl Iterator for Copies {
    type Item = DenseTransfer;

    fn next(&mut self) -> Option<DenseTransfer> {
        if self.remaining == 0 {
            self.transfers = DenseTransfers::new(SEED, COPY_WALLETS);
            self.remaining = SMALLEST;
            self.copy += 1;
        }
        self.remaining -= 1;
        let transfer = self.transfers.next()?;
        let sequence = self.sequence;
        self.sequence += 1;
        let target_copy = self.random.u32(..=self.copy);
        let source = self.copy * COPY_WALLETS + transfer.source;
        let target = target_copy * COPY_WALLETS + transfer.target;
        Some(DenseTransfer { sequence, source, target, ..transfer })
    }
}

/// Measures at 250,000 transfers and every doubling up to `largest`.
///
/// # Errors
/// When loading, building or searching fails.
pub async fn measure(stack: &Stack, largest: u64) -> Result<Vec<Point>> {
    let sizes: Vec<u64> =
        std::iter::successors(Some(SMALLEST), |size| Some(size * 2)).take_while(|size| *size <= largest).collect();
    let last = *sizes.last().with_context(|| format!("the smallest size is {SMALLEST} transfers"))?;
    let database = stack.database("growth")?;
    load::ensure_months(&database)?;
    database.query(DROP_INDEXES)?;
    let (client, writer) = (session(&database, "").await?, session(&database, "").await?);
    let mut transfers = Copies::new();
    let mut points = Vec::new();
    let mut loaded = 0;
    for size in sizes {
        eprintln!("  {size} transfers");
        let first = size - loaded - (REPEATS * NEW_ROWS) as u64;
        load::copy(&writer, "arx.transactions", transfers.by_ref().take(first as usize), last).await?;
        database.query("ANALYZE arx.transactions")?;
        let (mut refreshes, mut builds) = (Vec::new(), Vec::new());
        refresh_graph(&client, true).await?;
        for _ in 0..REPEATS {
            load::copy(&writer, "arx.transactions", transfers.by_ref().take(NEW_ROWS), last).await?;
            let refreshed = refresh_graph(&client, false).await?;
            ensure!(refreshed.merged_rows == NEW_ROWS as i64, "{} rows were merged", refreshed.merged_rows);
            refreshes.push(refreshed.millis);
        }
        let mut built = refresh_graph(&client, true).await?;
        builds.push(built.millis);
        for _ in 1..REPEATS {
            built = refresh_graph(&client, true).await?;
            builds.push(built.millis);
        }
        ensure!(built.transfers == size as i64, "the file contains {} of {size} transfers", built.transfers);
        loaded = size;

        let newest = (size / SMALLEST) as u32 - 1;
        let sql = "SELECT * FROM arx.wallet_reach($1, 'ethereum', 3)";
        let side =
            StatementSide::prepare(&client, sql, vec![vec![Box::new(address(newest * COPY_WALLETS))]], CALLS).await?;
        let answers = side.answers(|row| Ok(row.try_get::<_, i64>("wallets")?)).await?;
        points.push(Point {
            transfers: size,
            wallets: built.wallets,
            reach_ms: side.run().await?,
            reached: answers.iter().flatten().sum(),
            build_ms: median(&builds)?,
            refresh_ms: median(&refreshes)?,
            file_bytes: built.file_bytes,
        });
    }
    database.drop_now()?;
    Ok(points)
}

/// `graph.refresh_10k_8m.vs_250k`: the same refresh of the largest and of the smallest graph, if
/// the largest one has eight million transfers.
#[must_use]
pub fn refresh_ratio(points: &[Point]) -> Option<Measurement> {
    let (small, large) = (points.first()?, points.last().filter(|point| point.transfers == LARGEST)?);
    let setting = format!(
        "{NEW_ROWS} new rows, then `refresh_graph()`, of {} and of {} transfers; medians of {REPEATS}. See the growth.",
        large.transfers, small.transfers
    );
    let medians = (large.refresh_ms, small.refresh_ms);
    Some(
        Measurement::new("graph.refresh_10k_8m.vs_250k", medians, "ms", false)
            .against("the same refresh of the small graph", setting),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_renumbered_and_send_to_earlier_copies() {
        let copy = SMALLEST as usize;
        let transfers: Vec<DenseTransfer> = Copies::new().take(3 * copy).collect();
        let (first, third) = (&transfers[..copy], &transfers[2 * copy..]);
        assert!(first.iter().all(|transfer| transfer.source < COPY_WALLETS && transfer.target < COPY_WALLETS));
        for (original, copied) in first.iter().zip(third) {
            assert_eq!(copied.source, original.source + 2 * COPY_WALLETS);
            assert_eq!(copied.target % COPY_WALLETS, original.target);
        }
        for target_copy in 0..3 {
            let count = third.iter().filter(|transfer| transfer.target / COPY_WALLETS == target_copy).count();
            assert!((0.32..0.35).contains(&(count as f64 / copy as f64)), "{count}");
        }
        assert!(transfers.iter().enumerate().all(|(index, transfer)| transfer.sequence == index as u64));
    }
}
