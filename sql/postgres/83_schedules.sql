-- Schedules for pg_cron. Functions raise an error when pg_cron is not installed.

CREATE TABLE schedules (
    job      text PRIMARY KEY,
    schedule text NOT NULL,
    command  text NOT NULL
);
COMMENT ON TABLE schedules IS 'jobs that install_schedules() schedules with pg_cron';
INSERT INTO schedules (job, schedule, command) VALUES
    ('partition-maintenance', '15 0 * * *',   'SELECT count(*) FROM arx.run_partition_maintenance()'),
    ('refresh-daily-stats',   '0 * * * *',    'SELECT arx.refresh_daily_stats()'),
    ('refresh-graph',         '*/5 * * * *',  'SELECT outcome FROM arx.refresh_graph()'),
    ('refresh-wallets',       '*/10 * * * *', 'SELECT arx.refresh_wallet_profiles()'),
    ('refresh-risk-scores',   '5-59/10 * * * *', 'CALL arx.refresh_risk_scores()'),
    ('refresh-patterns',      '30 3 * * *',
     'SELECT count(*) FROM arx.networks AS n CROSS JOIN LATERAL arx.refresh_patterns(network => n.network) AS r '
     'WHERE EXISTS (SELECT FROM arx.wallet_profiles AS p WHERE p.network_type = n.network)'),
    ('update-stats',          '0 2 * * *',    'SELECT count(*) FROM arx.update_table_statistics()'),
    ('performance-alerts',    '*/5 * * * *',  'SELECT arx.record_performance_alerts()');

CREATE FUNCTION require_pg_cron() RETURNS void
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_extension AS e WHERE e.extname = 'pg_cron') THEN
        RAISE EXCEPTION 'pg_cron is not installed in database "%"', current_database()
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Set shared_preload_libraries = ''pg_cron'' and cron.database_name to this database, '
                         'restart, and run CREATE EXTENSION pg_cron.';
    END IF;
END;
$$;

CREATE FUNCTION install_schedules() RETURNS TABLE (job text, schedule text, command text)
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    PERFORM arx.require_pg_cron();
    FOR job, schedule, command IN SELECT s.job, s.schedule, s.command FROM arx.schedules AS s ORDER BY s.job LOOP
        -- A job of the same name and user is replaced.
        EXECUTE 'SELECT cron.schedule($1, $2, $3)' USING job, schedule, command;
        RETURN NEXT;
    END LOOP;
END;
$$;

CREATE FUNCTION remove_schedules() RETURNS bigint
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    removed bigint;
BEGIN
    PERFORM arx.require_pg_cron();
    EXECUTE 'SELECT count(cron.unschedule(j.jobid)) FROM cron.job AS j JOIN arx.schedules AS s ON s.job = j.jobname '
            'WHERE j.username = current_user'
       INTO removed;
    RETURN removed;
END;
$$;
