//! Content of a report as plain values, independent of its source.

use std::collections::BTreeMap;

use arx_core::risk::fit::{BandChange, Measures};
use arx_core::risk::scorecard::{Score, Scorecard};
use arx_core::risk::study::ModelReport;

/// Bars in a histogram of scores, each five points wide. A score of 100 belongs to the last.
pub(super) const BARS: usize = 20;

#[derive(Debug, Clone)]
pub(crate) struct Report {
    /// Formatted time of creation.
    pub created_at: String,
    /// Description of the source of the data.
    pub source: String,
    pub network: String,
    pub active: Model,
    /// The candidate that may replace it.
    pub draft: Option<Model>,
    /// Counts of wallets by their band with the active model and with the draft.
    pub drift: Option<Vec<BandChange>>,
    /// Label text of the misclassified wallets, by address.
    pub labels: BTreeMap<String, String>,
    /// Remarks for the top of the page.
    pub notes: Vec<String>,
}

/// A scorecard with its origin and its measures.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub scorecard: Scorecard,
    /// State of the model: active, draft, or the file that it comes from.
    pub state: String,
    pub stored: Option<String>,
    /// Measures on labelled wallets.
    pub measured: Option<Measured>,
    /// Distribution of the scores of all wallets with transactions, without labels and decisions.
    pub histogram: Option<Histogram>,
}

/// Measures, and the sample that they were taken on.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    pub report: ModelReport,
    pub sample: Sample,
    /// Description of the time of measurement.
    pub when: String,
    /// Name and measures of a part of the wallets.
    pub stratum: Option<(String, Measures)>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
pub(crate) struct Sample {
    /// Wallets that were judged.
    pub wallets: u64,
    pub illicit: u64,
    /// Labelled wallets without a transaction.
    pub unknown: u64,
    /// Wallets labelled both illicit and licit, which are left out.
    pub conflicting: u64,
    pub folds: u32,
}

/// Counts of wallets by score and by band.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Histogram {
    /// Wallets by score.
    pub bars: [u64; BARS],
    /// Wallets by band, in the order of the scorecard's bands.
    pub bands: Vec<u64>,
}

impl Histogram {
    #[must_use]
    pub(crate) fn new(scorecard: &Scorecard, scores: &[Score]) -> Self {
        let mut histogram = Self { bars: [0; BARS], bands: vec![0; scorecard.bands().len()] };
        for score in scores {
            let bar = usize::from(score.tenths()) * BARS / (usize::from(Score::MAX.tenths()));
            if let Some(bar) = histogram.bars.get_mut(bar.min(BARS - 1)) {
                *bar += 1;
            }
            let band = scorecard.bands().partition_point(|band| band.from <= score.points()).saturating_sub(1);
            if let Some(band) = histogram.bands.get_mut(band) {
                *band += 1;
            }
        }
        histogram
    }

    #[must_use]
    pub(crate) fn wallets(&self) -> u64 {
        self.bars.iter().sum()
    }
}

impl Report {
    /// Iterates over the models, the active one first, each with its CSS class.
    pub(crate) fn models(&self) -> impl Iterator<Item = (&'static str, &Model)> {
        std::iter::once(("one", &self.active)).chain(self.draft.as_ref().map(|draft| ("two", draft)))
    }

    /// Iterates over the addresses of the misclassified wallets.
    pub(super) fn misclassified(&self) -> impl Iterator<Item = &str> {
        let measured = self.models().filter_map(|(_, model)| model.measured.as_ref());
        measured.flat_map(|measured| &measured.report.mistakes).map(|mistake| mistake.address.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_score_counts_in_one_bar_and_one_band() {
        let scorecard = arx_core::risk::default_scorecard().unwrap();
        let scores: Vec<Score> = [0, 49, 50, 399, 400, 600, 749, 750, 999, 1000]
            .into_iter()
            .map(|tenths| Score::from_tenths(tenths).unwrap())
            .collect();
        let histogram = Histogram::new(&scorecard, &scores);
        assert_eq!(histogram.wallets(), 10);
        assert_eq!((histogram.bars[0], histogram.bars[1], histogram.bars[19]), (2, 1, 2));
        assert_eq!(histogram.bands, [4, 1, 2, 3]);
    }
}
