-- Transfers between pairs of wallets, by day (UTC), read from the events by their key.
CREATE OR REPLACE VIEW {database}.wallet_edges{on_cluster}
AS SELECT network, from_address, assumeNotNull(transaction_events.to_address) AS to_address, toDate(event_time) AS day,
          count() AS edge_weight,
          sumIf(toDecimal256(value, 18), status != 'failed') AS total_value,
          sumIf(toDecimal128(assumeNotNull(value_usd), 2), status != 'failed' AND isNotNull(value_usd))
              AS total_value_usd,
          toFloat64(total_value) / edge_weight AS avg_value,
          min(event_time) AS first_interaction, max(event_time) AS last_interaction
     FROM {database}.transaction_events FINAL
    WHERE isNotNull(transaction_events.to_address) AND from_address != ''
    GROUP BY network, from_address, to_address, day
COMMENT 'transfers between pairs of wallets, by day (UTC)';
