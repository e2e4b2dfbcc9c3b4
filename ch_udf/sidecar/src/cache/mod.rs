//! Wallet profiles in Redis, and writes that reach PostgreSQL through it. Owns the names of keys
//! (`keys`), the profile itself (`profile`), what proves that a value is true (`watermark`), the
//! values in Redis (`store`), the follower that keeps them in step with PostgreSQL (`follower`),
//! the readers (`reader`, with `local`, `database` and `breaker`), filling and comparing (`fill`),
//! accepted writes (`queue`, `writes`), the consumer that brings them into PostgreSQL
//! (`write_behind`), sessions of users (`sessions`), and events for late subscribers (`events`).

mod breaker;
mod database;
mod events;
mod fill;
mod follower;
mod keys;
mod local;
mod profile;
mod queue;
mod reader;
mod sessions;
mod store;
mod watermark;
mod write_behind;
mod writes;

pub(crate) use breaker::Breaker;
pub(crate) use events::{News, Subscriber, announce_alert};
pub(crate) use fill::{compare, fill};
pub(crate) use follower::{Followed, Follower, identity, remove_all};
pub(crate) use keys::Identity;
pub use keys::WalletKey;
pub use profile::{Annotation, JsonFields, Profile, Risk};
pub use queue::WalletWriter;
pub(crate) use queue::{Lengths, WriteQueue};
pub(crate) use reader::ReadCounts;
pub use reader::{Answer, Origin, WalletReader};
pub use sessions::{Session, Sessions};
pub(crate) use store::ProfileCache;
pub(crate) use watermark::Height;
pub(crate) use write_behind::{Drained, Writer};
pub use writes::CustomLabel;
pub(crate) use writes::QueuedWrite;
