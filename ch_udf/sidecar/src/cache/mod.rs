//! Wallet profiles in Redis: read cache-aside, set by version, annotated by write-behind. Owns the names of keys (`keys`), the
//! profile itself (`profile`), the cache (`store`) and the consumer that brings annotations into PostgreSQL (`write_behind`).

mod keys;
mod lookup;
mod profile;
mod store;
mod write_behind;

pub use keys::{SHARDS, WalletKey, shard_keys};
pub use lookup::{Lookup, lookup};
pub use profile::{Annotation, Profile, Risk, load_profile};
pub use store::{CachedProfile, Origin, ProfileCache};
pub use write_behind::{Drained, Writer};

/// Channel on which applied changes are announced as `network address version`, for caches inside other processes.
pub const INVALIDATIONS: &str = "arx:invalidate";
