//! How time grows with the table: from a quarter of a million transfers to eight million.
//!
//! A dense graph is put beside itself again and again, its wallets relabelled: copy `c` of wallet `w` is wallet
//! `c · wallets + w`. Side by side the copies would never meet and a search would stay in one of them, so a transfer of copy
//! `c` goes to its target in a copy drawn from 0 to `c`: degrees stay what they are, and a search from the newest copy meets all.

use anyhow::{Context, Result, ensure};
use arx_stack::Stack;

use super::dense::{Transfer, Transfers, address};
use super::side::{Side, session};
use super::upkeep::{NEW_ROWS, refresh_graph};
use super::{CALLS, load};
use crate::growth::{Point, SMALLEST};
use crate::timing::median;

/// Wallets of one copy.
const COPY_WALLETS: u32 = 25_000;
const SEED: u64 = 3;

/// Refreshes and builds at each size.
const REPEATS: usize = 3;

/// Primary key and indexes that neither the graph nor this measurement reads: with them, eight million rows take minutes to load.
const DROP_INDEXES: &str = "ALTER TABLE arx.transactions DROP CONSTRAINT transactions_pkey; \
     DROP INDEX arx.idx_transactions_hash; DROP INDEX arx.idx_transactions_from_addr; DROP INDEX arx.idx_transactions_to_addr";

/// The transfers of all copies, without end.
struct Copies {
    random: fastrand::Rng,
    one: Transfers,
    left: u64,
    copy: u32,
    sequence: u64,
}

impl Copies {
    fn new() -> Self {
        let one = Transfers::new(SEED, COPY_WALLETS);
        Self { random: fastrand::Rng::with_seed(SEED + 1), one, left: SMALLEST, copy: 0, sequence: 0 }
    }
}

impl Iterator for Copies {
    type Item = Transfer;

    fn next(&mut self) -> Option<Transfer> {
        if self.left == 0 {
            self.one = Transfers::new(SEED, COPY_WALLETS);
            self.left = SMALLEST;
            self.copy += 1;
        }
        self.left -= 1;
        let transfer = self.one.next()?;
        let sequence = self.sequence;
        self.sequence += 1;
        let target_copy = self.random.u32(..=self.copy);
        let source = self.copy * COPY_WALLETS + transfer.source;
        let target = target_copy * COPY_WALLETS + transfer.target;
        Some(Transfer { sequence, source, target, ..transfer })
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
        ensure!(built.transfers == size as i64, "the file holds {} transfers of {size}", built.transfers);
        loaded = size;

        let newest = (size / SMALLEST) as u32 - 1;
        let sql = "SELECT * FROM arx.wallet_reach($1, 'ethereum', 3)";
        let side = Side::prepare(&client, sql, vec![vec![Box::new(address(newest * COPY_WALLETS))]], CALLS).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_relabelled_and_reach_back() {
        let copy = SMALLEST as usize;
        let transfers: Vec<Transfer> = Copies::new().take(3 * copy).collect();
        let (first, third) = (&transfers[..copy], &transfers[2 * copy..]);
        assert!(first.iter().all(|one| one.source < COPY_WALLETS && one.target < COPY_WALLETS));
        for (one, other) in first.iter().zip(third) {
            assert_eq!(other.source, one.source + 2 * COPY_WALLETS);
            assert_eq!(other.target % COPY_WALLETS, one.target);
        }
        for back in 0..3 {
            let there = third.iter().filter(|one| one.target / COPY_WALLETS == back).count();
            assert!((0.32..0.35).contains(&(there as f64 / copy as f64)), "{there}");
        }
        assert!(transfers.iter().enumerate().all(|(place, one)| one.sequence == place as u64));
    }
}
