//! What a report is made of: plain values, whatever they were read from.

use std::collections::BTreeMap;

use arx_core::risk::fit::{Measures, Move};
use arx_core::risk::scorecard::{Score, Scorecard};
use arx_core::risk::study::ModelReport;

/// Bars of a histogram of scores, each five points wide; a score of 100 is in the last.
pub(super) const BARS: usize = 20;

/// A report.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    /// When it was made, as shown.
    pub made: String,
    /// What it was made from, in words.
    pub source: String,
    /// The network.
    pub network: String,
    /// The model in use.
    pub active: Model,
    /// The model that may follow it.
    pub draft: Option<Model>,
    /// Wallets by their band now and their band with the draft.
    pub drift: Option<Vec<Move>>,
    /// What the labels say of wallets that are told as mistakes, by address.
    pub labels: BTreeMap<String, String>,
    /// What a reader should know before all else.
    pub notes: Vec<String>,
}

/// A model and how good it is.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    /// The scorecard.
    pub scorecard: Scorecard,
    /// Active, draft, or where it is from.
    pub state: String,
    /// When it was stored, as shown.
    pub stored: Option<String>,
    /// How good it is on labelled wallets.
    pub measured: Option<Measured>,
    /// Scores of every wallet with transactions, by the scorecard alone.
    pub histogram: Option<Histogram>,
}

/// Measures, and what they were taken on.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    /// The measures.
    pub report: ModelReport,
    /// The labelled wallets.
    pub sample: Sample,
    /// When, in words.
    pub when: String,
    /// A part of the wallets, measured apart.
    pub stratum: Option<(String, Measures)>,
}

/// Labelled wallets.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
pub(crate) struct Sample {
    /// How many were judged.
    pub wallets: u64,
    /// Illicit ones among them.
    pub illicit: u64,
    /// Labelled, but without a transaction.
    pub unknown: u64,
    /// Labelled as both, and left out.
    pub conflicting: u64,
    /// Folds they were dealt out to.
    pub folds: u32,
}

/// How many wallets score how much.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Histogram {
    /// Wallets by score.
    pub bars: [u64; BARS],
    /// Wallets by band, by the band's place in the scorecard.
    pub bands: Vec<u64>,
}

impl Histogram {
    /// Of the scores of a scorecard.
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

    /// All wallets.
    #[must_use]
    pub(crate) fn wallets(&self) -> u64 {
        self.bars.iter().sum()
    }
}

impl Report {
    /// The models, the one in use first, each with the class that its marks have.
    pub(crate) fn models(&self) -> impl Iterator<Item = (&'static str, &Model)> {
        std::iter::once(("one", &self.active)).chain(self.draft.as_ref().map(|draft| ("two", draft)))
    }

    /// Addresses that are told as mistakes.
    pub(super) fn mistaken(&self) -> impl Iterator<Item = &str> {
        let measured = self.models().filter_map(|(_, model)| model.measured.as_ref());
        measured.flat_map(|measured| &measured.report.mistakes).map(|mistake| mistake.address.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_score_is_in_one_bar_and_one_band() {
        let scorecard = arx_core::risk::compiled_in().unwrap();
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
