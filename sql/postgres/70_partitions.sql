-- Partitions: policies are rows of a table, arx.partition_plan() makes plans from them, and the
-- functions here carry the plans out.

CREATE FUNCTION parse_range_bound(expression text, OUT range_from timestamptz, OUT range_to timestamptz)
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    bounds text[] := regexp_match(expression, '^FOR VALUES FROM \(''?([^'')]+)''?\) TO \(''?([^'')]+)''?\)$');
BEGIN
    -- The server prints bounds in the time zone of the session with its offset, so the cast back is
    -- exact.
    range_from := CASE WHEN bounds[1] = 'MINVALUE' THEN '-infinity' ELSE bounds[1] END;
    range_to := CASE WHEN bounds[2] = 'MAXVALUE' THEN 'infinity' ELSE bounds[2] END;
END;
$$;

CREATE FUNCTION grant_on_partition(partition regclass) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    EXECUTE format('GRANT SELECT ON TABLE %s TO arx_reader', partition);
    EXECUTE format('GRANT INSERT, UPDATE, DELETE, TRUNCATE ON TABLE %s TO arx_operator', partition);
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
       bound.expression = 'DEFAULT' AS is_default,
       b.range_from, b.range_to,
       greatest(c.reltuples, 0)::bigint AS estimated_rows,
       pg_total_relation_size(c.oid) AS total_bytes
  FROM (VALUES ('arx.transactions'), ('arx.token_transfers')) AS parent (relation)
  JOIN pg_inherits AS i ON i.inhparent = parent.relation::regclass
  JOIN pg_class AS c ON c.oid = i.inhrelid
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL (SELECT pg_get_expr(c.relpartbound, c.oid) AS expression) AS bound
 CROSS JOIN LATERAL arx.parse_range_bound(bound.expression) AS b
 ORDER BY parent.relation, is_default, b.range_from;
COMMENT ON VIEW partition_status IS 'partitions of the time-partitioned tables with bounds, estimated rows and size';

CREATE FUNCTION drain_into(
    parent regclass, default_partition regclass, target regclass, range_from timestamptz, range_to timestamptz
) RETURNS bigint
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    columns text;
    moved   bigint;
BEGIN
    SELECT string_agg(format('%I', a.attname), ', ' ORDER BY a.attnum) INTO columns
      FROM pg_attribute AS a
     WHERE a.attrelid = parent AND a.attnum > 0 AND NOT a.attisdropped;
    EXECUTE format('INSERT INTO %s (%s) SELECT %s FROM %s WHERE "timestamp" >= $1 AND "timestamp" < $2',
                   target, columns, columns, default_partition) USING range_from, range_to;
    GET DIAGNOSTICS moved = ROW_COUNT;
    EXECUTE format('DELETE FROM %s WHERE "timestamp" >= $1 AND "timestamp" < $2', default_partition)
        USING range_from, range_to;
    RETURN moved;
END;
$$;

-- A month with rows in the default partition is created while the default partition is detached.
-- The rows move within the transaction, so they are never missing, and keep their ingest_xid, so
-- they do not count as changed.
CREATE FUNCTION apply_partition_step(
    relation regclass, action text, partition text, range_from timestamptz, range_to timestamptz
) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    AS $$
DECLARE
    default_partition regclass;
    has_rows boolean := false;
BEGIN
    IF action = 'create' THEN
        -- CREATE TABLE ... PARTITION OF takes this lock too. It comes before the lock on the
        -- default partition, in the order of readers.
        EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE', relation);
        SELECT i.inhrelid::regclass INTO default_partition
          FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
         WHERE i.inhparent = relation AND pg_get_expr(c.relpartbound, c.oid) = 'DEFAULT';
        IF default_partition IS NOT NULL THEN
            -- Creating the partition takes this lock too. From here on no row can be added after
            -- the check.
            EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', default_partition);
            EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE "timestamp" >= $1 AND "timestamp" < $2)',
                           default_partition)
               INTO has_rows USING range_from, range_to;
        END IF;
        IF has_rows THEN
            EXECUTE format('ALTER TABLE %s DETACH PARTITION %s', relation, default_partition);
        END IF;
        EXECUTE format('CREATE TABLE arx.%I PARTITION OF %s FOR VALUES FROM (%L) TO (%L)',
                       partition, relation, range_from, range_to);
        IF has_rows THEN
            PERFORM arx.drain_into(relation, default_partition, format('arx.%I', partition)::regclass, range_from,
                                   range_to);
            EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s DEFAULT', relation, default_partition);
        END IF;
        PERFORM arx.grant_on_partition(format('arx.%I', partition)::regclass);
    ELSIF action = 'detach' THEN
        EXECUTE format('ALTER TABLE %s DETACH PARTITION arx.%I', relation, partition);
    ELSIF action = 'drop' THEN
        EXECUTE format('DROP TABLE arx.%I', partition);
    ELSE
        RAISE EXCEPTION 'partition action must be create, detach or drop, not "%"', action
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
END;
$$;

CREATE FUNCTION ensure_partitions(relation regclass, range_from timestamptz, range_to timestamptz) RETURNS integer
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    step    record;
    created integer := 0;
BEGIN
    -- A concurrent call waits, and then has nothing left to do.
    PERFORM pg_advisory_xact_lock(hashtext('arx.partitions'));
    FOR step IN SELECT * FROM arx.partition_cover(relation::text, range_from, range_to) LOOP
        PERFORM arx.apply_partition_step(relation, step.action, step.partition, step.range_from, step.range_to);
        created := created + 1;
    END LOOP;
    RETURN created;
END;
$$;

CREATE FUNCTION manage_partitions(relation regclass DEFAULT 'arx.transactions', dry_run boolean DEFAULT false)
    RETURNS TABLE (action text, partition text, range_from timestamptz, range_to timestamptz, reason text, done boolean)
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    step record;
BEGIN
    IF relation IS NULL THEN
        RAISE EXCEPTION 'relation must not be null'
            USING ERRCODE = 'null_value_not_allowed', HINT = 'Name a relation of arx.partition_policies.';
    END IF;
    IF NOT dry_run THEN
        PERFORM pg_advisory_xact_lock(hashtext('arx.partitions'));
    END IF;
    FOR step IN SELECT * FROM arx.partition_plan(relation::text) LOOP
        IF NOT dry_run THEN
            PERFORM arx.apply_partition_step(relation, step.action, step.partition, step.range_from, step.range_to);
        END IF;
        action := step.action;
        partition := format('arx.%I', step.partition);
        range_from := step.range_from;
        range_to := step.range_to;
        reason := step.reason;
        done := NOT dry_run;
        RETURN NEXT;
    END LOOP;
END;
$$;

-- Transactions come before token transfers, in the order of every reader of both: otherwise
-- maintenance and a build of the graph could deadlock.
CREATE FUNCTION run_partition_maintenance(dry_run boolean DEFAULT false)
    RETURNS TABLE (relation text, action text, partition text, range_from timestamptz, range_to timestamptz,
                   reason text, done boolean)
    LANGUAGE sql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
SELECT p.relation, m.action, m.partition, m.range_from, m.range_to, m.reason, m.done
  FROM (SELECT DISTINCT relation FROM arx.partition_policies ORDER BY relation DESC) AS p
 CROSS JOIN LATERAL arx.manage_partitions(p.relation::regclass, $1) AS m
$$;

-- wallet_profiles is partitioned by network; a network's partition is partitioned by hash of the
-- address.
CREATE FUNCTION create_hash_partitions(
    relation regclass DEFAULT 'arx.wallet_profiles', partitions integer DEFAULT 8, network text DEFAULT NULL
) RETURNS TABLE (network_type text, partition text, moved_rows bigint)
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    networks  text[];
    existing  regclass;
    detached  regclass;
    name      text;
    remainder integer;
BEGIN
    IF relation IS DISTINCT FROM 'arx.wallet_profiles'::regclass THEN
        RAISE EXCEPTION 'relation "%" cannot be partitioned by hash', coalesce(relation::text, 'null')
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Only arx.wallet_profiles can be, by wallet_address.';
    END IF;
    IF partitions IS NULL OR partitions NOT BETWEEN 1 AND 1024 THEN
        RAISE EXCEPTION 'number of partitions must be between 1 and 1024, not %', coalesce(partitions::text, 'null')
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('arx.partitions'));
    IF network IS NOT NULL THEN
        networks := ARRAY[arx.registered_network(network)];
    ELSE
        SELECT coalesce(array_agg(DISTINCT p.network_type ORDER BY p.network_type), ARRAY['ethereum']) INTO networks
          FROM arx.wallet_profiles AS p;
    END IF;
    FOREACH network_type IN ARRAY networks LOOP
        name := left('wallet_profiles_' || regexp_replace(network_type, '[^a-z0-9]', '_', 'g'), 46);
        IF name <> 'wallet_profiles_' || network_type THEN
            -- The names of two networks may differ only in the characters that were replaced or
            -- cut.
            name := name || '_' || left(md5(network_type), 8);
        END IF;
        existing := to_regclass(format('arx.%I', name));
        IF existing IS NOT NULL
           AND (SELECT count(*) FROM pg_inherits AS i WHERE i.inhparent = existing) = partitions THEN
            CONTINUE;
        END IF;
        -- The partition that holds the rows of the network is detached, and its rows move to the
        -- new partitions, all in one transaction.
        IF existing IS NOT NULL THEN
            detached := existing;
            EXECUTE format('ALTER TABLE arx.wallet_profiles DETACH PARTITION %s', detached);
            EXECUTE format('ALTER TABLE %s RENAME TO %I', detached, name || '_former');
            FOR remainder IN 0 .. (SELECT count(*) - 1 FROM pg_inherits AS i WHERE i.inhparent = detached) LOOP
                EXECUTE format('ALTER TABLE arx.%I RENAME TO %I', name || '_p' || remainder, name || '_f' || remainder);
            END LOOP;
        ELSE
            detached := 'arx.wallet_profiles_default';
            EXECUTE format('ALTER TABLE arx.wallet_profiles DETACH PARTITION %s', detached);
        END IF;
        EXECUTE format('CREATE TABLE arx.%I PARTITION OF arx.wallet_profiles FOR VALUES IN (%L) '
                       'PARTITION BY HASH (wallet_address)', name, network_type);
        FOR remainder IN 0 .. partitions - 1 LOOP
            EXECUTE format('CREATE TABLE arx.%I PARTITION OF arx.%I FOR VALUES WITH (MODULUS %s, REMAINDER %s)',
                           name || '_p' || remainder, name, partitions, remainder);
            PERFORM arx.grant_on_partition(format('arx.%I', name || '_p' || remainder)::regclass);
        END LOOP;
        EXECUTE format('INSERT INTO arx.wallet_profiles SELECT * FROM %s WHERE network_type = $1', detached)
            USING network_type;
        GET DIAGNOSTICS moved_rows = ROW_COUNT;
        IF existing IS NOT NULL THEN
            EXECUTE format('DROP TABLE %s', detached);
        ELSE
            EXECUTE format('DELETE FROM %s WHERE network_type = $1', detached) USING network_type;
            EXECUTE format('ALTER TABLE arx.wallet_profiles ATTACH PARTITION %s DEFAULT', detached);
        END IF;
        PERFORM arx.grant_on_partition(format('arx.%I', name)::regclass);
        partition := format('arx.%I', name);
        RETURN NEXT;
    END LOOP;
END;
$$;
