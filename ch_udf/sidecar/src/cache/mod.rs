//! Wallet profiles in Redis, and writes that reach PostgreSQL through it. Owns the names of keys
//! (`keys`), the profile itself (`profile`), what proves that a value is true (`watermark`), the
//! values in Redis (`store`), the follower that keeps them in step with PostgreSQL (`follower`),
//! the readers (`reader`, with `local`, `database` and `breaker`), filling and comparing (`fill`),
//! accepted writes (`queue`), and the consumer that brings them into PostgreSQL (`write_behind`).

mod breaker;
mod database;
mod fill;
mod follower;
mod keys;
mod local;
mod profile;
mod queue;
mod reader;
mod store;
mod watermark;
mod write_behind;

pub(crate) use breaker::Breaker;
pub(crate) use fill::{compare, fill};
pub(crate) use follower::{Followed, Follower, identity, remove_all};
pub use keys::WalletKey;
pub(crate) use keys::{Identity, SHARDS};
pub use profile::{Annotation, JsonFields, Profile, Risk};
pub use queue::WalletWriter;
pub(crate) use queue::WriteQueue;
pub(crate) use reader::ReadCounts;
pub use reader::{Answer, Origin, WalletReader};
pub(crate) use store::{ProfileCache, is_wrong_type};
pub(crate) use watermark::Height;
pub(crate) use write_behind::{Drained, Writer};
