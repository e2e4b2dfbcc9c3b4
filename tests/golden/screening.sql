INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST');
INSERT INTO arx.address_labels (network, address, category, severity, source) VALUES ('testnet', 'bad', 'sanctions', 'severe', 'list');
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value, status) VALUES
    ('testnet', 't1', 1, '2024-01-01', 'near', 'bad', 1, 'confirmed'), ('testnet', 't2', 2, '2024-01-02', 'x', 'y', 2, 'confirmed');
-- A transfer to a wallet under sanctions is blocked, one of a wallet near it is reviewed.
SELECT s.decision, r ->> 'rule' AS rule, r ->> 'verdict' AS verdict, r ->> 'direction' AS direction, r -> 'facts' AS facts
  FROM arx.screen_transfer('testnet', 'x', 'bad', 'native', 5) AS s, jsonb_array_elements(s.reasons) AS r;
SELECT s.decision, r ->> 'rule' AS rule FROM arx.screen_transfer('testnet', 'near', 'y', 'native', 5) AS s, jsonb_array_elements(s.reasons) AS r;
SELECT decision, reasons, facts -> 'sender' ->> 'amount' AS amount FROM arx.screen_transfer('testnet', 'x', 'y', 'native', 0.000000000000000001);
-- A wallet that sends to itself is both sides.
SELECT s.decision, r ->> 'rule' AS rule, r ->> 'direction' AS direction, s.facts -> 'sender' ->> 'wallet_category' AS sender,
       s.facts -> 'receiver' ->> 'counterparty_category' AS receiver, s.complete IS NOT NULL AS is_answered
  FROM arx.screen_transfer('testnet', 'bad', 'bad', 'native', 5) AS s, jsonb_array_elements(s.reasons) AS r;
-- A wallet of a watchlist.
INSERT INTO arx.watchlists (watchlist, network, address, customer) VALUES ('customers', 'testnet', 'y', 'C-1');
SELECT s.decision, r ->> 'rule' AS rule FROM arx.screen_transfer('testnet', 'x', 'y', 'native', 1) AS s, jsonb_array_elements(s.reasons) AS r;
-- The decision is part of the caller's transaction, and sees its rows.
BEGIN;
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value, status)
VALUES ('testnet', 't3', 3, '2024-01-03', 'fresh', 'bad', 1, 'confirmed');
SELECT decision FROM arx.screen_transfer('testnet', 'fresh', 'z', 'native', 1);
ROLLBACK;
SELECT count(*) FROM arx.decisions WHERE from_address = 'fresh';
-- An external id is decided once.
SELECT decision, reason IS NULL AS first FROM arx.screen_transfer('testnet', 'x', 'bad', 'native', 7, external_id => 'w-1');
SELECT decision, reason ~ '^screened before' AS again FROM arx.screen_transfer('testnet', 'x', 'bad', 'native', 7.0, external_id => 'w-1');
SELECT decision FROM arx.screen_transfer('testnet', 'x', 'bad', 'native', 8, external_id => 'w-1');
SELECT count(*) FROM arx.registered_transfers AS t JOIN arx.decisions AS d USING (external_id, decision_id);
-- Bad input.
SELECT * FROM arx.screen_transfer('nowhere', 'x', 'y', 'native', 1);
SELECT * FROM arx.screen_transfer('testnet', NULL, 'y', 'native', 1);
SELECT * FROM arx.screen_transfer('testnet', 'x', 'y', 'native', NULL);
SELECT * FROM arx.screen_transfer('testnet', 'x', 'y', NULL, 1);
SELECT * FROM arx.screen_transfer('testnet', 'x', 'y', 'native', -1);
SELECT * FROM arx.screen_transfer('testnet', 'x', 'y', 'native', 'NaN');
SELECT * FROM arx.screen_transfer('testnet', 'x', 'y', 'native', 1, amount_usd => 'Infinity');
-- A decision computed again: the same, until labels change.
SELECT min(decision_id) AS first FROM arx.decisions \gset
SELECT item, recorded, computed, same FROM arx.replay_decision(:first) WHERE NOT item ~ '^model|\.';
UPDATE arx.address_labels SET valid_to = '2020-01-01' WHERE address = 'bad';
SELECT item, recorded, computed FROM arx.replay_decision(:first) WHERE NOT same AND item !~ 'score|share';
SELECT * FROM arx.replay_decision(0);
SET TimeZone = 'UTC';
-- Entries never change; one that is changed by hand is found, also if its owner does it.
SELECT log, entries, problems, intact FROM arx.verify_audit_log();
UPDATE arx.decisions SET decision = 'allow';
DELETE FROM arx.decisions;
INSERT INTO arx.decisions (network, from_address, to_address, asset, amount, decision, reasons, facts, rules, model_version, label_state, snapshot, complete)
VALUES ('testnet', 'x', 'bad', 'native', 1, 'allow', '[]', '{}', '{}', '', '{}', '', true);
SELECT arx.extend_chain('decisions');
BEGIN;
ALTER TABLE arx.decisions DISABLE TRIGGER USER;
UPDATE arx.decisions SET amount = 4 WHERE decision_id = :first;
SELECT log, problems, first_entry = :first AS is_first, problem FROM arx.verify_audit_log() WHERE NOT intact;
-- With a hash that fits, the next entry does not follow any more.
UPDATE arx.decisions AS d SET entry_hash = arx.entry_hash(d.previous_hash, arx.sealed_content('decisions', to_jsonb(d))) WHERE decision_id = :first;
SELECT problem FROM arx.verify_audit_log() WHERE NOT intact;
ROLLBACK;
BEGIN;
ALTER TABLE arx.decisions DISABLE TRIGGER USER;
DELETE FROM arx.decisions WHERE decision_id = (SELECT max(decision_id) FROM arx.decisions);
SELECT problem FROM arx.verify_audit_log() WHERE NOT intact;
DELETE FROM arx.decisions;
SELECT problem FROM arx.verify_audit_log() WHERE NOT intact;
ROLLBACK;
SELECT log, intact FROM arx.verify_audit_log();
-- In a transaction with one snapshot, an entry begins a chain of its own.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT decision FROM arx.screen_transfer('testnet', 'x', 'y', 'native', 1);
COMMIT;
SELECT chains, intact FROM arx.verify_audit_log() WHERE log = 'decisions';
-- An analyst may screen, and may not write the log.
SELECT format('CREATE ROLE %I IN ROLE arx_analyst', 'analyst_' || current_database()), format('CREATE ROLE %I IN ROLE arx_reader', 'watcher_' || current_database()) \gexec
SELECT 'analyst_' || current_database() AS analyst, 'watcher_' || current_database() AS watcher \gset
SET ROLE :"analyst";
SELECT decision FROM arx.screen_transfer('testnet', 'x', 'y', 'native', 1, external_id => 'w-2');
SELECT decided_by = current_user AS signed FROM arx.decisions WHERE external_id = 'w-2';
DELETE FROM arx.decisions;
UPDATE arx.audit_chains SET entries = 0;
INSERT INTO arx.decisions (network, from_address, to_address, asset, amount, decision, reasons, facts, rules, model_version, label_state, snapshot, complete)
VALUES ('testnet', 'x', 'bad', 'native', 1, 'allow', '[]', '{}', '{}', '', '{}', '', true);
SET ROLE :"watcher";
SELECT decision FROM arx.screen_transfer('testnet', 'x', 'y', 'native', 1);
SELECT intact FROM arx.verify_audit_log();
RESET ROLE;
DROP ROLE :"analyst", :"watcher";
-- The heaviest label of a wallet by label_rank() is that of current_labels.
INSERT INTO arx.address_labels (network, address, category, severity, source, confidence)
SELECT 'testnet', 'm' || n % 97, k.categories[1 + n * 7919 % cardinality(k.categories)], k.severities[1 + n * 104729 % 5], 's' || n * 31 % 4,
       (1 + n * 37 % 4) / 4.0
  FROM generate_series(1, 200) AS n,
       (SELECT (SELECT array_agg(category ORDER BY category) FROM arx.label_categories),
               enum_range(NULL::arx.label_severity_enum)) AS k (categories, severities)
ON CONFLICT DO NOTHING;
SELECT count(*) AS wallets, count(DISTINCT v.kind) AS kinds, count(*) FILTER (WHERE v = r) AS equal
  FROM (SELECT c.address, c.category, c.kind, c.severity, c.source, c.confidence
          FROM arx.current_labels AS c WHERE c.network = 'testnet') AS v
  JOIN (SELECT DISTINCT ON (l.address) l.address, l.category, c.kind, l.severity, l.source, l.confidence
          FROM arx.address_labels AS l JOIN arx.label_categories AS c USING (category)
         WHERE l.network = 'testnet'
         ORDER BY l.address, arx.label_rank(l.category, c.kind, l.severity::text, l.confidence), l.source, l.label_id) AS r USING (address);
