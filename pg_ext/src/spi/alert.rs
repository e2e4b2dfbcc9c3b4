//! Rules of health checks, and the measurements that they judge.

use arx_core::alert::{CheckRule, Comparison, Measurement, Reading, check_thresholds};

use super::stream::ColumnType::{Bool, Double, Text};
use super::stream::{PreparedQuery, Slot};
use crate::error::SqlError;

thread_local! {
    // The rules with their measurements, and the thresholds of each: those of the most specific row
    // of alert_thresholds, or else of the rule.
    static READINGS: PreparedQuery = const { PreparedQuery::with_any_plan(c"
WITH rules AS MATERIALIZED (
    SELECT DISTINCT ON (a.rule) a.rule::text, a.metric::text, a.comparison::text, a.info::double precision,
           a.warning::double precision, a.critical::double precision, a.unit::text, a.message::text, a.enabled
      FROM arx.alert_rules AS a ORDER BY a.rule, a.builtin
), facts AS MATERIALIZED (
    SELECT f.* FROM arx.health_facts() AS f
)
SELECT r.rule, r.metric, r.comparison,
       CASE WHEN t.is_set THEN t.info ELSE r.info END,
       CASE WHEN t.is_set THEN t.warning ELSE r.warning END,
       CASE WHEN t.is_set THEN t.critical ELSE r.critical END,
       r.unit, r.message, f.metric IS NOT NULL, f.object, f.value, f.applies, f.cause, f.statement
  FROM rules AS r
  LEFT JOIN facts AS f ON f.metric = r.metric
  LEFT JOIN LATERAL (
    SELECT true AS is_set, o.info::double precision, o.warning::double precision, o.critical::double precision, o.enabled
      FROM arx.alert_thresholds AS o
     WHERE o.rule = r.rule
       AND (o.database IS NULL OR pg_catalog.current_database() LIKE o.database)
       AND (o.object IS NULL OR f.object LIKE o.object)
     ORDER BY o.object IS NULL, o.database IS NULL, o.threshold_id DESC
     LIMIT 1
  ) AS t ON true
 WHERE r.enabled AND coalesce(t.enabled, true)
 ORDER BY r.rule, f.object", &[Text, Text, Text, Double, Double, Double, Text, Text, Bool, Text, Double, Bool, Text, Text]) };
}

/// Returns the enabled rules with their measurements, and the thresholds that hold for each.
pub(crate) fn health_readings() -> Result<Vec<(CheckRule, Measurement)>, SqlError> {
    let mut readings = Vec::new();
    READINGS.with(|query| {
        query.stream(&[], |slot| {
            let rule = rule(&slot)?;
            check_thresholds(&rule)?;
            readings.push((rule, measurement(&slot)?));
            Ok(())
        })
    })?;
    Ok(readings)
}

fn rule(slot: &Slot<'_>) -> Result<CheckRule, SqlError> {
    Ok(CheckRule {
        name: slot.text(0)?.to_owned(),
        metric: slot.text(1)?.to_owned(),
        comparison: match slot.text(2)? {
            "above" => Comparison::Above,
            "below" => Comparison::Below,
            other => return Err(SqlError::corrupt(format!("comparison \"{other}\" is unknown"))),
        },
        info: slot.double(3)?,
        warning: slot.double(4)?,
        critical: slot.double(5)?,
        unit: slot.text(6)?.to_owned(),
        message: slot.text(7)?.to_owned(),
    })
}

fn measurement(slot: &Slot<'_>) -> Result<Measurement, SqlError> {
    let text = |column| slot.optional_text(column).map(|text| text.map(str::to_owned));
    let (value, cause) = (slot.double(10)?, text(12)?);
    let without_value = || cause.clone().unwrap_or_else(|| "has no value at present".to_owned());
    let reading = match (slot.is_true(8)?, value) {
        (false, _) => Reading::NoMetric,
        (true, Some(value)) => Reading::Value(value),
        (true, None) if slot.is_true(11)? => Reading::Unknown(without_value()),
        (true, None) => Reading::NotApplicable(without_value()),
    };
    Ok(Measurement { object: text(9)?, reading, cause, statement: text(13)? })
}
