INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST');
SELECT arx.ensure_partitions('arx.transactions', '2024-01-01', '2024-02-29');
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value, status)
SELECT 'testnet', 't' || lpad(n::text, 4, '0'), n, '2024-01-30'::timestamptz + (n / 4) * interval '1 hour',
       CASE n % 3 WHEN 0 THEN 'a' ELSE 'p' || n % 5 END, CASE n % 3 WHEN 1 THEN 'a' WHEN 0 THEN 'p' || n % 5 ELSE 'q' END, n, 'confirmed'
  FROM generate_series(1, 400) AS n;
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
VALUES ('testnet', 'self', 1000, '2024-02-29', 'a', 'a', 1), ('testnet', 'create', 1001, '2024-02-29 01:00+00', 'a', NULL, 0);
ANALYZE arx.transactions;
SET timezone = 'UTC';
SELECT tx_hash, "timestamp", direction, counterparty, value, status FROM arx.wallet_history('a', 'testnet', NULL, 6);
SELECT tx_hash, direction FROM arx.wallet_history('a', 'testnet', '2024-02-01', 3);
-- Pages by time and hash neither skip nor repeat rows, although four rows share each timestamp.
WITH RECURSIVE pages AS (
    (SELECT h.*, 1 AS page FROM arx.wallet_history('a', 'testnet', NULL, 7) AS h)
    UNION ALL
    (SELECT h.*, l.page + 1
       FROM (SELECT p."timestamp", p.tx_hash, p.page FROM pages AS p ORDER BY p."timestamp", p.tx_hash LIMIT 1) AS l
      CROSS JOIN LATERAL arx.wallet_history('a', 'testnet', l."timestamp", 7, l.tx_hash) AS h)
)
SELECT count(*) AS rows, count(DISTINCT tx_hash) AS transactions, max(page) AS pages FROM pages;
SELECT count(*) FROM arx.transactions WHERE network = 'testnet' AND 'a' IN (from_address, to_address);
-- Invalid arguments.
SELECT * FROM arx.wallet_history(NULL, 'testnet');
SELECT * FROM arx.wallet_history('a', NULL);
SELECT * FROM arx.wallet_history('a', 'nowhere');
SELECT * FROM arx.wallet_history('a', 'testnet', NULL, 0);
SELECT * FROM arx.wallet_history('a', 'testnet', NULL, -5);
SELECT * FROM arx.wallet_history('a', 'testnet', NULL, NULL);
SELECT * FROM arx.wallet_history('stranger', 'testnet');
