//! The band of amounts of a cycle within a window that holds the most transfers.
//!
//! The transfers of a cycle are sorted by amount once. For each window, two indexes move down that
//! list, one at the highest amount of the band and one below its lowest, so a window costs at most
//! O(n log n) in the transfers of its cycle and in those that its wallets sent.

use std::collections::BTreeSet;

use super::circuits::{LONGEST, step};
use super::cycles::{CycleTransfer, CycleWindow, SearchRoom, WalletCycle};
use super::finding::{ExactRatio, sort_long};
use super::slices::Slice;
use crate::graph::budget::{Interrupt, Pace, Stop};
use crate::graph::types::U256;

/// Number of times that all transfers of a sender may be read before they are sorted by amount. Few
/// windows do not repay the sort.
const SCANS: usize = if cfg!(test) { 1 } else { 16 };

/// Rows processed between two cancellation checks.
const ROWS_PER_CHECK: usize = 1 << 12;

/// Bytes of an entry of a set of transfers.
const SET_ENTRY: usize = 16;

/// Criteria for amounts of a band.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fit {
    /// Minimum ratio of two amounts.
    pub share: ExactRatio,
    /// Minimum share of a wallet's transfers of the band that goes to the next wallet.
    pub focus: f64,
    /// The transfers follow each other in time around the cycle.
    pub ordered: bool,
}

impl Fit {
    pub(super) fn has(self, value: U256, highest: U256) -> bool {
        value <= highest && self.share.is_at_most(value, highest)
    }

    /// Reports whether every amount fits.
    pub(super) fn is_open(self) -> bool {
        self.share.is_nothing()
    }
}

/// A transfer of a cycle, as far as bands need it.
#[derive(Debug, Clone, Copy)]
struct Amount {
    value: U256,
    time: i64,
    /// Its index in the order of time.
    index: u32,
    step: u32,
}

/// Transfers of a band that is being moved.
#[derive(Debug, Default)]
struct BandTally {
    by_step: [usize; LONGEST],
    total: usize,
    /// Steps with at least one transfer.
    filled: usize,
    /// Transfers at the time at which the window begins.
    at_start: usize,
}

impl BandTally {
    fn add(&mut self, amount: &Amount, start: i64) {
        let count = &mut self.by_step[amount.step as usize];
        self.filled += usize::from(*count == 0);
        *count += 1;
        self.total += 1;
        self.at_start += usize::from(amount.time == start);
    }

    fn remove(&mut self, amount: &Amount, start: i64) {
        let count = &mut self.by_step[amount.step as usize];
        *count -= 1;
        self.filled -= usize::from(*count == 0);
        self.total -= 1;
        self.at_start -= usize::from(amount.time == start);
    }
}

/// Transfers that a wallet of the cycle sent, to anyone.
#[derive(Debug, Default)]
struct SentAmounts {
    /// Amounts and times, highest amount first, once they are sorted.
    rows: Vec<(U256, i64)>,
    is_sorted: bool,
    /// Rows read one by one for this cycle.
    scanned: usize,
    /// The band of the window in progress.
    band: Option<SentBand>,
}

#[derive(Debug)]
struct SentBand {
    top: usize,
    low: usize,
    count: usize,
}

impl SentAmounts {
    /// Returns the number of transfers of a band within a window. Bands of one window must come in
    /// descending order.
    fn count<W: Interrupt>(
        &mut self,
        slice: &Slice<'_>,
        sent: &[u32],
        (fit, highest): (Fit, U256),
        window: &CycleWindow<'_>,
        room: &mut SearchRoom,
        pace: &mut Pace<'_, W>,
    ) -> Result<usize, Stop> {
        let within = slice.between(sent, window.start, window.until);
        if !self.is_sorted {
            if self.scanned + within.len() <= SCANS * sent.len() {
                self.scanned += within.len();
                let mut count = 0;
                for rows in within.chunks(ROWS_PER_CHECK) {
                    step(pace, rows.len())?;
                    count += rows.iter().filter(|row| fit.has(slice.row(**row).value, highest)).count();
                }
                return Ok(count);
            }
            self.sort(slice, sent, room, pace)?;
        }
        let rows = &self.rows;
        let holds = |row: &(U256, i64)| usize::from(window.holds(row.1));
        let band = self.band.get_or_insert_with(|| {
            let top = rows.partition_point(|row| row.0 > highest);
            SentBand { top, low: top, count: 0 }
        });
        while let Some(row) = rows.get(band.low).filter(|row| row.0 > highest || fit.has(row.0, highest)) {
            band.count += holds(row);
            band.low += 1;
            step(pace, 0)?;
        }
        while let Some(row) = rows.get(band.top).filter(|row| row.0 > highest) {
            band.count -= holds(row);
            band.top += 1;
            step(pace, 0)?;
        }
        Ok(band.count)
    }

    fn sort<W: Interrupt>(
        &mut self,
        slice: &Slice<'_>,
        sent: &[u32],
        room: &mut SearchRoom,
        pace: &mut Pace<'_, W>,
    ) -> Result<(), Stop> {
        room.reserve(&mut self.rows, sent.len())?;
        for rows in sent.chunks(ROWS_PER_CHECK) {
            step(pace, rows.len())?;
            self.rows.extend(rows.iter().map(|row| (slice.row(*row).value, slice.row(*row).time)));
        }
        room.sort(&mut self.rows, pace, |a, b| b.0.cmp(&a.0))?;
        self.is_sorted = true;
        Ok(())
    }
}

/// The amounts of the cycle in progress. Its memory is used for one cycle after the other.
#[derive(Debug, Default)]
pub(super) struct CycleAmounts {
    /// Transfers of the cycle, highest amount first, once they are sorted.
    by_amount: Vec<Amount>,
    sent: [SentAmounts; LONGEST],
    /// Transfers of the band by step, in the order of time, if they must follow each other.
    in_band: [BTreeSet<u32>; LONGEST],
}

impl CycleAmounts {
    /// Starts with another cycle.
    pub(super) fn clear(&mut self) {
        self.by_amount.clear();
        for sent in &mut self.sent {
            sent.rows.clear();
            (sent.is_sorted, sent.scanned) = (false, 0);
        }
    }

    /// Returns the highest amount and the number of transfers of the band with the most transfers,
    /// of several the highest one, if it has more than `least` transfers. A band has a transfer of
    /// each step and one at the time at which the window begins.
    pub(super) fn best<W: Interrupt>(
        &mut self,
        fit: Fit,
        cycle: &WalletCycle<'_>,
        window: &CycleWindow<'_>,
        least: usize,
        room: &mut SearchRoom,
        pace: &mut Pace<'_, W>,
    ) -> Result<Option<(U256, usize)>, Stop> {
        let steps = cycle.pairs.len();
        if self.by_amount.is_empty() {
            self.sort(window.all, room, pace)?;
        }
        let booked = if fit.ordered { window.within().len() * SET_ENTRY } else { 0 };
        room.book(booked)?;
        self.in_band.iter_mut().for_each(BTreeSet::clear);
        let Self { by_amount, sent, in_band } = self;
        sent.iter_mut().for_each(|sent| sent.band = None);
        let at_start =
            || window.within().iter().map(|transfer| transfer.member).take_while(|member| member.time == window.start);
        let mut bounds = (U256::MAX, U256::ZERO);
        for member in at_start() {
            bounds = (bounds.0.min(member.value), bounds.1.max(member.value));
            step(pace, 0)?;
        }
        // A band has an amount of the window's first time, so it lies within these bounds.
        let (lowest, highest) = bounds;
        let mut top = by_amount.partition_point(|amount| !fit.has(highest, amount.value) && amount.value > highest);
        let bottom = by_amount.partition_point(|amount| amount.value >= lowest || fit.has(amount.value, lowest));
        let mut best: Option<(U256, usize)> = None;
        let mut least = least.max(steps - 1);
        let mut low = top;
        let mut band = BandTally::default();
        while top < bottom && bottom - top > least {
            let highest = by_amount[top].value;
            if highest < lowest {
                break;
            }
            while low < bottom && fit.has(by_amount[low].value, highest) {
                step(pace, 0)?;
                let amount = &by_amount[low];
                if window.holds(amount.time) {
                    band.add(amount, window.start);
                    if fit.ordered {
                        in_band[amount.step as usize].insert(amount.index);
                    }
                }
                low += 1;
            }
            let mut next = top;
            let mut is_amount = false;
            while next < bottom && by_amount[next].value == highest {
                is_amount |= window.holds(by_amount[next].time);
                next += 1;
                step(pace, 0)?;
            }
            if is_amount
                && band.total > least
                && band.filled == steps
                && band.at_start > 0
                && (!fit.ordered || follows(in_band, steps, window))
                && is_focused(sent, fit, highest, &band, cycle, window, room, pace)?
            {
                best = Some((highest, band.total));
                if fit.ordered {
                    // Each band gives one transfer a step.
                    break;
                }
                least = band.total;
            }
            for amount in &by_amount[top..next] {
                step(pace, 0)?;
                if window.holds(amount.time) {
                    band.remove(amount, window.start);
                    if fit.ordered {
                        in_band[amount.step as usize].remove(&amount.index);
                    }
                }
            }
            top = next;
        }
        room.give(booked);
        Ok(best)
    }

    fn sort<W: Interrupt>(
        &mut self,
        all: &[CycleTransfer],
        room: &mut SearchRoom,
        pace: &mut Pace<'_, W>,
    ) -> Result<(), Stop> {
        room.reserve(&mut self.by_amount, all.len())?;
        for (index, transfer) in (0..).zip(all) {
            step(pace, 0)?;
            let (value, time) = (transfer.member.value, transfer.member.time);
            self.by_amount.push(Amount { value, time, index, step: transfer.step as u32 });
        }
        room.sort(&mut self.by_amount, pace, |a, b| b.value.cmp(&a.value))
    }
}

/// Reports whether a transfer of each step follows that of the previous step, around the cycle from
/// one at the time at which the window begins.
fn follows(in_band: &[BTreeSet<u32>; LONGEST], steps: usize, window: &CycleWindow<'_>) -> bool {
    let time = |index: u32| window.all[index as usize].member.time;
    (0..steps).any(|first| {
        let mut from = window.start;
        in_band[first].first().is_some_and(|index| time(*index) == from)
            && (1..steps).all(|next| {
                let earliest = window.all.partition_point(|transfer| transfer.member.time < from) as u32;
                let next = in_band[(first + next) % steps].range(earliest..).next();
                next.is_some_and(|index| {
                    from = time(*index);
                    true
                })
            })
    })
}

/// Reports whether each wallet sent enough of its transfers of the band within the window to the
/// next.
#[expect(clippy::too_many_arguments, reason = "a band, where it is, and what it may cost")]
fn is_focused<W: Interrupt>(
    sent: &mut [SentAmounts; LONGEST],
    fit: Fit,
    highest: U256,
    band: &BandTally,
    cycle: &WalletCycle<'_>,
    window: &CycleWindow<'_>,
    room: &mut SearchRoom,
    pace: &mut Pace<'_, W>,
) -> Result<bool, Stop> {
    if fit.focus <= 0.0 {
        return Ok(true);
    }
    let slice = cycle.slice;
    for ((pair, on), sent) in cycle.pairs.iter().zip(band.by_step).zip(sent) {
        let of_sender = slice.sent(slice.pairs[*pair as usize].from);
        let all = sent.count(slice, of_sender, (fit, highest), window, room, pace)?;
        if (on as f64) < fit.focus * all as f64 {
            return Ok(false);
        }
    }
    Ok(true)
}

impl SearchRoom {
    /// Sorts with cancellation checks, and books the memory for a copy while it runs.
    fn sort<T: Copy, W: Interrupt>(
        &mut self,
        data: &mut [T],
        pace: &mut Pace<'_, W>,
        compare: impl FnMut(&T, &T) -> std::cmp::Ordering,
    ) -> Result<(), Stop> {
        let bytes = size_of_val(data);
        self.book(bytes)?;
        sort_long(data, pace.interrupt(), compare);
        self.give(bytes);
        Ok(())
    }
}
