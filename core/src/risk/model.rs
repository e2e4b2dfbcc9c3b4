//! The scorecard: a versioned JSON document, checked before use, so that no fact can lead to a score outside 0 to 100.

use serde::Deserialize;
use thiserror::Error;

use super::facts::Feature;
use crate::label::Severity;

/// The format of the document that this code reads.
const FORMAT: u32 = 1;

/// The default scorecard.
const DEFAULT: &str = include_str!("default_model.json");

/// A score from 0 (clean) to 100; 50 when nothing is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score(u8);

impl Score {
    /// A score of `points`, if that is one.
    #[must_use]
    pub fn from_points(points: i32) -> Option<Self> {
        u8::try_from(points).ok().filter(|p| *p <= 100).map(Self)
    }

    /// Points, 0 to 100.
    #[must_use]
    pub const fn points(self) -> u8 {
        self.0
    }
}

/// What is wrong with a scorecard.
#[derive(Debug, Error)]
pub enum ModelError {
    /// Not the JSON document expected.
    #[error("risk model is not readable")]
    Json(#[from] serde_json::Error),
    /// Written for another version of this code.
    #[error("risk model has format {found}, this version reads format {FORMAT}")]
    Format {
        /// Format of the document.
        found: u32,
    },
    /// Readable, but not a scorecard.
    #[error("risk model {version:?}: {problem}")]
    Invalid {
        /// Version of the model.
        version: String,
        /// What is wrong.
        problem: String,
    },
}

/// One step of a factor: the points for values up to and including `up_to` that no earlier bin took.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bin {
    /// Upper bound, inclusive; none for the last bin.
    #[serde(default)]
    pub up_to: Option<u64>,
    /// Points added to the score.
    pub points: i32,
}

/// One feature's step function.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Factor {
    /// Name, as shown to users.
    pub name: String,
    /// What it looks at.
    pub feature: Feature,
    /// The feature in words.
    pub description: String,
    /// Points where the feature is undefined.
    pub when_undefined: i32,
    /// Steps, by rising bound; the last one has none.
    pub bins: Vec<Bin>,
}

impl Factor {
    /// The points for a value of the feature.
    #[must_use]
    pub fn points(&self, value: Option<u64>) -> i32 {
        let Some(value) = value else { return self.when_undefined };
        let bin = self.bins.iter().find(|b| b.up_to.is_none_or(|bound| value <= bound));
        bin.map_or(self.when_undefined, |b| b.points)
    }

    fn extremes(&self) -> (i32, i32) {
        let points = self.bins.iter().map(|b| b.points).chain([self.when_undefined]);
        points.fold((i32::MAX, i32::MIN), |(low, high), p| (low.min(p), high.max(p)))
    }
}

/// Scores from `from` up to the next band's bear this name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Band {
    /// Lowest score of the band.
    pub from: u8,
    /// Its name.
    pub band: String,
}

/// Points of a label on the wallet itself, by severity.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelPoints {
    severe: i32,
    high: i32,
    medium: i32,
    low: i32,
    none: i32,
}

/// A scorecard.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    format: u32,
    version: String,
    base: i32,
    label_points: LabelPoints,
    factors: Vec<Factor>,
    bands: Vec<Band>,
}

impl Model {
    /// The scorecard compiled in.
    ///
    /// # Errors
    /// As [`Model::from_json`]; a test proves that it has none.
    pub fn compiled_in() -> Result<Self, ModelError> {
        Self::from_json(DEFAULT)
    }

    /// A scorecard from its document.
    ///
    /// # Errors
    /// [`ModelError`] for anything that is not a scorecard, among it bins out of order and factors that could leave 0 to 100.
    pub fn from_json(text: &str) -> Result<Self, ModelError> {
        let model: Self = serde_json::from_str(text)?;
        if model.format != FORMAT {
            return Err(ModelError::Format { found: model.format });
        }
        match model.problem() {
            Some(problem) => Err(ModelError::Invalid { version: model.version, problem }),
            None => Ok(model),
        }
    }

    /// Version of the scorecard.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Points of a wallet of which nothing is known.
    #[must_use]
    pub const fn base(&self) -> i32 {
        self.base
    }

    /// The factors, in the order shown.
    #[must_use]
    pub fn factors(&self) -> &[Factor] {
        &self.factors
    }

    /// Points that a label on the wallet itself adds to the base.
    #[must_use]
    pub const fn label_points(&self, severity: Severity) -> i32 {
        match severity {
            Severity::Severe => self.label_points.severe,
            Severity::High => self.label_points.high,
            Severity::Medium => self.label_points.medium,
            Severity::Low => self.label_points.low,
            Severity::None => self.label_points.none,
        }
    }

    /// The name of the band that a score falls into.
    #[must_use]
    pub fn band(&self, score: Score) -> &str {
        let band = self.bands.iter().rev().find(|b| b.from <= score.points());
        band.map_or("", |b| b.band.as_str())
    }

    fn problem(&self) -> Option<String> {
        for factor in &self.factors {
            let bounds: Vec<Option<u64>> = factor.bins.iter().map(|b| b.up_to).collect();
            let (last, inner) = bounds.split_last()?;
            if last.is_some() || inner.iter().any(Option::is_none) || !inner.is_sorted_by(|a, b| a < b) {
                return Some(format!("bins of factor {:?} must rise, and only the last is without bound", factor.name));
            }
        }
        if self.factors.iter().any(|f| f.bins.is_empty()) {
            return Some("a factor has no bins".to_owned());
        }
        let (low, high) = self.factors.iter().map(Factor::extremes).fold((self.base, self.base), |sum, extremes| {
            (sum.0.saturating_add(extremes.0), sum.1.saturating_add(extremes.1))
        });
        let labels = &self.label_points;
        let labelled = [labels.severe, labels.high, labels.medium, labels.low, labels.none];
        let labelled = labelled.map(|p| self.base.saturating_add(p));
        if [self.base, low, high].iter().chain(&labelled).any(|p| Score::from_points(*p).is_none()) {
            return Some(format!("scores must stay within 0 and 100, factors lead from {low} to {high}"));
        }
        let bands_rise = self.bands.is_sorted_by(|a, b| a.from < b.from);
        if !bands_rise || self.bands.first().is_none_or(|b| b.from != 0) || self.bands.iter().any(|b| b.from > 100) {
            return Some("bands must start at 0 and rise up to 100".to_owned());
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(from: &str, to: &str) -> ModelError {
        assert!(DEFAULT.contains(from), "{from} is not in the document");
        Model::from_json(&DEFAULT.replacen(from, to, 1)).unwrap_err()
    }

    #[test]
    fn the_compiled_in_model_is_valid() {
        let model = Model::compiled_in().unwrap();
        assert_eq!(model.base(), 50);
        assert_eq!(model.band(Score::from_points(100).unwrap()), "severe");
        assert_eq!(model.band(Score::from_points(0).unwrap()), "low");
    }

    #[test]
    fn documents_that_are_no_scorecard_are_refused_with_the_reason() {
        assert!(matches!(Model::from_json("{"), Err(ModelError::Json(_))));
        assert!(matches!(changed("\"format\": 1", "\"format\": 2"), ModelError::Format { found: 2 }));
        assert!(changed("\"points\": 22", "\"points\": 90").to_string().contains("within 0 and 100"));
        assert!(changed("\"up_to\": 10000,", "\"up_to\": 700000,").to_string().contains("must rise"));
        assert!(changed("\"from\": 0,", "\"from\": 1,").to_string().contains("start at 0"));
        assert!(matches!(changed("\"base\"", "\"bases\""), ModelError::Json(_)));
    }
}
