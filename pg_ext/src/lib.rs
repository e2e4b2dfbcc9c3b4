//! The extension `arx`: a thin shell over `arx-core`.
//!
//! Functions in `api` parse their arguments by `arguments`, call `arx-core`, and convert the result
//! to rows. All SQL text is in `spi` or in `sql/postgres/`; `error` maps errors to SQL. No rule of
//! the domain is decided here.

// An extern must return pgrx's ErrorReport, of more than 200 bytes, to keep its SQLSTATE.
#![allow(clippy::result_large_err)]

use pgrx::prelude::*;

#[allow(unsafe_code, reason = "pgrx's macros generate unsafe code")]
mod api;
mod arguments;
mod encoding;
mod error;
mod graph_store;
mod guc;
mod memory;
mod moving;
mod numeric;
mod owner;
mod parallel;
mod snapshot;
mod spi;
mod subtransaction;
mod table_owner;
mod time;
mod versions;

::pgrx::pg_module_magic!(name, version);

/// Runs once in each backend that loads the library, or in the postmaster that preloads it.
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    memory::register();
    memory::keep_heap();
    error::or_report(encoding::require_utf8());
    guc::register();
}

// A preloaded library has not seen the database.
extension_sql!(
    r#"
DO $$
BEGIN
    IF pg_catalog.getdatabaseencoding() <> 'UTF8' THEN
        RAISE EXCEPTION 'arx requires a database with encoding UTF8, not %', pg_catalog.getdatabaseencoding()
              USING ERRCODE = 'feature_not_supported',
                    HINT = 'Create one by CREATE DATABASE ... ENCODING ''UTF8'' TEMPLATE template0.';
    END IF;
END
$$;
"#,
    name = "encoding",
    bootstrap
);

// SQL files run in the order of their numbers: each requires the one before it.
extension_sql_file!("../../sql/postgres/10_roles.sql", name = "roles");
extension_sql_file!("../../sql/postgres/12_tables.sql", name = "tables", requires = ["roles"]);
extension_sql_file!(
    "../../sql/postgres/13_language.sql",
    name = "language",
    requires = ["tables", calling_user, is_in_job]
);
extension_sql_file!("../../sql/postgres/14_job_locks.sql", name = "job_locks", requires = ["language"]);
extension_sql_file!(
    "../../sql/postgres/15_networks.sql",
    name = "networks",
    requires = ["job_locks", require_network_family, normalize_network, listed_network_family]
);
extension_sql_file!(
    "../../sql/postgres/21_freshness.sql",
    name = "freshness",
    requires =
        ["networks", is_moving_rows, current_command, watch_truncate, watch_writers, note_writer, restamp_future_rows]
);
extension_sql_file!("../../sql/postgres/22_label_changes.sql", name = "label_changes", requires = ["freshness"]);
extension_sql_file!(
    "../../sql/postgres/24_blocks.sql",
    name = "blocks",
    requires = ["label_changes", registered_network]
);
extension_sql_file!(
    "../../sql/postgres/30_wallets.sql",
    name = "wallets",
    requires = ["blocks", require_address, registered_network]
);
extension_sql_file!("../../sql/postgres/32_behaviour.sql", name = "behaviour", requires = ["wallets"]);
extension_sql_file!("../../sql/postgres/33_clusters.sql", name = "clusters", requires = ["behaviour"]);
extension_sql_file!("../../sql/postgres/34_search.sql", name = "search", requires = ["clusters", normalize_network]);
extension_sql_file!("../../sql/postgres/40_feed.sql", name = "feed", requires = ["search"]);
extension_sql_file!("../../sql/postgres/42_refresh.sql", name = "refresh", requires = ["feed"]);
extension_sql_file!("../../sql/postgres/43_prices.sql", name = "prices", requires = ["refresh", registered_network]);
extension_sql_file!(
    "../../sql/postgres/44_time_series.sql",
    name = "time_series",
    requires = ["prices", require_address, registered_network]
);
extension_sql_file!(
    "../../sql/postgres/50_patterns.sql",
    name = "patterns",
    requires = ["time_series", detect_patterns, pattern_types, pattern_horizon, pattern_network]
);
extension_sql_file!(
    "../../sql/postgres/60_risk_models.sql",
    name = "risk_models",
    requires = ["patterns", default_risk_model, check_risk_model]
);
extension_sql_file!("../../sql/postgres/61_risk_overrides.sql", name = "risk_overrides", requires = ["risk_models"]);
extension_sql_file!(
    "../../sql/postgres/62_risk_scores.sql",
    name = "risk_scores",
    requires = ["risk_overrides", is_valid_address, normalize_address, score_wallets, wallets_near, risk_basis]
);
extension_sql_file!("../../sql/postgres/64_profile_changes.sql", name = "profile_changes", requires = ["risk_scores"]);
extension_sql_file!(
    "../../sql/postgres/66_applied_writes.sql",
    name = "applied_writes",
    requires = ["profile_changes"]
);
extension_sql_file!("../../sql/postgres/70_partitions.sql", name = "partitions", requires = ["applied_writes"]);
extension_sql_file!("../../sql/postgres/71_conversion.sql", name = "conversion", requires = ["partitions"]);
extension_sql_file!("../../sql/postgres/72_archive.sql", name = "archive", requires = ["conversion"]);
extension_sql_file!("../../sql/postgres/80_maintenance.sql", name = "maintenance", requires = ["archive"]);
extension_sql_file!("../../sql/postgres/81_performance.sql", name = "performance", requires = ["maintenance"]);
extension_sql_file!(
    "../../sql/postgres/82_alerts.sql",
    name = "alerts",
    requires = ["performance", check_performance_alerts]
);
extension_sql_file!("../../sql/postgres/83_schedules.sql", name = "schedules", requires = ["alerts"]);
extension_sql_file!(
    "../../sql/postgres/84_health.sql",
    name = "health",
    requires = ["schedules", health_check, disk_usage]
);
extension_sql_file!("../../sql/postgres/85_audit.sql", name = "audit", requires = ["health", is_in_job]);
extension_sql_file!(
    "../../sql/postgres/86_screening.sql",
    name = "screening",
    requires = ["audit", screen_wallets, check_alert_condition, compile_alert_condition, alert_fact_columns]
);
extension_sql_file!(
    "../../sql/postgres/87_wallet_alerts.sql",
    name = "wallet_alerts",
    requires = ["screening", alert_candidates]
);
extension_sql_file!(
    "../../sql/postgres/88_watchlists.sql",
    name = "watchlists",
    requires = ["wallet_alerts", score_wallets, wallets_near, risk_basis]
);
extension_sql_file!("../../sql/postgres/89_delivery.sql", name = "delivery", requires = ["watchlists"]);
extension_sql_file!("../../sql/postgres/90_maintenance_queue.sql", name = "maintenance_queue", requires = ["delivery"]);
extension_sql_file!("../../sql/postgres/90_queries.sql", name = "queries", requires = ["maintenance_queue"]);
extension_sql_file!("../../sql/postgres/90_router.sql", name = "router", requires = ["queries", resolve_query]);
extension_sql_file!("../../sql/postgres/91_access.sql", name = "access", finalize);
