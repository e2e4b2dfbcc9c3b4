//! Cyclic boosting of terms on logarithmic loss, stopped where the loss of held-out rows is lowest.
//!
//! Rows carry their odds, not their log odds: a step multiplies them by one factor per cell, so
//! that exponentials are computed per cell and not per row. O(rounds × terms × rows).

use super::error::FitError;
use super::options::FitOptions;
use super::pace::RowPace;
use super::step::{LeafRule, LossSums, TermShape, best_step};
use crate::graph::Interrupt;

/// Cells of a term: a cell is stored in a byte.
pub(super) const CELLS: usize = 256;

/// Share of the loss below which a decrease is no improvement.
const IMPROVEMENT: f64 = 1e-5;

/// Mean loss at which boosting ends: the loss of separable classes falls forever.
const NEGLIGIBLE_LOSS: f64 = 1e-3;

/// A function to fit: of the cell that a row falls into.
#[derive(Debug)]
pub(super) struct Term {
    pub shape: TermShape,
    /// The cell of each row.
    pub cells: Vec<u8>,
}

/// Rows of a sample, in a layout for boosting.
pub(super) struct BoostRows {
    /// Cells of the rows, for each term.
    cells: Vec<Vec<u8>>,
    weight: Vec<f64>,
    /// Weight of illicit rows; 0 for others.
    positive: Vec<f64>,
    odds: Vec<f64>,
}

/// Odds of a row, its cell of the updated term, its cell of the next term, its weight, and its
/// weight if it is illicit.
type BoostRow<'r> = ((((&'r mut f64, &'r u8), &'r u8), &'r f64), &'r f64);

impl BoostRows {
    /// Copies the rows for which `keep` holds, with their log odds so far.
    pub(super) fn pick<W: Interrupt>(
        terms: &[Term],
        (illicit, weight): (&[bool], &[f64]),
        logit: &[f64],
        keep: impl Fn(usize) -> bool,
        pace: &mut RowPace<'_, W>,
    ) -> Result<Self, FitError> {
        let rows: Vec<usize> = (0..illicit.len()).filter(|row| keep(*row)).collect();
        let mut cells = Vec::new();
        for term in terms {
            pace.step(rows.len())?;
            cells.push(rows.iter().filter_map(|row| term.cells.get(*row)).copied().collect());
        }
        pace.step(rows.len())?;
        let weights = rows.iter().filter_map(|row| weight.get(*row)).copied().collect();
        let positive = rows.iter().filter_map(|row| Some(if *illicit.get(*row)? { *weight.get(*row)? } else { 0.0 }));
        let odds = rows.iter().filter_map(|row| logit.get(*row)).map(|l| libm::exp(*l));
        Ok(Self { cells, weight: weights, positive: positive.collect(), odds: odds.collect() })
    }

    fn multiply(&mut self, term: usize, table: &[f64; CELLS]) {
        if let Some(cells) = self.cells.get(term) {
            for (odds, cell) in self.odds.iter_mut().zip(cells) {
                *odds *= table[usize::from(*cell)];
            }
        }
    }

    /// Returns the sum of logarithmic losses.
    fn loss(&self) -> f64 {
        let rows = self.odds.iter().zip(&self.weight).zip(&self.positive);
        rows.map(|((odds, weight), positive)| weight * libm::log1p(*odds) - positive * libm::log(*odds)).sum()
    }

    /// Returns the weights of the cells of a term.
    fn weights(&self, term: usize) -> [f64; CELLS] {
        let mut weights = [0.0; CELLS];
        for (cell, weight) in self.cells.get(term).into_iter().flatten().zip(&self.weight) {
            weights[usize::from(*cell)] += weight;
        }
        weights
    }

    /// Multiplies the odds by a table over the cells of one term, and sums the derivatives by the
    /// cells of the next term.
    fn pass(&mut self, update: Option<(usize, &[f64; CELLS])>, next: usize, sums: &mut [[f64; 2]; CELLS]) {
        // Two sums per cell, so that a row does not wait for the one before it.
        let mut odd = [[0.0; 2]; CELLS];
        sums.fill([0.0; 2]);
        let Some(next) = self.cells.get(next) else { return };
        let ones = [1.0; CELLS];
        let (updated, table) = match update {
            Some((term, table)) => (self.cells.get(term).unwrap_or(next), table),
            None => (next, &ones),
        };
        let add = |sums: &mut [[f64; 2]; CELLS], row: BoostRow<'_>| {
            let ((((odds, updated), cell), weight), positive) = row;
            *odds *= table[usize::from(*updated)];
            let p = *odds / (1.0 + *odds);
            let expected = weight * p;
            let sum = &mut sums[usize::from(*cell)];
            sum[0] += positive - expected;
            sum[1] += expected - expected * p;
        };
        let mut rows = self.odds.iter_mut().zip(updated).zip(next).zip(&self.weight).zip(&self.positive);
        while let Some(row) = rows.next() {
            add(sums, row);
            if let Some(row) = rows.next() {
                add(&mut odd, row);
            }
        }
        for (sum, odd) in sums.iter_mut().zip(&odd) {
            sum[0] += odd[0];
            sum[1] += odd[1];
        }
    }
}

/// Fits the functions of the terms, one value per cell; returns those with the lowest loss of the
/// held-out rows.
pub(super) fn boost<W: Interrupt>(
    terms: &[Term],
    mut learn: BoostRows,
    mut held_out: BoostRows,
    options: &FitOptions,
    pace: &mut RowPace<'_, W>,
) -> Result<Vec<Vec<f64>>, FitError> {
    let leaf = LeafRule { least: options.min_leaf, regularization: options.regularization };
    let weights: Vec<[f64; CELLS]> = (0..terms.len()).map(|term| learn.weights(term)).collect();
    let mut functions: Vec<Vec<f64>> = terms.iter().map(|t| vec![0.0; t.shape.cells()]).collect();
    let mut best = functions.clone();
    let (mut best_loss, mut waited) = (held_out.loss(), 0);
    let negligible = NEGLIGIBLE_LOSS * held_out.weight.iter().sum::<f64>();
    let mut derivatives = [[0.0; 2]; CELLS];
    let mut cells = [LossSums::default(); CELLS];
    let mut values = [0.0; CELLS];
    let mut table = [1.0; CELLS];
    let mut last = None;
    for _ in 0..options.rounds {
        for (number, (term, weights)) in terms.iter().zip(&weights).enumerate() {
            pace.step(learn.odds.len() + held_out.odds.len())?;
            learn.pass(last.map(|term| (term, &table)), number, &mut derivatives);
            for ((cell, [gradient, curvature]), weight) in cells.iter_mut().zip(&derivatives).zip(weights) {
                *cell = LossSums { gradient: *gradient, curvature: *curvature, weight: *weight };
            }
            best_step(term.shape, &cells, leaf, options.leaves, &mut values);
            let used = term.shape.cells();
            for (factor, value) in table.iter_mut().zip(&mut values).take(used) {
                *value *= options.learning_rate;
                *factor = libm::exp(*value);
            }
            for (sum, value) in functions.get_mut(number).into_iter().flatten().zip(&values) {
                *sum += value;
            }
            held_out.multiply(number, &table);
            last = Some(number);
        }
        let loss = held_out.loss();
        waited += 1;
        if loss < best_loss * (1.0 - IMPROVEMENT) {
            waited = 0;
        }
        if loss < best_loss {
            best_loss = loss;
            best.clone_from(&functions);
        }
        if waited >= options.patience || best_loss <= negligible {
            break;
        }
    }
    Ok(best)
}
