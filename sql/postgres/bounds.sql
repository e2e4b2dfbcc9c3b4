-- Reading partition bounds out of the catalog.
CREATE FUNCTION parse_range_bound(expression text, OUT range_from timestamptz, OUT range_to timestamptz)
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    bounds text[] := regexp_match(expression, '^FOR VALUES FROM \(''?([^'')]+)''?\) TO \(''?([^'')]+)''?\)$');
BEGIN
    -- the server prints bounds in the session's time zone with its offset, so the cast back is exact
    range_from := CASE WHEN bounds[1] = 'MINVALUE' THEN '-infinity' ELSE bounds[1] END;
    range_to := CASE WHEN bounds[2] = 'MAXVALUE' THEN 'infinity' ELSE bounds[2] END;
END;
$$;
