//! Exact sums of amounts that may be beyond 256 bits together.

use std::ops::{Add, AddAssign, SubAssign};

use crate::graph::U256;

/// A sum of fewer than 2^32 amounts of 256 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WideSum {
    low: U256,
    /// Multiples of 2^256.
    high: u32,
}

impl WideSum {
    /// The sum of no amounts.
    pub const ZERO: Self = Self { low: U256::ZERO, high: 0 };

    /// Returns the sum modulo 2^256, and the multiples of 2^256.
    #[must_use]
    pub const fn parts(self) -> (U256, u32) {
        (self.low, self.high)
    }

    /// Returns `None` beyond 256 bits.
    #[must_use]
    pub const fn as_u256(self) -> Option<U256> {
        if self.high == 0 { Some(self.low) } else { None }
    }

    /// Returns the sum, rounded.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        f64::from(self.high).mul_add(2_f64.powi(256), self.low.as_f64())
    }
}

impl From<U256> for WideSum {
    fn from(amount: U256) -> Self {
        Self { low: amount, high: 0 }
    }
}

impl AddAssign<U256> for WideSum {
    #[inline]
    fn add_assign(&mut self, amount: U256) {
        let (low, is_beyond) = self.low.overflowing_add(amount);
        *self = Self { low, high: self.high + u32::from(is_beyond) };
    }
}

/// Takes back an amount that was added.
impl SubAssign<U256> for WideSum {
    #[inline]
    fn sub_assign(&mut self, amount: U256) {
        let (low, is_below) = self.low.overflowing_sub(amount);
        *self = Self { low, high: self.high - u32::from(is_below) };
    }
}

impl Add<U256> for WideSum {
    type Output = Self;

    fn add(mut self, amount: U256) -> Self {
        self += amount;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_leave_a_sum_as_they_entered_it() {
        let amounts = [U256::MAX, U256::ONE, U256::MAX, U256::new(7), U256::MAX - U256::ONE];
        let mut sum = WideSum::ZERO;
        let mut sums = Vec::new();
        for amount in amounts {
            sums.push(sum);
            sum += amount;
        }
        // 3 * 2^256 - 4 + 8
        assert_eq!(sum.parts(), (U256::new(4), 3));
        assert_eq!(sum.as_u256(), None);
        assert!((sum.as_f64() / (3.0 * 2_f64.powi(256)) - 1.0).abs() < 1e-15);
        for (amount, before) in amounts.into_iter().zip(sums).rev() {
            sum -= amount;
            assert_eq!(sum, before);
        }
        assert_eq!(sum.as_u256(), Some(U256::ZERO));
    }
}
