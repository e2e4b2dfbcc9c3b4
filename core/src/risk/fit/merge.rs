//! Merging of many bins into few steps that change the function least.

/// Groups adjacent bins and returns the end of each group. The weighted squared error is minimal
/// for the number of groups, which is the smallest whose root mean square error is within
/// `tolerance`, but at most `limit`. By dynamic programming, as in Fisher 1958, "On grouping for
/// maximum homogeneity". O(limit × bins²).
pub(super) fn merge_bins(values: &[f64], weights: &[f64], limit: usize, tolerance: f64) -> Vec<usize> {
    let bins = values.len();
    let mut sums = vec![(0.0, 0.0, 0.0)];
    let mut sum = (0.0, 0.0, 0.0);
    for (value, weight) in values.iter().zip(weights) {
        sum = (sum.0 + weight, sum.1 + weight * value, sum.2 + weight * value * value);
        sums.push(sum);
    }
    let error = |from: usize, to: usize| {
        let (Some(a), Some(b)) = (sums.get(from), sums.get(to)) else { return 0.0 };
        let (weight, first, second) = (b.0 - a.0, b.1 - a.1, b.2 - a.2);
        if weight > 0.0 { (second - first * first / weight).max(0.0) } else { 0.0 }
    };
    let allowed = tolerance * tolerance * sum.0;
    let mut before: Vec<f64> = (0..=bins).map(|to| error(0, to)).collect();
    // starts[g][to] is the start of the last of g + 2 groups that end at `to`.
    let mut starts: Vec<Vec<usize>> = Vec::new();
    while before.last().is_some_and(|error| *error > allowed) && starts.len() + 1 < limit.min(bins) {
        let mut now = vec![0.0; bins + 1];
        let mut start = vec![0; bins + 1];
        for to in 0..=bins {
            let candidates = before
                .iter()
                .enumerate()
                .take(to + 1)
                .map(|(from, error_before)| (error_before + error(from, to), from));
            let best = candidates.fold((f64::INFINITY, 0), |best, next| if next.0 < best.0 { next } else { best });
            if let (Some(now), Some(start)) = (now.get_mut(to), start.get_mut(to)) {
                (*now, *start) = best;
            }
        }
        starts.push(start);
        before = now;
    }
    let mut ends = vec![bins];
    let mut to = bins;
    for start in starts.iter().rev() {
        to = start.get(to).copied().unwrap_or_default();
        ends.push(to);
    }
    ends.reverse();
    ends.dedup();
    ends.retain(|end| *end > 0);
    ends
}
