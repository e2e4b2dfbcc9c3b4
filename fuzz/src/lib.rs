//! Code of the fuzz targets: each function reads bytes as a user, a server or a file could supply
//! them, and panics when an invariant is broken. `make fuzz` runs them under libFuzzer,
//! `tests/seeds.rs` replays their seeds.

mod graph_file;
mod numeric;
mod row_binary;
mod scorecard;
pub mod seeds;

pub use arx_sidecar::feed::fuzzing::copy_rows;
pub use graph_file::graph_file;
pub use numeric::numeric;
pub use row_binary::row_binary;
pub use scorecard::scorecard;
