-- The audit log: decisions and the history of cases, whose entries are chained by hashes.
--
-- An entry holds the SHA-256 of its content and of the entry before it in its chain. Transactions
-- that run at the same time extend different chains, so that none waits for another. The heads of
-- the chains are here, where the owner of the tables has no privilege: an entry that its owner has
-- changed, added or removed does not agree with them, whatever hashes it was given.

CREATE TABLE audit_chains (
    log     text NOT NULL CHECK (log IN ('decisions', 'alert_events')),
    chain   uuid NOT NULL,
    entries bigint NOT NULL,
    head    bytea NOT NULL,
    PRIMARY KEY (log, chain)
);
COMMENT ON TABLE audit_chains IS 'heads of the chains of the audit log: the number of entries and the hash of the last one';

-- A parsed body, because it can be inlined: its names are those of now, whatever search_path says.
CREATE FUNCTION entry_hash(previous bytea, content jsonb) RETURNS bytea
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN pg_catalog.sha256(coalesce(previous, ''::pg_catalog.bytea)
        OPERATOR(pg_catalog.||) pg_catalog.convert_to(content::pg_catalog.text, 'UTF8'));

-- Columns whose content is sealed: those that ARX creates, in the form of UTC. A column that users
-- add is theirs. An expression without a query, because each decision takes the time of both.
CREATE FUNCTION sealed_content(log text, entry jsonb) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    IF log = 'decisions' THEN
        RETURN jsonb_build_object(
            'decision_id', entry -> 'decision_id', 'decided_at', entry -> 'decided_at', 'decided_by', entry -> 'decided_by',
            'network', entry -> 'network', 'from_address', entry -> 'from_address', 'to_address', entry -> 'to_address',
            'asset', entry -> 'asset', 'amount', entry -> 'amount', 'amount_usd', entry -> 'amount_usd',
            'external_id', entry -> 'external_id', 'decision', entry -> 'decision', 'reasons', entry -> 'reasons',
            'facts', entry -> 'facts', 'rules', entry -> 'rules', 'model_version', entry -> 'model_version',
            'label_state', entry -> 'label_state', 'snapshot', entry -> 'snapshot', 'complete', entry -> 'complete',
            'chain', entry -> 'chain', 'entry', entry -> 'entry');
    END IF;
    RETURN jsonb_build_object(
        'event_id', entry -> 'event_id', 'alert_id', entry -> 'alert_id', 'happened_at', entry -> 'happened_at',
        'actor', entry -> 'actor', 'action', entry -> 'action', 'detail', entry -> 'detail',
        'chain', entry -> 'chain', 'entry', entry -> 'entry');
END;
$$;

-- SECURITY DEFINER: no role has a privilege on the heads. Works within a function of ARX alone.
CREATE FUNCTION extend_chain(log text, OUT chain uuid, OUT entry bigint, OUT previous bytea)
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    IF NOT arx.is_in_job() THEN
        RAISE EXCEPTION 'only the functions of arx write to the audit log'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Call arx.screen_transfer(), or the functions of cases.';
    END IF;
    -- A snapshot of a whole transaction may be older than the head of a chain: then it begins one.
    IF current_setting('transaction_isolation') IN ('read committed', 'read uncommitted') THEN
        SELECT c.chain, c.entries + 1, c.head INTO chain, entry, previous
          FROM arx.audit_chains AS c WHERE c.log = extend_chain.log
         ORDER BY c.chain LIMIT 1 FOR UPDATE SKIP LOCKED;
    END IF;
    IF chain IS NULL THEN
        chain := gen_random_uuid();
        entry := 1;
        previous := NULL;
    END IF;
END;
$$;

-- `entries` were added, of which `entry` is the last one, which is returned.
CREATE FUNCTION close_entry(log text, chain uuid, entry bigint, hash bytea, entries bigint DEFAULT 1) RETURNS bigint
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    IF NOT arx.is_in_job() THEN
        RAISE EXCEPTION 'only the functions of arx write to the audit log'
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    INSERT INTO arx.audit_chains AS c (log, chain, entries, head)
    VALUES (close_entry.log, close_entry.chain, close_entry.entry, close_entry.hash)
        ON CONFLICT ON CONSTRAINT audit_chains_pkey DO UPDATE SET entries = excluded.entries, head = excluded.head
     WHERE c.entries + close_entry.entries = excluded.entries;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'chain % of the audit log has moved on', close_entry.chain USING ERRCODE = 'serialization_failure';
    END IF;
    RETURN close_entry.entry;
END;
$$;

-- Notes who has called, and chains the entry. A row with a hash comes with a restored dump.
CREATE FUNCTION seal_entry() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    SET TimeZone = 'UTC'
    AS $$
DECLARE
    place   record;
    content jsonb;
BEGIN
    IF NEW.entry_hash IS NULL THEN
        IF TG_TABLE_NAME = 'decisions' THEN
            NEW.decided_by := arx.calling_user();
        ELSE
            NEW.actor := arx.calling_user();
        END IF;
        -- Assignments, which need no query.
        place := arx.extend_chain(TG_TABLE_NAME);
        NEW.chain := place.chain;
        NEW.previous_hash := place.previous;
        NEW.entry := place.entry;
        content := to_jsonb(NEW);
        NEW.entry_hash := arx.entry_hash(place.previous, arx.sealed_content(TG_TABLE_NAME, content));
        NEW.entry := arx.close_entry(TG_TABLE_NAME, place.chain, place.entry, NEW.entry_hash);
    END IF;
    RETURN NEW;
END;
$$;

-- Adds many entries to the history of alerts. The chain is read once and gets one new head, because
-- a transaction that moves a head as often as a run raises alerts takes the square of their number.
CREATE FUNCTION add_alert_events(alert_ids bigint[], actions text[], details jsonb[]) RETURNS bigint
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    SET TimeZone = 'UTC'
    SET jit = off
    AS $$
DECLARE
    place    record;
    at       timestamptz := clock_timestamp();
    caller   text := arx.calling_user();
    added    bigint := cardinality(alert_ids);
    sequence regclass := pg_get_serial_sequence('arx.alert_events', 'event_id');
    ids      bigint[];
    hashes   bytea[] := '{}';
    previous bytea;
BEGIN
    IF added IS DISTINCT FROM cardinality(actions)::bigint OR added IS DISTINCT FROM cardinality(details)::bigint THEN
        RAISE EXCEPTION 'alert_ids, actions and details must have the same length' USING ERRCODE = 'array_subscript_error';
    END IF;
    IF added = 0 THEN
        RETURN 0;
    END IF;
    SELECT * INTO STRICT place FROM arx.extend_chain('alert_events');
    ids := ARRAY(SELECT nextval(sequence) FROM generate_series(1, added));
    previous := place.previous;
    FOR number IN 1 .. added LOOP
        previous := arx.entry_hash(previous, jsonb_build_object(
            'event_id', ids[number], 'alert_id', alert_ids[number], 'happened_at', at, 'actor', caller, 'action', actions[number],
            'detail', details[number], 'chain', place.chain, 'entry', place.entry + number - 1));
        hashes := hashes || previous;
    END LOOP;
    INSERT INTO arx.alert_events (event_id, alert_id, happened_at, actor, action, detail, chain, entry, previous_hash, entry_hash)
    OVERRIDING SYSTEM VALUE
    SELECT u.id, u.alert_id, at, caller, u.action, u.detail, place.chain, place.entry + u.number - 1,
           coalesce(lag(u.hash) OVER (ORDER BY u.number), place.previous), u.hash
      FROM unnest(ids, alert_ids, actions, details, hashes) WITH ORDINALITY AS u (id, alert_id, action, detail, hash, number)
     ORDER BY u.number;
    PERFORM arx.close_entry('alert_events', place.chain, place.entry + added - 1, previous, added);
    RETURN added;
END;
$$;

CREATE FUNCTION keep_entry() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    RAISE EXCEPTION 'entries of % never change', format('%I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME)
        USING ERRCODE = 'object_not_in_prerequisite_state',
              HINT = 'Add an entry that says what is true now.';
END;
$$;

-- One row a log. Entries of chains whose head is not known came with a restored dump: they agree
-- with each other or not, but nothing says that none is missing at their end.
CREATE FUNCTION verify_audit_log()
    RETURNS TABLE (log text, entries bigint, chains bigint, unanchored bigint, problems bigint, intact boolean,
                   first_entry bigint, problem text)
    LANGUAGE plpgsql_as_owner STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    SET TimeZone = 'UTC'
    SET jit = off
    AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH stored AS (
        SELECT 'decisions' AS log, d.decision_id AS id, d.chain, d.entry, d.previous_hash, d.entry_hash,
               arx.sealed_content('decisions', to_jsonb(d)) AS content
          FROM arx.decisions AS d
        UNION ALL
        SELECT 'alert_events', e.event_id, e.chain, e.entry, e.previous_hash, e.entry_hash,
               arx.sealed_content('alert_events', to_jsonb(e))
          FROM arx.alert_events AS e
    ), linked AS (
        SELECT s.log, s.id, s.chain, s.entry, s.previous_hash, s.entry_hash,
               arx.entry_hash(s.previous_hash, s.content) AS computed,
               lag(s.entry_hash) OVER in_chain AS before_hash, coalesce(lag(s.entry) OVER in_chain, 0) AS before_entry,
               lead(s.entry) OVER in_chain IS NULL AS is_last
          FROM stored AS s
        WINDOW in_chain AS (PARTITION BY s.log, s.chain ORDER BY s.entry, s.id)
    ), faults AS (
        SELECT l.log, l.id, f.problem
          FROM linked AS l
          LEFT JOIN arx.audit_chains AS c ON c.log = l.log AND c.chain = l.chain
         CROSS JOIN LATERAL (VALUES
            (l.entry_hash IS DISTINCT FROM l.computed, 'the entry was changed'),
            (l.entry IS DISTINCT FROM l.before_entry + 1, 'an entry before this one is missing, or was added'),
            (l.previous_hash IS DISTINCT FROM l.before_hash, 'the entry does not follow the one before it'),
            (l.is_last AND (c.entries <> l.entry OR c.head <> l.entry_hash), 'the last entry of its chain is another one')
         ) AS f (is_fault, problem)
         WHERE f.is_fault
        UNION ALL
        SELECT c.log, NULL, 'all entries of a chain are missing'
          FROM arx.audit_chains AS c
         WHERE NOT EXISTS (SELECT FROM linked AS l WHERE l.log = c.log AND l.chain = c.chain)
    )
    SELECT n.log, coalesce(t.entries, 0), coalesce(t.chains, 0), coalesce(t.unanchored, 0), coalesce(f.problems, 0),
           coalesce(f.problems, 0) = 0, f.first_entry, f.problem
      FROM (VALUES ('decisions'), ('alert_events')) AS n (log)
      LEFT JOIN (
        SELECT l.log, count(*) AS entries, count(DISTINCT l.chain) AS chains,
               count(*) FILTER (WHERE NOT EXISTS (SELECT FROM arx.audit_chains AS c
                                                   WHERE c.log = l.log AND c.chain = l.chain)) AS unanchored
          FROM linked AS l GROUP BY l.log) AS t ON t.log = n.log
      LEFT JOIN (
        SELECT a.log, count(*) AS problems, min(a.id) AS first_entry,
               (array_agg(a.problem ORDER BY a.id NULLS LAST))[1] AS problem
          FROM faults AS a GROUP BY a.log) AS f ON f.log = n.log
     ORDER BY n.log DESC;
END;
$$;
