//! From what is known of a wallet to its score, with reasons that add up to it.

use serde::Serialize;

use super::features::{Coverage, Proof, Row, Unit, spec_of};
use super::scorecard::{BoundScorecard, Bounds, Line, Points, Score, Scorecard};
use crate::label::{LabelKind, SANCTIONS, Severity};

/// How a score came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RiskState {
    /// From the scorecard, over all that the wallet did.
    Scored,
    /// From the scorecard, over a part of what the wallet did.
    Partial,
    /// Nothing is known of the wallet: neither clean nor risky.
    Unknown,
    /// A label on the wallet itself decided.
    Labelled,
    /// Somebody decided, with a reason and until a time.
    Overridden,
}

impl RiskState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Scored, Self::Partial, Self::Unknown, Self::Labelled, Self::Overridden];

    /// The state as stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scored => "scored",
            Self::Partial => "partial",
            Self::Unknown => "unknown",
            Self::Labelled => "labelled",
            Self::Overridden => "overridden",
        }
    }
}

/// The label that a wallet bears itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnLabel {
    /// Category, such as `ransomware`.
    pub category: String,
    /// What the category means for risk.
    pub kind: LabelKind,
    /// How bad it is.
    pub severity: Severity,
    /// Who says so.
    pub source: String,
}

/// What somebody decided about a wallet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// The score.
    pub score: Score,
    /// Why.
    pub reason: String,
    /// Who.
    pub by: String,
    /// Until when, as shown.
    pub until: String,
}

/// All that is known of a wallet.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'k> {
    /// Its own label, the one that weighs most.
    pub label: Option<&'k OwnLabel>,
    /// What somebody decided.
    pub decided: Option<&'k Override>,
    /// Its features, if it dealt with anybody.
    pub seen: Option<(&'k Row, Coverage)>,
}

/// A score without its reasons.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement<'s> {
    /// 0 (clean) to 100.
    pub score: Score,
    /// The probability of being illicit, among wallets like those that the scorecard was fitted on, if the scorecard decided.
    pub probability: Option<f64>,
    /// Name of the score's band.
    pub band: &'s str,
    /// How the score came about.
    pub state: RiskState,
    /// How much of the wallet was looked at, 0 to 1.
    pub coverage: f64,
}

/// What decides about a wallet.
enum Decisive<'k> {
    Label(&'k OwnLabel),
    Override(&'k Override),
    Features(&'k Row, Coverage),
    Nothing,
}

impl<'k> Known<'k> {
    /// Sanctions before all; then what somebody decided; then a label that is illicit or a service; then features.
    fn decisive(&self) -> Decisive<'k> {
        match (self.label, self.decided, self.seen) {
            (Some(label), _, _) if label.category == SANCTIONS => Decisive::Label(label),
            (_, Some(decided), _) => Decisive::Override(decided),
            (Some(label), _, _) if label.kind != LabelKind::Neutral => Decisive::Label(label),
            (_, _, Some((row, coverage))) => Decisive::Features(row, coverage),
            (_, _, None) => Decisive::Nothing,
        }
    }
}

/// Judges a wallet.
#[must_use]
pub fn judge<'s>(scorecard: &'s BoundScorecard, known: &Known<'_>) -> Judgement<'s> {
    let of = scorecard.scorecard();
    let (score, state, probability, coverage) = match known.decisive() {
        Decisive::Label(label) => (of.label_score(label.severity), RiskState::Labelled, None, 1.0),
        Decisive::Override(decided) => (decided.score, RiskState::Overridden, None, 1.0),
        Decisive::Nothing => (Score::UNKNOWN, RiskState::Unknown, None, 0.0),
        Decisive::Features(row, coverage) => {
            let score = scorecard.score(row).score;
            let state = if coverage.least() < 1.0 { RiskState::Partial } else { RiskState::Scored };
            (score, state, Some(of.probability(score)), coverage.least())
        }
    };
    Judgement { score, probability, band: of.band(score), state, coverage }
}

/// One reason for a score.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reason {
    /// Name of the factor.
    pub factor: String,
    /// What it adds to the score.
    pub points: Points,
    /// The value it was judged by, with its unit.
    pub value: String,
    /// The step of the scorecard that the value falls into, and how common it is.
    pub compares_to: String,
    /// What the factor looks at, in words.
    pub detail: String,
    /// What proves the values, one a feature.
    #[serde(skip)]
    pub proofs: Vec<Proof>,
}

impl Reason {
    fn plain(factor: &str, points: Points, value: String, detail: String) -> Self {
        Self { factor: factor.to_owned(), points, value, compares_to: String::new(), detail, proofs: Vec::new() }
    }
}

/// Why [`judge`] says what it says: the points of all reasons add up to the score.
#[must_use]
pub fn reasons(scorecard: &BoundScorecard, known: &Known<'_>) -> Vec<Reason> {
    let of = scorecard.scorecard();
    let start = || Reason::plain("base", Score::UNKNOWN.points(), String::new(), "where nothing is known".to_owned());
    let beyond_start = |score: Score| Points::from_tenths(score.points().tenths() - Score::UNKNOWN.points().tenths());
    match known.decisive() {
        Decisive::Nothing => vec![start()],
        Decisive::Label(label) => {
            let detail = format!(
                "the wallet itself is labelled {} (severity {}) by {}",
                label.category,
                label.severity.as_str(),
                label.source
            );
            let points = of.label_points(label.severity);
            vec![start(), Reason::plain("label", points, label.category.clone(), detail)]
        }
        Decisive::Override(decided) => {
            let detail = format!("set by {} until {}: {}", decided.by, decided.until, decided.reason);
            let value = decided.score.to_string();
            vec![start(), Reason::plain("override", beyond_start(decided.score), value, detail)]
        }
        Decisive::Features(row, _) => {
            let explained = scorecard.explain(row);
            let mut reasons =
                vec![Reason::plain("base", explained.base, String::new(), "where every wallet starts".to_owned())];
            reasons.extend(explained.lines.iter().map(of_line));
            // what weighs most comes first, after the base
            reasons[1..].sort_by_key(|one| std::cmp::Reverse(one.points.tenths().unsigned_abs()));
            if explained.cap.tenths() != 0 {
                let detail = "scores end at 0 and 100".to_owned();
                reasons.push(Reason::plain("cap", explained.cap, String::new(), detail));
            }
            reasons
        }
    }
}

fn of_line(line: &Line<'_>) -> Reason {
    let features = || line.factor.features.iter().map(|name| spec_of(name));
    let unit = |spec: Option<&'static super::features::FeatureSpec>| spec.map_or(Unit::Ratio, |spec| spec.unit);
    let values: Vec<String> = features().zip(&line.values).map(|(spec, value)| shown(*value, unit(spec))).collect();
    let mut compares_to: Vec<String> =
        features().zip(&line.bounds).map(|(spec, bounds)| within(bounds, unit(spec))).collect();
    if line.bounds.is_empty() {
        compares_to.push("undefined".to_owned());
    }
    let share = line.share.map_or_else(String::new, |share| format!(": {} of training wallets", percent(share)));
    let formula = || features().flatten().map(|spec| spec.formula).collect::<Vec<_>>().join(" × ");
    Reason {
        factor: line.factor.name.clone(),
        points: line.points,
        value: values.join(" × "),
        compares_to: format!("{}{share}", compares_to.join(" × ")),
        detail: line.factor.description.clone().unwrap_or_else(formula),
        proofs: features().flatten().map(|spec| spec.proof).collect(),
    }
}

/// A value with its unit.
#[must_use]
pub fn shown(value: f64, unit: Unit) -> String {
    if value.is_nan() {
        return "undefined".to_owned();
    }
    match unit {
        Unit::Count => format!("{value}"),
        Unit::Share => percent(value),
        Unit::Ratio => plain(value),
        Unit::Coins => format!("{} coins", plain(value)),
        Unit::Seconds => duration(value),
        Unit::Log2 => format!("{} on average", plain(libm::exp2(value) - 1.0)),
        Unit::Bits => format!("{} bits", plain(value)),
    }
}

fn within(bounds: &Bounds, unit: Unit) -> String {
    match (bounds.from, bounds.to) {
        (None, None) => "any".to_owned(),
        (None, Some(to)) => format!("up to {}", shown(to, unit)),
        (Some(from), None) => format!("above {}", shown(from, unit)),
        (Some(from), Some(to)) => format!("above {} up to {}", shown(from, unit), shown(to, unit)),
    }
}

fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 0.0 && percent < 0.1 { "under 0.1 %".to_owned() } else { format!("{percent:.1} %") }
}

/// Four digits that tell something, without an exponent.
fn plain(value: f64) -> String {
    let size = value.abs();
    let decimals = if size >= 1000.0 || size == 0.0 {
        0
    } else if size < 1e-9 {
        return format!("{value:.2e}");
    } else {
        // digits before the point, or minus the zeros behind it
        (3 - libm::floor(libm::log10(size)) as i32).unsigned_abs() as usize
    };
    let text = format!("{value:.decimals$}");
    if decimals == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
}

/// Seconds, in the unit that reads best.
fn duration(seconds: f64) -> String {
    let size = seconds.abs();
    let (unit, name) = match size {
        _ if size < 120.0 => (1.0, "s"),
        _ if size < 7_200.0 => (60.0, "min"),
        _ if size < 172_800.0 => (3_600.0, "h"),
        _ => (86_400.0, "d"),
    };
    format!("{} {name}", plain(seconds / unit))
}

/// The scorecard compiled in.
///
/// # Errors
/// As [`Scorecard::from_json`]; a test proves that it has none.
pub fn compiled_in() -> Result<Scorecard, super::scorecard::ScorecardError> {
    Scorecard::from_json(include_str!("default_scorecard.json"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::features::{Feature, NAMES};
    use super::*;

    const OFAC: &str = "ofac";

    fn label(category: &str, kind: LabelKind, severity: Severity) -> OwnLabel {
        OwnLabel { category: category.to_owned(), kind, severity, source: OFAC.to_owned() }
    }

    fn decided() -> Override {
        Override {
            score: Score::from_tenths(123).unwrap(),
            reason: "our own wallet".to_owned(),
            by: "ann".to_owned(),
            until: "2027-01-01".to_owned(),
        }
    }

    fn row() -> Row {
        let mut row = [f64::NAN; NAMES.len()];
        row[Feature::IllicitReceivedShare as usize] = 0.9;
        row[Feature::Transactions as usize] = 3.0;
        row
    }

    /// The judgement, after its reasons were found to add up to it.
    fn judged(known: &Known<'_>) -> (u16, RiskState, Vec<Reason>) {
        let scorecard = compiled_in().unwrap();
        let bound = scorecard.bind(&NAMES).unwrap();
        let (judged, reasons) = (judge(&bound, known), reasons(&bound, known));
        assert_eq!(reasons.iter().map(|one| one.points.tenths()).sum::<i32>(), judged.score.points().tenths());
        assert_eq!(judged.probability.is_some(), matches!(judged.state, RiskState::Scored | RiskState::Partial));
        assert_eq!(judged.band, scorecard.band(judged.score));
        (judged.score.tenths(), judged.state, reasons)
    }

    #[test]
    fn the_scorecard_compiled_in_reads_features_that_there_are() {
        let scorecard = compiled_in().unwrap();
        scorecard.bind(&NAMES).unwrap();
        let training = scorecard.training().unwrap();
        assert!(training.auc > 0.98 && training.rows > 8_000, "{training:?}");
        for factor in scorecard.factors().iter().filter(|factor| factor.features.len() == 1) {
            assert_eq!(Some(factor.monotone), spec_of(&factor.name).map(|spec| spec.expected), "{}", factor.name);
        }
    }

    #[test]
    fn nothing_known_is_fifty_and_unknown() {
        let (score, state, reasons) = judged(&Known::default());
        assert_eq!((score, state, reasons.len()), (500, RiskState::Unknown, 1));
    }

    #[test]
    fn what_decides_comes_first_and_says_so() {
        let (row, decided) = (row(), decided());
        let seen = Some((&row, Coverage::FULL));
        let sanctioned = label(SANCTIONS, LabelKind::Illicit, Severity::Severe);
        let known = Known { label: Some(&sanctioned), decided: Some(&decided), seen };
        let (score, state, reasons) = judged(&known);
        assert_eq!((score, state), (1000, RiskState::Labelled), "sanctions cannot be overridden");
        assert!(reasons[1].detail.contains(SANCTIONS) && reasons[1].detail.contains(OFAC));

        let exchange = label("exchange", LabelKind::Service, Severity::None);
        let known = Known { label: Some(&exchange), decided: Some(&decided), seen };
        let (score, state, reasons) = judged(&known);
        assert_eq!((score, state), (123, RiskState::Overridden));
        assert!(reasons[1].detail.contains("our own wallet") && reasons[1].detail.contains("ann"));
        assert_eq!(judged(&Known { decided: None, ..known }).0, 100, "a service");

        let miner = label("miner", LabelKind::Neutral, Severity::None);
        assert_eq!(judged(&Known { label: Some(&miner), decided: None, seen }).1, RiskState::Scored);
    }

    #[test]
    fn a_part_of_a_wallet_is_scored_as_a_part() {
        let row = row();
        let coverage = Coverage { transfers: 1.0, counterparties: 0.5 };
        let (_, state, reasons) = judged(&Known { seen: Some((&row, coverage)), ..Known::default() });
        assert_eq!(state, RiskState::Partial);
        let illicit = reasons.iter().find(|one| one.factor == "illicit_received_share").unwrap();
        assert!(illicit.value == "90.0 %" && illicit.compares_to.contains("of training wallets"), "{illicit:?}");
    }

    proptest! {
        #[test]
        fn reasons_add_up_to_the_score(values in prop::collection::vec(
            prop_oneof![Just(f64::NAN), 0.0..1.0_f64, 0.0..1e6_f64, -1e9..1e9_f64], NAMES.len(),
        )) {
            let row: Row = values.try_into().unwrap();
            judged(&Known { seen: Some((&row, Coverage::FULL)), ..Known::default() });
        }
    }

    #[test]
    fn values_read_as_people_write_them() {
        for (value, unit, text) in [
            (f64::NAN, Unit::Share, "undefined"),
            (0.123_45, Unit::Share, "12.3 %"),
            (0.000_2, Unit::Share, "under 0.1 %"),
            (0.0, Unit::Coins, "0 coins"),
            (0.001_234_5, Unit::Coins, "0.001234 coins"),
            (12_345.678, Unit::Coins, "12346 coins"),
            (90.0, Unit::Seconds, "90 s"),
            (-7_200.0, Unit::Seconds, "-2 h"),
            (864_000.0, Unit::Seconds, "10 d"),
            (3.0, Unit::Log2, "7 on average"),
            (17.0, Unit::Count, "17"),
        ] {
            assert_eq!(shown(value, unit), text);
        }
    }
}
