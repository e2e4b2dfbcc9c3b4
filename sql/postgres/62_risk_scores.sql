-- Risk scores: their history, and the job that keeps the scores of wallet_profiles up to date with
-- transactions, labels, overrides and the active model.

-- History -----------------------------------------------------------------------------------------
CREATE FUNCTION risk_history(address text, network text, "limit" integer DEFAULT 100)
    RETURNS TABLE (scored_at timestamptz, score numeric, previous_score numeric, difference numeric,
                   probability double precision, band text, state text, model_version text)
    LANGUAGE plpgsql_as_owner STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
SELECT h.scored_at, h.score, h.previous_score, h.score - h.previous_score, h.probability, h.band, h.state,
       h.model_version
  FROM (SELECT r.*, lead(r.score) OVER (ORDER BY r.scored_at DESC, r.entry_id DESC) AS previous_score
          FROM (SELECT e.* FROM arx.risk_score_history AS e
                 WHERE e.address = arx.require_address($1, $2) AND e.network = arx.registered_network($2)
                 ORDER BY e.scored_at DESC, e.entry_id DESC
                 LIMIT arx.require_limit($3) + 1) AS r) AS h
 ORDER BY h.scored_at DESC, h.entry_id DESC
 LIMIT arx.require_limit($3);
END;
$$;

-- Refresh -----------------------------------------------------------------------------------------
-- Wallets whose score may have changed. One transaction queues them; any number of sessions score
-- them, in many transactions.
--
-- A session takes a row by deleting it in the transaction that writes the score. It follows that:
-- * A wallet is scored by one session at a time. It can be queued again meanwhile (the INSERT waits
--   for the DELETE), and the session that takes it then starts after the earlier score was
--   committed. So an older score never replaces a newer one.
-- * Every change that queued a row is visible to the statement that scores it. The change was
--   visible to the INSERT. If the INSERT found a row, the DELETE of the row had not happened yet,
--   and the scoring statement, whose snapshot is taken after the DELETE, sees the change.
-- * Labels and overrides are valid by the clock of the scoring transaction, which may have begun
--   before the row was queued. A session leaves rows that were queued after it began to others
--   (queued_at).
-- * A transaction that does not commit leaves its rows queued.
--
-- Deadlocks are impossible: one transaction queues at a time (lock_risk_queue()) and holds no row
-- of wallet_profiles; rows are taken in the order of the key; a session has locked its rows of the
-- queue before it writes profiles; profiles are written in the order of network and address,
-- COLLATE "C", here and in refresh_wallet_profiles().
CREATE TABLE risk_queue (
    network   text COLLATE "C" NOT NULL,
    address   text COLLATE "C" NOT NULL,
    queued_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (network, address)
);
COMMENT ON TABLE risk_queue IS 'wallets whose score may have changed; refresh_risk_scores() scores them';

-- State of queue_risk_changes() that is not part of the snapshot in feed_positions.
CREATE TABLE risk_refresh_state (
    singleton     boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    -- Labels and overrides that begin or end were processed up to this time.
    looked_at     timestamptz NOT NULL,
    activation_id bigint NOT NULL,
    model_version text NOT NULL,
    basis         text NOT NULL,
    coverage      text NOT NULL
);
COMMENT ON TABLE risk_refresh_state IS
    'time, model, basis and coverage of the last check for wallets whose score may have changed';

-- A score depends on every statement of its network, so a change of any scores all wallets again.
CREATE FUNCTION coverage_digest() RETURNS text
    LANGUAGE plpgsql_as_owner STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    RETURN (SELECT coalesce(md5(string_agg(md5(concat_ws('|', h.network, coalesce(h.address, '*'),
                                             coalesce(extract(epoch FROM h.from_time)::text, '-'),
                                             coalesce(extract(epoch FROM h.to_time)::text, '-'))), ''
                               ORDER BY h.network COLLATE "C", h.address COLLATE "C", h.from_time, h.to_time)), '')
  FROM arx.history_coverage AS h);
END;
$$;

-- The planner inlines it, for the reason given at is_new_since().
CREATE FUNCTION is_normal_spelling(address text, network text) RETURNS boolean
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN CASE WHEN coalesce(arx.is_valid_address(address, network), address IS NOT NULL)
                THEN arx.normalize_address(address, network) = address ELSE false END;

-- Rows inserted directly may hold addresses in another spelling, or of unknown networks. They
-- belong to no wallet.
CREATE FUNCTION is_normalized_address(address text, network text) RETURNS boolean
    LANGUAGE plpgsql_as_owner STABLE PARALLEL SAFE
    AS $$
BEGIN
    RETURN (SELECT CASE WHEN NOT EXISTS (SELECT FROM arx.networks AS n WHERE n.network OPERATOR(pg_catalog.=) $2) THEN false
            ELSE arx.is_normal_spelling($1, $2) END);
END;
$$;

-- Steps of refresh_risk_scores() that read tables of users, with the rights of their owner.
CREATE FUNCTION scored_network(network text) RETURNS text
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    RETURN arx.registered_network(scored_network.network);
END;
$$;

CREATE FUNCTION load_risk_basis() RETURNS void
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    PERFORM arx.risk_basis();
END;
$$;

-- Networks with queued wallets, or the given one if it has some.
CREATE FUNCTION queued_networks(network text) RETURNS text[]
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    RETURN ARRAY(SELECT n.network FROM arx.networks AS n
                  WHERE (queued_networks.network IS NULL OR n.network = queued_networks.network)
                    AND EXISTS (SELECT FROM arx.risk_queue AS q WHERE q.network = n.network)
                  ORDER BY n.network);
END;
$$;

CREATE FUNCTION lock_risk_queue() RETURNS void
    LANGUAGE sql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$ SELECT arx.lock_job('risk_queue') $$;

CREATE FUNCTION queue_all_wallets(network text DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    SET row_security = off
    AS $$
DECLARE
    queued bigint;
BEGIN
    PERFORM arx.lock_risk_queue();
    INSERT INTO arx.risk_queue AS q (network, address)
    SELECT w.network, w.address
      FROM (SELECT p.network_type AS network, p.wallet_address AS address FROM arx.wallet_profiles AS p
            UNION SELECT t.network, t.from_address FROM arx.transactions AS t
            UNION SELECT t.network, t.to_address FROM arx.transactions AS t WHERE t.to_address IS NOT NULL
            UNION SELECT i.network, i.from_address FROM arx.internal_transfers AS i WHERE i.from_address IS NOT NULL
            UNION SELECT i.network, i.to_address FROM arx.internal_transfers AS i WHERE i.to_address IS NOT NULL
            UNION SELECT o.network, o.address FROM arx.risk_overrides AS o) AS w
      JOIN arx.networks AS n ON n.network = w.network
     WHERE (queue_all_wallets.network IS NULL OR w.network = queue_all_wallets.network)
       AND arx.is_normalized_address(w.address, w.network)
     ORDER BY w.network COLLATE "C", w.address COLLATE "C"
        ON CONFLICT ON CONSTRAINT risk_queue_pkey
        DO UPDATE SET queued_at = greatest(q.queued_at, excluded.queued_at);
    GET DIAGNOSTICS queued = ROW_COUNT;
    RETURN queued;
END;
$$;

-- Labels that began or ended after `since` and up to now count as changed, and wallets with
-- transfers at the times of partitions that came.
CREATE FUNCTION changed_wallets(seen pg_snapshot, since timestamptz, times tstzmultirange DEFAULT '{}')
    RETURNS TABLE (network text, wallets bigint, touched text[], relabelled text[], whole boolean)
    LANGUAGE plpgsql_as_owner STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
-- Each wallet is checked once: a condition would be moved into the parts of a union.
WITH ends AS MATERIALIZED (
    SELECT c.network, e.address
      FROM arx.changed_transactions($1) AS c CROSS JOIN LATERAL (VALUES (c.from_address), (c.to_address)) AS e (address)
     WHERE e.address IS NOT NULL
    UNION
    SELECT w.network, w.address FROM arx.wallets_within($3) AS w
), labels AS (
    SELECT c.network, c.address FROM arx.changed_labels($1) AS c
    UNION
    SELECT l.network, l.address FROM arx.address_labels AS l
     WHERE l.valid_from > '-infinity' AND l.valid_from > $2 AND l.valid_from <= now()
    UNION
    SELECT l.network, l.address FROM arx.address_labels AS l
     WHERE l.valid_to < 'infinity' AND l.valid_to > $2 AND l.valid_to <= now()
), changes AS (
    -- Each call of is_normalized_address() would take the owner's rights again.
    SELECT e.network, e.address, 'touched' AS how FROM ends AS e
     WHERE EXISTS (SELECT FROM arx.networks AS n WHERE n.network = e.network)
       AND arx.is_normal_spelling(e.address, e.network)
    UNION ALL
    SELECT l.network, l.address, 'relabelled' FROM labels AS l
), numbered AS (
    SELECT c.network, c.address, c.how, row_number() OVER (PARTITION BY c.network) AS number FROM changes AS c
)
-- Beyond the size of an array, the whole network is queued.
SELECT n.network, count(*),
       coalesce(array_agg(n.address) FILTER (WHERE n.how = 'touched' AND n.number <= 1000000), '{}'),
       coalesce(array_agg(n.address) FILTER (WHERE n.how = 'relabelled' AND n.number <= 1000000), '{}'),
       bool_or(n.address IS NULL) OR count(*) > 1000000
  FROM numbered AS n
 GROUP BY n.network;
END;
$$;

CREATE FUNCTION queue_risk_changes() RETURNS bigint
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    SET row_security = off
    SET arx.graph_freshness = 'exact'
    AS $$
DECLARE
    run     record;
    before  arx.risk_refresh_state;
    present arx.risk_refresh_state;
    change  record;
    is_full boolean;
    added   bigint;
    queued  bigint := 0;
BEGIN
    PERFORM arx.settle_awaited_transactions();
    SELECT * INTO STRICT run FROM arx.begin_refresh('risk_scores');
    PERFORM arx.lock_risk_queue();
    SELECT * INTO before FROM arx.risk_refresh_state;
    -- The version alone is not enough: an activation that was rolled back since left scores behind.
    SELECT true, now(), max(a.activation_id), arx.active_risk_model(), before.basis, arx.coverage_digest()
      INTO STRICT present FROM arx.risk_model_activations AS a;
    -- Computed only if needed: half a million labels take a second.
    IF run.since IS NULL OR before.basis IS NULL
       OR EXISTS (SELECT FROM arx.changed_wallets(run.since, before.looked_at, run.native)) THEN
        present.basis := arx.risk_basis();
    END IF;
    -- The wallets of transfers that are gone are not known.
    is_full := run.since IS NULL OR run.removes
               OR (before.activation_id, before.model_version, before.basis, before.coverage)
                  IS DISTINCT FROM (present.activation_id, present.model_version, present.basis, present.coverage)
               OR EXISTS (SELECT FROM arx.changed_labels(run.since) AS l WHERE l.network IS NULL);
    IF is_full THEN
        queued := arx.queue_all_wallets();
    ELSE
        FOR change IN
            SELECT c.* FROM arx.changed_wallets(run.since, before.looked_at, run.native) AS c
              JOIN arx.networks AS n USING (network)
             ORDER BY c.network
        LOOP
            IF change.whole
               OR (change.wallets > 1000
                   AND change.wallets * 2 > (SELECT count(*) FROM arx.wallet_profiles AS p
                                              WHERE p.network_type = change.network)) THEN
                added := arx.queue_all_wallets(change.network);
            ELSE
                INSERT INTO arx.risk_queue AS q (network, address)
                SELECT change.network, w.address
                  FROM (SELECT near FROM arx.wallets_near(change.network, change.touched, change.relabelled) AS near
                        UNION SELECT unnest(change.touched)
                        -- A label alone creates no profile: lists hold many more addresses than
                        -- there are wallets.
                        UNION SELECT r.address FROM unnest(change.relabelled) AS r (address)
                               WHERE EXISTS (SELECT FROM arx.wallet_profiles AS p
                                              WHERE p.wallet_address = r.address
                                                AND p.network_type = change.network)) AS w (address)
                 WHERE arx.is_normalized_address(w.address, change.network)
                 ORDER BY w.address COLLATE "C"
                    ON CONFLICT ON CONSTRAINT risk_queue_pkey
                    DO UPDATE SET queued_at = greatest(q.queued_at, excluded.queued_at);
                GET DIAGNOSTICS added = ROW_COUNT;
            END IF;
            queued := queued + added;
        END LOOP;
        -- An override written by a transaction that committed late may have begun before the last
        -- check.
        INSERT INTO arx.risk_queue AS q (network, address)
        SELECT DISTINCT o.network COLLATE "C", o.address COLLATE "C"
          FROM arx.risk_overrides AS o
         WHERE arx.is_new_since(o.ingest_xid, run.since)
            OR (o.valid_from > before.looked_at AND o.valid_from <= now())
            OR (o.expires_at > before.looked_at AND o.expires_at <= now())
         ORDER BY 1, 2
            ON CONFLICT ON CONSTRAINT risk_queue_pkey
            DO UPDATE SET queued_at = greatest(q.queued_at, excluded.queued_at);
        GET DIAGNOSTICS added = ROW_COUNT;
        queued := queued + added;
    END IF;
    -- A run that waited for another one may have begun before it.
    INSERT INTO arx.risk_refresh_state AS s SELECT present.*
        ON CONFLICT (singleton) DO UPDATE
       SET looked_at = greatest(s.looked_at, excluded.looked_at), activation_id = excluded.activation_id,
           model_version = excluded.model_version, basis = excluded.basis, coverage = excluded.coverage;
    PERFORM arx.finish_refresh('risk_scores', run.until, run.epoch, queued);
    RETURN queued;
END;
$$;

CREATE FUNCTION take_queued_wallets(network text, batch_size integer, beyond text, waiting boolean) RETURNS text[]
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    taken text[];
BEGIN
    IF waiting THEN
        taken := ARRAY(SELECT q.address FROM arx.risk_queue AS q
                        WHERE q.network = take_queued_wallets.network AND q.address > beyond AND q.queued_at <= now()
                        ORDER BY q.address LIMIT batch_size FOR UPDATE);
    ELSE
        taken := ARRAY(SELECT q.address FROM arx.risk_queue AS q
                        WHERE q.network = take_queued_wallets.network AND q.address > beyond AND q.queued_at <= now()
                        ORDER BY q.address LIMIT batch_size FOR UPDATE SKIP LOCKED);
    END IF;
    DELETE FROM arx.risk_queue AS q WHERE q.network = take_queued_wallets.network AND q.address = ANY (taken);
    RETURN taken;
END;
$$;

CREATE FUNCTION write_risk_scores(network text, addresses text[]) RETURNS bigint
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    SET row_security = off
    SET arx.graph_freshness = 'exact'
    AS $$
DECLARE
    changed bigint;
BEGIN
    WITH stale AS MATERIALIZED (
        SELECT s.*
          -- A row of the queue that a user wrote may name no wallet.
          FROM arx.score_wallets(
                   ARRAY(SELECT w.address FROM unnest(write_risk_scores.addresses) AS w (address)
                          WHERE arx.is_normalized_address(w.address, write_risk_scores.network)),
                   write_risk_scores.network) AS s
          LEFT JOIN arx.wallet_profiles AS p
            ON p.wallet_address = s.address AND p.network_type = write_risk_scores.network
         WHERE (p.risk_score, p.risk_state) IS DISTINCT FROM (s.score, s.state)
           AND (p.wallet_address IS NOT NULL OR s.state <> 'unknown')
    ), written AS (
        INSERT INTO arx.wallet_profiles AS p (wallet_address, network_type, risk_score, risk_state)
        SELECT s.address, write_risk_scores.network, s.score, s.state FROM stale AS s ORDER BY s.address COLLATE "C"
            ON CONFLICT (wallet_address, network_type) DO UPDATE
           SET risk_score = excluded.risk_score, risk_state = excluded.risk_state, version = p.version + 1,
               updated_at = now()
    )
    INSERT INTO arx.risk_score_history (network, address, score, probability, band, state, model_version)
    SELECT write_risk_scores.network, s.address, s.score, s.probability, s.band, s.state, s.model_version
      FROM stale AS s;
    GET DIAGNOSTICS changed = ROW_COUNT;
    RETURN changed;
END;
$$;

-- A procedure that commits cannot have SET clauses: it pins the search path in each of its
-- transactions, and the functions it calls have the clauses. It requires
-- READ COMMITTED, because each batch must see the rows queued and committed by others since the
-- last one.
CREATE PROCEDURE refresh_risk_scores(
    network    text DEFAULT NULL,
    batch_size integer DEFAULT 10000,
    INOUT wallets bigint DEFAULT NULL,
    INOUT changed bigint DEFAULT NULL
)
    LANGUAGE plpgsql
    AS $$
DECLARE
    networks   text[];
    canonical  text;
    waiting    boolean;
    taken      text[];
    written    bigint;
    beyond     text;
    size       integer;
    failures   integer := 0;
    problem    text;
    code       text;
    detail     text;
    hint       text;
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    IF pg_catalog.current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'refresh_risk_scores() needs isolation level READ COMMITTED, not %',
            pg_catalog.upper(pg_catalog.current_setting('transaction_isolation'))
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'SET default_transaction_isolation = ''read committed''.';
    END IF;
    IF refresh_risk_scores.batch_size IS NULL THEN
        RAISE EXCEPTION 'batch_size must not be null' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF refresh_risk_scores.batch_size NOT BETWEEN 1 AND 1000000 THEN
        RAISE EXCEPTION 'batch_size must be between 1 and 1000000, not %', refresh_risk_scores.batch_size
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF refresh_risk_scores.network IS NOT NULL THEN
        canonical := arx.scored_network(refresh_risk_scores.network);
    END IF;
    wallets := 0;
    changed := 0;
    -- Fails at once, before any work, inside a transaction block of the caller.
    COMMIT;
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    PERFORM arx.queue_risk_changes();
    COMMIT;
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    networks := arx.queued_networks(canonical);
    FOREACH canonical IN ARRAY networks LOOP
        -- The first pass skips rows that others have locked, the second waits for them: everything
        -- that was queued at the start is scored at the end. Each pass only moves forward in the
        -- order of the key, so it ends regardless of how much others queue.
        FOREACH waiting IN ARRAY ARRAY[false, true] LOOP
            beyond := '';
            size := refresh_risk_scores.batch_size;
            LOOP
                -- Called before this transaction writes: what it reads is then cached for the
                -- batches.
                PERFORM arx.load_risk_basis();
                taken := '{}';
                BEGIN
                    taken := arx.take_queued_wallets(canonical, size, beyond, waiting);
                    written := arx.write_risk_scores(canonical, taken);
                    wallets := wallets + pg_catalog.cardinality(taken);
                    changed := changed + written;
                    beyond := taken[pg_catalog.cardinality(taken)];
                    size := least(size * 2, refresh_risk_scores.batch_size);
                EXCEPTION WHEN OTHERS THEN
                    -- The rollback has queued the batch again. Halves of it are tried, down to the
                    -- wallets that cannot be scored. The first error is raised at the end; after
                    -- ten of them the cause is not a wallet.
                    IF pg_catalog.cardinality(taken) > 1 THEN
                        size := greatest(pg_catalog.cardinality(taken) / 2, 1);
                    ELSE
                        failures := failures + 1;
                        IF problem IS NULL THEN
                            GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT, code = RETURNED_SQLSTATE,
                                                    hint = PG_EXCEPTION_HINT;
                            detail := CASE
                                WHEN taken[1] IS NULL
                                THEN pg_catalog.format('No wallet of network %s could be taken.', canonical)
                                ELSE pg_catalog.format('Wallet %s of network %s stays queued.', taken[1], canonical)
                            END;
                        END IF;
                        beyond := taken[1];
                    END IF;
                END;
                COMMIT;
                PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
                EXIT WHEN beyond IS NULL OR failures >= 10;
            END LOOP;
            EXIT WHEN failures >= 10;
        END LOOP;
        EXIT WHEN failures >= 10;
    END LOOP;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING MESSAGE = problem, ERRCODE = code, DETAIL = detail, HINT = hint;
    END IF;
END;
$$;
