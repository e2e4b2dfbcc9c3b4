-- The transactions of PostgreSQL, as events. Read it with FINAL: the row with the highest `version` of a key is the valid one,
-- and it counts only if `is_deleted` is 0. Versions rise with each attempt of the feed, so whatever a broken attempt left
-- behind loses against the next. `to_address` is NULL for a contract creation.
CREATE TABLE IF NOT EXISTS {database}.transaction_events
(
    event_time        DateTime64(6, 'UTC') COMMENT 'time of the block',
    network           LowCardinality(String),
    tx_hash           String,
    block_number      UInt64,
    transaction_index Nullable(UInt32),
    from_address      String,
    to_address        Nullable(String) COMMENT 'NULL for a contract creation',
    value             Decimal(38, 18) COMMENT 'native coins; a failed transaction moved nothing',
    value_usd         Nullable(Decimal(20, 2)),
    gas_used          Nullable(UInt64),
    gas_price         Nullable(UInt64),
    status            LowCardinality(String) COMMENT 'pending, confirmed or failed',
    version           UInt64 COMMENT 'twice the attempt of the feed, plus one unless a tombstone',
    is_deleted        UInt8
)
ENGINE = ReplacingMergeTree(version, is_deleted)
PARTITION BY toYYYYMM(event_time)
ORDER BY (network, from_address, event_time, tx_hash)
COMMENT 'transactions fed from PostgreSQL by arx-sidecar; read with FINAL'
