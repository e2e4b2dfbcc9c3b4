-- Freshness: what has become visible since a snapshot.
--
-- For a stored pg_snapshot S, the rows visible now for which is_new_since(ingest_xid, S) holds are
-- exactly those committed since S. INSERT and COPY stamp a row by the column's default; a row that
-- brings another transaction's stamp, as from a staging table or a publisher, is stamped again by
-- restamp_row(). UPDATE stamps it by stamp_row(), and log_transaction_change() logs its former
-- version; DELETE logs a tombstone. These triggers are in pg_ext/src/api/triggers.rs. TRUNCATE, and
-- ATTACH, DETACH or DROP of a partition, fire no row trigger and raise the epoch, with the table
-- and the range of the partition: a consumer whose stored epoch differs from current_graph_epoch()
-- reads the ranges of the events since again, or starts over. The triggers also fire for rows that
-- logical replication applies. The tables of labels are watched in the same way: see
-- watched_tables() and 22_label_changes.sql.

-- The planner inlines this function, so that the first condition uses an index on the stamp. It
-- does so only for a single expression without SET clauses; the body is resolved when it is
-- created, and needs no search_path.
CREATE FUNCTION is_new_since(stamp xid8, since pg_snapshot) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN stamp >= pg_catalog.pg_snapshot_xmin(since) AND NOT pg_catalog.pg_visible_in_snapshot(stamp, since);

CREATE TABLE transaction_change_log (
    change_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    changed_xid  xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
    relation     text NOT NULL CHECK (relation IN ('transactions', 'internal_transfers', 'token_transfers')),
    operation    text NOT NULL CHECK (operation IN ('UPDATE', 'DELETE')),
    network      text NOT NULL,
    tx_hash      text NOT NULL,
    -- The position of an internal transfer.
    log_index    integer,
    "timestamp"  timestamptz NOT NULL,
    block_number bigint,
    transaction_index integer,
    asset        text,
    from_address text,
    to_address   text,
    value        numeric NOT NULL,
    status       text,
    former_xid   xid8 NOT NULL,
    is_ordered   boolean,
    changed_at   timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE transaction_change_log IS 'rows of transaction_changes';
CREATE INDEX idx_transaction_changes_xid ON transaction_change_log (changed_xid);

-- Empty for a caller from whom row-level security hides transactions or transfers. The
-- condition is checked once, before any row is read.
CREATE VIEW transaction_changes AS
SELECT c.* FROM arx.transaction_change_log AS c
 WHERE (SELECT NOT row_security_active('arx.transactions') AND NOT row_security_active('arx.internal_transfers')
               AND NOT row_security_active('arx.token_transfers'));
COMMENT ON VIEW transaction_changes IS 'former versions of updated and deleted transactions, internal transfers and token transfers';

-- The epoch is the number of visible rows, and of rows that have been pruned: it rises with every
-- commit, in any order of commits.
CREATE TABLE graph_epoch (
    epoch_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    reason     text NOT NULL,
    relation   text NOT NULL,
    -- The table whose rows may differ, by its name in the schema, and their times. NULL for all of
    -- them: of that table, or of all tables.
    root       text,
    range_from timestamptz,
    range_to   timestamptz,
    raised_xid xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
    raised_at  timestamptz NOT NULL DEFAULT now(),
    CHECK ((range_from IS NULL) = (range_to IS NULL) AND (root IS NOT NULL OR range_from IS NULL))
);
-- A caller asks for the epoch only after a transaction that may have raised it: see
-- pg_ext/src/graph_store/register.rs.
CREATE TRIGGER arx_note_writer AFTER INSERT ON graph_epoch FOR EACH STATEMENT EXECUTE FUNCTION note_writer();
ALTER TABLE graph_epoch ENABLE ALWAYS TRIGGER arx_note_writer;
COMMENT ON TABLE graph_epoch IS 'latest changes of transactions that fire no row trigger: TRUNCATE, ATTACH, DETACH, DROP';

CREATE TABLE pruned_epochs (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    epochs    bigint NOT NULL DEFAULT 0,
    -- Rows of transaction_changes of earlier transactions are gone: a snapshot that does not see
    -- all of these transactions cannot be followed any more.
    changes_before xid8 NOT NULL DEFAULT '0'
);
COMMENT ON TABLE pruned_epochs IS
    'number of rows that prune_graph_epoch() has removed from graph_epoch, and how far prune_changes() has pruned';
INSERT INTO pruned_epochs DEFAULT VALUES;

CREATE FUNCTION current_graph_epoch() RETURNS bigint
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$ SELECT (SELECT count(*) FROM arx.graph_epoch) + (SELECT p.epochs FROM arx.pruned_epochs AS p) $$;

-- Removed rows are counted by the transaction that removes them, so every snapshot sees the same
-- epoch before and after. A transaction that has not committed yet adds its row later. Of two
-- transactions that prune at a time, the second gives up.
CREATE FUNCTION prune_graph_epoch() RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    kept   CONSTANT integer := 100;
    pruned bigint;
BEGIN
    -- The snapshot of a whole transaction may be older than another one's pruning.
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted')
       OR (SELECT count(*) <= 2 * kept FROM arx.graph_epoch) THEN
        RETURN;
    END IF;
    PERFORM FROM arx.pruned_epochs FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    DELETE FROM arx.graph_epoch AS e
     WHERE e.epoch_id <= (SELECT l.epoch_id FROM arx.graph_epoch AS l ORDER BY l.epoch_id DESC OFFSET kept LIMIT 1);
    GET DIAGNOSTICS pruned = ROW_COUNT;
    UPDATE arx.pruned_epochs AS p SET epochs = p.epochs + pruned;
END;
$$;

-- Watched tables ----------------------------------------------------------------------------------
-- The only list of tables whose changes consumers follow: their topic, and the functions of the
-- triggers that keep the topic's consumers informed. An event of the topic `transfers` raises the
-- epoch; one of `labels` is a row of the log of labels that stands for every address.
CREATE FUNCTION watched_tables() RETURNS TABLE (name text, topic text, functions text[])
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
VALUES ('transactions', 'transfers', '{stamp_row,restamp_row,log_transaction_change}'::text[]),
       ('internal_transfers', 'transfers', '{stamp_row,restamp_row,log_transaction_change}'),
       ('token_transfers', 'transfers', '{stamp_row,restamp_row,log_transaction_change}'),
       ('address_labels', 'labels', '{stamp_row,restamp_row,log_label_change}'),
       ('risk_overrides', 'labels', '{stamp_row,restamp_row,log_label_change}'),
       ('label_categories', 'labels', '{log_label_meaning}'),
       ('networks', 'labels', '{log_label_meaning}')
$$;

-- The tables and their partitions as they were after the last DDL command, by oid. `shape` is what
-- consumers depend on: persistence, bounds, columns, and ARX's triggers. A DDL command is an event
-- only if this table changes. It is empty in a restored database, and filled there by the commands
-- of the restore. pg_upgrade keeps its rows, so a shape names functions instead of their oids.
CREATE TABLE tracked_partitions (
    relid      oid PRIMARY KEY,
    relation   text NOT NULL,
    topic      text NOT NULL,
    shape      text NOT NULL,
    -- The watched table, and the times of its rows; NULL for the table itself, for a default
    -- partition, and where the bounds are not of times.
    root       text NOT NULL,
    range_from timestamptz,
    range_to   timestamptz,
    -- The file of the table's rows, 0 for a partitioned table. TRUNCATE gives it another one, and
    -- pg_upgrade keeps it.
    file       oid NOT NULL
);
COMMENT ON TABLE tracked_partitions IS 'watched tables and their partitions after the last DDL command';

CREATE FUNCTION raise_event(
    topic text, reason text, relation text, root text, range_from timestamptz, range_to timestamptz
) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    IF raise_event.topic = 'labels' THEN
        INSERT INTO arx.label_change_log (network, address) VALUES (NULL, NULL);
    ELSE
        INSERT INTO arx.graph_epoch (reason, relation, root, range_from, range_to)
        VALUES (raise_event.reason, raise_event.relation, raise_event.root, raise_event.range_from,
                raise_event.range_to);
    END IF;
END;
$$;

-- A TRUNCATE of a parent fires the triggers of its partitions after its own, and is one event: the
-- partition of a parent that was truncated is empty until another command writes.
CREATE FUNCTION raise_graph_epoch() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    command bigint := arx.current_command();
BEGIN
    -- A partition that was detached keeps its trigger.
    PERFORM arx.raise_event(t.topic, lower(TG_OP), format('%I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME), t.root,
                            t.range_from, t.range_to)
       FROM arx.tracked_partitions AS t
      WHERE t.relid = TG_RELID
        AND NOT EXISTS (
            SELECT FROM arx.graph_epoch AS e
              JOIN arx.tracked_partitions AS p ON p.relation = e.relation
              JOIN pg_partition_ancestors(TG_RELID) AS a ON a.relid = p.relid
             WHERE e.raised_xid = pg_current_xact_id() AND e.reason = lower(TG_OP)
               AND e.cmin::text::bigint + 1 >= command);
    RETURN NULL;
END;
$$;

-- The columns of a watched table that consumers read: those that it is created with. Others are its
-- users', and adding or removing one changes no transfer.
CREATE FUNCTION read_columns(root text) RETURNS name[]
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
SELECT CASE
    WHEN root = 'transactions' THEN
        '{network,tx_hash,block_number,transaction_index,timestamp,from_address,to_address,value,value_usd,gas_used,
          gas_price,status,metadata,block_hash,ingest_xid}'::name[]
    WHEN root = 'internal_transfers' THEN
        '{network,tx_hash,position,is_ordered,block_number,transaction_index,timestamp,from_address,to_address,value,
          value_usd,kind,succeeded,trace_path,block_hash,outcome_inherited,block_inherited,ingest_xid}'
    WHEN root = 'token_transfers' THEN
        '{network,tx_hash,log_index,block_number,timestamp,token_address,from_address,to_address,amount,token_id,
          value_usd,ingest_xid}'
    ELSE (SELECT array_agg(a.attname) FROM pg_attribute AS a
           WHERE a.attrelid = to_regclass('arx.' || quote_ident(root)) AND a.attnum > 0 AND NOT a.attisdropped)
END
$$;

-- The times of a partition of a table that is partitioned by them alone; NULL for any other one.
CREATE FUNCTION time_range(partition oid, is_by_time boolean, OUT range_from timestamptz, OUT range_to timestamptz)
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    IF is_by_time THEN
        SELECT r.range_from, r.range_to INTO range_from, range_to FROM arx.partition_range(partition) AS r;
    END IF;
END;
$$;

-- Reads the catalog alone, and takes no lock on a partition, as pg_get_triggerdef() would.
CREATE FUNCTION partitions_now()
    RETURNS TABLE (relid oid, relation text, topic text, shape text, kind "char", unlogged boolean, is_watched boolean,
                   notes_writers boolean, is_complete boolean, root text, range_from timestamptz, range_to timestamptz,
                   file oid)
    LANGUAGE sql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
WITH RECURSIVE tree AS (
    SELECT c.oid, w.topic, w.functions, w.name AS root, NULL::timestamptz AS range_from, NULL::timestamptz AS range_to
      FROM arx.watched_tables() AS w
      JOIN pg_class AS c ON c.relname = w.name AND c.relnamespace = to_regnamespace('arx') AND c.relkind IN ('r', 'p')
    UNION
    -- A partition without bounds of times, as by hash, has the times of its parent.
    SELECT i.inhrelid, t.topic, t.functions, t.root, coalesce(r.range_from, t.range_from),
           coalesce(r.range_to, t.range_to)
      FROM tree AS t
      JOIN pg_inherits AS i ON i.inhparent = t.oid
      LEFT JOIN pg_partitioned_table AS k ON k.partrelid = t.oid
      LEFT JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = k.partattrs[0]
     CROSS JOIN LATERAL arx.time_range(i.inhrelid, k.partnatts = 1 AND a.attname = 'timestamp') AS r
), ours AS MATERIALIZED (
    SELECT to_regprocedure(format('arx.%I()', f.name)) AS oid, f.name, f.name = 'raise_graph_epoch' AS is_raise,
           f.name = 'note_writer' AS is_note
      FROM (SELECT DISTINCT unnest(w.functions) FROM arx.watched_tables() AS w
            UNION ALL VALUES ('raise_graph_epoch'), ('note_writer')) AS f (name)
)
SELECT t.oid, format('%I.%I', n.nspname, c.relname), t.topic,
       -- Not pg_get_partkeydef(): it locks the table, and so two commands at a time may deadlock.
       concat_ws(' ', c.relpersistence,
                 (SELECT concat_ws(' ', k.partstrat, k.partattrs, k.partclass, k.partcollation, k.partexprs)
                    FROM pg_partitioned_table AS k WHERE k.partrelid = t.oid),
                 c.relpartbound,
                 (SELECT string_agg(format('%s %s %s', a.attname, a.attnum, format_type(a.atttypid, a.atttypmod)), ','
                                    ORDER BY a.attname)
                    FROM pg_attribute AS a
                   WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
                     -- A column that came with a default has values in rows that were not written.
                     AND (a.attname = ANY (arx.read_columns(t.root)) OR a.atthasmissing)),
                 g.triggers),
       c.relkind, c.relpersistence = 'u', coalesce(g.is_watched, false),
       t.topic <> 'transfers' OR coalesce(g.notes_writers, false), t.functions <@ coalesce(g.enabled, '{}'),
       t.root, t.range_from, t.range_to, c.relfilenode
  FROM tree AS t
  JOIN pg_class AS c ON c.oid = t.oid
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL (
    -- The trigger that notes writers is no part of the shape: without it, every caller asks.
    SELECT string_agg(line, ',' ORDER BY line COLLATE "C") FILTER (WHERE NOT is_note) AS triggers,
           bool_or(is_truncate) AS is_watched, bool_or(is_writes) AS notes_writers,
           array_agg(name) FILTER (WHERE is_enabled) AS enabled
      FROM (SELECT format('%s %s %s %s %s %s', f.tgfoid::regprocedure, f.tgenabled, f.tgtype, f.tgattr,
                          encode(f.tgargs, 'escape'), hashtextextended(f.tgqual::text, 0)) AS line,
                   -- The bit of TRUNCATE in tgtype.
                   o.is_raise AND f.tgisinternal AND f.tgtype & 32 <> 0 AS is_truncate,
                   -- Triggers of INSERT, DELETE and UPDATE.
                   o.is_note AND f.tgisinternal AND f.tgtype & 28 = 28 AS is_writes, o.is_note,
                   o.name, f.tgenabled = 'A' AS is_enabled
              FROM pg_trigger AS f JOIN ours AS o ON o.oid = f.tgfoid
             WHERE f.tgrelid = t.oid) AS f
 ) AS g
$$;

-- Gives the tables that have none their triggers of statements, which PostgreSQL does not clone to
-- partitions: that of TRUNCATE, which raises the epoch, and that which notes writers of transfers.
-- They are internal triggers, which pg_dump leaves out: a restore makes them again by creating or
-- attaching the table. pg_upgrade leaves them out as well but keeps tracked_partitions: a table
-- with another file than was noted there may have been truncated since. SECURITY DEFINER: it reads
-- the catalog and internal tables, and runs no code of the tables' owners.
--
-- With `is_refresh`, a table whose other triggers are missing or disabled is an event of its topic,
-- because no trace of a change exists.
CREATE FUNCTION watch_truncates(is_refresh boolean) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    unwatched record;
BEGIN
    FOR unwatched IN
        SELECT p.relid, p.relation, p.topic, p.is_watched, p.notes_writers, p.is_complete, p.root, p.range_from,
               p.range_to, p.file, t.file AS former_file
          FROM arx.partitions_now() AS p
          LEFT JOIN arx.tracked_partitions AS t ON t.relid = p.relid
         WHERE (NOT p.is_watched OR NOT p.notes_writers
                OR (is_refresh AND (NOT p.is_complete OR p.file <> t.file))) AND p.kind IN ('r', 'p')
         ORDER BY p.relation
    LOOP
        IF NOT unwatched.is_watched THEN
            PERFORM arx.watch_truncate(unwatched.relid, 'arx.raise_graph_epoch()'::regprocedure);
        END IF;
        -- A watched table had its event, or was rewritten with the same rows.
        IF unwatched.file <> unwatched.former_file THEN
            UPDATE arx.tracked_partitions AS t SET file = unwatched.file WHERE t.relid = unwatched.relid;
        END IF;
        IF NOT unwatched.notes_writers THEN
            PERFORM arx.watch_writers(unwatched.relid);
        END IF;
        IF is_refresh AND NOT unwatched.is_complete THEN
            RAISE WARNING 'changes of % are not seen: triggers of arx are missing or disabled', unwatched.relation
                USING HINT = 'Run SELECT * FROM arx.create_tables(), or ALTER TABLE ... ENABLE ALWAYS TRIGGER. '
                             'Until then, every refresh starts over.';
        END IF;
        -- NULL for a table that is not tracked yet.
        IF (NOT unwatched.is_watched AND unwatched.former_file <> unwatched.file)
           OR (is_refresh AND NOT unwatched.is_complete) THEN
            PERFORM arx.raise_event(unwatched.topic, 'watch', unwatched.relation, unwatched.root, unwatched.range_from,
                                    unwatched.range_to);
        END IF;
    END LOOP;
END;
$$;

-- Compares the tables with those before the command. `created` lists tables that the command
-- created.
CREATE FUNCTION track_partitions(created oid[]) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    change record;
BEGIN
    PERFORM arx.watch_truncates(is_refresh => false);
    FOR change IN
        SELECT coalesce(p.relid, t.relid) AS relid, coalesce(p.relation, t.relation) AS relation,
               coalesce(p.topic, t.topic) AS topic, p.shape, p.unlogged, p.kind, t.shape AS former_shape,
               coalesce(p.root, t.root) AS root, p.range_from, p.range_to, p.file, t.relid IS NOT NULL AS was_tracked,
               t.range_from AS former_from, t.range_to AS former_to
          FROM arx.partitions_now() AS p
          FULL JOIN arx.tracked_partitions AS t ON t.relid = p.relid
         WHERE (p.relation, p.shape) IS DISTINCT FROM (t.relation, t.shape)
         ORDER BY 2
    LOOP
        IF change.shape IS NULL THEN
            DELETE FROM arx.tracked_partitions AS t WHERE t.relid = change.relid;
        ELSIF change.unlogged THEN
            RAISE EXCEPTION 'table % must not be unlogged: a crash would empty it without a trace', change.relation
                USING ERRCODE = 'invalid_table_definition', HINT = 'Run ALTER TABLE ... SET LOGGED, before it is attached if it is a partition.';
        ELSIF change.kind = 'f' THEN
            RAISE EXCEPTION 'partition % must not be a foreign table: its rows change without a trace', change.relation
                USING ERRCODE = 'wrong_object_type', HINT = 'Copy the rows into an ordinary table, and attach that.';
        ELSE
            INSERT INTO arx.tracked_partitions AS t
                (relid, relation, topic, shape, root, range_from, range_to, file)
            VALUES (change.relid, change.relation, change.topic, change.shape, change.root, change.range_from,
                    change.range_to, change.file)
                ON CONFLICT (relid) DO UPDATE
               SET relation = excluded.relation, topic = excluded.topic, shape = excluded.shape, root = excluded.root,
                   range_from = excluded.range_from, range_to = excluded.range_to, file = excluded.file;
            IF change.kind = 'r' AND change.shape IS DISTINCT FROM change.former_shape THEN
                PERFORM arx.restamp_future_rows(change.relid);
            END IF;
        END IF;
        -- A new name alone changes no row, and a partition that was just created is empty.
        IF change.shape IS DISTINCT FROM change.former_shape AND NOT arx.is_moving_rows()
           AND change.relid <> ALL (created) THEN
            PERFORM arx.raise_event(
                change.topic,
                CASE WHEN change.shape IS NULL THEN 'detach' WHEN change.former_shape IS NULL THEN 'attach'
                     WHEN change.former_shape = 'rewritten' THEN 'rewrite' ELSE 'alter' END,
                change.relation, change.root,
                -- Before and after; NULL if either is unbounded.
                CASE WHEN change.shape IS NULL THEN change.former_from
                     WHEN NOT change.was_tracked THEN change.range_from
                     WHEN change.former_from IS NOT NULL AND change.range_from IS NOT NULL
                     THEN least(change.former_from, change.range_from) END,
                CASE WHEN change.shape IS NULL THEN change.former_to
                     WHEN NOT change.was_tracked THEN change.range_to
                     WHEN change.former_to IS NOT NULL AND change.range_to IS NOT NULL
                     THEN greatest(change.former_to, change.range_to) END);
        END IF;
    END LOOP;
END;
$$;

CREATE FUNCTION watch_partition_commands() RETURNS event_trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    trigger record;
    roots   oid[];
BEGIN
    -- NULL while the schema has another name.
    IF to_regclass('arx.tracked_partitions') IS NULL THEN
        RETURN;
    END IF;
    -- After ENABLE TRIGGER, as by pg_restore --disable-triggers, and CREATE OR REPLACE TRIGGER, the
    -- rows of publishers would be left out. A user's own function in the schema is not ours.
    FOR trigger IN
        SELECT g.tgrelid::regclass AS relation, g.tgname
          FROM pg_event_trigger_ddl_commands() AS c
         -- By the indexes: this runs after every command on any table.
         CROSS JOIN LATERAL (
            SELECT t.tgrelid, t.tgname, t.tgenabled, t.tgfoid FROM pg_trigger AS t
             WHERE c.classid = 'pg_class'::regclass AND t.tgrelid = c.objid
             UNION ALL
            SELECT t.tgrelid, t.tgname, t.tgenabled, t.tgfoid FROM pg_trigger AS t
             WHERE c.classid = 'pg_trigger'::regclass AND t.oid = c.objid
         ) AS g
         WHERE c.command_tag IN ('ALTER TABLE', 'CREATE TRIGGER') AND g.tgenabled = 'O'
           AND EXISTS (SELECT FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
                        WHERE d.classid = 'pg_proc'::regclass AND d.objid = g.tgfoid AND d.deptype = 'e'
                          AND d.refclassid = 'pg_extension'::regclass AND e.extname = 'arx')
    LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', trigger.relation, trigger.tgname);
    END LOOP;
    roots := ARRAY(SELECT to_regclass('arx.' || quote_ident(w.name)) FROM arx.watched_tables() AS w);
    -- Commands on other tables return here.
    IF NOT EXISTS (
        SELECT FROM pg_event_trigger_ddl_commands() AS c
          LEFT JOIN pg_trigger AS g ON c.classid = 'pg_trigger'::regclass AND g.oid = c.objid
         CROSS JOIN LATERAL (SELECT coalesce(g.tgrelid, c.objid)) AS table_of (oid)
         WHERE c.schema_name IS DISTINCT FROM 'pg_temp'
           AND c.classid IN ('pg_class'::regclass, 'pg_trigger'::regclass)
           AND (EXISTS (SELECT FROM arx.tracked_partitions AS t WHERE t.relid = table_of.oid)
                OR EXISTS (SELECT FROM pg_inherits AS i JOIN arx.tracked_partitions AS t ON t.relid = i.inhparent
                            WHERE i.inhrelid = table_of.oid)
                OR table_of.oid = ANY (roots)
                OR EXISTS (SELECT FROM pg_partition_ancestors(table_of.oid) AS a WHERE a.relid = ANY (roots)))
    ) AND NOT EXISTS (SELECT FROM arx.tracked_partitions AS t WHERE t.shape = 'rewritten') THEN
        RETURN;
    END IF;
    PERFORM arx.track_partitions(ARRAY(
        SELECT c.objid FROM pg_event_trigger_ddl_commands() AS c
         WHERE c.classid = 'pg_class'::regclass AND c.command_tag = 'CREATE TABLE'));
END;
$$;

-- Columns and triggers also go with other objects, by CASCADE.
CREATE FUNCTION watch_partition_drops() RETURNS event_trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    dropped record;
    is_ours boolean := false;
BEGIN
    -- DROP EXTENSION drops the table as well.
    IF to_regclass('arx.tracked_partitions') IS NULL THEN
        RETURN;
    END IF;
    FOR dropped IN
        DELETE FROM arx.tracked_partitions AS t
         USING pg_event_trigger_dropped_objects() AS d
         WHERE d.classid = 'pg_class'::regclass AND d.objid = t.relid AND d.objsubid = 0
        RETURNING t.relation, t.topic, t.root, t.range_from, t.range_to
    LOOP
        PERFORM arx.raise_event(dropped.topic, 'drop', dropped.relation, dropped.root, dropped.range_from,
                                dropped.range_to);
        is_ours := true;
    END LOOP;
    IF is_ours OR EXISTS (
        SELECT FROM pg_event_trigger_dropped_objects() AS d
          JOIN arx.tracked_partitions AS t
            ON t.relid = CASE WHEN d.object_type = 'trigger'
                              THEN to_regclass(format('%I.%I', d.address_names[1], d.address_names[2]))
                              WHEN d.classid = 'pg_class'::regclass THEN d.objid END
         WHERE NOT d.is_temporary
    ) THEN
        PERFORM arx.track_partitions('{}');
    END IF;
END;
$$;

-- A column that keeps its type may get other values, by ALTER COLUMN ... TYPE ... USING, and a new
-- one has values if it is generated or its default is volatile. The end of the command finds the
-- mark.
CREATE FUNCTION watch_partition_rewrites() RETURNS event_trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    -- The bits for values in the reasons of a rewrite: AT_REWRITE_DEFAULT_VAL and
    -- AT_REWRITE_COLUMN_REWRITE.
    IF pg_event_trigger_table_rewrite_reason() & 6 <> 0 AND to_regclass('arx.tracked_partitions') IS NOT NULL THEN
        UPDATE arx.tracked_partitions AS t SET shape = 'rewritten' WHERE t.relid = pg_event_trigger_table_rewrite_oid();
    END IF;
END;
$$;

-- ALWAYS: also in sessions with session_replication_role = replica. The commands are those that
-- create or alter tables, triggers and their types; ALTER INDEX renames tables as well.
CREATE EVENT TRIGGER arx_watch_partition_commands ON ddl_command_end
    WHEN TAG IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'ALTER TABLE', 'CREATE SCHEMA', 'CREATE TRIGGER', 'ALTER TRIGGER', 'ALTER TYPE',
                 'ALTER INDEX', 'CREATE FOREIGN TABLE', 'ALTER FOREIGN TABLE', 'IMPORT FOREIGN SCHEMA')
    EXECUTE FUNCTION watch_partition_commands();
ALTER EVENT TRIGGER arx_watch_partition_commands ENABLE ALWAYS;
CREATE EVENT TRIGGER arx_watch_partition_drops ON sql_drop EXECUTE FUNCTION watch_partition_drops();
ALTER EVENT TRIGGER arx_watch_partition_drops ENABLE ALWAYS;
CREATE EVENT TRIGGER arx_watch_partition_rewrites ON table_rewrite EXECUTE FUNCTION watch_partition_rewrites();
ALTER EVENT TRIGGER arx_watch_partition_rewrites ENABLE ALWAYS;

CREATE FUNCTION changed_transactions(since pg_snapshot)
    RETURNS TABLE (network text, "timestamp" timestamptz, from_address text, to_address text)
    LANGUAGE plpgsql_as_owner STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    -- The planner estimates a third of the table for an unknown snapshot; nearly always almost
    -- nothing has changed.
    SET enable_seqscan = off
    SET max_parallel_workers_per_gather = 0
    -- No plan is better for one snapshot than for another, and to plan every partition takes longer
    -- than to look into its index.
    SET plan_cache_mode = force_generic_plan
    SET jit = off
    AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
SELECT t.network, t."timestamp", t.from_address, t.to_address
  FROM arx.transactions AS t
 WHERE arx.is_new_since(t.ingest_xid, $1)
UNION ALL
SELECT i.network, i."timestamp", i.from_address, i.to_address
  FROM arx.internal_transfers AS i
 WHERE arx.is_new_since(i.ingest_xid, $1)
UNION ALL
SELECT c.network, c."timestamp", c.from_address, c.to_address
  FROM arx.transaction_changes AS c
 WHERE arx.is_new_since(c.changed_xid, $1) AND c.relation IN ('transactions', 'internal_transfers');
END;
$$;
