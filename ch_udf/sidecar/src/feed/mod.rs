//! The feed from PostgreSQL to ClickHouse and back: transactions go into `transaction_events`, aggregates come back into
//! `arx.hourly_volume` and `arx.wallet_profiles`. Exactly once in effect.
//!
//! A pass (`pipeline`) is safe to cut off between any two steps, because
//! - every attempt has a number that PostgreSQL stored before anything was written elsewhere;
//! - rows carry a version made of that number, so what a broken attempt left loses against the next;
//! - aggregates that a broken attempt may have counted wrong are computed anew from the rows, by the next;
//! - the position moves last, and with it, in the same transaction, the end of a load or of a reload.
//!
//! The pipeline knows its surroundings as traits: a [`Source`] (one snapshot of PostgreSQL) with its [`Reader`]s, a [`Sink`]
//! (ClickHouse) and a [`Ledger`] (the feed's own state in PostgreSQL). It must not name a server.

mod clickhouse;
mod model;
mod pipeline;
mod ports;
mod postgres;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod twins;

pub use clickhouse::ClickHouseSink;
pub(crate) use clickhouse::failed;
pub use model::{
    Chunk, Counted, Event, FirstLoad, FurtherColumn, Hour, HourlyVolume, Mark, Rows, Stage, Stored, Transfer, Value,
    ValueKind,
};
pub use pipeline::{PassOptions, PassReport, run_pass};
pub use ports::{Confirmation, Counting, Delivery, Ledger, Reader, Sink, Source};
pub use postgres::fuzzing;
pub(crate) use postgres::{CONSUMER, new_since, signed, unsigned, visible_since};
pub use postgres::{PostgresLedger, PostgresReader, PostgresRows, PostgresSource};
