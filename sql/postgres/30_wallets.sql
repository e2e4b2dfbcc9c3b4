-- Wallets: history.

CREATE FUNCTION require_limit("limit" integer) RETURNS integer
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
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
    gas_used bigint, status text, block_number bigint
)
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
SELECT h.tx_hash, h."timestamp", h.direction, h.counterparty, h.value, h.value_usd, h.gas_used, h.status, h.block_number
  FROM (
    (SELECT t.tx_hash, t."timestamp", CASE WHEN t.to_address = t.from_address THEN 'self' ELSE 'out' END AS direction,
            t.to_address AS counterparty, t.value, t.value_usd, t.gas_used, t.status::text, t.block_number
       FROM arx.transactions AS t
      WHERE t.from_address = arx.require_address($1, $2)
        AND t.network = (SELECT arx.registered_network($2))
        AND t."timestamp" <= coalesce($3, 'infinity')
        AND (t."timestamp" < coalesce($3, 'infinity') OR t.tx_hash < $5)
      ORDER BY t."timestamp" DESC, t.tx_hash DESC
      LIMIT arx.require_limit($4))
    UNION ALL
    (SELECT t.tx_hash, t."timestamp", 'in', t.from_address, t.value, t.value_usd, t.gas_used, t.status::text,
            t.block_number
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
