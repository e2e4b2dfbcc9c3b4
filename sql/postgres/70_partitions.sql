-- Partitions: policies are rows of a table, arx.partition_plan() makes plans from them, and
-- arx.manage_partitions() and the like carry them out: see pg_ext/src/spi/partition.

-- The server prints bounds in the style and the zone of the session, and such text may mean another
-- time when it is read: IST and CST are several zones. So it is printed and read here, under the
-- settings of this function.
CREATE FUNCTION partition_range(
    partition regclass, OUT is_default boolean, OUT range_from timestamptz, OUT range_to timestamptz
)
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    SET datestyle = 'ISO, YMD'
    SET timezone = 'UTC'
    AS $$
DECLARE
    expression text := (SELECT pg_get_expr(c.relpartbound, c.oid) FROM pg_class AS c
                         WHERE c.oid = partition_range.partition);
    bounds     text[] := regexp_match(expression, '^FOR VALUES FROM \(''?([^'')]+)''?\) TO \(''?([^'')]+)''?\)$');
BEGIN
    is_default := expression = 'DEFAULT';
    range_from := CASE WHEN bounds[1] = 'MINVALUE' THEN '-infinity' ELSE bounds[1] END;
    range_to := CASE WHEN bounds[2] = 'MAXVALUE' THEN 'infinity' ELSE bounds[2] END;
END;
$$;

-- A user's row takes precedence over the one that ARX ships, and is the one that pg_dump carries.
CREATE TABLE partition_policies (
    relation         text NOT NULL CHECK (relation IN ('arx.transactions', 'arx.token_transfers')),
    builtin          boolean NOT NULL DEFAULT false,
    premake          integer NOT NULL DEFAULT 3 CHECK (premake BETWEEN 0 AND 120),
    retention_months integer CHECK (retention_months BETWEEN 1 AND 2400),
    retention_mode   text NOT NULL DEFAULT 'detach' CHECK (retention_mode IN ('detach', 'drop')),
    PRIMARY KEY (relation, builtin)
);
COMMENT ON TABLE partition_policies IS
    'months created ahead and months kept; to change a policy, insert a row for the relation: it takes precedence';
INSERT INTO partition_policies (relation, builtin) VALUES ('arx.transactions', true), ('arx.token_transfers', true);

CREATE VIEW partition_status AS
SELECT parent.relation,
       format('%I.%I', n.nspname, c.relname) AS partition,
       b.is_default, b.range_from, b.range_to,
       greatest(c.reltuples, 0)::bigint AS estimated_rows,
       pg_total_relation_size(c.oid) AS total_bytes
  FROM (VALUES ('arx.transactions'), ('arx.token_transfers')) AS parent (relation)
  JOIN pg_inherits AS i ON i.inhparent = parent.relation::regclass
  JOIN pg_class AS c ON c.oid = i.inhrelid
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL arx.partition_range(c.oid) AS b
 ORDER BY parent.relation, b.is_default, b.range_from;
COMMENT ON VIEW partition_status IS 'partitions of the time-partitioned tables with bounds, estimated rows and size';
