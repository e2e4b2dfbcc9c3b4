//! Exact values and positions in eight bytes each, with side tables for the few that need more.
//!
//! The two highest bits of a packed value give its encoding: the value itself (62 bits, up to 4.6
//! coins of 18 decimals), a multiple of a power of ten (57 bits and an exponent, for round amounts
//! of any size), or an index into a table of 16-byte or of 32-byte values.

use bytemuck::{Pod, Zeroable};

use crate::graph::error::Damaged;
use crate::graph::types::{AssetId, Position, Source, Status, U256};

/// Bits of the asset in a [`TransferKind`]; the mark of internal transfers and the status are
/// above.
const ASSET_BITS: u32 = 29;
const INTERNAL: u32 = 1 << ASSET_BITS;
const STATUS_SHIFT: u32 = ASSET_BITS + 1;

/// Largest number of an asset that fits into a [`TransferKind`].
pub(crate) const MAX_ASSET: u32 = (1 << ASSET_BITS) - 1;

/// Asset, table and status of a transfer, in four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub(crate) struct TransferKind(u32);

impl TransferKind {
    pub(crate) const fn new(asset: AssetId, source: Source, status: Status) -> Self {
        let internal = if matches!(source, Source::InternalTransfers) { INTERNAL } else { 0 };
        Self(asset.get() | internal | (status as u32) << STATUS_SHIFT)
    }

    pub(crate) const fn source(self) -> Source {
        match self.asset() {
            AssetId::NATIVE if self.0 & INTERNAL != 0 => Source::InternalTransfers,
            AssetId::NATIVE => Source::Transactions,
            _ => Source::TokenTransfers,
        }
    }

    #[inline]
    pub(crate) const fn asset(self) -> AssetId {
        AssetId::new(self.0 & MAX_ASSET)
    }

    #[inline]
    pub(crate) const fn status(self) -> Status {
        match self.0 >> STATUS_SHIFT {
            0 => Status::Pending,
            1 => Status::Confirmed,
            2 => Status::Failed,
            _ => Status::Unknown,
        }
    }

    pub(crate) const fn bits(self) -> u32 {
        self.0
    }
}

/// Bits of the payload of a packed value; the tag is above.
pub(crate) const TAG_SHIFT: u32 = 62;
const PAYLOAD: u64 = (1 << TAG_SHIFT) - 1;
/// Tag of a value that is stored as itself.
pub(crate) const RAW: u64 = 0;
/// Tag of a multiple of a power of ten.
const SCALED: u64 = 1;
/// Tag of an index into the table of 16-byte values.
const WIDE: u64 = 2;
/// Tag of an index into the table of 32-byte values.
const WIDEST: u64 = 3;
const MANTISSA_BITS: u32 = 57;
const MANTISSA: u64 = (1 << MANTISSA_BITS) - 1;
const MAX_EXPONENT: u32 = 31;

/// Powers of ten, as many as the five bits of an exponent select.
const POWERS: [u128; 32] = {
    let mut powers = [1; 32];
    let mut exponent = 1;
    while exponent < powers.len() {
        powers[exponent] = powers[exponent - 1] * 10;
        exponent += 1;
    }
    powers
};

/// Stands for a sum beyond 256 bits. A reader that needs the sum adds up the transfers.
pub(crate) const BEYOND: u64 = u64::MAX;

/// A position that does not fit into [`pack_position`]'s eight bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct WidePosition {
    block: u64,
    /// Index plus one; 0 if unknown.
    transaction_index: u64,
    log_index: u64,
}

/// Growing tables of values and positions that do not fit into eight bytes. Appending returns the
/// index of the new entry.
pub(crate) trait WideTables {
    /// Error of the memory behind the tables.
    type Error;

    fn push_128(&mut self, value: [u64; 2]) -> Result<u64, Self::Error>;

    /// Replaces a 16-byte value.
    fn set_128(&mut self, index: u64, value: [u64; 2]);

    fn push_256(&mut self, value: [u64; 4]) -> Result<u64, Self::Error>;

    fn push_position(&mut self, position: WidePosition) -> Result<u64, Self::Error>;
}

/// The tables for reading. Values are little-endian sequences of words.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct WideSlices<'a> {
    pub values_128: &'a [[u64; 2]],
    pub values_256: &'a [[u64; 4]],
    pub positions: &'a [WidePosition],
}

/// Packs a value into eight bytes, or appends it to `tables` and packs its index.
pub(crate) fn pack_value<T: WideTables>(value: U256, tables: &mut T) -> Result<u64, T::Error> {
    let (high, low) = value.into_words();
    if high != 0 {
        let index = tables.push_256([low as u64, (low >> 64) as u64, high as u64, (high >> 64) as u64])?;
        return Ok((WIDEST << TAG_SHIFT) | index);
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

/// Packs a value that replaces another one, and reuses that one's table entry if both are 16 bytes
/// wide, so that repeated merges do not grow the table.
pub(crate) fn repack_value<T: WideTables>(former: u64, value: U256, tables: &mut T) -> Result<u64, T::Error> {
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
    /// Returns a value that fits into 128 bits. Nearly all do, and their addition is cheap.
    #[inline]
    pub(crate) fn small(&self, code: u64) -> Option<u128> {
        match code >> TAG_SHIFT {
            RAW => Some(u128::from(code)),
            SCALED => {
                let exponent = ((code & PAYLOAD) >> MANTISSA_BITS) as u32;
                u128::from(code & MANTISSA).checked_mul(POWERS[exponent as usize % POWERS.len()])
            }
            WIDE => {
                let index = usize::try_from(code & PAYLOAD).ok()?;
                self.values_128.get(index).map(|[low, high]| u128::from(*low) | (u128::from(*high) << 64))
            }
            _ => None,
        }
    }

    /// Unpacks a value. [`BEYOND`] is an error.
    #[inline]
    pub(crate) fn value(&self, code: u64) -> Result<U256, Damaged> {
        match self.small(code) {
            Some(value) => Ok(U256::new(value)),
            None => self.large(code),
        }
    }

    fn large(&self, code: u64) -> Result<U256, Damaged> {
        let damaged = Damaged { what: "value out of range" };
        let index = usize::try_from(code & PAYLOAD).map_err(|_| damaged)?;
        if code >> TAG_SHIFT != WIDEST {
            return Err(damaged);
        }
        let [a, b, c, d] = *self.values_256.get(index).ok_or(damaged)?;
        let word = |low: u64, high: u64| u128::from(low) | (u128::from(high) << 64);
        Ok(U256::from_words(word(c, d), word(a, b)))
    }

    pub(crate) fn position(&self, code: u64) -> Result<Position, Damaged> {
        let index = |plus_one: u64| u32::try_from(plus_one.wrapping_sub(1)).ok();
        if code >> 63 == 0 {
            return Ok(Position {
                block: code >> 32,
                transaction_index: index((code >> 16) & 0xffff),
                log_index: index(code & 0xffff),
            });
        }
        let damaged = Damaged { what: "position out of range" };
        let entry = usize::try_from(code & !(1 << 63)).map_err(|_| damaged)?;
        let wide = self.positions.get(entry).ok_or(damaged)?;
        Ok(Position {
            block: wide.block,
            transaction_index: index(wide.transaction_index),
            log_index: index(wide.log_index),
        })
    }
}

/// Packs a position into eight bytes: 31 bits for the block and 16 for each index, or an index into
/// the table.
pub(crate) fn pack_position<T: WideTables>(position: Position, tables: &mut T) -> Result<u64, T::Error> {
    let plus_one = |index: Option<u32>| index.map_or(0, |index| u64::from(index) + 1);
    let (transaction, log) = (plus_one(position.transaction_index), plus_one(position.log_index));
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

        fn set_128(&mut self, index: u64, value: [u64; 2]) {
            self.0[index as usize] = value;
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
    fn a_wide_value_reuses_the_entry_of_its_predecessor() {
        let mut tables = Tables::default();
        let (first, second) = (U256::new(u128::MAX - 1), U256::new((1 << 100) + 1));
        let code = pack_value(first, &mut tables).unwrap();
        assert_eq!(repack_value(code, second, &mut tables), Ok(code));
        assert_eq!((tables.slices().value(code), tables.0.len()), (Ok(second), 1));
        assert_eq!(repack_value(code, U256::new(7), &mut tables), Ok(7));
    }

    #[test]
    fn indexes_out_of_range_are_damage() {
        let slices = WideSlices::default();
        for code in [WIDE << TAG_SHIFT, WIDEST << TAG_SHIFT, BEYOND] {
            assert!(slices.value(code).is_err());
        }
        assert!(slices.position(1 << 63).is_err());
    }

    proptest! {
        #[test]
        fn every_value_round_trips(high: u128, low: u128, shift in 0_u32..256) {
            let value = U256::from_words(high, low) >> shift;
            let mut tables = Tables::default();
            let code = pack_value(value, &mut tables).unwrap();
            prop_assert_eq!(tables.slices().value(code), Ok(value));
        }

        #[test]
        fn every_position_round_trips(block: u64, shift in 0_u32..64, transaction: Option<u32>, log: Option<u32>, narrow: bool) {
            let cut = |index: Option<u32>| index.map(|index| if narrow { index >> 17 } else { index });
            let position = Position { block: block >> shift, transaction_index: cut(transaction), log_index: cut(log) };
            let mut tables = Tables::default();
            let code = pack_position(position, &mut tables).unwrap();
            prop_assert_eq!(tables.slices().position(code), Ok(position));
        }

        #[test]
        fn no_code_panics(code: u64) {
            let slices = WideSlices::default();
            let _ = slices.value(code);
            let _ = slices.position(code);
        }
    }
}
