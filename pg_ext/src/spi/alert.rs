//! Alert rules, and the metrics that they judge.

use arx_core::alert::{Comparison, Facts, Rule};

use super::stream::ColumnType::{Double, Text};
use super::stream::PreparedQuery;
use crate::error::SqlError;

thread_local! {
    static RULES: PreparedQuery = const { PreparedQuery::with_any_plan(c"
SELECT r.rule, r.metric, r.comparison, r.warning::double precision, r.critical::double precision, r.unit, r.message
  FROM (SELECT DISTINCT ON (a.rule) a.* FROM arx.alert_rules AS a ORDER BY a.rule, a.builtin) AS r
 WHERE r.enabled
 ORDER BY r.rule", &[Text, Text, Text, Double, Double, Text, Text]) };

    static FACTS: PreparedQuery = const { PreparedQuery::with_any_plan(c"
SELECT f.metric, f.value::double precision FROM arx.performance_facts() AS f", &[Text, Double]) };
}

/// Returns the enabled rules.
pub(crate) fn alert_rules() -> Result<Vec<Rule>, SqlError> {
    let mut rules = Vec::new();
    RULES.with(|query| {
        query.stream(&[], |slot| {
            let comparison = match slot.text(2)? {
                "above" => Comparison::Above,
                "below" => Comparison::Below,
                other => return Err(SqlError::corrupt(format!("comparison \"{other}\" is unknown"))),
            };
            rules.push(Rule {
                rule: slot.text(0)?.to_owned(),
                metric: slot.text(1)?.to_owned(),
                comparison,
                warning: slot.double(3)?,
                critical: slot.double(4)?,
                unit: slot.text(5)?.to_owned(),
                message: slot.text(6)?.to_owned(),
            });
            Ok(())
        })
    })?;
    Ok(rules)
}

/// Returns the metrics of the server. One without a value at present is NaN.
pub(crate) fn performance_facts() -> Result<Facts, SqlError> {
    let mut facts = Facts::new();
    FACTS.with(|query| {
        query.stream(&[], |slot| {
            facts.insert(slot.text(0)?.to_owned(), slot.double(1)?.unwrap_or(f64::NAN));
            Ok(())
        })
    })?;
    Ok(facts)
}
