//! Filling the cache with every stored profile, and comparing every cached profile with PostgreSQL.

use std::time::{Duration, Instant};

use futures_util::{FutureExt, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use super::database::{Batch, Database};
use super::keys::WalletKey;
use super::profile::Profile;
use super::store::{ProfileCache, Writer};
use super::watermark::Height;
use crate::error::{Doing, SidecarError};
use crate::servers::postgres;
use crate::settings::Settings;

/// Wallets that are listed at a time.
const PAGE: i64 = 8_000;

/// Wallets that are read at a time.
const CHUNK: usize = 1_000;

/// Batches under way: one is read from PostgreSQL while another is written to Redis.
const AT_A_TIME: usize = 3;

/// Time for which `verify` waits until the follower reaches a snapshot.
const REACH_LIMIT: Duration = Duration::from_secs(10);
const REACH_POLL: Duration = Duration::from_millis(50);

/// Stored profiles after a wallet, in the order of the primary key.
const PAGE_OF_WALLETS: &str = "
    SELECT p.wallet_address, p.network_type FROM arx.wallet_profiles AS p
     WHERE (p.wallet_address, p.network_type) > ($1, $2)
       AND EXISTS (SELECT FROM arx.networks AS n WHERE n.network = p.network_type)
     ORDER BY p.wallet_address, p.network_type LIMIT $3";

/// Number of stored profiles, about.
const ESTIMATE: &str = "
    SELECT COALESCE(sum(GREATEST(c.reltuples, 0)), 0)::bigint FROM pg_partition_tree('arx.wallet_profiles') AS t
      JOIN pg_class AS c ON c.oid = t.relid WHERE t.isleaf";

/// The wallet up to which an earlier fill came.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Progress {
    address: String,
    network: String,
    filled: u64,
}

/// Numbers of a fill.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Filled {
    /// Profiles that were read, those of an interrupted fill included.
    pub(crate) read: u64,
    /// Profiles that were cached; others were there already, and newer.
    pub(crate) cached: u64,
    /// Profiles that an interrupted fill had read.
    pub(crate) resumed: u64,
}

/// Caches the profile of every stored wallet. An interrupted fill is continued, unless `restart`.
///
/// # Errors
/// [`SidecarError::Configuration`] while no sidecar keeps the profiles in step: they would be out
/// of date from the beginning. [`SidecarError::Postgres`], [`SidecarError::Redis`].
pub(crate) async fn fill(
    settings: &Settings,
    restart: bool,
    mut progress_to: impl FnMut(u64, u64),
) -> Result<Filled, SidecarError> {
    let client = postgres::connect(settings).await?.client;
    let database = Database::connect(settings).await?;
    let cache = ProfileCache::connect(settings, database.identity().clone()).await?;
    if cache.watermark().await?.is_none() {
        return Err(SidecarError::Configuration {
            detail: "no sidecar keeps the cached profiles in step; start `arx-sidecar run` first".into(),
        });
    }
    let doing = "list wallets";
    let estimate: i64 = client.query_one(ESTIMATE, &[]).await.doing(doing)?.get(0);
    let estimate = u64::try_from(estimate).unwrap_or_default();
    let key = cache.identity.fill();
    let stored = if restart { None } else { cache.get_json(&key, "read the progress of a fill").await? };
    let mut progress: Progress = stored.unwrap_or_default();
    let mut filled = Filled { read: progress.filled, resumed: progress.filled, cached: 0 };
    let statement = client.prepare(PAGE_OF_WALLETS).await.doing(doing)?;
    loop {
        let rows = client.query(&statement, &[&progress.address, &progress.network, &PAGE]).await.doing(doing)?;
        let Some(last) = rows.last() else { break };
        (progress.address, progress.network) = (last.get(0), last.get(1));
        // A row with another spelling belongs to no wallet.
        let wallets: Vec<WalletKey> = rows.iter().filter_map(|row| as_stored(row.get(0), row.get(1))).collect();
        let chunks: Vec<_> = wallets.chunks(CHUNK).map(|chunk| cache_chunk(&database, &cache, chunk).boxed()).collect();
        let counts: Vec<u64> = futures_util::stream::iter(chunks).buffer_unordered(AT_A_TIME).try_collect().await?;
        filled.cached += counts.iter().sum::<u64>();
        filled.read += rows.len() as u64;
        progress.filled = filled.read;
        cache.set_json(&key, &progress, "store the progress of a fill").await?;
        progress_to(filled.read, estimate.max(filled.read));
    }
    cache.remove(&[key]).await?;
    Ok(filled)
}

fn as_stored(address: &str, network: &str) -> Option<WalletKey> {
    let wallet = WalletKey::parse(address, network).ok()?;
    (wallet.address == address && wallet.network == network).then_some(wallet)
}

async fn cache_chunk(database: &Database, cache: &ProfileCache, wallets: &[WalletKey]) -> Result<u64, SidecarError> {
    let mut cached = 0;
    for Batch { snapshot, profiles, cost, .. } in database.load(wallets).await? {
        cached += cache.put(&profiles, &snapshot, cost, Writer::Reader).await?;
    }
    Ok(cached)
}

/// Result of a comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Compared {
    /// Keys of profiles.
    pub(crate) keys: u64,
    /// Profiles that are in use and equal PostgreSQL's.
    pub(crate) equal: u64,
    /// Values that no reader uses: below a floor, marked as changed, or unreadable.
    pub(crate) unused: u64,
    /// Wallets whose cached profile is in use and differs.
    pub(crate) differing: Vec<WalletKey>,
}

/// Compares every cached profile with PostgreSQL.
///
/// # Errors
/// [`SidecarError::Configuration`] while no sidecar keeps the profiles in step,
/// [`SidecarError::Postgres`], [`SidecarError::Redis`].
pub(crate) async fn compare(
    settings: &Settings,
    mut progress_to: impl FnMut(u64, u64),
) -> Result<Compared, SidecarError> {
    let database = Database::connect(settings).await?;
    let cache = ProfileCache::connect(settings, database.identity().clone()).await?;
    let mut compared = Compared::default();
    let mut suspects = Vec::new();
    let mut walk = cache.walk(cache.identity.profiles());
    while let Some(keys) = walk.step().await? {
        let wallets: Vec<WalletKey> = keys.iter().filter_map(|key| cache.identity.wallet_of(key)).collect();
        compared.keys += keys.len() as u64;
        compared.unused += (keys.len() - wallets.len()) as u64;
        let chunks: Vec<_> =
            wallets.chunks(CHUNK).map(|chunk| compare_chunk(&database, &cache, chunk).boxed()).collect();
        let results: Vec<ComparedChunk> =
            futures_util::stream::iter(chunks).buffer_unordered(AT_A_TIME).try_collect().await?;
        for ComparedChunk { equal, unused, suspects: more } in results {
            compared.equal += equal;
            compared.unused += unused;
            suspects.extend(more);
        }
        progress_to(compared.keys, compared.keys);
    }
    // A profile may have changed between the two reads: it counts only if it still differs when the
    // follower has caught up with the snapshot of the comparison.
    for (wallet, height) in suspects {
        match settle(&database, &cache, &wallet, height).await? {
            Settled::Equal => compared.equal += 1,
            Settled::Unused => compared.unused += 1,
            Settled::Differs => compared.differing.push(wallet),
        }
    }
    Ok(compared)
}

struct ComparedChunk {
    equal: u64,
    unused: u64,
    suspects: Vec<(WalletKey, Height)>,
}

async fn compare_chunk(
    database: &Database,
    cache: &ProfileCache,
    wallets: &[WalletKey],
) -> Result<ComparedChunk, SidecarError> {
    let (watermark, found) = cache.read(wallets).await?;
    let watermark = watermark.ok_or_else(|| SidecarError::Configuration {
        detail: "no sidecar keeps the cached profiles in step, so none of them is in use".into(),
    })?;
    let mut chunk = ComparedChunk { equal: 0, unused: 0, suspects: Vec::new() };
    let mut in_use = Vec::with_capacity(wallets.len());
    for (wallet, cached) in wallets.iter().zip(found) {
        match cached.filter(|cached| watermark.covers(&wallet.network, cached.height)) {
            Some(cached) => in_use.push((wallet.clone(), cached.profile)),
            None => chunk.unused += 1,
        }
    }
    let keys: Vec<WalletKey> = in_use.iter().map(|(wallet, _)| wallet.clone()).collect();
    if keys.is_empty() {
        return Ok(chunk);
    }
    let mut stored = std::collections::HashMap::with_capacity(keys.len());
    for Batch { height, profiles, .. } in database.load(&keys).await? {
        stored.extend(profiles.into_iter().map(|profile| (profile.key(), (profile, height))));
    }
    for (wallet, cached) in in_use {
        match stored.get(&wallet) {
            Some((profile, _)) if is_same(profile, &cached)? => chunk.equal += 1,
            Some((_, height)) => chunk.suspects.push((wallet, *height)),
            None => chunk.unused += 1,
        }
    }
    Ok(chunk)
}

fn is_same(left: &Profile, right: &Profile) -> Result<bool, SidecarError> {
    let text = |profile| serde_json::to_string(profile).doing("compare profiles");
    Ok(text(left)? == text(right)?)
}

enum Settled {
    Equal,
    Unused,
    Differs,
}

async fn settle(
    database: &Database,
    cache: &ProfileCache,
    wallet: &WalletKey,
    height: Height,
) -> Result<Settled, SidecarError> {
    let (started, mut height) = (Instant::now(), height);
    while started.elapsed() < REACH_LIMIT {
        let (watermark, mut found) = cache.read(std::slice::from_ref(wallet)).await?;
        let (Some(watermark), Some(cached)) = (watermark, found.pop().flatten()) else { return Ok(Settled::Unused) };
        if !watermark.covers(&wallet.network, cached.height) {
            return Ok(Settled::Unused);
        }
        if watermark.height >= height {
            let loaded = database.load(std::slice::from_ref(wallet)).await?;
            let Some(Batch { height: read, profiles, .. }) = loaded.into_iter().next() else {
                return Ok(Settled::Unused);
            };
            let is_equal = profiles.first().is_some_and(|profile| is_same(profile, &cached.profile).unwrap_or(false));
            if is_equal {
                return Ok(Settled::Equal);
            }
            if watermark.height >= read {
                return Ok(Settled::Differs);
            }
            // It may have changed again.
            height = read;
        }
        tokio::time::sleep(REACH_POLL).await;
    }
    Ok(Settled::Differs)
}
