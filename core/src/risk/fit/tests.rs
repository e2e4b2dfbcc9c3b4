use proptest::prelude::*;

use super::binning::between;
use super::boost::{BoostRows, Term, boost};
use super::merge::merge_bins;
use super::pace::RowPace;
use super::step::{LeafRule, LossSums, TermShape, best_step};
use super::*;
use crate::graph::{Interrupt, MemoryBudget, Uninterrupted};
use crate::risk::monotone::Monotone;
use crate::risk::scorecard::{Cells, Points, Score, Scorecard};

/// A linear congruential generator.
struct RandomNumbers(u64);

impl RandomNumbers {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from(u32::try_from(self.0 >> 32).unwrap()) / f64::from(u32::MAX)
    }
}

/// Rows whose class depends on a curve of the first feature, on the second and third together, on
/// whether the fourth is undefined, and not on the fifth.
fn sample(rows: usize, seed: u64) -> TrainingSample {
    sample_with_logits(rows, seed).0
}

/// The same sample with the log odds that the classes were drawn by.
fn sample_with_logits(rows: usize, seed: u64) -> (TrainingSample, Vec<f64>) {
    let mut chance = RandomNumbers(seed);
    let mut columns = vec![Vec::new(); 5];
    let (mut illicit, mut logits) = (Vec::new(), Vec::new());
    for _ in 0..rows {
        let [a, b, c, d, e] = [0; 5].map(|_| chance.next());
        let undefined = d < 0.3;
        let logit = 6.0 * (a - 0.5).abs() * 2.0 - 4.0
            + if (b > 0.5) == (c > 0.4) { 2.0 } else { -2.0 }
            + if undefined { 1.5 } else { 0.0 };
        logits.push(logit);
        illicit.push(chance.next() < 1.0 / (1.0 + (-logit).exp()));
        let values = [a, b * 100.0, c, if undefined { f64::NAN } else { d }, e];
        columns.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
    }
    let names = ["curve", "first", "second", "gaps", "noise"].map(str::to_owned).to_vec();
    (TrainingSample::new(names, columns, illicit, vec![1.0; rows]).unwrap(), logits)
}

fn only(sample: &TrainingSample, keep: impl Fn(usize) -> bool) -> TrainingSample {
    sample.only(keep, &mut RowPace::new(&mut Uninterrupted)).unwrap()
}

fn quick() -> FitOptions {
    FitOptions { bags: 3, bins: 24, max_pairs: 2, learning_rate: 0.3, patience: 8, ..FitOptions::default() }
}

fn published(fitted: &FittedModel) -> Scorecard {
    fitted.scorecard(&Publication::default()).unwrap()
}

fn scores(scorecard: &Scorecard, sample: &TrainingSample) -> Vec<Score> {
    let names: Vec<&str> = sample.names().iter().map(String::as_str).collect();
    let bound = scorecard.bind(&names).unwrap();
    let mut row = Vec::new();
    (0..sample.rows())
        .map(|at| {
            sample.read_row(at, &mut row);
            bound.score(&row).score
        })
        .collect()
}

fn auc_of(scorecard: &Scorecard, sample: &TrainingSample) -> f64 {
    let scores: Vec<f64> = scores(scorecard, sample).iter().map(|s| s.as_f64()).collect();
    measure(&scores, &vec![0.5; scores.len()], sample.illicit(), sample.weight()).unwrap().auc
}

#[test]
fn a_fit_finds_curves_pairs_and_gaps_but_no_noise() {
    let fitted = fit(&sample(3000, 1), &quick(), &mut Uninterrupted).unwrap();
    let names: Vec<&str> = fitted.factors().iter().map(|f| f.name.as_str()).collect();
    assert!(names[..2].contains(&"first & second") && names[..2].contains(&"curve"), "{names:?}");
    let importance =
        |name: &str| fitted.factors().iter().find(|f| f.name == name).map_or(0.0, |f| f.importance.unwrap());
    assert!(importance("noise") < importance("gaps") / 2.0);
    let gaps = fitted.factors().iter().find(|f| f.name == "gaps").unwrap();
    assert!(gaps.points.iter().all(|points| *points < gaps.undefined), "{gaps:?}");
    assert!((gaps.undefined_share.unwrap() - 0.3).abs() < 0.03);
    let (others, logits) = sample_with_logits(3000, 2);
    let auc = auc_of(&published(&fitted), &others);
    let best = measure(&logits, &vec![0.5; 3000], others.illicit(), others.weight()).unwrap().auc;
    assert!(auc > best - 0.03, "{auc} of {best}");
}

#[test]
fn the_most_important_features_are_kept() {
    let sample = sample(2_000, 3);
    let all = fit(&sample, &quick(), &mut Uninterrupted).unwrap();
    let kept = fit(&sample, &FitOptions { max_features: 2, ..quick() }, &mut Uninterrupted).unwrap();
    let singles = |fitted: &FittedModel| -> Vec<String> {
        let factors = fitted.factors().iter().filter(|factor| factor.features.len() == 1);
        factors.flat_map(|factor| factor.features.clone()).collect()
    };
    assert!(singles(&all).len() > 2 && singles(&kept).len() <= 2);
    let read =
        |fitted: &FittedModel| fitted.factors().iter().flat_map(|factor| factor.features.clone()).collect::<Vec<_>>();
    let few: std::collections::BTreeSet<String> = read(&kept).into_iter().collect();
    assert!(few.len() <= 2, "pairs consist of kept features: {few:?}");
    assert_eq!(all, fit(&sample, &FitOptions { max_features: 99, ..quick() }, &mut Uninterrupted).unwrap());
}

#[test]
fn a_factor_is_a_readable_table() {
    let fitted = fit(&sample(3000, 1), &quick(), &mut Uninterrupted).unwrap();
    for factor in fitted.factors() {
        assert!(factor.cuts.iter().all(|cuts| cuts.len() < 16));
        let Cells::Line(points) = &factor.points else { continue };
        assert!(points.windows(2).all(|pair| pair[0] != pair[1]), "{factor:?}");
        assert!(factor.cuts[0].iter().all(|cut| format!("{cut}").len() <= 7), "{factor:?}");
        let shares: f64 = factor.shares.iter().flat_map(Cells::iter).sum::<f64>() + factor.undefined_share.unwrap();
        assert!((shares - 1.0).abs() < 0.02, "{factor:?}");
    }
}

#[test]
fn a_fit_is_the_same_every_time() {
    let text = || published(&fit(&sample(800, 3), &quick(), &mut Uninterrupted).unwrap()).to_json().unwrap();
    assert_eq!(text(), text());
}

#[test]
fn a_score_of_fifty_has_the_odds_of_the_whole_sample() {
    let sample = sample(3000, 4);
    let scores = scores(&published(&fit(&sample, &quick(), &mut Uninterrupted).unwrap()), &sample);
    let near = scores.iter().zip(sample.illicit()).filter(|(s, _)| (450..550).contains(&s.tenths()));
    let (rows, illicit) =
        near.fold((0.0, 0.0), |sum, (_, illicit)| (sum.0 + 1.0, sum.1 + f64::from(u8::from(*illicit))));
    let all = sample.illicit().iter().filter(|i| **i).count() as f64 / 3000.0;
    assert!(rows > 100.0 && (illicit / rows - all).abs() < 0.1, "{rows} {illicit} {all}");
    let beyond = scores.iter().filter(|s| !(20..=980).contains(&s.tenths())).count();
    assert!(beyond < 120, "{beyond}");
}

#[test]
fn a_row_of_weight_two_is_two_rows() {
    let once = sample(600, 5);
    let twice = |row: usize| row.is_multiple_of(3);
    let weight = (0..600).map(|row| if twice(row) { 2.0 } else { 1.0 }).collect();
    let weighted =
        TrainingSample::new(once.names().to_vec(), once.columns().to_vec(), once.illicit().to_vec(), weight).unwrap();
    fn again<T: Copy>(values: &[T], twice: impl Fn(usize) -> bool) -> Vec<T> {
        let copies = values.iter().enumerate().filter(|(row, _)| twice(*row)).map(|(_, value)| *value);
        values.iter().copied().chain(copies).collect()
    }
    let columns = once.columns().iter().map(|c| again(c, twice)).collect();
    let repeated =
        TrainingSample::new(once.names().to_vec(), columns, again(once.illicit(), twice), vec![1.0; 800]).unwrap();
    let [weighted, repeated] =
        [weighted, repeated].map(|sample| published(&fit(&sample, &quick(), &mut Uninterrupted).unwrap()));
    let apart = scores(&weighted, &once)
        .iter()
        .zip(scores(&repeated, &once))
        .map(|(a, b)| a.tenths().abs_diff(b.tenths()))
        .max();
    // Sums are rounded in another order.
    assert!(apart.unwrap() <= 2, "{apart:?}");
}

#[test]
fn points_follow_the_requested_direction() {
    let mut options = quick();
    options.monotone = vec![("curve".to_owned(), Monotone::Rising), ("first".to_owned(), Monotone::Falling)];
    options.max_pairs = 3;
    let fitted = fit(&sample(1500, 6), &options, &mut Uninterrupted).unwrap();
    let curve = fitted.factors().iter().find(|f| f.name == "curve").unwrap();
    assert_eq!(curve.monotone, Monotone::Rising);
    let Cells::Line(points) = &curve.points else { panic!("{curve:?}") };
    assert!(points.is_sorted() && points.len() > 1);
    for factor in fitted.factors() {
        let Cells::Table(table) = &factor.points else { continue };
        for (at, feature) in factor.features.iter().enumerate() {
            let Some((_, monotone)) = options.monotone.iter().find(|(name, _)| name == feature) else { continue };
            for (row, line) in table.iter().enumerate() {
                for (column, here) in line.iter().enumerate() {
                    let next =
                        if at == 0 { table.get(row + 1).map(|l| l[column]) } else { line.get(column + 1).copied() };
                    assert!(next.is_none_or(|next| monotone.allows(*here, next)), "{factor:?}");
                }
            }
        }
    }
    // The document is validated again.
    published(&fitted);
}

#[test]
fn invalid_samples_and_options_are_rejected() {
    let whole = sample(200, 7);
    let error = |sample: &TrainingSample, options: &FitOptions| fit(sample, options, &mut Uninterrupted).unwrap_err();
    let (mut illicit, mut others) = (0, 0);
    let few = only(&whole, |row| {
        let count = if whole.illicit()[row] { 19 } else { 200 };
        whole.illicit().iter().take(row).filter(|i| **i == whole.illicit()[row]).count() < count
    });
    few.illicit().iter().for_each(|i| *(if *i { &mut illicit } else { &mut others }) += 1);
    assert_eq!((illicit, others > 20), (19, true));
    assert!(matches!(error(&few, &quick()), FitError::TooFew { found: 19, .. }));
    assert!(matches!(error(&only(&whole, |_| false), &quick()), FitError::TooFew { found: 0, .. }));
    let one = only(&whole, |row| whole.illicit()[row]);
    assert!(matches!(error(&one, &quick()), FitError::OneClass { illicit: true, .. }));
    let little = FitOptions { memory: MemoryBudget::new(1000), ..quick() };
    assert!(matches!(error(&whole, &little), FitError::Memory { budget: 1000, rows: 200, features: 5 }));
    let unknown = FitOptions { monotone: vec![("age".to_owned(), Monotone::Rising)], ..quick() };
    assert!(error(&whole, &unknown).to_string().contains("monotone names feature \"age\""));
    let listed = PairCandidates::Listed(vec![("curve".to_owned(), "age".to_owned())]);
    assert!(matches!(error(&whole, &FitOptions { pairs: listed, ..quick() }), FitError::UnknownFeature { .. }));
    let rate = FitOptions { learning_rate: 0.0, ..quick() };
    assert_eq!(error(&whole, &rate).to_string(), "learning_rate must be above 0 up to 1, not 0");
    let names = || vec!["a".to_owned(), "b".to_owned()];
    let new = |names, columns, weight| {
        TrainingSample::new(names, columns, vec![true, false], weight).unwrap_err().to_string()
    };
    assert_eq!(new(names(), vec![vec![1.0, 2.0]], vec![1.0; 2]), "columns must be 2, not 1");
    assert_eq!(new(names(), vec![vec![1.0, 2.0], vec![1.0]], vec![1.0; 2]), "values of \"b\" must be 2, not 1");
    assert_eq!(new(vec!["a".to_owned(); 2], vec![vec![1.0; 2]; 2], vec![1.0; 2]), "two columns are called \"a\"");
    let infinite = vec![vec![1.0; 2], vec![0.0, f64::INFINITY]];
    assert_eq!(new(names(), infinite, vec![1.0; 2]), "value inf of \"b\" in row 1 is not finite");
    assert!(new(names(), vec![vec![1.0; 2]; 2], vec![1.0, -1.0]).starts_with("weight of row 1"));
}

/// Stops at the n-th check.
struct StopsAfter(usize);

impl Interrupt for StopsAfter {
    fn should_stop(&mut self) -> bool {
        self.0 = self.0.saturating_sub(1);
        self.0 == 0
    }
}

#[test]
fn an_interrupt_stops_a_fit() {
    let sample = sample(2000, 8);
    for asked in [1, 2, 5, 20] {
        assert!(matches!(fit(&sample, &quick(), &mut StopsAfter(asked)), Err(FitError::Stopped)));
    }
}

#[test]
fn every_row_is_scored_by_a_scorecard_fitted_without_it() {
    let sample = sample(1200, 9);
    let folds: Vec<u32> = (0..1200).map(|row| assign_fold(&format!("wallet {row}"), "ethereum", 4, 0)).collect();
    let mut asked = Vec::new();
    let crossed = cross_validate(
        &folds,
        4,
        &quick(),
        |fold, _| {
            asked.push(fold);
            // The class itself is a column for all rows but those of the fold: a fit that saw it
            // would always be right.
            let known = sample.illicit().iter().zip(&folds).map(|(illicit, row_fold)| {
                if fold.is_some_and(|fold| fold == *row_fold) { f64::NAN } else { f64::from(u8::from(*illicit)) }
            });
            let names = sample.names().iter().cloned().chain(["known".to_owned()]).collect();
            let columns = sample.columns().iter().cloned().chain([known.collect()]).collect();
            TrainingSample::new(names, columns, sample.illicit().to_vec(), sample.weight().to_vec())
        },
        &mut Uninterrupted,
    )
    .unwrap();
    assert_eq!(asked, [None, Some(0), Some(1), Some(2), Some(3)]);
    let all = crossed.measures(|_| true).unwrap();
    assert!(all.auc < 0.95, "{all:?}");
    assert_eq!(crossed.measures(|row| row < 600).unwrap().rows, 600);
    let training = crossed.training().unwrap();
    assert_eq!((training.rows, training.folds), (1200, 4));
    let publication = Publication {
        version: "fit-1".to_owned(),
        calibration: crossed.calibration,
        training: Some(training),
        ..Publication::default()
    };
    crossed.fitted.scorecard(&publication).unwrap();
    let wrong = cross_validate(&folds, 3, &quick(), |_, _| Ok::<_, FitError>(sample.clone()), &mut Uninterrupted);
    assert!(matches!(wrong, Err(FitError::Option { name: "fold", .. })));
}

#[test]
fn folds_are_repeatable_and_even() {
    assert_eq!(assign_fold("0xabc", "ethereum", 5, 1), assign_fold("0xabc", "ethereum", 5, 1));
    let mut counts = [0; 5];
    (0..5000).for_each(|wallet| counts[assign_fold(&format!("{wallet:x}"), "ethereum", 5, 1) as usize] += 1);
    assert!(counts.iter().all(|count| (900..1100).contains(count)), "{counts:?}");
    let moved = (0..100)
        .filter(|w| assign_fold(&w.to_string(), "bitcoin", 5, 1) != assign_fold(&w.to_string(), "ethereum", 5, 1));
    assert!(moved.count() > 50);
}

#[test]
fn drift_counts_wallets_by_band() {
    let scorecard = published(&fit(&sample(400, 10), &quick(), &mut Uninterrupted).unwrap());
    let of = |tenths: &[i32]| tenths.iter().map(|t| Score::from_tenths(*t).unwrap()).collect::<Vec<Score>>();
    let (old, new) = (of(&[0, 100, 399, 400, 999]), of(&[399, 750, 751, 410, 0]));
    let moves = drift((&scorecard, &old), (&scorecard, &new)).unwrap();
    assert_eq!(changed_bands(&moves), 3);
    let moves: Vec<(&str, &str, u64)> = moves.iter().map(|m| (m.from.as_str(), m.to.as_str(), m.wallets)).collect();
    assert_eq!(moves, [("low", "low", 1), ("low", "severe", 2), ("medium", "medium", 1), ("severe", "low", 1)]);
    assert!(drift((&scorecard, &old), (&scorecard, &new[1..])).is_err());
}

#[test]
fn cuts_are_short() {
    let cut = between;
    assert_eq!([cut(1.0, 2.0), cut(0.0, 5.0), cut(-1.0, 1.0), cut(3.0, 7.0)], [1.0, 0.0, 0.0, 5.0]);
    assert_eq!([cut(0.123_456, 0.123_458), cut(1.234e18, 1.236e18)], [0.123_457, 1.235e18]);
}

/// Returns the best gain of a step with at most one cut, by trying every cut.
fn best_gain(bins: &[LossSums], leaf: LeafRule) -> f64 {
    let sum = |from: usize, to: usize| bins[from..to].iter().fold(LossSums::default(), |a, b| a.plus(*b));
    let mut best = leaf.gain(sum(0, bins.len()));
    for cut in 1..bins.len() {
        let parts = [sum(0, cut), sum(cut, bins.len())];
        if parts.iter().all(|p| leaf.allows(*p)) {
            best = best.max(parts.iter().map(|p| leaf.gain(*p)).sum());
        }
    }
    best
}

fn sums() -> impl Strategy<Value = LossSums> {
    (-50_i32..50, 1_u32..40).prop_map(|(gradient, weight)| LossSums {
        gradient: f64::from(gradient) / 10.0,
        curvature: f64::from(weight) / 8.0,
        weight: f64::from(weight),
    })
}

fn direction() -> impl Strategy<Value = Monotone> {
    prop_oneof![Just(Monotone::Free), Just(Monotone::Rising), Just(Monotone::Falling)]
}

/// Returns the share of pairs of an illicit and a licit row that are in order; ties count half.
fn auc_by_pairs(scores: &[f64], illicit: &[bool], weight: &[f64]) -> f64 {
    let (mut right, mut all) = (0.0, 0.0);
    for i in 0..scores.len() {
        for j in 0..scores.len() {
            if illicit[i] && !illicit[j] {
                let won = if scores[i] > scores[j] {
                    1.0
                } else if scores[i] == scores[j] {
                    0.5
                } else {
                    0.0
                };
                right += won * weight[i] * weight[j];
                all += weight[i] * weight[j];
            }
        }
    }
    right / all
}

/// Returns the mean over illicit rows of the precision among rows with at least their score.
fn average_precision_by_rows(scores: &[f64], illicit: &[bool], weight: &[f64]) -> f64 {
    let (mut sum, mut all) = (0.0, 0.0);
    for i in (0..scores.len()).filter(|i| illicit[*i] && weight[*i] > 0.0) {
        let reached = || (0..scores.len()).filter(|j| scores[*j] >= scores[i]);
        let illicit_weight: f64 = reached().filter(|j| illicit[*j]).map(|j| weight[j]).sum();
        sum += weight[i] * illicit_weight / reached().map(|j| weight[j]).sum::<f64>();
        all += weight[i];
    }
    sum / all
}

fn rows() -> impl Strategy<Value = Vec<(i32, bool, f64)>> {
    prop::collection::vec((0..12, any::<bool>(), (0_u8..4).prop_map(f64::from)), 2..40)
}

proptest! {
    #[test]
    fn measures_agree_with_their_definitions(rows in rows()) {
        let scores: Vec<f64> = rows.iter().map(|r| f64::from(r.0)).collect();
        let illicit: Vec<bool> = rows.iter().map(|r| r.1).collect();
        let weight: Vec<f64> = rows.iter().map(|r| r.2).collect();
        let probabilities: Vec<f64> = scores.iter().map(|s| s / 11.0).collect();
        let counted = |class: bool| rows.iter().any(|r| r.1 == class && r.2 > 0.0);
        let measured = measure(&scores, &probabilities, &illicit, &weight);
        prop_assert_eq!(measured.is_ok(), counted(true) && counted(false));
        if let Ok(measured) = measured {
            prop_assert!((measured.auc - auc_by_pairs(&scores, &illicit, &weight)).abs() < 1e-12);
            let average_precision = average_precision_by_rows(&scores, &illicit, &weight);
            prop_assert!((measured.average_precision - average_precision).abs() < 1e-12);
            let total: f64 = weight.iter().sum();
            let brier: f64 = rows.iter().zip(&probabilities).map(|(r, p)| r.2 * (p - f64::from(u8::from(r.1))).powi(2)).sum();
            prop_assert!((measured.brier - brier / total).abs() < 1e-12);
            let curves = curves(&scores, &illicit, &weight).unwrap();
            let area: f64 = curves.roc.windows(2).map(|w| (w[1].x - w[0].x) * (w[0].y + w[1].y) / 2.0).sum();
            prop_assert!((area - measured.auc).abs() < 1e-12);
            prop_assert_eq!(curves.roc.last().map(|p| (p.x, p.y)), Some((1.0, 1.0)));
        }
    }

    #[test]
    fn probabilities_never_fall_and_stay_off_zero_and_one(rows in rows()) {
        let scores: Vec<Score> = rows.iter().map(|r| Score::from_tenths(r.0 * 90).unwrap()).collect();
        let illicit: Vec<bool> = rows.iter().map(|r| r.1).collect();
        let weight: Vec<f64> = rows.iter().map(|r| r.2 + 1.0).collect();
        let knots = calibrate(&scores, &illicit, &weight).unwrap();
        prop_assert_eq!(knots.len(), 21);
        let edge = 1.0 / (weight.iter().sum::<f64>() + 2.0);
        prop_assert!(knots.iter().all(|k| (edge - 1e-6..=1.0 - edge + 1e-6).contains(&k.probability)));
        prop_assert!(knots.windows(2).all(|w| w[0].probability <= w[1].probability));
    }

    #[test]
    fn a_step_follows_its_direction_and_gains(
        bins in prop::collection::vec(sums(), 2..20), monotone in direction(), least in 0_u8..30, leaves in 2_usize..5,
    ) {
        let leaf = LeafRule { least: f64::from(least), regularization: 0.5 };
        let mut cells = bins.clone();
        cells.push(LossSums::default());
        let mut values = vec![9.0; cells.len()];
        best_step(TermShape::Line { bins: bins.len(), monotone }, &cells, leaf, leaves, &mut values);
        prop_assert_eq!(values.pop(), Some(0.0));
        prop_assert!(values.windows(2).all(|w| monotone.allows(w[0], w[1])));
        let runs: Vec<f64> = values.chunk_by(|a, b| a == b).map(|run| run[0]).collect();
        prop_assert!(runs.len() <= leaves);
        if monotone == Monotone::Free && leaves == 2 {
            // The gain of the values is 2 g v - v² (h + r), summed over leaves.
            let mut at = 0;
            let gains = values.chunk_by(|a, b| a == b).map(|run| {
                let sum = bins[at..at + run.len()].iter().fold(LossSums::default(), |a, b| a.plus(*b));
                at += run.len();
                leaf.gain(sum)
            });
            let gain: f64 = gains.sum();
            if leaf.allows(bins.iter().fold(LossSums::default(), |a, b| a.plus(*b))) {
                prop_assert!(gain >= best_gain(&bins, leaf) - 1e-9, "{} {}", gain, best_gain(&bins, leaf));
            }
        }
    }

    #[test]
    fn a_table_follows_its_directions(
        cells in prop::collection::vec(sums(), 20), columns in 2_usize..6, directions in [direction(), direction()], least in 0_u8..60,
    ) {
        let rows = cells.len() / columns;
        let mut cells = cells[..rows * columns].to_vec();
        cells.push(LossSums::default());
        let mut values = vec![9.0; cells.len()];
        let leaf = LeafRule { least: f64::from(least), regularization: 0.5 };
        best_step(TermShape::Table { rows, columns, monotone: directions }, &cells, leaf, 4, &mut values);
        for row in 0..rows {
            for column in 0..columns {
                let at = |row: usize, column: usize| values[row * columns + column];
                prop_assert!(row + 1 == rows || directions[0].allows(at(row, column), at(row + 1, column)));
                prop_assert!(column + 1 == columns || directions[1].allows(at(row, column), at(row, column + 1)));
            }
        }
    }

    #[test]
    fn merging_finds_the_best_of_all_groupings(values in prop::collection::vec((-9_i32..9, 1_u8..5), 1..9), limit in 2_usize..5) {
        let (values, weights): (Vec<f64>, Vec<f64>) = values.into_iter().map(|(v, w)| (f64::from(v), f64::from(w))).unzip();
        let error = |ends: &[usize]| -> f64 {
            let mut from = 0;
            ends.iter().map(|to| {
                let weight: f64 = weights[from..*to].iter().sum();
                let mean = (from..*to).map(|i| values[i] * weights[i]).sum::<f64>() / weight;
                let error: f64 = (from..*to).map(|i| weights[i] * (values[i] - mean).powi(2)).sum();
                from = *to;
                error
            }).sum()
        };
        let bins = values.len();
        let ends = merge_bins(&values, &weights, limit, 0.0);
        prop_assert!(ends.is_sorted_by(|a, b| a < b) && ends.last() == Some(&bins) && ends.len() <= limit);
        let directions = (0_u32..1 << (bins - 1)).map(|cuts| {
            (1..bins).filter(|end| cuts >> (end - 1) & 1 == 1).chain([bins]).collect::<Vec<usize>>()
        });
        let best = directions.filter(|ends| ends.len() <= limit).map(|ends| error(&ends)).fold(f64::INFINITY, f64::min);
        prop_assert!(error(&ends) <= best + 1e-9, "{:?}", ends);
    }
}

#[test]
fn boosting_one_term_ends_at_the_log_odds_of_its_cells() {
    let cells: Vec<u8> = (0..400_u16).map(|row| u8::try_from(row % 2).unwrap()).collect();
    let illicit: Vec<bool> = (0..400).map(|row| if row % 2 == 0 { row % 20 == 0 } else { row % 4 == 1 }).collect();
    let terms = vec![Term { shape: TermShape::Line { bins: 2, monotone: Monotone::Free }, cells }];
    let mut interrupt = Uninterrupted;
    let mut pace = RowPace::new(&mut interrupt);
    let mut pick = || BoostRows::pick(&terms, (&illicit, &[1.0; 400]), &[0.0; 400], |_| true, &mut pace).unwrap();
    let (learn, held_out) = (pick(), pick());
    let options = FitOptions { rounds: 2000, patience: 2000, regularization: 1e-9, ..FitOptions::default() };
    let functions = boost(&terms, learn, held_out, &options, &mut pace).unwrap();
    assert!((functions[0][0] - (0.1_f64 / 0.9).ln()).abs() < 1e-3, "{functions:?}");
    assert!(functions[0][1].abs() < 1e-3, "{functions:?}");
    assert_eq!(Points::default().tenths(), 0);
}
