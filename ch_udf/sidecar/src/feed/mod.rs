//! The feed from PostgreSQL to ClickHouse: transactions become events in `transaction_events`,
//! exactly once in effect.
//!
//! A pass (`pipeline`) may be interrupted between any two steps, because
//! - every attempt has a number that PostgreSQL stores before the attempt writes anything
//!   elsewhere;
//! - rows carry a version made from that number, so rows of an interrupted attempt lose against
//!   those of the next one;
//! - aggregates that an interrupted attempt may have miscounted are recomputed from the rows by the
//!   next one;
//! - the position moves last, in one transaction with the end of a load or of a reload.
//!
//! The pipeline knows its surroundings as traits: a `Source` (one snapshot of PostgreSQL) with
//! its `Reader`s, a `Sink` (ClickHouse) and a
//! `Ledger` (the feed's state in PostgreSQL). It must not name a server.

mod clickhouse;
mod columns;
mod metadata;
mod model;
mod pipeline;
mod ports;
mod postgres;
mod session;
mod standing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod twins;

pub(crate) use clickhouse::{ClickHouseSink, Durability, latest_attempt, read_marks, read_standing};
pub(crate) use columns::OPTIONAL;
pub(crate) use model::{Hour, SourcePosition, TableRange};
pub(crate) use pipeline::{PassReport, foreign};
pub(crate) use ports::Source;
pub use postgres::fuzzing;
pub(crate) use postgres::{
    CONSUMER, PostgresLedger, PostgresSource, identify, new_since, signed, unsigned, visible_since, within,
};
pub(crate) use session::FeedSession;
pub(crate) use standing::{Marks, Standing};
