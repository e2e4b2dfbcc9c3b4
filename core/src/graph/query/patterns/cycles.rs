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

use super::circuits::{COST, CycleBounds, LONGEST, enumerate, step};
use super::finding::{ExactRatio, FindingDraft, Member, Role, balance, size};
use super::options::decimal;
use super::slices::{Slice, for_each};
use super::windows::{CandidateWindow, PendingFindings, WindowFinding, WindowSubject};
use super::{Run, details, end_of, hours};
use crate::graph::budget::{Halt, Interrupt};
use crate::graph::budget::{Pace, Stop};
use crate::graph::types::U256;
use crate::graph::types::WalletId;

/// A transfer of a cycle.
#[derive(Debug, Clone, Copy)]
struct CycleTransfer {
    /// Index of the sending wallet.
    step: usize,
    member: Member,
}

/// Returns the transfers of a cycle by time.
fn transfers(slice: &Slice<'_>, pairs: &[u32], into: &mut Vec<(u32, usize)>, all: &mut Vec<CycleTransfer>) {
    into.clear();
    for (step, pair) in pairs.iter().enumerate() {
        into.extend(slice.rows_of(&slice.pairs[*pair as usize]).iter().map(|row| (*row, step)));
    }
    into.sort_unstable();
    all.clear();
    all.extend(into.iter().map(|(row, step)| CycleTransfer { step: *step, member: *slice.row(*row) }));
}

/// A cycle of wallets in a slice.
struct WalletCycle<'s> {
    slice: &'s Slice<'s>,
    pairs: &'s [u32],
}

/// The best window of a cycle.
struct Best {
    start: i64,
    evidence: Vec<CycleTransfer>,
}

/// Returns the best window of a cycle that begins in a tile, of those for which `evidence` finds
/// any.
fn best_window<W: Interrupt>(
    all: &[CycleTransfer],
    steps: usize,
    (tile, window): (i64, i64),
    pace: &mut Pace<'_, W>,
    mut evidence: impl FnMut(&mut Pace<'_, W>, &[CycleTransfer]) -> Result<Option<Vec<CycleTransfer>>, Stop>,
) -> Result<Option<Best>, Stop> {
    let mut best: Option<Best> = None;
    let mut end = 0;
    let mut last_start = None;
    for (first, transfer) in all.iter().enumerate() {
        let start = transfer.member.time;
        if last_start.replace(start) == Some(start) || start.div_euclid(window) < tile {
            continue;
        }
        if start.div_euclid(window) > tile {
            break;
        }
        while end < all.len() && all[end].member.time <= end_of(start, window) {
            end += 1;
        }
        let within = &all[first..end];
        if within.len() < steps.max(best.as_ref().map_or(0, |best| best.evidence.len() + 1)) {
            continue;
        }
        if let Some(evidence) = evidence(pace, within)?
            && best.as_ref().is_none_or(|best| evidence.len() > best.evidence.len())
        {
            best = Some(Best { start, evidence });
        }
    }
    Ok(best)
}

/// Reports whether each step has at least that many transfers.
fn each_step_has(all: &[CycleTransfer], steps: usize, least: u64) -> bool {
    let mut counts = [0_u64; LONGEST];
    all.iter().for_each(|transfer| counts[transfer.step] += 1);
    counts[..steps].iter().all(|count| *count >= least)
}

/// Criteria for amounts of a band.
#[derive(Debug, Clone, Copy)]
struct Fit {
    /// Minimum ratio of two amounts.
    share: ExactRatio,
    /// Minimum share of a wallet's transfers of the band that goes to the next wallet.
    focus: f64,
    ordered: bool,
}

impl Fit {
    fn has(self, value: U256, highest: U256) -> bool {
        value <= highest && self.share.is_at_most(value, highest)
    }

    /// Reports whether every amount fits.
    fn is_open(self) -> bool {
        self.share.is_nothing()
    }

    /// Reports whether each wallet sent enough of its transfers of the band within the window to
    /// the next.
    fn is_focused<W: Interrupt>(
        self,
        pace: &mut Pace<'_, W>,
        round: &WalletCycle<'_>,
        band: &[CycleTransfer],
        (start, end): (i64, i64),
        highest: U256,
    ) -> Result<bool, Stop> {
        if self.focus <= 0.0 || self.is_open() {
            return Ok(true);
        }
        for (number, pair) in round.pairs.iter().enumerate() {
            let slice = round.slice;
            let all = slice.between(slice.sent(slice.pairs[*pair as usize].from), start, end);
            step(pace, all.len())?;
            let all = all.iter().filter(|row| self.has(slice.row(**row).value, highest)).count();
            let on = band.iter().filter(|transfer| transfer.step == number).count();
            if (on as f64) < self.focus * all as f64 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Returns the band of a window with the most transfers, including the one at which the window
/// begins; of several the highest.
fn banded<W: Interrupt>(
    pace: &mut Pace<'_, W>,
    round: &WalletCycle<'_>,
    within: &[CycleTransfer],
    window: i64,
    fit: Fit,
) -> Result<Option<Vec<CycleTransfer>>, Stop> {
    let steps = round.pairs.len();
    step(pace, within.len())?;
    if !each_step_has(within, steps, 1) {
        return Ok(None);
    }
    let start = within[0].member.time;
    // A band contains one of these.
    let at_start: Vec<U256> = within
        .iter()
        .map(|transfer| transfer.member)
        .take_while(|member| member.time == start)
        .map(|member| member.value)
        .collect();
    let near = |value: U256| at_start.iter().any(|amount| fit.has(value, *amount) || fit.has(*amount, value));
    let within: Vec<CycleTransfer> = within.iter().filter(|transfer| near(transfer.member.value)).copied().collect();
    if !each_step_has(&within, steps, 1) {
        return Ok(None);
    }
    let mut by_value: Vec<U256> = within.iter().map(|transfer| transfer.member.value).collect();
    by_value.sort_unstable_by(|a, b| b.cmp(a));
    by_value.dedup();
    let mut best: Option<Vec<CycleTransfer>> = None;
    for highest in by_value {
        step(pace, within.len())?;
        let band: Vec<CycleTransfer> =
            within.iter().filter(|transfer| fit.has(transfer.member.value, highest)).copied().collect();
        if band.len() >= steps
            && band[0].member.time == start
            && each_step_has(&band, steps, 1)
            && fit.is_focused(pace, round, &band, (start, end_of(start, window)), highest)?
        {
            let evidence = if fit.ordered { in_order(&band, steps) } else { Some(band) };
            if let Some(evidence) = evidence
                && best.as_ref().is_none_or(|best| evidence.len() > best.len())
            {
                best = Some(evidence);
            }
        }
        if fit.is_open() {
            // Every amount is in the band of the highest.
            break;
        }
    }
    Ok(best)
}

/// Returns one transfer a step around the cycle, from one of the first time, each the earliest not
/// before the previous one.
fn in_order(band: &[CycleTransfer], steps: usize) -> Option<Vec<CycleTransfer>> {
    let start = band[0].member.time;
    band.iter().take_while(|transfer| transfer.member.time == start).find_map(|first| {
        let mut ordered = vec![*first];
        let mut from = start;
        for next in 1..steps {
            let wanted = (first.step + next) % steps;
            let transfer = band.iter().find(|transfer| transfer.step == wanted && transfer.member.time >= from)?;
            from = transfer.member.time;
            ordered.push(*transfer);
        }
        Some(ordered)
    })
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

/// Visits every cycle of every slice; `judge` returns the transfers that make a finding and its
/// strength, if any.
fn search<'r, 'g, W: Interrupt>(
    run: &mut Run<'r, 'g, W>,
    bounds: &CycleBounds,
    evidence: impl Fn(&mut Pace<'_, W>, &WalletCycle<'_>, &[CycleTransfer]) -> Result<Option<Vec<CycleTransfer>>, Stop>,
    draft: impl Fn(&Run<'r, 'g, W>, &[CycleTransfer], &[WalletId]) -> FindingDraft,
) -> Result<(), Stop> {
    let window = bounds.window;
    let mut waiting = PendingFindings::default();
    let searched = for_each(run, window, 0, |run, slice| {
        let booked = slice.pairs.len() * COST;
        run.book(booked)?;
        let mut best: Vec<(Vec<u32>, Best)> = Vec::new();
        let (mut rows, mut all) = (Vec::new(), Vec::new());
        let left = run.room.left();
        let mut bytes = 0;
        let mut full = false;
        let tile = (slice.tile, window);
        let outcome = enumerate(slice, bounds, &mut run.pace, |pace, pairs| {
            transfers(slice, pairs, &mut rows, &mut all);
            step(pace, all.len())?;
            let round = WalletCycle { slice, pairs };
            if let Some(cycle_window) =
                best_window(&all, pairs.len(), tile, pace, |pace, within| evidence(pace, &round, within))?
            {
                bytes += 256 + cycle_window.evidence.capacity() * size_of::<CycleTransfer>();
                full = bytes > left / 2;
                best.push((pairs.to_vec(), cycle_window));
                if full {
                    return Err(Stop::Halt(Halt::Wallets));
                }
            }
            Ok(())
        });
        if full {
            return Err(no_room(run));
        }
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

fn no_room<W>(run: &Run<'_, '_, W>) -> Stop {
    super::no_room(&run.room, run.strongest.found.len()).into()
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
    let fit = Fit { share, focus, ordered };
    let evidence = |pace: &mut Pace<'_, W>, round: &WalletCycle<'_>, within: &[CycleTransfer]| {
        banded(pace, round, within, bounds.window, fit)
    };
    search(run, &bounds, evidence, |run, evidence, wallets| {
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
    let evidence = |pace: &mut Pace<'_, W>,
                    round: &WalletCycle<'_>,
                    within: &[CycleTransfer]|
     -> Result<Option<Vec<CycleTransfer>>, Stop> {
        let steps = round.pairs.len();
        step(pace, within.len())?;
        let enough = each_step_has(within, steps, least);
        Ok(flows(within, steps)
            .filter(|(smallest, largest)| enough && share.is_at_most(*smallest, *largest))
            .map(|_| within.to_vec()))
    };
    search(run, &bounds, evidence, |run, evidence, wallets| {
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
