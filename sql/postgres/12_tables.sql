-- Functions behind the triggers of tables/.

-- Restoring a dump into tables that create_tables() has made brings the rows that ARX ships once
-- more. The row that exists takes over the values of the restored one, because users may have
-- changed it; it stays where it is, because others may refer to it. A risk model never changes.
CREATE FUNCTION replace_builtin_row() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    is_present boolean;
    columns    text;
BEGIN
    EXECUTE format('SELECT EXISTS (SELECT FROM %s AS t WHERE t.%I = ($1).%2$I AND t.builtin)', TG_RELID::regclass,
                   TG_ARGV[0])
       INTO is_present USING NEW;
    IF NOT is_present THEN
        RETURN NEW;
    END IF;
    IF TG_TABLE_NAME NOT IN ('risk_models', 'risk_model_activations') THEN
        SELECT string_agg(format('%I = ($1).%1$I', a.attname), ', ') INTO columns
          FROM pg_attribute AS a
         WHERE a.attrelid = TG_RELID AND a.attnum > 0 AND NOT a.attisdropped
           AND a.attgenerated = '' AND a.attidentity <> 'a' AND a.attname <> TG_ARGV[0];
        EXECUTE format('UPDATE %s AS t SET %s WHERE t.%I = ($1).%3$I AND t.builtin', TG_RELID::regclass, columns,
                       TG_ARGV[0]) USING NEW;
    END IF;
    RETURN NULL;
END;
$$;
