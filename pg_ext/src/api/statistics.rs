//! Statistics of tables.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::spi;

#[pg_extern]
pub(crate) fn update_table_statistics()
-> Result<TableIterator<'static, (name!(relation, String), name!(reason, String))>, ErrorReport> {
    Ok(TableIterator::new(spi::analyze_stale_tables()?))
}
