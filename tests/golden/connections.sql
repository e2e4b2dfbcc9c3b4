-- Networks that are not EVM accept opaque addresses, which keeps this file readable.
INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST');
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
SELECT 'testnet', 't' || n, n, '2024-01-01'::timestamptz + n * interval '1 hour', edge[1], edge[2], n
  FROM unnest(ARRAY['a>b', 'a>b', 'a>c', 'a>d', 'b>e', 'c>e', 'e>b', 'e>a', 'e>f', 'f>f', 'f>', 'x>a']) WITH ORDINALITY AS u (e, n)
 CROSS JOIN LATERAL (SELECT ARRAY[split_part(e, '>', 1), nullif(split_part(e, '>', 2), '')] AS edge) AS s;
SELECT * FROM arx.wallet_connections('a', 'testnet');
SELECT * FROM arx.wallet_connections('a', 'TestNet', 1);
SELECT * FROM arx.wallet_connections('x', 'testnet', max_depth => 32);
-- A wallet that sent nothing differs from an unknown wallet.
SELECT * FROM arx.wallet_connections('d', 'testnet');
SELECT * FROM arx.wallet_connections('stranger', 'testnet');
-- The snapshot is the caller's: its uncommitted rows count, rolled back rows do not.
BEGIN;
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
VALUES ('testnet', 'own', 99, '2024-02-01', 'd', 'z', 1);
SELECT target, depth FROM arx.wallet_connections('d', 'testnet');
ROLLBACK;
SELECT target, depth FROM arx.wallet_connections('d', 'testnet');
-- Equal to the result of a recursive query.
WITH RECURSIVE reached AS (
    SELECT 'a' AS wallet, 0 AS depth
    UNION
    SELECT t.to_address, r.depth + 1 FROM reached AS r JOIN arx.transactions AS t ON t.from_address = r.wallet
     WHERE r.depth < 3 AND t.to_address IS NOT NULL
), nearest AS (
    SELECT wallet, min(depth) AS depth FROM reached GROUP BY wallet
), expected AS (
    SELECT n.wallet AS target, count(*) AS connection_strength, n.depth
      FROM nearest AS n JOIN arx.transactions AS t ON t.to_address = n.wallet
      JOIN nearest AS p ON p.wallet = t.from_address AND p.depth = n.depth - 1
     WHERE n.depth > 0 GROUP BY n.wallet, n.depth
)
SELECT count(*) AS differences FROM (
    (SELECT target, connection_strength, depth FROM expected
     EXCEPT SELECT target, connection_strength, depth FROM arx.wallet_connections('a', 'testnet'))
    UNION ALL
    (SELECT target, connection_strength, depth FROM arx.wallet_connections('a', 'testnet')
     EXCEPT SELECT target, connection_strength, depth FROM expected)) AS d;
-- Invalid arguments.
SELECT * FROM arx.wallet_connections('a', 'testnet', 0);
SELECT * FROM arx.wallet_connections('a', 'testnet', 1000);
SELECT * FROM arx.wallet_connections('a', 'testnet', NULL);
SELECT * FROM arx.wallet_connections(NULL, 'testnet');
SELECT * FROM arx.wallet_connections('a', NULL);
SELECT * FROM arx.wallet_connections('a', 'nowhere');
SELECT * FROM arx.wallet_connections('', 'testnet');
SELECT * FROM arx.wallet_connections('0x12', 'ethereum');
-- A search that exceeds its memory fails with an error.
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
SELECT 'testnet', 'hub' || n, 1, '2024-03-01', 'hub', 'spoke' || n, 1 FROM generate_series(1, 5000) AS n;
SET arx.graph_work_mem = '64kB';
SELECT count(*) FROM arx.wallet_connections('hub', 'testnet', 1);
RESET arx.graph_work_mem;
SELECT count(*) FROM arx.wallet_connections('hub', 'testnet', 1);
-- The text depends on the version of the server.
\set VERBOSITY sqlstate
SET arx.graph_work_mem = 1;
\set VERBOSITY verbose
