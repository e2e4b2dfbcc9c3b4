//! Several assets of a network followed as one, in a common unit: a coin and its wrapped form, or
//! everything that has a price.
//!
//! A graph [with a basket](Graph::with_basket) shows transfers of the basket's assets as transfers
//! of a single one wherever a filter selects the basket. Stored transfers stay as they are.

use std::collections::{HashMap, HashSet};

use crate::graph::error::Damaged;
use crate::graph::types::{AssetId, Position, Side, Status, U256, WalletId};
use crate::graph::view::filter::{AssetSelection, EdgeFilter};
use crate::graph::view::graph::Graph;
use crate::graph::view::transfers::Transfer;

/// Powers of ten within 256 bits.
const MAX_EXPONENT: u32 = 77;

/// Ratio between an asset's unit and the basket's: a multiplier and a power of ten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Factor {
    multiplier: U256,
    /// Number of decimals that the product is cut by.
    decimals: u32,
}

impl Factor {
    /// Makes the factor `multiplier * 10^exponent`; `None` if it exceeds 256 bits.
    #[must_use]
    pub fn new(multiplier: U256, exponent: i32) -> Option<Self> {
        let decimals = exponent.unsigned_abs();
        if exponent <= 0 {
            return Some(Self { multiplier, decimals });
        }
        let power = U256::new(10).checked_pow(decimals)?;
        multiplier.checked_mul(power).map(|multiplier| Self { multiplier, decimals: 0 })
    }

    /// Converts an amount, rounded down; `None` if the result exceeds 256 bits.
    #[must_use]
    pub fn convert(self, amount: U256) -> Option<U256> {
        let first = self.decimals.min(MAX_EXPONENT);
        let product = product(amount, self.multiplier, U256::new(10).pow(first))?;
        match self.decimals - first {
            0 => Some(product),
            // Rounding down twice is rounding down once.
            rest if rest <= MAX_EXPONENT => Some(product / U256::new(10).pow(rest)),
            _ => Some(U256::ZERO),
        }
    }
}

/// Returns `amount * multiplier / divisor`, rounded down; `None` if it exceeds 256 bits.
fn product(amount: U256, multiplier: U256, divisor: U256) -> Option<U256> {
    if let Some(product) = amount.checked_mul(multiplier) {
        return Some(product / divisor);
    }
    // Horner's rule over the bits of `amount`: quotient * divisor + rest is the multiplier times
    // the bits so far.
    let (whole, part) = (multiplier / divisor, multiplier % divisor);
    let (mut quotient, mut rest) = (U256::ZERO, U256::ZERO);
    for bit in (0..256_u32).rev() {
        quotient = quotient.checked_mul(U256::new(2))?;
        let is_set = (amount >> bit) & U256::ONE == U256::ONE;
        for more in [Some(rest), is_set.then_some(part)].into_iter().flatten() {
            // Both are less than the divisor.
            if rest >= divisor - more {
                rest -= divisor - more;
                quotient = quotient.checked_add(U256::ONE)?;
            } else {
                rest += more;
            }
        }
        if is_set {
            quotient = quotient.checked_add(whole)?;
        }
    }
    Some(quotient)
}

/// A price in force for some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// First time, inclusive.
    pub from: i64,
    /// Last time, exclusive.
    pub until: i64,
    /// Value of a unit of the asset.
    pub factor: Factor,
}

/// Value of an asset in the basket's unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Valuation {
    /// The same at any time.
    Fixed(Factor),
    /// Prices by time, in its order and without overlaps.
    Priced(Vec<Price>),
    /// One for each transfer, whatever its amount: an NFT whose amounts may be ids.
    Each,
}

impl Valuation {
    fn value(&self, time: i64, amount: U256) -> Option<U256> {
        match self {
            Self::Fixed(factor) => factor.convert(amount),
            Self::Priced(prices) => {
                let after = prices.partition_point(|price| price.from <= time);
                let price = prices.get(after.checked_sub(1)?).filter(|price| time < price.until)?;
                price.factor.convert(amount)
            }
            Self::Each => Some(U256::ONE),
        }
    }
}

/// A contract that exchanges the native coin for a token one to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wrapper {
    /// The contract as a wallet, if it has transfers.
    pub contract: Option<WalletId>,
    /// Its token, if that has transfers.
    pub token: Option<AssetId>,
}

/// Several assets followed as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Basket {
    asset: AssetId,
    members: HashMap<AssetId, Valuation>,
    wrappers: Vec<Wrapper>,
    /// Tokens are minted from this wallet and burned by a transfer to it.
    zero: Option<WalletId>,
    /// Tokens that are excluded and counted.
    nfts: HashSet<AssetId>,
    counts_others: bool,
}

/// A transfer through a basket.
pub(super) enum Seen {
    /// In the unit of the basket.
    Moved(Transfer),
    /// Wrapping or unwrapping: its sender and receiver have what they had.
    Stayed,
    /// An asset, or a time, without a value.
    Unvalued,
    /// An NFT that the basket excludes.
    Nft,
}

/// Transfers of an asset that a basket has no value for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unvalued {
    /// The asset.
    pub asset: AssetId,
    /// An NFT, which is excluded; otherwise there is no price.
    pub is_nft: bool,
    /// Number of transfers.
    pub transfers: u64,
    /// Time of the first transfer.
    pub first: i64,
    /// Time of the last transfer.
    pub last: i64,
}

impl Unvalued {
    /// Adds the transfers of the same asset.
    pub fn add(&mut self, more: &Self) {
        self.transfers += more.transfers;
        self.first = self.first.min(more.first);
        self.last = self.last.max(more.last);
    }
}

impl Basket {
    /// Makes a basket of assets. `zero` is the address from which tokens are minted.
    #[must_use]
    pub fn new(members: HashMap<AssetId, Valuation>, wrappers: Vec<Wrapper>, zero: Option<WalletId>) -> Self {
        let mut assets = members.keys().copied();
        let asset = match (assets.next(), assets.next()) {
            (Some(only), None) => only,
            _ => AssetId::NATIVE,
        };
        Self { asset, members, wrappers, zero, nfts: HashSet::new(), counts_others: false }
    }

    /// Counts transfers of all other assets, those of NFTs apart.
    #[must_use]
    pub fn counting_others(self, nfts: HashSet<AssetId>) -> Self {
        Self { nfts, counts_others: true, ..self }
    }

    /// Returns the selection by which a filter means the basket.
    #[must_use]
    pub const fn selection(&self) -> AssetSelection {
        if self.asset.get() == AssetId::NATIVE.get() {
            AssetSelection::Native
        } else {
            AssetSelection::Token(self.asset)
        }
    }

    /// Reports whether a transfer only changes the form of the coin.
    fn is_wrapping(&self, transfer: &Transfer, ends: [Option<WalletId>; 2]) -> bool {
        self.wrappers.iter().any(|wrapper| {
            let at_contract = wrapper.contract.is_some() && ends.contains(&wrapper.contract);
            if transfer.asset == AssetId::NATIVE {
                return at_contract;
            }
            wrapper.token == Some(transfer.asset) && (at_contract || (self.zero.is_some() && ends.contains(&self.zero)))
        })
    }

    /// Shows a transfer as one of the basket.
    pub(super) fn see(&self, wallet: WalletId, transfer: Transfer) -> Seen {
        let Some(valuation) = self.members.get(&transfer.asset) else {
            return if self.nfts.contains(&transfer.asset) { Seen::Nft } else { Seen::Unvalued };
        };
        if self.is_wrapping(&transfer, [Some(wallet), transfer.peer]) {
            return Seen::Stayed;
        }
        match valuation.value(transfer.time, transfer.value) {
            Some(value) => Seen::Moved(self.moved(transfer, value)),
            None => Seen::Unvalued,
        }
    }

    /// Shows a transfer that is known to be one of the basket.
    pub(super) fn shown(&self, transfer: Transfer) -> Transfer {
        let value = self.members.get(&transfer.asset);
        match value.and_then(|valuation| valuation.value(transfer.time, transfer.value)) {
            Some(value) => self.moved(transfer, value),
            None => transfer,
        }
    }

    fn moved(&self, transfer: Transfer, value: U256) -> Transfer {
        let position = if self.members.len() > 1 {
            // Logs and transactions of a block have no order in common.
            Position { transaction_index: None, ..transfer.position }
        } else {
            transfer.position
        };
        Transfer { asset: self.asset, value, position, ..transfer }
    }
}

impl Graph<'_> {
    /// Returns a transfer of a wallet as the basket shows it; `None` if it moves nothing of the
    /// basket, or has no value. Without a basket, the transfer itself.
    #[must_use]
    pub fn in_basket(&self, wallet: WalletId, transfer: Transfer) -> Option<Transfer> {
        let Some(basket) = self.basket else { return Some(transfer) };
        match basket.see(wallet, transfer) {
            Seen::Moved(transfer) => Some(transfer),
            Seen::Stayed | Seen::Unvalued | Seen::Nft => None,
        }
    }

    /// Calls `each` for the assets of a wallet's transfers on a side, within the filter's window,
    /// that the basket has no value for. Does nothing without a basket that counts them.
    ///
    /// # Errors
    /// When the base is damaged, and the first error of `each`.
    pub fn unvalued<E: From<Damaged>>(
        &self,
        wallet: WalletId,
        side: Side,
        filter: &EdgeFilter,
        mut each: impl FnMut(Unvalued) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(basket) = self.basket.filter(|basket| basket.counts_others) else { return Ok(()) };
        let window = self.window(wallet, side, filter)?;
        self.transfers_within(wallet, side, window, |transfer| {
            let within = filter.since.is_none_or(|since| transfer.time >= since)
                && filter.until.is_none_or(|until| transfer.time < until);
            if !within || transfer.status == Status::Failed || transfer.peer == Some(wallet) {
                return Ok(());
            }
            let is_nft = match basket.see(wallet, transfer) {
                Seen::Nft => true,
                Seen::Unvalued if transfer.value > U256::ZERO => false,
                Seen::Unvalued | Seen::Moved(_) | Seen::Stayed => return Ok(()),
            };
            let Transfer { asset, time, .. } = transfer;
            each(Unvalued { asset, is_nft, transfers: 1, first: time, last: time })
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn factor(multiplier: u128, exponent: i32) -> Factor {
        Factor::new(U256::new(multiplier), exponent).unwrap()
    }

    #[test]
    fn factors_convert_between_units_and_round_down() {
        // 1.5 coins of 18 decimals at 2,000.25 dollars, with prices in units of 10^-12 dollars.
        let price = factor(2_000_250_000_000_000, -12);
        assert_eq!(price.convert(U256::new(1_500_000_000_000_000_000)), Some(U256::new(3_000_375_000_000_000_000_000)));
        // A token of six decimals in units of 10^-18.
        assert_eq!(factor(1, 12).convert(U256::new(7)), Some(U256::new(7_000_000_000_000)));
        assert_eq!(factor(1, -1).convert(U256::new(19)), Some(U256::new(1)));
        assert_eq!(factor(0, 5).convert(U256::MAX), Some(U256::ZERO));
    }

    #[test]
    fn conversions_beyond_256_bits_are_exact_or_refused() {
        assert_eq!(factor(1, 0).convert(U256::MAX), Some(U256::MAX));
        assert_eq!(factor(2, 0).convert(U256::MAX), None);
        assert_eq!(factor(1, 1).convert(U256::MAX), None);
        assert_eq!(factor(20, -1).convert(U256::MAX / U256::new(2)), Some(U256::MAX - U256::ONE));
        assert_eq!(factor(10, -1).convert(U256::MAX), Some(U256::MAX));
        assert_eq!(factor(10_u128.pow(30), -30).convert(U256::MAX), Some(U256::MAX));
        // 77 decimals and more.
        assert_eq!(factor(10, -77).convert(U256::new(10).pow(77)), Some(U256::new(10)));
        assert_eq!(factor(10_u128.pow(38), -110).convert(U256::new(10).pow(77)), Some(U256::new(100_000)));
        assert_eq!(factor(u128::MAX, -400).convert(U256::MAX), Some(U256::ZERO));
        assert_eq!(Factor::new(U256::new(1), 78), None);
    }

    #[test]
    fn a_price_is_in_force_from_its_time_until_before_its_end() {
        let price = |from, until, value| Price { from, until, factor: factor(value, 0) };
        let valuation = Valuation::Priced(vec![price(10, 20, 2), price(30, 31, 3)]);
        let value = |time| valuation.value(time, U256::ONE).map(|value| value.as_u128());
        assert_eq!([9, 10, 19, 20, 29, 30, 31].map(value), [None, Some(2), Some(2), None, None, Some(3), None]);
        assert_eq!(Valuation::Priced(Vec::new()).value(0, U256::ONE), None);
    }

    proptest! {
        #[test]
        fn long_products_agree_with_short_ones(amount in 1 << 63..u64::MAX, multiplier: u64, divisor in 1..u64::MAX) {
            let [amount, multiplier, divisor] = [amount, multiplier, divisor].map(U256::from);
            let short = Some(amount * multiplier / divisor);
            prop_assert_eq!(product(amount, multiplier, divisor), short);
            // The same ratio, beyond 256 bits on the way.
            prop_assert_eq!(product(amount << 180, multiplier << 10, divisor << 190), short);
        }
    }
}
