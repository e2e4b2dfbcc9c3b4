//! Alert rules, and the metrics that they judge.

use arx_core::alert::{Comparison, Facts, Rule};

use super::for_each_row;
use crate::error::SqlError;

const RULES: &str = "
SELECT r.rule, r.metric, r.comparison, r.warning, r.critical, r.unit, r.message
  FROM arx.effective_alert_rules AS r
 WHERE r.enabled
 ORDER BY r.rule";

const FACTS: &str = "SELECT f.metric, f.value FROM arx.performance_facts() AS f";

/// Returns the enabled rules.
pub(crate) fn alert_rules() -> Result<Vec<Rule>, SqlError> {
    let mut rules = Vec::new();
    for_each_row(RULES, &[], |row| {
        let comparison = match row.required::<String>(3)?.as_str() {
            "above" => Comparison::Above,
            "below" => Comparison::Below,
            other => return Err(SqlError::corrupt(format!("comparison \"{other}\" is unknown"))),
        };
        rules.push(Rule {
            rule: row.required(1)?,
            metric: row.required(2)?,
            comparison,
            warning: row.optional(4)?,
            critical: row.optional(5)?,
            unit: row.required(6)?,
            message: row.required(7)?,
        });
        Ok(())
    })?;
    Ok(rules)
}

/// Returns the metrics of the server. One without a value at present is NaN.
pub(crate) fn performance_facts() -> Result<Facts, SqlError> {
    let mut facts = Facts::new();
    for_each_row(FACTS, &[], |row| {
        facts.insert(row.required::<String>(1)?, row.optional(2)?.unwrap_or(f64::NAN));
        Ok(())
    })?;
    Ok(facts)
}
