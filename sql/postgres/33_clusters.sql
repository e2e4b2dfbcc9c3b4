-- Pairs of wallets that clusters must keep apart. Clusters are computed on demand, so an exclusion
-- takes effect at once, and so does its removal.

CREATE TABLE cluster_exclusions (
    network    text NOT NULL REFERENCES networks,
    wallet_a   text COLLATE "C" NOT NULL,
    wallet_b   text COLLATE "C" NOT NULL,
    reason     text NOT NULL CHECK (reason <> ''),
    created_by text NOT NULL DEFAULT current_user,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (network, wallet_a, wallet_b),
    -- One row a pair, in either order of the arguments.
    CONSTRAINT cluster_exclusions_order CHECK (wallet_a < wallet_b),
    CONSTRAINT cluster_exclusions_normalized CHECK (wallet_a = arx.normalize_address(wallet_a, network)
                                                    AND wallet_b = arx.normalize_address(wallet_b, network))
);
COMMENT ON TABLE cluster_exclusions IS
    'pairs of wallets that wallet_clusters() keeps apart, with user and reason; see exclude_cluster_merge()';

CREATE FUNCTION exclude_cluster_merge(wallet_a text, wallet_b text, network text, reason text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
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
    DO UPDATE SET reason = excluded.reason, created_by = excluded.created_by, created_at = excluded.created_at
    RETURNING e.xmax = 0 INTO is_new;
    RETURN is_new;
END;
$$;

CREATE FUNCTION restore_cluster_merge(wallet_a text, wallet_b text, network text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
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
