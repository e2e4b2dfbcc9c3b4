-- Refreshing scores: models, overrides, changes of labels, the history of scores. For the scores
-- themselves see risk.sql.
SET timezone = 'UTC';
INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST'), ('othernet', 'OTH');
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value, status) VALUES
    ('testnet', 't1', 1, '2024-01-01', 'alice', 'bob', 90, 'confirmed'),
    ('testnet', 't2', 2, '2024-01-02', 'bob', 'carol', 10, 'confirmed'),
    ('testnet', 't3', 3, '2024-01-03', 'carol', 'dave', 99, 'confirmed'),
    ('othernet', 't4', 4, '2024-01-04', 'alice', 'bob', 50, 'confirmed');
CREATE VIEW public.astray AS
SELECT w.network, w.address, p.risk_score, p.risk_state, s.score, s.state
  FROM (SELECT p.network_type AS network, p.wallet_address AS address FROM arx.wallet_profiles AS p
        UNION SELECT t.network, t.from_address FROM arx.transactions AS t
        UNION SELECT t.network, t.to_address FROM arx.transactions AS t WHERE t.to_address IS NOT NULL
        UNION SELECT l.network, l.address FROM arx.address_labels AS l
        UNION SELECT o.network, o.address FROM arx.risk_overrides AS o) AS w
  LEFT JOIN arx.wallet_profiles AS p ON p.network_type = w.network AND p.wallet_address = w.address
 CROSS JOIN LATERAL arx.score_wallets(ARRAY[w.address], w.network) AS s
 WHERE (coalesce(p.risk_score, 50), coalesce(p.risk_state, 'unknown')) IS DISTINCT FROM (s.score, s.state)
 ORDER BY w.network COLLATE "C", w.address COLLATE "C";

-- First every wallet is scored, then none; only a wallet with a known score gets a profile.
CALL arx.refresh_risk_scores();
SELECT network_type, wallet_address, risk_state, version FROM arx.wallet_profiles ORDER BY 1, 2;
SELECT * FROM public.astray;
CALL arx.refresh_risk_scores();
-- Profiles added by the other job do not change scores.
SELECT arx.refresh_wallet_profiles();
SELECT network_type, wallet_address, risk_state, transaction_count FROM arx.wallet_profiles ORDER BY 1, 2;
SELECT * FROM public.astray;
-- One network only; wallets queued for other networks stay queued.
INSERT INTO arx.address_labels (network, address, category, severity, source) VALUES
    ('testnet', 'dave', 'scam', 'high', 'list'), ('othernet', 'bob', 'mixer', 'medium', 'list'), ('othernet', 'pool', 'miner', 'none', 'list');
CALL arx.refresh_risk_scores('TESTNET', 1) \gset
SELECT network, address FROM arx.risk_queue ORDER BY 1, 2;
SELECT * FROM public.astray WHERE network = 'testnet';
CALL arx.refresh_risk_scores(batch_size => 2) \gset
SELECT network_type, wallet_address, risk_state FROM arx.wallet_profiles WHERE risk_state <> 'scored' ORDER BY 1, 2;
SELECT * FROM public.astray;

-- All kinds of changes of labels.
SELECT pg_current_snapshot() AS since \gset
UPDATE arx.address_labels SET category = 'exchange', severity = 'none' WHERE address = 'dave';
SELECT * FROM arx.changed_labels(:'since') ORDER BY 1, 2;
CALL arx.refresh_risk_scores(changed => 7) \gset
SELECT * FROM public.astray;
SELECT pg_current_snapshot() AS since \gset
UPDATE arx.address_labels SET address = 'carol' WHERE address = 'dave';
SELECT * FROM arx.changed_labels(:'since') ORDER BY 1, 2;
CALL arx.refresh_risk_scores() \gset
SELECT wallet_address, risk_state FROM arx.wallet_profiles WHERE network_type = 'testnet' ORDER BY 1;
SELECT * FROM public.astray;
SELECT pg_current_snapshot() AS since \gset
DELETE FROM arx.address_labels WHERE address = 'carol';
SELECT * FROM arx.changed_labels(:'since') ORDER BY 1, 2;
CALL arx.refresh_risk_scores() \gset
SELECT * FROM public.astray;
-- A change of the meaning of a category affects all networks; its description has no effect.
SELECT pg_current_snapshot() AS since \gset
UPDATE arx.label_categories SET description = 'mixes' WHERE category = 'mixer';
SELECT * FROM arx.changed_labels(:'since');
UPDATE arx.label_categories SET kind = 'illicit' WHERE category = 'mixer';
SELECT * FROM arx.changed_labels(:'since');
CALL arx.refresh_risk_scores() \gset
SELECT * FROM public.astray;
-- A network that is registered after it has transactions.
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
VALUES ('latenet', 't1', 1, '2024-01-01', 'early', 'bird', 1);
CALL arx.refresh_risk_scores();
INSERT INTO arx.networks (network, native_asset) VALUES ('latenet', 'LAT');
CALL arx.refresh_risk_scores();
SELECT wallet_address, risk_state FROM arx.wallet_profiles WHERE network_type = 'latenet' ORDER BY 1;
-- TRUNCATE of labels.
SELECT pg_current_snapshot() AS since \gset
TRUNCATE arx.address_labels;
SELECT * FROM arx.changed_labels(:'since');
CALL arx.refresh_risk_scores() \gset
SELECT DISTINCT risk_state FROM arx.wallet_profiles;
SELECT * FROM public.astray;
-- Addresses that normalize_address() would reject or change belong to no wallet.
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value)
VALUES ('ethereum', 't1', 1, '2024-01-01', 'no address', '0x00000000000000000000000000000000000000AA', 1);
CALL arx.refresh_risk_scores();
SELECT * FROM arx.wallet_profiles WHERE network_type = 'ethereum';
DELETE FROM arx.transactions WHERE network = 'ethereum';
SELECT arx.is_normalized_address('0x00000000000000000000000000000000000000aa', 'ethereum') AS yes,
       arx.is_normalized_address('0x00000000000000000000000000000000000000AA', 'ethereum') AS upper_case,
       arx.is_normalized_address('0x', 'ethereum') AS malformed, arx.is_normalized_address(NULL, 'ethereum') AS "null";

-- Overrides set the score for a period.
SELECT arx.override_risk('bob', 'TESTNET', 12.5, ' known to us: see case 7 ', now() + interval '1 hour') AS first \gset
SELECT network, address, score, reason, created_by = current_user AS mine, expires_at > now() AS in_force FROM arx.current_risk_overrides;
CALL arx.refresh_risk_scores();
SELECT risk_score, risk_state FROM arx.wallet_profiles WHERE network_type = 'testnet' AND wallet_address = 'bob';
SELECT * FROM public.astray;
-- A new override ends the one before it.
SELECT arx.override_risk('bob', 'testnet', 100, 'not any more', now() + interval '1 year') AS second \gset
SELECT override_id = :first AS is_first, score, reason, ended_at IS NOT NULL AS ended, ended_by = current_user AS by_me
  FROM arx.risk_overrides ORDER BY override_id;
CALL arx.refresh_risk_scores();
SELECT risk_score, risk_state FROM arx.wallet_profiles WHERE network_type = 'testnet' AND wallet_address = 'bob';
SELECT arx.end_risk_override(:second), arx.end_risk_override(:second) AS again, arx.end_risk_override(:first) AS long_ago, arx.end_risk_override(-1) AS never;
CALL arx.refresh_risk_scores();
SELECT risk_state FROM arx.wallet_profiles WHERE network_type = 'testnet' AND wallet_address = 'bob';
SELECT count(*) FROM arx.current_risk_overrides;
-- An override of an unknown wallet; an expired override is ended by the next one.
SELECT arx.override_risk('stranger', 'testnet', 0, 'ours', now() + interval '1 hour') > 0 AS made;
CALL arx.refresh_risk_scores();
SELECT risk_score, risk_state, transaction_count FROM arx.wallet_profiles WHERE wallet_address = 'stranger';
UPDATE arx.risk_overrides SET valid_from = '2024-01-01', expires_at = '2024-01-02' WHERE address = 'stranger';
CALL arx.refresh_risk_scores();
SELECT risk_score, risk_state FROM arx.wallet_profiles WHERE wallet_address = 'stranger';
SELECT arx.override_risk('stranger', 'testnet', 1, 'still ours', now() + interval '1 hour') > 0 AS made;
SELECT ended_at FROM arx.risk_overrides WHERE address = 'stranger' AND score = 0;
SELECT * FROM arx.risk_history('stranger', 'testnet', 1) \gset past_
SELECT :'past_score' AS score, :'past_previous_score' AS previous_score, :'past_state' AS state;
-- Rejected.
SELECT arx.override_risk('bob', 'testnet', 10, ' ', now() + interval '1 hour');
SELECT arx.override_risk('bob', 'testnet', 10, 'x', '2024-01-01');
SELECT arx.override_risk('bob', 'testnet', 10, 'x', 'infinity');
SELECT arx.override_risk('bob', 'testnet', 100.1, 'x', now() + interval '1 hour');
SELECT arx.override_risk('bob', 'testnet', -1, 'x', now() + interval '1 hour');
SELECT arx.override_risk('bob', 'testnet', 'NaN', 'x', now() + interval '1 hour');
SELECT arx.override_risk('bob', 'testnet', 10.25, 'x', now() + interval '1 hour');
SELECT arx.override_risk('0x12', 'ethereum', 10, 'x', now() + interval '1 hour');
SELECT arx.override_risk('bob', 'nowhere', 10, 'x', now() + interval '1 hour');
SELECT arx.override_risk(NULL, 'testnet', 10, 'x', now() + interval '1 hour');
SELECT arx.override_risk('bob', NULL, 10, 'x', now() + interval '1 hour');
SELECT arx.override_risk('bob', 'testnet', NULL, 'x', now() + interval '1 hour');
SELECT arx.override_risk('bob', 'testnet', 10, NULL, now() + interval '1 hour');
SELECT arx.override_risk('bob', 'testnet', 10, 'x', NULL);
SELECT arx.end_risk_override(NULL);
INSERT INTO arx.address_labels (network, address, category, severity, source) VALUES ('testnet', 'dave', 'sanctions', 'severe', 'list');
SELECT arx.override_risk('dave', 'testnet', 10, 'x', now() + interval '1 hour');
INSERT INTO arx.risk_overrides (network, address, score, reason, expires_at) VALUES ('testnet', 'stranger', 5, 'x', now() + interval '1 day');
-- Sanctions that are added later take precedence over an override.
SELECT arx.override_risk('carol', 'testnet', 10, 'x', now() + interval '1 hour') > 0 AS made;
INSERT INTO arx.address_labels (network, address, category, severity, source) VALUES ('testnet', 'carol', 'sanctions', 'severe', 'list');
CALL arx.refresh_risk_scores() \gset
SELECT wallet_address, risk_state FROM arx.wallet_profiles WHERE wallet_address IN ('carol', 'dave') AND network_type = 'testnet' ORDER BY 1;
SELECT * FROM public.astray;

-- The history has an entry for each change, newest first.
SELECT count(*) > 3 AS told, count(previous_score) = count(*) - 1 AS all_but_the_first, bool_and(difference = score - previous_score) AS differences,
       bool_and(model_version = arx.active_risk_model()) AS versions
  FROM arx.risk_history('bob', 'testnet');
SELECT score, previous_score, difference, state FROM arx.risk_history('BOB', 'testnet');
SELECT score, previous_score, difference, state FROM arx.risk_history('bob', 'testnet', 3) WHERE state = 'overridden';
SELECT count(*) FROM arx.risk_history('bob', 'testnet', 2);
SELECT * FROM arx.risk_history('absent', 'testnet');
SELECT * FROM arx.risk_history(NULL, 'testnet');
SELECT * FROM arx.risk_history('bob', NULL);
SELECT * FROM arx.risk_history('bob', 'nowhere');
SELECT * FROM arx.risk_history('0x12', 'ethereum');
SELECT * FROM arx.risk_history('bob', 'testnet', 0);
SELECT * FROM arx.risk_history('bob', 'testnet', NULL);

-- Models: a draft becomes active and is rolled back.
SELECT state, builtin, network, activated_at IS NOT NULL AS activated, previous_version, version = arx.active_risk_model() AS active
  FROM arx.risk_models;
SELECT version = arx.default_risk_model() ->> 'version' AS shipped FROM arx.risk_models;
SELECT arx.import_risk_model(jsonb_set(arx.default_risk_model(), '{version}', '"house-1"'), 'TESTNET');
SELECT arx.import_risk_model(jsonb_set(arx.default_risk_model(), '{version}', '"house-2"'));
SELECT arx.import_risk_model(jsonb_set(arx.default_risk_model(), '{version}', '"house-3"'));
SELECT version, state, network, created_by = current_user AS mine FROM arx.risk_models WHERE NOT builtin ORDER BY version;
CALL arx.refresh_risk_scores();
CREATE FUNCTION pg_temp.shown(version text) RETURNS text LANGUAGE sql AS
    $$ SELECT CASE WHEN version = arx.default_risk_model() ->> 'version' THEN 'shipped' ELSE version END $$;
SELECT pg_temp.shown(arx.activate_risk_model('house-1', 'fitted on our cases'));
SELECT arx.activate_risk_model('house-1');
CALL arx.refresh_risk_scores();
SELECT * FROM public.astray;
SELECT arx.activate_risk_model('house-2');
SELECT pg_temp.shown(version) AS version, state, pg_temp.shown(previous_version) AS previous FROM arx.risk_models ORDER BY activated_at, builtin DESC, 1;
SELECT arx.rollback_risk_model();
SELECT pg_temp.shown(arx.rollback_risk_model('house rules were wrong'));
SELECT pg_temp.shown(version) AS version, reason, activated_by = current_user AS by_me FROM arx.risk_model_activations ORDER BY activation_id;
SELECT pg_temp.shown(version) AS version, state FROM arx.risk_models ORDER BY activated_at, builtin DESC, 1;
-- After a rollback before the first refresh, everything is scored again all the same.
CALL arx.refresh_risk_scores();
CALL arx.refresh_risk_scores();
SELECT * FROM public.astray;
SELECT arx.discard_risk_model('house-3');
SELECT version FROM arx.risk_models WHERE NOT builtin ORDER BY 1;
-- Rejected.
SELECT arx.import_risk_model(jsonb_set(arx.default_risk_model(), '{version}', '"house-1"'));
SELECT arx.discard_risk_model('house-2');
SELECT arx.import_risk_model(NULL);
SELECT arx.import_risk_model(arx.default_risk_model(), 'nowhere');
SELECT arx.activate_risk_model(NULL);
SELECT arx.discard_risk_model(NULL);
UPDATE arx.risk_models SET document = document || '{"description": "another"}' WHERE version = 'house-1';
UPDATE arx.risk_models SET report = '{"auc": 0.9}' WHERE version = 'house-1';
DELETE FROM arx.risk_models WHERE version = 'house-1';
INSERT INTO arx.risk_models (version, document, state) VALUES ('forged', '{"version": "forged"}', 'active');
SELECT state FROM arx.risk_models WHERE version = 'forged';
-- Messages that name the shipped version or quote a document are reduced to their SQLSTATE.
\set VERBOSITY sqlstate
SELECT arx.rollback_risk_model();
SELECT arx.activate_risk_model('no such');
SELECT arx.discard_risk_model('no such');
SELECT arx.discard_risk_model(arx.default_risk_model() ->> 'version');
SELECT arx.activate_risk_model('forged');
SELECT arx.import_risk_model('{"version": 7}');
SELECT arx.import_risk_model('[]');
INSERT INTO arx.risk_models (version, document) VALUES ('other', '{"version": "one"}');
INSERT INTO arx.risk_overrides (network, address, score, reason, expires_at) VALUES ('testnet', 'bob', 5, ' ', now() + interval '1 day');
\set VERBOSITY verbose
SELECT pg_temp.shown(arx.active_risk_model());

-- Invalid arguments of the job.
CALL arx.refresh_risk_scores('nowhere');
CALL arx.refresh_risk_scores(batch_size => 0);
CALL arx.refresh_risk_scores(batch_size => NULL);
BEGIN;
CALL arx.refresh_risk_scores();
ROLLBACK;
SET default_transaction_isolation = 'repeatable read';
CALL arx.refresh_risk_scores();
RESET default_transaction_isolation;
-- A batch that fails stays queued, the others are scored.
INSERT INTO arx.address_labels (network, address, category, severity, source) VALUES
    ('testnet', 'dora', 'scam', 'high', 'list'), ('testnet', 'emil', 'scam', 'high', 'list'), ('testnet', 'fred', 'scam', 'high', 'list');
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'no entry for %', NEW.address USING HINT = 'Ask the operator.'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON arx.risk_score_history FOR EACH ROW WHEN (NEW.address = 'emil') EXECUTE FUNCTION public.refuse();
CALL arx.refresh_risk_scores(batch_size => 1);
SELECT network, address FROM arx.risk_queue;
SELECT wallet_address, risk_state FROM arx.wallet_profiles WHERE wallet_address IN ('dora', 'emil', 'fred') ORDER BY 1;
DROP TRIGGER refuse ON arx.risk_score_history;
CALL arx.refresh_risk_scores();
SELECT * FROM public.astray;

-- Readers may read, operators may also change state.
SELECT format('CREATE ROLE %I IN ROLE arx_reader', 'reader_' || current_database()),
       format('CREATE ROLE %I IN ROLE arx_operator', 'operator_' || current_database()) \gexec
SELECT 'reader_' || current_database() AS reader, 'operator_' || current_database() AS operator \gset
SET ROLE :"reader";
SELECT count(*) > 0 AS models FROM arx.risk_models;
SELECT count(*) > 0 AS told FROM arx.risk_history('bob', 'testnet');
SELECT count(*) > 0 AS overrides FROM arx.current_risk_overrides;
SELECT arx.override_risk('bob', 'testnet', 10, 'x', now() + interval '1 hour');
SELECT arx.activate_risk_model('house-1');
SELECT arx.queue_risk_changes();
CALL arx.refresh_risk_scores();
RESET ROLE;
SET ROLE :"operator";
SELECT arx.import_risk_model(jsonb_set(arx.default_risk_model(), '{version}', '"house-4"'));
UPDATE arx.risk_models SET report = '{}' WHERE version = 'house-4';
SELECT pg_temp.shown(arx.activate_risk_model('house-2'));
SELECT pg_temp.shown(arx.rollback_risk_model());
SELECT arx.discard_risk_model('house-4');
SELECT arx.override_risk('bob', 'testnet', 10, 'mine', now() + interval '1 hour') AS mine \gset
SELECT created_by = current_user AS mine FROM arx.current_risk_overrides WHERE address = 'bob';
SELECT arx.end_risk_override(:mine);
UPDATE arx.address_labels SET source = 'another' WHERE address = 'dora';
DELETE FROM arx.address_labels WHERE address = 'emil';
CALL arx.refresh_risk_scores() \gset
UPDATE arx.risk_models SET state = 'draft';
UPDATE arx.risk_overrides SET score = 0;
DELETE FROM arx.risk_overrides;
INSERT INTO arx.label_changes (network) VALUES ('testnet');
RESET ROLE;
SELECT * FROM public.astray;
DROP ROLE :"reader", :"operator";
