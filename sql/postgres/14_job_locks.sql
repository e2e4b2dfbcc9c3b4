-- Locks of jobs: one row a job, locked until the end of the transaction.
--
-- Any role may take any advisory lock, and so stop a job that relies on one. Only the owner of the
-- extension has a privilege on this table.

CREATE TABLE job_locks (
    job text PRIMARY KEY
);
COMMENT ON TABLE job_locks IS 'jobs of which one transaction at a time may run; locked by lock_job() alone';
INSERT INTO job_locks (job) VALUES ('alert_rules'), ('partitions'), ('prices'), ('risk_models'), ('risk_overrides'), ('risk_queue'), ('tables');

-- SECURITY DEFINER: it touches this table alone.
CREATE FUNCTION lock_job(job text) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    PERFORM FROM arx.job_locks AS l WHERE l.job = lock_job.job FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'job "%" has no lock', coalesce(lock_job.job, 'null')
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = (SELECT 'Jobs are ' || string_agg(l.job, ', ' ORDER BY l.job) || '.' FROM arx.job_locks AS l);
    END IF;
END;
$$;

-- Duties of sidecars: work that one session at a time does for as long as it is connected. A duty
-- is taken by a session, and free once that session has ended. Sessions are compared with those of
-- the server, which forgets them when they end: an advisory lock could be taken by any role, and a
-- locked row would keep a transaction open.
CREATE TABLE duties (
    duty          text PRIMARY KEY CHECK (duty <> ''),
    pid           integer NOT NULL,
    backend_start timestamptz NOT NULL
);
COMMENT ON TABLE duties IS 'sessions that do the work of a sidecar; a row of a session that has ended counts no more';

-- SECURITY DEFINER: the start of another role's session is not shown to every role.
CREATE FUNCTION held_duties() RETURNS TABLE (duty text, pid integer)
    LANGUAGE sql VOLATILE PARALLEL RESTRICTED SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
SELECT pg_stat_clear_snapshot();
SELECT d.duty, d.pid
  FROM arx.duties AS d
 WHERE EXISTS (SELECT FROM pg_stat_get_activity(d.pid) AS a WHERE a.backend_start = d.backend_start)
$$;

CREATE FUNCTION hold_duty(duty text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    started timestamptz := (SELECT a.backend_start FROM pg_stat_get_activity(pg_backend_pid()) AS a);
BEGIN
    -- Waits for another session that takes it, and then sees that one's row.
    INSERT INTO arx.duties AS d (duty, pid, backend_start) VALUES (hold_duty.duty, pg_backend_pid(), started)
        ON CONFLICT ON CONSTRAINT duties_pkey DO UPDATE SET duty = d.duty;
    IF EXISTS (SELECT FROM arx.held_duties() AS h WHERE h.duty = hold_duty.duty AND h.pid <> pg_backend_pid()) THEN
        RETURN false;
    END IF;
    UPDATE arx.duties AS d SET pid = pg_backend_pid(), backend_start = started WHERE d.duty = hold_duty.duty;
    RETURN true;
END;
$$;

-- SECURITY DEFINER: callers have no privileges on the duties.
CREATE FUNCTION take_duty(duty text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    IF take_duty.duty IS NULL OR take_duty.duty NOT IN ('feed', 'write-behind', 'volumes', 'behaviour', 'cache', 'schedules') THEN
        RAISE EXCEPTION 'duty "%" does not exist', coalesce(take_duty.duty, 'null')
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Duties are feed, write-behind, volumes, behaviour, cache and schedules.';
    END IF;
    RETURN arx.hold_duty(take_duty.duty);
END;
$$;

-- SECURITY DEFINER: as above. The duties of imports that have ended are removed.
CREATE FUNCTION take_import(source text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    IF take_import.source IS NULL THEN
        RAISE EXCEPTION 'source must not be null' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    DELETE FROM arx.duties AS d
     WHERE d.duty IN (SELECT o.duty FROM arx.duties AS o
                       WHERE starts_with(o.duty, 'import ')
                         AND NOT EXISTS (SELECT FROM arx.held_duties() AS h WHERE h.duty = o.duty)
                         FOR UPDATE SKIP LOCKED);
    RETURN arx.hold_duty('import ' || take_import.source);
END;
$$;
