-- Changes of wallets' profiles, for a cache that follows the database.
--
-- A profile consists of a score, which depends on transfers, labels, overrides, the active model,
-- calibration and coverage, and of rows of wallet_profiles and wallet_behaviour. The former are
-- followed as in queue_risk_changes(). The latter have no stamp: triggers of their statements log
-- the wallets that they touched, if a cache follows.
--
-- A session that follows holds the lock of follow_profiles() exclusively. A statement that can have
-- the lock proves that no one follows, logs nothing, and keeps the lock until its transaction ends:
-- follow_profiles() waits for these transactions, so that everything that becomes visible after it
-- is logged. The row of feed_positions keeps the log going while the follower is away.

CREATE TABLE profile_change_log (
    change_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    changed_xid xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
    -- NULL: all networks.
    network     text,
    -- NULL: all wallets of the network.
    address     text,
    changed_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT profile_changes_scope CHECK (network IS NOT NULL OR address IS NULL)
);
CREATE INDEX idx_profile_changes_xid ON profile_change_log (changed_xid);
COMMENT ON TABLE profile_change_log IS
    'wallets whose rows of wallet_profiles or wallet_behaviour changed, while a cache follows; address NULL: the whole network, network NULL: all networks';

-- The key of the lock: the schema's oid is the database's own.
CREATE FUNCTION is_followed() RETURNS boolean
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    RETURN NOT pg_try_advisory_xact_lock_shared('arx.profile_change_log'::regclass::oid::integer, 25)
           OR EXISTS (SELECT FROM arx.feed_positions AS p WHERE p.consumer = 'cache');
END;
$$;

-- SECURITY DEFINER: writers of the tables have no privileges on the log. The rows of the statement
-- are read as text alone, and only if the trigger names them: otherwise code of a user could run
-- here.
CREATE FUNCTION log_profile_changes() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    -- Beyond this number of wallets, a statement is a change of their networks.
    most CONSTANT integer := 20000;
    logged integer;
BEGIN
    IF NOT arx.is_followed() THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'TRUNCATE' THEN
        INSERT INTO arx.profile_change_log (network, address) VALUES (NULL, NULL);
        RETURN NULL;
    END IF;
    IF (TG_LEVEL = 'STATEMENT'
        AND NOT EXISTS (SELECT FROM pg_trigger AS g
                         WHERE g.tgrelid = TG_RELID AND g.tgname = TG_NAME
                           AND 'changed' IN (g.tgnewtable, g.tgoldtable)))
       OR (SELECT count(*) FROM pg_attribute AS a
            WHERE a.attrelid = TG_RELID AND a.attname IN ('network_type', 'wallet_address')
              AND a.atttypid = 'text'::regtype) <> 2 THEN
        RAISE EXCEPTION 'trigger "%" must be one that arx.create_tables() makes', TG_NAME
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    -- A row that belongs to another wallet now.
    IF TG_LEVEL = 'ROW' THEN
        INSERT INTO arx.profile_change_log (network, address) VALUES (OLD.network_type, OLD.wallet_address);
        RETURN NULL;
    END IF;
    INSERT INTO arx.profile_change_log (network, address)
    SELECT DISTINCT c.network_type, c.wallet_address FROM (SELECT * FROM changed LIMIT most) AS c;
    GET DIAGNOSTICS logged = ROW_COUNT;
    IF logged >= most OR (SELECT count(*) FROM (SELECT FROM changed LIMIT most + 1) AS c) > most THEN
        INSERT INTO arx.profile_change_log (network) SELECT DISTINCT c.network_type FROM changed AS c;
    END IF;
    RETURN NULL;
END;
$$;

-- SECURITY DEFINER: the log belongs to the extension. The lock is the session's.
CREATE FUNCTION follow_profiles() RETURNS bigint
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    reached bigint;
BEGIN
    PERFORM pg_advisory_lock('arx.profile_change_log'::regclass::oid::integer, 25);
    -- The log is removed after a day without a follower, and one that was away must know.
    DELETE FROM arx.feed_positions AS p WHERE p.consumer = 'cache' AND p.updated_at < now() - interval '12 hours';
    IF NOT FOUND AND EXISTS (SELECT FROM arx.feed_positions AS p WHERE p.consumer = 'cache') THEN
        UPDATE arx.feed_positions AS p SET attempt = p.attempt + 1, updated_at = now() WHERE p.consumer = 'cache'
        RETURNING p.attempt INTO reached;
    ELSE
        -- Another number than any that a cache knows.
        INSERT INTO arx.feed_positions (consumer, attempt)
        VALUES ('cache', (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
        RETURNING attempt INTO reached;
    END IF;
    RETURN reached;
END;
$$;

-- Removes the rows before a transaction, and those of a day ago without a follower.
CREATE FUNCTION prune_profile_changes(before xid8) RETURNS bigint
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    removed bigint;
BEGIN
    UPDATE arx.feed_positions AS p SET updated_at = now() WHERE p.consumer = 'cache' AND before IS NOT NULL;
    IF before IS NULL THEN
        DELETE FROM arx.feed_positions AS p WHERE p.consumer = 'cache' AND p.updated_at < now() - interval '1 day';
        IF EXISTS (SELECT FROM arx.feed_positions AS p WHERE p.consumer = 'cache') THEN
            RETURN 0;
        END IF;
    END IF;
    DELETE FROM arx.profile_change_log AS c WHERE before IS NULL OR c.changed_xid < before;
    GET DIAGNOSTICS removed = ROW_COUNT;
    RETURN removed;
END;
$$;

-- A change of any of these concerns every wallet.
CREATE FUNCTION profile_basis() RETURNS text
    LANGUAGE plpgsql_as_owner STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    SET row_security = off
    SET arx.graph_freshness = 'exact'
    AS $$
BEGIN
    RETURN md5(concat_ws('|', arx.active_risk_model(),
                         (SELECT max(a.activation_id) FROM arx.risk_model_activations AS a),
                         arx.current_graph_epoch(), arx.risk_basis(), arx.coverage_digest(),
                         (SELECT string_agg(concat_ws(',', c.network, c.prevalence, c.medium_from, c.high_from,
                                                      c.severe_from), ';' ORDER BY c.network COLLATE "C")
                            FROM arx.risk_calibration AS c)));
END;
$$;

-- Wallets whose profile may have changed since a snapshot, or by a label or an override that began
-- or ended since a time. An address may occur more than once.
CREATE FUNCTION changed_profiles(seen pg_snapshot, since timestamptz) RETURNS TABLE (network text, address text)
    LANGUAGE plpgsql_as_owner STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    SET row_security = off
    SET enable_seqscan = off
    SET arx.graph_freshness = 'exact'
    AS $$
#variable_conflict use_column
DECLARE
    change record;
BEGIN
    RETURN QUERY
    SELECT c.network, c.address FROM arx.profile_change_log AS c WHERE arx.is_new_since(c.changed_xid, $1)
    UNION
    SELECT o.network, o.address FROM arx.risk_overrides AS o
     WHERE arx.is_new_since(o.ingest_xid, $1)
        OR (o.valid_from > $2 AND o.valid_from <= now()) OR (o.expires_at > $2 AND o.expires_at <= now());
    FOR change IN SELECT c.* FROM arx.changed_wallets($1, $2) AS c LOOP
        IF change.whole OR change.network IS NULL THEN
            RETURN QUERY SELECT change.network, NULL::text;
        ELSE
            RETURN QUERY
            SELECT change.network, w.address
              FROM (SELECT near FROM arx.wallets_near(change.network, change.touched, change.relabelled) AS near
                    UNION SELECT unnest(change.touched)
                    UNION SELECT unnest(change.relabelled)) AS w (address);
        END IF;
    END LOOP;
END;
$$;
