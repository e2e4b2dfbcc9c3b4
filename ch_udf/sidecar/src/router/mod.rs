//! The router: answers the queries of the catalogue from whichever store fits. Owns the order of
//! the steps: an answer that is kept, if it is new enough (`results`); or else the store that may
//! answer and is expected to be fastest (`choice`), and the next one if that fails, is too slow, or
//! turns out to be less exact or older than was asked. `watch` knows how old the data of a store
//! is, `record` and `warehouse` run the queries, `rows` brings their rows into one form.
//!
//! The age of an answer is the time from which it is known to be true until the request arrived.

mod choice;
mod forms;
mod record;
mod results;
mod rows;
mod warehouse;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arx_core::analytics::{Exactness, Query, Request, RequestError, Topic};
use chrono::Utc;
use serde::Serialize;
use serde_json::Value;
use thiserror::Error;
use tokio_postgres::error::SqlState;
use utoipa::ToSchema;

pub(crate) use self::choice::{Candidate, Store};
use self::choice::{Latencies, order};
use self::record::Database;
use self::results::{Kept, Level, Results, question};
use self::warehouse::Warehouse;
use self::watch::{Seen, Watch};
use crate::cache::{Height, Identity};
use crate::error::{Chain, SidecarError};
use crate::settings::Settings;

/// Longest time between two observations of the stores while there are requests.
const OBSERVE_EVERY: Duration = Duration::from_secs(1);

/// Parameter that demands one store, which helps to compare them.
const STORE: &str = "store";

/// An error of a request.
#[derive(Debug, Error)]
pub(crate) enum RouteError {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("network {network:?} is not registered")]
    UnregisteredNetwork { network: String },
    #[error("parameter not_older_than: {detail}")]
    Snapshot { detail: String },
    #[error("the database has not reached the snapshot of not_older_than: it is at {snapshot}")]
    NotReached { snapshot: String },
    #[error("role arx_reader may not read every row that the query needs")]
    Forbidden,
    /// No store has answered; the reasons of each.
    #[error("no store can answer as asked: {}", .reasons.join("; "))]
    NoStore { reasons: Vec<String> },
    #[error(transparent)]
    Server(SidecarError),
}

impl From<SidecarError> for RouteError {
    fn from(error: SidecarError) -> Self {
        match error {
            SidecarError::Postgres { source, .. } if source.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                Self::Forbidden
            }
            error => Self::Server(error),
        }
    }
}

/// Level that an answer came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Source {
    /// This process.
    Local,
    Redis,
    ClickHouse,
    PostgreSql,
}

/// An answer, with where it comes from and how old it is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Answer {
    #[schema(value_type = String)]
    pub(crate) query: &'static str,
    /// Store that has answered; an answer that was kept comes from `local` or `redis`.
    pub(crate) store: Source,
    /// Store that the rows were read from.
    pub(crate) read_from: Store,
    /// The rows are those of PostgreSQL at the snapshot, to the last digit.
    pub(crate) exact: bool,
    /// Every change up to this snapshot of PostgreSQL is in the rows.
    pub(crate) snapshot: String,
    /// Time from which the rows are known to be true until the request arrived.
    pub(crate) age_seconds: f64,
    #[schema(value_type = Vec<Object>)]
    pub(crate) rows: Rows,
}

/// Rows of an answer, which may also be kept.
#[derive(Debug)]
pub(crate) struct Rows(Arc<Kept>);

impl Serialize for Rows {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.rows.serialize(serializer)
    }
}

/// Numbers of answers by source, and of stores that failed, since the start.
#[derive(Debug, Default)]
pub(crate) struct RouteCounts {
    pub(crate) local: AtomicU64,
    pub(crate) redis: AtomicU64,
    pub(crate) clickhouse: AtomicU64,
    pub(crate) postgresql: AtomicU64,
    /// Stores that were asked and gave no answer that could be used.
    pub(crate) fallen_over: AtomicU64,
}

pub(crate) struct Router {
    settings: Settings,
    watch: Watch,
    warehouse: Warehouse,
    database: Database,
    results: Results,
    latencies: Latencies,
    /// Requests under way; nothing is kept here.
    flights: moka::future::Cache<String, (Arc<Kept>, Source)>,
    counts: RouteCounts,
}

/// The snapshot that rows are true at, and the time from which that is known.
struct Point {
    identity: Identity,
    snapshot: String,
    height: Height,
    true_at: Option<Instant>,
}

/// A request, and the only store that may answer it, if the client names one.
#[derive(Debug)]
pub(crate) struct RouteRequest {
    request: Request,
    only: Option<Store>,
}

/// A request with what is known when it arrives.
struct Asked<'a> {
    request: &'a Request,
    only: Option<Store>,
    question: String,
    arrived: Instant,
    max_age: Duration,
    wanted: Option<Height>,
    seen: Arc<Seen>,
}

impl Asked<'_> {
    fn topics(&self) -> &'static [Topic] {
        self.request.query.reads
    }

    fn age(&self, true_at: Instant) -> Duration {
        self.arrived.saturating_duration_since(true_at)
    }

    /// Makes an answer that can be kept.
    fn keep(&self, store: Store, exact: bool, point: Point, rows: Vec<Value>) -> (Identity, Arc<Kept>) {
        let Point { identity, snapshot, height, true_at } = point;
        let kept = Kept {
            question: self.question.clone(),
            identity: identity.to_string(),
            store,
            exact,
            snapshot,
            height,
            size: rows.iter().map(|row| row.to_string().len()).sum(),
            rows,
            true_at,
        };
        (identity, Arc::new(kept))
    }

    fn age_of(&self, kept: &Kept) -> Option<Duration> {
        let times = [kept.true_at, self.seen.true_at(kept.height, self.topics())];
        Some(self.age(times.into_iter().flatten().max()?))
    }

    /// Returns the age of a kept answer that may be used.
    fn accepts(&self, kept: &Kept) -> Option<Duration> {
        if kept.identity != self.seen.identity.to_string() {
            return None;
        }
        if (self.request.wanted.exact && !kept.exact) || self.only.is_some_and(|only| only != kept.store) {
            return None;
        }
        if self.wanted.is_some_and(|wanted| !self.seen.reaches(kept.height, wanted, self.topics())) {
            return None;
        }
        self.age_of(kept).filter(|age| *age <= self.max_age)
    }
}

impl Router {
    /// Makes a router, which connects with the first request.
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            settings: settings.clone(),
            watch: Watch::new(settings),
            warehouse: Warehouse::new(settings),
            database: Database::new(settings),
            results: Results::new(settings),
            latencies: Latencies::default(),
            flights: moka::future::Cache::builder().max_capacity(0).build(),
            counts: RouteCounts::default(),
        }
    }

    pub(crate) fn counts(&self) -> &RouteCounts {
        &self.counts
    }

    /// Checks a request. A network that was registered a moment ago is looked for again.
    ///
    /// # Errors
    /// [`RouteError::Request`], [`RouteError::UnregisteredNetwork`], and errors of PostgreSQL
    /// before the first observation.
    pub(crate) async fn parse(&self, name: &str, parameters: &[(String, String)]) -> Result<RouteRequest, RouteError> {
        let mut stores = parameters.iter().filter(|(name, _)| name == STORE);
        let only = stores.next().map(|(_, value)| Store::wanted(value)).transpose()?;
        if stores.next().is_some() {
            return Err(RequestError::Repeated { name: STORE.into() }.into());
        }
        for age in [OBSERVE_EVERY * 60, Duration::ZERO] {
            let seen = self.seen(age).await;
            let network = |text: &str| {
                // The name itself is checked first.
                arx_core::address::Network::parse(text).map_err(RequestError::from)?;
                let unregistered = || RouteError::UnregisteredNetwork { network: text.to_owned() };
                match &seen {
                    Ok(seen) => seen.network(text).ok_or_else(unregistered),
                    Err(_) => Err(unregistered()),
                }
            };
            let given = parameters
                .iter()
                .filter(|(name, _)| name != STORE)
                .map(|(name, value)| (name.clone(), Value::String(value.clone())));
            let parsed = Request::parse(name, given, Utc::now().date_naive(), network);
            match parsed {
                Err(RouteError::UnregisteredNetwork { .. }) if seen.is_err() => {
                    seen?;
                }
                Err(RouteError::UnregisteredNetwork { .. }) if !age.is_zero() => {}
                parsed => return parsed.map(|request| RouteRequest { request, only }),
            }
        }
        Err(RouteError::NoStore { reasons: Vec::new() })
    }

    /// Observes the stores, unless that was done no longer ago than `age`.
    async fn seen(&self, age: Duration) -> Result<Arc<Seen>, SidecarError> {
        let before = self.watch.latest();
        let seen = self.watch.seen(age, &self.warehouse).await?;
        if before.is_some_and(|before| before.identity != seen.identity) {
            self.results.clear();
        }
        Ok(seen)
    }

    async fn asked<'a>(&self, request: &'a RouteRequest) -> Result<Asked<'a>, RouteError> {
        let RouteRequest { request, only } = request;
        let arrived = Instant::now();
        let max_age = request.wanted.max_age.unwrap_or(Duration::from_secs(self.settings.query_max_age_seconds));
        let wanted = request.wanted.not_older_than.as_deref().map(Height::of).transpose();
        let wanted = wanted.map_err(|error| RouteError::Snapshot { detail: error.to_string() })?;
        let mut seen = self.seen(OBSERVE_EVERY.min(max_age / 2)).await?;
        if wanted.is_some_and(|wanted| seen.height < wanted) {
            seen = self.seen(Duration::ZERO).await?;
        }
        if !seen.is_readable(request.query.reads) {
            return Err(RouteError::Forbidden);
        }
        Ok(Asked { request, only: *only, question: question(request), arrived, max_age, wanted, seen })
    }

    /// Answers a request.
    ///
    /// # Errors
    /// [`RouteError`].
    pub(crate) async fn answer(&self, request: &RouteRequest) -> Result<Answer, Arc<RouteError>> {
        let asked = self.asked(request).await?;
        let request = asked.request;
        let (kept, source) = match self.kept(&asked).await {
            Some((kept, Level::Local)) => (kept, Source::Local),
            Some((kept, Level::Redis)) => (kept, Source::Redis),
            None => {
                // Requests that wait for one another have the same demands.
                let flight = format!("{} {:?} {:?}", asked.question, request.wanted, asked.only);
                let joined = self.flights.try_get_with(flight, self.read(&asked)).await?;
                // One that was under way may have begun too early.
                if asked.accepts(&joined.0).is_some() { joined } else { self.read(&asked).await? }
            }
        };
        let counter = match source {
            Source::Local => &self.counts.local,
            Source::Redis => &self.counts.redis,
            Source::ClickHouse => &self.counts.clickhouse,
            Source::PostgreSql => &self.counts.postgresql,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let age = asked
            .age_of(&kept)
            .ok_or_else(|| RouteError::NoStore { reasons: vec!["the age of the answer is not known".to_owned()] })?;
        Ok(Answer {
            query: request.query.name,
            store: source,
            read_from: kept.store,
            exact: kept.exact,
            snapshot: kept.snapshot.clone(),
            age_seconds: age.as_secs_f64(),
            rows: Rows(kept),
        })
    }

    /// Returns an answer that is kept and new enough.
    async fn kept(&self, asked: &Asked<'_>) -> Option<(Arc<Kept>, Level)> {
        if let Some(kept) = self.results.local(&asked.question) {
            if asked.accepts(&kept).is_some() {
                return Some((kept, Level::Local));
            }
            if asked.seen.true_at(kept.height, asked.topics()) != Some(asked.seen.at) {
                self.results.drop_older(&asked.question, kept.height);
            }
        }
        // What is not older than the request is not in Redis.
        if asked.max_age.is_zero() {
            return None;
        }
        let kept = self.results.shared(&asked.seen.identity, asked.request.query, &asked.question).await?;
        asked.accepts(&kept)?;
        self.results.keep_local(&asked.question, &kept);
        Some((kept, Level::Redis))
    }

    /// Asks the stores in turn.
    async fn read(&self, asked: &Asked<'_>) -> Result<(Arc<Kept>, Source), RouteError> {
        let mut candidates = self.candidates(asked);
        let stores = order(&mut candidates);
        let mut reasons: Vec<String> = candidates
            .iter()
            .filter(|candidate| !candidate.eligible)
            .map(|candidate| format!("{}: {}", candidate.store.name(), candidate.reason))
            .collect();
        let total = Duration::from_millis(self.settings.query_timeout_milliseconds);
        for (index, store) in stores.iter().enumerate() {
            let rest = total.saturating_sub(asked.arrived.elapsed());
            // A store that is slow leaves time for the next one.
            let limit = if index + 1 < stores.len() { rest / 2 } else { rest };
            let started = Instant::now();
            let outcome = match store {
                Store::PostgreSql => self.read_database(asked, limit).await,
                Store::ClickHouse => self.read_warehouse(asked, limit).await,
            };
            let failed = matches!(&outcome, Err(RouteError::Server(_)));
            let took = if failed { started.elapsed().max(total) } else { started.elapsed() };
            self.latencies.record(asked.request, *store, took, Instant::now());
            match outcome {
                Ok((identity, kept)) => {
                    let source = match store {
                        Store::PostgreSql => Source::PostgreSql,
                        Store::ClickHouse => Source::ClickHouse,
                    };
                    self.results.keep(&identity, asked.request.query, &asked.question, &kept).await;
                    return Ok((kept, source));
                }
                Err(error @ (RouteError::Forbidden | RouteError::NotReached { .. })) => return Err(error),
                Err(error) => {
                    tracing::debug!(store = store.name(), error = %Chain(&error), "a store gave no answer");
                    self.counts.fallen_over.fetch_add(1, Ordering::Relaxed);
                    reasons.push(format!("{}: {}", store.name(), Chain(&error)));
                }
            }
        }
        Err(RouteError::NoStore { reasons })
    }

    async fn read_database(&self, asked: &Asked<'_>, limit: Duration) -> Result<(Identity, Arc<Kept>), RouteError> {
        let asked_at = Instant::now();
        let read = self.database.answer(asked.request, limit).await?;
        let height = Height::of(&read.snapshot)?;
        if asked.wanted.is_some_and(|wanted| height < wanted) {
            return Err(RouteError::NotReached { snapshot: read.snapshot });
        }
        let rows = rows::canonical(asked.request.query, read.rows)?;
        let point = Point { identity: read.identity, snapshot: read.snapshot, height, true_at: Some(asked_at) };
        Ok(asked.keep(Store::PostgreSql, true, point, rows))
    }

    async fn read_warehouse(&self, asked: &Asked<'_>, limit: Duration) -> Result<(Identity, Arc<Kept>), RouteError> {
        let no_store = |reason: String| RouteError::NoStore { reasons: vec![reason] };
        let fed = asked.seen.fed.as_ref().map_err(|reason| no_store(reason.clone()))?;
        let exactness = asked.request.query.warehouse.unwrap_or(Exactness::Partial("it has no form of the query"));
        let rows = rows::canonical(asked.request.query, self.warehouse.answer(asked.request, limit).await?)?;
        let latest = self.warehouse.latest_attempt().await?;
        if latest.0 != fed.attempt.0 {
            return Err(no_store("the tables in ClickHouse were taken over meanwhile".into()));
        }
        // A pass that has begun may have changed a part of the rows.
        let is_of_position = fed.is_settled && latest.1 == fed.attempt.1;
        let exact = is_of_position && rows::is_exact(exactness, &rows);
        if asked.request.wanted.exact && !exact {
            let reason = if is_of_position { exactness.about() } else { "a pass of the feed was under way".to_owned() };
            return Err(no_store(reason));
        }
        let true_at = asked.seen.fed_at(fed);
        let identity = asked.seen.identity.clone();
        let point = if true_at == Some(asked.seen.at) {
            // Nothing has changed since the position.
            Point { identity, snapshot: asked.seen.snapshot.clone(), height: asked.seen.height, true_at }
        } else {
            Point { identity, snapshot: fed.position.clone(), height: fed.height, true_at }
        };
        Ok(asked.keep(Store::ClickHouse, exact, point, rows))
    }

    /// Judges the stores.
    fn candidates(&self, asked: &Asked<'_>) -> Vec<Candidate> {
        Store::ALL.map(|store| self.candidate(asked, store)).into()
    }

    fn candidate(&self, asked: &Asked<'_>, store: Store) -> Candidate {
        let expected = self.latencies.expected(asked.request, store, Instant::now());
        let query: &Query = asked.request.query;
        let (problem, exactness, snapshot, age) = match store {
            Store::PostgreSql => (None, "exact".to_owned(), None, Some(Duration::ZERO)),
            Store::ClickHouse => {
                let age = asked.seen.fed.as_ref().ok().and_then(|fed| asked.seen.fed_at(fed)).map(|at| asked.age(at));
                let snapshot = asked.seen.fed.as_ref().ok().map(|fed| fed.position.clone());
                let exactness = query.warehouse.map_or_else(|| "no answer".to_owned(), |exactness| exactness.about());
                (self.problem_of_warehouse(asked, age), exactness, snapshot, age)
            }
        };
        let is_wanted = asked.only.is_none_or(|only| only == store);
        let problem = if is_wanted { problem } else { Some("another store is demanded".to_owned()) };
        Candidate {
            store,
            eligible: problem.is_none(),
            chosen: false,
            reason: problem.unwrap_or_else(|| "has what was asked for".to_owned()),
            exactness,
            snapshot,
            age_seconds: age.map(|age| age.as_secs_f64()),
            expected_milliseconds: expected.as_secs_f64() * 1000.0,
        }
    }

    /// Returns why ClickHouse may not answer.
    fn problem_of_warehouse(&self, asked: &Asked<'_>, age: Option<Duration>) -> Option<String> {
        let Some(exactness) = asked.request.query.warehouse else {
            return Some("the query has no form for ClickHouse".to_owned());
        };
        let fed = match &asked.seen.fed {
            Ok(fed) => fed,
            Err(reason) => return Some(reason.clone()),
        };
        let deletes_after = self.settings.clickhouse_delete_after_days.map(u64::from);
        if let (Some(days), Some((from, _))) = (deletes_after, asked.request.arguments.range)
            && Utc::now().date_naive().checked_sub_days(chrono::Days::new(days)).is_none_or(|kept| from <= kept)
        {
            return Some(format!("ClickHouse deletes data after {days} days"));
        }
        if asked.request.wanted.exact {
            if let Exactness::Partial(reason) = exactness {
                return Some(reason.to_owned());
            }
            if !fed.is_settled {
                return Some("a pass of the feed is under way, or rows are missing".to_owned());
            }
        }
        match age {
            None => return Some("the age of ClickHouse's data is not known".to_owned()),
            Some(age) if age > asked.max_age => {
                return Some(format!("ClickHouse's data is {:.1} s old", age.as_secs_f64()));
            }
            Some(_) => {}
        }
        // What has not changed since the position is true at any later snapshot.
        let is_current = asked.seen.fed_at(fed) == Some(asked.seen.at);
        let reaches = |wanted: Height| fed.height >= wanted || (is_current && asked.seen.height >= wanted);
        if asked.wanted.is_some_and(|wanted| !reaches(wanted)) {
            return Some("the feed has not reached the snapshot of not_older_than".to_owned());
        }
        None
    }

    /// Shows how a request would be answered, without answering it.
    ///
    /// # Errors
    /// [`RouteError`].
    pub(crate) async fn explain(&self, request: &RouteRequest) -> Result<Explanation, RouteError> {
        let asked = self.asked(request).await?;
        let kept = self.kept(&asked).await.map(|(kept, level)| KeptAnswer {
            store: match level {
                Level::Local => Source::Local,
                Level::Redis => Source::Redis,
            },
            age_seconds: asked.accepts(&kept).unwrap_or_default().as_secs_f64(),
            snapshot: kept.snapshot.clone(),
        });
        let mut stores = self.candidates(&asked);
        order(&mut stores);
        Ok(Explanation { query: asked.request.query.name, kept, stores })
    }
}

/// An answer that is kept, and would be given.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeptAnswer {
    pub(crate) store: Source,
    pub(crate) age_seconds: f64,
    pub(crate) snapshot: String,
}

/// The way to the answer of a request.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Explanation {
    #[schema(value_type = String)]
    pub(crate) query: &'static str,
    /// Absent if no answer is kept that may be used.
    pub(crate) kept: Option<KeptAnswer>,
    pub(crate) stores: Vec<Candidate>,
}
