INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST');
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
VALUES ('testnet', 't1', 1, '2024-01-01', 'a', 'b', 1);
INSERT INTO arx.users (email) VALUES ('ada@example.org');
SELECT format('CREATE ROLE %I', 'outsider_' || current_database()), format('CREATE ROLE %I IN ROLE arx_reader', 'reader_' || current_database()),
       format('CREATE ROLE %I IN ROLE arx_operator', 'operator_' || current_database()) \gexec
SELECT 'outsider_' || current_database() AS outsider, 'reader_' || current_database() AS reader, 'operator_' || current_database() AS operator \gset
-- A role without privileges.
SET ROLE :"outsider";
SELECT * FROM arx.wallet_risk('a', 'testnet');
SELECT * FROM arx.transactions;
SELECT arx.normalize_network('ETH');
RESET ROLE;
-- A reader may read, and may change nothing.
SET ROLE :"reader";
SELECT score, state FROM arx.wallet_risk('a', 'testnet');
SELECT state, wallets FROM arx.risk_distribution('testnet');
SELECT count(*) FROM arx.feature_vectors('testnet');
SELECT arx.fit_risk_model('mine', 'testnet');
SELECT arx.activate_risk_model('mine');
SELECT arx.override_risk('a', 'testnet', 1, 'mine', now() + interval '1 day');
CALL arx.refresh_risk_scores();
SELECT target FROM arx.wallet_connections('a', 'testnet');
SELECT tx_hash FROM arx.wallet_history('b', 'testnet');
SELECT count(*) > 0 AS planned FROM arx.run_partition_maintenance(dry_run => true);
SELECT count(*) > 0 AS planned FROM arx.partition_plan('arx.transactions');
SELECT active_connections > 0 FROM arx.performance_dashboard;
SELECT count(*) >= 0 AS checked FROM arx.check_performance_alerts();
SELECT * FROM arx.users;
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
VALUES ('testnet', 't2', 1, '2024-01-01', 'a', 'b', 1);
SELECT arx.refresh_wallet_profiles();
SELECT * FROM arx.manage_partitions();
SELECT job FROM arx.job_locks FOR UPDATE;
SELECT arx.lock_job('partitions');
DELETE FROM arx.transaction_changes;
RESET ROLE;
-- An operator may change state.
SET ROLE :"operator";
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
VALUES ('testnet', 't2', 1, '2024-01-01', 'a', 'c', 1);
UPDATE arx.transactions SET value = 7 WHERE tx_hash = 't1';
SELECT operation, value FROM arx.transaction_changes;
SELECT count(*) > 0 AS made FROM arx.run_partition_maintenance();
SELECT job FROM arx.job_locks FOR UPDATE;
SELECT arx.lock_job('nothing');
SELECT arx.refresh_wallet_profiles(), arx.refresh_daily_stats();
CALL arx.refresh_risk_scores();
SELECT arx.fit_risk_model('mine', 'testnet');
SELECT arx.import_risk_model(arx.default_risk_model() || '{"version": "mine"}');
SELECT arx.activate_risk_model('mine');
SELECT arx.rollback_risk_model();
SELECT arx.override_risk('a', 'testnet', 1, 'mine', now() + interval '1 day') > 0 AS decided;
SELECT state, score, reason FROM arx.risk_overrides JOIN arx.wallet_risk('a', 'testnet') USING (address, score);
UPDATE arx.risk_models SET state = 'active';
UPDATE arx.risk_overrides SET score = 99;
SELECT partition FROM arx.create_hash_partitions();
SELECT arx.record_performance_alerts() >= 0 AS recorded;
SELECT email FROM arx.users;
CREATE TABLE arx.mine (x integer);
INSERT INTO arx.graph_epoch (reason, relation) VALUES ('forged', 'x');
-- Only a job of ARX begins and finishes a refresh: no one reports changes as read that were not.
SELECT arx.begin_refresh('wallet_profiles');
SELECT arx.begin_refresh('clickhouse');
SELECT arx.finish_refresh('wallet_profiles', '4000000000:4000000000:', 1, 0);
SELECT arx.refresh_wallet_profiles(), arx.refresh_wallet_profiles();
SELECT consumer FROM arx.feed_positions WHERE position::text LIKE '4000000000%' OR pending_xid IS NOT NULL;
RESET ROLE;
DROP ROLE :"outsider", :"reader", :"operator";
