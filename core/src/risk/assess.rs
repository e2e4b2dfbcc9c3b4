//! From facts to a score with reasons.

use serde::Serialize;

use super::facts::{Feature, WalletFacts};
use super::model::{Factor, Model, Score};
use crate::amount::AmountError;
use crate::label::LabelKind;

/// How a score came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RiskState {
    /// From the scorecard.
    Scored,
    /// Nothing is known of the wallet: neither clean nor risky.
    Unknown,
    /// A label on the wallet itself decided.
    Labelled,
}

impl RiskState {
    /// The state as stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scored => "scored",
            Self::Unknown => "unknown",
            Self::Labelled => "labelled",
        }
    }
}

/// One reason for a score.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FactorPoints {
    /// Name of the factor.
    pub factor: String,
    /// What it adds to the score.
    pub points: i32,
    /// The value it was judged by, with its unit.
    pub value: String,
    /// The reason in words, with evidence.
    pub detail: String,
}

/// A score with its reasons, whose points add up to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assessment {
    /// 0 (clean) to 100.
    pub score: Score,
    /// Name of the score's band.
    pub band: String,
    /// How the score came about.
    pub state: RiskState,
    /// Reasons; their points add up to the score.
    pub factors: Vec<FactorPoints>,
}

impl Model {
    /// Judges a wallet. A label of kind illicit or service on the wallet itself decides; else the factors do, if the wallet has
    /// any history; else the score is the base and the state unknown.
    ///
    /// # Errors
    /// [`AmountError::SumOverflow`] for values beyond `i128`.
    pub fn assess(&self, facts: &WalletFacts) -> Result<Assessment, AmountError> {
        let mut factors = vec![FactorPoints {
            factor: "base".to_owned(),
            points: self.base(),
            value: String::new(),
            detail: "where every wallet starts".to_owned(),
        }];
        let deciding = facts.label.as_ref().filter(|l| l.kind != LabelKind::Neutral);
        let state = if let Some(label) = deciding {
            factors.push(FactorPoints {
                factor: "label".to_owned(),
                points: self.label_points(label.severity),
                value: label.category.clone(),
                detail: format!(
                    "the wallet itself is labelled {} (severity {}) by {}",
                    label.category,
                    label.severity.as_str(),
                    label.source
                ),
            });
            RiskState::Labelled
        } else if facts.has_history() {
            for factor in self.factors() {
                let value = facts.feature(factor.feature)?;
                factors.push(FactorPoints {
                    factor: factor.name.clone(),
                    points: factor.points(value),
                    value: value.map_or_else(|| "none".to_owned(), |v| show(factor.feature, v)),
                    detail: explain(factor, value, facts),
                });
            }
            RiskState::Scored
        } else {
            RiskState::Unknown
        };
        let points = factors.iter().map(|f| f.points).sum();
        // A model is checked when it is read: no sum of its points leaves 0 to 100.
        let score = Score::from_points(points).ok_or(AmountError::SumOverflow)?;
        Ok(Assessment { score, band: self.band(score).to_owned(), state, factors })
    }
}

/// A feature's value with its unit.
fn show(feature: Feature, value: u64) -> String {
    match feature {
        Feature::IllicitInflowPpm | Feature::IllicitOutflowPpm | Feature::ServicePpm => {
            format!("{}.{:04} %", value / 10_000, value % 10_000)
        }
        Feature::IllicitCounterparties | Feature::Transactions => value.to_string(),
    }
}

/// A factor in words, with the counterparty that weighs most where there is anything to prove.
fn explain(factor: &Factor, value: Option<u64>, facts: &WalletFacts) -> String {
    if value.is_none_or(|v| v == 0) {
        return factor.description.clone();
    }
    let kind = match factor.feature {
        Feature::IllicitInflowPpm | Feature::IllicitOutflowPpm | Feature::IllicitCounterparties => LabelKind::Illicit,
        Feature::ServicePpm => LabelKind::Service,
        Feature::Transactions => return factor.description.clone(),
    };
    match facts.group(kind).and_then(|g| g.largest.as_ref()) {
        Some((address, category)) => format!("{}; largest: {address} ({category})", factor.description),
        None => factor.description.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::{DirectLabel, PeerGroup};
    use super::*;
    use crate::amount::{Amount, MAX_UNITS};
    use crate::label::Severity;
    use proptest::prelude::*;

    fn group(kind: Option<LabelKind>, counterparties: u64, received: i128, sent: i128) -> PeerGroup {
        PeerGroup {
            kind,
            counterparties,
            received: counterparties,
            sent: counterparties,
            received_value: Amount::from_units(received).unwrap(),
            sent_value: Amount::from_units(sent).unwrap(),
            largest: kind.map(|_| ("0xpeer".to_owned(), "scam".to_owned())),
        }
    }

    fn assess(facts: &WalletFacts) -> Assessment {
        Model::compiled_in().unwrap().assess(facts).unwrap()
    }

    #[test]
    fn nothing_known_is_fifty_and_unknown() {
        let assessment = assess(&WalletFacts::default());
        assert_eq!((assessment.score.points(), assessment.state), (50, RiskState::Unknown));
    }

    #[test]
    fn a_label_on_the_wallet_decides_and_says_so() {
        let label = |category: &str, kind, severity| {
            Some(DirectLabel { category: category.into(), kind, severity, source: "ofac".into() })
        };
        let peers = vec![group(Some(LabelKind::Illicit), 9, 100, 100)];
        let sanctioned = WalletFacts { label: label("sanctions", LabelKind::Illicit, Severity::Severe), peers };
        let assessment = assess(&sanctioned);
        assert_eq!((assessment.score.points(), assessment.state), (100, RiskState::Labelled));
        assert!(assessment.factors[1].detail.contains("sanctions") && assessment.factors[1].detail.contains("ofac"));
        let exchange = WalletFacts { label: label("exchange", LabelKind::Service, Severity::None), peers: vec![] };
        assert_eq!(assess(&exchange).score.points(), 10);
    }

    #[test]
    fn a_neutral_label_does_not_decide() {
        let label = DirectLabel {
            category: "miner".into(),
            kind: LabelKind::Neutral,
            severity: Severity::None,
            source: "x".into(),
        };
        let facts = WalletFacts { label: Some(label), peers: vec![group(None, 2, 10, 10)] };
        assert_eq!(assess(&facts).state, RiskState::Scored);
    }

    #[test]
    fn money_from_illicit_wallets_raises_the_score_and_clean_dealings_lower_it() {
        let tainted = WalletFacts {
            label: None,
            peers: vec![group(Some(LabelKind::Illicit), 5, 90, 0), group(None, 1, 10, 100)],
        };
        let clean = WalletFacts {
            label: None,
            peers: vec![group(Some(LabelKind::Service), 5, 90, 90), group(None, 100, 10, 100)],
        };
        assert_eq!(assess(&tainted).score.points(), 50 + 22 - 8 + 12 - 4);
        assert_eq!(assess(&clean).score.points(), 50 - 8 - 8 - 4 - 6 - 8);
        assert!(assess(&tainted).factors.iter().any(|f| f.detail.contains("0xpeer (scam)")));
    }

    proptest! {
        #[test]
        fn factors_add_up_to_the_score(
            illicit in (0_u64..100, 0..=MAX_UNITS, 0..=MAX_UNITS),
            service in (0_u64..100, 0..=MAX_UNITS, 0..=MAX_UNITS),
            rest in (0_u64..1000, 0..=MAX_UNITS, 0..=MAX_UNITS),
        ) {
            let facts = WalletFacts { label: None, peers: vec![
                group(Some(LabelKind::Illicit), illicit.0, illicit.1 / 4, illicit.2 / 4),
                group(Some(LabelKind::Service), service.0, service.1 / 4, service.2 / 4),
                group(None, rest.0, rest.1 / 4, rest.2 / 4),
            ]};
            let assessment = assess(&facts);
            let sum: i32 = assessment.factors.iter().map(|f| f.points).sum();
            prop_assert_eq!(sum, i32::from(assessment.score.points()));
        }
    }
}
