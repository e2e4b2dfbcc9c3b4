-- Kinds of tokens, wrapped coins, prices, and several assets followed as dollars.
SET timezone = 'UTC';
INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST'), ('othernet', 'OTH');
INSERT INTO arx.address_labels (address, network, category, severity, source) VALUES
    ('hacker', 'testnet', 'hack', 'high', 'test'), ('desk', 'testnet', 'exchange', 'none', 'test');

-- Statements about tokens that are refused.
\set VERBOSITY terse
INSERT INTO arx.tokens (network, token_address, kind) VALUES ('nowhere', 'wtst', 'fungible');
INSERT INTO arx.tokens (network, token_address, kind) VALUES ('testnet', 'wtst', 'coin');
INSERT INTO arx.tokens (network, token_address, symbol) VALUES ('testnet', 'wtst', 'WTST');
INSERT INTO arx.tokens (network, token_address, kind, wraps) VALUES ('testnet', 'wtst', 'fungible', 'native');
INSERT INTO arx.tokens (network, token_address, kind, decimals, wraps) VALUES ('testnet', 'wtst', 'nft', 18, 'native');
INSERT INTO arx.tokens (network, token_address, kind, decimals, wraps) VALUES ('testnet', 'wtst', 'fungible', 18, 'OTH');
INSERT INTO arx.tokens (network, token_address, kind, decimals) VALUES ('testnet', 'wtst', 'fungible', 78);
INSERT INTO arx.tokens (network, token_address, kind, decimals) VALUES ('testnet', 'wtst', 'fungible', -1);
INSERT INTO arx.tokens (network, token_address, kind) VALUES ('ethereum', '0xC02AAA39B223FE8D0A0E5C4F27EAD9083C756CC2', 'fungible');
-- Prices that are refused: two of one time, NaN, below zero, at no time.
INSERT INTO arx.asset_prices (asset, priced_at, price_usd, source) VALUES ('TST', '2024-01-01', 1, 'a'), ('TST', '2024-01-01', 2, 'b');
INSERT INTO arx.asset_prices (asset, priced_at, price_usd) VALUES ('TST', '2024-01-01', 'NaN');
INSERT INTO arx.asset_prices (asset, priced_at, price_usd) VALUES ('TST', '2024-01-01', -1);
INSERT INTO arx.asset_prices (asset, priced_at, price_usd) VALUES ('TST', 'infinity', 1);
\set VERBOSITY default

-- Wrapped coins -----------------------------------------------------------------------------------
-- hacker sends 50 to mule1, who wraps them where a stranger has wrapped 200, and sends the token to
-- mule2; mule2 unwraps 30 of it and pays them into an exchange.
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value, status) VALUES
    ('testnet', 'w0', 1, '2024-01-01 00:00', 'faucet', 'hacker', 50, 'confirmed'),
    ('testnet', 'w1', 2, '2024-01-01 01:00', 'hacker', 'mule1', 50, 'confirmed'),
    ('testnet', 'w2', 3, '2024-01-01 02:00', 'stranger', 'wtst', 200, 'confirmed'),
    ('testnet', 'w3', 4, '2024-01-01 03:00', 'mule1', 'wtst', 50, 'confirmed'),
    ('testnet', 'w5', 6, '2024-01-01 05:00', 'mule2', 'wtst', 0, 'confirmed'),
    ('testnet', 'w6', 7, '2024-01-01 06:00', 'mule2', 'desk', 30, 'confirmed');
INSERT INTO arx.internal_transfers (network, tx_hash, position, block_number, "timestamp", from_address, to_address, value, succeeded)
VALUES ('testnet', 'w5', 0, 6, '2024-01-01 05:00', 'wtst', 'mule2', 30, true);
INSERT INTO arx.token_transfers (network, tx_hash, log_index, block_number, "timestamp", token_address, from_address, to_address, amount) VALUES
    ('testnet', 'w3', 1, 4, '2024-01-01 03:00', 'wtst', '0x0000000000000000000000000000000000000000', 'mule1', 50e18),
    ('testnet', 'w4', 1, 5, '2024-01-01 04:00', 'wtst', 'mule1', 'mule2', 50e18),
    ('testnet', 'w5', 1, 6, '2024-01-01 05:00', 'wtst', 'mule2', '0x0000000000000000000000000000000000000000', 30e18);
CREATE VIEW public.ends AS
SELECT address, ended_at, asset, amount, share FROM arx.trace_summary('hacker', 'testnet');
SELECT * FROM public.ends;
SELECT exposure, value, share FROM arx.wallet_exposure('hacker', 'testnet', direction => 'out');
INSERT INTO arx.tokens (network, token_address, symbol, decimals, kind, wraps) VALUES ('testnet', 'wtst', 'WTST', 18, 'fungible', 'native');
-- Another network's wrapped coin changes nothing here.
INSERT INTO arx.tokens (network, token_address, decimals, kind, wraps) VALUES ('othernet', 'wtst', 6, 'fungible', 'native');
SELECT * FROM public.ends;
SELECT hop, from_address, to_address, tx_hash, asset, amount, tainted_amount, ended_at, complete, reason
  FROM arx.trace_funds('hacker', 'testnet');
SELECT hop, from_address, to_address, tx_hash, asset, tainted_amount
  FROM arx.trace_funds(NULL, 'testnet', tx_hashes => ARRAY['w4']) ORDER BY hop;
SELECT address, ended_at, amount FROM arx.trace_summary('desk', 'testnet', direction => 'backward', stop_at_services => false);
SELECT direction, exposure, category, value, share, counterparty, path, tx_hashes, complete, reason, asset
  FROM arx.wallet_exposure('mule2', 'testnet', direction => 'in');
SELECT address, received, illicit_share_in, service_share_out, complete, reason, shortfall
  FROM arx.screen_wallets(ARRAY['mule2', 'mule1', 'wtst'], 'testnet');
-- The token alone is still a token.
SELECT from_address, to_address, asset, amount FROM arx.trace_funds('mule1', 'testnet', asset => 'wtst');
-- A deposit moves nothing.
SELECT count(*) FROM arx.trace_funds(NULL, 'testnet', tx_hashes => ARRAY['w3']);
-- Six decimals: one raw unit is 10^12 units of the coin.
UPDATE arx.tokens SET decimals = 6 WHERE network = 'testnet' AND token_address = 'wtst';
UPDATE arx.token_transfers SET amount = amount / 1e12;
SELECT * FROM public.ends;

-- Shortfalls and coverage in screening ------------------------------------------------------------
SELECT address, known, sent, complete, reason, shortfall, shortfall_since
  FROM arx.screen_wallets(ARRAY['stranger', 'faucet', 'hacker', 'desk', 'nobody'], 'testnet');
SELECT complete, reason FROM arx.wallet_exposure('nobody', 'testnet');
SELECT complete, reason FROM arx.trace_funds('nobody', 'testnet');
INSERT INTO arx.history_coverage (network, address, from_time, source) VALUES ('testnet', 'nobody', '2024-01-01', 'test');
SELECT complete, reason FROM arx.trace_summary('nobody', 'testnet', since => '2024-01-01');
SELECT complete, reason FROM arx.trace_summary('nobody', 'testnet');
INSERT INTO arx.history_coverage (network, source) VALUES ('testnet', 'test');
SELECT address, complete, reason FROM arx.screen_wallets(ARRAY['nobody', 'stranger'], 'testnet');
DELETE FROM arx.history_coverage;

-- Prices ------------------------------------------------------------------------------------------
SELECT * FROM arx.apply_asset_prices('testnet');
SELECT * FROM arx.trace_funds('alice', 'testnet', asset => 'usd');
INSERT INTO arx.tokens (network, token_address, symbol, decimals, kind) VALUES
    ('testnet', 'gold', 'GLD', 6, 'fungible'), ('testnet', 'dust', NULL, 77, 'fungible'),
    ('testnet', 'free', 'FREE', 0, 'fungible'), ('testnet', 'cats', 'CAT', NULL, 'nft'), ('testnet', 'odd', 'ODD', NULL, 'fungible');
INSERT INTO arx.asset_prices (asset, priced_at, price_usd) VALUES
    ('TST', '2024-02-01', 100), ('TST', '2024-02-02', 200.123456789012), ('TST', '2024-02-10', 50),
    ('GLD', '2024-02-01', 2), ('GLD', '2024-02-02', 2.5), ('FREE', '2024-02-01', 0), ('FREE', '2024-02-02', 0), ('CAT', '2024-02-01', 9);
-- alice got 3 TST and 200 GLD from hacker, and as much from others; she pays both into an exchange.
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value, status) VALUES
    ('testnet', 'a1', 100, '2024-02-01 01:00', 'hacker', 'alice', 3, 'confirmed'),
    ('testnet', 'a2', 101, '2024-02-01 02:00', 'bob', 'alice', 3, 'confirmed'),
    ('testnet', 'a5', 105, '2024-02-02 01:00', 'alice', 'desk', 2, 'confirmed'),
    ('testnet', 'a7', 107, '2024-02-05 01:00', 'alice', 'desk', 1, 'confirmed'),
    ('testnet', 'a8', 108, '2024-02-01 03:00', 'alice', 'alice', 1, 'confirmed');
INSERT INTO arx.token_transfers (network, tx_hash, log_index, block_number, "timestamp", token_address, from_address, to_address, amount) VALUES
    ('testnet', 'a3', 0, 103, '2024-02-01 03:00', 'gold', 'hacker', 'alice', 200e6),
    ('testnet', 'a4', 0, 104, '2024-02-01 04:00', 'gold', 'bob', 'alice', 200e6),
    ('testnet', 'a6', 0, 106, '2024-02-02 02:00', 'gold', 'alice', 'desk', 100e6),
    ('testnet', 'n1', 0, 110, '2024-02-01 05:00', 'cats', 'alice', 'bob', 64855325985663894930836489220226401318767699022689309206020046035013068781522),
    ('testnet', 'n2', 0, 111, '2024-02-01 06:00', 'cats', 'alice', 'bob', 64855325985663894930836489220226401318767699022689309206020046035013068781521),
    ('testnet', 'd1', 0, 112, '2024-02-01 06:00', 'dust', 'alice', 'bob', 10e76),
    ('testnet', 'f1', 0, 113, '2024-02-01 06:00', 'free', 'alice', 'bob', 1e30),
    ('testnet', 'o1', 0, 114, '2024-02-01 06:00', 'odd', 'alice', 'bob', 1e30),
    ('testnet', 's1', 0, 115, '2024-02-01 06:00', 'spam', 'alice', 'bob', 1e77);
SELECT * FROM arx.apply_asset_prices('testnet');
SELECT tx_hash, value_usd FROM arx.transactions WHERE tx_hash LIKE 'a%' ORDER BY 1;
SELECT tx_hash, value_usd FROM arx.token_transfers ORDER BY 1;
-- Without changes, nothing is read again; a new row alone is.
SELECT * FROM arx.apply_asset_prices('testnet');
SELECT * FROM arx.apply_asset_prices('testnet');
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value, status)
VALUES ('testnet', 'a9', 109, '2024-02-02 05:00', 'bob', 'carol', 0.5, 'confirmed');
SELECT * FROM arx.apply_asset_prices('testnet');
SELECT tx_hash, value_usd FROM arx.transactions WHERE tx_hash = 'a9';
-- With a new price, gaps are filled; values stay, unless they are to be overwritten.
INSERT INTO arx.asset_prices (asset, priced_at, price_usd) VALUES ('TST', '2024-02-05', 10), ('TST', '2024-02-02 05:00', 7);
SELECT asset, priced, reason FROM arx.apply_asset_prices('testnet') WHERE priced > 0;
SELECT tx_hash, value_usd FROM arx.transactions WHERE tx_hash IN ('a7', 'a9') ORDER BY 1;
SELECT asset, priced FROM arx.apply_asset_prices('testnet', overwrite => true) WHERE priced > 0;
SELECT tx_hash, value_usd FROM arx.transactions WHERE tx_hash IN ('a7', 'a9') ORDER BY 1;
DELETE FROM arx.asset_prices WHERE priced_at IN ('2024-02-05', '2024-02-02 05:00');
SELECT asset, priced FROM arx.apply_asset_prices('testnet', overwrite => true) WHERE priced > 0;
SELECT asset, symbol, kind, priced, unpriced, first_unpriced, last_unpriced, reason FROM arx.price_coverage('testnet');
-- A greater age is stated, not guessed.
SET arx.max_price_age = '90d';
SELECT asset, priced FROM arx.apply_asset_prices('testnet') WHERE priced > 0;
SELECT tx_hash, value_usd FROM arx.transactions WHERE tx_hash = 'a7';
RESET arx.max_price_age;
SELECT asset, priced FROM arx.apply_asset_prices('testnet', overwrite => true) WHERE priced > 0;

-- Dollars -----------------------------------------------------------------------------------------
SELECT direction, exposure, category, round(value, 2) AS usd, round(share::numeric, 4) AS share, counterparty, asset, transfers,
       shortfall, complete, reason
  FROM arx.wallet_exposure('alice', 'testnet', asset => 'usd');
SELECT direction, sum(share) AS share FROM arx.wallet_exposure('alice', 'testnet', asset => 'usd') GROUP BY 1 ORDER BY 1;
SELECT hop, from_address, to_address, tx_hash, "timestamp", asset, round(amount, 2) AS usd, round(tainted_amount, 2) AS tainted, ended_at
  FROM arx.trace_funds('hacker', 'testnet', asset => 'usd', since => '2024-02-01');
SELECT address, ended_at, asset, round(amount, 2) AS usd, round(share::numeric, 4) AS share, transfers, complete, reason
  FROM arx.trace_summary('hacker', 'testnet', asset => 'USD', since => '2024-02-01');
SELECT round(sum(amount), 2) AS usd, sum(share) AS share
  FROM arx.trace_summary('hacker', 'testnet', asset => 'usd', since => '2024-02-01');
SELECT address, round(received, 2) AS received, round(sent, 2) AS sent, round(illicit_share_in::numeric, 4) AS illicit, complete, reason,
       round(shortfall, 2) AS shortfall
  FROM arx.screen_wallets(ARRAY['alice', 'carol'], 'testnet', asset => 'usd');
SELECT hop, asset, round(tainted_amount, 2) AS usd, reason
  FROM arx.trace_funds(NULL, 'testnet', tx_hashes => ARRAY['a3', 'd1'], asset => 'usd') WHERE hop = 1;
SELECT count(*) FROM arx.trace_funds(NULL, 'testnet', tx_hashes => ARRAY['n1'], asset => 'usd');
-- With one priced asset at 1 dollar, the lines are those of the asset.
BEGIN;
UPDATE arx.tokens SET kind = 'fungible' WHERE token_address = 'wtst';
DELETE FROM arx.tokens;
DELETE FROM arx.asset_prices;
INSERT INTO arx.asset_prices (asset, priced_at, price_usd)
SELECT 'TST', d, 1 FROM generate_series('2023-12-01'::timestamptz, '2024-03-01', interval '1 day') AS d;
SELECT count(*) FROM (
    SELECT direction, exposure, category, value, share, counterparty, path FROM arx.wallet_exposure('alice', 'testnet')
    EXCEPT ALL
    SELECT direction, exposure, category, value, share, counterparty, path FROM arx.wallet_exposure('alice', 'testnet', asset => 'usd')) AS d;
SELECT count(*) FROM (
    SELECT address, ended_at, amount, share FROM arx.trace_summary('hacker', 'testnet')
    EXCEPT ALL
    SELECT address, ended_at, amount, share FROM arx.trace_summary('hacker', 'testnet', asset => 'usd')) AS d;
ROLLBACK;
-- Amounts below a limit are in dollars.
SELECT address, ended_at, round(amount, 2) AS usd
  FROM arx.trace_summary('hacker', 'testnet', asset => 'usd', min_value => 400, since => '2024-02-01') WHERE amount > 0;
\set VERBOSITY terse
SELECT * FROM arx.wallet_connections('0x00000000000000000000000000000000000000aa', 'ethereum', 1, asset => 'usd');
SELECT * FROM arx.trace_funds('alice', 'testnet', asset => 'eur');
SELECT * FROM arx.trace_funds('alice', 'testnet', asset => NULL);
SELECT * FROM arx.trace_funds('0x00000000000000000000000000000000000000aa', 'ethereum', asset => 'usd');
SELECT * FROM arx.trace_funds('0x00000000000000000000000000000000000000aa', 'ethereum', asset => 'eur');
SELECT * FROM arx.trace_funds('alice', 'testnet', asset => 'usd', min_value => -1);
SELECT * FROM arx.trace_funds('alice', 'testnet', asset => 'usd', max_hops => -1);
SELECT * FROM arx.trace_funds('alice', 'testnet', asset => 'usd', max_fan_out => -1);
SELECT * FROM arx.wallet_exposure('alice', 'testnet', asset => 'all');
SELECT * FROM arx.apply_asset_prices(NULL);
SELECT * FROM arx.apply_asset_prices('testnet', NULL);
SELECT * FROM arx.apply_asset_prices('nowhere');
SELECT * FROM arx.price_coverage('nowhere');
SELECT * FROM arx.apply_token_kinds(NULL);
-- The words of this message depend on the version of PostgreSQL.
\set VERBOSITY sqlstate
SET arx.max_price_age = 0;
\set VERBOSITY default

-- NFTs --------------------------------------------------------------------------------------------
-- Ids are no amounts: each NFT counts as one, also before the rows are corrected.
SELECT from_address, to_address, amount FROM arx.trace_funds('alice', 'testnet', asset => 'cats');
SELECT direction, exposure, value, share FROM arx.wallet_exposure('bob', 'testnet', asset => 'cats', direction => 'in');
SELECT depth, target, total_value FROM arx.wallet_connections('alice', 'testnet', 1, asset => 'cats');
-- Seen as NFTs: rows of pets have ids.
INSERT INTO arx.token_transfers (network, tx_hash, log_index, block_number, "timestamp", token_address, from_address, to_address, amount, token_id) VALUES
    ('testnet', 'p1', 0, 120, '2024-02-01 05:00', 'pets', 'alice', 'bob', 1, 77), ('testnet', 'p2', 0, 121, '2024-02-01 06:00', 'pets', 'alice', 'bob', 99, NULL),
    ('testnet', 'p3', 0, 122, '2024-02-01 07:00', 'pets', 'alice', 'bob', 1, NULL), ('testnet', 'b1', 0, 123, '2024-02-01 07:00', 'beads', 'alice', 'bob', 40, 5),
    ('testnet', 'g1', 0, 124, '2024-02-01 07:00', 'gold', 'alice', 'bob', 40, 5);
SELECT * FROM arx.apply_token_kinds('testnet');
SELECT tx_hash, amount, token_id, value_usd FROM arx.token_transfers WHERE token_address IN ('cats', 'pets', 'beads') ORDER BY 1;
SELECT depth, target, total_value FROM arx.wallet_connections('alice', 'testnet', 1, asset => 'cats');
SELECT token_address, kind, source FROM arx.tokens WHERE network = 'testnet' ORDER BY 1;
-- Later rows.
INSERT INTO arx.token_transfers (network, tx_hash, log_index, block_number, "timestamp", token_address, from_address, to_address, amount, token_id) VALUES
    ('testnet', 'p4', 0, 130, '2024-02-01 05:00', 'pets', 'bob', 'carol', 99, NULL), ('testnet', 'p5', 0, 131, '2024-02-01 05:00', 'pets', 'bob', 'carol', 2, 3);
SELECT token_address, corrected, conflicting, reason FROM arx.apply_token_kinds('testnet');
SELECT token_address, corrected, conflicting FROM arx.apply_token_kinds('testnet') WHERE corrected > 0;
