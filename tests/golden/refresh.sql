SET timezone = 'UTC';
INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST');
-- An empty table.
SELECT arx.refresh_wallet_profiles(), arx.refresh_daily_stats();
CALL arx.refresh_risk_scores();
SELECT arx.ensure_partitions('arx.transactions', '2024-01-01', '2024-02-01');
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value, gas_price, status) VALUES
    ('testnet', 't1', 1, '2024-01-01 23:59:59', 'a', 'b', 1.5, 10, 'confirmed'),
    ('testnet', 't2', 2, '2024-01-02 00:00:00', 'b', 'a', 2, 30, 'confirmed'),
    ('testnet', 't3', 3, '2024-01-02 12:00:00', 'a', 'a', 4, NULL, 'confirmed'),
    ('testnet', 't4', 4, '2024-01-02 13:00:00', 'a', NULL, 8, 20, 'failed');
INSERT INTO arx.asset_prices (asset, priced_at, price_usd) VALUES ('TST', '2024-01-01', 100), ('TST', '2024-01-02', 200.5);
SELECT arx.apply_asset_prices('testnet');
SELECT tx_hash, value_usd FROM arx.transactions ORDER BY 1;
SELECT arx.refresh_wallet_profiles(), arx.refresh_daily_stats();
SELECT wallet_address, first_seen, last_activity, transaction_count, total_volume, total_volume_usd FROM arx.wallet_profiles ORDER BY 1;
SELECT date, network, tx_count, volume, round(avg_gas, 2) AS avg_gas, min_gas, max_gas, unique_senders, unique_receivers
  FROM arx.daily_transaction_stats ORDER BY 1;
-- Without changes, nothing is written.
SELECT arx.refresh_wallet_profiles(), arx.refresh_daily_stats();
-- Only the day and the wallets that changed are written.
DELETE FROM arx.transactions WHERE tx_hash = 't2';
SELECT arx.refresh_wallet_profiles() AS wallets, arx.refresh_daily_stats() AS days;
SELECT wallet_address, transaction_count, total_volume FROM arx.wallet_profiles ORDER BY 1;
SELECT date, tx_count, volume FROM arx.daily_transaction_stats ORDER BY 1;
-- All transactions of a day and of a wallet are deleted.
DELETE FROM arx.transactions WHERE tx_hash = 't1';
SELECT arx.refresh_wallet_profiles() AS wallets, arx.refresh_daily_stats() AS days;
SELECT wallet_address, transaction_count, total_volume, first_seen FROM arx.wallet_profiles ORDER BY 1;
SELECT date, tx_count FROM arx.daily_transaction_stats ORDER BY 1;
-- A partition that comes or goes costs its own days and wallets; a mark on the others shows it.
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value) VALUES
    ('testnet', 'f1', 9, '2024-02-03', 'c', 'a', 16), ('testnet', 'f2', 9, '2024-02-04', 'c', 'd', 32);
SELECT arx.refresh_wallet_profiles() AS wallets, arx.refresh_daily_stats() AS days;
UPDATE arx.daily_transaction_stats SET volume = -1 WHERE date < '2024-02-01';
UPDATE arx.wallet_profiles SET total_volume = 7 WHERE wallet_address = 'b';
ALTER TABLE arx.transactions DETACH PARTITION arx.transactions_2024_02;
SELECT arx.refresh_wallet_profiles() AS wallets, arx.refresh_daily_stats() AS days;
SELECT wallet_address, transaction_count, total_volume FROM arx.wallet_profiles ORDER BY 1;
SELECT date, tx_count, volume FROM arx.daily_transaction_stats ORDER BY 1;
-- Attached again, with a row that came meanwhile.
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
VALUES ('testnet', 'f3', 9, '2024-01-02', 'c', 'e', 64);
ALTER TABLE arx.transactions ATTACH PARTITION arx.transactions_2024_02 FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
SELECT arx.refresh_wallet_profiles() AS wallets, arx.refresh_daily_stats() AS days;
SELECT wallet_address, transaction_count, total_volume FROM arx.wallet_profiles ORDER BY 1;
SELECT date, tx_count, volume FROM arx.daily_transaction_stats ORDER BY 1;
-- TRUNCATE fires no row trigger; jobs detect it by the epoch.
TRUNCATE arx.transactions;
SELECT arx.refresh_wallet_profiles() AS wallets, arx.refresh_daily_stats() AS days;
SELECT wallet_address, transaction_count FROM arx.wallet_profiles ORDER BY 1;
SELECT count(*) FROM arx.daily_transaction_stats;
SELECT consumer, position IS NOT NULL AS seen, rows_total FROM arx.feed_positions ORDER BY 1;
-- Rankings within the network, and the change from the previous week.
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
VALUES ('testnet', 'r1', 1, now() - interval '10 days', 'a', 'b', 10), ('testnet', 'r2', 2, now() - interval '1 day', 'a', 'b', 15),
       ('testnet', 'r3', 2, now() - interval '1 day', 'c', 'b', 1);
SELECT count(*) > 0 AS refreshed FROM arx.refresh_wallet_profiles();
SELECT wallet_address, total_volume, volume_rank, volume_percentile, volume_7d, previous_volume_7d, volume_change_pct
  FROM arx.wallet_rankings ORDER BY volume_rank, wallet_address;
-- Invalid arguments.
SELECT arx.apply_asset_prices(NULL);
SELECT arx.apply_asset_prices('nowhere');
\set VERBOSITY sqlstate
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
VALUES ('testnet', 'neg', 1, '2024-01-01', 'a', 'b', -1);
\set VERBOSITY verbose
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
VALUES ('testnet', 'big', 1, '2024-01-01', 'a', 'b', 100000000000000000000);
\set VERBOSITY sqlstate
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
VALUES ('testnet', 'empty', 1, '2024-01-01', '', 'b', 1);
\set VERBOSITY verbose
INSERT INTO arx.users (user_id, email, created_at) VALUES ('00000000-0000-0000-0000-000000000001', 'no address', '2024-01-01');
