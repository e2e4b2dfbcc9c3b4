//! Parses lines into rows, encoded for COPY. Does no I/O.

pub(crate) mod csv_line;
#[cfg(test)]
pub(crate) mod decode;
pub(crate) mod fields;
pub(crate) mod graph;
pub(crate) mod json;
pub(crate) mod kind;
pub(crate) mod legs;
pub(crate) mod number;
pub(crate) mod receipts;
pub(crate) mod shares;
pub(crate) mod target;
pub(crate) mod transactions;
pub(crate) mod transfers;
pub(crate) mod utxo;
pub(crate) mod values;
