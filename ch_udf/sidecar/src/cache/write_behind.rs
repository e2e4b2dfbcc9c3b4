//! Brings queued writes from Redis into PostgreSQL: notes, labels and logins. Owns the consumer
//! group and the order: entries of a stream are applied in the order of their ids, in one
//! transaction a batch, acknowledged after PostgreSQL has committed, and never applied twice: each
//! write has a key, which is stored in the transaction that applies it.
//!
//! A duty allows one writer a database, so entries that a dead writer left pending are taken over
//! before any later one is read.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use redis::streams::{StreamAutoClaimOptions, StreamAutoClaimReply, StreamId, StreamReadOptions, StreamReadReply};
use redis::{AsyncCommands, Script, from_redis_value_ref};
use tokio_postgres::{Client, Transaction};

use super::follower::identity;
use super::keys::{Identity, SHARDS, ShardKeys, WalletKey};
use super::profile::JsonFields;
use super::queue::{Lengths, WriteQueue};
use super::store::{ProfileCache, is_wrong_type, set_aside_unless};
use super::watermark::Height;
use super::writes::{QueuedWrite, latest_labels};
use crate::error::{Chain, Doing, Failure, SidecarError};
use crate::retry::ErrorKind;
use crate::servers::postgres::{self, Duty};
use crate::servers::redis::Link;
use crate::settings::Settings;

/// The consumer group, on every stream.
const GROUP: &str = "arx";

/// Entries applied by one transaction.
const BATCH: usize = 500;

/// Dead letters that a stream keeps.
const MAX_DEAD: usize = 10_000;

/// Interval at which the eviction policy is checked, and queued writes are reported to PostgreSQL.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// Time for which applied writes stay among the pending ones, until the cache shows them.
const SHOW_LIMIT: Duration = Duration::from_secs(1);
const SHOW_POLL: Duration = Duration::from_millis(20);

/// Remembers the keys of writes. Returns those that were not applied before.
const CLAIM: &str = "
    INSERT INTO arx.applied_writes (write_key) SELECT DISTINCT unnest($1::text[]) ON CONFLICT DO NOTHING
    RETURNING write_key";

/// Written in the order of the functions that refresh profiles, so that none of them deadlock.
const MERGE: &str = "
    INSERT INTO arx.wallet_profiles AS p (wallet_address, network_type, analytics_profile)
    SELECT w.address, w.network, w.annotation::jsonb
      FROM unnest($1::text[], $2::text[], $3::text[]) AS w (network, address, annotation)
     ORDER BY w.network COLLATE \"C\", w.address COLLATE \"C\"
    ON CONFLICT (wallet_address, network_type) DO UPDATE
       SET analytics_profile = p.analytics_profile || excluded.analytics_profile, version = p.version + 1,
           updated_at = now()";

/// A category that does not exist violates the foreign key.
const LABEL: &str = "
    INSERT INTO arx.address_labels (network, address, category, severity, label, source, confidence)
    SELECT w.network, w.address, l.category, COALESCE(l.severity::arx.label_severity_enum, c.severity, 'none'),
           COALESCE(l.label, ''), l.source, l.confidence
      FROM unnest($1::text[], $2::text[], $3::text[]) AS w (network, address, document)
     CROSS JOIN LATERAL jsonb_to_record(w.document::jsonb)
                AS l (category text, severity text, label text, source text, confidence numeric(4,3))
      LEFT JOIN arx.label_categories AS c ON c.category = l.category
     ORDER BY w.network COLLATE \"C\", w.address COLLATE \"C\", l.category COLLATE \"C\"
    ON CONFLICT ON CONSTRAINT address_labels_key
    DO UPDATE SET severity = excluded.severity, confidence = excluded.confidence, valid_to = 'infinity'";

const LOGIN: &str = "
    UPDATE arx.users AS u SET last_login = w.at
      FROM (SELECT l.id::uuid AS user_id, to_timestamp(l.micros / 1e6) AS at
              FROM unnest($1::text[], $2::bigint[]) AS l (id, micros)) AS w
     WHERE u.user_id = w.user_id AND (u.last_login IS NULL OR u.last_login < w.at)";

/// Stores the counts of the streams, for `health_check()`.
const REPORT: &str = "
    INSERT INTO arx.sidecar_reports (metric, value, cause) VALUES ('queued_writes', $1, NULL), ('dead_letters', $2, $3)
    ON CONFLICT (metric, object) DO UPDATE SET value = excluded.value, cause = excluded.cause, reported_at = now()";

/// A redelivery comes within seconds, or as soon as a writer runs again, which is before it prunes.
const PRUNE: &str = "DELETE FROM arx.applied_writes WHERE applied_at < now() - interval '7 days'";

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

/// The consumer of queued writes.
pub(crate) struct Writer {
    postgres: Client,
    queue: WriteQueue,
    /// The cache may be down: then its readers see applied writes when it is back.
    cache: Option<ProfileCache>,
    redis: Link,
    identity: Identity,
    consumer: String,
    checked: Instant,
    reported: Option<Instant>,
    set_aside: u64,
}

/// An entry of a stream.
struct Write {
    id: String,
    key: String,
    write: QueuedWrite,
}

/// A batch that PostgreSQL has committed, before it is acknowledged.
struct Applied {
    keys: ShardKeys,
    entries: Vec<StreamId>,
    writes: Vec<Write>,
    dead: Vec<(String, String)>,
}

impl Writer {
    /// Takes the writer's duty, creates the consumer groups, and applies the entries that an
    /// earlier writer left pending.
    ///
    /// # Errors
    /// [`SidecarError::Taken`] while another sidecar writes, [`SidecarError::EvictsWrites`],
    /// [`SidecarError::Redis`], [`SidecarError::Postgres`].
    pub(crate) async fn acquire(settings: &Settings) -> Result<Self, SidecarError> {
        let postgres = postgres::connect(settings).await?.client;
        let (identity, _) = identity(&postgres).await?;
        let queue = WriteQueue::connect(settings, identity.clone()).await?;
        Duty::WriteBehind.acquire(&postgres).await?;
        let cache = ProfileCache::connect(settings, identity.clone()).await.ok();
        let consumer = format!("sidecar-{}", std::process::id());
        let (redis, checked) = (queue.connection(), Instant::now());
        let mut writer =
            Self { postgres, queue, cache, redis, identity, consumer, checked, reported: None, set_aside: 0 };
        writer.prepare().await?;
        writer.postgres.execute(PRUNE, &[]).await.doing("prune keys of writes")?;
        Ok(writer)
    }

    /// Renames keys of other types, creates groups, and takes over the entries of earlier writers.
    async fn prepare(&mut self) -> Result<(), SidecarError> {
        for shard in 0..SHARDS {
            let keys = self.identity.shard(shard);
            for key in [&keys.writes, &keys.dead] {
                self.set_aside += u64::from(set_aside_unless(&mut self.redis, key, "stream").await?);
            }
            let created: Result<(), _> = self.redis.xgroup_create_mkstream(&keys.writes, GROUP, "0").await;
            match created {
                Err(error) if error.code() != Some("BUSYGROUP") => {
                    return Err(error.into_sidecar_error("create a consumer group"));
                }
                Ok(()) | Err(_) => {}
            }
            self.take_over(&keys).await?;
        }
        Ok(())
    }

    /// Applies the entries that are pending with any consumer: the duty excludes other writers.
    async fn take_over(&mut self, keys: &ShardKeys) -> Result<(), SidecarError> {
        let mut cursor = "0-0".to_owned();
        loop {
            let options = StreamAutoClaimOptions::default().count(BATCH);
            let reply: StreamAutoClaimReply = self
                .redis
                .xautoclaim_options(&keys.writes, GROUP, &self.consumer, 0, &cursor, options)
                .await
                .doing("take over pending entries")?;
            if !reply.claimed.is_empty() {
                let (applied, _) = self.apply(keys.clone(), reply.claimed).await?;
                self.finish(&applied).await?;
            }
            if reply.next_stream_id == "0-0" {
                return Ok(());
            }
            cursor = reply.next_stream_id;
        }
    }

    /// Applies queued entries, at most one batch a stream.
    ///
    /// # Errors
    /// [`SidecarError::EvictsWrites`], [`SidecarError::Redis`], [`SidecarError::Postgres`]. The
    /// next writer applies entries that were read and not acknowledged.
    pub(crate) async fn drain(&mut self) -> Result<Drained, SidecarError> {
        let is_checked = self.checked.elapsed() > CHECK_INTERVAL;
        if is_checked {
            self.checked = Instant::now();
            self.queue.require_no_eviction().await?;
        }
        let mut drained = Drained::default();
        let mut committed = Vec::new();
        for shard in 0..SHARDS {
            let keys = self.identity.shard(shard);
            let entries = match self.next_entries(&keys, is_checked).await {
                Ok(entries) => entries,
                Err(error) if error.code() == Some("NOGROUP") || is_wrong_type(&error) => {
                    tracing::warn!(
                        stream = keys.writes,
                        "the stream was lost with what waited in it, and is created again"
                    );
                    self.prepare().await?;
                    break;
                }
                Err(error) => return Err(error.into_sidecar_error("read queued writes")),
            };
            if !entries.is_empty() {
                let (applied, counts) = self.apply(keys.clone(), entries).await?;
                drained.add(counts);
                committed.push(applied);
            }
        }
        if !committed.is_empty() {
            self.wait_for_cache().await;
        }
        for applied in &committed {
            self.finish(applied).await?;
        }
        drained.set_aside += std::mem::take(&mut self.set_aside);
        if drained.dead > 0 || self.reported.is_none_or(|reported| reported.elapsed() > CHECK_INTERVAL) {
            self.report().await?;
        }
        Ok(drained)
    }

    /// Reads the next entries of a stream.
    ///
    /// A cluster's client repeats a command whose answer was lost, and the first answer may have
    /// had entries that come before those of the second one. A replica that was promoted may have
    /// entries as pending that were acknowledged. So the entries of a cluster are those that are
    /// pending with this consumer, in their order.
    async fn next_entries(&mut self, keys: &ShardKeys, is_checked: bool) -> redis::RedisResult<Vec<StreamId>> {
        let entries = self.read_group(keys, ">").await?;
        if self.redis.is_cluster() && (is_checked || !entries.is_empty()) {
            return self.read_group(keys, "0").await;
        }
        Ok(entries)
    }

    async fn read_group(&mut self, keys: &ShardKeys, after: &str) -> redis::RedisResult<Vec<StreamId>> {
        let options = StreamReadOptions::default().group(GROUP, &self.consumer).count(BATCH);
        let reply: Option<StreamReadReply> = self.redis.xread_options(&[&keys.writes], &[after], &options).await?;
        Ok(reply.into_iter().flat_map(|reply| reply.keys).flat_map(|stream| stream.ids).collect())
    }

    /// Waits until the cached profiles show what was committed, or no one keeps them.
    async fn wait_for_cache(&self) {
        let Some(cache) = &self.cache else { return };
        let Ok((_, height)) = identity(&self.postgres).await else { return };
        let started = Instant::now();
        while started.elapsed() < SHOW_LIMIT {
            let is_shown = |reached: Height| reached >= height;
            match cache.watermark().await {
                Ok(Some(watermark)) if !is_shown(watermark.height) => tokio::time::sleep(SHOW_POLL).await,
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Returns the number of entries that are not yet acknowledged.
    ///
    /// # Errors
    /// [`SidecarError::Redis`].
    pub(crate) async fn pending(&mut self) -> Result<u64, SidecarError> {
        Ok(Lengths::read(&mut self.redis, &self.identity).await?.queued)
    }

    /// Reports the counts of the streams to PostgreSQL.
    async fn report(&mut self) -> Result<(), SidecarError> {
        let Lengths { queued, dead, first_dead, .. } = Lengths::read(&mut self.redis, &self.identity).await?;
        let cause = first_dead.map(|stream| format!("the stream {stream} has the reasons"));
        let (queued, dead) = (queued as f64, dead as f64);
        self.postgres.execute(REPORT, &[&queued, &dead, &cause]).await.doing("report what waits in Redis")?;
        self.reported = Some(Instant::now());
        Ok(())
    }

    /// Leaves the consumer group, unless entries are pending with this consumer: the next writer
    /// takes them over.
    pub(crate) async fn leave(mut self) {
        for shard in 0..SHARDS {
            let key = self.identity.shard(shard).writes;
            let pending: Result<redis::streams::StreamPendingCountReply, _> =
                self.redis.xpending_consumer_count(&key, GROUP, "-", "+", 1, &self.consumer).await;
            if pending.is_ok_and(|reply| reply.ids.is_empty()) {
                // A consumer that is not removed costs a few bytes.
                let _: Result<(), _> = self.redis.xgroup_delconsumer(&key, GROUP, &self.consumer).await;
            }
        }
    }

    /// Applies entries of a stream in one transaction, or, if PostgreSQL rejects one of them, each
    /// in its own.
    async fn apply(&mut self, keys: ShardKeys, entries: Vec<StreamId>) -> Result<(Applied, Drained), SidecarError> {
        let mut dead: Vec<(String, String)> = Vec::new();
        let mut writes = Vec::with_capacity(entries.len());
        for entry in &entries {
            match read_entry(&keys, entry) {
                Ok(write) => writes.push(write),
                Err(reason) => dead.push((entry.id.clone(), reason)),
            }
        }
        let applied = match self.store(&writes).await {
            Err(error) if error.kind() == ErrorKind::BadData => {
                let mut applied = 0;
                for write in &writes {
                    match self.store(std::slice::from_ref(write)).await {
                        Ok(count) => applied += count,
                        Err(error) if error.kind() == ErrorKind::BadData => {
                            dead.push((write.id.clone(), Chain(&error).to_string()));
                        }
                        Err(error) => return Err(error),
                    }
                }
                applied
            }
            outcome => outcome?,
        };
        let repeated = entries.len() - applied - dead.len();
        let counts = Drained { applied, repeated, dead: dead.len(), set_aside: 0 };
        Ok((Applied { keys, entries, writes, dead }, counts))
    }

    /// Writes the rows and the keys of the writes in one transaction. Returns the number of writes
    /// that were not applied before.
    async fn store(&mut self, writes: &[Write]) -> Result<usize, SidecarError> {
        if writes.is_empty() {
            return Ok(0);
        }
        let doing = "apply writes";
        let transaction = self.postgres.transaction().await.doing(doing)?;
        let keys: Vec<&str> = writes.iter().map(|write| write.key.as_str()).collect();
        let rows = transaction.query(CLAIM, &[&keys]).await.doing(doing)?;
        let mut fresh: HashSet<String> = rows.iter().map(|row| row.get(0)).collect();
        let fresh: Vec<&QueuedWrite> =
            writes.iter().filter(|write| fresh.remove(&write.key)).map(|write| &write.write).collect();
        merge_annotations(&transaction, &fresh).await?;
        add_labels(&transaction, &fresh).await?;
        record_logins(&transaction, &fresh).await?;
        let applied = fresh.len();
        transaction.commit().await.doing(doing)?;
        Ok(applied)
    }

    /// Moves dead entries to the dead-letter stream, removes the writes from the pending ones of
    /// their wallets, then acknowledges and removes all entries.
    async fn finish(&mut self, applied: &Applied) -> Result<(), SidecarError> {
        let doing = "acknowledge writes";
        let Applied { keys, entries, writes, dead } = applied;
        let source = include_str!("../../../../sql/redis/write_done.lua");
        let script = Script::new(source);
        let mut commands = redis::pipe();
        commands.cmd("SCRIPT").arg("LOAD").arg(source).ignore();
        for (id, reason) in dead {
            tracing::warn!(
                stream = keys.writes,
                id,
                "a write cannot be applied and becomes a dead letter, which holds the reason"
            );
            let add = commands.cmd("XADD").arg(&keys.dead).arg("MAXLEN").arg("~").arg(MAX_DEAD).arg("*");
            add.arg("id").arg(id).arg("reason").arg(reason);
            if let Some(entry) = entries.iter().find(|entry| entry.id == *id) {
                for name in ["network", "address", "annotation", "label", "user", "at", "key"] {
                    if let Some(value) = field(entry, name) {
                        add.arg(name).arg(value);
                    }
                }
            }
            add.ignore();
        }
        for Write { key, write, .. } in writes {
            let Some(wallet) = write.wallet() else { continue };
            let call = commands.cmd("EVALSHA").arg(script.get_hash()).arg(1).arg(wallet.pending(&self.identity));
            call.arg(key);
            for (name, _) in write.shown().doing(doing)? {
                call.arg(name);
            }
            call.ignore();
        }
        let done: redis::RedisResult<()> = commands.query_async(&mut self.redis).await;
        if done.as_ref().is_err_and(is_wrong_type) {
            self.set_aside += u64::from(set_aside_unless(&mut self.redis, &keys.dead, "stream").await?);
            for wallet in writes.iter().filter_map(|write| write.write.wallet()) {
                let pending = wallet.pending(&self.identity);
                self.set_aside += u64::from(set_aside_unless(&mut self.redis, &pending, "hash").await?);
            }
            // The other commands have the same effect when they are repeated.
            let () = commands.query_async(&mut self.redis).await.doing(doing)?;
        } else {
            done.doing(doing)?;
        }
        // A cluster's commands have no order; an entry is acknowledged when all else is done.
        let ids: Vec<&str> = entries.iter().map(|entry| entry.id.as_str()).collect();
        let mut commands = redis::pipe();
        commands.xack(&keys.writes, GROUP, &ids).ignore().xdel(&keys.writes, &ids).ignore();
        commands.query_async(&mut self.redis).await.doing(doing)
    }
}

/// Merges annotations into the profiles of their wallets.
async fn merge_annotations(transaction: &Transaction<'_>, writes: &[&QueuedWrite]) -> Result<(), SidecarError> {
    let doing = "apply annotations";
    let mut merged: BTreeMap<&WalletKey, JsonFields> = BTreeMap::new();
    for write in writes {
        if let QueuedWrite::Annotation(wallet, annotation) = write {
            merged.entry(wallet).or_default().extend(annotation.fields().clone());
        }
    }
    if merged.is_empty() {
        return Ok(());
    }
    let (mut networks, mut addresses, mut annotations) = (Vec::new(), Vec::new(), Vec::new());
    for (WalletKey { network, address }, fields) in &merged {
        networks.push(network);
        addresses.push(address);
        annotations.push(serde_json::to_string(fields).doing(doing)?);
    }
    transaction.execute(MERGE, &[&networks, &addresses, &annotations]).await.doing(doing)?;
    Ok(())
}

/// Adds labels, or replaces severity and confidence of those that are there.
async fn add_labels(transaction: &Transaction<'_>, writes: &[&QueuedWrite]) -> Result<(), SidecarError> {
    let doing = "apply labels";
    let labels = latest_labels(writes.iter().filter_map(|write| match write {
        QueuedWrite::Label(wallet, label) => Some((wallet, label)),
        QueuedWrite::Annotation(..) | QueuedWrite::Login { .. } => None,
    }));
    if labels.is_empty() {
        return Ok(());
    }
    let networks: Vec<&str> = labels.iter().map(|(wallet, _)| wallet.network.as_str()).collect();
    let addresses: Vec<&str> = labels.iter().map(|(wallet, _)| wallet.address.as_str()).collect();
    let texts = labels.iter().map(|(_, label)| serde_json::to_string(label)).collect::<Result<Vec<_>, _>>();
    transaction.execute(LABEL, &[&networks, &addresses, &texts.doing(doing)?]).await.doing(doing)?;
    Ok(())
}

/// Records the latest login of each user. A user who was removed since has none.
async fn record_logins(transaction: &Transaction<'_>, writes: &[&QueuedWrite]) -> Result<(), SidecarError> {
    let mut latest: BTreeMap<String, i64> = BTreeMap::new();
    for write in writes {
        if let QueuedWrite::Login { user, at } = write {
            let time = latest.entry(user.to_string()).or_insert(*at);
            *time = (*time).max(*at);
        }
    }
    if latest.is_empty() {
        return Ok(());
    }
    let (users, times): (Vec<String>, Vec<i64>) = latest.into_iter().unzip();
    transaction.execute(LOGIN, &[&users, &times]).await.doing("record logins")?;
    Ok(())
}

fn field(entry: &StreamId, name: &str) -> Option<String> {
    entry.map.get(name).and_then(|value| from_redis_value_ref(value).ok())
}

/// Parses an entry of the stream, or returns the reason why it is malformed.
fn read_entry(keys: &ShardKeys, entry: &StreamId) -> Result<Write, String> {
    let write = QueuedWrite::parse(|name| field(entry, name))?;
    // An entry of another program.
    let key = field(entry, "key").unwrap_or_else(|| format!("{}/{}", keys.writes, entry.id));
    Ok(Write { id: entry.id.clone(), key, write })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(fields: &[(&str, &str)]) -> StreamId {
        let map = fields.iter().map(|(name, value)| ((*name).to_owned(), redis::Value::BulkString((*value).into())));
        StreamId { id: "17-3".into(), map: map.collect(), ..StreamId::default() }
    }

    #[test]
    fn an_entry_of_another_program_has_its_id_for_a_key() {
        let keys = Identity::new(1, 1, 5).shard(3);
        let wallet = [("address", "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed"), ("network", "ethereum")];
        let key =
            |more: &[(&str, &str)]| read_entry(&keys, &entry(&[&wallet[..], more].concat())).map(|write| write.key);
        let annotation = ("annotation", "{\"a\": 1}");
        assert_eq!(key(&[annotation, ("key", "k")]).unwrap(), "k");
        assert_eq!(key(&[annotation]).unwrap(), "arx:1.1.5:{w03}:writes/17-3");
        assert!(key(&[]).unwrap_err().contains("annotation is missing"));
    }
}
