-- Partitions: policies are rows of a table, arx.planned_steps() makes plans from them, and
-- arx.run_partition_maintenance() and the like carry them out step by step: see
-- pg_ext/src/spi/partition. A step that fails leaves the others done.

-- Lower and upper bound of a range of one column, as pg_get_expr() prints them; NULL for any other
-- partition. The planner inlines it, for the reason given at is_new_since().
CREATE FUNCTION printed_bounds(expression text) RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN expression LIKE 'FOR VALUES FROM (%) TO (%)' AND expression NOT LIKE '%,%'
                THEN string_to_array(translate(substr(expression, 17), '()''', ''), ' TO ') END;

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
    bounds     text[] := arx.printed_bounds(expression);
BEGIN
    is_default := expression = 'DEFAULT';
    range_from := CASE WHEN bounds[1] = 'MINVALUE' THEN '-infinity' ELSE bounds[1] END;
    range_to := CASE WHEN bounds[2] = 'MAXVALUE' THEN 'infinity' ELSE bounds[2] END;
END;
$$;

-- The same as integers: microseconds since 1970, or the integers of the key. NULL is no bound.
CREATE FUNCTION partition_keys(
    partition regclass, is_number boolean, OUT is_default boolean, OUT key_from bigint, OUT key_to bigint
)
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    SET datestyle = 'ISO, YMD'
    SET timezone = 'UTC'
    AS $$
DECLARE
    expression text := (SELECT pg_get_expr(c.relpartbound, 0) FROM pg_class AS c
                         WHERE c.oid = partition_keys.partition);
    bounds     text[] := arx.printed_bounds(expression);
BEGIN
    is_default := expression = 'DEFAULT';
    FOR i IN 1..2 LOOP
        IF bounds[i] IN ('MINVALUE', 'MAXVALUE', '-infinity', 'infinity') THEN
            bounds[i] := NULL;
        END IF;
    END LOOP;
    IF is_number THEN
        key_from := least(greatest(bounds[1]::numeric, -9223372036854775808), 9223372036854775807);
        key_to := least(greatest(bounds[2]::numeric, -9223372036854775808), 9223372036854775807);
    ELSE
        key_from := extract(epoch FROM bounds[1]::timestamptz) * 1000000;
        key_to := extract(epoch FROM bounds[2]::timestamptz) * 1000000;
    END IF;
END;
$$;

-- The same for any policy: the times of integers that count seconds or milliseconds, and NULL for
-- integers that are no times.
CREATE FUNCTION partition_times(
    partition regclass, OUT is_default boolean, OUT range_from timestamptz, OUT range_to timestamptz
)
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    key_type regtype := (SELECT a.atttypid
                           FROM pg_inherits AS i
                           JOIN pg_partitioned_table AS p ON p.partrelid = i.inhparent
                           JOIN pg_attribute AS a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
                          WHERE i.inhrelid = partition_times.partition);
    unit     text;
    keys     record;
BEGIN
    IF key_type IN ('timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype) THEN
        SELECT r.is_default, r.range_from, r.range_to INTO is_default, range_from, range_to
          FROM arx.partition_range(partition_times.partition) AS r;
        RETURN;
    END IF;
    SELECT * INTO keys FROM arx.partition_keys(partition_times.partition, true);
    is_default := keys.is_default;
    unit := (SELECT p.epoch FROM pg_inherits AS i JOIN arx.partition_policies AS p ON p.relation = i.inhparent
              WHERE i.inhrelid = partition_times.partition ORDER BY p.builtin LIMIT 1);
    range_from := to_timestamp(keys.key_from / CASE unit WHEN 'seconds' THEN 1.0 WHEN 'milliseconds' THEN 1000.0 END);
    range_to := to_timestamp(keys.key_to / CASE unit WHEN 'seconds' THEN 1.0 WHEN 'milliseconds' THEN 1000.0 END);
END;
$$;

-- Events ------------------------------------------------------------------------------------------

CREATE TABLE partition_events (
    event_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    happened_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    parent        oid NOT NULL,
    relation      text NOT NULL,
    -- `plan` if no plan could be made, `run` at the end of a run.
    action        text NOT NULL,
    partition     text,
    partition_oid oid,
    bounds        text,
    key_from      bigint,
    key_to        bigint,
    outcome       text NOT NULL CHECK (outcome IN ('done', 'failed')),
    reason        text,
    error         text,
    sqlstate      text,
    -- Steps that failed, of a run; rows that were quarantined.
    count         bigint,
    duration      interval,
    caller        text NOT NULL DEFAULT session_user
);
COMMENT ON TABLE partition_events IS
    'steps of partition maintenance with their outcome, kept for 400 days; action run is the end of a run, with the number of steps that failed';
CREATE INDEX idx_partition_events_parent ON partition_events (parent, action, event_id DESC);

-- SECURITY DEFINER: callers have no privileges on the events.
CREATE FUNCTION note_partition_event(
    parent oid, action text, partition text, partition_oid oid, bounds text, key_from bigint, key_to bigint, reason text,
    outcome text, error text, sqlstate text, count bigint, began timestamptz
) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    INSERT INTO arx.partition_events (parent, relation, action, partition, partition_oid, bounds, key_from, key_to, reason,
                                      outcome, error, sqlstate, count, duration)
    SELECT $1, coalesce(format('%I.%I', n.nspname, c.relname), $1::text), $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,
           clock_timestamp() - $13
      FROM (VALUES (1)) AS one
      LEFT JOIN pg_class AS c ON c.oid = $1
      LEFT JOIN pg_namespace AS n ON n.oid = c.relnamespace;
    IF note_partition_event.action = 'run' THEN
        DELETE FROM arx.partition_events AS e WHERE e.happened_at < now() - interval '400 days';
    END IF;
END;
$$;

-- Policies ----------------------------------------------------------------------------------------

-- A policy lends the rights of a table's owner to every operator. The owner of partition_policies
-- may write any row there, and is not trusted with tables of other roles: these need the consent of
-- a member of the role that owns them. This table belongs to the extension. See
-- pg_ext/src/spi/partition.
CREATE TABLE partition_consents (
    relation     oid PRIMARY KEY,
    owner        oid NOT NULL,
    consented_by name NOT NULL DEFAULT current_user,
    consented_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE partition_consents IS
    'tables of other roles than the owner of partition_policies whose owners let operators manage their partitions';

CREATE FUNCTION check_partition_consent() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    NEW.owner := (SELECT c.relowner FROM pg_class AS c WHERE c.oid = NEW.relation);
    IF NEW.owner IS NULL OR NOT pg_has_role(NEW.owner, 'USAGE') THEN
        RAISE EXCEPTION 'must be a member of the role that owns %', NEW.relation::regclass
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    NEW.consented_by := current_user;
    RETURN NEW;
END;
$$;
CREATE TRIGGER arx_check_consent BEFORE INSERT OR UPDATE ON partition_consents
    FOR EACH ROW EXECUTE FUNCTION check_partition_consent();

CREATE FUNCTION check_partition_policy() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    -- A restored policy of a table that had been dropped stays without effect.
    IF EXISTS (SELECT FROM pg_class AS c WHERE c.oid = NEW.relation) THEN
        -- Reports whatever does not suit the table.
        PERFORM arx.planned_steps(NEW.relation);
    END IF;
    RETURN NULL;
END;
$$;

-- Writes the policy of a user. The table may belong to any role.
CREATE FUNCTION write_partition_policy(policy jsonb) RETURNS void
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    wanted record;
BEGIN
    SELECT * INTO wanted
      FROM jsonb_to_record(policy) AS p (relation oid, "interval" text, premake integer, retention text, retention_mode text,
           tablespace_ages jsonb, time_zone text, epoch text, retention_schema text, hash_column text, hash_partitions integer,
           quarantine boolean, earliest timestamptz);
    INSERT INTO arx.partition_policies AS p
           (relation, "interval", premake, retention, retention_mode, tablespace_ages, time_zone, epoch, retention_schema,
            hash_column, hash_partitions, quarantine, earliest)
    VALUES (wanted.relation, wanted."interval", wanted.premake, wanted.retention, wanted.retention_mode,
            wanted.tablespace_ages, wanted.time_zone, wanted.epoch, wanted.retention_schema, wanted.hash_column,
            wanted.hash_partitions, wanted.quarantine, wanted.earliest)
        ON CONFLICT ON CONSTRAINT partition_policies_pkey DO UPDATE
       SET "interval" = excluded."interval", premake = excluded.premake, retention = excluded.retention,
           retention_months = NULL, retention_mode = excluded.retention_mode, tablespace_ages = excluded.tablespace_ages,
           time_zone = excluded.time_zone, epoch = excluded.epoch, retention_schema = excluded.retention_schema,
           hash_column = excluded.hash_column, hash_partitions = excluded.hash_partitions,
           quarantine = excluded.quarantine, earliest = excluded.earliest, enabled = true;
END;
$$;

CREATE FUNCTION remove_partition_policy(parent regclass) RETURNS void
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    DELETE FROM arx.partition_policies AS p WHERE p.relation = remove_partition_policy.parent AND NOT p.builtin;
END;
$$;

CREATE FUNCTION managed_relations() RETURNS TABLE (relation regclass)
    LANGUAGE plpgsql_as_owner STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    -- A table that was dropped leaves its policy behind.
    RETURN QUERY
    SELECT DISTINCT p.relation FROM arx.partition_policies AS p JOIN pg_class AS c ON c.oid = p.relation AND c.relkind = 'p'
     WHERE p.enabled
     ORDER BY 1;
END;
$$;

-- Rejects a policy that names what does not exist.
CREATE FUNCTION require_policy_objects(parent regclass, retention_schema text, hash_column text, tablespace_ages jsonb)
    RETURNS void
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    missing text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = parent) THEN
        RAISE EXCEPTION 'table % does not exist', parent USING ERRCODE = 'undefined_table';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_namespace AS n WHERE n.nspname = coalesce(retention_schema, 'arx')) THEN
        RAISE EXCEPTION 'schema "%" does not exist', retention_schema USING ERRCODE = 'invalid_schema_name';
    END IF;
    IF jsonb_typeof(tablespace_ages) = 'object' THEN
        missing := (SELECT t.value FROM jsonb_each_text(tablespace_ages) AS t
                     WHERE NOT EXISTS (SELECT FROM pg_tablespace AS s WHERE s.spcname = t.value) LIMIT 1);
    END IF;
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'tablespace "%" does not exist', missing USING ERRCODE = 'undefined_object';
    END IF;
    IF hash_column IS NULL THEN
        RETURN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_attribute AS a
                    WHERE a.attrelid = parent AND a.attname = hash_column AND a.attnum > 0 AND NOT a.attisdropped) THEN
        RAISE EXCEPTION 'table % has no column "%"', parent, hash_column USING ERRCODE = 'undefined_column';
    END IF;
    missing := (SELECT i.indexrelid::regclass FROM pg_index AS i
                  JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attname = hash_column
                 WHERE i.indrelid = parent AND i.indisunique AND a.attnum <> ALL (i.indkey::smallint[]) LIMIT 1);
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'index % is unique without column "%", which sub-partitions by hash need in it', missing, hash_column
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
END;
$$;

CREATE FUNCTION manage_partitions(
    parent           regclass,
    "interval"       text,
    premake          integer DEFAULT 3,
    retention        text DEFAULT NULL,
    retention_action text DEFAULT 'detach',
    tablespace_ages  jsonb DEFAULT NULL,
    time_zone        text DEFAULT 'UTC',
    epoch            text DEFAULT NULL,
    retention_schema text DEFAULT NULL,
    hash_column      text DEFAULT NULL,
    hash_partitions  integer DEFAULT NULL,
    quarantine       boolean DEFAULT NULL,
    earliest         timestamptz DEFAULT NULL
)
    RETURNS TABLE (action text, partition text, range_from timestamptz, range_to timestamptz, reason text)
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    is_ours boolean := EXISTS (SELECT FROM arx.watched_tables() AS w
                                WHERE w.topic = 'transfers' AND to_regclass('arx.' || quote_ident(w.name)) = parent);
BEGIN
    IF parent IS NULL OR manage_partitions."interval" IS NULL THEN
        RAISE EXCEPTION '% must not be null', CASE WHEN parent IS NULL THEN 'parent' ELSE 'interval' END
            USING ERRCODE = 'null_value_not_allowed';
    ELSIF retention_action IS NULL OR retention_action NOT IN ('detach', 'drop', 'move', 'archive') THEN
        RAISE EXCEPTION 'retention_action "%" is unknown', coalesce(retention_action, 'null')
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use detach, drop, move or archive.';
    ELSIF retention_action = 'move' AND retention_schema IS NULL THEN
        RAISE EXCEPTION 'retention_action move needs a retention_schema'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Specify the schema that partitions move to.';
    ELSIF premake IS NULL OR premake NOT BETWEEN 0 AND 120 THEN
        RAISE EXCEPTION 'premake must be between 0 and 120, not %', coalesce(premake::text, 'null')
            USING ERRCODE = 'invalid_parameter_value';
    ELSIF (hash_column IS NULL) <> (hash_partitions IS NULL) OR hash_partitions NOT BETWEEN 1 AND 1024 THEN
        RAISE EXCEPTION 'hash_column and hash_partitions must be specified together, and be 1 to 1024 partitions'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM arx.require_policy_objects(parent, retention_schema, hash_column, tablespace_ages);
    IF NOT is_ours THEN
        INSERT INTO arx.partition_consents AS c (relation, owner) VALUES (parent, 0)
            ON CONFLICT ON CONSTRAINT partition_consents_pkey DO UPDATE SET owner = 0, consented_at = now();
    END IF;
    PERFORM arx.write_partition_policy(jsonb_build_object(
        'relation', parent::oid, 'interval', $2, 'premake', $3, 'retention', $4, 'retention_mode', $5, 'tablespace_ages', $6,
        'time_zone', $7, 'epoch', $8, 'retention_schema', $9, 'hash_column', $10, 'hash_partitions', $11,
        'quarantine', coalesce($12, is_ours),
        'earliest', coalesce($13, CASE WHEN is_ours THEN timestamptz '2009-01-03 00:00:00+00' END)));
    RETURN QUERY SELECT s.action, s.partition, s.range_from, s.range_to, s.reason FROM arx.planned_steps(parent) AS s;
END;
$$;

-- Plans -------------------------------------------------------------------------------------------

-- The clauses that a policy adds to the statements of a plan.
CREATE FUNCTION policy_clauses(parent regclass, OUT schema_name text, OUT by_hash text)
    LANGUAGE plpgsql_as_owner STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    SELECT p.retention_schema, ' PARTITION BY HASH (' || quote_ident(p.hash_column) || ')' INTO schema_name, by_hash
      FROM arx.partition_policies AS p WHERE p.relation = policy_clauses.parent ORDER BY p.builtin LIMIT 1;
END;
$$;

-- A step takes about 20 ms; rows move at about 50,000 a second, and tablespaces at 200 MB a second.
CREATE FUNCTION partition_plan(parent regclass)
    RETURNS TABLE (action text, partition text, range_from timestamptz, range_to timestamptz, reason text, bounds text,
                   statement text, lock text, estimated_rows bigint, estimated_bytes bigint, estimated_time interval)
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    table_name text := (SELECT format('%I.%I', n.nspname, c.relname)
                          FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = parent);
    schema_name text;
    by_hash     text;
BEGIN
    SELECT c.schema_name, c.by_hash INTO schema_name, by_hash FROM arx.policy_clauses(parent) AS c;
    RETURN QUERY
    WITH waiting AS (
        SELECT greatest(c.reltuples, pg_stat_get_live_tuples(c.oid), 0)::bigint AS rows,
               pg_total_relation_size(c.oid) AS bytes
          FROM pg_partitioned_table AS p JOIN pg_class AS c ON c.oid = p.partdefid
         WHERE p.partrelid = parent
    )
    SELECT s.action, s.partition, s.range_from, s.range_to, s.reason, s.bounds,
           CASE s.action
                WHEN 'create' THEN format('CREATE TABLE %s PARTITION OF %s FOR VALUES FROM (%s) TO (%s)%s', s.partition,
                                          table_name, l.limits[1], l.limits[2], by_hash)
                WHEN 'detach' THEN format('ALTER TABLE %s DETACH PARTITION %s', table_name, s.partition)
                WHEN 'move' THEN format('ALTER TABLE %s DETACH PARTITION %s; ALTER TABLE %2$s SET SCHEMA %I', table_name,
                                        s.partition, schema_name)
                WHEN 'archive' THEN format('ALTER TABLE %s DETACH PARTITION %s', table_name, s.partition)
                WHEN 'finalize' THEN format('ALTER TABLE %s DETACH PARTITION %s FINALIZE', table_name, s.partition)
                WHEN 'drop' THEN format('DROP TABLE %s', s.partition)
                WHEN 'set tablespace' THEN format('ALTER TABLE %s SET TABLESPACE %I', s.partition, s.tablespace)
           END,
           CASE WHEN s.action = 'set tablespace' THEN format('ACCESS EXCLUSIVE on %s, for as long as it takes', s.partition)
                WHEN s.action IN ('create', 'detach', 'move', 'archive', 'finalize', 'drop')
                THEN format('ACCESS EXCLUSIVE on %s, briefly: attempts of 100 ms', table_name)
                WHEN s.action = 'quarantine' THEN 'ROW EXCLUSIVE'
           END,
           e.rows, e.bytes,
           CASE WHEN s.action IN ('leave', 'blocked') THEN NULL
                ELSE interval '20 ms' + interval '20 us' * CASE WHEN s.action IN ('create', 'quarantine') THEN e.rows ELSE 0 END
                     + interval '5 ms' * CASE WHEN s.action = 'set tablespace' THEN e.bytes / 1000000 ELSE 0 END
           END
      FROM arx.planned_steps(parent) AS s
      LEFT JOIN waiting AS w ON true
      LEFT JOIN pg_class AS c ON c.oid = s.partition_oid
     CROSS JOIN LATERAL (
        SELECT array_agg(CASE WHEN b.bound IN ('MINVALUE', 'MAXVALUE') THEN b.bound ELSE quote_literal(b.bound) END
                         ORDER BY b.number)
          FROM unnest(regexp_match(s.bounds, '^FROM (.+) TO (.+)$')) WITH ORDINALITY AS b (bound, number)
     ) AS l (limits)
     CROSS JOIN LATERAL (
        SELECT CASE WHEN s.has_rows THEN w.rows ELSE greatest(c.reltuples, 0)::bigint END,
               CASE WHEN s.has_rows THEN w.bytes ELSE pg_total_relation_size(c.oid) END
     ) AS e (rows, bytes);
END;
$$;

-- The steps of several tables: what creates comes first, and what waits for nothing else last.
-- Where no plan can be made, there is one step `plan` with the error.
CREATE FUNCTION maintenance_steps(parent regclass)
    RETURNS TABLE (relation regclass, action text, partition text, range_from timestamptz, range_to timestamptz,
                   reason text, bounds text, name text, partition_oid oid, key_from bigint, key_to bigint,
                   tablespace text, error text, state text)
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    relations regclass[];
    collected jsonb := '[]';
    -- A clock that was set back would retire and quarantine by the wrong time.
    last_run  timestamptz := (SELECT max(e.happened_at) FROM arx.partition_events AS e
                               WHERE e.happened_at > clock_timestamp() + interval '1 hour');
BEGIN
    IF parent IS NULL THEN
        relations := ARRAY(SELECT m.relation FROM arx.managed_relations() AS m);
    ELSE
        relations := ARRAY[parent];
    END IF;
    FOREACH relation IN ARRAY relations LOOP
        BEGIN
            collected := collected || coalesce(
                (SELECT jsonb_agg(to_jsonb(s) || jsonb_build_object('relation', relation::oid, 'ordinal', s.ordinality))
                   FROM arx.planned_steps(relation) WITH ORDINALITY AS s), '[]');
        EXCEPTION WHEN OTHERS THEN
            IF parent IS NOT NULL THEN
                RAISE;
            END IF;
            collected := collected || jsonb_build_object('relation', relation::oid, 'action', 'plan', 'ordinal', 0,
                'reason', 'no plan can be made', 'error', SQLERRM, 'state', SQLSTATE);
        END;
    END LOOP;
    RETURN QUERY
    SELECT s.relation::regclass, s.action, s.partition, s.range_from, s.range_to, s.reason, s.bounds, s.name,
           s.partition_oid, s.key_from, s.key_to, s.tablespace,
           CASE WHEN last_run IS NOT NULL AND s.action NOT IN ('create', 'leave', 'blocked', 'plan')
                THEN format('the clock of the server is behind the last maintenance, of %s', last_run) ELSE s.error END,
           s.state
      FROM jsonb_to_recordset(collected) AS s (
           relation oid, ordinal bigint, action text, partition text, range_from timestamptz, range_to timestamptz,
           reason text, bounds text, name text, partition_oid oid, key_from bigint, key_to bigint, tablespace text,
           error text, state text)
     ORDER BY CASE WHEN s.action IN ('create', 'blocked', 'plan') THEN 0 ELSE 1 END, s.relation, s.ordinal;
END;
$$;

-- Maintenance -------------------------------------------------------------------------------------

-- One step, in a subtransaction. A table in use is no event while `will_retry`.
CREATE FUNCTION try_partition_step(
    relation regclass, action text, partition text, partition_oid oid, bounds text, name text, key_from bigint,
    key_to bigint, tablespace text, reason text, will_retry boolean DEFAULT false, OUT done boolean, OUT error text,
    OUT state text
)
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    began   timestamptz := clock_timestamp();
    rows    bigint;
    detail  text;
BEGIN
    IF partition_oid IS NULL AND action IN ('detach', 'drop', 'move') THEN
        -- It was created in this run.
        partition_oid := (SELECT i.inhrelid FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
                           WHERE i.inhparent = try_partition_step.relation AND c.relname = try_partition_step.name);
    END IF;
    BEGIN
        rows := arx.partition_step(relation, action, name, partition_oid, key_from, key_to, tablespace);
        done := true;
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS error = MESSAGE_TEXT, state = RETURNED_SQLSTATE, detail = PG_EXCEPTION_DETAIL;
        error := error || CASE WHEN detail <> '' THEN '. ' || detail ELSE '' END;
        done := false;
    END;
    IF will_retry AND state = '55P03' THEN
        RETURN;
    END IF;
    PERFORM arx.note_partition_event(relation, action, partition, partition_oid, bounds, key_from, key_to, reason,
                                     CASE WHEN done THEN 'done' ELSE 'failed' END, error, state, nullif(rows, 0), began);
END;
$$;

CREATE FUNCTION run_partition_maintenance(parent regclass DEFAULT NULL, dry_run boolean DEFAULT false)
    RETURNS TABLE (relation text, action text, partition text, range_from timestamptz, range_to timestamptz, reason text,
                   done boolean, error text)
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    step   record;
    tried  record;
    -- Tables in use: their further steps would only wait again.
    in_use jsonb := '{}';
    failed jsonb := '{}';
    began  timestamptz := clock_timestamp();
    total  bigint := 0;
BEGIN
    IF dry_run IS NULL THEN
        RAISE EXCEPTION 'dry_run must not be null' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF NOT dry_run THEN
        -- Before the plan locks a table, which another run may wait for.
        PERFORM arx.lock_job('partitions');
    END IF;
    FOR step IN SELECT * FROM arx.maintenance_steps(parent) LOOP
        relation := step.relation;
        SELECT format('%I.%I', n.nspname, c.relname) INTO relation
          FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = step.relation;
        action := step.action;
        partition := step.partition;
        range_from := step.range_from;
        range_to := step.range_to;
        reason := step.reason;
        done := false;
        error := coalesce(step.error, CASE WHEN step.action = 'blocked' THEN step.reason END);
        IF NOT dry_run AND error IS NOT NULL THEN
            PERFORM arx.note_partition_event(step.relation, step.action, step.partition, step.partition_oid, step.bounds,
                                             step.key_from, step.key_to, step.reason, 'failed', error, step.state, NULL,
                                             clock_timestamp());
        ELSIF NOT dry_run AND step.action NOT IN ('leave', 'archive') THEN
            IF in_use ? relation THEN
                error := in_use ->> relation;
            ELSE
                SELECT * INTO tried
                  FROM arx.try_partition_step(step.relation, step.action, step.partition, step.partition_oid, step.bounds,
                                              step.name, step.key_from, step.key_to, step.tablespace, step.reason);
                done := tried.done;
                error := tried.error;
                IF tried.state = '55P03' THEN
                    in_use := in_use || jsonb_build_object(relation, error);
                END IF;
            END IF;
        END IF;
        IF NOT dry_run THEN
            total := total + (error IS NOT NULL)::integer;
            failed := failed || jsonb_build_object(step.relation::oid::text,
                coalesce((failed ->> step.relation::oid::text)::bigint, 0) + (error IS NOT NULL)::integer);
        END IF;
        RETURN NEXT;
    END LOOP;
    IF NOT dry_run THEN
        PERFORM arx.end_partition_run(parent, failed, began);
    END IF;
    IF total > 0 THEN
        RAISE WARNING '% of the steps of partition maintenance failed', total
            USING HINT = CASE WHEN in_use = '{}' THEN 'See arx.partition_events. The other steps are done.'
                              ELSE 'CALL arx.maintain_partitions() waits longer for tables in use, without holding a lock.'
                         END;
    END IF;
END;
$$;

-- Notes the end of a run of each table, with the number of steps that failed.
CREATE FUNCTION end_partition_run(parent regclass, failed jsonb, began timestamptz) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    managed regclass;
    count   bigint;
BEGIN
    FOR managed IN SELECT m.relation FROM arx.managed_relations() AS m
                    WHERE end_partition_run.parent IS NULL OR m.relation = end_partition_run.parent LOOP
        count := coalesce((failed ->> managed::oid::text)::bigint, 0);
        PERFORM arx.note_partition_event(managed, 'run', NULL, NULL, NULL, NULL, NULL, NULL,
                                         CASE count WHEN 0 THEN 'done' ELSE 'failed' END, NULL, NULL, count, began);
    END LOOP;
END;
$$;

CREATE FUNCTION manage_partitions(
    relation regclass DEFAULT to_regclass('arx.transactions'), dry_run boolean DEFAULT false
)
    RETURNS TABLE (action text, partition text, range_from timestamptz, range_to timestamptz, reason text, done boolean,
                   error text)
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    IF manage_partitions.relation IS NULL THEN
        -- Reports a table that is missing, or the argument.
        PERFORM arx.planned_steps(NULL);
    END IF;
    RETURN QUERY
    SELECT m.action, m.partition, m.range_from, m.range_to, m.reason, m.done, m.error
      FROM arx.run_partition_maintenance(manage_partitions.relation, dry_run) AS m;
END;
$$;

-- The steps of run_partition_maintenance(), each in its own transaction: no lock outlives its step,
-- and a table in use is tried again while nothing is locked.
CREATE PROCEDURE maintain_partitions(parent regclass DEFAULT NULL, patience interval DEFAULT '1 minute')
    LANGUAGE plpgsql
    AS $$
DECLARE
    steps    pg_catalog.jsonb;
    step     record;
    tried    record;
    failed   pg_catalog.jsonb := '{}';
    began    timestamptz := pg_catalog.clock_timestamp();
    total    bigint := 0;
    deadline timestamptz;
    is_last  boolean;
    key      text;
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    IF arx.in_transaction_block() THEN
        RAISE EXCEPTION 'maintain_partitions() commits after each step, so it cannot run inside a transaction block'
            USING ERRCODE = 'active_sql_transaction',
                  HINT = 'SELECT * FROM arx.run_partition_maintenance() takes all steps in one transaction.';
    END IF;
    steps := (SELECT pg_catalog.jsonb_agg(pg_catalog.to_jsonb(m)) FROM arx.maintenance_steps(parent) AS m);
    -- The plan has locked tables, which another run may wait for.
    COMMIT;
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    FOR step IN
        SELECT r.* FROM pg_catalog.jsonb_array_elements(steps) WITH ORDINALITY AS e (value, number)
         CROSS JOIN LATERAL pg_catalog.jsonb_to_record(e.value) AS r (
               relation regclass, action text, partition text, reason text, bounds text, name text, partition_oid oid,
               key_from bigint, key_to bigint, tablespace text, error text, state text)
         ORDER BY e.number
    LOOP
        tried := NULL;
        IF step.error IS NULL AND step.action NOT IN ('leave', 'blocked', 'archive') THEN
            deadline := pg_catalog.clock_timestamp() + patience;
            LOOP
                is_last := pg_catalog.clock_timestamp() >= deadline;
                SELECT * INTO tried
                  FROM arx.try_partition_step(step.relation, step.action, step.partition, step.partition_oid, step.bounds,
                                              step.name, step.key_from, step.key_to, step.tablespace, step.reason,
                                              NOT is_last);
                COMMIT;
                PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
                EXIT WHEN tried.done OR tried.state IS DISTINCT FROM '55P03' OR is_last;
                PERFORM pg_catalog.pg_sleep(1);
            END LOOP;
        ELSIF step.error IS NOT NULL OR step.action = 'blocked' THEN
            SELECT false AS done, coalesce(step.error, step.reason) AS error INTO tried;
            PERFORM arx.note_partition_event(step.relation, step.action, step.partition, step.partition_oid, step.bounds,
                                             step.key_from, step.key_to, step.reason, 'failed', tried.error, step.state,
                                             NULL, pg_catalog.clock_timestamp());
            COMMIT;
            PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
        END IF;
        IF NOT coalesce(tried.done, true) THEN
            key := step.relation::pg_catalog.oid::text;
            total := total + 1;
            failed := failed || pg_catalog.jsonb_build_object(key, coalesce((failed ->> key)::bigint, 0) + 1);
            RAISE WARNING '% of % failed: %', step.action, step.partition, tried.error;
        END IF;
    END LOOP;
    PERFORM arx.end_partition_run(parent, failed, began);
    COMMIT;
END;
$$;

-- Moves the rows out of the default partition: one range after another, each in one transaction,
-- and those whose time cannot be true into quarantine.
CREATE PROCEDURE drain_default_partitions(parent regclass DEFAULT NULL)
    LANGUAGE plpgsql
    AS $$
DECLARE
    steps pg_catalog.jsonb;
    step  record;
    tried record;
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    IF arx.in_transaction_block() THEN
        RAISE EXCEPTION 'drain_default_partitions() commits after each range, so it cannot run inside a transaction block'
            USING ERRCODE = 'active_sql_transaction',
                  HINT = 'SELECT arx.drain_default_partition(parent) moves all rows in one transaction.';
    END IF;
    steps := (SELECT pg_catalog.jsonb_agg(pg_catalog.to_jsonb(d)) FROM arx.drain_steps(parent) AS d);
    COMMIT;
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    FOR step IN
        SELECT r.* FROM pg_catalog.jsonb_array_elements(steps) WITH ORDINALITY AS e (value, number)
         CROSS JOIN LATERAL pg_catalog.jsonb_to_record(e.value) AS r (
               relation regclass, action text, partition text, partition_oid oid, bounds text, name text, key_from bigint,
               key_to bigint, tablespace text, reason text)
         ORDER BY e.number
    LOOP
        SELECT * INTO tried
          FROM arx.try_partition_step(step.relation, step.action, step.partition, step.partition_oid, step.bounds,
                                      step.name, step.key_from, step.key_to, step.tablespace, step.reason);
        COMMIT;
        PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
        IF NOT tried.done THEN
            RAISE WARNING '% of % failed: %', step.action, step.partition, tried.error;
        END IF;
    END LOOP;
END;
$$;

CREATE FUNCTION drain_steps(parent regclass)
    RETURNS TABLE (relation regclass, action text, partition text, partition_oid oid, bounds text, name text,
                   key_from bigint, key_to bigint, tablespace text, reason text)
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    RETURN QUERY
    SELECT m.relation, s.action, s.partition, s.partition_oid, s.bounds, s.name, s.key_from, s.key_to, s.tablespace, s.reason
      FROM (SELECT drain_steps.parent WHERE drain_steps.parent IS NOT NULL
            UNION ALL SELECT a.relation FROM arx.managed_relations() AS a WHERE drain_steps.parent IS NULL) AS m (relation)
     CROSS JOIN LATERAL arx.planned_steps(m.relation) AS s
     WHERE s.has_rows AND s.action IN ('create', 'quarantine');
END;
$$;

CREATE FUNCTION drain_default_partition(parent regclass DEFAULT to_regclass('arx.transactions'))
    RETURNS TABLE (partition text, bounds text, action text, done boolean, error text)
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    step record;
BEGIN
    IF drain_default_partition.parent IS NULL THEN
        PERFORM arx.planned_steps(NULL);
    END IF;
    PERFORM arx.lock_job('partitions');
    FOR step IN SELECT * FROM arx.drain_steps(drain_default_partition.parent) LOOP
        partition := step.partition;
        bounds := step.bounds;
        action := step.action;
        SELECT t.done, t.error INTO done, error
          FROM arx.try_partition_step(step.relation, step.action, step.partition, step.partition_oid, step.bounds,
                                      step.name, step.key_from, step.key_to, step.tablespace, step.reason) AS t;
        RETURN NEXT;
    END LOOP;
END;
$$;

-- Attaches a table, by default with the bounds that it had when maintenance detached it. ARX's own
-- tables stamp its rows again, so that every consumer takes them in.
CREATE FUNCTION attach_partition(
    partition regclass, parent regclass DEFAULT NULL, range_from text DEFAULT NULL, range_to text DEFAULT NULL
) RETURNS text
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    event  record;
    into_  regclass := attach_partition.parent;
    limits text[] := ARRAY[attach_partition.range_from, attach_partition.range_to];
    began  timestamptz := clock_timestamp();
BEGIN
    IF attach_partition.partition IS NULL THEN
        RAISE EXCEPTION 'partition must not be null' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    PERFORM arx.lock_job('partitions');
    SELECT e.parent, e.bounds INTO event
      FROM arx.partition_events AS e
     WHERE e.partition_oid = attach_partition.partition AND e.action IN ('detach', 'move', 'archive') AND e.outcome = 'done'
       AND (into_ IS NULL OR e.parent = into_)
     ORDER BY e.event_id DESC LIMIT 1;
    into_ := coalesce(into_, event.parent);
    IF limits[1] IS NULL AND limits[2] IS NULL THEN
        limits := regexp_match(event.bounds, '^FROM (.+) TO (.+)$');
    END IF;
    IF into_ IS NULL OR limits[1] IS NULL OR limits[2] IS NULL THEN
        RAISE EXCEPTION 'parent and bounds of % are not known', attach_partition.partition
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Specify parent, range_from and range_to: maintenance has not detached this table.';
    END IF;
    PERFORM arx.attach_range(into_, attach_partition.partition, limits[1], limits[2]);
    PERFORM arx.note_attached_archive(attach_partition.partition);
    PERFORM arx.note_partition_event(into_, 'attach', attach_partition.partition::text, attach_partition.partition,
                                     format('FROM %s TO %s', limits[1], limits[2]), NULL, NULL, 'called by hand', 'done',
                                     NULL, NULL, NULL, began);
    RETURN format('FROM %s TO %s', limits[1], limits[2]);
END;
$$;
