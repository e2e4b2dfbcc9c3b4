-- Networks that are not EVM accept opaque addresses, which keeps this file readable.
INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST');
SELECT arx.ensure_partitions('arx.transactions', '2024-01-01', '2024-03-31');
-- An empty graph gives results without rows or with zeros.
SELECT state FROM arx.graph_status();
SELECT * FROM arx.wallet_reach('a', 'testnet');
SELECT state, transfers, wallets, bytes_per_transfer FROM arx.graph_status();
SELECT * FROM arx.verify_graph();
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value, status)
SELECT 'testnet', 't' || n, n, '2024-01-01'::timestamptz + n * interval '4 days', s.edge[1], s.edge[2], s.edge[3]::numeric,
       s.edge[4]::arx.tx_status_enum
  FROM unnest(ARRAY['a b 10 confirmed', 'a c 1 confirmed', 'b d 5 confirmed', 'c d 1 confirmed', 'd e 6 confirmed', 'a b 2 confirmed',
                    'e a 3 confirmed', 'c e 0.5 failed', 'd f 0.25 confirmed', 'x y 1 confirmed']) WITH ORDINALITY AS u (e, n)
 CROSS JOIN LATERAL (SELECT string_to_array(e, ' ') AS edge) AS s;
INSERT INTO arx.token_transfers (network, tx_hash, log_index, block_number, "timestamp", token_address, from_address, to_address, amount)
VALUES ('testnet', 't1', 0, 1, '2024-01-05', 'usd', 'a', 'z', 500), ('testnet', 't2', 3, 2, '2024-01-09', 'usd', 'z', 'f', 499),
       ('testnet', 't2', 4, 2, '2024-01-09', 'dai', 'a', 'b', repeat('9', 78)::numeric / 10);
SELECT state, delta_rows FROM arx.graph_status();
SELECT outcome, merged_rows, transfers, wallets FROM arx.refresh_graph();
SELECT outcome, merged_rows FROM arx.refresh_graph();
SELECT network, asset, equal, table_transfers, graph_transfers, table_value FROM arx.verify_graph();

-- Reach: depth 0 is the wallet itself.
SELECT * FROM arx.wallet_reach('a', 'testnet');
SELECT * FROM arx.wallet_reach('e', 'testnet', 2, 'in');
SELECT * FROM arx.wallet_reach('d', 'testnet', 1, 'both');
-- By asset: the coin by name, one token, any token, everything (values of several are not added
-- up).
SELECT * FROM arx.wallet_reach('a', 'testnet', asset => 'tst');
SELECT * FROM arx.wallet_reach('a', 'testnet', asset => 'usd');
SELECT * FROM arx.wallet_reach('a', 'testnet', asset => 'tokens');
SELECT * FROM arx.wallet_reach('a', 'testnet', asset => 'all');
SELECT depth, target, total_value FROM arx.wallet_connections('a', 'testnet', asset => 'dai');
-- By time, value, strength and success.
SELECT depth, target, connection_strength AS txs FROM arx.wallet_connections('a', 'testnet', since => '2024-01-10', until => '2024-02-01');
SELECT depth, target, total_value FROM arx.wallet_connections('a', 'testnet', min_value => 2);
SELECT depth, target, connection_strength AS txs FROM arx.wallet_connections('a', 'testnet', min_strength => 2);
SELECT depth, target FROM arx.wallet_connections('c', 'testnet', 1);
SELECT depth, target FROM arx.wallet_connections('c', 'testnet', 1, include_failed => false);
-- The strongest wallets of each depth, and limits that are reported when reached.
SELECT depth, target, strength_rank, predecessor, complete FROM arx.wallet_connections('a', 'testnet', top => 1);
SELECT depth, target, complete, reason FROM arx.wallet_connections('a', 'testnet', max_nodes => 3);
SELECT * FROM arx.wallet_reach('a', 'testnet', max_nodes => 2);
SELECT * FROM arx.wallet_reach('a', 'testnet', max_time => '1 microsecond');

-- Paths: one row a step.
SELECT path, step, from_address, to_address, transfers, total_value, tx_hashes, path_cost, hops, complete, reason
  FROM arx.shortest_path('a', 'e', 'testnet');
SELECT path, step, from_address, to_address, tx_hashes, hops FROM arx.shortest_path('a', 'd', 'testnet', k => 5);
-- The path that most of the money took, and the most recently used path.
SELECT step, from_address, to_address, total_value, round(exp(-path_cost)::numeric, 3) AS share
  FROM arx.shortest_path('a', 'e', 'testnet', 'value');
SELECT step, from_address, to_address, last_seen, round(step_cost::numeric, 1) AS days
  FROM arx.shortest_path('a', 'd', 'testnet', 'recency', until => '2024-03-01');
-- Against the direction, in both directions, and along token transfers.
SELECT step, from_address, to_address FROM arx.shortest_path('e', 'a', 'testnet', direction => 'in');
SELECT step, from_address, to_address FROM arx.shortest_path('f', 'c', 'testnet', direction => 'both');
SELECT step, from_address, to_address, total_value, tx_hashes FROM arx.shortest_path('a', 'f', 'testnet', asset => 'usd');
SELECT step, from_address, to_address, total_value, tx_hashes FROM arx.shortest_path('a', 'f', 'testnet', asset => 'all');
-- From a wallet to itself; not connected; not within the hops; search incomplete; unknown wallet.
SELECT path, step, from_address, to_address, path_cost, hops, complete, reason FROM arx.shortest_path('a', 'a', 'testnet');
SELECT path, step, complete, reason FROM arx.shortest_path('a', 'x', 'testnet');
SELECT path, step, complete, reason FROM arx.shortest_path('a', 'e', 'testnet', max_depth => 1);
SELECT path, step, complete, reason FROM arx.shortest_path('a', 'e', 'testnet', max_nodes => 2);
SELECT path, step, complete, reason FROM arx.shortest_path('a', 'stranger', 'testnet');

-- A drawing.
INSERT INTO arx.address_labels (network, address, category, severity, label, source)
VALUES ('testnet', 'd', 'exchange', 'none', 'The "Big" <Exchange>', 'test'), ('testnet', 'b', 'scam', 'high', '', 'test');
SELECT arx.wallet_graph_dot('a', 'testnet', 1, fold_above => 2);
SELECT arx.wallet_graph_dot('stranger', 'testnet');

-- The transaction of the caller.
BEGIN;
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
VALUES ('testnet', 'own', 99, '2024-02-01', 'y', 'a', 1);
DELETE FROM arx.transactions WHERE tx_hash = 't2';
SELECT sum(wallets) AS wallets FROM arx.wallet_reach('x', 'testnet', 10);
SELECT outcome FROM arx.refresh_graph();
ROLLBACK;
SELECT sum(wallets) AS wallets FROM arx.wallet_reach('x', 'testnet', 10);
-- A session that uses the newest file without an overlay.
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
VALUES ('testnet', 't11', 99, '2024-02-01', 'y', 'a', 1);
SET arx.graph_freshness = 'base';
SELECT sum(wallets) AS wallets FROM arx.wallet_reach('x', 'testnet', 10);
SET arx.graph_freshness = 'exact';
SELECT sum(wallets) AS wallets FROM arx.wallet_reach('x', 'testnet', 10);
SET arx.graph_freshness = 'stale';
-- An overlay that exceeds the limit is merged by a background worker of the session that finds it.
CREATE FUNCTION pg_temp.wait_for_merge() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..600 LOOP
        EXIT WHEN (SELECT delta_rows = 0 FROM arx.graph_status());
        PERFORM pg_sleep(0.1);
    END LOOP;
END
$$;
SET arx.graph_delta_limit = 3;
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
SELECT 'testnet', 'm' || n, n, '2024-02-01', 'y', 'n' || n, 1 FROM generate_series(1, 4) AS n;
SELECT generation, delta_rows FROM arx.graph_status();
SELECT wallets FROM arx.wallet_reach('y', 'testnet', 1) WHERE depth = 1;
SELECT pg_temp.wait_for_merge();
SELECT generation, delta_rows FROM arx.graph_status();
-- A merge writes the whole file for its changes.
SELECT segments, segment_rows, segment_bytes, written_bytes > file_bytes AS wrote_more, write_amplification > 1 AS amplified
  FROM arx.graph_status();
RESET arx.graph_delta_limit;

-- verify_graph() finds changes that bypassed the triggers, and a rebuild repairs the graph. The
-- epoch, which disabling a trigger raises, is set back.
SELECT max(epoch_id) AS before FROM arx.graph_epoch \gset
ALTER TABLE arx.transactions DISABLE TRIGGER arx_log_change;
UPDATE arx.transactions SET value = 7 WHERE tx_hash = 't1';
ALTER TABLE arx.transactions ENABLE ALWAYS TRIGGER arx_log_change;
DELETE FROM arx.graph_epoch WHERE epoch_id > :before;
SELECT network, asset, equal, table_value - graph_value AS off FROM arx.verify_graph();
SELECT outcome FROM arx.refresh_graph(rebuild => true);
SELECT network, asset, equal, table_value - graph_value AS off FROM arx.verify_graph();
-- A logged change of a row that the graph does not have is detected, and the graph is rebuilt.
ALTER TABLE arx.transactions DISABLE TRIGGER arx_restamp;
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value, ingest_xid)
VALUES ('testnet', 'forged', 99, '2024-02-01', 'y', 'x', 1, '3');
ALTER TABLE arx.transactions ENABLE ALWAYS TRIGGER arx_restamp;
DELETE FROM arx.graph_epoch WHERE epoch_id > :before;
DELETE FROM arx.transactions WHERE tx_hash = 'forged';
SELECT outcome FROM arx.refresh_graph();

-- Rows stamped by another cluster: answers stay correct, and enabling the trigger repairs.
ALTER TABLE arx.transactions DISABLE TRIGGER arx_stamp, DISABLE TRIGGER arx_restamp;
UPDATE arx.transactions SET ingest_xid = '4000000000' WHERE tx_hash IN ('t1', 't5');
SELECT outcome FROM arx.refresh_graph(true);
SELECT sum(wallets) AS wallets FROM arx.wallet_reach('a', 'testnet', 1);
ALTER TABLE arx.transactions ENABLE ALWAYS TRIGGER arx_stamp, ENABLE ALWAYS TRIGGER arx_restamp;
SELECT count(*) AS foreign_stamps FROM arx.transactions WHERE ingest_xid = '4000000000';
SELECT sum(wallets) AS wallets FROM arx.wallet_reach('a', 'testnet', 1);
SELECT network, asset, equal FROM arx.verify_graph();

-- In the leader of a parallel query.
SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET min_parallel_index_scan_size = 0;
EXPLAIN (COSTS off) SELECT r.depth, r.wallets FROM (SELECT max(from_address || '') AS wallet FROM arx.transactions) AS m
 CROSS JOIN LATERAL arx.wallet_reach(m.wallet, 'testnet', 2) AS r;
SELECT m.wallet, r.depth, r.wallets FROM (SELECT max(from_address || '') AS wallet FROM arx.transactions) AS m
 CROSS JOIN LATERAL arx.wallet_reach(m.wallet, 'testnet', 2) AS r;
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
VALUES ('testnet', 'p1', 99, '2024-02-01', 'y', 'q', 1);
SELECT m.wallet, r.depth, r.wallets FROM (SELECT max(from_address || '') AS wallet FROM arx.transactions) AS m
 CROSS JOIN LATERAL arx.wallet_reach(m.wallet, 'testnet', 2, totals => false) AS r;
RESET parallel_setup_cost; RESET parallel_tuple_cost; RESET min_parallel_table_scan_size; RESET min_parallel_index_scan_size;

-- Invalid arguments.
SELECT * FROM arx.wallet_reach('a', 'testnet', totals => NULL);
SELECT * FROM arx.wallet_reach('a', 'testnet', 33);
SELECT * FROM arx.wallet_reach('a', 'testnet', NULL);
SELECT * FROM arx.wallet_reach('a', 'testnet', direction => 'sideways');
SELECT * FROM arx.wallet_reach('a', 'testnet', direction => NULL);
SELECT * FROM arx.wallet_reach('a', 'testnet', asset => '');
SELECT * FROM arx.wallet_reach('a', 'testnet', asset => 'gold');
SELECT * FROM arx.wallet_reach('0x00000000000000000000000000000000000000aa', 'ethereum', asset => 'gold');
SELECT * FROM arx.wallet_reach('a', 'testnet', asset => 'all', min_value => 1);
SELECT * FROM arx.wallet_reach('a', 'testnet', min_value => -1);
SELECT * FROM arx.wallet_reach('a', 'testnet', min_value => 'NaN');
SELECT * FROM arx.wallet_reach('a', 'testnet', min_value => 0.0000000000000000001);
SELECT * FROM arx.wallet_reach('a', 'testnet', asset => 'usd', min_value => 0.5);
SELECT * FROM arx.wallet_reach('a', 'testnet', since => '2024-02-01', until => '2024-01-01');
SELECT * FROM arx.wallet_reach('a', 'testnet', min_strength => 0);
SELECT * FROM arx.wallet_reach('a', 'testnet', max_nodes => 0);
SELECT * FROM arx.wallet_reach('a', 'testnet', max_time => '-1 s');
SELECT * FROM arx.wallet_connections('a', 'testnet', top => 0);
SELECT * FROM arx.shortest_path('a', NULL, 'testnet');
SELECT * FROM arx.shortest_path('a', 'b', 'testnet', 'beauty');
SELECT * FROM arx.shortest_path('a', 'b', 'testnet', k => 101);
SELECT * FROM arx.shortest_path('a', 'b', 'testnet', 'value', asset => 'all');
SELECT arx.wallet_graph_dot('a', 'testnet', fold_above => 0);
SELECT * FROM arx.refresh_graph(NULL);

-- Readers may call the functions, unless row-level security hides rows from them.
CREATE ROLE graph_reader IN ROLE arx_reader;
CREATE ROLE graph_outsider;
SET ROLE graph_reader;
SELECT sum(wallets) AS wallets FROM arx.wallet_reach('a', 'testnet', 1);
SELECT state FROM arx.graph_status();
SELECT * FROM arx.refresh_graph();
SELECT * FROM arx.verify_graph();
RESET ROLE;
REVOKE SELECT ON arx.token_transfers FROM arx_reader;
SET ROLE graph_reader;
SELECT sum(wallets) AS wallets FROM arx.wallet_reach('a', 'testnet', 1);
SELECT sum(wallets) AS wallets FROM arx.wallet_reach('a', 'testnet', 1, asset => 'all');
-- SELECT on token_transfers is not needed without a file either, or when the file must be merged:
-- the caller then builds a private graph.
RESET ROLE;
TRUNCATE arx.token_transfers;
SET ROLE graph_reader;
SELECT sum(wallets) AS wallets FROM arx.wallet_reach('a', 'testnet', 1);
RESET ROLE;
SELECT sum(wallets) AS wallets FROM arx.wallet_reach('a', 'testnet', 1, asset => 'all');
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
SELECT 'testnet', 'r' || n, n, '2024-02-01', 'a', 'r' || n, 1 FROM generate_series(1, 4) AS n;
SET arx.graph_delta_limit = 3;
SET ROLE graph_reader;
SELECT sum(wallets) AS wallets FROM arx.wallet_reach('a', 'testnet', 1);
RESET ROLE;
SELECT pg_temp.wait_for_merge();
SELECT generation, delta_rows FROM arx.graph_status();
SELECT sum(wallets) AS wallets FROM arx.wallet_reach('a', 'testnet', 1);
RESET arx.graph_delta_limit;
GRANT SELECT ON arx.token_transfers TO arx_reader;
ALTER TABLE arx.transactions ENABLE ROW LEVEL SECURITY;
CREATE POLICY half ON arx.transactions USING (block_number % 2 = 0);
SET ROLE graph_reader;
SELECT sum(wallets) AS wallets FROM arx.wallet_reach('a', 'testnet', 1);
RESET ROLE;
SELECT sum(wallets) AS wallets FROM arx.wallet_reach('a', 'testnet', 1);
ALTER TABLE arx.transactions DISABLE ROW LEVEL SECURITY;
SET ROLE graph_outsider;
SELECT * FROM arx.wallet_reach('a', 'testnet', 1);
RESET ROLE;
DROP ROLE graph_reader;
DROP ROLE graph_outsider;
-- Files of a dropped extension are not used by its successor, which finds the rows.
SET client_min_messages = warning;
DROP EXTENSION arx CASCADE;
DELETE FROM arx.transactions WHERE tx_hash LIKE 'r%';
CREATE EXTENSION arx;
RESET client_min_messages;
SELECT count(*) > 0 AS created FROM arx.create_tables();
SELECT sum(wallets) AS wallets FROM arx.wallet_reach('a', 'testnet', 1);
