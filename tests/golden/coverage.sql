-- Coverage of histories: which statements are accepted.
SET timezone = 'UTC';
INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST');
INSERT INTO arx.history_coverage (network, source) VALUES ('testnet', 'test');
INSERT INTO arx.history_coverage (network, address, from_time, to_time, source)
VALUES ('testnet', 'alice', '2024-01-01', NULL, 'test'), ('testnet', 'alice', NULL, '2023-01-01', 'test');
SELECT network, address, from_time, to_time, source, recorded_by = current_user AS mine FROM arx.history_coverage
 ORDER BY address NULLS FIRST, from_time NULLS FIRST;
-- The same statement twice is one.
INSERT INTO arx.history_coverage (network, address, from_time, source) VALUES ('testnet', 'alice', '2024-01-01', 'test');
INSERT INTO arx.history_coverage (network, source) VALUES ('testnet', 'test') ON CONFLICT DO NOTHING;
-- A range that ends before it begins, an empty one, an infinite one, a wallet or network that does
-- not exist, no source. The row itself holds a time, so only the constraint is shown.
CREATE FUNCTION public.refused(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    constraint_name text;
BEGIN
    EXECUTE 'INSERT INTO arx.history_coverage (network, address, from_time, to_time, source) VALUES ' || statement;
    RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS constraint_name = CONSTRAINT_NAME;
    RETURN SQLSTATE || ' ' || coalesce(nullif(constraint_name, ''), SQLERRM);
END;
$$;
SELECT statement, public.refused(statement) FROM unnest(ARRAY[
    $$('testnet', NULL, '2024-01-02', '2024-01-01', 'test')$$, $$('testnet', NULL, '2024-01-01', '2024-01-01', 'test')$$,
    $$('testnet', NULL, NULL, 'infinity', 'test')$$, $$('ethereum', '0x12', NULL, NULL, 'test')$$,
    $$('testnet', '', NULL, NULL, 'test')$$, $$('nowhere', NULL, NULL, NULL, 'test')$$,
    $$(NULL, NULL, NULL, NULL, 'test')$$, $$('testnet', NULL, NULL, NULL, ' ')$$]) AS s (statement);

-- One customer of a shop and an exchange, alone and in the network.
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value, status)
SELECT 'testnet', 'c' || n, n, '2024-02-01'::timestamptz + n * interval '1 day', d.sender, d.receiver, d.value, 'confirmed'
  FROM (VALUES (1, 'exchange', 'carol', 5), (2, 'carol', 'shop', 1), (3, 'exchange', 'carol', 2), (4, 'carol', 'mall', 3)) AS d (n, sender, receiver, value);
CREATE VIEW public.risk AS
SELECT s.address, s.band, s.state, round(s.coverage::numeric, 2) AS coverage, round(s.probability::numeric, 4) AS probability, s.reason
  FROM arx.score_wallets(ARRAY['carol', 'shop', 'exchange'], 'testnet') AS s;
SELECT state, coverage = 1 AS complete, reason FROM arx.wallet_risk('carol', 'testnet');
DELETE FROM arx.history_coverage;
SELECT * FROM public.risk;
SELECT feature, value, shown FROM arx.wallet_features('carol', 'testnet') WHERE feature IN ('senders', 'senders_fan_out', 'receivers_fan_in', 'illicit_senders');
SELECT array_positions(features, 'NaN') AS not_covered FROM arx.feature_vectors('testnet', ARRAY['carol']);
SELECT factor, points, value, compares_to FROM arx.risk_factors('carol', 'testnet') WHERE factor = 'receivers_fan_in';
-- A statement about some counterparties.
INSERT INTO arx.history_coverage (network, address, from_time, to_time, source) VALUES ('testnet', 'shop', '2024-02-01', '2024-03-01', 'test');
SELECT * FROM public.risk;
-- One that ends before the last payment does not count.
UPDATE arx.history_coverage SET to_time = '2024-02-03';
SELECT * FROM public.risk WHERE address = 'carol';
-- A statement about the whole network; the exchange sends what it never received.
INSERT INTO arx.history_coverage (network, source) VALUES ('testnet', 'test');
SELECT * FROM public.risk;
SELECT * FROM arx.coverage_conflicts('testnet');
SELECT arx.coverage_conflicts('nowhere');
SELECT arx.coverage_conflicts(NULL);
-- A change of statements scores every wallet again.
CALL arx.refresh_risk_scores() \gset
SELECT wallet_address, risk_state FROM arx.wallet_profiles ORDER BY 1;
DELETE FROM arx.history_coverage;
CALL arx.refresh_risk_scores() \gset
SELECT wallet_address, risk_state FROM arx.wallet_profiles ORDER BY 1;
CALL arx.refresh_risk_scores();

-- Reasons by family add up to the score.
SELECT count(*) <= 8 AS at_most_eight, sum(r.points) = max(s.score) AS adds_up
  FROM arx.risk_reasons('carol', 'testnet') AS r, arx.wallet_risk('carol', 'testnet') AS s;
SELECT family, points, reason, tx_hashes, counterparties FROM arx.risk_reasons('carol', 'testnet');
SELECT family, points, reason FROM arx.risk_reasons('stranger', 'testnet');
INSERT INTO arx.address_labels (network, address, category, severity, source) VALUES ('testnet', 'shop', 'scam', 'high', 'list');
SELECT family, points, reason, factors FROM arx.risk_reasons('shop', 'testnet');
SELECT arx.risk_reasons(NULL, 'testnet');
SELECT arx.risk_reasons('carol', NULL);
SELECT arx.risk_reasons('carol', 'nowhere');

-- Calibration: prevalence moves the probability and thresholds the band, and neither the score.
CREATE VIEW public.judged AS
SELECT s.score, s.band, round(s.probability::numeric, 4) AS probability FROM arx.wallet_risk('carol', 'testnet') AS s;
SELECT * FROM public.judged;
INSERT INTO arx.risk_calibration (network) VALUES ('testnet');
SELECT * FROM public.judged;
UPDATE arx.risk_calibration SET prevalence = 0.4, high_from = 41, severe_from = 42;
SELECT * FROM public.judged;
SELECT band, state, wallets, share FROM arx.risk_distribution('testnet');
SELECT sum(share) FROM arx.risk_distribution('testnet');
CREATE FUNCTION public.refused_calibration(change text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    constraint_name text;
BEGIN
    EXECUTE 'UPDATE arx.risk_calibration SET ' || change;
    RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS constraint_name = CONSTRAINT_NAME;
    RETURN SQLSTATE || ' ' || coalesce(nullif(constraint_name, ''), SQLERRM);
END;
$$;
SELECT change, public.refused_calibration(change) FROM unnest(ARRAY[
    'prevalence = 0', 'prevalence = 1', $$prevalence = 'NaN'$$, 'prevalence = NULL', 'medium_from = 0', 'high_from = medium_from',
    'severe_from = 100.1', $$high_from = 'NaN'$$, $$severe_from = 'NaN'$$, 'severe_from = NULL', $$network = 'nowhere'$$,
    'severe_from = 100']) AS c (change);
