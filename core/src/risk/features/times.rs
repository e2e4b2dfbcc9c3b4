//! When things happened, seen from the wallet's own first transfer: never from the calendar.

use super::own::Dealing;
use super::values::ratio;

const SECOND: f64 = 1e6;
const DAY: u64 = 86_400_000_000;

/// Room for the times of one wallet.
#[derive(Debug, Default)]
pub struct Times {
    all: Vec<i64>,
    gaps: Vec<u64>,
}

/// What is told about the times of all transfers; NaN where there is nothing to tell.
#[derive(Debug, Clone, Copy)]
pub struct Rhythm {
    /// The first transfer, microseconds.
    pub first: i64,
    /// Seconds, as are those below.
    pub lifetime: f64,
    pub gap_mean: f64,
    pub gap_median: f64,
    pub gap_short: f64,
    /// Standard deviation by mean.
    pub gap_variation: f64,
    /// Of the lifetime.
    pub gap_longest_share: f64,
    /// Days.
    pub active_days: f64,
}

/// Seconds from one moment to a later one.
pub fn seconds(from: i64, to: i64) -> f64 {
    micros(from, to) as f64 / SECOND
}

/// Microseconds from one moment to a later one.
pub fn micros(from: i64, to: i64) -> u64 {
    u64::try_from(to.saturating_sub(from)).unwrap_or(0)
}

/// Seconds from the first to the last; undefined for fewer than two.
pub fn span(dealings: &[Dealing]) -> f64 {
    match dealings {
        [first, .., last] => seconds(first.time, last.time),
        _ => f64::NAN,
    }
}

/// The one that `share` of all do not exceed, of those in any order, which is changed; undefined for none.
fn quantile(values: &mut [u64], share: f64) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    let place = ((values.len() - 1) as f64 * share) as usize;
    *values.select_nth_unstable(place).1 as f64
}

impl Times {
    /// Looks at all transfers.
    pub fn look(&mut self, received: &[Dealing], sent: &[Dealing]) -> Rhythm {
        self.all.clear();
        let (mut ins, mut outs) = (received.iter().peekable(), sent.iter().peekable());
        // both are in the order of time
        loop {
            let next = match (ins.peek(), outs.peek()) {
                (Some(one), Some(other)) if one.time <= other.time => ins.next(),
                (Some(_), None) => ins.next(),
                (_, Some(_)) => outs.next(),
                (None, None) => break,
            };
            self.all.extend(next.map(|one| one.time));
        }
        let first = self.all.first().copied().unwrap_or_default();
        let last = self.all.last().copied().unwrap_or_default();
        self.gaps.clear();
        let (mut squares, mut longest, mut days, mut day) = (0.0, 0_u64, 0_u64, None);
        let mut before = first;
        for (place, time) in self.all.iter().enumerate() {
            let today = micros(first, *time) / DAY;
            if day != Some(today) {
                days += 1;
                day = Some(today);
            }
            if place > 0 {
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

    /// The median time between the transfers of one side, in seconds.
    pub fn gap_median(&mut self, dealings: &[Dealing]) -> f64 {
        self.gaps.clear();
        self.gaps.extend(dealings.windows(2).map(|two| micros(two[0].time, two[1].time)));
        quantile(&mut self.gaps, 0.5) / SECOND
    }

    /// The median time from a receipt to the next payment, in seconds, over receipts that a payment follows.
    pub fn onward_delay(&mut self, received: &[Dealing], sent: &[Dealing]) -> f64 {
        self.gaps.clear();
        let mut next = sent.iter().peekable();
        for one in received {
            while next.next_if(|payment| payment.time < one.time).is_some() {}
            match next.peek() {
                Some(payment) => self.gaps.push(micros(one.time, payment.time)),
                None => break,
            }
        }
        quantile(&mut self.gaps, 0.5) / SECOND
    }
}

/// Mean time of one side's transfers since a moment, in seconds.
pub fn centre(dealings: &[Dealing], first: i64) -> f64 {
    let sum: u128 = dealings.iter().map(|one| u128::from(micros(first, one.time))).sum();
    if dealings.is_empty() { f64::NAN } else { sum as f64 / SECOND / dealings.len() as f64 }
}
