-- Blocks that left the chain.

CREATE FUNCTION remove_blocks(network text, from_block bigint, to_block bigint)
    RETURNS TABLE (relation text, removed bigint)
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    known text := arx.registered_network(network);
BEGIN
    IF from_block IS NULL OR to_block IS NULL THEN
        RAISE EXCEPTION '% must not be null', CASE WHEN from_block IS NULL THEN 'from_block' ELSE 'to_block' END
            USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF from_block > to_block THEN
        RAISE EXCEPTION 'from_block (%) must not be greater than to_block (%)', from_block, to_block
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN QUERY
    WITH gone AS (
        DELETE FROM arx.transactions AS t
         WHERE t.network = known AND t.block_number BETWEEN from_block AND to_block
        RETURNING t.tx_hash, t."timestamp"
    ), legs AS (
        -- The block of an internal transfer may be unknown.
        DELETE FROM arx.internal_transfers AS i
         WHERE i.network = known
           AND (i.block_number BETWEEN from_block AND to_block
                OR i.block_number IS NULL
                   AND EXISTS (SELECT FROM gone AS g WHERE g.tx_hash = i.tx_hash AND g."timestamp" = i."timestamp"))
        RETURNING i.tx_hash
    ), tokens AS (
        DELETE FROM arx.token_transfers AS x
         WHERE x.network = known AND x.block_number BETWEEN from_block AND to_block
        RETURNING x.tx_hash
    )
    SELECT 'transactions', count(*) FROM gone
     UNION ALL
    SELECT 'internal_transfers', count(*) FROM legs
     UNION ALL
    SELECT 'token_transfers', count(*) FROM tokens;
END;
$$;
