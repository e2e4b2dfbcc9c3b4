//! One wallet and many: fans out, fans in, and one after the other.
//!
//! - **fan_out**: a window of the wallet's sent transfers with at least `min_fan` different
//!   receivers. Its measure is the number of receivers. Evidence: all transfers that the wallet
//!   sent within the window.
//! - **fan_in**: the same for received transfers and senders.
//! - **gather_scatter**: a moment at which the wallet sends, such that at least `min_fan` different
//!   wallets sent to it in the half window before, and it sends to at least `min_fan` in the half
//!   window from then on. Its measure is the smaller of the two counts.
//!
//! Strength of a fan: `size * (1/2 + evenness/4 + concentration/4)`, where size is `1 - 2^(-fan /
//! min_fan)`, evenness the inverse Simpson index of the amounts of the counterparties divided by
//! their number, and concentration the share of the window that is left after the last transfer.
//! Strength of gather_scatter: `size * (1/2 + balance/2)`, where balance is the smaller sum divided
//! by the larger.
//!
//! Two pointers move over a wallet's transfers: O(transfers of all wallets), with memory for those
//! of one.

use serde_json::Map;

use super::finding::{FindingDraft, Role, balance, concentration, evenness, size, sort_long};
use super::windows::Windows;
use super::{Moved, Run, details, end_of, hours, rounded};
use crate::graph::budget::Interrupt;
use crate::graph::budget::Stop;
use crate::graph::types::U256;
use crate::graph::types::{Side, WalletId};

/// Number of different counterparties of the transfers between two pointers.
struct PeerCounts<'p> {
    places: &'p mut [u32],
    different: u64,
}

impl PeerCounts<'_> {
    fn add(&mut self, peer: WalletId) {
        if let Some(count) = self.places.get_mut(peer.index()) {
            self.different += u64::from(*count == 0);
            *count += 1;
        }
    }

    fn remove(&mut self, peer: WalletId) {
        if let Some(count) = self.places.get_mut(peer.index()) {
            *count = count.saturating_sub(1);
            self.different -= u64::from(*count == 0);
        }
    }
}

/// Returns the index of the first transfer with another time than the one at an index.
fn next_time(moved: &[Moved], index: usize) -> usize {
    let time = moved.get(index).map_or(0, |transfer| transfer.time);
    index + moved[index..].iter().take_while(|transfer| transfer.time == time).count()
}

pub(super) fn fan<W: Interrupt>(run: &mut Run<'_, '_, W>, side: Side) -> Result<(), Stop> {
    let (window, min_fan) = (run.window(), run.pattern.count("min_fan"));
    let mut places = run.places()?;
    let mut moved = Vec::new();
    let mut windows = Windows::new(window);
    let filter = run.filter;
    for center in run.centers()? {
        run.step(0)?;
        if (run.graph.transfer_count(center, side) as u64) < min_fan {
            continue;
        }
        run.load(center, side, &filter, &mut moved)?;
        let mut peers = PeerCounts { places: &mut places, different: 0 };
        let (mut start, mut end) = (0, 0);
        while start < moved.len() {
            run.step(0)?;
            let from = moved[start].time;
            while end < moved.len() && moved[end].time <= end_of(from, window) {
                peers.add(moved[end].peer);
                end += 1;
            }
            if peers.different >= min_fan {
                windows.offer(from, peers.different, start);
            }
            let next = next_time(&moved, start);
            moved[start..next].iter().for_each(|transfer| peers.remove(transfer.peer));
            start = next;
        }
        for candidate in windows.take() {
            let until = end_of(candidate.start, window);
            let within = moved[candidate.place..].partition_point(|transfer| transfer.time <= until);
            let within = &moved[candidate.place..candidate.place + within];
            let sums = by_peer(within, run.pace.interrupt());
            run.report(fan_finding(side, center, within, sums, min_fan, window))?;
        }
    }
    Ok(())
}

fn fan_finding(
    side: Side,
    center: WalletId,
    within: &[Moved],
    sums: Vec<(WalletId, U256)>,
    min_fan: u64,
    window: i64,
) -> FindingDraft {
    let fan = sums.len() as u64;
    let span = within.last().map_or(0, |last| last.time.saturating_sub(within[0].time));
    let even = evenness(sums.iter().map(|(_, value)| *value));
    let strength = size(fan, min_fan) * (0.5 + 0.25 * even + 0.25 * concentration(span, window));
    let name = if side == Side::Out { "fan_out" } else { "fan_in" };
    let mut details = Map::new();
    details.insert(name.to_owned(), fan.into());
    details.extend(details! { "evenness": rounded(even), "window_hours": hours(span) });
    FindingDraft {
        strength,
        center,
        roles: vec![Role::Set(sums.into_iter().map(|(wallet, _)| wallet).collect())],
        transfers: within.iter().map(|transfer| transfer.on(side, center)).collect(),
        details,
    }
}

/// Sums the amounts by counterparty; a sum beyond 256 bits counts as the maximum.
fn by_peer(moved: &[Moved], interrupt: &mut impl Interrupt) -> Vec<(WalletId, U256)> {
    let mut sums: Vec<(WalletId, U256)> = moved.iter().map(|transfer| (transfer.peer, transfer.value)).collect();
    sort_long(&mut sums, interrupt, Ord::cmp);
    sums.dedup_by(|next, sum| {
        let same = next.0 == sum.0;
        if same {
            sum.1 = sum.1.saturating_add(next.1);
        }
        same
    });
    sums
}

pub(super) fn gather_scatter<W: Interrupt>(run: &mut Run<'_, '_, W>) -> Result<(), Stop> {
    let (window, min_fan) = (run.window(), run.pattern.count("min_fan"));
    let half = window / 2;
    let (mut senders, mut receivers) = (run.places()?, run.places()?);
    let (mut received, mut sent) = (Vec::new(), Vec::new());
    let mut windows = Windows::new(window);
    let filter = run.filter;
    for center in run.centers()? {
        run.step(0)?;
        let few = |side| (run.graph.transfer_count(center, side) as u64) < min_fan;
        if few(Side::In) || few(Side::Out) {
            continue;
        }
        run.load(center, Side::In, &filter, &mut received)?;
        run.load(center, Side::Out, &filter, &mut sent)?;
        let mut gathered = PeerCounts { places: &mut senders, different: 0 };
        let mut scattered = PeerCounts { places: &mut receivers, different: 0 };
        let (mut start, mut end, mut gather_start, mut gather_end) = (0, 0, 0, 0);
        while start < sent.len() {
            run.step(0)?;
            let moment = sent[start].time;
            while end < sent.len() && sent[end].time <= end_of(moment, half) {
                scattered.add(sent[end].peer);
                end += 1;
            }
            while gather_end < received.len() && received[gather_end].time < moment {
                gathered.add(received[gather_end].peer);
                gather_end += 1;
            }
            while gather_start < gather_end && received[gather_start].time < moment.saturating_sub(half) {
                gathered.remove(received[gather_start].peer);
                gather_start += 1;
            }
            let measure = gathered.different.min(scattered.different);
            if measure >= min_fan {
                windows.offer(moment, measure, start);
            }
            let next = next_time(&sent, start);
            sent[start..next].iter().for_each(|transfer| scattered.remove(transfer.peer));
            start = next;
        }
        received[gather_start..gather_end].iter().for_each(|transfer| gathered.remove(transfer.peer));
        for candidate in windows.take() {
            let until = end_of(candidate.start, half);
            let out = &sent[candidate.place..];
            let out = &out[..out.partition_point(|transfer| transfer.time <= until)];
            let from = received.partition_point(|transfer| transfer.time < candidate.start.saturating_sub(half));
            let to = received.partition_point(|transfer| transfer.time < candidate.start);
            let came = &received[from..to];
            let (senders, receivers) = (by_peer(came, run.pace.interrupt()), by_peer(out, run.pace.interrupt()));
            let sum = |all: &[(WalletId, U256)]| all.iter().fold(U256::ZERO, |sum, entry| sum.saturating_add(entry.1));
            let even = balance(sum(&senders), sum(&receivers));
            let span =
                out.last().map_or(0, |last| last.time).saturating_sub(came.first().map_or(0, |transfer| transfer.time));
            let details = details! {
                "fan_in": senders.len(), "fan_out": receivers.len(), "balance": rounded(even), "window_hours": hours(span),
            };
            let wallets = |all: Vec<(WalletId, U256)>| Role::Set(all.into_iter().map(|entry| entry.0).collect());
            let transfers = came
                .iter()
                .map(|transfer| transfer.received(center))
                .chain(out.iter().map(|transfer| transfer.sent(center)))
                .collect();
            run.report(FindingDraft {
                strength: size(candidate.measure, min_fan) * (0.5 + 0.5 * even),
                center,
                roles: vec![wallets(senders), wallets(receivers)],
                transfers,
                details,
            })?;
        }
    }
    Ok(())
}
