//! How long value stays, first in, first out.

use super::own::Dealing;
use super::times::micros;
use super::values::ratio;
use crate::graph::U256;

const SECOND: f64 = 1e6;
const DAY: u64 = 86_400_000_000;

/// What is told about value held; NaN where there is nothing to tell.
#[derive(Debug, Clone, Copy)]
pub struct Holding {
    /// Seconds, weighted by value.
    pub mean: f64,
    /// Of what was received.
    pub within_day: f64,
    /// Of what was received.
    pub unspent: f64,
}

/// Matches what was sent with what had been received, the oldest first; what a wallet sends beyond that came from elsewhere. Sums are
/// exact: the order in which transfers of one time stand does not change a bit. O(n).
pub fn holding(received: &[Dealing], sent: &[Dealing], total: f64) -> Holding {
    let mut lots = received.iter();
    let mut lot = lots.next();
    let mut rest = lot.map_or(0, |one| one.value);
    let (mut weighted, mut passed, mut quick) = (U256::ZERO, 0_u128, 0_u128);
    for payment in sent {
        let mut need = payment.value;
        while let Some(open) = lot.filter(|open| need > 0 && open.time <= payment.time) {
            let taken = need.min(rest);
            let held = micros(open.time, payment.time);
            weighted = weighted.saturating_add(U256::from(taken).saturating_mul(U256::from(held)));
            passed = passed.saturating_add(taken);
            if held <= DAY {
                quick = quick.saturating_add(taken);
            }
            need -= taken;
            rest -= taken;
            if rest == 0 {
                lot = lots.next();
                rest = lot.map_or(0, |one| one.value);
            }
        }
    }
    let passed = passed as f64;
    Holding {
        mean: ratio(weighted.as_f64() / SECOND, passed),
        within_day: ratio(quick as f64, total),
        unspent: ratio((total - passed).max(0.0), total),
    }
}
