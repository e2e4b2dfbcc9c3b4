//! The extension `arx`: a thin shell over `arx-core`.
//!
//! Functions in `api` parse their arguments, call `arx-core` and convert the result. All SQL text is in `spi` or in
//! `sql/postgres/`; what an error looks like in SQL is in `error`. No rule of the domain is decided here.

// pgrx generates public items without documentation and its macros need unsafe code of their own
#![allow(unsafe_code, missing_docs)]
// pgrx's ErrorReport has over 200 bytes, and an extern must return it as it is to keep its SQLSTATE
#![allow(clippy::result_large_err)]

use pgrx::prelude::*;

mod api;
mod convert;
mod error;
mod graph_store;
mod guc;
mod numeric;
mod parallel;
mod snapshot;
mod spi;

::pgrx::pg_module_magic!(name, version);

/// Called once by each backend that loads the library.
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    guc::register();
}

extension_sql_file!("../../sql/postgres/roles.sql", name = "roles");
extension_sql_file!(
    "../../sql/postgres/tables.sql",
    name = "tables",
    requires = ["roles", normalize_network, network_family, normalize_address]
);
extension_sql_file!("../../sql/postgres/changes.sql", name = "changes", requires = ["tables"]);
extension_sql_file!("../../sql/postgres/label_changes.sql", name = "label_changes", requires = ["changes"]);
extension_sql_file!(
    "../../sql/postgres/wallets.sql",
    name = "wallets",
    requires = ["changes", require_address, registered_network]
);
extension_sql_file!("../../sql/postgres/clusters.sql", name = "clusters", requires = ["wallets"]);
extension_sql_file!("../../sql/postgres/refresh.sql", name = "refresh", requires = ["wallets"]);
extension_sql_file!(
    "../../sql/postgres/patterns.sql",
    name = "patterns",
    requires = ["refresh", detect_patterns, pattern_types, pattern_horizon, pattern_network]
);
extension_sql_file!(
    "../../sql/postgres/risk_models.sql",
    name = "risk_models",
    requires = ["tables", registered_network, default_risk_model, check_risk_model]
);
extension_sql_file!(
    "../../sql/postgres/risk.sql",
    name = "risk",
    requires = ["refresh", "label_changes", "risk_models", is_valid_address, score_wallets, wallets_near, risk_basis]
);
extension_sql_file!("../../sql/postgres/bounds.sql", name = "bounds");
extension_sql_file!(
    "../../sql/postgres/partitions.sql",
    name = "partitions",
    requires = ["refresh", "bounds", partition_plan, partition_cover]
);
extension_sql_file!("../../sql/postgres/upkeep.sql", name = "upkeep", requires = ["partitions"]);
extension_sql_file!("../../sql/postgres/alerts.sql", name = "alerts", requires = ["upkeep", check_performance_alerts]);
extension_sql_file!("../../sql/postgres/schedules.sql", name = "schedules", requires = ["alerts"]);
extension_sql_file!("../../sql/postgres/dump.sql", name = "dump", requires = ["clusters", "patterns", "risk", "schedules"]);
extension_sql_file!("../../sql/postgres/access.sql", name = "access", finalize);
