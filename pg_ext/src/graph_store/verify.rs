//! Comparison of the graph with its tables, row by row.

use arx_core::graph::{Digest, Digests, Graph, Group};
use pgrx::prelude::*;

use super::{AssetScope, CACHED, GraphHandle, Interrupts, Location, Overlay, Stale, catch_up, require_tables};
use crate::error::SqlError;
use crate::snapshot::Caller;
use crate::spi::{Table, every_row};

/// Digests of a group of transfers in the graph and in the tables.
pub(crate) struct Comparison {
    pub(crate) group: Group,
    pub(crate) graph: Digest,
    pub(crate) table: Digest,
}

/// Compares every group of transfers. Returns `None` if there is no base that the caller can use.
pub(crate) fn verify() -> Result<Option<Vec<Comparison>>, SqlError> {
    require_tables(AssetScope::All)?;
    let caller = Caller::current()?;
    let location = Location::open()?;
    let cached = CACHED.take().map(GraphHandle::without_own_rows);
    let Some(handle) = location.usable(&caller, AssetScope::All, cached)? else { return Ok(None) };
    let mut graph = Digests::default();
    let mapped = handle.mapped.clone();
    match catch_up(handle, &caller, AssetScope::All) {
        Ok((handle, _)) => graph.add_graph(&handle.graph(), &mut Interrupts)?,
        Err(Stale::Error(error)) => return Err(error),
        // A base that cannot be brought up to date is compared as it is.
        Err(Stale::Base | Stale::Large | Stale::Epoch) => {
            let no_changes = Overlay::new();
            graph.add_graph(&Graph::new(&mapped.base, &no_changes), &mut Interrupts)?;
        }
    }
    let mut tables = Digests::default();
    for table in Table::ALL {
        every_row(table, |row, _| {
            check_for_interrupts!();
            tables.add(row);
            Ok(())
        })?;
    }
    let groups = graph.compare(&tables).into_iter();
    Ok(Some(groups.map(|(group, graph, table)| Comparison { group, graph, table }).collect()))
}
