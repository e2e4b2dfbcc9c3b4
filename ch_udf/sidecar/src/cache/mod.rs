//! Wallet profiles in Redis: read cache-aside, written by version, annotated by write-behind. Owns
//! the names of keys (`keys`), the profile itself (`profile`), the cache (`store`), reading through
//! it (`lookup`), and the consumer that brings annotations into PostgreSQL (`write_behind`).

mod keys;
mod lookup;
mod profile;
mod store;
mod write_behind;

pub(crate) use keys::{SHARDS, WalletKey, shard_keys};
pub(crate) use lookup::lookup;
pub(crate) use profile::Annotation;
pub(crate) use store::{ProfileCache, is_wrong_type};
pub(crate) use write_behind::{Drained, Writer};

/// Channel on which applied changes are announced as `network address version`, for caches in other
/// processes.
const INVALIDATIONS: &str = "arx:invalidate";
