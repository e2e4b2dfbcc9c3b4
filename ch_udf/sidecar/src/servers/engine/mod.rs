//! The embedded ClickHouse engine of one machine: its folder (`files`), and running it in a process
//! of its own (`launcher`, the binary `arx-clickhouse`). The engine listens on the loopback address
//! only, with a random password in a private file.
//!
//! Calls into the library are confined to `chdb`.

mod chdb;
mod files;
mod launcher;

pub(crate) use files::{Endpoint, EngineFolder, STORAGE_POLICY, USER, escape_xml};
pub(crate) use launcher::answers;
pub use launcher::{LaunchOptions, run};
