-- Partition policies, alerts and schedules.

-- A user's row takes precedence over the one that ARX ships. A regclass is dumped by its name.
CREATE TABLE arx.partition_policies (
    relation         regclass NOT NULL,
    builtin          boolean NOT NULL DEFAULT false,
    -- `1 month`, or a number for a table that is partitioned by integers.
    "interval"       text NOT NULL DEFAULT '1 month',
    time_zone        text NOT NULL DEFAULT 'UTC',
    -- Unit of an integer that is a time.
    epoch            text CHECK (epoch IN ('seconds', 'milliseconds')),
    premake          integer NOT NULL DEFAULT 3 CHECK (premake BETWEEN 0 AND 120),
    retention_months integer CHECK (retention_months BETWEEN 1 AND 2400),
    -- Any age: `90 days`, or a number.
    retention        text,
    retention_mode   text NOT NULL DEFAULT 'detach' CHECK (retention_mode IN ('detach', 'drop', 'move', 'archive')),
    retention_schema text,
    -- {"6 months": "cold"}: tablespaces of partitions from an age on.
    tablespace_ages  jsonb CHECK (jsonb_typeof(tablespace_ages) = 'object'),
    -- Sub-partitions of new partitions.
    hash_column      text,
    hash_partitions  integer CHECK (hash_partitions BETWEEN 1 AND 1024),
    -- Rows of the default partition that are earlier, or much later than now, are set aside.
    quarantine       boolean NOT NULL DEFAULT true,
    earliest         timestamptz DEFAULT '2009-01-03 00:00:00+00',
    enabled          boolean NOT NULL DEFAULT true,
    PRIMARY KEY (relation, builtin),
    CONSTRAINT partition_policies_retention CHECK (retention IS NULL OR retention_months IS NULL),
    CONSTRAINT partition_policies_schema CHECK (retention_mode <> 'move' OR retention_schema IS NOT NULL),
    CONSTRAINT partition_policies_hash CHECK ((hash_column IS NULL) = (hash_partitions IS NULL))
);
COMMENT ON TABLE arx.partition_policies IS
    'partitions created ahead and kept; to change a policy, insert a row for the relation: it takes precedence';
INSERT INTO arx.partition_policies (relation, builtin) VALUES
    ('arx.transactions', true), ('arx.internal_transfers', true), ('arx.token_transfers', true);
GRANT SELECT ON TABLE arx.partition_policies TO arx_reader;
GRANT INSERT, UPDATE, DELETE ON TABLE arx.partition_policies TO arx_operator;

CREATE TRIGGER arx_check_policy AFTER INSERT OR UPDATE ON arx.partition_policies
    FOR EACH ROW EXECUTE FUNCTION arx.check_partition_policy();
ALTER TABLE arx.partition_policies ENABLE ALWAYS TRIGGER arx_check_policy;

CREATE VIEW arx.partition_status WITH (security_invoker) AS
SELECT p.relation, p.partition, p.is_default, p.range_from, p.range_to, p.bounds, p.estimated_rows, p.rows_are_exact,
       p.total_bytes, p.detach_pending,
       min(p.range_to) FILTER (WHERE p.range_to > now()) OVER of_table AS next_boundary,
       -- NULL without a partition of times.
       round(extract(epoch FROM max(p.range_to) FILTER (WHERE isfinite(p.range_to)) OVER of_table - now()) / 86400, 1)
           AS premake_days_left,
       (sum(p.estimated_rows) FILTER (WHERE p.is_default) OVER of_table)::bigint AS default_rows,
       q.quarantined_rows, e.last_run, e.last_failures, f.last_failure, f.last_error
  FROM (
    SELECT parent.relation AS parent,
           format('%I.%I', pn.nspname, pc.relname) AS relation,
           format('%I.%I', n.nspname, c.relname) AS partition,
           b.is_default, b.range_from, b.range_to,
           coalesce(pg_get_expr(c.relpartbound, 0), '') AS bounds,
           t.rows AS estimated_rows,
           -- An empty file has no rows.
           t.bytes = 0 AS rows_are_exact,
           t.total_bytes,
           i.inhdetachpending AS detach_pending
      FROM (SELECT DISTINCT p.relation FROM arx.partition_policies AS p) AS parent
      JOIN pg_class AS pc ON pc.oid = parent.relation
      JOIN pg_namespace AS pn ON pn.oid = pc.relnamespace
      JOIN pg_inherits AS i ON i.inhparent = parent.relation
      JOIN pg_class AS c ON c.oid = i.inhrelid
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
     CROSS JOIN LATERAL arx.partition_times(c.oid) AS b
     CROSS JOIN LATERAL (
        SELECT sum(greatest(leaf.reltuples, pg_stat_get_live_tuples(leaf.oid), 0))::bigint,
               sum(pg_relation_size(leaf.oid))::bigint, sum(pg_total_relation_size(leaf.oid))::bigint
          FROM (SELECT c.oid, c.reltuples WHERE c.relkind <> 'p'
                UNION ALL
                SELECT l.oid, l.reltuples FROM pg_inherits AS h JOIN pg_class AS l ON l.oid = h.inhrelid
                 WHERE h.inhparent = c.oid) AS leaf
     ) AS t (rows, bytes, total_bytes)
 ) AS p
  LEFT JOIN LATERAL (
    SELECT r.happened_at AS last_run, r.count AS last_failures FROM arx.partition_events AS r
     WHERE r.parent = p.parent AND r.action = 'run' ORDER BY r.event_id DESC LIMIT 1
 ) AS e ON true
  LEFT JOIN LATERAL (
    SELECT r.happened_at AS last_failure, r.error AS last_error FROM arx.partition_events AS r
     WHERE r.parent = p.parent AND r.outcome = 'failed' AND r.action <> 'run' ORDER BY r.event_id DESC LIMIT 1
 ) AS f ON true
 CROSS JOIN LATERAL (
    SELECT coalesce(sum(greatest(c.reltuples, pg_stat_get_live_tuples(c.oid), 0)), 0)::bigint AS quarantined_rows
      FROM pg_class AS own JOIN pg_class AS c ON c.relnamespace = own.relnamespace
     WHERE own.oid = p.parent AND c.relname = left(own.relname, 52) || '_quarantine' AND c.relkind = 'r'
 ) AS q
WINDOW of_table AS (PARTITION BY p.parent)
 ORDER BY 1, p.is_default, p.range_from, 2;
COMMENT ON VIEW arx.partition_status IS
    'partitions of the tables with a policy: bounds, rows (estimated unless rows_are_exact) and size; and of their table: next boundary, days of premake left, rows in default partition and quarantine, last run and failure';
GRANT SELECT ON TABLE arx.partition_status TO arx_reader;

CREATE VIEW arx.partition_health WITH (security_invoker) AS
SELECT s.relation, count(*) FILTER (WHERE NOT s.is_default) AS partitions, s.next_boundary, s.premake_days_left,
       s.default_rows, s.quarantined_rows, s.last_run, s.last_failures, s.last_failure, s.last_error
  FROM arx.partition_status AS s
 GROUP BY s.relation, s.next_boundary, s.premake_days_left, s.default_rows, s.quarantined_rows, s.last_run, s.last_failures,
          s.last_failure, s.last_error;
COMMENT ON VIEW arx.partition_health IS
    'tables with a policy, one row each: what partition_status says of the table';
GRANT SELECT ON TABLE arx.partition_health TO arx_reader;

CREATE TABLE arx.archived_ranges (
    archive_id    uuid PRIMARY KEY,
    relation      text NOT NULL,
    partition     text NOT NULL,
    partition_oid oid NOT NULL,
    bounds        text NOT NULL,
    -- Times of the range, NULL for integers that are no times.
    range_from    timestamptz,
    range_to      timestamptz,
    -- The same as microseconds since 1970, or as integers of the key.
    key_from      bigint,
    key_to        bigint,
    -- Identity of the database that the rows come from.
    source        text NOT NULL,
    rows          bigint NOT NULL CHECK (rows >= 0),
    -- Sum of the column `value` or `amount`, 0 without one.
    amount        numeric NOT NULL,
    -- Sum of the first 64 bits of the MD5 of each row as JSON.
    checksum      numeric NOT NULL,
    archived_at   timestamptz NOT NULL DEFAULT now(),
    archived_by   name NOT NULL DEFAULT current_user,
    attached_at   timestamptz,
    restored_at   timestamptz
);
COMMENT ON TABLE arx.archived_ranges IS
    'partitions whose rows are in ClickHouse, in archived_rows: compared by number, sum and checksum, and then detached';
GRANT SELECT ON TABLE arx.archived_ranges TO arx_reader;
GRANT INSERT, UPDATE (attached_at, restored_at) ON TABLE arx.archived_ranges TO arx_operator;

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
    info       double precision,
    warning    double precision,
    critical   double precision,
    unit       text NOT NULL DEFAULT '',
    message    text NOT NULL,
    enabled    boolean NOT NULL DEFAULT true,
    PRIMARY KEY (rule, builtin),
    CONSTRAINT alert_rules_threshold CHECK (num_nonnulls(info, warning, critical) > 0)
);
COMMENT ON TABLE arx.alert_rules IS
    'rules of health_check() and check_performance_alerts(); to change a rule, insert a row with the same name: it takes precedence';
INSERT INTO arx.alert_rules (rule, builtin, metric, comparison, info, warning, critical, unit, message)
SELECT r.rule, true, r.metric, 'above', r.info, r.warning, r.critical, r.unit, r.message FROM (VALUES
    ('long_transactions', 'longest_transaction_seconds', NULL::double precision, 600::double precision, 43200::double precision, 's',
     'a transaction has been open for long'),
    ('lock_wait', 'lock_wait_seconds', NULL, 60, 300, 's', 'a session waits for a lock'),
    ('locks', 'locks_used_pct', NULL, 75, 90, '%', 'the lock table fills up'),
    ('prepared_transactions', 'prepared_transaction_seconds', NULL, 60, 600, 's', 'a prepared transaction was left open'),
    ('standby_lag', 'standby_lag_seconds', NULL, 30, 300, 's', 'a standby lags behind'),
    ('standby_bytes', 'standby_lag_bytes', NULL, 52428800, 1073741824, 'bytes', 'a standby has not replayed the log'),
    ('standby_missing', 'standby_missing_seconds', NULL, 300, 3600, 's', 'a standby is gone'),
    ('sync_standby', 'sync_standbys_missing', NULL, NULL, 0, '', 'commits wait for a synchronous standby that is gone'),
    ('wal_receiver', 'wal_receiver_down', NULL, NULL, 0, '', 'this standby receives nothing from its primary'),
    ('replay_paused', 'replay_paused', NULL, 0, NULL, '', 'replay is paused'),
    ('slot_inactive', 'slot_inactive', NULL, 0, NULL, '', 'a replication slot is not in use, and holds log back'),
    ('slot_wal', 'slot_retained_bytes', NULL, 1073741824, 5368709120, 'bytes', 'a replication slot holds log back'),
    ('slot_lost', 'slot_lost', NULL, 0, 1, '', 'a replication slot loses the log that it needs'),
    ('slot_limit', 'slot_unlimited', 0, NULL, NULL, '', 'replication slots may fill the disk: max_slot_wal_keep_size is -1'),
    ('subscription', 'subscription_down', NULL, NULL, 0, '', 'a subscription receives nothing'),
    ('archive', 'archive_failing_seconds', NULL, 60, 300, 's', 'the log is not archived'),
    ('archive_age', 'archive_age_seconds', NULL, 3600, 86400, 's', 'log waits to be archived'),
    ('backup_age', 'backup_age_seconds', NULL, 691200, 1209600, 's', 'no recent backup is known to restore'),
    ('backup_check', 'backup_check_failed', NULL, NULL, 0, '', 'the last check of a backup failed'),
    ('wal_size', 'wal_pct', NULL, 200, 500, '%', 'pg_wal is larger than max_wal_size'),
    ('multixact_age', 'multixact_age_pct', NULL, 50, 75, '%', 'multixact ids are running out: vacuum'),
    ('freeze_age', 'freeze_age_pct', NULL, 110, 200, '%', 'autovacuum does not keep up with freezing'),
    ('checksums', 'checksum_failures', NULL, NULL, 0, 'pages', 'pages are damaged'),
    ('pending_restart', 'pending_restart', 0, NULL, NULL, 'settings', 'settings wait for a restart'),
    ('checkpoints', 'requested_checkpoints', NULL, 5, NULL, '', 'checkpoints come early: max_wal_size is too small'),
    ('disk_used', 'disk_used_pct', NULL, 90, 95, '%', 'a disk fills up'),
    ('dead_rows', 'dead_rows_pct', NULL, 20, 50, '%', 'a table has many dead rows'),
    ('vacuum_age', 'vacuum_age_seconds', NULL, 604800, NULL, 's', 'a table has not been vacuumed'),
    ('stale_statistics', 'stale_statistics_pct', NULL, 50, NULL, '%', 'the statistics of a table are stale'),
    ('table_bloat', 'table_bloat_bytes', NULL, 1073741824, 5368709120, 'bytes', 'a table is bloated'),
    ('sequences', 'sequence_used_pct', NULL, 85, 95, '%', 'a sequence runs out of numbers'),
    ('invalid_indexes', 'invalid_indexes', NULL, 0, NULL, 'indexes', 'an index is not valid'),
    ('index_bloat', 'index_bloat_bytes', 134217728, 1073741824, NULL, 'bytes', 'an index is bloated'),
    ('failed_jobs', 'failed_jobs', NULL, 0, NULL, '', 'the last run of a job failed'),
    ('feed_rejects', 'feed_rejects', NULL, 0, 1000, 'rows', 'rows cannot be fed to ClickHouse'),
    ('foreign_positions', 'foreign_positions', NULL, 0, NULL, 'positions',
     'this database is a copy or was restored: these consumers start over'),
    ('feed_lag', 'feed_lag_seconds', NULL, 60, 600, 's', 'the feed lags behind'),
    ('cache_lag', 'cache_lag_seconds', NULL, 60, 600, 's', 'the profiles in Redis are not kept in step'),
    ('queued_writes', 'queued_writes', NULL, 10000, 500000, 'writes', 'writes in Redis wait for PostgreSQL'),
    ('dead_letters', 'dead_letters', NULL, 0, 1000, 'writes', 'PostgreSQL rejects writes from Redis'),
    ('job_lag', 'job_lag_seconds', NULL, 7200, 86400, 's', 'a refresh job has not run'),
    ('risk_queue', 'risk_queue_seconds', NULL, 7200, 86400, 's', 'risk scores are stale'),
    ('graph_delta', 'graph_delta_pct', NULL, 25, NULL, '%', 'the file of the graph is far behind'),
    ('graph_age', 'graph_age_seconds', NULL, 86400, NULL, 's', 'the file of the graph is old'),
    ('quarantine', 'quarantined_rows', NULL, 0, 1000000, 'rows',
     'rows with impossible times were set aside: see the tables whose names end with _quarantine')
) AS r (rule, metric, info, warning, critical, unit, message);
INSERT INTO arx.alert_rules (rule, builtin, metric, comparison, warning, critical, unit, message) VALUES
    ('premake', true, 'premake_days_left', 'below', 14, 3, 'days', 'partitions are not made ahead any more'),
    ('connections', true, 'connections_used_pct', 'above', 75, 90, '%', 'high connection usage'),
    ('cache_hit', true, 'cache_hit_pct', 'below', 95, 90, '%', 'low cache hit ratio'),
    ('long_queries', true, 'longest_query_seconds', 'above', 300, 3600, 's', 'long-running query'),
    ('idle_in_transaction', true, 'idle_in_transaction_seconds', 'above', 300, 900, 's', 'session idle in transaction'),
    ('blocked_queries', true, 'blocked_queries', 'above', 5, 20, '', 'sessions wait for locks'),
    ('deadlocks', true, 'deadlocks', 'above', 0, 10, '', 'deadlocks since the last sample'),
    ('replication_lag', true, 'replication_lag_seconds', 'above', 30, 300, 's', 'standby lags behind'),
    ('xid_age', true, 'xid_age_pct', 'above', 50, 75, '%', 'transaction ids are running out: vacuum'),
    ('default_partition', true, 'default_partition_rows', 'above', 0, 1000000, 'rows',
     'rows wait in a default partition: run arx.run_partition_maintenance()'),
    ('partition_failures', true, 'partition_failures', 'above', 0, 10, 'steps',
     'steps of the last partition maintenance failed: see arx.partition_events');
GRANT SELECT ON TABLE arx.alert_rules TO arx_reader, pg_monitor;
GRANT INSERT, UPDATE, DELETE ON TABLE arx.alert_rules TO arx_operator;

CREATE TRIGGER arx_check_metric AFTER INSERT OR UPDATE OF metric ON arx.alert_rules
    FOR EACH ROW EXECUTE FUNCTION arx.check_alert_metric();
ALTER TABLE arx.alert_rules ENABLE ALWAYS TRIGGER arx_check_metric;

-- Patterns are those of LIKE; NULL matches everything. The most specific row wins: one with an
-- object before one without, and then one with a database.
CREATE TABLE arx.alert_thresholds (
    threshold_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rule         text NOT NULL,
    database     text,
    object       text,
    info         double precision,
    warning      double precision,
    critical     double precision,
    enabled      boolean NOT NULL DEFAULT true,
    note         text,
    CONSTRAINT alert_thresholds_once UNIQUE NULLS NOT DISTINCT (rule, database, object),
    CONSTRAINT alert_thresholds_some CHECK (num_nonnulls(info, warning, critical) > 0 OR NOT enabled)
);
COMMENT ON TABLE arx.alert_thresholds IS
    'thresholds of a rule of alert_rules for some databases or objects, in place of those of the rule; enabled false: not checked';
GRANT SELECT ON TABLE arx.alert_thresholds TO arx_reader, pg_monitor;
GRANT INSERT, UPDATE, DELETE ON TABLE arx.alert_thresholds TO arx_operator;
GRANT USAGE ON SEQUENCE arx.alert_thresholds_threshold_id_seq TO arx_operator;

CREATE VIEW arx.effective_alert_rules WITH (security_invoker) AS
SELECT DISTINCT ON (r.rule)
       r.rule, r.builtin, r.metric, r.comparison, r.info, r.warning, r.critical, r.unit, r.message, r.enabled
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
    ('partition-maintenance', '15 0 * * *',   'CALL arx.maintain_partitions()'),
    ('refresh-daily-stats',   '0 * * * *',    'SELECT arx.refresh_daily_stats()'),
    ('refresh-graph',         '*/5 * * * *',  'SELECT outcome FROM arx.refresh_graph()'),
    ('refresh-wallets',       '*/10 * * * *', 'SELECT arx.refresh_wallet_profiles()'),
    ('refresh-risk-scores',   '5-59/10 * * * *', 'CALL arx.refresh_risk_scores()'),
    ('refresh-patterns',      '30 3 * * *',
     'SELECT count(*) FROM arx.networks AS n CROSS JOIN LATERAL arx.refresh_patterns(network => n.network) AS r '
     'WHERE EXISTS (SELECT FROM arx.wallet_profiles AS p WHERE p.network_type = n.network)'),
    ('prune-changes',         '45 2 * * *',   'SELECT removed_rows FROM arx.prune_changes()'),
    ('update-stats',          '0 2 * * *',    'SELECT count(*) FROM arx.update_table_statistics()'),
    ('performance-alerts',    '*/5 * * * *',  'SELECT arx.record_performance_alerts()'),
    ('wallet-alerts',         '* * * * *',    'SELECT * FROM arx.check_wallet_alerts()'),
    ('rescreen-watchlists',   '10-59/15 * * * *', 'SELECT * FROM arx.rescreen_watchlists()')
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
