-- Search: parts of addresses, words of labels and notes, typing errors, filters, facets. Without
-- indexes, with those of words, and with those of pg_trgm, the answers are the same.
SET timezone = 'UTC';
INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST'), ('othernet', 'OTH');
INSERT INTO arx.address_labels (network, address, category, severity, label, source, valid_from, valid_to) VALUES
    ('testnet', 'abcdef0001', 'exchange', 'none', 'Northern Lights Exchange: hot wallet', 'desk', '-infinity', 'infinity'),
    ('testnet', 'abcdef0002', 'exchange', 'none', 'Northern Lights Exchange: cold wallet', 'desk', '-infinity', 'infinity'),
    ('testnet', 'abcdef0002', 'sanctions', 'severe', 'List 7 entry', 'list', '-infinity', 'infinity'),
    ('othernet', 'abcdef0001', 'scam', 'high', 'fake northern giveaway', 'desk', '-infinity', 'infinity'),
    ('testnet', 'Xyz_100%', 'mixer', 'medium', 'Blender of 100% coins', 'desk', '-infinity', 'infinity'),
    ('testnet', 'former', 'exchange', 'none', 'Northern Lights, closed', 'desk', '-infinity', '2020-01-01');
INSERT INTO arx.wallet_profiles (wallet_address, network_type, risk_score, risk_state, analytics_profile) VALUES
    ('abcdef0001', 'testnet', 12.5, 'scored', '{"tags": ["vip"], "note": "reviewed by the northern desk"}'),
    ('unlabelled0001', 'testnet', 91.0, 'scored', '{"tags": ["watch"]}');
INSERT INTO arx.risk_score_history (network, address, score, probability, band, state, model_version)
SELECT 'testnet', 'unlabelled0001', 91.0, 0.9, 'severe', 'scored', arx.active_risk_model();

-- The same questions with each set of indexes.
CREATE FUNCTION pg_temp.ask() RETURNS TABLE (question text, network text, address text, rank numeric, matched text, label text,
                                             category text, score numeric, band text)
    LANGUAGE sql AS $$
SELECT q.question, w.network, w.address, round(w.rank::numeric, 2), w.matched, w.label, w.category, w.risk_score, w.band
  FROM (VALUES (1, 'abcdef0001', '{}'), (2, 'ABCDEF', '{}'), (3, '0001', '{"network": "testnet"}'), (4, 'ab', '{}'),
               (5, 'northern', '{}'), (6, 'lights hot', '{}'), (7, 'reviewed', '{}'), (8, '_100%', '{}'), (9, '0%', '{}'),
               (10, 'orther', '{}'), (11, '0001', '{"min_score": 50}'), (12, 'abcdef', '{"kind": "illicit"}'),
               (13, 'northern', '{"category": "exchange"}'), (14, '', '{"path": "$.tags[*] ? (@ == \"vip\")"}'),
               (15, '0001', '{"band": "severe"}'), (16, 'northern', '{"source": "list"}'), (17, 'list 7', '{}')
       ) AS q (number, question, filters),
       LATERAL arx.search_wallets(q.question, q.filters::jsonb) WITH ORDINALITY AS w
 ORDER BY q.number, w.ordinality
$$;
SELECT * FROM pg_temp.ask();
CREATE TEMP TABLE plain AS SELECT * FROM pg_temp.ask();
SELECT * FROM arx.create_search_indexes();
SELECT count(*) AS differences FROM (TABLE plain EXCEPT ALL SELECT * FROM pg_temp.ask()) AS d;
CREATE EXTENSION pg_trgm;
SELECT * FROM arx.create_search_indexes();
SELECT * FROM arx.create_search_indexes();
SET enable_seqscan = off;
SELECT count(*) AS differences FROM (TABLE plain EXCEPT ALL SELECT * FROM pg_temp.ask()) AS d;
RESET enable_seqscan;
-- Typing errors, with pg_trgm alone.
SELECT network, address, matched, label FROM arx.search_wallets('nothern lihgts');
SELECT * FROM arx.search_facets('northern');
SELECT * FROM arx.search_facets('0001');

-- Wrong input.
\set VERBOSITY terse
SELECT * FROM arx.search_wallets('');
SELECT * FROM arx.search_wallets(NULL);
SELECT * FROM arx.search_wallets('a');
SELECT * FROM arx.search_wallets(repeat('a', 10000000));
SELECT * FROM arx.search_wallets('abc', NULL);
SELECT * FROM arx.search_wallets('abc', '[]');
SELECT * FROM arx.search_wallets('abc', '{"netwrok": "testnet"}');
SELECT * FROM arx.search_wallets('abc', '{"min_score": "high"}');
SELECT * FROM arx.search_wallets('abc', '{"path": "$.["}');
SELECT * FROM arx.search_wallets('abc', '{}', 0);
SELECT count(*) FROM arx.search_wallets('); DROP TABLE arx.networks; --');
SELECT count(*) FROM arx.search_wallets('"unbalanced & | ! <-> :*');
SELECT count(*) FROM arx.search_wallets('no such thing');
\set VERBOSITY default

-- Row security hides rows from a search as from any other query.
CREATE ROLE search_reader;
GRANT arx_reader TO search_reader;
ALTER TABLE arx.address_labels ENABLE ROW LEVEL SECURITY;
CREATE POLICY one_network ON arx.address_labels FOR SELECT TO search_reader USING (network = 'othernet');
SET ROLE search_reader;
SELECT network, address, label FROM arx.search_wallets('northern');
SELECT * FROM arx.create_search_indexes();
RESET ROLE;
DROP POLICY one_network ON arx.address_labels;
ALTER TABLE arx.address_labels DISABLE ROW LEVEL SECURITY;
REVOKE arx_reader FROM search_reader;
DROP ROLE search_reader;
