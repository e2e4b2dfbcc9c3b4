//! The graph held against plain SQL, row by row.

use arx_core::graph::{Digests, Graph, Group};
use pgrx::prelude::*;

use super::{Context, Interrupts, Need, Overlay, READY, caught_up, require_all};
use crate::error::SqlError;
use crate::snapshot::Caller;
use crate::spi::{Table, every_row};

pub use arx_core::graph::Digest;

/// A group of transfers, as the graph has it and as the tables have it.
pub struct Difference {
    pub group: Group,
    pub graph: Digest,
    pub table: Digest,
}

/// Every group of both; `None` if there is no base that the caller could use.
pub fn verify() -> Result<Option<Vec<Difference>>, SqlError> {
    require_all(Need::All)?;
    let caller = Caller::current()?;
    let context = Context::open()?;
    let Some(ready) = context.usable(&caller, Need::All, READY.take())? else { return Ok(None) };
    let mut graph = Digests::default();
    let base = ready.loaded.clone();
    match caught_up(ready, &caller, Need::All) {
        Ok(ready) => graph.add_graph(&ready.graph(), &mut Interrupts)?,
        Err(super::Stale::Error(error)) => return Err(error),
        // what cannot be brought up to date is compared as it is
        Err(super::Stale::Base | super::Stale::Large) => {
            let nothing = Overlay::new();
            graph.add_graph(&Graph::new(&base.base, &nothing), &mut Interrupts)?;
        }
    }
    let mut tables = Digests::default();
    for table in [Table::Transactions, Table::TokenTransfers] {
        every_row(table, |row, _| {
            check_for_interrupts!();
            tables.add(row);
            Ok(())
        })?;
    }
    let compared = graph.compare(&tables).into_iter();
    Ok(Some(compared.map(|(group, graph, table)| Difference { group, graph, table }).collect()))
}
