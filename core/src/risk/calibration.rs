//! Calibration of a network: the share of its wallets that is illicit, and the scores at which
//! bands begin.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::scorecard::{BoundScorecard, Points, Score, ScoreTotal, Scorecard};

/// Share of wallets that is taken to be illicit where nothing else is known. A scorecard is fitted
/// to a sample in which a far larger share is, because illicit wallets are what people label.
pub const DEFAULT_PREVALENCE: f64 = 0.01;

/// Bands above the lowest, in rising order.
const BANDS: [&str; 3] = ["medium", "high", "severe"];

/// Name of the lowest band.
const LOWEST: &str = "low";

/// Reason why a calibration is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum CalibrationError {
    /// The prevalence is not strictly between 0 and 1.
    #[error("prevalence must be greater than 0 and less than 1, not {0}")]
    Prevalence(f64),
    /// The thresholds do not rise within 0 and 100.
    #[error("thresholds must rise within 0 and 100, not {0}, {1}, {2}")]
    Thresholds(Points, Points, Points),
}

/// Share of illicit wallets, and thresholds of bands.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Document")]
pub struct Calibration {
    prevalence: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    thresholds: Option<[Points; 3]>,
}

/// A calibration in JSON, before it is checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    prevalence: f64,
    #[serde(default)]
    thresholds: Option<[Points; 3]>,
}

impl TryFrom<Document> for Calibration {
    type Error = CalibrationError;

    fn try_from(Document { prevalence, thresholds }: Document) -> Result<Self, CalibrationError> {
        Self::new(prevalence, thresholds)
    }
}

/// Calibrations by the canonical name of the network. In JSON, an object of objects with the
/// members `prevalence` and, if the network has its own bands, `thresholds`: their lowest scores.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Calibrations(BTreeMap<String, Calibration>);

impl Calibrations {
    /// Returns the calibration of a network; without one, the default.
    #[must_use]
    pub fn of(&self, network: &str) -> Calibration {
        self.0.get(network).copied().unwrap_or_default()
    }

    /// Returns the networks with a calibration of their own.
    pub fn networks(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl FromIterator<(String, Calibration)> for Calibrations {
    fn from_iter<I: IntoIterator<Item = (String, Calibration)>>(calibrations: I) -> Self {
        Self(calibrations.into_iter().collect())
    }
}

impl Default for Calibration {
    /// [`DEFAULT_PREVALENCE`], and the bands of the scorecard.
    fn default() -> Self {
        Self { prevalence: DEFAULT_PREVALENCE, thresholds: None }
    }
}

impl Calibration {
    /// Makes a calibration. The thresholds are the lowest scores of the bands medium, high and
    /// severe; without them, the bands of the scorecard apply.
    ///
    /// # Errors
    /// [`CalibrationError`].
    pub fn new(prevalence: f64, thresholds: Option<[Points; 3]>) -> Result<Self, CalibrationError> {
        if !(prevalence > 0.0 && prevalence < 1.0) {
            return Err(CalibrationError::Prevalence(prevalence));
        }
        if let Some([medium, high, severe]) = thresholds
            && !(Points::default() < medium && medium < high && high < severe && severe <= Score::MAX.points())
        {
            return Err(CalibrationError::Thresholds(medium, high, severe));
        }
        Ok(Self { prevalence, thresholds })
    }

    /// Returns the share of wallets that is taken to be illicit.
    #[must_use]
    pub const fn prevalence(&self) -> f64 {
        self.prevalence
    }

    /// Returns the lowest scores of the bands and their names, in rising order.
    pub fn bands<'s>(&self, scorecard: &'s Scorecard) -> Vec<(Points, &'s str)> {
        match self.thresholds {
            Some(thresholds) => {
                std::iter::once((Points::default(), LOWEST)).chain(thresholds.into_iter().zip(BANDS)).collect()
            }
            None => scorecard.bands().iter().map(|band| (band.from, band.band.as_str())).collect(),
        }
    }

    /// Returns the name of the band that a score falls into.
    #[must_use]
    pub fn band<'s>(&self, scorecard: &'s Scorecard, score: Score) -> &'s str {
        match self.thresholds {
            Some(thresholds) => {
                let reached = thresholds.iter().zip(BANDS).rev().find(|(from, _)| **from <= score.points());
                reached.map_or(LOWEST, |(_, band)| band)
            }
            None => scorecard.band(score),
        }
    }

    /// Returns the probability that a wallet of this network with this score is illicit.
    ///
    /// The scorecard gives it for a sample with another share of illicit wallets; the odds are
    /// shifted by the ratio of the prior odds (Elkan 2001, "The foundations of cost-sensitive
    /// learning", theorem 2). The evidence is the ratio of odds; of a wallet whose features are
    /// covered in part, that part of its logarithm counts, and nothing known leaves the prevalence.
    #[must_use]
    pub fn probability(&self, bound: &BoundScorecard, total: &ScoreTotal) -> f64 {
        let scorecard = bound.scorecard();
        let odds = |probability: f64| probability / (1.0 - probability);
        let prior = prior(scorecard).unwrap_or(self.prevalence);
        let evidence = libm::pow(odds(scorecard.probability(total.score)) / odds(prior), bound.covered_share(total));
        // Without an overflow to infinity divided by infinity.
        1.0 / (1.0 + 1.0 / (odds(self.prevalence) * evidence))
    }
}

/// Returns the share of illicit wallets that a scorecard was fitted to, if it states one.
fn prior(scorecard: &Scorecard) -> Option<f64> {
    let training = scorecard.training()?;
    let prior = training.illicit as f64 / training.rows as f64;
    (prior > 0.0 && prior < 1.0).then_some(prior)
}

#[cfg(test)]
mod tests {
    use super::super::assessment::default_scorecard;
    use super::super::features::NAMES;
    use super::super::scorecard::NOT_COVERED;
    use super::*;

    fn points(tenths: [i32; 3]) -> Option<[Points; 3]> {
        Some(tenths.map(Points::from_tenths))
    }

    #[test]
    fn a_prevalence_is_strictly_between_none_and_all() {
        for prevalence in [0.0, 1.0, -0.1, 1.5, f64::NAN, f64::INFINITY] {
            let error = Calibration::new(prevalence, None).unwrap_err();
            assert!(error.to_string().ends_with(&format!("not {prevalence}")), "{error}");
        }
        assert_eq!(Calibration::new(0.2, None).unwrap().prevalence(), 0.2);
    }

    #[test]
    fn calibrations_are_read_as_they_were_written() {
        let calibrations: Calibrations = [
            ("bitcoin".to_owned(), Calibration::new(0.1 + 0.2, None).unwrap()),
            ("ethereum".to_owned(), Calibration::new(0.003, points([405, 600, 1000])).unwrap()),
        ]
        .into_iter()
        .collect();
        let text = serde_json::to_string(&calibrations).unwrap();
        assert!(text.contains(r#""thresholds":[40.5,60,100]"#), "{text}");
        assert_eq!(serde_json::from_str::<Calibrations>(&text).unwrap(), calibrations);
        assert_eq!(calibrations.of("bitcoin").prevalence(), 0.1 + 0.2);
        assert_eq!(calibrations.of("tron"), Calibration::default());
        assert_eq!(calibrations.networks().collect::<Vec<_>>(), ["bitcoin", "ethereum"]);
        for (text, reason) in [
            (r#"{"x": {"prevalence": 1}}"#, "prevalence must be greater than 0"),
            (r#"{"x": {"prevalence": 0.5, "thresholds": [3, 2, 1]}}"#, "thresholds must rise"),
            (r#"{"x": {"prevalence": 0.5, "bands": 3}}"#, "unknown field"),
            (r#"{"x": {}}"#, "missing field"),
        ] {
            let error = serde_json::from_str::<Calibrations>(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn thresholds_rise() {
        for tenths in [[0, 600, 750], [600, 600, 750], [400, 760, 750], [400, 600, 1001], [-1, 1, 2]] {
            assert!(Calibration::new(0.01, points(tenths)).is_err(), "{tenths:?}");
        }
        let calibration = Calibration::new(0.01, points([100, 200, 1000])).unwrap();
        let scorecard = default_scorecard().unwrap();
        let band = |tenths| calibration.band(&scorecard, Score::from_tenths(tenths).unwrap());
        assert_eq!(
            [0, 99, 100, 199, 200, 999, 1000].map(band),
            ["low", "low", "medium", "medium", "high", "high", "severe"]
        );
        assert_eq!(calibration.bands(&scorecard)[3], (Points::from_tenths(1000), "severe"));
        assert_eq!(Calibration::default().bands(&scorecard).len(), scorecard.bands().len());
    }

    #[test]
    fn the_odds_shift_by_the_ratio_of_the_priors() {
        let scorecard = default_scorecard().unwrap();
        let bound = scorecard.bind(&NAMES).unwrap();
        let training = scorecard.training().unwrap();
        let of_training = training.illicit as f64 / training.rows as f64;
        for tenths in [0, 300, 500, 640, 1000] {
            let total = ScoreTotal { score: Score::from_tenths(tenths).unwrap(), ..bound.score(&[]) };
            let of_sample = scorecard.probability(total.score);
            let same = Calibration::new(of_training, None).unwrap().probability(&bound, &total);
            assert!((same - of_sample).abs() < 1e-12, "{same} is not {of_sample}");
            let odds = of_sample / (1.0 - of_sample) * (0.02 / 0.98) / (of_training / (1.0 - of_training));
            let shifted = Calibration::new(0.02, None).unwrap().probability(&bound, &total);
            assert!((shifted - odds / (1.0 + odds)).abs() < 1e-12, "{shifted}");
        }
    }

    #[test]
    fn nothing_covered_leaves_the_prevalence() {
        let scorecard = default_scorecard().unwrap();
        let bound = scorecard.bind(&NAMES).unwrap();
        let total = bound.score(&[NOT_COVERED; NAMES.len()]);
        assert_eq!(bound.covered_share(&total), 0.0);
        let probability = Calibration::new(0.03, None).unwrap().probability(&bound, &total);
        assert!((probability - 0.03).abs() < 1e-15, "{probability}");
        assert_eq!(bound.covered_share(&bound.score(&[f64::NAN; NAMES.len()])), 1.0, "undefined is known");
    }
}
