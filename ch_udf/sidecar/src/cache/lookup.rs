//! Cache-aside reads: from Redis, or else from PostgreSQL and into Redis. Without Redis, PostgreSQL
//! answers.

use std::time::{Duration, Instant};

use super::keys::WalletKey;
use super::profile::{Profile, load_profile};
use super::store::{CachedProfile, Origin, ProfileCache};
use crate::error::{Chain, SidecarError};
use crate::servers::postgres;
use crate::settings::Settings;

/// A profile with its origin.
#[derive(Debug)]
pub(crate) struct Lookup {
    pub(crate) profile: Profile,
    pub(crate) origin: Origin,
    /// Duration of the read, without connecting to Redis.
    pub(crate) elapsed: Duration,
}

/// Reads a wallet's profile.
///
/// # Errors
/// Errors of PostgreSQL; an error of Redis is only a warning.
pub(crate) async fn lookup(settings: &Settings, key: &WalletKey) -> Result<Lookup, SidecarError> {
    let warn = |error: &SidecarError| {
        tracing::warn!(error = %Chain(error), "the cache cannot be used; reading from PostgreSQL");
    };
    let cache = match ProfileCache::connect(settings).await {
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
        Ok(CachedProfile::TimedOut) => None,
        Err(error) => {
            warn(&error);
            None
        }
    };
    let profile = match from_postgres(settings, key).await {
        Ok(profile) => profile,
        Err(error) => {
            if let Some(token) = &token {
                // The lock would expire anyway; the error of PostgreSQL is the one to report.
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
    let connection = postgres::connect(settings).await?;
    load_profile(&connection.client, key).await
}
