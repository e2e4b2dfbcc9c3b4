use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::label::Severity;
use crate::risk::monotone::Monotone;

const DOCUMENT: &str = r#"{
  "format": 2,
  "version": "test-1",
  "description": "of \"two\" features, \\ and: a, b",
  "base": 48.5,
  "bands": [
    {"from": 0, "band": "low"}, {"from": 25, "band": "medium"}, {"from": 50.5, "band": "high"}, {"from": 75, "band": "severe"}
  ],
  "label_points": {"severe": 50, "high": 45, "medium": 15, "low": -10, "none": -40},
  "calibration": [{"score": 0, "probability": 0.1}, {"score": 50, "probability": 0.2}, {"score": 100, "probability": 0.9}],
  "training": {"rows": 10, "illicit": 3, "folds": 5, "auc": 0.9, "average_precision": 0.8, "log_loss": 0.3, "brier": 0.1,
    "notes": {"network": "ethereum"}},
  "factors": [
    {"name": "a", "features": ["a"], "description": "what a is", "monotone": "rising", "cuts": [[-1, 0.25, 3]],
     "points": [-4, -1.5, 0, 3.2], "undefined": 1.1, "shares": [0.1, 0.2, 0.3, 0.3], "undefined_share": 0.1, "importance": 1.5},
    {"name": "a & b", "features": ["a", "b"], "cuts": [[0], [1, 2]], "points": [[1, 2, 3], [-1, -2, -3.4]], "undefined": -0.3,
     "shares": [[0.1, 0.1, 0.1], [0.2, 0.2, 0.2]]}
  ]
}"#;

fn scorecard() -> Scorecard {
    Scorecard::from_json(DOCUMENT).unwrap()
}

fn changed(from: &str, to: &str) -> ScorecardError {
    assert!(DOCUMENT.contains(from), "{from} is not in the document");
    Scorecard::from_json(&DOCUMENT.replacen(from, to, 1)).unwrap_err()
}

#[test]
fn a_document_is_read_and_written() {
    let scorecard = scorecard();
    let text = scorecard.to_json().unwrap();
    assert_eq!(Scorecard::from_json(&text).unwrap(), scorecard);
    assert_eq!(scorecard.version(), "test-1");
    assert_eq!(scorecard.base().to_string(), "48.5");
    assert_eq!(scorecard.features(), ["a", "b"]);
    assert_eq!(scorecard.factors()[0].monotone, Monotone::Rising);
    assert_eq!(scorecard.training().unwrap().notes["network"], "ethereum");
    assert!(text.contains("\n      \"points\": [-4, -1.5, 0, 3.2],\n"), "{text}");
    assert!(text.contains("\n      \"points\": [[1, 2, 3], [-1, -2, -3.4]],\n"), "{text}");
    assert!(text.contains(r#""of \"two\" features, \\ and: a, b""#), "{text}");
}

#[test]
fn invalid_documents_are_rejected_with_the_reason() {
    assert!(matches!(Scorecard::from_json("{"), Err(ScorecardError::Json(_))));
    assert!(matches!(changed("\"format\": 2", "\"format\": 1"), ScorecardError::Format { found: 1 }));
    assert!(matches!(changed("test-1", "Test 1"), ScorecardError::Version { .. }));
    assert!(matches!(changed("\"base\"", "\"bases\""), ScorecardError::Json(_)));
    let wrong = [
        ("48.5", "-48.5", "base must be within 0 and 100, not -48.5"),
        ("\"none\": -40", "\"none\": -51", "label_points of none must be within -50 and 50, not -51.0"),
        ("{\"from\": 0,", "{\"from\": 1,", "the first band must start at 0"),
        ("\"from\": 25", "\"from\": 60", "follows \"medium\" from 60.0"),
        ("\"band\": \"medium\"", "\"band\": \"middle\"", "not \"middle\""),
        ("\"band\": \"medium\"", "\"band\": \"high\"", "bands must rise"),
        ("{\"score\": 100, ", "{\"score\": 99, ", "from score 0 to score 100"),
        ("\"probability\": 0.9", "\"probability\": 0.15", "0.15 at score 100.0 follows 0.2 at score 50.0"),
        ("\"probability\": 0.9", "\"probability\": 1.5", "not 1.5 at score 100.0"),
        ("\"name\": \"a & b\"", "\"name\": \"a\"", "two factors are called \"a\""),
        ("\"name\": \"a\"", "\"name\": \"cap\"", "\"cap\" cannot be the name"),
        ("[\"a\", \"b\"]", "[\"a\", \"a\"]", "one or two names"),
        ("[\"a\", \"b\"]", "[\"a\"]", "1 features need as many lists of cuts, not 2"),
        ("0.25, 3", "3, 0.25", "0.25 follows 3"),
        ("-4, -1.5, 0, 3.2", "-4, -1.5, 3.2", "one more than cuts"),
        ("-4, -1.5, 0, 3.2", "-4, -1.5, 3.2, 0", "must be rising, but 0.0 follows 3.2"),
        ("[1, 2, 3], ", "[1, 2], ", "one more than cuts"),
        ("[0.1, 0.2, 0.3, 0.3]", "[0.1, 0.2, 0.3]", "shares must be as many as points"),
        ("[0.1, 0.2, 0.3, 0.3]", "[0.1, 0.2, 0.3, 1.3]", "within 0 and 1, not 1.3"),
        ("\"importance\": 1.5", "\"importance\": -1", "importance must not be negative, not -1"),
    ];
    for (from, to, reason) in wrong {
        let error = changed(from, to).to_string();
        assert!(error.contains(reason), "{to}: {error}");
    }
    for points in ["3.25", "1e9", "100.1", "null", "[1]"] {
        let ScorecardError::Json(error) = changed("-4, -1.5, 0, 3.2", &format!("-4, -1.5, 0, {points}")) else {
            panic!()
        };
        assert!(!error.to_string().is_empty());
    }
    let two_ways = DOCUMENT.replacen("\"cuts\": [[0], ", "\"monotone\": \"falling\", \"cuts\": [[0], ", 1);
    assert!(Scorecard::from_json(&two_ways).unwrap_err().to_string().contains("only a factor of one feature"));
}

#[test]
fn a_value_at_a_cut_falls_into_the_bin_below() {
    let scorecard = scorecard();
    let bound = scorecard.bind(&["b", "a"]).unwrap();
    let of_a = |a: f64| bound.explain(&[f64::NAN, a]).lines[0].clone();
    let points = [-2.0, -1.0, -0.9, 0.25, 0.26, 3.0, 3.1, f64::NAN, f64::INFINITY].map(|a| of_a(a).points.tenths());
    assert_eq!(points, [-40, -40, -15, -15, 0, 0, 32, 11, 32]);
    let line = of_a(0.1);
    assert_eq!(line.bounds, [BinBounds { from: Some(-1.0), to: Some(0.25) }]);
    assert_eq!(line.share, Some(0.2));
    assert_eq!(of_a(-5.0).bounds, [BinBounds { from: None, to: Some(-1.0) }]);
    assert_eq!((of_a(f64::NAN).bounds, of_a(f64::NAN).share), (vec![], Some(0.1)));
}

#[test]
fn a_factor_of_two_features_reads_both_or_is_undefined() {
    let scorecard = scorecard();
    let bound = scorecard.bind(&["a", "b"]).unwrap();
    let of = |a: f64, b: f64| bound.explain(&[a, b]).lines[1].clone();
    assert_eq!(of(0.0, 1.5).points.tenths(), 20);
    assert_eq!(of(0.1, 2.5).points.tenths(), -34);
    assert_eq!(of(f64::NAN, 1.0).points.tenths(), -3);
    assert_eq!(bound.explain(&[0.1]).lines[1].points.tenths(), -3);
    let line = of(0.1, 2.5);
    assert_eq!(line.bounds[1], BinBounds { from: Some(2.0), to: None });
    assert_eq!(line.share, Some(0.2));
}

#[test]
fn an_unknown_feature_is_reported_by_name() {
    let error = scorecard().bind(&["a", "c"]).unwrap_err().to_string();
    assert_eq!(error, "factor \"a & b\" reads feature \"b\", which does not exist; features are a, c");
}

#[test]
fn labels_bands_and_probabilities_are_read_from_the_document() {
    let scorecard = scorecard();
    let score = |tenths| Score::from_tenths(tenths).unwrap();
    let labelled = Severity::ALL.map(|severity| scorecard.label_score(severity).to_string());
    assert_eq!(labelled, ["10.0", "40.0", "65.0", "95.0", "100.0"]);
    assert_eq!(
        [0, 249, 250, 504, 505, 1000].map(|t| scorecard.band(score(t))),
        ["low", "low", "medium", "medium", "high", "severe"]
    );
    assert_eq!([0, 250, 500, 1000].map(|t| scorecard.probability(score(t))), [0.1, 0.15000000000000002, 0.2, 0.9]);
}

#[test]
fn points_are_shown_with_one_decimal() {
    let shown = [-5, 0, 32, -1000].map(|tenths| Points::from_tenths(tenths).to_string());
    assert_eq!(shown, ["-0.5", "0.0", "3.2", "-100.0"]);
    assert_eq!(format!("{:+} {:+}", Points::from_tenths(7), Points::from_tenths(-7)), "+0.7 -0.7");
    assert_eq!(Score::from_tenths(734).unwrap().to_string(), "73.4");
    assert_eq!((Score::from_tenths(-1), Score::from_tenths(1001)), (None, None));
}

/// Cuts, points, and points where the feature is undefined.
type Bins = (BTreeSet<i32>, Vec<Points>, Points);

fn factors() -> impl Strategy<Value = Vec<Factor>> {
    let points = (-1000_i32..=1000).prop_map(Points::from_tenths);
    let line = (prop::collection::btree_set(-20_i32..20, 0..6), prop::collection::vec(points.clone(), 7), points);
    prop::collection::vec((line, 0_usize..4), 0..6).prop_map(|lines| {
        let factor = |(number, ((cuts, points, undefined), kind)): (usize, (Bins, usize))| {
            let cuts: Vec<f64> = cuts.into_iter().map(|c| f64::from(c) / 4.0).collect();
            let bins = cuts.len() + 1;
            let (features, cuts, points) = if kind == 0 {
                let rows = points
                    .chunks(2)
                    .take(bins)
                    .map(<[Points]>::to_vec)
                    .filter(|row| row.len() == 2)
                    .collect::<Vec<_>>();
                let cuts = vec![cuts.into_iter().take(rows.len() - 1).collect(), vec![0.5]];
                (vec!["f0", "f1"], cuts, Cells::Table(rows))
            } else {
                (vec![["f0", "f1", "f2"][kind - 1]], vec![cuts], Cells::Line(points.into_iter().take(bins).collect()))
            };
            Factor {
                name: format!("factor {number}"),
                features: features.into_iter().map(str::to_owned).collect(),
                description: None,
                monotone: Monotone::Free,
                cuts,
                points,
                undefined,
                shares: None,
                undefined_share: None,
                importance: None,
            }
        };
        lines.into_iter().enumerate().map(factor).collect()
    })
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        (-24_i32..24).prop_map(|v| f64::from(v) / 4.0),
        (-24_i32..24).prop_map(|v| not_covered(f64::from(v) / 4.0)),
        Just(f64::NAN),
        Just(NOT_COVERED),
        any::<f64>()
    ]
}

/// Counts the cuts below the value, by definition.
fn points_of(factor: &Factor, row: &[f64; 3]) -> Points {
    let column = |feature: &String| row[feature[1..].parse::<usize>().unwrap()];
    let is_covered = !factor.features.iter().any(|feature| is_not_covered(column(feature)));
    let part = |points: Points| if is_covered { points } else { points.uncovered_part() };
    let mut bins = Vec::new();
    for (feature, cuts) in factor.features.iter().zip(&factor.cuts) {
        let value = without_mark(column(feature));
        if value.is_nan() {
            return part(factor.undefined);
        }
        bins.push(cuts.iter().filter(|cut| **cut < value).count());
    }
    part(*factor.points.get(&bins).unwrap())
}

#[test]
fn a_mark_keeps_the_value() {
    for value in [0.0, 0.25, 1.0, 3.5, 1e6, 9.007e15, -1.0, -171_613_643.0, -1e12] {
        let marked = not_covered(value);
        assert!(is_not_covered(marked) && !is_not_covered(value), "{value}");
        assert!((without_mark(marked) - value).abs() <= value.abs() * 1e-15, "{value}");
        assert_eq!(without_mark(value), value);
    }
    assert!(without_mark(not_covered(f64::NAN)).is_nan() && is_not_covered(NOT_COVERED) && !is_not_covered(f64::NAN));
}

#[test]
fn a_quarter_of_the_points_is_rounded_to_tenths() {
    let parts =
        [0, 1, 2, 3, 5, 6, 10, -1, -2, -6, 1000].map(|tenths| Points::from_tenths(tenths).uncovered_part().tenths());
    assert_eq!(parts, [0, 0, 0, 1, 1, 2, 2, 0, 0, -2, 250]);
}

proptest! {
    #[test]
    fn lines_add_up_to_the_score(factors in factors(), base in 0_i32..=1000, row in [value(), value(), value()]) {
        let document = ScorecardDocument { factors: factors.clone(), base: Points::from_tenths(base), ..scorecard().document().clone() };
        let scorecard = Scorecard::checked(document).unwrap();
        let bound = scorecard.bind(&["f0", "f1", "f2"]).unwrap();
        let explanation = bound.explain(&row);
        let expected: i32 = factors.iter().map(|f| points_of(f, &row).tenths()).sum::<i32>() + base;
        prop_assert_eq!(i32::from(explanation.score.tenths()), expected.clamp(0, 1000));
        let lines: i32 = explanation.lines.iter().map(|l| l.points.tenths()).sum();
        prop_assert_eq!(base + lines + explanation.cap.tenths(), i32::from(explanation.score.tenths()));
        let total = bound.score(&row);
        prop_assert_eq!((total.score, total.cap), (explanation.score, explanation.cap));
        let mut each = Vec::new();
        bound.each_points(&row, |factor, points| each.push((factor, points)));
        let of_lines: Vec<(usize, Points)> = explanation.lines.iter().map(|l| l.points).enumerate().collect();
        prop_assert_eq!(each, of_lines);
        let again = Scorecard::from_json(&scorecard.to_json().unwrap()).unwrap();
        prop_assert_eq!(again, scorecard);
    }

    #[test]
    fn cuts_and_points_survive_the_document(cut in any::<f64>().prop_filter("finite", |c| c.is_finite()), tenths in -1000_i32..=1000) {
        let mut document = scorecard().document().clone();
        document.factors.truncate(1);
        document.factors[0].cuts = vec![vec![cut]];
        document.factors[0].points = Cells::Line(vec![Points::from_tenths(-1000), Points::from_tenths(tenths)]);
        document.factors[0].shares = None;
        let scorecard = Scorecard::checked(document).unwrap();
        prop_assert_eq!(Scorecard::from_json(&scorecard.to_json().unwrap()).unwrap(), scorecard);
    }
}
