-- Pairs of wallets that clusters must not bring together. Clusters are computed when they are asked for: an exclusion counts at
-- once, and a merge is back as soon as its exclusion is gone.

CREATE TABLE cluster_exclusions (
    network    text NOT NULL REFERENCES networks,
    wallet_a   text COLLATE "C" NOT NULL,
    wallet_b   text COLLATE "C" NOT NULL,
    reason     text NOT NULL CHECK (reason <> ''),
    created_by text NOT NULL DEFAULT current_user,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (network, wallet_a, wallet_b),
    -- one row a pair, whichever way it was named
    CONSTRAINT cluster_exclusions_order CHECK (wallet_a < wallet_b),
    CONSTRAINT cluster_exclusions_normalized CHECK (wallet_a = arx.normalize_address(wallet_a, network)
                                                    AND wallet_b = arx.normalize_address(wallet_b, network))
);
COMMENT ON TABLE cluster_exclusions IS
    'pairs of wallets that wallet_clusters() keeps apart, with who said so and why; see exclude_cluster_merge()';

CREATE FUNCTION exclude_cluster_merge(wallet_a text, wallet_b text, network text, reason text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    of_network text := arx.registered_network(exclude_cluster_merge.network);
    one        text := arx.require_address(exclude_cluster_merge.wallet_a, of_network);
    other      text := arx.require_address(exclude_cluster_merge.wallet_b, of_network);
    is_new     boolean;
BEGIN
    IF one = other THEN
        RAISE EXCEPTION 'a wallet cannot be kept apart from itself: %', one USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF exclude_cluster_merge.reason IS NULL THEN
        RAISE EXCEPTION 'reason must not be null' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF btrim(exclude_cluster_merge.reason) = '' THEN
        RAISE EXCEPTION 'reason must not be empty: others will want to know' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    INSERT INTO arx.cluster_exclusions AS e (network, wallet_a, wallet_b, reason)
    VALUES (of_network, least(one COLLATE "C", other COLLATE "C"), greatest(one COLLATE "C", other COLLATE "C"),
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
    of_network text := arx.registered_network(restore_cluster_merge.network);
    one        text := arx.require_address(restore_cluster_merge.wallet_a, of_network);
    other      text := arx.require_address(restore_cluster_merge.wallet_b, of_network);
BEGIN
    DELETE FROM arx.cluster_exclusions AS e
     WHERE e.network = of_network AND e.wallet_a = least(one COLLATE "C", other COLLATE "C")
       AND e.wallet_b = greatest(one COLLATE "C", other COLLATE "C");
    RETURN FOUND;
END;
$$;
