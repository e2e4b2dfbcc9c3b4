//! Exact values and positions in eight bytes each, with tables beside them for the few that need more.
//!
//! A value's two highest bits say how it is written: as itself (62 bits: up to 4.6 coins of 18 decimals), as a multiple of a
//! power of ten (57 bits and an exponent: round amounts of any size), or as a place in a table of 16 or of 32 bytes.

use bytemuck::{Pod, Zeroable};

use crate::graph::error::Damaged;
use crate::graph::types::{AssetId, Position, Status, U256};

/// Above this many bits of a transfer's kind stands its status, below its asset.
const STATUS_SHIFT: u32 = 30;

const ASSET: u32 = (1 << STATUS_SHIFT) - 1;

/// The largest asset id that a kind can hold.
pub const MAX_ASSET: u32 = ASSET;

/// Asset and status of a transfer, in one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct TransferKind(u32);

impl TransferKind {
    pub const fn new(asset: AssetId, status: Status) -> Self {
        Self(asset.get() | (status as u32) << STATUS_SHIFT)
    }

    #[inline]
    pub const fn asset(self) -> AssetId {
        AssetId::new(self.0 & ASSET)
    }

    #[inline]
    pub const fn status(self) -> Status {
        match self.0 >> STATUS_SHIFT {
            0 => Status::Pending,
            1 => Status::Confirmed,
            _ => Status::Failed,
        }
    }

    pub const fn bits(self) -> u32 {
        self.0
    }
}

/// The tag is above.
pub const TAG_SHIFT: u32 = 62;
const PAYLOAD: u64 = (1 << TAG_SHIFT) - 1;
/// Tag of a value that is written as itself.
pub const RAW: u64 = 0;
const SCALED: u64 = 1;
const WIDE: u64 = 2;
const MANTISSA_BITS: u32 = 57;
const MANTISSA: u64 = (1 << MANTISSA_BITS) - 1;
const MAX_EXPONENT: u32 = 31;

/// Of ten: all that five bits can ask for.
const POWERS: [u128; 32] = {
    let mut powers = [1; 32];
    let mut exponent = 1;
    while exponent < powers.len() {
        powers[exponent] = powers[exponent - 1] * 10;
        exponent += 1;
    }
    powers
};

/// Stands for a sum beyond 256 bits: whoever needs it adds up the transfers.
pub const BEYOND: u64 = u64::MAX;

/// A position that does not fit into [`pack_position`]'s eight bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct WidePosition {
    block: u64,
    /// One more than the index; 0 for none.
    transaction_index: u64,
    log_index: u64,
}

/// Values and positions too wide for eight bytes.
pub trait WideTables {
    /// Error of the memory behind the tables.
    type Error;

    /// Appends to the table of 16-byte values, and returns the place.
    ///
    /// # Errors
    /// When there is no memory for it.
    fn push_128(&mut self, value: [u64; 2]) -> Result<u64, Self::Error>;

    /// Writes over a value of the table of 16-byte values.
    fn set_128(&mut self, place: u64, value: [u64; 2]);

    /// Appends to the table of 32-byte values, and returns the place.
    ///
    /// # Errors
    /// When there is no memory for it.
    fn push_256(&mut self, value: [u64; 4]) -> Result<u64, Self::Error>;

    /// Appends to the table of positions, and returns the place.
    ///
    /// # Errors
    /// When there is no memory for it.
    fn push_position(&mut self, position: WidePosition) -> Result<u64, Self::Error>;
}

/// The tables, for reading.
#[derive(Debug, Clone, Copy, Default)]
pub struct WideSlices<'a> {
    /// Values of 16 bytes, lower half first.
    pub values_128: &'a [[u64; 2]],
    /// Values of 32 bytes, lowest first.
    pub values_256: &'a [[u64; 4]],
    /// Positions.
    pub positions: &'a [WidePosition],
}

/// A value in eight bytes, with what does not fit appended to `tables`.
///
/// # Errors
/// Those of the tables.
pub fn pack_value<T: WideTables>(value: U256, tables: &mut T) -> Result<u64, T::Error> {
    let (high, low) = value.into_words();
    if high != 0 {
        let place = tables.push_256([low as u64, (low >> 64) as u64, high as u64, (high >> 64) as u64])?;
        return Ok((3 << TAG_SHIFT) | place);
    }
    if let Ok(small) = u64::try_from(low)
        && small <= PAYLOAD
    {
        return Ok(small);
    }
    if let Some((mantissa, exponent)) = scaled(low) {
        return Ok((SCALED << TAG_SHIFT) | (u64::from(exponent) << MANTISSA_BITS) | mantissa);
    }
    Ok((WIDE << TAG_SHIFT) | tables.push_128([low as u64, (low >> 64) as u64])?)
}

/// A value in eight bytes in the place of another one, whose room in the tables it takes if both need the same: merging again and
/// again does not make the tables longer.
///
/// # Errors
/// Those of the tables.
pub fn repack_value<T: WideTables>(former: u64, value: U256, tables: &mut T) -> Result<u64, T::Error> {
    let (high, low) = value.into_words();
    if high == 0 && former >> TAG_SHIFT == WIDE && u64::try_from(low).map_or(true, |small| small > PAYLOAD) {
        tables.set_128(former & PAYLOAD, [low as u64, (low >> 64) as u64]);
        return Ok(former);
    }
    pack_value(value, tables)
}

fn scaled(value: u128) -> Option<(u64, u32)> {
    let (mut mantissa, mut exponent) = (value, 0);
    while exponent < MAX_EXPONENT && mantissa % 10 == 0 {
        mantissa /= 10;
        exponent += 1;
        if mantissa <= u128::from(MANTISSA) {
            return Some((mantissa as u64, exponent));
        }
    }
    None
}

impl<'a> WideSlices<'a> {
    /// The value, if it fits into 128 bits: nearly all do, and adding these up is cheap.
    #[inline]
    #[must_use]
    pub fn small(&self, code: u64) -> Option<u128> {
        match code >> TAG_SHIFT {
            RAW => Some(u128::from(code)),
            SCALED => {
                let exponent = ((code & PAYLOAD) >> MANTISSA_BITS) as u32;
                u128::from(code & MANTISSA).checked_mul(POWERS[exponent as usize % POWERS.len()])
            }
            WIDE => {
                let place = usize::try_from(code & PAYLOAD).ok()?;
                self.values_128.get(place).map(|[low, high]| u128::from(*low) | (u128::from(*high) << 64))
            }
            _ => None,
        }
    }

    /// The value.
    ///
    /// # Errors
    /// For a place that no table has, and for [`BEYOND`].
    #[inline]
    pub fn value(&self, code: u64) -> Result<U256, Damaged> {
        match self.small(code) {
            Some(value) => Ok(U256::new(value)),
            None => self.large(code),
        }
    }

    fn large(&self, code: u64) -> Result<U256, Damaged> {
        let damaged = Damaged { what: "value out of its table" };
        let place = usize::try_from(code & PAYLOAD).map_err(|_| damaged)?;
        if code >> TAG_SHIFT != 3 {
            return Err(damaged);
        }
        let [a, b, c, d] = *self.values_256.get(place).ok_or(damaged)?;
        let word = |low: u64, high: u64| u128::from(low) | (u128::from(high) << 64);
        Ok(U256::from_words(word(c, d), word(a, b)))
    }

    /// The position.
    ///
    /// # Errors
    /// For a place that the table does not have.
    pub fn position(&self, code: u64) -> Result<Position, Damaged> {
        let index = |one_more: u64| u32::try_from(one_more.wrapping_sub(1)).ok();
        if code >> 63 == 0 {
            return Ok(Position {
                block: code >> 32,
                transaction_index: index((code >> 16) & 0xffff),
                log_index: index(code & 0xffff),
            });
        }
        let damaged = Damaged { what: "position out of its table" };
        let place = usize::try_from(code & !(1 << 63)).map_err(|_| damaged)?;
        let wide = self.positions.get(place).ok_or(damaged)?;
        Ok(Position {
            block: wide.block,
            transaction_index: index(wide.transaction_index),
            log_index: index(wide.log_index),
        })
    }
}

/// A position in eight bytes: 31 bits of block, 16 of each index, or a place in the table.
///
/// # Errors
/// Those of the tables.
pub fn pack_position<T: WideTables>(position: Position, tables: &mut T) -> Result<u64, T::Error> {
    let one_more = |index: Option<u32>| index.map_or(0, |index| u64::from(index) + 1);
    let (transaction, log) = (one_more(position.transaction_index), one_more(position.log_index));
    if position.block < 1 << 31 && transaction < 1 << 16 && log < 1 << 16 {
        return Ok((position.block << 32) | (transaction << 16) | log);
    }
    let wide = WidePosition { block: position.block, transaction_index: transaction, log_index: log };
    Ok((1 << 63) | tables.push_position(wide)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::convert::Infallible;

    #[derive(Default)]
    struct Tables(Vec<[u64; 2]>, Vec<[u64; 4]>, Vec<WidePosition>);

    impl WideTables for Tables {
        type Error = Infallible;

        fn push_128(&mut self, value: [u64; 2]) -> Result<u64, Infallible> {
            self.0.push(value);
            Ok(self.0.len() as u64 - 1)
        }

        fn set_128(&mut self, place: u64, value: [u64; 2]) {
            self.0[place as usize] = value;
        }

        fn push_256(&mut self, value: [u64; 4]) -> Result<u64, Infallible> {
            self.1.push(value);
            Ok(self.1.len() as u64 - 1)
        }

        fn push_position(&mut self, position: WidePosition) -> Result<u64, Infallible> {
            self.2.push(position);
            Ok(self.2.len() as u64 - 1)
        }
    }

    impl Tables {
        fn slices(&self) -> WideSlices<'_> {
            WideSlices { values_128: &self.0, values_256: &self.1, positions: &self.2 }
        }
    }

    #[test]
    fn round_amounts_of_any_size_need_no_table() {
        let mut tables = Tables::default();
        for coins in [1_u128, 5, 1_000, 123_456, 10_u128.pow(19)] {
            let value = U256::new(coins) * U256::new(10_u128.pow(18));
            let code = pack_value(value, &mut tables).unwrap();
            assert_eq!(tables.slices().value(code), Ok(value));
        }
        assert!(tables.0.is_empty() && tables.1.is_empty());
    }

    #[test]
    fn a_wide_value_takes_the_place_of_another() {
        let mut tables = Tables::default();
        let (first, second) = (U256::new(u128::MAX - 1), U256::new((1 << 100) + 1));
        let code = pack_value(first, &mut tables).unwrap();
        assert_eq!(repack_value(code, second, &mut tables), Ok(code));
        assert_eq!((tables.slices().value(code), tables.0.len()), (Ok(second), 1));
        assert_eq!(repack_value(code, U256::new(7), &mut tables), Ok(7));
    }

    #[test]
    fn places_beyond_the_tables_are_damage() {
        let slices = WideSlices::default();
        for code in [WIDE << TAG_SHIFT, 3 << TAG_SHIFT, BEYOND] {
            assert!(slices.value(code).is_err());
        }
        assert!(slices.position(1 << 63).is_err());
    }

    proptest! {
        #[test]
        fn every_value_comes_back(high: u128, low: u128, shift in 0_u32..256) {
            let value = U256::from_words(high, low) >> shift;
            let mut tables = Tables::default();
            let code = pack_value(value, &mut tables).unwrap();
            prop_assert_eq!(tables.slices().value(code), Ok(value));
        }

        #[test]
        fn every_position_comes_back(block: u64, shift in 0_u32..64, transaction: Option<u32>, log: Option<u32>, narrow: bool) {
            let cut = |index: Option<u32>| index.map(|index| if narrow { index >> 17 } else { index });
            let position = Position { block: block >> shift, transaction_index: cut(transaction), log_index: cut(log) };
            let mut tables = Tables::default();
            let code = pack_position(position, &mut tables).unwrap();
            prop_assert_eq!(tables.slices().position(code), Ok(position));
        }

        #[test]
        fn no_code_leads_to_a_panic(code: u64) {
            let slices = WideSlices::default();
            let _ = slices.value(code);
            let _ = slices.position(code);
        }
    }
}
