//! Costs of steps as integers: sums are exact in any order, and so are ties.

use super::Weight;
use crate::graph::types::U256;

/// Units of a natural logarithm. A share is at least 2^-256, so 32 steps cost less than 2^53 units,
/// which a float holds exactly.
const SHARE_UNITS: f64 = (1_u64 << 40) as f64;

/// Largest age in microseconds, about 9,000 years: 32 steps fit into 64 bits.
const MAX_AGE: u64 = 1 << 58;

const MICROS_PER_DAY: f64 = 86_400e6;

/// Returns the cost of a step by its share of the total; `None` without value. Exact to 16 digits.
pub(super) fn of_share(value: f64, total: f64) -> Option<u64> {
    (value > 0.0).then(|| ((total / value).ln() * SHARE_UNITS).round() as u64)
}

/// Returns the cost of a step by the age of its last transfer.
pub(super) fn of_age(last: i64, now: i64) -> u64 {
    if last < now { now.abs_diff(last).min(MAX_AGE) } else { 0 }
}

/// Returns a cost in the unit of the API.
pub(super) fn shown(weight: Weight, cost: u64) -> f64 {
    match weight {
        Weight::Hops => cost as f64,
        Weight::Value => cost as f64 / SHARE_UNITS,
        Weight::Recency { .. } => cost as f64 / MICROS_PER_DAY,
    }
}

/// A sum of values, nearly all of which are below 2^128, where adding is cheap.
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

    /// Returns `None` beyond 256 bits.
    pub(super) fn sum(&self) -> Option<U256> {
        self.rest.and_then(|rest| rest.checked_add(U256::new(self.low)))
    }
}
