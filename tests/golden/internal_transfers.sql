-- Legs of transactions: a mixer pays out by an internal transfer, a wallet is paid a reward, and a
-- transaction has several movements between the same wallets.
INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST');
SELECT arx.ensure_partitions('arx.transactions', '2024-01-01', '2024-01-31');
SELECT arx.ensure_partitions('arx.internal_transfers', '2024-01-01', '2024-01-31');
INSERT INTO arx.transactions (network, tx_hash, block_number, transaction_index, "timestamp", from_address, to_address, value, status)
VALUES ('testnet', 'call', 10, 0, '2024-01-02', 'attacker', 'mixer', 0, 'confirmed'),
       ('testnet', 'spend', 11, 0, '2024-01-03', 'attacker', 'exchange', 99, 'confirmed'),
       ('testnet', 'reverted', 12, 0, '2024-01-04', 'attacker', 'mixer', 5, 'failed'),
       ('testnet', 'guess', 13, 0, '2024-01-05', 'miner', 'exchange', 2, 'unknown');
INSERT INTO arx.internal_transfers
    (network, tx_hash, position, block_number, transaction_index, "timestamp", from_address, to_address, value, kind, succeeded)
VALUES ('testnet', 'call', 0, 10, 0, '2024-01-02', 'mixer', 'attacker', 60, 'call', true),
       ('testnet', 'call', 1, 10, 0, '2024-01-02', 'mixer', 'attacker', 39.7, 'call', true),
       ('testnet', 'call', 2, 10, 0, '2024-01-02', 'mixer', 'relayer', 0.3, 'call', true),
       ('testnet', 'call', 3, 10, 0, '2024-01-02', 'mixer', 'relayer', 7, 'call', false),
       ('testnet', 'spend', 0, 11, 0, '2024-01-03', 'exchange', NULL, 1, 'burn', true);
-- Without a block: the order is unknown. The columns that are required are those of the movement.
INSERT INTO arx.internal_transfers (network, tx_hash, position, "timestamp", from_address, to_address, value, kind, succeeded)
VALUES ('testnet', 'reward:9', 0, '2024-01-01', NULL, 'miner', 2, 'reward', true);
SET timezone = 'UTC';
SELECT depth, target, connection_strength, total_value FROM arx.wallet_connections('mixer', 'testnet', 2) ORDER BY depth, target;
SELECT depth, wallets, transfers, total_value FROM arx.wallet_reach('attacker', 'testnet', 3, 'in');
-- A missing sender is neither a counterparty of the miner nor a wallet.
SELECT count(*) FROM arx.wallet_connections('miner', 'testnet', 3, 'in');
SELECT transfers, wallets FROM arx.graph_status();
SELECT count(*) AS groups, bool_and(equal) FROM arx.verify_graph();
SELECT direction, exposure, value FROM arx.wallet_exposure('attacker', 'testnet');
SELECT hop, from_address, to_address, tx_hash, amount, tainted_amount, ended_at
  FROM arx.trace_funds('mixer', 'testnet') ORDER BY hop, tx_hash, to_address, amount;
SELECT hop, from_address, to_address, tx_hash, amount FROM arx.trace_funds('attacker', 'testnet', direction => 'backward')
 ORDER BY hop, amount;
-- A page ends with a whole transaction.
SELECT tx_hash, "timestamp", direction, counterparty, value, status, kind, "position" FROM arx.wallet_history('mixer', 'testnet', NULL, 2);
SELECT tx_hash, direction, counterparty, value, status, kind, "position" FROM arx.wallet_history('miner', 'testnet');
SELECT arx.refresh_wallet_profiles();
SELECT wallet_address, transaction_count, total_volume, first_seen FROM arx.wallet_profiles ORDER BY wallet_address;
-- The same by the changes since.
UPDATE arx.internal_transfers SET succeeded = true WHERE position = 3;
INSERT INTO arx.internal_transfers (network, tx_hash, position, "timestamp", from_address, to_address, value, kind, succeeded)
VALUES ('testnet', 'reward:14', 0, '2024-01-06', NULL, 'miner', 3, 'reward', true);
SELECT arx.refresh_wallet_profiles();
SELECT wallet_address, transaction_count, total_volume FROM arx.wallet_profiles ORDER BY wallet_address;
SELECT arx.refresh_daily_stats();
SELECT date, tx_count, volume, unique_senders, unique_receivers FROM arx.daily_transaction_stats ORDER BY date;
DELETE FROM arx.internal_transfers WHERE tx_hash = 'call';
SELECT arx.refresh_daily_stats();
SELECT date, tx_count, volume FROM arx.daily_transaction_stats WHERE date = '2024-01-02';
SELECT relation, operation, tx_hash, log_index, from_address, to_address, value, status, is_ordered
  FROM arx.transaction_changes ORDER BY change_id;
SELECT count(*) AS groups, bool_and(equal) FROM arx.verify_graph();
-- Rows that are no movements are refused.
\set VERBOSITY sqlstate
INSERT INTO arx.internal_transfers (network, tx_hash, position, "timestamp", value) VALUES ('testnet', 'x', 0, '2024-01-01', 1);
INSERT INTO arx.internal_transfers (network, tx_hash, position, "timestamp", from_address, value)
VALUES ('testnet', 'x', 0, '2024-01-01', 'a', -1);
INSERT INTO arx.internal_transfers (network, tx_hash, position, "timestamp", from_address, value)
VALUES ('testnet', 'x', -1, '2024-01-01', 'a', 1);
INSERT INTO arx.internal_transfers (network, tx_hash, position, "timestamp", from_address, value, kind)
VALUES ('testnet', 'x', 0, '2024-01-01', 'a', 1, '');
\set VERBOSITY default
-- Outcome and block come from the transaction, in whatever order the rows arrive.
INSERT INTO arx.transactions (network, tx_hash, block_number, transaction_index, "timestamp", from_address, to_address, value, status)
VALUES ('testnet', 'before', 20, 4, '2024-01-10', 'alice', 'contract', 1, 'failed'),
       ('testnet', 'sent', 20, 5, '2024-01-10', 'alice', 'contract', 1, 'confirmed');
INSERT INTO arx.internal_transfers (network, tx_hash, position, block_number, "timestamp", from_address, to_address, value, succeeded)
VALUES ('testnet', 'before', 0, NULL, '2024-01-10', 'contract', 'bob', 7, NULL),
       ('testnet', 'before', 1, 20, '2024-01-10', 'contract', 'bob', 8, NULL),
       ('testnet', 'sent', 0, NULL, '2024-01-10', 'contract', 'bob', 1, NULL),
       ('testnet', 'later', 0, NULL, '2024-01-11', 'contract', 'bob', 2, NULL),
       ('testnet', 'later', 1, NULL, '2024-01-11', 'contract', 'bob', 3, true),
       ('testnet', 'before', 2, 20, '2024-01-10', 'contract', 'bob', 10, true),
       ('testnet', 'sent', 1, 20, '2024-01-10', 'contract', 'bob', 4, true);
CREATE VIEW legs AS
SELECT tx_hash, position, block_number, transaction_index AS index, succeeded, outcome_inherited AS outcome, block_inherited AS block
  FROM arx.internal_transfers WHERE to_address = 'bob' ORDER BY tx_hash, position;
CREATE VIEW income AS
SELECT (SELECT total_value FROM arx.wallet_connections('contract', 'testnet') WHERE target = 'bob') AS of_graph,
       (SELECT sum(value) FROM arx.wallet_history('bob', 'testnet') WHERE status <> 'failed') AS of_history,
       (SELECT bool_and(equal) FROM arx.verify_graph()) AS equal;
SELECT * FROM legs;
SELECT tx_hash FROM arx.awaited_transactions WHERE NOT is_stored ORDER BY tx_hash;
SELECT * FROM income;
INSERT INTO arx.transactions (network, tx_hash, block_number, transaction_index, "timestamp", from_address, to_address, value, status)
VALUES ('testnet', 'later', 21, 3, '2024-01-11', 'alice', 'contract', 1, 'failed');
SELECT * FROM legs WHERE tx_hash = 'later';
SELECT count(*) FROM arx.awaited_transactions WHERE NOT is_stored;
SELECT * FROM income;
-- A status that changes takes the transfers along, also those that state their success.
UPDATE arx.transactions SET status = 'confirmed' WHERE tx_hash IN ('before', 'later');
UPDATE arx.transactions SET status = 'failed', block_number = 22 WHERE tx_hash = 'sent';
SELECT * FROM legs;
SELECT * FROM income;
UPDATE arx.internal_transfers SET succeeded = true WHERE tx_hash = 'sent';
UPDATE arx.transactions SET status = 'failed' WHERE tx_hash IN ('sent', 'before');
UPDATE arx.internal_transfers SET succeeded = NULL, value = 9 WHERE tx_hash = 'before' AND position = 1;
SELECT * FROM legs;
SELECT * FROM income;
-- Without its transaction, a transfer knows what it knew.
DELETE FROM arx.transactions WHERE tx_hash = 'before';
SELECT * FROM legs WHERE tx_hash = 'before';
SELECT tx_hash FROM arx.awaited_transactions WHERE NOT is_stored ORDER BY tx_hash;
SELECT * FROM income;
-- Moved to another month, and stored without its triggers having seen it.
UPDATE arx.transactions SET "timestamp" = '2024-02-01' WHERE tx_hash = 'later';
SELECT * FROM legs WHERE tx_hash = 'later';
ALTER TABLE arx.transactions DISABLE TRIGGER arx_pass_on;
UPDATE arx.transactions SET "timestamp" = '2024-01-11', status = 'failed' WHERE tx_hash = 'later';
ALTER TABLE arx.transactions ENABLE ALWAYS TRIGGER arx_pass_on;
SELECT FROM arx.settle_awaited_transactions();
SELECT * FROM legs WHERE tx_hash = 'later';
DELETE FROM arx.internal_transfers WHERE tx_hash = 'before';
SELECT FROM arx.settle_awaited_transactions();
SELECT count(*) FROM arx.awaited_transactions WHERE NOT is_stored;
-- A failed transaction leaves no logs: its token transfers move nothing, whichever is stored first.
ALTER TABLE arx.token_transfers ADD COLUMN note text DEFAULT 'kept', ADD COLUMN double numeric GENERATED ALWAYS AS (amount * 2) STORED;
INSERT INTO arx.transactions (network, tx_hash, block_number, transaction_index, "timestamp", from_address, to_address, value, status)
VALUES ('testnet', 'tokens before', 30, 0, '2024-01-20', 'dora', 'token', 0, 'confirmed'),
       ('testnet', 'tokens after', 30, 1, '2024-01-20', 'dora', 'token', 0, 'failed');
INSERT INTO arx.token_transfers (network, tx_hash, log_index, block_number, "timestamp", token_address, from_address, to_address, amount, note)
VALUES ('testnet', 'tokens before', 0, 30, '2024-01-20', 'token', 'dora', 'emil', 5, 'mine'),
       ('testnet', 'tokens after', 1, 30, '2024-01-20', 'token', 'dora', 'emil', 6, 'mine'),
       ('testnet', 'tokens after', 2, 30, '2024-01-20', 'token', 'dora', 'emil', 7, DEFAULT);
CREATE VIEW tokens AS
SELECT (SELECT string_agg(format('%s %s %s %s', log_index, amount, note, double), ', ' ORDER BY log_index) FROM arx.token_transfers) AS stored,
       (SELECT string_agg(log_index::text, ', ' ORDER BY log_index) FROM arx.void_token_transfers) AS void,
       (SELECT total_value FROM arx.wallet_connections('dora', 'testnet', asset => 'token') WHERE target = 'emil') AS of_graph,
       (SELECT bool_and(equal) FROM arx.verify_graph()) AS equal;
SELECT * FROM tokens;
UPDATE arx.transactions SET status = CASE tx_hash WHEN 'tokens before' THEN 'failed' ELSE 'confirmed' END::arx.tx_status_enum
 WHERE tx_hash LIKE 'tokens %';
SELECT * FROM tokens;
UPDATE arx.transactions SET status = 'unknown' WHERE tx_hash LIKE 'tokens %';
SELECT * FROM tokens;
UPDATE arx.transactions SET status = 'failed' WHERE tx_hash LIKE 'tokens %';
SELECT * FROM tokens;
DELETE FROM arx.transactions WHERE tx_hash = 'tokens before';
SELECT * FROM tokens;
-- A table of someone's own cannot borrow the triggers.
CREATE TABLE mine (LIKE arx.internal_transfers INCLUDING DEFAULTS);
CREATE TRIGGER mine BEFORE INSERT ON mine FOR EACH ROW EXECUTE FUNCTION arx.complete_internal_transfer();
INSERT INTO mine (network, tx_hash, position, "timestamp", from_address, value) VALUES ('testnet', 'sent', 0, '2024-01-10', 'a', 1);
-- A failed transaction is found wherever its partition is: in a month, in the default partition, in
-- a month that is divided further; and in the command that stores it.
SELECT arx.ensure_partitions('arx.transactions', '2024-03-01', '2024-03-31');
CREATE TABLE april PARTITION OF arx.transactions FOR VALUES FROM ('2024-04-01') TO ('2024-05-01') PARTITION BY HASH (tx_hash);
CREATE TABLE april_even PARTITION OF april FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE april_odd PARTITION OF april FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE VIEW moments AS
SELECT s.status || ' at ' || m.moment AS tx_hash, m.moment::timestamptz AS "timestamp", s.status::arx.tx_status_enum
  FROM unnest(ARRAY['2024-02-29 23:59:59.999999', '2024-03-01', '2024-03-31 23:59:59.999999', '2024-04-10', '2024-05-01', '2030-01-01']) AS m (moment)
 CROSS JOIN unnest(ARRAY['failed', 'confirmed']) AS s (status);
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value, status)
SELECT 'testnet', tx_hash, 40, "timestamp", 'dora', 'token', 0, status FROM moments;
INSERT INTO arx.token_transfers (network, tx_hash, log_index, block_number, "timestamp", token_address, from_address, to_address, amount)
SELECT network, m.tx_hash, log_index, 40, m."timestamp", 'token', 'dora', 'emil', 1
  FROM moments AS m CROSS JOIN generate_series(0, 1) AS log_index CROSS JOIN unnest(ARRAY['testnet', 'ethereum']) AS network;
-- The transactions of the other network are not stored.
SELECT m.tx_hash, count(x.amount) FILTER (WHERE x.network = 'testnet') AS stored,
       count(x.amount) FILTER (WHERE x.network = 'ethereum') AS of_other,
       (SELECT count(*) FROM arx.void_token_transfers AS v WHERE v.tx_hash = m.tx_hash) AS void
  FROM moments AS m LEFT JOIN arx.token_transfers AS x ON x.tx_hash = m.tx_hash AND x."timestamp" = m."timestamp"
 GROUP BY m.tx_hash ORDER BY m.tx_hash COLLATE "C";
DELETE FROM arx.void_token_transfers;
INSERT INTO arx.token_transfers_default (network, tx_hash, log_index, block_number, "timestamp", token_address, from_address, to_address, amount)
VALUES ('testnet', 'failed at 2030-01-01', 2, 40, '2030-01-01', 'token', 'dora', 'emil', 1),
       ('testnet', 'failed at 2030-01-01', 2, 40, '2030-01-01', 'token', 'dora', 'emil', 2)
    ON CONFLICT (network, tx_hash, log_index, "timestamp") DO UPDATE SET amount = excluded.amount;
WITH failed AS (
    INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value, status)
    VALUES ('testnet', 'at once', 41, '2024-03-02', 'dora', 'token', 0, 'failed')
    RETURNING tx_hash, "timestamp"
)
INSERT INTO arx.token_transfers (network, tx_hash, log_index, block_number, "timestamp", token_address, from_address, to_address, amount)
SELECT 'testnet', tx_hash, 0, 41, "timestamp", 'token', 'dora', 'emil', 1 FROM failed;
BEGIN;
SAVEPOINT before;
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value, status)
VALUES ('testnet', 'rolled back', 42, '2024-03-02', 'dora', 'token', 0, 'failed'),
       ('testnet', 'own', 42, '2024-03-02', 'dora', 'token', 0, 'failed');
ROLLBACK TO before;
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value, status)
VALUES ('testnet', 'own', 42, '2024-03-02', 'dora', 'token', 0, 'failed');
COPY arx.token_transfers (network, tx_hash, log_index, block_number, "timestamp", token_address, from_address, to_address, amount) FROM stdin WITH (FORMAT csv);
testnet,rolled back,0,42,2024-03-02,token,dora,emil,1
testnet,own,0,42,2024-03-02,token,dora,emil,1
\.
COMMIT;
SELECT tx_hash, log_index, transfer ->> 'amount' AS amount FROM arx.void_token_transfers ORDER BY 1, 2;
SELECT tx_hash, log_index, amount FROM arx.token_transfers WHERE tx_hash IN ('at once', 'rolled back', 'own') OR log_index = 2;
