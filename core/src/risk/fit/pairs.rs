//! Selection of promising pairs of features: FAST of Lou, Caruana, Gehrke, Hooker 2013 (section
//! 4.1).

use super::binning::{BinnedFeature, coarse};
use super::error::FitError;
use super::options::{FitOptions, PairCandidates};
use super::pace::RowPace;
use super::sample::TrainingSample;
use super::step::{LeafRule, LossSums};
use crate::graph::Interrupt;

/// A feature in few bins.
#[derive(Debug, Clone)]
pub(super) struct CoarseFeature {
    pub cuts: Vec<f64>,
    /// The bin of each row; the last bin is for undefined values.
    pub bins: Vec<u8>,
}

impl CoarseFeature {
    /// Merges the bins of a feature into at most `limit`.
    pub(super) fn new(binned: &BinnedFeature, weight: &[f64], limit: usize) -> Self {
        let mut weights = vec![0.0; binned.defined() + 1];
        for (bin, weight) in binned.bins.iter().zip(weight) {
            if let Some(sum) = weights.get_mut(usize::from(*bin)) {
                *sum += weight;
            }
        }
        weights.truncate(binned.defined());
        let (mut groups, cuts) = coarse(&binned.cuts, &weights, limit);
        let undefined = u8::try_from(cuts.len() + 1).unwrap_or(u8::MAX);
        groups.push(undefined);
        let bins = binned.bins.iter().map(|bin| groups.get(usize::from(*bin)).copied().unwrap_or(undefined));
        Self { bins: bins.collect(), cuts }
    }

    /// Returns the number of bins of defined values.
    pub(super) const fn defined(&self) -> usize {
        self.cuts.len() + 1
    }
}

/// Returns the candidates: pairs of different features by index, each once, the lower index first.
pub(super) fn candidates(sample: &TrainingSample, options: &FitOptions) -> Result<Vec<(usize, usize)>, FitError> {
    let count = sample.names().len();
    let mut pairs: Vec<(usize, usize)> = match &options.pairs {
        PairCandidates::All => (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b))).collect(),
        PairCandidates::Listed(listed) => {
            let index = |name: &String| sample.index_of("pairs", name);
            let pairs = listed.iter().map(|(a, b)| Ok((index(a)?, index(b)?)));
            let pairs: Result<Vec<(usize, usize)>, FitError> = pairs.collect();
            pairs?.into_iter().filter(|(a, b)| a != b).map(|(a, b)| (a.min(b), a.max(b))).collect()
        }
    };
    pairs.sort_unstable();
    pairs.dedup();
    Ok(pairs)
}

/// Returns the most promising pairs. `derivatives` are those of the loss of each row, given the
/// terms so far. O(pairs × rows).
pub(super) fn rank<W: Interrupt>(
    pairs: &[(usize, usize)],
    features: &[CoarseFeature],
    derivatives: &[LossSums],
    options: &FitOptions,
    wanted: usize,
    pace: &mut RowPace<'_, W>,
) -> Result<Vec<(usize, usize)>, FitError> {
    let leaf = LeafRule { least: options.min_leaf, regularization: options.regularization };
    let mut ranked = Vec::new();
    for &(a, b) in pairs {
        pace.step(derivatives.len())?;
        let (Some(first), Some(second)) = (features.get(a), features.get(b)) else { continue };
        let gain = interaction(first, second, derivatives, leaf);
        if gain > 0.0 {
            ranked.push((gain, (a, b)));
        }
    }
    ranked.sort_by(|x, y| y.0.total_cmp(&x.0).then(x.1.cmp(&y.1)));
    Ok(ranked.into_iter().take(wanted).map(|(_, pair)| pair).collect())
}

/// Returns the gain of the best cut of both features beyond those of the two cuts alone.
fn interaction(first: &CoarseFeature, second: &CoarseFeature, derivatives: &[LossSums], leaf: LeafRule) -> f64 {
    let (rows, columns) = (first.defined(), second.defined());
    // One more row and column for undefined values.
    let mut cells = vec![LossSums::default(); (rows + 1) * (columns + 1)];
    for ((a, b), row) in first.bins.iter().zip(&second.bins).zip(derivatives) {
        if let Some(cell) = cells.get_mut(usize::from(*a) * (columns + 1) + usize::from(*b)) {
            *cell = cell.plus(*row);
        }
    }
    // above[r][c] is the sum of the cells before row r and column c.
    let width = columns + 1;
    let mut above = vec![LossSums::default(); (rows + 1) * width];
    for row in 0..rows {
        let mut line = LossSums::default();
        for column in 0..columns {
            line = line.plus(cells.get(row * width + column).copied().unwrap_or_default());
            let up = above.get(row * width + column + 1).copied().unwrap_or_default();
            if let Some(slot) = above.get_mut((row + 1) * width + column + 1) {
                *slot = up.plus(line);
            }
        }
    }
    let corner = |row: usize, column: usize| above.get(row * width + column).copied().unwrap_or_default();
    let all = corner(rows, columns);
    let mut best: f64 = 0.0;
    for row in 1..rows {
        let top = corner(row, columns);
        for column in 1..columns {
            let left = corner(rows, column);
            let quarter = corner(row, column);
            let quarters =
                [quarter, top.minus(quarter), left.minus(quarter), all.minus(top).minus(left.minus(quarter))];
            if quarters.iter().any(|q| !leaf.allows(*q)) {
                continue;
            }
            let together: f64 = quarters.iter().map(|q| leaf.gain(*q)).sum();
            let alone = leaf.gain(top) + leaf.gain(all.minus(top)) + leaf.gain(left) + leaf.gain(all.minus(left));
            best = best.max(together - alone + leaf.gain(all));
        }
    }
    best
}
