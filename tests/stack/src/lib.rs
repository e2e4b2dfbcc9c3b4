//! Private servers for tests, benchmarks and the demo: PostgreSQL with the extension `arx`, Redis,
//! and the embedded ClickHouse engine.
//!
//! Servers listen on sockets in a private folder, so no fixed port is needed and concurrent runs do
//! not interfere. They have one of two lifetimes: the servers of a [`stack::Stack`] end with the
//! process that started them, even when that process is killed; [`detached`] servers outlive it and
//! are stopped by the name of their folder. This package must not know what is tested or measured
//! with the servers.
//!
//! `scripts/install-tools` and `scripts/install-extension` install what the servers need.

pub mod account;
pub mod clickhouse;
pub mod detached;
pub mod guard;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod programs;
pub mod redis_server;
pub mod stack;
pub mod tls;

pub use stack::{Database, Stack, StackOptions};
