//! The servers that the sidecar talks to: which one is meant, and connecting to it.

pub mod clickhouse;
pub mod engine;
pub mod postgres;
