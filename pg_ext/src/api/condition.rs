//! Conditions of wallet alert rules.

use arx_core::alert::condition::{Condition, FACTS, FactGroup, FactType};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::row::sql_row;
use crate::arguments::{JsonArgument, required};
use crate::error::SqlError;

const ROOT: &str = "condition";

fn parse(condition: Option<JsonArgument<'_>>) -> Result<Condition, SqlError> {
    Ok(Condition::parse(&required(ROOT, condition)?.parse(ROOT)?, ROOT)?)
}

/// Checks a condition, and returns the facts that it names.
#[pg_extern(immutable, parallel_safe)]
pub(crate) fn check_alert_condition(condition: Option<JsonArgument<'_>>) -> Result<Vec<String>, ErrorReport> {
    Ok(parse(condition)?.facts().into_iter().map(str::to_owned).collect())
}

/// Translates a condition into an expression over the columns of an alias. Numbers and texts of it
/// are numbered after those of other conditions.
#[pg_extern(immutable, parallel_safe)]
#[allow(clippy::type_complexity)]
pub(crate) fn compile_alert_condition(
    condition: Option<JsonArgument<'_>>,
    alias: Option<&str>,
    numbers_before: Option<i32>,
    texts_before: Option<i32>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(expression, String),
            name!(numbers, Vec<String>),
            name!(texts, Vec<String>),
            name!(facts, Vec<String>),
            name!(groups, Vec<String>),
        ),
    >,
    ErrorReport,
> {
    let condition = parse(condition)?;
    let alias = required("alias", alias)?;
    if alias.is_empty() || !alias.bytes().all(|byte| byte.is_ascii_lowercase()) {
        return Err(SqlError::argument(format!("alias must be lower-case letters, not \"{alias}\"")).into());
    }
    let before = |name, value| -> Result<usize, SqlError> {
        let value = required(name, value)?;
        usize::try_from(value).map_err(|_| SqlError::argument(format!("{name} must not be negative, not {value}")))
    };
    let (numbers, texts) = (before("numbers_before", numbers_before)?, before("texts_before", texts_before)?);
    let sql = condition.to_sql(alias, numbers, texts);
    let row = CompiledRow {
        expression: sql.expression,
        numbers: sql.numbers,
        texts: sql.texts,
        facts: condition.facts().into_iter().map(str::to_owned).collect(),
        groups: condition.groups().into_iter().map(|group| group.as_str().to_owned()).collect(),
    };
    Ok(TableIterator::once(row.into_row()))
}

sql_row! {
    struct CompiledRow {
        expression: String,
        numbers: Vec<String>,
        texts: Vec<String>,
        facts: Vec<String>,
        groups: Vec<String>,
    }
}

/// Translates a condition into a predicate of SQL/JSON path over an object of facts, and returns it
/// with the facts that the condition names after it. A set of rows would cost more than parsing.
#[pg_extern(immutable, parallel_safe)]
pub(crate) fn alert_condition_parts(condition: Option<JsonArgument<'_>>) -> Result<Vec<String>, ErrorReport> {
    let condition = parse(condition)?;
    let facts = condition.facts().into_iter().map(str::to_owned);
    Ok(std::iter::once(condition.to_json_path()).chain(facts).collect())
}

/// Returns the facts that conditions may name.
#[pg_extern(immutable, parallel_safe)]
#[allow(clippy::type_complexity)]
pub(crate) fn alert_facts() -> TableIterator<
    'static,
    (name!(fact, String), name!(kind, String), name!(group_name, String), name!(description, String)),
> {
    TableIterator::new(FACTS.iter().map(|fact| {
        let group: FactGroup = fact.group;
        (fact.name.to_owned(), fact.kind.as_str().to_owned(), group.as_str().to_owned(), fact.description.to_owned())
    }))
}

/// Returns the facts as the columns of a record.
#[pg_extern(immutable, parallel_safe)]
pub(crate) fn alert_fact_columns() -> String {
    let column = |name: &str, kind: FactType| match kind {
        FactType::Number => format!("{name} numeric"),
        FactType::Text => format!("{name} text"),
        FactType::Boolean => format!("{name} boolean"),
    };
    FACTS.iter().map(|fact| column(fact.name, fact.kind)).collect::<Vec<_>>().join(", ")
}
