//! From one wallet, through many, to one.
//!
//! **scatter_gather**: a source, a sink, and a window that begins when the source sends, in which
//! at least `min_fan` different wallets received from the source and, then or later, sent to the
//! sink. Its measure is the number of these wallets. Evidence: each transfer from the source to one
//! of them that is followed by one from it to the sink within the window, and each of those. A
//! wallet that sends more than `max_fan` transfers from the time of its receipt on, for the length
//! of the window but at most until the end of the next tile (see [`windows`](super::windows)), is
//! excluded.
//!
//! Strength: `size * (1/2 + balance/4 + concentration/4)`, where size is `1 - 2^(-wallets /
//! min_fan)`, balance the ratio of the sums that the source sent and the sink received, the smaller
//! divided by the larger, and concentration the unused share of the window.
//!
//! O(transfers * max_fan) if every wallet between sends that often; memory for the paths that start
//! at one source within two windows.

use super::finding::{FindingDraft, Member, Role, balance, concentration, size, sort_long};
use super::slices::{Slice, for_each};
use super::windows::{CandidateWindow, PendingFindings, WindowFinding, WindowSubject};
use super::{Run, details, end_of, hours, rounded};
use crate::graph::budget::Interrupt;
use crate::graph::budget::Stop;
use crate::graph::types::{U256, WalletId};

/// A path from a source through a wallet to a sink.
#[derive(Debug, Clone, Copy)]
struct RelayPath {
    sink: u32,
    between: u32,
    sent: u32,
    passed_on: u32,
}

pub(super) fn scatter_gather<W: Interrupt>(run: &mut Run<'_, '_, W>) -> Result<(), Stop> {
    let (window, min_fan, max_fan) = (run.window(), run.pattern.size("min_fan"), run.pattern.size("max_fan"));
    let mut waiting = PendingFindings::default();
    let mut ways: Vec<RelayPath> = Vec::new();
    let searched = for_each(run, window, 0, |run, slice| {
        let mut findings = Vec::new();
        let mut counts = vec![0_u32; slice.wallets.len()];
        for source in 0..slice.wallets.len() as u32 {
            run.step(0)?;
            if slice.pairs_from(source).len() < min_fan {
                continue;
            }
            let grown = ways.capacity();
            ways_from(run, slice, source, (window, max_fan), &mut ways)?;
            run.book((ways.capacity() - grown) * size_of::<RelayPath>())?;
            run.step(ways.len())?;
            let key = |way: &RelayPath| (way.sink, way.sent, way.passed_on);
            sort_long(&mut ways, run.pace.interrupt(), |a, b| key(a).cmp(&key(b)));
            for to_one in ways.chunk_by(|a, b| a.sink == b.sink) {
                if to_one.len() < min_fan {
                    continue;
                }
                let Some((start, fan)) = best_start(run, slice, to_one, min_fan, &mut counts)? else { continue };
                let draft = gathered(run, slice, source, to_one, start, (fan, min_fan));
                let finding = run.finding(draft)?;
                let mut subject: WindowSubject = [WalletId::NONE; 10];
                (subject[0], subject[1]) = (slice.wallet(source), slice.wallet(to_one[0].sink));
                let candidate = CandidateWindow { tile: slice.tile, start, measure: fan as u64, place: 0 };
                findings.push(WindowFinding { subject, window: candidate, finding });
            }
        }
        waiting.next(slice.tile, findings, run);
        Ok(())
    });
    waiting.end(run);
    searched
}

/// Collects all paths that start at a source.
fn ways_from<W: Interrupt>(
    run: &mut Run<'_, '_, W>,
    slice: &Slice<'_>,
    source: u32,
    (window, max_fan): (i64, usize),
    ways: &mut Vec<RelayPath>,
) -> Result<(), Stop> {
    ways.clear();
    let most = run.room.left() / 3 / size_of::<RelayPath>() + ways.capacity() / 3;
    for sent in slice.sent(source) {
        let (_, between) = slice.ends(*sent);
        let time = slice.row(*sent).time;
        let onward = slice.between(slice.sent(between), time, end_of(time, window));
        if onward.len() > max_fan {
            run.passed_over += u64::from(time.div_euclid(window) == slice.tile);
            continue;
        }
        run.step(onward.len())?;
        if ways.len() + onward.len() > most {
            return Err(super::no_room(&run.room, run.strongest.found.len()).into());
        }
        for passed_on in onward {
            let (_, sink) = slice.ends(*passed_on);
            if sink != source {
                ways.push(RelayPath { sink, between, sent: *sent, passed_on: *passed_on });
            }
        }
    }
    Ok(())
}

/// Returns the start of the window with the most wallets between and their number, if it suffices.
/// O(n log n).
fn best_start<W: Interrupt>(
    run: &mut Run<'_, '_, W>,
    slice: &Slice<'_>,
    ways: &[RelayPath],
    min_fan: usize,
    counts: &mut [u32],
) -> Result<Option<(i64, usize)>, Stop> {
    let window = run.window();
    let sent = |way: &RelayPath| slice.row(way.sent).time;
    let arrived = |way: &RelayPath| slice.row(way.passed_on).time;
    // Rows are numbered by time.
    let mut by_arrival: Vec<&RelayPath> = ways.iter().collect();
    by_arrival.sort_unstable_by_key(|way| way.passed_on);
    let (mut next, mut different) = (0, 0);
    let mut best: Option<(i64, usize)> = None;
    let mut index = 0;
    while index < ways.len() {
        run.step(0)?;
        let start = sent(&ways[index]);
        if start.div_euclid(window) > slice.tile {
            break;
        }
        while next < by_arrival.len() && arrived(by_arrival[next]) <= end_of(start, window) {
            // Transfers before the start of the window no longer count.
            if sent(by_arrival[next]) >= start {
                let count = &mut counts[by_arrival[next].between as usize];
                different += usize::from(*count == 0);
                *count += 1;
            }
            next += 1;
        }
        if different >= min_fan && best.is_none_or(|best| different > best.1) {
            best = Some((start, different));
        }
        while index < ways.len() && sent(&ways[index]) == start {
            if arrived(&ways[index]) <= end_of(start, window) {
                let count = &mut counts[ways[index].between as usize];
                *count -= 1;
                different -= usize::from(*count == 0);
            }
            index += 1;
        }
    }
    for way in ways {
        counts[way.between as usize] = 0;
    }
    Ok(best)
}

fn gathered<W: Interrupt>(
    run: &Run<'_, '_, W>,
    slice: &Slice<'_>,
    source: u32,
    ways: &[RelayPath],
    start: i64,
    (fan, min_fan): (usize, usize),
) -> FindingDraft {
    let until = end_of(start, run.window());
    let within = |way: &&RelayPath| slice.row(way.sent).time >= start && slice.row(way.passed_on).time <= until;
    let mut legs = [Vec::new(), Vec::new()];
    let mut between = Vec::new();
    for way in ways.iter().filter(within) {
        legs[0].push(way.sent);
        legs[1].push(way.passed_on);
        between.push(slice.wallet(way.between));
    }
    let mut sums = [U256::ZERO; 2];
    for (leg, sum) in legs.iter_mut().zip(&mut sums) {
        leg.sort_unstable();
        leg.dedup();
        *sum = leg.iter().fold(U256::ZERO, |sum, row| sum.saturating_add(slice.row(*row).value));
    }
    let transfers: Vec<Member> = legs.iter().flatten().map(|row| *slice.row(*row)).collect();
    let last = transfers.iter().map(|transfer| transfer.time).max().unwrap_or(start);
    let (even, span) = (balance(sums[0], sums[1]), last.saturating_sub(start));
    FindingDraft {
        strength: size(fan as u64, min_fan as u64) * (0.5 + 0.25 * even + 0.25 * concentration(span, run.window())),
        center: slice.wallet(source),
        roles: vec![Role::Set(between), Role::Sequence(vec![slice.wallet(ways[0].sink)])],
        transfers,
        details: details! { "wallets_between": fan, "balance": rounded(even), "window_hours": hours(span) },
    }
}
