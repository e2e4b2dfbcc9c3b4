-- Slow queries, and advice on one query.

-- By mean time, of this database. The extension shows other roles' texts only to
-- pg_read_all_stats.
CREATE FUNCTION slow_queries("limit" integer DEFAULT 10, min_calls bigint DEFAULT 1)
    RETURNS TABLE (query text, calls bigint, total_time double precision, mean_time double precision, rows bigint,
                   hit_percent numeric, share_percent numeric, role name, queryid bigint)
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    of_extension name := (SELECT n.nspname FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace
                           WHERE e.extname = 'pg_stat_statements');
BEGIN
    PERFORM arx.require_limit($1);
    IF of_extension IS NULL THEN
        RAISE EXCEPTION 'pg_stat_statements is not installed in database "%"', current_database()
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Add pg_stat_statements to shared_preload_libraries, restart, and run CREATE EXTENSION pg_stat_statements.';
    END IF;
    RETURN QUERY EXECUTE format(
        'SELECT s.query, s.calls, s.total_exec_time, s.mean_exec_time, s.rows,'
        ' round(100.0 * s.shared_blks_hit / nullif(s.shared_blks_hit + s.shared_blks_read, 0), 2),'
        ' round((100 * s.total_exec_time / nullif(sum(s.total_exec_time) OVER (), 0))::numeric, 2), r.rolname, s.queryid'
        ' FROM %I.pg_stat_statements AS s JOIN pg_database AS d ON d.oid = s.dbid LEFT JOIN pg_roles AS r ON r.oid = s.userid'
        ' WHERE d.datname = current_database() AND s.calls >= $2 ORDER BY s.mean_exec_time DESC, s.queryid LIMIT $1',
        of_extension) USING $1, $2;
END;
$$;

-- Plans the query and does not run it. Names in it need their schema.
CREATE FUNCTION explain_advice(query text) RETURNS TABLE (problem text, object text, cause text, statement text)
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
#variable_conflict use_column
DECLARE
    plan    json;
    planned refcursor;
BEGIN
    IF $1 IS NULL THEN
        RAISE EXCEPTION 'query must not be null' USING ERRCODE = 'null_value_not_allowed';
    ELSIF octet_length($1) > 1000000 THEN
        RAISE EXCEPTION 'query has % bytes, more than 1000000', octet_length($1)
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF (SELECT r.rolsuper FROM pg_roles AS r WHERE r.rolname = current_user) THEN
        RAISE EXCEPTION 'a superuser may not plan a query here'
            USING ERRCODE = 'insufficient_privilege',
                  DETAIL = 'Planning runs expressions of indexes and statistics, which the owners of the tables wrote, as the caller.',
                  HINT = 'SET ROLE to a role that may run the query.';
    END IF;
    -- The text is the caller's statement, with the caller's rights. A cursor takes one statement,
    -- so nothing can follow the EXPLAIN, and options in parentheses leave no room for ANALYZE.
    OPEN planned FOR EXECUTE 'EXPLAIN (VERBOSE, FORMAT JSON) ' || $1;
    FETCH planned INTO plan;
    CLOSE planned;
    RETURN QUERY
    WITH RECURSIVE nodes AS (
        SELECT (plan -> 0 -> 'Plan')::jsonb AS node
        UNION ALL
        SELECT p.node FROM nodes AS n CROSS JOIN LATERAL jsonb_array_elements(n.node -> 'Plans') AS p (node)
    ), scans AS (
        SELECT n.node ->> 'Node Type' AS kind, c.oid, c.reltuples, n.node ->> 'Filter' AS filter,
               (n.node ->> 'Plan Rows')::double precision AS rows,
               coalesce((SELECT a.relid FROM pg_partition_ancestors(c.oid) WITH ORDINALITY AS a (relid, step)
                          ORDER BY a.step DESC LIMIT 1), c.oid) AS root
          FROM nodes AS n
          JOIN pg_namespace AS s ON s.nspname = n.node ->> 'Schema'
          JOIN pg_class AS c ON c.relnamespace = s.oid AND c.relname = n.node ->> 'Relation Name'
    ), pruned AS (
        SELECT s.root, count(DISTINCT s.oid) AS scanned,
               (SELECT count(*) FROM pg_partition_tree(s.root) AS t WHERE t.isleaf) AS leaves
          FROM scans AS s JOIN pg_class AS c ON c.oid = s.root
         WHERE c.relkind = 'p' GROUP BY s.root
    ), filtered AS (
        SELECT s.root, sum(s.reltuples) AS tuples, sum(s.rows) AS rows
          FROM scans AS s WHERE s.kind = 'Seq Scan' AND s.filter IS NOT NULL GROUP BY s.root
    ), compared AS (
        -- Columns that the filters compare with =, except for those with few values.
        SELECT s.root, array_agg(DISTINCT a.attname) AS columns
          FROM scans AS s
          JOIN pg_attribute AS a ON a.attrelid = s.root AND a.attnum > 0 AND NOT a.attisdropped
         WHERE s.kind = 'Seq Scan'
           AND s.filter ~ ('[(. ]' || regexp_replace(a.attname, '(\W)', '\\\1', 'g') || '\)?(::\w+)? = ')
           AND NOT EXISTS (SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
                             JOIN pg_stats AS d ON d.schemaname = n.nspname AND d.tablename = c.relname
                            WHERE c.oid = s.root AND d.attname = a.attname AND d.n_distinct BETWEEN 0 AND 20)
         GROUP BY s.root
    ), advice AS (
        SELECT 1 AS priority, 'missing index' AS problem, f.root,
               format('%s rows are read for %s that match', round(f.tuples), round(f.rows)) AS cause,
               format('CREATE INDEX ON %s (%s);', f.root::regclass,
                      (SELECT string_agg(quote_ident(k), ', ') FROM unnest(c.columns) AS k)) AS statement
          FROM filtered AS f JOIN compared AS c USING (root)
         WHERE f.tuples >= 10000 AND f.rows < f.tuples / 20
           AND NOT EXISTS (SELECT FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
                            WHERE i.indrelid = f.root AND i.indisvalid AND a.attname = ANY (c.columns))
        UNION ALL
        SELECT 2, 'partitions not pruned', p.root, format('all %s partitions are read', p.leaves),
               format('-- Add a condition on %s, with constants or parameters.',
                      regexp_replace(pg_get_partkeydef(p.root), '^\w+ ', ''))
          FROM pruned AS p WHERE p.leaves >= 3 AND p.scanned = p.leaves
        UNION ALL
        SELECT 3, 'stale statistics', t.relid,
               CASE WHEN t.last_analyze IS NULL AND t.last_autoanalyze IS NULL THEN 'never analysed'
                    ELSE format('%s rows have changed since the last analysis', t.n_mod_since_analyze) END,
               format('ANALYZE %s;', t.relid::regclass)
          FROM (SELECT DISTINCT s.oid FROM scans AS s) AS s
          JOIN pg_stat_user_tables AS t ON t.relid = s.oid
          JOIN pg_class AS c ON c.oid = t.relid
         WHERE t.n_mod_since_analyze > 1000 + greatest(c.reltuples, 0) / 5
        UNION ALL
        SELECT 4, 'JIT compilation', NULL,
               format('the plan''s cost is above jit_above_cost (%s)', current_setting('jit_above_cost')), 'SET LOCAL jit = off;'
         WHERE current_setting('jit')::boolean AND current_setting('jit_above_cost')::double precision >= 0
           AND (plan #>> '{0,Plan,Total Cost}')::double precision > current_setting('jit_above_cost')::double precision
    )
    SELECT a.problem, a.root::regclass::text, a.cause, a.statement
      FROM advice AS a ORDER BY a.priority, a.root::regclass::text;
END;
$$;
