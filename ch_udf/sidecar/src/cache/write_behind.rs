//! Brings queued annotations from Redis into `arx.wallet_profiles`. Owns the consumer group and the
//! order: entries of a shard are applied in the order of their ids, acknowledged after PostgreSQL
//! has committed, and never applied twice.
//!
//! A duty allows one writer a database, so entries that a dead writer left pending are
//! taken over before any later one is read. The last applied id is stored in the same transaction
//! as the rows, in `arx.feed_positions` under `write-behind:<shard>:<identity of the stream>`, as
//! `attempt` (milliseconds) and `epoch` (sequence) of the id.

use std::collections::HashMap;

use redis::aio::ConnectionManager;
use redis::streams::{StreamAutoClaimOptions, StreamAutoClaimReply, StreamId, StreamReadOptions, StreamReadReply};
use redis::{AsyncCommands, from_redis_value_ref};
use tokio_postgres::Client;

use super::keys::{SHARDS, ShardKeys, WalletKey, shard_keys};
use super::profile::Annotation;
use super::store::{ProfileCache, is_wrong_type};
use crate::error::{Chain, Doing, Failure, SidecarError};
use crate::retry::ErrorKind;
use crate::servers::postgres::Duty;

/// The consumer group, on every shard's stream.
const GROUP: &str = "arx";

/// Entries applied by one transaction.
const BATCH: usize = 500;

/// Dead letters that a shard keeps.
const MAX_DEAD: usize = 10_000;

const MERGE: &str = "
    INSERT INTO arx.wallet_profiles AS p (wallet_address, network_type, analytics_profile)
    VALUES ($1, $2, $3::text::jsonb)
    ON CONFLICT (wallet_address, network_type) DO UPDATE
       SET analytics_profile = p.analytics_profile || excluded.analytics_profile, version = p.version + 1,
           updated_at = now()
    RETURNING version";

const LAST_ID: &str = "SELECT attempt, epoch FROM arx.feed_positions WHERE consumer = $1 FOR UPDATE";

const STORE_LAST_ID: &str = "
    INSERT INTO arx.feed_positions AS f (consumer, attempt, epoch, rows_total) VALUES ($1, $2, $3, $4)
    ON CONFLICT (consumer) DO UPDATE
       SET attempt = excluded.attempt, epoch = excluded.epoch, rows_total = f.rows_total + excluded.rows_total,
           updated_at = now()";

/// Entries that a round has processed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Drained {
    /// Written to PostgreSQL.
    pub(crate) applied: usize,
    /// Delivered again after they had been written.
    pub(crate) repeated: usize,
    /// Moved to the dead-letter stream because PostgreSQL rejects them.
    pub(crate) dead: usize,
    /// Keys of a wrong type that were renamed.
    pub(crate) set_aside: u64,
}

impl Drained {
    pub(crate) fn is_idle(&self) -> bool {
        *self == Self::default()
    }

    fn add(&mut self, other: Self) {
        self.applied += other.applied;
        self.repeated += other.repeated;
        self.dead += other.dead;
        self.set_aside += other.set_aside;
    }
}

/// The consumer of queued annotations.
pub(crate) struct Writer {
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
    /// Takes the writer's lock, creates the consumer groups, and applies the entries that an
    /// earlier writer left pending.
    ///
    /// # Errors
    /// [`SidecarError::Taken`] while another sidecar writes, [`SidecarError::Redis`],
    /// [`SidecarError::Postgres`].
    pub(crate) async fn acquire(postgres: Client, cache: ProfileCache) -> Result<Self, SidecarError> {
        Duty::WriteBehind.acquire(&postgres).await?;
        let consumer = format!("sidecar-{}", std::process::id());
        let redis = cache.connection();
        let mut writer = Self { postgres, cache, redis, consumer, identities: HashMap::new() };
        writer.prepare().await?;
        Ok(writer)
    }

    /// Renames keys of other types, creates groups and identities, and takes over the entries of
    /// earlier writers.
    async fn prepare(&mut self) -> Result<(), SidecarError> {
        for shard in 0..SHARDS {
            let keys = shard_keys(shard);
            for (key, expected) in [(&keys.writes, "stream"), (&keys.dead, "stream"), (&keys.identity, "string")] {
                self.cache.set_aside_unless(key, expected).await?;
            }
            let created: Result<(), _> = self.redis.xgroup_create_mkstream(&keys.writes, GROUP, "0").await;
            match created {
                Err(error) if error.code() != Some("BUSYGROUP") => {
                    return Err(error.into_sidecar_error("create a consumer group"));
                }
                Ok(()) | Err(_) => {}
            }
            let new_identity =
                format!("{:016x}", std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), shard));
            let doing = "read a stream's identity";
            let () = redis::cmd("SETNX")
                .arg(&keys.identity)
                .arg(new_identity)
                .query_async(&mut self.redis)
                .await
                .doing(doing)?;
            let identity: String = self.redis.get(&keys.identity).await.doing(doing)?;
            self.identities.insert(shard, identity);
            self.take_over(&keys, shard).await?;
        }
        Ok(())
    }

    /// Applies the entries that are pending with any consumer: the lock excludes other writers.
    async fn take_over(&mut self, keys: &ShardKeys, shard: u16) -> Result<(), SidecarError> {
        let mut cursor = "0-0".to_owned();
        loop {
            let options = StreamAutoClaimOptions::default().count(BATCH);
            let reply: StreamAutoClaimReply = self
                .redis
                .xautoclaim_options(&keys.writes, GROUP, &self.consumer, 0, &cursor, options)
                .await
                .doing("take over pending entries")?;
            if !reply.claimed.is_empty() {
                self.apply(shard, &reply.claimed).await?;
            }
            if reply.next_stream_id == "0-0" {
                return Ok(());
            }
            cursor = reply.next_stream_id;
        }
    }

    /// Applies queued entries, at most one batch a shard.
    ///
    /// # Errors
    /// [`SidecarError::Redis`], [`SidecarError::Postgres`]. The next writer applies entries that
    /// were read and not acknowledged.
    pub(crate) async fn drain(&mut self) -> Result<Drained, SidecarError> {
        let mut drained = Drained::default();
        for shard in 0..SHARDS {
            let keys = shard_keys(shard);
            let options = StreamReadOptions::default().group(GROUP, &self.consumer).count(BATCH);
            let reply: Result<Option<StreamReadReply>, _> =
                self.redis.xread_options(&[&keys.writes], &[">"], &options).await;
            let reply = match reply {
                Ok(reply) => reply,
                Err(error) if error.code() == Some("NOGROUP") || is_wrong_type(&error) => {
                    tracing::warn!(stream = keys.writes, "the stream was lost and is created again");
                    self.prepare().await?;
                    break;
                }
                Err(error) => return Err(error.into_sidecar_error("read queued annotations")),
            };
            for stream in reply.map(|reply| reply.keys).unwrap_or_default() {
                drained.add(self.apply(shard, &stream.ids).await?);
            }
        }
        drained.set_aside += self.cache.take_set_aside();
        Ok(drained)
    }

    /// Returns the number of entries that are not yet acknowledged.
    ///
    /// # Errors
    /// [`SidecarError::Redis`].
    pub(crate) async fn pending(&mut self) -> Result<u64, SidecarError> {
        let mut sum = 0;
        for shard in 0..SHARDS {
            let length: u64 = self.redis.xlen(shard_keys(shard).writes).await.doing("count queued annotations")?;
            sum += length;
        }
        Ok(sum)
    }

    /// Leaves the consumer group, unless entries are pending with this consumer: the next writer
    /// takes them over.
    pub(crate) async fn leave(mut self) {
        for shard in 0..SHARDS {
            let key = shard_keys(shard).writes;
            let pending: Result<redis::streams::StreamPendingCountReply, _> =
                self.redis.xpending_consumer_count(&key, GROUP, "-", "+", 1, &self.consumer).await;
            if pending.is_ok_and(|reply| reply.ids.is_empty()) {
                // A consumer that is not removed costs a few bytes.
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
        let applied = match self.store(&consumer, &writes).await {
            Err(error) if error.kind() == ErrorKind::BadData => {
                self.store_one_by_one(&consumer, &writes, entries, &mut dead).await?
            }
            outcome => outcome?,
        };
        let done = Drained {
            applied: applied.len(),
            repeated: entries.len() - applied.len() - dead.len(),
            dead: dead.len(),
            set_aside: 0,
        };
        self.finish(&shard_keys(shard), entries, &dead).await?;
        for (key, version) in applied.iter().map(|(index, version)| (&writes[*index].key, *version)) {
            self.cache.invalidate(key, version).await?;
            let message = format!("{} {} {version}", key.network, key.address);
            let _: i64 = self.redis.publish(super::INVALIDATIONS, message).await.doing("announce a changed profile")?;
        }
        Ok(done)
    }

    fn position_name(&self, shard: u16) -> String {
        let identity = self.identities.get(&shard).map_or("", String::as_str);
        format!("write-behind:{}:{identity}", shard_keys(shard).name)
    }

    /// Applies the writes of a failed batch one by one, and marks those dead that PostgreSQL
    /// rejects.
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

    /// Writes the rows and the last id in one transaction. Returns the indexes of the applied
    /// writes with the versions of their profiles.
    async fn store(&mut self, consumer: &str, writes: &[Write]) -> Result<Vec<(usize, u64)>, SidecarError> {
        let Some(last) = writes.iter().map(|write| write.id).max() else { return Ok(Vec::new()) };
        let doing = "apply annotations";
        let transaction = self.postgres.transaction().await.doing(doing)?;
        let stored = transaction.query_opt(LAST_ID, &[&consumer]).await.doing(doing)?;
        let stored = stored
            .map(|row| EntryId { millis: row.get(0), sequence: row.get::<_, Option<i64>>(1).unwrap_or_default() });
        let merge = transaction.prepare(MERGE).await.doing(doing)?;
        let mut applied = Vec::with_capacity(writes.len());
        for (index, write) in
            writes.iter().enumerate().filter(|(_, write)| stored.is_none_or(|stored| write.id > stored))
        {
            let row = transaction
                .query_one(&merge, &[&write.key.address, &write.key.network, &write.annotation.text()])
                .await
                .doing(doing)?;
            applied.push((index, u64::try_from(row.get::<_, i64>(0)).unwrap_or_default()));
        }
        let count = i64::try_from(applied.len()).unwrap_or_default();
        if count > 0 {
            let values: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
                [&consumer, &last.millis, &last.sequence, &count];
            transaction.execute(STORE_LAST_ID, &values).await.doing(doing)?;
        }
        transaction.commit().await.doing(doing)?;
        Ok(applied)
    }

    /// Moves dead entries to the dead-letter stream, then acknowledges and removes all entries.
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
                "an annotation cannot be applied and becomes a dead letter, which holds the reason"
            );
            let add = commands.cmd("XADD").arg(&keys.dead).arg("MAXLEN").arg("~").arg(MAX_DEAD).arg("*");
            add.arg("id").arg(&entry.id).arg("reason").arg(reason);
            for name in ["network", "address", "annotation"] {
                add.arg(name).arg(field(entry, name).unwrap_or_default());
            }
            add.ignore();
        }
        let ids: Vec<&str> = entries.iter().map(|entry| entry.id.as_str()).collect();
        commands.xack(&keys.writes, GROUP, &ids).ignore().xdel(&keys.writes, &ids).ignore();
        let done: redis::RedisResult<()> = commands.query_async(&mut self.redis).await;
        if done.as_ref().is_err_and(is_wrong_type) && self.cache.set_aside_unless(&keys.dead, "stream").await? {
            // The other commands have the same effect when they are repeated.
            return commands.query_async(&mut self.redis).await.doing(doing);
        }
        done.doing(doing)
    }
}

fn field(entry: &StreamId, name: &str) -> Option<String> {
    entry.map.get(name).and_then(|value| from_redis_value_ref(value).ok())
}

/// Parses an entry of the stream, or returns the reason why it is malformed.
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
    fn a_malformed_entry_is_rejected_with_its_reason() {
        let address = ("address", "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed");
        let network = ("network", "ethereum");
        let reason = |fields: &[(&str, &str)]| read_entry(&entry(fields)).err().unwrap();
        assert!(reason(&[address, network]).contains("annotation is missing"));
        assert!(reason(&[address, network, ("annotation", "[1]")]).contains("[1]"));
        assert!(reason(&[("address", "0xzz"), network, ("annotation", "{\"a\": 1}")]).contains("0xzz"));
        assert!(read_entry(&entry(&[address, network, ("annotation", "{\"a\": 1}")])).is_ok());
    }
}
