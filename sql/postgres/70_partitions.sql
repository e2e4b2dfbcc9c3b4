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
    expression text := (SELECT pg_get_expr(c.relpartbound, 0) FROM pg_class AS c
                         WHERE c.oid = partition_range.partition);
    bounds     text[] := regexp_match(expression, '^FOR VALUES FROM \(''?([^'')]+)''?\) TO \(''?([^'')]+)''?\)$');
BEGIN
    is_default := expression = 'DEFAULT';
    range_from := CASE WHEN bounds[1] = 'MINVALUE' THEN '-infinity' ELSE bounds[1] END;
    range_to := CASE WHEN bounds[2] = 'MAXVALUE' THEN 'infinity' ELSE bounds[2] END;
END;
$$;

