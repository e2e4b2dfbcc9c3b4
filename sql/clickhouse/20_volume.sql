-- Volume of a network by hour and by day (UTC); this template is used once for each. The view adds
-- states as transactions arrive. A bucket that a change touched is computed again from the events,
-- under a higher generation that hides the lower ones (see aggregate_generations).
CREATE TABLE IF NOT EXISTS {database}.{aggregate}_states{local}{on_cluster}
(
    network          LowCardinality(String),
    {bucket}             {bucket_type},
    generation       UInt64 COMMENT 'last repair before these states were written, or the repair that wrote them',
    is_repair        SimpleAggregateFunction(max, UInt8) COMMENT 'hides lower generations of the bucket',
    last_version     SimpleAggregateFunction(max, UInt64) COMMENT 'highest version of an event in this state',
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

CREATE OR REPLACE VIEW {database}.{aggregate}_current{local}{on_cluster}
AS SELECT network, {bucket}, last_version, transactions, volume, volume_usd, senders, receivers, values, gas_prices,
          gas_price_sum, gas_price_min, gas_price_max
     FROM {valid {aggregate}};

{distributed {aggregate}_current}

-- Merged states. The feed settles the buckets that a pass touched before it confirms the pass, so a
-- query over a year reads numbers instead of merging states of distinct counts and quantiles.
CREATE TABLE IF NOT EXISTS {database}.{aggregate}_settled{local}{on_cluster}
(
    network          LowCardinality(String),
    {bucket}             {bucket_type},
    version          UInt64 COMMENT 'version of the pass that settled the bucket',
    transactions     UInt64,
    volume           Decimal(76, 18),
    volume_usd       Decimal(38, 2),
    senders          UInt64,
    receivers        UInt64,
    median_value     Float64,
    p95_value        Float64,
    gas_prices       UInt64,
    gas_price_sum    UInt128,
    gas_price_min    Nullable(UInt64),
    gas_price_max    Nullable(UInt64)
)
ENGINE = {replicated}ReplacingMergeTree(version)
PARTITION BY toYear({bucket})
ORDER BY (network, {bucket})
{ttl {bucket}}
SETTINGS {settings}
COMMENT 'volume of a network by {bucket}, as of the last pass; read with FINAL';

{distributed {aggregate}_settled}

CREATE OR REPLACE VIEW {database}.{aggregate}{on_cluster}
AS SELECT network, {bucket}, transactions AS transaction_count, volume AS total_volume, volume_usd AS total_volume_usd,
          senders AS unique_senders, receivers AS unique_receivers, median_value, p95_value,
          if(gas_prices = 0, NULL, toFloat64(gas_price_sum) / gas_prices) AS avg_gas_price,
          gas_price_min AS min_gas_price, gas_price_max AS max_gas_price
     FROM {database}.{aggregate}_settled FINAL
    WHERE transactions > 0 OR volume > 0
COMMENT 'volume of a network by {bucket} (UTC); counts and sums are exact, distinct counts approximate above 65,000';
