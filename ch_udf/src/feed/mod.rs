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

mod clickhouse_sink;
#[cfg(test)]
mod memory;
mod model;
mod native;
mod numeric;
mod pipeline;
mod postgres_ledger;
mod postgres_rows;
mod postgres_source;
#[cfg(test)]
mod tests;
mod write_back;

pub use clickhouse_sink::ClickHouseSink;
pub use model::{
    Chunk, Counted, Event, FirstLoad, FurtherColumn, Hour, HourlyVolume, Mark, Rows, Stage, Stored, Transfer, Value,
    ValueKind,
};
pub use numeric::{NumericError, amount_from_binary, units_from_binary};
pub use pipeline::{Confirmation, Counting, Delivery, Ledger, PassOptions, PassReport, Reader, Sink, Source, run_pass};
pub use postgres_ledger::PostgresLedger;
pub use postgres_rows::PostgresRows;
pub use postgres_source::{PostgresReader, PostgresSource};
pub(crate) use postgres_source::{new_since, since as visible_since};
pub use write_back::{Kind, WriteBack, Written};
