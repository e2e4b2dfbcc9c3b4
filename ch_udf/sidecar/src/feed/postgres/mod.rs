//! PostgreSQL as the source of the feed, and as the store of its state.

pub mod fuzzing;
mod ledger;
mod rows;
mod source;
mod sql;

pub(crate) use ledger::{CONSUMER, PostgresLedger, identify, signed, unsigned};
pub(crate) use source::PostgresSource;
pub(crate) use sql::{new_since, visible_since, within};
