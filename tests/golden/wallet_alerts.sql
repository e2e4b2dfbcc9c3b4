INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST');
INSERT INTO arx.address_labels (network, address, category, severity, source) VALUES ('testnet', 'bad', 'sanctions', 'severe', 'list');
CREATE FUNCTION pg_temp.pay(hash text, sender text, receiver text, at timestamptz, usd numeric) RETURNS void LANGUAGE sql
    AS $$ INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value, value_usd, status)
          VALUES ('testnet', hash, 1, at, sender, receiver, 1, usd, 'confirmed') $$;
-- Conditions: a fault is reported with its position.
SELECT arx.check_alert_condition('{"all": [{"fact": "amount_usd", "op": ">", "value": 5}, {"fact": "wallet_kind", "op": "in", "value": ["illicit"]}]}');
SELECT arx.check_alert_condition('{"all": [{"fact": "amount_usd", "op": ">", "value": 5}, {"fact": "colour", "op": "=", "value": 1}]}');
SELECT arx.check_alert_condition('{"any": [{"fact": "asset", "op": ">", "value": "x"}]}');
SELECT arx.check_alert_condition('{"fact": "amount", "op": "between", "value": [1, "x"]}');
SELECT arx.check_alert_condition(NULL);
SELECT arx.check_alert_condition((repeat('{"not": ', 40) || '{"fact": "amount", "op": "known"}' || repeat('}', 40))::jsonb);
SELECT arx.check_alert_condition((repeat('{"not": ', 1000) || '1' || repeat('}', 1000))::jsonb);
SELECT * FROM arx.compile_alert_condition('{"not": {"fact": "asset", "op": "=", "value": "it''s"}}', 'f', 0, 2);
SELECT kind, count(*) FROM arx.alert_facts() GROUP BY kind ORDER BY kind;
-- Rules that ship: each transfer is judged once, with its evidence.
SELECT pg_temp.pay('t1', 'a', 'b', '2024-01-01', 200000);
SELECT pg_temp.pay('t2', 'a', 'bad', '2024-01-02', 100);
SELECT pg_temp.pay('s' || n, 'c', 'd', '2024-01-03'::timestamptz + n * interval '1 hour', 9000) FROM generate_series(1, 4) AS n;
SELECT pg_temp.pay('t3', 'c', 'd', '2025-06-01', NULL);
SELECT rule, version, judged, hits, alerts FROM arx.check_wallet_alerts() WHERE hits > 0;
SELECT sum(judged) AS judged, sum(hits) AS hits FROM arx.check_wallet_alerts();
SELECT rule, address, severity, state, hits, amount_usd, evidence -> 0 ->> 'tx_hash' AS tx_hash, evidence -> 0 -> 'facts' AS facts
  FROM arx.wallet_alerts ORDER BY rule, address;
-- A transaction that commits late is judged when it is visible.
SELECT pg_temp.pay('t4', 'e', 'bad', '2020-01-01', 5);
SELECT rule, hits FROM arx.check_wallet_alerts() WHERE hits > 0;
-- The block of t4 leaves the chain: its hits are taken back. It comes again: they count again.
DELETE FROM arx.transactions WHERE tx_hash = 't4';
SELECT sum(hits) AS hits FROM arx.check_wallet_alerts();
SELECT rule, address, state, hits FROM arx.wallet_alerts WHERE address = 'e' ORDER BY rule;
SELECT pg_temp.pay('t4', 'e', 'bad', '2020-01-01', 5);
SELECT rule, hits, alerts FROM arx.check_wallet_alerts() WHERE hits > 0;
SELECT rule, address, state, hits FROM arx.wallet_alerts WHERE address = 'e' AND rule = 'sanctions_hit';
-- An update of a price judges the transfer again, and hits it once.
UPDATE arx.transactions SET value_usd = 300000 WHERE tx_hash = 't1';
SELECT rule, hits FROM arx.check_wallet_alerts() WHERE hits > 0;
-- A rule of a user: draft, shadow, active; another version, and two editors.
SELECT arx.set_alert_rule('tiny', '{"fact": "amount_usd", "op": "<", "value": 10}', 'hardly anything', severity => 'low', side => 'sender', cooldown => '1 hour');
SELECT arx.set_alert_rule('tiny', '{"fact": "nothing", "op": "<", "value": 10}', 'x');
SELECT arx.set_alert_rule('tiny', '{"fact": "amount_usd", "op": "<", "value": 20}', 'x', expected_version => 0);
UPDATE arx.wallet_alert_rules SET condition = '{"fact": "amount_usd", "op": "<", "value": 20}' WHERE rule = 'tiny';
SELECT arx.set_alert_rule_state('tiny', 1, 'shadow');
SELECT pg_temp.pay('y1', 'f', 'g', '2024-03-01', 5);
SELECT rule, state, hits, alerts FROM arx.check_wallet_alerts() WHERE hits > 0;
SELECT arx.set_alert_rule_state('tiny', 1, 'active', 'looks right');
SELECT pg_temp.pay('y' || n, 'f', 'g', '2024-03-01'::timestamptz + n * interval '40 minutes', 5) FROM generate_series(2, 4) AS n;
SELECT pg_temp.pay('y5', 'f', 'g', '2024-03-02', 5);
SELECT rule, state, hits, alerts FROM arx.check_wallet_alerts() WHERE hits > 0;
SELECT hits, first_hit_at, last_hit_at FROM arx.wallet_alerts WHERE rule = 'tiny' ORDER BY first_hit_at;
SELECT arx.set_alert_rule('tiny', '{"fact": "amount_usd", "op": "<", "value": 20}', 'hardly anything', expected_version => 1);
SELECT arx.set_alert_rule_state('tiny', 2, 'active');
SELECT version, state, state_reason FROM arx.wallet_alert_rules WHERE rule = 'tiny' ORDER BY version;
SELECT arx.set_alert_rule_state('tiny', 7, 'active');
-- Silences, and a watchlist.
INSERT INTO arx.alert_silences (rule, address, ends_at, reason) VALUES ('watchlist_hit', 'h', now() + interval '1 day', 'known');
INSERT INTO arx.watchlists (watchlist, network, address) VALUES ('customers', 'testnet', 'h'), ('customers', 'testnet', 'i');
SELECT pg_temp.pay('w1', 'h', 'j', '2024-04-01', 500), pg_temp.pay('w2', 'i', 'j', '2024-04-01', 500);
SELECT rule, hits, alerts FROM arx.check_wallet_alerts() WHERE hits > 0;
SELECT address, state FROM arx.wallet_alerts WHERE rule = 'watchlist_hit' ORDER BY address;
-- A typology: two rules that mean more together.
INSERT INTO arx.alert_typologies (typology, weights, threshold, description) VALUES ('mule', '{"large_transfer": 2, "sanctions_hit": 3}', 5, 'both');
INSERT INTO arx.alert_typologies (typology, weights, threshold, description) VALUES ('odd', '{"large_transfer": "2"}', 5, 'both');
SELECT pg_temp.pay('q1', 'p', 'j', '2024-04-01', 500000);
SELECT count(*) FROM arx.check_wallet_alerts();
SELECT count(*) FROM arx.wallet_alerts WHERE rule = 'mule';
SELECT pg_temp.pay('q2', 'p', 'bad', '2024-04-02', 5);
SELECT count(*) FROM arx.check_wallet_alerts();
SELECT address, severity, state, hits, evidence -> 0 -> 'rule' AS rule, evidence -> 1 -> 'weight' AS weight FROM arx.wallet_alerts WHERE rule = 'mule';
-- Before a rule rings: what it would have found.
SELECT sides, hits, wallets, days, alerts, analyst_hours, "precision", recall, overlap, jsonb_array_length(examples) AS examples
  FROM arx.backtest_alert_rule('sanctions_hit', 1, '2020-01-01', '2025-01-01');
SELECT * FROM arx.backtest_alert_rule('sanctions_hit', 1, '2025-01-01', '2025-01-01');
SELECT * FROM arx.backtest_alert_rule('sanctions_hit', 9, '2024-01-01', '2025-01-01');
-- A rule that fires on nearly everything is paused, and raises no alert.
SELECT arx.set_alert_rule('everything', '{"fact": "amount", "op": ">=", "value": 0}', 'all of it', max_share => 0.5);
SELECT arx.set_alert_rule_state('everything', 1, 'active');
SELECT count(pg_temp.pay('m' || n, 'm' || n % 7, 'n' || n % 5, '2024-05-01', 50)) FROM generate_series(1, 600) AS n;
SELECT rule, state, judged, hits, alerts FROM arx.check_wallet_alerts() WHERE rule = 'everything';
SELECT state, state_reason FROM arx.wallet_alert_rules WHERE rule = 'everything';
-- Cases: acknowledged, assigned, noted, closed; the hits of a closed alert begin another one.
SELECT alert_id AS large FROM arx.wallet_alerts WHERE rule = 'large_transfer' AND address = 'a' \gset
SELECT arx.acknowledge_alert(:large, 'taken over'), arx.assign_alert(:large, 'eve'), arx.comment_alert(:large, 'asked the customer');
SELECT arx.comment_alert(:large, ' ');
SELECT arx.close_alert(:large, '');
SELECT arx.close_alert(:large, 'salary of a company');
SELECT arx.close_alert(:large, 'again');
SELECT arx.acknowledge_alert(0);
SELECT status, assignee, close_reason, closed_at IS NOT NULL AS is_closed FROM arx.wallet_alerts WHERE alert_id = :large;
SELECT action, detail FROM arx.alert_events WHERE alert_id = :large ORDER BY event_id;
SELECT pg_temp.pay('t9', 'a', 'b', '2024-01-01 01:00', 200000);
SELECT rule, hits, alerts FROM arx.check_wallet_alerts() WHERE rule = 'large_transfer';
-- Sanctions need four eyes: the second role closes.
SELECT format('CREATE ROLE %I IN ROLE arx_analyst', 'one_' || current_database()), format('CREATE ROLE %I IN ROLE arx_analyst', 'two_' || current_database()) \gexec
SELECT 'one_' || current_database() AS one, 'two_' || current_database() AS two \gset
SELECT alert_id AS hit FROM arx.wallet_alerts WHERE rule = 'sanctions_hit' AND address = 'a' \gset
SET ROLE :"one";
SELECT arx.close_alert(:hit, 'another one of that name');
SELECT arx.close_alert(:hit, 'really');
SELECT arx.check_wallet_alerts();
SET ROLE :"two";
SELECT arx.close_alert(:hit, 'confirmed');
RESET ROLE;
SELECT action, actor = current_user AS by_owner FROM arx.alert_events WHERE alert_id = :hit ORDER BY event_id;
SELECT e -> 'status' AS status, jsonb_array_length(e -> 'transfers') AS transfers, jsonb_array_length(e -> 'history') AS history
  FROM arx.export_alert(:hit) AS e;
-- The same as CSV, and cells that a spreadsheet must not run.
SELECT l.part, count(*)
  FROM (SELECT split_part(line, ',', 1) AS part FROM regexp_split_to_table(arx.export_alert_csv(:hit), E'\r\n') AS line WHERE line <> '') AS l
 GROUP BY l.part ORDER BY l.part COLLATE "C";
SELECT arx.csv_cell(v) FROM (VALUES ('plain'), ('a "b", c'), ('=1+1'), ('  @SUM(A1)'), (E'\t=1'), ('-5'), ('＝1'), (NULL)) AS c (v);
SELECT log, entries > 0 AS has_entries, intact FROM arx.verify_audit_log() WHERE log = 'alert_events';
DROP ROLE :"one", :"two";
-- Members of watchlists are judged again where their answer may have changed.
SELECT network, members, judged, changed FROM arx.rescreen_watchlists();
SELECT network, members, judged, changed FROM arx.rescreen_watchlists();
SELECT pg_temp.pay('x1', 'h', 'bad', '2024-06-01', 700);
SELECT network, members, judged FROM arx.rescreen_watchlists();
INSERT INTO arx.address_labels (network, address, category, severity, source) VALUES ('testnet', 'i', 'scam', 'high', 'list');
SELECT network, members, changed FROM arx.rescreen_watchlists();
SELECT address, former_category, category FROM arx.watchlist_changes WHERE address = 'i';
SELECT count(*) FROM arx.verify_watchlists();
DELETE FROM arx.watchlists WHERE address = 'i';
SELECT members, changed FROM arx.rescreen_watchlists(everything => true);
SELECT count(*) FROM arx.watchlist_results;
-- A run over many transfers reads the tables in another way than one over few, and finds the same.
INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value, value_usd, status)
SELECT 'testnet', 'f' || n, n, '2023-01-01'::timestamptz + n * interval '7 hours', 'f' || n * 7 % 5, 'f' || n * 3 % 4, n % 9,
       CASE WHEN n % 4 <> 0 THEN 7900 + n * 5 END, (CASE WHEN n % 11 = 0 THEN 'failed' ELSE 'confirmed' END)::arx.tx_status_enum
  FROM generate_series(1, 200) AS n;
INSERT INTO arx.internal_transfers (network, tx_hash, position, block_number, "timestamp", from_address, to_address, value, value_usd, succeeded)
SELECT 'testnet', 'f' || n, 1, n, '2023-01-01'::timestamptz + n * interval '7 hours', nullif('f' || n % 6, 'f5'), 'f' || n % 3, n % 5, 8500, n % 7 <> 0
  FROM generate_series(1, 200, 3) AS n;
INSERT INTO arx.token_transfers (network, tx_hash, log_index, block_number, "timestamp", token_address, from_address, to_address, amount, value_usd)
SELECT 'testnet', 'f' || n, 1, n, '2023-01-01'::timestamptz + n * interval '7 hours', 'tok' || n % 2, 'f' || n % 5, 'f' || n % 2, n, 9100
  FROM generate_series(1, 200, 2) AS n;
CREATE FUNCTION pg_temp.facts(is_large boolean) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY EXECUTE 'SELECT f::text FROM ('
        || arx.transfer_facts_query('{labels,scores,watchlists,windows,idle,counterparty,exposure,patterns}', is_large) || ') AS f'
      USING NULL::numeric[], NULL::text[], NULL::pg_snapshot, '2023-01-20'::timestamptz, '2023-02-20'::timestamptz,
            '{}'::tstzmultirange, '{}'::tstzmultirange, '2023-01-20'::timestamptz, '2023-02-20'::timestamptz;
END;
$$;
SELECT count(*) > 200 AS is_tried, count(DISTINCT f) = count(*) AS is_distinct,
       (SELECT count(*) FROM (SELECT pg_temp.facts(true) EXCEPT ALL SELECT pg_temp.facts(false)) AS d) AS more,
       (SELECT count(*) FROM (SELECT pg_temp.facts(false) EXCEPT ALL SELECT pg_temp.facts(true)) AS d) AS fewer
  FROM pg_temp.facts(true) AS f;
