//! Rows of an answer, in one form whatever store they come from: counts are numbers, and texts
//! beyond 2^53, which JSON's readers round; amounts are texts without trailing zeros.

use arx_core::analytics::{Column, ColumnKind, Exactness, Query};
use serde_json::{Map, Value};

use crate::error::SidecarError;

/// Largest whole number that every reader of JSON keeps.
const MAX_NUMBER: u64 = 1 << 53;

/// Brings the rows of a store into the form of the catalogue.
///
/// # Errors
/// [`SidecarError::Protocol`] for a row without a column, or with a value of another type.
pub(super) fn canonical(query: &Query, rows: Vec<Map<String, Value>>) -> Result<Vec<Value>, SidecarError> {
    let row = |mut row: Map<String, Value>| {
        let columns = query.columns.iter().map(|column| {
            let value = row.remove(column.name).and_then(|value| cell(column, value));
            let detail = || format!("a store answered query {} with a wrong column {}", query.name, column.name);
            Ok((column.name.to_owned(), value.ok_or_else(|| SidecarError::Protocol { detail: detail() })?))
        });
        Ok(Value::Object(columns.collect::<Result<Map<String, Value>, SidecarError>>()?))
    };
    rows.into_iter().map(row).collect()
}

fn cell(column: &Column, value: Value) -> Option<Value> {
    match (column.kind, value) {
        (ColumnKind::Count, value) => count(&value).map(|count| {
            if count > MAX_NUMBER { Value::String(count.to_string()) } else { Value::Number(count.into()) }
        }),
        (_, Value::Null) => Some(Value::Null),
        (ColumnKind::Amount, Value::String(text)) => Some(Value::String(trimmed(&text)?.to_owned())),
        (ColumnKind::Text | ColumnKind::Day | ColumnKind::Time, value @ Value::String(_)) => Some(value),
        _ => None,
    }
}

fn count(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// Removes the zeros at the end of a decimal number.
fn trimmed(text: &str) -> Option<&str> {
    let is_decimal = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || b".-".contains(&byte));
    is_decimal.then(|| if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text })
}

/// Returns whether ClickHouse's answer has the numbers that PostgreSQL would give.
pub(super) fn is_exact(exactness: Exactness, rows: &[Value]) -> bool {
    match exactness {
        Exactness::Exact => true,
        Exactness::Partial(_) => false,
        Exactness::UpTo { count: most, columns } => {
            rows.iter().all(|row| columns.iter().all(|name| row.get(name).and_then(count).is_some_and(|n| n <= most)))
        }
    }
}

#[cfg(test)]
mod tests {
    use arx_core::analytics::query;
    use serde_json::json;

    use super::*;

    fn rows(value: Value) -> Vec<Map<String, Value>> {
        serde_json::from_value(value).unwrap()
    }

    fn totals(senders: Value, volume: Value) -> Value {
        json!([{ "day": "2024-01-01", "transactions": 1, "volume": volume, "volume_usd": "0", "senders": senders,
                 "receivers": "2", "min_gas_price": null, "max_gas_price": "9007199254740993", "further": 1 }])
    }

    #[test]
    fn large_counts_are_texts_and_amounts_have_one_form() {
        let query = query("network_totals").unwrap();
        let row = canonical(query, rows(totals(json!("9007199254740993"), json!("1.500")))).unwrap().remove(0);
        assert_eq!(
            (&row["senders"], &row["receivers"], &row["volume"]),
            (&json!("9007199254740993"), &json!(2), &json!("1.5"))
        );
        assert_eq!((&row["max_gas_price"], &row["min_gas_price"]), (&json!("9007199254740993"), &Value::Null));
        assert!(row.get("further").is_none());
        let row = canonical(query, rows(totals(json!(MAX_NUMBER), json!("100")))).unwrap().remove(0);
        assert_eq!((&row["senders"], &row["volume"]), (&json!(MAX_NUMBER), &json!("100")));
        for wrong in [json!(-1), json!(1.5), json!(null), json!("x")] {
            assert!(canonical(query, rows(totals(wrong, json!("1")))).is_err());
        }
        for wrong in [json!("1e3"), json!(""), json!(1), json!("inf")] {
            assert!(canonical(query, rows(totals(json!(1), wrong))).is_err());
        }
        assert!(canonical(query, rows(json!([{ "day": "2024-01-01" }]))).is_err());
    }

    #[test]
    fn distinct_counts_are_exact_up_to_the_stated_number() {
        let query = query("network_totals").unwrap();
        let exactness = query.warehouse.unwrap();
        let Exactness::UpTo { count, .. } = exactness else { panic!("{exactness:?}") };
        for (senders, exact) in [(count, true), (count + 1, false)] {
            let rows = canonical(query, rows(totals(json!(senders), json!("1")))).unwrap();
            assert_eq!(is_exact(exactness, &rows), exact);
        }
        assert!(is_exact(exactness, &[]) && is_exact(Exactness::Exact, &[]) && !is_exact(Exactness::Partial(""), &[]));
    }
}
