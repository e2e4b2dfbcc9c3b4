//! Deterministic pseudo-random choices.

use xxhash_rust::xxh3::Xxh3;

use super::error::FitError;
use super::pace::RowPace;
use super::sample::TrainingSample;
use crate::graph::Interrupt;

/// Assigns a wallet to one of `k` folds by its address and network. Deterministic.
#[must_use]
pub fn assign_fold(address: &str, network: &str, k: u32, seed: u64) -> u32 {
    let mut hash = Xxh3::with_seed(seed);
    hash.update(network.as_bytes());
    // This byte is in no text, so it separates the two.
    hash.update(&[0xff]);
    hash.update(address.as_bytes());
    u32::try_from(hash.digest() % u64::from(k.max(1))).unwrap_or_default()
}

/// One step of splitmix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number
/// generators").
const fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Returns a number for each row that depends only on its values, its class and the seed: equal
/// rows get equal numbers, in any order of rows.
pub(super) fn row_numbers<W: Interrupt>(
    sample: &TrainingSample,
    seed: u64,
    pace: &mut RowPace<'_, W>,
) -> Result<Vec<u64>, FitError> {
    let mut numbers: Vec<u64> = sample.illicit().iter().map(|illicit| mix(mix(seed) ^ u64::from(*illicit))).collect();
    for column in sample.columns() {
        pace.step(column.len())?;
        for (number, value) in numbers.iter_mut().zip(column) {
            // One bit pattern for every NaN, and one for both zeros.
            let bits = if value.is_nan() { u64::MAX } else { (value + 0.0).to_bits() };
            *number = mix(*number ^ bits);
        }
    }
    Ok(numbers)
}
