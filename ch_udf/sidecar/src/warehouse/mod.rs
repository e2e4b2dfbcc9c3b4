//! ClickHouse as ARX's warehouse: connecting to it, the tables it needs there in their
//! single-server and their cluster form, and how aggregates are computed anew. The SQL is in
//! `sql/clickhouse`; what flows into the tables belongs to `feed`.

mod aggregates;
mod apply;
#[cfg(test)]
mod configuration_tests;
mod schema;
mod shape;
mod topology;

pub(crate) use aggregates::{AGGREGATES, Months, Repair, Valid, all_months, fill_received, grouped, touched_months};
pub(crate) use apply::{apply, ensure};
pub use schema::statements;
pub use shape::{Cluster, Shape};
pub(crate) use topology::Topology;
