-- Paths that money could have taken. Networks that are not EVM accept opaque addresses, which keeps
-- this file readable.
INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST');
SELECT arx.ensure_partitions('arx.transactions', '2024-01-01', '2024-03-31');
SELECT arx.ensure_partitions('arx.internal_transfers', '2024-01-01', '2024-03-31');
SELECT arx.ensure_partitions('arx.token_transfers', '2024-01-01', '2024-03-31');
SET timezone = 'UTC';
-- An empty graph.
SELECT * FROM arx.wallet_reach('thief', 'testnet', in_time => true);
SELECT * FROM arx.match_paths('illicit -> exchange', 'testnet');
-- A thief pays a mule twice, which pays others before and after; one of two exchanges is reached a
-- month later.
INSERT INTO arx.transactions (network, tx_hash, block_number, transaction_index, "timestamp", from_address, to_address, value, status)
SELECT 'testnet', s.row[1], s.row[2]::bigint, nullif(s.row[3], '-')::integer, s.row[4]::timestamptz, s.row[5], s.row[6], s.row[7]::numeric,
       s.row[8]::arx.tx_status_enum
  FROM unnest(ARRAY[
    'rent   1  0 2024-01-01T10:00 mule  landlord   5 confirmed',
    'take   2  0 2024-01-02T10:00 thief mule     100 confirmed',
    'pay    3  0 2024-01-02T12:00 mule  shop      90 confirmed',
    'never  4  0 2024-01-02T13:00 shop  casino    90 failed',
    'cash   5  0 2024-01-03T12:00 shop  binance   80 confirmed',
    'more   6  0 2024-01-10T12:00 thief mule      40 confirmed',
    'late   7  0 2024-02-10T12:00 mule  kraken    39 confirmed',
    'free   8  0 2024-02-11T12:00 kraken mule      0 confirmed',
    'loop   9  0 2024-02-12T12:00 binance thief    1 confirmed',
    'one   10  1 2024-02-20T12:00 thief router    10 confirmed',
    'two   10  0 2024-02-20T12:00 router early     9 confirmed',
    'three 10  2 2024-02-20T12:00 router after     8 confirmed',
    'four  10  - 2024-02-20T12:00 router perhaps   7 confirmed']) AS u (line)
 CROSS JOIN LATERAL (SELECT regexp_split_to_array(line, ' +') AS row) AS s;
-- Within the transaction of "three": the receiver passes on in a later call, and one in an earlier.
INSERT INTO arx.internal_transfers
    (network, tx_hash, position, block_number, transaction_index, "timestamp", from_address, to_address, value, kind, succeeded)
VALUES ('testnet', 'three', 0, 10, 2, '2024-02-20 12:00', 'bridge', 'missed', 3, 'call', true),
       ('testnet', 'three', 1, 10, 2, '2024-02-20 12:00', 'after', 'bridge', 4, 'call', true),
       ('testnet', 'three', 2, 10, 2, '2024-02-20 12:00', 'bridge', 'passed', 3, 'call', true);
INSERT INTO arx.token_transfers (network, tx_hash, log_index, block_number, "timestamp", token_address, from_address, to_address, amount)
VALUES ('testnet', 'swap', 4, 20, '2024-03-01', 'usd', 'mule', 'pool', 70), ('testnet', 'swap', 3, 20, '2024-03-01', 'usd', 'pool', 'before', 69),
       ('testnet', 'swap', 5, 20, '2024-03-01', 'usd', 'pool', 'behind', 68);
INSERT INTO arx.address_labels (network, address, category, severity, label, source)
VALUES ('testnet', 'thief', 'hack', 'severe', 'The thief', 'test'), ('testnet', 'binance', 'exchange', 'none', '', 'test'),
       ('testnet', 'kraken', 'exchange', 'none', '', 'test'), ('testnet', 'kraken', 'sanctions', 'severe', '', 'test'),
       ('testnet', 'casino', 'gambling', 'low', '', 'test'), ('testnet', 'shop', 'other', 'none', '', 'test');

-- Reach, against the same without time: the rent was paid before.
SELECT depth, wallets, transfers, total_value, order_inferred FROM arx.wallet_reach('thief', 'testnet', 4);
SELECT * FROM arx.wallet_reach('thief', 'testnet', 4, in_time => true);
SELECT * FROM arx.wallet_reach('thief', 'testnet', 4, in_time => true, max_gap => '1 day');
SELECT * FROM arx.wallet_reach('thief', 'testnet', 4, in_time => true, max_gap => '0', totals => false);
SELECT * FROM arx.wallet_reach('binance', 'testnet', 4, 'in', in_time => true);
SELECT * FROM arx.wallet_reach('stranger', 'testnet', in_time => true);
-- Connections: when funds reach a wallet first, and whether the order of transfers is known. Of the
-- transfers of one block, "two" came before and the order of "four" is unknown.
SELECT * FROM arx.wallet_connections('thief', 'testnet', 4, in_time => true) WHERE target IN ('mule', 'kraken', 'perhaps');
SELECT depth, target, connection_strength AS transfers, reached_at, order_inferred
  FROM arx.wallet_connections('thief', 'testnet', 5, in_time => true);
SELECT depth, target, reached_at FROM arx.wallet_connections('thief', 'testnet', 5, in_time => true, max_gap => '26 hours', top => 2);
SELECT depth, target, reached_at, order_inferred FROM arx.wallet_connections('missed', 'testnet', 5, 'in', in_time => true);
SELECT depth, target, reached_at FROM arx.wallet_connections('behind', 'testnet', 3, 'in', asset => 'usd', in_time => true);
SELECT depth, target, reached_at FROM arx.wallet_connections('before', 'testnet', 3, 'in', asset => 'usd', in_time => true);
SELECT depth, target, order_inferred FROM arx.wallet_connections('mule', 'testnet', 2, asset => 'all', since => '2024-03-01', in_time => true);
-- The same as a recursive query over the rows.
WITH RECURSIVE moved AS (
    SELECT from_address, to_address, "timestamp" FROM arx.transactions WHERE status <> 'failed' AND "timestamp" < '2024-02-15'),
walk (wallet, at, depth) AS (
    SELECT 'thief'::text, '-infinity'::timestamptz, 0
    UNION SELECT m.to_address, m."timestamp", w.depth + 1 FROM walk AS w JOIN moved AS m ON m.from_address = w.wallet
           WHERE w.depth < 4 AND m."timestamp" >= w.at AND (w.depth = 0 OR m."timestamp" <= w.at + '9 days')),
plain AS (SELECT wallet, min(depth) AS depth, min(at) FILTER (WHERE depth > 0) AS at FROM walk WHERE wallet <> 'thief' GROUP BY wallet)
SELECT (SELECT count(*) FROM plain) AS wallets, count(*) AS differences
  FROM (SELECT target, depth, reached_at FROM arx.wallet_connections('thief', 'testnet', 4, until => '2024-02-15', in_time => true, max_gap => '9 days')) AS a
  FULL JOIN plain AS b ON (a.target, a.depth, a.reached_at) = (b.wallet, b.depth, b.at)
 WHERE a.target IS NULL OR b.wallet IS NULL;
-- The path with the fewest hops that arrives first, with its transactions.
SELECT * FROM arx.shortest_path('thief', 'binance', 'testnet', in_time => true);
SELECT step, from_address, to_address, tx_hashes, order_inferred FROM arx.shortest_path('passed', 'thief', 'testnet', direction => 'in', in_time => true);
SELECT step, to_address, tx_hashes, order_inferred FROM arx.shortest_path('thief', 'perhaps', 'testnet', in_time => true);
SELECT path, step, complete, reason, order_inferred FROM arx.shortest_path('thief', 'landlord', 'testnet', in_time => true);
SELECT path, step, complete, reason FROM arx.shortest_path('thief', 'kraken', 'testnet', in_time => true, max_gap => '1 day');
SELECT path, step, hops, reason FROM arx.shortest_path('thief', 'thief', 'testnet', in_time => true);
SELECT path, step, complete, reason FROM arx.shortest_path('thief', 'binance', 'testnet', max_nodes => 2, in_time => true);

-- Paths by the labels of their wallets. A wallet has every label in force.
SELECT * FROM arx.match_paths('illicit -> unlabelled{1,2} -> other -> exchange', 'testnet');
SELECT path, step, from_address, to_address, to_category, tx_hash, kept, path_kept FROM arx.match_paths('hack -> any{1,3} -> exchange', 'testnet');
SELECT path, step, to_address, tx_hash FROM arx.match_paths('hack -> any{1,3} -> exchange', 'testnet', max_gap => '2 days');
SELECT path, step, to_address, tx_hash FROM arx.match_paths('hack -> any{1,3} -> exchange', 'testnet', min_kept => 0.9);
SELECT path, step, to_address, tx_hash FROM arx.match_paths('hack -> any -> sanctions', 'testnet', min_value => 39.5);
SELECT path, step, to_address, order_inferred FROM arx.match_paths('any{4,5}', 'testnet', source => 'thief', since => '2024-02-20');
SELECT path, step, to_address, order_inferred FROM arx.match_paths('any -> any -> unlabelled', 'testnet', source => 'thief', since => '2024-02-20');
SELECT path, step, to_address, value FROM arx.match_paths('any{3}', 'testnet', source => 'mule', asset => 'usd');
SELECT path, step, complete, reason FROM arx.match_paths('hack -> any{1,3} -> exchange', 'testnet', max_paths => 1);
SELECT path, step, complete, reason FROM arx.match_paths('hack -> any{1,3} -> exchange', 'testnet', max_nodes => 2);
SELECT path, complete, reason FROM arx.match_paths('hack -> any -> exchange', 'testnet', max_time => '1 microsecond');
SELECT path, complete, reason FROM arx.match_paths('exchange -> any', 'testnet', source => 'thief');
SELECT path, complete, reason FROM arx.match_paths('any -> any', 'testnet', source => 'stranger');
SELECT path, complete, reason FROM arx.match_paths('ransomware -> any', 'testnet');

-- Invalid arguments.
SELECT * FROM arx.wallet_reach('thief', 'testnet', in_time => NULL);
SELECT * FROM arx.wallet_reach('thief', 'testnet', max_gap => '1 day');
SELECT * FROM arx.wallet_reach('thief', 'testnet', in_time => true, max_gap => '-1 day');
SELECT * FROM arx.wallet_reach('thief', 'testnet', in_time => true, max_gap => '170000000 years');
SELECT * FROM arx.wallet_reach('thief', 'testnet', direction => 'both', in_time => true);
SELECT * FROM arx.wallet_connections('thief', 'testnet', min_strength => 2, in_time => true);
SELECT * FROM arx.wallet_connections('thief', 'testnet', 0, in_time => true);
SELECT * FROM arx.shortest_path('thief', 'mule', 'testnet', k => 2, in_time => true);
SELECT * FROM arx.shortest_path('thief', 'mule', 'testnet', 'value', in_time => true);
SELECT * FROM arx.match_paths(NULL, 'testnet');
SELECT * FROM arx.match_paths('hack -> any', NULL);
SELECT * FROM arx.match_paths('hack -> any', 'nowhere');
SELECT * FROM arx.match_paths('', 'testnet');
SELECT * FROM arx.match_paths('hack', 'testnet');
SELECT * FROM arx.match_paths('hack => any', 'testnet');
SELECT * FROM arx.match_paths('hack -> robber{1,2} -> exchange', 'testnet');
SELECT * FROM arx.match_paths('hack -> any{4,1}', 'testnet');
SELECT * FROM arx.match_paths('hack -> any{0}', 'testnet');
SELECT * FROM arx.match_paths('hack -> any{1,{2}}', 'testnet');
SELECT * FROM arx.match_paths('hack -> any{1,2', 'testnet');
SELECT * FROM arx.match_paths('hack -> any{16} -> any{16} -> any', 'testnet');
SELECT * FROM arx.match_paths(repeat('hack -> ', 131072), 'testnet');
SELECT * FROM arx.match_paths('any -> exchange', 'testnet');
SELECT * FROM arx.match_paths('illicit|unlabelled -> exchange', 'testnet');
SELECT * FROM arx.match_paths('hack -> any', 'testnet', min_kept => 1.5);
SELECT * FROM arx.match_paths('hack -> any', 'testnet', min_kept => 'NaN');
SELECT * FROM arx.match_paths('hack -> any', 'testnet', min_kept => NULL);
SELECT * FROM arx.match_paths('hack -> any', 'testnet', max_gap => '-1 s');
SELECT * FROM arx.match_paths('hack -> any', 'testnet', max_paths => 0);
SELECT * FROM arx.match_paths('hack -> any', 'testnet', max_nodes => 0);
SELECT * FROM arx.match_paths('hack -> any', 'testnet', asset => 'all');
