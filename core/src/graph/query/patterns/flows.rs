//! One wallet and its amounts: funds that pass through, and amounts just below a threshold.
//!
//! - **pass_through**: a window that begins when the wallet receives, in which it receives and
//!   sends, at least `min_transfers` in all. The sent sum differs from the received sum by at most
//!   `tolerance` of the larger, and the wallet has at no time sent more within the window than it
//!   had received, beyond that tolerance. Its measure is the smaller sum. Strength: one half for
//!   the closeness of the sums, relative to the tolerance, and one half for the speed: the unused
//!   share of the window between the mean times, weighted by value, of receipts and sendings.
//! - **structuring**: a window of the transfers that a wallet sent (or received, with `received`)
//!   with amounts in `[(1 - margin) * threshold, threshold)`, at least `min_transfers` of them,
//!   that together reach the threshold. Its measure is the number of transfers. Without a
//!   threshold, each power of ten of the asset's smallest unit is one, and is examined separately.
//!   Strength: `size * (1/2 + closeness/2)`, where size is `1 - 2^(-transfers / min_transfers)` and
//!   closeness the mean closeness of the amounts to the threshold, relative to the margin.
//!
//! Two pointers move over a wallet's transfers, with a running minimum of what the wallet kept:
//! O(n log n) in the transfers of each wallet.

use std::collections::VecDeque;

use ethnum::I256;

use super::finding::{ExactRatio, FindingDraft, Role, WHOLE, size, sort_long};
use super::options::decimal;
use super::windows::Windows;
use super::{Moved, Run, details, end_of, hours, rounded};
use crate::graph::budget::Interrupt;
use crate::graph::budget::Stop;
use crate::graph::types::U256;
use crate::graph::types::{Side, WalletId};

pub(super) fn pass_through<W: Interrupt>(run: &mut Run<'_, '_, W>) -> Result<(), Stop> {
    let (window, least) = (run.window(), run.pattern.count("min_transfers"));
    let tolerance = run.pattern.ratio("tolerance");
    let near = ExactRatio::new(tolerance).rest();
    let (mut received, mut sent) = (Vec::new(), Vec::new());
    let mut windows: Windows<U256> = Windows::new(window);
    let mut kept = Kept::default();
    let filter = run.filter;
    for center in run.centers()? {
        run.step(0)?;
        if run.graph.transfer_count(center, Side::In) == 0 || run.graph.transfer_count(center, Side::Out) == 0 {
            continue;
        }
        run.load(center, Side::In, &filter, &mut received)?;
        run.load(center, Side::Out, &filter, &mut sent)?;
        let all =
            received.iter().chain(&sent).try_fold(U256::ZERO, |sum, transfer: &Moved| sum.checked_add(transfer.value));
        let Some(all) = all.filter(|_| !sent.is_empty()) else {
            // Sums beyond 256 bits only occur with worthless tokens.
            continue;
        };
        kept.clear(run, sent.len(), all)?;
        let (mut came, mut went) = (U256::ZERO, U256::ZERO);
        let (mut start, mut end, mut out_start, mut out_end) = (0, 0, 0, 0);
        while start < received.len() {
            run.step(0)?;
            let from = received[start].time;
            let until = end_of(from, window);
            while end < received.len() && received[end].time <= until {
                run.step(0)?;
                came += received[end].value;
                end += 1;
            }
            while out_end < sent.len() && sent[out_end].time <= until {
                run.step(0)?;
                went += sent[out_end].value;
                kept.push(&received, &sent[out_end], out_end, near);
                out_end += 1;
            }
            while out_start < out_end && sent[out_start].time < from {
                run.step(0)?;
                went -= sent[out_start].value;
                kept.leave(&sent[out_start], out_start);
                out_start += 1;
            }
            let count = (end - start + out_end - out_start) as u64;
            let (less, more) = (came.min(went), came.max(went));
            if went > U256::ZERO
                && count >= least
                && near.is_at_most(less, more)
                && windows.would_take(from, less)
                && kept.follows(near)
            {
                windows.offer(from, less, start);
            }
            while start < received.len() && received[start].time == from {
                run.step(0)?;
                came -= received[start].value;
                kept.received_before += received[start].value;
                start += 1;
            }
        }
        for candidate in windows.take() {
            let until = end_of(candidate.start, window);
            let came = &received[candidate.place..];
            let came = &came[..came.partition_point(|transfer| transfer.time <= until)];
            let out = sent.partition_point(|transfer| transfer.time < candidate.start)
                ..sent.partition_point(|transfer| transfer.time <= until);
            run.report(passed(center, came, &sent[out], tolerance, window, run.scope.scale))?;
        }
    }
    Ok(())
}

/// Amounts that a wallet had received but not passed on, after each transfer that it sent. The
/// smallest one of a window decides whether the wallet sent only what it had received in it.
#[derive(Debug, Default)]
struct Kept {
    /// Sendings of the window, by number, with the wallet's [`Self::balance`] after each. Those
    /// that a later one is at or below are left out, so the first has the smallest balance.
    smallest: VecDeque<(usize, I256)>,
    /// Sums before the window: receipts, and sendings.
    received_before: U256,
    sent_before: U256,
    /// Receipts and sendings that are in a balance so far.
    arrived: usize,
    received: U256,
    sent: U256,
    /// Binary digits that amounts lose.
    shift: u32,
}

impl Kept {
    /// Starts with a wallet whose transfers add up to `all`.
    fn clear<W: Interrupt>(&mut self, run: &mut Run<'_, '_, W>, sendings: usize, all: U256) -> Result<(), Stop> {
        let mut smallest = std::mem::take(&mut self.smallest);
        smallest.clear();
        let grown = sendings.saturating_sub(smallest.capacity());
        run.book(grown * size_of::<(usize, I256)>())?;
        smallest.reserve_exact(sendings);
        // Balances in millionths of a unit must fit into 255 bits. The last digits of amounts for
        // which they do not fit do not matter.
        let bits = u64::BITS - WHOLE.leading_zeros() + 1;
        let shift = bits.saturating_sub(all.leading_zeros());
        *self = Self { smallest, shift, ..Self::default() };
        Ok(())
    }

    /// Returns all receipts less the share of all sendings that they must cover.
    fn balance(&self, received: U256, sent: U256, near: ExactRatio) -> I256 {
        let millionths = |sum: U256, ratio: u64| (sum >> self.shift) * U256::from(ratio);
        millionths(received, WHOLE).as_i256() - millionths(sent, near.millionths()).as_i256()
    }

    /// Appends a sending to the window. Simultaneous receipts come first.
    fn push(&mut self, received: &[Moved], sending: &Moved, number: usize, near: ExactRatio) {
        while let Some(receipt) = received.get(self.arrived).filter(|receipt| receipt.time <= sending.time) {
            self.received += receipt.value;
            self.arrived += 1;
        }
        self.sent += sending.value;
        let balance = self.balance(self.received, self.sent, near);
        while self.smallest.pop_back_if(|(_, earlier)| *earlier >= balance).is_some() {}
        self.smallest.push_back((number, balance));
    }

    /// Removes the first sending of the window.
    fn leave(&mut self, sending: &Moved, number: usize) {
        self.sent_before += sending.value;
        self.smallest.pop_front_if(|(first, _)| *first == number);
    }

    /// Reports whether the wallet at no time of the window had sent more than it had received in
    /// it, beyond the tolerance.
    fn follows(&self, near: ExactRatio) -> bool {
        let before = self.balance(self.received_before, self.sent_before, near);
        self.smallest.front().is_none_or(|(_, smallest)| *smallest >= before)
    }
}

fn passed(center: WalletId, came: &[Moved], went: &[Moved], tolerance: f64, window: i64, scale: u32) -> FindingDraft {
    let sum = |all: &[Moved]| all.iter().fold(U256::ZERO, |sum, transfer| sum.saturating_add(transfer.value));
    let (sum_in, sum_out) = (sum(came), sum(went));
    let start = came.first().map_or(0, |transfer| transfer.time);
    let mean = |all: &[Moved], sum: U256| {
        let weigh =
            |transfer: &Moved| transfer.time.saturating_sub(start) as f64 * (transfer.value.as_f64() / sum.as_f64());
        all.iter().map(weigh).sum::<f64>()
    };
    let delay = mean(went, sum_out) - mean(came, sum_in);
    let gap = sum_in.max(sum_out).as_f64() - sum_in.min(sum_out).as_f64();
    let gap = gap / sum_in.max(sum_out).as_f64();
    let nearness = if tolerance > 0.0 { (1.0 - gap / tolerance).clamp(0.0, 1.0) } else { 1.0 };
    let soon = (1.0 - delay / window as f64).clamp(0.0, 1.0);
    let ends = [came.last(), went.last()].into_iter().flatten().map(|transfer| transfer.time).max().unwrap_or(start);
    let wallets = |all: &[Moved]| Role::Set(all.iter().map(|transfer| transfer.peer).collect());
    FindingDraft {
        strength: 0.5 * nearness + 0.5 * soon,
        center,
        roles: vec![wallets(came), wallets(went)],
        transfers: came
            .iter()
            .map(|transfer| transfer.received(center))
            .chain(went.iter().map(|transfer| transfer.sent(center)))
            .collect(),
        details: details! {
            "received": decimal(sum_in, scale), "sent": decimal(sum_out, scale),
            "mean_delay_hours": rounded(delay / 3_600_000_000.0), "window_hours": hours(ends.saturating_sub(start)),
        },
    }
}

/// Returns the power of ten above an amount.
fn power_above(value: U256) -> Option<U256> {
    let ten = U256::new(10);
    let mut power = U256::ONE;
    while power <= value {
        power = power.checked_mul(ten)?;
    }
    Some(power)
}

pub(super) fn structuring<W: Interrupt>(run: &mut Run<'_, '_, W>) -> Result<(), Stop> {
    let (window, least) = (run.window(), run.pattern.count("min_transfers"));
    let (fixed, margin) = (run.pattern.amount("threshold"), run.pattern.ratio("margin"));
    let below = ExactRatio::new(margin).rest();
    let side = if run.pattern.flag("received") { Side::In } else { Side::Out };
    let mut moved = Vec::new();
    let mut windows = Windows::new(window);
    let filter = run.filter;
    for center in run.centers()? {
        run.step(0)?;
        if (run.graph.transfer_count(center, side) as u64) < least {
            continue;
        }
        run.load(center, side, &filter, &mut moved)?;
        run.step(moved.len())?;
        let mut near: Vec<(U256, Moved)> = moved
            .iter()
            .filter_map(|transfer| Some((fixed.or_else(|| power_above(transfer.value))?, *transfer)))
            .filter(|(threshold, transfer)| transfer.value < *threshold && below.is_at_most(transfer.value, *threshold))
            .collect();
        sort_long(&mut near, run.pace.interrupt(), |a, b| a.0.cmp(&b.0));
        for of_one in near.chunk_by(|a, b| a.0 == b.0) {
            let threshold = of_one[0].0;
            let (mut start, mut end) = (0, 0);
            while start < of_one.len() {
                run.step(0)?;
                let from = of_one[start].1.time;
                while end < of_one.len() && of_one[end].1.time <= end_of(from, window) {
                    end += 1;
                }
                if (end - start) as u64 >= least && reaches(&of_one[start..end], threshold) {
                    windows.offer(from, (end - start) as u64, start);
                }
                while start < of_one.len() && of_one[start].1.time == from {
                    start += 1;
                }
            }
            for candidate in windows.take() {
                let first = candidate.place;
                let within = &of_one[first..first + usize::try_from(candidate.measure).unwrap_or_default()];
                run.report(structured(side, center, within, (threshold, margin), least, run.scope.scale))?;
            }
        }
    }
    Ok(())
}

/// Reports whether the sum of amounts reaches a threshold.
fn reaches(of_one: &[(U256, Moved)], threshold: U256) -> bool {
    let mut sum = U256::ZERO;
    of_one.iter().any(|(_, transfer)| {
        sum = sum.saturating_add(transfer.value);
        sum >= threshold
    })
}

fn structured(
    side: Side,
    center: WalletId,
    within: &[(U256, Moved)],
    (threshold, margin): (U256, f64),
    least: u64,
    scale: u32,
) -> FindingDraft {
    let count = within.len() as u64;
    let far = |value: U256| (threshold.as_f64() - value.as_f64()) / (margin * threshold.as_f64());
    let closeness = within.iter().map(|(_, transfer)| 1.0 - far(transfer.value)).sum::<f64>() / count.max(1) as f64;
    let span = within.last().map_or(0, |last| last.1.time.saturating_sub(within[0].1.time));
    FindingDraft {
        strength: size(count, least) * (0.5 + 0.5 * closeness.clamp(0.0, 1.0)),
        center,
        roles: vec![Role::Set(within.iter().map(|(_, transfer)| transfer.peer).collect())],
        transfers: within.iter().map(|(_, transfer)| transfer.on(side, center)).collect(),
        details: details! {
            "threshold": decimal(threshold, scale), "below_threshold": count, "closeness": rounded(closeness),
            "window_hours": hours(span),
        },
    }
}
