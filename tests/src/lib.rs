//! Harness of the tests in `tests/tests`: golden files, SQL in documents, fixtures, random
//! histories of concurrent writers, second servers, and a proxy that cuts connections.

pub mod fences;
pub mod fixtures;
pub mod golden;
pub mod history;
pub mod proxy;
pub mod replica;
pub mod writers;
