-- Networks that users add.

-- A network that exists stays as it is, so that the same call may run again. Its family may still
-- be stated while nothing is stored under a spelling that it would change.
CREATE FUNCTION add_network(
    network         text,
    family          text,
    native_asset    text DEFAULT NULL,
    native_decimals integer DEFAULT NULL
) RETURNS text
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    canonical text;
    stated    text;
    present   record;
BEGIN
    IF add_network.network IS NULL OR add_network.family IS NULL THEN
        RAISE EXCEPTION 'network and family must not be null'
              USING ERRCODE = 'null_value_not_allowed',
                    HINT = 'The family is the format of the addresses: evm, bitcoin, tron, solana or opaque.';
    END IF;
    stated := arx.require_network_family(add_network.network, add_network.family);
    canonical := arx.normalize_network(add_network.network);
    IF native_decimals NOT BETWEEN 0 AND 18 THEN
        RAISE EXCEPTION 'native_decimals must be between 0 and 18, not %', native_decimals
              USING ERRCODE = 'invalid_parameter_value';
    END IF;
    LOOP
        SELECT n.family, n.native_asset, n.native_decimals INTO present
          FROM arx.networks AS n WHERE n.network = canonical FOR UPDATE;
        IF FOUND THEN
            EXIT;
        END IF;
        IF native_decimals IS NULL AND stated = 'opaque' THEN
            RAISE EXCEPTION 'native_decimals must be given for network "%"', canonical
                  USING ERRCODE = 'null_value_not_allowed',
                        HINT = 'They are the decimals of its coin: amounts in files are counted in the smallest unit.';
        END IF;
        INSERT INTO arx.networks (network, native_asset, native_decimals, stated_family)
        VALUES (canonical, coalesce(add_network.native_asset, canonical),
                coalesce(add_network.native_decimals,
                         CASE stated WHEN 'evm' THEN 18 WHEN 'solana' THEN 9 WHEN 'tron' THEN 6 ELSE 8 END),
                CASE arx.listed_network_family(canonical) WHEN 'opaque' THEN stated END)
            ON CONFLICT DO NOTHING;
        IF FOUND THEN
            RETURN canonical;
        END IF;
    END LOOP;
    IF add_network.native_asset <> present.native_asset OR add_network.native_decimals <> present.native_decimals THEN
        RAISE EXCEPTION 'network "%" exists with coin % of % decimals', canonical, present.native_asset,
                        present.native_decimals
              USING ERRCODE = 'duplicate_object', HINT = 'Change the row of arx.networks if that is wrong.';
    END IF;
    IF present.family = stated THEN
        RETURN canonical;
    END IF;
    IF present.family <> 'opaque'
       OR EXISTS (SELECT FROM arx.address_labels AS l WHERE l.network = canonical)
       OR EXISTS (SELECT FROM arx.transactions AS t WHERE t.network = canonical) THEN
        RAISE EXCEPTION 'network "%" has addresses of family %, not %', canonical, present.family, stated
              USING ERRCODE = 'object_in_use',
                    DETAIL = 'Its stored addresses would be read in another way.',
                    HINT = 'Delete its rows, or add the network under another name.';
    END IF;
    UPDATE arx.networks AS n SET stated_family = stated WHERE n.network = canonical;
    RETURN canonical;
END;
$$;
