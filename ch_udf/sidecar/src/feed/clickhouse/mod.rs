//! ClickHouse as the sink of the feed.

mod native;
mod sink;

pub(crate) use sink::ClickHouseSink;
