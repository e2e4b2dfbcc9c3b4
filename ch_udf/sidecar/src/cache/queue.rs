//! Accepting writes for PostgreSQL: into a stream and into the pending writes of their wallet, in
//! one step. An accepted write is on two nodes if the server has a replica, and where no eviction
//! can take it.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use redis::{Cmd, RedisResult, Script, Value, from_redis_value_ref};
use uuid::Uuid;

use super::keys::{Identity, SHARDS, ShardKeys, WalletKey};
use super::profile::Annotation;
use super::store::{PIPELINE, is_wrong_type, set_aside_unless};
use super::writes::{CustomLabel, PendingWrites, QueuedWrite};
use crate::error::{Doing, SidecarError};
use crate::servers::redis::{Connection, Endpoint, Link, publish};
use crate::servers::{self};
use crate::settings::Settings;

/// Entries of a stream before writes are rejected: about 300 MB a stream at 300 bytes each.
const MAX_STREAM_LENGTH: u64 = 1_000_000;

/// Time limit for a replica to have a write, in milliseconds.
const REPLICA_MILLIS: u64 = 1_000;

const ADD: &str = include_str!("../../../../sql/redis/write_add.lua");

/// A write that is to be accepted.
struct Entry {
    shard: ShardKeys,
    /// Key of the pending writes that it is shown by.
    pending: String,
    fields: Vec<(&'static str, String)>,
    /// Names and values of pending writes.
    shown: Vec<(String, String)>,
}

/// Counts of the entries of a database's streams.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lengths {
    /// Writes that are not acknowledged yet.
    pub(crate) queued: u64,
    pub(crate) dead: u64,
    /// The first stream with dead letters.
    pub(crate) first_dead: Option<String>,
    /// Keys that are no streams.
    pub(crate) misplaced: u64,
}

impl Lengths {
    /// Asks for the lengths of all streams at once.
    ///
    /// # Errors
    /// [`SidecarError::Redis`].
    pub(crate) async fn read(connection: &mut Link, identity: &Identity) -> Result<Self, SidecarError> {
        let doing = "count queued writes";
        let keys: Vec<ShardKeys> = (0..SHARDS).map(|shard| identity.shard(shard)).collect();
        let mut commands = redis::pipe();
        for shard in &keys {
            commands.cmd("XLEN").arg(&shard.writes).cmd("XLEN").arg(&shard.dead);
        }
        let replies: Vec<RedisResult<u64>> = commands.ignore_errors().query_async(connection).await.doing(doing)?;
        let mut replies = replies.into_iter();
        let mut lengths = Self::default();
        for shard in keys {
            for (key, is_dead) in [(shard.writes, false), (shard.dead, true)] {
                let missing = || SidecarError::Protocol { detail: format!("{doing}: a node gives no answer") };
                let length = match replies.next().ok_or_else(missing)? {
                    Err(error) if is_wrong_type(&error) => {
                        lengths.misplaced += 1;
                        continue;
                    }
                    reply => reply.doing(doing)?,
                };
                if !is_dead {
                    lengths.queued += length;
                } else if length > 0 {
                    lengths.dead += length;
                    lengths.first_dead.get_or_insert(key);
                }
            }
        }
        Ok(lengths)
    }
}

/// The streams of a database.
#[derive(Clone)]
pub(crate) struct WriteQueue {
    connection: Link,
    /// Connection to the cache, where other processes hear of the write.
    announcements: Option<Link>,
    identity: Identity,
    /// Replicas that must have a write before it is accepted.
    replicas: u32,
    /// Without secrets.
    address: String,
}

impl WriteQueue {
    /// Connects to accept writes.
    ///
    /// # Errors
    /// [`SidecarError::EvictsWrites`], and those of connecting.
    pub(crate) async fn connect(settings: &Settings, identity: Identity) -> Result<Self, SidecarError> {
        if !settings.write_behind {
            let detail = "annotations are not accepted: the setting write_behind is false".to_owned();
            return Err(SidecarError::Configuration { detail });
        }
        let queue = Self::for_readers(settings, identity).await?;
        queue.require_no_eviction().await?;
        Ok(queue)
    }

    /// Connects to read pending writes.
    ///
    /// # Errors
    /// Errors of connecting.
    pub(super) async fn for_readers(settings: &Settings, identity: Identity) -> Result<Self, SidecarError> {
        let Connection { link, facts, .. } = servers::redis::connect(settings, Endpoint::Streams).await?;
        let announcements = match &settings.redis_streams_url {
            None => Some(link.clone()),
            // The cache may be down: a write is accepted all the same.
            Some(_) => servers::redis::connect(settings, Endpoint::Cache).await.ok().map(|it| it.link),
        };
        let address = Endpoint::Streams.url(settings).to_string();
        let replicas = settings.write_replicas.unwrap_or_else(|| facts.have_replicas().into());
        Ok(Self { connection: link, announcements, identity, replicas, address })
    }

    /// Checks that the server does not evict keys without a lifetime, which streams are.
    ///
    /// # Errors
    /// [`SidecarError::EvictsWrites`], [`SidecarError::Redis`].
    pub(super) async fn require_no_eviction(&self) -> Result<(), SidecarError> {
        let doing = "ask for the eviction policy";
        let information = servers::redis::information(&mut self.connection.clone(), doing).await?;
        let policy = information.eviction();
        if policy.starts_with("allkeys") {
            return Err(SidecarError::EvictsWrites { address: self.address.clone(), policy });
        }
        Ok(())
    }

    pub(super) fn connection(&self) -> Link {
        self.connection.clone()
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Accepts a write. Returns the id of the queued entry.
    ///
    /// # Errors
    /// [`SidecarError::StreamFull`] when queued entries are not applied,
    /// [`SidecarError::NotReplicated`], [`SidecarError::Redis`].
    pub(crate) async fn accept(&self, write: QueuedWrite) -> Result<String, SidecarError> {
        let missing = || SidecarError::Protocol { detail: "Redis gives no answer about a queued write".into() };
        self.accept_many(std::slice::from_ref(&write)).await?.pop().ok_or_else(missing)
    }

    /// Accepts writes. Returns the ids of the queued entries. If it fails, some of them may have
    /// been accepted.
    ///
    /// # Errors
    /// Errors of [`Self::accept`].
    pub(crate) async fn accept_many(&self, writes: &[QueuedWrite]) -> Result<Vec<String>, SidecarError> {
        let doing = "queue a write";
        let mut ids = Vec::with_capacity(writes.len());
        for chunk in writes.chunks(PIPELINE) {
            let entry = |write: &QueuedWrite| {
                let shard = write.shard(&self.identity);
                let pending =
                    write.wallet().map_or_else(|| shard.writes.clone(), |wallet| wallet.pending(&self.identity));
                Ok(Entry { shard, pending, fields: write.fields()?, shown: write.shown()? })
            };
            let entries = chunk.iter().map(entry).collect::<Result<Vec<_>, serde_json::Error>>().doing(doing)?;
            ids.extend(self.append_all(&entries).await?);
            self.announce(chunk.iter().filter_map(QueuedWrite::wallet)).await;
        }
        Ok(ids)
    }

    /// Appends entries to their streams. Returns their ids, in the given order.
    async fn append_all(&self, entries: &[Entry]) -> Result<Vec<String>, SidecarError> {
        let doing = "queue a write";
        if !self.connection.is_cluster() {
            return self.append(entries).await;
        }
        // The streams of a cluster are on different nodes; the entries of one keep their order.
        let mut streams: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, entry) in entries.iter().enumerate() {
            streams.entry(&entry.shard.writes).or_default().push(index);
        }
        let appending = streams.into_values().map(async |indices| {
            let mut ids = Vec::with_capacity(indices.len());
            for index in indices {
                let entry = entries.get(index..=index).unwrap_or_default();
                ids.extend(self.append(entry).await?.into_iter().map(|id| (index, id)));
            }
            Ok::<_, SidecarError>(ids)
        });
        let mut ids: Vec<(usize, String)> = try_join_all(appending).await?.into_iter().flatten().collect();
        ids.sort_unstable();
        if ids.len() != entries.len() {
            return Err(SidecarError::Protocol { detail: format!("{doing}: a node gives no answer") });
        }
        Ok(ids.into_iter().map(|(_, id)| id).collect())
    }

    /// Appends entries by one connection: in a cluster, of one slot.
    async fn append(&self, entries: &[Entry]) -> Result<Vec<String>, SidecarError> {
        let doing = "queue a write";
        let calls: Vec<Cmd> = entries.iter().map(|entry| self.call(entry)).collect();
        let mut replies = self.send(&calls).await?.into_iter();
        let mut ids = Vec::with_capacity(entries.len());
        for (entry, call) in entries.iter().zip(&calls) {
            let reply = match replies.next() {
                Some(Err(error)) if is_wrong_type(&error) => {
                    let mut connection = self.connection();
                    set_aside_unless(&mut connection, &entry.pending, "hash").await?;
                    set_aside_unless(&mut connection, &entry.shard.writes, "stream").await?;
                    self.send(std::slice::from_ref(call)).await?.pop()
                }
                reply => reply,
            };
            let missing = || SidecarError::Protocol { detail: "Redis gives no answer about a queued write".into() };
            let reply = reply.ok_or_else(missing)?.doing(doing)?;
            let id: String = from_redis_value_ref(&reply).map_err(redis::RedisError::from).doing(doing)?;
            Self::require_room(&entry.shard, &id)?;
            ids.push(id);
        }
        Ok(ids)
    }

    /// Checks that a script has accepted a write.
    fn require_room(shard: &ShardKeys, reply: &str) -> Result<(), SidecarError> {
        let Some(length) = reply.strip_prefix("FULL ") else { return Ok(()) };
        Err(SidecarError::StreamFull {
            stream: shard.writes.clone(),
            length: length.parse().unwrap_or(MAX_STREAM_LENGTH),
        })
    }

    /// Makes the call that accepts an entry. A call that is repeated, because its answer was lost,
    /// repeats the entry with its key.
    fn call(&self, entry: &Entry) -> Cmd {
        let mut call = match self.connection.is_cluster() {
            // A node that was promoted a moment ago knows no script.
            true => redis::cmd("EVAL").arg(ADD).to_owned(),
            false => redis::cmd("EVALSHA").arg(Script::new(ADD).get_hash()).to_owned(),
        };
        call.arg(2).arg(&entry.pending).arg(&entry.shard.writes);
        call.arg(MAX_STREAM_LENGTH).arg(write_key()).arg(entry.fields.len() * 2);
        for (name, value) in &entry.fields {
            call.arg(name).arg(value);
        }
        for (name, value) in &entry.shown {
            call.arg(name).arg(value);
        }
        call
    }

    /// Sends calls, and waits until replicas have them. The wait must follow on the connection of
    /// the calls: on any other it would ask about writes of others.
    async fn send(&self, calls: &[Cmd]) -> Result<Vec<RedisResult<Value>>, SidecarError> {
        let doing = "queue a write";
        let mut commands = redis::pipe();
        commands.ignore_errors();
        let has_load = !self.connection.is_cluster();
        if has_load {
            commands.cmd("SCRIPT").arg("LOAD").arg(ADD);
        }
        for call in calls {
            commands.add_command(call.clone());
        }
        if self.replicas > 0 {
            commands.cmd("WAIT").arg(self.replicas).arg(REPLICA_MILLIS);
        }
        let mut replies = self.connection().in_turn(&commands).await.doing(doing)?;
        if self.replicas > 0 {
            let reply = replies.pop().unwrap_or(Ok(Value::Nil)).doing("wait until a replica has a write")?;
            let holders = from_redis_value_ref::<u32>(&reply).unwrap_or_default();
            if holders < self.replicas {
                return Err(SidecarError::NotReplicated {
                    address: self.address.clone(),
                    holders,
                    wanted: self.replicas,
                });
            }
        }
        Ok(replies.split_off(usize::from(has_load)))
    }

    /// Has other processes read the wallets again. They would do so a little later anyway.
    async fn announce(&self, wallets: impl Iterator<Item = &WalletKey>) {
        let Some(mut connection) = self.announcements.clone() else { return };
        let mut commands = redis::pipe();
        for wallet in wallets {
            let message = format!("note {}:{}", wallet.network, wallet.address);
            commands.add_command(publish(&connection, &self.identity.changes(), &message)).ignore();
        }
        let _: RedisResult<()> = commands.query_async(&mut connection).await;
    }

    /// Reads the writes of wallets that PostgreSQL has not applied yet.
    ///
    /// # Errors
    /// [`SidecarError::Redis`].
    pub(super) async fn pending(&self, wallets: &[WalletKey]) -> Result<Vec<PendingWrites>, SidecarError> {
        let doing = "read pending writes";
        let mut found = Vec::with_capacity(wallets.len());
        for chunk in wallets.chunks(PIPELINE) {
            let mut commands = redis::pipe();
            for wallet in chunk {
                commands.cmd("HGETALL").arg(wallet.pending(&self.identity));
            }
            let replies: Vec<RedisResult<Vec<(String, String)>>> =
                commands.ignore_errors().query_async(&mut self.connection.clone()).await.doing(doing)?;
            for reply in replies {
                let fields = match reply {
                    // The next write puts the key aside.
                    Err(error) if is_wrong_type(&error) => Vec::new(),
                    fields => fields.doing(doing)?,
                };
                found.push(PendingWrites::read(fields));
            }
        }
        Ok(found)
    }

    /// Opens a session by a script, which appends the login to the stream of the user.
    ///
    /// # Errors
    /// Errors of [`Self::accept`].
    pub(super) async fn login(&self, script: &str, user: Uuid, arguments: &[String; 5]) -> Result<(), SidecarError> {
        let doing = "open a session";
        let shard = self.identity.shard_of_user(user);
        let sessions = self.identity.sessions_of(user);
        let mut call = redis::cmd("EVAL");
        call.arg(script).arg(2).arg(&sessions).arg(&shard.writes);
        call.arg(MAX_STREAM_LENGTH).arg(write_key()).arg(arguments);
        let reply = match self.send(std::slice::from_ref(&call)).await?.pop() {
            Some(Err(error)) if is_wrong_type(&error) => {
                let mut connection = self.connection();
                set_aside_unless(&mut connection, &sessions, "hash").await?;
                set_aside_unless(&mut connection, &shard.writes, "stream").await?;
                self.send(std::slice::from_ref(&call)).await?.pop()
            }
            reply => reply,
        };
        let reply = reply.unwrap_or(Ok(Value::Nil)).doing(doing)?;
        let id: String = from_redis_value_ref(&reply).map_err(redis::RedisError::from).doing(doing)?;
        Self::require_room(&shard, &id)
    }

    /// Calls a script of the sessions of a user.
    ///
    /// # Errors
    /// [`SidecarError::Redis`].
    pub(super) async fn call_sessions(
        &self,
        script: &str,
        user: Uuid,
        arguments: &[String],
        doing: &'static str,
    ) -> Result<Value, SidecarError> {
        let mut call = redis::cmd("EVAL");
        call.arg(script).arg(1).arg(self.identity.sessions_of(user)).arg(arguments);
        match call.query_async(&mut self.connection()).await {
            // A value of another type is no session; the next login puts it aside.
            Err(error) if is_wrong_type(&error) => Ok(Value::Nil),
            reply => reply.doing(doing),
        }
    }

    /// Removes one session of a user, or all. Returns whether there was one.
    ///
    /// # Errors
    /// [`SidecarError::Redis`], [`SidecarError::NotReplicated`].
    pub(super) async fn remove_sessions(&self, user: Uuid, digest: Option<&str>) -> Result<bool, SidecarError> {
        let sessions = self.identity.sessions_of(user);
        let command = match digest {
            Some(digest) => redis::cmd("HDEL").arg(sessions).arg(digest).to_owned(),
            None => redis::cmd("UNLINK").arg(sessions).to_owned(),
        };
        let reply = match self.send(&[command]).await?.pop().unwrap_or(Ok(Value::Nil)) {
            Err(error) if is_wrong_type(&error) => Value::Nil,
            reply => reply.doing("revoke a session")?,
        };
        Ok(reply == Value::Int(1))
    }
}

/// Returns the key of a new write, by which it is applied once.
fn write_key() -> String {
    format!("{:032x}", fastrand::u128(..))
}

/// Accepts notes and labels of wallets for PostgreSQL.
#[derive(Clone)]
pub struct WalletWriter {
    queue: WriteQueue,
}

impl WalletWriter {
    /// Connects with settings from a file, or with the defaults, and from the environment.
    ///
    /// # Errors
    /// [`SidecarError::EvictsWrites`] where eviction could take what is accepted, and those of
    /// settings and of connecting.
    pub async fn from_environment(file: Option<&std::path::Path>) -> Result<Self, SidecarError> {
        use crate::settings::{Environment, Overrides};
        let environment = Environment::read(|name| std::env::var(name).ok());
        let settings = Settings::load(file, &environment, &Overrides::default())?;
        let client = servers::postgres::connect(&settings).await?.client;
        let (identity, _) = super::follower::identity(&client).await?;
        Ok(Self { queue: WriteQueue::connect(&settings, identity).await? })
    }

    /// Accepts an annotation. Returns the id of the queued entry.
    ///
    /// # Errors
    /// [`SidecarError::StreamFull`] when queued entries are not applied,
    /// [`SidecarError::NotReplicated`], [`SidecarError::Redis`].
    pub async fn annotate(&self, wallet: &WalletKey, annotation: &Annotation) -> Result<String, SidecarError> {
        self.queue.accept(QueuedWrite::Annotation(wallet.clone(), annotation.clone())).await
    }

    /// Accepts a label. Returns the id of the queued entry.
    ///
    /// # Errors
    /// [`SidecarError::Input`] for a malformed label, and those of [`Self::annotate`]. A category
    /// that does not exist makes a dead letter.
    pub async fn label(&self, wallet: &WalletKey, label: &CustomLabel) -> Result<String, SidecarError> {
        label.check()?;
        self.queue.accept(QueuedWrite::Label(wallet.clone(), label.clone())).await
    }
}
