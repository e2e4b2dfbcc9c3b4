-- Wallets, statistics and behaviour: derived from transactions, with analytics of users.

-- Partitioned by network. create_hash_partitions() partitions a network further, by hash of the
-- address.
CREATE TABLE arx.wallet_profiles (
    wallet_address    text NOT NULL CHECK (wallet_address <> ''),
    network_type      text NOT NULL,
    first_seen        timestamptz,
    last_activity     timestamptz,
    transaction_count bigint NOT NULL DEFAULT 0 CHECK (transaction_count >= 0),
    total_volume      numeric NOT NULL DEFAULT 0 CHECK (total_volume >= 0),
    total_volume_usd  numeric(20,2) NOT NULL DEFAULT 0 CHECK (total_volume_usd >= 0),
    -- Points of a scorecard have one decimal.
    risk_score        numeric(4,1) NOT NULL DEFAULT 50 CHECK (risk_score BETWEEN 0 AND 100),
    risk_state        text NOT NULL DEFAULT 'unknown'
        CHECK (risk_state IN ('scored', 'unknown', 'labelled', 'partial', 'overridden')),
    analytics_profile jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(analytics_profile) = 'object'),
    version           bigint NOT NULL DEFAULT 1,
    updated_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (wallet_address, network_type)
) PARTITION BY LIST (network_type);
COMMENT ON TABLE arx.wallet_profiles IS
    'wallets, one row each: activity, volume, risk, and the analytics of users and ClickHouse';
GRANT SELECT ON TABLE arx.wallet_profiles TO arx_reader;
GRANT INSERT, UPDATE, DELETE ON TABLE arx.wallet_profiles TO arx_operator;

CREATE TABLE arx.wallet_profiles_default PARTITION OF arx.wallet_profiles DEFAULT;
CREATE INDEX idx_wallet_analytics_gin ON arx.wallet_profiles USING gin (analytics_profile jsonb_path_ops);
CREATE INDEX idx_active_wallets ON arx.wallet_profiles (last_activity DESC NULLS LAST);
CREATE INDEX idx_wallet_risk ON arx.wallet_profiles (network_type, risk_score DESC);

-- A cache follows the rows: see sql/postgres/64_profile_changes.sql.
CREATE TRIGGER arx_follow_insert AFTER INSERT ON arx.wallet_profiles
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION arx.log_profile_changes();
ALTER TABLE arx.wallet_profiles ENABLE ALWAYS TRIGGER arx_follow_insert;
CREATE TRIGGER arx_follow_update AFTER UPDATE ON arx.wallet_profiles
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION arx.log_profile_changes();
ALTER TABLE arx.wallet_profiles ENABLE ALWAYS TRIGGER arx_follow_update;
CREATE TRIGGER arx_follow_move AFTER UPDATE ON arx.wallet_profiles FOR EACH ROW
    WHEN (OLD.wallet_address IS DISTINCT FROM NEW.wallet_address OR OLD.network_type IS DISTINCT FROM NEW.network_type)
    EXECUTE FUNCTION arx.log_profile_changes();
ALTER TABLE arx.wallet_profiles ENABLE ALWAYS TRIGGER arx_follow_move;
CREATE TRIGGER arx_follow_delete AFTER DELETE ON arx.wallet_profiles
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION arx.log_profile_changes();
ALTER TABLE arx.wallet_profiles ENABLE ALWAYS TRIGGER arx_follow_delete;
CREATE TRIGGER arx_follow_truncate AFTER TRUNCATE ON arx.wallet_profiles
    FOR EACH STATEMENT EXECUTE FUNCTION arx.log_profile_changes();
ALTER TABLE arx.wallet_profiles ENABLE ALWAYS TRIGGER arx_follow_truncate;

-- Rank and percentile by volume within the network, and the change of volume from the seven days
-- before the last seven.
CREATE VIEW arx.wallet_rankings WITH (security_invoker) AS
WITH recent AS (
    SELECT w.network, w.address,
           sum(w.value) FILTER (WHERE w."timestamp" >= now() - interval '7 days') AS volume,
           sum(w.value) FILTER (WHERE w."timestamp" < now() - interval '7 days') AS previous_volume
      FROM (SELECT t.network, t.from_address AS address, t."timestamp", t.value
              FROM arx.transactions AS t
             WHERE t."timestamp" >= now() - interval '14 days' AND t."timestamp" <= now() AND t.status <> 'failed'
            UNION ALL
            SELECT t.network, t.to_address, t."timestamp", t.value
              FROM arx.transactions AS t
             WHERE t."timestamp" >= now() - interval '14 days' AND t."timestamp" <= now() AND t.status <> 'failed'
               AND t.to_address <> t.from_address
            UNION ALL
            SELECT i.network, i.from_address, i."timestamp", i.value
              FROM arx.internal_transfers AS i
             WHERE i."timestamp" >= now() - interval '14 days' AND i."timestamp" <= now()
               AND i.succeeded IS NOT FALSE AND i.from_address IS NOT NULL
            UNION ALL
            SELECT i.network, i.to_address, i."timestamp", i.value
              FROM arx.internal_transfers AS i
             WHERE i."timestamp" >= now() - interval '14 days' AND i."timestamp" <= now()
               AND i.succeeded IS NOT FALSE AND i.to_address IS NOT NULL
               AND i.to_address IS DISTINCT FROM i.from_address) AS w
     GROUP BY w.network, w.address
)
SELECT p.wallet_address, p.network_type, p.transaction_count, p.total_volume, p.total_volume_usd,
       rank() OVER by_volume AS volume_rank,
       round((1 - percent_rank() OVER by_volume)::numeric, 6) AS volume_percentile,
       coalesce(r.volume, 0) AS volume_7d,
       coalesce(r.previous_volume, 0) AS previous_volume_7d,
       round((coalesce(r.volume, 0) - r.previous_volume) / nullif(r.previous_volume, 0) * 100, 2) AS volume_change_pct
  FROM arx.wallet_profiles AS p
  LEFT JOIN recent AS r ON r.network = p.network_type AND r.address = p.wallet_address
WINDOW by_volume AS (PARTITION BY p.network_type ORDER BY p.total_volume_usd DESC, p.total_volume DESC);
COMMENT ON VIEW arx.wallet_rankings IS
    'wallets ranked by volume within their network, with the change from the previous seven days (NULL without volume)';
GRANT SELECT ON TABLE arx.wallet_rankings TO arx_reader;

CREATE TABLE arx.daily_transaction_stats (
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
COMMENT ON TABLE arx.daily_transaction_stats IS 'transactions by day (UTC) and network; failed transactions add no volume';
GRANT SELECT ON TABLE arx.daily_transaction_stats TO arx_reader;
GRANT INSERT, UPDATE, DELETE ON TABLE arx.daily_transaction_stats TO arx_operator;

CREATE TABLE arx.hourly_transaction_stats (
    network      text NOT NULL,
    hour         timestamptz NOT NULL,
    tx_count     bigint NOT NULL,
    failed_count bigint NOT NULL,
    volume       numeric NOT NULL,
    -- NULL: no transfer of the hour has a price.
    volume_usd   numeric,
    PRIMARY KEY (network, hour)
);
COMMENT ON TABLE arx.hourly_transaction_stats IS
    'transactions by hour (UTC) and network, with their internal transfers, for network_time_series(); failed ones add no volume';
GRANT SELECT ON TABLE arx.hourly_transaction_stats TO arx_reader;
GRANT INSERT, UPDATE, DELETE ON TABLE arx.hourly_transaction_stats TO arx_operator;

-- Computed by ClickHouse, written back by the sidecar.
CREATE TABLE arx.hourly_volume (
    network           text NOT NULL,
    hour              timestamptz NOT NULL CHECK (hour = date_trunc('hour', hour, 'UTC')),
    transaction_count bigint NOT NULL,
    total_volume      numeric NOT NULL,
    unique_senders    bigint NOT NULL,
    unique_receivers  bigint NOT NULL,
    refreshed_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (network, hour)
);
COMMENT ON TABLE arx.hourly_volume IS
    'transactions by hour (UTC) and network, computed by ClickHouse; failed transactions add no volume';
GRANT SELECT ON TABLE arx.hourly_volume TO arx_reader;
GRANT INSERT, UPDATE, DELETE ON TABLE arx.hourly_volume TO arx_operator;

-- Computed by ClickHouse, written back by the sidecar. In columns of its own and not in
-- analytics_profile, because almost every value is unique: its GIN index would take most of the
-- time of a write-back, and no one looks values up by it.
CREATE TABLE arx.wallet_behaviour (
    wallet_address    text NOT NULL,
    network_type      text NOT NULL,
    class             text NOT NULL CHECK (class IN ('whale', 'trader', 'distributor', 'regular')),
    period_days       integer,
    period_until      date NOT NULL,
    period_sent       bigint NOT NULL,
    period_volume     numeric NOT NULL,
    period_recipients bigint NOT NULL,
    sent_count        bigint NOT NULL,
    received_count    bigint NOT NULL,
    total_sent        numeric NOT NULL,
    total_received    numeric NOT NULL,
    recipients        bigint NOT NULL,
    senders           bigint NOT NULL,
    first_activity    timestamptz NOT NULL,
    last_activity     timestamptz NOT NULL,
    refreshed_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (wallet_address, network_type)
);
COMMENT ON TABLE arx.wallet_behaviour IS
    'class of each wallet by what it sent in a period, and its activity of all time; computed by ClickHouse';
COMMENT ON COLUMN arx.wallet_behaviour.class IS 'whale, trader, distributor or regular, by behaviour_thresholds';
COMMENT ON COLUMN arx.wallet_behaviour.period_days IS 'length of the period that decides the class; NULL: all time';
COMMENT ON COLUMN arx.wallet_behaviour.period_volume IS 'native coins sent in the period; failed transactions move none';
COMMENT ON COLUMN arx.wallet_behaviour.recipients IS 'distinct wallets that it sent to, exact';
GRANT SELECT ON TABLE arx.wallet_behaviour TO arx_reader;
GRANT INSERT, UPDATE, DELETE ON TABLE arx.wallet_behaviour TO arx_operator;

-- A cache follows the rows: see sql/postgres/64_profile_changes.sql.
CREATE TRIGGER arx_follow_insert AFTER INSERT ON arx.wallet_behaviour
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION arx.log_profile_changes();
ALTER TABLE arx.wallet_behaviour ENABLE ALWAYS TRIGGER arx_follow_insert;
CREATE TRIGGER arx_follow_update AFTER UPDATE ON arx.wallet_behaviour
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION arx.log_profile_changes();
ALTER TABLE arx.wallet_behaviour ENABLE ALWAYS TRIGGER arx_follow_update;
CREATE TRIGGER arx_follow_move AFTER UPDATE ON arx.wallet_behaviour FOR EACH ROW
    WHEN (OLD.wallet_address IS DISTINCT FROM NEW.wallet_address OR OLD.network_type IS DISTINCT FROM NEW.network_type)
    EXECUTE FUNCTION arx.log_profile_changes();
ALTER TABLE arx.wallet_behaviour ENABLE ALWAYS TRIGGER arx_follow_move;
CREATE TRIGGER arx_follow_delete AFTER DELETE ON arx.wallet_behaviour
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION arx.log_profile_changes();
ALTER TABLE arx.wallet_behaviour ENABLE ALWAYS TRIGGER arx_follow_delete;
CREATE TRIGGER arx_follow_truncate AFTER TRUNCATE ON arx.wallet_behaviour
    FOR EACH STATEMENT EXECUTE FUNCTION arx.log_profile_changes();
ALTER TABLE arx.wallet_behaviour ENABLE ALWAYS TRIGGER arx_follow_truncate;

-- A wallet belongs to a class above these numbers. The network '*' stands for all networks without
-- a row. A user's row takes precedence over the one that ARX ships.
CREATE TABLE arx.behaviour_thresholds (
    network                text NOT NULL DEFAULT '*' CHECK (network <> ''),
    builtin                boolean NOT NULL DEFAULT false,
    -- Days counted, up to the latest day of the network; NULL: all.
    period_days            integer DEFAULT 30 CHECK (period_days > 0),
    whale_mean_coins       bigint NOT NULL DEFAULT 10000 CHECK (whale_mean_coins >= 0),
    whale_mean_usd         bigint NOT NULL DEFAULT 1000000 CHECK (whale_mean_usd >= 0),
    trader_transactions    bigint NOT NULL DEFAULT 100 CHECK (trader_transactions >= 0),
    trader_mean_gas_price  double precision NOT NULL DEFAULT 50e9
        CHECK (trader_mean_gas_price >= 0 AND trader_mean_gas_price < 'Infinity'),
    distributor_recipients bigint NOT NULL DEFAULT 50 CHECK (distributor_recipients >= 0),
    PRIMARY KEY (network, builtin)
);
COMMENT ON TABLE arx.behaviour_thresholds IS 'thresholds above which a wallet is a whale, a trader or a distributor';
INSERT INTO arx.behaviour_thresholds (builtin) VALUES (true);
GRANT SELECT ON TABLE arx.behaviour_thresholds TO arx_reader;
GRANT INSERT, UPDATE, DELETE ON TABLE arx.behaviour_thresholds TO arx_operator;
