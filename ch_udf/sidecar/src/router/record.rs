//! PostgreSQL as a store of answers: the rights of a reader, a few sessions, and no more callers at
//! a time than these.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arx_core::analytics::Request;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use tokio_postgres::{Client, Statement};

use super::watch::AS_READER;
use crate::cache::{Identity, identity};
use crate::error::{Doing, SidecarError};
use crate::servers::postgres;
use crate::settings::Settings;

const SESSIONS: usize = 4;

/// Time that the server gets to end a statement.
const GRACE: Duration = Duration::from_millis(500);

/// Settings of these sessions, after those of a reader.
const SESSION: &str = "SET enable_seqscan = on; SET plan_cache_mode = force_custom_plan";

/// One statement, and so one snapshot.
const ANSWER: &str = "
    SELECT pg_current_snapshot()::text, coalesce(jsonb_agg(r.line ORDER BY r.number), '[]')::text
      FROM arx.run_query($1, $2::text::jsonb) WITH ORDINALITY AS r (line, number)";

struct Session {
    client: Client,
    answer: Statement,
    identity: Identity,
}

pub(super) struct Database(Arc<Inner>);

struct Inner {
    settings: Settings,
    idle: Mutex<Vec<Session>>,
    permits: Arc<Semaphore>,
}

/// Rows, and the snapshot that they are true at.
pub(super) struct Read {
    pub(super) snapshot: String,
    pub(super) identity: Identity,
    pub(super) rows: Vec<Map<String, Value>>,
}

impl Database {
    pub(super) fn new(settings: &Settings) -> Self {
        let permits = Arc::new(Semaphore::new(SESSIONS));
        Self(Arc::new(Inner { settings: settings.clone(), idle: Mutex::new(Vec::new()), permits }))
    }

    /// Answers a query. The server ends a statement that exceeds the limit. A client that goes away
    /// does not end it, so a place is taken for as long as it runs.
    ///
    /// # Errors
    /// [`SidecarError::Postgres`], [`SidecarError::Overloaded`], [`SidecarError::Json`], and errors
    /// of connecting.
    pub(super) async fn answer(&self, request: &Request, limit: Duration) -> Result<Read, SidecarError> {
        let waiting = tokio::time::timeout(limit, Arc::clone(&self.0.permits).acquire_owned());
        let Ok(Ok(permit)) = waiting.await else {
            return Err(SidecarError::Overloaded { sessions: SESSIONS });
        };
        let (inner, name, parameters) = (Arc::clone(&self.0), request.query.name, parameters(request).to_string());
        let task = tokio::spawn(async move {
            let _permit = permit;
            inner.answer(name, &parameters, limit).await
        });
        task.await.map_err(|error| SidecarError::Protocol { detail: error.to_string() })?
    }
}

impl Inner {
    async fn answer(&self, name: &str, parameters: &str, limit: Duration) -> Result<Read, SidecarError> {
        let idle = self.idle().pop().filter(|session| !session.client.is_closed());
        let asking = async {
            let session = match idle {
                Some(session) => session,
                None => self.open().await?,
            };
            let read = ask(&session, name, parameters, limit).await?;
            Ok((session, read))
        };
        // A session whose statement failed is closed.
        let outcome = tokio::time::timeout(limit + GRACE, asking).await.unwrap_or_else(|elapsed| {
            let address = self.settings.postgres_url.to_string();
            Err(SidecarError::Unreachable { server: "PostgreSQL", address, source: Box::new(elapsed) })
        });
        let (session, read) = outcome?;
        self.idle().push(session);
        Ok(read)
    }

    async fn open(&self) -> Result<Session, SidecarError> {
        let client = postgres::connect(&self.settings).await?.client;
        let (identity, _) = identity(&client).await?;
        client.batch_execute(AS_READER).await.doing("take the rights of a reader")?;
        client.batch_execute(SESSION).await.doing("set the session up")?;
        let answer = client.prepare(ANSWER).await.doing("prepare the query")?;
        Ok(Session { client, answer, identity })
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn ask(session: &Session, name: &str, parameters: &str, limit: Duration) -> Result<Read, SidecarError> {
    let doing = "answer a query";
    let milliseconds = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX).max(1).to_string();
    let timeout = "SELECT set_config('statement_timeout', $1, false)";
    session.client.query_one(timeout, &[&milliseconds]).await.doing(doing)?;
    let row = session.client.query_one(&session.answer, &[&name, &parameters]).await.doing(doing)?;
    let rows = serde_json::from_str(row.get(1)).doing("read an answer of PostgreSQL")?;
    Ok(Read { snapshot: row.get(0), identity: session.identity.clone(), rows })
}

/// Arguments as `arx.run_query()` takes them, in one spelling: also the name of a cached answer.
pub(super) fn parameters(request: &Request) -> Value {
    let arguments = &request.arguments;
    let mut parameters = Map::new();
    parameters.insert("network".into(), json!(arguments.network.name()));
    let texts = [
        ("address", arguments.address.as_ref().map(|address| address.as_str().to_owned())),
        ("token", arguments.token.as_ref().map(|token| token.as_str().to_owned())),
        ("from", arguments.range.map(|(from, _)| from.to_string())),
        ("to", arguments.range.map(|(_, to)| to.to_string())),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            parameters.insert(name.into(), json!(text));
        }
    }
    if let Some(limit) = arguments.limit {
        parameters.insert("limit".into(), json!(limit));
    }
    Value::Object(parameters)
}
