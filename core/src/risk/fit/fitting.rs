//! The steps of a fit.

use super::bags::parts;
use super::binning::{BinnedFeature, binned};
use super::boost::{BoostRows, Term, boost};
use super::error::FitError;
use super::factors::{FittedFunction, FittedFunctions, FittedModel};
use super::options::{FitOptions, PairCandidates};
use super::pace::RowPace;
use super::pairs::{CoarseFeature, candidates, rank};
use super::sample::TrainingSample;
use super::step::{LossSums, TermShape};
use crate::graph::Interrupt;
use crate::risk::monotone::Monotone;

/// Pairs tried for each wanted pair.
const TRIED_PER_PAIR: usize = 4;

/// Fits the factors of a scorecard to a sample. If there are more features than wanted, all are
/// fitted together, and the most important ones are kept and fitted again.
/// O(bags × rounds × features × rows).
///
/// # Errors
/// [`FitError`]: options out of range, too few rows, too little memory, or an interrupt.
pub fn fit<W: Interrupt>(
    sample: &TrainingSample,
    options: &FitOptions,
    interrupt: &mut W,
) -> Result<FittedModel, FitError> {
    options.check()?;
    sample.check()?;
    check_memory(sample, options)?;
    let directions = directions(sample, options)?;
    // An unknown name is an error; the name of a feature that is dropped is not.
    candidates(sample, options)?;
    let mut pace = RowPace::new(interrupt);
    let kept = kept(sample, &directions, options, &mut pace)?;
    if kept.len() == sample.names().len() {
        return fit_all(sample, &directions, options, &mut pace);
    }
    let directions: Vec<Monotone> = kept.iter().filter_map(|index| directions.get(*index)).copied().collect();
    let sample = sample.with_columns(&kept);
    let mut options = options.clone();
    if let PairCandidates::Listed(pairs) = &mut options.pairs {
        pairs.retain(|(a, b)| [a, b].into_iter().all(|name| sample.names().contains(name)));
    }
    fit_all(&sample, &directions, &options, &mut pace)
}

/// Returns every feature in bins, and the bags of the fit.
fn prepared<'s, W: Interrupt>(
    sample: &'s TrainingSample,
    options: &'s FitOptions,
    pace: &mut RowPace<'_, W>,
) -> Result<(Vec<BinnedFeature>, Bags<'s>), FitError> {
    let mut features = Vec::new();
    for column in sample.columns() {
        features.push(binned(column, sample.weight(), options.bins, pace)?);
    }
    Ok((features, Bags { sample, options, parts: parts(sample, options.bags, options.seed, pace)? }))
}

/// Returns the indices of the features that are kept, in order.
fn kept<W: Interrupt>(
    sample: &TrainingSample,
    directions: &[Monotone],
    options: &FitOptions,
    pace: &mut RowPace<'_, W>,
) -> Result<Vec<usize>, FitError> {
    let all = sample.names().len();
    if all <= options.max_features {
        return Ok((0..all).collect());
    }
    let (features, bags) = prepared(sample, options, pace)?;
    let singles: Vec<Term> =
        features.iter().zip(directions).map(|(binned, direction)| single(binned, *direction)).collect();
    let mut logits = vec![vec![prior(sample); sample.rows()]; options.bags];
    let functions = bags.boost(&singles, &mut logits, pace)?;
    let derivatives = bags.held_out_derivatives(&logits);
    let mut ranked = Vec::new();
    for (index, (term, function)) in singles.iter().zip(&functions).enumerate() {
        pace.step(derivatives.len())?;
        ranked.push((strength(term, function, &derivatives), index));
    }
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut kept: Vec<usize> = ranked.into_iter().take(options.max_features).map(|(_, index)| index).collect();
    kept.sort_unstable();
    Ok(kept)
}

fn fit_all<W: Interrupt>(
    sample: &TrainingSample,
    directions: &[Monotone],
    options: &FitOptions,
    pace: &mut RowPace<'_, W>,
) -> Result<FittedModel, FitError> {
    let (features, bags) = prepared(sample, options, pace)?;
    let singles: Vec<Term> =
        features.iter().zip(directions).map(|(binned, direction)| single(binned, *direction)).collect();
    let mut logits = vec![vec![prior(sample); sample.rows()]; options.bags];
    let single_functions = bags.boost(&singles, &mut logits, pace)?;

    let mut coarse = Vec::new();
    for binned in &features {
        pace.step(sample.rows().saturating_mul(2))?;
        coarse.push(CoarseFeature::new(binned, sample.weight(), options.pair_bins));
    }
    let pairs = bags.pairs(&coarse, directions, &mut logits, pace)?;

    let mut tables = Vec::new();
    for (index, ((term, function), binned)) in singles.into_iter().zip(single_functions).zip(&features).enumerate() {
        tables.push(FittedFunction { features: vec![index], cuts: vec![binned.cuts.clone()], term, function });
    }
    for FittedPair { features: (a, b), term, function } in pairs {
        let cuts = [a, b].into_iter().filter_map(|index| coarse.get(index)).map(|c| c.cuts.clone()).collect();
        tables.push(FittedFunction { features: vec![a, b], cuts, term, function });
    }
    pace.step(sample.rows().saturating_mul(tables.len()))?;
    FittedFunctions { sample, options, tables, directions: directions.to_vec() }.rounded(pace)
}

/// Checks the memory that a fit takes at most. Per row and term: a cell, a copy of it while a bag
/// is fitted, and another for features in few bins. Per row and bag: the odds, twice while pairs
/// are tried. Per row: derivatives and a buffer for sorting.
fn check_memory(sample: &TrainingSample, options: &FitOptions) -> Result<(), FitError> {
    let (rows, features) = (sample.rows(), sample.names().len());
    let tried = options.max_pairs.saturating_mul(TRIED_PER_PAIR + 1);
    let a_row = features.saturating_mul(3).saturating_add(tried.saturating_mul(2));
    let a_row = a_row.saturating_add(options.bags.saturating_mul(16)).saturating_add(120);
    let mut memory = options.memory;
    if memory.take(rows.saturating_mul(a_row)) {
        Ok(())
    } else {
        Err(FitError::Memory { budget: options.memory.limit(), rows, features })
    }
}

fn directions(sample: &TrainingSample, options: &FitOptions) -> Result<Vec<Monotone>, FitError> {
    let mut directions = vec![Monotone::Free; sample.names().len()];
    for (feature, monotone) in &options.monotone {
        let index = sample.index_of("monotone", feature)?;
        if let Some(direction) = directions.get_mut(index) {
            *direction = *monotone;
        }
    }
    Ok(directions)
}

/// Returns the log odds of the whole sample.
fn prior(sample: &TrainingSample) -> f64 {
    let weight = |class: bool| -> f64 {
        sample.illicit().iter().zip(sample.weight()).filter(|(illicit, _)| **illicit == class).map(|(_, w)| w).sum()
    };
    libm::log(weight(true) / weight(false))
}

fn single(binned: &BinnedFeature, monotone: Monotone) -> Term {
    Term { shape: TermShape::Line { bins: binned.defined(), monotone }, cells: binned.bins.clone() }
}

fn table(coarse: &[CoarseFeature], directions: &[Monotone], (a, b): (usize, usize)) -> Option<Term> {
    let (first, second) = (coarse.get(a)?, coarse.get(b)?);
    let (rows, columns) = (first.defined(), second.defined());
    let shape = TermShape::Table { rows, columns, monotone: [*directions.get(a)?, *directions.get(b)?] };
    let cell = |(row, column): (&u8, &u8)| {
        let (row, column) = (usize::from(*row), usize::from(*column));
        let cell = if row < rows && column < columns { row * columns + column } else { rows * columns };
        u8::try_from(cell).unwrap_or(u8::MAX)
    };
    Some(Term { shape, cells: first.bins.iter().zip(&second.bins).map(cell).collect() })
}

/// Returns the importance of a function for the loss: its squares, weighted by the curvature.
fn strength(term: &Term, function: &[f64], derivatives: &[LossSums]) -> f64 {
    let rows = term.cells.iter().zip(derivatives);
    rows.map(|(cell, row)| row.curvature * function.get(usize::from(*cell)).map_or(0.0, |value| value * value)).sum()
}

/// A fitted function of two features, by index.
struct FittedPair {
    features: (usize, usize),
    term: Term,
    function: Vec<f64>,
}

/// The bags of a fit; each holds out one part of the rows.
struct Bags<'s> {
    sample: &'s TrainingSample,
    options: &'s FitOptions,
    parts: Vec<usize>,
}

impl Bags<'_> {
    /// Fits the terms in each bag and returns the means of the functions. Updates the `logits` of
    /// each bag.
    fn boost<W: Interrupt>(
        &self,
        terms: &[Term],
        logits: &mut [Vec<f64>],
        pace: &mut RowPace<'_, W>,
    ) -> Result<Vec<Vec<f64>>, FitError> {
        let mut means: Vec<Vec<f64>> = terms.iter().map(|t| vec![0.0; t.shape.cells()]).collect();
        if terms.is_empty() {
            return Ok(means);
        }
        let classes = (self.sample.illicit(), self.sample.weight());
        #[expect(clippy::cast_precision_loss, reason = "at most 64")]
        let share = 1.0 / logits.len() as f64;
        for (bag, logit) in logits.iter_mut().enumerate() {
            let is_held_out = |row: usize| self.parts.get(row) == Some(&bag);
            let learn = BoostRows::pick(terms, classes, logit, |row| !is_held_out(row), pace)?;
            let held_out = BoostRows::pick(terms, classes, logit, is_held_out, pace)?;
            let functions = boost(terms, learn, held_out, self.options, pace)?;
            for ((term, function), mean) in terms.iter().zip(&functions).zip(&mut means) {
                pace.step(logit.len())?;
                for (logit, cell) in logit.iter_mut().zip(&term.cells) {
                    *logit += function.get(usize::from(*cell)).copied().unwrap_or_default();
                }
                mean.iter_mut().zip(function).for_each(|(mean, value)| *mean += share * value);
            }
        }
        Ok(means)
    }

    /// Fits the functions of pairs of features. A ranking of single pairs does not recognise
    /// redundant ones, so more pairs than wanted are fitted together, and the most important ones
    /// again.
    fn pairs<W: Interrupt>(
        &self,
        coarse: &[CoarseFeature],
        directions: &[Monotone],
        logits: &mut [Vec<f64>],
        pace: &mut RowPace<'_, W>,
    ) -> Result<Vec<FittedPair>, FitError> {
        let wanted = self.options.max_pairs;
        if wanted == 0 {
            return Ok(Vec::new());
        }
        let derivatives = self.held_out_derivatives(logits);
        let candidates = candidates(self.sample, self.options)?;
        let promising = rank(&candidates, coarse, &derivatives, self.options, wanted * TRIED_PER_PAIR, pace)?;
        let (mut pairs, mut terms) = (Vec::new(), Vec::new());
        for pair in promising {
            pace.step(self.sample.rows())?;
            if let Some(term) = table(coarse, directions, pair) {
                pairs.push(pair);
                terms.push(term);
            }
        }
        if terms.len() > wanted {
            let functions = self.boost(&terms, &mut logits.to_vec(), pace)?;
            let mut ranked = Vec::new();
            for ((pair, term), function) in pairs.into_iter().zip(terms).zip(&functions) {
                pace.step(derivatives.len())?;
                ranked.push((strength(&term, function, &derivatives), pair, term));
            }
            ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            (pairs, terms) = ranked.into_iter().take(wanted).map(|(_, pair, term)| (pair, term)).unzip();
        }
        let functions = self.boost(&terms, logits, pace)?;
        let pairs = pairs.into_iter().zip(terms).zip(functions);
        Ok(pairs.map(|((features, term), function)| FittedPair { features, term, function }).collect())
    }

    /// Returns the derivatives of the loss of each row at the log odds of the bag that held it out;
    /// zero if no bag did.
    fn held_out_derivatives(&self, logits: &[Vec<f64>]) -> Vec<LossSums> {
        let rows = self.sample.illicit().iter().zip(self.sample.weight()).zip(&self.parts).enumerate();
        let derivatives = rows.map(|(row, ((illicit, weight), part))| {
            let Some(logit) = logits.get(*part).and_then(|bag| bag.get(row)) else { return LossSums::default() };
            let p = 1.0 / (1.0 + libm::exp(-logit));
            LossSums {
                gradient: weight * (f64::from(u8::from(*illicit)) - p),
                curvature: weight * p * (1.0 - p),
                weight: *weight,
            }
        });
        derivatives.collect()
    }
}
