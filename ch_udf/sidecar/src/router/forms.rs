//! The queries of the catalogue for ClickHouse.

use arx_core::analytics::QueryId;

/// Returns the statement of a query; `None` if ClickHouse does not have what it reads. Its
/// parameters are `network`, `address`, `token`, `from`, `to` (days) and `limit`, by name.
pub(super) fn clickhouse(query: QueryId) -> Option<&'static str> {
    Some(match query {
        QueryId::LargestTransfers => include_str!("../../../../sql/queries/largest_transfers.clickhouse.sql"),
        QueryId::NetworkTotals => include_str!("../../../../sql/queries/network_totals.clickhouse.sql"),
        QueryId::RiskBands => return None,
        QueryId::TokenTotals => include_str!("../../../../sql/queries/token_totals.clickhouse.sql"),
        QueryId::TopCounterparties => include_str!("../../../../sql/queries/top_counterparties.clickhouse.sql"),
        QueryId::TopWallets => include_str!("../../../../sql/queries/top_wallets.clickhouse.sql"),
        QueryId::WalletActivity => include_str!("../../../../sql/queries/wallet_activity.clickhouse.sql"),
    })
}

#[cfg(test)]
mod tests {
    use arx_core::analytics::CATALOGUE;

    use super::*;

    #[test]
    fn clickhouse_has_a_form_wherever_the_catalogue_states_its_exactness() {
        for query in CATALOGUE {
            let form = clickhouse(query.id);
            assert_eq!(form.is_some(), query.warehouse.is_some(), "{}", query.name);
            // The client replaces question marks by bound values.
            assert!(form.is_none_or(|text| !text.contains('?')), "{}", query.name);
        }
    }
}
