//! The cache in this process: profiles by size in bytes, and what the follower's messages say about
//! them. While messages are missing, it answers nothing.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::keys::WalletKey;
use super::reader::Answer;
use super::store::LEASE;
use super::watermark::{Changes, Height, Watermark};

/// Lifetime of an entry.
const LIFETIME: Duration = Duration::from_secs(60);

/// Time for which a change is remembered, so that a profile that was read before it is not kept:
/// longer than any read takes.
const MEMORY: Duration = Duration::from_secs(30);

/// A pass of a follower.
type Pass = (i64, u64);

pub(super) struct LocalCache {
    entries: moka::sync::Cache<WalletKey, Arc<Answer>>,
    changed: moka::sync::Cache<WalletKey, Pass>,
    heard: RwLock<Option<Heard>>,
}

/// The latest message.
#[derive(Debug, Clone)]
struct Heard {
    watermark: Watermark,
    at: Instant,
}

impl LocalCache {
    /// Makes a cache of a size in bytes.
    pub(super) fn new(bytes: u64) -> Self {
        let weigher = |_: &WalletKey, answer: &Arc<Answer>| u32::try_from(answer.size).unwrap_or(u32::MAX);
        Self {
            entries: moka::sync::Cache::builder().max_capacity(bytes).weigher(weigher).time_to_live(LIFETIME).build(),
            changed: moka::sync::Cache::builder().max_capacity(1_000_000).time_to_live(MEMORY).build(),
            heard: RwLock::new(None),
        }
    }

    /// Returns the profile of a wallet, if the messages prove that it is true.
    pub(super) fn get(&self, wallet: &WalletKey, wanted: Option<Height>) -> Option<Arc<Answer>> {
        let heard = self.heard.read().unwrap_or_else(PoisonError::into_inner);
        let heard = heard.as_ref().filter(|heard| heard.at.elapsed() < LEASE)?;
        let answer = self.entries.get(wallet)?;
        let is_true =
            heard.watermark.covers(&wallet.network, answer.height) && heard.watermark.reaches(answer.height, wanted);
        is_true.then_some(answer)
    }

    /// Keeps a profile that was read after a watermark.
    pub(super) fn insert(&self, wallet: &WalletKey, answer: &Arc<Answer>, read_after: &Watermark) {
        let pass = (read_after.follower, read_after.pass);
        self.entries.insert(wallet.clone(), Arc::clone(answer));
        // A message that arrives from here on removes the entry; an earlier one is remembered.
        let is_of_follower = {
            let heard = self.heard.read().unwrap_or_else(PoisonError::into_inner);
            heard.as_ref().is_some_and(|heard| heard.watermark.follower == pass.0)
        };
        if !is_of_follower || self.changed.get(wallet).is_some_and(|changed| changed > pass) {
            self.entries.invalidate(wallet);
        }
    }

    /// Removes the profile of a wallet.
    pub(super) fn forget(&self, wallet: &WalletKey) {
        self.entries.invalidate(wallet);
    }

    /// Takes a message. One that does not follow the last one shows that some are missing.
    pub(super) fn hear(&self, changes: Changes) {
        let Changes { watermark, wallets, raised: _ } = changes;
        let pass = (watermark.follower, watermark.pass);
        for wallet in wallets.iter().filter_map(|wallet| wallet.split_once(':')) {
            let wallet = WalletKey { network: wallet.0.to_owned(), address: wallet.1.to_owned() };
            self.changed.insert(wallet.clone(), pass);
            self.entries.invalidate(&wallet);
        }
        let mut heard = self.heard.write().unwrap_or_else(PoisonError::into_inner);
        let follows = heard.as_ref().is_some_and(|last| {
            pass == (last.watermark.follower, last.watermark.pass + 1) && last.at.elapsed() < MEMORY
        });
        if !follows {
            self.entries.invalidate_all();
        }
        *heard = Some(Heard { watermark, at: Instant::now() });
    }

    /// The subscription was lost.
    pub(super) fn deafen(&self) {
        *self.heard.write().unwrap_or_else(PoisonError::into_inner) = None;
        self.entries.invalidate_all();
    }
}
