//! ClickHouse as ARX's warehouse: connecting to it, the tables it needs there in their single-server and their cluster form, and how
//! aggregates are computed anew. The SQL is in `sql/clickhouse`; what flows into the tables belongs to `feed`.

mod aggregates;
mod apply;
#[cfg(test)]
mod configuration_tests;
mod schema;
mod shape;
mod topology;

pub use aggregates::{
    AGGREGATES, Aggregate, Months, Repair, Valid, all_months, fill_received, grouped, touched_months,
};
pub use apply::{Applied, apply, ensure};
pub use schema::{SCHEMA_VERSION, statements};
pub use shape::{Cluster, Shape};
pub use topology::Topology;
