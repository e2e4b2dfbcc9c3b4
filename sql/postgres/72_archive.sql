-- Archives: partitions whose rows are in ClickHouse, compared with those here before the partition
-- was detached. `arx-sidecar maintain` copies and compares; archive_partition() completes it in one
-- transaction. See ch_udf/sidecar/src/upkeep/archive.rs.

-- The statements that read a partition through its parent, as SQL needs them:
-- - `rows`: each row as JSON, and its amount
-- - `digest`: number of rows, sum of their amounts, sum of the first 64 bits of their MD5
-- - `fingerprint`: a text that differs as soon as a row has changed
CREATE FUNCTION archive_queries(
    partition regclass, OUT parent regclass, OUT bounds text, OUT rows text, OUT digest text, OUT fingerprint text
)
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    SET datestyle = 'ISO, YMD'
    SET timezone = 'UTC'
    AS $$
DECLARE
    source text;
    amount text;
BEGIN
    SELECT i.inhparent, format('FROM %I.%I', n.nspname, p.relname) INTO parent, source
      FROM pg_inherits AS i
      JOIN pg_class AS c ON c.oid = i.inhrelid AND c.relispartition
      JOIN pg_class AS p ON p.oid = i.inhparent
      JOIN pg_namespace AS n ON n.oid = p.relnamespace
     WHERE i.inhrelid = archive_queries.partition;
    IF parent IS NULL THEN
        RAISE EXCEPTION '% is not a partition', archive_queries.partition USING ERRCODE = 'wrong_object_type';
    END IF;
    source := format('%s AS t WHERE %s', source, pg_get_partition_constraintdef(archive_queries.partition));
    amount := (SELECT 't.' || quote_ident(a.attname) FROM pg_attribute AS a
                WHERE a.attrelid = parent AND a.attname IN ('value', 'amount') AND a.atttypid = 'numeric'::regtype
                  AND NOT a.attisdropped
                ORDER BY a.attname DESC LIMIT 1);
    bounds := regexp_replace((SELECT pg_get_expr(c.relpartbound, 0) FROM pg_class AS c
                               WHERE c.oid = archive_queries.partition), '^FOR VALUES ', '');
    rows := format('SELECT row_to_json(t)::text, %s::text %s', coalesce(amount, 'NULL'), source);
    digest := format('SELECT count(*), coalesce(sum(%s::numeric), 0)::text, '
                     'coalesce(sum((''x'' || left(md5(row_to_json(t)::text), 16))::bit(64)::bigint), 0)::text %s',
                     coalesce(amount, 'NULL'), source);
    fingerprint := format('SELECT concat_ws('' '', count(*), '
                          'sum(hashtextextended(concat_ws('' '', t.tableoid, t.ctid, t.xmin), 0))) %s', source);
END;
$$;

-- Lists an archive.
CREATE FUNCTION note_archive(archive jsonb) RETURNS void
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    INSERT INTO arx.archived_ranges (archive_id, relation, partition, partition_oid, bounds, range_from, range_to, key_from,
                                     key_to, source, rows, amount, checksum, archived_by)
    SELECT a.archive_id, a.relation, a.partition, a.partition_oid, a.bounds, a.range_from, a.range_to, a.key_from, a.key_to,
           a.source, a.rows, a.amount, a.checksum, arx.calling_user()
      FROM jsonb_to_record(archive) AS a (
           archive_id uuid, relation text, partition text, partition_oid oid, bounds text, range_from timestamptz,
           range_to timestamptz, key_from bigint, key_to bigint, source text, rows bigint, amount numeric, checksum numeric);
END;
$$;

CREATE FUNCTION note_attached_archive(partition regclass) RETURNS void
    LANGUAGE plpgsql_as_owner VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    UPDATE arx.archived_ranges AS r SET attached_at = now()
     WHERE r.partition_oid = note_attached_archive.partition AND r.attached_at IS NULL;
END;
$$;

-- Lists an archive, and detaches the partition. Fails if a row has changed since it was copied.
CREATE FUNCTION archive_partition(
    partition regclass, archive_id uuid, source text, archived_rows bigint, amount numeric, checksum numeric,
    fingerprint text
) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    queries record;
    present text;
    step    record;
    began   timestamptz := clock_timestamp();
BEGIN
    PERFORM arx.lock_job('partitions');
    SELECT * INTO queries FROM arx.archive_queries(archive_partition.partition);
    IF queries.parent IS NULL OR archive_id IS NULL OR source IS NULL OR archived_rows IS NULL THEN
        RAISE EXCEPTION 'partition, archive_id, source and archived_rows must not be null'
            USING ERRCODE = 'null_value_not_allowed';
    END IF;
    present := arx.lock_for_archive(queries.parent, archive_partition.partition);
    IF present IS DISTINCT FROM archive_partition.fingerprint THEN
        RAISE EXCEPTION 'rows of % have changed since they were copied', archive_partition.partition
            USING ERRCODE = 'serialization_failure', HINT = 'Copy them again.';
    END IF;
    SELECT * INTO step FROM arx.planned_steps(queries.parent) AS s
     WHERE s.action = 'archive' AND s.partition_oid = archive_partition.partition;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the policy does not archive partition %', archive_partition.partition
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    PERFORM arx.note_archive(jsonb_build_object(
        'archive_id', archive_partition.archive_id,
        'relation', (SELECT format('%I.%I', n.nspname, c.relname)
                       FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = queries.parent),
        'partition', step.partition, 'partition_oid', step.partition_oid, 'bounds', step.bounds,
        'range_from', step.range_from, 'range_to', step.range_to, 'key_from', step.key_from, 'key_to', step.key_to,
        'source', archive_partition.source, 'rows', archive_partition.archived_rows, 'amount', archive_partition.amount,
        'checksum', archive_partition.checksum));
    PERFORM arx.partition_step(queries.parent, 'archive', step.name, step.partition_oid, step.key_from, step.key_to, NULL);
    PERFORM arx.note_partition_event(queries.parent, 'archive', step.partition, step.partition_oid, step.bounds, step.key_from,
                                     step.key_to, step.reason, 'done', NULL, NULL, archive_partition.archived_rows, began);
END;
$$;
