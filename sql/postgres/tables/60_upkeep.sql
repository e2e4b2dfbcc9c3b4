-- Partition policies, alerts and schedules.

-- A user's row takes precedence over the one that ARX ships.
CREATE TABLE arx.partition_policies (
    relation         text NOT NULL 
        CHECK (relation IN ('arx.transactions', 'arx.internal_transfers', 'arx.token_transfers')),
    builtin          boolean NOT NULL DEFAULT false,
    premake          integer NOT NULL DEFAULT 3 CHECK (premake BETWEEN 0 AND 120),
    retention_months integer CHECK (retention_months BETWEEN 1 AND 2400),
    retention_mode   text NOT NULL DEFAULT 'detach' CHECK (retention_mode IN ('detach', 'drop')),
    PRIMARY KEY (relation, builtin)
);
COMMENT ON TABLE arx.partition_policies IS
    'months created ahead and months kept; to change a policy, insert a row for the relation: it takes precedence';
INSERT INTO arx.partition_policies (relation, builtin) VALUES
    ('arx.transactions', true), ('arx.internal_transfers', true), ('arx.token_transfers', true);
GRANT SELECT ON TABLE arx.partition_policies TO arx_reader;
GRANT INSERT, UPDATE, DELETE ON TABLE arx.partition_policies TO arx_operator;

CREATE VIEW arx.partition_status WITH (security_invoker) AS
SELECT parent.relation,
       format('%I.%I', n.nspname, c.relname) AS partition,
       b.is_default, b.range_from, b.range_to,
       greatest(c.reltuples, 0)::bigint AS estimated_rows,
       pg_total_relation_size(c.oid) AS total_bytes
  FROM (VALUES ('arx.transactions'), ('arx.internal_transfers'), ('arx.token_transfers')) AS parent (relation)
  JOIN pg_inherits AS i ON i.inhparent = parent.relation::regclass
  JOIN pg_class AS c ON c.oid = i.inhrelid
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL arx.partition_range(c.oid) AS b
 ORDER BY parent.relation, b.is_default, b.range_from;
COMMENT ON VIEW arx.partition_status IS 'partitions of the time-partitioned tables with bounds, estimated rows and size';
GRANT SELECT ON TABLE arx.partition_status TO arx_reader;

CREATE VIEW arx.performance_dashboard WITH (security_invoker) AS
SELECT max(f.value) FILTER (WHERE f.metric = 'connections')::bigint AS active_connections,
       max(f.value) FILTER (WHERE f.metric = 'active_queries')::bigint AS active_queries,
       round(max(f.value) FILTER (WHERE f.metric = 'cache_hit_pct')::numeric, 2) AS cache_hit_ratio,
       max(f.value) FILTER (WHERE f.metric = 'blocked_queries')::bigint AS blocked_queries,
       round(max(f.value) FILTER (WHERE f.metric = 'replication_lag_seconds')::numeric, 3) AS replication_lag_seconds,
       round(max(f.value) FILTER (WHERE f.metric = 'connections_used_pct')::numeric, 2) AS connections_used_pct,
       round(max(f.value) FILTER (WHERE f.metric = 'longest_query_seconds')::numeric, 3) AS longest_query_seconds,
       round(max(f.value) FILTER (WHERE f.metric = 'idle_in_transaction_seconds')::numeric, 3)
           AS idle_in_transaction_seconds,
       max(f.value) FILTER (WHERE f.metric = 'deadlocks')::bigint AS deadlocks,
       make_interval(secs => max(f.value) FILTER (WHERE f.metric = 'cache_window_seconds')) AS sample_age
  FROM arx.performance_facts() AS f;
COMMENT ON VIEW arx.performance_dashboard IS
    'one row: sessions, locks, cache hits and deadlocks since the last sample, replication lag';
GRANT SELECT ON TABLE arx.performance_dashboard TO arx_reader;

-- A user's row takes precedence over the one that ARX ships.
CREATE TABLE arx.alert_rules (
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
COMMENT ON TABLE arx.alert_rules IS
    'rules of check_performance_alerts(); to change a rule, insert a row with the same name: it takes precedence';
INSERT INTO arx.alert_rules (rule, builtin, metric, comparison, warning, critical, unit, message) VALUES
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
GRANT SELECT ON TABLE arx.alert_rules TO arx_reader;
GRANT INSERT, UPDATE, DELETE ON TABLE arx.alert_rules TO arx_operator;

CREATE TRIGGER arx_check_metric AFTER INSERT OR UPDATE OF metric ON arx.alert_rules
    FOR EACH ROW EXECUTE FUNCTION arx.check_alert_metric();
ALTER TABLE arx.alert_rules ENABLE ALWAYS TRIGGER arx_check_metric;

CREATE VIEW arx.effective_alert_rules WITH (security_invoker) AS
SELECT DISTINCT ON (r.rule)
       r.rule, r.builtin, r.metric, r.comparison, r.warning, r.critical, r.unit, r.message, r.enabled
  FROM arx.alert_rules AS r
 ORDER BY r.rule, r.builtin;
COMMENT ON VIEW arx.effective_alert_rules IS
    'alert_rules in force: a user''s row takes precedence over the one that ARX ships';
GRANT SELECT ON TABLE arx.effective_alert_rules TO arx_reader;

CREATE TABLE arx.alerts (
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
COMMENT ON TABLE arx.alerts IS 'alerts stored by record_performance_alerts()';
GRANT SELECT ON TABLE arx.alerts TO arx_reader;
-- The time is set by its default.
GRANT INSERT (alert_type, severity, message, value, threshold), DELETE ON TABLE arx.alerts TO arx_operator;
GRANT USAGE ON SEQUENCE arx.alerts_alert_id_seq TO arx_operator;

CREATE INDEX idx_alerts_raised ON arx.alerts (raised_at DESC);

-- Only the owner may write: the jobs run with the owner's rights.
CREATE TABLE arx.schedules (
    job      text PRIMARY KEY,
    schedule text NOT NULL,
    command  text NOT NULL,
    builtin  boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE arx.schedules IS 'jobs that install_schedules() schedules with pg_cron, to run as the owner of this table';
INSERT INTO arx.schedules (job, schedule, command, builtin)
SELECT s.job, s.schedule, s.command, true FROM (VALUES
    ('partition-maintenance', '15 0 * * *',   'SELECT count(*) FROM arx.run_partition_maintenance()'),
    ('refresh-daily-stats',   '0 * * * *',    'SELECT arx.refresh_daily_stats()'),
    ('refresh-graph',         '*/5 * * * *',  'SELECT outcome FROM arx.refresh_graph()'),
    ('refresh-wallets',       '*/10 * * * *', 'SELECT arx.refresh_wallet_profiles()'),
    ('refresh-risk-scores',   '5-59/10 * * * *', 'CALL arx.refresh_risk_scores()'),
    ('refresh-patterns',      '30 3 * * *',
     'SELECT count(*) FROM arx.networks AS n CROSS JOIN LATERAL arx.refresh_patterns(network => n.network) AS r '
     'WHERE EXISTS (SELECT FROM arx.wallet_profiles AS p WHERE p.network_type = n.network)'),
    ('prune-changes',         '45 2 * * *',   'SELECT removed_rows FROM arx.prune_changes()'),
    ('update-stats',          '0 2 * * *',    'SELECT count(*) FROM arx.update_table_statistics()'),
    ('performance-alerts',    '*/5 * * * *',  'SELECT arx.record_performance_alerts()')
) AS s (job, schedule, command);
GRANT SELECT ON TABLE arx.schedules TO arx_reader;

-- Rows that ARX ships ---------------------------------------------------------------------------
-- A dump holds them too. Restored where they exist already, a row replaces the one that exists.
CREATE TRIGGER arx_builtin BEFORE INSERT ON arx.networks
    FOR EACH ROW WHEN (NEW.builtin) EXECUTE FUNCTION arx.replace_builtin_row('network');
ALTER TABLE arx.networks ENABLE ALWAYS TRIGGER arx_builtin;
CREATE TRIGGER arx_builtin BEFORE INSERT ON arx.label_categories
    FOR EACH ROW WHEN (NEW.builtin) EXECUTE FUNCTION arx.replace_builtin_row('category');
ALTER TABLE arx.label_categories ENABLE ALWAYS TRIGGER arx_builtin;
CREATE TRIGGER arx_builtin BEFORE INSERT ON arx.behaviour_thresholds
    FOR EACH ROW WHEN (NEW.builtin) EXECUTE FUNCTION arx.replace_builtin_row('network');
ALTER TABLE arx.behaviour_thresholds ENABLE ALWAYS TRIGGER arx_builtin;
CREATE TRIGGER arx_builtin BEFORE INSERT ON arx.risk_models
    FOR EACH ROW WHEN (NEW.builtin) EXECUTE FUNCTION arx.replace_builtin_row('version');
ALTER TABLE arx.risk_models ENABLE ALWAYS TRIGGER arx_builtin;
CREATE TRIGGER arx_builtin BEFORE INSERT ON arx.risk_model_activations
    FOR EACH ROW WHEN (NEW.builtin) EXECUTE FUNCTION arx.replace_builtin_row('activation_id');
ALTER TABLE arx.risk_model_activations ENABLE ALWAYS TRIGGER arx_builtin;
CREATE TRIGGER arx_builtin BEFORE INSERT ON arx.partition_policies
    FOR EACH ROW WHEN (NEW.builtin) EXECUTE FUNCTION arx.replace_builtin_row('relation');
ALTER TABLE arx.partition_policies ENABLE ALWAYS TRIGGER arx_builtin;
CREATE TRIGGER arx_builtin BEFORE INSERT ON arx.alert_rules
    FOR EACH ROW WHEN (NEW.builtin) EXECUTE FUNCTION arx.replace_builtin_row('rule');
ALTER TABLE arx.alert_rules ENABLE ALWAYS TRIGGER arx_builtin;
CREATE TRIGGER arx_builtin BEFORE INSERT ON arx.schedules
    FOR EACH ROW WHEN (NEW.builtin) EXECUTE FUNCTION arx.replace_builtin_row('job');
ALTER TABLE arx.schedules ENABLE ALWAYS TRIGGER arx_builtin;
