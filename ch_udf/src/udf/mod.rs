//! Functions for ClickHouse: the program `arx-udf` answers them, `arx-sidecar clickhouse install-udfs` installs it.
//!
//! | module | owns |
//! |---|---|
//! | `protocol` | chunks of RowBinary, and what can be wrong with them |
//! | `functions` | names, types and answers |
//! | `vectors` | what each must say: for `arx-udf --self-test`, and for the check after an installation |
//! | `models` | what they judge by |
//! | `program` | the command line of `arx-udf` |
//! | `inherited` | open files of ClickHouse's own that its processes get
//! | `install` | files for ClickHouse, and reloading |

mod functions;
mod inherited;
pub mod install;
pub mod models;
pub mod program;
pub mod protocol;
#[cfg(test)]
mod tests;
mod vectors;

pub use functions::Function;
pub use inherited::close_inherited;
