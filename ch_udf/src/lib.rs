//! The sidecar: carries files into PostgreSQL, PostgreSQL into ClickHouse, aggregates back, and keeps Redis in step.
//!
//! | module | owns |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`config`] | settings from file, environment and flags |
//! | [`error`] | errors, their kinds, and the retry policy of each kind |
//! | [`postgres`], [`warehouse`] | connections, versions, ClickHouse's tables |
//! | [`engine`] | the embedded ClickHouse engine and its supervisor |
//! | [`import`] | files into PostgreSQL |
//! | [`feed`] | PostgreSQL into ClickHouse, aggregates back |
//! | [`behaviour`] | by which rules wallets are of a class |
//! | [`verify`] | whether both hold the same, and loading again what differs |
//! | [`cache`] | profiles in Redis, write-behind into PostgreSQL |
//! | [`serve`] | the daemon |
//! | [`risk`] | risk scores out of files, and pages about the models |
//! | [`udf`] | functions for ClickHouse, and how they are installed there |
//! | [`maintenance`], [`status`] | what an operator runs and looks at |

pub mod behaviour;
pub mod cache;
pub mod cli;
pub mod config;
pub mod engine;
pub mod error;
pub mod feed;
pub mod import;
pub mod maintenance;
pub mod postgres;
pub mod risk;
pub mod serve;
pub mod status;
pub mod udf;
pub mod verify;
pub mod warehouse;
