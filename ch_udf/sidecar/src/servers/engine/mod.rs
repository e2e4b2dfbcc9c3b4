//! The embedded ClickHouse engine for one machine. Owns starting it as a process of its own (`launcher`, the binary
//! `arx-clickhouse`), its folder (`files`) and keeping it alive (`supervisor`). The engine listens on the loopback address
//! only, with a random password that is kept in a private file.
//!
//! Calls into the library are confined to `chdb`.

mod chdb;
mod files;
mod launcher;
mod supervisor;

pub use files::{Endpoint, EngineFolder, STORAGE_POLICY, USER, escape_xml};
pub use launcher::{LaunchOptions, answers, run};
pub use supervisor::{Supervisor, Warehouse};
