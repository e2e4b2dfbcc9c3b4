-- Upkeep of pattern_findings.

CREATE FUNCTION changed_times(network text, asset text, since pg_snapshot) RETURNS SETOF timestamptz
    LANGUAGE plpgsql_as_owner STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    SET jit = off
    AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
SELECT c."timestamp" FROM arx.changed_transactions($3) AS c WHERE c.network = $1 AND $2 = 'native'
UNION
SELECT t."timestamp"
  FROM arx.token_transfers AS t
 WHERE arx.is_new_since(t.ingest_xid, $3) AND t.network = $1 AND t.token_address = $2
UNION
SELECT c."timestamp"
  FROM arx.transaction_changes AS c
 WHERE arx.is_new_since(c.changed_xid, $3) AND c.relation = 'token_transfers' AND c.network = $1 AND c.asset = $2;
END;
$$;

-- A finding depends only on the transfers within the pattern's horizon around its first transfer.
-- So a transfer that changed at time t affects only findings that begin within the horizon of t,
-- and only those are searched again, among the transfers within the horizon of them.
CREATE FUNCTION refresh_patterns(
    pattern   text DEFAULT NULL,
    "window"  interval DEFAULT '1 day',
    network   text DEFAULT NULL,
    asset     text DEFAULT 'native',
    min_value numeric DEFAULT NULL,
    options   jsonb DEFAULT '{}'
) RETURNS TABLE (
    refreshed text, on_network text, inserted bigint, updated bigint, removed bigint, complete boolean, reason text
)
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    SET row_security = off
    SET arx.graph_freshness = 'exact'
    AS $$
DECLARE
    minimum  numeric := coalesce(refresh_patterns.min_value, 0);
    of_asset text;
    horizon  record;
    run      record;
    consumer text;
    touched  tstzmultirange;
    part     tstzrange;
    written  record;
BEGIN
    IF refresh_patterns.pattern IS NULL AND refresh_patterns.options <> '{}' THEN
        RAISE EXCEPTION 'options require a pattern' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF lower(refresh_patterns.asset) IN ('tokens', 'all') THEN
        RAISE EXCEPTION 'asset must be one asset, not "%"', refresh_patterns.asset
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- Without transfers, findings of deleted transfers still have to be removed.
    on_network := coalesce(arx.pattern_network(refresh_patterns.network, refresh_patterns.asset),
                           (SELECT min(f.network) FROM arx.pattern_findings AS f
                            HAVING min(f.network) = max(f.network)));
    IF on_network IS NULL THEN
        RETURN;
    END IF;
    -- Not a CASE expression: the planner would call normalize_address() for any asset.
    IF lower(refresh_patterns.asset) IN
           ('native', (SELECT lower(n.native_asset) FROM arx.networks AS n WHERE n.network = on_network)) THEN
        of_asset := 'native';
    ELSE
        of_asset := arx.normalize_address(refresh_patterns.asset, on_network);
    END IF;
    FOR refreshed IN
        SELECT t.pattern FROM arx.pattern_types() AS t WHERE refresh_patterns.pattern IS NULL
        UNION ALL SELECT lower(refresh_patterns.pattern) WHERE refresh_patterns.pattern IS NOT NULL
    LOOP
        SELECT h.before, h.after INTO STRICT horizon
          FROM arx.pattern_horizon(refreshed, refresh_patterns."window", refresh_patterns.options) AS h;
        consumer := format('pattern %s on %s of %s from %s within %s s with %s', refreshed, on_network, of_asset,
                           trim_scale(minimum), extract(epoch FROM refresh_patterns."window"),
                           refresh_patterns.options);
        SELECT * INTO STRICT run FROM arx.begin_refresh(consumer);
        IF run.since IS NULL THEN
            touched := '{(,)}';
        ELSE
            -- Adding a horizon to a time near the ends of the calendar would overflow.
            SELECT CASE WHEN bool_or(t.at NOT BETWEEN '4000-01-01 BC' AND '200000-01-01')
                             OR horizon.before > '500 years'
                        THEN '{(,)}'
                        ELSE range_agg(tstzrange(t.at - horizon.after, t.at + horizon.before, '[]')) END
              INTO touched
              FROM arx.changed_times(on_network, of_asset, run.since) AS t (at)
             WHERE isfinite(t.at);
            -- Findings of partitions that came or went.
            SELECT nullif(coalesce(touched, '{}')
                          + coalesce(CASE WHEN bool_or(lower(u.part) < '4000-01-01 BC' OR upper(u.part) > '200000-01-01')
                                          THEN '{(,)}'
                                          ELSE range_agg(tstzrange(lower(u.part) - horizon.after,
                                                                   upper(u.part) + horizon.before, '[]')) END,
                                     '{}'), '{}')
              INTO touched
              FROM unnest(CASE of_asset WHEN 'native' THEN run.native ELSE run.tokens END) AS u (part);
            -- Each part costs a pass over all wallets.
            IF (SELECT count(*) > 8 FROM unnest(touched)) THEN
                touched := tstzmultirange(range_merge(touched));
            END IF;
        END IF;
        inserted := 0;
        updated := 0;
        removed := 0;
        complete := true;
        reason := NULL;
        FOR part IN SELECT u.part FROM unnest(touched) AS u (part) LOOP
            WITH fresh AS MATERIALIZED (
                SELECT d.*
                  FROM arx.detect_patterns(
                           refreshed, refresh_patterns."window", on_network, lower(part) - horizon.before,
                           upper(part) + horizon.after + interval '1 microsecond', of_asset,
                           refresh_patterns.min_value, refresh_patterns.options, max_findings => NULL) AS d
                 WHERE d.first_seen <@ part
            ), gone AS (
                DELETE FROM arx.pattern_findings AS f
                 WHERE f.pattern = refreshed AND f.network = on_network AND f.asset = of_asset
                   AND f."window" = refresh_patterns."window" AND f.min_value = minimum
                   AND f.options = refresh_patterns.options
                   AND f.first_seen <@ part AND f.finding_id NOT IN (SELECT n.finding_id FROM fresh AS n)
                RETURNING 1
            ), stored AS (
                INSERT INTO arx.pattern_findings AS f
                    (pattern, network, asset, "window", min_value, options, finding_id, strength, center, wallets,
                     tx_hashes, transfers, total_value, first_seen, last_seen, details)
                SELECT refreshed, on_network, of_asset, refresh_patterns."window", minimum, refresh_patterns.options,
                       n.finding_id, n.strength, n.center, n.wallets, n.tx_hashes, n.transfers, n.total_value,
                       n.first_seen, n.last_seen, n.details
                  FROM fresh AS n
                    ON CONFLICT ON CONSTRAINT pattern_findings_pkey DO UPDATE
                   SET strength = excluded.strength, center = excluded.center, wallets = excluded.wallets,
                       tx_hashes = excluded.tx_hashes, transfers = excluded.transfers,
                       total_value = excluded.total_value, first_seen = excluded.first_seen,
                       last_seen = excluded.last_seen, details = excluded.details, found_at = now()
                 WHERE (f.strength, f.center, f.wallets, f.tx_hashes, f.transfers, f.total_value, f.first_seen,
                        f.last_seen, f.details)
                       IS DISTINCT FROM
                       (excluded.strength, excluded.center, excluded.wallets, excluded.tx_hashes, excluded.transfers,
                        excluded.total_value, excluded.first_seen, excluded.last_seen, excluded.details)
                RETURNING f.xmax = 0 AS is_new
            )
            SELECT (SELECT count(*) FROM stored AS s WHERE s.is_new) AS inserted,
                   (SELECT count(*) FROM stored AS s WHERE NOT s.is_new) AS updated,
                   (SELECT count(*) FROM gone) AS removed,
                   (SELECT max(n.reason) FROM fresh AS n) AS reason
              INTO written;
            inserted := inserted + written.inserted;
            updated := updated + written.updated;
            removed := removed + written.removed;
            reason := coalesce(written.reason, reason);
            complete := reason IS NULL;
        END LOOP;
        PERFORM arx.finish_refresh(consumer, run.until, run.epoch, inserted + updated + removed);
        RETURN NEXT;
    END LOOP;
END;
$$;
