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

-- Four ordered index scans per partition, merged,
-- that stop at the limit. A page ends with a whole transaction, because the next one begins at its
-- hash: a transaction with many transfers makes a page longer than the limit.
CREATE FUNCTION wallet_history(
    address   text,
    network   text,
    before    timestamptz DEFAULT NULL,
    "limit"   integer DEFAULT 100,
    before_tx text DEFAULT NULL
) RETURNS TABLE (
    tx_hash text, "timestamp" timestamptz, direction text, counterparty text, value numeric, value_usd numeric,
    gas_used bigint, status text, block_number bigint, kind text, "position" integer
)
    LANGUAGE plpgsql_as_owner STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
SELECT p.tx_hash, p."timestamp", p.direction, p.counterparty, p.value, p.value_usd, p.gas_used, p.status, p.block_number,
       p.kind, p."position"
  FROM (
    SELECT h.*
      FROM (
        (SELECT t.tx_hash, t."timestamp", CASE WHEN t.to_address = t.from_address THEN 'self' ELSE 'out' END AS direction,
                t.to_address AS counterparty, t.value, t.value_usd, t.gas_used, t.status::text, t.block_number,
                'transaction' AS kind, NULL::integer AS "position"
           FROM arx.transactions AS t
          WHERE t.from_address = (SELECT arx.require_address($1, $2))
            AND t.network = (SELECT arx.registered_network($2))
            AND t."timestamp" <= coalesce($3, 'infinity')
            AND (t."timestamp" < coalesce($3, 'infinity') OR t.tx_hash < $5)
          ORDER BY t."timestamp" DESC, t.tx_hash DESC
          LIMIT arx.require_limit($4))
        UNION ALL
        (SELECT t.tx_hash, t."timestamp", 'in', t.from_address, t.value, t.value_usd, t.gas_used, t.status::text,
                t.block_number, 'transaction', NULL
           FROM arx.transactions AS t
          WHERE t.to_address = (SELECT arx.require_address($1, $2))
            AND t.from_address <> (SELECT arx.require_address($1, $2))
            AND t.network = (SELECT arx.registered_network($2))
            AND t."timestamp" <= coalesce($3, 'infinity')
            AND (t."timestamp" < coalesce($3, 'infinity') OR t.tx_hash < $5)
          ORDER BY t."timestamp" DESC, t.tx_hash DESC
          LIMIT arx.require_limit($4))
        UNION ALL
        (SELECT i.tx_hash, i."timestamp", CASE WHEN i.to_address = i.from_address THEN 'self' ELSE 'out' END, i.to_address,
                i.value, i.value_usd, NULL, CASE i.succeeded WHEN true THEN 'confirmed' WHEN false THEN 'failed' ELSE 'unknown' END,
                i.block_number, i.kind, i.position
           FROM arx.internal_transfers AS i
          WHERE i.from_address = (SELECT arx.require_address($1, $2))
            AND i.network = (SELECT arx.registered_network($2))
            AND i."timestamp" <= coalesce($3, 'infinity')
            AND (i."timestamp" < coalesce($3, 'infinity') OR i.tx_hash < $5)
          ORDER BY i."timestamp" DESC, i.tx_hash DESC
          FETCH FIRST arx.require_limit($4) ROWS WITH TIES)
        UNION ALL
        (SELECT i.tx_hash, i."timestamp", 'in', i.from_address, i.value, i.value_usd, NULL,
                CASE i.succeeded WHEN true THEN 'confirmed' WHEN false THEN 'failed' ELSE 'unknown' END,
                i.block_number, i.kind, i.position
           FROM arx.internal_transfers AS i
          WHERE i.to_address = (SELECT arx.require_address($1, $2))
            AND i.from_address IS DISTINCT FROM (SELECT arx.require_address($1, $2))
            AND i.network = (SELECT arx.registered_network($2))
            AND i."timestamp" <= coalesce($3, 'infinity')
            AND (i."timestamp" < coalesce($3, 'infinity') OR i.tx_hash < $5)
          ORDER BY i."timestamp" DESC, i.tx_hash DESC
          FETCH FIRST arx.require_limit($4) ROWS WITH TIES)
      ) AS h
     ORDER BY h."timestamp" DESC, h.tx_hash DESC
     FETCH FIRST arx.require_limit($4) ROWS WITH TIES
  ) AS p
 ORDER BY p."timestamp" DESC, p.tx_hash DESC, p."position" DESC NULLS LAST;
END;
$$;
