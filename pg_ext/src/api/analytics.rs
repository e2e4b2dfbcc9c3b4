//! The catalogue of analytics queries: what it holds, and requests checked against it.

use arx_core::analytics::{Arguments, CATALOGUE, Query, Request, RequestError, Wanted};
use chrono::{Days, NaiveDate};
use pgrx::JsonB;
use pgrx::datum::Date;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::{Map, Value, json};

use super::call::call;
use super::row::sql_row;
use crate::arguments::{JsonArgument, required};
use crate::error::SqlError;
use crate::spi;

sql_row! {
    struct CatalogueRow {
        query: String,
        description: String,
        parameters: JsonB,
        columns: JsonB,
        reads: Vec<String>,
        clickhouse: Option<String>,
    }
}

impl CatalogueRow {
    fn of(query: &Query) -> Self {
        let parameters: Map<String, Value> =
            query.parameters.iter().map(|parameter| (parameter.name().to_owned(), json!(parameter.about()))).collect();
        let columns: Vec<Value> =
            query.columns.iter().map(|column| json!({ "name": column.name, "type": column.kind.name() })).collect();
        Self {
            query: query.name.to_owned(),
            description: query.about.to_owned(),
            parameters: JsonB(Value::Object(parameters)),
            columns: JsonB(Value::Array(columns)),
            reads: query.reads.iter().map(|topic| topic.name().to_owned()).collect(),
            clickhouse: query.warehouse.as_ref().map(|exactness| exactness.about()),
        }
    }
}

#[pg_extern(immutable, parallel_safe)]
#[allow(clippy::type_complexity)]
fn query_catalogue() -> TableIterator<
    'static,
    (
        name!(query, String),
        name!(description, String),
        name!(parameters, JsonB),
        name!(columns, JsonB),
        name!(reads, Vec<String>),
        name!(clickhouse, Option<String>),
    ),
> {
    TableIterator::new(CATALOGUE.iter().map(|query| CatalogueRow::of(query).into_row()))
}

sql_row! {
    struct RequestRow {
        network: String,
        address: Option<String>,
        token: Option<String>,
        first_day: Option<String>,
        end_day: Option<String>,
        row_limit: Option<i32>,
        exact: bool,
        max_age: Option<f64>,
        not_older_than: Option<String>,
        clickhouse: Option<String>,
        statement: String,
    }
}

impl RequestRow {
    fn of(request: Request) -> Self {
        let Request { query, arguments, wanted } = request;
        let Arguments { network, address, token, range, limit } = arguments;
        let Wanted { exact, max_age, not_older_than } = wanted;
        Self {
            network: network.name().to_owned(),
            address: address.map(|address| address.into_string()),
            token: token.map(|token| token.into_string()),
            first_day: range.map(|(from, _)| from.to_string()),
            end_day: range.map(|(_, to)| to.to_string()),
            row_limit: limit.and_then(|limit| i32::try_from(limit).ok()),
            exact,
            max_age: max_age.map(|age| age.as_secs_f64()),
            not_older_than,
            clickhouse: query.warehouse.as_ref().map(|exactness| exactness.about()),
            statement: spi::analytics_statement(query.id).to_owned(),
        }
    }
}

/// An error of a request, or of looking its network up.
struct Failure(SqlError);

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        Self(error.into())
    }
}

fn resolve(name: &str, parameters: JsonArgument<'_>, today: Date) -> Result<Request, SqlError> {
    let Value::Object(parameters) = parameters.parse("parameters")? else {
        return Err(
            SqlError::argument("parameters must be a JSON object").hint("For example {\"network\": \"ethereum\"}.")
        );
    };
    let epoch = NaiveDate::default();
    let today = u64::try_from(today.to_unix_epoch_days())
        .ok()
        .and_then(|days| epoch.checked_add_days(Days::new(days)))
        .ok_or_else(|| SqlError::argument("today is out of range"))?;
    let network = |network: &str| spi::registered_network(network).map_err(Failure);
    Request::parse(name, parameters, today, network).map_err(|Failure(error)| error)
}

/// Checks a request of the catalogue. `today` is the present day (UTC).
#[pg_extern(stable, parallel_safe)]
#[allow(clippy::type_complexity)]
fn resolve_query(
    name: Option<&str>,
    parameters: Option<JsonArgument<'_>>,
    today: Option<Date>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(network, String),
            name!(address, Option<String>),
            name!(token, Option<String>),
            name!(first_day, Option<String>),
            name!(end_day, Option<String>),
            name!(row_limit, Option<i32>),
            name!(exact, bool),
            name!(max_age, Option<f64>),
            name!(not_older_than, Option<String>),
            name!(clickhouse, Option<String>),
            name!(statement, String),
        ),
    >,
    ErrorReport,
> {
    let name = required("name", name)?;
    let (parameters, today) = (required("parameters", parameters)?, required("today", today)?);
    let request = call(|| Ok(resolve(name, parameters, today)?))?;
    Ok(TableIterator::once(RequestRow::of(request).into_row()))
}
