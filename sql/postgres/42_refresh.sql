-- Jobs that keep derived tables up to date, each from the changes since its last run: the rows that
-- became visible, and the times of partitions that came or went. They run
-- without JIT: compiling the expressions of a plan over 90 partitions takes 8 s, and running the
-- plan takes 0.1 s. They run without row-level security: under a policy that hides rows from the
-- caller they fail, because the results would be wrong for all others.

-- The lock on the position serializes the runs of a job. SECURITY DEFINER: callers have no
-- privileges on the positions. So the two functions accept jobs alone, no feeds, and work only
-- within a function of ARX. A caller could choose no position, but could finish a refresh without
-- having done it: changes before it would never be seen.
--
-- `since` is NULL if everything is to be computed again. Otherwise the rows of transactions and
-- internal transfers at the times `native`, and of token transfers at the times `tokens`, may
-- differ from those of the last run without a trace; `removes` is true if some may be gone.
CREATE FUNCTION begin_refresh(
    consumer text, OUT since pg_snapshot, OUT until pg_snapshot, OUT epoch bigint, OUT native tstzmultirange,
    OUT tokens tstzmultirange, OUT removes boolean
)
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    stored arx.feed_positions;
    system bigint := (SELECT system_identifier FROM pg_control_system());
    events bigint;
    is_all boolean;
BEGIN
    IF NOT arx.is_in_job() THEN
        RAISE EXCEPTION 'only the functions of arx begin a refresh'
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Call the job, such as arx.refresh_daily_stats().';
    END IF;
    IF begin_refresh.consumer IS NULL
       OR (begin_refresh.consumer NOT IN ('wallet_profiles', 'daily_transaction_stats', 'hourly_transaction_stats', 'risk_scores', 'wallet_alerts', 'watchlists')
           AND begin_refresh.consumer NOT LIKE 'pattern %') THEN
        RAISE EXCEPTION '"%" is not a refresh job', coalesce(begin_refresh.consumer, 'null')
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Jobs are wallet_profiles, daily_transaction_stats, hourly_transaction_stats, risk_scores, wallet_alerts, watchlists, and those of refresh_patterns().';
    END IF;
    INSERT INTO arx.feed_positions (consumer) VALUES (begin_refresh.consumer) ON CONFLICT DO NOTHING;
    SELECT * INTO stored FROM arx.feed_positions AS p WHERE p.consumer = begin_refresh.consumer FOR UPDATE;
    PERFORM arx.watch_truncates(is_refresh => true);
    PERFORM arx.prune_graph_epoch();
    SELECT arx.current_graph_epoch(), pg_current_snapshot() INTO epoch, until;
    native := '{}';
    tokens := '{}';
    removes := false;
    IF stored.system_identifier = system THEN
        since := stored.position;
    END IF;
    IF since IS NOT NULL AND stored.epoch IS DISTINCT FROM epoch THEN
        SELECT count(*), bool_or(e.range_from IS NULL), coalesce(bool_or(e.reason <> 'attach'), false),
               coalesce(range_agg(r.times) FILTER (WHERE e.root <> 'token_transfers'), '{}'),
               coalesce(range_agg(r.times) FILTER (WHERE e.root = 'token_transfers'), '{}')
          INTO events, is_all, removes, native, tokens
          FROM arx.graph_epoch AS e
         CROSS JOIN LATERAL (
            SELECT tstzrange(nullif(e.range_from, '-infinity'), nullif(e.range_to, 'infinity'))
             WHERE e.range_from IS NOT NULL
            UNION ALL SELECT 'empty' WHERE e.range_from IS NULL) AS r (times)
         WHERE arx.is_new_since(e.raised_xid, since) AND pg_visible_in_snapshot(e.raised_xid, until);
        IF is_all OR events IS DISTINCT FROM epoch - stored.epoch THEN
            since := NULL;
        END IF;
        -- A transaction is visible before other sessions learn that a table has another partition.
        WHILE since IS NOT NULL AND EXISTS (
            SELECT FROM arx.graph_epoch AS e
              JOIN pg_locks AS l ON l.locktype = 'transactionid' AND l.granted AND l.transactionid = e.raised_xid::xid
             WHERE arx.is_new_since(e.raised_xid, since) AND e.raised_xid <> pg_current_xact_id()
        ) LOOP
            PERFORM pg_sleep(0.002);
        END LOOP;
    END IF;
    UPDATE arx.feed_positions AS p
       SET attempt = p.attempt + 1, system_identifier = system, pending_position = begin_refresh.until,
           pending_epoch = begin_refresh.epoch, pending_xid = pg_current_xact_id()
     WHERE p.consumer = begin_refresh.consumer;
END;
$$;

CREATE FUNCTION finish_refresh(consumer text, until pg_snapshot, epoch bigint, refreshed bigint) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    UPDATE arx.feed_positions AS p
       SET position = p.pending_position, epoch = p.pending_epoch, rows_total = p.rows_total + finish_refresh.refreshed,
           updated_at = clock_timestamp(), pending_position = NULL, pending_epoch = NULL, pending_xid = NULL
     WHERE arx.is_in_job() AND p.consumer = finish_refresh.consumer AND p.pending_xid = pg_current_xact_id()
       AND p.pending_position::text = finish_refresh.until::text AND p.pending_epoch = finish_refresh.epoch;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'this transaction has not begun a refresh of "%" up to % in epoch %',
                        coalesce(finish_refresh.consumer, 'null'), coalesce(finish_refresh.until::text, 'null'),
                        coalesce(finish_refresh.epoch::text, 'null')
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Pass what begin_refresh() has returned in the same transaction.';
    END IF;
END;
$$;

-- The triggers of the tables see no rows that another session has not committed yet: of two
-- sessions that write a transaction and its transfers at the same time, neither completes them.
-- First it is decided which transactions are no longer awaited: every session that may have missed
-- one has then ended, and the later statements see what it has written.
CREATE FUNCTION settle_awaited_transactions() RETURNS bigint
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    SET row_security = off
    AS $$
DECLARE
    settled uuid[];
BEGIN
    IF NOT EXISTS (SELECT FROM arx.awaited_transactions) THEN
        RETURN 0;
    END IF;
    -- Only transactions that run now may have missed a failure that is seen now. A later id is one
    -- of the server from which the row was restored.
    UPDATE arx.awaited_transactions AS a
       SET noticed_before = pg_snapshot_xmax(pg_current_snapshot())
     WHERE a.is_stored AND (a.noticed_before IS NULL OR a.noticed_before > pg_snapshot_xmax(pg_current_snapshot()));
    SELECT array_agg(a.awaited_id) INTO settled
      FROM arx.awaited_transactions AS a
     WHERE CASE WHEN a.is_stored THEN a.noticed_before <= pg_snapshot_xmin(pg_current_snapshot())
                ELSE EXISTS (SELECT FROM arx.transactions AS t
                              WHERE t.network = a.network AND t.tx_hash = a.tx_hash AND t."timestamp" = a."timestamp")
                     -- Also those whose transfers are gone, or know what they lacked.
                     OR NOT EXISTS (SELECT FROM arx.internal_transfers AS i
                                     WHERE i.network = a.network AND i.tx_hash = a.tx_hash
                                       AND i."timestamp" = a."timestamp"
                                       AND (i.succeeded IS NULL OR i.block_number IS NULL)) END;
    -- The trigger of the table completes the rows.
    UPDATE arx.internal_transfers AS i
       SET block_number = i.block_number
      FROM arx.awaited_transactions AS a
      JOIN arx.transactions AS t
        ON t.network = a.network AND t.tx_hash = a.tx_hash AND t."timestamp" = a."timestamp"
     WHERE i.network = a.network AND i.tx_hash = a.tx_hash AND i."timestamp" = a."timestamp"
       AND (i.succeeded IS NOT FALSE AND t.status = 'failed' OR i.block_number IS NULL);
    WITH void AS (
        DELETE FROM arx.token_transfers AS x
         USING arx.awaited_transactions AS a
          JOIN arx.transactions AS t
            ON t.network = a.network AND t.tx_hash = a.tx_hash AND t."timestamp" = a."timestamp" AND t.status = 'failed'
         WHERE x.network = a.network AND x.tx_hash = a.tx_hash AND x."timestamp" = a."timestamp"
        RETURNING x.network, x.tx_hash, x.log_index, x."timestamp", to_jsonb(x) AS transfer
    )
    INSERT INTO arx.void_token_transfers AS v (network, tx_hash, log_index, "timestamp", transfer)
    SELECT o.network, o.tx_hash, o.log_index, o."timestamp", o.transfer FROM void AS o
        ON CONFLICT (network, tx_hash, log_index, "timestamp") DO UPDATE SET transfer = excluded.transfer;
    DELETE FROM arx.awaited_transactions AS a WHERE a.awaited_id = ANY (settled);
    RETURN coalesce(cardinality(settled), 0);
END;
$$;

-- Consumers of transaction_changes, with the oldest transaction that each may still ask for: jobs,
-- feeds and their first loads by their positions, the graph by its newest file. Those of a session
-- that is further behind are noticed by `changes_before`: see usable() of graph_store. SECURITY
-- DEFINER: the log belongs to the extension, and its rows are removed up to there and no further.
CREATE FUNCTION prune_changes(OUT removed_rows bigint, OUT kept_since xid8, OUT kept_for text)
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    SELECT k.since, k.consumer INTO kept_since, kept_for
      FROM (SELECT p.consumer, pg_snapshot_xmin(s.position) AS since
              FROM arx.feed_positions AS p
             CROSS JOIN LATERAL (VALUES (p.position), (p.pending_position)) AS s (position)
             WHERE s.position IS NOT NULL
            UNION ALL SELECT l.consumer, pg_snapshot_xmin(l.position) FROM arx.feed_loads AS l
            UNION ALL SELECT 'graph', pg_snapshot_xmin(g.snapshot::pg_snapshot) FROM arx.graph_status() AS g
                       WHERE g.snapshot IS NOT NULL
            UNION ALL SELECT 'running transactions', pg_snapshot_xmin(pg_current_snapshot())) AS k
     ORDER BY k.since, k.consumer LIMIT 1;
    UPDATE arx.pruned_epochs AS p SET changes_before = kept_since WHERE p.changes_before < kept_since;
    DELETE FROM arx.transaction_change_log AS c WHERE c.changed_xid < kept_since;
    GET DIAGNOSTICS removed_rows = ROW_COUNT;
    PERFORM arx.prune_profile_changes(NULL);
END;
$$;

-- Internal transfers by wallet and transaction, of one wallet or of all. A transaction counts here
-- unless it counts for the wallet already, as its sender or receiver.
CREATE FUNCTION internal_activity(of_address text DEFAULT NULL, of_network text DEFAULT NULL)
    RETURNS TABLE (network text, address text, "timestamp" timestamptz, transactions integer, value numeric, value_usd numeric)
    LANGUAGE plpgsql_as_owner STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    AS $$
#variable_conflict use_column
BEGIN
    IF of_address IS NULL THEN
        RETURN QUERY
        SELECT e.network, e.address, e."timestamp",
               CASE WHEN EXISTS (SELECT FROM arx.transactions AS t
                                  WHERE t.network = e.network AND t.tx_hash = e.tx_hash
                                    AND t."timestamp" = e."timestamp"
                                    AND e.address IN (t.from_address, t.to_address)) THEN 0 ELSE 1 END,
               coalesce(sum(e.value) FILTER (WHERE e.succeeded IS NOT FALSE), 0),
               coalesce(sum(e.value_usd) FILTER (WHERE e.succeeded IS NOT FALSE), 0)
          FROM (SELECT i.network, i.from_address AS address, i."timestamp", i.tx_hash, i.value, i.value_usd, i.succeeded
                  FROM arx.internal_transfers AS i WHERE i.from_address IS NOT NULL
                UNION ALL
                SELECT i.network, i.to_address, i."timestamp", i.tx_hash, i.value, i.value_usd, i.succeeded
                  FROM arx.internal_transfers AS i
                 WHERE i.to_address IS NOT NULL AND i.to_address IS DISTINCT FROM i.from_address) AS e
         GROUP BY e.network, e.address, e."timestamp", e.tx_hash;
    ELSE
        RETURN QUERY
        SELECT e.network, e.address, e."timestamp",
               CASE WHEN EXISTS (SELECT FROM arx.transactions AS t
                                  WHERE t.network = e.network AND t.tx_hash = e.tx_hash
                                    AND t."timestamp" = e."timestamp"
                                    AND e.address IN (t.from_address, t.to_address)) THEN 0 ELSE 1 END,
               coalesce(sum(e.value) FILTER (WHERE e.succeeded IS NOT FALSE), 0),
               coalesce(sum(e.value_usd) FILTER (WHERE e.succeeded IS NOT FALSE), 0)
          FROM (SELECT i.network, i.from_address AS address, i."timestamp", i.tx_hash, i.value, i.value_usd, i.succeeded
                  FROM arx.internal_transfers AS i WHERE i.from_address = of_address AND i.network = of_network
                UNION ALL
                SELECT i.network, i.to_address, i."timestamp", i.tx_hash, i.value, i.value_usd, i.succeeded
                  FROM arx.internal_transfers AS i
                 WHERE i.to_address = of_address AND i.network = of_network AND i.to_address IS DISTINCT FROM i.from_address) AS e
         GROUP BY e.network, e.address, e."timestamp", e.tx_hash;
    END IF;
END;
$$;

-- Wallets that have transactions or internal transfers at some times, or that had some there when
-- their profiles were refreshed.
CREATE FUNCTION wallets_within(times tstzmultirange) RETURNS TABLE (network text, address text)
    LANGUAGE plpgsql_as_owner STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    SET plan_cache_mode = force_custom_plan
    AS $$
DECLARE
    part tstzrange;
BEGIN
    -- The query below reads every profile.
    IF isempty(times) THEN
        RETURN;
    END IF;
    RETURN QUERY
    SELECT p.network_type, p.wallet_address FROM arx.wallet_profiles AS p
     WHERE p.transaction_count > 0 AND tstzrange(p.first_seen, p.last_activity, '[]') && times;
    FOR part IN SELECT u.part FROM unnest(times) AS u (part) LOOP
        RETURN QUERY
        SELECT e.network, e.address
          FROM (SELECT t.network, t.from_address AS address, t."timestamp" FROM arx.transactions AS t
                UNION ALL SELECT t.network, t.to_address, t."timestamp" FROM arx.transactions AS t
                UNION ALL SELECT i.network, i.from_address, i."timestamp" FROM arx.internal_transfers AS i
                UNION ALL SELECT i.network, i.to_address, i."timestamp" FROM arx.internal_transfers AS i) AS e
         WHERE e.address IS NOT NULL
           AND e."timestamp" >= coalesce(lower(part), '-infinity') AND e."timestamp" <= coalesce(upper(part), 'infinity')
         GROUP BY e.network, e.address;
    END LOOP;
END;
$$;

-- Rows are written in the order in which refresh_risk_scores() writes them, so that the two cannot
-- deadlock.
CREATE FUNCTION refresh_wallet_profiles() RETURNS bigint
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    SET row_security = off
    AS $$
DECLARE
    run       record;
    is_full   boolean;
    refreshed bigint;
BEGIN
    PERFORM arx.settle_awaited_transactions();
    SELECT * INTO run FROM arx.begin_refresh('wallet_profiles');
    is_full := run.since IS NULL;
    IF NOT is_full AND NOT isempty(run.native) THEN
        -- Each of these wallets costs a query of its transactions.
        is_full := (SELECT count(*) > 1000
                       AND count(*) * 20 > (SELECT count(*) FROM arx.wallet_profiles AS p WHERE p.transaction_count > 0)
                      FROM arx.wallets_within(run.native));
    END IF;
    IF is_full THEN
        WITH activity AS (
            SELECT t.network, t.from_address AS address, t."timestamp", 1 AS transactions,
                   CASE WHEN t.status <> 'failed' THEN t.value ELSE 0 END AS value,
                   CASE WHEN t.status <> 'failed' THEN coalesce(t.value_usd, 0) ELSE 0 END AS value_usd
              FROM arx.transactions AS t
            UNION ALL
            SELECT t.network, t.to_address, t."timestamp", 1, CASE WHEN t.status <> 'failed' THEN t.value ELSE 0 END,
                   CASE WHEN t.status <> 'failed' THEN coalesce(t.value_usd, 0) ELSE 0 END
              FROM arx.transactions AS t WHERE t.to_address <> t.from_address
            UNION ALL
            SELECT l.network, l.address, l."timestamp", l.transactions, l.value, l.value_usd
              FROM arx.internal_activity() AS l
        ), summary AS (
            SELECT a.network, a.address, min(a."timestamp") AS first_seen, max(a."timestamp") AS last_activity,
                   sum(a.transactions) AS transaction_count, sum(a.value) AS volume, sum(a.value_usd) AS volume_usd
              FROM activity AS a GROUP BY a.network, a.address
            UNION ALL
            -- Profiles without transactions.
            SELECT p.network_type, p.wallet_address, NULL, NULL, 0, 0, 0
              FROM arx.wallet_profiles AS p
             WHERE p.transaction_count > 0
               AND NOT EXISTS (SELECT FROM activity AS a
                                WHERE a.network = p.network_type AND a.address = p.wallet_address)
        )
        INSERT INTO arx.wallet_profiles AS p
            (wallet_address, network_type, first_seen, last_activity, transaction_count, total_volume, total_volume_usd)
        SELECT s.address, s.network, s.first_seen, s.last_activity, s.transaction_count, s.volume, s.volume_usd
          FROM summary AS s
         ORDER BY s.network COLLATE "C", s.address COLLATE "C"
            ON CONFLICT (wallet_address, network_type) DO UPDATE
           SET first_seen = excluded.first_seen, last_activity = excluded.last_activity,
               transaction_count = excluded.transaction_count, total_volume = excluded.total_volume,
               total_volume_usd = excluded.total_volume_usd, version = p.version + 1, updated_at = now()
         WHERE (p.first_seen, p.last_activity, p.transaction_count, p.total_volume, p.total_volume_usd)
               IS DISTINCT FROM (excluded.first_seen, excluded.last_activity, excluded.transaction_count,
                                 excluded.total_volume, excluded.total_volume_usd);
    ELSE
        WITH touched AS (
            SELECT c.network, c.from_address AS address
              FROM arx.changed_transactions(run.since) AS c WHERE c.from_address IS NOT NULL
            UNION
            SELECT c.network, c.to_address FROM arx.changed_transactions(run.since) AS c WHERE c.to_address IS NOT NULL
            UNION
            SELECT w.network, w.address FROM arx.wallets_within(run.native) AS w
        )
        INSERT INTO arx.wallet_profiles AS p
            (wallet_address, network_type, first_seen, last_activity, transaction_count, total_volume, total_volume_usd)
        SELECT w.address, w.network, s.first_seen, s.last_activity, s.transaction_count, s.volume, s.volume_usd
          FROM touched AS w
         CROSS JOIN LATERAL (
            SELECT min(a."timestamp") AS first_seen, max(a."timestamp") AS last_activity,
                   coalesce(sum(a.transactions), 0) AS transaction_count,
                   coalesce(sum(a.value) FILTER (WHERE a.status <> 'failed'), 0) AS volume,
                   coalesce(sum(a.value_usd) FILTER (WHERE a.status <> 'failed'), 0) AS volume_usd
              FROM (SELECT t."timestamp", 1 AS transactions, t.value, t.value_usd, t.status::text
                      FROM arx.transactions AS t WHERE t.from_address = w.address AND t.network = w.network
                    UNION ALL
                    SELECT t."timestamp", 1, t.value, t.value_usd, t.status::text
                      FROM arx.transactions AS t
                     WHERE t.to_address = w.address AND t.network = w.network AND t.from_address <> w.address
                    UNION ALL
                    SELECT l."timestamp", l.transactions, l.value, l.value_usd, ''
                      FROM arx.internal_activity(w.address, w.network) AS l) AS a
         ) AS s
         ORDER BY w.network COLLATE "C", w.address COLLATE "C"
            ON CONFLICT (wallet_address, network_type) DO UPDATE
           SET first_seen = excluded.first_seen, last_activity = excluded.last_activity,
               transaction_count = excluded.transaction_count, total_volume = excluded.total_volume,
               total_volume_usd = excluded.total_volume_usd, version = p.version + 1, updated_at = now();
    END IF;
    GET DIAGNOSTICS refreshed = ROW_COUNT;
    PERFORM arx.finish_refresh('wallet_profiles', run.until, run.epoch, refreshed);
    RETURN refreshed;
END;
$$;

-- The periods ('hour' or 'day', in UTC) whose statistics a refresh computes again, from what
-- begin_refresh() returns: ranges of whole periods, single ones outside them, and the parts of time
-- to read, of which the last one spans the single periods.
CREATE FUNCTION changed_periods(
    unit text, since pg_snapshot, native tstzmultirange,
    OUT whole tstzmultirange, OUT single timestamptz[], OUT parts tstzrange[]
)
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    length CONSTANT interval := CASE changed_periods.unit WHEN 'hour' THEN interval '1 hour' WHEN 'day' THEN interval '24 hours' END;
BEGIN
    IF length IS NULL THEN
        RAISE EXCEPTION 'unit must be hour or day, not "%"', coalesce(left(changed_periods.unit, 60), 'null')
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    whole := '{(,)}';
    IF changed_periods.since IS NOT NULL THEN
        SELECT coalesce(range_agg(tstzrange(date_trunc(changed_periods.unit, lower(u.part), 'UTC'),
                                            date_trunc(changed_periods.unit, upper(u.part), 'UTC') + length)), '{}')
          INTO whole FROM unnest(changed_periods.native) AS u (part);
        SELECT array_agg(DISTINCT date_trunc(changed_periods.unit, c."timestamp", 'UTC')) INTO single
          FROM arx.changed_transactions(changed_periods.since) AS c WHERE NOT c."timestamp" <@ whole;
    END IF;
    SELECT coalesce(array_agg(p.part), '{}') INTO parts
      FROM (SELECT u.part FROM unnest(whole) AS u (part)
            UNION ALL
            SELECT tstzrange(min(s.start), max(s.start) + length) FROM unnest(single) AS s (start)
            HAVING count(*) > 0) AS p;
END;
$$;

CREATE FUNCTION refresh_daily_stats() RETURNS bigint
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    SET row_security = off
    -- Each part is of other partitions.
    SET plan_cache_mode = force_custom_plan
    AS $$
DECLARE
    run       record;
    changed   record;
    part      tstzrange;
    written   bigint;
    refreshed bigint := 0;
BEGIN
    PERFORM arx.settle_awaited_transactions();
    SELECT * INTO run FROM arx.begin_refresh('daily_transaction_stats');
    SELECT * INTO changed FROM arx.changed_periods('day', run.since, run.native);
    DELETE FROM arx.daily_transaction_stats AS s
     WHERE s.date::timestamp AT TIME ZONE 'UTC' = ANY (changed.single)
        OR s.date::timestamp AT TIME ZONE 'UTC' <@ changed.whole;
    FOREACH part IN ARRAY changed.parts LOOP
        INSERT INTO arx.daily_transaction_stats
            (date, network, tx_count, volume, avg_gas, min_gas, max_gas, unique_senders, unique_receivers)
        SELECT (t."timestamp" AT TIME ZONE 'UTC')::date, t.network, count(*) FILTER (WHERE t.is_transaction),
               coalesce(sum(t.value) FILTER (WHERE t.moves), 0),
               avg(t.gas_price), min(t.gas_price), max(t.gas_price),
               count(DISTINCT t.from_address), count(DISTINCT t.to_address)
          FROM (SELECT x."timestamp", x.network, true AS is_transaction, x.status <> 'failed' AS moves, x.value, x.gas_price,
                       x.from_address, x.to_address
                  FROM arx.transactions AS x
                UNION ALL
                SELECT i."timestamp", i.network, false, i.succeeded IS NOT FALSE, i.value, NULL, i.from_address, i.to_address
                  FROM arx.internal_transfers AS i) AS t
         WHERE t."timestamp" >= coalesce(lower(part), '-infinity')
           AND (t."timestamp" < upper(part) OR upper(part) IS NULL)
           AND (part <@ changed.whole OR date_trunc('day', t."timestamp", 'UTC') = ANY (changed.single))
         GROUP BY 1, 2;
        GET DIAGNOSTICS written = ROW_COUNT;
        refreshed := refreshed + written;
    END LOOP;
    PERFORM arx.finish_refresh('daily_transaction_stats', run.until, run.epoch, refreshed);
    RETURN refreshed;
END;
$$;
