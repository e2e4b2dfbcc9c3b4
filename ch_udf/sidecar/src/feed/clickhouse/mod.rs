//! ClickHouse as the sink of the feed.

mod native;
mod sink;

pub use sink::ClickHouseSink;
pub(crate) use sink::failed;
