//! Harness of the tests in `tests/tests`: golden files, SQL in documents, concurrent writers and a proxy that cuts connections.

pub mod fences;
pub mod golden;
pub mod proxy;
pub mod writers;
