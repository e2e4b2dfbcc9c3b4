INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST');
-- A Ponzi scheme: early payers are paid by later ones, and the operator keeps a tenth.
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value, gas_used, gas_price, status)
SELECT 'testnet', format('in%s', n), n, timestamptz '2024-01-01' + n * interval '7 hours', format('w%s', n % 40), 'scheme',
       1 + n % 3, 21000, 20, CASE WHEN n % 11 = 0 THEN 'failed' ELSE 'confirmed' END::arx.tx_status_enum
  FROM generate_series(1, 90) AS n
UNION ALL
SELECT 'testnet', format('out%s', n), n, timestamptz '2024-01-02' + n * interval '7 hours', 'scheme',
       CASE WHEN n % 10 = 0 THEN 'operator' ELSE format('w%s', n % 20) END, 1.5, 21000, 20, 'confirmed'
  FROM generate_series(1, 80) AS n;
INSERT INTO arx.address_labels (network, address, category, severity, label, source, valid_from) VALUES
    ('testnet', 'operator', 'ponzi_scheme', 'high', 'Scheme Ltd', 'police', '2024-02-01'),
    ('testnet', 'w3', 'exchange', 'none', 'Exchange', 'itself', '-infinity');
-- Features.
SELECT expected, count(*) AS features, bool_and(unit <> '' AND formula <> '') AS described FROM arx.risk_features() GROUP BY expected ORDER BY expected;
SELECT f.feature, f.shown FROM arx.wallet_features('scheme', 'testnet') AS f
 WHERE f.feature IN ('transactions', 'senders', 'receivers', 'failed_share', 'received_total', 'lifetime', 'illicit_sent_share', 'service_sent_share')
 ORDER BY f.feature;
SELECT count(*) AS features FROM arx.wallet_features('stranger', 'testnet');
-- The points add up to the score, and each factor lists the transactions that prove it.
SELECT count(*) > 20 AS many, sum(f.points) = max(r.score) AS add_up, count(*) FILTER (WHERE f.factor = 'base') AS bases,
       bool_and(f.value <> '' AND f.compares_to <> '') FILTER (WHERE f.factor NOT IN ('base', 'cap')) AS compared,
       bool_and(array_position(f.tx_hashes, NULL) IS NULL) AS found
  FROM arx.risk_factors('scheme', 'testnet') AS f, arx.wallet_risk('scheme', 'testnet') AS r;
SELECT f.factor, f.value, f.tx_hashes, f.counterparties FROM arx.risk_factors('scheme', 'testnet') AS f
 WHERE f.factor IN ('illicit_sent_share', 'illicit_receivers', 'received_total') ORDER BY f.factor;
-- Effect of the label of a counterparty on a score.
SELECT a.score > b.score AS raises FROM arx.wallet_risk('scheme', 'testnet') AS a, arx.wallet_risk('scheme', 'testnet', '2024-01-31') AS b;
-- At an earlier time, only transfers, labels and overrides known at that time count.
SELECT t.at, s.address, s.state, s.probability IS NOT NULL AS has_probability
  FROM unnest(ARRAY['2023-12-31', '2024-01-25', '2024-02-25']::timestamptz[]) WITH ORDINALITY AS t (at, number)
 CROSS JOIN LATERAL arx.score_wallets('{scheme,operator,w3,stranger}', 'testnet', t.at) WITH ORDINALITY AS s
 ORDER BY t.number, s.ordinality;
SELECT f.value FROM arx.wallet_features('scheme', 'testnet', '2024-01-10') AS f WHERE f.feature = 'transactions';
-- Later transfers and labels have no effect.
CREATE TEMP TABLE early AS SELECT * FROM arx.feature_vectors('testnet', as_of => '2024-01-15 00:00');
BEGIN;
DELETE FROM arx.transactions WHERE "timestamp" > '2024-01-15 00:00';
DELETE FROM arx.address_labels WHERE valid_from > '2024-01-15';
SELECT count(*) AS differences FROM ((SELECT address, features FROM early EXCEPT SELECT * FROM arx.feature_vectors('testnet')) UNION ALL
                      (SELECT * FROM arx.feature_vectors('testnet') EXCEPT SELECT address, features FROM early)) AS d;
ROLLBACK;
-- The calendar, block numbers and fees have no effect on a score.
CREATE TEMP TABLE scored AS SELECT s.* FROM arx.feature_vectors('testnet') AS f, arx.score_wallets(ARRAY[f.address], 'testnet') AS s;
BEGIN;
UPDATE arx.transactions SET "timestamp" = "timestamp" + interval '1826 days 5 hours', block_number = block_number + 9000000, gas_price = gas_price * 1000;
SELECT count(*) AS wallets, count(*) FILTER (WHERE (a.score, a.probability, a.state) IS DISTINCT FROM (b.score, b.probability, b.state)) AS moved
  FROM scored AS a JOIN arx.score_wallets(ARRAY(SELECT address FROM scored), 'testnet') AS b USING (address);
ROLLBACK;
-- One wallet, many wallets and all wallets give the same scores.
SELECT count(*) AS wallets,
       count(*) FILTER (WHERE (m.score, m.probability, m.band, m.state, m.coverage) IS DISTINCT FROM (r.score, r.probability, r.band, r.state, r.coverage)) AS differ
  FROM arx.score_wallets(ARRAY(SELECT f.address FROM arx.feature_vectors('testnet') AS f), 'testnet') AS m
 CROSS JOIN LATERAL arx.wallet_risk(m.address, 'testnet') AS r;
SELECT (SELECT sum(wallets) FROM arx.risk_distribution('testnet')) = (SELECT count(*) FROM arx.feature_vectors('testnet')) AS whole;
SELECT state, sum(wallets) AS wallets FROM arx.risk_distribution('testnet', as_of => '2024-01-25') GROUP BY state ORDER BY state;
SELECT arx.import_risk_model(arx.default_risk_model() || '{"version": "higher", "base": 99}');
SELECT sum(wallets * mean_score) FILTER (WHERE state = 'scored') > (SELECT sum(wallets * mean_score) FROM arx.risk_distribution('testnet') WHERE state = 'scored')
       AS higher FROM arx.risk_distribution('testnet', 'higher');
-- In any order of the arguments, each wallet once.
SELECT address, state FROM arx.score_wallets('{w3,stranger,w3,operator}', 'testnet');
SELECT count(*) FROM arx.score_wallets('{}', 'testnet');
-- The base and the factors that weigh most.
SELECT count(*) AS wallets, max(jsonb_array_length(few.factors)) AS longest, bool_and(few.factors = l.first) AS same
  FROM arx.explain_wallets(ARRAY(SELECT f.address FROM arx.feature_vectors('testnet') AS f), 'testnet', max_factors => 4) AS few
  JOIN arx.explain_wallets(ARRAY(SELECT f.address FROM arx.feature_vectors('testnet') AS f), 'testnet') AS every USING (address)
 CROSS JOIN LATERAL (SELECT jsonb_agg(f.factor ORDER BY f.number) AS first
                       FROM jsonb_array_elements(every.factors) WITH ORDINALITY AS f (factor, number) WHERE f.number <= 4) AS l;
SELECT jsonb_array_length(factors) AS base FROM arx.explain_wallets('{w3}', 'testnet', max_factors => 1);
SELECT FROM arx.explain_wallets('{w3}', 'testnet', max_factors => 0);
-- Invalid arguments.
SELECT * FROM arx.score_wallets(NULL, 'testnet');
SELECT * FROM arx.score_wallets('{w3,NULL}', 'testnet');
SELECT * FROM arx.score_wallets('{w3}', 'nowhere');
SELECT * FROM arx.score_wallets('{0xnothex}', 'ethereum');
SELECT * FROM arx.score_wallets('{w3}', NULL);
SELECT * FROM arx.risk_distribution(NULL);
SELECT * FROM arx.risk_distribution('testnet', 'no-such-model');
SELECT * FROM arx.feature_vectors('nowhere');
SELECT * FROM arx.wallet_features(NULL, 'testnet');
SELECT score, state FROM arx.wallet_risk('scheme', 'testnet', 'infinity');
SELECT score, state FROM arx.wallet_risk('scheme', 'testnet', '-infinity');
SELECT * FROM arx.wallet_risk('0x0000000000000000000000000000000000000001', 'ethereum');
SELECT * FROM arx.risk_distribution('ethereum');
