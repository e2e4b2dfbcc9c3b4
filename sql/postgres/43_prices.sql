-- Values in USD, and kinds of tokens.
--
-- The price of a row is the last one at or before its time, if that is not older than
-- arx.max_price_age; otherwise the value is NULL and the row is counted. Products are exact and
-- rounded to cents once. A wrapped coin has the price of the coin.

-- The position up to which apply_asset_prices() has read the rows of a network. `basis` is a digest
-- of the prices, tokens and settings that it used: with another one it reads all rows again.
CREATE TABLE price_positions (
    network           text PRIMARY KEY,
    position          pg_snapshot NOT NULL,
    epoch             bigint NOT NULL,
    system_identifier bigint NOT NULL,
    basis             text NOT NULL
);
COMMENT ON TABLE price_positions IS 'rows that apply_asset_prices() has read, by network';

CREATE FUNCTION max_price_age() RETURNS interval
    LANGUAGE plpgsql_as_owner STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    -- In seconds, so that a day has 24 hours in every time zone.
    RETURN make_interval(secs => extract(epoch FROM current_setting('arx.max_price_age')::interval)::double precision);
END;
$$;

CREATE FUNCTION price_basis(network text) RETURNS text
    LANGUAGE plpgsql_as_owner STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    RETURN (
        SELECT md5(concat_ws(E'\n', n.native_asset, arx.max_price_age(),
                             (SELECT string_agg(concat_ws('|', k.token_address, k.symbol, k.decimals, k.kind, k.wraps), E'\n'
                                                ORDER BY k.token_address)
                                FROM arx.tokens AS k WHERE k.network = n.network),
                             (SELECT md5(string_agg(concat_ws('|', p.asset, extract(epoch FROM p.priced_at), p.price_usd), E'\n'
                                                    ORDER BY p.asset, p.priced_at))
                                FROM arx.asset_prices AS p)))
          FROM arx.networks AS n WHERE n.network = price_basis.network);
END;
$$;

-- Why an asset has no value at some or all times. `token` is NULL for the coin.
CREATE FUNCTION price_gap(network text, token text DEFAULT NULL) RETURNS text
    LANGUAGE plpgsql_as_owner STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    coin   text := (SELECT n.native_asset FROM arx.networks AS n WHERE n.network = price_gap.network);
    stated record;
    name   text;
BEGIN
    name := coin;
    IF token IS NOT NULL THEN
        SELECT k.kind, k.symbol, k.decimals, k.wraps INTO stated
          FROM arx.tokens AS k WHERE k.network = price_gap.network AND k.token_address = token;
        IF NOT FOUND THEN
            RETURN 'not in arx.tokens';
        ELSIF stated.kind <> 'fungible' THEN
            RETURN 'an NFT has no price';
        ELSIF stated.decimals IS NULL THEN
            RETURN 'decimals not stated';
        END IF;
        name := CASE WHEN stated.wraps = 'native' THEN coin ELSE stated.symbol END;
    END IF;
    IF name IS NULL THEN
        RETURN 'symbol not stated';
    ELSIF NOT EXISTS (SELECT FROM arx.asset_prices AS p WHERE p.asset = name) THEN
        RETURN format('no price of "%s"', name);
    END IF;
    RETURN format('no price of "%s" in the %s before', name, arx.max_price_age());
END;
$$;

-- Reads the rows that have become visible since the last call, and all rows if prices, tokens or
-- settings have changed. Rows with a value keep it, unless `overwrite` is set: then all rows get
-- the value that prices give now, NULL without one. The value of an NFT is always NULL.
CREATE FUNCTION apply_asset_prices(network text, overwrite boolean DEFAULT false)
    RETURNS TABLE (asset text, symbol text, priced bigint, unpriced bigint, reason text)
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    SET row_security = off
    AS $$
#variable_conflict use_column
DECLARE
    canonical   text := arx.registered_network(apply_asset_prices.network);
    replaces    boolean := apply_asset_prices.overwrite;
    max_age     interval := arx.max_price_age();
    -- The largest value of the column.
    most        CONSTANT numeric := 999999999999999999.99;
    this_system bigint := (SELECT c.system_identifier FROM pg_control_system() AS c);
    this_epoch  bigint := arx.current_graph_epoch();
    coin        text;
    this_basis  text;
    until       pg_snapshot;
    -- Every row has become visible since the first transaction.
    since       pg_snapshot := '1:1:';
BEGIN
    IF replaces IS NULL THEN
        RAISE EXCEPTION 'overwrite must not be null' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    -- Two calls at a time would read and write the same rows.
    PERFORM arx.lock_job('prices');
    SELECT n.native_asset INTO coin FROM arx.networks AS n WHERE n.network = canonical;
    until := pg_current_snapshot();
    this_basis := arx.price_basis(canonical);
    IF NOT replaces THEN
        since := coalesce((SELECT p.position FROM arx.price_positions AS p
                            WHERE p.network = canonical AND p.epoch = this_epoch AND p.system_identifier = this_system
                              AND p.basis = this_basis), since);
    END IF;
    RETURN QUERY
    WITH native AS MATERIALIZED (
        SELECT x.position, x.tx_hash, x."timestamp", x.value_usd,
               (SELECT CASE WHEN x."timestamp" < p.priced_at + max_age AND x.value * p.price_usd <= most
                            THEN round(x.value * p.price_usd, 2) END
                  FROM arx.asset_prices AS p
                 WHERE p.asset = coin AND p.priced_at <= x."timestamp"
                 ORDER BY p.priced_at DESC LIMIT 1) AS value
          FROM (SELECT NULL::integer AS position, t.tx_hash, t."timestamp", t.value_usd, t.value
                  FROM arx.transactions AS t
                 WHERE t.network = canonical AND arx.is_new_since(t.ingest_xid, since) AND (t.value_usd IS NULL OR replaces)
                UNION ALL
                SELECT i.position, i.tx_hash, i."timestamp", i.value_usd, i.value
                  FROM arx.internal_transfers AS i
                 WHERE i.network = canonical AND arx.is_new_since(i.ingest_xid, since) AND (i.value_usd IS NULL OR replaces)
               ) AS x
    ), of_transactions AS (
        UPDATE arx.transactions AS t SET value_usd = v.value
          FROM native AS v
         WHERE v.position IS NULL AND v.value IS DISTINCT FROM v.value_usd
           AND t.network = canonical AND t.tx_hash = v.tx_hash AND t."timestamp" = v."timestamp"
    ), of_internal_transfers AS (
        UPDATE arx.internal_transfers AS t SET value_usd = v.value
          FROM native AS v
         WHERE v.position IS NOT NULL AND v.value IS DISTINCT FROM v.value_usd
           AND t.network = canonical AND t.tx_hash = v.tx_hash AND t.position = v.position AND t."timestamp" = v."timestamp"
    ), tokens AS MATERIALIZED (
        SELECT x.token_address, x.tx_hash, x.log_index, x."timestamp", x.value_usd,
               (SELECT CASE WHEN x."timestamp" < p.priced_at + max_age AND x.amount * x.unit * p.price_usd <= most
                            THEN round(x.amount * x.unit * p.price_usd, 2) END
                  FROM arx.asset_prices AS p
                 WHERE x.kind = 'fungible' AND p.asset = x.name AND p.priced_at <= x."timestamp"
                 ORDER BY p.priced_at DESC LIMIT 1) AS value
          FROM (SELECT t.token_address, t.tx_hash, t.log_index, t."timestamp", t.value_usd, t.amount, k.kind,
                       CASE WHEN k.wraps = 'native' THEN coin ELSE k.symbol END AS name,
                       ('1e-' || k.decimals)::numeric AS unit
                  FROM arx.token_transfers AS t
                  LEFT JOIN arx.tokens AS k ON k.network = t.network AND k.token_address = t.token_address
                 WHERE t.network = canonical AND arx.is_new_since(t.ingest_xid, since)
                   AND (t.value_usd IS NULL OR k.kind <> 'fungible' OR replaces)) AS x
    ), of_token_transfers AS (
        UPDATE arx.token_transfers AS t SET value_usd = v.value
          FROM tokens AS v
         WHERE v.value IS DISTINCT FROM v.value_usd
           AND t.network = canonical AND t.tx_hash = v.tx_hash AND t.log_index = v.log_index AND t."timestamp" = v."timestamp"
    ), counts AS (
        SELECT NULL AS token_address, count(v.value) AS priced, count(*) - count(v.value) AS unpriced FROM native AS v
        HAVING count(*) > 0
        UNION ALL
        SELECT v.token_address, count(v.value), count(*) - count(v.value) FROM tokens AS v GROUP BY v.token_address
    )
    SELECT coalesce(c.token_address, coin),
           CASE WHEN c.token_address IS NULL THEN coin ELSE k.symbol END, c.priced, c.unpriced,
           CASE WHEN c.unpriced > 0 THEN arx.price_gap(canonical, c.token_address) END
      FROM counts AS c
      LEFT JOIN arx.tokens AS k ON k.network = canonical AND k.token_address = c.token_address
     ORDER BY c.token_address COLLATE "C" NULLS FIRST;
    INSERT INTO arx.price_positions (network, position, epoch, system_identifier, basis)
    VALUES (canonical, until, this_epoch, this_system, this_basis)
        ON CONFLICT (network) DO UPDATE
       SET position = excluded.position, epoch = excluded.epoch, system_identifier = excluded.system_identifier,
           basis = excluded.basis;
END;
$$;

CREATE FUNCTION price_coverage(network text)
    RETURNS TABLE (asset text, symbol text, kind text, priced bigint, unpriced bigint, first_unpriced timestamptz,
                   last_unpriced timestamptz, reason text)
    LANGUAGE plpgsql_as_owner STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    SET row_security = off
    AS $$
#variable_conflict use_column
DECLARE
    canonical text := arx.registered_network(price_coverage.network);
BEGIN
    RETURN QUERY
    SELECT coalesce(c.token_address, n.native_asset), CASE WHEN c.token_address IS NULL THEN n.native_asset ELSE k.symbol END,
           CASE WHEN c.token_address IS NULL THEN 'fungible' ELSE k.kind END, c.priced, c.unpriced, c.first_unpriced,
           c.last_unpriced, CASE WHEN c.unpriced > 0 THEN arx.price_gap(canonical, c.token_address) END
      FROM (SELECT x.token_address, count(x.value_usd) AS priced, count(*) - count(x.value_usd) AS unpriced,
                   min(x."timestamp") FILTER (WHERE x.value_usd IS NULL) AS first_unpriced,
                   max(x."timestamp") FILTER (WHERE x.value_usd IS NULL) AS last_unpriced
              FROM (SELECT NULL AS token_address, t.value_usd, t."timestamp"
                      FROM arx.transactions AS t WHERE t.network = canonical
                    UNION ALL
                    SELECT NULL, i.value_usd, i."timestamp" FROM arx.internal_transfers AS i WHERE i.network = canonical
                    UNION ALL
                    SELECT r.token_address, r.value_usd, r."timestamp"
                      FROM arx.token_transfers AS r WHERE r.network = canonical) AS x
             GROUP BY x.token_address) AS c
      JOIN arx.networks AS n ON n.network = canonical
      LEFT JOIN arx.tokens AS k ON k.network = canonical AND k.token_address = c.token_address
     ORDER BY c.token_address COLLATE "C" NULLS FIRST;
END;
$$;

-- An ERC-721 transfer without an id has the id as its amount, as ethereum-etl writes it; the id of
-- a row with the amount 1 remains unknown. Contracts whose rows have ids are seen as NFTs.
CREATE FUNCTION apply_token_kinds(network text)
    RETURNS TABLE (token_address text, kind text, source text, corrected bigint, conflicting bigint, reason text)
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    SET row_security = off
    AS $$
#variable_conflict use_column
DECLARE
    canonical text := arx.registered_network(apply_token_kinds.network);
BEGIN
    PERFORM arx.lock_job('prices');
    INSERT INTO arx.tokens (network, token_address, kind, source)
    SELECT canonical, t.token_address, CASE WHEN bool_and(t.amount = 1) THEN 'nft' ELSE 'multi' END, 'ids in token_transfers'
      FROM arx.token_transfers AS t
     WHERE t.network = canonical AND t.token_id IS NOT NULL
     GROUP BY t.token_address
    -- A row whose address is not as normalize_address() writes it cannot be stated.
    HAVING arx.is_normalized_address(t.token_address, canonical)
        ON CONFLICT DO NOTHING;
    RETURN QUERY
    WITH corrections AS (
        UPDATE arx.token_transfers AS t
           SET token_id = t.amount, amount = 1, value_usd = NULL
          FROM arx.tokens AS k
         WHERE k.network = canonical AND k.kind = 'nft' AND t.network = canonical AND t.token_address = k.token_address
           AND t.token_id IS NULL AND t.amount <> 1
        RETURNING t.token_address
    ), counts AS (
        SELECT c.token_address, count(*) AS corrected, 0::bigint AS conflicting FROM corrections AS c GROUP BY c.token_address
        UNION ALL
        -- The snapshot is older than the correction.
        SELECT t.token_address, 0, count(*)
          FROM arx.token_transfers AS t
          JOIN arx.tokens AS k ON k.network = canonical AND k.token_address = t.token_address
         WHERE t.network = canonical
           AND CASE k.kind WHEN 'nft' THEN t.token_id IS NOT NULL AND t.amount <> 1
                           WHEN 'multi' THEN t.token_id IS NULL
                           ELSE t.token_id IS NOT NULL END
         GROUP BY t.token_address
    )
    SELECT k.token_address, k.kind, k.source, coalesce(sum(c.corrected), 0)::bigint, coalesce(sum(c.conflicting), 0)::bigint,
           CASE WHEN sum(c.conflicting) > 0 THEN
                CASE k.kind WHEN 'nft' THEN 'rows with an id have another amount than 1: the contract may be of kind multi'
                            WHEN 'multi' THEN 'rows have no id: their amount may be one'
                            ELSE 'rows have ids: the contract may be of kind nft or multi' END END
      FROM arx.tokens AS k
      LEFT JOIN counts AS c ON c.token_address = k.token_address
     WHERE k.network = canonical AND (k.kind <> 'fungible' OR c.token_address IS NOT NULL)
     GROUP BY k.token_address, k.kind, k.source
     ORDER BY k.token_address COLLATE "C";
END;
$$;
