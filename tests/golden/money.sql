-- Tracing and exposure. Networks that are not EVM accept opaque addresses, which keeps this file
-- readable.
INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST');
SELECT arx.ensure_partitions('arx.transactions', '2024-01-01', '2024-03-31');
SELECT arx.ensure_partitions('arx.token_transfers', '2024-01-01', '2024-03-31');
-- An empty graph.
SELECT * FROM arx.trace_funds('thief', 'testnet');
SELECT * FROM arx.trace_summary('thief', 'testnet');
SELECT * FROM arx.wallet_exposure('thief', 'testnet');
SELECT * FROM arx.screen_wallets('{thief}', 'testnet');
-- A thief takes 100 from a victim and sends it on through a mule that has 100 of its own.
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value, status)
SELECT 'testnet', s.row[1], n, s.row[2]::timestamptz, s.row[3], nullif(s.row[4], '-'), s.row[5]::numeric, s.row[6]::arx.tx_status_enum
  FROM unnest(ARRAY[
    'salary 2024-01-01 employer mule 100 confirmed',
    'theft  2024-01-10 victim thief 100 confirmed',
    'split  2024-01-11 thief mule 60 confirmed',
    'keep   2024-01-12 thief stash 40 confirmed',
    'rent   2024-01-13 mule landlord 40 confirmed',
    'cash   2024-01-14 mule exchange1 80 confirmed',
    'never  2024-01-15 mule exchange1 40 failed',
    'out    2024-01-20 exchange1 stranger 500 confirmed',
    'new    2024-01-21 stash - 10 confirmed',
    'back   2024-01-22 stash thief 5 confirmed',
    'dust   2024-02-01 landlord tornado 0.000000000000000001 confirmed',
    'lone   2024-02-02 someone else 1 confirmed']) WITH ORDINALITY AS u (line, n)
 CROSS JOIN LATERAL (SELECT regexp_split_to_array(line, ' +') AS row) AS s;
INSERT INTO arx.token_transfers (network, tx_hash, log_index, block_number, "timestamp", token_address, from_address, to_address, amount)
VALUES ('testnet', 'theft', 0, 2, '2024-01-10', 'usd', 'victim', 'thief', 7), ('testnet', 'swap', 1, 20, '2024-02-05', 'usd', 'thief', 'exchange1', 3);
INSERT INTO arx.address_labels (network, address, category, severity, label, source)
VALUES ('testnet', 'exchange1', 'exchange', 'none', 'Exchange One', 'test'), ('testnet', 'thief', 'hack', 'severe', 'The Thief', 'test'),
       ('testnet', 'tornado', 'sanctions', 'severe', '', 'test'), ('testnet', 'landlord', 'licit', 'none', '', 'test');

-- One row a step; funds that have not moved on are marked.
SELECT hop, from_address, to_address, tx_hash, "timestamp", amount, tainted_amount, round(share::numeric, 4) AS share, ended_at
  FROM arx.trace_funds('thief', 'testnet');
-- The methods divide the funds that the mule sends between rent and cash.
SELECT m.method, t.tx_hash, t.tainted_amount
  FROM unnest('{poison,haircut,fifo,lifo,tiho}'::text[]) WITH ORDINALITY AS m (method, n)
 CROSS JOIN LATERAL arx.trace_funds('thief', 'testnet', method => m.method) AS t
 WHERE t.from_address = 'mule' ORDER BY m.n, t."timestamp";
-- Present location of the funds: every method except poison conserves amounts.
SELECT address, ended_at, category, label, asset, amount, round(share::numeric, 4) AS share, transfers, nearest_hop, first_seen, last_seen, complete
  FROM arx.trace_summary('thief', 'testnet');
SELECT m.method, sum(t.amount) AS amount, round(sum(t.share)::numeric, 4) AS share
  FROM unnest('{poison,haircut,fifo,lifo,tiho}'::text[]) WITH ORDINALITY AS m (method, n)
 CROSS JOIN LATERAL arx.trace_summary('thief', 'testnet', method => m.method) AS t GROUP BY m.n, m.method ORDER BY m.n;
-- From a transaction, through services, backward.
SELECT hop, from_address, to_address, tx_hash, tainted_amount, ended_at FROM arx.trace_funds(NULL, 'testnet', '{theft}', max_hops => 2);
SELECT hop, from_address, to_address, tx_hash, tainted_amount, ended_at
  FROM arx.trace_funds(NULL, 'testnet', '{cash}', stop_at_services => false, method => 'fifo');
SELECT hop, from_address, to_address, tx_hash, tainted_amount, ended_at FROM arx.trace_funds('exchange1', 'testnet', direction => 'backward');
SELECT address, ended_at, category, amount FROM arx.trace_summary('exchange1', 'testnet', direction => 'backward', method => 'lifo');
-- Tokens are traced separately, each in its own units.
SELECT hop, from_address, to_address, tx_hash, asset, amount, ended_at FROM arx.trace_funds(NULL, 'testnet', '{theft}', asset => 'all', max_hops => 2);
SELECT to_address, asset, amount, ended_at FROM arx.trace_funds('thief', 'testnet', asset => 'usd');
-- Limits end a trace where the funds are, and are reported.
SELECT hop, to_address, tainted_amount, ended_at, complete, reason FROM arx.trace_funds('thief', 'testnet', max_hops => 1);
SELECT hop, to_address, tainted_amount, ended_at, complete FROM arx.trace_funds('thief', 'testnet', min_value => 50);
SELECT hop, to_address, tainted_amount, ended_at, complete FROM arx.trace_funds('thief', 'testnet', max_fan_out => 1);
SELECT hop, to_address, tainted_amount, ended_at, complete, reason FROM arx.trace_funds('thief', 'testnet', max_nodes => 1);
SELECT * FROM arx.trace_summary('thief', 'testnet', max_time => '1 microsecond');
SELECT hop, to_address, tx_hash FROM arx.trace_funds('thief', 'testnet', since => '2024-01-12', until => '2024-01-22');
SELECT hop, reason, complete FROM arx.trace_funds('thief', 'testnet', since => '2024-03-01');
SELECT hop, reason, complete FROM arx.trace_funds('landlord', 'testnet', direction => 'backward', until => '2024-01-13');

-- Exposure by label, received and sent; the mule has no label, so funds are followed through it.
SELECT direction, exposure, category, kind, severity, value, round(share::numeric, 4) AS share, nearest_hop, wallets, counterparty, label
  FROM arx.wallet_exposure('mule', 'testnet');
SELECT direction, exposure, category, value, round(share::numeric, 4) AS share, nearest_hop, path, tx_hashes
  FROM arx.wallet_exposure('landlord', 'testnet');
SELECT direction, exposure, category, value, round(share::numeric, 6) AS share, path, tx_hashes FROM arx.wallet_exposure('victim', 'testnet', 'out', 4);
SELECT direction, exposure, category, value FROM arx.wallet_exposure('landlord', 'testnet', 'in', 1);
SELECT direction, exposure, category, value FROM arx.wallet_exposure('mule', 'testnet', 'in', max_fan_out => 1, until => '2024-01-12');
SELECT direction, exposure, category, value, path FROM arx.wallet_exposure('thief', 'testnet', asset => 'usd');
SELECT direction, exposure, value, complete, reason FROM arx.wallet_exposure('mule', 'testnet', max_time => '1 microsecond');
SELECT reason, complete FROM arx.wallet_exposure('ghost', 'testnet');
-- Shares add up to one.
SELECT w, direction, round(sum(share)::numeric, 9) AS shares, sum(value) AS value
  FROM unnest('{mule,landlord,thief,exchange1,stash}'::text[]) AS w CROSS JOIN LATERAL arx.wallet_exposure(w, 'testnet') GROUP BY 1, 2 ORDER BY 1, 2;
-- Screening gives the same for many wallets, one row each, in the order of the arguments.
SELECT address, known, category, received, sent, sanctions_in, sanctions_out, illicit_direct_in AS direct_in, illicit_direct_out AS direct_out
  FROM arx.screen_wallets('{mule,landlord,thief,ghost,victim,mule}', 'testnet');
SELECT address, round(illicit_share_in::numeric, 4) AS illicit_in, round(illicit_share_out::numeric, 4) AS illicit_out,
       round(service_share_in::numeric, 4) AS service_in, round(service_share_out::numeric, 4) AS service_out, worst_category, nearest_hop,
       complete, reason
  FROM arx.screen_wallets('{mule,landlord,thief,ghost,NULL,mule}', 'testnet');
SELECT address, known, complete, reason FROM arx.screen_wallets('{0x12,0xd8da6bf26964af9d7eed9e03e53415d37aa96045}', 'ethereum');
SELECT address, received, sent, complete, reason FROM arx.screen_wallets('{mule}', 'testnet', max_time => '1 microsecond');
SELECT * FROM arx.screen_wallets('{}', 'testnet');
-- Rows of this transaction count, rolled back rows do not.
BEGIN;
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
VALUES ('testnet', 'fresh', 99, '2024-03-01', 'tornado', 'someone', 2);
SELECT direction, exposure, category, value FROM arx.wallet_exposure('someone', 'testnet', 'in');
ROLLBACK;
SELECT direction, exposure, category, value FROM arx.wallet_exposure('someone', 'testnet', 'in');
-- Sanctions outweigh all other labels of an address, and a service under sanctions is still a
-- service.
INSERT INTO arx.address_labels (network, address, category, severity, source)
VALUES ('testnet', 'tornado', 'hack', 'severe', 'another'), ('testnet', 'tornado', 'mixer', 'medium', 'test');
SELECT exposure, category, value FROM arx.wallet_exposure('landlord', 'testnet', 'out');
SELECT to_address, ended_at FROM arx.trace_funds('landlord', 'testnet');
-- Funds received before the period are not reported as of unknown source.
SELECT address, ended_at, amount FROM arx.trace_summary('exchange1', 'testnet', direction => 'backward', since => '2024-01-05');
-- Funds are not followed through a wallet with too many counterparties; screening reports the
-- amount.
SELECT address, round(illicit_share_in::numeric, 4) AS illicit_in, unresolved_share_in FROM arx.screen_wallets('{landlord}', 'testnet', max_fan_out => 1);
-- An expired label stops nothing.
UPDATE arx.address_labels SET valid_to = '2020-01-01', valid_from = '2019-01-01' WHERE address = 'exchange1';
SELECT to_address, ended_at FROM arx.trace_funds('mule', 'testnet') WHERE hop = 1 AND to_address = 'exchange1';

-- Invalid arguments.
SELECT * FROM arx.trace_funds(NULL, 'testnet');
SELECT * FROM arx.trace_funds('thief', 'testnet', '{theft}');
SELECT * FROM arx.trace_funds(NULL, 'testnet', '{}');
SELECT * FROM arx.trace_funds(NULL, 'testnet', '{NULL}');
SELECT * FROM arx.trace_funds(NULL, 'testnet', '{theft,unheard}');
SELECT * FROM arx.trace_funds(NULL, 'testnet', '{never}');
SELECT * FROM arx.trace_funds(NULL, 'testnet', '{theft}', since => '2024-02-01');
SELECT * FROM arx.trace_funds(NULL, NULL, '{theft}');
SELECT * FROM arx.trace_funds('thief', 'testnet', method => 'magic');
SELECT * FROM arx.trace_funds('thief', 'testnet', direction => 'out');
SELECT * FROM arx.trace_funds('thief', 'testnet', max_hops => 0);
SELECT * FROM arx.trace_funds('thief', 'testnet', max_fan_out => 0);
SELECT * FROM arx.trace_funds('thief', 'testnet', method => NULL);
SELECT * FROM arx.trace_funds('thief', 'testnet', asset => 'all', min_value => 1);
SELECT * FROM arx.wallet_exposure('thief', 'testnet', 'forward');
SELECT * FROM arx.wallet_exposure('thief', 'testnet', max_hops => 17);
SELECT * FROM arx.wallet_exposure('thief', 'testnet', asset => 'all');
SELECT * FROM arx.wallet_exposure('0x12', 'ethereum');
SELECT * FROM arx.wallet_exposure('thief', 'atlantis');
SELECT * FROM arx.screen_wallets(NULL, 'testnet');
SELECT * FROM arx.screen_wallets('{thief}', NULL);
-- With too little memory, the result covers fewer hops and is incomplete.
SET arx.graph_work_mem = '64kB';
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
SELECT 'testnet', 'm' || n, 1000 + n, '2024-03-02', 'w' || n / 10, 'w' || n % 100, 1 FROM generate_series(1, 900) AS n;
-- Wallets that no labelled wallet leads to are left out, and take no memory.
SELECT DISTINCT complete, reason FROM arx.screen_wallets('{w5,w6}', 'testnet', 'in', 8);
INSERT INTO arx.address_labels (network, address, category, severity, source) VALUES ('testnet', 'w9', 'scam', 'high', 'test');
SELECT DISTINCT complete, reason FROM arx.wallet_exposure('w5', 'testnet', 'in', 8);
SELECT DISTINCT complete, reason FROM arx.screen_wallets('{w5,w6}', 'testnet', 'in', 8);
SELECT DISTINCT complete, reason FROM arx.trace_summary('w5', 'testnet', max_hops => 20);
RESET arx.graph_work_mem;
-- A search that stops before it has added up a total reports no share of it.
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
SELECT 'testnet', 'h' || n, 2000 + n, '2024-03-03', 'hub', 'p' || n, 1 FROM generate_series(1, 5000) AS n;
SELECT exposure, category, share, complete, reason FROM arx.wallet_exposure('hub', 'testnet', 'out', max_time => '1 microsecond');
-- Privileges.
CREATE ROLE money_reader LOGIN IN ROLE arx_reader;
CREATE ROLE money_outsider LOGIN;
SET ROLE money_reader;
SELECT count(*) FROM arx.trace_funds('thief', 'testnet');
RESET ROLE;
SET ROLE money_outsider;
SELECT count(*) FROM arx.trace_funds('thief', 'testnet');
SELECT count(*) FROM arx.wallet_exposure('thief', 'testnet');
RESET ROLE;
DROP ROLE money_reader;
DROP ROLE money_outsider;
