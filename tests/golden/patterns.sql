SET timezone = 'UTC';
INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST'), ('othernet', 'OTH');
SELECT arx.ensure_partitions('arx.transactions', '2024-01-01', '2024-03-31');
-- Pattern types and their options.
SELECT pattern, description, source FROM arx.pattern_types();
SELECT t.pattern, o.key AS option, o.value ->> 'default' AS "default", o.value ->> 'values' AS "values", o.value ->> 'meaning' AS meaning
  FROM arx.pattern_types() AS t CROSS JOIN LATERAL jsonb_each(t.options) AS o ORDER BY 1, 2;
-- An empty table.
SELECT * FROM arx.detect_patterns('cycle', '1 day');
SELECT * FROM arx.detect_patterns('cycle', '1 day', 'testnet');
SELECT * FROM arx.refresh_patterns();
SELECT refreshed, inserted FROM arx.refresh_patterns(network => 'testnet', pattern => 'CYCLE');

-- One of each.
CREATE FUNCTION pay(first integer, payments text, "from" timestamptz DEFAULT '2024-01-10') RETURNS void LANGUAGE sql AS $$
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value, status)
SELECT 'testnet', format('t%s', $1 + u.n), $1 + u.n, $3 + p.part[1]::integer * interval '1 minute', p.part[2], p.part[3],
       p.part[4]::numeric, CASE WHEN p.part[5] = 'failed' THEN 'failed' ELSE 'confirmed' END::arx.tx_status_enum
  FROM unnest(string_to_array($2, ', ')) WITH ORDINALITY AS u (payment, n)
 CROSS JOIN LATERAL (SELECT string_to_array(u.payment, ' ')) AS p (part)
$$;
-- A cycle with a parallel transfer, a failed transfer, and a transfer of another amount.
SELECT pay(100, '0 c2 c3 10, 5 c3 c1 9.5, 6 c3 c1 9.75, 9 c1 c2 9.25, 7 c3 c1 9.5 failed, 8 c1 c2 1000, 3 d1 d2 5, 4 d2 d1 5 failed');
SELECT pay(200, (SELECT string_agg(format('%s s%s fan 2', n, n), ', ') FROM generate_series(1, 10) AS n));
SELECT pay(300, (SELECT string_agg(format('%s f r%s 3.5', 600 + n, n), ', ') FROM generate_series(1, 12) AS n));
SELECT pay(400, '0 sg m1 2, 1 sg m2 2, 2 sg m3 2, 3 sg m4 2, 10 m1 gs 2, 11 m2 gs 2, 12 m3 gs 2, 13 m4 gs 2');
SELECT pay(500, '0 g1 g 2, 1 g2 g 2, 2 g3 g 2, 3 g4 g 2, 4 g5 g 2, 10 g h1 2, 11 g h2 2, 12 g h3 2, 13 g h4 2, 14 g h5 2');
SELECT pay(600, '0 a1 b1 2, 1 a1 b2 3, 2 a2 b1 4, 3 a2 b2 5, 4 a3 b1 6, 5 a3 b2 7, 6 a1 b3 2, 7 a2 b3 3, 8 a3 b3 2, 9 b1 e1 7, 10 b1 e2 8, 11 b2 e1 9, 12 b2 e2 7');
SELECT pay(700, '0 w0 w1 400, 1 w1 w2 399, 2 w2 w3 398, 3 w3 w4 397');
SELECT pay(800, '0 p0 p1 700, 1 p1 p2 650, 2 p1 q1 50, 3 p2 p3 600, 4 p2 q2 40, 5 p3 p4 550, 6 p3 q3 30');
SELECT pay(900, '0 t x1 0.99, 1 t x2 0.98, 2 t x3 0.97, 3 t x4 1.5');
SELECT pay(1000, '0 k1 k2 77, 1 k2 k1 77, 2 k1 k2 78, 3 k2 k1 78');
SELECT pay(1100, '0 v 0xabcd000000001234 50, 5 0xabcd999999991234 v 0, 6 v 0xabcd999999991234 0.001');
SELECT pay(1200, '0 u0 u 12'), pay(1210, '0 u u1 11', '2024-03-20');
INSERT INTO arx.token_transfers (network, tx_hash, log_index, block_number, "timestamp", token_address, from_address, to_address, amount)
SELECT 'testnet', 'k' || n, 0, n, '2024-01-10'::timestamptz + n * interval '1 minute', 'usd', (ARRAY['c1','c2','c3'])[n],
       (ARRAY['c2','c3','c1'])[n], 1000 FROM generate_series(1, 3) AS n;

SELECT finding_id, pattern, strength, center, wallets, tx_hashes, transfers, total_value, first_seen, last_seen, details, complete, reason
  FROM arx.detect_patterns('cycle', '1 day');
SELECT t.pattern, d.strength, d.center, array_length(d.wallets, 1) AS wallets, d.transfers, d.tx_hashes[1:4] AS tx_hashes, d.total_value, d.details
  FROM arx.pattern_types() AS t
 CROSS JOIN LATERAL arx.detect_patterns(t.pattern, '1 day', 'testnet',
     options => CASE t.pattern WHEN 'dormant_awakened' THEN '{"min_silence_days": 60}' ELSE '{}' END::jsonb) AS d
 ORDER BY 1, 2 DESC, 3;
-- Options, times, amounts, assets, wallets.
SELECT center, transfers FROM arx.detect_patterns('cycle', '1 day', options => '{"ordered": true}');
SELECT center, transfers, details FROM arx.detect_patterns('cycle', '1 day', options => '{"tolerance": 1, "min_length": 2}') ORDER BY 1;
SELECT center FROM arx.detect_patterns('cycle', '8 minutes');
SELECT center, transfers FROM arx.detect_patterns('cycle', '1 day', since => '2024-01-10 00:00:01');
SELECT center, transfers FROM arx.detect_patterns('cycle', '1 day', min_value => 9.5);
SELECT center, transfers, total_value, tx_hashes FROM arx.detect_patterns('cycle', '1 day', asset => 'usd');
SELECT center FROM arx.detect_patterns('cycle', '1 day', asset => 'tst');
SELECT center FROM arx.detect_patterns('cycle', '1 day', asset => 'gold');
SELECT center, wallets FROM arx.detect_patterns('cycle', '1 day', wallet => 'c1');
SELECT center, wallets FROM arx.detect_patterns('cycle', '1 day', wallet => 'f');
SELECT center, wallets FROM arx.detect_patterns('cycle', '1 day', wallet => 'stranger');
SELECT center, details ->> 'threshold' AS threshold FROM arx.detect_patterns('structuring', '1 day', options => '{"threshold": 1}');
SELECT center FROM arx.detect_patterns('structuring', '1 day', options => '{"threshold": "0.97"}');
-- Limits are reported when reached.
SELECT center, complete, reason FROM arx.detect_patterns('pass_through', '1 day', max_findings => 1);
SELECT center, complete, reason FROM arx.detect_patterns('cycle', '1 day', options => '{"max_fan": 1}');
SELECT center, complete, reason FROM arx.detect_patterns('cycle', '1 day', max_time => '1 microsecond');
SELECT pay(2000, (SELECT string_agg(format('%s big z%s 1', n, n), ', ') FROM generate_series(1, 1100) AS n));
SELECT center, array_length(wallets, 1) AS wallets, array_length(tx_hashes, 1) AS hashes, transfers, details
  FROM arx.detect_patterns('fan_out', '1 day', wallet => 'big');
SET arx.graph_work_mem = '64kB';
SELECT center FROM arx.detect_patterns('fan_out', '1 day');
RESET arx.graph_work_mem;
DELETE FROM arx.transactions WHERE from_address = 'big';

-- Stored findings: without changes, nothing is written.
SELECT * FROM arx.refresh_patterns('cycle');
SELECT pattern, network, asset, "window", options, center, transfers, tx_hashes FROM arx.pattern_findings;
SELECT * FROM arx.refresh_patterns('cycle');
-- A failed transfer that is confirmed later, a new cycle far away, a cycle that ceases to exist,
-- and an uncommitted transfer.
UPDATE arx.transactions SET status = 'confirmed' WHERE tx_hash = 't105';
SELECT * FROM arx.refresh_patterns('cycle');
SELECT center, transfers, tx_hashes FROM arx.pattern_findings ORDER BY first_seen;
SELECT pay(3000, '0 n1 n2 4, 1 n2 n3 4, 2 n3 n1 4', '2024-03-01');
SELECT * FROM arx.refresh_patterns('cycle');
BEGIN;
SELECT pay(3100, '0 o1 o2 4, 1 o2 o3 4, 2 o3 o1 4', '2024-03-05');
SELECT refreshed, inserted, updated, removed FROM arx.refresh_patterns('cycle');
ROLLBACK;
SELECT refreshed, inserted, updated, removed FROM arx.refresh_patterns('cycle');
DELETE FROM arx.transactions WHERE tx_hash = 't104';
SELECT refreshed, inserted, updated, removed FROM arx.refresh_patterns('cycle');
SELECT center, transfers, tx_hashes FROM arx.pattern_findings ORDER BY first_seen;
-- Options, asset and window each have their own findings.
SELECT refreshed, inserted FROM arx.refresh_patterns('cycle', options => '{"ordered": true}');
SELECT refreshed, inserted FROM arx.refresh_patterns('cycle', asset => 'usd');
DELETE FROM arx.token_transfers WHERE tx_hash = 'k2';
SELECT refreshed, removed FROM arx.refresh_patterns('cycle', asset => 'usd');
SELECT refreshed, inserted, updated, removed FROM arx.refresh_patterns();
-- A network with addresses of a known format.
SELECT refreshed, on_network, inserted FROM arx.refresh_patterns('cycle', network => 'ETH');
SELECT refreshed, on_network FROM arx.refresh_patterns('cycle', network => 'ethereum', asset => 'eth');
SELECT refreshed, on_network FROM arx.refresh_patterns('cycle', network => 'ethereum', asset => '0x00000000000000000000000000000000000000AA');
SELECT refreshed, on_network FROM arx.refresh_patterns('cycle', network => 'ethereum', asset => 'gold');
-- Stored findings equal those of detect_patterns().
SELECT pattern, finding_id, strength, tx_hashes, details FROM arx.pattern_findings WHERE asset = 'native' AND options = '{}' AND "window" = '1 day'
EXCEPT
SELECT t.pattern, d.finding_id, d.strength, d.tx_hashes, d.details
  FROM arx.pattern_types() AS t CROSS JOIN LATERAL arx.detect_patterns(t.pattern, '1 day') AS d;
TRUNCATE arx.transactions;
SELECT refreshed, removed FROM arx.refresh_patterns('cycle');

-- Invalid arguments.
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
SELECT n, 'x', 1, '2024-01-10', 'a', 'b', 1 FROM unnest(ARRAY['testnet', 'othernet']) AS n;
SELECT * FROM arx.detect_patterns('cycle', '1 day');
SELECT * FROM arx.refresh_patterns('cycle');
SELECT * FROM arx.detect_patterns('cycle', '1 day', 'nonet');
SELECT * FROM arx.detect_patterns('beauty', '1 day', 'testnet');
SELECT * FROM arx.detect_patterns(NULL, '1 day', 'testnet');
SELECT * FROM arx.detect_patterns('cycle', NULL, 'testnet');
SELECT * FROM arx.detect_patterns('cycle', '-1 day', 'testnet');
SELECT * FROM arx.detect_patterns('cycle', '1 day', 'testnet', asset => NULL);
SELECT * FROM arx.detect_patterns('cycle', '1 day', 'testnet', asset => 'all');
SELECT * FROM arx.detect_patterns('cycle', '1 day', 'testnet', asset => 'tokens');
SELECT * FROM arx.detect_patterns('cycle', '1 day', 'testnet', options => NULL);
SELECT * FROM arx.detect_patterns('cycle', '1 day', 'testnet', options => '[]');
SELECT * FROM arx.detect_patterns('cycle', '1 day', 'testnet', options => '{"min_fan": 3}');
SELECT * FROM arx.detect_patterns('cycle', '1 day', 'testnet', options => '{"max_length": 11}');
SELECT * FROM arx.detect_patterns('cycle', '1 day', 'testnet', options => '{"tolerance": "a lot"}');
SELECT * FROM arx.detect_patterns('cycle', '1 day', 'testnet', options => '{"min_length": 7}');
SELECT * FROM arx.detect_patterns('structuring', '1 day', 'testnet', options => '{"threshold": 0}');
SELECT * FROM arx.detect_patterns('dormant_awakened', '1 year', 'testnet');
SELECT * FROM arx.detect_patterns('cycle', '1 day', 'testnet', max_findings => 0);
SELECT * FROM arx.detect_patterns('cycle', '1 day', 'testnet', max_time => '0');
SELECT * FROM arx.detect_patterns('cycle', '1 day', 'testnet', min_value => -1);
SELECT * FROM arx.detect_patterns('cycle', '1 day', 'testnet', since => '2024-02-01', until => '2024-01-01');
SELECT * FROM arx.detect_patterns('cycle', '1 day', 'testnet', wallet => '');
SELECT * FROM arx.refresh_patterns('beauty', network => 'testnet');
SELECT * FROM arx.refresh_patterns(options => '{"tolerance": 1}', network => 'testnet');
SELECT * FROM arx.refresh_patterns('cycle', NULL, 'testnet');
SELECT * FROM arx.refresh_patterns('cycle', asset => 'all', network => 'testnet');

-- Readers may detect, operators may refresh.
SELECT format('CREATE ROLE %I', 'outsider_' || current_database()), format('CREATE ROLE %I IN ROLE arx_reader', 'reader_' || current_database()),
       format('CREATE ROLE %I IN ROLE arx_operator', 'operator_' || current_database()) \gexec
SELECT 'outsider_' || current_database() AS outsider, 'reader_' || current_database() AS reader, 'operator_' || current_database() AS operator \gset
SET ROLE :"outsider";
SELECT * FROM arx.detect_patterns('cycle', '1 day', 'testnet');
SELECT * FROM arx.pattern_types();
RESET ROLE;
SET ROLE :"reader";
SELECT * FROM arx.detect_patterns('cycle', '1 day', 'testnet');
SELECT count(*) FROM arx.pattern_types();
SELECT count(*) FROM arx.pattern_findings WHERE pattern = 'cycle' AND options = '{}';
SELECT * FROM arx.refresh_patterns('cycle', network => 'testnet');
DELETE FROM arx.pattern_findings;
RESET ROLE;
SET ROLE :"operator";
SELECT refreshed, inserted FROM arx.refresh_patterns('fan_in', network => 'testnet');
RESET ROLE;
DROP ROLE :"outsider", :"reader", :"operator";
