-- Wallets: profiles, history and rankings.

-- Partitioned by network. create_hash_partitions() partitions a network further, by hash of the
-- address.
CREATE TABLE wallet_profiles (
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
COMMENT ON TABLE wallet_profiles IS
    'wallets, one row each: activity, volume, risk, and the analytics of users and ClickHouse';
CREATE TABLE wallet_profiles_default PARTITION OF wallet_profiles DEFAULT;

CREATE INDEX idx_wallet_analytics_gin ON wallet_profiles USING gin (analytics_profile jsonb_path_ops);
CREATE INDEX idx_active_wallets ON wallet_profiles (last_activity DESC NULLS LAST);
CREATE INDEX idx_wallet_risk ON wallet_profiles (network_type, risk_score DESC);

CREATE FUNCTION require_limit("limit" integer) RETURNS integer
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    AS $$
BEGIN
    IF require_limit."limit" IS NULL OR require_limit."limit" NOT BETWEEN 1 AND 1000000 THEN
        RAISE EXCEPTION 'limit must be between 1 and 1000000, not %', coalesce(require_limit."limit"::text, 'null')
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN require_limit."limit";
END;
$$;

-- A single SELECT, so that the planner inlines it: two ordered index scans per partition, merged,
-- that stop at the limit.
CREATE FUNCTION wallet_history(
    address   text,
    network   text,
    before    timestamptz DEFAULT NULL,
    "limit"   integer DEFAULT 100,
    before_tx text DEFAULT NULL
) RETURNS TABLE (
    tx_hash text, "timestamp" timestamptz, direction text, counterparty text, value numeric, value_usd numeric,
    gas_used bigint, status tx_status_enum, block_number bigint
)
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
SELECT h.tx_hash, h."timestamp", h.direction, h.counterparty, h.value, h.value_usd, h.gas_used, h.status, h.block_number
  FROM (
    (SELECT t.tx_hash, t."timestamp", CASE WHEN t.to_address = t.from_address THEN 'self' ELSE 'out' END AS direction,
            t.to_address AS counterparty, t.value, t.value_usd, t.gas_used, t.status, t.block_number
       FROM arx.transactions AS t
      WHERE t.from_address = arx.require_address($1, $2)
        AND t.network = (SELECT arx.registered_network($2))
        AND t."timestamp" <= coalesce($3, 'infinity')
        AND (t."timestamp" < coalesce($3, 'infinity') OR t.tx_hash < $5)
      ORDER BY t."timestamp" DESC, t.tx_hash DESC
      LIMIT arx.require_limit($4))
    UNION ALL
    (SELECT t.tx_hash, t."timestamp", 'in', t.from_address, t.value, t.value_usd, t.gas_used, t.status, t.block_number
       FROM arx.transactions AS t
      WHERE t.to_address = arx.require_address($1, $2)
        AND t.from_address <> arx.require_address($1, $2)
        AND t.network = (SELECT arx.registered_network($2))
        AND t."timestamp" <= coalesce($3, 'infinity')
        AND (t."timestamp" < coalesce($3, 'infinity') OR t.tx_hash < $5)
      ORDER BY t."timestamp" DESC, t.tx_hash DESC
      LIMIT arx.require_limit($4))
  ) AS h
 ORDER BY h."timestamp" DESC, h.tx_hash DESC
 LIMIT arx.require_limit($4)
$$;

-- Rank and percentile by volume within the network, and the change of volume from the seven days
-- before the last seven.
CREATE VIEW wallet_rankings AS
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
               AND t.to_address <> t.from_address) AS w
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
COMMENT ON VIEW wallet_rankings IS
    'wallets ranked by volume within their network, with the change from the previous seven days (NULL without volume)';
