//! Harness of the tests in `tests/tests`: golden files, fixtures, random histories of concurrent
//! writers, second servers, calls of every function, and a proxy that cuts connections.

pub mod fixtures;
pub mod golden;
pub mod history;
pub mod proxy;
pub mod replica;
pub mod surface;
pub mod writers;
