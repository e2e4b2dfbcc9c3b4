-- Alerts about wallets: rules over the transfers that have become visible.
--
-- A run reads what has become visible since the position of the last one, by the primitive of
-- freshness, in one statement for all rules. The lock on the position makes runs follow each other,
-- and a hit is stored once by its key: so a transfer is judged once and only once, whatever commits
-- late, whichever run crashes, and even where a run starts over.

-- Number and times of the transfers that transfer_facts_query() would judge. Reading ends after
-- `most` of them (NULL: never).
CREATE FUNCTION transfers_to_judge(since pg_snapshot, range_from timestamptz, range_to timestamptz, native tstzmultirange DEFAULT '{}',
                                   tokens tstzmultirange DEFAULT '{}', most bigint DEFAULT NULL,
                                   OUT legs bigint, OUT first_time timestamptz, OUT last_time timestamptz)
    LANGUAGE plpgsql_as_owner STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    SET plan_cache_mode = force_custom_plan
    SET jit = off
    AS $$
BEGIN
    SELECT count(*), min(l."timestamp"), max(l."timestamp") INTO legs, first_time, last_time
      FROM (SELECT t."timestamp" FROM arx.transactions AS t
             WHERE t."timestamp" >= $2 AND t."timestamp" < $3 AND ($1 IS NULL OR arx.is_new_since(t.ingest_xid, $1))
            UNION ALL
            SELECT t."timestamp" FROM arx.internal_transfers AS t
             WHERE t."timestamp" >= $2 AND t."timestamp" < $3 AND ($1 IS NULL OR arx.is_new_since(t.ingest_xid, $1))
            UNION ALL
            SELECT t."timestamp" FROM arx.token_transfers AS t
             WHERE t."timestamp" >= $2 AND t."timestamp" < $3 AND ($1 IS NULL OR arx.is_new_since(t.ingest_xid, $1))
            UNION ALL
            SELECT t."timestamp" FROM arx.transactions AS t WHERE NOT isempty($4) AND t."timestamp" <@ $4
            UNION ALL
            SELECT t."timestamp" FROM arx.internal_transfers AS t WHERE NOT isempty($4) AND t."timestamp" <@ $4
            UNION ALL
            SELECT t."timestamp" FROM arx.token_transfers AS t WHERE NOT isempty($5) AND t."timestamp" <@ $5
            LIMIT $6) AS l;
END;
$$;

-- Last time before each time at which its wallet sent or received, by the place in the arrays. Each
-- question costs some descents of the indexes of each partition.
--
-- A plan for all partitions is made once a session: planning takes longer than few questions.
CREATE FUNCTION last_activity(networks text[], addresses text[], times timestamptz[])
    RETURNS TABLE (place bigint, at timestamptz)
    LANGUAGE plpgsql_as_owner STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off
    SET jit = off
    AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT w.place, (SELECT max(m.at) FROM (
        (SELECT t."timestamp" AS at FROM arx.transactions AS t
          WHERE t.network = w.network AND t.from_address = w.address AND t."timestamp" < w.moved_at AND t.to_address IS NOT NULL AND t.status <> 'failed'
          ORDER BY t."timestamp" DESC LIMIT 1)
        UNION ALL
        (SELECT t."timestamp" AS at FROM arx.transactions AS t
          WHERE t.network = w.network AND t.to_address = w.address AND t."timestamp" < w.moved_at AND t.status <> 'failed'
          ORDER BY t."timestamp" DESC LIMIT 1)
        UNION ALL
        (SELECT t."timestamp" AS at FROM arx.internal_transfers AS t
          WHERE t.network = w.network AND t.from_address = w.address AND t."timestamp" < w.moved_at AND t.succeeded IS NOT FALSE
          ORDER BY t."timestamp" DESC LIMIT 1)
        UNION ALL
        (SELECT t."timestamp" AS at FROM arx.internal_transfers AS t
          WHERE t.network = w.network AND t.to_address = w.address AND t."timestamp" < w.moved_at AND t.succeeded IS NOT FALSE
          ORDER BY t."timestamp" DESC LIMIT 1)
        UNION ALL
        (SELECT t."timestamp" AS at FROM arx.token_transfers AS t
          WHERE t.network = w.network AND t.from_address = w.address AND t."timestamp" < w.moved_at
          ORDER BY t."timestamp" DESC LIMIT 1)
        UNION ALL
        (SELECT t."timestamp" AS at FROM arx.token_transfers AS t
          WHERE t.network = w.network AND t.to_address = w.address AND t."timestamp" < w.moved_at
          ORDER BY t."timestamp" DESC LIMIT 1)
        ) AS m)
      FROM unnest($1, $2, $3) WITH ORDINALITY AS w (network, address, moved_at, place);
END;
$$;

-- Places of the pairs of wallets between which something moved, either way, before their times.
CREATE FUNCTION known_pairs(networks text[], addresses text[], counterparties text[], times timestamptz[])
    RETURNS SETOF bigint
    LANGUAGE plpgsql_as_owner STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off
    SET jit = off
    AS $$
BEGIN
    RETURN QUERY
    SELECT w.place
      FROM unnest($1, $2, $3, $4) WITH ORDINALITY AS w (network, address, counterparty, moved_at, place)
     WHERE EXISTS (SELECT FROM arx.transactions AS t
                WHERE t.network = w.network AND t.from_address = w.address AND t.to_address = w.counterparty AND t."timestamp" < w.moved_at
                  AND t.status <> 'failed'
               OFFSET 0)
        OR EXISTS (SELECT FROM arx.transactions AS t
                WHERE t.network = w.network AND t.to_address = w.address AND t.from_address = w.counterparty AND t."timestamp" < w.moved_at
                  AND t.status <> 'failed'
               OFFSET 0)
        OR EXISTS (SELECT FROM arx.internal_transfers AS t
                WHERE t.network = w.network AND t.from_address = w.address AND t.to_address = w.counterparty AND t."timestamp" < w.moved_at
                  AND t.succeeded IS NOT FALSE
               OFFSET 0)
        OR EXISTS (SELECT FROM arx.internal_transfers AS t
                WHERE t.network = w.network AND t.to_address = w.address AND t.from_address = w.counterparty AND t."timestamp" < w.moved_at
                  AND t.succeeded IS NOT FALSE
               OFFSET 0)
        OR EXISTS (SELECT FROM arx.token_transfers AS t
                WHERE t.network = w.network AND t.from_address = w.address AND t.to_address = w.counterparty AND t."timestamp" < w.moved_at
               OFFSET 0)
        OR EXISTS (SELECT FROM arx.token_transfers AS t
                WHERE t.network = w.network AND t.to_address = w.address AND t.from_address = w.counterparty AND t."timestamp" < w.moved_at
               OFFSET 0);
END;
$$;

-- The query of the facts of the wallets of transfers. Its parameters, from the third one on: since,
-- range_from, range_to, native and tokens as of transfer_facts(), then first_time and last_time of
-- transfers_to_judge(). The first two are the numbers and texts of conditions.
--
-- A run over few transfers asks the tables through their indexes, wallet by wallet. A large one
-- reads each partition that matters once, however many wallets there are. Facts of a group that no
-- rule names are not gathered. `needs` are conditions by group, over the facts that cost less:
-- those of the group are gathered where they hold.
--
-- With `has_candidates`, the query starts from a step `candidates`, the rows of alert_candidates(),
-- and returns their rules, too.
--
-- Where the last activity of a side, or an earlier transfer with the counterparty, is asked for,
-- each question costs some descents of the indexes of each partition, about as much as reading
-- 60 kB. Where a large run would read all transfers once for less than the questions cost, it does.
-- Questions are asked in arrays of limited size.
CREATE FUNCTION transfer_facts_query(groups text[], is_large boolean, needs jsonb DEFAULT '{}', has_candidates boolean DEFAULT false)
    RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    -- With a limit, a subquery is not joined in another way than by the indexes of its table.
    by_index  text := CASE WHEN is_large THEN '' ELSE 'OFFSET 0' END;
    is_new    text := '(t."timestamp" >= $4 AND t."timestamp" < $5 AND ($3 IS NULL OR arx.is_new_since(t.ingest_xid, $3)))';
    legs      text;
    past      text;
    active    text;
    known     text;
    steps     text;
    counted   text;
BEGIN
    SELECT string_agg(format(
               'SELECT %1$L AS relation, t.network, t.tx_hash, %2$s AS log_index, t."timestamp", t.from_address, t.to_address, '
               '%3$s AS asset, t.%4$I AS amount, t.value_usd FROM arx.%1$I AS t WHERE %5$s AND %6$s'
               -- Rows of partitions that came, which are not new by their stamps.
               ' UNION ALL SELECT %1$L, t.network, t.tx_hash, %2$s, t."timestamp", t.from_address, t.to_address, '
               '%3$s, t.%4$I, t.value_usd FROM arx.%1$I AS t WHERE NOT isempty(%7$s) AND %5$s AND t."timestamp" <@ %7$s '
               'AND NOT %6$s',
               r.name, r.log_index, r.asset, r.amount, r.moves, is_new, r.times), ' UNION ALL ') FILTER (WHERE d.is_out),
           string_agg(format(
               'SELECT w.wallet, %8$L::boolean AS is_out, m.* FROM wallets AS w CROSS JOIN LATERAL ('
               'SELECT %1$L AS relation, t.tx_hash, %2$s AS log_index, t."timestamp", t.%9$I AS counterparty, %3$s AS asset, '
               't.%4$I AS amount, t.value_usd, %6$s OR t."timestamp" <@ %7$s AS is_new FROM arx.%1$I AS t '
               'WHERE %5$s AND t.network = w.network AND t.%10$I = w.address '
               'AND t."timestamp" >= w.first_time - interval ''168 hours'' AND t."timestamp" <= w.last_time '
               'AND t."timestamp" >= $8::timestamptz - interval ''168 hours'' AND t."timestamp" <= $9 %11$s) AS m',
               r.name, r.log_index, r.asset, r.amount, r.moves, is_new, r.times, d.is_out, d.counterparty, d.wallet, by_index), ' UNION ALL '),
           string_agg(format(
               'SELECT w.wallet, t."timestamp" AS at FROM idle_wallets AS w JOIN arx.%1$I AS t ON t.network = w.network AND t.%3$I = w.address '
               'AND t."timestamp" <= w.last_time AND %2$s WHERE NOT (SELECT n.few FROM idle_number AS n)',
               r.name, r.moves, d.wallet), ' UNION ALL '),
           string_agg(format(
               'SELECT p.pair FROM pairs AS p JOIN (SELECT t.network, least(t.from_address COLLATE "C", t.to_address) AS low, '
               'greatest(t.from_address COLLATE "C", t.to_address) AS high, t."timestamp" FROM arx.%1$I AS t '
               'WHERE %2$s AND t.from_address IS NOT NULL AND t.to_address IS NOT NULL '
               'AND t."timestamp" < (SELECT n.last_time FROM pair_number AS n)) AS t '
               'ON t.network = p.network AND t.low = least(p.one COLLATE "C", p.other) AND t.high = greatest(p.one COLLATE "C", p.other) '
               'AND t."timestamp" < p.first_time WHERE NOT (SELECT n.few FROM pair_number AS n)',
               r.name, r.moves), ' UNION ALL ') FILTER (WHERE d.is_out)
      INTO legs, past, active, known
      FROM (VALUES ('transactions', 'NULL::integer', '''native''', 'value', 't.to_address IS NOT NULL AND t.status <> ''failed''', '$6'),
                   ('internal_transfers', 't.position', '''native''', 'value', 't.succeeded IS NOT FALSE', '$6'),
                   ('token_transfers', 't.log_index', 't.token_address', 'amount', 'true', '$7')) AS r (name, log_index, asset, amount, moves, times)
     CROSS JOIN (VALUES (true, 'from_address', 'to_address'), (false, 'to_address', 'from_address')) AS d (is_out, wallet, counterparty);
    IF has_candidates THEN
        steps := 'wallets AS MATERIALIZED (
        SELECT row_number() OVER () AS wallet, e.*
          FROM (SELECT c.network, c.address FROM candidates AS c WHERE c.address IS NOT NULL
                UNION SELECT c.network, c.counterparty FROM candidates AS c WHERE c.counterparty IS NOT NULL) AS e)';
    ELSE
        steps := 'legs AS MATERIALIZED (' || legs || '),
    wallets AS MATERIALIZED (
        SELECT row_number() OVER () AS wallet, e.*
          FROM (SELECT s.network, s.address, min(s."timestamp") AS first_time, max(s."timestamp") AS last_time
                  FROM (SELECT l.network, l.from_address AS address, l."timestamp" FROM legs AS l
                        UNION ALL SELECT l.network, l.to_address, l."timestamp" FROM legs AS l) AS s
                 WHERE s.address IS NOT NULL GROUP BY s.network, s.address) AS e)';
    END IF;
    counted := 's.count_1h, s.count_24h, s.count_7d, s.sum_24h, s.sum_usd_1h, s.sum_usd_24h, s.sum_usd_7d, s.below_10000_usd_24h';
    IF has_candidates THEN
        steps := steps || ', sides AS MATERIALIZED (
        SELECT w.wallet, c.direction = ''out'' AS is_out, c.amount_usd AS value_usd, c.*
          FROM candidates AS c JOIN wallets AS w ON w.network = c.network AND w.address = c.address)';
    ELSIF 'windows' = ANY (groups) THEN
        steps := steps || ', sides AS MATERIALIZED (
        SELECT v.* FROM (
            SELECT p.*, count(*) OVER hour AS count_1h, count(*) OVER day AS count_24h, count(*) OVER week AS count_7d,
                   sum(p.amount) OVER of_asset AS sum_24h, sum(p.value_usd) OVER hour AS sum_usd_1h,
                   sum(p.value_usd) OVER day AS sum_usd_24h, sum(p.value_usd) OVER week AS sum_usd_7d,
                   count(*) FILTER (WHERE p.value_usd >= 8000 AND p.value_usd < 10000) OVER day AS below_10000_usd_24h
              FROM (' || past || ') AS p
            -- Hours, because a day of the session''s time zone may have 23 or 25 of them.
            WINDOW hour AS (PARTITION BY p.wallet, p.is_out ORDER BY p."timestamp" RANGE ''1 hour'' PRECEDING),
                   day AS (PARTITION BY p.wallet, p.is_out ORDER BY p."timestamp" RANGE ''24 hours'' PRECEDING),
                   week AS (PARTITION BY p.wallet, p.is_out ORDER BY p."timestamp" RANGE ''168 hours'' PRECEDING),
                   of_asset AS (PARTITION BY p.wallet, p.is_out, p.asset ORDER BY p."timestamp" RANGE ''24 hours'' PRECEDING)) AS v
         WHERE v.is_new)';
    ELSE
        steps := steps || ', sides AS MATERIALIZED (
        SELECT w.wallet, true AS is_out, l.relation, l.tx_hash, l.log_index, l."timestamp", l.to_address AS counterparty, l.asset, l.amount, l.value_usd
          FROM legs AS l JOIN wallets AS w ON w.network = l.network AND w.address = l.from_address
        UNION ALL
        SELECT w.wallet, false, l.relation, l.tx_hash, l.log_index, l."timestamp", l.from_address, l.asset, l.amount, l.value_usd
          FROM legs AS l JOIN wallets AS w ON w.network = l.network AND w.address = l.to_address)';
        counted := 'NULL::bigint AS count_1h, NULL::bigint AS count_24h, NULL::bigint AS count_7d, NULL::numeric AS sum_24h, '
                   'NULL::numeric AS sum_usd_1h, NULL::numeric AS sum_usd_24h, NULL::numeric AS sum_usd_7d, NULL::bigint AS below_10000_usd_24h';
    END IF;
    IF 'labels' = ANY (groups) AND NOT has_candidates THEN
        steps := steps || ', labels AS MATERIALIZED (
        SELECT w.wallet, w.network, w.address, o.category, o.kind
          FROM wallets AS w
         CROSS JOIN LATERAL (
            SELECT l.category, (SELECT c.kind FROM arx.label_categories AS c WHERE c.category = l.category) AS kind
              FROM arx.address_labels AS l
             WHERE l.network = w.network AND l.address = w.address AND l.valid_from <= now() AND l.valid_to > now()
             ORDER BY arx.label_rank(l.category, (SELECT c.kind FROM arx.label_categories AS c WHERE c.category = l.category),
                                     l.severity::text, l.confidence), l.source, l.label_id
             LIMIT 1) AS o)';
    END IF;
    IF 'scores' = ANY (groups) THEN
        steps := steps || ', scores AS MATERIALIZED (
        SELECT w.wallet, w.network, w.address, CASE WHEN p.risk_state <> ''unknown'' THEN p.risk_score END AS score,
               p.risk_score - (SELECT h.score FROM arx.risk_score_history AS h
                                WHERE h.address = w.address AND h.network = w.network AND h.scored_at > now() - interval ''168 hours''
                                  AND h.state <> ''unknown''
                                ORDER BY h.scored_at, h.entry_id LIMIT 1) AS score_change
          FROM wallets AS w
         CROSS JOIN LATERAL (SELECT f.risk_score, f.risk_state FROM arx.wallet_profiles AS f
                              WHERE f.network_type = w.network AND f.wallet_address = w.address LIMIT 1) AS p)';
    END IF;
    IF 'watchlists' = ANY (groups) AND NOT has_candidates THEN
        steps := steps || ', watched AS MATERIALIZED (
        SELECT w.wallet, w.network, w.address FROM wallets AS w
         WHERE EXISTS (SELECT FROM arx.watchlists AS m WHERE m.network = w.network AND m.address = w.address OFFSET 0))';
    END IF;
    steps := steps || ', cheap AS MATERIALIZED (
        SELECT s.relation, s.tx_hash, s.log_index, s."timestamp", s.wallet, w.address, s.counterparty, w.network, s.asset,
               CASE WHEN s.is_out THEN ''out'' ELSE ''in'' END AS direction, s.amount, s.value_usd AS amount_usd, '
        || CASE WHEN has_candidates THEN 's.wallet_category, s.wallet_kind, s.counterparty_category, s.counterparty_kind, '
                WHEN 'labels' = ANY (groups) THEN 'l.category AS wallet_category, l.kind AS wallet_kind, o.category AS counterparty_category, o.kind AS counterparty_kind, '
                ELSE 'NULL::text AS wallet_category, NULL::text AS wallet_kind, NULL::text AS counterparty_category, NULL::text AS counterparty_kind, ' END
        || CASE WHEN 'scores' = ANY (groups) THEN 'c.score::numeric AS wallet_score, q.score::numeric AS counterparty_score, c.score_change::numeric AS score_change_7d, '
                ELSE 'NULL::numeric AS wallet_score, NULL::numeric AS counterparty_score, NULL::numeric AS score_change_7d, ' END
        || CASE WHEN has_candidates THEN 's.wallet_watched, s.counterparty_watched, '
                WHEN 'watchlists' = ANY (groups) THEN 'm.wallet IS NOT NULL AS wallet_watched, n.wallet IS NOT NULL AS counterparty_watched, '
                ELSE 'NULL::boolean AS wallet_watched, NULL::boolean AS counterparty_watched, ' END
        || counted || ', NULL::numeric AS days_idle, NULL::boolean AS is_new_counterparty, NULL::numeric AS sanctions_in, NULL::numeric AS sanctions_out,
               NULL::double precision AS illicit_share_in, NULL::double precision AS illicit_share_out, NULL::bigint AS patterns,
               NULL::double precision AS pattern_strength'
        || CASE WHEN has_candidates THEN ', s.previous_at, s.is_previous_certain, s.pair_first_at, s.is_less_active, s.rules'
                ELSE ', NULL::timestamptz AS previous_at, false AS is_previous_certain' END
        || ' FROM sides AS s JOIN wallets AS w ON w.wallet = s.wallet'
        || CASE WHEN 'labels' = ANY (groups) AND NOT has_candidates THEN ' LEFT JOIN labels AS l ON l.wallet = s.wallet LEFT JOIN labels AS o ON o.network = w.network AND o.address = s.counterparty' ELSE '' END
        || CASE WHEN 'scores' = ANY (groups) THEN ' LEFT JOIN scores AS c ON c.wallet = s.wallet LEFT JOIN scores AS q ON q.network = w.network AND q.address = s.counterparty' ELSE '' END
        || CASE WHEN 'watchlists' = ANY (groups) AND NOT has_candidates THEN ' LEFT JOIN watched AS m ON m.wallet = s.wallet LEFT JOIN watched AS n ON n.network = w.network AND n.address = s.counterparty' ELSE '' END
        || ')';
    IF is_large AND groups && '{idle,counterparty}' THEN
        steps := steps || ', stored_bytes AS MATERIALIZED (
        SELECT coalesce(sum(pg_relation_size(p.relid)), 0) AS bytes
          FROM unnest(''{arx.transactions,arx.internal_transfers,arx.token_transfers}''::regclass[]) AS r (relation)
         CROSS JOIN LATERAL pg_partition_tree(r.relation) AS p WHERE p.isleaf)';
    END IF;
    IF 'idle' = ANY (groups) THEN
        steps := steps || ', idle_sides AS MATERIALIZED (
        SELECT row_number() OVER () AS place, i.*
          FROM (SELECT DISTINCT f.wallet, f.network, f.address, f."timestamp" FROM cheap AS f
                 WHERE NOT f.is_previous_certain AND (' || coalesce(needs ->> 'idle', 'true') || ')) AS i)'
        || CASE WHEN is_large THEN ', idle_number AS MATERIALIZED (SELECT count(*) * 60000 <= (SELECT b.bytes FROM stored_bytes AS b) AS few FROM idle_sides AS i),
    idle_wallets AS MATERIALIZED (
        SELECT i.wallet, i.network, i.address, max(i."timestamp") AS last_time FROM idle_sides AS i GROUP BY i.wallet, i.network, i.address)' ELSE '' END
        || ', times AS MATERIALIZED (
        SELECT i.wallet, i."timestamp", a.at AS before
          FROM (SELECT min(s.place) - 1 AS before, array_agg(s.network ORDER BY s.place) AS networks,
                       array_agg(s.address ORDER BY s.place) AS addresses, array_agg(s."timestamp" ORDER BY s.place) AS times
                  FROM idle_sides AS s' || CASE WHEN is_large THEN ' WHERE (SELECT n.few FROM idle_number AS n)' ELSE '' END || '
                 GROUP BY (s.place - 1) / 100000) AS g
         CROSS JOIN LATERAL arx.last_activity(g.networks, g.addresses, g.times) AS a
          JOIN idle_sides AS i ON i.place = g.before + a.place'
        || CASE WHEN is_large THEN '
        UNION ALL
        SELECT d.wallet, d.at, lag(d.at) OVER (PARTITION BY d.wallet ORDER BY d.at)
          FROM (SELECT DISTINCT a.wallet, a.at FROM (' || active || ') AS a) AS d' ELSE '' END || ')';
    END IF;
    IF 'counterparty' = ANY (groups) THEN
        -- Both wallets of a pair have the same history. That of the one with fewer transfers is
        -- read.
        steps := steps || CASE WHEN has_candidates THEN ', pairs AS MATERIALIZED (
        SELECT row_number() OVER () AS pair, e.*
          FROM (SELECT DISTINCT f.network, CASE WHEN f.is_less_active THEN f.address ELSE f.counterparty END AS one,
                       CASE WHEN f.is_less_active THEN f.counterparty ELSE f.address END AS other, f.pair_first_at AS first_time
                  FROM cheap AS f
                 WHERE f."timestamp" = f.pair_first_at AND (' || coalesce(needs ->> 'counterparty', 'true') || ')) AS e)'
            ELSE ', needed_pairs AS MATERIALIZED (
        -- Without a collation of their own: the indexes of the tables have that of the columns.
        SELECT DISTINCT f.network, CASE WHEN f.address <= f.counterparty COLLATE "C" THEN f.address ELSE f.counterparty END AS one,
               CASE WHEN f.address <= f.counterparty COLLATE "C" THEN f.counterparty ELSE f.address END AS other
          FROM cheap AS f WHERE f.counterparty IS NOT NULL AND (' || coalesce(needs ->> 'counterparty', 'true') || ')),
    pairs AS MATERIALIZED (
        SELECT row_number() OVER () AS pair, e.*
          FROM (SELECT p.network, p.one, p.other, min(l."timestamp") AS first_time
                  FROM needed_pairs AS p
                  JOIN legs AS l ON l.network = p.network AND least(l.from_address COLLATE "C", l.to_address) = p.one
                                AND greatest(l.from_address COLLATE "C", l.to_address) = p.other
                                -- The sender of a burn would be both of them.
                                AND l.from_address IS NOT NULL AND l.to_address IS NOT NULL
                 GROUP BY p.network, p.one, p.other) AS e)' END
        || CASE WHEN is_large THEN ',
    pair_number AS MATERIALIZED (
        SELECT count(*) * 60000 <= (SELECT b.bytes FROM stored_bytes AS b) AS few, max(p.first_time) AS last_time FROM pairs AS p)' ELSE '' END || ',
    known_pairs AS MATERIALIZED (
        SELECT g.before + k.place AS pair
          FROM (SELECT min(p.pair) - 1 AS before, array_agg(p.network ORDER BY p.pair) AS networks, array_agg(p.one ORDER BY p.pair) AS ones,
                       array_agg(p.other ORDER BY p.pair) AS others, array_agg(p.first_time ORDER BY p.pair) AS times
                  FROM pairs AS p' || CASE WHEN is_large THEN ' WHERE (SELECT n.few FROM pair_number AS n)' ELSE '' END || '
                 GROUP BY (p.pair - 1) / 100000) AS g
         CROSS JOIN LATERAL arx.known_pairs(g.networks, g.ones, g.others, g.times) AS k (place)'
        || CASE WHEN is_large THEN ' UNION SELECT k.pair FROM (' || known || ') AS k' ELSE '' END || '),
    new_pairs AS MATERIALIZED (
        SELECT p.network, least(p.one COLLATE "C", p.other) AS one, greatest(p.one COLLATE "C", p.other) AS other, p.first_time,
               k.pair IS NOT NULL AS is_known
          FROM pairs AS p LEFT JOIN known_pairs AS k ON k.pair = p.pair)';
    END IF;
    IF 'exposure' = ANY (groups) THEN
        steps := steps || ', exposed AS MATERIALIZED (
        SELECT w.wallet, x.sanctions_in, x.sanctions_out, x.illicit_share_in, x.illicit_share_out
          FROM (SELECT w.network, array_agg(w.address ORDER BY w.address COLLATE "C") AS addresses FROM wallets AS w
                 WHERE w.wallet IN (SELECT f.wallet FROM cheap AS f WHERE ' || coalesce(needs ->> 'exposure', 'true') || ')
                 GROUP BY w.network) AS n
         CROSS JOIN LATERAL arx.screen_wallets(n.addresses, n.network) AS x
          JOIN wallets AS w ON w.network = n.network AND w.address = x.address)';
    END IF;
    IF 'patterns' = ANY (groups) THEN
        steps := steps || ', shaped AS MATERIALIZED (
        SELECT w.wallet, count(*) AS patterns, max(f.strength) AS strength
          FROM wallets AS w
         CROSS JOIN LATERAL (SELECT d.strength FROM arx.pattern_findings AS d
                              WHERE d.network = w.network AND d.wallets @> ARRAY[w.address] OFFSET 0) AS f
         WHERE w.wallet IN (SELECT f.wallet FROM cheap AS f WHERE ' || coalesce(needs ->> 'patterns', 'true') || ')
         GROUP BY w.wallet)';
    END IF;
    RETURN 'WITH ' || steps || '
    SELECT c.relation, c.tx_hash, c.log_index, c."timestamp", c.address, c.counterparty, c.network, c.asset, c.direction, c.amount, c.amount_usd,
           c.wallet_category, c.wallet_kind, c.counterparty_category, c.counterparty_kind, c.wallet_score, c.counterparty_score, c.score_change_7d,
           c.wallet_watched, c.counterparty_watched, c.count_1h, c.count_24h, c.count_7d, c.sum_24h, c.sum_usd_1h, c.sum_usd_24h, c.sum_usd_7d,
           c.below_10000_usd_24h, '
        || CASE WHEN 'idle' = ANY (groups) THEN '(extract(epoch FROM c."timestamp" - greatest(i.before, c.previous_at)) / 86400)::numeric' ELSE 'c.days_idle' END || ' AS days_idle, '
        || CASE WHEN 'counterparty' = ANY (groups) AND has_candidates THEN 'CASE WHEN c."timestamp" > c.pair_first_at THEN false ELSE NOT k.is_known END'
                WHEN 'counterparty' = ANY (groups) THEN 'NOT k.is_known AND c."timestamp" = k.first_time' ELSE 'c.is_new_counterparty' END
        || ' AS is_new_counterparty, '
        || CASE WHEN 'exposure' = ANY (groups) THEN 'x' ELSE 'c' END || '.sanctions_in, '
        || CASE WHEN 'exposure' = ANY (groups) THEN 'x' ELSE 'c' END || '.sanctions_out, '
        || CASE WHEN 'exposure' = ANY (groups) THEN 'x' ELSE 'c' END || '.illicit_share_in, '
        || CASE WHEN 'exposure' = ANY (groups) THEN 'x' ELSE 'c' END || '.illicit_share_out, '
        || CASE WHEN 'patterns' = ANY (groups) THEN 'coalesce(f.patterns, 0)::bigint AS patterns, f.strength AS pattern_strength'
                ELSE 'c.patterns, c.pattern_strength' END
        || CASE WHEN has_candidates THEN ', c.rules' ELSE '' END
        || ' FROM cheap AS c'
        || CASE WHEN 'idle' = ANY (groups) THEN ' LEFT JOIN times AS i ON i.wallet = c.wallet AND i."timestamp" = c."timestamp"' ELSE '' END
        || CASE WHEN 'counterparty' = ANY (groups) THEN ' LEFT JOIN new_pairs AS k ON k.network = c.network AND k.one = least(c.address COLLATE "C", c.counterparty) AND k.other = greatest(c.address COLLATE "C", c.counterparty)' ELSE '' END
        || CASE WHEN 'exposure' = ANY (groups) THEN ' LEFT JOIN exposed AS x ON x.wallet = c.wallet' ELSE '' END
        || CASE WHEN 'patterns' = ANY (groups) THEN ' LEFT JOIN shaped AS f ON f.wallet = c.wallet' ELSE '' END;
END;
$$;

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
    SET enable_nestloop = off
    SET enable_mergejoin = off
    SET jit = off
    AS $$
DECLARE
    sizes record;
BEGIN
    SELECT * INTO STRICT sizes FROM arx.transfers_to_judge($1, $2, $3, $5, $6);
    RETURN QUERY EXECUTE arx.transfer_facts_query($4, sizes.legs > 5000)
      USING NULL::numeric[], NULL::text[], $1, $2, $3, $5, $6, sizes.first_time, sizes.last_time;
END;
$$;

-- The rules as one table expression: number and truth, over the columns of alias f. `one_holds` is
-- true if one of them holds; `used` are the facts that rule h.number names. `needs` are conditions
-- by group of facts: where the facts of expensive groups are unknown, and the rule is false all
-- the same, they need not be gathered.
CREATE FUNCTION compiled_alert_rules(rule text DEFAULT NULL, version integer DEFAULT NULL,
                                     OUT cases text, OUT rules jsonb, OUT numbers numeric[], OUT texts text[], OUT groups text[],
                                     OUT one_holds text, OUT used text, OUT needs jsonb, OUT fires text, OUT conditions jsonb)
    LANGUAGE plpgsql_as_owner STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    chosen record;
    code   record;
    truth  text;
    costly text;
BEGIN
    needs := '{}';
    fires := '';
    conditions := '[]';
    cases := '';
    one_holds := '';
    used := '';
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
        one_holds := one_holds || format('%s(%s%s)', CASE WHEN one_holds = '' THEN '' ELSE ' OR ' END,
                               CASE chosen.side WHEN 'sender' THEN 'f.direction = ''out'' AND '
                                                WHEN 'receiver' THEN 'f.direction = ''in'' AND ' ELSE '' END,
                               code.expression);
        fires := fires || format(' WHEN %s THEN %s', jsonb_array_length(rules), code.expression);
        conditions := conditions || jsonb_build_array(jsonb_build_object('condition', chosen.condition, 'side', chosen.side));
        used := used || format(' WHEN %s THEN jsonb_build_object(%s)', jsonb_array_length(rules),
                               (SELECT string_agg(format('%L, f.%I', n, n), ', ' ORDER BY n) FROM unnest(code.facts) AS n));
        -- A test of whether a fact is known says nothing before it has been gathered.
        truth := format('%s(%s)', CASE chosen.side WHEN 'sender' THEN 'f.direction = ''out'' AND '
                                                   WHEN 'receiver' THEN 'f.direction = ''in'' AND ' ELSE '' END,
                        CASE WHEN jsonb_path_exists(chosen.condition, '$.** ? (@.op == "known" || @.op == "unknown")') THEN 'true'
                             ELSE '(' || code.expression || ') IS NOT FALSE' END);
        FOR costly IN SELECT g FROM unnest(code.groups) AS g WHERE g IN ('idle', 'counterparty', 'exposure', 'patterns') LOOP
            needs := needs || jsonb_build_object(costly, coalesce((needs ->> costly) || ' OR ', '') || truth);
        END LOOP;
        rules := rules || jsonb_build_array(jsonb_build_object(
            'rule', chosen.rule, 'version', chosen.version, 'is_shadow', chosen.state = 'shadow', 'facts', code.facts,
            'max_share', chosen.max_share));
    END LOOP;
END;
$$;

-- Groups hits into alerts: a hit within the cooldown after the last one of an alert belongs to it.
--
-- Of n hits that wait, sorting takes O(n log n), and each costs a few descents of indexes, whatever
-- the number of older hits and alerts.
CREATE FUNCTION group_alert_hits() RETURNS bigint
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    -- Hits that wait are joined by hashing, and tables are asked by their indexes, whatever the
    -- planner believes about a run with a million hits: a plan may have been made when there were
    -- none.
    SET enable_seqscan = off
    SET enable_nestloop = off
    SET enable_mergejoin = off
    SET jit = off
    AS $$
DECLARE
    raised        bigint;
    ids_of_alerts regclass := pg_get_serial_sequence('arx.wallet_alerts', 'alert_id');
    -- An alert that no destination wants need not be queued.
    is_wanted     boolean := EXISTS (SELECT FROM arx.alert_destinations AS d WHERE d.enabled);
BEGIN
    -- A second call at the same time waits, and then sees the alerts of the first one.
    PERFORM count(*)
       FROM (SELECT FROM arx.wallet_alert_hits AS h WHERE h.alert_id IS NULL AND NOT h.is_shadow AND NOT h.is_retracted FOR UPDATE) AS l;
    -- Hits of an alert that exists and is not closed.
    WITH matched AS (
        SELECT h.hit_id, o.alert_id
          FROM arx.wallet_alert_hits AS h
          JOIN arx.wallet_alert_rules AS r ON r.rule = h.rule AND r.version = h.rule_version
         CROSS JOIN LATERAL (
            SELECT a.alert_id FROM arx.wallet_alerts AS a
             WHERE a.rule = h.rule AND a.network = h.network AND a.address = h.address
               AND a.status <> 'closed'
               AND h."timestamp" BETWEEN a.first_hit_at - r.cooldown AND a.last_hit_at + r.cooldown
             ORDER BY a.last_hit_at DESC, a.alert_id DESC LIMIT 1) AS o
         WHERE h.alert_id IS NULL AND NOT h.is_shadow AND NOT h.is_retracted
    ), joined AS (
        UPDATE arx.wallet_alert_hits AS h SET alert_id = m.alert_id FROM matched AS m
         WHERE h.hit_id = m.hit_id AND h.alert_id IS NULL AND NOT h.is_shadow AND NOT h.is_retracted
        RETURNING h.alert_id, h."timestamp", h.amount_usd
    ), sums AS MATERIALIZED (
        SELECT j.alert_id, count(*) AS hits, min(j."timestamp") AS first_time, max(j."timestamp") AS last_time,
               sum(j.amount_usd) AS amount_usd
          FROM joined AS j GROUP BY j.alert_id
    )
    UPDATE arx.wallet_alerts AS a
       SET hits = a.hits + n.hits, first_hit_at = least(a.first_hit_at, n.first_time),
           last_hit_at = greatest(a.last_hit_at, n.last_time),
           -- The transfers of an alert that was retracted are there again.
           state = CASE a.state WHEN 'retracted' THEN 'open' ELSE a.state END,
           amount_usd = CASE WHEN n.amount_usd IS NULL THEN a.amount_usd ELSE coalesce(a.amount_usd, 0) + n.amount_usd END
      FROM sums AS n
     WHERE a.alert_id = n.alert_id AND a.alert_id = ANY (ARRAY(SELECT s.alert_id FROM sums AS s));
    -- The others begin alerts, one for each run of hits without a longer pause than the cooldown. A
    -- run has its alert's id before the alert is there, so that its hits get it in the same
    -- statement.
    WITH waiting AS (
        SELECT h.*, r.cooldown, r.pending, r.sla,
               coalesce(h."timestamp" - lag(h."timestamp") OVER in_time > r.cooldown, true) AS begins
          FROM arx.wallet_alert_hits AS h
          JOIN arx.wallet_alert_rules AS r ON r.rule = h.rule AND r.version = h.rule_version
         WHERE h.alert_id IS NULL AND NOT h.is_shadow AND NOT h.is_retracted
        WINDOW in_time AS (PARTITION BY h.rule, h.network, h.address ORDER BY h."timestamp", h.hit_id)
    ), numbered AS (
        SELECT w.*, count(*) FILTER (WHERE w.begins) OVER (PARTITION BY w.rule, w.network, w.address
                                                           ORDER BY w."timestamp", w.hit_id) AS run
          FROM waiting AS w
    ), placed AS (
        SELECT n.*, row_number() OVER (PARTITION BY n.rule, n.network, n.address, n.run ORDER BY n."timestamp", n.hit_id) AS place,
               min(n.hit_id) OVER (PARTITION BY n.rule, n.network, n.address, n.run) AS first_hit
          FROM numbered AS n
    ), ranked AS MATERIALIZED (
        SELECT p.*, dense_rank() OVER (ORDER BY p.first_hit) AS number,
               -- The first transfer of a closed alert was gone, and is there again.
               CASE WHEN p.place = 1 THEN
                   (SELECT a.alert_id FROM arx.wallet_alerts AS a
                     WHERE a.dedup_key = format('%s:%s:%s:%s', p.rule, p.network, p.address, p.first_hit)) END AS former_id
          FROM placed AS p
    ), ids AS MATERIALIZED (
        SELECT ARRAY(SELECT nextval(ids_of_alerts) FROM generate_series(1, (SELECT max(n.number) FROM ranked AS n))) AS list
    ), keyed AS MATERIALIZED (
        SELECT n.*, coalesce(max(n.former_id) OVER (PARTITION BY n.number), (SELECT i.list FROM ids AS i)[n.number]) AS new_id
          FROM ranked AS n
    ), runs AS (
        -- Sorted once: an aggregate with an order of its own sorts each run.
        SELECT n.number, min(n.new_id) AS new_id, min(n.rule) AS rule, min(n.network) AS network, min(n.address) AS address,
               min(n.first_hit) AS first_hit, max(n.rule_version) AS rule_version, max(n.pending) AS pending, min(n.sla) AS sla,
               count(*) AS hits, min(n."timestamp") AS first_time, max(n."timestamp") AS last_time, sum(n.amount_usd) AS amount_usd,
               -- A wallet may have a million hits.
               jsonb_agg(jsonb_build_object('tx_hash', n.tx_hash, 'direction', n.direction, 'counterparty', n.counterparty,
                                            'timestamp', n."timestamp", 'facts', n.facts)) FILTER (WHERE n.place <= 20) AS evidence
          FROM (SELECT k.* FROM keyed AS k ORDER BY k.number, k.place) AS n
         GROUP BY n.number
    ), raised_now AS (
        INSERT INTO arx.wallet_alerts AS a (alert_id, dedup_key, rule, rule_version, severity, network, address, state, hits,
                                            first_hit_at, last_hit_at, amount_usd, evidence, deliver_from, due_at, is_queued)
        OVERRIDING SYSTEM VALUE
        SELECT u.new_id, format('%s:%s:%s:%s', u.rule, u.network, u.address, u.first_hit), u.rule, u.rule_version, r.severity,
               u.network, u.address,
               t.state,
               u.hits, u.first_time, u.last_time, u.amount_usd, u.evidence, now() + u.pending,
               now() + coalesce(u.sla, CASE r.severity WHEN 'critical' THEN interval '4 hours' WHEN 'high' THEN interval '1 day'
                                                       WHEN 'medium' THEN interval '3 days' ELSE interval '7 days' END),
               t.state = 'open' AND NOT is_wanted
          FROM runs AS u
          JOIN arx.wallet_alert_rules AS r ON r.rule = u.rule AND r.version = u.rule_version
         CROSS JOIN LATERAL (
            SELECT CASE WHEN EXISTS (SELECT FROM arx.alert_silences AS s
                                      WHERE (s.rule IS NULL OR s.rule = u.rule) AND (s.network IS NULL OR s.network = u.network)
                                        AND (s.address IS NULL OR s.address = u.address)
                                        AND s.starts_at <= now() AND s.ends_at > now()) THEN 'silenced'
                        WHEN u.pending > '0' THEN 'pending' ELSE 'open' END AS state) AS t
         ORDER BY u.first_hit
            ON CONFLICT ON CONSTRAINT wallet_alerts_dedup_key_key DO UPDATE
               SET state = excluded.state, status = 'new', hits = excluded.hits, first_hit_at = excluded.first_hit_at,
                   last_hit_at = excluded.last_hit_at, amount_usd = excluded.amount_usd, evidence = excluded.evidence,
                   raised_at = now(), deliver_from = excluded.deliver_from, due_at = excluded.due_at, is_queued = excluded.is_queued
    )
    UPDATE arx.wallet_alert_hits AS h SET alert_id = k.new_id FROM keyed AS k
     WHERE h.hit_id = k.hit_id AND h.alert_id IS NULL AND NOT h.is_shadow AND NOT h.is_retracted;
    -- An alert of a rule that another alert of the wallet makes superfluous.
    UPDATE arx.wallet_alerts AS a SET state = 'inhibited', is_queued = false
      FROM arx.wallet_alert_rules AS r
     WHERE a.state IN ('pending', 'open') AND a.status = 'new' AND a.raised_at = now()
       AND r.rule = a.rule AND r.version = a.rule_version AND r.inhibited_by <> '{}'
       AND EXISTS (SELECT FROM arx.wallet_alerts AS o
                    WHERE o.network = a.network AND o.address = a.address AND o.rule = ANY (r.inhibited_by)
                      AND o.state IN ('pending', 'open') AND o.status <> 'closed' OFFSET 0);
    SELECT arx.add_alert_events(coalesce(array_agg(r.alert_id ORDER BY r.alert_id), '{}'),
                                coalesce(array_agg('raised'::text ORDER BY r.alert_id), '{}'),
                                coalesce(array_agg(r.detail ORDER BY r.alert_id), '{}'))
      INTO STRICT raised
      FROM (SELECT a.alert_id, jsonb_build_object('rule', a.rule, 'version', a.rule_version, 'state', a.state, 'hits', a.hits) AS detail
              FROM arx.wallet_alerts AS a
             WHERE a.raised_at = now()
               AND NOT EXISTS (SELECT FROM arx.alert_events AS e
                                WHERE e.alert_id = a.alert_id AND e.action = 'raised' AND e.happened_at >= a.raised_at OFFSET 0)) AS r;
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
    IF NOT EXISTS (SELECT FROM arx.alert_typologies AS t WHERE t.enabled) THEN
        RETURN 0;
    END IF;
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

-- Everything that became visible, all rules at once. A hit that was taken back, and whose transfer
-- is there again, counts again. Returns the rules, the number of judged sides of transfers, and
-- that of hits by rule and version. The statement holds what compiled_alert_rules() has made, and
-- nothing of the caller.
CREATE FUNCTION judge_transfers(since pg_snapshot, native tstzmultirange DEFAULT '{}', tokens tstzmultirange DEFAULT '{}',
                                OUT rules jsonb, OUT judged bigint, OUT hits jsonb)
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    -- The planner knows no sizes of the steps, and must not loop over one within another.
    -- Tables are asked through their indexes by LATERAL.
    SET enable_nestloop = off
    SET enable_mergejoin = off
    SET jit = off
    AS $$
DECLARE
    sizes      record;
    code       record;
    storing    text;
    everything CONSTANT timestamptz[] := ARRAY['-infinity', 'infinity'];
BEGIN
    SELECT * INTO STRICT code FROM arx.compiled_alert_rules();
    rules := code.rules;
    judged := 0;
    hits := '{}';
    SELECT * INTO STRICT sizes FROM arx.transfers_to_judge($1, everything[1], everything[2], $2, $3, 5001);
    IF sizes.legs = 0 OR code.cases = '' THEN
        RETURN;
    END IF;
    storing := ' stored AS (
                INSERT INTO arx.wallet_alert_hits AS h (rule, rule_version, is_shadow, network, address, counterparty, direction,
                                                        relation, tx_hash, log_index, "timestamp", amount_usd, facts)
                SELECT x.rule ->> ''rule'', (x.rule ->> ''version'')::integer, (x.rule ->> ''is_shadow'')::boolean, x.network,
                       x.address, x.counterparty, x.direction, x.relation, x.tx_hash, x.log_index, x."timestamp", x.amount_usd, x.used
                  FROM found AS x
                 ORDER BY x."timestamp", x.tx_hash COLLATE "C", x.relation, x.log_index, x.number, x.direction DESC
                    ON CONFLICT ON CONSTRAINT wallet_alert_hits_once DO UPDATE
                   SET is_retracted = false, alert_id = NULL, rule_version = excluded.rule_version, facts = excluded.facts,
                       hit_at = now()
                 WHERE h.is_retracted
                RETURNING h.rule, h.rule_version, h.is_shadow
             ), counted AS (
                SELECT coalesce(jsonb_object_agg(c.key, c.hits), ''{}'') AS hits
                  FROM (SELECT s.rule || '' '' || s.rule_version AS key, count(*) AS hits FROM stored AS s GROUP BY 1) AS c
             )';
    -- Transfers are filtered before SQL judges them. Conditions are an argument of limited size.
    IF octet_length(code.conditions::text) < 1000000 THEN
        EXECUTE 'WITH candidates AS MATERIALIZED (SELECT c.* FROM arx.alert_candidates($3, $6, $7, $11) AS c),
                 facts AS MATERIALIZED (' || arx.transfer_facts_query(code.groups, sizes.legs > 5000, code.needs, true) || '),
                 found AS (
                    SELECT $10 -> h.number AS rule, h.number, f.*, CASE h.number ' || code.used || ' END AS used
                      FROM facts AS f CROSS JOIN LATERAL unnest(f.rules) AS h (number)
                     WHERE CASE h.number ' || code.fires || ' END
                 ), ' || storing || '
                 SELECT (SELECT c.judged FROM candidates AS c WHERE c.relation IS NULL), (SELECT c.hits FROM counted AS c)'
           INTO STRICT judged, hits
          USING code.numbers, code.texts, $1, everything[1], everything[2], $2, $3, sizes.first_time, sizes.last_time, code.rules,
                code.conditions;
        IF judged IS NOT NULL THEN
            RETURN;
        END IF;
    END IF;
    SELECT * INTO STRICT sizes FROM arx.transfers_to_judge($1, everything[1], everything[2], $2, $3);
    EXECUTE 'WITH facts AS MATERIALIZED (' || arx.transfer_facts_query(code.groups, sizes.legs > 5000, code.needs) || '),
             found AS (
                SELECT r.rule, h.number, f.*, CASE h.number ' || code.used || ' END AS used
                  FROM facts AS f
                 CROSS JOIN LATERAL (VALUES ' || code.cases || ') AS h (number, fires)
                 CROSS JOIN LATERAL (SELECT $10 -> h.number) AS r (rule)
                 WHERE (' || code.one_holds || ') AND h.fires
             ), ' || storing || '
             SELECT (SELECT count(*) FROM facts), (SELECT c.hits FROM counted AS c)'
       INTO STRICT judged, hits
      USING code.numbers, code.texts, $1, everything[1], everything[2], $2, $3, sizes.first_time, sizes.last_time, code.rules;
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
    SELECT j.* INTO STRICT code FROM arx.judge_transfers(run.since, run.native, run.tokens) AS j;
    total := code.judged;
    counts := code.hits;
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
           total, coalesce((counts ->> k.key)::bigint, 0), coalesce(n.alerts, 0)
      FROM (SELECT r.value ->> 'rule' AS rule, (r.value ->> 'version')::integer AS version,
                   (r.value ->> 'is_shadow')::boolean AS is_shadow, (r.value ->> 'rule') || ' ' || (r.value ->> 'version') AS key
              FROM jsonb_array_elements(code.rules) AS r) AS k
      LEFT JOIN (SELECT a.rule, a.rule_version, count(*) AS alerts FROM arx.wallet_alerts AS a
                  WHERE a.raised_at = now() GROUP BY a.rule, a.rule_version) AS n ON n.rule = k.rule AND n.rule_version = k.version
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

-- A cell of CSV. A spreadsheet would take a text that begins like a formula for one: an apostrophe
-- before it says that it is a text.
CREATE FUNCTION csv_cell(value text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
-- The last four characters are those of full width.
SELECT '"' || replace(CASE WHEN v.value ~ ('^[[:space:]]*[-=+@' || chr(65309) || chr(65291) || chr(65293) || chr(65312) || ']')
                             OR v.value ~ '^[\t\r\n]' THEN '''' || v.value ELSE v.value END, '"', '""') || '"'
  FROM (SELECT coalesce(csv_cell.value, '')) AS v (value)
$$;

-- An alert as a table: a line of the alert, one of each transfer, and one of each entry of its
-- history, in order of time. Lines end with CRLF, as RFC 4180 has it.
CREATE FUNCTION export_alert_csv(alert_id bigint) RETURNS text
    LANGUAGE plpgsql_as_owner STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    SET TimeZone = 'UTC'
    AS $$
DECLARE
    document jsonb := arx.export_alert($1);
BEGIN
    RETURN (
        SELECT string_agg((SELECT string_agg(arx.csv_cell(c.value), ',' ORDER BY c.number)
                             FROM unnest(l.cells) WITH ORDINALITY AS c (value, number)) || E'\r\n', '' ORDER BY l.part, l.number)
          FROM (SELECT 0 AS part, 0::bigint AS number,
                       '{part,time,actor,action,rule,network,address,counterparty,direction,tx_hash,log_index,amount_usd,detail}'::text[] AS cells
                UNION ALL
                SELECT 1, 0, ARRAY['alert', document ->> 'raised_at', document ->> 'assignee', document ->> 'status',
                                   (document ->> 'rule') || ' ' || (document ->> 'rule_version'), document ->> 'network',
                                   document ->> 'address', NULL, NULL, NULL, NULL, document ->> 'amount_usd',
                                   (document - '{transfers,history,evidence}'::text[])::text]
                UNION ALL
                SELECT 2, t.number, ARRAY['transfer', t.hit ->> 'timestamp', NULL, CASE WHEN (t.hit ->> 'is_retracted')::boolean THEN 'taken back' END,
                                          (t.hit ->> 'rule') || ' ' || (t.hit ->> 'rule_version'), t.hit ->> 'network', t.hit ->> 'address',
                                          t.hit ->> 'counterparty', t.hit ->> 'direction', t.hit ->> 'tx_hash', t.hit ->> 'log_index',
                                          t.hit ->> 'amount_usd', t.hit ->> 'facts']
                  FROM jsonb_array_elements(document -> 'transfers') WITH ORDINALITY AS t (hit, number)
                UNION ALL
                SELECT 3, e.number, ARRAY['history', e.event ->> 'happened_at', e.event ->> 'actor', e.event ->> 'action', NULL, NULL, NULL, NULL,
                                          NULL, NULL, NULL, NULL, e.event ->> 'detail']
                  FROM jsonb_array_elements(document -> 'history') WITH ORDINALITY AS e (event, number)) AS l);
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
