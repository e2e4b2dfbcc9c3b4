//! Choices that look random, and are the same every time.

use xxhash_rust::xxh3::Xxh3;

use super::error::FitError;
use super::pace::RowPace;
use super::sample::TrainingSample;
use crate::graph::Interrupt;

/// The fold of a wallet among `k`, from its address and its network: the same whenever it is asked.
#[must_use]
pub fn assign_fold(address: &str, network: &str, k: u32, seed: u64) -> u32 {
    let mut hash = Xxh3::with_seed(seed);
    hash.update(network.as_bytes());
    // no text holds this byte: what belongs to which of the two is clear
    hash.update(&[0xff]);
    hash.update(address.as_bytes());
    u32::try_from(hash.digest() % u64::from(k.max(1))).unwrap_or_default()
}

/// One step of splitmix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators").
const fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number for each row that depends on nothing but its values, its class and the seed: rows that are the same get the same, and
/// where a row stands does not matter.
pub(super) fn row_numbers<W: Interrupt>(
    sample: &TrainingSample,
    seed: u64,
    pace: &mut RowPace<'_, W>,
) -> Result<Vec<u64>, FitError> {
    let mut numbers: Vec<u64> = sample.illicit().iter().map(|illicit| mix(mix(seed) ^ u64::from(*illicit))).collect();
    for column in sample.columns() {
        pace.step(column.len())?;
        for (number, value) in numbers.iter_mut().zip(column) {
            // one pattern of bits for everything undefined, and one for both zeros
            let bits = if value.is_nan() { u64::MAX } else { (value + 0.0).to_bits() };
            *number = mix(*number ^ bits);
        }
    }
    Ok(numbers)
}
