//! The statements of the catalogue of analytics queries.

use arx_core::analytics::QueryId;

/// Returns the statement of a query. Its parameters are `$1` network, `$2` address, `$3` token,
/// `$4` and `$5` range, `$6` number of rows.
pub(crate) fn analytics_statement(query: QueryId) -> &'static str {
    match query {
        QueryId::LargestTransfers => include_str!("../../../sql/queries/largest_transfers.postgres.sql"),
        QueryId::NetworkTotals => include_str!("../../../sql/queries/network_totals.postgres.sql"),
        QueryId::RiskBands => include_str!("../../../sql/queries/risk_bands.postgres.sql"),
        QueryId::TokenTotals => include_str!("../../../sql/queries/token_totals.postgres.sql"),
        QueryId::TopCounterparties => include_str!("../../../sql/queries/top_counterparties.postgres.sql"),
        QueryId::TopWallets => include_str!("../../../sql/queries/top_wallets.postgres.sql"),
        QueryId::WalletActivity => include_str!("../../../sql/queries/wallet_activity.postgres.sql"),
    }
}
