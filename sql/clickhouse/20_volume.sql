-- Volume of a network by {bucket} (UTC), made once by hour and once by day. States are added by the view as transactions arrive; a bucket that a change touched is computed
-- anew from the events, under a higher generation that then hides the lower ones (see aggregate_generations).
CREATE TABLE IF NOT EXISTS {database}.{aggregate}_states{local}{on_cluster}
(
    network          LowCardinality(String),
    {bucket}             {bucket_type},
    generation       UInt64 COMMENT 'repair before which, or by which, these states were made',
    is_repair        SimpleAggregateFunction(max, UInt8) COMMENT 'hides lower generations of the bucket',
    last_version     SimpleAggregateFunction(max, UInt64) COMMENT 'highest version of an event in here',
    transactions     SimpleAggregateFunction(sum, UInt64),
    volume           SimpleAggregateFunction(sum, Decimal(76, 18)),
    volume_usd       SimpleAggregateFunction(sum, Decimal(38, 2)),
    senders          AggregateFunction(uniq, String),
    receivers        AggregateFunction(uniq, String),
    values           AggregateFunction(quantiles(0.5, 0.95), Float64),
    gas_prices       SimpleAggregateFunction(sum, UInt64) COMMENT 'transactions whose gas price is known',
    gas_price_sum    SimpleAggregateFunction(sum, UInt128),
    gas_price_min    SimpleAggregateFunction(min, Nullable(UInt64)),
    gas_price_max    SimpleAggregateFunction(max, Nullable(UInt64))
)
ENGINE = {replicated}AggregatingMergeTree
PARTITION BY toYear({bucket})
ORDER BY (network, {bucket}, generation)
{ttl {bucket}}
SETTINGS {settings};

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.{aggregate}_mv{local}{on_cluster}
TO {database}.{aggregate}_states{local}
AS {arriving {aggregate}};

CREATE VIEW IF NOT EXISTS {database}.{aggregate}_current{local}{on_cluster}
AS SELECT network, {bucket}, last_version, transactions, volume, volume_usd, senders, receivers, values, gas_prices, gas_price_sum,
          gas_price_min, gas_price_max
     FROM {valid {aggregate}};

{distributed {aggregate}_current}

CREATE OR REPLACE VIEW {database}.{aggregate}{on_cluster}
AS SELECT network, {bucket}, sum(states.transactions) AS transaction_count, sum(states.volume) AS total_volume,
          sum(states.volume_usd) AS total_volume_usd, uniqMerge(states.senders) AS unique_senders,
          uniqMerge(states.receivers) AS unique_receivers, quantilesMerge(0.5, 0.95)(states.values)[1] AS median_value,
          quantilesMerge(0.5, 0.95)(states.values)[2] AS p95_value,
          if(sum(states.gas_prices) = 0, NULL, toFloat64(sum(states.gas_price_sum)) / sum(states.gas_prices)) AS avg_gas_price,
          min(states.gas_price_min) AS min_gas_price, max(states.gas_price_max) AS max_gas_price
     FROM {database}.{aggregate}_current AS states
    GROUP BY network, {bucket}
   HAVING transaction_count > 0
COMMENT 'Volume of a network by {bucket} (UTC); counts and sums are exact, distinct counts approximate beyond some 65,000';
