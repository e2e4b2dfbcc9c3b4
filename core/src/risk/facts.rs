//! What is known about a wallet, and the features that the scorecard reads from it.

use serde::Deserialize;

use crate::amount::{Amount, AmountError};
use crate::label::{LabelKind, Severity};

/// The label that a wallet bears itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectLabel {
    /// Category, such as `ransomware`.
    pub category: String,
    /// What the category means for risk.
    pub kind: LabelKind,
    /// How bad it is.
    pub severity: Severity,
    /// Who says so.
    pub source: String,
}

/// A wallet's dealings with all counterparties of one kind. Failed transactions, and those to itself, do not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerGroup {
    /// Kind of the counterparties by their labels; `None` for those without one.
    pub kind: Option<LabelKind>,
    /// Distinct counterparties.
    pub counterparties: u64,
    /// Transactions from them.
    pub received: u64,
    /// Transactions to them.
    pub sent: u64,
    /// Value received from them.
    pub received_value: Amount,
    /// Value sent to them.
    pub sent_value: Amount,
    /// The counterparty with the largest value, as evidence: address and label category.
    pub largest: Option<(String, String)>,
}

/// All that the scorecard may know about a wallet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WalletFacts {
    /// Its own label, the worst where there are several.
    pub label: Option<DirectLabel>,
    /// Its counterparties, at most one group a kind.
    pub peers: Vec<PeerGroup>,
}

/// What a factor of the scorecard can look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    /// Share of the value received that came from wallets labelled illicit, in parts per million.
    IllicitInflowPpm,
    /// Share of the value sent that went to wallets labelled illicit, in parts per million.
    IllicitOutflowPpm,
    /// Distinct counterparties labelled illicit.
    IllicitCounterparties,
    /// Share of the value moved that was moved with custodial services, in parts per million.
    ServicePpm,
    /// Transactions, in and out.
    Transactions,
}

impl WalletFacts {
    /// Whether anything at all was moved.
    #[must_use]
    pub fn has_history(&self) -> bool {
        self.peers.iter().any(|p| p.received > 0 || p.sent > 0)
    }

    /// The counterparties of a kind.
    #[must_use]
    pub fn group(&self, kind: LabelKind) -> Option<&PeerGroup> {
        self.peers.iter().find(|p| p.kind == Some(kind))
    }

    /// The value of a feature; `None` where it is undefined (a share of nothing).
    ///
    /// # Errors
    /// [`AmountError::SumOverflow`].
    pub fn feature(&self, feature: Feature) -> Result<Option<u64>, AmountError> {
        let illicit = self.group(LabelKind::Illicit);
        Ok(match feature {
            Feature::IllicitInflowPpm => {
                let part = illicit.map_or(Amount::ZERO, |p| p.received_value);
                share_ppm(part, self.total(|p| p.received_value)?)
            }
            Feature::IllicitOutflowPpm => {
                let part = illicit.map_or(Amount::ZERO, |p| p.sent_value);
                share_ppm(part, self.total(|p| p.sent_value)?)
            }
            Feature::IllicitCounterparties => Some(illicit.map_or(0, |p| p.counterparties)),
            Feature::ServicePpm => {
                let part = match self.group(LabelKind::Service) {
                    Some(p) => p.received_value.checked_add(p.sent_value)?,
                    None => Amount::ZERO,
                };
                let whole = self.total(|p| p.received_value)?.checked_add(self.total(|p| p.sent_value)?)?;
                share_ppm(part, whole)
            }
            Feature::Transactions => {
                Some(self.peers.iter().fold(0, |n, p| n.saturating_add(p.received).saturating_add(p.sent)))
            }
        })
    }

    fn total(&self, value: impl Fn(&PeerGroup) -> Amount) -> Result<Amount, AmountError> {
        self.peers.iter().try_fold(Amount::ZERO, |sum, p| sum.checked_add(value(p)))
    }
}

/// `part / whole` in parts per million, rounded up, so that a share above zero never reads as none.
fn share_ppm(part: Amount, whole: Amount) -> Option<u64> {
    const MILLION: u128 = 1_000_000;
    let (mut part, mut whole) = (part.units().unsigned_abs(), whole.units().unsigned_abs());
    if whole == 0 {
        return None;
    }
    let positive = part > 0;
    // Below 2^107 the product with a million fits into 128 bits; a shift of both changes the ratio by less than 2^-80.
    while whole > u128::MAX / MILLION {
        part >>= 1;
        whole >>= 1;
    }
    let ppm = (part * MILLION).div_ceil(whole).max(u128::from(positive));
    u64::try_from(ppm.min(MILLION)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amount::MAX_UNITS;

    fn amount(units: i128) -> Amount {
        Amount::from_units(units).unwrap()
    }

    #[test]
    fn shares_are_exact_at_the_ends_and_round_up_between() {
        assert_eq!(share_ppm(Amount::ZERO, Amount::ZERO), None);
        assert_eq!(share_ppm(Amount::ZERO, amount(7)), Some(0));
        assert_eq!(share_ppm(amount(7), amount(7)), Some(1_000_000));
        assert_eq!(share_ppm(amount(1), amount(MAX_UNITS)), Some(1));
        assert_eq!(share_ppm(amount(1), amount(3)), Some(333_334));
        assert_eq!(share_ppm(amount(MAX_UNITS), amount(MAX_UNITS)), Some(1_000_000));
    }
}
