//! Assignment of rows to the bags that hold them out.

use super::chance::row_numbers;
use super::error::FitError;
use super::pace::RowPace;
use super::sample::TrainingSample;
use crate::graph::Interrupt;
use crate::graph::sorting::sort_with_room;

/// Smallest number of parts: a bag learns from all but one of them.
const MIN_PARTS: usize = 5;

/// Returns the part of each row; bag `i` holds out part `i`. Every part has its share of the weight
/// of either class. Equal rows are in the same part, so that no bag is judged by rows it has
/// memorized, and a row of weight 2 is where two rows would be.
pub(super) fn parts<W: Interrupt>(
    sample: &TrainingSample,
    bags: usize,
    seed: u64,
    pace: &mut RowPace<'_, W>,
) -> Result<Vec<usize>, FitError> {
    let count = bags.max(MIN_PARTS);
    let numbers = row_numbers(sample, seed, pace)?;
    let mut parts = vec![0; sample.rows()];
    for class in [true, false] {
        let rows = sample.illicit().iter().zip(&numbers).enumerate().filter(|(_, (illicit, _))| **illicit == class);
        let mut rows: Vec<(u64, usize)> = rows.map(|(row, (_, number))| (*number, row)).collect();
        pace.step(rows.len())?;
        sort_with_room(&mut rows, pace.interrupt(), Ord::cmp);
        let weight_of = |row: usize| sample.weight().get(row).copied().unwrap_or_default();
        let total: f64 = rows.iter().map(|(_, row)| weight_of(*row)).sum();
        let mut before = 0.0;
        for same in rows.chunk_by(|a, b| a.0 == b.0) {
            #[expect(clippy::cast_precision_loss, clippy::cast_sign_loss, clippy::cast_possible_truncation)]
            let part = ((before / total * count as f64) as usize).min(count - 1);
            for (_, row) in same {
                before += weight_of(*row);
                if let Some(slot) = parts.get_mut(*row) {
                    *slot = part;
                }
            }
        }
    }
    Ok(parts)
}
