//! Health: measurements of many objects, each judged by the thresholds of a rule.
//!
//! Owns the severity of a measurement and the choice of what is reported: everything that is not
//! well, and one line for a check that is. What cannot be measured is unknown, never well.

use std::cmp::Ordering;

use serde::Serialize;

use super::{Comparison, rounded};

/// Findings of one check that are reported. Further ones are counted.
const MAX_OBJECTS: usize = 20;

/// Severity of a finding, from the best to the worst. `Unknown` is between `Info` and `Warning`: it
/// must not be taken for health, and hides no alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthSeverity {
    /// Within its thresholds, or without anything to measure.
    Ok,
    /// Worth knowing.
    Info,
    /// Not measured, or by a rule of a metric that does not exist.
    Unknown,
    /// Needs attention.
    Warning,
    /// Needs immediate attention.
    Critical,
}

impl HealthSeverity {
    /// `ok`, `info`, `warning`, `critical` or `unknown`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Info => "info",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// A rule of a check with the thresholds that hold for one object.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckRule {
    /// Name of the check.
    pub name: String,
    /// Metric that it compares.
    pub metric: String,
    /// Side of the thresholds on which values are worse.
    pub comparison: Comparison,
    /// Threshold of an information.
    pub info: Option<f64>,
    /// Threshold of a warning.
    pub warning: Option<f64>,
    /// Threshold of a critical alert.
    pub critical: Option<f64>,
    /// Unit of metric and thresholds; may be empty.
    pub unit: String,
    /// Description of the problem, without numbers.
    pub message: String,
}

/// State of a metric for one object.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    /// The value.
    Value(f64),
    /// There is nothing to measure, for the reason given.
    NotApplicable(String),
    /// The value could not be measured, for the reason given.
    Unknown(String),
    /// The metric does not exist.
    NoMetric,
}

/// A reading with what is known about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    /// The object: a slot, a table, a disk. `None` for the server or the database.
    pub object: Option<String>,
    /// The reading.
    pub reading: Reading,
    /// Cause of a bad value, in words.
    pub cause: Option<String>,
    /// Statement that helps.
    pub statement: Option<String>,
}

/// Result of a check for one object.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HealthFinding {
    /// Name of the check.
    pub name: String,
    /// Object, if the check has several.
    pub object: Option<String>,
    /// Value, if it was measured.
    pub value: Option<f64>,
    /// Threshold that was crossed; of a check that is well, the nearest one.
    pub threshold: Option<f64>,
    /// Severity.
    pub severity: HealthSeverity,
    /// The problem and its cause, in words.
    pub cause: String,
    /// Statement that helps, where one does.
    pub statement: Option<String>,
    /// The metric of the rule does not exist: the rule can never fire.
    pub is_misnamed: bool,
}

/// Judges measurements, each with the rule that holds for it, and returns the findings, worst
/// first, then by name and object. O(n log n).
///
/// A check of several objects returns the findings that are not well, up to 20. If all are well, it
/// returns the one nearest to its threshold.
#[must_use]
pub fn judge_health(readings: &[(CheckRule, Measurement)]) -> Vec<HealthFinding> {
    let mut judged: Vec<(f64, HealthFinding)> = readings.iter().map(judge).collect();
    judged.sort_by(|(a_badness, a), (b_badness, b)| {
        let by_severity = b.severity.cmp(&a.severity);
        let by_badness = b_badness.total_cmp(a_badness);
        a.name.cmp(&b.name).then(by_severity).then(by_badness).then_with(|| a.object.cmp(&b.object))
    });
    let mut findings: Vec<HealthFinding> = Vec::new();
    for group in judged.chunk_by(|(_, a), (_, b)| a.name == b.name) {
        let bad = group.iter().take_while(|(_, finding)| finding.severity > HealthSeverity::Ok).count();
        let shown = bad.clamp(1, MAX_OBJECTS);
        findings.extend(group.iter().take(shown).map(|(_, finding)| finding.clone()));
        if bad > shown
            && let Some(last) = findings.last_mut()
        {
            last.cause = format!("{}; and {} more objects of this check", last.cause, bad - shown);
        }
    }
    findings.sort_by(|a, b| match b.severity.cmp(&a.severity) {
        Ordering::Equal => (&a.name, &a.object).cmp(&(&b.name, &b.object)),
        order => order,
    });
    findings
}

/// Judges one measurement, and returns how bad it is: larger is worse within a rule.
fn judge((rule, measurement): &(CheckRule, Measurement)) -> (f64, HealthFinding) {
    let mut finding = HealthFinding {
        name: rule.name.clone(),
        object: measurement.object.clone(),
        value: None,
        threshold: None,
        severity: HealthSeverity::Ok,
        cause: String::new(),
        statement: None,
        is_misnamed: measurement.reading == Reading::NoMetric,
    };
    let value = match &measurement.reading {
        Reading::Value(value) if !value.is_nan() => *value,
        Reading::NotApplicable(reason) => {
            finding.cause.clone_from(reason);
            return (f64::NEG_INFINITY, finding);
        }
        reading => {
            finding.severity = HealthSeverity::Unknown;
            finding.cause = match reading {
                Reading::Unknown(reason) => format!("metric \"{}\" {reason}", rule.metric),
                Reading::NoMetric => format!("metric \"{}\" does not exist: the rule is not evaluated", rule.metric),
                Reading::Value(_) | Reading::NotApplicable(_) => format!("metric \"{}\" is not a number", rule.metric),
            };
            return (0.0, finding);
        }
    };
    finding.value = Some(value);
    let badness = match rule.comparison {
        Comparison::Above => value,
        Comparison::Below => -value,
    };
    let thresholds = [
        (rule.critical, HealthSeverity::Critical),
        (rule.warning, HealthSeverity::Warning),
        (rule.info, HealthSeverity::Info),
    ];
    let set = || thresholds.iter().filter_map(|&(threshold, severity)| Some((threshold?, severity)));
    let crossed = set().find(|&(threshold, _)| rule.comparison.is_beyond(value, threshold));
    match crossed {
        Some((threshold, severity)) => {
            finding.severity = severity;
            finding.threshold = Some(threshold);
            finding.cause = describe(rule, measurement, value, threshold, severity);
            finding.statement.clone_from(&measurement.statement);
        }
        None => {
            finding.threshold = set().next_back().map(|(threshold, _)| threshold);
            finding.cause = format!("{}{}", rounded(value), unit(rule));
        }
    }
    (badness, finding)
}

fn unit(rule: &CheckRule) -> String {
    if rule.unit.is_empty() { String::new() } else { format!(" {}", rule.unit) }
}

fn describe(
    rule: &CheckRule,
    measurement: &Measurement,
    value: f64,
    threshold: f64,
    severity: HealthSeverity,
) -> String {
    let unit = unit(rule);
    let (mut shown, mut limit) = (rounded(value), rounded(threshold));
    if shown == limit {
        (shown, limit) = (value.to_string(), threshold.to_string());
    }
    let object = measurement.object.as_ref().map(|object| format!(": {object}")).unwrap_or_default();
    let cause = measurement.cause.as_ref().map(|cause| format!(" ({cause})")).unwrap_or_default();
    let (message, side, severity) = (&rule.message, rule.comparison, severity.as_str());
    format!("{message}{object}: {shown}{unit} is {side} the {severity} threshold of {limit}{unit}{cause}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(comparison: Comparison, info: Option<f64>, warning: Option<f64>, critical: Option<f64>) -> CheckRule {
        let (unit, message) = ("MB".to_owned(), "a slot holds log back".to_owned());
        CheckRule {
            name: "slot".into(),
            metric: "slot_bytes".into(),
            comparison,
            info,
            warning,
            critical,
            unit,
            message,
        }
    }

    fn at(object: &str, reading: Reading) -> Measurement {
        Measurement {
            object: Some(object.into()),
            reading,
            cause: Some("not in use".into()),
            statement: Some("x".into()),
        }
    }

    fn above() -> CheckRule {
        rule(Comparison::Above, Some(1.0), Some(10.0), Some(100.0))
    }

    #[test]
    fn the_worst_threshold_that_is_crossed_decides() {
        for (value, severity, threshold) in [
            (0.5, HealthSeverity::Ok, 1.0),
            (1.0, HealthSeverity::Ok, 1.0),
            (1.5, HealthSeverity::Info, 1.0),
            (11.0, HealthSeverity::Warning, 10.0),
            (f64::INFINITY, HealthSeverity::Critical, 100.0),
        ] {
            let findings = judge_health(&[(above(), at("a", Reading::Value(value)))]);
            assert_eq!((findings[0].severity, findings[0].threshold), (severity, Some(threshold)), "{value}");
            assert_eq!(findings[0].statement.is_some(), severity > HealthSeverity::Ok);
        }
        let below = rule(Comparison::Below, None, Some(10.0), None);
        assert_eq!(judge_health(&[(below, at("a", Reading::Value(9.0)))])[0].severity, HealthSeverity::Warning);
    }

    #[test]
    fn a_finding_names_object_value_threshold_and_cause() {
        let findings = judge_health(&[(above(), at("dead", Reading::Value(25.0)))]);
        let expected = "a slot holds log back: dead: 25 MB is above the warning threshold of 10 MB (not in use)";
        assert_eq!(findings[0].cause, expected);
    }

    #[test]
    fn what_is_not_measured_is_unknown_and_what_does_not_apply_is_well() {
        for (reading, severity, cause) in [
            (
                Reading::Unknown("cannot be measured: no".into()),
                HealthSeverity::Unknown,
                "metric \"slot_bytes\" cannot be measured: no",
            ),
            (
                Reading::NoMetric,
                HealthSeverity::Unknown,
                "metric \"slot_bytes\" does not exist: the rule is not evaluated",
            ),
            (Reading::Value(f64::NAN), HealthSeverity::Unknown, "metric \"slot_bytes\" is not a number"),
            (Reading::NotApplicable("no slot".into()), HealthSeverity::Ok, "no slot"),
        ] {
            let findings = judge_health(&[(above(), at("a", reading))]);
            assert_eq!((findings[0].severity, findings[0].cause.as_str()), (severity, cause));
            assert_eq!(findings[0].value, None);
        }
    }

    #[test]
    fn a_check_that_is_well_is_one_line_and_one_that_is_not_a_bounded_number() {
        let well: Vec<_> =
            (0..50).map(|n| (above(), at(&n.to_string(), Reading::Value(f64::from(n) / 100.0)))).collect();
        let findings = judge_health(&well);
        assert_eq!((findings.len(), findings[0].object.as_deref()), (1, Some("49")));
        let bad: Vec<_> = (0..50).map(|n| (above(), at(&n.to_string(), Reading::Value(f64::from(n) + 20.0)))).collect();
        let findings = judge_health(&bad);
        assert_eq!(findings.len(), MAX_OBJECTS);
        assert!(findings.iter().any(|finding| finding.cause.ends_with("; and 30 more objects of this check")));
        assert!(findings.iter().any(|finding| finding.object.as_deref() == Some("49")));
    }

    #[test]
    fn the_worst_comes_first() {
        let named = |name: &str, value| (CheckRule { name: name.into(), ..above() }, at("a", value));
        let findings = judge_health(&[
            named("a", Reading::Value(0.0)),
            named("b", Reading::NoMetric),
            named("c", Reading::Value(20.0)),
            named("d", Reading::Value(2.0)),
            named("e", Reading::Value(200.0)),
        ]);
        assert_eq!(findings.iter().map(|finding| finding.name.as_str()).collect::<String>(), "ecbda");
    }

    proptest! {
        #[test]
        fn every_check_is_reported_and_a_worse_value_is_never_less_severe(values in prop::collection::vec(-1e3_f64..1e3, 1..60)) {
            let readings: Vec<_> = values.iter().enumerate().map(|(n, value)| {
                (CheckRule { name: format!("c{}", n % 7), ..above() }, at(&n.to_string(), Reading::Value(*value)))
            }).collect();
            let findings = judge_health(&readings);
            for name in readings.iter().map(|(rule, _)| &rule.name) {
                prop_assert!(findings.iter().any(|finding| &finding.name == name));
            }
            for pair in findings.windows(2) {
                prop_assert!(pair[0].severity >= pair[1].severity);
            }
        }
    }
}
