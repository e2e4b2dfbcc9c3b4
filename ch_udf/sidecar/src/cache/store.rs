//! The cache itself: reads, writes by version, the lock that lets one reader fill a missing profile, and annotations. The
//! scripts are in `sql/redis`.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{AsyncCommands, Script};

use super::keys::WalletKey;
use super::profile::{Annotation, Profile};
use crate::error::SidecarError;
use crate::settings::ServerUrl;

/// Oldest server that works: XAUTOCLAIM came with 6.2.
const NEEDED: (u32, u32, &str) = (6, 2, "6.2");

/// How long the filler of a missing profile may take before another may try.
const LOCK_MILLIS: u64 = 3_000;

/// How often and how long others look whether it is there: 2 s in all.
const LOCK_WAITS: u32 = 40;
const LOCK_WAIT: Duration = Duration::from_millis(50);

/// Entries a write-behind stream may hold: some 300 MB a shard at 300 bytes each, before writers are told to wait.
const LONGEST_STREAM: u64 = 1_000_000;

/// A connection to Redis that knows profiles.
#[derive(Clone)]
pub struct ProfileCache {
    connection: ConnectionManager,
    /// The server's version.
    pub version: String,
    ttl: u64,
}

/// What the cache says about a wallet.
#[derive(Debug)]
pub enum CachedProfile {
    /// It is here, pending annotations included.
    Found(Box<Profile>),
    /// It is not, and the caller is the one to read it from PostgreSQL; the token releases the lock.
    Missing(String),
    /// It is not, and whoever was to read it has not: the caller reads for itself.
    Late,
}

/// Where a profile came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Redis.
    Cache,
    /// PostgreSQL.
    Database,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Cache => "cache",
            Self::Database => "database",
        })
    }
}

pub(super) fn failed(doing: &'static str) -> impl FnOnce(redis::RedisError) -> SidecarError {
    move |source| SidecarError::Redis { doing, source }
}

impl ProfileCache {
    /// Connects, and checks that the server is new enough.
    ///
    /// # Errors
    /// [`SidecarError::Configuration`] for a malformed URL, [`SidecarError::Unreachable`], [`SidecarError::UnsupportedVersion`].
    pub async fn connect(url: &ServerUrl, ttl_seconds: u64) -> Result<Self, SidecarError> {
        let client = redis::Client::open(url.expose()).map_err(|error| SidecarError::Configuration {
            detail: format!("Redis URL {url} cannot be read: {error}"),
        })?;
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(1)
            .set_connection_timeout(Some(Duration::from_secs(2)))
            .set_response_timeout(Some(Duration::from_secs(10)));
        let mut connection = ConnectionManager::new_with_config(client, config).await.map_err(|source| {
            if source.is_io_error() || source.is_timeout() {
                SidecarError::Unreachable { server: "Redis", address: url.to_string(), source: Box::new(source) }
            } else {
                SidecarError::Redis { doing: "connect", source }
            }
        })?;
        let information: String =
            redis::cmd("INFO").arg("server").query_async(&mut connection).await.map_err(failed("check the version"))?;
        let version = information
            .lines()
            .find_map(|line| line.strip_prefix("redis_version:"))
            .map_or("unknown", str::trim)
            .to_owned();
        let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if found < (NEEDED.0, NEEDED.1) {
            let address = url.to_string();
            return Err(SidecarError::UnsupportedVersion {
                server: "Redis",
                address,
                found: version,
                needed: NEEDED.2,
            });
        }
        Ok(Self { connection, version, ttl: ttl_seconds })
    }

    /// The connection, for whoever shares it.
    #[must_use]
    pub fn connection(&self) -> ConnectionManager {
        self.connection.clone()
    }

    /// Looks a profile up; if it is missing, waits for whoever is filling it, or makes the caller the one to do so.
    ///
    /// # Errors
    /// [`SidecarError::Redis`].
    pub async fn get(&self, key: &WalletKey) -> Result<CachedProfile, SidecarError> {
        let mut connection = self.connection.clone();
        let token = format!("{:016x}", RandomState::new().build_hasher().finish());
        for _ in 0..LOCK_WAITS {
            if let Some(profile) = self.peek(key).await? {
                return Ok(CachedProfile::Found(Box::new(profile)));
            }
            let taken: Option<String> = redis::cmd("SET")
                .arg(key.lock())
                .arg(&token)
                .arg("NX")
                .arg("PX")
                .arg(LOCK_MILLIS)
                .query_async(&mut connection)
                .await
                .map_err(failed("take a profile's lock"))?;
            if taken.is_some() {
                return Ok(CachedProfile::Missing(token));
            }
            tokio::time::sleep(LOCK_WAIT).await;
        }
        Ok(CachedProfile::Late)
    }

    async fn peek(&self, key: &WalletKey) -> Result<Option<Profile>, SidecarError> {
        let mut connection = self.connection.clone();
        let fields: Vec<(String, String)> =
            connection.hgetall(key.profile()).await.map_err(failed("read a cached profile"))?;
        let Some((_, body)) = fields.iter().find(|(name, _)| name == "body") else { return Ok(None) };
        let Ok(mut profile) = serde_json::from_str::<Profile>(body) else {
            // written by another version of this program: read from PostgreSQL and replaced
            tracing::warn!(key = key.profile(), "a cached profile cannot be read and is dropped");
            let () = connection.del(key.profile()).await.map_err(failed("drop a cached profile"))?;
            return Ok(None);
        };
        for (name, value) in &fields {
            if name == "version" {
                profile.version = value.parse().unwrap_or(profile.version);
            } else if let Some(name) = name.strip_prefix("a:")
                && let Ok(value) = serde_json::from_str(value)
            {
                profile.analytics_profile.insert(name.to_owned(), value);
            }
        }
        Ok(Some(profile))
    }

    /// Caches a profile unless a newer one is cached, for the time to live give or take a tenth; releases the lock.
    ///
    /// # Errors
    /// [`SidecarError::Redis`], [`SidecarError::Json`].
    pub async fn put(&self, key: &WalletKey, profile: &Profile, token: Option<&str>) -> Result<bool, SidecarError> {
        let mut connection = self.connection.clone();
        let body = serde_json::to_string(profile)
            .map_err(|source| SidecarError::Json { doing: "write a profile as JSON", source })?;
        let set: i64 = Script::new(include_str!("../../../../sql/redis/profile_set.lua"))
            .key(key.profile())
            .arg(profile.version.to_string())
            .arg(body)
            .arg(jittered(self.ttl, RandomState::new().build_hasher().finish()))
            .invoke_async(&mut connection)
            .await
            .map_err(failed("cache a profile"))?;
        if let Some(token) = token {
            self.release(key, token).await?;
        }
        Ok(set == 1)
    }

    /// Lets others fill the profile.
    ///
    /// # Errors
    /// [`SidecarError::Redis`].
    pub async fn release(&self, key: &WalletKey, token: &str) -> Result<(), SidecarError> {
        let _: i64 = Script::new(include_str!("../../../../sql/redis/lock_release.lua"))
            .key(key.lock())
            .arg(token)
            .invoke_async(&mut self.connection.clone())
            .await
            .map_err(failed("release a profile's lock"))?;
        Ok(())
    }

    /// Shows an annotation in the cached profile and queues it for PostgreSQL, in one step; returns the entry's id.
    ///
    /// # Errors
    /// [`SidecarError::StreamFull`] when nobody applies what is queued, [`SidecarError::Redis`].
    pub async fn annotate(&self, key: &WalletKey, annotation: &Annotation) -> Result<String, SidecarError> {
        let script = Script::new(include_str!("../../../../sql/redis/profile_annotate.lua"));
        let mut call = script.key(key.profile());
        call.key(key.writes()).arg(&key.network).arg(&key.address).arg(annotation.text()).arg(LONGEST_STREAM);
        for (name, value) in annotation.fields() {
            call.arg(name).arg(value.get());
        }
        let reply: String =
            call.invoke_async(&mut self.connection.clone()).await.map_err(failed("queue an annotation"))?;
        match reply.strip_prefix("FULL ") {
            Some(length) => {
                Err(SidecarError::StreamFull { stream: key.writes(), length: length.parse().unwrap_or(LONGEST_STREAM) })
            }
            None => Ok(reply),
        }
    }

    /// Forgets a cached profile that is not newer than `version`.
    ///
    /// # Errors
    /// [`SidecarError::Redis`].
    pub async fn invalidate(&self, key: &WalletKey, version: u64) -> Result<bool, SidecarError> {
        let forgotten: i64 = Script::new(include_str!("../../../../sql/redis/profile_invalidate.lua"))
            .key(key.profile())
            .arg(version.to_string())
            .invoke_async(&mut self.connection.clone())
            .await
            .map_err(failed("forget a cached profile"))?;
        Ok(forgotten == 1)
    }
}

/// A time to live between nine and eleven tenths: profiles cached together do not expire together.
fn jittered(seconds: u64, random: u64) -> u64 {
    let spread = seconds / 5;
    seconds - seconds / 10 + random % (spread + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_to_live_differ_by_at_most_a_tenth() {
        for random in 0..1000 {
            assert!((270..=330).contains(&jittered(300, random)));
        }
        assert_ne!(jittered(300, 1), jittered(300, 2));
    }
}
