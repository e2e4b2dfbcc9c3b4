-- The catalogue of analytics queries: what it holds, what it answers, and requests that it rejects.
SET timezone = 'Asia/Tokyo';
SELECT query, description, reads, clickhouse FROM arx.query_catalogue();
SELECT query, string_agg(key, ', ') AS parameters FROM arx.query_catalogue(), jsonb_object_keys(parameters) AS key GROUP BY query ORDER BY query;
SELECT query, string_agg((c ->> 'name') || ' ' || (c ->> 'type'), ', ' ORDER BY n) AS columns
  FROM arx.query_catalogue(), jsonb_array_elements(columns) WITH ORDINALITY AS e (c, n) GROUP BY query ORDER BY query;
INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST'), ('othernet', 'OTH');
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value, value_usd, gas_price, status) VALUES
    ('testnet', 't1', 1, '2024-01-01 23:59:59.999999+00', 'a', 'b', 1.5, 10, 9007199254740993, 'confirmed'),
    ('testnet', 't2', 2, '2024-01-02 00:00+00', 'b', 'a', 123456789012345678.000000000000000001, NULL, NULL, 'confirmed'),
    ('testnet', 't3', 3, '2024-01-02 12:00+00', 'a', 'a', 4, 40, 5, 'unknown'),
    ('testnet', 't4', 4, '2024-01-02 13:00+00', 'a', 'c', 8, 80, 7, 'failed'),
    ('testnet', 't5', 5, '2024-01-03 00:00+00', 'c', NULL, 2, NULL, 7, 'confirmed'),
    ('othernet', 't6', 5, '2024-01-02 12:00+00', 'a', 'b', 16, NULL, NULL, 'confirmed');
INSERT INTO arx.internal_transfers (network, tx_hash, position, block_number, "timestamp", from_address, to_address, value, succeeded)
VALUES ('testnet', 't1', 0, 1, '2024-01-01 23:59:59.999999+00', 'b', 'a', 0.5, true),
       ('testnet', 't4', 0, 4, '2024-01-02 13:00+00', 'c', 'a', 0.5, NULL),
       ('testnet', 'reward', 0, 6, '2024-01-06 00:00+00', NULL, 'a', 3, NULL),
       ('testnet', 'empty', 0, 7, '2024-01-07 00:00+00', NULL, 'a', 0, NULL);
INSERT INTO arx.token_transfers (network, tx_hash, log_index, block_number, "timestamp", token_address, from_address, to_address, amount)
SELECT 'testnet', 't1', n, 1, timestamptz '2024-01-01 23:59:59.999999+00', 'token', 'a', 'b' || n,
       115792089237316195423570985008687907853269984665640564039457584007913129639935 FROM generate_series(1, 3) AS n
UNION ALL SELECT 'testnet', 'lonely', 0, 1, '2024-01-02', 'other', 'a', 'b', 7;
SELECT arx.run_query('network_totals', '{"network": "testnet", "from": "2024-01-01", "to": "2024-02-01"}');
SELECT arx.run_query('network_totals', '{"network": "testnet", "from": "2024-01-02", "to": "2024-01-03"}');
SELECT arx.run_query('wallet_activity', '{"network": "TESTNET", "address": "a", "from": "2024-01-01", "to": "2024-02-01"}');
SELECT arx.run_query('top_counterparties', '{"network": "testnet", "address": "a", "from": "2024-01-01", "to": "2024-02-01", "limit": 2}');
SELECT arx.run_query('top_wallets', '{"network": "testnet", "from": "2024-01-01", "to": "2024-02-01", "limit": "3"}');
SELECT arx.run_query('largest_transfers', '{"network": "testnet", "from": "2024-01-01", "to": "2024-02-01"}');
SELECT arx.run_query('token_totals', '{"network": "testnet", "from": "2024-01-01", "to": "2024-02-01"}');
SELECT arx.run_query('token_totals', '{"network": "testnet", "token": "other", "from": "2024-01-01", "to": "2024-02-01"}');
INSERT INTO arx.risk_score_history (network, address, score, band, state, model_version)
VALUES ('testnet', 'a', 80, 'severe', 'scored', 'x'), ('testnet', 'b', 20, 'low', 'scored', 'x'), ('testnet', 'c', 20, 'low', 'scored', 'x');
INSERT INTO arx.risk_score_history (network, address, scored_at, score, band, state, model_version)
VALUES ('testnet', 'b', now() - interval '1 day', 80, 'severe', 'scored', 'x');
SELECT arx.run_query('risk_bands', '{"network": "testnet"}');
-- The default range is the last 30 days.
SELECT end_day::date - first_day::date AS days, row_limit, exact, max_age, not_older_than
  FROM arx.resolve_query('top_wallets', '{"network": "testnet"}', '2024-03-01');
SELECT first_day, end_day, exact, max_age, not_older_than
  FROM arx.resolve_query('top_wallets', '{"network": "testnet", "exact": true, "max_age": 1.5, "not_older_than": "5:5:"}', '2024-03-01');

-- The choice of a store. No feed has run.
SELECT store, chosen, eligible, reason, exactness, estimated_rows IS NULL AS unknown, position IS NULL AS no_position, age
  FROM arx.route_explain('network_totals', '{"network": "testnet"}');
SELECT store, chosen, eligible, reason FROM arx.route_explain('risk_bands', '{"network": "testnet"}');
-- A position up to now, so that ClickHouse has everything.
INSERT INTO arx.feed_positions (consumer, position, attempt, confirmed, epoch, system_identifier, timeline, database_oid, updated_at)
SELECT 'clickhouse', pg_current_snapshot(), 3, 3, arx.current_graph_epoch(), c.system_identifier, 1, d.oid, now() - interval '1 hour'
  FROM pg_control_system() AS c, pg_database AS d WHERE d.datname = current_database();
SELECT store, chosen, eligible, reason, exactness, age
  FROM arx.route_explain('network_totals', '{"network": "testnet", "exact": true, "max_age": 0}');
SELECT store, eligible, reason FROM arx.route_explain('token_totals', '{"network": "testnet", "exact": true}');
-- Rows are made expensive here: the numbers that ClickHouse keeps are cheaper.
SET cpu_tuple_cost = 10000;
SELECT store, chosen FROM arx.route_explain('network_totals', '{"network": "testnet", "from": "2020-01-01", "to": "2025-01-01"}');
RESET cpu_tuple_cost;
-- A change that has not been fed.
UPDATE arx.transactions SET value = 2 WHERE tx_hash = 't1';
SELECT store, chosen, eligible, regexp_replace(reason, '\d+', 'N') AS reason
  FROM arx.route_explain('network_totals', '{"network": "testnet", "max_age": 60}') WHERE store = 'clickhouse';
SELECT store, eligible, reason, age > interval '59 minutes' AS is_old FROM arx.route_explain('network_totals', '{"network": "testnet", "max_age": 7200}') WHERE store = 'clickhouse';
SELECT eligible, reason FROM arx.route_explain('network_totals',
    jsonb_build_object('network', 'testnet', 'not_older_than', pg_current_snapshot())) WHERE store = 'clickhouse';
UPDATE arx.feed_positions SET attempt = 4;
SELECT eligible, reason FROM arx.route_explain('top_wallets', '{"network": "testnet", "exact": true}') WHERE store = 'clickhouse';
UPDATE arx.feed_positions SET database_oid = 1;
SELECT eligible, reason FROM arx.route_explain('top_wallets', '{"network": "testnet"}') WHERE store = 'clickhouse';

-- Requests that are rejected.
\set VERBOSITY verbose
\set SHOW_CONTEXT never
SELECT arx.run_query('passwords', '{"network": "testnet"}');
SELECT arx.run_query(NULL, '{}');
SELECT arx.run_query('top_wallets', NULL);
SELECT arx.run_query('top_wallets', '[]');
SELECT arx.run_query('top_wallets', '{}');
SELECT arx.run_query('top_wallets', '{"network": "nowhere"}');
SELECT arx.run_query('top_wallets', '{"network": ["testnet"]}');
SELECT arx.run_query('top_wallets', '{"network": "testnet", "address": "a"}');
SELECT arx.run_query('top_wallets', '{"network": "testnet", "limit": 1001}');
SELECT arx.run_query('top_wallets', '{"network": "testnet", "limit": "1; DROP TABLE arx.transactions"}');
SELECT arx.run_query('top_wallets', '{"network": "testnet", "from": "2024-02-01", "to": "2024-01-01"}');
SELECT arx.run_query('top_wallets', '{"network": "testnet", "from": "1970-01-01", "to": "2070-01-01"}');
SELECT arx.run_query('top_wallets', '{"network": "testnet", "from": "yesterday"}');
SELECT arx.run_query('wallet_activity', '{"network": "ethereum", "address": "0x12"}');
SELECT arx.run_query('wallet_activity', jsonb_build_object('network', 'testnet', 'address', repeat('x', 100000)));
SELECT arx.run_query('wallet_activity', jsonb_build_object('network', 'testnet', 'address', repeat('x', 10000000)));
SELECT arx.route_explain('top_wallets', '{"network": "testnet", "max_age": -1}');
SELECT arx.route_explain('top_wallets', '{"network": "testnet", "not_older_than": "now"}');
\set VERBOSITY default
-- Text is a value wherever it stands.
SELECT arx.run_query('wallet_activity', '{"network": "testnet", "address": "a''OR''1''=''1"}');
SELECT arx.run_query('token_totals', '{"network": "testnet", "token": "{network:String}''--"}');
-- Readers may ask; others may not.
SET ROLE arx_reader;
SELECT count(*) FROM arx.run_query('top_wallets', '{"network": "testnet", "from": "2024-01-01", "to": "2024-02-01"}');
SELECT count(*) FROM arx.route_explain('top_wallets', '{"network": "testnet"}');
RESET ROLE;
CREATE ROLE arx_test_router_nobody;
SET ROLE arx_test_router_nobody;
SELECT arx.run_query('top_wallets', '{"network": "testnet"}');
RESET ROLE;
DROP ROLE arx_test_router_nobody;
