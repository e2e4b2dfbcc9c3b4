//! Scorecards as JSON, which users import.

use arx_core::risk::scorecard::Scorecard;

/// Values at which a bin is chosen, or nearly so.
const VALUES: [f64; 9] = [f64::NAN, f64::NEG_INFINITY, -1.0, -0.0, 0.5, 1.0, 1e9, f64::MAX, f64::INFINITY];

/// Reads a scorecard. One that is accepted must survive being written and read again, and the
/// points of its reasons must add up to the score of any row.
pub fn scorecard(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(scorecard) = Scorecard::from_json(text) else { return };
    let written = scorecard.to_json().unwrap();
    assert_eq!(Scorecard::from_json(&written).unwrap(), scorecard);

    let columns = scorecard.features();
    let bound = scorecard.bind(&columns).unwrap();
    for (shift, value) in VALUES.iter().enumerate() {
        let uniform = vec![*value; columns.len()];
        let mixed: Vec<f64> = (0..columns.len()).map(|column| VALUES[(column + shift) % VALUES.len()]).collect();
        for row in [uniform, mixed] {
            let total = bound.score(&row);
            let explanation = bound.explain(&row);
            assert_eq!((explanation.score, explanation.cap), (total.score, total.cap));
            let points = explanation.lines.iter().map(|line| i64::from(line.points.tenths())).sum::<i64>();
            let sum = points + i64::from(explanation.base.tenths()) + i64::from(explanation.cap.tenths());
            assert_eq!(sum, i64::from(total.score.tenths()));
            let probability = scorecard.probability(total.score);
            assert!((0.0..=1.0).contains(&probability), "{probability}");
            assert!(scorecard.bands().iter().any(|band| band.band == scorecard.band(total.score)));
        }
    }
}
