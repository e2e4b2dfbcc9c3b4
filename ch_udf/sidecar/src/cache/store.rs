//! The cache: reads, writes by version, the lock that lets one reader fill a missing profile, and
//! annotations. The scripts are in `sql/redis`.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::ConnectionManager;
use redis::{AsyncCommands, Script};

use super::keys::WalletKey;
use super::profile::{Annotation, Profile};
use crate::error::{Doing, SidecarError};
use crate::servers::redis::Connection;
use crate::servers::{self};
use crate::settings::Settings;

/// Time limit for filling a missing profile; then another reader may try.
const LOCK_MILLIS: u64 = 3_000;

/// Polls of the other readers until the profile is filled: 2 s in all.
const LOCK_POLLS: u32 = 40;
const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Entries of a write-behind stream before writes are rejected: about 300 MB a shard at 300 bytes
/// each.
const MAX_STREAM_LENGTH: u64 = 1_000_000;

/// Lifetime of a key that was put aside: 30 days.
const ASIDE_SECONDS: i64 = 30 * 86_400;

/// Returns whether a key has a value of another type than a command or a script needs. Redis 6
/// reports the error of a script as a text.
pub(crate) fn is_wrong_type(error: &redis::RedisError) -> bool {
    error.code() == Some("WRONGTYPE") || error.to_string().contains("WRONGTYPE")
}

/// The profiles in Redis.
#[derive(Clone)]
pub(crate) struct ProfileCache {
    connection: ConnectionManager,
    /// Version of the server.
    pub(crate) version: String,
    ttl_seconds: u64,
    /// Keys that were renamed because they had a wrong type.
    set_aside: Arc<AtomicU64>,
}

/// Answer of the cache about a wallet.
#[derive(Debug)]
pub(super) enum CachedProfile {
    /// The profile, pending annotations included.
    Found(Box<Profile>),
    /// The caller holds the lock, and is to read from PostgreSQL; the token releases the lock.
    Missing(String),
    /// Another reader holds the lock and has not filled the profile in time.
    TimedOut,
}

/// Server that a profile was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Origin {
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

impl ProfileCache {
    /// Connects to the Redis of the settings.
    ///
    /// # Errors
    /// Errors of [`redis::connect`](crate::servers::redis::connect).
    pub(crate) async fn connect(settings: &Settings) -> Result<Self, SidecarError> {
        let Connection { manager, version } = servers::redis::connect(settings).await?;
        let set_aside = Arc::default();
        Ok(Self { connection: manager, version, ttl_seconds: settings.profile_ttl_seconds, set_aside })
    }

    /// Renames a key whose value is not of a type, so that its name can be used again. Returns
    /// whether there was such a value.
    ///
    /// # Errors
    /// [`SidecarError::Redis`].
    pub(super) async fn set_aside_unless(&self, key: &str, expected: &str) -> Result<bool, SidecarError> {
        let doing = "put a key of a wrong type aside";
        let mut connection = self.connection.clone();
        let found: String = redis::cmd("TYPE").arg(key).query_async(&mut connection).await.doing(doing)?;
        if found == expected || found == "none" {
            return Ok(false);
        }
        // The hash tag of the key keeps the new name on its node.
        let aside = format!("{key}:aside:{:016x}", RandomState::new().build_hasher().finish());
        let () = connection.rename(key, &aside).await.doing(doing)?;
        let () = connection.expire(&aside, ASIDE_SECONDS).await.doing(doing)?;
        self.set_aside.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(key, found, expected, aside, "a key of a wrong type was renamed; it expires in 30 days");
        Ok(true)
    }

    /// Returns the number of keys that were renamed since the last call.
    pub(super) fn take_set_aside(&self) -> u64 {
        self.set_aside.swap(0, Ordering::Relaxed)
    }

    pub(crate) fn connection(&self) -> ConnectionManager {
        self.connection.clone()
    }

    /// Reads a profile. A missing one is waited for while another reader fills it; otherwise the
    /// caller gets the lock to fill it.
    ///
    /// # Errors
    /// [`SidecarError::Redis`].
    pub(super) async fn get(&self, key: &WalletKey) -> Result<CachedProfile, SidecarError> {
        let mut connection = self.connection.clone();
        let token = format!("{:016x}", RandomState::new().build_hasher().finish());
        for _ in 0..LOCK_POLLS {
            if let Some(profile) = self.peek(key).await? {
                return Ok(CachedProfile::Found(Box::new(profile)));
            }
            let acquired: Option<String> = redis::cmd("SET")
                .arg(key.lock())
                .arg(&token)
                .arg("NX")
                .arg("PX")
                .arg(LOCK_MILLIS)
                .query_async(&mut connection)
                .await
                .doing("take the lock of a profile")?;
            if acquired.is_some() {
                return Ok(CachedProfile::Missing(token));
            }
            tokio::time::sleep(LOCK_POLL_INTERVAL).await;
        }
        Ok(CachedProfile::TimedOut)
    }

    async fn peek(&self, key: &WalletKey) -> Result<Option<Profile>, SidecarError> {
        let mut connection = self.connection.clone();
        let fields: Vec<(String, String)> = match connection.hgetall(key.profile()).await {
            Err(error) if is_wrong_type(&error) => {
                self.set_aside_unless(&key.profile(), "hash").await?;
                return Ok(None);
            }
            fields => fields.doing("read a cached profile")?,
        };
        let Some((_, body)) = fields.iter().find(|(name, _)| name == "body") else { return Ok(None) };
        let Ok(mut profile) = serde_json::from_str::<Profile>(body) else {
            // Another version of this program wrote it. It is read from PostgreSQL and replaced.
            tracing::warn!(key = key.profile(), "dropped a cached profile that cannot be read");
            let () = connection.del(key.profile()).await.doing("drop a cached profile")?;
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

    /// Caches a profile unless a newer one is cached, and releases the lock. It lives for the
    /// configured time, give or take a tenth.
    ///
    /// # Errors
    /// [`SidecarError::Redis`], [`SidecarError::Json`].
    pub(super) async fn put(
        &self,
        key: &WalletKey,
        profile: &Profile,
        token: Option<&str>,
    ) -> Result<bool, SidecarError> {
        let mut connection = self.connection.clone();
        let body = serde_json::to_string(profile).doing("write a profile as JSON")?;
        let script = Script::new(include_str!("../../../../sql/redis/profile_set.lua"));
        let mut call = script.key(key.profile());
        call.arg(profile.version.to_string())
            .arg(body)
            .arg(jittered(self.ttl_seconds, RandomState::new().build_hasher().finish()));
        let mut set: redis::RedisResult<i64> = call.invoke_async(&mut connection).await;
        if set.as_ref().is_err_and(is_wrong_type) && self.set_aside_unless(&key.profile(), "hash").await? {
            set = call.invoke_async(&mut connection).await;
        }
        let set = set.doing("cache a profile")?;
        if let Some(token) = token {
            self.release(key, token).await?;
        }
        Ok(set == 1)
    }

    /// Releases the lock, so that another reader may fill the profile.
    ///
    /// # Errors
    /// [`SidecarError::Redis`].
    pub(super) async fn release(&self, key: &WalletKey, token: &str) -> Result<(), SidecarError> {
        let _: i64 = Script::new(include_str!("../../../../sql/redis/lock_release.lua"))
            .key(key.lock())
            .arg(token)
            .invoke_async(&mut self.connection.clone())
            .await
            .doing("release the lock of a profile")?;
        Ok(())
    }

    /// Adds an annotation to the cached profile and queues it for PostgreSQL, in one step. Returns
    /// the id of the queued entry.
    ///
    /// # Errors
    /// [`SidecarError::StreamFull`] when queued entries are not applied, [`SidecarError::Redis`].
    pub(crate) async fn annotate(&self, key: &WalletKey, annotation: &Annotation) -> Result<String, SidecarError> {
        let script = Script::new(include_str!("../../../../sql/redis/profile_annotate.lua"));
        let mut call = script.key(key.profile());
        call.key(key.writes()).arg(&key.network).arg(&key.address).arg(annotation.text()).arg(MAX_STREAM_LENGTH);
        for (name, value) in annotation.fields() {
            call.arg(name).arg(value.get());
        }
        let mut reply: redis::RedisResult<String> = call.invoke_async(&mut self.connection.clone()).await;
        if reply.as_ref().is_err_and(is_wrong_type) {
            self.set_aside_unless(&key.profile(), "hash").await?;
            self.set_aside_unless(&key.writes(), "stream").await?;
            reply = call.invoke_async(&mut self.connection.clone()).await;
        }
        let reply = reply.doing("queue an annotation")?;
        match reply.strip_prefix("FULL ") {
            Some(length) => Err(SidecarError::StreamFull {
                stream: key.writes(),
                length: length.parse().unwrap_or(MAX_STREAM_LENGTH),
            }),
            None => Ok(reply),
        }
    }

    /// Drops a cached profile that is not newer than `version`.
    ///
    /// # Errors
    /// [`SidecarError::Redis`].
    pub(super) async fn invalidate(&self, key: &WalletKey, version: u64) -> Result<bool, SidecarError> {
        let dropped: redis::RedisResult<i64> =
            Script::new(include_str!("../../../../sql/redis/profile_invalidate.lua"))
                .key(key.profile())
                .arg(version.to_string())
                .invoke_async(&mut self.connection.clone())
                .await;
        if dropped.as_ref().is_err_and(is_wrong_type) {
            return self.set_aside_unless(&key.profile(), "hash").await;
        }
        Ok(dropped.doing("drop a cached profile")? == 1)
    }
}

/// Returns a time to live within a tenth of `seconds`, so that profiles cached together expire
/// apart.
fn jittered(seconds: u64, random: u64) -> u64 {
    let spread = seconds / 5;
    seconds - seconds / 10 + random % (spread + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_to_live_vary_by_at_most_a_tenth() {
        for random in 0..1000 {
            assert!((270..=330).contains(&jittered(300, random)));
        }
        assert_ne!(jittered(300, 1), jittered(300, 2));
    }
}
