//! Reads files into chunks of parsed rows, on a separate thread.

pub(crate) mod chunk;
pub(crate) mod elements;
pub(crate) mod input;
pub(crate) mod nodes;
mod parquet;
pub(crate) mod reader;
