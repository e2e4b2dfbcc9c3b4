//! The functions that SQL calls. Each parses its arguments, calls `arx-core` and converts the
//! result to rows.

mod address;
mod alert;
mod analytics;
mod call;
mod condition;
mod graph;
mod judging;
mod label_index;
mod partition;
mod risk;
mod row;
mod series;
mod statistics;
mod tables;
mod triggers;
