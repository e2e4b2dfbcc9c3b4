-- The health of the server and of ARX: measurements, which health_check() compares with the
-- thresholds of alert_rules and alert_thresholds.
--
-- Each group of measurements is taken on its own: one that fails leaves its metrics unknown, and
-- the others as they are. SQL that differs between versions of PostgreSQL is planned only where it
-- is run.

-- Measurements that the database cannot take itself. `since` is a time whose age is the value. A
-- metric of several objects has one row each.
CREATE TABLE sidecar_reports (
    metric      text NOT NULL
        CHECK (metric IN ('cache_lag_seconds', 'queued_writes', 'dead_letters', 'backup_age_seconds', 'backup_check_failed')),
    object      text NOT NULL DEFAULT '',
    value       double precision,
    since       timestamptz,
    cause       text,
    reported_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (metric, object),
    CONSTRAINT sidecar_reports_value CHECK (num_nonnulls(value, since) = 1)
);
COMMENT ON TABLE sidecar_reports IS
    'last measurements of the sidecar in Redis and of backups, for health_check(); delete a row to forget what is no longer used';

-- `otherwise` is the reason why a metric has no measurement where nothing failed.
CREATE FUNCTION health_metrics() RETURNS TABLE (metric text, topic text, description text, otherwise text)
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
VALUES ('longest_query_seconds', 'sessions', 'time that the longest statement has been running', NULL),
       ('longest_transaction_seconds', 'sessions', 'age of the oldest transaction of a client', NULL),
       ('idle_in_transaction_seconds', 'sessions', 'longest time that a session has been idle in a transaction', NULL),
       ('lock_wait_seconds', 'sessions', 'longest time that a session has waited for a lock', NULL),
       ('locks_used_pct', 'sessions', 'share of the lock table that is in use', NULL),
       ('prepared_transaction_seconds', 'sessions', 'age of the oldest prepared transaction', 'no transaction is prepared'),
       ('replication_lag_seconds', 'replication',
        'on a standby the age of what is replayed, 0 if all that was received is; on a primary the lag of its standbys', NULL),
       ('standby_lag_bytes', 'replication', 'write-ahead log that a standby has not replayed', 'no standby is connected'),
       ('standby_lag_seconds', 'replication', 'time that a standby takes to replay', 'no standby is connected'),
       ('standby_missing_seconds', 'replication', 'time since a standby was last connected', 'no standby is missing'),
       ('sync_standbys_missing', 'replication', 'synchronous standbys that commits wait for and that are not connected',
        'commits wait for no standby'),
       ('wal_receiver_down', 'replication', '1 while a standby receives nothing from its primary',
        'this server does not stream from another one'),
       ('replay_paused', 'replication', '1 while the replay of a standby is paused', 'this server is no standby'),
       ('slot_inactive', 'replication', '1 while no one reads from a replication slot', 'no replication slot exists'),
       ('slot_retained_bytes', 'replication', 'write-ahead log that a replication slot holds back', 'no replication slot exists'),
       ('slot_lost', 'replication', '1 while a slot is about to lose log that it needs, 2 once it has lost some',
        'no replication slot exists'),
       ('slot_unlimited', 'replication', '1 while slots may fill the disk: max_slot_wal_keep_size is not set',
        'no replication slot exists'),
       ('subscription_down', 'replication', '1 while a subscription is enabled and has no worker', 'no subscription is enabled'),
       ('archive_failing_seconds', 'archive', 'time since the last file was archived, while archiving fails',
        'archive_mode is off'),
       ('archive_age_seconds', 'archive', 'time since the last file was archived, while log waits that is not archived',
        'this server archives no log'),
       ('wal_pct', 'archive', 'size of pg_wal as a share of max_wal_size', NULL),
       ('xid_age_pct', 'databases', 'share of the transaction ids that the oldest row of a database has used up', NULL),
       ('multixact_age_pct', 'databases', 'the same for multixact ids', NULL),
       ('freeze_age_pct', 'databases', 'age of a database as a share of autovacuum_freeze_max_age', NULL),
       ('checksum_failures', 'databases', 'pages with a wrong checksum', 'data checksums are off'),
       ('pending_restart', 'settings', 'settings that take effect with the next restart', NULL),
       ('requested_checkpoints', 'settings', 'checkpoints since the last sample that did not wait for checkpoint_timeout',
        'no sample has been taken yet'),
       ('disk_used_pct', 'disks', 'used share of the disk of the data directory, the log or a tablespace', NULL),
       ('disk_free_bytes', 'disks', 'free space on these disks', NULL),
       ('dead_rows_pct', 'tables', 'share of dead rows of a table with at least 10,000 of them', 'no table has many dead rows'),
       ('vacuum_age_seconds', 'tables', 'time since the last vacuum of a table with at least 10,000 rows to clean up',
        'no table has many rows to clean up'),
       ('stale_statistics_pct', 'tables', 'rows changed since the last analyze as a share, with at least 10,000 of them',
        'no table has changed much'),
       ('table_bloat_bytes', 'tables', 'space of a table above 100 MB that its rows do not need, estimated',
        'no table is above 100 MB'),
       ('sequence_used_pct', 'tables', 'used share of the numbers of a sequence', 'no sequence is in use'),
       ('invalid_indexes', 'indexes', 'indexes that queries cannot use', NULL),
       ('index_bloat_bytes', 'indexes', 'space that rewriting an index of schema arx would free, estimated',
        'no index needs rewriting'),
       ('failed_jobs', 'jobs', '1 where the last run of a job of pg_cron failed', 'pg_cron is not installed in this database'),
       ('feed_rejects', 'movement', 'rows that ClickHouse cannot hold', NULL),
       ('foreign_positions', 'movement', 'positions that were written in another database or cluster, of which this is a copy',
        NULL),
       ('feed_lag_seconds', 'facts', 'time since a feed last moved, while transactions wait for it', 'no feed has a position'),
       ('job_lag_seconds', 'facts', 'time since a refresh job last ran, while transactions wait for it',
        'no refresh job has a position'),
       ('cache_lag_seconds', 'sidecar', 'age of the snapshot at which the profiles in Redis were last complete',
        'no sidecar has kept profiles in Redis within a week'),
       ('queued_writes', 'sidecar', 'writes that wait in the streams of Redis for PostgreSQL',
        'no sidecar has brought writes from Redis within a week'),
       ('dead_letters', 'sidecar', 'writes in Redis that PostgreSQL rejects',
        'no sidecar has brought writes from Redis within a week'),
       ('backup_age_seconds', 'sidecar', 'age of the newest backup that arx-sidecar backup check has restored',
        'archive_mode is off, and no check of a backup is recorded'),
       ('backup_check_failed', 'sidecar', '1 if the last check of a backup failed',
        'archive_mode is off, and no check of a backup is recorded'),
       ('risk_queue_wallets', 'movement', 'wallets whose risk score is to be computed again', NULL),
       ('risk_queue_seconds', 'movement', 'time that the first of them has waited', NULL),
       ('graph_delta_pct', 'graph', 'changes since the last file of the graph as a share of its transfers', 'the graph has no file yet'),
       ('graph_age_seconds', 'graph', 'age of the last file of the graph, while there are changes since', 'the graph has no file yet'),
       ('default_partition_rows', 'rows', 'rows in a default partition, counted', 'there is no default partition'),
       ('quarantined_rows', 'rows', 'rows with impossible times that were set aside, counted', 'no row was set aside'),
       ('premake_days_left', 'partitions', 'days until the last partition of a table ends',
        'no table has a partition in addition to the default one')
$$;

CREATE FUNCTION unmeasured(topic text, problem text)
    RETURNS TABLE (metric text, object text, value double precision, applies boolean, cause text, statement text)
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
SELECT m.metric, NULL, NULL::double precision, true, 'cannot be measured: ' || unmeasured.problem, NULL
  FROM arx.health_metrics() AS m WHERE m.topic = unmeasured.topic
$$;

-- SECURITY DEFINER: the sessions, slots and statistics of others. The function reads the catalog,
-- statistics views and internal tables alone.
CREATE FUNCTION server_measurements()
    RETURNS TABLE (metric text, object text, value double precision, applies boolean, cause text, statement text)
    LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    AS $$
#variable_conflict use_column
DECLARE
    at_present timestamptz := clock_timestamp();
    is_standby boolean := pg_is_in_recovery();
    present_lsn pg_lsn;
BEGIN
    BEGIN
        RETURN QUERY
        WITH clients AS MATERIALIZED (
            SELECT a.* FROM pg_stat_activity AS a
             WHERE a.backend_type = 'client backend' AND a.pid <> pg_backend_pid()
        )
        SELECT m.metric, NULL::text, coalesce(extract(epoch FROM at_present - w.since), 0)::double precision, true,
               CASE WHEN w.pid IS NOT NULL
                    THEN format('process %s of role %s in database %s', w.pid, w.usename, w.datname) END,
               CASE WHEN w.pid IS NOT NULL THEN format('SELECT %s(%s);', m.remedy, w.pid) END
          FROM (VALUES ('longest_query_seconds', 'pg_cancel_backend'),
                       ('longest_transaction_seconds', 'pg_terminate_backend'),
                       ('idle_in_transaction_seconds', 'pg_terminate_backend')) AS m (metric, remedy)
          LEFT JOIN LATERAL (
            SELECT c.pid, c.usename, c.datname, s.since
              FROM clients AS c
             CROSS JOIN LATERAL (SELECT CASE m.metric
                    WHEN 'longest_query_seconds' THEN CASE WHEN c.state = 'active' THEN c.query_start END
                    WHEN 'longest_transaction_seconds' THEN c.xact_start
                    ELSE CASE WHEN c.state LIKE 'idle in transaction%' THEN c.state_change END END) AS s (since)
             WHERE s.since IS NOT NULL
             ORDER BY s.since, c.pid LIMIT 1) AS w ON true;
        RETURN QUERY
        WITH longest AS MATERIALIZED (
            SELECT l.pid, l.waitstart, pg_blocking_pids(l.pid) AS blockers
              FROM pg_locks AS l WHERE NOT l.granted AND l.waitstart IS NOT NULL
             ORDER BY l.waitstart, l.pid LIMIT 1
        )
        SELECT 'lock_wait_seconds', NULL::text, coalesce(extract(epoch FROM at_present - w.waitstart), 0)::double precision, true,
               CASE WHEN w.pid IS NOT NULL
                    THEN format('process %s waits for %s', w.pid, array_to_string(w.blockers, ', ')) END,
               CASE WHEN w.blockers[1] > 0 THEN format('SELECT pg_terminate_backend(%s);', w.blockers[1]) END
          FROM (VALUES (true)) AS always (is_present) LEFT JOIN longest AS w ON true;
        RETURN QUERY
        SELECT 'locks_used_pct', NULL::text,
               (100.0 * count(*) / greatest(current_setting('max_locks_per_transaction')::bigint
                    * (current_setting('max_connections')::bigint
                       + current_setting('max_prepared_transactions')::bigint), 1))::double precision,
               true, NULL::text, NULL::text
          FROM pg_locks AS l WHERE NOT l.fastpath AND l.locktype NOT IN ('virtualxid');
        RETURN QUERY
        SELECT 'prepared_transaction_seconds', NULL::text, extract(epoch FROM at_present - p.prepared)::double precision, true,
               format('role %s, database %s', p.owner, p.database), format('ROLLBACK PREPARED %L;', p.gid)
          FROM pg_prepared_xacts AS p ORDER BY p.prepared LIMIT 1;
    EXCEPTION WHEN OTHERS THEN
        RETURN QUERY SELECT * FROM arx.unmeasured('sessions', SQLERRM);
    END;

    BEGIN
        -- An idle primary is no lag: time counts only while something is received and not replayed.
        present_lsn := CASE WHEN is_standby THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END;
        RETURN QUERY
        WITH standbys AS MATERIALIZED (
            SELECT coalesce(nullif(r.application_name, ''), host(r.client_addr), 'standby') AS name,
                   max(pg_wal_lsn_diff(present_lsn, coalesce(r.replay_lsn, r.flush_lsn, r.sent_lsn))) AS bytes,
                   coalesce(max(r.replay_lag), '0') AS lag, min(r.state) AS state
              FROM pg_stat_replication AS r
             WHERE r.state <> 'backup' AND r.application_name !~ '^pg_[0-9]+_sync_'
             GROUP BY 1
        )
        SELECT 'replication_lag_seconds', NULL::text,
               CASE WHEN NOT is_standby
                    THEN coalesce((SELECT max(extract(epoch FROM s.lag)) FROM standbys AS s), 0)
                    WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
                    WHEN pg_last_wal_receive_lsn() IS NULL THEN NULL
                    ELSE extract(epoch FROM at_present - pg_last_xact_replay_timestamp()) END::double precision,
               true,
               CASE WHEN is_standby AND pg_last_wal_receive_lsn() IS NULL
                    THEN 'cannot be measured: this server replays an archive, and does not know what its primary writes' END,
               NULL::text
        UNION ALL
        SELECT 'standby_lag_bytes', s.name, greatest(s.bytes, 0)::double precision, true, 'state ' || s.state, NULL FROM standbys AS s
        UNION ALL
        SELECT 'standby_lag_seconds', s.name, extract(epoch FROM s.lag)::double precision, true, 'state ' || s.state, NULL
          FROM standbys AS s
        UNION ALL
        SELECT 'standby_missing_seconds', k.name, extract(epoch FROM at_present - k.last_seen_at)::double precision, true,
               'it was last connected at ' || to_char(k.last_seen_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS"Z"'),
               format('SELECT arx.forget_standby(%L);', k.name)
          FROM arx.seen_standbys AS k
         WHERE NOT is_standby AND k.name NOT IN (SELECT s.name FROM standbys AS s);
        IF NOT is_standby AND current_setting('synchronous_standby_names') <> '' THEN
            RETURN QUERY
            SELECT 'sync_standbys_missing', NULL::text, greatest(n.needed - n.connected, 0)::double precision, true,
                   format('%s of %s are connected, synchronous_standby_names is ''%s''', n.connected, n.needed, n.names),
                   CASE WHEN n.connected < n.needed THEN 'ALTER SYSTEM SET synchronous_standby_names = ''''; SELECT pg_reload_conf();' END
              FROM (SELECT v.names, coalesce(substring(v.names FROM '(?i)^\s*(?:any|first)?\s*(\d+)\s*\(')::integer, 1) AS needed,
                           (SELECT count(*) FROM pg_stat_replication AS r WHERE r.sync_state IN ('sync', 'quorum')) AS connected
                      FROM (SELECT current_setting('synchronous_standby_names') AS names) AS v) AS n;
        END IF;
        IF is_standby THEN
            RETURN QUERY
            SELECT 'replay_paused', NULL::text, CASE WHEN pg_is_wal_replay_paused() THEN 1.0 ELSE 0.0 END::double precision, true,
                   NULL::text, 'SELECT pg_wal_replay_resume();';
            IF current_setting('primary_conninfo') <> '' THEN
                RETURN QUERY
                SELECT 'wal_receiver_down', NULL::text,
                       CASE WHEN EXISTS (SELECT FROM pg_stat_wal_receiver AS w WHERE w.status = 'streaming') THEN 0.0
                            ELSE 1.0 END::double precision,
                       true, 'nothing arrives from the primary: is it up, and does it accept this server?'::text, NULL::text;
            END IF;
        END IF;
        RETURN QUERY
        WITH slots AS MATERIALIZED (SELECT s.* FROM pg_replication_slots AS s WHERE NOT s.temporary)
        SELECT m.metric, s.slot_name::text, m.value::double precision, true,
               format('%s slot, %s, its log is %s', s.slot_type, CASE WHEN s.active THEN 'in use' ELSE 'not in use' END,
                      coalesce(s.wal_status, 'not reserved')),
               CASE WHEN NOT s.active THEN format('SELECT pg_drop_replication_slot(%L);', s.slot_name) END
          FROM slots AS s
         CROSS JOIN LATERAL (VALUES
            ('slot_inactive', CASE WHEN s.active THEN 0 ELSE 1 END::numeric),
            ('slot_retained_bytes', greatest(pg_wal_lsn_diff(present_lsn, s.restart_lsn), 0)),
            ('slot_lost', CASE s.wal_status WHEN 'lost' THEN 2 WHEN 'unreserved' THEN 1 ELSE 0 END)) AS m (metric, value)
         WHERE m.value IS NOT NULL
        UNION ALL
        SELECT 'slot_unlimited', NULL, CASE WHEN current_setting('max_slot_wal_keep_size') = '-1' THEN 1.0 ELSE 0.0 END::double precision,
               true, NULL, 'ALTER SYSTEM SET max_slot_wal_keep_size = ''50GB'';'
         WHERE EXISTS (SELECT FROM slots);
        RETURN QUERY
        SELECT 'subscription_down', s.subname::text,
               CASE WHEN EXISTS (SELECT FROM pg_stat_subscription AS w WHERE w.subid = s.oid AND w.pid IS NOT NULL)
                    THEN 0.0 ELSE 1.0 END::double precision,
               true, 'see the log of the server for the reason'::text, NULL::text
          FROM pg_subscription AS s
          JOIN pg_database AS d ON d.oid = s.subdbid
         WHERE s.subenabled AND d.datname = current_database();
    EXCEPTION WHEN OTHERS THEN
        RETURN QUERY SELECT * FROM arx.unmeasured('replication', SQLERRM);
    END;

    BEGIN
        IF current_setting('archive_mode') <> 'off' THEN
            RETURN QUERY
            SELECT 'archive_failing_seconds', NULL::text,
                   CASE WHEN a.last_failed_time > coalesce(a.last_archived_time, '-infinity')
                        THEN extract(epoch FROM at_present - coalesce(a.last_archived_time, a.stats_reset, a.last_failed_time))
                        ELSE 0 END::double precision,
                   true, format('%s failures, last with %s', a.failed_count, a.last_failed_wal), NULL::text
              FROM pg_stat_archiver AS a;
        END IF;
        IF current_setting('archive_mode') = 'always' OR (current_setting('archive_mode') = 'on' AND NOT is_standby) THEN
            present_lsn := CASE WHEN is_standby THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END;
            RETURN QUERY
            -- An idle server archives nothing. The first page of a segment is only its header. With
            -- archive_timeout, a segment that is not full becomes due later.
            SELECT 'archive_age_seconds', NULL::text,
                   CASE WHEN w.bytes > CASE WHEN current_setting('archive_timeout') = '0' THEN 8192 ELSE w.size END
                        THEN extract(epoch FROM at_present - coalesce(w.last_archived_time, w.stats_reset, pg_postmaster_start_time()))
                        ELSE 0 END::double precision,
                   true, format('%s wait since %s', pg_size_pretty(w.bytes), coalesce(w.last_archived_wal, 'the first file')),
                   CASE WHEN current_setting('archive_timeout') = '0'
                        THEN 'ALTER SYSTEM SET archive_timeout = ''5min''; SELECT pg_reload_conf();' END
              FROM (SELECT a.*, s.size, greatest(pg_wal_lsn_diff(present_lsn, '0/0') - f.until, 0)::bigint AS bytes
                      FROM pg_stat_archiver AS a
                     CROSS JOIN (SELECT s.setting::bigint AS size FROM pg_settings AS s WHERE s.name = 'wal_segment_size') AS s
                     -- The position after the archived file. Names of timelines have none.
                     CROSS JOIN LATERAL (SELECT CASE WHEN a.last_archived_wal ~ '^[0-9A-F]{24}' THEN
                            (('x' || substr(a.last_archived_wal, 9, 8))::bit(32)::bigint * (4294967296 / s.size)
                             + ('x' || substr(a.last_archived_wal, 17, 8))::bit(32)::bigint + 1) * s.size
                            ELSE 0 END AS until) AS f) AS w;
        END IF;
        RETURN QUERY
        SELECT 'wal_pct', NULL::text,
               (100.0 * sum(w.size) / (SELECT s.setting::bigint * 1048576 FROM pg_settings AS s WHERE s.name = 'max_wal_size'))::double precision,
               true, format('%s in pg_wal', pg_size_pretty(sum(w.size))), NULL::text
          FROM pg_ls_waldir() AS w;
    EXCEPTION WHEN OTHERS THEN
        RETURN QUERY SELECT * FROM arx.unmeasured('archive', SQLERRM);
    END;

    BEGIN
        RETURN QUERY
        SELECT m.metric, d.datname::text, m.value::double precision, true, NULL::text, m.statement
          FROM pg_database AS d
         CROSS JOIN LATERAL (VALUES
            ('xid_age_pct', 100.0 * age(d.datfrozenxid) / 2000000000, 'VACUUM (FREEZE);'),
            ('multixact_age_pct', 100.0 * mxid_age(d.datminmxid) / 2000000000, 'VACUUM (FREEZE);'),
            ('freeze_age_pct', 100.0 * age(d.datfrozenxid) / current_setting('autovacuum_freeze_max_age')::bigint,
             'VACUUM (FREEZE);')) AS m (metric, value, statement);
        IF current_setting('data_checksums') = 'on' THEN
            RETURN QUERY
            SELECT 'checksum_failures', coalesce(s.datname, 'shared relations')::text, s.checksum_failures::double precision, true,
                   'last at ' || to_char(s.checksum_last_failure AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS"Z"'), NULL::text
              FROM pg_stat_database AS s WHERE s.checksum_failures IS NOT NULL;
        END IF;
    EXCEPTION WHEN OTHERS THEN
        RETURN QUERY SELECT * FROM arx.unmeasured('databases', SQLERRM);
    END;

    BEGIN
        RETURN QUERY
        SELECT 'pending_restart', NULL::text, count(*)::double precision, true, string_agg(s.name, ', ' ORDER BY s.name), NULL::text
          FROM pg_settings AS s WHERE s.pending_restart;
        RETURN QUERY
        SELECT 'requested_checkpoints', NULL::text, (arx.requested_checkpoints() - p.requested_checkpoints)::double precision,
               true, NULL::text, 'ALTER SYSTEM SET max_wal_size = ''8GB''; SELECT pg_reload_conf();'
          FROM (SELECT s.requested_checkpoints FROM arx.performance_samples AS s ORDER BY s.sampled_at DESC LIMIT 1) AS p
         WHERE p.requested_checkpoints <= arx.requested_checkpoints();
    EXCEPTION WHEN OTHERS THEN
        RETURN QUERY SELECT * FROM arx.unmeasured('settings', SQLERRM);
    END;

    BEGIN
        RETURN QUERY
        SELECT m.metric, p.name, m.value, true,
               coalesce('cannot be measured: ' || u.problem, p.path), NULL::text
          FROM (SELECT 'data directory', current_setting('data_directory')
                UNION ALL SELECT 'write-ahead log', current_setting('data_directory') || '/pg_wal'
                UNION ALL SELECT 'tablespace ' || t.spcname, pg_tablespace_location(t.oid)
                            FROM pg_tablespace AS t WHERE pg_tablespace_location(t.oid) <> '') AS p (name, path)
         CROSS JOIN LATERAL arx.disk_usage(p.path) AS u
         CROSS JOIN LATERAL (VALUES ('disk_used_pct', u.used_pct), ('disk_free_bytes', u.free_bytes)) AS m (metric, value);
    EXCEPTION WHEN OTHERS THEN
        RETURN QUERY SELECT * FROM arx.unmeasured('disks', SQLERRM);
    END;

    BEGIN
        RETURN QUERY
        WITH tables AS MATERIALIZED (
            SELECT s.*, format('%I.%I', s.schemaname, s.relname) AS name FROM pg_stat_user_tables AS s
        )
        (SELECT 'dead_rows_pct', t.name, 100.0::double precision * t.n_dead_tup / (t.n_live_tup + t.n_dead_tup), true,
                format('%s dead rows', t.n_dead_tup), format('VACUUM (ANALYZE) %s;', t.name)
           FROM tables AS t WHERE t.n_dead_tup >= 10000
          ORDER BY 3 DESC LIMIT 50)
        UNION ALL
        (SELECT 'vacuum_age_seconds', t.name,
                extract(epoch FROM at_present - greatest(t.last_vacuum, t.last_autovacuum))::double precision, true,
                format('%s rows to clean up', t.n_dead_tup + t.n_ins_since_vacuum), format('VACUUM (ANALYZE) %s;', t.name)
           FROM tables AS t
          WHERE t.n_dead_tup + t.n_ins_since_vacuum >= 10000 AND (t.last_vacuum, t.last_autovacuum) IS DISTINCT FROM (NULL, NULL)
          ORDER BY 3 DESC LIMIT 50)
        UNION ALL
        (SELECT 'stale_statistics_pct', t.name, 100.0::double precision * t.n_mod_since_analyze / greatest(t.n_live_tup, 1), true,
                format('%s rows changed', t.n_mod_since_analyze), format('ANALYZE %s;', t.name)
           FROM tables AS t WHERE t.n_mod_since_analyze >= 10000
          ORDER BY 3 DESC LIMIT 50);
        RETURN QUERY
        -- Estimated as by check_postgres: pages that the rows, at their average width, do not need.
        SELECT 'table_bloat_bytes', format('%I.%I', n.nspname, c.relname),
               greatest(c.relpages - ceil(c.reltuples * (w.width + 28) / (0.95 * (b.size - 24))), 0)::double precision * b.size, true,
               format('%s on disk', pg_size_pretty(c.relpages::bigint * b.size)), format('VACUUM (FULL) %I.%I;', n.nspname, c.relname)
          FROM pg_class AS c
          JOIN pg_namespace AS n ON n.oid = c.relnamespace
         CROSS JOIN (SELECT current_setting('block_size')::integer AS size) AS b
         CROSS JOIN LATERAL (SELECT coalesce(sum((1 - s.stanullfrac) * s.stawidth), 0) AS width
                               FROM pg_statistic AS s WHERE s.starelid = c.oid AND NOT s.stainherit) AS w
         WHERE c.relkind IN ('r', 'm') AND c.relpages > 12800 AND c.reltuples > 0 AND w.width > 0
           AND n.nspname NOT IN ('pg_catalog', 'pg_toast')
         ORDER BY 3 DESC LIMIT 50;
        RETURN QUERY
        SELECT 'sequence_used_pct', format('%I.%I', s.schemaname, s.sequencename), 100.0::double precision * s.last_value / s.max_value,
               true, format('%s of %s', s.last_value, s.max_value), NULL::text
          FROM pg_sequences AS s
         WHERE s.last_value > 0 AND s.increment_by > 0 AND NOT s.cycle AND s.max_value > 0
         ORDER BY 3 DESC LIMIT 50;
    EXCEPTION WHEN OTHERS THEN
        RETURN QUERY SELECT * FROM arx.unmeasured('tables', SQLERRM);
    END;

    BEGIN
        RETURN QUERY
        SELECT 'premake_days_left', format('arx.%I', t.root), max(extract(epoch FROM t.range_to - now()) / 86400)::double precision, true,
               'the last partition ends at ' || to_char(max(t.range_to) AT TIME ZONE 'UTC', 'YYYY-MM-DD'),
               'SELECT * FROM arx.run_partition_maintenance();'
          FROM arx.tracked_partitions AS t
         WHERE t.topic = 'transfers' AND isfinite(t.range_to)
         GROUP BY t.root;
    EXCEPTION WHEN OTHERS THEN
        RETURN QUERY SELECT * FROM arx.unmeasured('partitions', SQLERRM);
    END;

    BEGIN
        RETURN QUERY
        SELECT 'invalid_indexes', NULL::text, count(*)::double precision, true,
               string_agg(format('%I.%I', n.nspname, c.relname), ', ' ORDER BY n.nspname, c.relname),
               min(format('REINDEX INDEX CONCURRENTLY %I.%I;', n.nspname, c.relname))
          FROM pg_index AS i
          JOIN pg_class AS c ON c.oid = i.indexrelid AND c.relkind = 'i'
          JOIN pg_namespace AS n ON n.oid = c.relnamespace
         WHERE NOT i.indisvalid AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index AS p WHERE p.index_relid = i.indexrelid);
        RETURN QUERY
        -- The estimate of index_maintenance_plan(), for large indexes alone.
        WITH large AS MATERIALIZED (
            SELECT c.oid, n.nspname, c.relname, c.relpages, arx.index_pages_needed(c.oid) AS needed
              FROM pg_namespace AS n
              JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relkind = 'i' AND c.relpages > 128 AND c.reltuples >= 0
              JOIN pg_index AS i ON i.indexrelid = c.oid AND i.indisvalid
              JOIN pg_am AS a ON a.oid = c.relam AND a.amname = 'btree'
             WHERE n.nspname = 'arx'
        ), ideal AS MATERIALIZED (
            SELECT l.*, coalesce(ceil(arx.measured_density(l.oid) / 0.9 * l.relpages)::numeric, l.needed) AS pages
              FROM large AS l WHERE l.needed < 0.7 * l.relpages AND l.relpages <= 131072
            UNION ALL
            SELECT l.*, l.needed FROM large AS l WHERE l.needed < 0.7 * l.relpages AND l.relpages > 131072
        )
        SELECT 'index_bloat_bytes', format('%I.%I', i.nspname, i.relname),
               greatest((i.relpages - i.pages) * current_setting('block_size')::bigint, 0)::double precision, true,
               format('%s %% of %s pages are bloat', round(100 * (1 - i.pages / i.relpages)), i.relpages),
               format('REINDEX INDEX CONCURRENTLY %I.%I;', i.nspname, i.relname)
          FROM ideal AS i
         WHERE i.pages < 0.6 * i.relpages
         ORDER BY 3 DESC LIMIT 50;
    EXCEPTION WHEN OTHERS THEN
        RETURN QUERY SELECT * FROM arx.unmeasured('indexes', SQLERRM);
    END;

    BEGIN
        -- Another relation of that name may run code of its owner.
        IF (SELECT count(*) = 2 FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
             WHERE e.extname = 'pg_cron' AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
               AND d.classid = 'pg_class'::regclass
               AND d.objid IN (to_regclass('cron.job'), to_regclass('cron.job_run_details'))) THEN
            RETURN QUERY EXECUTE $jobs$
            SELECT 'failed_jobs', j.jobname::text, CASE WHEN d.status = 'failed' THEN 1.0 ELSE 0.0 END::double precision, true,
                   'last run at ' || to_char(d.start_time AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS"Z"'),
                   'SELECT * FROM cron.job_run_details ORDER BY runid DESC LIMIT 20;'
              FROM cron.job AS j
             CROSS JOIN LATERAL (SELECT r.status, r.start_time FROM cron.job_run_details AS r
                                  WHERE r.jobid = j.jobid AND r.status IN ('failed', 'succeeded')
                                  ORDER BY r.runid DESC LIMIT 1) AS d
             WHERE j.jobname IS NOT NULL$jobs$;
        END IF;
    EXCEPTION WHEN OTHERS THEN
        RETURN QUERY SELECT * FROM arx.unmeasured('jobs', SQLERRM);
    END;

    BEGIN
        RETURN QUERY
        SELECT 'feed_rejects', NULL::text, count(*)::double precision, true, min(r.reason),
               'SELECT * FROM arx.feed_rejects ORDER BY first_seen;'
          FROM arx.feed_rejects AS r;
        RETURN QUERY
        SELECT 'foreign_positions', NULL::text, count(*)::double precision, true, string_agg(p.consumer, ', ' ORDER BY p.consumer),
               NULL::text
          FROM arx.feed_positions AS p
         WHERE p.system_identifier <> (SELECT c.system_identifier FROM pg_control_system() AS c)
            OR p.database_oid <> (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database());
        RETURN QUERY
        SELECT m.metric, NULL::text, m.value::double precision, true, NULL::text, 'CALL arx.refresh_risk_scores();'
          FROM (SELECT count(*) AS wallets, coalesce(extract(epoch FROM at_present - min(q.queued_at)), 0) AS waiting
                  FROM arx.risk_queue AS q) AS q
         CROSS JOIN LATERAL (VALUES ('risk_queue_wallets', q.wallets::numeric), ('risk_queue_seconds', q.waiting)) AS m (metric, value);
    EXCEPTION WHEN OTHERS THEN
        RETURN QUERY SELECT * FROM arx.unmeasured('movement', SQLERRM);
    END;

    BEGIN
        -- A count that is two minutes old is unknown; after a week, it is taken for one of
        -- something that is no longer used.
        RETURN QUERY
        SELECT r.metric, nullif(r.object, ''), v.value, true,
               CASE WHEN v.value IS NULL
                    THEN 'cannot be measured: the sidecar last reported at '
                         || to_char(r.reported_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS"Z"')
                    WHEN r.metric = 'cache_lag_seconds'
                    THEN (SELECT format('%s transactions behind', pg_snapshot_xmax(pg_current_snapshot())::text::numeric
                                                                  - pg_snapshot_xmax(p.position)::text::numeric)
                            FROM arx.feed_positions AS p WHERE p.consumer = 'cache')
                    ELSE r.cause END,
               NULL::text
          FROM arx.sidecar_reports AS r
         CROSS JOIN LATERAL (SELECT CASE WHEN r.since IS NOT NULL THEN greatest(extract(epoch FROM at_present - r.since), 0)
                    WHEN r.metric NOT IN ('queued_writes', 'dead_letters') OR r.reported_at > at_present - interval '2 minutes'
                    THEN r.value END::double precision) AS v (value)
         WHERE starts_with(r.metric, 'backup_') OR r.reported_at > at_present - interval '7 days';
        RETURN QUERY
        SELECT 'cache_lag_seconds', NULL::text, NULL::double precision, true,
               'cannot be measured: a sidecar follows the profiles, and has applied no snapshot yet', NULL::text
          FROM arx.feed_positions AS p
         WHERE p.consumer = 'cache' AND p.position IS NULL
           AND NOT EXISTS (SELECT FROM arx.sidecar_reports AS r WHERE r.metric = 'cache_lag_seconds');
        RETURN QUERY
        SELECT m.metric, NULL::text, NULL::double precision, true,
               'has no value: log is archived, and no check of a backup is recorded (arx-sidecar backup check --record)', NULL::text
          FROM (VALUES ('backup_age_seconds'), ('backup_check_failed')) AS m (metric)
         WHERE current_setting('archive_mode') <> 'off'
           AND NOT EXISTS (SELECT FROM arx.sidecar_reports AS r WHERE r.metric = m.metric);
    EXCEPTION WHEN OTHERS THEN
        RETURN QUERY SELECT * FROM arx.unmeasured('sidecar', SQLERRM);
    END;

    BEGIN
        RETURN QUERY
        SELECT m.metric, NULL::text, m.value::double precision, true, g.state, 'SELECT * FROM arx.refresh_graph();'
          FROM arx.graph_status() AS g
         CROSS JOIN LATERAL (VALUES
            ('graph_delta_pct', 100.0 * g.delta_rows / greatest(g.transfers, 1)),
            ('graph_age_seconds', CASE WHEN g.delta_rows > 0 THEN extract(epoch FROM g.snapshot_age) ELSE 0 END)) AS m (metric, value)
         WHERE g.generation IS NOT NULL;
    EXCEPTION WHEN OTHERS THEN
        RETURN QUERY SELECT * FROM arx.unmeasured('graph', SQLERRM);
    END;
END;
$$;

-- Tables whose rows are out of place, with the number of rows. SECURITY DEFINER: readers have no
-- privilege on partitions. Counts tables of superusers alone: others may run code of their owner.
CREATE FUNCTION misplaced_rows() RETURNS TABLE (metric text, relation regclass, row_count bigint, problem text)
    LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET row_security = off
    AS $$
#variable_conflict use_column
DECLARE
    is_trusted boolean;
BEGIN
    FOR metric, relation, is_trusted IN
        SELECT w.metric, c.oid, r.rolsuper
          FROM (SELECT t.relid AS oid, 'default_partition_rows' AS metric
                  FROM arx.tracked_partitions AS t JOIN pg_class AS p ON p.oid = t.relid
                 WHERE t.topic = 'transfers' AND pg_get_expr(p.relpartbound, 0) = 'DEFAULT'
                UNION ALL
                SELECT p.oid, 'quarantined_rows'
                  FROM pg_class AS p
                 WHERE p.relnamespace = to_regnamespace('arx') AND p.relname LIKE '%\_quarantine') AS w
          JOIN pg_class AS c ON c.oid = w.oid AND c.relkind = 'r'
          JOIN pg_roles AS r ON r.oid = c.relowner
         ORDER BY 1, 2
    LOOP
        row_count := NULL;
        problem := NULL;
        IF is_trusted THEN
            BEGIN
                EXECUTE format('SELECT count(*) FROM %s', relation) INTO row_count;
            EXCEPTION WHEN OTHERS THEN
                problem := SQLERRM;
            END;
        END IF;
        RETURN NEXT;
    END LOOP;
END;
$$;

-- Counts of rows, and whether any wait, with the rights of the tables' owner, or of the caller.
CREATE FUNCTION table_measurements()
    RETURNS TABLE (metric text, object text, value double precision, applies boolean, cause text, statement text)
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    SET row_security = off
    SET jit = off
    AS $$
#variable_conflict use_column
DECLARE
    relation record;
    is_waiting boolean;
BEGIN
    BEGIN
        FOR relation IN SELECT m.* FROM arx.misplaced_rows() AS m LOOP
            metric := relation.metric;
            object := relation.relation::text;
            value := relation.row_count;
            applies := true;
            cause := 'cannot be measured: ' || relation.problem;
            statement := CASE relation.metric WHEN 'default_partition_rows' THEN 'SELECT * FROM arx.run_partition_maintenance();' END;
            IF value IS NULL AND cause IS NULL THEN
                BEGIN
                    EXECUTE format('SELECT count(*) FROM %s', relation.relation) INTO value;
                EXCEPTION WHEN OTHERS THEN
                    cause := 'cannot be measured: ' || SQLERRM;
                END;
            END IF;
            RETURN NEXT;
        END LOOP;
    EXCEPTION WHEN OTHERS THEN
        RETURN QUERY SELECT * FROM arx.unmeasured('rows', SQLERRM);
    END;
    BEGIN
        -- A consumer that has read everything is not late, however long ago that was.
        FOR relation IN
            SELECT p.consumer, p.position, p.updated_at, s.job
              FROM arx.feed_positions AS p
             CROSS JOIN LATERAL (SELECT CASE p.consumer
                    WHEN 'wallet_profiles' THEN 'SELECT arx.refresh_wallet_profiles();'
                    WHEN 'daily_transaction_stats' THEN 'SELECT arx.refresh_daily_stats();'
                    WHEN 'risk_scores' THEN 'CALL arx.refresh_risk_scores();'
                    WHEN 'wallet_alerts' THEN 'SELECT * FROM arx.check_wallet_alerts();'
                    WHEN 'watchlists' THEN 'SELECT * FROM arx.rescreen_watchlists();' END) AS s (job)
             WHERE p.position IS NOT NULL AND p.consumer <> 'cache' AND p.consumer NOT LIKE 'pattern %'
             ORDER BY p.consumer
        LOOP
            is_waiting := EXISTS (SELECT FROM arx.transactions AS t WHERE arx.is_new_since(t.ingest_xid, relation.position))
                       OR EXISTS (SELECT FROM arx.internal_transfers AS t WHERE arx.is_new_since(t.ingest_xid, relation.position))
                       OR EXISTS (SELECT FROM arx.token_transfers AS t WHERE arx.is_new_since(t.ingest_xid, relation.position));
            metric := CASE WHEN relation.job IS NULL THEN 'feed_lag_seconds' ELSE 'job_lag_seconds' END;
            object := relation.consumer;
            value := CASE WHEN is_waiting THEN extract(epoch FROM clock_timestamp() - relation.updated_at) ELSE 0 END;
            applies := true;
            cause := CASE WHEN is_waiting THEN 'transactions wait' ELSE 'nothing waits' END;
            statement := relation.job;
            RETURN NEXT;
        END LOOP;
    EXCEPTION WHEN OTHERS THEN
        RETURN QUERY SELECT * FROM arx.unmeasured('facts', SQLERRM);
    END;
END;
$$;

CREATE FUNCTION health_facts()
    RETURNS TABLE (metric text, object text, value double precision, applies boolean, cause text, statement text)
    LANGUAGE sql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    AS $$
WITH measured AS MATERIALIZED (
    SELECT m.* FROM arx.server_measurements() AS m
    UNION ALL SELECT m.* FROM arx.table_measurements() AS m
), present AS MATERIALIZED (
    SELECT m.* FROM measured AS m
    UNION ALL
    SELECT f.metric, NULL, f.value, true, CASE WHEN f.value IS NULL THEN 'has no value at present' END, NULL
      FROM arx.performance_facts() AS f
     WHERE f.metric NOT IN (SELECT m.metric FROM measured AS m)
)
SELECT p.* FROM present AS p
UNION ALL
SELECT m.metric, NULL, NULL, m.otherwise IS NULL, coalesce(m.otherwise, 'has no value at present'), NULL
  FROM arx.health_metrics() AS m
 WHERE m.metric NOT IN (SELECT p.metric FROM present AS p)
$$;

-- SECURITY DEFINER: no role has a privilege on the table.
CREATE FUNCTION forget_standby(name text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    IF forget_standby.name IS NULL THEN
        RAISE EXCEPTION 'name must not be null' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    DELETE FROM arx.seen_standbys AS s WHERE s.name = forget_standby.name;
    RETURN FOUND;
END;
$$;
