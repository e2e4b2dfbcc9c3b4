-- Traces and exposures with missing receipts, limits, unknown order, and equal transfers.
INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST');
SELECT arx.ensure_partitions('arx.transactions', '2024-01-01', '2024-01-31');
SELECT arx.ensure_partitions('arx.internal_transfers', '2024-01-01', '2024-01-31');
SET timezone = 'UTC';
INSERT INTO arx.address_labels (network, address, category, severity, label, source)
VALUES ('testnet', 'exchange', 'exchange', 'none', 'Exchange', 'test'), ('testnet', 'tumbler', 'mixer', 'high', 'Tumbler', 'test');

-- The courier sends 70 after the 30 that it is known to have: the source of 40 is unknown, and
-- only poison follows them.
INSERT INTO arx.transactions (network, tx_hash, block_number, transaction_index, "timestamp", from_address, to_address, value, status)
VALUES ('testnet', 'gift', 1, 0, '2024-01-01', 'donor', 'robber', 30, 'confirmed'),
       ('testnet', 'hand', 2, 0, '2024-01-02', 'robber', 'courier', 30, 'confirmed'),
       ('testnet', 'more', 3, 0, '2024-01-03', 'courier', 'cellar', 70, 'confirmed'),
       ('testnet', 'bank', 4, 0, '2024-01-04', 'courier', 'exchange', 5, 'unknown');
SELECT hop, from_address, to_address, tx_hash, "timestamp", tainted_amount, ended_at, shortfall, complete
  FROM arx.trace_funds('robber', 'testnet');
SELECT to_address, tainted_amount FROM arx.trace_funds('robber', 'testnet', method => 'poison') WHERE tainted_amount > 0 ORDER BY 1;
SELECT address, ended_at, amount, share, transfers, nearest_hop, first_seen, last_seen, shortfall, reason FROM arx.trace_summary('robber', 'testnet');
SELECT address, ended_at, amount, shortfall, reason FROM arx.trace_summary('cellar', 'testnet', direction => 'backward');
SELECT direction, exposure, category, value, counterparty, nearest_hop, shortfall, shortfall_since, complete, reason
  FROM arx.wallet_exposure('courier', 'testnet');
-- A wallet that received nothing names itself.
SELECT address, ended_at, shortfall, complete, reason FROM arx.trace_summary('donor', 'testnet', direction => 'backward');
SELECT direction, exposure, value, counterparty, shortfall FROM arx.wallet_exposure('donor', 'testnet', 'in');

-- A limit that cuts funds makes the answer incomplete, with the share that it cut.
INSERT INTO arx.transactions (network, tx_hash, block_number, transaction_index, "timestamp", from_address, to_address, value, status)
SELECT 'testnet', 'relay' || n, 10 + n, 0, '2024-01-05'::timestamptz + n * interval '1 hour', 'r' || n, 'r' || n + 1, 1024 / 2 ^ n, 'confirmed'
  FROM generate_series(0, 24) AS n;
SELECT reason FROM arx.trace_summary('r0', 'testnet', max_hops => 2) LIMIT 1;
SELECT address, ended_at, amount, reason FROM arx.trace_summary('r0', 'testnet') WHERE ended_at LIKE 'max_%';
SELECT count(*), bool_and(complete) FROM arx.trace_summary('r1', 'testnet', max_hops => 1000, min_share => NULL);
SELECT address, complete, reason FROM arx.screen_wallets('{r0,r24}', 'testnet', 'out', 3);
SELECT exposure, value, complete, reason FROM arx.wallet_exposure('r0', 'testnet', 'out', 3) WHERE exposure <> 'shortfall';

-- Within one transaction, the payer pays the router, and the relay pays out; positions are
-- unknown.
INSERT INTO arx.transactions (network, tx_hash, block_number, transaction_index, "timestamp", from_address, to_address, value, status)
VALUES ('testnet', 'fund', 40, 0, '2024-01-10', 'source', 'payer', 10, 'confirmed'),
       ('testnet', 'mix', 41, 0, '2024-01-11', 'payer', 'router', 10, 'confirmed'),
       ('testnet', 'leave', 42, 0, '2024-01-12', 'payee', 'exchange', 6, 'confirmed');
INSERT INTO arx.internal_transfers
    (network, tx_hash, position, is_ordered, block_number, transaction_index, "timestamp", from_address, to_address, value, kind, succeeded)
VALUES ('testnet', 'mix', 1, false, 41, 0, '2024-01-11', 'relay', 'payee', 6, 'utxo', true),
       ('testnet', 'mix', 2, false, 41, 0, '2024-01-11', 'relay', 'other', 4, 'utxo', true),
       ('testnet', 'mix', 3, false, 41, 0, '2024-01-11', 'router', 'relay', 10, 'utxo', true),
       ('testnet', 'mix', 4, false, 41, 0, '2024-01-11', 'relay', 'drain', 9, 'utxo', false);
SELECT hop, from_address, to_address, tx_hash, tainted_amount, ended_at, order_inferred FROM arx.trace_funds('source', 'testnet')
 WHERE ended_at IS DISTINCT FROM 'shortfall' ORDER BY hop, to_address;
SELECT address, ended_at, amount, order_inferred FROM arx.trace_summary('payee', 'testnet', direction => 'backward') WHERE amount > 0;
SELECT direction, exposure, value, order_inferred FROM arx.wallet_exposure('payee', 'testnet', 'in', 4) WHERE value > 0;

-- Equal transfers keep their own hashes, wherever they are named.
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value, status)
SELECT 'testnet', 'twin' || n, 50, '2024-01-20', 'twins', 'heir', 1, 'confirmed' FROM generate_series(1, 3) AS n;
SELECT tx_hash FROM arx.trace_funds('twins', 'testnet') WHERE tx_hash IS NOT NULL ORDER BY 1;
SELECT tx_hash FROM arx.trace_funds(NULL, 'testnet', '{twin2}');
SELECT tx_hash FROM arx.trace_funds(NULL, 'testnet', '{twin3,twin1}') ORDER BY 1;

-- Rewards have no source to look for.
INSERT INTO arx.internal_transfers (network, tx_hash, position, block_number, "timestamp", from_address, to_address, value, kind, succeeded)
VALUES ('testnet', 'reward:60', 0, 60, '2024-01-25', NULL, 'miner', 3, 'reward', true);
INSERT INTO arx.transactions (network, tx_hash, block_number, transaction_index, "timestamp", from_address, to_address, value, status)
VALUES ('testnet', 'sale', 61, 0, '2024-01-26', 'miner', 'buyer', 2, 'confirmed');
SELECT hop, from_address, to_address, tx_hash, tainted_amount, ended_at, complete FROM arx.trace_funds('buyer', 'testnet', direction => 'backward');
SELECT exposure, value, complete, reason FROM arx.wallet_exposure('buyer', 'testnet', 'in');

SELECT * FROM arx.trace_funds('twins', 'testnet', min_share => 1);
SELECT * FROM arx.trace_summary('twins', 'testnet', min_share => 'NaN');
