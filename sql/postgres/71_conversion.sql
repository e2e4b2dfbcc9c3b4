-- Making an ordinary table a partitioned one, and back, without copying it under a lock.
--
-- The table becomes the default partition of a new table that takes its place: that is a change of
-- the catalog alone, under one short lock. drain_default_partitions() then moves the rows, one
-- range a transaction, while others read and write. It can be interrupted and called again.

-- The object that depends on a table and could not follow one that takes its place, or NULL.
CREATE FUNCTION conversion_dependent(relation regclass) RETURNS text
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    RETURN coalesce(
        (SELECT format('table %s refers to it: drop that foreign key first', f.conrelid::regclass) FROM pg_constraint AS f
          WHERE f.confrelid = relation AND f.contype = 'f' AND f.conparentid = 0 LIMIT 1),
        (SELECT CASE WHEN r.rulename <> '_RETURN' THEN format('%s would not apply any more: drop it first', o.name)
                     WHEN v.relkind = 'm' THEN format('materialized view %s reads it: drop it first, and create it again afterwards',
                                                    v.oid::regclass)
                     ELSE format('view %s reads it, and belongs to another role', v.oid::regclass) END
           FROM pg_depend AS d
           JOIN pg_rewrite AS r ON r.oid = d.objid
           JOIN pg_class AS v ON v.oid = r.ev_class
          CROSS JOIN LATERAL pg_describe_object('pg_rewrite'::regclass, r.oid, 0) AS o (name)
          WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = relation
            AND (r.rulename <> '_RETURN' OR v.relkind = 'm' OR NOT pg_has_role(v.relowner, 'USAGE')) LIMIT 1),
        (SELECT format('%s depends on it: drop that first, and create it again afterwards',
                       pg_describe_object(d.classid, d.objid, d.objsubid))
           FROM pg_depend AS d
           LEFT JOIN pg_policy AS p ON d.classid = 'pg_policy'::regclass AND p.oid = d.objid
          WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = relation
            AND (d.classid = 'pg_proc'::regclass OR p.polrelid <> relation) LIMIT 1),
        (SELECT format('%s uses its row type: drop that first, and create it again afterwards',
                       pg_describe_object(d.classid, d.objid, d.objsubid))
           FROM pg_type AS t JOIN pg_depend AS d ON d.refclassid = 'pg_type'::regclass AND d.refobjid IN (t.oid, t.typarray)
          WHERE t.typrelid = relation AND d.deptype = 'n'
            AND d.classid IN ('pg_proc'::regclass, 'pg_class'::regclass, 'pg_type'::regclass) LIMIT 1),
        -- Rows are copied into a table that is not published yet, and deleted from one that is.
        (SELECT format('publication %I sends its rows, and subscribers would lose those that are moved: take it out of the publication first',
                       p.pubname)
           FROM pg_publication AS p
          WHERE EXISTS (SELECT FROM pg_get_publication_tables(p.pubname) AS t
                         WHERE t.relid = relation OR t.relid IN (SELECT l.relid FROM pg_partition_tree(relation) AS l)) LIMIT 1),
        (SELECT format('it has a security label of %s, which the other table would not have', l.provider)
           FROM pg_seclabel AS l WHERE l.classoid = 'pg_class'::regclass AND l.objoid = relation LIMIT 1));
END;
$$;

-- The obstacle to converting a table, or NULL.
CREATE FUNCTION conversion_obstacle(relation regclass, key name) RETURNS text
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    class record;
BEGIN
    SELECT c.relkind, c.relnamespace, c.relispartition, c.relpersistence, a.attnum, a.attnotnull INTO class
      FROM pg_class AS c LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = key AND a.attnum > 0
     WHERE c.oid = relation;
    RETURN CASE
        WHEN class.relkind IS DISTINCT FROM 'r' THEN 'it is not an ordinary table'
        WHEN class.relnamespace = 'arx'::regnamespace THEN 'it is a table of ARX'
        WHEN class.relispartition THEN 'it is a partition'
        WHEN class.relpersistence <> 'p' THEN 'it is temporary or unlogged'
        WHEN class.attnum IS NULL THEN format('it has no column %I', key)
        WHEN NOT class.attnotnull THEN format('column %I may be null: rows without a key have no partition', key)
        WHEN EXISTS (SELECT FROM pg_inherits AS i WHERE relation IN (i.inhrelid, i.inhparent)) THEN 'it inherits, or is inherited from'
        ELSE coalesce(
            (SELECT format('index %s is unique without column %I: add the column to it', i.indexrelid::regclass, key)
               FROM pg_index AS i
              WHERE i.indrelid = relation AND i.indisunique AND class.attnum <> ALL (i.indkey::smallint[]) LIMIT 1),
            (SELECT format('constraint %I excludes rows', x.conname) FROM pg_constraint AS x
              WHERE x.conrelid = relation AND x.contype = 'x' LIMIT 1),
            (SELECT format('constraint %I is not valid: run ALTER TABLE %s VALIDATE CONSTRAINT %1$I', x.conname, relation)
               FROM pg_constraint AS x
              WHERE x.conrelid = relation AND NOT x.convalidated LIMIT 1),
            (SELECT format('trigger %I has transition tables for each row: partitioned tables do not support these', t.tgname)
               FROM pg_trigger AS t
              WHERE t.tgrelid = relation AND t.tgtype & 1 = 1 AND coalesce(t.tgoldtable, t.tgnewtable) IS NOT NULL LIMIT 1),
            arx.conversion_dependent(relation))
    END;
END;
$$;

-- Statements that give a table what another one of its name has beyond its columns: privileges,
-- comment, owned sequences, foreign keys (which end with `suffix`), policies and triggers.
CREATE FUNCTION conversion_extras(relation regclass, suffix text) RETURNS text[]
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    table_name text := (SELECT format('%I.%I', n.nspname, c.relname)
                          FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
                         WHERE c.oid = conversion_extras.relation);
BEGIN
    RETURN ARRAY(
        SELECT format('GRANT %s%s ON TABLE %s TO %s%s', a.privilege_type, g.columns, table_name,
                      CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END,
                      CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
          FROM pg_class AS c
         CROSS JOIN LATERAL (SELECT c.relacl, '' UNION ALL
                             SELECT t.attacl, format(' (%I)', t.attname) FROM pg_attribute AS t
                              WHERE t.attrelid = c.oid AND NOT t.attisdropped) AS g (acl, columns)
         CROSS JOIN LATERAL aclexplode(g.acl) AS a
         WHERE c.oid = conversion_extras.relation AND a.grantee <> c.relowner)
        || ARRAY(
        SELECT format('COMMENT ON TABLE %s IS %L', table_name, d.description)
          FROM pg_description AS d
         WHERE d.classoid = 'pg_class'::regclass AND d.objoid = conversion_extras.relation AND d.objsubid = 0)
        || ARRAY(
        SELECT format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS %s', table_name, a.attname, a.attstattarget)
          FROM pg_attribute AS a
         WHERE a.attrelid = conversion_extras.relation AND a.attnum > 0 AND NOT a.attisdropped AND a.attstattarget >= 0)
        || ARRAY(
        SELECT format('ALTER SEQUENCE %s OWNED BY %s.%I', d.objid::regclass, table_name, a.attname)
          FROM pg_depend AS d
          JOIN pg_class AS s ON s.oid = d.objid AND s.relkind = 'S'
          JOIN pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
         WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
           AND d.refobjid = conversion_extras.relation AND d.deptype = 'a')
        || ARRAY(
        -- The key that the default partition has already is not checked again.
        SELECT format('ALTER TABLE %s ADD CONSTRAINT %I %s', table_name, f.conname,
                      pg_get_constraintdef(f.oid) || CASE WHEN f.convalidated THEN conversion_extras.suffix ELSE '' END)
          FROM pg_constraint AS f
         WHERE f.conrelid = conversion_extras.relation AND f.contype = 'f')
        || arx.conversion_policies(conversion_extras.relation)
        || ARRAY(
        SELECT s.statement
          FROM pg_trigger AS t
         CROSS JOIN LATERAL (VALUES
               (1, pg_get_triggerdef(t.oid)),
               (2, format('ALTER TABLE %s %s TRIGGER %I', table_name,
                          CASE t.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'A' THEN 'ENABLE ALWAYS' WHEN 'R' THEN 'ENABLE REPLICA' END,
                          t.tgname))) AS s (number, statement)
         WHERE t.tgrelid = conversion_extras.relation AND NOT t.tgisinternal AND s.statement IS NOT NULL
           AND (s.number = 1 OR t.tgenabled <> 'O')
         ORDER BY t.tgname, s.number);
END;
$$;

-- The same for row security and views.
CREATE FUNCTION conversion_policies(relation regclass) RETURNS text[]
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    class record;
BEGIN
    SELECT format('%I.%I', n.nspname, c.relname) AS name, c.relrowsecurity, c.relforcerowsecurity INTO class
      FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = conversion_policies.relation;
    RETURN ARRAY(
        SELECT format('CREATE POLICY %I ON %s AS %s FOR %s TO %s', p.polname, class.name,
                      CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
                      CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE'
                                    ELSE 'ALL' END,
                      (SELECT string_agg(CASE u.role WHEN 0 THEN 'PUBLIC' ELSE u.role::regrole::text END, ', ')
                         FROM unnest(p.polroles) AS u (role)))
               || coalesce(' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')', '')
               || coalesce(' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')', '')
          FROM pg_policy AS p WHERE p.polrelid = conversion_policies.relation ORDER BY p.polname)
        || CASE WHEN class.relrowsecurity THEN ARRAY[format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', class.name)] END
        || CASE WHEN class.relforcerowsecurity THEN ARRAY[format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', class.name)] END
        || ARRAY(
        -- A view keeps its identity, its owner and privileges.
        SELECT format('CREATE OR REPLACE VIEW %I.%I %s AS %s', n.nspname, v.relname,
                      coalesce('WITH (' || array_to_string(v.reloptions, ', ') || ')', ''), pg_get_viewdef(v.oid))
          FROM (SELECT DISTINCT w.ev_class FROM pg_depend AS d JOIN pg_rewrite AS w ON w.oid = d.objid
                 WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
                   AND d.refobjid = conversion_policies.relation AND w.rulename = '_RETURN') AS r
          JOIN pg_class AS v ON v.oid = r.ev_class
          JOIN pg_namespace AS n ON n.oid = v.relnamespace
         ORDER BY v.oid);
END;
$$;

-- A name for a relation next to another one: its name, cut to make room for an ending.
CREATE FUNCTION conversion_name(relation regclass, ending text) RETURNS text
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    stem text := (SELECT c.relname FROM pg_class AS c WHERE c.oid = relation);
BEGIN
    WHILE octet_length(stem) + octet_length(ending) > 63 LOOP
        stem := left(stem, -1);
    END LOOP;
    RETURN stem || ending;
END;
$$;

-- Takes the privileges of others from a new table: those that ALTER DEFAULT PRIVILEGES gave it may
-- be more than the table has in whose place it is put.
CREATE FUNCTION revoke_default_privileges(relation regclass) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    statement text;
BEGIN
    FOR statement IN
        SELECT DISTINCT format('REVOKE ALL ON TABLE %s FROM %s', relation,
                               CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END)
          FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS a
         WHERE c.oid = relation AND a.grantee <> c.relowner
    LOOP
        EXECUTE statement;
    END LOOP;
END;
$$;

-- Rejects a transaction that would not see what others commit while it waits for a lock.
CREATE FUNCTION require_read_committed() RETURNS void
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'a conversion needs the isolation level read committed, not %', current_setting('transaction_isolation')
            USING ERRCODE = 'invalid_transaction_state',
                  HINT = 'Run SET default_transaction_isolation = ''read committed'' first.';
    END IF;
END;
$$;

-- Sets the identity sequences of a table to the values of another table's.
CREATE FUNCTION move_identities(source regclass, target regclass) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    identity record;
BEGIN
    FOR identity IN
        SELECT pg_get_serial_sequence(move_identities.source::text, a.attname) AS former,
               pg_get_serial_sequence(move_identities.target::text, a.attname) AS next
          FROM pg_attribute AS a
         WHERE a.attrelid = move_identities.source AND a.attidentity <> '' AND NOT a.attisdropped
    LOOP
        EXECUTE format('SELECT setval(%L::regclass, s.last_value, s.is_called) FROM %s AS s', identity.next, identity.former);
    END LOOP;
END;
$$;

-- Gives a table the replica identity of another one with the same columns.
CREATE FUNCTION copy_replica_identity(source regclass, target regclass) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    identity text;
BEGIN
    SELECT CASE c.relreplident WHEN 'f' THEN 'FULL' WHEN 'n' THEN 'NOTHING'
                WHEN 'i' THEN (SELECT format('USING INDEX %I', n.relname)
                                 FROM pg_index AS o
                                 JOIN pg_index AS i ON i.indrelid = copy_replica_identity.target
                                  AND split_part(pg_get_indexdef(i.indexrelid), ' USING ', 2)
                                    = split_part(pg_get_indexdef(o.indexrelid), ' USING ', 2)
                                  AND i.indisunique
                                 JOIN pg_class AS n ON n.oid = i.indexrelid
                                WHERE o.indrelid = c.oid AND o.indisreplident LIMIT 1) END
      INTO identity
      FROM pg_class AS c WHERE c.oid = copy_replica_identity.source;
    IF identity IS NOT NULL THEN
        EXECUTE format('ALTER TABLE %s REPLICA IDENTITY %s', copy_replica_identity.target, identity);
    END IF;
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
    class     record;
    parent    regclass;
    statement text;
    after     text[];
    began     timestamptz := clock_timestamp();
BEGIN
    PERFORM arx.require_read_committed();
    IF convert_table.relation IS NULL OR convert_table.key IS NULL OR convert_table."interval" IS NULL THEN
        RAISE EXCEPTION 'relation, key and interval must not be null' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    SELECT n.nspname, c.relname, c.relowner::regrole AS owner, c.relowner, c.reltablespace INTO class
      FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = convert_table.relation;
    IF NOT pg_has_role(class.relowner, 'USAGE') THEN
        RAISE EXCEPTION 'must be owner of table %', convert_table.relation USING ERRCODE = 'insufficient_privilege';
    END IF;
    PERFORM arx.lock_in_attempts(convert_table.relation, 'ACCESS EXCLUSIVE');
    after := arx.conversion_extras(convert_table.relation, '');
    parent := arx.put_parent_in_place(convert_table.relation, key);
    EXECUTE format('ALTER TABLE %s OWNER TO %s', parent, class.owner);
    -- While the table is empty: a plan reads the rows of the default partition.
    PERFORM arx.manage_partitions(parent, convert_table."interval", premake, retention, time_zone => convert_table.time_zone,
                                  epoch => convert_table.epoch);
    EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s DEFAULT', parent, convert_table.relation);
    FOREACH statement IN ARRAY after LOOP
        EXECUTE statement;
    END LOOP;
    PERFORM arx.copy_replica_identity(convert_table.relation, parent);
    PERFORM arx.note_partition_event(parent, 'convert', convert_table.relation::text, convert_table.relation, 'DEFAULT', NULL,
                                     NULL, 'called by hand', 'done', NULL, NULL, NULL, began);
    RETURN parent;
END;
$$;

-- Makes an empty partitioned table with the name and the columns of a table, which gets another
-- name and leaves to it what a partition does not have.
CREATE FUNCTION put_parent_in_place(relation regclass, key name) RETURNS regclass
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    source    regclass := put_parent_in_place.relation;
    class     record;
    parent    regclass;
    rest      text;
    number    integer := 1;
    identity  record;
    obstacle  text := arx.conversion_obstacle(put_parent_in_place.relation, key);
    statement text;
BEGIN
    IF obstacle IS NOT NULL THEN
        RAISE EXCEPTION 'table % cannot be partitioned: %', source, obstacle USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    SELECT n.oid AS schema, n.nspname, c.relname INTO class
      FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = source;
    FOR statement IN
        SELECT format('DROP TRIGGER %I ON %s', t.tgname, source) FROM pg_trigger AS t
         WHERE t.tgrelid = source AND NOT t.tgisinternal
         UNION ALL
        -- Maintenance moves all rows of the default partition.
        SELECT format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY', source)
    LOOP
        EXECUTE statement;
    END LOOP;
    rest := arx.conversion_name(source, '_default');
    WHILE EXISTS (SELECT FROM pg_type AS t WHERE t.typnamespace = class.schema AND t.typname = rest
                   UNION ALL SELECT FROM pg_class AS c WHERE c.relnamespace = class.schema AND c.relname = rest) LOOP
        number := number + 1;
        rest := arx.conversion_name(source, '_default_' || number);
    END LOOP;
    EXECUTE format('ALTER TABLE %s RENAME TO %I', source, rest);
    EXECUTE format('CREATE TABLE %I.%I (LIKE %s INCLUDING ALL EXCLUDING STATISTICS) PARTITION BY RANGE (%I)',
                   class.nspname, class.relname, source, key);
    parent := to_regclass(format('%I.%I', class.nspname, class.relname));
    PERFORM arx.revoke_default_privileges(parent);
    PERFORM arx.move_identities(source, parent);
    FOR identity IN
        SELECT a.attname, s.relname AS name, pg_get_serial_sequence(parent::text, a.attname) AS next
          FROM pg_attribute AS a
          JOIN pg_class AS s ON s.oid = pg_get_serial_sequence(source::text, a.attname)::regclass
         WHERE a.attrelid = source AND a.attidentity <> '' AND NOT a.attisdropped
    LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %I DROP IDENTITY', source, identity.attname);
        EXECUTE format('ALTER SEQUENCE %s RENAME TO %I', identity.next, identity.name);
    END LOOP;
    RETURN parent;
END;
$$;

-- The way back ------------------------------------------------------------------------------------

-- Settings of a transaction of the way back. An owner whom row security concerns, too, gets an
-- error instead of a part of the rows.
CREATE FUNCTION begin_step() RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    AS $$
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true),
            pg_catalog.set_config('row_security', 'off', true);
END;
$$;

-- Makes what a table is copied into: an ordinary table, a table of the keys that change meanwhile,
-- and of the partitions that are copied, and the trigger that notes keys. Roles that write need no
-- privilege on them: the trigger's function works with the rights of the table's owner.
CREATE FUNCTION begin_unpartition(relation regclass) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    source  regclass := begin_unpartition.relation;
    class   record;
    plain   text;
    changes text;
    capture text;
    row_    text;
BEGIN
    PERFORM arx.require_unpartitionable(source);
    SELECT n.nspname, c.relowner::regrole AS owner INTO class
      FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = source;
    plain := format('%I.%I', class.nspname, arx.conversion_name(source, '_plain'));
    changes := format('%I.%I', class.nspname, arx.conversion_name(source, '_plain_changes'));
    capture := format('%I.%I', class.nspname, arx.conversion_name(source, '_plain_capture'));
    SELECT string_agg('%1$s.' || replace(quote_ident(a.attname), '%', '%%'), ', ' ORDER BY k.position) INTO row_
      FROM pg_index AS i
     CROSS JOIN unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (attnum, position)
      JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
     WHERE i.indrelid = source AND i.indisprimary;
    row_ := format('INSERT INTO %s (key) VALUES (jsonb_build_array(%s));', replace(changes, '%', '%%'), row_);
    PERFORM arx.lock_in_attempts(source, 'SHARE ROW EXCLUSIVE');
    EXECUTE format('CREATE TABLE %s (change bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key jsonb, part oid, file oid, '
                   'capture oid, is_whole boolean NOT NULL DEFAULT false)', changes);
    EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING ALL)', plain, source);
    PERFORM arx.revoke_default_privileges(changes::regclass);
    PERFORM arx.revoke_default_privileges(plain::regclass);
    EXECUTE format('DROP FUNCTION IF EXISTS %s()', capture);
    EXECUTE format('CREATE FUNCTION %s() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS %L',
                   capture, format('BEGIN IF TG_OP <> ''INSERT'' THEN %s END IF; IF TG_OP <> ''DELETE'' THEN %s END IF; RETURN NULL; END',
                                   format(row_, 'OLD'), format(row_, 'NEW')));
    EXECUTE format('REVOKE ALL ON FUNCTION %s() FROM PUBLIC', capture);
    EXECUTE format('ALTER TABLE %s OWNER TO %s', changes, class.owner);
    EXECUTE format('ALTER TABLE %s OWNER TO %s', plain, class.owner);
    EXECUTE format('CREATE TRIGGER arx_capture AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION %s()',
                   source, capture);
    EXECUTE format('ALTER FUNCTION %s() OWNER TO %s', capture, class.owner);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER arx_capture', source);
END;
$$;

-- Rejects a table that another session has converted meanwhile, or whose copy another role made,
-- and keeps others from copying it until the end of the transaction.
CREATE FUNCTION claim_unpartition(relation regclass, plain text, changes text) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    stranger text;
BEGIN
    IF to_regclass(changes) IS NOT NULL
       AND EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = relation AND t.tgname = 'arx_capture') THEN
        PERFORM set_config('lock_timeout', '10s', true);
        EXECUTE format('LOCK TABLE %s IN SHARE UPDATE EXCLUSIVE MODE', changes);
    END IF;
    IF to_regclass(changes) IS NULL
       OR to_regclass(plain) IS NULL
       OR NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = relation AND t.tgname = 'arx_capture') THEN
        RAISE EXCEPTION 'another session has completed or stopped the conversion of table %', relation
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    -- Their triggers and defaults would run with the rights of the caller.
    SELECT o.name INTO stranger
      FROM pg_class AS c
     CROSS JOIN LATERAL (
        SELECT k.oid::regclass::text, k.relowner FROM pg_class AS k
         WHERE k.oid IN (to_regclass(claim_unpartition.plain), to_regclass(claim_unpartition.changes))
         UNION ALL
        SELECT p.oid::regprocedure::text, p.proowner
          FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid
         WHERE t.tgrelid = claim_unpartition.relation AND t.tgname = 'arx_capture') AS o (name, owner)
     WHERE c.oid = claim_unpartition.relation AND o.owner <> c.relowner LIMIT 1;
    IF stranger IS NOT NULL THEN
        RAISE EXCEPTION '% is in the way of the conversion of table %, and belongs to another role', stranger, relation
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Drop it or rename it, and drop the trigger arx_capture.';
    END IF;
EXCEPTION WHEN lock_not_available THEN
    RAISE EXCEPTION 'another session is converting table %', relation
        USING ERRCODE = 'lock_not_available',
              HINT = 'Call unpartition_table() again after it ends; it resumes the copy.';
END;
$$;

-- Rejects a table whose columns, checks or dependents have changed since its copy was begun.
CREATE FUNCTION require_same_columns(relation regclass, plain text, changes text) RETURNS void
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    shapes text[];
BEGIN
    PERFORM arx.require_unpartitionable(relation);
    SELECT array_agg(s.shape) INTO shapes
      FROM unnest(ARRAY[relation, plain::regclass]) AS r (oid)
     CROSS JOIN LATERAL (
        SELECT concat_ws(';', (SELECT string_agg(concat_ws(',', a.attname, a.atttypid, a.atttypmod, a.attcollation, a.attnotnull, a.attgenerated),
                                                 ';' ORDER BY a.attname)
                                 FROM pg_attribute AS a WHERE a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped),
                              (SELECT string_agg(pg_get_constraintdef(x.oid), ';' ORDER BY x.conname)
                                 FROM pg_constraint AS x WHERE x.conrelid = r.oid AND x.contype = 'c'),
                              (SELECT count(*) FROM pg_index AS i WHERE i.indrelid = r.oid))) AS s (shape);
    IF shapes[1] IS DISTINCT FROM shapes[2] THEN
        RAISE EXCEPTION 'table % has other columns, checks or indexes than when its conversion began', relation
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = format('Drop its trigger arx_capture and the tables %s and %s; the next call begins again.', plain, changes);
    END IF;
END;
$$;

-- Returns true if a copy holds what the partitions hold, once the changes are applied: all have
-- been copied, and none was detached or truncated since it was begun. Otherwise discards the copy.
-- A partition that was detached and attached again has another trigger.
CREATE FUNCTION is_copied(relation regclass, plain text, changes text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    gone    boolean;
    missing boolean;
BEGIN
    PERFORM arx.require_same_columns(relation, plain, changes);
    PERFORM arx.claim_unpartition(relation, plain, changes);
    EXECUTE format('SELECT EXISTS (SELECT FROM %s AS c WHERE c.part IS NOT NULL '
                   'AND NOT EXISTS (SELECT FROM pg_partition_tree($1) AS t '
                   'WHERE t.relid = c.part AND coalesce(pg_relation_filenode(t.relid), 0) = c.file) '
                   'OR c.capture IS NOT NULL AND NOT EXISTS (SELECT FROM pg_trigger AS g WHERE g.oid = c.capture AND g.tgrelid = c.part))',
                   changes)
       INTO gone USING is_copied.relation;
    EXECUTE format('SELECT EXISTS (SELECT FROM pg_partition_tree($1) AS t WHERE t.isleaf AND t.relid <> $1 '
                   'AND t.relid::oid NOT IN (SELECT c.part FROM %s AS c WHERE c.is_whole))', changes)
       INTO missing USING is_copied.relation;
    IF gone THEN
        EXECUTE format('TRUNCATE %s', plain);
        EXECUTE format('DELETE FROM %s WHERE part IS NOT NULL', changes);
    END IF;
    RETURN NOT gone AND NOT missing;
END;
$$;

-- Copies each partition that has not been copied, in batches.
CREATE PROCEDURE copy_partitions(relation regclass, plain text, changes text, columns text, keys text, batch integer)
    LANGUAGE plpgsql
    AS $$
DECLARE
    part    regclass;
    file    pg_catalog.oid;
    started bigint;
    beyond  text;
    copied  bigint;
BEGIN
    LOOP
        PERFORM arx.begin_step();
        PERFORM arx.claim_unpartition(relation, plain, changes);
        EXECUTE format('SELECT t.relid, coalesce(pg_relation_filenode(t.relid), 0) FROM pg_partition_tree($1) AS t '
                       'WHERE t.isleaf AND t.relid <> $1 '
                       'AND t.relid::oid NOT IN (SELECT c.part FROM %s AS c WHERE c.is_whole) LIMIT 1', changes)
           INTO part, file USING relation;
        EXIT WHEN part IS NULL;
        -- From now on, a partition that is truncated or detached counts as gone.
        EXECUTE format('INSERT INTO %s (part, file, capture) '
                       'SELECT $1, $2, (SELECT g.oid FROM pg_trigger AS g WHERE g.tgrelid = $1 AND g.tgname = ''arx_capture'') '
                       'RETURNING change', changes)
           INTO started USING part::pg_catalog.oid, file;
        beyond := NULL;
        LOOP
            EXECUTE format(
                'WITH next AS (SELECT %1$s FROM %2$s %3$s ORDER BY %4$s LIMIT %5$s), '
                'copied AS (INSERT INTO %6$s (%1$s) OVERRIDING SYSTEM VALUE SELECT %1$s FROM next ON CONFLICT DO NOTHING) '
                'SELECT count(*), (SELECT format(%7$L, %4$s) FROM next ORDER BY (%4$s) DESC LIMIT 1) FROM next',
                columns, part, CASE WHEN beyond IS NULL THEN '' ELSE format('WHERE (%s) > (%s)', keys, beyond) END, keys, batch,
                plain, (SELECT string_agg('%L', ', ') FROM pg_index AS i CROSS JOIN unnest(i.indkey::smallint[])
                         WHERE i.indrelid = relation AND i.indisprimary))
               INTO copied, beyond;
            COMMIT;
            PERFORM arx.begin_step();
            PERFORM arx.claim_unpartition(relation, plain, changes);
            EXIT WHEN copied < batch;
        END LOOP;
        -- Without effect if another session has discarded the copy meanwhile.
        EXECUTE format('UPDATE %s SET is_whole = true WHERE change = $1', changes) USING started;
        COMMIT;
    END LOOP;
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
    copied    bigint;
    statement text;
    new_table regclass;
BEGIN
    PERFORM arx.begin_step();
    IF arx.in_transaction_block() THEN
        RAISE EXCEPTION 'unpartition_table() commits after each batch, so it cannot run inside a transaction block'
            USING ERRCODE = 'active_sql_transaction';
    END IF;
    IF relation IS NULL OR batch IS NULL OR batch NOT BETWEEN 1 AND 1000000 THEN
        RAISE EXCEPTION 'relation must not be null, and batch must be between 1 and 1000000'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM arx.require_read_committed();
    PERFORM arx.require_unpartitionable(relation);
    SELECT n.nspname, i.indkey INTO class
      FROM pg_class AS c
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
      JOIN pg_index AS i ON i.indrelid = c.oid AND i.indisprimary
     WHERE c.oid = relation;
    plain := format('%I.%I', class.nspname, arx.conversion_name(relation, '_plain'));
    changes := format('%I.%I', class.nspname, arx.conversion_name(relation, '_plain_changes'));
    SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) INTO columns
      FROM pg_attribute AS a
     WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '';
    SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY k.position),
           string_agg(format('(l.key ->> %s)::%s', k.position - 1, format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY k.position)
      INTO keys, key_types
      FROM unnest(class.indkey::smallint[]) WITH ORDINALITY AS k (attnum, position)
      JOIN pg_attribute AS a ON a.attrelid = relation AND a.attnum = k.attnum;
    IF NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = relation AND t.tgname = 'arx_capture') THEN
        PERFORM arx.begin_unpartition(relation);
    ELSE
        PERFORM arx.claim_unpartition(relation, plain, changes);
        PERFORM arx.require_same_columns(relation, plain, changes);
    END IF;
    COMMIT;
    LOOP
        CALL arx.copy_partitions(relation, plain, changes, columns, keys, batch);
        LOOP
            PERFORM arx.begin_step();
            PERFORM arx.claim_unpartition(relation, plain, changes);
            CALL arx.apply_changes(relation, plain, changes, columns, keys, key_types, copied);
            COMMIT;
            EXIT WHEN copied < 1000;
        END LOOP;
        PERFORM arx.begin_step();
        PERFORM arx.claim_unpartition(relation, plain, changes);
        PERFORM arx.lock_in_attempts(relation, 'ACCESS EXCLUSIVE');
        EXIT WHEN arx.is_copied(relation, plain, changes);
        COMMIT;
    END LOOP;
    CALL arx.apply_changes(relation, plain, changes, columns, keys, key_types, copied);
    new_table := arx.put_copy_in_place(relation, plain, changes);
    COMMIT;
    PERFORM arx.begin_step();
    FOR statement IN SELECT format('ALTER TABLE %s VALIDATE CONSTRAINT %I', new_table, f.conname) FROM pg_constraint AS f
                      WHERE f.conrelid = new_table AND f.contype = 'f' AND NOT f.convalidated
                        AND EXISTS (SELECT FROM pg_constraint AS s
                                     WHERE s.conrelid = relation AND s.conname = f.conname AND s.convalidated) LOOP
        EXECUTE statement;
        COMMIT;
        PERFORM arx.begin_step();
    END LOOP;
END;
$$;

CREATE FUNCTION require_unpartitionable(relation regclass) RETURNS void
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    class    record;
    obstacle text;
BEGIN
    SELECT c.relowner, c.relkind, c.relnamespace, i.indexrelid INTO class
      FROM pg_class AS c LEFT JOIN pg_index AS i ON i.indrelid = c.oid AND i.indisprimary
     WHERE c.oid = require_unpartitionable.relation;
    IF NOT pg_has_role(class.relowner, 'USAGE') THEN
        RAISE EXCEPTION 'must be owner of table %', require_unpartitionable.relation USING ERRCODE = 'insufficient_privilege';
    ELSIF class.relkind <> 'p' OR class.indexrelid IS NULL THEN
        RAISE EXCEPTION 'table % is not a partitioned table with a primary key', require_unpartitionable.relation
            USING ERRCODE = 'wrong_object_type';
    END IF;
    obstacle := CASE
        WHEN class.relnamespace = 'arx'::regnamespace THEN 'ARX needs its partitions'
        ELSE arx.conversion_dependent(require_unpartitionable.relation) END;
    IF obstacle IS NOT NULL THEN
        RAISE EXCEPTION 'table % cannot become an ordinary one: %', require_unpartitionable.relation, obstacle
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
END;
$$;

-- Gives the copy of a table its name and what it has beyond its columns.
CREATE FUNCTION put_copy_in_place(relation regclass, plain text, changes text) RETURNS regclass
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    source    regclass := put_copy_in_place.relation;
    class     record;
    new_table regclass := to_regclass(plain);
    statement text;
    after     text[];
    began     timestamptz := clock_timestamp();
BEGIN
    PERFORM arx.claim_unpartition(source, plain, changes);
    SELECT n.nspname, c.relname INTO class
      FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = source;
    EXECUTE format('DROP TRIGGER arx_capture ON %s', source);
    EXECUTE format('DROP FUNCTION %I.%I()', class.nspname, arx.conversion_name(source, '_plain_capture'));
    EXECUTE format('DROP TABLE %s', changes);
    after := arx.conversion_extras(source, ' NOT VALID');
    PERFORM arx.move_identities(source, new_table);
    PERFORM arx.copy_replica_identity(source, new_table);
    EXECUTE format('ALTER TABLE %s RENAME TO %I', source, arx.conversion_name(source, '_partitioned'));
    EXECUTE format('ALTER TABLE %s RENAME TO %I', new_table, class.relname);
    FOREACH statement IN ARRAY after LOOP
        EXECUTE statement;
    END LOOP;
    PERFORM arx.remove_partition_policy(source);
    PERFORM arx.note_partition_event(source, 'unpartition', new_table::text, new_table, NULL, NULL, NULL, 'called by hand',
                                     'done', NULL, NULL, NULL, began);
    RETURN new_table;
END;
$$;

-- Copies the rows again whose keys were noted, and forgets the keys.
CREATE PROCEDURE apply_changes(
    relation regclass, plain text, changes text, columns text, keys text, key_types text, INOUT applied bigint
)
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET row_security = off
    AS $$
BEGIN
    -- These are the keys noted until now; a row that changes later is noted again.
    EXECUTE format('CREATE TEMPORARY TABLE arx_keys ON COMMIT DROP AS '
                   'WITH gone AS (DELETE FROM %s WHERE key IS NOT NULL RETURNING key) SELECT DISTINCT key FROM gone', changes);
    GET DIAGNOSTICS applied = ROW_COUNT;
    EXECUTE format('DELETE FROM %s AS p USING pg_temp.arx_keys AS l WHERE (p.%s) = (%s)', plain,
                   replace(keys, ', ', ', p.'), key_types);
    EXECUTE format('INSERT INTO %1$s (%2$s) OVERRIDING SYSTEM VALUE SELECT t.%3$s FROM %4$s AS t '
                   'WHERE (t.%5$s) IN (SELECT %6$s FROM pg_temp.arx_keys AS l)', plain, columns,
                   replace(columns, ', ', ', t.'), relation, replace(keys, ', ', ', t.'), key_types);
    DROP TABLE pg_temp.arx_keys;
END;
$$;
