//! The cached profiles in Redis: reads with the watermark that they depend on, writes by the height
//! of their snapshot, and the lock that lets one reader fill a missing profile. The scripts are in
//! `sql/redis`.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::{AsyncCommands, FromRedisValue, Script, Value, from_redis_value_ref};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::keys::{Identity, WalletKey};
use super::profile::Profile;
use super::watermark::{Changes, Height, Watermark};
use crate::error::{Doing, SidecarError};
use crate::servers::redis::{Connection, Endpoint, Link, publish};
use crate::servers::{self};
use crate::settings::Settings;

/// Time limit for filling a missing profile; then another reader may try. Nothing that was read
/// longer ago is cached: a mark of a change lives longer.
pub(super) const FILL_LIMIT: Duration = Duration::from_secs(5);

/// Lifetime of the mark of a change.
const MARK_LIFETIME: Duration = Duration::from_secs(60);

/// Lifetime of the watermark, unless the follower renews it: the longest time for which a follower
/// that stopped leaves its values in use.
pub(crate) const LEASE: Duration = Duration::from_secs(2);

/// Lifetime of the profile of a wallet that the database does not know.
const UNKNOWN_LIFETIME: Duration = Duration::from_secs(30);

/// Lifetime of the follower's position.
pub(super) const POSITION_LIFETIME: Duration = Duration::from_secs(7 * 86_400);

/// Looks with changes that late subscribers find in the stream of events.
pub(super) const MAX_EVENTS: usize = 10_000;

/// Lifetime of a key that was put aside: 30 days.
const ASIDE_SECONDS: i64 = 30 * 86_400;

/// Commands of one pipeline.
pub(super) const PIPELINE: usize = 500;

/// Longest profile that is cached, in bytes.
const MAX_BODY: usize = 1024 * 1024;

/// Returns whether a key has a value of another type than a command or a script needs. Redis 6
/// reports the error of a script as a text.
pub(crate) fn is_wrong_type(error: &redis::RedisError) -> bool {
    error.code() == Some("WRONGTYPE") || error.to_string().contains("WRONGTYPE")
}

/// The profiles of a database in Redis.
#[derive(Clone)]
pub(crate) struct ProfileCache {
    connection: Link,
    /// Version of the server.
    pub(crate) version: String,
    /// Its `maxmemory-policy`.
    pub(crate) eviction: String,
    pub(crate) identity: Identity,
    lifetime: Duration,
    /// Keys that were renamed because they had a wrong type.
    set_aside: Arc<AtomicU64>,
}

/// A profile in the cache.
#[derive(Debug)]
pub(super) struct Cached {
    pub(super) height: Height,
    pub(super) snapshot: String,
    pub(super) profile: Profile,
    /// Time that reading it from PostgreSQL took.
    pub(super) cost: Duration,
    pub(super) remaining: Duration,
}

/// The writer of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    Follower,
    Reader,
}

impl ProfileCache {
    /// Connects to the Redis of the settings.
    ///
    /// # Errors
    /// Errors of [`redis::connect`](crate::servers::redis::connect).
    pub(crate) async fn connect(settings: &Settings, identity: Identity) -> Result<Self, SidecarError> {
        let Connection { link, version, eviction, .. } = servers::redis::connect(settings, Endpoint::Cache).await?;
        let lifetime = Duration::from_secs(settings.profile_ttl_seconds);
        Ok(Self { connection: link, version, eviction, identity, lifetime, set_aside: Arc::default() })
    }

    pub(crate) fn connection(&self) -> Link {
        self.connection.clone()
    }

    /// Renames a key of the cache whose value is not of a type.
    ///
    /// # Errors
    /// [`SidecarError::Redis`].
    async fn set_aside_unless(&self, key: &str, expected: &str) -> Result<bool, SidecarError> {
        let done = set_aside_unless(&mut self.connection.clone(), key, expected).await?;
        self.set_aside.fetch_add(u64::from(done), Ordering::Relaxed);
        Ok(done)
    }

    /// Returns the number of keys that were renamed since the last call.
    pub(crate) fn take_set_aside(&self) -> u64 {
        self.set_aside.swap(0, Ordering::Relaxed)
    }

    /// Reads the watermark, and then the profiles of wallets, in the given order. The watermark is
    /// older than every value, so what it promises holds for them.
    ///
    /// # Errors
    /// [`SidecarError::Redis`].
    pub(super) async fn read(
        &self,
        wallets: &[WalletKey],
    ) -> Result<(Option<Watermark>, Vec<Option<Cached>>), SidecarError> {
        if self.connection.is_cluster() {
            return self.read_from_nodes(wallets).await;
        }
        let doing = "read cached profiles";
        let (mut watermark, mut found) = (None, Vec::with_capacity(wallets.len()));
        // The first watermark is the oldest one.
        for (number, chunk) in wallets.chunks(PIPELINE).enumerate() {
            let mut commands = redis::pipe();
            commands.cmd("GET").arg(self.identity.watermark());
            for wallet in chunk {
                let key = wallet.profile(&self.identity);
                commands.cmd("HMGET").arg(&key).arg(&["height", "snapshot", "body", "cost"]);
                commands.cmd("PTTL").arg(key);
            }
            let replies: Vec<redis::RedisResult<Value>> =
                commands.ignore_errors().query_async(&mut self.connection.clone()).await.doing(doing)?;
            let mut replies = replies.into_iter();
            let of_server = |error: redis::RedisError| match is_wrong_type(&error) {
                true => Ok(Value::Nil),
                false => Err(error),
            };
            if let Some(reply) = replies.next()
                && number == 0
            {
                watermark = read_json(&reply.or_else(of_server).doing(doing)?);
            }
            for wallet in chunk {
                let (fields, lifetime) = (replies.next().transpose(), replies.next().transpose());
                let fields = match fields {
                    Err(error) if is_wrong_type(&error) => {
                        self.set_aside_unless(&wallet.profile(&self.identity), "hash").await?;
                        None
                    }
                    fields => fields.doing(doing)?,
                };
                let lifetime = lifetime.or_else(|error| of_server(error).map(Some)).doing(doing)?;
                found.push(match (fields, lifetime) {
                    (Some(fields), Some(lifetime)) => decode(wallet, &fields, &lifetime),
                    _ => None,
                });
            }
        }
        Ok((watermark, found))
    }

    /// Reads the watermark of a cluster, and then the profiles. The watermark vouches for the nodes
    /// that have all values, so a profile of any other node does not count.
    async fn read_from_nodes(
        &self,
        wallets: &[WalletKey],
    ) -> Result<(Option<Watermark>, Vec<Option<Cached>>), SidecarError> {
        let doing = "read cached profiles";
        let Some(watermark) = self.watermark().await? else {
            return Ok((None, std::iter::repeat_with(|| None).take(wallets.len()).collect()));
        };
        let source = include_str!("../../../../sql/redis/profile_get.lua");
        let script = Script::new(source);
        let mut found = Vec::with_capacity(wallets.len());
        for chunk in wallets.chunks(PIPELINE) {
            let mut commands = redis::pipe();
            commands.cmd("SCRIPT").arg("LOAD").arg(source);
            for wallet in chunk {
                commands.cmd("EVALSHA").arg(script.get_hash()).arg(1).arg(wallet.profile(&self.identity));
            }
            let replies: Vec<redis::RedisResult<Value>> =
                commands.ignore_errors().query_async(&mut self.connection.clone()).await.doing(doing)?;
            for (wallet, reply) in chunk.iter().zip(replies.into_iter().skip(1)) {
                let reply = match reply {
                    Err(error) if is_wrong_type(&error) => {
                        self.set_aside_unless(&wallet.profile(&self.identity), "hash").await?;
                        Value::Nil
                    }
                    reply => reply.doing(doing)?,
                };
                let parts = from_redis_value_ref::<(Value, Value, String)>(&reply).ok();
                let parts = parts.filter(|(_, _, node)| watermark.nodes.contains(node));
                found.push(parts.and_then(|(fields, lifetime, _)| decode(wallet, &fields, &lifetime)));
            }
        }
        Ok((Some(watermark), found))
    }

    /// Caches profiles that are true at a snapshot, unless newer ones are cached. Returns how many
    /// were cached.
    ///
    /// # Errors
    /// [`SidecarError::Redis`], [`SidecarError::Json`].
    pub(super) async fn put(
        &self,
        profiles: &[Profile],
        snapshot: &str,
        cost: Duration,
        writer: Writer,
    ) -> Result<u64, SidecarError> {
        let height = Height::of(snapshot)?;
        let random = RandomState::new();
        let mut calls = Vec::new();
        for (number, profile) in profiles.iter().enumerate() {
            let body = serde_json::to_string(profile).doing("write a profile as JSON")?;
            let key = profile.key().profile(&self.identity);
            if body.len() > MAX_BODY {
                // Readers get it from PostgreSQL.
                calls.push((key, vec![height.0.to_string(), MARK_LIFETIME.as_millis().to_string()], false));
                continue;
            }
            let lifetime = if profile.is_unknown() { self.lifetime.min(UNKNOWN_LIFETIME) } else { self.lifetime };
            let lifetime = jittered(u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX), random.hash_one(number));
            let arguments = [
                height.0.to_string(),
                snapshot.to_owned(),
                body,
                lifetime.to_string(),
                cost.as_micros().to_string(),
                u8::from(writer == Writer::Follower).to_string(),
            ];
            calls.push((key, arguments.into(), true));
        }
        let (sets, marks): (Vec<_>, Vec<_>) = calls.into_iter().partition(|(_, _, is_set)| *is_set);
        let pairs =
            |calls: Vec<(String, Vec<String>, bool)>| calls.into_iter().map(|(key, arguments, _)| (key, arguments));
        self.run(include_str!("../../../../sql/redis/profile_drop.lua"), pairs(marks).collect()).await?;
        self.run(include_str!("../../../../sql/redis/profile_set.lua"), pairs(sets).collect()).await
    }

    /// Marks profiles as changed, so that the next reader reads them from PostgreSQL.
    ///
    /// # Errors
    /// [`SidecarError::Redis`].
    pub(super) async fn mark_changed(&self, wallets: &[WalletKey], height: Height) -> Result<u64, SidecarError> {
        let arguments = vec![height.0.to_string(), MARK_LIFETIME.as_millis().to_string()];
        let calls = wallets.iter().map(|wallet| (wallet.profile(&self.identity), arguments.clone()));
        self.run(include_str!("../../../../sql/redis/profile_drop.lua"), calls.collect()).await
    }

    /// Calls a script of one key many times. Returns the sum of its results.
    async fn run(&self, source: &'static str, calls: Vec<(String, Vec<String>)>) -> Result<u64, SidecarError> {
        let doing = "cache profiles";
        let script = Script::new(source);
        let mut connection = self.connection.clone();
        let mut sum = 0;
        for chunk in calls.chunks(PIPELINE) {
            let call = |commands: &mut redis::Pipeline, key: &String, arguments: &Vec<String>| {
                commands.cmd("EVALSHA").arg(script.get_hash()).arg(1).arg(key).arg(arguments);
            };
            let mut commands = redis::pipe();
            // Loading costs as much as a call, and spares the answer that the script is unknown.
            commands.cmd("SCRIPT").arg("LOAD").arg(source);
            for (key, arguments) in chunk {
                call(&mut commands, key, arguments);
            }
            let replies: Vec<redis::RedisResult<Value>> =
                commands.ignore_errors().query_async(&mut connection).await.doing(doing)?;
            for ((key, arguments), reply) in chunk.iter().zip(replies.into_iter().skip(1)) {
                let reply = match reply {
                    Err(error) if is_wrong_type(&error) => {
                        self.set_aside_unless(key, "hash").await?;
                        let mut again = redis::cmd("EVALSHA");
                        again.arg(script.get_hash()).arg(1).arg(key).arg(arguments);
                        again.query_async(&mut connection).await
                    }
                    reply => reply,
                };
                sum += u64::from(reply.doing(doing)? == Value::Int(1));
            }
        }
        Ok(sum)
    }

    /// Takes the lock to fill a profile. Returns the token that releases it, or `None` while
    /// another reader has it.
    ///
    /// # Errors
    /// [`SidecarError::Redis`].
    pub(super) async fn lock(&self, wallet: &WalletKey) -> Result<Option<String>, SidecarError> {
        let token = format!("{:016x}", RandomState::new().build_hasher().finish());
        let taken: Option<String> = redis::cmd("SET")
            .arg(wallet.lock(&self.identity))
            .arg(&token)
            .arg("NX")
            .arg("PX")
            .arg(u64::try_from(FILL_LIMIT.as_millis()).unwrap_or(u64::MAX))
            .query_async(&mut self.connection.clone())
            .await
            .doing("take the lock of a profile")?;
        Ok(taken.map(|_| token))
    }

    /// Releases the lock, so that another reader may fill the profile.
    ///
    /// # Errors
    /// [`SidecarError::Redis`].
    pub(super) async fn release(&self, wallet: &WalletKey, token: &str) -> Result<(), SidecarError> {
        let source = include_str!("../../../../sql/redis/lock_release.lua");
        let _: i64 =
            self.call(source, &[&wallet.lock(&self.identity), token]).await.doing("release the lock of a profile")?;
        Ok(())
    }

    /// Reads the watermark.
    ///
    /// # Errors
    /// [`SidecarError::Redis`].
    pub(crate) async fn watermark(&self) -> Result<Option<Watermark>, SidecarError> {
        self.get_json(&self.identity.watermark(), "read the watermark").await
    }

    /// Calls a script of one key, which is the first of the arguments.
    async fn call<T: FromRedisValue>(&self, source: &'static str, arguments: &[&str]) -> redis::RedisResult<T> {
        let mut call = redis::cmd("EVALSHA");
        call.arg(Script::new(source).get_hash()).arg(1).arg(arguments);
        let mut commands = redis::pipe();
        commands.cmd("SCRIPT").arg("LOAD").arg(source).ignore().add_command(call);
        let (result,) = commands.query_async(&mut self.connection.clone()).await?;
        Ok(result)
    }

    /// Returns the marks of the servers that have the values. One has another mark after a restart
    /// or a failover.
    ///
    /// # Errors
    /// [`SidecarError::Redis`].
    pub(super) async fn servers(&self) -> Result<String, SidecarError> {
        match self.connection.is_cluster() {
            true => self.marks().await,
            false => self.set_watermark("", "").await,
        }
    }

    async fn marks(&self) -> Result<String, SidecarError> {
        Ok(servers::redis::information(&mut self.connection.clone(), "ask the nodes for their marks").await?.marks())
    }

    /// Sets the watermark if its server has one of the given marks. Returns the mark that it has.
    async fn set_watermark(&self, known: &str, watermark: &str) -> Result<String, SidecarError> {
        let source = include_str!("../../../../sql/redis/watermark_set.lua");
        let arguments = [&self.identity.watermark(), known, watermark, &millis(LEASE).to_string()];
        self.call(source, &arguments).await.doing("renew the watermark")
    }

    /// Renews the watermark, unless a server may lack values. Returns the marks of the servers.
    async fn renew(&self, known: &str, watermark: &Watermark) -> Result<String, SidecarError> {
        let text = |watermark| serde_json::to_string(watermark).doing("renew the watermark");
        if !self.connection.is_cluster() {
            return self.set_watermark(known, &text(watermark)?).await;
        }
        let found = self.marks().await?;
        if is_any_new(&found, known) {
            return Ok(found);
        }
        let nodes = found.split(',').map(str::to_owned).collect();
        let watermark = Watermark { nodes, ..watermark.clone() };
        // The node of the watermark may have been replaced since.
        let own = self.set_watermark(&found, &text(&watermark)?).await?;
        Ok(if is_any_new(&own, &found) { format!("{found},{own}") } else { found })
    }

    /// Renews the watermark, and announces it with the wallets that changed. Returns the marks of
    /// the servers: if one of them [is new](is_any_new), values may be lost, and nothing was
    /// renewed.
    ///
    /// # Errors
    /// [`SidecarError::Redis`], [`SidecarError::Json`].
    pub(super) async fn confirm(
        &self,
        server: &str,
        watermark: &Watermark,
        position: Option<&impl Serialize>,
        message: &Changes,
    ) -> Result<String, SidecarError> {
        let doing = "renew the watermark";
        let json = |value: serde_json::Result<String>| value.doing(doing);
        let found = self.renew(server, watermark).await?;
        if is_any_new(&found, server) {
            return Ok(found);
        }
        let mut commands = redis::pipe();
        if let Some(position) = position {
            let set = commands.cmd("SET").arg(self.identity.position()).arg(json(serde_json::to_string(position))?);
            set.arg("PX").arg(millis(POSITION_LIFETIME)).ignore();
        }
        let is_event = !message.wallets.is_empty() || message.raised;
        let message = json(serde_json::to_string(message))?;
        if is_event {
            let add = commands.cmd("XADD").arg(self.identity.events()).arg("MAXLEN").arg("~").arg(MAX_EVENTS);
            add.arg("*").arg("changes").arg(&message).ignore();
            commands.cmd("PEXPIRE").arg(self.identity.events()).arg(millis(POSITION_LIFETIME)).ignore();
        }
        commands.add_command(publish(&self.connection, &self.identity.changes(), &message)).ignore();
        match commands.query_async::<()>(&mut self.connection.clone()).await {
            Err(error) if is_wrong_type(&error) => {
                self.set_aside_unless(&self.identity.events(), "stream").await?;
                commands.query_async::<()>(&mut self.connection.clone()).await.doing(doing)?;
            }
            done => done.doing(doing)?,
        }
        Ok(found)
    }

    /// Takes the watermark back: readers use PostgreSQL until the next one.
    ///
    /// # Errors
    /// [`SidecarError::Redis`].
    pub(super) async fn suspend(&self) -> Result<(), SidecarError> {
        let _: u64 = self.connection.clone().del(self.identity.watermark()).await.doing("take the watermark back")?;
        Ok(())
    }

    /// Reads the follower's position as it was stored.
    ///
    /// # Errors
    /// [`SidecarError::Redis`].
    pub(super) async fn position<T: DeserializeOwned>(&self) -> Result<Option<T>, SidecarError> {
        self.get_json(&self.identity.position(), "read the follower's position").await
    }

    pub(super) async fn get_json<T: DeserializeOwned>(
        &self,
        key: &str,
        doing: &'static str,
    ) -> Result<Option<T>, SidecarError> {
        let mut connection = self.connection.clone();
        match redis::cmd("GET").arg(key).query_async::<Value>(&mut connection).await {
            Err(error) if is_wrong_type(&error) => {
                self.set_aside_unless(key, "string").await?;
                Ok(None)
            }
            reply => Ok(read_json(&reply.doing(doing)?)),
        }
    }

    pub(super) async fn set_json(
        &self,
        key: &str,
        value: &impl Serialize,
        doing: &'static str,
    ) -> Result<(), SidecarError> {
        let text = serde_json::to_string(value).doing(doing)?;
        self.connection.clone().set_ex(key, text, POSITION_LIFETIME.as_secs()).await.doing(doing)
    }

    /// Begins a walk through the keys that match a pattern.
    pub(super) fn walk(&self, pattern: String) -> Walk {
        Walk { cache: self.clone(), pattern, nodes: None, cursor: 0 }
    }

    /// Counts the keys of profiles.
    ///
    /// # Errors
    /// [`SidecarError::Redis`].
    pub(crate) async fn count(&self) -> Result<u64, SidecarError> {
        let (mut walk, mut count) = (self.walk(self.identity.profiles()), 0);
        while let Some(keys) = walk.step().await? {
            count += keys.len() as u64;
        }
        Ok(count)
    }

    /// Removes keys.
    ///
    /// # Errors
    /// [`SidecarError::Redis`].
    pub(super) async fn remove(&self, keys: &[String]) -> Result<u64, SidecarError> {
        let mut removed = 0;
        for chunk in keys.chunks(PIPELINE) {
            let mut commands = redis::pipe();
            for key in chunk {
                commands.cmd("UNLINK").arg(key);
            }
            let counts: Vec<u64> =
                commands.query_async(&mut self.connection.clone()).await.doing("remove cached profiles")?;
            removed += counts.iter().sum::<u64>();
        }
        Ok(removed)
    }
}

/// A walk through keys. It shows each key that is there from its beginning to its end, and stays on
/// its node; some more than once.
pub(super) struct Walk {
    cache: ProfileCache,
    pattern: String,
    /// Servers that are still to be walked through, the current one last.
    nodes: Option<Vec<String>>,
    cursor: u64,
}

impl Walk {
    /// Returns some keys, or `None` at the end.
    ///
    /// # Errors
    /// [`SidecarError::Redis`].
    pub(super) async fn step(&mut self) -> Result<Option<Vec<String>>, SidecarError> {
        let doing = "look for keys";
        let mut connection = self.cache.connection();
        let nodes = match &mut self.nodes {
            Some(nodes) => nodes,
            None => {
                let facts = servers::redis::information(&mut connection, doing).await?;
                self.nodes.insert(facts.addresses().map(str::to_owned).collect())
            }
        };
        let Some(node) = nodes.last() else { return Ok(None) };
        // A pattern has no other special characters: an identity is made of digits and points.
        let mut scan = redis::cmd("SCAN");
        scan.arg(self.cursor).arg("MATCH").arg(&self.pattern).arg("COUNT").arg(2_000);
        let (next, keys): (u64, Vec<String>) = connection.ask(node, &scan).await.doing(doing)?;
        self.cursor = next;
        if next == 0 {
            nodes.pop();
        }
        Ok(Some(keys))
    }
}

/// Returns whether one of the marks of servers is not among those that are known.
pub(super) fn is_any_new(found: &str, known: &str) -> bool {
    found.split(',').any(|mark| known.split(',').all(|other| other != mark))
}

/// Renames a key whose value is not of a type, so that its name can be used again. Returns whether
/// there was such a value.
///
/// # Errors
/// [`SidecarError::Redis`].
pub(super) async fn set_aside_unless(connection: &mut Link, key: &str, expected: &str) -> Result<bool, SidecarError> {
    let doing = "put a key of a wrong type aside";
    let found: String = redis::cmd("TYPE").arg(key).query_async(connection).await.doing(doing)?;
    if found == expected || found == "none" {
        return Ok(false);
    }
    // The hash tag of the key keeps the new name on its node.
    let aside = format!("{key}:aside:{:016x}", RandomState::new().build_hasher().finish());
    let () = connection.rename(key, &aside).await.doing(doing)?;
    let () = connection.expire(&aside, ASIDE_SECONDS).await.doing(doing)?;
    tracing::warn!(key, found, expected, aside, "a key of a wrong type was renamed; it expires in 30 days");
    Ok(true)
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Reads a JSON text; anything else is no value.
fn read_json<T: DeserializeOwned>(value: &Value) -> Option<T> {
    let text: Option<String> = from_redis_value_ref(value).ok()?;
    serde_json::from_str(&text?).ok()
}

/// Reads a cached profile. Anything but a whole profile of this wallet is no value: it is read from
/// PostgreSQL and replaced.
fn decode(wallet: &WalletKey, fields: &Value, lifetime: &Value) -> Option<Cached> {
    let fields: Vec<Option<String>> = from_redis_value_ref(fields).ok()?;
    let [height, snapshot, body, cost] = <[Option<String>; 4]>::try_from(fields).ok()?;
    let (height, snapshot) = (Height(height?.parse().ok()?), snapshot?);
    if Height::of(&snapshot).ok()? != height {
        return None;
    }
    let profile: Profile = serde_json::from_str(&body?).ok()?;
    // A key without a lifetime was not written by this program.
    let remaining: u64 = from_redis_value_ref::<i64>(lifetime).ok()?.try_into().ok()?;
    (profile.key() == *wallet).then_some(Cached {
        height,
        snapshot,
        profile,
        cost: Duration::from_micros(cost?.parse().ok()?),
        remaining: Duration::from_millis(remaining),
    })
}

/// Returns a time to live within a tenth of the given one, so that profiles cached together expire
/// apart.
fn jittered(time: u64, random: u64) -> u64 {
    let spread = time / 5;
    time - time / 10 + random % (spread + 1)
}

/// Groups wallets by network.
pub(super) fn by_network(wallets: &[WalletKey]) -> HashMap<&str, Vec<&str>> {
    let mut networks: HashMap<&str, Vec<&str>> = HashMap::new();
    for wallet in wallets {
        networks.entry(&wallet.network).or_default().push(&wallet.address);
    }
    networks
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

    #[test]
    fn a_server_that_left_is_no_reason_to_distrust_the_others() {
        assert!(!is_any_new("a.1", "a.1") && !is_any_new("a.1", "a.1,b.2"));
        assert!(is_any_new("a.2", "a.1") && is_any_new("a.1,b.2", "a.1") && is_any_new("a.1", ""));
    }

    #[test]
    fn garbage_and_foreign_values_are_no_profiles() {
        let wallet = WalletKey::parse("0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed", "ethereum").unwrap();
        let body = r#"{"network": "ethereum", "address": "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed", "known": true,
            "version": 1, "first_seen": null, "last_activity": null, "transaction_count": 1, "total_volume": "1",
            "total_volume_usd": "1", "labels": [], "analytics_profile": {}, "risk": {"score": 1.5, "probability": null,
            "band": "low", "state": "scored", "coverage": 1, "model_version": "m", "reasons": [], "factors": []}}"#;
        let texts =
            |fields: &[&str]| Value::Array(fields.iter().map(|field| Value::BulkString((*field).into())).collect());
        let read = |fields: &[&str], lifetime: i64| decode(&wallet, &texts(fields), &Value::Int(lifetime));
        assert_eq!(read(&["5", "5:5:", body, "100"], 10).unwrap().height, Height(5));
        assert!(read(&["6", "5:5:", body, "100"], 10).is_none(), "a height of another snapshot");
        assert!(read(&["5", "5:5:", body, "100"], -1).is_none(), "no lifetime");
        assert!(read(&["5", "5:5:", &body.replace("0x5a", "0x5b"), "100"], 10).is_none(), "another wallet");
        assert!(read(&["5", "5:5:", "{}", "100"], 10).is_none() && read(&["x"], 10).is_none());
        assert!(decode(&wallet, &Value::Nil, &Value::Int(1)).is_none());
    }
}
