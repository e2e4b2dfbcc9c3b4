//! Features of the time that received value stays in a wallet, matched first in, first out.

use super::catalogue::HoldingFeatures;
use super::own::OwnTransfer;
use super::times::micros;
use super::values::ratio;
use crate::graph::U256;

const SECOND: f64 = 1e6;
const DAY: u64 = 86_400_000_000;

/// Matches payments with earlier receipts, the oldest first; `total` is the sum of the receipts. A
/// payment beyond what was received came from elsewhere and is ignored. Sums are exact, so the
/// order of transfers with the same time does not change a bit of the result. O(n).
pub(super) fn holding_features(received: &[OwnTransfer], sent: &[OwnTransfer], total: f64) -> HoldingFeatures {
    let mut lots = received.iter();
    let mut lot = lots.next();
    let mut rest = lot.map_or(0, |receipt| receipt.value);
    let (mut weighted, mut passed_on, mut within_day) = (U256::ZERO, 0_u128, 0_u128);
    for payment in sent {
        let mut need = payment.value;
        while let Some(open) = lot.filter(|open| need > 0 && open.time <= payment.time) {
            let taken = need.min(rest);
            let held = micros(open.time, payment.time);
            weighted = weighted.saturating_add(U256::from(taken).saturating_mul(U256::from(held)));
            passed_on = passed_on.saturating_add(taken);
            if held <= DAY {
                within_day = within_day.saturating_add(taken);
            }
            need -= taken;
            rest -= taken;
            if rest == 0 {
                lot = lots.next();
                rest = lot.map_or(0, |receipt| receipt.value);
            }
        }
    }
    let passed_on = passed_on as f64;
    HoldingFeatures {
        holding_time: ratio(weighted.as_f64() / SECOND, passed_on),
        passed_on_share: ratio(within_day as f64, total),
        unspent_share: ratio((total - passed_on).max(0.0), total),
    }
}
