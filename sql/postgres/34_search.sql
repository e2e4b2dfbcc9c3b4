-- Search of wallets by address, label, note and analytics.

-- The parts of a search, checked: unknown keys and values of a wrong type are errors, because a
-- filter that is passed over would show wallets that the caller has excluded.
CREATE FUNCTION check_search(query text, filters jsonb) RETURNS text
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    -- Keys with the type of their values.
    known CONSTANT jsonb := '{"network": "string", "category": "string", "kind": "string", "source": "string",
        "band": "string", "state": "string", "min_score": "number", "max_score": "number", "path": "string"}';
    words text := btrim(check_search.query);
    given record;
BEGIN
    IF check_search.filters IS NULL OR jsonb_typeof(check_search.filters) <> 'object' THEN
        RAISE EXCEPTION 'filters must be a JSON object, not %',
                        coalesce(jsonb_typeof(check_search.filters), 'null')
            USING ERRCODE = 'invalid_parameter_value', HINT = 'For example {"network": "ethereum", "min_score": 70}.';
    END IF;
    FOR given IN SELECT f.key, jsonb_typeof(f.value) AS type FROM jsonb_each(check_search.filters) AS f LOOP
        IF NOT known ? given.key THEN
            RAISE EXCEPTION 'unknown filter "%"', left(given.key, 60)
                USING ERRCODE = 'invalid_parameter_value',
                      HINT = 'Filters are ' || (SELECT string_agg(k, ', ') FROM jsonb_object_keys(known) AS k) || '.';
        ELSIF known ->> given.key <> given.type THEN
            RAISE EXCEPTION 'filter "%" must be a %, not %', given.key, known ->> given.key, given.type
                USING ERRCODE = 'invalid_parameter_value';
        END IF;
    END LOOP;
    IF check_search.filters ? 'path' THEN
        PERFORM (check_search.filters ->> 'path')::jsonpath;
    END IF;
    IF coalesce(words, '') = '' THEN
        IF NOT check_search.filters ? 'path' THEN
            RAISE EXCEPTION 'query is empty'
                USING ERRCODE = 'invalid_parameter_value',
                      HINT = 'Pass at least two characters of an address, label or note, or the filter path.';
        END IF;
    ELSIF length(words) NOT BETWEEN 2 AND 256 THEN
        RAISE EXCEPTION 'query must have 2 to 256 characters, not %', length(words)
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN coalesce(words, '');
END;
$$;

-- Wallets that match, each at most once per kind of match. A query of two characters is looked for
-- at the start of addresses and as a word, not within words. Each kind gives at most `most` rows,
-- NULL: all. Time: O(matches) with the indexes of create_search_indexes(), else O(labels +
-- wallets).
CREATE FUNCTION wallet_matches(query text, filters jsonb, most integer)
    RETURNS TABLE (network text, address text, rank real, matched text, label text, category text, source text)
    LANGUAGE plpgsql_as_owner STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    -- Two letters that changed places within a short word.
    SET pg_trgm.word_similarity_threshold = 0.4
    AS $$
#variable_conflict use_column
DECLARE
    words        text := arx.check_search($1, $2);
    -- Characters that LIKE would take for wildcards.
    literal      text := regexp_replace(words, '([\\%_])', '\\\1', 'g');
    has_words    boolean := words <> '' AND (length(words) > 2 OR words ~ '\w\w');
    of_wallets   text := '';
    of_labels    text := '';
    branches     text[] := '{}';
    trigram      text;
    found        bigint;
    statement    text;
BEGIN
    -- The texts below are constants; values are parameters: $1 the words, $2 a pattern for LIKE, $3
    -- the filters, $4 the number of rows.
    IF $2 ? 'network' THEN
        of_wallets := of_wallets || ' AND w.network = arx.normalize_network($3 ->> ''network'')';
    END IF;
    IF $2 ?| '{min_score,max_score,path,state}' THEN
        of_wallets := of_wallets || ' AND EXISTS (SELECT FROM arx.wallet_profiles AS p'
            ' WHERE p.wallet_address = w.address AND p.network_type = w.network'
            || CASE WHEN $2 ? 'min_score' THEN ' AND p.risk_score >= ($3 ->> ''min_score'')::numeric' ELSE '' END
            || CASE WHEN $2 ? 'max_score' THEN ' AND p.risk_score <= ($3 ->> ''max_score'')::numeric' ELSE '' END
            || CASE WHEN $2 ? 'state' THEN ' AND p.risk_state = $3 ->> ''state''' ELSE '' END
            || CASE WHEN $2 ? 'path' THEN ' AND p.analytics_profile @? ($3 ->> ''path'')::jsonpath' ELSE '' END
            || ')';
    END IF;
    IF $2 ? 'band' THEN
        of_wallets := of_wallets || ' AND $3 ->> ''band'' = (SELECT h.band FROM arx.risk_score_history AS h'
            ' WHERE h.address = w.address AND h.network = w.network ORDER BY h.scored_at DESC LIMIT 1)';
    END IF;
    IF $2 ?| '{category,kind,source}' THEN
        of_labels := CASE WHEN $2 ? 'category' THEN ' AND l.category = $3 ->> ''category''' ELSE '' END
            || CASE WHEN $2 ? 'source' THEN ' AND l.source = $3 ->> ''source''' ELSE '' END
            || CASE WHEN $2 ? 'kind' THEN ' AND l.category IN (SELECT c.category FROM arx.label_categories AS c'
                                          ' WHERE c.kind = $3 ->> ''kind'')' ELSE '' END;
        of_wallets := of_wallets || ' AND EXISTS (SELECT FROM arx.address_labels AS l WHERE l.address = w.address'
            ' AND l.network = w.network AND l.valid_from <= now() AND l.valid_to > now()' || of_labels || ')';
    END IF;
    IF words <> '' THEN
        branches := branches || ARRAY[
            -- The very address, which a limit of the others must not cut.
            'SELECT w.network, w.address, 1 AS rank, ''address'' AS matched FROM arx.address_labels AS w'
            ' WHERE w.address IN ($1, lower($1)) AND w.valid_from <= now() AND w.valid_to > now() {wallets} LIMIT $4',
            'SELECT w.network, w.address, 1, ''address'' FROM (SELECT x.network_type AS network, x.wallet_address AS address'
            ' FROM arx.wallet_profiles AS x WHERE x.wallet_address IN ($1, lower($1))) AS w WHERE true {wallets} LIMIT $4',
            -- Parts of addresses, of labels and of wallets.
            'SELECT w.network, w.address, CASE WHEN lower(w.address) = lower($1) THEN 1 WHEN w.address ILIKE $2 || ''%'''
            ' THEN 0.9 WHEN w.address ILIKE ''%'' || $2 THEN 0.8 ELSE 0.7 END, ''address'''
            ' FROM (SELECT x.network, x.address FROM arx.address_labels AS x WHERE x.address ILIKE {address}'
            ' AND x.valid_from <= now() AND x.valid_to > now()) AS w WHERE true {wallets} LIMIT $4',
            'SELECT w.network, w.address, CASE WHEN lower(w.address) = lower($1) THEN 1 WHEN w.address ILIKE $2 || ''%'''
            ' THEN 0.9 WHEN w.address ILIKE ''%'' || $2 THEN 0.8 ELSE 0.7 END, ''address'''
            ' FROM (SELECT x.network_type AS network, x.wallet_address AS address FROM arx.wallet_profiles AS x'
            ' WHERE x.wallet_address ILIKE {address}) AS w WHERE true {wallets} LIMIT $4'];
        IF has_words THEN
            branches := branches || ARRAY[
                -- Words of labels and of analytics, in which notes are.
                'SELECT w.network, w.address, 0.5 + 0.2 * ts_rank(to_tsvector(''simple'', w.label), websearch_to_tsquery(''simple'', $1), 32),'
                ' ''label'' FROM arx.address_labels AS w WHERE to_tsvector(''simple'', w.label) @@ websearch_to_tsquery(''simple'', $1)'
                ' AND w.valid_from <= now() AND w.valid_to > now() {wallets} LIMIT $4',
                'SELECT w.network, w.address, 0.4, ''note'' FROM (SELECT x.network_type AS network, x.wallet_address AS address'
                ' FROM arx.wallet_profiles AS x WHERE jsonb_to_tsvector(''simple'', x.analytics_profile, ''["string"]'')'
                ' @@ websearch_to_tsquery(''simple'', $1)) AS w WHERE true {wallets} LIMIT $4'];
        END IF;
        IF length(words) > 2 THEN
            branches := branches || ARRAY[
                'SELECT w.network, w.address, 0.45, ''label'' FROM arx.address_labels AS w WHERE w.label ILIKE ''%'' || $2 || ''%'''
                ' AND w.valid_from <= now() AND w.valid_to > now() {wallets} LIMIT $4'];
        END IF;
    ELSE
        branches := branches || ARRAY[
            'SELECT w.network, w.address, 0.4 AS rank, ''path'' AS matched FROM (SELECT x.network_type AS network, x.wallet_address AS address'
            ' FROM arx.wallet_profiles AS x WHERE x.analytics_profile @? ($3 ->> ''path'')::jsonpath) AS w'
            ' WHERE true {wallets} LIMIT $4'];
    END IF;
    LOOP
        statement := 'SELECT DISTINCT ON (h.network, h.address) h.network, h.address, h.rank::real, h.matched, c.label,'
            ' c.category, c.source FROM (' || (SELECT string_agg('(' || b || ')', ' UNION ALL ') FROM unnest(branches) AS b)
            || ') AS h LEFT JOIN LATERAL (SELECT l.label, l.category, l.source FROM arx.address_labels AS l'
            ' JOIN arx.label_categories AS k USING (category) WHERE l.network = h.network AND l.address = h.address'
            ' AND l.valid_from <= now() AND l.valid_to > now() {labels}'
            ' ORDER BY (h.matched = ''label'' AND l.label ILIKE ''%'' || $2 || ''%'') DESC,'
            ' arx.label_rank(l.category, k.kind, l.severity::text, l.confidence), l.source, l.label_id LIMIT 1) AS c ON true ORDER BY h.network, h.address, h.rank DESC, h.matched';
        statement := replace(replace(replace(statement, '{wallets}', of_wallets), '{labels}', of_labels), '{address}',
                             CASE WHEN length(words) > 2 THEN '''%'' || $2 || ''%''' ELSE '$2 || ''%''' END);
        RETURN QUERY EXECUTE statement USING words, literal, $2, $3;
        GET DIAGNOSTICS found = ROW_COUNT;
        EXIT WHEN found > 0 OR trigram IS NOT NULL OR length(words) <= 3;
        -- Typing errors: labels with a similar sequence of words.
        trigram := (SELECT n.nspname FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace
                     WHERE e.extname = 'pg_trgm');
        EXIT WHEN trigram IS NULL;
        branches := ARRAY[format(
            'SELECT w.network, w.address, 0.3 * %1$I.word_similarity($1, w.label) AS rank, ''similar'' AS matched'
            ' FROM arx.address_labels AS w WHERE w.label OPERATOR(%1$I.%%>) $1'
            ' AND w.valid_from <= now() AND w.valid_to > now() {wallets} LIMIT $4', trigram)];
    END LOOP;
END;
$$;

CREATE FUNCTION search_wallets(query text, filters jsonb DEFAULT '{}', "limit" integer DEFAULT 20)
    RETURNS TABLE (network text, address text, rank real, matched text, label text, category text, source text,
                   risk_score numeric, risk_state text, band text)
    LANGUAGE plpgsql_as_owner STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT m.network, m.address, m.rank, m.matched, m.label, m.category, m.source, p.risk_score, p.risk_state, h.band
      FROM (SELECT w.* FROM arx.wallet_matches($1, $2, 10000) AS w
             ORDER BY w.rank DESC, w.network, w.address LIMIT arx.require_limit($3)) AS m
      LEFT JOIN arx.wallet_profiles AS p ON p.wallet_address = m.address AND p.network_type = m.network
      LEFT JOIN LATERAL (SELECT x.band FROM arx.risk_score_history AS x
                          WHERE x.network = m.network AND x.address = m.address
                          ORDER BY x.scored_at DESC LIMIT 1) AS h ON true
     ORDER BY m.rank DESC, m.network, m.address;
END;
$$;

CREATE FUNCTION search_facets(query text, filters jsonb DEFAULT '{}')
    RETURNS TABLE (facet text, value text, wallets bigint)
    LANGUAGE plpgsql_as_owner STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH matches AS MATERIALIZED (
        SELECT m.network, m.category,
               (SELECT x.band FROM arx.risk_score_history AS x
                 WHERE x.network = m.network AND x.address = m.address
                 ORDER BY x.scored_at DESC LIMIT 1) AS band
          FROM arx.wallet_matches($1, $2, NULL) AS m
    )
    SELECT f.facet, f.value, count(*)
      FROM matches AS m
     CROSS JOIN LATERAL (VALUES ('network', m.network), ('category', m.category), ('band', m.band)) AS f (facet, value)
     GROUP BY f.facet, f.value
     ORDER BY f.facet, count(*) DESC, f.value;
END;
$$;

CREATE FUNCTION create_search_indexes() RETURNS TABLE (index_name text, state text)
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
#variable_conflict use_column
DECLARE
    wanted  record;
    trigram text := (SELECT n.nspname FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace
                      WHERE e.extname = 'pg_trgm');
BEGIN
    FOR wanted IN
        SELECT * FROM (VALUES
            ('idx_address_labels_words', 'arx.address_labels', 'to_tsvector(''simple'', label)', false),
            ('idx_address_labels_address_trgm', 'arx.address_labels', 'address', true),
            ('idx_address_labels_label_trgm', 'arx.address_labels', 'label', true),
            ('idx_wallet_profiles_words', 'arx.wallet_profiles',
             'jsonb_to_tsvector(''simple'', analytics_profile, ''["string"]'')', false),
            ('idx_wallet_profiles_address_trgm', 'arx.wallet_profiles', 'wallet_address', true)
        ) AS w (name, relation, expression, is_trigram)
    LOOP
        index_name := wanted.name;
        IF to_regclass('arx.' || wanted.name) IS NOT NULL THEN
            state := 'present';
        ELSIF wanted.is_trigram AND trigram IS NULL THEN
            state := 'needs pg_trgm';
        ELSE
            EXECUTE format('CREATE INDEX %I ON %s USING gin (%s)', wanted.name, wanted.relation,
                           CASE WHEN wanted.is_trigram THEN format('%I %I.gin_trgm_ops', wanted.expression, trigram)
                                ELSE wanted.expression END);
            state := 'created';
        END IF;
        RETURN NEXT;
    END LOOP;
END;
$$;
