-- The transactions of PostgreSQL and their internal transfers, as events, one row each. `leg` is 0
-- for the value of a transaction itself, and one more than its position for an internal transfer:
-- count transactions by `leg = 0`, and sum up values over all rows. Read them with FINAL: the row
-- with the highest `version` of a key is the valid one, and it counts only if `is_deleted` is 0.
-- Versions rise with each attempt of the feed, so the rows of the next attempt replace those of an
-- interrupted one.
-- `counted` names the step that adds a row to the aggregates: the materialized views as it arrives
-- (a new transaction), a repair of the buckets it touches (a changed, deleted or repeated one), no
-- step (it changes no aggregate), or a rebuild of everything derived (a first load).
CREATE TABLE IF NOT EXISTS {database}.transaction_events{local}{on_cluster}
(
    event_time        DateTime64(6, 'UTC') COMMENT 'time of the block',
    network           LowCardinality(String),
    tx_hash           String,
    leg               UInt32 COMMENT '0 for the transaction itself, position + 1 for an internal transfer',
    kind              LowCardinality(String) DEFAULT 'transaction' COMMENT 'transaction, or kind of the internal transfer',
    is_ordered        Bool DEFAULT true COMMENT 'the position of an internal transfer is its order',
    block_number      UInt64,
    transaction_index Nullable(UInt32),
    from_address      String COMMENT 'empty for a reward',
    to_address        Nullable(String) COMMENT 'NULL for a contract creation or a burn',
    value             Decimal(38, 18) COMMENT 'native coins; a failed transfer moves none',
    value_usd         Nullable(Decimal(20, 2)),
    gas_used          Nullable(UInt64),
    gas_price         Nullable(UInt64),
    status            LowCardinality(String) COMMENT 'pending, confirmed, failed or unknown',
    metadata          JSON(max_dynamic_paths = 64)
        COMMENT 'metadata that is not an object is stored under the key "value"',
    token_transfers   Nested(
        log_index UInt32,
        token     String,
        from      String,
        to        String,
        amount    UInt256,
        value_usd Nullable(Decimal(20, 2))
    ) COMMENT 'amounts in raw units of the token',
    version           UInt64 COMMENT 'twice the attempt of the feed, plus one unless a tombstone',
    is_deleted        UInt8,
    counted           Enum8('view' = 0, 'repair' = 1, 'already' = 2, 'rebuild' = 3)
        COMMENT 'step that adds the row to the aggregates',
    generation        UInt64 COMMENT 'last repair of the aggregates before this row arrived',
    fed_at            DateTime('UTC') DEFAULT now() COMMENT 'time at which the row arrived',
    INDEX by_version version TYPE minmax GRANULARITY 1,
    INDEX by_hash tx_hash TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = {replicated}ReplacingMergeTree(version, is_deleted)
PARTITION BY toYYYYMM(event_time)
ORDER BY (network, from_address, event_time, tx_hash, leg)
{ttl event_time fed_at}
SETTINGS {settings}
COMMENT 'transactions from PostgreSQL, written by arx-sidecar; read with FINAL';

-- The same transactions ordered by receiver, to read those of one receiver without a full scan.
CREATE TABLE IF NOT EXISTS {database}.received_transactions{local}{on_cluster}
(
    network      LowCardinality(String),
    to_address   String,
    event_time   DateTime64(6, 'UTC'),
    tx_hash      String,
    leg          UInt32,
    from_address String,
    value        Decimal(38, 18),
    value_usd    Nullable(Decimal(20, 2)),
    status       LowCardinality(String),
    version      UInt64,
    is_deleted   UInt8,
    counted      Enum8('view' = 0, 'repair' = 1, 'already' = 2, 'rebuild' = 3),
    fed_at       DateTime('UTC'),
    INDEX by_version version TYPE minmax GRANULARITY 1
)
ENGINE = {replicated}ReplacingMergeTree(version, is_deleted)
PARTITION BY toYYYYMM(event_time)
ORDER BY (network, to_address, event_time, tx_hash, leg)
{ttl event_time fed_at}
SETTINGS {settings}
COMMENT 'transaction_events by receiver; read with FINAL';

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.received_transactions_mv{local}{on_cluster}
TO {database}.received_transactions{local}
AS SELECT network, assumeNotNull(to_address) AS to_address, event_time, tx_hash, leg, from_address, value, value_usd, status,
          version, is_deleted, counted, fed_at
     FROM {database}.transaction_events{local}
    WHERE isNotNull(transaction_events{local}.to_address) AND counted != 'rebuild';
