//! Samples for fitting scorecards: the features of labelled wallets, without leaks of their labels.
//!
//! A wallet's exposure depends on the labels of other wallets. Those that are judged in the same
//! fold must not be known there: for each fold, features are extracted again without the labels of
//! the wallets in it. No wallet's features depend on its own label. The histories of a sample are
//! taken as complete.

use std::collections::HashSet;

use thiserror::Error;

use super::features::{
    ContactCounts, ExtractContext, ExtractError, Extractor, FEATURES, FeatureRow, HistoryCoverage, LabelledWallets,
    NAMES, memory_needed,
};
use super::fit::{FitError, FitOptions, TrainingSample, assign_fold};
use crate::graph::{Damaged, Graph, Interrupt, MemoryBudget, WalletId};
use crate::label::LabelKind;

/// One case in this many is repeated as if no other wallet were labelled, so that a scorecard also
/// works where few labels are known.
const ONE_REPEATED_OF: u32 = 3;

/// Weight of a repeated case. With 0.2 the cases of 2017 lose 0.01 of average precision where
/// labels are known, and gain 0.1 where they are not.
const REPEATED_WEIGHT: f64 = 0.2;

/// Pairs of features in a scorecard. With more, out-of-fold measures hardly rise, and the scorecard
/// becomes too long to read.
const MAX_PAIRS: usize = 24;

/// A wallet whose class is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LabelledCase {
    /// The wallet.
    pub wallet: WalletId,
    /// Class of the wallet.
    pub illicit: bool,
    /// `true` when the features of other wallets treat it as a service.
    service: bool,
    /// Fold in which the wallet is judged.
    pub fold: u32,
    /// `true` when it is repeated as if no other wallet were labelled.
    repeated: bool,
}

/// Reason why a sample could not be made or fitted.
#[derive(Debug, Error)]
pub enum TrainingError {
    /// The features of a wallet could not be extracted.
    #[error(transparent)]
    Extract(#[from] ExtractError),
    /// The sample is invalid, or the fit failed.
    #[error(transparent)]
    Fit(#[from] FitError),
}

impl From<Damaged> for TrainingError {
    fn from(error: Damaged) -> Self {
        Self::Extract(error.into())
    }
}

/// Assignment of cases to folds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// Number of folds.
    pub folds: u32,
    /// Seed of the assignment, and of the fit.
    pub seed: u64,
}

/// Labelled cases, and the other labelled wallets.
#[derive(Debug)]
pub struct Cases {
    list: Vec<LabelledCase>,
    folds: Vec<u32>,
    /// Labelled wallets that are not cases.
    others: Vec<(WalletId, LabelKind)>,
    until: Option<i64>,
    split: Split,
}

impl Cases {
    /// Makes cases of wallets with their class, illicit or not. Cases are sorted by address;
    /// wallets without transfers are left out. Of the labels of cases in `others` only one is
    /// used: a case that is not illicit may be a service, which is known outside of its fold.
    ///
    /// # Errors
    /// [`ExtractError`].
    pub fn new(
        graph: &Graph<'_>,
        network: &str,
        wallets: &[(WalletId, bool)],
        others: &[(WalletId, LabelKind)],
        until: Option<i64>,
        split: Split,
        interrupt: &mut impl Interrupt,
    ) -> Result<Self, ExtractError> {
        let mut wallets = wallets.to_vec();
        wallets.sort_unstable_by_key(|(wallet, _)| graph.order(*wallet));
        let (mut extractor, no_labels) = (Extractor::default(), LabelledWallets::default());
        let histories = HistoryCoverage::complete();
        let context = ExtractContext::new(graph, until, &no_labels, &histories, interrupt)?;
        let is_service = |(wallet, kind): &(WalletId, LabelKind)| (*kind == LabelKind::Service).then_some(*wallet);
        let services: HashSet<WalletId> = others.iter().filter_map(is_service).collect();
        let mut list = Vec::new();
        for (wallet, illicit) in wallets {
            if extractor.extract(&context, wallet, &ContactCounts::OnDemand, interrupt)?.is_none() {
                continue;
            }
            let address = graph.address(wallet)?;
            let fold = assign_fold(address, network, split.folds, split.seed);
            let repeated = assign_fold(address, network, ONE_REPEATED_OF, split.seed ^ u64::MAX) == 0;
            let service = !illicit && services.contains(&wallet);
            list.push(LabelledCase { wallet, illicit, service, fold, repeated });
        }
        let cases: HashSet<WalletId> = list.iter().map(|case| case.wallet).collect();
        let others = others.iter().filter(|(wallet, _)| !cases.contains(wallet)).copied().collect();
        let repeated = list.iter().filter(|case| case.repeated);
        let folds = list.iter().chain(repeated).map(|case| case.fold).collect();
        Ok(Self { list, folds, others, until, split })
    }

    /// Returns the cases, in the order of the first rows of a sample.
    #[must_use]
    pub fn list(&self) -> &[LabelledCase] {
        &self.list
    }

    /// Returns the assignment to folds.
    #[must_use]
    pub const fn split(&self) -> Split {
        self.split
    }

    /// Returns the fold of each row of a sample: of the cases, then of the repeated ones.
    #[must_use]
    pub fn folds(&self) -> &[u32] {
        &self.folds
    }

    /// Makes the sample without the labels of the cases in a fold.
    ///
    /// # Errors
    /// [`TrainingError`].
    pub fn sample(
        &self,
        graph: &Graph<'_>,
        fold: Option<u32>,
        memory: MemoryBudget,
        interrupt: &mut impl Interrupt,
    ) -> Result<TrainingSample, TrainingError> {
        let rows = self.rows(graph, fold, memory, interrupt)?;
        let repeated = self.list.iter().zip(&rows).filter(|(case, _)| case.repeated);
        let repeated: Vec<FeatureRow> = repeated.map(|(_, row)| without_labels(row)).collect();
        let column = |index: usize| rows.iter().chain(&repeated).map(|row| row[index]).collect();
        let columns: Vec<Vec<f64>> = (0..NAMES.len()).map(column).collect();
        let cases = self.list.iter().chain(self.list.iter().filter(|case| case.repeated));
        let illicit: Vec<bool> = cases.map(|case| case.illicit).collect();
        let weight_of = |row: usize| if row < self.list.len() { 1.0 } else { REPEATED_WEIGHT };
        let weight = (0..illicit.len()).map(weight_of).collect();
        Ok(TrainingSample::new(NAMES.iter().map(|name| (*name).to_owned()).collect(), columns, illicit, weight)?)
    }

    /// Extracts the features of the cases without the labels of those in a fold.
    ///
    /// # Errors
    /// [`ExtractError`].
    pub fn rows(
        &self,
        graph: &Graph<'_>,
        fold: Option<u32>,
        mut memory: MemoryBudget,
        interrupt: &mut impl Interrupt,
    ) -> Result<Vec<FeatureRow>, ExtractError> {
        let out_of_memory = ExtractError::Memory { budget: memory.limit() };
        let mut labelled = LabelledWallets::new(graph.wallets(), &mut memory).ok_or(out_of_memory)?;
        for (wallet, kind) in &self.others {
            labelled.mark(*wallet, *kind);
        }
        for case in self.list.iter().filter(|case| Some(case.fold) != fold) {
            match case {
                LabelledCase { illicit: true, .. } => labelled.mark(case.wallet, LabelKind::Illicit),
                LabelledCase { service: true, .. } => labelled.mark(case.wallet, LabelKind::Service),
                _ => {}
            }
        }
        if !memory.take(self.list.len() * size_of::<FeatureRow>()) {
            return Err(out_of_memory);
        }
        let histories = HistoryCoverage::complete();
        let context = ExtractContext::new(graph, self.until, &labelled, &histories, interrupt)?;
        let contacts = ContactCounts::precompute(&context, &mut memory, interrupt)?;
        let mut extractor = Extractor::default();
        let mut rows = Vec::with_capacity(self.list.len());
        for case in &self.list {
            if memory.left() < memory_needed(graph, case.wallet) {
                return Err(out_of_memory);
            }
            let features = extractor.extract(&context, case.wallet, &contacts, interrupt)?;
            rows.push(features.map_or([f64::NAN; NAMES.len()], |(row, _)| row));
        }
        Ok(rows)
    }
}

/// Returns the options for scorecards over the catalogue of features: directions as expected,
/// described by formulas.
#[must_use]
pub fn fit_options(seed: u64, memory: MemoryBudget) -> FitOptions {
    let monotone = FEATURES.iter().map(|feature| (feature.name.to_owned(), feature.expected)).collect();
    let descriptions = FEATURES.iter().map(|feature| (feature.name.to_owned(), feature.formula.to_owned())).collect();
    FitOptions { monotone, descriptions, seed, memory, max_pairs: MAX_PAIRS, ..FitOptions::default() }
}

/// Returns the features of a wallet as if no other wallet were labelled.
fn without_labels(row: &FeatureRow) -> FeatureRow {
    let mut row = *row;
    for (value, feature) in row.iter_mut().zip(FEATURES) {
        if feature.uses_labels {
            *value = f64::NAN;
        }
    }
    row
}

#[cfg(test)]
mod tests {
    use super::super::features::Feature;
    use super::*;
    use crate::graph::Uninterrupted;
    use crate::graph::test_graph::{Sent, TestGraph};

    const SPLIT: Split = Split { folds: 4, seed: 7 };
    const MEMORY: MemoryBudget = MemoryBudget::new(1 << 24);

    /// Wallets 0 to 19 pay each other in a ring; the even ones are illicit.
    fn ring() -> (TestGraph, Vec<(WalletId, bool)>) {
        let rows: Vec<Sent> = (0..20)
            .map(|wallet| Sent { time: i64::from(wallet), ..Sent::coins(wallet, (wallet + 1) % 20, 5) })
            .collect();
        let graph = TestGraph::new(&rows, 4);
        let wallets = (0..20).map(|wallet| (graph.wallet(wallet), wallet % 2 == 0)).collect();
        (graph, wallets)
    }

    #[test]
    fn labels_of_a_fold_are_hidden_in_it() {
        let (graph, wallets) = ring();
        let cases = Cases::new(&graph.graph(), "testnet", &wallets, &[], None, SPLIT, &mut Uninterrupted).unwrap();
        assert_eq!(cases.list().len(), 20);
        let assign_fold = |wallet| cases.list().iter().find(|case| case.wallet == wallet).unwrap().fold;
        let mut hidden = 0;
        for fold in [None, Some(0), Some(1), Some(2), Some(3)] {
            let rows = cases.rows(&graph.graph(), fold, MEMORY, &mut Uninterrupted).unwrap();
            for (case, row) in cases.list().iter().zip(&rows) {
                let sender = graph.wallet((graph.number(case.wallet) + 19) % 20);
                let sender_is_illicit = !case.illicit;
                let known = sender_is_illicit && fold.is_none_or(|fold| assign_fold(sender) != fold);
                hidden += usize::from(sender_is_illicit && !known);
                let senders = row[Feature::IllicitSenders as usize];
                // With so few labels, zero exposure is undefined.
                assert!(if known { senders == 1.0 } else { senders.is_nan() }, "{senders} where known is {known}");
            }
        }
        assert_eq!(hidden, 10, "each illicit sender is hidden in one fold");
    }

    #[test]
    fn labels_of_cases_among_those_of_others_are_not_used() {
        let (graph, wallets) = ring();
        let others: Vec<(WalletId, LabelKind)> =
            wallets.iter().map(|(wallet, _)| (*wallet, LabelKind::Illicit)).collect();
        let view = graph.graph();
        let alone = Cases::new(&view, "testnet", &wallets, &[], None, SPLIT, &mut Uninterrupted).unwrap();
        let with_labels = Cases::new(&view, "testnet", &wallets, &others, None, SPLIT, &mut Uninterrupted).unwrap();
        let bits = |cases: &Cases| -> Vec<u64> {
            let rows = cases.rows(&view, Some(1), MEMORY, &mut Uninterrupted).unwrap();
            rows.iter().flatten().map(|value| value.to_bits()).collect()
        };
        assert_eq!(bits(&alone), bits(&with_labels));
    }

    #[test]
    fn a_case_that_is_a_service_is_known_outside_of_its_fold() {
        let (graph, wallets) = ring();
        let services: Vec<(WalletId, LabelKind)> =
            wallets.iter().map(|(wallet, _)| (*wallet, LabelKind::Service)).collect();
        let view = graph.graph();
        let alone = Cases::new(&view, "testnet", &wallets, &[], None, SPLIT, &mut Uninterrupted).unwrap();
        let with_labels = Cases::new(&view, "testnet", &wallets, &services, None, SPLIT, &mut Uninterrupted).unwrap();
        let column = NAMES.iter().position(|name| *name == "service_received_share").unwrap();
        let count = |cases: &Cases, fold| -> usize {
            let rows = cases.rows(&view, fold, MEMORY, &mut Uninterrupted).unwrap();
            rows.iter().filter(|row| row[column] > 0.0).count()
        };
        assert_eq!(count(&alone, None), 0);
        let all = count(&with_labels, None);
        assert!(all > 0);
        assert!((0..SPLIT.folds).any(|fold| count(&with_labels, Some(fold)) < all));
    }

    #[test]
    fn some_cases_are_repeated_without_labels() {
        let (graph, wallets) = ring();
        let cases = Cases::new(&graph.graph(), "testnet", &wallets, &[], None, SPLIT, &mut Uninterrupted).unwrap();
        let sample = cases.sample(&graph.graph(), None, MEMORY, &mut Uninterrupted).unwrap();
        assert!(sample.rows() > 20 && sample.rows() < 40);
        assert_eq!(sample.rows(), cases.folds().len());
        let column = NAMES.iter().position(|name| *name == "illicit_senders").unwrap();
        let column = &sample.columns()[column];
        assert!(column[20..].iter().all(|value| value.is_nan()) && column[..20].contains(&1.0));
    }
}
