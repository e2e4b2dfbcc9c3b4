//! A scorecard's factors, laid out for scoring many rows: each feature is looked up once, however many factors read it.

use std::collections::BTreeMap;

use wide::f64x4;

use super::steps::BoundFactor;

/// Cuts that are compared at once.
const BLOCK: usize = 8;

/// Columns for which there is room on the stack.
const STACK_COLUMNS: usize = 128;

/// The factors of a scorecard, by feature. A row in which everything is undefined is where a sum starts; what is defined changes it.
#[derive(Debug, Clone)]
pub(super) struct FactorTables {
    /// What the factors add to a row in which everything is undefined, in tenths.
    undefined: i64,
    /// By column, up to the last that a factor reads.
    columns: Vec<FeatureTable>,
    /// Cuts of all features in blocks, each feature's in order; places left over hold a number that no value exceeds.
    blocks: Vec<[f64; BLOCK]>,
    /// Further ends of blocks, four at a time.
    pivots: Vec<[f64; 4]>,
    /// By feature and bin: what the factors of the feature alone add beyond what they add where it is undefined, in tenths.
    points: Vec<i32>,
    pairs: Vec<PairTable>,
    /// By a factor's feature and bin: place in the factor's cells.
    places: Vec<u32>,
    /// What factors of two features add beyond what they add where one is undefined, in tenths.
    cells: Vec<i32>,
}

/// Where a feature's parts begin.
#[derive(Debug, Clone, Copy)]
struct FeatureTable {
    /// The last cuts of the first four blocks, if there are more.
    ends: [f64; 4],
    /// Further such ends.
    pivots: (u32, u32),
    block: u32,
    points: u32,
}

/// Where a factor's parts begin, for its two features.
#[derive(Debug, Clone, Copy)]
struct PairTable {
    columns: (u32, u32),
    places: (u32, u32),
    cells: u32,
}

/// A row's score as far as it is known.
#[derive(Debug, Clone, Default)]
pub struct PartialScore {
    /// By column: one more than the bin of its value; 0 where it is undefined.
    bins: Vec<u32>,
    sum: i64,
}

impl FactorTables {
    /// Lays out the factors.
    pub(super) fn new(steps: &[BoundFactor]) -> Self {
        let mut cuts: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for (column, of_factor) in steps.iter().flat_map(|one| [Some(&one.first), one.second.as_ref()]).flatten() {
            cuts.entry(*column).or_default().extend(of_factor);
        }
        for cuts in cuts.values_mut() {
            cuts.sort_unstable_by(f64::total_cmp);
            // 0 and -0 are one cut
            cuts.dedup_by(|a, b| a == b);
        }
        let of = |column: usize| cuts.get(&column).map_or(&[][..], Vec::as_slice);
        let mut tables = Self {
            undefined: steps.iter().map(|one| i64::from(one.undefined.tenths())).sum(),
            columns: Vec::new(),
            blocks: Vec::new(),
            pivots: Vec::new(),
            points: Vec::new(),
            pairs: Vec::new(),
            places: Vec::new(),
            cells: Vec::new(),
        };
        for column in 0..cuts.last_key_value().map_or(0, |(last, _)| last + 1) {
            tables.add_column(column, of(column), steps);
        }
        for one in steps {
            let Some(second) = &one.second else { continue };
            let cells = tables.cells.len() as u32;
            tables.cells.extend(one.points.iter().map(|points| points.tenths() - one.undefined.tenths()));
            let first = tables.add_places(&one.first.1, of(one.first.0), second.1.len() + 1);
            let other = tables.add_places(&second.1, of(second.0), 1);
            let columns = (one.first.0 as u32, second.0 as u32);
            tables.pairs.push(PairTable { columns, places: (first, other), cells });
        }
        tables
    }

    fn add_column(&mut self, column: usize, cuts: &[f64], steps: &[BoundFactor]) {
        // nothing is behind the last block
        let mut ends = cuts.iter().skip(BLOCK - 1).step_by(BLOCK).take(cuts.len().saturating_sub(1) / BLOCK).copied();
        let mut four = || std::array::from_fn(|_| ends.next().unwrap_or(f64::INFINITY));
        let start = self.pivots.len() as u32;
        let first = four();
        let blocks = cuts.len().div_ceil(BLOCK).max(1);
        self.pivots.extend((4..blocks.saturating_sub(1)).step_by(4).map(|_| four()));
        let (block, points) = (self.blocks.len() as u32, self.points.len() as u32);
        let padded = |number: usize| {
            std::array::from_fn(|place| cuts.get(number * BLOCK + place).copied().unwrap_or(f64::INFINITY))
        };
        self.blocks.extend((0..blocks).map(padded));
        let alone = || steps.iter().filter(|one| one.second.is_none() && one.first.0 == column);
        for bin in 0..=cuts.len() {
            let below = cuts.get(..bin).unwrap_or_default();
            let beyond = alone().map(|one| {
                let points = one.points.get(within(&one.first.1, below)).map_or(0, |points| points.tenths());
                points.saturating_sub(one.undefined.tenths())
            });
            self.points.push(beyond.fold(0, i32::saturating_add));
        }
        self.columns.push(FeatureTable { ends: first, pivots: (start, self.pivots.len() as u32), block, points });
    }

    /// For each bin of a feature its place in a factor's table, where steps are so far apart.
    fn add_places(&mut self, of_factor: &[f64], of_feature: &[f64], step: usize) -> u32 {
        let start = self.places.len() as u32;
        for bin in 0..=of_feature.len() {
            let below = of_feature.get(..bin).unwrap_or_default();
            self.places.push((within(of_factor, below) * step) as u32);
        }
        start
    }

    /// What all factors add to a row's score, in tenths.
    #[inline]
    pub(super) fn sum(&self, row: &[f64]) -> i64 {
        let known = self.columns.len().min(row.len());
        if known <= STACK_COLUMNS {
            self.sum_in(row, &mut [0; STACK_COLUMNS])
        } else {
            self.sum_in(row, &mut vec![0; known])
        }
    }

    #[inline]
    fn sum_in(&self, row: &[f64], bins: &mut [u32]) -> i64 {
        let mut sum = self.undefined;
        for ((column, value), bin) in self.columns.iter().zip(row).zip(bins.iter_mut()) {
            if !value.is_nan() {
                sum += self.add_to(column, *value, bin);
            }
        }
        sum + self.of_pairs(bins)
    }

    /// Begins a row: everything is undefined.
    #[inline]
    pub(super) fn begin(&self, row: &mut PartialScore) {
        row.bins.clear();
        row.bins.resize(self.columns.len(), 0);
        row.sum = self.undefined;
    }

    /// A value of a row, which is no NaN, once a column.
    #[inline]
    pub(super) fn put(&self, row: &mut PartialScore, column: usize, value: f64) {
        if let (Some(column), Some(bin)) = (self.columns.get(column), row.bins.get_mut(column)) {
            row.sum += self.add_to(column, value, bin);
        }
    }

    /// What all factors add to a row's score, in tenths.
    #[inline]
    pub(super) fn end(&self, row: &PartialScore) -> i64 {
        row.sum + self.of_pairs(&row.bins)
    }

    /// What a value adds to what the factors of its feature alone say.
    #[inline]
    fn add_to(&self, column: &FeatureTable, value: f64, bin: &mut u32) -> i64 {
        let four = f64x4::splat(value);
        let further = self.pivots.get(column.pivots.0 as usize..column.pivots.1 as usize).unwrap_or_default();
        let before = further.iter().fold(less(&column.ends, four), |sum, pivots| sum + less(pivots, four));
        let Some([a, b, c, d, e, f, g, h]) = self.blocks.get((column.block + before) as usize) else { return 0 };
        let at = before * BLOCK as u32 + less(&[*a, *b, *c, *d], four) + less(&[*e, *f, *g, *h], four);
        *bin = at + 1;
        i64::from(self.points.get((column.points + at) as usize).copied().unwrap_or_default())
    }

    #[inline]
    fn of_pairs(&self, bins: &[u32]) -> i64 {
        let mut sum = 0;
        for pair in &self.pairs {
            let bin = |column: u32| bins.get(column as usize).copied().unwrap_or_default();
            let (Some(first), Some(second)) = (bin(pair.columns.0).checked_sub(1), bin(pair.columns.1).checked_sub(1))
            else {
                continue;
            };
            let place = |places: u32, bin: u32| self.places.get((places + bin) as usize).copied().unwrap_or_default();
            let cell = pair.cells + place(pair.places.0, first) + place(pair.places.1, second);
            sum += i64::from(self.cells.get(cell as usize).copied().unwrap_or_default());
        }
        sum
    }
}

/// How many of four numbers in order are less than a value.
#[inline]
fn less(four: &[f64; 4], value: f64x4) -> u32 {
    let mask = f64x4::new(*four).simd_lt(value).to_bitmask();
    (!mask).trailing_zeros()
}

/// The bin of a factor for the values of a feature's bin: how many of the factor's cuts are among the feature's cuts below.
fn within(of_factor: &[f64], below: &[f64]) -> usize {
    below.last().map_or(0, |last| of_factor.partition_point(|cut| cut <= last))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::points::Points;
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
                BoundFactor { first: (column, cuts), second, points, undefined: Points::from_tenths(undefined) }
            },
        )
    }

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            Just(f64::NAN),
            Just(f64::INFINITY),
            Just(f64::NEG_INFINITY),
            Just(-0.0),
            (-70_i32..70).prop_map(|cut| f64::from(cut) / 4.0),
            -20.0..20.0_f64,
        ]
    }

    proptest! {
        #[test]
        fn tables_say_what_the_factors_say(steps in prop::collection::vec(step(), 1..12), rows in prop::collection::vec([value(), value(), value()], 20)) {
            let tables = FactorTables::new(&steps);
            for row in rows {
                let expected: i64 = steps.iter().map(|one| i64::from(one.points(&row).tenths())).sum();
                prop_assert_eq!(tables.sum(&row), expected, "{:?}", row);
                let mut running = PartialScore::default();
                tables.begin(&mut running);
                for (column, value) in row.iter().enumerate().filter(|(_, value)| !value.is_nan()) {
                    tables.put(&mut running, column, *value);
                }
                prop_assert_eq!(tables.end(&running), expected, "{:?}", row);
            }
            let short: i64 = steps.iter().map(|one| i64::from(one.points(&[1.0]).tenths())).sum();
            prop_assert_eq!(tables.sum(&[1.0]), short, "what a row does not have is undefined");
        }
    }
}
