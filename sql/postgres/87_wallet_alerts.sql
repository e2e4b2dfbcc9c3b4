-- Alerts about wallets: rules over the transfers that have become visible.
--
-- A run reads what has become visible since the position of the last one, by the primitive of
-- freshness, in one statement for all rules. The lock on the position makes runs follow each other,
-- and a hit is stored once by its key: so a transfer is judged once and only once, whatever commits
-- late, whichever run crashes, and even where a run starts over.

-- Facts of the wallets of transfers: of those that have become visible since a snapshot (NULL:
-- all) within a range of times, and of all others at the times `native` and `tokens`, which
-- begin_refresh() returns. The groups name what is gathered.
CREATE FUNCTION transfer_facts(since pg_snapshot, range_from timestamptz, range_to timestamptz, groups text[],
                               native tstzmultirange DEFAULT '{}', tokens tstzmultirange DEFAULT '{}')
    RETURNS TABLE (relation text, tx_hash text, log_index integer, "timestamp" timestamptz, address text, counterparty text,
                   network text, asset text, direction text, amount numeric, amount_usd numeric,
                   wallet_category text, wallet_kind text, counterparty_category text, counterparty_kind text,
                   wallet_score numeric, counterparty_score numeric, score_change_7d numeric,
                   wallet_watched boolean, counterparty_watched boolean,
                   count_1h bigint, count_24h bigint, count_7d bigint, sum_24h numeric, sum_usd_1h numeric,
                   sum_usd_24h numeric, sum_usd_7d numeric, below_10000_usd_24h bigint,
                   days_idle numeric, is_new_counterparty boolean,
                   sanctions_in numeric, sanctions_out numeric, illicit_share_in double precision,
                   illicit_share_out double precision, patterns bigint, pattern_strength double precision)
    LANGUAGE plpgsql_as_owner STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
    SET plan_cache_mode = force_custom_plan
    -- The planner knows no sizes of the steps below, and must not loop over one within another.
    -- Tables are asked through their indexes by LATERAL.
    SET enable_nestloop = off
    SET enable_mergejoin = off
    SET jit = off
    AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH legs AS MATERIALIZED (
        SELECT 'transactions' AS relation, t.network, t.tx_hash, NULL::integer AS log_index, t."timestamp", t.from_address,
               t.to_address, 'native' AS asset, t.value AS amount, t.value_usd
          FROM arx.transactions AS t
         WHERE t.to_address IS NOT NULL AND t.status <> 'failed'
           AND t."timestamp" >= $2 AND t."timestamp" < $3 AND ($1 IS NULL OR arx.is_new_since(t.ingest_xid, $1))
        UNION ALL
        SELECT 'internal_transfers', i.network, i.tx_hash, i.position, i."timestamp", i.from_address, i.to_address, 'native',
               i.value, i.value_usd
          FROM arx.internal_transfers AS i
         WHERE i.succeeded IS NOT FALSE
           AND i."timestamp" >= $2 AND i."timestamp" < $3 AND ($1 IS NULL OR arx.is_new_since(i.ingest_xid, $1))
        UNION ALL
        SELECT 'token_transfers', k.network, k.tx_hash, k.log_index, k."timestamp", k.from_address, k.to_address,
               k.token_address, k.amount, k.value_usd
          FROM arx.token_transfers AS k
         WHERE k."timestamp" >= $2 AND k."timestamp" < $3 AND ($1 IS NULL OR arx.is_new_since(k.ingest_xid, $1))
        -- Rows of partitions that came, which are not new by their stamps.
        UNION ALL
        SELECT 'transactions', t.network, t.tx_hash, NULL::integer, t."timestamp", t.from_address, t.to_address, 'native',
               t.value, t.value_usd
          FROM arx.transactions AS t
         WHERE NOT isempty($5) AND t.to_address IS NOT NULL AND t.status <> 'failed'
           AND t."timestamp" <@ $5 AND NOT arx.is_new_since(t.ingest_xid, $1)
        UNION ALL
        SELECT 'internal_transfers', i.network, i.tx_hash, i.position, i."timestamp", i.from_address, i.to_address, 'native',
               i.value, i.value_usd
          FROM arx.internal_transfers AS i
         WHERE NOT isempty($5) AND i.succeeded IS NOT FALSE
           AND i."timestamp" <@ $5 AND NOT arx.is_new_since(i.ingest_xid, $1)
        UNION ALL
        SELECT 'token_transfers', k.network, k.tx_hash, k.log_index, k."timestamp", k.from_address, k.to_address,
               k.token_address, k.amount, k.value_usd
          FROM arx.token_transfers AS k
         WHERE NOT isempty($6) AND k."timestamp" <@ $6 AND NOT arx.is_new_since(k.ingest_xid, $1)
    ), sides AS MATERIALIZED (
        SELECT l.*, 'out' AS direction, l.from_address AS address, l.to_address AS counterparty
          FROM legs AS l WHERE l.from_address IS NOT NULL
        UNION ALL
        SELECT l.*, 'in', l.to_address, l.from_address FROM legs AS l WHERE l.to_address IS NOT NULL
    ), wallets AS MATERIALIZED (
        SELECT s.network, s.address, min(s."timestamp") AS first_time, max(s."timestamp") AS last_time
          FROM sides AS s GROUP BY s.network, s.address
    ), labels AS MATERIALIZED (
        SELECT w.network, w.address, o.category, o.kind
          FROM wallets AS w
         CROSS JOIN LATERAL (
            SELECT l.category, (SELECT c.kind FROM arx.label_categories AS c WHERE c.category = l.category) AS kind
              FROM arx.address_labels AS l
             WHERE l.network = w.network AND l.address = w.address AND l.valid_from <= now() AND l.valid_to > now()
             ORDER BY l.category <> 'sanctions', array_position(ARRAY['illicit', 'service', 'neutral'],
                        (SELECT c.kind FROM arx.label_categories AS c WHERE c.category = l.category)),
                      l.severity DESC, l.confidence DESC, l.source, l.label_id
             LIMIT 1) AS o
         WHERE 'labels' = ANY ($4)
    ), scores AS MATERIALIZED (
        SELECT w.network, w.address, CASE WHEN p.risk_state <> 'unknown' THEN p.risk_score END AS score,
               p.risk_score - (SELECT h.score FROM arx.risk_score_history AS h
                                WHERE h.address = w.address AND h.network = w.network AND h.scored_at > now() - interval '7 days'
                                  AND h.state <> 'unknown'
                                ORDER BY h.scored_at, h.entry_id LIMIT 1) AS score_change
          FROM wallets AS w
         CROSS JOIN LATERAL (SELECT f.risk_score, f.risk_state FROM arx.wallet_profiles AS f
                              WHERE f.network_type = w.network AND f.wallet_address = w.address LIMIT 1) AS p
         WHERE 'scores' = ANY ($4)
    ), watched AS MATERIALIZED (
        SELECT w.network, w.address FROM wallets AS w
         WHERE 'watchlists' = ANY ($4)
           AND EXISTS (SELECT FROM arx.watchlists AS m WHERE m.network = w.network AND m.address = w.address OFFSET 0)
    ), past AS MATERIALIZED (
        SELECT w.network, w.address, m.*
          FROM wallets AS w
         CROSS JOIN LATERAL (
            SELECT 'transactions' AS relation, t.tx_hash, NULL::integer AS log_index, t."timestamp",
                   CASE WHEN t.from_address = w.address THEN 'out' ELSE 'in' END AS direction,
                   t.from_address = t.to_address AS is_own, 'native' AS asset, t.value AS amount, t.value_usd
              FROM arx.transactions AS t
             WHERE t.network = w.network AND (t.from_address = w.address OR t.to_address = w.address) AND t.status <> 'failed'
               AND t.to_address IS NOT NULL
               AND t."timestamp" >= w.first_time - interval '7 days' AND t."timestamp" <= w.last_time
            UNION ALL
            SELECT 'internal_transfers', i.tx_hash, i.position, i."timestamp",
                   CASE WHEN i.from_address = w.address THEN 'out' ELSE 'in' END, i.from_address IS NOT DISTINCT FROM i.to_address,
                   'native', i.value, i.value_usd
              FROM arx.internal_transfers AS i
             WHERE i.network = w.network AND (i.from_address = w.address OR i.to_address = w.address) AND i.succeeded IS NOT FALSE
               AND i."timestamp" >= w.first_time - interval '7 days' AND i."timestamp" <= w.last_time
            UNION ALL
            SELECT 'token_transfers', k.tx_hash, k.log_index, k."timestamp",
                   CASE WHEN k.from_address = w.address THEN 'out' ELSE 'in' END, k.from_address = k.to_address,
                   k.token_address, k.amount, k.value_usd
              FROM arx.token_transfers AS k
             WHERE k.network = w.network AND (k.from_address = w.address OR k.to_address = w.address)
               AND k."timestamp" >= w.first_time - interval '7 days' AND k."timestamp" <= w.last_time
         ) AS m
         WHERE 'windows' = ANY ($4)
    ), both_ways AS (
        SELECT p.network, p.address, p.relation, p.tx_hash, p.log_index, p."timestamp", p.direction, p.asset, p.amount, p.value_usd FROM past AS p
        UNION ALL
        SELECT p.network, p.address, p.relation, p.tx_hash, p.log_index, p."timestamp", 'in', p.asset, p.amount, p.value_usd
          FROM past AS p WHERE p.is_own
    ), windows AS MATERIALIZED (
        SELECT b.network, b.address, b.relation, b.tx_hash, b.log_index, b."timestamp", b.direction,
               count(*) OVER hour AS count_1h, count(*) OVER day AS count_24h, count(*) OVER week AS count_7d,
               sum(b.amount) OVER of_asset AS sum_24h, sum(b.value_usd) OVER hour AS sum_usd_1h,
               sum(b.value_usd) OVER day AS sum_usd_24h, sum(b.value_usd) OVER week AS sum_usd_7d,
               count(*) FILTER (WHERE b.value_usd >= 8000 AND b.value_usd < 10000) OVER day AS below_10000_usd_24h
          FROM both_ways AS b
        WINDOW hour AS (PARTITION BY b.network, b.address, b.direction ORDER BY b."timestamp" RANGE '1 hour' PRECEDING),
               day AS (PARTITION BY b.network, b.address, b.direction ORDER BY b."timestamp" RANGE '1 day' PRECEDING),
               week AS (PARTITION BY b.network, b.address, b.direction ORDER BY b."timestamp" RANGE '7 days' PRECEDING),
               of_asset AS (PARTITION BY b.network, b.address, b.direction, b.asset ORDER BY b."timestamp" RANGE '1 day' PRECEDING)
    ), active_before AS MATERIALIZED (
        SELECT w.network, w.address,
               (SELECT max(m.at) FROM (
                    (SELECT t."timestamp" AS at FROM arx.transactions AS t
                      WHERE t.from_address = w.address AND t.network = w.network AND t."timestamp" < w.first_time
                      ORDER BY t."timestamp" DESC LIMIT 1)
                    UNION ALL
                    (SELECT t."timestamp" FROM arx.transactions AS t
                      WHERE t.to_address = w.address AND t.network = w.network AND t."timestamp" < w.first_time
                      ORDER BY t."timestamp" DESC LIMIT 1)
                    UNION ALL
                    (SELECT k."timestamp" FROM arx.token_transfers AS k
                      WHERE k.from_address = w.address AND k.network = w.network AND k."timestamp" < w.first_time
                      ORDER BY k."timestamp" DESC LIMIT 1)
                    UNION ALL
                    (SELECT k."timestamp" FROM arx.token_transfers AS k
                      WHERE k.to_address = w.address AND k.network = w.network AND k."timestamp" < w.first_time
                      ORDER BY k."timestamp" DESC LIMIT 1)) AS m) AS at
          FROM wallets AS w WHERE 'idle' = ANY ($4)
    ), times AS MATERIALIZED (
        SELECT d.network, d.address, d."timestamp",
               coalesce(lag(d."timestamp") OVER (PARTITION BY d.network, d.address ORDER BY d."timestamp"), b.at) AS before
          FROM (SELECT DISTINCT s.network, s.address, s."timestamp" FROM sides AS s WHERE 'idle' = ANY ($4)) AS d
          JOIN active_before AS b ON b.network = d.network AND b.address = d.address
    ), pairs AS MATERIALIZED (
        SELECT s.network, s.address, s.counterparty, min(s."timestamp") AS first_time
          FROM sides AS s WHERE 'counterparty' = ANY ($4) AND s.counterparty IS NOT NULL
         GROUP BY s.network, s.address, s.counterparty
    ), known_pairs AS MATERIALIZED (
        SELECT p.network, p.address, p.counterparty, p.first_time,
               EXISTS (SELECT FROM arx.transactions AS t
                        WHERE t.network = p.network AND t.from_address = p.address AND t.to_address = p.counterparty
                          AND t."timestamp" < p.first_time)
               OR EXISTS (SELECT FROM arx.transactions AS t
                        WHERE t.network = p.network AND t.from_address = p.counterparty AND t.to_address = p.address
                          AND t."timestamp" < p.first_time)
               OR EXISTS (SELECT FROM arx.token_transfers AS t
                        WHERE t.network = p.network AND t.from_address = p.address AND t.to_address = p.counterparty
                          AND t."timestamp" < p.first_time)
               OR EXISTS (SELECT FROM arx.token_transfers AS t
                        WHERE t.network = p.network AND t.from_address = p.counterparty AND t.to_address = p.address
                          AND t."timestamp" < p.first_time) AS is_known
          FROM pairs AS p
    ), exposed AS MATERIALIZED (
        SELECT n.network, x.address, x.sanctions_in, x.sanctions_out, x.illicit_share_in, x.illicit_share_out
          FROM (SELECT w.network, array_agg(w.address ORDER BY w.address COLLATE "C") AS addresses
                  FROM wallets AS w WHERE 'exposure' = ANY ($4) GROUP BY w.network) AS n
         CROSS JOIN LATERAL arx.screen_wallets(n.addresses, n.network) AS x
    ), shaped AS MATERIALIZED (
        SELECT w.network, w.address, count(*) AS patterns, max(f.strength) AS strength
          FROM wallets AS w
         CROSS JOIN LATERAL (SELECT d.strength FROM arx.pattern_findings AS d
                              WHERE d.network = w.network AND d.wallets @> ARRAY[w.address] OFFSET 0) AS f
         WHERE 'patterns' = ANY ($4)
         GROUP BY w.network, w.address
    )
    SELECT s.relation, s.tx_hash, s.log_index, s."timestamp", s.address, s.counterparty,
           s.network, s.asset, s.direction, s.amount, s.value_usd,
           l.category, l.kind, o.category, o.kind,
           c.score, q.score, c.score_change,
           CASE WHEN 'watchlists' = ANY ($4) THEN m.address IS NOT NULL END,
           CASE WHEN 'watchlists' = ANY ($4) THEN n.address IS NOT NULL END,
           v.count_1h, v.count_24h, v.count_7d, v.sum_24h, v.sum_usd_1h, v.sum_usd_24h, v.sum_usd_7d, v.below_10000_usd_24h,
           (extract(epoch FROM s."timestamp" - i.before) / 86400)::numeric,
           NOT k.is_known AND s."timestamp" = k.first_time,
           x.sanctions_in, x.sanctions_out, x.illicit_share_in, x.illicit_share_out,
           CASE WHEN 'patterns' = ANY ($4) THEN coalesce(f.patterns, 0) END, f.strength
      FROM sides AS s
      LEFT JOIN labels AS l ON l.network = s.network AND l.address = s.address
      LEFT JOIN labels AS o ON o.network = s.network AND o.address = s.counterparty
      LEFT JOIN scores AS c ON c.network = s.network AND c.address = s.address
      LEFT JOIN scores AS q ON q.network = s.network AND q.address = s.counterparty
      LEFT JOIN watched AS m ON m.network = s.network AND m.address = s.address
      LEFT JOIN watched AS n ON n.network = s.network AND n.address = s.counterparty
      LEFT JOIN windows AS v ON v.network = s.network AND v.address = s.address AND v.tx_hash = s.tx_hash
                            AND v.relation = s.relation AND v.direction = s.direction AND v."timestamp" = s."timestamp"
                            AND coalesce(v.log_index, -1) = coalesce(s.log_index, -1)
      LEFT JOIN times AS i ON i.network = s.network AND i.address = s.address AND i."timestamp" = s."timestamp"
      LEFT JOIN known_pairs AS k ON k.network = s.network AND k.address = s.address AND k.counterparty = s.counterparty
      LEFT JOIN exposed AS x ON x.network = s.network AND x.address = s.address
      LEFT JOIN shaped AS f ON f.network = s.network AND f.address = s.address;
END;
$$;

-- The rules as one table expression: number and truth, over the columns of alias f.
CREATE FUNCTION compiled_alert_rules(rule text DEFAULT NULL, version integer DEFAULT NULL,
                                     OUT cases text, OUT rules jsonb, OUT numbers numeric[], OUT texts text[], OUT groups text[])
    LANGUAGE plpgsql_as_owner STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    chosen record;
    code   record;
BEGIN
    cases := '';
    rules := '[]';
    numbers := '{}';
    texts := '{}';
    groups := '{}';
    FOR chosen IN
        SELECT r.* FROM arx.wallet_alert_rules AS r
         WHERE CASE WHEN compiled_alert_rules.rule IS NULL THEN r.state IN ('active', 'shadow') AND r.used_for IN ('alerts', 'both')
                         AND NOT EXISTS (SELECT FROM arx.wallet_alert_rules AS n
                                          WHERE n.rule = r.rule AND n.state = r.state AND n.version > r.version)
                    ELSE r.rule = compiled_alert_rules.rule AND r.version = compiled_alert_rules.version END
         ORDER BY r.rule, r.version
    LOOP
        SELECT * INTO code FROM arx.compile_alert_condition(chosen.condition, 'f', cardinality(numbers), cardinality(texts));
        numbers := numbers || code.numbers::numeric[];
        texts := texts || code.texts;
        groups := ARRAY(SELECT unnest(groups) UNION SELECT unnest(code.groups) ORDER BY 1);
        cases := cases || format('%s (%s, %s%s)', CASE WHEN cases = '' THEN '' ELSE ',' END, jsonb_array_length(rules),
                                 CASE chosen.side WHEN 'sender' THEN 'f.direction = ''out'' AND '
                                                  WHEN 'receiver' THEN 'f.direction = ''in'' AND ' ELSE '' END,
                                 code.expression);
        rules := rules || jsonb_build_array(jsonb_build_object(
            'rule', chosen.rule, 'version', chosen.version, 'is_shadow', chosen.state = 'shadow', 'facts', code.facts,
            'max_share', chosen.max_share));
    END LOOP;
END;
$$;

-- Groups hits into alerts: a hit within the cooldown after the last one of an alert belongs to it.
CREATE FUNCTION group_alert_hits() RETURNS bigint
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    AS $$
DECLARE
    raised bigint;
BEGIN
    -- Hits of an alert that exists and is not closed.
    WITH matched AS (
        SELECT DISTINCT ON (h.hit_id) h.hit_id, a.alert_id
          FROM arx.wallet_alert_hits AS h
          JOIN arx.wallet_alert_rules AS r ON r.rule = h.rule AND r.version = h.rule_version
          JOIN arx.wallet_alerts AS a
            ON a.rule = h.rule AND a.network = h.network AND a.address = h.address
           AND a.status <> 'closed'
           AND h."timestamp" BETWEEN a.first_hit_at - r.cooldown AND a.last_hit_at + r.cooldown
         WHERE h.alert_id IS NULL AND NOT h.is_shadow AND NOT h.is_retracted
         ORDER BY h.hit_id, a.last_hit_at DESC
    ), joined AS (
        UPDATE arx.wallet_alert_hits AS h SET alert_id = m.alert_id FROM matched AS m WHERE h.hit_id = m.hit_id
        RETURNING h.alert_id, h."timestamp", h.amount_usd
    )
    UPDATE arx.wallet_alerts AS a
       SET hits = a.hits + n.hits, first_hit_at = least(a.first_hit_at, n.first_time),
           last_hit_at = greatest(a.last_hit_at, n.last_time),
           -- The transfers of an alert that was retracted are there again.
           state = CASE a.state WHEN 'retracted' THEN 'open' ELSE a.state END,
           amount_usd = CASE WHEN n.amount_usd IS NULL THEN a.amount_usd ELSE coalesce(a.amount_usd, 0) + n.amount_usd END
      FROM (SELECT j.alert_id, count(*) AS hits, min(j."timestamp") AS first_time, max(j."timestamp") AS last_time,
                   sum(j.amount_usd) AS amount_usd
              FROM joined AS j GROUP BY j.alert_id) AS n
     WHERE a.alert_id = n.alert_id;
    -- The others begin alerts, one for each run of hits without a longer pause than the cooldown.
    WITH waiting AS (
        SELECT h.*, r.cooldown, r.severity, r.pending, r.sla,
               coalesce(h."timestamp" - lag(h."timestamp") OVER in_time > r.cooldown, true) AS begins
          FROM arx.wallet_alert_hits AS h
          JOIN arx.wallet_alert_rules AS r ON r.rule = h.rule AND r.version = h.rule_version
         WHERE h.alert_id IS NULL AND NOT h.is_shadow AND NOT h.is_retracted
        WINDOW in_time AS (PARTITION BY h.rule, h.network, h.address ORDER BY h."timestamp", h.hit_id)
    ), numbered AS (
        SELECT w.*, count(*) FILTER (WHERE w.begins) OVER (PARTITION BY w.rule, w.network, w.address
                                                           ORDER BY w."timestamp", w.hit_id) AS run
          FROM waiting AS w
    ), runs AS (
        SELECT n.rule, n.network, n.address, n.run, max(n.rule_version) AS rule_version, min(n.hit_id) AS first_hit,
               (array_agg(n.severity ORDER BY n.rule_version DESC))[1] AS severity, max(n.pending) AS pending, min(n.sla) AS sla,
               count(*) AS hits, min(n."timestamp") AS first_time, max(n."timestamp") AS last_time, sum(n.amount_usd) AS amount_usd,
               array_agg(n.hit_id) AS hit_ids,
               to_jsonb((array_agg(jsonb_build_object('tx_hash', n.tx_hash, 'direction', n.direction, 'counterparty', n.counterparty,
                                                      'timestamp', n."timestamp", 'facts', n.facts)
                                   ORDER BY n."timestamp", n.hit_id))[1:20]) AS evidence
          FROM numbered AS n
         GROUP BY n.rule, n.network, n.address, n.run
    ), raised AS (
        INSERT INTO arx.wallet_alerts AS a (dedup_key, rule, rule_version, severity, network, address, state, hits, first_hit_at,
                                            last_hit_at, amount_usd, evidence, deliver_from, due_at)
        SELECT format('%s:%s:%s:%s', u.rule, u.network, u.address, u.first_hit), u.rule, u.rule_version, u.severity, u.network,
               u.address,
               CASE WHEN EXISTS (SELECT FROM arx.alert_silences AS s
                                  WHERE (s.rule IS NULL OR s.rule = u.rule) AND (s.network IS NULL OR s.network = u.network)
                                    AND (s.address IS NULL OR s.address = u.address)
                                    AND s.starts_at <= now() AND s.ends_at > now()) THEN 'silenced'
                    WHEN u.pending > '0' THEN 'pending' ELSE 'open' END,
               u.hits, u.first_time, u.last_time, u.amount_usd, u.evidence, now() + u.pending,
               now() + coalesce(u.sla, CASE u.severity WHEN 'critical' THEN interval '4 hours' WHEN 'high' THEN interval '1 day'
                                                       WHEN 'medium' THEN interval '3 days' ELSE interval '7 days' END)
          FROM runs AS u
         ORDER BY u.first_hit
            -- The first transfer of a closed alert was gone, and is there again.
            ON CONFLICT ON CONSTRAINT wallet_alerts_dedup_key_key DO UPDATE
           SET state = excluded.state, status = 'new', hits = excluded.hits, first_hit_at = excluded.first_hit_at,
               last_hit_at = excluded.last_hit_at, amount_usd = excluded.amount_usd, evidence = excluded.evidence,
               raised_at = now(), deliver_from = excluded.deliver_from, due_at = excluded.due_at
        RETURNING a.alert_id, a.dedup_key
    )
    UPDATE arx.wallet_alert_hits AS h SET alert_id = a.alert_id
      FROM runs AS u
      JOIN raised AS a ON a.dedup_key = format('%s:%s:%s:%s', u.rule, u.network, u.address, u.first_hit)
     WHERE h.hit_id = ANY (u.hit_ids);
    -- An alert of a rule that another alert of the wallet makes superfluous.
    UPDATE arx.wallet_alerts AS a SET state = 'inhibited'
      FROM arx.wallet_alert_rules AS r
     WHERE a.state IN ('pending', 'open') AND a.status = 'new' AND a.raised_at = now()
       AND r.rule = a.rule AND r.version = a.rule_version AND r.inhibited_by <> '{}'
       AND EXISTS (SELECT FROM arx.wallet_alerts AS o
                    WHERE o.network = a.network AND o.address = a.address AND o.rule = ANY (r.inhibited_by)
                      AND o.state IN ('pending', 'open') AND o.status <> 'closed');
    INSERT INTO arx.alert_events (alert_id, action, detail)
    SELECT a.alert_id, 'raised', jsonb_build_object('rule', a.rule, 'version', a.rule_version, 'state', a.state, 'hits', a.hits)
      FROM arx.wallet_alerts AS a
     WHERE a.raised_at = now()
       AND NOT EXISTS (SELECT FROM arx.alert_events AS e
                        WHERE e.alert_id = a.alert_id AND e.action = 'raised' AND e.happened_at >= a.raised_at)
     ORDER BY a.alert_id;
    GET DIAGNOSTICS raised = ROW_COUNT;
    RETURN raised;
END;
$$;

-- Typologies: rules that mean more together. An alert of one is raised once the weights of the
-- rules with alerts about the wallet reach its threshold, within its window of chain time.
CREATE FUNCTION raise_typologies() RETURNS bigint
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    AS $$
DECLARE
    raised bigint;
BEGIN
    WITH touched AS (
        SELECT a.network, a.address, max(a.last_hit_at) AS last_hit_at
          FROM arx.wallet_alerts AS a
         WHERE a.raised_at = now() AND a.state IN ('pending', 'open') AND a.rule_version > 0
         GROUP BY a.network, a.address
    ), parts AS (
        -- The latest alert of each rule counts, once.
        SELECT DISTINCT ON (t.typology, w.network, w.address, a.rule)
               t.typology, t.threshold, t.severity, w.network, w.address, a.rule, a.alert_id, a.first_hit_at, a.last_hit_at,
               (t.weights ->> a.rule)::numeric AS weight
          FROM touched AS w
         CROSS JOIN arx.alert_typologies AS t
          JOIN arx.wallet_alerts AS a ON a.network = w.network AND a.address = w.address
         WHERE t.enabled AND t.weights ? a.rule AND a.rule_version > 0 AND a.state IN ('pending', 'open') AND a.status <> 'closed'
           AND a.last_hit_at > w.last_hit_at - t."window"
         ORDER BY t.typology, w.network, w.address, a.rule, a.last_hit_at DESC, a.alert_id DESC
    ), sums AS (
        SELECT p.typology, p.network, p.address, min(p.severity) AS severity, count(*) AS rules, min(p.alert_id) AS first_alert,
               min(p.first_hit_at) AS first_hit_at, max(p.last_hit_at) AS last_hit_at, sum(p.weight) AS weight,
               jsonb_agg(jsonb_build_object('rule', p.rule, 'alert_id', p.alert_id, 'weight', p.weight) ORDER BY p.rule) AS evidence
          FROM parts AS p
         GROUP BY p.typology, p.network, p.address
        HAVING sum(p.weight) >= min(p.threshold)
    )
    INSERT INTO arx.wallet_alerts AS a (dedup_key, rule, rule_version, severity, network, address, state, hits, first_hit_at,
                                        last_hit_at, evidence, due_at)
    SELECT format('typology:%s:%s:%s:%s', s.typology, s.network, s.address, s.first_alert), s.typology, 0, s.severity, s.network,
           s.address, 'open', s.rules, s.first_hit_at, s.last_hit_at, s.evidence, now() + interval '1 day'
      FROM sums AS s
     WHERE NOT EXISTS (SELECT FROM arx.wallet_alerts AS e
                        WHERE e.network = s.network AND e.address = s.address AND e.rule = s.typology AND e.rule_version = 0
                          AND e.status <> 'closed')
     ORDER BY s.first_alert
        ON CONFLICT ON CONSTRAINT wallet_alerts_dedup_key_key DO NOTHING;
    GET DIAGNOSTICS raised = ROW_COUNT;
    INSERT INTO arx.alert_events (alert_id, action, detail)
    SELECT a.alert_id, 'raised', jsonb_build_object('typology', a.rule, 'rules', a.hits)
      FROM arx.wallet_alerts AS a WHERE a.raised_at = now() AND a.rule_version = 0
     ORDER BY a.alert_id;
    RETURN raised;
END;
$$;

-- Transfers that are gone, as with the blocks of a fork, take their hits back; an alert without
-- hits is retracted.
CREATE FUNCTION retract_alert_hits(since pg_snapshot) RETURNS bigint
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    AS $$
DECLARE
    retracted bigint;
BEGIN
    WITH gone AS (
        SELECT DISTINCT c.relation, c.network, c.tx_hash, CASE WHEN c.relation = 'transactions' THEN NULL ELSE c.log_index END AS log_index,
               c."timestamp"
          FROM arx.transaction_changes AS c
         WHERE $1 IS NULL OR arx.is_new_since(c.changed_xid, $1)
    ), lost AS (
        SELECT h.hit_id
          FROM gone AS g
          JOIN arx.wallet_alert_hits AS h
            ON h.tx_hash = g.tx_hash AND h.network = g.network AND h.relation = g.relation
           AND h.log_index IS NOT DISTINCT FROM g.log_index AND h."timestamp" = g."timestamp"
         WHERE NOT h.is_retracted
           AND NOT CASE g.relation
                WHEN 'transactions' THEN EXISTS (
                    SELECT FROM arx.transactions AS t
                     WHERE t.network = h.network AND t.tx_hash = h.tx_hash AND t."timestamp" = h."timestamp" AND t.status <> 'failed'
                       AND h.address = CASE h.direction WHEN 'out' THEN t.from_address ELSE t.to_address END)
                WHEN 'internal_transfers' THEN EXISTS (
                    SELECT FROM arx.internal_transfers AS t
                     WHERE t.network = h.network AND t.tx_hash = h.tx_hash AND t."timestamp" = h."timestamp"
                       AND t.position = h.log_index AND t.succeeded IS NOT FALSE
                       AND h.address = CASE h.direction WHEN 'out' THEN t.from_address ELSE t.to_address END)
                ELSE EXISTS (
                    SELECT FROM arx.token_transfers AS t
                     WHERE t.network = h.network AND t.tx_hash = h.tx_hash AND t."timestamp" = h."timestamp" AND t.log_index = h.log_index
                       AND h.address = CASE h.direction WHEN 'out' THEN t.from_address ELSE t.to_address END) END
    ), taken AS (
        UPDATE arx.wallet_alert_hits AS h SET is_retracted = true FROM lost AS l WHERE h.hit_id = l.hit_id
        RETURNING h.alert_id, h.amount_usd
    ), changed AS (
        UPDATE arx.wallet_alerts AS a
           SET hits = a.hits - n.hits, amount_usd = a.amount_usd - coalesce(n.amount_usd, 0),
               state = CASE WHEN a.hits - n.hits <= 0 THEN 'retracted' ELSE a.state END
          FROM (SELECT t.alert_id, count(*) AS hits, sum(t.amount_usd) AS amount_usd FROM taken AS t
                 WHERE t.alert_id IS NOT NULL GROUP BY t.alert_id) AS n
         WHERE a.alert_id = n.alert_id
        RETURNING a.alert_id, a.state, a.hits
    )
    INSERT INTO arx.alert_events (alert_id, action, detail)
    SELECT c.alert_id, CASE c.state WHEN 'retracted' THEN 'retracted' ELSE 'hits taken back' END,
           jsonb_build_object('hits_left', c.hits, 'cause', 'transfers are gone')
      FROM changed AS c ORDER BY c.alert_id;
    GET DIAGNOSTICS retracted = ROW_COUNT;
    RETURN retracted;
END;
$$;

CREATE FUNCTION check_wallet_alerts()
    RETURNS TABLE (rule text, version integer, state text, judged bigint, hits bigint, alerts bigint)
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    SET row_security = off
    SET arx.graph_freshness = 'exact'
    AS $$
#variable_conflict use_column
DECLARE
    run    record;
    code   record;
    counts jsonb := '{}';
    total  bigint := 0;
    guard  record;
    paused text[] := '{}';
BEGIN
    PERFORM arx.settle_awaited_transactions();
    SELECT * INTO STRICT run FROM arx.begin_refresh('wallet_alerts');
    PERFORM arx.retract_alert_hits(run.since);
    SELECT * INTO STRICT code FROM arx.compiled_alert_rules();
    IF code.cases <> '' THEN
        -- Everything that became visible, all rules at once. A hit that was taken back, and whose
        -- transfer is there again, counts again.
        EXECUTE 'WITH facts AS MATERIALIZED (
                    SELECT f.* FROM arx.transfer_facts($3, ''-infinity'', ''infinity'', $4, $6, $7) AS f
                 ), hits AS (
                    SELECT r.rule, f.*,
                           (SELECT jsonb_object_agg(n.key, n.value) FROM jsonb_each(to_jsonb(f)) AS n
                             WHERE r.rule -> ''facts'' ? n.key) AS used
                      FROM facts AS f
                     CROSS JOIN LATERAL (VALUES ' || code.cases || ') AS h (number, fires)
                     CROSS JOIN LATERAL (SELECT $5 -> h.number) AS r (rule)
                     WHERE h.fires
                 ), stored AS (
                    INSERT INTO arx.wallet_alert_hits AS h (rule, rule_version, is_shadow, network, address, counterparty, direction,
                                                            relation, tx_hash, log_index, "timestamp", amount_usd, facts)
                    SELECT x.rule ->> ''rule'', (x.rule ->> ''version'')::integer, (x.rule ->> ''is_shadow'')::boolean, x.network,
                           x.address, x.counterparty, x.direction, x.relation, x.tx_hash, x.log_index, x."timestamp", x.amount_usd, x.used
                      FROM hits AS x
                     ORDER BY x."timestamp", x.tx_hash
                        ON CONFLICT ON CONSTRAINT wallet_alert_hits_once DO UPDATE
                       SET is_retracted = false, alert_id = NULL, rule_version = excluded.rule_version, facts = excluded.facts,
                           hit_at = now()
                     WHERE h.is_retracted
                    RETURNING h.rule, h.rule_version, h.is_shadow
                 )
                 SELECT (SELECT count(*) FROM facts),
                        (SELECT coalesce(jsonb_object_agg(c.key, c.hits), ''{}'')
                           FROM (SELECT s.rule || '' '' || s.rule_version AS key, count(*) AS hits FROM stored AS s GROUP BY 1) AS c)'
           INTO total, counts
          USING code.numbers, code.texts, run.since, code.groups, code.rules, run.native, run.tokens;
    END IF;
    -- A rule that fires on more than its share is paused before it raises alerts.
    FOR guard IN
        SELECT r.value ->> 'rule' AS rule, (r.value ->> 'version')::integer AS version, (r.value ->> 'is_shadow')::boolean AS is_shadow,
               coalesce((counts ->> ((r.value ->> 'rule') || ' ' || (r.value ->> 'version')))::bigint, 0) AS hits,
               (r.value ->> 'max_share')::double precision AS max_share
          FROM jsonb_array_elements(code.rules) AS r
    LOOP
        IF total >= 1000 AND guard.hits > guard.max_share * total THEN
            paused := paused || (guard.rule || ' ' || guard.version);
            UPDATE arx.wallet_alert_rules AS r
               SET state = 'paused',
                   state_reason = format('fired on %s of %s judged sides of transfers, more than a share of %s', guard.hits, total, guard.max_share)
             WHERE r.rule = guard.rule AND r.version = guard.version;
            RAISE WARNING 'alert rule "%" is paused: it fired on % of % judged sides of transfers', guard.rule, guard.hits, total
                USING HINT = 'Its hits are kept without alerts. Correct it, and activate the new version.';
            UPDATE arx.wallet_alert_hits AS h SET is_retracted = true
             WHERE h.rule = guard.rule AND h.rule_version = guard.version AND h.alert_id IS NULL AND NOT h.is_shadow;
        END IF;
    END LOOP;
    PERFORM arx.group_alert_hits();
    PERFORM arx.raise_typologies();
    UPDATE arx.wallet_alerts AS a SET state = 'open' WHERE a.state = 'pending' AND a.deliver_from <= now();
    PERFORM arx.queue_alert_deliveries();
    PERFORM arx.finish_refresh('wallet_alerts', run.until, run.epoch, total);
    RETURN QUERY
    SELECT k.rule, k.version, CASE WHEN k.key = ANY (paused) THEN 'paused' WHEN k.is_shadow THEN 'shadow' ELSE 'active' END,
           total, coalesce((counts ->> k.key)::bigint, 0),
           (SELECT count(*) FROM arx.wallet_alerts AS a
             WHERE a.rule = k.rule AND a.rule_version = k.version AND a.raised_at = now())
      FROM (SELECT r.value ->> 'rule' AS rule, (r.value ->> 'version')::integer AS version,
                   (r.value ->> 'is_shadow')::boolean AS is_shadow, (r.value ->> 'rule') || ' ' || (r.value ->> 'version') AS key
              FROM jsonb_array_elements(code.rules) AS r) AS k
     ORDER BY 1, 2;
END;
$$;

-- Cases -------------------------------------------------------------------------------------------

CREATE FUNCTION locked_alert(alert_id bigint) RETURNS jsonb
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    alert jsonb;
BEGIN
    SELECT to_jsonb(a) INTO alert FROM arx.wallet_alerts AS a WHERE a.alert_id = locked_alert.alert_id FOR UPDATE;
    IF alert IS NULL THEN
        RAISE EXCEPTION 'alert % does not exist', coalesce(locked_alert.alert_id::text, 'null') USING ERRCODE = 'no_data_found';
    END IF;
    IF alert ->> 'status' = 'closed' THEN
        RAISE EXCEPTION 'alert % is closed', locked_alert.alert_id
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Another hit of its rule raises another alert.';
    END IF;
    RETURN alert;
END;
$$;

CREATE FUNCTION acknowledge_alert(alert_id bigint, note text DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    PERFORM arx.locked_alert($1);
    UPDATE arx.wallet_alerts AS a SET status = 'acknowledged', assignee = coalesce(a.assignee, arx.calling_user())
     WHERE a.alert_id = $1;
    INSERT INTO arx.alert_events (alert_id, action, detail) VALUES ($1, 'acknowledged', jsonb_build_object('note', $2));
END;
$$;

CREATE FUNCTION assign_alert(alert_id bigint, assignee text, note text DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    former text := arx.locked_alert($1) ->> 'assignee';
BEGIN
    UPDATE arx.wallet_alerts AS a SET assignee = $2 WHERE a.alert_id = $1;
    INSERT INTO arx.alert_events (alert_id, action, detail)
    VALUES ($1, 'assigned', jsonb_build_object('from', former, 'to', $2, 'note', $3));
END;
$$;

CREATE FUNCTION comment_alert(alert_id bigint, note text) RETURNS void
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    IF $2 IS NULL OR btrim($2) = '' THEN
        RAISE EXCEPTION 'note must not be empty' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM arx.locked_alert($1);
    INSERT INTO arx.alert_events (alert_id, action, detail) VALUES ($1, 'noted', jsonb_build_object('note', $2));
END;
$$;

-- Returns the status: closing, where a rule needs four eyes and another role has to confirm.
CREATE FUNCTION close_alert(alert_id bigint, reason text) RETURNS text
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    alert       jsonb := arx.locked_alert($1);
    caller      text := arx.calling_user();
    needs_other boolean;
    outcome     text;
BEGIN
    IF $2 IS NULL OR btrim($2) = '' THEN
        RAISE EXCEPTION 'reason must not be empty' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    needs_other := coalesce((SELECT r.four_eyes FROM arx.wallet_alert_rules AS r
                              WHERE r.rule = alert ->> 'rule' AND r.version = (alert ->> 'rule_version')::integer), true);
    IF needs_other AND alert ->> 'status' = 'closing' AND alert ->> 'closed_by' = caller THEN
        RAISE EXCEPTION 'alert % must be closed by another role than %', $1, caller
            USING ERRCODE = 'insufficient_privilege', DETAIL = 'Its rule needs four eyes, and this role has proposed to close it.';
    END IF;
    outcome := CASE WHEN needs_other AND alert ->> 'status' <> 'closing' THEN 'closing' ELSE 'closed' END;
    UPDATE arx.wallet_alerts AS a
       SET status = outcome, close_reason = $2, closed_by = caller, closed_at = CASE outcome WHEN 'closed' THEN now() END
     WHERE a.alert_id = $1;
    INSERT INTO arx.alert_events (alert_id, action, detail) VALUES ($1, outcome, jsonb_build_object('reason', $2));
    RETURN outcome;
END;
$$;

-- An alert with its hits and its whole history, as one document.
CREATE FUNCTION export_alert(alert_id bigint) RETURNS jsonb
    LANGUAGE plpgsql_as_owner STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    SET TimeZone = 'UTC'
    AS $$
DECLARE
    document jsonb;
BEGIN
    SELECT to_jsonb(a) || jsonb_build_object(
               'transfers', (SELECT coalesce(jsonb_agg(to_jsonb(h) ORDER BY h."timestamp", h.hit_id), '[]')
                               FROM arx.wallet_alert_hits AS h WHERE h.alert_id = $1),
               'history', (SELECT coalesce(jsonb_agg(to_jsonb(e) - '{chain,entry,previous_hash}'::text[] ORDER BY e.event_id), '[]')
                             FROM arx.alert_events AS e WHERE e.alert_id = $1))
      INTO document
      FROM arx.wallet_alerts AS a WHERE a.alert_id = $1;
    IF document IS NULL THEN
        RAISE EXCEPTION 'alert % does not exist', coalesce($1::text, 'null') USING ERRCODE = 'no_data_found';
    END IF;
    RETURN document;
END;
$$;

-- Backtest ----------------------------------------------------------------------------------------

-- A version of a rule over past transfers. `sides` are the judged wallets of transfers. Precision
-- and recall compare the wallets that are hit with those that labels call illicit.
CREATE FUNCTION backtest_alert_rule(rule text, version integer, since timestamptz, until timestamptz,
                                    minutes_per_alert numeric DEFAULT 15)
    RETURNS TABLE (sides bigint, hits bigint, share double precision, wallets bigint, days numeric, hits_per_day numeric,
                   alerts bigint, analyst_hours numeric, "precision" double precision, recall double precision,
                   overlap jsonb, examples jsonb)
    LANGUAGE plpgsql_as_owner STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    AS $$
#variable_conflict use_column
DECLARE
    code     record;
    tested   interval;
BEGIN
    IF $3 IS NULL OR $4 IS NULL OR NOT isfinite($3) OR NOT isfinite($4) OR $3 >= $4 THEN
        RAISE EXCEPTION 'since must be before until, and both finite, not % and %', coalesce($3::text, 'null'), coalesce($4::text, 'null')
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT r.cooldown INTO tested FROM arx.wallet_alert_rules AS r WHERE r.rule = $1 AND r.version = $2;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'alert rule "%" has no version %', coalesce($1, 'null'), coalesce($2::text, 'null')
            USING ERRCODE = 'undefined_object', HINT = 'See arx.wallet_alert_rules.';
    END IF;
    SELECT * INTO STRICT code FROM arx.compiled_alert_rules($1, $2);
    RETURN QUERY EXECUTE
        'WITH facts AS MATERIALIZED (
            SELECT f.* FROM arx.transfer_facts(NULL, $3, $4, $5) AS f
         ), hits AS MATERIALIZED (
            SELECT f.* FROM facts AS f CROSS JOIN LATERAL (VALUES ' || code.cases || ') AS h (number, fires) WHERE h.fires
         ), runs AS (
            SELECT h.*, coalesce(h."timestamp" - lag(h."timestamp") OVER (PARTITION BY h.network, h.address
                                     ORDER BY h."timestamp", h.tx_hash) > $7, true) AS begins
              FROM hits AS h
         ), illicit AS MATERIALIZED (
            SELECT DISTINCT w.network, w.address
              FROM (SELECT DISTINCT f.network, f.address FROM facts AS f) AS w
              JOIN arx.address_labels AS l ON l.network = w.network AND l.address = w.address
              JOIN arx.label_categories AS c ON c.category = l.category AND c.kind = ''illicit''
             WHERE l.valid_from <= now() AND l.valid_to > now()
         ), hit_wallets AS MATERIALIZED (
            SELECT DISTINCT h.network, h.address FROM hits AS h
         ), counts AS (
            SELECT (SELECT count(*) FROM facts) AS sides, (SELECT count(*) FROM hits) AS hits,
                   (SELECT count(*) FROM hit_wallets) AS wallets, (SELECT count(*) FROM runs AS r WHERE r.begins) AS alerts,
                   (SELECT count(*) FROM illicit) AS illicit,
                   (SELECT count(*) FROM hit_wallets AS w JOIN illicit AS i USING (network, address)) AS found,
                   (extract(epoch FROM $4 - $3) / 86400)::numeric AS days
         )
         SELECT c.sides, c.hits, c.hits::double precision / nullif(c.sides, 0), c.wallets, round(c.days, 2),
                round(c.hits / c.days, 2), c.alerts, round(c.alerts * $6 / 60, 1),
                CASE WHEN c.illicit > 0 THEN c.found::double precision / nullif(c.wallets, 0) END,
                c.found::double precision / nullif(c.illicit, 0),
                (SELECT coalesce(jsonb_object_agg(o.rule, o.hits), ''{}'')
                   FROM (SELECT k.rule, count(*) AS hits
                           FROM hits AS h JOIN arx.wallet_alert_hits AS k
                             ON k.tx_hash = h.tx_hash AND k.network = h.network AND k.address = h.address
                            AND k.direction = h.direction AND k.relation = h.relation
                            AND k.log_index IS NOT DISTINCT FROM h.log_index AND k.rule <> $8 AND NOT k.is_retracted
                          GROUP BY k.rule) AS o),
                (SELECT coalesce(jsonb_agg(jsonb_build_object(''network'', e.network, ''address'', e.address, ''tx_hash'', e.tx_hash,
                                                              ''timestamp'', e."timestamp", ''amount'', e.amount,
                                                              ''amount_usd'', e.amount_usd)
                                           ORDER BY e."timestamp", e.tx_hash, e.direction), ''[]'')
                   FROM (SELECT h.* FROM hits AS h ORDER BY h."timestamp", h.tx_hash, h.direction LIMIT 10) AS e)
           FROM counts AS c'
        USING code.numbers, code.texts, $3, $4, code.groups, $5, tested, $1;
END;
$$;
