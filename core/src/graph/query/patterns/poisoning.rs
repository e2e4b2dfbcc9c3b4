//! Look-alike addresses that wait to be copied by mistake.
//!
//! **address_poisoning**: a victim and a wallet transfer nothing or dust at `t`, in either
//! direction, and in the `lookback_days` before `t` the victim had transfers with another wallet
//! whose address has the same first `digits` and last `digits`. Dust is at most `dust` of the
//! largest transfer between the victim and the imitated wallet in that time. The common prefix of
//! all addresses of a kind (`0x`, `bc1q`) does not count. Evidence: the transfers of dust with one
//! look-alike within a window, whose measure is their number.
//!
//! Strength: `(1 - 2^-(1 + transfers)) * (1/2 + likeness/2)`, where likeness is the number of equal
//! digits at both ends divided by 16, at most 1.
//!
//! Source: Tsuchiya et al. 2025, arXiv:2501.16681. O(n log n) in the transfers of each wallet;
//! O(n^2) among the few transfers with look-alikes of each other.

use xxhash_rust::xxh3::xxh3_64;

use super::finding::{ExactRatio, FindingDraft, Role, sort_long};
use super::windows::Windows;
use super::{Moved, Run, details, end_of, hours};
use crate::graph::budget::Interrupt;
use crate::graph::budget::Stop;
use crate::graph::types::U256;
use crate::graph::types::{Side, WalletId};
use crate::graph::view::filter::EdgeFilter;

/// Common prefixes of addresses of a kind.
const PREFIXES: [&str; 6] = ["0x", "bc1q", "bc1p", "tb1q", "tb1p", "ltc1q"];

/// Number of equal digits at both ends that counts as full likeness.
const ALIKE: f64 = 16.0;

/// Returns the part of an address after the common prefix.
fn told_apart(address: &str) -> &[u8] {
    let bare = PREFIXES.iter().find_map(|prefix| address.strip_prefix(prefix));
    bare.unwrap_or(address).as_bytes()
}

/// Returns a hash that is equal for look-alikes, and never 0 except for addresses that are too
/// short.
fn look(address: &str, digits: usize) -> u64 {
    let bare = told_apart(address);
    match (bare.first_chunk_of(digits), bare.last_chunk_of(digits)) {
        (Some(head), Some(tail)) if bare.len() > 2 * digits => xxh3_64(&[head, tail].concat()).max(1),
        _ => 0,
    }
}

trait Ends {
    fn first_chunk_of(&self, length: usize) -> Option<&[u8]>;
    fn last_chunk_of(&self, length: usize) -> Option<&[u8]>;
}

impl Ends for [u8] {
    fn first_chunk_of(&self, length: usize) -> Option<&[u8]> {
        self.get(..length)
    }

    fn last_chunk_of(&self, length: usize) -> Option<&[u8]> {
        self.get(self.len().checked_sub(length)?..)
    }
}

/// Counts the digits that two addresses share at both ends.
fn likeness(a: &str, b: &str) -> usize {
    let (a, b) = (told_apart(a), told_apart(b));
    let head = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let tail = a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count();
    head + tail
}

/// A transfer of the victim with one of the look-alikes.
#[derive(Debug, Clone, Copy)]
struct Met {
    look: u64,
    side: Side,
    moved: Moved,
}

pub(super) fn poisoning<W: Interrupt>(run: &mut Run<'_, '_, W>) -> Result<(), Stop> {
    let (window, digits) = (run.window(), run.pattern.size("digits"));
    let (lookback, dust) = (run.pattern.lookback(), ExactRatio::new(run.pattern.ratio("dust")));
    let begin = run.filter.since.unwrap_or(i64::MIN);
    let since = Some(begin.saturating_sub(lookback).max(i64::MIN + 1));
    let past = EdgeFilter { since, min_value: run.scope.filter.min_value, ..run.filter };
    run.book(run.graph.wallets() as usize * size_of::<u64>())?;
    let mut looks = Vec::with_capacity(run.graph.wallets() as usize);
    for wallet in run.graph.wallet_ids() {
        run.step(0)?;
        looks.push(look(run.graph.address(wallet)?, digits));
    }
    let looks_of = |wallet: WalletId| looks.get(wallet.index()).copied().unwrap_or_default();
    let (mut received, mut sent): (Vec<Moved>, Vec<Moved>) = (Vec::new(), Vec::new());
    let mut met: Vec<Met> = Vec::new();
    for center in run.centers()? {
        run.step(0)?;
        if run.graph.transfer_count(center, Side::Out) + run.graph.transfer_count(center, Side::In) < 2 {
            continue;
        }
        run.load(center, Side::Out, &past, &mut sent)?;
        run.load(center, Side::In, &past, &mut received)?;
        let grown = met.capacity();
        met.clear();
        for (side, all) in [(Side::Out, &sent), (Side::In, &received)] {
            let with_look = |transfer: &Moved| Met { look: looks_of(transfer.peer), side, moved: *transfer };
            met.extend(all.iter().map(with_look).filter(|transfer| transfer.look != 0));
        }
        run.book((met.capacity() - grown) * size_of::<Met>())?;
        run.step(met.len())?;
        let key = |transfer: &Met| (transfer.look, transfer.moved.time);
        sort_long(&mut met, run.pace.interrupt(), |a, b| key(a).cmp(&key(b)));
        for alike in met.chunk_by(|a, b| a.look == b.look) {
            if alike.iter().any(|transfer| transfer.moved.peer != alike[0].moved.peer) {
                imitations(run, center, alike, (begin, lookback, window), dust)?;
            }
        }
    }
    Ok(())
}

/// Returns the imitated wallet with which a victim had the largest transfer before a time, if a
/// transfer at that time is dust in comparison.
fn imitated<W: Interrupt>(
    run: &Run<'_, '_, W>,
    alike: &[Met],
    dusting: &Moved,
    lookback: i64,
    dust: ExactRatio,
) -> Option<WalletId> {
    let before = |other: &&Met| {
        let age = dusting.time.saturating_sub(other.moved.time);
        other.moved.peer != dusting.peer && age > 0 && age <= lookback && other.moved.value > U256::ZERO
    };
    let key = |other: &&Met| (other.moved.value, std::cmp::Reverse(run.graph.order(other.moved.peer)));
    let largest = alike.iter().filter(before).max_by_key(key)?;
    dust.is_at_least(dusting.value, largest.moved.value).then_some(largest.moved.peer)
}

fn imitations<W: Interrupt>(
    run: &mut Run<'_, '_, W>,
    center: WalletId,
    alike: &[Met],
    (begin, lookback, window): (i64, i64, i64),
    dust: ExactRatio,
) -> Result<(), Stop> {
    let mut imitations: Vec<(WalletId, WalletId, Met)> = Vec::new();
    for dusting in alike.iter().filter(|dusting| dusting.moved.time >= begin) {
        run.step(alike.len())?;
        if let Some(real) = imitated(run, alike, &dusting.moved, lookback, dust) {
            imitations.push((dusting.moved.peer, real, *dusting));
        }
    }
    imitations.sort_by_key(|(peer, _, dusting)| (*peer, dusting.moved.time));
    for of_one in imitations.chunk_by(|a, b| a.0 == b.0) {
        let mut windows = Windows::new(window);
        let mut end = 0;
        for (start, (_, _, dusting)) in of_one.iter().enumerate() {
            let from = dusting.moved.time;
            while end < of_one.len() && of_one[end].2.moved.time <= end_of(from, window) {
                end += 1;
            }
            windows.offer(from, end - start, start);
        }
        for window in windows.take() {
            let within = &of_one[window.place..window.place + window.measure];
            let (fake, real, _) = within[0];
            let reals: Vec<WalletId> = within.iter().map(|imitation| imitation.1).collect();
            let likeness = likeness(run.graph.address(fake)?, run.graph.address(real)?);
            let span = within[within.len() - 1].2.moved.time.saturating_sub(window.start);
            let more = -((within.len() + 1) as f64);
            let details = details! {
                "look_alike": run.graph.address(fake)?, "imitates": run.graph.address(real)?, "same_digits": likeness,
                "dust_transfers": within.len(), "window_hours": hours(span),
            };
            run.report(FindingDraft {
                strength: (1.0 - more.exp2()) * (0.5 + 0.5 * (likeness as f64 / ALIKE).min(1.0)),
                center,
                roles: vec![Role::Set(vec![fake]), Role::Set(reals)],
                transfers: within.iter().map(|(_, _, dusting)| dusting.moved.on(dusting.side, center)).collect(),
                details,
            })?;
        }
    }
    Ok(())
}
