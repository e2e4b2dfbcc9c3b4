//! Sets of wallets that send to sets of wallets.
//!
//! These patterns are searched in windows that begin at multiples of half a window, since the
//! epoch, and last a window: everything that takes at most half a window lies in one of them.
//! Wallets with more than `max_fan` counterparties on a side within the window are excluded.
//!
//! A layer is a set of sources and a set of sinks such that each source sent to each sink within
//! the window. It is grown from a seed: its sources are the seed, and then, repeatedly, the wallet
//! that sent to the most of the remaining sinks (of several the first by address), while
//! `min_sinks` remain. Of the steps that have `min_sources`, the one with the most pairs counts, of
//! several the first. Seeds are the wallets with the most receivers first, then by address. A pair
//! is part of at most one layer. A sink is not a source of the same layer.
//!
//! - **bipartite**: a layer of at least `min_sources` and `min_sinks`.
//! - **stack**: a layer of at least `min_width` sources and sinks, and a second layer whose sources
//!   are among the sinks of the first (grown from each of them; the one with the most pairs counts)
//!   and whose sinks are not wallets of the first. In the second layer, transfers that a wallet
//!   sent before it received from the first do not count. Sinks of the first that are not sources
//!   of the second are excluded.
//!
//! Evidence: all transfers of the pairs within the window. A finding belongs to the window in whose
//! first half it begins. It is excluded if a finding that begins in the first half of the previous
//! window contains all of its transfers.
//!
//! Strength: `(1 - 2^(-pairs / minimum pairs)) * (1/2 + evenness/4 + concentration/4)`, where
//! evenness is the inverse Simpson index of the amounts of the pairs divided by their number.
//!
//! O(pairs * max_fan) for each window where seeds share many sinks.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use super::finding::{Finding, FindingDraft, Member, Role, concentration, evenness, size};
use super::slices::{Pair, Slice, for_each};
use super::{Run, details, hours, rounded};
use crate::graph::budget::Interrupt;
use crate::graph::budget::Stop;
use crate::graph::types::U256;
use crate::graph::types::WalletId;

/// Sources and sinks, by number in the slice.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Layer {
    sources: Vec<u32>,
    sinks: Vec<u32>,
}

impl Layer {
    const fn pairs(&self) -> usize {
        self.sources.len() * self.sinks.len()
    }
}

/// Minimum size of a layer, and the limit of counterparties.
#[derive(Debug, Clone, Copy)]
struct Least {
    sources: usize,
    sinks: usize,
    max_fan: usize,
}

/// A window, with the pairs already used.
struct Field<'s> {
    slice: &'s Slice<'s>,
    /// Pairs that are part of a layer.
    used: Vec<bool>,
    hub: Vec<bool>,
}

impl<'s> Field<'s> {
    fn new<W: Interrupt>(run: &mut Run<'_, '_, W>, slice: &'s Slice<'s>, max_fan: usize) -> Result<Self, Stop> {
        let fan = |local: u32| slice.pairs_from(local).len().max(slice.pairs_to(local).len());
        let hub: Vec<bool> = (0..slice.wallets.len() as u32).map(|local| fan(local) > max_fan).collect();
        run.step(hub.len())?;
        run.passed_over += hub.iter().filter(|hub| **hub).count() as u64;
        Ok(Self { slice, used: vec![false; slice.pairs.len()], hub })
    }

    fn pair(&self, from: u32, to: u32) -> Option<usize> {
        let pairs = self.slice.pairs_from(from);
        let index = pairs.binary_search_by_key(&to, |pair| pair.to).ok()?;
        Some(self.slice.first_pair(from) + index)
    }

    fn free_sinks(&self, source: u32) -> Vec<u32> {
        let first = self.slice.first_pair(source);
        let pairs = (first..).zip(self.slice.pairs_from(source));
        pairs
            .filter(|(index, pair)| !self.used[*index] && !self.hub[pair.to as usize])
            .map(|(_, pair)| pair.to)
            .collect()
    }

    /// Grows a layer from a seed that has some sinks, at most 128, among sources for which `may`
    /// holds.
    fn grow<W: Interrupt>(
        &self,
        run: &mut Run<'_, '_, W>,
        seed: u32,
        sinks: &[u32],
        least: Least,
        may: impl Fn(u32) -> bool,
        counts: impl Fn(usize) -> bool,
    ) -> Result<Option<Layer>, Stop> {
        if sinks.len() < least.sinks || sinks.len() > u128::BITS as usize {
            return Ok(None);
        }
        let mut masks: HashMap<u32, u128> = HashMap::new();
        for (bit, sink) in sinks.iter().enumerate() {
            let pairs = self.slice.pairs_to(*sink);
            run.step(pairs.len())?;
            for pair in pairs.iter().map(|pair| *pair as usize) {
                let source = self.slice.pairs[pair].from;
                if source != seed && !self.used[pair] && !self.hub[source as usize] && may(source) && counts(pair) {
                    *masks.entry(source).or_default() |= 1 << bit;
                }
            }
        }
        let enough = |mask: u128| mask.count_ones() as usize >= least.sinks;
        let order = |local: u32| run.graph.order(self.slice.wallet(local));
        let mut others: Vec<(u64, u32, u128)> = masks
            .into_iter()
            .filter(|(_, mask)| enough(*mask))
            .map(|(source, mask)| (order(source), source, mask))
            .collect();
        if others.len() + 1 < least.sources {
            return Ok(None);
        }
        others.sort_unstable();
        let mut left = if sinks.len() == 128 { u128::MAX } else { (1 << sinks.len()) - 1 };
        let mut sources = vec![seed];
        let mut best: Option<(usize, usize, u128)> = None;
        loop {
            // A source is not a sink.
            let (size, width) = (sources.len(), left.count_ones() as usize);
            if size >= least.sources && best.is_none_or(|(most, ..)| size * width > most) {
                best = Some((size * width, size, left));
            }
            run.step(others.len())?;
            let without =
                |source: u32| sinks.iter().position(|sink| *sink == source).map_or(u128::MAX, |bit| !(1 << bit));
            let after = |(_, source, mask): &(u64, u32, u128)| left & mask & without(*source);
            let next =
                others.iter().enumerate().max_by_key(|(index, other)| (after(other).count_ones(), Reverse(*index)));
            let Some((index, rest)) =
                next.map(|(index, other)| (index, after(other))).filter(|choice| enough(choice.1))
            else {
                break;
            };
            left = rest;
            sources.push(others.remove(index).1);
        }
        Ok(best.map(|(_, size, left)| {
            sources.truncate(size);
            let kept = |(bit, _): &(usize, &u32)| left & (1 << bit) != 0;
            Layer { sources, sinks: sinks.iter().enumerate().filter(kept).map(|(_, sink)| *sink).collect() }
        }))
    }

    fn use_up(&mut self, layer: &Layer) {
        for from in &layer.sources {
            for to in &layer.sinks {
                if let Some(pair) = self.pair(*from, *to) {
                    self.used[pair] = true;
                }
            }
        }
    }

    /// Returns the wallets that a layer can grow from.
    fn seeds<W: Interrupt>(&self, run: &Run<'_, '_, W>, min_sinks: usize) -> Vec<u32> {
        let fan = |local: u32| self.slice.pairs_from(local).len();
        let may = |local: &u32| fan(*local) >= min_sinks && !self.hub[*local as usize];
        let mut seeds: Vec<u32> = (0..self.slice.wallets.len() as u32).filter(may).collect();
        seeds.sort_by_cached_key(|local| (Reverse(fan(*local)), run.graph.order(self.slice.wallet(*local))));
        seeds
    }

    fn rows(&self, layer: &Layer) -> Vec<(&'s Pair, &'s [u32])> {
        let slice: &'s Slice<'s> = self.slice;
        let pair = |from: u32, to: u32| self.pair(from, to).and_then(|index| slice.pairs.get(index));
        let all = layer.sources.iter().flat_map(|from| layer.sinks.iter().map(move |to| (*from, *to)));
        all.filter_map(|(from, to)| pair(from, to)).map(|pair| (pair, slice.rows_of(pair))).collect()
    }

    fn wallets(&self, locals: &[u32]) -> Vec<WalletId> {
        locals.iter().map(|local| self.slice.wallet(*local)).collect()
    }
}

/// Findings of the previous window.
#[derive(Default)]
struct Before {
    tile: i64,
    findings: Vec<HashSet<u64>>,
}

/// Visits every window, in steps of half a window.
fn search<'r, 'g, W: Interrupt>(
    run: &mut Run<'r, 'g, W>,
    mut look: impl FnMut(&mut Run<'r, 'g, W>, &Slice<'_>) -> Result<Vec<Finding>, Stop>,
) -> Result<(), Stop> {
    let half = (run.window() / 2).max(1);
    let mut before = Before::default();
    for_each(run, half, 0, |run, slice| {
        let mut now = Before { tile: slice.tile, findings: Vec::new() };
        for finding in look(run, slice)? {
            if finding.first.div_euclid(half) != slice.tile {
                run.room.give(finding.bytes());
                continue;
            }
            let numbers: HashSet<u64> = finding.transfers.iter().map(|transfer| transfer.number).collect();
            let is_repeated =
                before.tile + 1 == slice.tile && before.findings.iter().any(|earlier| numbers.is_subset(earlier));
            now.findings.push(numbers);
            if is_repeated {
                run.room.give(finding.bytes());
            } else {
                run.keep(finding);
            }
        }
        before = now;
        Ok(())
    })
}

/// Makes a finding of pairs.
fn finding<W: Interrupt>(
    run: &mut Run<'_, '_, W>,
    slice: &Slice<'_>,
    pairs: &[(&Pair, Vec<u32>)],
    least: usize,
    layers: Vec<Vec<WalletId>>,
    mut details: serde_json::Map<String, serde_json::Value>,
) -> Result<Finding, Stop> {
    let sum = |rows: &[u32]| rows.iter().fold(U256::ZERO, |sum, row| sum.saturating_add(slice.row(*row).value));
    let even = evenness(pairs.iter().map(|(_, rows)| sum(rows)));
    let transfers: Vec<Member> = pairs.iter().flat_map(|(_, rows)| rows).map(|row| *slice.row(*row)).collect();
    let times = || transfers.iter().map(|transfer| transfer.time);
    let span = times().max().unwrap_or_default().saturating_sub(times().min().unwrap_or_default());
    let strength =
        size(pairs.len() as u64, least as u64) * (0.5 + 0.25 * even + 0.25 * concentration(span, run.window()));
    details.extend(details! { "pairs": pairs.len(), "evenness": rounded(even), "window_hours": hours(span) });
    let first = layers.first().and_then(|sources| sources.iter().min_by_key(|wallet| run.graph.order(**wallet)));
    let center = first.copied().unwrap_or(WalletId::new(0));
    run.finding(FindingDraft {
        strength,
        center,
        roles: layers.into_iter().map(Role::Set).collect(),
        transfers,
        details,
    })
}

pub(super) fn bipartite<W: Interrupt>(run: &mut Run<'_, '_, W>) -> Result<(), Stop> {
    let least = Least {
        sources: run.pattern.size("min_sources"),
        sinks: run.pattern.size("min_sinks"),
        max_fan: run.pattern.size("max_fan"),
    };
    search(run, |run, slice| {
        let mut field = Field::new(run, slice, least.max_fan)?;
        let mut findings = Vec::new();
        for seed in field.seeds(run, least.sinks) {
            run.step(0)?;
            while let Some(layer) = field.grow(run, seed, &field.free_sinks(seed), least, |_| true, |_| true)? {
                let pairs: Vec<_> = field.rows(&layer).into_iter().map(|(pair, rows)| (pair, rows.to_vec())).collect();
                let details = details! { "sources": layer.sources.len(), "sinks": layer.sinks.len() };
                let layers = vec![field.wallets(&layer.sources), field.wallets(&layer.sinks)];
                findings.push(finding(run, slice, &pairs, least.sources * least.sinks, layers, details)?);
                field.use_up(&layer);
            }
        }
        Ok(findings)
    })
}

pub(super) fn stack<W: Interrupt>(run: &mut Run<'_, '_, W>) -> Result<(), Stop> {
    let width = run.pattern.size("min_width");
    let least = Least { sources: width, sinks: width, max_fan: run.pattern.size("max_fan") };
    search(run, |run, slice| {
        let mut field = Field::new(run, slice, least.max_fan)?;
        let mut findings = Vec::new();
        for seed in field.seeds(run, least.sinks) {
            run.step(0)?;
            while let Some(first) = field.grow(run, seed, &field.free_sinks(seed), least, |_| true, |_| true)? {
                if let Some((second, after)) = second_layer(run, &field, &first, least)? {
                    let first = Layer { sources: first.sources.clone(), sinks: second.sources.clone() };
                    let mut pairs: Vec<_> =
                        field.rows(&first).into_iter().map(|(pair, rows)| (pair, rows.to_vec())).collect();
                    for (pair, rows) in field.rows(&second) {
                        let since = after.get(&pair.from).copied().unwrap_or(i64::MAX);
                        pairs.push((pair, rows.iter().copied().filter(|row| slice.row(*row).time >= since).collect()));
                    }
                    let details = details! {
                        "sources": first.sources.len(), "middles": second.sources.len(), "sinks": second.sinks.len(),
                    };
                    let layers =
                        [&first.sources, &second.sources, &second.sinks].map(|layer| field.wallets(layer)).to_vec();
                    findings.push(finding(run, slice, &pairs, 2 * width * width, layers, details)?);
                    field.use_up(&second);
                }
                field.use_up(&first);
            }
        }
        Ok(findings)
    })
}

/// Returns the time from which each wallet has its funds.
type FundedSince = HashMap<u32, i64>;

/// Returns the layer with the most pairs on top of another, and the time from which each of its
/// sources has its funds.
fn second_layer<W: Interrupt>(
    run: &mut Run<'_, '_, W>,
    field: &Field<'_>,
    first: &Layer,
    least: Least,
) -> Result<Option<(Layer, FundedSince)>, Stop> {
    let slice = field.slice;
    let mut after = FundedSince::new();
    for (pair, rows) in field.rows(first) {
        let time = rows.first().map_or(i64::MAX, |row| slice.row(*row).time);
        after.entry(pair.to).and_modify(|first| *first = (*first).min(time)).or_insert(time);
    }
    let of_first = |local: u32| first.sources.contains(&local) || first.sinks.contains(&local);
    let later = |pair: usize| {
        let pair = &slice.pairs[pair];
        let last = slice.rows_of(pair).last().map(|row| slice.row(*row).time);
        last.zip(after.get(&pair.from)).is_some_and(|(last, since)| last >= *since)
    };
    let mut middles = first.sinks.clone();
    middles.sort_by_cached_key(|local| run.graph.order(slice.wallet(*local)));
    let mut best: Option<Layer> = None;
    for seed in &middles {
        let start = slice.first_pair(*seed);
        let sinks: Vec<u32> = field
            .free_sinks(*seed)
            .into_iter()
            .filter(|sink| !of_first(*sink) && field.pair(*seed, *sink).is_some_and(later))
            .collect();
        run.step(start.min(1) + sinks.len())?;
        let grown = field.grow(run, *seed, &sinks, least, |source| first.sinks.contains(&source), later)?;
        if let Some(grown) = grown
            && best.as_ref().is_none_or(|best| grown.pairs() > best.pairs())
        {
            best = Some(grown);
        }
    }
    Ok(best.map(|best| (best, after)))
}
