-- Statistics of transactions by day and hour.

CREATE TABLE daily_transaction_stats (
    date             date NOT NULL,
    network          text NOT NULL,
    tx_count         bigint NOT NULL,
    volume           numeric NOT NULL,
    avg_gas          numeric,
    min_gas          bigint,
    max_gas          bigint,
    unique_senders   bigint NOT NULL,
    unique_receivers bigint NOT NULL,
    source           text NOT NULL DEFAULT 'postgresql' CHECK (source IN ('postgresql', 'clickhouse')),
    refreshed_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (date, network)
);
COMMENT ON TABLE daily_transaction_stats IS 'transactions by day (UTC) and network; failed transactions add no volume';

-- Computed by ClickHouse, written back by the sidecar.
CREATE TABLE hourly_volume (
    network           text NOT NULL,
    hour              timestamptz NOT NULL CHECK (hour = date_trunc('hour', hour, 'UTC')),
    transaction_count bigint NOT NULL,
    total_volume      numeric NOT NULL,
    unique_senders    bigint NOT NULL,
    unique_receivers  bigint NOT NULL,
    refreshed_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (network, hour)
);
COMMENT ON TABLE hourly_volume IS
    'transactions by hour (UTC) and network, computed by ClickHouse; failed transactions add no volume';
