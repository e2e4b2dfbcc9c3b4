-- Statistics, indexes, and what the server is doing.

CREATE FUNCTION update_table_statistics() RETURNS TABLE (relation text, reason text)
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    stale record;
BEGIN
    FOR stale IN
        SELECT n.nspname, c.relname, c.relkind, s.n_mod_since_analyze,
               s.last_analyze IS NULL AND s.last_autoanalyze IS NULL AS never,
               greatest(c.reltuples, 0) AS known_rows
          FROM pg_class AS c
          JOIN pg_namespace AS n ON n.oid = c.relnamespace
          LEFT JOIN pg_stat_all_tables AS s ON s.relid = c.oid
         WHERE n.nspname = 'arx' AND c.relkind IN ('r', 'p')
         ORDER BY c.relkind DESC, c.relname
    LOOP
        -- autovacuum never analyses a partitioned parent; a leaf is stale after 50 rows plus a tenth of it have changed
        IF stale.relkind = 'p' THEN
            CONTINUE WHEN NOT EXISTS (
                SELECT FROM pg_partition_tree(format('%I.%I', stale.nspname, stale.relname)::regclass) AS t
                  JOIN pg_stat_all_tables AS s ON s.relid = t.relid
                 WHERE t.isleaf AND s.n_mod_since_analyze > 0);
            reason := 'partitions changed';
        ELSIF stale.n_mod_since_analyze > 50 + 0.1 * stale.known_rows THEN
            reason := format('%s rows changed since the last analyze', stale.n_mod_since_analyze);
        ELSIF stale.never AND stale.n_mod_since_analyze > 0 THEN
            reason := 'never analyzed';
        ELSE
            CONTINUE;
        END IF;
        relation := format('%I.%I', stale.nspname, stale.relname);
        EXECUTE format('ANALYZE %I.%I', stale.nspname, stale.relname);
        RETURN NEXT;
    END LOOP;
END;
$$;

-- Bloat of a btree is estimated from what its rows should take: the estimate of pgsql-bloat-estimation, without its alignment
-- padding. An index is worth rewriting only above 128 pages and when more than 40 % of it would be gained.
CREATE FUNCTION index_maintenance_plan()
    RETURNS TABLE (index_name text, table_name text, action text, reason text, size_bytes bigint, gain_bytes bigint, statement text)
    LANGUAGE sql STABLE PARALLEL RESTRICTED SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
WITH indexes AS (
    SELECT i.indexrelid, i.indrelid, i.indisvalid, i.indisready, i.indisunique, c.relname, n.nspname, t.relname AS table_relname,
           c.relpages, c.reltuples, a.amname, pg_relation_size(c.oid) AS bytes, coalesce(s.idx_scan, 0) AS scans,
           (SELECT sum(coalesce(st.avg_width, 8) * (1 - coalesce(st.null_frac, 0)))
              FROM pg_attribute AS k
              LEFT JOIN pg_stats AS st ON st.schemaname = n.nspname AND st.tablename = t.relname AND st.attname = k.attname
             WHERE k.attrelid = c.oid) AS width
      FROM pg_index AS i
      JOIN pg_class AS c ON c.oid = i.indexrelid AND c.relkind = 'i'
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
      JOIN pg_class AS t ON t.oid = i.indrelid
      JOIN pg_am AS a ON a.oid = c.relam
      LEFT JOIN pg_stat_all_indexes AS s ON s.indexrelid = i.indexrelid
     WHERE n.nspname = 'arx'
), sized AS (
    SELECT x.*, current_setting('block_size')::bigint AS block,
           -- a line pointer and a tuple header beside the keys, pages filled to nine tenths
           ceil(greatest(x.reltuples, 0) * (coalesce(x.width, 8) + 12) / (0.9 * (current_setting('block_size')::numeric - 40))) + 1
               AS ideal_pages
      FROM indexes AS x
)
SELECT format('%I.%I', z.nspname, z.relname), format('%I.%I', z.nspname, z.table_relname), p.action, p.reason, z.bytes,
       CASE p.action WHEN 'reindex' THEN greatest(z.bytes - (z.ideal_pages * z.block)::bigint, 0) WHEN 'review' THEN z.bytes ELSE 0 END,
       p.statement
  FROM sized AS z
 CROSS JOIN LATERAL (
    SELECT 'rebuild' AS action, 'index is not valid: an earlier concurrent build was cut off' AS reason,
           format('REINDEX INDEX CONCURRENTLY %I.%I', z.nspname, z.relname) AS statement
     WHERE NOT z.indisvalid
    UNION ALL
    SELECT 'reindex', format('about %s %% of %s pages are bloat', round(100 * (1 - z.ideal_pages / z.relpages)), z.relpages),
           format('REINDEX INDEX CONCURRENTLY %I.%I', z.nspname, z.relname)
     WHERE z.indisvalid AND z.amname = 'btree' AND z.relpages > 128 AND z.ideal_pages < 0.6 * z.relpages AND z.reltuples >= 0
    UNION ALL
    SELECT 'review', 'never scanned since statistics were reset: is it needed?', NULL
     WHERE z.indisvalid AND z.scans = 0 AND NOT z.indisunique AND z.relpages > 128
 ) AS p
 ORDER BY p.action, z.bytes DESC, z.relname
$$;

CREATE FUNCTION maintain_indexes() RETURNS bigint
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    step    record;
    waiting bigint := 0;
BEGIN
    FOR step IN SELECT * FROM arx.index_maintenance_plan() LOOP
        RAISE NOTICE '% %: %', step.action, step.index_name, step.reason
            USING HINT = coalesce(step.statement, 'Drop it by hand if no query needs it.');
        waiting := waiting + (step.statement IS NOT NULL)::integer;
    END LOOP;
    RETURN waiting;
END;
$$;

-- Facts about the server ----------------------------------------------------------------------------------------------------
-- Counters since start-up hide what happens now: samples make differences possible.
CREATE TABLE performance_samples (
    sampled_at timestamptz PRIMARY KEY DEFAULT clock_timestamp(),
    blks_hit   bigint NOT NULL,
    blks_read  bigint NOT NULL,
    deadlocks  bigint NOT NULL,
    commits    bigint NOT NULL,
    rollbacks  bigint NOT NULL
);
COMMENT ON TABLE performance_samples IS 'counters of this cluster over time, written by record_performance_alerts(), kept for a week';

-- SECURITY DEFINER: pg_stat_activity hides other users' sessions from an ordinary role, and the numbers would be wrong.
CREATE FUNCTION performance_facts() RETURNS TABLE (metric text, value double precision)
    LANGUAGE sql STABLE PARALLEL RESTRICTED SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
WITH activity AS (
    SELECT count(*) FILTER (WHERE a.backend_type = 'client backend') AS connections,
           count(*) FILTER (WHERE a.backend_type = 'client backend' AND a.state = 'active') AS active,
           count(*) FILTER (WHERE a.wait_event_type = 'Lock') AS blocked,
           max(extract(epoch FROM clock_timestamp() - a.query_start))
               FILTER (WHERE a.backend_type = 'client backend' AND a.state = 'active' AND a.pid <> pg_backend_pid()) AS longest_query,
           max(extract(epoch FROM clock_timestamp() - a.state_change))
               FILTER (WHERE a.state LIKE 'idle in transaction%') AS longest_idle
      FROM pg_stat_activity AS a
), counters AS (
    SELECT sum(d.blks_hit) AS hit, sum(d.blks_read) AS read, sum(d.deadlocks) AS deadlocks FROM pg_stat_database AS d
), earlier AS (
    -- a reset of the statistics makes counters smaller than a sample: then there is no difference to take
    SELECT s.* FROM arx.performance_samples AS s, counters AS c
     WHERE s.blks_hit <= c.hit AND s.blks_read <= c.read AND s.deadlocks <= c.deadlocks
     ORDER BY s.sampled_at DESC LIMIT 1
)
SELECT f.metric, f.value::double precision
  FROM activity AS a CROSS JOIN counters AS c LEFT JOIN earlier AS e ON true
 CROSS JOIN LATERAL (VALUES
    ('connections', a.connections::numeric),
    ('active_queries', a.active),
    ('connections_used_pct', 100.0 * a.connections / greatest(current_setting('max_connections')::integer
        - current_setting('superuser_reserved_connections')::integer, 1)),
    ('blocked_queries', a.blocked),
    ('longest_query_seconds', coalesce(a.longest_query, 0)),
    ('idle_in_transaction_seconds', coalesce(a.longest_idle, 0)),
    ('cache_hit_pct', 100.0 * (c.hit - coalesce(e.blks_hit, 0))
        / nullif(c.hit + c.read - coalesce(e.blks_hit, 0) - coalesce(e.blks_read, 0), 0)),
    ('cache_blocks', c.hit + c.read - coalesce(e.blks_hit, 0) - coalesce(e.blks_read, 0)),
    ('cache_window_seconds', extract(epoch FROM clock_timestamp() - e.sampled_at)),
    ('deadlocks', c.deadlocks - coalesce(e.deadlocks, 0)),
    ('replication_lag_seconds', CASE WHEN pg_is_in_recovery()
        THEN coalesce(extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()), 0) ELSE 0 END),
    ('xid_age_pct', (SELECT max(100.0 * age(d.datfrozenxid) / 2000000000) FROM pg_database AS d)),
    ('default_partition_rows', (SELECT sum(s.estimated_rows) FROM arx.partition_status AS s WHERE s.is_default))
 ) AS f (metric, value)
 WHERE f.value IS NOT NULL
$$;

CREATE VIEW performance_dashboard AS
SELECT max(f.value) FILTER (WHERE f.metric = 'connections')::bigint AS active_connections,
       max(f.value) FILTER (WHERE f.metric = 'active_queries')::bigint AS active_queries,
       round(max(f.value) FILTER (WHERE f.metric = 'cache_hit_pct')::numeric, 2) AS cache_hit_ratio,
       max(f.value) FILTER (WHERE f.metric = 'blocked_queries')::bigint AS blocked_queries,
       round(max(f.value) FILTER (WHERE f.metric = 'replication_lag_seconds')::numeric, 3) AS replication_lag_seconds,
       round(max(f.value) FILTER (WHERE f.metric = 'connections_used_pct')::numeric, 2) AS connections_used_pct,
       round(max(f.value) FILTER (WHERE f.metric = 'longest_query_seconds')::numeric, 3) AS longest_query_seconds,
       round(max(f.value) FILTER (WHERE f.metric = 'idle_in_transaction_seconds')::numeric, 3) AS idle_in_transaction_seconds,
       max(f.value) FILTER (WHERE f.metric = 'deadlocks')::bigint AS deadlocks,
       make_interval(secs => max(f.value) FILTER (WHERE f.metric = 'cache_window_seconds')) AS sample_age
  FROM arx.performance_facts() AS f;
COMMENT ON VIEW performance_dashboard IS 'one row: sessions, locks, cache hits and deadlocks since the last sample, replication lag';
