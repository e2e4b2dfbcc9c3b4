-- Freshness of labels: addresses whose labels changed since a snapshot. As in 21_freshness.sql,
-- INSERT and COPY stamp a row by the column's default and fire no row trigger, UPDATE stamps it
-- again and logs the address, and DELETE logs the address. A row of the log without an address
-- stands for every address of its network, and one without a network for every address: such a row
-- is also the event of a TRUNCATE or a DDL command on a table of watched_tables() with the topic
-- `labels`. A label that begins or ends by its validity changes no row: consumers must check
-- valid_from and valid_to themselves.

-- The label of a wallet with the lowest rank weighs most: sanctions, then kind, severity and
-- confidence. Labels of one rank are in the order of their sources and numbers. The view
-- current_labels states the same order: it belongs to users, and must not depend on this. The
-- planner inlines the function, for the reason given at is_new_since(). The severity is a text,
-- because its type comes with the tables.
CREATE FUNCTION label_rank(category text, kind text, severity text, confidence numeric) RETURNS numeric
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN category = 'sanctions' THEN 0
                ELSE coalesce(array_position(ARRAY['illicit', 'service', 'neutral'], kind), 4) END * 100
           + coalesce(array_position(ARRAY['severe', 'high', 'medium', 'low', 'none'], severity), 6) * 10
           - confidence;

CREATE TABLE label_change_log (
    change_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    changed_xid xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
    network     text,
    address     text,
    changed_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT label_changes_scope CHECK (network IS NOT NULL OR address IS NULL)
);
CREATE INDEX idx_label_changes_xid ON label_change_log (changed_xid);
COMMENT ON TABLE label_change_log IS 'rows of label_changes';

-- Empty for a caller from whom row-level security hides labels.
CREATE VIEW label_changes AS
SELECT c.* FROM arx.label_change_log AS c WHERE (SELECT NOT row_security_active('arx.address_labels'));
COMMENT ON VIEW label_changes IS
    'addresses whose labels were updated or deleted; address NULL: the whole network, network NULL: all networks';

CREATE FUNCTION changed_labels(since pg_snapshot) RETURNS TABLE (network text, address text)
    LANGUAGE plpgsql_as_owner STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    -- For the reason given at changed_transactions().
    SET enable_seqscan = off
    SET jit = off
    AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
SELECT l.network, l.address
  FROM arx.address_labels AS l
 WHERE arx.is_new_since(l.ingest_xid, $1)
UNION
SELECT c.network, c.address
  FROM arx.label_changes AS c
 WHERE arx.is_new_since(c.changed_xid, $1);
END;
$$;
