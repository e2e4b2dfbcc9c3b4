//! The functions that SQL calls: each parses, calls `arx-core` and converts.

mod address;
mod alert;
mod graph;
mod partition;
mod risk;
