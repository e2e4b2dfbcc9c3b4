//! Value that moves from wallet to wallet.
//!
//! A chain is a sequence of links. A transfer `e` to a wallet is linked with a transfer `f` from
//! that wallet if two conditions hold. Of the transfers that the wallet sends after `e`, within a
//! window, `f` is the first whose amount continues that of `e`. Of the transfers that it received
//! before `f`, within a window, `e` is the last whose amount `f` continues. So each transfer has at
//! most one successor and one predecessor, and chains do not branch. Of transfers of the same time,
//! the larger comes first. A chain begins at a transfer without a predecessor, visits no wallet
//! twice, and ends at the end of the window or at `max_length`. A wallet with more than `max_fan`
//! transfers on the examined side within the window is not passed through.
//!
//! - **random_walk**: an amount continues another if at most `tolerance` of it stays behind. At
//!   least `min_length` transfers. Strength: `(1 - 2^(-length / min_length)) * (last amount / first
//!   amount)`.
//! - **peeling_chain**: an amount continues another if a part above zero and of at most `max_peel`
//!   stays behind. The wallet must also have sent other transfers of at most `max_peel` of the
//!   received amount to others, after it received and within the window, which together with the
//!   continuing amount are at most the received amount. The chain ends where nothing peels off. At
//!   least `min_length` hops that peel. Evidence: the chain and the peeled transfers. Strength: `(1
//!   - 2^(-hops / min_length)) * (last amount / first amount)^(1 / hops)`.
//!
//! O(transfers * max_fan).

use super::finding::{ExactRatio, FindingDraft, Member, Role, balance, size};
use super::slices::{Slice, for_each};
use super::{Run, details, end_of, hours, rounded};
use crate::graph::budget::Interrupt;
use crate::graph::budget::Stop;
use crate::graph::types::U256;

/// No transfer.
const NONE: u32 = u32::MAX;

/// Condition under which an amount continues another.
#[derive(Debug, Clone, Copy)]
struct Continuation {
    /// Share that must continue.
    least: ExactRatio,
    /// A part above zero must stay behind.
    less: bool,
}

impl Continuation {
    fn allows(self, from: U256, to: U256) -> bool {
        to <= from && !(self.less && to == from) && self.least.is_at_most(to, from)
    }
}

/// Returns the first matching row in the order of time; of simultaneous rows the largest, then by
/// the other wallet.
fn first_fitting<'s, W: Interrupt>(
    run: &Run<'_, '_, W>,
    slice: &Slice<'s>,
    rows: impl Iterator<Item = u32>,
    fits: impl Fn(&'s Member) -> bool,
) -> Option<u32> {
    let mut best: Option<(u32, &Member)> = None;
    for row in rows {
        let member = &slice.rows[row as usize];
        match best {
            Some((_, leader)) if leader.time != member.time => break,
            _ if !fits(member) => {}
            Some((_, leader)) => {
                let key = |member: &Member| {
                    (std::cmp::Reverse(member.value), run.graph.order(member.to), run.graph.order(member.from))
                };
                if key(member) < key(leader) {
                    best = Some((row, member));
                }
            }
            None => best = Some((row, member)),
        }
    }
    best.map(|(row, _)| row)
}

/// Returns the successor of each row of a slice.
fn links<W: Interrupt>(
    run: &mut Run<'_, '_, W>,
    slice: &Slice<'_>,
    goes_on: Continuation,
    max_fan: usize,
) -> Result<(Vec<u32>, Vec<u32>), Stop> {
    let window = run.window();
    let count = slice.rows.len();
    run.book(2 * count * size_of::<u32>())?;
    let (mut next, mut before) = (vec![NONE; count], vec![NONE; count]);
    for row in 0..count as u32 {
        let (member, (from, to)) = (slice.row(row), slice.ends(row));
        let later = slice.between(slice.sent(to), end_of(member.time, 1), end_of(member.time, window));
        let earlier =
            slice.between(slice.received(from), member.time.saturating_sub(window), member.time.saturating_sub(1));
        run.step(later.len().min(max_fan) + earlier.len().min(max_fan))?;
        if later.len() > max_fan {
            run.passed_over += u64::from(member.time.div_euclid(window) == slice.tile);
        } else if let Some(fitting) =
            first_fitting(run, slice, later.iter().copied(), |other| goes_on.allows(member.value, other.value))
        {
            next[row as usize] = fitting;
        }
        if earlier.len() <= max_fan
            && let Some(fitting) = first_fitting(run, slice, earlier.iter().rev().copied(), |other| {
                goes_on.allows(other.value, member.value)
            })
        {
            before[row as usize] = fitting;
        }
    }
    run.room.give(2 * count * size_of::<u32>());
    // Both directions must agree.
    for (row, linked_row) in (0..).zip(&mut next) {
        if *linked_row != NONE && before[*linked_row as usize] != row {
            *linked_row = NONE;
        }
    }
    let mut linked = vec![NONE; count];
    for (row, linked_row) in (0..).zip(&next) {
        if *linked_row != NONE {
            linked[*linked_row as usize] = row;
        }
    }
    Ok((next, linked))
}

/// A chain and the transfers that peeled off.
struct TransferChain {
    rows: Vec<u32>,
    peeled: Vec<u32>,
}

fn search<'r, 'g, W: Interrupt>(
    run: &mut Run<'r, 'g, W>,
    goes_on: Continuation,
    longest: usize,
    mut peel: impl FnMut(&mut Run<'r, 'g, W>, &Slice<'_>, u32, u32, i64) -> Result<Option<Vec<u32>>, Stop>,
    mut report: impl FnMut(&mut Run<'r, 'g, W>, &Slice<'_>, TransferChain) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let (window, max_fan) = (run.window(), run.pattern.size("max_fan"));
    for_each(run, window, 1, |run, slice| {
        let (next, before) = links(run, slice, goes_on, max_fan)?;
        for (start, linked) in (0..).zip(&before) {
            run.step(0)?;
            let first = slice.row(start);
            if *linked != NONE || first.time.div_euclid(window) != slice.tile || next[start as usize] == NONE {
                continue;
            }
            let until = end_of(first.time, window);
            let (mut chain, mut last) = (TransferChain { rows: vec![start], peeled: Vec::new() }, start);
            let mut visited = vec![slice.ends(start).0, slice.ends(start).1];
            while chain.rows.len() < longest {
                let after = next[last as usize];
                if after == NONE || slice.row(after).time > until || visited.contains(&slice.ends(after).1) {
                    break;
                }
                let Some(peeled) = peel(run, slice, last, after, until)? else { break };
                chain.peeled.extend(peeled);
                chain.rows.push(after);
                visited.push(slice.ends(after).1);
                last = after;
            }
            report(run, slice, chain)?;
        }
        Ok(())
    })
}

pub(super) fn random_walk<W: Interrupt>(run: &mut Run<'_, '_, W>) -> Result<(), Stop> {
    let (least, longest) = (run.pattern.size("min_length"), run.pattern.size("max_length"));
    let goes_on = Continuation { least: ExactRatio::new(run.pattern.ratio("tolerance")).rest(), less: false };
    let nothing = |_: &mut Run<'_, '_, W>, _: &Slice<'_>, _, _, _| Ok(Some(Vec::new()));
    search(run, goes_on, longest, nothing, |run, slice, chain| {
        let length = chain.rows.len();
        if length < least {
            return Ok(());
        }
        let kept = kept(slice, &chain);
        let details = details! { "length": length, "passed_on": rounded(kept) };
        let strength = size(length as u64, least as u64) * kept;
        let draft = along(slice, chain, strength, details);
        run.report(draft)
    })
}

pub(super) fn peeling_chain<W: Interrupt>(run: &mut Run<'_, '_, W>) -> Result<(), Stop> {
    let (least, longest) = (run.pattern.size("min_length"), run.pattern.size("max_length"));
    let max_peel = ExactRatio::new(run.pattern.ratio("max_peel"));
    let goes_on = Continuation { least: max_peel.rest(), less: true };
    let peel = |run: &mut Run<'_, '_, W>, slice: &Slice<'_>, row: u32, after: u32, until: i64| {
        let (member, onward) = (slice.row(row), slice.row(after));
        let all = slice.between(
            slice.sent(slice.ends(row).1),
            end_of(member.time, 1),
            until.min(end_of(member.time, run.window())),
        );
        run.step(all.len())?;
        let small = |other: &Member| other.to != onward.to && max_peel.is_at_least(other.value, member.value);
        let peeled: Vec<u32> = all.iter().copied().filter(|row| small(slice.row(*row))).collect();
        let sum = peeled.iter().try_fold(onward.value, |sum, row| sum.checked_add(slice.row(*row).value));
        Ok(Some(peeled).filter(|peeled| !peeled.is_empty() && sum.is_some_and(|sum| sum <= member.value)))
    };
    search(run, goes_on, longest.saturating_add(1), peel, |run, slice, chain| {
        let hops = chain.rows.len() - 1;
        if hops < least {
            return Ok(());
        }
        let kept = kept(slice, &chain);
        let details = details! { "hops": hops, "peels": chain.peeled.len(), "kept": rounded(kept) };
        let strength = size(hops as u64, least as u64) * kept.powf(1.0 / hops as f64);
        let draft = along(slice, chain, strength, details);
        run.report(draft)
    })
}

/// Returns the ratio of the last amount to the first.
fn kept(slice: &Slice<'_>, chain: &TransferChain) -> f64 {
    let value = |row: Option<&u32>| row.map_or(U256::ZERO, |row| slice.row(*row).value);
    balance(value(chain.rows.first()), value(chain.rows.last()))
}

fn along(
    slice: &Slice<'_>,
    chain: TransferChain,
    strength: f64,
    mut details: serde_json::Map<String, serde_json::Value>,
) -> FindingDraft {
    let start = slice.row(chain.rows[0]);
    let mut wallets = vec![start.from];
    wallets.extend(chain.rows.iter().map(|row| slice.row(*row).to));
    let aside = chain.peeled.iter().map(|row| slice.row(*row).to).collect();
    let transfers: Vec<Member> = chain.rows.iter().chain(&chain.peeled).map(|row| *slice.row(*row)).collect();
    let last = transfers.iter().map(|transfer| transfer.time).max().unwrap_or(start.time);
    details.extend(details! { "window_hours": hours(last.saturating_sub(start.time)) });
    FindingDraft {
        strength,
        center: start.from,
        roles: vec![Role::Sequence(wallets), Role::Set(aside)],
        transfers,
        details,
    }
}
