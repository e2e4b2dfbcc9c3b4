INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST'), ('othernet', 'OTH');
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value, status)
SELECT n.network, 't' || b, b, '2024-01-01'::timestamptz + b * interval '12 seconds', 'a', 'b', b, 'confirmed'
  FROM generate_series(1, 6) AS b CROSS JOIN (VALUES ('testnet'), ('othernet')) AS n (network);
INSERT INTO arx.internal_transfers (network, tx_hash, position, block_number, "timestamp", from_address, to_address, value)
SELECT network, tx_hash, 0, nullif(block_number, 4), "timestamp", 'b', 'c', 1 FROM arx.transactions;
INSERT INTO arx.token_transfers (network, tx_hash, log_index, block_number, "timestamp", token_address, from_address, to_address, amount)
SELECT network, tx_hash, 0, block_number, "timestamp", 'tok', 'b', 'c', 1 FROM arx.transactions WHERE block_number > 3;
-- Two blocks have left the chain; the block of one internal transfer is unknown.
SELECT * FROM arx.remove_blocks('testnet', 4, 5);
SELECT network, count(*), string_agg(tx_hash, ' ' ORDER BY tx_hash) FROM arx.transactions GROUP BY network ORDER BY network;
SELECT network, count(*) FROM arx.internal_transfers GROUP BY network ORDER BY network;
SELECT network, count(*) FROM arx.token_transfers GROUP BY network ORDER BY network;
SELECT depth, wallets, total_value FROM arx.wallet_reach('a', 'testnet', max_depth => 1);
SELECT relation, operation, count(*) FROM arx.transaction_changes GROUP BY relation, operation ORDER BY relation;
SELECT * FROM arx.remove_blocks('testnet', 4, 5);
-- Errors.
SELECT * FROM arx.remove_blocks('testnet', 5, 4);
SELECT * FROM arx.remove_blocks('testnet', NULL, 4);
SELECT * FROM arx.remove_blocks('testnet', 4, NULL);
SELECT * FROM arx.remove_blocks('nowhere', 4, 5);
SELECT * FROM arx.remove_blocks(NULL, 4, 5);
