-- Freshness: what has become visible since a snapshot.
--
-- For a stored pg_snapshot S, the rows visible now for which is_new_since(ingest_xid, S) holds are
-- exactly those committed since S. INSERT and COPY stamp a row by the column's default. UPDATE
-- stamps it again and logs its former version; DELETE logs a tombstone. TRUNCATE, and ATTACH,
-- DETACH or DROP of a partition, fire no row trigger and raise the epoch: a consumer whose stored
-- epoch differs from current_graph_epoch() starts over.

-- The planner inlines this function, so that the first condition uses an index on the stamp. It
-- does so only for a single expression without SET clauses; the body is resolved when it is
-- created, and needs no search_path.
CREATE FUNCTION is_new_since(stamp xid8, since pg_snapshot) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN stamp >= pg_catalog.pg_snapshot_xmin(since) AND NOT pg_catalog.pg_visible_in_snapshot(stamp, since);

CREATE TABLE transaction_changes (
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
    status       tx_status_enum,
    former_xid   xid8 NOT NULL,
    changed_at   timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE transaction_changes IS 'former versions of updated and deleted transactions and token transfers';
CREATE INDEX idx_transaction_changes_xid ON transaction_changes (changed_xid);

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

CREATE FUNCTION stamp_transaction() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    NEW.ingest_xid := pg_current_xact_id();
    RETURN NEW;
END;
$$;

-- SECURITY DEFINER: a role that may change a transaction logs the change without privileges on the
-- log. The trigger fires after the change: a change that another trigger prevented is not logged,
-- and a row that moves to another partition is.
CREATE FUNCTION log_transaction_change() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    IF TG_ARGV[0] = 'token_transfers' THEN
        INSERT INTO arx.transaction_changes
            (relation, operation, network, tx_hash, log_index, "timestamp", block_number, asset, from_address,
             to_address, value, former_xid)
        VALUES ('token_transfers', TG_OP, OLD.network, OLD.tx_hash, OLD.log_index, OLD."timestamp", OLD.block_number,
                OLD.token_address, OLD.from_address, OLD.to_address, OLD.amount, OLD.ingest_xid);
    ELSE
        INSERT INTO arx.transaction_changes
            (relation, operation, network, tx_hash, "timestamp", block_number, transaction_index, from_address,
             to_address, value, status, former_xid)
        VALUES ('transactions', TG_OP, OLD.network, OLD.tx_hash, OLD."timestamp", OLD.block_number,
                OLD.transaction_index, OLD.from_address, OLD.to_address, OLD.value, OLD.status, OLD.ingest_xid);
    END IF;
    RETURN NULL;
END;
$$;

CREATE TRIGGER arx_stamp BEFORE UPDATE ON transactions FOR EACH ROW EXECUTE FUNCTION stamp_transaction();
CREATE TRIGGER arx_stamp BEFORE UPDATE ON token_transfers FOR EACH ROW EXECUTE FUNCTION stamp_transaction();
CREATE TRIGGER arx_log_change AFTER UPDATE OR DELETE ON transactions
    FOR EACH ROW EXECUTE FUNCTION log_transaction_change('transactions');
CREATE TRIGGER arx_log_change AFTER UPDATE OR DELETE ON token_transfers
    FOR EACH ROW EXECUTE FUNCTION log_transaction_change('token_transfers');

CREATE FUNCTION raise_graph_epoch() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    INSERT INTO arx.graph_epoch (reason, relation)
    VALUES (lower(TG_OP), format('%I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME));
    RETURN NULL;
END;
$$;

CREATE TRIGGER arx_raise_epoch AFTER TRUNCATE ON transactions EXECUTE FUNCTION raise_graph_epoch();
CREATE TRIGGER arx_raise_epoch AFTER TRUNCATE ON transactions_default EXECUTE FUNCTION raise_graph_epoch();
CREATE TRIGGER arx_raise_epoch AFTER TRUNCATE ON token_transfers EXECUTE FUNCTION raise_graph_epoch();
CREATE TRIGGER arx_raise_epoch AFTER TRUNCATE ON token_transfers_default EXECUTE FUNCTION raise_graph_epoch();

-- PostgreSQL does not clone statement triggers to partitions: every new partition gets its own,
-- however it was created.
CREATE FUNCTION watch_partition_commands() RETURNS event_trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    command   record;
    partition record;
BEGIN
    FOR command IN
        SELECT c.objid, c.command_tag, c.object_identity
          FROM pg_event_trigger_ddl_commands() AS c
         WHERE c.classid = 'pg_class'::regclass AND c.object_type = 'table'
           AND (c.objid IN (SELECT relid FROM pg_partition_tree('arx.transactions')
                            UNION ALL SELECT relid FROM pg_partition_tree('arx.token_transfers')))
    LOOP
        -- ALTER TABLE attaches and detaches partitions. After one that did neither, consumers start
        -- over without need.
        IF command.command_tag = 'ALTER TABLE' THEN
            INSERT INTO arx.graph_epoch (reason, relation) VALUES ('alter', command.object_identity);
        END IF;
        FOR partition IN
            SELECT t.relid
              FROM pg_partition_tree(command.objid) AS t
             WHERE NOT EXISTS (SELECT FROM pg_trigger AS g
                                WHERE g.tgrelid = t.relid AND g.tgname = 'arx_raise_epoch')
        LOOP
            EXECUTE format('CREATE TRIGGER arx_raise_epoch AFTER TRUNCATE ON %s '
                           'EXECUTE FUNCTION arx.raise_graph_epoch()', partition.relid::regclass);
        END LOOP;
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
    -- A dropped partition is no longer in pg_inherits; the dropped trigger identifies it.
    FOR dropped IN
        SELECT d.address_names FROM pg_event_trigger_dropped_objects() AS d
         WHERE d.object_type = 'trigger' AND d.address_names[3] = 'arx_raise_epoch'
    LOOP
        -- DROP EXTENSION drops the log as well.
        IF to_regclass('arx.graph_epoch') IS NOT NULL THEN
            INSERT INTO arx.graph_epoch (reason, relation)
            VALUES ('drop', format('%I.%I', dropped.address_names[1], dropped.address_names[2]));
        END IF;
    END LOOP;
END;
$$;

CREATE EVENT TRIGGER arx_watch_partition_commands ON ddl_command_end
    WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE') EXECUTE FUNCTION watch_partition_commands();
CREATE EVENT TRIGGER arx_watch_partition_drops ON sql_drop EXECUTE FUNCTION watch_partition_drops();

-- A dump carries the stamps of the cluster it was taken from. Rows with stamps that this cluster
-- has not assigned yet would count as new forever, and the logs refer to snapshots of the other
-- cluster.
CREATE FUNCTION after_restore() RETURNS bigint
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    relation regclass;
    stamped  bigint;
    total    bigint := 0;
BEGIN
    FOREACH relation IN ARRAY
        ARRAY['arx.transactions', 'arx.token_transfers', 'arx.address_labels', 'arx.risk_overrides']::regclass[]
    LOOP
        EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', relation);
        EXECUTE format('UPDATE %s SET ingest_xid = pg_current_xact_id() WHERE ingest_xid > pg_current_xact_id()',
                       relation);
        GET DIAGNOSTICS stamped = ROW_COUNT;
        total := total + stamped;
    END LOOP;
    DELETE FROM arx.transaction_changes;
    DELETE FROM arx.label_changes;
    INSERT INTO arx.graph_epoch (reason, relation) VALUES ('restore', 'arx.transactions');
    RETURN total;
END;
$$;

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
