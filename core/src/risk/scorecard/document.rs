//! The scorecard as a document, and its validation.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::FORMAT;
use super::cells::Cells;
use super::error::ScorecardError;
use super::layout::format_document;
use super::points::{Points, Score};
use crate::label::Severity;
use crate::risk::monotone::Monotone;

/// Cuts of one feature; with more, a person cannot read the table.
const MAX_CUTS: usize = 255;

/// Factors of a scorecard; the sum of their points fits into an `i32` by far.
const MAX_FACTORS: usize = 1000;

/// Names of bands, in rising order.
const BANDS: [&str; 4] = ["low", "medium", "high", "severe"];

/// Names of lines of an explanation that are not factors.
const RESERVED: [&str; 4] = ["base", "cap", "label", "unknown"];

/// A step function of one feature, or a table over two.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Factor {
    /// Name, as it is shown to users.
    pub name: String,
    /// The one or two features that it reads.
    pub features: Vec<String>,
    /// Description, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Direction of the points; always free for two features.
    #[serde(default)]
    pub monotone: Monotone,
    /// Ends of the bins of each feature: bin `i` holds the values above cut `i - 1` up to and
    /// including cut `i`.
    pub cuts: Vec<Vec<f64>>,
    /// Points for each bin.
    pub points: Cells<Points>,
    /// Points where a feature is undefined.
    pub undefined: Points,
    /// Share of the training rows in each bin, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares: Option<Cells<f64>>,
    /// Share of the training rows where a feature is undefined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undefined_share: Option<f64>,
    /// Mean of the points' absolute values over the training rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub importance: Option<f64>,
}

impl Factor {
    fn problem(&self) -> Option<String> {
        if self.name.is_empty() || self.name.len() > 127 || RESERVED.contains(&self.name.as_str()) {
            return Some(format!("{:?} cannot be the name of a factor", self.name));
        }
        let problem = self.content_problem()?;
        Some(format!("factor {:?}: {problem}", self.name))
    }

    fn content_problem(&self) -> Option<String> {
        match self.features.as_slice() {
            [only] if !only.is_empty() => {}
            [first, second] if !first.is_empty() && !second.is_empty() && first != second => {}
            _ => return Some(format!("features must be one or two names, not {:?}", self.features)),
        }
        if self.cuts.len() != self.features.len() {
            return Some(format!(
                "{} features need as many lists of cuts, not {}",
                self.features.len(),
                self.cuts.len()
            ));
        }
        for cuts in &self.cuts {
            if let Some(cut) = cuts.iter().find(|c| !c.is_finite()) {
                return Some(format!("cuts must be finite, not {cut}"));
            }
            if let Some((before, after)) = cuts.iter().zip(cuts.iter().skip(1)).find(|(a, b)| a >= b) {
                return Some(format!("cuts must rise, but {after} follows {before}"));
            }
            if cuts.len() > MAX_CUTS {
                return Some(format!("a feature has at most {MAX_CUTS} cuts, not {}", cuts.len()));
            }
        }
        if !self.points.has_shape(&self.cuts) {
            return Some(
                "points must be one more than cuts, and of two features one row for each bin of the first".to_owned(),
            );
        }
        self.order_problem().or_else(|| self.shares_problem())
    }

    fn order_problem(&self) -> Option<String> {
        let Cells::Line(line) = &self.points else {
            let is_free = self.monotone == Monotone::Free;
            return (!is_free).then(|| "only a factor of one feature can be rising or falling".to_owned());
        };
        let wrong = line.iter().zip(line.iter().skip(1)).find(|(a, b)| !self.monotone.allows(a, b));
        wrong.map(|(before, after)| {
            let monotone = if self.monotone == Monotone::Rising { "rising" } else { "falling" };
            format!("points must be {monotone}, but {after} follows {before}")
        })
    }

    fn shares_problem(&self) -> Option<String> {
        if self.shares.as_ref().is_some_and(|s| !s.has_shape(&self.cuts)) {
            return Some("shares must be as many as points".to_owned());
        }
        let shares = self.shares.iter().flat_map(Cells::iter).chain(&self.undefined_share);
        if let Some(share) = shares.into_iter().find(|s| !(0.0..=1.0).contains(*s)) {
            return Some(format!("a share must be within 0 and 1, not {share}"));
        }
        let importance = self.importance.filter(|i| !(i.is_finite() && *i >= 0.0));
        importance.map(|i| format!("importance must not be negative, not {i}"))
    }
}

/// A named range of scores, up to the next band.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Band {
    /// Lowest score of the band.
    pub from: Points,
    /// Name: low, medium, high or severe.
    pub band: String,
}

/// Probability of being illicit at a score; linear between two knots.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Knot {
    /// The score, as points.
    pub score: Points,
    /// Probability, 0 to 1.
    pub probability: f64,
}

/// Points that a label on the wallet itself adds to 50, by severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelPoints {
    /// Points of [`Severity::Severe`].
    pub severe: Points,
    /// Points of [`Severity::High`].
    pub high: Points,
    /// Points of [`Severity::Medium`].
    pub medium: Points,
    /// Points of [`Severity::Low`].
    pub low: Points,
    /// Points of [`Severity::None`].
    pub none: Points,
}

impl Default for LabelPoints {
    /// Scores of 100, 95, 65, 40 and 10.
    fn default() -> Self {
        let [severe, high, medium, low, none] = [500, 450, 150, -100, -400].map(Points::from_tenths);
        Self { severe, high, medium, low, none }
    }
}

impl LabelPoints {
    const fn get(&self, severity: Severity) -> Points {
        match severity {
            Severity::Severe => self.severe,
            Severity::High => self.high,
            Severity::Medium => self.medium,
            Severity::Low => self.low,
            Severity::None => self.none,
        }
    }
}

/// Training of a scorecard: shown to users, not used for scoring.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Rows that it was fitted to.
    pub rows: u64,
    /// Illicit rows.
    pub illicit: u64,
    /// Folds of the cross-validation that the measures come from.
    pub folds: u32,
    /// Area under the receiver operating characteristic.
    pub auc: f64,
    /// Average precision.
    pub average_precision: f64,
    /// Mean logarithmic loss of the probabilities.
    pub log_loss: f64,
    /// Mean squared error of the probabilities (Brier 1950).
    pub brier: f64,
    /// Further notes, such as the seed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub notes: BTreeMap<String, String>,
}

/// Content of the document, before it is checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::risk) struct ScorecardDocument {
    pub format: u32,
    pub version: String,
    pub description: String,
    pub base: Points,
    pub bands: Vec<Band>,
    pub label_points: LabelPoints,
    pub calibration: Vec<Knot>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<Training>,
    pub factors: Vec<Factor>,
}

/// A valid scorecard: every row of features has a score.
#[derive(Debug, Clone, PartialEq)]
pub struct Scorecard {
    document: ScorecardDocument,
}

impl Scorecard {
    /// Reads a scorecard from its document.
    ///
    /// # Errors
    /// [`ScorecardError`] for anything that is not a scorecard.
    pub fn from_json(text: &str) -> Result<Self, ScorecardError> {
        /// The common part of all formats: other fields may differ.
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let read = serde_json::from_str::<ScorecardDocument>(text);
        let format = match &read {
            Ok(document) => document.format,
            Err(_) => serde_json::from_str::<Format>(text)?.format,
        };
        if format != FORMAT {
            return Err(ScorecardError::Format { found: format });
        }
        Self::checked(read?)
    }

    /// Checks that a version is a valid name.
    ///
    /// # Errors
    /// [`ScorecardError::Version`].
    pub fn check_version(version: &str) -> Result<(), ScorecardError> {
        let bytes = version.as_bytes();
        let is_name = bytes.iter().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'));
        if !is_name || !(1..=63).contains(&bytes.len()) {
            return Err(ScorecardError::Version { version: version.to_owned() });
        }
        Ok(())
    }

    /// Checks a document and makes a scorecard of it; `format` is set to the current one.
    ///
    /// # Errors
    /// [`ScorecardError`] for anything that is not a scorecard.
    pub(in crate::risk) fn checked(mut document: ScorecardDocument) -> Result<Self, ScorecardError> {
        document.format = FORMAT;
        Self::check_version(&document.version)?;
        match document.problem() {
            Some(problem) => Err(ScorecardError::Invalid { version: document.version, problem }),
            None => Ok(Self { document }),
        }
    }

    /// Returns the document, formatted for people. [`Scorecard::from_json`] reads the same
    /// scorecard from it.
    ///
    /// # Errors
    /// [`ScorecardError::Json`], which a valid scorecard does not cause.
    pub fn to_json(&self) -> Result<String, ScorecardError> {
        Ok(format_document(&serde_json::to_string(&self.document)?))
    }

    #[cfg(test)]
    pub(super) const fn document(&self) -> &ScorecardDocument {
        &self.document
    }

    /// Returns the version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.document.version
    }

    /// Returns the description.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.document.description
    }

    /// Returns the points that every score starts from.
    #[must_use]
    pub const fn base(&self) -> Points {
        self.document.base
    }

    /// Returns the factors, in the order in which they are shown.
    #[must_use]
    pub fn factors(&self) -> &[Factor] {
        &self.document.factors
    }

    /// Returns the bands, in rising order.
    #[must_use]
    pub fn bands(&self) -> &[Band] {
        &self.document.bands
    }

    /// Returns the knots of the line from scores to probabilities, in rising order.
    #[must_use]
    pub fn calibration(&self) -> &[Knot] {
        &self.document.calibration
    }

    /// Returns how it was trained, if that is known.
    #[must_use]
    pub const fn training(&self) -> Option<&Training> {
        self.document.training.as_ref()
    }

    /// Returns the points that a label on the wallet itself adds to 50.
    #[must_use]
    pub const fn label_points(&self, severity: Severity) -> Points {
        self.document.label_points.get(severity)
    }

    /// Returns the score of a wallet that is labelled itself.
    #[must_use]
    pub fn label_score(&self, severity: Severity) -> Score {
        Score::nearest(i32::from(Score::UNKNOWN.tenths()) + self.label_points(severity).tenths())
    }

    /// Returns the probability of being illicit at a score.
    #[must_use]
    pub fn probability(&self, score: Score) -> f64 {
        probability_at(self.calibration(), score)
    }

    /// Returns the name of the band that a score falls into.
    #[must_use]
    pub fn band(&self, score: Score) -> &str {
        let band = self.bands().iter().rev().find(|b| b.from <= score.points());
        band.map_or("", |b| b.band.as_str())
    }

    /// Returns the features that the factors read, each once, in the order of the factors.
    #[must_use]
    pub fn features(&self) -> Vec<&str> {
        let mut seen = BTreeSet::new();
        let read = self.factors().iter().flat_map(|f| &f.features).map(String::as_str);
        read.filter(|name| seen.insert(*name)).collect()
    }
}

/// Returns the probability at a score by linear interpolation, which needs only `+ - * /`.
pub(in crate::risk) fn probability_at(knots: &[Knot], score: Score) -> f64 {
    let at = score.points();
    let next = knots.partition_point(|k| k.score < at);
    match (next.checked_sub(1).and_then(|i| knots.get(i)), knots.get(next)) {
        (Some(before), Some(after)) if after.score > at => {
            let along = f64::from(at.tenths() - before.score.tenths());
            let width = f64::from(after.score.tenths() - before.score.tenths());
            before.probability + (after.probability - before.probability) * (along / width)
        }
        (_, Some(knot)) | (Some(knot), None) => knot.probability,
        (None, None) => 0.5,
    }
}

impl ScorecardDocument {
    fn problem(&self) -> Option<String> {
        let hundred = Score::MAX.points();
        if !(Points::default()..=hundred).contains(&self.base) {
            return Some(format!("base must be within 0 and 100, not {}", self.base));
        }
        for severity in Severity::ALL {
            let points = self.label_points.get(severity);
            if Score::from_tenths(i32::from(Score::UNKNOWN.tenths()) + points.tenths()).is_none() {
                let severity = severity.as_str();
                return Some(format!("label_points of {severity} must be within -50 and 50, not {points}"));
            }
        }
        self.bands_problem().or_else(|| self.calibration_problem()).or_else(|| self.factors_problem())
    }

    fn bands_problem(&self) -> Option<String> {
        let hundred = Score::MAX.points();
        if self.bands.first().is_none_or(|b| b.from != Points::default()) {
            return Some("the first band must start at 0".to_owned());
        }
        if let Some(band) = self.bands.iter().find(|b| b.from > hundred) {
            return Some(format!("band {:?} must start within 0 and 100, not at {}", band.band, band.from));
        }
        let rank = |band: &Band| BANDS.iter().position(|b| *b == band.band);
        if let Some(band) = self.bands.iter().find(|b| rank(b).is_none()) {
            return Some(format!("a band must be one of {}, not {:?}", BANDS.join(", "), band.band));
        }
        let mut pairs = self.bands.iter().zip(self.bands.iter().skip(1));
        let wrong = pairs.find(|(a, b)| a.from >= b.from || rank(a) >= rank(b));
        wrong.map(|(a, b)| {
            format!("bands must rise, but {:?} from {} follows {:?} from {}", b.band, b.from, a.band, a.from)
        })
    }

    fn calibration_problem(&self) -> Option<String> {
        let ends = (self.calibration.first().map(|k| k.score), self.calibration.last().map(|k| k.score));
        if ends != (Some(Points::default()), Some(Score::MAX.points())) || self.calibration.len() < 2 {
            return Some("calibration must lead from score 0 to score 100".to_owned());
        }
        if let Some(knot) = self.calibration.iter().find(|k| !(0.0..=1.0).contains(&k.probability)) {
            return Some(format!(
                "a probability must be within 0 and 1, not {} at score {}",
                knot.probability, knot.score
            ));
        }
        let mut pairs = self.calibration.iter().zip(self.calibration.iter().skip(1));
        let wrong = pairs.find(|(a, b)| a.score >= b.score || a.probability > b.probability);
        wrong.map(|(a, b)| {
            let (from, to) = (a.probability, b.probability);
            format!("calibration must rise, but {to} at score {} follows {from} at score {}", b.score, a.score)
        })
    }

    fn factors_problem(&self) -> Option<String> {
        if self.factors.len() > MAX_FACTORS {
            return Some(format!("a scorecard has at most {MAX_FACTORS} factors, not {}", self.factors.len()));
        }
        let mut names = BTreeSet::new();
        if let Some(twice) = self.factors.iter().find(|f| !names.insert(f.name.as_str())) {
            return Some(format!("two factors are called {:?}", twice.name));
        }
        self.factors.iter().find_map(Factor::problem)
    }
}
