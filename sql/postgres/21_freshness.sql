-- Freshness: what has become visible since a snapshot.
--
-- For a stored pg_snapshot S, the rows visible now for which is_new_since(ingest_xid, S) holds are
-- exactly those committed since S. INSERT and COPY stamp a row by the column's default; a row that
-- brings another transaction's stamp, as from a staging table or a publisher, is stamped again by
-- restamp_row(). UPDATE stamps it by stamp_row(), and log_transaction_change() logs its former
-- version; DELETE logs a tombstone. These triggers are in pg_ext/src/api/triggers.rs.
-- TRUNCATE, and ATTACH, DETACH or DROP of a partition, fire no row trigger and raise the epoch: a
-- consumer whose stored epoch differs from current_graph_epoch() starts over. The triggers also
-- fire for rows that logical replication applies.

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

-- The epoch is the number of visible rows: it rises with every commit, in any order of commits.
CREATE TABLE graph_epoch (
    epoch_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    reason     text NOT NULL,
    relation   text NOT NULL,
    raised_xid xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
    raised_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE graph_epoch IS 'changes of transactions that fire no row trigger: TRUNCATE, ATTACH, DETACH, DROP';

CREATE FUNCTION current_graph_epoch() RETURNS bigint
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$ SELECT count(*) FROM arx.graph_epoch $$;

CREATE FUNCTION raise_graph_epoch() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    -- A partition that was detached keeps its trigger.
    INSERT INTO arx.graph_epoch (reason, relation)
    SELECT lower(TG_OP), format('%I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME)
     WHERE EXISTS (SELECT FROM arx.tracked_partitions AS t WHERE t.relid = TG_RELID);
    RETURN NULL;
END;
$$;

-- Partitions ------------------------------------------------------------------------------------
-- The partitions of the tables as they were after the last DDL command, by oid. `shape` is what
-- consumers depend on: persistence, bounds, columns, and ARX's triggers. A DDL command raises the
-- epoch only if this table changes. It is empty in a restored database, and filled there by the
-- commands of the restore. pg_upgrade keeps its rows, so a shape names functions instead of their
-- oids.
CREATE TABLE tracked_partitions (
    relid    oid PRIMARY KEY,
    relation text NOT NULL,
    shape    text NOT NULL
);
COMMENT ON TABLE tracked_partitions IS 'partitions of transactions, internal transfers and token transfers after the last DDL command';

-- Reads the catalog alone, and takes no lock on a partition, as pg_get_triggerdef() would.
CREATE FUNCTION partitions_now()
    RETURNS TABLE (relid oid, relation text, shape text, kind "char", unlogged boolean, is_watched boolean)
    LANGUAGE sql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
WITH RECURSIVE tree AS (
    SELECT c.oid
      FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE n.nspname = 'arx' AND c.relname IN ('transactions', 'internal_transfers', 'token_transfers') AND c.relkind IN ('r', 'p')
    UNION
    SELECT i.inhrelid FROM tree AS t JOIN pg_inherits AS i ON i.inhparent = t.oid
), ours AS MATERIALIZED (
    SELECT to_regprocedure('arx.stamp_row()') AS stamp, to_regprocedure('arx.restamp_row()') AS restamp,
           to_regprocedure('arx.log_transaction_change()') AS log, to_regprocedure('arx.raise_graph_epoch()') AS raise
)
SELECT t.oid, format('%I.%I', n.nspname, c.relname),
       -- Not pg_get_partkeydef(): it locks the table, and so two commands at a time may deadlock.
       concat_ws(' ', c.relpersistence,
                 (SELECT concat_ws(' ', k.partstrat, k.partattrs, k.partclass, k.partcollation, k.partexprs)
                    FROM pg_partitioned_table AS k WHERE k.partrelid = t.oid),
                 c.relpartbound,
                 (SELECT string_agg(format('%s %s %s', a.attname, a.attnum, format_type(a.atttypid, a.atttypmod)), ','
                                    ORDER BY a.attname)
                    FROM pg_attribute AS a
                   WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped),
                 g.triggers),
       c.relkind, c.relpersistence = 'u', coalesce(g.is_watched, false)
  FROM tree AS t
 CROSS JOIN ours AS o
  JOIN pg_class AS c ON c.oid = t.oid
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL (
    SELECT string_agg(line, ',' ORDER BY line COLLATE "C") AS triggers, bool_or(is_truncate) AS is_watched
      FROM (SELECT format('%s %s %s %s %s %s', f.tgfoid::regprocedure, f.tgenabled, f.tgtype, f.tgattr,
                          encode(f.tgargs, 'escape'), hashtextextended(f.tgqual::text, 0)) AS line,
                   -- The bit of TRUNCATE in tgtype.
                   f.tgfoid = o.raise AND f.tgisinternal AND f.tgtype & 32 <> 0 AS is_truncate
              FROM pg_trigger AS f
             WHERE f.tgrelid = t.oid AND f.tgfoid IN (o.stamp, o.restamp, o.log, o.raise)) AS f
 ) AS g
$$;

-- Gives the tables that have none their TRUNCATE trigger, which PostgreSQL does not clone to
-- partitions. It is an internal trigger, which pg_dump leaves out: a restore makes it again by
-- attaching the partition. pg_upgrade leaves it out as well but keeps tracked_partitions, and a
-- TRUNCATE may have gone unseen since. SECURITY DEFINER: it reads the catalog and internal tables,
-- and runs no code of the tables' owners.
CREATE FUNCTION watch_truncates() RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    unwatched record;
BEGIN
    FOR unwatched IN
        SELECT p.relid, p.relation, t.relid IS NOT NULL AS is_tracked
          FROM arx.partitions_now() AS p
          LEFT JOIN arx.tracked_partitions AS t ON t.relid = p.relid
         WHERE NOT p.is_watched AND p.kind IN ('r', 'p')
         ORDER BY p.relation
    LOOP
        PERFORM arx.watch_truncate(unwatched.relid, 'arx.raise_graph_epoch()'::regprocedure);
        IF unwatched.is_tracked THEN
            INSERT INTO arx.graph_epoch (reason, relation) VALUES ('watch', unwatched.relation);
        END IF;
    END LOOP;
END;
$$;

-- Compares the partitions with those before the command. `created` lists tables that the command
-- created.
CREATE FUNCTION track_partitions(created oid[]) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    change record;
BEGIN
    PERFORM arx.watch_truncates();
    FOR change IN
        SELECT coalesce(p.relid, t.relid) AS relid, coalesce(p.relation, t.relation) AS relation, p.shape, p.unlogged,
               p.kind, t.shape AS former_shape
          FROM arx.partitions_now() AS p
          FULL JOIN arx.tracked_partitions AS t ON t.relid = p.relid
         WHERE (p.relation, p.shape) IS DISTINCT FROM (t.relation, t.shape)
         ORDER BY 2
    LOOP
        IF change.shape IS NULL THEN
            DELETE FROM arx.tracked_partitions AS t WHERE t.relid = change.relid;
        ELSIF change.unlogged THEN
            RAISE EXCEPTION 'partition % must not be unlogged: a crash would empty it without a trace', change.relation
                USING ERRCODE = 'invalid_table_definition', HINT = 'ALTER TABLE … SET LOGGED before it is attached.';
        ELSIF change.kind = 'f' THEN
            RAISE EXCEPTION 'partition % must not be a foreign table: its rows change without a trace', change.relation
                USING ERRCODE = 'wrong_object_type', HINT = 'Copy the rows into an ordinary table, and attach that.';
        ELSE
            INSERT INTO arx.tracked_partitions AS t (relid, relation, shape)
            VALUES (change.relid, change.relation, change.shape)
                ON CONFLICT (relid) DO UPDATE SET relation = excluded.relation, shape = excluded.shape;
            IF change.kind = 'r' AND change.shape IS DISTINCT FROM change.former_shape THEN
                PERFORM arx.restamp_future_rows(change.relid);
            END IF;
        END IF;
        -- A new name alone changes no row, and a partition that was just created is empty.
        IF change.shape IS DISTINCT FROM change.former_shape AND NOT arx.is_moving_rows()
           AND change.relid <> ALL (created) THEN
            INSERT INTO arx.graph_epoch (reason, relation)
            VALUES (CASE WHEN change.shape IS NULL THEN 'detach' WHEN change.former_shape IS NULL THEN 'attach'
                         WHEN change.former_shape = 'rewritten' THEN 'rewrite' ELSE 'alter' END, change.relation);
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
          JOIN pg_trigger AS g ON c.classid = 'pg_class'::regclass AND g.tgrelid = c.objid
                               OR c.classid = 'pg_trigger'::regclass AND g.oid = c.objid
         WHERE c.command_tag IN ('ALTER TABLE', 'CREATE TRIGGER') AND g.tgenabled = 'O'
           AND EXISTS (SELECT FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
                        WHERE d.classid = 'pg_proc'::regclass AND d.objid = g.tgfoid AND d.deptype = 'e'
                          AND d.refclassid = 'pg_extension'::regclass AND e.extname = 'arx')
    LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', trigger.relation, trigger.tgname);
    END LOOP;
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
                OR EXISTS (SELECT FROM pg_partition_ancestors(table_of.oid) AS a
                             JOIN pg_class AS p ON p.oid = a.relid
                            WHERE p.relname IN ('transactions', 'internal_transfers', 'token_transfers')
                              AND p.relnamespace = to_regnamespace('arx')))
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
        RETURNING t.relation
    LOOP
        INSERT INTO arx.graph_epoch (reason, relation) VALUES ('drop', dropped.relation);
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

-- A column that keeps its type may get other values: ALTER COLUMN … TYPE … USING. The end of the
-- command finds the mark.
CREATE FUNCTION watch_partition_rewrites() RETURNS event_trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    -- The bit for columns in the reasons of a rewrite: AT_REWRITE_COLUMN_REWRITE.
    IF pg_event_trigger_table_rewrite_reason() & 4 <> 0 AND to_regclass('arx.tracked_partitions') IS NOT NULL THEN
        UPDATE arx.tracked_partitions AS t SET shape = 'rewritten' WHERE t.relid = pg_event_trigger_table_rewrite_oid();
    END IF;
END;
$$;

-- ALWAYS: also in sessions with session_replication_role = replica. The commands are those that
-- create or alter tables, triggers and their types; ALTER INDEX renames tables as well.
CREATE EVENT TRIGGER arx_watch_partition_commands ON ddl_command_end
    WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE', 'CREATE SCHEMA', 'CREATE TRIGGER', 'ALTER TRIGGER', 'ALTER TYPE',
                 'ALTER INDEX', 'CREATE FOREIGN TABLE', 'ALTER FOREIGN TABLE', 'IMPORT FOREIGN SCHEMA')
    EXECUTE FUNCTION watch_partition_commands();
ALTER EVENT TRIGGER arx_watch_partition_commands ENABLE ALWAYS;
CREATE EVENT TRIGGER arx_watch_partition_drops ON sql_drop EXECUTE FUNCTION watch_partition_drops();
ALTER EVENT TRIGGER arx_watch_partition_drops ENABLE ALWAYS;
CREATE EVENT TRIGGER arx_watch_partition_rewrites ON table_rewrite EXECUTE FUNCTION watch_partition_rewrites();
ALTER EVENT TRIGGER arx_watch_partition_rewrites ENABLE ALWAYS;

CREATE FUNCTION changed_transactions(since pg_snapshot)
    RETURNS TABLE (network text, "timestamp" timestamptz, from_address text, to_address text)
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    -- The planner estimates a third of the table for an unknown snapshot; nearly always almost
    -- nothing has changed.
    SET enable_seqscan = off
    SET jit = off
    AS $$
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
 WHERE arx.is_new_since(c.changed_xid, $1) AND c.relation IN ('transactions', 'internal_transfers')
$$;
