//! Selection of the reported ones among overlapping windows.
//!
//! A window begins at a transfer and lasts as long as the pattern's window. Time is divided into
//! tiles of that length, from the epoch on. Of the windows of one subject (a wallet, a pair, a
//! cycle) that begin in one tile, the one with the largest measure represents the tile; of several
//! the earliest. It is reported unless it overlaps the representative of an adjacent tile that has
//! a larger measure, or the same measure and an earlier start. So reported windows never overlap,
//! and a window is reported depending on nearby transfers alone, not on the start of a burst years
//! ago.

use std::cmp::Reverse;

use super::Run;
use super::finding::{Finding, sort_by_key};
use crate::graph::budget::Interrupt;
use crate::graph::types::WalletId;

/// A window that may be reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CandidateWindow<M> {
    /// Tile in which it begins.
    pub tile: i64,
    /// Time at which it begins.
    pub start: i64,
    /// Measure by which windows are compared.
    pub measure: M,
    /// Position of its transfers, for its detector.
    pub place: usize,
}

impl<M: Ord> CandidateWindow<M> {
    /// Reports whether another window of the same subject supersedes this one.
    fn yields_to(&self, other: &Self, window: i64) -> bool {
        let overlap = self.start.saturating_sub(other.start).saturating_abs() <= window;
        let is_adjacent = self.tile.saturating_sub(other.tile).saturating_abs() == 1;
        let more = other.measure.cmp(&self.measure).then(self.start.cmp(&other.start));
        overlap && is_adjacent && more.is_gt()
    }
}

/// Windows of one subject, which are offered by time.
#[derive(Debug)]
pub(super) struct Windows<M> {
    window: i64,
    best: Vec<CandidateWindow<M>>,
}

impl<M: Ord + Copy> Windows<M> {
    pub(super) const fn new(window: i64) -> Self {
        Self { window, best: Vec::new() }
    }

    /// Reports whether a window would represent its tile so far.
    pub(super) fn would_take(&self, start: i64, measure: M) -> bool {
        let tile = start.div_euclid(self.window);
        self.best.last().is_none_or(|last| last.tile != tile || last.measure < measure)
    }

    pub(super) fn offer(&mut self, start: i64, measure: M, place: usize) {
        let tile = start.div_euclid(self.window);
        match self.best.last_mut().filter(|last| last.tile == tile) {
            Some(last) if last.measure >= measure => {}
            Some(last) => *last = CandidateWindow { tile, start, measure, place },
            None => self.best.push(CandidateWindow { tile, start, measure, place }),
        }
    }

    /// Removes all windows, and returns those to report.
    pub(super) fn take(&mut self) -> Vec<CandidateWindow<M>> {
        let best = std::mem::take(&mut self.best);
        let stays = |(index, window): (usize, &CandidateWindow<M>)| {
            let before = index.checked_sub(1).and_then(|index| best.get(index));
            let neighbours = [before, best.get(index + 1)];
            let stays = neighbours.into_iter().flatten().all(|other| !window.yields_to(other, self.window));
            stays.then_some(*window)
        };
        best.iter().enumerate().filter_map(stays).collect()
    }
}

/// Findings of many subjects, tile by tile: each waits until the next tile is known.
#[derive(Debug, Default)]
pub(super) struct PendingFindings {
    tile: Option<i64>,
    before: Vec<(WindowSubject, CandidateWindow<u64>)>,
    now: Vec<WindowFinding>,
}

/// Wallets of a subject; unused entries are empty.
pub(super) type WindowSubject = [WalletId; 10];

/// A finding in a window that may also appear in another window.
#[derive(Debug)]
pub(super) struct WindowFinding {
    pub subject: WindowSubject,
    pub window: CandidateWindow<u64>,
    pub finding: Finding,
}

impl PendingFindings {
    /// Adds the findings of the next tile, in any order, with at least one window of each subject.
    pub(super) fn next<W: Interrupt>(&mut self, tile: i64, findings: Vec<WindowFinding>, run: &mut Run<'_, '_, W>) {
        if self.tile.is_some_and(|last| last + 1 < tile) {
            self.end(run);
        }
        self.tile = Some(tile);
        let key = |finding: &WindowFinding| {
            (finding.subject, Reverse(finding.window.measure), finding.window.start, finding.finding.id)
        };
        let mut findings = sort_by_key(findings, run.pace.interrupt(), key);
        findings.dedup_by(|a, b| {
            let same = a.subject == b.subject;
            if same {
                run.room.give(a.finding.bytes());
            }
            same
        });
        let done = std::mem::replace(&mut self.now, findings);
        let mut passed = Vec::with_capacity(done.len());
        for WindowFinding { subject, window, finding } in done {
            let before = self.before.binary_search_by_key(&subject, |entry| entry.0).ok();
            let before = before.and_then(|index| self.before.get(index)).map(|entry| &entry.1);
            let after = self.now.binary_search_by_key(&subject, |entry| entry.subject).ok();
            let after = after.and_then(|index| self.now.get(index)).map(|entry| &entry.window);
            if [before, after].into_iter().flatten().any(|other| window.yields_to(other, run.window())) {
                run.room.give(finding.bytes());
            } else {
                run.keep(finding);
            }
            passed.push((subject, window));
        }
        self.before = passed;
    }

    /// Ends the search: no further tile follows.
    pub(super) fn end<W: Interrupt>(&mut self, run: &mut Run<'_, '_, W>) {
        if let Some(tile) = self.tile.take() {
            self.next(tile + 1, Vec::new(), run);
            self.tile = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn windows_that_are_reported_never_overlap_and_the_best_is_among_them(
            mut offered in prop::collection::vec((0_i64..100, 1_u64..5), 0..40),
            window in 1_i64..20,
        ) {
            offered.sort_by_key(|one| one.0);
            let mut windows = Windows::new(window);
            for (place, (start, measure)) in offered.iter().enumerate() {
                windows.offer(*start, *measure, place);
            }
            let taken = windows.take();
            for pair in taken.windows(2) {
                prop_assert!(pair[1].start - pair[0].start > window);
            }
            // The best of all is always present.
            if let Some(most) = offered.iter().map(|one| one.1).max() {
                let first = offered.iter().find(|one| one.1 == most).unwrap();
                prop_assert!(taken.iter().any(|one| (one.start, one.measure) == *first));
            }
        }
    }
}
