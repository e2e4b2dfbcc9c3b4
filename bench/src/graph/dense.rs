//! The dense graph, which is generated. The same seed gives the same transfers on every machine.
//! Sources are ranks drawn from a bounded power law with exponent 0.75, so that a few wallets send
//! much and most send little. With probability 0.6 a target is a neighbour, `source + 1 + Exp(mean
//! 50)`, else another draw from the power law.

use std::fmt::Write as _;

/// Exponent of the power law.
const EXPONENT: f64 = 0.75;
/// Share of transfers that go to a neighbour.
const NEIGHBOURS: f64 = 0.6;
/// Mean distance of a neighbour, in ranks.
const NEIGHBOUR_DISTANCE: f64 = 50.0;

/// Mean of the exponentially distributed values. As in the real data, one transfer in six is above
/// 4.6 ether (2^62 wei).
const MEAN_ETHER: f64 = 2.6;

/// Time of the first transfer: 2023-01-01 00:00 UTC.
pub const FIRST_TIME: i64 = 1_672_531_200;
/// Duration of 24 months, over which the transfers of a graph are spread evenly.
pub const SECONDS: i64 = 731 * 86_400;

/// Columns of a row of [`write_row`].
pub const COLUMNS: &str = "network, tx_hash, block_number, transaction_index, \"timestamp\", from_address, to_address, value, \
     gas_used, gas_price, status";

/// Finalizer of splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators",
/// 2014). It is one to one, so that different numbers stay different.
const fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// A transfer. Wallets are numbered by rank: wallet 0 sends the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DenseTransfer {
    /// Number of the transfer in order of time, from 0.
    pub sequence: u64,
    pub source: u32,
    pub target: u32,
    pub wei: u128,
}

impl DenseTransfer {
    /// True if the transfer has moved its value. One in a hundred has failed.
    #[must_use]
    pub const fn has_moved(&self) -> bool {
        self.sequence % 100 != 99
    }
}

/// An infinite sequence of transfers of a dense graph.
#[derive(Debug, Clone)]
pub struct DenseTransfers {
    random: fastrand::Rng,
    wallets: u32,
    sequence: u64,
}

impl DenseTransfers {
    #[must_use]
    pub fn new(seed: u64, wallets: u32) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), wallets, sequence: 0 }
    }

    /// Draws a rank from the density x^-0.75 on [1, wallets + 1), by its inverse distribution
    /// function.
    fn rank(&mut self) -> u32 {
        let power = 1.0 - EXPONENT;
        let last = (f64::from(self.wallets) + 1.0).powf(power);
        let x = self.random.f64().mul_add(last - 1.0, 1.0).powf(1.0 / power);
        (x as u32).clamp(1, self.wallets) - 1
    }
}

impl Iterator for DenseTransfers {
    type Item = DenseTransfer;

    fn next(&mut self) -> Option<DenseTransfer> {
        let source = self.rank();
        let target = if self.random.f64() < NEIGHBOURS {
            let distance = -(1.0 - self.random.f64()).ln() * NEIGHBOUR_DISTANCE;
            ((u64::from(source) + 1 + distance as u64) % u64::from(self.wallets)) as u32
        } else {
            self.rank()
        };
        let ether = -(1.0 - self.random.f64()).ln() * MEAN_ETHER;
        let wei = (ether * 1e9) as u128 * 1_000_000_000 + u128::from(self.random.u32(..1_000_000_000));
        let sequence = self.sequence;
        self.sequence += 1;
        Some(DenseTransfer { sequence, source, target, wei })
    }
}

/// Returns the address of a wallet: 40 pseudorandom digits, different for different wallets.
#[must_use]
pub fn address(wallet: u32) -> String {
    let mut text = String::with_capacity(42);
    push_address(&mut text, wallet);
    text
}

fn push_address(text: &mut String, wallet: u32) {
    let first = mix(u64::from(wallet) + 1);
    let (second, third) = (mix(first), mix(first.rotate_left(32)) as u32);
    push(text, format_args!("0x{first:016x}{second:016x}{third:08x}"));
}

/// Appends the row of a transfer in the text format of `COPY`. The first `whole` transfers of the
/// graph fill 24 months, and later ones continue at the same rate.
pub fn write_row(text: &mut String, transfer: &DenseTransfer, whole: u64) {
    let after = (u128::from(transfer.sequence) * SECONDS as u128 / u128::from(whole)) as i64;
    let time = chrono::DateTime::from_timestamp(FIRST_TIME + after, 0).unwrap_or_default().format("%Y-%m-%d %H:%M:%S");
    let hash = mix(transfer.sequence);
    let (ether, rest) = (transfer.wei / 1_000_000_000_000_000_000, transfer.wei % 1_000_000_000_000_000_000);
    // A block every 12 seconds.
    push(text, format_args!("ethereum\t0x{hash:016x}{:016x}{:032x}\t{}\t", mix(hash), transfer.sequence, after / 12));
    push(text, format_args!("{}\t{time}+00\t", transfer.sequence % 200));
    push_address(text, transfer.source);
    text.push('\t');
    push_address(text, transfer.target);
    let status = if transfer.has_moved() { "confirmed" } else { "failed" };
    push(text, format_args!("\t{ether}.{rest:018}\t21000\t{}\t{status}\n", 1_000_000_000 + hash % 50_000_000_000));
}

/// Writing to a `String` cannot fail.
fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(arguments);
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn transfers(seed: u64) -> Vec<DenseTransfer> {
        DenseTransfers::new(seed, 20_000).take(200_000).collect()
    }

    #[test]
    fn equal_seeds_give_equal_transfers_and_different_seeds_do_not() {
        assert_eq!(transfers(7), transfers(7));
        assert_ne!(transfers(7), transfers(8));
        let rows = |seed| {
            let mut text = String::new();
            transfers(seed).iter().take(100).for_each(|transfer| write_row(&mut text, transfer, 200_000));
            text
        };
        assert_eq!(rows(7), rows(7));
    }

    #[test]
    fn sources_follow_the_power_law() {
        let transfers = transfers(1);
        // With density x^-0.75 on [1, n + 1), the share below x is (x^0.25 - 1) / ((n + 1)^0.25 -
        // 1).
        for rank in [1_u32, 10, 1_000, 10_000] {
            let share =
                transfers.iter().filter(|transfer| transfer.source < rank).count() as f64 / transfers.len() as f64;
            let expected = ((f64::from(rank) + 1.0).powf(0.25) - 1.0) / (20_001_f64.powf(0.25) - 1.0);
            assert!((share - expected).abs() < 0.005, "rank {rank}: {share} of {expected}");
        }
    }

    #[test]
    fn targets_are_neighbours_or_drawn_like_sources() {
        let transfers = transfers(2);
        let distance =
            |transfer: &DenseTransfer| (i64::from(transfer.target) - i64::from(transfer.source)).rem_euclid(20_000);
        // Neighbours are much closer than 10,000 ranks, and few wallets beyond that rank are drawn.
        let near = transfers
            .iter()
            .filter(|transfer| transfer.source > 10_000 && (1..=500).contains(&distance(transfer)))
            .count();
        let all = transfers.iter().filter(|transfer| transfer.source > 10_000).count();
        let share = near as f64 / all as f64;
        assert!((0.58..0.63).contains(&share), "{share}");
        let mean = transfers
            .iter()
            .filter(|transfer| transfer.source > 10_000 && (1..=500).contains(&distance(transfer)))
            .map(|transfer| distance(transfer) as f64)
            .sum::<f64>()
            / near as f64;
        assert!((48.0..56.0).contains(&mean), "{mean}");
        assert!(transfers.iter().all(|transfer| transfer.target < 20_000));
    }

    #[test]
    fn a_row_has_all_columns_and_addresses_are_unique() {
        let mut text = String::new();
        let transfer = DenseTransfer { sequence: 99, source: 0, target: 1, wei: 1_500_000_000_000_000_000 };
        write_row(&mut text, &transfer, 100);
        let fields: Vec<&str> = text.trim_end().split('\t').collect();
        assert_eq!(fields.len(), COLUMNS.split(',').count());
        assert_eq!(fields[5], address(0));
        assert_eq!(fields[7], "1.500000000000000000");
        assert_eq!(fields[10], "failed");
        assert!(fields[4].starts_with("2024-12-"), "{}", fields[4]);
        let addresses: HashSet<String> = (0..10_000).map(address).collect();
        assert_eq!(addresses.len(), 10_000);
        assert!(addresses.iter().all(|address| address.len() == 42));
    }
}
