//! PostgreSQL as the source of the feed, and as the keeper of its state.

pub mod fuzzing;
mod ledger;
mod rows;
mod source;

pub use ledger::PostgresLedger;
pub(crate) use ledger::{CONSUMER, signed, unsigned};
pub use rows::PostgresRows;
pub use source::{PostgresReader, PostgresSource};
pub(crate) use source::{new_since, since as visible_since};
