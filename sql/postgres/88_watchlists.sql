-- Watchlists: the members are judged again where their answer may have changed.
--
-- A member's answer is its risk score with its state and band, and the label that weighs most. The
-- wallets whose answer may have changed are those that refresh_risk_scores() would score again; see
-- queue_risk_changes() for the reasons that concern everything.

CREATE TABLE watchlist_state (
    singleton     boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    looked_at     timestamptz NOT NULL,
    activation_id bigint,
    model_version text,
    basis         text,
    coverage      text,
    -- Results by network, which are counted when everything is judged.
    members       jsonb NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE watchlist_state IS 'model, labels and coverage that rescreen_watchlists() depended on at its last run, and numbers of members';

-- Notes members that were added or removed, so that a run asks for these alone. A member that is
-- queued again costs a question, and no more. Without addresses: all of them.
CREATE FUNCTION queue_watchlist_members() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO arx.watchlist_queue (network, address) SELECT n.network, n.address FROM new_members AS n;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO arx.watchlist_queue (network, address) SELECT o.network, o.address FROM former_members AS o;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO arx.watchlist_queue (network, address)
        (SELECT n.network, n.address FROM new_members AS n EXCEPT SELECT o.network, o.address FROM former_members AS o)
        UNION ALL
        (SELECT o.network, o.address FROM former_members AS o EXCEPT SELECT n.network, n.address FROM new_members AS n);
    ELSE
        INSERT INTO arx.watchlist_queue (network, address) VALUES (NULL, NULL);
    END IF;
    RETURN NULL;
END;
$$;

-- Answers for wallets, as the members have them.
CREATE FUNCTION watch_answers(network text, addresses text[])
    RETURNS TABLE (address text, score numeric, band text, state text, model_version text, category text)
    LANGUAGE plpgsql_as_owner STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT s.address, s.score, s.band, s.state, s.model_version, o.category
      FROM arx.score_wallets($2, $1) AS s
      LEFT JOIN LATERAL (
        SELECT l.category
          FROM arx.address_labels AS l JOIN arx.label_categories AS c USING (category)
         WHERE l.network = $1 AND l.address = s.address AND l.valid_from <= now() AND l.valid_to > now()
         ORDER BY arx.label_rank(l.category, c.kind, l.severity::text, l.confidence), l.source, l.label_id
         LIMIT 1) AS o ON true;
END;
$$;

-- A row of changed_wallets().
CREATE TYPE network_change AS (network text, touched text[], relabelled text[], whole boolean);

-- The work of a run depends on what has changed: n transfers since the last one, the wallets near
-- them, and the members among those, each by descents of indexes.
CREATE FUNCTION rescreen_watchlists(everything boolean DEFAULT false)
    RETURNS TABLE (network text, members bigint, judged bigint, changed bigint)
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    SET row_security = off
    SET arx.graph_freshness = 'exact'
    AS $$
#variable_conflict use_column
DECLARE
    run     record;
    before  arx.watchlist_state;
    present arx.watchlist_state;
    changes arx.network_change[];
    change  arx.network_change;
    queued  record;
    one     text;
    batch   text[];
    is_full boolean;
    total   bigint := 0;
    removed jsonb;
    written record;
    added   bigint;
BEGIN
    PERFORM arx.settle_awaited_transactions();
    SELECT * INTO STRICT run FROM arx.begin_refresh('watchlists');
    SELECT * INTO before FROM arx.watchlist_state;
    IF run.since IS NOT NULL AND before.looked_at IS NOT NULL THEN
        changes := ARRAY(SELECT (c.network, c.touched, c.relabelled, c.whole)::arx.network_change
                           FROM arx.changed_wallets(run.since, before.looked_at, run.native) AS c);
    END IF;
    -- Beyond the size of an array, all members are judged.
    WITH taken AS (DELETE FROM arx.watchlist_queue RETURNING network, address),
    numbered AS (SELECT t.network, t.address, row_number() OVER () AS number FROM taken AS t),
    by_network AS (
        SELECT n.network, array_agg(DISTINCT n.address) FILTER (WHERE n.number <= 1000000) AS addresses, max(n.number) AS number
          FROM numbered AS n GROUP BY n.network
    )
    SELECT coalesce(jsonb_object_agg(b.network, b.addresses) FILTER (WHERE b.network IS NOT NULL AND b.addresses IS NOT NULL), '{}') AS members,
           coalesce(bool_or(b.network IS NULL OR b.number > 1000000), false) AS is_all
      INTO STRICT queued FROM by_network AS b;
    SELECT true, now(), max(a.activation_id), arx.active_risk_model(), before.basis, arx.coverage_digest(), '{}'::jsonb
      INTO STRICT present FROM arx.risk_model_activations AS a;
    -- Computed only if needed: half a million labels take a second.
    IF run.since IS NULL OR before.basis IS NULL OR cardinality(changes) > 0 THEN
        present.basis := arx.risk_basis();
    END IF;
    -- The wallets of transfers that are gone are not known.
    is_full := $1 OR run.since IS NULL OR run.removes OR before.looked_at IS NULL
               OR (before.activation_id, before.model_version, before.basis, before.coverage)
                  IS DISTINCT FROM (present.activation_id, present.model_version, present.basis, present.coverage)
               OR EXISTS (SELECT FROM arx.changed_labels(run.since) AS l WHERE l.network IS NULL);
    IF is_full OR queued.is_all THEN
        WITH gone AS (
            DELETE FROM arx.watchlist_results AS r
             WHERE NOT EXISTS (SELECT FROM arx.watchlists AS w WHERE w.network = r.network AND w.address = r.address)
            RETURNING r.network
        )
        SELECT coalesce(jsonb_object_agg(n.network, n.number), '{}') INTO STRICT removed
          FROM (SELECT g.network, count(*) AS number FROM gone AS g GROUP BY g.network) AS n;
    ELSIF queued.members <> '{}' THEN
        -- Work by what changed: a million members cost nothing here.
        WITH gone AS (
            DELETE FROM arx.watchlist_results AS r
             USING jsonb_each(queued.members) AS n, jsonb_array_elements_text(n.value) AS m (address)
             WHERE r.network = n.key AND r.address = m.address
               AND NOT EXISTS (SELECT FROM arx.watchlists AS w WHERE w.network = r.network AND w.address = r.address)
            RETURNING r.network
        )
        SELECT coalesce(jsonb_object_agg(n.network, n.number), '{}') INTO STRICT removed
          FROM (SELECT g.network, count(*) AS number FROM gone AS g GROUP BY g.network) AS n;
    END IF;
    FOR one IN
        -- One descent of the index for each network.
        WITH RECURSIVE present_networks AS (
            (SELECT w.network FROM arx.watchlists AS w ORDER BY w.network LIMIT 1)
            UNION ALL
            SELECT (SELECT w.network FROM arx.watchlists AS w WHERE w.network > p.network ORDER BY w.network LIMIT 1)
              FROM present_networks AS p WHERE p.network IS NOT NULL
        )
        SELECT p.network FROM present_networks AS p WHERE p.network IS NOT NULL
    LOOP
        network := one;
        judged := 0;
        changed := 0;
        added := 0;
        change := NULL;
        SELECT c.* INTO change
          FROM unnest(changes) AS c WHERE NOT is_full AND c.network = one;
        FOR batch IN
            SELECT array_agg(m.address ORDER BY m.address COLLATE "C")
              FROM (SELECT d.address, row_number() OVER (ORDER BY d.address COLLATE "C") / 10000 AS number
                      FROM (SELECT DISTINCT w.address FROM arx.watchlists AS w
                             WHERE w.network = one AND (is_full OR queued.is_all OR coalesce(change.whole, false))
                            UNION
                            SELECT n.address
                              FROM (SELECT near FROM arx.wallets_near(one, change.touched, change.relabelled) AS near
                                     WHERE change.touched IS NOT NULL
                                    UNION SELECT unnest(change.touched)
                                    UNION SELECT unnest(change.relabelled)
                                    UNION SELECT jsonb_array_elements_text(queued.members -> one)
                                    UNION
                                    SELECT o.address FROM arx.risk_overrides AS o
                                     WHERE o.network = one AND NOT is_full
                                       AND (arx.is_new_since(o.ingest_xid, run.since)
                                            OR (o.valid_from > before.looked_at AND o.valid_from <= now())
                                            OR (o.expires_at > before.looked_at AND o.expires_at <= now()))) AS n (address)
                             -- By the index, for each of them: members may be many more.
                             WHERE EXISTS (SELECT FROM arx.watchlists AS w
                                            WHERE w.network = one AND w.address = n.address OFFSET 0)) AS d) AS m
             GROUP BY m.number ORDER BY m.number
        LOOP
            judged := judged + cardinality(batch);
            WITH answers AS MATERIALIZED (
                SELECT a.* FROM arx.watch_answers(one, batch) AS a
            ), differing AS (
                SELECT a.*, r.score AS former_score, r.state AS former_state, r.category AS former_category, r.address IS NULL AS is_first
                  FROM answers AS a
                  -- By the index, for each of a batch: the results may be many more.
                  LEFT JOIN LATERAL (SELECT w.* FROM arx.watchlist_results AS w
                                      WHERE w.network = one AND w.address = a.address OFFSET 0) AS r ON true
                 WHERE (r.score, r.band, r.state, r.model_version, r.category)
                       IS DISTINCT FROM (a.score, a.band, a.state, a.model_version, a.category) OR r.address IS NULL
            ), stored AS (
                INSERT INTO arx.watchlist_results AS r (network, address, score, band, state, model_version, category)
                SELECT one, d.address, d.score, d.band, d.state, d.model_version, d.category FROM differing AS d
                    ON CONFLICT ON CONSTRAINT watchlist_results_pkey DO UPDATE
                   SET score = excluded.score, band = excluded.band, state = excluded.state,
                       model_version = excluded.model_version, category = excluded.category, changed_at = now()
            ), noted AS (
                INSERT INTO arx.watchlist_changes (network, address, former_score, score, former_state, state, former_category, category)
                SELECT one, d.address, d.former_score, d.score, d.former_state, d.state, d.former_category, d.category
                  FROM differing AS d WHERE NOT d.is_first
                 ORDER BY d.address COLLATE "C"
            )
            SELECT count(*) FILTER (WHERE d.is_first) AS first, count(*) FILTER (WHERE NOT d.is_first) AS changed
              INTO STRICT written FROM differing AS d;
            added := added + written.first;
            changed := changed + written.changed;
        END LOOP;
        total := total + judged;
        -- A million results take a while to count.
        members := CASE WHEN is_full OR before.members -> one IS NULL
                        THEN (SELECT count(*) FROM arx.watchlist_results AS r WHERE r.network = one)
                        ELSE (before.members ->> one)::bigint - coalesce((removed ->> one)::bigint, 0) + added END;
        present.members := present.members || jsonb_build_object(one, members);
        RETURN NEXT;
    END LOOP;
    INSERT INTO arx.watchlist_state AS s SELECT present.*
        ON CONFLICT (singleton) DO UPDATE
       SET looked_at = greatest(s.looked_at, excluded.looked_at), activation_id = excluded.activation_id,
           model_version = excluded.model_version, basis = excluded.basis, coverage = excluded.coverage,
           members = excluded.members;
    PERFORM arx.finish_refresh('watchlists', run.until, run.epoch, total);
END;
$$;

-- Members whose stored answer is not the one of now, by judging all of them.
CREATE FUNCTION verify_watchlists()
    RETURNS TABLE (network text, address text, stored jsonb, computed jsonb)
    LANGUAGE plpgsql_as_owner STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT m.network, a.address,
           (SELECT to_jsonb(r) - '{network,address,changed_at}'::text[] FROM arx.watchlist_results AS r
             WHERE r.network = m.network AND r.address = a.address),
           to_jsonb(a) - 'address'
      FROM (SELECT w.network, array_agg(DISTINCT w.address) AS addresses FROM arx.watchlists AS w GROUP BY w.network) AS m
     CROSS JOIN LATERAL arx.watch_answers(m.network, m.addresses) AS a
     WHERE NOT EXISTS (SELECT FROM arx.watchlist_results AS r
                        WHERE r.network = m.network AND r.address = a.address
                          AND (r.score, r.band, r.state, r.model_version, r.category)
                              IS NOT DISTINCT FROM (a.score, a.band, a.state, a.model_version, a.category))
     ORDER BY 1, 2;
END;
$$;
