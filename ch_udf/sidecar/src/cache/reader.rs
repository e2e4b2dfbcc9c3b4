//! Reading profiles: from this process, or else from Redis, or else from PostgreSQL. Owns the rule
//! that a cached profile is returned only if it is proved to be true: by the follower's watermark
//! in Redis, and by its messages in this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use utoipa::ToSchema;

use super::breaker::Breaker;
use super::database::{Batch, Database};
use super::keys::{Identity, WalletKey};
use super::local::LocalCache;
use super::profile::Profile;
use super::queue::WriteQueue;
use super::store::{Cached, FILL_LIMIT, ProfileCache, Writer};
use super::watermark::{Changes, Height, Watermark};
use super::writes::PendingWrites;
use crate::error::{Chain, SidecarError};
use crate::servers::redis::{Endpoint, subscribe};
use crate::settings::Settings;

/// Time limit for an answer of Redis.
const CACHE_LIMIT: Duration = Duration::from_millis(500);

/// Time limit for the answer about many wallets.
const BATCH_LIMIT: Duration = Duration::from_secs(3);

/// Time for which a reader waits until another one has filled a profile.
const FILL_WAIT: Duration = Duration::from_secs(2);
const FILL_POLL: Duration = Duration::from_millis(10);

/// Time for which a reader waits until the follower reaches the wanted snapshot.
const REACH_WAIT: Duration = Duration::from_millis(300);
const REACH_POLL: Duration = Duration::from_millis(20);

/// Pause between attempts to subscribe, and to connect to Redis.
const PAUSE: Duration = Duration::from_secs(1);

/// Server that a profile was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// This process.
    Local,
    /// Redis.
    Cache,
    /// PostgreSQL.
    Database,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Local => "local",
            Self::Cache => "cache",
            Self::Database => "database",
        })
    }
}

/// A profile, and the snapshot that it is true at.
#[derive(Debug)]
pub struct Answer {
    pub profile: Profile,
    /// Text of the `pg_snapshot`.
    pub snapshot: String,
    pub(super) height: Height,
    /// Height up to which it was proved to be true.
    proved: Height,
    /// Bytes of memory, about.
    pub(super) size: usize,
}

impl Answer {
    fn new(profile: Profile, snapshot: String, height: Height, proved: Height) -> Arc<Self> {
        let texts = profile.risk.factors.get().len() + profile.risk.reasons.get().len() + profile.labels.get().len();
        let notes: usize = profile.analytics_profile.iter().map(|(name, value)| name.len() + value.get().len()).sum();
        Arc::new(Self { size: 512 + texts + notes, profile, snapshot, height, proved })
    }
}

/// Numbers of reads, since the start.
#[derive(Debug, Default)]
pub(crate) struct ReadCounts {
    pub(crate) local: AtomicU64,
    pub(crate) cache: AtomicU64,
    pub(crate) database: AtomicU64,
    /// Reads that waited for another one instead of asking PostgreSQL.
    pub(crate) shared: AtomicU64,
    /// Profiles that were read again before they expired.
    pub(crate) early: AtomicU64,
    /// Errors of Redis.
    pub(crate) errors: AtomicU64,
}

/// A reader of profiles with a cache in this process. Clones share it.
#[derive(Clone)]
pub struct WalletReader {
    inner: Arc<Inner>,
    /// Ends the subscription with the last clone.
    _listener: Arc<Listener>,
}

struct Inner {
    settings: Settings,
    database: Database,
    cache: tokio::sync::RwLock<Option<(ProfileCache, WriteQueue)>>,
    breaker: Breaker,
    local: LocalCache,
    flights: moka::future::Cache<WalletKey, Arc<Answer>>,
    counts: ReadCounts,
}

struct Listener(Option<JoinHandle<()>>);

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

impl WalletReader {
    /// Connects with settings from a file, or with the defaults, and from the environment.
    ///
    /// # Errors
    /// Errors of settings and of connecting to PostgreSQL. Redis may be down.
    pub async fn from_environment(file: Option<&std::path::Path>) -> Result<Self, SidecarError> {
        use crate::settings::{Environment, Overrides};
        let environment = Environment::read(|name| std::env::var(name).ok());
        Self::connect(&Settings::load(file, &environment, &Overrides::default())?).await
    }

    /// Connects to PostgreSQL, and to Redis if it answers.
    ///
    /// # Errors
    /// Errors of connecting to PostgreSQL.
    pub(crate) async fn connect(settings: &Settings) -> Result<Self, SidecarError> {
        let inner = Arc::new(Inner::connect(settings).await?);
        let listener = tokio::spawn(listen(Arc::clone(&inner)));
        Ok(Self { inner, _listener: Arc::new(Listener(Some(listener))) })
    }

    /// Connects for a few reads: without a cache in this process.
    ///
    /// # Errors
    /// Errors of connecting to PostgreSQL.
    pub(crate) async fn connect_once(settings: &Settings) -> Result<Self, SidecarError> {
        Ok(Self { inner: Arc::new(Inner::connect(settings).await?), _listener: Arc::new(Listener(None)) })
    }

    /// Returns how many reads of PostgreSQL this reader has begun.
    #[must_use]
    pub fn database_reads(&self) -> u64 {
        self.inner.counts.database.load(Ordering::Relaxed)
    }

    pub(crate) fn counts(&self) -> &ReadCounts {
        &self.inner.counts
    }

    /// Reads the profile of a wallet. It is true at a snapshot of the last two seconds, and, if
    /// `not_older_than` is the text of a `pg_snapshot`, at that one or a later one.
    ///
    /// # Errors
    /// [`SidecarError::Input`] for a malformed snapshot, or one that the database has not reached;
    /// [`SidecarError::Overloaded`]; those of PostgreSQL. Redis causes none.
    pub async fn get(
        &self,
        wallet: &WalletKey,
        not_older_than: Option<&str>,
    ) -> Result<(Arc<Answer>, Origin), Arc<SidecarError>> {
        let wanted = not_older_than.map(Height::of).transpose()?;
        let inner = &self.inner;
        if let Some(answer) = inner.local.get(wallet, wanted) {
            inner.counts.local.fetch_add(1, Ordering::Relaxed);
            return Ok((answer, Origin::Local));
        }
        if let Some(answer) = inner.read_cached(wallet, wanted).await {
            inner.counts.cache.fetch_add(1, Ordering::Relaxed);
            return Ok((answer, Origin::Cache));
        }
        let is_leader = AtomicU64::new(0);
        let flight = inner.flights.try_get_with(wallet.clone(), async {
            is_leader.store(1, Ordering::Relaxed);
            inner.fill(wallet, wanted).await
        });
        let mut answer = flight.await?;
        if is_leader.load(Ordering::Relaxed) == 0 {
            inner.counts.shared.fetch_add(1, Ordering::Relaxed);
            if wanted.is_some_and(|wanted| answer.proved < wanted) {
                answer = inner.read_stored(wallet).await?;
            }
        }
        require(&answer, wanted)?;
        Ok((answer, Origin::Database))
    }

    /// Reads the profiles of wallets, in the given order.
    ///
    /// # Errors
    /// Errors of [`Self::get`].
    pub async fn get_many(
        &self,
        wallets: &[WalletKey],
        not_older_than: Option<&str>,
    ) -> Result<Vec<(Arc<Answer>, Origin)>, Arc<SidecarError>> {
        let wanted = not_older_than.map(Height::of).transpose()?;
        let inner = &self.inner;
        let mut answers: Vec<Option<(Arc<Answer>, Origin)>> = wallets
            .iter()
            .map(|wallet| inner.local.get(wallet, wanted).map(|answer| (answer, Origin::Local)))
            .collect();
        let missing = |answers: &[Option<(Arc<Answer>, Origin)>]| -> Vec<usize> {
            answers.iter().enumerate().filter(|(_, answer)| answer.is_none()).map(|(index, _)| index).collect()
        };
        let absent = missing(&answers);
        let keys: Vec<WalletKey> = absent.iter().filter_map(|index| wallets.get(*index).cloned()).collect();
        let cached = inner.read_many_cached(&keys, wanted).await;
        for (index, answer) in absent.into_iter().zip(cached) {
            if let (Some(place), Some(answer)) = (answers.get_mut(index), answer) {
                *place = Some((answer, Origin::Cache));
            }
        }
        let absent = missing(&answers);
        let keys: Vec<WalletKey> = absent.iter().filter_map(|index| wallets.get(*index).cloned()).collect();
        if !keys.is_empty() {
            let loaded = inner.load(&keys).await?;
            for index in absent {
                let answer = wallets.get(index).and_then(|wallet| loaded.get(wallet));
                if let (Some(place), Some(answer)) = (answers.get_mut(index), answer) {
                    require(answer, wanted)?;
                    *place = Some((Arc::clone(answer), Origin::Database));
                }
            }
        }
        for (_, origin) in answers.iter().flatten() {
            let count = match origin {
                Origin::Local => &inner.counts.local,
                Origin::Cache => &inner.counts.cache,
                Origin::Database => &inner.counts.database,
            };
            count.fetch_add(1, Ordering::Relaxed);
        }
        let complete: Option<Vec<_>> = answers.into_iter().collect();
        complete.ok_or_else(|| {
            Arc::new(SidecarError::Input { detail: "a wallet is not what PostgreSQL takes it for".into() })
        })
    }
}

fn require(answer: &Answer, wanted: Option<Height>) -> Result<(), Arc<SidecarError>> {
    match wanted {
        Some(wanted) if answer.proved < wanted => Err(Arc::new(SidecarError::Input {
            detail: format!(
                "the database has not reached the snapshot of not_older_than: it is at {}",
                answer.snapshot
            ),
        })),
        _ => Ok(()),
    }
}

impl Inner {
    async fn connect(settings: &Settings) -> Result<Self, SidecarError> {
        let database = Database::connect(settings).await?;
        let inner = Self {
            settings: settings.clone(),
            database,
            cache: tokio::sync::RwLock::new(None),
            breaker: Breaker::default(),
            local: LocalCache::new(settings.cache_local_megabytes * 1024 * 1024),
            // Nothing is kept here: a call joins one that is under way.
            flights: moka::future::Cache::builder().max_capacity(0).build(),
            counts: ReadCounts::default(),
        };
        // Redis may be down.
        let _ = inner.redis().await;
        Ok(inner)
    }

    fn identity(&self) -> &Identity {
        self.database.identity()
    }

    /// Returns the connections to Redis, unless it failed a moment ago.
    async fn redis(&self) -> Option<(ProfileCache, WriteQueue)> {
        if let Some(connections) = &*self.cache.read().await {
            return self.breaker.admits(Instant::now()).then(|| connections.clone());
        }
        if !self.breaker.admits(Instant::now()) {
            return None;
        }
        let identity = self.identity();
        let connecting = async {
            let cache = ProfileCache::connect(&self.settings, identity.clone()).await?;
            Ok((cache, WriteQueue::for_readers(&self.settings, identity.clone()).await?))
        };
        match connecting.await {
            Ok(connections) => {
                self.breaker.succeeded();
                Some(self.cache.write().await.insert(connections).clone())
            }
            Err(error) => {
                self.failed(&error);
                None
            }
        }
    }

    fn failed(&self, error: &SidecarError) {
        self.counts.errors.fetch_add(1, Ordering::Relaxed);
        self.breaker.failed(Instant::now());
        tracing::warn!(error = %Chain(error), "the cache cannot be used; reading from PostgreSQL");
    }

    /// Asks Redis, for a limited time.
    async fn ask<T>(&self, limit: Duration, question: impl Future<Output = Result<T, SidecarError>>) -> Option<T> {
        let outcome = tokio::time::timeout(limit, question).await.unwrap_or_else(|elapsed| {
            Err(SidecarError::Unreachable {
                server: "Redis",
                address: self.settings.redis_url.to_string(),
                source: Box::new(elapsed),
            })
        });
        match outcome {
            Ok(value) => {
                self.breaker.succeeded();
                Some(value)
            }
            Err(error) => {
                self.failed(&error);
                None
            }
        }
    }

    async fn read_cached(&self, wallet: &WalletKey, wanted: Option<Height>) -> Option<Arc<Answer>> {
        let (cache, queue) = self.redis().await?;
        let started = Instant::now();
        loop {
            let (watermark, mut found) = self.ask(CACHE_LIMIT, cache.read(std::slice::from_ref(wallet))).await?;
            let (watermark, cached) = (watermark?, found.pop().flatten()?);
            if !watermark.covers(&wallet.network, cached.height) {
                return None;
            }
            if !watermark.reaches(cached.height, wanted) {
                if started.elapsed() > REACH_WAIT {
                    return None;
                }
                tokio::time::sleep(REACH_POLL).await;
                continue;
            }
            let is_due = is_due(&cached, fastrand::f64());
            let pending = self.ask(CACHE_LIMIT, queue.pending(std::slice::from_ref(wallet))).await?;
            let answer = answer(cached, &watermark, pending.into_iter().next().unwrap_or_default()).ok()?;
            self.local.insert(wallet, &answer, &watermark);
            if is_due {
                self.counts.early.fetch_add(1, Ordering::Relaxed);
                self.refresh(&cache, wallet).await;
            }
            return Some(answer);
        }
    }

    /// Reads a profile again that will expire soon, unless another reader does.
    async fn refresh(&self, cache: &ProfileCache, wallet: &WalletKey) {
        if let Some(Some(token)) = self.ask(CACHE_LIMIT, cache.lock(wallet)).await {
            // The caller has an answer.
            let _ = self.load(std::slice::from_ref(wallet)).await;
            let _ = self.ask(CACHE_LIMIT, cache.release(wallet, &token)).await;
        }
    }

    async fn read_many_cached(&self, wallets: &[WalletKey], wanted: Option<Height>) -> Vec<Option<Arc<Answer>>> {
        if wallets.is_empty() {
            return Vec::new();
        }
        let Some((cache, queue)) = self.redis().await else { return vec![None; wallets.len()] };
        let asking = async {
            let read = cache.read(wallets).await?;
            Ok((read, queue.pending(wallets).await?))
        };
        let Some(((Some(watermark), found), pending)) = self.ask(BATCH_LIMIT, asking).await else {
            return vec![None; wallets.len()];
        };
        let answers = wallets.iter().zip(found).zip(pending).map(|((wallet, cached), pending)| {
            let cached = cached.filter(|cached| {
                watermark.covers(&wallet.network, cached.height) && watermark.reaches(cached.height, wanted)
            })?;
            let answer = answer(cached, &watermark, pending).ok()?;
            self.local.insert(wallet, &answer, &watermark);
            Some(answer)
        });
        answers.collect()
    }

    /// Reads a profile that is not cached, or waits until another process has done so.
    async fn fill(&self, wallet: &WalletKey, wanted: Option<Height>) -> Result<Arc<Answer>, SidecarError> {
        let Some((cache, _)) = self.redis().await else { return self.read_stored(wallet).await };
        // Without a watermark nothing can be shared.
        let Some(Some(_)) = self.ask(CACHE_LIMIT, cache.watermark()).await else {
            return self.read_stored(wallet).await;
        };
        let started = Instant::now();
        while started.elapsed() < FILL_WAIT {
            match self.ask(CACHE_LIMIT, cache.lock(wallet)).await {
                None => break,
                Some(Some(token)) => {
                    let loaded = self.read_stored(wallet).await;
                    let _ = self.ask(CACHE_LIMIT, cache.release(wallet, &token)).await;
                    return loaded;
                }
                Some(None) => {
                    tokio::time::sleep(FILL_POLL).await;
                    if let Some(answer) = self.read_cached(wallet, wanted).await {
                        self.counts.shared.fetch_add(1, Ordering::Relaxed);
                        return Ok(answer);
                    }
                }
            }
        }
        self.read_stored(wallet).await
    }

    async fn read_stored(&self, wallet: &WalletKey) -> Result<Arc<Answer>, SidecarError> {
        self.counts.database.fetch_add(1, Ordering::Relaxed);
        let loaded = self.load(std::slice::from_ref(wallet)).await?;
        loaded.into_values().next().ok_or_else(|| SidecarError::Input {
            detail: format!("{} of {} is not what PostgreSQL takes it for", wallet.address, wallet.network),
        })
    }

    /// Reads profiles from PostgreSQL, and caches them.
    async fn load(
        &self,
        wallets: &[WalletKey],
    ) -> Result<std::collections::HashMap<WalletKey, Arc<Answer>>, SidecarError> {
        let batches = self.database.load(wallets).await?;
        let redis = self.redis().await;
        let mut answers = std::collections::HashMap::with_capacity(wallets.len());
        for batch in batches {
            let Batch { snapshot, height, profiles, cost, read } = batch;
            if let Some((cache, _)) = &redis
                && read.elapsed() < FILL_LIMIT
            {
                let putting = cache.put(&profiles, &snapshot, cost, Writer::Reader);
                self.ask(BATCH_LIMIT, putting).await;
            }
            let keys: Vec<WalletKey> = profiles.iter().map(Profile::key).collect();
            let pending = match &redis {
                Some((_, queue)) => self.ask(BATCH_LIMIT, queue.pending(&keys)).await.unwrap_or_default(),
                None => Vec::new(),
            };
            let pending = pending.into_iter().chain(std::iter::repeat_with(PendingWrites::default));
            for ((mut profile, wallet), pending) in profiles.into_iter().zip(keys).zip(pending) {
                profile.add(pending)?;
                answers.insert(wallet, Answer::new(profile, snapshot.clone(), height, height));
            }
        }
        Ok(answers)
    }
}

/// Makes an answer of a cached profile. It is true at the watermark, if that is later.
fn answer(cached: Cached, watermark: &Watermark, pending: PendingWrites) -> Result<Arc<Answer>, SidecarError> {
    let Cached { height, snapshot, mut profile, .. } = cached;
    profile.add(pending)?;
    // The height stays that of the value: floors are compared with it.
    let snapshot = if watermark.height > height { watermark.snapshot.clone() } else { snapshot };
    Ok(Answer::new(profile, snapshot, height, height.max(watermark.height)))
}

/// Returns whether a reader should read a profile again before it expires: the sooner it expires
/// and the longer reading takes, the more likely (XFetch, Vattani et al. 2015, with beta 1).
fn is_due(cached: &Cached, random: f64) -> bool {
    let ahead = cached.cost.as_secs_f64() * -random.max(f64::MIN_POSITIVE).ln();
    ahead >= cached.remaining.as_secs_f64()
}

/// Takes the follower's messages for as long as the reader lives.
async fn listen(inner: Arc<Inner>) {
    loop {
        let channel = inner.identity().changes();
        if let Ok(mut subscription) = subscribe(&inner.settings, Endpoint::Cache, &channel).await {
            while let Some(text) = subscription.next().await {
                if let Ok(changes) = serde_json::from_str::<Changes>(&text) {
                    inner.local.hear(changes);
                } else if let Some((network, address)) =
                    text.strip_prefix("note ").and_then(|wallet| wallet.split_once(':'))
                {
                    inner.local.forget(&WalletKey { network: network.into(), address: address.into() });
                }
            }
        }
        inner.local.deafen();
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_that_expire_soon_or_cost_much_are_read_again_early() {
        let cached = |cost: u64, remaining: u64| {
            let profile = serde_json::from_str(
                r#"{"network": "n", "address": "a", "known": true, "version": 1, "first_seen": null, "last_activity": null,
                "transaction_count": 1, "total_volume": "1", "total_volume_usd": "1", "labels": [], "analytics_profile": {},
                "risk": {"score": 1, "probability": null, "band": "low", "state": "scored", "coverage": 1,
                "model_version": "m", "reasons": [], "factors": []}}"#,
            )
            .unwrap();
            let (cost, remaining) = (Duration::from_millis(cost), Duration::from_millis(remaining));
            Cached { height: Height(1), snapshot: "1:1:".into(), profile, cost, remaining }
        };
        assert!(!is_due(&cached(10, 60_000), 0.5));
        assert!(is_due(&cached(10, 5), 0.5), "an even chance 7 ms before it expires");
        assert!(!is_due(&cached(10, 5), 0.9));
        assert!(is_due(&cached(1_000, 2_000), 0.1));
        assert!(is_due(&cached(10, 0), 0.999_999) && !is_due(&cached(0, 1), 0.0));
    }
}
