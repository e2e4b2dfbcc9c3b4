//! The feed from PostgreSQL to ClickHouse and back: transactions go into `transaction_events`,
//! aggregates come back into `arx.hourly_volume` and `arx.wallet_profiles`. Exactly once in effect.
//!
//! A pass (`pipeline`) is safe to cut off between any two steps, because
//! - every attempt has a number that PostgreSQL stored before anything was written elsewhere;
//! - rows carry a version made of that number, so what a broken attempt left loses against the next;
//! - aggregates that a broken attempt may have counted wrong are computed anew from the rows, by the next;
//! - the position moves last, and with it, in the same transaction, the end of a load or of a reload.
//!
//! The pipeline knows its surroundings as traits: a [`Source`] (one snapshot of PostgreSQL) with
//! its [`Reader`]s, a [`Sink`] (ClickHouse) and a [`Ledger`] (the feed's own state in PostgreSQL).
//! It must not name a server.

mod clickhouse;
mod columns;
mod model;
mod pipeline;
mod ports;
mod postgres;
mod session;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod twins;

pub(crate) use clickhouse::ClickHouseSink;
pub(crate) use columns::OPTIONAL;
pub(crate) use model::{Hour, Mark};
pub(crate) use pipeline::PassReport;
pub(crate) use ports::Source;
pub use postgres::fuzzing;
pub(crate) use postgres::{CONSUMER, PostgresLedger, PostgresSource, new_since, signed, unsigned, visible_since};
pub(crate) use session::FeedSession;
