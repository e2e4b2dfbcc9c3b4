//! Elasticsearch and OpenSearch, as far as their documentation gives both the same API: indexes,
//! the bulk API, and deletion by query.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use url::Url;

use crate::error::{Doing, SidecarError};
use crate::servers::http::{self, HttpClient};

/// Time limit of a request. A batch that is stored later is sent again with the same versions.
const TIMEOUT: Duration = Duration::from_secs(120);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest answer that is read.
const MAX_ANSWER: usize = 64 << 20;
/// Characters of an answer that an error quotes.
const QUOTED: usize = 300;

/// Documents that one request deletes at most, so that it ends long before its time limit.
const DELETED_AT_ONCE: u64 = 10_000;

const JSON: &str = "application/json";
const SERVER: &str = "the search engine";

/// The authorisation of requests.
#[derive(Debug)]
pub(crate) enum Authorization {
    None,
    /// User and password.
    Basic(String, SecretString),
    ApiKey(SecretString),
}

pub(super) struct SearchClient {
    url: Url,
    authorization: Option<SecretString>,
    client: HttpClient,
}

/// A document with the line of its action.
#[derive(Debug, Clone)]
pub(super) struct Document {
    pub(super) id: String,
    pub(super) lines: String,
}

/// The outcome of a batch. Documents that are in none of the lists are stored.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Positions of documents that the server was too busy for.
    pub(super) busy: Vec<usize>,
    /// Positions of documents that the server does not take, and why.
    pub(super) refused: Vec<(usize, String)>,
    /// Documents of which a newer version is stored.
    pub(super) newer: usize,
}

#[derive(Deserialize)]
struct BulkAnswer {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    index: ItemResult,
}

#[derive(Deserialize)]
struct ItemResult {
    #[serde(rename = "_id")]
    id: String,
    status: u16,
    error: Option<ItemError>,
}

#[derive(Deserialize)]
struct ItemError {
    #[serde(rename = "type")]
    kind: String,
    reason: Option<String>,
}

/// An answer of another status than the expected ones.
#[derive(Debug)]
pub(super) enum Failure {
    /// Waiting helps: too many requests, or the server is not ready.
    Busy(SidecarError),
    /// The batch is too large.
    TooLarge,
    Other(SidecarError),
}

impl From<SidecarError> for Failure {
    fn from(error: SidecarError) -> Self {
        Self::Other(error)
    }
}

impl SearchClient {
    pub(super) fn new(url: &str, authorization: Authorization) -> Result<Self, SidecarError> {
        let (url, client) = http::client_of(url, SERVER, SERVER, CONNECT_TIMEOUT)?;
        let authorization = match authorization {
            Authorization::None => None,
            Authorization::Basic(user, password) => {
                Some(format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.expose_secret()))).into())
            }
            Authorization::ApiKey(key) => Some(format!("ApiKey {}", key.expose_secret()).into()),
        };
        Ok(Self { url, authorization, client })
    }

    /// Returns the databases that the indexes of this name were created for, `None` for an index
    /// that does not say. An alias may have several; a name that does not exist has none.
    ///
    /// # Errors
    /// Answers other than 2xx and 404, and those that are no mappings.
    pub(super) async fn owners(&self, index: &str) -> Result<Vec<Option<String>>, Failure> {
        let (status, text) = self.send(Method::GET, &format!("{index}/_mapping"), JSON, String::new()).await?;
        if status == StatusCode::NOT_FOUND {
            return Ok(Vec::new());
        }
        if !status.is_success() {
            return Err(self.failure(status, &text));
        }
        let indexes: BTreeMap<String, Value> = serde_json::from_str(&text).doing("read the mappings of the index")?;
        let owner = |index: &Value| index.pointer("/mappings/_meta/arx_source")?.as_str().map(str::to_owned);
        Ok(indexes.values().map(owner).collect())
    }

    /// Creates the index unless it exists.
    ///
    /// # Errors
    /// Answers other than 2xx, unless they say that the index exists.
    pub(super) async fn create_index(&self, index: &str, body: &str) -> Result<(), Failure> {
        let (status, text) = self.send(Method::PUT, index, JSON, body.to_owned()).await?;
        // The answer to an earlier attempt may be lost.
        let exists = status == StatusCode::BAD_REQUEST && text.contains("resource_already_exists_exception");
        if status.is_success() || exists { Ok(()) } else { Err(self.failure(status, &text)) }
    }

    /// Deletes the index if it exists.
    ///
    /// # Errors
    /// Answers other than 2xx and 404.
    pub(super) async fn delete_index(&self, index: &str) -> Result<(), Failure> {
        let (status, text) = self.send(Method::DELETE, index, JSON, String::new()).await?;
        if status.is_success() || status == StatusCode::NOT_FOUND { Ok(()) } else { Err(self.failure(status, &text)) }
    }

    /// Stores documents, each at least in its version.
    pub(super) async fn bulk(&self, documents: &[Document]) -> Result<Outcome, Failure> {
        let body: String = documents.iter().map(|document| document.lines.as_str()).collect();
        let answer = self.expect(Method::POST, "_bulk", "application/x-ndjson", body).await?;
        outcome(documents, &answer).map_err(Failure::Other)
    }

    /// Deletes documents that no pass since this version has stored, except those with these ids.
    /// Returns how many: a bounded number at a time, and 0 when none is left.
    ///
    /// # Errors
    /// Answers other than 2xx, and documents that cannot be deleted. [`Failure::Busy`] if all that
    /// are left are being changed.
    pub(super) async fn delete_older(&self, index: &str, version: i64, kept: &[String]) -> Result<u64, Failure> {
        self.expect(Method::POST, &format!("{index}/_refresh"), JSON, String::new()).await?;
        let query = json!({"query": {"bool": {
            "filter": [{"range": {"synced": {"lt": version}}}],
            "must_not": [{"ids": {"values": kept}}]
        }}});
        let path = format!("{index}/_delete_by_query?conflicts=proceed&max_docs={DELETED_AT_ONCE}");
        let answer = self.expect(Method::POST, &path, JSON, query.to_string()).await?;
        let answer: Value = serde_json::from_str(&answer).doing("read the answer of a deletion")?;
        if let Some([failure, ..]) = answer.get("failures").and_then(|failures| failures.as_array().map(Vec::as_slice))
        {
            let shown: String = failure.to_string().chars().take(QUOTED).collect();
            let detail = format!("{SERVER} does not delete documents of wallets that are gone: {shown}");
            return Err(SidecarError::Protocol { detail }.into());
        }
        let number = |name: &str| answer.get(name).and_then(Value::as_u64).unwrap_or_default();
        let (deleted, conflicts) = (number("deleted"), number("version_conflicts"));
        if deleted == 0 && conflicts > 0 {
            let detail = format!("{conflicts} documents of wallets that are gone are changed by another process");
            return Err(Failure::Busy(SidecarError::Protocol { detail }));
        }
        Ok(deleted)
    }

    /// Returns the body of an answer of 2xx.
    async fn expect(&self, method: Method, path: &str, kind: &str, body: String) -> Result<String, Failure> {
        let (status, text) = self.send(method, path, kind, body).await?;
        if status.is_success() { Ok(text) } else { Err(self.failure(status, &text)) }
    }

    fn failure(&self, status: StatusCode, text: &str) -> Failure {
        let shown: String = text.chars().take(QUOTED).collect();
        let detail = format!("{SERVER} at {} answers {}: {shown}", self.address(), status.as_u16());
        match status.as_u16() {
            413 => Failure::TooLarge,
            408 | 429 | 500..=599 => Failure::Busy(SidecarError::Protocol { detail }),
            _ => Failure::Other(SidecarError::Input { detail }),
        }
    }

    fn address(&self) -> String {
        let port = self.url.port_or_known_default().unwrap_or_default();
        format!("{}:{port}", self.url.host_str().unwrap_or_default())
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: String,
    ) -> Result<(StatusCode, String), Failure> {
        let base = self.url.as_str().trim_end_matches('/');
        let mut request = Request::builder().method(method).uri(format!("{base}/{path}")).header("content-type", kind);
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization.expose_secret());
        }
        let request = request.body(Full::from(body)).map_err(|error| SidecarError::Configuration {
            detail: format!("the URL of {SERVER} is wrong: {error}"),
        })?;
        let lost = |source: Box<dyn std::error::Error + Send + Sync>| {
            Failure::Busy(SidecarError::Unreachable { server: SERVER, address: self.address(), source })
        };
        let answer = tokio::time::timeout(TIMEOUT, self.client.request(request)).await;
        let answer = answer.map_err(|error| lost(error.into()))?.map_err(|error| lost(error.into()))?;
        let (head, body) = answer.into_parts();
        let body = tokio::time::timeout(TIMEOUT, Limited::new(body, MAX_ANSWER).collect()).await;
        let body = body.map_err(|error| lost(error.into()))?.map_err(lost)?;
        Ok((head.status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
    }
}

/// Reads the answer to a batch: one item a document, in their order.
fn outcome(documents: &[Document], answer: &str) -> Result<Outcome, SidecarError> {
    let answer: BulkAnswer = serde_json::from_str(answer).doing("read the answer of the bulk API")?;
    let same = answer.items.len() == documents.len()
        && answer.items.iter().zip(documents).all(|(item, document)| item.index.id == document.id);
    if !same {
        return Err(SidecarError::Protocol { detail: "the answer of the bulk API is about other documents".into() });
    }
    let mut outcome = Outcome::default();
    for (position, Item { index }) in answer.items.into_iter().enumerate() {
        match index.status {
            200..=299 => {}
            409 => outcome.newer += 1,
            408 | 429 | 500..=599 => outcome.busy.push(position),
            status => {
                let reason = index.error.map(|error| format!("{}: {}", error.kind, error.reason.unwrap_or_default()));
                outcome.refused.push((position, reason.unwrap_or_else(|| format!("status {status}"))));
            }
        }
    }
    Ok(outcome)
}

/// Returns the lines of a document: the action, with an id that is always the same and a version
/// that only grows, and the source.
pub(super) fn document(index: &str, id: String, version: i64, source: &str) -> Result<Document, SidecarError> {
    let action = json!({
        "index": {"_index": index, "_id": id, "version": version, "version_type": "external_gte"}
    });
    // A line break would end the document.
    let source: &RawValue = serde_json::from_str(source).doing("read a document")?;
    let source = source.get().replace(['\n', '\r'], " ");
    Ok(Document { id, lines: format!("{action}\n{source}\n") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_item_of_an_answer_decides_about_its_document() {
        let documents: Vec<Document> =
            ["a", "b", "c", "d"].iter().map(|id| document("i", (*id).into(), 7, "{}").unwrap()).collect();
        assert!(documents[0].lines.contains(r#""version":7,"version_type":"external_gte""#), "{:?}", documents[0]);
        let answer = r#"{"errors": true, "items": [{"index": {"_id": "a", "status": 201}},
            {"index": {"_id": "b", "status": 429, "error": {"type": "rejected", "reason": "busy"}}},
            {"index": {"_id": "c", "status": 409, "error": {"type": "version_conflict", "reason": null}}},
            {"index": {"_id": "d", "status": 400, "error": {"type": "mapper_parsing", "reason": "no"}}}]}"#;
        let outcome = outcome(&documents, answer).unwrap();
        assert_eq!((outcome.busy, outcome.newer), (vec![1], 1));
        assert_eq!(outcome.refused, [(3, "mapper_parsing: no".to_owned())]);
        assert!(super::outcome(&documents[..1], answer).is_err());
        assert!(super::outcome(&documents, "[]").is_err());
    }

    #[test]
    fn a_url_with_a_password_is_refused_and_not_shown() {
        let error = SearchClient::new("https://u:s3cr3t@x", Authorization::None).err().unwrap().to_string();
        assert!(!error.contains("s3cr3t"), "{error}");
    }
}
