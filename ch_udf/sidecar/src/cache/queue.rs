//! Accepting writes for PostgreSQL: into a stream and into the pending writes of their wallet, in
//! one step. An accepted write is on two nodes if the server has a replica, and where no eviction
//! can take it.

use redis::aio::ConnectionManager;
use redis::{Script, from_redis_value_ref};

use super::keys::{Identity, WalletKey};
use super::profile::{Annotation, JsonFields};
use super::store::{PIPELINE, is_wrong_type, set_aside_unless};
use crate::error::{Doing, SidecarError};
use crate::servers::redis::{Connection, Endpoint};
use crate::servers::{self};
use crate::settings::Settings;

/// Entries of a stream before writes are rejected: about 300 MB a stream at 300 bytes each.
const MAX_STREAM_LENGTH: u64 = 1_000_000;

/// Time limit for a replica to have a write, in milliseconds.
const REPLICA_MILLIS: u64 = 1_000;

/// The streams of a database.
#[derive(Clone)]
pub(crate) struct WriteQueue {
    connection: ConnectionManager,
    /// Connection to the cache, where other processes hear of the write.
    announcements: Option<ConnectionManager>,
    identity: Identity,
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
        let Connection { manager, replicas, .. } = servers::redis::connect(settings, Endpoint::Streams).await?;
        let announcements = match &settings.redis_streams_url {
            None => Some(manager.clone()),
            // The cache may be down: a write is accepted all the same.
            Some(_) => servers::redis::connect(settings, Endpoint::Cache).await.ok().map(|it| it.manager),
        };
        let address = Endpoint::Streams.url(settings).to_string();
        Ok(Self { connection: manager, announcements, identity, replicas, address })
    }

    /// Checks that the server does not evict keys without a lifetime, which streams are.
    ///
    /// # Errors
    /// [`SidecarError::EvictsWrites`], [`SidecarError::Redis`].
    pub(super) async fn require_no_eviction(&self) -> Result<(), SidecarError> {
        let doing = "ask for the eviction policy";
        let information = servers::redis::information(&mut self.connection.clone(), doing).await?;
        match information.get("maxmemory_policy") {
            Some(policy) if policy.starts_with("allkeys") => {
                Err(SidecarError::EvictsWrites { address: self.address.clone(), policy: policy.clone() })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn connection(&self) -> ConnectionManager {
        self.connection.clone()
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Accepts an annotation. Returns the id of the queued entry.
    ///
    /// # Errors
    /// [`SidecarError::StreamFull`] when queued entries are not applied,
    /// [`SidecarError::NotReplicated`], [`SidecarError::Redis`].
    pub(crate) async fn annotate(&self, wallet: &WalletKey, annotation: &Annotation) -> Result<String, SidecarError> {
        let write = [(wallet.clone(), annotation.clone())];
        self.annotate_many(&write)
            .await?
            .pop()
            .ok_or(SidecarError::Protocol { detail: "Redis gives no answer about a queued annotation".into() })
    }

    /// Accepts annotations. Returns the ids of the queued entries. If it fails, some of them may
    /// have been accepted.
    ///
    /// # Errors
    /// Errors of [`Self::annotate`].
    pub(crate) async fn annotate_many(&self, writes: &[(WalletKey, Annotation)]) -> Result<Vec<String>, SidecarError> {
        let doing = "queue an annotation";
        let source = include_str!("../../../../sql/redis/note_add.lua");
        let script = Script::new(source);
        let mut connection = self.connection.clone();
        let mut ids = Vec::with_capacity(writes.len());
        for chunk in writes.chunks(PIPELINE) {
            let calls: Vec<redis::Cmd> =
                chunk.iter().map(|(wallet, write)| self.call(&script, wallet, write)).collect();
            let mut commands = redis::pipe();
            commands.cmd("SCRIPT").arg("LOAD").arg(source);
            for call in &calls {
                commands.add_command(call.clone());
            }
            let replies: Vec<redis::RedisResult<redis::Value>> =
                commands.ignore_errors().query_async(&mut connection).await.doing(doing)?;
            for (((wallet, _), call), reply) in chunk.iter().zip(&calls).zip(replies.into_iter().skip(1)) {
                let reply = match reply {
                    Err(error) if is_wrong_type(&error) => {
                        set_aside_unless(&mut connection, &wallet.pending(&self.identity), "hash").await?;
                        let stream = self.identity.shard_of(wallet).writes;
                        set_aside_unless(&mut connection, &stream, "stream").await?;
                        call.query_async(&mut connection).await
                    }
                    reply => reply,
                };
                let reply: String =
                    from_redis_value_ref(&reply.doing(doing)?).map_err(redis::RedisError::from).doing(doing)?;
                if let Some(length) = reply.strip_prefix("FULL ") {
                    return Err(SidecarError::StreamFull {
                        stream: self.identity.shard_of(wallet).writes,
                        length: length.parse().unwrap_or(MAX_STREAM_LENGTH),
                    });
                }
                ids.push(reply);
            }
        }
        self.wait_for_replica().await?;
        self.announce(writes).await;
        Ok(ids)
    }

    fn call(&self, script: &Script, wallet: &WalletKey, annotation: &Annotation) -> redis::Cmd {
        let mut call = redis::cmd("EVALSHA");
        call.arg(script.get_hash()).arg(2).arg(wallet.pending(&self.identity));
        call.arg(self.identity.shard_of(wallet).writes);
        call.arg(&wallet.network).arg(&wallet.address).arg(annotation.text());
        call.arg(format!("{:032x}", fastrand::u128(..))).arg(MAX_STREAM_LENGTH);
        for (name, value) in annotation.fields() {
            call.arg(name).arg(value.get());
        }
        call
    }

    async fn wait_for_replica(&self) -> Result<(), SidecarError> {
        if self.replicas == 0 {
            return Ok(());
        }
        let wait = redis::cmd("WAIT").arg(1).arg(REPLICA_MILLIS).to_owned();
        let holders: u64 =
            wait.query_async(&mut self.connection.clone()).await.doing("wait until a replica has a write")?;
        if holders == 0 {
            return Err(SidecarError::NotReplicated { address: self.address.clone() });
        }
        Ok(())
    }

    /// Has other processes read the wallets again. They would do so a little later anyway.
    async fn announce(&self, writes: &[(WalletKey, Annotation)]) {
        let Some(mut connection) = self.announcements.clone() else { return };
        for chunk in writes.chunks(PIPELINE) {
            let mut commands = redis::pipe();
            for (wallet, _) in chunk {
                let message = format!("note {}:{}", wallet.network, wallet.address);
                commands.cmd("PUBLISH").arg(self.identity.changes()).arg(message).ignore();
            }
            let _: redis::RedisResult<()> = commands.query_async(&mut connection).await;
        }
    }

    /// Reads the writes of wallets that PostgreSQL has not applied yet.
    ///
    /// # Errors
    /// [`SidecarError::Redis`].
    pub(super) async fn pending(&self, wallets: &[WalletKey]) -> Result<Vec<JsonFields>, SidecarError> {
        let doing = "read pending annotations";
        let mut found = Vec::with_capacity(wallets.len());
        for chunk in wallets.chunks(PIPELINE) {
            let mut commands = redis::pipe();
            for wallet in chunk {
                commands.cmd("HGETALL").arg(wallet.pending(&self.identity));
            }
            let replies: Vec<redis::RedisResult<Vec<(String, String)>>> =
                commands.ignore_errors().query_async(&mut self.connection.clone()).await.doing(doing)?;
            for reply in replies {
                let fields = match reply {
                    // The next write puts the key aside.
                    Err(error) if is_wrong_type(&error) => Vec::new(),
                    fields => fields.doing(doing)?,
                };
                let fields = fields.into_iter().filter_map(|(name, value)| {
                    let value = serde_json::from_str(&value).ok()?;
                    Some((name.strip_prefix("a:")?.to_owned(), value))
                });
                found.push(fields.collect());
            }
        }
        Ok(found)
    }
}

/// Accepts annotations for PostgreSQL.
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
        self.queue.annotate(wallet, annotation).await
    }
}
