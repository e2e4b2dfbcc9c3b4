//! The servers that the sidecar talks to: which one the settings mean, and connecting to it.
//! Statements belong to the rooms that need them.

pub(crate) mod clickhouse;
pub mod engine;
pub(crate) mod http;
pub(crate) mod postgres;
pub(crate) mod redis;
pub(crate) mod supervisor;
pub(crate) mod tls;

/// Returns the first two numbers of a version such as `25.3.1.2703`; zero for a part that is not a
/// number.
fn major_and_minor(version: &str) -> (u32, u32) {
    let mut numbers = version.split('.').map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
