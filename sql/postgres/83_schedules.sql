-- Schedules for pg_cron. Functions raise an error when pg_cron is not installed.

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

-- The role that a job runs as: the owner of arx.schedules, who alone may write its rows. So no
-- command runs with more rights than the role that wrote it.
CREATE FUNCTION schedule_owner() RETURNS name
    LANGUAGE plpgsql_as_owner STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    RETURN (SELECT pg_get_userbyid(c.relowner) FROM pg_class AS c WHERE c.oid = 'arx.schedules'::regclass);
END;
$$;

CREATE FUNCTION scheduled_jobs() RETURNS TABLE (job text, schedule text, command text)
    LANGUAGE plpgsql_as_owner STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    RETURN QUERY SELECT s.job, s.schedule, s.command FROM arx.schedules AS s ORDER BY s.job;
END;
$$;

CREATE FUNCTION install_schedules() RETURNS TABLE (job text, schedule text, command text)
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    owner   name := arx.schedule_owner();
    writers text := (SELECT string_agg(DISTINCT a.grantee::regrole::text, ', ')
                       FROM pg_class AS c
                      CROSS JOIN LATERAL (SELECT c.relacl UNION ALL SELECT t.attacl FROM pg_attribute AS t
                                           WHERE t.attrelid = c.oid) AS acl (items)
                      CROSS JOIN LATERAL aclexplode(acl.items) AS a
                      WHERE c.oid = 'arx.schedules'::regclass AND a.grantee <> c.relowner
                        AND a.privilege_type IN ('INSERT', 'UPDATE', 'TRIGGER'));
BEGIN
    PERFORM arx.require_pg_cron();
    IF writers IS NOT NULL THEN
        RAISE EXCEPTION 'arx.schedules can be written by %, whose commands would run as %', writers, owner
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = format('REVOKE INSERT, UPDATE, TRIGGER ON arx.schedules FROM %s.', writers);
    END IF;
    FOR job, schedule, command IN SELECT s.job, s.schedule, s.command FROM arx.scheduled_jobs() AS s LOOP
        -- A job of the same name and user is replaced. Only a superuser may schedule for others.
        IF owner = current_user THEN
            EXECUTE 'SELECT cron.schedule($1, $2, $3)' USING job, schedule, command;
        ELSE
            EXECUTE 'SELECT cron.schedule_in_database($1, $2, $3, current_database(), $4)'
              USING job, schedule, command, owner::text;
        END IF;
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
    EXECUTE 'SELECT count(cron.unschedule(j.jobid)) FROM cron.job AS j JOIN arx.scheduled_jobs() AS s ON s.job = j.jobname '
            'WHERE j.username = arx.schedule_owner() AND j.database = current_database()'
       INTO removed;
    RETURN removed;
END;
$$;
