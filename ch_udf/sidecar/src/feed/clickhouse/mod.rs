//! ClickHouse as the sink of the feed.

mod durability;
mod marks;
mod native;
mod sink;

pub(crate) use durability::Durability;
pub(crate) use marks::{latest_attempt, read as read_marks, read_standing};
pub(crate) use sink::ClickHouseSink;
