//! `/v1/wallets`: profiles as JSON, read through the cache, and their OpenAPI document. Errors are
//! problem details (RFC 9457).

#![expect(unused_qualifications, reason = "code that `utoipa` makes")]

use std::sync::Arc;

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::sync::RwLock;
use utoipa::{IntoParams, OpenApi, ToSchema};

use crate::cache::{Answer, Origin, Profile, WalletKey, WalletReader};
use crate::error::{Chain, SidecarError};
use crate::retry::ErrorKind;
use crate::settings::Settings;

/// Wallets of one request.
const MAX_WALLETS: usize = 10_000;

/// Size limit of a request's body, in bytes.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// Seconds after which a client may try again.
const RETRY_SECONDS: &str = "1";

/// The reader of this process. It is replaced when the database behind its address is another one.
pub(super) struct Wallets {
    settings: Settings,
    reader: RwLock<WalletReader>,
}

impl Wallets {
    /// Connects the reader.
    ///
    /// # Errors
    /// Errors of connecting to PostgreSQL.
    pub(super) async fn connect(settings: &Settings) -> Result<Self, SidecarError> {
        let reader = WalletReader::connect(settings).await?;
        Ok(Self { settings: settings.clone(), reader: RwLock::new(reader) })
    }

    pub(super) async fn reader(&self) -> WalletReader {
        self.reader.read().await.clone()
    }

    /// Connects again after the database was replaced.
    async fn recover(&self, error: &SidecarError) {
        if matches!(error, SidecarError::OtherDatabase { .. })
            && let Ok(reader) = WalletReader::connect(&self.settings).await
        {
            *self.reader.write().await = reader;
        }
    }
}

/// The routes.
pub(super) fn router(wallets: Arc<Wallets>) -> Router {
    Router::new()
        .route("/v1/wallets/{network}/{address}", get(one))
        .route("/v1/wallets", post(many))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(wallets)
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "ARX",
        description = "Profiles of wallets, and analytics queries, true at a stated snapshot of PostgreSQL"
    ),
    paths(one, many)
)]
pub(super) struct WalletsDocument;

/// An error, as RFC 9457 describes it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Problem {
    /// `about:blank`: the title says what the status means.
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
}

impl Problem {
    #[cfg(test)]
    pub(super) const fn status(&self) -> u16 {
        self.status
    }

    pub(super) fn new(status: StatusCode, detail: String) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        Self { kind: "about:blank", title, status: status.as_u16(), detail }
    }
}

impl From<&SidecarError> for Problem {
    fn from(error: &SidecarError) -> Self {
        let status = match error {
            SidecarError::Input { .. } => StatusCode::BAD_REQUEST,
            error => match error.kind() {
                // PostgreSQL rejects a network that is not registered.
                ErrorKind::BadData => StatusCode::BAD_REQUEST,
                ErrorKind::Transient | ErrorKind::Busy => StatusCode::SERVICE_UNAVAILABLE,
                ErrorKind::Configuration | ErrorKind::Permanent => StatusCode::INTERNAL_SERVER_ERROR,
            },
        };
        Self::new(status, Chain(error).to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static(RETRY_SECONDS));
        }
        response
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

#[derive(FromRequest)]
#[from_request(via(Json), rejection(Problem))]
struct Body<T>(T);

#[derive(FromRequestParts)]
#[from_request(via(Path), rejection(Problem))]
pub(super) struct Parts<T>(pub(super) T);

#[derive(FromRequestParts)]
#[from_request(via(Query), rejection(Problem))]
pub(super) struct Options<T>(pub(super) T);

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct Freshness {
    /// A snapshot as `pg_current_snapshot()` prints it; the profile is as new, or newer.
    not_older_than: Option<String>,
}

/// A profile, with the snapshot of PostgreSQL that it is true at.
#[derive(Debug, Serialize, ToSchema)]
struct Found<'a> {
    profile: &'a Profile,
    source: Origin,
    snapshot: &'a str,
}

impl<'a> From<&'a (Arc<Answer>, Origin)> for Found<'a> {
    fn from((answer, source): &'a (Arc<Answer>, Origin)) -> Self {
        Self { profile: &answer.profile, source: *source, snapshot: &answer.snapshot }
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Wanted {
    network: String,
    address: String,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct WantedWallets {
    /// At most 10,000.
    wallets: Vec<Wanted>,
    /// The profiles are as new as this snapshot, or newer.
    not_older_than: Option<String>,
}

/// Profiles in the order of the request.
#[derive(Debug, Serialize, ToSchema)]
struct FoundWallets<'a> {
    wallets: Vec<Found<'a>>,
}

/// Returns the profile of a wallet. A wallet that the database does not know is not `known`.
#[utoipa::path(
    get, path = "/v1/wallets/{network}/{address}",
    params(("network" = String, Path, description = "such as ethereum"), ("address" = String, Path), Freshness),
    responses(
        (status = 200, body = Found),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "PostgreSQL is busy or down")
    )
)]
async fn one(
    State(wallets): State<Arc<Wallets>>,
    Parts((network, address)): Parts<(String, String)>,
    Options(freshness): Options<Freshness>,
) -> Result<Response, Problem> {
    let wallet = WalletKey::parse(&address, &network).map_err(|error| Problem::from(&error))?;
    let found = wallets.reader().await.get(&wallet, freshness.not_older_than.as_deref()).await;
    match found {
        Ok(found) => Ok(Json(Found::from(&found)).into_response()),
        Err(error) => {
            wallets.recover(&error).await;
            Err(Problem::from(&*error))
        }
    }
}

/// Returns the profiles of many wallets, in the order of the request.
#[utoipa::path(
    post, path = "/v1/wallets",
    request_body = WantedWallets,
    responses(
        (status = 200, body = FoundWallets),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "PostgreSQL is busy or down")
    )
)]
async fn many(State(wallets): State<Arc<Wallets>>, Body(wanted): Body<WantedWallets>) -> Result<Response, Problem> {
    let WantedWallets { wallets: wanted, not_older_than } = wanted;
    if wanted.len() > MAX_WALLETS {
        let detail = format!("a request may name at most {MAX_WALLETS} wallets, not {}", wanted.len());
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    let keys = wanted.iter().map(|wanted| WalletKey::parse(&wanted.address, &wanted.network));
    let keys: Vec<WalletKey> = keys.collect::<Result<_, _>>().map_err(|error| Problem::from(&error))?;
    match wallets.reader().await.get_many(&keys, not_older_than.as_deref()).await {
        Ok(found) => Ok(Json(FoundWallets { wallets: found.iter().map(Found::from).collect() }).into_response()),
        Err(error) => {
            wallets.recover(&error).await;
            Err(Problem::from(&*error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_tell_wrong_requests_from_servers_that_are_down() {
        let wrong = Problem::from(&SidecarError::Input { detail: "address \"0x12\" is too short".into() });
        assert_eq!((wrong.status, wrong.title), (400, "Bad Request"));
        assert!(wrong.detail.contains("0x12"));
        let busy = Problem::from(&SidecarError::Overloaded { sessions: 4 });
        assert_eq!(busy.status, 503);
        let response = busy.into_response();
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(response.headers()["retry-after"], RETRY_SECONDS);
    }

    #[test]
    fn the_document_names_every_path_and_schema() {
        let document = serde_json::to_value(WalletsDocument::openapi()).unwrap();
        for path in ["/v1/wallets", "/v1/wallets/{network}/{address}"] {
            assert!(document["paths"][path].is_object(), "{path}");
        }
        for schema in ["Profile", "Risk", "Problem", "Found", "FoundWallets", "WantedWallets", "Origin"] {
            assert!(document["components"]["schemas"][schema].is_object(), "{schema}: {document}");
        }
    }
}
