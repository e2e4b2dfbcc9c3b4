//! Loads chunks into PostgreSQL.

pub(crate) mod database;
pub(crate) mod lanes;
pub(crate) mod loader;
pub(crate) mod meter;
pub(crate) mod postgres_sink;
pub(crate) mod rejects;
mod sql;
