-- Alerts about the server: rules are rows of a table, arx.check_performance_alerts() evaluates
-- them.

-- A user's row takes precedence over the one that ARX ships, and is the one that pg_dump carries.
CREATE TABLE alert_rules (
    rule       text NOT NULL CHECK (rule ~ '^[a-z][a-z0-9_]*$'),
    builtin    boolean NOT NULL DEFAULT false,
    metric     text NOT NULL,
    comparison text NOT NULL DEFAULT 'above' CHECK (comparison IN ('above', 'below')),
    warning    double precision,
    critical   double precision,
    unit       text NOT NULL DEFAULT '',
    message    text NOT NULL,
    enabled    boolean NOT NULL DEFAULT true,
    PRIMARY KEY (rule, builtin),
    CONSTRAINT alert_rules_threshold CHECK (warning IS NOT NULL OR critical IS NOT NULL)
);
COMMENT ON TABLE alert_rules IS
    'rules of check_performance_alerts(); to change a rule, insert a row with the same name: it takes precedence';
INSERT INTO alert_rules (rule, builtin, metric, comparison, warning, critical, unit, message) VALUES
    ('connections', true, 'connections_used_pct', 'above', 75, 90, '%', 'high connection usage'),
    ('cache_hit', true, 'cache_hit_pct', 'below', 95, 90, '%', 'low cache hit ratio'),
    ('long_queries', true, 'longest_query_seconds', 'above', 300, 3600, 's', 'long-running query'),
    ('idle_in_transaction', true, 'idle_in_transaction_seconds', 'above', 300, 900, 's', 'session idle in transaction'),
    ('blocked_queries', true, 'blocked_queries', 'above', 5, 20, '', 'sessions wait for locks'),
    ('deadlocks', true, 'deadlocks', 'above', 0, 10, '', 'deadlocks since the last sample'),
    ('replication_lag', true, 'replication_lag_seconds', 'above', 30, 300, 's', 'standby lags behind'),
    ('xid_age', true, 'xid_age_pct', 'above', 50, 75, '%', 'transaction ids are running out: vacuum'),
    ('default_partition', true, 'default_partition_rows', 'above', 0, 1000000, 'rows',
     'rows wait in a default partition: run arx.run_partition_maintenance()');

-- A rule with an unknown metric is accepted, because a later version may add the metric.
CREATE FUNCTION check_alert_metric() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    IF NEW.metric NOT IN (SELECT f.metric FROM arx.performance_facts() AS f) THEN
        RAISE WARNING 'metric "%" of alert rule "%" does not exist', NEW.metric, NEW.rule
            USING HINT = 'arx.performance_facts() lists the metrics. '
                         'arx.check_performance_alerts() reports the rule instead of evaluating it.';
    END IF;
    RETURN NULL;
END;
$$;
CREATE TRIGGER arx_check_metric AFTER INSERT OR UPDATE OF metric ON alert_rules
    FOR EACH ROW EXECUTE FUNCTION check_alert_metric();

CREATE VIEW effective_alert_rules AS
SELECT DISTINCT ON (r.rule)
       r.rule, r.builtin, r.metric, r.comparison, r.warning, r.critical, r.unit, r.message, r.enabled
  FROM arx.alert_rules AS r
 ORDER BY r.rule, r.builtin;
COMMENT ON VIEW effective_alert_rules IS
    'alert_rules in force: a user''s row takes precedence over the one that ARX ships';

CREATE TABLE alerts (
    alert_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    raised_at  timestamptz NOT NULL DEFAULT now(),
    alert_type text NOT NULL,
    severity   text NOT NULL CHECK (severity IN ('warning', 'critical')),
    message    text NOT NULL,
    -- NULL for a rule whose metric does not exist.
    value      double precision,
    threshold  double precision,
    CONSTRAINT alerts_threshold CHECK ((value IS NULL) = (threshold IS NULL))
);
CREATE INDEX idx_alerts_raised ON alerts (raised_at DESC);
COMMENT ON TABLE alerts IS 'alerts stored by record_performance_alerts()';

CREATE FUNCTION record_performance_alerts() RETURNS bigint
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    raised bigint;
BEGIN
    INSERT INTO arx.alerts (alert_type, severity, message, value, threshold)
    SELECT a.alert_type, a.severity, a.message, a.value, a.threshold FROM arx.check_performance_alerts() AS a;
    GET DIAGNOSTICS raised = ROW_COUNT;
    INSERT INTO arx.performance_samples (blks_hit, blks_read, deadlocks, commits, rollbacks)
    SELECT sum(d.blks_hit), sum(d.blks_read), sum(d.deadlocks), sum(d.xact_commit), sum(d.xact_rollback)
      FROM pg_stat_database AS d;
    DELETE FROM arx.performance_samples AS s WHERE s.sampled_at < now() - interval '7 days';
    RETURN raised;
END;
$$;
