//! Enumeration of the cycles of wallets of a slice, each once.
//!
//! Simple cycles are enumerated from the wallet with the most counterparties down: each wallet is
//! the root of the cycles among the wallets after it, as in Johnson 1975, Finding All the
//! Elementary Circuits of a Directed Graph. So each hub is processed once and then removed. A walk
//! only continues to wallets from which the root can still be reached in the remaining steps, with
//! amounts like those of the walk; this is known from a backward search over half the length. A
//! walk also ends if no window contains transfers of all its pairs, or no band of amounts does.
//! Wallets without successors or predecessors are removed first. A wallet with more than `max_fan`
//! counterparties on a side, in the two tiles of a slice, is not passed through.
//!
//! The work is bounded by the walks of half the length from and to each root, and those that can be
//! closed.

use super::slices::{Pair, Slice};
use crate::graph::budget::Interrupt;
use crate::graph::budget::{Pace, Stop};

/// Maximum number of wallets of a cycle.
pub(super) const LONGEST: usize = 10;

/// Maximum number of bytes of a pair during the search.
pub(super) const COST: usize = size_of::<CircuitArc>() + 2 * size_of::<(u32, Bands)>() + size_of::<Back>();

/// Margin for the errors of a product of floats.
const SLACK: f64 = 1e-9;

/// Limits of the cycles to enumerate.
pub(super) struct CycleBounds {
    pub min_length: usize,
    pub max_length: usize,
    pub max_fan: usize,
    /// Each pair of a cycle has transfers of amounts that are not further apart than this.
    pub tolerance: Option<f64>,
    pub window: i64,
}

/// A pair in a network.
#[derive(Debug, Clone, Copy)]
struct CircuitArc {
    to: u32,
    pair: u32,
    /// Times and amounts of its transfers, which bound what it can be part of.
    first: i64,
    last: i64,
    least: f64,
    most: f64,
    bands: Bands,
}

/// Bands of amounts, by what remains of their number divided by the bits there are.
type Bands = u128;

/// Assignment of amounts to bands: amounts that fit together are in the same or in adjacent bands.
#[derive(Debug, Clone, Copy)]
struct Ruler(Option<f64>);

/// Factor by which a band is wider than the tolerance, to allow for the errors of logarithms.
const WIDER: f64 = 1.0 + 1e-6;

/// The narrowest band, as a part of an amount.
const NARROWEST: f64 = 1e-5;

impl Ruler {
    fn new(tolerance: Option<f64>) -> Self {
        Self(tolerance.map(|tolerance| (-(1.0 - tolerance).ln()).max(NARROWEST) * WIDER))
    }

    /// Returns the bands whose amounts, or those of the band below, are near enough to an amount.
    fn bands(self, amount: f64) -> Bands {
        let Some(width) = self.0 else { return Bands::MAX };
        let band = ((amount.ln() / width).floor() as i64).rem_euclid(i64::from(Bands::BITS)) as u32;
        Bands::from(1_u8).rotate_left(band) | Bands::from(1_u8).rotate_left(band + 1)
    }
}

/// Wallets of a slice that may be on a cycle, those with the most counterparties first.
struct CircuitNetwork {
    starts: Vec<u32>,
    arcs: Vec<CircuitArc>,
    in_starts: Vec<u32>,
    senders: Vec<(u32, Bands)>,
}

impl CircuitNetwork {
    /// O(pairs log pairs). Also returns the number of wallets that are not passed through.
    fn of<W: Interrupt>(slice: &Slice<'_>, bounds: &CycleBounds, pace: &mut Pace<'_, W>) -> Result<(Self, u64), Stop> {
        let (max_fan, ruler) = (bounds.max_fan, Ruler::new(bounds.tolerance));
        let count = slice.wallets.len();
        let locals = 0..count as u32;
        let mut passed_over = 0;
        let mut sends: Vec<u32> = locals.clone().map(|local| slice.pairs_from(local).len() as u32).collect();
        let mut receives: Vec<u32> = locals.clone().map(|local| slice.pairs_to(local).len() as u32).collect();
        let mut gone: Vec<u32> = Vec::new();
        for local in locals.clone() {
            let (out, back) = (sends[local as usize], receives[local as usize]);
            let hub = out > 0 && back > 0 && out.max(back) as usize > max_fan;
            passed_over += u64::from(hub);
            if hub || out == 0 || back == 0 {
                gone.push(local);
            }
        }
        let mut stays = vec![true; count];
        gone.iter().for_each(|local| stays[*local as usize] = false);
        while let Some(local) = gone.pop() {
            step(pace, slice.pairs_from(local).len() + slice.pairs_to(local).len())?;
            let lose = |counts: &mut [u32], other: u32, stays: &mut [bool], gone: &mut Vec<u32>| {
                let index = other as usize;
                counts[index] = counts[index].saturating_sub(1);
                if counts[index] == 0 && std::mem::replace(&mut stays[index], false) {
                    gone.push(other);
                }
            };
            for pair in slice.pairs_from(local) {
                lose(&mut receives, pair.to, &mut stays, &mut gone);
            }
            for pair in slice.pairs_to(local) {
                lose(&mut sends, slice.pairs[*pair as usize].from, &mut stays, &mut gone);
            }
        }
        let mut wallets: Vec<u32> = locals.filter(|local| stays[*local as usize]).collect();
        wallets.sort_by_key(|local| std::cmp::Reverse(sends[*local as usize] + receives[*local as usize]));
        let mut ranks = vec![u32::MAX; count];
        for (rank, local) in (0..).zip(&wallets) {
            ranks[*local as usize] = rank;
        }
        let mut network = Self { starts: vec![0], arcs: Vec::new(), in_starts: vec![0], senders: Vec::new() };
        for local in &wallets {
            let start = network.arcs.len();
            let first = slice.first_pair(*local) as u32;
            for (number, pair) in (first..).zip(slice.pairs_from(*local)) {
                step(pace, slice.rows_of(pair).len())?;
                let to = ranks[pair.to as usize];
                if to != u32::MAX {
                    network.arcs.push(CircuitArc::of(slice, number, pair, to, ruler));
                }
            }
            network.arcs[start..].sort_unstable_by_key(|arc| arc.to);
            network.starts.push(network.arcs.len() as u32);
        }
        let mut senders: Vec<Vec<(u32, Bands)>> = vec![Vec::new(); wallets.len()];
        for from in 0..network.len() {
            step(pace, network.arcs(from).len())?;
            for arc in network.arcs(from) {
                senders[arc.to as usize].push((from, arc.bands));
            }
        }
        for of_one in senders {
            step(pace, of_one.len())?;
            network.senders.extend(of_one);
            network.in_starts.push(network.senders.len() as u32);
        }
        Ok((network, passed_over))
    }

    fn len(&self) -> u32 {
        (self.starts.len() - 1) as u32
    }

    fn arcs(&self, wallet: u32) -> &[CircuitArc] {
        let index = wallet as usize;
        &self.arcs[self.starts[index] as usize..self.starts[index + 1] as usize]
    }

    fn senders(&self, wallet: u32) -> &[(u32, Bands)] {
        let index = wallet as usize;
        &self.senders[self.in_starts[index] as usize..self.in_starts[index + 1] as usize]
    }
}

impl CircuitArc {
    fn of(slice: &Slice<'_>, number: u32, pair: &Pair, to: u32, ruler: Ruler) -> Self {
        let (mut least, mut most, mut bands) = (f64::INFINITY, 0.0_f64, 0);
        let rows = slice.rows_of(pair);
        for row in rows {
            let value = slice.row(*row).value.as_f64();
            (least, most) = (least.min(value), most.max(value));
            bands |= ruler.bands(value);
        }
        let time = |row: Option<&u32>| row.map_or(0, |row| slice.row(*row).time);
        Self { to, pair: number, first: time(rows.first()), last: time(rows.last()), least, most, bands }
    }
}

pub(super) fn step<W: Interrupt>(pace: &mut Pace<'_, W>, steps: usize) -> Result<(), Stop> {
    pace.step(steps).map_or(Ok(()), |halt| Err(Stop::Halt(halt)))
}

/// A walk from a root, and what bounds it.
#[derive(Debug, Clone, Copy)]
struct CircuitWalk {
    length: usize,
    /// Latest of the first times of its pairs, and earliest of their last times.
    first: i64,
    last: i64,
    /// Maximum of the minimum amounts of its pairs, and minimum of their maximum amounts.
    least: f64,
    most: f64,
    /// Bands in which all of its pairs have amounts.
    bands: Bands,
}

/// A path back to the root.
#[derive(Debug, Clone, Copy)]
struct Back {
    /// Root that it leads to; paths to earlier roots are obsolete.
    root: u32,
    /// Minimum number of steps.
    steps: u32,
    /// Bands of all paths back.
    bands: Bands,
    /// Bands that are new in this round.
    fresh: Bands,
}

/// An enumeration in progress.
struct Enumeration<'e, 'w, W, F> {
    network: &'e CircuitNetwork,
    bounds: &'e CycleBounds,
    pace: &'e mut Pace<'w, W>,
    root: u32,
    back: Vec<Back>,
    half: usize,
    nodes: [u32; LONGEST],
    pairs: [u32; LONGEST],
    each: F,
}

impl<W: Interrupt, F: FnMut(&mut Pace<'_, W>, &[u32]) -> Result<(), Stop>> Enumeration<'_, '_, W, F> {
    fn run(&mut self) -> Result<(), Stop> {
        let mut frontier: Vec<(u32, Bands)> = Vec::new();
        let mut next: Vec<u32> = Vec::new();
        for root in 0..self.network.len() {
            self.root = root;
            self.look_back(root, &mut frontier, &mut next)?;
            self.nodes[0] = root;
            let none = CircuitWalk {
                length: 0,
                first: i64::MIN,
                last: i64::MAX,
                least: 0.0,
                most: f64::INFINITY,
                bands: Bands::MAX,
            };
            self.extend(root, none)?;
        }
        Ok(())
    }

    /// Finds the wallets from which the root can be reached in half the steps of the longest cycle,
    /// with the bands of amounts.
    fn look_back(&mut self, root: u32, frontier: &mut Vec<(u32, Bands)>, next: &mut Vec<u32>) -> Result<(), Stop> {
        frontier.clear();
        frontier.push((root, Bands::MAX));
        for steps in 1..=self.half as u32 {
            for (wallet, bands) in frontier.drain(..) {
                let senders = self.network.senders(wallet);
                // In the order of their numbers.
                let senders = &senders[senders.partition_point(|sender| sender.0 <= root)..];
                step(self.pace, senders.len())?;
                for (sender, of_arc) in senders {
                    let bands = bands & of_arc;
                    let back = &mut self.back[*sender as usize];
                    if back.root != root && bands != 0 {
                        *back = Back { root, steps, bands: 0, fresh: 0 };
                    }
                    let new = if back.root == root { bands & !back.bands & !back.fresh } else { 0 };
                    if new != 0 {
                        if back.fresh == 0 {
                            next.push(*sender);
                        }
                        back.fresh |= new;
                    }
                }
            }
            for sender in next.drain(..) {
                let back = &mut self.back[sender as usize];
                back.bands |= back.fresh;
                frontier.push((sender, std::mem::take(&mut back.fresh)));
            }
        }
        Ok(())
    }

    fn extend(&mut self, node: u32, walk: CircuitWalk) -> Result<(), Stop> {
        let network = self.network;
        let arcs = network.arcs(node);
        let arcs = &arcs[arcs.partition_point(|arc| arc.to < self.root)..];
        step(self.pace, arcs.len())?;
        for arc in arcs {
            let (first, last) = (walk.first.max(arc.first), walk.last.min(arc.last));
            if first.saturating_sub(last) > self.bounds.window {
                continue;
            }
            let bands = walk.bands & arc.bands;
            if bands == 0 {
                continue;
            }
            let (least, most) = (walk.least.max(arc.least), walk.most.min(arc.most));
            if let Some(tolerance) = self.bounds.tolerance
                && least * (1.0 - tolerance - SLACK) > most
            {
                continue;
            }
            let length = walk.length + 1;
            if arc.to == self.root {
                if length >= self.bounds.min_length {
                    self.pairs[walk.length] = arc.pair;
                    (self.each)(self.pace, &self.pairs[..length])?;
                }
                continue;
            }
            // Remaining steps, and the number of steps needed.
            let left = self.bounds.max_length - length;
            let back = &self.back[arc.to as usize];
            let (needed, fits) = if back.root == self.root {
                (back.steps as usize, back.bands & bands != 0)
            } else {
                (self.half + 1, true)
            };
            // Paths back that are longer than half are unknown.
            if needed > left || (!fits && left <= self.half) || self.nodes[1..length].contains(&arc.to) {
                continue;
            }
            self.nodes[length] = arc.to;
            self.pairs[walk.length] = arc.pair;
            self.extend(arc.to, CircuitWalk { length, first, last, least, most, bands })?;
        }
        Ok(())
    }
}

/// Calls `each` for the pairs of every cycle of wallets of a slice, each cycle once.
pub(super) fn enumerate<W: Interrupt>(
    slice: &Slice<'_>,
    bounds: &CycleBounds,
    pace: &mut Pace<'_, W>,
    each: impl FnMut(&mut Pace<'_, W>, &[u32]) -> Result<(), Stop>,
) -> Result<u64, Stop> {
    let (network, passed_over) = CircuitNetwork::of(slice, bounds, pace)?;
    let mut enumeration = Enumeration {
        network: &network,
        bounds,
        pace,
        root: 0,
        back: vec![Back { root: u32::MAX, steps: 0, bands: 0, fresh: 0 }; network.len() as usize],
        half: bounds.max_length / 2,
        nodes: [0; LONGEST],
        pairs: [0; LONGEST],
        each,
    };
    enumeration.run()?;
    Ok(passed_over)
}
