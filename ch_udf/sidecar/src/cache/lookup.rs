//! A cache-aside read: Redis first, then PostgreSQL, then Redis is filled. Without Redis the answer comes from PostgreSQL.

use std::time::{Duration, Instant};

use super::keys::WalletKey;
use super::profile::{Profile, load_profile};
use super::store::{CachedProfile, Origin, ProfileCache};
use crate::error::{Chain, SidecarError};
use crate::servers::postgres;
use crate::settings::Settings;

/// A profile, where it came from, and how long it took (connecting to Redis not counted).
#[derive(Debug)]
pub struct Lookup {
    /// The profile.
    pub profile: Profile,
    /// Where it came from.
    pub origin: Origin,
    /// How long the read took.
    pub elapsed: Duration,
}

/// Reads a wallet's profile.
///
/// # Errors
/// What PostgreSQL says; trouble with Redis is only warned of.
pub async fn lookup(settings: &Settings, key: &WalletKey) -> Result<Lookup, SidecarError> {
    let warn = |error: &SidecarError| {
        tracing::warn!(error = %Chain(error), "the cache cannot be used; reading from PostgreSQL");
    };
    let cache = match ProfileCache::connect(&settings.redis_url, settings.profile_ttl_seconds).await {
        Ok(cache) => Some(cache),
        Err(error) => {
            warn(&error);
            None
        }
    };
    let started = Instant::now();
    let Some(cache) = cache else {
        let profile = from_postgres(settings, key).await?;
        return Ok(Lookup { profile, origin: Origin::Database, elapsed: started.elapsed() });
    };
    let token = match cache.get(key).await {
        Ok(CachedProfile::Found(profile)) => {
            return Ok(Lookup { profile: *profile, origin: Origin::Cache, elapsed: started.elapsed() });
        }
        Ok(CachedProfile::Missing(token)) => Some(token),
        Ok(CachedProfile::Late) => None,
        Err(error) => {
            warn(&error);
            None
        }
    };
    let profile = match from_postgres(settings, key).await {
        Ok(profile) => profile,
        Err(error) => {
            if let Some(token) = &token {
                // the lock would expire by itself; the error of PostgreSQL is the one to report
                let _ = cache.release(key, token).await;
            }
            return Err(error);
        }
    };
    if let Err(error) = cache.put(key, &profile, token.as_deref()).await {
        warn(&error);
    }
    Ok(Lookup { profile, origin: Origin::Database, elapsed: started.elapsed() })
}

async fn from_postgres(settings: &Settings, key: &WalletKey) -> Result<Profile, SidecarError> {
    let connection = postgres::connect(&settings.postgres_url).await?;
    load_profile(&connection.client, key).await
}
