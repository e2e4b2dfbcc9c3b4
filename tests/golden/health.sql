-- One row a check, with the severity in words; what cannot be measured here is well or unknown.
SELECT count(DISTINCT name) = (SELECT count(*) FROM arx.effective_alert_rules WHERE enabled) AS every_rule,
       bool_and(severity IN ('ok', 'info', 'unknown', 'warning', 'critical')) AS severities, bool_and(cause <> '') AS causes
  FROM arx.health_check();
SELECT metric FROM arx.health_facts() WHERE value IS NULL AND applies AND cause LIKE 'cannot be measured%';
SELECT m.metric FROM arx.health_metrics() AS m WHERE m.metric NOT IN (SELECT r.metric FROM arx.effective_alert_rules AS r) ORDER BY 1;
SELECT name, value, severity, cause FROM arx.health_check() WHERE name IN ('standby_lag', 'feed_lag', 'replay_paused', 'failed_jobs') ORDER BY name;
-- Rows of a default partition are counted, not estimated.
INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST');
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
SELECT 'testnet', 't' || n, n, '2024-01-01', 'a', 'b', 1 FROM generate_series(1, 5) AS n;
SELECT object, value, threshold, severity, cause, statement FROM arx.health_check() WHERE name = 'default_partition' ORDER BY object;
SELECT message, severity, value FROM arx.check_performance_alerts() WHERE alert_type = 'default_partition';
-- Thresholds of one object, and of one database; the most specific row wins.
INSERT INTO arx.alert_thresholds (rule, warning, critical) VALUES ('default_partition', 1, 2);
SELECT severity, threshold FROM arx.health_check() WHERE name = 'default_partition';
INSERT INTO arx.alert_thresholds (rule, object, warning) VALUES ('default_partition', 'arx.transactions%', 100);
SELECT severity, object FROM arx.health_check() WHERE name = 'default_partition';
INSERT INTO arx.alert_thresholds (rule, database, object, warning, critical)
VALUES ('default_partition', current_database(), 'arx.transactions%', 1, 3), ('default_partition', 'another', 'arx.transactions%', 1, NULL);
SELECT severity, threshold FROM arx.health_check() WHERE name = 'default_partition';
INSERT INTO arx.alert_thresholds (rule, enabled) VALUES ('checksums', false), ('checkpoints', false);
SELECT count(*) FROM arx.health_check() WHERE name IN ('checksums', 'checkpoints');
INSERT INTO arx.alert_thresholds (rule) VALUES ('connections');
INSERT INTO arx.alert_thresholds (rule, warning, critical) VALUES ('connections', 9, 5);
SELECT * FROM arx.health_check();
DELETE FROM arx.alert_thresholds;
-- A rule that names a missing metric is unknown; one with an information alone is no alert.
INSERT INTO arx.alert_rules (rule, metric, warning, message) VALUES ('mistyped', 'conections', 1, 'x');
INSERT INTO arx.alert_rules (rule, metric, info, message) VALUES ('noted', 'connections', -1, 'sessions exist');
SELECT name, value, severity, cause FROM arx.health_check() WHERE name = 'mistyped';
SELECT name, severity, cause ~ '^sessions exist: [0-9]+ is above the info threshold of -1$' AS cause FROM arx.health_check() WHERE name = 'noted';
SELECT alert_type FROM arx.check_performance_alerts() WHERE alert_type IN ('mistyped', 'noted');
-- A consumer that has read everything is not late; one for which transactions wait is.
SELECT arx.refresh_daily_stats() >= 0 AS refreshed;
UPDATE arx.feed_positions SET updated_at = now() - interval '3 hours' WHERE consumer = 'daily_transaction_stats';
SELECT severity, cause FROM arx.health_check() WHERE name = 'job_lag';
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
VALUES ('testnet', 'late', 9, '2024-01-01', 'a', 'b', 1);
SELECT severity, object, round(value / 3600) AS hours, statement FROM arx.health_check() WHERE name = 'job_lag';
-- A position of another cluster: this database is a copy.
UPDATE arx.feed_positions SET system_identifier = 1 WHERE consumer = 'daily_transaction_stats';
SELECT severity, value, cause FROM arx.health_check() WHERE name = 'foreign_positions';
-- Measurements of the sidecar: fresh, minutes old, and a week old; the age of a backup goes on.
SELECT name, value, severity, cause FROM arx.health_check()
 WHERE name IN ('archive_age', 'backup_age', 'backup_check', 'cache_lag', 'dead_letters', 'queued_writes') ORDER BY name;
INSERT INTO arx.sidecar_reports (metric, object, value, since, cause) VALUES
    ('cache_lag_seconds', '', NULL, now() - interval '3 hours', NULL), ('queued_writes', '', 12, NULL, NULL),
    ('dead_letters', '', 2, NULL, 'the stream x has the reasons'), ('backup_age_seconds', 'arx', NULL, now() - interval '9 days', 'full backup 1'),
    ('backup_check_failed', 'arx', 1, NULL, 'wrong passphrase');
SELECT name, object, round(value / 3600) AS hours, severity, split_part(cause, ':', 1) AS cause
  FROM arx.health_check() WHERE name IN ('cache_lag', 'backup_age') ORDER BY name;
SELECT name, object, value, severity, cause FROM arx.health_check()
 WHERE name IN ('backup_check', 'dead_letters', 'queued_writes') ORDER BY name;
UPDATE arx.sidecar_reports SET reported_at = '2024-01-01';
UPDATE arx.sidecar_reports SET reported_at = now() - interval '3 minutes' WHERE metric = 'queued_writes';
SELECT name, value IS NULL AS unknown, severity FROM arx.health_check()
 WHERE name IN ('backup_age', 'backup_check', 'cache_lag', 'dead_letters', 'queued_writes') ORDER BY name;
\set VERBOSITY sqlstate
INSERT INTO arx.sidecar_reports (metric, value) VALUES ('connections', 1);
INSERT INTO arx.sidecar_reports (metric, value, since) VALUES ('queued_writes', 1, now());
\set VERBOSITY verbose
DELETE FROM arx.sidecar_reports;
-- A follower that has applied nothing yet is no healthy one.
SELECT arx.follow_profiles() > 0 AS follows;
SELECT value, severity, cause FROM arx.health_check() WHERE name = 'cache_lag';
DELETE FROM arx.feed_positions WHERE consumer = 'cache';
SELECT pg_advisory_unlock_all();
-- A slot that no one reads, and a sequence that runs out.
SELECT count(*) FROM pg_create_physical_replication_slot('golden_' || current_database(), true);
SELECT severity, object = 'golden_' || current_database() AS ours, statement ~ '^SELECT pg_drop_replication_slot' AS mends
  FROM arx.health_check() WHERE name = 'slot_inactive' AND object = 'golden_' || current_database();
SELECT pg_drop_replication_slot('golden_' || current_database());
CREATE SEQUENCE public.small MAXVALUE 10;
SELECT setval('public.small', 10);
SELECT severity, object, value FROM arx.health_check() WHERE name = 'sequences';
-- A member of pg_monitor alone: what it may not see is unknown.
SELECT format('CREATE ROLE %I IN ROLE pg_monitor', 'monitor_' || current_database()) \gexec
SELECT 'monitor_' || current_database() AS monitor \gset
SET ROLE :"monitor";
SELECT severity, cause FROM arx.health_check() WHERE name = 'job_lag';
SELECT severity FROM arx.health_check() WHERE name IN ('default_partition', 'connections', 'disk_used', 'xid_age') AND value IS NULL;
SELECT count(*) > 0 AS answers FROM arx.check_performance_alerts();
SELECT arx.forget_standby('x');
SELECT count(*) FROM arx.transactions;
RESET ROLE;
SELECT arx.forget_standby('x'), arx.forget_standby(NULL);
DROP ROLE :"monitor";
