//! Features of the times of transfers, counted from the wallet's own first transfer: the calendar
//! is never seen.

use super::catalogue::TimeFeatures;
use super::own::OwnTransfer;
use super::values::ratio;

const SECOND: f64 = 1e6;
const DAY: u64 = 86_400_000_000;

/// Buffers for the times of one wallet.
#[derive(Debug, Default)]
pub(super) struct Times {
    all: Vec<i64>,
    gaps: Vec<u64>,
}

/// Times of all transfers of a wallet; NaN where they are undefined.
#[derive(Debug, Clone, Copy)]
struct Rhythm {
    /// Time of the first transfer, in microseconds.
    first: i64,
    /// Seconds from the first transfer to the last.
    lifetime: f64,
    /// Mean gap, in seconds.
    gap_mean: f64,
    /// Median gap, in seconds.
    gap_median: f64,
    /// Gap that a tenth do not exceed, in seconds.
    gap_short: f64,
    /// Standard deviation / mean of the gaps.
    gap_variation: f64,
    /// Longest gap / lifetime.
    gap_longest_share: f64,
    /// Days of 24 hours since the first transfer that have a transfer.
    active_days: f64,
}

/// Returns the seconds from one moment to a later one.
fn seconds(from: i64, to: i64) -> f64 {
    micros(from, to) as f64 / SECOND
}

/// Returns the microseconds from one moment to a later one.
pub(super) fn micros(from: i64, to: i64) -> u64 {
    u64::try_from(to.saturating_sub(from)).unwrap_or(0)
}

/// Returns the seconds from the first transfer to the last; NaN for fewer than two.
fn span(transfers: &[OwnTransfer]) -> f64 {
    match transfers {
        [first, .., last] => seconds(first.time, last.time),
        _ => f64::NAN,
    }
}

/// Returns the mean time of one side's transfers since a moment, in seconds.
fn centre(transfers: &[OwnTransfer], first: i64) -> f64 {
    let sum: u128 = transfers.iter().map(|transfer| u128::from(micros(first, transfer.time))).sum();
    if transfers.is_empty() { f64::NAN } else { sum as f64 / SECOND / transfers.len() as f64 }
}

/// Returns the time of the last payment less that of the last receipt, in seconds.
fn last_sent_delay(received: &[OwnTransfer], sent: &[OwnTransfer]) -> f64 {
    match (received.last(), sent.last()) {
        (Some(receipt), Some(payment)) => seconds(receipt.time, payment.time) - seconds(payment.time, receipt.time),
        _ => f64::NAN,
    }
}

/// Returns the value that a `share` of all do not exceed; NaN for no values. Reorders the values.
fn quantile(values: &mut [u64], share: f64) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    let index = ((values.len() - 1) as f64 * share) as usize;
    *values.select_nth_unstable(index).1 as f64
}

impl Times {
    /// Returns the features of the times of both sides, each in the order of time. O(n).
    pub(super) fn features(&mut self, received: &[OwnTransfer], sent: &[OwnTransfer]) -> TimeFeatures {
        let rhythm = self.rhythm(received, sent);
        TimeFeatures {
            lifetime: rhythm.lifetime,
            received_span: span(received),
            sent_span: span(sent),
            received_span_share: ratio(span(received), rhythm.lifetime),
            sent_centre: ratio(centre(sent, rhythm.first), rhythm.lifetime),
            active_days: rhythm.active_days,
            gap_mean: rhythm.gap_mean,
            gap_median: rhythm.gap_median,
            gap_short: rhythm.gap_short,
            gap_variation: rhythm.gap_variation,
            gap_longest_share: rhythm.gap_longest_share,
            received_gap_median: self.gap_median(received),
            sent_gap_median: self.gap_median(sent),
            onward_delay: self.onward_delay(received, sent),
            last_sent_delay: last_sent_delay(received, sent),
        }
    }

    fn rhythm(&mut self, received: &[OwnTransfer], sent: &[OwnTransfer]) -> Rhythm {
        self.merge(received, sent);
        let first = self.all.first().copied().unwrap_or_default();
        let last = self.all.last().copied().unwrap_or_default();
        self.gaps.clear();
        let (mut squares, mut longest, mut days, mut last_day) = (0.0, 0_u64, 0_u64, None);
        let mut before = first;
        for (index, time) in self.all.iter().enumerate() {
            let day = micros(first, *time) / DAY;
            if last_day != Some(day) {
                days += 1;
                last_day = Some(day);
            }
            if index > 0 {
                let gap = micros(before, *time);
                self.gaps.push(gap);
                longest = longest.max(gap);
                let seconds = gap as f64 / SECOND;
                squares += seconds * seconds;
            }
            before = *time;
        }
        let n = self.gaps.len() as f64;
        let lifetime = if self.gaps.is_empty() { f64::NAN } else { seconds(first, last) };
        let mean = lifetime / n;
        let deviation = libm::sqrt((squares / n - mean * mean).max(0.0));
        Rhythm {
            first,
            lifetime,
            gap_mean: mean,
            gap_median: quantile(&mut self.gaps, 0.5) / SECOND,
            gap_short: quantile(&mut self.gaps, 0.1) / SECOND,
            gap_variation: ratio(deviation, mean),
            gap_longest_share: ratio(longest as f64 / SECOND, lifetime),
            active_days: days as f64,
        }
    }

    /// Merges the times of both sides into `all`.
    fn merge(&mut self, received: &[OwnTransfer], sent: &[OwnTransfer]) {
        self.all.clear();
        let (mut receipts, mut payments) = (received.iter().peekable(), sent.iter().peekable());
        loop {
            let next = match (receipts.peek(), payments.peek()) {
                (Some(receipt), Some(payment)) if receipt.time <= payment.time => receipts.next(),
                (Some(_), None) => receipts.next(),
                (_, Some(_)) => payments.next(),
                (None, None) => break,
            };
            self.all.extend(next.map(|transfer| transfer.time));
        }
    }

    /// Returns the median time between the transfers of one side, in seconds.
    fn gap_median(&mut self, transfers: &[OwnTransfer]) -> f64 {
        self.gaps.clear();
        self.gaps.extend(transfers.windows(2).map(|pair| micros(pair[0].time, pair[1].time)));
        quantile(&mut self.gaps, 0.5) / SECOND
    }

    /// Returns the median time from a receipt to the next payment, in seconds, over the receipts
    /// that a payment follows.
    fn onward_delay(&mut self, received: &[OwnTransfer], sent: &[OwnTransfer]) -> f64 {
        self.gaps.clear();
        let mut payments = sent.iter().peekable();
        for receipt in received {
            while payments.next_if(|payment| payment.time < receipt.time).is_some() {}
            match payments.peek() {
                Some(payment) => self.gaps.push(micros(receipt.time, payment.time)),
                None => break,
            }
        }
        quantile(&mut self.gaps, 0.5) / SECOND
    }
}
