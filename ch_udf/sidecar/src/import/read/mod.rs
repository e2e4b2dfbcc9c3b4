//! Files into chunks of parsed rows, on a thread of its own.

pub(crate) mod chunk;
pub(crate) mod input;
pub(crate) mod reader;
