//! ClickHouse as ARX's warehouse: its servers, the tables for a single server and for a cluster,
//! and the computation of aggregates. The SQL is in `sql/clickhouse`; the data in the tables
//! belongs to `feed`.

mod aggregates;
mod apply;
mod archive;
#[cfg(test)]
mod configuration_tests;
mod schema;
mod shape;
mod topology;

pub(crate) use aggregates::{
    AGGREGATES, Months, Repair, ValidGenerations, all_months, fill_received, group_months, touched_months,
};
pub(crate) use apply::{apply, ensure};
pub use schema::statements;
pub use shape::{ClusterConfiguration, Shape};
pub(crate) use topology::Topology;
