//! The ARX domain: wallet addresses, amounts, the transaction graph, risk, partition plans and
//! alert rules.
//!
//! Pure Rust: this crate opens no file and no socket, reads no clock and no environment, and never
//! learns that PostgreSQL, ClickHouse or Redis exist. Whatever it needs from outside comes in as an
//! argument or through a trait of its own, so that the same code runs in the extension, in the
//! sidecar and in a test without any server.

#![deny(missing_docs)]

pub mod address;
pub mod alert;
pub mod amount;
pub mod analytics;
pub mod behaviour;
pub mod graph;
pub mod label;
pub mod partition;
pub mod risk;
