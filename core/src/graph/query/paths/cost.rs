//! What steps cost, as whole numbers: sums are exact in any order, and equal costs are equal.

use super::Weight;
use crate::graph::types::U256;

/// Units of a natural logarithm. A share is at least 2^-256, so 32 steps cost less than 2^53 units, which a float holds exactly.
const SHARE_UNITS: f64 = (1_u64 << 40) as f64;

/// Microseconds: some 9,000 years, so that 32 steps fit into 64 bits.
const OLDEST: u64 = 1 << 58;

const MICROS_PER_DAY: f64 = 86_400e6;

/// Of a step whose value is that part of the total; `None` without value. With values rounded to floats, so to 16 digits.
pub(super) fn of_share(value: f64, total: f64) -> Option<u64> {
    (value > 0.0).then(|| ((total / value).ln() * SHARE_UNITS).round() as u64)
}

/// Of a step whose last transfer was then.
pub(super) fn of_age(last: i64, now: i64) -> u64 {
    if last < now { now.abs_diff(last).min(OLDEST) } else { 0 }
}

/// As a caller sees it.
pub(super) fn shown(weight: Weight, cost: u64) -> f64 {
    match weight {
        Weight::Hops => cost as f64,
        Weight::Value => cost as f64 / SHARE_UNITS,
        Weight::Recency { .. } => cost as f64 / MICROS_PER_DAY,
    }
}

/// A sum of values that are nearly always below 2^128, where adding is cheap.
#[derive(Debug, Clone, Copy)]
pub(super) struct Total {
    low: u128,
    rest: Option<U256>,
}

impl Total {
    pub(super) const ZERO: Self = Self { low: 0, rest: Some(U256::ZERO) };

    #[inline]
    pub(super) fn add(&mut self, value: U256) {
        let (high, low) = value.into_words();
        match self.low.checked_add(low) {
            Some(sum) if high == 0 => self.low = sum,
            _ => self.rest = self.rest.and_then(|rest| rest.checked_add(value)),
        }
    }

    /// `None` beyond 256 bits.
    pub(super) fn sum(&self) -> Option<U256> {
        self.rest.and_then(|rest| rest.checked_add(U256::new(self.low)))
    }
}
