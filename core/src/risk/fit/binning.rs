//! Bins of features for a fit: by quantiles, with cuts of few digits.

use super::error::FitError;
use super::pace::RowPace;
use crate::graph::Interrupt;
use crate::graph::sorting::sort_with_room;

/// Share of a bin's weight by which a cut may miss its quantile to have fewer digits.
const SLACK: f64 = 0.2;

/// A feature in bins: bin `i` holds the values above cut `i - 1` up to and including cut `i`, the
/// last bin the undefined ones.
#[derive(Debug, Clone)]
pub(super) struct BinnedFeature {
    pub cuts: Vec<f64>,
    /// The bin of each row.
    pub bins: Vec<u8>,
}

impl BinnedFeature {
    /// Returns the number of bins of defined values.
    pub(super) const fn defined(&self) -> usize {
        self.cuts.len() + 1
    }
}

/// Makes at most `limit` bins of about equal weight.
pub(super) fn binned<W: Interrupt>(
    values: &[f64],
    weight: &[f64],
    limit: usize,
    pace: &mut RowPace<'_, W>,
) -> Result<BinnedFeature, FitError> {
    let counting = values.iter().zip(weight).filter(|(v, w)| !v.is_nan() && **w > 0.0);
    let mut sorted: Vec<(f64, f64)> = counting.map(|(v, w)| (*v, *w)).collect();
    pace.step(values.len())?;
    sort_with_room(&mut sorted, pace.interrupt(), |a, b| a.0.total_cmp(&b.0));
    // Both zeros are one value.
    let distinct: Vec<(f64, f64)> = sorted
        .chunk_by(|a, b| a.0 == b.0)
        .map(|same| (same.first().map_or(0.0, |s| s.0), same.iter().map(|s| s.1).sum()))
        .collect();
    let cuts = cuts_of(&distinct, limit);
    pace.step(values.len().saturating_mul(4))?;
    Ok(BinnedFeature { bins: bins_of(values, &cuts), cuts })
}

/// Returns cuts between distinct values with weights, in order.
fn cuts_of(distinct: &[(f64, f64)], limit: usize) -> Vec<f64> {
    let pairs = distinct.iter().zip(distinct.iter().skip(1));
    if distinct.len() <= limit {
        return pairs.map(|(value, next)| between(value.0, next.0)).collect();
    }
    let mut left: f64 = distinct.iter().map(|d| d.1).sum();
    let mut within = 0.0;
    let mut cuts: Vec<f64> = Vec::new();
    for (index, (value, next)) in pairs.enumerate() {
        within += value.1;
        #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
        let target = left / (limit - cuts.len()) as f64;
        // Half of the next value would exceed the target: the cut is better before it.
        if within >= target || within + next.1 / 2.0 > target {
            let (low, high) = around(distinct, index, target * SLACK);
            let cut = between(low, high);
            // The last cut may have moved beyond this one.
            if cuts.last().is_none_or(|last| *last < cut) {
                cuts.push(cut);
            }
            left -= within;
            within = 0.0;
            if cuts.len() + 1 == limit {
                break;
            }
        }
    }
    cuts
}

/// Returns the values between which the cut after `index` may be moved: by at most `slack` of
/// weight either way.
fn around(distinct: &[(f64, f64)], index: usize, slack: f64) -> (f64, f64) {
    let reach = |values: &mut dyn Iterator<Item = &(f64, f64)>| {
        let (mut moved, mut reached) = (0.0, None);
        for (value, weight) in values {
            reached = Some(*value);
            moved += weight;
            if moved > slack {
                break;
            }
        }
        reached
    };
    let low = reach(&mut distinct.iter().take(index + 1).rev()).unwrap_or_default();
    let high = reach(&mut distinct.iter().skip(index + 1)).unwrap_or(low);
    (low, high)
}

fn bins_of(values: &[f64], cuts: &[f64]) -> Vec<u8> {
    let bin = |value: &f64| {
        let bin = if value.is_nan() { cuts.len() + 1 } else { cuts.partition_point(|cut| cut < value) };
        u8::try_from(bin).unwrap_or(u8::MAX)
    };
    values.iter().map(bin).collect()
}

/// Returns the number with the fewest digits that is at least `low` and below `high`, and so
/// separates them as a cut.
pub(super) fn between(low: f64, high: f64) -> f64 {
    let separates = |cut: &f64| low <= *cut && *cut < high;
    if separates(&0.0) {
        return 0.0;
    }
    let middle = low / 2.0 + high / 2.0;
    for decimals in 0..16 {
        for number in [middle, low] {
            let rounded = format!("{number:.decimals$e}").parse().ok().filter(separates);
            if let Some(cut) = rounded {
                return cut;
            }
        }
    }
    low
}

/// Merges adjacent bins into groups of about equal weight; returns the group of each bin, and the
/// cuts between the groups.
pub(super) fn coarse(cuts: &[f64], weights: &[f64], limit: usize) -> (Vec<u8>, Vec<f64>) {
    let mut left: f64 = weights.iter().sum();
    let (mut within, mut group) = (0.0, 0_u8);
    let (mut groups, mut kept) = (Vec::new(), Vec::new());
    for (bin, weight) in weights.iter().enumerate() {
        groups.push(group);
        within += weight;
        let bins_left = limit.saturating_sub(usize::from(group));
        #[expect(clippy::cast_precision_loss, reason = "a few")]
        let target = left / bins_left.max(1) as f64;
        let next = weights.get(bin + 1).copied().unwrap_or_default();
        if let Some(cut) = cuts.get(bin)
            && bins_left > 1
            && within > 0.0
            && (within >= target || within + next / 2.0 > target)
        {
            kept.push(*cut);
            left -= within;
            within = 0.0;
            group += 1;
        }
    }
    (groups, kept)
}
