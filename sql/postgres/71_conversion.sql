-- Making an ordinary table a partitioned one, and back, without copying it under a lock.
--
-- The table becomes the default partition of a new table that takes its place: that is a change of
-- the catalog alone, under one short lock. drain_default_partitions() then moves the rows, one
-- range a transaction, while others read and write. It can be interrupted and called again.

-- The obstacle to converting a table, or NULL.
CREATE FUNCTION conversion_obstacle(relation regclass, key name) RETURNS text
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    class record;
BEGIN
    SELECT c.relkind, c.relispartition, c.relpersistence, c.relrowsecurity, a.attnum, a.attnotnull INTO class
      FROM pg_class AS c LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = key AND a.attnum > 0
     WHERE c.oid = relation;
    RETURN CASE
        WHEN class.relkind IS DISTINCT FROM 'r' THEN 'it is not an ordinary table'
        WHEN class.relispartition THEN 'it is a partition'
        WHEN class.relpersistence <> 'p' THEN 'it is temporary or unlogged'
        WHEN class.relrowsecurity THEN 'it has row security, whose policies would not apply any more'
        WHEN class.attnum IS NULL THEN format('it has no column %I', key)
        WHEN NOT class.attnotnull THEN format('column %I may be null: rows without a key have no partition', key)
        WHEN EXISTS (SELECT FROM pg_inherits AS i WHERE relation IN (i.inhrelid, i.inhparent)) THEN 'it inherits, or is inherited from'
        ELSE coalesce(
            (SELECT format('index %s is unique without column %I', i.indexrelid::regclass, key) FROM pg_index AS i
              WHERE i.indrelid = relation AND i.indisunique AND class.attnum <> ALL (i.indkey::smallint[]) LIMIT 1),
            (SELECT format('table %s refers to it', f.conrelid::regclass) FROM pg_constraint AS f
              WHERE f.confrelid = relation AND f.contype = 'f' LIMIT 1),
            (SELECT format('constraint %I excludes rows', x.conname) FROM pg_constraint AS x
              WHERE x.conrelid = relation AND x.contype = 'x' LIMIT 1),
            (SELECT format('view %s reads it', r.ev_class::regclass)
               FROM pg_depend AS d JOIN pg_rewrite AS r ON r.oid = d.objid
              WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = relation
                AND r.ev_class <> relation LIMIT 1),
            (SELECT format('column %I is an identity: give it a sequence as default', a.attname) FROM pg_attribute AS a
              WHERE a.attrelid = relation AND a.attidentity <> '' AND NOT a.attisdropped LIMIT 1),
            (SELECT format('publication %I holds it', p.pubname) FROM pg_publication_rel AS r
               JOIN pg_publication AS p ON p.oid = r.prpubid WHERE r.prrelid = relation LIMIT 1))
    END;
END;
$$;

-- Statements that give a table what another one has beyond its columns: privileges, comment, owned
-- sequences, foreign keys (which end with `suffix`) and triggers. They hold %1$s for its name.
CREATE FUNCTION conversion_extras(relation regclass, suffix text) RETURNS text[]
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    RETURN ARRAY(
        SELECT format('GRANT %s ON TABLE %%1$s TO %s%s', a.privilege_type,
                      CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE replace(a.grantee::regrole::text, '%', '%%') END,
                      CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
          FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS a
         WHERE c.oid = conversion_extras.relation AND a.grantee <> c.relowner)
        || ARRAY(
        SELECT format('COMMENT ON TABLE %%1$s IS %s', replace(quote_literal(d.description), '%', '%%'))
          FROM pg_description AS d
         WHERE d.classoid = 'pg_class'::regclass AND d.objoid = conversion_extras.relation AND d.objsubid = 0)
        || ARRAY(
        SELECT format('ALTER SEQUENCE %s OWNED BY %%1$s.%I', d.objid::regclass, a.attname)
          FROM pg_depend AS d
          JOIN pg_class AS s ON s.oid = d.objid AND s.relkind = 'S'
          JOIN pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
         WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
           AND d.refobjid = conversion_extras.relation AND d.deptype = 'a')
        || ARRAY(
        -- The key that the default partition has already is not checked again.
        SELECT format('ALTER TABLE %%1$s ADD CONSTRAINT %s %s', replace(quote_ident(f.conname), '%', '%%'),
                      replace(pg_get_constraintdef(f.oid), '%', '%%') || conversion_extras.suffix)
          FROM pg_constraint AS f
         WHERE f.conrelid = conversion_extras.relation AND f.contype = 'f' AND f.convalidated)
        || ARRAY(
        SELECT replace(pg_get_triggerdef(t.oid), '%', '%%') FROM pg_trigger AS t
         WHERE t.tgrelid = conversion_extras.relation AND NOT t.tgisinternal);
END;
$$;

-- Locks a table exclusively in attempts of 100 ms: others wait behind a request for a lock.
CREATE FUNCTION lock_in_attempts(relation regclass, mode text) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    began timestamptz := clock_timestamp();
BEGIN
    IF lock_in_attempts.mode NOT IN ('ACCESS EXCLUSIVE', 'SHARE ROW EXCLUSIVE') THEN
        RAISE EXCEPTION 'mode "%" is not known', lock_in_attempts.mode USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM set_config('lock_timeout', '100ms', true);
    LOOP
        BEGIN
            EXECUTE format('LOCK TABLE %s IN %s MODE', lock_in_attempts.relation, lock_in_attempts.mode);
            RETURN;
        EXCEPTION WHEN lock_not_available THEN
            IF clock_timestamp() > began + interval '30 seconds' THEN
                RAISE;
            END IF;
        END;
        PERFORM pg_sleep(0.2);
    END LOOP;
END;
$$;

-- Runs with the rights of the caller, who must own the table.
CREATE FUNCTION convert_table(
    relation regclass, key name, "interval" text, premake integer DEFAULT 3, retention text DEFAULT NULL,
    time_zone text DEFAULT 'UTC', epoch text DEFAULT NULL
) RETURNS regclass
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    obstacle  text;
    class     record;
    parent    regclass;
    rest      name;
    statement text;
    after     text[];
    began     timestamptz := clock_timestamp();
BEGIN
    IF convert_table.relation IS NULL OR convert_table.key IS NULL OR convert_table."interval" IS NULL THEN
        RAISE EXCEPTION 'relation, key and interval must not be null' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    SELECT n.nspname, c.relname, c.relowner::regrole AS owner, c.relowner, c.reltablespace INTO class
      FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = convert_table.relation;
    IF NOT pg_has_role(class.relowner, 'USAGE') THEN
        RAISE EXCEPTION 'must be owner of table %', convert_table.relation USING ERRCODE = 'insufficient_privilege';
    END IF;
    PERFORM arx.lock_in_attempts(convert_table.relation, 'ACCESS EXCLUSIVE');
    obstacle := arx.conversion_obstacle(convert_table.relation, key);
    IF obstacle IS NOT NULL THEN
        RAISE EXCEPTION 'table % cannot be partitioned: %', convert_table.relation, obstacle
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    after := arx.conversion_extras(convert_table.relation, '');
    FOR statement IN SELECT format('DROP TRIGGER %I ON %s', t.tgname, convert_table.relation) FROM pg_trigger AS t
                      WHERE t.tgrelid = convert_table.relation AND NOT t.tgisinternal LOOP
        EXECUTE statement;
    END LOOP;
    rest := left(class.relname, 55) || '_default';
    EXECUTE format('ALTER TABLE %s RENAME TO %I', convert_table.relation, rest);
    EXECUTE format('CREATE TABLE %I.%I (LIKE %I.%I INCLUDING ALL EXCLUDING STATISTICS) PARTITION BY RANGE (%I)',
                   class.nspname, class.relname, class.nspname, rest, key);
    parent := to_regclass(format('%I.%I', class.nspname, class.relname));
    EXECUTE format('ALTER TABLE %s OWNER TO %s', parent, class.owner);
    -- While the table is empty: a plan reads the rows of the default partition.
    PERFORM arx.manage_partitions(parent, convert_table."interval", premake, retention, time_zone => convert_table.time_zone,
                                  epoch => convert_table.epoch);
    EXECUTE format('ALTER TABLE %s ATTACH PARTITION %I.%I DEFAULT', parent, class.nspname, rest);
    FOREACH statement IN ARRAY after LOOP
        EXECUTE format(statement, parent);
    END LOOP;
    PERFORM arx.note_partition_event(parent, 'convert', format('%I.%I', class.nspname, rest), convert_table.relation, 'DEFAULT',
                                     NULL, NULL, 'called by hand', 'done', NULL, NULL, NULL, began);
    RETURN parent;
END;
$$;

-- The way back ------------------------------------------------------------------------------------

-- Notes the key of each row that changes while a table is copied.
CREATE FUNCTION capture_change() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        EXECUTE format('INSERT INTO %s (key) SELECT jsonb_build_array(%s)', TG_ARGV[0], TG_ARGV[1]) USING OLD;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        EXECUTE format('INSERT INTO %s (key) SELECT jsonb_build_array(%s)', TG_ARGV[0], TG_ARGV[1]) USING NEW;
    END IF;
    RETURN NULL;
END;
$$;

-- Copies a partitioned table into an ordinary one while others read and write, and puts it in its
-- place under one short lock. The partitioned table keeps its rows as `<name>_partitioned`. Rows
-- that change meanwhile are copied again. An interrupted call is resumed by the next.
CREATE PROCEDURE unpartition_table(relation regclass, batch integer DEFAULT 10000)
    LANGUAGE plpgsql
    AS $$
DECLARE
    class     record;
    plain     text;
    changes   text;
    columns   text;
    keys      text;
    key_types text;
    parts     regclass[];
    part      regclass;
    beyond    text;
    copied    bigint;
    statement text;
    after     text[];
    new_table regclass;
    began     timestamptz := pg_catalog.clock_timestamp();
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    IF arx.in_transaction_block() THEN
        RAISE EXCEPTION 'unpartition_table() commits after each batch, so it cannot run inside a transaction block'
            USING ERRCODE = 'active_sql_transaction';
    END IF;
    IF relation IS NULL OR batch IS NULL OR batch NOT BETWEEN 1 AND 1000000 THEN
        RAISE EXCEPTION 'relation must not be null, and batch must be between 1 and 1000000'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT n.nspname, c.relname, c.relowner, c.relkind, i.indexrelid, i.indkey INTO class
      FROM pg_class AS c
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
      LEFT JOIN pg_index AS i ON i.indrelid = c.oid AND i.indisprimary
     WHERE c.oid = relation;
    IF NOT pg_has_role(class.relowner, 'USAGE') THEN
        RAISE EXCEPTION 'must be owner of table %', relation USING ERRCODE = 'insufficient_privilege';
    ELSIF class.relkind <> 'p' OR class.indexrelid IS NULL THEN
        RAISE EXCEPTION 'table % is not a partitioned table with a primary key', relation USING ERRCODE = 'wrong_object_type';
    ELSIF EXISTS (SELECT FROM pg_constraint AS f WHERE f.confrelid = relation AND f.contype = 'f')
       OR EXISTS (SELECT FROM arx.watched_tables() AS w WHERE to_regclass('arx.' || quote_ident(w.name)) = relation) THEN
        RAISE EXCEPTION 'other tables, or ARX itself, refer to table %', relation
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    plain := format('%I.%I', class.nspname, left(class.relname, 50) || '_plain');
    changes := format('%I.%I', class.nspname, left(class.relname, 50) || '_plain_changes');
    SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) INTO columns
      FROM pg_attribute AS a
     WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '';
    SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY k.position),
           string_agg(format('(l.key ->> %s)::%s', k.position - 1, format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY k.position)
      INTO keys, key_types
      FROM unnest(class.indkey::smallint[]) WITH ORDINALITY AS k (attnum, position)
      JOIN pg_attribute AS a ON a.attrelid = relation AND a.attnum = k.attnum;
    IF to_regclass(changes) IS NULL THEN
        PERFORM arx.lock_in_attempts(relation, 'SHARE ROW EXCLUSIVE');
        EXECUTE format('CREATE TABLE %s (change bigserial PRIMARY KEY, key jsonb NOT NULL)', changes);
        EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING ALL)', plain, relation);
        EXECUTE format('CREATE TRIGGER arx_capture AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW '
                       'EXECUTE FUNCTION arx.capture_change(%L, %L)', relation, changes,
                       (SELECT string_agg('($1).' || quote_ident(a.attname), ', ' ORDER BY k.position)
                          FROM unnest(class.indkey::smallint[]) WITH ORDINALITY AS k (attnum, position)
                          JOIN pg_attribute AS a ON a.attrelid = relation AND a.attnum = k.attnum));
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER arx_capture', relation);
        COMMIT;
        PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    END IF;
    parts := ARRAY(SELECT t.relid FROM pg_partition_tree(relation) AS t WHERE t.isleaf AND t.relid <> relation);
    FOREACH part IN ARRAY parts LOOP
        beyond := NULL;
        LOOP
            EXECUTE format(
                'WITH next AS (SELECT %1$s FROM %2$s %3$s ORDER BY %4$s LIMIT %5$s), '
                'copied AS (INSERT INTO %6$s (%1$s) OVERRIDING SYSTEM VALUE SELECT %1$s FROM next ON CONFLICT DO NOTHING) '
                'SELECT count(*), (SELECT format(%7$L, %4$s) FROM next ORDER BY (%4$s) DESC LIMIT 1) FROM next',
                columns, part, CASE WHEN beyond IS NULL THEN '' ELSE format('WHERE (%s) > (%s)', keys, beyond) END, keys, batch,
                plain, (SELECT string_agg('%L', ', ') FROM unnest(class.indkey::smallint[])))
               INTO copied, beyond;
            COMMIT;
            PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
            EXIT WHEN copied < batch;
        END LOOP;
    END LOOP;
    LOOP
        CALL arx.apply_changes(relation, plain, changes, columns, keys, key_types, copied);
        COMMIT;
        PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
        EXIT WHEN copied < 1000;
    END LOOP;
    PERFORM arx.lock_in_attempts(relation, 'ACCESS EXCLUSIVE');
    CALL arx.apply_changes(relation, plain, changes, columns, keys, key_types, copied);
    EXECUTE format('DROP TRIGGER arx_capture ON %s', relation);
    EXECUTE format('DROP TABLE %s', changes);
    after := arx.conversion_extras(relation, ' NOT VALID');
    EXECUTE format('ALTER TABLE %s RENAME TO %I', relation, left(class.relname, 50) || '_partitioned');
    new_table := plain::regclass;
    EXECUTE format('ALTER TABLE %s RENAME TO %I', plain, class.relname);
    EXECUTE format('ALTER TABLE %s OWNER TO %s', new_table, class.relowner::regrole);
    FOREACH statement IN ARRAY after LOOP
        EXECUTE format(statement, new_table);
    END LOOP;
    PERFORM arx.remove_partition_policy(relation);
    PERFORM arx.note_partition_event(relation, 'unpartition', new_table::text, new_table, NULL, NULL, NULL, 'called by hand',
                                     'done', NULL, NULL, NULL, began);
    COMMIT;
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    FOR statement IN SELECT format('ALTER TABLE %s VALIDATE CONSTRAINT %I', new_table, f.conname) FROM pg_constraint AS f
                      WHERE f.conrelid = new_table AND f.contype = 'f' AND NOT f.convalidated LOOP
        EXECUTE statement;
        COMMIT;
        PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    END LOOP;
END;
$$;

-- Copies the rows again whose keys were noted, and forgets the keys.
CREATE PROCEDURE apply_changes(
    relation regclass, plain text, changes text, columns text, keys text, key_types text, INOUT applied bigint
)
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    -- These are the keys noted until now; a row that changes later is noted again.
    EXECUTE format('CREATE TEMPORARY TABLE arx_keys ON COMMIT DROP AS '
                   'WITH gone AS (DELETE FROM %s RETURNING key) SELECT DISTINCT key FROM gone', changes);
    GET DIAGNOSTICS applied = ROW_COUNT;
    EXECUTE format('DELETE FROM %s AS p USING pg_temp.arx_keys AS l WHERE (p.%s) = (%s)', plain,
                   replace(keys, ', ', ', p.'), key_types);
    EXECUTE format('INSERT INTO %1$s (%2$s) OVERRIDING SYSTEM VALUE SELECT t.%3$s FROM %4$s AS t '
                   'WHERE (t.%5$s) IN (SELECT %6$s FROM pg_temp.arx_keys AS l)', plain, columns,
                   replace(columns, ', ', ', t.'), relation, replace(keys, ', ', ', t.'), key_types);
    DROP TABLE pg_temp.arx_keys;
END;
$$;
