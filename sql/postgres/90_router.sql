-- The catalogue of analytics queries in SQL: their answers, and how a store is chosen. The sidecar
-- answers the same queries over HTTP from whichever store fits.

CREATE FUNCTION run_query(name text, parameters jsonb) RETURNS SETOF jsonb
    LANGUAGE plpgsql_as_owner STABLE PARALLEL SAFE ROWS 100
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    AS $$
DECLARE
    request record;
BEGIN
    SELECT * INTO request FROM arx.resolve_query($1, $2, (now() AT TIME ZONE 'UTC')::date);
    -- The statement is one of ARX's own; all input is in its parameters.
    RETURN QUERY EXECUTE format('SELECT to_jsonb(q) FROM (%s) AS q', request.statement)
        USING request.network, request.address, request.token, (request.first_day || ' 00:00+00')::timestamptz,
              (request.end_day || ' 00:00+00')::timestamptz, request.row_limit;
END;
$$;

-- The planner overestimates what is new since a snapshot, and would scan the tables.
CREATE FUNCTION transfers_changed(since pg_snapshot, epoch bigint) RETURNS boolean
    LANGUAGE plpgsql_as_owner STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    SET jit = off
    AS $$
BEGIN
    RETURN $2 IS DISTINCT FROM arx.current_graph_epoch()
        OR EXISTS (SELECT FROM arx.transactions AS t WHERE arx.is_new_since(t.ingest_xid, $1))
        OR EXISTS (SELECT FROM arx.internal_transfers AS t WHERE arx.is_new_since(t.ingest_xid, $1))
        OR EXISTS (SELECT FROM arx.token_transfers AS t WHERE arx.is_new_since(t.ingest_xid, $1))
        OR EXISTS (SELECT FROM arx.transaction_changes AS c WHERE arx.is_new_since(c.changed_xid, $1));
END;
$$;

-- Costs are in PostgreSQL's units. ClickHouse's is a request and its rows, which take a tenth of
-- PostgreSQL's time each.
CREATE FUNCTION route_explain(name text, parameters jsonb)
    RETURNS TABLE (store text, chosen boolean, eligible boolean, reason text, exactness text, estimated_rows bigint,
                   estimated_cost double precision, "position" pg_snapshot, age interval)
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE ROWS 3
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    AS $$
#variable_conflict use_column
DECLARE
    request record;
    fed     record;
    plan    json;
    wanted  pg_snapshot;
    read    bigint;
    cost    double precision;
    moved   boolean;
    problem text;
    answers bigint;
BEGIN
    SELECT * INTO request FROM arx.resolve_query($1, $2, (now() AT TIME ZONE 'UTC')::date);
    BEGIN
        wanted := request.not_older_than::pg_snapshot;
    EXCEPTION WHEN invalid_text_representation THEN
        RAISE EXCEPTION 'invalid value "%" for parameter not_older_than: a pg_snapshot such as 10:20:10,14',
                        left(request.not_older_than, 60)
            USING ERRCODE = 'invalid_parameter_value';
    END;
    EXECUTE 'EXPLAIN (FORMAT JSON) ' || request.statement INTO plan
        USING request.network, request.address, request.token, (request.first_day || ' 00:00+00')::timestamptz,
              (request.end_day || ' 00:00+00')::timestamptz, request.row_limit;
    cost := (plan #>> '{0,Plan,Total Cost}')::double precision;
    WITH RECURSIVE nodes AS (
        SELECT (plan -> 0 -> 'Plan')::jsonb AS node
        UNION ALL
        SELECT p.node FROM nodes AS n CROSS JOIN LATERAL jsonb_array_elements(n.node -> 'Plans') AS p (node)
    )
    SELECT coalesce(sum((n.node ->> 'Plan Rows')::double precision), 0)::bigint INTO read
      FROM nodes AS n WHERE n.node ? 'Relation Name';

    SELECT p.*, now() - p.updated_at AS since,
           EXISTS (SELECT FROM arx.feed_rejects AS r WHERE r.consumer = p.consumer) AS lacks_rows
      INTO fed FROM arx.feed_positions AS p WHERE p.consumer = 'clickhouse';
    IF fed.position IS NOT NULL THEN
        moved := arx.transfers_changed(fed.position, fed.epoch);
    END IF;
    problem := CASE
        WHEN request.clickhouse IS NULL THEN 'the query has no form for ClickHouse'
        WHEN fed.position IS NULL THEN 'the feed has not loaded ClickHouse'
        WHEN fed.system_identifier IS DISTINCT FROM (SELECT c.system_identifier FROM pg_control_system() AS c)
             OR fed.database_oid IS DISTINCT FROM (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
            THEN 'the feed''s position is that of another database'
        WHEN moved AND request.max_age < extract(epoch FROM fed.since)
            THEN format('PostgreSQL has changed since the position, which is %s s old', round(extract(epoch FROM fed.since)))
        -- The transactions that a snapshot takes for finished only grow.
        WHEN moved AND (SELECT s.finished[1] < s.finished[2]
                          FROM (SELECT array_agg(pg_snapshot_xmax(x.snapshot)::text::numeric
                                                 - (SELECT count(*) FROM pg_snapshot_xip(x.snapshot)) ORDER BY x.position)
                                  FROM (VALUES (1, fed.position), (2, wanted)) AS x (position, snapshot)) AS s (finished))
            THEN 'the feed has not reached the snapshot of not_older_than'
        WHEN request.exact AND request.clickhouse LIKE 'lacks %' THEN request.clickhouse
        WHEN request.exact AND fed.lacks_rows THEN 'rows that ClickHouse cannot hold are in arx.feed_rejects'
        WHEN request.exact AND fed.attempt <> fed.confirmed THEN 'a pass of the feed is under way'
    END;
    -- Days are stored as numbers.
    answers := CASE WHEN $1 = 'network_totals' THEN request.end_day::date - request.first_day::date ELSE read END;
    RETURN QUERY
    WITH stores AS (
        SELECT 'postgresql' AS store, true AS eligible, 'holds the facts' AS reason, 'exact' AS exactness, read AS read,
               cost AS cost, pg_current_snapshot() AS position, interval '0' AS age
        UNION ALL
        SELECT 'clickhouse', problem IS NULL, coalesce(problem, 'the feed has what was asked for'), request.clickhouse,
               CASE WHEN request.clickhouse IS NOT NULL THEN answers END,
               CASE WHEN request.clickhouse IS NOT NULL THEN 1000 + 0.001 * answers END, fed.position,
               CASE WHEN moved THEN fed.since WHEN NOT moved THEN interval '0' END
        UNION ALL
        SELECT 'redis', NULL, format('the sidecar knows what it keeps: GET /v1/query/%s/explain', $1),
               'exact if the store was', NULL, NULL, NULL, NULL
    )
    SELECT s.store,
           coalesce(s.eligible AND s.cost = min(s.cost) FILTER (WHERE s.eligible) OVER (), false), s.eligible, s.reason,
           s.exactness, s.read, s.cost, s.position, s.age
      FROM stores AS s ORDER BY array_position('{postgresql,clickhouse,redis}', s.store);
END;
$$;
