//! Wallets that wake up.
//!
//! **dormant_awakened**: at `t` a wallet sends, and has sent nothing since `t - min_silence_days`.
//! Its holding is the sum that it received from `t - lookback_days` to `t - min_silence_days`, less
//! the sum that it sent in that time; receipts during the silence (dust, a top-up for fees) do not
//! count. The holding is above zero, and the wallet sends at least `min_share` of it from `t` to
//! the end of the window. Evidence: the transfers that it sends then. A wallet that never sent
//! before wakes up, too. Windows never overlap, because the next awakening is at least a silence
//! away.
//!
//! Strength: `min(1, moved / held) * (1 - 2^(-silence / min_silence_days))`.
//!
//! O(transfers) of each wallet for each of its few awakenings.

use super::finding::{ExactRatio, FindingDraft, Role, balance, size};
use super::options::{DAY, decimal};
use super::{Moved, Run, details, end_of, hours};
use crate::graph::budget::Interrupt;
use crate::graph::budget::Stop;
use crate::graph::types::U256;
use crate::graph::types::{Side, WalletId};
use crate::graph::view::filter::EdgeFilter;

/// A wallet about to send again.
struct Silence {
    /// Latest possible start of the silence.
    since: i64,
    /// Start of the transfers that count.
    from: i64,
}

pub(super) fn awakened<W: Interrupt>(run: &mut Run<'_, '_, W>) -> Result<(), Stop> {
    let (window, least) = (run.window(), run.pattern.days("min_silence_days"));
    let (lookback, share) = (run.pattern.lookback(), ExactRatio::new(run.pattern.ratio("min_share")));
    let begin = run.filter.since.unwrap_or(i64::MIN);
    let past = EdgeFilter { since: Some(begin.saturating_sub(lookback).max(i64::MIN + 1)), ..run.filter };
    let (mut received, mut sent) = (Vec::new(), Vec::new());
    for center in run.centers()? {
        run.step(0)?;
        if run.graph.transfer_count(center, Side::Out) == 0 || run.graph.transfer_count(center, Side::In) == 0 {
            continue;
        }
        run.load(center, Side::Out, &past, &mut sent)?;
        let mut before = None;
        let mut awakenings = Vec::new();
        for (index, transfer) in sent.iter().enumerate() {
            let silent = before.is_none_or(|before: i64| transfer.time.saturating_sub(before) >= least);
            if transfer.time >= begin && silent && before != Some(transfer.time) {
                awakenings.push(index);
            }
            before = Some(transfer.time);
        }
        if awakenings.is_empty() {
            continue;
        }
        run.load(center, Side::In, &past, &mut received)?;
        for index in awakenings {
            run.step(received.len() + index)?;
            let time = sent[index].time;
            let silence = Silence { since: time.saturating_sub(least), from: time.saturating_sub(lookback) };
            let moved = &sent[index..];
            let moved = &moved[..moved.partition_point(|one| one.time <= end_of(time, window))];
            if let Some(draft) = wake(center, &received, &sent[..index], moved, &silence, share, run.scope.scale) {
                run.report(draft)?;
            }
        }
    }
    Ok(())
}

fn wake(
    center: WalletId,
    received: &[Moved],
    sent: &[Moved],
    moved: &[Moved],
    silence: &Silence,
    share: ExactRatio,
    scale: u32,
) -> Option<FindingDraft> {
    let within = |transfer: &&Moved| transfer.time >= silence.from && transfer.time <= silence.since;
    let sum = |all: &[Moved]| all.iter().try_fold(U256::ZERO, |sum, transfer| sum.checked_add(transfer.value));
    let past = |all: &[Moved]| {
        let mut all = all.iter().filter(within);
        all.try_fold(U256::ZERO, |sum, transfer| sum.checked_add(transfer.value))
    };
    let held = past(received)?.saturating_sub(past(sent)?);
    let out = sum(moved)?;
    if held == U256::ZERO || !share.is_at_most(out, held) {
        return None;
    }
    let time = moved.first()?.time;
    let last_sent = sent.iter().rfind(within).map(|transfer| transfer.time);
    let asleep = last_sent.or_else(|| received.iter().find(within).map(|transfer| transfer.time))?;
    let silent = time.saturating_sub(asleep);
    let least = time.saturating_sub(silence.since);
    let part = if out >= held { 1.0 } else { balance(out, held) };
    let span = moved.last()?.time.saturating_sub(time);
    Some(FindingDraft {
        strength: part * size(silent.unsigned_abs(), least.unsigned_abs()),
        center,
        roles: vec![Role::Set(moved.iter().map(|transfer| transfer.peer).collect())],
        transfers: moved.iter().map(|transfer| transfer.sent(center)).collect(),
        details: details! {
            "silent_days": silent / DAY, "held": decimal(held, scale), "moved": decimal(out, scale),
            "window_hours": hours(span),
        },
    })
}
