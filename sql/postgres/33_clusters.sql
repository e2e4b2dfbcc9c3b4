-- Exclusions of cluster merges.

-- An exclusion that is given again takes the name of its new author.
CREATE FUNCTION sign_cluster_exclusion() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    NEW.created_by := arx.calling_user();
    NEW.created_at := now();
    RETURN NEW;
END;
$$;

CREATE FUNCTION exclude_cluster_merge(wallet_a text, wallet_b text, network text, reason text) RETURNS boolean
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    canonical text := arx.registered_network(exclude_cluster_merge.network);
    first     text := arx.require_address(exclude_cluster_merge.wallet_a, canonical);
    second    text := arx.require_address(exclude_cluster_merge.wallet_b, canonical);
    is_new    boolean;
BEGIN
    IF first = second THEN
        RAISE EXCEPTION 'wallet_a and wallet_b must differ, but both are %', first
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF exclude_cluster_merge.reason IS NULL THEN
        RAISE EXCEPTION 'reason must not be null' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF btrim(exclude_cluster_merge.reason) = '' THEN
        RAISE EXCEPTION 'reason must not be empty' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    INSERT INTO arx.cluster_exclusions AS e (network, wallet_a, wallet_b, reason)
    VALUES (canonical, least(first COLLATE "C", second COLLATE "C"), greatest(first COLLATE "C", second COLLATE "C"),
            exclude_cluster_merge.reason)
    ON CONFLICT ON CONSTRAINT cluster_exclusions_pkey
    DO UPDATE SET reason = excluded.reason
    RETURNING e.xmax = 0 INTO is_new;
    RETURN is_new;
END;
$$;

CREATE FUNCTION restore_cluster_merge(wallet_a text, wallet_b text, network text) RETURNS boolean
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    canonical text := arx.registered_network(restore_cluster_merge.network);
    first     text := arx.require_address(restore_cluster_merge.wallet_a, canonical);
    second    text := arx.require_address(restore_cluster_merge.wallet_b, canonical);
BEGIN
    DELETE FROM arx.cluster_exclusions AS e
     WHERE e.network = canonical AND e.wallet_a = least(first COLLATE "C", second COLLATE "C")
       AND e.wallet_b = greatest(first COLLATE "C", second COLLATE "C");
    RETURN FOUND;
END;
$$;
