//! Answers that are kept: in this process, and in Redis for all processes. Owns their names and
//! sizes. Whether one may be used is decided by its age: see [`watch`](super::watch).

use std::sync::Arc;
use std::time::{Duration, Instant};

use arx_core::analytics::{Query, Request};
use moka::policy::EvictionPolicy;
use redis::AsyncCommands;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::choice::Store;
use super::record::parameters;
use crate::cache::{Breaker, Height, Identity};
use crate::error::{Chain, SidecarError};
use crate::servers::redis::{Endpoint, Link, connect};
use crate::settings::{CachePolicy, Settings};

/// Time limit for an answer of Redis.
const LIMIT: Duration = Duration::from_millis(300);

/// Largest answer in Redis, in bytes.
const MAX_BYTES: usize = 1 << 20;

/// An answer of a store.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// The question, which distinguishes two with the same hash.
    pub(super) question: String,
    /// Identity of the database: only its snapshots have comparable heights.
    pub(super) identity: String,
    pub(super) store: Store,
    pub(super) exact: bool,
    /// Snapshot of PostgreSQL that the rows are true at.
    pub(super) snapshot: String,
    pub(super) height: Height,
    pub(super) rows: Vec<Value>,
    /// Time at which it was known to be true, in this process.
    #[serde(skip)]
    pub(super) true_at: Option<Instant>,
    /// Size of the rows in bytes.
    pub(super) size: usize,
}

/// The level that an answer was kept at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Local,
    Redis,
}

pub(super) struct Results {
    settings: Settings,
    local: moka::sync::Cache<String, Arc<Kept>>,
    redis: tokio::sync::Mutex<Option<Link>>,
    breaker: Breaker,
}

/// The question in one spelling.
pub(super) fn question(request: &Request) -> String {
    format!("{} {}", request.query.name, parameters(request))
}

impl Results {
    pub(super) fn new(settings: &Settings) -> Self {
        let lifetime = Duration::from_secs(settings.query_cache_seconds);
        let weigher = |question: &String, kept: &Arc<Kept>| {
            u32::try_from(question.len() * 2 + kept.size + 256).unwrap_or(u32::MAX)
        };
        let builder =
            moka::sync::Cache::builder().max_capacity(settings.query_cache_megabytes * 1024 * 1024).weigher(weigher);
        let local = match settings.query_cache_policy {
            CachePolicy::Lru => builder.eviction_policy(EvictionPolicy::lru()).time_to_idle(lifetime),
            CachePolicy::Lfu => builder.eviction_policy(EvictionPolicy::tiny_lfu()).time_to_idle(lifetime),
            CachePolicy::Fifo => builder.eviction_policy(EvictionPolicy::lru()).time_to_live(lifetime),
        };
        let (redis, breaker) = (tokio::sync::Mutex::new(None), Breaker::default());
        Self { settings: settings.clone(), local: local.build(), redis, breaker }
    }

    pub(super) fn local(&self, question: &str) -> Option<Arc<Kept>> {
        self.local.get(question)
    }

    /// Drops everything: the database is another one.
    pub(super) fn clear(&self) {
        self.local.invalidate_all();
    }

    /// Drops an answer whose facts have changed, unless a newer one has taken its place.
    pub(super) fn drop_older(&self, question: &str, height: Height) {
        if self.local.get(question).is_some_and(|kept| kept.height <= height) {
            self.local.invalidate(question);
        }
    }

    /// Reads an answer from Redis. An unreadable one is as if it did not exist.
    pub(super) async fn shared(&self, identity: &Identity, query: &Query, question: &str) -> Option<Arc<Kept>> {
        let key = key(identity, query, question);
        let text: Option<Vec<u8>> = self.ask(async |mut redis: Link| redis.get(&key).await).await?;
        let kept: Kept = serde_json::from_slice(&text?).ok()?;
        let is_whole =
            kept.question == question && Height::of(&kept.snapshot).is_ok_and(|height| height == kept.height);
        is_whole.then(|| Arc::new(kept))
    }

    /// Keeps an answer in this process.
    pub(super) fn keep_local(&self, question: &str, kept: &Arc<Kept>) {
        if self.local.get(question).is_none_or(|other| other.height <= kept.height) {
            self.local.insert(question.to_owned(), Arc::clone(kept));
        }
    }

    /// Keeps an answer here and in Redis.
    pub(super) async fn keep(&self, identity: &Identity, query: &Query, question: &str, kept: &Arc<Kept>) {
        self.keep_local(question, kept);
        let Ok(text) = serde_json::to_vec(&**kept) else { return };
        if text.len() > MAX_BYTES {
            return;
        }
        let (key, seconds) = (key(identity, query, question), self.settings.query_cache_seconds);
        let _: Option<()> = self.ask(async |mut redis: Link| redis.set_ex(&key, text.as_slice(), seconds).await).await;
    }

    /// Asks Redis, for a limited time. Its errors cost an answer that is kept, and nothing else.
    async fn ask<T>(&self, question: impl AsyncFnOnce(Link) -> redis::RedisResult<T>) -> Option<T> {
        if !self.breaker.admits(Instant::now()) {
            return None;
        }
        let asking = async {
            question(self.connection().await?)
                .await
                .map_err(|source| SidecarError::Redis { doing: "keep an answer", source })
        };
        match tokio::time::timeout(LIMIT, asking).await {
            Ok(Ok(value)) => {
                self.breaker.succeeded();
                return Some(value);
            }
            Ok(Err(error)) => tracing::debug!(error = %Chain(&error), "answers cannot be kept in Redis"),
            Err(_) => tracing::debug!("Redis does not answer in time"),
        }
        self.breaker.failed(Instant::now());
        None
    }

    async fn connection(&self) -> Result<Link, SidecarError> {
        let mut redis = self.redis.lock().await;
        if let Some(redis) = &*redis {
            return Ok(redis.clone());
        }
        let connected = connect(&self.settings, Endpoint::Cache).await?.link;
        Ok(redis.insert(connected).clone())
    }
}

fn key(identity: &Identity, query: &Query, question: &str) -> String {
    let digest = Sha256::digest(question.as_bytes());
    let digest: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    identity.result(query.name, &digest)
}
