//! One step of boosting: the function of few leaves that lowers the loss most, given the sums of
//! derivatives in each bin.

use crate::risk::monotone::Monotone;

/// Sums of first derivatives, second derivatives and weights over rows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LossSums {
    pub gradient: f64,
    pub curvature: f64,
    pub weight: f64,
}

impl LossSums {
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            gradient: self.gradient + other.gradient,
            curvature: self.curvature + other.curvature,
            weight: self.weight + other.weight,
        }
    }

    pub(super) fn minus(self, other: Self) -> Self {
        Self {
            gradient: self.gradient - other.gradient,
            curvature: self.curvature - other.curvature,
            weight: self.weight - other.weight,
        }
    }
}

/// Conditions on a leaf, and its value.
#[derive(Debug, Clone, Copy)]
pub(super) struct LeafRule {
    pub least: f64,
    pub regularization: f64,
}

impl LeafRule {
    /// Returns twice the decrease of the loss by a leaf of these rows.
    pub(super) fn gain(&self, sums: LossSums) -> f64 {
        sums.gradient * sums.gradient / (sums.curvature + self.regularization)
    }

    /// Returns the Newton step for these rows.
    pub(super) fn value(&self, sums: LossSums) -> f64 {
        sums.gradient / (sums.curvature + self.regularization)
    }

    pub(super) fn allows(&self, sums: LossSums) -> bool {
        sums.weight >= self.least && sums.weight > 0.0
    }
}

/// Cells of a term: bins of one feature, or of two row by row, then one cell for undefined values.
#[derive(Debug, Clone, Copy)]
pub(super) enum TermShape {
    Line { bins: usize, monotone: Monotone },
    Table { rows: usize, columns: usize, monotone: [Monotone; 2] },
}

impl TermShape {
    /// Returns the number of cells, including the one for undefined values.
    pub(super) const fn cells(self) -> usize {
        match self {
            Self::Line { bins, .. } => bins + 1,
            Self::Table { rows, columns, .. } => rows * columns + 1,
        }
    }
}

/// Writes the values of the best step, one per cell.
pub(super) fn best_step(shape: TermShape, sums: &[LossSums], leaf: LeafRule, leaves: usize, values: &mut [f64]) {
    values.fill(0.0);
    let Some((undefined, defined)) = sums.get(..shape.cells()).and_then(<[LossSums]>::split_last) else { return };
    if leaf.allows(*undefined)
        && let Some(value) = values.get_mut(defined.len())
    {
        *value = leaf.value(*undefined);
    }
    match shape {
        TermShape::Line { monotone, .. } => line_step(defined, leaf, leaves, monotone, values),
        TermShape::Table { columns, monotone, .. } => table_step(defined, columns, leaf, monotone, values),
    }
}

/// A leaf of a line: the bins from `from` to before `to`.
#[derive(Debug, Clone, Copy)]
struct Interval {
    from: usize,
    to: usize,
    sums: LossSums,
    /// The best cut, as gain, bin, and sums before it.
    cut: Option<(f64, usize, LossSums)>,
}

/// Cuts the leaf with the largest gain in two until there are enough leaves.
fn line_step(bins: &[LossSums], leaf: LeafRule, leaves: usize, monotone: Monotone, values: &mut [f64]) {
    let all = bins.iter().fold(LossSums::default(), |sum, bin| sum.plus(*bin));
    if !leaf.allows(all) {
        return;
    }
    let mut parts = vec![Interval { from: 0, to: bins.len(), sums: all, cut: None }];
    find_cut(bins, leaf, monotone, &mut parts, 0);
    while parts.len() < leaves {
        let gains = parts.iter().enumerate().filter_map(|(at, part)| part.cut.map(|cut| (at, cut)));
        let best = gains.fold(None, |best: Option<(usize, (f64, usize, LossSums))>, next| match best {
            Some(best) if best.1.0 >= next.1.0 => Some(best),
            _ => Some(next),
        });
        let Some((at, (_, cut, left))) = best else { break };
        let Some(part) = parts.get(at).copied() else { break };
        let halves = [
            Interval { to: cut, sums: left, cut: None, ..part },
            Interval { from: cut, sums: part.sums.minus(left), cut: None, ..part },
        ];
        parts.splice(at..=at, halves);
        // The values of the neighbours bound those of a leaf.
        for changed in at.saturating_sub(1)..(at + 3).min(parts.len()) {
            find_cut(bins, leaf, monotone, &mut parts, changed);
        }
    }
    for part in &parts {
        if let Some(values) = values.get_mut(part.from..part.to) {
            values.fill(leaf.value(part.sums));
        }
    }
}

/// Finds the best cut of a leaf.
fn find_cut(bins: &[LossSums], leaf: LeafRule, monotone: Monotone, parts: &mut [Interval], at: usize) {
    let neighbour = |at: Option<usize>| at.and_then(|at| parts.get(at)).map(|part| leaf.value(part.sums));
    let (before, after) = (neighbour(at.checked_sub(1)), neighbour(Some(at + 1)));
    let Some(part) = parts.get_mut(at) else { return };
    let whole = leaf.gain(part.sums);
    let mut left = LossSums::default();
    part.cut = None;
    for (bin, sums) in bins.iter().enumerate().take(part.to.saturating_sub(1)).skip(part.from) {
        left = left.plus(*sums);
        let right = part.sums.minus(left);
        if !leaf.allows(left) || !leaf.allows(right) {
            continue;
        }
        let gain = leaf.gain(left) + leaf.gain(right) - whole;
        if gain <= part.cut.map_or(1e-12, |cut| cut.0) {
            continue;
        }
        if monotone != Monotone::Free {
            let (low, high) = (leaf.value(left), leaf.value(right));
            let fits = monotone.allows(low, high)
                && before.is_none_or(|before| monotone.allows(before, low))
                && after.is_none_or(|after| monotone.allows(high, after));
            if !fits {
                continue;
            }
        }
        part.cut = Some((gain, bin + 1, left));
    }
}

/// A table cut along one feature, with each half cut along the other.
#[derive(Debug, Clone, Copy)]
struct TableCut {
    gain: f64,
    /// `true` when the first cut is between rows.
    by_rows: bool,
    cut: usize,
    /// For each half: the cut along the other feature (0 for no cut), and the values on both sides.
    halves: [(usize, f64, f64); 2],
}

impl TableCut {
    fn value(&self, row: usize, column: usize) -> f64 {
        let (along, across) = if self.by_rows { (row, column) } else { (column, row) };
        let [near, far] = self.halves;
        let (cut, before, after) = if along < self.cut { near } else { far };
        if across < cut { before } else { after }
    }

    fn is_monotone(&self, rows: usize, columns: usize, monotone: [Monotone; 2]) -> bool {
        (0..rows).all(|row| {
            (0..columns).all(|column| {
                let here = self.value(row, column);
                (row + 1 == rows || monotone[0].allows(here, self.value(row + 1, column)))
                    && (column + 1 == columns || monotone[1].allows(here, self.value(row, column + 1)))
            })
        })
    }
}

fn table_step(cells: &[LossSums], columns: usize, leaf: LeafRule, monotone: [Monotone; 2], values: &mut [f64]) {
    let rows = cells.len() / columns.max(1);
    let is_free = monotone == [Monotone::Free; 2];
    let mut best: Option<TableCut> = None;
    for by_rows in [true, false] {
        let (along, across) = if by_rows { (rows, columns) } else { (columns, rows) };
        let cell = |a: usize, b: usize| {
            let at = if by_rows { a * columns + b } else { b * columns + a };
            cells.get(at).copied().unwrap_or_default()
        };
        let mut whole = vec![LossSums::default(); across];
        for a in 0..along {
            whole.iter_mut().enumerate().for_each(|(b, sum)| *sum = sum.plus(cell(a, b)));
        }
        let mut near = vec![LossSums::default(); across];
        for cut in 1..along {
            near.iter_mut().enumerate().for_each(|(b, sum)| *sum = sum.plus(cell(cut - 1, b)));
            let far: Vec<LossSums> = whole.iter().zip(&near).map(|(all, near)| all.minus(*near)).collect();
            let (Some(near), Some(far)) = (half(&near, leaf), half(&far, leaf)) else { continue };
            let candidate = TableCut { gain: near.0 + far.0, by_rows, cut, halves: [near.1, far.1] };
            let is_better = best.is_none_or(|best| candidate.gain > best.gain + 1e-12);
            if is_better && (is_free || candidate.is_monotone(rows, columns, monotone)) {
                best = Some(candidate);
            }
        }
    }
    let Some(best) = best else { return };
    for (at, value) in values.iter_mut().take(cells.len()).enumerate() {
        *value = best.value(at / columns.max(1), at % columns.max(1));
    }
}

/// Returns the best cut of a line in two, with its gain and values; uncut if no cut is allowed.
fn half(line: &[LossSums], leaf: LeafRule) -> Option<(f64, (usize, f64, f64))> {
    let all = line.iter().fold(LossSums::default(), |sum, cell| sum.plus(*cell));
    if !leaf.allows(all) {
        return None;
    }
    let mut best = (leaf.gain(all), (0, leaf.value(all), leaf.value(all)));
    let mut left = LossSums::default();
    for (at, cell) in line.iter().enumerate().take(line.len().saturating_sub(1)) {
        left = left.plus(*cell);
        let right = all.minus(left);
        let gain = leaf.gain(left) + leaf.gain(right);
        if leaf.allows(left) && leaf.allows(right) && gain > best.0 {
            best = (gain, (at + 1, leaf.value(left), leaf.value(right)));
        }
    }
    Some(best)
}
