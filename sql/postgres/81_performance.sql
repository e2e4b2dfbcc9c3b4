-- Metrics of the server.

-- Counters accumulate since the start of the server; samples allow differences.
CREATE TABLE performance_samples (
    sampled_at timestamptz PRIMARY KEY DEFAULT clock_timestamp(),
    blks_hit   bigint NOT NULL,
    blks_read  bigint NOT NULL,
    deadlocks  bigint NOT NULL,
    commits    bigint NOT NULL,
    rollbacks  bigint NOT NULL,
    requested_checkpoints bigint NOT NULL
);
COMMENT ON TABLE performance_samples IS
    'counters of this cluster over time, written by record_performance_alerts() and kept for a week';

-- SECURITY DEFINER: pg_stat_activity hides the sessions of other users from an ordinary role, so
-- the numbers would be wrong. The function reads the catalog and internal tables alone.
CREATE FUNCTION performance_facts() RETURNS TABLE (metric text, value double precision)
    LANGUAGE sql STABLE PARALLEL RESTRICTED SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
WITH activity AS (
    SELECT count(*) FILTER (WHERE a.backend_type = 'client backend') AS connections,
           count(*) FILTER (WHERE a.backend_type = 'client backend' AND a.state = 'active') AS active,
           count(*) FILTER (WHERE a.wait_event_type = 'Lock') AS blocked,
           max(extract(epoch FROM clock_timestamp() - a.query_start))
               FILTER (WHERE a.backend_type = 'client backend' AND a.state = 'active' AND a.pid <> pg_backend_pid())
               AS longest_query,
           max(extract(epoch FROM clock_timestamp() - a.state_change))
               FILTER (WHERE a.state LIKE 'idle in transaction%') AS longest_idle
      FROM pg_stat_activity AS a
), counters AS (
    SELECT sum(d.blks_hit) AS hit, sum(d.blks_read) AS read, sum(d.deadlocks) AS deadlocks FROM pg_stat_database AS d
), earlier AS (
    -- After a reset of the statistics, counters are smaller than in the sample, which is then
    -- ignored.
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
    -- A standby that has replayed everything it received does not lag, however long ago the last
    -- transaction was. NULL: it replays an archive, and does not know what its primary writes.
    ('replication_lag_seconds', CASE
        WHEN NOT pg_is_in_recovery()
        THEN coalesce((SELECT max(extract(epoch FROM r.replay_lag)) FROM pg_stat_replication AS r WHERE r.state <> 'backup'), 0)
        WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
        WHEN pg_last_wal_receive_lsn() IS NOT NULL
        THEN extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) END),
    ('xid_age_pct', (SELECT max(100.0 * age(d.datfrozenxid) / 2000000000) FROM pg_database AS d)),
    ('default_partition_rows',
     (SELECT sum(greatest(c.reltuples, pg_stat_get_live_tuples(c.oid), 0))
        FROM arx.tracked_partitions AS t JOIN pg_class AS c ON c.oid = t.relid
       WHERE t.topic = 'transfers' AND pg_get_expr(c.relpartbound, 0) = 'DEFAULT')),
    -- The last run of each table counts.
    ('partition_failures',
     (SELECT sum(l.count) FROM (SELECT DISTINCT ON (e.parent) e.count FROM arx.partition_events AS e
                                 WHERE e.action = 'run' AND EXISTS (SELECT FROM pg_class AS c WHERE c.oid = e.parent)
                                 ORDER BY e.parent, e.event_id DESC) AS l))
 ) AS f (metric, value)
$$;

-- Standbys that were connected, so that one that is gone is noticed.
CREATE TABLE seen_standbys (
    name         text PRIMARY KEY,
    last_seen_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE seen_standbys IS 'standbys that take_performance_sample() has seen within the last week';

-- Checkpoints since the statistics were reset that did not wait for checkpoint_timeout.
CREATE FUNCTION requested_checkpoints() RETURNS bigint
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    IF current_setting('server_version_num')::integer >= 170000 THEN
        RETURN (SELECT c.num_requested FROM pg_stat_checkpointer AS c);
    END IF;
    RETURN (SELECT b.checkpoints_req FROM pg_stat_bgwriter AS b);
END;
$$;

-- SECURITY DEFINER: callers have no privileges on the samples.
CREATE FUNCTION take_performance_sample() RETURNS void
    LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
INSERT INTO arx.performance_samples (blks_hit, blks_read, deadlocks, commits, rollbacks, requested_checkpoints)
SELECT sum(d.blks_hit), sum(d.blks_read), sum(d.deadlocks), sum(d.xact_commit), sum(d.xact_rollback),
       arx.requested_checkpoints()
  FROM pg_stat_database AS d;
DELETE FROM arx.performance_samples AS s WHERE s.sampled_at < now() - interval '7 days';
INSERT INTO arx.seen_standbys AS s (name)
SELECT DISTINCT coalesce(nullif(r.application_name, ''), host(r.client_addr), 'standby')
  FROM pg_stat_replication AS r
 WHERE r.state <> 'backup' AND r.application_name !~ '^pg_[0-9]+_sync_'
    ON CONFLICT (name) DO UPDATE SET last_seen_at = excluded.last_seen_at;
DELETE FROM arx.seen_standbys AS s WHERE s.last_seen_at < now() - interval '7 days'
$$;
