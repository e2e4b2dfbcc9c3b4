INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST');
SELECT arx.fit_risk_model('ours', 'testnet');
-- Thieves gather funds from many and pass all of them on within the hour; others keep their funds.
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
SELECT 'testnet', format('a%s.%s', n, k), n, timestamptz '2024-01-01' + (n * 37 + k * 11) * interval '1 hour', format('payer%s', (n * 7 + k * 13) % 300),
       format(CASE WHEN n % 3 = 0 THEN 'thief%s' ELSE 'user%s' END, n), CASE WHEN n % 3 = 0 THEN 0.5 ELSE 1 + (n * k) % 17 / 10.0 END
  FROM generate_series(1, 240) AS n, generate_series(1, 6) AS k
UNION ALL
SELECT 'testnet', format('b%s.%s', n, k), n, timestamptz '2024-01-01' + (n * 37 + k * 11) * interval '1 hour' + interval '20 min',
       format('thief%s', n), format('cashier%s', n % 4), 0.5
  FROM generate_series(3, 240, 3) AS n, generate_series(1, 6) AS k
UNION ALL
SELECT 'testnet', format('c%s', n), n, timestamptz '2024-03-01' + n * interval '1 hour', format('user%s', n), format('payer%s', n % 50), 0.7
  FROM generate_series(1, 240) AS n WHERE n % 3 <> 0;
-- Errors name what is missing.
SELECT arx.fit_risk_model('ours', 'testnet');
INSERT INTO arx.address_labels (network, address, category, severity, source)
SELECT 'testnet', format('thief%s', n), 'phishing', 'high', 'list' FROM generate_series(3, 240, 3) AS n;
SELECT arx.fit_risk_model('ours', 'testnet');
INSERT INTO arx.address_labels (network, address, category, severity, source)
SELECT 'testnet', format('ghost%s', n), 'licit', 'none', 'list' FROM generate_series(1, 60) AS n;
SELECT arx.fit_risk_model('ours', 'testnet');
INSERT INTO arx.address_labels (network, address, category, severity, source)
SELECT 'testnet', format('user%s', n), 'licit', 'none', 'list' FROM generate_series(1, 240) AS n WHERE n % 3 <> 0;
SELECT arx.fit_risk_model(NULL, 'testnet');
SELECT arx.fit_risk_model('', 'testnet');
SELECT arx.fit_risk_model('ours', NULL);
SELECT arx.fit_risk_model('ours', 'nowhere');
SELECT arx.fit_risk_model('ours', 'testnet', NULL);
SELECT arx.fit_risk_model('ours', 'testnet', folds => 1);
SELECT arx.fit_risk_model('ours', 'testnet', folds => NULL);
SELECT arx.fit_risk_model('ours', 'testnet', seed => NULL);
SELECT arx.fit_risk_model('ours', 'testnet', licit => '{}');
SELECT arx.fit_risk_model('ours', 'testnet', licit => NULL);
SELECT arx.fit_risk_model('ours', 'testnet', licit => '{licit,NULL}');
SELECT arx.fit_risk_model('ours', 'testnet', licit => '{no_such}');
SELECT arx.fit_risk_model('ours', 'testnet', illicit => '{licit}');
SELECT arx.fit_risk_model('ours', 'testnet', illicit => '{ransomware}');
SELECT arx.fit_risk_model('ours', 'testnet', as_of => '2020-01-01');
SELECT arx.fit_risk_model((SELECT arx.active_risk_model()), 'testnet');
-- A wallet with both labels is left out and reported.
INSERT INTO arx.address_labels (network, address, category, severity, source) VALUES ('testnet', 'user1', 'phishing', 'high', 'rumour');
SELECT version, wallets, illicit_wallets, unknown_wallets, factors > 0 AS has_factors, auc > 0.9 AS separates, average_precision > 0.9 AS precise,
       log_loss < 0.4 AS sure, brier < 0.1 AS calibrated, current_version, current_auc BETWEEN 0 AND 1 AS compared, wallets_scored, change_band > 0 AS drifts
  FROM arx.fit_risk_model('ours', 'testnet', 'our own customers');
SELECT state, network, builtin, report -> 'cases' AS cases, report #>> '{draft,version}' AS draft, report #> '{draft,out_of_fold}' AS out_of_fold,
       report #>> '{current,version}' AS current, jsonb_array_length(report #> '{draft,roc}') > 2 AS curve, document ->> 'description' AS description
  FROM arx.risk_models WHERE version = 'ours';
SELECT sum((m ->> 'wallets')::bigint) AS wallets FROM arx.risk_models, jsonb_array_elements(report -> 'drift') AS m WHERE version = 'ours';
-- The same labels and seed give the same model.
SELECT version FROM arx.fit_risk_model('ours-again', 'testnet', 'our own customers');
SELECT a.document - 'version' = b.document - 'version' AS same FROM arx.risk_models AS a, arx.risk_models AS b WHERE a.version = 'ours' AND b.version = 'ours-again';
SELECT arx.fit_risk_model('ours', 'testnet');
SELECT arx.discard_risk_model('ours-again');
-- Quality on these labels, compared with the scorecard that ARX ships.
SELECT e.report #>> '{current,version}' AS version, (e.report #>> '{current,auc}')::double precision > 0.9 AS separates,
       e.report #> '{current,out_of_fold}' AS out_of_fold, jsonb_array_length(e.report #> '{current,mistakes}') > 0 AS told
  FROM (VALUES ('ours'), (NULL)) AS v (version) CROSS JOIN LATERAL arx.evaluate_risk_model(v.version, 'testnet') AS e (report);
SELECT arx.evaluate_risk_model('no-such-model', 'testnet');
-- The model scores while it is active, until it is rolled back.
SELECT arx.activate_risk_model('ours', 'fitted on our customers') AS before;
SELECT DISTINCT score, state FROM arx.score_wallets(ARRAY(SELECT format('thief%s', n) FROM generate_series(3, 60, 3) AS n), 'testnet');
DELETE FROM arx.address_labels;
SELECT min(t.score) > max(u.score) AS told_apart, min(t.model_version) AS model
  FROM arx.score_wallets(ARRAY(SELECT format('thief%s', n) FROM generate_series(3, 60, 3) AS n), 'testnet') AS t,
       arx.score_wallets(ARRAY(SELECT format('user%s', n) FROM generate_series(1, 60, 3) AS n), 'testnet') AS u;
SELECT arx.discard_risk_model('ours');
SELECT arx.rollback_risk_model();
SELECT arx.active_risk_model();
