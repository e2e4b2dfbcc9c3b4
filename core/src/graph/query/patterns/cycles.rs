//! Value that returns to its origin.
//!
//! A cycle of wallets is a sequence of `min_length` to `max_length` different wallets, each of
//! which sent to the next and the last to the first, independent of its starting wallet.
//! [`circuits`](super::circuits) enumerates them.
//!
//! - **cycle**: a cycle of wallets, a window that begins at one of its transfers, and a band of
//!   amounts `[(1 - tolerance) * a, a]` (`a` an amount of a transfer of the cycle; with a tolerance
//!   of 1 every amount). Each wallet sent the next a transfer of the band, including the one at
//!   which the window begins. Of all its transfers of the band within the window, at least
//!   `min_focus` went to the next wallet (not required with a tolerance of 1), because hubs that
//!   send all amounts to everyone are on cycles of any amount. Of the bands of a window, the one
//!   with the most transfers counts, of several the highest. Evidence: all transfers of the band
//!   between the wallets, so parallel transfers are one finding. With `ordered`, the evidence is
//!   one transfer a step, each the earliest of the band not before that of the previous step,
//!   around the cycle from the one at which the window begins. Strength: the smallest amount
//!   divided by the largest.
//! - **wash_trading**: a cycle of 2 to `max_wallets` wallets and a window that begins at one of its
//!   transfers, in which each wallet sent the next at least `min_rounds` transfers with a sum of at
//!   least `1 - tolerance` of the largest such sum. So the gain or loss of each wallet is at most
//!   `tolerance` of its flow. Evidence: all transfers from each wallet to its next within the
//!   window. Strength: `(1 - 2^(-rounds / min_rounds)) * (smallest sum / largest sum)`.
//!
//! The measure of a window is its number of transfers. Windows are compared for each cycle of
//! wallets.

use super::bands::{CycleAmounts, Fit};
use super::circuits::{COST, CycleBounds, LONGEST, enumerate, step};
use super::finding::{ExactRatio, FindingDraft, Member, Role, balance, size, sort_long};
use super::options::decimal;
use super::slices::{Slice, for_each};
use super::windows::{CandidateWindow, PendingFindings, WindowFinding, WindowSubject};
use super::{Run, details, end_of, hours};
use crate::graph::budget::{Interrupt, MemoryBudget};
use crate::graph::budget::{Pace, Stop};
use crate::graph::error::SearchError;
use crate::graph::types::U256;
use crate::graph::types::WalletId;

/// A transfer of a cycle.
#[derive(Debug, Clone, Copy)]
pub(super) struct CycleTransfer {
    /// Index of the sending wallet.
    pub step: usize,
    pub member: Member,
}

/// A cycle of wallets in a slice.
pub(super) struct WalletCycle<'s> {
    pub slice: &'s Slice<'s>,
    pub pairs: &'s [u32],
}

/// Memory for the work on the cycles of a slice, and the error when it does not suffice.
pub(super) struct SearchRoom {
    memory: MemoryBudget,
    error: SearchError,
}

impl SearchRoom {
    /// Books bytes.
    pub(super) fn book(&mut self, bytes: usize) -> Result<(), Stop> {
        if self.memory.take(bytes) { Ok(()) } else { Err(self.error.clone().into()) }
    }

    pub(super) const fn give(&mut self, bytes: usize) {
        self.memory.give(bytes);
    }

    /// Books and reserves room for `count` elements of an empty list whose memory is used again.
    pub(super) fn reserve<T>(&mut self, list: &mut Vec<T>, count: usize) -> Result<(), Stop> {
        self.book(count.saturating_sub(list.capacity()) * size_of::<T>())?;
        list.reserve_exact(count);
        Ok(())
    }
}

/// Lists that are filled for one cycle after the other.
#[derive(Default)]
struct CycleScratch {
    rows: Vec<(u32, usize)>,
    all: Vec<CycleTransfer>,
    amounts: CycleAmounts,
}

impl CycleScratch {
    /// Loads the transfers of a cycle by time.
    fn load<W: Interrupt>(
        &mut self,
        cycle: &WalletCycle<'_>,
        room: &mut SearchRoom,
        pace: &mut Pace<'_, W>,
    ) -> Result<(), Stop> {
        let slice = cycle.slice;
        let rows_of = |pair: &u32| slice.rows_of(&slice.pairs[*pair as usize]);
        let count = cycle.pairs.iter().map(|pair| rows_of(pair).len()).sum();
        self.rows.clear();
        self.all.clear();
        self.amounts.clear();
        room.reserve(&mut self.rows, count)?;
        room.reserve(&mut self.all, count)?;
        for (step, pair) in cycle.pairs.iter().enumerate() {
            self.rows.extend(rows_of(pair).iter().map(|row| (*row, step)));
        }
        room.book(size_of_val(&self.rows[..]))?;
        sort_long(&mut self.rows, pace.interrupt(), Ord::cmp);
        room.give(size_of_val(&self.rows[..]));
        for (row, from) in &self.rows {
            step(pace, 0)?;
            self.all.push(CycleTransfer { step: *from, member: *slice.row(*row) });
        }
        Ok(())
    }
}

/// Transfers of one step within a window.
#[derive(Debug, Clone, Copy, Default)]
struct StepTally {
    count: u64,
    sum: U256,
    /// Multiples of 2^256 beyond the sum.
    carried: u64,
}

impl StepTally {
    fn add(&mut self, value: U256) {
        let (sum, overflows) = self.sum.overflowing_add(value);
        (self.count, self.sum, self.carried) = (self.count + 1, sum, self.carried + u64::from(overflows));
    }

    fn remove(&mut self, value: U256) {
        let (sum, overflows) = self.sum.overflowing_sub(value);
        (self.count, self.sum, self.carried) = (self.count - 1, sum, self.carried - u64::from(overflows));
    }
}

/// The transfers of a cycle within a window that begins at one of them.
pub(super) struct CycleWindow<'a> {
    /// All transfers of the cycle, by time.
    pub all: &'a [CycleTransfer],
    first: usize,
    end: usize,
    pub start: i64,
    /// Time at which the window ends, inclusive.
    pub until: i64,
    tallies: [StepTally; LONGEST],
}

impl CycleWindow<'_> {
    pub(super) fn within(&self) -> &[CycleTransfer] {
        &self.all[self.first..self.end]
    }

    #[inline]
    pub(super) const fn holds(&self, time: i64) -> bool {
        time >= self.start && time <= self.until
    }

    /// Reports whether each step has at least that many transfers.
    fn each_step_has(&self, steps: usize, least: u64) -> bool {
        self.tallies[..steps].iter().all(|tally| tally.count >= least)
    }

    /// Returns the smallest and the largest sum of a step, if all fit into 256 bits.
    fn flows(&self, steps: usize) -> Option<(U256, U256)> {
        let tallies = &self.tallies[..steps];
        let sums = || tallies.iter().map(|tally| tally.sum);
        if tallies.iter().any(|tally| tally.carried > 0) { None } else { sums().min().zip(sums().max()) }
    }
}

/// Transfers of a window that make a finding.
#[derive(Debug, Clone, Copy)]
struct Evidence {
    /// Number of transfers.
    length: usize,
    /// Highest amount of their band; `None` for any amount.
    highest: Option<U256>,
}

/// The best window of a cycle.
struct Best {
    start: i64,
    evidence: Vec<CycleTransfer>,
}

/// Definition of a pattern by the transfers of a cycle.
trait CycleRule {
    /// Returns the evidence in a window, if it has more than `least` transfers.
    fn judge<W: Interrupt>(
        &self,
        cycle: &WalletCycle<'_>,
        window: &CycleWindow<'_>,
        least: usize,
        amounts: &mut CycleAmounts,
        room: &mut SearchRoom,
        pace: &mut Pace<'_, W>,
    ) -> Result<Option<Evidence>, Stop>;

    /// Returns the transfers of evidence that was found among those of a window.
    fn transfers(&self, evidence: Evidence, within: &[CycleTransfer], steps: usize) -> Vec<CycleTransfer>;
}

/// Returns the best window of a cycle that begins in a tile: the one with the most evidence, of
/// several the earliest. O(n) and a judgement for each time at which a window may begin.
fn best_window<R: CycleRule, W: Interrupt>(
    rule: &R,
    cycle: &WalletCycle<'_>,
    scratch: &mut CycleScratch,
    length: i64,
    room: &mut SearchRoom,
    pace: &mut Pace<'_, W>,
) -> Result<Option<Best>, Stop> {
    let CycleScratch { all, amounts, .. } = scratch;
    let (tile, steps) = (cycle.slice.tile, cycle.pairs.len());
    let first = all.partition_point(|transfer| transfer.member.time.div_euclid(length) < tile);
    let tallies = [StepTally::default(); LONGEST];
    let mut window = CycleWindow { all, first, end: first, start: 0, until: 0, tallies };
    let mut best: Option<(i64, usize, usize, Evidence)> = None;
    while let Some(transfer) = all.get(window.first).filter(|one| one.member.time.div_euclid(length) == tile) {
        window.start = transfer.member.time;
        window.until = end_of(window.start, length);
        while let Some(transfer) = all.get(window.end).filter(|transfer| transfer.member.time <= window.until) {
            step(pace, 0)?;
            window.tallies[transfer.step].add(transfer.member.value);
            window.end += 1;
        }
        let most = best.as_ref().map_or(0, |(_, _, _, evidence)| evidence.length);
        if window.end - window.first > most.max(steps - 1)
            && let Some(evidence) = rule.judge(cycle, &window, most, amounts, room, pace)?
        {
            best = Some((window.start, window.first, window.end, evidence));
        }
        while let Some(transfer) = all.get(window.first).filter(|transfer| transfer.member.time == window.start) {
            step(pace, 0)?;
            window.tallies[transfer.step].remove(transfer.member.value);
            window.first += 1;
        }
    }
    let Some((start, first, end, evidence)) = best else { return Ok(None) };
    room.book(256 + evidence.length * size_of::<CycleTransfer>())?;
    step(pace, end - first)?;
    Ok(Some(Best { start, evidence: rule.transfers(evidence, &all[first..end], steps) }))
}

/// The pattern `cycle`.
impl CycleRule for Fit {
    fn judge<W: Interrupt>(
        &self,
        cycle: &WalletCycle<'_>,
        window: &CycleWindow<'_>,
        least: usize,
        amounts: &mut CycleAmounts,
        room: &mut SearchRoom,
        pace: &mut Pace<'_, W>,
    ) -> Result<Option<Evidence>, Stop> {
        let steps = cycle.pairs.len();
        if !window.each_step_has(steps, 1) || (self.ordered && least >= steps) {
            return Ok(None);
        }
        if !self.is_open() {
            let best = amounts.best(*self, cycle, window, least, room, pace)?;
            return Ok(best.map(|(highest, total)| Evidence {
                length: if self.ordered { steps } else { total },
                highest: Some(highest),
            }));
        }
        let within = window.within();
        if self.ordered {
            step(pace, within.len())?;
            return Ok(in_order(within, steps).map(|_| Evidence { length: steps, highest: None }));
        }
        Ok(Some(Evidence { length: within.len(), highest: None }))
    }

    fn transfers(&self, evidence: Evidence, within: &[CycleTransfer], steps: usize) -> Vec<CycleTransfer> {
        let is_evidence =
            |transfer: &&CycleTransfer| evidence.highest.is_none_or(|highest| self.has(transfer.member.value, highest));
        let band = || within.iter().filter(is_evidence).copied();
        if self.ordered {
            in_order(&band().collect::<Vec<_>>(), steps).unwrap_or_default()
        } else {
            let mut transfers = Vec::with_capacity(evidence.length);
            transfers.extend(band());
            transfers
        }
    }
}

/// Returns one transfer a step around the cycle, from one of the first time, each the earliest not
/// before the previous one. O(n) in the transfers of a band.
fn in_order(band: &[CycleTransfer], steps: usize) -> Option<Vec<CycleTransfer>> {
    let start = band.first()?.member.time;
    let mut tried = [false; LONGEST];
    band.iter().take_while(|transfer| transfer.member.time == start).find_map(|first| {
        // Those of one step are followed by the same transfers.
        if std::mem::replace(&mut tried[first.step], true) {
            return None;
        }
        let mut ordered = vec![*first];
        let mut from = start;
        for next in 1..steps {
            let wanted = (first.step + next) % steps;
            let later = &band[band.partition_point(|transfer| transfer.member.time < from)..];
            let transfer = later.iter().find(|transfer| transfer.step == wanted)?;
            from = transfer.member.time;
            ordered.push(*transfer);
        }
        Some(ordered)
    })
}

/// The pattern `wash_trading`.
struct WashRule {
    /// Minimum transfers of each step.
    rounds: u64,
    /// Minimum ratio of the sums of two steps.
    share: ExactRatio,
}

impl CycleRule for WashRule {
    fn judge<W: Interrupt>(
        &self,
        cycle: &WalletCycle<'_>,
        window: &CycleWindow<'_>,
        _least: usize,
        _amounts: &mut CycleAmounts,
        _room: &mut SearchRoom,
        _pace: &mut Pace<'_, W>,
    ) -> Result<Option<Evidence>, Stop> {
        let steps = cycle.pairs.len();
        let flows = window.flows(steps).filter(|_| window.each_step_has(steps, self.rounds));
        let is_even = |(smallest, largest): &(U256, U256)| self.share.is_at_most(*smallest, *largest);
        Ok(flows.filter(is_even).map(|_| Evidence { length: window.within().len(), highest: None }))
    }

    fn transfers(&self, _evidence: Evidence, within: &[CycleTransfer], _steps: usize) -> Vec<CycleTransfer> {
        within.to_vec()
    }
}

/// Returns the wallets of a cycle, from the first by address.
fn subject<W>(run: &Run<'_, '_, W>, wallets: &[WalletId]) -> WindowSubject {
    let mut subject = [WalletId::NONE; LONGEST];
    let first = (0..wallets.len()).min_by_key(|index| run.graph.order(wallets[*index])).unwrap_or(0);
    for (index, room) in subject.iter_mut().enumerate().take(wallets.len()) {
        *room = wallets[(first + index) % wallets.len()];
    }
    subject
}

/// Visits every cycle of every slice, and makes findings of the best windows.
fn search<'r, 'g, W: Interrupt, R: CycleRule>(
    run: &mut Run<'r, 'g, W>,
    bounds: &CycleBounds,
    rule: &R,
    draft: impl Fn(&Run<'r, 'g, W>, &[CycleTransfer], &[WalletId]) -> FindingDraft,
) -> Result<(), Stop> {
    let mut waiting = PendingFindings::default();
    let searched = for_each(run, bounds.window, 0, |run, slice| {
        let booked = slice.pairs.len() * COST;
        run.book(booked)?;
        let mut best: Vec<(Vec<u32>, Best)> = Vec::new();
        let mut scratch = CycleScratch::default();
        // Findings take as many bytes again as their evidence.
        let error = super::no_room(&run.room, run.strongest.found.len());
        let mut room = SearchRoom { memory: MemoryBudget::new(run.room.left() / 2), error };
        let outcome = enumerate(slice, bounds, &mut run.pace, |pace, pairs| {
            let cycle = WalletCycle { slice, pairs };
            scratch.load(&cycle, &mut room, pace)?;
            if let Some(window) = best_window(rule, &cycle, &mut scratch, bounds.window, &mut room, pace)? {
                best.push((pairs.to_vec(), window));
            }
            Ok(())
        });
        // A limit of time keeps what was found before it; an error does not.
        let outcome = match outcome {
            Err(Stop::Error(error)) => return Err(Stop::Error(error)),
            outcome => outcome,
        };
        drop(scratch);
        run.room.give(booked);
        let mut findings = Vec::with_capacity(best.len());
        for (pairs, cycle_window) in best {
            let wallets: Vec<WalletId> =
                pairs.iter().map(|pair| slice.wallet(slice.pairs[*pair as usize].from)).collect();
            let measure = cycle_window.evidence.len() as u64;
            let candidate = CandidateWindow { tile: slice.tile, start: cycle_window.start, measure, place: 0 };
            let finding = run.finding(draft(run, &cycle_window.evidence, &wallets))?;
            findings.push(WindowFinding { subject: subject(run, &wallets), window: candidate, finding });
        }
        waiting.next(slice.tile, findings, run);
        run.passed_over += outcome?;
        Ok(())
    });
    waiting.end(run);
    searched
}

pub(super) fn cycles<W: Interrupt>(run: &mut Run<'_, '_, W>) -> Result<(), Stop> {
    let tolerance = run.pattern.ratio("tolerance");
    let share = ExactRatio::new(tolerance).rest();
    let bounds = CycleBounds {
        min_length: run.pattern.size("min_length"),
        max_length: run.pattern.size("max_length"),
        max_fan: run.pattern.size("max_fan"),
        // As exact as the comparison of amounts.
        tolerance: (!share.is_nothing()).then(|| 1.0 - share.ratio()),
        window: run.window(),
    };
    let (focus, ordered) = (run.pattern.ratio("min_focus"), run.pattern.flag("ordered"));
    search(run, &bounds, &Fit { share, focus, ordered }, |run, evidence, wallets| {
        let amounts = || evidence.iter().map(|transfer| transfer.member.value);
        let (least, most) = (amounts().min().unwrap_or_default(), amounts().max().unwrap_or_default());
        let details = details! {
            "length": wallets.len(), "smallest": decimal(least, run.scope.scale), "largest": decimal(most, run.scope.scale),
        };
        round_trip(run, evidence, wallets, balance(least, most), details)
    })
}

pub(super) fn wash_trading<W: Interrupt>(run: &mut Run<'_, '_, W>) -> Result<(), Stop> {
    let share = ExactRatio::new(run.pattern.ratio("tolerance")).rest();
    let least = run.pattern.count("min_rounds");
    let bounds = CycleBounds {
        min_length: 2,
        max_length: run.pattern.size("max_wallets"),
        max_fan: run.pattern.size("max_fan"),
        tolerance: None,
        window: run.window(),
    };
    search(run, &bounds, &WashRule { rounds: least, share }, |run, evidence, wallets| {
        let (smallest, largest) = flows(evidence, wallets.len()).unwrap_or_default();
        let rounds =
            (0..wallets.len()).map(|step| evidence.iter().filter(|transfer| transfer.step == step).count()).min();
        let rounds = rounds.unwrap_or_default() as u64;
        let strength = size(rounds, least) * balance(smallest, largest);
        let details = details! {
            "wallets": wallets.len(), "rounds": rounds, "smallest_flow": decimal(smallest, run.scope.scale),
            "largest_flow": decimal(largest, run.scope.scale),
        };
        round_trip(run, evidence, wallets, strength, details)
    })
}

/// Returns the smallest and the largest sum of a step, if all fit into 256 bits.
fn flows(all: &[CycleTransfer], steps: usize) -> Option<(U256, U256)> {
    let mut sums = [U256::ZERO; LONGEST];
    for transfer in all {
        sums[transfer.step] = sums[transfer.step].checked_add(transfer.member.value)?;
    }
    sums[..steps].iter().min().copied().zip(sums[..steps].iter().max().copied())
}

/// Makes a finding about a cycle, from the wallet that sent first.
fn round_trip<W>(
    run: &Run<'_, '_, W>,
    evidence: &[CycleTransfer],
    wallets: &[WalletId],
    strength: f64,
    mut details: serde_json::Map<String, serde_json::Value>,
) -> FindingDraft {
    let first = evidence.iter().min_by(|a, b| super::finding::compare(run.graph, &a.member, &b.member));
    let start = first.map_or(0, |transfer| transfer.step);
    let round: Vec<WalletId> = (0..wallets.len()).map(|index| wallets[(start + index) % wallets.len()]).collect();
    let times = || evidence.iter().map(|transfer| transfer.member.time);
    let span = times().max().unwrap_or_default().saturating_sub(times().min().unwrap_or_default());
    details.extend(details! { "window_hours": hours(span) });
    FindingDraft {
        strength,
        center: round[0],
        roles: vec![Role::Sequence(round)],
        transfers: evidence.iter().map(|transfer| transfer.member).collect(),
        details,
    }
}
