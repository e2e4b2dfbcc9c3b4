-- Transfers that a wallet sent and received, by day (UTC): transactions and internal transfers.
-- States and generations work as described in 20_volume.sql.
CREATE TABLE IF NOT EXISTS {database}.wallet_activity_states{local}{on_cluster}
(
    network         LowCardinality(String),
    wallet          String,
    day             Date,
    generation      UInt64,
    is_repair       SimpleAggregateFunction(max, UInt8),
    last_version    SimpleAggregateFunction(max, UInt64),
    sent            SimpleAggregateFunction(sum, UInt64),
    received        SimpleAggregateFunction(sum, UInt64),
    sent_volume     SimpleAggregateFunction(sum, Decimal(76, 18)),
    received_volume SimpleAggregateFunction(sum, Decimal(76, 18)),
    sent_usd        SimpleAggregateFunction(sum, Decimal(38, 2)),
    received_usd    SimpleAggregateFunction(sum, Decimal(38, 2)),
    sent_priced     SimpleAggregateFunction(sum, UInt64) COMMENT 'sent transactions whose value in USD is known',
    recipients      AggregateFunction(uniq, String),
    senders         AggregateFunction(uniq, String),
    sent_values     AggregateFunction(quantiles(0.5, 0.95), Float64),
    gas_prices      SimpleAggregateFunction(sum, UInt64) COMMENT 'sent transactions whose gas price is known',
    gas_price_sum   SimpleAggregateFunction(sum, UInt128),
    first_seen      SimpleAggregateFunction(min, Nullable(DateTime64(6, 'UTC'))),
    last_seen       SimpleAggregateFunction(max, Nullable(DateTime64(6, 'UTC')))
)
ENGINE = {replicated}AggregatingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (network, wallet, day, generation)
{ttl day}
SETTINGS {settings};

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.wallet_activity_mv{local}{on_cluster}
TO {database}.wallet_activity_states{local}
AS {arriving wallet_activity};

CREATE VIEW IF NOT EXISTS {database}.wallet_activity_current{local}{on_cluster}
AS SELECT network, wallet, day, last_version, sent, received, sent_volume, received_volume, sent_usd, received_usd,
          sent_priced, recipients, senders, sent_values, gas_prices, gas_price_sum, first_seen, last_seen
     FROM {valid wallet_activity};

{distributed wallet_activity_current}

CREATE OR REPLACE VIEW {database}.wallet_activity{on_cluster}
AS SELECT network, wallet, day, sum(states.sent) AS sent_count, sum(states.received) AS received_count,
          sum(states.sent_volume) AS total_sent, sum(states.received_volume) AS total_received,
          sum(states.sent_usd) AS total_sent_usd, sum(states.received_usd) AS total_received_usd,
          uniqMerge(states.recipients) AS unique_recipients, uniqMerge(states.senders) AS unique_senders,
          if(sum(states.gas_prices) = 0, NULL,
             toFloat64(sum(states.gas_price_sum)) / sum(states.gas_prices)) AS avg_gas_price,
          min(states.first_seen) AS first_activity, max(states.last_seen) AS last_activity
     FROM {database}.wallet_activity_current AS states
    GROUP BY network, wallet, day
   HAVING sent_count + received_count > 0
COMMENT 'transactions and internal transfers that a wallet sent and received, by day (UTC)';

-- The wallet behaviour analysis of the specification, over any period:
--     SELECT * FROM wallet_behaviour(since = '2018-01-01', until = '2018-01-31')
CREATE OR REPLACE VIEW {database}.wallet_behaviour{on_cluster}
AS SELECT network, wallet, sum(states.sent) AS tx_count, sum(states.received) AS received_count,
          sum(states.sent_volume) AS total_sent, sum(states.received_volume) AS total_received,
          sum(states.sent_usd) AS total_sent_usd, sum(states.sent_priced) AS priced_count,
          if(tx_count = 0, NULL, toFloat64(total_sent) / tx_count) AS avg_transaction,
          quantilesMerge(0.5, 0.95)(states.sent_values)[1] AS median_transaction,
          quantilesMerge(0.5, 0.95)(states.sent_values)[2] AS p95_transaction,
          uniqMerge(states.recipients) AS unique_recipients, uniqMerge(states.senders) AS unique_senders,
          if(sum(states.gas_prices) = 0, NULL,
             toFloat64(sum(states.gas_price_sum)) / sum(states.gas_prices)) AS avg_gas_price,
          min(states.first_seen) AS first_activity, max(states.last_seen) AS last_activity
     FROM {database}.wallet_activity_current AS states
    WHERE states.day BETWEEN {{since:Date}} AND {{until:Date}}
    GROUP BY network, wallet
   HAVING tx_count + received_count > 0
COMMENT 'activity of wallets between two days, both included';
