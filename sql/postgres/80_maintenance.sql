-- Maintenance of indexes.

-- The bloat of a btree is estimated from the size that its rows need, as pgsql-bloat-estimation
-- does, without its alignment padding. Rewriting pays only above 128 pages and a gain of more than
-- 40 %.
CREATE FUNCTION index_maintenance_plan()
    RETURNS TABLE (index_name text, table_name text, action text, reason text, size_bytes bigint, gain_bytes bigint,
                   statement text)
    LANGUAGE sql STABLE PARALLEL RESTRICTED SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
WITH indexes AS (
    SELECT i.indexrelid, i.indrelid, i.indisvalid, i.indisready, i.indisunique, c.relname, n.nspname,
           t.relname AS table_relname,
           c.relpages, c.reltuples, a.amname, pg_relation_size(c.oid) AS bytes, coalesce(s.idx_scan, 0) AS scans,
           (SELECT sum(coalesce(st.avg_width, 8) * (1 - coalesce(st.null_frac, 0)))
              FROM pg_attribute AS k
              LEFT JOIN pg_stats AS st
                ON st.schemaname = n.nspname AND st.tablename = t.relname AND st.attname = k.attname
             WHERE k.attrelid = c.oid) AS width
      FROM pg_index AS i
      JOIN pg_class AS c ON c.oid = i.indexrelid AND c.relkind = 'i'
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
      JOIN pg_class AS t ON t.oid = i.indrelid
      JOIN pg_am AS a ON a.oid = c.relam
      LEFT JOIN pg_stat_all_indexes AS s ON s.indexrelid = i.indexrelid
     WHERE n.nspname = 'arx'
), sized AS (
    SELECT x.*, current_setting('block_size')::bigint AS block,
           -- A key has a line pointer and a tuple header; pages are filled to nine tenths.
           ceil(greatest(x.reltuples, 0) * (coalesce(x.width, 8) + 12)
                / (0.9 * (current_setting('block_size')::numeric - 40))) + 1 AS ideal_pages
      FROM indexes AS x
)
SELECT format('%I.%I', z.nspname, z.relname), format('%I.%I', z.nspname, z.table_relname), p.action, p.reason, z.bytes,
       CASE p.action WHEN 'reindex' THEN greatest(z.bytes - (z.ideal_pages * z.block)::bigint, 0)
                     WHEN 'review' THEN z.bytes ELSE 0 END,
       p.statement
  FROM sized AS z
 CROSS JOIN LATERAL (
    SELECT 'rebuild' AS action, 'index is not valid: an earlier concurrent build was interrupted' AS reason,
           format('REINDEX INDEX CONCURRENTLY %I.%I', z.nspname, z.relname) AS statement
     WHERE NOT z.indisvalid
    UNION ALL
    SELECT 'reindex',
           format('about %s %% of %s pages are bloat', round(100 * (1 - z.ideal_pages / z.relpages)), z.relpages),
           format('REINDEX INDEX CONCURRENTLY %I.%I', z.nspname, z.relname)
     WHERE z.indisvalid AND z.amname = 'btree' AND z.relpages > 128 AND z.ideal_pages < 0.6 * z.relpages
       AND z.reltuples >= 0
    UNION ALL
    SELECT 'review', 'never scanned since statistics were reset; it may be unnecessary', NULL
     WHERE z.indisvalid AND z.scans = 0 AND NOT z.indisunique AND z.relpages > 128
 ) AS p
 ORDER BY p.action, z.bytes DESC, z.relname
$$;

CREATE FUNCTION maintain_indexes() RETURNS bigint
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    step    record;
    waiting bigint := 0;
BEGIN
    FOR step IN SELECT * FROM arx.index_maintenance_plan() LOOP
        RAISE NOTICE '% %: %', step.action, step.index_name, step.reason
            USING HINT = coalesce(step.statement, 'Drop it if no query needs it.');
        waiting := waiting + (step.statement IS NOT NULL)::integer;
    END LOOP;
    RETURN waiting;
END;
$$;
