//! The sidecar: carries files into PostgreSQL, PostgreSQL into ClickHouse, aggregates back, and keeps Redis in step.
//!
//! | module | owns |
//! |---|---|
//! | [`cli`] | the command line: a file for each command |
//! | [`settings`] | settings from file, environment and flags |
//! | [`error`] | errors, their kinds, and the retry policy of each kind |
//! | [`servers`] | PostgreSQL, ClickHouse and its embedded engine: choosing and connecting |
//! | [`import`] | files into PostgreSQL |
//! | [`feed`] | PostgreSQL into ClickHouse |
//! | [`warehouse`] | ClickHouse's tables and aggregates |
//! | [`write_back`] | aggregates from ClickHouse into PostgreSQL |
//! | [`verify`] | whether both hold the same, and loading again what differs |
//! | [`cache`] | profiles in Redis, write-behind into PostgreSQL |
//! | [`functions`] | installing the functions of `arx-udf` in ClickHouse |
//! | [`models`] | risk scores out of files, and pages about the models |
//! | [`daemon`] | the daemon |

pub mod cache;
pub mod cli;
pub mod daemon;
pub mod error;
pub mod feed;
pub mod functions;
pub mod import;
pub mod models;
pub mod servers;
pub mod settings;
pub mod verify;
pub mod warehouse;
pub mod write_back;
