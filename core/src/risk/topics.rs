//! Reasons by topic: at most eight, whose points add up to the score, with one sentence each.

use std::cmp::Reverse;

use super::assessment::{Decisive, WalletFacts, format_value};
use super::features::{EvidenceKind, FeatureSpec, Topic};
use super::scorecard::{BoundScorecard, Explanation, FactorLine, Points, Score, is_not_covered, without_mark};

/// Factors that the sentence of a topic names.
const MAX_NAMED: usize = 2;

/// The part of a score that belongs to a topic.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicReason {
    /// The topic.
    pub topic: Topic,
    /// Points that it adds to the score.
    pub points: Points,
    /// One plain sentence.
    pub sentence: String,
    /// Names of the factors of the topic, those that weigh most first.
    pub factors: Vec<String>,
    /// Evidence for the factors that the sentence names.
    pub evidence: Vec<EvidenceKind>,
}

impl TopicReason {
    /// Makes the only reason for a score that the scorecard does not decide.
    fn only(score: Score, sentence: String) -> Self {
        Self { topic: Topic::Status, points: score.points(), sentence, factors: Vec::new(), evidence: Vec::new() }
    }
}

/// Returns the reasons for the score that [`judge`](super::judge) gives, by topic: the status
/// first, then the topics that weigh most. Their points add up to the score; where it starts, and
/// its cap, are part of the status.
#[must_use]
pub fn topic_reasons(bound: &BoundScorecard, facts: &WalletFacts<'_>) -> Vec<TopicReason> {
    match facts.decisive() {
        Decisive::Nothing => {
            vec![TopicReason::only(
                Score::UNKNOWN,
                format!(
                    "No transfer of coins between the wallet and another one is known, so its score is {}, which neither \
                     accuses nor clears it.",
                    Score::UNKNOWN
                ),
            )]
        }
        Decisive::Label(label) => {
            let score = bound.scorecard().label_score(label.severity);
            let (category, severity, source) = (&label.category, label.severity.as_str(), &label.source);
            let sentence = format!(
                "The wallet itself is labelled {category} (severity {severity}) by {source}, which takes its score from {} \
                 to {score}.",
                Score::UNKNOWN
            );
            vec![TopicReason::only(score, sentence)]
        }
        Decisive::Override(override_) => {
            let sentence = format!(
                "Its score was set to {} by {} until {}: {}.",
                override_.score, override_.by, override_.until, override_.reason
            );
            vec![TopicReason::only(override_.score, sentence)]
        }
        Decisive::Features(row, _) => by_topic(&bound.explain(row)),
    }
}

fn by_topic(explanation: &Explanation<'_>) -> Vec<TopicReason> {
    let topics: Vec<Topic> = explanation.lines.iter().map(topic_of).collect();
    let mut reasons: Vec<TopicReason> = Topic::ALL
        .into_iter()
        .filter_map(|topic| {
            let with_topics = explanation.lines.iter().zip(&topics);
            let mut lines: Vec<&FactorLine<'_>> =
                with_topics.filter(|(_, of_line)| **of_line == topic).map(|(line, _)| line).collect();
            // The sort is stable: of equal weight, the scorecard's order decides.
            lines.sort_by_key(|line| Reverse(line.points.tenths().unsigned_abs()));
            let tenths: i32 = lines.iter().map(|line| line.points.tenths()).sum();
            let named = named(&lines, tenths);
            let because = because(&named) + &uncovered_note(&lines);
            let (points, sentence) = if topic == Topic::Status {
                let points = explanation.base.tenths() + tenths + explanation.cap.tenths();
                (points, status_sentence(explanation, tenths, &because))
            } else if lines.is_empty() {
                return None;
            } else {
                (tenths, sentence(topic, tenths, &because))
            };
            Some(TopicReason {
                topic,
                points: Points::from_tenths(points),
                sentence,
                factors: lines.iter().map(|line| line.factor.name.clone()).collect(),
                evidence: evidence(&named),
            })
        })
        .collect();
    reasons.sort_by_key(|reason| {
        (reason.topic != Topic::Status, Reverse(reason.points.tenths().unsigned_abs()), reason.topic)
    });
    reasons
}

/// Returns the topic of a factor: of its first feature. A feature that the catalogue lacks
/// describes the wallet itself.
fn topic_of(line: &FactorLine<'_>) -> Topic {
    let first = line.factor.features.first().and_then(|name| FeatureSpec::named(name));
    first.map_or(Topic::Status, |feature| feature.topic)
}

fn is_covered(line: &FactorLine<'_>) -> bool {
    !line.values.iter().copied().any(is_not_covered)
}

/// Selects the factors that move the score most in the direction of their sum, those of one feature
/// first, because they read more easily. None where the points cancel out.
fn named<'l, 's>(lines: &[&'l FactorLine<'s>], sum: i32) -> Vec<&'l FactorLine<'s>> {
    let moves = |line: &&&FactorLine<'_>| {
        let tenths = line.points.tenths();
        tenths != 0 && tenths.signum() == sum.signum()
    };
    let mut named: Vec<&'l FactorLine<'s>> = lines.iter().filter(moves).copied().collect();
    named.sort_by_key(|line| line.factor.features.len());
    named.truncate(MAX_NAMED);
    named
}

fn evidence(lines: &[&FactorLine<'_>]) -> Vec<EvidenceKind> {
    let mut kinds = Vec::new();
    for feature in lines.iter().flat_map(|line| &line.factor.features).filter_map(|name| FeatureSpec::named(name)) {
        if !kinds.contains(&feature.evidence) {
            kinds.push(feature.evidence);
        }
    }
    kinds
}

/// Returns the values of factors as the end of a sentence.
fn because(named: &[&FactorLine<'_>]) -> String {
    let mut clauses: Vec<String> = Vec::new();
    for line in named {
        for (name, value) in line.factor.features.iter().zip(&line.values) {
            let clause = clause(name, without_mark(*value));
            if !clauses.contains(&clause) {
                clauses.push(clause);
            }
        }
    }
    let mut text = String::new();
    if let Some((last, before)) = clauses.split_last() {
        text.push_str(", above all because ");
        text.push_str(&before.join(", "));
        text.push_str(if before.is_empty() { "" } else { " and " });
        text.push_str(last);
    }
    text
}

/// Returns that factors give a part of their points, as the end of a sentence.
fn uncovered_note(lines: &[&FactorLine<'_>]) -> String {
    let uncovered = lines.iter().filter(|line| !is_covered(line)).count();
    let verb = if uncovered == 1 { "counts" } else { "count" };
    match uncovered {
        0 => String::new(),
        _ => format!("; {uncovered} of {} factors {verb} a quarter, because histories are not covered", lines.len()),
    }
}

fn clause(name: &str, value: f64) -> String {
    match FeatureSpec::named(name) {
        Some(feature) if !value.is_nan() => feature.sentence.replace("{}", &format_value(value, feature.unit)),
        Some(feature) if feature.uses_labels => "it has too few labelled counterparties to tell".to_owned(),
        Some(_) => "it has too few transfers to tell".to_owned(),
        None => format!("the {} is undefined", name.replace('_', " ")),
    }
}

fn sentence(topic: Topic, tenths: i32, because: &str) -> String {
    let (subject, is_plural) = match topic {
        Topic::Illicit => ("Dealings with illicit wallets", true),
        Topic::Services => ("Dealings with services", true),
        Topic::Timing => ("The timing", false),
        Topic::Amounts => ("The number and size of transfers", false),
        Topic::Counterparties => ("The number and weight of counterparties", false),
        Topic::FlowThrough => ("The flow through the wallet", false),
        Topic::Network => ("The position in the network", false),
        Topic::Status => ("The wallet itself", false),
    };
    let plural = if is_plural { "" } else { "s" };
    match change(tenths, plural) {
        Some(change) => format!("{subject} {change}{because}."),
        None if is_plural => format!("{subject} do not change the score{because}."),
        None => format!("{subject} does not change the score{because}."),
    }
}

/// Returns what points do to the score, or `None` for none.
fn change(tenths: i32, plural: &str) -> Option<String> {
    let points = Points::from_tenths(tenths.saturating_abs());
    match tenths.signum() {
        1 => Some(format!("raise{plural} the score by {points} points")),
        -1 => Some(format!("lower{plural} the score by {points} points")),
        _ => None,
    }
}

fn status_sentence(explanation: &Explanation<'_>, tenths: i32, because: &str) -> String {
    let mut text =
        format!("Every score starts at {}, and the wallet has no label or override that decides", explanation.base);
    if let Some(change) = change(tenths, "") {
        text.push_str(&format!("; its contracts and failed payments {change}"));
    }
    text.push_str(because);
    if explanation.cap.tenths() != 0 {
        text.push_str(&format!("; scores end at 0 and 100, which is {:+} points", explanation.cap));
    }
    text.push('.');
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::assessment::{default_scorecard, judge};
    use super::super::features::{Coverage, FEATURES, Feature, FeatureRow, NAMES};
    use super::super::scorecard::NOT_COVERED;
    use super::super::{Calibration, OwnLabel};
    use super::*;
    use crate::label::{LabelKind, Severity};

    /// Returns the reasons, whose points add up to the score.
    fn reasons_for(facts: &WalletFacts<'_>) -> Vec<TopicReason> {
        let bound = default_scorecard().unwrap().bind(&NAMES).unwrap();
        let (reasons, judged) = (topic_reasons(&bound, facts), judge(&bound, facts, &Calibration::default()));
        let sum: i32 = reasons.iter().map(|reason| reason.points.tenths()).sum();
        assert_eq!(sum, judged.score.points().tenths());
        assert!(reasons.len() <= 8);
        for reason in &reasons {
            assert!(reason.sentence.ends_with('.') && !reason.sentence.contains("{}"), "{}", reason.sentence);
        }
        reasons
    }

    fn of_row(row: &FeatureRow) -> Vec<TopicReason> {
        reasons_for(&WalletFacts { features: Some((row, Coverage::FULL)), ..WalletFacts::default() })
    }

    #[test]
    fn every_factor_belongs_to_one_topic() {
        let scorecard = default_scorecard().unwrap();
        let mut factors: Vec<String> =
            of_row(&[f64::NAN; NAMES.len()]).into_iter().flat_map(|reason| reason.factors).collect();
        factors.sort_unstable();
        let mut expected: Vec<String> = scorecard.factors().iter().map(|factor| factor.name.clone()).collect();
        expected.sort_unstable();
        assert_eq!(factors, expected);
        for topic in Topic::ALL {
            assert!(FEATURES.iter().any(|feature| feature.topic == topic), "{topic:?} has no feature");
        }
    }

    #[test]
    fn every_feature_has_a_clause_with_its_value() {
        for feature in FEATURES {
            assert_eq!(feature.sentence.matches("{}").count(), 1, "{}", feature.name);
            assert!(clause(feature.name, 0.5).contains(&format_value(0.5, feature.unit)), "{}", feature.name);
        }
    }

    #[test]
    fn a_sentence_names_what_weighs_most() {
        let mut row = [f64::NAN; NAMES.len()];
        row[Feature::ReceiversPaidByIllicit as usize] = 0.9;
        let reasons = of_row(&row);
        assert_eq!(reasons[0].topic, Topic::Status);
        assert!(reasons[0].sentence.starts_with("Every score starts at 45.2"), "{}", reasons[0].sentence);
        let illicit = reasons.iter().find(|reason| reason.topic == Topic::Illicit).unwrap();
        assert!(illicit.points.tenths() > 0);
        assert!(
            illicit.sentence.contains("raise the score by")
                && illicit.sentence.contains("90.0 % of its receivers are also paid by wallets labelled illicit"),
            "{}",
            illicit.sentence
        );
        assert!(illicit.evidence.contains(&EvidenceKind::ReceiversNearIllicit));
    }

    #[test]
    fn factors_that_are_not_covered_are_reported() {
        let reasons = of_row(&[NOT_COVERED; NAMES.len()]);
        let network = reasons.iter().find(|reason| reason.topic == Topic::Network).unwrap();
        assert!(
            network.sentence.contains("count a quarter, because histories are not covered"),
            "{}",
            network.sentence
        );
    }

    #[test]
    fn labels_and_unknown_wallets_have_one_reason() {
        let unknown = reasons_for(&WalletFacts::default());
        assert_eq!((unknown.len(), unknown[0].topic), (1, Topic::Status));
        let label = OwnLabel {
            category: "scam".to_owned(),
            kind: LabelKind::Illicit,
            severity: Severity::High,
            source: "list".to_owned(),
        };
        let labelled = reasons_for(&WalletFacts { label: Some(&label), ..WalletFacts::default() });
        assert_eq!(
            labelled[0].sentence,
            "The wallet itself is labelled scam (severity high) by list, which takes its score from 50.0 to 95.0."
        );
    }

    proptest! {
        #[test]
        fn points_of_topics_add_up_to_the_score(values in prop::collection::vec(
            prop_oneof![Just(f64::NAN), Just(NOT_COVERED), 0.0..1.0_f64, 0.0..1e6_f64, -1e9..1e9_f64], NAMES.len(),
        )) {
            let row: FeatureRow = values.try_into().unwrap();
            of_row(&row);
        }
    }
}
