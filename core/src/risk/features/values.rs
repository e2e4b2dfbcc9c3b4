//! How values are distributed.

use super::own::Dealing;

/// Units of a coin.
const COIN: f64 = 1e18;

/// A tenth of a coin, in units.
const TENTH: u64 = 100_000_000_000_000_000;

/// A thousandth.
const THOUSANDTH: u64 = 1_000_000_000_000_000;

/// Room for the values of one wallet.
#[derive(Debug, Default)]
pub struct Values {
    sorted: Vec<u128>,
}

/// What is told about the values of one side; NaN where there is nothing to tell.
#[derive(Debug, Clone, Copy)]
pub struct Distribution {
    /// Their sum, in units.
    pub total: f64,
    /// In coins.
    pub mean: f64,
    /// In coins.
    pub median: f64,
    /// In coins.
    pub least: f64,
    /// Standard deviation by mean.
    pub variation: f64,
    /// The largest, of all.
    pub top_share: f64,
    /// Those of the most common value.
    pub common_share: f64,
    /// Bits.
    pub entropy: f64,
    /// Multiples of a tenth, not zero.
    pub round_share: f64,
    /// Multiples of a thousandth, not zero.
    pub short_share: f64,
    /// Above zero and below a thousandth.
    pub dust_share: f64,
    /// Zero.
    pub empty_share: f64,
}

const NOTHING: Distribution = Distribution {
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

/// `part / whole`, undefined for a share of nothing.
pub fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { f64::NAN }
}

/// Whether a value is a multiple of a step, both in units. Most values fit into 64 bits, where division is fast.
fn is_multiple(value: u128, step: u64) -> bool {
    match u64::try_from(value) {
        Ok(value) => value.is_multiple_of(step),
        Err(_) => value.is_multiple_of(u128::from(step)),
    }
}

impl Values {
    /// Looks at the values of one side. O(n log n). Sums run over sorted values: the order in which transfers of one time stand does not
    /// change a bit.
    pub fn look(&mut self, dealings: &[Dealing]) -> Distribution {
        let count = dealings.len();
        if count == 0 {
            return NOTHING;
        }
        self.sorted.clear();
        self.sorted.extend(dealings.iter().map(|one| one.value));
        if !self.sorted.is_sorted() {
            self.sorted.sort_unstable();
        }
        let n = count as f64;
        let (mut total, mut round, mut short, mut dust, mut empty) = (0_u128, 0_u64, 0_u64, 0_u64, 0_u64);
        let (mut squares, mut entropy, mut common) = (0.0, 0.0, 0_usize);
        // most values occur once: their part is computed once
        let (mut of_times, mut part) = (0, 0.0);
        for run in self.sorted.chunk_by(|a, b| a == b) {
            let (value, times) = (run.first().copied().unwrap_or_default(), run.len());
            total = total.saturating_add(value.saturating_mul(times as u128));
            common = common.max(times);
            if times < count {
                if times != of_times {
                    let p = times as f64 / n;
                    (of_times, part) = (times, p * libm::log2(p));
                }
                entropy -= part;
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
        let (least, most) = (self.sorted[0] as f64, self.sorted[count - 1] as f64);
        let middle = (self.sorted[(count - 1) / 2] as f64 + self.sorted[count / 2] as f64) / 2.0;
        let total = total as f64;
        let mean = total / COIN / n;
        let deviation = libm::sqrt((squares / n - mean * mean).max(0.0));
        let share = |times: u64| times as f64 / n;
        Distribution {
            total,
            mean,
            median: middle / COIN,
            least: least / COIN,
            variation: ratio(deviation, mean),
            top_share: ratio(most, total),
            common_share: common as f64 / n,
            entropy,
            round_share: share(round),
            short_share: share(short),
            dust_share: share(dust),
            empty_share: share(empty),
        }
    }
}
