//! `/v1/query`: the catalogue of analytics queries. Errors are problem details (RFC 9457).

use std::sync::Arc;

use arx_core::analytics::{CATALOGUE, Parameter, RequestError};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router as Routes};
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};

use super::wallets::{Options, Parts, Problem};
use crate::error::Chain;
use crate::router::{Answer, Explanation, RouteError, Router};

/// The routes.
pub(super) fn routes(router: Arc<Router>) -> Routes {
    Routes::new()
        .route("/v1/query", get(catalogue))
        .route("/v1/query/{name}", get(answer))
        .route("/v1/query/{name}/explain", get(explain))
        .with_state(router)
}

#[derive(OpenApi)]
#[openapi(paths(catalogue, answer, explain))]
pub(super) struct QueriesDocument;

impl From<&RouteError> for Problem {
    fn from(error: &RouteError) -> Self {
        let status = match error {
            RouteError::Request(RequestError::UnknownQuery { .. }) => StatusCode::NOT_FOUND,
            RouteError::Request(_)
            | RouteError::UnregisteredNetwork { .. }
            | RouteError::Snapshot { .. }
            | RouteError::NotReached { .. } => StatusCode::BAD_REQUEST,
            RouteError::Forbidden => StatusCode::FORBIDDEN,
            RouteError::NoStore { .. } => StatusCode::SERVICE_UNAVAILABLE,
            RouteError::Server(error) => return Self::from(error),
        };
        Self::new(status, Chain(error).to_string())
    }
}

/// A query of the catalogue.
#[derive(Debug, Serialize, ToSchema)]
struct Listed {
    query: &'static str,
    description: &'static str,
    parameters: Vec<Described>,
    columns: Vec<Typed>,
    /// Exactness of ClickHouse's answer; absent if it has none.
    clickhouse: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Described {
    name: &'static str,
    description: &'static str,
}

#[derive(Debug, Serialize, ToSchema)]
struct Typed {
    name: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
}

/// Lists the queries with their parameters and columns.
#[utoipa::path(get, path = "/v1/query", responses((status = 200, body = Vec<Listed>)))]
async fn catalogue() -> Json<Vec<Listed>> {
    let described = |parameter: &Parameter| Described { name: parameter.name(), description: parameter.about() };
    let listed = CATALOGUE.iter().map(|query| Listed {
        query: query.name,
        description: query.about,
        parameters: query.parameters.iter().map(described).collect(),
        columns: query.columns.iter().map(|column| Typed { name: column.name, kind: column.kind.name() }).collect(),
        clickhouse: query.warehouse.as_ref().map(|exactness| exactness.about()),
    });
    Json(listed.collect())
}

/// Answers a query from the store that fits. Counts are numbers, and texts above 2^53; amounts are
/// texts.
#[utoipa::path(
    get, path = "/v1/query/{name}",
    params(
        ("name" = String, Path, description = "name of a query of the catalogue"),
        ("exact" = Option<bool>, Query, description = "no approximation, and the numbers of one snapshot"),
        ("max_age" = Option<f64>, Query, description = "highest age in seconds"),
        ("not_older_than" = Option<String>, Query, description = "a snapshot as pg_current_snapshot() prints it"),
        ("store" = Option<String>, Query, description = "the only store that may answer: postgresql or clickhouse"),
        ("network" = String, Query), ("address" = Option<String>, Query), ("token" = Option<String>, Query),
        ("from" = Option<String>, Query), ("to" = Option<String>, Query), ("limit" = Option<u32>, Query)
    ),
    responses(
        (status = 200, body = Answer),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 403, body = Problem, content_type = "application/problem+json", description = "arx_reader may not read the rows"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "there is no such query"),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "no store can answer as asked")
    )
)]
async fn answer(
    State(router): State<Arc<Router>>,
    Parts(name): Parts<String>,
    Options(parameters): Options<Vec<(String, String)>>,
) -> Result<Json<Answer>, Problem> {
    let request = router.parse(&name, &parameters).await.map_err(|error| Problem::from(&error))?;
    router.answer(&request).await.map(Json).map_err(|error| Problem::from(&*error))
}

/// Shows which stores could answer a query, and which one would.
#[utoipa::path(
    get, path = "/v1/query/{name}/explain",
    params(("name" = String, Path, description = "takes the parameters of the query")),
    responses((status = 200, body = Explanation), (status = 400, body = Problem, content_type = "application/problem+json"))
)]
async fn explain(
    State(router): State<Arc<Router>>,
    Parts(name): Parts<String>,
    Options(parameters): Options<Vec<(String, String)>>,
) -> Result<Json<Explanation>, Problem> {
    let request = router.parse(&name, &parameters).await.map_err(|error| Problem::from(&error))?;
    router.explain(&request).await.map(Json).map_err(|error| Problem::from(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_status_of_their_cause() {
        let status = |error: RouteError| Problem::from(&error).status();
        let unknown = RequestError::UnknownQuery { name: "x".into(), names: Vec::new() };
        assert_eq!(status(unknown.into()), 404);
        assert_eq!(status(RequestError::Repeated { name: "from".into() }.into()), 400);
        assert_eq!(status(RouteError::UnregisteredNetwork { network: "x".into() }), 400);
        assert_eq!(status(RouteError::Forbidden), 403);
        assert_eq!(status(RouteError::NoStore { reasons: vec!["clickhouse: down".into()] }), 503);
    }

    #[test]
    fn the_document_describes_every_route() {
        let document = serde_json::to_value(QueriesDocument::openapi()).unwrap();
        for path in ["/v1/query", "/v1/query/{name}", "/v1/query/{name}/explain"] {
            assert!(document["paths"][path].is_object(), "{path}");
        }
        for parameter in Parameter::ALL {
            assert!(document["paths"]["/v1/query/{name}"].to_string().contains(parameter.name()));
        }
    }
}
