//! Assessment of a wallet: a score from the facts known about it, with reasons that add up to it.

use std::cmp::Reverse;

use serde::Serialize;

use super::calibration::Calibration;
use super::features::{Coverage, EvidenceKind, FEATURES, FeatureRow, FeatureSpec, FeatureUnit};
use super::scorecard::{
    BinBounds, BoundScorecard, FactorLine, Points, Score, Scorecard, ScorecardError, is_not_covered, without_mark,
};
use crate::label::{LabelKind, SANCTIONS, Severity};

/// Origin of a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RiskState {
    /// From the scorecard.
    Scored,
    /// From the scorecard, but a part of what the score depends on was not loaded or not read:
    /// factors give a quarter of their points for that, or less than half is covered.
    Partial,
    /// Without any facts: neither clean nor risky.
    Unknown,
    /// From a label on the wallet itself.
    Labelled,
    /// From an override by a person, with a reason and an end.
    Overridden,
}

impl RiskState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Scored, Self::Partial, Self::Unknown, Self::Labelled, Self::Overridden];

    /// Returns the state as it is stored and shown.
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

/// A label on the assessed wallet itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnLabel {
    /// Category, such as `ransomware`.
    pub category: String,
    /// Meaning of the category for risk.
    pub kind: LabelKind,
    /// Severity of the category.
    pub severity: Severity,
    /// Source of the label.
    pub source: String,
}

/// A score that a person has set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// The score.
    pub score: Score,
    /// Reason that the person gave.
    pub reason: String,
    /// Name of the person.
    pub by: String,
    /// End of the override, as shown.
    pub until: String,
}

/// Facts known about a wallet.
#[derive(Debug, Clone, Copy, Default)]
pub struct WalletFacts<'f> {
    /// The label on the wallet itself that weighs most.
    pub label: Option<&'f OwnLabel>,
    /// An override of the score.
    pub override_: Option<&'f Override>,
    /// Features, if the wallet has transfers.
    pub features: Option<(&'f FeatureRow, Coverage)>,
}

/// Share of what a score depends on that must be covered; below it, the score is partial even if
/// every factor has a value.
const LEAST_COVERAGE: f64 = 0.5;

/// The score of a wallet, without its reasons.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement<'s> {
    /// 0 (clean) to 100.
    pub score: Score,
    /// Probability of being illicit among the wallets of the network; `None` unless the score is
    /// from the scorecard.
    pub probability: Option<f64>,
    /// Name of the band of the score.
    pub band: &'s str,
    /// Origin of the score.
    pub state: RiskState,
    /// Share of what the score depends on that is covered, 0 to 1.
    pub coverage: f64,
    /// Part that is missing, if the score is partial or unknown.
    pub missing: Option<String>,
}

/// The fact that determines the score.
pub(super) enum Decisive<'f> {
    Label(&'f OwnLabel),
    Override(&'f Override),
    Features(&'f FeatureRow, Coverage),
    Nothing,
}

impl<'f> WalletFacts<'f> {
    /// Sanctions take precedence, then an override, then an illicit or service label, then the
    /// features.
    pub(super) fn decisive(&self) -> Decisive<'f> {
        match (self.label, self.override_, self.features) {
            (Some(label), _, _) if label.category == SANCTIONS => Decisive::Label(label),
            (_, Some(override_), _) => Decisive::Override(override_),
            (Some(label), _, _) if label.kind != LabelKind::Neutral => Decisive::Label(label),
            (_, _, Some((row, coverage))) => Decisive::Features(row, coverage),
            (_, _, None) => Decisive::Nothing,
        }
    }
}

/// Scores a wallet by the facts known about it.
#[must_use]
pub fn judge<'s>(bound: &'s BoundScorecard, facts: &WalletFacts<'_>, calibration: &Calibration) -> Judgement<'s> {
    let scorecard = bound.scorecard();
    let decided = |score, state, coverage| Judgement {
        score,
        probability: None,
        band: calibration.band(scorecard, score),
        state,
        coverage,
        missing: None,
    };
    match facts.decisive() {
        Decisive::Label(label) => decided(scorecard.label_score(label.severity), RiskState::Labelled, 1.0),
        Decisive::Override(override_) => decided(override_.score, RiskState::Overridden, 1.0),
        Decisive::Nothing => {
            Judgement { missing: Some(NOTHING_KNOWN.to_owned()), ..decided(Score::UNKNOWN, RiskState::Unknown, 0.0) }
        }
        Decisive::Features(row, coverage) => {
            let total = bound.score(row);
            let known = |column: usize| FEATURES.get(column).map_or(1.0, |feature| coverage.known(feature.basis));
            let share = bound.weighted_share(known) * coverage.read();
            let is_partial = coverage.read() < 1.0 || bound.covered_share(&total) < 1.0 || share < LEAST_COVERAGE;
            let state = if is_partial { RiskState::Partial } else { RiskState::Scored };
            Judgement {
                probability: Some(calibration.probability(bound, &total)),
                missing: is_partial.then(|| missing_parts(&coverage)),
                ..decided(total.score, state, share)
            }
        }
    }
}

/// Reason of a score that is unknown.
const NOTHING_KNOWN: &str = "no transfer of coins with another wallet is known";

/// Names the parts that a score does not cover.
fn missing_parts(coverage: &Coverage) -> String {
    let mut parts = Vec::new();
    if !coverage.own {
        parts.push("the history of the wallet is not covered".to_owned());
    }
    for (side, share) in [("senders", coverage.senders), ("receivers", coverage.receivers)] {
        if share == 0.0 {
            parts.push(format!("the histories of its {side} are not covered"));
        } else if share < 1.0 {
            parts.push(format!("the histories of {} of its {side} are not covered", percent(1.0 - share)));
        }
    }
    if coverage.transfers < 1.0 {
        parts.push(format!("{} of its transfers were not read", percent(1.0 - coverage.transfers)));
    }
    if coverage.counterparties < 1.0 {
        parts.push(format!(
            "the contacts of {} of its counterparties were not read",
            percent(1.0 - coverage.counterparties)
        ));
    }
    parts.join("; ")
}

/// One reason for a score.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reason {
    /// Name of the factor.
    pub factor: String,
    /// Points that it adds to the score.
    pub points: Points,
    /// Value of the factor's features, with units.
    pub value: String,
    /// Bin of the scorecard that the value falls into, and the share of training wallets in it.
    pub compares_to: String,
    /// Description of the factor.
    pub detail: String,
    /// Evidence for the value of each feature.
    #[serde(skip)]
    pub evidence: Vec<EvidenceKind>,
}

impl Reason {
    fn new(factor: &str, points: Points, value: String, detail: String) -> Self {
        Self { factor: factor.to_owned(), points, value, compares_to: String::new(), detail, evidence: Vec::new() }
    }

    fn from_line(line: &FactorLine<'_>) -> Self {
        let specs = || line.factor.features.iter().map(|name| FeatureSpec::named(name));
        let unit = |spec: Option<&'static FeatureSpec>| spec.map_or(FeatureUnit::Ratio, |spec| spec.unit);
        let values: Vec<String> =
            specs().zip(&line.values).map(|(spec, value)| format_value(*value, unit(spec))).collect();
        let mut bins: Vec<String> =
            specs().zip(&line.bounds).map(|(spec, bounds)| format_bin(bounds, unit(spec))).collect();
        if line.values.iter().copied().any(is_not_covered) {
            bins = vec!["not covered: a quarter of the points counts".to_owned()];
        } else if line.bounds.is_empty() {
            bins.push("undefined".to_owned());
        }
        let share = line.share.map_or_else(String::new, |share| format!(": {} of training wallets", percent(share)));
        let formula = || specs().flatten().map(|spec| spec.formula).collect::<Vec<_>>().join(" × ");
        Self {
            factor: line.factor.name.clone(),
            points: line.points,
            value: values.join(" × "),
            compares_to: format!("{}{share}", bins.join(" × ")),
            detail: line.factor.description.clone().unwrap_or_else(formula),
            evidence: specs().flatten().map(|spec| spec.evidence).collect(),
        }
    }
}

/// Returns the reasons for the score that [`judge`] gives: their points add up to it.
#[must_use]
pub fn reasons(bound: &BoundScorecard, facts: &WalletFacts<'_>) -> Vec<Reason> {
    heaviest_reasons(bound, facts, usize::MAX)
}

/// Returns the first `limit` of the [`reasons`]: the base, and the factors that weigh most.
#[must_use]
pub fn heaviest_reasons(bound: &BoundScorecard, facts: &WalletFacts<'_>, limit: usize) -> Vec<Reason> {
    let mut reasons = first_reasons(bound, facts, limit);
    reasons.truncate(limit);
    reasons
}

/// Returns the reasons, of which those beyond `limit` may be missing.
fn first_reasons(bound: &BoundScorecard, facts: &WalletFacts<'_>, limit: usize) -> Vec<Reason> {
    let base = || Reason::new("base", Score::UNKNOWN.points(), String::new(), "where nothing is known".to_owned());
    match facts.decisive() {
        Decisive::Nothing => vec![base()],
        Decisive::Label(label) => {
            let detail = format!(
                "the wallet itself is labelled {} (severity {}) by {}",
                label.category,
                label.severity.as_str(),
                label.source
            );
            let points = bound.scorecard().label_points(label.severity);
            vec![base(), Reason::new("label", points, label.category.clone(), detail)]
        }
        Decisive::Override(override_) => {
            let Override { score, reason, by, until } = override_;
            let points = Points::from_tenths(score.points().tenths() - Score::UNKNOWN.points().tenths());
            let detail = format!("set by {by} until {until}: {reason}");
            vec![base(), Reason::new("override", points, score.to_string(), detail)]
        }
        Decisive::Features(row, _) => {
            let explanation = bound.explain(row);
            let mut reasons =
                vec![Reason::new("base", explanation.base, String::new(), "where every wallet starts".to_owned())];
            // After the base, the factor that weighs most comes first.
            let mut lines: Vec<&FactorLine<'_>> = explanation.lines.iter().collect();
            lines.sort_by_key(|line| Reverse(line.points.tenths().unsigned_abs()));
            reasons.extend(lines.into_iter().take(limit).map(Reason::from_line));
            if explanation.cap.tenths() != 0 {
                let detail = "scores end at 0 and 100".to_owned();
                reasons.push(Reason::new("cap", explanation.cap, String::new(), detail));
            }
            reasons
        }
    }
}

/// A value that is not covered, as it is shown.
const NOT_COVERED_TEXT: &str = "not covered";

/// Formats a value with its unit, and says if it is not covered.
#[must_use]
pub fn format_value(value: f64, unit: FeatureUnit) -> String {
    if is_not_covered(value) {
        let value = without_mark(value);
        if value.is_nan() {
            return NOT_COVERED_TEXT.to_owned();
        }
        return format!("{} ({NOT_COVERED_TEXT})", format_value(value, unit));
    }
    if value.is_nan() {
        return "undefined".to_owned();
    }
    match unit {
        FeatureUnit::Count => format!("{value}"),
        FeatureUnit::Share => percent(value),
        FeatureUnit::Ratio => plain(value),
        FeatureUnit::Coins => format!("{} coins", plain(value)),
        FeatureUnit::Seconds => duration(value),
        FeatureUnit::Log2 => format!("{} on average", plain(libm::exp2(value) - 1.0)),
        FeatureUnit::Bits => format!("{} bits", plain(value)),
    }
}

fn format_bin(bounds: &BinBounds, unit: FeatureUnit) -> String {
    match (bounds.from, bounds.to) {
        (None, None) => "any".to_owned(),
        (None, Some(to)) => format!("up to {}", format_value(to, unit)),
        (Some(from), None) => format!("above {}", format_value(from, unit)),
        (Some(from), Some(to)) => format!("above {} up to {}", format_value(from, unit), format_value(to, unit)),
    }
}

fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 0.0 && percent < 0.1 { "under 0.1 %".to_owned() } else { format!("{percent:.1} %") }
}

/// Formats four significant digits without an exponent, unless the number is tiny.
fn plain(value: f64) -> String {
    let size = value.abs();
    let decimals = if size >= 1000.0 || size == 0.0 {
        0
    } else if size < 1e-9 {
        return format!("{value:.2e}");
    } else {
        // The logarithm is the number of digits before the point, or minus the zeros behind it.
        (3 - libm::floor(libm::log10(size)) as i32).unsigned_abs() as usize
    };
    let text = format!("{value:.decimals$}");
    if decimals == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
}

/// Formats seconds in the unit that reads best.
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

/// Returns the scorecard that ships with ARX.
///
/// # Errors
/// The errors of [`Scorecard::from_json`]; a test proves that the document is valid.
pub fn default_scorecard() -> Result<Scorecard, ScorecardError> {
    Scorecard::from_json(include_str!("default_scorecard.json"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::features::{Basis, Feature, NAMES};
    use super::super::scorecard::{NOT_COVERED, not_covered};
    use super::*;

    const OFAC: &str = "ofac";

    fn label(category: &str, kind: LabelKind, severity: Severity) -> OwnLabel {
        OwnLabel { category: category.to_owned(), kind, severity, source: OFAC.to_owned() }
    }

    fn override_() -> Override {
        Override {
            score: Score::from_tenths(123).unwrap(),
            reason: "our own wallet".to_owned(),
            by: "ann".to_owned(),
            until: "2027-01-01".to_owned(),
        }
    }

    fn row() -> FeatureRow {
        let mut row = [f64::NAN; NAMES.len()];
        row[Feature::IllicitReceivedShare as usize] = 0.9;
        row[Feature::Transactions as usize] = 3.0;
        row
    }

    /// Judges a wallet, and checks that the reasons add up to the score.
    fn judged(facts: &WalletFacts<'_>) -> (u16, RiskState, Vec<Reason>) {
        let scorecard = default_scorecard().unwrap();
        let bound = scorecard.bind(&NAMES).unwrap();
        let (judged, reasons) = (judge(&bound, facts, &Calibration::default()), reasons(&bound, facts));
        assert_eq!(reasons.iter().map(|reason| reason.points.tenths()).sum::<i32>(), judged.score.points().tenths());
        assert_eq!(judged.probability.is_some(), matches!(judged.state, RiskState::Scored | RiskState::Partial));
        assert_eq!(judged.band, scorecard.band(judged.score));
        assert_eq!(judged.missing.is_some(), matches!(judged.state, RiskState::Partial | RiskState::Unknown));
        (judged.score.tenths(), judged.state, reasons)
    }

    #[test]
    fn the_default_scorecard_reads_features_of_the_catalogue() {
        let scorecard = default_scorecard().unwrap();
        scorecard.bind(&NAMES).unwrap();
        let training = scorecard.training().unwrap();
        assert!(training.auc > 0.98 && training.rows > 8_000, "{training:?}");
        for factor in scorecard.factors().iter().filter(|factor| factor.features.len() == 1) {
            assert_eq!(
                Some(factor.monotone),
                FeatureSpec::named(&factor.name).map(|spec| spec.expected),
                "{}",
                factor.name
            );
        }
    }

    #[test]
    fn a_wallet_without_facts_scores_fifty_and_is_unknown() {
        let (score, state, reasons) = judged(&WalletFacts::default());
        assert_eq!((score, state, reasons.len()), (500, RiskState::Unknown, 1));
    }

    #[test]
    fn sanctions_override_and_label_take_precedence_in_this_order() {
        let (row, override_) = (row(), override_());
        let features = Some((&row, Coverage::FULL));
        let sanctioned = label(SANCTIONS, LabelKind::Illicit, Severity::Severe);
        let facts = WalletFacts { label: Some(&sanctioned), override_: Some(&override_), features };
        let (score, state, reasons) = judged(&facts);
        assert_eq!((score, state), (1000, RiskState::Labelled), "sanctions cannot be overridden");
        assert!(reasons[1].detail.contains(SANCTIONS) && reasons[1].detail.contains(OFAC));

        let exchange = label("exchange", LabelKind::Service, Severity::None);
        let facts = WalletFacts { label: Some(&exchange), override_: Some(&override_), features };
        let (score, state, reasons) = judged(&facts);
        assert_eq!((score, state), (123, RiskState::Overridden));
        assert!(reasons[1].detail.contains("our own wallet") && reasons[1].detail.contains("ann"));
        assert_eq!(judged(&WalletFacts { override_: None, ..facts }).0, 100, "a service");

        let miner = label("miner", LabelKind::Neutral, Severity::None);
        assert_eq!(judged(&WalletFacts { label: Some(&miner), override_: None, features }).1, RiskState::Scored);
    }

    #[test]
    fn partial_coverage_is_reported_as_partial() {
        let row = row();
        let coverage = Coverage { counterparties: 0.5, ..Coverage::FULL };
        let (_, state, reasons) = judged(&WalletFacts { features: Some((&row, coverage)), ..WalletFacts::default() });
        assert_eq!(state, RiskState::Partial);
        let illicit = reasons.iter().find(|reason| reason.factor == "illicit_received_share").unwrap();
        assert!(illicit.value == "90.0 %" && illicit.compares_to.contains("of training wallets"), "{illicit:?}");
    }

    #[test]
    fn a_score_says_which_histories_are_missing() {
        let scorecard = default_scorecard().unwrap();
        let bound = scorecard.bind(&NAMES).unwrap();
        let judged = |coverage: Coverage, row: &FeatureRow| {
            let facts = WalletFacts { features: Some((row, coverage)), ..WalletFacts::default() };
            judge(&bound, &facts, &Calibration::default())
        };
        let full = judged(Coverage::FULL, &row());
        assert_eq!((full.state, full.coverage, full.missing), (RiskState::Scored, 1.0, None));

        // Some senders are enough for their features, but their share counts.
        let some = judged(Coverage { senders: 0.75, ..Coverage::FULL }, &row());
        assert_eq!((some.state, some.missing), (RiskState::Scored, None));
        assert!(some.coverage < 1.0 && some.coverage > 0.75, "{}", some.coverage);

        let mut dealing = row();
        dealing[Feature::ReceiversPaidByIllicit as usize] = 0.9;
        let full = judged(Coverage::FULL, &dealing);
        let mut uncovered = dealing;
        for (value, feature) in uncovered.iter_mut().zip(FEATURES) {
            if feature.basis == Basis::Receivers {
                *value = not_covered(*value);
            }
        }
        let coverage = Coverage { senders: 0.75, receivers: 0.0, ..Coverage::FULL };
        let partial = judged(coverage, &uncovered);
        assert_eq!(partial.state, RiskState::Partial);
        assert_eq!(
            partial.missing.as_deref(),
            Some(
                "the histories of 25.0 % of its senders are not covered; the histories of its receivers are not covered"
            )
        );
        assert!(partial.coverage < some.coverage);
        assert!(partial.score < full.score && partial.probability < full.probability);

        let unread = judged(Coverage { transfers: 0.9, ..Coverage::FULL }, &row());
        assert_eq!(unread.missing.as_deref(), Some("10.0 % of its transfers were not read"));
    }

    proptest! {
        #[test]
        fn reasons_add_up_to_the_score(values in prop::collection::vec(
            prop_oneof![
                Just(f64::NAN), Just(NOT_COVERED), 0.0..1.0_f64, 0.0..1e6_f64, -1e9..1e9_f64,
                (0.0..1e3_f64).prop_map(not_covered),
            ],
            NAMES.len(),
        )) {
            let row: FeatureRow = values.try_into().unwrap();
            judged(&WalletFacts { features: Some((&row, Coverage::FULL)), ..WalletFacts::default() });
        }
    }

    #[test]
    fn values_are_formatted_for_people() {
        for (value, unit, text) in [
            (f64::NAN, FeatureUnit::Share, "undefined"),
            (NOT_COVERED, FeatureUnit::Share, "not covered"),
            (not_covered(0.25), FeatureUnit::Share, "25.0 % (not covered)"),
            (not_covered(-7_200.0), FeatureUnit::Seconds, "-2 h (not covered)"),
            (0.123_45, FeatureUnit::Share, "12.3 %"),
            (0.000_2, FeatureUnit::Share, "under 0.1 %"),
            (0.0, FeatureUnit::Coins, "0 coins"),
            (0.001_234_5, FeatureUnit::Coins, "0.001234 coins"),
            (12_345.678, FeatureUnit::Coins, "12346 coins"),
            (90.0, FeatureUnit::Seconds, "90 s"),
            (-7_200.0, FeatureUnit::Seconds, "-2 h"),
            (864_000.0, FeatureUnit::Seconds, "10 d"),
            (3.0, FeatureUnit::Log2, "7 on average"),
            (17.0, FeatureUnit::Count, "17"),
        ] {
            assert_eq!(format_value(value, unit), text);
        }
    }
}
