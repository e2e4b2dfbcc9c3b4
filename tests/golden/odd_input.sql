-- Input that is wrong, incomplete or unusual: what is refused, and what answers say about the rest.
SET timezone = 'UTC';
INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST');
-- Empty tables.
SELECT score, band, state, coverage, probability, reason FROM arx.wallet_risk('stranger', 'testnet');
SELECT family, points, reason FROM arx.risk_reasons('stranger', 'testnet');
SELECT * FROM arx.risk_distribution('testnet');
SELECT * FROM arx.coverage_conflicts('testnet');
SELECT complete, reason FROM arx.wallet_exposure('stranger', 'testnet');
SELECT complete, reason FROM arx.screen_wallets('{stranger,NULL}', 'testnet');
SELECT complete, reason FROM arx.trace_funds('stranger', 'testnet');
SELECT complete, reason FROM arx.trace_summary('stranger', 'testnet');
-- A statement of coverage says that there is nothing to be missed, for the time that it names.
INSERT INTO arx.history_coverage (network, address, source) VALUES ('testnet', 'stranger', 'test');
SELECT complete, reason FROM arx.wallet_exposure('stranger', 'testnet');
SELECT address, complete, reason FROM arx.screen_wallets('{stranger,someone}', 'testnet');
UPDATE arx.history_coverage SET address = NULL, from_time = '2024-01-01', to_time = '2024-06-01';
SELECT complete FROM arx.wallet_exposure('someone', 'testnet');
SELECT complete FROM arx.wallet_exposure('someone', 'testnet', since => '2024-01-01', until => '2024-06-01');
SELECT complete FROM arx.wallet_exposure('someone', 'testnet', since => '2023-12-31', until => '2024-06-01');
SELECT state, coverage, reason FROM arx.wallet_risk('someone', 'testnet');
DELETE FROM arx.history_coverage;
-- Networks and addresses that do not exist.
SELECT arx.wallet_risk('a', 'nowhere');
SELECT arx.wallet_risk('0x12', 'ethereum');
SELECT arx.wallet_risk(NULL, 'testnet');
SELECT arx.wallet_risk('a', NULL);
SELECT arx.risk_distribution(NULL);
SELECT arx.risk_distribution('testnet', 'no such model');
SELECT arx.score_wallets(NULL, 'testnet');
SELECT arx.score_wallets('{a,NULL}', 'testnet');
SELECT count(*) FROM arx.score_wallets('{}', 'testnet');

-- Negative values, no ends, a position below zero.
\set VERBOSITY terse
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
VALUES ('testnet', 'x', 1, '2024-01-01', 'a', 'b', -1);
INSERT INTO arx.internal_transfers (network, tx_hash, position, "timestamp", from_address, value)
VALUES ('testnet', 'x', 0, '2024-01-01', 'a', 'NaN');
INSERT INTO arx.internal_transfers (network, tx_hash, position, block_number, "timestamp", from_address, value)
VALUES ('testnet', 'x', 0, -1, '2024-01-01', 'a', 1);
\set VERBOSITY default

-- Movements that do not add up: the router pays out more than it was paid.
INSERT INTO arx.transactions (network, tx_hash, block_number, transaction_index, "timestamp", from_address, to_address, value, status)
VALUES ('testnet', 'short', 1, 0, '2024-01-01', 'payer', 'router', 5, 'confirmed');
INSERT INTO arx.internal_transfers (network, tx_hash, position, block_number, transaction_index, "timestamp", from_address, to_address, value, succeeded)
VALUES ('testnet', 'short', 0, 1, 0, '2024-01-01', 'router', 'left', 4, true),
       ('testnet', 'short', 1, 1, 0, '2024-01-01', 'router', 'right', 3, true);
SELECT address, ended_at, amount, shortfall, complete, reason FROM arx.trace_summary('payer', 'testnet');
-- A transfer to oneself within a transaction moves nothing.
INSERT INTO arx.internal_transfers (network, tx_hash, position, block_number, transaction_index, "timestamp", from_address, to_address, value, succeeded)
VALUES ('testnet', 'short', 2, 1, 0, '2024-01-01', 'left', 'left', 4, true);
SELECT address, ended_at, amount, shortfall FROM arx.trace_summary('payer', 'testnet');
SELECT direction, counterparty, value, kind FROM arx.wallet_history('left', 'testnet');
-- Movements without their transaction, and a transaction without movements.
INSERT INTO arx.internal_transfers (network, tx_hash, position, "timestamp", from_address, to_address, value)
VALUES ('testnet', 'absent', 0, '2024-01-02', 'left', 'far', 4);
SELECT address, amount FROM arx.trace_summary('left', 'testnet');
SELECT tx_hash, block_number, status FROM arx.wallet_history('far', 'testnet');
-- Two transactions at one position: their order is inferred.
INSERT INTO arx.transactions (network, tx_hash, block_number, transaction_index, "timestamp", from_address, to_address, value, status)
VALUES ('testnet', 'one', 3, 0, '2024-01-03', 'source', 'middle', 2, 'confirmed'),
       ('testnet', 'other', 3, 0, '2024-01-03', 'middle', 'sink', 2, 'confirmed');
SELECT address, amount, order_inferred FROM arx.trace_summary('source', 'testnet');
-- Ten thousand movements of one transaction.
INSERT INTO arx.transactions (network, tx_hash, block_number, transaction_index, "timestamp", from_address, to_address, value, status)
VALUES ('testnet', 'airdrop', 4, 0, '2024-01-04', 'giver', 'splitter', 10000, 'confirmed');
INSERT INTO arx.internal_transfers (network, tx_hash, position, block_number, transaction_index, "timestamp", from_address, to_address, value, succeeded)
SELECT 'testnet', 'airdrop', n, 4, 0, '2024-01-04', 'splitter', 'g' || n, 1, true FROM generate_series(0, 9999) AS n;
SELECT count(*), sum(amount), bool_and(complete) FROM arx.trace_summary('giver', 'testnet', max_fan_out => NULL);
SELECT count(*) FROM arx.wallet_history('splitter', 'testnet');
SELECT state, reason FROM arx.wallet_risk('splitter', 'testnet');
SELECT bool_and(equal) FROM arx.verify_graph();
-- A reorganisation to a shorter chain takes the blocks that are gone with it.
SELECT * FROM arx.remove_blocks('testnet', 3, 9);
SELECT count(*) FROM arx.wallet_history('giver', 'testnet');
SELECT complete, reason FROM arx.trace_summary('giver', 'testnet');
SELECT bool_and(equal) FROM arx.verify_graph();
SELECT arx.remove_blocks('testnet', 9, 3);
SELECT arx.remove_blocks('testnet', NULL, 3);
-- A wallet with transactions, and none of the asset: complete only by a statement of coverage.
SELECT direction, complete, reason FROM arx.wallet_exposure('payer', 'testnet', asset => 'usd');
SELECT direction, exposure, complete, reason FROM arx.wallet_exposure('payer', 'testnet', asset => 'token');
SELECT complete, reason FROM arx.screen_wallets('{payer}', 'testnet', asset => 'token');
SELECT complete, reason FROM arx.trace_funds('payer', 'testnet', asset => 'token');
INSERT INTO arx.history_coverage (network, source) VALUES ('testnet', 'test');
SELECT direction, exposure, complete, reason FROM arx.wallet_exposure('payer', 'testnet', asset => 'token');
SELECT complete, reason FROM arx.screen_wallets('{payer}', 'testnet', asset => 'token');
SELECT complete, reason FROM arx.trace_funds('payer', 'testnet', asset => 'token');
