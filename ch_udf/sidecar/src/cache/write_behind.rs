//! Brings queued annotations from Redis into `arx.wallet_profiles`. Owns the consumer group and the order: entries of a shard
//! are applied in the order of their ids, acknowledged after PostgreSQL has committed, and never twice.
//!
//! One writer a database at a time (an advisory lock), so an entry that a dead writer left pending is taken over before any
//! later one is read. The last applied id is stored in the same transaction as the rows, in `arx.feed_positions` under
//! `write-behind:<shard>:<identity of the stream>`, as `attempt` (milliseconds) and `epoch` (sequence) of the id.

use std::collections::HashMap;

use redis::aio::ConnectionManager;
use redis::streams::{StreamAutoClaimOptions, StreamAutoClaimReply, StreamId, StreamReadOptions, StreamReadReply};
use redis::{AsyncCommands, from_redis_value_ref};
use tokio_postgres::Client;

use super::keys::{SHARDS, ShardKeys, WalletKey, shard_keys};
use super::profile::Annotation;
use super::store::{ProfileCache, failed};
use crate::error::{Chain, ErrorKind, SidecarError};
use crate::servers::postgres::Duty;

/// The consumer group, on every shard's stream.
const GROUP: &str = "arx";

/// Entries applied by one transaction.
const BATCH: usize = 500;

/// Dead letters kept a shard.
const DEAD_KEPT: usize = 10_000;

/// What a round did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drained {
    /// Annotations written.
    pub applied: usize,
    /// Entries delivered again that were written before.
    pub repeated: usize,
    /// Entries put aside because PostgreSQL cannot take them.
    pub dead: usize,
}

impl Drained {
    /// Whether there was nothing to do.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        *self == Self::default()
    }

    fn add(&mut self, other: Self) {
        self.applied += other.applied;
        self.repeated += other.repeated;
        self.dead += other.dead;
    }
}

/// The writer behind the cache.
pub struct Writer {
    postgres: Client,
    cache: ProfileCache,
    redis: ConnectionManager,
    consumer: String,
    identities: HashMap<u16, String>,
}

/// A queued annotation.
struct Write {
    id: EntryId,
    key: WalletKey,
    annotation: Annotation,
}

/// `milliseconds-sequence`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct EntryId {
    millis: i64,
    sequence: i64,
}

impl EntryId {
    fn parse(text: &str) -> Option<Self> {
        let (millis, sequence) = text.split_once('-')?;
        Some(Self { millis: millis.parse().ok()?, sequence: sequence.parse().ok()? })
    }
}

impl Writer {
    /// Takes the writer's lock, makes the consumer groups and takes over what an earlier writer left pending.
    ///
    /// # Errors
    /// [`SidecarError::Taken`] while another sidecar writes, [`SidecarError::Redis`], [`SidecarError::Postgres`].
    pub async fn acquire(postgres: Client, cache: ProfileCache) -> Result<Self, SidecarError> {
        Duty::WriteBehind.take_on(&postgres).await?;
        let consumer = format!("sidecar-{}", std::process::id());
        let redis = cache.connection();
        let mut writer = Self { postgres, cache, redis, consumer, identities: HashMap::new() };
        writer.prepare().await?;
        Ok(writer)
    }

    /// Groups, identities, and the entries of writers that are gone.
    async fn prepare(&mut self) -> Result<(), SidecarError> {
        for shard in 0..SHARDS {
            let keys = shard_keys(shard);
            let made: Result<(), _> = self.redis.xgroup_create_mkstream(&keys.writes, GROUP, "0").await;
            match made {
                Err(error) if error.code() != Some("BUSYGROUP") => {
                    return Err(failed("make a consumer group")(error));
                }
                Ok(()) | Err(_) => {}
            }
            let fresh = format!("{:016x}", std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), shard));
            let doing = "read a stream's identity";
            let () = redis::cmd("SETNX")
                .arg(&keys.identity)
                .arg(fresh)
                .query_async(&mut self.redis)
                .await
                .map_err(failed(doing))?;
            let identity: String = self.redis.get(&keys.identity).await.map_err(failed(doing))?;
            self.identities.insert(shard, identity);
            self.take_over(&keys, shard).await?;
        }
        Ok(())
    }

    /// Applies what is pending with any consumer. Nobody else is at work: the lock says so.
    async fn take_over(&mut self, keys: &ShardKeys, shard: u16) -> Result<(), SidecarError> {
        let mut cursor = "0-0".to_owned();
        loop {
            let options = StreamAutoClaimOptions::default().count(BATCH);
            let reply: StreamAutoClaimReply = self
                .redis
                .xautoclaim_options(&keys.writes, GROUP, &self.consumer, 0, &cursor, options)
                .await
                .map_err(failed("take over pending entries"))?;
            if !reply.claimed.is_empty() {
                self.apply(shard, &reply.claimed).await?;
            }
            if reply.next_stream_id == "0-0" {
                return Ok(());
            }
            cursor = reply.next_stream_id;
        }
    }

    /// Applies what is queued now, at most one batch a shard.
    ///
    /// # Errors
    /// [`SidecarError::Redis`], [`SidecarError::Postgres`]; what was read and not acknowledged is applied by the next writer.
    pub async fn drain(&mut self) -> Result<Drained, SidecarError> {
        let mut done = Drained::default();
        for shard in 0..SHARDS {
            let keys = shard_keys(shard);
            let options = StreamReadOptions::default().group(GROUP, &self.consumer).count(BATCH);
            let reply: Result<Option<StreamReadReply>, _> =
                self.redis.xread_options(&[&keys.writes], &[">"], &options).await;
            let reply = match reply {
                Ok(reply) => reply,
                Err(error) if error.code() == Some("NOGROUP") => {
                    tracing::warn!(stream = keys.writes, "the stream is gone and is made anew");
                    self.prepare().await?;
                    return Ok(done);
                }
                Err(error) => return Err(failed("read queued annotations")(error)),
            };
            for stream in reply.map(|reply| reply.keys).unwrap_or_default() {
                done.add(self.apply(shard, &stream.ids).await?);
            }
        }
        Ok(done)
    }

    /// Entries that no writer has finished.
    ///
    /// # Errors
    /// [`SidecarError::Redis`].
    pub async fn pending(&mut self) -> Result<u64, SidecarError> {
        let mut sum = 0;
        for shard in 0..SHARDS {
            let length: u64 =
                self.redis.xlen(shard_keys(shard).writes).await.map_err(failed("count queued annotations"))?;
            sum += length;
        }
        Ok(sum)
    }

    /// Says goodbye to the consumer group; whatever is still pending with this consumer stays for the next writer.
    pub async fn leave(mut self) {
        for shard in 0..SHARDS {
            let key = shard_keys(shard).writes;
            let pending: Result<redis::streams::StreamPendingCountReply, _> =
                self.redis.xpending_consumer_count(&key, GROUP, "-", "+", 1, &self.consumer).await;
            if pending.is_ok_and(|reply| reply.ids.is_empty()) {
                // A consumer that stays behind costs a few bytes and nothing else.
                let _: Result<(), _> = self.redis.xgroup_delconsumer(&key, GROUP, &self.consumer).await;
            }
        }
    }

    async fn apply(&mut self, shard: u16, entries: &[StreamId]) -> Result<Drained, SidecarError> {
        let mut dead: Vec<(&StreamId, String)> = Vec::new();
        let mut writes = Vec::with_capacity(entries.len());
        for entry in entries {
            match read_entry(entry) {
                Ok(write) => writes.push(write),
                Err(reason) => dead.push((entry, reason)),
            }
        }
        let consumer = self.position_name(shard);
        let count = writes.len();
        let applied = match self.store(&consumer, &writes).await {
            Err(error) if error.kind() == ErrorKind::BadData && writes.len() > 1 => {
                self.store_one_by_one(&consumer, &writes, entries, &mut dead).await?
            }
            Err(error) if error.kind() == ErrorKind::BadData => {
                dead.extend(entries.iter().filter(|_| count == 1).map(|entry| (entry, Chain(&error).to_string())));
                Vec::new()
            }
            outcome => outcome?,
        };
        let done =
            Drained { applied: applied.len(), repeated: entries.len() - applied.len() - dead.len(), dead: dead.len() };
        self.finish(&shard_keys(shard), entries, &dead).await?;
        for (key, version) in applied.iter().map(|(index, version)| (&writes[*index].key, *version)) {
            self.cache.invalidate(key, version).await?;
            let news = format!("{} {} {version}", key.network, key.address);
            let _: i64 =
                self.redis.publish(super::INVALIDATIONS, news).await.map_err(failed("announce a changed profile"))?;
        }
        Ok(done)
    }

    fn position_name(&self, shard: u16) -> String {
        let identity = self.identities.get(&shard).map_or("", String::as_str);
        format!("write-behind:{}:{identity}", shard_keys(shard).name)
    }

    /// Applies each write by itself after a batch failed, and puts those aside that PostgreSQL refuses.
    async fn store_one_by_one<'e>(
        &mut self,
        consumer: &str,
        writes: &[Write],
        entries: &'e [StreamId],
        dead: &mut Vec<(&'e StreamId, String)>,
    ) -> Result<Vec<(usize, u64)>, SidecarError> {
        let mut applied = Vec::new();
        for (index, write) in writes.iter().enumerate() {
            match self.store(consumer, std::slice::from_ref(write)).await {
                Ok(done) => applied.extend(done.into_iter().map(|(_, version)| (index, version))),
                Err(error) if error.kind() == ErrorKind::BadData => {
                    let entry = entries.iter().find(|entry| EntryId::parse(&entry.id) == Some(write.id));
                    dead.extend(entry.map(|entry| (entry, Chain(&error).to_string())));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(applied)
    }

    /// Writes the rows and the last id in one transaction; returns the indexes applied, with the versions they got.
    async fn store(&mut self, consumer: &str, writes: &[Write]) -> Result<Vec<(usize, u64)>, SidecarError> {
        const MERGE: &str = "\
            INSERT INTO arx.wallet_profiles AS p (wallet_address, network_type, analytics_profile) \
            VALUES ($1, $2, $3::text::jsonb) \
            ON CONFLICT (wallet_address, network_type) DO UPDATE \
               SET analytics_profile = p.analytics_profile || excluded.analytics_profile, version = p.version + 1, \
                   updated_at = now() \
            RETURNING version";
        const REMEMBER: &str = "\
            INSERT INTO arx.feed_positions AS f (consumer, attempt, epoch, rows_total) VALUES ($1, $2, $3, $4) \
            ON CONFLICT (consumer) DO UPDATE SET attempt = excluded.attempt, epoch = excluded.epoch, \
                   rows_total = f.rows_total + excluded.rows_total, updated_at = now()";
        let Some(last) = writes.iter().map(|write| write.id).max() else { return Ok(Vec::new()) };
        let failed = |source| SidecarError::Postgres { doing: "apply annotations", source };
        let transaction = self.postgres.transaction().await.map_err(failed)?;
        let stored = transaction
            .query_opt("SELECT attempt, epoch FROM arx.feed_positions WHERE consumer = $1 FOR UPDATE", &[&consumer])
            .await
            .map_err(failed)?;
        let stored = stored
            .map(|row| EntryId { millis: row.get(0), sequence: row.get::<_, Option<i64>>(1).unwrap_or_default() });
        let merge = transaction.prepare(MERGE).await.map_err(failed)?;
        let mut applied = Vec::with_capacity(writes.len());
        for (index, write) in
            writes.iter().enumerate().filter(|(_, write)| stored.is_none_or(|stored| write.id > stored))
        {
            let row = transaction
                .query_one(&merge, &[&write.key.address, &write.key.network, &write.annotation.text()])
                .await
                .map_err(failed)?;
            applied.push((index, u64::try_from(row.get::<_, i64>(0)).unwrap_or_default()));
        }
        let count = i64::try_from(applied.len()).unwrap_or_default();
        if count > 0 {
            let values: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
                [&consumer, &last.millis, &last.sequence, &count];
            transaction.execute(REMEMBER, &values).await.map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)?;
        Ok(applied)
    }

    /// Puts dead entries aside, then acknowledges and removes all of them.
    async fn finish(
        &mut self,
        keys: &ShardKeys,
        entries: &[StreamId],
        dead: &[(&StreamId, String)],
    ) -> Result<(), SidecarError> {
        let doing = "acknowledge annotations";
        let mut commands = redis::pipe();
        for (entry, reason) in dead {
            tracing::warn!(
                stream = keys.writes,
                id = entry.id,
                reason,
                "an annotation cannot be applied and is put aside"
            );
            let add = commands.cmd("XADD").arg(&keys.dead).arg("MAXLEN").arg("~").arg(DEAD_KEPT).arg("*");
            add.arg("id").arg(&entry.id).arg("reason").arg(reason);
            for name in ["network", "address", "annotation"] {
                add.arg(name).arg(field(entry, name).unwrap_or_default());
            }
            add.ignore();
        }
        let ids: Vec<&str> = entries.iter().map(|entry| entry.id.as_str()).collect();
        commands.xack(&keys.writes, GROUP, &ids).ignore().xdel(&keys.writes, &ids).ignore();
        commands.query_async(&mut self.redis).await.map_err(failed(doing))
    }
}

fn field(entry: &StreamId, name: &str) -> Option<String> {
    entry.map.get(name).and_then(|value| from_redis_value_ref(value).ok())
}

/// An entry of the stream, or what is wrong with it.
fn read_entry(entry: &StreamId) -> Result<Write, String> {
    let part = |name: &str| field(entry, name).ok_or_else(|| format!("field {name} is missing"));
    let id = EntryId::parse(&entry.id).ok_or_else(|| format!("id {} is malformed", entry.id))?;
    let key = WalletKey::parse(&part("address")?, &part("network")?).map_err(|error| error.to_string())?;
    let annotation = Annotation::parse(&part("annotation")?).map_err(|error| error.to_string())?;
    Ok(Write { id, key, annotation })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(fields: &[(&str, &str)]) -> StreamId {
        let map = fields.iter().map(|(name, value)| ((*name).to_owned(), redis::Value::BulkString((*value).into())));
        StreamId { id: "17-3".into(), map: map.collect(), ..StreamId::default() }
    }

    #[test]
    fn ids_are_ordered_by_number() {
        assert!(EntryId::parse("9-10") < EntryId::parse("10-9"));
        assert!(EntryId::parse("10-9") < EntryId::parse("10-10"));
        assert_eq!(EntryId::parse("10"), None);
    }

    #[test]
    fn a_malformed_entry_says_why() {
        let address = ("address", "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed");
        let network = ("network", "ethereum");
        let reason = |fields: &[(&str, &str)]| read_entry(&entry(fields)).err().unwrap();
        assert!(reason(&[address, network]).contains("annotation is missing"));
        assert!(reason(&[address, network, ("annotation", "[1]")]).contains("[1]"));
        assert!(reason(&[("address", "0xzz"), network, ("annotation", "{\"a\": 1}")]).contains("0xzz"));
        assert!(read_entry(&entry(&[address, network, ("annotation", "{\"a\": 1}")])).is_ok());
    }
}
