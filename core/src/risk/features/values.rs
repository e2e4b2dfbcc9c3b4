//! Features of the number and the values of a wallet's own transfers.

use super::catalogue::TransferFeatures;
use super::own::{OwnTransfer, OwnTransfers};

/// Units in a coin.
const COIN: f64 = 1e18;

/// Units in a tenth of a coin.
const TENTH: u64 = 100_000_000_000_000_000;

/// Units in a thousandth of a coin.
const THOUSANDTH: u64 = 1_000_000_000_000_000;

/// Buffer for the values of one wallet.
#[derive(Debug, Default)]
pub(super) struct Values {
    sorted: Vec<u128>,
}

/// Distribution of the values of one side; NaN where it is undefined.
#[derive(Debug, Clone, Copy)]
pub(super) struct Distribution {
    /// Sum, in units.
    pub(super) total: f64,
    /// Mean, in coins.
    mean: f64,
    /// Median, in coins.
    median: f64,
    /// Smallest value, in coins.
    least: f64,
    /// Standard deviation / mean.
    variation: f64,
    /// Largest value / sum.
    top_share: f64,
    /// Share of transfers with the most frequent value.
    common_share: f64,
    /// Entropy, in bits.
    entropy: f64,
    /// Share of multiples of a tenth of a coin, without zero.
    round_share: f64,
    /// Share of multiples of a thousandth of a coin, without zero.
    short_share: f64,
    /// Share of values above zero and below a thousandth of a coin.
    dust_share: f64,
    /// Share of zero values.
    empty_share: f64,
}

const EMPTY: Distribution = Distribution {
    total: 0.0,
    mean: f64::NAN,
    median: f64::NAN,
    least: f64::NAN,
    variation: f64::NAN,
    top_share: f64::NAN,
    common_share: f64::NAN,
    entropy: f64::NAN,
    round_share: f64::NAN,
    short_share: f64::NAN,
    dust_share: f64::NAN,
    empty_share: f64::NAN,
};

/// Returns `part / whole`, or NaN when the whole is not positive.
pub(super) fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { f64::NAN }
}

/// Returns `true` when a value is a multiple of a step, both in units. Most values fit into 64
/// bits, where the division is fast.
fn is_multiple(value: u128, step: u64) -> bool {
    match u64::try_from(value) {
        Ok(value) => value.is_multiple_of(step),
        Err(_) => value.is_multiple_of(u128::from(step)),
    }
}

impl Values {
    /// Describes the values of one side. O(n log n). Sums run over sorted values, so the order of
    /// transfers with the same time does not change a bit of the result.
    pub(super) fn distribution(&mut self, transfers: &[OwnTransfer]) -> Distribution {
        let count = transfers.len();
        if count == 0 {
            return EMPTY;
        }
        self.sorted.clear();
        self.sorted.extend(transfers.iter().map(|transfer| transfer.value));
        if !self.sorted.is_sorted() {
            self.sorted.sort_unstable();
        }
        let n = count as f64;
        let (mut total, mut round, mut short, mut dust, mut empty) = (0_u128, 0_u64, 0_u64, 0_u64, 0_u64);
        let (mut squares, mut entropy, mut common) = (0.0, 0.0, 0_usize);
        // Most values occur once, so the summand of the last run's length is kept.
        let (mut summand_times, mut summand) = (0, 0.0);
        for run in self.sorted.chunk_by(|a, b| a == b) {
            let (value, times) = (run.first().copied().unwrap_or_default(), run.len());
            total = total.saturating_add(value.saturating_mul(times as u128));
            common = common.max(times);
            if times < count {
                if times != summand_times {
                    let p = times as f64 / n;
                    (summand_times, summand) = (times, p * libm::log2(p));
                }
                entropy -= summand;
            }
            let coins = value as f64 / COIN;
            squares += coins * coins * times as f64;
            if value == 0 {
                empty += times as u64;
            } else if value < u128::from(THOUSANDTH) {
                dust += times as u64;
            } else if is_multiple(value, THOUSANDTH) {
                short += times as u64;
                round += if is_multiple(value, TENTH) { times as u64 } else { 0 };
            }
        }
        let (least, largest) = (self.sorted[0] as f64, self.sorted[count - 1] as f64);
        let median = (self.sorted[(count - 1) / 2] as f64 + self.sorted[count / 2] as f64) / 2.0;
        let total = total as f64;
        let mean = total / COIN / n;
        let deviation = libm::sqrt((squares / n - mean * mean).max(0.0));
        let share = |times: u64| times as f64 / n;
        Distribution {
            total,
            mean,
            median: median / COIN,
            least: least / COIN,
            variation: ratio(deviation, mean),
            top_share: ratio(largest, total),
            common_share: common as f64 / n,
            entropy,
            round_share: share(round),
            short_share: share(short),
            dust_share: share(dust),
            empty_share: share(empty),
        }
    }
}

/// Returns the features of a wallet's own transfers, given the values of both sides.
pub(super) fn transfer_features(own: &OwnTransfers, received: &Distribution, sent: &Distribution) -> TransferFeatures {
    let (receipts, payments) = (own.received.len() as f64, own.sent.len() as f64);
    TransferFeatures {
        transactions: receipts + payments,
        received_count_share: ratio(receipts, receipts + payments),
        contracts_created: own.created as f64,
        received_total: received.total / COIN,
        sent_received_ratio: ratio(sent.total, received.total),
        received_mean: received.mean,
        received_median: received.median,
        received_min: received.least,
        received_variation: received.variation,
        received_top_share: received.top_share,
        received_common_share: received.common_share,
        received_entropy: received.entropy,
        received_round_share: received.round_share,
        received_short_share: received.short_share,
        received_dust_share: received.dust_share,
        sent_median: sent.median,
        sent_min: sent.least,
        sent_variation: sent.variation,
        sent_top_share: sent.top_share,
        sent_common_share: sent.common_share,
        sent_round_share: sent.round_share,
        sent_empty_share: sent.empty_share,
        failed_share: ratio(own.failed as f64, own.tried as f64),
    }
}
