-- Transfers by wallet, read from the events: those that it sent by the key of transaction_events,
-- those that it received by the key of received_transactions. A wallet has few transfers a day, so
-- states by wallet and day would be as many as the events, and would cost a first load more than
-- everything else.
CREATE OR REPLACE VIEW {database}.wallet_transfers{on_cluster}
AS SELECT network, from_address AS wallet, ifNull(transaction_events.to_address, '') AS counterparty, event_time,
          true AS is_sender, value, value_usd, gas_price, status
     FROM {database}.transaction_events FINAL
    WHERE from_address != ''
   UNION ALL
   SELECT network, to_address AS wallet, from_address AS counterparty, event_time,
          false AS is_sender, value, value_usd, CAST(NULL, 'Nullable(UInt64)') AS gas_price, status
     FROM {database}.received_transactions FINAL
COMMENT 'transactions and internal transfers, a row for the sender and a row for the receiver';

CREATE OR REPLACE VIEW {database}.wallet_activity{on_cluster}
AS SELECT network, wallet, toDate(event_time) AS day, countIf(is_sender) AS sent_count,
          countIf(NOT is_sender) AS received_count,
          sumIf(toDecimal256(value, 18), is_sender AND status != 'failed') AS total_sent,
          sumIf(toDecimal256(value, 18), NOT is_sender AND status != 'failed') AS total_received,
          sumIf(toDecimal128(assumeNotNull(value_usd), 2), is_sender AND status != 'failed' AND isNotNull(value_usd))
              AS total_sent_usd,
          sumIf(toDecimal128(assumeNotNull(value_usd), 2), NOT is_sender AND status != 'failed' AND isNotNull(value_usd))
              AS total_received_usd,
          uniqExactIf(counterparty, is_sender AND counterparty != '') AS unique_recipients,
          uniqExactIf(counterparty, NOT is_sender AND counterparty != '') AS unique_senders,
          avgOrNullIf(toFloat64(assumeNotNull(gas_price)), is_sender AND isNotNull(gas_price)) AS avg_gas_price,
          min(event_time) AS first_activity, max(event_time) AS last_activity
     FROM {database}.wallet_transfers
    GROUP BY network, wallet, day
COMMENT 'transactions and internal transfers that a wallet sent and received, by day (UTC)';

-- The wallet behaviour analysis of the specification, over any period:
--     SELECT * FROM wallet_behaviour(since = '2018-01-01', until = '2018-01-31')
CREATE OR REPLACE VIEW {database}.wallet_behaviour{on_cluster}
AS SELECT network, wallet, countIf(is_sender) AS tx_count, countIf(NOT is_sender) AS received_count,
          sumIf(toDecimal256(value, 18), is_sender AND status != 'failed') AS total_sent,
          sumIf(toDecimal256(value, 18), NOT is_sender AND status != 'failed') AS total_received,
          sumIf(toDecimal128(assumeNotNull(value_usd), 2), is_sender AND status != 'failed' AND isNotNull(value_usd))
              AS total_sent_usd,
          countIf(is_sender AND isNotNull(value_usd)) AS priced_count,
          if(tx_count = 0, NULL, toFloat64(total_sent) / tx_count) AS avg_transaction,
          quantilesIf(0.5, 0.95)(toFloat64(value), is_sender AND status != 'failed')[1] AS median_transaction,
          quantilesIf(0.5, 0.95)(toFloat64(value), is_sender AND status != 'failed')[2] AS p95_transaction,
          uniqExactIf(counterparty, is_sender AND counterparty != '') AS unique_recipients,
          uniqExactIf(counterparty, NOT is_sender AND counterparty != '') AS unique_senders,
          avgOrNullIf(toFloat64(assumeNotNull(gas_price)), is_sender AND isNotNull(gas_price)) AS avg_gas_price,
          min(event_time) AS first_activity, max(event_time) AS last_activity
     FROM {database}.wallet_transfers
    WHERE toDate(event_time) BETWEEN {{since:Date}} AND {{until:Date}}
    GROUP BY network, wallet
COMMENT 'activity of wallets between two days, both included';
