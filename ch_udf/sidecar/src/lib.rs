//! The sidecar: carries files into PostgreSQL, PostgreSQL into ClickHouse, aggregates back, and
//! keeps Redis in sync.
//!
//! Only what the binaries and the tests need is public.
#![allow(missing_docs)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod atomic_file;
mod backup;
pub mod cache;
pub mod cli;
pub mod daemon;
mod deliver;
mod error;
mod escape;
mod export;
pub mod feed;
mod functions;
mod health_check;
mod import;
mod models;
mod retry;
mod router;
mod search;
mod servers;
pub mod settings;
mod tune;
mod upkeep;
mod verify;
pub mod warehouse;
mod write_back;

pub use error::{Chain, SidecarError};
pub use servers::engine;
