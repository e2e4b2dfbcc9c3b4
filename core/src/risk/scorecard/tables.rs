//! The factors of a scorecard in a layout for scoring many rows: each feature is searched once,
//! even if several factors read it.

use std::collections::BTreeMap;

use wide::f64x4;

use super::points::Points;
use super::steps::BoundFactor;
use super::{is_not_covered, without_mark};

/// Cuts that are compared at the same time.
const BLOCK: usize = 8;

/// Columns whose bins are kept on the stack.
const STACK_COLUMNS: usize = 128;

/// Flag of the bin of a value that is not covered.
const UNCOVERED: u32 = 1 << 31;

/// The factors of a scorecard, by feature. A sum starts from a row in which every feature is
/// undefined, and each value that is defined or not covered changes it.
#[derive(Debug, Clone)]
pub(super) struct FactorTables {
    /// Points of a row in which every feature is undefined, in tenths.
    undefined: i64,
    /// By column, up to the last one that a factor reads.
    columns: Vec<FeatureTable>,
    /// Cuts of all features in blocks, in order for each feature; padded with infinity.
    blocks: Vec<[f64; BLOCK]>,
    /// Last cuts of further blocks, four at a time.
    pivots: Vec<[f64; 4]>,
    /// By feature and bin: points of the factors that read only this feature, less their points
    /// where it is undefined, in tenths.
    points: Vec<i32>,
    /// The same where the value is not covered.
    uncovered_points: Vec<i32>,
    /// By column: the factors that read only this feature.
    alone: Vec<Uncovered>,
    pairs: Vec<PairTable>,
    /// By feature of a factor and bin: offset in the cells of the factor.
    offsets: Vec<u32>,
    /// Points of factors of two features, less their points where a feature is undefined, in
    /// tenths.
    cells: Vec<i32>,
    /// The same where a value is not covered.
    uncovered_cells: Vec<i32>,
}

/// Offsets of the parts of a feature.
#[derive(Debug, Clone, Copy)]
struct FeatureTable {
    /// Last cuts of the first four blocks, except of the last block.
    ends: [f64; 4],
    /// Range of the last cuts of further blocks.
    pivots: (u32, u32),
    block: u32,
    points: u32,
}

/// Offsets of the parts of a factor of two features.
#[derive(Debug, Clone, Copy)]
struct PairTable {
    columns: (u32, u32),
    offsets: (u32, u32),
    cells: u32,
    uncovered: Uncovered,
}

/// Effect of a value that is not covered: its factors give a part of their points.
#[derive(Debug, Clone, Copy, Default)]
struct Uncovered {
    /// Points of the factors where a feature is undefined and not covered, less those where it is
    /// undefined, in tenths.
    undefined: i64,
    /// Weight of the factors.
    weight: u64,
}

/// Sum of the points of all factors, in tenths, and the weight of those that give a part of theirs
/// because a value is not covered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RowSum {
    pub(super) tenths: i64,
    pub(super) uncovered: u64,
}

/// The score of a row whose values are added one by one.
#[derive(Debug, Clone, Default)]
pub struct PartialScore {
    /// By column: the bin of its value plus one; 0 if it is undefined. With the flag `UNCOVERED` if
    /// it is not covered.
    bins: Vec<u32>,
    sum: RowSum,
}

impl FactorTables {
    /// Makes the tables of factors.
    pub(super) fn new(steps: &[BoundFactor]) -> Self {
        let mut cuts: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for (column, of_factor) in
            steps.iter().flat_map(|factor| [Some(&factor.first), factor.second.as_ref()]).flatten()
        {
            cuts.entry(*column).or_default().extend(of_factor);
        }
        for cuts in cuts.values_mut() {
            cuts.sort_unstable_by(f64::total_cmp);
            // 0 and -0 are one cut.
            cuts.dedup_by(|a, b| a == b);
        }
        let cuts_of = |column: usize| cuts.get(&column).map_or(&[][..], Vec::as_slice);
        let mut tables = Self {
            undefined: steps.iter().map(|factor| i64::from(factor.undefined.tenths())).sum(),
            columns: Vec::new(),
            blocks: Vec::new(),
            pivots: Vec::new(),
            points: Vec::new(),
            uncovered_points: Vec::new(),
            alone: Vec::new(),
            pairs: Vec::new(),
            offsets: Vec::new(),
            cells: Vec::new(),
            uncovered_cells: Vec::new(),
        };
        for column in 0..cuts.last_key_value().map_or(0, |(last, _)| last + 1) {
            tables.add_column(column, cuts_of(column), steps);
        }
        for factor in steps {
            let Some(second) = &factor.second else { continue };
            let cells = tables.cells.len() as u32;
            let beyond = |points: Points| points.tenths() - factor.undefined.tenths();
            tables.cells.extend(factor.points.iter().map(|points| beyond(*points)));
            tables.uncovered_cells.extend(factor.points.iter().map(|points| beyond(points.uncovered_part())));
            let first = tables.add_offsets(&factor.first.1, cuts_of(factor.first.0), second.1.len() + 1);
            let other = tables.add_offsets(&second.1, cuts_of(second.0), 1);
            let columns = (factor.first.0 as u32, second.0 as u32);
            let uncovered = Uncovered::of(std::iter::once(factor));
            tables.pairs.push(PairTable { columns, offsets: (first, other), cells, uncovered });
        }
        tables
    }

    fn add_column(&mut self, column: usize, cuts: &[f64], steps: &[BoundFactor]) {
        // The end of the last block is not needed.
        let mut ends = cuts.iter().skip(BLOCK - 1).step_by(BLOCK).take(cuts.len().saturating_sub(1) / BLOCK).copied();
        let mut four = || std::array::from_fn(|_| ends.next().unwrap_or(f64::INFINITY));
        let start = self.pivots.len() as u32;
        let first = four();
        let blocks = cuts.len().div_ceil(BLOCK).max(1);
        self.pivots.extend((4..blocks.saturating_sub(1)).step_by(4).map(|_| four()));
        let (block, points) = (self.blocks.len() as u32, self.points.len() as u32);
        let padded = |number: usize| {
            std::array::from_fn(|index| cuts.get(number * BLOCK + index).copied().unwrap_or(f64::INFINITY))
        };
        self.blocks.extend((0..blocks).map(padded));
        let alone = || steps.iter().filter(|factor| factor.second.is_none() && factor.first.0 == column);
        self.alone.push(Uncovered::of(alone()));
        for bin in 0..=cuts.len() {
            let below = cuts.get(..bin).unwrap_or_default();
            let sum = |part: fn(Points) -> Points| {
                let beyond = alone().map(|factor| {
                    let points = factor.points.get(within(&factor.first.1, below)).copied().unwrap_or_default();
                    part(points).tenths().saturating_sub(factor.undefined.tenths())
                });
                beyond.fold(0, i32::saturating_add)
            };
            self.points.push(sum(|points| points));
            self.uncovered_points.push(sum(Points::uncovered_part));
        }
        self.columns.push(FeatureTable { ends: first, pivots: (start, self.pivots.len() as u32), block, points });
    }

    /// Adds the offset of each bin of a feature in the cells of a factor; `step` is the distance of
    /// two bins.
    fn add_offsets(&mut self, of_factor: &[f64], of_feature: &[f64], step: usize) -> u32 {
        let start = self.offsets.len() as u32;
        for bin in 0..=of_feature.len() {
            let below = of_feature.get(..bin).unwrap_or_default();
            self.offsets.push((within(of_factor, below) * step) as u32);
        }
        start
    }

    /// Returns the points of all factors for a row.
    #[inline]
    pub(super) fn sum(&self, row: &[f64]) -> RowSum {
        let columns = self.columns.len().min(row.len());
        if columns <= STACK_COLUMNS {
            self.sum_in(row, &mut [0; STACK_COLUMNS])
        } else {
            self.sum_in(row, &mut vec![0; columns])
        }
    }

    #[inline]
    fn sum_in(&self, row: &[f64], bins: &mut [u32]) -> RowSum {
        let mut sum = RowSum { tenths: self.undefined, uncovered: 0 };
        for (((column, alone), value), bin) in self.columns.iter().zip(&self.alone).zip(row).zip(bins.iter_mut()) {
            if is_not_covered(*value) {
                self.add_uncovered(column, alone, *value, bin, &mut sum);
            } else if !value.is_nan() {
                sum.tenths += self.points_at(column, self.find(column, *value, bin));
            }
        }
        self.add_pairs(bins, &mut sum);
        sum
    }

    /// Starts a row: every column is undefined.
    #[inline]
    pub(super) fn begin(&self, row: &mut PartialScore) {
        row.bins.clear();
        row.bins.resize(self.columns.len(), 0);
        row.sum = RowSum { tenths: self.undefined, uncovered: 0 };
    }

    /// Adds a value that is defined or not covered; each column at most once.
    #[inline]
    pub(super) fn put(&self, row: &mut PartialScore, column: usize, value: f64) {
        let PartialScore { bins, sum } = row;
        let (Some(table), Some(bin)) = (self.columns.get(column), bins.get_mut(column)) else { return };
        if !is_not_covered(value) {
            if !value.is_nan() {
                sum.tenths += self.points_at(table, self.find(table, value, bin));
            }
        } else if let Some(alone) = self.alone.get(column) {
            self.add_uncovered(table, alone, value, bin, sum);
        }
    }

    /// Returns the points of all factors for the values so far.
    #[inline]
    pub(super) fn end(&self, row: &PartialScore) -> RowSum {
        let mut sum = row.sum;
        self.add_pairs(&row.bins, &mut sum);
        sum
    }

    /// Adds a value that is not covered.
    #[cold]
    fn add_uncovered(&self, column: &FeatureTable, alone: &Uncovered, value: f64, bin: &mut u32, sum: &mut RowSum) {
        let value = without_mark(value);
        sum.uncovered += alone.weight;
        if value.is_nan() {
            sum.tenths += alone.undefined;
        } else {
            let at = self.find(column, value, bin);
            sum.tenths +=
                i64::from(self.uncovered_points.get((column.points + at) as usize).copied().unwrap_or_default());
        }
        *bin |= UNCOVERED;
    }

    /// Returns the points of the factors that read only this feature, for a bin.
    #[inline]
    fn points_at(&self, column: &FeatureTable, at: u32) -> i64 {
        i64::from(self.points.get((column.points + at) as usize).copied().unwrap_or_default())
    }

    /// Finds the bin of a value, and sets it.
    #[inline]
    fn find(&self, column: &FeatureTable, value: f64, bin: &mut u32) -> u32 {
        let four = f64x4::splat(value);
        let further = self.pivots.get(column.pivots.0 as usize..column.pivots.1 as usize).unwrap_or_default();
        let before = further.iter().fold(less(&column.ends, four), |sum, pivots| sum + less(pivots, four));
        let Some([a, b, c, d, e, f, g, h]) = self.blocks.get((column.block + before) as usize) else { return 0 };
        let at = before * BLOCK as u32 + less(&[*a, *b, *c, *d], four) + less(&[*e, *f, *g, *h], four);
        *bin = at + 1;
        at
    }

    #[inline]
    fn add_pairs(&self, bins: &[u32], sum: &mut RowSum) {
        for pair in &self.pairs {
            let bin = |column: u32| bins.get(column as usize).copied().unwrap_or_default();
            let (first, second) = (bin(pair.columns.0), bin(pair.columns.1));
            let (cells, undefined) = if (first | second) & UNCOVERED == 0 {
                (&self.cells, 0)
            } else {
                sum.uncovered += pair.uncovered.weight;
                (&self.uncovered_cells, pair.uncovered.undefined)
            };
            let defined = |bin: u32| (bin & !UNCOVERED).checked_sub(1);
            let (Some(first), Some(second)) = (defined(first), defined(second)) else {
                sum.tenths += undefined;
                continue;
            };
            let offset =
                |offsets: u32, bin: u32| self.offsets.get((offsets + bin) as usize).copied().unwrap_or_default();
            let cell = pair.cells + offset(pair.offsets.0, first) + offset(pair.offsets.1, second);
            sum.tenths += i64::from(cells.get(cell as usize).copied().unwrap_or_default());
        }
    }
}

impl Uncovered {
    fn of<'f>(factors: impl Iterator<Item = &'f BoundFactor>) -> Self {
        factors.fold(Self::default(), |sum, factor| Self {
            undefined: sum.undefined
                + i64::from(factor.undefined.uncovered_part().tenths() - factor.undefined.tenths()),
            weight: sum.weight + factor.weight,
        })
    }
}

/// Counts the numbers below a value, of four in ascending order.
#[inline]
fn less(four: &[f64; 4], value: f64x4) -> u32 {
    let mask = f64x4::new(*four).simd_lt(value).to_bitmask();
    (!mask).trailing_zeros()
}

/// Returns the bin of a factor for the values in a bin of its feature: the number of the factor's
/// cuts that are among the feature's cuts below that bin.
fn within(of_factor: &[f64], below: &[f64]) -> usize {
    below.last().map_or(0, |last| of_factor.partition_point(|cut| cut <= last))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{NOT_COVERED, not_covered};
    use super::*;

    fn cuts() -> impl Strategy<Value = Vec<f64>> {
        prop::collection::btree_set(-60_i32..60, 1..70)
            .prop_map(|cuts| cuts.into_iter().map(|cut| f64::from(cut) / 4.0).collect())
    }

    fn step() -> impl Strategy<Value = BoundFactor> {
        (0..3_usize, cuts(), prop::option::of((1..3_usize, cuts())), any::<u32>(), -1000..1000_i32).prop_map(
            |(column, cuts, second, seed, undefined)| {
                let second = second.map(|(further, cuts)| ((column + further) % 3, cuts));
                let cells = (cuts.len() + 1) * second.as_ref().map_or(1, |(_, cuts)| cuts.len() + 1);
                let points =
                    (0..cells as u32).map(|n| (n.wrapping_add(seed).wrapping_mul(2_654_435_769) % 2000) as i32 - 1000);
                let points = points.map(Points::from_tenths).collect();
                let undefined = Points::from_tenths(undefined);
                BoundFactor { first: (column, cuts), second, points, undefined, weight: u64::from(seed % 7) }
            },
        )
    }

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            Just(f64::NAN),
            Just(NOT_COVERED),
            (-70_i32..70).prop_map(|cut| not_covered(f64::from(cut) / 4.0)),
            Just(f64::INFINITY),
            Just(f64::NEG_INFINITY),
            Just(-0.0),
            (-70_i32..70).prop_map(|cut| f64::from(cut) / 4.0),
            -20.0..20.0_f64,
        ]
    }

    proptest! {
        #[test]
        fn tables_give_the_points_of_the_factors(
            steps in prop::collection::vec(step(), 1..12),
            rows in prop::collection::vec([value(), value(), value()], 20),
        ) {
            let tables = FactorTables::new(&steps);
            for row in rows {
                let expected = RowSum {
                    tenths: steps.iter().map(|factor| i64::from(factor.points(&row).tenths())).sum(),
                    uncovered: steps.iter().filter(|factor| !factor.is_covered(&row)).map(|factor| factor.weight).sum(),
                };
                prop_assert_eq!(tables.sum(&row), expected, "{:?}", row);
                let mut running = PartialScore::default();
                tables.begin(&mut running);
                for (column, value) in row.iter().enumerate() {
                    tables.put(&mut running, column, *value);
                }
                prop_assert_eq!(tables.end(&running), expected, "{:?}", row);
            }
            let short: i64 = steps.iter().map(|factor| i64::from(factor.points(&[1.0]).tenths())).sum();
            prop_assert_eq!(tables.sum(&[1.0]).tenths, short, "missing columns are undefined");
        }
    }
}
