//! A fit from beginning to end.

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

/// Pairs that are tried for one that is wanted.
const TRIED: usize = 4;

/// Fits a scorecard's factors to a sample. Of more features than are wanted, those that matter most when all are fitted together are
/// kept, and fitted again. O(bags × rounds × features × rows).
///
/// # Errors
/// [`FitError`]: options out of range, too little to learn from, too little memory, or the watch's time is used up.
pub fn fit<W: Interrupt>(
    sample: &TrainingSample,
    options: &FitOptions,
    interrupt: &mut W,
) -> Result<FittedModel, FitError> {
    options.check()?;
    sample.check()?;
    book(sample, options)?;
    let ways = ways(sample, options)?;
    // a name that is none is an error, one that is not kept is not
    candidates(sample, options)?;
    let mut pace = RowPace::new(interrupt);
    let kept = kept(sample, &ways, options, &mut pace)?;
    if kept.len() == sample.names().len() {
        return fit_all(sample, &ways, options, &mut pace);
    }
    let ways: Vec<Monotone> = kept.iter().filter_map(|place| ways.get(*place)).copied().collect();
    let sample = sample.with_columns(&kept);
    let mut options = options.clone();
    if let PairCandidates::Listed(pairs) = &mut options.pairs {
        pairs.retain(|(a, b)| [a, b].into_iter().all(|name| sample.names().contains(name)));
    }
    fit_all(&sample, &ways, &options, &mut pace)
}

/// Every feature in bins, and the bags that it is fitted in.
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

/// The places of the features that are kept, in order.
fn kept<W: Interrupt>(
    sample: &TrainingSample,
    ways: &[Monotone],
    options: &FitOptions,
    pace: &mut RowPace<'_, W>,
) -> Result<Vec<usize>, FitError> {
    let all = sample.names().len();
    if all <= options.max_features {
        return Ok((0..all).collect());
    }
    let (features, bags) = prepared(sample, options, pace)?;
    let singles: Vec<Term> = features.iter().zip(ways).map(|(binned, way)| single(binned, *way)).collect();
    let mut logits = vec![vec![prior(sample); sample.rows()]; options.bags];
    let functions = bags.boost(&singles, &mut logits, pace)?;
    let derivatives = bags.held_out_derivatives(&logits);
    let mut ranked = Vec::new();
    for (place, (term, function)) in singles.iter().zip(&functions).enumerate() {
        pace.step(derivatives.len())?;
        ranked.push((strength(term, function, &derivatives), place));
    }
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut kept: Vec<usize> = ranked.into_iter().take(options.max_features).map(|(_, place)| place).collect();
    kept.sort_unstable();
    Ok(kept)
}

fn fit_all<W: Interrupt>(
    sample: &TrainingSample,
    ways: &[Monotone],
    options: &FitOptions,
    pace: &mut RowPace<'_, W>,
) -> Result<FittedModel, FitError> {
    let (features, bags) = prepared(sample, options, pace)?;
    let singles: Vec<Term> = features.iter().zip(ways).map(|(binned, way)| single(binned, *way)).collect();
    let mut logits = vec![vec![prior(sample); sample.rows()]; options.bags];
    let single_functions = bags.boost(&singles, &mut logits, pace)?;

    let mut coarse = Vec::new();
    for binned in &features {
        pace.step(sample.rows().saturating_mul(2))?;
        coarse.push(CoarseFeature::new(binned, sample.weight(), options.pair_bins));
    }
    let pairs = bags.pairs(&coarse, ways, &mut logits, pace)?;

    let mut tables = Vec::new();
    for (at, ((term, function), binned)) in singles.into_iter().zip(single_functions).zip(&features).enumerate() {
        tables.push(FittedFunction { features: vec![at], cuts: vec![binned.cuts.clone()], term, function });
    }
    for FittedPair { features: (a, b), term, function } in pairs {
        let cuts = [a, b].into_iter().filter_map(|at| coarse.get(at)).map(|c| c.cuts.clone()).collect();
        tables.push(FittedFunction { features: vec![a, b], cuts, term, function });
    }
    pace.step(sample.rows().saturating_mul(tables.len()))?;
    FittedFunctions { sample, options, tables, ways: ways.to_vec() }.rounded(pace)
}

/// Books what a fit takes at most: for each row and term a cell, as much again while a bag is fitted, and once more for features in
/// few bins; for each row and bag its odds, twice while pairs are tried; and for each row its derivatives and what sorting takes.
fn book(sample: &TrainingSample, options: &FitOptions) -> Result<(), FitError> {
    let (rows, features) = (sample.rows(), sample.names().len());
    let tried = options.max_pairs.saturating_mul(TRIED + 1);
    let a_row = features.saturating_mul(3).saturating_add(tried.saturating_mul(2));
    let a_row = a_row.saturating_add(options.bags.saturating_mul(16)).saturating_add(120);
    let mut memory = options.memory;
    if memory.take(rows.saturating_mul(a_row)) {
        Ok(())
    } else {
        Err(FitError::Memory { budget: options.memory.limit(), rows, features })
    }
}

fn ways(sample: &TrainingSample, options: &FitOptions) -> Result<Vec<Monotone>, FitError> {
    let mut ways = vec![Monotone::Free; sample.names().len()];
    for (feature, monotone) in &options.monotone {
        let place = sample.place("monotone", feature)?;
        if let Some(way) = ways.get_mut(place) {
            *way = *monotone;
        }
    }
    Ok(ways)
}

/// Log odds of all rows together.
fn prior(sample: &TrainingSample) -> f64 {
    let of = |class: bool| -> f64 {
        sample.illicit().iter().zip(sample.weight()).filter(|(illicit, _)| **illicit == class).map(|(_, w)| w).sum()
    };
    libm::log(of(true) / of(false))
}

fn single(binned: &BinnedFeature, monotone: Monotone) -> Term {
    Term { shape: TermShape::Line { bins: binned.defined(), monotone }, cells: binned.bins.clone() }
}

fn table(coarse: &[CoarseFeature], ways: &[Monotone], (a, b): (usize, usize)) -> Option<Term> {
    let (first, second) = (coarse.get(a)?, coarse.get(b)?);
    let (rows, columns) = (first.defined(), second.defined());
    let shape = TermShape::Table { rows, columns, monotone: [*ways.get(a)?, *ways.get(b)?] };
    let cell = |(row, column): (&u8, &u8)| {
        let (row, column) = (usize::from(*row), usize::from(*column));
        let cell = if row < rows && column < columns { row * columns + column } else { rows * columns };
        u8::try_from(cell).unwrap_or(u8::MAX)
    };
    Some(Term { shape, cells: first.bins.iter().zip(&second.bins).map(cell).collect() })
}

/// How much a function matters to the loss: its squares, weighted by what the loss is sensitive to.
fn strength(term: &Term, function: &[f64], derivatives: &[LossSums]) -> f64 {
    let rows = term.cells.iter().zip(derivatives);
    rows.map(|(cell, row)| row.curvature * function.get(usize::from(*cell)).map_or(0.0, |value| value * value)).sum()
}

/// A fitted function of two features, by place.
struct FittedPair {
    features: (usize, usize),
    term: Term,
    function: Vec<f64>,
}

/// The bags of a fit: each holds out its part.
struct Bags<'s> {
    sample: &'s TrainingSample,
    options: &'s FitOptions,
    parts: Vec<usize>,
}

impl Bags<'_> {
    /// The mean of the bags' functions. `logits` of each bag are brought up to date.
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

    /// Pairs of features with their functions. What ranks pairs one by one cannot see that two of them say the same; so more are
    /// fitted together than are wanted, and those that then matter most are fitted again.
    fn pairs<W: Interrupt>(
        &self,
        coarse: &[CoarseFeature],
        ways: &[Monotone],
        logits: &mut [Vec<f64>],
        pace: &mut RowPace<'_, W>,
    ) -> Result<Vec<FittedPair>, FitError> {
        let wanted = self.options.max_pairs;
        if wanted == 0 {
            return Ok(Vec::new());
        }
        let derivatives = self.held_out_derivatives(logits);
        let candidates = candidates(self.sample, self.options)?;
        let promising = rank(&candidates, coarse, &derivatives, self.options, wanted * TRIED, pace)?;
        let (mut pairs, mut terms) = (Vec::new(), Vec::new());
        for pair in promising {
            pace.step(self.sample.rows())?;
            if let Some(term) = table(coarse, ways, pair) {
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

    /// Derivatives of each row's loss at the log odds that the bag gives it that has not seen it; none where every bag has.
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
