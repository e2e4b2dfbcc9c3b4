-- Values of transactions and internal transfers in USD.

-- The price is the one in force at the time of the transaction. Rows with a value keep it, unless
-- `overwrite` is set.
CREATE FUNCTION apply_asset_prices(network text, overwrite boolean DEFAULT false) RETURNS bigint
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    SET row_security = off
    AS $$
DECLARE
    canonical text := arx.registered_network(apply_asset_prices.network);
    changed   bigint;
BEGIN
    WITH price AS MATERIALIZED (
        SELECT p.priced_at, p.price_usd, lead(p.priced_at, 1, 'infinity') OVER (ORDER BY p.priced_at) AS priced_until
          FROM arx.asset_prices AS p
          JOIN arx.networks AS n ON n.network = canonical AND n.native_asset = p.asset
    ), transactions AS (
        UPDATE arx.transactions AS t
           SET value_usd = round(t.value * price.price_usd, 2)
          FROM price
         WHERE t.network = canonical AND t."timestamp" >= price.priced_at AND t."timestamp" < price.priced_until
           AND (t.value_usd IS NULL OR (overwrite AND t.value_usd IS DISTINCT FROM round(t.value * price.price_usd, 2)))
        RETURNING 1
    ), internal_transfers AS (
        UPDATE arx.internal_transfers AS t
           SET value_usd = round(t.value * price.price_usd, 2)
          FROM price
         WHERE t.network = canonical AND t."timestamp" >= price.priced_at AND t."timestamp" < price.priced_until
           AND (t.value_usd IS NULL OR (overwrite AND t.value_usd IS DISTINCT FROM round(t.value * price.price_usd, 2)))
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM transactions) + (SELECT count(*) FROM internal_transfers) INTO changed;
    RETURN changed;
END;
$$;
