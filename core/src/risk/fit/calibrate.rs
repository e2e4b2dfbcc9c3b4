//! Probabilities of scores: isotonic regression by pooling adjacent violators (Ayer et al. 1955;
//! Zadrozny, Elkan 2002, "Transforming classifier scores into accurate multiclass probability
//! estimates"), evaluated at fixed scores.

use super::error::FitError;
use crate::risk::scorecard::{Knot, Points, Score};

/// Distance of two knots, in tenths of a score.
const KNOT_DISTANCE: u16 = 50;

/// Rows whose scores are pooled.
#[derive(Debug, Clone, Copy)]
struct ScoreBlock {
    weight: f64,
    illicit: f64,
    /// Weighted sum of scores.
    score: f64,
}

impl ScoreBlock {
    fn probability(&self) -> f64 {
        self.illicit / self.weight
    }

    fn middle(&self) -> f64 {
        self.score / self.weight
    }
}

/// Returns non-decreasing probabilities at the scores 0, 5, … 100. They are linear between the
/// blocks of the isotonic regression, and at least `1 / (n + 2)` away from 0 and 1, the limit of
/// what `n` rows can show. O(n).
///
/// # Errors
/// [`FitError`] when the slices differ in length, or there are no rows.
pub fn calibrate(scores: &[Score], illicit: &[bool], weight: &[f64]) -> Result<Vec<Knot>, FitError> {
    for (what, found) in [("classes", illicit.len()), ("weights", weight.len())] {
        if found != scores.len() {
            return Err(FitError::Shape { what: what.to_owned(), expected: scores.len(), found });
        }
    }
    let mut levels = vec![ScoreBlock { weight: 0.0, illicit: 0.0, score: 0.0 }; usize::from(Score::MAX.tenths()) + 1];
    for ((score, illicit), weight) in scores.iter().zip(illicit).zip(weight) {
        if let Some(level) = levels.get_mut(usize::from(score.tenths())) {
            level.weight += weight;
            level.illicit += if *illicit { *weight } else { 0.0 };
            level.score += weight * f64::from(score.tenths());
        }
    }
    let blocks = pooled(levels.into_iter().filter(|level| level.weight > 0.0));
    let rows: f64 = weight.iter().sum();
    if blocks.is_empty() {
        return Err(FitError::TooFew { what: "rows", found: 0, needed: 1 });
    }
    let edge = 1.0 / (rows + 2.0);
    let mut knots: Vec<Knot> = Vec::new();
    for tenths in (0..=Score::MAX.tenths()).step_by(usize::from(KNOT_DISTANCE)) {
        let probability = (at(&blocks, f64::from(tenths)).clamp(edge, 1.0 - edge) * 1e6).round() / 1e6;
        let probability = knots.last().map_or(probability, |before| probability.max(before.probability));
        knots.push(Knot { score: Points::from_tenths(i32::from(tenths)), probability });
    }
    Ok(knots)
}

/// Pools adjacent blocks until their probabilities rise.
fn pooled(levels: impl Iterator<Item = ScoreBlock>) -> Vec<ScoreBlock> {
    let mut blocks: Vec<ScoreBlock> = Vec::new();
    for mut block in levels {
        while let Some(before) = blocks.pop_if(|before| before.probability() >= block.probability()) {
            block.weight += before.weight;
            block.illicit += before.illicit;
            block.score += before.score;
        }
        blocks.push(block);
    }
    blocks
}

/// Interpolates linearly between the middles of the blocks; constant beyond the outer ones.
fn at(blocks: &[ScoreBlock], tenths: f64) -> f64 {
    let next = blocks.partition_point(|block| block.middle() < tenths);
    match (next.checked_sub(1).and_then(|before| blocks.get(before)), blocks.get(next)) {
        (Some(before), Some(after)) => {
            let along = (tenths - before.middle()) / (after.middle() - before.middle());
            before.probability() + (after.probability() - before.probability()) * along
        }
        (Some(only), None) | (None, Some(only)) => only.probability(),
        (None, None) => 0.5,
    }
}
