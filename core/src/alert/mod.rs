//! Alerts: thresholds are data, and so are the measurements that they judge.
//!
//! Owns the comparison and the wording. The caller supplies the measurements (views of PostgreSQL)
//! and delivers the findings. What has no value is unknown: silence must not be taken for health.
//!
//! ```
//! use arx_core::alert::{CheckRule, Comparison, HealthSeverity, Measurement, Reading};
//! use arx_core::alert::judge_health;
//!
//! let rule = CheckRule {
//!     name: "connections".into(),
//!     metric: "connections_used".into(),
//!     comparison: Comparison::Above,
//!     info: None,
//!     warning: Some(80.0),
//!     critical: Some(95.0),
//!     unit: "%".into(),
//!     message: "connections are running out".into(),
//! };
//! let reading = Reading::Value(97.5);
//! let measurement = Measurement { object: None, reading, cause: None, statement: None };
//! let findings = judge_health(&[(rule, measurement)]);
//! assert_eq!(findings[0].severity, HealthSeverity::Critical);
//! let cause = "connections are running out: 97.5 % is above the critical threshold of 95 %";
//! assert_eq!(findings[0].cause, cause);
//! ```

pub mod condition;
pub mod filter;
mod health;
mod json_path;
pub mod transfers;
pub mod wide_sum;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use health::{CheckRule, HealthFinding, HealthSeverity, Measurement, Reading, judge_health};

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
        severity: &'static str,
    },
    /// The threshold of a severity is beyond that of a more serious one.
    #[error(
        "alert rule {rule:?} fires {comparison} its thresholds, yet its {mild_severity} threshold {mild} is \
         {comparison} its {severity} threshold {threshold}; exchange the two"
    )]
    WrongOrder {
        /// Name of the rule.
        rule: String,
        /// Side of the thresholds on which the rule fires.
        comparison: Comparison,
        /// The less serious severity.
        mild_severity: &'static str,
        /// Its threshold.
        mild: f64,
        /// The more serious severity.
        severity: &'static str,
        /// Its threshold.
        threshold: f64,
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

/// Checks the thresholds of a rule.
///
/// # Errors
/// [`AlertError::NotANumber`], [`AlertError::WrongOrder`] and [`AlertError::NoThreshold`].
pub fn check_thresholds(rule: &CheckRule) -> Result<(), AlertError> {
    let name = || rule.name.clone();
    let thresholds = [(rule.info, "info"), (rule.warning, "warning"), (rule.critical, "critical")];
    let mut milder: Option<(f64, &'static str)> = None;
    for (threshold, severity) in thresholds {
        let Some(threshold) = threshold else { continue };
        if threshold.is_nan() {
            return Err(AlertError::NotANumber { rule: name(), severity });
        }
        if let Some((mild, mild_severity)) = milder
            && rule.comparison.is_beyond(mild, threshold)
        {
            let comparison = rule.comparison;
            return Err(AlertError::WrongOrder { rule: name(), comparison, mild_severity, mild, severity, threshold });
        }
        milder = Some((threshold, severity));
    }
    if milder.is_none() { Err(AlertError::NoThreshold { rule: name() }) } else { Ok(()) }
}

/// Rounds to three decimals, unless that would hide a small value or overflow a large one.
fn rounded(value: f64) -> String {
    let thousandths = (value * 1000.0).round();
    if thousandths == 0.0 || !thousandths.is_finite() { value.to_string() } else { (thousandths / 1000.0).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(comparison: Comparison, info: Option<f64>, warning: Option<f64>, critical: Option<f64>) -> CheckRule {
        let (name, metric) = ("cache".to_owned(), "cache_hit_ratio".to_owned());
        CheckRule { name, metric, comparison, info, warning, critical, unit: "%".into(), message: "x".into() }
    }

    #[test]
    fn invalid_rules_are_errors_that_name_the_rule() {
        let wrong = check_thresholds(&rule(Comparison::Below, None, Some(80.0), Some(90.0))).unwrap_err();
        assert!(matches!(wrong, AlertError::WrongOrder { mild: 80.0, threshold: 90.0, .. }));
        assert!(wrong.to_string().contains("\"cache\""), "{wrong}");
        let wrong = check_thresholds(&rule(Comparison::Above, Some(5.0), None, Some(1.0))).unwrap_err();
        assert!(matches!(wrong, AlertError::WrongOrder { mild_severity: "info", severity: "critical", .. }));
        let nan = check_thresholds(&rule(Comparison::Above, None, Some(1.0), Some(f64::NAN))).unwrap_err();
        assert_eq!(nan, AlertError::NotANumber { rule: "cache".into(), severity: "critical" });
        let none = check_thresholds(&rule(Comparison::Above, None, None, None)).unwrap_err();
        assert_eq!(none, AlertError::NoThreshold { rule: "cache".into() });
        for valid in [(Some(1.0), None, None), (None, Some(1.0), Some(1.0)), (Some(1.0), Some(2.0), Some(3.0))] {
            assert_eq!(check_thresholds(&rule(Comparison::Above, valid.0, valid.1, valid.2)), Ok(()));
        }
    }

    #[test]
    fn comparisons_are_read_by_name() {
        assert_eq!("above".parse(), Ok(Comparison::Above));
        assert_eq!("over".parse::<Comparison>(), Err(AlertError::UnknownComparison { text: "over".into() }));
    }
}
