-- Schedules for pg_cron. Functions raise an error when pg_cron is not installed.

-- A value of a connection string.
CREATE FUNCTION libpq_value(value text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN '''' || pg_catalog.replace(pg_catalog.replace(value, '\', '\\'), '''', '\''') || '''';

-- Runs a statement where pg_cron is: here, or by dblink in the database that cron.database_name
-- names. Returns what the statement returns, one text a row.
CREATE FUNCTION in_pg_cron(statement text) RETURNS SETOF text
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    elsewhere text := nullif(current_setting('cron.database_name', true), current_database());
    dblink    text := (SELECT quote_ident(n.nspname) FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace
                        WHERE e.extname = 'dblink');
BEGIN
    IF EXISTS (SELECT FROM pg_extension AS e WHERE e.extname = 'pg_cron') THEN
        RETURN QUERY EXECUTE in_pg_cron.statement;
    ELSIF elsewhere IS NULL THEN
        RAISE EXCEPTION 'pg_cron is not installed in database "%"', current_database()
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Set shared_preload_libraries = ''pg_cron'' and cron.database_name to this database, '
                         'restart, and run CREATE EXTENSION pg_cron.';
    ELSIF dblink IS NULL THEN
        RAISE EXCEPTION 'pg_cron is not installed in database "%" but in "%"', current_database(), elsewhere
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Run CREATE EXTENSION dblink here, so that ARX can reach it; or run the statements of '
                         'arx.schedule_statements() there.';
    ELSE
        RETURN QUERY EXECUTE format('SELECT r.value FROM %s.dblink($1, $2) AS r (value text)', dblink)
          USING concat_ws(' ', 'dbname=' || arx.libpq_value(elsewhere), 'port=' || current_setting('port'),
                          'host=' || arx.libpq_value(trim(split_part(current_setting('unix_socket_directories'), ',', 1)))),
                in_pg_cron.statement;
    END IF;
END;
$$;

-- Raises an error unless pg_cron can be reached.
CREATE FUNCTION require_pg_cron() RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    PERFORM arx.in_pg_cron('SELECT 1::text');
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

-- The statements that schedule the jobs, to be run in the database of pg_cron: by a superuser,
-- unless the owner of arx.schedules runs them there. pg_cron knows a job by its name and its user,
-- so in another database its name ends with that of this one.
CREATE FUNCTION schedule_statements() RETURNS TABLE (job text, schedule text, command text, statement text)
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    owner name := arx.schedule_owner();
BEGIN
    RETURN QUERY
    SELECT s.job, s.schedule, s.command,
           -- A job of the same name and user is replaced. Only a superuser may schedule for others.
           CASE WHEN EXISTS (SELECT FROM pg_extension AS e WHERE e.extname = 'pg_cron') AND owner = current_user
                THEN format('SELECT cron.schedule(%L, %L, %L)::text', s.job, s.schedule, s.command)
                ELSE format('SELECT cron.schedule_in_database(%L, %L, %L, %L, %L)::text',
                            s.job || CASE WHEN EXISTS (SELECT FROM pg_extension AS e WHERE e.extname = 'pg_cron') THEN ''
                                          ELSE '@' || current_database() END,
                            s.schedule, s.command, current_database(), owner)
           END
      FROM arx.scheduled_jobs() AS s;
END;
$$;

-- Raises an error if another role than the owner can write the commands, which run as the owner.
CREATE FUNCTION reject_schedule_writers() RETURNS void
    LANGUAGE plpgsql STABLE PARALLEL SAFE
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
    IF writers IS NOT NULL THEN
        RAISE EXCEPTION 'arx.schedules can be written by %, whose commands would run as %', writers, owner
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = format('REVOKE INSERT, UPDATE, TRIGGER ON arx.schedules FROM %s.', writers);
    END IF;
END;
$$;

-- Raises an error unless this session may run the schedules: as the owner of arx.schedules, who
-- wrote the commands, and not in addition to pg_cron.
CREATE FUNCTION require_schedules_here() RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    owner name := arx.schedule_owner();
    jobs  bigint := 0;
BEGIN
    IF session_user <> owner THEN
        RAISE EXCEPTION 'the commands of arx.schedules run as their owner %, not as %', owner, session_user
            USING ERRCODE = 'insufficient_privilege', HINT = 'Connect as that role.';
    END IF;
    PERFORM arx.reject_schedule_writers();
    BEGIN
        SELECT sum(r::bigint) INTO jobs FROM arx.in_pg_cron(format(
            'SELECT count(*)::text FROM cron.job AS j WHERE j.jobname = ANY (%L::text[]) AND j.database = %L',
            ARRAY(SELECT s.job || a.suffix FROM arx.scheduled_jobs() AS s, (VALUES (''), ('@' || current_database())) AS a (suffix)), current_database())) AS r;
    EXCEPTION WHEN object_not_in_prerequisite_state THEN
        -- There is no pg_cron.
        NULL;
    END;
    IF jobs > 0 THEN
        RAISE EXCEPTION 'pg_cron runs the schedules of database "%"', current_database()
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'SELECT arx.remove_schedules() ends that.';
    END IF;
END;
$$;

CREATE FUNCTION install_schedules() RETURNS TABLE (job text, schedule text, command text)
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    statement text;
BEGIN
    PERFORM arx.require_pg_cron();
    PERFORM arx.reject_schedule_writers();
    FOR job, schedule, command, statement IN SELECT * FROM arx.schedule_statements() LOOP
        PERFORM arx.in_pg_cron(statement);
        RETURN NEXT;
    END LOOP;
END;
$$;

CREATE FUNCTION remove_schedules() RETURNS bigint
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    PERFORM arx.require_pg_cron();
    RETURN (SELECT sum(r::bigint) FROM arx.in_pg_cron(format(
        'SELECT count(cron.unschedule(j.jobid))::text FROM cron.job AS j '
        'WHERE j.jobname = ANY (%L::text[]) AND j.username = %L AND j.database = %L',
        ARRAY(SELECT s.job || a.suffix FROM arx.scheduled_jobs() AS s, (VALUES (''), ('@' || current_database())) AS a (suffix)), arx.schedule_owner(), current_database())) AS r);
END;
$$;
