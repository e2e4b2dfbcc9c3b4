-- Transfers between pairs of wallets, by day (UTC). States and generations work as described in
-- 20_volume.sql.
CREATE TABLE IF NOT EXISTS {database}.wallet_edges_states{local}{on_cluster}
(
    network      LowCardinality(String),
    from_address String,
    to_address   String,
    day          Date,
    generation   UInt64,
    is_repair    SimpleAggregateFunction(max, UInt8),
    last_version SimpleAggregateFunction(max, UInt64),
    transfers    SimpleAggregateFunction(sum, UInt64),
    volume       SimpleAggregateFunction(sum, Decimal(76, 18)),
    volume_usd   SimpleAggregateFunction(sum, Decimal(38, 2)),
    first_seen   SimpleAggregateFunction(min, Nullable(DateTime64(6, 'UTC'))),
    last_seen    SimpleAggregateFunction(max, Nullable(DateTime64(6, 'UTC')))
)
ENGINE = {replicated}AggregatingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (network, from_address, to_address, day, generation)
{ttl day}
SETTINGS {settings};

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.wallet_edges_mv{local}{on_cluster}
TO {database}.wallet_edges_states{local}
AS {arriving wallet_edges};

CREATE VIEW IF NOT EXISTS {database}.wallet_edges_current{local}{on_cluster}
AS SELECT network, from_address, to_address, day, last_version, transfers, volume, volume_usd, first_seen, last_seen
     FROM {valid wallet_edges};

{distributed wallet_edges_current}

CREATE OR REPLACE VIEW {database}.wallet_edges{on_cluster}
AS SELECT network, from_address, to_address, day, sum(states.transfers) AS edge_weight,
          sum(states.volume) AS total_value,
          sum(states.volume_usd) AS total_value_usd, toFloat64(total_value) / edge_weight AS avg_value,
          min(states.first_seen) AS first_interaction, max(states.last_seen) AS last_interaction
     FROM {database}.wallet_edges_current AS states
    GROUP BY network, from_address, to_address, day
   HAVING edge_weight > 0
COMMENT 'transfers between pairs of wallets, by day (UTC)';
