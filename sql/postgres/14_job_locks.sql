-- Locks of jobs: one row a job, locked until the end of the transaction.
--
-- Any role may take any advisory lock, and so stop a job that relies on one. Only the owner of the
-- extension has a privilege on this table.

CREATE TABLE job_locks (
    job text PRIMARY KEY
);
COMMENT ON TABLE job_locks IS 'jobs of which one transaction at a time may run; locked by lock_job() alone';
INSERT INTO job_locks (job) VALUES ('partitions'), ('risk_models'), ('risk_overrides'), ('risk_queue'), ('tables');

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
