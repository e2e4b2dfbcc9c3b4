//! Samples to fit scorecards on: the features of labelled wallets, where what is known of others never tells what is asked.
//!
//! A wallet's exposure is to labels of others. If those others are judged in the same fold, their labels are not known there: for each
//! fold the features are made anew, without the labels of the wallets in it. No wallet's features know its own label.

use std::collections::HashSet;

use thiserror::Error;

use super::features::{ExtractError, Extractor, FEATURES, Labelled, NAMES, Row, Scene, Surroundings, bytes_of};
use super::fit::{FitError, FitOptions, Sample, fold_of};
use crate::graph::{Damaged, Graph, Interrupt, MemoryBudget, WalletId};
use crate::label::LabelKind;

/// Of so many cases one is shown a second time with nobody else labelled, so that a scorecard holds where few labels are known.
const ONE_UNLABELLED_OF: u32 = 3;

/// How much the second showing counts. With 0.2 the cases of 2017 lose 0.01 of average precision where labels are known, and gain 0.1
/// where they are not.
const WEIGHT_UNLABELLED: f64 = 0.2;

/// Pairs of features in a scorecard at most: with more, out-of-fold measures hardly rise, and nobody reads them.
const MOST_PAIRS: usize = 24;

/// A wallet of which is known what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// The wallet.
    pub wallet: WalletId,
    /// Whether it is illicit.
    pub illicit: bool,
    /// Whether others are told that it is a service.
    service: bool,
    /// The fold in which it is judged.
    pub fold: u32,
    /// Whether it is shown a second time with nobody else labelled.
    unlabelled: bool,
}

/// What stopped the making of a sample.
#[derive(Debug, Error)]
pub enum TrainingError {
    /// The features of a wallet.
    #[error(transparent)]
    Extract(#[from] ExtractError),
    /// The sample.
    #[error(transparent)]
    Fit(#[from] FitError),
}

impl From<Damaged> for TrainingError {
    fn from(error: Damaged) -> Self {
        Self::Extract(error.into())
    }
}

/// How cases are dealt out to folds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// How many there are.
    pub folds: u32,
    /// What chance there is comes from this.
    pub seed: u64,
}

/// Cases, and who else is labelled.
#[derive(Debug)]
pub struct Cases {
    list: Vec<Case>,
    folds: Vec<u32>,
    /// Other labelled wallets.
    others: Vec<(WalletId, LabelKind)>,
    until: Option<i64>,
    split: Split,
}

impl Cases {
    /// From wallets and whether they are illicit, with the labels of others. Cases are put in the order of their addresses; wallets that
    /// dealt with nobody are left out. Among the labels of others those of cases are not used, but that one that is not illicit is a
    /// service: that is told outside of its fold, as the illicit are.
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
        let (mut extractor, nobody) = (Extractor::default(), Labelled::default());
        let scene = Scene::new(graph, until, &nobody, interrupt)?;
        let is_service = |(wallet, kind): &(WalletId, LabelKind)| (*kind == LabelKind::Service).then_some(*wallet);
        let services: HashSet<WalletId> = others.iter().filter_map(is_service).collect();
        let mut list = Vec::new();
        for (wallet, illicit) in wallets {
            if extractor.look(&scene, wallet, &Surroundings::Asked, interrupt)?.is_none() {
                continue;
            }
            let address = graph.address(wallet)?;
            let fold = fold_of(address, network, split.folds, split.seed);
            let unlabelled = fold_of(address, network, ONE_UNLABELLED_OF, split.seed ^ u64::MAX) == 0;
            let service = !illicit && services.contains(&wallet);
            list.push(Case { wallet, illicit, service, fold, unlabelled });
        }
        let of_cases: HashSet<WalletId> = list.iter().map(|case| case.wallet).collect();
        let others = others.iter().filter(|(wallet, _)| !of_cases.contains(wallet)).copied().collect();
        let again = list.iter().filter(|case| case.unlabelled);
        let folds = list.iter().chain(again).map(|case| case.fold).collect();
        Ok(Self { list, folds, others, until, split })
    }

    /// The cases, in the order of a sample's first rows.
    #[must_use]
    pub fn list(&self) -> &[Case] {
        &self.list
    }

    /// Returns how the cases are assigned to folds.
    #[must_use]
    pub const fn split(&self) -> Split {
        self.split
    }

    /// The fold of each row of a sample: the cases, and those that are shown again.
    #[must_use]
    pub fn folds(&self) -> &[u32] {
        &self.folds
    }

    /// The sample in which the labels of the cases of a fold are not known.
    ///
    /// # Errors
    /// [`TrainingError`].
    pub fn sample(
        &self,
        graph: &Graph<'_>,
        fold: Option<u32>,
        memory: MemoryBudget,
        interrupt: &mut impl Interrupt,
    ) -> Result<Sample, TrainingError> {
        let rows = self.rows(graph, fold, memory, interrupt)?;
        let again = self.list.iter().zip(&rows).filter(|(case, _)| case.unlabelled);
        let again: Vec<Row> = again.map(|(_, row)| unlabelled(row)).collect();
        let column = |place: usize| rows.iter().chain(&again).map(|row| row[place]).collect();
        let columns: Vec<Vec<f64>> = (0..NAMES.len()).map(column).collect();
        let cases = self.list.iter().chain(self.list.iter().filter(|case| case.unlabelled));
        let illicit: Vec<bool> = cases.map(|case| case.illicit).collect();
        let again = |row: usize| if row < self.list.len() { 1.0 } else { WEIGHT_UNLABELLED };
        let weight = (0..illicit.len()).map(again).collect();
        Ok(Sample::new(NAMES.iter().map(|name| (*name).to_owned()).collect(), columns, illicit, weight)?)
    }

    /// The features of the cases, where the labels of those of a fold are not known.
    ///
    /// # Errors
    /// [`ExtractError`].
    pub fn rows(
        &self,
        graph: &Graph<'_>,
        fold: Option<u32>,
        mut memory: MemoryBudget,
        interrupt: &mut impl Interrupt,
    ) -> Result<Vec<Row>, ExtractError> {
        let out_of_memory = ExtractError::Memory { budget: memory.limit() };
        let mut labelled = Labelled::new(graph.wallets(), &mut memory).ok_or(out_of_memory)?;
        for (wallet, kind) in &self.others {
            labelled.mark(*wallet, *kind);
        }
        for case in self.list.iter().filter(|case| Some(case.fold) != fold) {
            match case {
                Case { illicit: true, .. } => labelled.mark(case.wallet, LabelKind::Illicit),
                Case { service: true, .. } => labelled.mark(case.wallet, LabelKind::Service),
                _ => {}
            }
        }
        if !memory.take(self.list.len() * size_of::<Row>()) {
            return Err(out_of_memory);
        }
        let scene = Scene::new(graph, self.until, &labelled, interrupt)?;
        let surroundings = Surroundings::of_all(&scene, &mut memory, interrupt)?;
        let mut extractor = Extractor::default();
        let mut rows = Vec::with_capacity(self.list.len());
        for case in &self.list {
            if memory.left() < bytes_of(graph, case.wallet) {
                return Err(out_of_memory);
            }
            let seen = extractor.look(&scene, case.wallet, &surroundings, interrupt)?;
            rows.push(seen.map_or([f64::NAN; NAMES.len()], |(row, _)| row));
        }
        Ok(rows)
    }
}

/// How scorecards over our features are fitted: each feature as it is expected to go, and described by its formula.
#[must_use]
pub fn fit_options(seed: u64, memory: MemoryBudget) -> FitOptions {
    let monotone = FEATURES.iter().map(|feature| (feature.name.to_owned(), feature.expected)).collect();
    let descriptions = FEATURES.iter().map(|feature| (feature.name.to_owned(), feature.formula.to_owned())).collect();
    FitOptions { monotone, descriptions, seed, memory, max_pairs: MOST_PAIRS, ..FitOptions::default() }
}

/// The same wallet where nobody else is labelled.
fn unlabelled(row: &Row) -> Row {
    let mut row = *row;
    for (value, feature) in row.iter_mut().zip(FEATURES) {
        if feature.by_labels {
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

    /// Wallets 0 to 19 pay each other round; the even ones are illicit.
    fn round() -> (TestGraph, Vec<(WalletId, bool)>) {
        let rows: Vec<Sent> = (0..20)
            .map(|wallet| Sent { time: i64::from(wallet), ..Sent::coins(wallet, (wallet + 1) % 20, 5) })
            .collect();
        let graph = TestGraph::new(&rows, 4);
        let wallets = (0..20).map(|wallet| (graph.wallet(wallet), wallet % 2 == 0)).collect();
        (graph, wallets)
    }

    #[test]
    fn what_is_asked_in_a_fold_is_not_known_in_it() {
        let (graph, wallets) = round();
        let cases = Cases::new(&graph.graph(), "testnet", &wallets, &[], None, SPLIT, &mut Uninterrupted).unwrap();
        assert_eq!(cases.list().len(), 20);
        let fold_of = |wallet| cases.list().iter().find(|case| case.wallet == wallet).unwrap().fold;
        let mut hidden = 0;
        for fold in [None, Some(0), Some(1), Some(2), Some(3)] {
            let rows = cases.rows(&graph.graph(), fold, MEMORY, &mut Uninterrupted).unwrap();
            for (case, row) in cases.list().iter().zip(&rows) {
                let sender = graph.wallet((graph.number(case.wallet) + 19) % 20);
                let sender_is_illicit = !case.illicit;
                let known = sender_is_illicit && fold.is_none_or(|fold| fold_of(sender) != fold);
                hidden += usize::from(sender_is_illicit && !known);
                let found = row[Feature::IllicitSenders as usize];
                // so few are labelled that none met is undefined
                assert!(if known { found == 1.0 } else { found.is_nan() }, "{found} where known is {known}");
            }
        }
        assert_eq!(hidden, 10, "each illicit sender is hidden in one fold");
    }

    #[test]
    fn labels_of_cases_among_those_of_others_are_not_used() {
        let (graph, wallets) = round();
        let others: Vec<(WalletId, LabelKind)> =
            wallets.iter().map(|(wallet, _)| (*wallet, LabelKind::Illicit)).collect();
        let of = graph.graph();
        let alone = Cases::new(&of, "testnet", &wallets, &[], None, SPLIT, &mut Uninterrupted).unwrap();
        let told = Cases::new(&of, "testnet", &wallets, &others, None, SPLIT, &mut Uninterrupted).unwrap();
        let bits = |cases: &Cases| -> Vec<u64> {
            let rows = cases.rows(&of, Some(1), MEMORY, &mut Uninterrupted).unwrap();
            rows.iter().flatten().map(|value| value.to_bits()).collect()
        };
        assert_eq!(bits(&alone), bits(&told));
    }

    #[test]
    fn a_case_that_is_a_service_is_told_outside_of_its_fold() {
        let (graph, wallets) = round();
        let services: Vec<(WalletId, LabelKind)> =
            wallets.iter().map(|(wallet, _)| (*wallet, LabelKind::Service)).collect();
        let of = graph.graph();
        let alone = Cases::new(&of, "testnet", &wallets, &[], None, SPLIT, &mut Uninterrupted).unwrap();
        let told = Cases::new(&of, "testnet", &wallets, &services, None, SPLIT, &mut Uninterrupted).unwrap();
        let place = NAMES.iter().position(|name| *name == "service_received_share").unwrap();
        let met = |cases: &Cases, fold| -> usize {
            let rows = cases.rows(&of, fold, MEMORY, &mut Uninterrupted).unwrap();
            rows.iter().filter(|row| row[place] > 0.0).count()
        };
        assert_eq!(met(&alone, None), 0);
        let everybody = met(&told, None);
        assert!(everybody > 0);
        assert!((0..SPLIT.folds).any(|fold| met(&told, Some(fold)) < everybody));
    }

    #[test]
    fn some_cases_are_shown_again_without_any_label() {
        let (graph, wallets) = round();
        let cases = Cases::new(&graph.graph(), "testnet", &wallets, &[], None, SPLIT, &mut Uninterrupted).unwrap();
        let sample = cases.sample(&graph.graph(), None, MEMORY, &mut Uninterrupted).unwrap();
        assert!(sample.rows() > 20 && sample.rows() < 40);
        assert_eq!(sample.rows(), cases.folds().len());
        let place = NAMES.iter().position(|name| *name == "illicit_senders").unwrap();
        let column = &sample.columns()[place];
        assert!(column[20..].iter().all(|value| value.is_nan()) && column[..20].contains(&1.0));
    }
}
