-- Maintenance of indexes.

-- The share of the leaf pages of a btree that is filled, measured by pgstattuple; NULL without that
-- extension. It reads the whole index.
CREATE FUNCTION measured_density(index oid) RETURNS double precision
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    -- Only the function that belongs to the extension.
    measure regprocedure := (SELECT d.objid FROM pg_depend AS d
                               JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'pgstattuple'
                               JOIN pg_proc AS p ON p.oid = d.objid AND p.proname = 'pgstatindex'
                                                AND p.proargtypes[0] = 'regclass'::regtype
                              WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_extension'::regclass
                                AND d.deptype = 'e' LIMIT 1);
    density double precision;
BEGIN
    IF measure IS NOT NULL THEN
        EXECUTE format('SELECT avg_leaf_density FROM %s($1)', measure::oid::regproc) INTO density USING measured_density.index::regclass;
    END IF;
    RETURN density / 100;
END;
$$;

-- Pages that the rows of a btree need. A key has a line pointer and a tuple header; pages are
-- filled to nine tenths.
CREATE FUNCTION index_pages_needed(index oid) RETURNS numeric
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    RETURN (
        SELECT ceil(greatest(c.reltuples, 0) * (coalesce(w.width, 8) + 12)
                    / (0.9 * (current_setting('block_size')::numeric - 40))) + 1
          FROM pg_class AS c
          JOIN pg_index AS i ON i.indexrelid = c.oid
         CROSS JOIN LATERAL (
            -- The statistics of an expression are not read.
            SELECT sum(coalesce(s.stawidth, 8) * (1 - coalesce(s.stanullfrac, 0))) AS width
              FROM pg_attribute AS k
              LEFT JOIN pg_attribute AS t ON t.attrelid = i.indrelid AND t.attname = k.attname
              LEFT JOIN pg_statistic AS s ON s.starelid = i.indrelid AND s.staattnum = t.attnum AND NOT s.stainherit
             WHERE k.attrelid = c.oid) AS w
         WHERE c.oid = index);
END;
$$;

-- The bloat of a btree is estimated from the size that its rows need, as pgsql-bloat-estimation
-- does, without its alignment padding. Where the estimate is high and pgstattuple is installed, it
-- is measured, up to 1 GB. Rewriting pays only above 128 pages and a gain of more than 40 %.
CREATE FUNCTION index_maintenance_plan()
    RETURNS TABLE (index_name text, table_name text, action text, reason text, size_bytes bigint, gain_bytes bigint,
                   statement text)
    LANGUAGE sql STABLE PARALLEL RESTRICTED SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
WITH indexes AS (
    SELECT i.indexrelid, i.indrelid, i.indisvalid, i.indisready, i.indisunique, i.indkey::text AS keys,
           i.indnkeyatts = i.indnatts AS has_no_include,
           -- Two similar indexes have this in common, beyond their columns.
           concat_ws(' ', i.indexprs::text, i.indpred::text, i.indisunique AND NOT i.indimmediate) AS other,
           concat_ws('/', i.indclass::text, i.indcollation::text, i.indoption::text) AS order_by,
           EXISTS (SELECT FROM pg_constraint AS k WHERE k.conindid = i.indexrelid) AS is_constraint,
           c.relname, n.nspname,
           t.relname AS table_relname,
           c.relpages, c.reltuples, a.amname, pg_relation_size(c.oid) AS bytes, coalesce(s.idx_scan, 0) AS scans,
           CASE WHEN c.relpages > 128 THEN arx.index_pages_needed(c.oid) END AS estimated_pages
      FROM pg_index AS i
      JOIN pg_class AS c ON c.oid = i.indexrelid AND c.relkind = 'i'
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
      JOIN pg_class AS t ON t.oid = i.indrelid
      JOIN pg_am AS a ON a.oid = c.relam
      LEFT JOIN pg_stat_all_indexes AS s ON s.indexrelid = i.indexrelid
     WHERE n.nspname = 'arx'
), estimated AS (
    SELECT x.*, current_setting('block_size')::bigint AS block FROM indexes AS x
), measured AS MATERIALIZED (
    SELECT e.*, m.density, coalesce(ceil(m.density / 0.9 * e.relpages)::numeric, e.estimated_pages) AS ideal_pages
      FROM estimated AS e
     CROSS JOIN LATERAL (
        SELECT CASE WHEN e.indisvalid AND e.amname = 'btree' AND e.relpages BETWEEN 129 AND 131072 AND e.reltuples >= 0
                         AND e.estimated_pages < 0.7 * e.relpages THEN arx.measured_density(e.indexrelid) END
     ) AS m (density)
), similar_indexes AS MATERIALIZED (
    SELECT DISTINCT ON (z.indexrelid) z.indexrelid, k.action, k.reason, d.relname AS other
      FROM measured AS z
      JOIN measured AS d ON d.indrelid = z.indrelid AND d.indexrelid <> z.indexrelid AND d.amname = z.amname
                     AND d.indisvalid AND z.indisvalid AND d.other = z.other
     CROSS JOIN LATERAL (
        -- One of two equal indexes is not needed, unless both belong to constraints.
        SELECT 'duplicate', 'same as'
         WHERE (d.keys, d.order_by) = (z.keys, z.order_by) AND NOT z.is_constraint AND d.indisunique >= z.indisunique
           AND (d.is_constraint, d.indisunique, -d.indexrelid::bigint) > (z.is_constraint, z.indisunique, -z.indexrelid::bigint)
        UNION ALL
        SELECT 'redundant', 'its columns are the first of'
         WHERE z.amname = 'btree' AND z.has_no_include AND NOT z.indisunique AND z.other !~ '[{]'
           AND starts_with(d.keys, z.keys || ' ')
           AND starts_with(split_part(d.order_by, '/', 1), split_part(z.order_by, '/', 1) || ' ')
           AND starts_with(split_part(d.order_by, '/', 2), split_part(z.order_by, '/', 2) || ' ')
           AND starts_with(split_part(d.order_by, '/', 3), split_part(z.order_by, '/', 3) || ' ')
     ) AS k (action, reason)
     ORDER BY z.indexrelid, k.action, d.indexrelid
)
SELECT format('%I.%I', z.nspname, z.relname), format('%I.%I', z.nspname, z.table_relname), p.action, p.reason, z.bytes,
       CASE p.action WHEN 'reindex' THEN greatest(z.bytes - (z.ideal_pages * z.block)::bigint, 0)
                     WHEN 'rebuild' THEN 0 ELSE z.bytes END,
       p.statement
  FROM measured AS z
 CROSS JOIN LATERAL (
    SELECT 'rebuild' AS action, 'index is not valid: an earlier concurrent build was interrupted' AS reason,
           format('REINDEX INDEX CONCURRENTLY %I.%I', z.nspname, z.relname) AS statement
     WHERE NOT z.indisvalid AND z.relname !~ '_cc(new|old)[0-9]*$'
    UNION ALL
    SELECT 'drop', 'an interrupted REINDEX CONCURRENTLY has left it behind',
           format('DROP INDEX CONCURRENTLY %I.%I', z.nspname, z.relname)
     WHERE NOT z.indisvalid AND z.relname ~ '_cc(new|old)[0-9]*$'
    UNION ALL
    SELECT 'reindex',
           format('%s%s %% of %s pages are bloat', CASE WHEN z.density IS NULL THEN 'about ' ELSE '' END,
                  round(100 * (1 - z.ideal_pages / z.relpages)), z.relpages)
               || CASE WHEN z.density IS NULL THEN '' ELSE ', measured' END,
           format('REINDEX INDEX CONCURRENTLY %I.%I', z.nspname, z.relname)
     WHERE z.indisvalid AND z.amname = 'btree' AND z.relpages > 128 AND z.ideal_pages < 0.6 * z.relpages
       AND z.reltuples >= 0
    UNION ALL
    SELECT 'review', 'never scanned since statistics were reset; it may be unnecessary', NULL
     WHERE z.indisvalid AND z.scans = 0 AND NOT z.indisunique AND z.relpages > 128
    UNION ALL
    SELECT m.action, format('%s %I; DROP INDEX CONCURRENTLY %I.%I gives its space back', m.reason, m.other, z.nspname, z.relname),
           NULL
      FROM similar_indexes AS m WHERE m.indexrelid = z.indexrelid
 ) AS p
UNION ALL
-- A delete of a referenced row reads the whole table that refers to it.
SELECT NULL, format('%I.%I', n.nspname, t.relname), 'missing',
       format('foreign key %I has no index that begins with its columns; CREATE INDEX CONCURRENTLY ON %I.%I (%s) helps',
              f.conname, n.nspname, t.relname,
              (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY k.position)
                 FROM unnest(f.conkey) WITH ORDINALITY AS k (attnum, position)
                 JOIN pg_attribute AS a ON a.attrelid = f.conrelid AND a.attnum = k.attnum)),
       0, 0, NULL
  FROM pg_constraint AS f
  JOIN pg_class AS t ON t.oid = f.conrelid
  JOIN pg_namespace AS n ON n.oid = t.relnamespace
 WHERE f.contype = 'f' AND f.conparentid = 0 AND n.nspname = 'arx'
   AND NOT EXISTS (SELECT FROM pg_index AS i
                    WHERE i.indrelid = f.conrelid AND i.indisvalid AND i.indpred IS NULL
                      AND (SELECT array_agg(k ORDER BY k) FROM unnest((i.indkey::smallint[])[0:cardinality(f.conkey) - 1]) AS k)
                          = (SELECT array_agg(k ORDER BY k) FROM unnest(f.conkey) AS k))
 ORDER BY 3, 5 DESC, 1, 4
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
        RAISE NOTICE '% %: %', step.action, coalesce(step.index_name, step.table_name), step.reason
            USING HINT = coalesce(step.statement,
                                  CASE step.action WHEN 'missing' THEN 'Create one if rows are deleted that others refer to.'
                                                   ELSE 'Drop it if no query needs it.' END);
        waiting := waiting + (step.statement IS NOT NULL)::integer;
    END LOOP;
    RETURN waiting;
END;
$$;
