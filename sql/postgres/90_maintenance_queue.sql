-- Work of upkeep that cannot run inside a function: one queue, from which `arx-sidecar maintain`
-- takes a task at a time and runs it as a statement of its own. A task names an object by its OID;
-- its statement is composed from the catalog when it is taken, so no text of the queue is executed.
-- The task of a session that has ended is taken again.

CREATE TABLE maintenance_queue (
    task_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind          text NOT NULL CHECK (kind IN ('reindex', 'drop index', 'detach', 'archive')),
    -- The index, or the partition.
    relation      oid NOT NULL,
    parent        oid,
    name          text NOT NULL,
    reason        text NOT NULL,
    bounds        text,
    key_from      bigint,
    key_to        bigint,
    state         text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'done', 'failed', 'obsolete')),
    attempts      integer NOT NULL DEFAULT 0,
    queued_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at    timestamptz,
    finished_at   timestamptz,
    error         text,
    pid           integer,
    backend_start timestamptz
);
COMMENT ON TABLE maintenance_queue IS
    'work that arx-sidecar maintain runs as statements of their own: reindex, drop index, detach, archive; kept for 90 days';
CREATE UNIQUE INDEX idx_maintenance_queue_open ON maintenance_queue (kind, relation) WHERE state IN ('waiting', 'running');

-- SECURITY DEFINER: callers have no privileges on the queue.
CREATE FUNCTION queue_task(
    kind text, relation oid, parent oid, name text, reason text, bounds text, key_from bigint, key_to bigint
) RETURNS boolean
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO arx.maintenance_queue (kind, relation, parent, name, reason, bounds, key_from, key_to)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        ON CONFLICT (kind, relation) WHERE state IN ('waiting', 'running') DO NOTHING;
    RETURN FOUND;
END;
$$;

-- Queues what is due and not queued yet, and returns the number of new tasks.
CREATE FUNCTION queue_maintenance() RETURNS bigint
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    managed regclass;
    queued  bigint := 0;
    added   bigint;
BEGIN
    SELECT count(*) FILTER (WHERE arx.queue_task(CASE p.action WHEN 'drop' THEN 'drop index' ELSE 'reindex' END,
                                                 to_regclass(p.index_name), NULL, p.index_name, p.reason, NULL, NULL, NULL))
      INTO queued
      FROM arx.index_maintenance_plan() AS p
     WHERE p.statement IS NOT NULL AND to_regclass(p.index_name) IS NOT NULL;
    FOR managed IN SELECT m.relation FROM arx.managed_relations() AS m LOOP
        BEGIN
            SELECT count(*) FILTER (WHERE arx.queue_task(s.action, s.partition_oid, managed, s.partition, s.reason, s.bounds,
                                                         s.key_from, s.key_to))
              INTO added
              FROM arx.planned_steps(managed) AS s
             WHERE s.partition_oid IS NOT NULL
               AND (s.action = 'archive'
                    -- PostgreSQL refuses DETACH CONCURRENTLY where a default partition exists.
                    OR s.action = 'detach' AND NOT EXISTS (SELECT FROM pg_partitioned_table AS t
                                                            WHERE t.partrelid = managed AND t.partdefid <> 0));
            queued := queued + added;
        EXCEPTION WHEN OTHERS THEN
            RAISE WARNING 'no plan can be made for %: %', managed, SQLERRM;
        END;
    END LOOP;
    RETURN queued;
END;
$$;

-- The statement of a task; empty for an archive, which is more than a statement, and NULL if there
-- is nothing to do any more.
CREATE FUNCTION maintenance_statement(kind text, relation oid, parent oid) RETURNS text
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    name text := (SELECT format('%I.%I', n.nspname, c.relname)
                    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
                   WHERE c.oid = maintenance_statement.relation);
BEGIN
    IF name IS NULL THEN
        RETURN NULL;
    ELSIF kind = 'reindex' THEN
        RETURN (SELECT 'REINDEX INDEX CONCURRENTLY ' || name FROM pg_class AS c
                 WHERE c.oid = maintenance_statement.relation AND c.relkind = 'i');
    ELSIF kind = 'drop index' THEN
        -- Only what an interrupted REINDEX CONCURRENTLY has left behind.
        RETURN (SELECT 'DROP INDEX CONCURRENTLY ' || name
                  FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
                 WHERE i.indexrelid = maintenance_statement.relation AND NOT i.indisvalid
                   AND c.relname ~ '_cc(new|old)[0-9]*$');
    ELSIF EXISTS (SELECT FROM pg_inherits AS i
                   WHERE i.inhrelid = maintenance_statement.relation AND i.inhparent = maintenance_statement.parent)
      AND EXISTS (SELECT FROM arx.planned_steps(maintenance_statement.parent) AS s
                   WHERE s.action = maintenance_statement.kind AND s.partition_oid = maintenance_statement.relation) THEN
        RETURN CASE kind
            WHEN 'archive' THEN ''
            ELSE (SELECT format('ALTER TABLE %I.%I DETACH PARTITION %s CONCURRENTLY', n.nspname, c.relname, name)
                    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
                   WHERE c.oid = maintenance_statement.parent)
        END;
    END IF;
    RETURN NULL;
END;
$$;

-- SECURITY DEFINER: as above. Takes the next task for this session.
CREATE FUNCTION take_task(OUT task_id bigint, OUT kind text, OUT relation oid, OUT parent oid, OUT name text)
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    DELETE FROM arx.maintenance_queue AS q WHERE q.finished_at < now() - interval '90 days';
    PERFORM pg_stat_clear_snapshot();
    UPDATE arx.maintenance_queue AS q
       SET state = CASE WHEN q.attempts < 3 THEN 'waiting' ELSE 'failed' END,
           finished_at = CASE WHEN q.attempts < 3 THEN NULL ELSE clock_timestamp() END, error = 'interrupted'
     WHERE q.state = 'running'
       AND NOT EXISTS (SELECT FROM pg_stat_get_activity(q.pid) AS a WHERE a.backend_start = q.backend_start);
    UPDATE arx.maintenance_queue AS q
       SET state = 'running', attempts = q.attempts + 1, started_at = clock_timestamp(), pid = pg_backend_pid(),
           backend_start = (SELECT a.backend_start FROM pg_stat_get_activity(pg_backend_pid()) AS a)
     WHERE q.task_id = (SELECT w.task_id FROM arx.maintenance_queue AS w WHERE w.state = 'waiting'
                         ORDER BY w.task_id LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING q.task_id, q.kind, q.relation, q.parent, q.name INTO task_id, kind, relation, parent, name;
END;
$$;

-- SECURITY DEFINER: as above. Ends the task of this session.
CREATE FUNCTION finish_task(task_id bigint, outcome text, error text) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    task record;
BEGIN
    IF outcome IS NULL OR outcome NOT IN ('done', 'failed', 'obsolete') THEN
        RAISE EXCEPTION 'outcome "%" must be done, failed or obsolete', coalesce(outcome, 'null')
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    UPDATE arx.maintenance_queue AS q
       SET state = finish_task.outcome, finished_at = clock_timestamp(), error = finish_task.error
     WHERE q.task_id = finish_task.task_id AND q.state = 'running' AND q.pid = pg_backend_pid()
    RETURNING q.* INTO task;
    IF task.task_id IS NULL THEN
        RAISE EXCEPTION 'task % is not one that this session runs', finish_task.task_id
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    -- attach_partition() needs the bounds. A session that was interrupted may have detached the
    -- partition before it ended.
    IF task.kind = 'detach'
       AND (finish_task.outcome <> 'obsolete'
            OR task.attempts > 1 AND EXISTS (SELECT FROM pg_class AS c
                                              WHERE c.oid = task.relation AND NOT c.relispartition)) THEN
        PERFORM arx.note_partition_event(task.parent, 'detach', task.name, task.relation, task.bounds, task.key_from,
                                         task.key_to, task.reason,
                                         CASE finish_task.outcome WHEN 'failed' THEN 'failed' ELSE 'done' END,
                                         finish_task.error, NULL, NULL, task.started_at);
    END IF;
END;
$$;

-- Runs of schedules by the sidecar, where there is no pg_cron.
CREATE TABLE job_runs (
    run_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job           text NOT NULL,
    command       text NOT NULL,
    started_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at   timestamptz,
    outcome       text NOT NULL DEFAULT 'running' CHECK (outcome IN ('running', 'succeeded', 'failed')),
    message       text,
    pid           integer NOT NULL DEFAULT pg_backend_pid(),
    backend_start timestamptz NOT NULL
);
COMMENT ON TABLE job_runs IS 'runs of arx.schedules by arx-sidecar maintain --schedules, kept for 90 days; see job_history()';
CREATE INDEX idx_job_runs_job ON job_runs (job, run_id DESC);

-- SECURITY DEFINER: as above.
CREATE FUNCTION begin_job_run(job text, command text) RETURNS bigint
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    begun bigint;
BEGIN
    DELETE FROM arx.job_runs AS r WHERE r.started_at < now() - interval '90 days';
    INSERT INTO arx.job_runs (job, command, backend_start)
    SELECT $1, $2, a.backend_start FROM pg_stat_get_activity(pg_backend_pid()) AS a
    RETURNING run_id INTO begun;
    RETURN begun;
END;
$$;

-- SECURITY DEFINER: as above.
CREATE FUNCTION end_job_run(run_id bigint, outcome text, message text) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    UPDATE arx.job_runs AS r SET outcome = end_job_run.outcome, message = end_job_run.message, finished_at = clock_timestamp()
     WHERE r.run_id = end_job_run.run_id AND r.outcome = 'running' AND r.pid = pg_backend_pid();
END;
$$;

-- SECURITY DEFINER: as above. Runs of sessions that have ended are interrupted.
CREATE FUNCTION sidecar_runs("limit" integer)
    RETURNS TABLE (job text, started_at timestamptz, duration interval, outcome text, message text, command text)
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    PERFORM pg_stat_clear_snapshot();
    RETURN QUERY
    SELECT r.job, r.started_at, r.finished_at - r.started_at,
           CASE WHEN r.outcome = 'running'
                     AND NOT EXISTS (SELECT FROM pg_stat_get_activity(r.pid) AS a WHERE a.backend_start = r.backend_start)
                THEN 'interrupted' ELSE r.outcome END,
           r.message, r.command
      FROM arx.job_runs AS r ORDER BY r.run_id DESC LIMIT sidecar_runs."limit";
END;
$$;

-- The runs of pg_cron and of the sidecar in this database, newest first.
CREATE FUNCTION job_history("limit" integer DEFAULT 100)
    RETURNS TABLE (job text, started_at timestamptz, duration interval, outcome text, message text, command text)
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    of_cron jsonb := '[]';
    suffix  text := '@' || current_database();
BEGIN
    IF job_history."limit" IS NULL OR job_history."limit" < 1 THEN
        RAISE EXCEPTION 'limit must be greater than zero' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    BEGIN
        SELECT coalesce(jsonb_agg(r.value::jsonb), '[]') INTO of_cron FROM arx.in_pg_cron(format(
           'SELECT to_jsonb(h)::text FROM ('
           'SELECT j.jobname, d.start_time, d.end_time - d.start_time AS duration, d.status, d.return_message, d.command '
           'FROM cron.job_run_details AS d LEFT JOIN cron.job AS j USING (jobid) '
           'WHERE d.database = %L ORDER BY d.runid DESC LIMIT %s) AS h', current_database(), job_history."limit")) AS r (value);
    EXCEPTION WHEN object_not_in_prerequisite_state THEN
        -- Without pg_cron, there are the runs of the sidecar.
        NULL;
    END;
    RETURN QUERY
    SELECT h.* FROM (
        -- In another database, pg_cron has it under a longer name.
        SELECT CASE WHEN right(r.value ->> 'jobname', length(suffix)) = suffix
                    THEN left(r.value ->> 'jobname', -length(suffix)) ELSE r.value ->> 'jobname' END, (r.value ->> 'start_time')::timestamptz, (r.value ->> 'duration')::interval,
               r.value ->> 'status', r.value ->> 'return_message', r.value ->> 'command'
          FROM jsonb_array_elements(of_cron) AS r (value)
        UNION ALL
        SELECT s.* FROM arx.sidecar_runs(job_history."limit") AS s
    ) AS h (job, started_at, duration, outcome, message, command)
     ORDER BY h.started_at DESC LIMIT job_history."limit";
END;
$$;
