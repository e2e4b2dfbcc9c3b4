//! A stack of real servers, and what must hold across them.
//!
//! Owns starting private servers for tests, benchmarks and the demo: PostgreSQL with the extension `arx`, Redis, and the
//! embedded ClickHouse engine. Servers listen on sockets in a folder of their own, so no port need be free and runs do not meet.
//! Two ways of living: [`stack::Stack`] ends with the process that started it, whatever ends that process; [`detached`] servers
//! outlive it and are taken down by name of their folder. Must not know what is tested; the tests are in `tests/tests`.
//!
//! What a test needs of the machine is installed by `scripts/install-tools` and `scripts/install-extension`.

pub mod account;
pub mod clickhouse;
pub mod detached;
pub mod fences;
pub mod golden;
pub mod guard;
pub mod postgres;
pub mod process;
pub mod programs;
pub mod proxy;
pub mod redis_server;
pub mod stack;
pub mod writers;

pub use stack::{Database, Stack, StackOptions};
