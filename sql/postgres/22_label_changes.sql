-- Freshness of labels: which addresses bear other labels than at a snapshot. As sql/postgres/21_freshness.sql does for transactions:
-- INSERT and COPY stamp by the column's default and fire no row trigger, UPDATE stamps anew and logs whose label it was, DELETE logs
-- that. A row of the log without an address stands for every address of its network, one without a network for those of all networks.
-- A label that begins or ends by its validity changes no row: whoever follows labels looks at valid_from and valid_to himself.

CREATE TABLE label_changes (
    change_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    changed_xid xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
    network     text,
    address     text,
    changed_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT label_changes_scope CHECK (network IS NOT NULL OR address IS NULL)
);
CREATE INDEX idx_label_changes_xid ON label_changes (changed_xid);
COMMENT ON TABLE label_changes IS
    'whose labels were updated or deleted; without an address: all of the network, without a network: all';

-- SECURITY DEFINER: whoever may change a label logs the change, without rights on the log itself.
CREATE FUNCTION log_label_change() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    INSERT INTO arx.label_changes (network, address) VALUES (OLD.network, OLD.address);
    RETURN NULL;
END;
$$;

CREATE FUNCTION log_label_meaning() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    -- what is stored of a network before it is registered is nobody's until then
    IF TG_TABLE_NAME = 'networks' THEN
        INSERT INTO arx.label_changes (network) VALUES (NEW.network);
    ELSE
        INSERT INTO arx.label_changes (network) VALUES (NULL);
    END IF;
    RETURN NULL;
END;
$$;

CREATE TRIGGER arx_stamp BEFORE UPDATE ON address_labels FOR EACH ROW EXECUTE FUNCTION stamp_transaction();
CREATE TRIGGER arx_log_change AFTER UPDATE OR DELETE ON address_labels FOR EACH ROW EXECUTE FUNCTION log_label_change();
CREATE TRIGGER arx_log_truncate AFTER TRUNCATE ON address_labels EXECUTE FUNCTION log_label_meaning();
-- a new category has no label yet
CREATE TRIGGER arx_log_update AFTER UPDATE ON label_categories FOR EACH ROW
    WHEN ((OLD.category, OLD.kind, OLD.severity) IS DISTINCT FROM (NEW.category, NEW.kind, NEW.severity))
    EXECUTE FUNCTION log_label_meaning();
CREATE TRIGGER arx_log_delete AFTER DELETE ON label_categories FOR EACH STATEMENT EXECUTE FUNCTION log_label_meaning();
CREATE TRIGGER arx_log_network AFTER INSERT OR UPDATE OF network ON networks FOR EACH ROW EXECUTE FUNCTION log_label_meaning();

CREATE FUNCTION changed_labels(since pg_snapshot) RETURNS TABLE (network text, address text)
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    -- as in changed_transactions()
    SET enable_seqscan = off
    SET jit = off
    AS $$
SELECT l.network, l.address
  FROM arx.address_labels AS l
 WHERE arx.is_new_since(l.ingest_xid, $1)
UNION
SELECT c.network, c.address
  FROM arx.label_changes AS c
 WHERE arx.is_new_since(c.changed_xid, $1)
$$;
