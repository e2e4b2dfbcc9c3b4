//! The feed from PostgreSQL to ClickHouse and back: transactions go into `transaction_events`, hourly volumes come back into
//! `arx.hourly_volume`. Exactly once in effect.
//!
//! A pass (`pipeline`) is safe to cut off between any two steps, because
//! - every attempt has a number that PostgreSQL stored before anything was written elsewhere;
//! - rows carry a version made of that number, so what a broken attempt left loses against the next;
//! - the position moves in the same PostgreSQL transaction that stores the volumes computed from it.
//!
//! The pipeline knows its surroundings as three traits: a [`Source`] (one snapshot of PostgreSQL), a [`Sink`] (ClickHouse) and
//! a [`Ledger`] (the feed's own state in PostgreSQL). It must not name a server.

mod clickhouse_sink;
#[cfg(test)]
mod memory;
mod model;
mod numeric;
mod pipeline;
mod postgres_ledger;
mod postgres_source;
#[cfg(test)]
mod tests;

pub use clickhouse_sink::ClickHouseSink;
pub use model::{Change, Confirmation, Hour, HourlyVolume, Load, Mark, Stage, Stored, Touched};
pub use numeric::{NumericError, units_from_binary};
pub use pipeline::{Ledger, PassReport, Sink, Source, run_pass};
pub(crate) use postgres_ledger::LOCK_SPACE;
pub use postgres_ledger::PostgresLedger;
pub use postgres_source::PostgresSource;
