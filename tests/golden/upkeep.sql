-- One row with plausible values.
SELECT active_connections > 0 AS connections, active_queries > 0 AS queries, cache_hit_ratio BETWEEN 0 AND 100 AS hits,
       blocked_queries, replication_lag_seconds, sample_age IS NULL AS no_sample FROM arx.performance_dashboard;
-- Thresholds are rows: a user's row takes precedence over the one that ARX ships.
INSERT INTO arx.alert_rules (rule, metric, warning, critical, unit, message)
VALUES ('connections', 'connections_used_pct', 0, 100, '%', 'any connection at all');
INSERT INTO arx.alert_rules (rule, metric, comparison, critical, message) VALUES ('few_blocks', 'cache_blocks', 'below', 1e15, 'few blocks');
SELECT alert_type, severity, threshold, value > 0 AS measured FROM arx.check_performance_alerts()
 WHERE alert_type IN ('connections', 'few_blocks') ORDER BY 1;
-- A metric without a value at present gives no row.
INSERT INTO arx.alert_rules (rule, metric, warning, message) VALUES ('no_value', 'cache_window_seconds', 0, 'x');
SELECT f.value IS NULL AS no_value, a.alert_type FROM arx.performance_facts() AS f
  LEFT JOIN arx.check_performance_alerts() AS a ON a.alert_type = 'no_value' WHERE f.metric = 'cache_window_seconds';
DELETE FROM arx.alert_rules WHERE rule = 'no_value';
SELECT arx.record_performance_alerts() >= 2 AS recorded;
SELECT alert_type, severity, threshold FROM arx.alerts WHERE alert_type IN ('connections', 'few_blocks') ORDER BY 1;
SELECT sample_age IS NOT NULL AS sampled FROM arx.performance_dashboard;
UPDATE arx.alert_rules SET enabled = false WHERE rule IN ('connections', 'few_blocks') AND NOT builtin;
SELECT count(*) FROM arx.check_performance_alerts() WHERE alert_type IN ('connections', 'few_blocks');
-- The error for thresholds in the wrong order names the rule.
INSERT INTO arx.alert_rules (rule, metric, warning, critical, message) VALUES ('upside_down', 'connections', 10, 5, 'x');
SELECT * FROM arx.check_performance_alerts();
DELETE FROM arx.alert_rules WHERE rule = 'upside_down';
INSERT INTO arx.alert_rules (rule, metric, message) VALUES ('no_threshold', 'connections', 'x');
-- A rule whose metric does not exist is stored with a warning, and reported instead of evaluated.
INSERT INTO arx.alert_rules (rule, metric, warning, critical, message) VALUES ('mistyped', 'conections', 1, 2, 'x');
SELECT * FROM arx.check_performance_alerts() WHERE alert_type = 'mistyped';
SELECT arx.record_performance_alerts() > 0 AS recorded;
SELECT alert_type, severity, message, value, threshold FROM arx.alerts WHERE alert_type = 'mistyped';
UPDATE arx.alert_rules SET metric = 'connection' WHERE rule = 'mistyped';
UPDATE arx.alert_rules SET metric = 'connections', warning = 1e9, critical = NULL WHERE rule = 'mistyped';
SELECT * FROM arx.check_performance_alerts() WHERE alert_type = 'mistyped';
-- Statistics are updated only for stale tables, including parents and quoted names.
CREATE TABLE arx."Odd ""name" (x integer);
INSERT INTO arx."Odd ""name" SELECT generate_series(1, 1000);
INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST');
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
SELECT 'testnet', 't' || n, n, '2024-01-01', 'a' || n % 100, 'b' || n % 77, 1 FROM generate_series(1, 20000) AS n;
SELECT pg_stat_force_next_flush();
SELECT relation FROM arx.update_table_statistics() WHERE relation ~ 'Odd|transactions' ORDER BY 1;
SELECT attname, n_distinct FROM pg_stats WHERE schemaname = 'arx' AND tablename = 'transactions' AND attname = 'from_address';
-- A bloated index is found, and its statement works at top level.
DELETE FROM arx.transactions WHERE block_number % 10 <> 0;
VACUUM ANALYZE arx.transactions;
SELECT action, table_name, statement ~ '^REINDEX INDEX CONCURRENTLY arx\.' AS at_top_level, gain_bytes > 0 AS gains
  FROM arx.index_maintenance_plan() WHERE action = 'reindex' AND table_name = 'arx.transactions_default' ORDER BY gain_bytes DESC LIMIT 1;
SET client_min_messages = warning;
SELECT arx.maintain_indexes() > 0 AS waiting;
SELECT statement FROM arx.index_maintenance_plan() WHERE statement IS NOT NULL \gexec
SELECT count(*) FROM arx.index_maintenance_plan() WHERE statement IS NOT NULL;
-- Without pg_cron.
SELECT * FROM arx.install_schedules();
SELECT arx.remove_schedules();
-- Indexes that are duplicate or redundant, and foreign keys without one.
CREATE TABLE arx.cases (id integer PRIMARY KEY, a integer, b integer, parent integer REFERENCES arx.cases);
CREATE INDEX cases_a_b ON arx.cases (a, b);
CREATE INDEX cases_a ON arx.cases (a);
CREATE INDEX cases_a_desc ON arx.cases (a DESC);
CREATE INDEX cases_a_b_again ON arx.cases (a, b);
CREATE INDEX cases_id ON arx.cases (id);
CREATE INDEX cases_some ON arx.cases (a) WHERE b > 0;
SELECT index_name, action, reason, statement FROM arx.index_maintenance_plan()
 WHERE table_name = 'arx.cases' AND action <> 'review' ORDER BY 1, 2;
CREATE INDEX cases_parent ON arx.cases (parent);
SELECT count(*) FROM arx.index_maintenance_plan() WHERE table_name = 'arx.cases' AND action = 'missing';
