-- Rows that pg_dump carries: those of the users. Rows that ARX ships come with CREATE EXTENSION.
-- Positions and queues of jobs are left out, so the jobs start over in a restored database. So is
-- label_changes: no snapshot of a restored database is older than its rows.
SELECT pg_catalog.pg_extension_config_dump('arx.networks', 'WHERE NOT builtin');
SELECT pg_catalog.pg_extension_config_dump('arx.label_categories', 'WHERE NOT builtin');
SELECT pg_catalog.pg_extension_config_dump('arx.users', '');
SELECT pg_catalog.pg_extension_config_dump('arx.address_labels', '');
SELECT pg_catalog.pg_extension_config_dump('arx.asset_prices', '');
SELECT pg_catalog.pg_extension_config_dump('arx.transactions_default', '');
SELECT pg_catalog.pg_extension_config_dump('arx.token_transfers_default', '');
SELECT pg_catalog.pg_extension_config_dump('arx.wallet_profiles_default', '');
SELECT pg_catalog.pg_extension_config_dump('arx.transaction_changes', '');
SELECT pg_catalog.pg_extension_config_dump('arx.daily_transaction_stats', '');
SELECT pg_catalog.pg_extension_config_dump('arx.hourly_volume', '');
SELECT pg_catalog.pg_extension_config_dump('arx.import_progress', '');
SELECT pg_catalog.pg_extension_config_dump('arx.pattern_findings', '');
SELECT pg_catalog.pg_extension_config_dump('arx.partition_policies', 'WHERE NOT builtin');
SELECT pg_catalog.pg_extension_config_dump('arx.behaviour_thresholds', 'WHERE NOT builtin');
SELECT pg_catalog.pg_extension_config_dump('arx.alert_rules', 'WHERE NOT builtin');
SELECT pg_catalog.pg_extension_config_dump('arx.cluster_exclusions', '');
SELECT pg_catalog.pg_extension_config_dump('arx.alerts', '');
SELECT pg_catalog.pg_extension_config_dump('arx.risk_models', 'WHERE NOT builtin');
SELECT pg_catalog.pg_extension_config_dump('arx.risk_model_activations', 'WHERE NOT builtin');
SELECT pg_catalog.pg_extension_config_dump('arx.risk_overrides', '');
SELECT pg_catalog.pg_extension_config_dump('arx.risk_score_history', '');
SELECT pg_catalog.pg_extension_config_dump('arx.risk_model_activations_activation_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('arx.risk_overrides_override_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('arx.risk_score_history_entry_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('arx.address_labels_label_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('arx.transaction_changes_change_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('arx.alerts_alert_id_seq', '');
