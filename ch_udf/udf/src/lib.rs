//! Functions for ClickHouse: the program `arx-udf` answers them, `arx-sidecar clickhouse install-udfs` installs it.
//!
//! | module | owns |
//! |---|---|
//! | `protocol` | chunks of RowBinary, and what can be wrong with them |
//! | `functions` | names, types and answers |
//! | `models` | what they judge by |
//! | `vectors` | what each must say: for `arx-udf --self-test`, and for the check after an installation |
//! | `program` | the command line of `arx-udf` |
//! | `inherited` | open files of ClickHouse's own that its processes get |

mod functions;
mod inherited;
mod models;
pub mod program;
mod protocol;
#[cfg(test)]
mod tests;
mod vectors;

pub use functions::Function;
pub use inherited::close_inherited;
pub use models::{Models, UdfError};
pub use vectors::{NULL, Vector, known as known_answers};
