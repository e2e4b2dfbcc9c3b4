//! Options of a fit.

use super::error::FitError;
use crate::graph::MemoryBudget;
use crate::risk::monotone::Monotone;

/// Pairs of features that may become a factor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PairCandidates {
    /// Any two features.
    All,
    /// Pairs by name.
    Listed(Vec<(String, String)>),
}

/// Options of a fit. The defaults were chosen by cross-validation on some 9,000 labelled wallets of
/// Ethereum.
#[derive(Debug, Clone)]
pub struct FitOptions {
    /// Bins of a feature during the fit, 2 to 200.
    pub bins: usize,
    /// Share of a Newton step that is taken, above 0 to 1.
    pub learning_rate: f64,
    /// Maximum number of rounds over all features, 1 to 100,000.
    pub rounds: usize,
    /// Rounds without improvement on the held-out part after which a bag ends, from 1.
    pub patience: usize,
    /// Models that are averaged, 1 to 64; each holds out another part of the rows.
    pub bags: usize,
    /// Leaves of one step of a feature, 2 to 16.
    pub leaves: usize,
    /// Minimum weight of the rows of a leaf, from 0.
    pub min_leaf: f64,
    /// Added to the second derivative of a leaf, which dampens leaves of few rows; above 0.
    pub regularization: f64,
    /// Maximum number of features that become a factor, from 1.
    pub max_features: usize,
    /// Maximum number of pairs that become a factor.
    pub max_pairs: usize,
    /// Bins of each feature of a pair, 2 to 15.
    pub pair_bins: usize,
    /// Pairs that may become a factor.
    pub pairs: PairCandidates,
    /// Maximum number of steps of a factor of one feature, 2 to 200.
    pub steps: usize,
    /// Mean of absolute points below which a factor is dropped, from 0.
    pub min_importance: f64,
    /// Points per unit of log odds. With `None`, 98 % of the rows score within 2 and 98.
    pub points_per_logit: Option<f64>,
    /// Features whose points have a direction, also in pairs; others are free.
    pub monotone: Vec<(String, Monotone)>,
    /// Descriptions of features.
    pub descriptions: Vec<(String, String)>,
    /// Seed of the choice of held-out rows.
    pub seed: u64,
    /// Memory that the fit may take.
    pub memory: MemoryBudget,
}

impl Default for FitOptions {
    fn default() -> Self {
        Self {
            bins: 128,
            learning_rate: 0.1,
            rounds: 1000,
            patience: 40,
            bags: 8,
            leaves: 2,
            min_leaf: 5.0,
            regularization: 3.0,
            max_features: usize::MAX,
            max_pairs: 16,
            pair_bins: 8,
            pairs: PairCandidates::All,
            steps: 16,
            min_importance: 0.2,
            points_per_logit: None,
            monotone: Vec::new(),
            descriptions: Vec::new(),
            seed: 0,
            memory: MemoryBudget::new(1 << 30),
        }
    }
}

impl FitOptions {
    /// Checks that every number is in range.
    pub(super) fn check(&self) -> Result<(), FitError> {
        fn within(name: &'static str, range: &'static str, value: f64, is_valid: bool) -> Result<(), FitError> {
            if is_valid { Ok(()) } else { Err(FitError::Option { name, range, value }) }
        }
        #[expect(clippy::cast_precision_loss, reason = "shown to people")]
        let count = |n: usize| n as f64;
        within("bins", "2 to 200", count(self.bins), (2..=200).contains(&self.bins))?;
        let rate = self.learning_rate;
        within("learning_rate", "above 0 up to 1", rate, rate > 0.0 && rate <= 1.0)?;
        within("rounds", "1 to 100000", count(self.rounds), (1..=100_000).contains(&self.rounds))?;
        within("patience", "at least 1", count(self.patience), self.patience > 0)?;
        within("bags", "1 to 64", count(self.bags), (1..=64).contains(&self.bags))?;
        within("leaves", "2 to 16", count(self.leaves), (2..=16).contains(&self.leaves))?;
        within("min_leaf", "a number from 0", self.min_leaf, self.min_leaf >= 0.0 && self.min_leaf.is_finite())?;
        let regularization = self.regularization;
        let is_valid = regularization > 0.0 && regularization.is_finite();
        within("regularization", "a number above 0", regularization, is_valid)?;
        within("max_features", "at least 1", count(self.max_features), self.max_features > 0)?;
        within("max_pairs", "0 to 500", count(self.max_pairs), self.max_pairs <= 500)?;
        within("pair_bins", "2 to 15", count(self.pair_bins), (2..=15).contains(&self.pair_bins))?;
        within("steps", "2 to 200", count(self.steps), (2..=200).contains(&self.steps))?;
        let least = self.min_importance;
        within("min_importance", "a number from 0", least, least >= 0.0 && least.is_finite())?;
        match self.points_per_logit {
            Some(points) => within("points_per_logit", "above 0 up to 100", points, points > 0.0 && points <= 100.0),
            None => Ok(()),
        }
    }
}
