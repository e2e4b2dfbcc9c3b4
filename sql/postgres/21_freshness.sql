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
    relation     text NOT NULL CHECK (relation IN ('transactions', 'token_transfers')),
    operation    text NOT NULL CHECK (operation IN ('UPDATE', 'DELETE')),
    network      text NOT NULL,
    tx_hash      text NOT NULL,
    log_index    integer,
    "timestamp"  timestamptz NOT NULL,
    block_number bigint NOT NULL,
    transaction_index integer,
    asset        text,
    from_address text NOT NULL,
    to_address   text,
    value        numeric NOT NULL,
    status       text,
    former_xid   xid8 NOT NULL,
    changed_at   timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE transaction_change_log IS 'rows of transaction_changes';
CREATE INDEX idx_transaction_changes_xid ON transaction_change_log (changed_xid);

-- Empty for a caller from whom row-level security hides transactions or token transfers. The
-- condition is checked once, before any row is read.
CREATE VIEW transaction_changes AS
SELECT c.* FROM arx.transaction_change_log AS c
 WHERE (SELECT NOT row_security_active('arx.transactions') AND NOT row_security_active('arx.token_transfers'));
COMMENT ON VIEW transaction_changes IS 'former versions of updated and deleted transactions and token transfers';

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
-- The partitions of both tables as they were after the last DDL command, by oid. `shape` is what
-- consumers depend on: persistence, bounds, columns, and which of ARX's triggers fire. A DDL
-- command raises the epoch only if this table changes. It is empty in a restored database, and
-- filled there by the commands of the restore.
CREATE TABLE tracked_partitions (
    relid    oid PRIMARY KEY,
    relation text NOT NULL,
    shape    text NOT NULL
);
COMMENT ON TABLE tracked_partitions IS 'partitions of transactions and token transfers after the last DDL command';

-- Reads the catalog alone, and takes no lock on a partition.
CREATE FUNCTION partitions_now() RETURNS TABLE (relid oid, relation text, shape text, is_leaf boolean, unlogged boolean)
    LANGUAGE sql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
WITH RECURSIVE tree AS (
    SELECT c.oid, c.relname = 'transactions' AS is_transactions
      FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE n.nspname = 'arx' AND c.relname IN ('transactions', 'token_transfers') AND c.relkind IN ('r', 'p')
    UNION ALL
    SELECT i.inhrelid, t.is_transactions FROM tree AS t JOIN pg_inherits AS i ON i.inhparent = t.oid
)
SELECT t.oid, format('%I.%I', n.nspname, c.relname),
       -- Not pg_get_partkeydef(): it locks the table, and so two commands at a time may deadlock.
       concat_ws(' ', c.relpersistence,
                 (SELECT concat_ws(' ', k.partstrat, k.partattrs, k.partclass, k.partcollation, k.partexprs)
                    FROM pg_partitioned_table AS k WHERE k.partrelid = t.oid),
                 c.relpartbound,
                 (SELECT string_agg(format('%s %s', a.attname, format_type(a.atttypid, a.atttypmod)), ','
                                    ORDER BY a.attname)
                    FROM pg_attribute AS a
                   WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped),
                 (SELECT string_agg(format('%s %s', g.tgname, g.tgenabled), ',' ORDER BY g.tgname)
                    FROM pg_trigger AS g
                   WHERE g.tgrelid = t.oid AND g.tgname IN ('arx_stamp', 'arx_restamp', 'arx_log_change'))),
       c.relkind <> 'p', c.relpersistence = 'u'
  FROM tree AS t
  JOIN pg_class AS c ON c.oid = t.oid
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
$$;

-- Compares the partitions with those before the command. PostgreSQL does not clone statement
-- triggers to partitions, so every new one gets a TRUNCATE trigger here. It is an internal trigger,
-- which pg_dump leaves out: a restore makes it again by attaching the partition.
CREATE FUNCTION watch_partition_commands() RETURNS event_trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    trigger record;
    change  record;
BEGIN
    -- NULL while the schema has another name.
    IF to_regclass('arx.tracked_partitions') IS NULL THEN
        RETURN;
    END IF;
    -- ENABLE TRIGGER, as by pg_restore --disable-triggers, would leave out the rows of publishers.
    FOR trigger IN
        SELECT g.tgrelid::regclass AS relation, g.tgname
          FROM pg_event_trigger_ddl_commands() AS c
          JOIN pg_trigger AS g ON g.tgrelid = c.objid
          JOIN pg_proc AS p ON p.oid = g.tgfoid
         WHERE c.command_tag = 'ALTER TABLE' AND c.classid = 'pg_class'::regclass AND g.tgenabled = 'O'
           AND p.pronamespace = to_regnamespace('arx')
    LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', trigger.relation, trigger.tgname);
    END LOOP;
    -- Commands on other tables return here.
    IF NOT EXISTS (
        SELECT FROM pg_event_trigger_ddl_commands() AS c
          LEFT JOIN pg_trigger AS g ON c.classid = 'pg_trigger'::regclass AND g.oid = c.objid
         CROSS JOIN LATERAL (SELECT coalesce(g.tgrelid, c.objid)) AS table_of (oid)
         WHERE c.schema_name IS DISTINCT FROM 'pg_temp'
           AND (EXISTS (SELECT FROM arx.tracked_partitions AS t WHERE t.relid = table_of.oid)
                OR EXISTS (SELECT FROM pg_partition_ancestors(table_of.oid) AS a
                             JOIN pg_class AS p ON p.oid = a.relid
                            WHERE p.relname IN ('transactions', 'token_transfers')
                              AND p.relnamespace = to_regnamespace('arx')))
    ) THEN
        RETURN;
    END IF;
    FOR change IN
        SELECT coalesce(p.relid, t.relid) AS relid, coalesce(p.relation, t.relation) AS relation, p.shape, p.unlogged,
               p.is_leaf, t.shape AS former_shape
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
        ELSE
            INSERT INTO arx.tracked_partitions AS t (relid, relation, shape)
            VALUES (change.relid, change.relation, change.shape)
                ON CONFLICT (relid) DO UPDATE SET relation = excluded.relation, shape = excluded.shape;
            IF change.former_shape IS NULL THEN
                PERFORM arx.watch_truncate(change.relid, 'arx.raise_graph_epoch()'::regprocedure);
            END IF;
            IF change.is_leaf AND change.shape IS DISTINCT FROM change.former_shape THEN
                PERFORM arx.restamp_future_rows(change.relid);
            END IF;
        END IF;
        -- A new name alone changes no row, and a partition that was just created is empty.
        IF change.shape IS DISTINCT FROM change.former_shape AND NOT arx.is_moving_rows()
           AND NOT EXISTS (SELECT FROM pg_event_trigger_ddl_commands() AS c
                            WHERE c.objid = change.relid AND c.command_tag = 'CREATE TABLE') THEN
            INSERT INTO arx.graph_epoch (reason, relation)
            VALUES (CASE WHEN change.shape IS NULL THEN 'detach' WHEN change.former_shape IS NULL THEN 'attach'
                         ELSE 'alter' END, change.relation);
        END IF;
    END LOOP;
END;
$$;

CREATE FUNCTION watch_partition_drops() RETURNS event_trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    dropped record;
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
    END LOOP;
END;
$$;

CREATE EVENT TRIGGER arx_watch_partition_commands ON ddl_command_end
    WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE', 'CREATE TRIGGER')
    EXECUTE FUNCTION watch_partition_commands();
CREATE EVENT TRIGGER arx_watch_partition_drops ON sql_drop EXECUTE FUNCTION watch_partition_drops();

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
SELECT c.network, c."timestamp", c.from_address, c.to_address
  FROM arx.transaction_changes AS c
 WHERE arx.is_new_since(c.changed_xid, $1) AND c.relation = 'transactions'
$$;
