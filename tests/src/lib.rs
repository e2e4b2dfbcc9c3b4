//! Harness of the tests in `tests/tests`: golden files, fixtures, random histories of concurrent
//! writers, second servers, calls of every function, a proxy that cuts connections, daemons of the
//! sidecar, and servers of Redis.

pub mod daemon;
pub mod fixtures;
pub mod golden;
pub mod history;
pub mod proxy;
pub mod redis;
pub mod replica;
pub mod surface;
pub mod writers;
