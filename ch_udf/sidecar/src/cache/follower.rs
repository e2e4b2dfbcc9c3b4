//! Follows the database: finds the wallets whose profile may have changed since the last pass,
//! brings their profiles into Redis, and renews the watermark. One sidecar does it for a database
//! at a time.
//!
//! A pass reads everything at one snapshot. Few changed wallets are cached before the watermark
//! moves; many are marked as changed, and cached by later passes. A change of everything, such as
//! another model, raises the floor of the watermark instead: values below it are read again by
//! those who ask, and by later passes.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::keys::{Identity, WalletKey};
use super::profile::{Loaded, ProfileLoader};
use super::store::{ProfileCache, Walk, Writer, by_network, is_any_new};
use super::watermark::{ALL_NETWORKS, Changes, Height, Watermark};
use crate::error::{Chain, Doing, SidecarError};
use crate::retry::ErrorKind;
use crate::servers::postgres::{self, Duty};
use crate::settings::Settings;

/// Changed wallets that are cached before the watermark moves. More would hold it up: it lives for
/// [`LEASE`](super::store::LEASE), and a change shall be seen within a second. A profile takes some
/// 0.2 ms.
const MAX_AT_ONCE: usize = 1_000;

/// Wallets that are cached again by one pass. The next changes wait for them.
const MAX_LATER: usize = 250;

/// Interval at which labels and overrides that begin or end are looked for, and at which the
/// position is stored.
const CLOCK_INTERVAL: Duration = Duration::from_secs(1);

/// Interval at which the position is reported to PostgreSQL.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Interval at which the log of changes is pruned.
const PRUNE_INTERVAL: Duration = Duration::from_secs(60);

/// Identity of the database, and a snapshot of it.
const IDENTITY: &str = "
    SELECT (SELECT system_identifier FROM pg_control_system()),
           ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int,
           (SELECT oid FROM pg_database WHERE datname = current_database()), pg_current_snapshot()::text";

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// The snapshot of a pass, its time, and the oldest transaction whose changes are still logged.
const SNAPSHOT: &str = "
    SELECT pg_current_snapshot()::text, now()::text, (SELECT p.changes_before::text FROM arx.pruned_epochs AS p)";

const BASIS: &str = "SELECT arx.profile_basis()";

/// Rows of networks that are not registered belong to no wallet.
const CHANGED: &str = "
    SELECT DISTINCT c.network, c.address
      FROM arx.changed_profiles($1::text::pg_snapshot, $2::text::timestamptz) AS c
     WHERE c.network IS NULL OR EXISTS (SELECT FROM arx.networks AS n WHERE n.network = c.network)";

/// Stores the position, and the time at which it was applied, for `health_check()`.
const STORE: &str = "
    WITH stored AS (
        UPDATE arx.feed_positions SET position = $1::text::pg_snapshot, updated_at = now() WHERE consumer = 'cache')
    INSERT INTO arx.sidecar_reports (metric, since) VALUES ('cache_lag_seconds', now())
    ON CONFLICT (metric, object) DO UPDATE SET since = excluded.since, reported_at = now()";

/// Reads the identity of a database that takes writes.
///
/// # Errors
/// [`SidecarError::Postgres`].
pub(crate) async fn identity(client: &tokio_postgres::Client) -> Result<(Identity, Height), SidecarError> {
    let row = client.query_one(IDENTITY, &[]).await.doing("read the database's identity")?;
    Ok((Identity::new(row.get(0), row.get(1), row.get(2)), Height::of(row.get(3))?))
}

/// The point that a follower has reached.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Position {
    watermark: Watermark,
    /// Time of the pass, as PostgreSQL prints it.
    looked_at: String,
    /// See `arx.profile_basis()`.
    basis: String,
    /// Marks of the Redis servers that have the values.
    server: String,
}

/// Counts of a pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Followed {
    /// Wallets whose profile may have changed.
    pub(crate) changed: usize,
    /// Profiles that were cached.
    pub(crate) cached: u64,
    /// Wallets that are to be cached by later passes.
    pub(crate) backlog: usize,
    /// True if a floor was raised.
    pub(crate) raised: bool,
    /// Keys of a wrong type that were renamed.
    pub(crate) set_aside: u64,
    /// Time from the former snapshot until everything that this one shows was in Redis: no change
    /// waited longer.
    pub(crate) lag: Duration,
}

/// See the module.
pub(crate) struct Follower {
    loader: ProfileLoader,
    /// Takes the duty and stores positions: a pass is read-only.
    ledger: tokio_postgres::Client,
    cache: ProfileCache,
    position: Position,
    /// Time of the former snapshot.
    read: Instant,
    looked: Instant,
    stored: Instant,
    reported: Instant,
    pruned: Instant,
    backlog: VecDeque<WalletKey>,
    /// True after Redis was restarted or replaced, until every floor is raised.
    has_lost: bool,
    /// A walk through all keys, whose profiles are below a floor.
    walk: Option<Walk>,
}

/// Changes as the database states them.
#[derive(Debug, Default)]
struct Changed {
    everything: bool,
    networks: Vec<String>,
    wallets: Vec<WalletKey>,
}

impl Follower {
    /// Takes the duty, has changes logged, and continues where the last follower stopped, or else
    /// takes every cached value for out of date.
    ///
    /// # Errors
    /// [`SidecarError::Taken`] while another sidecar follows, [`SidecarError::Redis`],
    /// [`SidecarError::Postgres`].
    pub(crate) async fn open(settings: &Settings) -> Result<Self, SidecarError> {
        let connection = postgres::connect(settings).await?;
        let ledger = connection.client;
        Duty::Cache.acquire(&ledger).await?;
        let follower: i64 = ledger
            .query_one("SELECT arx.follow_profiles()", &[])
            .await
            .doing("have changes of profiles logged")?
            .get(0);
        let (identity, height) = identity(&ledger).await?;
        let cache = ProfileCache::connect(settings, identity).await?;
        let loader = ProfileLoader::new(connection.server.connect().await?).await?;
        let former: Option<Position> = cache.position().await?;
        let went_back = former
            .as_ref()
            .is_some_and(|former| former.watermark.height > height || former.watermark.follower >= follower);
        if went_back {
            tracing::warn!("PostgreSQL went back; all cached profiles are removed");
            cache.suspend().await?;
            remove_all(&cache).await?;
        }
        let server = cache.servers().await?;
        let former = former.filter(|former| {
            !went_back && former.watermark.follower == follower - 1 && !is_any_new(&server, &former.server)
        });
        let continues = former.is_some();
        let mut position = former.unwrap_or_else(|| Position {
            watermark: Watermark {
                height,
                snapshot: String::new(),
                floors: [(ALL_NETWORKS.to_owned(), height)].into(),
                follower,
                pass: 0,
                nodes: Vec::new(),
            },
            looked_at: String::new(),
            basis: String::new(),
            server: server.clone(),
        });
        position.server = server;
        position.watermark.follower = follower;
        position.watermark.pass = 0;
        tracing::info!(continues, identity = %cache.identity, "following the profiles");
        let walk = (!continues).then(|| cache.walk(cache.identity.profiles()));
        let now = Instant::now();
        let past = now.checked_sub(PRUNE_INTERVAL).unwrap_or(now);
        Ok(Self {
            loader,
            ledger,
            cache,
            position,
            read: now,
            looked: past,
            stored: past,
            reported: past,
            pruned: past,
            backlog: VecDeque::new(),
            has_lost: false,
            walk,
        })
    }

    /// Makes one pass.
    ///
    /// # Errors
    /// [`SidecarError::Redis`], [`SidecarError::Postgres`]. The next follower continues.
    pub(crate) async fn pass(&mut self) -> Result<Followed, SidecarError> {
        let doing = "look for changed profiles";
        let started = Instant::now();
        let client = &self.loader.client;
        client.batch_execute(BEGIN).await.doing(doing)?;
        let row = client.query_one(SNAPSHOT, &[]).await.doing(doing)?;
        let (snapshot, now, pruned): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        let is_new = snapshot != self.position.watermark.snapshot;
        let mut followed = Followed::default();
        let mut wallets = Vec::new();
        let is_time = self.looked.elapsed() >= CLOCK_INTERVAL;
        if is_new || is_time || self.has_lost {
            let (changed, basis) = self.changed(&pruned).await?;
            self.looked = started;
            let height = Height::of(&snapshot)?;
            let raised = self.raise(&changed, height);
            followed.raised = raised;
            wallets = changed.wallets;
            followed.changed = wallets.len();
            if wallets.len() > MAX_AT_ONCE {
                self.cache.mark_changed(&wallets, height).await?;
                self.backlog.extend(wallets.iter().cloned());
            } else {
                followed.cached = match self.cache_at_snapshot(&wallets).await {
                    // One wallet that cannot be read must not keep the others from being followed.
                    Err(error) if is_about_a_statement(&error) => {
                        tracing::warn!(error = %Chain(&error), "profiles cannot be cached; readers get the error");
                        self.loader.client.batch_execute("ROLLBACK").await.doing(doing)?;
                        self.cache.mark_changed(&wallets, height).await?;
                        0
                    }
                    cached => cached?,
                };
            }
            self.position.looked_at = now;
            self.position.basis = basis;
            let watermark = &mut self.position.watermark;
            (watermark.height, watermark.snapshot) = (height, snapshot);
        }
        self.loader.client.batch_execute("COMMIT").await.doing(doing)?;
        self.confirm(&wallets, followed.raised).await?;
        followed.lag = self.read.elapsed();
        self.read = started;
        followed.cached += self.catch_up().await?;
        followed.backlog = self.backlog.len();
        self.prune().await?;
        followed.set_aside = self.cache.take_set_aside();
        Ok(followed)
    }

    /// Asks for what has changed since the position.
    async fn changed(&self, pruned: &str) -> Result<(Changed, String), SidecarError> {
        let doing = "look for changed profiles";
        let client = &self.loader.client;
        let basis: String = client.query_one(BASIS, &[]).await.doing(doing)?.get(0);
        let Position { watermark, looked_at, basis: former, .. } = &self.position;
        if watermark.snapshot.is_empty() {
            return Ok((Changed { everything: true, ..Changed::default() }, basis));
        }
        let everything = self.has_lost || basis != *former || !reaches_back(&watermark.snapshot, pruned);
        let mut changed = Changed { everything, ..Changed::default() };
        if everything {
            return Ok((changed, basis));
        }
        for row in client.query(CHANGED, &[&watermark.snapshot, looked_at]).await.doing(doing)? {
            let (network, address): (Option<String>, Option<String>) = (row.get(0), row.get(1));
            match (network, address) {
                (None, _) => changed.everything = true,
                (Some(network), None) => changed.networks.push(network),
                // An address in another spelling belongs to no wallet.
                (Some(network), Some(address)) => changed.wallets.extend(
                    WalletKey::parse(&address, &network)
                        .ok()
                        .filter(|wallet| wallet.address == address && wallet.network == network),
                ),
            }
        }
        changed.wallets.retain(|wallet| !changed.everything && !changed.networks.contains(&wallet.network));
        Ok((changed, basis))
    }

    /// Raises the floors. Returns whether there was a reason.
    fn raise(&mut self, changed: &Changed, height: Height) -> bool {
        let floors: &mut BTreeMap<String, Height> = &mut self.position.watermark.floors;
        if changed.everything {
            floors.clear();
            floors.insert(ALL_NETWORKS.to_owned(), height);
        }
        floors.extend(changed.networks.iter().map(|network| (network.clone(), height)));
        let raised = changed.everything || !changed.networks.is_empty();
        if raised {
            self.walk = Some(self.cache.walk(self.cache.identity.profiles()));
            self.backlog.clear();
        }
        raised
    }

    /// Reads profiles at the snapshot of the open transaction, and caches them.
    async fn cache_at_snapshot(&self, wallets: &[WalletKey]) -> Result<u64, SidecarError> {
        let mut cached = 0;
        for (network, addresses) in by_network(wallets) {
            let started = Instant::now();
            let Loaded { snapshot, profiles } = self.loader.load(network, &addresses).await?;
            let cost = started.elapsed() / u32::try_from(profiles.len().max(1)).unwrap_or(u32::MAX);
            if !profiles.is_empty() {
                cached += self.cache.put(&profiles, &snapshot, cost, Writer::Follower).await?;
            }
        }
        Ok(cached)
    }

    /// Renews the watermark, and announces what changed.
    async fn confirm(&mut self, wallets: &[WalletKey], raised: bool) -> Result<(), SidecarError> {
        self.position.watermark.pass += 1;
        let is_time = raised || self.stored.elapsed() >= CLOCK_INTERVAL;
        let message = Changes {
            watermark: self.position.watermark.clone(),
            wallets: wallets.iter().map(|wallet| format!("{}:{}", wallet.network, wallet.address)).collect(),
            raised,
        };
        let position = is_time.then_some(&self.position);
        let server = self.cache.confirm(&self.position.server, &self.position.watermark, position, &message).await?;
        self.has_lost = is_any_new(&server, &self.position.server);
        self.position.server = server;
        if self.has_lost {
            tracing::warn!("Redis was restarted or replaced; all cached profiles are taken for out of date");
        } else if is_time {
            self.stored = Instant::now();
        }
        Ok(())
    }

    /// Caches some profiles that were marked as changed, or are below a floor.
    async fn catch_up(&mut self) -> Result<u64, SidecarError> {
        if self.backlog.is_empty()
            && let Some(walk) = &mut self.walk
        {
            match walk.step().await? {
                Some(keys) => self.backlog.extend(keys.iter().filter_map(|key| self.cache.identity.wallet_of(key))),
                None => self.walk = None,
            }
        }
        if self.backlog.is_empty() {
            return Ok(0);
        }
        let count = self.backlog.len().min(MAX_LATER);
        let chunk: Vec<WalletKey> = self.backlog.drain(..count).collect();
        let doing = "read profiles of wallets";
        self.loader.client.batch_execute(BEGIN).await.doing(doing)?;
        let cached = self.cache_at_snapshot(&chunk).await;
        let cached = match cached {
            Err(error) if is_about_a_statement(&error) => {
                tracing::warn!(error = %Chain(&error), "profiles cannot be cached; readers get the error");
                0
            }
            cached => cached?,
        };
        // Also ends a transaction that failed.
        self.loader.client.batch_execute("COMMIT").await.doing(doing)?;
        Ok(cached)
    }

    /// Stores in PostgreSQL from time to time how far this follower has read, and removes what it
    /// no longer needs from the log.
    async fn prune(&mut self) -> Result<(), SidecarError> {
        if self.reported.elapsed() < REPORT_INTERVAL {
            return Ok(());
        }
        let doing = "store the follower's position";
        self.reported = Instant::now();
        let snapshot = &self.position.watermark.snapshot;
        self.ledger.execute(STORE, &[snapshot]).await.doing(doing)?;
        if self.pruned.elapsed() < PRUNE_INTERVAL {
            return Ok(());
        }
        self.pruned = Instant::now();
        let oldest = snapshot.split(':').next().unwrap_or_default().to_owned();
        self.ledger.query_one("SELECT arx.prune_profile_changes($1::text::xid8)", &[&oldest]).await.doing(doing)?;
        Ok(())
    }

    /// Stores the position, so that the next follower continues, and gives the watermark back.
    pub(crate) async fn leave(self) {
        let message = Changes { watermark: self.position.watermark.clone(), wallets: Vec::new(), raised: false };
        // Without it, the next follower takes every value for out of date.
        let Position { server, watermark, .. } = &self.position;
        let stored = self.cache.confirm(server, watermark, Some(&self.position), &message).await;
        if stored.is_ok() {
            let _ = self.cache.suspend().await;
        }
    }
}

/// Returns whether PostgreSQL rejected a statement, and the connection is still there.
fn is_about_a_statement(error: &SidecarError) -> bool {
    matches!(error, SidecarError::Postgres { .. })
        && matches!(error.kind(), ErrorKind::BadData | ErrorKind::Configuration | ErrorKind::Permanent)
}

/// Returns whether the changes since a snapshot are still logged.
fn reaches_back(snapshot: &str, changes_before: &str) -> bool {
    let oldest = snapshot.split(':').next().and_then(|xid| xid.parse::<u64>().ok());
    let kept = changes_before.parse::<u64>().ok();
    matches!((oldest, kept), (Some(oldest), Some(kept)) if oldest >= kept)
}

/// Removes all keys of a database from the cache. Returns their number.
///
/// # Errors
/// [`SidecarError::Redis`].
pub(crate) async fn remove_all(cache: &ProfileCache) -> Result<u64, SidecarError> {
    let (mut walk, mut removed) = (cache.walk(cache.identity.everything()), 0);
    while let Some(keys) = walk.step().await? {
        // Streams of writes may be on the same server, and hold accepted writes.
        let keys: Vec<String> = keys.into_iter().filter(|key| !cache.identity.is_of_stream(key)).collect();
        removed += cache.remove(&keys).await?;
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_that_is_behind_the_log_starts_over() {
        assert!(reaches_back("10:12:", "10") && reaches_back("10:12:", "0"));
        assert!(!reaches_back("10:12:", "11") && !reaches_back("", "0") && !reaches_back("10:12:", ""));
    }
}
