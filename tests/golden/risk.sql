INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST');
INSERT INTO arx.address_labels (network, address, category, severity, label, source, valid_from, valid_to) VALUES
    ('testnet', 'thief', 'hack', 'severe', 'Heist', 'police', '-infinity', 'infinity'),
    ('testnet', 'thief', 'exchange', 'none', 'mistaken', 'rumour', '-infinity', 'infinity'),
    ('testnet', 'bank', 'exchange', 'none', 'Bank', 'itself', '-infinity', 'infinity'),
    ('testnet', 'old', 'scam', 'high', 'was one', 'list', '2020-01-01', '2021-01-01'),
    ('testnet', 'pool', 'miner', 'none', 'Pool', 'list', '-infinity', 'infinity');
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value, status) VALUES
    ('testnet', 't1', 1, '2024-01-01', 'thief', 'mule', 90, 'confirmed'),
    ('testnet', 't2', 2, '2024-01-02', 'alice', 'mule', 10, 'confirmed'),
    ('testnet', 't3', 3, '2024-01-03', 'mule', 'bank', 99, 'confirmed'),
    ('testnet', 't4', 4, '2024-01-04', 'thief', 'bob', 50, 'failed'),
    ('testnet', 't5', 5, '2024-01-05', 'carol', 'bob', 50, 'confirmed'),
    ('testnet', 't6', 6, '2024-01-06', 'bob', 'bob', 5, 'confirmed'),
    ('testnet', 't7', 7, '2024-01-07', 'old', 'dave', 5, 'confirmed'),
    ('testnet', 't8', 8, '2024-01-08', 'pool', 'dave', 5, 'confirmed');
SELECT address, score, band, state, model_version FROM arx.wallet_risk('mule', 'testnet');
SELECT factor, points, value, detail FROM arx.risk_factors('mule', 'testnet');
-- A label decides the score, the worst label first; a miner is recognized by its transactions.
SELECT w.wallet, r.score, r.band, r.state FROM unnest(ARRAY['thief', 'bank', 'pool', 'bob', 'dave', 'stranger']) AS w (wallet)
 CROSS JOIN LATERAL arx.wallet_risk(w.wallet, 'testnet') AS r;
SELECT * FROM arx.risk_factors('thief', 'testnet');
SELECT * FROM arx.risk_factors('stranger', 'testnet');
-- The factors add up to the score, and the job writes the score that the function returns.
SELECT arx.refresh_wallet_profiles() AS wallets;
CALL arx.refresh_risk_scores();
SELECT p.wallet_address, p.risk_score, p.risk_state,
       p.risk_score = r.score AND p.risk_state = r.state AS as_computed,
       r.score = (SELECT sum((f ->> 'points')::numeric) FROM jsonb_array_elements(r.factors) AS f) AS adds_up
  FROM arx.wallet_profiles AS p CROSS JOIN LATERAL arx.wallet_risk(p.wallet_address, p.network_type) AS r
 ORDER BY p.risk_score DESC, p.wallet_address;
CALL arx.refresh_risk_scores();
-- Invalid arguments.
SELECT * FROM arx.wallet_risk(NULL, 'testnet');
SELECT * FROM arx.wallet_risk('a', NULL);
SELECT * FROM arx.wallet_risk('a', 'nowhere');
SELECT * FROM arx.wallet_risk('0xnothex', 'ethereum');
SELECT * FROM arx.risk_factors(NULL, NULL);
INSERT INTO arx.address_labels (network, address, category, severity, source) VALUES ('ethereum', '0xZZ', 'scam', 'high', 'x');
\set VERBOSITY sqlstate
INSERT INTO arx.address_labels (network, address, category, severity, source)
VALUES ('ethereum', '0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed', 'scam', 'high', 'x');
\set VERBOSITY verbose
INSERT INTO arx.address_labels (network, address, category, severity, source) VALUES ('testnet', 'a', 'no_such', 'high', 'x');
