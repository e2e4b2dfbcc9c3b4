//! The transaction graph.

use arx_core::graph::{Limits, MemoryBudget, connections};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::convert::Wallet;
use crate::error::SqlError;
use crate::guc;
use crate::spi::{self, ServerTransfers};

#[pg_extern(stable, parallel_restricted)]
#[allow(clippy::type_complexity)]
fn wallet_connections(
    address: Option<&str>,
    network: Option<&str>,
    max_depth: default!(Option<i32>, 3),
) -> Result<
    TableIterator<
        'static,
        (
            name!(source, String),
            name!(target, String),
            name!(connection_strength, i64),
            name!(depth, i32),
            name!(strength_rank, i64),
        ),
    >,
    ErrorReport,
> {
    let max_depth = max_depth.ok_or_else(|| SqlError::null_argument("max_depth"))?;
    let wallet = Wallet::parse(address, network)?;
    let limits = Limits { max_depth, memory: MemoryBudget::new(guc::graph_work_mem()) };
    let mut transfers = ServerTransfers::new(wallet.network.name());
    let found = connections(wallet.address.as_str(), limits, &mut transfers).map_err(SqlError::from)?;
    if found.is_empty() && !spi::wallet_exists(&wallet)? {
        notice!("wallet {} has no transaction on network {}", wallet.address.as_str(), wallet.network.name());
    }
    let source = wallet.address.into_string();
    Ok(TableIterator::new(found.into_iter().map(move |c| {
        // depth is at most 32
        (source.clone(), c.target, c.strength, i32::try_from(c.depth).unwrap_or(i32::MAX), c.rank)
    })))
}
