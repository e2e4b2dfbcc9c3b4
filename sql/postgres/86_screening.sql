-- Rules of wallet alerts, and the screening of transfers before they move.

-- A condition is checked when it is written, and never changes afterwards: hits name the version.
CREATE FUNCTION guard_wallet_alert_rule() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM arx.check_alert_condition(NEW.condition);
    ELSIF (to_jsonb(NEW) - '{state,state_reason}'::text[]) IS DISTINCT FROM (to_jsonb(OLD) - '{state,state_reason}'::text[])
          -- A restored row that ARX ships takes the place of the one that exists.
          AND NOT (OLD.builtin AND NEW.builtin AND NEW.condition = OLD.condition) THEN
        RAISE EXCEPTION 'version % of alert rule "%" cannot be changed: hits refer to it', OLD.version, OLD.rule
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Create another version with arx.set_alert_rule(), or change its state.';
    END IF;
    RETURN NEW;
END;
$$;

-- Creates the next version of a rule, as a draft. `expected_version` is the version that the editor
-- has seen: of two editors, the second gets an error.
CREATE FUNCTION set_alert_rule(
    rule text, condition jsonb, description text, severity text DEFAULT 'medium', side text DEFAULT 'any',
    used_for text DEFAULT 'alerts', verdict text DEFAULT NULL, cooldown interval DEFAULT '1 day',
    pending interval DEFAULT '0', sla interval DEFAULT NULL, inhibited_by text[] DEFAULT '{}', four_eyes boolean DEFAULT false,
    max_share double precision DEFAULT 0.2, expected_version integer DEFAULT NULL
) RETURNS integer
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    present integer;
BEGIN
    PERFORM arx.lock_job('alert_rules');
    SELECT coalesce(max(r.version), 0) INTO present FROM arx.wallet_alert_rules AS r WHERE r.rule = set_alert_rule.rule;
    IF expected_version <> present THEN
        RAISE EXCEPTION 'alert rule "%" has version % by now, not %', set_alert_rule.rule, present, expected_version
            USING ERRCODE = 'serialization_failure', HINT = 'Read the rule again, and repeat the change.';
    END IF;
    INSERT INTO arx.wallet_alert_rules (rule, version, condition, description, severity, side, used_for, verdict, cooldown,
                                        pending, sla, inhibited_by, four_eyes, max_share)
    VALUES (set_alert_rule.rule, present + 1, set_alert_rule.condition, set_alert_rule.description, set_alert_rule.severity,
            set_alert_rule.side, set_alert_rule.used_for, set_alert_rule.verdict, set_alert_rule.cooldown,
            set_alert_rule.pending, set_alert_rule.sla, set_alert_rule.inhibited_by, set_alert_rule.four_eyes,
            set_alert_rule.max_share);
    RETURN present + 1;
END;
$$;

-- Activating a version retires the one that was active.
CREATE FUNCTION set_alert_rule_state(rule text, version integer, state text, reason text DEFAULT NULL) RETURNS text
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    former text;
BEGIN
    PERFORM arx.lock_job('alert_rules');
    SELECT r.state INTO former FROM arx.wallet_alert_rules AS r
     WHERE r.rule = set_alert_rule_state.rule AND r.version = set_alert_rule_state.version FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'alert rule "%" has no version %', set_alert_rule_state.rule, set_alert_rule_state.version
            USING ERRCODE = 'undefined_object', HINT = 'See arx.wallet_alert_rules.';
    END IF;
    IF set_alert_rule_state.state = 'active' THEN
        UPDATE arx.wallet_alert_rules AS r SET state = 'retired', state_reason = 'another version was activated'
         WHERE r.rule = set_alert_rule_state.rule AND r.state = 'active' AND r.version <> set_alert_rule_state.version;
    END IF;
    UPDATE arx.wallet_alert_rules AS r SET state = set_alert_rule_state.state, state_reason = set_alert_rule_state.reason
     WHERE r.rule = set_alert_rule_state.rule AND r.version = set_alert_rule_state.version;
    RETURN former;
END;
$$;

-- Facts of one transfer that has not moved yet, for its sender (out) and its receiver (in).
--
-- A decision has milliseconds, so funds are followed over two hops, and not through wallets with
-- more than 200 transfers; what is not followed is named as a reason for an incomplete answer. The
-- periods are hours, because a day of the session's time zone may have 23 or 25 of them.
CREATE FUNCTION screening_facts(
    network text, from_address text, to_address text, asset text, amount numeric, amount_usd numeric,
    OUT sender jsonb, OUT receiver jsonb, OUT model_version text, OUT label_state text, OUT complete boolean, OUT reason text)
    LANGUAGE plpgsql_as_owner STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    -- Planning over the partitions takes longer than the query, which prunes them when it runs.
    SET plan_cache_mode = force_generic_plan
    AS $$
#variable_conflict use_column
BEGIN
    -- screen_wallets() has a row for each name in their order, score_wallets() one for each wallet:
    -- a wallet may send to itself.
    WITH wallets AS MATERIALIZED (
        SELECT w.*, x.sanctions_in, x.sanctions_out, x.illicit_share_in, x.illicit_share_out, x.complete, x.reason, r.model_version,
               CASE WHEN r.state <> 'unknown' THEN r.score END AS score
          FROM (VALUES (1, $2, 'out', $3), (2, $3, 'in', $2)) AS w (place, address, direction, counterparty)
          LEFT JOIN arx.screen_wallets(ARRAY[$2, $3], $1, max_hops => 2, max_fan_out => 200) WITH ORDINALITY AS x ON x.ordinality = w.place
          LEFT JOIN arx.score_wallets(ARRAY[$2, $3], $1) AS r ON r.address = w.address
    ), labels AS MATERIALIZED (
        SELECT DISTINCT ON (l.address) l.address, l.category, c.kind
          FROM arx.address_labels AS l JOIN arx.label_categories AS c USING (category)
         WHERE l.network = $1 AND l.address IN ($2, $3) AND l.valid_from <= now() AND l.valid_to > now()
         ORDER BY l.address, arx.label_rank(l.category, c.kind, l.severity::text, l.confidence), l.source, l.label_id
    ), recent AS MATERIALIZED (
        SELECT w.direction, m."timestamp", m.value, m.value_usd, m.asset
          FROM wallets AS w
         CROSS JOIN LATERAL (
            SELECT t."timestamp", t.value, t.value_usd, 'native' AS asset FROM arx.transactions AS t
             WHERE t.network = $1 AND t."timestamp" > now() - interval '168 hours' AND t.status <> 'failed'
               AND CASE w.direction WHEN 'out' THEN t.from_address ELSE t.to_address END = w.address
               AND (w.address = t.from_address OR w.address = t.to_address)
            UNION ALL
            SELECT t."timestamp", t.amount, t.value_usd, t.token_address FROM arx.token_transfers AS t
             WHERE t.network = $1 AND t."timestamp" > now() - interval '168 hours'
               AND CASE w.direction WHEN 'out' THEN t.from_address ELSE t.to_address END = w.address
               AND (w.address = t.from_address OR w.address = t.to_address)
         ) AS m
    ), windows AS (
        SELECT w.direction,
               1 + count(r.*) FILTER (WHERE r."timestamp" > now() - interval '1 hour') AS count_1h,
               1 + count(r.*) FILTER (WHERE r."timestamp" > now() - interval '24 hours') AS count_24h,
               1 + count(r.*) AS count_7d,
               $5 + coalesce(sum(r.value) FILTER (WHERE r."timestamp" > now() - interval '24 hours' AND r.asset = $4), 0) AS sum_24h,
               $6 + coalesce(sum(r.value_usd) FILTER (WHERE r."timestamp" > now() - interval '1 hour'), 0) AS sum_usd_1h,
               $6 + coalesce(sum(r.value_usd) FILTER (WHERE r."timestamp" > now() - interval '24 hours'), 0) AS sum_usd_24h,
               $6 + coalesce(sum(r.value_usd), 0) AS sum_usd_7d,
               count(r.*) FILTER (WHERE r."timestamp" > now() - interval '24 hours' AND r.value_usd >= 8000 AND r.value_usd < 10000)
                   + ($6 >= 8000 AND $6 < 10000)::integer AS below_10000_usd_24h
          FROM wallets AS w LEFT JOIN recent AS r ON r.direction = w.direction
         GROUP BY w.direction
    ), facts AS (
        SELECT w.direction, jsonb_strip_nulls(jsonb_build_object(
               'network', $1, 'asset', $4, 'direction', w.direction, 'relation', 'registered_transfers',
               'amount', $5, 'amount_usd', $6,
               'wallet_category', l.category, 'wallet_kind', l.kind,
               'counterparty_category', o.category, 'counterparty_kind', o.kind,
               'wallet_score', w.score, 'counterparty_score', p.score,
               'wallet_watched', EXISTS (SELECT FROM arx.watchlists AS m WHERE m.network = $1 AND m.address = w.address),
               'counterparty_watched', EXISTS (SELECT FROM arx.watchlists AS m WHERE m.network = $1 AND m.address = w.counterparty),
               'count_1h', v.count_1h, 'count_24h', v.count_24h, 'count_7d', v.count_7d, 'sum_24h', v.sum_24h,
               'sum_usd_1h', v.sum_usd_1h, 'sum_usd_24h', v.sum_usd_24h, 'sum_usd_7d', v.sum_usd_7d,
               'below_10000_usd_24h', v.below_10000_usd_24h,
               'sanctions_in', w.sanctions_in, 'sanctions_out', w.sanctions_out,
               'illicit_share_in', w.illicit_share_in, 'illicit_share_out', w.illicit_share_out)) AS facts,
               w.complete, w.reason, w.model_version
          FROM wallets AS w
          JOIN wallets AS p ON p.place <> w.place
          JOIN windows AS v ON v.direction = w.direction
          LEFT JOIN labels AS l ON l.address = w.address
          LEFT JOIN labels AS o ON o.address = w.counterparty
    )
    SELECT (SELECT f.facts FROM facts AS f WHERE f.direction = 'out'), (SELECT f.facts FROM facts AS f WHERE f.direction = 'in'),
           (SELECT min(f.model_version) FROM facts AS f),
           -- Labels that weigh most of both wallets: whatever else is labelled is in the shares.
           (SELECT coalesce(jsonb_object_agg(l.address, l.category), '{}')::text FROM labels AS l),
           (SELECT bool_and(coalesce(f.complete, false)) FROM facts AS f),
           (SELECT string_agg(f.direction || ': ' || f.reason, '; ' ORDER BY f.direction DESC) FROM facts AS f WHERE f.reason IS NOT NULL)
      INTO sender, receiver, model_version, label_state, complete, reason;
END;
$$;

-- Rules that fire on the facts of a transfer, with the facts that each of them names.
CREATE FUNCTION screening_hits(sender jsonb, receiver jsonb, versions jsonb DEFAULT NULL)
    RETURNS TABLE (rule text, version integer, verdict text, severity text, direction text, description text, facts jsonb)
    LANGUAGE plpgsql_as_owner STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    SET plan_cache_mode = force_generic_plan
    AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH rules AS MATERIALIZED (
        SELECT r.*, c.parts[1]::jsonpath AS path, c.parts[2:] AS named
          FROM arx.wallet_alert_rules AS r
         CROSS JOIN LATERAL (SELECT arx.alert_condition_parts(r.condition) AS parts OFFSET 0) AS c
         WHERE CASE WHEN $3 IS NULL THEN r.state = 'active' AND r.used_for IN ('screening', 'both')
                         AND NOT EXISTS (SELECT FROM arx.wallet_alert_rules AS n
                                          WHERE n.rule = r.rule AND n.state = 'active' AND n.version > r.version)
                    ELSE ($3 ->> r.rule)::integer = r.version END
    )
    SELECT r.rule, r.version, r.verdict, r.severity, d.facts ->> 'direction', r.description,
           (SELECT jsonb_object_agg(n.name, d.facts -> n.name) FROM unnest(r.named) AS n (name))
      FROM rules AS r
      JOIN (VALUES ($1, 'sender'), ($2, 'receiver')) AS d (facts, side)
        ON r.side IN ('any', d.side) AND jsonb_path_match(d.facts, r.path, '{}', true)
     ORDER BY r.verdict, r.rule, d.side DESC;
END;
$$;

CREATE FUNCTION screen_transfer(
    network text, from_address text, to_address text, asset text, amount numeric,
    external_id text DEFAULT NULL, amount_usd numeric DEFAULT NULL
) RETURNS TABLE (decision_id bigint, decision text, reasons jsonb, facts jsonb, complete boolean, reason text)
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    SET plan_cache_mode = force_generic_plan
    AS $$
#variable_conflict use_column
DECLARE
    canonical text := arx.registered_network($1);
    sender    text := arx.require_address($2, canonical);
    receiver  text := arx.require_address($3, canonical);
    earlier   record;
    found_facts record;
BEGIN
    IF $4 IS NULL OR $5 IS NULL THEN
        RAISE EXCEPTION '% must not be null', CASE WHEN $4 IS NULL THEN 'asset' ELSE 'amount' END
            USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF $5 < 0 OR $5 = 'NaN' OR $5 = 'Infinity' OR $7 < 0 OR $7 = 'NaN' OR $7 = 'Infinity' THEN
        RAISE EXCEPTION '% must not be negative or infinite, not %', CASE WHEN $7 < 0 OR $7 IN ('NaN', 'Infinity') THEN 'amount_usd' ELSE 'amount' END,
            CASE WHEN $7 < 0 OR $7 IN ('NaN', 'Infinity') THEN $7 ELSE $5 END USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF $6 IS NOT NULL THEN
        -- Waits for another session that screens the same transfer, and then sees its decision.
        INSERT INTO arx.registered_transfers (external_id, network, from_address, to_address, asset, amount, amount_usd)
        VALUES ($6, canonical, sender, receiver, $4, $5, $7)
            ON CONFLICT ON CONSTRAINT registered_transfers_external_id_key DO NOTHING;
        IF NOT FOUND THEN
            SELECT t.network, t.from_address, t.to_address, t.asset, t.amount, t.amount_usd, d.decision_id, d.decision,
                   d.reasons, d.facts, d.complete, d.decided_at
              INTO earlier
              FROM arx.registered_transfers AS t JOIN arx.decisions AS d ON d.decision_id = t.decision_id
             WHERE t.external_id = $6;
            IF (earlier.network, earlier.from_address, earlier.to_address, earlier.asset, earlier.amount, earlier.amount_usd)
               IS DISTINCT FROM (canonical, sender, receiver, $4, $5, $7) THEN
                RAISE EXCEPTION 'external id "%" belongs to another transfer', $6
                    USING ERRCODE = 'unique_violation',
                          DETAIL = 'It was screened with other wallets, another asset or another amount.';
            END IF;
            RETURN QUERY SELECT earlier.decision_id, earlier.decision, earlier.reasons, earlier.facts, earlier.complete,
                                'screened before, at ' || to_char(earlier.decided_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS"Z"');
            RETURN;
        END IF;
    END IF;
    SELECT * INTO STRICT found_facts FROM arx.screening_facts(canonical, sender, receiver, $4, $5, $7);
    facts := jsonb_build_object('sender', found_facts.sender, 'receiver', found_facts.receiver);
    complete := found_facts.complete;
    reason := found_facts.reason;
    SELECT coalesce(jsonb_agg(to_jsonb(h)), '[]'),
           CASE WHEN bool_or(h.verdict = 'block') THEN 'block' WHEN bool_or(h.verdict = 'review') THEN 'review' ELSE 'allow' END
      INTO reasons, decision
      FROM arx.screening_hits(found_facts.sender, found_facts.receiver) AS h;
    INSERT INTO arx.decisions AS d (network, from_address, to_address, asset, amount, amount_usd, external_id, decision, reasons,
                                    facts, rules, model_version, label_state, snapshot, complete)
    SELECT canonical, sender, receiver, $4, $5, $7, $6, decision, reasons, facts,
           coalesce((SELECT jsonb_object_agg(r.rule, r.version ORDER BY r.version) FROM arx.wallet_alert_rules AS r
                      WHERE r.state = 'active' AND r.used_for IN ('screening', 'both')), '{}'),
           coalesce(found_facts.model_version, ''), found_facts.label_state, pg_current_snapshot()::text, complete
    RETURNING d.decision_id INTO decision_id;
    IF $6 IS NOT NULL THEN
        UPDATE arx.registered_transfers AS t SET decision_id = screen_transfer.decision_id WHERE t.external_id = $6;
    END IF;
    RETURN NEXT;
END;
$$;

-- Computes a decision again, with the rules in the versions of that time and the facts of now, and
-- says what differs.
CREATE FUNCTION replay_decision(decision_id bigint) RETURNS TABLE (item text, recorded jsonb, computed jsonb, same boolean)
    LANGUAGE plpgsql_as_owner STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
    AS $$
#variable_conflict use_column
DECLARE
    stored record;
    found_facts record;
    again  jsonb;
    verdict text;
    by_record text;
BEGIN
    SELECT d.* INTO stored FROM arx.decisions AS d WHERE d.decision_id = $1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'decision % does not exist', coalesce($1::text, 'null') USING ERRCODE = 'no_data_found';
    END IF;
    SELECT * INTO STRICT found_facts
      FROM arx.screening_facts(stored.network, stored.from_address, stored.to_address, stored.asset, stored.amount, stored.amount_usd);
    SELECT CASE WHEN bool_or(h.verdict = 'block') THEN 'block' WHEN bool_or(h.verdict = 'review') THEN 'review' ELSE 'allow' END
      INTO by_record FROM arx.screening_hits(stored.facts -> 'sender', stored.facts -> 'receiver', stored.rules) AS h;
    SELECT coalesce(jsonb_agg(h.rule ORDER BY h.rule, h.direction), '[]'),
           CASE WHEN bool_or(h.verdict = 'block') THEN 'block' WHEN bool_or(h.verdict = 'review') THEN 'review' ELSE 'allow' END
      INTO again, verdict FROM arx.screening_hits(found_facts.sender, found_facts.receiver, stored.rules) AS h;
    RETURN QUERY
    SELECT i.item, i.recorded, i.computed, i.recorded IS NOT DISTINCT FROM i.computed
      FROM (SELECT 1 AS place, 'decision from the recorded facts' AS item, to_jsonb(stored.decision) AS recorded, to_jsonb(by_record) AS computed
            UNION ALL SELECT 2, 'decision', to_jsonb(stored.decision), to_jsonb(verdict)
            UNION ALL SELECT 3, 'rules that fire',
                             (SELECT coalesce(jsonb_agg(r ->> 'rule' ORDER BY r ->> 'rule', r ->> 'direction'), '[]')
                                FROM jsonb_array_elements(stored.reasons) AS r), again
            UNION ALL SELECT 4, 'model_version', to_jsonb(stored.model_version), to_jsonb(coalesce(found_facts.model_version, ''))
            UNION ALL SELECT 5, 'label_state', to_jsonb(stored.label_state), to_jsonb(found_facts.label_state)
            UNION ALL
            SELECT 6, format('%s.%s', s.side, k.key), s.recorded -> k.key, s.computed -> k.key
              FROM (VALUES ('sender', stored.facts -> 'sender', found_facts.sender),
                           ('receiver', stored.facts -> 'receiver', found_facts.receiver)) AS s (side, recorded, computed)
             CROSS JOIN LATERAL (SELECT jsonb_object_keys(s.recorded) AS key UNION SELECT jsonb_object_keys(s.computed)) AS k
             WHERE s.recorded -> k.key IS DISTINCT FROM s.computed -> k.key) AS i
     ORDER BY i.place, i.item;
END;
$$;
