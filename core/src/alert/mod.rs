//! Alert rules over facts: thresholds are data, and so are the facts.
//!
//! Owns the comparison and the wording. The caller supplies the facts (views of PostgreSQL,
//! counters of the sidecar) and delivers the alerts. A rule whose metric has no value raises no
//! alert and is reported as not evaluated: silence must not be taken for health.
//!
//! ```
//! use arx_core::alert::{Comparison, Facts, Rule, AlertSeverity, evaluate};
//!
//! let rule = Rule {
//!     rule: "connections".into(),
//!     metric: "connections_used".into(),
//!     comparison: Comparison::Above,
//!     warning: Some(80.0),
//!     critical: Some(95.0),
//!     unit: "%".into(),
//!     message: "connections are running out".into(),
//! };
//! let evaluation = evaluate(&[rule], &Facts::from_iter([("connections_used", 97.5)]))?;
//! assert_eq!(evaluation.alerts[0].severity, AlertSeverity::Critical);
//! let message = "connections are running out: 97.5 % is above the critical threshold of 95 %";
//! assert_eq!(evaluation.alerts[0].message, message);
//! # Ok::<(), arx_core::alert::AlertError>(())
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Side of a threshold on which a rule fires. A value equal to the threshold does not fire it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Comparison {
    /// Larger values are worse.
    Above,
    /// Smaller values are worse.
    Below,
}

impl Comparison {
    /// `above` or `below`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Above => "above",
            Self::Below => "below",
        }
    }

    fn is_beyond(self, value: f64, threshold: f64) -> bool {
        match self {
            Self::Above => value > threshold,
            Self::Below => value < threshold,
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Comparison {
    type Err = AlertError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "above" => Ok(Self::Above),
            "below" => Ok(Self::Below),
            _ => Err(AlertError::UnknownComparison { text: text.to_owned() }),
        }
    }
}

/// Urgency of an alert. Ordered: `Warning < Critical`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertSeverity {
    /// Needs attention.
    Warning,
    /// Needs immediate attention.
    Critical,
}

impl AlertSeverity {
    /// `warning` or `critical`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for AlertSeverity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Thresholds for one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Name of the rule.
    pub rule: String,
    /// Name of the fact that it compares.
    pub metric: String,
    /// Side of the thresholds on which the rule fires.
    pub comparison: Comparison,
    /// Threshold of a warning.
    pub warning: Option<f64>,
    /// Threshold of a critical alert; not nearer to good values than `warning`.
    pub critical: Option<f64>,
    /// Unit of metric and thresholds; may be empty.
    pub unit: String,
    /// Description of the problem, without numbers; they are added.
    pub message: String,
}

/// Values of metrics by name.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Facts(BTreeMap<String, f64>);

impl Facts {
    /// Creates an empty set of facts.
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Sets a metric's value. NaN stands for a metric that exists but has no value at present.
    pub fn insert(&mut self, metric: impl Into<String>, value: f64) {
        self.0.insert(metric.into(), value);
    }

    /// Returns true if the metric exists, even when it has no value.
    #[must_use]
    pub fn contains(&self, metric: &str) -> bool {
        self.0.contains_key(metric)
    }

    /// Returns a metric's value, `None` if it is missing or NaN.
    #[must_use]
    pub fn get(&self, metric: &str) -> Option<f64> {
        self.0.get(metric).copied().filter(|value| !value.is_nan())
    }
}

impl<N: Into<String>> FromIterator<(N, f64)> for Facts {
    fn from_iter<I: IntoIterator<Item = (N, f64)>>(facts: I) -> Self {
        Self(facts.into_iter().map(|(metric, value)| (metric.into(), value)).collect())
    }
}

/// A rule that fired.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Alert {
    /// Name of the rule.
    pub rule: String,
    /// Urgency of the alert.
    pub severity: AlertSeverity,
    /// The rule's message with value, threshold and unit.
    pub message: String,
    /// Value of the metric.
    pub value: f64,
    /// Threshold that the value is beyond.
    pub threshold: f64,
}

/// The reason why a rule was not evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MissingCause {
    /// The metric does not exist, so the rule can never fire.
    UnknownMetric,
    /// The metric has no value at present.
    NoValue,
}

/// A rule that was not evaluated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// Name of the rule.
    pub rule: String,
    /// Metric without a value.
    pub metric: String,
    /// Reason why the metric has no value.
    pub cause: MissingCause,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = match self.cause {
            MissingCause::UnknownMetric => "does not exist",
            MissingCause::NoValue => "has no value",
        };
        write!(f, "metric \"{}\" {problem}: the rule is not evaluated", self.metric)
    }
}

/// Result of a set of rules. A rule in neither list was evaluated and did not fire.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Evaluation {
    /// Rules that fired, in the order of the rules.
    pub alerts: Vec<Alert>,
    /// Rules that were not evaluated, in the order of the rules.
    pub missing: Vec<Missing>,
}

/// An invalid rule or comparison.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum AlertError {
    /// The text is not a comparison.
    #[error("comparison {text:?} is unknown; expected above or below")]
    UnknownComparison {
        /// The text.
        text: String,
    },
    /// The threshold is NaN.
    #[error("alert rule {rule:?} has a {severity} threshold that is not a number; set a number or none")]
    NotANumber {
        /// Name of the rule.
        rule: String,
        /// Severity of the threshold.
        severity: AlertSeverity,
    },
    /// The warning threshold is beyond the critical threshold.
    #[error(
        "alert rule {rule:?} fires {comparison} its thresholds, yet its warning threshold {warning} is {comparison} \
         its critical threshold {critical}; exchange the two"
    )]
    WrongOrder {
        /// Name of the rule.
        rule: String,
        /// Side of the thresholds on which the rule fires.
        comparison: Comparison,
        /// The warning threshold.
        warning: f64,
        /// The critical threshold.
        critical: f64,
    },
    /// The rule has no threshold and can never fire.
    #[error(
        "alert rule {rule:?} has no threshold and can never fire; set a warning or a critical threshold, or remove it"
    )]
    NoThreshold {
        /// Name of the rule.
        rule: String,
    },
}

/// Compares every rule with the facts. Critical wins over warning, so a rule fires at most once.
/// O(rules × log facts).
///
/// # Errors
/// [`AlertError::NotANumber`], [`AlertError::WrongOrder`] and [`AlertError::NoThreshold`], each
/// naming the first such rule; then nothing is evaluated.
pub fn evaluate(rules: &[Rule], facts: &Facts) -> Result<Evaluation, AlertError> {
    rules.iter().try_for_each(check)?;
    let mut evaluation = Evaluation::default();
    for rule in rules {
        match facts.get(&rule.metric) {
            Some(value) => evaluation.alerts.extend(fire(rule, value)),
            None => evaluation.missing.push(missing(rule, facts)),
        }
    }
    Ok(evaluation)
}

fn check(rule: &Rule) -> Result<(), AlertError> {
    let name = || rule.rule.clone();
    for (threshold, severity) in [(rule.warning, AlertSeverity::Warning), (rule.critical, AlertSeverity::Critical)] {
        if threshold.is_some_and(f64::is_nan) {
            return Err(AlertError::NotANumber { rule: name(), severity });
        }
    }
    match (rule.warning, rule.critical) {
        (None, None) => Err(AlertError::NoThreshold { rule: name() }),
        (Some(warning), Some(critical)) if rule.comparison.is_beyond(warning, critical) => {
            Err(AlertError::WrongOrder { rule: name(), comparison: rule.comparison, warning, critical })
        }
        _ => Ok(()),
    }
}

fn missing(rule: &Rule, facts: &Facts) -> Missing {
    let cause = if facts.contains(&rule.metric) { MissingCause::NoValue } else { MissingCause::UnknownMetric };
    Missing { rule: rule.rule.clone(), metric: rule.metric.clone(), cause }
}

fn fire(rule: &Rule, value: f64) -> Option<Alert> {
    let thresholds = [(rule.critical, AlertSeverity::Critical), (rule.warning, AlertSeverity::Warning)];
    let mut reached = thresholds.into_iter().filter_map(|(threshold, severity)| Some((threshold?, severity)));
    let (threshold, severity) = reached.find(|&(threshold, _)| rule.comparison.is_beyond(value, threshold))?;
    Some(Alert {
        rule: rule.rule.clone(),
        severity,
        message: describe(rule, severity, value, threshold),
        value,
        threshold,
    })
}

fn describe(rule: &Rule, severity: AlertSeverity, value: f64, threshold: f64) -> String {
    let unit = if rule.unit.is_empty() { String::new() } else { format!(" {}", rule.unit) };
    let (mut shown, mut limit) = (rounded(value), rounded(threshold));
    if shown == limit {
        (shown, limit) = (value.to_string(), threshold.to_string());
    }
    format!("{}: {shown}{unit} is {} the {severity} threshold of {limit}{unit}", rule.message, rule.comparison)
}

/// Rounds to three decimals, unless that would hide a small value or overflow a large one.
fn rounded(value: f64) -> String {
    let thousandths = (value * 1000.0).round();
    if thousandths == 0.0 || !thousandths.is_finite() { value.to_string() } else { (thousandths / 1000.0).to_string() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(comparison: Comparison, warning: Option<f64>, critical: Option<f64>) -> Rule {
        let (rule, metric) = ("cache".to_owned(), "cache_hit_ratio".to_owned());
        Rule { rule, metric, comparison, warning, critical, unit: "%".into(), message: "cache hit ratio is low".into() }
    }

    fn fired(rule: Rule, value: f64) -> Option<(AlertSeverity, f64)> {
        let evaluation = evaluate(&[rule], &Facts::from_iter([("cache_hit_ratio", value)])).unwrap();
        assert!(evaluation.missing.is_empty() && evaluation.alerts.len() <= 1);
        evaluation.alerts.first().map(|alert| (alert.severity, alert.threshold))
    }

    #[test]
    fn critical_wins_over_warning_and_a_value_at_the_threshold_does_not_fire() {
        let below = || rule(Comparison::Below, Some(90.0), Some(80.0));
        assert_eq!(fired(below(), 95.0), None);
        assert_eq!(fired(below(), 90.0), None);
        assert_eq!(fired(below(), 89.9), Some((AlertSeverity::Warning, 90.0)));
        assert_eq!(fired(below(), 80.0), Some((AlertSeverity::Warning, 90.0)));
        assert_eq!(fired(below(), 79.0), Some((AlertSeverity::Critical, 80.0)));
        let above = || rule(Comparison::Above, Some(80.0), Some(90.0));
        assert_eq!(fired(above(), 80.0), None);
        assert_eq!(fired(above(), 81.0), Some((AlertSeverity::Warning, 80.0)));
        assert_eq!(fired(above(), f64::INFINITY), Some((AlertSeverity::Critical, 90.0)));
    }

    #[test]
    fn one_threshold_is_enough_and_none_is_an_error() {
        assert_eq!(fired(rule(Comparison::Above, Some(1.0), None), 2.0), Some((AlertSeverity::Warning, 1.0)));
        assert_eq!(fired(rule(Comparison::Above, None, Some(1.0)), 2.0), Some((AlertSeverity::Critical, 1.0)));
        let error = evaluate(&[rule(Comparison::Above, None, None)], &Facts::new()).unwrap_err();
        assert_eq!(error, AlertError::NoThreshold { rule: "cache".into() });
    }

    #[test]
    fn a_metric_without_a_value_is_reported_with_its_cause_and_raises_no_alert() {
        for (facts, cause, message) in [
            (
                Facts::new(),
                MissingCause::UnknownMetric,
                "metric \"cache_hit_ratio\" does not exist: the rule is not evaluated",
            ),
            (
                Facts::from_iter([("cache_hit_ratio", f64::NAN)]),
                MissingCause::NoValue,
                "metric \"cache_hit_ratio\" has no value: the rule is not evaluated",
            ),
        ] {
            let evaluation = evaluate(&[rule(Comparison::Below, Some(90.0), None)], &facts).unwrap();
            let expected = Missing { rule: "cache".into(), metric: "cache_hit_ratio".into(), cause };
            assert_eq!((evaluation.alerts.len(), evaluation.missing.as_slice()), (0, [expected].as_slice()));
            assert_eq!(evaluation.missing[0].to_string(), message);
        }
    }

    #[test]
    fn messages_have_value_threshold_and_unit() {
        let message = |value: f64, unit: &str| {
            let rule = Rule { unit: unit.into(), ..rule(Comparison::Below, Some(90.0), None) };
            evaluate(&[rule], &Facts::from_iter([("cache_hit_ratio", value)])).unwrap().alerts.remove(0).message
        };
        let expected = "cache hit ratio is low: 81.235 % is below the warning threshold of 90 %";
        assert_eq!(message(81.234_567, "%"), expected);
        assert!(message(0.000_012, "").ends_with(": 0.000012 is below the warning threshold of 90"));
        assert!(message(89.999_999, "").contains(": 89.999999 is below"));
    }

    #[test]
    fn invalid_rules_are_errors_that_name_the_rule() {
        let wrong = evaluate(&[rule(Comparison::Below, Some(80.0), Some(90.0))], &Facts::new()).unwrap_err();
        assert!(matches!(wrong, AlertError::WrongOrder { warning: 80.0, critical: 90.0, .. }));
        assert!(wrong.to_string().contains("\"cache\""), "{wrong}");
        let nan = evaluate(&[rule(Comparison::Above, Some(1.0), Some(f64::NAN))], &Facts::new()).unwrap_err();
        assert_eq!(nan, AlertError::NotANumber { rule: "cache".into(), severity: AlertSeverity::Critical });
        assert_eq!("above".parse(), Ok(Comparison::Above));
        assert_eq!("over".parse::<Comparison>(), Err(AlertError::UnknownComparison { text: "over".into() }));
    }

    proptest! {
        #[test]
        fn a_worse_value_is_never_less_severe(a in -1e9_f64..1e9, b in -1e9_f64..1e9, warning in -1e9_f64..1e9, gap in 0.0_f64..1e9) {
            let (better, worse) = if a < b { (a, b) } else { (b, a) };
            let above = || rule(Comparison::Above, Some(warning), Some(warning + gap));
            prop_assert!(fired(above(), better).map(|f| f.0) <= fired(above(), worse).map(|f| f.0));
            let below = || rule(Comparison::Below, Some(warning), Some(warning - gap));
            prop_assert!(fired(below(), worse).map(|f| f.0) <= fired(below(), better).map(|f| f.0));
        }
    }
}
