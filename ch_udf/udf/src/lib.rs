//! Functions for ClickHouse: the program `arx-udf` answers them, `arx-sidecar clickhouse
//! install-udfs` installs it. This package knows no server and no network.
//!
//! | module | owns |
//! |---|---|
//! | `protocol` | chunks of RowBinary, and how they can be malformed |
//! | `functions` | names, types and answers |
//! | `models` | the scorecard and the thresholds that the functions apply |
//! | `vectors` | questions with known answers, for `arx-udf --self-test` and for the check after an installation |
//! | `program` | the command line of `arx-udf` |
//! | `inherited` | file descriptors that ClickHouse leaves open in its processes |
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod functions;
mod inherited;
mod models;
mod program;
mod protocol;
#[cfg(test)]
mod tests;
mod vectors;

pub use functions::Function;
pub use inherited::close_inherited;
pub use models::{Models, UdfError};
pub use program::{Arguments, run};
pub use protocol::{Damage, ServeError};
pub use vectors::{NULL, Vector, known_answers};
