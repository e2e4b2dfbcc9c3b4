//! Reading profiles from PostgreSQL: a few sessions, and no more callers at a time than these.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::follower::identity;
use super::keys::{Identity, WalletKey};
use super::profile::{Loaded, Profile, ProfileLoader};
use super::store::by_network;
use super::watermark::Height;
use crate::error::SidecarError;
use crate::servers::postgres;
use crate::settings::Settings;

/// Sessions. Without Redis, they are all that PostgreSQL sees of the readers.
const SESSIONS: usize = 4;

/// Time limit for waiting for a session.
const WAIT_LIMIT: Duration = Duration::from_secs(5);

/// Wallets of one query.
const BATCH: usize = 1_000;

/// Sessions of PostgreSQL for readers of profiles.
pub(super) struct Database {
    settings: Settings,
    identity: Identity,
    idle: Mutex<Vec<ProfileLoader>>,
    permits: Semaphore,
}

/// Profiles of one query.
pub(super) struct Batch {
    pub(super) snapshot: String,
    pub(super) height: Height,
    pub(super) profiles: Vec<Profile>,
    /// Time that each of them took.
    pub(super) cost: Duration,
    /// Time of the query.
    pub(super) read: Instant,
}

impl Database {
    /// Connects, and reads the identity of the database.
    ///
    /// # Errors
    /// Errors of [`postgres::connect`].
    pub(super) async fn connect(settings: &Settings) -> Result<Self, SidecarError> {
        let client = postgres::connect(settings).await?.client;
        let (identity, _) = identity(&client).await?;
        let first = ProfileLoader::new(client).await?;
        let (settings, permits) = (settings.clone(), Semaphore::new(SESSIONS));
        Ok(Self { settings, identity, idle: Mutex::new(vec![first]), permits })
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Reads the profiles of wallets: one batch for each network, or several.
    ///
    /// # Errors
    /// [`SidecarError::Overloaded`], [`SidecarError::Postgres`], and those of connecting.
    pub(super) async fn load(&self, wallets: &[WalletKey]) -> Result<Vec<Batch>, SidecarError> {
        let waiting = tokio::time::timeout(WAIT_LIMIT, self.permits.acquire());
        let Ok(Ok(_permit)) = waiting.await else {
            return Err(SidecarError::Overloaded { sessions: SESSIONS });
        };
        let idle = self.idle().pop().filter(|loader| !loader.client.is_closed());
        let loader = match idle {
            Some(loader) => loader,
            None => self.open().await?,
        };
        let mut batches = Vec::new();
        for (network, addresses) in by_network(wallets) {
            for chunk in addresses.chunks(BATCH) {
                let read = Instant::now();
                // A session whose statement failed is closed, and a later call opens another one.
                let Loaded { snapshot, profiles } = loader.load(network, chunk).await?;
                let cost = read.elapsed() / u32::try_from(profiles.len().max(1)).unwrap_or(u32::MAX);
                if !profiles.is_empty() {
                    batches.push(Batch { height: Height::of(&snapshot)?, snapshot, profiles, cost, read });
                }
            }
        }
        self.idle().push(loader);
        Ok(batches)
    }

    /// Opens a session, which must be one of the same database: cached values are its own.
    async fn open(&self) -> Result<ProfileLoader, SidecarError> {
        let client = postgres::connect(&self.settings).await?.client;
        let (found, _) = identity(&client).await?;
        if found != self.identity {
            return Err(SidecarError::OtherDatabase { found: found.to_string(), wanted: self.identity.to_string() });
        }
        ProfileLoader::new(client).await
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<ProfileLoader>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
